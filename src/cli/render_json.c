#include "cli/render_int.h"
#include "cli/text.h"

#include <stdio.h>

/* A comma stands before everything but the first of an object, a list or behind a name. */
static void separate(struct buf *out)
{
    if (out->len == 0) return;
    uint8_t last = out->at[out->len - 1];
    if (last != '{' && last != '[' && last != ':' && last != '\n') buf_append_u8(out, ',');
}

static void open_brace(struct buf *out, const char *name, char brace)
{
    separate(out);
    if (name != NULL) buf_printf(out, "\"%s\":", name);
    buf_append_u8(out, (uint8_t)brace);
}

static void close_brace(struct buf *out, char brace)
{
    buf_append_u8(out, (uint8_t)brace);
}

static void add_i64(struct buf *out, const char *name, int64_t v)
{
    separate(out);
    buf_printf(out, "\"%s\":%lld", name, (long long)v);
}

static void add_i64_if(struct buf *out, const char *name, int64_t v)
{
    if (v != 0) add_i64(out, name, v);
}

static void add_bool(struct buf *out, const char *name, bool v)
{
    separate(out);
    buf_printf(out, "\"%s\":%s", name, v ? "true" : "false");
}

static void add_bool_if(struct buf *out, const char *name, bool v)
{
    if (v) add_bool(out, name, v);
}

static void add_base64(struct buf *out, const char *name, struct slice bytes)
{
    separate(out);
    if (name != NULL) buf_printf(out, "\"%s\":", name);
    buf_append_u8(out, '"');
    text_base64(out, bytes);
    buf_append_u8(out, '"');
}

/* Text of the server's own; what is not UTF-8 becomes U+FFFD. */
static void add_text(struct buf *out, const char *name, struct slice text)
{
    separate(out);
    if (name != NULL) buf_printf(out, "\"%s\":", name);
    buf_append_u8(out, '"');
    while (text.len > 0) {
        size_t len = text_utf8_len(text);
        uint8_t c = text.at[0];
        if (len == 0) {
            buf_append(out, "\xef\xbf\xbd", 3);
            len = 1;
        } else if (c == '"' || c == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, c);
        } else if (c < 0x20) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_append(out, text.at, len);
        }
        text = (struct slice){ text.at + len, text.len - len };
    }
    buf_append_u8(out, '"');
}

static void add_header_fields(struct buf *out, const struct header *h)
{
    add_i64_if(out, "cluster_id", h->cluster_id);
    add_i64_if(out, "member_id", h->member_id);
    add_i64_if(out, "revision", h->revision);
    add_i64_if(out, "raft_term", h->raft_term);
}

static void add_header(struct buf *out, const char *name, const struct header *h, int64_t revision)
{
    struct header seen = *h;
    if (revision != 0) seen.revision = revision;
    open_brace(out, name, '{');
    add_header_fields(out, &seen);
    close_brace(out, '}');
}

static void add_kv(struct buf *out, const char *name, const struct kv *kv)
{
    open_brace(out, name, '{');
    add_base64(out, "key", kv->key);
    add_i64_if(out, "create_revision", kv->create_rev);
    add_i64_if(out, "mod_revision", kv->mod_rev);
    add_i64_if(out, "version", kv->version);
    if (kv->value.len > 0) add_base64(out, "value", kv->value);
    add_i64_if(out, "lease", kv->lease_id);
    if (kv->type.len > 0 && !slice_is(kv->type, "string")) add_text(out, "type", kv->type);
    close_brace(out, '}');
}

static void add_kvs(struct buf *out, const char *name, const struct kv_list *kvs)
{
    if (kvs->count == 0) return;
    open_brace(out, name, '[');
    for (size_t i = 0; i < kvs->count; i++) add_kv(out, NULL, &kvs->at[i]);
    close_brace(out, ']');
}

static void range_body(struct buf *out, const struct header *h, const struct range_result *res)
{
    add_header(out, "header", h, res->revision);
    add_kvs(out, "kvs", &res->kvs);
    add_bool_if(out, "more", res->more);
    add_i64_if(out, "count", res->count);
}

static void put_body(struct buf *out, const struct header *h, const struct put_result *res)
{
    add_header(out, "header", h, res->revision);
    if (!res->applied) add_bool(out, "applied", false);
    if (res->has_prev) add_kv(out, "prev_kv", &res->prev);
}

