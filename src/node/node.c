/* node/node.c - opening, recovering and closing a member, and looking at it. */
#include "node/node_int.h"

#include "base/log.h"
#include "disk/disk_wait.h"

#include <errno.h>
#include <stdio.h>

#define ID_MAX ((1ULL << 53) - 1) /* exact in a double: clients in JavaScript see ids */
#define RAFT_UNCOMMITTED_SLACK (64u << 20)
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

static enum err identity_begin(struct node *n, bool *fresh, struct errmsg *em)
{
    const struct disk_io *io = disk_io_posix();
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
    n->identity.incarnation++;
    return identity_save(io, n->cfg.dir, &n->identity, em);
}

static enum err identity_ready(struct node *n, struct errmsg *em)
{
    if (n->identity.ready) return OK;
    n->identity.ready = true;
    return identity_save(disk_io_posix(), n->cfg.dir, &n->identity, em);
}

struct names {
    size_t strangers;
    bool lock; /* another process is, or was, about to use the directory */
};

/* "lost+found" is what a file system of its own begins with. */
static int count_name(void *arg, const char *name)
{
    struct names *names = arg;
    bool lock = strcmp(name, "LOCK") == 0;
    names->lock = names->lock || lock;
    bool known = lock || strcmp(name, "identity.tmp") == 0 || strcmp(name, "lost+found") == 0;
    if (!known) names->strangers++;
    return 0;
}

/* Files without an identity are not ours to write over. Asked before the directory is locked, so
 * that not even a lock is left in a foreign one, and again when nobody else can be making it. */
