/* server/resolve.c - see resolve.h. */
#include "server/resolve.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* Who finishes first leaves the other one to free it. */
enum { ASKING, ANSWERED, ABANDONED };

struct resolve {
    int phase; /* atomic */
    int wake_fd;
    enum err result;
    struct net_addr addr;
    struct errmsg em;
    uint16_t port;
    uint64_t which;
    char host[RESOLVE_HOST_BYTES_MAX + 1];
};

static void *resolve_run(void *arg)
{
    struct resolve *r = arg;
    int wake_fd = r->wake_fd; /* from the exchange on, r is the loop's */
    r->result = net_resolve(r->host, r->port, r->which, &r->addr, &r->em);
    if (__atomic_exchange_n(&r->phase, ANSWERED, __ATOMIC_ACQ_REL) == ABANDONED) mem_free(r);
    uint64_t one = 1;
    /* It can fail only with a full counter, which wakes as well. */
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written;
    close(wake_fd);
    return NULL;
}

static bool thread_begin(struct resolve *r)
{
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int failed = pthread_create(&thread, &detached, resolve_run, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return failed == 0;
}

struct resolve *resolve_start(const char *host, uint16_t port, uint64_t which, int wake_fd)
{
    ASSERT(strlen(host) <= RESOLVE_HOST_BYTES_MAX);
    struct resolve *r = mem_zalloc(sizeof *r);
    memcpy(r->host, host, strlen(host) + 1);
    r->port = port;
    r->which = which;
    r->phase = ANSWERED;
    if (net_resolve_digits(host, port, &r->addr) == OK) return r;
    r->phase = ASKING;
    r->wake_fd = fcntl(wake_fd, F_DUPFD_CLOEXEC, 0);
    if (r->wake_fd >= 0 && thread_begin(r)) return r;
    if (r->wake_fd >= 0) close(r->wake_fd);
    r->phase = ANSWERED;
    r->result = ERR_IO;
    errmsg_set(&r->em, "address %s: no thread or descriptor to ask for it", host);
    return r;
}

bool resolve_is_done(const struct resolve *r)
{
    return __atomic_load_n(&r->phase, __ATOMIC_ACQUIRE) == ANSWERED;
}

enum err resolve_result(const struct resolve *r, struct net_addr *out, struct errmsg *em)
{
    ASSERT(resolve_is_done(r));
    if (r->result == OK) {
        *out = r->addr;
    } else {
        errmsg_set(em, "%s", r->em.text);
    }
    return r->result;
}

void resolve_free(struct resolve *r)
{
    if (r == NULL) return;
    if (__atomic_exchange_n(&r->phase, ABANDONED, __ATOMIC_ACQ_REL) == ANSWERED) mem_free(r);
}
