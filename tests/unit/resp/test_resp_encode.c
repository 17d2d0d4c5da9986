#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "resp/resp.h"

struct fixture {
    struct chain_pool pool;
    struct chain out;
    struct reply r[4]; /* [2] and [3] are used: by protocol */
};

static int setup(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    chain_pool_init(&f->pool);
    chain_init(&f->out, &f->pool);
    f->r[2] = reply_to(&f->out, 2);
    f->r[3] = reply_to(&f->out, 3);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    chain_deinit(&f->out);
    chain_pool_deinit(&f->pool);
    mem_free(f);
    return 0;
}

/* Compares what was written since the last call. */
static void expect(struct fixture *f, struct slice want)
{
    struct iovec iov[64];
    size_t count = chain_iov(&f->out, iov, ARRAY_LEN(iov));
    struct buf got = { 0 };
    for (size_t i = 0; i < count; i++) buf_append(&got, iov[i].iov_base, iov[i].iov_len);
    if (!slice_eq(buf_slice(&got), want)) {
        fail_msg("got %.*s, want %.*s", (int)got.len, (const char *)got.at, (int)want.len,
                 (const char *)want.at);
    }
    buf_deinit(&got);
    chain_check(&f->out);
    chain_consume(&f->out, chain_bytes(&f->out));
}

#define EXPECT_BOTH(call_on, two, three) \
    do { \
        struct reply *r = &f->r[2]; \
        call_on; \
        expect(f, SLICE_LIT(two)); \
        r = &f->r[3]; \
        call_on; \
        expect(f, SLICE_LIT(three)); \
    } while (0)

