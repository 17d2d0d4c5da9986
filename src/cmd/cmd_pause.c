/* cmd/cmd_pause.c - CLIENT PAUSE: commands of all clients, or their writes, wait; and MONITOR, which
 * shows every command to those who asked. */
#include "cmd/cmd_int.h"

#include <stdio.h>

#define MONITOR_LINE_BYTES_MAX 8192 /* of one command; the rest of it is only counted */
#define PAUSE_MS_MAX (INT64_MAX / 4)

/* --- PAUSE ------------------------------------------------------------------------------------ */

static bool changes_something(const struct client *c, const struct cmd_def *def)
{
    if (def->group == GROUP_PUBSUB) return (def->flags & CMD_ORDERED) != 0; /* PUBLISH */
    if ((def->flags & CMD_WRITE) == 0) return false;
    bool is_exec = c->multi != NULL && (def->flags & CMD_MULTI_NOW) != 0;
    return !is_exec || cmd_multi_writes(c);
}

bool cmd_pause_holds(const struct cmd_env *env, const struct client *c, const struct cmd_def *def)
{
    if (env->now_ms >= env->pause_until_ms) return false;
    if ((def->flags & CMD_NO_PAUSE) != 0) return false;
    return env->pause_all || changes_something(c, def);
}

static void resume_paused(void *ctx, struct client *c)
{
    struct cmd_env *env = ctx;
    if (!c->paused) return;
    c->paused = false;
    if (!c->closing && !c->blocked && !c->draining && !c->congested) env->io.resume(env->io.ctx, c->link);
}

void cmd_pause_end(struct cmd_env *env)
{
    env->pause_until_ms = 0;
    env->pause_all = false;
    client_each(env, resume_paused, env);
}

static enum err cmd_client_pause(struct cmd_ctx *cx)
{
    struct cmd_env *env = cx->env;
    int64_t ms = 0;
    bool all = cx->argc == 3 || arg_is(cx->argv[3], "ALL");
    if (cx->argc > 4) return ERR_SYNTAX;
    if (!all && !arg_is(cx->argv[3], "WRITE")) {
        reply_error(cx->reply, "ERR", "CLIENT PAUSE mode must be WRITE or ALL");
    } else if (arg_i64(cx->argv[2], &ms) != OK || ms > PAUSE_MS_MAX) {
        reply_error(cx->reply, "ERR", "timeout is not an integer or out of range");
    } else if (ms < 0) {
        reply_error(cx->reply, "ERR", "timeout is negative");
    } else {
        /* One that is there already only becomes longer, and stricter. */
        env->pause_until_ms = MAX(env->pause_until_ms, env->now_ms + ms);
        env->pause_all = env->pause_all || all;
        reply_ok(cx->reply);
    }
    return OK;
}

static enum err cmd_client_unpause(struct cmd_ctx *cx)
{
    cmd_pause_end(cx->env);
    reply_ok(cx->reply);
    return OK;
}

/* --- MONITOR ------------------------------------------------------------------------------------ */

static void quote(struct buf *b, struct slice arg)
{
    static const char plain[] = "\n\r\t\a\b\\\"";
    static const char shown[] = "nrtab\\\"";
    buf_append(b, " \"", 2);
    for (size_t i = 0; i < arg.len && b->len < MONITOR_LINE_BYTES_MAX; i++) {
        uint8_t byte = arg.at[i];
        const char *at = byte == 0 ? NULL : strchr(plain, byte);
        if (at != NULL) {
            buf_printf(b, "\\%c", shown[at - plain]);
        } else if (byte < ' ' || byte > '~') {
            buf_printf(b, "\\x%02x", byte);
        } else {
            buf_append_u8(b, byte);
        }
    }
    if (b->len >= MONITOR_LINE_BYTES_MAX) buf_printf(b, "... (%zu bytes)", arg.len);
    buf_append_u8(b, '"');
}

/* The passwords of AUTH and HELLO are not shown. */
static bool is_secret(const struct cmd_def *def, size_t argc, const struct slice *argv, size_t at)
{
    if ((def->flags & CMD_SECRET) == 0 || at == 0) return false;
    if (arg_is(argv[0], "AUTH")) return true;
    for (size_t i = 2; i < argc && i < at; i++) {
        if (arg_is(argv[i], "AUTH") && at - i <= 2) return true;
    }
    return false;
}

static void line_print(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                       const struct slice *argv, struct buf *b)
{
    char peer[CLIENT_ADDRESS_BYTES_MAX];
    int64_t wall_ms = node_wall_ms(env->node);
    buf_printf(b, "+%lld.%06lld [%u %s]", (long long)(wall_ms / 1000),
               (long long)(wall_ms % 1000 * 1000), c->db, client_address(env, c, true, peer));
    for (size_t i = 0; i < argc; i++) {
        if (b->len >= MONITOR_LINE_BYTES_MAX) {
            buf_printf(b, " ... (%zu more arguments)", argc - i);
            break;
        }
        quote(b, is_secret(def, argc, argv, i) ? SLICE_LIT("(redacted)") : argv[i]);
    }
    buf_append(b, "\r\n", 2);
}

/* A monitor that does not read is closed like any client, by client_wrote. */
void cmd_monitor_show(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                      const struct slice *argv)
{
    if ((def->flags & CMD_ADMIN) != 0) return;
    struct buf line CLEANUP(buf_deinit) = { 0 };
    line_print(env, c, def, argc, argv, &line);
    for (size_t i = 0; i < env->monitor_count; i++) {
        struct client *m = env->monitors[i];
        if (m->closing || m->close_asked) continue;
        chain_append_slice(m->out, buf_slice(&line));
        client_wrote(env, m);
    }
}

void cmd_monitor_gone(struct cmd_env *env, struct client *c)
{
    if (!c->is_monitor) return;
    size_t at = 0;
    while (env->monitors[at] != c) at++;
    env->monitors[at] = env->monitors[--env->monitor_count];
    c->is_monitor = false;
}

static enum err cmd_monitor(struct cmd_ctx *cx)
{
    struct cmd_env *env = cx->env;
    reply_ok(cx->reply);
    if (cx->client->is_monitor) return OK;
    env->monitors = mem_realloc(env->monitors, (env->monitor_count + 1) * sizeof(struct client *));
    env->monitors[env->monitor_count++] = cx->client;
    cx->client->is_monitor = true;
    return OK;
}

const struct cmd_def cmd_pause_defs[] = {
    { .name = "client|pause", .run = cmd_client_pause, .arity = -3, .flags = CMD_CONN | CMD_FAST | CMD_ADMIN | CMD_NO_PAUSE,
      .group = GROUP_CONNECTION, .since = "3.0.0", .args = "milliseconds [WRITE|ALL]",
      .summary = "Lets the commands of all connections wait, or what changes something." },
    { .name = "client|unpause", .run = cmd_client_unpause, .arity = 2,
      .flags = CMD_CONN | CMD_FAST | CMD_ADMIN | CMD_NO_PAUSE, .group = GROUP_CONNECTION, .since = "6.2.0", .args = "",
      .summary = "Ends CLIENT PAUSE." },
    { .name = "monitor", .run = cmd_monitor, .arity = 1, .flags = CMD_CONN | CMD_ADMIN | CMD_DRAIN | CMD_NO_MULTI,
      .group = GROUP_SERVER, .since = "1.0.0", .args = "",
      .summary = "Shows every command this server gets; long ones are cut, passwords are hidden." },
    CMD_DEF_END,
};
