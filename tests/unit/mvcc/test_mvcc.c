/* The key space against the naive model; what mvcc_put and mvcc_delete promise, one by one. */
#include "mvcc/mvcc.h"

#include "mvcc_model.h"

static struct mvcc_event put(struct mvcc *m, const char *key, const char *value, uint64_t rev)
{
    struct mvcc_event ev;
    struct mvcc_write w = { .key = slice_of(key), .value = slice_of(value), .rev = rev, .n = 1 };
    mvcc_put(m, &w, NULL, &ev);
    return ev;
}

static void test_empty_store(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    assert_int_equal(mvcc_rev(m), 1);
    assert_int_equal(mvcc_compacted(m), 0);
    assert_int_equal(mvcc_hash(m), 0);
    assert_int_equal(mvcc_count(m, SLICE_NONE, SLICE_NONE), 0);
    assert_null(mvcc_nth(m, SLICE_NONE, SLICE_NONE, 0));
    assert_null(mvcc_find(m, SLICE_LIT("a")));
    struct mvcc_iter it;
    mvcc_iter_init(&it, m, SLICE_NONE, SLICE_NONE, true, true);
    assert_null(mvcc_iter_next(&it));
    mvcc_set_rev(m, 9);
    assert_int_equal(mvcc_rev(m), 9);
    assert_int_equal(mvcc_packs_first_rev(m), 10);
    mvcc_check(m);
    mvcc_free(m);
    mvcc_free(NULL);
}

static void test_put_gives_etcd_numbers(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_event ev = put(m, "k", "one", 2);
    assert_int_equal(ev.op, ROW_PUT);
    assert_true(ev.rev == 2 && ev.n == 1 && ev.create == 2 && ev.version == 1);
    assert_true(ev.prev_mod == 0 && ev.prev_create == 0 && ev.prev_version == 0);
    ev = put(m, "k", "two", 5);
    assert_true(ev.create == 2 && ev.version == 2 && ev.prev_mod == 2 && ev.prev_version == 1);
    assert_null(ev.prev_value.at);
    assert_true(slice_eq(ev.value, SLICE_LIT("two")));

    mvcc_delete(m, SLICE_LIT("k"), 6, 1, ROW_DEL, NULL, &ev);
    assert_true(ev.create == 0 && ev.version == 0 && ev.prev_mod == 5 && ev.prev_version == 2);
    assert_true(slice_eq(ev.key, SLICE_LIT("k")));
    assert_null(ev.value.at);
    assert_null(mvcc_find(m, SLICE_LIT("k")));
    assert_int_equal(mvcc_ghost_count(m), 1);

    ev = put(m, "k", "three", 7); /* a new life, but its history goes on */
    assert_true(ev.create == 7 && ev.version == 1 && ev.prev_mod == 0);
    assert_int_equal(mvcc_ghost_count(m), 0);
    mvcc_check(m);
    mvcc_free(m);
}

/* I4: every 128th row of a key is a milestone that the rows up to the next one point to. */
static void test_jump_points_to_the_newest_milestone(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    for (uint64_t rev = 2; rev <= 300; rev++) {
        put(m, "k", "v", rev);
        const struct entry *e = mvcc_find(m, SLICE_LIT("k"));
        assert_int_equal(e->chain, (rev - 2) % MVCC_JUMP_STRIDE);
        assert_int_equal(e->jump, rev - e->chain);
    }
    mvcc_packs_seal(m);
    struct mvcc_pack pack;
    assert_true(mvcc_packs_at(m, 0, &pack));
    size_t offset = 0;
    assert_int_equal(pack_begin(blob_slice(pack.body), &offset), OK);
    for (uint64_t rev = 2; rev <= 300; rev++) {
        struct row r;
        assert_int_equal(row_decode(blob_slice(pack.body), &offset, pack.first_rev, &r), OK);
        assert_int_equal(r.prev, rev == 2 ? 0 : rev - 1);
        uint64_t milestone = 2 + (rev - 3) / MVCC_JUMP_STRIDE * MVCC_JUMP_STRIDE;
        assert_int_equal(r.jump, rev == 2 ? 0 : milestone);
    }
    mvcc_free(m);
}

