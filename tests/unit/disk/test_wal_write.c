/* From submissions to batches: grouping, splitting, sealing, failing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal_int.h"
#include "../../sim/sim_disk.h"
#include "test_wal_kit.h"

#define DIR_NAME "/d"

static struct sim_disk *disk;
static struct wal *wal;
static char fatal_line[512];
static char warning_line[512];

static void on_fatal(void *ctx, const char *line)
{
    (void)ctx;
    snprintf(fatal_line, sizeof fatal_line, "%s", line);
}

static void on_warning(void *ctx, const char *line)
{
    (void)ctx;
    snprintf(warning_line, sizeof warning_line, "%s", line);
}

static struct wal *open_log(void)
{
    struct wal_options o = { .dir = DIR_NAME,
                             .io = sim_disk_io(disk),
                             .create = true,
                             .cluster_id = 1,
                             .member_id = 2,
                             .salt = 3,
                             .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                             .backend = WAL_BACKEND_MANUAL,
                             .on_fatal = on_fatal,
                             .on_warning = on_warning };
    struct errmsg em;
    struct wal *opened = NULL;
    if (wal_open(&o, &opened, &em) != OK) fail_msg("%s", em.text);
    return opened;
}

static int begin(void **state)
{
    (void)state;
    fatal_line[0] = warning_line[0] = 0;
    disk = sim_disk_new("/d", 1);
    wal = open_log();
    kit_run(wal);
    return 0;
}

static int end(void **state)
{
    (void)state;
    wal_abandon(wal);
    sim_disk_free(disk);
    return 0;
}

static uint64_t syncs(void)
{
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    return stats.sync_count;
}

static void test_all_that_waits_goes_in_one_batch(void **state)
{
    (void)state;
    uint64_t before = syncs();
    for (uint64_t n = 1; n <= 50; n++) kit_submit(wal, 1, n, n, 200);
    struct wal_hard_state hard = { 1, 2, 3 };
    wal_submit(wal, &(struct wal_submission){ .hard = &hard });
    assert_true(wal_step(wal));
    struct wal_done done = { 0 };
    assert_true(wal_poll(wal, &done));
    assert_int_equal(done.seq, 51);
    assert_int_equal(syncs(), before + 1);
    assert_false(wal_step(wal));
    assert_int_equal(wal->writer.batch.record_count, 50);
    assert_int_equal(wal->writer.batch.hard.vote, 2);
}

/* A submission that takes several batches completes with the last one; its term and vote are in the
 * first, its commit in the last. */
static void test_large_submission_is_split(void **state)
{
    (void)state;
    struct wal_entry entries[8];
    for (size_t i = 0; i < 8; i++) entries[i] = kit_entry(4, i + 1, 20000);
    struct wal_hard_state hard = { 4, 9, 8 };
    wal_submit(wal,
               &(struct wal_submission){ .entries = entries, .entry_count = 8, .hard = &hard });
    for (size_t i = 0; i < 8; i++) blob_unref(entries[i].blob);
    struct wal_done done = { 0 };
    int steps = 0;
    bool first_checked = false;
    while (!wal_poll(wal, &done)) {
        assert_true(wal_step(wal));
        steps++;
        if (first_checked || wal->writer.batch.record_count == 0) continue;
        first_checked = true;
        assert_int_equal(wal->writer.batch.hard.term, 4);
        assert_int_equal(wal->writer.batch.hard.vote, 9);
        assert_int_equal(wal->writer.batch.hard.commit, 0);
    }
    assert_true(first_checked);
    assert_true(steps > 4);
    assert_int_equal(done.last.index, 8);
    assert_int_equal(wal->writer.batch.hard.commit, 8);
}

/* A commit ahead of what is written (a snapshot that is not installed yet) is held back. */
static void test_commit_never_passes_the_log(void **state)
{
    (void)state;
    struct wal_hard_state hard = { 1, 0, 100 };
    wal_submit(wal, &(struct wal_submission){ .snapshot_begin = { 100, 1 }, .hard = &hard });
    kit_run(wal);
    assert_int_equal(wal->writer.batch.hard.commit, 0);
    wal_submit(wal, &(struct wal_submission){ .snapshot = { 100, 1 } });
    wal_step(wal);
    assert_int_equal(wal->writer.batch.hard.commit, 100);
}

static void test_blobs_are_released_when_durable(void **state)
{
    (void)state;
    struct wal_entry e = kit_entry(1, 1, 100);
    wal_submit(wal, &(struct wal_submission){ .entries = &e, .entry_count = 1 });
    assert_int_equal(e.blob->refs, 2);
    wal_step(wal);
    struct wal_done done;
    assert_true(wal_poll(wal, &done));
    assert_int_equal(e.blob->refs, 1);
    blob_unref(e.blob);
}

static void test_failures_say_where_and_end_everything(void **state)
{
    (void)state;
    static const struct {
        enum sim_fault fault;
        uint64_t after; /* operations */
        const char *text;
    } cases[] = {
        { SIM_FAIL, 1,
          "log write failed: /d/wal-0000000000000001 offset 8192, 4096 bytes: "
          "Input/output error (errno 5); stopping" },
        { SIM_FAIL, 2,
          "log sync failed: /d/wal-0000000000000001 offset 8192, 4096 bytes: "
          "Input/output error (errno 5); stopping" },
        { SIM_SHORT, 1, "log write failed: /d/wal-0000000000000001 offset 8192, 4096 bytes: " },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (i > 0) begin(NULL);
        kit_submit(wal, 1, 1, 1, 100);
        sim_disk_fail_nth(disk, cases[i].after, cases[i].fault, EIO);
        wal_step(wal);
        if (strstr(fatal_line, cases[i].text) == NULL) fail_msg("%s", fatal_line);
        struct wal_done done;
        kit_submit(wal, 1, 2, 2, 100);
        assert_false(wal_step(wal));
        assert_false(wal_poll(wal, &done));
        if (i + 1 < ARRAY_LEN(cases)) end(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_waits_goes_in_one_batch, begin, end),
        cmocka_unit_test_setup_teardown(test_large_submission_is_split, begin, end),
        cmocka_unit_test_setup_teardown(test_commit_never_passes_the_log, begin, end),
        cmocka_unit_test_setup_teardown(test_blobs_are_released_when_durable, begin, end),
        cmocka_unit_test_setup_teardown(test_failures_say_where_and_end_everything, begin, end),
    };
    return cmocka_run_group_tests_name("disk/wal_write", tests, NULL, NULL);
}
