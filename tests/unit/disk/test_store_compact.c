/* Physical compaction against a model: nothing that is visible at or above the compacted revision
 * is lost, what is dead goes, in one run, over reopening, and over kill -9 at any write. */
#include "store_kit.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct store_options options_of(const char *dir, struct workers *workers)
{
    return (struct store_options){ .dir = dir, .workers = workers,
                                   .write_buffer_bytes = 128 << 10 };
}

/* The versions of all keys at some revisions, and the events from there, are the model's. */
static void check_all(const struct kit_model *m, struct store *s)
{
    struct kit_model random = { .seed = m->rev };
    uint64_t span = m->rev - m->compacted + 1;
    for (int i = 0; i < 6; i++) {
        uint64_t rev = m->compacted + (i == 0 ? 0 : kit_random(&random.seed, span));
        kit_check_versions(m, s, rev, store_read_new(STORE_READ_VERSION, 0));
    }
    kit_check_events(m, s, m->compacted, m->rev, 0, KIT_KEYS, NULL, NULL);
    for (uint32_t key = 0; key < KIT_KEYS; key += 7) {
        struct store_read *r = store_read_new(STORE_READ_HISTORY, 0);
        kit_check_history(m, s, key, m->compacted, m->rev, 0, r);
    }
}

/* Bytes of the rows that must be there: visible at or above the compacted revision. */
static uint64_t live_bytes(const struct kit_model *m)
{
    CLEANUP(buf_deinit) struct buf one = { 0 };
    uint64_t bytes = 0;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        const struct kit_row *at = kit_at(m, key, m->compacted);
        for (size_t i = m->newest[key]; i != 0; i = m->rows[i - 1].before) {
            const struct kit_row *r = &m->rows[i - 1];
            if (r->rev <= m->compacted && r != at) break;
            if (r == at && r->op != ROW_PUT && r->rev < m->compacted) continue;
            uint8_t value[KIT_VALUE_MAX];
            char name[16];
            struct row row = kit_full(m, r, name, value);
            buf_clear(&one);
            row_encode(&one, &row, row.rev);
            bytes += one.len;
        }
    }
    return bytes;
}

static void check_space(const struct kit_model *m, struct store *s)
{
    struct store_stats stats;
    store_stats_get(s, &stats);
    uint64_t live = live_bytes(m);
    assert_true(stats.pack_bytes >= live);
    assert_true(stats.pack_bytes <= live * 2 + live / 8 + 64 * stats.pack_count);
}

/* Some changes and batches, sometimes a compaction, all from the model's seed. */
static void grow(struct kit_model *m, struct store *s, bool with_store)
{
    uint64_t number = 0;
    for (int batch = 0; batch < 4; batch++) {
        uint32_t changes = (uint32_t)kit_random(&m->seed, 120);
        for (uint32_t i = 0; i < changes; i++) {
            kit_change(m, kit_random(&m->seed, 20) == 0 ? KIT_KEYS : 1);
        }
        if (with_store) number = kit_submit(m, s);
    }
    uint64_t choice = kit_random(&m->seed, 4);
    uint64_t span = m->rev - m->compacted + 1;
    uint64_t rev = choice == 0 ? m->rev : m->compacted + kit_random(&m->seed, span);
    kit_compact(m, rev);
    if (!with_store) return;
    number = kit_submit(m, s);
    store_compact(s, m->compacted);
    kit_wait_batch(s, number);
}

static void test_compaction_matches_the_model(void **state)
{
    (void)state;
    struct workers *workers;
    assert_int_equal(workers_new(2, &workers, NULL), OK);
    for (uint64_t seed = 1; seed <= KIT_ROUNDS(3); seed++) {
        char *dir = kit_dir();
        struct store_options options = options_of(dir, workers);
        struct kit_model m;
        struct store *s;
        struct kit_loaded loaded;
        struct errmsg em;
        kit_model_init(&m, seed);
        if (seed % 3 == 0) m.value_max = 3; /* many rows a pack */
        for (int round = 0; round < 9; round++) {
            if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
            if (round > 0) kit_check_loaded(&m, &loaded);
            if (round % 3 == 2) {
                kit_wait_floor(s, m.compacted);
                check_space(&m, s);
            }
            grow(&m, s, true);
            kit_wait_floor(s, m.compacted);
            if (round % 3 == 1) grow(&m, s, true);
            check_all(&m, s);
            kit_wait_floor(s, m.compacted);
            check_all(&m, s);
            check_space(&m, s);
            store_close(s);
        }
        kit_model_deinit(&m);
        kit_remove(dir);
    }
    workers_free(workers);
}

