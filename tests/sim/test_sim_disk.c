/* The store on the modelled disk and the modelled LevelDB: it is crashed at any operation, its disk
 * fails, fills up, flips bits; what is found afterwards is one of the states that were submitted,
 * and not an older one than the newest that was reported durable. Equal seeds are equal runs.
 * `test_sim_disk FIRST COUNT` runs other seeds than those of every day. */
#include "../unit/disk/store_kit.h"
#include "base/log.h"
#include "disk/store_export.h"
#include "sim_leveldb.h"

#include <time.h>

#define ROOT "/n1"
#define STORE_DIR ROOT "/db"
#define SEEDS 150
#define LIVES 10
#define TURNS 40

struct world {
    struct sim_disk *disk;
    struct kit_model model;
    uint64_t seed;
    struct workers *workers;
    struct store *store;
    bool fatal;
    bool fault_asked;
    uint64_t durable_index; /* reported */
    /* What the runs met, over all seeds. */
    uint64_t *crashes;
    uint64_t *behind; /* openings that found an older state than the newest submitted */
    uint64_t *refused;
};

static uint64_t first_seed = 1;
static uint64_t seed_count = SEEDS;
static uint64_t last_seed;

static uint64_t draw(struct world *w, uint64_t below) { return kit_random(&w->seed, below); }

static void on_fatal(void *ctx, const char *text)
{
    struct world *w = ctx;
    if (!w->fault_asked) fail_msg("%s", text);
    w->fatal = true;
}

static struct store_options options_of(struct world *w)
{
    return (struct store_options){
        .dir = STORE_DIR,
        .workers = w->workers,
        .on_fatal = on_fatal,
        .on_fatal_ctx = w,
        .write_buffer_bytes = 16u << 10,
        .io = sim_disk_io(w->disk),
        .manual = true,
    };
}

static void world_init(struct world *w, uint64_t seed)
{
    w->seed = seed;
    w->disk = sim_disk_new(ROOT, seed);
    kit_model_init(&w->model, seed);
}

static void world_deinit(struct world *w)
{
    kit_model_deinit(&w->model);
    sim_disk_free(w->disk);
}

/* Takes what was reported. */
static void world_poll(struct world *w)
{
    struct store_done done;
    store_poll(w->store, &done);
    assert_null(done.reads);
    assert_true(done.applied_index >= w->durable_index);
    assert_true(done.applied_index <= w->model.index);
    w->durable_index = done.applied_index;
}

/* The log has what the store did not: it comes again. */
static void world_rewind(struct world *w, uint64_t rev)
{
    struct kit_model *m = &w->model;
    m->next_row = m->row_count;
    while (m->next_row > 0 && m->rows[m->next_row - 1].rev > rev) m->next_row--;
}

/* False: it was refused, for which there is an excuse. */
static bool world_open(struct world *w)
{
    static struct kit_loaded loaded;
    struct errmsg em = { "" };
    w->fatal = false;
    assert_int_equal(workers_new(0, &w->workers, NULL), OK);
    struct store_options options = options_of(w);
    enum err e = kit_open(&options, &w->store, &loaded, &em);
    if (e != OK) {
        bool full = strstr(em.text, "No space left") != NULL;
        if (!w->fault_asked || (!sim_disk_fault_hit(w->disk) && !full)) fail_msg("%s", em.text);
        assert_true(em.text[0] != '\0');
        workers_free(w->workers);
        ++*w->refused;
        return false;
    }
    assert_true(loaded.index >= w->durable_index);
    assert_true(loaded.index <= w->model.index);
    if (loaded.has_meta) kit_check_loaded(&w->model, &loaded);
    *w->behind += loaded.index < w->model.index;
    w->durable_index = loaded.index;
    world_rewind(w, loaded.rev);
    if (loaded.index < w->model.index) kit_submit(&w->model, w->store);
    return true;
}

/* The process ends, with or without power. */
static void world_end(struct world *w)
{
    workers_abandon(w->workers);
    store_abandon(w->store);
    ++*w->crashes;
}

/* In order; what does not fit on the disk is left out, and is in the log. */
static void world_leave(struct world *w)
{
    store_stop(w->store);
    for (int i = 0; i < 3; i++) {
        kit_change(&w->model, 3);
        kit_submit(&w->model, w->store);
    }
    store_close(w->store);
    workers_free(w->workers);
}

static void world_power(struct world *w)
{
    sim_disk_set_free_bytes(w->disk, UINT64_MAX);
    w->fault_asked = false;
    if (sim_disk_is_crashed(w->disk) || draw(w, 3) != 0) {
        sim_disk_crash(w->disk, draw(w, UINT64_MAX));
    } else {
        sim_disk_kill(w->disk);
    }
}

static bool is_idle(struct world *w)
{
    while (!w->fatal && store_step(w->store)) {
    }
    if (w->fatal) return false;
    world_poll(w);
    assert_int_equal(w->durable_index, w->model.index);
    return true;
}

