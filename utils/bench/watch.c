/* Watchers: how many events a second arrive, and that none is missing. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define EVENTS_MAX 512
#define WATCHED_KEY "watched/key"
#define QUIET_MS_MAX 10000 /* this long without an event means that some are missing */
#define FRAME_HEAD_BYTES 17

static const char hello[] = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
/* what every pushed frame has behind its element count, which is one digit */
static const char frame_name[] = "\r\n$7\r\nkvwatch\r\n";

struct watcher {
    struct conn conn;
    uint64_t event_count;
    size_t frame_len; /* of the last frame: most are as long as the one before */
};

struct writer {
    struct conn conn;
    int64_t sent_ns;
};

struct watch {
    const struct settings *set;
    struct watcher *watchers;
    struct writer *writers;
    struct values values;
    struct histogram latency;
    char *scratch;
    uint64_t set_count;
    uint64_t event_count;
    size_t busy_count; /* writers that wait */
};

static void words_send(const struct conn *c, const char *const *words, size_t count)
{
    char bytes[512];
    struct request r = { .at = bytes };
    request_begin(&r, count);
    for (size_t i = 0; i < count; i++) request_text(&r, words[i]);
    conn_send(c, r.at, r.len);
}

/* Reads `count` replies; nothing is written yet, so nothing may be pushed. */
static void replies_await(struct conn *c, size_t count, char *scratch)
{
    while (count > 0) {
        size_t len = conn_read(c, scratch);
        const char *at = scratch;
        for (size_t used; len > 0 && (used = reply_len(at, len)) > 0; at += used, len -= used) {
            if (*at == '>') fail("an event before any write");
            if (count-- == 0) fail("a reply to nothing");
        }
        conn_keep(c, at, len);
    }
}

/* Watches are asked for in groups: requests and replies must not fill both directions. */
#define WATCH_GROUP 100

static void watcher_open(struct watch *w, struct watcher *x)
{
    conn_open(&x->conn, port_of(w->set, (size_t)(x - w->watchers)));
    conn_call(&x->conn, hello, sizeof hello - 1, w->scratch);
}

static void watcher_watch(struct watch *w, struct watcher *x, size_t first, size_t count,
                          bool own_key)
{
    char key[64];
    for (size_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "other/%06zu/", first + i);
        const char *const one[] = { "KV", "WATCH", WATCHED_KEY };
        const char *const other[] = { "KV", "WATCH", key, "PREFIX" };
        words_send(&x->conn, own_key ? one : other, own_key ? 3 : 4);
        if ((i + 1) % WATCH_GROUP == 0) replies_await(&x->conn, WATCH_GROUP, w->scratch);
    }
    replies_await(&x->conn, count % WATCH_GROUP, w->scratch);
}

static void watchers_start(struct watch *w, bool own_key)
{
    const struct settings *s = w->set;
    size_t each = s->watcher_count / s->client_count;
    if (each * s->client_count != s->watcher_count) fail("--watchers must divide by --clients");
    w->watchers = must_alloc(s->client_count, sizeof *w->watchers);
    for (size_t i = 0; i < s->client_count; i++) {
        watcher_open(w, &w->watchers[i]);
        watcher_watch(w, &w->watchers[i], i * each, each, own_key);
    }
}

static bool is_frame_head(const char *at)
{
    return at[0] == '>' && memcmp(at + 2, frame_name, sizeof frame_name - 1) == 0;
}

/* Length of a frame that is exactly as long as the last one, else 0. Walking through all elements
 * of every frame would cost the client as much as the event costs the server. */
static size_t frame_len_again(const struct watcher *x, const char *at, size_t len)
{
    size_t n = x->frame_len;
    if (n == 0 || len < n || !is_frame_head(at)) return 0;
    if (at[n - 2] != '\r' || at[n - 1] != '\n') return 0;
    return len == n || at[n] == '>' ? n : 0;
}

static size_t frame_len(struct watcher *x, const char *at, size_t len)
{
    size_t n = frame_len_again(x, at, len);
    if (n > 0) return n;
    n = reply_len(at, len);
    if (n == 0) return 0;
    bool is_event = n >= FRAME_HEAD_BYTES && is_frame_head(at);
    if (!is_event || memmem(at, n, "\r\n$3\r\nput\r\n", 11) == NULL) {
        fail("not an event: %.*s", (int)n, at);
    }
    x->frame_len = n;
    return n;
}

