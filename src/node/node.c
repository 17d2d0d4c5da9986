/* node/node.c - opening, recovering and closing a member, and looking at it. */
#include "node/node_int.h"

#include "base/log.h"
#include "disk/disk_wait.h"
#include "node/node_snapshot.h"

#include <errno.h>
#include <stdio.h>

#define ID_MAX ((1ULL << 53) - 1) /* exact in a double: clients in JavaScript see ids */
#define RAFT_UNCOMMITTED_SLACK (64u << 20)
/* More would only make more and smaller appends: what waits for an acknowledgement goes together. */
#define PEER_APPENDS_IN_FLIGHT 2
/* Little randomness is enough ([P] 9.3), and pre-vote keeps those who meet from doing harm. More would
 * only make everybody wait longer for a new leader. */
#define ELECTION_SPREAD_PERCENT 40
#define REPLAY_POLL_MS 100

static void path_of(const struct node *n, const char *name, char out[DISK_PATH_BYTES_MAX])
{
    int len = snprintf(out, DISK_PATH_BYTES_MAX, "%s/%s", n->cfg.dir, name);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
}

static uint64_t id_from(uint64_t random)
{
    uint64_t id = u64_mix(random) & ID_MAX;
    return id == 0 ? 1 : id;
}

/* --- who we are ------------------------------------------------------------------------ */

uint64_t node_random_id(const struct node *n, uint64_t salt)
{
    return id_from(u64_mix(n->cfg.random[1] ^ n->identity.incarnation) + salt);
}

static enum err identity_begin(struct node *n, bool *fresh, struct errmsg *em)
{
    const struct disk_io *io = n->cfg.io;
    enum err e = identity_load(io, n->cfg.dir, &n->identity, em);
    if (e != OK && e != ERR_NOT_FOUND) return e;
    *fresh = e == ERR_NOT_FOUND || !n->identity.ready;
    if (e == ERR_NOT_FOUND) {
        n->identity = (struct identity){
            .cluster_id = id_from(n->cfg.random[1]),
            .member_id = id_from(n->cfg.random[2]),
            .directory_id = id_from(n->cfg.random[3]),
        };
    }
    const struct node_group *group = &n->cfg.group;
    if (*fresh && group->member_id != 0) {
        n->identity.cluster_id = group->cluster_id;
        n->identity.member_id = group->member_id;
        n->identity.directory_id = group->directory_id;
    }
    n->identity.incarnation++;
    return identity_save(io, n->cfg.dir, &n->identity, em);
}

static enum err identity_ready(struct node *n, struct errmsg *em)
{
    if (n->identity.ready) return OK;
    n->identity.ready = true;
    return identity_save(n->cfg.io, n->cfg.dir, &n->identity, em);
}

/* --- the log ------------------------------------------------------------------------------ */

struct replay {
    struct raft_entry *entries;
    size_t count, cap;
};

static enum err replay_entry(void *ctx, const struct wal_entry *e)
{
    const struct node *n = ctx;
    struct replay *r = n->replay;
    if (r->count == r->cap) {
        r->cap = r->cap == 0 ? 1024 : r->cap * 2;
        r->entries = mem_realloc(r->entries, r->cap * sizeof *r->entries);
    }
    r->entries[r->count++] = (struct raft_entry){
        .term = e->term, .index = e->index, .type = e->type, .crc = e->crc,
        .body = e->body.len == 0 ? NULL : blob_copy(e->body),
    };
    return OK;
}

static void replay_free(struct replay *r)
{
    for (size_t i = 0; i < r->count; i++) blob_unref(r->entries[i].body);
    mem_free(r->entries);
}

/* The log has one context for its callbacks, which outlives the replay. */
static void log_fatal(void *ctx, const char *line)
{
    const struct node *n = ctx;
    n->cfg.on_fatal(n->cfg.on_fatal_ctx, line);
}

static struct wal_options wal_options_of(struct node *n, const char *dir)
{
    return (struct wal_options){
        .dir = dir,
        .io = n->cfg.io,
        .cluster_id = n->identity.cluster_id,
        .member_id = n->identity.member_id,
        .salt = u64_mix(n->cfg.random[0] + 1),
        .segment_bytes = n->cfg.wal_segment_bytes,
        .keep_bytes = n->cfg.wal_keep_bytes,
        .backend = n->cfg.manual ? WAL_BACKEND_MANUAL : n->cfg.wal_backend,
        .replay_from = state_applied_index(n->state) + 1,
        .on_entry = replay_entry,
        .on_fatal = n->cfg.on_fatal != NULL ? log_fatal : NULL,
        .ctx = n,
    };
}

