/* node/node_snapshot_receive.c - the incoming transfer: chunks into a new store, then the exchange. */
#include "node/node_snapshot_int.h"

#include "base/log.h"
#include "state/checkpoint.h"

/* --- saying ------------------------------------------------------------------------------------ */

static void refuse(struct node_snapshot *ns, uint64_t peer, uint64_t id,
                   enum snapshot_reason reason)
{
    snapshot_send(ns, peer, &(struct snapshot_msg){ .kind = SNAPSHOT_REFUSE, .id = id,
                                                    .reason = reason });
}

static void say_where(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    bool works = in->phase != IN_RECEIVING || in->busy || in->queue_count != 0;
    in->said_ms = ns->now_ms;
    snapshot_send(ns, in->peer, &(struct snapshot_msg){
        .kind = SNAPSHOT_ACK, .id = in->id, .seq = in->taken,
        .stage = works ? SNAPSHOT_WORKS : SNAPSHOT_WAITS });
}

static void say_installed(struct node_snapshot *ns)
{
    const struct incoming *in = &ns->in;
    snapshot_send(ns, in->installed_peer, &(struct snapshot_msg){
        .kind = SNAPSHOT_ACK, .id = in->installed_id, .seq = in->installed_chunks,
        .stage = SNAPSHOT_INSTALLED });
}

/* --- giving up --------------------------------------------------------------------------------- */

static void queue_drop(struct incoming *in)
{
    for (size_t i = 0; i < in->queue_count; i++) buf_deinit(&in->queue[i]);
    in->queue_count = 0;
}

static void discard_begin(struct incoming *in)
{
    in->busy = true;
    node_import_discard(in->import);
}

/* Before db.current is replaced: nothing of it counts. */
static void in_fail(struct node_snapshot *ns, enum snapshot_reason reason, const char *why)
{
    struct incoming *in = &ns->in;
    ASSERT(in->phase != IN_IDLE && in->phase != IN_DISCARDING && in->phase < IN_MARK);
    log_warning("snapshot receive failed peer=%llu index=%llu chunks=%llu reason=\"%s\"",
                (unsigned long long)in->peer, (unsigned long long)in->view.applied_index,
                (unsigned long long)in->taken, why);
    ns->stats.receive_failed++;
    refuse(ns, in->peer, in->id, reason);
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_ABORTED };
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
    queue_drop(in);
    in->phase = IN_DISCARDING;
    if (in->import == NULL) { /* all of it was taken over already */
        char path[DISK_PATH_BYTES_MAX];
        db_path(ns->dir, in->next.number, path);
        snapshot_dispose(ns, in->imported.store, in->imported.state, path);
        in->phase = IN_IDLE;
        return;
    }
    node_import_cancel(in->import);
    if (!in->busy) discard_begin(in);
}

static enum snapshot_reason reason_of(enum err e)
{
    if (e == ERR_CORRUPT) return SNAPSHOT_DAMAGED;
    return e == ERR_UNSUPPORTED ? SNAPSHOT_UNSUPPORTED : SNAPSHOT_FAILED;
}

/* --- the exchange -------------------------------------------------------------------------------- */

/* Verified. From here on it is this node's own. */
static void read_back_done(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    node_import_take(in->import, &in->imported);
    node_import_free(in->import);
    in->import = NULL;
    in->phase = IN_SETTLING;
    out_stop(ns); /* it reads the store that goes */
}

static void replace_run(struct work *w)
{
    struct incoming *in = CONTAINER_OF(w, struct incoming, replace);
    struct node_snapshot *ns = CONTAINER_OF(in, struct node_snapshot, in);
    const struct disk_io *io = ns->options.io;
    in->replace_result = OK;
    in->prepare_result = db_current_prepare(io, ns->dir, &in->next, &in->replace_em);
    if (in->prepare_result != OK) return;
    in->replace_result = db_current_replace(io, ns->dir, &in->replace_em);
}

static void replace_begin(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    in->phase = IN_REPLACING;
    in->busy = true;
    in->replace = (struct work){ .run = replace_run, .done = &ns->done };
    workers_submit(ns->options.store.workers, &in->replace);
}

static void replace_done(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    in->busy = false;
    if (in->replace_result != OK) {
        ns->hooks.fatal(ns->hooks.ctx, in->replace_em.text); /* returns in the simulator only */
        return;
    }
    if (ns->stopping) return;
    if (in->prepare_result != OK) {
        in_fail(ns, SNAPSHOT_FAILED, in->replace_em.text);
        return;
    }
    in->phase = IN_MARK;
    in->wal_seq = ns->hooks.log(ns->hooks.ctx, &(struct wal_submission){
        .snapshot = { in->view.applied_index, in->view.applied_term } });
}

