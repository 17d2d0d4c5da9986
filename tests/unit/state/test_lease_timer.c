/* The heap of deadlines: always the soonest on top, every owner knows its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/lease_int.h"

#define LIVES 9000 /* more than two blocks */

static struct life lives[LIVES];

static void fill(struct timer *h, size_t count, uint64_t seed)
{
    timer_init(h);
    for (size_t i = 0; i < count; i++) {
        lives[i] = (struct life){ .deadline_ms = (int64_t)(u64_mix(seed + i) % 1000) };
        timer_add(h, timer_owner_life(&lives[i]), lives[i].deadline_ms);
    }
}

static void drain(struct timer *h, size_t want_count)
{
    int64_t last_ms = INT64_MIN;
    for (size_t i = 0; i < want_count; i++) {
        struct life *life = timer_life(timer_at(h, TIMER_ROOT)->owner);
        assert_true(life->deadline_ms >= last_ms);
        last_ms = life->deadline_ms;
        timer_remove(h, TIMER_ROOT);
        assert_int_equal(life->timer, 0);
    }
    assert_int_equal(h->end, TIMER_ROOT);
    timer_deinit(h);
}

static void test_comes_out_in_order(void **state)
{
    (void)state;
    static const size_t counts[] = { 1, 2, 3, 4, 5, 6, 16, 17, 18, 100, 4093, 4094, LIVES };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct timer h;
        fill(&h, counts[i], i);
        timer_check(&h);
        drain(&h, counts[i]);
    }
}

static void test_removing_anywhere_keeps_the_order(void **state)
{
    (void)state;
    struct timer h;
    fill(&h, 500, 7);
    size_t left = 500;
    for (size_t i = 0; i < 500; i += 3, left--) {
        timer_remove(&h, lives[i].timer);
        timer_check(&h);
    }
    drain(&h, left);
}

static void test_moving_keeps_the_order(void **state)
{
    (void)state;
    struct timer h;
    fill(&h, 300, 9);
    for (size_t i = 0; i < 3000; i++) {
        struct life *life = &lives[u64_mix(i) % 300];
        life->deadline_ms = (int64_t)(u64_mix(i + 99999) % 1000);
        timer_move(&h, life->timer, life->deadline_ms);
        if (i % 50 == 0) timer_check(&h);
    }
    timer_check(&h);
    drain(&h, 300);
}

static void test_owners_of_both_kinds(void **state)
{
    (void)state;
    struct timer h;
    struct lease lease = { .id = 1, .deadline_ms = 5 };
    struct life life = { .deadline_ms = 6 };
    timer_init(&h);
    timer_add(&h, timer_owner_life(&life), 6);
    timer_add(&h, timer_owner_lease(&lease), 5);
    assert_ptr_equal(timer_lease(timer_at(&h, TIMER_ROOT)->owner), &lease);
    assert_int_equal(lease.timer, TIMER_ROOT);
    timer_remove(&h, lease.timer);
    assert_int_equal(lease.timer, 0);
    assert_null(timer_lease(timer_at(&h, TIMER_ROOT)->owner));
    assert_ptr_equal(timer_life(timer_at(&h, TIMER_ROOT)->owner), &life);
    timer_deinit(&h);
}

static void test_gives_blocks_back(void **state)
{
    (void)state;
    struct timer h;
    fill(&h, LIVES, 1);
    assert_true(h.block_count >= 3);
    while (h.end > TIMER_ROOT) timer_remove(&h, h.end - 1);
    assert_true(h.block_count <= 2);
    timer_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_out_in_order),
        cmocka_unit_test(test_removing_anywhere_keeps_the_order),
        cmocka_unit_test(test_moving_keeps_the_order),
        cmocka_unit_test(test_owners_of_both_kinds),
        cmocka_unit_test(test_gives_blocks_back),
    };
    return cmocka_run_group_tests_name("state/lease_timer", tests, NULL, NULL);
}
