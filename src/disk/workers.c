/* disk/workers.c - see workers.h.
 *
 * The loop pushes to a stack without a lock; workers move the whole stack, reversed, to a list
 * that only they lock. So the loop never waits for a worker that was preempted.
 */
#include "disk/workers.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "disk/workers_int.h"

struct workers {
    struct work *inbox; /* newest first; atomic */
    struct doorbell bell;
    bool stopping; /* atomic */
    pthread_mutex_t lock; /* workers only */
    struct work *ready;   /* oldest first */
    struct work *ready_last;
    size_t count;
    pthread_t threads[WORKERS_COUNT_MAX];
};

/* --- doorbell and thread --------------------------------------------------- */

uint32_t doorbell_seen(const struct doorbell *d)
{
    return __atomic_load_n(&d->rings, __ATOMIC_SEQ_CST);
}

static void bell_wait(struct doorbell *d, uint32_t seen, const struct timespec *timeout)
{
    __atomic_fetch_add(&d->sleepers, 1, __ATOMIC_SEQ_CST);
    if (doorbell_seen(d) == seen) {
        syscall(SYS_futex, &d->rings, FUTEX_WAIT_PRIVATE, seen, timeout, NULL, 0);
    }
    __atomic_fetch_sub(&d->sleepers, 1, __ATOMIC_SEQ_CST);
}

void doorbell_wait(struct doorbell *d, uint32_t seen)
{
    bell_wait(d, seen, NULL);
}

void doorbell_wait_ms(struct doorbell *d, uint32_t seen, int64_t ms)
{
    struct timespec timeout = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    bell_wait(d, seen, &timeout);
}

static void ring(struct doorbell *d, int wake_max)
{
    __atomic_fetch_add(&d->rings, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&d->sleepers, __ATOMIC_SEQ_CST) == 0) return;
    syscall(SYS_futex, &d->rings, FUTEX_WAKE_PRIVATE, wake_max, NULL, NULL, 0);
}

void doorbell_ring(struct doorbell *d) { ring(d, 1); }
void doorbell_ring_all(struct doorbell *d) { ring(d, INT_MAX); }

enum err thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg,
                      struct errmsg *em)
{
    ASSERT(strlen(name) < 16);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(out, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        errmsg_set(em, "cannot start the thread %s: %s", name, strerror(failed));
        return ERR_IO;
    }
    pthread_setname_np(*out, name);
    return OK;
}

/* --- done queue ------------------------------------------------------------ */

enum err done_queue_init(struct done_queue *q, struct errmsg *em)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        errmsg_set(em, "cannot make an eventfd: %s", strerror(errno));
        return ERR_IO;
    }
    *q = (struct done_queue){ .fd = fd };
    return OK;
}

void done_queue_init_manual(struct done_queue *q)
{
    *q = (struct done_queue){ .fd = -1 };
}

void done_queue_deinit(struct done_queue *q)
{
    while (__atomic_load_n(&q->pushing, __ATOMIC_SEQ_CST) != 0) sched_yield();
    ASSERT(q->head == NULL);
    if (q->fd >= 0) close(q->fd);
}

