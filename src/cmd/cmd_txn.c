/* cmd/cmd_txn.c - MULTI, EXEC, WATCH and TXN.
 *
 * A transaction is put together as a tree of elements, one for each queued line or operation. What
 * writes becomes an operation inside one OP_TXN; what only reads becomes OP_LOCAL, a place that is
 * the same on every replica but is executed here alone, where it stands. Each element collects
 * its own reply; when the whole was applied they are put together in order. */
#include "cmd/cmd_int.h"

#define NO_ORDINAL UINT32_MAX

struct multi {
    struct cmd_copy **queue;
    size_t count, cap;
    size_t bytes;     /* of the arguments */
    bool spoiled;     /* EXEC answers EXECABORT */
    bool has_if;      /* interactive: TXN IF came */
    bool has_else;
};

enum element_kind {
    ELEMENT_WRITE,  /* an operation; finish writes its reply */
    ELEMENT_LOCAL,  /* a read at its place */
    ELEMENT_RAW,    /* answered while it was collected */
    ELEMENT_IF,     /* interactive lines: 1 or 0 */
    ELEMENT_ELSE,
    ELEMENT_NESTED, /* a TXN inside */
};

struct element {
    enum element_kind kind;
    uint32_t ordinal;
    uint32_t depth;
    bool in_else;
    bool skipped;
    const struct cmd_finish *finish;
    void *data;
    uint64_t arg;
    struct cmd_copy *copy;
    struct chain out;    /* the reply; NESTED: what `failed` says */
    bool succeeded;      /* NESTED */
    bool is_error;       /* NESTED: out is its error */
    uint64_t rev;        /* NESTED */
};

/* One level of a transaction that is being put together. */
struct level {
    struct buf then_ops, else_ops, compares;
    uint32_t then_count, else_count, compare_count;
    bool in_else;
    uint32_t depth;
};

struct collect {
    struct cmd_env *env;
    struct element *elements;
    size_t count, cap;
    uint32_t ordinals;
    uint32_t next; /* element that the next callback is about: a hint */
    bool exec;     /* EXEC, not one-shot TXN */
    bool has_write;
    size_t watch_compares; /* the first so many compares are WATCH's */
    bool has_if;
    struct level *level; /* while collecting */
    struct cmd_copy *copying; /* EXEC: the queued command being collected */
    uint32_t proposed;   /* operations that the running handler has added */
    size_t out_bytes;    /* of the elements' replies so far */
};

/* --- memory ------------------------------------------------------------------------------ */

static void level_deinit(struct level *l)
{
    buf_deinit(&l->then_ops);
    buf_deinit(&l->else_ops);
    buf_deinit(&l->compares);
}

static struct element *element_add(struct collect *k, enum element_kind kind)
{
    if (k->count == k->cap) {
        k->cap = k->cap == 0 ? 16 : k->cap * 2;
        k->elements = mem_realloc(k->elements, k->cap * sizeof *k->elements);
    }
    struct element *el = &k->elements[k->count++];
    *el = (struct element){
        .kind = kind, .ordinal = NO_ORDINAL, .depth = k->level->depth, .in_else = k->level->in_else,
    };
    chain_init(&el->out, k->env->io.pool);
    return el;
}

static void collect_free(struct collect *k)
{
    for (size_t i = 0; i < k->count; i++) {
        struct element *el = &k->elements[i];
        if (el->finish != NULL && el->finish->release != NULL) el->finish->release(el->data);
        mem_free(el->copy);
        chain_deinit(&el->out);
    }
    mem_free(k->elements);
    mem_free(k);
}

void cmd_multi_free(struct client *c)
{
    if (c->multi == NULL) return;
    for (size_t i = 0; i < c->multi->count; i++) mem_free(c->multi->queue[i]);
    mem_free(c->multi->queue);
    mem_free(c->multi);
    c->multi = NULL;
}

void cmd_multi_spoil(struct client *c)
{
    if (c->multi != NULL) c->multi->spoiled = true;
}

/* --- queueing -------------------------------------------------------------------------------- */

void cmd_multi_queue(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                     const struct slice *argv, struct reply *r)
{
    struct multi *m = c->multi;
    if ((def->flags & CMD_NO_MULTI) != 0 || (def->leaves_turn != NULL && def->leaves_turn(argc, argv))) {
        reply_err(r, ERR_IN_TXN);
        m->spoiled = true;
        return;
    }
    if (m->count >= MIN(CLIENT_MULTI_COUNT_MAX, state_settings(node_state(env->node))->multi_ops_max)) {
        reply_err(r, ERR_OPS_LIMIT);
        m->spoiled = true;
        return;
    }
    for (size_t i = 0; i < argc; i++) m->bytes += sizeof argv[i] + argv[i].len;
    /* More than that would be refused as an operation; reads are not part of one. */
    if (m->bytes > state_settings(node_state(env->node))->request_bytes_max + CLIENT_MULTI_EXTRA_BYTES) {
        reply_err(r, ERR_REQUEST_LIMIT);
        m->spoiled = true;
        return;
    }
    if (m->count == m->cap) {
        m->cap = m->cap == 0 ? 8 : m->cap * 2;
        m->queue = mem_realloc(m->queue, m->cap * sizeof(struct cmd_copy *));
    }
    m->queue[m->count++] = cmd_copy_new(def, c->db, argc, argv);
    reply_simple(r, SLICE_LIT("QUEUED"));
}

