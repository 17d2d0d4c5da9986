/* The tree against a sorted array: order, counts, splits and joins, heads and shared prefixes. */
#include "mvcc/mvcc_tree_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct entry *entry_of(struct slice key)
{
    struct entry *e = mem_zalloc(sizeof *e + key.len);
    e->key_bytes = (uint16_t)key.len;
    if (key.len != 0) memcpy(e->data, key.at, key.len);
    return e;
}

/* A sorted array: the model. Owns the entries. */
struct model {
    struct entry **at;
    size_t count, cap;
};

static size_t model_below(const struct model *m, struct slice key)
{
    size_t low = 0;
    size_t high = m->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (slice_cmp(entry_key(m->at[mid]), key) < 0) low = mid + 1;
        else high = mid;
    }
    return low;
}

static void model_put(struct model *m, size_t at, struct entry *e)
{
    if (m->count == m->cap) {
        m->cap = m->cap * 2 + 16;
        m->at = mem_realloc(m->at, m->cap * sizeof *m->at);
    }
    memmove(m->at + at + 1, m->at + at, (m->count - at) * sizeof *m->at);
    m->at[at] = e;
    m->count++;
}

static void model_drop(struct model *m, size_t at)
{
    mem_free(m->at[at]);
    m->count--;
    memmove(m->at + at, m->at + at + 1, (m->count - at) * sizeof *m->at);
}

static void model_free(struct model *m)
{
    for (size_t i = 0; i < m->count; i++) mem_free(m->at[i]);
    mem_free(m->at);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15ULL;
    return u64_mix(*seed);
}

/* Kinds of keys that break trees: short ones, long shared prefixes, zeros at the end. */
static struct slice random_key(uint64_t *seed, int kind, uint8_t *room)
{
    uint64_t r = next_random(seed);
    int len = 0;
    switch (kind) {
    case 0: return (struct slice){ room, (size_t)snprintf((char *)room, 64, "key:%llu",
                                                          (unsigned long long)(r % 3000)) };
    case 1: /* two letters: many keys that are prefixes of others */
        len = (int)(r % 12);
        for (int i = 0; i < len; i++) room[i] = (uint8_t)((r >> (8 + i)) & 1);
        return (struct slice){ room, (size_t)len };
    case 2: /* ties in every head: 100 shared bytes, different ones in the middle and at the end */
        memset(room, 'p', 100);
        room[(r >> 8) % 4 * 25] = (uint8_t)('a' + (r >> 16) % 3);
        len = snprintf((char *)room + 100, 64, "%llu", (unsigned long long)(r >> 24) % 500);
        return (struct slice){ room, 100 + (size_t)len };
    default: /* a tree of directories */
        len = snprintf((char *)room, 128, "/registry/%s/namespace-%u/object-%04u",
                       r % 2 != 0 ? "pods" : "services", (unsigned)(r >> 8) % 8,
                       (unsigned)(r >> 16) % 400);
        return (struct slice){ room, (size_t)len };
    }
}

static void compare(const struct mvcc_tree *t, const struct model *m, struct slice key)
{
    size_t below = model_below(m, key);
    uint64_t rank = 0;
    for (size_t i = 0; i < below; i++) rank += !entry_is_ghost(m->at[i]);
    assert_int_equal(mvcc_tree_rank(t, key), rank);

    struct tree_spot spot = mvcc_tree_seek(t, key);
    if (spot.slot == spot.leaf->count && spot.leaf->next != NULL) {
        spot = (struct tree_spot){ spot.leaf->next, 0 };
    }
    if (below < m->count) assert_ptr_equal(spot.leaf->entries[spot.slot], m->at[below]);
    else assert_int_equal(spot.slot, spot.leaf->count);

    size_t at = below;
    while (at < m->count && entry_is_ghost(m->at[at])) at++;
    assert_ptr_equal(mvcc_tree_at_rank(t, rank), at < m->count ? m->at[at] : NULL);
}

