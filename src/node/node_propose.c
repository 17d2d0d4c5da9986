/* node/node_propose.c - from operations to runs, and from runs to the leader, whoever that is.
 *
 * The operations of one turn form a run with consecutive sequences. A leader makes an entry of its
 * own run and those that were forwarded to it. Everybody else forwards the run, in order. A run is
 * kept until all its operations are finished here: when there is another leader (or the same one
 * lost something) every run that is left is given again, in order, from the oldest on. Apply refuses
 * what it has seen (state/dedup.h), so giving twice does no harm; and because the runs of one node
 * enter every leader's log in order, they are applied in order. */
#include "node/node_int.h"

#include "base/log.h"
#include "state/dedup.h"

/* Of ours in the log and not yet applied: apply refuses what is beyond the window. The rest of it
 * is for what is proposed between two looks at node_is_congested. */
#define PROPOSED_OPS_MAX (DEDUP_WINDOW - DEDUP_WINDOW / 8)
#define REFUSED_RETRY_MS 20
#define FORWARD_HEAD_BYTES 24
#define TOO_LARGE_PAUSE_MS 60000 /* between two lines about it */
#define FORWARD_BEGINS 1 /* flag: the first of its session */

bool node_leads(const struct node *n)
{
    return raft_role(n->raft) == RAFT_LEADER && n->lead_term == raft_term(n->raft);
}

uint64_t node_batch_number(const struct node *n) { return n->batch_number; }

/* --- runs ------------------------------------------------------------------------------- */

static struct own_run *run_at(const struct node *n, uint64_t at)
{
    return &n->runs.at[at & (n->runs.cap - 1)];
}

static struct own_run *run_push(struct node *n)
{
    struct run_ring *r = &n->runs;
    if (r->tail - r->head == r->cap) {
        size_t count = r->tail - r->head;
        size_t cap = r->cap == 0 ? 256 : r->cap * 2;
        struct own_run *at = mem_alloc(cap * sizeof *at);
        for (size_t i = 0; i < count; i++) at[i] = r->at[(r->head + i) & (r->cap - 1)];
        mem_free(r->at);
        r->given -= r->head;
        r->at = at;
        r->cap = cap;
        r->head = 0;
        r->tail = count;
    }
    return &r->at[r->tail++ & (r->cap - 1)];
}

static void run_drop_first(struct node *n)
{
    struct own_run *run = run_at(n, n->runs.head);
    n->runs.bytes -= run->bytes;
    blob_unref(run->blob);
    n->runs.head++;
    n->runs.given = MAX(n->runs.given, n->runs.head);
}

static uint64_t run_last_seq(const struct own_run *run) { return run->first_seq + run->op_count - 1; }

void node_runs_finished(struct node *n)
{
    bool moved = false;
    while (n->runs.head != n->runs.tail && run_last_seq(run_at(n, n->runs.head)) <= n->done_seq) {
        run_drop_first(n);
        moved = true;
    }
    if (moved) n->progress_ms = n->mono_us / 1000;
}

void node_runs_deinit(struct node *n)
{
    while (n->runs.head != n->runs.tail) run_drop_first(n);
    mem_free(n->runs.at);
}

/* --- entries ------------------------------------------------------------------------------ */

/* The stamp goes by the time now: not before what was read in this turn (P5). */
static void stamp_take(struct node *n, struct op_batch_head *head)
{
    n->mono_us = MAX(n->mono_us, n->cfg.mono_us());
    node_clock_advance(n);
    n->stamp_ms = MAX(n->stamp_ms, n->clock_ms);
    *head = (struct op_batch_head){
        .format = OP_BATCH_FORMAT,
        .feature_level = OP_FEATURE_LEVEL,
        .stamp_ms = n->stamp_ms,
        .wall_ms = n->wall_ms,
    };
}

static enum err propose_body(struct node *n, struct blob *body, uint32_t op_count)
{
    struct raft_event ev = {
        .type = RAFT_EV_PROPOSE,
        .body = body,
        .crc = crc32c(0, body->at, body->len),
    };
    TRY(raft_step(n->raft, &ev));
    pending_push(&n->pending, &(struct pending_entry){ raft_last_index(n->raft), n->stamp_ms, op_count });
    n->append_mono_ms = n->mono_us / 1000;
    n->stats.proposed_batches++;
    return OK;
}

