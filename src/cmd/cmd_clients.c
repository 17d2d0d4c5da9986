/* cmd/cmd_clients.c - CLIENT: looking at connections, and telling them what to do. */
#include "cmd/cmd_int.h"

#include <stdio.h>

/* --- LIST, INFO ---------------------------------------------------------------------------- */

static void describe(const struct cmd_env *env, const struct client *c, struct buf *out)
{
    char peer[CLIENT_ADDRESS_BYTES_MAX];
    char local[CLIENT_ADDRESS_BYTES_MAX];
    client_address(env, c, true, peer);
    client_address(env, c, false, local);
    const char *flags = c->closing ? "c" : c->is_monitor ? "O" : c->multi != NULL ? "x" : c->blocked ? "b"
                        : c->sub_count > 0 ? "P" : "N";
    buf_printf(out,
               "id=%llu addr=%s laddr=%s fd=0 name=%s age=%lld idle=%lld flags=%s%s db=%u sub=%u psub=0 ssub=0 "
               "multi=%lld qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=%zu tot-mem=%zu "
               "events=r cmd=%s user=default redir=-1 resp=%u lib-name=%s lib-ver=%s",
               (unsigned long long)client_id(c), peer, local, client_name(c, CLIENT_NAME),
               (long long)((env->now_ms - c->created_ms) / 1000), (long long)((env->now_ms - c->active_ms) / 1000),
               flags, c->is_unix ? "U" : "", c->db, c->sub_count, c->multi != NULL ? (long long)cmd_multi_count(c) : -1LL, chain_bytes(c->out),
               sizeof *c + chain_bytes(c->out), c->last_def == NULL ? "NULL" : c->last_def->name, c->proto,
               client_name(c, CLIENT_LIB_NAME), client_name(c, CLIENT_LIB_VERSION));
}

static enum err cmd_client_info(struct cmd_ctx *cx)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    describe(cx->env, cx->client, &text);
    buf_printf(&text, "\n");
    reply_verbatim(cx->reply, buf_slice(&text));
    return OK;
}

/* TYPE of LIST and KILL. There are no connections of the others here. */
enum client_type { TYPE_ANY, TYPE_NORMAL, TYPE_PUBSUB, TYPE_OTHER };

static bool type_parse(struct cmd_ctx *cx, struct slice word, enum client_type *out)
{
    bool other = arg_is(word, "MASTER") || arg_is(word, "REPLICA") || arg_is(word, "SLAVE");
    *out = arg_is(word, "NORMAL") ? TYPE_NORMAL : arg_is(word, "PUBSUB") ? TYPE_PUBSUB : TYPE_OTHER;
    if (*out != TYPE_OTHER || other) return true;
    reply_error(cx->reply, "ERR", "Unknown client type '%.*s'", (int)MIN(word.len, 128), (const char *)word.at);
    return false;
}

static bool type_hit(const struct client *c, enum client_type type)
{
    return type == TYPE_ANY || type == (c->sub_count > 0 ? TYPE_PUBSUB : TYPE_NORMAL);
}

struct list_ctx {
    struct cmd_ctx *cx;
    struct buf text;
    bool by_id;
    enum client_type type;
};

static bool id_is_listed(const struct cmd_ctx *cx, uint64_t id)
{
    for (size_t i = 3; i < cx->argc; i++) {
        uint64_t want = 0;
        if (arg_u64(cx->argv[i], &want) == OK && want == id) return true;
    }
    return false;
}

static void list_one(void *ctx, struct client *c)
{
    struct list_ctx *l = ctx;
    if (client_is_gone(c)) return;
    if (l->by_id && !id_is_listed(l->cx, client_id(c))) return;
    if (!type_hit(c, l->type)) return;
    describe(l->cx->env, c, &l->text);
    buf_printf(&l->text, "\n");
}

static enum err cmd_client_list(struct cmd_ctx *cx)
{
    struct list_ctx l = { .cx = cx };
    if (cx->argc == 4 && arg_is(cx->argv[2], "TYPE")) {
        if (!type_parse(cx, cx->argv[3], &l.type)) return OK;
    } else if (cx->argc > 3 && arg_is(cx->argv[2], "ID")) {
        l.by_id = true;
    } else if (cx->argc > 2) {
        return ERR_SYNTAX;
    }
    client_each(cx->env, list_one, &l);
    reply_verbatim(cx->reply, buf_slice(&l.text));
    buf_deinit(&l.text);
    return OK;
}

/* --- names ------------------------------------------------------------------------------------- */

static enum err cmd_client_id(struct cmd_ctx *cx)
{
    reply_int(cx->reply, (int64_t)client_id(cx->client));
    return OK;
}

static enum err cmd_client_getname(struct cmd_ctx *cx)
{
    const char *name = client_name(cx->client, CLIENT_NAME);
    if (name[0] == '\0') {
        reply_null(cx->reply);
    } else {
        reply_bulk_cstr(cx->reply, name);
    }
    return OK;
}

