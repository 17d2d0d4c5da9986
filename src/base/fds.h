/* base/fds.h - the standard descriptors of a process.
 *
 * PURPOSE  Keep 0, 1 and 2 from becoming sockets or files of ours: whoever starts a program may
 *          have closed them, and what is printed there would go to whatever took their number.
 * OWNS     Nothing: what is opened here stays open as long as the process.
 * USES     base.h, open(2).
 * THREADS  Before there is a second one.
 * LIMITS   None.
 * ERRORS   ERR_IO: /dev/null cannot be opened.
 */
#ifndef BASE_FDS_H
#define BASE_FDS_H

#include "base/base.h"

/* First thing in main(). One that is closed becomes /dev/null, opened the wrong way round: to use
 * it fails (EBADF) as if it were closed still, so lost output is noticed. */
enum err fds_standard_open(void) MUST_USE;

#endif
