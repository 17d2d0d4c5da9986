/* state/op.h - operations: what is replicated, and the batch that carries them through the log.
 *
 * PURPOSE  Encode and decode operations and batches. An operation is not a command: `cmd` turns
 *          what a client typed into one of these. Decides nothing about their effect.
 * OWNS     Nothing. Decoded slices borrow from the batch's bytes.
 * USES     mvcc (types), base.
 * THREADS  Any (pure).
 * LIMITS   OP_BATCH_BYTES_MAX is where a batch is closed; OP_BYTES_MAX one operation;
 *          OP_TXN_DEPTH_MAX nesting.
 * ERRORS   ERR_CORRUPT for bytes that are no batch or no operation; ERR_UNSUPPORTED for a format,
 *          kind or feature level that this version does not know: a replica stops, never guesses.
 *
 * FORMAT   All little-endian. Written once, kept for ever; numbers are never reused.
 *  batch   u16 format (1) | u16 feature level needed | u32 group | u64 stamp_ms | i64 wall_ms |
 *          u32 operation count | u32 run count | runs                           (32 bytes + runs)
 *  run     u64 origin member | u64 first sequence | u64 floor (the origin's lowest unanswered
 *          sequence) | u64 give-up stamp (0: none) | u32 origin incarnation | u32 operation count |
 *          u32 bytes of the operations | u32 zero | operations                  (48 bytes + ops)
 *          The operations of a run have consecutive sequences.
 *  op      u32 bytes of the whole | u8 kind | u8 database | u16 flags | u32 user | u32 auth revision |
 *          u32 field mask | fields in ascending bit order                      (20 bytes + fields)
 *  fields  bit 0 KEY     u32 length, internal key (database byte + key)
 *          bit 1 VALUE   u32 length, bytes
 *          bit 2 KEY2    u32 length, internal key: destination, or end of a range (exclusive; only
 *                        the database byte + 1 means "to the end of the database")
 *          bit 3 COND    u8 enum op_cond | u64 number | u32 length, bytes (value; for FENCE the lock's
 *                        internal key)
 *          bit 4 LIFE    u8 enum op_life | i64 ms or lease id
 *          bit 5 NUMBER  i64
 *          bit 6 ID      u64
 *          bit 7 LIST    u32 count | u32 bytes | items: DEL, EXPIRE: u32 length, internal key;
 *                        MPUT: u32 length, internal key, u32 length, value; LEASE_KEEPALIVE: u64 id;
 *                        ATTACH: keys; TXN: operations of the THEN branch
 *          bit 8 LIST2   as LIST: EXPIRE: u64 lease ids; TXN: operations of the ELSE branch
 *          bit 9 COMPARES u32 count | u32 bytes | compares
 *          bit 10 NAME   u32 length, bytes (configuration name, member name...)
 *  compare u8 enum compare_target | u8 enum compare_op | u8 1 if range | u8 zero | i64 number |
 *          u32 length, internal key | [range: u32 length, internal end] | u32 length, bytes
 */
#ifndef STATE_OP_H
#define STATE_OP_H

#include "base/buf.h"
#include "mvcc/mvcc_row.h"

#define OP_BATCH_FORMAT 1
#define OP_BATCH_HEAD_BYTES 32
#define OP_RUN_HEAD_BYTES 48
#define OP_HEAD_BYTES 20
#define OP_COMPARE_BYTES 20 /* of one key, without that and the bytes */
#define OP_BATCH_BYTES_MAX (256u << 10)
#define OP_BYTES_MAX (68u << 20) /* the hard cap; the configured request limit is far lower */
#define OP_TXN_DEPTH_MAX 8
#define OP_FEATURE_LEVEL 1

