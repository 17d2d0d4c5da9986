/* A small MVCC model that makes rows as src/mvcc does, feeds a store with them, and knows what must
 * be found there. Used by the tests of the store. Everything follows from the seed. */
#ifndef TESTS_STORE_KIT_H
#define TESTS_STORE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/store_int.h"

#define KIT_UNUSED __attribute__((unused))

/* --- directories ------------------------------------------------------------- */

/* In memory where there is such a place: many syncs. */
KIT_UNUSED static char *kit_dir(void)
{
    char fast[] = "/dev/shm/cordis-store-XXXXXX";
    char slow[] = "/tmp/cordis-store-XXXXXX";
    if (mkdtemp(fast) != NULL) return mem_copy(fast, sizeof fast);
    assert_non_null(mkdtemp(slow));
    return mem_copy(slow, sizeof slow);
}

KIT_UNUSED static char *kit_join(const char *dir, const char *name)
{
    size_t len = strlen(dir) + strlen(name) + 2;
    char *path = mem_alloc(len);
    snprintf(path, len, "%s/%s", dir, name);
    return path;
}

typedef void kit_file_fn(void *ctx, const char *dir, const char *name);

KIT_UNUSED static void kit_each_file(const char *dir, kit_file_fn *fn, void *ctx)
{
    DIR *at = opendir(dir);
    if (at == NULL) return;
    for (const struct dirent *e; (e = readdir(at)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) fn(ctx, dir, e->d_name);
    }
    closedir(at);
}

static void kit_remove_one(void *ctx, const char *dir, const char *name)
{
    char *path = kit_join(dir, name);
    (void)ctx;
    if (unlink(path) != 0) {
        kit_each_file(path, kit_remove_one, NULL);
        rmdir(path);
    }
    mem_free(path);
}

KIT_UNUSED static void kit_remove(char *dir)
{
    kit_each_file(dir, kit_remove_one, NULL);
    rmdir(dir);
    mem_free(dir);
}

KIT_UNUSED static struct buf kit_read_file(const char *path)
{
    struct buf out = { 0 };
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    for (;;) {
        ssize_t got = read(fd, buf_reserve(&out, 65536), 65536);
        assert_true(got >= 0);
        if (got == 0) break;
        out.len += (size_t)got;
    }
    close(fd);
    return out;
}

KIT_UNUSED static void kit_write_file(const char *path, struct slice bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    size_t at = 0;
    while (at < bytes.len) {
        ssize_t put = write(fd, bytes.at + at, bytes.len - at);
        assert_true(put > 0);
        at += (size_t)put;
    }
    close(fd);
}

static void kit_copy_one(void *ctx, const char *dir, const char *name)
{
    char *from = kit_join(dir, name);
    char *to = kit_join(ctx, name);
    struct stat st;
    assert_int_equal(stat(from, &st), 0);
    if (S_ISDIR(st.st_mode)) {
        assert_int_equal(mkdir(to, 0700), 0);
        kit_each_file(from, kit_copy_one, to);
    } else {
        struct buf bytes = kit_read_file(from);
        kit_write_file(to, buf_slice(&bytes));
        buf_deinit(&bytes);
    }
    mem_free(from);
    mem_free(to);
}

/* The target is made, and emptied if it was there. */
KIT_UNUSED static void kit_copy_dir(const char *from, char *to)
{
    kit_each_file(to, kit_remove_one, NULL);
    mkdir(to, 0700);
    kit_each_file(from, kit_copy_one, to);
}

/* --- other processes ----------------------------------------------------------------- */

/* A process of this test program in another role: main sees argv = {program, role, a, b}. LevelDB's
 * thread does not survive a fork, so the child begins anew. Descriptors are inherited. */
KIT_UNUSED static pid_t kit_spawn(const char *role, const char *a, const char *b)
{
    pid_t child = fork();
    if (child != 0) return child;
    execl("/proc/self/exe", "test", role, a, b, (char *)NULL);
    _exit(127);
}

/* Of `count` rounds as many as are worth their time: what the data is like is for the debug build,
 * how threads meet and what they touch shows in a few. */
