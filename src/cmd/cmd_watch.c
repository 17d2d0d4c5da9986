/* cmd/cmd_watch.c - KV WATCH: pushes of events as they are applied, from history when asked or when
 * the connection was too slow. See H1-H4 in cmd_hub_int.h. */
#include "cmd/cmd_hub_int.h"

#include <stdio.h>

enum phase {
    PHASE_LIVE,     /* in a set: gets events as they are applied */
    PHASE_SNAPSHOT, /* shows what is there at snapshot_rev */
    PHASE_BEHIND,   /* reads from next_rev on */
};

struct kv_watch {
    struct listener listener; /* first */
    struct watch_conn *conn;
    uint64_t next_rev; /* LIVE: nothing before it is sent (FROM a future revision) */
    uint8_t head[HUB_HEAD_BYTES_MAX];
    uint8_t head_len;
    uint8_t variant; /* of the tail */
    bool no_put, no_del;
    bool sent; /* an event since the last progress */
    enum phase phase;
    uint64_t id;
    struct hub_range range;
    int64_t progress_ms; /* 0: none */
    struct watch_timer timer;
    struct hub_list *list; /* H1; NULL: live, or a read is under way */
    struct kv_watch *before, *after;
    struct history_read *read; /* under way */
    uint64_t snapshot_rev;
    struct buf cursor; /* the first key of the range that was not shown yet; empty: its start */
};

/* What a history read finds when it comes back: the watch, or NULL if that is gone. */
struct history_read {
    struct cmd_hub *hub;
    struct kv_watch *watch;
    struct hub_scan scan;
    bool is_last_page; /* SNAPSHOT: nothing is left behind this one */
};

struct watch_conn {
    struct hub_peer peer;
    struct kv_watch **watches; /* ascending by id */
    size_t count, cap;
    uint64_t last_id;      /* given by us */
    uint64_t admitted_rev; /* H3: decided for this revision */
    bool muted;            /* ... it does not get it */
    uint64_t full_turn;    /* since this turn the output is full; 0: it is not */
    struct watch_conn *next_demoted;
};

/* --- lists ------------------------------------------------------------------------------ */

static void list_remove(struct kv_watch *w)
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

