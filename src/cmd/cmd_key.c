/* cmd/cmd_key.c - commands about whole keys: existence, deletion, lifetimes, names. */
#include "cmd/cmd_int.h"

#include <stdio.h>

/* Keys one FLUSHALL operation deletes: a series of operations, so that nothing stalls. */
#define FLUSH_STEP_COUNT 2000
#define FLUSH_STEPS_SPARE 16 /* beyond twice what the keys take: others may write meanwhile */

static void number_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_int(dx->reply, res->number);
}
static const struct cmd_finish number_finish = { .done = number_done };

/* --- DEL, EXISTS, TYPE ----------------------------------------------------------------------- */

static enum err cmd_del(struct cmd_ctx *cx)
{
    struct buf *list = &cx->env->scratch;
    buf_clear(list);
    for (size_t i = 1; i < cx->argc; i++) {
        TRY(cmd_check_key(cx->env, cx->argv[i]));
        op_list_add_key(list, cx->db, cx->argv[i]);
    }
    struct op op = cmd_op(cx, OP_DEL);
    op.list = (struct op_list){ (uint32_t)(cx->argc - 1), buf_slice(list) };
    op.fields = FIELD_LIST;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_exists(struct cmd_ctx *cx)
{
    int64_t count = 0;
    for (size_t i = 1; i < cx->argc; i++) {
        struct kv kv;
        if (cmd_get(cx, cx->argv[i], &kv)) count++;
    }
    reply_int(cx->reply, count);
    return OK;
}

static enum err cmd_type(struct cmd_ctx *cx)
{
    struct kv kv;
    const char *name = cmd_get(cx, cx->argv[1], &kv) ? cmd_type_name(kv.type) : "none";
    reply_simple(cx->reply, slice_of(name));
    return OK;
}

/* --- lifetimes ----------------------------------------------------------------------------------- */

static enum err life_cond_parse(struct cmd_ctx *cx, int64_t *out)
{
    bool nx = false;
    bool xx = false;
    bool gt = false;
    bool lt = false;
    for (size_t i = 3; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "NX")) {
            nx = true;
        } else if (arg_is(cx->argv[i], "XX")) {
            xx = true;
        } else if (arg_is(cx->argv[i], "GT")) {
            gt = true;
        } else if (arg_is(cx->argv[i], "LT")) {
            lt = true;
        } else {
            reply_error(cx->reply, "ERR", "Unsupported option %.*s", (int)MIN(cx->argv[i].len, 128),
                        (const char *)cx->argv[i].at);
            return ERR_AGAIN; /* answered */
        }
    }
    if ((nx && (xx || gt || lt)) || (gt && lt)) {
        reply_error(cx->reply, "ERR", gt && lt ? "GT and LT options at the same time are not compatible"
                                               : "NX and XX, GT or LT options at the same time are not compatible");
        return ERR_AGAIN;
    }
    /* GT holds for no key without a lifetime anyway. */
    *out = nx ? LIFE_COND_NX : gt ? LIFE_COND_GT : lt && xx ? LIFE_COND_XX_LT : lt ? LIFE_COND_LT
           : xx ? LIFE_COND_XX : LIFE_COND_NONE;
    return OK;
}

static enum err expire_any(struct cmd_ctx *cx, bool seconds, bool absolute)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    int64_t v = 0;
    struct op op = cmd_op(cx, OP_LIFE);
    enum err e = life_cond_parse(cx, &op.number);
    if (e != OK) return e == ERR_AGAIN ? OK : e;
    TRY(i64_parse(cx->argv[2], &v));
    int64_t max = seconds ? INT64_MAX / 4000 : INT64_MAX / 4; /* adding a clock cannot overflow */
    if (v > max || (seconds && v < INT64_MIN / 1000)) {
        reply_error(cx->reply, "ERR", "invalid expire time in '%s' command", cx->def->name);
        return OK;
    }
    int64_t ms = seconds ? v * 1000 : v;
    op.key = cx->argv[1];
    op.life = absolute || ms <= 0 ? LIFE_AT : LIFE_TTL;
    op.life_ms = !absolute && ms <= 0 ? 1 : ms; /* the past: deletes, like a time long ago */
    if (absolute && ms <= 0) op.life_ms = 1;
    op.fields = FIELD_KEY | FIELD_LIFE | (op.number != 0 ? FIELD_NUMBER : 0u);
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_expire(struct cmd_ctx *cx) { return expire_any(cx, true, false); }
static enum err cmd_pexpire(struct cmd_ctx *cx) { return expire_any(cx, false, false); }
static enum err cmd_expireat(struct cmd_ctx *cx) { return expire_any(cx, true, true); }
static enum err cmd_pexpireat(struct cmd_ctx *cx) { return expire_any(cx, false, true); }