/* Only what a durable batch has compacted goes, though more is allowed; and the other way round. */
static void test_nothing_goes_before_both_agree(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir, NULL);
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats stats;
    kit_model_init(&m, 11);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    for (int i = 0; i < 500; i++) kit_change(&m, 1);
    kit_wait_batch(s, kit_submit(&m, s));
    store_compact(s, m.rev);
    for (int i = 0; i < 500; i++) kit_change(&m, 1);
    kit_wait_batch(s, kit_submit(&m, s));
    kit_wait_floor(s, 0);
    store_stats_get(s, &stats);
    assert_int_equal(stats.floor_rev, 0);
    assert_int_equal(stats.packs_deleted + stats.packs_rewritten, 0);

    kit_compact(&m, m.rev); /* further than is allowed */
    kit_wait_batch(s, kit_submit(&m, s));
    kit_wait_floor(s, 501);
    store_stats_get(s, &stats);
    assert_int_equal(stats.floor_rev, 501);
    assert_true(stats.packs_deleted + stats.packs_rewritten > 0);
    store_compact(s, m.rev);
    kit_wait_floor(s, m.rev);
    check_space(&m, s);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_all_rows_of_deleted_keys_go(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir, NULL);
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats stats;
    kit_model_init(&m, 12);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    for (int i = 0; i < 300; i++) kit_change(&m, KIT_KEYS);
    m.rev++;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        if (m.keys[key].live) kit_event(&m, key + 1, key, ROW_DEL, false);
    }
    uint64_t deleted_rev = m.rev;
    m.rev++;
    kit_event(&m, 1, 5, ROW_PUT, false);
    kit_compact(&m, deleted_rev);
    kit_wait_batch(s, kit_submit(&m, s));
    store_compact(s, deleted_rev);
    kit_wait_floor(s, deleted_rev);
    check_space(&m, s); /* the tombstones at the compacted revision are still there */
    kit_compact(&m, m.rev);
    kit_wait_batch(s, kit_submit(&m, s));
    store_compact(s, m.rev);
    kit_wait_floor(s, m.rev);
    store_stats_get(s, &stats);
    assert_int_equal(stats.pack_count, 1);
    assert_true(stats.pack_bytes < 1024);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- kill -9 ----------------------------------------------------------------------------- */

#define KILL_ROUNDS 10

/* Plays the model's rounds from what the store has on; kills itself at a write. */
static int child_killed(const char *dir, const char *args)
{
    uint64_t seed = 0;
    uint64_t writes = 0;
    if (sscanf(args, "%" SCNu64 ",%" SCNu64, &seed, &writes) != 2) return 1;
    struct store_options options = options_of(dir, NULL);
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats stats;
    kit_model_init(&m, seed);
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 2;
    for (int round = 0; round < KILL_ROUNDS; round++) grow(&m, s, true);
    do { /* between which slices this falls depends on the machine; it is right anywhere */
        store_stats_get(s, &stats);
    } while (stats.write_count < writes && stats.compacting);
    kill(getpid(), SIGKILL);
    return 3;
}

static void test_a_killed_process_loses_nothing_durable(void **state)
{
    (void)state;
    struct workers *workers;
    assert_int_equal(workers_new(1, &workers, NULL), OK);
    for (uint64_t i = 0; i < KIT_ROUNDS(9); i++) {
        char *dir = kit_dir();
        char args[64];
        int status;
        uint64_t seed = 100 + i % 3;
        snprintf(args, sizeof args, "%" PRIu64 ",%" PRIu64, seed, 90 + 3 * i);
        pid_t child = kit_spawn("killed", dir, args);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));

        struct store_options options = options_of(dir, workers);
        struct kit_model m;
        struct store *s;
        struct kit_loaded loaded;
        struct errmsg em;
        kit_model_init(&m, seed);
        for (int round = 0; round < KILL_ROUNDS; round++) grow(&m, NULL, false);
        m.next_row = m.row_count;
        for (int round = 0; round < 3; round++) {
            if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
            kit_check_loaded(&m, &loaded);
            assert_int_equal(loaded.compacted, m.compacted);
            check_all(&m, s);
            kit_wait_floor(s, m.compacted);
            check_space(&m, s);
            grow(&m, s, true);
            check_all(&m, s);
            store_close(s);
        }
        kit_model_deinit(&m);
        kit_remove(dir);
    }
    workers_free(workers);
}

/* --- the order of the two writes ----------------------------------------------------------- */

#define EMPTY_BATCHES 200
#define LIMIT_BYTES 16384 /* less than the log of meta/ then has, more than that of rows/ needs */

static void model_of_order(struct kit_model *m)
{
    kit_model_init(m, 21);
    m->value_max = 20;
    for (int i = 0; i < 300; i++) kit_change(m, 1);
}