/* At the end; out of the one it is in. */
static void list_move(struct hub_list *l, struct kv_watch *w)
{
    list_remove(w);
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
    list_remove(w);
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

static void push_event(struct cmd_hub *hub, struct kv_watch *w, const struct hub_event *e)
{
    struct chain *out = w->conn->peer.client->out;
    if (UNLIKELY(hub_is_flooded(hub, &w->conn->peer))) return;
    buf_clear(&hub->frame);
    hub_encode_tail(&hub->frame, e, w->variant);
    chain_append(out, w->head, w->head_len);
    chain_append_slice(out, buf_slice(&hub->frame));
    push_written(hub, w);
}

/* Frames about the watch itself: `kvwatch id rev word [reason]`. */
static void push_note(struct cmd_hub *hub, struct kv_watch *w, uint64_t rev, const char *word,
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

static void cancel_compacted(struct cmd_hub *hub, struct kv_watch *w)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    bool in_snapshot = w->phase == PHASE_SNAPSHOT;
    uint64_t lost_rev = in_snapshot ? w->snapshot_rev : w->next_rev;
    char reason[128];
    snprintf(reason, sizeof reason, "COMPACTED required revision %llu has been compacted, oldest is %llu",
             (unsigned long long)lost_rev, (unsigned long long)mvcc_compacted(m));
    hub->env->stats.watch_canceled++;
    push_note(hub, w, lost_rev, "canceled", reason);
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
    if (!conn->muted) return;
    conn->next_demoted = hub->demoted;
    hub->demoted = conn;
}

void hub_watch_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev)
{
    struct kv_watch *w = CONTAINER_OF(l, struct kv_watch, listener);
    struct watch_conn *conn = w->conn;
    if (UNLIKELY(conn->admitted_rev != ev->rev)) conn_admit(hub, conn, ev->rev);
    if (UNLIKELY(conn->muted || ev->rev < w->next_rev)) return;
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
    list_move(&hub->behind, w);
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

/* H2. Everything up to mvcc_rev was sent. */
static void watch_promote(struct cmd_hub *hub, struct kv_watch *w)
{
    ASSERT(w->next_rev > mvcc_rev(state_mvcc(node_state(hub->env->node))));
    list_remove(w);
    w->phase = PHASE_LIVE;
    hub_listen(hub, set_of(hub, w), &w->listener, &w->range);
}

/* --- catching up --------------------------------------------------------------------------------- */

static bool conn_is_full(const struct watch_conn *conn)
{
    return chain_bytes(conn->peer.client->out) >= HUB_CATCHUP_OUTPUT_BYTES;
}

struct taker {
    struct cmd_hub *hub;
    struct kv_watch *w;
};

static bool take_event(void *ctx, const struct store_item *item)
{
    struct taker *t = ctx;
    struct hub_event e;
    hub_event_of_item(item, &e);
    push_event(t->hub, t->w, &e);
    return !conn_is_full(t->w->conn);
}

static struct hub_scan scan_of(struct cmd_hub *hub, const struct kv_watch *w)
{
    return (struct hub_scan){
        .start = w->range.start, .end = w->range.end, .no_put = w->no_put, .no_del = w->no_del,
        .with_prev = (w->variant & TAIL_PREV) != 0, .next_rev = w->next_rev,
        .to_rev = mvcc_rev(state_mvcc(node_state(hub->env->node))),
    };
}

static void events_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct history_read *op = data;
    struct cmd_hub *hub = op->hub;
    struct kv_watch *w = op->watch;
    (void)env;
    if (w != NULL) {
        w->read = NULL;
        list_move(&hub->behind, w);
    }
    ASSERT(hub->reads > 0);
    hub->reads--;
    if (w != NULL && c != NULL && read != NULL) {
        struct taker t = { hub, w };
        enum hub_scan_end end = hub_read_take(hub, read, &op->scan, take_event, &t);
        w->next_rev = op->scan.next_rev;
        if (end == SCAN_COMPACTED) cancel_compacted(hub, w);
    }
    mem_free(op);
}

static struct history_read *read_new(struct cmd_hub *hub, struct kv_watch *w)
{
    struct history_read *op = mem_zalloc(sizeof *op);
    op->hub = hub;
    op->watch = w;
    w->read = op;
    hub->reads++;
    list_remove(w);
    return op;
}

static void history_step(struct cmd_hub *hub, struct kv_watch *w, const struct hub_scan *scan)
{
    if (hub->reads >= HUB_READS_MAX) {
        list_move(&hub->queued, w);
        return;
    }
    struct history_read *op = read_new(hub, w);
    op->scan = *scan;
    hub_read_start(hub, w->conn->peer.client->handle, scan, HUB_CHUNK_EVENTS, events_read, op);
}

static void behind_step(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget)
{
    struct taker t = { hub, w };
    struct hub_scan scan = scan_of(hub, w);
    enum hub_scan_end end = hub_scan_memory(hub, &scan, budget, take_event, &t);
    w->next_rev = scan.next_rev;
    switch (end) {
    case SCAN_END: watch_promote(hub, w); break;
    case SCAN_FULL: list_move(&hub->behind, w); break;
    case SCAN_HISTORY: history_step(hub, w, &scan); break;
    case SCAN_COMPACTED: cancel_compacted(hub, w); break;
    }
}

/* --- SNAPSHOT ---------------------------------------------------------------------------------------
 *
 * What is there at snapshot_rev, page by page in order of key: a live key that has not changed since
 * is shown from memory; one that has (or was deleted: its ghost is there) is asked of history as of
 * snapshot_rev. A compaction beyond snapshot_rev ends the watch: ghosts may be gone then. */

