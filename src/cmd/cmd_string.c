/* cmd/cmd_string.c - Redis' strings on the versioned key space. */
#include "cmd/cmd_int.h"

#include "state/real.h"

#define LIFE_MS_MAX (INT64_MAX / 4) /* so that adding a clock cannot overflow */

/* --- options that several commands share --------------------------------------------------- */

enum { OPT_LIFE = 1, OPT_COND = 2, OPT_GET = 4, OPT_LEASE = 8, OPT_PERSIST = 16, OPT_VALUE_COND = 32 };

/* The words that give a lifetime; the first four take a time. */
enum life_word {
    WORD_EX, WORD_PX, WORD_EXAT, WORD_PXAT, WORD_LEASE, WORD_KEEPTTL, WORD_PERSIST, WORD_NONE,
};

struct string_options {
    enum op_life life;
    enum life_word life_word;
    struct slice life_arg;
    int64_t life_ms;
    uint64_t lease_id;
    enum op_cond cond;
    struct slice cond_value;
    bool get;
};

/* The time behind EX, PX, EXAT or PXAT. */
static enum err life_number(struct cmd_ctx *cx, struct string_options *o)
{
    bool seconds = o->life_word == WORD_EX || o->life_word == WORD_EXAT;
    bool absolute = o->life_word == WORD_EXAT || o->life_word == WORD_PXAT;
    int64_t v = 0;
    TRY(i64_parse(o->life_arg, &v));
    if (v <= 0 || v > (seconds ? LIFE_MS_MAX / 1000 : LIFE_MS_MAX)) {
        reply_error(cx->reply, "ERR", "invalid expire time in '%s' command", cx->def->name);
        return ERR_AGAIN; /* answered */
    }
    o->life = absolute ? LIFE_AT : LIFE_TTL;
    o->life_ms = seconds ? v * 1000 : v;
    return OK;
}

static enum life_word life_word_of(struct slice arg, unsigned allowed)
{
    static const struct {
        const char *text;
        unsigned needs;
    } words[] = {
        [WORD_EX] = { "EX", OPT_LIFE },           [WORD_PX] = { "PX", OPT_LIFE },
        [WORD_EXAT] = { "EXAT", OPT_LIFE },       [WORD_PXAT] = { "PXAT", OPT_LIFE },
        [WORD_LEASE] = { "LEASE", OPT_LEASE },    [WORD_KEEPTTL] = { "KEEPTTL", OPT_LEASE },
        [WORD_PERSIST] = { "PERSIST", OPT_PERSIST },
    };
    for (enum life_word w = WORD_EX; w < WORD_NONE; w++) {
        if ((allowed & words[w].needs) != 0 && arg_is(arg, words[w].text)) return w;
    }
    return WORD_NONE;
}

/* As Redis does: the same word may come again, and then the last one counts; times are looked at
 * when everything else was found to be right. */
static enum err life_option(struct cmd_ctx *cx, size_t *at, unsigned allowed, struct string_options *o)
{
    enum life_word word = life_word_of(cx->argv[*at], allowed);
    if (word == WORD_NONE) return ERR_SYNTAX;
    if (o->life_word != WORD_NONE && o->life_word != word) return ERR_SYNTAX;
    o->life_word = word;
    if (word == WORD_KEEPTTL) o->life = LIFE_KEEP;
    if (word > WORD_LEASE) return OK;
    if (*at + 1 >= cx->argc) return ERR_SYNTAX;
    o->life_arg = cx->argv[++*at];
    if (word != WORD_LEASE) return OK;
    o->life = LIFE_LEASE;
    return arg_u64(o->life_arg, &o->lease_id);
}

static enum err cond_option(struct cmd_ctx *cx, size_t *at, unsigned allowed, struct string_options *o,
                            bool *taken)
{
    static const struct {
        const char *word;
        enum op_cond cond;
        bool value;
    } words[] = {
        { "NX", COND_MISSING, false }, { "XX", COND_EXISTS, false },
        { "IFEQ", COND_VALUE_EQ, true }, { "IFNE", COND_VALUE_NE, true },
    };
    *taken = false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if ((allowed & (words[i].value ? OPT_VALUE_COND : OPT_COND)) == 0) continue;
        if (!arg_is(cx->argv[*at], words[i].word)) continue;
        *taken = true;
        if (o->cond != COND_NONE && (o->cond != words[i].cond || words[i].value)) return ERR_SYNTAX;
        o->cond = words[i].cond;
        if (!words[i].value) return OK;
        if (*at + 1 >= cx->argc) return ERR_SYNTAX;
        o->cond_value = cx->argv[++*at];
        return OK;
    }
    return OK;
}

