/* The growing buffer against a plain array, and the counted blob. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"

#define MODEL_BYTES_MAX 200000

static void test_buf_holds_what_was_appended_and_not_consumed(void **state)
{
    (void)state;
    static uint8_t model[MODEL_BYTES_MAX];
    size_t model_len = 0;
    struct buf b = { 0 };
    uint64_t draw = 3;
    uint8_t chunk[3000];
    for (int round = 0; round < 3000; round++) {
        draw = u64_mix(draw + (uint64_t)round);
        size_t len = draw % (draw % 7 == 0 ? sizeof chunk : 20);
        if (draw % 3 != 0 && model_len + len <= sizeof model) {
            for (size_t i = 0; i < len; i++) chunk[i] = (uint8_t)(draw >> (i % 56));
            buf_append(&b, chunk, len);
            if (len > 0) memcpy(model + model_len, chunk, len);
            model_len += len;
        } else {
            len = MIN(len, model_len);
            buf_consume(&b, len);
            memmove(model, model + len, model_len - len);
            model_len -= len;
        }
        assert_int_equal(b.len, model_len);
        assert_true(b.cap >= b.len);
        if (model_len > 0) assert_memory_equal(b.at, model, model_len);
    }
    buf_deinit(&b);
    assert_null(b.at);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, 0);
}

static void test_buf_appends_nothing_to_nothing(void **state)
{
    (void)state;
    struct buf b = { 0 };
    buf_append(&b, NULL, 0);
    buf_append_slice(&b, SLICE_NONE);
    buf_consume(&b, 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_slice(&b).len, 0);
    buf_deinit(&b);
    buf_deinit(&b); /* twice does no harm */
}

static void test_buf_reserve_gives_room_and_keeps_what_is_there(void **state)
{
    (void)state;
    struct buf b = { 0 };
    buf_append(&b, "abc", 3);
    static const size_t sizes[] = { 0, 1, 61, 62, 64, 4096, 1u << 20, (1u << 20) + 1, 3u << 20 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t *room = buf_reserve(&b, sizes[i]);
        assert_ptr_equal(room, b.at + 3);
        assert_true(b.cap - b.len >= sizes[i]);
        assert_int_equal(b.len, 3);
        if (sizes[i] > 0) memset(room, 0x5a, sizes[i]);
        assert_memory_equal(b.at, "abc", 3);
    }
    size_t cap = b.cap;
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap); /* kept for the next turn */
    buf_deinit(&b);
}

static void test_buf_appends_numbers_in_pinned_order(void **state)
{
    (void)state;
    static const uint8_t want[] = {
        0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d,
        0x0c, 0x0b, 0x0a, 0x09, 0x08, 0xac, 0x02,
    };
    struct buf b = { 0 };
    buf_append_u8(&b, 0x01);
    buf_append_u16(&b, 0x0203);
    buf_append_u32(&b, 0x04050607);
    buf_append_u64(&b, 0x08090a0b0c0d0e0fULL);
    buf_append_varint(&b, 300);
    assert_int_equal(b.len, sizeof want);
    assert_memory_equal(b.at, want, sizeof want);
    buf_deinit(&b);
}

static void test_buf_printf_appends_without_an_end_mark(void **state)
{
    (void)state;
    struct buf b = { 0 };
    buf_printf(&b, "%s", "");
    assert_int_equal(b.len, 0);
    buf_printf(&b, "%d-%s", -5, "x");
    buf_printf(&b, "%s", "|");
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.at, "-5-x|", 5);
    char text[5000];
    memset(text, 'q', sizeof text);
    text[sizeof text - 1] = '\0';
    buf_printf(&b, "<%s>", text);
    assert_int_equal(b.len, 5 + 2 + sizeof text - 1);
    assert_int_equal(b.at[5], '<');
    assert_memory_equal(b.at + 6, text, sizeof text - 1);
    assert_int_equal(b.at[b.len - 1], '>');
    buf_deinit(&b);
}

/* Whether it is freed with the last reference, and not before, is for the address sanitizer. */
static void test_blob_lives_until_its_last_reference(void **state)
{
    (void)state;
    struct blob *b = blob_copy(SLICE_LIT("value"));
    assert_int_equal(b->refs, 1);
    struct blob *same = blob_ref(b);
    assert_ptr_equal(same, b);
    assert_int_equal(b->refs, 2);
    blob_unref(b);
    assert_int_equal(same->refs, 1);
    assert_true(slice_eq(blob_slice(same), SLICE_LIT("value")));
    blob_unref(same);
    blob_unref(NULL);

    struct blob *empty = blob_copy(SLICE_NONE);
    assert_int_equal(blob_slice(empty).len, 0);
    blob_unref(empty);

    struct blob *room = blob_new(1000);
    assert_int_equal(room->len, 0);
    assert_int_equal(room->cap, 1000);
    memset(room->at, 1, room->cap);
    blob_unref(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_holds_what_was_appended_and_not_consumed),
        cmocka_unit_test(test_buf_appends_nothing_to_nothing),
        cmocka_unit_test(test_buf_reserve_gives_room_and_keeps_what_is_there),
        cmocka_unit_test(test_buf_appends_numbers_in_pinned_order),
        cmocka_unit_test(test_buf_printf_appends_without_an_end_mark),
        cmocka_unit_test(test_blob_lives_until_its_last_reference),
    };
    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
