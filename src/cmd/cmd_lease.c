/* cmd/cmd_lease.c - LEASE: lifetimes that many keys share. */
#include "cmd/cmd_int.h"

#define LIST_COUNT_DEFAULT 1000
#define LIST_COUNT_MAX 10000
#define SECONDS_MAX (LEASE_TTL_MS_MAX / 1000)

/* Milliseconds as the client asked for them; seconds are rounded up, so that none is shown as 0
 * while the lease is still there. */
static int64_t shown(int64_t ms, bool in_ms)
{
    return in_ms || ms < 0 ? ms : (ms + 999) / 1000;
}

/* --- GRANT -------------------------------------------------------------------------------- */

static void grant_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_map(dx->reply, 2);
    reply_bulk_cstr(dx->reply, "id");
    reply_int(dx->reply, (int64_t)res->id);
    reply_bulk_cstr(dx->reply, "ttl");
    reply_int(dx->reply, shown(res->ttl_ms, dx->arg != 0));
}
static const struct cmd_finish grant_finish = { .done = grant_done };

static enum err cmd_lease_grant(struct cmd_ctx *cx)
{
    struct op op = cmd_op(cx, OP_LEASE_GRANT);
    size_t at = 2;
    bool in_ms = arg_is(cx->argv[at], "PX");
    if (in_ms && ++at >= cx->argc) return ERR_SYNTAX;
    TRY(i64_parse(cx->argv[at++], &op.number));
    if (!in_ms && op.number > SECONDS_MAX) return ERR_LEASE_TTL;
    if (!in_ms) op.number = op.number <= 0 ? op.number : op.number * 1000;
    if (op.number <= 0) return ERR_LEASE_TTL_LOW;
    op.fields = FIELD_NUMBER;
    if (at < cx->argc) {
        if (!arg_is(cx->argv[at], "ID") || at + 2 != cx->argc) return ERR_SYNTAX;
        TRY(arg_u64(cx->argv[at + 1], &op.id));
        if (op.id == 0 || op.id >= LEASE_ID_COUNTER_MAX) return ERR_NOT_INT;
        op.fields |= FIELD_ID;
    }
    return cmd_propose(cx, &op, &grant_finish, NULL, in_ms);
}

/* --- REVOKE, ATTACH -------------------------------------------------------------------------- */

static void number_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_int(dx->reply, res->number);
}
static const struct cmd_finish number_finish = { .done = number_done };

static enum err cmd_lease_revoke(struct cmd_ctx *cx)
{
    struct op op = cmd_op(cx, OP_LEASE_REVOKE);
    TRY(arg_u64(cx->argv[2], &op.id));
    op.fields = FIELD_ID;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_lease_attach(struct cmd_ctx *cx)
{
    struct op op = cmd_op(cx, OP_LEASE_ATTACH);
    TRY(arg_u64(cx->argv[2], &op.id));
    struct buf *list = &cx->env->scratch;
    buf_clear(list);
    for (size_t i = 3; i < cx->argc; i++) {
        TRY(cmd_check_key(cx->env, cx->argv[i]));
        op_list_add_key(list, cx->db, cx->argv[i]);
    }
    op.list = (struct op_list){ (uint32_t)(cx->argc - 3), buf_slice(list) };
    op.fields = FIELD_ID | FIELD_LIST;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

/* --- KEEPALIVE ---------------------------------------------------------------------------------- */

static void keepalive_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_array(dx->reply, res->number_count);
    for (size_t i = 0; i < res->number_count; i++) {
        reply_int(dx->reply, shown(res->numbers[i], dx->arg != 0));
    }
}
static const struct cmd_finish keepalive_finish = { .done = keepalive_done };

static enum err cmd_lease_keepalive(struct cmd_ctx *cx)
{
    bool in_ms = arg_is(cx->argv[2], "PX");
    size_t from = in_ms ? 3 : 2;
    if (from >= cx->argc) return ERR_ARITY;
    struct buf *list = &cx->env->scratch;
    buf_clear(list);
    for (size_t i = from; i < cx->argc; i++) {
        uint64_t id = 0;
        TRY(arg_u64(cx->argv[i], &id));
        op_list_add_id(list, id);
    }
    struct op op = cmd_op(cx, OP_LEASE_KEEPALIVE);
    op.list = (struct op_list){ (uint32_t)(cx->argc - from), buf_slice(list) };
    op.fields = FIELD_LIST;
    return cmd_propose(cx, &op, &keepalive_finish, NULL, in_ms);
}

/* --- TTL, LIST ------------------------------------------------------------------------------------ */

static void reply_lease_keys(struct cmd_ctx *cx, const struct lease *l)
{
    size_t count = 0;
    for (const struct life *life = lease_keys(l); life != NULL; life = life->next) {
        if (entry_key(life->entry).at[0] == cx->db) count++;
    }
    reply_array(cx->reply, count);
    for (const struct life *life = lease_keys(l); life != NULL; life = life->next) {
        struct slice key = entry_key(life->entry);
        if (key.at[0] == cx->db) reply_bulk(cx->reply, cmd_client_key(key));
    }
}

static enum err cmd_lease_ttl(struct cmd_ctx *cx)
{
    uint64_t id = 0;
    bool in_ms = false;
    bool keys = false;
    TRY(arg_u64(cx->argv[2], &id));
    for (size_t i = 3; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "PX")) {
            in_ms = true;
        } else if (arg_is(cx->argv[i], "KEYS")) {
            keys = true;
        } else {
            return ERR_SYNTAX;
        }
    }
    const struct lease *l = lease_find(state_leases(cx->view.state), id);
    if (l == NULL) return ERR_NOLEASE;
    int64_t left_ms = MAX(l->deadline_ms - (int64_t)node_clock_ms(cx->env->node), 0);
    reply_map(cx->reply, keys ? 5 : 3);
    reply_bulk_cstr(cx->reply, "id");
    reply_int(cx->reply, (int64_t)l->id);
    reply_bulk_cstr(cx->reply, "granted");
    reply_int(cx->reply, shown(l->ttl_ms, in_ms));
    reply_bulk_cstr(cx->reply, "ttl");
    reply_int(cx->reply, shown(left_ms, in_ms));
    if (!keys) return OK;
    reply_bulk_cstr(cx->reply, "keys");
    reply_lease_keys(cx, l);
    reply_bulk_cstr(cx->reply, "total");
    reply_int(cx->reply, l->key_count);
    return OK;
}

