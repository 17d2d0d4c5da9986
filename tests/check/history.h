/* check/history.h - what clients of a group did and saw, to be judged afterwards.
 *
 * PURPOSE  Record operations, watch streams and the event log of one run, in memory and as text.
 *          Judges nothing: linear.h, wgl.h, watch_check.h, lease_check.h and once_check.h do.
 * OWNS     struct history: all records and all bytes they point at, until history_free.
 * USES     src/base.
 * THREADS  One thread a history; a program with several keeps one each and writes them to one
 *          file, the order of lines does not matter (but within one watch stream).
 * LIMITS   A line is at most HISTORY_LINE_BYTES_MAX.
 * ERRORS   ERR_SYNTAX and ERR_IO from the reader, with line number in the message.
 * FORMAT   One record a line, words separated by one space; bytes outside '!'..'~' and '%' are
 *          written %hh, no bytes at all as '-', a lone '-' as %2d. Times are ns of one clock.
 *     O client node kind invoke complete|- outcome applied rev at lease ttl flags {item}
 *       item = role key value mod create version number
 *     E rev n op key value create version lease                    the event log
 *     W watch client begin end from flags                          a watch stream
 *     V watch time rev n op key value create version lease prevmod prev
 *     P watch time rev    progress        C watch time rev   canceled, rev = the next unsent
 *     B watch time        broken: whatever came behind the last record is not known
 *
 * What a recorder must do so that the checkers can be exact:
 *   - values of puts and tokens of appends are unique in the whole history;
 *   - a key that is incremented is neither put nor deleted; a key that is appended to neither;
 *   - `applied` says that something changed (a DEL of nothing, a failed compare: false);
 *   - reads inside a transaction stand before its writes and read other keys than it writes;
 *   - a connection that READONLY reads come from is a client of its own in each life of a server;
 *   - a watch stream is one registration on one connection; a resumed one is another stream.
 */
#ifndef CHECK_HISTORY_H
#define CHECK_HISTORY_H

#include <stdio.h>

#include "base/base.h"
#include "base/buf.h"

#define HISTORY_LINE_BYTES_MAX ((size_t)16 << 20)
#define HISTORY_NEVER INT64_MAX /* complete_ns of what was never answered */

#define HISTORY_KINDS(X) \
    X(PUT, "put") X(DELETE, "delete") X(GET, "get") X(RANGE, "range") X(CAS, "cas") X(TXN, "txn") \
    X(INCR, "incr") X(APPEND, "append") X(GRANT, "grant") X(KEEPALIVE, "keepalive") \
    X(REVOKE, "revoke") X(LOCK, "lock") X(UNLOCK, "unlock") X(COMPACT, "compact")
#define HISTORY_OUTCOMES(X) X(DONE, "done") X(UNKNOWN, "unknown") X(REFUSED, "refused")
#define HISTORY_ROLES(X) \
    /* changes */ X(ITEM_PUT, "put") X(ITEM_DEL, "del") X(ITEM_INCR, "incr") \
    X(ITEM_APPEND, "append") \
    /* conditions */ X(ITEM_IF_VALUE, "ifvalue") X(ITEM_IF_MOD, "ifmod") \
    X(ITEM_IF_EXISTS, "ifexists") \
    /* observations */ X(ITEM_SAW, "saw") X(ITEM_NONE, "none") X(ITEM_SPAN, "span")
#define HISTORY_EVENT_OPS(X) X(EVENT_PUT, "put") X(EVENT_DEL, "del") X(EVENT_EXPIRE, "expire")

#define HISTORY_ENUM(symbol, word) HISTORY_##symbol,
enum history_kind { HISTORY_KINDS(HISTORY_ENUM) HISTORY_KIND_COUNT };
enum history_outcome { HISTORY_OUTCOMES(HISTORY_ENUM) HISTORY_OUTCOME_COUNT };
enum history_role { HISTORY_ROLES(HISTORY_ENUM) HISTORY_ROLE_COUNT };
enum history_event_op { HISTORY_EVENT_OPS(HISTORY_ENUM) HISTORY_EVENT_OP_COUNT };
#undef HISTORY_ENUM

#define HISTORY_LOCAL 1U /* op flag: a READONLY read, may be stale */

/* One part of an operation. Which fields a role uses:
 *   PUT key value | DEL key | INCR key number=delta value=result in decimal, empty if not known
 *   APPEND key value=what was added | IF_VALUE key value | IF_MOD key mod (0: must be missing)
 *   IF_EXISTS key | NONE key | SAW key value, mod create version where known, else 0
 *   SPAN key=begin value=end (empty: to the end) number=limit (0: none); the SAW items behind it
 *   are all that was there, in order. Needs the operation's rev. */
struct history_item {
    struct slice key;
    struct slice value;
    uint64_t mod;
    uint64_t create;
    uint64_t version;
    int64_t number;
    enum history_role role;
};

