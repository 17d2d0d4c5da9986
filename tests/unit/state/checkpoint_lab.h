/* checkpoint_lab.h - for the tests of checkpoints: a store in memory, and random batches.
 *
 * lab_store keeps what cuts wrote as a real store would: names with their newest value, packs in
 * order. lab_batch makes batches of every kind of operation from one number; the same number makes
 * the same batch.
 */
#ifndef CHECKPOINT_LAB_H
#define CHECKPOINT_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "state/checkpoint.h"
#include "state/state_int.h"

#define LAB_KEYS 40
#define LAB_LEASES 12
#define LAB_MEMBER 77

/* --- the store ------------------------------------------------------------------------ */

struct lab_meta {
    struct blob *name, *value;
};
struct lab_pack {
    uint64_t first_rev;
    uint32_t first_n;
    struct blob *body;
};
struct lab_store {
    struct lab_meta *metas; /* ascending by name */
    size_t meta_count;
    struct lab_pack *packs;
    size_t pack_count;
};

static size_t lab_place(const struct lab_store *s, struct slice name, bool *found)
{
    size_t at = 0;
    while (at < s->meta_count && slice_cmp(blob_slice(s->metas[at].name), name) < 0) at++;
    *found = at < s->meta_count && slice_eq(blob_slice(s->metas[at].name), name);
    return at;
}

static void lab_delete(struct lab_store *s, struct slice name)
{
    bool found;
    size_t at = lab_place(s, name, &found);
    assert_true(found); /* a cut deletes only what an earlier one wrote */
    blob_unref(s->metas[at].name);
    blob_unref(s->metas[at].value);
    s->meta_count--;
    memmove(s->metas + at, s->metas + at + 1, (s->meta_count - at) * sizeof *s->metas);
}

static void lab_put(struct lab_store *s, struct slice name, struct slice value)
{
    bool found;
    size_t at = lab_place(s, name, &found);
    if (found) {
        blob_unref(s->metas[at].value);
        s->metas[at].value = blob_copy(value);
        return;
    }
    s->metas = mem_realloc(s->metas, (s->meta_count + 1) * sizeof *s->metas);
    memmove(s->metas + at + 1, s->metas + at, (s->meta_count - at) * sizeof *s->metas);
    s->metas[at] = (struct lab_meta){ blob_copy(name), blob_copy(value) };
    s->meta_count++;
}

static inline void lab_write(struct lab_store *s, const struct checkpoint *c)
{
    struct checkpoint_meta m;
    for (size_t offset = 0; checkpoint_next_meta(c, &offset, &m);) {
        assert_true(checkpoint_owns_name(m.name));
        if (m.is_put) {
            lab_put(s, m.name, m.value);
        } else {
            lab_delete(s, m.name);
        }
    }
    if (c->pack_count == 0) return;
    s->packs = mem_realloc(s->packs, (s->pack_count + c->pack_count) * sizeof *s->packs);
    for (size_t i = 0; i < c->pack_count; i++) {
        const struct mvcc_pack *p = &c->packs[i];
        s->packs[s->pack_count++] =
            (struct lab_pack){ p->first_rev, p->first_n, blob_copy(blob_slice(p->body)) };
    }
}

static inline void lab_store_deinit(struct lab_store *s)
{
    for (size_t i = 0; i < s->meta_count; i++) {
        blob_unref(s->metas[i].name);
        blob_unref(s->metas[i].value);
    }
    for (size_t i = 0; i < s->pack_count; i++) blob_unref(s->packs[i].body);
    mem_free(s->metas);
    mem_free(s->packs);
    *s = (struct lab_store){ 0 };
}

static inline void lab_cut(struct lab_store *store, struct state *s)
{
    struct checkpoint c;
    checkpoint_cut(s, &c);
    lab_write(store, &c);
    mvcc_packs_stored(s->mvcc, c.rev);
    checkpoint_deinit(&c);
}

/* NULL and *em if it is refused. */
static inline struct state *lab_load(const struct lab_store *store, uint64_t hash_seed,
                                     const struct checkpoint_dead *dead, enum err *err,
                                     struct errmsg *em)
{
    struct state *s = state_new(hash_seed);
    struct checkpoint_load *load = checkpoint_load_begin(s);
    *err = OK;
    for (size_t i = 0; i < store->meta_count && *err == OK; i++) {
        *err = checkpoint_load_meta(load, blob_slice(store->metas[i].name),
                                    blob_slice(store->metas[i].value), em);
    }
    for (size_t i = 0; i < store->pack_count && *err == OK; i++) {
        *err = checkpoint_load_pack(load, store->packs[i].first_rev,
                                    blob_slice(store->packs[i].body), dead, em);
    }
    if (*err == OK) {
        *err = checkpoint_load_end(load, em);
    } else {
        checkpoint_load_free(load);
    }
    if (*err == OK) return s;
    state_free(s);
    return NULL;
}