static void test_both_protocols(void **state)
{
    struct fixture *f = *state;
    EXPECT_BOTH(reply_ok(r), "+OK\r\n", "+OK\r\n");
    EXPECT_BOTH(reply_simple(r, SLICE_LIT("PONG")), "+PONG\r\n", "+PONG\r\n");
    EXPECT_BOTH(reply_simple(r, SLICE_LIT("")), "+\r\n", "+\r\n");
    EXPECT_BOTH(reply_int(r, 0), ":0\r\n", ":0\r\n");
    EXPECT_BOTH(reply_bulk(r, SLICE_LIT("a\r\nb")), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
    EXPECT_BOTH(reply_bulk(r, SLICE_NONE), "$0\r\n\r\n", "$0\r\n\r\n");
    EXPECT_BOTH(reply_bulk_cstr(r, "text"), "$4\r\ntext\r\n", "$4\r\ntext\r\n");
    EXPECT_BOTH(reply_bulk_int(r, -120), "$4\r\n-120\r\n", "$4\r\n-120\r\n");
    EXPECT_BOTH(reply_null(r), "$-1\r\n", "_\r\n");
    EXPECT_BOTH(reply_null_array(r), "*-1\r\n", "_\r\n");
    EXPECT_BOTH(reply_array(r, 0), "*0\r\n", "*0\r\n");
    EXPECT_BOTH(reply_array(r, 12), "*12\r\n", "*12\r\n");
    EXPECT_BOTH(reply_map(r, 7), "*14\r\n", "%7\r\n");
    EXPECT_BOTH(reply_map(r, 0), "*0\r\n", "%0\r\n");
    EXPECT_BOTH(reply_set(r, 2), "*2\r\n", "~2\r\n");
    EXPECT_BOTH(reply_push(r, 3), "*3\r\n", ">3\r\n");
    EXPECT_BOTH(reply_verbatim(r, SLICE_LIT("role:x")), "$6\r\nrole:x\r\n",
                "=10\r\ntxt:role:x\r\n");
    EXPECT_BOTH(reply_verbatim(r, SLICE_NONE), "$0\r\n\r\n", "=4\r\ntxt:\r\n");
    EXPECT_BOTH(reply_bool(r, true), ":1\r\n", "#t\r\n");
    EXPECT_BOTH(reply_bool(r, false), ":0\r\n", "#f\r\n");
    EXPECT_BOTH(reply_double(r, 3.5), "$3\r\n3.5\r\n", ",3.5\r\n");
    EXPECT_BOTH(reply_double(r, 0.1), "$3\r\n0.1\r\n", ",0.1\r\n");
    EXPECT_BOTH(reply_double(r, 1.0 / 3), "$18\r\n0.3333333333333333\r\n",
                ",0.3333333333333333\r\n");
    EXPECT_BOTH(reply_double(r, 1e300), "$6\r\n1e+300\r\n", ",1e+300\r\n");
    EXPECT_BOTH(reply_double(r, -0.0), "$2\r\n-0\r\n", ",-0\r\n");
    EXPECT_BOTH(reply_double(r, (double)INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    EXPECT_BOTH(reply_double(r, -(double)INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    EXPECT_BOTH(reply_double(r, (double)NAN), "$3\r\nnan\r\n", ",nan\r\n");
    EXPECT_BOTH(reply_raw(r, SLICE_LIT("*1\r\n:1\r\n")), "*1\r\n:1\r\n", "*1\r\n:1\r\n");
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct reply *r = &f->r[2];
    reply_err(r, ERR_WRONGTYPE);
    expect(f, SLICE_LIT("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"));
    reply_err(r, ERR_NOAUTH);
    expect(f, SLICE_LIT("-NOAUTH Authentication required.\r\n"));
    reply_error(r, "ERR", "wrong number of arguments for '%s' command", "get");
    expect(f, SLICE_LIT("-ERR wrong number of arguments for 'get' command\r\n"));
    reply_error(r, "ERR", "unknown command '%s'", "a\r\n+OK\r\n\nb");
    expect(f, SLICE_LIT("-ERR unknown command 'a  +OK   b'\r\n"));
    reply_simple(r, SLICE_LIT("a\r\n-b"));
    expect(f, SLICE_LIT("+a  -b\r\n"));
    assert_int_equal(r->error_count, 4);
}

static void test_long_error_is_cut_and_ends(void **state)
{
    struct fixture *f = *state;
    reply_error(&f->r[2], "ERR", "%02000d", 0);
    struct iovec iov[4];
    assert_int_equal(chain_iov(&f->out, iov, 4), 1);
    const char *text = iov[0].iov_base;
    assert_true(iov[0].iov_len > 500 && iov[0].iov_len < 530);
    assert_memory_equal(text, "-ERR 000", 8);
    assert_memory_equal(text + iov[0].iov_len - 3, "0\r\n", 3);
}

static void test_every_number_of_digits(void **state)
{
    struct fixture *f = *state;
    int64_t values[200];
    size_t count = 0;
    for (int64_t v = 1; count < 180; v = v > INT64_MAX / 10 ? 1 : v * 10) {
        for (int64_t near = -1; near <= 1; near++) {
            values[count++] = v + near;
            values[count++] = -(v + near);
        }
    }
    values[count++] = INT64_MAX;
    values[count++] = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        char want[64];
        int len = snprintf(want, sizeof want, ":%lld\r\n", (long long)values[i]);
        reply_int(&f->r[2], values[i]);
        expect(f, (struct slice){ (const uint8_t *)want, (size_t)len });
    }
    for (size_t n = 0; n < 12000; n++) {
        char want[64];
        int len = snprintf(want, sizeof want, "*%zu\r\n", n);
        reply_array(&f->r[2], n);
        expect(f, (struct slice){ (const uint8_t *)want, (size_t)len });
    }
}

/* All lengths around the edges of the reserve and of a block. */
static void test_bulk_lengths(void **state)
{
    struct fixture *f = *state;
    uint8_t *value = mem_alloc(40000);
    memset(value, 'v', 40000);
    size_t lens[] = { 1, 9, 10, 99, 100, 485, 486, 487, 512, 999, 1000, 16000, 16384, 40000 };
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct buf want = { 0 };
        buf_printf(&want, "$%zu\r\n", lens[i]);
        buf_append(&want, value, lens[i]);
        buf_append(&want, "\r\n", 2);
        reply_bulk(&f->r[2], (struct slice){ value, lens[i] });
        expect(f, buf_slice(&want));
        buf_deinit(&want);
    }
    mem_free(value);
}

static void test_bulk_blob_references_only_what_is_big(void **state)
{
    struct fixture *f = *state;
    struct blob *blob = blob_new(RESP_BULK_COPY_BYTES_MAX + 10);
    memset(blob->at, 'b', blob->cap);
    blob->len = blob->cap;
    reply_bulk_blob(&f->r[3], blob, 10, RESP_BULK_COPY_BYTES_MAX);
    assert_int_equal(blob->refs, 1);
    chain_consume(&f->out, chain_bytes(&f->out));

    reply_bulk_blob(&f->r[3], blob, 9, RESP_BULK_COPY_BYTES_MAX + 1);
    assert_int_equal(blob->refs, 2);
    struct buf want = { 0 };
    buf_printf(&want, "$%d\r\n", RESP_BULK_COPY_BYTES_MAX + 1);
    buf_append(&want, blob->at + 9, RESP_BULK_COPY_BYTES_MAX + 1);
    buf_append(&want, "\r\n", 2);
    expect(f, buf_slice(&want));
    assert_int_equal(blob->refs, 1);
    blob_unref(blob);
    buf_deinit(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_protocols, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_error_is_cut_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_number_of_digits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_blob_references_only_what_is_big, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("resp/resp_encode", tests, NULL, NULL);
}
