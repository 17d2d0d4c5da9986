/* cli/session.h - what a running command holds: connection, output form, streams.
 *
 * PURPOSE  Send requests with the rules for trying again, say failures in words that help and
 *          with the right exit code, and print.
 * OWNS     struct session: its connection, a typed password. The streams are borrowed.
 * USES     base/, args.h, conn.h, password.h, render.h.
 * THREADS  One.
 * LIMITS   A request goes to each endpoint once at most.
 * ERRORS   enum exit_code; what went wrong is on `err` by then.
 * INVARIANTS
 *   I1  A write is never sent again unless the server said that it did nothing.
 *   I2  What is printed is flushed before the next request, so a pipe sees it at once.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <stdio.h>

#include "base/buf.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/render.h"

struct session {
    struct conn conn;
    struct render render;
    struct buf password; /* where it was typed */
    FILE *in;
    FILE *out;
    FILE *err;
    bool in_is_tty;
};

enum call_kind {
    CALL_READ, /* may be sent again after a lost connection */
    CALL_WRITE
};

/* Takes options, then the environment. The session borrows from args. ERR_SYNTAX. */
enum err session_init(struct session *s, const struct args *a, struct errmsg *em) MUST_USE;
void session_deinit(struct session *s);

/* Connects if need be. EXIT_OK: *out is an answer that is no error; the caller frees it. */
enum exit_code session_call(struct session *s, const struct words *request, enum call_kind kind,
                            redisReply **out) MUST_USE;

/* With -w json: asks the server who it is, for the header. Without an answer it stays empty. */
void session_header(struct session *s);
/* In any form: the cluster's id, 0 if it will not say. */
int64_t session_cluster_id(struct session *s);

void session_say(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* says "cordis: ...", returns code */
enum exit_code session_fail(struct session *s, enum exit_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum exit_code session_refused(struct session *s, const redisReply *error);
enum exit_code session_not_understood(struct session *s);

/* EXIT_OK, or EXIT_OUTPUT when the output cannot be written (silently if its reader is gone). */
enum exit_code session_print(struct session *s, const struct buf *text) MUST_USE;

/* An error reply that says: not done, another server (or a later moment) may do it. */
bool session_is_transient(const redisReply *error);
void session_sleep_ms(int64_t ms);

static inline void session_reply_free(redisReply **reply)
{
    if (*reply != NULL) freeReplyObject(*reply);
    *reply = NULL;
}

#endif
