/* cmd/cmd_config.c - CONFIG: the options of this server, and the settings of the group.
 *
 * An option belongs to this process. A setting (state/settings.h) is replicated: setting it is an
 * operation, and it is the same on every member. CONFIG shows both under one roof. */
#include "cmd/cmd_int.h"

#include "base/glob.h"

/* Options of redis.conf that clients ask for and that have one possible answer here. */
static const struct {
    const char *name, *value;
} fixed[] = {
    { "save", "" },           { "appendonly", "yes" },      { "appendfsync", "always" },
    { "databases", "16" },    { "maxmemory", "0" },         { "maxmemory-policy", "noeviction" },
    { "slave-read-only", "no" }, { "replica-read-only", "no" }, { "cluster-enabled", "no" },
};

struct config_found {
    struct buf pairs; /* name\0value\0 ... */
    size_t count;
};

static void found_add(struct config_found *f, const char *name, struct slice value)
{
    buf_append(&f->pairs, name, strlen(name) + 1);
    buf_append_slice(&f->pairs, value);
    buf_append_u8(&f->pairs, 0);
}

static void find_all(struct cmd_ctx *cx, struct slice pattern, struct config_found *f)
{
    cx->env->io.config_get(cx->env->io.ctx, pattern, &f->pairs);
    const struct settings *set = state_settings(node_state(cx->env->node));
    for (size_t i = 0; i < setting_row_count; i++) {
        if (!glob_match(pattern, slice_of(setting_rows[i].name))) continue;
        struct buf value CLEANUP(buf_deinit) = { 0 };
        settings_get(set, &setting_rows[i], &value);
        found_add(f, setting_rows[i].name, buf_slice(&value));
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (glob_match(pattern, slice_of(fixed[i].name))) found_add(f, fixed[i].name, slice_of(fixed[i].value));
    }
}

/* Takes one terminated text off the front. */
static struct slice text_next(struct slice *rest)
{
    const uint8_t *end = memchr(rest->at, 0, rest->len);
    ASSERT(end != NULL);
    struct slice text = { rest->at, (size_t)(end - rest->at) };
    *rest = (struct slice){ end + 1, rest->len - text.len - 1 };
    return text;
}

static bool named_before(struct slice pairs, struct slice name)
{
    struct slice rest = pairs;
    while (rest.len > 0) {
        struct slice other = text_next(&rest);
        if (other.at == name.at) return false;
        text_next(&rest);
        if (slice_eq(other, name)) return true;
    }
    return false;
}

static enum err cmd_config_get(struct cmd_ctx *cx)
{
    struct config_found f = { .count = 0 };
    for (size_t i = 2; i < cx->argc; i++) {
        if (cx->argv[i].len <= GLOB_PATTERN_BYTES_MAX) find_all(cx, cx->argv[i], &f);
    }
    struct slice all = buf_slice(&f.pairs);
    for (int pass = 0; pass < 2; pass++) {
        struct slice rest = all;
        if (pass == 1) reply_map(cx->reply, f.count);
        while (rest.len > 0) {
            struct slice name = text_next(&rest);
            struct slice value = text_next(&rest);
            if (named_before(all, name)) continue;
            if (pass == 0) {
                f.count++;
            } else {
                reply_bulk(cx->reply, name);
                reply_bulk(cx->reply, value);
            }
        }
    }
    buf_deinit(&f.pairs);
    return OK;
}

/* --- SET ------------------------------------------------------------------------------------------- */

static void set_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    (void)res;
    reply_ok(dx->reply);
}
static const struct cmd_finish set_finish = { .done = set_done };

static bool is_fixed(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (slice_is(name, fixed[i].name)) return true;
    }
    return false;
}

static void reply_failed(struct cmd_ctx *cx, struct slice name, const char *why)
{
    reply_error(cx->reply, "ERR", "CONFIG SET failed (possibly related to argument '%.*s') - %s",
                (int)MIN(name.len, 128), (const char *)name.at, why);
}

