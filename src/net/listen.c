/* net/listen.c - see net.h. Listeners. */
#include "net/net_int.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 20
#define KEEPALIVE_COUNT 3

/* --- accepting ------------------------------------------------------------------------ */

static int accept_one(const struct listener *l)
{
    return accept4(event_get_fd(&l->event), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void listeners_pause(struct loop *loop)
{
    if (loop->accept_resume_us != 0) return;
    for (struct listener *l = loop->listeners; l != NULL; l = l->next) {
        if (!l->dead) event_del(&l->event);
    }
    loop->accept_resume_us = loop->now_us + NET_ACCEPT_PAUSE_US;
}

void listeners_resume(struct loop *loop)
{
    loop->accept_resume_us = 0;
    if (loop->reserve_fd < 0) loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (struct listener *l = loop->listeners; l != NULL; l = l->next) {
        if (l->dead) continue;
        int failed = event_add(&l->event, NULL);
        ASSERT(failed == 0);
    }
}

/* No descriptor is left: spends the reserve to accept and drop one, so that the waiting peer
 * learns of it and the listener does not stay ready for ever. False: nobody waits, or it
 * does not help and the listeners are paused. */
static bool refuse_one(struct listener *l)
{
    struct loop *loop = l->loop;
    if (loop->reserve_fd < 0) {
        listeners_pause(loop);
        return false;
    }
    close(loop->reserve_fd);
    int fd = accept_one(l);
    bool nobody = fd < 0 && errno == EAGAIN;
    if (fd >= 0) close(fd);
    loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        loop->stats.accept_refuse_count++;
    } else if (!nobody) {
        listeners_pause(loop);
    }
    return fd >= 0;
}

static void admit(struct listener *l, int fd)
{
    l->loop->stats.accept_count++;
    struct conn *conn = conn_make(l->loop, fd, 0);
    l->on_accept(l->ctx, conn);
    if ((conn->flags & (CONN_STARTED | CONN_DRAINING)) == 0) conn_end(conn, CONN_CLOSE_LOCAL, 0);
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
    (void)listen_fd;
    (void)what;
    struct listener *l = arg;
    loop_wake(l->loop);
    for (int i = 0; i < NET_ACCEPT_COUNT_MAX && !l->dead; i++) {
        int fd = accept_one(l);
        if (fd >= 0) {
            admit(l, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE) {
            if (!refuse_one(l)) return;
        } else if (errno == ENOMEM || errno == ENOBUFS) {
            listeners_pause(l->loop);
            return;
        } /* else that connection failed before it was accepted: the next one */
    }
}

/* --- opening ---------------------------------------------------------------------------- */

static struct listener *listener_add(struct loop *loop, int fd, net_accept_fn *on_accept,
                                     void *ctx)
{
    struct listener *l = mem_zalloc(sizeof *l);
    l->loop = loop;
    l->on_accept = on_accept;
    l->ctx = ctx;
    l->next = loop->listeners;
    loop->listeners = l;
    int failed = event_assign(&l->event, loop->base, fd, EV_READ | EV_PERSIST, on_acceptable, l);
    ASSERT(failed == 0);
    if (loop->accept_resume_us == 0) {
        failed = event_add(&l->event, NULL);
        ASSERT(failed == 0);
    }
    return l;
}

void listener_close(struct listener *l)
{
    if (l == NULL || l->dead) return;
    event_del(&l->event);
    l->dead = true;
    l->loop->dead_seen = true;
    close(event_get_fd(&l->event));
    if (l->path != NULL) unlink(l->path);
}

void listener_free(struct listener *l)
{
    ASSERT(l->dead);
    mem_free(l->path);
    mem_free(l);
}

uint16_t listener_port(const struct listener *l) { return l->port; }

/* Accepted sockets inherit these. */
static void options_set(int fd, int family)
{
    const struct {
        int level, name, value;
    } options[] = {
        { SOL_SOCKET, SO_REUSEADDR, 1 },
        { IPPROTO_TCP, TCP_NODELAY, 1 },
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
        { IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
        { IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
        { IPPROTO_IPV6, IPV6_V6ONLY, 1 },
    };
    size_t count = family == AF_INET6 ? ARRAY_LEN(options) : ARRAY_LEN(options) - 1;
    for (size_t i = 0; i < count; i++) {
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
    }
}

/* Returns the descriptor, or -1 and errno. */
static int tcp_listen(const struct addrinfo *at, int backlog)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    options_set(fd, at->ai_family);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, backlog) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage addr = { 0 };
    socklen_t len = sizeof addr;
    int failed = getsockname(fd, (struct sockaddr *)&addr, &len);
    ASSERT(failed == 0);
    /* sin_port and sin6_port are at the same place. */
    struct sockaddr_in in;
    memcpy(&in, &addr, sizeof in);
    return ntohs(in.sin_port);
}

enum err net_listen(struct loop *loop, const char *addr, uint16_t port, int backlog,
                    net_accept_fn *on_accept, void *ctx, struct listener **out,
                    struct errmsg *em)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const char *node = strcmp(addr, "*") == 0 ? "0.0.0.0" : addr;
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV | AI_PASSIVE };
    struct addrinfo *found = NULL;
    int code = getaddrinfo(node, service, &hints, &found);
    if (code != 0) {
        errmsg_set(em, "listen on %s: %s", addr, gai_strerror(code));
        return ERR_CONFIG;
    }
    int fd = -1;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = tcp_listen(at, backlog);
    }
    int error = errno;
    freeaddrinfo(found);
    if (fd < 0) {
        errmsg_set(em, "listen on %s port %u: %s", addr, port, strerror(error));
        return ERR_IO;
    }
    *out = listener_add(loop, fd, on_accept, ctx);
    (*out)->port = bound_port(fd);
    return OK;
}

