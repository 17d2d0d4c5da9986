/* Who a directory is: read back, refused when damaged, and never lost by a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/buf.h"
#include "disk/identity.h"
#include "../../sim/sim_disk.h"

#define DIR_NAME "/d"
#define FILE_NAME "/d/identity"

static const struct identity old_id = { 11, 22, 33, 4, true };
static const struct identity new_id = { 11, 22, 33, 5, true };

static bool same(const struct identity *a, const struct identity *b)
{
    return a->cluster_id == b->cluster_id && a->member_id == b->member_id &&
           a->directory_id == b->directory_id && a->incarnation == b->incarnation &&
           a->ready == b->ready;
}

static struct sim_disk *disk_with(const struct identity *id)
{
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    assert_int_equal(identity_save(sim_disk_io(m), DIR_NAME, id, &em), OK);
    return m;
}

/* Replaces the file's bytes. */
static void put(struct sim_disk *m, struct slice text)
{
    int fd = -1;
    sim_disk_io(m)->unlink(m, FILE_NAME);
    assert_int_equal(sim_disk_io(m)->open(m, FILE_NAME, DISK_WRITE | DISK_CREATE, &fd), 0);
    if (text.len > 0) assert_int_equal(sim_disk_io(m)->pwrite(m, fd, text.at, text.len, 0), text.len);
    sim_disk_io(m)->close(m, fd);
    assert_int_equal(sim_disk_io(m)->dirsync(m, DIR_NAME), 0);
}

static enum err load(struct sim_disk *m, struct identity *out, struct errmsg *em)
{
    return identity_load(sim_disk_io(m), DIR_NAME, out, em);
}

static void test_what_was_saved_is_loaded(void **state)
{
    (void)state;
    static const struct identity ids[] = {
        { 1, 1, 1, 0, false },
        { 1, 2, 3, 4, true },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, true },
    };
    struct sim_disk *m = sim_disk_new("/d", 1);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        struct errmsg em = { "" };
        struct identity got;
        assert_int_equal(identity_save(sim_disk_io(m), DIR_NAME, &ids[i], &em), OK);
        assert_int_equal(load(m, &got, &em), OK);
        assert_true(same(&got, &ids[i]));
    }
    sim_disk_free(m);
}

static void test_the_file_is_text_with_pinned_bytes(void **state)
{
    (void)state;
    struct sim_disk *m = disk_with(&old_id);
    const struct sim_file *f = sim_disk_get(m, FILE_NAME);
    assert_non_null(f);
    static const char want[] = "cordis-identity 1\ncluster 11\nmember 22\ndirectory 33\n"
                               "incarnation 4\nready 1\ncrc ";
    assert_true(f->now_bytes == sizeof want - 1 + 9);
    assert_memory_equal(f->now, want, sizeof want - 1);
    char crc[16];
    snprintf(crc, sizeof crc, "%08x\n", crc32c(0, want, sizeof want - 1 - 4));
    assert_memory_equal(f->now + sizeof want - 1, crc, 9);
    sim_disk_free(m);
}

static void test_a_directory_without_one_says_so(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    struct identity got = old_id;
    assert_int_equal(load(m, &got, &em), ERR_NOT_FOUND);
    assert_non_null(strstr(em.text, FILE_NAME));
    assert_true(same(&got, &old_id)); /* unchanged on error */
    sim_disk_free(m);
}

static void check_damaged(struct sim_disk *m, struct slice text, const char *what, size_t at)
{
    put(m, text);
    struct errmsg em = { "" };
    struct identity got = new_id;
    enum err e = load(m, &got, &em);
    if (e != ERR_CORRUPT) fail_msg("%s %zu: %s", what, at, err_name(e));
    assert_non_null(strstr(em.text, FILE_NAME));
    assert_true(same(&got, &new_id));
}

static void test_every_flipped_bit_and_every_cut_is_damage(void **state)
{
    (void)state;
    struct sim_disk *m = disk_with(&old_id);
    const struct sim_file *f = sim_disk_get(m, FILE_NAME);
    size_t len = f->now_bytes;
    uint8_t *good = mem_copy(f->now, len);
    uint8_t *bad = mem_copy(good, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_damaged(m, (struct slice){ bad, len }, "bit", bit);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) check_damaged(m, (struct slice){ good, cut }, "cut", cut);
    struct errmsg em = { "" };
    struct identity got;
    put(m, (struct slice){ good, len });
    assert_int_equal(load(m, &got, &em), OK);
    mem_free(good);
    mem_free(bad);
    sim_disk_free(m);
}

/* With a right checksum, so that only the meaning is wrong. */
static const char *const wrong[] = {
    "cordis-identity 2\ncluster 1\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 0\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 1\nmember 0\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 1\nmember 2\ndirectory 0\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 1\nmember 2\ndirectory 3\nincarnation 4\nready 2\n",
    "cordis-identity 1\ncluster 1\nmember 2\ndirectory 3\nincarnation 4\n",
    "cordis-identity 1\nmember 2\ncluster 1\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 01\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster -1\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster \nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 18446744073709551616\nmember 2\ndirectory 3\nincarnation 4\nready 1\n",
    "cordis-identity 1\ncluster 1\nmember 2\ndirectory 3\nincarnation 4\nready 1\nmore 5\n",
};

