/* node/node_store.c - the checkpoint's side of a member: cuts, truncation, history reads, loading,
 * and how full the disk is. */
#include "node/node_int.h"

#include "base/log.h"
#include "disk/disk_wait.h"
#include "state/checkpoint.h"

#include <stdio.h>

/* Clock entries alone wait longer for a checkpoint: the log has them, a segment holds an hour. */
#define CLOCK_CHECKPOINT_MS 30000
#define MEMBERS_META "Members" /* a capital that is not the state machine's: see checkpoint.h */

/* --- cutting ------------------------------------------------------------------------- */

static struct store_batch *batch_of(struct node *n, struct checkpoint *c)
{
    struct store_batch *b = store_batch_new();
    for (size_t i = 0; i < c->pack_count; i++) {
        store_batch_pack(b, c->packs[i].first_rev, c->packs[i].first_n, blob_ref(c->packs[i].body));
    }
    size_t offset = 0;
    struct checkpoint_meta meta;
    while (checkpoint_next_meta(c, &offset, &meta)) {
        if (meta.is_put) {
            store_batch_put(b, meta.name, meta.value);
        } else {
            store_batch_delete(b, meta.name);
        }
    }
    /* Not those in force, which are in force as soon as they are appended: that may be undone. */
    struct buf members CLEANUP(buf_deinit) = { 0 };
    raft_members_encode(&members, MUTANT(CHECKPOINT_HAS_MEMBERS_OF_NOW) ? raft_members(n->raft) : &n->members);
    store_batch_put(b, SLICE_LIT(MEMBERS_META), buf_slice(&members));
    return b;
}

/* Where raft's are those of an entry that is applied, they are the same. */
static bool members_agree(const struct node *n)
{
    if (raft_members_index(n->raft) > state_applied_index(n->state)) return true;
    return raft_members_eq(&n->members, raft_members(n->raft));
}

static void checkpoint_now(struct node *n)
{
    ASSERT(members_agree(n));
    struct checkpoint c;
    checkpoint_cut(n->state, &c);
    struct store_cut cut = {
        .applied_index = c.applied_index + MUTANT(CHECKPOINT_SAYS_MORE),
        .applied_term = c.applied_term,
        .compacted_rev = c.compacted,
    };
    ASSERT(c.applied_index <= wal_last_durable(n->wal).index); /* I3: never ahead of the log */
    uint64_t number = store_submit(n->store, batch_of(n, &c), &cut);
    if (MUTANT(LOG_CUT_BEFORE_DURABLE)) wal_drop_below(n->wal, c.applied_index + 1);
    ASSERT(n->mark_count < ARRAY_LEN(n->marks));
    n->marks[n->mark_count++] = (struct checkpoint_mark){ number, c.applied_index, c.rev };
    checkpoint_deinit(&c);
    n->stats.checkpoint_count++;
    n->stats.checkpoint_index = cut.applied_index;
    n->dirty_entries = 0;
    n->dirty_bytes = 0;
    n->dirty_since_ms = 0;
    n->clock_since_ms = 0;
}

static bool has_waited(const struct node *n, int64_t since_ms, int64_t ms)
{
    return since_ms != 0 && n->mono_us / 1000 - since_ms >= ms;
}

void node_checkpoint_if_due(struct node *n, bool now)
{
    if (n->dirty_since_ms == 0 && n->clock_since_ms == 0) return;
    if (n->mark_count >= NODE_CHECKPOINTS_IN_FLIGHT) return;
    if (n->snapshot != NULL && node_snapshot_is_installing(n->snapshot)) return;
    /* I3. A start that finishes an installation has its mark under way, for as long as the disk takes. */
    if (state_applied_index(n->state) > wal_last_durable(n->wal).index) return;
    bool due = now || n->dirty_bytes >= n->cfg.checkpoint_bytes ||
               (n->dirty_entries >= n->cfg.snapshot_count && n->mark_count == 0) ||
               has_waited(n, n->dirty_since_ms, n->cfg.checkpoint_ms) ||
               has_waited(n, n->clock_since_ms, MAX(n->cfg.checkpoint_ms, CLOCK_CHECKPOINT_MS));
    if (due) checkpoint_now(n);
}

