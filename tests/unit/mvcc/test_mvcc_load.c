/* Loading: what rows make of an empty key space, what they make dead, and which are refused. */
#include "mvcc/mvcc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static const struct row first = {
    .rev = 5, .n = 1, .op = ROW_PUT, .create = 5, .version = 1,
    .key = { (const uint8_t *)"k", 1 }, .value = { (const uint8_t *)"one", 3 },
};
static const struct row second = {
    .rev = 8, .n = 1, .op = ROW_PUT, .create = 5, .version = 2, .prev = 5, .jump = 5, .chain = 1,
    .key = { (const uint8_t *)"k", 1 }, .value = { (const uint8_t *)"two", 3 },
};
static const struct row gone = {
    .rev = 9, .n = 1, .op = ROW_DEL, .prev = 8, .jump = 5, .chain = 2, .lease = 3,
    .key = { (const uint8_t *)"k", 1 },
};
static const struct row again = {
    .rev = 12, .n = 1, .op = ROW_PUT, .create = 12, .version = 1, .prev = 9, .jump = 5, .chain = 3,
    .key = { (const uint8_t *)"k", 1 },
};

static void test_compaction_decides_what_is_dead(void **state)
{
    (void)state;
    static const struct {
        uint64_t compacted;
        size_t dead[4]; /* by first, second, gone, again */
        uint64_t ghosts_before_again;
    } cases[] = {
        { 0, { 0, 0, 0, 0 }, 1 },
        { 7, { 0, 0, 0, 0 }, 1 },
        { 8, { 0, 1, 0, 0 }, 1 },  /* 5 */
        { 9, { 0, 1, 1, 0 }, 1 },  /* 5, 8; the deletion at 9 stays */
        { 10, { 0, 1, 2, 0 }, 0 }, /* 5, 8 and 9 */
        { 12, { 0, 1, 2, 0 }, 0 },
    };
    const struct row *const rows[] = { &first, &second, &gone, &again };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct mvcc *m = mvcc_new(1);
        mvcc_load_begin(m, cases[i].compacted, 10);
        for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
            if (r == 3) assert_int_equal(mvcc_ghost_count(m), cases[i].ghosts_before_again);
            struct mvcc_dead dead;
            assert_int_equal(mvcc_load_row(m, rows[r], &dead), OK);
            assert_int_equal(dead.count, cases[i].dead[r]);
            for (size_t d = 0; d < dead.count; d++) {
                assert_int_equal(dead.rev[d], d == 0 ? rows[r]->prev : rows[r]->rev);
                assert_true(slice_eq(dead.key[d], SLICE_LIT("k")));
            }
        }
        mvcc_load_end(m, 20);
        mvcc_check(m);
        assert_int_equal(mvcc_rev(m), 20);
        assert_int_equal(mvcc_compacted(m), cases[i].compacted);
        assert_int_equal(mvcc_find(m, SLICE_LIT("k"))->mod, 12);
        assert_int_equal(mvcc_ghost_count(m), 0);
        mvcc_free(m);
    }
}

static void test_rows_that_cannot_follow_are_refused(void **state)
{
    (void)state;
    struct row wrong[13];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) wrong[i] = second;
    wrong[0].rev = 4;       /* before the row before */
    wrong[1].rev = 5;       /* the same event again */
    wrong[2].prev = 4;      /* not the version before */
    wrong[3].prev = 0;
    wrong[4].version = 3;
    wrong[5].create = 4;
    wrong[6].chain = 2;
    wrong[7].jump = 0;
    wrong[8].key = SLICE_LIT("other"); /* its earlier row is missing */
    wrong[9].key = SLICE_NONE;
    wrong[10] = gone;
    wrong[10].prev = 5;
    wrong[10].chain = 3;
    wrong[11].version = 1;  /* a first version that was created before */
    wrong[12] = gone;       /* a deletion of nothing */
    wrong[12].key = SLICE_LIT("other");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct mvcc *m = mvcc_new(1);
        struct mvcc_dead dead;
        mvcc_load_begin(m, 0, 0);
        assert_int_equal(mvcc_load_row(m, &first, &dead), OK);
        enum err e = mvcc_load_row(m, &wrong[i], &dead);
        if (e != ERR_CORRUPT) fail_msg("row %zu: %s", i, err_name(e));
        assert_int_equal(mvcc_load_row(m, &second, &dead), OK); /* nothing was changed */
        mvcc_load_end(m, 20);
        mvcc_check(m);
        mvcc_free(m);
    }
}

