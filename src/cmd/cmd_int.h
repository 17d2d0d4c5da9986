/* cmd/cmd_int.h - private to cmd/: what the dispatcher's files share. */
#ifndef CMD_INT_H
#define CMD_INT_H

#include "cmd/cmd.h"

/* Kinds of tickets: what hook_done has to do. */
enum ticket_kind {
    TICKET_WRITE = 1, /* row = struct cmd_finish, data and arg are its */
    TICKET_LOCAL,     /* data = struct cmd_copy: a read at its place */
    TICKET_RAW,       /* data = struct chain (allocated): bytes that waited for their turn */
    TICKET_TXN,       /* data = struct collect: EXEC or TXN */
};

/* --- cmd_client.c: the table of clients, blocking, timers, history reads ----------------- */

struct client_table {
    struct client **slots;
    uint32_t *free_slots;
    size_t cap, free_count, count;
    uint64_t next_id;
};

void cmd_clients_init(struct cmd_env *env);
void cmd_clients_deinit(struct cmd_env *env);
void cmd_timers_run(struct cmd_env *env);
void cmd_read_done(struct cmd_env *env, const struct store_read *read);

/* --- cmd_dispatch.c -------------------------------------------------------------------------- */

/* Runs one command with everything set; writes an error it returns as the reply. */
void cmd_run(struct cmd_ctx *cx);
/* Takes what is in env->capture and queues it behind the client's pending replies. */
void cmd_queue_capture(struct cmd_env *env, struct client *c);
/* The reply of a write: done, or the error. */
void cmd_finish_reply(struct cmd_done *dx, const struct cmd_finish *finish, const struct op *op,
                      const struct op_result *res);
/* A reply in the making is larger than any client may leave unread: closes, true. */
bool cmd_output_full(struct cmd_env *env, struct client *c, size_t bytes);
/* One ticket of the client's is finished. */
void cmd_ticket_finished(struct cmd_env *env, struct client *c);

/* Queues a TICKET_LOCAL or TICKET_RAW, whose data takes so many bytes, behind the client's pending
 * operations. */
void cmd_queue_local(struct cmd_env *env, struct client *c, enum ticket_kind kind, void *data_taken,
                     size_t bytes);

/* --- cmd_barrier.c: reads of a group ------------------------------------------------------------ */

void cmd_barriers_init(struct cmd_env *env);
void cmd_barriers_deinit(struct cmd_env *env);
/* As many reads wait as may: one more is refused (cmd_barrier_refuse), what would queue behind those
 * of its own client waits until they are answered. */
bool cmd_barrier_is_full(const struct cmd_env *env);
void cmd_barrier_refuse(struct cmd_env *env, struct reply *r);
/* Queues a read. alone: nothing of the client may be pending, and nothing more is executed for it
 * before this is done. */
void cmd_barrier_read(struct cmd_env *env, struct client *c, const struct cmd_def *def, bool alone,
                      size_t argc, const struct slice *argv);
/* Behind the client's waiting reads, but needs no barrier of its own. */
void cmd_barrier_local(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                       const struct slice *argv);
void cmd_barrier_raw(struct cmd_env *env, struct client *c, struct chain *bytes_taken);
/* A transaction that only reads. Only reads of the client may be pending. */
void cmd_barrier_txn(struct cmd_env *env, struct client *c, struct collect *k_taken, size_t bytes);
/* Puts the client's waiting reads in front of the operation that it is about to propose. False: it
 * cannot be, the operation has to wait. */
bool cmd_barrier_convert(struct cmd_env *env, struct client *c);
void cmd_barrier_reached(struct cmd_env *env, uint64_t barrier);
void cmd_barrier_turn(struct cmd_env *env); /* gives up what waited too long */
int64_t cmd_barrier_next_ms(const struct cmd_env *env); /* loop time, INT64_MAX: nothing waits */
struct cmd_barrier_stats {
    uint64_t count, bytes, refused, timed_out;
};
void cmd_barrier_stats_get(const struct cmd_env *env, struct cmd_barrier_stats *out);

/* --- cmd_multi.c, cmd_txn.c, cmd_txn_reply.c ---------------------------------------------------------------------------- */

/* Queues a command in MULTI: +QUEUED, or an error that makes EXEC refuse. */
void cmd_multi_queue(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                     const struct slice *argv, struct reply *r);
void cmd_multi_spoil(struct client *c); /* an error while queueing: EXEC answers EXECABORT */
void cmd_multi_free(struct client *c);
void cmd_unwatch(struct client *c);
size_t cmd_multi_count(const struct client *c);
bool cmd_multi_writes(const struct client *c); /* something that writes is queued */
void cmd_collect_select(struct cmd_ctx *cx, uint8_t db); /* what follows in MULTI is in db */
enum err cmd_collect_op(struct cmd_ctx *cx, const struct op *op, bool key2_to_end,
                        const struct cmd_finish *finish, void *data, uint64_t arg) MUST_USE;
bool cmd_exec_only_reads(const struct client *c); /* EXEC would need no log entry */
/* A transaction that only reads, at its place: answers, or with e. Frees k. c NULL: only that. */
void cmd_txn_read(struct cmd_env *env, struct client *c, struct collect *k_taken, enum err e);
void cmd_txn_element(struct cmd_env *env, const struct ticket *t, uint32_t ordinal,
                     const struct op *op, const struct op_result *res, const struct view *v);
void cmd_txn_done(struct cmd_env *env, const struct ticket *t, struct client *c, struct reply *r,
                  const struct op *op, const struct op_result *res, const struct view *v);

const struct cmd_def *cmd_table_base(const struct cmd_table *t); /* row 0 of the sorted table */

