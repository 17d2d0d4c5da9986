/* cmd/cmd_command.c - COMMAND: the command table as clients read it. */
#include "cmd/cmd_int.h"

#include "base/glob.h"

static const char *const group_names[] = {
    "generic", "string", "connection", "server", "transactions", "pubsub", "stream", "coordination",
    "scripting", "cluster",
};

static bool is_sub(const struct cmd_def *def) { return strchr(def->name, '|') != NULL; }

/* "kv|get" belongs to "kv". */
static bool is_sub_of(const struct cmd_def *def, const struct cmd_def *container)
{
    size_t len = strlen(container->name);
    return strncmp(def->name, container->name, len) == 0 && def->name[len] == '|';
}

static size_t sub_count(const struct cmd_table *t, const struct cmd_def *container)
{
    size_t count = 0;
    for (size_t i = 0; i < cmd_table_count(t); i++) count += is_sub_of(cmd_table_at(t, i), container);
    return count;
}

static size_t top_count(const struct cmd_table *t)
{
    size_t count = 0;
    for (size_t i = 0; i < cmd_table_count(t); i++) count += !is_sub(cmd_table_at(t, i));
    return count;
}

/* --- COMMAND INFO ------------------------------------------------------------------------------ */

struct words {
    const char *at[16];
    size_t count;
};

static void word(struct words *w, bool yes, const char *text)
{
    if (yes) w->at[w->count++] = text;
}

static void reply_words(struct reply *r, const struct words *w)
{
    reply_set(r, w->count);
    for (size_t i = 0; i < w->count; i++) reply_simple(r, slice_of(w->at[i]));
}

static void flag_words(const struct cmd_def *def, struct words *w)
{
    *w = (struct words){ .count = 0 };
    word(w, (def->flags & CMD_WRITE) != 0, "write");
    word(w, (def->flags & CMD_READ) != 0, "readonly");
    word(w, (def->flags & CMD_DENYOOM) != 0, "denyoom");
    word(w, (def->flags & CMD_ADMIN) != 0, "admin");
    word(w, (def->flags & CMD_FAST) != 0, "fast");
    word(w, (def->flags & CMD_BLOCKING) != 0, "blocking");
    word(w, (def->flags & CMD_NOAUTH) != 0, "no_auth");
    word(w, (def->flags & CMD_NO_MULTI) != 0, "no_multi");
    word(w, (def->flags & CMD_MOVABLE_KEYS) != 0, "movablekeys");
    word(w, (def->flags & (CMD_PUBSUB | CMD_ORDERED)) != 0 && def->group == GROUP_PUBSUB, "pubsub");
}

static void category_words(const struct cmd_def *def, struct words *w)
{
    static const char *const categories[] = {
        "@keyspace", "@string", "@connection", "@admin", "@transaction", "@pubsub", "@stream", "@coordination",
        "@scripting", "@connection",
    };
    *w = (struct words){ .count = 0 };
    word(w, true, categories[def->group]);
    word(w, (def->flags & CMD_READ) != 0, "@read");
    word(w, (def->flags & CMD_WRITE) != 0, "@write");
    word(w, (def->flags & CMD_FAST) != 0, "@fast");
    word(w, (def->flags & CMD_FAST) == 0, "@slow");
    word(w, (def->flags & CMD_BLOCKING) != 0, "@blocking");
    word(w, (def->flags & CMD_ADMIN) != 0, "@dangerous");
}

static void reply_key_specs(struct reply *r, const struct cmd_def *def)
{
    if (def->keys.first == 0) {
        reply_set(r, 0);
        return;
    }
    bool many = def->keys.last != def->keys.first;
    reply_set(r, 1);
    reply_map(r, 3);
    reply_bulk_cstr(r, "flags");
    reply_set(r, 1);
    reply_simple(r, slice_of((def->flags & CMD_WRITE) != 0 ? "RW" : "RO"));
    reply_bulk_cstr(r, "begin_search");
    reply_map(r, 2);
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, "index");
    reply_bulk_cstr(r, "spec");
    reply_map(r, 1);
    reply_bulk_cstr(r, "index");
    reply_int(r, def->keys.first);
    reply_bulk_cstr(r, "find_keys");
    reply_map(r, 2);
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, "range");
    reply_bulk_cstr(r, "spec");
    reply_map(r, 3);
    reply_bulk_cstr(r, "lastkey");
    reply_int(r, !many ? 0 : def->keys.last < 0 ? def->keys.last : def->keys.last - def->keys.first);
    reply_bulk_cstr(r, "keystep");
    reply_int(r, def->keys.step);
    reply_bulk_cstr(r, "limit");
    reply_int(r, 0);
}