static void step(struct mvcc_tree *t, struct model *m, uint64_t *seed, int kind, unsigned grow)
{
    uint8_t room[256];
    struct slice key = random_key(seed, kind, room);
    size_t at = model_below(m, key);
    bool there = at < m->count && slice_eq(entry_key(m->at[at]), key);
    unsigned dice = (unsigned)(next_random(seed) % 100);
    if (!there && dice < grow) {
        struct entry *e = entry_of(key);
        e->flags = dice % 5 == 0 ? ENTRY_GHOST : 0;
        mvcc_tree_insert(t, e);
        model_put(m, at, e);
    } else if (there && dice >= grow) {
        mvcc_tree_remove(t, m->at[at]);
        model_drop(m, at);
    } else if (there && dice % 2 == 0) { /* dies or comes back */
        m->at[at]->flags ^= ENTRY_GHOST;
        mvcc_tree_update(t, m->at[at], m->at[at]);
    } else if (there) { /* moves */
        struct entry *moved = entry_of(key);
        moved->flags = m->at[at]->flags;
        mvcc_tree_update(t, m->at[at], moved);
        mem_free(m->at[at]);
        m->at[at] = moved;
    }
    compare(t, m, key);
}

static void test_random_changes_match_the_model(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        uint64_t seed = 1000 + (uint64_t)kind;
        struct mvcc_tree t;
        struct model m = { 0 };
        mvcc_tree_init(&t);
        for (unsigned i = 0; i < 30000; i++) {
            step(&t, &m, &seed, kind, i / 6000 % 2 == 0 ? 90 : 20); /* grows, shrinks, grows ... */
            if (i % 997 == 0) mvcc_tree_check(&t);
        }
        mvcc_tree_check(&t);
        while (m.count > 0) {
            size_t at = (size_t)(next_random(&seed) % m.count);
            mvcc_tree_remove(&t, m.at[at]);
            model_drop(&m, at);
            if (m.count % 101 == 0) mvcc_tree_check(&t);
        }
        mvcc_tree_check(&t);
        assert_int_equal(t.height, 0);
        assert_ptr_equal(t.first, t.last);
        mvcc_tree_deinit(&t);
        model_free(&m);
    }
}

static void numbers_insert(struct mvcc_tree *t, struct model *m, const char *prefix,
                           const char *suffix, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s%08zu%s", prefix, i, suffix);
        struct entry *e = entry_of(slice_of(text));
        mvcc_tree_insert(t, e);
        model_put(m, model_below(m, slice_of(text)), e);
    }
}

static size_t leaf_count(const struct mvcc_tree *t)
{
    size_t count = 0;
    for (const struct tree_leaf *l = t->first; l != NULL; l = l->next) count++;
    return count;
}

static void test_ascending_keys_fill_their_leaves(void **state)
{
    (void)state;
    struct mvcc_tree t;
    struct model m = { 0 };
    mvcc_tree_init(&t);
    numbers_insert(&t, &m, "/m/queue/", "", 62 * 100);
    assert_int_equal(leaf_count(&t), 100);
    numbers_insert(&t, &m, "/a/queue/", "", 62 * 100); /* not at the right edge */
    assert_true(leaf_count(&t) <= 205);
    mvcc_tree_check(&t);
    mvcc_tree_deinit(&t);
    model_free(&m);
}

static void test_removal_gives_leaves_back(void **state)
{
    (void)state;
    struct mvcc_tree t;
    struct model m = { 0 };
    mvcc_tree_init(&t);
    numbers_insert(&t, &m, "", "", 62 * 100);
    for (size_t i = 0; i < 62 * 100; i++) { /* of every 16 entries one stays */
        if (i % 16 != 0) mvcc_tree_remove(&t, m.at[i]);
    }
    mvcc_tree_check(&t);
    assert_int_equal(t.count, 388);
    assert_true(leaf_count(&t) <= 40);
    mvcc_tree_deinit(&t);
    model_free(&m);
}

