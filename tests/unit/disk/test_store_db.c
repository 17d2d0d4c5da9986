/* What is opened is whole: every torn end of the log is recovered to the batch before, and any
 * other damage of any file is refused or changes nothing. Each open runs in a process of its own,
 * because LevelDB aborts on some of it. */
#include "store_kit.h"

#include <signal.h>
#include <sys/wait.h>

#include "disk/store_db.h"

#define BATCHES 40
#define CHANGES 5

/* What a child reports of a directory. */
struct report {
    uint64_t index;
    uint64_t row_count;
    uint32_t rows_crc;
    uint32_t keys_right;
};

static void model_to(struct kit_model *m, uint64_t index)
{
    kit_model_init(m, 31);
    while (m->index < index) kit_change(m, 1 + (uint32_t)(m->index % 11 == 0) * 30);
}

static uint32_t crc_of_model(const struct kit_model *m)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < m->row_count; i++) {
        uint8_t value[KIT_VALUE_MAX];
        struct slice v = kit_value(m, &m->rows[i], value);
        crc = crc32c(crc, &m->rows[i].rev, sizeof m->rows[i].rev);
        crc = crc32c(crc, v.at, v.len);
    }
    return crc;
}

struct load {
    struct kit_loaded loaded;
    uint32_t crc;
};

static enum err load_meta(void *ctx, struct slice name, struct slice value)
{
    return kit_load_meta(&((struct load *)ctx)->loaded, name, value);
}

static enum err load_pack(void *ctx, uint64_t first_rev, uint32_t first_n, struct slice pack)
{
    struct load *load = ctx;
    size_t offset = 0;
    TRY(pack_begin(pack, &offset));
    while (offset < pack.len) {
        struct row row;
        TRY(row_decode(pack, &offset, first_rev, &row));
        load->crc = crc32c(load->crc, &row.rev, sizeof row.rev);
        load->crc = crc32c(load->crc, row.value.at, row.value.len);
    }
    return kit_load_pack(&load->loaded, first_rev, first_n, pack);
}

/* Exit 0: a report was written; 10: refused with a text. */
static int child_open(const char *dir, const char *fd)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 64 << 10 };
    struct store_info info;
    struct store *s;
    struct errmsg em = { "" };
    struct load load = { 0 };
    enum err e = store_open(&options, &s, &info, &em);
    if (e == OK) e = store_scan(s, load_meta, load_pack, &load, &em);
    if (e != OK) _exit(em.text[0] != '\0' ? 10 : 11);
    struct kit_model m;
    model_to(&m, info.applied_index);
    if (load.loaded.has_meta) kit_check_loaded(&m, &load.loaded);
    struct report report = { info.applied_index, load.loaded.row_count, load.crc,
                             load.crc == crc_of_model(&m) &&
                                 load.loaded.row_count == m.row_count };
    _exit(write(atoi(fd), &report, sizeof report) == sizeof report ? 0 : 12); /* no close */
}

/* True and *out if it opened; false if it was refused. Anything else fails the test. */
static bool open_in_child(const char *dir, struct report *out)
{
    int fds[2];
    int status;
    char fd[16];
    assert_int_equal(pipe(fds), 0);
    snprintf(fd, sizeof fd, "%d", fds[1]);
    pid_t child = kit_spawn("open", dir, fd);
    close(fds[1]);
    bool got = read(fds[0], out, sizeof *out) == sizeof *out;
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGABRT);
        return false;
    }
    if (WEXITSTATUS(status) == 10) return false;
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(got);
    return true;
}

/* BATCHES batches of CHANGES changes; a small write buffer, so tables, logs and a manifest. */
static int child_make(const char *dir, const char *unused)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 64 << 10 };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    (void)unused;
    kit_model_init(&m, 31);
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 1;
    uint64_t number = 0;
    for (int batch = 0; batch < BATCHES; batch++) {
        for (int i = 0; i < CHANGES; i++) kit_change(&m, 1 + (uint32_t)(m.index % 11 == 0) * 30);
        number = kit_submit(&m, s);
    }
    kit_wait_batch(s, number);
    _exit(0); /* as after a crash: no close */
}

