/* The log on the modelled disk, beside the rest of a node's files: crashed at any operation it has
 * everything that was reported and nothing that was not submitted, and equal seeds are equal runs.
 * What its entries mean, and each kind of damage, is tested in tests/unit/disk/test_wal_*.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../unit/disk/test_wal_kit.h"
#include "sim_disk.h"

#define ROOT "/n1"
#define SEEDS 150
#define LIVES 8

struct world {
    struct sim_disk *disk;
    struct wal *wal;
    struct kit_log log;
    bool fatal;
    uint64_t term;
    uint64_t newest;  /* entry submitted */
    uint64_t durable; /* entry reported */
};

static void on_fatal(void *ctx, const char *line)
{
    struct world *w = ctx;
    if (!sim_disk_fault_hit(w->disk)) fail_msg("%s", line);
    w->fatal = true;
}

/* Making a segment ahead may fail with the disk. */
static void on_warning(void *ctx, const char *line)
{
    const struct world *w = ctx;
    if (!sim_disk_fault_hit(w->disk)) fail_msg("%s", line);
}

static enum err on_entry(void *ctx, const struct wal_entry *e)
{
    struct world *w = ctx;
    return kit_collect(&w->log, e);
}

static bool world_open(struct world *w)
{
    struct wal_options o = { .dir = ROOT "/wal",
                             .io = sim_disk_io(w->disk),
                             .create = w->durable == 0,
                             .cluster_id = KIT_CLUSTER,
                             .member_id = KIT_MEMBER,
                             .salt = ++w->term,
                             .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                             .backend = WAL_BACKEND_MANUAL,
                             .replay_from = 1,
                             .on_entry = on_entry,
                             .on_fatal = on_fatal,
                             .on_warning = on_warning,
                             .ctx = w };
    struct errmsg em;
    w->log.first = w->log.last = 0;
    w->fatal = false;
    if (wal_open(&o, &w->wal, &em) != OK) {
        if (!sim_disk_fault_hit(w->disk)) fail_msg("%s", em.text);
        return false;
    }
    uint64_t last = wal_found(w->wal)->last.index;
    assert_true(last >= w->durable && last <= w->newest);
    assert_int_equal(w->log.last, last);
    w->newest = last;
    w->durable = last;
    return true;
}

static void world_turn(struct world *w)
{
    uint64_t count = sim_disk_random(w->disk, 5);
    size_t bytes = (size_t)(1 + sim_disk_random(w->disk, 3000));
    if (count != 0) kit_submit(w->wal, w->term, w->newest + 1, w->newest + count, bytes);
    w->newest += count;
    uint64_t steps = sim_disk_random(w->disk, 4);
    for (uint64_t i = 0; i < steps; i++) wal_step(w->wal);
    struct wal_done done;
    if (wal_poll(w->wal, &done)) {
        assert_true(done.last.index >= w->durable && done.last.index <= w->newest);
        w->durable = done.last.index;
    }
}

static uint64_t run(uint64_t seed)
{
    static struct world w;
    w = (struct world){ .disk = sim_disk_new(ROOT, seed) };
    for (int life = 0; life < LIVES; life++) {
        uint64_t kind = sim_disk_random(w.disk, 4);
        uint64_t n = 1 + sim_disk_random(w.disk, 90);
        if (kind == 1) sim_disk_fail_nth(w.disk, n, SIM_FAIL, EIO);
        if (kind > 1) sim_disk_fail_nth(w.disk, n, SIM_CRASH, EIO);
        if (world_open(&w)) {
            for (int i = 0; i < 40 && !w.fatal; i++) world_turn(&w);
            wal_abandon(w.wal);
        }
        if (sim_disk_is_crashed(w.disk) || seed % 3 != 0) {
            sim_disk_crash(w.disk, seed);
        } else {
            sim_disk_kill(w.disk);
        }
    }
    assert_true(world_open(&w));
    wal_close(w.wal);
    assert_true(w.newest > 0);
    uint64_t trace = sim_disk_trace(w.disk);
    sim_disk_free(w.disk);
    return trace;
}

static void test_a_crash_anywhere_keeps_what_was_reported(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) run(seed);
}

static void test_equal_seeds_are_equal_runs(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) assert_int_equal(run(seed), run(seed));
    assert_true(run(1) != run(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_anywhere_keeps_what_was_reported),
        cmocka_unit_test(test_equal_seeds_are_equal_runs),
    };
    return cmocka_run_group_tests_name("sim/wal", tests, NULL, NULL);
}
