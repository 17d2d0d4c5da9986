/* Writers that go on when a node dies or another one leads: what users of a group notice. Each
 * repeats its write until it succeeds, on the next node after an error. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 512
#define TICK_MS 5 /* writers that found nobody try again */
#define REPLY_BYTES_MAX 512 /* +OK or an error */

struct writer {
    struct conn conn; /* fd -1: nobody listened there */
    size_t node;
    int64_t began_ns; /* the first attempt of the present write */
    size_t reply_len;
    char reply[REPLY_BYTES_MAX];
};

struct writing {
    const struct settings *set;
    struct writer *writers;
    struct values values;
    struct histogram latency;
    struct request request;
    uint64_t seed;
    uint64_t error_count;
    int64_t success_ns; /* the last one of any writer; 0 before the first */
    int64_t gap_ns;     /* the longest time without one */
    int epoll_fd;
};

static void writer_send(struct writing *w, struct writer *c)
{
    struct request *r = &w->request;
    r->len = 0;
    request_begin(r, 3);
    request_text(r, "SET");
    request_key(r, w->set->prefix, random_next(&w->seed) % w->set->key_count);
    request_word(r, values_next(&w->values), w->set->value_bytes);
    c->reply_len = 0;
    /* A request is far smaller than an empty socket buffer; a lost connection is seen by recv. */
    ssize_t sent = write(c->conn.fd, r->at, r->len);
    if (sent > 0 && sent != (ssize_t)r->len) fail("a request was sent in part");
}

static void writer_connect(struct writing *w, struct writer *c)
{
    if (!conn_try(&c->conn, port_of(w->set, c->node))) {
        c->node++;
        return; /* the next tick tries there */
    }
    epoll_watch(w->epoll_fd, c->conn.fd, (size_t)(c - w->writers));
    writer_send(w, c);
}

/* The same write again, elsewhere. */
static void writer_failed(struct writing *w, struct writer *c)
{
    w->error_count++;
    conn_close(&c->conn);
    c->node++;
}

static void writer_read(struct writing *w, struct writer *c)
{
    ssize_t got = read(c->conn.fd, c->reply + c->reply_len, sizeof c->reply - c->reply_len);
    if (got <= 0) {
        writer_failed(w, c);
        return;
    }
    c->reply_len += (size_t)got;
    if (c->reply[c->reply_len - 1] != '\n') {
        if (c->reply_len == sizeof c->reply) fail("a long reply to SET");
        return;
    }
    if (c->reply[0] == '-') {
        writer_failed(w, c);
        return;
    }
    if (c->reply_len != 5 || memcmp(c->reply, "+OK\r\n", 5) != 0) fail("SET: a strange reply");
    int64_t now = now_ns();
    histogram_add(&w->latency, now - c->began_ns);
    if (w->success_ns != 0 && now - w->success_ns > w->gap_ns) w->gap_ns = now - w->success_ns;
    w->success_ns = now;
    c->began_ns = now;
    writer_send(w, c);
}

static void writers_reconnect(struct writing *w)
{
    for (size_t i = 0; i < w->set->client_count; i++) {
        if (w->writers[i].conn.fd < 0) writer_connect(w, &w->writers[i]);
    }
}

/* Until standard input ends, which is the event behind the last writer's. */
static void writers_run(struct writing *w)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(w->epoll_fd, events, EVENTS_MAX, TICK_MS);
        if (count < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == w->set->client_count) return;
            writer_read(w, &w->writers[events[i].data.u64]);
        }
        writers_reconnect(w);
    }
}

int command_writers(const struct settings *s)
{
    static struct writing w;
    w.set = s;
    w.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w.writers = must_alloc(s->client_count, sizeof *w.writers);
    w.request.at = must_alloc(1, SCRATCH_BYTES);
    w.seed = (uint64_t)now_ns() | 1;
    values_init(&w.values, s);
    struct cpu since = cpu_now(s);
    int64_t begin_ns = now_ns();
    for (size_t i = 0; i < s->client_count; i++) {
        w.writers[i] = (struct writer){ .conn.fd = -1, .node = i, .began_ns = begin_ns };
    }
    writers_reconnect(&w);
    epoll_watch(w.epoll_fd, STDIN_FILENO, s->client_count);
    puts("ready");
    fflush(stdout);
    writers_run(&w);
    if (w.success_ns == 0) fail("no write succeeded");
    printf("gap_us=%.1f errors=%llu ", (double)w.gap_ns / 1e3, (unsigned long long)w.error_count);
    report(s, w.latency.count, now_ns() - begin_ns, &w.latency, since);
    return 0;
}
