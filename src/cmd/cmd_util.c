/* cmd/cmd_util.c - what handlers share: arguments, keys, ranges, common replies. */
#include "cmd/cmd_int.h"

#include <stdio.h>

#define KEY_PLACES 4

struct cmd_copy *cmd_copy_new(const struct cmd_def *def, uint8_t db, size_t argc,
                              const struct slice *argv)
{
    size_t bytes = sizeof(struct cmd_copy) + argc * sizeof(struct slice);
    size_t text_at = bytes;
    for (size_t i = 0; i < argc; i++) bytes += argv[i].len;
    struct cmd_copy *copy = mem_alloc(bytes);
    copy->def = def;
    copy->argc = argc;
    copy->db = db;
    copy->quiet = false;
    uint8_t *text = (uint8_t *)copy + text_at;
    for (size_t i = 0; i < argc; i++) {
        copy->argv[i] = (struct slice){ text, argv[i].len };
        if (argv[i].len > 0) memcpy(text, argv[i].at, argv[i].len);
        text += argv[i].len;
    }
    return copy;
}

size_t cmd_copy_bytes(const struct cmd_copy *copy)
{
    size_t bytes = sizeof *copy + copy->argc * sizeof copy->argv[0];
    for (size_t i = 0; i < copy->argc; i++) bytes += copy->argv[i].len;
    return bytes;
}

/* --- arguments ---------------------------------------------------------------------------- */

enum err arg_i64(struct slice arg, int64_t *out)
{
    return i64_parse(arg, out);
}

enum err arg_u64(struct slice arg, uint64_t *out)
{
    uint64_t v = 0;
    TRY(u64_parse(arg, &v));
    if (v > INT64_MAX) return ERR_NOT_INT;
    *out = v;
    return OK;
}

enum err arg_ms(struct slice arg, int64_t *out)
{
    int64_t v = 0;
    TRY(i64_parse(arg, &v));
    if (v < 0) return ERR_NOT_INT;
    *out = v;
    return OK;
}

/* --- keys -------------------------------------------------------------------------------------- */

struct slice cmd_internal_key(struct cmd_env *env, uint8_t db, struct slice key)
{
    size_t place_bytes = MVCC_KEY_BYTES_MAX;
    ASSERT(key.len < place_bytes);
    if (env->key_bytes.cap < KEY_PLACES * place_bytes) buf_reserve(&env->key_bytes, KEY_PLACES * place_bytes);
    uint8_t *at = env->key_bytes.at + env->key_place * place_bytes;
    env->key_place = (env->key_place + 1) % KEY_PLACES;
    at[0] = db;
    if (key.len > 0) memcpy(at + 1, key.at, key.len);
    return (struct slice){ at, key.len + 1 };
}

bool cmd_get(struct cmd_ctx *cx, struct slice key, struct kv *out)
{
    if (key.len >= MVCC_KEY_BYTES_MAX || cx->mode == CMD_MODE_WORDS) return false;
    struct slice internal = cmd_internal_key(cx->env, cx->db, key);
    bool found;
    if (cx->key_hash != 0 && cx->argc > 1 && key.at == cx->argv[1].at) {
        found = view_get_hashed(&cx->view, cx->key_hash, internal, out);
    } else {
        found = view_get(&cx->view, internal, out);
    }
    if (found) {
        cx->env->stats.keyspace_hits++;
    } else {
        cx->env->stats.keyspace_misses++;
    }
    return found;
}

enum err cmd_check_key(const struct cmd_env *env, struct slice key)
{
    const struct settings *set = state_settings(node_state(env->node));
    return key.len <= set->key_bytes_max ? OK : ERR_KEY_LIMIT;
}

enum err cmd_check_value(const struct cmd_env *env, struct slice value)
{
    const struct settings *set = state_settings(node_state(env->node));
    return value.len <= set->value_bytes_max ? OK : ERR_VALUE_LIMIT;
}

/* --- ranges ---------------------------------------------------------------------------------- */

/* Writes start and end behind each other into r->bytes and points at them. */
static void range_set(struct cmd_range *r, uint8_t db, struct slice start, struct slice end,
                      bool end_is_internal)
{
    buf_clear(&r->bytes);
    buf_append_u8(&r->bytes, db);
    buf_append_slice(&r->bytes, start);
    size_t split = r->bytes.len;
    if (!end_is_internal) buf_append_u8(&r->bytes, db);
    buf_append_slice(&r->bytes, end);
    r->start = (struct slice){ r->bytes.at, split };
    r->end = (struct slice){ r->bytes.at + split, r->bytes.len - split };
}

static void range_to_end(struct cmd_range *r, uint8_t db, struct slice start)
{
    uint8_t next_db = (uint8_t)(db + 1);
    range_set(r, db, start, (struct slice){ &next_db, 1 }, true);
}

