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

/* Many rows once in a batch: it is more than a block of a file. */
static void change(struct kit_model *m)
{
    kit_change(m, 1 + (uint32_t)(m->index % CHANGES == 0) * 12);
}

static void model_to(struct kit_model *m, uint64_t index)
{
    kit_model_init(m, 31);
    while (m->index < index) change(m);
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

/* *s is open then, also when the scan is refused; NULL: the open was. */
static enum err open_all(const char *dir, struct store **s, struct report *out, struct errmsg *em)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 64 << 10 };
    struct store_info info;
    struct load load = { 0 };
    *s = NULL;
    em->text[0] = '\0';
    TRY(store_open(&options, s, &info, em));
    TRY(store_scan(*s, load_meta, load_pack, &load, em));
    struct kit_model m;
    model_to(&m, info.applied_index);
    if (load.loaded.has_meta) kit_check_loaded(&m, &load.loaded);
    *out = (struct report){ info.applied_index, load.loaded.row_count, load.crc,
                            load.crc == crc_of_model(&m) && load.loaded.row_count == m.row_count };
    kit_model_deinit(&m);
    return OK;
}

/* For damage that LevelDB does not see. */
static enum err open_here(const char *dir, struct report *out, struct errmsg *em)
{
    struct store *s;
    enum err e = open_all(dir, &s, out, em);
    store_close(s);
    return e;
}

/* Exit 0: a report was written; 10: refused with a text. */
static int child_open(const char *dir, const char *fd)
{
    struct store *s;
    struct report report;
    struct errmsg em;
    if (open_all(dir, &s, &report, &em) != OK) _exit(em.text[0] != '\0' ? 10 : 11);
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

enum where { IN_ROWS, IN_FILES };

/* BATCHES batches of CHANGES changes; a small write buffer, so tables, logs and a manifest, or
 * several files of packs. */
static int child_make(const char *dir, const char *where)
{
    bool in_files = atoi(where) == IN_FILES;
    struct store_options options = { .dir = dir,
                                     .write_buffer_bytes = (in_files ? 4u : 64u) << 10,
                                     .file_batch_bytes = in_files ? KIT_FILES : KIT_ROWS };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 31);
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 1;
    uint64_t number = 0;
    for (int batch = 0; batch < BATCHES; batch++) {
        for (int i = 0; i < CHANGES; i++) change(&m);
        number = kit_submit(&m, s);
    }
    kit_wait_batch(s, number);
    _exit(0); /* as after a crash: no close */
}