static void watcher_read(struct watch *w, struct watcher *x)
{
    size_t len = conn_read(&x->conn, w->scratch);
    const char *at = w->scratch;
    uint64_t count = 0;
    for (size_t used; len > 0 && (used = frame_len(x, at, len)) > 0; count++) {
        at += used;
        len -= used;
    }
    conn_keep(&x->conn, at, len);
    x->event_count += count;
    w->event_count += count;
}

static void writer_send(struct watch *w, struct writer *x, int64_t now)
{
    char bytes[512 + 65536];
    struct request r = { .at = bytes };
    request_begin(&r, 3);
    request_text(&r, "SET");
    request_text(&r, WATCHED_KEY);
    request_word(&r, values_next(&w->values), w->set->value_bytes);
    x->sent_ns = now;
    w->busy_count++;
    conn_send(&x->conn, r.at, r.len);
}

static void writer_read(struct watch *w, struct writer *x, int64_t deadline_ns)
{
    size_t len = conn_read(&x->conn, w->scratch);
    size_t used = reply_len(w->scratch, len);
    if (used != len || w->scratch[0] != '+') fail("SET: %.*s", (int)len, w->scratch);
    int64_t now = now_ns();
    histogram_add(&w->latency, now - x->sent_ns);
    w->set_count++;
    w->busy_count--;
    if (now < deadline_ns) writer_send(w, x, now);
}

/* Writes until the deadline, then reads until every event of every write has arrived. */
static void watch_run(struct watch *w, int epoll_fd, int64_t deadline_ns)
{
    struct epoll_event events[EVENTS_MAX];
    const struct settings *s = w->set;
    for (size_t i = 0; i < s->writer_count; i++) writer_send(w, &w->writers[i], now_ns());
    while (w->busy_count > 0 || w->event_count < w->set_count * s->watcher_count) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, QUIET_MS_MAX);
        if (count < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        if (count == 0) {
            fail("%llu events of %llu are missing",
                 (unsigned long long)(w->set_count * s->watcher_count - w->event_count),
                 (unsigned long long)(w->set_count * s->watcher_count));
        }
        for (int i = 0; i < count; i++) {
            size_t index = events[i].data.u64;
            if (index < s->client_count) watcher_read(w, &w->watchers[index]);
            else writer_read(w, &w->writers[index - s->client_count], deadline_ns);
        }
    }
}

/* Each connection must have got its own share: a total can be right by two mistakes. */
static void shares_check(const struct watch *w)
{
    uint64_t share = w->set_count * (w->set->watcher_count / w->set->client_count);
    for (size_t i = 0; i < w->set->client_count; i++) {
        if (w->watchers[i].event_count != share) {
            fail("connection %zu got %llu events instead of %llu", i,
                 (unsigned long long)w->watchers[i].event_count, (unsigned long long)share);
        }
    }
}

int command_watch(const struct settings *s)
{
    static struct watch w;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w.set = s;
    w.scratch = must_alloc(1, SCRATCH_BYTES);
    w.writers = must_alloc(s->writer_count, sizeof *w.writers);
    values_init(&w.values, s);
    watchers_start(&w, true);
    for (size_t i = 0; i < s->client_count; i++) epoll_watch(epoll_fd, w.watchers[i].conn.fd, i);
    for (size_t i = 0; i < s->writer_count; i++) {
        conn_open(&w.writers[i].conn, port_of(s, i));
        epoll_watch(epoll_fd, w.writers[i].conn.fd, s->client_count + i);
    }
    struct cpu since = cpu_now(s);
    int64_t begin_ns = now_ns();
    watch_run(&w, epoll_fd, begin_ns + (int64_t)(s->seconds * (double)NS_PER_S));
    int64_t end_ns = now_ns();
    shares_check(&w);
    printf("sets=%llu ", (unsigned long long)w.set_count);
    report(s, w.event_count, end_ns - begin_ns, &w.latency, since);
    return 0;
}

int command_hold(const struct settings *s)
{
    static struct watch w;
    w.set = s;
    w.scratch = must_alloc(1, SCRATCH_BYTES);
    watchers_start(&w, false);
    hold_until_eof();
    return 0;
}
