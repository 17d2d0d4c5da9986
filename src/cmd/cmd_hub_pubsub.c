/* cmd/cmd_hub_pubsub.c - who is subscribed to what, and messages on their way: PUBLISH, watch
 * channels, keyspace notifications.
 *
 * A topic is a channel, a pattern or a shard channel with at least one subscriber; a subscription
 * ties a client to it. A topic whose name says `__watch@` or `__watchkey@` also listens in the hub's
 * set of live watches. */
#include "cmd/cmd_hub_int.h"

#include "base/glob.h"

#include <stdio.h>

#define BUCKETS_MIN 64

struct topic {
    struct listener listener; /* in hub->live if it is a watch channel; first */
    enum topic_kind kind;
    bool filters;         /* a watch pattern: names must be matched, the set is not enough */
    bool watches_keys;    /* ... of the form __watchkey@ */
    uint64_t hash, serial;
    struct topic *next;   /* in its bucket */
    struct topic *pattern_before, *pattern_after; /* all patterns */
    struct subscription **subscriptions;
    size_t count, cap;
    size_t name_len;
    uint8_t name[];
};

struct subscriber {
    struct hub_peer peer; /* first */
    uint64_t serial;
    uint64_t name_bytes; /* of all its subscriptions */
    struct subscription **subscriptions[TOPIC_KINDS];
    size_t count[TOPIC_KINDS], cap[TOPIC_KINDS];
};

struct subscription {
    struct topic *topic;
    struct subscriber *subscriber;
    size_t topic_at, subscriber_at; /* places in their arrays */
    struct subscription *next;      /* in its bucket */
};

static struct slice topic_name(const struct topic *t)
{
    return (struct slice){ t->name, t->name_len };
}

/* --- topics by name --------------------------------------------------------------------------- */

static struct topic **topic_bucket(const struct topic_table *t, uint64_t hash)
{
    return &t->buckets[hash & (t->bucket_count - 1)];
}

static struct topic *topic_find(const struct cmd_hub *hub, enum topic_kind kind, struct slice name)
{
    const struct topic_table *table = &hub->topics[kind];
    if (table->topic_count == 0) return NULL;
    uint64_t hash = bytes_hash(name.at, name.len, hub->seed);
    struct topic *t = *topic_bucket(table, hash);
    while (t != NULL && (t->hash != hash || !slice_eq(topic_name(t), name))) t = t->next;
    return t;
}

static void topics_grow(struct topic_table *table)
{
    struct topic_table grown = { .bucket_count = MAX(table->bucket_count * 2, BUCKETS_MIN),
                                 .topic_count = table->topic_count };
    grown.buckets = mem_zalloc(grown.bucket_count * sizeof(struct topic *));
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct topic *next = NULL;
        for (struct topic *t = table->buckets[i]; t != NULL; t = next) {
            next = t->next;
            struct topic **at = topic_bucket(&grown, t->hash);
            t->next = *at;
            *at = t;
        }
    }
    mem_free(table->buckets);
    *table = grown;
}

/* Watch patterns: what is literal becomes a prefix in the set; the rest is matched by name. A
 * pattern that does not ask for watch channels by name gets none. */
static bool pattern_range(struct topic *t, struct hub_range *range)
{
    uint8_t literal[GLOB_PATTERN_BYTES_MAX];
    bool whole = false;
    bool prefix_only = false;
    size_t len = glob_literal_prefix(topic_name(t), literal, &whole, &prefix_only);
    struct slice text = { literal, len };
    t->watches_keys = slice_starts(text, SLICE_LIT("__watchkey@"));
    if (!t->watches_keys && !slice_starts(text, SLICE_LIT("__watch@"))) return false;
    struct hub_name name;
    t->filters = true;
    if (hub_name_parse(text, 0, &name)) {
        name.is_key = false;
        t->filters = !prefix_only;
        hub_name_range(&name, range);
    } else { /* the database is not literal: every key is looked at */
        *range = (struct hub_range){ .kind = WATCH_PREFIX, .bytes = mem_zalloc(1) };
    }
    return true;
}

