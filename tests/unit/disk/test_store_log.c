/* Logs in LevelDB's format, written by the test: whole, torn at every byte, damaged. */
#include "store_kit.h"

#include "../../sim/sim_disk.h"
#include "disk/store_log.h"

static void put_part(struct buf *log, uint8_t type, const uint8_t *at, size_t len)
{
    uint8_t head[7];
    uint32_t crc = crc32c(crc32c(0, &type, 1), at, len);
    u32_le_put(head, ((crc >> 15) | (crc << 17)) + 0xa282ead8u);
    u16_le_put(head + 4, (uint16_t)len);
    head[6] = type;
    buf_append(log, head, sizeof head);
    buf_append(log, at, len);
}

/* A batch of `bytes` (12 or more) with `count` operations; *seq moves on. */
static void put_batch(struct buf *log, uint64_t *seq, uint32_t count, size_t bytes)
{
    static const uint8_t zeros[8];
    CLEANUP(buf_deinit) struct buf body = { 0 };
    buf_append_u64(&body, *seq);
    buf_append_u32(&body, count);
    while (body.len < bytes) buf_append_u8(&body, (uint8_t)(body.len * 7 + *seq));
    *seq += count;
    size_t at = 0;
    bool first = true;
    do {
        size_t left = STORE_LOG_BLOCK_BYTES - log->len % STORE_LOG_BLOCK_BYTES;
        if (left < STORE_LOG_HEAD_BYTES) {
            buf_append(log, zeros, left);
            left = STORE_LOG_BLOCK_BYTES;
        }
        size_t len = MIN(left - STORE_LOG_HEAD_BYTES, body.len - at);
        bool last = at + len == body.len;
        uint8_t type = first ? (last ? 1 : 2) : last ? 4 : 3;
        put_part(log, type, body.at + at, len);
        at += len;
        first = false;
    } while (at < body.len);
}

static enum err scan(const struct buf *log, size_t len, struct store_log_scan *out)
{
    /* A copy of exactly these bytes, so that a sanitizer sees a step too far. */
    uint8_t *copy = mem_copy(log->at, len);
    size_t bad_at = 0;
    enum err e = store_log_scan((struct slice){ copy, len }, out, &bad_at);
    mem_free(copy);
    return e;
}

static void test_whole_logs(void **state)
{
    (void)state;
    static const size_t sizes[] = { 12, 13, 100, 32768 - 14, 32768 - 7, 32768, 70000, 200000, 12 };
    CLEANUP(buf_deinit) struct buf log = { 0 };
    struct store_log_scan out;
    uint64_t seq = 5;
    assert_int_equal(scan(&log, 0, &out), OK);
    assert_int_equal(out.batch_count, 0);
    for (size_t round = 0; round < 40; round++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            put_batch(&log, &seq, (uint32_t)i + 1, sizes[i] + round);
        }
    }
    assert_int_equal(scan(&log, log.len, &out), OK);
    assert_int_equal(out.batch_count, 40 * ARRAY_LEN(sizes));
    assert_int_equal(out.valid_bytes, log.len);
    assert_int_equal(out.first_seq, 5);
    assert_int_equal(out.next_seq, seq);
    assert_false(out.torn);
}

/* Five batches; the last is cut, zeroed or filled with rubbish from any byte on. Always the four
 * before remain, or all five. */
static void test_torn_at_every_byte(void **state)
{
    (void)state;
    static const size_t last_sizes[] = { 12, 60, 32768 - 300, 66000 };
    for (size_t c = 0; c < ARRAY_LEN(last_sizes); c++) {
        CLEANUP(buf_deinit) struct buf log = { 0 };
        uint64_t seq = 1;
        for (size_t i = 0; i < 4; i++) put_batch(&log, &seq, 3, 50 + 9 * i);
        size_t begin = log.len;
        put_batch(&log, &seq, 2, last_sizes[c]);
        size_t step = c < 2 ? 1 : 211;
        for (size_t at = begin; at < log.len; at += step) {
            struct store_log_scan out;
            assert_int_equal(scan(&log, at, &out), OK);
            assert_int_equal(out.batch_count, 4);
            assert_int_equal(out.valid_bytes, begin);
            assert_int_equal(out.torn, at != begin);
            for (int fill = 0; fill < 2; fill++) {
                CLEANUP(buf_deinit) struct buf torn = { 0 };
                buf_append(&torn, log.at, log.len);
                buf_reserve(&torn, 700);
                torn.len += 700;
                memset(torn.at + at, fill == 0 ? 0 : 0xa7, log.len + 700 - at);
                bool same = memcmp(torn.at, log.at, log.len) == 0; /* it was such bytes */
                assert_int_equal(scan(&torn, torn.len, &out), OK);
                assert_int_equal(out.batch_count, same ? 5 : 4);
                assert_int_equal(out.valid_bytes, same ? log.len : begin);
                assert_true(out.torn);
            }
        }
    }
}

