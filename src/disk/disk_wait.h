/* disk/disk_wait.h - waiting for the WAL outside of the loop, and how much room a disk has.
 *
 * PURPOSE  The two things node needs of the operating system at start and once a second.
 * OWNS     Nothing.
 * USES     wal.h, disk_io.h, poll(2).
 * THREADS  wal_wait: the loop thread while it does not run its loop. disk_free_bytes: any, blocks.
 * LIMITS   None.
 * ERRORS   None: a disk that cannot be asked has UINT64_MAX free bytes.
 */
#ifndef DISK_DISK_WAIT_H
#define DISK_DISK_WAIT_H

#include "disk/wal.h"

/* Returns when wal_poll may have something, or after max_ms. */
void wal_wait(struct wal *wal, int max_ms);
/* For ordinary users. io NULL: the kernel's. */
uint64_t disk_free_bytes(const struct disk_io *io, const char *dir);

#endif