static void reply_info(struct cmd_ctx *cx, struct reply *r, const struct cmd_def *def)
{
    const struct cmd_table *t = cx->env->table;
    struct words w;
    reply_array(r, 10);
    reply_bulk_cstr(r, def->name);
    reply_int(r, def->arity);
    flag_words(def, &w);
    reply_words(r, &w);
    reply_int(r, def->keys.first);
    reply_int(r, def->keys.last);
    reply_int(r, def->keys.step);
    category_words(def, &w);
    reply_words(r, &w);
    reply_array(r, 0); /* tips */
    reply_key_specs(r, def);
    size_t subs = is_sub(def) ? 0 : sub_count(t, def);
    reply_array(r, subs);
    for (size_t i = 0; subs > 0 && i < cmd_table_count(t); i++) {
        if (is_sub_of(cmd_table_at(t, i), def)) reply_info(cx, r, cmd_table_at(t, i));
    }
}

static void reply_all(struct cmd_ctx *cx)
{
    const struct cmd_table *t = cx->env->table;
    reply_array(cx->reply, top_count(t));
    for (size_t i = 0; i < cmd_table_count(t); i++) {
        if (!is_sub(cmd_table_at(t, i))) reply_info(cx, cx->reply, cmd_table_at(t, i));
    }
}

static enum err cmd_command(struct cmd_ctx *cx)
{
    reply_all(cx);
    return OK;
}

static enum err cmd_command_info(struct cmd_ctx *cx)
{
    if (cx->argc == 2) {
        reply_all(cx);
        return OK;
    }
    reply_array(cx->reply, cx->argc - 2);
    for (size_t i = 2; i < cx->argc; i++) {
        const struct cmd_def *def = cmd_table_by_name(cx->env->table, cx->argv[i]);
        if (def == NULL) {
            reply_null_array(cx->reply);
        } else {
            reply_info(cx, cx->reply, def);
        }
    }
    return OK;
}

static enum err cmd_command_count(struct cmd_ctx *cx)
{
    reply_int(cx->reply, (int64_t)top_count(cx->env->table));
    return OK;
}

/* --- COMMAND DOCS ------------------------------------------------------------------------------------ */

static void reply_docs(struct cmd_ctx *cx, const struct cmd_def *def)
{
    const struct cmd_table *t = cx->env->table;
    struct reply *r = cx->reply;
    size_t subs = is_sub(def) ? 0 : sub_count(t, def);
    bool args = def->args[0] != '\0';
    reply_map(r, 4 + (size_t)args + (subs > 0 ? 1 : 0));
    reply_bulk_cstr(r, "summary");
    reply_bulk_cstr(r, def->summary);
    reply_bulk_cstr(r, "since");
    reply_bulk_cstr(r, def->since);
    reply_bulk_cstr(r, "group");
    reply_bulk_cstr(r, group_names[def->group]);
    reply_bulk_cstr(r, "complexity");
    reply_bulk_cstr(r, (def->flags & CMD_FAST) != 0 ? "O(1) or O(log N) a key" : "O(N) in what it returns");
    if (args) {
        reply_bulk_cstr(r, "arguments");
        cmd_reply_arguments(r, def);
    }
    if (subs == 0) return;
    reply_bulk_cstr(r, "subcommands");
    reply_map(r, subs);
    for (size_t i = 0; i < cmd_table_count(t); i++) {
        const struct cmd_def *sub = cmd_table_at(t, i);
        if (!is_sub_of(sub, def)) continue;
        reply_bulk_cstr(r, sub->name);
        reply_docs(cx, sub);
    }
}

static enum err cmd_command_docs(struct cmd_ctx *cx)
{
    const struct cmd_table *t = cx->env->table;
    size_t count = 0;
    for (size_t i = 2; i < cx->argc; i++) count += cmd_table_by_name(t, cx->argv[i]) != NULL;
    reply_map(cx->reply, cx->argc == 2 ? top_count(t) : count);
    for (size_t i = 0; cx->argc == 2 && i < cmd_table_count(t); i++) {
        const struct cmd_def *def = cmd_table_at(t, i);
        if (is_sub(def)) continue;
        reply_bulk_cstr(cx->reply, def->name);
        reply_docs(cx, def);
    }
    for (size_t i = 2; i < cx->argc; i++) {
        const struct cmd_def *def = cmd_table_by_name(t, cx->argv[i]);
        if (def == NULL) continue;
        reply_bulk_cstr(cx->reply, def->name);
        reply_docs(cx, def);
    }
    return OK;
}

/* --- COMMAND LIST, GETKEYS -------------------------------------------------------------------------- */

static bool list_hit(const struct cmd_ctx *cx, const struct cmd_def *def)
{
    if (cx->argc == 2) return true;
    if (arg_is(cx->argv[3], "PATTERN")) return glob_match(cx->argv[4], slice_of(def->name));
    if (!arg_is(cx->argv[3], "ACLCAT")) return false;
    struct words w;
    category_words(def, &w);
    for (size_t i = 0; i < w.count; i++) {
        if (slice_is(cx->argv[4], w.at[i] + 1)) return true;
    }
    return false;
}

