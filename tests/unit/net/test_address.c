#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sys/un.h>

#include "net/net_int.h"

static void expect_text(const char *host, uint16_t port, const char *want)
{
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(net_resolve(host, port, 0, &addr, &em), OK);
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    assert_string_equal(address_text((const void *)addr.bytes, addr.len, text, sizeof text), want);
}

static void test_numeric_addresses(void **state)
{
    (void)state;
    expect_text("127.0.0.1", 7379, "127.0.0.1:7379");
    expect_text("::1", 80, "[::1]:80");
    expect_text("fe80::1:2", 65535, "[fe80::1:2]:65535");
}

static void test_bad_address_is_a_configuration_error(void **state)
{
    (void)state;
    struct net_addr addr = { .len = 77 };
    struct errmsg em = { "" };
    assert_int_equal(net_resolve("127.0.0.1.2.3:x", 1, 0, &addr, &em), ERR_CONFIG);
    assert_int_equal(addr.len, 77);
    assert_non_null(strstr(em.text, "127.0.0.1.2.3:x"));
}

static void test_unix_and_unknown(void **state)
{
    (void)state;
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/run/x.sock" };
    address_text((const void *)&un, sizeof un, text, sizeof text);
    assert_string_equal(text, "unix:/run/x.sock");
    address_text((const void *)&un, sizeof un.sun_family, text, sizeof text);
    assert_string_equal(text, "unix:");
    struct sockaddr_storage none = { 0 };
    assert_string_equal(address_text((const void *)&none, sizeof none, text, sizeof text), "?");
    char tiny[6];
    assert_string_equal(address_text((const void *)&un, sizeof un, tiny, sizeof tiny), "unix:");
}

static void test_digits_never_ask_anybody(void **state)
{
    (void)state;
    struct net_addr addr = { .len = 77 };
    assert_int_equal(net_resolve_digits("localhost", 80, &addr), ERR_NOT_FOUND);
    assert_int_equal(addr.len, 77);
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    assert_int_equal(net_resolve_digits("::1", 80, &addr), OK);
    assert_string_equal(address_text((const void *)addr.bytes, addr.len, text, sizeof text),
                        "[::1]:80");
}

static void test_split(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        { "db-1.example:7380", "db-1.example", 7380 },
        { "[::1]:1", "::1", 1 },
        { "127.0.0.1:65535", "127.0.0.1", 65535 },
    };
    static const char *const bad[] = { "", ":", "host", "host:", ":80", "host:0", "host:65536",
                                       "host:-1", "::1:80", "[]:80", "[::1]", "ho st:80", "a,b:80",
                                       "n=a:80", "a\"b:80", "a\\b:80", "host:80x", "a-name-that-is-too-long-for-it:80" };
    char host[20];
    uint16_t port = 0;
    struct errmsg em;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(net_split(good[i].text, host, sizeof host, &port, &em), OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        memcpy(host, "same", 5);
        port = 7;
        assert_int_equal(net_split(bad[i], host, sizeof host, &port, &em), ERR_CONFIG);
        assert_string_equal(host, "same");
        assert_int_equal(port, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numeric_addresses),
        cmocka_unit_test(test_bad_address_is_a_configuration_error),
        cmocka_unit_test(test_unix_and_unknown),
        cmocka_unit_test(test_digits_never_ask_anybody),
        cmocka_unit_test(test_split),
    };
    return cmocka_run_group_tests_name("net/address", tests, NULL, NULL);
}
