/* cmd/cmd_watch_catchup.c - KV WATCH from history, when asked or when the connection was too slow; and
 * SNAPSHOT. */
#include "cmd/cmd_watch_int.h"

/* --- catching up --------------------------------------------------------------------------------- */

static bool conn_is_full(const struct cmd_hub *hub, const struct watch_conn *conn)
{
    size_t bytes_max = MIN(HUB_CATCHUP_OUTPUT_BYTES, (size_t)hub->env->limits.output_bytes_max / 2);
    return chain_bytes(conn->peer.client->out) >= bytes_max;
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
    watch_push_event(t->hub, t->w, &e);
    return !conn_is_full(t->hub, t->w->conn);
}

static struct hub_scan scan_of(struct cmd_hub *hub, const struct kv_watch *w)
{
    return (struct hub_scan){
        .start = w->range.start, .end = w->range.end, .no_put = w->no_put, .no_del = w->no_del,
        .with_prev = (w->variant & TAIL_PREV) != 0, .next_rev = w->next_rev,
        .to_rev = mvcc_rev(state_mvcc(node_state(hub->env->node))),
    };
}

/* True: its watch takes what was read. One whose connection takes no pushes now (HELLO 2) stays where it
 * was, and reads it again. */
static bool read_back(const struct history_read *op, const struct client *c, const struct store_read *read)
{
    struct cmd_hub *hub = op->hub;
    ASSERT(hub->reads > 0);
    hub->reads--;
    if (op->watch == NULL) return false;
    op->watch->read = NULL;
    watch_list_move(&hub->behind, op->watch);
    return c != NULL && c->proto >= 3 && read != NULL;
}

static void events_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct history_read *op = data;
    struct cmd_hub *hub = op->hub;
    struct kv_watch *w = op->watch;
    (void)env;
    if (read_back(op, c, read)) {
        struct taker t = { hub, w };
        enum hub_scan_end end = hub_read_take(hub, read, &op->scan, take_event, &t);
        w->next_rev = op->scan.next_rev;
        if (end == SCAN_COMPACTED) watch_cancel_compacted(hub, w);
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
    watch_list_remove(w);
    return op;
}

static void history_step(struct cmd_hub *hub, struct kv_watch *w, const struct hub_scan *scan)
{
    if (hub->reads >= HUB_READS_MAX) {
        watch_list_move(&hub->queued, w);
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
    case SCAN_FULL: watch_list_move(&hub->behind, w); break;
    case SCAN_HISTORY: history_step(hub, w, &scan); break;
    case SCAN_COMPACTED: watch_cancel_compacted(hub, w); break;
    }
}

/* --- SNAPSHOT ---------------------------------------------------------------------------------------
 *
 * What is there at snapshot_rev, in order of key: a live key that has not changed since is shown from
 * memory; one that has (or was deleted: its ghost is there) is asked of history as of snapshot_rev, a page
 * of them at a time. The cursor stands behind what was shown: a page that was not shown to its end is
 * asked for again. A compaction beyond snapshot_rev ends the watch: ghosts may be gone then. */

static void push_state(struct cmd_hub *hub, struct kv_watch *w, struct slice key, struct slice value,
                       uint64_t rev, uint64_t create, uint64_t version, uint64_t lease)
{
    struct hub_event e = { .op = "state", .key = key, .value = value, .rev = rev, .create = create,
                           .version = version, .lease = lease };
    watch_push_event(hub, w, &e);
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
    watch_push_note(hub, w, w->snapshot_rev, "synced", NULL);
    buf_deinit(&w->cursor);
    w->phase = PHASE_BEHIND;
    w->next_rev = w->snapshot_rev + 1;
}

static void cursor_set(struct kv_watch *w, struct slice key)
{
    buf_clear(&w->cursor);
    buf_append_slice(&w->cursor, key);
}

static struct mvcc_iter cursor_iter(const struct cmd_hub *hub, const struct kv_watch *w)
{
    struct mvcc_iter it;
    struct slice start = w->cursor.len > 0 ? buf_slice(&w->cursor) : w->range.start;
    mvcc_iter_init(&it, state_mvcc(node_state(hub->env->node)), start, w->range.end, false, true);
    return it;
}

/* What history has told, query by query, in order of key. */
struct answers {
    const struct store_read *read; /* NULL: nothing */
    size_t pos, at;
    bool is_held;           /* item, of query `at` - 1, is of a key that has not come yet */
    struct store_item item;
};

/* True: it has told of this key. */
static bool answer_find(struct answers *a, struct slice key)
{
    while (a->is_held || (a->read != NULL && store_read_next(a->read, &a->pos, &a->item))) {
        if (!a->is_held) a->at++;
        const struct store_query *q = &a->read->queries[a->at - 1];
        int order = slice_cmp((struct slice){ a->read->keys.at + q->key_at, q->key_len }, key);
        a->is_held = order > 0;
        if (order >= 0) return order == 0;
    }
    return false;
}

static void state_of_row(struct cmd_hub *hub, struct kv_watch *w, const struct row *row)
{
    push_state(hub, w, row->key, shown_value(row->type, row->value), row->rev, row->create, row->version,
               row->lease);
}

/* A key that has changed, by what history has told or else by the rows in memory. False: neither tells.
 * What is put while history is read is in memory: without a look there each answer would come too late
 * for a range that grows, and the snapshot would not end. */
