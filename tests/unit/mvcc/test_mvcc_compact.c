/* Ghosts: kept while their deletion is history, dropped in bounded steps, never seen after. */
#include "mvcc/mvcc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct slice key_of(unsigned i)
{
    static char text[8][16];
    char *at = text[i % 8];
    return (struct slice){ (uint8_t *)at, (size_t)snprintf(at, sizeof text[0], "key%03u", i) };
}

static void put(struct mvcc *m, unsigned key, struct mvcc_event *ev)
{
    struct mvcc_write w = { .key = key_of(key), .value = SLICE_LIT("v"), .rev = mvcc_rev(m) + 1,
                            .n = 1 };
    mvcc_put(m, &w, NULL, ev);
}

/* key000 .. of revisions 2 .., then deleted in ascending order from revision count + 2 on. */
static struct mvcc *deleted(unsigned count)
{
    struct mvcc *m = mvcc_new(5);
    struct mvcc_event ev;
    for (unsigned i = 0; i < count; i++) put(m, i, &ev);
    for (unsigned i = 0; i < count; i++) {
        mvcc_delete(m, key_of(i), mvcc_rev(m) + 1, 1, ROW_DEL, NULL, &ev);
    }
    return m;
}

static size_t ghosts_seen(const struct mvcc *m)
{
    struct mvcc_iter it;
    size_t count = 0;
    mvcc_iter_init(&it, m, SLICE_NONE, SLICE_NONE, false, true);
    for (const struct entry *e; (e = mvcc_iter_next(&it)) != NULL;) count += entry_is_ghost(e);
    return count;
}

static void test_ghosts_are_in_order_of_deletion(void **state)
{
    (void)state;
    struct mvcc *m = deleted(10); /* deletions 12 .. 21 */
    uint64_t mod = 12;
    for (const struct entry *e = m->ghost_first; e != NULL; e = ghost_links_get(e).next) {
        assert_int_equal(e->mod, mod++);
    }
    assert_int_equal(mod, 22);
    struct mvcc_event ev;
    put(m, 0, &ev); /* first, middle, last leave the list */
    put(m, 5, &ev);
    put(m, 9, &ev);
    assert_int_equal(mvcc_ghost_count(m), 7);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_a_deletion_at_the_compaction_stays(void **state)
{
    (void)state;
    struct mvcc *m = deleted(10);
    assert_false(mvcc_compact_step(m, 100));
    assert_int_equal(mvcc_ghost_count(m), 10);
    mvcc_compact(m, 15);
    assert_int_equal(mvcc_compacted(m), 15);
    assert_int_equal(ghosts_seen(m), 7); /* at once, before any step */
    assert_false(mvcc_compact_step(m, 100));
    assert_int_equal(mvcc_ghost_count(m), 7);
    assert_int_equal(m->ghost_first->mod, 15);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_steps_are_bounded(void **state)
{
    (void)state;
    struct mvcc *m = deleted(10);
    mvcc_compact(m, 21);
    assert_true(mvcc_compact_step(m, 0));
    assert_true(mvcc_compact_step(m, 4));
    assert_int_equal(mvcc_ghost_count(m), 6);
    assert_true(mvcc_compact_step(m, 4));
    assert_false(mvcc_compact_step(m, 4));
    assert_int_equal(mvcc_ghost_count(m), 1);
    mvcc_check(m);
    mvcc_free(m);
}

/* What a replica writes must not depend on how far its steps have come. */
static void test_rows_do_not_depend_on_steps(void **state)
{
    (void)state;
    struct row rows[2];
    for (int with_step = 0; with_step < 2; with_step++) {
        struct mvcc *m = deleted(3); /* 5, 6, 7 */
        mvcc_compact(m, 6);
        if (with_step != 0) assert_false(mvcc_compact_step(m, 10));
        mvcc_packs_seal(m);
        struct mvcc_event ev;
        put(m, 0, &ev);
        assert_int_equal(ev.prev_mod, 0);
        struct mvcc_pack pack;
        assert_true(mvcc_packs_at(m, 1, &pack));
        size_t offset = 1;
        struct row *r = &rows[with_step];
        assert_int_equal(row_decode(blob_slice(pack.body), &offset, pack.first_rev, r), OK);
        assert_int_equal(r->prev, 0);
        assert_int_equal(r->jump, 0);
        assert_int_equal(r->chain, 0);
        put(m, 1, &ev); /* its deletion is at 6: still history */
        assert_int_equal(row_decode(blob_slice(pack.body), &offset, pack.first_rev, r), OK);
        assert_int_equal(r->prev, 6);
        assert_int_equal(r->chain, 2);
        mvcc_check(m);
        mvcc_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ghosts_are_in_order_of_deletion),
        cmocka_unit_test(test_a_deletion_at_the_compaction_stays),
        cmocka_unit_test(test_steps_are_bounded),
        cmocka_unit_test(test_rows_do_not_depend_on_steps),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_compact", tests, NULL, NULL);
}
