/* Closed loops: every client sends its commands, waits for all replies, sends again. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define EVENTS_MAX 512
#define COMMAND_OVERHEAD_BYTES 512 /* words, lengths and two keys around the value */
#define ID_WORD_BYTES 32
#define LEASE_SECONDS "3600"

struct client {
    struct conn conn;
    size_t index;
    size_t waiting; /* replies still to come */
    int64_t sent_ns;
    uint64_t rev; /* cas: the revision of its key */
    int64_t *ids; /* keepalive: its leases */
};

struct loop {
    const struct settings *set;
    const struct workload *work;
    struct client *clients;
    struct values values;
    struct histogram latency;
    struct request request;
    char *scratch;
    uint64_t seed;
    uint64_t issued;
    uint64_t answered;
    size_t busy_count; /* clients with replies to come */
};

struct workload {
    const char *name;
    void (*prepare)(struct loop *l, struct client *c); /* may be NULL */
    void (*request)(struct loop *l, struct client *c);
    void (*reply)(struct loop *l, struct client *c, const char *at, size_t len);
};

static uint64_t key_next(struct loop *l)
{
    uint64_t n = l->set->sequential ? l->issued : random_next(&l->seed);
    return n % l->set->key_count;
}

/* --- set, get --- */

static void set_request(struct loop *l, struct client *c)
{
    (void)c;
    request_begin(&l->request, 3);
    request_text(&l->request, "SET");
    request_key(&l->request, l->set->prefix, key_next(l));
    request_word(&l->request, values_next(&l->values), l->set->value_bytes);
}

static void set_reply(struct loop *l, struct client *c, const char *at, size_t len)
{
    (void)l, (void)c;
    if (len != 5 || memcmp(at, "+OK\r\n", 5) != 0) fail("SET: %.*s", (int)len, at);
}

static void get_request(struct loop *l, struct client *c)
{
    (void)c;
    request_begin(&l->request, 2);
    request_text(&l->request, "GET");
    request_key(&l->request, l->set->prefix, key_next(l));
}

static void get_reply(struct loop *l, struct client *c, const char *at, size_t len)
{
    (void)c;
    if (at[0] != '$' || len < l->set->value_bytes) fail("GET: %.*s", (int)len, at);
}

/* --- cas: the revision of the last success is the condition of the next --- */

static void cas_key_write(struct request *r, const struct client *c)
{
    request_key(r, "cas:", c->index);
}

static void cas_request(struct loop *l, struct client *c)
{
    struct request *r = &l->request;
    request_begin(r, 13);
    request_text(r, "TXN");
    request_text(r, "IF");
    request_text(r, "1");
    request_text(r, "MOD");
    cas_key_write(r, c);
    request_text(r, "=");
    request_number(r, c->rev);
    request_text(r, "THEN");
    request_text(r, "1");
    request_text(r, "3");
    request_text(r, "SET");
    cas_key_write(r, c);
    request_word(r, values_next(&l->values), l->set->value_bytes);
}

static void cas_prepare(struct loop *l, struct client *c)
{
    struct request *r = &l->request;
    if (l->set->pipeline != 1) fail("cas: a client knows the next revision only from the reply");
    r->len = 0;
    request_begin(r, 2);
    request_text(r, "DEL");
    cas_key_write(r, c);
    conn_call(&c->conn, r->at, r->len, l->scratch);
    c->rev = 0; /* must not exist */
}

static void cas_reply(struct loop *l, struct client *c, const char *at, size_t len)
{
    (void)l;
    if (reply_integer(at, len, "succeeded") != 1) fail("cas: lost a race for its own key");
    uint64_t rev = (uint64_t)reply_integer(at, len, "revision");
    if (rev <= c->rev) fail("cas: revision %llu after %llu", (unsigned long long)rev,
                            (unsigned long long)c->rev);
    c->rev = rev;
}

/* --- keepalive --- */

static void keepalive_prepare(struct loop *l, struct client *c)
{
    static const char grant[] = "*3\r\n$5\r\nLEASE\r\n$5\r\nGRANT\r\n$4\r\n" LEASE_SECONDS "\r\n";
    c->ids = must_alloc(l->set->id_count, sizeof *c->ids);
    for (size_t i = 0; i < l->set->id_count; i++) {
        size_t len = conn_call(&c->conn, grant, sizeof grant - 1, l->scratch);
        c->ids[i] = reply_integer(l->scratch, len, "id");
    }
}

