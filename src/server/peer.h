/* server/peer.h - connections to the other members: who speaks, frames, reconnecting.
 *
 * PURPOSE  Carry payloads of node/ between members whose identity was checked. Does not know what a
 *          payload says. A message may be lost, never altered, never reordered on one channel of one
 *          connection.
 * OWNS     struct peers: the listener, one outgoing connection a member and channel, all accepted
 *          connections.
 * USES     net, raft/raft_members.h, base.
 * THREADS  Loop thread only; names are resolved on a thread of its own.
 * LIMITS   PEER_FRAME_BYTES_MAX; PEER_OUTPUT_BYTES_MAX unsent a connection: what does not fit is
 *          dropped and told as unreachable; PEER_CONNS_MAX accepted; PEER_HANDSHAKE_MS_MAX.
 * ERRORS   peers_new: ERR_IO, ERR_CONFIG. A peer that is refused is told why in words and shown in
 *          the log once.
 *
 * A connection carries one direction: who opened it sends. FORMAT: see peer_frame.h.
 */
#ifndef SERVER_PEER_H
#define SERVER_PEER_H

#include "net/net.h"
#include "node/node.h"

struct peers;

/* Who this is; copied. */
struct peer_identity {
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t directory_id;
    uint32_t group;
};

struct peer_hooks {
    void *ctx;
    /* A member speaks whose hello names this cluster and this member. directory_id is what it says.
     * OK, or a refusal with words for the other side (what to do). */
    enum err (*admit)(void *ctx, uint64_t member_id, uint64_t directory_id, struct errmsg *em);
    /* A payload. Anything but OK closes the connection. */
    enum err (*receive)(void *ctx, uint64_t member_id, struct slice payload);
    /* What was sent to it may be lost: its connection broke, or its queue was full. */
    void (*unreachable)(void *ctx, uint64_t member_id);
};

struct peer_options {
    const char *bind; /* as the option `bind` */
    uint16_t port;    /* 0: the kernel chooses, see peers_port */
    int64_t reconnect_ms_min, reconnect_ms_max; /* doubling in between */
    uint64_t random;
};

/* Listens at once (so that a used port is known at the start), admits nobody before peers_start. */
enum err peers_new(struct loop *loop, const struct peer_options *options, struct peers **out,
                   struct errmsg *em) MUST_USE;
void peers_free(struct peers *p); /* NULL is allowed */
uint16_t peers_port(const struct peers *p);

void peers_start(struct peers *p, const struct peer_identity *self, const struct peer_hooks *hooks);
/* The members to keep connections to; others are closed. Call at every change. */
void peers_members(struct peers *p, const struct raft_members *members);
/* Never waits. The payload is copied. Urgent payloads go on the main connection unless it is backed
 * up; so order holds within a channel only. */
void peers_send(struct peers *p, uint64_t member_id, enum node_channel channel, struct slice payload);
/* Once a turn: back-off, deadlines of handshakes, what was resolved. */
void peers_turn(struct peers *p, int64_t now_ms);
int64_t peers_next_ms(const struct peers *p); /* loop time of the next thing to do, INT64_MAX none */

struct peers_stats {
    uint64_t sent_bytes, sent_frames, received_bytes, received_frames;
    uint64_t dropped_frames, refused, reconnects;
    size_t connected_count; /* outgoing main connections that are up */
};
void peers_stats_get(const struct peers *p, struct peers_stats *out);

#endif
