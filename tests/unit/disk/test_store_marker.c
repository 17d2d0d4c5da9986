/* The chain of markers: its format, and that any write missing from it is noticed. */
#include "store_kit.h"

#include "disk/store_marker.h"

static void test_format_is_pinned(void **state)
{
    (void)state;
    static const uint8_t want_start[72] = {
        1, 2, 0, 0, 0, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0,  3, 0, 0, 0, 0, 0, 0, 0,
        4, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,  6, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0,  8, 0, 0, 0, 0, 0, 0, 0,  9, 0, 0, 0,  10, 0, 0, 0x80,
    };
    struct store_marker m = { 0x201, 2, 3, 4, 5, 6, 7, 8, 9, 0x8000000a };
    struct store_marker back;
    uint8_t bytes[STORE_MARKER_BYTES];
    store_marker_encode(&m, bytes);
    assert_memory_equal(bytes, want_start, sizeof want_start);
    assert_int_equal(u32_le(bytes + 72), crc32c(0, bytes, 72));
    assert_int_equal(store_marker_decode((struct slice){ bytes, sizeof bytes }, &back), OK);
    uint8_t again[STORE_MARKER_BYTES];
    store_marker_encode(&back, again);
    assert_memory_equal(again, bytes, sizeof again);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(store_marker_decode((struct slice){ bytes, sizeof bytes }, &back),
                         ERR_CORRUPT);
        bytes[i] ^= 0x10;
    }
    assert_int_equal(store_marker_decode((struct slice){ bytes, 75 }, &back), ERR_CORRUPT);
}

static void test_what_is_behind_a_marker(void **state)
{
    (void)state;
    struct store_marker m = { .seq = 5, .index = 9, .last_rev = 100, .last_n = 3, .pack_sum = 77,
                              .pack_sum_before = 66 };
    assert_false(store_marker_is_behind(&m, 99, UINT32_MAX));
    assert_false(store_marker_is_behind(&m, 100, 2));
    assert_false(store_marker_is_behind(&m, 100, 3));
    assert_true(store_marker_is_behind(&m, 100, 4));
    assert_true(store_marker_is_behind(&m, 101, 1));
    struct store_marker next = store_marker_after(&m);
    assert_int_equal(next.seq, 6);
    assert_int_equal(next.prev_index, 9);
    assert_int_equal(next.last_rev, 100);
    assert_int_equal(next.last_n, 3);
    assert_int_equal(next.pack_sum, 77);
    assert_int_equal(next.pack_sum_before, 77);
}

struct fixture {
    char *dir;
    struct store_db db;
    struct store_marker newest;
};

static void write_batch(struct fixture *f, leveldb_writebatch_t *batch)
{
    assert_int_equal(store_db_write(&f->db, batch, NULL), OK);
    leveldb_writebatch_destroy(batch);
}

static void fixture_init(struct fixture *f)
{
    bool fresh = false;
    uint64_t trimmed = 0;
    *f = (struct fixture){ .dir = kit_dir() };
    assert_int_equal(store_db_open(&f->db, disk_io_posix(), f->dir, 1 << 20, &fresh, &trimmed, NULL), OK);
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    store_marker_begin(batch, &f->newest);
    write_batch(f, batch);
    assert_int_equal(store_db_made(&f->db, NULL), OK);
}

static void fixture_deinit(struct fixture *f)
{
    store_db_close(&f->db);
    kit_remove(f->dir);
}

/* lost: the write is made, but the database forgets it. */
static void add(struct fixture *f, bool lost)
{
    struct store_marker next = store_marker_after(&f->newest);
    next.index += 3;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    store_marker_add(batch, &next);
    f->newest = next;
    if (lost) {
        leveldb_writebatch_destroy(batch);
    } else {
        write_batch(f, batch);
    }
}

static enum err check(const struct fixture *f)
{
    struct store_marker found = { 0 };
    struct errmsg em = { "" };
    enum err e = store_marker_check(&f->db, &found, &em);
    if (e == OK) {
        assert_int_equal(found.seq, f->newest.seq);
        assert_int_equal(found.index, f->newest.index);
    } else {
        assert_true(em.text[0] != '\0');
    }
    return e;
}

static void test_whole_chains(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(f.newest.seq, STORE_MARKERS);
    for (int i = 0; i < 2500; i++) {
        if (i % 500 == 0) assert_int_equal(check(&f), OK);
        add(&f, false);
    }
    assert_int_equal(check(&f), OK);
    fixture_deinit(&f);
}

/* A run of lost writes, followed by others: also when all markers of the run, or more than all that
 * are kept, were in it. */
static void test_lost_runs_are_noticed(void **state)
{
    (void)state;
    static const struct { int before, lost, after; } cases[] = {
        { 0, 1, 1 },     { 5, 1, 1 },       { 5, 1, 998 },    { 5, 1, 999 },   { 5, 1, 1000 },
        { 5, 1, 1001 },  { 5, 1, 2500 },    { 5, 999, 1500 }, { 5, 1000, 1500 }, { 5, 1500, 1500 },
        { 1200, 3, 10 }, { 1200, 1100, 2200 }, { 0, 1500, 1500 },
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct fixture f;
        fixture_init(&f);
        for (int i = 0; i < cases[c].before; i++) add(&f, false);
        for (int i = 0; i < cases[c].lost; i++) add(&f, true);
        for (int i = 0; i < cases[c].after; i++) add(&f, false);
        if (check(&f) != ERR_CORRUPT) fail_msg("case %zu was not noticed", c);
        fixture_deinit(&f);
    }
}

static void put(struct fixture *f, const char *key, size_t key_len, struct slice value)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    leveldb_writebatch_put(batch, key, key_len, (const char *)value.at, value.len);
    write_batch(f, batch);
}

static void test_foreign_records_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (int i = 0; i < 3; i++) add(&f, false);
    uint8_t bytes[STORE_MARKER_BYTES];
    uint8_t key[9] = "b";
    struct store_marker m = f.newest;

    m.prev_crc ^= 1; /* whole, but of another chain */
    store_marker_encode(&m, bytes);
    u64_be_put(key + 1, m.seq);
    put(&f, (const char *)key, sizeof key, (struct slice){ bytes, sizeof bytes });
    put(&f, STORE_KEY_APPLIED, strlen(STORE_KEY_APPLIED), (struct slice){ bytes, sizeof bytes });
    assert_int_equal(check(&f), ERR_CORRUPT);

    store_marker_encode(&f.newest, bytes);
    put(&f, (const char *)key, sizeof key, (struct slice){ bytes, sizeof bytes });
    assert_int_equal(check(&f), ERR_CORRUPT); /* "applied" does not match */
    put(&f, STORE_KEY_APPLIED, strlen(STORE_KEY_APPLIED), (struct slice){ bytes, sizeof bytes });
    assert_int_equal(check(&f), OK);

    put(&f, STORE_KEY_FORMAT, strlen(STORE_KEY_FORMAT), SLICE_LIT("\1\0\0\0"));
    assert_int_equal(check(&f), ERR_UNSUPPORTED);
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    leveldb_writebatch_delete(batch, STORE_KEY_FORMAT, strlen(STORE_KEY_FORMAT));
    write_batch(&f, batch);
    assert_int_equal(check(&f), ERR_CORRUPT);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_is_pinned),
        cmocka_unit_test(test_what_is_behind_a_marker),
        cmocka_unit_test(test_whole_chains),
        cmocka_unit_test(test_lost_runs_are_noticed),
        cmocka_unit_test(test_foreign_records_are_refused),
    };
    return cmocka_run_group_tests_name("disk/store_marker", tests, NULL, NULL);
}
