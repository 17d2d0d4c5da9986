/* net/net.h - the loop, listeners and connections: the only code that sees libevent.
 *
 * PURPOSE  Turn readiness into turns: read, let the owner consume, let it end the
 *          turn, write each connection's output with one writev, free what closed.
 *          Knows neither protocol nor commands; output limits and timeouts are the
 *          owner's (chain_bytes, hooks.sleep_us). TLS is in tls.h.
 * OWNS     loop: the event base, the read buffer, the block pool, all connections,
 *          listeners and watches. conn: its socket, unconsumed input, output chain.
 * USES     base/chain.h, libevent. SIGPIPE must be ignored by the process.
 * THREADS  One thread a loop; every function below is called on it, except
 *          net_resolve (any thread, may block). Other threads wake the loop through
 *          an eventfd given to loop_watch_fd.
 * LIMITS   NET_READ_BYTES_MAX read a connection and turn, NET_ACCEPT_COUNT_MAX
 *          accepts a listener and turn, loop_cfg.input_bytes_max (or conn_input_limit)
 *          kept of a connection's input, NET_PAUSED_BYTES_MAX while it is paused.
 * ERRORS   ERR_IO (em says what and why), ERR_CONFIG for an address that does not parse.
 * INVARIANTS
 *   I1  on_close is called exactly once for every connection that has callbacks, at
 *       the end of a turn, as its last callback; the conn is freed after it. After
 *       conn_close no other callback comes.
 *   I2  An idle connection holds no buffer and no block.
 *   I3  The loop never blocks while a connection is due for delivery, flush or free.
 *   I4  A byte read is copied at most a constant number of times before delivery.
 * A turn: sleep or spin; turn_begin; callbacks of ready sockets, watches and listeners;
 * delivery of what earlier turns left; turn_end; flush; on_close and free.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include "base/base.h"
#include "base/chain.h"

#define NET_READ_BYTES_MAX 65536       /* one read a connection and turn */
#define NET_PAUSED_BYTES_MAX 65536     /* a paused connection stops reading here */
#define NET_ACCEPT_COUNT_MAX 64        /* accepts a listener and turn */
#define NET_IOV_COUNT_MAX 64           /* pieces a writev */
#define NET_INPUT_BYTES_MAX_DEFAULT (4u << 20)
#define NET_OUTPUT_LOW_BYTES_DEFAULT (64u << 10)
#define NET_SPIN_US_DEFAULT 40
#define NET_ADDRESS_TEXT_BYTES_MAX 128 /* "[v6%scope]:port", or a socket's path, cut */

struct loop;
struct conn;
struct listener;
struct loop_watch;

/* --- the loop ---------------------------------------------------------------- */

/* All may be NULL. */
struct loop_hooks {
    void *ctx;
    void (*turn_begin)(void *ctx);        /* once a turn, before any other callback of it; what it
                                             resumes is delivered in this turn */
    void (*turn_end)(void *ctx);          /* once a turn, before the flush */
    bool (*between_writes)(void *ctx);    /* in the flush, before each connection but the first; so
                                             often that it must cost little when there is nothing.
                                             True: it did something, do not sleep before a turn */
    int64_t (*sleep_us)(void *ctx);       /* 0: do not block; -1: no deadline; else at most so
                                             long, rounded up to a millisecond */
    bool (*may_spin)(void *ctx);          /* false: nothing comes soon, do not spin */
    bool (*work_ready)(void *ctx);        /* another thread has left something: one load */
    void (*about_to_sleep)(void *ctx);    /* from here on wake me; work_ready is asked after it */
    void (*woke)(void *ctx);              /* after a sleep, before turn_begin */
};

struct loop_cfg {
    struct loop_hooks hooks;
    int64_t spin_us;           /* see loop_set_spin_us */
    uint32_t input_bytes_max;  /* 0: the default. conn_want beyond it closes the connection */
    uint32_t output_low_bytes; /* 0: the default. on_writable when output falls under it */
};

struct loop_stats {
    uint64_t turn_count;
    uint64_t sleep_count;      /* waits that blocked */
    uint64_t spin_count;       /* waits that polled */
    uint64_t accept_count;
    uint64_t accept_refuse_count; /* dropped for lack of descriptors or memory */
    uint64_t read_count;
    uint64_t read_bytes;
    uint64_t write_count;
    uint64_t write_bytes;
    size_t conn_count;
    size_t input_bytes;        /* allocated for unconsumed input, all connections */
};

