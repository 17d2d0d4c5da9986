/* Two databases and files of packs as one: crashes between their writes and while they are made,
 * one of them missing, older than the others, or not complete. */
#include "store_kit.h"

#include "disk/store_db.h"

#define BATCHES 6

static struct store_options options_of(const char *dir, size_t file_batch_bytes)
{
    return (struct store_options){ .dir = dir, .write_buffer_bytes = 128 << 10,
                                   .file_batch_bytes = file_batch_bytes };
}

/* Where the packs of all batches go. */
static const size_t kinds[] = { KIT_ROWS, KIT_FILES };

static enum err load_as(const char *dir, size_t file_batch_bytes, struct store **s,
                        struct kit_loaded *loaded, struct errmsg *em)
{
    struct store_options options = options_of(dir, file_batch_bytes);
    em->text[0] = '\0';
    return kit_open(&options, s, loaded, em);
}

static enum err load(const char *dir, struct store **s, struct kit_loaded *loaded,
                     struct errmsg *em)
{
    return load_as(dir, KIT_BOTH, s, loaded, em);
}

/* It is refused, and also when it is tried again; nothing is removed. */
static void check_refused(const char *dir, const char *text)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    size_t files = kit_pack_files(dir);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(load(dir, &s, &loaded, &em), ERR_CORRUPT);
        if (strstr(em.text, text) == NULL) fail_msg("not '%s': %s", text, em.text);
        assert_int_equal(kit_pack_files(dir), files);
    }
}

static void change_some(struct kit_model *m, int count)
{
    for (int i = 0; i < count; i++) kit_change(m, i % 10 == 9 ? KIT_KEYS : 1);
}

/* One more batch in a closed store. */
static void add_batch(const char *dir, struct kit_model *m, int changes, size_t file_batch_bytes)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    struct store_options options = options_of(dir, file_batch_bytes);
    if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    change_some(m, changes);
    kit_submit(m, s);
    store_close(s);
}

static void compose_part(const char *dir, const char *from_dir, const char *name)
{
    char *from = kit_join(from_dir, name);
    char *to = kit_join(dir, name);
    kit_copy_dir(from, to);
    mem_free(from);
    mem_free(to);
}

/* A store with the files of packs from here, the databases from there. A batch is written in this
 * order; compaction writes a file if it is much, meta/, then rows/, then files go. */
static void compose(char *dir, const char *packs_from, const char *rows_from, const char *meta_from)
{
    kit_each_file(dir, kit_remove_one, NULL);
    compose_part(dir, packs_from, "packs");
    compose_part(dir, rows_from, "rows");
    compose_part(dir, meta_from, "meta");
}

/* --- making ------------------------------------------------------------------ */

enum part_state { GONE, MAKING, MADE };

static void set_part(const char *dir, const char *name, enum part_state part)
{
    char *path = kit_join(dir, name);
    char *making = kit_join(path, "MAKING");
    if (part == GONE) {
        kit_each_file(path, kit_remove_one, NULL);
        assert_int_equal(rmdir(path), 0);
    }
    if (part == MAKING) kit_write_file(making, SLICE_NONE);
    mem_free(making);
    mem_free(path);
}

struct making {
    enum part_state rows, meta;
    bool with_batch;
    const char *refused; /* NULL: it opens */
    bool without_packs;  /* files and directory */
};