static void push_state(struct cmd_hub *hub, struct kv_watch *w, struct slice key, struct slice value,
                       uint64_t rev, uint64_t create, uint64_t version, uint64_t lease)
{
    struct hub_event e = { .op = "state", .key = key, .value = value, .rev = rev, .create = create,
                           .version = version, .lease = lease };
    push_event(hub, w, &e);
}

static struct slice shown_value(enum value_type type, struct slice value)
{
    if (type != VALUE_STRING) return SLICE_NONE;
    return value.at != NULL ? value : (struct slice){ (const uint8_t *)"", 0 };
}

static void state_of_entry(struct cmd_hub *hub, struct kv_watch *w, const struct entry *e)
{
    const struct life *life = entry_life(e);
    push_state(hub, w, entry_key(e), shown_value(entry_type(e), entry_value(e)), e->mod, e->create,
               e->version, life == NULL ? 0 : life->lease_id);
}

static void snapshot_end(struct cmd_hub *hub, struct kv_watch *w)
{
    push_note(hub, w, w->snapshot_rev, "synced", NULL);
    buf_deinit(&w->cursor);
    w->phase = PHASE_BEHIND;
    w->next_rev = w->snapshot_rev + 1;
}

static void page_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct history_read *op = data;
    struct cmd_hub *hub = op->hub;
    struct kv_watch *w = op->watch;
    const struct mvcc *m = state_mvcc(node_state(env->node));
    if (w != NULL) {
        w->read = NULL;
        list_move(&hub->behind, w);
    }
    ASSERT(hub->reads > 0);
    hub->reads--;
    if (w != NULL && c != NULL && read != NULL) {
        if (read->result != OK || mvcc_compacted(m) > w->snapshot_rev) {
            cancel_compacted(hub, w);
        } else {
            struct store_item item;
            size_t pos = 0;
            while (store_read_next(read, &pos, &item)) {
                const struct row *row = &item.row;
                if (!item.found || row->op != ROW_PUT) continue;
                push_state(hub, w, row->key, shown_value(row->type, row->value), row->rev, row->create,
                           row->version, row->lease);
            }
            if (op->is_last_page) snapshot_end(hub, w);
        }
    }
    mem_free(op);
}

static void cursor_set(struct kv_watch *w, struct slice key)
{
    buf_clear(&w->cursor);
    buf_append_slice(&w->cursor, key);
}

/* Shows one page; *read gets the keys that history must tell. True: nothing is left behind it. */
static bool snapshot_page(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget, struct store_read **read)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    struct slice start = w->cursor.len > 0 ? buf_slice(&w->cursor) : w->range.start;
    struct mvcc_iter it;
    const struct entry *e;
    mvcc_iter_init(&it, m, start, w->range.end, false, true);
    while ((e = mvcc_iter_next(&it)) != NULL) {
        bool page_full = *read != NULL && (*read)->query_count >= HUB_SNAPSHOT_QUERIES;
        if (*budget <= 0 || page_full || conn_is_full(w->conn)) {
            cursor_set(w, entry_key(e));
            return false;
        }
        --*budget;
        if (e->mod > w->snapshot_rev) {
            if (*read == NULL) *read = store_read_new(STORE_READ_VERSION, cmd_read_cookie(hub->env));
            store_read_query(*read, entry_key(e), e->mod, e->jump);
        } else if (!entry_is_ghost(e)) {
            state_of_entry(hub, w, e);
        }
    }
    return true;
}

static void snapshot_step(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    if (mvcc_compacted(m) > w->snapshot_rev) {
        cancel_compacted(hub, w);
        return;
    }
    if (hub->reads >= HUB_READS_MAX && mvcc_rev(m) > w->snapshot_rev) {
        list_move(&hub->queued, w); /* the page may need one */
        return;
    }
    struct store_read *read = NULL;
    bool is_last_page = snapshot_page(hub, w, budget, &read);
    if (read != NULL) {
        struct history_read *op = read_new(hub, w);
        op->is_last_page = is_last_page;
        read->at_rev = w->snapshot_rev;
        cmd_read_start(hub->env, w->conn->peer.client->handle, read, page_read, op);
    } else if (is_last_page) {
        snapshot_end(hub, w);
        behind_step(hub, w, budget);
    } else {
        list_move(&hub->behind, w);
    }
}

