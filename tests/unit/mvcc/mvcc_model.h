/* tests/unit/mvcc/mvcc_model.h - a naive key space to hold mvcc against: every key has the list of
 * all its versions, and every question is answered by walking lists. For tests only. */
#ifndef TEST_MVCC_MODEL_H
#define TEST_MVCC_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mvcc/mvcc.h"

static inline uint64_t model_random(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*seed);
}

struct model_row {
    struct row row;     /* key borrows from the model's key, value is owned */
    size_t key;         /* number of the key */
    bool ends_history;  /* the next row of this key starts a new one */
};

struct model_key {
    struct slice key; /* owned */
    size_t *rows;     /* numbers of its rows */
    size_t row_count, row_cap;
    struct life *life;
};

struct model {
    struct model_key *keys; /* sorted */
    size_t key_count;
    struct model_row *rows; /* in order of (rev, n) */
    size_t row_count, row_cap;
    size_t rows_seen; /* in packs that were taken */
    uint64_t rev, compacted;
};

static inline int model_key_order(const void *a, const void *b)
{
    const struct model_key *x = a;
    const struct model_key *y = b;
    return slice_cmp(x->key, y->key);
}

/* Keys that make trouble: the empty client key, prefixes of each other, zeros, 4 KiB, shared
 * beginnings, several databases. */
static inline void model_init(struct model *m, size_t key_count, uint64_t *seed)
{
    *m = (struct model){ .rev = 1, .key_count = key_count };
    m->keys = mem_zalloc(key_count * sizeof *m->keys);
    struct buf b = { 0 };
    for (size_t i = 0; i < key_count; i++) {
        buf_clear(&b);
        uint64_t r = model_random(seed);
        buf_append_u8(&b, r % 8 == 0 ? 1 : 0);
        if (i < 2) b.at[0] = (uint8_t)(i * 15); /* "" of databases 0 and 15 */
        else if (r % 5 == 0) buf_printf(&b, "/registry/pods/namespace/object-%05zu", i);
        else if (r % 5 == 1) buf_printf(&b, "key:%012zu", i * 7);
        else if (r % 5 == 2) buf_printf(&b, "%zx", i);
        else if (i % 10 != 3) for (size_t z = 0; z < i % 40; z++) buf_append_u8(&b, 0);
        else for (size_t z = 0; z < 4096; z++) buf_append_u8(&b, (uint8_t)(z == i * 8 ? 'b' : 'a'));
        if (i >= 2) buf_printf(&b, "%zu", i); /* distinct */
        m->keys[i].key = (struct slice){ mem_copy(b.at, b.len), b.len };
    }
    buf_deinit(&b);
    qsort(m->keys, key_count, sizeof *m->keys, model_key_order);
}

static inline void model_deinit(struct model *m)
{
    for (size_t i = 0; i < m->row_count; i++) mem_free((void *)(uintptr_t)m->rows[i].row.value.at);
    for (size_t i = 0; i < m->key_count; i++) {
        mem_free((void *)(uintptr_t)m->keys[i].key.at);
        mem_free(m->keys[i].rows);
        mem_free(m->keys[i].life);
    }
    mem_free(m->rows);
    mem_free(m->keys);
}

static inline const struct model_row *model_last(const struct model *m, size_t key)
{
    const struct model_key *k = &m->keys[key];
    return k->row_count == 0 ? NULL : &m->rows[k->rows[k->row_count - 1]];
}

static inline const struct row *model_live(const struct model *m, size_t key)
{
    const struct model_row *last = model_last(m, key);
    return last != NULL && last->row.op == ROW_PUT ? &last->row : NULL;
}

/* A deleted key whose deletion is still history. */
static inline const struct row *model_ghost(const struct model *m, size_t key)
{
    const struct model_row *last = model_last(m, key);
    bool ghost = last != NULL && last->row.op != ROW_PUT && last->row.rev >= m->compacted;
    return ghost ? &last->row : NULL;
}

/* prev, jump and chain by counting the rows of the present history one by one. */
static inline void model_chain(const struct model *m, size_t key, struct row *r)
{
    const struct model_key *k = &m->keys[key];
    if (model_live(m, key) == NULL && model_ghost(m, key) == NULL) return;
    size_t count = 0;
    while (count < k->row_count) {
        const struct model_row *row = &m->rows[k->rows[k->row_count - 1 - count]];
        if (row->ends_history) break;
        count++;
    }
    r->prev = model_last(m, key)->row.rev;
    r->chain = (uint8_t)(count % 128);
    size_t newest_zero = (count - 1) / 128 * 128;
    r->jump = m->rows[k->rows[k->row_count - count + newest_zero]].row.rev;
}

