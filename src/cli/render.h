/* cli/render.h - answers as a person or a program wants them: simple, table, json.
 *
 * PURPOSE  Write decoded answers as text. Simple and JSON are as etcdctl prints them, with
 *          ids in decimal. Reads no reply but the responses of a txn.
 * OWNS     Nothing; appends to the caller's buf.
 * USES     base/, reply.h, table.h, text.h, txn.h.
 * THREADS  Any.
 * LIMITS   None: bounded by the answer.
 * ERRORS   ERR_PROTO from render_txn only.
 * FORMAT   simple: raw bytes, a line each. table: escaped. json: one document a line; keys
 *          and values in base64; fields that are 0 or false are left out, as etcdctl does.
 *          JSON fields etcdctl does not have: applied (put whose condition did not hold),
 *          failed (txn), expired (watch), type (hash, list), role, lag, version (member).
 */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include "base/buf.h"
#include "cli/reply.h"
#include "cli/txn.h"

enum format { FORMAT_SIMPLE, FORMAT_TABLE, FORMAT_JSON };

/* 0: not known, left out. */
struct header {
    int64_t cluster_id;
    int64_t member_id;
    int64_t revision;
    int64_t raft_term;
};

struct render {
    enum format format;
    bool hex;
    uint64_t given; /* options of get that shape its output */
    struct header header;
};

/* One row of `status`: an answer, or why there is none. */
struct status_row {
    const char *endpoint; /* empty: not known */
    struct slice name;    /* borrowed; empty: not known */
    bool is_answered;
    int64_t lag; /* where answered: behind the highest commit index of all that answered */
    struct status status;
    const char *problem; /* where not answered */
};

void render_range(struct buf *out, const struct render *r, const struct range_result *res);
void render_put(struct buf *out, const struct render *r, const struct put_result *res);
void render_del(struct buf *out, const struct render *r, const struct del_result *res);
enum err render_txn(struct buf *out, const struct render *r, const struct txn *txn,
                    const struct txn_result *res) MUST_USE;
/* What did not hold and what was there: for stderr, one line without its end. */
void render_txn_failed(struct buf *out, const struct txn *txn, const struct txn_result *res);

/* JSON prints the events together; the others could be called with one at a time. */
void render_events(struct buf *out, const struct render *r, const struct event *at, size_t count);
const char *render_event_name(const struct event *e); /* PUT, DELETE, EXPIRE; static */

/* unit is "s" or "ms". */
void render_lease_grant(struct buf *out, const struct render *r, int64_t id, int64_t ttl,
                        const char *unit);
void render_lease_revoke(struct buf *out, const struct render *r, int64_t id);
void render_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res,
                      bool with_keys);
void render_lease_list(struct buf *out, const struct render *r, const int64_t *ids, size_t count);
void render_lease_alive(struct buf *out, const struct render *r, int64_t id, int64_t ttl);

void render_members(struct buf *out, const struct render *r, const struct member *at, size_t count);
/* A change of the membership; text is what simple prints. */
void render_done(struct buf *out, const struct render *r, const char *text);
void render_status(struct buf *out, const struct render *r, const struct status_row *at,
                   size_t count);

/* Shared with render_json.c and render_table.c. */
void render_bytes(struct buf *out, const struct render *r, struct slice bytes);
void render_status_errors(struct buf *out, const struct status_row *row);
const char *render_status_role(const struct status_row *row); /* static */

#endif
