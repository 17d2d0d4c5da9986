/* net/tls_name.c - see tls.h. The names of a certificate against the host that was meant. Pure. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <stdio.h>

#define V4_BYTES 4
#define V6_BYTES 16
#define HOST_BYTES_MAX 255

enum err tls_names_add(struct tls_names *names, enum tls_name_kind kind, struct slice name)
{
    bool sound = kind == TLS_NAME_IP ? name.len == V4_BYTES || name.len == V6_BYTES
                                     : name.len != 0 && name.len <= HOST_BYTES_MAX &&
                                           memchr(name.at, 0, name.len) == NULL;
    if (!sound) return ERR_SYNTAX;
    if (names->count == TLS_NAME_COUNT_MAX) return ERR_LIMIT;
    if (name.len > TLS_NAMES_BYTES_MAX - names->bytes_used) return ERR_LIMIT;
    memcpy(names->bytes + names->bytes_used, name.at, name.len);
    names->at[names->count].begin = (uint16_t)names->bytes_used;
    names->at[names->count].len = (uint16_t)name.len;
    names->at[names->count].kind = (uint8_t)kind;
    names->bytes_used += (uint32_t)name.len;
    names->count++;
    return OK;
}

static struct slice name_at(const struct tls_names *names, size_t i)
{
    return (struct slice){ names->bytes + names->at[i].begin, names->at[i].len };
}

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c; }

static bool same_name(struct slice a, struct slice b)
{
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.at[i]) != lower(b.at[i])) return false;
    }
    return true;
}

/* "host." and "host" are one name. */
static struct slice without_root(struct slice name)
{
    if (name.len != 0 && name.at[name.len - 1] == '.') name.len--;
    return name;
}

/* What follows the left-most label, with its dot; empty if there is only one. */
static struct slice behind_label(struct slice name)
{
    const uint8_t *dot = name.len == 0 ? NULL : memchr(name.at, '.', name.len);
    if (dot == NULL) return SLICE_NONE;
    return (struct slice){ dot, name.len - (size_t)(dot - name.at) };
}

static bool dns_matches(struct slice pattern, struct slice host)
{
    pattern = without_root(pattern);
    if (pattern.len < 2 || pattern.at[0] != '*' || pattern.at[1] != '.') {
        return same_name(pattern, host);
    }
    struct slice parent = behind_label(pattern);
    bool has_two_labels = memchr(parent.at + 1, '.', parent.len - 1) != NULL;
    struct slice host_parent = behind_label(host);
    bool has_label = host_parent.len < host.len;
    return has_two_labels && has_label && host_parent.len != 0 && same_name(parent, host_parent);
}

/* Returns the length of the address, 0 if it is none. */
static size_t host_address(struct slice host, uint8_t out[V6_BYTES])
{
    char text[INET6_ADDRSTRLEN];
    if (host.len >= sizeof text) return 0;
    memcpy(text, host.at, host.len);
    text[host.len] = 0;
    if (inet_pton(AF_INET, text, out) == 1) return V4_BYTES;
    return inet_pton(AF_INET6, text, out) == 1 ? V6_BYTES : 0;
}

bool tls_name_matches(const struct tls_names *names, struct slice host)
{
    if (host.len == 0 || host.len > HOST_BYTES_MAX) return false;
    /* What stands for others in a certificate is no name of a host. */
    if (memchr(host.at, '*', host.len) != NULL) return false;
    if (memchr(host.at, 0, host.len) != NULL) return false;
    uint8_t address[V6_BYTES];
    struct slice ip = { address, host_address(host, address) };
    host = without_root(host);
    if (host.len == 0) return false;
    for (size_t i = 0; i < names->count; i++) {
        struct slice name = name_at(names, i);
        if (names->at[i].kind == TLS_NAME_IP) {
            if (ip.len != 0 && slice_eq(name, ip)) return true;
        } else if (ip.len == 0 && dns_matches(name, host)) {
            return true;
        }
    }
    return false;
}

/* A foreign CA may have signed anything: what is no text is not shown. */
static void printable(struct slice name, char *out)
{
    for (size_t i = 0; i < name.len; i++) {
        out[i] = name.at[i] > ' ' && name.at[i] < 0x7f ? (char)name.at[i] : '?';
    }
    out[name.len] = 0;
}

const char *tls_names_text(const struct tls_names *names, char *out, size_t out_bytes)
{
    ASSERT(out_bytes >= 1);
    out[0] = 0;
    size_t len = 0;
    for (size_t i = 0; i < names->count && len < out_bytes - 1; i++) {
        struct slice name = name_at(names, i);
        char text[HOST_BYTES_MAX + 1];
        if (names->at[i].kind == TLS_NAME_IP) {
            inet_ntop(name.len == V4_BYTES ? AF_INET : AF_INET6, name.at, text, sizeof text);
        } else {
            printable(name, text);
        }
        int wrote = snprintf(out + len, out_bytes - len, "%s%s", len == 0 ? "" : " ", text);
        ASSERT(wrote > 0);
        len = MIN(len + (size_t)wrote, out_bytes - 1);
    }
    return out;
}
