/* cmd/cmd_hub_history.c - events that were: from the rows that are still in memory, at once, or from
 * the store, by a worker. */
#include "cmd/cmd_hub_int.h"

/* A place in the rows in memory. Cheap to copy: looking ahead is a copy. */
struct row_cursor {
    const struct mvcc *m;
    size_t pack_at;
    size_t offset;
    struct mvcc_pack pack;
};

/* False if there is no row at or after rev. */
static bool cursor_seek(struct row_cursor *c, const struct mvcc *m, uint64_t rev)
{
    *c = (struct row_cursor){ .m = m, .pack_at = mvcc_packs_find(m, rev) };
    if (!mvcc_packs_at(m, c->pack_at, &c->pack)) return false;
    enum err e = pack_begin(blob_slice(c->pack.body), &c->offset);
    ASSERT(e == OK);
    return true;
}

static bool cursor_next(struct row_cursor *c, struct row *out)
{
    while (c->offset == c->pack.body->len) {
        if (!mvcc_packs_at(c->m, ++c->pack_at, &c->pack)) return false;
        enum err e = pack_begin(blob_slice(c->pack.body), &c->offset);
        ASSERT(e == OK);
    }
    enum err e = row_decode(blob_slice(c->pack.body), &c->offset, c->pack.first_rev, out);
    ASSERT(e == OK); /* our own bytes, never left memory */
    return true;
}

static bool is_wanted(const struct hub_scan *s, const struct row *row)
{
    if (row->op == ROW_PUT ? s->no_put : s->no_del) return false;
    return slice_cmp(row->key, s->start) >= 0 && slice_cmp(row->key, s->end) < 0;
}

/* Whether the former rows of all that is wanted of this revision are in memory: from `first` on,
 * the row in front of the cursor's place. */
static bool prevs_in_memory(const struct hub_scan *s, struct row_cursor cursor, const struct row *first,
                            uint64_t memory_rev)
{
    struct row row = *first;
    do {
        if (is_wanted(s, &row) && row.prev != 0 && row.prev < memory_rev) return false;
    } while (cursor_next(&cursor, &row) && row.rev == first->rev);
    return true;
}

/* The row of the key in that revision, which is in memory. *budget: rows passed are taken off. */
static void row_find(const struct mvcc *m, struct slice key, uint64_t rev, int64_t *budget, struct row *out)
{
    struct row_cursor c;
    bool there = cursor_seek(&c, m, rev);
    ASSERT(there);
    while (cursor_next(&c, out) && out->rev <= rev) {
        --*budget;
        if (out->rev == rev && slice_eq(out->key, key)) return;
    }
    ASSERT(false); /* I6 of mvcc.h */
}

static void prev_find(const struct mvcc *m, struct store_item *item, int64_t *budget)
{
    item->prev_state = STORE_PREV_NONE;
    if (item->row.prev == 0) return;
    row_find(m, item->row.key, item->row.prev, budget, &item->prev);
    if (item->prev.op == ROW_PUT || MUTANT(WATCH_PREV_OF_DELETED)) item->prev_state = STORE_PREV_FOUND;
}

enum hub_version hub_version_at(const struct cmd_hub *hub, const struct entry *e, uint64_t rev, int64_t *budget,
                                struct row *out)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    uint64_t memory_rev = mvcc_packs_first_rev(m);
    uint64_t at = e->mod;
    for (size_t i = 0; at >= memory_rev && i < HUB_VERSION_STEPS; i++) {
        row_find(m, entry_key(e), at, budget, out);
        if (out->rev <= rev) return out->op == ROW_PUT ? VERSION_FOUND : VERSION_NONE;
        if (out->prev == 0) return VERSION_NONE;
        at = out->prev;
    }
    return VERSION_UNKNOWN;
}

enum hub_scan_end hub_scan_memory(struct cmd_hub *hub, struct hub_scan *scan, int64_t *budget,
                                  hub_take_fn *take, void *ctx)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    ASSERT(scan->to_rev <= mvcc_rev(m));
    if (scan->next_rev > scan->to_rev) return SCAN_END;
    if (scan->next_rev < mvcc_compacted(m)) return SCAN_COMPACTED;
    uint64_t memory_rev = mvcc_packs_first_rev(m);
    if (scan->next_rev < memory_rev) return SCAN_HISTORY;
    struct row_cursor cursor;
    struct store_item item = { .found = true };
    uint64_t rev = 0; /* being taken */
    bool enough = false;
    bool more = cursor_seek(&cursor, m, scan->next_rev);
    while (more && cursor_next(&cursor, &item.row)) {
        --*budget;
        if (item.row.rev + MUTANT(WATCH_REPEATS_AT_HANDOVER) < scan->next_rev) continue;
        if (item.row.rev > scan->to_rev) break;
        if (item.row.rev != rev) {
            scan->next_rev = item.row.rev;
            if (enough || *budget <= 0) return SCAN_FULL;
            if (scan->with_prev && !prevs_in_memory(scan, cursor, &item.row, memory_rev)) return SCAN_HISTORY;
            rev = item.row.rev;
        }
        if (!is_wanted(scan, &item.row)) continue;
        item.prev_state = STORE_PREV_NOT_ASKED;
        if (scan->with_prev) prev_find(m, &item, budget);
        enough = !take(ctx, &item) || enough;
    }
    scan->next_rev = scan->to_rev + 1;
    return SCAN_END;
}

void hub_read_start(struct cmd_hub *hub, uint64_t client_handle, const struct hub_scan *scan,
                    uint64_t events_max, cmd_read_fn *done, void *data)
{
    ASSERT(scan->next_rev <= scan->to_rev);
    struct store_read *read = store_read_new(STORE_READ_EVENTS, cmd_read_cookie(hub->env));
    store_read_range(read, scan->start, scan->end);
    read->from_rev = scan->next_rev;
    read->to_rev = scan->to_rev;
    read->no_put = scan->no_put;
    read->no_del = scan->no_del;
    read->with_prev = scan->with_prev;
    read->events_max = events_max;
    read->bytes_max = hub_chunk_bytes(hub);
    read->scan_bytes_max = HUB_CHUNK_SCAN_BYTES;
    cmd_read_start(hub->env, client_handle, read, done, data);
}

enum hub_scan_end hub_read_take(struct cmd_hub *hub, const struct store_read *read,
                                struct hub_scan *scan, hub_take_fn *take, void *ctx)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    /* What a compaction passed while it was read may have holes. */
    if (read->result != OK || mvcc_compacted(m) > read->from_rev) return SCAN_COMPACTED;
    ASSERT(read->from_rev == scan->next_rev);
    struct store_item item;
    size_t pos = 0;
    while (store_read_next(read, &pos, &item)) take(ctx, &item);
    ASSERT(read->next_rev > scan->next_rev);
    scan->next_rev = read->next_rev;
    return scan->next_rev > scan->to_rev ? SCAN_END : SCAN_FULL;
}

void hub_reply_compacted(struct cmd_hub *hub, struct reply *r, uint64_t rev)
{
    const struct mvcc *m = state_mvcc(node_state(hub->env->node));
    reply_error(r, "COMPACTED", "required revision %llu has been compacted, oldest is %llu",
                (unsigned long long)rev, (unsigned long long)mvcc_compacted(m));
}