static enum err cmd_multi(struct cmd_ctx *cx)
{
    if (cx->client->multi != NULL) {
        reply_error(cx->reply, "ERR", "MULTI calls can not be nested");
        return OK;
    }
    cx->client->multi = mem_zalloc(sizeof *cx->client->multi);
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_discard(struct cmd_ctx *cx)
{
    if (cx->client->multi == NULL) {
        reply_error(cx->reply, "ERR", "DISCARD without MULTI");
        return OK;
    }
    cmd_multi_free(cx->client);
    cmd_unwatch(cx->client);
    reply_ok(cx->reply);
    return OK;
}

/* --- WATCH ------------------------------------------------------------------------------------ */

void cmd_unwatch(struct client *c)
{
    for (size_t i = 0; i < c->watched_count; i++) {
        mem_free((void *)(uintptr_t)c->watched[i].key.at);
    }
    c->watched_count = 0;
}

static void watch_one(struct cmd_ctx *cx, struct slice internal)
{
    struct client *c = cx->client;
    for (size_t i = 0; i < c->watched_count; i++) {
        if (slice_eq(c->watched[i].key, internal)) return;
    }
    if (c->watched_count == c->watched_cap) {
        c->watched_cap = c->watched_cap == 0 ? 4 : c->watched_cap * 2;
        c->watched = mem_realloc(c->watched, c->watched_cap * sizeof *c->watched);
    }
    struct kv kv = { .mod = 0 };
    bool found = view_get(&cx->view, internal, &kv);
    c->watched[c->watched_count++] = (struct watched_key){
        .key = { mem_copy(internal.at, internal.len), internal.len },
        .mod = found ? kv.mod : 0,
        .life_index = found ? kv.life_index : 0,
    };
}

static enum err cmd_watch(struct cmd_ctx *cx)
{
    if (cx->client->multi != NULL) {
        reply_error(cx->reply, "ERR", "WATCH inside MULTI is not allowed");
        return OK;
    }
    if (cx->client->watched_count + cx->argc > CLIENT_WATCH_COUNT_MAX) return ERR_KEYS_LIMIT;
    for (size_t i = 1; i < cx->argc; i++) TRY(cmd_check_key(cx->env, cx->argv[i]));
    for (size_t i = 1; i < cx->argc; i++) {
        watch_one(cx, cmd_internal_key(cx->env, cx->db, cx->argv[i]));
    }
    reply_ok(cx->reply);
    return OK;
}

static enum err cmd_unwatch_run(struct cmd_ctx *cx)
{
    cmd_unwatch(cx->client);
    reply_ok(cx->reply);
    return OK;
}

static void add_compare(struct level *l, uint8_t db, const struct op_compare *cmp, bool end_to_end)
{
    op_compare_add(&l->compares, db, cmp, end_to_end);
    l->compare_count++;
}

static void add_watch_compares(struct collect *k, const struct client *c)
{
    for (size_t i = 0; i < c->watched_count; i++) {
        const struct watched_key *w = &c->watched[i];
        struct op_compare cmp = {
            .target = COMPARE_MOD, .op = COMPARE_EQ, .number = (int64_t)w->mod,
            .key = cmd_client_key(w->key),
        };
        add_compare(k->level, w->key.at[0], &cmp, false);
        cmp.target = COMPARE_LIFE;
        cmp.number = (int64_t)w->life_index;
        add_compare(k->level, w->key.at[0], &cmp, false);
    }
    k->watch_compares = k->level->compare_count;
}

/* --- collecting ------------------------------------------------------------------------------- */

static struct buf *level_ops(struct level *l)
{
    return l->in_else ? &l->else_ops : &l->then_ops;
}

static void level_counted(struct level *l)
{
    if (l->in_else) {
        l->else_count++;
    } else {
        l->then_count++;
    }
}

enum err cmd_collect_op(struct cmd_ctx *cx, const struct op *op, bool key2_to_end,
                        const struct cmd_finish *finish, void *data, uint64_t arg)
{
    struct collect *k = cx->collect;
    if (state_refuses_growth(node_state(cx->env->node), op)) return ERR_NOSPACE;
    struct element *el = element_add(k, ELEMENT_WRITE);
    el->ordinal = k->ordinals++;
    el->finish = finish;
    el->data = data;
    el->arg = arg;
    op_encode(level_ops(k->level), op, key2_to_end);
    level_counted(k->level);
    k->has_write = true;
    k->proposed++;
    return OK;
}

/* A read, or a command about the connection: only its place is replicated. */
static void collect_local(struct collect *k, struct cmd_copy *copy_taken)
{
    struct op op = { .kind = OP_LOCAL, .db = copy_taken->db };
    if (copy_taken->def->group == GROUP_STRING && copy_taken->def->keys.first == 1 &&
        copy_taken->def->keys.last == 1) {
        op.key = copy_taken->argv[1];
        op.fields = FIELD_KEY;
    }
    struct element *el = element_add(k, ELEMENT_LOCAL);
    el->ordinal = k->ordinals++;
    el->copy = copy_taken;
    op_encode(level_ops(k->level), &op, false);
    level_counted(k->level);
}

/* Runs a writing handler so that it adds its operation; what it answers at once is kept. Returns
 * false if it answered with an error. */
static bool collect_write(struct cmd_ctx *outer, struct collect *k, const struct cmd_def *def,
                          uint8_t db, size_t argc, const struct slice *argv)
{
    struct chain raw;
    chain_init(&raw, k->env->io.pool);
    struct reply r = reply_to(&raw, outer->reply->proto);
    struct cmd_ctx cx = {
        .env = k->env, .client = outer->client, .def = def, .argc = argc, .argv = argv, .db = db,
        .reply = &r, .view = outer->view, .mode = CMD_MODE_COLLECT, .collect = k,
    };
    k->proposed = 0;
    cmd_run(&cx);
    ASSERT(k->proposed + (chain_bytes(&raw) > 0 ? 1 : 0) == 1);
    if (chain_bytes(&raw) > 0) {
        struct element *el = element_add(k, ELEMENT_RAW);
        chain_move(&el->out, &raw);
    }
    chain_deinit(&raw);
    return r.error_count == 0;
}

/* --- TXN's grammar ------------------------------------------------------------------------------ */

static enum err compare_op_parse(struct slice word, enum compare_op *out)
{
    static const struct {
        const char *text;
        enum compare_op op;
    } ops[] = { { "=", COMPARE_EQ }, { "!=", COMPARE_NE }, { "<", COMPARE_LT }, { ">", COMPARE_GT } };
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (arg_is(word, ops[i].text)) {
            *out = ops[i].op;
            return OK;
        }
    }
    return ERR_SYNTAX;
}