static enum err cmd_persist(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct op op = cmd_op(cx, OP_LIFE);
    op.key = cx->argv[1];
    op.life = LIFE_DROP;
    op.fields = FIELD_KEY | FIELD_LIFE;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

/* -2: no such key; -1: no lifetime. Seconds are rounded as Redis does. */
static enum err ttl_any(struct cmd_ctx *cx, bool seconds, bool absolute)
{
    struct kv kv;
    if (!cmd_get(cx, cx->argv[1], &kv)) {
        reply_int(cx->reply, -2);
        return OK;
    }
    int64_t ms = absolute ? (kv.deadline_ms == 0 ? -1 : kv.unix_ms) : cmd_remaining_ms(cx->env, &kv);
    if (ms >= 0 && seconds) ms = (ms + 500) / 1000;
    reply_int(cx->reply, ms);
    return OK;
}

static enum err cmd_ttl(struct cmd_ctx *cx) { return ttl_any(cx, true, false); }
static enum err cmd_pttl(struct cmd_ctx *cx) { return ttl_any(cx, false, false); }
static enum err cmd_expiretime(struct cmd_ctx *cx) { return ttl_any(cx, true, true); }
static enum err cmd_pexpiretime(struct cmd_ctx *cx) { return ttl_any(cx, false, true); }

/* --- names ------------------------------------------------------------------------------------------ */

static void rename_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    if ((op->flags & OPF_NX) != 0) {
        reply_int(dx->reply, res->number);
    } else {
        reply_ok(dx->reply);
    }
}
static const struct cmd_finish rename_finish = { .done = rename_done };

static enum err rename_any(struct cmd_ctx *cx, uint16_t flags)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    struct op op = cmd_op(cx, OP_RENAME);
    op.key = cx->argv[1];
    op.key2 = cx->argv[2];
    op.flags = flags;
    op.fields = FIELD_KEY | FIELD_KEY2;
    return cmd_propose(cx, &op, &rename_finish, NULL, 0);
}

static enum err cmd_rename(struct cmd_ctx *cx) { return rename_any(cx, 0); }
static enum err cmd_renamenx(struct cmd_ctx *cx) { return rename_any(cx, OPF_NX); }

static enum err cmd_copy(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    struct op op = cmd_op(cx, OP_COPY);
    for (size_t i = 3; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "REPLACE")) {
            op.flags = OPF_REPLACE;
        } else if (arg_is(cx->argv[i], "DB") && i + 1 < cx->argc) {
            int64_t db = 0;
            TRY(i64_parse(cx->argv[++i], &db));
            if (db < 0 || db >= CMD_DATABASES) {
                reply_error(cx->reply, "ERR", "DB index is out of range");
                return OK;
            }
            op.key2_elsewhere = db != cx->db;
            op.key2_db = (uint8_t)db;
        } else {
            return ERR_SYNTAX;
        }
    }
    if (!op.key2_elsewhere && slice_eq(cx->argv[1], cx->argv[2])) {
        reply_error(cx->reply, "ERR", "source and destination objects are the same");
        return OK;
    }
    op.key = cx->argv[1];
    op.key2 = cx->argv[2];
    op.fields = FIELD_KEY | FIELD_KEY2;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

/* --- FLUSH: a series of range deletes -------------------------------------------------------------------- */

struct flush {
    uint8_t db, last_db;
    bool begun; /* a step was applied */
    uint64_t steps_left;
};

static void flush_free(void *data) { mem_free(data); }
static void flush_done(struct cmd_done *dx, const struct op *op, const struct op_result *res);
/* It was accepted, so that it goes on to its end also when its client is gone. */
static const struct cmd_finish flush_finish = {
    .done = flush_done, .release = flush_free, .on_error = true, .without_client = true,
};

static enum err flush_step(struct cmd_ctx *cx, struct flush *f)
{
    struct op op = {
        .kind = OP_DEL_RANGE, .db = f->db, .number = FLUSH_STEP_COUNT,
        .fields = FIELD_KEY | FIELD_KEY2 | FIELD_NUMBER,
    };
    return cmd_propose_range(cx, &op, true, &flush_finish, f, 0);
}

/* Once keys are gone no answer says that nothing was done. */
static void flush_end(struct cmd_done *dx, const struct flush *at, enum err e)
{
    if (dx->client == NULL) return;
    if (e == OK) {
        reply_ok(dx->reply);
    } else {
        reply_err(dx->reply, at->begun ? ERR_TIMEOUT : e);
    }
    client_unblock(dx->env, dx->client);
}

