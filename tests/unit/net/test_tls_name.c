#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>

#include "net/tls.h"

#define CASE_NAMES_MAX 4

/* Names that begin with "ip:" are addresses. */
static void add(struct tls_names *names, const char *name)
{
    uint8_t ip[16];
    if (strncmp(name, "ip:", 3) != 0) {
        assert_int_equal(tls_names_add(names, TLS_NAME_DNS, slice_of(name)), OK);
    } else if (inet_pton(AF_INET, name + 3, ip) == 1) {
        assert_int_equal(tls_names_add(names, TLS_NAME_IP, (struct slice){ ip, 4 }), OK);
    } else {
        assert_int_equal(inet_pton(AF_INET6, name + 3, ip), 1);
        assert_int_equal(tls_names_add(names, TLS_NAME_IP, (struct slice){ ip, 16 }), OK);
    }
}

static const struct {
    const char *names[CASE_NAMES_MAX];
    const char *host;
    bool want;
} cases[] = {
    { { "n1" }, "n1", true },
    { { "n1" }, "n2", false },
    { { "n1" }, "n11", false },
    { { "n11" }, "n1", false },
    { { "a", "b", "ip:10.0.0.1" }, "b", true },
    { { "a", "b", "ip:10.0.0.1" }, "10.0.0.1", true },
    { { "N1.Example.COM" }, "n1.eXample.com", true },
    { { "n1.example.com." }, "n1.example.com", true },
    { { "n1.example.com" }, "n1.example.com.", true },
    { { "n1.example.com" }, "n1.example.com..", false },
    { { "n1" }, "", false },
    { { "n1" }, ".", false },
    { { "." }, ".", false },
    { { NULL }, "n1", false },
    { { "n[" }, "n{", false }, /* only letters have two cases */
    /* one whole left-most label */
    { { "*.example.com" }, "n1.example.com", true },
    { { "*.example.com" }, "N1.EXAMPLE.com.", true },
    { { "*.example.com" }, "a.n1.example.com", false },
    { { "*.example.com" }, "example.com", false },
    { { "*.example.com" }, ".example.com", false },
    { { "*.example.com" }, "n1.example.org", false },
    { { "*.example.com" }, "n1example.com", false },
    { { "*.example.com" }, "n1", false },
    { { "n*.example.com" }, "n1.example.com", false },
    { { "*1.example.com" }, "n1.example.com", false },
    { { "n1.*.com" }, "n1.example.com", false },
    { { "*.*.com" }, "n1.example.com", false },
    { { "*.com" }, "example.com", false },
    { { "*.com." }, "example.com", false },
    { { "*" }, "n1", false },
    { { "*." }, "n1", false },
    { { "**.example.com" }, "n1.example.com", false },
    { { "*.example.com" }, "*.example.com", false },
    { { "n*" }, "n*", false },
    /* addresses */
    { { "ip:10.0.0.1" }, "10.0.0.1", true },
    { { "ip:10.0.0.1" }, "10.0.0.2", false },
    { { "ip:10.0.0.1" }, "10.0.0.1.", false },
    { { "10.0.0.1" }, "10.0.0.1", false },
    { { "*.0.0.1" }, "10.0.0.1", false },
    { { "ip:fd00::1" }, "fd00:0::0:1", true },
    { { "ip:fd00::1" }, "FD00::1", true },
    { { "ip:fd00::1" }, "fd00::2", false },
    { { "fd00::1" }, "fd00::1", false },
    { { "ip:::ffff:10.0.0.1" }, "10.0.0.1", false },
    { { "ip:10.0.0.1" }, "[10.0.0.1]", false },
};

static void test_match_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_names names = { 0 };
        for (size_t n = 0; n < CASE_NAMES_MAX && cases[i].names[n] != NULL; n++) {
            add(&names, cases[i].names[n]);
        }
        if (tls_name_matches(&names, slice_of(cases[i].host)) != cases[i].want) {
            fail_msg("case %zu: host '%s'", i, cases[i].host);
        }
    }
}