static void make(char *dir, enum where where)
{
    int status;
    pid_t child = kit_spawn("make", dir, where == IN_FILES ? "1" : "0");
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
static void check_torn_log(enum where where)
{
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made, where);
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

static void test_the_log_torn_anywhere_is_recovered(void **state)
{
    (void)state;
    check_torn_log(IN_ROWS);
    check_torn_log(IN_FILES);
}

/* The log of rows/: every batch in it was durable before its marker, so nothing may be missing. */
static void check_cut_rows(enum where where)
{
    char *made = kit_dir();
    char *dir = kit_dir();
    make(made, where);
    struct pick log = newest_in(made, "rows", "0", ".log");
    struct report report;
    size_t step = MIN(997, log.bytes / KIT_ROUNDS(20) + 1); /* with references it is short */
    for (size_t cut = 0; cut < log.bytes; cut += cut < 60 ? 7 : step) {
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

static void test_a_cut_of_durable_rows_is_refused(void **state)
{
    (void)state;
    check_cut_rows(IN_ROWS);
    check_cut_rows(IN_FILES);
}

/* Random damage of one file. Opened: then it is exactly some batch's state, and only a cut of the
 * newest log of meta/ may have taken the newest batches; everything else is refused. */
static void test_random_damage_is_refused_or_harmless(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    uint64_t seed = 77;
    make(made, IN_ROWS);
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
        size_t len = 1 + kit_random(&seed, how == 1 ? 512 : 40000);
        len = MIN(len, bytes.len - at);
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
    make(made, IN_ROWS);
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
    make(made, IN_ROWS);
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

/* --- files of packs ---------------------------------------------------------------------- */

/* As a crash before the newest marker leaves it: the end of the newest file has packs that nothing
 * names any more. */
static void lose_newest_batch(const char *dir)
{
    struct report report;
    struct errmsg em;
    spoil_end(dir, newest_in(dir, "meta", "0", ".log").name, 7, 0);
    if (open_here(dir, &report, &em) != OK) fail_msg("%s", em.text);
    assert_true(report.keys_right);
    assert_int_equal(report.index, (BATCHES - 1) * CHANGES);
}

/* The first reference, in the order of the scan, whose bytes are not what they were. */
static bool find_damaged(const struct buf *refs, uint64_t file, struct slice before,
                         struct slice after, struct store_ref *out)
{
    for (size_t i = 0; i < kit_ref_count(refs); i++) {
        *out = kit_ref(refs, i);
        if (out->file != file) continue;
        assert_true(out->offset + out->bytes <= before.len);
        if (out->offset + out->bytes > after.len) return true;
        if (memcmp(before.at + out->offset, after.at + out->offset, out->bytes) != 0) return true;
    }
    return false;
}

/* Puts `after` in the file's place; NULL: removes it. What comes of it is what references say. */
static bool check_damaged_file(const char *dir, const struct buf *refs, uint64_t file,
                               struct slice before, const struct slice *after)
{
    struct report report;
    struct errmsg em;
    struct store_ref bad;
    char *path = kit_pack_path(dir, file);
    char offset[64];
    if (after == NULL) {
        assert_int_equal(unlink(path), 0);
    } else {
        kit_write_file(path, *after);
    }
    bool damaged = find_damaged(refs, file, before, after != NULL ? *after : SLICE_NONE, &bad);
    enum err e = open_here(dir, &report, &em);
    assert_int_equal(e, damaged ? ERR_CORRUPT : OK);
    if (!damaged) {
        assert_true(report.keys_right);
        assert_int_equal(report.index, (BATCHES - 1) * CHANGES);
    } else if (strstr(em.text, path) == NULL) {
        fail_msg("not of %s: %s", path, em.text);
    }
    if (damaged && after != NULL) {
        snprintf(offset, sizeof offset, " offset %" PRIu64 ": damaged", bad.offset);
        if (strstr(em.text, offset) == NULL) fail_msg("not '%s': %s", offset, em.text);
    } else if (damaged) {
        assert_non_null(strstr(em.text, "missing"));
    }
    if (damaged) assert_int_equal(open_here(dir, &report, &em), e); /* and when tried again */
    mem_free(path);
    return damaged;
}

static void damage(struct buf *bytes, uint64_t *seed)
{
    size_t at = kit_random(seed, bytes->len);
    uint64_t how = kit_random(seed, 5);
    size_t len = 1 + kit_random(seed, how == 1 ? 512 : 40000);
    len = MIN(len, bytes->len - at);
    if (how == 0) bytes->at[at] ^= (uint8_t)(1 << kit_random(seed, 8));
    if (how == 1 || how == 2) memset(bytes->at + at, 0, len);
    if (how == 3) memset(bytes->at + at, 0x55, len);
    if (how == 4) bytes->len = at;
}

static void test_random_damage_of_a_pack_file_is_refused_or_harmless(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    uint64_t seed = 78;
    int refused = 0;
    int opened = 0;
    make(made, IN_FILES);
    lose_newest_batch(made);
    kit_refs(made, &refs);
    size_t files = kit_pack_files(made);
    assert_true(files > 3);
    for (int i = 0; i < KIT_ROUNDS(250); i++) {
        uint64_t file = i % 4 == 0 ? files : 1 + kit_random(&seed, files);
        char *path = kit_pack_path(made, file);
        struct buf before = kit_read_file(path);
        struct buf bytes = { 0 };
        buf_append_slice(&bytes, buf_slice(&before));
        damage(&bytes, &seed);
        struct slice after = buf_slice(&bytes);
        kit_copy_dir(made, dir);
        bool damaged = check_damaged_file(dir, &refs, file, buf_slice(&before), &after);
        refused += damaged;
        opened += !damaged;
        buf_deinit(&before);
        buf_deinit(&bytes);
        mem_free(path);
    }
    assert_true(refused > KIT_ROUNDS(125));
    assert_true(opened > KIT_ROUNDS(5));
    kit_remove(dir);
    kit_remove(made);
}

/* Cut before, at and behind each end of a pack. */
static void test_a_cut_pack_file_is_refused_or_harmless(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    int refused = 0;
    int opened = 0;
    make(made, IN_FILES);
    lose_newest_batch(made);
    kit_refs(made, &refs);
    uint64_t file = kit_ref(&refs, kit_ref_count(&refs) - 1).file;
    char *path = kit_pack_path(made, file);
    struct buf before = kit_read_file(path);
    for (size_t i = 0; i < kit_ref_count(&refs); i++) {
        struct store_ref ref = kit_ref(&refs, i);
        if (ref.file != file) continue;
        for (size_t add = 0; add < 3; add++) {
            struct slice after = { before.at, MIN(before.len, ref.offset + ref.bytes + add - 1) };
            kit_copy_dir(made, dir);
            bool damaged = check_damaged_file(dir, &refs, file, buf_slice(&before), &after);
            refused += damaged;
            opened += !damaged;
        }
    }
    assert_true(refused > 3);
    assert_int_equal(opened, 2); /* at the end of the last pack, and in what is behind it */
    buf_deinit(&before);
    mem_free(path);
    kit_remove(dir);
    kit_remove(made);
}

static void test_a_missing_pack_file_is_refused(void **state)
{
    (void)state;
    char *made = kit_dir();
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    make(made, IN_FILES);
    lose_newest_batch(made);
    kit_refs(made, &refs);
    size_t files = kit_pack_files(made);
    for (uint64_t file = 1; file <= files; file++) {
        char *path = kit_pack_path(made, file);
        struct buf before = kit_read_file(path);
        kit_copy_dir(made, dir);
        assert_true(check_damaged_file(dir, &refs, file, buf_slice(&before), NULL));
        assert_int_equal(kit_pack_files(dir), files - 1); /* nothing else went */
        buf_deinit(&before);
        mem_free(path);
    }
    kit_copy_dir(made, dir);
    char *packs = kit_join(dir, "packs");
    kit_each_file(packs, kit_remove_one, NULL);
    assert_int_equal(rmdir(packs), 0);
    struct report report;
    struct errmsg em;
    assert_int_equal(open_here(dir, &report, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "packs/0000000001.packs: missing"));
    mem_free(packs);
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
        cmocka_unit_test(test_random_damage_of_a_pack_file_is_refused_or_harmless),
        cmocka_unit_test(test_a_cut_pack_file_is_refused_or_harmless),
        cmocka_unit_test(test_a_missing_pack_file_is_refused),
        cmocka_unit_test(test_a_flush_empties_the_log),
        cmocka_unit_test(test_the_info_log_stays_small),
    };
    return cmocka_run_group_tests_name("disk/store_db", tests, NULL, NULL);
}
