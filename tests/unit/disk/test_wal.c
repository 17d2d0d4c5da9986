/* The log's interface, once for each back end, on real files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal_int.h"
#include "test_wal_kit.h"

static struct kit_log replayed;

static struct wal_options options_for(const char *dir, enum wal_backend backend)
{
    memset(&replayed, 0, sizeof replayed);
    return (struct wal_options){
        .dir = dir,
        .create = true,
        .cluster_id = KIT_CLUSTER,
        .member_id = KIT_MEMBER,
        .salt = 99,
        .segment_bytes = WAL_SEGMENT_BYTES_MIN,
        .backend = backend,
        .on_entry = kit_collect,
        .ctx = &replayed,
    };
}

static struct wal *open_ok(const struct wal_options *o)
{
    struct errmsg em = { "" };
    struct wal *wal = NULL;
    if (wal_open(o, &wal, &em) != OK) fail_msg("%s", em.text);
    return wal;
}

/* io_uring may be forbidden where the tests run; then its rows are the thread's again. */
static enum wal_backend usable(enum wal_backend backend, const char *dir)
{
    struct errmsg em;
    if (backend != WAL_BACKEND_URING) return backend;
    return wal_uring_probe(dir, DISK_BLOCK_BYTES_MIN, &em) == OK ? backend : WAL_BACKEND_THREAD;
}

static const enum wal_backend backends[] = { WAL_BACKEND_THREAD, WAL_BACKEND_URING,
                                             WAL_BACKEND_MANUAL, WAL_BACKEND_AUTO };

static struct wal_done wait_done(struct wal *wal, uint64_t seq)
{
    if (wal_fd(wal) >= 0) return kit_wait(wal, seq);
    struct wal_done done = { 0 };
    while (wal_step(wal)) {
    }
    assert_true(wal_poll(wal, &done));
    assert_int_equal(done.seq, seq);
    return done;
}

static void test_life(enum wal_backend backend)
{
    char *dir = kit_dir_make();
    struct wal_options o = options_for(dir, usable(backend, dir));
    struct wal *wal = open_ok(&o);
    assert_true(wal_found(wal)->created);
    assert_int_equal(wal_first_index(wal), 1);
    assert_int_equal(wal_last_durable(wal).index, 0);

    struct wal_hard_state hard = { .term = 3, .vote = KIT_MEMBER };
    assert_int_equal(wal_submit(wal, &(struct wal_submission){ .hard = &hard }), 1);
    uint64_t seq = 0;
    for (uint64_t i = 0; i < 100; i++) seq = kit_submit(wal, 3, 10 * i + 1, 10 * i + 10, 300);
    struct wal_done done = wait_done(wal, seq);
    assert_int_equal(done.last.index, 1000);
    assert_int_equal(done.last.term, 3);

    /* entries 991.. never were */
    struct wal_entry e = kit_entry(4, 991, 100);
    hard.term = 4;
    hard.vote = 0;
    hard.commit = 990;
    seq = wal_submit(wal, &(struct wal_submission){ .truncate_from = 991,
                                                    .truncate_term = 3,
                                                    .entries = &e,
                                                    .entry_count = 1,
                                                    .hard = &hard });
    blob_unref(e.blob);
    done = wait_done(wal, seq);
    assert_int_equal(done.last.index, 991);
    assert_int_equal(done.last.term, 4);
    assert_int_equal(wal_last_durable(wal).index, 991);
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    assert_int_equal(stats.entry_count, 1001);
    assert_int_equal(stats.pending_count, 0);
    assert_int_equal(stats.pending_bytes, 0);
    assert_true(stats.segment_count > 4);
    wal_check(wal);
    wal_close(wal);

    o = options_for(dir, usable(backend, dir));
    o.create = false;
    wal = open_ok(&o);
    const struct wal_found *f = wal_found(wal);
    assert_false(f->created);
    assert_int_equal(f->hard.term, 4);
    assert_int_equal(f->hard.commit, 990);
    assert_int_equal(f->last.index, 991);
    assert_int_equal(f->cluster_id, KIT_CLUSTER);
    assert_int_equal(replayed.first, 1);
    assert_int_equal(replayed.last, 991);
    assert_int_equal(replayed.terms[990], 3);
    assert_int_equal(replayed.terms[991], 4);
    wal_close(wal);
    kit_dir_remove(dir);
}