/* One 512-byte sector of the last batch did not arrive, though later ones did. */
static void test_a_hole_in_the_last_batch_is_torn(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf log = { 0 };
    uint64_t seq = 1;
    struct store_log_scan out;
    for (size_t i = 0; i < 100; i++) put_batch(&log, &seq, 3, 200);
    size_t begin = log.len;
    put_batch(&log, &seq, 2, 150000);
    for (size_t at = (begin / 512 + 1) * 512; at < log.len; at += 512) {
        CLEANUP(buf_deinit) struct buf torn = { 0 };
        buf_append(&torn, log.at, log.len);
        memset(torn.at + at, 0, MIN((size_t)512, log.len - at));
        assert_int_equal(scan(&torn, torn.len, &out), OK);
        assert_int_equal(out.batch_count, 100);
        assert_int_equal(out.valid_bytes, begin);
        assert_true(out.torn);
    }
}

/* Whatever happens to a batch that others follow is damage; wherever it lies in a block. */
static void test_damage_before_the_last_batch_is_refused(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf log = { 0 };
    CLEANUP(buf_deinit) struct buf ends = { 0 };
    uint64_t seq = 1;
    uint64_t random = 8;
    struct store_log_scan out;
    for (size_t i = 0; i < 60; i++) {
        put_batch(&log, &seq, 2, 12 + kit_random(&random, i % 10 == 0 ? 60000 : 900));
        buf_append_u64(&ends, log.len);
    }
    uint64_t begin_last = u64_le(ends.at + ends.len - 16);
    for (int i = 0; i < 400; i++) {
        CLEANUP(buf_deinit) struct buf bad = { 0 };
        buf_append(&bad, log.at, log.len);
        size_t at = kit_random(&random, begin_last);
        size_t len = 1 + kit_random(&random, i % 2 == 0 ? 1 : 40000);
        len = MIN(len, begin_last - at);
        bool changed = false;
        for (size_t j = at; j < at + len; j++) {
            uint8_t byte = 0;
            if (i % 4 < 2) byte = (uint8_t)(bad.at[j] ^ (1 << i % 8));
            changed = changed || byte != bad.at[j];
            bad.at[j] = byte;
        }
        enum err e = scan(&bad, bad.len, &out);
        /* Padding at the end of a block means nothing. */
        if (e == OK) {
            assert_false(changed && out.batch_count < 60);
        } else {
            assert_int_equal(e, ERR_CORRUPT);
        }
    }
}

static void test_a_missing_batch_is_refused(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf log = { 0 };
    uint64_t seq = 1;
    struct store_log_scan out;
    put_batch(&log, &seq, 2, 100);
    seq += 2;
    put_batch(&log, &seq, 2, 100);
    assert_int_equal(scan(&log, log.len, &out), ERR_CORRUPT);
}

/* A value that holds a log must not make a torn write look like damage. */
static void test_a_log_inside_of_a_value_is_only_a_value(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf inner = { 0 };
    CLEANUP(buf_deinit) struct buf log = { 0 };
    uint64_t inner_seq = 1;
    uint64_t seq = 1;
    for (int i = 0; i < 30; i++) put_batch(&inner, &inner_seq, 1, 40);
    put_batch(&log, &seq, 1, 40);
    size_t begin = log.len;
    put_batch(&log, &seq, 1, 12 + inner.len + 500);
    memcpy(log.at + begin + 7 + 12, inner.at, inner.len); /* its own CRC is wrong now: torn */
    struct store_log_scan out;
    assert_int_equal(scan(&log, log.len, &out), OK);
    assert_int_equal(out.valid_bytes, begin);
    assert_true(out.torn);
}

static void write_log(const char *dir, const char *name, const struct buf *log, size_t len)
{
    char *path = kit_join(dir, name);
    kit_write_file(path, (struct slice){ log->at, len });
    mem_free(path);
}

static size_t file_bytes(const char *dir, const char *name)
{
    char *path = kit_join(dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    mem_free(path);
    return (size_t)st.st_size;
}

static void test_only_the_newest_log_is_trimmed(void **state)
{
    (void)state;
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf a = { 0 };
    CLEANUP(buf_deinit) struct buf b = { 0 };
    uint64_t seq = 1;
    uint64_t trimmed = 99;
    struct errmsg em;
    put_batch(&a, &seq, 2, 100);
    size_t a_begin_last = a.len;
    put_batch(&a, &seq, 2, 100);
    put_batch(&b, &seq, 2, 100);
    size_t b_begin_last = b.len;
    put_batch(&b, &seq, 2, 100);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    assert_int_equal(trimmed, 0);

    write_log(dir, "000099.log", &a, a.len);
    write_log(dir, "000100.log", &b, b.len - 3);
    write_log(dir, "LOG", &b, 5);
    write_log(dir, "20261122-copy.log", &b, 5);
    write_log(dir, "000101.log.bak", &b, 5);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    assert_int_equal(trimmed, b.len - 3 - b_begin_last);
    assert_int_equal(file_bytes(dir, "000100.log"), b_begin_last);
    assert_int_equal(file_bytes(dir, "000099.log"), a.len);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    assert_int_equal(trimmed, 0);

    write_log(dir, "000099.log", &a, a.len - 3);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "000099.log"));
    /* Cut between two batches it cannot be seen here: the markers tell. */
    write_log(dir, "000099.log", &a, a_begin_last);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    /* The order of the logs does not fit. */
    write_log(dir, "000101.log", &a, a.len);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "000101.log"));
    kit_remove(dir);
}