/* Appends the row that a change of `key` must make; the value is copied. */
static inline const struct row *model_append(struct model *m, size_t key, enum row_op op,
                                             enum value_type type, struct slice value,
                                             uint64_t rev, uint32_t n, const struct life *life,
                                             bool recreate)
{
    struct model_key *k = &m->keys[key];
    const struct row *live = model_live(m, key);
    struct row r = { .rev = rev, .n = n, .op = op, .type = type, .key = k->key };
    r.value = (struct slice){ mem_copy(value.at, value.len), value.len };
    if (op == ROW_PUT) {
        bool fresh = live == NULL || recreate;
        r.create = fresh ? rev : live->create;
        r.version = fresh ? 1 : live->version + 1;
    } else {
        r.type = live->type;
    }
    if (life != NULL) r.lease = life->lease_id;
    if (life != NULL && op == ROW_PUT) {
        r.deadline_ms = life->deadline_ms;
        r.unix_ms = life->unix_ms;
        r.life_index = life->life_index;
    }
    if (live == NULL && model_ghost(m, key) == NULL && k->row_count > 0) {
        m->rows[k->rows[k->row_count - 1]].ends_history = true;
    }
    model_chain(m, key, &r);
    if (k->row_count == k->row_cap) {
        k->row_cap = k->row_cap * 2 + 4;
        k->rows = mem_realloc(k->rows, k->row_cap * sizeof *k->rows);
    }
    if (m->row_count == m->row_cap) {
        m->row_cap = m->row_cap * 2 + 64;
        m->rows = mem_realloc(m->rows, m->row_cap * sizeof *m->rows);
    }
    k->rows[k->row_count++] = m->row_count;
    m->rows[m->row_count++] = (struct model_row){ .row = r, .key = key };
    m->rev = rev;
    return &m->rows[m->row_count - 1].row;
}

/* Compaction made the row superfluous: a later one of its key is not above it, or it is a deletion
 * below it. */
static inline bool model_is_dead(const struct model *m, size_t row)
{
    const struct model_row *r = &m->rows[row];
    if (r->row.op != ROW_PUT && r->row.rev < m->compacted) return true;
    const struct model_key *k = &m->keys[r->key];
    for (size_t i = 0; i + 1 < k->row_count; i++) {
        if (k->rows[i] == row) return m->rows[k->rows[i + 1]].row.rev <= m->compacted;
    }
    return false;
}

static inline void assert_rows_equal(const struct row *a, const struct row *b)
{
    assert_true(a->rev == b->rev);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->type, b->type);
    assert_true(a->create == b->create);
    assert_true(a->version == b->version);
    assert_true(a->prev == b->prev);
    assert_true(a->jump == b->jump);
    assert_int_equal(a->chain, b->chain);
    assert_true(a->lease == b->lease);
    assert_true(a->deadline_ms == b->deadline_ms);
    assert_true(a->unix_ms == b->unix_ms);
    assert_true(a->life_index == b->life_index);
    assert_true(slice_eq(a->key, b->key));
    assert_true(slice_eq(a->value, b->value));
}

/* All rows of all sealed packs are the model's next ones. */
static inline void model_take_packs(struct model *model, struct mvcc *m)
{
    struct mvcc_pack pack;
    while (mvcc_packs_take(m, &pack)) {
        struct slice bytes = blob_slice(pack.body);
        size_t offset = 0;
        assert_int_equal(pack_begin(bytes, &offset), OK);
        uint32_t count = 0;
        for (; offset < bytes.len; count++) {
            struct row got;
            assert_int_equal(row_decode(bytes, &offset, pack.first_rev, &got), OK);
            assert_true(model->rows_seen < model->row_count);
            const struct row *want = &model->rows[model->rows_seen++].row;
            assert_rows_equal(&got, want);
            if (count == 0) assert_true(got.rev == pack.first_rev && got.n == pack.first_n);
            assert_true(offset < bytes.len || got.rev == pack.last_rev);
        }
        assert_int_equal(count, pack.row_count);
        assert_true(bytes.len <= PACK_BYTES_MAX || count == 1);
        blob_unref(pack.body);
    }
}

static inline void assert_entry_is(const struct entry *e, const struct row *r)
{
    assert_non_null(e);
    assert_true(slice_eq(entry_key(e), r->key));
    assert_true(slice_eq(entry_value(e), r->value));
    assert_int_equal(entry_is_ghost(e), r->op != ROW_PUT);
    assert_int_equal(entry_type(e), r->type);
    assert_true(e->mod == r->rev);
    assert_true(e->create == r->create);
    assert_true(e->version == r->version);
    assert_int_equal(e->n, r->n);
    assert_int_equal(e->chain, r->chain);
    assert_true(e->jump == (r->chain == 0 ? r->rev : r->jump));
}

/* The range by iterator in both directions, by count and by nth. */
static inline void model_compare_range(const struct model *model, const struct mvcc *m,
                                       struct slice start, struct slice end, bool ghosts)
{
    size_t *want = mem_alloc((model->key_count + 1) * sizeof *want);
    size_t count = 0;
    size_t live = 0;
    for (size_t i = 0; i < model->key_count; i++) {
        struct slice key = model->keys[i].key;
        if (slice_cmp(key, start) < 0 || (end.len != 0 && slice_cmp(key, end) >= 0)) continue;
        const struct row *r = model_live(model, i);
        if (r != NULL) {
            assert_ptr_equal(mvcc_nth(m, start, end, live), mvcc_find(m, key));
            live++;
        }
        if (r != NULL || (ghosts && model_ghost(model, i) != NULL)) want[count++] = i;
    }
    assert_int_equal(mvcc_count(m, start, end), live);
    assert_null(mvcc_nth(m, start, end, live));
    for (int reverse = 0; reverse < 2; reverse++) {
        struct mvcc_iter it;
        mvcc_iter_init(&it, m, start, end, reverse != 0, ghosts);
        for (size_t i = 0; i < count; i++) {
            size_t key = want[reverse != 0 ? count - 1 - i : i];
            const struct entry *e = mvcc_iter_next(&it);
            assert_entry_is(e, &model_last(model, key)->row);
        }
        assert_null(mvcc_iter_next(&it));
        assert_null(mvcc_iter_next(&it));
    }
    mem_free(want);
}

#endif
