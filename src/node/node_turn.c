/* node/node_turn.c - a turn: publish, take completions, apply, expire, clean up. */
#include "node/node_int.h"

#include "base/log.h"
#include "state/dedup.h"

#define CLOCK_ENTRY_MS 1000
#define CLOCK_OP_BYTES_MAX 64
/* Of ours in the log and not yet applied: apply refuses what is beyond the window. The rest of it
 * is for what is proposed between two looks at node_is_congested. */
#define PROPOSED_OPS_MAX (DEDUP_WINDOW - DEDUP_WINDOW / 8)
#define COMPACT_STEP_COUNT 500
#define COMPACT_WINDOW_PART 4         /* of the live keys must have changed ... */
#define COMPACT_INTERVAL_MS (10 * 60 * 1000) /* ... or so much time have passed */
#define IDLE_SLEEP_US 1000000
#define BUSY_SLEEP_US 200000

/* --- the cluster clock ------------------------------------------------------------- */

/* I4. Between two turns the clock advances at most one election timeout: what this process slept
 * through (a pause, a stall) is never made up, so nobody loses a lease by it. Nor does it run away
 * from an entry that the disk does not take. */
static void clock_advance(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    int64_t passed_ms = MAX(now_ms - n->clock_mono_ms, 0);
    n->clock_mono_ms = MAX(now_ms, n->clock_mono_ms);
    uint64_t next_ms = n->clock_ms + (uint64_t)MIN(passed_ms, n->cfg.election_timeout_ms);
    if (n->pending.head != n->pending.tail) {
        const struct pending_entry *oldest = &n->pending.at[n->pending.head & (n->pending.cap - 1)];
        next_ms = MIN(next_ms, oldest->stamp_ms + (uint64_t)n->cfg.election_timeout_ms);
    }
    n->clock_ms = MAX(n->clock_ms, next_ms);
}

static void pending_push(struct pending_ring *r, uint64_t index, uint64_t stamp_ms)
{
    if (r->tail - r->head == r->cap) {
        size_t count = r->tail - r->head;
        size_t cap = r->cap == 0 ? 256 : r->cap * 2;
        struct pending_entry *at = mem_alloc(cap * sizeof *at);
        for (size_t i = 0; i < count; i++) at[i] = r->at[(r->head + i) & (r->cap - 1)];
        mem_free(r->at);
        *r = (struct pending_ring){ at, cap, 0, count };
    }
    r->at[r->tail++ & (r->cap - 1)] = (struct pending_entry){ index, stamp_ms };
}

static void pending_drop(struct pending_ring *r, uint64_t applied_index)
{
    while (r->head != r->tail && r->at[r->head & (r->cap - 1)].index <= applied_index) r->head++;
}

/* --- proposing ------------------------------------------------------------------------ */

/* Closes the batch and hands it to raft as one entry. */
void node_seal(struct node *n)
{
    if (n->batch_ops == 0) return;
    n->mono_us = MAX(n->mono_us, n->cfg.mono_us()); /* P5: not before what was read in this turn */
    clock_advance(n);
    n->stamp_ms = MAX(n->stamp_ms, n->clock_ms);
    struct op_batch_head head = {
        .format = OP_BATCH_FORMAT,
        .feature_level = OP_FEATURE_LEVEL,
        .stamp_ms = n->stamp_ms,
        .wall_ms = n->wall_ms,
    };
    struct op_run run = {
        .member = n->identity.member_id,
        .incarnation = (uint32_t)n->identity.incarnation,
        .first_seq = n->batch_first_seq,
        .floor_seq = n->done_seq + 1,
        .op_count = n->batch_ops,
    };
    op_batch_seal(&n->batch, &head, &run);
    struct blob *body = blob_copy(buf_slice(&n->batch));
    struct raft_event ev = {
        .type = RAFT_EV_PROPOSE,
        .body = body,
        .crc = crc32c(0, body->at, body->len),
    };
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK); /* the only voter leads, and node_is_congested keeps below raft's bound */
    pending_push(&n->pending, raft_last_index(n->raft), n->stamp_ms);
    n->append_mono_ms = n->mono_us / 1000;
    n->stats.proposed_batches++;
    n->stats.proposed_ops += n->batch_ops;
    n->batch_ops = 0;
    buf_clear(&n->batch);
    op_batch_begin(&n->batch);
}

