/* The pack table over packs in memory: finding, killing each row once, queueing, replacing. */
#include "store_kit.h"

#include "disk/store_table.h"

struct packs {
    struct { uint64_t rev; uint32_t n; struct blob *blob; } at[512];
    size_t count;
    size_t reads;
};

static void add_pack(void *ctx, uint64_t rev, uint32_t n, struct blob *taken)
{
    struct packs *p = ctx;
    assert_true(p->count < ARRAY_LEN(p->at));
    p->at[p->count].rev = rev;
    p->at[p->count].n = n;
    p->at[p->count++].blob = taken;
}

static enum err read_pack(void *ctx, const struct store_slot *slot, struct buf *out)
{
    struct packs *p = ctx;
    p->reads++;
    for (size_t i = 0; i < p->count; i++) {
        if (p->at[i].rev != slot->first_rev || p->at[i].n != slot->first_n) continue;
        buf_clear(out);
        buf_append_slice(out, blob_slice(p->at[i].blob));
        return OK;
    }
    return ERR_CORRUPT;
}

struct fixture {
    struct kit_model m;
    struct packs packs;
    struct store_table t;
};

static void fixture_init(struct fixture *f, uint64_t seed, int changes, size_t value_max)
{
    memset(f, 0, sizeof *f);
    kit_model_init(&f->m, seed);
    f->m.value_max = value_max;
    for (int i = 0; i < changes; i++) kit_change(&f->m, i % 9 == 0 ? KIT_KEYS : 1);
    kit_pack_rows(&f->m, 0, f->m.row_count, add_pack, &f->packs);
    f->t.hash_seed = seed;
    f->t.read = read_pack;
    f->t.read_ctx = &f->packs;
    for (size_t i = 0; i < f->packs.count; i++) {
        store_table_append(&f->t, f->packs.at[i].rev, f->packs.at[i].n, f->packs.at[i].blob->len, 0);
    }
}

static void fixture_deinit(struct fixture *f)
{
    for (size_t i = 0; i < f->packs.count; i++) blob_unref(f->packs.at[i].blob);
    store_table_deinit(&f->t);
    kit_model_deinit(&f->m);
}

static void kill_row(struct fixture *f, size_t i, bool certain)
{
    const struct kit_row *r = &f->m.rows[i];
    char name[16];
    uint64_t hash = store_table_hash(&f->t, r->rev, kit_key_name(r->key, name));
    assert_int_equal(store_table_kill(&f->t, r->rev, hash, certain), OK);
}

static uint64_t bytes_of(const struct fixture *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->packs.count; i++) bytes += f->packs.at[i].blob->len;
    return bytes;
}

static void test_floor_finds_the_pack_of_every_row(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 400, KIT_VALUE_MAX);
    assert_int_equal(store_table_floor(&f.t, 0, 5), STORE_SLOT_NONE);
    size_t pack = 0;
    for (size_t i = 0; i < f.m.row_count; i++) {
        const struct kit_row *r = &f.m.rows[i];
        while (pack + 1 < f.packs.count && (f.packs.at[pack + 1].rev < r->rev ||
               (f.packs.at[pack + 1].rev == r->rev && f.packs.at[pack + 1].n <= r->n))) pack++;
        assert_int_equal(store_table_floor(&f.t, r->rev, r->n), pack);
    }
    assert_int_equal(store_table_floor(&f.t, UINT64_MAX, 0), f.packs.count - 1);
    fixture_deinit(&f);
}

/* Each row dies once, in a random order, whoever says it twice; in the end all packs are queued
 * once and all dead. */
