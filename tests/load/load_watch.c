/* Watchers: one stream a registration, resumed on any node where the last one ended; and the
 * event log as a node tells it. */
#include "load.h"

#include <stdlib.h>

#define LOG_COUNT 5000 /* events a KV READ */

struct stream {
    struct load_conn *c;
    struct history_watch watch;
    uint64_t next; /* where a stream behind this one has to begin */
    bool ended;
    struct buf raw; /* received, not yet handed to hiredis */
};

static struct history_event event_of(const redisReply *const *field)
{
    struct history_event event = { .rev = (uint64_t)field[0]->integer };
    const char *op = field[1]->str == NULL ? "" : field[1]->str;
    event.op = strcmp(op, "put") == 0   ? HISTORY_EVENT_PUT
               : strcmp(op, "del") == 0 ? HISTORY_EVENT_DEL
                                        : HISTORY_EVENT_EXPIRE;
    event.key = load_bytes(field[2]);
    event.value = load_bytes(field[3]);
    event.create = (uint64_t)field[4]->integer;
    event.version = (uint64_t)field[5]->integer;
    event.lease = (uint64_t)field[6]->integer;
    return event;
}

uint64_t load_oldest(const char *error)
{
    const char *oldest = strncmp(error, "COMPACTED", 9) == 0 ? strstr(error, "oldest is ") : NULL;
    return oldest == NULL ? 0 : strtoull(oldest + 10, NULL, 10);
}

static void mark(struct stream *s, enum history_mark_kind kind, uint64_t rev)
{
    struct history_mark m = {
        .kind = kind, .watch = s->watch.id, .time_ns = load_now_ns(), .rev = rev
    };
    history_add_mark(s->c->h, &m);
}

/* kvwatch id rev (op key value create version lease [prev prevmod] | progress | canceled reason) */
static void take_push(struct stream *s, redisReply *push)
{
    if ((uint64_t)push->element[1]->integer != s->watch.id) return;
    uint64_t rev = (uint64_t)push->element[2]->integer;
    const char *word = push->element[3]->str == NULL ? "" : push->element[3]->str;
    if (strcmp(word, "progress") == 0) {
        mark(s, HISTORY_MARK_PROGRESS, rev);
        s->next = MAX(s->next, rev + 1);
    } else if (strcmp(word, "canceled") == 0) {
        mark(s, HISTORY_MARK_CANCELED, rev);
        s->next = rev;
        if (push->elements > 4 && push->element[4]->str != NULL) {
            load_count_error(s->c->run, push->element[4]->str);
            s->next = MAX(rev, load_oldest(push->element[4]->str));
        }
        s->ended = true;
    } else if (push->elements >= 9) {
        const redisReply *field[7];
        for (size_t i = 0; i < ARRAY_LEN(field); i++) field[i] = push->element[i + 2];
        struct history_mark m = { .kind = HISTORY_MARK_EVENT,
                                  .watch = s->watch.id,
                                  .time_ns = load_now_ns(),
                                  .rev = rev,
                                  .event = event_of(field),
                                  .prev_mod = -1 };
        if (push->elements >= 11) {
            m.prev = load_bytes(push->element[9]);
            m.prev_mod = push->element[10]->integer;
        }
        history_add_mark(s->c->h, &m);
        s->next = rev; /* the rest of this revision may still be to come */
    }
}

/* --- RESP3 for a hiredis that knows RESP2 --------------------------------------------------------
 */

/* The length of the line or bulk string at the front, 0 if it is not all there. */
static size_t token_bytes(struct slice in)
{
    const uint8_t *end = memmem(in.at, in.len, "\r\n", 2);
    if (end == NULL) return 0;
    size_t line = (size_t)(end - in.at);
    int64_t body = -1;
    if (in.at[0] == '$' && i64_parse((struct slice){ in.at + 1, line - 1 }, &body) != OK) return 0;
    size_t whole = body < 0 ? line + 2 : line + 4 + (size_t)body;
    return whole <= in.len ? whole : 0;
}

/* Hands over what is whole: pushes as arrays, maps as flat arrays, null as a null bulk. */
static void feed(struct stream *s)
{
    CLEANUP(buf_deinit) struct buf out = { .len = 0 };
    size_t at = 0, bytes;
    while (at < s->raw.len &&
           (bytes = token_bytes((struct slice){ s->raw.at + at, s->raw.len - at })) > 0) {
        const uint8_t *token = s->raw.at + at;
        int64_t pairs;
        if (token[0] == '>') {
            buf_append_u8(&out, '*');
            buf_append(&out, token + 1, bytes - 1);
        } else if (token[0] == '_') {
            buf_append_slice(&out, SLICE_LIT("$-1\r\n"));
        } else if (token[0] == '%' &&
                   i64_parse((struct slice){ token + 1, bytes - 3 }, &pairs) == OK) {
            buf_printf(&out, "*%lld\r\n", (long long)pairs * 2);
        } else {
            buf_append(&out, token, bytes);
        }
        at += bytes;
    }
    buf_consume(&s->raw, at);
    if (out.len > 0) redisReaderFeed(s->c->reader, (const char *)out.at, out.len);
}

