/* Connections and what their answers mean. */
#include "load.h"

#include <stdlib.h>

uint64_t load_random(struct load_conn *c, uint64_t below)
{
    c->random += 0x9e3779b97f4a7c15ULL;
    return u64_mix(c->random) % below;
}

void load_conn_init(struct load_conn *c, struct load_run *run, uint64_t seed)
{
    *c = (struct load_conn){ .run = run, .h = history_new(), .random = u64_mix(seed + 1) };
}

void load_conn_deinit(struct load_conn *c)
{
    load_disconnect(c);
}

void load_disconnect(struct load_conn *c)
{
    if (c->reader == NULL) return;
    load_close(c);
    redisReaderFree(c->reader);
    c->reader = NULL;
}

void load_count_error(struct load_run *run, const char *text)
{
    pthread_mutex_lock(&run->errors_lock);
    size_t at = 0;
    while (at < run->error_count &&
           strncmp(run->errors[at].text, text, LOAD_ERROR_BYTES_MAX - 1) != 0) {
        at++;
    }
    if (at < LOAD_ERRORS_MAX) {
        if (at == run->error_count) {
            snprintf(run->errors[at].text, sizeof run->errors[at].text, "%s", text);
            run->error_count++;
        }
        run->errors[at].count++;
    }
    pthread_mutex_unlock(&run->errors_lock);
}

static bool send_format(struct load_conn *c, const char *format, va_list args)
{
    char *bytes = NULL;
    int len = redisvFormatCommand(&bytes, format, args);
    ASSERT(len > 0);
    bool sent = load_write(c, (struct slice){ (const uint8_t *)bytes, (size_t)len });
    free(bytes);
    return sent;
}

bool load_send(struct load_conn *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool sent = send_format(c, format, args);
    va_end(args);
    return sent;
}

redisReply *load_wait(struct load_conn *c)
{
    struct buf in CLEANUP(buf_deinit) = { .len = 0 };
    int64_t end_ns = load_now_ns() + (int64_t)c->run->options->timeout_ms * 1000000;
    void *reply = NULL;
    for (;;) {
        if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) return NULL;
        if (reply != NULL) return reply;
        int64_t left_ms = (end_ns - load_now_ns()) / 1000000;
        if (left_ms <= 0 || load_read(c, &in, (int)left_ms) < 0) return NULL;
        if (in.len > 0) redisReaderFeed(c->reader, (const char *)in.at, in.len);
        buf_clear(&in);
    }
}

static redisReply *ask_format(struct load_conn *c, const char *format, va_list args)
{
    return send_format(c, format, args) ? load_wait(c) : NULL;
}

redisReply *load_ask(struct load_conn *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask_format(c, format, args);
    va_end(args);
    return reply;
}

bool load_connect(struct load_conn *c, size_t node)
{
    load_disconnect(c);
    c->node = node;
    c->client = atomic_fetch_add(&c->run->next_client, 1);
    if (!load_open(c)) {
        load_count_error(c->run, "(not connected)");
        return false;
    }
    c->reader = redisReaderCreate();
    redisReply *pong = load_ask(c, "PING");
    bool serves = pong != NULL && pong->type != REDIS_REPLY_ERROR;
    if (pong != NULL && !serves) load_count_error(c->run, pong->str);
    if (pong != NULL) freeReplyObject(pong);
    if (!serves) load_disconnect(c);
    return serves;
}

/* --- one operation --------------------------------------------------------------------------- */

void load_begin(struct load_conn *c, enum history_kind kind)
{
    history_op(c->h, kind, c->client, load_now_ns())->node = (uint32_t)c->node;
}

static void succeeded(struct load_run *run, int64_t now_ns)
{
    int64_t before = atomic_exchange(&run->success_ns, now_ns);
    long long longest = atomic_load(&run->silence_ns);
    while (now_ns - before > longest &&
           !atomic_compare_exchange_weak(&run->silence_ns, &longest, now_ns - before)) {
    }
}

/* What an error says about the operation. Only TIMEOUT leaves it open. */
static enum history_outcome outcome_of(const char *error)
{
    return strncmp(error, "TIMEOUT", 7) == 0 ? HISTORY_UNKNOWN : HISTORY_REFUSED;
}

bool load_answered(struct load_conn *c, size_t op_at, const redisReply *reply)
{
    int64_t now_ns = load_now_ns();
    struct history_op *op = &c->h->ops[op_at];
    if (reply == NULL) {
        load_count_error(c->run, "(connection lost)");
        load_disconnect(c);
        return false; /* stays UNKNOWN */
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        op->outcome = outcome_of(reply->str);
        if (op->outcome == HISTORY_REFUSED) op->complete_ns = now_ns;
        load_count_error(c->run, reply->str);
        return false;
    }
    op->outcome = HISTORY_DONE;
    op->complete_ns = now_ns;
    succeeded(c->run, now_ns);
    atomic_fetch_add(&c->run->ops, 1);
    return true;
}

redisReply *load_call(struct load_conn *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask_format(c, format, args);
    va_end(args);
    if (load_answered(c, c->h->op_count - 1, reply)) return reply;
    if (reply != NULL) freeReplyObject(reply);
    return NULL;
}

/* --- replies ---------------------------------------------------------------------------------- */

const redisReply *load_field(const redisReply *map, const char *name)
{
    if (map == NULL) return NULL;
    for (size_t i = 0; i + 1 < map->elements; i += 2) {
        if (map->element[i]->str != NULL && strcmp(map->element[i]->str, name) == 0) {
            return map->element[i + 1];
        }
    }
    return NULL;
}

uint64_t load_u64(const redisReply *map, const char *name)
{
    const redisReply *field = load_field(map, name);
    return field == NULL ? 0 : (uint64_t)field->integer;
}

struct slice load_bytes(const redisReply *reply)
{
    if (reply == NULL || reply->str == NULL) return SLICE_NONE;
    return (struct slice){ (const uint8_t *)reply->str, reply->len };
}

void load_saw(struct load_conn *c, struct slice key, const redisReply *kv)
{
    if (kv == NULL || kv->type == REDIS_REPLY_NIL) {
        history_item(c->h, HISTORY_ITEM_NONE, key, SLICE_NONE);
        return;
    }
    struct history_item *item =
        history_item(c->h, HISTORY_ITEM_SAW, key, load_bytes(load_field(kv, "value")));
    item->mod = load_u64(kv, "mod");
    item->create = load_u64(kv, "create");
    item->version = load_u64(kv, "version");
}
