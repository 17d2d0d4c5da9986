/* base/err.h - the one error type of the tree.
 *
 * PURPOSE  Name every refusal and every damage that crosses a function
 *          boundary; bugs of our own are ASSERTs, not errors.
 * OWNS     Nothing.
 * USES     Nothing.
 * THREADS  Any.
 * LIMITS   ERRMSG_BYTES_MAX for the text an operator reads.
 * ERRORS   This is the list. RESP prefix and text are what a client may see.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ERR_MAP(X) \
    /* symbol             prefix         text a client may see */ \
    X(ERR_AGAIN,          "TRYAGAIN",    "try again") \
    X(ERR_NOT_LEADER,     "TRYAGAIN",    "this node is not the leader") \
    X(ERR_CLUSTERDOWN,    "CLUSTERDOWN", "no leader") \
    X(ERR_TIMEOUT,        "TIMEOUT",     "outcome unknown") \
    X(ERR_NOT_FOUND,      "ERR",         "no such object") \
    X(ERR_EXISTS,         "ERR",         "already exists") \
    X(ERR_LIMIT,          "ERR",         "limit exceeded") \
    X(ERR_BUSY,           "TRYAGAIN",    "too many requests") \
    X(ERR_SYNTAX,         "ERR",         "syntax error") \
    X(ERR_PROTO,          "ERR",         "Protocol error") \
    X(ERR_ARITY,          "ERR",         "wrong number of arguments") \
    X(ERR_NOT_INT,        "ERR",         "value is not an integer or out of range") \
    X(ERR_NOT_FLOAT,      "ERR",         "value is not a valid float") \
    X(ERR_OVERFLOW,       "ERR",         "increment or decrement would overflow") \
    X(ERR_NAN,            "ERR",         "increment would produce NaN or Infinity") \
    X(ERR_OFFSET,         "ERR",         "offset is out of range") \
    X(ERR_STRING_LIMIT,   "ERR",         "string exceeds maximum allowed size (proto-max-bulk-len)") \
    X(ERR_KEY_LIMIT,      "ERR",         "key is too large") \
    X(ERR_VALUE_LIMIT,    "ERR",         "value is too large") \
    X(ERR_REQUEST_LIMIT,  "ERR",         "request is too large") \
    X(ERR_TXN_LIMIT,      "ERR",         "the transaction writes too many bytes (txn-max-bytes)") \
    X(ERR_OPS_LIMIT,      "ERR",         "too many operations in txn request") \
    X(ERR_DUPLICATE,      "ERR",         "duplicate key given in txn request") \
    X(ERR_KEYS_LIMIT,     "ERR",         "operation changes too many keys") \
    X(ERR_WRONGTYPE,      "WRONGTYPE",   "Operation against a key holding the wrong kind of value") \
    X(ERR_NO_KEY,         "ERR",         "no such key") \
    X(ERR_KEY_NOT_FOUND,  "ERR",         "key not found") \
    X(ERR_VALUE_PROVIDED, "ERR",         "value is provided") \
    X(ERR_LEASE_PROVIDED, "ERR",         "lease is provided") \
    X(ERR_LEASE_EXISTS,   "ERR",         "lease already exists") \
    X(ERR_LEASE_TTL,      "ERR",         "too large lease TTL") \
    X(ERR_LEASE_TTL_LOW,  "ERR",         "invalid lease TTL") \
    X(ERR_LEASE_LIMIT,    "ERR",         "too many leases") \
    X(ERR_LEASE_KEYS,     "ERR",         "too many keys on the lease") \
    X(ERR_NOLEASE,        "NOLEASE",     "requested lease not found") \
    X(ERR_EXPIRE,         "ERR",         "invalid expire time") \
    X(ERR_COMPACTED,      "COMPACTED",   "required revision has been compacted") \
    X(ERR_FUTURE,         "FUTURE",      "required revision is a future revision") \
    X(ERR_FENCED,         "FENCED",      "stale token") \
    X(ERR_NOSPACE,        "NOSPACE",     "database space exceeded") \
    X(ERR_CURSOR,         "ERR",         "invalid cursor") \
    X(ERR_IN_TXN,         "ERR",         "Command not allowed inside a transaction") \
    X(ERR_MEMBER,         "ERR",         "member not found") \
    X(ERR_DIVERGED,       "CLUSTERDOWN", "this member's state differs from the majority's; remove it and join it again") \
    X(ERR_ADDRESS,        "ERR",         "invalid address, host:port is expected") \
    X(ERR_QUORUM,         "ERR",         "the change would lose quorum") \
    X(ERR_NOAUTH,         "NOAUTH",      "Authentication required.") \
    X(ERR_NOPERM,         "NOPERM",      "this user has no permissions") \
    X(ERR_FOREIGN,        "ERR",         "not the Redis protocol") \
    X(ERR_IO,             "ERR",         "input/output error") \
    X(ERR_LOCKED,         "ERR",         "the directory is in use by another process") \
    X(ERR_CONFIG,         "ERR",         "invalid configuration") \
    X(ERR_UNSUPPORTED,    "ERR",         "not supported") \
    X(ERR_CORRUPT,        "ERR",         "stored data is damaged")

#define ERR_ENUM(sym, prefix, text) sym,
enum err { OK = 0, ERR_MAP(ERR_ENUM) ERR_SENTINEL };
#undef ERR_ENUM

#define MUST_USE __attribute__((warn_unused_result))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* The one macro in the tree that hides control flow. It may only return. */
#define TRY(expr) \
    do { \
        enum err try_err_ = (expr); \
        if (try_err_ != OK) return try_err_; \
    } while (0)

const char *err_prefix(enum err e); /* "ERR", "WRONGTYPE", ...; static, err != OK */
const char *err_text(enum err e);   /* static, err != OK */
const char *err_name(enum err e);   /* "ERR_AGAIN"; "OK" for OK */

/* Detail for an operator or a client: what, where. Always terminated. */
#define ERRMSG_BYTES_MAX 512
struct errmsg {
    char text[ERRMSG_BYTES_MAX];
};

/* NULL is allowed and does nothing. Cuts at the end. */
void errmsg_set(struct errmsg *em, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
