/* disk/store_process.h - what the store asks of the operating system: priority, and less memory.
 *
 * PURPOSE  Keep the store's work behind the loop's, and the tables' pages out of resident memory.
 * OWNS     Nothing.
 * USES     base/, /proc/self.
 * THREADS  The store's (priority); any (memory).
 * LIMITS   Without the right to raise a priority again (root or RLIMIT_NICE), the store only
 *          goes down by STORE_NICE_UNPRIVILEGED, and stays there.
 * ERRORS   None: all of it is best effort.
 */
#ifndef DISK_STORE_PROCESS_H
#define DISK_STORE_PROCESS_H

#include "base/base.h"

#define STORE_NICE_LOW 10
#define STORE_NICE_UNPRIVILEGED 5
#define STORE_THREAD_NAME "cordis-store" /* LevelDB's thread inherits it from its maker */

/* Names the calling thread. */
void store_priority_name(void);
/* All threads of that name: the store's and, once it exists, LevelDB's. */
void store_priority_set(bool low);

/* When more than `bytes_max` of mapped files is resident: lets go of the pages of LevelDB's tables.
 * A page comes back when it is read again. MADV_PAGEOUT, not MADV_DONTNEED: LevelDB may unmap a
 * table between our reading of the list and the call; if its place holds memory by then,
 * MADV_PAGEOUT keeps that memory's content. */
void store_memory_limit(uint64_t bytes_max);
/* Resident bytes of mapped files and shared memory; 0 if it cannot be known. */
uint64_t store_memory_mapped_bytes(void);

#endif
