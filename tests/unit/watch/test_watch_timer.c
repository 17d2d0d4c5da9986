/* tests/unit/watch/test_watch_timer.c - the heap of timers against a walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/watch_timer.h"

#define TIMERS 200
#define ROUNDS 20000

static uint64_t random_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*seed);
}

static int64_t naive_next(const struct watch_timer *timers)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        if (timers[i].place != 0) next = MIN(next, timers[i].due_ms);
    }
    return next;
}

static void test_the_earliest_comes_first(void **state)
{
    (void)state;
    static struct watch_timer timers[TIMERS];
    memset(timers, 0, sizeof timers);
    struct watch_timers heap = { 0 };
    uint64_t seed = 11;
    for (int round = 0; round < ROUNDS; round++) {
        struct watch_timer *one = &timers[random_next(&seed) % TIMERS];
        uint64_t what = random_next(&seed) % 4;
        if (what == 0) {
            watch_timer_clear(&heap, one);
            assert_int_equal(one->place, 0);
        } else if (what == 1) {
            int64_t next = naive_next(timers);
            if (next != INT64_MAX) assert_null(watch_timer_take(&heap, next - 1));
            struct watch_timer *taken = watch_timer_take(&heap, next);
            assert_int_equal(taken != NULL, next != INT64_MAX);
            if (taken != NULL) assert_int_equal(taken->due_ms, next);
        } else {
            watch_timer_set(&heap, one, (int64_t)(random_next(&seed) % 50));
        }
        assert_int_equal(watch_timer_next_ms(&heap), naive_next(timers));
    }
    while (watch_timer_take(&heap, 50) != NULL) {}
    watch_timers_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_earliest_comes_first) };
    return cmocka_run_group_tests_name("watch/watch_timer", tests, NULL, NULL);
}
