/* node/node_snapshot.c - see node_snapshot.h: life, the turn, messages in. */
#include "node/node_snapshot_int.h"

#include "base/log.h"
#include "disk/disk_wait.h"

#define FREE_POLL_MS 100

/* --- life ---------------------------------------------------------------------------------------- */

enum err node_snapshot_new(const struct node_snapshot_options *options,
                           const struct node_snapshot_hooks *hooks, struct node_snapshot **out,
                           struct errmsg *em)
{
    struct done_queue done;
    ASSERT(options->store.workers != NULL);
    ASSERT(strlen(options->dir) < DISK_PATH_BYTES_MAX);
    TRY(done_queue_init(&done, em));
    struct node_snapshot *ns = mem_zalloc(sizeof *ns);
    ns->options = *options;
    memcpy(ns->dir, options->dir, strlen(options->dir) + 1);
    ns->options.dir = ns->dir;
    ns->hooks = *hooks;
    ns->done = done;
    ns->present = options->present;
    ns->current = options->current;
    ns->next_id = u64_mix(options->random) | 1; /* 0 is nobody's */
    *out = ns;
    return OK;
}

void node_snapshot_stop(struct node_snapshot *ns)
{
    ns->stopping = true;
    out_stop(ns);
    in_stop(ns);
}

static void take_done(struct node_snapshot *ns);

bool node_snapshot_is_idle(struct node_snapshot *ns)
{
    take_done(ns);
    if (ns->stopping) in_stop(ns);
    return ns->out.phase == OUT_IDLE && ns->in.phase == IN_IDLE && !ns->disposal.busy &&
           !wish_is_reading(ns);
}

void node_snapshot_free(struct node_snapshot *ns)
{
    if (ns == NULL) return;
    node_snapshot_stop(ns);
    while (!node_snapshot_is_idle(ns)) done_queue_wait(&ns->done, FREE_POLL_MS);
    done_queue_deinit(&ns->done);
    buf_deinit(&ns->payload);
    mem_free(ns);
}

/* --- what the parts share ------------------------------------------------------------------------ */

void snapshot_send(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    if (ns->stopping) return;
    enum node_channel channel = m->kind == SNAPSHOT_CHUNK ? NODE_CHANNEL_BULK : NODE_CHANNEL_MAIN;
    /* BEGIN and END keep their places among the chunks. */
    if (m->kind == SNAPSHOT_BEGIN || m->kind == SNAPSHOT_END) channel = NODE_CHANNEL_BULK;
    snapshot_msg_encode(&ns->payload, m);
    ns->hooks.send(ns->hooks.ctx, peer, channel, buf_slice(&ns->payload));
    if (ns->payload.cap > 2 * STORE_EXPORT_CHUNK_BYTES) buf_deinit(&ns->payload);
}

enum err snapshot_tell(struct node_snapshot *ns, const struct raft_event *ev)
{
    return ns->stopping ? OK : ns->hooks.raft(ns->hooks.ctx, ev);
}

static void dispose_run(struct work *w)
{
    struct disposal *d = CONTAINER_OF(w, struct disposal, work);
    store_close(d->store);
    state_free(d->state);
    d->result = d->path[0] == '\0' ? OK : db_remove(d->io, d->path, &d->em);
}

void snapshot_dispose(struct node_snapshot *ns, struct store *store, struct state *s,
                      const char *path)
{
    struct disposal *d = &ns->disposal;
    ASSERT(!d->busy);
    d->busy = true;
    d->io = ns->options.io;
    d->store = store;
    d->state = s;
    memcpy(d->path, path, strlen(path) + 1);
    d->work = (struct work){ .run = dispose_run, .done = &ns->done };
    workers_submit(ns->options.store.workers, &d->work);
}

/* --- the turn -------------------------------------------------------------------------------------- */

static void disposed(struct node_snapshot *ns)
{
    struct disposal *d = &ns->disposal;
    d->busy = false;
    if (d->result == OK) return;
    log_warning("old store remains until the next start reason=\"%s\"", d->em.text);
}

