/* tests/sim/sim_worker.c - see sim_worker.h. */
#include "sim_worker.h"

#include <stdio.h>
#include <stdlib.h>

#define OWN_KEYS 3
#define SHARED_KEYS 8
#define LOCAL_KEYS 24 /* of tests/load's kv/ */
#define BACK_MAX 300  /* revisions that a compaction keeps at most */

struct sim_worker {
    struct sim *s;
    enum sim_worker_kind kind;
    size_t number;
    struct load_conn c;
    uint64_t rev; /* the newest one heard of */
    /* PIPELINE: what its keys hold. Another generation of keys begins when an outcome is unknown:
     * what is under way may take effect much later. */
    uint64_t generation;
    uint64_t own[OWN_KEYS]; /* the number of the value; 0: nothing */
    int64_t counter;
};

/* Over the transport's clock: it is alone in its history, so plain numbers are unique. */
static size_t value_of(const struct sim_worker *w, uint64_t number, char out[48])
{
    return (size_t)snprintf(out, 48, "w%zu.%llu", w->number, (unsigned long long)number);
}

static void pause_some(struct sim_worker *w, int64_t times)
{
    int64_t ms = (int64_t)load_random(&w->c, (uint64_t)w->c.run->options->pause_ms * (uint64_t)times + 1);
    load_sleep_ms(ms);
}

static bool connected(struct sim_worker *w)
{
    if (w->c.reader != NULL && load_random(&w->c, 100) != 0) return true;
    if (load_connect(&w->c, load_random(&w->c, w->c.run->options->node_count))) return true;
    load_sleep_ms(100);
    return false;
}

/* --- pipelines --------------------------------------------------------------------------------- */

enum step_kind { STEP_SET, STEP_GET, STEP_INCR, STEP_COUNTER, STEP_SHARED_PUT, STEP_SHARED_GET };

struct step {
    enum step_kind kind;
    size_t op_at;
    size_t key;
    uint64_t value;
    char name[48];
};

static bool step_send(struct sim_worker *w, struct step *s)
{
    struct load_conn *c = &w->c;
    char value[48];
    *s = (struct step){
        .kind = (enum step_kind)load_random(c, 6), .key = load_random(c, OWN_KEYS), .op_at = c->h->op_count,
    };
    unsigned long long generation = w->generation;
    if (s->kind == STEP_INCR || s->kind == STEP_COUNTER) {
        snprintf(s->name, sizeof s->name, "pc/%zu/%llu", w->number, generation);
    } else if (s->kind >= STEP_SHARED_PUT) {
        snprintf(s->name, sizeof s->name, "kv/%05zu", (size_t)load_random(c, SHARED_KEYS));
    } else {
        snprintf(s->name, sizeof s->name, "pl/%zu/%llu/%zu", w->number, generation, s->key);
    }
    struct slice name = slice_of(s->name);
    switch (s->kind) {
    case STEP_SET:
    case STEP_SHARED_PUT: {
        s->value = ++c->seq;
        size_t len = value_of(w, s->value, value);
        load_begin(c, HISTORY_PUT);
        history_item(c->h, HISTORY_ITEM_PUT, name, (struct slice){ (const uint8_t *)value, len });
        return load_send(c, "SET %s %s", s->name, value);
    }
    case STEP_INCR:
        load_begin(c, HISTORY_INCR);
        history_item(c->h, HISTORY_ITEM_INCR, name, SLICE_NONE)->number = 1;
        return load_send(c, "INCR %s", s->name);
    case STEP_GET:
    case STEP_COUNTER:
    case STEP_SHARED_GET:
        load_begin(c, HISTORY_GET);
        history_item(c->h, HISTORY_ITEM_NONE, name, SLICE_NONE);
        return load_send(c, "GET %s", s->name);
    }
    return false;
}

/* What a GET saw goes into the place that was kept for it. */
static void step_saw(struct sim_worker *w, const struct step *s, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_NIL) return;
    struct history *h = w->c.h;
    struct history_item *item = &h->items[h->ops[s->op_at].item_first];
    item->role = HISTORY_ITEM_SAW;
    item->value = history_bytes(h, load_bytes(reply));
}

