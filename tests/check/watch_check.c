/* Each stream walks along the log: the next event delivered must be the next that matches. */
#include "watch_check.h"

#include <stdlib.h>

struct stream {
    const struct history *h;
    const struct keyspace *ks;
    struct verdict *v;
    const struct history_watch *watch;
    size_t next;       /* into ks->events: everything before was delivered or does not match */
    uint64_t told_rev; /* all up to here were said to be sent */
    const struct history_mark *last; /* the last event delivered */
    bool over;
};

static bool wants(const struct history_watch *watch, const struct history_event *event)
{
    if (!keyspace_in(event->key, watch->begin, watch->end)) return false;
    bool put = event->op == HISTORY_EVENT_PUT;
    return (watch->flags & (put ? HISTORY_WATCH_NO_PUT : HISTORY_WATCH_NO_DEL)) == 0;
}

/* The next event of the log that the stream must deliver; NULL: none. */
static const struct history_event *expected(struct stream *s)
{
    while (s->next < s->ks->event_count) {
        const struct history_event *event = s->ks->events[s->next];
        if (wants(s->watch, event)) return event;
        s->next++;
    }
    return NULL;
}

static void complain(struct stream *s, const char *property, const char *what,
                     const struct history_mark *mark, const struct history_event *event)
{
    s->over = true;
    verdict_add(s->v, "watch %llu (from revision %llu), %s: %s",
                (unsigned long long)s->watch->id, (unsigned long long)s->watch->from, property, what);
    if (s->last != NULL && s->last != mark) verdict_mark(s->v, s->last);
    if (mark != NULL) verdict_mark(s->v, mark);
    if (event != NULL) verdict_event(s->v, event);
}

static bool is_before(const struct history_event *a, const struct history_event *b)
{
    return a->rev != b->rev ? a->rev < b->rev : a->n != 0 && b->n != 0 && a->n < b->n;
}

static const struct history_event *find(const struct stream *s, const struct history_event *seen)
{
    size_t at = keyspace_rev(s->ks, seen->rev);
    if (at == s->ks->rev_count) return NULL;
    for (uint32_t i = s->ks->rev_first[at]; i < s->ks->rev_first[at + 1]; i++) {
        if (slice_eq(s->ks->events[i]->key, seen->key)) return s->ks->events[i];
    }
    return NULL;
}

/* The event is not the one that had to come: why? */
static void complain_order(struct stream *s, const struct history_mark *mark,
                           const struct history_event *due)
{
    const struct history_event *seen = &mark->event;
    const struct history_event *real = find(s, seen);
    if (!keyspace_in(seen->key, s->watch->begin, s->watch->end)) {
        complain(s, "filter", "a key that was not asked for", mark, NULL);
    } else if (real == NULL) {
        complain(s, "reliable", "an event that the log does not have", mark, NULL);
    } else if (!wants(s->watch, real)) {
        complain(s, "filter", "a kind of event that was not asked for", mark, NULL);
    } else if (seen->rev < s->watch->from) {
        complain(s, "resumable", "an event from before its begin", mark, NULL);
    } else if (s->last != NULL && s->last->rev == seen->rev &&
               slice_eq(s->last->event.key, seen->key)) {
        complain(s, "unique", "an event twice", mark, NULL);
    } else if (due == NULL || is_before(real, due)) {
        complain(s, s->last != NULL && is_before(seen, &s->last->event) ? "ordered" : "unique",
                 "it goes back: an event again, or late", mark, due);
    } else if (s->last != NULL && s->last->rev == due->rev) {
        complain(s, "atomic", "the rest of a revision is missing; due was", mark, due);
    } else {
        complain(s, s->last == NULL ? "resumable" : "reliable", "a gap; due was", mark, due);
    }
}

static bool keys_only(const struct stream *s)
{
    return (s->watch->flags & HISTORY_WATCH_KEYS_ONLY) != 0;
}

static void check_prev(struct stream *s, const struct history_mark *mark)
{
    if ((s->watch->flags & HISTORY_WATCH_PREV) == 0 || mark->prev_mod < 0) return;
    const struct history_event *prev = keyspace_get(s->ks, mark->event.key, mark->event.rev - 1);
    uint64_t mod = prev == NULL ? 0 : prev->rev;
    if ((uint64_t)mark->prev_mod != mod) {
        complain(s, "previous value", "its revision is wrong", mark, prev);
    } else if (prev != NULL && !keys_only(s) && !slice_eq(prev->value, mark->prev)) {
        complain(s, "previous value", "it is another", mark, prev);
    }
}

