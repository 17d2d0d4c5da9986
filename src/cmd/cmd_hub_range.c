/* cmd/cmd_hub_range.c - XRANGE and XREVRANGE on watch streams: the events between two ids.
 *
 * Backwards it reads windows of revisions, the newest first and each larger than the one before, so
 * that the last few events do not cost the whole history. */
#include "cmd/cmd_hub_int.h"

#define WINDOW_REVS_FIRST 1000
#define WINDOW_REVS_MAX 1000000

struct stream_id {
    uint64_t rev, n;
};

struct range_reader {
    struct cmd_hub *hub;
    bool backwards;
    bool is_reading, is_gone;
    bool too_large;
    struct hub_range range;
    struct stream_id first, last; /* inclusive */
    uint64_t count_max;
    uint64_t low_rev, high_rev;   /* of the window; forwards it is everything */
    uint64_t window_revs;
    struct hub_scan scan;
    struct buf entries;           /* of the window, encoded, in order */
    struct buf places;            /* u64: where each begins in entries */
    uint64_t front;               /* backwards: so many of them are not wanted any more */
    bool is_cut;                  /* ... one for the size of what follows it: newer ones may replace it */
    struct buf done;              /* of earlier windows, in the order of the reply */
    uint64_t done_count;
};

static void range_free(struct range_reader *rr)
{
    hub_range_deinit(&rr->range);
    buf_deinit(&rr->entries);
    buf_deinit(&rr->places);
    buf_deinit(&rr->done);
    mem_free(rr);
}

static void range_cleanup(struct range_reader **rr)
{
    if (*rr != NULL) range_free(*rr);
}

/* --- ids --------------------------------------------------------------------------------- */

static bool id_below(const struct stream_id *a, const struct stream_id *b)
{
    return a->rev != b->rev ? a->rev < b->rev : a->n < b->n;
}

/* One bound: `-`, `+`, `r`, `r-n`, `(r`, `(r-n`. */
static bool bound_parse(struct slice arg, bool is_first, struct stream_id *out, bool *exclusive)
{
    *exclusive = false;
    if (slice_eq(arg, SLICE_LIT("-")) || slice_eq(arg, SLICE_LIT("+"))) {
        *out = arg.at[0] == '-' ? (struct stream_id){ 0, 0 } : (struct stream_id){ INT64_MAX, UINT64_MAX };
        return true;
    }
    if (arg.len > 0 && arg.at[0] == '(') {
        *exclusive = true;
        arg = (struct slice){ arg.at + 1, arg.len - 1 };
    }
    bool has_n = false;
    if (!hub_id_parse(arg, &out->rev, &out->n, &has_n)) return false;
    if (!has_n && !is_first) out->n = UINT64_MAX; /* then "(r" leaves out nothing that there is, as in Redis */
    if (!*exclusive) return true;
    if (is_first) {
        if (++out->n == 0) out->rev++;
    } else if (out->n-- == 0) {
        if (out->rev == 0) return false;
        out->rev--;
    }
    return true;
}

/* --- collecting ----------------------------------------------------------------------------- */

static uint64_t place_count(const struct range_reader *rr)
{
    return rr->places.len / sizeof(uint64_t);
}

static size_t place_at(const struct range_reader *rr, uint64_t at)
{
    return at < place_count(rr) ? (size_t)u64_le(rr->places.at + at * sizeof(uint64_t)) : rr->entries.len;
}

static size_t bytes_max(const struct range_reader *rr)
{
    return rr->hub->env->limits.output_bytes_max / 2;
}

/* Backwards only the last ones of a window can be wanted, and of them no more than fit into a reply. */
static void front_move(struct range_reader *rr)
{
    uint64_t want = rr->count_max - rr->done_count;
    for (;; rr->front++) {
        uint64_t kept = place_count(rr) - rr->front;
        size_t bytes = rr->entries.len - place_at(rr, rr->front) + rr->done.len;
        if (kept > want) continue;
        if (kept == 0 || bytes <= bytes_max(rr)) return;
        rr->is_cut = true;
    }
}

/* Drops the front when it is as much as the rest: then moving that is worth it. */
static void front_drop(struct range_reader *rr)
{
    size_t bytes = place_at(rr, rr->front);
    if (rr->front == 0 || (rr->front <= place_count(rr) / 2 && bytes <= rr->entries.len / 2)) return;
    buf_consume(&rr->entries, bytes);
    buf_consume(&rr->places, (size_t)rr->front * sizeof(uint64_t));
    for (uint64_t i = 0; i < place_count(rr); i++) {
        uint8_t *at = rr->places.at + i * sizeof(uint64_t);
        u64_le_put(at, u64_le(at) - bytes);
    }
    rr->front = 0;
}