static void test_every_row_dies_once(void **state)
{
    (void)state;
    static const size_t value_max[] = { KIT_VALUE_MAX, 0 };
    for (size_t c = 0; c < ARRAY_LEN(value_max); c++) {
        struct fixture f;
        fixture_init(&f, 2 + c, 400, value_max[c]);
        uint64_t seed = 9;
        size_t *order = mem_alloc(f.m.row_count * sizeof *order);
        for (size_t i = 0; i < f.m.row_count; i++) {
            size_t other = kit_random(&seed, i + 1);
            order[i] = order[other];
            order[other] = i;
        }
        for (size_t i = 0; i < f.m.row_count; i++) {
            uint64_t before = f.t.dead_bytes;
            kill_row(&f, order[i], i % 3 != 0);
            assert_true(f.t.dead_bytes > before);
            before = f.t.dead_bytes;
            kill_row(&f, order[i], false);
            assert_int_equal(f.t.dead_bytes, before);
        }
        assert_int_equal(f.t.dead_bytes, bytes_of(&f) - f.packs.count); /* but the format bytes */
        size_t queued = 0;
        for (size_t slot; (slot = store_table_queue_next(&f.t)) != STORE_SLOT_NONE; queued++) {
            assert_true(store_slot_all_dead(&f.t.slots[slot]));
            assert_null(f.t.slots[slot].marks);
            store_table_remove(&f.t, slot);
        }
        assert_int_equal(queued, f.packs.count);
        assert_int_equal(f.t.bytes, 0);
        assert_int_equal(f.t.dead_bytes, 0);
        mem_free(order);
        fixture_deinit(&f);
    }
}

static void mark_all(struct fixture *f)
{
    for (size_t i = 0; i < f->packs.count; i++) {
        size_t rows = f->t.slots[i].row_count;
        struct slice pack = blob_slice(f->packs.at[i].blob);
        size_t made = 0;
        assert_int_equal(store_table_marks(&f->t, i, pack, &made), OK);
        assert_int_equal(made, rows == 0 ? f->t.slots[i].row_count : 0);
        assert_int_equal(store_table_marks(&f->t, i, pack, &made), OK);
        assert_int_equal(made, 0);
    }
}

/* Marks of packs that were read anyway save a reading of each, and change nothing else. */
static void test_marks_made_ahead(void **state)
{
    (void)state;
    struct fixture f[2];
    for (int ahead = 0; ahead < 2; ahead++) {
        fixture_init(&f[ahead], 6, 300, KIT_VALUE_MAX);
        if (ahead) mark_all(&f[1]);
        assert_int_equal(f[ahead].packs.reads, 0);
        for (size_t i = 0; i < f[ahead].m.row_count; i += 2) kill_row(&f[ahead], i, true);
    }
    assert_true(f[0].packs.count > 20);
    for (size_t i = 0; i < f[0].packs.count; i++) {
        const struct store_slot *a = &f[0].t.slots[i];
        const struct store_slot *b = &f[1].t.slots[i];
        assert_int_equal(a->dead_bytes, b->dead_bytes);
        assert_int_equal(a->dead_count, b->dead_count);
        if (a->dead_count != 0) f[0].packs.reads--;
    }
    assert_int_equal(f[0].packs.reads, f[1].packs.reads);
    for (int ahead = 0; ahead < 2; ahead++) fixture_deinit(&f[ahead]);
}

static void test_marks_without_a_dead_row_go(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 7, 300, KIT_VALUE_MAX);
    mark_all(&f);
    kill_row(&f, f.m.row_count / 2, true);
    store_table_unmark(&f.t);
    size_t marked = 0;
    for (size_t i = 0; i < f.packs.count; i++) {
        const struct store_slot *slot = &f.t.slots[i];
        assert_true(slot->marks == NULL || slot->dead_count == 1);
        marked += slot->marks != NULL;
    }
    assert_int_equal(marked, 1);
    for (size_t i = 0; i < f.m.row_count; i++) kill_row(&f, i, i % 2 == 0);
    assert_int_equal(f.t.dead_bytes, bytes_of(&f) - f.packs.count);
    fixture_deinit(&f);
}

/* The first of three rows, one behind the other, whose revisions are in this pack only. */
static bool find_three(const struct fixture *f, size_t pack, size_t *row, size_t *mark)
{
    const struct store_slot *slot = &f->t.slots[pack];
    const struct kit_row *rows = f->m.rows;
    size_t first = 0;
    while (rows[first].rev != slot->first_rev || rows[first].n != slot->first_n) first++;
    for (size_t i = 1; i + 3 < slot->row_count; i++) {
        if (rows[first + i].rev == slot->first_rev) continue;
        *row = first + i;
        *mark = i;
        return rows[first + i + 2].rev < slot[1].first_rev;
    }
    return false;
}