static enum err compare_target_parse(struct slice word, enum compare_target *out)
{
    static const struct {
        const char *text;
        enum compare_target target;
    } targets[] = {
        { "VERSION", COMPARE_VERSION }, { "CREATE", COMPARE_CREATE }, { "MOD", COMPARE_MOD },
        { "LEASE", COMPARE_LEASE },     { "VALUE", COMPARE_VALUE },   { "EXISTS", COMPARE_EXISTS },
        { "MISSING", COMPARE_MISSING }, { "FENCE", COMPARE_FENCE },
    };
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (arg_is(word, targets[i].text)) {
            *out = targets[i].target;
            return OK;
        }
    }
    return ERR_SYNTAX;
}

/* The key, and the end of a range, behind a compare's target. */
static enum err compare_range_parse(struct cmd_ctx *cx, size_t *at, struct op_compare *cmp,
                                    struct cmd_range *range, bool *end_to_end)
{
    TRY(cmd_range_parse(cx->env, cx->db, cx->argc, cx->argv, at, range));
    cmp->key = cmd_client_key(range->start);
    cmp->range = !range->single;
    *end_to_end = !range->single && range->end.len == 1;
    if (cmp->range && !*end_to_end) cmp->end = cmd_client_key(range->end);
    return OK;
}

static enum err compare_parse(struct cmd_ctx *cx, size_t *at, struct level *l)
{
    struct op_compare cmp = { .op = COMPARE_EQ };
    if (*at + 1 >= cx->argc) return ERR_SYNTAX;
    TRY(compare_target_parse(cx->argv[(*at)++], &cmp.target));
    struct cmd_range range CLEANUP(cmd_range_deinit) = { .single = false };
    bool end_to_end = false;
    bool plain = cmp.target == COMPARE_EXISTS || cmp.target == COMPARE_MISSING || cmp.target == COMPARE_FENCE;
    if (plain) {
        TRY(cmd_check_key(cx->env, cx->argv[*at]));
        cmp.key = cx->argv[(*at)++];
    } else {
        TRY(compare_range_parse(cx, at, &cmp, &range, &end_to_end));
    }
    if (cmp.target == COMPARE_FENCE) {
        if (*at >= cx->argc) return ERR_SYNTAX;
        TRY(arg_i64(cx->argv[(*at)++], &cmp.number));
    } else if (!plain) {
        if (*at + 1 >= cx->argc) return ERR_SYNTAX;
        TRY(compare_op_parse(cx->argv[(*at)++], &cmp.op));
        struct slice value = cx->argv[(*at)++];
        if (cmp.target == COMPARE_VALUE) {
            cmp.bytes = value;
        } else {
            TRY(arg_i64(value, &cmp.number));
        }
    }
    add_compare(l, cx->db, &cmp, end_to_end);
    return OK;
}

