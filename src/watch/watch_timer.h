/* watch/watch_timer.h - what is due next: a heap of timers that lie in their owners.
 *
 * PURPOSE  Order timers by time. Decides nothing about what happens then.
 * OWNS     The heap's array, not the timers.
 * USES     base.
 * THREADS  Any one at a time (pure); time comes in.
 * LIMITS   Callers bound the number of timers.
 * ERRORS   None.
 */
#ifndef WATCH_WATCH_TIMER_H
#define WATCH_WATCH_TIMER_H

#include "base/base.h"

/* Zeroed before its first use. */
struct watch_timer {
    int64_t due_ms;
    size_t place; /* 1 + index in the heap; 0: not set */
};

struct watch_timers {
    struct watch_timer **at;
    size_t count, cap;
};

void watch_timers_deinit(struct watch_timers *t);
/* Sets, or moves to another time. */
void watch_timer_set(struct watch_timers *t, struct watch_timer *timer, int64_t due_ms);
void watch_timer_clear(struct watch_timers *t, struct watch_timer *timer); /* also if it is not set */
/* Takes out the earliest timer that is due at now_ms; NULL: none. */
struct watch_timer *watch_timer_take(struct watch_timers *t, int64_t now_ms);
int64_t watch_timer_next_ms(const struct watch_timers *t); /* INT64_MAX: none */

#endif
