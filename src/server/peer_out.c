/* server/peer_out.c - see peer.h. The connections that this member opened, and sends on. */
#include "server/peer_int.h"

#include "base/log.h"

static int64_t now_ms_of(const struct peer *peer) { return loop_now_ms(peer->peers->loop); }
static bool is_up(const struct peer_out *o) { return o->dial.phase == DIAL_UP; }

/* --- the log -------------------------------------------------------------------------------------- */

static void log_forget(struct peer *peer)
{
    for (size_t i = 0; i < PEER_LOG_REASONS; i++) peer->logged[i].at_ms = INT64_MIN / 2;
}

/* The same words once a minute, and no more than so many others: every attempt would fill the log. */
static bool log_is_due(struct peer *peer, const char *why)
{
    int64_t now_ms = now_ms_of(peer);
    uint64_t words = bytes_hash(why, strlen(why), peer->peers->options.random);
    size_t oldest = 0;
    for (size_t i = 0; i < PEER_LOG_REASONS; i++) {
        if (peer->logged[i].at_ms < peer->logged[oldest].at_ms) oldest = i;
        bool is_recent = now_ms - peer->logged[i].at_ms < PEER_LOG_PAUSE_MS;
        if (is_recent && peer->logged[i].words == words) return false;
    }
    if (now_ms - peer->logged[oldest].at_ms < PEER_LOG_PAUSE_MS) return false;
    peer->logged[oldest].words = words;
    peer->logged[oldest].at_ms = now_ms;
    return true;
}

static void log_failed(struct peer *peer, enum log_level level, const char *event, const char *why)
{
    if (!log_is_due(peer, why)) return;
    log_write(level, "%s member=%llu address=%s reason=\"%s\"", event, (unsigned long long)peer->id,
              peer->address, why);
}

/* --- life -------------------------------------------------------------------------------------- */

struct peer *peer_new(struct peers *p, const struct raft_member *m)
{
    struct peer *peer = mem_zalloc(sizeof *peer);
    peer->peers = p;
    peer->id = m->id;
    peer->directory_id = m->directory_id;
    log_forget(peer);
    memcpy(peer->address, m->peer_address, sizeof peer->address);
    memcpy(peer->name, m->name, sizeof peer->name);
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) {
        struct peer_out *o = &peer->outs[i];
        o->peer = peer;
        o->channel = (enum node_channel)i;
        chain_init(&o->pending, loop_pool(p->loop));
        uint64_t random = u64_mix(p->options.random + m->id + i);
        dial_init(&o->dial, &p->dial, &peer_out_hooks, o, peer->address, random);
        if (i != NODE_CHANNEL_BULK) dial_start(&o->dial, now_ms_of(peer));
    }
    return peer;
}

void peer_free(struct peer *peer)
{
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) {
        dial_stop(&peer->outs[i].dial);
        chain_deinit(&peer->outs[i].pending);
    }
    mem_free(peer);
}

void peer_address(struct peer *peer, const char *address)
{
    if (strcmp(peer->address, address) == 0) return;
    ASSERT(strlen(address) < sizeof peer->address);
    memcpy(peer->address, address, strlen(address) + 1);
    peer->lost = true;
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) {
        struct dial *d = &peer->outs[i].dial;
        bool wanted = d->phase != DIAL_STOPPED;
        peer->outs[i].at_said = false;
        dial_stop(d);
        dial_address(d, address);
        if (wanted) dial_start(d, now_ms_of(peer));
    }
}

void peer_name(struct peer *peer, const char *name)
{
    ASSERT(strlen(name) < sizeof peer->name);
    memcpy(peer->name, name, strlen(name) + 1);
}

static bool is_loopback(struct slice address)
{
    return slice_starts(address, SLICE_LIT("127.")) || slice_starts(address, SLICE_LIT("[::1]"));
}

/* One that listens on all addresses may know no better than 127.0.0.1: on this machine that is another. */
static bool may_be_there(const struct peer *peer, struct slice said)
{
    if (slice_eq(said, slice_of(peer->peers->self.address))) return false;
    return !is_loopback(said) || is_loopback(slice_of(peer->address));
}

void peer_is_there(struct peer *peer, struct slice said)
{
    if (!may_be_there(peer, said)) said = SLICE_NONE;
    ASSERT(said.len < sizeof peer->said);
    if (said.len > 0) memcpy(peer->said, said.at, said.len);
    peer->said[said.len] = '\0';
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) dial_soon(&peer->outs[i].dial, now_ms_of(peer));
}

