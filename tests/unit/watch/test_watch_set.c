/* tests/unit/watch/test_watch_set.c - the matcher against a list that is walked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "watch/watch_set.h"

#define ROUNDS 20000
#define WATCHERS 300
#define CROWD 100000

struct subject {
    struct watcher watcher;
    enum watch_kind kind;
    uint8_t start[8], end[8];
    size_t start_len, end_len;
    bool in;
    unsigned hits;
};

static uint64_t random_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*seed);
}

/* Few letters and short: many equal, nested and touching. */
static size_t random_key(uint64_t *seed, uint8_t *out, size_t max)
{
    size_t len = random_next(seed) % (max + 1);
    static const uint8_t letters[] = { 'a', 'b', 0, 0xff };
    for (size_t i = 0; i < len; i++) out[i] = letters[random_next(seed) % 4];
    return len;
}

static bool naive_match(const struct subject *s, struct slice key)
{
    struct slice start = { s->start, s->start_len };
    struct slice end = { s->end, s->end_len };
    switch (s->kind) {
    case WATCH_KEY: return slice_eq(key, start);
    case WATCH_PREFIX: return slice_starts(key, start);
    case WATCH_RANGE: return slice_cmp(start, key) <= 0 && slice_cmp(key, end) < 0;
    }
    return false;
}

static bool count_hit(void *ctx, struct watcher *w)
{
    (void)ctx;
    CONTAINER_OF(w, struct subject, watcher)->hits++;
    return false;
}

static void toggle(struct watch_set *set, struct subject *s, uint64_t *seed)
{
    if (s->in) {
        watch_remove(set, &s->watcher);
        s->in = false;
        return;
    }
    s->kind = (enum watch_kind)(random_next(seed) % 3);
    s->start_len = random_key(seed, s->start, 4);
    s->end_len = random_key(seed, s->end, 4);
    if (s->kind == WATCH_RANGE && s->end_len == 0) s->end[s->end_len++] = 'b';
    struct slice end = { s->end, s->end_len };
    watch_add(set, &s->watcher, s->kind, (struct slice){ s->start, s->start_len }, end);
    s->in = true;
}

static void test_matches_what_a_walk_matches(void **state)
{
    (void)state;
    static struct subject subjects[WATCHERS];
    memset(subjects, 0, sizeof subjects);
    uint64_t seed = 7;
    struct watch_set *set = watch_set_new(42);
    for (int round = 0; round < ROUNDS; round++) {
        toggle(set, &subjects[random_next(&seed) % WATCHERS], &seed);
        if (round % 500 == 0) watch_set_check(set);
        uint8_t bytes[8];
        struct slice key = { bytes, random_key(&seed, bytes, 5) };
        for (size_t i = 0; i < WATCHERS; i++) subjects[i].hits = 0;
        assert_false(watch_match(set, key, count_hit, NULL));
        size_t in = 0;
        for (size_t i = 0; i < WATCHERS; i++) {
            unsigned want = subjects[i].in && naive_match(&subjects[i], key);
            if (subjects[i].hits != want) fail_msg("round %d, watcher %zu: %u hits", round, i, subjects[i].hits);
            in += subjects[i].in;
        }
        assert_int_equal(watch_count(set), in);
    }
    for (size_t i = 0; i < WATCHERS; i++) {
        if (subjects[i].in) watch_remove(set, &subjects[i].watcher);
    }
    watch_set_check(set);
    watch_set_free(set);
}

static bool stop_at_once(void *ctx, struct watcher *w)
{
    (void)w;
    ++*(unsigned *)ctx;
    return true;
}

static void test_a_visit_can_stop(void **state)
{
    (void)state;
    struct subject s[3];
    memset(s, 0, sizeof s);
    struct watch_set *set = watch_set_new(1);
    watch_add(set, &s[0].watcher, WATCH_KEY, SLICE_LIT("ab"), SLICE_NONE);
    watch_add(set, &s[1].watcher, WATCH_PREFIX, SLICE_LIT("a"), SLICE_NONE);
    watch_add(set, &s[2].watcher, WATCH_RANGE, SLICE_LIT("a"), SLICE_LIT("b"));
    unsigned calls = 0;
    assert_true(watch_match(set, SLICE_LIT("ab"), stop_at_once, &calls));
    assert_int_equal(calls, 1);
    assert_false(watch_match(set, SLICE_LIT("b"), stop_at_once, &calls));
    assert_int_equal(calls, 1);
    for (size_t i = 0; i < 3; i++) watch_remove(set, &s[i].watcher);
    watch_set_free(set);
}

