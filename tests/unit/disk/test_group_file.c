/* How a directory came into its group: read back, refused when damaged, never half written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "disk/group_file.h"
#include "test_wal_disk.h"

#define DIR_NAME "/d"
#define FILE_NAME "/d/group"

static struct group_record record_of(uint64_t cluster_id, size_t members_bytes)
{
    struct group_record r = { GROUP_FOUNDED, cluster_id, 2, 3, { 0 } };
    for (size_t i = 0; i < members_bytes; i++) buf_append_u8(&r.members, (uint8_t)i);
    return r;
}

static bool same(const struct group_record *a, const struct group_record *b)
{
    return a->way == b->way && a->cluster_id == b->cluster_id && a->member_id == b->member_id &&
           a->directory_id == b->directory_id &&
           slice_eq(buf_slice(&a->members), buf_slice(&b->members));
}

static void test_what_was_saved_is_loaded(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 4096, GROUP_MEMBERS_BYTES_MAX };
    struct model_disk *m = model_new(1);
    struct errmsg em = { "" };
    struct group_record got;
    assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), ERR_NOT_FOUND);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct group_record r = record_of(1, sizes[i]);
        r.way = i % 2 == 0 ? GROUP_FOUNDED : GROUP_JOINED;
        assert_int_equal(group_file_save(&m->io, DIR_NAME, &r, &em), OK);
        assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), OK);
        assert_true(same(&got, &r));
        group_record_deinit(&r);
        group_record_deinit(&got);
    }
    model_free(m);
}

static void put(struct model_disk *m, const uint8_t *at, size_t len)
{
    int fd = -1;
    m->io.unlink(m, FILE_NAME);
    assert_int_equal(m->io.open(m, FILE_NAME, DISK_WRITE | DISK_CREATE, &fd), 0);
    if (len > 0) assert_int_equal(m->io.pwrite(m, fd, at, len, 0), len);
    assert_int_equal(m->io.sync(m, fd), 0);
    m->io.close(m, fd);
    assert_int_equal(m->io.dirsync(m, DIR_NAME), 0);
}

static void test_every_flipped_bit_and_every_cut_is_damage(void **state)
{
    (void)state;
    struct model_disk *m = model_new(1);
    struct errmsg em = { "" };
    struct group_record r = record_of(1, 20);
    assert_int_equal(group_file_save(&m->io, DIR_NAME, &r, &em), OK);
    const struct model_file *f = model_get(m, FILE_NAME);
    size_t len = f->now_bytes;
    uint8_t *bytes = mem_copy(f->now, len);
    struct group_record got;
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put(m, bytes, len);
        assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), ERR_CORRUPT);
        assert_non_null(strstr(em.text, FILE_NAME));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        put(m, bytes, cut);
        assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), ERR_CORRUPT);
    }
    bytes[5] = 3; /* a way that there is not, under a right checksum */
    u32_le_put(bytes + len - 4, crc32c(0, bytes, len - 4));
    put(m, bytes, len);
    assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), ERR_CORRUPT);
    mem_free(bytes);
    group_record_deinit(&r);
    model_free(m);
}

static bool save_failing_at(uint64_t n, enum model_fault fault, uint64_t seed)
{
    struct model_disk *m = model_new(seed);
    struct errmsg em = { "" };
    struct group_record old = record_of(1, 100);
    struct group_record fresh = record_of(9, 200);
    assert_int_equal(group_file_save(&m->io, DIR_NAME, &old, &em), OK);
    m->fault_at = m->op_count + n;
    m->fault = fault;
    m->fault_errno = EIO;
    enum err saved = group_file_save(&m->io, DIR_NAME, &fresh, &em);
    bool hit = m->fault_hit;
    m->fault_at = 0;
    model_crash(m);
    struct group_record got;
    assert_int_equal(group_file_load(&m->io, DIR_NAME, &got, &em), OK);
    assert_true(same(&got, &fresh) || (saved != OK && same(&got, &old)));
    group_record_deinit(&old);
    group_record_deinit(&fresh);
    group_record_deinit(&got);
    model_free(m);
    return hit;
}

static void test_a_failure_or_crash_at_any_operation_leaves_one_of_the_two(void **state)
{
    (void)state;
    static const enum model_fault faults[] = { MODEL_FAIL, MODEL_SHORT, MODEL_CRASH };
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            uint64_t n = 1;
            while (save_failing_at(n, faults[i], seed)) n++;
            assert_true(n > 4);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_saved_is_loaded),
        cmocka_unit_test(test_every_flipped_bit_and_every_cut_is_damage),
        cmocka_unit_test(test_a_failure_or_crash_at_any_operation_leaves_one_of_the_two),
    };
    return cmocka_run_group_tests_name("disk/group_file", tests, NULL, NULL);
}