/* --- the turn ------------------------------------------------------------------------------------------ */

/* Full in two turns: the flush between them has left so much that net will tell when it is gone. */
static bool step_waits(struct cmd_hub *hub, struct kv_watch *w)
{
    struct watch_conn *conn = w->conn;
    if (conn->peer.client->closing || conn->peer.client->proto < 3) {
        list_move(&hub->parked, w);
        return true;
    }
    if (!conn_is_full(conn)) {
        conn->full_turn = 0;
        return false;
    }
    if (conn->full_turn == 0) conn->full_turn = hub->turn;
    list_move(conn->full_turn < hub->turn ? &hub->parked : &hub->behind, w);
    return true;
}

static void unpark(struct cmd_hub *hub, struct kv_watch *w)
{
    w->conn->full_turn = 0;
    list_move(&hub->behind, w);
}

static void parked_sweep(struct cmd_hub *hub)
{
    int64_t now_ms = hub->env->now_ms;
    if (hub->parked.count == 0 || now_ms - hub->sweep_ms < HUB_SWEEP_MS) return;
    hub->sweep_ms = now_ms;
    struct kv_watch *next = NULL;
    for (struct kv_watch *w = hub->parked.head; w != NULL; w = next) {
        next = w->after;
        const struct client *c = w->conn->peer.client;
        if (!c->closing && c->proto >= 3 && !conn_is_full(w->conn)) unpark(hub, w);
    }
}

/* A progress frame says that everything up to its revision was sent: only when live. */
static void progress_run(struct cmd_hub *hub)
{
    uint64_t rev = mvcc_rev(state_mvcc(node_state(hub->env->node)));
    struct watch_timer *timer;
    while ((timer = watch_timer_take(&hub->timers, hub->env->now_ms)) != NULL) {
        struct kv_watch *w = CONTAINER_OF(timer, struct kv_watch, timer);
        const struct client *c = w->conn->peer.client;
        watch_timer_set(&hub->timers, timer, hub->env->now_ms + w->progress_ms);
        bool live = w->phase == PHASE_LIVE && w->next_rev <= rev + 1;
        bool can = !c->closing && c->proto >= 3 && !conn_is_full(w->conn);
        if (!w->sent && can && live) push_note(hub, w, rev, "progress", NULL);
        w->sent = false;
    }
}

/* As many as history reads may begin go on. */
static void queued_admit(struct cmd_hub *hub)
{
    for (size_t room = HUB_READS_MAX - hub->reads; room > 0 && hub->queued.head != NULL; room--) {
        list_move(&hub->behind, hub->queued.head);
    }
}

void hub_watch_turn(struct cmd_hub *hub)
{
    parked_sweep(hub);
    queued_admit(hub);
    int64_t budget = HUB_TURN_ROWS;
    for (size_t left = hub->behind.count; left > 0 && budget > 0 && hub->behind.head != NULL; left--) {
        struct kv_watch *w = hub->behind.head;
        if (step_waits(hub, w)) continue;
        if (w->phase == PHASE_SNAPSHOT) {
            snapshot_step(hub, w, &budget);
        } else {
            behind_step(hub, w, &budget);
        }
    }
    progress_run(hub);
}

void hub_watch_writable(struct cmd_hub *hub, struct client *c)
{
    struct watch_conn *conn = c->watches;
    if (conn == NULL) return;
    for (size_t i = 0; i < conn->count; i++) {
        if (conn->watches[i]->list == &hub->parked) unpark(hub, conn->watches[i]);
    }
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
    if (a->progress_ms > 0) a->progress_ms = MAX(a->progress_ms, HUB_PROGRESS_MS_MIN);
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
        list_move(&hub->behind, w);
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
    case PHASE_BEHIND: return MIN(w->next_rev - 1, rev);
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
