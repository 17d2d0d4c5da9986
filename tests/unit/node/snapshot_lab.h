/* snapshot_lab.h - two members in one process that hand each other snapshots.
 *
 * Each has a real directory, store, log and state; raft is a stub that keeps the rules of its header
 * for snapshots. Messages go through a queue that may lose, repeat or damage them. Time is virtual;
 * only workers take real time, and the loop waits for them.
 */
#ifndef SNAPSHOT_LAB_H
#define SNAPSHOT_LAB_H

#include "../disk/store_kit.h"
/* behind it */
#include "../state/checkpoint_lab.h"

#include "disk/disk_wait.h"
#include "node/node_int.h"
#include "node/node_snapshot_int.h"

#define LAB_TERM 3
#define LAB_STEP_MS 10
#define LAB_PEER_A 1
#define LAB_PEER_B 2
#define LAB_SEGMENT_BYTES (1u << 20)

struct letter {
    uint64_t to, from;
    struct buf payload;
};

struct post {
    struct letter at[256];
    size_t head, count;
    uint64_t random;
    uint32_t lose_percent, repeat_percent, damage_percent;
    uint64_t refused; /* damaged, and seen to be */
};

struct fake {
    uint64_t id;
    char *dir;
    struct post *post;
    struct workers *workers;
    struct store *store;
    struct state *state;
    struct wal *wal;
    struct node_snapshot *ns;
    struct db_current db;
    struct raft_members members;
    struct store_info info;
    struct lab lab;
    const struct disk_io *io; /* of db.current */
    uint64_t batch;           /* newest submitted */
    uint64_t reserve_bytes;
    /* raft */
    uint64_t installing_index, sending_index;
    unsigned begun, installed, aborted, sent_ok, sent_failed, entries_answers;
    uint64_t entries_first, entries_last, entries_before_term;
    uint64_t term;
    bool quiet;
    const char *fatal;
};

/* --- hooks ----------------------------------------------------------------------------------- */

static void fake_send(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload)
{
    struct fake *f = ctx;
    struct post *p = f->post;
    (void)channel;
    uint32_t times = kit_random(&p->random, 100) < p->repeat_percent ? 2 : 1;
    if (kit_random(&p->random, 100) < p->lose_percent) times = 0;
    for (uint32_t i = 0; i < times; i++) {
        assert_true(p->count < ARRAY_LEN(p->at));
        struct letter *l = &p->at[(p->head + p->count++) % ARRAY_LEN(p->at)];
        *l = (struct letter){ .to = peer, .from = f->id };
        buf_append_slice(&l->payload, payload);
        if (kit_random(&p->random, 100) < p->damage_percent) {
            l->payload.at[kit_random(&p->random, payload.len)] ^=
                (uint8_t)(1u << kit_random(&p->random, 8));
        }
    }
}

static enum err fake_raft(void *ctx, const struct raft_event *ev)
{
    struct fake *f = ctx;
    switch ((int)ev->type) {
    case RAFT_EV_SNAPSHOT_SENDING:
        f->sending_index = ev->index;
        return OK;
    case RAFT_EV_SNAPSHOT_SENT:
        if (ev->ok) f->sent_ok++;
        else f->sent_failed++;
        return OK;
    case RAFT_EV_SNAPSHOT_BEGIN:
        if (ev->index <= state_applied_index(f->state)) return ERR_EXISTS;
        assert_int_equal(f->installing_index, 0);
        f->installing_index = ev->index;
        f->begun++;
        return OK;
    case RAFT_EV_SNAPSHOT_INSTALLED:
        assert_int_equal(f->installing_index, ev->index);
        assert_int_equal(ev->index, state_applied_index(f->state));
        assert_int_equal(ev->term, LAB_TERM);
        assert_int_equal(ev->members->count, 2);
        f->installing_index = 0;
        f->installed++;
        return OK;
    case RAFT_EV_SNAPSHOT_ABORTED:
        assert_true(f->installing_index != 0);
        f->installing_index = 0;
        f->aborted++;
        return OK;
    default:
        assert_int_equal(ev->type, RAFT_EV_ENTRIES);
        f->entries_answers++;
        f->entries_first = ev->index;
        f->entries_last = ev->index + ev->entry_count - 1;
        f->entries_before_term = ev->term;
        for (size_t i = 0; i < ev->entry_count; i++) {
            assert_int_equal(ev->entries[i].index, ev->index + i);
            const struct blob *body = ev->entries[i].body;
            assert_non_null(body);
            assert_int_equal(ev->entries[i].crc, crc32c(0, body->at, body->len));
        }
        return OK;
    }
}

