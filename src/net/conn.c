/* net/conn.c - see net.h. Connections. */
#include "net/net_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define DRAIN_READ_COUNT_MAX 4 /* before the close that ends conn_close_after_flush */

static size_t held(const struct conn *conn) { return conn->input_end - conn->input_begin; }

/* --- readiness ------------------------------------------------------------- */

static void on_ready(evutil_socket_t fd, short what, void *arg);

static bool reads(const struct conn *conn)
{
    bool full = has(conn, CONN_PAUSED) && held(conn) >= NET_PAUSED_BYTES_MAX;
    return has(conn, CONN_STARTED) && !has(conn, CONN_EOF | CONN_DRAINING) && !full;
}

static uint8_t interest_wanted(const struct conn *conn)
{
    if (has(conn, CONN_CLOSING)) return 0;
    if (has(conn, CONN_CONNECTING)) return EV_WRITE;
    uint8_t wanted = has(conn, CONN_WAIT_WRITE) ? EV_WRITE : 0;
    if (reads(conn)) wanted |= EV_READ;
    return LIKELY(conn->tls == NULL) ? wanted : conn_tls_interest(conn, wanted);
}

/* Tells libevent what to watch for, if that changed: never in the life of a connection
 * that keeps reading its answers. */
static void interest_update(struct conn *conn)
{
    uint8_t wanted = interest_wanted(conn);
    if (wanted == conn->interest) return;
    if (conn->interest != 0) event_del(&conn->event);
    conn->interest = wanted;
    if (wanted == 0) return;
    int failed = event_assign(&conn->event, loop_of(conn)->base, conn_fd(conn),
                              (short)(wanted | EV_PERSIST), on_ready, conn);
    ASSERT(failed == 0);
    failed = event_add(&conn->event, NULL);
    ASSERT(failed == 0);
}

void conn_interest_update(struct conn *conn) { interest_update(conn); }

static void more_add(struct conn *conn)
{
    if (has(conn, CONN_MORE)) return;
    set(conn, CONN_MORE);
    conn_list_add(&loop_of(conn)->more, conn);
}

static bool tls_reads_again(const struct conn *conn)
{
    if (!conn->tls->read_pending || has(conn, CONN_CLOSING)) return false;
    return reads(conn) || conn->tls->failed;
}

void conn_tls_read_again(struct conn *conn)
{
    if (tls_reads_again(conn)) more_add(conn);
}

/* --- input that is held ---------------------------------------------------- */

static void input_free(struct conn *conn)
{
    loop_of(conn)->stats.input_bytes -= conn->input_cap;
    mem_free(conn->input);
    conn->input = NULL;
    conn->input_cap = 0;
    conn->input_begin = 0;
    conn->input_end = 0;
}

/* Room for `bytes` behind what is held. Grows by doubling towards what is wanted, so that a
 * big body is copied a constant number of times (I4) and a promise costs nothing. */
static uint8_t *input_reserve(struct conn *conn, size_t bytes)
{
    if (conn->input_begin != 0 && conn->input_cap - conn->input_end < bytes) {
        memmove(conn->input, conn->input + conn->input_begin, held(conn));
        conn->input_end -= conn->input_begin;
        conn->input_begin = 0;
    }
    size_t need = conn->input_end + bytes;
    if (need > conn->input_cap) {
        size_t cap = MAX(need, MIN((size_t)conn->input_cap * 2, MAX((size_t)conn->want, need)));
        ASSERT(cap <= UINT32_MAX);
        conn->input = mem_realloc(conn->input, cap);
        loop_of(conn)->stats.input_bytes += cap - conn->input_cap;
        conn->input_cap = (uint32_t)cap;
    }
    return conn->input + conn->input_end;
}

static void input_append(struct conn *conn, const uint8_t *at, size_t len)
{
    memcpy(input_reserve(conn, len), at, len);
    conn->input_end += (uint32_t)len;
}

/* --- delivery -------------------------------------------------------------- */

static void eof_check(struct conn *conn)
{
    if (!has(conn, CONN_EOF) || has(conn, CONN_EOF_TOLD | CONN_CLOSING | CONN_DRAINING)) return;
    if (has(conn, CONN_MORE) && !has(conn, CONN_PAUSED)) return;
    set(conn, CONN_EOF_TOLD);
    if (conn->callbacks->on_eof == NULL) {
        conn_end(conn, CONN_CLOSE_EOF, 0);
    } else {
        conn->callbacks->on_eof(conn->user, conn);
    }
}

