/* disk/wal_manual.c - the back end without threads: wal_step does one thing at a time. */
#include "disk/wal_int.h"

static enum err manual_start(struct wal *wal, struct errmsg *em)
{
    (void)wal;
    (void)em;
    return OK;
}

static void manual_submit(struct wal *wal, struct wal_item *item)
{
    wal_writer_add(&wal->writer, item);
}

static void manual_nothing(struct wal *wal)
{
    (void)wal;
}

static void manual_made(void *wal)
{
    (void)wal;
}

static int manual_fd(const struct wal *wal)
{
    (void)wal;
    return -1;
}

static bool manual_about_to_sleep(struct wal *wal)
{
    (void)wal;
    return true;
}

/* The order of the threads in life is open; a write before a file job is the common one, and the
 * writer waits for a segment now and then, so both orders of the two are met. */
bool wal_step(struct wal *wal)
{
    ASSERT(wal->backend == &wal_backend_manual);
    struct wal_writer *w = &wal->writer;
    if (w->dead) return false;
    enum wal_want want = wal_writer_compose(w);
    if (want != WAL_WANT_WRITE) return wal_maker_step(&wal->maker);
    if (wal_writer_write(w)) wal_done_append(wal, wal_writer_written(w));
    return true;
}

static void manual_drain(struct wal *wal)
{
    while (wal_step(wal)) {
    }
}

const struct wal_backend_ops wal_backend_manual = {
    .name = "manual",
    .start = manual_start,
    .submit = manual_submit,
    .reap = manual_nothing,
    .fd = manual_fd,
    .about_to_sleep = manual_about_to_sleep,
    .woke = manual_nothing,
    .segment_made = manual_made,
    .drain = manual_drain,
    .stop = manual_nothing,
};