static enum err count_parse(struct cmd_ctx *cx, size_t *at, size_t max, size_t *out)
{
    if (*at >= cx->argc) return ERR_SYNTAX;
    uint64_t count = 0;
    TRY(arg_u64(cx->argv[(*at)++], &count));
    if (count > max) return ERR_OPS_LIMIT;
    *out = (size_t)count;
    return OK;
}

static size_t ops_max(const struct cmd_ctx *cx)
{
    return (size_t)state_settings(node_state(cx->env->node))->txn_ops_max;
}

static enum err compares_parse(struct cmd_ctx *cx, size_t *at, struct level *l)
{
    size_t count = 0;
    TRY(count_parse(cx, at, ops_max(cx), &count));
    for (size_t i = 0; i < count; i++) TRY(compare_parse(cx, at, l));
    return OK;
}

static enum err txn_parse(struct cmd_ctx *cx, struct collect *k, bool *answered);

/* One operation of a branch: argv is its own words. *answered: an error was written as the reply
 * of the whole. */
static enum err branch_op(struct cmd_ctx *cx, struct collect *k, size_t argc,
                          const struct slice *argv, struct txn_keys *keys, bool *answered)
{
    const struct cmd_def *container = NULL;
    const struct cmd_def *def = cmd_table_find(cx->env->table, argc, argv, &container);
    if (def == NULL || (def->flags & CMD_TXN) == 0) return ERR_IN_TXN;
    if (def->leaves_turn != NULL && def->leaves_turn(argc, argv)) return ERR_IN_TXN;
    if ((def->arity > 0 && argc != (size_t)def->arity) || (def->arity < 0 && argc < (size_t)-def->arity)) {
        cmd_reply_arity(cx->reply, def);
        *answered = true;
        return OK;
    }
    if ((def->flags & CMD_READ) != 0) {
        collect_local(k, cmd_copy_new(def, cx->db, argc, argv));
        return OK;
    }
    txn_keys_add(keys, def, argc, argv);
    if (!collect_write(cx, k, def, cx->db, argc, argv)) {
        chain_move(cx->reply->out, &k->elements[k->count - 1].out);
        cx->reply->error_count++; /* so that a TXN around this one sees it */
        *answered = true;
    }
    return OK;
}

static enum err branch_parse(struct cmd_ctx *cx, size_t *at, struct collect *k, bool *answered)
{
    size_t count = 0;
    struct txn_keys keys CLEANUP(txn_keys_deinit) = { .keys = { 0 } };
    TRY(count_parse(cx, at, ops_max(cx), &count));
    for (size_t i = 0; i < count && !*answered; i++) {
        size_t words = 0;
        TRY(count_parse(cx, at, cx->argc, &words));
        if (words == 0 || words > cx->argc - *at) return ERR_SYNTAX;
        TRY(branch_op(cx, k, words, cx->argv + *at, &keys, answered));
        *at += words;
    }
    return !*answered && txn_keys_repeat(&keys) ? ERR_DUPLICATE : OK;
}

/* TXN [IF n compare...] [THEN m op...] [ELSE k op...] into k->level. */
static enum err txn_parse(struct cmd_ctx *cx, struct collect *k, bool *answered)
{
    struct level *l = k->level;
    if (l->depth >= OP_TXN_DEPTH_MAX) return ERR_OPS_LIMIT;
    size_t at = 1;
    if (arg_is(cx->argv[at], "IF")) {
        at++;
        TRY(compares_parse(cx, &at, l));
    }
    if (at < cx->argc && arg_is(cx->argv[at], "THEN")) {
        at++;
        TRY(branch_parse(cx, &at, k, answered));
    }
    if (at < cx->argc && !*answered && arg_is(cx->argv[at], "ELSE")) {
        at++;
        l->in_else = true;
        TRY(branch_parse(cx, &at, k, answered));
    }
    return at == cx->argc || *answered ? OK : ERR_SYNTAX;
}

static struct op level_op(const struct level *l, bool redis)
{
    return (struct op){
        .kind = OP_TXN,
        .flags = redis ? OPF_REDIS : 0,
        .fields = FIELD_COMPARES | FIELD_LIST | FIELD_LIST2,
        .compares = { l->compare_count, buf_slice(&l->compares) },
        .list = { l->then_count, buf_slice(&l->then_ops) },
        .list2 = { l->else_count, buf_slice(&l->else_ops) },
    };
}

/* --- proposing ------------------------------------------------------------------------------------ */

static enum err collect_propose(struct cmd_ctx *cx, struct collect *k, struct op *op)
{
    static const char txn_row = 0;
    op->db = cx->db;
    struct ticket t = {
        .client_id = cx->client->handle, .kind = TICKET_TXN, .row = &txn_row, .data = k,
        .flags = cx->client->reply_mode != 0,
    };
    cx->client->write_batch = node_batch_number(cx->env->node);
    TRY(node_propose(cx->env->node, op, false, &t));
    cx->client->pending++;
    return OK;
}