static void check_making(const struct making *c, size_t number, size_t file_batch_bytes)
{
    char *dir = kit_dir();
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    struct kit_model m;
    kit_model_init(&m, 1);
    assert_int_equal(load(dir, &s, &loaded, &em), OK);
    store_close(s);
    if (c->with_batch) add_batch(dir, &m, 15, file_batch_bytes);
    set_part(dir, "rows", c->rows);
    set_part(dir, "meta", c->meta);
    if (c->without_packs) set_part(dir, "packs", GONE);
    if (c->refused != NULL) {
        check_refused(dir, c->refused);
    } else {
        /* From then on all is as in any store. */
        add_batch(dir, &m, 5, file_batch_bytes);
        if (load(dir, &s, &loaded, &em) != OK) fail_msg("case %zu: %s", number, em.text);
        assert_int_equal(loaded.row_count, m.row_count);
        store_close(s);
    }
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_crashes_while_it_is_made_and_losses(void **state)
{
    (void)state;
    static const struct making cases[] = {
        { MADE, MADE, false, NULL, false },     { MAKING, MAKING, false, NULL, false },
        { GONE, MAKING, false, NULL, false },   { GONE, GONE, false, NULL, false },
        { MAKING, MADE, false, NULL, false },   { GONE, MADE, false, NULL, false },
        { MADE, MADE, true, NULL, false },
        { MAKING, MADE, true, "rows: missing or never", false },
        { GONE, MADE, true, "rows: missing or never", false },
        { MADE, MAKING, false, "meta: missing or never", false },
        { MADE, GONE, false, "meta: missing or never", false },
        { MADE, MAKING, true, "meta: missing or never", false },
        { MADE, GONE, true, "meta: missing or never", false },
        { MADE, MADE, false, NULL, true },      { MAKING, MAKING, false, NULL, true },
        { GONE, GONE, false, NULL, true },      { MAKING, MADE, false, NULL, true },
    };
    static const struct making lost[] = {
        { MADE, MADE, true, "packs/0000000001.packs: missing", true },
        { GONE, MADE, true, "rows: missing or never", true },
    };
    static const struct making unused = { MADE, MADE, true, NULL, true };
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) check_making(&cases[i], i, kinds[k]);
    }
    for (size_t i = 0; i < ARRAY_LEN(lost); i++) check_making(&lost[i], i, KIT_FILES);
    check_making(&unused, 0, KIT_ROWS);
}

static void test_a_lost_current_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "rows/CURRENT", "meta/CURRENT" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *dir = kit_dir();
        struct kit_model m;
        kit_model_init(&m, 1);
        add_batch(dir, &m, 5, KIT_BOTH);
        char *path = kit_join(dir, names[i]);
        assert_int_equal(unlink(path), 0);
        check_refused(dir, "CURRENT");
        mem_free(path);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
}

static void test_the_format_before_is_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    char *path = kit_join(dir, "CURRENT");
    kit_write_file(path, SLICE_LIT("MANIFEST-000002\n"));
    assert_int_equal(load(dir, &s, &loaded, &em), ERR_UNSUPPORTED);
    assert_non_null(strstr(em.text, "format 1"));
    mem_free(path);
    kit_remove(dir);
}

static uint32_t format_of(const char *dir, uint32_t exchange)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    struct store_db db = kit_open_db(dir, "meta");
    bool found = false;
    assert_int_equal(store_db_get(&db, SLICE_LIT("sformat"), &value, &found, NULL), OK);
    assert_true(found && value.len == sizeof(uint32_t));
    if (exchange != 0) {
        uint8_t bytes[4];
        u32_le_put(bytes, exchange);
        leveldb_writebatch_t *batch = leveldb_writebatch_create();
        leveldb_writebatch_put(batch, "sformat", 7, (const char *)bytes, sizeof bytes);
        assert_int_equal(store_db_write(&db, batch, NULL), OK);
        leveldb_writebatch_destroy(batch);
    }
    store_db_close(&db);
    return u32_le(value.at);
}

/* Format 2 is 3 without references: it is raised before the first one can be written. */
static void test_other_formats_are_raised_or_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct kit_model m;
    struct store *s;
    struct store_info info;
    struct kit_loaded loaded;
    struct errmsg em;
    struct store_options options = options_of(dir, KIT_FILES);
    kit_model_init(&m, 3);
    add_batch(dir, &m, 20, KIT_ROWS);
    set_part(dir, "packs", GONE);
    assert_int_equal(format_of(dir, 2), STORE_FORMAT);
    assert_int_equal(store_open(&options, &s, &info, &em), OK);
    store_close(s);
    assert_int_equal(format_of(dir, 0), STORE_FORMAT);
    add_batch(dir, &m, 20, KIT_FILES);
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(loaded.row_count, m.row_count);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    static const uint32_t others[] = { 1, STORE_FORMAT + 1, UINT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        format_of(dir, others[i]);
        assert_int_equal(load(dir, &s, &loaded, &em), ERR_UNSUPPORTED);
        assert_non_null(strstr(em.text, "this program knows 2 to 3"));
        assert_int_equal(format_of(dir, 0), others[i]);
    }
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- a crash between the writes of a batch ----------------------------------------- */

