/* net/net_int.h - what the files of net/ share.
 *
 * PURPOSE  Structures of the loop and its connections.
 * OWNS     See net.h.
 * USES     libevent's event structure, embedded so that a connection is one allocation. OpenSSL
 *          by name only: tls.c and conn_tls.c see its headers.
 * THREADS  The loop's.
 * LIMITS   See net.h.
 * ERRORS   See net.h.
 */
#ifndef NET_NET_INT_H
#define NET_NET_INT_H

#include "net/net.h"
#include "net/tls.h"

#include <event2/event.h>
#include <event2/event_struct.h>

#include <sys/socket.h>

/* Held input up to here is put before the loop's read buffer instead of growing the conn's. */
#define NET_PREFIX_BYTES_MAX 16384
#define NET_ACCEPT_PAUSE_US 100000 /* without descriptors or memory */
#define NET_SHORT_WAIT_COUNT 8       /* so many short waits in a row, then spin */
#define NET_SHORT_WAIT_COUNT_MAX 256 /* ... so many after spins in vain */
#define NET_SHORT_WAIT_SPINS 4       /* a wait is short up to so many spins */

enum conn_flag {
    CONN_STARTED = 1 << 0,
    CONN_PAUSED = 1 << 1,
    CONN_EOF = 1 << 2,        /* the peer sends no more */
    CONN_EOF_TOLD = 1 << 3,
    CONN_DRAINING = 1 << 4,   /* conn_close_after_flush */
    CONN_CLOSING = 1 << 5,    /* no more callbacks but on_close */
    CONN_CLOSE_TOLD = 1 << 6,
    CONN_DIRTY = 1 << 7,      /* in loop->dirty or its snapshot */
    CONN_MORE = 1 << 8,       /* in loop->more or its snapshot */
    CONN_WAIT_WRITE = 1 << 9, /* the socket is full */
    CONN_OUT_HIGH = 1 << 10,  /* owes an on_writable */
    CONN_CONNECTING = 1 << 11,
    CONN_HANDSHAKE = 1 << 12, /* of TLS; after connecting */
};

struct conn {
    struct event event;
    struct chain out; /* of the loop's pool: see loop_of */
    const struct conn_callbacks *callbacks;
    void *user;
    struct conn_tls *tls; /* NULL: none, the usual case */
    uint64_t id;
    uint8_t *input; /* NULL: nothing held */
    uint32_t input_cap;
    uint32_t input_begin;
    uint32_t input_end;
    uint32_t want;  /* deliver when so much is held */
    uint16_t flags; /* enum conn_flag */
    uint8_t interest; /* EV_READ, EV_WRITE as registered */
    uint8_t reason; /* enum conn_close_reason */
    int16_t error;  /* errno of CONN_CLOSE_RESET */
    uint16_t input_max_4k; /* 0: as the loop's */
};
_Static_assert(sizeof(struct conn) <= 240, "an idle connection stays small");

static inline bool has(const struct conn *conn, uint16_t flags)
{
    return (conn->flags & flags) != 0;
}
static inline void set(struct conn *conn, uint16_t flags) { conn->flags |= flags; }
static inline void unset(struct conn *conn, uint16_t flags) { conn->flags &= (uint16_t)~flags; }
static inline int conn_fd(const struct conn *conn) { return event_get_fd(&conn->event); }

/* What a connection with TLS has more. */
struct conn_tls {
    struct ssl_st *ssl;
    struct tls_context *ctx; /* counted */
    uint64_t generation;     /* of ctx when it began */
    size_t read_left;        /* of the socket, in this call of OpenSSL */
    unsigned long error;     /* OpenSSL's; 0: none */
    int socket_errno;
    bool socket_eof;
    bool failed;             /* to be ended by the next call */
    bool read_pending;       /* OpenSSL may hold more than was taken from it */
    bool handshake_waits_write;
    bool read_waits_write;
    bool write_waits_read;
};

struct tls_context {
    struct ssl_ctx_st *ssl_ctx;
    struct bio_method_st *socket_method;
    char *cert_file;
    char *key_file;
    char *ca_file;
    bool verify_peer;
    size_t refs; /* its owner and its connections */
    struct tls_stats stats;
};

struct conn_list {
    struct conn **at;
    size_t count;
    size_t cap;
};

/* Open addressing by id: ids are sequential, so slots hardly ever collide. */
struct conn_table {
    struct conn **slots;
    size_t slot_count; /* a power of two, at least twice the connections */
};

