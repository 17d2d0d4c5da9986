#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "resp/resp.h"

/* What a stream turned into, as text: "[GET|k]" for a request, "!text" for a protocol
 * error, "?text" for a foreign protocol. */
struct feed {
    struct resp_decoder decoder;
    struct resp_argv argv;
    struct buf held; /* what a connection would keep */
    struct buf log;
    bool ended;
    bool obey_need; /* wait for need_bytes, as a connection does */
    size_t need_bytes;
};

static void feed_init(struct feed *f, const struct resp_limits *limits, bool authenticated)
{
    *f = (struct feed){ 0 };
    resp_decoder_init(&f->decoder, limits);
    f->decoder.authenticated = authenticated;
    resp_argv_init(&f->argv);
}

static void feed_deinit(struct feed *f)
{
    resp_decoder_deinit(&f->decoder);
    resp_argv_deinit(&f->argv);
    buf_deinit(&f->held);
    buf_deinit(&f->log);
}

static void log_request(struct feed *f, const struct resp_request *request)
{
    buf_append(&f->log, "[", 1);
    for (size_t i = 0; i < request->argc; i++) {
        if (i != 0) buf_append(&f->log, "|", 1);
        buf_append_slice(&f->log, request->argv[i]);
    }
    buf_append(&f->log, "]", 1);
}

/* Every call sees the bytes at a new address, in an allocation of exactly their size. */
static void feed_bytes(struct feed *f, struct slice more)
{
    buf_append_slice(&f->held, more);
    while (!f->ended && (!f->obey_need || f->held.len >= f->need_bytes)) {
        uint8_t *exact = mem_copy(f->held.at, f->held.len);
        struct resp_request request;
        struct errmsg em = { "" };
        enum err e = resp_decode(&f->decoder, &f->argv, (struct slice){ exact, f->held.len },
                                 &request, &em);
        if (e == OK || e == ERR_AGAIN) {
            assert_true(request.used_bytes <= f->held.len);
            buf_consume(&f->held, request.used_bytes);
        }
        if (e == OK) {
            assert_true(request.argc >= 1);
            log_request(f, &request);
            f->need_bytes = 0;
        } else if (e == ERR_AGAIN) {
            assert_true(request.need_bytes > f->held.len);
            f->need_bytes = request.need_bytes;
        } else {
            assert_true(e == ERR_PROTO || e == ERR_FOREIGN);
            buf_append(&f->log, e == ERR_PROTO ? "!" : "?", 1);
            buf_append_slice(&f->log, slice_of(em.text));
            f->ended = true;
        }
        mem_free(exact);
        if (e == ERR_AGAIN) return;
    }
}

static void expect_log(struct feed *f, const char *label, struct slice want)
{
    if (!slice_eq(buf_slice(&f->log), want)) {
        fail_msg("%s: got %.*s, want %.*s", label, (int)f->log.len, (const char *)f->log.at,
                 (int)want.len, (const char *)want.at);
    }
}

/* Whole, at every split into two, and one byte at a time; asking for bytes or not (I3). */
static void check_stream(const char *label, const struct resp_limits *limits, bool authenticated,
                         struct slice in, struct slice want)
{
    size_t step = in.len > 4096 ? in.len / 64 : 1;
    for (int obey = 0; obey < 2; obey++) {
        for (size_t cut = 0; cut <= in.len; cut += step) {
            struct feed f;
            feed_init(&f, limits, authenticated);
            f.obey_need = obey != 0;
            feed_bytes(&f, (struct slice){ in.at, cut });
            feed_bytes(&f, (struct slice){ in.at + cut, in.len - cut });
            expect_log(&f, label, want);
            feed_deinit(&f);
        }
    }
    struct feed f;
    feed_init(&f, limits, authenticated);
    size_t bytes = in.len > 4096 ? 509 : 1;
    for (size_t i = 0; i < in.len; i += bytes) {
        feed_bytes(&f, (struct slice){ in.at + i, MIN(bytes, in.len - i) });
    }
    expect_log(&f, label, want);
    feed_deinit(&f);
}

static struct resp_limits limits_default(void)
{
    struct resp_limits limits;
    resp_limits_init(&limits);
    return limits;
}

#define PING "*1\r\n$4\r\nPING\r\n"
#define BAD_COUNT "!Protocol error: invalid multibulk length"
#define BAD_BULK "!Protocol error: invalid bulk length"
#define EXPECTED(c) "!Protocol error: expected '$', got '" c "'"
#define QUOTES "!Protocol error: unbalanced quotes in request"
#define NO_CRLF "!Protocol error: expected CRLF after bulk"