/* Everything is durable: history is read and compared. */
static void world_read(struct world *w)
{
    struct kit_model *m = &w->model;
    if (m->row_count == 0 || m->index == 0 || !is_idle(w)) return;
    uint64_t from = MAX(m->compacted, (uint64_t)2);
    uint64_t rev = from + draw(w, m->rev + 1 - from);
    kit_check_versions(m, w->store, rev, store_read_new(STORE_READ_VERSION, 1));
    kit_check_events(m, w->store, rev, m->rev, 0, KIT_KEYS, NULL, NULL);
}

static void world_turn(struct world *w)
{
    struct kit_model *m = &w->model;
    uint64_t what = draw(w, 16);
    if (what < 5) {
        uint64_t changes = 1 + draw(w, 12);
        for (uint64_t i = 0; i < changes; i++) kit_change(m, (uint32_t)(1 + draw(w, 4)));
        kit_submit(m, w->store);
    } else if (what == 5 && m->rev > m->compacted + 4) {
        kit_compact(m, m->rev - draw(w, 4));
        kit_submit(m, w->store);
    } else if (what == 6) {
        store_compact(w->store, m->compacted);
    } else if (what == 7) {
        world_read(w);
    } else {
        store_step(w->store);
    }
    if (!w->fatal) world_poll(w);
}

static void ask_fault(struct world *w)
{
    static const int errors[] = { EIO, ENOSPC };
    uint64_t what = draw(w, 8);
    uint64_t n = 1 + draw(w, draw(w, 4) == 0 ? 50 : 400); /* opening has about 40 */
    w->fault_asked = what != 0;
    if (what == 1) {
        sim_disk_fail_nth(w->disk, n, SIM_FAIL, errors[draw(w, 2)]);
    } else if (what == 2) {
        sim_disk_fail_nth(w->disk, n, SIM_SHORT, EIO);
    } else if (what == 3) {
        sim_disk_set_free_bytes(w->disk, draw(w, 200u << 10));
    } else if (what > 3) {
        sim_disk_fail_nth(w->disk, n, SIM_CRASH, 0);
    }
}

static uint64_t run(uint64_t seed, uint64_t figures[3])
{
    struct world w = { .crashes = &figures[0], .behind = &figures[1], .refused = &figures[2] };
    world_init(&w, seed);
    for (int life = 0; life < LIVES; life++) {
        ask_fault(&w);
        if (world_open(&w)) {
            for (int i = 0; i < TURNS && !w.fatal; i++) world_turn(&w);
            if (w.fatal || draw(&w, 4) != 0) world_end(&w);
            else world_leave(&w);
        }
        world_power(&w);
    }
    /* And with a disk that works everything comes to an end. */
    assert_true(world_open(&w));
    kit_change(&w.model, 1);
    kit_submit(&w.model, w.store);
    store_compact(w.store, w.model.compacted);
    assert_true(is_idle(&w));
    store_close(w.store);
    workers_free(w.workers);
    uint64_t last_index = w.model.index;
    assert_true(world_open(&w));
    assert_int_equal(w.durable_index, last_index);
    store_close(w.store);
    workers_free(w.workers);
    uint64_t trace = sim_disk_trace(w.disk);
    world_deinit(&w);
    return trace;
}

static void test_a_crash_anywhere_leaves_a_state_that_was_submitted(void **state)
{
    (void)state;
    uint64_t figures[3] = { 0 };
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
        last_seed = seed;
        run(seed, figures);
    }
    print_message("crashes %" PRIu64 ", behind %" PRIu64 ", refused %" PRIu64 "\n", figures[0],
                  figures[1], figures[2]);
    assert_true(figures[0] > seed_count * LIVES / 2);
    assert_true(figures[1] > seed_count);
    assert_true(figures[2] > seed_count / 4);
}

/* A batch whose packs go to a file, of which each operation fails in turn, also while compaction
 * removes files: what was reported durable outlives a power cut, and the directory is never refused. */
static void test_each_failure_of_a_large_batch(void **state)
{
    (void)state;
    uint64_t survived = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        for (uint64_t n = 1; n <= 20; n++) {
            uint64_t figures[3] = { 0 };
            struct world w = { .crashes = &figures[0], .behind = &figures[1], .refused = &figures[2] };
            world_init(&w, seed);
            assert_true(world_open(&w));
            /* In some runs memory has more than the batch will, and is full when that comes. */
            for (uint64_t i = 0; i < seed % 48; i++) {
                kit_change(&w.model, 2);
                kit_submit(&w.model, w.store);
                assert_true(is_idle(&w));
            }
            w.fault_asked = true;
            sim_disk_fail_nth(w.disk, n, seed % 2 == 0 ? SIM_FAIL : SIM_SHORT, seed % 3 == 0 ? EIO : ENOSPC);
            for (uint64_t i = 0; i < 8 + seed % 5; i++) kit_change(&w.model, 4);
            kit_submit(&w.model, w.store);
            while (!w.fatal && store_step(w.store)) {
            }
            world_poll(&w);
            survived += !w.fatal && sim_disk_fault_hit(w.disk);
            world_end(&w);
            sim_disk_crash(w.disk, n);
            w.fault_asked = false;
            assert_true(world_open(&w));
            assert_true(is_idle(&w));
            world_leave(&w);
            world_deinit(&w);
        }
    }
    assert_true(survived > 0); /* a new log that cannot be made is no reason to end */
}