#if defined(__SANITIZE_THREAD__)
#define KIT_ROUNDS(count) (((count) + 4) / 5)
#elif defined(__SANITIZE_ADDRESS__)
#define KIT_ROUNDS(count) (((count) + 1) / 2)
#else
#define KIT_ROUNDS(count) (count)
#endif

/* --- random -------------------------------------------------------------------- */

KIT_UNUSED static uint64_t kit_random(uint64_t *seed, uint64_t below)
{
    *seed += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*seed) % below;
}

/* --- the model ------------------------------------------------------------------ */

#define KIT_KEYS 64
#define KIT_VALUE_MAX 700

struct kit_row {
    uint64_t rev;
    uint32_t n;
    uint32_t key;
    enum row_op op;
    uint8_t chain;
    uint64_t create, version, prev, jump;
    size_t before; /* index + 1 of this key's row before, 0 if there is none */
};

struct kit_key {
    uint64_t mod, create, version, jump;
    uint8_t chain;
    bool exists; /* an entry or a ghost */
    bool live;
};

struct kit_model {
    uint64_t seed;
    uint64_t rev;
    uint64_t compacted;
    struct kit_row *rows;
    size_t row_count, row_cap;
    struct kit_key keys[KIT_KEYS];
    size_t newest[KIT_KEYS]; /* index + 1 of each key's newest row, 0 if there is none */
    /* What the next batch takes. */
    size_t next_row;
    uint64_t index;
    size_t value_max;
};

KIT_UNUSED static void kit_model_init(struct kit_model *m, uint64_t seed)
{
    *m = (struct kit_model){ .seed = seed, .rev = 1, .value_max = KIT_VALUE_MAX };
}

KIT_UNUSED static void kit_model_deinit(struct kit_model *m)
{
    mem_free(m->rows);
}

/* Database byte and a name; distinct, and sorted like their numbers. */
static struct slice kit_key_name(uint32_t key, char out[16])
{
    out[0] = 0;
    int len = snprintf(out + 1, 15, "k%04" PRIu32, key);
    return (struct slice){ (const uint8_t *)out, (size_t)len + 1 };
}

static struct slice kit_value(const struct kit_model *m, const struct kit_row *r, uint8_t *out)
{
    uint64_t x = u64_mix(r->rev * 1000003 + r->n);
    size_t len = r->op != ROW_PUT || m->value_max == 0 ? 0 : x % m->value_max;
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)(x >> (i % 8 * 8)) ^ (uint8_t)i;
    return (struct slice){ out, len };
}

/* As it is to be stored. Borrows from the two scratch areas. */
static struct row kit_full(const struct kit_model *m, const struct kit_row *r, char key[16],
                           uint8_t *value)
{
    return (struct row){
        .rev = r->rev, .n = r->n, .op = r->op, .create = r->create, .version = r->version,
        .prev = r->prev, .jump = r->jump, .chain = r->chain,
        .key = kit_key_name(r->key, key), .value = kit_value(m, r, value),
    };
}

static void kit_event(struct kit_model *m, uint32_t n, uint32_t key, enum row_op op, bool recreate)
{
    struct kit_key *k = &m->keys[key];
    struct kit_row r = { .rev = m->rev, .n = n, .key = key, .op = op };
    r.prev = k->exists ? k->mod : 0;
    r.jump = k->exists ? k->jump : 0;
    if (k->exists) r.chain = (uint8_t)((k->chain + 1) % MVCC_JUMP_STRIDE);
    bool goes_on = k->live && !recreate;
    r.create = op != ROW_PUT ? 0 : goes_on ? k->create : m->rev;
    r.version = op != ROW_PUT ? 0 : goes_on ? k->version + 1 : 1;
    if (m->row_count == m->row_cap) {
        m->row_cap = m->row_cap == 0 ? 1024 : m->row_cap * 2;
        m->rows = mem_realloc(m->rows, m->row_cap * sizeof *m->rows);
    }
    r.before = m->newest[key];
    m->rows[m->row_count++] = r;
    m->newest[key] = m->row_count;
    *k = (struct kit_key){ m->rev, r.create, r.version, r.chain == 0 ? m->rev : r.jump, r.chain,
                           true, op == ROW_PUT };
}