/* From argv[at] to the end. ERR_AGAIN: an error was written already. */
static enum err options_parse(struct cmd_ctx *cx, size_t at, unsigned allowed, struct string_options *o)
{
    *o = (struct string_options){ .life = LIFE_DROP, .life_word = WORD_NONE };
    for (; at < cx->argc; at++) {
        bool taken = false;
        TRY(cond_option(cx, &at, allowed, o, &taken));
        if (taken) continue;
        if ((allowed & OPT_GET) != 0 && arg_is(cx->argv[at], "GET")) {
            o->get = true;
            continue;
        }
        TRY(life_option(cx, &at, allowed, o));
    }
    return o->life_word <= WORD_PXAT ? life_number(cx, o) : OK;
}

static void options_apply(const struct string_options *o, struct op *op)
{
    op->life = o->life;
    op->life_ms = o->life_ms;
    op->lease_id = o->lease_id;
    if (o->life != LIFE_DROP) op->fields |= FIELD_LIFE;
    if (o->cond == COND_NONE) return;
    op->cond = o->cond;
    op->cond_bytes = o->cond_value;
    op->fields |= FIELD_COND;
}

static enum err put_op(struct cmd_ctx *cx, struct slice key, struct slice value, struct op *op)
{
    TRY(cmd_check_key(cx->env, key));
    TRY(cmd_check_value(cx->env, value));
    *op = cmd_op(cx, OP_PUT);
    op->key = key;
    op->value = value;
    op->fields = FIELD_KEY | FIELD_VALUE;
    return OK;
}

/* --- SET and its relatives -------------------------------------------------------------------- */

static void set_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    if ((op->flags & OPF_PREV) != 0) {
        if (res->has_prev && res->prev.type != VALUE_STRING) {
            reply_err(dx->reply, ERR_WRONGTYPE);
        } else if (res->has_prev) {
            reply_bulk(dx->reply, res->prev.value);
        } else {
            reply_null(dx->reply);
        }
    } else if (res->applied) {
        reply_ok(dx->reply);
    } else {
        reply_null(dx->reply);
    }
}
static const struct cmd_finish set_finish = { .done = set_done };

static enum err cmd_set(struct cmd_ctx *cx)
{
    struct op op;
    TRY(put_op(cx, cx->argv[1], cx->argv[2], &op));
    if (LIKELY(cx->argc == 3)) return cmd_propose(cx, &op, &set_finish, NULL, 0);
    struct string_options o;
    enum err e = options_parse(cx, 3, OPT_LIFE | OPT_COND | OPT_GET | OPT_LEASE | OPT_VALUE_COND, &o);
    if (e != OK) return e == ERR_AGAIN ? OK : e;
    options_apply(&o, &op);
    if (o.get) op.flags |= OPF_PREV;
    return cmd_propose(cx, &op, &set_finish, NULL, 0);
}

static void setnx_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_int(dx->reply, res->applied);
}
static const struct cmd_finish setnx_finish = { .done = setnx_done };

static enum err cmd_setnx(struct cmd_ctx *cx)
{
    struct op op;
    TRY(put_op(cx, cx->argv[1], cx->argv[2], &op));
    op.cond = COND_MISSING;
    op.fields |= FIELD_COND;
    return cmd_propose(cx, &op, &setnx_finish, NULL, 0);
}

static enum err set_with_life(struct cmd_ctx *cx, enum life_word word)
{
    struct op op;
    TRY(put_op(cx, cx->argv[1], cx->argv[3], &op));
    struct string_options o = { .life_word = word, .life_arg = cx->argv[2] };
    enum err e = life_number(cx, &o);
    if (e != OK) return e == ERR_AGAIN ? OK : e;
    options_apply(&o, &op);
    return cmd_propose(cx, &op, &set_finish, NULL, 0);
}

