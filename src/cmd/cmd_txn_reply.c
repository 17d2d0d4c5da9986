/* cmd/cmd_txn_reply.c - what comes back from a transaction: each element's reply, put together. */
#include "cmd/cmd_txn_int.h"

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

/* It takes effect outside of the key space, PUBLISH: at the end, when nothing can undo it. */
static bool is_effect(const struct element *el)
{
    return el->kind == ELEMENT_LOCAL && (el->copy->def->flags & CMD_ORDERED) != 0;
}

static void local_run(struct cmd_env *env, struct client *c, struct element *el, struct reply *r,
                      const struct view *v)
{
    struct cmd_ctx cx = {
        .env = env, .client = c, .def = el->copy->def, .argc = el->copy->argc, .argv = el->copy->argv,
        .db = el->copy->db, .reply = r, .view = *v, .mode = CMD_MODE_ELEMENT,
    };
    cmd_run(&cx);
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
    } else if (el->kind == ELEMENT_LOCAL && !is_effect(el)) {
        local_run(env, c, el, &r, v);
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

/* All of what was applied, but not what a nested transaction has undone. */
static void effects_run(struct cmd_env *env, struct client *c, struct collect *k, const struct view *v)
{
    for (size_t at = 0; at < k->count;) {
        struct element *el = &k->elements[at];
        struct reply r = reply_to(&el->out, c->proto);
        if (is_effect(el) && !el->skipped) local_run(env, c, el, &r, v);
        at = el->is_error ? subtree_end(k, at) : at + 1;
    }
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

bool txn_watch_failed(const struct collect *k, const struct op_result *res)
{
    return k->exec && !res->txn_succeeded && (!k->has_if || res->txn_failed_index < k->watch_compares);
}

static void reply_exec(struct collect *k, struct reply *r, const struct op_result *res)
{
    if (txn_watch_failed(k, res)) {
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

void txn_reply(struct collect *k, struct reply *r, const struct op_result *res)
{
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
}

void txn_select(struct client *c, const struct collect *k, const struct op_result *res)
{
    if (!k->selects || res->err != OK || txn_watch_failed(k, res)) return;
    c->db = res->txn_succeeded ? k->db_then : k->db_else;
}

void cmd_txn_done(struct cmd_env *env, const struct ticket *t, struct client *c, struct reply *r,
                  const struct op *op, const struct op_result *res, const struct view *v)
{
    (void)op;
    struct collect *k = t->data;
    if (c != NULL) {
        if (res->err == OK) effects_run(env, c, k, v);
        txn_reply(k, r, res);
        txn_select(c, k, res);
        if (k->selects) client_unblock(env, c); /* the client's next commands may run */
    }
    txn_collect_free(k);
}
