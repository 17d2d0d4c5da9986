/* base/fds.c - see fds.h. */
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum err fds_standard_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        /* The lowest free number is taken, and those below are open by now. */
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return ERR_IO;
    }
    return OK;
}
