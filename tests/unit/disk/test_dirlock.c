/* One process a directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "disk/dirlock.h"

static void test_second_holder_is_told_who_has_it(void **state)
{
    (void)state;
    char dir[] = "/tmp/cordis-lock-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct dirlock *lock = NULL;
    struct dirlock *other = NULL;
    struct errmsg em;
    assert_int_equal(dirlock_take(dir, &lock, &em), OK);
    assert_int_equal(dirlock_take(dir, &other, &em), ERR_LOCKED);
    assert_null(other);
    char want[128];
    snprintf(want, sizeof want, "%s/LOCK is held by process %ld", dir, (long)getpid());
    assert_string_equal(em.text, want);

    pid_t child = fork();
    if (child == 0) _exit(dirlock_take(dir, &other, NULL) == ERR_LOCKED ? 0 : 1);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    dirlock_free(lock);
    assert_int_equal(dirlock_take(dir, &other, &em), OK);
    dirlock_free(other);
    dirlock_free(NULL);
    char path[64];
    snprintf(path, sizeof path, "%s/LOCK", dir);
    unlink(path);
    rmdir(dir);
}

/* However a process ends, its lock ends. */
static void test_lock_ends_with_its_process(void **state)
{
    (void)state;
    char dir[] = "/tmp/cordis-lock-XXXXXX";
    assert_non_null(mkdtemp(dir));
    pid_t child = fork();
    struct dirlock *lock = NULL;
    if (child == 0) _exit(dirlock_take(dir, &lock, NULL) == OK ? 0 : 1);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct errmsg em;
    assert_int_equal(dirlock_take(dir, &lock, &em), OK);
    dirlock_free(lock);
    char path[64];
    snprintf(path, sizeof path, "%s/LOCK", dir);
    unlink(path);
    rmdir(dir);
}

static void test_refusals(void **state)
{
    (void)state;
    struct dirlock *lock = NULL;
    struct errmsg em;
    assert_int_equal(dirlock_take("/nonexistent/dir", &lock, &em), ERR_IO);
    static char path[3000];
    memset(path, 'x', sizeof path - 1);
    assert_int_equal(dirlock_take(path, &lock, &em), ERR_CONFIG);
    assert_null(lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_holder_is_told_who_has_it),
        cmocka_unit_test(test_lock_ends_with_its_process),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("disk/dirlock", tests, NULL, NULL);
}
