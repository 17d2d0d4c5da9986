/* server/peer.c - see peer.h. Who is connected to, and what all connections share. */
#include "server/peer_int.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128

static void on_wake(void *ctx)
{
    const struct peers *p = ctx;
    uint64_t count;
    ssize_t got = read(p->dial.wake_fd, &count, sizeof count);
    (void)got; /* the turn looks at what came; an empty counter is nothing */
}

static enum err listen_all(struct peers *p, struct errmsg *em)
{
    char text[1024];
    if (strlen(p->options.bind) >= sizeof text) {
        errmsg_set(em, "'peer-bind' is too long");
        return ERR_CONFIG;
    }
    snprintf(text, sizeof text, "%s", p->options.bind);
    char *rest = NULL;
    p->port = p->options.port;
    for (char *addr = strtok_r(text, " ", &rest); addr != NULL; addr = strtok_r(NULL, " ", &rest)) {
        if (p->listener_count == PEER_LISTENERS_MAX) {
            errmsg_set(em, "too many addresses in 'peer-bind'");
            return ERR_CONFIG;
        }
        struct errmsg why;
        struct listener **l = &p->listeners[p->listener_count];
        enum err e = net_listen(p->loop, addr, p->port, LISTEN_BACKLOG, peer_in_accept, p, l, &why);
        if (e != OK) {
            errmsg_set(em, "for the other members ('peer-port'): %.400s", why.text);
            return e;
        }
        if (p->port == 0) p->port = listener_port(*l);
        p->listener_count++;
    }
    if (p->listener_count > 0) return OK;
    errmsg_set(em, "'peer-bind' names no address");
    return ERR_CONFIG;
}

enum err peers_new(struct loop *loop, const struct peer_options *options, struct peers **out,
                   struct errmsg *em)
{
    struct peers *p = mem_zalloc(sizeof *p);
    p->loop = loop;
    p->options = *options;
    p->dial = (struct dial_options){
        .loop = loop,
        .wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
        .retry_ms_min = options->reconnect_ms_min,
        .retry_ms_max = MAX(options->reconnect_ms_min, options->reconnect_ms_max),
        .handshake_ms_max = options->handshake_ms_max,
        .silence_ms_max = options->silence_ms_max,
        .tls = options->tls,
    };
    enum err e = OK;
    if (p->dial.wake_fd < 0) {
        errmsg_set(em, "eventfd: %s", strerror(errno));
        e = ERR_IO;
    } else {
        p->watch = loop_watch_fd(loop, p->dial.wake_fd, on_wake, p);
        e = listen_all(p, em);
    }
    if (e != OK) {
        peers_free(p);
        return e;
    }
    *out = p;
    return OK;
}

void peers_free(struct peers *p)
{
    if (p == NULL) return;
    for (size_t i = 0; i < p->listener_count; i++) listener_close(p->listeners[i]);
    loop_unwatch(p->watch);
    for (size_t i = 0; i < p->count; i++) peer_free(p->at[i]);
    peer_in_free_all(p);
    if (p->dial.wake_fd >= 0) close(p->dial.wake_fd);
    mem_free(p);
}

uint16_t peers_port(const struct peers *p) { return p->port; }
const struct dial_options *peers_dial_options(const struct peers *p) { return &p->dial; }

void peers_meet(struct peers *p, peer_meet_fn *meet, void *ctx)
{
    p->meet = meet;
    p->meet_ctx = ctx;
}

void peers_start(struct peers *p, const struct peer_identity *self, const struct peer_hooks *hooks)
{
    ASSERT(!p->started);
    ASSERT(self->cluster_id != 0 && self->member_id != 0 && self->directory_id != 0);
    p->self = *self;
    p->hooks = *hooks;
    p->started = true;
}

/* --- members ---------------------------------------------------------------------------------- */

struct peer *peers_find(const struct peers *p, uint64_t id)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->at[i]->id == id) return p->at[i];
    }
    return NULL;
}

/* Strangers stay if there is room for them beside the members. */
static void drop_others(struct peers *p, const struct raft_members *members)
{
    size_t kept = 0;
    size_t room = RAFT_MEMBERS_MAX - MIN(members->count, (size_t)RAFT_MEMBERS_MAX);
    for (size_t i = 0; i < p->count; i++) {
        struct peer *peer = p->at[i];
        bool is_member = raft_members_find(members, peer->id) != NULL;
        if (is_member || (peer->is_stranger && room > 0)) {
            room -= !is_member;
            p->at[kept++] = peer;
            continue;
        }
        log_notice("peer dropped member=%llu address=%s", (unsigned long long)peer->id, peer->address);
        peer_in_drop_member(p, peer->id);
        peer_free(peer);
    }
    p->count = kept;
}