struct listener {
    struct listener *next;
    struct loop *loop;
    struct event event;
    net_accept_fn *on_accept;
    void *ctx;
    char *path; /* of a Unix socket; else NULL */
    uint16_t port;
    bool dead;
};

struct loop_watch {
    struct loop_watch *next;
    struct loop *loop;
    struct event event;
    void (*ready)(void *ctx);
    void *ctx;
    bool dead;
};

struct loop {
    struct event_base *base;
    struct event timer;
    int64_t timer_due_us; /* 0: not armed */
    struct loop_cfg cfg;
    int64_t now_us;
    bool awake; /* this turn's time was taken and its first hooks called */
    bool slept; /* owes hooks.woke */
    bool again; /* between_writes did something */
    bool stop;
    bool dead_seen; /* a listener or watch is to be freed */
    uint32_t short_wait_count;
    uint32_t short_waits_needed; /* before the next spin */
    struct chain_pool pool;
    struct conn_table table;
    uint64_t last_conn_id;
    struct conn_list dirty;
    struct conn_list more;
    size_t more_due_count; /* of its front: to be delivered in this turn */
    struct conn_list closing;
    struct conn_list snapshot; /* of dirty or more, while it is worked through */
    struct listener *listeners;
    struct loop_watch *watches;
    int reserve_fd; /* given up to accept and drop when descriptors run out */
    int64_t accept_resume_us; /* 0: listeners are on */
    uint8_t *read_buf; /* NET_PREFIX_BYTES_MAX + NET_READ_BYTES_MAX */
    uint8_t *tls_buf;  /* one record to be; NULL before the first connection with TLS */
    struct loop_stats stats;
};

static inline struct loop *loop_of(const struct conn *conn)
{
    return CONTAINER_OF(conn->out.pool, struct loop, pool);
}

static inline void conn_written(const struct conn *conn, size_t bytes)
{
    loop_of(conn)->stats.write_count++;
    loop_of(conn)->stats.write_bytes += bytes;
    const struct conn_callbacks *callbacks = conn->callbacks; /* NULL: it is refused, and never begins */
    if (callbacks != NULL && callbacks->on_written != NULL) callbacks->on_written(conn->user, bytes);
}

/* --- loop.c --- */
void loop_wake_slow(struct loop *loop);
/* First thing in every callback from libevent. May close what the callback is for. */
static inline void loop_wake(struct loop *loop)
{
    if (UNLIKELY(!loop->awake)) loop_wake_slow(loop);
}
void conn_list_add(struct conn_list *list, struct conn *conn);

/* --- conn.c --- */
struct conn *conn_make(struct loop *loop, int fd, uint16_t flags);
void conn_end(struct conn *conn, enum conn_close_reason reason, int error);
void conn_flush(struct conn *conn);        /* one write */
void conn_deliver_held(struct conn *conn); /* its turn on the more list */
void conn_free(struct conn *conn);         /* after on_close, off all lists */
void conn_interest_update(struct conn *conn);
void conn_tls_read_again(struct conn *conn); /* next turn, if TLS holds what may be read */

/* --- conn_tls.c: only for connections with TLS --- */
struct bio_method_st *conn_tls_method_new(void);
void conn_tls_handshake(struct conn *conn);
uint8_t conn_tls_interest(const struct conn *conn, uint8_t wanted);
short conn_tls_ready(struct conn *conn, short what);
size_t conn_tls_read(struct conn *conn, uint8_t *at, size_t bytes); /* as socket_read */
void conn_tls_write(struct conn *conn);  /* up to TLS_FLUSH_BYTES_MAX of the output */
bool conn_tls_finish(struct conn *conn); /* close_notify */
void conn_tls_free(struct conn *conn);

/* --- tls.c --- */
#define TLS_REASON_BYTES_MAX 160
const char *tls_reason(unsigned long code, char *out, size_t out_bytes);

/* --- conn_table.c --- */
void conn_table_put(struct conn_table *table, struct conn *conn, size_t conn_count);
void conn_table_remove(struct conn_table *table, const struct conn *conn);
struct conn *conn_table_find(const struct conn_table *table, uint64_t id);

/* --- listen.c --- */
void listeners_resume(struct loop *loop);
void listener_free(struct listener *l);

/* --- address.c --- */
const char *address_text(const struct sockaddr *addr, socklen_t len, char *out, size_t out_bytes);

#endif
