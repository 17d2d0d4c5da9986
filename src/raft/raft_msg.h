/* raft/raft_msg.h - what the members of a group say to each other, and its bytes.
 *
 * PURPOSE  Define entries and messages and turn messages into bytes and back. Framing, a checksum
 *          over the frame, the group id and who may speak as `from` are the transport's business.
 * OWNS     A decoded message owns its entries: raft_msg_deinit().
 * USES     base/.
 * THREADS  Any (pure); bodies are counted, so: one thread at a time.
 * LIMITS   RAFT_MSG_ENTRIES_MAX entries a message, RAFT_ENTRY_BYTES_MAX a body.
 * ERRORS   ERR_PROTO for bytes that are no message, ERR_UNSUPPORTED for another version,
 *          ERR_CORRUPT for a body that does not match its checksum.
 *
 * FORMAT   (little-endian, pinned)
 *          u8 version (RAFT_MSG_VERSION) | u8 type | u8 flags (1 reject, 2 force) | u8 0 |
 *          u32 entry count | u64 from | u64 to | u64 term | u64 index | u64 log_term | u64 commit |
 *          u64 round | u64 hint | u64 clock_ms | then each entry:
 *          u64 term | u8 type | 3 bytes 0 | u32 crc | u32 body length | body
 *          The index of entry i is index + 1 + i. Terms do not descend and are not above `term`.
 */
#ifndef RAFT_RAFT_MSG_H
#define RAFT_RAFT_MSG_H

#include "base/buf.h"

#define RAFT_MSG_VERSION 1
#define RAFT_MSG_HEAD_BYTES 80
#define RAFT_MSG_ENTRY_HEAD_BYTES 20
#define RAFT_MSG_ENTRIES_MAX 1024
#define RAFT_ENTRY_BYTES_MAX (64u << 20)
#define RAFT_INDEX_MAX (UINT64_MAX >> 2) /* indexes and terms from outside stay below */

/* Numbers are on disk. */
enum raft_entry_type {
    RAFT_ENTRY_BATCH = 1,   /* opaque here */
    RAFT_ENTRY_NOOP = 2,    /* the first of a leader's term; no body */
    RAFT_ENTRY_MEMBERS = 3, /* raft_members_encode() */
};

struct raft_entry {
    uint64_t term;
    uint64_t index;
    uint8_t type;
    uint32_t crc;      /* crc32c(0, body), computed where it was proposed; 0 without a body */
    struct blob *body; /* counted; NULL when empty */
};

/* Numbers are on the wire. Fields that a type does not name are 0. `term` is the sender's, except
 * in PREVOTE and a granting PREVOTE_RESP: there it is the term the sender would campaign for. */
enum raft_msg_type {
    RAFT_MSG_PREVOTE = 1,        /* index, log_term: end of the log; force: the leader wants it */
    RAFT_MSG_PREVOTE_RESP = 2,   /* reject */
    RAFT_MSG_VOTE = 3,           /* as PREVOTE */
    RAFT_MSG_VOTE_RESP = 4,      /* reject */
    RAFT_MSG_APPEND = 5,         /* index, log_term: the entry before; commit; entries */
    RAFT_MSG_APPEND_RESP = 6,    /* index: durable and equal to the leader's up to here. reject:
                                    the `index` refused; hint, log_term: try at or below this */
    RAFT_MSG_HEARTBEAT = 7,      /* round; commit; clock_ms */
    RAFT_MSG_HEARTBEAT_RESP = 8, /* round; index: end of the log; commit */
    RAFT_MSG_READ = 9,           /* round: fresh request id; hint: the asker's read id; index: end
                                    of its log */
    RAFT_MSG_READ_RESP = 10,     /* round, hint: as asked; index: the read's index */
    RAFT_MSG_TIMEOUT_NOW = 11,   /* campaign at once */
};

struct raft_msg {
    enum raft_msg_type type;
    bool reject;
    bool force;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t round;
    uint64_t hint;
    uint64_t clock_ms; /* HEARTBEAT: the cluster clock. Opaque here: the node fills it as it encodes
                          and reads it as it decodes. */
    const struct raft_entry *entries;
    size_t entry_count;
};

const char *raft_msg_name(enum raft_msg_type type); /* "append"; static */

/* Small and timely: must overtake bulk in any queue to the peer. */
static inline bool raft_msg_is_urgent(const struct raft_msg *m)
{
    return m->type != RAFT_MSG_APPEND;
}

size_t raft_msg_encoded_bytes(const struct raft_msg *m);
void raft_msg_encode(struct buf *out, const struct raft_msg *m); /* appends */

/* The whole slice must be one message; nothing in it is believed. On OK *out owns a copy of the
 * entries and one reference to each body. On error *out is unchanged. */
enum err raft_msg_decode(struct slice in, struct raft_msg *out) MUST_USE;
void raft_msg_deinit(struct raft_msg *m); /* only for what raft_msg_decode or _copy made */

/* A copy that outlives the update it came from; takes references to the bodies. */
struct raft_msg raft_msg_copy(const struct raft_msg *m);

/* What raft_step requires of a message's own shape: known type, sane numbers, entries contiguous
 * behind `index`, terms in order, configurations that decode. */
bool raft_msg_is_valid(const struct raft_msg *m);

#endif
