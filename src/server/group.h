/* server/group.h - which group a data directory belongs to, or is to belong to.
 *
 * PURPOSE  Before the node is opened: look at the directory and at the options, found a group with
 *          others or ask one to be let in, and write down what came of it. Decides what happens with
 *          a directory that belongs to a group already: it stays there, whatever the options say.
 * OWNS     struct group: the directory's lock while it waits, the bootstrap or the joining.
 * USES     disk/identity.h, disk/group_file.h, server/bootstrap.h, server/join.h.
 * THREADS  Loop thread only. group_new and group_turn write small files: once in a directory's life.
 * LIMITS   As bootstrap.h and join.h.
 * ERRORS   ERR_CONFIG, ERR_IO, ERR_LOCKED, ERR_CORRUPT; ERR_MEMBER when joining was refused.
 *
 * A directory passes: nothing -> identity (not ready: ids that stay) -> group (what was agreed on)
 * -> identity ready (node_open). A crash in between goes on from there.
 */
#ifndef SERVER_GROUP_H
#define SERVER_GROUP_H

#include "node/node.h"
#include "server/peer.h"

struct group;

/* Borrowed as long as the group lives. */
struct group_options {
    const char *dir;
    const char *name;
    const char *initial_cluster; /* "": not given */
    const char *join;            /* likewise */
    const char *password;
    const char *peer_address, *client_address;
    uint64_t random[3];
    uint32_t group; /* number of the group; see the peers' protocol */
};

enum err group_new(const struct group_options *options, struct peers *peers, int64_t now_ms,
                   struct group **out, struct errmsg *em) MUST_USE;
void group_free(struct group *g); /* NULL is allowed */

/* OK: it is known, call node_open. ERR_AGAIN: others are waited for. Else: it cannot be. */
enum err group_turn(struct group *g, int64_t now_ms, struct errmsg *em) MUST_USE;
int64_t group_next_ms(const struct group *g);
/* Whom it waits for, for people. Returns `out`. */
const char *group_waits_for(const struct group *g, char *out, size_t out_bytes);

/* For node_open; the directory's lock is let go. members are borrowed from g. */
void group_take(struct group *g, struct node_group *out);
/* Members to connect to until the log tells of others: of who was let in. May be empty. */
const struct raft_members *group_first_members(const struct group *g);

#endif