static uint64_t flush_step_keys(const struct view *v)
{
    return MIN(state_settings(v->state)->op_keys_max, FLUSH_STEP_COUNT);
}

static void flush_go_on(struct cmd_done *dx, struct flush at)
{
    if (at.steps_left == 0) {
        reply_error(dx->reply, "ERR", "keys are written faster than they are deleted; some are left");
        if (dx->client != NULL) client_unblock(dx->env, dx->client);
        return;
    }
    at.steps_left--;
    struct flush *f = mem_copy(&at, sizeof at);
    struct cmd_ctx cx = {
        .env = dx->env, .client = dx->client, .db = at.db, .reply = dx->reply, .view = dx->view,
        .def = cmd_table_by_name(dx->env->table, SLICE_LIT("flushdb")), .mode = CMD_MODE_NORMAL,
    };
    enum err e = flush_step(&cx, f);
    if (e == OK) return;
    mem_free(f);
    flush_end(dx, &at, e);
}

static void flush_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    struct flush at = *(struct flush *)dx->data;
    if (res->err != OK) {
        flush_end(dx, &at, res->err);
        return;
    }
    at.begun = true;
    if ((uint64_t)res->number >= flush_step_keys(&dx->view)) {
        flush_go_on(dx, at);
        return;
    }
    while (at.db < at.last_db) {
        at.db++;
        uint8_t next = (uint8_t)(at.db + 1);
        struct slice start = { &at.db, 1 };
        if (view_count(&dx->view, start, (struct slice){ &next, 1 }) == 0) continue;
        flush_go_on(dx, at);
        return;
    }
    flush_end(dx, &at, OK);
}

static enum err flush_any(struct cmd_ctx *cx, uint8_t from, uint8_t to)
{
    if (cx->argc > 2 || (cx->argc == 2 && !arg_is(cx->argv[1], "ASYNC") && !arg_is(cx->argv[1], "SYNC"))) {
        return ERR_SYNTAX;
    }
    struct flush *f = mem_alloc(sizeof *f);
    uint8_t bounds[] = { from, (uint8_t)(to + 1) };
    uint64_t keys = view_count(&cx->view, (struct slice){ &bounds[0], 1 }, (struct slice){ &bounds[1], 1 });
    *f = (struct flush){ from, to, false, 2 * (keys / flush_step_keys(&cx->view)) + CMD_DATABASES + FLUSH_STEPS_SPARE };
    enum err e = flush_step(cx, f);
    if (e != OK) {
        mem_free(f);
        return e;
    }
    client_block(cx->env, cx->client, INT64_MAX, NULL, NULL, NULL);
    return OK;
}

static enum err cmd_flushdb(struct cmd_ctx *cx) { return flush_any(cx, cx->db, cx->db); }
static enum err cmd_flushall(struct cmd_ctx *cx) { return flush_any(cx, 0, CMD_DATABASES - 1); }

/* --- OBJECT, MEMORY USAGE ----------------------------------------------------------------------------------- */

static enum err object_key(struct cmd_ctx *cx, struct kv *kv)
{
    return cmd_get(cx, cx->argv[2], kv) ? OK : ERR_NO_KEY;
}

/* How Redis would encode it. */
static const char *encoding_of(const struct kv *kv)
{
    int64_t number = 0;
    if (kv->type != VALUE_STRING) return "listpack";
    if (i64_parse(kv->value, &number) == OK) return "int";
    return kv->value.len <= 44 ? "embstr" : "raw";
}

static enum err cmd_object_encoding(struct cmd_ctx *cx)
{
    struct kv kv;
    if (object_key(cx, &kv) != OK) {
        reply_null(cx->reply);
        return OK;
    }
    reply_bulk_cstr(cx->reply, encoding_of(&kv));
    return OK;
}

static enum err object_number(struct cmd_ctx *cx, int64_t v)
{
    struct kv kv;
    if (object_key(cx, &kv) != OK) {
        reply_null(cx->reply);
    } else {
        reply_int(cx->reply, v);
    }
    return OK;
}

static enum err cmd_object_refcount(struct cmd_ctx *cx) { return object_number(cx, 1); }
static enum err cmd_object_idletime(struct cmd_ctx *cx) { return object_number(cx, 0); }

static enum err cmd_object_freq(struct cmd_ctx *cx)
{
    reply_error(cx->reply, "ERR", "An LFU maxmemory policy is not selected, access frequency not tracked. Please "
                "note that when switching between policies at runtime LRU and LFU data will take some time to adjust.");
    return OK;
}

