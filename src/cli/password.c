/* cli/password.c - see password.h. */
#include "cli/password.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* Stopping and ctrl-\ would leave the terminal behind without its echo. */
static void terminal_hide(int fd, const struct termios *before)
{
    struct termios hidden = *before;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    hidden.c_cc[VSUSP] = _POSIX_VDISABLE;
    hidden.c_cc[VQUIT] = _POSIX_VDISABLE;
    tcsetattr(fd, TCSAFLUSH, &hidden);
}

/* A line, unless SIGINT, which is held back, comes first. */
static bool line_read(int fd, const sigset_t *held, struct buf *out)
{
    int interrupt = signalfd(-1, held, SFD_CLOEXEC);
    struct pollfd ready[] = { { .fd = fd, .events = POLLIN },
                              { .fd = interrupt, .events = POLLIN } };
    while (poll(ready, ARRAY_LEN(ready), -1) < 0 && errno == EINTR) continue;
    bool is_interrupted = ready[1].revents != 0;
    if (interrupt >= 0) close(interrupt);
    if (is_interrupted) return false;
    uint8_t *line = buf_reserve(out, PASSWORD_LINE_BYTES_MAX);
    ssize_t len = read(fd, line, PASSWORD_LINE_BYTES_MAX);
    if (len <= 0) return false;
    out->len += (size_t)len - (line[len - 1] == '\n');
    return true;
}

bool password_ask(int fd, FILE *shown, const char *prompt, struct buf *out)
{
    struct termios before;
    sigset_t held;
    sigset_t mask_before;
    if (tcgetattr(fd, &before) != 0) return false;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigprocmask(SIG_BLOCK, &held, &mask_before);
    terminal_hide(fd, &before);
    fputs(prompt, shown);
    fflush(shown);
    bool is_typed = line_read(fd, &held, out);
    tcsetattr(fd, TCSAFLUSH, &before);
    fputc('\n', shown); /* that of the line was not shown either */
    fflush(shown);
    sigprocmask(SIG_SETMASK, &mask_before, NULL);
    return is_typed;
}
