#include "check_kit.h"

/* Revisions 1 k, 2 (k, m), 3 x, 4 k deleted; events 0..4 of the log. */
static void base(struct history *h, uint64_t from, unsigned flags)
{
    kit_put(h, 0, 1, "k", "a", 1);
    kit_op(h, HISTORY_TXN, 2, 3, 2);
    kit_item(h, HISTORY_ITEM_PUT, "k", "b");
    kit_item(h, HISTORY_ITEM_PUT, "m", "c");
    kit_put(h, 4, 5, "x", "d", 3);
    kit_del(h, 6, 7, "k", 4);
    kit_log(h, 1, 1, HISTORY_EVENT_PUT, "k", "a");
    kit_log(h, 2, 1, HISTORY_EVENT_PUT, "k", "b");
    kit_log(h, 2, 2, HISTORY_EVENT_PUT, "m", "c");
    kit_log(h, 3, 1, HISTORY_EVENT_PUT, "x", "d");
    kit_log(h, 4, 1, HISTORY_EVENT_DEL, "k", "");
    kit_watch(h, 1, "k", "n", from, flags);
}

static void seen(struct history *h, const char *events)
{
    for (const char *at = events; *at != 0; at++) kit_seen(h, 1, 100 + at - events, (size_t)(*at - '0'));
}

static void whole(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 3);
    kit_seen(h, 1, 120, 4);
    kit_told(h, HISTORY_MARK_CANCELED, 1, 130, 5);
}

static void resumed(struct history *h)
{
    base(h, 2, 0);
    seen(h, "124");
}

static void broken_within(struct history *h)
{
    base(h, 1, 0);
    seen(h, "01");
    kit_told(h, HISTORY_MARK_BROKEN, 1, 110, 0);
}

static void ends_within(struct history *h)
{
    base(h, 1, 0);
    seen(h, "01");
}

static void no_deletes(struct history *h)
{
    base(h, 1, HISTORY_WATCH_NO_DEL);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 4);
}

static void unwanted_delete(struct history *h)
{
    base(h, 1, HISTORY_WATCH_NO_DEL);
    seen(h, "0124");
}

static void gap(struct history *h)
{
    base(h, 1, 0);
    seen(h, "04");
}

static void gap_at_begin(struct history *h)
{
    base(h, 1, 0);
    seen(h, "124");
}

static void twice(struct history *h)
{
    base(h, 1, 0);
    seen(h, "00124");
}

static void again_after_others(struct history *h)
{
    base(h, 1, 0);
    seen(h, "01201");
}

static void swapped(struct history *h)
{
    base(h, 1, 0);
    seen(h, "0214");
}

static void half_a_revision(struct history *h)
{
    base(h, 1, 0);
    seen(h, "014");
}

static void from_before(struct history *h)
{
    base(h, 2, 0);
    seen(h, "012");
}

static void foreign_key(struct history *h)
{
    base(h, 1, 0);
    seen(h, "0123");
}

static void never_written(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    struct history_mark *mark = kit_seen(h, 1, 110, 4);
    mark->rev = mark->event.rev = 3;
}

static void value_wrong(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    h->marks[1].event.value = SLICE_LIT("z");
}

static void version_wrong(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    h->marks[1].event.version = 1;
}

static void create_wrong(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    h->marks[1].event.create = 2;
}

static void prev_right(struct history *h)
{
    base(h, 2, HISTORY_WATCH_PREV);
    seen(h, "124");
    h->marks[0].prev = SLICE_LIT("a");
    h->marks[0].prev_mod = 1;
    h->marks[2].prev_mod = -1;
}

static void prev_wrong(struct history *h)
{
    prev_right(h);
    h->marks[0].prev = SLICE_LIT("z");
}

static void prev_mod_wrong(struct history *h)
{
    prev_right(h);
    h->marks[2].prev_mod = 1;
}

static void progress_too_early(struct history *h)
{
    base(h, 1, 0);
    seen(h, "0");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 2);
    seen(h, "12");
}

static void progress_within(struct history *h)
{
    base(h, 1, 0);
    seen(h, "01");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 2);
}

static void progress_goes_back(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 3);
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 111, 2);
}

static void event_behind_progress(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_PROGRESS, 1, 110, 4);
    seen(h, "4");
}

static void cancel_above_unsent(struct history *h)
{
    base(h, 1, 0);
    seen(h, "0");
    kit_told(h, HISTORY_MARK_CANCELED, 1, 110, 3);
}

static void cancel_below_sent(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_CANCELED, 1, 110, 2);
}

static void event_behind_cancel(struct history *h)
{
    base(h, 1, 0);
    seen(h, "012");
    kit_told(h, HISTORY_MARK_CANCELED, 1, 110, 3);
    seen(h, "4");
}

static void seen_before_written(struct history *h)
{
    base(h, 1, 0);
    kit_seen(h, 1, -1, 0);
}

static const struct kit_case cases[] = {
    { "whole", whole, NULL },
    { "resumed", resumed, NULL },
    { "broken within a revision", broken_within, NULL },
    { "no deletes", no_deletes, NULL },
    { "previous values", prev_right, NULL },
    { "ends within a revision", ends_within, "atomic: it ends within a revision" },
    { "unwanted delete", unwanted_delete, "filter: a kind of event" },
    { "gap", gap, "reliable: a gap" },
    { "gap at the begin", gap_at_begin, "resumable: a gap" },
    { "twice", twice, "unique: an event twice" },
    { "again", again_after_others, "ordered: it goes back" },
    { "swapped", swapped, "reliable: a gap" },
    { "half a revision", half_a_revision, "atomic: the rest" },
    { "from before", from_before, "resumable: an event from before" },
    { "foreign key", foreign_key, "filter: a key" },
    { "never written", never_written, "reliable: an event that the log does not have" },
    { "value wrong", value_wrong, "operation, value or lease" },
    { "version wrong", version_wrong, "create revision or version" },
    { "create wrong", create_wrong, "create revision or version" },
    { "previous value wrong", prev_wrong, "previous value: it is another" },
    { "previous revision wrong", prev_mod_wrong, "previous value: its revision" },
    { "progress too early", progress_too_early, "bookmarkable: it speaks" },
    { "progress within", progress_within, "atomic: it speaks" },
    { "progress goes back", progress_goes_back, "bookmarkable: progress goes back" },
    { "event behind progress", event_behind_progress, "bookmarkable" },
    { "cancel above unsent", cancel_above_unsent, "bookmarkable: it speaks" },
    { "cancel below sent", cancel_below_sent, "resumable: its revision" },
    { "event behind cancel", event_behind_cancel, "behind the end" },
    { "seen before written", seen_before_written, "seen before it was sent" },
};

static void test_streams_are_judged(void **state)
{
    (void)state;
    KIT_JUDGE(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_are_judged),
    };
    return cmocka_run_group_tests_name("check/watch_check", tests, NULL, NULL);
}