/* A run that could not be proposed when it was made becomes an entry of its own. */
static enum err propose_run(struct node *n, struct own_run *run)
{
    struct op_batch_head head;
    stamp_take(n, &head);
    struct op_run none = { .op_count = 0 };
    struct buf b CLEANUP(buf_deinit) = { 0 };
    op_batch_begin(&b);
    op_batch_seal(&b, &head, &none);
    op_batch_add_runs(&b, (struct slice){ run->blob->at + run->offset, run->bytes }, 1, run->op_count);
    struct blob *body = blob_copy(buf_slice(&b));
    enum err e = propose_body(n, body, run->op_count);
    if (e != OK) {
        blob_unref(body);
        return e;
    }
    run->given_count++;
    return OK;
}

static void foreign_clear(struct node *n)
{
    buf_clear(&n->foreign);
    n->foreign_runs = 0;
    n->foreign_ops = 0;
}

static void batch_clear(struct node *n)
{
    n->batch_number++;
    n->batch_ops = 0;
    buf_clear(&n->batch);
    op_batch_begin(&n->batch);
}

/* Seals n->batch as an entry of our run and the forwarded ones; false: raft did not take it. */
static bool seal_entry(struct node *n, const struct op_run *run, struct own_run *out)
{
    struct op_batch_head head;
    stamp_take(n, &head);
    size_t own_end = n->batch.len;
    op_batch_seal(&n->batch, &head, run);
    if (n->foreign_runs > 0) {
        op_batch_add_runs(&n->batch, buf_slice(&n->foreign), n->foreign_runs, n->foreign_ops);
    }
    struct blob *body = blob_copy(buf_slice(&n->batch));
    if (propose_body(n, body, run->op_count + n->foreign_ops) != OK) {
        blob_unref(body);
        n->batch.len = own_end;
        return false;
    }
    *out = (struct own_run){
        .given_count = 1, .blob = blob_ref(body), .offset = OP_BATCH_HEAD_BYTES,
        .bytes = own_end - OP_BATCH_HEAD_BYTES,
    };
    n->stats.proposed_ops += n->foreign_ops;
    return true;
}

static void refuse_forwards(struct node *n);

void node_seal(struct node *n)
{
    if (n->batch_ops == 0 && n->foreign_runs == 0) return;
    n->mono_us = MAX(n->mono_us, n->cfg.mono_us());
    struct op_run run = {
        .member = n->identity.member_id,
        .incarnation = (uint32_t)n->identity.incarnation,
        .first_seq = n->batch_first_seq,
        .floor_seq = MUTANT(FLOOR_NOT_RAISED) ? 1 : n->done_seq + 1,
        .op_count = n->batch_ops,
    };
    struct own_run made = { .blob = NULL };
    bool in_order = n->runs.given == n->runs.tail || MUTANT(RUN_OVERTAKES);
    if (!node_leads(n) || !in_order || !seal_entry(n, &run, &made)) {
        struct op_batch_head head = { .format = OP_BATCH_FORMAT };
        op_batch_seal(&n->batch, &head, &run);
        struct slice bytes = { n->batch.at + OP_BATCH_HEAD_BYTES, n->batch.len - OP_BATCH_HEAD_BYTES };
        if (n->batch_ops > 0) made = (struct own_run){ .blob = blob_copy(bytes), .bytes = bytes.len };
        if (n->foreign_runs > 0) refuse_forwards(n);
    }
    foreign_clear(n);
    if (n->batch_ops > 0) {
        made.first_seq = n->batch_first_seq;
        made.op_count = n->batch_ops;
        made.since_ms = n->mono_us / 1000;
        n->stats.proposed_ops += n->batch_ops;
        n->runs.bytes += made.bytes;
        *run_push(n) = made;
        if (made.given_count > 0) n->runs.given = n->runs.tail;
    } else {
        blob_unref(made.blob);
    }
    batch_clear(n);
}