static void keepalive_request(struct loop *l, struct client *c)
{
    struct request *r = &l->request;
    request_begin(r, 2 + l->set->id_count);
    request_text(r, "LEASE");
    request_text(r, "KEEPALIVE");
    for (size_t i = 0; i < l->set->id_count; i++) request_number(r, (uint64_t)c->ids[i]);
}

static void keepalive_reply(struct loop *l, struct client *c, const char *at, size_t len)
{
    char head[32];
    (void)c;
    int head_len = snprintf(head, sizeof head, "*%zu\r\n", l->set->id_count);
    if (len < (size_t)head_len || memcmp(at, head, (size_t)head_len) != 0 ||
        memmem(at, len, ":-", 2) != NULL) {
        fail("keepalive: %.*s", (int)len, at);
    }
}

static const struct workload workloads[] = {
    { .name = "set", .request = set_request, .reply = set_reply },
    { .name = "get", .request = get_request, .reply = get_reply },
    { .name = "cas", .prepare = cas_prepare, .request = cas_request, .reply = cas_reply },
    { .name = "keepalive", .prepare = keepalive_prepare, .request = keepalive_request,
      .reply = keepalive_reply },
};

/* --- the loop --- */

static void client_send(struct loop *l, struct client *c, int64_t now)
{
    const struct settings *s = l->set;
    l->request.len = 0;
    for (size_t i = 0; i < s->pipeline && (s->total == 0 || l->issued < s->total); i++) {
        l->work->request(l, c);
        l->issued++;
        c->waiting++;
    }
    if (c->waiting == 0) return;
    c->sent_ns = now;
    l->busy_count++;
    conn_send(&c->conn, l->request.at, l->request.len);
}

static void client_read(struct loop *l, struct client *c)
{
    size_t len = conn_read(&c->conn, l->scratch);
    const char *at = l->scratch;
    while (len > 0) {
        size_t used = reply_len(at, len);
        if (used == 0) break;
        if (c->waiting == 0) fail("a reply to nothing");
        l->work->reply(l, c, at, used);
        l->answered++;
        c->waiting--;
        at += used;
        len -= used;
    }
    conn_keep(&c->conn, at, len);
}

static void loop_run(struct loop *l, int epoll_fd, int64_t deadline_ns)
{
    struct epoll_event events[EVENTS_MAX];
    for (size_t i = 0; i < l->set->client_count; i++) client_send(l, &l->clients[i], now_ns());
    while (l->busy_count > 0) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, 10000);
        if (count < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        if (count == 0) fail("no reply for 10 s");
        for (int i = 0; i < count; i++) {
            struct client *c = &l->clients[events[i].data.u64];
            client_read(l, c);
            if (c->waiting > 0) continue;
            int64_t now = now_ns();
            histogram_add(&l->latency, now - c->sent_ns);
            l->busy_count--;
            if (l->set->total > 0 || now < deadline_ns) client_send(l, c, now);
        }
    }
}

static const struct workload *workload_find(const char *name)
{
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(workloads[i].name, name) == 0) return &workloads[i];
    }
    fail("unknown command %s", name);
}

int command_closed_loop(const char *name, const struct settings *s)
{
    static struct loop l;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    size_t command_bytes = COMMAND_OVERHEAD_BYTES + s->value_bytes + s->id_count * ID_WORD_BYTES;
    l.set = s;
    l.work = workload_find(name);
    l.clients = must_alloc(s->client_count, sizeof *l.clients);
    l.scratch = must_alloc(1, SCRATCH_BYTES);
    l.request.at = must_alloc(s->pipeline, command_bytes);
    l.seed = (uint64_t)now_ns() | 1;
    values_init(&l.values, s);
    for (size_t i = 0; i < s->client_count; i++) {
        struct client *c = &l.clients[i];
        c->index = i;
        conn_open(&c->conn, port_of(s, i));
        epoll_watch(epoll_fd, c->conn.fd, i);
        if (l.work->prepare != NULL) l.work->prepare(&l, c);
    }
    struct cpu since = cpu_now(s);
    int64_t begin_ns = now_ns();
    loop_run(&l, epoll_fd, begin_ns + (int64_t)(s->seconds * (double)NS_PER_S));
    report(s, l.answered, now_ns() - begin_ns, &l.latency, since);
    return 0;
}
