/* net/conn_tls.c - see tls.h. TLS between a connection's socket and conn.c.
 *
 * OpenSSL reads and writes the socket through a BIO of ours, so that it never raises SIGPIPE, is
 * counted like every other read and write, and takes no more than NET_READ_BYTES_MAX a turn from
 * whoever sends records that carry nothing. It keeps bytes that no readiness tells about: what a
 * full buffer left behind is read in the next turn (read_pending).
 */
#include "net/net_int.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define RECORD_BYTES_MAX SSL3_RT_MAX_PLAIN_LENGTH
#define REFUSED_READ_COUNT_MAX 4 /* so that the close does not destroy the alert on its way */

/* --- the socket, as OpenSSL sees it -------------------------------------------- */

static int socket_bio_read(BIO *bio, char *at, int bytes)
{
    struct conn *conn = BIO_get_data(bio);
    struct conn_tls *tls = conn->tls;
    BIO_clear_retry_flags(bio);
    size_t asked = MIN((size_t)bytes, tls->read_left);
    ssize_t got = asked == 0 ? -1 : recv(conn_fd(conn), at, asked, 0);
    if (got > 0) {
        loop_of(conn)->stats.read_count++;
        loop_of(conn)->stats.read_bytes += (uint64_t)got;
        /* A short read emptied the socket: do not ask again in this turn. */
        tls->read_left = (size_t)got < asked ? 0 : tls->read_left - (size_t)got;
        return (int)got;
    }
    if (got == 0) {
        tls->socket_eof = true;
        return 0;
    }
    if (asked == 0 || errno == EAGAIN || errno == EINTR) {
        BIO_set_retry_read(bio);
    } else {
        tls->socket_errno = errno;
    }
    return -1;
}

static int socket_bio_write(BIO *bio, const char *at, int bytes)
{
    struct conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(conn_fd(conn), at, (size_t)bytes, MSG_NOSIGNAL);
    if (sent >= 0) {
        conn_written(conn, (size_t)sent);
        return (int)sent;
    }
    if (errno == EAGAIN || errno == EINTR) {
        BIO_set_retry_write(bio);
    } else {
        conn->tls->socket_errno = errno;
    }
    return -1;
}

static long socket_bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    const struct conn *conn = BIO_get_data(bio);
    if (what == BIO_CTRL_FLUSH) return 1;
    if (what == BIO_CTRL_EOF) return conn->tls->socket_eof;
    return 0;
}

struct bio_method_st *conn_tls_method_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "cordis connection");
    ASSERT(method != NULL);
    BIO_meth_set_read(method, socket_bio_read);
    BIO_meth_set_write(method, socket_bio_write);
    BIO_meth_set_ctrl(method, socket_bio_ctrl);
    return method;
}

/* --- life -------------------------------------------------------------------------- */

void conn_start_tls(struct conn *conn, struct tls_context *ctx, enum tls_side side)
{
    ASSERT(conn->tls == NULL);
    ASSERT(!has(conn, CONN_STARTED | CONN_DRAINING | CONN_CLOSING));
    ASSERT(chain_bytes(&conn->out) == 0);
    ASSERT(side == TLS_CLIENT || ctx->cert_file != NULL);
    if (loop_of(conn)->tls_buf == NULL) loop_of(conn)->tls_buf = mem_alloc(RECORD_BYTES_MAX);
    struct conn_tls *tls = mem_zalloc(sizeof *tls);
    tls->ctx = ctx;
    tls->generation = ctx->stats.generation;
    tls->ssl = SSL_new(ctx->ssl_ctx);
    BIO *bio = BIO_new(ctx->socket_method);
    ASSERT(tls->ssl != NULL && bio != NULL);
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    if (side == TLS_SERVER) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        tls->handshake_waits_write = true; /* it speaks first */
    }
    ctx->refs++;
    ctx->stats.conn_count++;
    conn->tls = tls;
    set(conn, CONN_HANDSHAKE);
}

