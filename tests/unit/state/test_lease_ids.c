/* Sorted ids: against a plain table of booleans, in several patterns of use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/lease_int.h"

#define IDS 3000

struct pair {
    struct id_set set;
    bool has[IDS + 1]; /* from 1 */
    size_t count;
};

static void toggle(struct pair *p, uint64_t id)
{
    if (p->has[id]) {
        id_set_remove(&p->set, id);
        p->count--;
    } else {
        id_set_add(&p->set, id);
        p->count++;
    }
    p->has[id] = !p->has[id];
}

static void compare_from(const struct pair *p, uint64_t after, size_t cap)
{
    uint64_t got[IDS];
    size_t count = id_set_after(&p->set, after, got, cap);
    size_t want = 0;
    for (uint64_t id = after + 1; id <= IDS && want < cap; id++) {
        if (!p->has[id]) continue;
        assert_true(want < count);
        assert_int_equal(got[want], id);
        want++;
    }
    assert_int_equal(count, want);
}

static void compare(const struct pair *p)
{
    id_set_check(&p->set, p->count);
    compare_from(p, 0, IDS);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t from = u64_mix(i + p->count) % IDS;
        compare_from(p, from, i * 10);
        uint64_t free = MAX(from, 1u);
        while (free <= IDS && p->has[free]) free++;
        assert_int_equal(id_set_free_from(&p->set, MAX(from, 1u)), free);
    }
}

static void test_random(void **state)
{
    (void)state;
    static struct pair p;
    p = (struct pair){ .count = 0 };
    id_set_init(&p.set);
    compare(&p);
    for (uint64_t i = 0; i < 30000; i++) {
        toggle(&p, 1 + u64_mix(i) % IDS);
        if (i % 500 == 0) compare(&p);
    }
    compare(&p);
    id_set_deinit(&p.set);
}

/* Runs are full when ids ascend, however many are removed at the front. */
static void test_ascending_ids_fill_runs(void **state)
{
    (void)state;
    static struct pair p;
    p = (struct pair){ .count = 0 };
    id_set_init(&p.set);
    for (uint64_t id = 1; id <= IDS; id++) toggle(&p, id);
    assert_int_equal(p.set.count, (IDS + ID_RUN_MAX - 1) / ID_RUN_MAX);
    for (uint64_t id = 1; id <= IDS / 2; id++) toggle(&p, id);
    compare(&p);
    for (uint64_t id = IDS; id > IDS / 2; id--) toggle(&p, id);
    compare(&p);
    assert_int_equal(p.set.count, 0);
    id_set_deinit(&p.set);
}

static void test_runs_that_thin_out_are_joined(void **state)
{
    (void)state;
    static struct pair p;
    p = (struct pair){ .count = 0 };
    id_set_init(&p.set);
    for (uint64_t id = 1; id <= IDS; id++) toggle(&p, id);
    for (uint64_t id = 1; id <= IDS; id++) {
        if (id % ID_RUN_MAX != 1) toggle(&p, id);
    }
    compare(&p);
    assert_int_equal(p.set.count, 1);
    id_set_deinit(&p.set);
}

static void test_descending_and_extreme_ids(void **state)
{
    (void)state;
    struct id_set s;
    uint64_t got[4];
    id_set_init(&s);
    for (uint64_t id = 1000; id >= 1; id--) id_set_add(&s, id);
    id_set_add(&s, UINT64_MAX);
    id_set_check(&s, 1001);
    assert_int_equal(id_set_after(&s, 999, got, 4), 2);
    assert_true(got[0] == 1000 && got[1] == UINT64_MAX);
    assert_int_equal(id_set_after(&s, UINT64_MAX, got, 4), 0);
    assert_int_equal(id_set_after(&s, UINT64_MAX - 1, got, 4), 1);
    assert_int_equal(id_set_free_from(&s, 1), 1001);
    id_set_remove(&s, UINT64_MAX);
    id_set_check(&s, 1000);
    id_set_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_ascending_ids_fill_runs),
        cmocka_unit_test(test_runs_that_thin_out_are_joined),
        cmocka_unit_test(test_descending_and_extreme_ids),
    };
    return cmocka_run_group_tests_name("state/lease_ids", tests, NULL, NULL);
}
