/* server/server_int.h - private to server/. */
#ifndef SERVER_SERVER_INT_H
#define SERVER_SERVER_INT_H

#include "server/server.h"

#define SERVER_LISTENERS_MAX 16

/* A client connection. */
struct link {
    struct server *server;
    struct conn *conn;
    struct client *client;
    struct resp_decoder *decoder; /* of a request that is not complete; else NULL */
    struct link *prev, *next;
    int64_t partial_since_ms;   /* a request has begun and is not complete; 0: none */
    bool eof;                   /* the peer sends no more */
    int64_t over_soft_since_ms; /* output beyond the soft limit; 0: no */
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
    size_t node_watch_count;
    int64_t checked_ms;
    char client_address[300], peer_address[300];
    bool stopping, env_ready, awake_anyway;
};

void link_accept(void *ctx, struct conn *conn);
void link_resumed(struct link *l);
void links_check(struct server *s, int64_t now_ms);

#endif