/* --- forwarding ------------------------------------------------------------------------------ */

void node_forget_given(struct node *n)
{
    n->session++;
    n->session_begun = false;
    n->runs.given = n->runs.head;
    n->progress_ms = n->mono_us / 1000;
}

/* FORMAT  u8 kind | u8 flags (FORWARD_BEGINS) | 6 bytes 0 | u64 term | u64 session | run. The run's
 * give-up stamp is set here, by the clock of this term's leader. */
static void forward_run(struct node *n, struct own_run *run)
{
    node_payload_begin(n, PAYLOAD_FORWARD);
    buf_append_u8(&n->wire, n->session_begun ? 0 : FORWARD_BEGINS);
    buf_append(&n->wire, "\0\0\0\0\0", 6);
    buf_append_u64(&n->wire, raft_term(n->raft));
    buf_append_u64(&n->wire, n->session);
    size_t at = n->wire.len;
    buf_append(&n->wire, run->blob->at + run->offset, run->bytes);
    if (n->clock_term == raft_term(n->raft)) {
        uint64_t give_up_ms = node_clock_ms(n) + 2 * (uint64_t)n->cfg.request_timeout_ms;
        u64_le_put(n->wire.at + at + OP_RUN_GIVE_UP_OFFSET, give_up_ms);
    }
    node_payload_send(n, raft_leader(n->raft), NODE_CHANNEL_MAIN);
    n->session_begun = true;
    n->stats.forwarded_ops += run->op_count;
    run->given_count++;
}

void node_forward(struct node *n)
{
    /* What was received in this turn may name another leader: it is given the oldest run first. */
    if (!MUTANT(GIVEN_TO_ANOTHER_COUNTS)) node_leader_note(n);
    if (n->runs.given == n->runs.tail) {
        if (n->runs.given == n->runs.head || node_leads(n)) return;
        /* What was given is not applied for so long: perhaps it was lost on its way. */
        if (n->mono_us / 1000 - n->progress_ms < n->cfg.election_timeout_ms) return;
        node_forget_given(n);
    }
    bool leads = node_leads(n);
    uint64_t leader = raft_leader(n->raft);
    if (!leads && (leader == 0 || leader == n->identity.member_id)) return;
    if (!leads && n->mono_us / 1000 < n->retry_ms) return;
    while (n->runs.given != n->runs.tail) {
        struct own_run *run = run_at(n, n->runs.given);
        if (leads && propose_run(n, run) != OK) return;
        if (!leads) forward_run(n, run);
        n->runs.given++;
        n->progress_ms = n->mono_us / 1000;
    }
}

static struct forward_in *forward_of(struct node *n, uint64_t peer)
{
    for (size_t i = 0; i < n->forward_count; i++) {
        if (n->forwards[i].peer == peer) return &n->forwards[i];
    }
    if (n->forward_count == ARRAY_LEN(n->forwards)) {
        /* More members than there may be at once came and went: anyone may begin anew. */
        n->forward_count = 0;
    }
    n->forwards[n->forward_count] = (struct forward_in){ .peer = peer };
    return &n->forwards[n->forward_count++];
}

static void refuse(struct node *n, uint64_t peer, uint64_t term, uint64_t session, uint64_t seq)
{
    node_payload_begin(n, PAYLOAD_REFUSED);
    buf_append(&n->wire, "\0\0\0\0\0\0", 7);
    buf_append_u64(&n->wire, term);
    buf_append_u64(&n->wire, session);
    buf_append_u64(&n->wire, seq);
    node_payload_send(n, peer, NODE_CHANNEL_MAIN);
}

/* None of what was taken in this turn entered the log: each has to begin anew. */
static void refuse_forwards(struct node *n)
{
    struct slice rest = buf_slice(&n->foreign);
    while (rest.len > 0) {
        struct op_run run;
        size_t bytes = OP_RUN_HEAD_BYTES + u32_le(rest.at + 40);
        enum err e = op_run_check((struct slice){ rest.at, bytes }, &run, NULL);
        ASSERT(e == OK);
        struct forward_in *in = forward_of(n, run.member);
        if (!in->broken) refuse(n, run.member, raft_term(n->raft), in->session, run.first_seq);
        in->broken = true;
        rest = (struct slice){ rest.at + bytes, rest.len - bytes };
    }
}