/* One revision that changes `count` keys, the first of them random. */
KIT_UNUSED static void kit_change(struct kit_model *m, uint32_t count)
{
    uint32_t first = (uint32_t)kit_random(&m->seed, KIT_KEYS);
    uint32_t n = 1;
    m->rev++;
    m->index++;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = (first + i) % KIT_KEYS;
        bool del = m->keys[key].live && kit_random(&m->seed, 4) == 0;
        bool recreate = kit_random(&m->seed, 8) == 0;
        enum row_op op = !del ? ROW_PUT : kit_random(&m->seed, 2) == 0 ? ROW_DEL : ROW_EXPIRE;
        kit_event(m, n++, key, op, recreate);
    }
}

/* Logical compaction: ghosts below it are forgotten. */
KIT_UNUSED static void kit_compact(struct kit_model *m, uint64_t rev)
{
    m->index++;
    m->compacted = MAX(m->compacted, rev);
    for (size_t i = 0; i < KIT_KEYS; i++) {
        struct kit_key *k = &m->keys[i];
        if (k->exists && !k->live && k->mod < m->compacted) *k = (struct kit_key){ 0 };
    }
}

/* The newest row of a key at or before a revision; NULL if there is none. */
KIT_UNUSED static const struct kit_row *kit_at(const struct kit_model *m, uint32_t key,
                                               uint64_t rev)
{
    size_t at = m->newest[key];
    while (at != 0 && m->rows[at - 1].rev > rev) at = m->rows[at - 1].before;
    return at == 0 ? NULL : &m->rows[at - 1];
}

/* --- rows into packs -------------------------------------------------------------- */

struct kit_packer {
    struct blob *blob;
    uint64_t first_rev;
    uint32_t first_n;
};

typedef void kit_pack_fn(void *ctx, uint64_t first_rev, uint32_t first_n, struct blob *taken);

/* Packs rows [from, to) of the model. */
KIT_UNUSED static void kit_pack_rows(const struct kit_model *m, size_t from, size_t to,
                                     kit_pack_fn *fn, void *ctx)
{
    CLEANUP(buf_deinit) struct buf pack = { 0 };
    uint64_t rev = 0;
    uint32_t n = 0;
    for (size_t i = from; i <= to; i++) {
        uint8_t value[KIT_VALUE_MAX];
        char key[16];
        if (i < to) {
            struct row row = kit_full(m, &m->rows[i], key, value);
            size_t before = pack.len;
            if (before != 0) {
                row_encode(&pack, &row, rev);
                if (pack.len <= PACK_BYTES_MAX) continue;
                pack.len = before;
            }
        }
        if (pack.len != 0) fn(ctx, rev, n, blob_copy(buf_slice(&pack)));
        if (i == to) break;
        struct row row = kit_full(m, &m->rows[i], key, value);
        rev = row.rev;
        n = row.n;
        buf_clear(&pack);
        buf_append_u8(&pack, PACK_FORMAT);
        row_encode(&pack, &row, rev);
    }
}

static void kit_batch_pack(void *ctx, uint64_t rev, uint32_t n, struct blob *taken)
{
    store_batch_pack(ctx, rev, n, taken);
}

/* All rows that are new, and meta that lets a load be checked. */
KIT_UNUSED static uint64_t kit_submit(struct kit_model *m, struct store *s)
{
    struct store_batch *b = store_batch_new();
    kit_pack_rows(m, m->next_row, m->row_count, kit_batch_pack, b);
    m->next_row = m->row_count;
    uint8_t numbers[24];
    u64_le_put(numbers, m->index);
    u64_le_put(numbers + 8, m->rev);
    u64_le_put(numbers + 16, m->compacted);
    store_batch_put(b, SLICE_LIT("model"), (struct slice){ numbers, sizeof numbers });
    struct store_cut cut = { m->index, 7, m->compacted };
    return store_submit(s, b, &cut);
}