static bool is_push(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements >= 4 &&
           slice_eq(load_bytes(reply->element[0]), SLICE_LIT("kvwatch"));
}

/* Takes what arrives, for wait_ms at most behind the last. Sets *reply to the first that is no
 * push; false: broken. */
static bool take_arrived(struct stream *s, int wait_ms, redisReply **reply)
{
    void *one = NULL;
    for (bool waited = false;;) {
        if (redisReaderGetReply(s->c->reader, &one) != REDIS_OK) return false;
        redisReply *got = one;
        if (got != NULL && !is_push(got)) {
            *reply = got;
            return true;
        }
        if (got != NULL) {
            take_push(s, got);
            freeReplyObject(got);
            if (s->ended) return true;
            continue;
        }
        if (waited) return true;
        int got_bytes = load_read(s->c, &s->raw, wait_ms);
        if (got_bytes < 0) return false;
        if (got_bytes == 0) waited = true;
        feed(s);
    }
}

/* The answer to what was sent last; NULL: broken, canceled, or none in time. */
static redisReply *answer(struct stream *s)
{
    int64_t end_ns = load_now_ns() + (int64_t)s->c->run->options->timeout_ms * 1000000;
    redisReply *reply = NULL;
    while (reply == NULL && load_now_ns() < end_ns) {
        if (!take_arrived(s, 100, &reply) || s->ended) break;
    }
    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) return reply;
    load_count_error(s->c->run, reply->str);
    s->next = MAX(s->next, load_oldest(reply->str));
    freeReplyObject(reply);
    return NULL;
}

/* --- streams
 * ---------------------------------------------------------------------------------------- */

/* Which keys watcher `number` wants: everything, one folder, one key, everything but deletes. */
static struct history_watch wanted(size_t number)
{
    struct history_watch watch = { .flags = HISTORY_WATCH_PREV };
    switch (number % 4) {
    case 1:
        watch.begin = SLICE_LIT("kv/");
        watch.end = SLICE_LIT("kv0");
        break;
    case 2:
        watch.begin = SLICE_LIT("lk/0");
        watch.end = SLICE_LIT("lk/00");
        break;
    case 3: watch.flags |= HISTORY_WATCH_NO_DEL; break;
    default: break;
    }
    return watch;
}

static bool stream_begin(struct stream *s, size_t number, uint64_t from)
{
    s->watch = wanted(number);
    s->watch.id = atomic_fetch_add(&s->c->run->next_watch, 1);
    s->watch.client = s->c->client;
    s->watch.from = s->next = from;
    const char *option = (s->watch.flags & HISTORY_WATCH_NO_DEL) != 0 ? "NODEL" : "PREVKV";
    history_add_watch(s->c->h, &s->watch);
    bool sent = load_send(s->c, "HELLO 3") &&
        load_send(s->c, "KV WATCH %b END %b FROM %llu PREVKV PROGRESS 500 ID %llu %s",
                       s->watch.begin.at, s->watch.begin.len, s->watch.end.at, s->watch.end.len,
                       (unsigned long long)from, (unsigned long long)s->watch.id, option);
    if (!sent) return false;
    redisReply *hello = answer(s);
    redisReply *begun = hello == NULL ? NULL : answer(s);
    if (hello != NULL) freeReplyObject(hello);
    if (begun != NULL) freeReplyObject(begun);
    return begun != NULL;
}

/* Everything up to the present, said by the node; false: not to be had now. */
static bool stream_finish(struct stream *s)
{
    bool sent = load_send(s->c, "KV PROGRESS %llu", (unsigned long long)s->watch.id);
    redisReply *reply = sent ? answer(s) : NULL;
    bool told = reply != NULL && reply->type == REDIS_REPLY_INTEGER;
    if (told) mark(s, HISTORY_MARK_PROGRESS, (uint64_t)reply->integer);
    if (reply != NULL) freeReplyObject(reply);
    return told;
}

