/* check/check_kit.h - histories written down in a test.
 *
 * Times are in ms here. Every function returns the index of what it added, so that a test can bend
 * it: kit_at(h, kit_put(...))->outcome = HISTORY_UNKNOWN. The log_ functions know create and version. */
#ifndef CHECK_CHECK_KIT_H
#define CHECK_CHECK_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "check.h"

#define KIT_MS 1000000LL

static inline struct history_op *kit_at(struct history *h, size_t op) { return &h->ops[op]; }
static inline struct history_event *kit_log_at(struct history *h, size_t at) { return &h->log[at]; }

static inline struct history_op *kit_op(struct history *h, enum history_kind kind, int64_t from_ms,
                                        int64_t to_ms, uint64_t rev)
{
    struct history_op *op = history_op(h, kind, 1, from_ms * KIT_MS);
    op->outcome = HISTORY_DONE;
    op->complete_ns = to_ms * KIT_MS;
    op->applied = true;
    op->rev = rev;
    return op;
}

static inline struct history_item *kit_item(struct history *h, enum history_role role,
                                            const char *key, const char *value)
{
    return history_item(h, role, slice_of(key), slice_of(value));
}

static inline size_t kit_put(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                             const char *value, uint64_t rev)
{
    kit_op(h, HISTORY_PUT, from_ms, to_ms, rev);
    kit_item(h, HISTORY_ITEM_PUT, key, value);
    return h->op_count - 1;
}

static inline size_t kit_del(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                             uint64_t rev)
{
    kit_op(h, HISTORY_DELETE, from_ms, to_ms, rev);
    kit_item(h, HISTORY_ITEM_DEL, key, "");
    return h->op_count - 1;
}

/* value NULL: it was not there. mod 0: not told. */
static inline size_t kit_get(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                             const char *value, uint64_t mod)
{
    kit_op(h, HISTORY_GET, from_ms, to_ms, 0)->applied = false;
    if (value == NULL) {
        kit_item(h, HISTORY_ITEM_NONE, key, "");
    } else {
        kit_item(h, HISTORY_ITEM_SAW, key, value)->mod = mod;
    }
    return h->op_count - 1;
}

static inline size_t kit_incr(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                              const char *result)
{
    kit_op(h, HISTORY_INCR, from_ms, to_ms, 0);
    kit_item(h, HISTORY_ITEM_INCR, key, result)->number = 1;
    return h->op_count - 1;
}

static inline size_t kit_append(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                                const char *token)
{
    kit_op(h, HISTORY_APPEND, from_ms, to_ms, 0);
    kit_item(h, HISTORY_ITEM_APPEND, key, token);
    return h->op_count - 1;
}

/* KV PUT key value IFMOD mod */
static inline size_t kit_cas(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                             uint64_t mod, const char *value, uint64_t rev)
{
    kit_op(h, HISTORY_CAS, from_ms, to_ms, rev);
    kit_item(h, HISTORY_ITEM_IF_MOD, key, "")->mod = mod;
    kit_item(h, HISTORY_ITEM_PUT, key, value);
    return h->op_count - 1;
}

static inline size_t kit_lock(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                              const char *token, int64_t ttl_ms)
{
    size_t at = kit_cas(h, from_ms, to_ms, key, 0, token, 0);
    h->ops[at].kind = HISTORY_LOCK;
    h->ops[at].ttl_ms = ttl_ms;
    return at;
}

static inline size_t kit_unlock(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                                const char *token)
{
    kit_op(h, HISTORY_UNLOCK, from_ms, to_ms, 0);
    kit_item(h, HISTORY_ITEM_IF_VALUE, key, token);
    kit_item(h, HISTORY_ITEM_DEL, key, "");
    return h->op_count - 1;
}

/* HISTORY_GRANT, _KEEPALIVE, _REVOKE */
static inline size_t kit_lease(struct history *h, enum history_kind kind, int64_t from_ms,
                               int64_t to_ms, uint64_t lease, int64_t ttl_ms)
{
    struct history_op *op = kit_op(h, kind, from_ms, to_ms, 0);
    op->lease = lease;
    op->ttl_ms = ttl_ms;
    return h->op_count - 1;
}

