/* state/state_apply_txn.c - transactions: compares, branches, elements, what an error undoes. */
#include "state/state_int.h"

/* --- compares ------------------------------------------------------------------------- */

static bool order_holds(enum compare_op op, int order)
{
    switch (op) {
    case COMPARE_EQ:
        return order == 0;
    case COMPARE_NE:
        return order != 0;
    case COMPARE_LT:
        return order < 0;
    case COMPARE_GT:
        return order > 0;
    case COMPARE_OP_END:
        break;
    }
    ASSERT(false); /* op_decode refuses the rest */
    return false;
}

static bool number_holds(const struct op_compare *c, uint64_t found)
{
    int64_t number = (int64_t)found;
    return order_holds(c->op, number < c->number ? -1 : number > c->number);
}

/* kv: NULL for a missing key. */
static bool compare_holds(const struct op_compare *c, const struct kv *kv)
{
    switch (c->target) {
    case COMPARE_VERSION:
        return number_holds(c, kv == NULL ? 0 : kv->version);
    case COMPARE_CREATE:
        return number_holds(c, kv == NULL ? 0 : kv->create);
    case COMPARE_MOD:
        return number_holds(c, kv == NULL ? 0 : kv->mod);
    case COMPARE_LEASE:
        return number_holds(c, kv == NULL ? 0 : kv->lease_id);
    case COMPARE_LIFE:
        return number_holds(c, kv == NULL ? 0 : kv->life_index);
    case COMPARE_VALUE:
        if (kv == NULL || kv->type != VALUE_STRING) return false;
        return order_holds(c->op, slice_cmp(kv->value, c->bytes));
    case COMPARE_EXISTS:
        return kv != NULL;
    case COMPARE_MISSING:
        return kv == NULL;
    case COMPARE_FENCE:
        return kv != NULL && (int64_t)kv->create == c->number;
    case COMPARE_TARGET_END:
        break;
    }
    ASSERT(false); /* op_decode refuses the rest */
    return false;
}

/* One key, or all keys of a range; an empty range is a missing key. *found is the key that did not
 * hold; *missing if there is none. ERR_KEYS_LIMIT */
static enum err compare_run(const struct view *v, uint64_t *compared, const struct op_compare *c,
                            bool *holds, struct kv *found, bool *missing)
{
    struct view_iter it;
    *holds = true;
    *missing = true;
    if (!c->range) {
        *missing = !view_get(v, c->key, found);
        *holds = compare_holds(c, *missing ? NULL : found);
        return OK;
    }
    if (slice_cmp(c->key, c->end) < 0) {
        view_iter_init(&it, v, c->key, c->end, false);
        while (*holds && view_iter_next(&it, found)) {
            if (++*compared > COMPARE_KEYS_MAX) return ERR_KEYS_LIMIT;
            *missing = false;
            *holds = compare_holds(c, found);
            if (c->target == COMPARE_EXISTS) return OK; /* holds, whatever else is there */
        }
    }
    if (*missing) *holds = compare_holds(c, NULL);
    return OK;
}

/* What was found is shown after the branch has run: out of reach of its changes. */
static void show_failed(struct buf *room, size_t index, const struct kv *found,
                        struct op_result *res)
{
    res->txn_failed_index = index;
    res->txn_failed_has_kv = found != NULL;
    if (found == NULL) return;
    buf_clear(room);
    buf_reserve(room, found->key.len + found->value.len);
    buf_append_slice(room, found->key);
    buf_append_slice(room, found->value);
    res->txn_failed_kv = *found;
    res->txn_failed_kv.key.at = room->at;
    res->txn_failed_kv.value.at = room->at + found->key.len;
}

static enum err compares_run(const struct view *v, uint64_t *compared, const struct op *o,
                             struct buf *room, struct op_result *res)
{
    struct op_compare c;
    size_t offset = 0;
    res->txn_succeeded = true;
    for (size_t i = 0; op_list_next_compare(&o->compares, &offset, &c); i++) {
        struct kv found;
        bool holds = false, missing = false;
        TRY(compare_run(v, compared, &c, &holds, &found, &missing));
        if (holds) continue;
        res->txn_succeeded = false;
        show_failed(room, i, missing ? NULL : &found, res);
        return OK;
    }
    return OK;
}

enum err state_txn_check(const struct view *v, const struct op *op, struct buf *room,
                         struct op_result *res)
{
    uint64_t compared = 0;
    *res = (struct op_result){ .applied = true };
    enum err e = compares_run(v, &compared, op, room, res);
    res->err = e;
    res->rev = view_rev(v);
    return e;
}

/* --- elements ------------------------------------------------------------------------- */

enum err apply_element(struct apply *cx, const struct op *o, struct op_result *res)
{
    switch ((int)o->kind) {
    case OP_NOOP:
        return OK;
    case OP_PUT:
        return apply_put(cx, o, res);
    case OP_DEL:
        return apply_del(cx, o, res);
    case OP_DEL_RANGE:
        return apply_del_range(cx, o, res);
    case OP_INCR:
        return apply_incr(cx, o, res);
    case OP_INCR_FLOAT:
        return apply_incr_float(cx, o, res);
    case OP_APPEND:
        return apply_append(cx, o, res);
    case OP_SETRANGE:
        return apply_setrange(cx, o, res);
    case OP_LIFE:
        return apply_life(cx, o, res);
    case OP_RENAME:
        return apply_rename(cx, o, res);
    case OP_COPY:
        return apply_copy(cx, o, res);
    case OP_MPUT:
        return apply_mput(cx, o, res);
    case OP_SEQ:
        return apply_seq(cx, o, res);
    case OP_LOCAL:
        return apply_local(cx, o, res);
    default:
        break;
    }
    ASSERT(false); /* op_decode lets nothing else into a transaction */
    return ERR_UNSUPPORTED;
}

