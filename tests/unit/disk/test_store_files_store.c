/* Files of packs as the store uses them: what a start removes and what it leaves, which batches go
 * there, compaction, exports, figures; who reads keeps what he reads. */
#include "store_kit.h"

#include "base/log.h"
#include "disk/store_export.h"

/* --- the start ------------------------------------------------------------------------------- */

static void run_steps(struct store *s)
{
    while (store_step(s)) {
    }
}

static struct store_options manual_options(const char *dir, struct workers *workers)
{
    return (struct store_options){ .dir = dir, .workers = workers, .manual = true,
                                   .write_buffer_bytes = 4 << 10, .file_batch_bytes = KIT_FILES };
}

static struct store *open_store(const struct store_options *options, struct kit_loaded *loaded)
{
    struct store *s = NULL;
    struct errmsg em;
    if (kit_open(options, &s, loaded, &em) != OK) fail_msg("%s", em.text);
    return s;
}

/* All keys, or one. */
static void put_keys(struct kit_model *m, uint32_t from, uint32_t to)
{
    m->rev++;
    m->index++;
    for (uint32_t key = from; key < to; key++) kit_event(m, 1 + key - from, key, ROW_PUT, false);
}

static void write_batch(struct kit_model *m, struct store *s)
{
    kit_submit(m, s);
    run_steps(s);
}

/* A store with files 1 ... 3, of which none is dead, and beside them one that nothing names. */
static void make_with_stray(const char *dir, struct kit_model *m)
{
    struct store_options options = manual_options(dir, NULL);
    struct kit_loaded loaded;
    for (int i = 0; i < 3; i++) {
        struct store *s = open_store(&options, &loaded);
        put_keys(m, 0, 20);
        write_batch(m, s);
        put_keys(m, 20, KIT_KEYS);
        write_batch(m, s);
        store_close(s);
    }
    kit_put_pack_file(dir, "0000000099.packs", SLICE_LIT("of a batch that never was"));
}

struct refusing {
    struct kit_loaded loaded;
    uint64_t after_packs; /* the callback refuses then */
    uint64_t packs;
};

static enum err refusing_meta(void *ctx, struct slice name, struct slice value)
{
    struct refusing *r = ctx;
    return kit_load_meta(&r->loaded, name, value);
}

static enum err refusing_pack(void *ctx, uint64_t rev, uint32_t n, struct slice pack)
{
    struct refusing *r = ctx;
    if (r->packs++ == r->after_packs) return ERR_UNSUPPORTED;
    return kit_load_pack(&r->loaded, rev, n, pack);
}

/* Scans; what it refuses changes nothing. */
static void check_scan(const char *dir, bool manual, uint64_t after_packs, enum err want)
{
    struct store_options options = { .dir = dir, .manual = manual };
    struct store_info info;
    struct errmsg em = { "" };
    struct refusing r = { .after_packs = after_packs };
    size_t files = kit_pack_files(dir);
    assert_int_equal(store_open(&options, &r.loaded.s, &info, &em), OK);
    assert_int_equal(kit_pack_files(dir), files);
    assert_int_equal(store_scan(r.loaded.s, refusing_meta, refusing_pack, &r, &em), want);
    assert_int_equal(kit_pack_files(dir), want == OK ? 3 : files);
    store_close(r.loaded.s);
    assert_int_equal(kit_pack_is_there(dir, 99), want != OK);
    assert_int_equal(kit_open_pack_files(dir), 0);
}

static void flip_at(const char *dir, uint64_t file, uint64_t at)
{
    char *path = kit_pack_path(dir, file);
    struct buf bytes = kit_read_file(path);
    bytes.at[at] ^= 1;
    kit_write_file(path, buf_slice(&bytes));
    buf_deinit(&bytes);
    mem_free(path);
}

/* Puts the value at the first pack's key, behind the store's back; NULL removes it. */
static struct buf exchange_first(const char *dir, const struct kit_model *m,
                                 const struct buf *value)
{
    struct store_db db = kit_open_db(dir, "rows");
    struct store_pack_key key = store_pack_key(m->rows[0].rev, m->rows[0].n);
    struct slice at = { key.at, sizeof key.at };
    struct buf before = { 0 };
    bool found = false;
    assert_int_equal(store_db_get(&db, at, &before, &found, NULL), OK);
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    leveldb_writebatch_delete(batch, (const char *)key.at, sizeof key.at);
    if (value != NULL) {
        leveldb_writebatch_put(batch, (const char *)key.at, sizeof key.at, (const char *)value->at,
                               value->len);
    }
    assert_int_equal(store_db_write(&db, batch, NULL), OK);
    leveldb_writebatch_destroy(batch);
    store_db_close(&db);
    return before;
}