static void self_member(const struct node *n, struct raft_members *out)
{
    struct raft_member self = {
        .id = n->identity.member_id,
        .directory_id = n->identity.directory_id,
        .role = RAFT_VOTER,
    };
    snprintf(self.peer_address, sizeof self.peer_address, "%s", n->cfg.peer_address);
    snprintf(self.client_address, sizeof self.client_address, "%s", n->cfg.client_address);
    snprintf(self.name, sizeof self.name, "%s", n->cfg.name);
    *out = (struct raft_members){ .count = 0 };
    enum err e = raft_members_put(out, &self);
    ASSERT(e == OK);
}

/* The first entry of a new group names its members, the same on all of them; nothing was ever
 * answered before it. Who waits to be added begins with an empty log. */
static enum err bootstrap_log(struct node *n, const char *dir, struct errmsg *em)
{
    const struct node_group *group = &n->cfg.group;
    bool waits = group->member_id != 0 && group->members == NULL;
    struct wal_options options = wal_options_of(n, dir);
    options.create = true;
    options.on_entry = NULL;
    options.backend = n->cfg.manual ? WAL_BACKEND_MANUAL : WAL_BACKEND_THREAD;
    struct wal *wal = NULL;
    TRY(wal_open(&options, &wal, em));
    if (wal_found(wal)->last.index == 0 && !waits) {
        struct raft_members members;
        if (group->members == NULL) self_member(n, &members);
        else members = *group->members;
        struct buf bytes CLEANUP(buf_deinit) = { 0 };
        raft_members_encode(&bytes, &members);
        struct blob *body = blob_copy(buf_slice(&bytes));
        struct wal_entry entry = {
            .term = 1, .index = 1, .type = RAFT_ENTRY_MEMBERS, .crc = crc32c(0, body->at, body->len),
            .body = blob_slice(body), .blob = body,
        };
        struct wal_hard_state hard = { .term = 1 };
        wal_submit(wal, &(struct wal_submission){ .entries = &entry, .entry_count = 1, .hard = &hard });
        blob_unref(body);
    }
    wal_close(wal); /* writes and syncs what was submitted */
    return OK;
}

/* Design section 9: WAL.first <= DB.applied + 1 <= WAL.last + 1. */
static enum err check_joint(struct node *n, struct errmsg *em)
{
    const struct wal_found *found = wal_found(n->wal);
    uint64_t next = state_applied_index(n->state) + 1;
    if (next >= wal_first_index(n->wal) && next <= found->last.index + 1) return OK;
    errmsg_set(em, "%s: the checkpoint ends at index %llu but the log holds %llu to %llu: "
               "one of them was lost or replaced; restore a backup", n->cfg.dir,
               (unsigned long long)(next - 1), (unsigned long long)wal_first_index(n->wal),
               (unsigned long long)found->last.index);
    return ERR_CORRUPT;
}

static enum err raft_begin(struct node *n, struct replay *r, int64_t mono_ms, struct errmsg *em)
{
    const struct wal_found *found = wal_found(n->wal);
    struct raft_config cfg = {
        .id = n->identity.member_id,
        .heartbeat_ms = n->cfg.heartbeat_ms,
        .election_timeout_ms = n->cfg.election_timeout_ms,
        .election_spread_ms = MAX(n->cfg.election_timeout_ms * ELECTION_SPREAD_PERCENT / 100, 1),
        .seed = u64_mix(n->cfg.random[2] + n->identity.incarnation),
        .append_bytes_max = 1u << 20,
        .inflight_max = PEER_APPENDS_IN_FLIGHT,
        .commit_rides = true,
        .uncommitted_bytes_max = n->cfg.uncommitted_bytes_max + RAFT_UNCOMMITTED_SLACK,
        .hard = { found->hard.term, found->hard.vote, found->hard.commit },
        .applied_index = state_applied_index(n->state),
        .applied_term = state_applied_term(n->state),
        .members = &n->members,
    };
    n->raft = raft_new(&cfg);
    for (size_t i = 0; i < r->count; i++) {
        enum err e = raft_restore_entry(n->raft, &r->entries[i]);
        if (e != OK) {
            errmsg_set(em, "%s/wal: entry %llu does not follow the one before it", n->cfg.dir,
                       (unsigned long long)r->entries[i].index);
            return e;
        }
    }
    raft_start(n->raft, mono_ms);
    return OK;
}

/* A crash between the two last steps of installing a snapshot (node_snapshot.h): the log is of no use
 * but for term and vote. What is submitted from now on is durable only after this mark. */