static void test_equal_seeds_are_equal_runs(void **state)
{
    (void)state;
    uint64_t figures[3];
    uint64_t before = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t trace = run(seed, figures);
        assert_int_equal(run(seed, figures), trace);
        assert_true(trace != before);
        before = trace;
    }
}

/* Without room the end is left out, by a stop only; an export that waits still gets its view. */
static void test_a_stop_without_room_leaves_the_end_out(void **state)
{
    (void)state;
    uint64_t gave_up = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t figures[3] = { 0 };
        struct world w = { .crashes = &figures[0], .behind = &figures[1], .refused = &figures[2] };
        struct done_queue done;
        done_queue_init_manual(&done);
        world_init(&w, seed);
        assert_true(world_open(&w)); /* no fault is asked for: on_fatal fails the test */
        for (int i = 0; i < TURNS; i++) world_turn(&w);
        kit_change(&w.model, 1);
        kit_submit(&w.model, w.store);
        assert_true(is_idle(&w));
        sim_disk_set_free_bytes(w.disk, draw(&w, 32u << 10));
        store_stop(w.store);
        for (int i = 0; i < 100 && !store_gave_up(w.store); i++) {
            kit_change(&w.model, KIT_KEYS);
            kit_submit(&w.model, w.store);
            if (draw(&w, 2) == 0) store_compact(w.store, w.model.compacted);
            while (store_step(w.store)) {
            }
        }
        gave_up += store_gave_up(w.store);
        struct store_export *e = store_export_new(w.store, &done);
        store_step(w.store);
        assert_ptr_equal(done_queue_take(&done), store_export_work(e));
        /* It has what the marker names, and not the packs of a batch that did not get one. */
        while (store_export_result(e, NULL) == OK && !store_export_at_end(e)) {
            store_export_next(e);
            assert_true(workers_step(w.workers));
            assert_ptr_equal(done_queue_take(&done), store_export_work(e));
        }
        struct errmsg em = { "" };
        if (store_export_result(e, &em) != OK) fail_msg("%s", em.text);
        store_export_free(e);
        world_poll(&w);
        world_leave(&w);
        sim_disk_set_free_bytes(w.disk, UINT64_MAX);
        assert_true(world_open(&w)); /* at least what was reported */
        assert_true(is_idle(&w));
        world_leave(&w);
        done_queue_deinit(&done);
        world_deinit(&w);
    }
    assert_int_equal(gave_up, SEEDS);
}

/* One bit of what was synced: it is refused, or what is loaded is a state that was submitted (the
 * end of the last log is then taken for torn: the log has it again). */
static void test_a_flipped_bit_is_never_loaded(void **state)
{
    (void)state;
    uint64_t refused = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t figures[3] = { 0 };
        static struct kit_loaded loaded;
        struct world w = { .crashes = &figures[0], .behind = &figures[1], .refused = &figures[2] };
        world_init(&w, seed);
        assert_true(world_open(&w));
        for (int i = 0; i < 60; i++) world_turn(&w);
        assert_true(is_idle(&w));
        world_end(&w);
        const char *path = NULL;
        assert_true(sim_disk_flip(w.disk, STORE_DIR "/", seed, &path));
        struct errmsg em = { "" };
        assert_int_equal(workers_new(0, &w.workers, NULL), OK);
        struct store_options options = options_of(&w);
        enum err e = kit_open(&options, &w.store, &loaded, &em);
        if (e == OK) {
            if (loaded.has_meta) kit_check_loaded(&w.model, &loaded);
            assert_true(loaded.index <= w.model.index);
            workers_abandon(w.workers);
            store_abandon(w.store);
        } else {
            assert_int_equal(e, ERR_CORRUPT);
            assert_true(em.text[0] != '\0');
            workers_free(w.workers);
            refused++;
        }
        world_deinit(&w);
    }
    print_message("refused %" PRIu64 " of %d\n", refused, SEEDS);
    assert_true(refused > SEEDS / 2);
}

static int say_seed(void **state)
{
    (void)state;
    if (last_seed != 0) print_message("seed %" PRIu64 "\n", last_seed);
    return 0;
}

int main(int argc, char **argv)
{
    log_level_set(LOG_ERROR);
    if (argc == 3) {
        first_seed = strtoull(argv[1], NULL, 10);
        seed_count = strtoull(argv[2], NULL, 10);
        const struct CMUnitTest one[] = { cmocka_unit_test_teardown(
            test_a_crash_anywhere_leaves_a_state_that_was_submitted, say_seed) };
        return cmocka_run_group_tests_name("sim/disk", one, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_crash_anywhere_leaves_a_state_that_was_submitted, say_seed),
        cmocka_unit_test(test_each_failure_of_a_large_batch),
        cmocka_unit_test(test_equal_seeds_are_equal_runs),
        cmocka_unit_test(test_a_stop_without_room_leaves_the_end_out),
        cmocka_unit_test(test_a_flipped_bit_is_never_loaded),
    };
    return cmocka_run_group_tests_name("sim/disk", tests, NULL, NULL);
}