static uint64_t fake_term(void *ctx) { return ((struct fake *)ctx)->term; }

static uint64_t fake_log(void *ctx, const struct wal_submission *s)
{
    return wal_submit(((struct fake *)ctx)->wal, s);
}

static bool fake_quiet(void *ctx)
{
    struct fake *f = ctx;
    struct store_done done;
    store_poll(f->store, &done);
    return f->quiet && done.batch_count == f->batch;
}

static struct store *fake_install(void *ctx, const struct node_imported *in)
{
    struct fake *f = ctx;
    struct store *old = f->store;
    state_free(f->state);
    f->state = in->state;
    f->lab.stamp_ms = state_stamp_ms(f->state);
    f->store = in->store;
    f->members = in->members;
    f->info = in->info;
    f->batch = 0;
    store_start(f->store);
    return old;
}

static void fake_fatal(void *ctx, const char *text)
{
    (void)ctx;
    fail_msg("fatal: %s", text);
}

/* --- a member ---------------------------------------------------------------------------------- */

static void fake_members(struct raft_members *out)
{
    *out = (struct raft_members){ .count = 0 };
    for (uint64_t id = LAB_PEER_A; id <= LAB_PEER_B; id++) {
        struct raft_member m = { .id = id, .directory_id = id + 100, .role = RAFT_VOTER };
        assert_int_equal(raft_members_put(out, &m), OK);
    }
}

static struct store_options fake_store_options(const struct fake *f)
{
    return (struct store_options){ .workers = f->workers, .write_buffer_bytes = 256u << 10 };
}

/* As node.c does: db.current, the store, the log, the joint. */
static enum err fake_load(struct fake *f, struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    TRY(db_current_load(disk_io_posix(), f->dir, &f->db, em));
    TRY(db_check(disk_io_posix(), f->dir, &f->db, em));
    db_path(f->dir, f->db.number, path);
    struct store_options options = fake_store_options(f);
    options.dir = path;
    TRY(store_open(&options, &f->store, &f->info, em));
    if (f->info.applied_index < f->db.index) return ERR_CORRUPT;
    f->state = state_new(77 + f->id);
    TRY(node_load_from(f->store, &f->info, path, f->state, &f->members, NULL, em));
    if (f->info.empty) {
        state_free(f->state);
        f->state = state_new(77 + f->id);
    }
    store_start(f->store);

    char wal_dir[DISK_PATH_BYTES_MAX];
    snprintf(wal_dir, sizeof wal_dir, "%s/wal", f->dir);
    struct wal_options log = { .dir = wal_dir, .create = true, .cluster_id = 9, .member_id = f->id,
                               .segment_bytes = LAB_SEGMENT_BYTES, .salt = 5,
                               .backend = WAL_BACKEND_THREAD };
    TRY(wal_open(&log, &f->wal, em));
    uint64_t applied = state_applied_index(f->state);
    uint64_t term = state_applied_term(f->state);
    if (node_swap_is_unfinished(&f->db, applied, term, wal_found(f->wal))) {
        wal_submit(f->wal, &(struct wal_submission){ .snapshot = { applied, term } });
    } else if (applied + 1 < wal_first_index(f->wal) ||
               applied > wal_found(f->wal)->last.index) {
        errmsg_set(em, "the store ends at %llu, the log at %llu", (unsigned long long)applied,
                   (unsigned long long)wal_found(f->wal)->last.index);
        return ERR_CORRUPT;
    }
    return db_remove_others(disk_io_posix(), f->dir, &f->db, em);
}

