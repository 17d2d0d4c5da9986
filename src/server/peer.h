/* server/peer.h - connections to the other members: who speaks, frames, reconnecting.
 *
 * PURPOSE  Carry payloads of node/ between members whose identity was checked. Does not know what a
 *          payload says. A message may be lost, never altered, never reordered on one channel of one
 *          connection.
 * OWNS     struct peers: the listeners, one outgoing connection a member and channel, all accepted
 *          connections.
 * USES     net, server/dial.h, server/peer_frame.h, server/peer_cert.h, raft/raft_members.h, base.
 * THREADS  Loop thread only; names are resolved on a thread of its own.
 * LIMITS   PEER_FRAME_BYTES_MAX; output_bytes_max unsent a connection: what does not fit (and is not
 *          alone) is dropped and told as unreachable; conn_count_max accepted, of which those that
 *          have not shaken hands give way; handshake_ms_max.
 * ERRORS   peers_new: ERR_IO, ERR_CONFIG. A peer that is refused is told why in words and shown in
 *          the log, the same words once a minute.
 *
 * A connection carries one direction: who opened it sends. FORMAT: see peer_frame.h. MAIN is kept
 * open; so is URGENT, which is used only while MAIN is backed up; BULK is opened by the first
 * payload, which waits for it, and closed when it was idle. Who is admitted and was not named by
 * peers_members is answered at the address that its hello gives, as long as it speaks: a leader that this
 * member cannot know yet gets no further without an answer. For the same reason who speaks but does not
 * answer at the address that peers_members gave is tried at its hello's, in turn with that one.
 *
 * With TLS (options.tls) both ends show a certificate of the CA, and both compare its names with the
 * member that is meant before anything is said or heard: the host of its address, or its name. One
 * exception: a member may speak whom this one does not know, because it has not seen the entry that
 * added it (and would never see it, if it did not listen to a leader it does not know). Until it is
 * known the CA alone speaks for it: the CA is to sign members' certificates only.
 *
 * INVARIANTS
 *  I1  hooks.receive is called only for a connection whose hello was admitted, and never after that
 *      connection was closed.
 *  I2  Of one member and channel at most one accepted connection is heard: the newest.
 *  I3  hooks.unreachable is called from peers_turn only, never from peers_send.
 *  I4  With TLS, no accepted connection of a member that peers_members named has other names in its
 *      certificate than that member's.
 */
#ifndef SERVER_PEER_H
#define SERVER_PEER_H

#include "net/tls.h"
#include "node/node.h"
#include "server/dial.h"
#include "server/peer_cert.h"

#define PEER_MAIN_UNSENT_BYTES_MAX 65536 /* above it, what is urgent overtakes */

struct peers;

/* Who this is; copied. */
struct peer_identity {
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t directory_id;
    uint32_t group;
    char name[RAFT_NAME_BYTES_MAX + 1];
    char address[RAFT_ADDRESS_BYTES_MAX + 1]; /* where the others reach it */
};

struct peer_hooks {
    void *ctx;
    /* A member speaks whose hello names this cluster and this member. directory_id is what it says.
     * OK, or a refusal with words for the other side (what to do). Asked again every turn for whom
     * peers_members did not name. */
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
    int64_t handshake_ms_max; /* to connect and be admitted, on either side */
    int64_t silence_ms_max;   /* see conn_watch_peer */
    int64_t bulk_idle_ms;     /* then the connection for BULK is closed */
    size_t output_bytes_max;  /* unsent, a connection */
    size_t conn_count_max;    /* accepted */
    uint64_t random;
    struct tls_context *tls; /* NULL: without. Shows and demands certificates; outlives peers */
};

/* Listens at once (so that a used port is known at the start), admits nobody before peers_start. */
enum err peers_new(struct loop *loop, const struct peer_options *options, struct peers **out,
                   struct errmsg *em) MUST_USE;
void peers_free(struct peers *p); /* NULL is allowed */
uint16_t peers_port(const struct peers *p);

void peers_start(struct peers *p, const struct peer_identity *self, const struct peer_hooks *hooks);
/* The members to keep connections to; others are closed. Call at every change. */
void peers_members(struct peers *p, const struct raft_members *members);
/* Never waits; sent by peers_flush. The payload is copied. Urgent payloads go on the main connection
 * unless it is backed up: then a later one may overtake an earlier one too. */
void peers_send(struct peers *p, uint64_t member_id, enum node_channel channel, struct slice payload);
/* Writes what peers_send collected, one write a connection. Call it before clients are written to. */
void peers_flush(struct peers *p);
/* Once a turn: back-off, deadlines of handshakes, what was resolved. */
void peers_turn(struct peers *p, int64_t now_ms);
int64_t peers_next_ms(const struct peers *p); /* loop time of the next thing to do, INT64_MAX none */

/* --- founding a group: see bootstrap.h -------------------------------------------------------- */

/* Somebody who founds a group says who he is, under this certificate. OK and the answer (borrowed until the next call), or
 * a refusal in words; ERR_AGAIN if it may be different later. */
struct peer_founder;
typedef enum err peer_meet_fn(void *ctx, const struct peer_founder *who, const struct peer_cert *cert,
                              struct peer_founder *answer, struct errmsg *em);
void peers_meet(struct peers *p, peer_meet_fn *meet, void *ctx); /* meet NULL: refuses all */
/* For connections of one's own; borrowed as long as p lives. */
const struct dial_options *peers_dial_options(const struct peers *p);

/* --- looking ---------------------------------------------------------------------------------- */

struct peers_stats {
    uint64_t sent_bytes, sent_frames, received_bytes, received_frames;
    uint64_t dropped_frames, refused, reconnects;
    size_t connected_count; /* outgoing main connections that are up */
    size_t accepted_count;  /* with and without a handshake */
};
void peers_stats_get(const struct peers *p, struct peers_stats *out);
bool peers_connected(const struct peers *p, uint64_t member_id); /* its main connection is up */

#endif