/* The operation that was encoded last, at `from`, does not fit into this entry: the ones before it
 * become an entry, it begins the next. */
static void move_to_next_batch(struct node *n, size_t from)
{
    struct buf moved CLEANUP(buf_deinit) = { 0 };
    buf_append(&moved, n->batch.at + from, n->batch.len - from);
    n->batch.len = from;
    node_seal(n);
    node_update(n);
    buf_append_slice(&n->batch, buf_slice(&moved));
}

/* Encodes behind the others of this turn. ERR_REQUEST_LIMIT: too large for the setting, or for an
 * entry of the log; nothing has changed then. */
static enum err append_op(struct node *n, const struct op *op, bool key2_to_end, uint64_t *seq)
{
    size_t from = n->batch.len;
    size_t entry_max = wal_entry_bytes_max(n->wal);
    op_encode(&n->batch, op, key2_to_end);
    size_t bytes = n->batch.len - from;
    size_t op_max = entry_max - OP_BATCH_HEAD_BYTES - OP_RUN_HEAD_BYTES;
    if (op->kind != OP_EXPIRE) op_max = MIN(op_max, (size_t)state_settings(n->state)->request_bytes_max);
    if (UNLIKELY(bytes > op_max)) {
        n->batch.len = from;
        return ERR_REQUEST_LIMIT;
    }
    /* What apply could not read would stop every replica at every start: it must not get so far. */
    struct op probe;
    size_t offset = from;
    if (UNLIKELY(op_decode(buf_slice(&n->batch), &offset, &probe) != OK)) {
        log_error("operation refused reason=\"it cannot be decoded\" kind=%d", (int)op->kind);
        ASSERT_SLOW(false);
        n->batch.len = from;
        return ERR_UNSUPPORTED;
    }
    if (UNLIKELY(n->batch.len > entry_max)) {
        ASSERT(n->batch_ops > 0);
        move_to_next_batch(n, from);
    }
    if (n->batch_ops == 0) n->batch_first_seq = n->next_seq;
    n->batch_ops++;
    *seq = n->next_seq++;
    return OK;
}

enum err node_propose(struct node *n, const struct op *op, bool key2_to_end,
                      const struct ticket *t)
{
    ASSERT(t->row != NULL);
    if (!raft_own_term_committed(n->raft)) return ERR_CLUSTERDOWN;
    if (UNLIKELY(n->disk_low) && state_op_grows(op)) return ERR_NOSPACE;
    uint64_t seq = 0;
    TRY(append_op(n, op, key2_to_end, &seq));
    ticket_ring_push(&n->tickets, t, seq);
    if (n->batch.len >= OP_BATCH_BYTES_MAX) {
        node_seal(n);
        node_update(n);
    }
    return OK;
}

enum err node_propose_internal(struct node *n, const struct op *op)
{
    if (raft_role(n->raft) != RAFT_LEADER) return ERR_CLUSTERDOWN;
    struct ticket none = { .row = NULL };
    uint64_t seq = 0;
    TRY(append_op(n, op, false, &seq));
    ticket_ring_push(&n->tickets, &none, seq);
    return OK;
}

void node_local(struct node *n, const struct ticket *t)
{
    ASSERT(t->row != NULL);
    ASSERT(ticket_ring_count(&n->tickets) > 0);
    ticket_ring_push(&n->tickets, t, 0);
}

/* What waits for the store, also what no checkpoint may take yet because too many are under way. */
static uint64_t store_waiting_bytes(const struct node *n)
{
    uint64_t bytes = store_backlog_bytes(n->store);
    if (n->dirty_bytes > n->cfg.checkpoint_bytes) bytes += n->dirty_bytes - n->cfg.checkpoint_bytes;
    return bytes;
}

