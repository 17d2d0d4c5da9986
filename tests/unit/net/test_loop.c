#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/net_int.h"

/* Records the order of everything that the loop calls. */
struct recorder {
    struct loop *loop;
    struct buf calls;
    int64_t sleep_us;
    bool work; /* what work_ready answers; turn_end clears it */
    int work_after; /* work_ready becomes true at this many questions; 0: never */
    int stop_after_turns;
    int fd;
    struct loop_watch *watch;
    bool unwatch_in_callback;
};

static void note(struct recorder *r, const char *what) { buf_append(&r->calls, what, 1); }

static void turn_begin(void *ctx) { note(ctx, "b"); }
static void about_to_sleep(void *ctx) { note(ctx, "s"); }
static void woke(void *ctx) { note(ctx, "w"); }

static void turn_end(void *ctx)
{
    struct recorder *r = ctx;
    note(r, "e");
    r->work = false;
    if (r->stop_after_turns != 0 && --r->stop_after_turns == 0) loop_stop(r->loop);
}

static int64_t sleep_us(void *ctx)
{
    const struct recorder *r = ctx;
    return r->sleep_us;
}

static bool work_ready(void *ctx)
{
    struct recorder *r = ctx;
    if (r->work_after != 0 && --r->work_after == 0) r->work = true;
    return r->work;
}

static void on_fd(void *ctx)
{
    struct recorder *r = ctx;
    note(r, "f");
    uint64_t value;
    assert_int_equal(read(r->fd, &value, sizeof value), sizeof value);
    if (r->unwatch_in_callback) loop_unwatch(r->watch);
}

static void recorder_init(struct recorder *r, int64_t spin_us)
{
    *r = (struct recorder){ .sleep_us = -1 };
    struct loop_cfg cfg = {
        .hooks = { .ctx = r, .turn_begin = turn_begin, .turn_end = turn_end, .sleep_us = sleep_us,
                   .work_ready = work_ready, .about_to_sleep = about_to_sleep, .woke = woke },
        .spin_us = spin_us,
    };
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &r->loop, &em), OK);
    r->fd = eventfd(0, EFD_NONBLOCK);
    assert_true(r->fd >= 0);
    r->watch = loop_watch_fd(r->loop, r->fd, on_fd, r);
}

static void recorder_deinit(struct recorder *r)
{
    loop_free(r->loop);
    close(r->fd);
    buf_deinit(&r->calls);
}

static void ring(const struct recorder *r)
{
    uint64_t one = 1;
    assert_int_equal(write(r->fd, &one, sizeof one), sizeof one);
}

static void expect_calls(struct recorder *r, const char *want)
{
    buf_append(&r->calls, "", 1);
    assert_string_equal((const char *)r->calls.at, want);
    buf_clear(&r->calls);
}

static void test_turn_without_blocking(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    loop_turn(r.loop, false);
    expect_calls(&r, "be");
    ring(&r);
    loop_turn(r.loop, false);
    expect_calls(&r, "bfe");
    assert_int_equal(loop_stats(r.loop)->sleep_count, 0);
    assert_int_equal(loop_stats(r.loop)->turn_count, 2);
    recorder_deinit(&r);
}

static void test_hooks_around_a_sleep_are_in_order(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    ring(&r);
    loop_turn(r.loop, true);
    expect_calls(&r, "swbfe");
    assert_int_equal(loop_stats(r.loop)->sleep_count, 1);
    recorder_deinit(&r);
}

/* What came between the last look and about_to_sleep is not slept over. */
static void test_work_that_came_before_the_sleep_is_seen(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.work = true;
    loop_turn(r.loop, true); /* would block for ever */
    expect_calls(&r, "swbe");
    assert_int_equal(loop_stats(r.loop)->sleep_count, 0);
    recorder_deinit(&r);
}

static void test_zero_sleep_polls(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.sleep_us = 0;
    loop_turn(r.loop, true);
    expect_calls(&r, "be");
    recorder_deinit(&r);
}

static void test_deadline_ends_the_sleep_not_too_early(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.sleep_us = 2000;
    loop_turn(r.loop, false);
    int64_t start_us = loop_now_us(r.loop);
    loop_turn(r.loop, true);
    expect_calls(&r, "beswbe");
    assert_true(loop_now_us(r.loop) - start_us >= 2000);
    assert_int_equal(loop_now_ms(r.loop), loop_now_us(r.loop) / 1000);
    recorder_deinit(&r);
}

/* An earlier deadline re-arms the timer, a later one leaves it: an empty turn, no miss. */
static void test_deadline_moves(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.sleep_us = 60 * 1000000LL;
    ring(&r);
    loop_turn(r.loop, true);
    int64_t far_due_us = r.loop->timer_due_us;
    assert_true(far_due_us != 0);
    r.sleep_us = 1000;
    loop_turn(r.loop, true);
    assert_int_equal(r.loop->timer_due_us, 0); /* it fired */
    r.sleep_us = 5000;
    ring(&r);
    loop_turn(r.loop, true);
    int64_t due_us = r.loop->timer_due_us;
    r.sleep_us = 20000;
    ring(&r);
    loop_turn(r.loop, true);
    assert_int_equal(r.loop->timer_due_us, due_us);
    recorder_deinit(&r);
}

static void test_run_until_stop_and_again(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.sleep_us = 0;
    r.stop_after_turns = 3;
    loop_run(r.loop);
    expect_calls(&r, "bebebe");
    r.stop_after_turns = 1;
    loop_run(r.loop);
    expect_calls(&r, "be");
    recorder_deinit(&r);
}

