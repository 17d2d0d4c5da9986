/* Cuts at random points of random work: a state built from them is the state that was cut. */
#include "checkpoint_lab.h"

/* --- equal in everything that anybody can see ----------------------------------------- */

static void same_leases(const struct lease_table *a, const struct lease_table *b)
{
    uint64_t ids_a[256], ids_b[256];
    size_t count = lease_list_after(a, 0, ids_a, 256);
    assert_int_equal(lease_list_after(b, 0, ids_b, 256), count);
    assert_memory_equal(ids_a, ids_b, count * sizeof ids_a[0]);
    for (size_t i = 0; i < count; i++) {
        const struct lease *la = lease_find(a, ids_a[i]), *lb = lease_find(b, ids_a[i]);
        assert_int_equal(la->ttl_ms, lb->ttl_ms);
        assert_int_equal(la->deadline_ms, lb->deadline_ms);
        assert_int_equal(la->key_count, lb->key_count);
    }
    assert_int_equal(lease_counter(a), lease_counter(b));
    assert_int_equal(life_count(a), life_count(b));
    assert_int_equal(lease_table_hash(a), lease_table_hash(b));
    lease_table_check(a);
    lease_table_check(b);
}

static void same_keys(const struct state *a, const struct state *b)
{
    struct view va = { a, NULL }, vb = { b, NULL };
    struct view_iter ia, ib;
    struct kv ka, kb;
    view_iter_init(&ia, &va, SLICE_NONE, SLICE_NONE, false);
    view_iter_init(&ib, &vb, SLICE_NONE, SLICE_NONE, false);
    while (view_iter_next(&ia, &ka)) {
        assert_true(view_iter_next(&ib, &kb));
        assert_true(slice_eq(ka.key, kb.key) && slice_eq(ka.value, kb.value));
        assert_true(ka.create == kb.create && ka.mod == kb.mod && ka.version == kb.version);
        assert_int_equal(ka.lease_id, kb.lease_id);
        assert_int_equal(ka.deadline_ms, kb.deadline_ms);
        assert_int_equal(ka.unix_ms, kb.unix_ms);
        assert_int_equal(ka.life_index, kb.life_index);
    }
    assert_false(view_iter_next(&ib, &kb));
}

static void same_bytes(void (*encode)(const struct state *s, struct buf *out),
                       const struct state *a, const struct state *b)
{
    struct buf ba = { 0 }, bb = { 0 };
    encode(a, &ba);
    encode(b, &bb);
    assert_true(slice_eq(buf_slice(&ba), buf_slice(&bb)));
    buf_deinit(&ba);
    buf_deinit(&bb);
}
static void dedup_of(const struct state *s, struct buf *out) { dedup_encode(&s->dedup, out); }
static void retention_of(const struct state *s, struct buf *out)
{
    retention_encode(&s->retention, out);
}

static void same_state(const struct state *a, const struct state *b)
{
    assert_int_equal(state_hash(a), state_hash(b));
    assert_int_equal(state_applied_index(a), state_applied_index(b));
    assert_int_equal(state_applied_term(a), state_applied_term(b));
    assert_int_equal(state_stamp_ms(a), state_stamp_ms(b));
    assert_int_equal(state_wall_ms(a), state_wall_ms(b));
    assert_int_equal(mvcc_rev(a->mvcc), mvcc_rev(b->mvcc));
    assert_int_equal(mvcc_compacted(a->mvcc), mvcc_compacted(b->mvcc));
    assert_memory_equal(&a->settings, &b->settings, sizeof a->settings);
    assert_int_equal(a->alarm_count, b->alarm_count);
    for (size_t i = 0; i < a->alarm_count; i++) {
        assert_int_equal(a->alarms[i].kind, b->alarms[i].kind);
        assert_int_equal(a->alarms[i].member, b->alarms[i].member);
    }
    same_leases(a->leases, b->leases);
    same_keys(a, b);
    same_bytes(dedup_of, a, b);
    same_bytes(retention_of, a, b);
}

/* Nothing waits to be written in a state that was just cut or loaded: also, no cut had left a
 * record of a lifetime that no key has. */
static void nothing_changed(const struct state *s)
{
    const struct lease *l;
    const struct life *life;
    uint64_t id;
    struct slice key;
    size_t offset = 0;
    assert_false(lease_changed_at(s->leases, 0, &l));
    assert_false(life_changed_at(s->leases, 0, &life));
    assert_false(lease_removed_at(s->leases, 0, &id));
    assert_false(life_gone_next(s->leases, &offset, &key));
}

/* --- the rounds ----------------------------------------------------------------------- */

static void note_dead(void *ctx, uint64_t rev, struct slice key)
{
    assert_true(rev > 0 && key.len > 0);
    ++*(size_t *)ctx;
}

