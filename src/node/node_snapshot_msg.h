/* node/node_snapshot_msg.h - what two nodes say to each other while a snapshot is sent.
 *
 * PURPOSE  Turn these messages into payloads and back. Decides nothing.
 * OWNS     Nothing.
 * USES     disk/store_export.h (limits).
 * THREADS  Any (pure).
 * LIMITS   A chunk has at most STORE_EXPORT_CHUNK_BYTES, or one record of STORE_RECORD_BYTES_MAX.
 * ERRORS   ERR_PROTO: cannot be such a message. ERR_CORRUPT: its checksum does not match.
 *
 * FORMAT   u8 kind | u64 id (of the transfer, the sender's) | fields | u32 CRC32C of all before
 *          16 BEGIN   u32 format (SNAPSHOT_MSG_FORMAT) | u32 STORE_EXPORT_FORMAT | u32 CHECKPOINT_FORMAT |
 *                     u64 index | u64 term | u64 compacted rev | u64 floor rev
 *          17 CHUNK   u64 seq (1, 2, ...) | bytes: whole records, see store_export.h
 *          18 END     u64 chunks | u64 records | u32 CRC32C of all chunks' bytes
 *          19 ACK     u64 seq (so many chunks are taken) | u8 stage
 *          20 REFUSE  u8 reason
 *          The membership is among the records, as of the index.
 */
#ifndef NODE_SNAPSHOT_MSG_H
#define NODE_SNAPSHOT_MSG_H

#include "disk/store_export.h"

#define SNAPSHOT_MSG_FORMAT 1

enum snapshot_kind {
    SNAPSHOT_BEGIN = 16, /* a node's payload of a kind from here ... */
    SNAPSHOT_CHUNK = 17,
    SNAPSHOT_END = 18,
    SNAPSHOT_ACK = 19,
    SNAPSHOT_REFUSE = 20,
    SNAPSHOT_KIND_LAST = 31, /* ... to here is one of these, or of a later version's */
};

enum snapshot_stage {
    SNAPSHOT_WAITS = 1,     /* for what the sender still has */
    SNAPSHOT_WORKS = 2,     /* on what it has: it will say more by itself */
    SNAPSHOT_INSTALLED = 3,
};

enum snapshot_reason {
    SNAPSHOT_BUSY = 1,     /* another one is under way */
    SNAPSHOT_UNWANTED,     /* it brings nothing new here */
    SNAPSHOT_UNSUPPORTED,  /* a format that this node does not know */
    SNAPSHOT_GAP,          /* a chunk is missing */
    SNAPSHOT_DAMAGED,      /* what came cannot be */
    SNAPSHOT_FAILED,       /* this node could not keep it: see its log */
    SNAPSHOT_UNKNOWN,      /* no such transfer (any more) */
};
const char *snapshot_reason_name(enum snapshot_reason reason); /* "busy"; static */

struct snapshot_msg {
    enum snapshot_kind kind;
    uint64_t id;
    uint32_t format, store_format, checkpoint_format; /* BEGIN */
    struct store_view view;                           /* BEGIN */
    uint64_t seq;       /* CHUNK, ACK; END: chunks */
    struct slice bytes; /* CHUNK: borrowed from the payload */
    uint64_t count;     /* END: records */
    uint32_t crc;       /* END */
    enum snapshot_stage stage;
    enum snapshot_reason reason;
};

/* Overwrites *out. */
void snapshot_msg_encode(struct buf *out, const struct snapshot_msg *m);
enum err snapshot_msg_decode(struct slice payload, struct snapshot_msg *out) MUST_USE;

#endif