static void fake_open(struct fake *f, uint64_t id, char *dir, struct post *post)
{
    struct errmsg em = { "" };
    *f = (struct fake){ .id = id, .dir = dir, .post = post, .term = LAB_TERM, .quiet = true,
                        .io = disk_io_posix() };
    f->lab.random = id * 1000;
    f->lab.incarnation = 1;
    assert_int_equal(workers_new(2, &f->workers, &em), OK);
    enum err e = fake_load(f, &em);
    if (e != OK) fail_msg("open: %s", em.text);
    f->lab.stamp_ms = state_stamp_ms(f->state);
}

static void fake_serve(struct fake *f)
{
    struct node_snapshot_options options = {
        .dir = f->dir, .io = f->io, .store = fake_store_options(f), .present = f->store,
        .current = f->db, .wal = f->wal, .hash_seed = 99, .random = f->id,
        .reserve_bytes = f->reserve_bytes,
    };
    struct node_snapshot_hooks hooks = { f, fake_send, fake_raft, fake_term, fake_log, fake_quiet,
                                         fake_install, fake_fatal };
    assert_int_equal(node_snapshot_new(&options, &hooks, &f->ns, NULL), OK);
}

static void fake_close(struct fake *f)
{
    node_snapshot_free(f->ns);
    f->ns = NULL;
    wal_close(f->wal);
    store_close(f->store);
    workers_free(f->workers);
    state_free(f->state);
    lab_deinit(&f->lab);
}

/* --- growing --------------------------------------------------------------------------------------- */

static void fake_entry(struct fake *f, struct slice batch)
{
    uint64_t index = state_applied_index(f->state) + 1;
    struct blob *body = blob_copy(batch);
    struct wal_entry e = { .term = LAB_TERM, .index = index, .type = RAFT_ENTRY_BATCH,
                           .crc = crc32c(0, body->at, body->len), .body = blob_slice(body),
                           .blob = body };
    struct wal_hard_state hard = { .term = LAB_TERM, .vote = f->id };
    wal_submit(f->wal, &(struct wal_submission){ .entries = &e, .entry_count = 1, .hard = &hard });
    blob_unref(body);
    static const struct apply_sink nobody = { 0 };
    struct errmsg em = { "" };
    if (state_apply(f->state, index, LAB_TERM, batch, &nobody, &em) != OK) fail_msg("%s", em.text);
}

static void fake_settle(struct fake *f)
{
    struct wal_stats st;
    for (;;) {
        struct wal_done done;
        wal_poll(f->wal, &done);
        wal_stats_get(f->wal, &st);
        if (st.pending_count == 0) return;
        wal_wait(f->wal, 10);
    }
}

/* Until what was submitted is on the disk, without taking the news of it. */
static inline void fake_settle_marks(struct fake *f)
{
    struct wal_stats st;
    wal_stats_get(f->wal, &st);
    if (st.pending_count != 0) wal_wait(f->wal, 1000);
}

/* Random operations of every kind. */
static void fake_grow(struct fake *f, size_t entries)
{
    for (size_t i = 0; i < entries; i++) fake_entry(f, lab_batch(&f->lab, f->state));
}

/* One key of so many bytes. */
static void fake_put(struct fake *f, const char *key, size_t bytes)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    uint64_t seed = f->lab.random++;
    while (value.len < bytes) buf_append_u64(&value, u64_mix(seed += 0x9e3779b97f4a7c15ULL));
    struct op o = { .kind = OP_PUT, .key = slice_of(key), .value = { value.at, bytes },
                    .fields = FIELD_KEY | FIELD_VALUE };
    struct lab *l = &f->lab;
    buf_clear(&l->batch);
    op_batch_begin(&l->batch);
    size_t ops_at = l->batch.len;
    op_encode(&l->batch, &o, false);
    struct op_batch_head head = {
        .format = OP_BATCH_FORMAT, .feature_level = OP_FEATURE_LEVEL, .stamp_ms = l->stamp_ms,
        .wall_ms = 1700000000000 + (int64_t)l->stamp_ms, .op_count = 1, .run_count = 1,
    };
    uint64_t seq = state_applied_index(f->state) + 1; /* of an origin beside the lab's */
    struct op_run run = { .member = LAB_MEMBER + f->id, .incarnation = 1, .first_seq = seq,
                          .floor_seq = seq, .op_count = 1, .ops = { l->batch.at + ops_at, l->batch.len - ops_at } };
    op_batch_seal(&l->batch, &head, &run);
    fake_entry(f, buf_slice(&l->batch));
}