static bool show_former(struct cmd_hub *hub, struct kv_watch *w, struct answers *answers, const struct entry *e,
                        int64_t *budget)
{
    struct row row;
    if (answer_find(answers, entry_key(e))) {
        const struct store_item *item = &answers->item;
        if (item->found && item->row.op == ROW_PUT) state_of_row(hub, w, &item->row);
        return true;
    }
    enum hub_version v = hub_version_at(hub, e, w->snapshot_rev, budget, &row);
    if (v == VERSION_FOUND) state_of_row(hub, w, &row);
    return v != VERSION_UNKNOWN;
}

/* From the cursor on; SCAN_HISTORY: the key at the cursor has changed, and neither the answers (NULL: none)
 * nor memory tell of it. Answers may end before what was asked: see HUB_CHUNK_BYTES. */
static enum hub_scan_end snapshot_show(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget,
                                       const struct store_read *read)
{
    struct answers answers = { .read = read };
    struct mvcc_iter it = cursor_iter(hub, w);
    const struct entry *e;
    while ((e = mvcc_iter_next(&it)) != NULL) {
        bool is_full = *budget <= 0 || conn_is_full(hub, w->conn);
        bool has_changed = e->mod > w->snapshot_rev;
        if (is_full || (has_changed && !show_former(hub, w, &answers, e, budget))) {
            cursor_set(w, entry_key(e));
            return is_full ? SCAN_FULL : SCAN_HISTORY;
        }
        --*budget;
        if (!has_changed && !entry_is_ghost(e)) state_of_entry(hub, w, e);
    }
    return SCAN_END;
}

static void page_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct history_read *op = data;
    struct cmd_hub *hub = op->hub;
    struct kv_watch *w = op->watch;
    if (read_back(op, c, read)) { /* else there may be no node any more */
        const struct mvcc *m = state_mvcc(node_state(env->node));
        int64_t budget = HUB_TURN_ROWS;
        if (read->result != OK || mvcc_compacted(m) > w->snapshot_rev) {
            watch_cancel_compacted(hub, w);
        } else if (snapshot_show(hub, w, &budget, read) == SCAN_END) {
            snapshot_end(hub, w);
        }
    }
    mem_free(op);
}

/* Asks history for the key at the cursor and those behind it that have changed, too. */
static void page_ask(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget)
{
    struct store_read *read = store_read_new(STORE_READ_VERSION, cmd_read_cookie(hub->env));
    struct mvcc_iter it = cursor_iter(hub, w);
    const struct entry *e;
    while ((e = mvcc_iter_next(&it)) != NULL && read->query_count < HUB_SNAPSHOT_QUERIES) {
        if (e->mod > w->snapshot_rev) store_read_query(read, entry_key(e), e->mod, e->jump);
        if (--*budget <= 0) break;
    }
    read->at_rev = w->snapshot_rev;
    read->bytes_max = hub_chunk_bytes(hub);
    cmd_read_start(hub->env, w->conn->peer.client->handle, read, page_read, read_new(hub, w));
}

static void snapshot_step(struct cmd_hub *hub, struct kv_watch *w, int64_t *budget)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    if (mvcc_compacted(m) > w->snapshot_rev) {
        watch_cancel_compacted(hub, w);
        return;
    }
    if (hub->reads >= HUB_READS_MAX && mvcc_rev(m) > w->snapshot_rev) {
        watch_list_move(&hub->queued, w); /* the page may need one */
        return;
    }
    switch (snapshot_show(hub, w, budget, NULL)) {
    case SCAN_END:
        snapshot_end(hub, w);
        behind_step(hub, w, budget);
        break;
    case SCAN_HISTORY: page_ask(hub, w, budget); break;
    case SCAN_FULL:
    case SCAN_COMPACTED: watch_list_move(&hub->behind, w); break;
    }
}

/* --- the turn ------------------------------------------------------------------------------------------ */

/* Full in two turns: the flush between them has left so much that net will tell when it is gone. */
static bool step_waits(struct cmd_hub *hub, struct kv_watch *w)
{
    struct watch_conn *conn = w->conn;
    if (conn->peer.client->closing || conn->peer.client->proto < 3) {
        watch_list_move(&hub->parked, w);
        return true;
    }
    if (!conn_is_full(hub, conn)) {
        conn->full_turn = 0;
        return false;
    }
    if (conn->full_turn == 0) conn->full_turn = hub->turn;
    watch_list_move(conn->full_turn < hub->turn ? &hub->parked : &hub->behind, w);
    return true;
}

static void unpark(struct cmd_hub *hub, struct kv_watch *w)
{
    w->conn->full_turn = 0;
    watch_list_move(&hub->behind, w);
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
        if (!c->closing && c->proto >= 3 && !conn_is_full(hub, w->conn)) unpark(hub, w);
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
        if (MUTANT(WATCH_PROGRESS_WHILE_BEHIND)) live = true;
        bool can = !c->closing && c->proto >= 3 && !conn_is_full(hub, w->conn);
        if (!w->sent && can && live) watch_push_note(hub, w, rev, "progress", NULL);
        w->sent = false;
    }
}

/* As many as history reads may begin go on. */
static void queued_admit(struct cmd_hub *hub)
{
    for (size_t room = HUB_READS_MAX - hub->reads; room > 0 && hub->queued.head != NULL; room--) {
        watch_list_move(&hub->behind, hub->queued.head);
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