static void take_done(struct node_snapshot *ns)
{
    struct work *next;
    for (struct work *w = done_queue_take(&ns->done); w != NULL; w = next) {
        next = w->next;
        if (w == &ns->disposal.work) {
            disposed(ns);
            continue;
        }
        bool taken = out_take(ns, w) || in_take(ns, w) || wish_take(ns, w);
        ASSERT(taken);
    }
}

void node_snapshot_turn(struct node_snapshot *ns, int64_t now_ms)
{
    if (ns->stopping) return;
    ns->now_ms = now_ms;
    take_done(ns);
    wish_turn(ns);
    out_turn(ns);
    in_turn(ns);
}

/* Timeouts are long: a second is near enough. */
int64_t node_snapshot_sleep_ms(const struct node_snapshot *ns, int64_t now_ms)
{
    const struct incoming *in = &ns->in;
    (void)now_ms;
    if (in->phase == IN_QUIET || in->phase == IN_SETTLING) return NODE_SNAPSHOT_POLL_MS;
    if (in->phase == IN_RECEIVING && in->queue_count != 0 && !in->busy) return NODE_SNAPSHOT_POLL_MS;
    if (in->phase != IN_IDLE || ns->out.phase != OUT_IDLE) return NODE_SNAPSHOT_SIGN_MS / 2;
    return ns->wishes_waiting > 0 ? NODE_SNAPSHOT_POLL_MS : -1;
}

struct done_queue *node_snapshot_done_queue(struct node_snapshot *ns)
{
    return &ns->done;
}

/* --- messages --------------------------------------------------------------------------------------- */

enum err node_snapshot_receive(struct node_snapshot *ns, uint64_t peer, struct slice payload)
{
    struct snapshot_msg m;
    if (ns->stopping) return OK;
    enum err e = snapshot_msg_decode(payload, &m);
    if (e == ERR_CORRUPT) in_on_damage(ns, peer);
    TRY(e);
    switch (m.kind) {
    case SNAPSHOT_BEGIN: in_on_begin(ns, peer, &m); return OK;
    case SNAPSHOT_CHUNK: in_on_chunk(ns, peer, &m); return OK;
    case SNAPSHOT_END: in_on_end(ns, peer, &m); return OK;
    case SNAPSHOT_ACK: return out_on_ack(ns, peer, &m);
    case SNAPSHOT_REFUSE: out_on_refuse(ns, peer, &m); return OK;
    case SNAPSHOT_KIND_LAST: break;
    }
    return ERR_PROTO;
}

/* --- looking ------------------------------------------------------------------------------------------ */

uint64_t node_snapshot_keep_index(const struct node_snapshot *ns, int64_t now_ms)
{
    const struct outgoing *o = &ns->out;
    uint64_t keep = UINT64_MAX;
    if (o->phase != OUT_IDLE && o->phase != OUT_CLOSING) keep = o->keep_index;
    if (now_ms < o->held_until_ms) keep = MIN(keep, o->held_index);
    return keep;
}

bool node_snapshot_is_installing(const struct node_snapshot *ns)
{
    return ns->in.phase >= IN_BEGIN_MARK && ns->in.phase <= IN_QUIET;
}

struct store *node_snapshot_incoming_store(const struct node_snapshot *ns)
{
    return ns->in.import == NULL ? NULL : node_import_store(ns->in.import);
}

void node_snapshot_stats_get(const struct node_snapshot *ns, struct node_snapshot_stats *out)
{
    *out = ns->stats;
    bool sending = ns->out.phase != OUT_IDLE && ns->out.phase != OUT_CLOSING;
    out->sending_to = sending ? ns->out.peer : 0;
    out->receiving = ns->in.phase != IN_IDLE;
}

/* --- at the start --------------------------------------------------------------------------------------- */

bool node_swap_is_unfinished(const struct db_current *current, uint64_t applied_index,
                             uint64_t applied_term, const struct wal_found *log)
{
    if (current->index == 0 || applied_index != current->index) return false;
    if (applied_term != current->term) return false;
    bool begun = log->snapshot_begin.index == current->index &&
                 log->snapshot_begin.term == current->term;
    return begun && log->snapshot.index != current->index;
}
