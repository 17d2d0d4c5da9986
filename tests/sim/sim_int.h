/* tests/sim/sim_int.h - see sim_group.h: what its files share. */
#ifndef TESTS_SIM_INT_H
#define TESTS_SIM_INT_H

#include "sim_group.h"

#include "check/history.h"

enum event_kind { EVENT_TURN, EVENT_DISK, EVENT_PAYLOAD, EVENT_CLIENT_IN, EVENT_CLIENT_OUT, EVENT_CLIENT_CLOSED, EVENT_CALL };

struct event {
    int64_t at_us;
    uint64_t seq; /* of equal times the first made comes first */
    uint8_t kind; /* enum event_kind */
    uint8_t node;
    union {
        struct {
            uint64_t id;   /* life of the node, or connection */
            uint64_t from; /* member */
            struct blob *bytes;
        };
        struct {
            void (*fn)(void *ctx, uint64_t arg);
            void *ctx;
            uint64_t arg;
        };
    };
};

/* One end of a client's connection: the server's. */
struct sim_conn {
    struct sim_conn *next; /* of its node */
    struct sim *sim;
    uint64_t id;
    size_t node;
    struct client *client; /* NULL: closed on the server's side */
    struct resp_decoder decoder;
    struct chain out;
    struct buf in;
    size_t want;
    bool paused, dirty, closing, after_flush;
    int64_t in_us, out_us; /* last arrival on the way, each direction */
    struct sim_conn_hooks hooks;
    void *ctx;
    bool client_gone;
};

/* Which members a node was told of, and which of them are there no more. By number: id - SIM_ID. */
#define SIM_ID 100
#define SIM_MEMBERS_MAX 512
struct sim_told {
    uint64_t ever[SIM_MEMBERS_MAX / 64], now[SIM_MEMBERS_MAX / 64];
};

/* Who voted for whom in a term: by place, with the member's id, as wiped members come again. */
struct sim_votes {
    struct { uint64_t voter, candidate; } at[SIM_NODES_MAX];
};

struct sim_applied {
    uint64_t hash; /* of the state, 0: not known */
    uint64_t term;
    uint32_t crc;
};

struct sim_node {
    struct sim *sim;
    size_t at;
    char dir[32];
    char name[16];
    struct sim_disk *disk;
    uint64_t member_id, directory_id;
    bool waits; /* joined: begins without members */
    bool up, broken;
    uint64_t life;
    struct node *node;
    struct cmd_env env;
    struct chain_pool pool;
    int64_t clock_offset_us;
    int32_t clock_ppm;
    int64_t clock_base_us, clock_base_sim_us; /* where the rate changed last */
    int64_t wall_offset_ms;
    int64_t paused_until_us;
    int64_t turn_at_us; /* scheduled; INT64_MAX none */
    uint64_t turn_seq;  /* among the events of its time */
    bool disk_scheduled;
    unsigned quiet_turns; /* in which nothing came in */
    int64_t disk_us_min, disk_us_max;
    struct blob **inbox;
    uint64_t *inbox_from;
    size_t inbox_count, inbox_cap;
    struct sim_conn *conns;
    struct sim_told told; /* of the membership, in this life */
    void (*cmd_event)(void *ctx, const struct mvcc_event *ev);
    void (*cmd_replaced)(void *ctx, uint64_t old_rev, uint64_t new_rev);
    uint64_t crash_at_start; /* the n-th disk operation of the next start is its last; 0: none */
    /* what must never go back */
    uint64_t term_sent;
    uint64_t commit_seen; /* in this life */
    uint64_t durable_at_end; /* when it went down */
    struct raft_members members_before; /* at the end of its last turn */
    uint64_t members_index;
};

/* Every event of the group: who applies a revision first says what it is. */
struct sim_event_log {
    struct history_event *at; /* own their bytes */
    size_t count, cap;
};

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t trace;
    int64_t now_us;
    struct event *heap;
    size_t heap_count, heap_cap;
    uint64_t next_seq;
    struct sim_node nodes[SIM_NODES_MAX];
    size_t node_count;
    struct raft_members members; /* the first ones */
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX];
    int64_t channel_us[SIM_NODES_MAX][SIM_NODES_MAX][NODE_CHANNEL_COUNT];
    uint64_t next_conn;
    struct sim_conn **conns; /* by id - 1; NULL: gone */
    size_t conn_cap;
    uint64_t next_member;
    /* invariants */
    uint64_t *term_leader; /* by term */
    struct sim_votes *votes; /* by term */
    size_t term_count;
    struct sim_applied *applied; /* by index */
    size_t index_count;
    struct sim_event_log log;
    struct sim_stats stats;
};

extern struct sim_node *sim_current; /* whose clock cfg.mono_us reads */

void event_push(struct sim *s, const struct event *e);
bool event_pop(struct sim *s, int64_t until_us, struct event *out);
void sim_wake(struct sim *s, struct sim_node *n, int64_t at_us);
int64_t node_mono_us(const struct sim_node *n);
struct sim_node *node_by_member(struct sim *s, uint64_t member_id);

/* sim_net.c */
void net_send(struct sim_node *n, uint64_t peer, enum node_channel channel, struct slice payload);
void net_unreachable_all(struct sim *s, uint64_t member_id);
void net_call_drop(const struct event *e); /* one that is not called any more */
struct sim_conn *conn_find_id(struct sim *s, uint64_t id);
void conn_deliver(struct sim_conn *c);
void conn_flush(struct sim_conn *c);
void conns_close_all(struct sim_node *n);
void conns_reap(struct sim_node *n);
void conn_release(struct sim *s, struct sim_conn *c); /* both ends are done with it */
void conns_free(struct sim *s);
void conn_io(struct sim_node *n); /* fills env.io */

/* sim_check.c */
void check_applied(struct sim_node *n, uint64_t index);
void check_event(struct sim_node *n, const struct mvcc_event *ev);
void check_vote(struct sim_node *n, uint64_t term, uint64_t candidate);
void check_turn(struct sim_node *n);
void check_started(struct sim_node *n);
void check_free(struct sim *s);

#endif