bool node_is_congested(struct node *n)
{
    bool full = raft_uncommitted_bytes(n->raft) + n->batch.len > n->cfg.uncommitted_bytes_max ||
                n->next_seq - n->done_seq > PROPOSED_OPS_MAX ||
                store_waiting_bytes(n) > n->cfg.store_backlog_bytes_max;
    n->congested = n->congested || full;
    return full;
}

/* --- carrying out what raft says ------------------------------------------------------- */

static void writes_push(struct node *n, uint64_t wal_seq, const struct raft_write *w)
{
    size_t count = n->write_tail - n->write_head;
    if (count == n->write_cap) {
        size_t cap = n->write_cap == 0 ? 64 : n->write_cap * 2;
        struct raft_write *at = mem_alloc(cap * sizeof *at);
        for (size_t i = 0; i < count; i++) at[i] = n->writes[(n->write_head + i) & (n->write_cap - 1)];
        mem_free(n->writes);
        n->writes = at;
        n->write_cap = cap;
        n->write_head = 0;
        n->write_tail = count;
    }
    if (count == 0) n->write_first_wal_seq = wal_seq;
    ASSERT(wal_seq == n->write_first_wal_seq + count);
    n->writes[n->write_tail++ & (n->write_cap - 1)] = *w;
}

static void submit_write(struct node *n, const struct raft_update *up)
{
    struct wal_submission s = { .truncate_from = up->truncate_from };
    if (up->truncate_from > 1) {
        bool known = raft_term_at(n->raft, up->truncate_from - 1, &s.truncate_term);
        ASSERT(known);
    }
    size_t count = up->append_from == 0 ? 0 : (size_t)(up->append_to - up->append_from + 1);
    if (count > n->wal_entry_cap) {
        n->wal_entry_cap = MAX(count, n->wal_entry_cap * 2);
        n->wal_entries = mem_realloc(n->wal_entries, n->wal_entry_cap * sizeof *n->wal_entries);
    }
    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *e = raft_entry_at(n->raft, up->append_from + i);
        n->wal_entries[i] = (struct wal_entry){
            .term = e->term, .index = e->index, .type = e->type, .crc = e->crc, .blob = e->body,
            .body = e->body == NULL ? SLICE_NONE : blob_slice(e->body),
        };
    }
    s.entries = n->wal_entries;
    s.entry_count = count;
    struct wal_hard_state hard = { up->hard.term, up->hard.vote, up->hard.commit };
    s.hard = &hard;
    writes_push(n, wal_submit(n->wal, &s), &up->write);
}

/* A batch that was applied: its form is known to be right. */
static bool is_clock_only(struct slice body)
{
    size_t head_bytes = OP_BATCH_HEAD_BYTES + OP_RUN_HEAD_BYTES;
    if (body.len < head_bytes || body.len > head_bytes + CLOCK_OP_BYTES_MAX) return false;
    size_t offset = 0;
    size_t op_offset = 0;
    struct op_run run;
    struct op op;
    if (!op_batch_next_run(body, &offset, &run) || offset != body.len || run.op_count != 1) return false;
    return op_decode(run.ops, &op_offset, &op) == OK && op.kind == OP_CLOCK;
}

static void members_applied(struct node *n, const struct raft_entry *e)
{
    enum err err = raft_members_decode(blob_slice(e->body), &n->members);
    ASSERT(err == OK); /* raft has decoded it before */
}

/* What the next checkpoint is for. */
static void mark_dirty(struct node *n, struct slice body)
{
    int64_t now_ms = MAX(n->mono_us / 1000, 1);
    int64_t *since_ms = is_clock_only(body) ? &n->clock_since_ms : &n->dirty_since_ms;
    if (*since_ms == 0) *since_ms = now_ms;
    n->dirty_entries++;
}