static void test_unwatch_in_its_own_callback(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    r.unwatch_in_callback = true;
    ring(&r);
    loop_turn(r.loop, false);
    ring(&r);
    loop_turn(r.loop, false);
    expect_calls(&r, "bfebe");
    recorder_deinit(&r);
}

static void wait_shortly(struct recorder *r, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        ring(r);
        loop_turn(r->loop, true);
    }
}

/* After enough short waits the loop polls instead, and what another thread leaves without
 * a wake-up ends it. */
static void test_spin_sees_work(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 60 * 1000000LL);
    wait_shortly(&r, NET_SHORT_WAIT_COUNT);
    assert_int_equal(loop_stats(r.loop)->sleep_count, NET_SHORT_WAIT_COUNT);
    assert_int_equal(loop_stats(r.loop)->spin_count, 0);
    buf_clear(&r.calls);
    r.work_after = 5;
    loop_turn(r.loop, true);
    expect_calls(&r, "be");
    ring(&r);
    loop_turn(r.loop, true);
    expect_calls(&r, "bfe");
    assert_int_equal(loop_stats(r.loop)->sleep_count, NET_SHORT_WAIT_COUNT);
    assert_int_equal(loop_stats(r.loop)->spin_count, 2);
    recorder_deinit(&r);
}

/* A spin in vain goes to sleep, and spinning must be earned anew. */
static void test_spin_in_vain_sleeps(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 60 * 1000000LL);
    wait_shortly(&r, NET_SHORT_WAIT_COUNT);
    loop_set_spin_us(r.loop, 1);
    r.sleep_us = 2000;
    loop_turn(r.loop, true);
    assert_int_equal(loop_stats(r.loop)->spin_count, 1);
    assert_int_equal(loop_stats(r.loop)->sleep_count, NET_SHORT_WAIT_COUNT + 1);
    assert_int_equal(r.loop->short_wait_count, 0);
    loop_turn(r.loop, true);
    assert_int_equal(loop_stats(r.loop)->spin_count, 1);
    recorder_deinit(&r);
}

/* Two that wake each other in turn wait for longer than a spin, because both sleep. */
static void test_waits_of_a_few_spins_are_short(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 20000);
    r.sleep_us = 30000; /* longer than a spin, shorter than four */
    for (int i = 0; i < NET_SHORT_WAIT_COUNT; i++) loop_turn(r.loop, true);
    assert_int_equal(loop_stats(r.loop)->spin_count, 0);
    /* A machine that stood still for a while in between makes it begin anew. */
    for (int i = 0; i < 100 && loop_stats(r.loop)->spin_count == 0; i++) loop_turn(r.loop, true);
    assert_int_equal(loop_stats(r.loop)->spin_count, 1);
    recorder_deinit(&r);
}

/* In vain: twice as many short waits before the next one. It saw something: as few as at first. */
static void test_spins_in_vain_become_rare(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 60 * 1000000LL);
    wait_shortly(&r, NET_SHORT_WAIT_COUNT);
    loop_set_spin_us(r.loop, 1000);
    r.sleep_us = 1500;
    loop_turn(r.loop, true);
    bool was_short = r.loop->short_wait_count == 1; /* the machine did not stand still */
    assert_int_equal(r.loop->short_waits_needed, (was_short ? 2 : 1) * NET_SHORT_WAIT_COUNT);
    loop_set_spin_us(r.loop, 60 * 1000000LL);
    r.sleep_us = -1;
    r.loop->short_wait_count = 0;
    r.loop->short_waits_needed = NET_SHORT_WAIT_COUNT_MAX;
    wait_shortly(&r, NET_SHORT_WAIT_COUNT_MAX);
    assert_int_equal(loop_stats(r.loop)->spin_count, 1);
    wait_shortly(&r, 1);
    assert_int_equal(loop_stats(r.loop)->spin_count, 2);
    assert_int_equal(r.loop->short_waits_needed, NET_SHORT_WAIT_COUNT);
    /* Shorter than a spin because something else was due: that says nothing. */
    r.sleep_us = 1000;
    loop_turn(r.loop, true);
    assert_int_equal(loop_stats(r.loop)->spin_count, 3);
    assert_int_equal(r.loop->short_waits_needed, NET_SHORT_WAIT_COUNT);
    recorder_deinit(&r);
}

static void *ring_thread(void *arg)
{
    ring(arg);
    return NULL;
}

static void test_another_thread_wakes_the_loop(void **state)
{
    (void)state;
    struct recorder r;
    recorder_init(&r, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ring_thread, &r), 0);
    loop_turn(r.loop, true);
    expect_calls(&r, "swbfe");
    pthread_join(thread, NULL);
    recorder_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turn_without_blocking),
        cmocka_unit_test(test_hooks_around_a_sleep_are_in_order),
        cmocka_unit_test(test_work_that_came_before_the_sleep_is_seen),
        cmocka_unit_test(test_zero_sleep_polls),
        cmocka_unit_test(test_deadline_ends_the_sleep_not_too_early),
        cmocka_unit_test(test_deadline_moves),
        cmocka_unit_test(test_run_until_stop_and_again),
        cmocka_unit_test(test_unwatch_in_its_own_callback),
        cmocka_unit_test(test_spin_sees_work),
        cmocka_unit_test(test_spin_in_vain_sleeps),
        cmocka_unit_test(test_waits_of_a_few_spins_are_short),
        cmocka_unit_test(test_spins_in_vain_become_rare),
        cmocka_unit_test(test_another_thread_wakes_the_loop),
    };
    return cmocka_run_group_tests_name("net/loop", tests, NULL, NULL);
}