/* Every file that is there is named in rows/. */
static void check_no_file_unnamed(const char *dir)
{
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    size_t named = 0;
    uint64_t last = 0;
    kit_refs(dir, &refs);
    for (size_t i = 0; i < kit_ref_count(&refs); i++) {
        uint64_t file = kit_ref(&refs, i).file;
        assert_true(file >= last);
        named += file != last;
        last = file;
    }
    assert_int_equal(kit_pack_files(dir), named);
}

/* Opens it: exactly the model's batch `before`, with its rows; the batch can be written again. */
static void check_rolled_back(const char *dir, const struct kit_model *before,
                              const struct kit_model *after, size_t file_batch_bytes)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    struct kit_model again = *after;
    struct store_options options = options_of(dir, file_batch_bytes);
    again.next_row = before->row_count;
    for (int i = 0; i < 2; i++) {
        if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_int_equal(loaded.index, before->index);
        assert_int_equal(loaded.row_count, before->row_count);
        kit_check_loaded(before, &loaded);
        if (i == 1) kit_submit(&again, s);
        store_close(s);
        check_no_file_unnamed(dir);
    }
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(loaded.index, after->index);
    assert_int_equal(loaded.row_count, after->row_count);
    kit_check_loaded(after, &loaded);
    store_close(s);
}

static void check_without_marker(size_t file_batch_bytes)
{
    char *dir = kit_dir();
    char *older = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    bool in_files = file_batch_bytes == KIT_FILES;
    kit_model_init(&m, 5);
    for (int batch = 0; batch < KIT_ROUNDS(BATCHES); batch++) {
        struct kit_model before = m;
        add_batch(dir, &m, 0, file_batch_bytes); /* nothing but a marker */
        before.index = m.index;
        kit_copy_dir(dir, older);
        /* Also more than the write buffer; less than half a block would not stay in a file. */
        int few = in_files ? 15 : 3;
        add_batch(dir, &m, batch % 2 == 0 ? few : 300, file_batch_bytes);
        before.rows = m.rows; /* the model's arrays have moved; what was there is the same */
        compose(mixed, dir, dir, older);
        check_rolled_back(mixed, &before, &m, file_batch_bytes);
        compose(mixed, dir, older, older); /* only the file was written */
        if (in_files) assert_int_equal(kit_pack_files(mixed), kit_pack_files(older) + 1);
        check_rolled_back(mixed, &before, &m, file_batch_bytes);
        compose(mixed, dir, older, dir);
        check_refused(mixed, "packs are lost");
        compose(mixed, older, older, dir);
        check_refused(mixed, "packs are lost");
        if (!in_files) continue;
        compose(mixed, older, dir, dir);
        check_refused(mixed, "missing");
        compose(mixed, older, dir, older); /* nothing that is named is missing */
        check_rolled_back(mixed, &before, &m, file_batch_bytes);
    }
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(older);
    kit_remove(dir);
}

static void test_packs_without_a_marker_are_removed(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) check_without_marker(kinds[k]);
}

/* The name of the newest log. */
static void pick_log(void *ctx, const char *dir, const char *name)
{
    char *best = ctx;
    size_t len = strlen(name);
    (void)dir;
    if (len < 5 || strcmp(name + len - 4, ".log") != 0) return;
    if (best[0] == '\0' || strcmp(name, best) > 0) snprintf(best, 64, "%.63s", name);
}

/* The crash came in the middle of the write to rows/. Or of that to meta/. */
static void check_torn_logs(size_t file_batch_bytes)
{
    static const char *const parts[] = { "rows", "meta" };
    char *dir = kit_dir();
    char *older = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 6);
    add_batch(dir, &m, 20, file_batch_bytes);
    struct kit_model before = m;
    kit_copy_dir(dir, older);
    add_batch(dir, &m, 20, file_batch_bytes);
    before.rows = m.rows;
    for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
        char log[64] = "";
        char *part = kit_join(mixed, parts[p]);
        compose(mixed, dir, dir, p == 0 ? older : dir);
        kit_each_file(part, pick_log, log);
        char *path = kit_join(part, log);
        struct buf whole = kit_read_file(path);
        assert_true(whole.len > 100);
        size_t step = whole.len / KIT_ROUNDS(40) + 1;
        for (size_t cut = 1; cut <= whole.len; cut += step) {
            compose(mixed, dir, dir, p == 0 ? older : dir);
            kit_write_file(path, (struct slice){ whole.at, whole.len - cut });
            check_rolled_back(mixed, &before, &m, file_batch_bytes);
        }
        buf_deinit(&whole);
        mem_free(path);
        mem_free(part);
    }
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(older);
    kit_remove(dir);
}