/* --- cmd_txn_keys.c: what a branch of a one-shot TXN changes ---------------------------------- */

struct txn_keys {
    struct buf keys, ranges;
};
void txn_keys_add(struct txn_keys *keys, const struct cmd_table *t, const struct cmd_def *def,
                  size_t argc, const struct slice *argv); /* borrows argv's bytes */
bool txn_keys_repeat(struct txn_keys *keys); /* a key is put twice, or put and deleted */
void txn_keys_deinit(struct txn_keys *keys);

/* --- cmd_conn.c ------------------------------------------------------------------------------- */

/* Writes the error if the name cannot be. */
enum err cmd_client_set_name(struct client *c, struct slice name, struct reply *r) MUST_USE;

/* --- cmd_kv.c, cmd_range.c --------------------------------------------------------------------- */

/* Writes the COMPACTED or FUTURE error if a reader may not ask for this revision. */
enum err cmd_check_rev(struct cmd_env *env, uint64_t rev, struct reply *r) MUST_USE;
void cmd_kv_of_row(const struct row *row, struct kv *out);
const struct entry *cmd_entry_with_ghost(const struct cmd_env *env, struct slice key);
void cmd_read_nothing(struct cmd_env *env, struct client *c); /* block.timeout of a history read */
enum err cmd_kv_range(struct cmd_ctx *cx);

/* --- families ------------------------------------------------------------------------------------ */

extern const struct cmd_def cmd_string_defs[];
extern const struct cmd_def cmd_key_defs[];
extern const struct cmd_def cmd_scan_defs[];
extern const struct cmd_def cmd_multi_defs[];
extern const struct cmd_def cmd_txn_defs[];
extern const struct cmd_def cmd_kv_defs[];
extern const struct cmd_def cmd_lease_defs[];
extern const struct cmd_def cmd_member_defs[];
extern const struct cmd_def cmd_watch_defs[];
extern const struct cmd_def cmd_stream_defs[];
extern const struct cmd_def cmd_pubsub_defs[];
extern const struct cmd_def cmd_conn_defs[];
extern const struct cmd_def cmd_client_defs[];
extern const struct cmd_def cmd_pause_defs[];
extern const struct cmd_def cmd_latency_defs[];
extern const struct cmd_def cmd_command_defs[];
extern const struct cmd_def cmd_server_defs[];
extern const struct cmd_def cmd_config_defs[];

/* --- cmd_watch.c, cmd_pubsub.c: hooks of the hub ---------------------------------------------------- */

struct cmd_hub *cmd_hub_new(struct cmd_env *env);
void cmd_hub_free(struct cmd_hub *hub);
bool cmd_hub_wants_prev(struct cmd_hub *hub, struct slice key);
void cmd_hub_event(struct cmd_hub *hub, const struct mvcc_event *ev);
void cmd_hub_life(struct cmd_hub *hub, struct slice key, const char *what);
/* The state was replaced: revisions (old_rev, new_rev] have no events. */
void cmd_hub_replaced(struct cmd_hub *hub, uint64_t old_rev, uint64_t new_rev);
void cmd_hub_leader_known(struct cmd_hub *hub, bool known);
void cmd_hub_diverged(struct cmd_hub *hub); /* this member's state is not the group's */
/* Another member's PUBLISH. */
void cmd_published(struct cmd_env *env, uint8_t kind, struct slice channel, struct slice message);
void cmd_hub_turn(struct cmd_hub *hub); /* once a turn, after apply */
int64_t cmd_hub_next_ms(const struct cmd_hub *hub); /* when it has to be called: loop time, INT64_MAX: no need */
void cmd_hub_writable(struct cmd_hub *hub, struct client *c); /* its output has drained */
void cmd_hub_client_gone(struct cmd_hub *hub, struct client *c); /* drop subs, watches */
uint64_t cmd_hub_name_bytes(const struct cmd_hub *hub); /* of all subscriptions */

/* --- cmd_pause.c: CLIENT PAUSE, MONITOR ---------------------------------------------------------------- */

/* This command has to wait for the pause to end. */
bool cmd_pause_holds(const struct cmd_env *env, const struct client *c, const struct cmd_def *def);
void cmd_pause_end(struct cmd_env *env);
void cmd_monitor_show(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                      const struct slice *argv);
void cmd_monitor_gone(struct cmd_env *env, struct client *c);

/* --- cmd_latency.c --------------------------------------------------------------------------------------- */

struct latency *latency_new(size_t row_count);
void latency_free(struct latency *l);
void latency_command(struct cmd_env *env, const struct cmd_def *def, int64_t took_us);
void latency_turn(struct cmd_env *env); /* at the end of each turn, and of what is applied behind it */

/* --- cmd_docs.c ------------------------------------------------------------------------------------------ */

/* The field `arguments` of COMMAND DOCS, from the text that the row has. */
void cmd_reply_arguments(struct reply *r, const struct cmd_def *def);

/* --- cmd_role.c: Redis' replication ----------------------------------------------------------------------- */

enum err cmd_role(struct cmd_ctx *cx);
enum err cmd_wait(struct cmd_ctx *cx);
enum err cmd_waitaof(struct cmd_ctx *cx);
void cmd_info_replication(struct cmd_env *env, struct buf *b);
void cmd_info_cluster(struct cmd_env *env, struct buf *b);

/* --- cmd_server.c: the slow log --------------------------------------------------------------------------- */

struct slow_log *slow_log_new(void);
void slow_log_free(struct slow_log *log);
void slow_log_note(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                   const struct slice *argv, int64_t took_us);

#endif