/* --- random batches ------------------------------------------------------------------- */

struct lab {
    uint64_t random;
    uint64_t index, stamp_ms, seq;
    uint32_t incarnation;
    struct buf batch, list, list2, compares;
};

static uint64_t lab_below(struct lab *l, uint64_t limit) { return u64_mix(l->random++) % limit; }

static void lab_deinit(struct lab *l)
{
    buf_deinit(&l->batch);
    buf_deinit(&l->list);
    buf_deinit(&l->list2);
    buf_deinit(&l->compares);
}

static char lab_key_texts[LAB_KEYS][8];

static struct slice lab_key(struct lab *l)
{
    size_t at = lab_below(l, LAB_KEYS);
    snprintf(lab_key_texts[at], sizeof lab_key_texts[at], "key%zu", at);
    return slice_of(lab_key_texts[at]);
}

static void lab_life(struct lab *l, struct op *o)
{
    static const enum op_life lives[] = { LIFE_DROP, LIFE_KEEP, LIFE_TTL, LIFE_AT, LIFE_LEASE };
    o->fields |= FIELD_LIFE;
    o->life = lives[lab_below(l, ARRAY_LEN(lives))];
    if (o->life == LIFE_TTL) o->life_ms = 1 + (int64_t)lab_below(l, 4000);
    if (o->life == LIFE_AT) {
        o->life_ms = 1700000000000 + (int64_t)(l->stamp_ms + lab_below(l, 4000));
    }
    if (o->life == LIFE_LEASE) o->lease_id = 1 + lab_below(l, LAB_LEASES);
}

/* Operations that may also stand in a transaction. */
static void lab_element(struct lab *l, struct buf *out)
{
    struct op o = { .db = (uint8_t)lab_below(l, 2), .key = lab_key(l), .fields = FIELD_KEY };
    struct buf list = { 0 };
    uint64_t dice = lab_below(l, 20);
    if (dice < 7) {
        o.kind = OP_PUT;
        o.fields |= FIELD_VALUE;
        o.value = SLICE_LIT("12345");
        if (lab_below(l, 2) == 0) lab_life(l, &o);
    } else if (dice < 11) {
        o.kind = OP_LIFE;
        lab_life(l, &o);
        if (o.life == LIFE_KEEP) o.life = LIFE_DROP;
    } else if (dice < 12) {
        o.kind = OP_INCR;
        o.fields |= FIELD_NUMBER;
        o.number = 3;
    } else if (dice < 13) {
        o.kind = OP_APPEND;
        o.fields |= FIELD_VALUE;
        o.value = SLICE_LIT("6");
    } else if (dice < 15) {
        o.kind = lab_below(l, 2) == 0 ? OP_RENAME : OP_COPY;
        o.fields |= FIELD_KEY2;
        o.key2 = lab_key(l);
        if (o.kind == OP_COPY) o.flags = OPF_REPLACE;
    } else if (dice < 18) {
        o.kind = OP_DEL;
        o.fields = FIELD_LIST;
        o.list.count = 1 + (uint32_t)lab_below(l, 3);
        for (uint32_t i = 0; i < o.list.count; i++) op_list_add_key(&list, o.db, lab_key(l));
    } else {
        o.kind = OP_MPUT;
        o.fields = FIELD_LIST;
        o.list.count = 1 + (uint32_t)lab_below(l, 3);
        for (uint32_t i = 0; i < o.list.count; i++) {
            op_list_add_pair(&list, o.db, lab_key(l), SLICE_LIT("77"));
        }
        lab_life(l, &o);
        if (o.life == LIFE_KEEP) o.fields &= ~(uint32_t)FIELD_LIFE;
    }
    o.list.bytes = buf_slice(&list);
    op_encode(out, &o, false);
    buf_deinit(&list);
}

static void lab_txn(struct lab *l, struct buf *out)
{
    struct op o = { .kind = OP_TXN, .fields = FIELD_LIST };
    if (lab_below(l, 2) == 0) o.flags = OPF_REDIS;
    buf_clear(&l->list);
    o.list.count = 1 + (uint32_t)lab_below(l, 5);
    for (uint32_t i = 0; i < o.list.count; i++) lab_element(l, &l->list);
    o.list.bytes = buf_slice(&l->list);
    op_encode(out, &o, false);
}

