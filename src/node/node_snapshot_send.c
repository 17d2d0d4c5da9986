/* node/node_snapshot_send.c - the outgoing transfer: an export, a window of chunks, an answer. */
#include "node/node_snapshot_int.h"

#include "base/log.h"
#include "state/checkpoint.h"

/* --- ending ---------------------------------------------------------------------------------- */

static void out_close(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    if (o->busy) {
        o->phase = OUT_CLOSING;
        return;
    }
    store_export_free(o->export);
    o->export = NULL;
    o->phase = OUT_IDLE;
}

static void out_finish(struct node_snapshot *ns, bool ok, const char *why)
{
    struct outgoing *o = &ns->out;
    log_notice("snapshot send %s peer=%llu index=%llu chunks=%llu reason=\"%s\"",
               ok ? "done" : "failed", (unsigned long long)o->peer,
               (unsigned long long)o->view.applied_index, (unsigned long long)o->sent, why);
    if (ok) {
        ns->stats.sent++;
        o->held_index = o->keep_index;
        o->held_until_ms = ns->now_ms + NODE_SNAPSHOT_HOLD_MS;
    } else {
        ns->stats.send_failed++;
    }
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_SENT, .peer = o->peer, .ok = ok };
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
    out_close(ns);
}

void out_stop(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    if (o->phase != OUT_IDLE && o->phase != OUT_CLOSING) out_finish(ns, false, "given up here");
}

/* --- sending --------------------------------------------------------------------------------- */

void out_start(struct node_snapshot *ns, uint64_t peer, uint64_t stored_index)
{
    struct outgoing *o = &ns->out;
    ASSERT(o->phase == OUT_IDLE && o->export == NULL);
    uint64_t held_index = o->held_index;
    int64_t held_until_ms = o->held_until_ms;
    *o = (struct outgoing){
        .phase = OUT_VIEW, .peer = peer, .id = ns->next_id++, .busy = true,
        .keep_index = stored_index, .held_index = held_index, .held_until_ms = held_until_ms,
        .heard_ms = ns->now_ms, .progress_ms = ns->now_ms,
    };
    o->export = store_export_new(ns->present, &ns->done);
}

static void say_begin(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    o->said_ms = ns->now_ms;
    snapshot_send(ns, o->peer, &(struct snapshot_msg){
        .kind = SNAPSHOT_BEGIN, .id = o->id, .format = SNAPSHOT_MSG_FORMAT,
        .store_format = STORE_EXPORT_FORMAT, .checkpoint_format = CHECKPOINT_FORMAT, .view = o->view });
}

static void say_end(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    o->said_ms = ns->now_ms;
    snapshot_send(ns, o->peer, &(struct snapshot_msg){
        .kind = SNAPSHOT_END, .id = o->id, .seq = o->sent, .count = o->count, .crc = o->crc });
}

static void next_chunk(struct outgoing *o)
{
    o->busy = true;
    store_export_next(o->export);
}

static void view_done(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    o->view = store_export_view(o->export);
    ASSERT(o->view.applied_index >= o->keep_index);
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_SENDING, .peer = o->peer,
                             .index = o->view.applied_index };
    enum err e = snapshot_tell(ns, &ev);
    ASSERT(e == OK);
    log_notice("snapshot send begins peer=%llu index=%llu", (unsigned long long)o->peer,
               (unsigned long long)o->view.applied_index);
    o->phase = OUT_BEGUN;
    o->heard_ms = o->progress_ms = ns->now_ms;
    say_begin(ns);
    next_chunk(o); /* while the answer is on its way */
}

/* Sends what was read. The export is closed with its last chunk: it pins nothing while the peer
 * works. */