/* A one-shot TXN as a queued line, or as an operation of another: a nested operation. */
static enum err txn_nested(struct cmd_ctx *cx)
{
    struct collect *k = cx->collect;
    struct level *outer = k->level;
    struct level inner = { .depth = outer->depth + 1 };
    bool answered = false;
    size_t place = k->count;
    element_add(k, ELEMENT_NESTED)->ordinal = k->ordinals++;
    k->level = &inner;
    enum err e = txn_parse(cx, k, &answered);
    k->level = outer;
    if (e == OK && !answered) {
        struct op op = level_op(&inner, false);
        op.db = cx->db;
        op_encode(level_ops(outer), &op, false);
        level_counted(outer);
        k->has_write = true;
        k->proposed = 1;
    } else {
        /* Nothing of it stays: forget its elements and their numbers. */
        k->ordinals = k->elements[place].ordinal;
        while (k->count > place) {
            struct element *el = &k->elements[--k->count];
            if (el->finish != NULL && el->finish->release != NULL) el->finish->release(el->data);
            mem_free(el->copy);
            chain_deinit(&el->out);
        }
        k->proposed = 0;
    }
    level_deinit(&inner);
    return e;
}

static enum err txn_interactive(struct cmd_ctx *cx)
{
    struct multi *m = cx->client->multi;
    bool is_else = cx->argc == 2 && arg_is(cx->argv[1], "ELSE");
    bool is_if = arg_is(cx->argv[1], "IF");
    enum err e = is_else || is_if ? OK : ERR_SYNTAX;
    if (is_else) {
        e = m->has_else ? ERR_SYNTAX : OK;
        m->has_else = true;
    } else if (is_if) {
        e = m->count > 0 && !m->has_if ? ERR_SYNTAX : OK;
        for (size_t i = 0; i < m->count && e == OK; i++) {
            const struct cmd_copy *q = m->queue[i];
            if (q->argc < 2 || !arg_is(q->argv[0], "TXN") || !arg_is(q->argv[1], "IF")) e = ERR_SYNTAX;
        }
        m->has_if = true;
        struct level l = { .depth = 0 };
        size_t at = 2;
        if (e == OK) e = compares_parse(cx, &at, &l);
        if (e == OK && at != cx->argc) e = ERR_SYNTAX;
        level_deinit(&l);
    }
    if (e != OK) {
        m->spoiled = true;
        return e;
    }
    cmd_multi_queue(cx->env, cx->client, cx->def, cx->argc, cx->argv, cx->reply);
    return OK;
}

/* Does this TXN line stand for itself (THEN, or ELSE with operations), or is it an interactive one? */
static bool txn_is_line(const struct cmd_ctx *cx)
{
    if (cx->argc == 2) return true;
    if (!arg_is(cx->argv[1], "IF")) return false;
    struct level l = { .depth = 0 };
    struct cmd_ctx probe = *cx;
    size_t at = 2;
    bool only_if = compares_parse(&probe, &at, &l) != OK || at == cx->argc;
    level_deinit(&l);
    return only_if;
}

static enum err txn_one_shot(struct cmd_ctx *cx)
{
    struct collect *k = mem_zalloc(sizeof *k);
    struct level l = { .depth = 0 };
    k->env = cx->env;
    k->level = &l;
    bool answered = false;
    struct cmd_ctx inner = *cx;
    inner.collect = k;
    enum err e = txn_parse(&inner, k, &answered);
    if (e == OK && !answered) {
        struct op op = level_op(&l, false);
        e = collect_propose(cx, k, &op);
        answered = e != OK;
    }
    level_deinit(&l);
    if (e != OK || answered) collect_free(k);
    return e;
}

static enum err cmd_txn(struct cmd_ctx *cx)
{
    if (cx->mode == CMD_MODE_COLLECT) return txn_nested(cx);
    if (arg_is(cx->argv[1], "MULTI") && cx->argc == 2) return cmd_multi(cx);
    if (arg_is(cx->argv[1], "HELP") && cx->argc == 2) {
        static const char *const lines[] = {
            "TXN <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "MULTI", "    The same as the command MULTI.",
            "IF n compare... [THEN m op...] [ELSE k op...]",
            "    One transaction, all or nothing. op = number of words, words.",
            "    compare: VERSION|CREATE|MOD|LEASE range =|!=|<|> int, VALUE range =|!=|<|> bytes,",
            "    EXISTS key, MISSING key, FENCE lock token; range = key [PREFIX | END end].",
            "IF n compare...", "    Behind MULTI: a condition for what follows.",
            "ELSE", "    Behind MULTI: what follows runs if the conditions did not hold.",
        };
        reply_array(cx->reply, ARRAY_LEN(lines));
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) reply_simple(cx->reply, slice_of(lines[i]));
        return OK;
    }
    if (cx->client->multi != NULL) {
        if (txn_is_line(cx)) return txn_interactive(cx);
        cmd_multi_queue(cx->env, cx->client, cx->def, cx->argc, cx->argv, cx->reply);
        return OK;
    }
    if (cx->argc == 2) return ERR_SYNTAX;
    return txn_one_shot(cx);
}

