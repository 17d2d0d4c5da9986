/* state/state_apply_change.c - changing one key: in the key space at once, or in a transaction. */
#include "state/state_int.h"

/* --- lifetimes ------------------------------------------------------------------------ */

/* A time to live in the cluster clock; unix_ms is the same on the leader's wall clock. */
static enum err plan_private(const struct state *s, int64_t ttl_ms, int64_t unix_ms,
                             struct life_plan *plan)
{
    if (ttl_ms > INT64_MAX - (int64_t)s->stamp_ms) return ERR_EXPIRE;
    *plan = (struct life_plan){ .form = LIFE_FORM_PRIVATE, .unix_ms = unix_ms,
                                .deadline_ms = (int64_t)s->stamp_ms + ttl_ms };
    return OK;
}

static enum err plan_ttl(const struct state *s, int64_t ttl_ms, struct life_plan *plan, bool *past)
{
    int64_t unix_ms = 0;
    *past = ttl_ms <= 0;
    if (*past) return OK;
    if (__builtin_add_overflow(s->wall_ms, ttl_ms, &unix_ms)) return ERR_EXPIRE;
    return plan_private(s, ttl_ms, unix_ms, plan);
}

static enum err plan_at(const struct state *s, int64_t unix_ms, struct life_plan *plan, bool *past)
{
    int64_t ttl_ms = 0;
    *past = unix_ms <= s->wall_ms;
    if (*past) return OK;
    if (__builtin_sub_overflow(unix_ms, s->wall_ms, &ttl_ms)) return ERR_EXPIRE;
    return plan_private(s, ttl_ms, unix_ms, plan);
}

enum err change_plan(const struct apply *cx, const struct op *o, struct life_plan *plan, bool *past)
{
    *past = false;
    switch (o->life) {
    case LIFE_DROP:
        *plan = (struct life_plan){ .form = LIFE_FORM_NONE };
        return OK;
    case LIFE_KEEP:
        *plan = (struct life_plan){ .form = LIFE_FORM_KEEP };
        return OK;
    case LIFE_TTL:
        return plan_ttl(cx->s, o->life_ms, plan, past);
    case LIFE_AT:
        return plan_at(cx->s, o->life_ms, plan, past);
    case LIFE_LEASE:
        if (lease_find(cx->s->leases, o->lease_id) == NULL) return ERR_NOLEASE;
        *plan = (struct life_plan){ .form = LIFE_FORM_LEASE, .lease_id = o->lease_id };
        return OK;
    case LIFE_END:
        break;
    }
    ASSERT(false); /* op_decode refuses the rest */
    return ERR_UNSUPPORTED;
}

struct life_plan change_plan_of(const struct kv *kv)
{
    if (kv->lease_id != 0) {
        return (struct life_plan){ .form = LIFE_FORM_LEASE, .lease_id = kv->lease_id };
    }
    if (kv->deadline_ms == 0) return (struct life_plan){ .form = LIFE_FORM_NONE };
    return (struct life_plan){ .form = LIFE_FORM_PRIVATE, .deadline_ms = kv->deadline_ms,
                               .unix_ms = kv->unix_ms };
}

/* Makes the life that the plan asks for out of the one the key has (NULL: none). *out is what the
 * key is to have. Nothing has changed on error. */
static enum err life_prepare(const struct apply *cx, struct slice key, const struct life_plan *plan,
                             struct life *present, struct life **out)
{
    struct lease_table *t = cx->s->leases;
    if (plan->form == LIFE_FORM_KEEP || plan->form == LIFE_FORM_NONE) {
        *out = plan->form == LIFE_FORM_KEEP ? present : NULL;
        return OK;
    }
    struct life *life = present != NULL ? present : life_new(t, key);
    uint64_t index = cx->origin->index;
    if (plan->form == LIFE_FORM_CLEARED) {
        life_clear(t, life, index);
    } else if (plan->form == LIFE_FORM_PRIVATE) {
        life_set_private(t, life, plan->deadline_ms, plan->unix_ms, index);
    } else {
        /* A transaction has asked for room before (allow_attach, allow_move); while its keys change one
         * after the other, one may be attached before another one has left. */
        uint64_t keys_max = cx->txn != NULL ? UINT64_MAX : cx->s->settings.op_keys_max;
        enum err err = lease_attach(t, plan->lease_id, life, index, keys_max);
        if (err != OK) {
            if (present == NULL) life_free(t, life, key);
            return err;
        }
    }
    *out = life;
    return OK;
}

/* --- the key space -------------------------------------------------------------------- */