static void say_nothing(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

/* Compacts when meta/ cannot be written any more, but rows/ can. */
static int child_limited(const char *dir, const char *unused)
{
    struct store_options options = options_of(dir, NULL);
    struct rlimit limit = { LIMIT_BYTES, LIMIT_BYTES };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    (void)unused;
    options.on_fatal = say_nothing;
    signal(SIGXFSZ, SIG_IGN);
    model_of_order(&m);
    m.next_row = m.row_count;
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 1;
    kit_compact(&m, m.rev);
    for (int i = 1; i < EMPTY_BATCHES; i++) kit_submit(&m, s);
    kit_wait_batch(s, kit_submit(&m, s));
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    store_compact(s, m.rev);
    kit_wait_floor(s, m.rev);
    return 3;
}

/* Rows go only after meta/ has said so: when it cannot, they are all there. */
static void test_no_row_goes_before_its_marker(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir, NULL);
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    int status;
    model_of_order(&m);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    kit_submit(&m, s);
    store_close(s);
    pid_t child = kit_spawn("limited", dir, "");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STORE_EXIT_CODE);
    if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(loaded.compacted, m.rev);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- disk space ----------------------------------------------------------------------------- */

/* The files shrink with the packs, though nothing but deletions is written. */
static void test_files_shrink(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir, NULL);
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats stats;
    kit_model_init(&m, 14);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    uint64_t number = 0;
    for (int batch = 0; batch < 60; batch++) {
        for (int i = 0; i < 10; i++) kit_change(&m, KIT_KEYS);
        number = kit_submit(&m, s);
    }
    kit_wait_batch(s, number);
    store_stats_get(s, &stats);
    assert_true(stats.pack_bytes > 8 << 20);
    kit_compact(&m, m.rev);
    kit_wait_batch(s, kit_submit(&m, s));
    store_compact(s, m.rev);
    kit_wait_floor(s, m.rev);
    store_stats_get(s, &stats);
    assert_true(stats.pack_bytes < 256 << 10);
    assert_true(store_disk_bytes(s) < 1 << 20);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void add_put(struct store_batch *b, uint64_t rev, const char *key, uint64_t prev, size_t bytes)
{
    CLEANUP(buf_deinit) struct buf pack = { 0 };
    uint8_t *value = mem_zalloc(bytes);
    struct row row = { .rev = rev, .n = 1, .op = ROW_PUT, .create = prev == 0 ? rev : prev,
                       .version = 1, .prev = prev, .key = slice_of(key), .value = { value, bytes } };
    buf_append_u8(&pack, PACK_FORMAT);
    row_encode(&pack, &row, rev);
    store_batch_pack(b, rev, 1, blob_copy(buf_slice(&pack)));
    mem_free(value);
}

/* Packs of which one alone fills a slice. */
static void test_a_pack_larger_than_a_slice_is_passed(void **state)
{
    (void)state;
    static const size_t files_from[] = { 1, SIZE_MAX };
    for (size_t i = 0; i < ARRAY_LEN(files_from); i++) {
        char *dir = kit_dir();
        struct store_options options = { .dir = dir, .manual = true, .file_batch_bytes = files_from[i] };
        struct store *s;
        struct kit_loaded loaded;
        struct store_stats stats;
        assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
        struct store_batch *b = store_batch_new();
        add_put(b, 2, "x", 0, 5);
        add_put(b, 3, "large", 0, STORE_SLICE_BYTES);
        add_put(b, 4, "larger", 0, 3 * STORE_SLICE_BYTES);
        add_put(b, 5, "x", 2, 5);
        store_submit(s, b, &(struct store_cut){ 1, 1, 5 });
        store_compact(s, 5);
        int steps = 0;
        while (store_step(s)) assert_true(++steps < 100);
        store_stats_get(s, &stats);
        assert_int_equal(stats.floor_rev, 5);
        assert_int_equal(stats.pack_count, 3);
        assert_false(stats.compacting);
        store_close(s);
        kit_remove(dir);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "killed") == 0) return child_killed(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "limited") == 0) return child_limited(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pack_larger_than_a_slice_is_passed),
        cmocka_unit_test(test_compaction_matches_the_model),
        cmocka_unit_test(test_nothing_goes_before_both_agree),
        cmocka_unit_test(test_all_rows_of_deleted_keys_go),
        cmocka_unit_test(test_a_killed_process_loses_nothing_durable),
        cmocka_unit_test(test_no_row_goes_before_its_marker),
        cmocka_unit_test(test_files_shrink),
    };
    return cmocka_run_group_tests_name("disk/store_compact", tests, NULL, NULL);
}
