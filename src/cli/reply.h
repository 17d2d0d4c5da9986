/* cli/reply.h - the server's answers, taken apart.
 *
 * PURPOSE  Read the flattened maps of RESP2 into plain structs. Prints nothing.
 * OWNS     kv_list and the arrays in results; the bytes they point to are borrowed from the
 *          reply, which must live as long.
 * USES     base/, hiredis' reply type.
 * THREADS  Any.
 * LIMITS   None: hiredis bounds depth, the reply's own size bounds the rest.
 * ERRORS   ERR_PROTO: not the shape that was expected. Fields that are not known are
 *          skipped, so a newer server can say more.
 */
#ifndef CLI_REPLY_H
#define CLI_REPLY_H

#include <hiredis/hiredis.h>

#include "base/base.h"

struct kv {
    struct slice key;
    struct slice value; /* empty where has_value is false */
    struct slice type;  /* "string", "hash", "list"; empty where not said */
    bool has_value;
    int64_t create_rev;
    int64_t mod_rev;
    int64_t version;
    int64_t lease_id;
};

struct kv_list {
    struct kv *at;
    size_t count;
};

struct range_result {
    int64_t revision;
    int64_t count; /* of all keys in the range */
    bool more;
    struct kv_list kvs;
};

struct put_result {
    int64_t revision;
    bool applied;
    bool has_prev;
    struct kv prev; /* not applied: what is there instead */
};

struct del_result {
    int64_t revision;
    int64_t deleted;
    struct kv_list prevs;
};

struct txn_result {
    int64_t revision;
    bool succeeded;
    bool has_failed;
    size_t failed_index;
    bool has_failed_kv;
    struct kv failed_kv;
    const redisReply *responses; /* an array, borrowed */
};

struct event {
    struct slice op; /* put, del, expire */
    struct kv kv;    /* mod_rev is the event's revision */
    bool has_prev;
    struct kv prev;
};

struct event_list {
    struct event *at;
    size_t count;
    int64_t next_rev;
};

struct member {
    int64_t id;
    struct slice name;
    struct slice peer;
    struct slice client;
    struct slice role;
    struct slice version;
    int64_t match_index;
    int64_t lag;
    bool is_started;
};

struct status {
    int64_t member_id;
    int64_t cluster_id;
    struct slice version;
    int64_t db_bytes;
    int64_t used_bytes;
    int64_t quota_bytes;
    int64_t leader_id;
    int64_t term;
    int64_t index;
    int64_t applied_index;
    int64_t revision;
    int64_t compacted_rev;
    bool is_learner;
    const redisReply *errors; /* an array or a string, borrowed; NULL if not said */
};

struct lease_result {
    int64_t id;
    int64_t granted; /* in the unit that was asked for */
    int64_t ttl;
    int64_t key_count;
    const redisReply *keys; /* an array, borrowed; NULL if not asked */
};

void kv_list_deinit(struct kv_list *list);

struct slice reply_bytes(const redisReply *r); /* strings and statuses, else empty */
enum err reply_i64(const redisReply *r, int64_t *out) MUST_USE; /* an integer, or its digits */
/* The value behind a name in a flattened map; NULL if it is not there or null. */
const redisReply *reply_field(const redisReply *map, const char *name);

/* out->kvs is freed by the caller with kv_list_deinit; on errors nothing is left to free. */
enum err reply_range(const redisReply *r, struct range_result *out) MUST_USE;
enum err reply_put(const redisReply *r, struct put_result *out) MUST_USE;
enum err reply_del(const redisReply *r, struct del_result *out) MUST_USE;
enum err reply_txn(const redisReply *r, struct txn_result *out) MUST_USE;
enum err reply_events(const redisReply *r,
                      struct event_list *out) MUST_USE; /* frees: mem_free(at) */
enum err reply_member(const redisReply *r, struct member *out) MUST_USE;
enum err reply_status(const redisReply *r, struct status *out) MUST_USE;
enum err reply_lease(const redisReply *r, struct lease_result *out) MUST_USE;

#endif
