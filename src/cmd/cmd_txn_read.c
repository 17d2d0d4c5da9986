/* cmd/cmd_txn_read.c - transactions that only read: MULTI or TXN without an operation that changes
 * anything. They are evaluated here, at one revision, and take no log entry: at once where this node
 * may read at once, else behind a barrier. */
#include "cmd/cmd_txn_int.h"

static bool only_reads(const struct collect *k)
{
    if (k->has_write) return false;
    for (size_t i = 0; i < k->count; i++) {
        ASSERT(k->elements[i].kind != ELEMENT_WRITE && k->elements[i].kind != ELEMENT_NESTED);
    }
    return true;
}

/* PUBLISH alone, and the like, look at nothing. */
static bool needs_barrier(const struct collect *k)
{
    if (k->level->compare_count > 0) return true;
    for (size_t i = 0; i < k->count; i++) {
        const struct element *el = &k->elements[i];
        if (el->kind == ELEMENT_LOCAL && (el->copy->def->flags & CMD_READ) != 0) return true;
    }
    return false;
}

static size_t collect_bytes(const struct collect *k)
{
    size_t bytes = sizeof *k + k->count * sizeof k->elements[0] + k->compares.len;
    for (size_t i = 0; i < k->count; i++) {
        const struct cmd_copy *copy = k->elements[i].copy;
        for (size_t a = 0; copy != NULL && a < copy->argc; a++) bytes += sizeof copy->argv[a] + copy->argv[a].len;
        bytes += chain_bytes(&k->elements[i].out);
    }
    return bytes;
}

/* As apply does it: in a one-shot TXN a wrong type is the error of the whole. */
static enum err types_check(const struct collect *k, const struct view *v, struct cmd_env *env, bool succeeded)
{
    for (size_t i = 0; i < k->count && !k->exec; i++) {
        const struct element *el = &k->elements[i];
        if (el->kind != ELEMENT_LOCAL || el->in_else == succeeded || !txn_reads_string(el->copy)) continue;
        struct kv kv;
        struct slice key = cmd_internal_key(env, el->copy->db, el->copy->argv[1]);
        if (view_get(v, key, &kv) && kv.type != VALUE_STRING) return ERR_WRONGTYPE;
    }
    return OK;
}

static void elements_run(struct cmd_env *env, struct client *c, struct collect *k, const struct view *v,
                         uint8_t proto, bool succeeded)
{
    for (size_t i = 0; i < k->count; i++) {
        struct element *el = &k->elements[i];
        if (el->kind != ELEMENT_LOCAL || el->in_else == succeeded) continue;
        struct reply r = reply_to(&el->out, proto);
        struct cmd_ctx cx = {
            .env = env, .client = c, .def = el->copy->def, .argc = el->copy->argc, .argv = el->copy->argv,
            .db = el->copy->db, .reply = &r, .view = *v, .mode = CMD_MODE_ELEMENT,
        };
        cmd_run(&cx);
        k->out_bytes += chain_bytes(&el->out);
        if (UNLIKELY(cmd_output_full(env, c, k->out_bytes))) return;
    }
}

static void read_run(struct cmd_env *env, struct client *c, struct collect *k, struct reply *r)
{
    struct view v = node_view(env->node);
    struct op op = { .kind = OP_TXN, .compares = { k->compare_count, buf_slice(&k->compares) } };
    struct op_result res;
    struct buf room CLEANUP(buf_deinit) = { 0 };
    enum err e = state_txn_check(&v, &op, &room, &res);
    if (e == OK) e = types_check(k, &v, env, res.txn_succeeded);
    if (e == OK && !txn_watch_failed(k, &res)) elements_run(env, c, k, &v, r->proto, res.txn_succeeded);
    res.err = e;
    txn_reply(k, r, &res);
    txn_select(c, k, &res);
}

void cmd_txn_read(struct cmd_env *env, struct client *c, struct collect *k, enum err e)
{
    if (c != NULL) {
        struct reply r = reply_to(k->quiet ? &env->trash : c->out, c->proto);
        if (e == OK) read_run(env, c, k, &r);
        else reply_err(&r, e);
        env->stats.errors += r.error_count;
        if (chain_bytes(&env->trash) > 0) chain_consume(&env->trash, chain_bytes(&env->trash));
    }
    txn_collect_free(k);
}

bool txn_read_start(struct cmd_ctx *cx, struct collect *k)
{
    struct client *c = cx->client;
    struct cmd_env *env = cx->env;
    if (!only_reads(k)) return false;
    if (c->pending != c->barrier_pending) return false; /* behind an operation: with it, through the log */
    bool at_once = c->pending == 0 && (node_read_at_once(env->node) || c->readonly || !needs_barrier(k));
    k->compares = k->level->compares;
    k->compare_count = k->level->compare_count;
    k->level->compares = (struct buf){ 0 };
    k->quiet = client_is_quiet(c);
    if (at_once) {
        read_run(env, c, k, cx->reply);
        txn_collect_free(k);
    } else if (c->pending == 0 && cmd_barrier_is_full(env)) {
        cmd_barrier_refuse(env, cx->reply);
        txn_collect_free(k);
    } else {
        /* In which database the next command runs is known when this one was answered. */
        if (k->selects) c->draining = true;
        cmd_barrier_txn(env, c, k, collect_bytes(k));
    }
    return true;
}