void cmd_range_prefix(uint8_t db, struct slice prefix, struct cmd_range *r)
{
    r->single = false;
    r->prefix = true;
    size_t len = prefix.len;
    while (len > 0 && prefix.at[len - 1] == 0xff) len--;
    if (len == 0) {
        range_to_end(r, db, prefix);
        return;
    }
    range_set(r, db, prefix, (struct slice){ prefix.at, len }, false);
    r->bytes.at[r->bytes.len - 1]++;
}

enum err cmd_range_parse(struct cmd_env *env, uint8_t db, size_t argc, const struct slice *argv,
                         size_t *at, struct cmd_range *r)
{
    if (*at >= argc) return ERR_SYNTAX;
    struct slice key = argv[*at];
    TRY(cmd_check_key(env, key));
    size_t next = *at + 1;
    *r = (struct cmd_range){ .bytes = { 0 } };
    if (next < argc && arg_is(argv[next], "PREFIX")) {
        cmd_range_prefix(db, key, r);
        *at = next + 1;
        return OK;
    }
    if (next < argc && arg_is(argv[next], "END")) {
        if (next + 1 >= argc) return ERR_SYNTAX;
        struct slice end = argv[next + 1];
        TRY(cmd_check_key(env, end));
        if (end.len == 0) {
            range_to_end(r, db, key);
        } else {
            range_set(r, db, key, end, false);
        }
        *at = next + 2;
        return OK;
    }
    range_set(r, db, key, key, false);
    buf_append_u8(&r->bytes, 0);
    r->start = (struct slice){ r->bytes.at, key.len + 1 };
    r->end = (struct slice){ r->bytes.at + key.len + 1, key.len + 2 };
    r->single = true;
    *at = next;
    return OK;
}

void cmd_range_deinit(struct cmd_range *r)
{
    buf_deinit(&r->bytes);
}

/* --- replies ------------------------------------------------------------------------------------ */

static const char *type_name(enum value_type type)
{
    switch (type) {
    case VALUE_STRING: return "string";
    case VALUE_HASH: return "hash";
    case VALUE_LIST: return "list";
    }
    ASSERT(false);
    return "";
}

const char *cmd_type_name(enum value_type type)
{
    return type_name(type);
}

void cmd_reply_kv(struct reply *r, const struct kv *kv)
{
    reply_map(r, 7);
    reply_bulk_cstr(r, "key");
    reply_bulk(r, cmd_client_key(kv->key));
    reply_bulk_cstr(r, "value");
    if (kv->type == VALUE_STRING) {
        reply_bulk(r, kv->value);
    } else {
        reply_null(r);
    }
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, type_name(kv->type));
    reply_bulk_cstr(r, "create");
    reply_int(r, (int64_t)kv->create);
    reply_bulk_cstr(r, "mod");
    reply_int(r, (int64_t)kv->mod);
    reply_bulk_cstr(r, "version");
    reply_int(r, (int64_t)kv->version);
    reply_bulk_cstr(r, "lease");
    reply_int(r, (int64_t)kv->lease_id);
}

int64_t cmd_remaining_ms(const struct cmd_env *env, const struct kv *kv)
{
    if (kv->deadline_ms == 0) return -1;
    int64_t left_ms = kv->deadline_ms - (int64_t)node_clock_ms(env->node);
    return MAX(left_ms, 0);
}

void cmd_reply_arity(struct reply *r, const struct cmd_def *def)
{
    reply_error(r, "ERR", "wrong number of arguments for '%s' command", def->name);
}

static void upper_into(const char *from, char *out, size_t room)
{
    size_t i = 0;
    for (; from[i] != '\0' && i + 1 < room; i++) {
        out[i] = (char)(from[i] >= 'a' && from[i] <= 'z' ? from[i] - 'a' + 'A' : from[i]);
    }
    out[i] = '\0';
}

/* Two lines a subcommand: its syntax, and four spaces and its summary; as Redis does. */
void cmd_reply_help(struct cmd_ctx *cx, const char *container)
{
    char prefix[64];
    char name[64];
    snprintf(prefix, sizeof prefix, "%s|", container);
    size_t prefix_len = strlen(prefix);
    size_t lines = 1;
    const struct cmd_table *t = cx->env->table;
    for (size_t i = 0; i < cmd_table_count(t); i++) {
        if (strncmp(cmd_table_at(t, i)->name, prefix, prefix_len) == 0) lines += 2;
    }
    reply_array(cx->reply, lines);
    upper_into(container, name, sizeof name);
    char line[256];
    snprintf(line, sizeof line, "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    reply_simple(cx->reply, slice_of(line));
    for (size_t i = 0; i < cmd_table_count(t); i++) {
        const struct cmd_def *def = cmd_table_at(t, i);
        if (strncmp(def->name, prefix, prefix_len) != 0) continue;
        upper_into(def->name + prefix_len, name, sizeof name);
        snprintf(line, sizeof line, "%s%s%s", name, def->args[0] == '\0' ? "" : " ", def->args);
        reply_simple(cx->reply, slice_of(line));
        snprintf(line, sizeof line, "    %s", def->summary);
        reply_simple(cx->reply, slice_of(line));
    }
}