/* Numbers are in logs for ever. */
enum op_kind {
    OP_NOOP = 1,
    OP_PUT = 2,         /* KEY VALUE [COND] [LIFE]; flags below */
    OP_DEL = 3,         /* LIST of keys, or KEY with COND */
    OP_DEL_RANGE = 4,   /* KEY KEY2 [NUMBER: at most this many keys, 0 = all up to the limit] */
    OP_INCR = 5,        /* KEY NUMBER; result.number = new value */
    OP_APPEND = 6,      /* KEY VALUE; result.number = new length */
    OP_SETRANGE = 7,    /* KEY VALUE NUMBER(offset) */
    OP_LIFE = 8,        /* KEY LIFE [COND by op_life_cond in NUMBER]; result.number 1/0 */
    OP_RENAME = 9,      /* KEY KEY2; OPF_NX: only if the destination is missing */
    OP_COPY = 10,       /* KEY KEY2 (its database may be another); OPF_REPLACE */
    OP_MPUT = 11,       /* LIST of pairs [COND NX|XX over all] [LIFE]; result.number 1/0 */
    OP_TXN = 12,        /* COMPARES LIST LIST2; OPF_REDIS: errors per element, no roll-back */
    OP_LEASE_GRANT = 13,     /* NUMBER ttl_ms [ID wanted] */
    OP_LEASE_REVOKE = 14,    /* ID */
    OP_LEASE_KEEPALIVE = 15, /* LIST of ids */
    OP_LEASE_ATTACH = 16,    /* ID LIST of keys */
    OP_EXPIRE = 17,     /* LIST keys, LIST2 lease ids: a wish, see state.h */
    OP_COMPACT = 18,    /* NUMBER revision */
    OP_CONFIG = 19,     /* NAME VALUE: replicated configuration */
    OP_CLOCK = 20,      /* nothing: the entry's stamp is the message */
    OP_ALARM = 21,      /* NUMBER kind, ID member, OPF_NX = raise, else clear */
    OP_SEQ = 22,        /* KEY prefix VALUE [LIFE lease]; result.key */
    OP_LOCAL = 23,      /* inside TXN only: the place of a read that only the origin executes.
                           [KEY must be missing or a string, else WRONGTYPE] */
    OP_INCARNATION = 24, /* ID member, NUMBER incarnation: a member started; older ones are refused */
    OP_INCR_FLOAT = 25,  /* KEY VALUE(text of the number to add); the sum is the key's text */
    OP_KIND_END
};

enum {
    OPF_NX = 1,           /* see kinds */
    OPF_REPLACE = 2,
    OPF_PREV = 4,         /* the origin wants the former version(s) */
    OPF_KEEP_VALUE = 8,   /* KV PUT IGNOREVALUE: only if the key exists (ERR_KEY_NOT_FOUND) */
    OPF_MUST_EXIST = 16,  /* KV PUT IGNORELEASE: ERR_KEY_NOT_FOUND if missing */
    OPF_REDIS = 32,       /* TXN: Redis' MULTI mode */
    OPF_KV = 64,          /* came from KV PUT: an existing value of another type is replaced */
};

enum op_cond {
    COND_NONE = 0,
    COND_MISSING = 1, /* NX */
    COND_EXISTS = 2,  /* XX */
    COND_VALUE_EQ = 3, /* IFEQ: missing key: not met */
    COND_VALUE_NE = 4, /* IFNE: missing key: met */
    COND_MOD_EQ = 5,   /* IFMOD: 0 = must not exist */
    COND_FENCE = 6,    /* bytes = lock's internal key, number = its create revision: else ERR_FENCED */
    COND_END
};

enum op_life {
    LIFE_DROP = 0,  /* no lifetime afterwards: a plain SET; the field may be absent */
    LIFE_KEEP = 1,  /* KEEPTTL, IGNORELEASE */
    LIFE_TTL = 2,   /* relative ms, >= 1 */
    LIFE_AT = 3,    /* absolute unix ms */
    LIFE_LEASE = 4, /* attach to a lease */
    LIFE_END
};

enum op_life_cond { LIFE_COND_NONE = 0, LIFE_COND_NX, LIFE_COND_XX, LIFE_COND_GT, LIFE_COND_LT,
                    LIFE_COND_XX_LT, LIFE_COND_END };

enum op_field {
    FIELD_KEY = 1, FIELD_VALUE = 2, FIELD_KEY2 = 4, FIELD_COND = 8, FIELD_LIFE = 16,
    FIELD_NUMBER = 32, FIELD_ID = 64, FIELD_LIST = 128, FIELD_LIST2 = 256, FIELD_COMPARES = 512,
    FIELD_NAME = 1024, FIELD_END = 2048
};

/* A list inside an operation: count items in bytes, as FORMAT says. */
struct op_list {
    uint32_t count;
    struct slice bytes;
};

/* Decoded: keys are INTERNAL (database byte first). Given to op_encode: key and key2 are the
 * client's keys and `db` is written before them; lists and compares are already in their final
 * bytes (op_list_add_*). An absent field is zero. */