static void send_chunk(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    struct slice bytes = store_export_chunk(o->export);
    o->chunk_ready = false;
    if (bytes.len != 0) {
        if (o->sent == o->acked) o->heard_ms = o->progress_ms = ns->now_ms;
        o->said_ms = ns->now_ms;
        ns->stats.sent_bytes += bytes.len;
        snapshot_send(ns, o->peer, &(struct snapshot_msg){ .kind = SNAPSHOT_CHUNK, .id = o->id,
                                                           .seq = ++o->sent, .bytes = bytes });
    }
    if (!store_export_at_end(o->export)) {
        next_chunk(o);
        return;
    }
    o->count = store_export_count(o->export);
    o->crc = store_export_crc(o->export);
    store_export_free(o->export);
    o->export = NULL;
    o->phase = OUT_ENDED;
    o->heard_ms = o->progress_ms = ns->now_ms;
    say_end(ns);
}

bool out_take(struct node_snapshot *ns, const struct work *w)
{
    struct outgoing *o = &ns->out;
    if (o->export == NULL || w != store_export_work(o->export)) return false;
    o->busy = false;
    struct errmsg em;
    if (o->phase == OUT_CLOSING) {
        out_close(ns);
    } else if (store_export_result(o->export, &em) != OK) {
        out_finish(ns, false, em.text);
    } else if (o->phase == OUT_VIEW) {
        view_done(ns);
    } else {
        o->chunk_ready = true;
    }
    return true;
}

/* Who works says so as long as it lives, also when its disk hangs: meanwhile the log is kept for it and
 * others wait for a snapshot of their own. */
static int64_t stall_ms(const struct outgoing *o)
{
    if (o->phase != OUT_ENDED) return NODE_SNAPSHOT_STALL_MS;
    return NODE_SNAPSHOT_STALL_MS + (int64_t)o->sent * NODE_SNAPSHOT_CHUNK_MS;
}

void out_turn(struct node_snapshot *ns)
{
    struct outgoing *o = &ns->out;
    int64_t now_ms = ns->now_ms;
    if (o->phase == OUT_SENDING && o->chunk_ready && o->sent - o->acked < NODE_SNAPSHOT_WINDOW) {
        send_chunk(ns);
    }
    bool asks = o->phase == OUT_BEGUN || o->phase == OUT_ENDED;
    bool waits = asks || (o->phase == OUT_SENDING && o->sent != o->acked);
    if (!waits) return;
    if (now_ms - o->heard_ms >= NODE_SNAPSHOT_ANSWER_MS) {
        out_finish(ns, false, "the peer does not answer");
    } else if (now_ms - o->progress_ms >= stall_ms(o)) {
        out_finish(ns, false, "the peer does not get on");
    } else if (asks && now_ms - MAX(o->said_ms, o->heard_ms) >= NODE_SNAPSHOT_REPEAT_MS) {
        if (o->phase == OUT_BEGUN) {
            say_begin(ns);
        } else {
            say_end(ns);
        }
    }
}

/* --- answers --------------------------------------------------------------------------------- */

static bool is_ours(const struct outgoing *o, uint64_t peer, uint64_t id)
{
    bool said = o->phase == OUT_BEGUN || o->phase == OUT_SENDING || o->phase == OUT_ENDED;
    return said && o->peer == peer && o->id == id;
}

enum err out_on_ack(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    struct outgoing *o = &ns->out;
    if (!is_ours(o, peer, m->id)) return OK; /* of a transfer that ended */
    if (m->seq > o->sent) return ERR_PROTO;
    if (o->phase == OUT_BEGUN && m->stage == SNAPSHOT_WAITS) {
        o->phase = OUT_SENDING;
        o->heard_ms = o->progress_ms = ns->now_ms;
    }
    if (m->seq > o->acked) {
        o->acked = m->seq;
        o->heard_ms = o->progress_ms = ns->now_ms;
    }
    if (m->stage == SNAPSHOT_WORKS) o->heard_ms = ns->now_ms;
    if (m->stage == SNAPSHOT_INSTALLED && o->phase == OUT_ENDED) out_finish(ns, true, "installed");
    return OK;
}

void out_on_refuse(struct node_snapshot *ns, uint64_t peer, const struct snapshot_msg *m)
{
    if (is_ours(&ns->out, peer, m->id)) out_finish(ns, false, snapshot_reason_name(m->reason));
}