struct stream_case {
    const char *label;
    struct slice in;
    struct slice want;
};
#define ROW(label, in, want) { label, { (const uint8_t *)(in), sizeof(in) - 1 }, \
                               { (const uint8_t *)(want), sizeof(want) - 1 } }

static const struct stream_case array_cases[] = {
    ROW("ping", PING, "[PING]"),
    ROW("get", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "[GET|k]"),
    ROW("two requests", PING "*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n", "[PING][ECHO|hi]"),
    ROW("empty argument", "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "[GET|]"),
    ROW("only an empty argument", "*1\r\n$0\r\n\r\n", "[]"),
    ROW("binary argument", "*1\r\n$4\r\n\0\r\n\xff\r\n", "[\0\r\n\xff]"),
    ROW("crlf inside a body", "*1\r\n$6\r\n\r\n$1\r\n\r\n", "[\r\n$1\r\n]"),
    ROW("incomplete", "*2\r\n$3\r\nGET\r\n$1\r\nk", ""),
    ROW("ten arguments and more",
        "*20\r\n"
        "$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n"
        "$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n"
        "$1\r\nk\r\n$1\r\nl\r\n$1\r\nm\r\n$1\r\nn\r\n$1\r\no\r\n"
        "$1\r\np\r\n$1\r\nq\r\n$1\r\nr\r\n$1\r\ns\r\n$1\r\nt\r\n",
        "[a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t]"),

    ROW("empty line", "\r\n" PING, "[PING]"),
    ROW("lone newline", "\n\n" PING, "[PING]"),
    ROW("blanks only", " \t \r\n" PING, "[PING]"),
    ROW("*0", "*0\r\n" PING, "[PING]"),
    ROW("*-1", "*-1\r\n" PING, "[PING]"),
    ROW("*-10", "*-10\r\n*0\r\n\r\n" PING "*-1\r\n", "[PING]"),
    ROW("pipe mode's end", PING "\r\n*2\r\n$4\r\nECHO\r\n$3\r\n\r\n!\r\n", "[PING][ECHO|\r\n!]"),

    ROW("*3000000000", "*3000000000\r\n", BAD_COUNT),
    ROW("*2147483648", "*2147483648\r\n", BAD_COUNT),
    ROW("*99...9", "*9999999999999999999999\r\n", BAD_COUNT),
    ROW("*-99...9", "*-9999999999999999999999\r\n", BAD_COUNT),
    ROW("*abc", "*abc\r\n", BAD_COUNT),
    ROW("*1a", "*1a\r\n", BAD_COUNT),
    ROW("* 1", "* 1\r\n", BAD_COUNT),
    ROW("*1 ", "*1 \r\n", BAD_COUNT),
    ROW("*+1", "*+1\r\n", BAD_COUNT),
    ROW("*01", "*01\r\n", BAD_COUNT),
    ROW("*-0", "*-0\r\n", BAD_COUNT),
    ROW("*-", "*-\r\n", BAD_COUNT),
    ROW("*", "*\r\n", BAD_COUNT),
    ROW("*1 NUL", "*1\0\r\n", BAD_COUNT),
    ROW("*5000 over our cap", "*5000\r\n", BAD_COUNT),
    ROW("*4097", "*4097\r\n", BAD_COUNT),
    ROW("*4096 is allowed", "*4096\r\n", ""),
    ROW("lone newline in a count", "*1\n$4\r\nPING\r\n", BAD_COUNT),
    ROW("return without newline", "*1\rX", BAD_COUNT),
    ROW("return without newline, long", "*1\r$4\r\nPING\r\n", BAD_COUNT),
    ROW("a good one, then a bad one", PING "*x\r\n", "[PING]" BAD_COUNT),

    ROW("no dollar", "*1\r\nfoo", EXPECTED("f")),
    ROW("no dollar, third", "*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", EXPECTED("f")),
    ROW("no dollar, return", "*1\r\n\r\n", EXPECTED("\\x0d")),
    ROW("no dollar, NUL", "*1\r\n\0", EXPECTED("\\x00")),
    ROW("nested array", "*1\r\n*1\r\n$4\r\nPING\r\n", EXPECTED("*")),
    ROW("RESP3 map", "*1\r\n%1\r\n", EXPECTED("%")),
    ROW("RESP3 null", "*1\r\n_\r\n", EXPECTED("_")),
    ROW("RESP3 types alone", "%1\r\n~1\r\n>1\r\n_\r\n", "[%1][~1][>1][_]"),

    ROW("$-1", "*1\r\n$-1\r\n", BAD_BULK),
    ROW("$-10", "*1\r\n$-10\r\n", BAD_BULK),
    ROW("$2000000000", "*1\r\n$2000000000\r\n", BAD_BULK),
    ROW("$blabla", "*1\r\n$blabla\r\n", BAD_BULK),
    ROW("$99...9", "*1\r\n$99999999999999999999\r\n", BAD_BULK),
    ROW("$0x10", "*1\r\n$0x10\r\n", BAD_BULK),
    ROW("$ 3", "*1\r\n$ 3\r\nabc\r\n", BAD_BULK),
    ROW("$3 ", "*1\r\n$3 \r\nabc\r\n", BAD_BULK),
    ROW("$03", "*1\r\n$03\r\nabc\r\n", BAD_BULK),
    ROW("$", "*1\r\n$\r\nabc\r\n", BAD_BULK),
    ROW("$3 return only", "*1\r\n$3\rabc\r\n", BAD_BULK),
    ROW("no CRLF behind a body", "*1\r\n$4\r\nPINGXX", NO_CRLF),
    ROW("newline only behind a body", "*1\r\n$4\r\nPING\n\n", NO_CRLF),
    ROW("body longer than said", "*2\r\n$4\r\nPINGS\r\n$1\r\nk\r\n", NO_CRLF),
};

static const struct stream_case inline_cases[] = {
    ROW("ping", "PING\r\n", "[PING]"),
    ROW("lone newline ends", "PING\n", "[PING]"),
    ROW("words", "  set  key\tvalue  \r\n", "[set|key|value]"),
    ROW("inline, then an array", "PING\r\n" PING "GET k\n", "[PING][PING][GET|k]"),
    ROW("double quotes", "set k \"a b\"\r\n", "[set|k|a b]"),
    ROW("escapes", "set k \"\\n\\r\\t\\b\\a\\\\\\\"\\q\"\r\n", "[set|k|\n\r\t\b\a\\\"q]"),
    ROW("hex", "set k \"\\x41\\xfF\\x00\"\r\n", "[set|k|A\xff\0]"),
    ROW("bad hex", "set k \"\\x4\\xzz\"\r\n", "[set|k|x4xzz]"),
    ROW("single quotes", "set k 'a\\n \\' \"b'\r\n", "[set|k|a\\n ' \"b]"),
    ROW("empty words", "set \"\" ''\r\n", "[set||]"),
    ROW("only an empty word", "\"\"\r\n", "[]"),
    ROW("quotes behind a word", "set foo\"b r\"\r\n", "[set|foob r]"),
    ROW("return inside", "a\rb\r\n", "[a|b]"),
    ROW("NUL inside", "a\0b c\r\n", "[a\0b|c]"),
    ROW("vertical tab in a word", "a\vb \vc\r\n", "[a\vb|c]"),
    ROW("unbalanced double", "set a \"b c\r\n", QUOTES),
    ROW("unbalanced double, row of the table", "set \"a b\r\n", QUOTES),
    ROW("unbalanced single", "set 'a b\r\n", QUOTES),
    ROW("glued", "set \"a\"b\r\n", QUOTES),
    ROW("glued single", "set 'a'b\r\n", QUOTES),
    ROW("backslash at the end", "set \"a\\\r\n", QUOTES),
    ROW("escaped closing quote", "set \"a\\\"\r\n", QUOTES),
    ROW("post", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", "?HTTP on the Redis port"),
    ROW("host", "Host: example.org\r\n", "?HTTP on the Redis port"),
    ROW("get", "GET / HTTP/1.1\r\n", "?HTTP on the Redis port"),
    ROW("head after a ping", "PING\r\nhead /x HTTP/1.0\r\n", "[PING]?HTTP on the Redis port"),
    ROW("get with a key is ours", "GET k\r\nGET / x\r\n", "[GET|k][GET|/|x]"),
    ROW("tls", "\x16\x03\x01\x02", "?TLS on a plain port"),
};

static void run_cases(const struct stream_case *cases, size_t count, bool authenticated)
{
    struct resp_limits limits = limits_default();
    for (size_t i = 0; i < count; i++) {
        check_stream(cases[i].label, &limits, authenticated, cases[i].in, cases[i].want);
    }
}

static void test_arrays(void **state)
{
    (void)state;
    run_cases(array_cases, ARRAY_LEN(array_cases), true);
}

static void test_inline(void **state)
{
    (void)state;
    run_cases(inline_cases, ARRAY_LEN(inline_cases), true);
    run_cases(inline_cases, ARRAY_LEN(inline_cases), false);
}

static const struct stream_case unauth_cases[] = {
    ROW("*11", "*11\r\n", "!Protocol error: unauthenticated multibulk length"),
    ROW("*10", "*10\r\n", ""),
    ROW("$16385", "*2\r\n$4\r\nAUTH\r\n$16385\r\n", "!Protocol error: unauthenticated bulk length"),
    ROW("$16384", "*2\r\n$4\r\nAUTH\r\n$16384\r\n", ""),
    ROW("auth", "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", "[AUTH|pw]"),
    ROW("*5000", "*5000\r\n", BAD_COUNT),
};

static void test_before_authentication(void **state)
{
    (void)state;
    run_cases(unauth_cases, ARRAY_LEN(unauth_cases), false);
}

/* `head`, then `fill` repeated `count` times, then `tail`. */
static struct buf repeated(const char *head, char fill, size_t count, const char *tail)
{
    struct buf b = { 0 };
    buf_append_slice(&b, slice_of(head));
    memset(buf_reserve(&b, count + 1), fill, count);
    b.len += count;
    buf_append_slice(&b, slice_of(tail));
    return b;
}

static void check_repeated(const char *head, char fill, size_t count, const char *tail,
                           const char *want)
{
    struct resp_limits limits = limits_default();
    struct buf b = repeated(head, fill, count, tail);
    check_stream(want, &limits, true, buf_slice(&b), slice_of(want));
    buf_deinit(&b);
}

static void test_lines_that_do_not_end(void **state)
{
    (void)state;
    size_t max = RESP_INLINE_BYTES_MAX_DEFAULT;
    const char *big_count = "!Protocol error: too big mbulk count string";
    const char *big_bulk = "!Protocol error: too big bulk count string";
    const char *big_inline = "!Protocol error: too big inline request";
    check_repeated("*", '1', 65536, "", big_count);
    check_repeated("*", '1', max, "", big_count);
    check_repeated("*", '1', max, "\r\n", big_count); /* also when its end is in sight */
    check_repeated("*", '1', max - 1, "", "");
    check_repeated("*", '1', max - 1, "\r\n", BAD_COUNT);
    check_repeated("*1\r\n$", '1', 65536, "", big_bulk);
    check_repeated("*1\r\n$", '1', max, "\r\n", big_bulk);
    check_repeated("*1\r\n$", '1', max - 1, "\r\n", BAD_BULK);
    check_repeated("", 'a', 65536, "", big_inline);
    check_repeated("", 'a', max + 1, "\r\n", big_inline);
    check_repeated("PING\r\n", ' ', max - 1, "\r\n", "[PING]");
}

static void test_limits_of_size(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    limits.bulk_bytes_max = 100;
    limits.request_bytes_max = 200;
    limits.arg_count_max = 8;
    struct buf b = { 0 };
    /* "*2\r\n$100\r\n" + body + CRLF = 112 bytes; the second head has 5, so 81 are left. */
    buf_printf(&b, "*2\r\n$100\r\n%0100d\r\n$81\r\n%081d\r\n", 0, 0);
    assert_int_equal(b.len, 200);
    struct feed f;
    feed_init(&f, &limits, true);
    feed_bytes(&f, buf_slice(&b));
    assert_int_equal(f.log.len, 100 + 81 + 3);
    feed_deinit(&f);

    buf_clear(&b);
    buf_printf(&b, "*2\r\n$100\r\n%0100d\r\n$82\r\n", 0);
    check_stream("request", &limits, true, buf_slice(&b),
                 SLICE_LIT("!Protocol error: too big request"));
    check_stream("bulk", &limits, true, SLICE_LIT("*1\r\n$101\r\n"), SLICE_LIT(BAD_BULK));
    check_stream("count", &limits, true, SLICE_LIT("*9\r\n"), SLICE_LIT(BAD_COUNT));
    check_stream("inline words", &limits, true, SLICE_LIT("a b c d e f g h\ni j k l m n o p q\n"),
                 SLICE_LIT("[a|b|c|d|e|f|g|h]!Protocol error: too big inline request"));
    buf_deinit(&b);
}

static void test_unauthenticated_request_is_bounded_as_a_whole(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    struct buf b = { 0 };
    buf_append_slice(&b, SLICE_LIT("*10\r\n"));
    for (int i = 0; i < 4; i++) buf_printf(&b, "$16300\r\n%016300d\r\n", 0);
    buf_append_slice(&b, SLICE_LIT("$16300\r\n"));
    check_stream("64 KiB", &limits, false, buf_slice(&b),
                 SLICE_LIT("!Protocol error: too big request"));
    buf_deinit(&b);
}

/* Arguments that come one by one do not make the decoder start over, and a complete
 * request leaves nothing allocated. */
static void test_many_arguments_byte_by_byte(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    struct feed f;
    feed_init(&f, &limits, true);
    struct buf want = { 0 };
    struct buf in = { 0 };
    buf_printf(&in, "*%d\r\n", RESP_ARG_COUNT_MAX_DEFAULT);
    for (int i = 0; i < RESP_ARG_COUNT_MAX_DEFAULT; i++) {
        buf_printf(&in, "$4\r\n%04d\r\n", i);
        buf_printf(&want, "%s%04d", i == 0 ? "[" : "|", i);
    }
    buf_append(&want, "]", 1);
    for (size_t i = 0; i < in.len; i += 3) {
        feed_bytes(&f, (struct slice){ in.at + i, MIN(3, in.len - i) });
    }
    expect_log(&f, "byte by byte", buf_slice(&want));
    assert_null(f.decoder.spans);
    assert_int_equal(f.decoder.offset, 0);

    buf_clear(&f.log);
    feed_bytes(&f, buf_slice(&in));
    expect_log(&f, "at once", buf_slice(&want));
    feed_deinit(&f);
    buf_deinit(&in);
    buf_deinit(&want);
}

static void test_need_bytes_is_exact_in_a_body(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    struct resp_decoder d;
    struct resp_argv argv;
    struct resp_request request;
    struct errmsg em;
    resp_decoder_init(&d, &limits);
    d.authenticated = true;
    resp_argv_init(&argv);

    enum err e = resp_decode(&d, &argv, SLICE_LIT("\r\n*1\r\n$1000\r\nab"), &request, &em);
    assert_int_equal(e, ERR_AGAIN);
    assert_int_equal(request.used_bytes, 2); /* the blank line may be dropped */
    assert_int_equal(request.need_bytes, 4 + 7 + 1000 + 2);

    resp_decoder_deinit(&d);
    resp_argv_deinit(&argv);
}

static void test_a_flood_of_nothing_is_dropped(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    struct feed f;
    feed_init(&f, &limits, false);
    for (int i = 0; i < 1000; i++) feed_bytes(&f, SLICE_LIT("\r\n*0\r\n*-1\r\n\n"));
    assert_int_equal(f.held.len, 0);
    assert_int_equal(f.log.len, 0);
    feed_deinit(&f);
}

/* Random well-formed streams, cut at random places. */
static void test_random_streams(void **state)
{
    (void)state;
    struct resp_limits limits = limits_default();
    uint64_t seed = 7;
    for (int round = 0; round < 300; round++) {
        struct buf in = { 0 };
        struct buf want = { 0 };
        for (int k = 0; k < 20; k++) {
            seed = u64_mix(seed + 1);
            size_t argc = 1 + seed % ((seed >> 20) % 8 == 0 ? 60 : 4);
            buf_printf(&in, "*%zu\r\n", argc);
            for (size_t i = 0; i < argc; i++) {
                seed = u64_mix(seed + 1);
                int len = (int)(seed % ((seed >> 20) % 16 == 0 ? 3000 : 12));
                buf_printf(&in, "$%d\r\n%.*d\r\n", len == 0 ? 1 : len, len, 1);
                buf_printf(&want, "%s%.*d", i == 0 ? "[" : "|", len, 1);
            }
            buf_append(&want, "]", 1);
        }
        struct feed f;
        feed_init(&f, &limits, true);
        f.obey_need = seed % 2 == 0;
        for (size_t done = 0; done < in.len;) {
            seed = u64_mix(seed + 1);
            size_t part = MIN(1 + seed % ((seed >> 20) % 4 == 0 ? 2000 : 20), in.len - done);
            feed_bytes(&f, (struct slice){ in.at + done, part });
            done += part;
        }
        expect_log(&f, "random", buf_slice(&want));
        feed_deinit(&f);
        buf_deinit(&in);
        buf_deinit(&want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_before_authentication),
        cmocka_unit_test(test_lines_that_do_not_end),
        cmocka_unit_test(test_limits_of_size),
        cmocka_unit_test(test_unauthenticated_request_is_bounded_as_a_whole),
        cmocka_unit_test(test_many_arguments_byte_by_byte),
        cmocka_unit_test(test_need_bytes_is_exact_in_a_body),
        cmocka_unit_test(test_a_flood_of_nothing_is_dropped),
        cmocka_unit_test(test_random_streams),
    };
    return cmocka_run_group_tests_name("resp/resp_decode", tests, NULL, NULL);
}