/* Who speaks, but does not answer at its address, may be at another that this member's log does not
 * say yet, and without an answer never will: then its own word is tried in turn with the log's. */
static void address_turn(struct peer_out *o)
{
    const struct peer *peer = o->peer;
    bool known = peer->said[0] != '\0' && strcmp(peer->said, peer->address) != 0;
    o->at_said = !o->at_said && known && peer_in_speaks(peer->peers, peer->id);
    dial_address(&o->dial, o->at_said ? peer->said : peer->address);
}

/* --- handshake ----------------------------------------------------------------------------------- */

/* What waited for the connection is lost; the first payload that comes opens it again. */
static void bulk_give_up(struct peer_out *o)
{
    if (o->channel != NODE_CHANNEL_BULK) return;
    chain_deinit(&o->pending);
    dial_stop(&o->dial);
}

static void out_closed(void *user, const char *why)
{
    struct peer_out *o = user;
    struct peer *peer = o->peer;
    peer->lost = true;
    o->unflushed = false;
    if (o->channel == NODE_CHANNEL_MAIN) {
        if (peer->was_up) log_forget(peer);
        log_failed(peer, LOG_WARNING, peer->was_up ? "peer lost" : "peer unreachable", why);
        peer->was_up = false;
    }
    address_turn(o);
    bulk_give_up(o);
}

static void out_end(struct peer_out *o, bool late, const char *event, const char *why)
{
    if (late) log_failed(o->peer, LOG_WARNING, event, why);
    else log_info("%s member=%llu reason=\"%s\"", event, (unsigned long long)o->peer->id, why);
    o->peer->lost = true;
    o->peer->was_up = o->peer->was_up && o->channel != NODE_CHANNEL_MAIN;
    o->unflushed = false;
    dial_again(&o->dial, late, now_ms_of(o->peer));
    address_turn(o);
    bulk_give_up(o);
}

static void out_opened(void *user, struct conn *conn)
{
    struct peer_out *o = user;
    struct peer *peer = o->peer;
    const struct peer_identity *self = &peer->peers->self;
    struct errmsg em;
    if (peer_cert_require(conn, peer->address, peer->name, &em) != OK) {
        peer->peers->stats.refused++;
        out_end(o, true, "peer refused", em.text);
        return;
    }
    peer_hello_put(conn_out(conn), &(struct peer_hello){
        .channel = (uint8_t)o->channel, .group = self->group, .cluster_id = self->cluster_id,
        .from_id = self->member_id, .directory_id = self->directory_id, .to_id = peer->id,
        .name = slice_of(self->name), .address = slice_of(self->address),
    });
    conn_dirty(conn);
}

static void out_welcome(struct peer_out *o, const struct peer_welcome *w)
{
    struct peer *peer = o->peer;
    if (w->member_id != peer->id) {
        out_end(o, true, "peer refused", "another member answers at its address");
        return;
    }
    if (peer->directory_id != 0 && w->directory_id != peer->directory_id) {
        out_end(o, true, "peer refused", "it answers with another data directory than the recorded one: "
                "remove the member and let it join again");
        return;
    }
    dial_established(&o->dial, now_ms_of(peer));
    o->used_ms = now_ms_of(peer);
    if (o->channel == NODE_CHANNEL_MAIN) {
        log_notice("peer connected member=%llu address=%s", (unsigned long long)peer->id, o->dial.address);
        if (peer->ever_up) peer->peers->stats.reconnects++;
        peer->ever_up = true;
        peer->was_up = true;
    }
    if (chain_bytes(&o->pending) == 0) return;
    chain_move(conn_out(o->dial.conn), &o->pending);
    conn_dirty(o->dial.conn);
}

static void out_frame(struct peer_out *o, const struct peer_frame *f)
{
    struct errmsg em;
    struct peer_welcome welcome;
    struct peer_refusal refusal;
    if (!is_up(o) && f->kind == PEER_WELCOME && peer_welcome_decode(f->payload, &welcome, &em) == OK) {
        out_welcome(o, &welcome);
    } else if (f->kind == PEER_REFUSE && peer_refusal_decode(f->payload, &refusal, &em) == OK) {
        out_end(o, refusal.final, "peer refuses this member", refusal.text);
    } else {
        out_end(o, true, "peer refused", "it answers with what is no handshake");
    }
}