/* --- waiting ------------------------------------------------------------------------ */

/* As a loop does: sleeps until there is news. */
static void kit_poll(struct store *s, struct store_done *done)
{
    struct pollfd ready = { .fd = store_fd(s), .events = POLLIN };
    if (s->options.manual) {
        bool ran = workers_step(s->options.workers) || store_step(s);
        assert_true(ran);
    } else if (store_about_to_sleep(s)) {
        assert_int_equal(poll(&ready, 1, -1), 1);
        store_woke(s);
    }
    store_poll(s, done);
}

/* Until batch `number` is durable. Finished reads must not be expected. */
KIT_UNUSED static void kit_wait_batch(struct store *s, uint64_t number)
{
    struct store_done done;
    store_poll(s, &done);
    while (done.batch_count < number) {
        assert_null(done.reads);
        kit_poll(s, &done);
    }
}

/* Until all that is allowed is compacted, at least to `rev`. Nobody is told of that. */
KIT_UNUSED static void kit_wait_floor(struct store *s, uint64_t rev)
{
    struct store_stats stats;
    for (;;) {
        store_stats_get(s, &stats);
        if (!stats.compacting && stats.floor_rev >= rev) return;
        poll(NULL, 0, 1);
    }
}

KIT_UNUSED static void kit_read(struct store *s, struct store_read *r)
{
    struct store_done done = { 0 };
    store_read(s, r);
    while (done.reads == NULL) kit_poll(s, &done);
    assert_ptr_equal(done.reads, r);
    assert_null(store_read_after(done.reads));
}

/* --- loading --------------------------------------------------------------------------- */

/* What a load found: the newest row of each key, and the numbers in meta. */
struct kit_loaded {
    struct store *s;
    uint64_t compacted;
    uint64_t index, rev, model_compacted;
    bool has_meta;
    uint64_t row_count;
    uint64_t last_rev;
    uint32_t last_n;
    struct { bool exists, live; uint64_t mod; uint32_t value_crc; } keys[KIT_KEYS];
};

KIT_UNUSED static enum err kit_load_meta(void *ctx, struct slice name, struct slice value)
{
    struct kit_loaded *l = ctx;
    assert_true(slice_eq(name, SLICE_LIT("model")));
    assert_int_equal(value.len, 24);
    l->has_meta = true;
    l->index = u64_le(value.at);
    l->rev = u64_le(value.at + 8);
    l->model_compacted = u64_le(value.at + 16);
    return OK;
}

KIT_UNUSED static enum err kit_load_pack(void *ctx, uint64_t first_rev, uint32_t first_n,
                                         struct slice pack)
{
    struct kit_loaded *l = ctx;
    size_t offset = 0;
    (void)first_n;
    TRY(pack_begin(pack, &offset));
    while (offset < pack.len) {
        struct row row;
        TRY(row_decode(pack, &offset, first_rev, &row));
        assert_true(row.rev > l->last_rev || (row.rev == l->last_rev && row.n > l->last_n));
        l->last_rev = row.rev;
        l->last_n = row.n;
        l->row_count++;
        uint32_t key = 0;
        assert_int_equal(row.key.len, 6);
        for (size_t i = 2; i < 6; i++) key = key * 10 + (uint32_t)(row.key.at[i] - '0');
        assert_true(key < KIT_KEYS);
        if (l->keys[key].exists && row.rev <= l->compacted) {
            store_note_dead(l->s, l->keys[key].mod, row.key);
        }
        l->keys[key].exists = true;
        l->keys[key].live = row.op == ROW_PUT;
        l->keys[key].mod = row.rev;
        l->keys[key].value_crc = crc32c(0, row.value.at, row.value.len);
        if (row.op != ROW_PUT && row.rev < l->compacted) {
            store_note_dead(l->s, row.rev, row.key);
            l->keys[key].exists = false;
        }
    }
    return OK;
}