static void test_life_of_every_backend(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) test_life(backends[i]);
}

/* Closing drains: what was submitted is there, reported or not. */
static void test_reopen_append_reopen(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        char *dir = kit_dir_make();
        uint64_t last = 0;
        for (int life = 0; life < 8; life++) {
            struct wal_options o = options_for(dir, usable(backends[i], dir));
            struct wal *wal = open_ok(&o);
            assert_int_equal(replayed.last, last);
            assert_int_equal(wal_found(wal)->last.index, last);
            assert_int_equal(wal_found(wal)->torn_bytes, 0);
            for (int k = 0; k < life; k++, last += 3) kit_submit(wal, 1, last + 1, last + 3, 2000);
            wal_close(wal);
        }
        kit_dir_remove(dir);
    }
}

static void test_drop_recycles_and_keeps_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        char *dir = kit_dir_make();
        struct wal_options o = options_for(dir, usable(backends[i], dir));
        o.keep_bytes = 2 * WAL_SEGMENT_BYTES_MIN;
        struct wal *wal = open_ok(&o);
        /* Whether a file is recycled or removed is the maker's choice, by what it has at hand. */
        struct wal_stats stats = { .recycled_count = 0 };
        uint64_t last = 0;
        while (last < 200 || (stats.recycled_count == 0 && last < 5000)) {
            for (int k = 0; k < 10; k++) {
                last++;
                wait_done(wal, kit_submit(wal, 1, last, last, 5000));
                wal_check(wal);
            }
            wal_drop_below(wal, last - 5);
            wal_stats_get(wal, &stats);
        }
        assert_true(stats.segment_bytes >= o.keep_bytes);
        assert_true(stats.segment_count <= 4);
        assert_true(stats.recycled_count > 0);
        uint64_t first = wal_first_index(wal);
        assert_true(first > last - 80);
        assert_true(first <= last - 5);
        static struct kit_log log;
        memset(&log, 0, sizeof log);
        struct errmsg em;
        assert_int_equal(wal_read(wal, first, last, kit_collect, &log, &em), OK);
        assert_int_equal(log.first, first);
        assert_int_equal(log.last, last);
        assert_int_equal(wal_read(wal, first - 1, last, kit_collect, &log, &em), ERR_NOT_FOUND);
        wal_close(wal);

        o = options_for(dir, usable(backends[i], dir));
        wal = open_ok(&o);
        assert_int_equal(replayed.first, wal_found(wal)->before.index + 1);
        assert_true(replayed.first <= first);
        assert_int_equal(replayed.last, last);
        wal_close(wal);
        kit_dir_remove(dir);
    }
}

static void test_largest_entry_fits_and_groups_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        char *dir = kit_dir_make();
        struct wal_options o = options_for(dir, usable(backends[i], dir));
        struct wal *wal = open_ok(&o);
        size_t max = wal_entry_bytes_max(wal);
        assert_true(max > 40000);
        wait_done(wal, kit_submit(wal, 1, 1, 20, max)); /* twenty segments in one submission */
        wait_done(wal, kit_submit(wal, 1, 21, 21, 0));
        wal_close(wal);
        o = options_for(dir, usable(backends[i], dir));
        wal = open_ok(&o);
        assert_int_equal(replayed.last, 21);
        wal_close(wal);
        kit_dir_remove(dir);
    }
}

