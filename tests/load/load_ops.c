/* The operations of a worker: each sends one command and records it. */
#include "load.h"

#include <stdlib.h>

#define LEASE_KEYS      3
#define OWN_LOCKS       4
#define SHARED_COUNTERS 4
#define REMEMBERED      64

uint64_t load_list_number(const struct load_run *run)
{
    int64_t seconds = (load_now_ns() - run->begin_ns) / 1000000000;
    return (uint64_t)(seconds / MAX(run->options->list_seconds, 1));
}

/* A worker's memory between operations. */
struct worker {
    struct load_conn *c;
    uint64_t lease;
    int64_t lease_ttl_ms;
    uint64_t lease_count;
    struct {
        int64_t key;
        uint64_t mod;
    } seen[REMEMBERED]; /* what compares expect */
    uint64_t rev;       /* the last one heard of */
    char *value;        /* a unique one, made by next_value */
    size_t value_len;
};

struct key {
    char text[64];
};

static struct slice as_slice(const struct key *key)
{
    return slice_of(key->text);
}

static struct key plain_key(int64_t number)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "kv/%05lld", (long long)number);
    return key;
}

static int64_t some_key(struct worker *w)
{
    return (int64_t)load_random(w->c, (uint64_t)w->c->run->options->keys);
}

static struct key named(const char *kind, uint64_t number)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "%s/%llu", kind, (unsigned long long)number);
    return key;
}

/* Unique in the whole history: its head; the rest makes it as long as asked for. */
static struct slice next_value(struct worker *w)
{
    char head[48];
    int len =
        snprintf(head, sizeof head, "%u.%llu.", w->c->client, (unsigned long long)++w->c->seq);
    w->value_len = MAX((size_t)len, w->c->run->options->value_bytes);
    memset(w->value, 'v', w->value_len);
    memcpy(w->value, head, (size_t)len);
    return (struct slice){ (const uint8_t *)w->value, w->value_len };
}

static struct history_op *newest(struct worker *w)
{
    return &w->c->h->ops[w->c->h->op_count - 1];
}

static void remember(struct worker *w, int64_t key, uint64_t mod)
{
    w->seen[key % REMEMBERED].key = key;
    w->seen[key % REMEMBERED].mod = mod;
}

static uint64_t remembered(const struct worker *w, int64_t key)
{
    return w->seen[key % REMEMBERED].key == key ? w->seen[key % REMEMBERED].mod : 0;
}

static void heard(struct worker *w, const redisReply *reply)
{
    newest(w)->rev = load_u64(reply, "revision");
    w->rev = MAX(w->rev, newest(w)->rev);
}

/* --- writes ------------------------------------------------------------------------------------
 */

static void put_call(struct worker *w, const struct key *key, struct slice value)
{
    redisReply *reply = load_call(w->c, "KV PUT %s %b", key->text, value.at, value.len);
    if (reply == NULL) return;
    newest(w)->applied = true;
    heard(w, reply);
    freeReplyObject(reply);
}

static void run_put(struct worker *w)
{
    int64_t number = some_key(w);
    struct key key = plain_key(number);
    struct slice value = next_value(w);
    load_begin(w->c, HISTORY_PUT);
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&key), value);
    put_call(w, &key, value);
    if (newest(w)->rev != 0) remember(w, number, newest(w)->rev);
}

/* SET tells no revision. */
static void set_call(struct worker *w, const struct key *key, int64_t ttl_ms)
{
    struct slice value = next_value(w);
    load_begin(w->c, HISTORY_PUT);
    newest(w)->ttl_ms = ttl_ms;
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(key), value);
    redisReply *reply = ttl_ms == 0 ? load_call(w->c, "SET %s %b", key->text, value.at, value.len)
                                    : load_call(w->c, "SET %s %b PX %lld", key->text, value.at,
                                                value.len, (long long)ttl_ms);
    if (reply == NULL) return;
    newest(w)->applied = true;
    freeReplyObject(reply);
}

