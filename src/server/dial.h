/* server/dial.h - a connection that is wanted: made, and made again when it breaks.
 *
 * PURPOSE  Resolve, connect, wait for the handshake no longer than allowed, and try again later and
 *          later. Of a name with several addresses the best one is tried first, after a failure any
 *          of them, and the one that answered again. Does not know what is said on it.
 * OWNS     struct dial: its connection, its question for the address.
 * USES     net, server/resolve.h.
 * THREADS  Loop thread only.
 * LIMITS   struct dial_options.
 * ERRORS   None: hooks.closed says why in words.
 *
 * INVARIANTS
 *  I1  At most one connection, one question and one deadline at a time.
 *  I2  After dial_stop, dial_again and hooks.closed nothing of the old connection is heard any more.
 */
#ifndef SERVER_DIAL_H
#define SERVER_DIAL_H

#include "net/tls.h"

#define DIAL_ADDRESS_BYTES_MAX 263
/* What conn_tls_error says of a connection that just ended: a process was killed. No refusal. */
#define DIAL_TLS_CUT "unexpected eof while reading"
#define DIAL_STABLE_MS 1000 /* what held less long is tried again later and later */

struct dial_options {
    struct loop *loop;
    int wake_fd; /* an eventfd that ends the loop's sleep: an address was resolved */
    int64_t retry_ms_min, retry_ms_max;
    int64_t handshake_ms_max; /* from the attempt's start to dial_established() */
    int64_t silence_ms_max;   /* see conn_watch_peer */
    struct tls_context *tls;  /* NULL: none */
};

struct dial_hooks {
    /* Connected, and TLS has proven whose CA the other side's certificate is of: compares its names,
     * says the first words. What the other side thinks of ours comes later, as hooks.closed. */
    void (*opened)(void *user, struct conn *conn);
    /* As conn_callbacks.on_bytes. */
    size_t (*bytes)(void *user, struct conn *conn, struct slice in);
    /* The connection, or an attempt, is over; it goes on by itself. Not told after dial_stop. */
    void (*closed)(void *user, const char *why);
};

enum dial_phase {
    DIAL_STOPPED,
    DIAL_WAITING,    /* until retry_at_ms */
    DIAL_RESOLVING,
    DIAL_CONNECTING, /* or shaking hands */
    DIAL_UP,
};

/* In the caller's storage; fields are private but phase, conn and tls_failed, to be read. */
struct dial {
    enum dial_phase phase;
    struct conn *conn; /* CONNECTING and UP only */
    const struct dial_options *options;
    const struct dial_hooks *hooks;
    void *user;
    struct dial_link *link;
    struct resolve *resolve;
    uint64_t random;
    uint64_t which; /* of several addresses of the name: see net_resolve */
    int64_t retry_ms, retry_at_ms, deadline_ms, up_since_ms;
    bool tls_failed; /* so the last connection ended */
    char address[DIAL_ADDRESS_BYTES_MAX + 1];
};

/* Options and hooks are borrowed for the dial's life. address: host:port, copied, at most
 * DIAL_ADDRESS_BYTES_MAX long; one that cannot be is told by hooks.closed like any other failure. */
void dial_init(struct dial *d, const struct dial_options *options, const struct dial_hooks *hooks,
               void *user, const char *address, uint64_t random);
void dial_address(struct dial *d, const char *address); /* from the next attempt on */
void dial_start(struct dial *d, int64_t now_ms);        /* nothing if it is not stopped */
void dial_stop(struct dial *d);
/* Ends the attempt or connection and tries again after a pause; the longest one if `late`.
 * hooks.closed is not called. */
void dial_again(struct dial *d, bool late, int64_t now_ms);
void dial_soon(struct dial *d, int64_t now_ms); /* ends the pause, if it waits in one */
void dial_established(struct dial *d, int64_t now_ms); /* the handshake is complete */
void dial_turn(struct dial *d, int64_t now_ms);
int64_t dial_next_ms(const struct dial *d); /* when dial_turn has something to do; INT64_MAX never */

#endif
