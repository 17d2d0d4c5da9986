/* server/bootstrap.h - several nodes found a group together.
 *
 * PURPOSE  Tell the others who this node is until all that are listed were heard, all of them new
 *          and all with the same list; then all of them make the same group. Does not write it down:
 *          see group.h.
 * OWNS     struct bootstrap: one connection to each of the others, until the group is complete.
 * USES     server/peer.h (answers on the peer port), server/dial.h, raft/raft_members.h.
 * THREADS  Loop thread only.
 * LIMITS   RAFT_VOTERS_MAX listed.
 * ERRORS   ERR_CONFIG for a list that cannot be. A node that does not fit is refused in words on
 *          both sides; this one goes on waiting.
 *
 * INVARIANTS
 *  I1  A node is complete when it heard every other one while none of them, as far as it heard, was
 *      part of a group; or when one that is complete told the members, with this node's directory
 *      among them. It then never changes its mind, and tells these members to whoever is one of them.
 *  I2  The members of a group are the same bytes on all, and the cluster id is their hash: two sets
 *      of members never take each other for one group.
 */
#ifndef SERVER_BOOTSTRAP_H
#define SERVER_BOOTSTRAP_H

#include "raft/raft_members.h"
#include "server/peer.h"
#include "server/peer_frame.h"

#define BOOTSTRAP_LOG_MS 5000 /* whom it waits for */

/* `n1=host:port,n2=host:port`, in order of the names. */
struct bootstrap_list {
    size_t count;
    struct {
        char name[RAFT_NAME_BYTES_MAX + 1];
        char address[RAFT_ADDRESS_BYTES_MAX + 1];
    } at[RAFT_VOTERS_MAX];
    char text[PEER_LIST_BYTES_MAX + 1]; /* the same list is the same text */
};

/* self_name must be in it. em says what is wrong. */
enum err bootstrap_list_parse(const char *text, const char *self_name, struct bootstrap_list *out,
                              struct errmsg *em) MUST_USE;
/* The list of a group that was founded. False: these members cannot have been founded so. */
bool bootstrap_list_of(const struct raft_members *members, struct bootstrap_list *out);
/* Of the members of a new group: below 2^53, never 0. */
uint64_t bootstrap_cluster_id(const struct raft_members *members);

struct bootstrap;

struct bootstrap_self {
    const char *name; /* copied */
    const char *client_address;
    uint64_t member_id, directory_id;
    uint32_t group;
};

/* Starts to connect, and answers on the peer port until it is freed. list is copied; peers is
 * borrowed as long as it lives. known: the members of an earlier start, which makes it complete;
 * or NULL. */
struct bootstrap *bootstrap_new(struct peers *peers, const struct bootstrap_list *list,
                                const struct bootstrap_self *self, const struct raft_members *known,
                                int64_t now_ms);
void bootstrap_free(struct bootstrap *b); /* NULL is allowed */
/* NULL until it is complete; borrowed as long as b lives. */
const struct raft_members *bootstrap_members(const struct bootstrap *b);
void bootstrap_turn(struct bootstrap *b, int64_t now_ms);
int64_t bootstrap_next_ms(const struct bootstrap *b);
/* "n2, n3": who was not heard. Empty if all were. Returns `out`. */
const char *bootstrap_waits_for(const struct bootstrap *b, char *out, size_t out_bytes);

#endif