static void test_bytes_that_end_text_early(void **state)
{
    (void)state;
    struct tls_names names = { 0 };
    assert_int_equal(tls_names_add(&names, TLS_NAME_DNS, SLICE_LIT("n1\0.evil.com")), ERR_SYNTAX);
    assert_int_equal(names.count, 0);
    add(&names, "n1");
    assert_false(tls_name_matches(&names, SLICE_LIT("n1\0")));
    assert_false(tls_name_matches(&names, SLICE_LIT("10.0.0.1\0")));
}

static void test_long_names(void **state)
{
    (void)state;
    struct tls_names names = { 0 };
    uint8_t text[256];
    memset(text, 'a', sizeof text);
    assert_int_equal(tls_names_add(&names, TLS_NAME_DNS, (struct slice){ text, 256 }), ERR_SYNTAX);
    assert_int_equal(tls_names_add(&names, TLS_NAME_DNS, (struct slice){ text, 0 }), ERR_SYNTAX);
    assert_int_equal(tls_names_add(&names, TLS_NAME_DNS, (struct slice){ text, 255 }), OK);
    assert_true(tls_name_matches(&names, (struct slice){ text, 255 }));
    assert_false(tls_name_matches(&names, (struct slice){ text, 254 }));
    assert_false(tls_name_matches(&names, (struct slice){ text, 256 }));
}

static void test_addresses_have_their_length(void **state)
{
    (void)state;
    struct tls_names names = { 0 };
    const uint8_t bytes[17] = { 10, 0, 0, 1 };
    for (size_t len = 0; len <= sizeof bytes; len++) {
        enum err got = tls_names_add(&names, TLS_NAME_IP, (struct slice){ bytes, len });
        assert_int_equal(got, len == 4 || len == 16 ? OK : ERR_SYNTAX);
    }
    assert_int_equal(names.count, 2);
}

static void test_as_many_as_fit(void **state)
{
    (void)state;
    struct tls_names names = { 0 };
    for (int i = 0; i < TLS_NAME_COUNT_MAX; i++) add(&names, "a");
    assert_int_equal(tls_names_add(&names, TLS_NAME_DNS, SLICE_LIT("b")), ERR_LIMIT);
    assert_int_equal(names.count, TLS_NAME_COUNT_MAX);
    assert_false(tls_name_matches(&names, SLICE_LIT("b")));

    struct tls_names wide = { 0 };
    uint8_t text[255];
    memset(text, 'a', sizeof text);
    size_t fit = TLS_NAMES_BYTES_MAX / sizeof text;
    for (size_t i = 0; i < fit; i++) {
        assert_int_equal(tls_names_add(&wide, TLS_NAME_DNS, (struct slice){ text, 255 }), OK);
    }
    assert_int_equal(tls_names_add(&wide, TLS_NAME_DNS, (struct slice){ text, 255 }), ERR_LIMIT);
    assert_int_equal(wide.count, fit);
}

static void test_text(void **state)
{
    (void)state;
    struct tls_names names = { 0 };
    char text[64];
    assert_string_equal(tls_names_text(&names, text, sizeof text), "");
    add(&names, "n1");
    add(&names, "bad\n\x1b[1m");
    add(&names, "ip:10.0.0.1");
    add(&names, "ip:fd00::1");
    assert_string_equal(tls_names_text(&names, text, sizeof text),
                        "n1 bad??[1m 10.0.0.1 fd00::1");
    for (size_t bytes = 1; bytes < sizeof text; bytes++) {
        char whole[64];
        tls_names_text(&names, whole, sizeof whole);
        tls_names_text(&names, text, bytes);
        assert_int_equal(strlen(text), MIN(bytes - 1, strlen(whole)));
        assert_memory_equal(text, whole, strlen(text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match_table),
        cmocka_unit_test(test_bytes_that_end_text_early),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_addresses_have_their_length),
        cmocka_unit_test(test_as_many_as_fit),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