static void step_check(struct sim_worker *w, const struct step *s, const redisReply *reply)
{
    char value[48];
    struct slice due = { (const uint8_t *)value, 0 };
    if (s->kind == STEP_GET && w->own[s->key] != 0) due.len = value_of(w, w->own[s->key], value);
    if (s->kind == STEP_COUNTER && w->counter != 0) due.len = i64_format(w->counter, value);
    if (slice_eq(load_bytes(reply), due)) return;
    sim_fail(w->s, "order of one connection: GET %s answers '%s', '%.*s' is right", s->name,
             reply->str == NULL ? "" : reply->str, (int)due.len, value);
}

static void step_done(struct sim_worker *w, const struct step *s, const redisReply *reply)
{
    struct history *h = w->c.h;
    switch (s->kind) {
    case STEP_SET: w->own[s->key] = s->value; h->ops[s->op_at].applied = true; break;
    case STEP_SHARED_PUT: h->ops[s->op_at].applied = true; break;
    case STEP_INCR: {
        char digits[24];
        size_t len = i64_format(reply->integer, digits);
        if (reply->integer != w->counter + 1) {
            sim_fail(w->s, "order of one connection: INCR %s answers %lld behind %lld", s->name,
                     (long long)reply->integer, (long long)w->counter);
        }
        w->counter = reply->integer;
        h->ops[s->op_at].applied = true;
        h->items[h->ops[s->op_at].item_first].value = history_bytes(h, (struct slice){ (const uint8_t *)digits, len });
        break;
    }
    case STEP_GET:
    case STEP_COUNTER: step_check(w, s, reply); step_saw(w, s, reply); break;
    case STEP_SHARED_GET: step_saw(w, s, reply); break;
    }
}

static bool writes(const struct step *s) { return s->kind == STEP_SET || s->kind == STEP_INCR; }

static void run_pipeline(struct sim_worker *w)
{
    struct step steps[SIM_PIPELINE_MAX];
    size_t count = 2 + load_random(&w->c, SIM_PIPELINE_MAX - 1), sent = 0;
    bool unknown = false, alive = true;
    while (sent < count && alive) alive = step_send(w, &steps[sent++]);
    for (size_t i = 0; i < sent; i++) {
        const struct step *s = &steps[i];
        redisReply *reply = w->c.reader == NULL || !alive ? NULL : load_wait(&w->c);
        if (load_answered(&w->c, s->op_at, reply)) {
            if (!unknown) step_done(w, s, reply);
            else if (w->c.h->ops[s->op_at].kind == HISTORY_GET) step_saw(w, s, reply);
            else w->c.h->ops[s->op_at].applied = true;
        } else if (w->c.h->ops[s->op_at].outcome == HISTORY_UNKNOWN && writes(s)) {
            unknown = true;
        }
        if (reply != NULL) freeReplyObject(reply);
    }
    if (!unknown) return;
    w->generation++;
    w->counter = 0;
    memset(w->own, 0, sizeof w->own);
}

/* --- WATCH, MULTI, EXEC -------------------------------------------------------------------------- */

static bool answers(struct load_conn *c, size_t count)
{
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        redisReply *reply = load_wait(c);
        good = good && reply != NULL && reply->type != REDIS_REPLY_ERROR;
        if (reply == NULL) return false;
        freeReplyObject(reply);
    }
    return good;
}

