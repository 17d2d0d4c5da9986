/* disk/wal_thread.c - the back end with a thread: takes all that was published, writes, syncs. */
#include "disk/wal_int.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct state {
    struct wal *wal;
    struct wal_mail in;  /* submissions */
    struct wal_mail out; /* completed items; nobody waits on it */
    uint32_t stopping;   /* atomic */
    uint32_t loop_asleep; /* atomic: set by the loop; whoever clears it owes it a wake-up */
    int event_fd;
    bool loop_said;  /* the loop's: it has said that it sleeps */
    bool event_owed; /* the loop's: the thread has written, or is about to write, event_fd */
    pthread_t thread;
};

static void loop_wake(struct state *st)
{
    if (__atomic_load_n(&st->loop_asleep, __ATOMIC_SEQ_CST) == 0) return;
    if (__atomic_exchange_n(&st->loop_asleep, 0, __ATOMIC_SEQ_CST) == 0) return;
    uint64_t one = 1;
    ssize_t put = write(st->event_fd, &one, sizeof one);
    ASSERT(put == (ssize_t)sizeof one);
}

static void items_publish(struct state *st, struct wal_item *item)
{
    if (item == NULL) return;
    while (item != NULL) {
        struct wal_item *next = (struct wal_item *)(void *)item->node.next;
        wal_mail_push(&st->out, &item->node);
        item = next;
    }
    loop_wake(st);
}

/* Whether waiting for the next segment is over because nobody will make it any more. */
static bool gives_up(struct state *st)
{
    return __atomic_load_n(&st->stopping, __ATOMIC_SEQ_CST) &&
           __atomic_load_n(&st->wal->maker.make_err, __ATOMIC_SEQ_CST) != OK;
}

static void *thread_main(void *arg)
{
    struct state *st = arg;
    struct wal_writer *w = &st->wal->writer;
    for (;;) {
        struct wal_mail_node *taken = wal_mail_take(&st->in);
        while (taken != NULL) {
            struct wal_mail_node *next = taken->next;
            wal_writer_add(w, (struct wal_item *)(void *)taken);
            taken = next;
        }
        enum wal_want want = wal_writer_compose(w);
        if (want == WAL_WANT_WRITE) {
            wal_writer_began(w);
            if (wal_writer_write(w)) items_publish(st, wal_writer_written(w));
            continue;
        }
        bool stopping = __atomic_load_n(&st->stopping, __ATOMIC_SEQ_CST);
        if (want == WAL_WANT_NOTHING && stopping && wal_mail_is_empty(&st->in)) return NULL;
        if (want == WAL_WANT_SEGMENT && gives_up(st)) return NULL;
        wal_mail_wait(&st->in, -1);
    }
}

static enum err thread_start(struct wal *wal, struct errmsg *em)
{
    struct state *st = mem_zalloc(sizeof *st);
    st->wal = wal;
    st->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (st->event_fd < 0) {
        enum err e = disk_error(em, "eventfd for", wal->dir, -errno);
        mem_free(st);
        return e;
    }
    wal->backend_state = st;
    enum err e = wal_maker_start(&wal->maker, em);
    int answer = e == OK ? pthread_create(&st->thread, NULL, thread_main, st) : 0;
    if (answer != 0) e = disk_error(em, "start thread for", wal->dir, -answer);
    if (e == OK) return OK;
    wal_maker_stop(&wal->maker);
    close(st->event_fd);
    mem_free(st);
    return e;
}

static void thread_submit(struct wal *wal, struct wal_item *item)
{
    struct state *st = wal->backend_state;
    wal_mail_push(&st->in, &item->node);
}

static void thread_reap(struct wal *wal)
{
    struct state *st = wal->backend_state;
    wal_done_append(wal, (struct wal_item *)(void *)wal_mail_take(&st->out));
}

static int thread_fd(const struct wal *wal)
{
    const struct state *st = wal->backend_state;
    return st->event_fd;
}

static bool thread_about_to_sleep(struct wal *wal)
{
    struct state *st = wal->backend_state;
    st->loop_said = true;
    __atomic_store_n(&st->loop_asleep, 1, __ATOMIC_SEQ_CST);
    return wal_mail_is_empty(&st->out);
}

/* If the flag is gone, the thread took it and writes the eventfd, perhaps only after this read:
 * then the next call reads. */
static void thread_woke(struct wal *wal)
{
    struct state *st = wal->backend_state;
    uint32_t asleep = __atomic_exchange_n(&st->loop_asleep, 0, __ATOMIC_SEQ_CST);
    if (st->loop_said && asleep == 0) st->event_owed = true;
    st->loop_said = false;
    if (!st->event_owed) return;
    uint64_t count;
    if (read(st->event_fd, &count, sizeof count) == (ssize_t)sizeof count) st->event_owed = false;
}

static void thread_segment_made(void *arg)
{
    struct wal *wal = arg;
    struct state *st = wal->backend_state;
    wal_mail_kick(&st->in);
}

static void thread_drain(struct wal *wal)
{
    struct state *st = wal->backend_state;
    __atomic_store_n(&st->stopping, 1, __ATOMIC_SEQ_CST);
    wal_mail_kick(&st->in);
    pthread_join(st->thread, NULL);
}

static void thread_stop(struct wal *wal)
{
    struct state *st = wal->backend_state;
    struct wal_mail_node *left = wal_mail_take(&st->in); /* after a failed write */
    while (left != NULL) {
        struct wal_mail_node *next = left->next;
        wal_writer_add(&wal->writer, (struct wal_item *)(void *)left);
        left = next;
    }
    close(st->event_fd);
    mem_free(st);
    wal->backend_state = NULL;
}

const struct wal_backend_ops wal_backend_thread = {
    .name = "thread",
    .start = thread_start,
    .submit = thread_submit,
    .reap = thread_reap,
    .fd = thread_fd,
    .about_to_sleep = thread_about_to_sleep,
    .woke = thread_woke,
    .segment_made = thread_segment_made,
    .drain = thread_drain,
    .stop = thread_stop,
};
