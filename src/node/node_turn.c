/* node/node_turn.c - a turn: publish, take completions, apply, expire, clean up. */
#include "node/node_int.h"

#include "base/log.h"

#define CLOCK_ENTRY_MS 1000
#define CLOCK_OP_BYTES_MAX 64
#define COMPACT_STEP_COUNT 500
#define COMPACT_STEP_US 1000 /* at most between two steps */
#define EXPIRE_KEYS_MAX 1000 /* of one operation (or one lease), so that many that end at once do not stall */
#define COMPACT_WINDOW_PART 4         /* of the live keys must have changed ... */
#define COMPACT_INTERVAL_MS (10 * 60 * 1000) /* ... or so much time have passed */
#define IDLE_SLEEP_US 1000000
#define BUSY_SLEEP_US 200000
#define TICKS_A_HEARTBEAT 5 /* while somebody waits here for other members */
#define BATCH_FILLS_BYTES_MAX (16u << 10)
#define BATCH_FILLS_MS 100
#define LOGGING_MS 100 /* so long after an entry the next one is expected */
#define LOG_MEMORY_BYTES_MAX (16u << 20) /* of applied entries, for peers that are a little behind */

/* --- carrying out what raft says ------------------------------------------------------- */

void node_writes_push(struct node *n, uint64_t wal_seq, const struct raft_write *w)
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
    if (count != 0) n->logged_mono_ms = n->mono_us / 1000;
    struct wal_hard_state hard = { up->hard.term, up->hard.vote, up->hard.commit };
    s.hard = &hard;
    node_writes_push(n, wal_submit(n->wal, &s), &up->write);
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
    if (!op_batch_next_run(body, &offset, &run)) return false;
    if (offset != body.len || run.op_count != 1) return false;
    return op_decode(run.ops, &op_offset, &op) == OK && op.kind == OP_CLOCK;
}

/* What the next checkpoint is for. */
static void mark_dirty(struct node *n, struct slice body)
{
    int64_t now_ms = MAX(n->mono_us / 1000, 1);
    int64_t *since_ms = is_clock_only(body) ? &n->clock_since_ms : &n->dirty_since_ms;
    if (*since_ms == 0) *since_ms = now_ms;
    n->dirty_entries++;
}

/* Members that are gone propose nothing any more, and nothing of theirs is applied. */
static void members_applied(struct node *n, const struct raft_entry *e)
{
    enum err err = raft_members_decode(blob_slice(e->body), &n->members);
    ASSERT(err == OK); /* raft has checked it */
    uint64_t ids[RAFT_MEMBERS_MAX];
    for (size_t i = 0; i < n->members.count; i++) ids[i] = n->members.at[i].id;
    state_origins_keep(n->state, ids, n->members.count);
    node_members_applied(n, e->index, e->term);
    if (n->open) node_peers_adopt(n);
}

static void lead_begin(struct node *n, uint64_t term_before);
static void log_trim(struct node *n, uint64_t applied);

static void apply_one(struct node *n, const struct raft_entry *e, const struct apply_sink *sink)
{
    struct slice body = SLICE_NONE;
    if (e->type == RAFT_ENTRY_BATCH && e->body != NULL) body = blob_slice(e->body);
    if (e->type == RAFT_ENTRY_MEMBERS) members_applied(n, e);
    uint64_t term_before = state_applied_term(n->state);
    struct errmsg em = { "" };
    enum err err = state_apply(n->state, e->index, e->term, body, sink, &em);
    if (err != OK) {
        log_error("apply failed index=%llu reason=\"%s\"", (unsigned long long)e->index, em.text);
        ASSERT(err == OK);
    }
    n->stats.applied_entries++;
    mark_dirty(n, body);
    if (e->index % NODE_HASH_EVERY == 0) node_hash_note(n);
    if (raft_role(n->raft) == RAFT_LEADER && e->term == raft_term(n->raft) && n->lead_term != e->term) {
        lead_begin(n, term_before);
    }
    if (n->hooks.applied != NULL && n->open) n->hooks.applied(n->hooks.ctx, e->index);
}