static enum err refuse_strangers(struct node *n, bool locked, struct errmsg *em)
{
    const struct disk_io *io = disk_io_posix();
    struct identity id;
    if (identity_load(io, n->cfg.dir, &id, em) != ERR_NOT_FOUND) return OK;
    struct names names = { 0 };
    int failed = io->list(io->ctx, n->cfg.dir, count_name, &names);
    if (failed < 0) return disk_error(em, "list", n->cfg.dir, failed);
    if (names.strangers == 0 || (!locked && names.lock)) return OK;
    errmsg_set(em, "%s is not empty and has no file 'identity': refusing to use it. "
               "Give --dir an empty directory, or put the identity file back", n->cfg.dir);
    return ERR_CONFIG;
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
        .cluster_id = n->identity.cluster_id,
        .member_id = n->identity.member_id,
        .salt = u64_mix(n->cfg.random[0] + 1),
        .segment_bytes = n->cfg.wal_segment_bytes,
        .keep_bytes = n->cfg.wal_keep_bytes,
        .backend = n->cfg.wal_backend,
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

/* The first entry of a new group names its members; nothing was ever answered before it. */
static enum err bootstrap_log(struct node *n, const char *dir, struct errmsg *em)
{
    struct wal_options options = wal_options_of(n, dir);
    options.create = true;
    options.on_entry = NULL;
    options.backend = WAL_BACKEND_THREAD;
    struct wal *wal = NULL;
    TRY(wal_open(&options, &wal, em));
    if (wal_found(wal)->last.index == 0) {
        struct raft_members members;
        self_member(n, &members);
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
        .seed = u64_mix(n->cfg.random[2] + n->identity.incarnation),
        .append_bytes_max = 1u << 20,
        .inflight_max = RAFT_INFLIGHT_MAX,
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
    if (e == OK) e = check_joint(n, em);
    if (e == OK) e = raft_begin(n, &r, mono_ms, em);
    replay_free(&r);
    return e;
}

/* The readers of the checkpoint say what is damaged; here is known where that is. */
static enum err with_place(const struct node *n, enum err e, struct errmsg *em)
{
    if (e == OK || !slice_starts(slice_of(em->text), SLICE_LIT("checkpoint: "))) return e;
    struct errmsg what = *em;
    errmsg_set(em, "%s/db: %.400s", n->cfg.dir, what.text);
    return e;
}

static enum err open_store(struct node *n, struct raft_members *members, struct errmsg *em)
{
    TRY(workers_new(n->cfg.worker_count, &n->workers, em));
    char dir[DISK_PATH_BYTES_MAX];
    path_of(n, "db", dir);
    struct store_options options = {
        .dir = dir,
        .workers = n->workers,
        .on_fatal = n->cfg.on_fatal,
        .on_fatal_ctx = n->cfg.on_fatal_ctx,
        .write_buffer_bytes = n->cfg.store_buffer_bytes,
    };
    struct store_info info;
    TRY(with_place(n, store_open(&options, &n->store, &info, em), em));
    TRY(with_place(n, node_load(n, &info, members, em), em));
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

/* Drives raft until everything that was in the log is committed and applied. A start waits for room
 * on the disk, the end of the process does not: what is left was never answered. */
static void replay_run(struct node *n, bool closing)
{
    uint64_t target = raft_last_index(n->raft);
    while (raft_applied_index(n->raft) < target || !raft_own_term_committed(n->raft)) {
        node_update(n);
        struct wal_done done;
        if (!wal_poll(n->wal, &done)) {
            wal_wait(n->wal, REPLAY_POLL_MS);
            if (closing && log_is_stuck(n)) return;
            continue;
        }
        node_wal_take(n, &done);
        node_store_poll(n);
        node_checkpoint_if_due(n, false);
    }
}

static void seed_group(struct node *n, bool fresh)
{
    struct op start = {
        .kind = OP_INCARNATION,
        .id = n->identity.member_id,
        .number = (int64_t)n->identity.incarnation,
        .fields = FIELD_ID | FIELD_NUMBER,
    };
    enum err e = node_propose_internal(n, &start);
    ASSERT(e == OK);
    for (size_t i = 0; fresh && i + 1 < n->cfg.seed_setting_count; i += 2) {
        struct op set = {
            .kind = OP_CONFIG,
            .name = n->cfg.seed_settings[i],
            .value = n->cfg.seed_settings[i + 1],
            .fields = FIELD_NAME | FIELD_VALUE,
        };
        e = node_propose_internal(n, &set);
        ASSERT(e == OK);
    }
}

static enum err open_all(struct node *n, int64_t mono_ms, struct errmsg *em)
{
    TRY(disk_make_dir(disk_io_posix(), n->cfg.dir, em));
    TRY(refuse_strangers(n, false, em));
    TRY(dirlock_take(n->cfg.dir, &n->lock, em));
    TRY(refuse_strangers(n, true, em));
    bool fresh = false;
    TRY(identity_begin(n, &fresh, em));
    TRY(open_store(n, &n->members, em));
    TRY(open_log(n, fresh, mono_ms, em));
    replay_run(n, false);
    n->stamp_ms = state_stamp_ms(n->state);
    n->clock_ms = n->stamp_ms;
    n->clock_mono_ms = n->cfg.mono_us() / 1000; /* the clock did not run while nobody was served */
    n->open = true;
    seed_group(n, fresh);
    node_seal(n);
    node_update(n);
    replay_run(n, false);
    return identity_ready(n, em);
}

enum err node_open(const struct node_config *cfg, const struct node_hooks *hooks, int64_t mono_ms,
                   int64_t wall_ms, struct node **out, struct errmsg *em)
{
    ASSERT(cfg->election_timeout_ms >= 2 * cfg->heartbeat_ms);
    struct node *n = mem_zalloc(sizeof *n);
    n->cfg = *cfg;
    n->hooks = *hooks;
    n->mono_us = mono_ms * 1000;
    n->wall_ms = wall_ms;
    n->next_seq = 1;
    ticket_ring_init(&n->tickets);
    op_batch_begin(&n->batch);
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
    node_update(n);
    replay_run(n, true);
    while (n->mark_count >= NODE_CHECKPOINTS_IN_FLIGHT && !store_gave_up(n->store)) node_store_poll(n);
    node_checkpoint_if_due(n, true);
}

void node_close(struct node *n)
{
    if (n->open) {
        drain(n);
        node_fail_tickets(n, ERR_TIMEOUT);
    }
    wal_close(n->wal);
    store_close(n->store);
    workers_free(n->workers);
    node_probe_free(n);
    while (n->refs != NULL) {
        struct read_refs *next = n->refs->next;
        for (size_t i = 0; i < n->refs->count; i++) blob_unref(n->refs->packs[i]);
        mem_free(n->refs);
        n->refs = next;
    }
    raft_free(n->raft);
    state_free(n->state);
    dirlock_free(n->lock);
    ticket_ring_deinit(&n->tickets);
    mem_free(n->pending.at);
    mem_free(n->writes);
    mem_free(n->wal_entries);
    buf_deinit(&n->batch);
    buf_deinit(&n->keys);
    buf_deinit(&n->ids);
    mem_free(n);
}

/* --- looking ---------------------------------------------------------------------------------------- */

const struct state *node_state(const struct node *n) { return n->state; }
const struct raft *node_raft(const struct node *n) { return n->raft; }
struct view node_view(const struct node *n) { return (struct view){ n->state, NULL }; }
uint64_t node_clock_ms(const struct node *n) { return n->clock_ms; }
int64_t node_wall_ms(const struct node *n) { return n->wall_ms; }
uint64_t node_member_id(const struct node *n) { return n->identity.member_id; }
uint64_t node_cluster_id(const struct node *n) { return n->identity.cluster_id; }
bool node_disk_low(const struct node *n) { return n->disk_low; }

enum err node_read_check(const struct node *n)
{
    return raft_own_term_committed(n->raft) ? OK : ERR_CLUSTERDOWN;
}

void node_stats_get(struct node *n, struct node_stats *out)
{
    *out = n->stats;
    out->ticket_count = ticket_ring_count(&n->tickets);
    out->store_backlog_bytes = store_backlog_bytes(n->store);
    out->store_bytes = store_disk_bytes(n->store);
    wal_stats_get(n->wal, &out->wal);
}

bool node_compacted_physically(const struct node *n, uint64_t rev)
{
    struct store_stats st;
    store_stats_get(n->store, &st);
    return st.floor_rev >= rev;
}