static void del_body(struct buf *out, const struct header *h, const struct del_result *res)
{
    add_header(out, "header", h, res->revision);
    add_i64_if(out, "deleted", res->deleted);
    add_kvs(out, "prev_kvs", &res->prevs);
}

static void end_document(struct buf *out)
{
    buf_append(out, "}\n", 2);
}

void json_range(struct buf *out, const struct render *r, const struct range_result *res)
{
    open_brace(out, NULL, '{');
    range_body(out, &r->header, res);
    end_document(out);
}

void json_put(struct buf *out, const struct render *r, const struct put_result *res)
{
    open_brace(out, NULL, '{');
    put_body(out, &r->header, res);
    end_document(out);
}

void json_del(struct buf *out, const struct render *r, const struct del_result *res)
{
    open_brace(out, NULL, '{');
    del_body(out, &r->header, res);
    end_document(out);
}

/* Inside a txn only the revision of a header is repeated. */
static enum err add_response(struct buf *out, const struct txn_op *op, const redisReply *reply)
{
    const struct header h = { 0 };
    open_brace(out, NULL, '{');
    open_brace(out, "Response", '{');
    if (op->command == COMMAND_PUT) {
        struct put_result put;
        TRY(reply_put(reply, &put));
        open_brace(out, "response_put", '{');
        put_body(out, &h, &put);
    } else if (op->command == COMMAND_DEL) {
        struct del_result del;
        TRY(reply_del(reply, &del));
        open_brace(out, "response_delete_range", '{');
        del_body(out, &h, &del);
        kv_list_deinit(&del.prevs);
    } else {
        struct range_result range;
        TRY(reply_range(reply, &range));
        open_brace(out, "response_range", '{');
        range_body(out, &h, &range);
        kv_list_deinit(&range.kvs);
    }
    buf_append(out, "}}}", 3);
    return OK;
}

enum err json_txn(struct buf *out, const struct render *r, const struct txn *txn,
                  const struct txn_result *res)
{
    const struct txn_op_list *ops = &txn->ops[res->succeeded ? TXN_THEN : TXN_ELSE];
    open_brace(out, NULL, '{');
    add_header(out, "header", &r->header, res->revision);
    add_bool_if(out, "succeeded", res->succeeded);
    if (res->has_failed) {
        open_brace(out, "failed", '{');
        add_i64(out, "compare", (int64_t)res->failed_index);
        if (res->has_failed_kv) add_kv(out, "kv", &res->failed_kv);
        close_brace(out, '}');
    }
    if (ops->count > 0) {
        open_brace(out, "responses", '[');
        for (size_t i = 0; i < ops->count; i++) {
            TRY(add_response(out, &ops->at[i], res->responses->element[i]));
        }
        close_brace(out, ']');
    }
    end_document(out);
    return OK;
}

#define EVENT_TYPE_DELETE 1

static void add_event(struct buf *out, const struct event *e)
{
    bool is_put = slice_is(e->op, "put");
    open_brace(out, NULL, '{');
    if (!is_put) add_i64(out, "type", EVENT_TYPE_DELETE);
    add_bool_if(out, "expired", slice_is(e->op, "expire"));
    add_kv(out, "kv", &e->kv);
    if (e->has_prev) add_kv(out, "prev_kv", &e->prev);
    close_brace(out, '}');
}

void json_events(struct buf *out, const struct render *r, const struct event *at, size_t count)
{
    if (count == 0) return;
    open_brace(out, NULL, '{');
    add_header(out, "Header", &r->header, at[count - 1].kv.mod_rev);
    open_brace(out, "Events", '[');
    for (size_t i = 0; i < count; i++) add_event(out, &at[i]);
    close_brace(out, ']');
    add_i64(out, "CompactRevision", 0);
    add_bool(out, "Canceled", false);
    add_bool(out, "Created", false);
    end_document(out);
}

void json_lease_grant(struct buf *out, const struct render *r, int64_t id, int64_t ttl)
{
    open_brace(out, NULL, '{');
    add_header_fields(out, &r->header);
    add_i64(out, "ID", id);
    add_i64(out, "TTL", ttl);
    end_document(out);
}