static bool swap_finished(struct node *n, struct replay *r)
{
    struct wal_mark at = { state_applied_index(n->state), state_applied_term(n->state) };
    if (!node_swap_is_unfinished(&n->db, at.index, at.term, wal_found(n->wal))) return false;
    log_notice("snapshot installation is finished index=%llu", (unsigned long long)at.index);
    for (size_t i = 0; i < r->count; i++) blob_unref(r->entries[i].body);
    r->count = 0;
    wal_submit(n->wal, &(struct wal_submission){ .snapshot = at });
    return true;
}

static enum err open_log(struct node *n, bool fresh, int64_t mono_ms, struct errmsg *em)
{
    char dir[DISK_PATH_BYTES_MAX];
    path_of(n, "wal", dir);
    if (fresh) TRY(bootstrap_log(n, dir, em));
    struct replay r = { .entries = NULL };
    n->replay = &r;
    struct wal_options options = wal_options_of(n, dir);
    enum err e = wal_open(&options, &n->wal, em);
    n->replay = NULL;
    if (e == OK && !swap_finished(n, &r)) e = check_joint(n, em);
    if (e == OK) e = db_remove_others(n->cfg.io, n->cfg.dir, &n->db, em);
    if (e == OK) e = raft_begin(n, &r, mono_ms, em);
    replay_free(&r);
    return e;
}

/* The readers of the checkpoint say what is damaged; here is known where that is. */
static enum err with_place(const struct node *n, enum err e, struct errmsg *em)
{
    if (e == OK || !slice_starts(slice_of(em->text), SLICE_LIT("checkpoint: "))) return e;
    struct errmsg what = *em;
    char dir[DISK_PATH_BYTES_MAX];
    db_path(n->cfg.dir, n->db.number, dir);
    errmsg_set(em, "%s: %.400s", dir, what.text);
    return e;
}

static enum err open_store(struct node *n, struct raft_members *members, struct errmsg *em)
{
    TRY(workers_new(n->cfg.manual ? 0 : n->cfg.worker_count, &n->workers, em));
    char dir[DISK_PATH_BYTES_MAX];
    TRY(db_current_load(n->cfg.io, n->cfg.dir, &n->db, em));
    TRY(db_check(n->cfg.io, n->cfg.dir, &n->db, em));
    db_path(n->cfg.dir, n->db.number, dir);
    struct store_options options = {
        .dir = dir,
        .workers = n->workers,
        .on_fatal = n->cfg.on_fatal,
        .on_fatal_ctx = n->cfg.on_fatal_ctx,
        .write_buffer_bytes = n->cfg.store_buffer_bytes,
        .io = n->cfg.io,
        .manual = n->cfg.manual,
    };
    struct store_info info;
    TRY(with_place(n, store_open(&options, &n->store, &info, em), em));
    if (info.applied_index < n->db.index) {
        errmsg_set(em, "%s: ends at index %llu, but was installed from a snapshot of index %llu", dir,
                   (unsigned long long)info.applied_index, (unsigned long long)n->db.index);
        return ERR_CORRUPT;
    }
    TRY(with_place(n, node_load(n, &info, dir, members, em), em));
    store_start(n->store);
    n->stored_index = info.applied_index;
    n->stored_before = info.applied_index;
    return OK;
}

/* --- opening --------------------------------------------------------------------------------- */

/* The log waits for a segment that cannot be made: the disk is full. */
static bool log_is_stuck(struct node *n)
{
    struct wal_stats st;
    wal_stats_get(n->wal, &st);
    return st.next_segment_err != OK && st.in_flight_us == 0;
}

bool node_is_sole_voter(const struct node *n)
{
    return raft_is_voter(n->raft) && raft_members_voter_count(raft_members(n->raft)) == 1;
}

/* Drives raft until everything that was in the log is committed and applied. A start waits for room
 * on the disk, the end of the process does not: what is left was never answered. */
static void replay_run(struct node *n, bool closing)
{
    if (!node_is_sole_voter(n)) { /* what is committed is known by the others */
        node_update(n);
        return;
    }
    uint64_t target = raft_last_index(n->raft);
    while (raft_applied_index(n->raft) < target || !raft_own_term_committed(n->raft)) {
        node_update(n);
        struct wal_done done;
        if (!wal_poll(n->wal, &done)) {
            if (n->cfg.manual) node_disk_step(n);
            else wal_wait(n->wal, REPLAY_POLL_MS);
            if (closing && log_is_stuck(n)) return;
            continue;
        }
        node_wal_take(n, &done);
        node_store_poll(n);
        node_checkpoint_if_due(n, false);
    }
}