static void run_set(struct worker *w)
{
    struct key key = plain_key(some_key(w));
    set_call(w, &key, 0);
}

static int64_t some_ttl_ms(struct worker *w)
{
    int64_t ttl_ms = w->c->run->options->ttl_ms;
    return ttl_ms / 2 + (int64_t)load_random(w->c, (uint64_t)ttl_ms);
}

static void run_ttl(struct worker *w)
{
    struct key key = named("tt", load_random(w->c, 8));
    set_call(w, &key, some_ttl_ms(w));
}

static void run_delete(struct worker *w)
{
    struct key key = plain_key(some_key(w)), other = plain_key(some_key(w));
    bool two = load_random(w->c, 5) == 0 && strcmp(key.text, other.text) != 0;
    load_begin(w->c, HISTORY_DELETE);
    history_item(w->c->h, HISTORY_ITEM_DEL, as_slice(&key), SLICE_NONE);
    if (two) history_item(w->c->h, HISTORY_ITEM_DEL, as_slice(&other), SLICE_NONE);
    redisReply *reply = two ? load_call(w->c, "DEL %s %s", key.text, other.text)
                            : load_call(w->c, "KV DEL %s", key.text);
    if (reply == NULL) return;
    newest(w)->applied = two ? reply->integer > 0 : load_u64(reply, "deleted") > 0;
    if (!two) heard(w, reply);
    freeReplyObject(reply);
}

static void run_cas(struct worker *w)
{
    int64_t number = some_key(w);
    struct key key = plain_key(number);
    struct slice value = next_value(w);
    uint64_t mod = remembered(w, number);
    load_begin(w->c, HISTORY_CAS);
    history_item(w->c->h, HISTORY_ITEM_IF_MOD, as_slice(&key), SLICE_NONE)->mod = mod;
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&key), value);
    redisReply *reply = load_call(w->c, "KV PUT %s %b IFMOD %llu PREVKV", key.text, value.at,
                                  value.len, (unsigned long long)mod);
    if (reply == NULL) return;
    newest(w)->applied = load_u64(reply, "applied") == 1;
    heard(w, reply);
    load_saw(w->c, as_slice(&key), load_field(reply, "prev")); /* right before, either way */
    const redisReply *prev = load_field(reply, "prev");
    remember(w, number, newest(w)->applied ? newest(w)->rev : load_u64(prev, "mod"));
    freeReplyObject(reply);
}

/* Reads c, then if a is as remembered puts a and b, else reads a. */
static void run_txn(struct worker *w)
{
    int64_t number = some_key(w);
    struct key a = plain_key(number), b = named("tx", load_random(w->c, 8)), c = named("ct", 0);
    struct slice value = next_value(w);
    uint64_t mod = remembered(w, number);
    load_begin(w->c, HISTORY_TXN);
    history_item(w->c->h, HISTORY_ITEM_IF_MOD, as_slice(&a), SLICE_NONE)->mod = mod;
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&a), value);
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&b), value);
    redisReply *reply = load_call(w->c,
                                  "TXN IF 1 MOD %s = %llu THEN 3 3 KV GET %s 4 KV PUT %s %b 4 KV "
                                  "PUT %s %b ELSE 1 3 KV GET %s",
                                  a.text, (unsigned long long)mod, c.text, a.text, value.at,
                                  value.len, b.text, value.at, value.len, a.text);
    if (reply == NULL) return;
    newest(w)->applied = load_u64(reply, "succeeded") == 1;
    heard(w, reply);
    const redisReply *answers = load_field(reply, "responses");
    if (answers != NULL && answers->elements > 0) {
        load_saw(w->c, as_slice(newest(w)->applied ? &c : &a), answers->element[0]);
    }
    remember(w, number,
             newest(w)->applied                         ? newest(w)->rev
             : answers != NULL && answers->elements > 0 ? load_u64(answers->element[0], "mod")
                                                        : 0);
    freeReplyObject(reply);
}

