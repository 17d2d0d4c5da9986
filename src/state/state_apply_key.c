/* state/state_apply_key.c - operations on keys of any type: delete, rename, copy, lifetimes. */
#include "state/state_int.h"

/* --- delete --------------------------------------------------------------------------- */

static void show_all_former(struct apply *cx, struct op_result *res)
{
    struct buf *prevs = &cx->s->scratch.prevs;
    res->prev_count = prevs->len / sizeof(struct kv);
    if (res->prev_count != 0) res->prevs = (const struct kv *)(const void *)prevs->at;
}

/* Deletes the key if it is there; says whether it was. */
static bool delete_one(struct apply *cx, struct slice key, bool keep_former,
                       bool key_is_short_lived)
{
    struct kv kv;
    struct view v = apply_view(cx);
    if (!view_get(&v, key, &kv)) return false;
    change_delete(cx, key, ROW_DEL, keep_former, key_is_short_lived);
    kv.key = key;
    if (keep_former) buf_append(&cx->s->scratch.prevs, &kv, sizeof kv);
    return true;
}

static enum err del_list(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct slice key;
    bool keep_former = (o->flags & OPF_PREV) != 0;
    TRY(change_allow(cx, o->list.count));
    for (size_t offset = 0; op_list_next_key(&o->list, &offset, &key);) {
        res->number += delete_one(cx, key, keep_former, false);
    }
    res->applied = res->number != 0;
    show_all_former(cx, res);
    return OK;
}

enum err apply_del(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    struct view v = apply_view(cx);
    bool met = false;
    buf_clear(&cx->s->scratch.prevs);
    if ((o->fields & FIELD_LIST) != 0) return del_list(cx, o, res);

    TRY(change_allow_key(cx, o->key));
    const struct kv *former = view_get(&v, o->key, &kv) ? &kv : NULL;
    bool other_type = former != NULL && former->type != VALUE_STRING;
    if (other_type && (o->flags & (OPF_PREV | OPF_KV)) == OPF_PREV) return ERR_WRONGTYPE;
    TRY(apply_condition(cx, o, former, &met));
    res->applied = met && former != NULL;
    res->number = res->applied;
    if (former == NULL) return OK;
    bool keep_former = (o->flags & OPF_PREV) != 0;
    if (met) delete_one(cx, o->key, keep_former, false);
    if (!met || keep_former) change_show_former(res, former);
    if (met && keep_former) show_all_former(cx, res);
    return OK;
}

/* Copies the first keys of a range, because the iterator does not outlive a change. */
static size_t collect_keys(struct apply *cx, const struct op *o, uint64_t max)
{
    struct buf *keys = &cx->s->scratch.keys;
    struct view v = apply_view(cx);
    struct view_iter it;
    struct kv kv;
    size_t count = 0;
    buf_clear(keys);
    view_iter_init(&it, &v, o->key, o->key2, false);
    for (; count < max && view_iter_next(&it, &kv); count++) {
        op_list_add_internal_key(keys, kv.key);
    }
    return count;
}

enum err apply_del_range(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct view v = apply_view(cx);
    struct slice key;
    buf_clear(&cx->s->scratch.prevs);
    res->applied = false;
    if (slice_cmp(o->key, o->key2) >= 0) return OK;
    uint64_t count = view_count(&v, o->key, o->key2);
    if (o->number > 0) count = MIN(count, (uint64_t)o->number);
    if (o->number > 0) count = MIN(count, cx->s->settings.op_keys_max);
    TRY(change_allow(cx, count));

    size_t collected = collect_keys(cx, o, count);
    ASSERT(collected == count);
    const struct buf *keys = &cx->s->scratch.keys;
    struct op_list list = { (uint32_t)collected, buf_slice(keys) };
    bool keep_former = (o->flags & OPF_PREV) != 0;
    for (size_t offset = 0; op_list_next_key(&list, &offset, &key);) {
        res->number += delete_one(cx, key, keep_former, true);
    }
    ASSERT((uint64_t)res->number == count);
    res->applied = count != 0;
    show_all_former(cx, res);
    return OK;
}

/* --- rename, copy --------------------------------------------------------------------- */

/* Its lifetime goes along. A lease that is too full to take the new key refuses. */
static enum err allow_move(const struct apply *cx, const struct kv *source, struct slice to)
{
    if (to.len - 1 > cx->s->settings.key_bytes_max) return ERR_KEY_LIMIT;
    TRY(change_allow(cx, 2));
    TRY(change_allow_value(cx, to, source->value.len));
    if (source->lease_id == 0) return OK;
    const struct lease *lease = lease_find(cx->s->leases, source->lease_id);
    ASSERT(lease != NULL);
    uint64_t attached = cx->txn != NULL ? cx->txn->attach_count : 0;
    return lease->key_count + attached <= cx->s->settings.op_keys_max ? OK : ERR_LEASE_KEYS;
}

static void rename_pending(struct apply *cx, const struct op *o, const struct life_plan *plan)
{
    struct txn *t = cx->txn;
    struct pending *from = txn_touch(t, o->key, false);
    struct pending *to = txn_touch(t, o->key2, false);
    txn_delete(t, from);
    txn_put_moved(t, to, from);
    txn_set_plan(t, to, plan);
}