/* One state works on; at every cut another is built from the store, compared, and sometimes takes
 * the first one's place, so that its own next cut is on trial too. */
static void run_seed(uint64_t seed, size_t batches, size_t *dead_count, size_t *lives_count)
{
    struct lab l = { .random = seed << 40, .incarnation = 1 };
    struct lab_store store = { 0 };
    struct state *s = state_new(seed);
    struct checkpoint_dead dead = { note_dead, dead_count };
    for (size_t i = 0; i < batches; i++) {
        struct slice batch = lab_batch(&l, s);
        lab_apply(s, l.index, batch);
        if (lab_below(&l, 5) == 0) state_compact_step(s, lab_below(&l, 10));
        if (lab_below(&l, 15) != 0) continue;

        lab_cut(&store, s);
        nothing_changed(s);
        enum err err;
        struct errmsg em = { "" };
        struct state *back = lab_load(&store, u64_mix(seed + i), &dead, &err, &em);
        if (back == NULL) fail_msg("seed %llu batch %zu: %s", (unsigned long long)seed, i, em.text);
        same_state(s, back);
        nothing_changed(back);
        mvcc_check(back->mvcc);
        *lives_count += life_count(back->leases);
        struct state *drop = lab_below(&l, 3) == 0 ? s : back;
        s = drop == s ? back : s;
        state_free(drop);
    }
    state_free(s);
    lab_store_deinit(&store);
    lab_deinit(&l);
}

static void test_cut_and_load_at_random_points(void **state)
{
    (void)state;
    size_t dead_count = 0, lives_count = 0;
    for (uint64_t seed = 1; seed <= 25; seed++) run_seed(seed, 400, &dead_count, &lives_count);
    assert_true(dead_count > 1000); /* the work was worth the trial */
    assert_true(lives_count > 1000);
}

/* Cuts are not part of the state: with many and with none, the same hash after each entry. */
static void test_cuts_leave_no_trace(void **state)
{
    (void)state;
    struct lab l = { .random = 99, .incarnation = 1 };
    struct lab_store store = { 0 };
    struct state *plain = state_new(1), *cut = state_new(2);
    for (size_t i = 0; i < 500; i++) {
        struct slice batch = lab_batch(&l, plain);
        lab_apply(plain, l.index, batch);
        lab_apply(cut, l.index, batch);
        assert_int_equal(state_hash(plain), state_hash(cut));
        if (i % 3 == 0) lab_cut(&store, cut);
    }
    same_state(plain, cut);
    state_free(plain);
    state_free(cut);
    lab_store_deinit(&store);
    lab_deinit(&l);
}

/* --- what exactly is written ---------------------------------------------------------- */

static size_t metas_with(const struct checkpoint *c, char letter, bool is_put)
{
    struct checkpoint_meta m;
    size_t count = 0;
    for (size_t offset = 0; checkpoint_next_meta(c, &offset, &m);) {
        count += m.name.at[0] == (uint8_t)letter && m.is_put == is_put;
    }
    return count;
}

/* Applies one operation as a batch of its own. */
static void apply_one(struct state *s, uint64_t index, const struct op *o)
{
    struct buf batch = { 0 };
    op_batch_begin(&batch);
    size_t at = batch.len;
    op_encode(&batch, o, false);
    struct op_batch_head head = { .format = OP_BATCH_FORMAT, .feature_level = OP_FEATURE_LEVEL,
                                  .stamp_ms = 1000 * index, .wall_ms = 1700000000000,
                                  .op_count = 1, .run_count = 1 };
    struct op_run run = { .member = 1, .incarnation = 1, .first_seq = index, .op_count = 1,
                          .ops = { batch.at + at, batch.len - at } };
    op_batch_seal(&batch, &head, &run);
    lab_apply(s, index, buf_slice(&batch));
    buf_deinit(&batch);
}

