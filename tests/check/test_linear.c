#include "check_kit.h"

/* Two puts, the second answered before anything else is sent at 50 ms. */
static void two_puts(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 1);
    kit_put(h, 20, 30, "k", "b", 2);
    kit_log_put(h, 1, "k", "a");
    kit_log_put(h, 2, "k", "b");
}

static void reads_of_what_is_there(struct history *h)
{
    two_puts(h);
    kit_get(h, 0, 25, "k", NULL, 0);
    kit_get(h, 12, 15, "k", "a", 1);
    kit_get(h, 25, 26, "k", "a", 0);
    kit_get(h, 25, 40, "k", "b", 2);
    kit_get(h, 50, 60, "other", NULL, 0);
    kit_op(h, HISTORY_RANGE, 50, 60, 2);
    kit_item(h, HISTORY_ITEM_SPAN, "a", "");
    kit_item(h, HISTORY_ITEM_SAW, "k", "b");
    kit_get(h, 50, 60, "k", "a", 1);
    h->ops[h->op_count - 1].at_rev = 1;
    kit_get(h, 50, 60, "k", "a", 1);
    h->ops[h->op_count - 1].flags = HISTORY_LOCAL;
}

static void stale_read(struct history *h)
{
    two_puts(h);
    kit_get(h, 50, 60, "k", "a", 1);
}

static void stale_read_of_nothing(struct history *h)
{
    two_puts(h);
    kit_get(h, 50, 60, "k", NULL, 0);
}

static void stale_behind_another_read(struct history *h)
{
    two_puts(h);
    h->ops[1].complete_ns = 200 * KIT_MS;
    kit_get(h, 50, 60, "k", "b", 2);
    kit_get(h, 70, 80, "k", "a", 1);
}

static void stale_behind_a_watch(struct history *h)
{
    two_puts(h);
    h->ops[1].complete_ns = 200 * KIT_MS;
    kit_watch(h, 1, "k", "l", 1, 0);
    kit_seen(h, 1, 40, 0);
    kit_seen(h, 1, 40, 1);
    kit_get(h, 70, 80, "k", "a", 1);
}

static void local_read_goes_back(struct history *h)
{
    two_puts(h);
    kit_at(h, kit_get(h, 50, 60, "k", "b", 2))->flags = HISTORY_LOCAL;
    kit_at(h, kit_get(h, 70, 80, "k", "a", 1))->flags = HISTORY_LOCAL;
}

static void read_of_what_never_was(struct history *h)
{
    two_puts(h);
    kit_get(h, 50, 60, "k", "c", 0);
}

static void range_without_a_key(struct history *h)
{
    two_puts(h);
    kit_put(h, 40, 41, "m", "c", 3);
    kit_log_put(h, 3, "m", "c");
    kit_op(h, HISTORY_RANGE, 50, 60, 3);
    kit_item(h, HISTORY_ITEM_SPAN, "a", "z");
    kit_item(h, HISTORY_ITEM_SAW, "k", "b");
}

static void range_of_an_old_revision(struct history *h)
{
    two_puts(h);
    kit_op(h, HISTORY_RANGE, 50, 60, 1);
    kit_item(h, HISTORY_ITEM_SPAN, "a", "z");
    kit_item(h, HISTORY_ITEM_SAW, "k", "a");
}

static void old_read_wrong(struct history *h)
{
    two_puts(h);
    kit_at(h, kit_get(h, 50, 60, "k", "b", 0))->at_rev = 1;
}

static void compacted_read(struct history *h)
{
    two_puts(h);
    kit_op(h, HISTORY_COMPACT, 32, 34, 0)->at_rev = 2;
    kit_at(h, kit_get(h, 50, 60, "k", "a", 0))->at_rev = 1;
}

static void write_lost(struct history *h)
{
    two_puts(h);
    kit_put(h, 40, 50, "k", "c", 3);
}

static void write_lost_without_revision(struct history *h)
{
    two_puts(h);
    kit_put(h, 40, 50, "k", "c", 0);
}

static void write_replaced(struct history *h)
{
    two_puts(h);
    kit_at(h, kit_put(h, 40, 50, "m", "c", 3))->rev = 3;
    kit_log_put(h, 3, "m", "x");
}