/* From here on nothing of an older run of this member is applied. */
static void incarnation_announce(struct node *n)
{
    struct op start = {
        .kind = OP_INCARNATION,
        .id = n->identity.member_id,
        .number = (int64_t)n->identity.incarnation,
        .fields = FIELD_ID | FIELD_NUMBER,
    };
    enum err e = node_propose_internal(n, &start);
    ASSERT(e == OK);
}

/* Who leads a group of one before it is open has not told its settings yet. */
static void serve_begin(struct node *n)
{
    n->open = true;
    n->leader_seen_ms = n->mono_us / 1000;
    n->stamp_ms = state_stamp_ms(n->state);
    n->clock_ms = MAX(n->clock_ms, n->stamp_ms);
    n->clock_mono_ms = n->cfg.mono_us() / 1000; /* the clock did not run while nobody was served */
    if (node_leads(n) && state_stamp_ms(n->state) == 0) node_seed_settings(n);
    incarnation_announce(n);
    node_peers_adopt(n);
}

static enum err open_all(struct node *n, int64_t mono_ms, struct errmsg *em)
{
    const struct disk_io *io = n->cfg.io;
    TRY(disk_make_dir(io, n->cfg.dir, em));
    TRY(identity_refuse_strangers(io, n->cfg.dir, false, em));
    if (!n->cfg.manual) TRY(dirlock_take(n->cfg.dir, &n->lock, em));
    TRY(identity_refuse_strangers(io, n->cfg.dir, true, em));
    bool fresh = false;
    TRY(identity_check_revoked(n->cfg.io, n->cfg.dir, em));
    TRY(identity_begin(n, &fresh, em));
    n->session = n->identity.incarnation << 32; /* ascending over the lives of this member */
    TRY(open_store(n, &n->members, em));
    TRY(open_log(n, fresh, mono_ms, em));
    TRY(node_install_open(n, em));
    replay_run(n, false);
    serve_begin(n);
    node_seal(n);
    node_forward(n);
    replay_run(n, false);
    return identity_ready(n, em);
}

static void seeds_copy(struct node *n)
{
    n->seed_count = n->cfg.seed_setting_count;
    n->seeds = mem_zalloc((n->seed_count + 1) * sizeof *n->seeds);
    for (size_t i = 0; i < n->seed_count; i++) buf_append_slice(&n->seeds[i], n->cfg.seed_settings[i]);
}

enum err node_open(const struct node_config *cfg, const struct node_hooks *hooks, int64_t mono_ms,
                   int64_t wall_ms, struct node **out, struct errmsg *em)
{
    ASSERT(cfg->election_timeout_ms >= 2 * cfg->heartbeat_ms);
    struct node *n = mem_zalloc(sizeof *n);
    n->cfg = *cfg;
    if (n->cfg.io == NULL) n->cfg.io = disk_io_posix();
    n->hooks = *hooks;
    n->mono_us = mono_ms * 1000;
    n->wall_ms = wall_ms;
    n->next_seq = 1;
    ticket_ring_init(&n->tickets);
    op_batch_begin(&n->batch);
    seeds_copy(n);
    n->state = state_new(cfg->random[0]);
    enum err e = open_all(n, mono_ms, em);
    if (e != OK) {
        node_close(n);
        return e;
    }
    *out = n;
    return OK;
}

/* --- closing ------------------------------------------------------------------------------------ */

static void drain(struct node *n)
{
    store_stop(n->store);
    node_seal(n);
    node_forward(n);
    replay_run(n, true);
    while (n->mark_count >= NODE_CHECKPOINTS_IN_FLIGHT && !store_gave_up(n->store)) {
        if (n->cfg.manual) node_disk_step(n);
        node_store_poll(n);
    }
    node_checkpoint_if_due(n, true);
}

static void free_memory(struct node *n)
{
    node_probe_free(n);
    while (n->refs != NULL) {
        struct read_refs *next = n->refs->next;
        for (size_t i = 0; i < n->refs->count; i++) blob_unref(n->refs->packs[i]);
        mem_free(n->refs);
        n->refs = next;
    }
    while (n->member_waits != NULL) {
        struct member_wait *next = n->member_waits->next;
        mem_free(n->member_waits);
        n->member_waits = next;
    }
    raft_free(n->raft);
    state_free(n->state);
    dirlock_free(n->lock);
    ticket_ring_deinit(&n->tickets);
    mem_free(n->pending.at);
    node_runs_deinit(n);
    for (size_t i = 0; i < n->seed_count; i++) buf_deinit(&n->seeds[i]);
    mem_free(n->seeds);
    buf_deinit(&n->foreign);
    buf_deinit(&n->wire);
    for (size_t i = 0; i < n->held_read_count; i++) store_read_free(n->held_reads[i]);
    mem_free(n->held_reads);
    mem_free(n->writes);
    mem_free(n->wal_entries);
    buf_deinit(&n->batch);
    buf_deinit(&n->keys);
    buf_deinit(&n->ids);
    mem_free(n);
}