static bool channel_range(struct topic *t, struct hub_range *range)
{
    struct hub_name name;
    if (!hub_name_parse(topic_name(t), 0, &name) || !name.has_db) return false;
    hub_name_range(&name, range);
    return true;
}

static void topic_listen(struct cmd_hub *hub, struct topic *t)
{
    struct hub_range range;
    if (t->kind == TOPIC_SHARD) return;
    if (t->kind == TOPIC_PATTERN ? !pattern_range(t, &range) : !channel_range(t, &range)) return;
    hub_listen(hub, hub->live, &t->listener, &range);
    hub_range_deinit(&range);
}

static struct topic *topic_new(struct cmd_hub *hub, enum topic_kind kind, struct slice name)
{
    struct topic_table *table = &hub->topics[kind];
    if (table->topic_count == table->bucket_count) topics_grow(table);
    struct topic *t = mem_zalloc(sizeof *t + name.len);
    t->listener.kind = LISTENER_TOPIC;
    t->kind = kind;
    t->hash = bytes_hash(name.at, name.len, hub->seed);
    t->serial = ++hub->serial;
    t->name_len = name.len;
    if (name.len > 0) memcpy(t->name, name.at, name.len);
    struct topic **at = topic_bucket(table, t->hash);
    t->next = *at;
    *at = t;
    table->topic_count++;
    if (kind == TOPIC_PATTERN) {
        t->pattern_after = hub->patterns;
        if (hub->patterns != NULL) hub->patterns->pattern_before = t;
        hub->patterns = t;
    }
    topic_listen(hub, t);
    return t;
}

static void topic_drop(struct cmd_hub *hub, struct topic *t)
{
    struct topic_table *table = &hub->topics[t->kind];
    struct topic **at = topic_bucket(table, t->hash);
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    table->topic_count--;
    if (t->kind == TOPIC_PATTERN) {
        if (t->pattern_before != NULL) t->pattern_before->pattern_after = t->pattern_after;
        else hub->patterns = t->pattern_after;
        if (t->pattern_after != NULL) t->pattern_after->pattern_before = t->pattern_before;
    }
    if (watcher_is_in(&t->listener.watcher)) hub_unlisten(hub, hub->live, &t->listener);
    mem_free(t->subscriptions);
    mem_free(t);
}

/* --- subscriptions -------------------------------------------------------------------------------- */

static struct subscription **pair_bucket(const struct cmd_hub *hub, const struct topic *t,
                                         const struct subscriber *s)
{
    uint64_t hash = u64_mix(t->serial * 0x9e3779b97f4a7c15ULL + s->serial);
    return &hub->subscription_buckets[hash & (hub->subscription_bucket_count - 1)];
}

static struct subscription *pair_find(const struct cmd_hub *hub, const struct topic *t,
                                      const struct subscriber *s)
{
    if (hub->subscription_count == 0) return NULL;
    struct subscription *sub = *pair_bucket(hub, t, s);
    while (sub != NULL && (sub->topic != t || sub->subscriber != s)) sub = sub->next;
    return sub;
}

static void pairs_grow(struct cmd_hub *hub)
{
    struct subscription **old = hub->subscription_buckets;
    size_t old_count = hub->subscription_bucket_count;
    hub->subscription_bucket_count = MAX(old_count * 2, BUCKETS_MIN);
    hub->subscription_buckets = mem_zalloc(hub->subscription_bucket_count * sizeof(struct subscription *));
    for (size_t i = 0; i < old_count; i++) {
        struct subscription *next = NULL;
        for (struct subscription *sub = old[i]; sub != NULL; sub = next) {
            next = sub->next;
            struct subscription **at = pair_bucket(hub, sub->topic, sub->subscriber);
            sub->next = *at;
            *at = sub;
        }
    }
    mem_free(old);
}

