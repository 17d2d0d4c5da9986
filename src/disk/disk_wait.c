/* disk/disk_wait.c - see disk_wait.h. */
#include "disk/disk_wait.h"

#include <poll.h>
#include <sys/statvfs.h>

void wal_wait(struct wal *wal, int max_ms)
{
    if (!wal_about_to_sleep(wal)) return;
    struct pollfd p = { .fd = wal_fd(wal), .events = POLLIN };
    int ready = poll(&p, 1, max_ms);
    (void)ready; /* a signal or the time: the caller asks wal_poll in any case */
    wal_woke(wal);
}

void done_queue_wait(struct done_queue *q, int max_ms)
{
    if (!done_queue_about_to_sleep(q)) return;
    struct pollfd p = { .fd = done_queue_fd(q), .events = POLLIN };
    int ready = poll(&p, 1, max_ms);
    (void)ready;
    done_queue_woke(q);
}

uint64_t disk_free_bytes(const char *dir)
{
    struct statvfs st;
    if (statvfs(dir, &st) != 0) return UINT64_MAX;
    return (uint64_t)st.f_bavail * st.f_frsize;
}