static void run_incr(struct worker *w)
{
    struct key key = named("ct", load_random(w->c, SHARED_COUNTERS));
    load_begin(w->c, HISTORY_INCR);
    history_item(w->c->h, HISTORY_ITEM_INCR, as_slice(&key), SLICE_NONE)->number = 1;
    redisReply *reply = load_call(w->c, "INCR %s", key.text);
    if (reply == NULL) return;
    char digits[24];
    size_t len = i64_format(reply->integer, digits);
    newest(w)->applied = true;
    w->c->h->items[newest(w)->item_first].value =
        history_bytes(w->c->h, (struct slice){ (const uint8_t *)digits, len });
    freeReplyObject(reply);
}

/* A new list now and then, so that none grows long. */
static void run_append(struct worker *w)
{
    struct key key = named("ap", load_list_number(w->c->run));
    char token[48];
    snprintf(token, sizeof token, "%u.%llu;", w->c->client, (unsigned long long)++w->c->seq);
    load_begin(w->c, HISTORY_APPEND);
    history_item(w->c->h, HISTORY_ITEM_APPEND, as_slice(&key), slice_of(token));
    redisReply *reply = load_call(w->c, "APPEND %s %s", key.text, token);
    if (reply == NULL) return;
    w->c->h->items[newest(w)->item_first].number = reply->integer;
    newest(w)->applied = true;
    freeReplyObject(reply);
}

/* --- reads --------------------------------------------------------------------------------------
 */

static struct key readable_key(struct worker *w, int64_t *number)
{
    *number = -1;
    switch (load_random(w->c, 12)) {
    case 0: return named("tt", load_random(w->c, 8));
    case 1: return named("tx", load_random(w->c, 8));
    case 2: return named("ct", load_random(w->c, SHARED_COUNTERS));
    case 3: return named("lk", load_random(w->c, OWN_LOCKS));
    case 4: {
        struct key key;
        snprintf(key.text, sizeof key.text, "le/%llu/%llu",
                 (unsigned long long)load_random(w->c, w->c->run->options->connections),
                 (unsigned long long)load_random(w->c, LEASE_KEYS));
        return key;
    }
    default: *number = some_key(w); return plain_key(*number);
    }
}

static void run_get(struct worker *w)
{
    int64_t number;
    struct key key = readable_key(w, &number);
    bool kv = load_random(w->c, 4) != 0;
    load_begin(w->c, HISTORY_GET);
    redisReply *reply = load_call(w->c, kv ? "KV GET %s" : "GET %s", key.text);
    if (reply == NULL) return;
    if (kv || reply->type == REDIS_REPLY_NIL) {
        load_saw(w->c, as_slice(&key), reply);
    } else {
        history_item(w->c->h, HISTORY_ITEM_SAW, as_slice(&key), load_bytes(reply));
    }
    if (kv && number >= 0)
        remember(w, number, reply->type == REDIS_REPLY_NIL ? 0 : load_u64(reply, "mod"));
    freeReplyObject(reply);
}

static void run_local(struct worker *w)
{
    int64_t number;
    struct key key = readable_key(w, &number);
    load_begin(w->c, HISTORY_GET);
    newest(w)->flags = HISTORY_LOCAL;
    redisReply *reply = load_call(w->c, "KV GET %s LOCAL", key.text);
    if (reply == NULL) return;
    load_saw(w->c, as_slice(&key), reply);
    freeReplyObject(reply);
}

static void run_old(struct worker *w)
{
    uint64_t back = load_random(w->c, 200);
    if (w->rev <= back + 1) return;
    struct key key = plain_key(some_key(w));
    load_begin(w->c, HISTORY_GET);
    newest(w)->at_rev = w->rev - back;
    redisReply *reply =
        load_call(w->c, "KV GET %s REV %llu", key.text, (unsigned long long)newest(w)->at_rev);
    if (reply == NULL) return;
    load_saw(w->c, as_slice(&key), reply);
    freeReplyObject(reply);
}

