#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/chain.h"

#define IOV_COUNT 1024

/* All bytes of the chain in one piece; the caller frees. */
static uint8_t *flatten(const struct chain *c)
{
    static struct iovec iov[IOV_COUNT];
    uint8_t *all = mem_alloc(chain_bytes(c) + 1);
    size_t len = 0;
    size_t count = chain_iov(c, iov, IOV_COUNT);
    assert_true(count < IOV_COUNT);
    for (size_t i = 0; i < count; i++) {
        assert_true(iov[i].iov_len != 0);
        memcpy(all + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    assert_int_equal(len, chain_bytes(c));
    return all;
}

static void expect_bytes(const struct chain *c, const char *want)
{
    chain_check(c);
    uint8_t *all = flatten(c);
    assert_int_equal(chain_bytes(c), strlen(want));
    assert_memory_equal(all, want, strlen(want));
    mem_free(all);
}

static struct chain_pool pool;

static int setup(void **state)
{
    (void)state;
    chain_pool_init(&pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chain_pool_deinit(&pool);
    return 0;
}

static void test_append_and_consume_in_order(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    chain_append(&c, "hello ", 6);
    chain_append(&c, NULL, 0);
    chain_append(&c, "world", 5);
    expect_bytes(&c, "hello world");
    chain_consume(&c, 4);
    expect_bytes(&c, "o world");
    chain_append(&c, "!", 1);
    expect_bytes(&c, "o world!");
    chain_consume(&c, 8);
    expect_bytes(&c, "");
    chain_deinit(&c);
}

static void test_empty_chain_holds_nothing(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    assert_int_equal(pool.block_used_count, 0);
    chain_append(&c, "x", 1);
    assert_int_equal(pool.block_used_count, 1);
    chain_consume(&c, 1);
    assert_int_equal(pool.block_used_count, 0);
    assert_int_equal(pool.small_count, 1);
    assert_null(c.head);
    assert_null(c.block);
    chain_append(&c, NULL, 0);
    assert_null(c.head);
    chain_deinit(&c);
}

static void test_append_crosses_blocks(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    size_t len = 3 * CHAIN_BLOCK_BYTES + 17;
    uint8_t *want = mem_alloc(len);
    for (size_t i = 0; i < len; i++) want[i] = (uint8_t)(i * 7);
    chain_append(&c, want, len);
    chain_check(&c);
    assert_int_equal(pool.block_used_count, 4);
    for (size_t done = 0; done < len; done += 1000) {
        uint8_t *all = flatten(&c);
        assert_memory_equal(all, want + done, len - done);
        mem_free(all);
        chain_consume(&c, MIN(1000, len - done));
        chain_check(&c);
    }
    assert_int_equal(pool.block_used_count, 0);
    mem_free(want);
}

static void expect_reserve_at_the_end_of(size_t room)
{
    struct chain c;
    chain_init(&c, &pool);
    for (size_t lead = room - 600; lead <= room; lead += 50) {
        uint8_t fill[CHAIN_BLOCK_BYTES] = { 0 };
        chain_append(&c, fill, lead);
        uint8_t *to = chain_reserve(&c, CHAIN_RESERVE_BYTES_MAX);
        memset(to, 'r', CHAIN_RESERVE_BYTES_MAX);
        chain_commit(&c, 100);
        chain_check(&c);
        assert_int_equal(chain_bytes(&c), lead + 100);
        chain_consume(&c, lead);
        uint8_t *all = flatten(&c);
        for (size_t i = 0; i < 100; i++) assert_int_equal(all[i], 'r');
        mem_free(all);
        chain_consume(&c, 100);
        assert_int_equal(pool.block_used_count, 0);
    }
}

static void test_reserve_is_contiguous_at_a_block_end(void **state)
{
    (void)state;
    expect_reserve_at_the_end_of(CHAIN_BLOCK_ROOM);
    expect_reserve_at_the_end_of(CHAIN_SMALL_ROOM);
}

static bool begins_small(struct chain *c)
{
    chain_append(c, "x", 1);
    bool is_small = c->block->room == CHAIN_SMALL_ROOM;
    chain_consume(c, chain_bytes(c));
    return is_small;
}

static void test_first_block_is_as_large_as_what_was_sent(void **state)
{
    (void)state;
    struct chain c;
    uint8_t fill[400] = { 0 };
    chain_init(&c, &pool);
    assert_true(begins_small(&c));
    for (int i = 0; i < 3; i++) chain_append(&c, fill, sizeof fill);
    assert_int_equal(pool.block_used_count, 2);
    chain_consume(&c, chain_bytes(&c));
    for (int i = 0; i < 3; i++) chain_append(&c, fill, sizeof fill);
    assert_int_equal(pool.block_used_count, 1);
    chain_consume(&c, chain_bytes(&c));
    assert_false(begins_small(&c)); /* it does not know yet ... */
    assert_true(begins_small(&c));  /* ... that little comes now */
    chain_deinit(&c);
}

static void test_blobs_are_shared_and_released(void **state)
{
    (void)state;
    struct chain a, b;
    chain_init(&a, &pool);
    chain_init(&b, &pool);
    struct blob *blob = blob_copy(SLICE_LIT("0123456789"));
    chain_append(&a, "<", 1);
    chain_append_blob(&a, blob, 2, 5);
    chain_append(&a, ">", 1);
    chain_append_blob(&a, blob, 0, 0);
    chain_append_blob(&b, blob, 0, 10);
    assert_int_equal(blob->refs, 3);
    blob_unref(blob);
    expect_bytes(&a, "<23456>");
    expect_bytes(&b, "0123456789");
    chain_consume(&a, 3);
    expect_bytes(&a, "456>");
    chain_deinit(&a);
    assert_int_equal(blob->refs, 1);
    chain_deinit(&b);
}

static void test_small_pieces_between_blobs_share_a_block(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    struct blob *blob = blob_copy(SLICE_LIT("payload"));
    for (int i = 0; i < 100; i++) {
        chain_append(&c, "$7\r\n", 4);
        chain_append_blob(&c, blob, 0, 7);
        chain_append(&c, "\r\n", 2);
    }
    chain_check(&c);
    assert_int_equal(pool.block_used_count, 1);
    assert_int_equal(chain_bytes(&c), 1300);
    struct iovec iov[3];
    assert_int_equal(chain_iov(&c, iov, 3), 3);
    assert_int_equal(iov[1].iov_len, 7);
    assert_ptr_equal(iov[1].iov_base, blob->at);
    chain_deinit(&c);
    assert_int_equal(pool.block_used_count, 0);
    blob_unref(blob);
}

static void test_held_bytes_are_of_whole_blocks(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    assert_int_equal(chain_held_bytes(&c), 0);
    chain_append(&c, "+PONG\r\n", 7);
    size_t segment_bytes = sizeof(struct chain_segment);
    assert_int_equal(chain_held_bytes(&c), segment_bytes + CHAIN_SMALL_BYTES);
    struct blob *blob = blob_new(3000);
    blob->len = 3000;
    chain_append_blob(&c, blob, 0, 3000);
    blob_unref(blob);
    chain_append(&c, "\r\n", 2); /* in the block that is there */
    assert_int_equal(chain_held_bytes(&c), 3 * segment_bytes + CHAIN_SMALL_BYTES + 3000);
    static const uint8_t big[CHAIN_BLOCK_BYTES];
    chain_append(&c, big, sizeof big);
    assert_int_equal(chain_held_bytes(&c), 4 * segment_bytes + CHAIN_SMALL_BYTES + 3000 + CHAIN_BLOCK_BYTES);
    chain_deinit(&c);
}

static void test_move(void **state)
{
    (void)state;
    struct chain to, from;
    chain_init(&to, &pool);
    chain_init(&from, &pool);
    chain_move(&to, &from); /* nothing to nothing */
    expect_bytes(&to, "");

    chain_append(&from, "one", 3);
    chain_move(&to, &from); /* to an empty one */
    expect_bytes(&to, "one");
    expect_bytes(&from, "");

    chain_append(&from, "two", 3);
    chain_move(&to, &from); /* small: copied, the block comes back */
    expect_bytes(&to, "onetwo");
    assert_int_equal(pool.block_used_count, 1);

    uint8_t big[CHAIN_MOVE_COPY_BYTES_MAX + 1];
    memset(big, 'b', sizeof big);
    chain_append(&from, big, sizeof big);
    chain_move(&to, &from); /* linked */
    chain_append(&to, "end", 3);
    chain_append(&from, "new", 3);
    chain_check(&to);
    expect_bytes(&from, "new");
    assert_int_equal(chain_bytes(&to), 6 + sizeof big + 3);
    chain_consume(&to, 6 + sizeof big);
    expect_bytes(&to, "end");

    struct blob *blob = blob_new(1000);
    memset(blob->at, 'x', 1000);
    blob->len = 1000;
    chain_append_blob(&from, blob, 0, 1000);
    blob_unref(blob);
    chain_move(&to, &from); /* ends in a blob, with an open block before it */
    chain_append(&to, "tail", 4);
    chain_check(&to);
    assert_int_equal(chain_bytes(&to), 3 + 3 + 1000 + 4);
    chain_consume(&to, 1006);
    expect_bytes(&to, "tail");
    chain_deinit(&to);
    chain_deinit(&from);
    assert_int_equal(pool.block_used_count, 0);
}

/* Random operations on two chains against plain arrays. */
static void test_random_against_a_model(void **state)
{
    (void)state;
    static uint8_t model[2][1 << 20];
    size_t model_len[2] = { 0, 0 };
    struct chain c[2];
    chain_init(&c[0], &pool);
    chain_init(&c[1], &pool);
    uint64_t seed = 12345;
    uint8_t next_byte = 0;
    for (int step = 0; step < 20000; step++) {
        seed = u64_mix(seed + 1);
        size_t k = seed & 1;
        size_t n = (seed >> 8) % ((seed >> 40) % 10 == 0 ? 20000 : 300);
        uint8_t piece[20000];
        for (size_t i = 0; i < n; i++) piece[i] = next_byte++;
        switch ((seed >> 4) % 6) {
        case 0:
        case 1:
            chain_append(&c[k], piece, n);
            break;
        case 2:
            n = MIN(n, CHAIN_RESERVE_BYTES_MAX);
            if (n == 0) break;
            memcpy(chain_reserve(&c[k], n), piece, n);
            chain_commit(&c[k], n);
            break;
        case 3: {
            struct blob *blob = blob_copy((struct slice){ piece, n });
            chain_append_blob(&c[k], blob, 0, n);
            blob_unref(blob);
            break;
        }
        case 4:
            n = (seed >> 16) % (model_len[k] + 1);
            chain_consume(&c[k], n);
            memmove(model[k], model[k] + n, model_len[k] - n);
            model_len[k] -= n;
            n = 0;
            break;
        default:
            n = 0;
            if (model_len[0] + model_len[1] > sizeof model[0]) break;
            chain_move(&c[k], &c[1 - k]);
            memcpy(model[k] + model_len[k], model[1 - k], model_len[1 - k]);
            model_len[k] += model_len[1 - k];
            model_len[1 - k] = 0;
            break;
        }
        memcpy(model[k] + model_len[k], piece, n);
        model_len[k] += n;
        chain_check(&c[0]);
        chain_check(&c[1]);
        assert_int_equal(chain_bytes(&c[k]), model_len[k]);
        if (model_len[k] > (1 << 20) - 50000) {
            chain_consume(&c[k], model_len[k]);
            model_len[k] = 0;
        }
        if (step % 16 == 0) {
            uint8_t *all = flatten(&c[k]);
            assert_memory_equal(all, model[k], model_len[k]);
            mem_free(all);
        }
    }
    chain_deinit(&c[0]);
    chain_deinit(&c[1]);
    assert_int_equal(pool.block_used_count, 0);
}

static void test_pool_keeps_a_bounded_number(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    uint8_t fill[CHAIN_BLOCK_BYTES] = { 0 };
    for (size_t i = 0; i < CHAIN_POOL_BLOCK_COUNT_MAX + 20; i++) {
        chain_append(&c, fill, CHAIN_BLOCK_ROOM);
    }
    assert_int_equal(pool.block_used_count, CHAIN_POOL_BLOCK_COUNT_MAX + 20);
    chain_deinit(&c);
    assert_int_equal(pool.block_used_count, 0);
    assert_int_equal(pool.block_count, CHAIN_POOL_BLOCK_COUNT_MAX);
    chain_pool_trim(&pool);
    assert_int_equal(pool.block_count, CHAIN_POOL_BLOCK_COUNT_IDLE);
    chain_append(&c, fill, CHAIN_BLOCK_ROOM);
    chain_pool_trim(&pool);
    assert_int_equal(pool.block_count, CHAIN_POOL_BLOCK_COUNT_IDLE - 1);
    chain_deinit(&c);

    static struct chain many[CHAIN_POOL_SMALL_COUNT_MAX + 20];
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        chain_init(&many[i], &pool);
        chain_append(&many[i], "x", 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(many); i++) chain_deinit(&many[i]);
    assert_int_equal(pool.small_count, CHAIN_POOL_SMALL_COUNT_MAX);
    chain_pool_trim(&pool);
    assert_int_equal(pool.small_count, CHAIN_POOL_SMALL_COUNT_IDLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_append_and_consume_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_chain_holds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_append_crosses_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reserve_is_contiguous_at_a_block_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_block_is_as_large_as_what_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobs_are_shared_and_released, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_pieces_between_blobs_share_a_block, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_held_bytes_are_of_whole_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_against_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool_keeps_a_bounded_number, setup, teardown),
    };
    return cmocka_run_group_tests_name("base/chain", tests, NULL, NULL);
}