/* Prints of 32 bits: if two rows of a pack have the same, the pack says which one is meant. */
static void test_equal_prints_are_told_apart(void **state)
{
    (void)state;
    for (size_t dies = 0; dies < 3; dies++) {
        struct fixture f;
        size_t at = 0;
        size_t row = 0;
        size_t mark = 0;
        fixture_init(&f, 8, 300, KIT_VALUE_MAX);
        mark_all(&f);
        while (at + 1 < f.packs.count && !find_three(&f, at, &row, &mark)) at++;
        assert_true(at + 1 < f.packs.count);
        struct store_slot *slot = &f.t.slots[at];
        for (size_t i = 0; i < 3; i++) slot->marks[mark + i].print = slot->marks[mark + dies].print;
        kill_row(&f, row + dies, true);
        assert_int_equal(slot->dead_count, 1);
        assert_true(slot->marks[mark + dies].bytes_dead & 1);
        kill_row(&f, row + dies, true); /* dead already: no other one dies for it */
        assert_int_equal(slot->dead_count, 1);
        assert_true(f.packs.reads > 0);
        fixture_deinit(&f);
    }
}

static void test_rows_that_are_not_there_do_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 4, 200, KIT_VALUE_MAX);
    char name[16];
    for (uint64_t rev = 0; rev < f.m.rev + 10; rev++) {
        uint64_t hash = store_table_hash(&f.t, rev, kit_key_name(KIT_KEYS + 3, name));
        assert_int_equal(store_table_kill(&f.t, rev, hash, false), OK);
    }
    /* An equal low half of the hash alone does not convince when the row may not exist. */
    const struct kit_row *r = &f.m.rows[f.m.row_count / 2];
    uint64_t hash = store_table_hash(&f.t, r->rev, kit_key_name(r->key, name));
    assert_int_equal(store_table_kill(&f.t, r->rev, hash ^ (1ULL << 40), false), OK);
    assert_int_equal(f.t.dead_bytes, 0);
    assert_true(store_table_queue_empty(&f.t));
    fixture_deinit(&f);

    struct store_table empty = { .read = read_pack };
    assert_int_equal(store_table_kill(&empty, 5, 7, true), OK);
    store_table_deinit(&empty);
}

static void test_a_damaged_pack_is_an_error(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 5, 50, KIT_VALUE_MAX);
    f.packs.at[0].blob->at[0] ^= 0xff;
    char name[16];
    uint64_t hash = store_table_hash(&f.t, f.m.rows[0].rev, kit_key_name(0, name));
    assert_int_equal(store_table_kill(&f.t, f.m.rows[0].rev, hash, true), ERR_CORRUPT);
    fixture_deinit(&f);
}

/* The last entry of a queue is often taken without asking for one more. What comes next is sorted
 * nevertheless: a pack may not go before an older one whose rows its own rows killed. */
static void test_a_queue_behind_another_is_sorted(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 6, 400, KIT_VALUE_MAX);
    size_t last = f.m.row_count - 1;
    kill_row(&f, last / 2, true);
    size_t slot = store_table_queue_next(&f.t);
    assert_true(slot != STORE_SLOT_NONE && slot != 0);
    store_table_remove(&f.t, slot);
    assert_true(store_table_queue_empty(&f.t));
    kill_row(&f, last, true);
    kill_row(&f, 0, true);
    assert_int_equal(store_table_queue_next(&f.t), 0);
    assert_true(store_table_queue_next(&f.t) != STORE_SLOT_NONE);
    assert_int_equal(store_table_queue_next(&f.t), STORE_SLOT_NONE);
    fixture_deinit(&f);
}

static void check_order(const struct store_table *t, uint64_t bytes)
{
    uint64_t total = 0;
    uint64_t sum = 0;
    size_t gone = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct store_slot *slot = &t->slots[i];
        if (i > 0) assert_true(t->slots[i - 1].first_rev <= slot->first_rev);
        gone += slot->gone;
        if (slot->gone) continue;
        total += slot->bytes;
        sum += store_pack_sum(slot->first_rev, slot->first_n, slot->bytes);
    }
    assert_int_equal(gone, t->gone_count);
    assert_int_equal(sum, t->sum);
    assert_int_equal(total, t->bytes);
    assert_int_equal(total, bytes);
}

