/* The modelled LevelDB against a plain table of keys: what it answers, what is in its files, what
 * it finds again; its log is one that src/disk/store_log.c reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/store_log.h"
#include "sim_leveldb_int.h"

#define DIR "/l/db"
#define KEYS 40
#define VALUE_MAX 70000

struct fixture {
    struct sim_disk *disk;
    leveldb_options_t *options;
    leveldb_writeoptions_t *synced;
    leveldb_readoptions_t *checked;
    leveldb_t *db;
    uint64_t values[KEYS]; /* seed of the value, 0: there is none */
};

static void must(char *text)
{
    if (text != NULL) fail_msg("%s", text);
}

static void begin(struct fixture *f, uint64_t seed)
{
    *f = (struct fixture){ .disk = sim_disk_new("/l", seed) };
    f->options = leveldb_options_create();
    f->synced = leveldb_writeoptions_create();
    f->checked = leveldb_readoptions_create();
    leveldb_options_set_create_if_missing(f->options, 1);
    leveldb_options_set_paranoid_checks(f->options, 1);
    leveldb_options_set_write_buffer_size(f->options, 64u << 10);
    leveldb_writeoptions_set_sync(f->synced, 1);
    const struct disk_io *io = sim_disk_io(f->disk);
    assert_int_equal(io->mkdir(io->ctx, DIR), 0);
    assert_int_equal(io->dirsync(io->ctx, "/l"), 0);
}

static char *open_db(struct fixture *f)
{
    char *text = NULL;
    f->db = leveldb_open(f->options, DIR, &text);
    return text;
}

static void end(struct fixture *f)
{
    leveldb_close(f->db);
    leveldb_options_destroy(f->options);
    leveldb_writeoptions_destroy(f->synced);
    leveldb_readoptions_destroy(f->checked);
    sim_disk_free(f->disk);
}

static size_t make_value(uint64_t seed, char *out)
{
    size_t len = (size_t)(u64_mix(seed) % (u64_mix(seed + 1) % 16 == 0 ? VALUE_MAX : 300));
    for (size_t i = 0; i < len; i++) out[i] = (char)(seed * 31 + i);
    return len;
}

static size_t make_key(size_t key, char out[8]) { return (size_t)snprintf(out, 8, "k%03zu", key); }

static void write_some(struct fixture *f)
{
    static char value[VALUE_MAX];
    char name[8];
    char *text = NULL;
    leveldb_writebatch_t *b = leveldb_writebatch_create();
    uint64_t count = 1 + sim_disk_random(f->disk, 8);
    for (uint64_t i = 0; i < count; i++) {
        size_t key = (size_t)sim_disk_random(f->disk, KEYS);
        f->values[key] = sim_disk_random(f->disk, 4) == 0 ? 0 : sim_disk_random(f->disk, UINT64_MAX);
        size_t name_len = make_key(key, name);
        if (f->values[key] == 0) {
            leveldb_writebatch_delete(b, name, name_len);
        } else {
            leveldb_writebatch_put(b, name, name_len, value, make_value(f->values[key], value));
        }
    }
    leveldb_write(f->db, f->synced, b, &text);
    must(text);
    leveldb_writebatch_destroy(b);
    const struct disk_io *io = sim_disk_io(f->disk); /* as src/disk does: a new log's name */
    assert_int_equal(io->dirsync(io->ctx, DIR), 0);
}

static void check_item(const leveldb_iterator_t *it, size_t key, uint64_t seed)
{
    static char want[VALUE_MAX];
    char name[8];
    size_t len = 0;
    assert_true(leveldb_iter_valid(it));
    const char *at = leveldb_iter_key(it, &len);
    assert_int_equal(len, make_key(key, name));
    assert_memory_equal(at, name, len);
    at = leveldb_iter_value(it, &len);
    assert_int_equal(len, make_value(seed, want));
    assert_memory_equal(at, want, len);
}

