#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fds.h"

#define COUNT 3

/* cmocka prints to the standard ones: they are away only between these two. */
static void streams_close(int saved[COUNT])
{
    for (int fd = 0; fd < COUNT; fd++) saved[fd] = fcntl(fd, F_DUPFD, COUNT);
    for (int fd = 0; fd < COUNT; fd++) close(fd);
}

static void streams_restore(const int saved[COUNT])
{
    for (int fd = 0; fd < COUNT; fd++) {
        dup2(saved[fd], fd);
        close(saved[fd]);
    }
}

static void test_closed_ones_are_taken_and_useless(void **state)
{
    (void)state;
    int saved[COUNT];
    char byte = 'x';
    streams_close(saved);
    enum err err = fds_standard_open();
    int next = dup(STDERR_FILENO);
    bool reads = read(STDIN_FILENO, &byte, 1) >= 0 || errno != EBADF;
    bool writes = write(STDOUT_FILENO, &byte, 1) >= 0 || errno != EBADF;
    bool says = write(STDERR_FILENO, &byte, 1) >= 0 || errno != EBADF;
    close(next);
    streams_restore(saved);
    assert_int_equal(err, OK);
    assert_true(next >= COUNT);
    assert_false(reads);
    assert_false(writes);
    assert_false(says);
}

static void test_open_ones_stay(void **state)
{
    (void)state;
    int saved[COUNT];
    int ends[2];
    char byte = 'x';
    streams_close(saved);
    int piped = pipe(ends); /* 0 reads, 1 writes, 2 is closed */
    enum err err = fds_standard_open();
    ssize_t written = write(STDOUT_FILENO, &byte, 1);
    ssize_t got = read(STDIN_FILENO, &byte, 1);
    streams_restore(saved);
    assert_int_equal(piped, 0);
    assert_int_equal(err, OK);
    assert_int_equal(written, 1);
    assert_int_equal(got, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_ones_are_taken_and_useless),
        cmocka_unit_test(test_open_ones_stay),
    };
    return cmocka_run_group_tests_name("base/fds", tests, NULL, NULL);
}