/* --- EXEC ---------------------------------------------------------------------------------------- */

/* An interactive line: its compares, or the switch to the other branch. */
static enum err collect_line(struct cmd_ctx *cx, struct collect *k, const struct cmd_copy *q)
{
    if (arg_is(q->argv[1], "ELSE")) {
        element_add(k, ELEMENT_ELSE);
        k->level->in_else = true;
        return OK;
    }
    struct cmd_ctx inner = *cx;
    inner.argc = q->argc;
    inner.argv = q->argv;
    inner.db = q->db;
    size_t at = 2;
    TRY(compares_parse(&inner, &at, k->level));
    element_add(k, ELEMENT_IF);
    k->has_if = true;
    return OK;
}

static bool copy_is_line(struct cmd_ctx *cx, const struct cmd_copy *q)
{
    if (q->def != cmd_table_by_name(cx->env->table, SLICE_LIT("txn"))) return false;
    struct cmd_ctx probe = *cx;
    probe.argc = q->argc;
    probe.argv = q->argv;
    probe.db = q->db;
    return txn_is_line(&probe);
}

static enum err collect_queued(struct cmd_ctx *cx, struct collect *k, struct cmd_copy **q)
{
    const struct cmd_copy *copy = *q;
    if (copy_is_line(cx, copy)) return collect_line(cx, k, copy);
    if ((copy->def->flags & (CMD_WRITE | CMD_COLLECT_NOW)) != 0) {
        collect_write(cx, k, copy->def, copy->db, copy->argc, copy->argv);
        return OK;
    }
    collect_local(k, *q);
    *q = NULL;
    return OK;
}

/* Only reads, no conditions, nothing pending: answered from memory, no log entry. */
static void exec_reads(struct cmd_ctx *cx, struct collect *k)
{
    reply_array(cx->reply, k->count);
    for (size_t i = 0; i < k->count; i++) {
        struct element *el = &k->elements[i];
        if (el->kind == ELEMENT_RAW) {
            chain_move(cx->reply->out, &el->out);
            continue;
        }
        struct cmd_ctx inner = {
            .env = cx->env, .client = cx->client, .def = el->copy->def, .argc = el->copy->argc,
            .argv = el->copy->argv, .db = el->copy->db, .reply = cx->reply, .view = cx->view,
            .mode = CMD_MODE_ELEMENT,
        };
        cmd_run(&inner);
        if (UNLIKELY(cmd_output_full(cx->env, cx->client, chain_bytes(cx->reply->out)))) break;
    }
    collect_free(k);
}

static bool only_reads(const struct collect *k)
{
    if (k->has_write || k->level->compare_count > 0) return false;
    for (size_t i = 0; i < k->count; i++) {
        if (k->elements[i].kind != ELEMENT_LOCAL && k->elements[i].kind != ELEMENT_RAW) return false;
    }
    return true;
}

static enum err exec_collected(struct cmd_ctx *cx, struct collect *k)
{
    if (only_reads(k) && cx->client->pending == 0 && node_read_at_once(cx->env->node)) {
        exec_reads(cx, k);
        return OK;
    }
    struct op op = level_op(k->level, true);
    enum err e = collect_propose(cx, k, &op);
    if (e != OK) collect_free(k);
    return e;
}

static enum err cmd_exec(struct cmd_ctx *cx)
{
    struct client *c = cx->client;
    if (c->multi == NULL) {
        reply_error(cx->reply, "ERR", "EXEC without MULTI");
        return OK;
    }
    struct multi *m = c->multi;
    enum err e = OK;
    if (m->spoiled) {
        reply_error(cx->reply, "EXECABORT", "Transaction discarded because of previous errors.");
    } else {
        struct collect *k = mem_zalloc(sizeof *k);
        struct level l = { .depth = 0 };
        k->env = cx->env;
        k->level = &l;
        k->exec = true;
        add_watch_compares(k, c);
        for (size_t i = 0; i < m->count && e == OK; i++) {
            m->queue[i]->db = c->db; /* a SELECT before it has moved on */
            e = collect_queued(cx, k, &m->queue[i]);
        }
        if (e == OK) {
            e = exec_collected(cx, k);
        } else {
            collect_free(k);
        }
        level_deinit(&l);
    }
    cmd_multi_free(c);
    cmd_unwatch(c);
    return e;
}

/* --- what comes back ------------------------------------------------------------------------------- */

