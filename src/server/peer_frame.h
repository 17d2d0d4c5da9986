/* server/peer_frame.h - what members say to each other below raft: frames and handshakes, as bytes.
 *
 * PURPOSE  Turn frames into bytes and back. Does not decide who is admitted.
 * OWNS     Nothing: what is decoded borrows from the bytes given.
 * USES     base/ only. No I/O.
 * THREADS  Any (a chain: its pool's).
 * LIMITS   PEER_FRAME_BYTES_MAX a payload; PEER_HANDSHAKE_BYTES_MAX of every other kind, and the
 *          PEER_..._BYTES_MAX of its texts.
 * ERRORS   ERR_AGAIN the frame is not complete; ERR_PROTO these are not such bytes; ERR_UNSUPPORTED
 *          another version; ERR_CORRUPT a checksum is wrong. errmsg says which.
 *
 * FORMAT   (little-endian, pinned)
 *          A frame: 16 bytes, then the payload.
 *           0  "CRP"            3 bytes
 *           3  u8  version      PEER_FRAME_VERSION
 *           4  u32 length       of the payload
 *           8  u8  kind         enum peer_frame_kind
 *           9  u8  0
 *          10  u16 head check   the low half of the CRC32C of bytes 0..9: a broken length is
 *                               noticed at once, not after waiting for so many bytes
 *          12  u32 checksum     CRC32C of bytes 0..11 and the payload
 *          Payloads. Every text is u16 length and bytes. More bytes than named are refused.
 *          HELLO      u16 protocol | u8 channel | u8 0 | u32 group | u64 cluster | u64 from |
 *                     u64 directory of from | u64 to | text name of from | text address of from
 *          WELCOME    u16 protocol | 6 bytes 0 | u64 member | u64 its directory
 *          REFUSE     u8 final (1: the same again will be refused again) | text
 *          PAYLOAD    node's
 *          FOUNDER    u16 protocol | u16 0 | u32 group | u64 member | u64 directory | text name |
 *                     text client address | text list | text members (raft_members_encode; empty
 *                     until the group is complete)
 *          The first of a connection is HELLO, answered by WELCOME or REFUSE, and then PAYLOADs
 *          follow in the direction of the HELLO; or FOUNDER, answered by FOUNDER or REFUSE, which
 *          ends it.
 */
#ifndef SERVER_PEER_FRAME_H
#define SERVER_PEER_FRAME_H

#include "base/chain.h"

#define PEER_FRAME_VERSION 1
#define PEER_PROTOCOL 2 /* of what is inside of frames */
#define PEER_FRAME_HEAD_BYTES 16
#define PEER_FRAME_BYTES_MAX (66u << 20) /* an append that the largest entry made too long */
#define PEER_HANDSHAKE_BYTES_MAX 16384
#define PEER_REFUSAL_BYTES_MAX 480
#define PEER_LIST_BYTES_MAX 4096
#define PEER_MEMBERS_BYTES_MAX 8192

/* Numbers are on the wire. */
enum peer_frame_kind {
    PEER_HELLO = 1,
    PEER_WELCOME = 2,
    PEER_REFUSE = 3,
    PEER_PAYLOAD = 4,
    PEER_FOUNDER = 5,
};

struct peer_frame {
    enum peer_frame_kind kind;
    struct slice payload; /* borrowed */
    size_t used_bytes;    /* of the input: head and payload */
};

/* The frame at the front of `in`. ERR_AGAIN: *need_bytes is set to how many bytes it takes at
 * least. handshake: only the smaller bound is allowed. *out is set on OK only. */
enum err peer_frame_decode(struct slice in, bool handshake, struct peer_frame *out,
                           size_t *need_bytes, struct errmsg *em) MUST_USE;

/* payload.len <= PEER_FRAME_BYTES_MAX, or the handshake's bound. Copied once, into the chain. */
void peer_frame_put(struct chain *out, enum peer_frame_kind kind, struct slice payload);

struct peer_hello {
    uint8_t channel;
    uint32_t group;
    uint64_t cluster_id, from_id, directory_id, to_id;
    struct slice name, address; /* of from_id, for who does not know it yet; borrowed when decoded */
};
/* What is not printable in the texts, as in an old directory's name, becomes '?'. */
void peer_hello_put(struct chain *out, const struct peer_hello *hello);
/* ERR_UNSUPPORTED for another protocol, whatever else it says; em names both. Zero ids: ERR_PROTO. */
enum err peer_hello_decode(struct slice in, struct peer_hello *out, struct errmsg *em) MUST_USE;

struct peer_welcome {
    uint64_t member_id, directory_id;
};
void peer_welcome_put(struct chain *out, const struct peer_welcome *welcome);
enum err peer_welcome_decode(struct slice in, struct peer_welcome *out,
                             struct errmsg *em) MUST_USE;

struct peer_refusal {
    bool final;
    char text[PEER_REFUSAL_BYTES_MAX + 1]; /* printable ASCII without quotes, so that it can be logged */
};
void peer_refusal_put(struct chain *out, bool final, const char *text); /* cut */
enum err peer_refusal_decode(struct slice in, struct peer_refusal *out,
                             struct errmsg *em) MUST_USE;

/* Somebody who founds a group, or has founded it: see bootstrap.h. */
struct peer_founder {
    uint32_t group;
    uint64_t member_id, directory_id;
    struct slice name, client_address;
    struct slice list;    /* the members that it was told, in order of their names */
    struct slice members; /* empty: not complete */
};
void peer_founder_put(struct chain *out, const struct peer_founder *founder);
/* Texts are within their bounds and printable; neither list nor members are looked into. */
enum err peer_founder_decode(struct slice in, struct peer_founder *out,
                             struct errmsg *em) MUST_USE;

#endif
