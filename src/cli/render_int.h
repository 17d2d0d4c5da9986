/* cli/render_int.h - the three forms of output, private to render*.c.
 *
 * PURPOSE  Name what each form must be able to print; render.c chooses.
 * OWNS     Nothing.
 * USES     render.h.
 * THREADS  Any.
 * LIMITS   None.
 * ERRORS   As render.h.
 */
#ifndef CLI_RENDER_INT_H
#define CLI_RENDER_INT_H

#include "cli/render.h"

void table_range(struct buf *out, const struct render *r, const struct range_result *res);
void table_kvs(struct buf *out, const struct render *r, const struct kv *at, size_t count);
void table_events(struct buf *out, const struct render *r, const struct event *at, size_t count);
void table_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res,
                     bool with_keys);
void table_lease_list(struct buf *out, const int64_t *ids, size_t count);
void table_members(struct buf *out, const struct member *at, size_t count);
void table_status(struct buf *out, const struct status_row *at, size_t count);

void json_range(struct buf *out, const struct render *r, const struct range_result *res);
void json_put(struct buf *out, const struct render *r, const struct put_result *res);
void json_del(struct buf *out, const struct render *r, const struct del_result *res);
enum err json_txn(struct buf *out, const struct render *r, const struct txn *txn,
                  const struct txn_result *res) MUST_USE;
void json_events(struct buf *out, const struct render *r, const struct event *at, size_t count);
void json_lease_grant(struct buf *out, const struct render *r, int64_t id, int64_t ttl);
void json_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res);
void json_lease_list(struct buf *out, const struct render *r, const int64_t *ids, size_t count);
void json_members(struct buf *out, const struct render *r, const struct member *at, size_t count);
void json_done(struct buf *out, const struct render *r);
void json_status(struct buf *out, const struct status_row *at, size_t count);

#endif
