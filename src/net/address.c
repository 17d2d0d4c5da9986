/* net/address.c - addresses as text and back. */
#include "net/net_int.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

_Static_assert(sizeof(struct sockaddr_in6) <= sizeof ((struct net_addr *)0)->bytes, "it fits");

static const char *unix_text(const struct sockaddr *addr, socklen_t len, char *out,
                             size_t out_bytes)
{
    struct sockaddr_un un = { 0 };
    memcpy(&un, addr, MIN((size_t)len, sizeof un));
    snprintf(out, out_bytes, "unix:%.*s", (int)sizeof un.sun_path, un.sun_path);
    return out;
}

const char *address_text(const struct sockaddr *addr, socklen_t len, char *out, size_t out_bytes)
{
    ASSERT(out_bytes >= 1);
    char host[INET6_ADDRSTRLEN] = "?";
    if (addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in v4;
        memcpy(&v4, addr, sizeof v4);
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
        snprintf(out, out_bytes, "%s:%u", host, ntohs(v4.sin_port));
    } else if (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 v6;
        memcpy(&v6, addr, sizeof v6);
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
        snprintf(out, out_bytes, "[%s]:%u", host, ntohs(v6.sin6_port));
    } else if (addr->sa_family == AF_UNIX) {
        return unix_text(addr, len, out, out_bytes);
    } else {
        snprintf(out, out_bytes, "?");
    }
    return out;
}

enum err net_resolve(const char *host, uint16_t port, struct net_addr *out, struct errmsg *em)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) {
        errmsg_set(em, "address %s: %s", host, gai_strerror(code));
        return ERR_CONFIG;
    }
    struct addrinfo *at = found;
    while (at != NULL && at->ai_addrlen > sizeof out->bytes) at = at->ai_next;
    if (at != NULL) {
        out->len = at->ai_addrlen;
        memcpy(out->bytes, at->ai_addr, at->ai_addrlen);
    } else {
        errmsg_set(em, "address %s: no internet address", host);
    }
    freeaddrinfo(found);
    return at != NULL ? OK : ERR_CONFIG;
}
