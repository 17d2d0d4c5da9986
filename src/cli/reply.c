#include "cli/reply.h"

struct slice reply_bytes(const redisReply *r)
{
    if (r == NULL || (r->type != REDIS_REPLY_STRING && r->type != REDIS_REPLY_STATUS)) {
        return SLICE_NONE;
    }
    return (struct slice){ (const uint8_t *)r->str, r->len };
}

enum err reply_i64(const redisReply *r, int64_t *out)
{
    if (r == NULL) return ERR_PROTO;
    if (r->type == REDIS_REPLY_INTEGER) {
        *out = r->integer;
        return OK;
    }
    return i64_parse(reply_bytes(r), out) == OK ? OK : ERR_PROTO;
}

static bool is_array(const redisReply *r)
{
    return r != NULL && r->type == REDIS_REPLY_ARRAY;
}

const redisReply *reply_field(const redisReply *map, const char *name)
{
    if (!is_array(map)) return NULL;
    for (size_t i = 0; i + 1 < map->elements; i += 2) {
        if (!slice_eq(reply_bytes(map->element[i]), slice_of(name))) continue;
        const redisReply *value = map->element[i + 1];
        return value->type == REDIS_REPLY_NIL ? NULL : value;
    }
    return NULL;
}

/* A number that must be there. */
static enum err field_i64(const redisReply *map, const char *name, int64_t *out)
{
    return reply_i64(reply_field(map, name), out);
}

/* A number that may be missing: then *out stays. Wrong types are still errors. */
static enum err field_i64_maybe(const redisReply *map, const char *name, int64_t *out)
{
    const redisReply *field = reply_field(map, name);
    return field == NULL ? OK : reply_i64(field, out);
}

static enum err field_bool_maybe(const redisReply *map, const char *name, bool *out)
{
    int64_t v = *out;
    TRY(field_i64_maybe(map, name, &v));
    *out = v != 0;
    return OK;
}

static enum err reply_kv(const redisReply *r, struct kv *out)
{
    const redisReply *key = reply_field(r, "key");
    if (key == NULL) return ERR_PROTO;
    const redisReply *value = reply_field(r, "value");
    struct kv kv = {
        .key = reply_bytes(key),
        .value = reply_bytes(value),
        .has_value = value != NULL,
        .type = reply_bytes(reply_field(r, "type")),
    };
    TRY(field_i64_maybe(r, "create", &kv.create_rev));
    TRY(field_i64_maybe(r, "mod", &kv.mod_rev));
    TRY(field_i64_maybe(r, "version", &kv.version));
    TRY(field_i64_maybe(r, "lease", &kv.lease_id));
    *out = kv;
    return OK;
}

void kv_list_deinit(struct kv_list *list)
{
    mem_free(list->at);
    *list = (struct kv_list){ 0 };
}

/* A missing list is an empty one. */
static enum err reply_kvs(const redisReply *r, struct kv_list *out)
{
    struct kv_list list CLEANUP(kv_list_deinit) = { 0 };
    if (r != NULL && !is_array(r)) return ERR_PROTO;
    list.count = r == NULL ? 0 : r->elements;
    list.at = mem_zalloc((list.count + 1) * sizeof *list.at);
    for (size_t i = 0; i < list.count; i++) TRY(reply_kv(r->element[i], &list.at[i]));
    *out = list;
    list = (struct kv_list){ 0 };
    return OK;
}

enum err reply_range(const redisReply *r, struct range_result *out)
{
    struct range_result res = { 0 };
    TRY(field_i64(r, "revision", &res.revision));
    TRY(field_i64(r, "count", &res.count));
    TRY(field_bool_maybe(r, "more", &res.more));
    TRY(reply_kvs(reply_field(r, "kvs"), &res.kvs));
    *out = res;
    return OK;
}

enum err reply_put(const redisReply *r, struct put_result *out)
{
    struct put_result res = { .applied = true };
    TRY(field_i64(r, "revision", &res.revision));
    TRY(field_bool_maybe(r, "applied", &res.applied));
    const redisReply *prev = reply_field(r, "prev");
    res.has_prev = prev != NULL;
    if (res.has_prev) TRY(reply_kv(prev, &res.prev));
    *out = res;
    return OK;
}

enum err reply_del(const redisReply *r, struct del_result *out)
{
    struct del_result res = { 0 };
    TRY(field_i64(r, "revision", &res.revision));
    TRY(field_i64(r, "deleted", &res.deleted));
    TRY(reply_kvs(reply_field(r, "prevs"), &res.prevs));
    *out = res;
    return OK;
}