struct history_op {
    int64_t invoke_ns;
    int64_t complete_ns; /* HISTORY_NEVER unless DONE or REFUSED */
    uint64_t rev;        /* the revision answered, 0 = none was */
    uint64_t at_rev;     /* the revision asked for (REV r), compacted at (COMPACT); 0 = present */
    uint64_t lease;      /* of grant, keepalive, revoke; of the keys put */
    int64_t ttl_ms;      /* of grant and keepalive; of the keys put, 0 = no lifetime of their own */
    uint32_t client;
    uint32_t node;
    enum history_kind kind;
    enum history_outcome outcome; /* REFUSED: must have had no effect */
    bool applied;                 /* of DONE: changed something; keepalive: the lease was there */
    unsigned flags;
    size_t item_first;
    size_t item_count;
};

struct history_event {
    uint64_t rev;
    uint32_t n; /* from 1 within the revision */
    enum history_event_op op;
    struct slice key;
    struct slice value;
    uint64_t create;
    uint64_t version;
    uint64_t lease;
};

#define HISTORY_WATCH_PREV 1U
#define HISTORY_WATCH_NO_PUT 2U
#define HISTORY_WATCH_NO_DEL 4U
#define HISTORY_WATCH_KEYS_ONLY 8U

struct history_watch {
    uint64_t id;
    uint32_t client;
    unsigned flags;
    struct slice begin;
    struct slice end; /* empty: to the end */
    uint64_t from;    /* the first revision it was to deliver */
};

enum history_mark_kind { HISTORY_MARK_EVENT, HISTORY_MARK_PROGRESS, HISTORY_MARK_CANCELED,
                         HISTORY_MARK_BROKEN };

/* Something a watch stream delivered. rev: of progress and cancel; event.n may be 0 (not told). */
struct history_mark {
    enum history_mark_kind kind;
    uint64_t watch;
    int64_t time_ns;
    uint64_t rev;
    struct history_event event;
    struct slice prev;
    int64_t prev_mod; /* with WATCH_PREV: 0 = there was none, -1 = compacted */
};

struct history {
    struct history_op *ops;
    struct history_item *items;
    struct history_event *log; /* the full event log from revision 1 (or params' first) */
    struct history_watch *watches;
    struct history_mark *marks;
    size_t op_count, item_count, log_count, watch_count, mark_count;
    size_t op_cap, item_cap, log_cap, watch_cap, mark_cap;
    uint8_t *room; /* where copied bytes go */
    size_t room_bytes;
    uint8_t **chunks;
    size_t chunk_count, chunk_cap;
};

struct history *history_new(void);
void history_free(struct history *h); /* NULL is allowed */

/* Begins an operation: kind, client, node and invoke_ns set, outcome UNKNOWN. Valid until the next
 * history_op. Its items are the next history_item calls: before the next history_op, and changed
 * through h->items + op->item_first. Several operations in flight: keep indexes, add items first;
 * what is seen later may only fill fields. */
struct history_op *history_op(struct history *h, enum history_kind kind, uint32_t client,
                              int64_t invoke_ns);

/* Adds a part to the newest operation; copies the bytes. Valid until the next history_item. */
struct history_item *history_item(struct history *h, enum history_role role, struct slice key,
                                  struct slice value);

/* These copy what they are given, bytes included. */
void history_add_op(struct history *h, const struct history_op *op,
                    const struct history_item *items);
void history_add_event(struct history *h, const struct history_event *event);
void history_add_watch(struct history *h, const struct history_watch *watch);
void history_add_mark(struct history *h, const struct history_mark *mark);

/* A copy that lives as long as the history. */
struct slice history_bytes(struct history *h, struct slice s);

/* One record as a line without its end. */
void history_op_line(struct buf *out, const struct history *h, size_t op);
void history_event_line(struct buf *out, const struct history_event *event);
void history_mark_line(struct buf *out, const struct history_mark *mark);

enum err history_write(const struct history *h, FILE *to, struct errmsg *em) MUST_USE;
/* Adds to h what the file holds. On an error h has what stood before the bad line. */
enum err history_read(struct history *h, FILE *from, struct errmsg *em) MUST_USE;

/* --- verdicts ------------------------------------------------------------------------------- */

#define VERDICT_VIOLATIONS_SHOWN_MAX 20

/* Zeroed to begin with. */
struct verdict {
    struct buf text;       /* a violation each paragraph, with the records that prove it */
    size_t violation_count;
    size_t undecided_count; /* keys that wgl gave up on */
};

void verdict_deinit(struct verdict *v);
/* One more violation; false when its records need not be written any more. */
bool verdict_add(struct verdict *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
void verdict_op(struct verdict *v, const struct history *h, size_t op);
void verdict_event(struct verdict *v, const struct history_event *event);
void verdict_mark(struct verdict *v, const struct history_mark *mark);

#endif
