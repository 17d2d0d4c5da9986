/* server/peer_cert.c - see peer_cert.h. */
#include "server/peer_cert.h"

#define HOST_BYTES_MAX 263
#define SHOWN_BYTES_MAX 160 /* of its names: a refusal is short */

enum err peer_cert_take(const struct conn *conn, struct peer_cert *out, struct errmsg *em)
{
    out->shown = conn_is_tls(conn);
    if (!out->shown || conn_tls_names(conn, &out->names, em) == OK) return OK;
    return ERR_MEMBER;
}

/* A CA may have signed anything: what is shown must not end a quoted text. */
static const char *unquoted(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') *at = '?';
    }
    return text;
}

enum err peer_cert_check(const struct peer_cert *cert, const char *address, const char *name,
                         struct errmsg *em)
{
    if (!cert->shown) return OK;
    char host[HOST_BYTES_MAX + 1];
    uint16_t port;
    if (net_split(address, host, sizeof host, &port, NULL) != OK) host[0] = '\0';
    if (tls_name_matches(&cert->names, slice_of(host))) return OK;
    if (tls_name_matches(&cert->names, slice_of(name))) return OK;
    char shown[SHOWN_BYTES_MAX];
    tls_names_text(&cert->names, shown, sizeof shown);
    errmsg_set(em, "the certificate is for (%s), expected was one for host (%.100s) or name (%s)",
               unquoted(shown), host, name);
    return ERR_MEMBER;
}

enum err peer_cert_require(const struct conn *conn, const char *address, const char *name,
                           struct errmsg *em)
{
    struct peer_cert cert;
    TRY(peer_cert_take(conn, &cert, em));
    return peer_cert_check(&cert, address, name, em);
}
