/* cmd/cmd_watch.c - KV WATCH: pushes of events as they are applied; its commands. See H1-H4 in
 * cmd_hub_int.h. */
#include "cmd/cmd_watch_int.h"

#include <stdio.h>

/* --- lists ------------------------------------------------------------------------------ */

void watch_list_remove(struct kv_watch *w)
{
    struct hub_list *l = w->list;
    if (l == NULL) return;
    if (w->before != NULL) w->before->after = w->after;
    else l->head = w->after;
    if (w->after != NULL) w->after->before = w->before;
    else l->tail = w->before;
    l->count--;
    w->list = NULL;
}

void watch_list_move(struct hub_list *l, struct kv_watch *w)
{
    watch_list_remove(w);
    w->before = l->tail;
    w->after = NULL;
    if (l->tail != NULL) l->tail->after = w;
    else l->head = w;
    l->tail = w;
    l->count++;
    w->list = l;
}

/* --- watches of a connection ------------------------------------------------------------- */

static struct watch_set *set_of(struct cmd_hub *hub, const struct kv_watch *w)
{
    return (w->variant & TAIL_PREV) != 0 ? hub->live_prev : hub->live;
}

/* The place of the first id that is not below. */
static size_t watch_place(const struct watch_conn *conn, uint64_t id)
{
    size_t low = 0;
    size_t high = conn->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (conn->watches[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct kv_watch *watch_find(const struct watch_conn *conn, uint64_t id)
{
    size_t at = watch_place(conn, id);
    return at < conn->count && conn->watches[at]->id == id ? conn->watches[at] : NULL;
}

static struct watch_conn *conn_of(struct client *c)
{
    if (c->watches == NULL) {
        struct watch_conn *conn = mem_zalloc(sizeof *conn);
        conn->peer.client = c;
        c->watches = conn;
    }
    return c->watches;
}

static void conn_add(struct watch_conn *conn, struct kv_watch *w)
{
    if (conn->count == conn->cap) {
        conn->cap = MAX(conn->cap * 2, 4);
        conn->watches = mem_realloc(conn->watches, conn->cap * sizeof(struct kv_watch *));
    }
    size_t at = watch_place(conn, w->id);
    memmove(conn->watches + at + 1, conn->watches + at, (conn->count - at) * sizeof(struct kv_watch *));
    conn->watches[at] = w;
    conn->count++;
}

/* Out of sets, lists, timers and reads; freed. Not out of its connection. */
static void watch_free(struct cmd_hub *hub, struct kv_watch *w)
{
    if (watcher_is_in(&w->listener.watcher)) hub_unlisten(hub, set_of(hub, w), &w->listener);
    watch_list_remove(w);
    watch_timer_clear(&hub->timers, &w->timer);
    if (w->read != NULL) w->read->watch = NULL;
    hub_range_deinit(&w->range);
    buf_deinit(&w->cursor);
    mem_free(w);
}

static void watch_drop(struct cmd_hub *hub, struct kv_watch *w)
{
    struct watch_conn *conn = w->conn;
    size_t at = watch_place(conn, w->id);
    ASSERT(at < conn->count && conn->watches[at] == w);
    conn->count--;
    memmove(conn->watches + at, conn->watches + at + 1, (conn->count - at) * sizeof(struct kv_watch *));
    watch_free(hub, w);
    if (conn->count == 0) hub_watch_gone(hub, conn->peer.client);
}

void hub_watch_gone(struct cmd_hub *hub, struct client *c)
{
    struct watch_conn *conn = c->watches;
    if (conn == NULL) return;
    ASSERT(hub->demoted == NULL); /* never while an event is delivered */
    for (size_t i = 0; i < conn->count; i++) watch_free(hub, conn->watches[i]);
    hub_peer_drop(hub, &conn->peer);
    mem_free(conn->watches);
    mem_free(conn);
    c->watches = NULL;
}

/* --- frames ---------------------------------------------------------------------------------- */

static const struct hub_tail *tail_of(struct cmd_hub *hub, const struct mvcc_event *ev, unsigned variant)
{
    struct hub_tail *tail = &hub->tails[variant];
    if (LIKELY(tail->ready)) return tail;
    struct hub_event e;
    hub_event_of(ev, &e);
    buf_clear(&tail->bytes);
    hub_encode_tail(&tail->bytes, &e, variant);
    if (tail->bytes.len > RESP_BULK_COPY_BYTES_MAX) tail->blob = blob_copy(buf_slice(&tail->bytes));
    tail->ready = true;
    return tail;
}

static void push_written(struct cmd_hub *hub, struct kv_watch *w)
{
    w->sent = true;
    hub->env->stats.watch_events_sent++;
    hub_touch(hub, &w->conn->peer);
}

void watch_push_event(struct cmd_hub *hub, struct kv_watch *w, const struct hub_event *e)
{
    struct chain *out = w->conn->peer.client->out;
    if (UNLIKELY(hub_is_flooded(hub, &w->conn->peer))) return;
    buf_clear(&hub->frame);
    hub_encode_tail(&hub->frame, e, w->variant);
    chain_append(out, w->head, w->head_len);
    chain_append_slice(out, buf_slice(&hub->frame));
    push_written(hub, w);
}

void watch_push_note(struct cmd_hub *hub, struct kv_watch *w, uint64_t rev, const char *word,
                     const char *reason)
{
    struct reply r = reply_to(w->conn->peer.client->out, 3);
    reply_push(&r, reason == NULL ? 4 : 5);
    reply_bulk_cstr(&r, "kvwatch");
    reply_int(&r, (int64_t)w->id);
    reply_int(&r, (int64_t)rev);
    reply_bulk_cstr(&r, word);
    if (reason != NULL) reply_bulk_cstr(&r, reason);
    hub_touch(hub, &w->conn->peer);
}

void watch_cancel_compacted(struct cmd_hub *hub, struct kv_watch *w)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    bool in_snapshot = w->phase == PHASE_SNAPSHOT;
    uint64_t lost_rev = in_snapshot ? w->snapshot_rev : w->next_rev;
    char reason[128];
    snprintf(reason, sizeof reason, "COMPACTED required revision %llu has been compacted, oldest is %llu",
             (unsigned long long)lost_rev, (unsigned long long)mvcc_compacted(m));
    hub->env->stats.watch_canceled++;
    watch_push_note(hub, w, lost_rev, "canceled", reason);
    client_wrote(hub->env, w->conn->peer.client); /* now: the peer may go with its last watch */
    watch_drop(hub, w);
}

/* --- live -------------------------------------------------------------------------------------- */

/* H3. A connection that cannot take more, or does not speak RESP3 now, falls behind. */
static void conn_admit(struct cmd_hub *hub, struct watch_conn *conn, uint64_t rev)
{
    const struct client *c = conn->peer.client;
    conn->admitted_rev = rev;
    conn->muted = c->closing || c->proto < 3 || chain_bytes(c->out) > hub->env->limits.watch_bytes_max;
    if (!conn->muted || MUTANT(WATCH_SLOW_LOSES)) return;
    conn->next_demoted = hub->demoted;
    hub->demoted = conn;
}

void hub_watch_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev)
{
    struct kv_watch *w = CONTAINER_OF(l, struct kv_watch, listener);
    struct watch_conn *conn = w->conn;
    if (UNLIKELY(conn->admitted_rev != ev->rev)) conn_admit(hub, conn, ev->rev);
    if (UNLIKELY(conn->muted || ev->rev < w->next_rev)) return;
    if (MUTANT(WATCH_DROPS_AT_HANDOVER) && ev->rev == w->next_rev) return;
    if (UNLIKELY(ev->op == ROW_PUT ? w->no_put : w->no_del)) return;
    if (UNLIKELY(hub_is_flooded(hub, &conn->peer))) return;
    const struct hub_tail *tail = tail_of(hub, ev, w->variant);
    struct chain *out = conn->peer.client->out;
    chain_append(out, w->head, w->head_len);
    if (UNLIKELY(tail->blob != NULL)) {
        chain_append_blob(out, tail->blob, 0, tail->blob->len);
    } else {
        chain_append_slice(out, buf_slice(&tail->bytes));
    }
    push_written(hub, w);
}

static void watch_demote(struct cmd_hub *hub, struct kv_watch *w, uint64_t rev)
{
    if (w->phase != PHASE_LIVE) return;
    hub_unlisten(hub, set_of(hub, w), &w->listener);
    w->phase = PHASE_BEHIND;
    w->next_rev = MAX(w->next_rev, rev);
    watch_list_move(&hub->behind, w);
}

/* What fell behind in this event leaves the sets, now that nobody walks them. */
void hub_watch_event_end(struct cmd_hub *hub, const struct mvcc_event *ev)
{
    while (UNLIKELY(hub->demoted != NULL)) {
        struct watch_conn *conn = hub->demoted;
        hub->demoted = conn->next_demoted;
        for (size_t i = 0; i < conn->count; i++) watch_demote(hub, conn->watches[i], ev->rev);
    }
}

void hub_watch_replaced(struct cmd_hub *hub, struct client *c, uint64_t old_rev, uint64_t new_rev)
{
    struct watch_conn *conn = c->watches;
    for (size_t i = 0; conn != NULL && i < conn->count; i++) {
        if (conn->watches[i]->next_rev <= new_rev) watch_demote(hub, conn->watches[i], old_rev + 1);
    }
}

/* Where a canceled watch may be resumed. A SNAPSHOT that is not complete has to be begun again. */
static uint64_t watch_resume_rev(const struct kv_watch *w, uint64_t now_rev)
{
    switch (w->phase) {
    case PHASE_LIVE: return MAX(w->next_rev, now_rev + 1);
    case PHASE_SNAPSHOT: return w->snapshot_rev;
    case PHASE_BEHIND: return w->next_rev;
    }
    return 0;
}

/* One whose connection does not take pushes now (HELLO 2) cannot be told: it goes on when it does. */
void hub_watch_cancel_all(struct cmd_hub *hub, struct client *c, enum err why)
{
    struct watch_conn *conn = c->watches;
    if (conn == NULL || c->closing || c->proto < 3) return;
    uint64_t now_rev = mvcc_rev(state_mvcc(node_state(hub->env->node)));
    char reason[128];
    snprintf(reason, sizeof reason, "%s %s", err_prefix(why), err_text(why));
    for (size_t i = 0; i < conn->count; i++) {
        const struct kv_watch *w = conn->watches[i];
        watch_push_note(hub, conn->watches[i], watch_resume_rev(w, now_rev), "canceled", reason);
    }
    hub->env->stats.watch_canceled += conn->count;
    hub_watch_gone(hub, c);
}

void watch_promote(struct cmd_hub *hub, struct kv_watch *w)
{
    ASSERT(w->next_rev > mvcc_rev(state_mvcc(node_state(hub->env->node))));
    watch_list_remove(w);
    w->phase = PHASE_LIVE;
    hub_listen(hub, set_of(hub, w), &w->listener, &w->range);
}

/* --- commands ----------------------------------------------------------------------------------------------- */

struct watch_args {
    struct cmd_range range;
    bool has_from, snapshot, prev, no_put, no_del, keys_only;
    uint64_t from_rev, id; /* id 0: ours to choose */
    int64_t progress_ms;
};

static void watch_args_deinit(struct watch_args *a) { cmd_range_deinit(&a->range); }

/* An option with a number behind it. ERR_NOT_FOUND: another word. */
static enum err number_option(const struct cmd_ctx *cx, size_t *at, struct watch_args *a)
{
    struct slice word = cx->argv[*at];
    bool from = arg_is(word, "FROM");
    bool progress = arg_is(word, "PROGRESS");
    if (!from && !progress && !arg_is(word, "ID")) return ERR_NOT_FOUND;
    if (++*at >= cx->argc) return ERR_SYNTAX;
    if (progress) return arg_ms(cx->argv[*at], &a->progress_ms);
    if (!from) {
        TRY(arg_u64(cx->argv[*at], &a->id));
        return a->id >= 1 && a->id <= HUB_WATCH_ID_MAX ? OK : ERR_NOT_INT;
    }
    a->has_from = true;
    TRY(arg_u64(cx->argv[*at], &a->from_rev));
    return a->from_rev <= HUB_WATCH_ID_MAX ? OK : ERR_NOT_INT;
}

static enum err watch_parse(struct cmd_ctx *cx, struct watch_args *a)
{
    size_t at = 2;
    TRY(cmd_range_parse(cx->env, cx->db, cx->argc, cx->argv, &at, &a->range));
    for (; at < cx->argc; at++) {
        struct slice word = cx->argv[at];
        if (arg_is(word, "SNAPSHOT")) a->snapshot = true;
        else if (arg_is(word, "PREVKV")) a->prev = true;
        else if (arg_is(word, "NOPUT")) a->no_put = true;
        else if (arg_is(word, "NODEL")) a->no_del = true;
        else if (arg_is(word, "KEYSONLY")) a->keys_only = true;
        else {
            enum err e = number_option(cx, &at, a);
            if (e != OK) return e == ERR_NOT_FOUND ? ERR_SYNTAX : e;
        }
    }
    if (a->has_from && a->snapshot) return ERR_SYNTAX;
    if (a->progress_ms > 0) a->progress_ms = MIN(MAX(a->progress_ms, HUB_PROGRESS_MS_MIN), HUB_PROGRESS_MS_MAX);
    return OK;
}

/* True if it may not be; the error is written then. */
static bool watch_refused(struct cmd_ctx *cx, const struct watch_args *a)
{
    const struct watch_conn *conn = cx->client->watches;
    struct cmd_hub *hub = cx->env->hub;
    if (cx->client->proto < 3) {
        reply_error(cx->reply, "ERR", "KV WATCH needs HELLO 3; use XREAD ... STREAMS __watch__:prefix or "
                    "SUBSCRIBE __watch@%u__:prefix", cx->db);
        return true;
    }
    if (conn != NULL && conn->count >= cx->env->limits.watches_per_client_max) {
        reply_error(cx->reply, "ERR", "too many watches on this connection (max-watches-per-client %u)",
                    cx->env->limits.watches_per_client_max);
        return true;
    }
    if (a->id != 0 && conn != NULL && watch_find(conn, a->id) != NULL) {
        reply_error(cx->reply, "ERR", "duplicate watch id");
        return true;
    }
    if (hub_is_leaderless(hub)) {
        reply_err(cx->reply, ERR_CLUSTERDOWN);
        return true;
    }
    if (a->has_from && a->from_rev < mvcc_compacted(state_mvcc(cx->view.state))) {
        hub_reply_compacted(hub, cx->reply, a->from_rev);
        return true;
    }
    return false;
}

static uint64_t id_choose(struct watch_conn *conn)
{
    do {
        conn->last_id = conn->last_id >= HUB_WATCH_ID_MAX ? 1 : conn->last_id + 1;
    } while (watch_find(conn, conn->last_id) != NULL);
    return conn->last_id;
}

static struct kv_watch *watch_new(struct cmd_ctx *cx, const struct watch_args *a, uint64_t rev)
{
    struct kv_watch *w = mem_zalloc(sizeof *w);
    w->listener.kind = LISTENER_WATCH;
    w->conn = conn_of(cx->client);
    w->id = a->id != 0 ? a->id : id_choose(w->conn);
    w->variant = (uint8_t)((a->keys_only ? TAIL_KEYS_ONLY : 0) | (a->prev ? TAIL_PREV : 0));
    w->head_len = (uint8_t)hub_encode_head(w->head, w->id, a->prev);
    w->no_put = a->no_put;
    w->no_del = a->no_del;
    w->progress_ms = a->progress_ms;
    w->snapshot_rev = rev;
    w->next_rev = a->has_from ? MAX(a->from_rev, 1) : rev + 1;
    hub_range_copy(&w->range, &a->range);
    return w;
}

/* The reply goes out first; what it starts pushes at the end of the turn at the earliest. */
static enum err cmd_kv_watch(struct cmd_ctx *cx)
{
    ASSERT(cx->mode == CMD_MODE_NORMAL && cx->client->pending == 0);
    struct watch_args a CLEANUP(watch_args_deinit) = { .id = 0 };
    TRY(watch_parse(cx, &a));
    if (watch_refused(cx, &a)) return OK;
    struct cmd_hub *hub = cx->env->hub;
    uint64_t rev = mvcc_rev(state_mvcc(cx->view.state));
    struct kv_watch *w = watch_new(cx, &a, rev);
    conn_add(w->conn, w);
    reply_map(cx->reply, 2);
    reply_bulk_cstr(cx->reply, "id");
    reply_int(cx->reply, (int64_t)w->id);
    reply_bulk_cstr(cx->reply, "revision");
    reply_int(cx->reply, (int64_t)rev);
    if (w->progress_ms > 0) watch_timer_set(&hub->timers, &w->timer, cx->env->now_ms + w->progress_ms);
    if (a.snapshot || w->next_rev <= rev) {
        w->phase = a.snapshot ? PHASE_SNAPSHOT : PHASE_BEHIND;
        watch_list_move(&hub->behind, w);
    } else {
        watch_promote(hub, w);
    }
    return OK;
}

static enum err ids_check(const struct cmd_ctx *cx)
{
    for (size_t i = 2; i < cx->argc; i++) {
        uint64_t id = 0;
        TRY(arg_u64(cx->argv[i], &id));
    }
    return OK;
}

static struct kv_watch *watch_of_arg(const struct cmd_ctx *cx, size_t at)
{
    uint64_t id = 0;
    enum err e = arg_u64(cx->argv[at], &id);
    ASSERT(e == OK); /* ids_check */
    return cx->client->watches == NULL ? NULL : watch_find(cx->client->watches, id);
}

static enum err cmd_kv_unwatch(struct cmd_ctx *cx)
{
    TRY(ids_check(cx));
    int64_t count = 0;
    for (size_t i = 2; i < cx->argc; i++) {
        struct kv_watch *w = watch_of_arg(cx, i);
        if (w == NULL) continue;
        watch_drop(cx->env->hub, w);
        count++;
    }
    reply_int(cx->reply, count);
    return OK;
}

/* Up to which revision everything was sent. A SNAPSHOT that is not complete has sent no event. */
static uint64_t watch_progress(const struct kv_watch *w, uint64_t rev)
{
    switch (w->phase) {
    case PHASE_LIVE: return rev;
    case PHASE_SNAPSHOT: return w->snapshot_rev;
    case PHASE_BEHIND: return MUTANT(WATCH_PROGRESS_TOO_EARLY) ? rev : MIN(w->next_rev - 1, rev);
    }
    return 0;
}

/* The client's own commands were applied (CMD_DRAIN), and live events are in the output already. */
static enum err cmd_kv_progress(struct cmd_ctx *cx)
{
    TRY(ids_check(cx));
    uint64_t now_rev = mvcc_rev(state_mvcc(cx->view.state));
    uint64_t rev = now_rev;
    const struct watch_conn *conn = cx->client->watches;
    for (size_t i = 2; i < cx->argc; i++) {
        const struct kv_watch *w = watch_of_arg(cx, i);
        if (w == NULL) {
            reply_error(cx->reply, "ERR", "no such watch");
            return OK;
        }
        rev = MIN(rev, watch_progress(w, now_rev));
    }
    for (size_t i = 0; cx->argc == 2 && conn != NULL && i < conn->count; i++) {
        rev = MIN(rev, watch_progress(conn->watches[i], now_rev));
    }
    reply_int(cx->reply, (int64_t)rev);
    return OK;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

#define FLAGS (CMD_READ | CMD_DRAIN | CMD_NO_MULTI)

const struct cmd_def cmd_watch_defs[] = {
    { .name = "kv|watch", .run = cmd_kv_watch, .arity = -3, .flags = FLAGS, .group = GROUP_COORDINATION,
      .keys = { 2, 2, 1 }, .since = "0.1.0",
      .args = "key [PREFIX | END end] [FROM rev | SNAPSHOT] [PREVKV] [NOPUT] [NODEL] [KEYSONLY] [PROGRESS ms] [ID n]",
      .summary = "Pushes the events of a key, a prefix or a range, in order and without gaps (RESP3)." },
    { .name = "kv|unwatch", .run = cmd_kv_unwatch, .arity = -3, .flags = CMD_CONN | CMD_DRAIN | CMD_NO_MULTI,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "id [id ...]",
      .summary = "Ends watches of this connection; answers how many." },
    { .name = "kv|progress", .run = cmd_kv_progress, .arity = -2, .flags = FLAGS, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "[id ...]",
      .summary = "Answers the revision up to which all events were sent before this answer." },
    { .name = "kv|read", .run = cmd_kv_read, .arity = -5, .flags = CMD_READ | CMD_DRAIN | CMD_BLOCKING,
      .group = GROUP_COORDINATION, .keys = { 2, 2, 1 }, .leaves_turn = hub_always_leaves, .since = "0.1.0",
      .args = "key [PREFIX | END end] FROM rev [COUNT n] [BLOCK ms] [PREVKV]",
      .summary = "Reads events from a revision on, waiting for the first if asked to." },
    CMD_DEF_END,
};