/* Offers `in` and returns how much of it was consumed. */
static size_t offer(struct conn *conn, struct slice in)
{
    conn->want = 0;
    size_t used = conn->callbacks->on_bytes(conn->user, conn, in);
    ASSERT(used <= in.len);
    size_t input_max = loop_of(conn)->cfg.input_bytes_max;
    if (conn->input_max_4k != 0) input_max = (size_t)conn->input_max_4k << 12;
    if (conn->want > input_max) conn_end(conn, CONN_CLOSE_INPUT_LIMIT, 0);
    return has(conn, CONN_CLOSING | CONN_DRAINING) ? in.len : used;
}

/* After an offer: comes again next turn unless there is a reason to wait. */
static void rest_settle(struct conn *conn)
{
    if (held(conn) == 0) {
        if (conn->input != NULL) input_free(conn); /* I2 */
    } else if (!has(conn, CONN_PAUSED) && held(conn) >= conn->want) {
        more_add(conn);
    }
    interest_update(conn);
}

static void deliver_held(struct conn *conn)
{
    if (has(conn, CONN_CLOSING | CONN_DRAINING)) return;
    if (!has(conn, CONN_PAUSED) && held(conn) != 0 && held(conn) >= conn->want) {
        struct slice in = { conn->input + conn->input_begin, held(conn) };
        conn->input_begin += (uint32_t)offer(conn, in);
        rest_settle(conn);
    }
    eof_check(conn);
}

/* --- reading --------------------------------------------------------------- */

/* The only place that reads from a socket without TLS. Returns bytes, 0 if there is nothing to
 * do. */
static size_t socket_read(struct conn *conn, uint8_t *at, size_t bytes)
{
    if (UNLIKELY(conn->tls != NULL)) return conn_tls_read(conn, at, bytes);
    ssize_t got = recv(conn_fd(conn), at, bytes, 0);
    if (got > 0) {
        loop_of(conn)->stats.read_count++;
        loop_of(conn)->stats.read_bytes += (uint64_t)got;
        return (size_t)got;
    }
    if (got == 0) {
        set(conn, CONN_EOF);
        interest_update(conn);
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_end(conn, CONN_CLOSE_RESET, errno);
    }
    return 0;
}

/* Large or undeliverable input goes straight to where it is held. */
static void read_held(struct conn *conn)
{
    size_t bytes = NET_READ_BYTES_MAX;
    if (has(conn, CONN_PAUSED)) {
        bytes = NET_PAUSED_BYTES_MAX - MIN(held(conn), NET_PAUSED_BYTES_MAX - 1);
    } else if (conn->want > held(conn)) {
        bytes = MIN(bytes, conn->want - held(conn));
    }
    size_t got = socket_read(conn, input_reserve(conn, bytes), bytes);
    conn->input_end += (uint32_t)got;
    if (held(conn) == 0) input_free(conn);
    if (got == 0) return;
    if (has(conn, CONN_PAUSED)) {
        interest_update(conn);
    } else {
        deliver_held(conn);
    }
}

/* The usual way: the loop's buffer, with what little is held put before it. */
static void read_shared(struct conn *conn)
{
    uint8_t *at = loop_of(conn)->read_buf + NET_PREFIX_BYTES_MAX;
    size_t before = held(conn);
    size_t got = socket_read(conn, at, NET_READ_BYTES_MAX);
    if (got == 0) return;
    if (before + got < conn->want) {
        input_append(conn, at, got);
        return;
    }
    if (before != 0) memcpy(at - before, conn->input + conn->input_begin, before);
    conn->input_begin = 0;
    conn->input_end = 0;
    struct slice in = { at - before, before + got };
    size_t used = offer(conn, in);
    if (used < in.len) input_append(conn, in.at + used, in.len - used);
    rest_settle(conn);
}

static void conn_read(struct conn *conn)
{
    if (has(conn, CONN_MORE) && !has(conn, CONN_PAUSED)) return; /* what is held goes first */
    bool direct = has(conn, CONN_PAUSED) || held(conn) > NET_PREFIX_BYTES_MAX ||
                  conn->want > NET_READ_BYTES_MAX;
    if (direct) {
        read_held(conn);
    } else {
        read_shared(conn);
    }
    eof_check(conn);
    if (UNLIKELY(conn->tls != NULL)) conn_tls_read_again(conn);
}