/* All of it, forward and back, as `values` has it. */
static void check_all(leveldb_iterator_t *it, const uint64_t *values)
{
    char *text = NULL;
    leveldb_iter_seek_to_first(it);
    for (size_t key = 0; key < KEYS; key++) {
        if (values[key] == 0) continue;
        check_item(it, key, values[key]);
        leveldb_iter_next(it);
    }
    assert_false(leveldb_iter_valid(it));
    leveldb_iter_seek_to_last(it);
    for (size_t key = KEYS; key-- > 0;) {
        if (values[key] == 0) continue;
        check_item(it, key, values[key]);
        leveldb_iter_prev(it);
    }
    assert_false(leveldb_iter_valid(it));
    leveldb_iter_get_error(it, &text);
    must(text);
}

static void check_now(struct fixture *f)
{
    leveldb_iterator_t *it = leveldb_create_iterator(f->db, f->checked);
    check_all(it, f->values);
    char name[8];
    size_t key = (size_t)sim_disk_random(f->disk, KEYS);
    size_t next = key;
    leveldb_iter_seek(it, name, make_key(key, name));
    while (next < KEYS && f->values[next] == 0) next++;
    assert_int_equal(leveldb_iter_valid(it), next < KEYS);
    if (next < KEYS) check_item(it, next, f->values[next]);
    leveldb_iter_destroy(it);
    size_t len = 0;
    char *text = NULL;
    char *value = leveldb_get(f->db, f->checked, name, make_key(key, name), &len, &text);
    must(text);
    assert_int_equal(value != NULL, f->values[key] != 0);
    leveldb_free(value);
}

static void test_it_keeps_what_was_written(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct fixture f;
        begin(&f, seed);
        must(open_db(&f));
        for (int i = 0; i < 150; i++) {
            write_some(&f);
            if (i % 10 == 0) check_now(&f);
            if (i % 37 == 0) leveldb_compact_range(f.db, NULL, 0, NULL, 0);
            if (sim_disk_random(f.disk, 20) != 0) continue;
            leveldb_close(f.db);
            sim_disk_crash(f.disk, 0);
            must(open_db(&f));
            check_now(&f);
        }
        end(&f);
    }
}

static void test_a_snapshot_does_not_change(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t before[KEYS];
    begin(&f, 7);
    must(open_db(&f));
    for (int i = 0; i < 20; i++) write_some(&f);
    memcpy(before, f.values, sizeof before);
    const leveldb_snapshot_t *snapshot = leveldb_create_snapshot(f.db);
    leveldb_readoptions_t *then = leveldb_readoptions_create();
    leveldb_readoptions_set_snapshot(then, snapshot);
    leveldb_iterator_t *now = leveldb_create_iterator(f.db, f.checked);
    for (int i = 0; i < 20; i++) write_some(&f);
    leveldb_iterator_t *it = leveldb_create_iterator(f.db, then);
    check_all(it, before);
    check_all(now, before);
    check_now(&f);
    leveldb_iter_destroy(it);
    leveldb_iter_destroy(now);
    leveldb_readoptions_destroy(then);
    leveldb_release_snapshot(f.db, snapshot);
    end(&f);
}

struct newest {
    char path[SIM_PATH_BYTES];
};

static int find_log(void *ctx, const char *name)
{
    struct newest *n = ctx;
    char path[SIM_PATH_BYTES];
    if (strstr(name, ".log") == NULL) return 0;
    snprintf(path, sizeof path, DIR "/%.60s", name);
    if (strcmp(path, n->path) > 0) memcpy(n->path, path, sizeof path);
    return 0;
}

static struct sim_file *newest_log(struct fixture *f)
{
    struct newest n = { "" };
    const struct disk_io *io = sim_disk_io(f->disk);
    assert_int_equal(io->list(io->ctx, DIR, find_log, &n), 0);
    return sim_disk_get(f->disk, n.path);
}

static void test_its_log_is_leveldbs(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 11);
    must(open_db(&f));
    uint64_t batches = 0;
    while (newest_log(&f)->now_bytes < 60000) {
        write_some(&f);
        batches++;
    }
    const struct sim_file *log = newest_log(&f);
    struct store_log_scan scan;
    size_t bad_at = 0;
    assert_int_equal(store_log_scan((struct slice){ log->now, log->now_bytes }, &scan, &bad_at), OK);
    assert_int_equal(scan.batch_count, batches);
    assert_int_equal(scan.valid_bytes, log->now_bytes);
    assert_false(scan.torn);
    end(&f);
}

