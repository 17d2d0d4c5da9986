/* server/join.h - a new node asks a group to let it in.
 *
 * PURPOSE  Send MEMBER JOIN to a client port of the group, one address after the other, until it is
 *          answered or refused. Joining again with the same directory changes nothing. Does not
 *          write the answer down: see group.h.
 * OWNS     struct join: one connection.
 * USES     server/dial.h, raft/raft_members.h.
 * THREADS  Loop thread only.
 * LIMITS   JOIN_ADDRESSES_MAX, JOIN_REPLY_BYTES_MAX.
 * ERRORS   join_new: ERR_CONFIG for addresses that cannot be. join_turn: see there.
 */
#ifndef SERVER_JOIN_H
#define SERVER_JOIN_H

#include "raft/raft_members.h"
#include "server/dial.h"

#define JOIN_ADDRESSES_MAX 16
#define JOIN_REPLY_BYTES_MAX 65536
#define JOIN_LOG_MS 5000

struct join;

/* All copied. */
struct join_options {
    const char *addresses; /* host:port[,host:port], client ports of the group */
    const char *password;  /* of the clients; "" for none */
    uint64_t member_id, directory_id;
    const char *peer_address, *client_address, *name;
};

/* What the group answered. */
struct join_answer {
    uint64_t cluster_id;
    uint64_t member_id; /* this node's: as asked, unless the directory was known already */
    struct raft_members members;
};

enum err join_new(const struct dial_options *dial, const struct join_options *options, int64_t now_ms,
                  struct join **out, struct errmsg *em) MUST_USE;
void join_free(struct join *j); /* NULL is allowed */
/* ERR_AGAIN: not answered yet. OK: *out is set. Anything else: refused, for good, in words. */
enum err join_turn(struct join *j, int64_t now_ms, struct join_answer *out, struct errmsg *em) MUST_USE;
int64_t join_next_ms(const struct join *j);
const char *join_address(const struct join *j); /* whom it asks now */

/* --- the reply, for tests -------------------------------------------------------------------- */

enum join_reply_kind { JOIN_REPLY_OTHER, JOIN_REPLY_ERROR, JOIN_REPLY_JOINED };
struct join_reply {
    enum join_reply_kind kind;
    struct slice text; /* of an error; borrowed */
    struct join_answer answer;
    size_t used_bytes;
};
/* The reply at the front: a status, an error, or *3 of two integers (bulk or not) and the members.
 * ERR_AGAIN: not complete. ERR_PROTO: not such a reply. */
enum err join_reply_decode(struct slice in, struct join_reply *out) MUST_USE;

#endif
