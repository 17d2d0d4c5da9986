/* node/node_wish.c - what raft wishes for a peer: entries from the log, else a snapshot. */
#include "node/node_snapshot_int.h"

#include "base/log.h"

/* --- on a worker --------------------------------------------------------------------------- */

/* The entry before lends its term. ERR_LIMIT ends the reading: enough. */
static enum err take_entry(void *ctx, const struct wal_entry *e)
{
    struct wish *w = ctx;
    if (e->index < w->read_index) {
        w->before_term = e->term;
        return OK;
    }
    if (w->entry_count == RAFT_MSG_ENTRIES_MAX) return ERR_LIMIT;
    if (w->entry_count != 0 && w->bytes + e->body.len > NODE_WISH_BYTES) return ERR_LIMIT;
    w->bytes += e->body.len;
    w->entries[w->entry_count++] = (struct raft_entry){
        .term = e->term, .index = e->index, .type = e->type, .crc = e->crc,
        .body = e->body.len == 0 ? NULL : blob_copy(e->body),
    };
    return OK;
}

static void read_run(struct work *work)
{
    struct wish *w = CONTAINER_OF(work, struct wish, work);
    w->result = wal_read_run(w->plan, SIZE_MAX, take_entry, w, &w->em);
    if (w->result == ERR_LIMIT) w->result = OK;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void entries_drop(struct wish *w)
{
    for (size_t i = 0; i < w->entry_count; i++) blob_unref(w->entries[i].body);
    mem_free(w->entries);
    w->entries = NULL;
    w->entry_count = 0;
}

static void phase_set(struct node_snapshot *ns, struct wish *w, enum wish_phase phase)
{
    if (w->phase == WISH_WAITS) ns->wishes_waiting--;
    w->phase = phase;
    if (w->phase == WISH_WAITS) ns->wishes_waiting++;
}

/* False: the log does not hold them (any more). */
static bool read_begin(struct node_snapshot *ns, struct wish *w)
{
    uint64_t first = w->wish.next_index;
    uint64_t last = MIN(first + RAFT_MSG_ENTRIES_MAX - 1, w->last_index);
    last = MIN(last, wal_last_durable(ns->options.wal).index);
    if (last < first) return false;
    w->plan = wal_read_new(ns->options.wal, first == 1 ? 1 : first - 1, last);
    if (w->plan == NULL) return false;
    phase_set(ns, w, WISH_READS);
    w->again = false;
    w->read_index = first;
    w->read_term = w->term;
    w->before_term = 0;
    w->bytes = 0;
    w->entries = mem_alloc((size_t)(last - first + 1) * sizeof *w->entries);
    w->entry_count = 0;
    w->work = (struct work){ .run = read_run, .done = &ns->done };
    workers_submit(ns->options.store.workers, &w->work);
    return true;
}

/* The peer that a snapshot is on its way to is asked for again by a leader of a later term. */
static bool is_being_sent(struct node_snapshot *ns, const struct wish *w)
{
    const struct outgoing *o = &ns->out;
    bool said = o->phase == OUT_BEGUN || o->phase == OUT_SENDING || o->phase == OUT_ENDED;
    if (!said || o->peer != w->wish.peer) return false;
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_SENDING, .peer = o->peer,
                             .index = o->view.applied_index };
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
    return true;
}

static void wish_try(struct node_snapshot *ns, struct wish *w)
{
    if (w->term != ns->hooks.term(ns->hooks.ctx)) { /* I4 */
        phase_set(ns, w, WISH_NONE);
    } else if (is_being_sent(ns, w)) {
        phase_set(ns, w, WISH_NONE);
    } else if (!read_begin(ns, w)) {
        if (ns->out.phase != OUT_IDLE || node_snapshot_is_installing(ns)) return;
        phase_set(ns, w, WISH_NONE);
        out_start(ns, w->wish.peer, w->stored_index);
    }
}

void wish_turn(struct node_snapshot *ns)
{
    for (size_t i = 0; ns->wishes_waiting > 0 && i < ARRAY_LEN(ns->wishes); i++) {
        if (ns->wishes[i].phase == WISH_WAITS) wish_try(ns, &ns->wishes[i]);
    }
}

/* The peer's own, else a free one. */
static struct wish *slot_of(struct node_snapshot *ns, uint64_t peer)
{
    struct wish *unused = NULL;
    for (size_t i = 0; i < ARRAY_LEN(ns->wishes); i++) {
        struct wish *w = &ns->wishes[i];
        if (w->phase == WISH_NONE) {
            unused = w;
        } else if (w->wish.peer == peer) {
            return w;
        }
    }
    return unused;
}

void node_snapshot_wish(struct node_snapshot *ns, const struct raft_wish *wish,
                        uint64_t stored_index, uint64_t last_index)
{
    struct wish *at = slot_of(ns, wish->peer);
    if (at == NULL) { /* members that were removed have them all: raft asks again when one is free */
        struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_SENT, .peer = wish->peer, .ok = false };
        enum err e = snapshot_tell(ns, &ev);
        ASSERT(e == OK);
        return;
    }
    at->wish = *wish;
    at->term = ns->hooks.term(ns->hooks.ctx);
    at->stored_index = stored_index;
    at->last_index = last_index;
    if (at->phase == WISH_READS) {
        at->again = true;
    } else {
        phase_set(ns, at, WISH_WAITS);
    }
}

/* The log is damaged where nobody needs it here: the peer gets a snapshot. */
static void read_failed(struct node_snapshot *ns, struct wish *w)
{
    log_error("log cannot be read for peer=%llu index=%llu reason=\"%s\"",
              (unsigned long long)w->wish.peer, (unsigned long long)w->read_index, w->em.text);
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_SENT, .peer = w->wish.peer, .ok = false };
    if (ns->out.phase == OUT_IDLE && !node_snapshot_is_installing(ns)) {
        out_start(ns, w->wish.peer, w->stored_index);
        return;
    }
    enum err e = snapshot_tell(ns, &ev); /* raft wishes again */
    ASSERT(e == OK);
}

static void read_answer(struct node_snapshot *ns, const struct wish *w)
{
    struct raft_event ev = {
        .type = RAFT_EV_ENTRIES, .peer = w->wish.peer, .index = w->read_index,
        .term = w->before_term, .entries = w->entries, .entry_count = w->entry_count,
    };
    ns->stats.entries_read += w->entry_count;
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
}

bool wish_take(struct node_snapshot *ns, const struct work *work)
{
    for (size_t i = 0; i < ARRAY_LEN(ns->wishes); i++) {
        struct wish *w = &ns->wishes[i];
        if (w->phase != WISH_READS || work != &w->work) continue;
        wal_read_free(w->plan);
        w->plan = NULL;
        phase_set(ns, w, w->again ? WISH_WAITS : WISH_NONE);
        bool answers = !ns->stopping && !w->again && w->read_term == ns->hooks.term(ns->hooks.ctx);
        if (answers && w->result == OK && w->entry_count > 0) {
            read_answer(ns, w);
        } else if (answers) {
            read_failed(ns, w);
        }
        entries_drop(w);
        return true;
    }
    return false;
}

bool wish_is_reading(const struct node_snapshot *ns)
{
    for (size_t i = 0; i < ARRAY_LEN(ns->wishes); i++) {
        if (ns->wishes[i].phase == WISH_READS) return true;
    }
    return false;
}
