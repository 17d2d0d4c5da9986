#include "check_kit.h"

/* These two need no log: only once_check and wgl_check look. */
static size_t judge(void (*write)(struct history *h), bool wgl, struct verdict *v)
{
    struct history *h = history_new();
    write(h);
    if (wgl) {
        wgl_check(h, WGL_STEP_MAX_DEFAULT, v);
    } else {
        once_check(h, v);
    }
    buf_append_u8(&v->text, 0);
    history_free(h);
    return v->violation_count;
}

struct bare_case {
    const char *name;
    void (*write)(struct history *h);
    const char *once; /* what once_check finds; NULL: nothing */
    const char *wgl;
};

static void unknown(struct history *h, size_t op)
{
    h->ops[op].outcome = HISTORY_UNKNOWN;
    h->ops[op].complete_ns = HISTORY_NEVER;
}

static void counted(struct history *h)
{
    kit_incr(h, 0, 10, "n", "1");
    kit_incr(h, 5, 20, "n", "2");
    unknown(h, kit_incr(h, 5, 20, "n", ""));
}

static void count_right(struct history *h)
{
    counted(h);
    kit_get(h, 50, 60, "n", "2", 0);
}

static void count_with_unknown(struct history *h)
{
    counted(h);
    kit_get(h, 50, 60, "n", "3", 0);
}

static void count_lost(struct history *h)
{
    counted(h);
    kit_get(h, 50, 60, "n", "1", 0);
}

static void count_twice(struct history *h)
{
    counted(h);
    kit_get(h, 50, 60, "n", "4", 0);
}

static void count_same_result(struct history *h)
{
    kit_incr(h, 0, 10, "n", "1");
    kit_incr(h, 5, 20, "n", "1");
}

static void appended(struct history *h)
{
    kit_append(h, 0, 10, "l", "a;");
    kit_append(h, 20, 30, "l", "b;");
    unknown(h, kit_append(h, 20, 30, "l", "c;"));
    kit_at(h, kit_append(h, 20, 30, "l", "d;"))->outcome = HISTORY_REFUSED;
}

static void list_right(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "a;c;b;", 0);
}

static void list_twice(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "a;b;a;", 0);
}

static void list_lost(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "a;c;", 0);
}

static void list_refused(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "a;b;d;", 0);
}

static void list_order(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "b;a;", 0);
}

static void list_foreign(struct history *h)
{
    appended(h);
    kit_get(h, 50, 60, "l", "a;b;x;", 0);
}

static void plain(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 0);
    kit_put(h, 5, 20, "k", "b", 0);
    kit_get(h, 12, 14, "k", "b", 0);
}

static void plain_right(struct history *h)
{
    plain(h);
    kit_get(h, 30, 40, "k", "a", 0); /* a was put while b was */
    h->ops[0].complete_ns = 25 * KIT_MS;
}

static void plain_back_and_forth(struct history *h)
{
    plain_right(h);
    kit_get(h, 50, 60, "k", "b", 0);
}

static void plain_unknown(struct history *h)
{
    plain(h);
    unknown(h, 0);
    kit_get(h, 30, 40, "k", "a", 0);
    kit_del(h, 50, 60, "k", 0);
    kit_get(h, 70, 80, "k", NULL, 0);
}

static void plain_unknown_twice(struct history *h)
{
    plain_unknown(h);
    kit_get(h, 90, 95, "k", "a", 0);
}

static void two_got_nx(struct history *h)
{
    kit_cas(h, 0, 10, "k", 0, "a", 0);
    kit_cas(h, 5, 15, "k", 0, "b", 0);
}

static void nx_failed_on_nothing(struct history *h)
{
    kit_at(h, kit_cas(h, 0, 10, "k", 0, "a", 0))->applied = false;
}

static void refused_is_seen(struct history *h)
{
    plain(h);
    h->ops[1].outcome = HISTORY_REFUSED;
}

static const struct bare_case cases[] = {
    { "count right", count_right, NULL, NULL },
    { "count with unknown", count_with_unknown, NULL, NULL },
    { "count lost", count_lost, "increments were lost", "explains" },
    { "count twice", count_twice, "applied twice", "explains" },
    { "count with the same result", count_same_result, "one result", "explains" },
    { "list right", list_right, NULL, NULL },
    { "list twice", list_twice, "appended twice", "explains" },
    { "list lost", list_lost, "append is lost", "explains" },
    { "list with refused", list_refused, "refused, but appended", "explains" },
    { "list in the wrong order", list_order, "appended later", "explains" },
    { "list with foreign", list_foreign, "nobody appended", "explains" },
    { "plain right", plain_right, NULL, NULL },
    { "plain back and forth", plain_back_and_forth, NULL, "explains" },
    { "plain unknown", plain_unknown, NULL, NULL },
    { "plain unknown twice", plain_unknown_twice, NULL, "explains" },
    { "two got NX", two_got_nx, NULL, "explains" },
    { "NX failed on nothing", nx_failed_on_nothing, NULL, "explains" },
    { "refused is seen", refused_is_seen, NULL, "explains" },
};

static void judge_case(const struct bare_case *c, bool wgl)
{
    struct verdict v = { .violation_count = 0 };
    const char *found = wgl ? c->wgl : c->once;
    size_t count = judge(c->write, wgl, &v);
    if (found == NULL && count != 0) fail_msg("%s: but\n%s", c->name, (const char *)v.text.at);
    if (found != NULL && strstr((const char *)v.text.at, found) == NULL) {
        fail_msg("%s: no '%s' in\n%s", c->name, found, (const char *)v.text.at);
    }
    verdict_deinit(&v);
}

static void test_final_reads_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) judge_case(&cases[i], false);
}

static void test_orders_are_searched(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) judge_case(&cases[i], true);
}

static void test_search_gives_up_at_its_bound(void **state)
{
    (void)state;
    struct history *h = history_new();
    struct verdict v = { .violation_count = 0 };
    for (int64_t i = 0; i < 12; i++) {
        char value[8];
        snprintf(value, sizeof value, "v%d", (int)i);
        kit_put(h, 0, 10, "k", value, 0);
    }
    kit_get(h, 20, 30, "k", "never", 0);
    wgl_check(h, 100, &v);
    assert_int_equal(v.undecided_count, 1);
    assert_int_equal(v.violation_count, 0);
    wgl_check(h, WGL_STEP_MAX_DEFAULT, &v);
    assert_int_equal(v.violation_count, 1);
    verdict_deinit(&v);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_final_reads_are_judged),
        cmocka_unit_test(test_orders_are_searched),
        cmocka_unit_test(test_search_gives_up_at_its_bound),
    };
    return cmocka_run_group_tests_name("check/once_check, check/wgl", tests, NULL, NULL);
}