void conn_tls_free(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    /* Nothing was cut off: the other side may know that. It goes if the socket takes it. */
    bool is_whole = !has(conn, CONN_HANDSHAKE) && !tls->failed && chain_bytes(&conn->out) == 0;
    if (is_whole && (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) == 0) {
        SSL_shutdown(tls->ssl);
        ERR_clear_error();
    }
    SSL_free(tls->ssl);
    struct tls_context *ctx = tls->ctx;
    ctx->stats.conn_count--;
    if (tls->generation != ctx->stats.generation) ctx->stats.old_conn_count--;
    tls_context_free(ctx);
    mem_free(tls);
    conn->tls = NULL;
}

/* Before every call of OpenSSL: errors are of this call, and it may read so much. */
static void begin(struct conn_tls *tls)
{
    ERR_clear_error();
    tls->read_left = NET_READ_BYTES_MAX;
}

/* Remembers why; conn_end is fail_end's. */
static void fail_note(struct conn *conn, int ssl_error)
{
    struct conn_tls *tls = conn->tls;
    tls->failed = true;
    if (ssl_error == SSL_ERROR_SSL) tls->error = ERR_peek_error();
    ERR_clear_error();
}

static void fail_end(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    if (tls->error == 0) {
        conn_end(conn, CONN_CLOSE_RESET, tls->socket_errno == 0 ? EPROTO : tls->socket_errno);
        return;
    }
    shutdown(conn_fd(conn), SHUT_WR); /* behind the alert */
    uint8_t unread[4096];
    for (int i = 0; i < REFUSED_READ_COUNT_MAX; i++) {
        if (recv(conn_fd(conn), unread, sizeof unread, 0) <= 0) break;
    }
    conn_end(conn, CONN_CLOSE_TLS, 0);
}

/* --- the handshake ------------------------------------------------------------------- */

static void established(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    unset(conn, CONN_HANDSHAKE);
    tls->ctx->stats.handshake_count++;
    tls->read_pending = true; /* what came together with the end of the handshake */
    conn_tls_read_again(conn);
    conn_interest_update(conn);
    if (chain_bytes(&conn->out) != 0 || has(conn, CONN_DRAINING)) conn_dirty(conn);
    bool is_client = !SSL_is_server(tls->ssl);
    if (is_client && conn->callbacks->on_open != NULL && !has(conn, CONN_DRAINING)) {
        conn->callbacks->on_open(conn->user, conn);
    }
}

void conn_tls_handshake(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    begin(tls);
    int done = SSL_do_handshake(tls->ssl);
    if (done == 1) {
        established(conn);
        return;
    }
    int why = SSL_get_error(tls->ssl, done);
    tls->handshake_waits_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        conn_interest_update(conn);
        return;
    }
    tls->ctx->stats.refuse_count++;
    fail_note(conn, why);
    fail_end(conn);
}

/* --- reading ------------------------------------------------------------------------- */

/* SSL_read gave nothing. What came before it in this call is delivered first. */
static void read_stopped(struct conn *conn, bool got_some)
{
    struct conn_tls *tls = conn->tls;
    int why = SSL_get_error(tls->ssl, 0);
    if (why == SSL_ERROR_WANT_READ) return;
    if (why == SSL_ERROR_WANT_WRITE) {
        tls->read_waits_write = true;
        conn_interest_update(conn);
    } else if (why == SSL_ERROR_ZERO_RETURN) {
        set(conn, CONN_EOF);
        conn_interest_update(conn);
    } else {
        fail_note(conn, why);
        tls->read_pending = true;
        if (!got_some) fail_end(conn);
    }
}