static void write_twice(struct history *h)
{
    two_puts(h);
    kit_log_put(h, 3, "k", "b");
}

static void revision_for_two(struct history *h)
{
    two_puts(h);
    kit_put(h, 40, 50, "m", "c", 2);
}

static void writes_out_of_order(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 2);
    kit_put(h, 20, 30, "m", "b", 1);
    kit_log_put(h, 1, "m", "b");
    kit_log_put(h, 2, "k", "a");
}

static void refused_write_is_there(struct history *h)
{
    two_puts(h);
    h->ops[1].outcome = HISTORY_REFUSED;
}

static void unknown_write_is_there(struct history *h)
{
    two_puts(h);
    h->ops[1].outcome = HISTORY_UNKNOWN;
    h->ops[1].complete_ns = HISTORY_NEVER;
    kit_get(h, 50, 60, "k", "b", 2);
}

static void unknown_write_is_not_there(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 1);
    kit_log_put(h, 1, "k", "a");
    kit_at(h, kit_put(h, 20, 30, "k", "b", 0))->outcome = HISTORY_UNKNOWN;
    h->ops[1].complete_ns = HISTORY_NEVER;
    kit_get(h, 50, 60, "k", "a", 1);
}

static void unknown_write_before_it_was_sent(struct history *h)
{
    two_puts(h);
    h->ops[0].rev = 0;
    h->ops[0].outcome = HISTORY_UNKNOWN;
    h->ops[0].complete_ns = HISTORY_NEVER;
    h->ops[0].invoke_ns = 40 * KIT_MS;
}

static void failed_compare_is_there(struct history *h)
{
    kit_cas(h, 0, 10, "k", 0, "a", 1);
    kit_log_put(h, 1, "k", "a");
    kit_at(h, kit_cas(h, 20, 30, "k", 0, "b", 0))->applied = false;
    kit_log_put(h, 2, "k", "b");
}

static void compares(struct history *h)
{
    kit_cas(h, 0, 10, "k", 0, "a", 1);
    kit_cas(h, 20, 30, "k", 1, "b", 2);
    kit_at(h, kit_cas(h, 20, 30, "k", 1, "c", 2))->applied = false;
    kit_log_put(h, 1, "k", "a");
    kit_log_put(h, 2, "k", "b");
}

static void compare_applied_though_false(struct history *h)
{
    compares(h);
    kit_cas(h, 40, 50, "k", 1, "d", 3);
    kit_log_put(h, 3, "k", "d");
}

static void compare_failed_though_true(struct history *h)
{
    compares(h);
    kit_at(h, kit_cas(h, 40, 50, "k", 2, "d", 2))->applied = false;
}

static void txn(struct history *h)
{
    kit_op(h, HISTORY_TXN, 0, 10, 1);
    kit_item(h, HISTORY_ITEM_IF_MOD, "k", "");
    kit_item(h, HISTORY_ITEM_PUT, "k", "a");
    kit_item(h, HISTORY_ITEM_PUT, "m", "b");
}

static void txn_whole(struct history *h)
{
    txn(h);
    kit_log(h, 1, 1, HISTORY_EVENT_PUT, "k", "a");
    kit_log(h, 1, 2, HISTORY_EVENT_PUT, "m", "b");
}

static void txn_split(struct history *h)
{
    txn(h);
    kit_log(h, 1, 1, HISTORY_EVENT_PUT, "k", "a");
    kit_log(h, 2, 1, HISTORY_EVENT_PUT, "m", "b");
}

static void unknown_delete(struct history *h)
{
    two_puts(h);
    kit_at(h, kit_del(h, 40, 41, "k", 0))->outcome = HISTORY_UNKNOWN;
    h->ops[h->op_count - 1].complete_ns = HISTORY_NEVER;
    kit_log_del(h, 3, "k");
    kit_get(h, 50, 60, "k", NULL, 0);
}

static void delete_by_nobody(struct history *h)
{
    two_puts(h);
    kit_log_del(h, 3, "k");
}

static void delete_twice(struct history *h)
{
    unknown_delete(h);
    kit_put(h, 70, 80, "k", "c", 4);
    kit_log_put(h, 4, "k", "c");
    kit_log_del(h, 5, "k");
}

