/* disk/workers.h - a few threads for work that may block, and a queue for what they finished.
 *
 * PURPOSE  Run jobs that the loop must not run (cold reads, password hashing, backups) and hand
 *          them back. Decides nothing about their content, order or priority.
 * OWNS     struct workers: its threads. struct done_queue: an eventfd. A job is owned by the pool
 *          from workers_submit until done_queue_take returns it. Manual ones, for the simulator and
 *          for tests, have neither: workers_step() runs a job, and nobody is woken.
 * USES     base/.
 * THREADS  workers_*, done_queue_take, _about_to_sleep and _woke: the loop. done_queue_push: any.
 * LIMITS   WORKERS_COUNT_MAX threads. The queue is not bounded here: who submits bounds it.
 * ERRORS   ERR_IO when a thread or an eventfd cannot be made.
 *
 * INVARIANTS
 *  I1  Every submitted job is run once and then is in its done queue once, also at workers_free.
 *      At workers_abandon it may come there without having been run.
 *  I2  The eventfd is written only between done_queue_about_to_sleep (true) and done_queue_woke,
 *      at most once. It may be written after _woke, by who took `sleeping` before; then it is
 *      read at a later call, which is due when it is readable.
 *  I3  Signals are blocked in the pool's threads.
 */
#ifndef DISK_WORKERS_H
#define DISK_WORKERS_H

#include "base/base.h"

#define WORKERS_COUNT_MAX 16

struct workers;
struct done_queue;

/* Embedded in what is to be done; see CONTAINER_OF. */
struct work {
    void (*run)(struct work *w); /* on a worker; must return */
    struct done_queue *done;     /* where it goes afterwards */
    struct work *next;           /* free for the caller before submit and after take */
};

/* Finished things on their way to the loop, and the loop's wake-up. */
struct done_queue {
    struct work *head; /* newest first; atomic */
    uint32_t sleeping; /* atomic: the loop sleeps, or is about to */
    uint32_t pushing;  /* atomic: threads inside of done_queue_push */
    int fd; /* -1: manual */
    bool armed;    /* the loop's: it set sleeping and has not taken it back */
    uint64_t owed; /* the loop's: pushers that took sleeping and whose write was not read yet */
};

enum err done_queue_init(struct done_queue *q, struct errmsg *em) MUST_USE;
void done_queue_init_manual(struct done_queue *q);
void done_queue_deinit(struct done_queue *q); /* empty; waits for who is inside push */
/* Any thread. From here on w belongs to who takes it. */
void done_queue_push(struct done_queue *q, struct work *w);
/* All that was pushed since the last call, oldest first, linked by next; NULL if nothing. */
struct work *done_queue_take(struct done_queue *q);
/* Readable once something came after done_queue_about_to_sleep. -1 if manual. */
int done_queue_fd(const struct done_queue *q);
/* False: something waits, do not sleep (and nothing needs to be undone). */
bool done_queue_about_to_sleep(struct done_queue *q);
/* After the sleep, and whenever the eventfd is readable. */
void done_queue_woke(struct done_queue *q);

/* count 0: manual. */
enum err workers_new(size_t count, struct workers **out, struct errmsg *em) MUST_USE;
/* Runs what was submitted to its end, then joins. NULL is allowed. */
void workers_free(struct workers *ws);
void workers_submit(struct workers *ws, struct work *w_taken);
/* Manual only: runs the oldest job; false: there is none. */
bool workers_step(struct workers *ws);
/* Manual only: frees as a crash would; what was not run goes to its done queue as it is. */
void workers_abandon(struct workers *ws);

#endif
