/* The scan at start: order, what it refuses, and what a load that notes the dead leads to. */
#include "store_kit.h"

#include "disk/store_db.h"

static void make(const char *dir, struct kit_model *m)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 128 << 10 };
    struct store *s;
    struct kit_loaded loaded;
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    for (int i = 0; i < 300; i++) kit_change(m, i % 10 == 0 ? KIT_KEYS : 1);
    kit_submit(m, s);
    store_close(s);
}

/* Puts a record behind the store's back. */
static void put(const char *dir, const char *name, struct slice key, struct slice value)
{
    struct store_db db;
    bool fresh = false;
    uint64_t trimmed = 0;
    char *path = kit_join(dir, name);
    assert_int_equal(store_db_open(&db, disk_io_posix(), path, 128 << 10, &fresh, &trimmed, NULL), OK);
    mem_free(path);
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    leveldb_writebatch_put(batch, (const char *)key.at, key.len, (const char *)value.at, value.len);
    assert_int_equal(store_db_write(&db, batch, NULL), OK);
    leveldb_writebatch_destroy(batch);
    store_db_close(&db);
}

static enum err load(const char *dir, struct errmsg *em)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 128 << 10 };
    struct store *s;
    struct kit_loaded loaded;
    em->text[0] = '\0';
    enum err e = kit_open(&options, &s, &loaded, em);
    if (e == OK) store_close(s);
    return e;
}

static struct slice key_slice(const struct store_pack_key *key)
{
    return (struct slice){ key->at, sizeof key->at };
}

