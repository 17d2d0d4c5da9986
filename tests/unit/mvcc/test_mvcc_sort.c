/* Sorting for the bulk load: every kind of tie. */
#include "mvcc/mvcc_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void item_set(struct tree_item *item, const void *key, size_t len)
{
    struct entry *e = mem_zalloc(sizeof *e + len);
    e->key_bytes = (uint16_t)len;
    if (len != 0) memcpy(e->data, key, len);
    item->entry = e;
}

/* Sorts them out of a random order, checks that they ascend strictly, frees them. */
static void sort_and_check(struct tree_item *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t at = (size_t)(u64_mix(i * 977) % i);
        struct tree_item swap = items[i - 1];
        items[i - 1] = items[at];
        items[at] = swap;
    }
    mvcc_sort(items, count);
    for (size_t i = 1; i < count; i++) {
        assert_true(slice_cmp(entry_key(items[i - 1].entry), entry_key(items[i].entry)) < 0);
    }
    for (size_t i = 0; i < count; i++) mem_free(items[i].entry);
    mem_free(items);
}

static void test_few(void **state)
{
    (void)state;
    mvcc_sort(NULL, 0);
    for (size_t count = 1; count < 40; count++) {
        struct tree_item *items = mem_zalloc(count * sizeof *items);
        for (size_t i = 0; i < count; i++) {
            uint8_t key = (uint8_t)(i * 37);
            item_set(&items[i], &key, 1);
        }
        sort_and_check(items, count);
    }
}

static void test_shared_beginnings(void **state)
{
    (void)state;
    size_t count = 20000;
    struct tree_item *items = mem_zalloc(count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        char key[200];
        int len = snprintf(key, sizeof key, "/registry/%s/long-name-of-a-namespace-%zu/object-%zu",
                           i % 2 != 0 ? "pods" : "services/endpoints", i % 7, i);
        item_set(&items[i], key, (size_t)len);
    }
    sort_and_check(items, count);
}

/* Zeros at the end look like padding of a head: lengths decide. */
static void test_zeros(void **state)
{
    (void)state;
    static const uint8_t zeros[3000];
    size_t count = 3000;
    struct tree_item *items = mem_zalloc(count * sizeof *items);
    for (size_t i = 0; i < count; i++) item_set(&items[i], zeros, i);
    sort_and_check(items, count);

    items = mem_zalloc(4096 * sizeof *items);
    for (size_t i = 0; i < 4096; i++) { /* all strings of 11 bits and a length, nearly */
        uint8_t key[12];
        for (size_t bit = 0; bit < 12; bit++) key[bit] = (uint8_t)(i >> bit & 1);
        item_set(&items[i], key, 12);
    }
    sort_and_check(items, 4096);
}

/* Each level peels only a few keys off: deeper than the limit of levels. */
static void test_keys_made_to_nest(void **state)
{
    (void)state;
    size_t count = 2000;
    struct tree_item *items = mem_zalloc(count * sizeof *items);
    uint8_t key[2 * 1000 + 1];
    memset(key, 'a', sizeof key);
    for (size_t i = 0; i < count; i++) {
        size_t at = i / 2 * 2;
        key[at] = i % 2 != 0 ? 'b' : 'c';
        item_set(&items[i], key, at + 1);
        key[at] = 'a';
    }
    sort_and_check(items, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_shared_beginnings),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_keys_made_to_nest),
    };
    return cmocka_run_group_tests_name("mvcc/mvcc_sort", tests, NULL, NULL);
}