void json_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res)
{
    open_brace(out, NULL, '{');
    add_header_fields(out, &r->header);
    add_i64(out, "id", res->id);
    add_i64(out, "ttl", res->ttl);
    add_i64(out, "granted-ttl", res->granted);
    if (res->keys == NULL) {
        separate(out);
        buf_printf(out, "\"keys\":null");
    } else {
        open_brace(out, "keys", '[');
        for (size_t i = 0; i < res->keys->elements; i++) {
            add_base64(out, NULL, reply_bytes(res->keys->element[i]));
        }
        close_brace(out, ']');
    }
    end_document(out);
}

void json_lease_list(struct buf *out, const struct render *r, const int64_t *ids, size_t count)
{
    open_brace(out, NULL, '{');
    add_header_fields(out, &r->header);
    open_brace(out, "leases", '[');
    for (size_t i = 0; i < count; i++) {
        open_brace(out, NULL, '{');
        add_i64(out, "id", ids[i]);
        close_brace(out, '}');
    }
    close_brace(out, ']');
    end_document(out);
}

static void add_member(struct buf *out, const struct member *m)
{
    open_brace(out, NULL, '{');
    add_i64(out, "ID", m->id);
    if (m->name.len > 0) add_text(out, "name", m->name);
    open_brace(out, "peerURLs", '[');
    if (m->peer.len > 0) add_text(out, NULL, m->peer);
    close_brace(out, ']');
    open_brace(out, "clientURLs", '[');
    if (m->client.len > 0) add_text(out, NULL, m->client);
    close_brace(out, ']');
    add_bool_if(out, "isLearner", slice_is(m->role, "learner"));
    add_text(out, "role", m->role);
    add_i64(out, "lag", m->lag);
    add_bool(out, "started", m->is_started);
    add_text(out, "version", m->version);
    close_brace(out, '}');
}

void json_members(struct buf *out, const struct render *r, const struct member *at, size_t count)
{
    open_brace(out, NULL, '{');
    add_header(out, "header", &r->header, 0);
    open_brace(out, "members", '[');
    for (size_t i = 0; i < count; i++) add_member(out, &at[i]);
    close_brace(out, ']');
    end_document(out);
}

void json_done(struct buf *out, const struct render *r)
{
    open_brace(out, NULL, '{');
    add_header(out, "header", &r->header, 0);
    end_document(out);
}

static void add_status(struct buf *out, const struct status *s)
{
    const struct header h = { .cluster_id = s->cluster_id,
                              .member_id = s->member_id,
                              .revision = s->revision,
                              .raft_term = s->term };
    open_brace(out, "Status", '{');
    add_header(out, "header", &h, 0);
    add_text(out, "version", s->version);
    add_i64(out, "dbSize", s->db_bytes);
    add_i64(out, "leader", s->leader_id);
    add_i64(out, "raftIndex", s->index);
    add_i64(out, "raftTerm", s->term);
    add_i64(out, "raftAppliedIndex", s->applied_index);
    add_i64(out, "dbSizeInUse", s->used_bytes);
    add_i64_if(out, "dbSizeQuota", s->quota_bytes);
    add_i64_if(out, "compactRevision", s->compacted_rev);
    add_bool_if(out, "isLearner", s->is_learner);
    if (s->errors != NULL && s->errors->type == REDIS_REPLY_ARRAY && s->errors->elements > 0) {
        open_brace(out, "errors", '[');
        for (size_t i = 0; i < s->errors->elements; i++) {
            add_text(out, NULL, reply_bytes(s->errors->element[i]));
        }
        close_brace(out, ']');
    } else if (reply_bytes(s->errors).len > 0) {
        open_brace(out, "errors", '[');
        add_text(out, NULL, reply_bytes(s->errors));
        close_brace(out, ']');
    }
    close_brace(out, '}');
}

void json_status(struct buf *out, const struct status_row *at, size_t count)
{
    open_brace(out, NULL, '[');
    for (size_t i = 0; i < count; i++) {
        open_brace(out, NULL, '{');
        add_text(out, "Endpoint", slice_of(at[i].endpoint));
        if (at[i].name.len > 0) add_text(out, "name", at[i].name);
        add_text(out, "role", slice_of(render_status_role(&at[i])));
        if (at[i].is_answered) {
            add_i64(out, "lag", at[i].lag);
            add_status(out, &at[i].status);
        } else {
            add_text(out, "Error", slice_of(at[i].problem));
        }
        close_brace(out, '}');
    }
    buf_append(out, "]\n", 2);
}
