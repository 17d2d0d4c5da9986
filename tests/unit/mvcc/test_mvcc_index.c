/* The hash: finds what was put, splits one segment at a time, survives removal and replacement. */
#include "mvcc/mvcc_index_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define KEYS 20000

static struct entry *entry_of(const char *text)
{
    size_t len = strlen(text);
    struct entry *e = mem_zalloc(sizeof *e + len);
    e->key_bytes = (uint16_t)len;
    memcpy(e->data, text, len);
    return e;
}

static struct entry *numbered(size_t i)
{
    char text[32];
    snprintf(text, sizeof text, "key:%zu", i);
    return entry_of(text);
}

static struct entry *find(const struct mvcc_index *x, struct slice key)
{
    uint64_t hash = mvcc_index_hash(x, key);
    mvcc_index_prefetch_slot(x, hash);
    mvcc_index_prefetch_entry(x, hash);
    uint64_t *slot = mvcc_index_find(x, hash, key);
    return slot == NULL ? NULL : index_slot_entry(*slot);
}

static void insert(struct mvcc_index *x, struct entry *e)
{
    mvcc_index_insert(x, mvcc_index_hash(x, entry_key(e)), e);
}

static void test_empty_index_finds_nothing(void **state)
{
    (void)state;
    struct mvcc_index x;
    mvcc_index_init(&x, 1);
    assert_null(find(&x, SLICE_LIT("k")));
    assert_null(find(&x, SLICE_NONE));
    struct mvcc_index_walk walk = { 0 };
    assert_null(mvcc_index_next(&x, &walk));
    mvcc_index_check(&x);
    mvcc_index_deinit(&x);
}

static void fill_and_check(uint64_t reserve)
{
    static struct entry *all[KEYS];
    struct mvcc_index x;
    mvcc_index_init(&x, 42);
    mvcc_index_reserve(&x, reserve);
    for (size_t i = 0; i < KEYS; i++) {
        all[i] = numbered(i);
        insert(&x, all[i]);
        if (i == 64 || i == 65 || i % 4999 == 0) mvcc_index_check(&x);
    }
    for (size_t i = 0; i < KEYS; i++) assert_ptr_equal(find(&x, entry_key(all[i])), all[i]);
    assert_null(find(&x, SLICE_LIT("key:")));
    assert_int_equal(x.count, KEYS);

    for (size_t i = 0; i < KEYS; i += 2) { /* every second one goes */
        uint64_t hash = mvcc_index_hash(&x, entry_key(all[i]));
        mvcc_index_remove(&x, hash, mvcc_index_find(&x, hash, entry_key(all[i])));
    }
    mvcc_index_check(&x);
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(find(&x, entry_key(all[i])), i % 2 == 0 ? NULL : all[i]);
    }
    for (size_t i = 0; i < KEYS; i += 2) insert(&x, all[i]);
    mvcc_index_check(&x);

    size_t walked = 0;
    struct mvcc_index_walk walk = { 0 };
    for (struct entry *e = NULL; (e = mvcc_index_next(&x, &walk)) != NULL;) {
        ASSERT(e->version == 0);
        e->version = 1; /* seen */
        walked++;
    }
    assert_int_equal(walked, KEYS);
    mvcc_index_deinit(&x);
    for (size_t i = 0; i < KEYS; i++) mem_free(all[i]);
}

static void test_grown_by_splits(void **state)
{
    (void)state;
    fill_and_check(0);
}

static void test_reserved_ahead(void **state)
{
    (void)state;
    fill_and_check(KEYS);
}

/* A split touches the full segment and its new half only. */
static void test_split_leaves_other_segments_alone(void **state)
{
    (void)state;
    struct mvcc_index x;
    mvcc_index_init(&x, 7);
    mvcc_index_reserve(&x, 1000);
    static struct entry *all[4000];
    uint32_t depth = x.depth;
    size_t at = 0;
    for (; x.depth == depth; at++) {
        assert_true(at < ARRAY_LEN(all));
        all[at] = numbered(at);
        uint64_t before[16];
        memcpy(before, x.directory, sizeof before);
        insert(&x, all[at]);
        if (x.depth == depth) {
            assert_memory_equal(before, x.directory, sizeof before);
            continue;
        }
        size_t moved = 0;
        for (size_t i = 0; i < 32; i++) moved += x.directory[i] != before[i % 16];
        assert_int_equal(moved, 2); /* the two words of the one segment: new depth, new half */
    }
    mvcc_index_check(&x);
    mvcc_index_deinit(&x);
    for (size_t i = 0; i < at; i++) mem_free(all[i]);
}

/* Bytes that cancel a constant of the hash must not take the rest of the key with them: such keys
 * would all have one hash, and the directory would double without end. */
static void test_keys_made_to_collide_do_not(void **state)
{
    (void)state;
    struct mvcc_index x;
    mvcc_index_init(&x, 0x0123456789abcdefULL);
    static struct entry *all[2000];
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct entry *e = mem_zalloc(sizeof *e + 48);
        e->key_bytes = 48;
        u64_le_put(e->data + 1, i);
        u64_le_put(e->data + 16, 0xa0761d6478bd642fULL);
        all[i] = e;
        insert(&x, e);
    }
    assert_true(x.depth <= 9);
    mvcc_index_check(&x);
    mvcc_index_deinit(&x);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) mem_free(all[i]);
}

static void test_replaced_entry_is_found(void **state)
{
    (void)state;
    struct mvcc_index x;
    mvcc_index_init(&x, 1);
    struct entry *a = entry_of("same");
    struct entry *b = entry_of("same");
    insert(&x, a);
    uint64_t hash = mvcc_index_hash(&x, entry_key(a));
    mvcc_index_replace(&x, mvcc_index_find(&x, hash, entry_key(a)), b);
    assert_ptr_equal(find(&x, SLICE_LIT("same")), b);
    mvcc_index_check(&x);
    mvcc_index_deinit(&x);
    mem_free(a);
    mem_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_index_finds_nothing),
        cmocka_unit_test(test_grown_by_splits),
        cmocka_unit_test(test_reserved_ahead),
        cmocka_unit_test(test_split_leaves_other_segments_alone),
        cmocka_unit_test(test_keys_made_to_collide_do_not),
        cmocka_unit_test(test_replaced_entry_is_found),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_index", tests, NULL, NULL);
}