static void make(char *dir)
{
    int status;
    pid_t child = kit_spawn("make", dir, "");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* The newest file of a kind. Of tables the oldest: the newest may be one that the manifest does not
 * name yet, when the process that made it was killed. */
struct pick {
    const char *start;
    const char *end;
    bool oldest;
    char name[64];
    size_t bytes;
};

static void pick_one(void *ctx, const char *dir, const char *name)
{
    struct pick *pick = ctx;
    size_t len = strlen(name);
    size_t end_len = strlen(pick->end);
    if (strncmp(name, pick->start, strlen(pick->start)) != 0) return;
    if (len < end_len || strcmp(name + len - end_len, pick->end) != 0) return;
    char *path = kit_join(dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (pick->name[0] == '\0' || (strcmp(name, pick->name) > 0) != pick->oldest) {
        snprintf(pick->name, sizeof pick->name, "%.63s", name);
        pick->bytes = (size_t)st.st_size;
    }
    mem_free(path);
}

static struct pick newest(const char *dir, const char *start, const char *end)
{
    struct pick pick = { .start = start, .end = end, .oldest = strcmp(end, ".ldb") == 0 };
    kit_each_file(dir, pick_one, &pick);
    assert_true(pick.name[0] != '\0');
    return pick;
}

/* Of one of the two databases: its name and the file's, as a path below the store's. */
static struct pick newest_in(const char *dir, const char *part, const char *start, const char *end)
{
    char *path = kit_join(dir, part);
    struct pick pick = newest(path, start, end);
    char name[sizeof pick.name];
    memcpy(name, pick.name, sizeof name);
    snprintf(pick.name, sizeof pick.name, "%s/%.50s", part, name);
    mem_free(path);
    return pick;
}

static const char *const parts[] = { "rows", "meta" };

static void spoil_end(const char *dir, const char *name, size_t cut, int fill)
{
    char *path = kit_join(dir, name);
    struct buf bytes = kit_read_file(path);
    if (fill == 0) bytes.len -= cut;
    if (fill == 1) memset(bytes.at + bytes.len - cut, 0, cut);
    if (fill == 2) memset(bytes.at + bytes.len - cut, 0x55, cut);
    kit_write_file(path, buf_slice(&bytes));
    buf_deinit(&bytes);
    mem_free(path);
}

/* The log of meta/: the batches in it are as if they had never been, and so are their packs. */
static void test_the_log_torn_anywhere_is_recovered(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made);
    struct pick log = newest_in(made, "meta", "0", ".log");
    struct report report;
    uint64_t last_index = BATCHES * CHANGES;
    uint64_t seen = 0;
    /* From the end down: every byte of the last batch's record, then in larger steps. */
    for (size_t cut = 0; cut < log.bytes; cut += cut < 60 ? 7 : 997) {
        for (int fill = 0; fill < 3; fill++) {
            kit_copy_dir(made, dir);
            spoil_end(dir, log.name, cut, fill);
            assert_true(open_in_child(dir, &report));
            assert_true(report.keys_right);
            assert_int_equal(report.index % CHANGES, 0);
            assert_true(report.index <= last_index);
            if (cut == 0) assert_int_equal(report.index, last_index);
            seen |= 1ULL << (last_index - report.index) / CHANGES;
            if (cut < 60 && fill != 0) break;
        }
    }
    assert_true((seen & 3) == 3); /* both: nothing lost, and one batch */
    kit_remove(dir);
    kit_remove(made);
}

/* The log of rows/: every batch in it was durable before its marker, so nothing may be missing. */
static void test_a_cut_of_durable_rows_is_refused(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made);
    struct pick log = newest_in(made, "rows", "0", ".log");
    struct report report;
    for (size_t cut = 0; cut < log.bytes; cut += cut < 60 ? 7 : 997) {
        for (int fill = 0; fill < 3; fill++) {
            kit_copy_dir(made, dir);
            spoil_end(dir, log.name, cut, fill);
            bool opened = open_in_child(dir, &report);
            if (fill == 0) assert_int_equal(opened, cut == 0);
            if (!opened) continue;
            assert_true(report.keys_right); /* such bytes were there before */
            assert_int_equal(report.index, BATCHES * CHANGES);
        }
    }
    kit_remove(dir);
    kit_remove(made);
}