static void test_foreign_records_are_refused(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf pack = { 0 };
    struct row row = { .rev = 1, .n = 2, .op = ROW_PUT, .create = 1, .version = 1,
                       .key = SLICE_LIT("\0k0001"), .value = SLICE_LIT("v") };
    buf_append_u8(&pack, PACK_FORMAT);
    row_encode(&pack, &row, 1);
    struct store_pack_key right = store_pack_key(1, 2); /* before all that are there */
    struct store_pack_key wrong_n = store_pack_key(1, 3);
    struct store_pack_key late = store_pack_key(90000, 2);
    const struct {
        const char *name;
        struct slice key;
        struct slice value;
        const char *want; /* NULL: it opens */
    } cases[] = {
        { "rows", key_slice(&right), buf_slice(&pack), "packs are lost, or not as" },
        { "rows", key_slice(&wrong_n), buf_slice(&pack), "is not in its place" },
        { "rows", key_slice(&right), { pack.at, pack.len - 1 }, "is damaged" },
        { "rows", key_slice(&right), { pack.at, 3 }, "is damaged" },
        { "rows", key_slice(&right), SLICE_LIT("\x7f" "abc"), "unknown format" },
        { "rows", key_slice(&right), SLICE_NONE, "unknown format" },
        { "rows", SLICE_LIT("r123"), buf_slice(&pack), "damaged key" },
        { "rows", SLICE_LIT("z"), SLICE_NONE, "damaged key" },
        { "rows", SLICE_LIT("a"), SLICE_NONE, "damaged key" },
        { "rows", SLICE_LIT("mx"), SLICE_NONE, "damaged key" },
        { "rows", key_slice(&late), SLICE_NONE, NULL }, /* of no batch */
        { "meta", SLICE_LIT("p"), SLICE_LIT("?"), "unknown kind" },
        { "meta", key_slice(&right), buf_slice(&pack), "unknown kind" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *dir = kit_dir();
        struct kit_model m;
        struct errmsg em;
        kit_model_init(&m, 1);
        make(dir, &m);
        put(dir, cases[i].name, cases[i].key, cases[i].value);
        enum err e = load(dir, &em);
        bool right_end = cases[i].want == NULL ? e == OK
                                               : e == ERR_CORRUPT &&
                                                     strstr(em.text, cases[i].want) != NULL;
        if (!right_end) fail_msg("case %zu: %s", i, em.text);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
}

static void test_a_floor_above_the_compacted_revision_is_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct kit_model m;
    struct errmsg em;
    kit_model_init(&m, 1);
    make(dir, &m);
    put(dir, "meta", SLICE_LIT("sfloor"), SLICE_LIT("\5\0\0\0\0\0\0\0"));
    assert_int_equal(load(dir, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "revision 5"));
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* What the load noted as dead goes, though compaction never ran before the restart. */
static void test_noted_rows_go(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = { .dir = dir, .write_buffer_bytes = 128 << 10 };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats before;
    struct store_stats after;
    kit_model_init(&m, 2);
    make(dir, &m);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    kit_compact(&m, m.rev);
    kit_submit(&m, s);
    store_close(s); /* store_compact was never called */
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    store_stats_get(s, &before);
    kit_check_loaded(&m, &loaded);
    kit_wait_floor(s, m.rev);
    store_stats_get(s, &after);
    assert_true(after.packs_deleted + after.packs_rewritten > 0);
    assert_true(after.pack_bytes * 4 < before.pack_bytes);
    store_close(s);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- many and large packs ------------------------------------------------------------ */

#define BIG_VALUE_BYTES (1u << 20)

/* One pack a revision: even ones small, odd ones larger than what the reader hands over at once. */
static void make_big(const char *dir, uint64_t revs)
{
    struct store_options options = { .dir = dir };
    struct store *s;
    struct kit_loaded loaded;
    uint8_t *value = mem_alloc(BIG_VALUE_BYTES);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    for (uint64_t rev = 1; rev <= revs; rev++) {
        struct buf pack = { 0 };
        memset(value, (int)rev, BIG_VALUE_BYTES);
        struct row row = {
            .rev = rev, .n = 1, .op = ROW_PUT, .create = rev, .version = 1,
            .key = { (const uint8_t *)&rev, sizeof rev },
            .value = { value, rev % 2 == 0 ? 10 : BIG_VALUE_BYTES },
        };
        buf_append_u8(&pack, PACK_FORMAT);
        row_encode(&pack, &row, rev);
        struct store_batch *b = store_batch_new();
        store_batch_pack(b, rev, 1, blob_copy(buf_slice(&pack)));
        buf_deinit(&pack);
        kit_wait_batch(s, store_submit(s, b, &(struct store_cut){ .applied_index = rev }));
    }
    mem_free(value);
    store_close(s);
}

struct big_load {
    uint64_t rev;       /* the last seen */
    uint64_t refuse_at; /* 0: none */
    bool gap;
};

static enum err big_meta(void *ctx, struct slice name, struct slice value)
{
    (void)ctx, (void)name, (void)value;
    return ERR_SYNTAX;
}

static enum err big_pack(void *ctx, uint64_t first_rev, uint32_t first_n, struct slice pack)
{
    struct big_load *l = ctx;
    size_t offset = 0;
    struct row row;
    assert_int_equal(first_n, 1);
    if (first_rev != l->rev + 1) l->gap = true;
    if (l->gap || first_rev == l->refuse_at) return ERR_UNSUPPORTED;
    l->rev = first_rev;
    TRY(pack_begin(pack, &offset));
    TRY(row_decode(pack, &offset, first_rev, &row));
    assert_int_equal(offset, pack.len);
    assert_int_equal(row.value.len, first_rev % 2 == 0 ? 10 : BIG_VALUE_BYTES);
    assert_int_equal(row.value.at[row.value.len - 1], first_rev & 0xff);
    return OK;
}

static enum err scan_big(const char *dir, struct big_load *l, struct errmsg *em)
{
    struct store_options options = { .dir = dir };
    struct store *s;
    struct store_info info;
    em->text[0] = '\0';
    TRY(store_open(&options, &s, &info, em));
    enum err e = store_scan(s, big_meta, big_pack, l, em);
    store_close(s);
    return e;
}

/* More than may stay mapped: rows/ is opened anew on the way. */
static void test_large_packs_come_in_order(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct errmsg em;
    struct big_load l = { 0 };
    make_big(dir, 300);
    assert_int_equal(scan_big(dir, &l, &em), OK);
    assert_int_equal(l.rev, 300);
    for (uint64_t at = 1; at <= 300; at += 23) {
        l = (struct big_load){ .refuse_at = at };
        assert_int_equal(scan_big(dir, &l, &em), ERR_UNSUPPORTED);
        assert_int_equal(l.rev, at - 1);
    }
    kit_remove(dir);
}

static void pick_oldest_table(void *ctx, const char *dir, const char *name)
{
    char **oldest = ctx;
    if (strstr(name, ".ldb") == NULL) return;
    char *path = kit_join(dir, name);
    bool older = *oldest == NULL || strcmp(path, *oldest) < 0;
    if (older) {
        char *swap = *oldest;
        *oldest = path;
        path = swap;
    }
    mem_free(path);
}

/* The oldest: the newest may be one that is not in the manifest yet and is made again from the log. */
static void damage_a_table(const char *dir, off_t at)
{
    char *rows = kit_join(dir, "rows");
    char *path = NULL;
    kit_each_file(rows, pick_oldest_table, &path);
    assert_non_null(path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    fputc(0x55, file);
    fclose(file);
    mem_free(path);
    mem_free(rows);
}

/* LevelDB leaves out a block that it cannot read. The caller stumbles over what is missing; what is
 * reported is the block. */
static void test_the_damaged_block_is_what_is_reported(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct errmsg em;
    struct big_load l = { 0 };
    make_big(dir, 60);
    damage_a_table(dir, 2 << 20);
    assert_int_equal(scan_big(dir, &l, &em), ERR_CORRUPT);
    assert_true(l.gap);
    assert_non_null(strstr(em.text, "block checksum mismatch"));
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_records_are_refused),
        cmocka_unit_test(test_a_floor_above_the_compacted_revision_is_refused),
        cmocka_unit_test(test_noted_rows_go),
        cmocka_unit_test(test_large_packs_come_in_order),
        cmocka_unit_test(test_the_damaged_block_is_what_is_reported),
    };
    return cmocka_run_group_tests_name("disk/store_load", tests, NULL, NULL);
}