/* Nobody listens on it any more: it may be replaced. */
static bool is_stale(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool refused = connect(fd, (const void *)addr, sizeof *addr) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static enum err unix_fail(const char *path, const char *why, struct errmsg *em)
{
    errmsg_set(em, "listen on %s: %s", path, why);
    return ERR_IO;
}

static enum err unix_clear(const struct sockaddr_un *addr, struct errmsg *em)
{
    struct stat info;
    if (lstat(addr->sun_path, &info) != 0) {
        return errno == ENOENT ? OK : unix_fail(addr->sun_path, strerror(errno), em);
    }
    if (!S_ISSOCK(info.st_mode)) return unix_fail(addr->sun_path, "exists and is no socket", em);
    if (!is_stale(addr)) return unix_fail(addr->sun_path, "in use by another process", em);
    if (unlink(addr->sun_path) != 0) return unix_fail(addr->sun_path, strerror(errno), em);
    return OK;
}

enum err net_listen_unix(struct loop *loop, const char *path, uint32_t mode, int backlog,
                         net_accept_fn *on_accept, void *ctx, struct listener **out,
                         struct errmsg *em)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof addr.sun_path) {
        errmsg_set(em, "listen on %s: the path is empty or too long", path);
        return ERR_CONFIG;
    }
    memcpy(addr.sun_path, path, len + 1);
    TRY(unix_clear(&addr, em));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return unix_fail(path, strerror(errno), em);
    bool bound = bind(fd, (const void *)&addr, sizeof addr) == 0;
    /* Between bind and listen nobody can connect: the mode is never too wide. */
    if (!bound || chmod(path, mode) != 0 || listen(fd, backlog) != 0) {
        enum err e = unix_fail(path, strerror(errno), em);
        if (bound) unlink(path);
        close(fd);
        return e;
    }
    *out = listener_add(loop, fd, on_accept, ctx);
    (*out)->path = mem_copy(path, len + 1);
    return OK;
}