static void install(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    struct store *old = ns->hooks.install(ns->hooks.ctx, &in->imported);
    struct raft_event ev = {
        .type = RAFT_EV_SNAPSHOT_INSTALLED, .index = in->view.applied_index,
        .term = in->view.applied_term, .members = &in->imported.members,
    };
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
    log_notice("snapshot installed peer=%llu index=%llu chunks=%llu", (unsigned long long)in->peer,
               (unsigned long long)in->view.applied_index, (unsigned long long)in->taken);
    char path[DISK_PATH_BYTES_MAX];
    db_path(ns->dir, ns->current.number, path);
    ns->present = in->imported.store;
    ns->current = in->next;
    ns->stats.installed++;
    in->installed_id = in->id;
    in->installed_peer = in->peer;
    in->installed_chunks = in->taken;
    in->phase = IN_IDLE;
    snapshot_dispose(ns, old, NULL, path);
    say_installed(ns);
}

void node_snapshot_log_done(struct node_snapshot *ns, uint64_t wal_seq)
{
    struct incoming *in = &ns->in;
    if (ns->stopping || (in->phase != IN_BEGIN_MARK && in->phase != IN_MARK)) return;
    if (wal_seq < in->wal_seq) return;
    if (in->phase == IN_BEGIN_MARK) {
        replace_begin(ns);
    } else {
        in->phase = IN_QUIET;
    }
}

/* --- once a turn, and what workers finished --------------------------------------------------------- */

/* Entries are refused meanwhile: a group that needs this member waits as long. */
static int64_t silence_max_ms(const struct node_snapshot *ns)
{
    bool later = ns->hooks.term(ns->hooks.ctx) != ns->in.term;
    return later ? NODE_SNAPSHOT_ORPHAN_MS : NODE_SNAPSHOT_SILENCE_MS;
}

static void receiving_turn(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    if (in->busy) return;
    if (in->queue_count != 0) {
        if (node_import_is_behind(in->import)) return;
        in->busy = true;
        node_import_chunk(in->import, &in->queue[0]);
        in->queue_count--;
        memmove(in->queue, in->queue + 1, in->queue_count * sizeof in->queue[0]);
    } else if (in->ended) {
        in->phase = IN_READING;
        in->busy = true;
        node_import_finish(in->import, in->end_count, in->end_crc);
    } else if (ns->now_ms - in->heard_ms >= silence_max_ms(ns)) {
        in_fail(ns, SNAPSHOT_FAILED, "the sender is silent");
    }
}

static bool is_taking(const struct incoming *in)
{
    return in->phase != IN_IDLE && in->phase != IN_DISCARDING;
}

void in_turn(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    if (in->phase == IN_RECEIVING) receiving_turn(ns);
    if (MUTANT(CURRENT_BEFORE_MARK) && in->phase == IN_SETTLING) replace_begin(ns);
    if (in->phase == IN_SETTLING && ns->out.phase == OUT_IDLE) {
        in->phase = IN_BEGIN_MARK;
        in->wal_seq = ns->hooks.log(ns->hooks.ctx, &(struct wal_submission){
            .snapshot_begin = { in->view.applied_index, in->view.applied_term } });
    }
    if (in->phase == IN_QUIET && ns->hooks.quiet(ns->hooks.ctx)) install(ns);
    if (is_taking(in) && ns->now_ms - in->said_ms >= NODE_SNAPSHOT_SIGN_MS) say_where(ns);
}

static void discard_done(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    struct errmsg em;
    if (node_import_result(in->import, &em) != OK) {
        log_warning("snapshot remains until the next start reason=\"%s\"", em.text);
    }
    node_import_free(in->import);
    in->import = NULL;
    in->phase = IN_IDLE;
}

static void import_answered(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    struct errmsg em;
    in->busy = false;
    enum err e = node_import_result(in->import, &em);
    if (e != OK) {
        in_fail(ns, reason_of(e), em.text);
    } else if (in->phase == IN_OPENING) {
        in->phase = IN_RECEIVING;
        in->heard_ms = ns->now_ms;
        say_where(ns);
    } else if (in->phase == IN_RECEIVING) {
        in->taken++;
        in->heard_ms = ns->now_ms;
        say_where(ns);
    } else {
        ASSERT(in->phase == IN_READING);
        read_back_done(ns);
    }
}

bool in_take(struct node_snapshot *ns, const struct work *w)
{
    struct incoming *in = &ns->in;
    if (w == &in->replace) {
        replace_done(ns);
        return true;
    }
    if (in->import == NULL || w != node_import_work(in->import)) return false;
    if (in->phase != IN_DISCARDING) {
        import_answered(ns);
    } else if (node_import_is_discarded(in->import)) {
        in->busy = false;
        discard_done(ns);
    } else {
        discard_begin(in); /* what was under way when it was given up */
    }
    return true;
}

/* What db.current may name already stays; the next start goes on with it. */
void in_stop(struct node_snapshot *ns)
{
    struct incoming *in = &ns->in;
    if (in->phase == IN_IDLE || in->phase == IN_DISCARDING) return;
    if (in->phase < IN_REPLACING) {
        in_fail(ns, SNAPSHOT_FAILED, "this node ends");
        return;
    }
    if (in->busy) return; /* asked again when db.current is written */
    snapshot_dispose(ns, in->imported.store, in->imported.state, "");
    in->phase = IN_IDLE;
}