static enum err cmd_lease_list(struct cmd_ctx *cx)
{
    uint64_t after = 0;
    uint64_t count = LIST_COUNT_DEFAULT;
    for (size_t i = 2; i < cx->argc; i += 2) {
        if (i + 1 >= cx->argc) return ERR_SYNTAX;
        if (arg_is(cx->argv[i], "AFTER")) {
            TRY(arg_u64(cx->argv[i + 1], &after));
        } else if (arg_is(cx->argv[i], "COUNT")) {
            TRY(arg_u64(cx->argv[i + 1], &count));
        } else {
            return ERR_SYNTAX;
        }
    }
    count = MIN(count, LIST_COUNT_MAX);
    uint64_t *ids = mem_alloc((size_t)count * sizeof *ids);
    size_t found = lease_list_after(state_leases(cx->view.state), after, ids, (size_t)count);
    reply_array(cx->reply, found);
    for (size_t i = 0; i < found; i++) reply_int(cx->reply, (int64_t)ids[i]);
    mem_free(ids);
    return OK;
}

static enum err cmd_lease_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "lease");
    return OK;
}

#define WRITES (CMD_WRITE | CMD_FAST | CMD_NO_MULTI) /* no operations of a transaction */
#define READS (CMD_READ | CMD_FAST)

const struct cmd_def cmd_lease_defs[] = {
    { .name = "lease", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "", .summary = "A container for commands about leases." },
    { .name = "lease|grant", .run = cmd_lease_grant, .arity = -3, .flags = WRITES | CMD_DENYOOM,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "seconds|PX milliseconds [ID id]",
      .summary = "Grants a lease; its keys go when it is not kept alive for so long." },
    { .name = "lease|keepalive", .run = cmd_lease_keepalive, .arity = -3, .flags = WRITES,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "[PX] id [id ...]",
      .summary = "Renews leases; answers what each has left, -2 where there is none." },
    { .name = "lease|ttl", .run = cmd_lease_ttl, .arity = -3, .flags = READS, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "id [PX] [KEYS]", .summary = "Shows what a lease was granted and has left, and its keys." },
    { .name = "lease|list", .run = cmd_lease_list, .arity = -2, .flags = READS, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "[AFTER id] [COUNT n]", .summary = "Lists lease ids in ascending order." },
    { .name = "lease|revoke", .run = cmd_lease_revoke, .arity = 3, .flags = WRITES, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "id", .summary = "Ends a lease and deletes its keys in one revision." },
    { .name = "lease|attach", .run = cmd_lease_attach, .arity = -4, .flags = WRITES, .group = GROUP_COORDINATION,
      .keys = { 3, -1, 1 }, .since = "0.1.0", .args = "id key [key ...]",
      .summary = "Attaches existing keys to a lease." },
    { .name = "lease|help", .run = cmd_lease_help, .arity = 2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
