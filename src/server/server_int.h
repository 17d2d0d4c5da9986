/* server/server_int.h - private to server/. */
#ifndef SERVER_SERVER_INT_H
#define SERVER_SERVER_INT_H

#include "server/group.h"
#include "server/peer.h"
#include "server/server.h"

#define SERVER_LISTENERS_MAX 16
#define SERVER_GROUP 1        /* the number of the only group a process serves */

/* A client connection. */
struct link {
    struct server *server;
    struct conn *conn;
    struct client *client;
    struct resp_decoder *decoder; /* of a request that is not complete; else NULL */
    struct link *prev, *next;
    int64_t partial_since_ms;   /* a request has begun and is not complete; 0: none */
    bool eof;                   /* the peer sends no more */
    int64_t over_soft_since_ms; /* output beyond the soft limit, or closing and stuck; 0: no */
    size_t unsent_bytes;        /* at the last look */
};

struct server {
    struct config *cfg;
    const char *config_file;
    char *executable;
    struct loop *loop;
    struct cmd_env env;
    struct node *node;
    struct link *links;
    struct listener *listeners[SERVER_LISTENERS_MAX];
    size_t listener_count;
    uint16_t port;
    struct loop_watch *node_watches[4];
    int node_watch_fds[4];
    void (*state_replaced)(void *ctx, uint64_t old_rev, uint64_t new_rev); /* the commands' */
    size_t node_watch_count;
    int64_t checked_ms;
    uint32_t turns; /* since then */
    char client_address[RAFT_ADDRESS_BYTES_MAX + 1], peer_address[RAFT_ADDRESS_BYTES_MAX + 1];
    bool env_ready, awake_anyway;
    bool closing;           /* node is NULL for ever */
    int64_t stop_due_ms;    /* stopping, at the latest then; 0: not */
    enum err failed;        /* server_run's answer */
    struct errmsg failed_em;
    struct resp_argv argv;  /* of requests that are answered with LOADING */
    /* member.c */
    struct tls_context *peer_tls; /* NULL: members speak without TLS */
    struct peers *peers;
    struct group *group;
    bool peers_started;
    struct raft_members members; /* as node_hooks.members told them */
};

/* --- member.c: the others --- */
enum err member_open(struct server *s, const uint64_t random[4], struct errmsg *em) MUST_USE;
void member_hooks(struct node_hooks *hooks); /* the ctx must be &server.env */
enum err member_start(struct server *s, struct errmsg *em) MUST_USE; /* the node is open */
void member_turn(struct server *s, int64_t now_ms);
int64_t member_next_ms(const struct server *s);
void member_reload(struct server *s); /* the certificates */
void member_stats(void *ctx, struct cmd_peers *out); /* cmd_io.peers; the ctx is the server */
void member_close(struct server *s);

/* --- link.c --- */
void link_accept(void *ctx, struct conn *conn);
void link_resumed(struct link *l);
void links_check(struct server *s, int64_t now_ms);

#endif
