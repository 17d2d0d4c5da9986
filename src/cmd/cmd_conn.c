/* cmd/cmd_conn.c - commands about the connection: who is there, in which protocol, in which database. */
#include "cmd/cmd_int.h"

/* --- AUTH and HELLO ---------------------------------------------------------------------- */

/* The same time for any two texts of these lengths. */
static bool same_secret(struct slice a, struct slice b)
{
    unsigned differ = a.len != b.len;
    for (size_t i = 0; i < CMD_PASSWORD_BYTES_MAX; i++) {
        uint8_t x = i < a.len ? a.at[i] : 0;
        uint8_t y = i < b.len ? b.at[i] : 0;
        differ |= (unsigned)(x ^ y);
    }
    return differ == 0;
}

static bool password_is_right(const struct cmd_env *env, struct slice user, struct slice password)
{
    bool right_user = slice_eq(user, SLICE_LIT("default"));
    if (password.len > CMD_PASSWORD_BYTES_MAX) return false;
    bool right_password = same_secret(password, slice_of(env->password));
    return (right_user && right_password) || (right_user && env->password[0] == '\0');
}

static void reply_wrong_password(struct reply *r)
{
    reply_error(r, "WRONGPASS", "invalid username-password pair or user is disabled.");
}

static enum err cmd_auth(struct cmd_ctx *cx)
{
    if (cx->argc > 3) return ERR_SYNTAX;
    struct slice user = cx->argc == 3 ? cx->argv[1] : SLICE_LIT("default");
    struct slice password = cx->argv[cx->argc - 1];
    if (cx->argc == 2 && cx->env->password[0] == '\0') {
        reply_error(cx->reply, "ERR", "AUTH <password> called without any password configured for the default "
                    "user. Are you sure your configuration is correct?");
        return OK;
    }
    if (!password_is_right(cx->env, user, password)) {
        reply_wrong_password(cx->reply);
        return OK;
    }
    cx->client->authenticated = true;
    reply_ok(cx->reply);
    return OK;
}

static bool name_is_valid(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] < '!' || name.at[i] > '~') return false;
    }
    return name.len < CLIENT_NAME_BYTES_MAX;
}

enum err cmd_client_set_name(struct client *c, struct slice name, struct reply *r)
{
    if (!name_is_valid(name)) {
        reply_error(r, "ERR", "Client names cannot contain spaces, newlines or special characters.");
        return ERR_SYNTAX;
    }
    client_set_name(c, CLIENT_NAME, name);
    return OK;
}

static void reply_hello(struct cmd_ctx *cx)
{
    struct reply r = reply_to(cx->reply->out, cx->client->proto);
    reply_map(&r, 7);
    reply_bulk_cstr(&r, "server");
    reply_bulk_cstr(&r, "redis");
    reply_bulk_cstr(&r, "version");
    reply_bulk_cstr(&r, cx->env->info.redis_version);
    reply_bulk_cstr(&r, "proto");
    reply_int(&r, cx->client->proto);
    reply_bulk_cstr(&r, "id");
    reply_int(&r, (int64_t)client_id(cx->client));
    reply_bulk_cstr(&r, "mode");
    reply_bulk_cstr(&r, "standalone");
    reply_bulk_cstr(&r, "role");
    reply_bulk_cstr(&r, raft_role(node_raft(cx->env->node)) == RAFT_LEADER ? "master" : "replica");
    reply_bulk_cstr(&r, "modules");
    reply_array(&r, 0);
}

struct hello {
    int64_t proto;
    bool auth, name_given;
    struct slice user, password, name;
};

static enum err hello_parse(struct cmd_ctx *cx, struct hello *h)
{
    *h = (struct hello){ .proto = cx->client->proto };
    if (cx->argc > 1 && i64_parse(cx->argv[1], &h->proto) != OK) {
        reply_error(cx->reply, "ERR", "Protocol version is not an integer or out of range");
        return ERR_AGAIN;
    }
    if (h->proto < 2 || h->proto > 3) {
        reply_error(cx->reply, "NOPROTO", "unsupported protocol version");
        return ERR_AGAIN;
    }
    for (size_t i = 2; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "AUTH") && i + 2 < cx->argc) {
            h->auth = true;
            h->user = cx->argv[i + 1];
            h->password = cx->argv[i + 2];
            i += 2;
        } else if (arg_is(cx->argv[i], "SETNAME") && i + 1 < cx->argc) {
            h->name_given = true;
            h->name = cx->argv[++i];
        } else {
            reply_error(cx->reply, "ERR", "Syntax error in HELLO option '%.*s'", (int)MIN(cx->argv[i].len, 128),
                        (const char *)cx->argv[i].at);
            return ERR_AGAIN;
        }
    }
    return OK;
}

static enum err cmd_hello(struct cmd_ctx *cx)
{
    struct hello h;
    if (hello_parse(cx, &h) != OK) return OK;
    if (h.auth) {
        if (!password_is_right(cx->env, h.user, h.password)) {
            reply_wrong_password(cx->reply);
            return OK;
        }
        cx->client->authenticated = true;
    }
    if (!cx->client->authenticated) {
        reply_error(cx->reply, "NOAUTH", "HELLO must be called with the client already authenticated, otherwise the "
                    "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
                    "RESP protocol version at the same time");
        return OK;
    }
    if (h.name_given && cmd_client_set_name(cx->client, h.name, cx->reply) != OK) return OK;
    cx->client->proto = (uint8_t)h.proto;
    reply_hello(cx);
    return OK;
}