static void delete_of_nothing_wrong(struct history *h)
{
    two_puts(h);
    kit_at(h, kit_del(h, 50, 60, "k", 0))->applied = false;
}

/* The delete in the log was asked for by the second one only. */
static void delete_lost_before_another(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 1);
    kit_log_put(h, 1, "k", "a");
    kit_del(h, 20, 30, "k", 0);
    kit_put(h, 40, 50, "k", "b", 2);
    kit_log_put(h, 2, "k", "b");
    kit_at(h, kit_del(h, 60, 70, "k", 0))->outcome = HISTORY_UNKNOWN;
    kit_log_del(h, 3, "k");
}

static void delete_lost(struct history *h)
{
    two_puts(h);
    kit_del(h, 50, 60, "k", 0);
}

static void hole_in_the_log(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 1);
    kit_put(h, 20, 30, "k", "b", 3);
    kit_log_put(h, 1, "k", "a");
    kit_log_put(h, 3, "k", "b");
}

static void version_wrong(struct history *h)
{
    two_puts(h);
    h->log[1].version = 3;
}

static void create_wrong(struct history *h)
{
    two_puts(h);
    h->log[1].create = 2;
    h->log[1].version = 1;
}

static void log_ends_early(struct history *h)
{
    two_puts(h);
    kit_op(h, HISTORY_RANGE, 50, 60, 7);
    kit_item(h, HISTORY_ITEM_SPAN, "x", "z");
}

static const struct kit_case cases[] = {
    { "reads", reads_of_what_is_there, NULL },
    { "stale read", stale_read, "stale read: right at revision 1, wrong at 2" },
    { "stale read of nothing", stale_read_of_nothing, "stale read" },
    { "stale behind another read", stale_behind_another_read, "stale read" },
    { "stale behind a watch", stale_behind_a_watch, "stale read" },
    { "local read goes back", local_read_goes_back, "stale read" },
    { "read of what never was", read_of_what_never_was, "nothing like that was ever there" },
    { "range without a key", range_without_a_key, "something else was there" },
    { "range of an old revision", range_of_an_old_revision, "its revision is too low" },
    { "old read wrong", old_read_wrong, "did not see what was there" },
    { "compacted read", compacted_read, "below the compacted revision" },
    { "write lost", write_lost, "lost write: it was answered with revision 3" },
    { "write lost without revision", write_lost_without_revision, "lost write: acknowledged" },
    { "write replaced", write_replaced, "does not show what was done" },
    { "write twice", write_twice, "applied 2 times" },
    { "revision for two", revision_for_two, "two operations for one revision" },
    { "writes out of order", writes_out_of_order, "seen before it was sent" },
    { "refused write is there", refused_write_is_there, "refused as not done, but" },
    { "unknown write is there", unknown_write_is_there, NULL },
    { "unknown write is not there", unknown_write_is_not_there, NULL },
    { "unknown write before it was sent", unknown_write_before_it_was_sent,
      "seen before it was sent" },
    { "compares", compares, NULL },
    { "failed compare is there", failed_compare_is_there, "answered as not applied" },
    { "compare applied though false", compare_applied_though_false, "condition did not hold" },
    { "compare failed though true", compare_failed_though_true, "something else was there" },
    { "txn", txn_whole, NULL },
    { "txn split", txn_split, "does not show what was done" },
    { "unknown delete", unknown_delete, NULL },
    { "delete by nobody", delete_by_nobody, "revision 3 is no operation's" },
    { "delete twice", delete_twice, "is no operation's" },
    { "delete of nothing wrong", delete_of_nothing_wrong, "stale read" },
    { "delete lost before another", delete_lost_before_another, "no revision of the log can be its" },
    { "delete lost", delete_lost, "no revision of the log can be its" },
    { "hole in the log", hole_in_the_log, "no event at revision 2" },
    { "version wrong", version_wrong, "version is not" },
    { "create wrong", create_wrong, "new create revision" },
    { "log ends early", log_ends_early, "the log ends at 2" },
};

static void test_histories_are_judged(void **state)
{
    (void)state;
    KIT_JUDGE(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histories_are_judged),
    };
    return cmocka_run_group_tests_name("check/linear", tests, NULL, NULL);
}