static struct subscription **room_for_one(struct subscription **at, size_t count, size_t *cap)
{
    if (count < *cap) return at;
    *cap = MAX(*cap * 2, 4);
    return mem_realloc(at, *cap * sizeof(struct subscription *));
}

static void pair_add(struct cmd_hub *hub, struct topic *t, struct subscriber *s)
{
    enum topic_kind kind = t->kind;
    if (hub->subscription_count == hub->subscription_bucket_count) pairs_grow(hub);
    struct subscription *sub = mem_alloc(sizeof *sub);
    struct subscription **bucket = pair_bucket(hub, t, s);
    *sub = (struct subscription){ .topic = t, .subscriber = s, .topic_at = t->count,
                                  .subscriber_at = s->count[kind], .next = *bucket };
    *bucket = sub;
    t->subscriptions = room_for_one(t->subscriptions, t->count, &t->cap);
    t->subscriptions[t->count++] = sub;
    s->subscriptions[kind] = room_for_one(s->subscriptions[kind], s->count[kind], &s->cap[kind]);
    s->subscriptions[kind][s->count[kind]++] = sub;
    s->peer.client->sub_count++;
    s->name_bytes += t->name_len;
    hub->name_bytes += t->name_len;
    hub->subscription_count++;
    hub->listener_count++;
}

static void pair_drop(struct cmd_hub *hub, struct subscription *sub)
{
    struct topic *t = sub->topic;
    struct subscriber *s = sub->subscriber;
    struct subscription **at = pair_bucket(hub, t, s);
    while (*at != sub) at = &(*at)->next;
    *at = sub->next;
    struct subscription *last = t->subscriptions[--t->count];
    t->subscriptions[sub->topic_at] = last;
    last->topic_at = sub->topic_at;
    last = s->subscriptions[t->kind][--s->count[t->kind]];
    s->subscriptions[t->kind][sub->subscriber_at] = last;
    last->subscriber_at = sub->subscriber_at;
    s->peer.client->sub_count--;
    s->name_bytes -= t->name_len;
    hub->name_bytes -= t->name_len;
    hub->subscription_count--;
    hub->listener_count--;
    mem_free(sub);
    if (t->count == 0) topic_drop(hub, t);
}

static struct subscriber *subscriber_of(struct cmd_hub *hub, struct client *c)
{
    if (c->subs == NULL) {
        struct subscriber *s = mem_zalloc(sizeof *s);
        s->peer.client = c;
        s->serial = ++hub->serial;
        c->subs = s;
    }
    return c->subs;
}

bool hub_subscribe(struct cmd_hub *hub, struct client *c, enum topic_kind kind, struct slice name)
{
    struct subscriber *s = subscriber_of(hub, c);
    struct topic *t = topic_find(hub, kind, name);
    if (t != NULL && pair_find(hub, t, s) != NULL) return true;
    const struct cmd_limits *limits = &hub->env->limits;
    if (c->sub_count >= limits->subscriptions_per_client_max) return false;
    if (s->name_bytes + name.len > limits->subscription_names_bytes_max) return false;
    if (t == NULL) t = topic_new(hub, kind, name);
    pair_add(hub, t, s);
    return true;
}

void hub_unsubscribe(struct cmd_hub *hub, struct client *c, enum topic_kind kind, struct slice name)
{
    const struct topic *t = topic_find(hub, kind, name);
    struct subscription *sub = c->subs == NULL || t == NULL ? NULL : pair_find(hub, t, c->subs);
    if (sub != NULL) pair_drop(hub, sub);
}

void hub_pubsub_gone(struct cmd_hub *hub, struct client *c)
{
    struct subscriber *s = c->subs;
    if (s == NULL) return;
    for (size_t kind = 0; kind < TOPIC_KINDS; kind++) {
        while (s->count[kind] > 0) pair_drop(hub, s->subscriptions[kind][s->count[kind] - 1]);
        mem_free(s->subscriptions[kind]);
    }
    ASSERT(c->sub_count == 0 && s->name_bytes == 0);
    hub_peer_drop(hub, &s->peer);
    mem_free(s);
    c->subs = NULL;
}