static void apply_range(struct node *n, uint64_t from, uint64_t to)
{
    struct apply_sink sink;
    node_sink(n, &sink);
    for (uint64_t index = from; index <= to; index++) {
        /* A copy: what is told of it may append another one. */
        struct raft_entry entry = *raft_entry_at(n->raft, index);
        apply_one(n, &entry, &sink);
    }
    struct raft_event ev = { .type = RAFT_EV_APPLIED, .index = to };
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
    pending_drop(&n->pending, to);
    node_runs_finished(n);
    log_trim(n, to);
}

/* --- what the log's memory keeps ------------------------------------------------------------ */

/* Peers that follow closely are served from memory; for others the WAL has it. */
static void log_trim(struct node *n, uint64_t applied)
{
    uint64_t keep_from = applied + 1;
    struct raft_peer_status peer;
    if (raft_log_bytes(n->raft) < LOG_MEMORY_BYTES_MAX) {
        for (size_t i = 0; raft_peer_status(n->raft, i, &peer); i++) {
            bool close = peer.state == RAFT_PEER_REPLICATE || peer.state == RAFT_PEER_PROBE;
            if (close) keep_from = MIN(keep_from, peer.match_index + 1);
        }
    }
    if (keep_from > 1) raft_log_trim(n->raft, keep_from - 1);
}

/* --- roles ------------------------------------------------------------------------------------ */

/* A new group's settings are what the configuration of its first leader says. */
void node_seed_settings(struct node *n)
{
    for (size_t i = 0; i + 1 < n->seed_count; i += 2) {
        struct op set = {
            .kind = OP_CONFIG,
            .name = buf_slice(&n->seeds[i]),
            .value = buf_slice(&n->seeds[i + 1]),
            .fields = FIELD_NAME | FIELD_VALUE,
        };
        enum err e = node_propose_internal(n, &set);
        ASSERT(e == OK);
    }
}

/* An entry of its own term is applied: from here on this leader knows everything that was
 * committed before it. */
static void lead_begin(struct node *n, uint64_t term_before)
{
    n->lead_term = raft_term(n->raft);
    n->lead_since_ms = n->mono_us / 1000;
    node_clock_lead(n, term_before);
    n->forward_count = 0;
    n->expiring = false;
    n->compacting = false;
    node_forget_given(n);
    if (state_stamp_ms(n->state) == 0 && n->open) node_seed_settings(n);
    if (n->open) {
        log_notice("leading term=%llu index=%llu", (unsigned long long)n->lead_term,
                   (unsigned long long)raft_last_index(n->raft));
    }
}

void node_leader_note(struct node *n)
{
    uint64_t leader = raft_leader(n->raft);
    uint64_t term = raft_term(n->raft);
    if (leader == n->known_leader && term == n->known_term) return;
    if (n->open && leader != 0 && leader != n->identity.member_id) {
        log_notice("following leader=%llu term=%llu", (unsigned long long)leader,
                   (unsigned long long)term);
    }
    n->known_leader = leader;
    n->known_term = term;
    node_forget_given(n);
}

static void leader_watch(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    if (raft_leader(n->raft) != 0) n->leader_seen_ms = now_ms;
    bool known = now_ms - n->leader_seen_ms < 2 * n->cfg.election_timeout_ms;
    if (known != n->leaderless_told || n->hooks.leader_known == NULL) return;
    n->leaderless_told = !known;
    n->hooks.leader_known(n->hooks.ctx, known);
}

static void lost_peer(struct node *n, uint64_t peer)
{
    log_error("member lost acknowledged entries id=%llu: its directory was rolled back or wiped. "
              "It does not count any more. Remove it (MEMBER REMOVE) and join it again with an empty "
              "directory", (unsigned long long)peer);
    node_lost_send(n, peer);
    struct op op = {
        .kind = OP_ALARM, .number = ALARM_CORRUPT, .id = peer, .flags = OPF_NX,
        .fields = FIELD_NUMBER | FIELD_ID,
    };
    enum err e = node_propose_internal(n, &op);
    ASSERT(e == OK);
}

/* --- reads -------------------------------------------------------------------------------------- */

uint64_t node_barrier(struct node *n)
{
    if (!n->barrier_wanted) n->barrier++;
    n->barrier_wanted = true;
    return n->barrier;
}

static void barrier_ask(struct node *n)
{
    if (!n->barrier_wanted) return;
    n->barrier_wanted = false;
    struct raft_event ev = { .type = RAFT_EV_READ, .read_id = n->barrier };
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
}

