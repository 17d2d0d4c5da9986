/* cmd/cmd_multi.c - MULTI, EXEC, DISCARD and WATCH. */
#include "cmd/cmd_txn_int.h"

#define WATCH_COMPARES 2 /* a key: its revision and its lifetime */

/* One key of WATCH: what was seen. */
struct watched_key {
    struct slice key; /* internal, owned */
    uint64_t mod, life_index;
    uint64_t rev; /* then */
};

struct watched {
    size_t count, cap;
    size_t compare_bytes; /* what EXEC's compares take */
    struct watched_key at[];
};

/* --- queueing -------------------------------------------------------------------------------- */

void cmd_multi_free(struct client *c)
{
    if (c->multi == NULL) return;
    for (size_t i = 0; i < c->multi->count; i++) mem_free(c->multi->queue[i]);
    mem_free(c->multi->queue);
    mem_free(c->multi);
    c->multi = NULL;
}

size_t cmd_multi_count(const struct client *c) { return c->multi->count; }

bool cmd_multi_writes(const struct client *c)
{
    for (size_t i = 0; i < c->multi->count; i++) {
        if ((c->multi->queue[i]->def->flags & CMD_WRITE) != 0) return true;
    }
    return false;
}

bool cmd_exec_only_reads(const struct client *c)
{
    return c->multi != NULL && !cmd_multi_writes(c);
}

void cmd_multi_spoil(struct client *c)
{
    if (c->multi != NULL) c->multi->spoiled = true;
}

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

static bool watches_missing(const struct client *c)
{
    for (size_t i = 0; c->watched != NULL && i < c->watched->count; i++) {
        if (c->watched->at[i].mod == 0) return true;
    }
    return false;
}

enum err cmd_multi(struct cmd_ctx *cx)
{
    struct client *c = cx->client;
    if (c->multi != NULL) {
        reply_error(cx->reply, "ERR", "MULTI calls can not be nested");
        return OK;
    }
    c->multi = mem_zalloc(sizeof *c->multi);
    /* came_and_went, of EXEC, sees what this connection did before only when that is done. */
    if (c->pending > 0 && watches_missing(c)) c->draining = true;
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
    if (c->watched == NULL) return;
    for (size_t i = 0; i < c->watched->count; i++) {
        mem_free((void *)(uintptr_t)c->watched->at[i].key.at);
    }
    mem_free(c->watched);
    c->watched = NULL;
}

static size_t watch_compare_bytes(size_t internal_len)
{
    return WATCH_COMPARES * (OP_COMPARE_BYTES + internal_len);
}

/* Refuses what EXEC would refuse: by the number of its compares, or by their bytes. A key that is
 * watched already is counted as one more. */
static enum err watch_check(const struct cmd_ctx *cx)
{
    const struct settings *set = state_settings(node_state(cx->env->node));
    const struct watched *w = cx->client->watched;
    size_t count = cx->argc - 1 + (w == NULL ? 0 : w->count);
    size_t bytes = w == NULL ? 0 : w->compare_bytes;
    if (count > CLIENT_WATCH_COUNT_MAX) return ERR_KEYS_LIMIT;
    if (count * WATCH_COMPARES > set->multi_ops_max) return ERR_OPS_LIMIT;
    for (size_t i = 1; i < cx->argc; i++) {
        TRY(cmd_check_key(cx->env, cx->argv[i]));
        bytes += watch_compare_bytes(cx->argv[i].len + 1);
    }
    return bytes > set->request_bytes_max ? ERR_REQUEST_LIMIT : OK;
}

static void watch_one(struct cmd_ctx *cx, struct slice internal)
{
    struct client *c = cx->client;
    struct watched *w = c->watched;
    size_t count = w == NULL ? 0 : w->count;
    size_t bytes = w == NULL ? 0 : w->compare_bytes;
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(w->at[i].key, internal)) return;
    }
    if (w == NULL || count == w->cap) {
        size_t cap = MAX(count * 2, 4);
        c->watched = w = mem_realloc(w, sizeof *w + cap * sizeof w->at[0]);
        w->cap = cap;
    }
    struct kv kv = { .mod = 0 };
    bool found = view_get(&cx->view, internal, &kv);
    w->count = count + 1;
    w->compare_bytes = bytes + watch_compare_bytes(internal.len);
    w->at[count] = (struct watched_key){
        .key = { mem_copy(internal.at, internal.len), internal.len },
        .mod = found ? kv.mod : 0,
        .life_index = found ? kv.life_index : 0,
        .rev = mvcc_rev(state_mvcc(cx->view.state)),
    };
}