/* Former versions that events or the result show: freed after the result was told. */
static void keep_taken(struct apply *cx, struct entry *taken)
{
    if (taken != NULL) buf_append(&cx->s->scratch.taken, &taken, sizeof taken);
}

static bool event_wants_prev(const struct apply *cx, struct slice key)
{
    return cx->sink->wants_prev != NULL && cx->sink->wants_prev(cx->sink->ctx, key);
}

struct put_now {
    struct slice key, value;
    enum value_type type;
    struct life_plan plan;
    struct life *present; /* of the live version there is */
    bool recreate, take;
};

static enum err put_now(struct apply *cx, const struct put_now *c)
{
    struct state *s = cx->s;
    struct life *life = NULL;
    struct entry *taken = NULL;
    TRY(life_prepare(cx, c->key, &c->plan, c->present, &life));
    bool take = c->take || event_wants_prev(cx, c->key);
    struct mvcc_write w = { .key = c->key, .value = c->value, .type = c->type, .rev = cx->rev,
                            .n = ++cx->n, .life = life, .recreate = c->recreate };
    mvcc_put(s->mvcc, &w, take ? &taken : NULL, &s->event);
    if (UNLIKELY(c->present != NULL && c->present != life)) {
        life_free(s->leases, c->present, c->key);
    }
    if (UNLIKELY(life != NULL)) life_written(s->leases, life, c->key);
    s->event.cause = (uint8_t)cx->kind;
    if (cx->sink->event != NULL) cx->sink->event(cx->sink->ctx, &s->event);
    if (take) keep_taken(cx, taken);
    return OK;
}

/* key must not be in the entry that is deleted. */
static void delete_now(struct apply *cx, struct slice key, enum row_op row_op, struct life *present,
                       bool take)
{
    struct entry *taken = NULL;
    struct mvcc_event *ev = &cx->s->event;
    take = take || event_wants_prev(cx, key);
    mvcc_delete(cx->s->mvcc, key, cx->rev, ++cx->n, row_op, take ? &taken : NULL, ev);
    if (present != NULL) life_free(cx->s->leases, present, key);
    ev->cause = (uint8_t)cx->kind;
    if (cx->sink->event != NULL) cx->sink->event(cx->sink->ctx, ev);
    if (take) keep_taken(cx, taken);
}

/* The life a live key has; NULL if it has none, or the key is missing. */
static struct life *life_find(const struct apply *cx, struct slice key)
{
    if (life_count(cx->s->leases) == 0) return NULL;
    const struct entry *e = mvcc_find(cx->s->mvcc, key);
    return e == NULL ? NULL : entry_life(e);
}

/* --- limits --------------------------------------------------------------------------- */

enum err change_allow(const struct apply *cx, uint64_t key_count)
{
    uint64_t changed = cx->txn != NULL ? cx->txn->changed_count : 0;
    return changed + key_count <= cx->s->settings.op_keys_max ? OK : ERR_KEYS_LIMIT;
}

enum err change_allow_key(const struct apply *cx, struct slice key)
{
    if (cx->txn == NULL) return OK; /* the limit is at least one key */
    const struct pending *p = txn_find(cx->txn, mvcc_key_hash(cx->s->mvcc, key), key);
    return p != NULL && p->changed ? OK : change_allow(cx, 1);
}

/* A value that is made again and again is one to keep, but work for every member each time. */
enum err change_allow_value(const struct apply *cx, struct slice key, size_t value_bytes)
{
    if (cx->txn == NULL) return OK;
    uint64_t bytes_max = cx->s->settings.txn_bytes_max;
    if (cx->txn->moved_bytes / TXN_MOVES_MAX > bytes_max) return ERR_TXN_LIMIT;
    const struct pending *p = txn_find(cx->txn, mvcc_key_hash(cx->s->mvcc, key), key);
    size_t counted = p != NULL ? p->value_bytes_max : 0;
    uint64_t more = value_bytes > counted ? value_bytes - counted : 0;
    return cx->txn->value_bytes + more <= bytes_max ? OK : ERR_TXN_LIMIT;
}

/* In a transaction the lease must have room for all that it attaches: commit cannot fail. */
static enum err allow_attach(const struct apply *cx, const struct pending *p,
                             const struct life_plan *plan)
{
    if (plan->form != LIFE_FORM_LEASE) return OK;
    const struct lease *lease = lease_find(cx->s->leases, plan->lease_id);
    ASSERT(lease != NULL);
    bool more = p == NULL || !p->attached;
    uint64_t keys = (uint64_t)lease->key_count + cx->txn->attach_count + more;
    const struct life *life = p != NULL && p->base != NULL ? entry_life(p->base) : NULL;
    if (life != NULL && life->lease_id == plan->lease_id) return OK;
    return keys <= cx->s->settings.op_keys_max ? OK : ERR_LEASE_KEYS;
}

