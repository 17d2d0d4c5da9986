/* disk/workers_int.h - starting a thread, and waking it: shared by the pool and the store.
 *
 * PURPOSE  A doorbell is a counter that threads sleep on; decides nothing about what is waited for.
 * OWNS     Nothing.
 * USES     base/, futex(2).
 * THREADS  Any.
 * LIMITS   None.
 * ERRORS   ERR_IO when a thread cannot be made.
 */
#ifndef DISK_WORKERS_INT_H
#define DISK_WORKERS_INT_H

#include <pthread.h>

#include "base/base.h"

/* seen = doorbell_seen(); look for work; none: doorbell_wait(seen) returns at once if it was rung
 * since. May also return early without a ring. */
struct doorbell {
    uint32_t rings;
    uint32_t sleepers;
};

uint32_t doorbell_seen(const struct doorbell *d);
void doorbell_wait(struct doorbell *d, uint32_t seen);
void doorbell_wait_ms(struct doorbell *d, uint32_t seen, int64_t ms); /* at most so long */
void doorbell_ring(struct doorbell *d);     /* a system call only if somebody sleeps; wakes one */
void doorbell_ring_all(struct doorbell *d); /* wakes all */

/* With all signals blocked; the name has at most 15 bytes. */
enum err thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg,
                      struct errmsg *em) MUST_USE;

#endif