static void run_range(struct worker *w)
{
    struct key begin = plain_key(some_key(w));
    int64_t limit = 1 + (int64_t)load_random(w->c, 20);
    load_begin(w->c, HISTORY_RANGE);
    history_item(w->c->h, HISTORY_ITEM_SPAN, as_slice(&begin), SLICE_LIT("kv0"))->number = limit;
    redisReply *reply =
        load_call(w->c, "KV RANGE %s END kv0 LIMIT %lld", begin.text, (long long)limit);
    if (reply == NULL) return;
    heard(w, reply);
    const redisReply *kvs = load_field(reply, "kvs");
    for (size_t i = 0; kvs != NULL && i < kvs->elements; i++) {
        load_saw(w->c, load_bytes(load_field(kvs->element[i], "key")), kvs->element[i]);
    }
    freeReplyObject(reply);
}

/* --- leases, locks ------------------------------------------------------------------------------
 */

static void lease_grant(struct worker *w, uint64_t number)
{
    uint64_t id = (number << 24) + ++w->lease_count;
    int64_t ttl_ms = some_ttl_ms(w);
    load_begin(w->c, HISTORY_GRANT);
    newest(w)->lease = id;
    newest(w)->ttl_ms = MAX(ttl_ms, 100);
    redisReply *reply =
        load_call(w->c, "LEASE GRANT PX %lld ID %llu", (long long)ttl_ms, (unsigned long long)id);
    w->lease = 0;
    if (reply == NULL) return;
    newest(w)->applied = true;
    w->lease = id;
    w->lease_ttl_ms = newest(w)->ttl_ms;
    freeReplyObject(reply);
}

static void lease_keep(struct worker *w)
{
    load_begin(w->c, HISTORY_KEEPALIVE);
    newest(w)->lease = w->lease;
    newest(w)->ttl_ms = w->lease_ttl_ms;
    redisReply *reply = load_call(w->c, "LEASE KEEPALIVE PX %llu", (unsigned long long)w->lease);
    if (reply == NULL) return;
    newest(w)->applied = reply->elements == 1 && reply->element[0]->integer >= 0;
    if (!newest(w)->applied) w->lease = 0;
    freeReplyObject(reply);
}

static void lease_put(struct worker *w, uint64_t number)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "le/%llu/%llu", (unsigned long long)number,
             (unsigned long long)load_random(w->c, LEASE_KEYS));
    struct slice value = next_value(w);
    load_begin(w->c, HISTORY_PUT);
    newest(w)->lease = w->lease;
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&key), value);
    redisReply *reply = load_call(w->c, "KV PUT %s %b LEASE %llu", key.text, value.at, value.len,
                                  (unsigned long long)w->lease);
    if (reply == NULL) {
        if (newest(w)->outcome == HISTORY_REFUSED) w->lease = 0; /* most likely it is gone */
        return;
    }
    newest(w)->applied = true;
    heard(w, reply);
    freeReplyObject(reply);
}

static void lease_revoke(struct worker *w)
{
    load_begin(w->c, HISTORY_REVOKE);
    newest(w)->lease = w->lease;
    redisReply *reply = load_call(w->c, "LEASE REVOKE %llu", (unsigned long long)w->lease);
    w->lease = 0;
    if (reply == NULL) return;
    newest(w)->applied = reply->integer > 0;
    freeReplyObject(reply);
}

static void run_lease(struct worker *w, uint64_t number)
{
    uint64_t dice = load_random(w->c, 20);
    if (w->lease == 0) {
        lease_grant(w, number);
    } else if (dice == 0) {
        lease_revoke(w);
    } else if (dice == 1) {
        w->lease = 0; /* forgets it: it must expire */
    } else if (dice < 12) {
        lease_keep(w);
    } else {
        lease_put(w, number);
    }
}