static size_t out_bytes(void *user, struct conn *conn, struct slice in)
{
    struct peer_out *o = user;
    struct peer_frame f;
    struct errmsg em;
    size_t need = 0;
    enum err e = peer_frame_decode(in, true, &f, &need, &em);
    if (e == ERR_AGAIN) {
        conn_want(conn, need);
        return 0;
    }
    if (e != OK) {
        out_end(o, true, "peer refused", em.text);
        return in.len;
    }
    out_frame(o, &f);
    return f.used_bytes;
}

const struct dial_hooks peer_out_hooks = {
    .opened = out_opened, .bytes = out_bytes, .closed = out_closed,
};

/* --- sending --------------------------------------------------------------------------------------- */

static size_t unsent(const struct peer_out *o)
{
    return chain_bytes(conn_out(o->dial.conn));
}

/* The connection for it, or NULL. */
static struct peer_out *choose(struct peer *peer, enum node_channel channel)
{
    struct peer_out *own = &peer->outs[channel];
    struct peer_out *main = &peer->outs[NODE_CHANNEL_MAIN];
    switch (channel) {
    case NODE_CHANNEL_URGENT:
        if (is_up(main) && (!is_up(own) || unsent(main) <= PEER_MAIN_UNSENT_BYTES_MAX)) return main;
        return is_up(own) ? own : NULL;
    case NODE_CHANNEL_MAIN:
        return is_up(main) ? main : NULL;
    case NODE_CHANNEL_BULK:
        dial_start(&own->dial, now_ms_of(peer));
        return own->dial.phase == DIAL_STOPPED ? NULL : own;
    case NODE_CHANNEL_COUNT:
        break;
    }
    return NULL;
}

/* False: it is lost. What is alone is always taken, so that nothing is too large for ever. */
bool peer_put(struct peer *peer, enum node_channel channel, struct slice payload)
{
    if (payload.len > PEER_FRAME_BYTES_MAX) {
        log_failed(peer, LOG_ERROR, "peer message too large", "nothing longer than PEER_FRAME_BYTES_MAX is sent");
        return false;
    }
    struct peer_out *o = choose(peer, channel);
    if (o == NULL) return false;
    struct chain *out = is_up(o) ? conn_out(o->dial.conn) : &o->pending;
    size_t waiting = chain_bytes(out);
    size_t whole = waiting + PEER_FRAME_HEAD_BYTES + payload.len;
    if (waiting > 0 && whole > peer->peers->options.output_bytes_max) return false;
    peer_frame_put(out, PEER_PAYLOAD, payload);
    o->unflushed = is_up(o);
    return true;
}

void peer_flush(struct peer *peer)
{
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) {
        struct peer_out *o = &peer->outs[i];
        if (!o->unflushed) continue;
        o->unflushed = false;
        if (!is_up(o)) continue;
        o->used_ms = now_ms_of(peer);
        conn_flush_now(o->dial.conn);
    }
}

/* --- the turn ---------------------------------------------------------------------------------------- */

static bool bulk_is_idle(const struct peer_out *o, int64_t now_ms)
{
    return is_up(o) && unsent(o) == 0 && now_ms - o->used_ms >= o->peer->peers->options.bulk_idle_ms;
}

void peer_turn(struct peer *peer, int64_t now_ms)
{
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) dial_turn(&peer->outs[i].dial, now_ms);
    struct peer_out *bulk = &peer->outs[NODE_CHANNEL_BULK];
    if (is_up(bulk) && unsent(bulk) > 0) bulk->used_ms = now_ms;
    if (bulk_is_idle(bulk, now_ms)) dial_stop(&bulk->dial);
}

int64_t peer_next_ms(const struct peer *peer)
{
    if (peer->lost) return 0;
    int64_t next_ms = INT64_MAX;
    for (size_t i = 0; i < NODE_CHANNEL_COUNT; i++) {
        next_ms = MIN(next_ms, dial_next_ms(&peer->outs[i].dial));
    }
    const struct peer_out *bulk = &peer->outs[NODE_CHANNEL_BULK];
    int64_t idle_ms = bulk->used_ms + peer->peers->options.bulk_idle_ms;
    return is_up(bulk) ? MIN(next_ms, idle_ms) : next_ms;
}