static enum err cmd_object_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "object");
    return OK;
}

static enum err cmd_memory_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "memory");
    return OK;
}

static enum err cmd_memory_usage(struct cmd_ctx *cx)
{
    struct kv kv;
    if (cx->argc != 3 && !(cx->argc == 5 && arg_is(cx->argv[3], "SAMPLES"))) return ERR_SYNTAX;
    if (!cmd_get(cx, cx->argv[2], &kv)) {
        reply_null(cx->reply);
    } else {
        reply_int(cx->reply, (int64_t)(offsetof(struct entry, data) + kv.key.len + kv.value.len + 32));
    }
    return OK;
}

static enum err cmd_debug_object(struct cmd_ctx *cx)
{
    struct kv kv;
    char text[160];
    TRY(object_key(cx, &kv));
    int len = snprintf(text, sizeof text, "Value at:0x0 refcount:1 encoding:%s serializedlength:%zu lru:0 "
                       "lru_seconds_idle:0 mod:%llu version:%llu", encoding_of(&kv), kv.value.len,
                       (unsigned long long)kv.mod, (unsigned long long)kv.version);
    reply_simple(cx->reply, (struct slice){ (const uint8_t *)text, (size_t)len });
    return OK;
}

static enum err cmd_debug_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "debug");
    return OK;
}

#define KEY1 { 1, 1, 1 }
#define KEYS { 1, -1, 1 }
#define KEY2 { 2, 2, 1 }
#define WRITES (CMD_WRITE | CMD_TXN | CMD_FAST)
#define READS (CMD_READ | CMD_TXN | CMD_FAST)
#define FLUSH (CMD_WRITE | CMD_DRAIN | CMD_NO_MULTI)