static void run_lock(struct worker *w)
{
    struct key key = named("lk", load_random(w->c, OWN_LOCKS));
    char token[48];
    int64_t ttl_ms = some_ttl_ms(w);
    snprintf(token, sizeof token, "%u.%llu", w->c->client, (unsigned long long)++w->c->seq);
    load_begin(w->c, HISTORY_LOCK);
    newest(w)->ttl_ms = ttl_ms;
    history_item(w->c->h, HISTORY_ITEM_IF_MOD, as_slice(&key), SLICE_NONE);
    history_item(w->c->h, HISTORY_ITEM_PUT, as_slice(&key), slice_of(token));
    redisReply *reply = load_call(w->c, "SET %s %s NX PX %lld", key.text, token, (long long)ttl_ms);
    if (reply == NULL) return;
    bool mine = newest(w)->applied = reply->type == REDIS_REPLY_STATUS;
    freeReplyObject(reply);
    if (!mine || load_random(w->c, 4) == 0) return; /* not had, or never given back */
    load_sleep_ms((int64_t)load_random(w->c, 20));
    load_begin(w->c, HISTORY_UNLOCK);
    history_item(w->c->h, HISTORY_ITEM_IF_VALUE, as_slice(&key), slice_of(token));
    history_item(w->c->h, HISTORY_ITEM_DEL, as_slice(&key), SLICE_NONE);
    reply = load_call(w->c, "DELIFEQ %s %s", key.text, token);
    if (reply == NULL) return;
    newest(w)->applied = reply->integer == 1;
    freeReplyObject(reply);
}

/* --- a worker ------------------------------------------------------------------------------------
 */

static enum load_kind some_kind(struct worker *w)
{
    const unsigned *weights = w->c->run->options->weights;
    uint64_t sum = 0;
    for (size_t i = 0; i < LOAD_KIND_COUNT; i++) sum += weights[i];
    uint64_t dice = load_random(w->c, sum);
    for (size_t i = 0; i < LOAD_KIND_COUNT; i++) {
        if (dice < weights[i]) return (enum load_kind)i;
        dice -= weights[i];
    }
    return LOAD_GET;
}

static void run_one(struct worker *w, uint64_t number)
{
    switch (some_kind(w)) {
    case LOAD_PUT: run_put(w); break;
    case LOAD_SET: run_set(w); break;
    case LOAD_GET: run_get(w); break;
    case LOAD_LOCAL: run_local(w); break;
    case LOAD_OLD: run_old(w); break;
    case LOAD_DELETE: run_delete(w); break;
    case LOAD_CAS: run_cas(w); break;
    case LOAD_TXN: run_txn(w); break;
    case LOAD_INCR: run_incr(w); break;
    case LOAD_APPEND: run_append(w); break;
    case LOAD_RANGE: run_range(w); break;
    case LOAD_LEASE: run_lease(w, number); break;
    case LOAD_TTL: run_ttl(w); break;
    case LOAD_LOCK: run_lock(w); break;
    case LOAD_KIND_COUNT: break;
    }
}

void *load_worker(void *conn)
{
    struct load_conn *c = conn;
    const struct load_options *options = c->run->options;
    uint64_t number = c->seq; /* which worker this is */
    struct worker *w = mem_zalloc(sizeof *w);
    w->c = c;
    w->value = mem_alloc(MAX(options->value_bytes, 64));
    while (!atomic_load(&c->run->stop)) {
        bool moves = load_random(c, 2000) == 0; /* now and then without need */
        if (c->reader == NULL || moves) {
            if (!load_connect(c, load_random(c, options->node_count))) {
                load_sleep_ms(20);
                continue;
            }
        }
        run_one(w, number);
        if (options->pause_ms > 0) {
            load_sleep_ms((int64_t)load_random(c, (uint64_t)options->pause_ms + 1));
        }
    }
    mem_free(w->value);
    mem_free(w);
    load_disconnect(c);
    return NULL;
}
