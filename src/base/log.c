/* base/log.c - see log.h. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    enum log_level level;
    time_t second;
    unsigned lines; /* in that second */
    unsigned dropped;
} logger = { .fd = STDERR_FILENO, .level = LOG_NOTICE };

static const char *const level_names[] = { "debug", "info", "notice", "warning", "error" };

enum err log_open(const char *path, enum log_level level, struct errmsg *em)
{
    int fd = STDERR_FILENO;
    if (path[0] != '\0') {
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            errmsg_set(em, "cannot open log file '%s': %s", path, strerror(errno));
            return ERR_IO;
        }
    }
    if (logger.fd != STDERR_FILENO) close(logger.fd);
    logger.fd = fd;
    logger.level = level;
    return OK;
}

void log_level_set(enum log_level level)
{
    logger.level = level;
}

enum log_level log_level_get(void)
{
    return logger.level;
}

/* Errors are never dropped; the rest is, beyond the rate, and the number is said later. */
static bool over_rate(enum log_level level, time_t now)
{
    if (now != logger.second) {
        logger.second = now;
        logger.lines = 0;
    }
    if (level == LOG_ERROR || ++logger.lines <= LOG_LINES_PER_S_MAX) return false;
    logger.dropped++;
    return true;
}

void log_write(enum log_level level, const char *format, ...)
{
    ASSERT(level < LOG_OFF);
    if (level < logger.level) return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (over_rate(level, now.tv_sec)) return;
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[LOG_LINE_BYTES_MAX];
    size_t len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    int more = snprintf(line + len, sizeof line - len, ".%03ldZ %s ", now.tv_nsec / 1000000,
                        level_names[level]);
    ASSERT(more > 0);
    len += (size_t)more;
    if (logger.dropped > 0 && logger.lines == 1) {
        more = snprintf(line + len, sizeof line - len, "dropped_lines=%u ", logger.dropped);
        len += (size_t)more;
        logger.dropped = 0;
    }
    va_list args;
    va_start(args, format);
    more = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    ASSERT(more >= 0);
    len = MIN(len + (size_t)more, sizeof line - 2);
    line[len++] = '\n';
    ssize_t written = write(logger.fd, line, len);
    (void)written; /* there is nowhere left to say it */
}
