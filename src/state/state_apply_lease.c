/* state/state_apply_lease.c - operations on leases, and expiry. */
#include "state/state_int.h"

enum err apply_lease_grant(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct lease_request request = {
        .id = o->id, .ttl_ms = o->number, .stamp_ms = cx->s->stamp_ms,
        .count_max = cx->s->settings.lease_count_max,
    };
    const struct lease *lease = NULL;
    TRY(lease_grant(cx->s->leases, &request, &lease));
    res->id = lease->id;
    res->ttl_ms = lease->ttl_ms;
    res->number = 1;
    return OK;
}

enum err apply_lease_keepalive(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct buf *numbers = &cx->s->scratch.numbers;
    size_t count = o->list.count;
    buf_clear(numbers);
    int64_t *remaining = (int64_t *)(void *)buf_reserve(numbers, (count + 1) * sizeof(int64_t));
    size_t found = lease_keepalive(cx->s->leases, o->list.bytes.at, count, cx->s->stamp_ms,
                                   remaining);
    ASSERT(found <= count);
    res->applied = found != 0;
    res->number = (int64_t)found;
    res->numbers = remaining;
    res->number_count = count;
    return OK;
}

/* Deletes a key whose bytes may lie in its own entry. */
static void delete_copied(struct apply *cx, struct slice key, enum row_op row_op)
{
    struct buf *copy = &cx->s->scratch.keys;
    buf_clear(copy);
    buf_append_slice(copy, key);
    change_delete(cx, buf_slice(copy), row_op, false, true);
}

/* Deletes a lease's keys in their order, then the lease; returns how many keys there were. */
static int64_t lease_end(struct apply *cx, uint64_t id, enum row_op row_op)
{
    struct lease_table *t = cx->s->leases;
    const struct lease *lease = lease_find(t, id);
    ASSERT(lease != NULL);
    if (!MUTANT(LEASE_KEYS_UNSORTED)) lease_sort_keys(t, id);
    int64_t count = 0;
    for (struct life *life = lease_keys(lease); life != NULL; life = lease_keys(lease)) {
        ASSERT(life->entry != NULL);
        delete_copied(cx, entry_key(life->entry), row_op);
        if (MUTANT(LEASE_END_OF_SEVERAL_REVISIONS)) cx->rev++;
        count++;
    }
    lease_remove(t, id);
    return count;
}

enum err apply_lease_revoke(struct apply *cx, const struct op *o, struct op_result *res)
{
    if (lease_find(cx->s->leases, o->id) == NULL) return ERR_NOLEASE;
    res->number = lease_end(cx, o->id, ROW_DEL);
    return OK;
}

/* How many of the keys exist and are not on the lease yet. */
static uint64_t attach_count(const struct apply *cx, const struct op *o)
{
    struct view v = apply_view(cx);
    struct slice key;
    struct kv kv;
    uint64_t count = 0;
    for (size_t offset = 0; op_list_next_key(&o->list, &offset, &key);) {
        if (view_get(&v, key, &kv) && kv.lease_id != o->id) count++;
    }
    return count;
}

enum err apply_lease_attach(struct apply *cx, const struct op *o, struct op_result *res)
{
    const struct lease *lease = lease_find(cx->s->leases, o->id);
    if (lease == NULL) return ERR_NOLEASE;
    TRY(change_allow(cx, o->list.count));
    uint64_t more = attach_count(cx, o);
    if (more != 0 && lease->key_count + more > cx->s->settings.op_keys_max) return ERR_LEASE_KEYS;

    struct life_plan plan = { .form = LIFE_FORM_LEASE, .lease_id = o->id };
    struct slice key;
    for (size_t offset = 0; op_list_next_key(&o->list, &offset, &key);) {
        if (mvcc_find(cx->s->mvcc, key) == NULL) continue;
        enum err err = change_life(cx, key, &plan, "expire");
        ASSERT(err == OK); /* there is room for all */
        res->number++;
    }
    res->applied = res->number != 0;
    return OK;
}

/* --- expiry: a wish (state.h, I4) ----------------------------------------------------- */

static bool key_is_due(const struct apply *cx, struct slice key)
{
    const struct entry *e = mvcc_find(cx->s->mvcc, key);
    const struct life *life = e == NULL ? NULL : entry_life(e);
    if (life == NULL || life->lease_id != 0 || life->deadline_ms == 0) return false;
    return life->deadline_ms <= (int64_t)cx->s->stamp_ms || MUTANT(EXPIRY_NOT_REPEATED);
}

enum err apply_expire(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct slice key;
    uint64_t id = 0;
    for (size_t offset = 0; op_list_next_key(&o->list, &offset, &key);) {
        if (!key_is_due(cx, key)) continue;
        change_delete(cx, key, ROW_EXPIRE, false, false);
        res->number++;
    }
    for (size_t offset = 0; op_list_next_id(&o->list2, &offset, &id);) {
        const struct lease *lease = lease_find(cx->s->leases, id);
        if (lease == NULL) continue;
        if (lease->deadline_ms > (int64_t)cx->s->stamp_ms && !MUTANT(EXPIRY_NOT_REPEATED)) continue;
        res->number += lease_end(cx, id, ROW_EXPIRE);
    }
    res->applied = res->number != 0;
    return OK;
}
