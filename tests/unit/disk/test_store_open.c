/* Two databases as one: crashes between their writes and while they are made, one of them missing,
 * older than the other, or not complete. */
#include "store_kit.h"

#include "disk/store_db.h"

#define BATCHES 6

static struct store_options options_of(const char *dir)
{
    return (struct store_options){ .dir = dir, .write_buffer_bytes = 128 << 10 };
}

static enum err load(const char *dir, struct store **s, struct kit_loaded *loaded,
                     struct errmsg *em)
{
    struct store_options options = options_of(dir);
    em->text[0] = '\0';
    return kit_open(&options, s, loaded, em);
}

/* It is refused, and also when it is tried again. */
static void check_refused(const char *dir, const char *text)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(load(dir, &s, &loaded, &em), ERR_CORRUPT);
        if (strstr(em.text, text) == NULL) fail_msg("not '%s': %s", text, em.text);
    }
}

static void change_some(struct kit_model *m, int count)
{
    for (int i = 0; i < count; i++) kit_change(m, i % 10 == 9 ? KIT_KEYS : 1);
}

/* One more batch in a closed store. */
static void add_batch(const char *dir, struct kit_model *m, int changes)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    change_some(m, changes);
    kit_submit(m, s);
    store_close(s);
}

/* A store with the one database from here, the other from there. */
static void compose(char *dir, const char *rows_from, const char *meta_from)
{
    kit_each_file(dir, kit_remove_one, NULL);
    char *rows = kit_join(dir, "rows");
    char *meta = kit_join(dir, "meta");
    char *from = kit_join(rows_from, "rows");
    kit_copy_dir(from, rows);
    mem_free(from);
    from = kit_join(meta_from, "meta");
    kit_copy_dir(from, meta);
    mem_free(from);
    mem_free(rows);
    mem_free(meta);
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

static void test_crashes_while_it_is_made_and_losses(void **state)
{
    (void)state;
    static const struct {
        enum part_state rows, meta;
        bool with_batch;
        const char *refused; /* NULL: it opens */
    } cases[] = {
        { MADE, MADE, false, NULL },     { MAKING, MAKING, false, NULL },
        { GONE, MAKING, false, NULL },   { GONE, GONE, false, NULL },
        { MAKING, MADE, false, NULL },   { GONE, MADE, false, NULL },
        { MADE, MADE, true, NULL },      { MAKING, MADE, true, "rows: missing or never" },
        { GONE, MADE, true, "rows: missing or never" },
        { MADE, MAKING, false, "meta: missing or never" },
        { MADE, GONE, false, "meta: missing or never" },
        { MADE, MAKING, true, "meta: missing or never" },
        { MADE, GONE, true, "meta: missing or never" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *dir = kit_dir();
        struct store *s;
        struct kit_loaded loaded;
        struct errmsg em;
        struct kit_model m;
        kit_model_init(&m, 1);
        assert_int_equal(load(dir, &s, &loaded, &em), OK);
        store_close(s);
        if (cases[i].with_batch) add_batch(dir, &m, 5);
        set_part(dir, "rows", cases[i].rows);
        set_part(dir, "meta", cases[i].meta);
        if (cases[i].refused != NULL) {
            check_refused(dir, cases[i].refused);
        } else {
            add_batch(dir, &m, 5); /* and from then on all is as in any store */
            if (load(dir, &s, &loaded, &em) != OK) fail_msg("case %zu: %s", i, em.text);
            assert_int_equal(loaded.row_count, m.row_count);
            store_close(s);
        }
        kit_model_deinit(&m);
        kit_remove(dir);
    }
}

static void test_a_lost_current_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "rows/CURRENT", "meta/CURRENT" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *dir = kit_dir();
        struct kit_model m;
        kit_model_init(&m, 1);
        add_batch(dir, &m, 5);
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

/* --- a crash between the writes of a batch ----------------------------------------- */

/* Opens it: exactly the model's batch `before`, with its rows; the batch can be written again. */
static void check_rolled_back(const char *dir, const struct kit_model *before,
                              const struct kit_model *after)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    struct kit_model again = *after;
    again.next_row = before->row_count;
    for (int i = 0; i < 2; i++) {
        if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_int_equal(loaded.index, before->index);
        assert_int_equal(loaded.row_count, before->row_count);
        kit_check_loaded(before, &loaded);
        if (i == 1) kit_submit(&again, s);
        store_close(s);
    }
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(loaded.index, after->index);
    assert_int_equal(loaded.row_count, after->row_count);
    kit_check_loaded(after, &loaded);
    store_close(s);
}

static void test_packs_without_a_marker_are_removed(void **state)
{
    (void)state;
    char *dir = kit_dir();
    char *older = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 5);
    for (int batch = 0; batch < BATCHES; batch++) {
        struct kit_model before = m;
        add_batch(dir, &m, 0); /* nothing but a marker */
        before.index = m.index;
        kit_copy_dir(dir, older);
        add_batch(dir, &m, batch % 2 == 0 ? 3 : 300); /* also more than the write buffer */
        before.rows = m.rows; /* the model's arrays have moved; what was there is the same */
        compose(mixed, dir, older);
        check_rolled_back(mixed, &before, &m);
        compose(mixed, older, dir);
        check_refused(mixed, "packs are lost");
    }
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(older);
    kit_remove(dir);
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
static void test_torn_logs_of_the_last_batch(void **state)
{
    (void)state;
    static const char *const parts[] = { "rows", "meta" };
    char *dir = kit_dir();
    char *older = kit_dir();
    char *mixed = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 6);
    add_batch(dir, &m, 20);
    struct kit_model before = m;
    kit_copy_dir(dir, older);
    add_batch(dir, &m, 20);
    before.rows = m.rows;
    for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
        char log[64] = "";
        char *part = kit_join(mixed, parts[p]);
        compose(mixed, dir, p == 0 ? older : dir);
        kit_each_file(part, pick_log, log);
        char *path = kit_join(part, log);
        struct buf whole = kit_read_file(path);
        assert_true(whole.len > 100);
        size_t step = whole.len / 40 + 1;
        for (size_t cut = 1; cut <= whole.len; cut += step) {
            compose(mixed, dir, p == 0 ? older : dir);
            kit_write_file(path, (struct slice){ whole.at, whole.len - cut });
            check_rolled_back(mixed, &before, &m);
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
    struct store_db db;
    bool fresh = false;
    uint64_t trimmed = 0;
    CLEANUP(buf_deinit) struct buf keys = { 0 };
    char *path = kit_join(dir, "rows");
    assert_int_equal(store_db_open(&db, disk_io_posix(), path, 128 << 10, &fresh, &trimmed, NULL), OK);
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
    mem_free(path);
    return count;
}

static void test_each_missing_pack_is_noticed(void **state)
{
    (void)state;
    char *dir = kit_dir();
    char *copy = kit_dir();
    struct kit_model m;
    kit_model_init(&m, 7);
    for (int batch = 0; batch < 4; batch++) add_batch(dir, &m, 30);
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

/* --- a crash between the writes of a compaction ------------------------------------------ */

/* Opens it and waits until all that the load noted is gone. Returns the writes this took. */
static uint64_t compact_noted(const char *dir, const struct kit_model *m,
                              struct store_stats *stats)
{
    struct store *s;
    struct kit_loaded loaded;
    struct errmsg em;
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    kit_check_loaded(m, &loaded);
    kit_wait_floor(s, m->compacted);
    store_stats_get(s, stats);
    store_close(s);
    return stats->write_count;
}

/* The marker came, the change did not; and the change without its marker, which is damage. */
static void test_crashes_between_the_writes_of_a_compaction(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        char *dir = kit_dir();
        char *before = kit_dir();
        char *mixed = kit_dir();
        struct kit_model m;
        struct store_stats done;
        struct store_stats again;
        kit_model_init(&m, seed);
        if (seed % 2 == 0) m.value_max = 20;
        add_batch(dir, &m, 60);
        kit_compact(&m, seed == 6 ? m.rev : m.rev - seed);
        add_batch(dir, &m, 0);
        kit_copy_dir(dir, before);
        assert_int_equal(compact_noted(dir, &m, &done), 2); /* one to each */
        assert_true(done.packs_rewritten + done.packs_deleted > 0);

        compose(mixed, before, dir);
        assert_int_equal(compact_noted(mixed, &m, &again), 2);
        assert_int_equal(again.pack_bytes, done.pack_bytes);
        assert_int_equal(again.pack_count, done.pack_count);
        assert_int_equal(compact_noted(mixed, &m, &again), 0);

        compose(mixed, before, dir); /* a batch instead of the repetition */
        add_batch(mixed, &m, 5);
        compact_noted(mixed, &m, &again);
        compose(mixed, dir, before);
        check_refused(mixed, "packs are lost");
        kit_model_deinit(&m);
        kit_remove(mixed);
        kit_remove(before);
        kit_remove(dir);
    }
}

/* Only the newest row remains of the newest pack, which then begins where no batch's did. */
static void test_the_newest_pack_may_begin_later(void **state)
{
    (void)state;
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
    add_batch(dir, &m, 0);
    kit_copy_dir(dir, before);
    for (int round = 0; round < 2; round++) {
        char *at = round == 0 ? dir : mixed;
        if (round == 1) compose(mixed, before, dir); /* or is to begin there */
        assert_int_equal(compact_noted(at, &m, &stats), 2);
        assert_int_equal(stats.pack_count, 1);
        if (load(at, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_int_equal(loaded.row_count, 1);
        kit_check_loaded(&m, &loaded);
        store_close(s);
    }
    add_batch(dir, &m, 5);
    if (load(dir, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(mixed);
    kit_remove(before);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crashes_while_it_is_made_and_losses),
        cmocka_unit_test(test_a_lost_current_is_refused),
        cmocka_unit_test(test_the_format_before_is_refused),
        cmocka_unit_test(test_packs_without_a_marker_are_removed),
        cmocka_unit_test(test_torn_logs_of_the_last_batch),
        cmocka_unit_test(test_each_missing_pack_is_noticed),
        cmocka_unit_test(test_crashes_between_the_writes_of_a_compaction),
        cmocka_unit_test(test_the_newest_pack_may_begin_later),
    };
    return cmocka_run_group_tests_name("disk/store_open", tests, NULL, NULL);
}