static struct element *element_of(struct collect *k, uint32_t ordinal)
{
    for (size_t tries = 0; tries < k->count; tries++) {
        struct element *el = &k->elements[(k->next + tries) % k->count];
        if (el->ordinal != ordinal) continue;
        k->next = (uint32_t)((size_t)(el - k->elements + 1) % k->count);
        return el;
    }
    ASSERT(false);
    return NULL;
}

/* `failed` of a result: null, or where it failed and what was found there. */
static void reply_failed(struct reply *r, const struct op_result *res)
{
    if (res->txn_succeeded) {
        reply_null(r);
        return;
    }
    reply_array(r, 2);
    reply_int(r, (int64_t)res->txn_failed_index);
    if (res->txn_failed_has_kv) {
        cmd_reply_kv(r, &res->txn_failed_kv);
    } else {
        reply_null(r);
    }
}

static void element_error(struct reply *r, const struct op_result *res)
{
    if (res->text != NULL) {
        reply_error(r, err_prefix(res->err), "%s", res->text);
    } else {
        reply_err(r, res->err);
    }
}

void cmd_txn_element(struct cmd_env *env, const struct ticket *t, uint32_t ordinal,
                     const struct op *op, const struct op_result *res, const struct view *v)
{
    struct collect *k = t->data;
    struct client *c = client_find(env, t->client_id);
    if (c == NULL || c->closing) return;
    struct element *el = element_of(k, ordinal);
    el->skipped = res->skipped;
    if (res->skipped) return;
    if (chain_bytes(&el->out) > 0) chain_consume(&el->out, chain_bytes(&el->out));
    struct reply r = reply_to(&el->out, c->proto);
    if (el->kind == ELEMENT_WRITE) {
        struct cmd_done dx = {
            .env = env, .client = c, .reply = &r, .view = *v, .data = el->data, .arg = el->arg,
        };
        cmd_finish_reply(&dx, el->finish, op, res);
    } else if (el->kind == ELEMENT_NESTED) {
        el->succeeded = res->txn_succeeded;
        el->rev = res->rev;
        el->is_error = res->err != OK;
        if (el->is_error) {
            element_error(&r, res);
        } else {
            reply_failed(&r, res);
        }
    } else if (res->err != OK) {
        element_error(&r, res);
    } else {
        struct cmd_ctx cx = {
            .env = env, .client = c, .def = el->copy->def, .argc = el->copy->argc,
            .argv = el->copy->argv, .db = el->copy->db, .reply = &r, .view = *v,
            .mode = CMD_MODE_ELEMENT,
        };
        cmd_run(&cx);
    }
    k->out_bytes += chain_bytes(&el->out);
    (void)cmd_output_full(env, c, k->out_bytes);
}

/* The end of the elements below `at`'s depth that follow it. */
static size_t subtree_end(const struct collect *k, size_t at)
{
    size_t end = at + 1;
    while (end < k->count && k->elements[end].depth > k->elements[at].depth) end++;
    return end;
}

static void reply_tree(struct collect *k, struct reply *r, size_t from, size_t to, uint32_t depth,
                       bool in_else);

static void reply_element(struct collect *k, struct reply *r, size_t at)
{
    struct element *el = &k->elements[at];
    if (el->kind != ELEMENT_NESTED || el->is_error) {
        chain_move(r->out, &el->out);
        return;
    }
    reply_map(r, 4);
    reply_bulk_cstr(r, "succeeded");
    reply_int(r, el->succeeded);
    reply_bulk_cstr(r, "revision");
    reply_int(r, (int64_t)el->rev);
    reply_bulk_cstr(r, "failed");
    chain_move(r->out, &el->out);
    reply_bulk_cstr(r, "responses");
    reply_tree(k, r, at + 1, subtree_end(k, at), el->depth + 1, !el->succeeded);
}

/* The responses of the branch that was taken. */
static void reply_tree(struct collect *k, struct reply *r, size_t from, size_t to, uint32_t depth,
                       bool in_else)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        if (k->elements[i].depth == depth && k->elements[i].in_else == in_else) count++;
    }
    reply_array(r, count);
    for (size_t i = from; i < to; i++) {
        if (k->elements[i].depth == depth && k->elements[i].in_else == in_else) reply_element(k, r, i);
    }
}

static void reply_exec(struct collect *k, struct reply *r, const struct op_result *res)
{
    bool watch_failed = !res->txn_succeeded &&
                        (!k->has_if || res->txn_failed_index < k->watch_compares);
    if (watch_failed) {
        reply_null_array(r);
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < k->count; i++) count += k->elements[i].depth == 0;
    reply_array(r, count);
    for (size_t i = 0; i < k->count; i++) {
        struct element *el = &k->elements[i];
        if (el->depth != 0) continue;
        if (el->kind == ELEMENT_IF) {
            reply_int(r, res->txn_succeeded);
        } else if (el->kind == ELEMENT_ELSE) {
            reply_int(r, !res->txn_succeeded);
        } else if (el->in_else == res->txn_succeeded) {
            reply_null(r);
        } else {
            reply_element(k, r, i);
        }
    }
}