void hub_pubsub_free(struct cmd_hub *hub)
{
    ASSERT(hub->subscription_count == 0);
    for (size_t kind = 0; kind < TOPIC_KINDS; kind++) mem_free(hub->topics[kind].buckets);
    mem_free(hub->subscription_buckets);
}

size_t hub_subscribed_count(const struct client *c, enum topic_kind kind)
{
    const struct subscriber *s = c->subs;
    return s == NULL ? 0 : s->count[kind];
}

struct slice hub_subscribed_at(const struct client *c, enum topic_kind kind, size_t at)
{
    const struct subscriber *s = c->subs;
    ASSERT(s != NULL && at < s->count[kind]);
    return topic_name(s->subscriptions[kind][at]->topic);
}

uint64_t cmd_hub_name_bytes(const struct cmd_hub *hub)
{
    return hub->name_bytes;
}

size_t hub_topic_count(const struct cmd_hub *hub, enum topic_kind kind)
{
    return hub->topics[kind].topic_count;
}

size_t hub_topic_subscribers(const struct cmd_hub *hub, enum topic_kind kind, struct slice name)
{
    const struct topic *t = topic_find(hub, kind, name);
    return t == NULL ? 0 : t->count;
}

void hub_topic_each(const struct cmd_hub *hub, enum topic_kind kind,
                    void (*visit)(void *ctx, struct slice name), void *ctx)
{
    const struct topic_table *table = &hub->topics[kind];
    for (size_t i = 0; i < table->bucket_count; i++) {
        for (const struct topic *t = table->buckets[i]; t != NULL; t = t->next) visit(ctx, topic_name(t));
    }
}

/* --- messages ------------------------------------------------------------------------------------------ */

/* The frame without its first byte, which depends on the protocol, is made once for all. */
static void frame_encode(struct buf *out, const struct topic *t, struct slice channel, struct slice message)
{
    static const char *const heads[TOPIC_KINDS] = {
        [TOPIC_CHANNEL] = "3\r\n$7\r\nmessage\r\n",
        [TOPIC_PATTERN] = "4\r\n$8\r\npmessage\r\n",
        [TOPIC_SHARD] = "3\r\n$8\r\nsmessage\r\n",
    };
    buf_clear(out);
    buf_append_slice(out, slice_of(heads[t->kind]));
    if (t->kind == TOPIC_PATTERN) hub_encode_bulk(out, topic_name(t));
    hub_encode_bulk(out, channel);
    hub_encode_bulk(out, message);
}

static uint64_t topic_send(struct cmd_hub *hub, struct topic *t, struct slice channel, struct slice message)
{
    uint64_t sent = 0;
    frame_encode(&hub->frame, t, channel, message);
    for (size_t i = 0; i < t->count; i++) {
        struct subscriber *s = t->subscriptions[i]->subscriber;
        struct client *c = s->peer.client;
        if (c->closing || hub_is_flooded(hub, &s->peer)) continue;
        chain_append(c->out, c->proto >= 3 ? ">" : "*", 1);
        chain_append_slice(c->out, buf_slice(&hub->frame));
        hub_touch(hub, &s->peer);
        sent++;
    }
    hub->env->stats.pubsub_messages += sent;
    return sent;
}

uint64_t hub_publish(struct cmd_hub *hub, bool shard, struct slice channel, struct slice message)
{
    struct topic *t = topic_find(hub, shard ? TOPIC_SHARD : TOPIC_CHANNEL, channel);
    uint64_t sent = t == NULL ? 0 : topic_send(hub, t, channel, message);
    for (t = shard ? NULL : hub->patterns; t != NULL; t = t->pattern_after) {
        if (glob_match(topic_name(t), channel)) sent += topic_send(hub, t, channel, message);
    }
    return sent;
}