static void test_torn_logs_of_the_last_batch(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) check_torn_logs(kinds[k]);
}

/* The crash came in the middle of the write to the file, which may have anything then. */
static void test_torn_file_of_the_last_batch(void **state)
{
    (void)state;
    char *dir = kit_dir();
    char *older = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 6);
    add_batch(dir, &m, 20, KIT_FILES);
    struct kit_model before = m;
    kit_copy_dir(dir, older);
    add_batch(dir, &m, 20, KIT_FILES);
    before.rows = m.rows;
    char *path = kit_pack_path(mixed, 2);
    compose(mixed, dir, older, older);
    struct buf whole = kit_read_file(path);
    size_t step = whole.len / KIT_ROUNDS(20) + 1;
    for (size_t cut = 1; cut <= whole.len; cut += step) {
        for (int fill = 0; fill < 2; fill++) {
            compose(mixed, dir, older, older);
            if (fill == 1) memset(whole.at + whole.len - cut, 0, cut);
            kit_write_file(path, (struct slice){ whole.at, whole.len - (fill == 0 ? cut : 0) });
            check_rolled_back(mixed, &before, &m, KIT_FILES);
        }
    }
    buf_deinit(&whole);
    mem_free(path);
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(older);
    kit_remove(dir);
}

/* --- packs that are missing ----------------------------------------------------------- */

/* The keys of all packs. */
static void list_packs(const struct store_db *db, struct buf *keys)
{
    leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read_checked);
    for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it)) {
        buf_append_slice(keys, store_db_iter_key(it));
    }
    assert_int_equal(store_db_iter_error(it, NULL), OK);
    leveldb_iter_destroy(it);
}

static size_t remove_pack(const char *dir, size_t number)
{
    CLEANUP(buf_deinit) struct buf keys = { 0 };
    struct store_db db = kit_open_db(dir, "rows");
    list_packs(&db, &keys);
    size_t count = keys.len / STORE_PACK_KEY_BYTES;
    if (number < count) {
        leveldb_writebatch_t *batch = leveldb_writebatch_create();
        const uint8_t *key = keys.at + number * STORE_PACK_KEY_BYTES;
        leveldb_writebatch_delete(batch, (const char *)key, STORE_PACK_KEY_BYTES);
        assert_int_equal(store_db_write(&db, batch, NULL), OK);
        leveldb_writebatch_destroy(batch);
    }
    store_db_close(&db);
    return count;
}

static void check_missing_packs(size_t file_batch_bytes)
{
    char *dir = kit_dir();
    char *copy = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 7);
    for (int batch = 0; batch < 4; batch++) add_batch(dir, &m, 30, file_batch_bytes);
    kit_copy_dir(dir, copy);
    size_t count = remove_pack(copy, SIZE_MAX);
    assert_true(count > 8);
    for (size_t i = 0; i < count; i++) { /* the last is the tail */
        kit_copy_dir(dir, copy);
        assert_int_equal(remove_pack(copy, i), count);
        check_refused(copy, "packs are lost");
    }
    kit_model_deinit(&m);
    kit_remove(copy);
    kit_remove(dir);
}

static void test_each_missing_pack_is_noticed(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) check_missing_packs(kinds[k]);
}

/* --- a crash between the writes of a compaction ------------------------------------------ */