static void apply_one(struct node *n, const struct raft_entry *e, const struct apply_sink *sink)
{
    struct slice body = SLICE_NONE;
    if (e->type == RAFT_ENTRY_BATCH && e->body != NULL) body = blob_slice(e->body);
    if (e->type == RAFT_ENTRY_MEMBERS) members_applied(n, e);
    struct errmsg em = { "" };
    enum err err = state_apply(n->state, e->index, e->term, body, sink, &em);
    if (err != OK) {
        log_error("apply failed index=%llu reason=\"%s\"", (unsigned long long)e->index, em.text);
        ASSERT(err == OK);
    }
    n->stats.applied_entries++;
    mark_dirty(n, body);
    if (n->hooks.applied != NULL && n->open) n->hooks.applied(n->hooks.ctx, e->index);
}

static void apply_range(struct node *n, uint64_t from, uint64_t to)
{
    struct apply_sink sink;
    node_sink(n, &sink);
    for (uint64_t index = from; index <= to; index++) {
        apply_one(n, raft_entry_at(n->raft, index), &sink);
    }
    struct raft_event ev = { .type = RAFT_EV_APPLIED, .index = to };
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
    pending_drop(&n->pending, to);
    raft_log_trim(n->raft, to);
}

void node_update(struct node *n)
{
    struct raft_update up;
    while (raft_update_take(n->raft, &up)) {
        ASSERT(up.msg_count == 0 && up.wish_count == 0); /* a group of one has no peers */
        if (up.write.seq != 0) submit_write(n, &up);
        if (up.apply_from != 0) apply_range(n, up.apply_from, up.apply_to);
    }
}

/* What the WAL has made durable goes back to raft. */
void node_wal_take(struct node *n, const struct wal_done *done)
{
    size_t count = n->write_tail - n->write_head;
    if (count == 0 || done->seq < n->write_first_wal_seq) return;
    size_t finished = (size_t)MIN(done->seq - n->write_first_wal_seq + 1, count);
    struct raft_event ev = {
        .type = RAFT_EV_PERSISTED,
        .write = n->writes[(n->write_head + finished - 1) & (n->write_cap - 1)],
    };
    n->write_head += finished;
    n->write_first_wal_seq += finished;
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
    node_update(n);
}

/* --- what the leader proposes by itself ---------------------------------------------------- */

static void expire_if_due(struct node *n, uint64_t due_ms)
{
    if (n->expiring || !raft_own_term_committed(n->raft)) return;
    if (state_next_due_ms(n->state) > due_ms) return;
    /* Keys may be long: fewer of them until the operation fits into an entry. */
    enum err e = ERR_REQUEST_LIMIT;
    for (size_t limit = (size_t)state_settings(n->state)->op_keys_max; e == ERR_REQUEST_LIMIT && limit > 0;
         limit = limit > 1 ? MAX(limit / 8, 1) : 0) {
        struct op op = { .kind = OP_EXPIRE };
        buf_clear(&n->keys);
        buf_clear(&n->ids);
        if (!state_due(n->state, due_ms, limit, &n->keys, &n->ids, &op)) return;
        e = node_propose_internal(n, &op);
    }
    n->expiring = e == OK;
}

/* A restart of all nodes must not lose more than a second of the cluster clock. */
static void clock_entry_if_due(struct node *n)
{
    if (state_next_due_ms(n->state) == UINT64_MAX || n->batch_ops > 0) return;
    if (n->mono_us / 1000 - n->append_mono_ms < CLOCK_ENTRY_MS) return;
    struct op op = { .kind = OP_CLOCK };
    enum err e = node_propose_internal(n, &op);
    if (e != OK) log_debug("clock entry refused reason=%s", err_name(e));
}