/* --- watch channels ---------------------------------------------------------------------------------------- */

static struct slice json_of(struct cmd_hub *hub, const struct mvcc_event *ev)
{
    if (!hub->json_ready) {
        struct hub_event e;
        hub_event_of(ev, &e);
        buf_clear(&hub->json);
        hub_encode_json(&hub->json, &e);
        hub->json_ready = true;
    }
    return buf_slice(&hub->json);
}

/* `<word><db>__:<text>` into hub->name. */
static struct slice event_name(struct cmd_hub *hub, const char *word, uint8_t db, struct slice text)
{
    char digits[8];
    struct buf *out = &hub->name;
    buf_clear(out);
    buf_append_slice(out, slice_of(word));
    buf_append(out, digits, u64_format(db, digits));
    buf_append(out, "__:", 3);
    buf_append_slice(out, text);
    return buf_slice(out);
}

/* A channel gets its own name; a pattern the name with the whole key in it. */
void hub_topic_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev)
{
    struct topic *t = CONTAINER_OF(l, struct topic, listener);
    struct slice channel = topic_name(t);
    if (t->kind == TOPIC_PATTERN) {
        const char *word = t->watches_keys ? "__watchkey@" : "__watch@";
        channel = event_name(hub, word, ev->key.at[0], cmd_client_key(ev->key));
        if (t->filters && !glob_match(topic_name(t), channel)) return;
    }
    topic_send(hub, t, channel, json_of(hub, ev));
}

/* --- keyspace notifications ------------------------------------------------------------------------------------ */

static void notify(struct cmd_hub *hub, uint64_t class, struct slice key, const char *event)
{
    uint64_t flags = state_settings(node_state(hub->env->node))->notify_keyspace_events;
    if ((flags & class) == 0) return;
    struct slice user_key = cmd_client_key(key);
    struct slice text = slice_of(event);
    if ((flags & NOTIFY_KEYSPACE) != 0) {
        hub_publish(hub, false, event_name(hub, "__keyspace@", key.at[0], user_key), text);
    }
    if ((flags & NOTIFY_KEYEVENT) != 0) {
        hub_publish(hub, false, event_name(hub, "__keyevent@", key.at[0], text), user_key);
    }
}

/* What Redis calls the change. A transaction's events are named by their net effect. */
static void notify_put(struct cmd_hub *hub, const struct mvcc_event *ev)
{
    if (ev->version == 1) notify(hub, NOTIFY_NEW, ev->key, "new");
    if (ev->type != VALUE_STRING) {
        notify(hub, ev->type == VALUE_HASH ? NOTIFY_HASH : NOTIFY_LIST, ev->key,
               ev->type == VALUE_HASH ? "hset" : "lset");
    } else if (ev->cause == OP_RENAME) {
        notify(hub, NOTIFY_GENERIC, ev->key, "rename_to");
    } else if (ev->cause == OP_COPY) {
        notify(hub, NOTIFY_GENERIC, ev->key, "copy_to");
    } else {
        notify(hub, NOTIFY_STRING, ev->key,
               ev->cause == OP_INCR         ? "incrby"
               : ev->cause == OP_INCR_FLOAT ? "incrbyfloat"
               : ev->cause == OP_APPEND     ? "append"
               : ev->cause == OP_SETRANGE   ? "setrange"
                                            : "set");
    }
}

void hub_notify_event(struct cmd_hub *hub, const struct mvcc_event *ev)
{
    switch (ev->op) {
    case ROW_PUT: notify_put(hub, ev); break;
    case ROW_DEL:
        notify(hub, NOTIFY_GENERIC, ev->key, ev->cause == OP_RENAME ? "rename_from" : "del");
        break;
    case ROW_EXPIRE: notify(hub, NOTIFY_EXPIRED, ev->key, "expired"); break;
    }
}

void hub_notify_life(struct cmd_hub *hub, struct slice key, const char *what)
{
    notify(hub, NOTIFY_GENERIC, key, what);
}
