/* Which directory is the checkpoint's: read back, refused when damaged, exchanged or not by a crash,
 * never both; and what is removed beside it. */
#include "store_kit.h"

#include "disk/db_current.h"
#include "../../sim/sim_disk.h"

#define DIR_NAME "/d"
#define FILE_NAME "/d/db.current"

static const struct db_current old_db = { 3, 100, 2 };
static const struct db_current new_db = { 4, 900, 5 };

static bool same(const struct db_current *a, const struct db_current *b)
{
    return a->number == b->number && a->index == b->index && a->term == b->term;
}

static enum err save(struct sim_disk *m, const struct db_current *c)
{
    struct errmsg em;
    TRY(db_current_prepare(sim_disk_io(m), DIR_NAME, c, &em));
    return db_current_replace(sim_disk_io(m), DIR_NAME, &em);
}

static void put(struct sim_disk *m, struct slice text)
{
    int fd = -1;
    sim_disk_io(m)->unlink(m, FILE_NAME);
    assert_int_equal(sim_disk_io(m)->open(m, FILE_NAME, DISK_WRITE | DISK_CREATE, &fd), 0);
    if (text.len > 0) assert_int_equal(sim_disk_io(m)->pwrite(m, fd, text.at, text.len, 0), text.len);
    sim_disk_io(m)->close(m, fd);
    assert_int_equal(sim_disk_io(m)->dirsync(m, DIR_NAME), 0);
}

static void test_what_was_replaced_is_loaded(void **state)
{
    (void)state;
    static const struct db_current all[] = { { 0, 0, 0 }, { 1, 7, 1 }, { UINT64_MAX, 1, 2 } };
    struct sim_disk *m = sim_disk_new(DIR_NAME, 1);
    struct db_current got = new_db;
    struct errmsg em;
    assert_int_equal(db_current_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
    assert_true(same(&got, &all[0])); /* no file */
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(save(m, &all[i]), OK);
        assert_int_equal(db_current_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
        assert_true(same(&got, &all[i]));
    }
    /* Prepared is not replaced. */
    assert_int_equal(db_current_prepare(sim_disk_io(m), DIR_NAME, &new_db, &em), OK);
    assert_int_equal(db_current_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
    assert_true(same(&got, &all[2]));
    sim_disk_free(m);
}

static void check_damaged(struct sim_disk *m, struct slice text, const char *what, size_t at)
{
    put(m, text);
    struct errmsg em = { "" };
    struct db_current got = new_db;
    enum err e = db_current_load(sim_disk_io(m), DIR_NAME, &got, &em);
    if (e != ERR_CORRUPT) fail_msg("%s %zu: %s", what, at, err_name(e));
    assert_non_null(strstr(em.text, FILE_NAME));
    assert_true(same(&got, &new_db));
}

static void test_every_flipped_bit_and_every_cut_is_damage(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new(DIR_NAME, 1);
    assert_int_equal(save(m, &old_db), OK);
    const struct sim_file *f = sim_disk_get(m, FILE_NAME);
    size_t len = f->now_bytes;
    static const char pinned[] = "cordis-db 1\nname db.3\nindex 100\nterm 2\ncrc ";
    assert_memory_equal(f->now, pinned, sizeof pinned - 1);
    uint8_t *bad = mem_copy(f->now, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_damaged(m, (struct slice){ bad, len }, "bit", bit);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) check_damaged(m, (struct slice){ bad, cut }, "cut", cut);
    mem_free(bad);
    sim_disk_free(m);
}

static const char *const wrong[] = {
    "cordis-db 2\nname db\nindex 1\nterm 1\n",   "cordis-db 1\nname db.0\nindex 1\nterm 1\n",
    "cordis-db 1\nname db.01\nindex 1\nterm 1\n", "cordis-db 1\nname db.-1\nindex 1\nterm 1\n",
    "cordis-db 1\nname db./x\nindex 1\nterm 1\n", "cordis-db 1\nname ../db\nindex 1\nterm 1\n",
    "cordis-db 1\nname db\nindex 1\n",            "cordis-db 1\nname db\nterm 1\nindex 1\n",
    "cordis-db 1\nname db\nindex \nterm 1\n",     "cordis-db 1\nname db\nindex 1\nterm 1\nx 1\n",
};

static void test_wrong_contents_under_a_right_checksum(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new(DIR_NAME, 1);
    struct buf text = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        buf_clear(&text);
        buf_append_slice(&text, slice_of(wrong[i]));
        buf_printf(&text, "crc %08x\n", crc32c(0, text.at, text.len));
        check_damaged(m, buf_slice(&text), "row", i);
    }
    while (text.len <= DB_CURRENT_BYTES_MAX) buf_append_u8(&text, 'x');
    check_damaged(m, buf_slice(&text), "too long", 0);
    buf_deinit(&text);
    sim_disk_free(m);
}

/* With the n-th writing operation failing, or the last one before a crash; false if there is none. */
static bool save_failing_at(uint64_t n, enum sim_fault fault, uint64_t seed)
{
    struct sim_disk *m = sim_disk_new(DIR_NAME, 1);
    assert_int_equal(save(m, &old_db), OK);
    sim_disk_seed(m, seed);
    sim_disk_fail_nth(m, n, fault, EIO);
    struct errmsg em;
    enum err prepared = db_current_prepare(sim_disk_io(m), DIR_NAME, &new_db, &em);
    enum err replaced = prepared == OK ? db_current_replace(sim_disk_io(m), DIR_NAME, &em) : prepared;
    bool hit = sim_disk_fault_hit(m);
    sim_disk_crash(m, seed);
    struct db_current got;
    enum err e = db_current_load(sim_disk_io(m), DIR_NAME, &got, &em);
    if (e != OK) fail_msg("operation %llu: %s", (unsigned long long)n, em.text);
    assert_true(same(&got, &new_db) || same(&got, &old_db));
    if (replaced == OK) assert_true(same(&got, &new_db));
    if (prepared != OK) assert_true(same(&got, &old_db));
    assert_int_equal(save(m, &new_db), OK);
    sim_disk_crash(m, seed + 1);
    assert_int_equal(db_current_load(sim_disk_io(m), DIR_NAME, &got, &em), OK);
    assert_true(same(&got, &new_db));
    sim_disk_free(m);
    return hit;
}

static void test_a_crash_leaves_one_or_the_other(void **state)
{
    (void)state;
    static const enum sim_fault faults[] = { SIM_FAIL, SIM_CRASH };
    for (size_t f = 0; f < ARRAY_LEN(faults); f++) {
        for (uint64_t seed = 1; seed <= 50; seed++) {
            uint64_t n = 1;
            while (save_failing_at(n, faults[f], seed)) n++;
            assert_true(n > 4); /* create, write, sync, rename, sync directory */
        }
    }
}

/* --- removing: the kernel's files --------------------------------------------------- */

static void make_tree(const char *dir, const char *name)
{
    static const char *const below[] = { "rows", "meta" };
    char *db = kit_join(dir, name);
    assert_int_equal(mkdir(db, 0700), 0);
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        char *at = kit_join(db, below[i]);
        assert_int_equal(mkdir(at, 0700), 0);
        char *file = kit_join(at, "000001.ldb");
        kit_write_file(file, SLICE_LIT("bytes"));
        mem_free(file);
        mem_free(at);
    }
    mem_free(db);
}

