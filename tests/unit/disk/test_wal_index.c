/* Where entries are: runs, truncations, restarts, segments that go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal_int.h"

static struct wal_index ix;

/* One batch: entries run_first..last, or none. */
static void place(uint64_t segment_seq, uint32_t block, bool opens, uint64_t before,
                  struct wal_effect fx)
{
    wal_index_apply(&ix, &(struct wal_placed){ .effect = fx,
                                               .before = { before, 1 },
                                               .segment_seq = segment_seq,
                                               .block = block,
                                               .segment_bytes = 100,
                                               .opens = opens });
    wal_index_check(&ix);
}

static struct wal_effect entries(uint64_t first, uint64_t last)
{
    return (struct wal_effect){ .run_first = first, .last = { last, 1 } };
}

static struct wal_effect cut(uint64_t end, uint64_t last)
{
    return (struct wal_effect){ .has_cut = true,
                                .cut = { end, 1 },
                                .last = { last, 1 },
                                .run_first = last > end ? end + 1 : 0 };
}

/* Segments 1: 1..20, 2: 21..40, 3: 41..50. */
static int fill(void **state)
{
    (void)state;
    wal_index_deinit(&ix);
    place(1, 1, true, 0, entries(1, 10));
    place(1, 2, false, 10, entries(11, 20));
    place(2, 1, true, 20, entries(21, 40));
    place(3, 1, true, 40, entries(41, 50));
    return 0;
}

static int clear(void **state)
{
    (void)state;
    wal_index_deinit(&ix);
    return 0;
}

static void test_dropping_keeps_what_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        uint64_t index;
        uint64_t keep_bytes;
        size_t want;
    } cases[] = {
        { 0, 0, 0 },    { 20, 0, 0 },     { 21, 0, 1 },     { 40, 0, 1 },     { 41, 0, 2 },
        { 1000, 0, 2 }, { 1000, 100, 2 }, { 1000, 101, 1 }, { 1000, 300, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t got = wal_index_droppable(&ix, cases[i].index, cases[i].keep_bytes);
        if (got != cases[i].want) fail_msg("row %zu: %zu", i, got);
    }
    ix.segments[1].pin_count = 1;
    assert_int_equal(wal_index_droppable(&ix, 1000, 0), 1);
    wal_index_drop(&ix, 1);
    wal_index_check(&ix);
    assert_int_equal(ix.segments[0].floor.index, 20);
    assert_int_equal(wal_index_segment(&ix, 3)->floor.index, 40);
}

/* Entries 31.. are replaced by those in segment 3: to keep 31, segment 3 alone is enough. */
static void test_truncation_moves_floors(void **state)
{
    (void)state;
    place(3, 2, false, 50, cut(30, 35));
    assert_int_equal(wal_index_segment(&ix, 3)->floor.index, 30);
    assert_int_equal(wal_index_segment(&ix, 2)->floor.index, 20);
    assert_int_equal(wal_index_droppable(&ix, 30, 0), 1);
    assert_int_equal(wal_index_droppable(&ix, 31, 0), 2);
    wal_index_drop(&ix, 2);
    wal_index_check(&ix);
    assert_int_equal(ix.run_end - ix.run_begin, 1);
    /* below everything that is left */
    place(3, 3, false, 35, cut(25, 25));
    assert_int_equal(ix.segments[0].floor.index, 25);
    assert_int_equal(ix.run_end, ix.run_begin);
}

static void test_restart_forgets_all(void **state)
{
    (void)state;
    place(3, 2, false, 50,
          (struct wal_effect){ .restart = { 500, 2 }, .last = { 502, 2 }, .run_first = 501 });
    assert_int_equal(ix.segments[0].floor.index, 500);
    assert_int_equal(ix.run_end - ix.run_begin, 1);
    assert_int_equal(wal_index_droppable(&ix, 501, 0), 2);
    assert_int_equal(wal_index_droppable(&ix, 500, 0), 0);
}

/* Many runs come and go: the array is reused, not grown for ever. */
static void test_runs_do_not_grow_for_ever(void **state)
{
    (void)state;
    uint64_t index = 51;
    for (uint64_t seq = 4; seq < 2000; seq++) {
        for (uint32_t block = 1; block <= 50; block++, index++) {
            place(seq, block, block == 1, index - 1, entries(index, index));
        }
        wal_index_drop(&ix, wal_index_droppable(&ix, index - 100, 0));
    }
    assert_true(ix.run_cap < 2000);
    assert_true(ix.segment_cap <= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dropping_keeps_what_is_asked_for, fill, clear),
        cmocka_unit_test_setup_teardown(test_truncation_moves_floors, fill, clear),
        cmocka_unit_test_setup_teardown(test_restart_forgets_all, fill, clear),
        cmocka_unit_test_setup_teardown(test_runs_do_not_grow_for_ever, fill, clear),
    };
    return cmocka_run_group_tests_name("disk/wal_index", tests, NULL, NULL);
}
