#include "cli/render.h"

#include <stdio.h>

#include "cli/render_int.h"
#include "cli/text.h"

static bool has(const struct render *r, enum option_id id)
{
    return (r->given & OPT_BIT(id)) != 0;
}

void render_bytes(struct buf *out, const struct render *r, struct slice bytes)
{
    if (r->hex) {
        text_hex(out, bytes);
    } else if (r->format == FORMAT_TABLE) {
        text_escape(out, bytes);
    } else {
        buf_append_slice(out, bytes);
    }
}

static void simple_line(struct buf *out, const struct render *r, struct slice bytes)
{
    render_bytes(out, r, bytes);
    buf_append_u8(out, '\n');
}

static void simple_kv(struct buf *out, const struct render *r, const struct kv *kv)
{
    if (!has(r, OPT_PRINT_VALUE_ONLY)) simple_line(out, r, kv->key);
    if (!has(r, OPT_KEYS_ONLY)) simple_line(out, r, kv->value);
}

static void kvs(struct buf *out, const struct render *r, const struct kv *at, size_t count)
{
    if (r->format == FORMAT_TABLE) {
        if (count > 0) table_kvs(out, r, at, count);
        return;
    }
    for (size_t i = 0; i < count; i++) simple_kv(out, r, &at[i]);
}

void render_range(struct buf *out, const struct render *r, const struct range_result *res)
{
    if (r->format == FORMAT_JSON) {
        json_range(out, r, res);
    } else if (has(r, OPT_COUNT_ONLY)) {
        buf_printf(out, "%lld\n", (long long)res->count);
    } else if (r->format == FORMAT_TABLE) {
        table_range(out, r, res);
    } else {
        kvs(out, r, res->kvs.at, res->kvs.count);
    }
}

void render_put(struct buf *out, const struct render *r, const struct put_result *res)
{
    if (r->format == FORMAT_JSON) {
        json_put(out, r, res);
        return;
    }
    if (!res->applied) return; /* stderr says why */
    buf_printf(out, "OK\n");
    if (res->has_prev) kvs(out, r, &res->prev, 1);
}

void render_del(struct buf *out, const struct render *r, const struct del_result *res)
{
    if (r->format == FORMAT_JSON) {
        json_del(out, r, res);
        return;
    }
    buf_printf(out, "%lld\n", (long long)res->deleted);
    kvs(out, r, res->prevs.at, res->prevs.count);
}

static enum err txn_response(struct buf *out, const struct render *r, const struct txn_op *op,
                             const redisReply *reply)
{
    struct render inner = *r;
    inner.given = op->given;
    if (op->command == COMMAND_PUT) {
        struct put_result put;
        TRY(reply_put(reply, &put));
        if (!put.applied) buf_printf(out, "NOT APPLIED\n");
        render_put(out, &inner, &put);
    } else if (op->command == COMMAND_DEL) {
        struct del_result del;
        TRY(reply_del(reply, &del));
        render_del(out, &inner, &del);
        kv_list_deinit(&del.prevs);
    } else {
        struct range_result range;
        TRY(reply_range(reply, &range));
        render_range(out, &inner, &range);
        kv_list_deinit(&range.kvs);
    }
    return OK;
}

enum err render_txn(struct buf *out, const struct render *r, const struct txn *txn,
                    const struct txn_result *res)
{
    const struct txn_op_list *ops = &txn->ops[res->succeeded ? TXN_THEN : TXN_ELSE];
    if (res->responses->elements != ops->count) return ERR_PROTO;
    if (r->format == FORMAT_JSON) return json_txn(out, r, txn, res);
    buf_printf(out, "%s\n", res->succeeded ? "SUCCESS" : "FAILURE");
    for (size_t i = 0; i < ops->count; i++) {
        buf_append_u8(out, '\n');
        TRY(txn_response(out, r, &ops->at[i], res->responses->element[i]));
    }
    return OK;
}

void render_txn_failed(struct buf *out, const struct txn *txn, const struct txn_result *res)
{
    ASSERT(res->has_failed);
    buf_printf(out, "compare %zu did not hold", res->failed_index + 1);
    if (res->failed_index < txn->compare_texts.count) {
        buf_printf(out, ": ");
        text_escape(out, txn->compare_texts.at[res->failed_index]);
    }
    if (!res->has_failed_kv) {
        buf_printf(out, "; found no such key");
        return;
    }
    const struct kv *kv = &res->failed_kv;
    buf_printf(out, "; found mod %lld, create %lld, version %lld, lease %lld, value \"",
               (long long)kv->mod_rev, (long long)kv->create_rev, (long long)kv->version,
               (long long)kv->lease_id);
    struct slice start = { kv->value.at, MIN(kv->value.len, 128) };
    text_escape(out, start);
    buf_printf(out, "%s", start.len < kv->value.len ? "\"..." : "\"");
}

const char *render_event_name(const struct event *e)
{
    if (slice_is(e->op, "put")) return "PUT";
    return slice_is(e->op, "expire") ? "EXPIRE" : "DELETE";
}