static enum err cmd_command_list(struct cmd_ctx *cx)
{
    const struct cmd_table *t = cx->env->table;
    if (cx->argc != 2 && (cx->argc != 5 || !arg_is(cx->argv[2], "FILTERBY"))) return ERR_SYNTAX;
    if (cx->argc == 5 && cx->argv[4].len > GLOB_PATTERN_BYTES_MAX) return ERR_LIMIT;
    size_t count = 0;
    for (size_t i = 0; i < cmd_table_count(t); i++) count += list_hit(cx, cmd_table_at(t, i));
    reply_array(cx->reply, count);
    for (size_t i = 0; i < cmd_table_count(t); i++) {
        const struct cmd_def *def = cmd_table_at(t, i);
        if (list_hit(cx, def)) reply_bulk_cstr(cx->reply, def->name);
    }
    return OK;
}

struct key_places {
    size_t *at;
    size_t count, cap;
};

static void place_add(void *ctx, size_t place)
{
    struct key_places *p = ctx;
    if (p->count == p->cap) {
        p->cap = p->cap == 0 ? 16 : p->cap * 2;
        p->at = mem_realloc(p->at, p->cap * sizeof *p->at);
    }
    p->at[p->count++] = place;
}

static enum err getkeys(struct cmd_ctx *cx, bool flags)
{
    size_t argc = cx->argc - 2;
    const struct slice *argv = cx->argv + 2;
    const struct cmd_def *container = NULL;
    const struct cmd_def *def = cmd_table_find(cx->env->table, argc, argv, &container);
    if (def == NULL) {
        reply_error(cx->reply, "ERR", "Invalid command specified");
        return OK;
    }
    if ((def->arity > 0 && argc != (size_t)def->arity) || (def->arity < 0 && argc < (size_t)-def->arity)) {
        reply_error(cx->reply, "ERR", "Invalid number of arguments specified for command");
        return OK;
    }
    struct key_places places = { .count = 0 };
    enum err e = cmd_keys_each(cx->env->table, def, argc, argv, place_add, &places);
    if (e != OK) {
        reply_error(cx->reply, "ERR", "Invalid arguments specified for command");
    } else if (places.count == 0) {
        reply_error(cx->reply, "ERR", "The command has no key arguments");
    } else {
        reply_array(cx->reply, places.count);
        for (size_t i = 0; i < places.count; i++) {
            if (flags) reply_array(cx->reply, 2);
            reply_bulk(cx->reply, argv[places.at[i]]);
            if (!flags) continue;
            reply_set(cx->reply, 1);
            reply_simple(cx->reply, slice_of((def->flags & CMD_WRITE) != 0 ? "RW" : "RO"));
        }
    }
    mem_free(places.at);
    return OK;
}

static enum err cmd_command_getkeys(struct cmd_ctx *cx) { return getkeys(cx, false); }
static enum err cmd_command_getkeysandflags(struct cmd_ctx *cx) { return getkeys(cx, true); }

static enum err cmd_command_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "command");
    return OK;
}

#define CONN (CMD_CONN)

const struct cmd_def cmd_command_defs[] = {
    { .name = "command", .run = cmd_command, .arity = -1, .flags = CONN | CMD_CONTAINER, .group = GROUP_SERVER,
      .since = "2.8.13", .args = "", .summary = "Returns all commands; a container for looking at them." },
    { .name = "command|count", .run = cmd_command_count, .arity = 2, .flags = CONN, .group = GROUP_SERVER,
      .since = "2.8.13", .args = "", .summary = "Counts the commands." },
    { .name = "command|info", .run = cmd_command_info, .arity = -2, .flags = CONN, .group = GROUP_SERVER,
      .since = "2.8.13", .args = "[command-name [command-name ...]]", .summary = "Describes commands for clients." },
    { .name = "command|docs", .run = cmd_command_docs, .arity = -2, .flags = CONN, .group = GROUP_SERVER,
      .since = "7.0.0", .args = "[command-name [command-name ...]]", .summary = "Describes commands for people." },
    { .name = "command|list", .run = cmd_command_list, .arity = -2, .flags = CONN, .group = GROUP_SERVER,
      .since = "7.0.0", .args = "[FILTERBY ACLCAT category|PATTERN pattern]", .summary = "Lists command names." },
    { .name = "command|getkeys", .run = cmd_command_getkeys, .arity = -3, .flags = CONN, .group = GROUP_SERVER,
      .since = "2.8.13", .args = "command [arg ...]", .summary = "Returns the keys of a command." },
    { .name = "command|getkeysandflags", .run = cmd_command_getkeysandflags, .arity = -3, .flags = CONN,
      .group = GROUP_SERVER, .since = "7.0.0", .args = "command [arg ...]",
      .summary = "Returns the keys of a command and how it uses them." },
    { .name = "command|help", .run = cmd_command_help, .arity = 2, .flags = CONN, .group = GROUP_SERVER,
      .since = "5.0.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
