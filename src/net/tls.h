/* net/tls.h - TLS for connections: certificates, the handshake, the names that a peer showed.
 *
 * PURPOSE  Encrypt a connection and prove by certificates who is at its ends. The owner compares
 *          the names with whom it expects (tls_name_matches): a trusted CA alone is nobody.
 * OWNS     tls_context: the certificate, its key and the CAs; counted, it lives until its owner
 *          and its last connection let go.
 * USES     net.h, OpenSSL (nothing of it shows here). TLS 1.2 and 1.3; no compression, no
 *          renegotiation, no tickets, no resumption.
 * THREADS  The loop's; a context belongs to the connections of one loop. tls_context_new may be
 *          called on any thread. It and tls_context_reload read files and may block.
 * LIMITS   TLS_CERT_LIST_BYTES_MAX, TLS_VERIFY_DEPTH_MAX, TLS_NAME_COUNT_MAX, TLS_NAMES_BYTES_MAX;
 *          a handshake has no deadline of its own: the owner closes what is not established in
 *          time.
 * ERRORS   ERR_CONFIG: em names the file and what is wrong with it. A connection that fails closes
 *          with CONN_CLOSE_TLS, and conn_tls_error says why.
 *
 * Everything of net.h holds for a TLS connection: the same callbacks, limits and flushes.
 * conn_out may be appended to at once; it is sent when the handshake is done.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "net/net.h"

#define TLS_CERT_LIST_BYTES_MAX 65536 /* what a peer may send as its certificates */
#define TLS_VERIFY_DEPTH_MAX 8        /* CAs between a certificate and a root */
#define TLS_FLUSH_BYTES_MAX 131072    /* encrypted a connection and turn */
#define TLS_NAME_COUNT_MAX 64         /* names of a certificate */
#define TLS_NAMES_BYTES_MAX 4096      /* all of them */

struct tls_context;

enum tls_side { TLS_SERVER, TLS_CLIENT };

/* PEM files. */
struct tls_config {
    const char *cert_file; /* the certificate, behind it those between it and the CA; NULL: none,
                              then only for TLS_CLIENT */
    const char *key_file;  /* without passphrase; NULL if cert_file is */
    const char *ca_file;   /* one or more CAs that a peer's certificate must come from; NULL if
                              verify_peer is not set */
    bool verify_peer;      /* on both sides: a client without certificate is refused too */
};

struct tls_stats {
    uint64_t generation;      /* 1, and one more with each reload */
    uint64_t handshake_count; /* done */
    uint64_t refuse_count;    /* handshakes that failed */
    uint64_t reload_count;
    uint64_t reload_fail_count;
    size_t conn_count;        /* alive, in handshake or later */
    size_t old_conn_count;    /* of those: of certificates before the last reload */
    int64_t expires_s;        /* of the own certificate, seconds since 1970; 0 without one */
};

/* Copies cfg. */
enum err tls_context_new(const struct tls_config *cfg, struct tls_context **out,
                         struct errmsg *em) MUST_USE;
/* Connections that use it live on. NULL is allowed. */
void tls_context_free(struct tls_context *ctx);
/* Reads the files again, for new connections; old ones keep what they have. On error everything
 * stays as it was. */
enum err tls_context_reload(struct tls_context *ctx, struct errmsg *em) MUST_USE;
const struct tls_stats *tls_context_stats(const struct tls_context *ctx); /* always current */

/* --- connections ------------------------------------------------------------------ */

/* Before conn_start, in the callback of the listener, with nothing appended to conn_out. */
void conn_start_tls(struct conn *conn, struct tls_context *ctx, enum tls_side side);
/* conn_open, as the client of TLS; ctx NULL: exactly conn_open. on_open comes after the handshake.
 * With TLS 1.3 a client is done before the server has looked at its certificate: a refusal comes
 * after on_open, as CONN_CLOSE_TLS. */
enum err conn_open_tls(struct loop *loop, const struct net_addr *addr, struct tls_context *ctx,
                       const struct conn_callbacks *callbacks, void *user, struct conn **out,
                       struct errmsg *em) MUST_USE;
bool conn_is_tls(const struct conn *conn);
/* Connected, and with TLS the handshake is done. */
bool conn_is_established(const struct conn *conn);
/* Why it closed with CONN_CLOSE_TLS, in one line; "" if there was no error. Valid in on_close.
 * Returns `out`. */
const char *conn_tls_error(const struct conn *conn, char *out, size_t out_bytes);

/* --- names -------------------------------------------------------------------------- */

enum tls_name_kind {
    TLS_NAME_DNS, /* text */
    TLS_NAME_IP,  /* 4 or 16 bytes */
};

/* A plain value. */
struct tls_names {
    uint32_t count;
    uint32_t bytes_used;
    struct {
        uint16_t begin; /* in bytes */
        uint16_t len;
        uint8_t kind;   /* enum tls_name_kind */
    } at[TLS_NAME_COUNT_MAX];
    uint8_t bytes[TLS_NAMES_BYTES_MAX];
};

/* ERR_LIMIT: it does not fit. ERR_SYNTAX: nothing that can match. `names` is then unchanged. */
enum err tls_names_add(struct tls_names *names, enum tls_name_kind kind,
                       struct slice name) MUST_USE;
/* RFC 6125: names without regard to case; "*" stands for one whole left-most label before at least
 * two others. A host that is an IP address matches only such a name of the certificate. The host
 * comes without port and brackets. */
bool tls_name_matches(const struct tls_names *names, struct slice host);
/* "n1 localhost 127.0.0.1", cut, for logs. Returns `out`. */
const char *tls_names_text(const struct tls_names *names, char *out, size_t out_bytes);

/* Of the established peer's certificate: its subject alternative names of DNS and IP; if it has
 * neither, its common name. ERR_NOT_FOUND: it showed none. ERR_LIMIT: more than fits. Then `out`
 * has no names. */
enum err conn_tls_names(const struct conn *conn, struct tls_names *out, struct errmsg *em) MUST_USE;

#endif