static void test_wrong_contents_under_a_right_checksum(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct buf text = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        buf_clear(&text);
        buf_append_slice(&text, slice_of(wrong[i]));
        buf_printf(&text, "crc %08x\n", crc32c(0, text.at, text.len));
        check_damaged(m, buf_slice(&text), "row", i);
    }
    buf_clear(&text);
    buf_printf(&text, "cordis-identity 1\ncluster 1\nmember 2\ndirectory 3\nincarnation 4\nready 1\n");
    buf_printf(&text, "crc %08x\n", crc32c(0, text.at, text.len));
    put(m, buf_slice(&text));
    struct errmsg em = { "" };
    struct identity got;
    assert_int_equal(load(m, &got, &em), OK);
    buf_append_u8(&text, '\n');
    check_damaged(m, buf_slice(&text), "behind the end", 1);
    while (text.len <= IDENTITY_BYTES_MAX) buf_append_u8(&text, 'x');
    check_damaged(m, buf_slice(&text), "behind the end", 2);
    buf_deinit(&text);
    sim_disk_free(m);
}

/* Saves the new identity with the n-th writing operation failing; false when there are fewer. */
static bool save_failing_at(uint64_t n, enum sim_fault fault, uint64_t seed, bool power_lost)
{
    struct sim_disk *m = disk_with(&old_id);
    sim_disk_seed(m, seed);
    sim_disk_fail_nth(m, n, fault, EIO);
    struct errmsg em = { "" };
    enum err saved = identity_save(sim_disk_io(m), DIR_NAME, &new_id, &em);
    bool hit = sim_disk_fault_hit(m);
    sim_disk_fail_nth(m, 0, SIM_FAIL, 0);
    if (fault == SIM_CRASH || power_lost) sim_disk_crash(m, 0);
    struct identity got;
    enum err e = load(m, &got, &em);
    if (e != OK) fail_msg("operation %llu: %s", (unsigned long long)n, em.text);
    bool is_new = same(&got, &new_id);
    assert_true(is_new || same(&got, &old_id));
    if (saved == OK) assert_true(is_new); /* what was said to be kept is kept */

    /* And the next start goes on, whatever was left lying about. */
    assert_int_equal(identity_save(sim_disk_io(m), DIR_NAME, &new_id, &em), OK);
    sim_disk_crash(m, 0);
    assert_int_equal(load(m, &got, &em), OK);
    assert_true(same(&got, &new_id));
    sim_disk_free(m);
    return hit;
}

static void test_a_failure_or_crash_at_any_operation_leaves_one_of_the_two(void **state)
{
    (void)state;
    static const enum sim_fault faults[] = { SIM_FAIL, SIM_SHORT, SIM_CRASH };
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (uint64_t seed = 1; seed <= 40; seed++) {
            uint64_t n = 1;
            while (save_failing_at(n, faults[i], seed, seed % 2 == 0)) n++;
            assert_true(n > 4); /* write, sync, rename, directory: all of them were met */
        }
    }
}

static void test_a_failed_operation_names_the_file(void **state)
{
    (void)state;
    struct sim_disk *m = disk_with(&old_id);
    uint64_t n = 1;
    for (;; n++) {
        sim_disk_fail_nth(m, n, SIM_FAIL, EIO);
        struct errmsg em = { "" };
        enum err e = identity_save(sim_disk_io(m), DIR_NAME, &new_id, &em);
        if (!sim_disk_fault_hit(m)) break;
        if (e != OK) assert_non_null(strstr(em.text, DIR_NAME));
    }
    assert_true(n > 4);
    sim_disk_free(m);
}

static void test_claiming_keeps_the_ids(void **state)
{
    (void)state;
    static const uint64_t random[3] = { 7, 8, 9 };
    static const uint64_t other[3] = { 70, 80, 90 };
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    struct identity first, second;
    assert_int_equal(identity_claim(sim_disk_io(m), DIR_NAME, random, &first, &em), OK);
    assert_false(first.ready);
    assert_true(first.member_id != 0 && first.member_id <= IDENTITY_ID_MAX);
    assert_true(first.member_id != first.directory_id);
    sim_disk_crash(m, 0);
    assert_int_equal(identity_claim(sim_disk_io(m), DIR_NAME, other, &second, &em), OK);
    assert_true(same(&first, &second));
    sim_disk_free(m);
}

static void test_claiming_refuses_files_of_others(void **state)
{
    (void)state;
    static const uint64_t random[3] = { 7, 8, 9 };
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct errmsg em = { "" };
    struct identity got;
    int fd = -1;
    assert_int_equal(sim_disk_io(m)->open(m, "/d/LOCK", DISK_WRITE | DISK_CREATE, &fd), 0);
    sim_disk_io(m)->close(m, fd);
    assert_int_equal(sim_disk_io(m)->open(m, "/d/photo.jpg", DISK_WRITE | DISK_CREATE, &fd), 0);
    sim_disk_io(m)->close(m, fd);
    assert_int_equal(identity_claim(sim_disk_io(m), DIR_NAME, random, &got, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, DIR_NAME));
    assert_int_equal(sim_disk_io(m)->unlink(m, "/d/photo.jpg"), 0);
    assert_int_equal(identity_claim(sim_disk_io(m), DIR_NAME, random, &got, &em), OK);
    sim_disk_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_saved_is_loaded),
        cmocka_unit_test(test_the_file_is_text_with_pinned_bytes),
        cmocka_unit_test(test_a_directory_without_one_says_so),
        cmocka_unit_test(test_every_flipped_bit_and_every_cut_is_damage),
        cmocka_unit_test(test_wrong_contents_under_a_right_checksum),
        cmocka_unit_test(test_a_failure_or_crash_at_any_operation_leaves_one_of_the_two),
        cmocka_unit_test(test_a_failed_operation_names_the_file),
        cmocka_unit_test(test_claiming_keeps_the_ids),
        cmocka_unit_test(test_claiming_refuses_files_of_others),
    };
    return cmocka_run_group_tests_name("disk/identity", tests, NULL, NULL);
}