static void test_only_a_whole_scan_removes_files(void **state)
{
    (void)state;
    for (int manual = 0; manual < 2; manual++) {
        char *dir = kit_dir();
        struct kit_model m;
        struct kit_loaded loaded;
        kit_model_init(&m, 1);
        make_with_stray(dir, &m);
        for (uint64_t packs = 0; packs < 6; packs++) {
            check_scan(dir, manual, packs, ERR_UNSUPPORTED);
        }
        flip_at(dir, 3, 100);
        check_scan(dir, manual, UINT64_MAX, ERR_CORRUPT);
        flip_at(dir, 3, 100);
        struct buf value = exchange_first(dir, &m, NULL); /* only the sum tells */
        check_scan(dir, manual, UINT64_MAX, ERR_CORRUPT);
        struct buf none = exchange_first(dir, &m, &value);
        check_scan(dir, manual, UINT64_MAX, OK);
        buf_deinit(&value);
        buf_deinit(&none);

        kit_put_pack_file(dir, "0000000099.packs", SLICE_LIT("again"));
        struct store_options options = manual_options(dir, NULL);
        struct store *s = open_store(&options, &loaded);
        assert_false(kit_pack_is_there(dir, 99));
        put_keys(&m, 0, 20);
        write_batch(&m, s);
        assert_true(kit_pack_is_there(dir, 100));
        store_close(s);
        s = open_store(&options, &loaded);
        kit_check_loaded(&m, &loaded);
        assert_int_equal(loaded.row_count, m.row_count);
        store_close(s);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
}

/* As a crash in the middle of a write to it leaves a file. */
static void test_bytes_behind_the_last_reference_are_ignored(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = manual_options(dir, NULL);
    struct kit_model m;
    struct kit_loaded loaded;
    uint64_t before = 0;
    kit_model_init(&m, 2);
    for (uint64_t file = 1; file <= 4; file++) {
        struct store *s = open_store(&options, &loaded);
        assert_int_equal(loaded.row_count, m.row_count);
        kit_check_loaded(&m, &loaded);
        put_keys(&m, 0, 30);
        write_batch(&m, s);
        put_keys(&m, 0, 30);
        write_batch(&m, s);
        store_close(s);
        assert_int_equal(kit_pack_files(dir), file);
        char *path = kit_pack_path(dir, file);
        struct buf bytes = kit_read_file(path);
        memset(buf_reserve(&bytes, 999), PACK_FORMAT, 999);
        bytes.len += 999;
        kit_write_file(path, buf_slice(&bytes));
        if (file > 1) assert_int_equal(kit_pack_file_bytes(dir, file - 1), before);
        before = bytes.len;
        buf_deinit(&bytes);
        mem_free(path);
    }
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- limits, compaction, figures -------------------------------------------------------------- */

/* All that is there. */
static void check_all(const struct kit_model *m, struct store *s)
{
    uint64_t step = (m->rev - m->compacted) / 5 + 1;
    kit_check_events(m, s, m->compacted, m->rev, 0, KIT_KEYS, NULL, NULL);
    for (uint64_t rev = m->compacted; rev <= m->rev; rev += step) {
        kit_check_versions(m, s, rev, store_read_new(STORE_READ_VERSION, 0));
    }
    for (uint32_t key = 0; key < KIT_KEYS; key += 9) {
        struct store_read *r = store_read_new(STORE_READ_HISTORY, 0);
        kit_check_history(m, s, key, m->compacted, m->rev, 0, r);
    }
}

static void sum_bytes(void *ctx, const char *dir, const char *name)
{
    struct stat st;
    char *path = kit_join(dir, name);
    if (stat(path, &st) == 0) *(uint64_t *)ctx += (uint64_t)st.st_size;
    mem_free(path);
}

static uint64_t bytes_below(const char *dir)
{
    static const char *const parts[] = { "rows", "meta", "packs" };
    uint64_t bytes = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char *path = kit_join(dir, parts[i]);
        kit_each_file(path, sum_bytes, &bytes);
        mem_free(path);
    }
    return bytes;
}

/* Of a manual store between two steps; LevelDB's thread may still be at work. */
static void check_stats(const char *dir, struct store *s, uint64_t files, uint64_t file_batches)
{
    struct store_stats stats;
    uint64_t bytes = 0;
    for (int i = 0; i < 1000; i++) {
        store_check_files(s, true);
        store_stats_get(s, &stats);
        bytes = bytes_below(dir);
        if (stats.disk_bytes == bytes) break;
        poll(NULL, 0, 1);
    }
    assert_int_equal(stats.file_count, files);
    assert_int_equal(stats.file_count, kit_pack_files(dir));
    assert_int_equal(stats.file_batch_count, file_batches);
    assert_int_equal(stats.disk_bytes, bytes);
    assert_int_equal(store_disk_bytes(s), stats.disk_bytes);
}

static void compact_all(struct kit_model *m, struct store *s)
{
    kit_compact(m, m->rev);
    write_batch(m, s);
    store_compact(s, m->compacted);
    run_steps(s);
}

/* Half of the keys: more than a block. */
static void put_half(struct kit_model *m, uint32_t i)
{
    put_keys(m, i % 2 * KIT_KEYS / 2, (i % 2 + 1) * KIT_KEYS / 2);
}

static void test_no_more_files_than_the_limit(void **state)
{
    (void)state;
    enum { MORE = 20 };
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    options.write_buffer_bytes = 1; /* a file is full at 16 bytes: one for each batch */
    kit_model_init(&m, 3);
    struct store *s = open_store(&options, &loaded);
    for (uint32_t i = 0; i < STORE_FILES_MAX + MORE; i++) {
        put_half(&m, i);
        write_batch(&m, s);
    }
    check_stats(dir, s, STORE_FILES_MAX, STORE_FILES_MAX);
    assert_int_equal(kit_open_pack_files(dir), STORE_FILES_MAX);
    check_all(&m, s);
    store_close(s);

    s = open_store(&options, &loaded);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    put_half(&m, 0);
    write_batch(&m, s); /* still none */
    check_stats(dir, s, STORE_FILES_MAX, 0);
    check_all(&m, s);
    compact_all(&m, s); /* the newest rows are all in rows/ */
    check_stats(dir, s, 0, 0);
    put_half(&m, 1);
    write_batch(&m, s); /* there is room */
    check_stats(dir, s, 1, 1);
    assert_true(kit_pack_is_there(dir, STORE_FILES_MAX + 1)); /* numbers go on */
    check_all(&m, s);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    check_all(&m, s);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* There is no file for what is written anew. */
static void test_compaction_beyond_the_limit(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_stats stats;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    options.write_buffer_bytes = 1; /* a file for each batch */
    kit_model_init(&m, 12);
    struct store *s = open_store(&options, &loaded);
    for (uint32_t i = 0; i < STORE_FILES_MAX; i++) {
        put_half(&m, i);
        write_batch(&m, s);
    }
    put_keys(&m, 3, 7);
    write_batch(&m, s);
    check_stats(dir, s, STORE_FILES_MAX, STORE_FILES_MAX);
    compact_all(&m, s);
    store_stats_get(s, &stats);
    assert_true(stats.packs_rewritten > 0);
    assert_false(kit_pack_is_there(dir, STORE_FILES_MAX + 1));
    check_stats(dir, s, 1, STORE_FILES_MAX); /* of the other half */
    check_all(&m, s);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    check_all(&m, s);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* A small file of each process: there will not be too many of them. */
static void test_many_starts(void **state)
{
    (void)state;
    enum { MANY = STORE_FILES_MAX / 2, MORE = KIT_ROUNDS(10) };
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    options.write_buffer_bytes = 1;
    kit_model_init(&m, 9);
    struct store *s = open_store(&options, &loaded);
    for (uint32_t i = 0; i < MANY; i++) {
        put_half(&m, i);
        write_batch(&m, s);
    }
    check_stats(dir, s, MANY, MANY);
    store_close(s);
    options.write_buffer_bytes = 64 << 10; /* a quarter of a file is more than each of them has */
    for (uint32_t i = 0; i < MORE; i++) {
        s = open_store(&options, &loaded);
        assert_int_equal(loaded.row_count, m.row_count);
        put_half(&m, i);
        write_batch(&m, s);
        check_stats(dir, s, MANY, 1);
        assert_true(kit_pack_is_there(dir, MANY + 1 + i)); /* not that which is appended to */
        if (i == MORE - 1) check_all(&m, s);
        store_close(s);
    }
    s = open_store(&options, &loaded);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void add_pack_bytes(void *ctx, uint64_t first_rev, uint32_t first_n, struct blob *taken)
{
    (void)first_rev;
    (void)first_n;
    *(size_t *)ctx += taken->len;
    blob_unref(taken);
}

/* Of which size a batch's packs go to a file, and that figures say so. */
static void test_large_batches_go_to_files(void **state)
{
    (void)state;
    static const struct {
        size_t buffer_bytes, file_batch_bytes, threshold;
    } cases[] = {
        { 64 << 10, KIT_BOTH, (64 << 10) / STORE_FILE_BATCH_PART },
        { 256 << 10, KIT_BOTH, (256 << 10) / STORE_FILE_BATCH_PART },
        { 4 << 10, 6000, 6000 },
        { 64 << 10, KIT_ROWS, SIZE_MAX }, { 64 << 10, KIT_FILES, 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *dir = kit_dir();
        struct workers *workers;
        struct kit_model m;
        struct kit_loaded loaded;
        uint64_t file_batches = 0;
        assert_int_equal(workers_new(0, &workers, NULL), OK);
        struct store_options options = manual_options(dir, workers);
        options.write_buffer_bytes = cases[i].buffer_bytes;
        options.file_batch_bytes = cases[i].file_batch_bytes;
        kit_model_init(&m, 4 + i);
        struct store *s = open_store(&options, &loaded);
        for (uint32_t to = 0; to < KIT_KEYS; to++) {
            struct store_stats before, after;
            store_stats_get(s, &before);
            size_t bytes = 0;
            if (to != 0) put_keys(&m, 0, to);
            m.index++;
            kit_pack_rows(&m, m.next_row, m.row_count, add_pack_bytes, &bytes);
            write_batch(&m, s);
            store_stats_get(s, &after);
            bool large = bytes != 0 && bytes >= cases[i].threshold;
            assert_int_equal(after.file_batch_count - before.file_batch_count, large);
            file_batches += large;
        }
        check_all(&m, s);
        check_stats(dir, s, s->files.set->count, file_batches);
        if (cases[i].file_batch_bytes == KIT_BOTH) {
            assert_true(file_batches > 2 && file_batches < KIT_KEYS - 2);
        }
        store_close(s);
        workers_free(workers);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
}

static void test_a_file_of_dead_packs_goes(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_stats stats;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    options.write_buffer_bytes = 512; /* a file is full at 8 KB: less than 64 rows */
    kit_model_init(&m, 5);
    struct store *s = open_store(&options, &loaded);
    for (int i = 0; i < 6; i++) {
        put_keys(&m, 0, KIT_KEYS);
        write_batch(&m, s);
    }
    check_stats(dir, s, 6, 6);
    compact_all(&m, s);
    check_stats(dir, s, 1, 6);
    assert_true(kit_pack_is_there(dir, 6));
    assert_int_equal(s->files.bytes, kit_pack_file_bytes(dir, 6));
    store_stats_get(s, &stats);
    assert_int_equal(stats.packs_rewritten, 0);
    assert_true(stats.packs_deleted >= 5);
    assert_int_equal(s->files.live_bytes, stats.pack_bytes);
    check_all(&m, s);
    assert_int_equal(kit_open_pack_files(dir), 1);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    check_all(&m, s);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* What is written anew goes to a file if it is much; then it dies there as others do. */
static void test_much_written_anew_goes_to_a_file(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_stats stats;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    options.write_buffer_bytes = 512 << 10;
    options.file_batch_bytes = 4 << 10;
    kit_model_init(&m, 11);
    struct store *s = open_store(&options, &loaded);
    put_keys(&m, 0, KIT_KEYS);
    write_batch(&m, s);
    put_keys(&m, 20, 22); /* one pack of the first batch has dead rows then */
    write_batch(&m, s);
    uint64_t before = s->files.bytes;
    compact_all(&m, s);
    store_stats_get(s, &stats);
    assert_in_range(stats.packs_rewritten, 1, 2);
    assert_true(s->files.bytes > before);
    check_stats(dir, s, 1, 1);
    size_t in_files = 0;
    for (size_t i = 0; i < s->table.count; i++) in_files += s->table.slots[i].file == 1;
    assert_int_equal(in_files, 2);
    assert_int_equal(s->table.count - s->table.gone_count, 3); /* the small batch is in rows/ */
    check_all(&m, s);

    put_keys(&m, 0, 50); /* what is left makes the file sparse: into rows/ */
    write_batch(&m, s);
    compact_all(&m, s);
    assert_false(kit_pack_is_there(dir, 1));
    assert_false(s->compactor.emptying);
    check_all(&m, s);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    check_all(&m, s);
    put_keys(&m, 0, KIT_KEYS);
    write_batch(&m, s);
    compact_all(&m, s);
    put_keys(&m, 20, 22);
    write_batch(&m, s);
    before = s->files.bytes;
    compact_all(&m, s); /* to a file as before */
    assert_true(s->files.bytes > before);
    check_stats(dir, s, 1, 1);
    check_all(&m, s);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- exports ----------------------------------------------------------------------------- */

/* What an export gave so far: the model's rows from the first on. */
struct exported {
    const struct kit_model *m;
    size_t row; /* next */
    size_t metas;
};

static void check_record(struct exported *x, const struct store_record *r)
{
    size_t offset = 0;
    if (r->kind == STORE_RECORD_META) {
        x->metas++;
        return;
    }
    assert_int_equal(pack_begin(r->value, &offset), OK);
    while (offset < r->value.len) {
        struct row row;
        assert_int_equal(row_decode(r->value, &offset, r->first_rev, &row), OK);
        assert_true(x->row < x->m->row_count);
        kit_same_row(x->m, &row, &x->m->rows[x->row++]);
    }
}

static void wait_export(struct store *s, struct store_export *e, struct done_queue *done)
{
    struct errmsg em;
    if (!workers_step(s->options.workers)) store_step(s); /* a chunk, or the view */
    assert_ptr_equal(done_queue_take(done), store_export_work(e));
    if (store_export_result(e, &em) != OK) fail_msg("%s", em.text);
}

/* Reads it to its end: rows [0, rows) of the model. */
static void check_export(struct store *s, struct store_export *e, struct done_queue *done,
                         const struct kit_model *m, size_t rows)
{
    struct exported x = { .m = m };
    while (!store_export_at_end(e)) {
        store_export_next(e);
        wait_export(s, e, done);
        for (struct slice chunk = store_export_chunk(e); chunk.len != 0;) {
            struct store_record r;
            assert_int_equal(store_record_decode(&chunk, &r), OK);
            check_record(&x, &r);
        }
    }
    assert_int_equal(x.metas, 1);
    assert_int_equal(x.row, rows);
}

static void test_an_export_has_both_kinds(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct done_queue done;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_stats stats;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    done_queue_init_manual(&done);
    struct store_options options = manual_options(dir, workers);
    options.file_batch_bytes = 3000;
    kit_model_init(&m, 6);
    struct store *s = open_store(&options, &loaded);
    for (int i = 0; i < 60; i++) {
        kit_change(&m, i % 3 == 0 ? KIT_KEYS : 2);
        write_batch(&m, s);
    }
    store_stats_get(s, &stats);
    assert_true(stats.file_batch_count >= 20 && stats.file_batch_count < 40);
    struct store_export *e = store_export_new(s, &done);
    wait_export(s, e, &done);
    size_t rows = m.row_count;
    kit_change(&m, KIT_KEYS); /* not in the view */
    write_batch(&m, s);
    check_export(s, e, &done, &m, rows);
    store_export_free(e);
    check_all(&m, s);
    store_close(s);
    done_queue_deinit(&done);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- a file of which little is left -------------------------------------------------------- */

static size_t refs_to(const char *dir, uint64_t file)
{
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    size_t count = 0;
    kit_refs(dir, &refs);
    for (size_t i = 0; i < kit_ref_count(&refs); i++) count += kit_ref(&refs, i).file == file;
    return count;
}

/* All rows of a view, the model's from the first on. */
static void check_rows_view(struct store *s, const struct store_rows_view *view,
                            const struct kit_model *m, size_t rows)
{
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    struct exported x = { .m = m };
    leveldb_readoptions_t *options = leveldb_readoptions_create();
    leveldb_readoptions_set_snapshot(options, view->snapshot);
    leveldb_iterator_t *it = leveldb_create_iterator(s->rows.db, options);
    for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it)) {
        struct store_record r = { .kind = STORE_RECORD_PACK };
        struct errmsg em;
        assert_true(store_pack_key_read(store_db_iter_key(it), &r.first_rev, &r.first_n));
        enum err e = store_files_pack(&s->files, view->set, store_db_iter_value(it), &scratch,
                                      &r.value, &em);
        if (e != OK) fail_msg("%s", em.text);
        check_record(&x, &r);
    }
    leveldb_iter_destroy(it);
    leveldb_readoptions_destroy(options);
    assert_int_equal(x.row, rows);
}

/* Three batches in file 1; then most of their keys again, in file 2. */
static struct store *make_sparse(const struct store_options *options, struct kit_model *m)
{
    struct kit_loaded loaded;
    struct store *s = open_store(options, &loaded);
    for (uint32_t i = 0; i < 3; i++) {
        put_keys(m, i * 20, i * 20 + 20);
        write_batch(m, s);
    }
    store_close(s);
    s = open_store(options, &loaded);
    put_keys(m, 0, 40);
    write_batch(m, s);
    return s;
}

/* Who began before still reads all; then the file's last descriptor goes. */
static void test_a_sparse_file_is_emptied_under_readers(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct done_queue done;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_rows_view view;
    struct store_stats stats;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    done_queue_init_manual(&done);
    struct store_options options = manual_options(dir, workers);
    kit_model_init(&m, 7);
    struct store *s = make_sparse(&options, &m);
    check_stats(dir, s, 2, 1);
    size_t rows = m.row_count;
    store_files_view(&s->files, s->rows.db, &view);
    struct store_export *e = store_export_new(s, &done);
    wait_export(s, e, &done);

    compact_all(&m, s);
    assert_false(kit_pack_is_there(dir, 1));
    assert_true(kit_pack_is_there(dir, 2));
    check_stats(dir, s, 1, 1);
    store_stats_get(s, &stats);
    assert_true(stats.packs_rewritten > 0);
    assert_int_equal(kit_open_pack_files(dir), 2);
    check_all(&m, s);
    check_rows_view(s, &view, &m, rows);
    put_keys(&m, 50, 60);
    write_batch(&m, s);
    check_export(s, e, &done, &m, rows);
    check_rows_view(s, &view, &m, rows);
    store_files_view_free(&s->files, s->rows.db, &view);
    store_step(s);
    assert_int_equal(kit_open_pack_files(dir), 2); /* the export still has it */
    store_export_free(e);
    store_step(s);
    assert_int_equal(kit_open_pack_files(dir), 1);
    check_all(&m, s);
    store_close(s);
    assert_int_equal(kit_open_pack_files(dir), 0);

    assert_int_equal(refs_to(dir, 1), 0);
    assert_true(refs_to(dir, 2) > 0);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    check_all(&m, s);
    store_close(s);
    done_queue_deinit(&done);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* Little of it is named, though no row died: bytes of a batch that was not durable. */
static void test_a_file_with_a_long_dead_end_is_emptied(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    assert_int_equal(workers_new(0, &workers, NULL), OK);
    struct store_options options = manual_options(dir, workers);
    kit_model_init(&m, 8);
    struct store *s = open_store(&options, &loaded);
    put_keys(&m, 0, KIT_KEYS);
    write_batch(&m, s);
    store_close(s);
    char *path = kit_pack_path(dir, 1);
    struct buf bytes = kit_read_file(path);
    size_t len = bytes.len;
    memset(buf_reserve(&bytes, len + 2), 0, len + 2);
    bytes.len += len + 2;
    kit_write_file(path, buf_slice(&bytes));
    buf_deinit(&bytes);
    mem_free(path);
    s = open_store(&options, &loaded);
    run_steps(s);
    check_stats(dir, s, 0, 0);
    assert_int_equal(s->files.live_bytes + s->files.bytes, 0);
    check_all(&m, s);
    store_close(s);
    s = open_store(&options, &loaded);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- what is read ahead -------------------------------------------------------------------------- */

struct watched_disk {
    struct disk_io io; /* the kernel's */
    size_t hint_count;
    size_t guessing_count; /* files of packs that the kernel reads ahead in */
};

static int watched_open(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    struct watched_disk *d = ctx;
    size_t len = strlen(path);
    bool packs = len > 6 && strcmp(path + len - 6, ".packs") == 0;
    if (packs && (flags & (DISK_DIRECT | DISK_NO_AHEAD)) == 0) d->guessing_count++;
    return disk_io_posix()->open(NULL, path, flags, fd_out);
}

static void watched_will_read(void *ctx, int fd, uint64_t offset, size_t bytes)
{
    struct watched_disk *d = ctx;
    d->hint_count++;
    disk_io_posix()->will_read(NULL, fd, offset, bytes);
}

/* The start, which reads packs in order, says what comes next; the kernel is not left to guess. */
static void test_a_load_asks_for_what_follows(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct watched_disk disk = { .io = *disk_io_posix() };
    struct kit_model m;
    struct kit_loaded loaded;
    disk.io.ctx = &disk;
    disk.io.open = watched_open;
    disk.io.will_read = watched_will_read;
    struct store_options options = manual_options(dir, NULL);
    options.io = &disk.io;
    kit_model_init(&m, 11);
    struct store *s = open_store(&options, &loaded);
    for (int i = 0; i < 6; i++) {
        put_keys(&m, 0, KIT_KEYS);
        write_batch(&m, s);
    }
    assert_true(kit_pack_files(dir) > 0);
    assert_int_equal(disk.hint_count, 0);
    store_close(s);
    s = open_store(&options, &loaded);
    assert_true(disk.hint_count > 0);
    assert_int_equal(disk.guessing_count, 0);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- writes that fail ------------------------------------------------------------------------- */

struct full_disk {
    struct disk_io io; /* the kernel's; writes find no room */
    bool full;
};

static int64_t full_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    const struct full_disk *d = ctx;
    if (d->full && offset != 0) return -ENOSPC; /* the beginning was written */
    return disk_io_posix()->pwrite(NULL, fd, from, bytes, offset);
}

/* A stop that finds no room leaves out what does not fit, and the start removes the file. */
static void test_a_stop_without_room(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct full_disk disk = { .io = *disk_io_posix() };
    struct kit_model m;
    struct kit_loaded loaded;
    disk.io.ctx = &disk;
    disk.io.pwrite = full_pwrite;
    struct store_options options = manual_options(dir, NULL);
    options.io = &disk.io;
    options.write_buffer_bytes = 1; /* each batch begins a file */
    kit_model_init(&m, 10);
    struct store *s = open_store(&options, &loaded);
    put_keys(&m, 0, KIT_KEYS);
    write_batch(&m, s);
    struct kit_model before = m;
    disk.full = true;
    store_stop(s);
    put_keys(&m, 0, KIT_KEYS);
    before.rows = m.rows;
    kit_submit(&m, s);
    kit_submit(&m, s); /* nothing but a marker: dropped too */
    enum log_level level = log_level_get();
    log_level_set(LOG_ERROR); /* it warns */
    run_steps(s);
    log_level_set(level);
    assert_true(store_gave_up(s));
    assert_true(store_backlog_bytes(s) > 0);
    assert_int_equal(kit_pack_files(dir), 2);
    store_close(s);
    assert_int_equal(kit_open_pack_files(dir), 0);

    disk.full = false;
    s = open_store(&options, &loaded);
    assert_int_equal(loaded.index, before.index);
    assert_int_equal(loaded.row_count, before.row_count);
    kit_check_loaded(&before, &loaded);
    assert_int_equal(kit_pack_files(dir), 1);
    m.next_row = before.row_count;
    write_batch(&m, s); /* from the log, as it were */
    store_close(s);
    s = open_store(&options, &loaded);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* Of what compaction writes anew: nothing is removed then. */
static void test_a_stop_without_room_for_compaction(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct full_disk disk = { .io = *disk_io_posix() };
    struct kit_model m;
    struct kit_loaded loaded;
    disk.io.ctx = &disk;
    disk.io.pwrite = full_pwrite;
    struct store_options options = manual_options(dir, NULL);
    options.io = &disk.io;
    kit_model_init(&m, 13);
    struct store *s = open_store(&options, &loaded);
    put_keys(&m, 0, KIT_KEYS);
    write_batch(&m, s);
    put_keys(&m, 20, 30);
    write_batch(&m, s);
    kit_compact(&m, m.rev);
    write_batch(&m, s);
    disk.full = true;
    store_stop(s);
    store_compact(s, m.compacted);
    enum log_level level = log_level_get();
    log_level_set(LOG_ERROR); /* it warns */
    run_steps(s);
    log_level_set(level);
    assert_true(store_gave_up(s));
    store_close(s);

    disk.full = false;
    for (int i = 0; i < 2; i++) {
        s = open_store(&options, &loaded);
        kit_check_loaded(&m, &loaded);
        assert_int_equal(loaded.row_count < m.row_count, i); /* it has compacted at last */
        store_compact(s, m.compacted);
        run_steps(s);
        store_close(s);
    }
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* Under load the file may stay; afterwards what is left of it goes to rows/. A store of this size. */
static void test_a_sparse_file_goes_when_the_load_ended(void **state)
{
    (void)state;
    enum { BATCHES = 900 };
    char *dir = kit_dir();
    struct workers *workers;
    struct kit_model m;
    struct kit_loaded loaded;
    struct store_stats stats;
    assert_int_equal(workers_new(1, &workers, NULL), OK);
    struct store_options options = { .dir = dir, .workers = workers, .file_batch_bytes = KIT_FILES,
                                     .write_buffer_bytes = 512 << 10 };
    kit_model_init(&m, 14);
    struct store *s = open_store(&options, &loaded);
    for (uint32_t i = 0; i < BATCHES; i++) {
        put_keys(&m, 0, KIT_KEYS);
        kit_wait_batch(s, kit_submit(&m, s));
    }
    store_stats_get(s, &stats);
    assert_true(stats.pack_bytes > STORE_PASS_SMALL_BYTES);
    assert_true(kit_pack_is_there(dir, 1));
    kit_compact(&m, 5 + m.rev / 4); /* most of the first file is dead then, not all */
    kit_submit(&m, s);
    store_compact(s, m.compacted);
    kit_wait_floor(s, m.compacted);
    for (int i = 0; i < 30000 && kit_pack_is_there(dir, 1); i++) poll(NULL, 0, 1);
    assert_false(kit_pack_is_there(dir, 1));
    store_stats_get(s, &stats);
    assert_true(stats.pack_bytes > STORE_PASS_SMALL_BYTES / 2);
    store_close(s);
    s = open_store(&options, &loaded);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* A store in the making: it takes what comes and drops it, and says why. */
static void test_an_expendable_store_fails_alone(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct full_disk disk = { .io = *disk_io_posix() };
    struct kit_model m;
    struct kit_loaded loaded;
    struct errmsg em = { "" };
    disk.io.ctx = &disk;
    disk.io.pwrite = full_pwrite;
    struct store_options options = { .dir = dir, .expendable = true, .io = &disk.io,
                                     .write_buffer_bytes = 4 << 10, .file_batch_bytes = KIT_FILES };
    kit_model_init(&m, 11);
    struct store *s = open_store(&options, &loaded);
    put_keys(&m, 0, KIT_KEYS);
    kit_wait_batch(s, kit_submit(&m, s));
    assert_int_equal(store_failed(s, &em), OK);
    store_close(s);
    disk.full = true; /* before there is a thread again */
    s = open_store(&options, &loaded);
    uint64_t number = 0;
    for (int i = 0; i < 4; i++) {
        put_keys(&m, 0, KIT_KEYS);
        number = kit_submit(&m, s);
    }
    kit_wait_batch(s, number);
    assert_int_equal(store_backlog_bytes(s), 0);
    assert_int_equal(store_failed(s, &em), ERR_NOSPACE);
    assert_non_null(strstr(em.text, "packs/0000000002.packs"));
    store_close(s);
    assert_int_equal(kit_open_pack_files(dir), 0);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- everything at once ---------------------------------------------------------------------- */

/* Batches of both kinds, compaction, reads on two workers and exports, as in a server. */
static void test_reads_and_compaction_at_once(void **state)
{
    (void)state;
    struct workers *workers;
    assert_int_equal(workers_new(2, &workers, NULL), OK);
    for (uint64_t seed = 1; seed <= KIT_ROUNDS(4); seed++) {
        char *dir = kit_dir();
        struct store_options options = { .dir = dir, .workers = workers,
                                         .write_buffer_bytes = 2 << 10,
                                         .file_batch_bytes = seed % 2 == 0 ? KIT_FILES : 4000 };
        struct kit_model m;
        struct kit_loaded loaded;
        struct store_stats stats;
        uint64_t number = 0;
        kit_model_init(&m, 50 + seed);
        struct store *s = open_store(&options, &loaded);
        for (int round = 0; round < 12; round++) {
            for (int i = 0; i < 20; i++) kit_change(&m, i % 10 == 0 ? KIT_KEYS : 2);
            number = kit_submit(&m, s);
            kit_wait_batch(s, number);
            check_all(&m, s);
            if (round % 3 != 2) continue;
            kit_compact(&m, m.rev - 10);
            kit_wait_batch(s, kit_submit(&m, s));
            store_compact(s, m.compacted);
            check_all(&m, s); /* while it goes on */
        }
        kit_wait_floor(s, m.compacted);
        check_all(&m, s);
        store_stats_get(s, &stats);
        assert_true(stats.file_batch_count >= 12);
        store_close(s);
        assert_int_equal(kit_open_pack_files(dir), 0);
        s = open_store(&options, &loaded);
        kit_check_loaded(&m, &loaded);
        store_close(s);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
    workers_free(workers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_a_whole_scan_removes_files),
        cmocka_unit_test(test_bytes_behind_the_last_reference_are_ignored),
        cmocka_unit_test(test_no_more_files_than_the_limit),
        cmocka_unit_test(test_compaction_beyond_the_limit),
        cmocka_unit_test(test_many_starts),
        cmocka_unit_test(test_large_batches_go_to_files),
        cmocka_unit_test(test_a_file_of_dead_packs_goes),
        cmocka_unit_test(test_much_written_anew_goes_to_a_file),
        cmocka_unit_test(test_an_export_has_both_kinds),
        cmocka_unit_test(test_a_sparse_file_is_emptied_under_readers),
        cmocka_unit_test(test_a_file_with_a_long_dead_end_is_emptied),
        cmocka_unit_test(test_a_load_asks_for_what_follows),
        cmocka_unit_test(test_a_stop_without_room),
        cmocka_unit_test(test_a_stop_without_room_for_compaction),
        cmocka_unit_test(test_a_sparse_file_goes_when_the_load_ended),
        cmocka_unit_test(test_an_expendable_store_fails_alone),
        cmocka_unit_test(test_reads_and_compaction_at_once),
    };
    return cmocka_run_group_tests_name("disk/store_files_store", tests, NULL, NULL);
}
