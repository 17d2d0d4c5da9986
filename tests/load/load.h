/* load/load.h - a workload against a group, every operation recorded.
 *
 * PURPOSE  Clients as applications are: many connections, any node, on to another one when one
 *          breaks; they say what surely happened, what surely did not and what nobody knows.
 * OWNS     struct load_run: shared by all threads. struct load_conn: one thread's.
 * USES     check/history.h, hiredis, pthread.
 * THREADS  One a connection; what they share is constant or atomic.
 * LIMITS   LOAD_* below; the options of group_load.
 * ERRORS   An operation's outcome is data. What cannot go on ends the program with a message.
 */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check/history.h"

#define LOAD_NODES_MAX 16
#define LOAD_ERRORS_MAX 64
#define LOAD_ERROR_BYTES_MAX 96
#define LOAD_VALUE_BYTES_MAX 65536

/* name, share of a thousand or so */
#define LOAD_KINDS(X) \
    X(PUT, "put", 200) X(SET, "set", 60) X(GET, "get", 300) X(LOCAL, "local", 30) \
    X(OLD, "old", 30) X(DELETE, "delete", 50) X(CAS, "cas", 80) X(TXN, "txn", 80) \
    X(INCR, "incr", 50) X(APPEND, "append", 20) X(RANGE, "range", 10) X(LEASE, "lease", 60) \
    X(TTL, "ttl", 40) X(LOCK, "lock", 40)
#define LOAD_ENUM(symbol, word, weight) LOAD_##symbol,
enum load_kind { LOAD_KINDS(LOAD_ENUM) LOAD_KIND_COUNT };
#undef LOAD_ENUM

struct load_node {
    char host[128];
    int port;
};

struct load_options {
    struct load_node nodes[LOAD_NODES_MAX];
    size_t node_count;
    int seconds;
    uint64_t op_max; /* 0: as many as fit into the time */
    size_t connections;
    size_t watchers;
    uint64_t seed;
    int64_t keys;
    size_t value_bytes;
    int64_t ttl_ms;
    int timeout_ms; /* of a reply; behind it the outcome is unknown */
    int end_seconds; /* how long the final reads may wait for every node */
    int pause_ms;    /* between two operations of a connection, at most */
    int list_seconds; /* a list of APPENDs takes so long, then comes the next; 0: 1 */
    int poll_ms;      /* how long a watcher waits in one go; 0: 100 */
    unsigned weights[LOAD_KIND_COUNT];
    const char *out;
};

struct load_run {
    const struct load_options *options;
    atomic_bool stop;
    atomic_uint next_client;
    atomic_ullong next_watch;
    atomic_ullong ops;
    atomic_llong success_ns; /* the last one */
    atomic_llong silence_ns; /* the longest time without one */
    int64_t begin_ns;
    pthread_mutex_t errors_lock;
    struct { char text[LOAD_ERROR_BYTES_MAX]; uint64_t count; } errors[LOAD_ERRORS_MAX];
    size_t error_count;
    uint64_t outcomes[HISTORY_KIND_COUNT][HISTORY_OUTCOME_COUNT]; /* summed at the end */
};

struct load_conn {
    struct load_run *run;
    struct history *h;
    int fd;              /* load_net.c's */
    uint64_t link;       /* another transport's */
    redisReader *reader; /* NULL: not connected */
    size_t node;
    uint32_t client; /* another one each connection */
    uint64_t random;
    uint64_t seq;
};

/* --- the transport: load_net.c over sockets, tests/sim/sim_client.c in virtual time ------------- */

int64_t load_now_ns(void);
void load_sleep_ms(int64_t ms);
bool load_open(struct load_conn *c); /* to c->node */
void load_close(struct load_conn *c);
bool load_write(struct load_conn *c, struct slice bytes); /* false: broken */
/* Appends what came. 1: something, 0: nothing in wait_ms, -1: broken. */
int load_read(struct load_conn *c, struct buf *to, int wait_ms);

/* --- a connection ------------------------------------------------------------------------------- */

uint64_t load_random(struct load_conn *c, uint64_t below);
void load_conn_init(struct load_conn *c, struct load_run *run, uint64_t seed);
void load_conn_deinit(struct load_conn *c); /* closes; the history stays */
/* Connects to a node. False: it is not there, or does not serve. */
bool load_connect(struct load_conn *c, size_t node);
void load_disconnect(struct load_conn *c);
void load_count_error(struct load_run *run, const char *text);

/* Begins a record, now. Then add items, load_call, and on DONE the items seen. */
void load_begin(struct load_conn *c, enum history_kind kind);
/* Formats as redisCommand and sends; false: broken. */
bool load_send(struct load_conn *c, const char *format, ...);
/* Sends and waits; NULL: broken, or no answer in time. Not recorded. */
redisReply *load_ask(struct load_conn *c, const char *format, ...);
/* The next reply; NULL: broken, or none in time. */
redisReply *load_wait(struct load_conn *c);
/* What the reply says about an operation that was begun. True: it is DONE. NULL disconnects. */
bool load_answered(struct load_conn *c, size_t op_at, const redisReply *reply);
/* Sends and waits. The reply if the newest record is DONE, else NULL and it is UNKNOWN or REFUSED.
 * Free it with freeReplyObject. */
redisReply *load_call(struct load_conn *c, const char *format, ...);

/* Reading replies; a missing field is NULL, 0, nothing. */
const redisReply *load_field(const redisReply *map, const char *name);
uint64_t load_u64(const redisReply *map, const char *name);
struct slice load_bytes(const redisReply *reply);
/* Adds a SAW (a kv map) or NONE item to the newest record. */
void load_saw(struct load_conn *c, struct slice key, const redisReply *kv);

uint64_t load_list_number(const struct load_run *run); /* of APPENDs sent now */

/* Thread bodies. */
void *load_worker(void *conn);
struct load_watcher {
    struct load_conn conn;
    size_t number;
};
void *load_watcher_run(void *watcher);

/* The whole event log from a node: as the log of the history, or as a stream to be compared. */
bool load_read_log(struct load_conn *c, bool as_stream);
/* Of a text "COMPACTED ... oldest is N": N, else 0. */
uint64_t load_oldest(const char *error);

/* All keys, counters and lists of a node. Tries again until end_ns. */
bool load_read_node(struct load_conn *c, size_t node, int64_t end_ns);
/* The event log of a node; node 0's is the log of the history. Likewise. */
bool load_read_log_of(struct load_conn *c, size_t node, int64_t end_ns);

#endif