/* --- the log ---------------------------------------------------------------------------------- */

static inline size_t kit_log(struct history *h, uint64_t rev, uint32_t n,
                             enum history_event_op op, const char *key, const char *value)
{
    struct history_event event = { .rev = rev, .n = n, .op = op, .key = slice_of(key),
                                   .value = slice_of(value) };
    const struct history_event *prev = NULL;
    for (size_t i = 0; i < h->log_count; i++) {
        if (slice_eq(h->log[i].key, event.key)) prev = &h->log[i];
    }
    bool there = prev != NULL && prev->op == HISTORY_EVENT_PUT;
    if (op == HISTORY_EVENT_PUT) {
        event.create = there ? prev->create : rev;
        event.version = there ? prev->version + 1 : 1;
    } else if (there) {
        event.create = prev->create;
        event.lease = prev->lease;
    }
    history_add_event(h, &event);
    return h->log_count - 1;
}

static inline size_t kit_log_put(struct history *h, uint64_t rev, const char *key,
                                 const char *value)
{
    return kit_log(h, rev, 1, HISTORY_EVENT_PUT, key, value);
}

static inline size_t kit_log_del(struct history *h, uint64_t rev, const char *key)
{
    return kit_log(h, rev, 1, HISTORY_EVENT_DEL, key, "");
}

static inline size_t kit_log_expire(struct history *h, uint64_t rev, const char *key)
{
    return kit_log(h, rev, 1, HISTORY_EVENT_EXPIRE, key, "");
}

/* --- streams ----------------------------------------------------------------------------------- */

static inline void kit_watch(struct history *h, uint64_t id, const char *begin, const char *end,
                             uint64_t from, unsigned flags)
{
    struct history_watch watch = { .id = id, .client = 1, .flags = flags, .from = from,
                                   .begin = slice_of(begin), .end = slice_of(end) };
    history_add_watch(h, &watch);
}

/* Delivers event `at` of the log; with WATCH_PREV the test fills prev. */
static inline struct history_mark *kit_seen(struct history *h, uint64_t id, int64_t ms, size_t at)
{
    struct history_mark mark = { .kind = HISTORY_MARK_EVENT, .watch = id, .time_ns = ms * KIT_MS,
                                 .rev = h->log[at].rev, .event = h->log[at] };
    history_add_mark(h, &mark);
    return &h->marks[h->mark_count - 1];
}

static inline void kit_told(struct history *h, enum history_mark_kind kind, uint64_t id, int64_t ms,
                            uint64_t rev)
{
    struct history_mark mark = { .kind = kind, .watch = id, .time_ns = ms * KIT_MS, .rev = rev };
    history_add_mark(h, &mark);
}

/* --- verdicts ---------------------------------------------------------------------------------- */

/* One case: a history, and a piece of the violation's text; NULL: nothing is wrong with it. */
struct kit_case {
    const char *name;
    void (*write)(struct history *h);
    const char *found;
};

static inline void kit_judge(const struct kit_case *c)
{
    struct history *h = history_new();
    struct verdict v = { .violation_count = 0 };
    struct check_params params = CHECK_PARAMS_DEFAULT;
    params.lease.late_ms_max = 1000;
    c->write(h);
    check_history(h, &params, &v);
    buf_append_u8(&v.text, 0);
    if (c->found == NULL && v.violation_count != 0) {
        fail_msg("%s: nothing is wrong, but:\n%s", c->name, (const char *)v.text.at);
    }
    if (c->found != NULL && strstr((const char *)v.text.at, c->found) == NULL) {
        fail_msg("%s: no '%s' in:\n%s", c->name, c->found, (const char *)v.text.at);
    }
    verdict_deinit(&v);
    history_free(h);
}

#define KIT_JUDGE(cases) \
    do { \
        for (size_t kit_i = 0; kit_i < ARRAY_LEN(cases); kit_i++) kit_judge(&(cases)[kit_i]); \
    } while (0)

#endif
