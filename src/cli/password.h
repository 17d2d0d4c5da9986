/* cli/password.h - ask a person for a password.
 *
 * PURPOSE  Read one line from a terminal that does not show it. Does not judge it.
 * OWNS     Nothing: the terminal is afterwards as it was, also when ctrl-C ends the process.
 * USES     base/, termios.
 * THREADS  One: it holds SIGINT back while it asks.
 * LIMITS   PASSWORD_LINE_BYTES_MAX, the longest line of a terminal.
 * ERRORS   false: fd is no terminal, or no line came (ctrl-D, gone).
 */
#ifndef CLI_PASSWORD_H
#define CLI_PASSWORD_H

#include <stdio.h>

#include "base/buf.h"

#define PASSWORD_LINE_BYTES_MAX 4096

/* The prompt goes to `shown`. What was typed is appended to *out without its end; it may be
 * nothing. A SIGINT that comes meanwhile takes effect once the terminal is as it was. */
bool password_ask(int fd, FILE *shown, const char *prompt, struct buf *out) MUST_USE;

#endif
