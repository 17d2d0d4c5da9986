/* tests/unit/watch/test_watch_range.c - ranges that arrive in order, nested, and twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/watch_set.h"

#define RANGES 5000

struct subject {
    struct watcher watcher;
    unsigned hits;
};

static bool count_hit(void *ctx, struct watcher *w)
{
    CONTAINER_OF(w, struct subject, watcher)->hits++;
    ++*(size_t *)ctx;
    return false;
}

static struct slice number(uint8_t out[8], uint64_t v)
{
    u64_be_put(out, v);
    return (struct slice){ out, 8 };
}

/* Range i is [i, 2 * RANGES - i): each one lies in the one before. */
static void test_nested_ranges_in_order(void **state)
{
    (void)state;
    struct subject *s = mem_zalloc(RANGES * sizeof *s);
    struct watch_set *set = watch_set_new(5);
    uint8_t a[8];
    uint8_t b[8];
    for (uint64_t i = 0; i < RANGES; i++) {
        watch_add(set, &s[i].watcher, WATCH_RANGE, number(a, i), number(b, 2 * RANGES - i));
    }
    watch_set_check(set);
    for (uint64_t at = 0; at < 2 * RANGES; at += 777) {
        size_t hits = 0;
        watch_match(set, number(a, at), count_hit, &hits);
        assert_int_equal(hits, at < RANGES ? at + 1 : 2 * RANGES - at);
    }
    for (size_t i = 0; i < RANGES; i += 2) watch_remove(set, &s[i].watcher);
    watch_set_check(set);
    size_t hits = 0;
    watch_match(set, number(a, RANGES - 1), count_hit, &hits);
    assert_int_equal(hits, RANGES / 2);
    for (size_t i = 1; i < RANGES; i += 2) watch_remove(set, &s[i].watcher);
    watch_set_free(set);
    mem_free(s);
}

static void test_the_same_range_twice_is_one_group(void **state)
{
    (void)state;
    struct subject s[2];
    memset(s, 0, sizeof s);
    struct watch_set *set = watch_set_new(5);
    for (size_t i = 0; i < 2; i++) {
        watch_add(set, &s[i].watcher, WATCH_RANGE, SLICE_LIT("a"), SLICE_LIT("b"));
    }
    assert_ptr_equal(s[0].watcher.group, s[1].watcher.group);
    watch_remove(set, &s[0].watcher);
    size_t hits = 0;
    watch_match(set, SLICE_LIT("a1"), count_hit, &hits);
    assert_int_equal(hits, 1);
    assert_int_equal(s[1].hits, 1);
    watch_remove(set, &s[1].watcher);
    watch_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested_ranges_in_order),
        cmocka_unit_test(test_the_same_range_twice_is_one_group),
    };
    return cmocka_run_group_tests_name("watch/watch_range", tests, NULL, NULL);
}