void conn_deliver_held(struct conn *conn)
{
    deliver_held(conn);
    if (UNLIKELY(conn->tls != NULL) && tls_reads_again(conn)) conn_read(conn);
}

/* --- writing --------------------------------------------------------------- */

/* The only place that writes to a socket without TLS. */
static ssize_t socket_write(struct conn *conn, struct iovec *iov, size_t count)
{
    if (count == 1) return send(conn_fd(conn), iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };
    return sendmsg(conn_fd(conn), &msg, MSG_NOSIGNAL);
}

/* Everything is sent. Unread input would turn the close into a reset, which can destroy
 * the answer on its way, so some of it is read first. */
static void drained_close(struct conn *conn)
{
    if (UNLIKELY(conn->tls != NULL) && !conn_tls_finish(conn)) return;
    shutdown(conn_fd(conn), SHUT_WR);
    for (int i = 0; i < DRAIN_READ_COUNT_MAX; i++) {
        if (recv(conn_fd(conn), loop_of(conn)->read_buf, NET_READ_BYTES_MAX, 0) <= 0) break;
    }
    conn_end(conn, CONN_CLOSE_FLUSHED, 0);
}

static void output_settle(struct conn *conn)
{
    size_t left = chain_bytes(&conn->out);
    interest_update(conn);
    if (left == 0 && has(conn, CONN_DRAINING)) {
        drained_close(conn);
        return;
    }
    if (left >= loop_of(conn)->cfg.output_low_bytes) {
        set(conn, CONN_OUT_HIGH);
    } else if (has(conn, CONN_OUT_HIGH) && !has(conn, CONN_DRAINING)) {
        unset(conn, CONN_OUT_HIGH);
        if (conn->callbacks->on_writable != NULL) conn->callbacks->on_writable(conn->user, conn);
    }
}

/* One write. A full socket is waited for; what one write could not take goes next turn. */
static void output_write(struct conn *conn)
{
    struct iovec iov[NET_IOV_COUNT_MAX];
    size_t count = chain_iov(&conn->out, iov, NET_IOV_COUNT_MAX);
    if (count == 0) return;
    size_t offered = 0;
    for (size_t i = 0; i < count; i++) offered += iov[i].iov_len;
    ssize_t sent = socket_write(conn, iov, count);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn_end(conn, CONN_CLOSE_RESET, errno);
        return;
    }
    size_t done = sent < 0 ? 0 : (size_t)sent;
    conn_written(conn, done);
    chain_consume(&conn->out, done);
    if (done < offered) {
        set(conn, CONN_WAIT_WRITE);
    } else if (chain_bytes(&conn->out) != 0) {
        conn_dirty(conn);
    }
}

void conn_flush(struct conn *conn)
{
    unset(conn, CONN_WAIT_WRITE);
    if (LIKELY(conn->tls == NULL)) {
        output_write(conn);
    } else {
        conn_tls_write(conn);
    }
    if (!has(conn, CONN_CLOSING)) output_settle(conn);
}

/* --- events ---------------------------------------------------------------- */

static void connect_done(struct conn *conn)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(conn_fd(conn), SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error != 0) {
        conn_end(conn, CONN_CLOSE_RESET, error);
        return;
    }
    unset(conn, CONN_CONNECTING);
    if (UNLIKELY(conn->tls != NULL)) {
        conn_tls_handshake(conn);
        return;
    }
    interest_update(conn);
    if (chain_bytes(&conn->out) != 0 || has(conn, CONN_DRAINING)) conn_dirty(conn);
    if (conn->callbacks->on_open != NULL && !has(conn, CONN_DRAINING)) {
        conn->callbacks->on_open(conn->user, conn);
    }
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct conn *conn = arg;
    loop_wake(loop_of(conn));
    if (has(conn, CONN_CLOSING)) return; /* by turn_begin */
    if (has(conn, CONN_CONNECTING)) {
        connect_done(conn);
        return;
    }
    if (UNLIKELY(conn->tls != NULL)) what = conn_tls_ready(conn, what);
    if ((what & EV_WRITE) && has(conn, CONN_WAIT_WRITE)) conn_flush(conn);
    if ((what & EV_READ) && (conn->interest & EV_READ)) conn_read(conn);
}

/* --- life ------------------------------------------------------------------ */