/* EXEC is applied exactly if the key was not changed since WATCH. */
static void run_multi(struct sim_worker *w)
{
    struct load_conn *c = &w->c;
    char a[32], b[32], value[48];
    snprintf(a, sizeof a, "kv/%05zu", (size_t)load_random(c, SHARED_KEYS));
    snprintf(b, sizeof b, "mx/%zu", (size_t)load_random(c, 4));
    struct slice new_value = { (const uint8_t *)value, value_of(w, ++c->seq, value) };
    bool sent = load_send(c, "WATCH %s", a) && answers(c, 1);
    redisReply *kv = sent ? load_ask(c, "KV GET %s", a) : NULL;
    if (kv == NULL || kv->type == REDIS_REPLY_ERROR) {
        if (kv != NULL) freeReplyObject(kv);
        load_disconnect(c); /* with whatever is watched or queued */
        return;
    }
    uint64_t mod = kv->type == REDIS_REPLY_NIL ? 0 : load_u64(kv, "mod");
    freeReplyObject(kv);
    if (load_random(c, 3) == 0) load_sleep_ms((int64_t)load_random(c, 300));
    sent = load_send(c, "MULTI") && load_send(c, "SET %s %s", a, value) && load_send(c, "SET %s %s", b, value);
    if (!sent || !answers(c, 3)) {
        load_disconnect(c);
        return;
    }
    load_begin(c, HISTORY_TXN);
    history_item(c->h, HISTORY_ITEM_IF_MOD, slice_of(a), SLICE_NONE)->mod = mod;
    history_item(c->h, HISTORY_ITEM_PUT, slice_of(a), new_value);
    history_item(c->h, HISTORY_ITEM_PUT, slice_of(b), new_value);
    redisReply *reply = load_call(c, "EXEC");
    if (reply == NULL) {
        load_disconnect(c);
        return;
    }
    struct history_op *op = &c->h->ops[c->h->op_count - 1];
    bool refused = false; /* as a full disk does, each command for itself */
    for (size_t i = 0; i < reply->elements; i++) refused = refused || reply->element[i]->type == REDIS_REPLY_ERROR;
    op->applied = reply->type == REDIS_REPLY_ARRAY && !refused;
    if (!op->applied) op->outcome = HISTORY_REFUSED; /* changed since WATCH: maybe before KV GET */
    freeReplyObject(reply);
}

/* --- READONLY -------------------------------------------------------------------------------------- */

static void run_local(struct sim_worker *w, bool fresh)
{
    struct load_conn *c = &w->c;
    char key[32];
    if (fresh) {
        redisReply *ok = load_ask(c, "READONLY");
        bool good = ok != NULL && ok->type != REDIS_REPLY_ERROR;
        if (ok != NULL) freeReplyObject(ok);
        if (!good) {
            load_disconnect(c);
            return;
        }
    }
    snprintf(key, sizeof key, "kv/%05zu", (size_t)load_random(c, LOCAL_KEYS));
    load_begin(c, HISTORY_GET);
    c->h->ops[c->h->op_count - 1].flags = HISTORY_LOCAL;
    redisReply *reply = load_call(c, "KV GET %s", key);
    if (reply == NULL) return;
    load_saw(c, slice_of(key), reply);
    w->rev = MAX(w->rev, load_u64(reply, "mod"));
    freeReplyObject(reply);
}

/* --- KV COMPACT ------------------------------------------------------------------------------------ */

static void run_compact(struct sim_worker *w)
{
    struct load_conn *c = &w->c;
    redisReply *now = load_ask(c, "KV REVISION");
    uint64_t rev = now != NULL && now->type == REDIS_REPLY_INTEGER ? (uint64_t)now->integer : 0;
    if (now != NULL) freeReplyObject(now);
    else load_disconnect(c);
    uint64_t back = 1 + load_random(c, BACK_MAX);
    if (rev <= back) return;
    load_begin(c, HISTORY_COMPACT);
    c->h->ops[c->h->op_count - 1].at_rev = rev - back;
    redisReply *reply = load_call(c, "KV COMPACT %llu", (unsigned long long)(rev - back));
    if (reply == NULL) return;
    c->h->ops[c->h->op_count - 1].applied = true;
    freeReplyObject(reply);
}

/* --- XREAD BLOCK ------------------------------------------------------------------------------------- */


static uint64_t entry_u64(const redisReply *fields, const char *name)
{
    const redisReply *field = load_field(fields, name);
    return field == NULL || field->str == NULL ? 0 : strtoull(field->str, NULL, 10);
}

