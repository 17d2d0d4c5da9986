/* cmd/cmd_txn.c - TXN: its grammar, and how a transaction is collected and proposed. */
#include "cmd/cmd_txn_int.h"

/* --- memory ------------------------------------------------------------------------------ */

void txn_level_deinit(struct level *l)
{
    buf_deinit(&l->then_ops);
    buf_deinit(&l->else_ops);
    buf_deinit(&l->compares);
}

struct element *txn_element_add(struct collect *k, enum element_kind kind)
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

void txn_collect_free(struct collect *k)
{
    for (size_t i = 0; i < k->count; i++) {
        struct element *el = &k->elements[i];
        if (el->finish != NULL && el->finish->release != NULL) el->finish->release(el->data);
        mem_free(el->copy);
        chain_deinit(&el->out);
    }
    mem_free(k->elements);
    buf_deinit(&k->compares);
    mem_free(k);
}

void txn_compare_add(struct level *l, uint8_t db, const struct op_compare *cmp, bool end_to_end)
{
    op_compare_add(&l->compares, db, cmp, end_to_end);
    l->compare_count++;
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

void cmd_collect_select(struct cmd_ctx *cx, uint8_t db)
{
    struct collect *k = cx->collect;
    k->db = db;
    k->selects = true;
    if (k->level->in_else) {
        k->db_else = db;
    } else {
        k->db_then = db;
    }
}

enum err cmd_collect_op(struct cmd_ctx *cx, const struct op *op, bool key2_to_end,
                        const struct cmd_finish *finish, void *data, uint64_t arg)
{
    struct collect *k = cx->collect;
    if (state_refuses_growth(node_state(cx->env->node), op)) return ERR_NOSPACE;
    struct element *el = txn_element_add(k, ELEMENT_WRITE);
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

bool txn_reads_string(const struct cmd_copy *copy)
{
    const struct cmd_def *def = copy->def;
    if (def->group != GROUP_STRING || def->keys.first != 1 || def->keys.last != 1) return false;
    return copy->argv[1].len < MVCC_KEY_BYTES_MAX;
}

/* A read, or a command about the connection: only its place is replicated. */
void txn_collect_local(struct collect *k, struct cmd_copy *copy_taken)
{
    struct op op = { .kind = OP_LOCAL, .db = copy_taken->db };
    if (txn_reads_string(copy_taken)) {
        op.key = copy_taken->argv[1];
        op.fields = FIELD_KEY;
    }
    struct element *el = txn_element_add(k, ELEMENT_LOCAL);
    el->ordinal = k->ordinals++;
    el->copy = copy_taken;
    op_encode(level_ops(k->level), &op, false);
    level_counted(k->level);
}

bool txn_collect_write(struct cmd_ctx *outer, struct collect *k, const struct cmd_def *def,
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
        struct element *el = txn_element_add(k, ELEMENT_RAW);
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
        if (cmp.target == COMPARE_VALUE && value.len > MVCC_VALUE_BYTES_MAX) return ERR_VALUE_LIMIT;
        if (cmp.target == COMPARE_VALUE) {
            cmp.bytes = value;
        } else {
            TRY(arg_i64(value, &cmp.number));
        }
    }
    txn_compare_add(l, cx->db, &cmp, end_to_end);
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

enum err txn_compares_parse(struct cmd_ctx *cx, size_t *at, struct level *l)
{
    size_t count = 0;
    TRY(count_parse(cx, at, ops_max(cx), &count));
    for (size_t i = 0; i < count; i++) TRY(compare_parse(cx, at, l));
    return OK;
}

static enum err txn_parse(struct cmd_ctx *cx, struct collect *k, bool *answered);

/* A read is executed when the rest was applied, too late for an error in its words: they are looked
 * at now. Returns false if it answered with an error. What it finds is checked by apply. */
static bool read_is_sound(struct cmd_ctx *outer, const struct cmd_def *def, size_t argc,
                          const struct slice *argv)
{
    struct chain out;
    chain_init(&out, outer->env->io.pool);
    struct reply r = reply_to(&out, outer->reply->proto);
    struct cmd_ctx cx = {
        .env = outer->env, .client = outer->client, .def = def, .argc = argc, .argv = argv, .db = outer->db,
        .reply = &r, .view = outer->view, .mode = CMD_MODE_WORDS,
    };
    enum err e = def->run(&cx);
    if (e != OK) reply_err(&r, e);
    if (r.error_count > 0) chain_move(outer->reply->out, &out);
    outer->reply->error_count += r.error_count;
    chain_deinit(&out);
    return r.error_count == 0;
}

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
    if ((def->flags & CMD_READ) != 0 && !read_is_sound(cx, def, argc, argv)) {
        *answered = true;
        return OK;
    }
    if ((def->flags & CMD_WRITE) == 0) {
        txn_collect_local(k, cmd_copy_new(def, cx->db, argc, argv));
        return OK;
    }
    txn_keys_add(keys, cx->env->table, def, argc, argv);
    if (!txn_collect_write(cx, k, def, cx->db, argc, argv)) {
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
    if (l->depth + k->else_guarded >= OP_TXN_DEPTH_MAX) return ERR_OPS_LIMIT;
    size_t at = 1;
    if (arg_is(cx->argv[at], "IF")) {
        at++;
        TRY(txn_compares_parse(cx, &at, l));
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

struct op txn_level_op(const struct level *l, bool redis)
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

enum err txn_propose(struct cmd_ctx *cx, struct collect *k, struct op *op)
{
    static const char txn_row = 0;
    op->db = cx->db;
    struct ticket t = {
        .client_id = cx->client->handle, .kind = TICKET_TXN, .row = &txn_row, .data = k,
        .flags = client_is_quiet(cx->client),
    };
    ASSERT(cx->client->barrier_pending == 0); /* I5 */
    cx->client->write_batch = (uint32_t)node_batch_number(cx->env->node);
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
    txn_element_add(k, ELEMENT_NESTED)->ordinal = k->ordinals++;
    k->level = &inner;
    enum err e = txn_parse(cx, k, &answered);
    k->level = outer;
    if (e == OK && !answered) {
        struct op op = txn_level_op(&inner, false);
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
    txn_level_deinit(&inner);
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
        if (e == OK) e = txn_compares_parse(cx, &at, &l);
        if (e == OK && at != cx->argc) e = ERR_SYNTAX;
        txn_level_deinit(&l);
    }
    if (e != OK) {
        m->spoiled = true;
        return e;
    }
    cmd_multi_queue(cx->env, cx->client, cx->def, cx->argc, cx->argv, cx->reply);
    return OK;
}

bool txn_is_line(const struct cmd_ctx *cx)
{
    if (cx->argc == 2) return true;
    if (!arg_is(cx->argv[1], "IF")) return false;
    struct level l = { .depth = 0 };
    struct cmd_ctx probe = *cx;
    size_t at = 2;
    bool only_if = txn_compares_parse(&probe, &at, &l) != OK || at == cx->argc;
    txn_level_deinit(&l);
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
    bool taken = e == OK && !answered && txn_read_start(cx, k);
    if (e == OK && !answered && !taken) {
        struct op op = txn_level_op(&l, false);
        e = txn_propose(cx, k, &op);
        taken = e == OK;
    }
    txn_level_deinit(&l);
    if (!taken) txn_collect_free(k);
    return e;
}

enum err cmd_txn(struct cmd_ctx *cx)
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

/* --- rows -------------------------------------------------------------------------------------------- */

/* TXN's keys stand anywhere: those of its compares and of its operations. */
struct key_search {
    const struct cmd_table *table;
    const struct slice *argv; /* of the outermost TXN, as all places */
    void (*each)(void *ctx, size_t place);
    void *ctx;
    size_t from; /* the operation that is looked at */
    uint32_t depth;
};

static enum err find_in_compares(struct key_search *s, size_t *at, size_t end)
{
    static const char *const targets[] = { "VERSION", "CREATE", "MOD", "LEASE", "VALUE", "EXISTS",
                                           "MISSING", "FENCE" };
    const struct slice *argv = s->argv;
    uint64_t count = 0;
    if (*at >= end) return ERR_SYNTAX;
    TRY(arg_u64(argv[(*at)++], &count));
    for (uint64_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t w = 0; *at < end && w < ARRAY_LEN(targets); w++) known = known || arg_is(argv[*at], targets[w]);
        if (!known || *at + 1 >= end) return ERR_SYNTAX;
        bool plain = arg_is(argv[*at], "EXISTS") || arg_is(argv[*at], "MISSING");
        bool fence = arg_is(argv[*at], "FENCE");
        s->each(s->ctx, *at + 1);
        *at += 2;
        if (!plain && !fence && *at < end && arg_is(argv[*at], "PREFIX")) (*at)++;
        if (!plain && !fence && *at < end && arg_is(argv[*at], "END")) *at += 2;
        *at += plain ? 0 : fence ? 1 : 2;
    }
    return OK;
}

static void place_in_op(void *ctx, size_t place)
{
    const struct key_search *s = ctx;
    s->each(s->ctx, s->from + place);
}

static enum err find_in_txn(struct key_search *s, size_t at, size_t end);

static enum err find_in_op(struct key_search *s, size_t at, size_t end)
{
    const struct cmd_def *container = NULL;
    const struct cmd_def *def = cmd_table_find(s->table, end - at, s->argv + at, &container);
    if (def == NULL) return ERR_SYNTAX;
    s->from = at;
    if (def->run != cmd_txn) return cmd_keys_each(s->table, def, end - at, s->argv + at, place_in_op, s);
    if (s->depth + 1 >= OP_TXN_DEPTH_MAX) return ERR_SYNTAX;
    s->depth++;
    enum err e = find_in_txn(s, at + 1, end);
    s->depth--;
    return e;
}

static enum err find_in_branch(struct key_search *s, size_t *at, size_t end)
{
    uint64_t count = 0;
    TRY(arg_u64(s->argv[(*at)++], &count));
    for (uint64_t i = 0; i < count; i++) {
        uint64_t words = 0;
        if (*at >= end) return ERR_SYNTAX;
        TRY(arg_u64(s->argv[(*at)++], &words));
        if (words == 0 || words > end - *at) return ERR_SYNTAX;
        TRY(find_in_op(s, *at, *at + words));
        *at += words;
    }
    return OK;
}

static enum err find_in_txn(struct key_search *s, size_t at, size_t end)
{
    if (at < end && arg_is(s->argv[at], "IF")) {
        at++;
        TRY(find_in_compares(s, &at, end));
    }
    while (at + 1 < end && (arg_is(s->argv[at], "THEN") || arg_is(s->argv[at], "ELSE"))) {
        at++;
        TRY(find_in_branch(s, &at, end));
    }
    return at == end ? OK : ERR_SYNTAX;
}

static enum err txn_find_keys(const struct cmd_table *t, size_t argc, const struct slice *argv,
                              void (*each)(void *ctx, size_t place), void *ctx)
{
    struct key_search s = { .table = t, .argv = argv, .each = each, .ctx = ctx };
    return find_in_txn(&s, 1, argc);
}

const struct cmd_def cmd_txn_defs[] = {
    { .name = "txn", .run = cmd_txn, .arity = -2, .since = "0.1.0",
      .args = "IF n compare... [THEN m op...] [ELSE k op...] | MULTI | ELSE",
      .flags = CMD_WRITE | CMD_MULTI_NOW | CMD_TXN | CMD_MOVABLE_KEYS, .find_op_keys = txn_find_keys,
      .group = GROUP_COORDINATION,
      .summary = "Compares and then executes one of two lists of operations, all or nothing." },
    CMD_DEF_END,
};
