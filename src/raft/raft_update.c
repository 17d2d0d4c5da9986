/* raft/raft_update.c - collects what is to be done until somebody takes it. */
#include "raft/raft_int.h"

/* --- the outbox ------------------------------------------------------------------------------ */

/* Makes room for one more element behind `count`. */
static void *grown(void *at, size_t *cap, size_t count, size_t element_bytes)
{
    if (LIKELY(count < *cap)) return at;
    *cap = *cap == 0 ? 16 : *cap * 2;
    return mem_realloc(at, *cap * element_bytes);
}

static void msg_push(struct outbox *o, const struct raft_msg *m, size_t entry_offset)
{
    ASSERT(!o->given);
    if (o->msg_count == RAFT_OUTBOX_MAX) return;
    size_t cap = o->msg_cap;
    o->msgs = grown(o->msgs, &cap, o->msg_count, sizeof *o->msgs);
    o->entry_offset = grown(o->entry_offset, &o->msg_cap, o->msg_count, sizeof *o->entry_offset);
    ASSERT(cap == o->msg_cap);
    o->entry_offset[o->msg_count] = entry_offset;
    o->msgs[o->msg_count++] = *m;
}

static void held_push(struct outbox *o, const struct raft_msg *m, uint64_t need_seq)
{
    if (o->held_count == RAFT_OUTBOX_MAX) return;
    o->held = grown(o->held, &o->held_cap, o->held_count, sizeof *o->held);
    o->held[o->held_count++] = (struct held_msg){ .msg = *m, .need_seq = need_seq };
}

/* [P] figure 2: currentTerm and votedFor are "updated on stable storage before responding to RPCs";
 * here that goes for every message, since each of them tells the term. */
void send_msg(struct raft *r, struct raft_msg msg)
{
    ASSERT(msg.to != 0 && msg.to != r->cfg.id);
    ASSERT(msg.entry_count == 0);
    msg.from = r->cfg.id;
    if (msg.term == 0) msg.term = r->hard.term;
    if (r->hard_seq <= r->durable_seq) {
        msg_push(&r->out, &msg, 0);
    } else {
        held_push(&r->out, &msg, r->hard_seq);
    }
}

void outbox_entry_push(struct raft *r, const struct raft_entry *e)
{
    struct outbox *o = &r->out;
    ASSERT(!o->given);
    o->entries = grown(o->entries, &o->entry_cap, o->entry_count, sizeof *o->entries);
    o->entries[o->entry_count++] = *e;
    if (e->body != NULL) blob_ref(e->body);
}

/* The entries are the newest entry_count of the outbox. */
void send_append(struct raft *r, const struct raft_msg *head, size_t entry_count)
{
    ASSERT(r->role == RAFT_LEADER);
    ASSERT(r->hard_seq <= r->durable_seq); /* I9 */
    ASSERT(entry_count <= r->out.entry_count);
    struct raft_msg msg = *head;
    msg.type = RAFT_MSG_APPEND;
    msg.from = r->cfg.id;
    msg.term = r->hard.term;
    msg.entry_count = entry_count;
    msg_push(&r->out, &msg, r->out.entry_count - entry_count);
}

void outbox_release(struct raft *r)
{
    struct outbox *o = &r->out;
    size_t kept = 0;
    for (size_t i = 0; i < o->held_count; i++) {
        if (o->held[i].need_seq <= r->durable_seq) {
            msg_push(o, &o->held[i].msg, 0);
        } else {
            o->held[kept++] = o->held[i];
        }
    }
    o->held_count = kept;
}

void outbox_recycle(struct raft *r)
{
    struct outbox *o = &r->out;
    if (!o->given) return;
    o->given = false;
    for (size_t i = 0; i < o->entry_count; i++) blob_unref(o->entries[i].body);
    o->entry_count = 0;
    o->msg_count = 0;
    o->wish_count = 0;
}

void outbox_deinit(struct raft *r)
{
    struct outbox *o = &r->out;
    o->given = true;
    outbox_recycle(r);
    mem_free(o->msgs);
    mem_free(o->entry_offset);
    mem_free(o->entries);
    mem_free(o->held);
    *o = (struct outbox){ 0 };
}

void hard_changed(struct raft *r)
{
    r->hard_dirty = true;
    r->hard_seq = r->write_seq + 1; /* the next write */
}

/* --- the update ------------------------------------------------------------------------------ */

static void take_write(struct raft *r, struct raft_update *out)
{
    out->hard = r->hard;
    bool append = r->stored_index < last_index(r);
    if (!append && !r->hard_dirty && r->truncate_from == 0) return;

    if (r->durable_seq == r->write_seq) r->write_since_ms = r->clock_ms;
    r->write_seq++;
    out->write = (struct raft_write){ r->write_seq, r->hard.term, last_index(r) };
    out->hard_changed = r->hard_dirty;
    out->truncate_from = r->truncate_from;
    if (append) {
        out->append_from = r->stored_index + 1;
        out->append_to = last_index(r);
    }
    ASSERT(!r->hard_dirty || r->hard_seq == r->write_seq);
    r->stored_index = last_index(r);
    r->truncate_from = 0;
    r->hard_dirty = false;
}

static void take_committed(struct raft *r, struct raft_update *out)
{
    uint64_t upto = r->hard.commit;
    if (!r->cfg.apply_early) upto = MIN(upto, r->durable_index); /* I2 */
    if (upto <= r->handed_index) return;
    out->apply_from = r->handed_index + 1;
    out->apply_to = upto;
    r->handed_index = upto;
}

static void take_msgs(struct raft *r, struct raft_update *out)
{
    struct outbox *o = &r->out;
    for (size_t i = 0; i < o->msg_count; i++) {
        if (o->msgs[i].entry_count != 0) o->msgs[i].entries = o->entries + o->entry_offset[i];
    }
    out->msgs = o->msgs;
    out->msg_count = o->msg_count;
    out->wishes = o->wishes;
    out->wish_count = o->wish_count;
    o->given = true;
}

static void take_status(struct raft *r, struct raft_update *out)
{
    out->status_changed = r->told_role != r->role || r->told_term != r->hard.term ||
                          r->told_leader != r->leader;
    r->told_role = r->role;
    r->told_term = r->hard.term;
    r->told_leader = r->leader;
    out->members_changed = r->members_changed;
    r->members_changed = false;
    out->lost_peer = r->lost_peer;
    r->lost_peer = 0;
    out->read_id = r->read_ready_id;
    out->read_index = r->read_ready_index;
    r->read_ready_id = 0;
    r->read_ready_index = 0;
}

bool raft_update_take(struct raft *r, struct raft_update *out)
{
    ASSERT(r->started);
    outbox_recycle(r);
    *out = (struct raft_update){ 0 };
    if (r->role == RAFT_LEADER) {
        send_appends(r);
        transfer_step(r);
        leave_step(r);
    } else {
        send_ack(r);
    }
    reads_step(r);
    take_write(r, out);
    take_committed(r, out);
    take_msgs(r, out);
    take_status(r, out);
    ASSERT(r->handed_index <= r->hard.commit);
    return out->write.seq != 0 || out->msg_count != 0 || out->apply_from != 0 ||
           out->read_id != 0 || out->wish_count != 0 || out->lost_peer != 0 ||
           out->status_changed || out->members_changed;
}
