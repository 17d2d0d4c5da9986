/* server/peer_cert.h - whose certificate a member's connection showed.
 *
 * PURPOSE  Compare the names of a certificate with the member that is meant: the host of its address,
 *          or its name. Does not know who that is, nor whether the certificate is to be trusted: TLS
 *          has judged that.
 * OWNS     Nothing; struct peer_cert is a plain value.
 * USES     net/tls.h.
 * THREADS  Loop thread only.
 * LIMITS   As tls.h.
 * ERRORS   ERR_MEMBER: em says what was shown and what was expected, printable and without quotes.
 */
#ifndef SERVER_PEER_CERT_H
#define SERVER_PEER_CERT_H

#include "net/tls.h"

struct peer_cert {
    bool shown; /* false: a connection without TLS, where nothing is compared */
    struct tls_names names;
};

/* Of an established connection. */
enum err peer_cert_take(const struct conn *conn, struct peer_cert *out, struct errmsg *em) MUST_USE;
/* address: host:port. Either may be empty, and then matches nothing. */
enum err peer_cert_check(const struct peer_cert *cert, const char *address, const char *name,
                         struct errmsg *em) MUST_USE;
/* Both. */
enum err peer_cert_require(const struct conn *conn, const char *address, const char *name,
                           struct errmsg *em) MUST_USE;

#endif
