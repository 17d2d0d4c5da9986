/* The transport over sockets. */
#include "load.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_MS_MAX 1000
#define READ_BYTES 65536

int64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void load_sleep_ms(int64_t ms) { poll(NULL, 0, (int)ms); }

bool load_open(struct load_conn *c)
{
    const struct load_node *to = &c->run->options->nodes[c->node];
    struct timeval limit = { .tv_sec = CONNECT_MS_MAX / 1000, .tv_usec = CONNECT_MS_MAX % 1000 * 1000 };
    redisContext *context = redisConnectWithTimeout(to->host, to->port, limit);
    if (context == NULL) return false;
    bool open = context->err == 0;
    c->fd = open ? dup(context->fd) : -1;
    redisFree(context);
    if (c->fd < 0) return false;
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return true;
}

void load_close(struct load_conn *c)
{
    close(c->fd);
    c->fd = -1;
}

bool load_write(struct load_conn *c, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(c->fd, bytes.at, bytes.len, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes.at += sent;
        bytes.len -= (size_t)sent;
    }
    return true;
}

int load_read(struct load_conn *c, struct buf *to, int wait_ms)
{
    struct pollfd fd = { .fd = c->fd, .events = POLLIN };
    int ready = poll(&fd, 1, wait_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return 0;
    ssize_t got = ready < 0 ? -1 : read(c->fd, buf_reserve(to, READ_BYTES), READ_BYTES);
    if (got <= 0) return -1;
    to->len += (size_t)got;
    return 1;
}