/* I3: the log goes only below the last durable checkpoint but one. Only followers need more. */
static void checkpoint_durable(struct node *n, const struct checkpoint_mark *m)
{
    n->stored_before = n->stored_index;
    n->stored_index = m->index;
    wal_keep_set(n->wal, raft_members(n->raft)->count > 1 ? n->cfg.wal_keep_bytes : 0);
    uint64_t keep = n->snapshot == NULL ? UINT64_MAX : node_snapshot_keep_index(n->snapshot, n->mono_us / 1000);
    wal_drop_below(n->wal, MIN(n->stored_before, keep) + 1);
    state_packs_stored(n->state, m->rev);
}

static void reads_deliver(struct node *n, struct store_read *reads)
{
    while (reads != NULL) {
        struct store_read *next = store_read_after(reads);
        n->hooks.read_done(n->hooks.ctx, reads);
        struct read_refs **at = &n->refs;
        while (*at != NULL && (*at)->read != reads) at = &(*at)->next;
        ASSERT(*at != NULL);
        struct read_refs *refs = *at;
        *at = refs->next;
        for (size_t i = 0; i < refs->count; i++) blob_unref(refs->packs[i]);
        mem_free(refs);
        store_read_free(reads);
        reads = next;
    }
}

void node_store_poll(struct node *n)
{
    struct store_done done;
    store_poll(n->store, &done);
    size_t finished = 0;
    while (finished < n->mark_count && n->marks[finished].batch <= done.batch_count) {
        checkpoint_durable(n, &n->marks[finished++]);
    }
    n->mark_count -= finished;
    memmove(n->marks, n->marks + finished, n->mark_count * sizeof n->marks[0]);
    reads_deliver(n, done.reads);
}

void node_compaction_tell(struct node *n)
{
    uint64_t compacted = mvcc_compacted(state_mvcc(n->state));
    if (compacted <= n->compact_told) return;
    store_compact(n->store, compacted);
    n->compact_told = compacted;
    if (n->dirty_since_ms == 0) n->dirty_since_ms = MAX(n->mono_us / 1000, 1);
}

/* --- history reads --------------------------------------------------------------------- */

void node_read(struct node *n, struct store_read *read_taken)
{
    if (LIKELY(n->snapshot == NULL || !node_snapshot_is_installing(n->snapshot))) {
        node_read_start(n, read_taken);
        return;
    }
    if (n->held_read_count == n->held_read_cap) {
        n->held_read_cap = n->held_read_cap == 0 ? 16 : n->held_read_cap * 2;
        n->held_reads = mem_realloc(n->held_reads, n->held_read_cap * sizeof(struct store_read *));
    }
    n->held_reads[n->held_read_count++] = read_taken;
}

void node_read_start(struct node *n, struct store_read *read_taken)
{
    const struct mvcc *m = state_mvcc(n->state);
    size_t count = 0;
    struct mvcc_pack pack;
    while (mvcc_packs_at(m, count, &pack)) count++;
    struct read_refs *refs = mem_alloc(sizeof *refs + count * sizeof refs->packs[0]);
    *refs = (struct read_refs){ .next = n->refs, .read = read_taken, .count = count };
    n->refs = refs;
    for (size_t i = 0; i < count; i++) {
        bool there = mvcc_packs_at(m, i, &pack);
        ASSERT(there);
        refs->packs[i] = blob_ref(pack.body);
        store_read_pack(read_taken, pack.first_rev, pack.first_n, blob_slice(pack.body));
    }
    store_read(n->store, read_taken);
}

/* --- how full the disk is ----------------------------------------------------------------- */

struct node_disk_probe {
    struct work work;
    struct done_queue done;
    const struct disk_io *io;
    char dir[DISK_PATH_BYTES_MAX];
    uint64_t free_bytes;
    bool busy;
};

static void probe_run(struct work *w)
{
    struct node_disk_probe *p = CONTAINER_OF(w, struct node_disk_probe, work);
    p->free_bytes = disk_free_bytes(p->io, p->dir);
}