/* Opens, loads, starts. */
KIT_UNUSED static enum err kit_open(const struct store_options *options, struct store **out,
                                    struct kit_loaded *loaded, struct errmsg *em)
{
    struct store_info info;
    memset(loaded, 0, sizeof *loaded);
    TRY(store_open(options, out, &info, em));
    loaded->s = *out;
    loaded->compacted = info.compacted_rev;
    enum err e = store_scan(*out, kit_load_meta, kit_load_pack, loaded, em);
    if (e != OK) {
        store_close(*out);
        return e;
    }
    if (loaded->has_meta) {
        assert_int_equal(loaded->index, info.applied_index);
        assert_int_equal(loaded->model_compacted, info.compacted_rev);
    } else {
        assert_true(info.empty);
    }
    store_start(*out);
    return OK;
}

/* The loaded keys are those of the model as of the loaded revision. */
KIT_UNUSED static void kit_check_loaded(const struct kit_model *m, const struct kit_loaded *l)
{
    uint8_t value[KIT_VALUE_MAX];
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        const struct kit_row *row = kit_at(m, key, l->rev);
        bool live = row != NULL && row->op == ROW_PUT;
        assert_int_equal(l->keys[key].exists && l->keys[key].live, live);
        if (!live) continue;
        assert_int_equal(l->keys[key].mod, row->rev);
        struct slice want = kit_value(m, row, value);
        assert_int_equal(l->keys[key].value_crc, crc32c(0, want.at, want.len));
    }
}

/* --- packs in files --------------------------------------------------------------------- */

/* store_options.file_batch_bytes */
#define KIT_ROWS SIZE_MAX /* every pack in rows/ */
#define KIT_FILES 1       /* every pack in a file; one of less than half a block does not stay there */
#define KIT_BOTH 0        /* those of small batches in rows/ */

KIT_UNUSED static char *kit_pack_path(const char *dir, uint64_t number)
{
    char name[64];
    snprintf(name, sizeof name, "packs/%010" PRIu64 ".packs", number);
    return kit_join(dir, name);
}

/* How many names are in packs/. */
KIT_UNUSED static void kit_count_one(void *ctx, const char *dir, const char *name)
{
    (void)dir;
    (void)name;
    ++*(size_t *)ctx;
}

KIT_UNUSED static size_t kit_pack_files(const char *dir)
{
    size_t count = 0;
    char *path = kit_join(dir, STORE_FILES_NAME);
    kit_each_file(path, kit_count_one, &count);
    mem_free(path);
    return count;
}

/* How many files below dir/packs this process has open, also such without a name. */
KIT_UNUSED static size_t kit_open_pack_files(const char *dir)
{
    enum { PATH = 160 };
    CLEANUP(buf_deinit) struct buf seen = { 0 }; /* paths, each of PATH bytes */
    char *packs = kit_join(dir, "packs/");
    DIR *at = opendir("/proc/self/fd");
    assert_non_null(at);
    for (const struct dirent *e; (e = readdir(at)) != NULL;) {
        char path[PATH] = "";
        ssize_t len = readlinkat(dirfd(at), e->d_name, path, sizeof path - 1);
        if (len <= 0 || strncmp(path, packs, strlen(packs)) != 0) continue;
        bool again = false; /* what is appended to is open twice */
        for (size_t i = 0; i < seen.len; i += PATH) {
            again = again || memcmp(seen.at + i, path, PATH) == 0;
        }
        if (!again) buf_append(&seen, path, PATH);
    }
    closedir(at);
    mem_free(packs);
    return seen.len / PATH;
}

KIT_UNUSED static bool kit_pack_is_there(const char *dir, uint64_t file)
{
    char *path = kit_pack_path(dir, file);
    bool there = access(path, F_OK) == 0;
    mem_free(path);
    return there;
}

KIT_UNUSED static uint64_t kit_pack_file_bytes(const char *dir, uint64_t file)
{
    struct stat st;
    char *path = kit_pack_path(dir, file);
    assert_int_equal(stat(path, &st), 0);
    mem_free(path);
    return (uint64_t)st.st_size;
}

