/* watch/watch_timer.c - see watch_timer.h. A binary heap. */
#include "watch/watch_timer.h"

#define TIMERS_MIN 16

static void put(struct watch_timers *t, size_t at, struct watch_timer *timer)
{
    t->at[at] = timer;
    timer->place = at + 1;
}

static void sift_up(struct watch_timers *t, size_t at, struct watch_timer *timer)
{
    while (at > 0 && t->at[(at - 1) / 2]->due_ms > timer->due_ms) {
        put(t, at, t->at[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(t, at, timer);
}

static void sift_down(struct watch_timers *t, size_t at, struct watch_timer *timer)
{
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= t->count) break;
        if (child + 1 < t->count && t->at[child + 1]->due_ms < t->at[child]->due_ms) child++;
        if (t->at[child]->due_ms >= timer->due_ms) break;
        put(t, at, t->at[child]);
        at = child;
    }
    put(t, at, timer);
}

void watch_timers_deinit(struct watch_timers *t)
{
    ASSERT(t->count == 0);
    mem_free(t->at);
    *t = (struct watch_timers){ 0 };
}

void watch_timer_clear(struct watch_timers *t, struct watch_timer *timer)
{
    if (timer->place == 0) return;
    size_t at = timer->place - 1;
    ASSERT(at < t->count && t->at[at] == timer);
    timer->place = 0;
    struct watch_timer *last = t->at[--t->count];
    if (last == timer) return;
    if (last->due_ms < timer->due_ms) {
        sift_up(t, at, last);
    } else {
        sift_down(t, at, last);
    }
}

void watch_timer_set(struct watch_timers *t, struct watch_timer *timer, int64_t due_ms)
{
    watch_timer_clear(t, timer);
    timer->due_ms = due_ms;
    if (t->count == t->cap) {
        t->cap = MAX(t->cap * 2, TIMERS_MIN);
        t->at = mem_realloc(t->at, t->cap * sizeof(struct watch_timer *));
    }
    sift_up(t, t->count++, timer);
}

struct watch_timer *watch_timer_take(struct watch_timers *t, int64_t now_ms)
{
    if (t->count == 0 || t->at[0]->due_ms > now_ms) return NULL;
    struct watch_timer *first = t->at[0];
    watch_timer_clear(t, first);
    return first;
}

int64_t watch_timer_next_ms(const struct watch_timers *t)
{
    return t->count == 0 ? INT64_MAX : t->at[0]->due_ms;
}