static bool range_is_complete(const struct range_reader *rr)
{
    return rr->too_large || (!rr->backwards && place_count(rr) >= rr->count_max);
}

static bool take_entry(void *ctx, const struct store_item *item)
{
    struct range_reader *rr = ctx;
    struct stream_id id = { item->row.rev, item->row.n };
    if (id_below(&id, &rr->first) || id_below(&rr->last, &id)) return true;
    if (range_is_complete(rr)) return false;
    struct hub_event e;
    hub_event_of_item(item, &e);
    buf_append_u64(&rr->places, rr->entries.len);
    hub_encode_entry(&rr->entries, &e);
    if (rr->backwards) {
        front_move(rr);
        front_drop(rr);
    } else {
        rr->too_large = rr->entries.len > bytes_max(rr);
    }
    return !range_is_complete(rr);
}

/* Takes over what the window gave. True: all that is wanted is there. */
static bool window_end(struct range_reader *rr)
{
    if (!rr->backwards || rr->too_large) {
        rr->done_count = MIN(place_count(rr), rr->count_max);
        return true;
    }
    for (uint64_t i = place_count(rr); i > rr->front && rr->done_count < rr->count_max; i--) {
        size_t from = place_at(rr, i - 1);
        buf_append(&rr->done, rr->entries.at + from, place_at(rr, i) - from);
        rr->done_count++;
    }
    buf_clear(&rr->entries);
    buf_clear(&rr->places);
    rr->too_large = rr->is_cut && rr->done_count < rr->count_max;
    rr->front = 0;
    rr->is_cut = false;
    if (rr->too_large) return true;
    if (rr->done_count == rr->count_max || rr->low_rev <= rr->first.rev) return true;
    rr->high_rev = rr->low_rev - 1;
    rr->window_revs = MIN(rr->window_revs * 4, WINDOW_REVS_MAX);
    return false;
}

static void window_begin(struct range_reader *rr)
{
    rr->low_rev = rr->first.rev;
    if (rr->backwards && rr->high_rev - rr->first.rev >= rr->window_revs) {
        rr->low_rev = rr->high_rev - rr->window_revs + 1;
    }
    rr->scan = (struct hub_scan){ .start = rr->range.start, .end = rr->range.end,
                                  .next_rev = rr->low_rev, .to_rev = rr->high_rev };
}

static void range_reply(struct range_reader *rr, struct reply *r)
{
    if (rr->too_large) {
        reply_error(r, "ERR", "too many entries for one reply; use COUNT");
        return;
    }
    reply_array(r, rr->done_count);
    reply_raw(r, rr->backwards ? buf_slice(&rr->done)
                               : (struct slice){ rr->entries.at, place_at(rr, rr->done_count) });
}

/* --- reading ------------------------------------------------------------------------------------ */

enum progress { RANGE_DONE, RANGE_HISTORY, RANGE_COMPACTED };

/* As far as memory reaches. Goes on with the window that the scan stands in. */
static enum progress range_go_on(struct range_reader *rr, enum hub_scan_end end)
{
    for (;;) {
        if (end == SCAN_COMPACTED) return RANGE_COMPACTED;
        if (end == SCAN_END || range_is_complete(rr)) {
            if (window_end(rr)) return RANGE_DONE;
            window_begin(rr);
        } else if (end == SCAN_HISTORY) {
            return RANGE_HISTORY;
        }
        int64_t budget = HUB_TURN_ROWS;
        end = hub_scan_memory(rr->hub, &rr->scan, &budget, take_entry, rr);
        if (end == SCAN_FULL && !range_is_complete(rr)) end = SCAN_HISTORY; /* too much for one turn */
    }
}

static void range_timeout(struct cmd_env *env, struct client *c)
{
    (void)env;
    (void)c; /* the read ends by itself */
}

static void range_cancel(struct cmd_env *env, struct client *c)
{
    struct range_reader *rr = c->block->data;
    (void)env;
    if (rr->is_reading) {
        rr->is_gone = true;
    } else {
        range_free(rr);
    }
}

static void range_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data);

static void history_begin(struct range_reader *rr, uint64_t handle)
{
    rr->is_reading = true;
    hub_read_start(rr->hub, handle, &rr->scan, MIN(rr->count_max, HUB_CHUNK_EVENTS), range_read, rr);
}