static enum err cmd_client_setname(struct cmd_ctx *cx)
{
    if (cmd_client_set_name(cx->client, cx->argv[2], cx->reply) == OK) reply_ok(cx->reply);
    return OK;
}

static enum err cmd_client_setinfo(struct cmd_ctx *cx)
{
    bool is_name = arg_is(cx->argv[2], "LIB-NAME");
    if (!is_name && !arg_is(cx->argv[2], "LIB-VER")) {
        reply_error(cx->reply, "ERR", "Unrecognized option '%.*s'", (int)MIN(cx->argv[2].len, 128),
                    (const char *)cx->argv[2].at);
        return OK;
    }
    struct slice text = cx->argv[3];
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '!' || text.at[i] > '~' || text.len >= CLIENT_NAME_BYTES_MAX) {
            reply_error(cx->reply, "ERR", "%s cannot contain spaces, newlines or special characters.",
                        is_name ? "lib-name" : "lib-ver");
            return OK;
        }
    }
    client_set_name(cx->client, is_name ? CLIENT_LIB_NAME : CLIENT_LIB_VERSION, text);
    reply_ok(cx->reply);
    return OK;
}

/* --- KILL, UNBLOCK, REPLY --------------------------------------------------------------------------- */

struct kill_ctx {
    struct cmd_ctx *cx;
    uint64_t id;
    struct slice addr, laddr;
    enum client_type type;
    bool skip_me, any;
    int64_t killed;
    bool me;
};

static void kill_one(void *ctx, struct client *c)
{
    struct kill_ctx *k = ctx;
    if (client_is_gone(c) || !k->any) return;
    if (k->id != 0 && client_id(c) != k->id) return;
    if (!type_hit(c, k->type)) return;
    char text[CLIENT_ADDRESS_BYTES_MAX];
    const struct cmd_env *env = k->cx->env;
    if (k->addr.at != NULL && !slice_eq(k->addr, slice_of(client_address(env, c, true, text)))) return;
    if (k->laddr.at != NULL && !slice_eq(k->laddr, slice_of(client_address(env, c, false, text)))) return;
    if (k->skip_me && c == k->cx->client) return;
    k->killed++;
    if (c == k->cx->client) {
        k->me = true;
    } else {
        client_close(k->cx->env, c, false);
    }
}

static enum err kill_parse(struct cmd_ctx *cx, struct kill_ctx *k)
{
    for (size_t i = 2; i + 1 < cx->argc; i += 2) {
        struct slice value = cx->argv[i + 1];
        k->any = true;
        if (arg_is(cx->argv[i], "ID")) {
            if (arg_u64(value, &k->id) != OK || k->id == 0) {
                reply_error(cx->reply, "ERR", "client-id should be greater than 0");
                return ERR_AGAIN;
            }
        } else if (arg_is(cx->argv[i], "ADDR")) {
            k->addr = value;
        } else if (arg_is(cx->argv[i], "LADDR")) {
            k->laddr = value;
        } else if (arg_is(cx->argv[i], "SKIPME") && (arg_is(value, "YES") || arg_is(value, "NO"))) {
            k->skip_me = arg_is(value, "YES");
        } else if (arg_is(cx->argv[i], "TYPE")) {
            if (!type_parse(cx, value, &k->type)) return ERR_AGAIN;
        } else if (!arg_is(cx->argv[i], "USER")) {
            return ERR_SYNTAX;
        } else if (!slice_eq(value, SLICE_LIT("default"))) {
            reply_error(cx->reply, "ERR", "No such user '%.*s'", (int)MIN(value.len, 128), (const char *)value.at);
            return ERR_AGAIN;
        }
    }
    return OK;
}

static enum err cmd_client_kill(struct cmd_ctx *cx)
{
    struct kill_ctx k = { .cx = cx, .skip_me = cx->argc > 3 };
    if (cx->argc == 3) {
        k.addr = cx->argv[2];
        k.any = true;
    } else {
        if (cx->argc % 2 != 0) return ERR_SYNTAX;
        enum err e = kill_parse(cx, &k);
        if (e != OK) return e == ERR_AGAIN ? OK : e;
    }
    client_each(cx->env, kill_one, &k);
    if (cx->argc > 3) {
        reply_int(cx->reply, k.killed);
    } else if (k.killed == 0) {
        reply_error(cx->reply, "ERR", "No such client");
    } else {
        reply_ok(cx->reply);
    }
    if (k.me) {
        client_wrote(cx->env, cx->client);
        client_close(cx->env, cx->client, true);
    }
    return OK;
}

struct unblock_ctx {
    uint64_t id;
    struct client *found;
};

static void unblock_find(void *ctx, struct client *c)
{
    struct unblock_ctx *u = ctx;
    if (client_id(c) == u->id && !c->closing) u->found = c;
}