static enum err cmd_watch(struct cmd_ctx *cx)
{
    if (cx->client->multi != NULL) {
        reply_error(cx->reply, "ERR", "WATCH inside MULTI is not allowed");
        return OK;
    }
    TRY(watch_check(cx));
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

/* A key that was missing and is missing again is what was seen, but not what may have been read in
 * between. What this connection has read or written, this node has applied (MULTI waits for it), so it
 * can tell: by the ghost of the key; where compaction may have taken that, it is taken for changed. */
static bool came_and_went(const struct view *v, const struct watched_key *w)
{
    if (w->mod != 0) return false;
    const struct mvcc *m = state_mvcc(v->state);
    if (mvcc_compacted(m) > w->rev) return true;
    struct mvcc_iter it;
    mvcc_iter_init(&it, m, w->key, SLICE_NONE, false, true);
    const struct entry *e = mvcc_iter_next(&it);
    return e != NULL && slice_eq(entry_key(e), w->key) && e->mod > w->rev;
}

static void add_watch_compares(struct collect *k, const struct client *c, const struct view *v)
{
    for (size_t i = 0; c->watched != NULL && i < c->watched->count; i++) {
        const struct watched_key *w = &c->watched->at[i];
        struct op_compare cmp = {
            .target = COMPARE_MOD, .op = COMPARE_EQ,
            .number = came_and_went(v, w) ? INT64_MAX : (int64_t)w->mod, .key = cmd_client_key(w->key),
        };
        txn_compare_add(k->level, w->key.at[0], &cmp, false);
        cmp.target = COMPARE_LIFE;
        cmp.number = (int64_t)w->life_index;
        txn_compare_add(k->level, w->key.at[0], &cmp, false);
    }
    ASSERT(k->level->compares.len == (c->watched == NULL ? 0 : c->watched->compare_bytes));
    k->watch_compares = k->level->compare_count;
}

/* --- EXEC ---------------------------------------------------------------------------------------- */

/* An interactive line: its compares, or the switch to the other branch. */
static enum err collect_line(struct cmd_ctx *cx, struct collect *k, const struct cmd_copy *q)
{
    if (arg_is(q->argv[1], "ELSE")) {
        struct element *el = txn_element_add(k, ELEMENT_ELSE);
        k->level->in_else = true;
        k->else_guarded = k->watch_compares > 0;
        if (k->else_guarded) el->ordinal = k->ordinals++;
        k->db = cx->client->db;
        return OK;
    }
    struct cmd_ctx inner = *cx;
    inner.argc = q->argc;
    inner.argv = q->argv;
    inner.db = q->db;
    size_t at = 2;
    TRY(txn_compares_parse(&inner, &at, k->level));
    txn_element_add(k, ELEMENT_IF);
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
        txn_collect_write(cx, k, copy->def, copy->db, copy->argc, copy->argv);
        return OK;
    }
    txn_collect_local(k, *q);
    *q = NULL;
    return OK;
}

/* Where WATCH has failed nothing runs, what is behind ELSE neither: that becomes a transaction inside,
 * with WATCH's compares once more. */
static void guard_else(const struct cmd_ctx *cx, struct collect *k)
{
    struct level *l = k->level;
    struct buf guarded = { 0 };
    struct op op = {
        .kind = OP_TXN, .db = cx->db, .flags = OPF_REDIS, .fields = FIELD_COMPARES | FIELD_LIST | FIELD_LIST2,
        .compares = { (uint32_t)k->watch_compares, { l->compares.at, cx->client->watched->compare_bytes } },
        .list = { l->else_count, buf_slice(&l->else_ops) },
    };
    op_encode(&guarded, &op, false);
    buf_deinit(&l->else_ops);
    l->else_ops = guarded;
    l->else_count = 1;
}

static enum err exec_collected(struct cmd_ctx *cx, struct collect *k)
{
    if (txn_read_start(cx, k)) return OK;
    if (k->else_guarded) guard_else(cx, k);
    struct op op = txn_level_op(k->level, true);
    bool selects = k->selects;
    enum err e = txn_propose(cx, k, &op);
    if (e != OK) txn_collect_free(k);
    /* In which database the next command runs is known when this one was applied. */
    if (e == OK && selects) client_block(cx->env, cx->client, INT64_MAX, NULL, NULL, NULL);
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
        k->db = k->db_then = k->db_else = c->db;
        add_watch_compares(k, c, &cx->view);
        for (size_t i = 0; i < m->count && e == OK; i++) {
            m->queue[i]->db = k->db;
            e = collect_queued(cx, k, &m->queue[i]);
        }
        if (e == OK) {
            e = exec_collected(cx, k);
        } else {
            txn_collect_free(k);
        }
        txn_level_deinit(&l);
    }
    cmd_multi_free(c);
    cmd_unwatch(c);
    return e;
}

/* --- rows ------------------------------------------------------------------------------------ */

const struct cmd_def cmd_multi_defs[] = {
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
    CMD_DEF_END,
};