static void take_event(struct stream *s, const struct history_mark *mark)
{
    const struct history_event *due = expected(s);
    const struct history_event *seen = &mark->event;
    if (seen->rev <= s->told_rev) {
        complain(s, "bookmarkable", "an event behind the progress that covers it", mark, NULL);
        return;
    }
    bool is_due = due != NULL && due->rev == seen->rev && slice_eq(due->key, seen->key) &&
                  (seen->n == 0 || due->n == 0 || seen->n == due->n);
    if (!is_due) {
        complain_order(s, mark, due);
        return;
    }
    if (seen->op != due->op || (!keys_only(s) && !slice_eq(seen->value, due->value)) ||
        seen->lease != due->lease) {
        complain(s, "reliable", "operation, value or lease differ from the log", mark, due);
    } else if (seen->version != due->version || seen->create != due->create) {
        complain(s, "create revision", "create revision or version differ from the log", mark, due);
    } else {
        check_prev(s, mark);
    }
    s->next++;
    s->last = mark;
}

/* Progress at rev: all up to it were sent. Canceled at rev: all below. */
static void take_told(struct stream *s, const struct history_mark *mark, uint64_t rev)
{
    const struct history_event *due = expected(s);
    if (mark->kind == HISTORY_MARK_PROGRESS && rev < s->told_rev) {
        complain(s, "bookmarkable", "progress goes back", mark, NULL);
    } else if (due != NULL && due->rev <= rev) {
        bool begun = s->last != NULL && s->last->rev == due->rev;
        complain(s, begun ? "atomic" : "bookmarkable", "it speaks of events that were not sent; due was",
                 mark, due);
    } else if (mark->kind == HISTORY_MARK_CANCELED && s->last != NULL && s->last->rev > rev) {
        complain(s, "resumable", "its revision to go on from is below what was sent", mark, NULL);
    }
    s->told_rev = MAX(s->told_rev, rev);
}

static void take(struct stream *s, const struct history_mark *mark)
{
    if (s->over) {
        complain(s, "order", "something behind the end of the stream", mark, NULL);
        return;
    }
    switch (mark->kind) {
    case HISTORY_MARK_EVENT: take_event(s, mark); break;
    case HISTORY_MARK_PROGRESS: take_told(s, mark, mark->rev); break;
    case HISTORY_MARK_CANCELED:
        take_told(s, mark, mark->rev == 0 ? 0 : mark->rev - 1);
        s->over = true;
        break;
    case HISTORY_MARK_BROKEN: s->over = true; break;
    }
}

static int by_watch(const void *a, const void *b)
{
    const struct history_mark *x = *(const struct history_mark *const *)a;
    const struct history_mark *y = *(const struct history_mark *const *)b;
    if (x->watch != y->watch) return x->watch < y->watch ? -1 : 1;
    return x < y ? -1 : x > y; /* as they were recorded */
}

static void check_stream(struct stream *s, const struct history_mark *const *marks, size_t count)
{
    while (s->next < s->ks->event_count && s->ks->events[s->next]->rev < s->watch->from) s->next++;
    size_t violations = s->v->violation_count;
    for (size_t i = 0; i < count && s->v->violation_count == violations; i++) take(s, marks[i]);
    bool cut = s->over; /* canceled or broken */
    const struct history_event *due = expected(s);
    if (!cut && due != NULL && s->last != NULL && due->rev == s->last->rev) {
        complain(s, "atomic", "it ends within a revision; due was", NULL, due);
    }
}

static int by_id(const void *a, const void *b)
{
    const struct history_watch *x = *(const struct history_watch *const *)a;
    const struct history_watch *y = *(const struct history_watch *const *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

void watch_check(const struct history *h, const struct keyspace *ks, struct verdict *v)
{
    const struct history_mark **marks = mem_alloc((h->mark_count + 1) * sizeof(*marks));
    const struct history_watch **watches = mem_alloc((h->watch_count + 1) * sizeof(*watches));
    for (size_t i = 0; i < h->mark_count; i++) marks[i] = &h->marks[i];
    for (size_t i = 0; i < h->watch_count; i++) watches[i] = &h->watches[i];
    if (h->mark_count > 0) qsort(marks, h->mark_count, sizeof(*marks), by_watch);
    if (h->watch_count > 0) qsort(watches, h->watch_count, sizeof(*watches), by_id);
    size_t at = 0;
    for (size_t i = 0; i < h->watch_count; i++) {
        while (at < h->mark_count && marks[at]->watch < watches[i]->id) at++;
        size_t end = at;
        while (end < h->mark_count && marks[end]->watch == watches[i]->id) end++;
        struct stream s = { .h = h, .ks = ks, .v = v, .watch = watches[i] };
        check_stream(&s, marks + at, end - at);
        at = end;
    }
    mem_free(marks);
    mem_free(watches);
}