static enum err cmd_setex(struct cmd_ctx *cx) { return set_with_life(cx, WORD_EX); }
static enum err cmd_psetex(struct cmd_ctx *cx) { return set_with_life(cx, WORD_PX); }

static enum err cmd_getset(struct cmd_ctx *cx)
{
    struct op op;
    TRY(put_op(cx, cx->argv[1], cx->argv[2], &op));
    op.flags |= OPF_PREV;
    return cmd_propose(cx, &op, &set_finish, NULL, 0);
}

/* --- reading ------------------------------------------------------------------------------------ */

static enum err cmd_get_run(struct cmd_ctx *cx)
{
    struct kv kv;
    if (!cmd_get(cx, cx->argv[1], &kv)) {
        reply_null(cx->reply);
        return OK;
    }
    if (kv.type != VALUE_STRING) return ERR_WRONGTYPE;
    reply_bulk(cx->reply, kv.value);
    return OK;
}

static enum err cmd_mget(struct cmd_ctx *cx)
{
    reply_array(cx->reply, cx->argc - 1);
    for (size_t i = 1; i < cx->argc; i++) {
        struct kv kv;
        if (cmd_get(cx, cx->argv[i], &kv) && kv.type == VALUE_STRING) {
            reply_bulk(cx->reply, kv.value);
        } else {
            reply_null(cx->reply);
        }
        if (UNLIKELY(cmd_output_full(cx->env, cx->client, chain_bytes(cx->reply->out)))) break;
    }
    return OK;
}

static enum err cmd_strlen(struct cmd_ctx *cx)
{
    struct kv kv = { .type = VALUE_STRING };
    bool found = cmd_get(cx, cx->argv[1], &kv);
    if (found && kv.type != VALUE_STRING) return ERR_WRONGTYPE;
    reply_int(cx->reply, found ? (int64_t)kv.value.len : 0);
    return OK;
}

static enum err cmd_getrange(struct cmd_ctx *cx)
{
    int64_t start = 0;
    int64_t end = 0;
    TRY(i64_parse(cx->argv[2], &start));
    TRY(i64_parse(cx->argv[3], &end));
    struct kv kv;
    if (!cmd_get(cx, cx->argv[1], &kv)) {
        reply_bulk(cx->reply, SLICE_NONE);
        return OK;
    }
    if (kv.type != VALUE_STRING) return ERR_WRONGTYPE;
    int64_t len = (int64_t)kv.value.len;
    if (start < 0 && end < 0 && start > end) end = -1, start = len;
    if (start < 0) start = MAX(len + start, 0);
    if (end < 0) end = MAX(len + end, 0);
    end = MIN(end, len - 1);
    if (start > end || len == 0) {
        reply_bulk(cx->reply, SLICE_NONE);
    } else {
        reply_bulk(cx->reply, (struct slice){ kv.value.at + start, (size_t)(end - start + 1) });
    }
    return OK;
}

/* --- GETDEL, GETEX ---------------------------------------------------------------------------------- */

static void prev_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    if (res->has_prev && res->prev.type == VALUE_STRING) {
        reply_bulk(dx->reply, res->prev.value);
    } else if (res->has_prev) {
        reply_err(dx->reply, ERR_WRONGTYPE);
    } else {
        reply_null(dx->reply);
    }
}
static const struct cmd_finish prev_finish = { .done = prev_done };

static enum err cmd_getdel(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct op op = cmd_op(cx, OP_DEL);
    op.key = cx->argv[1];
    op.fields = FIELD_KEY | FIELD_COND;
    op.cond = COND_EXISTS;
    op.flags = OPF_PREV;
    return cmd_propose(cx, &op, &prev_finish, NULL, 0);
}

/* The value as it stands right behind the change of its lifetime; a time in the past has deleted
 * the key, but its value is still the answer: that is asked for as the former version. */
static void getex_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    struct kv kv;
    if (res->has_prev) {
        prev_done(dx, op, res);
    } else if (view_get(&dx->view, op->key, &kv) && kv.type == VALUE_STRING) {
        reply_bulk(dx->reply, kv.value);
    } else {
        reply_null(dx->reply);
    }
}
static const struct cmd_finish getex_finish = { .done = getex_done };