size_t conn_tls_read(struct conn *conn, uint8_t *at, size_t bytes)
{
    struct conn_tls *tls = conn->tls;
    if (tls->failed) {
        fail_end(conn);
        return 0;
    }
    begin(tls);
    tls->read_pending = false;
    size_t got = 0;
    while (got < bytes) {
        size_t more = 0;
        if (SSL_read_ex(tls->ssl, at + got, bytes - got, &more) != 1) {
            read_stopped(conn, got != 0);
            return got;
        }
        got += more;
    }
    tls->read_pending = true;
    return got;
}

/* --- writing ------------------------------------------------------------------------- */

/* The front of the chain, up to one record; put together in `room` if it is in pieces. What could
 * not be written is still in front next time, so SSL_write gets the same bytes and no fewer. */
static struct slice record_next(const struct chain *chain, uint8_t *room)
{
    struct iovec iov[NET_IOV_COUNT_MAX];
    size_t count = chain_iov(chain, iov, NET_IOV_COUNT_MAX);
    if (count == 1 || iov[0].iov_len >= RECORD_BYTES_MAX) {
        return (struct slice){ iov[0].iov_base, MIN(iov[0].iov_len, RECORD_BYTES_MAX) };
    }
    size_t len = 0;
    for (size_t i = 0; i < count && len < RECORD_BYTES_MAX; i++) {
        size_t piece = MIN(iov[i].iov_len, RECORD_BYTES_MAX - len);
        memcpy(room + len, iov[i].iov_base, piece);
        len += piece;
    }
    return (struct slice){ room, len };
}

static void write_stopped(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    int why = SSL_get_error(tls->ssl, 0);
    if (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ) {
        tls->write_waits_read = why == SSL_ERROR_WANT_READ;
        set(conn, CONN_WAIT_WRITE);
        return;
    }
    fail_note(conn, why);
    fail_end(conn);
}

void conn_tls_write(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    if (tls->failed) {
        fail_end(conn);
        return;
    }
    for (size_t total = 0; chain_bytes(&conn->out) != 0 && total < TLS_FLUSH_BYTES_MAX;) {
        struct slice record = record_next(&conn->out, loop_of(conn)->tls_buf);
        size_t done = 0;
        begin(tls);
        if (SSL_write_ex(tls->ssl, record.at, record.len, &done) != 1) {
            write_stopped(conn);
            return;
        }
        chain_consume(&conn->out, done);
        total += done;
    }
    if (chain_bytes(&conn->out) != 0) conn_dirty(conn);
}

/* Says that nothing follows. False: the socket is full, conn_flush comes again. */
bool conn_tls_finish(struct conn *conn)
{
    struct conn_tls *tls = conn->tls;
    if (tls->failed) return true;
    begin(tls);
    int done = SSL_shutdown(tls->ssl);
    bool is_full = done < 0 && SSL_get_error(tls->ssl, done) == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    if (!is_full) return true;
    set(conn, CONN_WAIT_WRITE);
    conn_interest_update(conn);
    return false;
}

/* --- readiness ------------------------------------------------------------------------- */

/* What to watch for, given what a connection without TLS would. */
uint8_t conn_tls_interest(const struct conn *conn, uint8_t wanted)
{
    const struct conn_tls *tls = conn->tls;
    if (has(conn, CONN_HANDSHAKE)) {
        if (!has(conn, CONN_STARTED | CONN_DRAINING)) return 0;
        return tls->handshake_waits_write ? EV_WRITE : EV_READ;
    }
    if (tls->failed) return 0;
    bool reads = (wanted & EV_READ) != 0;
    bool writes = (wanted & EV_WRITE) != 0;
    bool on_write = (reads && tls->read_waits_write) || (writes && !tls->write_waits_read);
    bool on_read = (reads && !tls->read_waits_write) || (writes && tls->write_waits_read);
    return (uint8_t)((on_read ? EV_READ : 0) | (on_write ? EV_WRITE : 0));
}