static void test_snapshot_restarts_the_log_and_marks_survive(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct wal_options o = options_for(dir, WAL_BACKEND_MANUAL);
    struct wal *wal = open_ok(&o);
    wait_done(wal, kit_submit(wal, 1, 1, 10, 100));
    wait_done(wal, wal_submit(wal, &(struct wal_submission){ .snapshot_begin = { 500, 2 } }));
    wal_close(wal);

    o = options_for(dir, WAL_BACKEND_MANUAL);
    wal = open_ok(&o);
    assert_int_equal(wal_found(wal)->snapshot_begin.index, 500);
    assert_int_equal(wal_found(wal)->snapshot.index, 0);
    assert_int_equal(wal_found(wal)->last.index, 10);
    struct wal_done done =
        wait_done(wal, wal_submit(wal, &(struct wal_submission){ .snapshot = { 500, 2 } }));
    assert_int_equal(done.last.index, 500);
    assert_int_equal(wal_first_index(wal), 501);
    for (uint64_t n = 501; n < 560; n++) wait_done(wal, kit_submit(wal, 2, n, n, 9000));
    wal_drop_below(wal, 540);
    wal_close(wal);

    o = options_for(dir, WAL_BACKEND_MANUAL);
    wal = open_ok(&o);
    assert_int_equal(wal_found(wal)->snapshot_begin.index, 500);
    assert_int_equal(wal_found(wal)->snapshot.index, 500);
    assert_int_equal(wal_found(wal)->snapshot.term, 2);
    assert_true(wal_found(wal)->before.index > 500);
    assert_int_equal(wal_found(wal)->before.term, 2);
    assert_int_equal(replayed.first, wal_found(wal)->before.index + 1);
    assert_int_equal(replayed.last, 559);
    wal_close(wal);
    kit_dir_remove(dir);
}

static void test_replay_from_skips(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct wal_options o = options_for(dir, WAL_BACKEND_MANUAL);
    struct wal *wal = open_ok(&o);
    for (uint64_t n = 1; n <= 50; n++) wait_done(wal, kit_submit(wal, 1, n, n, 3000));
    wal_close(wal);
    static const uint64_t froms[] = { 0, 1, 2, 33, 50, 51, 52 };
    for (size_t i = 0; i < ARRAY_LEN(froms); i++) {
        o = options_for(dir, WAL_BACKEND_MANUAL);
        o.replay_from = froms[i];
        wal = open_ok(&o);
        assert_int_equal(wal_found(wal)->last.index, 50);
        if (froms[i] > 50) {
            assert_int_equal(replayed.first, 0);
        } else {
            assert_int_equal(replayed.first, MAX(froms[i], (uint64_t)1));
            assert_int_equal(replayed.last, 50);
        }
        wal_close(wal);
    }
    kit_dir_remove(dir);
}

/* Another size of segments is an option for new ones; those that are there are used up. */
static void test_segment_size_can_change(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    uint64_t last = 0;
    static const uint64_t sizes[] = { 1, 4, 2, 1, 8 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct wal_options o = options_for(dir, WAL_BACKEND_MANUAL);
        o.segment_bytes = sizes[i] * WAL_SEGMENT_BYTES_MIN;
        struct wal *wal = open_ok(&o);
        assert_int_equal(replayed.last, last);
        size_t max = wal_entry_bytes_max(wal);
        wait_done(wal, kit_submit(wal, 1, last + 1, last + 3, max));
        last += 3;
        wal_close(wal);
    }
    kit_dir_remove(dir);
}

static void test_refusals(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct errmsg em;
    struct wal *wal = NULL;
    struct wal_options o = options_for(dir, WAL_BACKEND_MANUAL);
    o.create = false;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_NOT_FOUND);
    o = options_for(dir, WAL_BACKEND_MANUAL);
    o.cluster_id = 0;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);
    o = options_for(dir, WAL_BACKEND_MANUAL);
    o.segment_bytes = 1000;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);
    o.segment_bytes = WAL_SEGMENT_BYTES_MAX * 2ull;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);

    o = options_for(dir, WAL_BACKEND_MANUAL);
    wal_close(open_ok(&o));
    o.member_id = 1;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "the member id is 22136, expected 1"));
    o.member_id = 0; /* whatever is recorded */
    o.cluster_id = 1;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "the cluster id"));
    o.cluster_id = 0;
    o.group = 2;
    assert_int_equal(wal_open(&o, &wal, &em), ERR_CONFIG);
    o.group = 0;
    wal = open_ok(&o);
    assert_int_equal(wal_found(wal)->member_id, KIT_MEMBER);
    wal_close(wal);
    wal_close(NULL);
    kit_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_every_backend),
        cmocka_unit_test(test_reopen_append_reopen),
        cmocka_unit_test(test_drop_recycles_and_keeps_the_rest),
        cmocka_unit_test(test_largest_entry_fits_and_groups_split),
        cmocka_unit_test(test_snapshot_restarts_the_log_and_marks_survive),
        cmocka_unit_test(test_replay_from_skips),
        cmocka_unit_test(test_segment_size_can_change),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("disk/wal", tests, NULL, NULL);
}