/* --- the small ones -------------------------------------------------------------------------- */

static enum err cmd_ping(struct cmd_ctx *cx)
{
    if (cx->argc > 2) return ERR_ARITY;
    if (cx->client->sub_count > 0 && cx->client->proto == 2) {
        reply_array(cx->reply, 2);
        reply_bulk_cstr(cx->reply, "pong");
        reply_bulk(cx->reply, cx->argc == 2 ? cx->argv[1] : SLICE_NONE);
    } else if (cx->argc == 2) {
        reply_bulk(cx->reply, cx->argv[1]);
    } else {
        reply_simple(cx->reply, SLICE_LIT("PONG"));
    }
    return OK;
}

static enum err cmd_echo(struct cmd_ctx *cx)
{
    reply_bulk(cx->reply, cx->argv[1]);
    return OK;
}

static enum err cmd_select(struct cmd_ctx *cx)
{
    int64_t db = 0;
    TRY(i64_parse(cx->argv[1], &db));
    if (db < 0 || db >= CMD_DATABASES) {
        reply_error(cx->reply, "ERR", "DB index is out of range");
        return OK;
    }
    if (cx->mode == CMD_MODE_COLLECT) {
        cmd_collect_select(cx, (uint8_t)db);
    } else {
        cx->client->db = (uint8_t)db;
    }
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_quit(struct cmd_ctx *cx)
{
    reply_ok(cx->reply);
    client_wrote(cx->env, cx->client);
    client_close(cx->env, cx->client, true);
    return OK;
}

static enum err cmd_reset(struct cmd_ctx *cx)
{
    struct client *c = cx->client;
    cmd_multi_free(c);
    cmd_unwatch(c);
    cmd_hub_client_gone(cx->env->hub, c);
    cmd_monitor_gone(cx->env, c);
    client_set_name(c, CLIENT_NAME, SLICE_NONE);
    c->db = 0;
    c->proto = 2;
    c->reply_mode = 0;
    c->readonly = false;
    if (c->authenticated) c->was_authenticated = true;
    c->authenticated = cx->env->password[0] == '\0';
    struct reply r = reply_to(cx->reply->out, 2);
    reply_simple(&r, SLICE_LIT("RESET"));
    return OK;
}

static enum err cmd_readonly(struct cmd_ctx *cx)
{
    cx->client->readonly = arg_is(cx->argv[0], "READONLY");
    reply_ok(cx->reply);
    return OK;
}

#define CONN (CMD_CONN | CMD_FAST)

const struct cmd_def cmd_conn_defs[] = {
    { .name = "auth", .run = cmd_auth, .arity = -2, .flags = CONN | CMD_NOAUTH | CMD_SECRET, .group = GROUP_CONNECTION,
      .since = "1.0.0", .args = "[username] password", .summary = "Authenticates the connection." },
    { .name = "hello", .run = cmd_hello, .arity = -1, .group = GROUP_CONNECTION,
      .flags = CONN | CMD_NOAUTH | CMD_SECRET | CMD_DRAIN | CMD_NO_MULTI, .since = "6.0.0",
      .args = "[protover [AUTH username password] [SETNAME clientname]]",
      .summary = "Chooses the protocol version and says who the server is." },
    { .name = "ping", .run = cmd_ping, .arity = -1, .flags = CONN | CMD_PUBSUB, .group = GROUP_CONNECTION,
      .since = "1.0.0", .args = "[message]", .summary = "Answers PONG, or the message." },
    { .name = "echo", .run = cmd_echo, .arity = 2, .flags = CONN, .group = GROUP_CONNECTION, .since = "1.0.0",
      .args = "message", .summary = "Answers the message." },
    { .name = "select", .run = cmd_select, .arity = 2, .flags = CONN | CMD_COLLECT_NOW, .group = GROUP_CONNECTION,
      .since = "1.0.0", .args = "index", .summary = "Changes the database of the connection." },
    { .name = "quit", .run = cmd_quit, .arity = -1, .flags = CONN | CMD_NOAUTH | CMD_PUBSUB | CMD_MULTI_NOW | CMD_DRAIN,
      .group = GROUP_CONNECTION, .since = "1.0.0", .args = "", .summary = "Closes the connection." },
    { .name = "reset", .run = cmd_reset, .arity = 1, .group = GROUP_CONNECTION,
      .flags = CONN | CMD_NOAUTH | CMD_PUBSUB | CMD_MULTI_NOW | CMD_DRAIN, .since = "6.2.0", .args = "",
      .summary = "Resets the connection to how it was when it was new." },
    { .name = "readonly", .run = cmd_readonly, .arity = 1, .flags = CONN, .group = GROUP_CLUSTER, .since = "3.0.0",
      .args = "", .summary = "Allows reads of this connection to be local and stale." },
    { .name = "readwrite", .run = cmd_readonly, .arity = 1, .flags = CONN, .group = GROUP_CLUSTER, .since = "3.0.0",
      .args = "", .summary = "Ends READONLY." },
    { .name = "asking", .run = cmd_readonly, .arity = 1, .flags = CONN, .group = GROUP_CLUSTER, .since = "3.0.0",
      .args = "", .summary = "Answers OK: every node serves every key." },
    CMD_DEF_END,
};