void peers_stranger(struct peers *p, uint64_t id, uint64_t directory_id, struct slice name,
                    struct slice address)
{
    struct raft_member m = { .id = id, .directory_id = directory_id };
    if (p->count == RAFT_MEMBERS_MAX || address.len == 0 || peers_find(p, id) != NULL) return;
    ASSERT(name.len < sizeof m.name);
    ASSERT(address.len < sizeof m.peer_address);
    memcpy(m.name, name.at, name.len);
    memcpy(m.peer_address, address.at, address.len);
    struct peer *peer = peer_new(p, &m);
    peer->is_stranger = true;
    p->at[p->count++] = peer;
    log_notice("peer speaks that this member does not know yet member=%llu address=%s", (unsigned long long)id,
               peer->address);
}

/* Who was let in because nobody here could tell may be nobody's member, as it is known by now. */
static void strangers_check(struct peers *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct peer *peer = p->at[i];
        struct errmsg em;
        if (!peer->is_stranger || p->hooks.admit(p->hooks.ctx, peer->id, peer->directory_id, &em) == OK) continue;
        peer_in_refuse_member(p, peer->id, em.text);
    }
}

static void strangers_forget(struct peers *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct peer *peer = p->at[i];
        if (!peer->is_stranger || peer_in_speaks(p, peer->id)) {
            p->at[kept++] = peer;
            continue;
        }
        peer_free(peer);
    }
    p->count = kept;
}

void peers_members(struct peers *p, const struct raft_members *members)
{
    ASSERT(p->started);
    drop_others(p, members);
    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *m = &members->at[i];
        if (m->id == p->self.member_id) continue;
        struct peer *peer = peers_find(p, m->id);
        if (peer == NULL) {
            ASSERT(p->count < RAFT_MEMBERS_MAX);
            p->at[p->count++] = peer_new(p, m);
        } else {
            peer->is_stranger = false;
            peer->directory_id = m->directory_id;
            peer_name(peer, m->name);
            peer_address(peer, m->peer_address);
        }
    }
    peer_in_check(p);
}

/* --- sending ----------------------------------------------------------------------------------- */

void peers_send(struct peers *p, uint64_t member_id, enum node_channel channel, struct slice payload)
{
    struct peer *peer = peers_find(p, member_id);
    if (peer != NULL && peer_put(peer, channel, payload)) {
        p->unflushed = true;
        p->stats.sent_frames++;
        p->stats.sent_bytes += PEER_FRAME_HEAD_BYTES + payload.len;
        return;
    }
    p->stats.dropped_frames++;
    if (peer != NULL) peer->lost = true;
}

void peers_flush(struct peers *p)
{
    if (!p->unflushed) return;
    p->unflushed = false;
    for (size_t i = 0; i < p->count; i++) peer_flush(p->at[i]);
}

/* --- the turn ----------------------------------------------------------------------------------- */

void peers_turn(struct peers *p, int64_t now_ms)
{
    peer_in_turn(p, now_ms);
    strangers_check(p);
    strangers_forget(p);
    uint64_t lost[RAFT_MEMBERS_MAX]; /* the hook may change who is a member */
    size_t lost_count = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct peer *peer = p->at[i];
        peer_turn(peer, now_ms);
        if (!peer->lost) continue;
        peer->lost = false;
        lost[lost_count++] = peer->id;
    }
    for (size_t i = 0; i < lost_count; i++) p->hooks.unreachable(p->hooks.ctx, lost[i]);
}

int64_t peers_next_ms(const struct peers *p)
{
    int64_t next_ms = peer_in_next_ms(p);
    for (size_t i = 0; i < p->count; i++) next_ms = MIN(next_ms, peer_next_ms(p->at[i]));
    return next_ms;
}

/* --- looking -------------------------------------------------------------------------------------- */

bool peers_connected(const struct peers *p, uint64_t member_id)
{
    const struct peer *peer = peers_find(p, member_id);
    return peer != NULL && peer->outs[NODE_CHANNEL_MAIN].dial.phase == DIAL_UP;
}

void peers_stats_get(const struct peers *p, struct peers_stats *out)
{
    *out = p->stats;
    out->connected_count = 0;
    for (size_t i = 0; i < p->count; i++) {
        out->connected_count += p->at[i]->outs[NODE_CHANNEL_MAIN].dial.phase == DIAL_UP;
    }
    out->accepted_count = p->in_count;
}