static void barrier_answered(struct node *n, uint64_t barrier, uint64_t index)
{
    if (barrier == 0) return;
    if (n->barrier_count == NODE_BARRIERS_MAX) {
        /* The newest two become one: both wait for the later index. */
        n->barrier_count--;
        index = MAX(index, n->barriers[n->barrier_count].index);
    }
    n->barriers[n->barrier_count++] = (struct barrier_ready){ barrier, index };
}

static void barriers_run(struct node *n)
{
    size_t done = 0;
    uint64_t applied = state_applied_index(n->state);
    while (done < n->barrier_count && (n->barriers[done].index <= applied || MUTANT(READ_BEFORE_APPLIED))) done++;
    if (done == 0) return;
    uint64_t barrier = n->barriers[done - 1].barrier;
    n->barrier_count -= done;
    memmove(n->barriers, n->barriers + done, n->barrier_count * sizeof n->barriers[0]);
    if (n->hooks.barrier != NULL && n->open) n->hooks.barrier(n->hooks.ctx, barrier);
}

/* --- the update --------------------------------------------------------------------------------- */

static void update_once(struct node *n, const struct raft_update *up)
{
    struct raft_wish wishes[RAFT_MEMBERS_MAX];
    size_t wish_count = MIN(up->wish_count, ARRAY_LEN(wishes));
    if (wish_count > 0) memcpy(wishes, up->wishes, wish_count * sizeof wishes[0]);
    /* Messages first: their way to the peers' disks is longer than ours to our own. */
    for (size_t i = 0; i < up->msg_count; i++) node_send_raft(n, &up->msgs[i]);
    bool both = up->write.seq != 0 && up->msg_count > 0;
    if (both && n->hooks.flush != NULL) n->hooks.flush(n->hooks.ctx);
    if (up->write.seq != 0) submit_write(n, up);
    if (up->status_changed) node_leader_note(n);
    if (up->members_changed) node_peers_adopt(n);
    barrier_answered(n, up->read_id, up->read_index);
    if (up->lost_peer != 0) lost_peer(n, up->lost_peer);
    for (size_t i = 0; i < wish_count; i++) node_wish(n, &wishes[i]);
    if (up->apply_from != 0) apply_range(n, up->apply_from, up->apply_to);
    barriers_run(n);
}

void node_update(struct node *n)
{
    ASSERT(!n->in_update);
    n->in_update = true;
    struct raft_update up;
    while (raft_update_take(n->raft, &up)) update_once(n, &up);
    n->in_update = false;
    n->at_once = node_leads(n) && node_is_sole_voter(n);
    node_members_step(n);
}

/* What the WAL has made durable goes back to raft. */
void node_wal_take(struct node *n, const struct wal_done *done)
{
    if (n->snapshot != NULL) node_snapshot_log_done(n->snapshot, done->seq);
    size_t count = n->write_tail - n->write_head;
    if (count == 0 || done->seq < n->write_first_wal_seq) return;
    size_t finished = (size_t)MIN(done->seq - n->write_first_wal_seq + 1, count);
    struct raft_event ev = { .type = RAFT_EV_PERSISTED };
    for (size_t i = finished; i > 0 && ev.write.seq == 0; i--) { /* marks of snapshots are not raft's */
        ev.write = n->writes[(n->write_head + i - 1) & (n->write_cap - 1)];
    }
    n->write_head += finished;
    n->write_first_wal_seq += finished;
    if (ev.write.seq == 0) return;
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
}

/* --- what the leader proposes by itself ---------------------------------------------------- */