/* Random damage of one file. Opened: then it is exactly some batch's state, and only a cut of the
 * newest log of meta/ may have taken the newest batches; everything else is refused. */
static void test_random_damage_is_refused_or_harmless(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    uint64_t seed = 77;
    make(made);
    static const struct { const char *start, *end; } kinds[] = {
        { "0", ".log" }, { "0", ".ldb" }, { "MANIFEST-", "" }, { "CURRENT", "" },
    };
    int refused = 0;
    int opened = 0;
    for (int i = 0; i < KIT_ROUNDS(400); i++) {
        size_t kind = (size_t)i % ARRAY_LEN(kinds);
        const char *part = parts[(size_t)i / ARRAY_LEN(kinds) % ARRAY_LEN(parts)];
        kit_copy_dir(made, dir);
        struct pick pick = newest_in(dir, part, kinds[kind].start, kinds[kind].end);
        char *path = kit_join(dir, pick.name);
        struct buf bytes = kit_read_file(path);
        size_t at = kit_random(&seed, bytes.len);
        uint64_t how = kit_random(&seed, 4);
        size_t len = MIN(bytes.len - at, 1 + kit_random(&seed, how == 1 ? 512 : 40000));
        if (how == 0) bytes.at[at] ^= (uint8_t)(1 << kit_random(&seed, 8));
        if (how == 1 || how == 2) memset(bytes.at + at, 0, len);
        if (how == 3) bytes.len = at;
        kit_write_file(path, buf_slice(&bytes));
        buf_deinit(&bytes);
        mem_free(path);
        struct report report;
        if (!open_in_child(dir, &report)) {
            refused++;
            continue;
        }
        opened++;
        if (!report.keys_right) {
            fail_msg("damage %d of %s: index %" PRIu64 " with wrong rows", i, pick.name,
                     report.index);
        }
        if (report.index == BATCHES * CHANGES) continue;
        assert_int_equal(kind, 0);
        assert_string_equal(part, "meta");
    }
    assert_true(refused > 100);
    assert_true(opened > 10);
    kit_remove(dir);
    kit_remove(made);
}

static void cut_manifest(const char *made, char *dir, const char *part)
{
    struct pick manifest = newest_in(made, part, "MANIFEST-", "");
    int refused = 0;
    for (size_t cut = 1; cut <= manifest.bytes; cut += 3) {
        kit_copy_dir(made, dir);
        char *path = kit_join(dir, manifest.name);
        assert_int_equal(truncate(path, (off_t)(manifest.bytes - cut)), 0);
        mem_free(path);
        struct report report;
        if (!open_in_child(dir, &report)) {
            refused++;
            continue;
        }
        assert_true(report.keys_right);
        assert_int_equal(report.index, BATCHES * CHANGES);
    }
    assert_true(refused > 0);
}

static void test_every_cut_of_a_manifest_is_refused_or_harmless(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made);
    for (size_t p = 0; p < ARRAY_LEN(parts); p++) cut_manifest(made, dir, parts[p]);
    kit_remove(dir);
    kit_remove(made);
}

static void remove_named(const char *dir, const char *name)
{
    char *path = kit_join(dir, name);
    assert_int_equal(unlink(path), 0);
    mem_free(path);
}