static void stack_push(struct work **stack, struct work *w)
{
    w->next = __atomic_load_n(stack, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(stack, &w->next, w, true, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
    }
}

static struct work *stack_take_reversed(struct work **stack)
{
    struct work *newest = __atomic_exchange_n(stack, NULL, __ATOMIC_SEQ_CST);
    struct work *oldest = NULL;
    while (newest != NULL) {
        struct work *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void wake_sleeper(struct done_queue *q)
{
    if (__atomic_load_n(&q->sleeping, __ATOMIC_SEQ_CST) == 0) return;
    if (__atomic_exchange_n(&q->sleeping, 0, __ATOMIC_SEQ_CST) == 0) return; /* another one wrote */
    if (q->fd < 0) return;
    uint64_t one = 1;
    ssize_t written = write(q->fd, &one, sizeof one);
    ASSERT(written == (ssize_t)sizeof one);
}

/* Where a pusher took sleeping, it has written the eventfd or is about to: that many writes are read,
 * now or after a later sleep. A wake without one needs no system call. */
static void disarm(struct done_queue *q)
{
    if (!q->armed) return;
    q->armed = false;
    if (__atomic_exchange_n(&q->sleeping, 0, __ATOMIC_SEQ_CST) == 0) q->owed++;
}

/* Once w is pushed, the loop may take it and want to be rid of the queue. */
void done_queue_push(struct done_queue *q, struct work *w)
{
    __atomic_fetch_add(&q->pushing, 1, __ATOMIC_SEQ_CST);
    stack_push(&q->head, w);
    wake_sleeper(q);
    __atomic_fetch_sub(&q->pushing, 1, __ATOMIC_SEQ_CST);
}

struct work *done_queue_take(struct done_queue *q)
{
    if (__atomic_load_n(&q->head, __ATOMIC_RELAXED) == NULL) return NULL;
    return stack_take_reversed(&q->head);
}

int done_queue_fd(const struct done_queue *q)
{
    return q->fd;
}

bool done_queue_about_to_sleep(struct done_queue *q)
{
    q->armed = true;
    __atomic_store_n(&q->sleeping, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&q->head, __ATOMIC_SEQ_CST) == NULL) return true;
    disarm(q);
    return false;
}

void done_queue_woke(struct done_queue *q)
{
    disarm(q);
    if (q->owed == 0 || q->fd < 0) return;
    uint64_t count;
    ssize_t got = read(q->fd, &count, sizeof count);
    ASSERT(got == (ssize_t)sizeof count || (got < 0 && errno == EAGAIN));
    if (got > 0) q->owed -= count;
}

/* --- pool ------------------------------------------------------------------ */

static struct work *next_job(struct workers *ws)
{
    pthread_mutex_lock(&ws->lock);
    struct work *more = stack_take_reversed(&ws->inbox);
    if (more != NULL) {
        if (ws->ready == NULL) {
            ws->ready = more;
        } else {
            ws->ready_last->next = more;
        }
        while (more->next != NULL) more = more->next;
        ws->ready_last = more;
    }
    struct work *job = ws->ready;
    if (job != NULL) ws->ready = job->next;
    pthread_mutex_unlock(&ws->lock);
    return job;
}

static bool run_next(struct workers *ws)
{
    struct work *job = next_job(ws);
    if (job == NULL) return false;
    struct done_queue *done = job->done;
    job->run(job);
    done_queue_push(done, job);
    return true;
}

static void *worker_main(void *arg)
{
    struct workers *ws = arg;
    for (;;) {
        uint32_t seen = doorbell_seen(&ws->bell);
        bool stopping = __atomic_load_n(&ws->stopping, __ATOMIC_SEQ_CST);
        if (run_next(ws)) continue;
        if (stopping) return NULL;
        doorbell_wait(&ws->bell, seen);
    }
}

enum err workers_new(size_t count, struct workers **out, struct errmsg *em)
{
    ASSERT(count <= WORKERS_COUNT_MAX);
    struct workers *ws = mem_zalloc(sizeof *ws);
    pthread_mutex_init(&ws->lock, NULL);
    for (size_t i = 0; i < count; i++) {
        enum err e = thread_start(&ws->threads[i], "cordis-worker", worker_main, ws, em);
        if (e != OK) {
            workers_free(ws);
            return e;
        }
        ws->count++;
    }
    *out = ws;
    return OK;
}

void workers_free(struct workers *ws)
{
    if (ws == NULL) return;
    __atomic_store_n(&ws->stopping, true, __ATOMIC_SEQ_CST);
    doorbell_ring_all(&ws->bell);
    for (size_t i = 0; i < ws->count; i++) pthread_join(ws->threads[i], NULL);
    while (ws->count == 0 && run_next(ws)) {
    }
    ASSERT(ws->inbox == NULL && ws->ready == NULL);
    pthread_mutex_destroy(&ws->lock);
    mem_free(ws);
}

void workers_submit(struct workers *ws, struct work *w)
{
    ASSERT(w->run != NULL && w->done != NULL);
    stack_push(&ws->inbox, w);
    doorbell_ring(&ws->bell);
}

bool workers_step(struct workers *ws)
{
    ASSERT(ws->count == 0);
    return run_next(ws);
}

void workers_abandon(struct workers *ws)
{
    ASSERT(ws->count == 0);
    for (struct work *w; (w = next_job(ws)) != NULL;) done_queue_push(w->done, w);
    workers_free(ws);
}