static void expire_if_due(struct node *n, uint64_t due_ms)
{
    if (n->expiring || !node_leads(n)) return;
    if (state_next_due_ms(n->state) > due_ms) return;
    /* Keys may be long: fewer of them until the operation fits into an entry. */
    enum err e = ERR_REQUEST_LIMIT;
    for (size_t limit = MIN((size_t)state_settings(n->state)->op_keys_max, EXPIRE_KEYS_MAX);
         e == ERR_REQUEST_LIMIT && limit > 0;
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
    if (!node_leads(n) || state_next_due_ms(n->state) == UINT64_MAX || n->batch_ops > 0) return;
    if (n->mono_us / 1000 - n->append_mono_ms < CLOCK_ENTRY_MS) return;
    struct op op = { .kind = OP_CLOCK };
    enum err e = node_propose_internal(n, &op);
    if (e != OK) log_debug("clock entry refused reason=%s", err_name(e));
}

static void compact_if_due(struct node *n)
{
    if (n->compacting || !node_leads(n)) return;
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

/* P7: while one member's disk is nearly full, nobody may make the data grow. */
static void alarm_keep(struct node *n)
{
    uint64_t self = n->identity.member_id;
    bool raised = state_alarm_of(n->state, ALARM_NOSPACE, self);
    if (raised == n->disk_low || raft_leader(n->raft) == 0) return;
    struct op op = {
        .kind = OP_ALARM, .number = ALARM_NOSPACE, .id = self,
        .flags = n->disk_low ? OPF_NX : 0, .fields = FIELD_NUMBER | FIELD_ID,
    };
    enum err e = node_propose_internal(n, &op);
    if (e != OK) log_debug("alarm refused reason=%s", err_name(e));
}

static void every_second(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    if (now_ms - n->second_ms < 1000) return;
    n->second_ms = now_ms;
    compact_if_due(n);
    node_probe_start(n);
    node_status_send(n);
    node_members_promote(n);
    alarm_keep(n);
}

/* --- the turn ---------------------------------------------------------------------------------- */

/* Reads that were put in front of an operation which was then refused: apply passes them at the
 * next operation of ours, so there must be one. */
static void locals_carry(struct node *n)
{
    const struct node_ticket *head = ticket_ring_head(&n->tickets);
    if (LIKELY(head == NULL || head->seq != 0 || n->next_seq != n->done_seq + 1)) return;
    struct op op = { .kind = OP_NOOP };
    enum err e = node_propose_internal(n, &op);
    ASSERT(e == OK);
}

/* In a group an entry costs each member a sync and each follower two messages, so few large ones are
 * better: while entries are under way the batch fills until it has as many operations as they. A few
 * clients wait for nobody by this, of many half are on the way while the other half gathers. Not for
 * long, and not when it is large: then the next one's way to the disks is worth more. */
static bool batch_fills(const struct node *n)
{
    uint32_t waiting = n->batch_ops + n->foreign_ops;
    if (waiting == 0 || n->at_once || !node_leads(n)) return false;
    return waiting < n->pending.op_count && n->runs.given == n->runs.tail &&
           n->batch.len + n->foreign.len < BATCH_FILLS_BYTES_MAX &&
           n->mono_us / 1000 - n->append_mono_ms < BATCH_FILLS_MS;
}

static void publish(struct node *n)
{
    locals_carry(n);
    if (!batch_fills(n)) node_seal(n);
    node_forward(n);
    if (MUTANT(BARRIER_AT_ONCE) && n->barrier_wanted) barrier_answered(n, n->barrier, 0);
    barrier_ask(n);
    node_update(n);
}

/* Leads, and nobody else is there: the only voter may have learners, who follow as others do. */
static bool is_alone(const struct node *n)
{
    return n->at_once && raft_members(n->raft)->count == 1;
}

/* The commit index waits for an entry of this turn to carry it. */
static void commit_tell(struct node *n)
{
    struct raft_event ev = { .type = RAFT_EV_COMMIT_TELL };
    if (is_alone(n) || raft_role(n->raft) != RAFT_LEADER) return;
    if (n->told_commit == raft_commit_index(n->raft)) return;
    n->told_commit = raft_commit_index(n->raft);
    enum err e = raft_step(n->raft, &ev);
    ASSERT(e == OK);
    node_update(n);
}

bool node_log_poll(struct node *n)
{
    struct wal_done done;
    if (LIKELY(!wal_poll(n->wal, &done))) return false;
    node_wal_take(n, &done);
    node_update(n);
    return true;
}

void node_turn(struct node *n, int64_t mono_us, int64_t wall_ms)
{
    n->mono_us = MAX(mono_us, n->mono_us);
    n->wall_ms = wall_ms;
    node_clock_advance(n);
    /* Expiry goes by the time before this turn's requests were read: a keepalive that was waiting
     * to be read is not overtaken. One less, because milliseconds are cut off. */
    uint64_t due_ms = n->clock_ms - MIN(n->clock_ms, 1);
    struct raft_event tick = { .type = RAFT_EV_TICK, .now_ms = n->mono_us / 1000 };
    enum err e = raft_step(n->raft, &tick);
    ASSERT(e == OK);
    publish(n);
    node_log_poll(n);
    node_store_poll(n);
    node_install_turn(n);
    expire_if_due(n, due_ms);
    clock_entry_if_due(n);
    every_second(n);
    node_expire_tickets(n);
    leader_watch(n);
    publish(n);
    commit_tell(n);
    wal_tick(n->wal, mono_us / 1000);
    n->ghosts_left = state_compact_step(n->state, COMPACT_STEP_COUNT);
    node_compaction_tell(n);
    node_checkpoint_if_due(n, false);
    if (n->congested && !node_is_congested(n)) {
        n->congested = false;
        n->hooks.uncongested(n->hooks.ctx);
    }
}

/* Something here is tried again, or given up, after a part of a heartbeat. */
static bool waits_for_others(const struct node *n)
{
    return ticket_ring_count(&n->tickets) > 0 || n->runs.head != n->runs.tail ||
           n->batch_ops + n->foreign_ops > 0 || n->pending.head != n->pending.tail ||
           n->barrier_count > 0 || n->member_waits != NULL || n->expiring || n->congested;
}

static int64_t tick_us(const struct node *n, int64_t mono_us)
{
    int64_t due_us = MAX(raft_due_ms(n->raft) * 1000 - mono_us, 0);
    if (!waits_for_others(n)) return due_us;
    return MIN(due_us, n->cfg.heartbeat_ms * 1000 / TICKS_A_HEARTBEAT);
}

/* Until the next expiry. A leader's clock leaves out what it slept beyond an election timeout (I4):
 * while anything has a deadline it sleeps for half of one at most. */
static int64_t expiry_us(const struct node *n, int64_t mono_us)
{
    uint64_t due_ms = state_next_due_ms(n->state);
    if (due_ms == UINT64_MAX || !node_leads(n)) return INT64_MAX;
    int64_t most_us = n->cfg.election_timeout_ms * 1000 / 2;
    if (n->expiring) return most_us;
    int64_t left_ms = due_ms >= n->clock_ms ? (int64_t)MIN(due_ms + 1 - n->clock_ms, 1000000) : 0;
    int64_t elapsed_us = mono_us - n->clock_mono_ms * 1000;
    return MIN(most_us, MAX(left_ms * 1000 - elapsed_us, 0));
}

int64_t node_sleep_us(const struct node *n, int64_t mono_us)
{
    int64_t sleep_us = n->pending.head != n->pending.tail || n->dirty_since_ms != 0 ||
                               mono_us / 1000 - n->append_mono_ms < 2 * WAL_PROOF_DELAY_MS
                           ? BUSY_SLEEP_US
                           : IDLE_SLEEP_US;
    if ((n->batch_ops > 0 && !batch_fills(n)) || n->barrier_wanted) return 0;
    if (n->ghosts_left) sleep_us = MIN(sleep_us, COMPACT_STEP_US);
    if (!is_alone(n)) sleep_us = MIN(sleep_us, tick_us(n, mono_us));
    int64_t snapshot_ms = node_snapshot_sleep_ms(n->snapshot, n->mono_us / 1000);
    if (snapshot_ms >= 0) sleep_us = MIN(sleep_us, snapshot_ms * 1000);
    return MIN(sleep_us, expiry_us(n, mono_us));
}

bool node_work_ready(const struct node *n)
{
    (void)n;
    return false;
}

bool node_is_logging(const struct node *n)
{
    return n->mono_us / 1000 - n->logged_mono_ms < LOGGING_MS;
}

bool node_may_spin(const struct node *n)
{
    return n->pending.head == n->pending.tail;
}

bool node_about_to_sleep(struct node *n)
{
    if (!wal_about_to_sleep(n->wal)) return false;
    if (store_about_to_sleep(n->store)) {
        if (done_queue_about_to_sleep(node_snapshot_done_queue(n->snapshot))) return true;
        store_woke(n->store);
    }
    wal_woke(n->wal);
    return false;
}

void node_woke(struct node *n)
{
    wal_woke(n->wal);
    store_woke(n->store);
    done_queue_woke(node_snapshot_done_queue(n->snapshot));
}

size_t node_fds(const struct node *n, int fds[4])
{
    size_t count = 0;
    if (wal_fd(n->wal) >= 0) fds[count++] = wal_fd(n->wal);
    fds[count++] = store_fd(n->store);
    fds[count++] = done_queue_fd(node_snapshot_done_queue(n->snapshot));
    return count;
}
