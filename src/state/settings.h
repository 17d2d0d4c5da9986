/* state/settings.h - replicated configuration: the limits that apply checks.
 *
 * PURPOSE  One table of names, defaults and ranges, and the values in force. The conf file seeds
 *          them at bootstrap; afterwards OP_CONFIG changes them on all nodes at one log position.
 * OWNS     Nothing; struct settings is a plain value.
 * USES     base.
 * THREADS  Any (pure).
 * LIMITS   Each row's min and max.
 * ERRORS   ERR_NOT_FOUND: no such name. ERR_CONFIG: the value is no good, *em says why.
 *          ERR_CORRUPT, ERR_UNSUPPORTED from settings_decode.
 *
 * FORMAT   u8 version (1) | u8 count | count x (u8 name length, name, u8 value length, value as
 *          settings_get prints it). Names are never reused; a default is never changed, because
 *          a value that is its default is not part of the hash.
 */
#ifndef STATE_SETTINGS_H
#define STATE_SETTINGS_H

#include "base/buf.h"

#define SETTINGS_FORMAT 1
#define SETTING_TEXT_BYTES_MAX 32 /* a value as text */
/* No request is larger, whatever is configured: an entry of the log takes half of it, and what MULTI
 * queues and WATCH compares, once more behind ELSE, stays below OP_BYTES_MAX with it. */
#define SETTINGS_REQUEST_BYTES_MAX (16u << 20)

/* Bits of notify_keyspace_events; the letters are Redis' own. */
enum notify_flag {
    NOTIFY_KEYSPACE = 1,      /* K */
    NOTIFY_KEYEVENT = 2,      /* E */
    NOTIFY_GENERIC = 4,       /* g */
    NOTIFY_STRING = 8,        /* $ */
    NOTIFY_LIST = 16,         /* l */
    NOTIFY_SET = 32,          /* s */
    NOTIFY_HASH = 64,         /* h */
    NOTIFY_ZSET = 128,        /* z */
    NOTIFY_EXPIRED = 256,     /* x */
    NOTIFY_EVICTED = 512,     /* e */
    NOTIFY_STREAM = 1024,     /* t */
    NOTIFY_KEY_MISS = 2048,   /* m: not part of A */
    NOTIFY_MODULE = 4096,     /* d */
    NOTIFY_NEW = 8192,        /* n: not part of A */
    NOTIFY_ALL = 4 | 8 | 16 | 32 | 64 | 128 | 256 | 512 | 1024 | 4096 /* A */
};

struct settings {
    uint64_t key_bytes_max;          /* key-max-bytes: without the database byte */
    uint64_t value_bytes_max;        /* value-max-bytes */
    uint64_t request_bytes_max;      /* request-max-bytes: one operation as encoded */
    uint64_t txn_ops_max;            /* txn-max-ops: one-shot transactions */
    uint64_t multi_ops_max;          /* multi-max-ops: MULTI/EXEC and scripts */
    uint64_t op_keys_max;            /* op-max-keys: keys one operation changes; keys a lease */
    uint64_t lease_count_max;        /* lease-max-count */
    uint64_t quota_bytes;            /* quota-bytes: live bytes; 0: no quota */
    uint64_t retain_ms;              /* retain-ms: history kept by time; 0: no such limit */
    uint64_t retain_revs;            /* retain-revs: by count; 0: no such limit */
    uint64_t retain_history_bytes;   /* retain-history-bytes; 0: no such limit */
    uint64_t retain_revs_min;        /* retain-min-revs: never compacted automatically */
    uint64_t notify_keyspace_events; /* notify-keyspace-events: enum notify_flag */
    uint64_t txn_bytes_max;          /* txn-max-bytes: values one transaction writes, computed or not */
};

enum setting_kind { SETTING_COUNT, SETTING_BYTES, SETTING_MS, SETTING_NOTIFY };

struct setting_row {
    const char *name;
    enum setting_kind kind;
    size_t offset; /* of a uint64_t in struct settings */
    uint64_t fallback, min, max;
    const char *unit; /* "bytes", "ms", "keys"... */
    const char *help; /* one sentence */
};

extern const struct setting_row setting_rows[];
extern const size_t setting_row_count;

void settings_init(struct settings *s); /* all defaults */

/* NULL if there is no such name (ASCII case does not matter). */
const struct setting_row *setting_find(struct slice name);

/* Numbers are decimal; bytes also with k, kb, m, mb, g, gb as in redis.conf, ms also with ms, s, m,
 * h. Unchanged on error; em may be NULL. */
enum err settings_set(struct settings *s, struct slice name, struct slice value,
                      struct errmsg *em) MUST_USE;

/* The value as CONFIG GET prints it: a plain number, or the flags in Redis' order. Appends. */
void settings_get(const struct settings *s, const struct setting_row *row, struct buf *out);

/* Sum over values that are not their default: the same for equal settings on every version. */
uint64_t settings_hash(const struct settings *s);

void settings_encode(const struct settings *s, struct buf *out);
/* The whole slice. Names that are missing get their default. Unchanged on error. */
enum err settings_decode(struct settings *s, struct slice bytes, struct errmsg *em) MUST_USE;

#endif
