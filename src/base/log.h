/* base/log.h - one line an event: time level event key=value ...
 *
 * PURPOSE  Write what an operator should read. Decides only what is below the level or over the rate.
 * OWNS     The process's log file descriptor and level (the one piece of file-scope state in base).
 * USES     base.h, write(2).
 * THREADS  Any: a line is one write.
 * LIMITS   LOG_LINE_BYTES_MAX a line (cut), LOG_LINES_PER_S_MAX warnings and notices a second.
 * ERRORS   ERR_IO from log_open.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"

#define LOG_LINE_BYTES_MAX 2048
#define LOG_LINES_PER_S_MAX 200

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERROR, LOG_OFF };

/* path "" logs to standard error. Reopens if called again (log rotation). */
enum err log_open(const char *path, enum log_level level, struct errmsg *em) MUST_USE;
void log_level_set(enum log_level level);
enum log_level log_level_get(void);

/* Keys, values and passwords of clients never go here. format is "event key=value ...". */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_notice(...) log_write(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
