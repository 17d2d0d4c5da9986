/* Segments made ahead, recycled, removed; and what happens when there is no room for one. */
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

static bool exists(uint64_t seq)
{
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(DIR_NAME, seq, path);
    return sim_disk_get(disk, path) != NULL;
}

static void test_one_is_made_ahead(void **state)
{
    (void)state;
    assert_true(exists(1));
    assert_true(exists(2));
    assert_false(exists(3));
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    assert_true(stats.next_segment_ready);
    assert_int_equal(stats.segment_count, 1);
    kit_submit(wal, 1, 1, 4, 20000); /* fills the first */
    kit_run(wal);
    assert_true(exists(3));
    assert_false(exists(5));
}

/* The file keeps its blocks; its old bytes are never taken for new ones. */
static void test_old_segment_becomes_a_new_one(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 60; n++) {
        kit_submit(wal, 1, n, n, 9000);
        kit_run(wal);
        wal_drop_below(wal, n);
    }
    kit_run(wal);
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    assert_true(stats.recycled_count >= 5);
    assert_false(exists(1));
    assert_true(sim_disk_file_count(disk) <= 4); /* in use, ahead, waiting to be recycled */
    wal_abandon(wal);
    wal = open_log();
    assert_int_equal(wal_found(wal)->last.index, 60);
}

/* Nothing is reported, nothing is lost, one warning; then there is room and it goes on. */
static void test_no_room_for_the_next_segment(void **state)
{
    (void)state;
    uint64_t seq = 0;
    struct wal_done done = { 0 };
    struct wal_stats stats;
    for (uint64_t n = 1; n <= 30; n++) seq = kit_submit(wal, 1, n, n, 9000);
    for (int i = 0; i < 200; i++) {
        /* every creation of a file fails, nothing else */
        bool makes = wal->writer.phase == WAL_PHASE_FILL && wal->maker.spare == NULL;
        sim_disk_fail_nth(disk, makes ? 2 : 0, SIM_FAIL, ENOSPC);
        bool stepped = wal_step(wal);
        wal_poll(wal, &done);
        if (!stepped && fatal_line[0] == 0) break;
    }
    assert_string_equal(fatal_line, "");
    assert_non_null(strstr(warning_line, "No space left on device"));
    wal_stats_get(wal, &stats);
    assert_int_equal(stats.next_segment_err, ERR_NOSPACE);
    assert_false(stats.next_segment_ready);
    assert_true(done.seq < seq);
    sim_disk_fail_nth(disk, 0, SIM_FAIL, 0);
    while (wal_step(wal)) {
    }
    assert_true(wal_poll(wal, &done));
    assert_int_equal(done.seq, seq);
    wal_stats_get(wal, &stats);
    assert_int_equal(stats.next_segment_err, OK);
}

/* The disk is full: what a checkpoint makes superfluous is used again, without room. */
static void test_a_full_disk_goes_on_with_segments_that_were_left(void **state)
{
    (void)state;
    struct wal_done done = { 0 };
    uint64_t seq = 0;
    sim_disk_set_free_bytes(disk, 0);
    for (uint64_t n = 1; n <= 40; n++) seq = kit_submit(wal, 1, n, n, 9000);
    for (int i = 0; i < 2000 && done.seq < seq; i++) {
        wal_step(wal);
        wal_poll(wal, &done);
        if (done.last.index > 0) wal_drop_below(wal, done.last.index);
    }
    assert_int_equal(done.seq, seq);
    assert_string_equal(fatal_line, "");
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    assert_true(stats.recycled_count >= 2);
}

/* The process dies anywhere in making the segment ahead, the next one finds that segment in the
 * kernel's cache, writes to it, reports, and then the power goes. */
static void test_segment_found_by_name_has_its_name_for_good(void **state)
{
    (void)state;
    size_t found_ahead = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        disk = sim_disk_new("/d", seed);
        wal = open_log();
        sim_disk_fail_nth(disk, 1 + seed % 8, SIM_CRASH, EIO);
        while (!sim_disk_is_crashed(disk) && wal_step(wal)) {
        }
        wal_abandon(wal);
        sim_disk_kill(disk);
        wal = open_log();
        found_ahead += wal->maker.spare != NULL;
        for (uint64_t n = 1; n <= 4; n++) kit_submit(wal, 1, n, n, 20000);
        struct wal_done done = { 0 };
        while (done.last.index < 4) {
            assert_true(wal_step(wal));
            wal_poll(wal, &done);
        }
        wal_abandon(wal);
        sim_disk_crash(disk, 0);
        wal = open_log();
        assert_int_equal(wal_found(wal)->last.index, 4);
        wal_abandon(wal);
        sim_disk_free(disk);
    }
    assert_true(found_ahead > 0);
    assert_true(found_ahead < 400);
}

static void test_creating_a_log_without_room_is_an_error(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 20; n++) {
        struct sim_disk *full = sim_disk_new("/d", n);
        sim_disk_fail_nth(full, n, SIM_FAIL, ENOSPC);
        struct wal_options o = { .dir = DIR_NAME,
                                 .io = sim_disk_io(full),
                                 .create = true,
                                 .cluster_id = 1,
                                 .member_id = 2,
                                 .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                                 .backend = WAL_BACKEND_MANUAL };
        struct wal *opened = NULL;
        struct errmsg em;
        enum err e = wal_open(&o, &opened, &em);
        if (sim_disk_fault_hit(full)) assert_int_equal(e, ERR_NOSPACE);
        if (e == OK) wal_abandon(opened);
        sim_disk_free(full);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_is_made_ahead, begin, end),
        cmocka_unit_test_setup_teardown(test_old_segment_becomes_a_new_one, begin, end),
        cmocka_unit_test_setup_teardown(test_no_room_for_the_next_segment, begin, end),
        cmocka_unit_test_setup_teardown(test_a_full_disk_goes_on_with_segments_that_were_left, begin, end),
        cmocka_unit_test(test_segment_found_by_name_has_its_name_for_good),
        cmocka_unit_test(test_creating_a_log_without_room_is_an_error),
    };
    return cmocka_run_group_tests_name("disk/wal_segment", tests, NULL, NULL);
}