static void probe_take(struct node *n)
{
    struct node_disk_probe *p = n->probe;
    if (!p->busy || done_queue_take(&p->done) == NULL) return;
    p->busy = false;
    n->stats.disk_free_bytes = p->free_bytes;
    bool low = p->free_bytes < n->cfg.disk_reserve_bytes;
    if (low != n->disk_low) {
        log_warning("disk %s free_bytes=%llu reserve_bytes=%llu", low ? "low: growth is refused" : "has room again",
                    (unsigned long long)p->free_bytes, (unsigned long long)n->cfg.disk_reserve_bytes);
    }
    n->disk_low = low;
}

void node_probe_start(struct node *n)
{
    if (n->probe == NULL) {
        n->probe = mem_zalloc(sizeof *n->probe);
        n->probe->io = n->cfg.io;
        snprintf(n->probe->dir, sizeof n->probe->dir, "%s", n->cfg.dir);
        if (n->cfg.manual) {
            done_queue_init_manual(&n->probe->done);
        } else {
            struct errmsg em;
            enum err e = done_queue_init(&n->probe->done, &em);
            ASSERT(e == OK);
        }
    }
    probe_take(n);
    if (n->probe->busy) return;
    n->probe->busy = true;
    n->probe->work = (struct work){ .run = probe_run, .done = &n->probe->done };
    workers_submit(n->workers, &n->probe->work);
}

void node_probe_free(struct node *n)
{
    if (n->probe == NULL) return;
    done_queue_take(&n->probe->done); /* the workers are gone: what was under way is here */
    done_queue_deinit(&n->probe->done);
    mem_free(n->probe);
    n->probe = NULL;
}

/* --- loading --------------------------------------------------------------------------------- */

struct loading {
    struct store *store;
    const char *dir;
    struct checkpoint_load *load;
    struct raft_members *members;
    const uint32_t *cancelled;
    struct errmsg *em;
};

static enum err load_meta(void *ctx, struct slice name, struct slice value)
{
    struct loading *l = ctx;
    if (checkpoint_owns_name(name)) return checkpoint_load_meta(l->load, name, value, l->em);
    if (slice_eq(name, SLICE_LIT(MEMBERS_META))) {
        enum err e = raft_members_decode(value, l->members);
        if (e != OK) errmsg_set(l->em, "%s: the membership is damaged", l->dir);
        return e;
    }
    errmsg_set(l->em, "%s: a name that this version does not know", l->dir);
    return ERR_UNSUPPORTED;
}

static void load_dead(void *ctx, uint64_t rev, struct slice key)
{
    struct loading *l = ctx;
    store_note_dead(l->store, rev, key);
}

static enum err load_pack(void *ctx, uint64_t first_rev, uint32_t first_n, struct slice pack)
{
    struct loading *l = ctx;
    (void)first_n;
    if (l->cancelled != NULL && __atomic_load_n(l->cancelled, __ATOMIC_RELAXED) != 0) {
        errmsg_set(l->em, "%s: given up", l->dir);
        return ERR_TIMEOUT;
    }
    struct checkpoint_dead dead = { load_dead, l };
    return checkpoint_load_pack(l->load, first_rev, pack, &dead, l->em);
}

enum err node_load_from(struct store *store, const struct store_info *info, const char *dir,
                        struct state *s, struct raft_members *members, const uint32_t *cancelled,
                        struct errmsg *em)
{
    struct loading l = { .store = store, .dir = dir, .members = members, .cancelled = cancelled,
                         .em = em };
    l.load = checkpoint_load_begin(s);
    enum err e = store_scan(store, load_meta, load_pack, &l, em);
    if (e != OK || info->empty) {
        checkpoint_load_free(l.load);
        return e;
    }
    TRY(checkpoint_load_end(l.load, em));
    if (state_applied_index(s) == info->applied_index) return OK;
    errmsg_set(em, "%s: the checkpoint says index %llu, its last batch says %llu", dir,
               (unsigned long long)state_applied_index(s),
               (unsigned long long)info->applied_index);
    return ERR_CORRUPT;
}

enum err node_load(struct node *n, struct store_info *info, const char *dir,
                   struct raft_members *members, struct errmsg *em)
{
    TRY(node_load_from(n->store, info, dir, n->state, members, NULL, em));
    if (!info->empty) return OK;
    state_free(n->state);
    n->state = state_new(n->cfg.random[0]);
    return OK;
}
