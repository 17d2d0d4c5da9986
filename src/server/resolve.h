/* server/resolve.h - the address of a name, without waiting for it.
 *
 * PURPOSE  Ask for one address on a thread of its own; an address in digits is there at once. Does
 *          not decide how often is asked.
 * OWNS     struct resolve. What is freed before its answer came is freed by its thread, so that the
 *          end of the process never waits for a name server.
 * USES     net (net_resolve), pthread.
 * THREADS  Loop thread only; the thread inside touches nothing else.
 * LIMITS   RESOLVE_HOST_BYTES_MAX. One thread for each struct: who starts them bounds them.
 * ERRORS   As net_resolve; ERR_IO if there is no thread.
 */
#ifndef SERVER_RESOLVE_H
#define SERVER_RESOLVE_H

#include "net/net.h"

#define RESOLVE_HOST_BYTES_MAX 263

struct resolve;

/* which: see net_resolve. wake_fd: an eventfd, written once when the answer is there; copied, may be
 * closed any time. */
struct resolve *resolve_start(const char *host, uint16_t port, uint64_t which, int wake_fd);
bool resolve_is_done(const struct resolve *r);
/* Only when done. */
enum err resolve_result(const struct resolve *r, struct net_addr *out, struct errmsg *em) MUST_USE;
void resolve_free(struct resolve *r); /* done or not. NULL is allowed */

#endif