/* A batch that goes to a table at once is in a log that is not synced, behind which a newer one begins.
 * As long as no newer one has a change, its torn end is that batch, and is cut off. */
static void test_logs_without_changes_do_not_count_as_newer(void **state)
{
    (void)state;
    char *dir = kit_dir();
    CLEANUP(buf_deinit) struct buf a = { 0 };
    CLEANUP(buf_deinit) struct buf b = { 0 };
    CLEANUP(buf_deinit) struct buf c = { 0 };
    uint64_t seq = 1;
    uint64_t trimmed = 99;
    struct errmsg em;
    put_batch(&a, &seq, 2, 100);
    size_t a_begin_last = a.len;
    put_batch(&a, &seq, 50, 100000);
    put_batch(&b, &seq, 0, 12);
    write_log(dir, "000007.log", &a, a.len - 40000);
    write_log(dir, "000008.log", &b, b.len);
    write_log(dir, "000009.log", &b, b.len - 2);
    write_log(dir, "000010.log", &b, 0);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    assert_int_equal(trimmed, a.len - 40000 - a_begin_last + b.len - 2);
    assert_int_equal(file_bytes(dir, "000007.log"), a_begin_last);
    assert_int_equal(file_bytes(dir, "000008.log"), b.len);
    assert_int_equal(file_bytes(dir, "000009.log"), 0);
    /* A hole in it, as when the kernel wrote some pages and not others. */
    CLEANUP(buf_deinit) struct buf holed = { 0 };
    buf_append(&holed, a.at, a.len);
    memset(holed.at + 40960, 0, 8192);
    write_log(dir, "000007.log", &holed, holed.len);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), OK);
    assert_int_equal(file_bytes(dir, "000007.log"), a_begin_last);

    put_batch(&c, &seq, 1, 100);
    write_log(dir, "000007.log", &a, a.len - 40000);
    write_log(dir, "000010.log", &c, c.len);
    assert_int_equal(store_log_trim(disk_io_posix(), dir, &trimmed, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "000007.log"));
    kit_remove(dir);
}

/* What is there when a newer log begins stays there: also what a killed process never synced, and
 * what a sync that failed took for written. */
static void test_what_was_found_is_durable(void **state)
{
    (void)state;
    CLEANUP(buf_deinit) struct buf log = { 0 };
    uint64_t seq = 1;
    put_batch(&log, &seq, 2, 100);
    size_t synced = log.len;
    put_batch(&log, &seq, 3, 40000);
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct sim_disk *d = sim_disk_new("/d", seed);
        const struct disk_io *io = sim_disk_io(d);
        int fd = -1;
        uint64_t trimmed = 0;
        assert_int_equal(io->open(d, "/d/000005.log", DISK_WRITE | DISK_CREATE, &fd), 0);
        assert_int_equal(io->dirsync(d, "/d"), 0);
        assert_int_equal(io->pwrite(d, fd, log.at, synced, 0), synced);
        assert_int_equal(io->sync(d, fd), 0);
        assert_int_equal(io->pwrite(d, fd, log.at + synced, log.len - synced, synced),
                         log.len - synced);
        sim_disk_fail_nth(d, seed % 2, SIM_FAIL, EIO);
        if (seed % 2 == 1) assert_int_equal(io->sync(d, fd), -EIO);
        io->close(d, fd);
        sim_disk_kill(d);
        assert_int_equal(store_log_trim(io, "/d", &trimmed, NULL), OK);
        assert_int_equal(trimmed, 0);
        sim_disk_crash(d, seed);
        const struct sim_file *f = sim_disk_get(d, "/d/000005.log");
        assert_int_equal(f->now_bytes, log.len);
        assert_memory_equal(f->now, log.at, log.len);
        sim_disk_free(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_logs),
        cmocka_unit_test(test_what_was_found_is_durable),
        cmocka_unit_test(test_logs_without_changes_do_not_count_as_newer),
        cmocka_unit_test(test_torn_at_every_byte),
        cmocka_unit_test(test_a_hole_in_the_last_batch_is_torn),
        cmocka_unit_test(test_damage_before_the_last_batch_is_refused),
        cmocka_unit_test(test_a_missing_batch_is_refused),
        cmocka_unit_test(test_a_log_inside_of_a_value_is_only_a_value),
        cmocka_unit_test(test_only_the_newest_log_is_trimmed),
    };
    return cmocka_run_group_tests_name("disk/store_log", tests, NULL, NULL);
}
