/* The kernel's table of file operations, and the helpers over any table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "disk/disk_io.h"
#include "../../sim/sim_disk.h"

static char dir[] = "/tmp/cordis-io-XXXXXX";

static char *at(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = 1 - turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static int make_dir(void **state)
{
    (void)state;
    memcpy(dir, "/tmp/cordis-io-XXXXXX", sizeof dir);
    return mkdtemp(dir) == NULL;
}

static int count_name(void *arg, const char *name)
{
    size_t *count = arg;
    assert_true(name[0] == 'a' || name[0] == 'b');
    ++*count;
    return 0;
}

static int remove_name(void *arg, const char *name)
{
    (void)arg;
    unlink(at(name));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    const struct disk_io *io = disk_io_posix();
    io->list(io->ctx, dir, remove_name, NULL);
    return rmdir(dir);
}

static void write_read_size_rename(const struct disk_io *io)
{
    int fd = -1;
    assert_int_equal(io->open(io->ctx, at("a"), DISK_READ, &fd), -ENOENT);
    assert_int_equal(io->open(io->ctx, at("a"), DISK_WRITE | DISK_CREATE, &fd), 0);
    struct errmsg em;
    assert_int_equal(disk_write_all(io, fd, "a", "hello world", 11, 3, &em), OK);
    assert_int_equal(io->sync(io->ctx, fd), 0);
    uint64_t bytes = 0;
    assert_int_equal(io->size(io->ctx, fd, &bytes), 0);
    assert_int_equal(bytes, 14);
    char text[16] = { 0 };
    assert_int_equal(disk_read_all(io, fd, "a", text, 11, 3, &em), OK);
    assert_string_equal(text, "hello world");
    assert_int_equal(disk_read_all(io, fd, "a", text, 12, 3, &em), ERR_CORRUPT);
    assert_string_equal(em.text, "a ends at offset 14, 1 bytes short");
    assert_int_equal(io->truncate(io->ctx, fd, 5), 0);
    assert_int_equal(io->size(io->ctx, fd, &bytes), 0);
    assert_int_equal(bytes, 5);
    assert_int_equal(io->allocate(io->ctx, fd, 8192), 0);
    assert_int_equal(io->size(io->ctx, fd, &bytes), 0);
    assert_int_equal(bytes, 8192);
    assert_int_equal(io->path_size(io->ctx, at("a"), &bytes), 0);
    assert_int_equal(bytes, 8192);
    assert_int_equal(io->path_size(io->ctx, at("b"), &bytes), -ENOENT);
    assert_int_equal(io->path_size(io->ctx, dir, &bytes), 0);
    assert_int_equal(bytes, 0); /* not a file */
    assert_int_equal(io->free_bytes(io->ctx, dir, &bytes), 0);
    assert_true(bytes > 0);
    assert_int_equal(io->close(io->ctx, fd), 0);

    assert_int_equal(io->open(io->ctx, at("a"), DISK_WRITE | DISK_CREATE, &fd), -EEXIST);
    assert_int_equal(io->open(io->ctx, at("b"), DISK_WRITE | DISK_CREATE, &fd), 0);
    io->close(io->ctx, fd);
    size_t count = 0;
    assert_int_equal(io->list(io->ctx, dir, count_name, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(io->rename(io->ctx, at("a"), at("b")), 0);
    assert_int_equal(io->dirsync(io->ctx, dir), 0);
    count = 0;
    assert_int_equal(io->list(io->ctx, dir, count_name, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(io->unlink(io->ctx, at("b")), 0);
    assert_int_equal(io->unlink(io->ctx, at("b")), -ENOENT);
    assert_int_equal(io->rename(io->ctx, at("a"), at("b")), -ENOENT);
}

static void test_write_read_size_rename(void **state)
{
    (void)state;
    write_read_size_rename(disk_io_posix());
}

static void test_the_model_is_like_the_kernel(void **state)
{
    (void)state;
    struct sim_disk *d = sim_disk_new(dir, 1);
    write_read_size_rename(sim_disk_io(d));
    sim_disk_free(d);
}

static void test_the_model_has_room_for_so_much(void **state)
{
    (void)state;
    struct sim_disk *d = sim_disk_new("/d", 1);
    const struct disk_io *io = sim_disk_io(d);
    static const uint8_t zeros[8192];
    int fd = -1;
    uint64_t bytes = 0;
    assert_int_equal(io->open(d, "/d/a", DISK_WRITE | DISK_CREATE, &fd), 0);
    sim_disk_set_free_bytes(d, 12288);
    assert_int_equal(io->pwrite(d, fd, zeros, 8192, 0), 8192);
    assert_int_equal(io->free_bytes(d, "/d", &bytes), 0);
    assert_int_equal(bytes, 4096);
    struct errmsg em;
    assert_int_equal(disk_write_all(io, fd, "a", zeros, 8192, 8192, &em), ERR_NOSPACE);
    assert_int_equal(io->allocate(d, fd, 16384), -ENOSPC);
    assert_int_equal(io->allocate(d, fd, 12288), 0);
    assert_int_equal(io->truncate(d, fd, 4096), 0);
    assert_int_equal(io->free_bytes(d, "/d", &bytes), 0);
    assert_int_equal(bytes, 8192);
    assert_int_equal(io->unlink(d, "/d/a"), 0);
    assert_int_equal(io->close(d, fd), 0);
    assert_int_equal(io->free_bytes(d, "/d", &bytes), 0);
    assert_int_equal(bytes, 12288);
    sim_disk_free(d);
}

/* What was cut off does not come back once it is synced, and a directory that was not synced is gone
 * with what is in it. */
static void test_the_model_cuts_and_forgets_directories(void **state)
{
    (void)state;
    size_t dirs_lost = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim_disk *d = sim_disk_new("/d", seed);
        const struct disk_io *io = sim_disk_io(d);
        int fd = -1;
        assert_int_equal(io->open(d, "/d/x/a", DISK_WRITE | DISK_CREATE, &fd), -ENOENT);
        assert_int_equal(io->mkdir(d, "/d/x"), 0);
        if (seed % 2 == 0) assert_int_equal(io->dirsync(d, "/d"), 0);
        assert_int_equal(io->open(d, "/d/x/a", DISK_WRITE | DISK_CREATE, &fd), 0);
        assert_int_equal(io->pwrite(d, fd, "0123456789", 10, 0), 10);
        assert_int_equal(io->sync(d, fd), 0);
        assert_int_equal(io->truncate(d, fd, 4), 0);
        assert_int_equal(io->allocate(d, fd, 8), 0);
        assert_int_equal(io->sync(d, fd), 0);
        assert_int_equal(io->dirsync(d, "/d/x"), 0);
        io->close(d, fd);
        sim_disk_crash(d, seed);
        const struct sim_file *f = sim_disk_get(d, "/d/x/a");
        dirs_lost += f == NULL;
        assert_true(f != NULL || seed % 2 == 1);
        if (f != NULL) assert_int_equal(f->now_bytes, 8);
        if (f != NULL) assert_memory_equal(f->now, "0123\0\0\0\0", 8);
        sim_disk_free(d);
    }
    assert_in_range(dirs_lost, 10, 40);
}

static void test_errors_have_text(void **state)
{
    (void)state;
    const struct disk_io *io = disk_io_posix();
    struct errmsg em;
    assert_int_equal(disk_error(&em, "write", "/x", -ENOSPC), ERR_NOSPACE);
    assert_string_equal(em.text, "write /x: No space left on device");
    assert_int_equal(disk_error(&em, "sync", "/x", -EIO), ERR_IO);
    assert_int_equal(disk_error(NULL, "sync", "/x", -EIO), ERR_IO);
    int fd = -1;
    assert_int_equal(io->open(io->ctx, at("a"), DISK_WRITE | DISK_CREATE, &fd), 0);
    io->close(io->ctx, fd);
    assert_int_equal(io->open(io->ctx, at("a"), DISK_READ, &fd), 0);
    assert_int_equal(disk_write_all(io, fd, "a", "x", 1, 0, &em), ERR_IO);
    io->close(io->ctx, fd);
    assert_int_equal(io->list(io->ctx, at("none"), count_name, NULL), -ENOENT);
    assert_int_equal(io->dirsync(io->ctx, at("none")), -ENOENT);
}

static void test_make_dir(void **state)
{
    (void)state;
    const struct disk_io *io = disk_io_posix();
    struct errmsg em;
    assert_int_equal(disk_make_dir(io, at("a"), &em), OK);
    assert_int_equal(disk_make_dir(io, at("a"), &em), OK);
    assert_int_equal(rmdir(at("a")), 0);
    assert_int_equal(disk_make_dir(io, at("a/b/c"), &em), ERR_IO);
    assert_int_equal(disk_make_dir(io, "", &em), ERR_CONFIG);
    uint32_t block_bytes = 0;
    assert_int_equal(io->block_bytes(io->ctx, dir, &block_bytes), 0);
    assert_true(block_bytes >= DISK_BLOCK_BYTES_MIN);
    assert_true(block_bytes <= DISK_BLOCK_BYTES_MAX);
    assert_int_equal(block_bytes & (block_bytes - 1), 0);
}

/* The model that other tests rely on loses what is not synced, and nothing else. */
static void test_model_loses_only_what_is_not_synced(void **state)
{
    (void)state;
    size_t lost_bytes = 0;
    size_t lost_names = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct sim_disk *m = sim_disk_new("/d", seed);
        const struct disk_io *io = sim_disk_io(m);
        int fd = -1;
        assert_int_equal(io->open(m, "/d/a", DISK_WRITE | DISK_CREATE, &fd), 0);
        assert_int_equal(io->pwrite(m, fd, "synced", 6, 0), 6);
        assert_int_equal(io->sync(m, fd), 0);
        assert_int_equal(io->dirsync(m, "/d"), 0);
        assert_int_equal(io->pwrite(m, fd, "later", 5, 512), 5);
        assert_int_equal(io->rename(m, "/d/a", "/d/b"), 0);
        io->close(m, fd);
        sim_disk_crash(m, 0);
        const struct sim_file *a = sim_disk_get(m, "/d/a");
        const struct sim_file *b = sim_disk_get(m, "/d/b");
        assert_true((a == NULL) != (b == NULL)); /* a rename is whole or not at all */
        lost_names += a != NULL;
        const struct sim_file *f = a != NULL ? a : b;
        assert_memory_equal(f->now, "synced", 6);
        lost_bytes += memcmp(f->now + 512, "later", 5) != 0;
        sim_disk_free(m);
    }
    assert_in_range(lost_names, 50, 150);
    assert_in_range(lost_bytes, 50, 190);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_read_size_rename, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_errors_have_text, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_make_dir, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_the_model_is_like_the_kernel, make_dir, remove_dir),
        cmocka_unit_test(test_the_model_has_room_for_so_much),
        cmocka_unit_test(test_the_model_cuts_and_forgets_directories),
        cmocka_unit_test(test_model_loses_only_what_is_not_synced),
    };
    return cmocka_run_group_tests_name("disk/disk_io", tests, NULL, NULL);
}