static void test_recreate_is_one_event_of_a_new_key(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    put(m, "k", "one", 2);
    struct mvcc_event ev;
    struct mvcc_write w = { .key = SLICE_LIT("k"), .rev = 3, .n = 1, .recreate = true };
    mvcc_put(m, &w, NULL, &ev);
    assert_true(ev.create == 3 && ev.version == 1 && ev.prev_mod == 2 && ev.prev_version == 1);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_taken_entry_stays_readable(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    put(m, "k", "one", 2);
    const struct entry *before = mvcc_find(m, SLICE_LIT("k"));
    struct entry *taken = NULL;
    struct mvcc_event ev;
    /* The new value may be the old one: it is not overwritten. */
    struct mvcc_write w = { .key = entry_key(before), .value = entry_value(before), .rev = 3,
                            .n = 1 };
    mvcc_put(m, &w, &taken, &ev);
    assert_ptr_equal(taken, before);
    assert_true(slice_eq(ev.prev_value, SLICE_LIT("one")));
    assert_true(slice_eq(entry_value(mvcc_find(m, SLICE_LIT("k"))), SLICE_LIT("one")));
    mvcc_check(m);
    mvcc_entry_free(taken);

    mvcc_delete(m, SLICE_LIT("k"), 4, 1, ROW_EXPIRE, &taken, &ev);
    assert_true(slice_eq(entry_value(taken), SLICE_LIT("one")));
    assert_true(slice_eq(ev.prev_value, SLICE_LIT("one")));
    mvcc_entry_free(taken);

    w = (struct mvcc_write){ .key = SLICE_LIT("k"), .value = SLICE_LIT("x"), .rev = 5, .n = 1 };
    mvcc_put(m, &w, &taken, &ev);
    assert_null(taken); /* a ghost is nobody's former value */
    assert_null(ev.prev_value.at);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_overwrite_of_same_size_stays_in_place(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    put(m, "k", "one", 2);
    const struct entry *before = mvcc_find(m, SLICE_LIT("k"));
    put(m, "k", "two", 3);
    assert_ptr_equal(mvcc_find(m, SLICE_LIT("k")), before);
    char big[4000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    put(m, "k", big, 4);
    put(m, "k", "small", 5); /* not in 4000 bytes */
    assert_true(mem_usable(mvcc_find(m, SLICE_LIT("k"))) < 200);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_life_follows_its_entry(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct life a = { .lease_id = 7 };
    struct life b = { .deadline_ms = 500 };
    put(m, "k", "value", 2);
    mvcc_set_life(m, SLICE_LIT("k"), &a);
    assert_ptr_equal(a.entry, mvcc_find(m, SLICE_LIT("k")));
    assert_ptr_equal(entry_life(a.entry), &a);
    assert_true(slice_eq(entry_value(a.entry), SLICE_LIT("value")));
    assert_int_equal(mvcc_rev(m), 2);
    mvcc_check(m);

    char big[999];
    memset(big, 'y', sizeof big);
    struct mvcc_event ev;
    struct mvcc_write w = { .key = SLICE_LIT("k"), .value = { (uint8_t *)big, sizeof big },
                            .rev = 3, .n = 1, .life = &a };
    mvcc_put(m, &w, NULL, &ev); /* moves and keeps it */
    assert_ptr_equal(a.entry, mvcc_find(m, SLICE_LIT("k")));
    assert_int_equal(ev.lease, 7);

    w.rev = 4;
    w.life = &b;
    mvcc_put(m, &w, NULL, &ev); /* another one */
    assert_null(a.entry);
    assert_ptr_equal(b.entry, mvcc_find(m, SLICE_LIT("k")));
    assert_int_equal(ev.lease, 0);

    mvcc_set_life(m, SLICE_LIT("k"), NULL);
    assert_null(b.entry);
    assert_null(entry_life(mvcc_find(m, SLICE_LIT("k"))));
    mvcc_set_life(m, SLICE_LIT("k"), &a);
    mvcc_check(m);
    mvcc_delete(m, SLICE_LIT("k"), 5, 1, ROW_EXPIRE, NULL, &ev);
    assert_null(a.entry);
    assert_int_equal(ev.lease, 7);
    assert_int_equal(ev.op, ROW_EXPIRE);
    mvcc_check(m);
    mvcc_free(m);
}

/* Two replicas that differ in history and memory, but not in what is alive, have one hash. */
static void test_hash_is_of_live_versions_only(void **state)
{
    (void)state;
    struct mvcc *a = mvcc_new(1);
    struct mvcc *b = mvcc_new(2);
    struct mvcc_event ev;
    put(a, "x", "1", 2);
    put(b, "x", "1", 2);
    put(a, "y", "2", 3);
    assert_true(mvcc_hash(a) != mvcc_hash(b));
    put(b, "y", "2", 3);
    assert_true(mvcc_hash(a) == mvcc_hash(b));
    put(a, "z", "3", 4);
    mvcc_delete(a, SLICE_LIT("z"), 5, 1, ROW_DEL, NULL, &ev);
    assert_true(mvcc_hash(a) == mvcc_hash(b));
    put(a, "y", "2", 6); /* the same value at another revision is another version */
    assert_true(mvcc_hash(a) != mvcc_hash(b));
    mvcc_free(a);
    mvcc_free(b);
}

/* --- the random test ------------------------------------------------------------------------ */

struct world {
    struct model model;
    struct mvcc *m;
    uint64_t seed;
    uint8_t *bytes; /* random ones, to take values from */
    struct life *gone[16]; /* lifes that were replaced in this revision */
    size_t gone_count;
};

#define VALUE_BYTES_MAX (1u << 20)

static struct slice random_value(struct world *w)
{
    static const size_t sizes[] = { 0, 0, 1, 3, 8, 20, 100, 256, 256, 257, 300, 600, 5000, 20000 };
    uint64_t r = model_random(&w->seed);
    size_t len = sizes[r % ARRAY_LEN(sizes)];
    if (r >> 32 & 15) len += r >> 40 & 7;
    if ((r >> 48) % 2000 == 0) len = VALUE_BYTES_MAX;
    return (struct slice){ w->bytes + (r >> 20) % 1000, len };
}

static struct life *random_life(struct world *w, struct model_key *k)
{
    uint64_t r = model_random(&w->seed);
    if (r % 4 < 2) return r % 4 == 0 ? k->life : NULL;
    if (r % 4 == 2) return NULL;
    struct life *life = mem_zalloc(sizeof *life);
    life->life_index = r >> 8 & 0xffff;
    if (r >> 4 & 1) life->lease_id = 1 + (r >> 32);
    else life->deadline_ms = (int64_t)(r >> 40), life->unix_ms = -(int64_t)(r >> 60);
    return life;
}

static void life_replaced(struct model_key *k, struct life *now)
{
    if (k->life != NULL && k->life != now) {
        assert_null(k->life->entry);
        mem_free(k->life);
    }
    k->life = now;
}

static void assert_event(const struct mvcc_event *ev, const struct row *r, const struct row *before,
                         const struct entry *taken)
{
    assert_int_equal(ev->op, r->op);
    assert_int_equal(ev->type, r->type);
    assert_true(ev->rev == r->rev && ev->n == r->n && ev->lease == r->lease);
    assert_true(ev->create == r->create && ev->version == r->version);
    assert_true(slice_eq(ev->key, r->key));
    assert_true(slice_eq(ev->value, r->value));
    assert_true(ev->prev_mod == (before != NULL ? before->rev : 0));
    assert_true(ev->prev_create == (before != NULL ? before->create : 0));
    assert_true(ev->prev_version == (before != NULL ? before->version : 0));
    assert_int_equal(ev->prev_value.at != NULL, taken != NULL);
    if (taken != NULL) assert_true(slice_eq(ev->prev_value, before->value));
}

static void change(struct world *w, size_t key, uint64_t rev, uint32_t n)
{
    struct model_key *k = &w->model.keys[key];
    uint64_t r = model_random(&w->seed);
    bool take = r % 3 == 0;
    struct entry *taken = NULL;
    struct mvcc_event ev;
    struct row before = { 0 };
    bool live = model_live(&w->model, key) != NULL;
    if (live) before = *model_live(&w->model, key);
    const struct row *want = NULL;
    if (live && r >> 8 & 1) {
        enum row_op op = r >> 9 & 1 ? ROW_DEL : ROW_EXPIRE;
        struct slice name = r >> 10 & 1 ? k->key : entry_key(mvcc_find(w->m, k->key));
        mvcc_delete(w->m, name, rev, n, op, take ? &taken : NULL, &ev);
        want = model_append(&w->model, key, op, VALUE_STRING, SLICE_NONE, rev, n, k->life,
                            false);
        life_replaced(k, NULL);
    } else {
        struct life *life = random_life(w, k);
        struct mvcc_write write = { .key = k->key, .value = random_value(w), .rev = rev, .n = n,
                                    .type = (enum value_type)(r >> 12 & 1), .life = life,
                                    .recreate = (r >> 16) % 8 == 0 };
        mvcc_put(w->m, &write, take ? &taken : NULL, &ev);
        want = model_append(&w->model, key, ROW_PUT, write.type, write.value, rev, n, life,
                            write.recreate);
        life_replaced(k, life);
        const struct entry *e = mvcc_find(w->m, k->key);
        assert_entry_is(e, want);
        assert_ptr_equal(entry_life(e), life);
    }
    assert_int_equal(taken != NULL, take && live);
    assert_event(&ev, want, live ? &before : NULL, taken);
    mvcc_entry_free(taken);
}

static void change_some(struct world *w)
{
    uint64_t rev = w->model.rev + 1;
    size_t first = (size_t)(model_random(&w->seed) % w->model.key_count);
    size_t step = 1 + (size_t)(model_random(&w->seed) % 7);
    uint32_t count = 1 + (uint32_t)(model_random(&w->seed) % 4);
    if (model_random(&w->seed) % 4 != 0) first %= 6; /* a few keys get long histories */
    for (uint32_t n = 1; n <= count && first + n * step < w->model.key_count; n++) {
        change(w, first + n * step, rev, n);
    }
    assert_true(mvcc_rev(w->m) == w->model.rev);
}

static struct slice random_bound(struct world *w)
{
    uint64_t r = model_random(&w->seed);
    if (r % 5 == 0) return SLICE_NONE;
    struct slice key = w->model.keys[r / 8 % w->model.key_count].key;
    if (r % 5 == 1 && key.len > 1) key.len = 1 + (size_t)(r >> 40) % (key.len - 1);
    return key;
}

static void change_other(struct world *w)
{
    uint64_t r = model_random(&w->seed);
    struct model_key *k = &w->model.keys[r / 64 % w->model.key_count];
    if (r % 8 == 0 && w->model.rev > w->model.compacted + 50) {
        w->model.compacted += 1 + (r >> 40) % (w->model.rev - w->model.compacted - 1);
        mvcc_compact(w->m, w->model.compacted);
    }
    if (r % 8 == 1) (void)mvcc_compact_step(w->m, (size_t)(r >> 40) % 20);
    if (r % 8 == 2) mvcc_packs_seal(w->m);
    if (r % 8 == 3) model_take_packs(&w->model, w->m);
    if (r % 8 == 4) mvcc_packs_stored(w->m, (r >> 30) % (w->model.rev + 1));
    if (r % 8 == 5 && mvcc_find(w->m, k->key) != NULL) {
        struct life *life = random_life(w, k);
        mvcc_set_life(w->m, k->key, life);
        life_replaced(k, life);
        assert_ptr_equal(entry_life(mvcc_find(w->m, k->key)), life);
    }
}

/* Rows of memory begin at mvcc_packs_first_rev and end with the newest. */
static void compare_packs(const struct world *w)
{
    uint64_t first_rev = mvcc_packs_first_rev(w->m);
    size_t at = 0;
    while (at < w->model.row_count && w->model.rows[at].row.rev < first_rev) at++;
    struct mvcc_pack pack;
    for (size_t i = mvcc_packs_find(w->m, first_rev); mvcc_packs_at(w->m, i, &pack); i++) {
        size_t offset = 0;
        assert_int_equal(pack_begin(blob_slice(pack.body), &offset), OK);
        while (offset < pack.body->len) {
            struct row got;
            enum err e = row_decode(blob_slice(pack.body), &offset, pack.first_rev, &got);
            assert_int_equal(e, OK);
            if (got.rev < first_rev) continue;
            assert_true(at < w->model.row_count);
            assert_rows_equal(&got, &w->model.rows[at++].row);
        }
    }
    assert_int_equal(at, w->model.row_count);
}

/* Another key space from the rows alone is the same one; what the load calls dead is dead. */
static void compare_reload(struct world *w, bool without_dead)
{
    const struct model *model = &w->model;
    struct mvcc *again = mvcc_new(model_random(&w->seed));
    uint8_t *dead_seen = mem_zalloc(model->row_count + 1);
    mvcc_load_begin(again, model->compacted, model->key_count);
    for (size_t i = 0; i < model->row_count; i++) {
        if (without_dead && model_is_dead(model, i)) continue;
        struct mvcc_dead dead;
        assert_int_equal(mvcc_load_row(again, &model->rows[i].row, &dead), OK);
        for (size_t d = 0; d < dead.count; d++) {
            const struct model_key *k = &model->keys[model->rows[i].key];
            assert_true(slice_eq(dead.key[d], k->key));
            for (size_t j = 0; j < k->row_count; j++) {
                if (model->rows[k->rows[j]].row.rev == dead.rev[d]) dead_seen[k->rows[j]]++;
            }
        }
    }
    mvcc_load_end(again, model->rev);
    mvcc_check(again);
    for (size_t i = 0; i < model->row_count; i++) {
        assert_int_equal(dead_seen[i], !without_dead && model_is_dead(model, i));
    }
    while (mvcc_compact_step(w->m, 10)) {}
    assert_true(mvcc_hash(again) == mvcc_hash(w->m));
    assert_true(mvcc_live_bytes(again) == mvcc_live_bytes(w->m));
    assert_int_equal(mvcc_live_count(again), mvcc_live_count(w->m));
    assert_int_equal(mvcc_ghost_count(again), mvcc_ghost_count(w->m));
    model_compare_range(model, again, SLICE_NONE, SLICE_NONE, true);
    assert_int_equal(mvcc_packs_first_rev(again), model->rev + 1);
    mem_free(dead_seen);
    mvcc_free(again);
}

static void run(uint64_t seed, size_t key_count, size_t rounds)
{
    struct world w = { .seed = seed };
    w.m = mvcc_new(seed);
    w.bytes = mem_alloc(VALUE_BYTES_MAX + 2000);
    for (size_t i = 0; i < VALUE_BYTES_MAX + 2000; i++) w.bytes[i] = (uint8_t)model_random(&w.seed);
    model_init(&w.model, key_count, &w.seed);
    for (size_t i = 0; i < rounds; i++) {
        change_some(&w);
        change_other(&w);
        if (i % 16 == 0) {
            struct slice start = random_bound(&w);
            model_compare_range(&w.model, w.m, start, random_bound(&w), i % 32 == 0);
        }
        if (i % 256 == 0) mvcc_check(w.m);
        if (i % 512 == 0) compare_packs(&w);
        if (i % 1024 == 1023) compare_reload(&w, i % 2048 == 1023);
    }
    compare_packs(&w);
    mvcc_packs_seal(w.m);
    model_take_packs(&w.model, w.m);
    assert_int_equal(w.model.rows_seen, w.model.row_count);
    compare_reload(&w, false);
    compare_reload(&w, true);
    model_compare_range(&w.model, w.m, SLICE_NONE, SLICE_NONE, true);
    mvcc_check(w.m);
    mvcc_free(w.m);
    model_deinit(&w.model);
    mem_free(w.bytes);
}

static void test_random_changes_match_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) run(seed, seed % 2 != 0 ? 60 : 400, 4100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_store),
        cmocka_unit_test(test_put_gives_etcd_numbers),
        cmocka_unit_test(test_jump_points_to_the_newest_milestone),
        cmocka_unit_test(test_recreate_is_one_event_of_a_new_key),
        cmocka_unit_test(test_taken_entry_stays_readable),
        cmocka_unit_test(test_overwrite_of_same_size_stays_in_place),
        cmocka_unit_test(test_life_follows_its_entry),
        cmocka_unit_test(test_hash_is_of_live_versions_only),
        cmocka_unit_test(test_random_changes_match_the_model),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc", tests, NULL, NULL);
}