/* The caller owns the loop. ERR_IO if the kernel refuses. */
enum err loop_new(const struct loop_cfg *cfg, struct loop **out, struct errmsg *em) MUST_USE;
/* Calls on_close of what is still there. Not from a callback. NULL is allowed. */
void loop_free(struct loop *loop);

void loop_run(struct loop *loop);  /* until loop_stop; may be called again after */
/* One turn. may_block false: only what is ready. */
void loop_turn(struct loop *loop, bool may_block);
void loop_stop(struct loop *loop); /* loop_run returns at the end of this turn */

/* Changes loop_cfg.input_bytes_max, for what is received from now on. */
void loop_set_input_bytes_max(struct loop *loop, uint32_t bytes);
/* Changes loop_cfg.spin_us. 0: off. Poll so long instead of sleeping, if the last 8 waits each ended
 * within four times that: two processes that wake each other in turn wait that long only because
 * both sleep. After a spin in vain it takes twice as many, 256 at most; after a pause half. */
void loop_set_spin_us(struct loop *loop, int64_t spin_us);

/* Monotonic, taken once a turn. */
int64_t loop_now_us(const struct loop *loop);
static inline int64_t loop_now_ms(const struct loop *loop) { return loop_now_us(loop) / 1000; }

const struct loop_stats *loop_stats(const struct loop *loop); /* borrowed, always current */
struct chain_pool *loop_pool(struct loop *loop);              /* for chains of the owner's own */

/* Calls ready(ctx) in every turn in which fd is readable. The fd stays the caller's. */
struct loop_watch *loop_watch_fd(struct loop *loop, int fd, void (*ready)(void *ctx), void *ctx);
void loop_unwatch(struct loop_watch *w); /* also from its own callback. NULL is allowed */

/* --- listeners ---------------------------------------------------------------- */

/* Must give the connection its callbacks with conn_start, or refuse it: append a text to
 * conn_out and conn_close_after_flush. If it does neither, the connection is closed. */
typedef void net_accept_fn(void *ctx, struct conn *conn);

/* addr: a v4 or v6 address or name, "*" for all v4, "::" for all v6. port 0: the kernel chooses.
 * The loop owns the listener. */
enum err net_listen(struct loop *loop, const char *addr, uint16_t port, int backlog,
                    net_accept_fn *on_accept, void *ctx, struct listener **out,
                    struct errmsg *em) MUST_USE;
/* Replaces a stale socket file, never a file of another kind; mode is set before anybody
 * can connect. The file is removed with the listener. */
enum err net_listen_unix(struct loop *loop, const char *path, uint32_t mode, int backlog,
                         net_accept_fn *on_accept, void *ctx, struct listener **out,
                         struct errmsg *em) MUST_USE;
uint16_t listener_port(const struct listener *l); /* the real one; 0 for a Unix socket */
void listener_close(struct listener *l);          /* accepts no more. NULL is allowed */

/* --- connections ----------------------------------------------------------------- */

enum conn_close_reason {
    CONN_CLOSE_LOCAL,       /* conn_close */
    CONN_CLOSE_FLUSHED,     /* conn_close_after_flush has sent everything */
    CONN_CLOSE_EOF,         /* the peer closed */
    CONN_CLOSE_RESET,       /* a read, a write or the connect failed; conn_close_errno says how */
    CONN_CLOSE_INPUT_LIMIT, /* conn_want beyond input_bytes_max */
    CONN_CLOSE_LOOP,        /* loop_free */
    CONN_CLOSE_TLS,         /* TLS failed or was cut off; conn_tls_error says how */
};
const char *conn_close_reason_name(enum conn_close_reason reason);

struct conn_callbacks {
    /* Returns how many bytes of `in` were consumed. `in` is borrowed for the call. What is left
     * comes again, with what arrived behind it: when the size of the last conn_want in this
     * call is there, or in the next turn if there was none (a command budget ran out), or
     * after conn_resume. */
    size_t (*on_bytes)(void *user, struct conn *conn, struct slice in);
    /* I1. Release `user` here. */
    void (*on_close)(void *user, struct conn *conn, enum conn_close_reason reason);
    /* Output fell under output_low_bytes after it could not all be written. May be NULL. */
    void (*on_writable)(void *user, struct conn *conn);
    /* The peer sends no more but may still read: owed answers can be sent, then
     * conn_close_after_flush. NULL: the connection closes. Input that is due is delivered
     * first; a paused connection is told at once (what it holds comes after conn_resume). */
    void (*on_eof)(void *user, struct conn *conn);
    /* A connection of conn_open is established. May be NULL. */
    void (*on_open)(void *user, struct conn *conn);
    /* So much was given to the socket, for counting. May be NULL. */
    void (*on_written)(void *user, size_t bytes);
};