/* A replicated setting: checked here, changed everywhere when applied. */
static enum err set_replicated(struct cmd_ctx *cx, const struct setting_row *row, struct slice value)
{
    struct settings probe = *state_settings(node_state(cx->env->node));
    struct errmsg em = { "" };
    if (settings_set(&probe, slice_of(row->name), value, &em) != OK) {
        reply_failed(cx, cx->argv[2], em.text);
        return OK;
    }
    struct op op = cmd_op(cx, OP_CONFIG);
    op.name = slice_of(row->name);
    op.value = value;
    op.fields = FIELD_NAME | FIELD_VALUE;
    return cmd_propose(cx, &op, &set_finish, NULL, 0);
}

/* May the pair at argv[at] be set? False: refused, with the error written. */
static bool pair_is_good(struct cmd_ctx *cx, size_t at)
{
    struct slice name = cx->argv[at];
    struct errmsg em = { "" };
    for (size_t i = 2; i < at; i += 2) {
        if (cx->argv[i].len != name.len) continue;
        if (strncasecmp((const char *)cx->argv[i].at, (const char *)name.at, name.len) != 0) continue;
        reply_failed(cx, name, "duplicate parameter");
        return false;
    }
    if (setting_find(name) != NULL) {
        reply_failed(cx, name, "a setting of the group is set alone");
        return false;
    }
    if (is_fixed(name)) return true;
    enum err e = cx->env->io.config_check(cx->env->io.ctx, name, cx->argv[at + 1], &em);
    if (e == ERR_NOT_FOUND) {
        reply_error(cx->reply, "ERR", "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                    (int)MIN(name.len, 128), (const char *)name.at);
    } else if (e != OK) {
        reply_failed(cx, name, em.text);
    }
    return e == OK;
}

/* All of them, or none. */
static enum err cmd_config_set(struct cmd_ctx *cx)
{
    if (cx->argc % 2 != 0) return ERR_ARITY;
    const struct setting_row *row = setting_find(cx->argv[2]);
    if (row != NULL && cx->argc == 4) return set_replicated(cx, row, cx->argv[3]);
    for (size_t i = 2; i < cx->argc; i += 2) {
        if (!pair_is_good(cx, i)) return OK;
    }
    for (size_t i = 2; i < cx->argc; i += 2) {
        if (is_fixed(cx->argv[i])) continue; /* accepted: it already is as it can only be */
        cx->env->io.config_set(cx->env->io.ctx, cx->argv[i], cx->argv[i + 1]);
    }
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_config_rewrite(struct cmd_ctx *cx)
{
    struct errmsg em = { "" };
    if (cx->env->io.config_rewrite(cx->env->io.ctx, &em) == OK) {
        reply_ok(cx->reply);
    } else {
        reply_error(cx->reply, "ERR", "%s", em.text);
    }
    return OK;
}

static enum err cmd_config_resetstat(struct cmd_ctx *cx)
{
    cx->env->stats = (struct cmd_stats){ .connections = 0 };
    memset(cx->env->call_counts, 0, cmd_table_count(cx->env->table) * sizeof *cx->env->call_counts);
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_config_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "config");
    return OK;
}

#define SERVER .group = GROUP_SERVER

const struct cmd_def cmd_config_defs[] = {
    { .name = "config", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, SERVER, .since = "2.0.0", .args = "",
      .summary = "A container for commands about the configuration." },
    { .name = "config|get", .run = cmd_config_get, .arity = -3, .flags = CMD_CONN | CMD_ADMIN, SERVER,
      .since = "2.0.0", .args = "pattern [pattern ...]", .summary = "Returns options of the server and settings of the group." },
    { .name = "config|set", .run = cmd_config_set, .arity = -4, .flags = CMD_WRITE | CMD_ADMIN | CMD_SECRET | CMD_NO_MULTI,
      SERVER,
      .since = "2.0.0", .args = "name value [name value ...]",
      .summary = "Changes options of this server, or one setting of the whole group." },
    { .name = "config|rewrite", .run = cmd_config_rewrite, .arity = 2, .flags = CMD_CONN | CMD_ADMIN, SERVER,
      .since = "2.8.0", .args = "", .summary = "Writes the options into the configuration file." },
    { .name = "config|resetstat", .run = cmd_config_resetstat, .arity = 2, .flags = CMD_CONN | CMD_ADMIN, SERVER,
      .since = "2.0.0", .args = "", .summary = "Sets the counters of commands and connections in INFO to zero." },
    { .name = "config|help", .run = cmd_config_help, .arity = 2, .flags = CMD_CONN, SERVER, .since = "5.0.0",
      .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