static void tell_element(struct apply *cx, uint32_t ordinal, const struct op *o,
                         const struct op_result *res)
{
    if (cx->sink->element == NULL) return;
    struct view v = apply_view(cx);
    cx->sink->element(cx->sink->ctx, cx->origin, ordinal, o, res, &v);
}

static enum err run_branches(struct apply *cx, const struct op *o, bool taken, uint32_t *ordinal,
                             struct op_result *res);
static enum err run_nested(struct apply *cx, const struct op *o, uint32_t *ordinal,
                           struct op_result *res);

/* One branch. *ordinal counts on, also through what is not taken. */
static enum err run_list(struct apply *cx, const struct op_list *list, bool taken,
                         uint32_t *ordinal, struct op_result *whole)
{
    struct op o;
    for (size_t offset = 0; op_list_next_op(list, &offset, &o);) {
        uint32_t place = (*ordinal)++;
        struct op_result res = { .applied = taken, .skipped = !taken };
        if (o.kind == OP_TXN) {
            res.err = taken ? run_nested(cx, &o, ordinal, &res)
                            : run_branches(cx, &o, false, ordinal, &res);
        } else if (taken) {
            res.err = apply_element(cx, &o, &res);
        }
        if (res.err != OK && cx->strict) {
            whole->text = res.text;
            return res.err;
        }
        if (res.err != OK) res = (struct op_result){ .err = res.err, .text = res.text };
        struct view v = apply_view(cx);
        res.rev = view_rev(&v);
        tell_element(cx, place, &o, &res);
    }
    return OK;
}

static enum err run_branches(struct apply *cx, const struct op *o, bool taken, uint32_t *ordinal,
                             struct op_result *res)
{
    TRY(run_list(cx, &o->list, taken && res->txn_succeeded, ordinal, res));
    return run_list(cx, &o->list2, taken && !res->txn_succeeded, ordinal, res);
}

static enum err run_txn(struct apply *cx, const struct op *o, uint32_t *ordinal,
                        struct op_result *res)
{
    ASSERT(cx->depth < OP_TXN_DEPTH_MAX);
    struct view v = apply_view(cx);
    TRY(compares_run(&v, &cx->compared, o, &cx->s->scratch.failed[cx->depth], res));
    res->applied = res->txn_succeeded;
    cx->depth++;
    enum err err = run_branches(cx, o, true, ordinal, res);
    cx->depth--;
    return err;
}

/* Counts on through elements that an error left out. */
static void skip_elements(const struct op *o, uint32_t *ordinal)
{
    const struct op_list *lists[] = { &o->list, &o->list2 };
    struct op element;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (size_t offset = 0; op_list_next_op(lists[i], &offset, &element);) {
            (*ordinal)++;
            if (element.kind == OP_TXN) skip_elements(&element, ordinal);
        }
    }
}

/* A one-shot transaction inside of MULTI: an error undoes this one alone. Inside of a one-shot one
 * everything is strict. */
static enum err run_nested(struct apply *cx, const struct op *o, uint32_t *ordinal,
                           struct op_result *res)
{
    if (cx->strict || (o->flags & OPF_REDIS) != 0) return run_txn(cx, o, ordinal, res);
    uint32_t first = *ordinal;
    cx->strict = true;
    txn_save(cx->txn);
    enum err err = run_txn(cx, o, ordinal, res);
    if (err == OK) {
        txn_release(cx->txn);
    } else {
        txn_restore(cx->txn);
        *ordinal = first;
        skip_elements(o, ordinal);
    }
    cx->strict = false;
    return err;
}

enum err apply_undoable(struct apply *cx, const struct op *o,
                        enum err (*run)(struct apply *cx, const struct op *o))
{
    ASSERT(cx->txn != NULL);
    if (cx->strict) return run(cx, o);
    txn_save(cx->txn);
    enum err err = run(cx, o);
    if (err == OK) {
        txn_release(cx->txn);
    } else {
        txn_restore(cx->txn);
    }
    return err;
}

/* --- the whole ------------------------------------------------------------------------ */

struct txn_size {
    uint64_t compares, then_ops, else_ops;
};

/* Elements on the longer path through a branch's transactions. */
static struct txn_size txn_measure(const struct op *o)
{
    struct txn_size size = { o->compares.count, o->list.count, o->list2.count };
    const struct op_list *lists[] = { &o->list, &o->list2 };
    uint64_t *ops[] = { &size.then_ops, &size.else_ops };
    struct op element;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (size_t offset = 0; op_list_next_op(lists[i], &offset, &element);) {
            if (element.kind != OP_TXN) continue;
            struct txn_size inner = txn_measure(&element);
            *ops[i] += MAX(inner.then_ops, inner.else_ops);
            size.compares += inner.compares;
        }
    }
    return size;
}

enum err apply_txn(struct apply *cx, const struct op *o, struct op_result *res)
{
    bool redis = (o->flags & OPF_REDIS) != 0;
    const struct settings *settings = &cx->s->settings;
    uint64_t max = redis ? settings->multi_ops_max : settings->txn_ops_max;
    struct txn_size size = txn_measure(o);
    if (MAX(size.compares, MAX(size.then_ops, size.else_ops)) > max) return ERR_OPS_LIMIT;

    uint32_t ordinal = 0;
    cx->strict = !redis;
    cx->txn = cx->s->txn;
    txn_begin(cx->txn, cx->s->mvcc);
    TRY(run_txn(cx, o, &ordinal, res));
    ASSERT_SLOW((txn_check(cx->txn), true));
    change_commit(cx);
    return OK;
}