static void test_built_in_bulk_like_inserted(void **state)
{
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 60, 61, 62, 63, 3360, 3361, 20000 };
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct mvcc_tree t;
        struct model m = { 0 };
        mvcc_tree_init(&t);
        for (size_t i = 0; i < counts[c]; i++) {
            char text[64];
            snprintf(text, sizeof text, "/some/prefix/%08zu", i * 2);
            struct entry *e = entry_of(slice_of(text));
            e->flags = i % 7 == 3 ? ENTRY_GHOST : 0;
            model_put(&m, i, e);
        }
        struct tree_item *items = mem_alloc((m.count + 1) * sizeof *items);
        for (size_t i = 0; i < m.count; i++) items[i] = (struct tree_item){ 0, m.at[i] };
        mvcc_tree_build(&t, items, m.count);
        mem_free(items);
        mvcc_tree_check(&t);
        assert_int_equal(t.count, counts[c]);
        for (size_t i = 0; i < counts[c]; i += 1 + counts[c] / 50) {
            compare(&t, &m, entry_key(m.at[i]));
        }
        compare(&t, &m, SLICE_NONE);
        compare(&t, &m, SLICE_LIT("/some/prefiy"));
        compare(&t, &m, SLICE_LIT("/some/prefix/00000001"));
        numbers_insert(&t, &m, "/some/prefix/", "x", counts[c]); /* and it goes on working */
        mvcc_tree_check(&t);
        mvcc_tree_deinit(&t);
        model_free(&m);
    }
}

static void test_long_keys(void **state)
{
    (void)state;
    struct mvcc_tree t;
    struct model m = { 0 };
    mvcc_tree_init(&t);
    uint8_t *key = mem_zalloc(MVCC_KEY_BYTES_MAX);
    uint64_t seed = 5;
    for (size_t i = 0; i < 400; i++) {
        size_t len = i % 10 == 0 ? MVCC_KEY_BYTES_MAX : 4096;
        uint64_t r = next_random(&seed);
        memset(key, 'x', len);
        u64_be_put(key + 4000 + r % 80, r);
        struct slice s = { key, len };
        struct entry *e = entry_of(s);
        mvcc_tree_insert(&t, e);
        model_put(&m, model_below(&m, s), e);
        compare(&t, &m, s);
    }
    mvcc_tree_check(&t);
    mvcc_tree_deinit(&t);
    model_free(&m);
    mem_free(key);
}

static void test_heads(void **state)
{
    (void)state;
    struct slice key = SLICE_LIT("abcdefghij");
    assert_true(key_head(key, 0) == 0x6162636465666768ULL);
    assert_true(key_head(key, 2) == 0x636465666768696aULL);
    assert_true(key_head(key, 3) == 0x6465666768696a00ULL);
    assert_true(key_head(key, 9) == 0x6a00000000000000ULL);
    assert_true(key_head(key, 10) == 0);
    assert_true(key_head(key, 99) == 0);
    assert_true(key_head(SLICE_LIT("abc"), 1) == 0x6263000000000000ULL);
    assert_int_equal(key_common_bytes(key, SLICE_LIT("abcdefghijk")), 10);
    assert_int_equal(key_common_bytes(key, SLICE_LIT("abcdefghiX")), 9);
    assert_int_equal(key_common_bytes(key, SLICE_LIT("abX")), 2);
    assert_int_equal(key_common_bytes(key, SLICE_LIT("aXcdefgh")), 1);
    assert_int_equal(key_common_bytes(key, SLICE_NONE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes_match_the_model),
        cmocka_unit_test(test_ascending_keys_fill_their_leaves),
        cmocka_unit_test(test_removal_gives_leaves_back),
        cmocka_unit_test(test_built_in_bulk_like_inserted),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_heads),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_tree", tests, NULL, NULL);
}