/* Gives a connection its callbacks (which must outlive it) and starts reading. Once. */
void conn_start(struct conn *conn, const struct conn_callbacks *callbacks, void *user);

/* Adopts a connected stream socket. */
struct conn *conn_new(struct loop *loop, int fd, const struct conn_callbacks *callbacks,
                      void *user);

struct net_addr {
    uint32_t len;
    _Alignas(8) uint8_t bytes[28]; /* a sockaddr_in or sockaddr_in6 */
};
/* Blocks if host is a name. Of several addresses the one at `which` modulo their count; 0 is the best
 * one. Any thread. */
enum err net_resolve(const char *host, uint16_t port, uint64_t which, struct net_addr *out,
                     struct errmsg *em) MUST_USE;
/* Never blocks: ERR_NOT_FOUND if host is not an address in digits. */
enum err net_resolve_digits(const char *host, uint16_t port, struct net_addr *out) MUST_USE;
/* "host:port" or "[v6]:port": writes the host, terminated, without brackets. ERR_CONFIG; then
 * nothing is written. */
enum err net_split(const char *text, char *host, size_t host_bytes, uint16_t *port,
                   struct errmsg *em) MUST_USE;
/* Starts to connect; output may be appended at once. Failure comes as on_close. */
enum err conn_open(struct loop *loop, const struct net_addr *addr,
                   const struct conn_callbacks *callbacks, void *user, struct conn **out,
                   struct errmsg *em) MUST_USE;

/* The connection fails if for so long the other side acknowledges nothing of what was sent, or,
 * when idle, of what the kernel probes with: a machine that is gone sends no reset. Whole seconds
 * count when idle, at least 2. No effect on a Unix socket. */
void conn_watch_peer(struct conn *conn, int64_t silence_ms_max);
/* Instead of loop_cfg.input_bytes_max for this connection; rounded up to 4 KiB. */
void conn_input_limit(struct conn *conn, uint32_t bytes_max);

uint64_t conn_id(const struct conn *conn);                 /* from 1, never reused in this loop */
/* NULL: gone, or conn_close was called, or it failed. Constant time. */
struct conn *conn_find(struct loop *loop, uint64_t id);
void *conn_user(const struct conn *conn);
struct loop *conn_loop(const struct conn *conn);
/* Calls visit for every connection that conn_find would find. visit may close it, not open
 * others. */
void conn_each(struct loop *loop, void (*visit)(void *ctx, struct conn *conn), void *ctx);

/* Inside on_bytes: do not come again below `bytes` bytes, counted behind what is consumed. */
void conn_want(struct conn *conn, size_t bytes);
/* Stops deliveries; keeps reading (to see the peer close) up to NET_PAUSED_BYTES_MAX. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn); /* delivery comes later, never inside this call */
bool conn_is_paused(const struct conn *conn);
size_t conn_input_bytes(const struct conn *conn); /* held and not consumed */

/* The output. Append, then conn_dirty. On a closing connection what is appended is dropped. */
struct chain *conn_out(struct conn *conn);
void conn_dirty(struct conn *conn); /* flush at the end of this turn */
/* Writes now, before what else is dirty (peers go before clients). May call on_writable. */
void conn_flush_now(struct conn *conn);

void conn_close(struct conn *conn); /* drops unsent output. Idempotent */
/* No more input is delivered; closes when everything is sent. A peer that does not read
 * keeps it open: the owner's timeouts end that with conn_close. */
void conn_close_after_flush(struct conn *conn);
bool conn_is_closing(const struct conn *conn); /* either of the two was called, or it failed */
int conn_close_errno(const struct conn *conn); /* for CONN_CLOSE_RESET; else 0 */

/* Writes "address:port" or "unix:path"; valid in every callback. Returns `out`. */
const char *conn_peer_text(const struct conn *conn, char *out, size_t out_bytes);
const char *conn_local_text(const struct conn *conn, char *out, size_t out_bytes);

size_t conn_struct_bytes(void); /* what an idle connection costs in user space */

#endif
