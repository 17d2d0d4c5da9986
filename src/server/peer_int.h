/* server/peer_int.h - private to the peer_*.c files: both directions of connections.
 *
 * OWNS     struct peers owns its peers and their outgoing connections; an accepted connection's
 *          struct peer_in is freed with its connection, and belongs to nobody when peers is gone.
 */
#ifndef SERVER_PEER_INT_H
#define SERVER_PEER_INT_H

#include "server/peer.h"
#include "server/peer_frame.h"

#define PEER_LISTENERS_MAX 16
#define PEER_LOG_SLOTS 16       /* so many different refusals are logged a minute */
#define PEER_LOG_REASONS 4      /* likewise of one member's connections, that are opened here */
#define PEER_LOG_PAUSE_MS 60000

struct peer;

struct peer_out {
    struct peer *peer;
    enum node_channel channel;
    struct dial dial;
    struct chain pending; /* BULK: waits for the connection */
    int64_t used_ms;      /* BULK: sent or acknowledged by the socket last */
    bool unflushed;
    bool at_said; /* the attempt goes to peer->said */
};

struct peer {
    struct peers *peers;
    uint64_t id;
    uint64_t directory_id; /* 0: any */
    struct peer_out outs[NODE_CHANNEL_COUNT];
    bool lost;         /* owes hooks.unreachable */
    bool was_up;       /* MAIN, and its loss was not logged yet */
    bool ever_up;
    bool is_stranger;  /* peers_members did not name it: it is known by its hello alone */
    struct {
        uint64_t words; /* their hash */
        int64_t at_ms;
    } logged[PEER_LOG_REASONS]; /* attempts that failed */
    char address[RAFT_ADDRESS_BYTES_MAX + 1];
    char said[RAFT_ADDRESS_BYTES_MAX + 1]; /* where its last hello says that it is; "": nothing yet */
    char name[RAFT_NAME_BYTES_MAX + 1];
};

struct peer_in {
    struct peers *peers; /* NULL: peers_free was called */
    struct peer_in *prev, *next;
    struct conn *conn;
    int64_t deadline_ms; /* until `admitted`, and for a refusal to be read */
    uint64_t member_id;
    enum node_channel channel;
    bool admitted;
    bool closed; /* not counted any more */
    char from[NET_ADDRESS_TEXT_BYTES_MAX]; /* a socket that was reset knows it no longer */
};

struct peers {
    struct loop *loop;
    struct peer_options options;
    struct dial_options dial;
    struct dial_hooks dial_hooks;
    struct peer_identity self;
    struct peer_hooks hooks;
    bool started;
    bool unflushed;
    struct listener *listeners[PEER_LISTENERS_MAX];
    size_t listener_count;
    uint16_t port;
    struct loop_watch *watch;
    struct peer *at[RAFT_MEMBERS_MAX];
    size_t count;
    struct peer_in *ins; /* newest first */
    size_t in_count;
    peer_meet_fn *meet;
    void *meet_ctx;
    int64_t logged_ms[PEER_LOG_SLOTS]; /* refusals, by the hash of their words; 0: never */
    struct peers_stats stats;
};

/* --- peer.c --- */
struct peer *peers_find(const struct peers *p, uint64_t id); /* NULL: not known */
/* Somebody speaks whom peers_members did not name: a leader may be newer than what this member has
 * seen, and has to be answered. It is known as long as it speaks. */
void peers_stranger(struct peers *p, uint64_t id, uint64_t directory_id, struct slice name,
                    struct slice address);
/* --- peer_in.c --- */
void peer_in_accept(void *ctx, struct conn *conn);
void peer_in_turn(struct peers *p, int64_t now_ms);
int64_t peer_in_next_ms(const struct peers *p);
void peer_in_drop_member(struct peers *p, uint64_t member_id);
void peer_in_refuse_member(struct peers *p, uint64_t member_id, const char *why);
bool peer_in_speaks(const struct peers *p, uint64_t member_id); /* one is admitted */
void peer_in_check(struct peers *p); /* I4, after members changed */
void peer_in_free_all(struct peers *p);
/* --- peer_out.c --- */
struct peer *peer_new(struct peers *p, const struct raft_member *m);
void peer_free(struct peer *peer);
void peer_address(struct peer *peer, const char *address);
void peer_name(struct peer *peer, const char *name);
void peer_is_there(struct peer *peer, struct slice said); /* it has just connected to this one */
bool peer_put(struct peer *peer, enum node_channel channel, struct slice payload);
void peer_flush(struct peer *peer);
void peer_turn(struct peer *peer, int64_t now_ms);
int64_t peer_next_ms(const struct peer *peer);
extern const struct dial_hooks peer_out_hooks;

#endif