/* One registration until it ends; true: the run is over and all was delivered. */
static bool stream_run(struct stream *s, size_t number, uint64_t from)
{
    s->ended = false;
    buf_clear(&s->raw);
    bool alive = stream_begin(s, number, from);
    while (alive && !s->ended && !atomic_load(&s->c->run->stop)) {
        redisReply *reply = NULL;
        alive = take_arrived(s, s->c->run->options->poll_ms > 0 ? s->c->run->options->poll_ms : 100, &reply);
        if (reply != NULL) freeReplyObject(reply);
        if (load_random(s->c, 200) == 0) break; /* leaves without need, to resume elsewhere */
    }
    bool over = atomic_load(&s->c->run->stop) && alive && !s->ended && stream_finish(s);
    if (!over && !s->ended) mark(s, HISTORY_MARK_BROKEN, 0);
    load_disconnect(s->c);
    return over;
}

void *load_watcher_run(void *watcher)
{
    struct load_watcher *w = watcher;
    struct load_run *run = w->conn.run;
    struct stream s = { .c = &w->conn, .next = 1 };
    int64_t end_ns = 0;
    for (;;) {
        if (atomic_load(&run->stop) && end_ns == 0) {
            end_ns = load_now_ns() + (int64_t)run->options->end_seconds * 1000000000;
        }
        if (end_ns != 0 && load_now_ns() > end_ns) break;
        if (!load_connect(&w->conn, load_random(&w->conn, run->options->node_count))) {
            load_sleep_ms(20);
        } else if (stream_run(&s, w->number, s.next)) {
            buf_deinit(&s.raw);
            return NULL;
        }
    }
    buf_deinit(&s.raw);
    load_count_error(run, "(a watcher could not finish)");
    return NULL;
}

/* --- the event log
 * -------------------------------------------------------------------------------- */

static void log_event(struct load_conn *c, const struct history_event *event, uint64_t watch)
{
    if (watch == 0) {
        history_add_event(c->h, event);
        return;
    }
    struct history_mark m = { .kind = HISTORY_MARK_EVENT,
                              .watch = watch,
                              .time_ns = load_now_ns(),
                              .rev = event->rev,
                              .event = *event,
                              .prev_mod = -1 };
    history_add_mark(c->h, &m);
}

/* A stream ends where the log ended that was read before it: leases go on expiring. */
static bool log_page(struct load_conn *c, const redisReply *events, uint64_t watch,
                     struct history_event *last)
{
    static const char *const names[] = {
        "rev", "op", "key", "value", "create", "version", "lease"
    };
    for (size_t i = 0; i < events->elements; i++) {
        const redisReply *field[ARRAY_LEN(names)];
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            field[k] = load_field(events->element[i], names[k]);
            if (field[k] == NULL) return false;
        }
        struct history_event event = event_of(field);
        if (watch != 0 && (c->h->log_count == 0 || event.rev > c->h->log[c->h->log_count - 1].rev))
            break;
        event.n = event.rev == last->rev ? last->n + 1 : 1;
        log_event(c, &event, watch);
        last->rev = event.rev;
        last->n = event.n;
    }
    return true;
}

/* One page. 1: there may be more, 0: that was the end, -1: not to be had. */
static int log_next(struct load_conn *c, uint64_t *next, uint64_t watch, struct history_event *last)
{
    redisReply *reply = load_ask(c, "KV READ %b PREFIX FROM %llu COUNT %d", "", (size_t)0,
                                 (unsigned long long)*next, LOG_COUNT);
    const redisReply *events = reply == NULL ? NULL : load_field(reply, "events");
    int result = events != NULL && log_page(c, events, watch, last) ? events->elements > 0 : -1;
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR) load_count_error(c->run, reply->str);
    if (result >= 0) *next = load_u64(reply, "next");
    if (reply != NULL) freeReplyObject(reply);
    return result;
}

/* The oldest revision that this node has. */
static uint64_t oldest(struct load_conn *c)
{
    uint64_t rev = 1;
    redisReply *reply = load_ask(c, "KV READ %b PREFIX FROM 1 COUNT 1", "", (size_t)0);
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR) rev = MAX(load_oldest(reply->str), 1);
    if (reply != NULL) freeReplyObject(reply);
    return rev;
}

bool load_read_log(struct load_conn *c, bool as_stream)
{
    struct history_watch watch = { .id = 0, .client = c->client, .from = 1 };
    if (as_stream) {
        watch.id = atomic_fetch_add(&c->run->next_watch, 1);
        watch.from = oldest(c);
        history_add_watch(c->h, &watch);
    }
    struct history_event last = { .rev = 0 };
    uint64_t next = watch.from;
    int result = 1;
    while (result > 0 && c->reader != NULL) result = log_next(c, &next, watch.id, &last);
    struct history_mark m = { .kind = result == 0 ? HISTORY_MARK_PROGRESS : HISTORY_MARK_BROKEN,
                              .watch = watch.id, .time_ns = load_now_ns(), .rev = last.rev };
    if (result != 0) m.rev = 0;
    if (as_stream) history_add_mark(c->h, &m);
    return result == 0;
}