/* As node_store.c does, with the log durable first. */
static void fake_checkpoint(struct fake *f)
{
    fake_settle(f);
    struct checkpoint c;
    checkpoint_cut(f->state, &c);
    struct store_batch *b = store_batch_new();
    for (size_t i = 0; i < c.pack_count; i++) {
        store_batch_pack(b, c.packs[i].first_rev, c.packs[i].first_n, blob_ref(c.packs[i].body));
    }
    size_t offset = 0;
    struct checkpoint_meta m;
    while (checkpoint_next_meta(&c, &offset, &m)) {
        if (m.is_put) store_batch_put(b, m.name, m.value);
        else store_batch_delete(b, m.name);
    }
    CLEANUP(buf_deinit) struct buf members = { 0 };
    fake_members(&f->members);
    raft_members_encode(&members, &f->members);
    store_batch_put(b, SLICE_LIT("Members"), buf_slice(&members));
    struct store_cut cut = { c.applied_index, c.applied_term, c.compacted };
    f->batch = store_submit(f->store, b, &cut);
    kit_wait_batch(f->store, f->batch);
    mvcc_packs_stored(f->state->mvcc, c.rev);
    checkpoint_deinit(&c);
}

/* --- two of them ------------------------------------------------------------------------------------ */

struct pair {
    struct post post;
    struct fake a, b; /* a is ahead */
    int64_t now_ms;
};

static void pair_begin(struct pair *p, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->post.random = seed;
    fake_open(&p->a, LAB_PEER_A, kit_dir(), &p->post);
    fake_open(&p->b, LAB_PEER_B, kit_dir(), &p->post);
}

static void post_clear(struct post *p)
{
    for (; p->count > 0; p->count--) buf_deinit(&p->at[p->head++ % ARRAY_LEN(p->at)].payload);
}

static void pair_end(struct pair *p)
{
    fake_close(&p->a);
    fake_close(&p->b);
    post_clear(&p->post);
    kit_remove(p->a.dir);
    kit_remove(p->b.dir);
}

static void fake_turn(struct fake *f, int64_t now_ms)
{
    struct wal_done done;
    if (wal_poll(f->wal, &done)) node_snapshot_log_done(f->ns, done.seq);
    node_snapshot_turn(f->ns, now_ms);
}

/* One turn of both, and one message. */
static void pair_step(struct pair *p)
{
    p->now_ms += LAB_STEP_MS;
    if (p->post.count > 0) {
        struct letter l = p->post.at[p->post.head];
        p->post.head = (p->post.head + 1) % ARRAY_LEN(p->post.at);
        p->post.count--;
        struct fake *to = l.to == p->a.id ? &p->a : &p->b;
        enum err e = node_snapshot_receive(to->ns, l.from, buf_slice(&l.payload));
        if (e != OK) {
            assert_true(p->post.damage_percent > 0);
            p->post.refused++;
        }
        buf_deinit(&l.payload);
    } else {
        done_queue_wait(node_snapshot_done_queue(p->b.ns), 1);
    }
    fake_turn(&p->a, p->now_ms);
    fake_turn(&p->b, p->now_ms);
}

static void pair_wish(struct pair *p)
{
    struct raft_wish wish = { LAB_PEER_B, state_applied_index(p->b.state) + 1 };
    uint64_t stored = p->a.info.applied_index;
    node_snapshot_wish(p->a.ns, &wish, stored, state_applied_index(p->a.state));
}

static bool pair_is_over(const struct pair *p, unsigned answers)
{
    return p->a.sent_ok + p->a.sent_failed >= answers && p->b.ns->in.phase == IN_IDLE &&
           !p->b.ns->disposal.busy && p->a.ns->out.phase == OUT_IDLE;
}

/* The log of the leader no longer has what is asked for. */
static void fake_forget_log(struct fake *f)
{
    struct wal_mark at = { state_applied_index(f->state), LAB_TERM };
    wal_submit(f->wal, &(struct wal_submission){ .snapshot = at });
    fake_settle(f);
}

#endif