/* Takes the descriptor. */
struct conn *conn_make(struct loop *loop, int fd, uint16_t flags)
{
    struct conn *conn = mem_zalloc(sizeof *conn);
    conn->id = ++loop->last_conn_id;
    conn->flags = flags;
    chain_init(&conn->out, &loop->pool);
    int failed = event_assign(&conn->event, loop->base, fd, EV_READ | EV_PERSIST, on_ready, conn);
    ASSERT(failed == 0);
    conn_table_put(&loop->table, conn, ++loop->stats.conn_count);
    return conn;
}

void conn_start(struct conn *conn, const struct conn_callbacks *callbacks, void *user)
{
    ASSERT(!has(conn, CONN_STARTED));
    ASSERT(callbacks->on_bytes != NULL);
    ASSERT(callbacks->on_close != NULL);
    conn->callbacks = callbacks;
    conn->user = user;
    set(conn, CONN_STARTED);
    interest_update(conn);
}

struct conn *conn_new(struct loop *loop, int fd, const struct conn_callbacks *callbacks,
                      void *user)
{
    int failed = evutil_make_socket_nonblocking(fd);
    ASSERT(failed == 0);
    struct conn *conn = conn_make(loop, fd, 0);
    conn_start(conn, callbacks, user);
    return conn;
}

static void options_set(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

enum err conn_open_tls(struct loop *loop, const struct net_addr *addr, struct tls_context *ctx,
                       const struct conn_callbacks *callbacks, void *user, struct conn **out,
                       struct errmsg *em)
{
    const struct sockaddr *to = (const void *)addr->bytes;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) options_set(fd);
    if (fd < 0 || (connect(fd, to, addr->len) != 0 && errno != EINPROGRESS)) {
        int error = errno;
        char text[NET_ADDRESS_TEXT_BYTES_MAX];
        errmsg_set(em, "connect to %s: %s", address_text(to, addr->len, text, sizeof text),
                   strerror(error));
        if (fd >= 0) close(fd);
        return ERR_IO;
    }
    struct conn *conn = conn_make(loop, fd, CONN_CONNECTING);
    if (ctx != NULL) conn_start_tls(conn, ctx, TLS_CLIENT);
    conn_start(conn, callbacks, user);
    *out = conn;
    return OK;
}

void conn_input_limit(struct conn *conn, uint32_t bytes_max)
{
    conn->input_max_4k = (uint16_t)((bytes_max + (1u << 12) - 1) >> 12);
}

void conn_watch_peer(struct conn *conn, int64_t silence_ms_max)
{
    ASSERT(silence_ms_max > 0);
    ASSERT(silence_ms_max <= INT32_MAX);
    int ms = (int)silence_ms_max;
    int idle_s = MAX(ms / 2000, 1);
    const struct {
        int level, name, value;
    } options[] = {
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, idle_s },
        { IPPROTO_TCP, TCP_KEEPINTVL, 1 },
        { IPPROTO_TCP, TCP_KEEPCNT, MIN(MAX(idle_s, 1), 127) },
        { IPPROTO_TCP, TCP_USER_TIMEOUT, ms },
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        setsockopt(conn_fd(conn), options[i].level, options[i].name, &options[i].value,
                   sizeof(int));
    }
}

enum err conn_open(struct loop *loop, const struct net_addr *addr,
                   const struct conn_callbacks *callbacks, void *user, struct conn **out,
                   struct errmsg *em)
{
    return conn_open_tls(loop, addr, NULL, callbacks, user, out, em);
}

void conn_end(struct conn *conn, enum conn_close_reason reason, int error)
{
    if (has(conn, CONN_CLOSING)) return;
    set(conn, CONN_CLOSING);
    conn->reason = (uint8_t)reason;
    conn->error = (int16_t)error;
    interest_update(conn);
    conn_list_add(&loop_of(conn)->closing, conn);
}

void conn_free(struct conn *conn)
{
    ASSERT(!has(conn, CONN_DIRTY | CONN_MORE));
    ASSERT(conn->interest == 0);
    conn_table_remove(&loop_of(conn)->table, conn);
    loop_of(conn)->stats.conn_count--;
    if (UNLIKELY(conn->tls != NULL)) conn_tls_free(conn);
    close(conn_fd(conn));
    chain_deinit(&conn->out);
    input_free(conn);
    mem_free(conn);
}

void conn_close(struct conn *conn) { conn_end(conn, CONN_CLOSE_LOCAL, 0); }

void conn_close_after_flush(struct conn *conn)
{
    if (has(conn, CONN_CLOSING | CONN_DRAINING)) return;
    set(conn, CONN_DRAINING);
    interest_update(conn);
    conn_dirty(conn);
}