/* Fewer, as many, and more packs than were there. */
static void test_replace_keeps_the_order(void **state)
{
    (void)state;
    for (size_t fresh_count = 1; fresh_count <= 6; fresh_count++) {
        struct store_table t = { 0 };
        struct store_slot fresh[6] = { { 0 } };
        for (uint64_t i = 0; i < 20; i++) store_table_append(&t, 10 + 10 * i, 1, 100, 0);
        for (size_t slot = 5; slot <= 8; slot++) store_table_remove(&t, slot); /* 60 ... 90 */
        for (size_t i = 0; i < fresh_count; i++) {
            fresh[i] = (struct store_slot){ .first_rev = 61 + 5 * i, .first_n = 2, .bytes = 7 };
        }
        store_table_replace(&t, 5, 8, fresh, fresh_count);
        check_order(&t, 1600 + 7 * fresh_count);
        for (size_t i = 0; i < fresh_count; i++) {
            size_t slot = store_table_floor(&t, 61 + 5 * i, 2);
            assert_int_equal(t.slots[slot].first_rev, 61 + 5 * i);
        }
        size_t last = store_table_floor(&t, 99, 1);
        assert_int_equal(t.slots[last].first_rev, 61 + 5 * (fresh_count - 1));
        size_t next = store_table_next(&t, last);
        assert_int_equal(t.slots[next].first_rev, 100);
        assert_int_equal(store_table_prev(&t, next), last);
        store_table_append(&t, 1000, 1, 1, 0);
        check_order(&t, 1601 + 7 * fresh_count);
        store_table_deinit(&t);
    }
}

/* What an earlier replacement left behind a run does not stand in the way when the run's last pack
 * begins later than it did. */
static void test_replace_moves_what_is_gone_behind_it(void **state)
{
    (void)state;
    struct store_table t = { 0 };
    struct store_slot fresh[2] = {
        { .first_rev = 10, .first_n = 1, .bytes = 7 },
        { .first_rev = 30, .first_n = 1, .bytes = 7 },
    };
    for (uint64_t i = 0; i < 6; i++) store_table_append(&t, 10 + 10 * i, 1, 100, 0); /* 10 ... 60 */
    for (size_t slot = 0; slot <= 4; slot++) store_table_remove(&t, slot);
    store_table_replace(&t, 0, 4, fresh, 2); /* 10 30 and three that are gone, 60 */
    check_order(&t, 114);
    for (size_t slot = 0; slot <= 1; slot++) store_table_remove(&t, slot);
    fresh[1].first_rev = 45;
    store_table_replace(&t, 0, 1, fresh, 2);
    check_order(&t, 114);
    assert_int_equal(t.slots[store_table_floor(&t, 40, 1)].first_rev, 10);
    assert_int_equal(t.slots[store_table_floor(&t, 45, 1)].first_rev, 45);
    assert_int_equal(t.slots[store_table_floor(&t, 60, 1)].first_rev, 60);
    store_table_deinit(&t);
}

static void test_squeeze_drops_what_is_gone(void **state)
{
    (void)state;
    struct store_table t = { 0 };
    for (uint64_t i = 0; i < 5000; i++) store_table_append(&t, 1 + i, 1, 3, 0);
    for (size_t i = 0; i < 5000; i++) {
        if (i % 3 != 0) store_table_remove(&t, i);
    }
    store_table_squeeze(&t);
    assert_int_equal(t.gone_count, 0);
    assert_int_equal(t.count, 1667);
    check_order(&t, 1667 * 3);
    assert_int_equal(t.slots[store_table_floor(&t, 3001, 9)].first_rev, 3001);
    store_table_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floor_finds_the_pack_of_every_row),
        cmocka_unit_test(test_every_row_dies_once),
        cmocka_unit_test(test_marks_made_ahead),
        cmocka_unit_test(test_marks_without_a_dead_row_go),
        cmocka_unit_test(test_equal_prints_are_told_apart),
        cmocka_unit_test(test_rows_that_are_not_there_do_nothing),
        cmocka_unit_test(test_a_damaged_pack_is_an_error),
        cmocka_unit_test(test_a_queue_behind_another_is_sorted),
        cmocka_unit_test(test_replace_keeps_the_order),
        cmocka_unit_test(test_replace_moves_what_is_gone_behind_it),
        cmocka_unit_test(test_squeeze_drops_what_is_gone),
    };
    return cmocka_run_group_tests_name("disk/store_table", tests, NULL, NULL);
}
