/* disk/dirlock.h - one process a data directory.
 *
 * PURPOSE  Decide whether this process may use a directory. Does not look at what is in it.
 * OWNS     struct dirlock: an open, locked <dir>/LOCK with the process id as text. The lock ends
 *          with the process, however it ends; the file stays.
 * USES     base/.
 * THREADS  Any, one at a time.
 * LIMITS   DISK_PATH_BYTES_MAX (disk_io.h) for the path.
 * ERRORS   ERR_LOCKED names the process that holds it; ERR_IO.
 */
#ifndef DISK_DIRLOCK_H
#define DISK_DIRLOCK_H

#include "base/base.h"

struct dirlock;

/* The directory must exist. The caller owns *out. */
enum err dirlock_take(const char *dir, struct dirlock **out, struct errmsg *em) MUST_USE;
void dirlock_free(struct dirlock *lock); /* unlocks; NULL is allowed */

#endif