static void stream_entry(struct sim_worker *w, uint64_t watch, const redisReply *entry)
{
    char *dash = NULL;
    struct history_mark m = { .watch = watch, .time_ns = load_now_ns(), .prev_mod = -1 };
    m.rev = strtoull(entry->element[0]->str, &dash, 10);
    m.event.n = *dash == '-' ? (uint32_t)strtoul(dash + 1, NULL, 10) : 0;
    const redisReply *fields = entry->element[1];
    const redisReply *op = load_field(fields, "op");
    if (op == NULL || op->str == NULL) sim_fail(w->s, "an entry without op");
    if (strcmp(op->str, "progress") == 0) {
        m.kind = HISTORY_MARK_PROGRESS;
        m.rev--; /* its id is the one to go on from */
        m.event.n = 0;
        w->rev = m.rev + 1;
        history_add_mark(w->c.h, &m);
        return;
    }
    m.kind = HISTORY_MARK_EVENT;
    m.event.rev = m.rev;
    m.event.op = strcmp(op->str, "put") == 0   ? HISTORY_EVENT_PUT
                 : strcmp(op->str, "del") == 0 ? HISTORY_EVENT_DEL
                                               : HISTORY_EVENT_EXPIRE;
    m.event.key = load_bytes(load_field(fields, "key"));
    m.event.value = load_bytes(load_field(fields, "value"));
    m.event.create = entry_u64(fields, "create");
    m.event.version = entry_u64(fields, "version");
    m.event.lease = entry_u64(fields, "lease");
    history_add_mark(w->c.h, &m);
    w->rev = m.rev + 1;
}

static void stream_mark(struct sim_worker *w, enum history_mark_kind kind, uint64_t watch)
{
    struct history_mark m = { .kind = kind, .watch = watch, .time_ns = load_now_ns() };
    history_add_mark(w->c.h, &m);
}

/* True: more may come. */
static bool stream_read(struct sim_worker *w, uint64_t watch, bool blocks)
{
    redisReply *reply = load_ask(&w->c, blocks ? "XREAD COUNT 50 BLOCK 2000 STREAMS __watch__: %llu"
                                               : "XREAD COUNT 50 STREAMS __watch__: %llu",
                                 (unsigned long long)w->rev);
    if (reply == NULL) load_disconnect(&w->c);
    if (reply == NULL) return false;
    bool good = reply->type != REDIS_REPLY_ERROR;
    bool any = reply->type == REDIS_REPLY_ARRAY && reply->elements == 1;
    const redisReply *entries = any ? reply->element[0]->element[1] : NULL;
    for (size_t i = 0; any && i < entries->elements; i++) stream_entry(w, watch, entries->element[i]);
    if (!good) {
        load_count_error(w->c.run, reply->str);
        w->rev = MAX(w->rev, load_oldest(reply->str));
        load_disconnect(&w->c);
    }
    freeReplyObject(reply);
    return good && (blocks || any);
}

static void run_stream(struct sim_worker *w)
{
    struct history_watch watch = {
        .id = atomic_fetch_add(&w->c.run->next_watch, 1), .client = w->c.client, .from = w->rev,
    };
    history_add_watch(w->c.h, &watch);
    while (!atomic_load(&w->c.run->stop) && stream_read(w, watch.id, true)) {
        if (load_random(&w->c, 30) == 0) break;
    }
    stream_mark(w, HISTORY_MARK_BROKEN, watch.id);
}

/* --- a worker -------------------------------------------------------------------------------------------- */

struct sim_worker *sim_worker_new(struct sim *s, enum sim_worker_kind kind, size_t number, struct load_run *run)
{
    struct sim_worker *w = mem_zalloc(sizeof *w);
    w->s = s;
    w->kind = kind;
    w->number = number;
    w->rev = 1;
    load_conn_init(&w->c, run, sim_random(s, UINT64_MAX));
    return w;
}

void *sim_worker_run(void *worker)
{
    struct sim_worker *w = worker;
    while (!atomic_load(&w->c.run->stop)) {
        uint32_t before = w->c.client;
        if (!connected(w)) continue;
        switch (w->kind) {
        case SIM_WORKER_PIPELINE: run_pipeline(w); pause_some(w, 6); break;
        case SIM_WORKER_MULTI: run_multi(w); pause_some(w, 4); break;
        case SIM_WORKER_LOCAL: run_local(w, w->c.client != before); pause_some(w, 2); break;
        case SIM_WORKER_COMPACT: run_compact(w); pause_some(w, 20); break;
        case SIM_WORKER_STREAM: run_stream(w); break;
        }
    }
    load_disconnect(&w->c);
    return NULL;
}

struct history *sim_worker_history(struct sim_worker *w) { return w->c.h; }

void sim_worker_free(struct sim_worker *w)
{
    history_free(w->c.h);
    mem_free(w);
}