bool node_retire(struct node *n)
{
    if (node_is_sole_voter(n)) return false;
    if (raft_role(n->raft) != RAFT_LEADER) return ticket_ring_count(&n->tickets) > 0;
    if (raft_transfer_target(n->raft) != 0) return true;
    struct raft_event ev = { .type = RAFT_EV_TRANSFER };
    return raft_step(n->raft, &ev) == OK; /* nobody could take over */
}

static void snapshot_end(struct node *n)
{
    if (n->snapshot == NULL) return;
    node_snapshot_stop(n->snapshot);
    while (n->cfg.manual && !node_snapshot_is_idle(n->snapshot)) {
        bool moved = node_disk_step(n);
        ASSERT(moved || node_snapshot_is_idle(n->snapshot));
    }
    node_snapshot_free(n->snapshot);
    n->snapshot = NULL;
}

void node_close(struct node *n)
{
    if (n->open) {
        drain(n);
        node_fail_tickets(n, ERR_TIMEOUT);
        node_members_fail(n);
    }
    snapshot_end(n);
    wal_close(n->wal);
    store_close(n->store);
    workers_free(n->workers);
    free_memory(n);
}

void node_abandon(struct node *n)
{
    ASSERT(n->cfg.manual);
    node_fail_tickets(n, ERR_TIMEOUT);
    node_members_fail(n);
    snapshot_end(n);
    wal_abandon(n->wal);
    workers_abandon(n->workers);
    store_abandon(n->store);
    free_memory(n);
}

bool node_disk_step(struct node *n)
{
    ASSERT(n->cfg.manual);
    struct store *incoming = n->snapshot == NULL ? NULL : node_snapshot_incoming_store(n->snapshot);
    return wal_step(n->wal) || store_step(n->store) || workers_step(n->workers) ||
           (incoming != NULL && store_step(incoming));
}

/* --- looking ---------------------------------------------------------------------------------------- */

const struct state *node_state(const struct node *n) { return n->state; }
const struct raft *node_raft(const struct node *n) { return n->raft; }
struct view node_view(const struct node *n) { return (struct view){ n->state, NULL }; }
int64_t node_wall_ms(const struct node *n) { return n->wall_ms; }
uint64_t node_member_id(const struct node *n) { return n->identity.member_id; }
uint64_t node_cluster_id(const struct node *n) { return n->identity.cluster_id; }
bool node_disk_low(const struct node *n) { return n->disk_low; }

enum err node_read_check(const struct node *n)
{
    return UNLIKELY(n->diverged) ? ERR_DIVERGED : OK;
}

bool node_read_at_once(const struct node *n) { return n->at_once; }

void node_stats_get(struct node *n, struct node_stats *out)
{
    *out = n->stats;
    out->ticket_count = ticket_ring_count(&n->tickets);
    out->store_backlog_bytes = store_backlog_bytes(n->store);
    struct store_stats store;
    store_stats_get(n->store, &store);
    out->store_bytes = store.disk_bytes;
    out->store_file_batch_count = store.file_batch_count;
    out->store_file_count = store.file_count;
    wal_stats_get(n->wal, &out->wal);
    struct node_snapshot_stats snap;
    node_snapshot_stats_get(n->snapshot, &snap);
    out->snapshots_sent = snap.sent;
    out->snapshots_installed = snap.installed;
    out->snapshots_failed = snap.send_failed + snap.receive_failed;
    out->snapshot_sent_bytes = snap.sent_bytes;
    out->snapshot_received_bytes = snap.received_bytes;
    out->snapshot_receiving = snap.receiving;
}

void node_snapshot_stats_of(const struct node *n, struct node_snapshot_stats *out)
{
    *out = (struct node_snapshot_stats){ .sent = 0 };
    if (n->snapshot != NULL) node_snapshot_stats_get(n->snapshot, out); /* NULL: closing */
}

bool node_compacted_physically(const struct node *n, uint64_t rev)
{
    struct store_stats st;
    store_stats_get(n->store, &st);
    return st.floor_rev >= rev;
}