enum err reply_txn(const redisReply *r, struct txn_result *out)
{
    struct txn_result res = { 0 };
    int64_t succeeded = 0;
    TRY(field_i64(r, "succeeded", &succeeded));
    TRY(field_i64(r, "revision", &res.revision));
    res.succeeded = succeeded != 0;
    res.responses = reply_field(r, "responses");
    if (!is_array(res.responses)) return ERR_PROTO;
    const redisReply *failed = reply_field(r, "failed");
    if (failed != NULL) {
        int64_t index = 0;
        if (!is_array(failed) || failed->elements < 2) return ERR_PROTO;
        TRY(reply_i64(failed->element[0], &index));
        if (index < 0) return ERR_PROTO;
        res.has_failed = true;
        res.failed_index = (size_t)index;
        res.has_failed_kv = is_array(failed->element[1]);
        if (res.has_failed_kv) TRY(reply_kv(failed->element[1], &res.failed_kv));
    }
    *out = res;
    return OK;
}

/* op key value rev create version lease [prev prevmod] */
static enum err reply_event(const redisReply *r, struct event *out)
{
    struct event e = { .op = reply_bytes(reply_field(r, "op")) };
    if (e.op.len == 0) return ERR_PROTO;
    TRY(reply_kv(r, &e.kv));
    TRY(field_i64(r, "rev", &e.kv.mod_rev));
    const redisReply *prev = reply_field(r, "prev");
    TRY(field_i64_maybe(r, "prevmod", &e.prev.mod_rev));
    e.has_prev = prev != NULL;
    e.prev.key = e.kv.key;
    e.prev.value = reply_bytes(prev);
    e.prev.has_value = e.has_prev;
    *out = e;
    return OK;
}

static void events_drop(struct event **at)
{
    mem_free(*at);
}

enum err reply_events(const redisReply *r, struct event_list *out)
{
    struct event_list list = { 0 };
    const redisReply *events = reply_field(r, "events");
    if (!is_array(events)) return ERR_PROTO;
    TRY(field_i64(r, "next", &list.next_rev));
    struct event *at CLEANUP(events_drop) = mem_zalloc((events->elements + 1) * sizeof *at);
    for (size_t i = 0; i < events->elements; i++) TRY(reply_event(events->element[i], &at[i]));
    list.at = at;
    list.count = events->elements;
    *out = list;
    at = NULL;
    return OK;
}

enum err reply_member(const redisReply *r, struct member *out)
{
    struct member m = {
        .name = reply_bytes(reply_field(r, "name")),
        .peer = reply_bytes(reply_field(r, "peer")),
        .client = reply_bytes(reply_field(r, "client")),
        .role = reply_bytes(reply_field(r, "role")),
        .version = reply_bytes(reply_field(r, "version")),
        .is_started = true,
    };
    TRY(field_i64(r, "id", &m.id));
    TRY(field_i64_maybe(r, "match", &m.match_index));
    TRY(field_i64_maybe(r, "lag", &m.lag));
    TRY(field_bool_maybe(r, "started", &m.is_started));
    *out = m;
    return OK;
}

enum err reply_status(const redisReply *r, struct status *out)
{
    struct status s = { .version = reply_bytes(reply_field(r, "version")) };
    TRY(field_i64(r, "id", &s.member_id));
    TRY(field_i64_maybe(r, "cluster", &s.cluster_id));
    TRY(field_i64_maybe(r, "dbsize", &s.db_bytes));
    TRY(field_i64_maybe(r, "inuse", &s.used_bytes));
    TRY(field_i64_maybe(r, "quota", &s.quota_bytes));
    TRY(field_i64_maybe(r, "leader", &s.leader_id));
    TRY(field_i64_maybe(r, "term", &s.term));
    TRY(field_i64_maybe(r, "index", &s.index));
    TRY(field_i64_maybe(r, "applied", &s.applied_index));
    TRY(field_i64_maybe(r, "revision", &s.revision));
    TRY(field_i64_maybe(r, "compacted", &s.compacted_rev));
    TRY(field_bool_maybe(r, "learner", &s.is_learner));
    s.errors = reply_field(r, "errors");
    *out = s;
    return OK;
}

enum err reply_lease(const redisReply *r, struct lease_result *out)
{
    struct lease_result res = { .keys = reply_field(r, "keys") };
    TRY(field_i64(r, "id", &res.id));
    TRY(field_i64(r, "ttl", &res.ttl));
    TRY(field_i64_maybe(r, "granted", &res.granted));
    if (res.keys != NULL && !is_array(res.keys)) return ERR_PROTO;
    res.key_count = res.keys == NULL ? 0 : (int64_t)res.keys->elements;
    TRY(field_i64_maybe(r, "total", &res.key_count));
    *out = res;
    return OK;
}
