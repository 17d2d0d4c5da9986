/* The mailbox: order, sleeping, kicks; two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pthread.h>

#include "disk/wal_int.h"

#define LETTERS 200000

struct letter {
    struct wal_mail_node node;
    uint64_t number;
};

static void test_takes_in_order(void **state)
{
    (void)state;
    struct wal_mail m = { 0 };
    struct letter letters[5];
    assert_null(wal_mail_take(&m));
    for (uint64_t i = 0; i < 5; i++) {
        letters[i].number = i;
        wal_mail_push(&m, &letters[i].node);
    }
    assert_false(wal_mail_is_empty(&m));
    uint64_t want = 0;
    for (struct wal_mail_node *n = wal_mail_take(&m); n != NULL; n = n->next) {
        assert_int_equal(((struct letter *)(void *)n)->number, want++);
    }
    assert_int_equal(want, 5);
    assert_true(wal_mail_is_empty(&m));
}

static void test_wait_ends_at_once_if_there_is_reason(void **state)
{
    (void)state;
    struct wal_mail m = { 0 };
    struct letter letter;
    wal_mail_kick(&m);
    wal_mail_wait(&m, -1); /* would hang */
    wal_mail_push(&m, &letter.node);
    wal_mail_wait(&m, -1);
    wal_mail_take(&m);
    wal_mail_wait(&m, 1); /* the kick was used up: ends by its limit */
    assert_true(wal_mail_is_empty(&m));
}

static void *receive(void *arg)
{
    struct wal_mail *m = arg;
    uint64_t next = 0;
    while (next < LETTERS) {
        struct wal_mail_node *n = wal_mail_take(m);
        if (n == NULL) wal_mail_wait(m, -1);
        for (; n != NULL; n = n->next) {
            if (((struct letter *)(void *)n)->number != next++) return NULL;
        }
    }
    return m;
}

static void test_nothing_is_lost_between_threads(void **state)
{
    (void)state;
    struct wal_mail m = { 0 };
    struct letter *letters = mem_alloc(LETTERS * sizeof *letters);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, receive, &m), 0);
    for (uint64_t i = 0; i < LETTERS; i++) {
        letters[i].number = i;
        wal_mail_push(&m, &letters[i].node);
    }
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &m);
    mem_free(letters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_in_order),
        cmocka_unit_test(test_wait_ends_at_once_if_there_is_reason),
        cmocka_unit_test(test_nothing_is_lost_between_threads),
    };
    return cmocka_run_group_tests_name("disk/wal_mail", tests, NULL, NULL);
}
