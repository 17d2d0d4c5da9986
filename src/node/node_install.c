/* node/node_install.c - node_snapshot's place in the member: what it may ask for, and the turn in
 * which another state takes the place of the present one. */
#include "node/node_int.h"

#include "base/log.h"

#include <stdlib.h>

static void hook_send(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload)
{
    const struct node *n = ctx;
    if (n->hooks.send != NULL) n->hooks.send(n->hooks.ctx, peer, channel, payload);
}

static enum err hook_raft(void *ctx, const struct raft_event *ev)
{
    struct node *n = ctx;
    return raft_step(n->raft, ev);
}

static uint64_t hook_term(void *ctx)
{
    const struct node *n = ctx;
    return raft_term(n->raft);
}

/* A write of ours between those of raft: nothing to tell raft when it is durable. */
static uint64_t hook_log(void *ctx, const struct wal_submission *s)
{
    struct node *n = ctx;
    uint64_t seq = wal_submit(n->wal, s);
    node_writes_push(n, seq, &(struct raft_write){ .seq = 0 });
    return seq;
}

static bool hook_quiet(void *ctx)
{
    const struct node *n = ctx;
    return n->mark_count == 0 && store_backlog_bytes(n->store) == 0 && n->refs == NULL;
}

/* Own operations that the snapshot has skipped were applied, with an outcome that nobody knows. */
static void tickets_skipped(struct node *n)
{
    uint32_t incarnation = (uint32_t)n->identity.incarnation;
    struct op_result res = { .err = ERR_TIMEOUT };
    struct view v = node_view(n);
    const struct node_ticket *head = ticket_ring_head(&n->tickets);
    uint64_t last = n->done_seq;
    for (uint64_t seq = n->done_seq + 1; seq < n->next_seq; seq++) {
        if (state_was_applied(n->state, n->identity.member_id, incarnation, seq)) last = seq;
    }
    while (head != NULL && head->seq <= last && (head->seq != 0 || n->done_seq < last)) {
        struct node_ticket t = ticket_ring_pop(&n->tickets);
        if (t.seq != 0) n->done_seq = t.seq;
        if (t.ticket.row != NULL) n->hooks.done(n->hooks.ctx, &t.ticket, NULL, &res, &v);
        head = ticket_ring_head(&n->tickets);
    }
    node_runs_finished(n);
}

static void reads_start(struct node *n)
{
    size_t count = n->held_read_count;
    n->held_read_count = 0;
    for (size_t i = 0; i < count; i++) node_read_start(n, n->held_reads[i]);
}

static struct store *hook_install(void *ctx, const struct node_imported *in)
{
    struct node *n = ctx;
    struct store *old_store = n->store;
    uint64_t old_rev = mvcc_rev(state_mvcc(n->state));
    ASSERT(in->info.applied_index > state_applied_index(n->state));
    struct state *old_state = n->state;
    n->state = in->state;
    n->store = in->store;
    n->db = (struct db_current){ n->db.number + 1, in->info.applied_index, in->info.applied_term };
    store_start(n->store);
    n->stored_index = n->stored_before = in->info.applied_index;
    n->dirty_entries = n->dirty_bytes = 0;
    n->dirty_since_ms = n->clock_since_ms = 0;
    n->members = in->members;
    n->compact_told = 0;
    memset(n->hashes, 0, sizeof n->hashes);
    n->clock_ms = MAX(n->clock_ms, state_stamp_ms(n->state));
    n->stamp_ms = MAX(n->stamp_ms, n->clock_ms);
    pending_drop(&n->pending, in->info.applied_index);
    log_notice("snapshot installed index=%llu revision=%llu", (unsigned long long)in->info.applied_index,
               (unsigned long long)mvcc_rev(state_mvcc(n->state)));
    if (n->hooks.state_replaced != NULL) {
        n->hooks.state_replaced(n->hooks.ctx, old_rev, mvcc_rev(state_mvcc(n->state)));
    }
    state_free(old_state);
    if (!MUTANT(SNAPSHOT_KEEPS_TICKETS)) tickets_skipped(n);
    return old_store;
}

void node_fatal(const struct node *n, const char *text)
{
    if (n->cfg.on_fatal != NULL) {
        n->cfg.on_fatal(n->cfg.on_fatal_ctx, text);
        return;
    }
    fprintf(stderr, "cordis-server: %s\n", text);
    _Exit(WAL_EXIT_CODE);
}

static void hook_fatal(void *ctx, const char *text)
{
    node_fatal(ctx, text);
}

enum err node_install_open(struct node *n, struct errmsg *em)
{
    struct node_snapshot_hooks hooks = {
        .ctx = n, .send = hook_send, .raft = hook_raft, .term = hook_term, .log = hook_log,
        .quiet = hook_quiet, .install = hook_install, .fatal = hook_fatal,
    };
    struct node_snapshot_options options = {
        .dir = n->cfg.dir,
        .io = n->cfg.io,
        .store = {
            .workers = n->workers,
            .on_fatal = n->cfg.on_fatal,
            .on_fatal_ctx = n->cfg.on_fatal_ctx,
            .write_buffer_bytes = n->cfg.store_buffer_bytes,
            .io = n->cfg.io,
            .manual = n->cfg.manual,
        },
        .present = n->store,
        .current = n->db,
        .wal = n->wal,
        .hash_seed = n->cfg.random[0],
        .reserve_bytes = n->cfg.disk_reserve_bytes,
        .random = u64_mix(n->cfg.random[2] + 7 + n->identity.incarnation),
    };
    return node_snapshot_new(&options, &hooks, &n->snapshot, em);
}

void node_wish(struct node *n, const struct raft_wish *wish)
{
    node_snapshot_wish(n->snapshot, wish, n->stored_index, raft_last_index(n->raft));
}

void node_install_turn(struct node *n)
{
    node_snapshot_turn(n->snapshot, n->mono_us / 1000);
    if (!node_snapshot_is_installing(n->snapshot) && n->held_read_count > 0) reads_start(n);
}
