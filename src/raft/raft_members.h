/* raft/raft_members.h - who belongs to the group.
 *
 * PURPOSE  Hold one configuration of the group and turn it into bytes and back.
 *          Does not decide when a configuration is in force: see raft.h.
 * OWNS     Nothing; struct raft_members is a plain value.
 * USES     base/.
 * THREADS  Any (pure).
 * LIMITS   RAFT_MEMBERS_MAX members, RAFT_VOTERS_MAX voters, the text lengths below.
 * ERRORS   ERR_LIMIT, ERR_SYNTAX (ids or texts that cannot be), ERR_CORRUPT (not such bytes).
 *
 * FORMAT   (body of a RAFT_ENTRY_MEMBERS entry and part of a snapshot; little-endian, pinned)
 *          u8 format (RAFT_MEMBERS_FORMAT) | u8 member count | then each, ids ascending:
 *          u64 id | u64 directory id | u8 role | u16 length, peer address |
 *          u16 length, client address | u16 length, name
 */
#ifndef RAFT_RAFT_MEMBERS_H
#define RAFT_RAFT_MEMBERS_H

#include "base/buf.h"

#define RAFT_MEMBERS_FORMAT 1
#define RAFT_MEMBERS_MAX 32
#define RAFT_VOTERS_MAX 7
#define RAFT_ADDRESS_BYTES_MAX 263 /* a DNS name of 255, ':' and a port, and brackets */
#define RAFT_NAME_BYTES_MAX 63

/* Numbers are on disk. */
enum raft_member_role {
    RAFT_LEARNER = 0, /* stays one until it is promoted by hand */
    RAFT_VOTER = 1,
    RAFT_JOINING = 2, /* a learner that is promoted as soon as it is in sync */
};

struct raft_member {
    uint64_t id;           /* never 0 */
    uint64_t directory_id; /* of the data directory that may speak for it; 0: not yet known */
    enum raft_member_role role;
    char peer_address[RAFT_ADDRESS_BYTES_MAX + 1]; /* "host:port", terminated; may be empty */
    char client_address[RAFT_ADDRESS_BYTES_MAX + 1];
    char name[RAFT_NAME_BYTES_MAX + 1];
};

/* Ids ascend and are unique. count 0: this node belongs to no group yet. */
struct raft_members {
    size_t count;
    struct raft_member at[RAFT_MEMBERS_MAX];
};

/* What names and addresses are made of: printable ASCII without spaces, '"' and '\\'. So they can be
 * logged, and are words wherever they are written. "" is one. Not checked in what was written before. */
bool raft_member_text_is_good(struct slice text);

/* NULL if absent; borrowed from m until m changes. */
const struct raft_member *raft_members_find(const struct raft_members *m, uint64_t id);
bool raft_members_is_voter(const struct raft_members *m, uint64_t id);
size_t raft_members_voter_count(const struct raft_members *m);
bool raft_members_eq(const struct raft_members *a, const struct raft_members *b);

/* Adds the member, or replaces the one with its id. ERR_LIMIT, ERR_SYNTAX. */
enum err raft_members_put(struct raft_members *m, const struct raft_member *member) MUST_USE;
/* ERR_MEMBER if absent. */
enum err raft_members_remove(struct raft_members *m, uint64_t id) MUST_USE;

void raft_members_encode(struct buf *out, const struct raft_members *m);
/* The whole slice must be one configuration: ERR_CORRUPT. On error *out is unchanged. */
enum err raft_members_decode(struct slice in, struct raft_members *out) MUST_USE;

#endif