/* --- messages ------------------------------------------------------------------------------------ */

static bool formats_are_known(const struct snapshot_msg *m)
{
    return m->format == SNAPSHOT_MSG_FORMAT && m->store_format == STORE_EXPORT_FORMAT &&
           m->checkpoint_format <= CHECKPOINT_FORMAT;
}

static void in_start(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    struct incoming *in = &ns->in;
    char path[DISK_PATH_BYTES_MAX];
    ASSERT(in->import == NULL && in->queue_count == 0);
    in->peer = peer;
    in->id = m->id;
    in->view = m->view;
    in->next = (struct db_current){ ns->current.number + 1, m->view.applied_index,
                                    m->view.applied_term };
    in->term = ns->hooks.term(ns->hooks.ctx);
    in->got = in->taken = 0;
    in->ended = false;
    in->said_ms = in->heard_ms = ns->now_ms;
    in->phase = IN_OPENING;
    in->busy = true;
    db_path(ns->dir, in->next.number, path);
    struct node_import_options options = {
        .dir = path, .store = ns->options.store, .done = &ns->done,
        .hash_seed = ns->options.hash_seed, .reserve_bytes = ns->options.reserve_bytes,
        .view = m->view,
    };
    in->import = node_import_new(&options);
    log_notice("snapshot receive begins peer=%llu index=%llu", (unsigned long long)peer,
               (unsigned long long)m->view.applied_index);
}

void in_on_begin(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    struct incoming *in = &ns->in;
    if (in->installed_id == m->id && in->installed_peer == peer) {
        say_installed(ns);
        return;
    }
    if (is_taking(in) && in->peer == peer && in->id == m->id) {
        in->heard_ms = ns->now_ms;
        say_where(ns);
        return;
    }
    bool forgotten = is_taking(in) && in->peer == peer && in->phase <= IN_RECEIVING;
    if (forgotten) in_fail(ns, SNAPSHOT_UNKNOWN, "the sender began another one");
    if (in->phase != IN_IDLE || ns->disposal.busy) {
        refuse(ns, peer, m->id, SNAPSHOT_BUSY);
        return;
    }
    if (!formats_are_known(m)) {
        log_warning("snapshot refused: a format of another version peer=%llu",
                    (unsigned long long)peer);
        refuse(ns, peer, m->id, SNAPSHOT_UNSUPPORTED);
        return;
    }
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_BEGIN, .index = m->view.applied_index,
                             .term = m->view.applied_term };
    if (snapshot_tell(ns, &ev) != OK) {
        refuse(ns, peer, m->id, SNAPSHOT_UNWANTED);
        return;
    }
    in_start(ns, peer, m);
}

/* Is it of the transfer under way? If not, the sender is told so. */
static bool is_known(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    const struct incoming *in = &ns->in;
    if (in->installed_id == m->id && in->installed_peer == peer) {
        say_installed(ns);
        return false;
    }
    if (is_taking(in) && in->peer == peer && in->id == m->id) return true;
    refuse(ns, peer, m->id, SNAPSHOT_UNKNOWN);
    return false;
}

void in_on_chunk(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    struct incoming *in = &ns->in;
    if (!is_known(ns, peer, m)) return;
    if (m->seq <= in->got) return; /* again */
    if (in->phase > IN_RECEIVING) return;
    if (m->seq != in->got + 1) {
        in_fail(ns, SNAPSHOT_GAP, "a chunk is missing");
    } else if (in->phase == IN_OPENING || in->ended || in->queue_count == NODE_SNAPSHOT_WINDOW) {
        in_fail(ns, SNAPSHOT_DAMAGED, "a chunk that was not asked for");
    } else {
        struct buf *to = &in->queue[in->queue_count++];
        *to = (struct buf){ 0 };
        buf_append_slice(to, m->bytes);
        in->got++;
        in->heard_ms = ns->now_ms;
        ns->stats.received_bytes += m->bytes.len;
    }
}

void in_on_end(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    struct incoming *in = &ns->in;
    if (!is_known(ns, peer, m) || in->phase > IN_RECEIVING) return;
    if (m->seq != in->got) {
        in_fail(ns, SNAPSHOT_GAP, "a chunk is missing");
        return;
    }
    in->ended = true;
    in->end_count = m->count;
    in->end_crc = m->crc;
    in->heard_ms = ns->now_ms;
}

void in_on_damage(struct node_snapshot *ns, uint64_t peer)
{
    const struct incoming *in = &ns->in;
    if (in->peer == peer && (in->phase == IN_OPENING || in->phase == IN_RECEIVING)) {
        in_fail(ns, SNAPSHOT_DAMAGED, "a message was damaged on its way");
    }
}