static void test_a_missing_file_is_refused(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made);
    static const struct { const char *start, *end; } kinds[] = {
        { "0", ".ldb" }, { "MANIFEST-", "" }, { "CURRENT", "" }, { "0", ".log" },
    };
    size_t tables_refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(parts); i++) {
        const char *part = parts[i / ARRAY_LEN(kinds)];
        size_t kind = i % ARRAY_LEN(kinds);
        kit_copy_dir(made, dir);
        remove_named(dir, newest_in(dir, part, kinds[kind].start, kinds[kind].end).name);
        struct report report;
        if (!open_in_child(dir, &report)) {
            if (kind == 0) tables_refused++;
            continue;
        }
        assert_true(report.keys_right);
        if (kind == 0) { /* merged into another, and not removed yet when the process was killed */
            assert_int_equal(report.index, BATCHES * CHANGES);
            continue;
        }
        /* The newest log of meta/ alone: as if its batches had never been; the write-ahead log has
         * them. */
        assert_int_equal(kind, 3);
        assert_string_equal(part, "meta");
    }
    assert_true(tables_refused > 0);
    kit_remove(dir);
    kit_remove(made);
}

static void test_a_flush_empties_the_log(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_db db;
    bool fresh = false;
    uint64_t trimmed = 0;
    uint64_t bytes = 0;
    uint64_t log_bytes = 0;
    struct buf value = { 0 };
    assert_int_equal(store_db_open(&db, disk_io_posix(), dir, 1 << 20, &fresh, &trimmed, NULL), OK);
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    leveldb_writebatch_put(batch, "key", 3, "value", 5);
    assert_int_equal(store_db_write(&db, batch, NULL), OK);
    assert_int_equal(store_db_files(&db, &bytes, &log_bytes, NULL), OK);
    assert_true(log_bytes > 8 && log_bytes < bytes);
    store_db_flush(&db);
    assert_int_equal(store_db_files(&db, &bytes, &log_bytes, NULL), OK);
    assert_int_equal(log_bytes, 0);
    assert_int_equal(store_db_write(&db, batch, NULL), OK); /* into the new log */
    assert_int_equal(store_db_reopen(&db, NULL), OK);
    bool found = false;
    assert_int_equal(store_db_get(&db, SLICE_LIT("key"), &value, &found, NULL), OK);
    assert_true(found && slice_eq(buf_slice(&value), SLICE_LIT("value")));
    leveldb_writebatch_destroy(batch);
    store_db_close(&db);
    buf_deinit(&value);
    kit_remove(dir);
}

static void test_the_info_log_stays_small(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_db db;
    bool fresh = false;
    uint64_t trimmed = 0;
    uint64_t bytes = 0;
    uint64_t log_bytes = 0;
    assert_int_equal(store_db_open(&db, disk_io_posix(), dir, 64 << 10, &fresh, &trimmed, NULL), OK);
    assert_true(fresh);
    assert_int_equal(store_db_made(&db, NULL), OK);
    char *path = kit_join(dir, "LOG");
    assert_int_equal(truncate(path, STORE_INFO_LOG_BYTES_MAX + 1), 0);
    assert_int_equal(store_db_files(&db, &bytes, &log_bytes, NULL), OK);
    assert_true(bytes > STORE_INFO_LOG_BYTES_MAX);
    leveldb_compact_range(db.db, NULL, 0, NULL, 0); /* LevelDB writes a line there */
    assert_int_equal(store_db_files(&db, &bytes, &log_bytes, NULL), OK);
    assert_true(bytes < STORE_INFO_LOG_BYTES_MAX);
    store_db_close(&db);
    mem_free(path);
    kit_remove(dir);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "open") == 0) return child_open(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "make") == 0) return child_make(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_log_torn_anywhere_is_recovered),
        cmocka_unit_test(test_a_cut_of_durable_rows_is_refused),
        cmocka_unit_test(test_random_damage_is_refused_or_harmless),
        cmocka_unit_test(test_every_cut_of_a_manifest_is_refused_or_harmless),
        cmocka_unit_test(test_a_missing_file_is_refused),
        cmocka_unit_test(test_a_flush_empties_the_log),
        cmocka_unit_test(test_the_info_log_stays_small),
    };
    return cmocka_run_group_tests_name("disk/store_db", tests, NULL, NULL);
}