static const struct {
    const char *label;
    struct op op;
    size_t leases, lives, gone_leases, gone_lives, packs;
} cuts[] = {
    { "a lease",
      { .kind = OP_LEASE_GRANT, .fields = FIELD_NUMBER, .number = 60000 }, 1, 0, 0, 0, 0 },
    { "a put with a TTL: its row says all",
      { .kind = OP_PUT, .fields = FIELD_KEY | FIELD_VALUE | FIELD_LIFE, .key = SLICE_LIT("k"),
        .value = SLICE_LIT("v"), .life = LIFE_TTL, .life_ms = 5000 }, 0, 0, 0, 0, 1 },
    { "a later change of the lifetime",
      { .kind = OP_LIFE, .fields = FIELD_KEY | FIELD_LIFE, .key = SLICE_LIT("k"),
        .life = LIFE_LEASE, .lease_id = 1 }, 0, 1, 0, 0, 0 },
    { "nothing", { .kind = OP_NOOP }, 0, 0, 0, 0, 0 },
    { "a put that keeps it: the row says it now",
      { .kind = OP_PUT, .fields = FIELD_KEY | FIELD_VALUE | FIELD_LIFE, .key = SLICE_LIT("k"),
        .value = SLICE_LIT("w"), .life = LIFE_KEEP }, 0, 0, 0, 1, 1 },
    { "persist",
      { .kind = OP_LIFE, .fields = FIELD_KEY | FIELD_LIFE, .key = SLICE_LIT("k"),
        .life = LIFE_DROP }, 0, 1, 0, 0, 0 },
    { "a plain put ends it",
      { .kind = OP_PUT, .fields = FIELD_KEY | FIELD_VALUE, .key = SLICE_LIT("k"),
        .value = SLICE_LIT("x") }, 0, 0, 0, 1, 1 },
    { "revoke", { .kind = OP_LEASE_REVOKE, .fields = FIELD_ID, .id = 1 }, 0, 0, 1, 0, 0 },
};

static void test_only_what_changed_is_written(void **state)
{
    (void)state;
    struct state *s = state_new(1);
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct checkpoint c;
        apply_one(s, i + 1, &cuts[i].op);
        checkpoint_cut(s, &c);
        bool fits = metas_with(&c, 'L', true) == cuts[i].leases &&
                    metas_with(&c, 'T', true) == cuts[i].lives &&
                    metas_with(&c, 'L', false) == cuts[i].gone_leases &&
                    metas_with(&c, 'T', false) == cuts[i].gone_lives &&
                    c.pack_count == cuts[i].packs && metas_with(&c, 'S', true) == 1;
        if (!fits) fail_msg("%s", cuts[i].label);
        assert_int_equal(c.applied_index, i + 1);
        assert_int_equal(c.hash, state_hash(s));
        checkpoint_deinit(&c);
        checkpoint_deinit(&c); /* does nothing */
    }
    state_free(s);
}

static void test_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t want_name[] = { 'L', 0, 0, 0, 0, 0, 0, 0, 1 };
    static const uint8_t want_body[] = { 1, 0xe0, 0xd4, 3, 0xc8, 0xdc, 3 };
    struct state *s = state_new(1);
    struct checkpoint c;
    struct checkpoint_meta m;
    size_t offset = 0;
    apply_one(s, 1, &cuts[0].op);
    checkpoint_cut(s, &c);
    assert_true(checkpoint_next_meta(&c, &offset, &m));
    assert_true(m.is_put);
    assert_int_equal(m.name.len, sizeof want_name);
    assert_memory_equal(m.name.at, want_name, sizeof want_name);
    assert_int_equal(m.value.len, sizeof want_body + 4);
    assert_memory_equal(m.value.at, want_body, sizeof want_body);
    uint32_t crc = crc32c(crc32c(0, want_name, sizeof want_name), want_body, sizeof want_body);
    assert_int_equal(u32_le(m.value.at + sizeof want_body), crc);

    assert_true(checkpoint_next_meta(&c, &offset, &m));
    assert_true(slice_eq(m.name, SLICE_LIT("S")));
    assert_int_equal(m.value.at[0], CHECKPOINT_FORMAT);
    assert_int_equal(u64_le(m.value.at + 1), 1);     /* applied index */
    assert_int_equal(u64_le(m.value.at + 9), 1);     /* term */
    assert_int_equal(u64_le(m.value.at + 17), 1000); /* stamp */
    assert_int_equal(u64_le(m.value.at + 25), 1700000000000);
    assert_int_equal(u64_le(m.value.at + 33), mvcc_rev(s->mvcc));
    assert_int_equal(u64_le(m.value.at + 57), state_hash(s));
    assert_int_equal(u64_le(m.value.at + 65), 2);    /* next lease id */
    assert_int_equal(u64_le(m.value.at + 73), 1);    /* leases */
    assert_false(checkpoint_next_meta(&c, &offset, &m));
    checkpoint_deinit(&c);
    state_free(s);
}

static void test_owned_names(void **state)
{
    (void)state;
    assert_true(checkpoint_owns_name(SLICE_LIT("S")));
    assert_true(checkpoint_owns_name(SLICE_LIT("Tkey")));
    assert_true(checkpoint_owns_name(SLICE_LIT("L12345678")));
    assert_false(checkpoint_owns_name(SLICE_LIT("M")));
    assert_false(checkpoint_owns_name(SLICE_LIT("r12345678")));
    assert_false(checkpoint_owns_name(SLICE_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_and_load_at_random_points),
        cmocka_unit_test(test_cuts_leave_no_trace),
        cmocka_unit_test(test_only_what_changed_is_written),
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_owned_names),
    };
    return cmocka_run_group_tests_name("state/checkpoint", tests, NULL, NULL);
}