KIT_UNUSED static void kit_put_pack_file(const char *dir, const char *name, struct slice bytes)
{
    char *packs = kit_join(dir, "packs");
    char *path = kit_join(packs, name);
    kit_write_file(path, bytes);
    mem_free(path);
    mem_free(packs);
}

/* Opens one of a closed store's databases. */
KIT_UNUSED static struct store_db kit_open_db(const char *dir, const char *name)
{
    struct store_db db;
    bool fresh = false;
    uint64_t trimmed = 0;
    char *path = kit_join(dir, name);
    enum err e = store_db_open(&db, disk_io_posix(), path, 128 << 10, &fresh, &trimmed, NULL);
    assert_int_equal(e, OK);
    mem_free(path);
    return db;
}

/* The references in rows/ of a closed store, in order of revision: of struct store_ref. */
KIT_UNUSED static void kit_refs(const char *dir, struct buf *out)
{
    struct store_db db = kit_open_db(dir, STORE_ROWS_NAME);
    leveldb_iterator_t *it = leveldb_create_iterator(db.db, db.read_checked);
    for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it)) {
        struct store_ref ref;
        assert_int_equal(store_ref_decode(store_db_iter_value(it), &ref), OK);
        if (ref.file != 0) buf_append(out, &ref, sizeof ref);
    }
    assert_int_equal(store_db_iter_error(it, NULL), OK);
    leveldb_iter_destroy(it);
    store_db_close(&db);
}

KIT_UNUSED static size_t kit_ref_count(const struct buf *refs)
{
    return refs->len / sizeof(struct store_ref);
}

KIT_UNUSED static struct store_ref kit_ref(const struct buf *refs, size_t i)
{
    struct store_ref ref;
    memcpy(&ref, refs->at + i * sizeof ref, sizeof ref);
    return ref;
}

/* --- checking reads against the model -------------------------------------------------- */

static void kit_same_row(const struct kit_model *m, const struct row *got,
                         const struct kit_row *want)
{
    uint8_t value[KIT_VALUE_MAX];
    char key[16];
    struct row full = kit_full(m, want, key, value);
    assert_int_equal(got->rev, full.rev);
    assert_int_equal(got->n, full.n);
    assert_int_equal(got->op, full.op);
    assert_int_equal(got->create, full.create);
    assert_int_equal(got->version, full.version);
    assert_int_equal(got->prev, full.prev);
    assert_true(slice_eq(got->key, full.key));
    assert_true(slice_eq(got->value, full.value));
}

/* All versions at `rev`, by one read. */
KIT_UNUSED static void kit_check_versions(const struct kit_model *m, struct store *s, uint64_t rev,
                                          struct store_read *r_taken)
{
    struct store_read *r = r_taken;
    char name[16];
    r->at_rev = rev;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        const struct kit_key *k = &m->keys[key];
        if (k->exists) store_read_query(r, kit_key_name(key, name), k->mod, k->jump);
    }
    kit_read(s, r);
    assert_int_equal(r->result, OK);
    size_t pos = 0;
    struct store_item item;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        if (!m->keys[key].exists) continue;
        const struct kit_row *want = kit_at(m, key, rev);
        assert_true(store_read_next(r, &pos, &item));
        /* A tombstone below the compacted revision may be there or not. */
        if (want != NULL && want->op != ROW_PUT && !item.found) {
            assert_true(want->rev < m->compacted);
            continue;
        }
        assert_int_equal(item.found, want != NULL);
        if (want != NULL) kit_same_row(m, &item.row, want);
    }
    assert_false(store_read_next(r, &pos, &item));
    store_read_free(r);
}

/* No further revision was begun behind a limit. */
static void kit_check_limits(const struct store_read *r)
{
    size_t pos = 0;
    size_t last_pos = 0; /* where the last revision begins */
    uint64_t count = 0;
    uint64_t last_count = 0;
    uint64_t last_rev = 0;
    struct store_item item;
    for (size_t before = 0; store_read_next(r, &pos, &item); before = pos, count++) {
        if (item.row.rev == last_rev) continue;
        last_rev = item.row.rev;
        last_pos = before;
        last_count = count;
    }
    assert_int_equal(count, r->item_count);
    if (r->events_max != 0) assert_true(last_count < r->events_max);
    if (r->bytes_max != 0) assert_true(last_pos < r->bytes_max);
}