/* Opens it and waits until all that the load noted is gone. Returns the writes this took. */
static uint64_t compact_noted(const char *dir, const struct kit_model *m, size_t file_batch_bytes,
                              struct store_stats *stats)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    if (load_as(dir, file_batch_bytes, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    kit_check_loaded(m, &loaded);
    kit_wait_floor(s, m->compacted);
    store_stats_get(s, stats);
    store_close(s);
    return stats->write_count;
}

/* The marker came, the change did not; and the change without its marker, which is damage. All that
 * goes fits in one write to each. Packs were made in files or in rows/, and are written anew there. */
static void check_compaction(uint64_t seed, size_t made, size_t anew)
{
    char *dir = kit_dir();
    char *before = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    struct store_stats done;
    struct store_stats again;
    bool in_files = made == KIT_FILES;
    kit_model_init(&m, seed);
    if (seed % 2 == 0) m.value_max = 20;
    add_batch(dir, &m, 60, made);
    kit_compact(&m, seed == 6 ? m.rev : m.rev - seed);
    add_batch(dir, &m, 0, made);
    kit_copy_dir(dir, before);
    assert_int_equal(kit_pack_files(dir), in_files);
    uint64_t writes = compact_noted(dir, &m, anew, &done);
    /* One to each; or one more, for what was left in a file that is sparse then. */
    assert_true(writes == 2 || ((in_files || anew == KIT_FILES) && writes == 4));
    assert_true(done.packs_rewritten + done.packs_deleted > 0);
    size_t files = kit_pack_files(dir);
    assert_in_range(files, 0, anew == KIT_FILES);
    assert_false(kit_pack_is_there(dir, 1) && in_files);

    compose(mixed, dir, dir, dir);
    if (in_files) kit_put_pack_file(mixed, "0000000001.packs", SLICE_LIT("was to go"));
    assert_int_equal(compact_noted(mixed, &m, anew, &again), 0);
    assert_int_equal(again.pack_bytes, done.pack_bytes);
    assert_int_equal(kit_pack_files(mixed), files);
    if (writes == 2) {
        compose(mixed, before, before, dir);
        assert_int_equal(compact_noted(mixed, &m, anew, &again), 2);
        assert_int_equal(again.pack_bytes, done.pack_bytes);
        assert_int_equal(again.pack_count, done.pack_count);
        assert_int_equal(kit_pack_files(mixed), files);
        assert_int_equal(compact_noted(mixed, &m, anew, &again), 0);

        compose(mixed, before, before, dir); /* a batch instead of the repetition */
        add_batch(mixed, &m, 5, made);
        compact_noted(mixed, &m, anew, &again);
    }
    compose(mixed, dir, dir, before);
    check_refused(mixed, "packs are lost");
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(before);
    kit_remove(dir);
}

static void test_crashes_between_the_writes_of_a_compaction(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        check_compaction(seed, KIT_ROWS, KIT_ROWS);
        check_compaction(seed, KIT_ROWS, KIT_FILES);
        check_compaction(seed, KIT_FILES, KIT_ROWS);
        check_compaction(seed, KIT_FILES, KIT_FILES);
    }
}

/* Only the newest row remains of the newest pack, which then begins where no batch's did. */
static void check_newest_pack(size_t file_batch_bytes)
{
    char *dir = kit_dir();
    char *before = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats stats;
    struct errmsg em;
    kit_model_init(&m, 8);
    m.value_max = 10;
    for (int i = 0; i < 50; i++) {
        m.rev++;
        m.index++;
        kit_event(&m, 1, 3, ROW_PUT, false);
    }
    kit_compact(&m, m.rev);
    add_batch(dir, &m, 0, file_batch_bytes);
    kit_copy_dir(dir, before);
    for (int round = 0; round < 2; round++) {
        char *at = round == 0 ? dir : mixed;
        if (round == 1) compose(mixed, before, before, dir); /* or is to begin there */
        assert_int_equal(compact_noted(at, &m, KIT_ROWS, &stats), 2);
        assert_int_equal(stats.pack_count, 1);
        if (load(at, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_int_equal(loaded.row_count, 1);
        kit_check_loaded(&m, &loaded);
        store_close(s);
    }
    add_batch(dir, &m, 5, file_batch_bytes);
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(before);
    kit_remove(dir);
}

static void test_the_newest_pack_may_begin_later(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) check_newest_pack(kinds[k]);
}

/* --- a process that is killed at any operation ---------------------------------------------- */

/* The kernel's files; what is there before each change, and after each write of LevelDB, is opened
 * as the next process would. */
struct killed {
    struct disk_io io;
    char *dir;
    char *copy;
    const struct kit_model *before; /* it has this one's batches, */
    const struct kit_model *after;  /* or this one's */
    size_t times;
    size_t times_after;
};

static void run_steps(struct store *s)
{
    while (store_step(s)) {
    }
}

static void open_manual(const char *dir, const struct disk_io *io, struct store **s,
                        struct kit_loaded *loaded)
{
    struct errmsg em;
    struct store_options options = options_of(dir, KIT_FILES);
    options.write_buffer_bytes = 512; /* small files */
    options.manual = true;
    options.io = io;
    if (kit_open(&options, s, loaded, &em) != OK) fail_msg("%s", em.text);
}

/* Also when it has compacted again what it found. */
static void killed_now(struct killed *k)
{
    if (k->before == NULL) return;
    kit_copy_dir(k->dir, k->copy);
    for (int i = 0; i < 2; i++) {
        struct store *s;
        struct kit_loaded loaded;
        open_manual(k->copy, NULL, &s, &loaded);
        const struct kit_model *m = loaded.index == k->after->index ? k->after : k->before;
        assert_int_equal(loaded.index, m->index);
        kit_check_loaded(m, &loaded);
        if (m->compacted == 0) assert_int_equal(loaded.row_count, m->row_count);
        if (i == 0) run_steps(s);
        store_close(s);
        check_no_file_unnamed(k->copy);
        k->times_after += i == 0 && m == k->after;
    }
    k->times++;
}

static int killed_open(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    if ((flags & DISK_CREATE) != 0) killed_now(ctx);
    return disk_io_posix()->open(NULL, path, flags, fd_out);
}

static int64_t killed_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    killed_now(ctx);
    return disk_io_posix()->pwrite(NULL, fd, from, bytes, offset);
}

