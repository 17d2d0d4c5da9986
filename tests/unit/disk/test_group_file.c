/* How a directory came into its group: read back, refused when damaged, never half written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "disk/group_file.h"
#include "../../sim/sim_disk.h"

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
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    struct group_record got;
    assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), ERR_NOT_FOUND);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct group_record r = record_of(1, sizes[i]);
        r.way = i % 2 == 0 ? GROUP_FOUNDED : GROUP_JOINED;
        assert_int_equal(group_file_save(sim_disk_io(m), DIR_NAME, &r, &em), OK);
        assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
        assert_true(same(&got, &r));
        group_record_deinit(&r);
        group_record_deinit(&got);
    }
    sim_disk_free(m);
}

static void put(struct sim_disk *m, const uint8_t *at, size_t len)
{
    int fd = -1;
    sim_disk_io(m)->unlink(m, FILE_NAME);
    assert_int_equal(sim_disk_io(m)->open(m, FILE_NAME, DISK_WRITE | DISK_CREATE, &fd), 0);
    if (len > 0) assert_int_equal(sim_disk_io(m)->pwrite(m, fd, at, len, 0), len);
    assert_int_equal(sim_disk_io(m)->sync(m, fd), 0);
    sim_disk_io(m)->close(m, fd);
    assert_int_equal(sim_disk_io(m)->dirsync(m, DIR_NAME), 0);
}

static void test_every_flipped_bit_and_every_cut_is_damage(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    struct group_record r = record_of(1, 20);
    assert_int_equal(group_file_save(sim_disk_io(m), DIR_NAME, &r, &em), OK);
    const struct sim_file *f = sim_disk_get(m, FILE_NAME);
    size_t len = f->now_bytes;
    uint8_t *bytes = mem_copy(f->now, len);
    struct group_record got;
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put(m, bytes, len);
        assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), ERR_CORRUPT);
        assert_non_null(strstr(em.text, FILE_NAME));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        put(m, bytes, cut);
        assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), ERR_CORRUPT);
    }
    bytes[5] = 3; /* a way that there is not, under a right checksum */
    u32_le_put(bytes + len - 4, crc32c(0, bytes, len - 4));
    put(m, bytes, len);
    assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), ERR_CORRUPT);
    mem_free(bytes);
    group_record_deinit(&r);
    sim_disk_free(m);
}

static bool save_failing_at(uint64_t n, enum sim_fault fault, uint64_t seed)
{
    struct sim_disk *m = sim_disk_new("/d", seed);
    struct errmsg em = { "" };
    struct group_record old = record_of(1, 100);
    struct group_record fresh = record_of(9, 200);
    assert_int_equal(group_file_save(sim_disk_io(m), DIR_NAME, &old, &em), OK);
    sim_disk_fail_nth(m, n, fault, EIO);
    enum err saved = group_file_save(sim_disk_io(m), DIR_NAME, &fresh, &em);
    bool hit = sim_disk_fault_hit(m);
    sim_disk_crash(m, 0);
    struct group_record got;
    assert_int_equal(group_file_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
    assert_true(same(&got, &fresh) || (saved != OK && same(&got, &old)));
    group_record_deinit(&old);
    group_record_deinit(&fresh);
    group_record_deinit(&got);
    sim_disk_free(m);
    return hit;
}

static void test_a_failure_or_crash_at_any_operation_leaves_one_of_the_two(void **state)
{
    (void)state;
    static const enum sim_fault faults[] = { SIM_FAIL, SIM_SHORT, SIM_CRASH };
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