void render_events(struct buf *out, const struct render *r, const struct event *at, size_t count)
{
    if (r->format == FORMAT_JSON) {
        json_events(out, r, at, count);
        return;
    }
    if (r->format == FORMAT_TABLE) {
        table_events(out, r, at, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s\n", render_event_name(&at[i]));
        if (at[i].has_prev) simple_kv(out, r, &at[i].prev);
        simple_kv(out, r, &at[i].kv);
    }
}

void render_lease_grant(struct buf *out, const struct render *r, int64_t id, int64_t ttl,
                        const char *unit)
{
    if (r->format == FORMAT_JSON) {
        json_lease_grant(out, r, id, ttl);
    } else {
        buf_printf(out, "lease %lld granted with TTL(%lld%s)\n", (long long)id, (long long)ttl,
                   unit);
    }
}

void render_lease_revoke(struct buf *out, const struct render *r, int64_t id)
{
    if (r->format == FORMAT_JSON) {
        json_done(out, r);
    } else {
        buf_printf(out, "lease %lld revoked\n", (long long)id);
    }
}

void render_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res,
                      bool with_keys)
{
    if (r->format == FORMAT_JSON) {
        json_lease_ttl(out, r, res);
        return;
    }
    if (r->format == FORMAT_TABLE) {
        table_lease_ttl(out, r, res, with_keys);
        return;
    }
    buf_printf(out, "lease %lld granted with TTL(%llds), remaining(%llds)", (long long)res->id,
               (long long)res->granted, (long long)res->ttl);
    if (with_keys) {
        buf_printf(out, ", attached keys([");
        for (size_t i = 0; res->keys != NULL && i < res->keys->elements; i++) {
            if (i > 0) buf_append_u8(out, ' ');
            render_bytes(out, r, reply_bytes(res->keys->element[i]));
        }
        buf_printf(out, "])");
    }
    buf_append_u8(out, '\n');
}

void render_lease_list(struct buf *out, const struct render *r, const int64_t *ids, size_t count)
{
    if (r->format == FORMAT_JSON) {
        json_lease_list(out, r, ids, count);
        return;
    }
    if (r->format == FORMAT_TABLE) {
        table_lease_list(out, ids, count);
        return;
    }
    buf_printf(out, "found %zu leases\n", count);
    for (size_t i = 0; i < count; i++) buf_printf(out, "%lld\n", (long long)ids[i]);
}

void render_lease_alive(struct buf *out, const struct render *r, int64_t id, int64_t ttl)
{
    if (r->format == FORMAT_JSON) {
        json_lease_grant(out, r, id, ttl);
    } else {
        buf_printf(out, "lease %lld keepalived with TTL(%lld)\n", (long long)id, (long long)ttl);
    }
}

static void simple_member(struct buf *out, const struct member *m)
{
    bool is_learner = slice_is(m->role, "learner");
    buf_printf(out, "%lld, %s, %.*s, %.*s, %.*s, %s, %.*s, %lld, %.*s\n", (long long)m->id,
               m->is_started ? "started" : "unstarted", (int)m->name.len, (const char *)m->name.at,
               (int)m->peer.len, (const char *)m->peer.at, (int)m->client.len,
               (const char *)m->client.at, is_learner ? "true" : "false", (int)m->role.len,
               (const char *)m->role.at, (long long)m->lag, (int)m->version.len,
               (const char *)m->version.at);
}

void render_members(struct buf *out, const struct render *r, const struct member *at, size_t count)
{
    if (r->format == FORMAT_JSON) {
        json_members(out, r, at, count);
    } else if (r->format == FORMAT_TABLE) {
        table_members(out, at, count);
    } else {
        for (size_t i = 0; i < count; i++) simple_member(out, &at[i]);
    }
}

void render_done(struct buf *out, const struct render *r, const char *text)
{
    if (r->format == FORMAT_JSON) {
        json_done(out, r);
    } else {
        buf_printf(out, "%s\n", text);
    }
}

void render_status_errors(struct buf *out, const struct status_row *row)
{
    if (!row->is_answered) {
        buf_printf(out, "%s", row->problem);
        return;
    }
    const redisReply *errors = row->status.errors;
    if (errors == NULL) return;
    if (errors->type != REDIS_REPLY_ARRAY) {
        text_escape(out, reply_bytes(errors));
        return;
    }
    for (size_t i = 0; i < errors->elements; i++) {
        if (i > 0) buf_printf(out, "; ");
        text_escape(out, reply_bytes(errors->element[i]));
    }
}

const char *render_status_role(const struct status_row *row)
{
    const struct status *s = &row->status;
    if (!row->is_answered) return "unreachable";
    if (s->leader_id == 0) return "no leader";
    if (s->is_learner) return "learner";
    return s->leader_id == s->member_id ? "leader" : "follower";
}

static void simple_status(struct buf *out, const struct status_row *row)
{
    const struct status *s = &row->status;
    if (row->is_answered) {
        bool is_leader = s->leader_id != 0 && s->leader_id == s->member_id;
        buf_printf(out, "%s, %lld, %.*s, %lld, %s, %s, %lld, %lld, %lld, %lld, ", row->endpoint,
                   (long long)s->member_id, (int)s->version.len, (const char *)s->version.at,
                   (long long)s->db_bytes, is_leader ? "true" : "false",
                   s->is_learner ? "true" : "false", (long long)s->term, (long long)s->index,
                   (long long)s->applied_index, (long long)s->revision);
    } else {
        buf_printf(out, "%s, , , , , , , , , , ", row->endpoint);
    }
    render_status_errors(out, row);
    buf_append_u8(out, '\n');
}

void render_status(struct buf *out, const struct render *r, const struct status_row *at,
                   size_t count)
{
    if (r->format == FORMAT_JSON) {
        json_status(out, at, count);
    } else if (r->format == FORMAT_TABLE) {
        table_status(out, at, count);
    } else {
        for (size_t i = 0; i < count; i++) simple_status(out, &at[i]);
    }
}