static void compact_if_due(struct node *n)
{
    if (n->compacting || !raft_own_term_committed(n->raft)) return;
    struct store_stats st;
    store_stats_get(n->store, &st);
    const struct mvcc *m = state_mvcc(n->state);
    uint64_t all_bytes = st.pack_bytes + mvcc_packs_bytes(m);
    uint64_t live_bytes = mvcc_live_bytes(m);
    uint64_t rev = state_compact_due(n->state, all_bytes > live_bytes ? all_bytes - live_bytes : 0);
    if (rev == 0) return;
    /* A pass writes each pack anew that has a dead row. Waiting until a fair part of the live keys
     * was overwritten keeps that to a small multiple of what clients write. */
    uint64_t window = mvcc_live_count(m) / COMPACT_WINDOW_PART;
    bool waited = n->mono_us / 1000 - n->compacted_ms >= COMPACT_INTERVAL_MS;
    if (rev - mvcc_compacted(m) < window && !waited) return;
    n->compacted_ms = n->mono_us / 1000;
    struct op op = { .kind = OP_COMPACT, .number = (int64_t)rev, .fields = FIELD_NUMBER };
    if (node_propose_internal(n, &op) == OK) n->compacting = true;
}

static void every_second(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    if (now_ms - n->second_ms < 1000) return;
    n->second_ms = now_ms;
    compact_if_due(n);
    node_probe_start(n);
}

/* --- the turn ---------------------------------------------------------------------------------- */

static void publish(struct node *n)
{
    node_seal(n);
    node_update(n);
}

void node_turn(struct node *n, int64_t mono_us, int64_t wall_ms)
{
    n->mono_us = MAX(mono_us, n->mono_us);
    n->wall_ms = wall_ms;
    clock_advance(n);
    /* Expiry goes by the time before this turn's requests were read: a keepalive that was waiting
     * to be read is not overtaken. One less, because milliseconds are cut off. */
    uint64_t due_ms = n->clock_ms - MIN(n->clock_ms, 1);
    struct raft_event tick = { .type = RAFT_EV_TICK, .now_ms = mono_us / 1000 };
    enum err e = raft_step(n->raft, &tick);
    ASSERT(e == OK);
    publish(n);
    struct wal_done done;
    if (wal_poll(n->wal, &done)) node_wal_take(n, &done);
    node_store_poll(n);
    expire_if_due(n, due_ms);
    clock_entry_if_due(n);
    every_second(n);
    publish(n);
    wal_tick(n->wal, mono_us / 1000);
    state_compact_step(n->state, COMPACT_STEP_COUNT);
    node_compaction_tell(n);
    node_checkpoint_if_due(n, false);
    if (n->congested && !node_is_congested(n)) {
        n->congested = false;
        n->hooks.uncongested(n->hooks.ctx);
    }
}

int64_t node_sleep_us(const struct node *n, int64_t mono_us)
{
    int64_t sleep_us = n->pending.head != n->pending.tail || n->dirty_since_ms != 0 ||
                               mono_us / 1000 - n->append_mono_ms < 2 * WAL_PROOF_DELAY_MS
                           ? BUSY_SLEEP_US
                           : IDLE_SLEEP_US;
    if (n->batch_ops > 0) return 0;
    uint64_t due_ms = state_next_due_ms(n->state);
    if (due_ms != UINT64_MAX && !n->expiring) {
        int64_t left_ms = due_ms >= n->clock_ms ? (int64_t)MIN(due_ms + 1 - n->clock_ms, 1000000) : 0;
        int64_t elapsed_us = mono_us - n->clock_mono_ms * 1000;
        sleep_us = MIN(sleep_us, MAX(left_ms * 1000 - elapsed_us, 0));
    }
    return sleep_us;
}

bool node_work_ready(const struct node *n)
{
    (void)n;
    return false;
}

bool node_may_spin(const struct node *n)
{
    return n->pending.head == n->pending.tail;
}

bool node_about_to_sleep(struct node *n)
{
    if (!wal_about_to_sleep(n->wal)) return false;
    if (store_about_to_sleep(n->store)) return true;
    wal_woke(n->wal);
    return false;
}

void node_woke(struct node *n)
{
    wal_woke(n->wal);
    store_woke(n->store);
}

size_t node_fds(const struct node *n, int fds[4])
{
    size_t count = 0;
    if (wal_fd(n->wal) >= 0) fds[count++] = wal_fd(n->wal);
    fds[count++] = store_fd(n->store);
    return count;
}
