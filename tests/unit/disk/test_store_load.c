/* The scan at start: order, what it refuses, and what a load that notes the dead leads to. */
#include "store_kit.h"

#include "disk/store_db.h"

static void make(const char *dir, struct kit_model *m, size_t file_batch_bytes)
{
    struct store_options options = { .dir = dir, .write_buffer_bytes = 128 << 10,
                                     .file_batch_bytes = file_batch_bytes };
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
    struct store_db db = kit_open_db(dir, name);
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

struct record {
    const char *name; /* of the database */
    struct slice key;
    struct slice value;
    const char *want; /* NULL: it opens */
};

/* A refused load removes nothing, so the next one is refused too. */
static void check_record(const struct record *record, size_t number, size_t file_batch_bytes)
{
    char *dir = kit_dir();
    struct kit_model m;
    struct errmsg em;
    kit_model_init(&m, 1);
    make(dir, &m, file_batch_bytes);
    size_t files = kit_pack_files(dir);
    put(dir, record->name, record->key, record->value);
    for (int i = 0; i < 2; i++) {
        enum err e = load(dir, &em);
        bool right = record->want == NULL
                         ? e == OK
                         : e == ERR_CORRUPT && strstr(em.text, record->want) != NULL;
        if (!right) fail_msg("case %zu: %s: %s", number, err_name(e), em.text);
        assert_int_equal(kit_pack_files(dir), files);
    }
    kit_model_deinit(&m);
    kit_remove(dir);
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
    const struct record cases[] = {
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
        check_record(&cases[i], i, KIT_ROWS);
        check_record(&cases[i], i, KIT_FILES);
    }
}

/* A reference, as it is with one field replaced. */
struct forged {
    struct store_ref ref;
    size_t len; /* of the value */
    bool late;
    const char *want;
};

static void check_forged(const struct forged *f, size_t number)
{
    uint8_t bytes[STORE_REF_BYTES + 1] = { 0 };
    struct store_pack_key key = f->late ? store_pack_key(90000, 2) : store_pack_key(1, 2);
    store_ref_encode(&f->ref, bytes);
    struct record record = { "rows", key_slice(&key), { bytes, f->len }, f->want };
    check_record(&record, number, KIT_FILES);
}

static void test_foreign_references_are_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    struct kit_model m;
    kit_model_init(&m, 1);
    make(dir, &m, KIT_FILES); /* as each case makes it */
    kit_refs(dir, &refs);
    kit_model_deinit(&m);
    kit_remove(dir);
    struct store_ref right = kit_ref(&refs, 0);
    struct store_ref last = kit_ref(&refs, kit_ref_count(&refs) - 1);
    uint64_t end = last.offset + last.bytes;
    size_t len = STORE_REF_BYTES;
    static const char place[] = "packs/0000000001.packs";
    static const char crc[] = "packs/0000000001.packs offset 0: damaged";
    assert_true(right.file == 1 && right.offset == 0 && last.file == 1);
    struct store_ref none = right, empty = right, away = right, behind = right, over = right;
    struct store_ref far = right, farther = right, huge = right, wrong = right, moved = right;
    struct store_ref shorter = right;
    none.file = 0;
    empty.bytes = 0;
    away.file = 99;
    behind.offset = end;
    over.offset = end - right.bytes + 1;
    far.offset = INT64_MAX - right.bytes;
    farther.offset = far.offset + 1;
    huge.bytes = UINT32_MAX;
    wrong.crc ^= 0x100;
    moved.offset++;
    shorter.bytes--;
    const struct forged cases[] = {
        { right, 1, false, "damaged reference" },
        { right, len - 1, false, "damaged reference" },
        { right, len + 1, false, "damaged reference" },
        { none, len, false, "damaged reference" },
        { empty, len, false, "damaged reference" },
        { away, len, false, "packs/0000000099.packs: missing" },
        { behind, len, false, place },
        { over, len, false, place },
        { far, len, false, place },
        { farther, len, false, "damaged reference" },
        { huge, len, false, place },
        { wrong, len, false, crc },
        { shorter, len, false, crc },
        { moved, len, false, "packs/0000000001.packs offset 1: damaged" },
        { right, len, false, "rows: pack of revision 1 is" }, /* not in its place, or worse */
        { right, len, true, NULL }, /* of no batch */
        { away, len, true, NULL },
        { none, 7, true, NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) check_forged(&cases[i], i);
}

/* A pack in its reference's place is as good: compaction does that. */
static void test_a_pack_may_replace_its_reference(void **state)
{
    (void)state;
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    struct kit_model m;
    struct errmsg em;
    kit_model_init(&m, 1);
    make(dir, &m, KIT_FILES);
    kit_refs(dir, &refs);
    struct store_ref first = kit_ref(&refs, 0);
    struct store_pack_key key = store_pack_key(m.rows[0].rev, m.rows[0].n);
    char *path = kit_pack_path(dir, 1);
    struct buf file = kit_read_file(path);
    put(dir, "rows", key_slice(&key), (struct slice){ file.at, first.bytes });
    if (load(dir, &em) != OK) fail_msg("%s", em.text);
    buf_deinit(&file);
    mem_free(path);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_a_floor_above_the_compacted_revision_is_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct kit_model m;
    struct errmsg em;
    kit_model_init(&m, 1);
    make(dir, &m, KIT_BOTH);
    put(dir, "meta", SLICE_LIT("sfloor"), SLICE_LIT("\5\0\0\0\0\0\0\0"));
    assert_int_equal(load(dir, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "revision 5"));
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* What the load noted as dead goes, though compaction never ran before the restart. */
static void check_noted(size_t file_batch_bytes)
{
    char *dir = kit_dir();
    struct store_options options = { .dir = dir, .write_buffer_bytes = 128 << 10 };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_stats before;
    struct store_stats after;
    kit_model_init(&m, 2);
    make(dir, &m, file_batch_bytes);
    size_t files = file_batch_bytes == KIT_FILES;
    assert_int_equal(kit_pack_files(dir), files);
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
    bool large = after.pack_bytes >= options.write_buffer_bytes / STORE_FILE_BATCH_PART;
    assert_int_equal(kit_pack_files(dir), large); /* another, or none: what is left is in rows/ */
    assert_false(kit_pack_is_there(dir, 1) && files);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    kit_check_loaded(&m, &loaded);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_noted_rows_go(void **state)
{
    (void)state;
    check_noted(KIT_ROWS);
    check_noted(KIT_FILES);
}

/* --- many and large packs ------------------------------------------------------------ */

#define BIG_VALUE_BYTES (1u << 20)

/* One pack a revision: even ones small, odd ones larger than what the reader hands over at once. */
static void make_big(const char *dir, uint64_t revs, size_t file_batch_bytes)
{
    struct store_options options = { .dir = dir, .file_batch_bytes = file_batch_bytes };
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

static void check_big(uint64_t revs, size_t file_batch_bytes, size_t files)
{
    char *dir = kit_dir();
    struct errmsg em;
    struct big_load l = { 0 };
    make_big(dir, revs, file_batch_bytes);
    assert_int_equal(kit_pack_files(dir), files);
    assert_int_equal(scan_big(dir, &l, &em), OK);
    assert_int_equal(l.rev, revs);
    for (uint64_t at = 1; at <= revs; at += revs / KIT_ROUNDS(13) + 1) {
        l = (struct big_load){ .refuse_at = at };
        assert_int_equal(scan_big(dir, &l, &em), ERR_UNSUPPORTED);
        assert_int_equal(l.rev, at - 1);
    }
    assert_int_equal(kit_pack_files(dir), files);
    kit_remove(dir);
}

/* In rows/ more than may stay mapped: it is opened anew on the way. In files, one of them full;
 * and every other pack in one. */
static void test_large_packs_come_in_order(void **state)
{
    (void)state;
    check_big(300, KIT_ROWS, 0);
    check_big(300, KIT_FILES, 2);
    check_big(60, KIT_BOTH, 1);
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
    make_big(dir, 60, KIT_ROWS);
    damage_a_table(dir, 2 << 20);
    assert_int_equal(scan_big(dir, &l, &em), ERR_CORRUPT);
    assert_true(l.gap);
    assert_non_null(strstr(em.text, "block checksum mismatch"));
    kit_remove(dir);
}

static void flip_bit(const char *path, uint64_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* The caller gets nothing of it, nor what follows. */
static void test_the_damaged_pack_is_what_is_reported(void **state)
{
    (void)state;
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf refs = { 0 };
    make_big(dir, 20, KIT_FILES);
    kit_refs(dir, &refs);
    char *path = kit_pack_path(dir, 1);
    for (size_t i = 0; i < kit_ref_count(&refs); i += 5) {
        struct store_ref ref = kit_ref(&refs, i);
        struct big_load l = { 0 };
        struct errmsg em;
        char where[64];
        flip_bit(path, ref.offset + ref.bytes - 1);
        assert_int_equal(scan_big(dir, &l, &em), ERR_CORRUPT);
        assert_false(l.gap);
        assert_true(l.rev <= i);
        snprintf(where, sizeof where, "packs/0000000001.packs offset %" PRIu64 ":", ref.offset);
        if (strstr(em.text, where) == NULL) fail_msg("not '%s': %s", where, em.text);
        flip_bit(path, ref.offset + ref.bytes - 1);
        l = (struct big_load){ 0 };
        assert_int_equal(scan_big(dir, &l, &em), OK);
        assert_int_equal(l.rev, 20);
    }
    mem_free(path);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_records_are_refused),
        cmocka_unit_test(test_foreign_references_are_refused),
        cmocka_unit_test(test_a_pack_may_replace_its_reference),
        cmocka_unit_test(test_a_floor_above_the_compacted_revision_is_refused),
        cmocka_unit_test(test_noted_rows_go),
        cmocka_unit_test(test_large_packs_come_in_order),
        cmocka_unit_test(test_the_damaged_block_is_what_is_reported),
        cmocka_unit_test(test_the_damaged_pack_is_what_is_reported),
    };
    return cmocka_run_group_tests_name("disk/store_load", tests, NULL, NULL);
}