static enum err cmd_getex(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct string_options o;
    enum err e = options_parse(cx, 2, OPT_LIFE | OPT_PERSIST, &o);
    if (e != OK) return e == ERR_AGAIN ? OK : e;
    struct op op = cmd_op(cx, OP_LIFE);
    op.key = cx->argv[1];
    op.life = o.life_word != WORD_NONE ? o.life : LIFE_KEEP;
    op.life_ms = o.life_ms;
    op.flags = OPF_PREV;
    op.fields = FIELD_KEY | FIELD_LIFE;
    return cmd_propose(cx, &op, &getex_finish, NULL, 0);
}

/* --- many keys ------------------------------------------------------------------------------------------ */

static void mset_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    (void)res;
    reply_ok(dx->reply);
}
static const struct cmd_finish mset_finish = { .done = mset_done };
static void number_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_int(dx->reply, res->number);
}
static const struct cmd_finish number_finish = { .done = number_done };

static enum err pairs_op(struct cmd_ctx *cx, size_t from, size_t count, struct op *op)
{
    struct buf *list = &cx->env->scratch;
    buf_clear(list);
    for (size_t i = 0; i < count; i++) {
        struct slice key = cx->argv[from + 2 * i];
        struct slice value = cx->argv[from + 2 * i + 1];
        TRY(cmd_check_key(cx->env, key));
        TRY(cmd_check_value(cx->env, value));
        op_list_add_pair(list, cx->db, key, value);
    }
    *op = cmd_op(cx, OP_MPUT);
    op->list = (struct op_list){ (uint32_t)count, buf_slice(list) };
    op->fields = FIELD_LIST;
    return OK;
}

static enum err mset_any(struct cmd_ctx *cx, bool only_new)
{
    if (cx->argc % 2 == 0) return ERR_ARITY;
    struct op op;
    TRY(pairs_op(cx, 1, (cx->argc - 1) / 2, &op));
    if (only_new) {
        op.cond = COND_MISSING;
        op.fields |= FIELD_COND;
    }
    return cmd_propose(cx, &op, only_new ? &number_finish : &mset_finish, NULL, 0);
}

static enum err cmd_mset(struct cmd_ctx *cx) { return mset_any(cx, false); }
static enum err cmd_msetnx(struct cmd_ctx *cx) { return mset_any(cx, true); }