void cmd_txn_done(struct cmd_env *env, const struct ticket *t, struct client *c, struct reply *r,
                  const struct op *op, const struct op_result *res, const struct view *v)
{
    (void)env;
    (void)op;
    (void)v;
    struct collect *k = t->data;
    if (c == NULL) {
        collect_free(k);
        return;
    }
    if (res->err != OK) {
        element_error(r, res);
    } else if (k->exec) {
        reply_exec(k, r, res);
    } else {
        reply_map(r, 4);
        reply_bulk_cstr(r, "succeeded");
        reply_int(r, res->txn_succeeded);
        reply_bulk_cstr(r, "revision");
        reply_int(r, (int64_t)res->rev);
        reply_bulk_cstr(r, "failed");
        reply_failed(r, res);
        reply_bulk_cstr(r, "responses");
        reply_tree(k, r, 0, k->count, 0, !res->txn_succeeded);
    }
    collect_free(k);
}

/* --- rows -------------------------------------------------------------------------------------------- */

/* TXN's keys stand anywhere: those of its compares and of its operations. */
static enum err txn_find_keys(size_t argc, const struct slice *argv,
                              void (*each)(void *ctx, size_t place), void *ctx)
{
    static const char *const targets[] = { "VERSION", "CREATE", "MOD", "LEASE", "VALUE", "EXISTS",
                                           "MISSING", "FENCE" };
    size_t at = 1;
    uint64_t count = 0;
    if (at + 1 >= argc || !arg_is(argv[at], "IF")) return ERR_SYNTAX;
    TRY(arg_u64(argv[at + 1], &count));
    at += 2;
    for (uint64_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t w = 0; at < argc && w < ARRAY_LEN(targets); w++) known = known || arg_is(argv[at], targets[w]);
        if (!known || at + 1 >= argc) return ERR_SYNTAX;
        bool plain = arg_is(argv[at], "EXISTS") || arg_is(argv[at], "MISSING");
        bool fence = arg_is(argv[at], "FENCE");
        each(ctx, at + 1);
        at += 2;
        if (!plain && !fence && at < argc && arg_is(argv[at], "PREFIX")) at++;
        if (!plain && !fence && at < argc && arg_is(argv[at], "END")) at += 2;
        at += plain ? 0 : fence ? 1 : 2;
    }
    while (at + 1 < argc && (arg_is(argv[at], "THEN") || arg_is(argv[at], "ELSE"))) {
        TRY(arg_u64(argv[at + 1], &count));
        at += 2;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t words = 0;
            if (at >= argc) return ERR_SYNTAX;
            TRY(arg_u64(argv[at], &words));
            if (words == 0 || words > argc - at - 1) return ERR_SYNTAX;
            if (words > 1) each(ctx, at + 2);
            at += words + 1;
        }
    }
    return OK;
}

const struct cmd_def cmd_txn_defs[] = {
    { .name = "multi", .run = cmd_multi, .arity = 1, .since = "1.2.0", .args = "",
      .flags = CMD_CONN | CMD_MULTI_NOW | CMD_FAST, .group = GROUP_TRANSACTIONS,
      .summary = "Starts a transaction." },
    { .name = "exec", .run = cmd_exec, .arity = 1, .since = "1.2.0", .args = "",
      .flags = CMD_WRITE | CMD_MULTI_NOW, .group = GROUP_TRANSACTIONS,
      .summary = "Executes all commands in a transaction." },
    { .name = "discard", .run = cmd_discard, .arity = 1, .since = "2.0.0", .args = "",
      .flags = CMD_CONN | CMD_MULTI_NOW | CMD_FAST, .group = GROUP_TRANSACTIONS,
      .summary = "Discards a transaction." },
    { .name = "watch", .run = cmd_watch, .arity = -2, .since = "2.2.0", .args = "key [key ...]",
      .keys = { 1, -1, 1 }, .flags = CMD_READ | CMD_DRAIN | CMD_MULTI_NOW | CMD_FAST,
      .group = GROUP_TRANSACTIONS,
      .summary = "Monitors keys so that EXEC only runs if they did not change; for streams of changes "
                 "see XREAD on __watch__:prefix, KV WATCH and KV READ." },
    { .name = "unwatch", .run = cmd_unwatch_run, .arity = 1, .since = "2.2.0", .args = "",
      .flags = CMD_CONN | CMD_FAST, .group = GROUP_TRANSACTIONS,
      .summary = "Forgets about watched keys." },
    { .name = "txn", .run = cmd_txn, .arity = -2, .since = "0.1.0",
      .args = "IF n compare... [THEN m op...] [ELSE k op...] | MULTI | ELSE",
      .flags = CMD_WRITE | CMD_MULTI_NOW | CMD_TXN | CMD_MOVABLE_KEYS, .find_keys = txn_find_keys,
      .group = GROUP_COORDINATION,
      .summary = "Compares and then executes one of two lists of operations, all or nothing." },
    CMD_DEF_END,
};