static void lab_lease(struct lab *l, struct buf *out)
{
    struct op o = { .kind = OP_LEASE_GRANT, .fields = FIELD_NUMBER };
    uint64_t id = 1 + lab_below(l, LAB_LEASES);
    uint64_t dice = lab_below(l, 10);
    buf_clear(&l->list);
    if (dice < 5) {
        o.number = 1 + (int64_t)lab_below(l, 5000);
        if (dice < 4) {
            o.fields |= FIELD_ID;
            o.id = id;
        }
    } else if (dice < 6) {
        o.kind = OP_LEASE_REVOKE;
        o.fields = FIELD_ID;
        o.id = id;
    } else if (dice < 8) {
        o.kind = OP_LEASE_KEEPALIVE;
        o.fields = FIELD_LIST;
        for (; o.list.count < 5; o.list.count++) {
            op_list_add_id(&l->list, 1 + lab_below(l, LAB_LEASES));
        }
    } else {
        o.kind = OP_LEASE_ATTACH;
        o.fields = FIELD_ID | FIELD_LIST;
        o.id = id;
        for (; o.list.count < 3; o.list.count++) op_list_add_key(&l->list, 0, lab_key(l));
    }
    o.list.bytes = buf_slice(&l->list);
    op_encode(out, &o, false);
}

static void lab_rare(struct lab *l, const struct state *s, struct buf *out)
{
    static const char *const numbers[] = { "5000", "6000", "7000" };
    struct op o = { .kind = OP_CONFIG, .fields = FIELD_NAME | FIELD_VALUE };
    switch (lab_below(l, 4)) {
    case 0:
        o.name = SLICE_LIT("retain-ms");
        o.value = slice_of(numbers[lab_below(l, 3)]);
        break;
    case 1:
        o.kind = OP_ALARM;
        o.fields = FIELD_NUMBER | FIELD_ID;
        o.number = ALARM_CORRUPT;
        o.id = lab_below(l, 3);
        if (lab_below(l, 2) == 0) o.flags = OPF_NX;
        break;
    case 2:
        o.kind = OP_INCARNATION;
        o.fields = FIELD_NUMBER | FIELD_ID;
        o.id = 100 + lab_below(l, 3);
        o.number = 1 + (int64_t)lab_below(l, 5);
        break;
    default:
        o.kind = OP_COMPACT;
        o.fields = FIELD_NUMBER;
        o.number = (int64_t)mvcc_compacted(s->mvcc) +
                   (int64_t)lab_below(l, mvcc_rev(s->mvcc) - mvcc_compacted(s->mvcc) + 1);
        break;
    }
    op_encode(out, &o, false);
}

/* What is due at the batch's own stamp. */
static bool lab_expire(struct lab *l, const struct state *s, struct buf *out)
{
    struct op o;
    buf_clear(&l->list);
    buf_clear(&l->list2);
    if (!state_due(s, l->stamp_ms, 50, &l->list, &l->list2, &o)) return false;
    op_encode(out, &o, false);
    return true;
}

static void lab_op(struct lab *l, const struct state *s, struct buf *out)
{
    uint64_t dice = lab_below(l, 100);
    if (dice < 60) {
        lab_element(l, out);
    } else if (dice < 75) {
        lab_txn(l, out);
    } else if (dice < 90) {
        lab_lease(l, out);
    } else if (dice < 96 && lab_expire(l, s, out)) {
        return;
    } else {
        lab_rare(l, s, out);
    }
}

/* The next batch, in l->batch until the call after it. s says what is due and what is compacted. */
static struct slice lab_batch(struct lab *l, const struct state *s)
{
    uint32_t count = 1 + (uint32_t)lab_below(l, 4);
    l->index++;
    l->stamp_ms += lab_below(l, 100);
    buf_clear(&l->batch);
    op_batch_begin(&l->batch);
    size_t ops_at = l->batch.len;
    for (uint32_t i = 0; i < count; i++) lab_op(l, s, &l->batch);
    struct op_batch_head head = {
        .format = OP_BATCH_FORMAT, .feature_level = OP_FEATURE_LEVEL, .stamp_ms = l->stamp_ms,
        .wall_ms = 1700000000000 + (int64_t)l->stamp_ms, .op_count = count, .run_count = 1,
    };
    if (lab_below(l, 50) == 0) l->seq += 2; /* a gap */
    struct op_run run = {
        .member = LAB_MEMBER, .incarnation = l->incarnation, .first_seq = l->seq + 1,
        .floor_seq = l->seq > 20 ? l->seq - 20 : 0, .op_count = count,
        .ops = { l->batch.at + ops_at, l->batch.len - ops_at },
    };
    l->seq += count;
    op_batch_seal(&l->batch, &head, &run);
    return buf_slice(&l->batch);
}

static inline void lab_apply(struct state *s, uint64_t index, struct slice batch)
{
    static const struct apply_sink nobody = { 0 };
    struct errmsg em = { "" };
    if (state_apply(s, index, 1, batch, &nobody, &em) != OK) fail_msg("apply: %s", em.text);
}

#endif