static enum err cmd_msetex(struct cmd_ctx *cx)
{
    uint64_t count = 0;
    if (arg_u64(cx->argv[1], &count) != OK || count == 0 || count > cx->argc) {
        reply_error(cx->reply, "ERR", "invalid numkeys value");
        return OK;
    }
    if (2 + 2 * count > cx->argc) return ERR_ARITY;
    struct op op;
    TRY(pairs_op(cx, 2, (size_t)count, &op));
    struct string_options o;
    enum err e = options_parse(cx, 2 + 2 * (size_t)count, OPT_LIFE | OPT_COND | OPT_LEASE, &o);
    if (e != OK) return e == ERR_AGAIN ? OK : e;
    options_apply(&o, &op);
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err msetex_keys(size_t argc, const struct slice *argv,
                            void (*each)(void *ctx, size_t place), void *ctx)
{
    uint64_t count = 0;
    if (argc < 2) return ERR_SYNTAX;
    TRY(arg_u64(argv[1], &count));
    if (count > argc) return ERR_SYNTAX;
    for (size_t i = 0; i < count; i++) {
        if (2 + 2 * i >= argc) return ERR_SYNTAX;
        each(ctx, 2 + 2 * i);
    }
    return OK;
}

/* --- changing a part ---------------------------------------------------------------------------------------- */

static enum err cmd_append(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    TRY(cmd_check_value(cx->env, cx->argv[2]));
    struct op op = cmd_op(cx, OP_APPEND);
    op.key = cx->argv[1];
    op.value = cx->argv[2];
    op.fields = FIELD_KEY | FIELD_VALUE;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_setrange(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct op op = cmd_op(cx, OP_SETRANGE);
    TRY(i64_parse(cx->argv[2], &op.number));
    if (op.number < 0) return ERR_OFFSET;
    if (cx->argv[3].len == 0) op.number = 0; /* changes nothing, wherever */
    uint64_t max = state_settings(node_state(cx->env->node))->value_bytes_max;
    if ((uint64_t)op.number > max || (uint64_t)op.number + cx->argv[3].len > max) return ERR_STRING_LIMIT;
    op.key = cx->argv[1];
    op.value = cx->argv[3];
    op.fields = FIELD_KEY | FIELD_VALUE | FIELD_NUMBER;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err incr_by(struct cmd_ctx *cx, int64_t by)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct op op = cmd_op(cx, OP_INCR);
    op.key = cx->argv[1];
    op.number = by;
    op.fields = FIELD_KEY | FIELD_NUMBER;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_incr(struct cmd_ctx *cx) { return incr_by(cx, 1); }
static enum err cmd_decr(struct cmd_ctx *cx) { return incr_by(cx, -1); }

static enum err cmd_incrby(struct cmd_ctx *cx)
{
    int64_t by = 0;
    TRY(i64_parse(cx->argv[2], &by));
    return incr_by(cx, by);
}

static enum err cmd_decrby(struct cmd_ctx *cx)
{
    int64_t by = 0;
    TRY(i64_parse(cx->argv[2], &by));
    if (by == INT64_MIN) {
        reply_error(cx->reply, "ERR", "decrement would overflow");
        return OK;
    }
    return incr_by(cx, -by);
}

static void incrbyfloat_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    struct kv kv;
    (void)res;
    bool found = view_get(&dx->view, op->key, &kv);
    ASSERT(found);
    reply_bulk(dx->reply, kv.value);
}
static const struct cmd_finish incrbyfloat_finish = { .done = incrbyfloat_done };

static enum err cmd_incrbyfloat(struct cmd_ctx *cx)
{
    struct real by;
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    TRY(real_parse(cx->argv[2], &by));
    struct op op = cmd_op(cx, OP_INCR_FLOAT);
    op.key = cx->argv[1];
    op.value = cx->argv[2];
    op.fields = FIELD_KEY | FIELD_VALUE;
    return cmd_propose(cx, &op, &incrbyfloat_finish, NULL, 0);
}

/* --- compare and delete --------------------------------------------------------------------------------- */

static enum err del_if(struct cmd_ctx *cx, enum op_cond cond, struct slice value)
{
    TRY(cmd_check_key(cx->env, cx->argv[1]));
    struct op op = cmd_op(cx, OP_DEL);
    op.key = cx->argv[1];
    op.fields = FIELD_KEY | FIELD_COND;
    op.cond = cond;
    op.cond_bytes = value;
    return cmd_propose(cx, &op, &number_finish, NULL, 0);
}

static enum err cmd_delex(struct cmd_ctx *cx)
{
    if (cx->argc == 2) return del_if(cx, COND_EXISTS, SLICE_NONE);
    if (cx->argc != 4) return ERR_SYNTAX;
    if (arg_is(cx->argv[2], "IFEQ")) return del_if(cx, COND_VALUE_EQ, cx->argv[3]);
    if (!arg_is(cx->argv[2], "IFNE")) return ERR_SYNTAX;
    return del_if(cx, COND_VALUE_NE, cx->argv[3]);
}

static enum err cmd_delifeq(struct cmd_ctx *cx)
{
    return del_if(cx, COND_VALUE_EQ, cx->argv[2]);
}

#define KEY1 { 1, 1, 1 }
#define WRITES (CMD_WRITE | CMD_TXN | CMD_FAST)
#define GROWS (WRITES | CMD_DENYOOM)
#define READS (CMD_READ | CMD_TXN | CMD_FAST)

const struct cmd_def cmd_string_defs[] = {
    { .name = "get", .run = cmd_get_run, .arity = 2, .flags = READS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key", .summary = "Returns the string value of a key." },
    { .name = "set", .run = cmd_set, .arity = -3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0",
      .args = "key value [NX|XX|IFEQ value|IFNE value] [GET] [EX seconds|PX milliseconds|EXAT "
              "unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL|LEASE id]",
      .summary = "Sets the string value of a key, dropping its lifetime unless told otherwise." },
    { .name = "setnx", .run = cmd_setnx, .arity = 3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key value", .summary = "Sets a key only if it does not exist." },
    { .name = "setex", .run = cmd_setex, .arity = 4, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.0.0", .args = "key seconds value", .summary = "Sets a value and a lifetime in seconds." },
    { .name = "psetex", .run = cmd_psetex, .arity = 4, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.6.0", .args = "key milliseconds value",
      .summary = "Sets a value and a lifetime in milliseconds." },
    { .name = "getset", .run = cmd_getset, .arity = 3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key value", .summary = "Sets a value and returns the former one." },
    { .name = "getdel", .run = cmd_getdel, .arity = 2, .flags = WRITES, .group = GROUP_STRING, .keys = KEY1,
      .since = "6.2.0", .args = "key", .summary = "Returns a value and deletes the key." },
    { .name = "getex", .run = cmd_getex, .arity = -2, .flags = WRITES, .group = GROUP_STRING, .keys = KEY1,
      .since = "6.2.0",
      .args = "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
      .summary = "Returns a value and changes the key's lifetime." },
    { .name = "mget", .run = cmd_mget, .arity = -2, .flags = READS, .group = GROUP_STRING, .keys = { 1, -1, 1 },
      .since = "1.0.0", .args = "key [key ...]", .summary = "Returns the values of several keys." },
    { .name = "mset", .run = cmd_mset, .arity = -3, .flags = GROWS, .group = GROUP_STRING, .keys = { 1, -1, 2 },
      .since = "1.0.1", .args = "key value [key value ...]",
      .summary = "Sets several keys in one revision." },
    { .name = "msetnx", .run = cmd_msetnx, .arity = -3, .flags = GROWS, .group = GROUP_STRING,
      .keys = { 1, -1, 2 }, .since = "1.0.1", .args = "key value [key value ...]",
      .summary = "Sets several keys in one revision, only if none of them exists." },
    { .name = "msetex", .run = cmd_msetex, .arity = -4, .flags = GROWS | CMD_MOVABLE_KEYS,
      .find_keys = msetex_keys, .group = GROUP_STRING, .since = "8.4.0",
      .args = "numkeys key value [key value ...] [NX|XX] [EX seconds|PX milliseconds|EXAT "
              "unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
      .summary = "Sets several keys with one lifetime in one revision, if a condition holds." },
    { .name = "strlen", .run = cmd_strlen, .arity = 2, .flags = READS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.2.0", .args = "key", .summary = "Returns the length of a value." },
    { .name = "getrange", .run = cmd_getrange, .arity = 4, .flags = READS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.4.0", .args = "key start end", .summary = "Returns a part of a value." },
    { .name = "substr", .run = cmd_getrange, .arity = 4, .flags = READS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key start end", .summary = "Returns a part of a value; the old name of GETRANGE." },
    { .name = "setrange", .run = cmd_setrange, .arity = 4, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.2.0", .args = "key offset value",
      .summary = "Overwrites a part of a value, filling with zeros up to it." },
    { .name = "append", .run = cmd_append, .arity = 3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "2.0.0", .args = "key value", .summary = "Appends to a value." },
    { .name = "incr", .run = cmd_incr, .arity = 2, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key", .summary = "Adds one to an integer." },
    { .name = "decr", .run = cmd_decr, .arity = 2, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key", .summary = "Subtracts one from an integer." },
    { .name = "incrby", .run = cmd_incrby, .arity = 3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key increment", .summary = "Adds to an integer." },
    { .name = "decrby", .run = cmd_decrby, .arity = 3, .flags = GROWS, .group = GROUP_STRING, .keys = KEY1,
      .since = "1.0.0", .args = "key decrement", .summary = "Subtracts from an integer." },
    { .name = "incrbyfloat", .run = cmd_incrbyfloat, .arity = 3, .group = GROUP_STRING, .keys = KEY1,
      .flags = GROWS, .since = "2.6.0", .args = "key increment",
      .summary = "Adds to a number with a fraction." },
    { .name = "delex", .run = cmd_delex, .arity = -2, .flags = WRITES, .group = GROUP_STRING, .keys = KEY1,
      .since = "8.4.0", .args = "key [IFEQ value|IFNE value]", .summary = "Deletes a key if its value is, or is not, as given." },
    { .name = "delifeq", .run = cmd_delifeq, .arity = 3, .flags = WRITES, .group = GROUP_STRING, .keys = KEY1,
      .since = "9.0.0", .args = "key value", .summary = "Deletes a key if its value is as given." },
    CMD_DEF_END,
};