/* --- changes -------------------------------------------------------------------------- */

static enum err put_pending(struct apply *cx, const struct change *c)
{
    struct txn *t = cx->txn;
    TRY(change_allow_key(cx, c->key));
    struct pending *p = txn_touch(t, c->key, c->key_is_short_lived);
    struct slice value = c->value_is_former ? pending_value(p) : c->value;
    TRY(change_allow_value(cx, c->key, value.len));
    TRY(allow_attach(cx, p, &c->plan));
    if (c->value_is_former) {
        txn_put_base(t, p);
    } else if (c->value_is_short_lived) {
        txn_put_copy(t, p, c->value, c->type);
    } else {
        txn_put_outside(t, p, c->value, c->type);
    }
    if (c->plan.form != LIFE_FORM_KEEP) txn_set_plan(t, p, &c->plan);
    return OK;
}

enum err change_put(struct apply *cx, const struct change *c)
{
    if (cx->txn != NULL) return put_pending(cx, c);
    struct put_now put = {
        .key = c->key, .value = c->value, .type = c->type, .plan = c->plan,
        .present = c->known_missing ? NULL : life_find(cx, c->key),
        .take = c->keep_former || c->value_is_former,
    };
    return put_now(cx, &put);
}

void change_delete(struct apply *cx, struct slice key, enum row_op row_op, bool keep_former,
                   bool key_is_short_lived)
{
    if (cx->txn != NULL) {
        ASSERT(row_op == ROW_DEL);
        txn_delete(cx->txn, txn_touch(cx->txn, key, key_is_short_lived));
        return;
    }
    delete_now(cx, key, row_op, life_find(cx, key), keep_former);
}

static enum err life_now(struct apply *cx, struct slice key, const struct life_plan *plan,
                         const char *what)
{
    struct life *present = life_find(cx, key);
    struct life *life = NULL;
    TRY(life_prepare(cx, key, plan, present, &life));
    ASSERT(life != NULL);
    if (life != present) mvcc_set_life(cx->s->mvcc, key, life);
    if (what != NULL && cx->sink->life != NULL) cx->sink->life(cx->sink->ctx, key, what);
    return OK;
}

enum err change_life(struct apply *cx, struct slice key, const struct life_plan *plan,
                     const char *what)
{
    ASSERT(plan->form != LIFE_FORM_KEEP);
    ASSERT(plan->form != LIFE_FORM_NONE);
    if (cx->txn == NULL) return life_now(cx, key, plan, what);
    struct pending *p = txn_touch(cx->txn, key, false);
    TRY(allow_attach(cx, p, plan));
    txn_set_plan(cx->txn, p, plan);
    p->life_what = what;
    return OK;
}

void change_show_former(struct op_result *res, const struct kv *former)
{
    res->has_prev = true;
    res->prev = *former;
}

/* --- commit --------------------------------------------------------------------------- */

static void commit_change(struct apply *cx, const struct pending *p)
{
    struct life *present = p->base != NULL ? entry_life(p->base) : NULL;
    if (!p->live) {
        if (p->base != NULL) delete_now(cx, p->key, ROW_DEL, present, false);
        return;
    }
    if (MUTANT(TXN_OF_SEVERAL_REVISIONS) && cx->n != 0) cx->rev++;
    struct put_now put = {
        .key = p->key, .value = pending_value(p), .type = p->type, .plan = p->plan,
        .present = present, .recreate = p->recreated,
        .take = p->from == VALUE_FROM_BASE && p->base != NULL,
    };
    enum err err = put_now(cx, &put);
    ASSERT(err == OK); /* allow_attach */
}

static void commit_life(struct apply *cx, const struct pending *p)
{
    if (!p->live || p->plan.form == LIFE_FORM_KEEP) return;
    if (!p->changed) {
        enum err err = life_now(cx, p->key, &p->plan, p->life_what);
        ASSERT(err == OK); /* allow_attach */
    } else if (p->life_what != NULL && cx->sink->life != NULL) {
        cx->sink->life(cx->sink->ctx, p->key, p->life_what);
    }
}

void change_commit(struct apply *cx)
{
    struct txn *t = cx->txn;
    ASSERT(t != NULL);
    ASSERT(!t->saving);
    for (uint32_t i = 0; i < t->log_count; i++) {
        const struct pending *p = txn_at(t, t->log[i]);
        if (p->order == i) commit_change(cx, p);
    }
    for (uint32_t i = 0; i < t->pending_count; i++) commit_life(cx, txn_at(t, i));
    cx->txn = NULL;
}