static void range_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct range_reader *rr = data;
    rr->is_reading = false;
    if (rr->is_gone) {
        range_free(rr);
        return;
    }
    if (c == NULL || read == NULL) return; /* it is closing: range_cancel comes */
    enum progress progress = range_go_on(rr, hub_read_take(rr->hub, read, &rr->scan, take_entry, rr));
    if (progress == RANGE_HISTORY) {
        history_begin(rr, c->handle);
        return;
    }
    struct reply r = client_reply(env, c);
    if (progress == RANGE_COMPACTED) {
        hub_reply_compacted(rr->hub, &r, rr->scan.next_rev);
    } else {
        range_reply(rr, &r);
    }
    env->stats.errors += r.error_count;
    range_free(rr);
    client_unblock(env, c);
}

/* --- commands --------------------------------------------------------------------------------------- */

/* False: answered already. */
static bool range_bounds(struct cmd_ctx *cx, struct range_reader *rr)
{
    const struct mvcc *m = state_mvcc(cx->view.state);
    uint64_t oldest_rev = MAX(mvcc_compacted(m), 1);
    bool from_exclusive = false;
    bool to_exclusive = false;
    struct slice first = cx->argv[rr->backwards ? 3 : 2];
    struct slice last = cx->argv[rr->backwards ? 2 : 3];
    if (!bound_parse(first, true, &rr->first, &from_exclusive) ||
        !bound_parse(last, false, &rr->last, &to_exclusive)) {
        reply_error(cx->reply, "ERR", "Invalid stream ID specified as stream command argument");
        return false;
    }
    /* Behind an entry of ours there is nothing left of its revision: see XREAD. */
    bool behind = from_exclusive && rr->first.n > 1 && rr->first.rev + 1 == oldest_rev;
    if (rr->first.rev == 0 || behind) rr->first = (struct stream_id){ oldest_rev, 0 };
    if (rr->first.rev < oldest_rev) {
        hub_reply_compacted(rr->hub, cx->reply, rr->first.rev);
        return false;
    }
    rr->high_rev = MIN(rr->last.rev, mvcc_rev(m));
    if (rr->high_rev >= rr->first.rev && !id_below(&rr->last, &rr->first)) return true;
    reply_array(cx->reply, 0);
    return false;
}

/* [COUNT n]. *none: nothing is asked for. */
static enum err range_count(struct cmd_ctx *cx, uint64_t *count, bool *none)
{
    if (cx->argc == 4) return OK;
    if (cx->argc != 6 || !arg_is(cx->argv[4], "COUNT")) return ERR_SYNTAX;
    int64_t n = 0;
    TRY(arg_i64(cx->argv[5], &n));
    *none = n <= 0;
    *count = (uint64_t)n;
    return OK;
}

static enum err range_any(struct cmd_ctx *cx, bool backwards)
{
    ASSERT(cx->mode == CMD_MODE_NORMAL);
    struct range_reader *rr CLEANUP(range_cleanup) = mem_zalloc(sizeof *rr);
    rr->hub = cx->env->hub;
    rr->backwards = backwards;
    rr->count_max = INT64_MAX;
    rr->window_revs = WINDOW_REVS_FIRST;
    bool none = false;
    TRY(range_count(cx, &rr->count_max, &none));
    struct hub_name name;
    if (!hub_name_parse(cx->argv[1], cx->db, &name)) {
        hub_reply_not_a_stream(cx->reply, cx->argv[1]);
        return OK;
    }
    if (none) {
        reply_null_array(cx->reply);
        return OK;
    }
    hub_name_range(&name, &rr->range);
    if (!range_bounds(cx, rr)) return OK;
    window_begin(rr);
    switch (range_go_on(rr, SCAN_FULL)) {
    case RANGE_COMPACTED:
        hub_reply_compacted(rr->hub, cx->reply, rr->scan.next_rev);
        break;
    case RANGE_DONE:
        range_reply(rr, cx->reply);
        break;
    case RANGE_HISTORY:
        client_block(cx->env, cx->client, INT64_MAX, range_timeout, range_cancel, rr);
        history_begin(rr, cx->client->handle);
        rr = NULL; /* its own now */
        break;
    }
    return OK;
}

enum err cmd_xrange(struct cmd_ctx *cx) { return range_any(cx, false); }
enum err cmd_xrevrange(struct cmd_ctx *cx) { return range_any(cx, true); }
