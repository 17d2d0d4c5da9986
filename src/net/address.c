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

/* The next one from here on; NULL: none. */
static const struct addrinfo *internet(const struct addrinfo *at)
{
    while (at != NULL && at->ai_addrlen > sizeof ((struct net_addr *)0)->bytes) at = at->ai_next;
    return at;
}

/* The one at `which` modulo their count; NULL: there is none. */
static const struct addrinfo *choose(const struct addrinfo *found, uint64_t which)
{
    uint64_t count = 0;
    for (const struct addrinfo *at = internet(found); at != NULL; at = internet(at->ai_next)) count++;
    if (count == 0) return NULL;
    const struct addrinfo *at = internet(found);
    for (uint64_t skip = which % count; skip > 0; skip--) at = internet(at->ai_next);
    return at;
}

/* 0 and *out, or a code of gai_strerror; EAI_NODATA if there is no internet address among them. */
static int look_up(const char *host, uint16_t port, uint64_t which, int flags, struct net_addr *out)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV | flags };
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) return code;
    const struct addrinfo *at = choose(found, which);
    if (at != NULL) {
        out->len = at->ai_addrlen;
        memcpy(out->bytes, at->ai_addr, at->ai_addrlen);
    }
    bool is_there = at != NULL;
    freeaddrinfo(found);
    return is_there ? 0 : EAI_NODATA;
}

enum err net_resolve(const char *host, uint16_t port, uint64_t which, struct net_addr *out,
                     struct errmsg *em)
{
    int code = look_up(host, port, which, 0, out);
    if (code == 0) return OK;
    errmsg_set(em, "address %s: %s", host, gai_strerror(code));
    return ERR_CONFIG;
}

enum err net_resolve_digits(const char *host, uint16_t port, struct net_addr *out)
{
    return look_up(host, port, 0, AI_NUMERICHOST, out) == 0 ? OK : ERR_NOT_FOUND;
}

/* --- host and port -------------------------------------------------------------------------- */

static bool is_host(struct slice host, bool bracketed)
{
    if (host.len == 0) return false;
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.at[i];
        if (c <= ' ' || c >= 127 || memchr("[],=\"\\", c, 6) != NULL) return false;
        if (c == ':' && !bracketed) return false;
    }
    return true;
}

enum err net_split(const char *text, char *host, size_t host_bytes, uint16_t *port,
                   struct errmsg *em)
{
    const char *colon = strrchr(text, ':');
    uint64_t number = 0;
    bool good = colon != NULL && u64_parse(slice_of(colon + 1), &number) == OK && number >= 1 &&
                number <= UINT16_MAX;
    if (good) {
        struct slice name = { (const uint8_t *)text, (size_t)(colon - text) };
        bool bracketed = name.len >= 2 && name.at[0] == '[' && name.at[name.len - 1] == ']';
        if (bracketed) name = (struct slice){ name.at + 1, name.len - 2 };
        good = is_host(name, bracketed) && name.len < host_bytes;
        if (good) {
            memcpy(host, name.at, name.len);
            host[name.len] = '\0';
            *port = (uint16_t)number;
        }
    }
    if (good) return OK;
    errmsg_set(em, "'%s' is not an address: write host:port, or [address]:port for IPv6", text);
    return ERR_CONFIG;
}