/* Members whose logs differ in what they take: the origin's clients are told that it was not done. */
static void run_too_large(struct node *n, uint64_t peer, size_t bytes)
{
    if (n->mono_us / 1000 < n->too_large_told_ms) return;
    n->too_large_told_ms = n->mono_us / 1000 + TOO_LARGE_PAUSE_MS;
    log_warning("forwarded operations refused peer=%llu bytes=%zu reason=\"an entry of this member's log takes "
                "%zu: give all members the same 'wal-segment-bytes'\"", (unsigned long long)peer, bytes,
                wal_entry_bytes_max(n->wal));
}

enum err node_on_forward(struct node *n, uint64_t peer, struct slice in)
{
    if (in.len < FORWARD_HEAD_BYTES) return ERR_PROTO;
    uint64_t term = u64_le(in.at + 8);
    uint64_t session = u64_le(in.at + 16);
    struct slice bytes = { in.at + FORWARD_HEAD_BYTES, in.len - FORWARD_HEAD_BYTES };
    struct op_run run;
    struct errmsg em;
    enum err bad = op_run_check(bytes, &run, &em);
    if (bad != OK || run.member != peer) {
        log_warning("forwarded operations refused peer=%llu reason=\"%s\"", (unsigned long long)peer,
                    bad != OK ? em.text : "they are another member's");
        return bad != OK ? bad : ERR_PROTO;
    }
    if (!node_leads(n) || term != raft_term(n->raft) || n->diverged) {
        refuse(n, peer, term, session, run.first_seq);
        return OK;
    }
    struct forward_in *f = forward_of(n, peer);
    if (session > f->session) {
        f->session = session;
        f->next_seq = run.first_seq;
        f->broken = (in.at[1] & FORWARD_BEGINS) == 0;
    }
    if (session != f->session) return OK;
    if (run.first_seq < f->next_seq && !MUTANT(FORWARD_WITH_GAP)) return OK; /* taken before */
    size_t entry_max = wal_entry_bytes_max(n->wal);
    bool fits = OP_BATCH_HEAD_BYTES + bytes.len <= entry_max; /* alone in an entry */
    if (!fits) run_too_large(n, peer, bytes.len);
    /* Out of order: something before it was lost or refused, and comes again in a new session. It is
     * said each time: what was said before may have been lost, too. */
    f->broken = f->broken || !fits || (run.first_seq > f->next_seq && !MUTANT(FORWARD_WITH_GAP));
    if (f->broken) {
        refuse(n, peer, term, session, run.first_seq);
        return OK;
    }
    if (n->foreign.len + n->batch.len + bytes.len > MIN((size_t)OP_BATCH_BYTES_MAX, entry_max)) {
        node_seal(n);
        if (f->broken) return OK;
    }
    buf_append_slice(&n->foreign, bytes);
    n->foreign_runs++;
    n->foreign_ops += run.op_count;
    n->stats.forwarded_taken_ops += run.op_count;
    f->next_seq = run.first_seq + run.op_count;
    return OK;
}

/* FORMAT  u8 kind | 7 bytes 0 | u64 term | u64 session | u64 first sequence that was not taken */
enum err node_on_refused(struct node *n, uint64_t peer, struct slice in)
{
    (void)peer;
    if (in.len != 32) return ERR_PROTO;
    if (u64_le(in.at + 16) != n->session || !n->session_begun) return OK;
    uint64_t seq = u64_le(in.at + 24);
    for (uint64_t i = n->runs.head; i < n->runs.given; i++) {
        struct own_run *run = run_at(n, i);
        /* It never entered a log, if nobody else was given it. */
        if (run->first_seq >= seq && run->given_count == 1) run->given_count = 0;
    }
    node_forget_given(n);
    n->retry_ms = n->mono_us / 1000 + REFUSED_RETRY_MS;
    return OK;
}

