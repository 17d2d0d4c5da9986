/* Addresses without waiting: digits at once, names by a thread, and who gives up early. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/resolve.h"

static void test_digits_are_there_at_once(void **state)
{
    (void)state;
    struct resolve *r = resolve_start("127.0.0.1", 80, 0, -1);
    assert_true(resolve_is_done(r));
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(resolve_result(r, &addr, &em), OK);
    assert_int_equal(addr.len, 16);
    resolve_free(r);
}

static enum err answer(const char *host, struct errmsg *em)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct resolve *r = resolve_start(host, 80, 0, fd);
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&ready, 1, 60000), 1);
    assert_true(resolve_is_done(r));
    struct net_addr addr;
    enum err e = resolve_result(r, &addr, em);
    resolve_free(r);
    close(fd);
    return e;
}

static void test_a_name_wakes_when_it_is_known(void **state)
{
    (void)state;
    struct errmsg em = { "" };
    assert_int_equal(answer("localhost", &em), OK);
    assert_int_equal(answer("no such..name", &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "no such..name"));
}

/* Freed before or after the answer, by either side; sanitizers look. The eventfd is closed first. */
static void test_giving_up_is_always_possible(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int fd = eventfd(0, EFD_CLOEXEC);
        struct resolve *r = resolve_start("localhost", 80, 0, fd);
        close(fd);
        resolve_free(r);
    }
    resolve_free(NULL);
    struct errmsg em;
    assert_int_equal(answer("localhost", &em), OK);
}

static void test_no_descriptor_is_an_error(void **state)
{
    (void)state;
    struct resolve *r = resolve_start("localhost", 80, 0, -1);
    assert_true(resolve_is_done(r));
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(resolve_result(r, &addr, &em), ERR_IO);
    resolve_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits_are_there_at_once),
        cmocka_unit_test(test_a_name_wakes_when_it_is_known),
        cmocka_unit_test(test_giving_up_is_always_possible),
        cmocka_unit_test(test_no_descriptor_is_an_error),
    };
    return cmocka_run_group_tests_name("server/resolve", tests, NULL, NULL);
}