static enum err cmd_client_unblock(struct cmd_ctx *cx)
{
    struct unblock_ctx u = { .found = NULL };
    bool error = false;
    TRY(arg_u64(cx->argv[2], &u.id));
    if (cx->argc > 4) return ERR_SYNTAX;
    if (cx->argc == 4) {
        error = arg_is(cx->argv[3], "ERROR");
        if (!error && !arg_is(cx->argv[3], "TIMEOUT")) {
            reply_error(cx->reply, "ERR", "CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            return OK;
        }
    }
    client_each(cx->env, unblock_find, &u);
    struct client *c = u.found;
    if (c == NULL || !c->blocked || !c->block->can_unblock) {
        reply_int(cx->reply, 0);
        return OK;
    }
    if (error) {
        struct reply r = client_reply(cx->env, c);
        if (c->block->cancel != NULL) c->block->cancel(cx->env, c);
        reply_error(&r, "UNBLOCKED", "client unblocked via CLIENT UNBLOCK");
        client_unblock(cx->env, c);
    } else {
        c->block->timeout(cx->env, c);
    }
    reply_int(cx->reply, 1);
    return OK;
}

static enum err cmd_client_reply(struct cmd_ctx *cx)
{
    if (arg_is(cx->argv[2], "ON")) {
        cx->client->reply_mode = 0;
        struct reply r = reply_to(cx->client->out, cx->client->proto);
        reply_ok(&r);
        client_wrote(cx->env, cx->client);
    } else if (arg_is(cx->argv[2], "OFF")) {
        cx->client->reply_mode = 1;
    } else if (arg_is(cx->argv[2], "SKIP")) {
        if (cx->client->reply_mode != 1) cx->client->reply_mode = 3; /* from the next command on: 2 */
    } else {
        return ERR_SYNTAX;
    }
    return OK;
}

/* --- switches that only have to be accepted ------------------------------------------------------------- */

static enum err cmd_client_on_off(struct cmd_ctx *cx)
{
    if (!arg_is(cx->argv[2], "ON") && !arg_is(cx->argv[2], "OFF")) return ERR_SYNTAX;
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_client_getredir(struct cmd_ctx *cx)
{
    reply_int(cx->reply, -1);
    return OK;
}

static enum err cmd_client_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "client");
    return OK;
}

#define CONN (CMD_CONN | CMD_FAST)

const struct cmd_def cmd_client_defs[] = {
    { .name = "client", .arity = -2, .flags = CONN | CMD_CONTAINER, .group = GROUP_CONNECTION, .since = "2.4.0",
      .args = "", .summary = "A container for commands about connections." },
    { .name = "client|id", .run = cmd_client_id, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "5.0.0", .args = "", .summary = "Returns the id of the connection." },
    { .name = "client|info", .run = cmd_client_info, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "6.2.0", .args = "", .summary = "Describes the connection." },
    { .name = "client|list", .run = cmd_client_list, .arity = -2, .flags = CMD_CONN | CMD_ADMIN,
      .group = GROUP_CONNECTION, .since = "2.4.0", .args = "[TYPE NORMAL|PUBSUB] [ID id [id ...]]",
      .summary = "Describes all connections." },
    { .name = "client|getname", .run = cmd_client_getname, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "2.6.9", .args = "", .summary = "Returns the name of the connection." },
    { .name = "client|setname", .run = cmd_client_setname, .arity = 3, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "2.6.9", .args = "name", .summary = "Names the connection." },
    { .name = "client|setinfo", .run = cmd_client_setinfo, .arity = 4, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "7.2.0", .args = "LIB-NAME name|LIB-VER version", .summary = "Notes the client library." },
    { .name = "client|kill", .run = cmd_client_kill, .arity = -3, .flags = CMD_CONN | CMD_ADMIN,
      .group = GROUP_CONNECTION, .since = "2.4.0",
      .args = "addr | [ID id] [ADDR addr] [LADDR addr] [TYPE NORMAL|PUBSUB] [USER default] [SKIPME YES|NO]",
      .summary = "Closes connections." },
    { .name = "client|unblock", .run = cmd_client_unblock, .arity = -3, .flags = CMD_CONN | CMD_ADMIN,
      .group = GROUP_CONNECTION, .since = "5.0.0", .args = "id [TIMEOUT|ERROR]",
      .summary = "Ends the wait of a blocked connection." },
    { .name = "client|reply", .run = cmd_client_reply, .arity = 3, .flags = CONN | CMD_DRAIN | CMD_NO_MULTI,
      .group = GROUP_CONNECTION, .since = "3.2.0", .args = "ON|OFF|SKIP",
      .summary = "Says whether the server answers." },
    { .name = "client|no-evict", .run = cmd_client_on_off, .arity = 3, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "7.0.0", .args = "ON|OFF", .summary = "Is accepted: connections are not evicted." },
    { .name = "client|no-touch", .run = cmd_client_on_off, .arity = 3, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "7.2.0", .args = "ON|OFF", .summary = "Is accepted: reads leave no trace on keys." },
    { .name = "client|getredir", .run = cmd_client_getredir, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "6.0.0", .args = "", .summary = "Returns -1: client-side caching is not enabled." },
    { .name = "client|help", .run = cmd_client_help, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION,
      .since = "5.0.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