static const struct {
    const char *label;
    enum watch_kind kind;
    struct slice start, end, key;
    bool want;
} edges[] = {
    { "the empty prefix is everything", WATCH_PREFIX, SLICE_LIT(""), SLICE_LIT(""), SLICE_LIT("x"), true },
    { "the empty prefix, the empty key", WATCH_PREFIX, SLICE_LIT(""), SLICE_LIT(""), SLICE_LIT(""), true },
    { "the empty key", WATCH_KEY, SLICE_LIT(""), SLICE_LIT(""), SLICE_LIT(""), true },
    { "the empty key is no prefix", WATCH_KEY, SLICE_LIT(""), SLICE_LIT(""), SLICE_LIT("a"), false },
    { "a prefix is longer than the key", WATCH_PREFIX, SLICE_LIT("abc"), SLICE_LIT(""), SLICE_LIT("ab"), false },
    { "a prefix is the key", WATCH_PREFIX, SLICE_LIT("ab"), SLICE_LIT(""), SLICE_LIT("ab"), true },
    { "a range's start is in it", WATCH_RANGE, SLICE_LIT("b"), SLICE_LIT("c"), SLICE_LIT("b"), true },
    { "a range's end is not in it", WATCH_RANGE, SLICE_LIT("b"), SLICE_LIT("c"), SLICE_LIT("c"), false },
    { "just below the end", WATCH_RANGE, SLICE_LIT("b"), SLICE_LIT("c"), SLICE_LIT("b\xff\xff"), true },
    { "just below the start", WATCH_RANGE, SLICE_LIT("b"), SLICE_LIT("c"), SLICE_LIT("a\xff"), false },
    { "an empty range", WATCH_RANGE, SLICE_LIT("b"), SLICE_LIT("b"), SLICE_LIT("b"), false },
    { "a range that is upside down", WATCH_RANGE, SLICE_LIT("c"), SLICE_LIT("a"), SLICE_LIT("b"), false },
};

static void test_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
        struct subject s = { .in = false };
        struct watch_set *set = watch_set_new(i);
        watch_add(set, &s.watcher, edges[i].kind, edges[i].start, edges[i].end);
        watch_match(set, edges[i].key, count_hit, NULL);
        if (s.hits != edges[i].want) fail_msg("%s: %u hits", edges[i].label, s.hits);
        watch_remove(set, &s.watcher);
        assert_false(watcher_is_in(&s.watcher));
        watch_set_free(set);
    }
}

/* Not a measurement of time: it counts who is visited. */
static void test_a_crowd_elsewhere_is_not_visited(void **state)
{
    (void)state;
    struct subject *crowd = mem_zalloc(CROWD * sizeof *crowd);
    struct watch_set *set = watch_set_new(3);
    for (size_t i = 0; i < CROWD; i++) {
        uint8_t prefix[8] = { 'p' };
        u32_le_put(prefix + 1, (uint32_t)i);
        enum watch_kind kind = (enum watch_kind)(i % 3);
        uint8_t end[8] = { 'q' };
        watch_add(set, &crowd[i].watcher, kind, (struct slice){ prefix, 5 }, (struct slice){ end, 1 });
        if (i == CROWD / 2) watch_set_check(set);
    }
    watch_match(set, SLICE_LIT("other/key"), count_hit, NULL);
    for (size_t i = 0; i < CROWD; i++) assert_int_equal(crowd[i].hits, 0);
    watch_set_check(set);
    for (size_t i = 0; i < CROWD; i++) watch_remove(set, &crowd[i].watcher);
    watch_set_check(set);
    watch_set_free(set);
    mem_free(crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_what_a_walk_matches),
        cmocka_unit_test(test_a_visit_can_stop),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_a_crowd_elsewhere_is_not_visited),
    };
    return cmocka_run_group_tests_name("watch/watch_set", tests, NULL, NULL);
}
