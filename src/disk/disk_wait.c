/* disk/disk_wait.c - see disk_wait.h. */
#include "disk/disk_wait.h"

#include <poll.h>

void wal_wait(struct wal *wal, int max_ms)
{
    if (wal_about_to_sleep(wal)) {
        struct pollfd p = { .fd = wal_fd(wal), .events = POLLIN };
        int ready = poll(&p, 1, max_ms);
        (void)ready; /* a signal or the time: the caller asks wal_poll in any case */
    }
    wal_woke(wal); /* also if it did not sleep: what it said is taken back */
}

void done_queue_wait(struct done_queue *q, int max_ms)
{
    if (!done_queue_about_to_sleep(q)) return;
    struct pollfd p = { .fd = done_queue_fd(q), .events = POLLIN };
    int ready = poll(&p, 1, max_ms);
    (void)ready;
    done_queue_woke(q);
}

uint64_t disk_free_bytes(const struct disk_io *io, const char *dir)
{
    uint64_t bytes = 0;
    if (io == NULL) io = disk_io_posix();
    return io->free_bytes(io->ctx, dir, &bytes) == 0 ? bytes : UINT64_MAX;
}