/* All events of [from, to] with keys in [start, end), in chunks of the read's limits. prepare
 * adds packs; NULL if there are none. */
typedef struct store_read *kit_make_fn(void *ctx);

KIT_UNUSED static void kit_check_events(const struct kit_model *m, struct store *s, uint64_t from,
                                        uint64_t to, uint32_t start, uint32_t end,
                                        kit_make_fn *make, void *ctx)
{
    size_t at = 0;
    while (at < m->row_count && m->rows[at].rev < from) at++;
    while (from <= to) {
        struct store_read *r = make != NULL ? make(ctx) : store_read_new(STORE_READ_EVENTS, 1);
        char start_name[16];
        char end_name[16];
        store_read_range(r, kit_key_name(start, start_name),
                         end == KIT_KEYS ? SLICE_NONE : kit_key_name(end, end_name));
        r->from_rev = from;
        r->to_rev = to;
        kit_read(s, r);
        assert_int_equal(r->result, OK);
        assert_true(r->next_rev > from);
        size_t pos = 0;
        struct store_item item;
        for (; at < m->row_count && m->rows[at].rev < r->next_rev && m->rows[at].rev <= to; at++) {
            const struct kit_row *want = &m->rows[at];
            if (want->key < start || want->key >= end) continue;
            if (want->op == ROW_PUT ? r->no_put : r->no_del) continue;
            assert_true(store_read_next(r, &pos, &item));
            kit_same_row(m, &item.row, want);
            if (!r->with_prev) continue;
            const struct kit_row *prev = kit_at(m, want->key, want->rev - 1);
            if (item.prev_state == STORE_PREV_FOUND) {
                kit_same_row(m, &item.prev, prev);
            } else if (item.prev_state == STORE_PREV_COMPACTED) {
                assert_true(prev != NULL && prev->rev < m->compacted);
            } else {
                assert_int_equal(item.prev_state, STORE_PREV_NONE);
                bool gone = prev != NULL && prev->rev < m->compacted && want->create == want->rev;
                assert_true(prev == NULL || prev->op != ROW_PUT || gone);
            }
        }
        assert_false(store_read_next(r, &pos, &item));
        kit_check_limits(r);
        from = r->next_rev;
        store_read_free(r);
    }
}

KIT_UNUSED static void kit_check_history(const struct kit_model *m, struct store *s, uint32_t key,
                                         uint64_t from, uint64_t to, uint64_t limit,
                                         struct store_read *r)
{
    char name[16];
    if (!m->keys[key].exists) {
        store_read_free(r);
        return;
    }
    store_read_query(r, kit_key_name(key, name), m->keys[key].mod, m->keys[key].jump);
    r->from_rev = from;
    r->to_rev = to;
    r->events_max = limit;
    kit_read(s, r);
    assert_int_equal(r->result, OK);
    size_t pos = 0;
    struct store_item item;
    uint64_t count = 0;
    uint64_t next_rev = to + 1;
    bool has_item = store_read_next(r, &pos, &item);
    for (size_t i = 0; i < m->row_count && m->rows[i].rev <= to; i++) {
        const struct kit_row *want = &m->rows[i];
        if (want->key != key || want->rev < from) continue;
        if (limit != 0 && count == limit) {
            next_rev = want->rev;
            break;
        }
        /* Before the key's present chain began, rows cannot be reached. */
        if (!has_item || item.row.rev != want->rev) {
            assert_int_equal(count, 0);
            assert_true(want->rev <= m->compacted);
            continue;
        }
        kit_same_row(m, &item.row, want);
        count++;
        has_item = store_read_next(r, &pos, &item);
    }
    assert_false(has_item);
    assert_int_equal(r->next_rev, next_rev);
    store_read_free(r);
}

#endif