/* Works on the handshake, or returns what the readiness means to conn.c. */
short conn_tls_ready(struct conn *conn, short what)
{
    struct conn_tls *tls = conn->tls;
    if (has(conn, CONN_HANDSHAKE)) {
        conn_tls_handshake(conn);
        return 0;
    }
    short means = what;
    if ((what & EV_WRITE) && tls->read_waits_write) {
        tls->read_waits_write = false;
        means |= EV_READ;
    }
    if ((what & EV_READ) && tls->write_waits_read) {
        tls->write_waits_read = false;
        means |= EV_WRITE;
    }
    if (means != what) conn_interest_update(conn);
    return means;
}

/* --- what is asked about it ---------------------------------------------------------------- */

bool conn_is_tls(const struct conn *conn) { return conn->tls != NULL; }

bool conn_is_established(const struct conn *conn)
{
    return !has(conn, CONN_CONNECTING | CONN_HANDSHAKE);
}

const char *conn_tls_error(const struct conn *conn, char *out, size_t out_bytes)
{
    ASSERT(out_bytes >= 1);
    out[0] = 0;
    const struct conn_tls *tls = conn->tls;
    if (tls == NULL || tls->error == 0) return out;
    char reason[TLS_REASON_BYTES_MAX];
    tls_reason(tls->error, reason, sizeof reason);
    long verdict = SSL_get_verify_result(tls->ssl);
    if (verdict == X509_V_OK || ERR_GET_REASON(tls->error) != SSL_R_CERTIFICATE_VERIFY_FAILED) {
        snprintf(out, out_bytes, "%s", reason);
    } else {
        snprintf(out, out_bytes, "%s: %s", reason, X509_verify_cert_error_string(verdict));
    }
    return out;
}

/* --- names ----------------------------------------------------------------------------------- */

static struct slice asn1_slice(const ASN1_STRING *text)
{
    return (struct slice){ ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text) };
}

/* What cannot match is left out; only too many are an error. */
static enum err name_add(struct tls_names *out, enum tls_name_kind kind, const ASN1_STRING *text)
{
    return tls_names_add(out, kind, asn1_slice(text)) == ERR_LIMIT ? ERR_LIMIT : OK;
}

static enum err alternatives_add(struct tls_names *out, const GENERAL_NAMES *names)
{
    enum err e = OK;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && e == OK; i++) {
        int type;
        const ASN1_STRING *text = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type == GEN_DNS) e = name_add(out, TLS_NAME_DNS, text);
        if (type == GEN_IPADD) e = name_add(out, TLS_NAME_IP, text);
    }
    return e;
}

static bool has_hosts(const GENERAL_NAMES *names)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = sk_GENERAL_NAME_value(names, i)->type;
        if (type == GEN_DNS || type == GEN_IPADD) return true;
    }
    return false;
}

static enum err common_name_add(struct tls_names *out, const X509 *cert)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0) return OK;
    return name_add(out, TLS_NAME_DNS, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

enum err conn_tls_names(const struct conn *conn, struct tls_names *out, struct errmsg *em)
{
    out->count = 0;
    out->bytes_used = 0;
    const X509 *cert = conn->tls == NULL ? NULL : SSL_get0_peer_certificate(conn->tls->ssl);
    if (cert == NULL || has(conn, CONN_HANDSHAKE)) {
        errmsg_set(em, "it showed no certificate");
        return ERR_NOT_FOUND;
    }
    int found; /* -1: the certificate has none. Those that cannot be read are not none. */
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &found, NULL);
    enum err e = OK;
    if (has_hosts(names)) {
        e = alternatives_add(out, names);
    } else if (names != NULL || found == -1) {
        e = common_name_add(out, cert);
    }
    GENERAL_NAMES_free(names);
    if (e != OK) {
        out->count = 0;
        out->bytes_used = 0;
        errmsg_set(em, "its certificate has more than %d names or %d bytes of them",
                   TLS_NAME_COUNT_MAX, TLS_NAMES_BYTES_MAX);
    }
    return e;
}