struct op {
    enum op_kind kind;
    uint8_t db;
    uint16_t flags;
    uint32_t user;
    uint32_t auth_rev;
    uint32_t fields; /* enum op_field mask */
    struct slice key, key2, value, name;
    enum op_cond cond;
    uint64_t cond_number;
    struct slice cond_bytes;
    enum op_life life;
    int64_t life_ms;  /* TTL, AT */
    uint64_t lease_id; /* LEASE */
    int64_t number;
    uint64_t id;
    bool key2_elsewhere; /* to op_encode: key2 is in the database key2_db, not in db */
    uint8_t key2_db;
    struct op_list list, list2, compares;
};

/* Writes the fields that `fields` names; they must be those of the kind.
 * KEY2 of a range "to the end of the database": give key2_end = true and key2 is ignored.
 * cond_bytes of FENCE must be internal already. Appends to out; returns nothing: sizes were bounded. */
void op_encode(struct buf *out, const struct op *o, bool key2_to_end);

/* Reads one operation at *offset, moves *offset behind it; checks every length, kind, enum and
 * that the kind has the fields it needs and no unknown ones. Nested operations and compares are
 * checked too (depth <= OP_TXN_DEPTH_MAX), so later iteration cannot fail. Unchanged on error. */
enum err op_decode(struct slice bytes, size_t *offset, struct op *out) MUST_USE;

/* Building lists for op_encode. */
void op_list_add_key(struct buf *list, uint8_t db, struct slice key);
void op_list_add_pair(struct buf *list, uint8_t db, struct slice key, struct slice value);
void op_list_add_internal_key(struct buf *list, struct slice key);
void op_list_add_id(struct buf *list, uint64_t id);

/* Walking checked lists: *offset starts at 0; false at the end. */
bool op_list_next_key(const struct op_list *l, size_t *offset, struct slice *key);
bool op_list_next_pair(const struct op_list *l, size_t *offset, struct slice *key, struct slice *value);
bool op_list_next_id(const struct op_list *l, size_t *offset, uint64_t *id);
bool op_list_next_op(const struct op_list *l, size_t *offset, struct op *out);

enum compare_target {
    COMPARE_VERSION = 1, COMPARE_CREATE, COMPARE_MOD, COMPARE_LEASE, COMPARE_VALUE,
    COMPARE_EXISTS, COMPARE_MISSING, COMPARE_FENCE,
    COMPARE_LIFE, /* number = log position of the last lifetime change: WATCH */
    COMPARE_TARGET_END
};
enum compare_op { COMPARE_EQ = 1, COMPARE_NE, COMPARE_LT, COMPARE_GT, COMPARE_OP_END };

struct op_compare {
    enum compare_target target;
    enum compare_op op;
    bool range;
    int64_t number;
    struct slice key, end; /* decoded: internal; end only with range */
    struct slice bytes;
};
/* key/end as client's keys with db, end "to the end of the database" by end_to_end. */
void op_compare_add(struct buf *list, uint8_t db, const struct op_compare *c, bool end_to_end);
bool op_list_next_compare(const struct op_list *l, size_t *offset, struct op_compare *out);

/* --- batches -------------------------------------------------------------------- */

struct op_batch_head {
    uint16_t format, feature_level;
    uint32_t group;
    uint64_t stamp_ms;
    int64_t wall_ms;
    uint32_t op_count, run_count;
};

struct op_run {
    uint64_t member, first_seq, floor_seq, give_up_stamp_ms;
    uint32_t incarnation;
    uint32_t op_count;
    struct slice ops;
};

/* A writer fills a blob in place: op_batch_begin reserves the heads of the batch and of its first
 * run; op_encode appends operations; op_batch_seal fills in counts and stamps. One run: the
 * leader's own operations; runs of others are appended whole with op_batch_add_run. */
void op_batch_begin(struct buf *b);
void op_batch_seal(struct buf *b, const struct op_batch_head *head, const struct op_run *own);
void op_batch_add_run(struct buf *b, const struct op_run *run); /* after seal of the own run; recounts */
/* Whole runs as bytes, checked before. */
void op_batch_add_runs(struct buf *b, struct slice runs, uint32_t run_count, uint32_t op_count);
/* The whole slice must be one run: head and every operation are checked. */
enum err op_run_check(struct slice bytes, struct op_run *out, struct errmsg *em) MUST_USE;
#define OP_RUN_GIVE_UP_OFFSET 24 /* of the give-up stamp in the head of a run */

/* Checks head, runs and every operation. */
enum err op_batch_check(struct slice body, struct op_batch_head *head, struct errmsg *em) MUST_USE;
/* Walks the runs of a checked batch; *offset starts at 0. */
bool op_batch_next_run(struct slice body, size_t *offset, struct op_run *out);

#endif