/* --- the owner's side ------------------------------------------------------ */

uint64_t conn_id(const struct conn *conn) { return conn->id; }
void *conn_user(const struct conn *conn) { return conn->user; }
struct loop *conn_loop(const struct conn *conn) { return loop_of(conn); }
struct chain *conn_out(struct conn *conn) { return &conn->out; }
size_t conn_input_bytes(const struct conn *conn) { return held(conn); }
bool conn_is_paused(const struct conn *conn) { return has(conn, CONN_PAUSED); }
bool conn_is_closing(const struct conn *conn) { return has(conn, CONN_CLOSING | CONN_DRAINING); }
int conn_close_errno(const struct conn *conn) { return conn->error; }
size_t conn_struct_bytes(void) { return sizeof(struct conn); }

struct conn *conn_find(struct loop *loop, uint64_t id)
{
    struct conn *conn = conn_table_find(&loop->table, id);
    return conn == NULL || has(conn, CONN_CLOSING) ? NULL : conn;
}

void conn_each(struct loop *loop, void (*visit)(void *ctx, struct conn *conn), void *ctx)
{
    size_t slot_count = loop->table.slot_count;
    for (size_t i = 0; i < slot_count; i++) {
        struct conn *conn = loop->table.slots[i];
        if (conn != NULL && !has(conn, CONN_CLOSING)) visit(ctx, conn);
        ASSERT(slot_count == loop->table.slot_count);
    }
}

void conn_want(struct conn *conn, size_t bytes)
{
    conn->want = (uint32_t)MIN(bytes, UINT32_MAX);
}

void conn_pause(struct conn *conn)
{
    if (has(conn, CONN_PAUSED | CONN_CLOSING)) return;
    set(conn, CONN_PAUSED);
    interest_update(conn);
}

void conn_resume(struct conn *conn)
{
    if (!has(conn, CONN_PAUSED) || has(conn, CONN_CLOSING)) return;
    unset(conn, CONN_PAUSED);
    if (held(conn) != 0 && held(conn) >= conn->want) more_add(conn);
    if (UNLIKELY(conn->tls != NULL)) conn_tls_read_again(conn);
    interest_update(conn);
}

void conn_dirty(struct conn *conn)
{
    uint16_t not_now = CONN_CONNECTING | CONN_HANDSHAKE | CONN_CLOSING;
    if (has(conn, CONN_DIRTY | CONN_WAIT_WRITE | not_now)) return;
    set(conn, CONN_DIRTY);
    conn_list_add(&loop_of(conn)->dirty, conn);
}

void conn_flush_now(struct conn *conn)
{
    if (has(conn, CONN_WAIT_WRITE | CONN_CONNECTING | CONN_HANDSHAKE | CONN_CLOSING)) return;
    conn_flush(conn);
}

const char *conn_peer_text(const struct conn *conn, char *out, size_t out_bytes)
{
    struct sockaddr_storage addr = { 0 };
    socklen_t len = sizeof addr;
    if (getpeername(conn_fd(conn), (struct sockaddr *)&addr, &len) != 0) addr.ss_family = AF_UNSPEC;
    /* The clients of a Unix socket have no name: what tells them apart is where they came in. */
    if (addr.ss_family == AF_UNIX) return conn_local_text(conn, out, out_bytes);
    return address_text((const struct sockaddr *)&addr, len, out, out_bytes);
}

const char *conn_local_text(const struct conn *conn, char *out, size_t out_bytes)
{
    struct sockaddr_storage addr = { 0 };
    socklen_t len = sizeof addr;
    if (getsockname(conn_fd(conn), (struct sockaddr *)&addr, &len) != 0) addr.ss_family = AF_UNSPEC;
    return address_text((const struct sockaddr *)&addr, len, out, out_bytes);
}

const char *conn_close_reason_name(enum conn_close_reason reason)
{
    switch (reason) {
    case CONN_CLOSE_LOCAL: return "local";
    case CONN_CLOSE_FLUSHED: return "flushed";
    case CONN_CLOSE_EOF: return "eof";
    case CONN_CLOSE_RESET: return "reset";
    case CONN_CLOSE_INPUT_LIMIT: return "input-limit";
    case CONN_CLOSE_LOOP: return "shutdown";
    case CONN_CLOSE_TLS: return "tls";
    }
    return "?";
}