static int killed_sync(void *ctx, int fd)
{
    killed_now(ctx);
    return disk_io_posix()->sync(NULL, fd);
}

static int killed_unlink(void *ctx, const char *path)
{
    killed_now(ctx);
    return disk_io_posix()->unlink(NULL, path);
}

/* After each write of LevelDB. */
static int killed_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name),
                       void *arg)
{
    killed_now(ctx);
    return disk_io_posix()->list(NULL, dir, each, arg);
}

static void killed_batch(struct killed *k, struct kit_model *m, struct store *s, int changes)
{
    struct kit_model before = *m;
    for (int i = 0; i < changes; i++) kit_change(m, i % 5 == 0 ? 20 : 1);
    if (changes == 0) kit_compact(m, m->rev);
    before.rows = m->rows;
    kit_submit(m, s);
    k->before = &before;
    k->after = m;
    run_steps(s);
    k->before = m;
    store_compact(s, m->compacted);
    run_steps(s);
    killed_now(k);
    k->before = NULL;
}

static void test_a_process_killed_at_any_operation(void **state)
{
    (void)state;
    struct killed k = { .io = *disk_io_posix(), .dir = kit_dir(), .copy = kit_dir() };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    k.io.ctx = &k;
    k.io.open = killed_open;
    k.io.pwrite = killed_pwrite;
    k.io.sync = killed_sync;
    k.io.unlink = killed_unlink;
    k.io.list = killed_list;
    kit_model_init(&m, 9);
    m.value_max = 100;
    /* The second open makes tables of what is new. What is written after it is less than LevelDB's
     * smallest buffer, so no file comes or goes while it is copied. */
    open_manual(k.dir, NULL, &s, &loaded);
    store_close(s);
    for (int round = 0; round < 2; round++) {
        size_t files = kit_pack_files(k.dir);
        open_manual(k.dir, &k.io, &s, &loaded);
        for (int batch = 0; batch < 4; batch++) killed_batch(&k, &m, s, 30);
        assert_true(kit_pack_files(k.dir) > files + 1);
        killed_batch(&k, &m, s, 0);
        assert_true(kit_pack_files(k.dir) < 2); /* all went but what cannot */
        killed_batch(&k, &m, s, 5);
        store_close(s);
    }
    assert_true(k.times > 60 && k.times_after > 20 && k.times_after < k.times);
    kit_model_deinit(&m);
    kit_remove(k.copy);
    kit_remove(k.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crashes_while_it_is_made_and_losses),
        cmocka_unit_test(test_a_lost_current_is_refused),
        cmocka_unit_test(test_the_format_before_is_refused),
        cmocka_unit_test(test_other_formats_are_raised_or_refused),
        cmocka_unit_test(test_packs_without_a_marker_are_removed),
        cmocka_unit_test(test_torn_logs_of_the_last_batch),
        cmocka_unit_test(test_torn_file_of_the_last_batch),
        cmocka_unit_test(test_each_missing_pack_is_noticed),
        cmocka_unit_test(test_crashes_between_the_writes_of_a_compaction),
        cmocka_unit_test(test_the_newest_pack_may_begin_later),
        cmocka_unit_test(test_a_process_killed_at_any_operation),
    };
    return cmocka_run_group_tests_name("disk/store_open", tests, NULL, NULL);
}