/* A log cut anywhere loses what was cut; a flipped bit is refused, or it is in the last record and
 * that is not there. */
static void test_a_cut_is_the_end_and_a_flip_is_damage(void **state)
{
    (void)state;
    uint64_t refused = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct fixture f;
        begin(&f, seed);
        must(open_db(&f));
        for (int i = 0; i < 6; i++) write_some(&f);
        uint64_t before[KEYS];
        memcpy(before, f.values, sizeof before);
        size_t last_at = newest_log(&f)->now_bytes;
        write_some(&f);
        struct sim_file *log = newest_log(&f);
        bool same_log = log->now_bytes > last_at;
        leveldb_close(f.db);
        bool flip = seed % 2 == 0;
        size_t at = same_log ? last_at + (size_t)sim_disk_random(f.disk, log->now_bytes - last_at) : 0;
        if (flip && same_log) log->now[at] ^= 4;
        if (!flip && same_log) sim_disk_resize(f.disk, log, at);
        sim_disk_settle(f.disk);
        char *text = open_db(&f);
        if (text != NULL) {
            assert_true(flip);
            assert_non_null(strstr(text, "Corruption: "));
            leveldb_free(text);
            refused++;
            sim_disk_kill(f.disk);
            leveldb_options_destroy(f.options);
            leveldb_writeoptions_destroy(f.synced);
            leveldb_readoptions_destroy(f.checked);
            sim_disk_free(f.disk);
            continue;
        }
        if (same_log) memcpy(f.values, before, sizeof before);
        check_now(&f);
        end(&f);
    }
    assert_true(refused > 20);
}

static void test_a_damaged_table_is_told_by_reads(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 5);
    must(open_db(&f));
    for (int i = 0; i < 30; i++) write_some(&f);
    leveldb_compact_range(f.db, NULL, 0, NULL, 0);
    leveldb_close(f.db);
    assert_true(sim_disk_flip(f.disk, ".ldb", 3, NULL));
    must(open_db(&f));
    char *text = NULL;
    leveldb_iterator_t *it = leveldb_create_iterator(f.db, f.checked);
    leveldb_iter_get_error(it, &text);
    assert_non_null(text);
    assert_non_null(strstr(text, "Corruption: block checksum mismatch"));
    leveldb_free(text);
    leveldb_iter_destroy(it);
    end(&f);
}

static void test_errors_are_leveldbs(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 5);
    leveldb_options_set_create_if_missing(f.options, 0);
    char *text = open_db(&f);
    assert_string_equal(text, "Invalid argument: " DIR ": does not exist (create_if_missing is false)");
    leveldb_free(text);
    leveldb_options_set_create_if_missing(f.options, 1);
    must(open_db(&f));
    leveldb_t *first = f.db;
    text = open_db(&f);
    assert_non_null(strstr(text, "IO error: lock"));
    leveldb_free(text);
    f.db = first;
    sim_disk_fail_nth(f.disk, 1, SIM_FAIL, ENOSPC);
    leveldb_writebatch_t *b = leveldb_writebatch_create();
    leveldb_writebatch_put(b, "k", 1, "v", 1);
    text = NULL;
    leveldb_write(f.db, f.synced, b, &text);
    assert_non_null(strstr(text, ".log: No space left on device"));
    leveldb_free(text);
    leveldb_writebatch_destroy(b);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_keeps_what_was_written),
        cmocka_unit_test(test_a_snapshot_does_not_change),
        cmocka_unit_test(test_its_log_is_leveldbs),
        cmocka_unit_test(test_a_cut_is_the_end_and_a_flip_is_damage),
        cmocka_unit_test(test_a_damaged_table_is_told_by_reads),
        cmocka_unit_test(test_errors_are_leveldbs),
    };
    return cmocka_run_group_tests_name("sim/leveldb", tests, NULL, NULL);
}
