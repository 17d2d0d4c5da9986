/* cli/conn.h - one connection to one of several servers.
 *
 * PURPOSE  Connect, authenticate, choose the database, send a request and wait for its answer
 *          for a bounded time. Does not decide whether to try again.
 * OWNS     struct conn: the endpoints and the socket. Replies belong to the caller
 *          (freeReplyObject).
 * USES     base/, words.h, hiredis.
 * THREADS  One.
 * LIMITS   CONN_ENDPOINTS_MAX; a connect takes CLI_CONNECT_TIMEOUT_MS_MAX at most, an answer
 *          timeout_ms + what the request itself may wait.
 * ERRORS   ERR_SYNTAX (endpoints), ERR_IO (not reachable, connection lost, lets nobody in now),
 *          ERR_TIMEOUT (no answer), ERR_NOPERM (the server refused user or password).
 */
#ifndef CLI_CONN_H
#define CLI_CONN_H

#include <hiredis/hiredis.h>

#include "base/base.h"
#include "cli/words.h"

#define CONN_ENDPOINTS_MAX 64

struct endpoint {
    char *text; /* host:port, as shown */
    char *host;
    int port;
};

struct conn {
    struct endpoint endpoints[CONN_ENDPOINTS_MAX];
    size_t endpoint_count;
    size_t at;             /* the endpoint that is connected, or tried next */
    struct slice user;     /* borrowed; empty: none */
    struct slice password; /* borrowed; at NULL: none */
    int64_t db;
    int64_t timeout_ms;
    redisContext *redis; /* NULL: not connected */
};

/* host:port[,host:port...]; without a port the default one; [v6]:port. */
enum err conn_init(struct conn *c, struct slice endpoints, struct errmsg *em) MUST_USE;
void conn_deinit(struct conn *c);

/* Tries every endpoint once, beginning with `at`; ERR_NOPERM of one is final. ERR_IO. */
enum err conn_open(struct conn *c, struct errmsg *em) MUST_USE;
/* Only this one. */
enum err conn_open_at(struct conn *c, size_t at, struct errmsg *em) MUST_USE;
/* Takes a connected socket over: for tests. */
void conn_adopt(struct conn *c, int fd_taken);

void conn_close(struct conn *c);
void conn_next(struct conn *c); /* closes; conn_open begins with the following endpoint */
const char *conn_endpoint(const struct conn *c);

/* wait_ms is how long the server itself may take (BLOCK). An error reply is OK here. After
 * any other result the connection is closed. */
enum err conn_call(struct conn *c, const struct words *request, int64_t wait_ms, redisReply **out,
                   struct errmsg *em) MUST_USE;

#endif