const struct cmd_def cmd_key_defs[] = {
    { .name = "del", .run = cmd_del, .arity = -2, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEYS,
      .since = "1.0.0", .args = "key [key ...]", .summary = "Deletes keys in one revision." },
    { .name = "unlink", .run = cmd_del, .arity = -2, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEYS,
      .since = "4.0.0", .args = "key [key ...]", .summary = "Deletes keys in one revision; the same as DEL." },
    { .name = "exists", .run = cmd_exists, .arity = -2, .flags = READS, .group = GROUP_GENERIC, .keys = KEYS,
      .since = "1.0.0", .args = "key [key ...]", .summary = "Counts how many of the keys exist." },
    { .name = "touch", .run = cmd_exists, .arity = -2, .flags = READS, .group = GROUP_GENERIC, .keys = KEYS,
      .since = "3.2.1", .args = "key [key ...]", .summary = "Counts how many of the keys exist." },
    { .name = "type", .run = cmd_type, .arity = 2, .flags = READS, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "1.0.0", .args = "key", .summary = "Returns the type of a key's value." },
    { .name = "expire", .run = cmd_expire, .arity = -3, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "1.0.0", .args = "key seconds [NX|XX|GT|LT]", .summary = "Sets a key's lifetime in seconds." },
    { .name = "pexpire", .run = cmd_pexpire, .arity = -3, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "2.6.0", .args = "key milliseconds [NX|XX|GT|LT]",
      .summary = "Sets a key's lifetime in milliseconds." },
    { .name = "expireat", .run = cmd_expireat, .arity = -3, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "1.2.0", .args = "key unix-time-seconds [NX|XX|GT|LT]",
      .summary = "Sets when a key expires, as a Unix time in seconds." },
    { .name = "pexpireat", .run = cmd_pexpireat, .arity = -3, .flags = WRITES, .group = GROUP_GENERIC,
      .keys = KEY1, .since = "2.6.0", .args = "key unix-time-milliseconds [NX|XX|GT|LT]",
      .summary = "Sets when a key expires, as a Unix time in milliseconds." },
    { .name = "persist", .run = cmd_persist, .arity = 2, .flags = WRITES, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "2.2.0", .args = "key", .summary = "Takes a key's lifetime away, or detaches it from its lease." },
    { .name = "ttl", .run = cmd_ttl, .arity = 2, .flags = READS, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "1.0.0", .args = "key", .summary = "Returns the seconds a key has left." },
    { .name = "pttl", .run = cmd_pttl, .arity = 2, .flags = READS, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "2.6.0", .args = "key", .summary = "Returns the milliseconds a key has left." },
    { .name = "expiretime", .run = cmd_expiretime, .arity = 2, .flags = READS, .group = GROUP_GENERIC, .keys = KEY1,
      .since = "7.0.0", .args = "key", .summary = "Returns when a key expires, as a Unix time in seconds." },
    { .name = "pexpiretime", .run = cmd_pexpiretime, .arity = 2, .flags = READS, .group = GROUP_GENERIC,
      .keys = KEY1, .since = "7.0.0", .args = "key",
      .summary = "Returns when a key expires, as a Unix time in milliseconds." },
    { .name = "rename", .run = cmd_rename, .arity = 3, .flags = WRITES, .group = GROUP_GENERIC, .keys = { 1, 2, 1 },
      .since = "1.0.0", .args = "key newkey", .summary = "Renames a key, replacing what has the new name." },
    { .name = "renamenx", .run = cmd_renamenx, .arity = 3, .flags = WRITES, .group = GROUP_GENERIC,
      .keys = { 1, 2, 1 }, .since = "1.0.0", .args = "key newkey",
      .summary = "Renames a key only if the new name is free." },
    { .name = "copy", .run = cmd_copy, .arity = -3, .flags = WRITES | CMD_DENYOOM, .group = GROUP_GENERIC,
      .keys = { 1, 2, 1 }, .since = "6.2.0", .args = "source destination [DB destination-db] [REPLACE]",
      .summary = "Copies a value and its lifetime to another key." },
    { .name = "flushdb", .run = cmd_flushdb, .arity = -1, .flags = FLUSH, .group = GROUP_SERVER, .since = "1.0.0",
      .args = "[ASYNC|SYNC]", .summary = "Deletes all keys of the database, as a series of operations." },
    { .name = "flushall", .run = cmd_flushall, .arity = -1, .flags = FLUSH, .group = GROUP_SERVER, .since = "1.0.0",
      .args = "[ASYNC|SYNC]", .summary = "Deletes all keys of all databases, as a series of operations." },
    { .name = "object", .arity = -2, .flags = CMD_READ | CMD_CONTAINER, .group = GROUP_GENERIC, .since = "2.2.3",
      .args = "", .summary = "A container for commands that look at a value." },
    { .name = "object|encoding", .run = cmd_object_encoding, .arity = 3, .flags = READS, .group = GROUP_GENERIC,
      .keys = KEY2, .since = "2.2.3", .args = "key", .summary = "Returns how Redis would encode the value." },
    { .name = "object|refcount", .run = cmd_object_refcount, .arity = 3, .flags = READS, .group = GROUP_GENERIC,
      .keys = KEY2, .since = "2.2.3", .args = "key", .summary = "Returns 1 if the key exists." },
    { .name = "object|idletime", .run = cmd_object_idletime, .arity = 3, .flags = READS, .group = GROUP_GENERIC,
      .keys = KEY2, .since = "2.2.3", .args = "key", .summary = "Returns 0 if the key exists: idle time is not kept." },
    { .name = "object|freq", .run = cmd_object_freq, .arity = 3, .flags = READS, .group = GROUP_GENERIC,
      .keys = KEY2, .since = "4.0.0", .args = "key", .summary = "Answers with an error: frequency is not kept." },
    { .name = "object|help", .run = cmd_object_help, .arity = 2, .flags = READS, .group = GROUP_GENERIC,
      .since = "6.2.0", .args = "", .summary = "Shows the subcommands." },
    { .name = "debug", .arity = -2, .flags = CMD_READ | CMD_CONTAINER | CMD_ADMIN, .group = GROUP_SERVER,
      .since = "1.0.0", .args = "", .summary = "A container for looking inside." },
    { .name = "debug|object", .run = cmd_debug_object, .arity = 3, .flags = CMD_READ | CMD_ADMIN | CMD_FAST,
      .group = GROUP_SERVER, .keys = KEY2, .since = "1.0.0", .args = "key",
      .summary = "Describes a key's value as Redis would keep it, and its revision and version." },
    { .name = "debug|help", .run = cmd_debug_help, .arity = 2, .flags = CMD_CONN | CMD_FAST, .group = GROUP_SERVER,
      .since = "1.0.0", .args = "", .summary = "Shows the subcommands." },
    { .name = "memory", .arity = -2, .flags = CMD_READ | CMD_CONTAINER, .group = GROUP_SERVER, .since = "4.0.0",
      .args = "", .summary = "A container for commands about memory." },
    { .name = "memory|usage", .run = cmd_memory_usage, .arity = -3, .flags = READS, .group = GROUP_SERVER,
      .keys = KEY2, .since = "4.0.0", .args = "key [SAMPLES count]",
      .summary = "Estimates the bytes of memory a key takes." },
    { .name = "memory|help", .run = cmd_memory_help, .arity = 2, .flags = READS, .group = GROUP_SERVER,
      .since = "4.0.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
