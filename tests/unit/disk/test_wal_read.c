/* Reading back: exactly the live entries, checked, across batches and segments. */
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

static struct kit_log seen;

static enum err read_range(uint64_t first, uint64_t last, struct errmsg *em)
{
    memset(&seen, 0, sizeof seen);
    return wal_read(wal, first, last, kit_collect, &seen, em);
}

static void test_every_range_of_a_log_with_truncations(void **state)
{
    (void)state;
    struct errmsg em;
    for (uint64_t i = 0; i < 12; i++) {
        kit_submit(wal, 1, 3 * i + 1, 3 * i + 3, 2000);
        if (i % 3 == 2) kit_run(wal); /* several submissions a batch */
    }
    /* 30.. replaced, and that again in the same batch */
    struct wal_entry e = kit_entry(2, 30, 50);
    wal_submit(wal, &(struct wal_submission){
                        .truncate_from = 30, .truncate_term = 1, .entries = &e, .entry_count = 1 });
    blob_unref(e.blob);
    e = kit_entry(3, 29, 50);
    wal_submit(wal, &(struct wal_submission){
                        .truncate_from = 29, .truncate_term = 1, .entries = &e, .entry_count = 1 });
    blob_unref(e.blob);
    kit_submit(wal, 3, 30, 34, 9000);
    kit_run(wal);
    for (uint64_t first = 1; first <= 34; first++) {
        for (uint64_t last = first; last <= 34; last++) {
            if (read_range(first, last, &em) != OK) fail_msg("%s", em.text);
            assert_int_equal(seen.first, first);
            assert_int_equal(seen.last, last);
            assert_int_equal(seen.terms[last], last < 29 ? 1 : 3);
        }
    }
    assert_null(wal_read_new(wal, 0, 5));
    assert_null(wal_read_new(wal, 30, 35));
    assert_null(wal_read_new(wal, 6, 5));
    assert_int_equal(read_range(30, 35, &em), ERR_NOT_FOUND);
}

static void test_bytes_max_stops_but_not_before_the_first(void **state)
{
    (void)state;
    kit_submit(wal, 1, 1, 20, 1000);
    kit_run(wal);
    static const struct {
        size_t bytes_max;
        uint64_t last;
    } cases[] = { { 0, 1 },    { 999, 1 },  { 1000, 1 },    { 1999, 1 },
                  { 2000, 2 }, { 5500, 5 }, { 1000000, 20 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct errmsg em;
        memset(&seen, 0, sizeof seen);
        struct wal_read *rd = wal_read_new(wal, 1, 20);
        assert_int_equal(wal_read_run(rd, cases[i].bytes_max, kit_collect, &seen, &em), OK);
        wal_read_free(rd);
        assert_int_equal(seen.last, cases[i].last);
    }
}

/* A plan is of its moment: what it reads is neither recycled nor replaced under it. */
static void test_plan_survives_truncation_and_dropping(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 40; n++) {
        kit_submit(wal, 1, n, n, 9000);
        kit_run(wal);
    }
    struct wal_read *rd = wal_read_new(wal, 1, 40);
    wal_submit(wal, &(struct wal_submission){ .truncate_from = 20, .truncate_term = 1 });
    kit_submit(wal, 2, 20, 30, 100);
    kit_run(wal);
    wal_drop_below(wal, 25);
    kit_run(wal);
    assert_int_equal(wal_first_index(wal), 1);
    struct errmsg em;
    memset(&seen, 0, sizeof seen);
    if (wal_read_run(rd, SIZE_MAX, kit_collect, &seen, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(seen.last, 40);
    assert_int_equal(seen.terms[40], 1);
    wal_read_free(rd);
    wal_drop_below(wal, 25);
    kit_run(wal);
    assert_true(wal_first_index(wal) > 1);
    wal_check(wal);
}

static enum err stop_at_three(void *ctx, const struct wal_entry *e)
{
    (void)ctx;
    return e->index == 3 ? ERR_BUSY : OK;
}

static void test_callback_can_stop(void **state)
{
    (void)state;
    kit_submit(wal, 1, 1, 5, 10);
    kit_run(wal);
    struct errmsg em;
    assert_int_equal(wal_read(wal, 1, 5, stop_at_three, NULL, &em), ERR_BUSY);
}

/* Never an entry whose bytes are not what was written. */
static void test_damage_is_found_when_read(void **state)
{
    (void)state;
    kit_submit(wal, 1, 1, 3, 3000);
    kit_run(wal);
    kit_submit(wal, 1, 4, 4, 3000);
    kit_run(wal);
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(DIR_NAME, 1, path);
    struct sim_file *f = sim_disk_get(disk, path);
    struct errmsg em;
    const struct wal_run *run = &wal->index.runs[wal->index.run_begin];
    for (size_t at = 0; at < WAL_BATCH_HEAD_BYTES + 3 * WAL_RECORD_HEAD_BYTES + 9000; at += 7) {
        f->now[run->block * 4096u + at] ^= 4;
        assert_int_equal(read_range(2, 4, &em), ERR_CORRUPT);
        assert_non_null(strstr(em.text, path));
        assert_int_equal(read_range(4, 4, &em), OK);
        f->now[run->block * 4096u + at] ^= 4;
    }
    f->now_bytes = 4096;
    assert_int_equal(read_range(1, 1, &em), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_range_of_a_log_with_truncations, begin, end),
        cmocka_unit_test_setup_teardown(test_bytes_max_stops_but_not_before_the_first, begin, end),
        cmocka_unit_test_setup_teardown(test_plan_survives_truncation_and_dropping, begin, end),
        cmocka_unit_test_setup_teardown(test_callback_can_stop, begin, end),
        cmocka_unit_test_setup_teardown(test_damage_is_found_when_read, begin, end),
    };
    return cmocka_run_group_tests_name("disk/wal_read", tests, NULL, NULL);
}