/* The source's value must survive its deletion. */
static enum err rename_now(struct apply *cx, const struct op *o, const struct kv *source,
                           const struct life_plan *plan)
{
    struct buf *value = &cx->s->scratch.value;
    buf_clear(value);
    buf_append_slice(value, source->value);
    struct change c = { .key = o->key2, .value = buf_slice(value), .type = source->type,
                        .plan = *plan };
    change_delete(cx, o->key, ROW_DEL, false, false);
    return change_put(cx, &c);
}

enum err apply_rename(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv source, present;
    struct view v = apply_view(cx);
    res->applied = false;
    if (!view_get(&v, o->key, &source)) return ERR_NO_KEY;
    bool nx = (o->flags & OPF_NX) != 0;
    if (nx && view_get(&v, o->key2, &present)) return OK;
    res->applied = true;
    res->number = 1;
    if (slice_eq(o->key, o->key2)) return OK;
    TRY(allow_move(cx, &source, o->key2));
    struct life_plan plan = change_plan_of(&source);
    if (cx->txn == NULL) {
        enum err err = rename_now(cx, o, &source, &plan);
        ASSERT(err == OK); /* allow_move */
        return OK;
    }
    rename_pending(cx, o, &plan);
    return OK;
}

static enum err copy_write(struct apply *cx, const struct op *o, const struct kv *source,
                           const struct life_plan *plan)
{
    if (cx->txn == NULL) {
        struct buf *value = &cx->s->scratch.value;
        buf_clear(value);
        buf_append_slice(value, source->value);
        return change_put(cx, &(struct change){ .key = o->key2, .value = buf_slice(value),
                                                .type = source->type, .plan = *plan });
    }
    cx->txn->copied_bytes += source->value.len;
    return change_put(cx, &(struct change){ .key = o->key2, .value = source->value,
                                            .type = source->type, .plan = *plan,
                                            .value_is_short_lived = true });
}

enum err apply_copy(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv source, present;
    struct view v = apply_view(cx);
    res->applied = false;
    if (!view_get(&v, o->key, &source)) return OK;
    if (slice_eq(o->key, o->key2)) return OK;
    if ((o->flags & OPF_REPLACE) == 0 && view_get(&v, o->key2, &present)) return OK;
    if (o->key2.len - 1 > cx->s->settings.key_bytes_max) return ERR_KEY_LIMIT;
    uint64_t copied = cx->txn != NULL ? cx->txn->copied_bytes : 0;
    if (state_quota_exceeded(cx->s, copied + source.value.len)) return ERR_NOSPACE;
    struct life_plan plan = change_plan_of(&source);
    TRY(copy_write(cx, o, &source, &plan));
    res->applied = true;
    res->number = 1;
    return OK;
}

/* --- lifetimes ------------------------------------------------------------------------ */

/* Redis' EXPIRE: a key without a deadline counts as one that never comes. */
static bool life_cond_holds(int64_t cond, const struct kv *kv, int64_t deadline_ms)
{
    if (cond == LIFE_COND_NX) return kv->deadline_ms == 0;
    if (cond == LIFE_COND_XX) return kv->deadline_ms != 0;
    if (cond == LIFE_COND_GT) return kv->deadline_ms != 0 && deadline_ms > kv->deadline_ms;
    if (cond == LIFE_COND_XX_LT) return kv->deadline_ms != 0 && deadline_ms < kv->deadline_ms;
    if (cond == LIFE_COND_LT) return kv->deadline_ms == 0 || deadline_ms < kv->deadline_ms;
    return true;
}

static int64_t plan_deadline_ms(const struct apply *cx, const struct life_plan *plan)
{
    if (plan->form != LIFE_FORM_LEASE) return plan->deadline_ms;
    return lease_find(cx->s->leases, plan->lease_id)->deadline_ms;
}

static enum err persist(struct apply *cx, const struct op *o, const struct kv *kv,
                        struct op_result *res)
{
    struct life_plan plan = { .form = LIFE_FORM_CLEARED };
    res->applied = kv->deadline_ms != 0;
    res->number = res->applied;
    return res->applied ? change_life(cx, o->key, &plan, "persist") : OK;
}

static enum err life_write(struct apply *cx, const struct op *o, const struct kv *kv,
                           struct op_result *res)
{
    struct life_plan plan = { .form = LIFE_FORM_KEEP };
    bool past = false;
    if (o->life == LIFE_KEEP) return OK;
    if (o->life == LIFE_DROP) return persist(cx, o, kv, res);
    TRY(change_plan(cx, o, &plan, &past));
    int64_t deadline_ms = past ? INT64_MIN : plan_deadline_ms(cx, &plan);
    res->applied = life_cond_holds(o->number, kv, deadline_ms);
    res->number = res->applied;
    if (!res->applied) return OK;
    if (!past) return change_life(cx, o->key, &plan, "expire");
    TRY(change_allow_key(cx, o->key));
    change_delete(cx, o->key, ROW_DEL, (o->flags & OPF_PREV) != 0, false);
    return OK;
}

enum err apply_life(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    struct view v = apply_view(cx);
    res->applied = false;
    if (!view_get(&v, o->key, &kv)) return OK;
    if ((o->flags & OPF_PREV) != 0 && kv.type != VALUE_STRING) return ERR_WRONGTYPE; /* GETEX */
    TRY(life_write(cx, o, &kv, res));
    if ((o->flags & OPF_PREV) == 0) return OK;
    struct kv moved;
    if (view_get(&v, o->key, &moved)) { /* a first lifetime may move the entry */
        kv.key = moved.key;
        kv.value = moved.value;
    }
    change_show_former(res, &kv);
    return OK;
}
