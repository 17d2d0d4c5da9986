/* Connections and what their answers mean. */
#include "load.h"

#include <poll.h>
#include <sys/time.h>
#include <time.h>

#define CONNECT_MS_MAX 1000

int64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t load_random(struct load_conn *c, uint64_t below)
{
    c->random += 0x9e3779b97f4a7c15ULL;
    return u64_mix(c->random) % below;
}

void load_sleep_ms(int64_t ms)
{
    poll(NULL, 0, (int)ms);
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
    if (c->to != NULL) redisFree(c->to);
    c->to = NULL;
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

static struct timeval timeval_of(int ms)
{
    return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

bool load_connect(struct load_conn *c, size_t node)
{
    const struct load_node *to = &c->run->options->nodes[node];
    load_disconnect(c);
    c->node = node;
    c->client = atomic_fetch_add(&c->run->next_client, 1);
    c->to = redisConnectWithTimeout(to->host, to->port, timeval_of(CONNECT_MS_MAX));
    if (c->to == NULL || c->to->err != 0 ||
        redisSetTimeout(c->to, timeval_of(c->run->options->timeout_ms)) != REDIS_OK) {
        load_count_error(c->run, "(not connected)");
        load_disconnect(c);
        return false;
    }
    redisReply *pong = redisCommand(c->to, "PING");
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

redisReply *load_call(struct load_conn *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(c->to, format, args);
    va_end(args);
    int64_t now_ns = load_now_ns();
    struct history_op *op = &c->h->ops[c->h->op_count - 1];
    if (reply == NULL) {
        load_count_error(c->run, "(connection lost)");
        load_disconnect(c);
        return NULL; /* stays UNKNOWN */
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        op->outcome = outcome_of(reply->str);
        if (op->outcome == HISTORY_REFUSED) op->complete_ns = now_ns;
        load_count_error(c->run, reply->str);
        freeReplyObject(reply);
        return NULL;
    }
    op->outcome = HISTORY_DONE;
    op->complete_ns = now_ns;
    succeeded(c->run, now_ns);
    atomic_fetch_add(&c->run->ops, 1);
    return reply;
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