static bool there(const char *dir, const char *name)
{
    char *path = kit_join(dir, name);
    bool is = access(path, F_OK) == 0;
    mem_free(path);
    return is;
}

static void test_only_what_is_ours_and_not_current_is_removed(void **state)
{
    (void)state;
    struct errmsg em;
    char *dir = kit_dir();
    static const char *const names[] = { "db", "db.1", "db.22", "db.backup", "dbx", "wal", "db.5.old" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) make_tree(dir, names[i]);
    struct db_current one = { 1, 5, 5 };
    assert_int_equal(db_current_prepare(disk_io_posix(), dir, &one, &em), OK);
    assert_int_equal(db_current_replace(disk_io_posix(), dir, &em), OK);
    assert_int_equal(db_current_prepare(disk_io_posix(), dir, &new_db, &em), OK);
    assert_int_equal(db_remove_others(disk_io_posix(), dir, &one, &em), OK);
    assert_true(there(dir, "db.1/rows/000001.ldb"));
    assert_true(there(dir, "db.backup/rows") && there(dir, "dbx") && there(dir, "wal"));
    assert_true(there(dir, "db.5.old") && there(dir, "db.current"));
    assert_false(there(dir, "db") || there(dir, "db.22") || there(dir, "db.current.tmp"));
    assert_int_equal(db_remove_others(disk_io_posix(), dir, &one, &em), OK); /* again */

    char path[DISK_PATH_BYTES_MAX];
    db_path(dir, 1, path);
    assert_int_equal(db_remove(disk_io_posix(), path, &em), OK);
    assert_int_equal(db_remove(disk_io_posix(), path, &em), OK);
    assert_false(there(dir, "db.1"));
    kit_remove(dir);
}

static void test_a_lost_name_is_noticed_before_anything_is_removed(void **state)
{
    (void)state;
    struct errmsg em;
    struct db_current none = { 0, 0, 0 }, one = { 1, 5, 5 };
    char *dir = kit_dir();
    assert_int_equal(db_check(disk_io_posix(), dir, &none, &em), OK); /* a new directory */
    make_tree(dir, "db.1");
    assert_int_equal(db_check(disk_io_posix(), dir, &one, &em), OK);
    assert_int_equal(db_check(disk_io_posix(), dir, &none, &em), ERR_CORRUPT);
    assert_non_null(strstr(em.text, "db.1"));
    make_tree(dir, "db");
    assert_int_equal(db_check(disk_io_posix(), dir, &none, &em), OK); /* the remains of a crash */
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_replaced_is_loaded),
        cmocka_unit_test(test_every_flipped_bit_and_every_cut_is_damage),
        cmocka_unit_test(test_wrong_contents_under_a_right_checksum),
        cmocka_unit_test(test_a_crash_leaves_one_or_the_other),
        cmocka_unit_test(test_a_lost_name_is_noticed_before_anything_is_removed),
        cmocka_unit_test(test_only_what_is_ours_and_not_current_is_removed),
    };
    return cmocka_run_group_tests_name("disk/db_current", tests, NULL, NULL);
}