/* Deleted and put again in one transaction: one event, but the key is new. */
static void test_recreated_key_is_accepted(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_dead dead;
    struct row recreated = second;
    recreated.version = 1;
    recreated.create = recreated.rev;
    mvcc_load_begin(m, 0, 0);
    assert_int_equal(mvcc_load_row(m, &first, &dead), OK);
    assert_int_equal(mvcc_load_row(m, &recreated, &dead), OK);
    mvcc_load_end(m, 20);
    assert_int_equal(mvcc_find(m, SLICE_LIT("k"))->create, 8);
    mvcc_check(m);
    mvcc_free(m);
}

/* Physical deletion has taken what compaction made dead: the newest row is enough. */
static void test_older_rows_may_be_gone(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_dead dead;
    mvcc_load_begin(m, 10, 0);
    assert_int_equal(mvcc_load_row(m, &again, &dead), OK);
    assert_int_equal(dead.count, 0);
    mvcc_load_end(m, 12);
    const struct entry *e = mvcc_find(m, SLICE_LIT("k"));
    assert_int_equal(e->chain, 3);
    assert_int_equal(e->jump, 5);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_row_with_a_lifetime_has_room_for_it(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_dead dead;
    struct life life = { .lease_id = 3 };
    struct row leased = first;
    leased.lease = 3;
    mvcc_load_begin(m, 0, 0);
    assert_int_equal(mvcc_load_row(m, &leased, &dead), OK);
    const struct entry *e = mvcc_find(m, SLICE_LIT("k"));
    assert_null(entry_life(e));
    mvcc_set_life(m, SLICE_LIT("k"), &life); /* while loading */
    assert_ptr_equal(mvcc_find(m, SLICE_LIT("k")), e);
    assert_ptr_equal(life.entry, e);
    assert_int_equal(mvcc_load_row(m, &second, &dead), OK); /* as a put: the life is off */
    assert_null(life.entry);
    assert_null(entry_life(mvcc_find(m, SLICE_LIT("k"))));
    mvcc_set_life(m, SLICE_LIT("k"), &life);
    mvcc_load_end(m, 20);
    mvcc_check(m);
    assert_ptr_equal(entry_life(mvcc_find(m, SLICE_LIT("k"))), &life);
    mvcc_free(m);
}

/* More keys than expected, so that the index splits; then it goes on as if never stopped. */
static void test_many_keys(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    struct mvcc_dead dead;
    mvcc_load_begin(m, 0, 100);
    for (uint32_t i = 0; i < 20000; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "key:%u", (i * 7919u) % 20000u);
        struct row r = first;
        r.rev = r.create = 2 + i / 10;
        r.n = 1 + i % 10;
        r.key = (struct slice){ (uint8_t *)key, (size_t)len };
        assert_int_equal(mvcc_load_row(m, &r, &dead), OK);
    }
    mvcc_load_end(m, 3000);
    mvcc_check(m);
    assert_int_equal(mvcc_count(m, SLICE_NONE, SLICE_NONE), 20000);
    struct mvcc_event ev;
    struct mvcc_write w = { .key = SLICE_LIT("key:5x"), .rev = 3001, .n = 1 };
    mvcc_put(m, &w, NULL, &ev);
    mvcc_delete(m, SLICE_LIT("key:17"), 3002, 1, ROW_DEL, NULL, &ev);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_nothing(void **state)
{
    (void)state;
    struct mvcc *m = mvcc_new(1);
    mvcc_load_begin(m, 0, 0);
    mvcc_load_end(m, 1);
    mvcc_check(m);
    assert_int_equal(mvcc_rev(m), 1);
    mvcc_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compaction_decides_what_is_dead),
        cmocka_unit_test(test_rows_that_cannot_follow_are_refused),
        cmocka_unit_test(test_recreated_key_is_accepted),
        cmocka_unit_test(test_older_rows_may_be_gone),
        cmocka_unit_test(test_row_with_a_lifetime_has_room_for_it),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_load", tests, NULL, NULL);
}
