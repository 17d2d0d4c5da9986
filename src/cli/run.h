/* cli/run.h - the commands themselves.
 *
 * PURPOSE  Run one parsed command: build, send, decode, print; say how it ended.
 * OWNS     Nothing beyond a call.
 * USES     base/, session.h, request.h, render.h, txn.h.
 * THREADS  One.
 * LIMITS   CLI_VALUE_BYTES_MAX, CLI_LINE_BYTES_MAX; RUN_WATCH_BLOCK_MS a request of watch,
 *          RUN_PAUSE_MS_MAX between attempts to connect.
 * ERRORS   enum exit_code; the words are on the session's `err` by then.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/session.h"

/* How long a server may hold an idle watch request: with the timeout of the session it bounds
 * how long a dead connection goes unnoticed. */
#define RUN_WATCH_BLOCK_MS 5000

/* The longest pause between two attempts to connect. */
#define RUN_PAUSE_MS_MAX 5000

enum exit_code run_command(struct session *s, const struct args *a);

enum exit_code run_get(struct session *s, const struct args *a);
enum exit_code run_put(struct session *s, const struct args *a);
enum exit_code run_del(struct session *s, const struct args *a);
enum exit_code run_compact(struct session *s, const struct args *a);
enum exit_code run_txn(struct session *s, const struct args *a);
enum exit_code run_watch(struct session *s, const struct args *a);

enum exit_code run_lease_grant(struct session *s, const struct args *a);
enum exit_code run_lease_revoke(struct session *s, const struct args *a);
enum exit_code run_lease_timetolive(struct session *s, const struct args *a);
enum exit_code run_lease_list(struct session *s, const struct args *a);
enum exit_code run_lease_keep_alive(struct session *s, const struct args *a);

enum exit_code run_member_list(struct session *s, const struct args *a);
enum exit_code run_member_add(struct session *s, const struct args *a);
enum exit_code run_member_change(struct session *s, const struct args *a);
enum exit_code run_status(struct session *s, const struct args *a);

/* Connects again for as long as it takes, telling the user once that and once when it is
 * over; goes on to the next endpoint first. EXIT_OK, or EXIT_NO (login refused). */
enum exit_code run_reconnect(struct session *s, const char *why, int64_t pause_ms_max);

#endif