/* --- giving up ----------------------------------------------------------------------------------- */

/* Finishes everything up to `seq`, and what was to be read behind it, without. */
static void tickets_give_up(struct node *n, uint64_t seq, enum err e)
{
    struct op_result res = { .err = e };
    struct view v = node_view(n);
    const struct node_ticket *head = ticket_ring_head(&n->tickets);
    while (head != NULL && MAX(head->seq, head->after) <= seq) {
        struct node_ticket t = ticket_ring_pop(&n->tickets);
        if (t.seq != 0) n->done_seq = t.seq;
        if (t.ticket.row == NULL) {
            n->expiring = false;
            n->compacting = false;
        } else {
            n->hooks.done(n->hooks.ctx, &t.ticket, NULL, &res, &v);
        }
        head = ticket_ring_head(&n->tickets);
    }
}

void node_expire_tickets(struct node *n)
{
    int64_t now_ms = n->mono_us / 1000;
    while (n->runs.head != n->runs.tail) {
        const struct own_run *run = run_at(n, n->runs.head);
        if (now_ms - run->since_ms < n->cfg.request_timeout_ms) return;
        /* The floor of all later runs is above it: from now on nobody applies it (I6). */
        uint64_t seq = run_last_seq(run);
        enum err e = run->given_count == 0 ? ERR_CLUSTERDOWN : ERR_TIMEOUT;
        if (MUTANT(TIMEOUT_SAYS_REFUSED)) e = ERR_CLUSTERDOWN;
        n->stats.timeout_count += run->op_count;
        tickets_give_up(n, seq, e);
        node_runs_finished(n);
    }
}

/* --- clients' operations --------------------------------------------------------------------------- */

/* The operation that was encoded last, at `from`, does not fit into this entry: the ones before it
 * become an entry, it begins the next. */
static void move_to_next_batch(struct node *n, size_t from)
{
    struct buf moved CLEANUP(buf_deinit) = { 0 };
    buf_append(&moved, n->batch.at + from, n->batch.len - from);
    n->batch.len = from;
    node_seal(n);
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
    bool is_alone = n->batch_ops + n->foreign_runs == 0;
    if (UNLIKELY(n->batch.len + n->foreign.len > entry_max) && !is_alone) move_to_next_batch(n, from);
    if (n->batch_ops == 0) n->batch_first_seq = n->next_seq;
    n->batch_ops++;
    *seq = n->next_seq++;
    return OK;
}

enum err node_propose(struct node *n, const struct op *op, bool key2_to_end,
                      const struct ticket *t)
{
    ASSERT(t->row != NULL);
    TRY(node_read_check(n));
    if (UNLIKELY(n->disk_low) && state_op_grows(op)) return ERR_NOSPACE;
    uint64_t seq = 0;
    TRY(append_op(n, op, key2_to_end, &seq));
    ticket_ring_push(&n->tickets, t, seq, 0);
    if (n->batch.len >= OP_BATCH_BYTES_MAX) {
        node_seal(n);
        if (!n->in_update) node_update(n);
    }
    return OK;
}

enum err node_propose_internal(struct node *n, const struct op *op)
{
    struct ticket none = { .row = NULL };
    uint64_t seq = 0;
    TRY(append_op(n, op, false, &seq));
    ticket_ring_push(&n->tickets, &none, seq, 0);
    return OK;
}

void node_local(struct node *n, const struct ticket *t)
{
    ASSERT(t->row != NULL);
    ticket_ring_push(&n->tickets, t, 0, n->batch_ops == 0 ? n->next_seq : n->batch_first_seq);
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
    uint64_t waiting = MAX(raft_uncommitted_bytes(n->raft), n->runs.bytes) + n->batch.len;
    bool full = waiting > n->cfg.uncommitted_bytes_max ||
                n->next_seq - n->done_seq > PROPOSED_OPS_MAX ||
                store_waiting_bytes(n) > n->cfg.store_backlog_bytes_max;
    n->congested = n->congested || full;
    return full;
}
