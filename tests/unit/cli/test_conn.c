#include "cli_fake.h"

#include "cli/conn.h"

static void test_endpoints_are_understood(void **state)
{
    (void)state;
    struct conn c;
    assert_int_equal(conn_init(&c, SLICE_LIT("a:1, b ,[::1]:7,[fe80::2]"), NULL), OK);
    static const struct {
        const char *host;
        int port;
    } want[] = { { "a", 1 }, { "b", 7379 }, { "::1", 7 }, { "fe80::2", 7379 } };
    assert_int_equal(c.endpoint_count, ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(c.endpoints[i].host, want[i].host);
        assert_int_equal(c.endpoints[i].port, want[i].port);
    }
    assert_string_equal(conn_endpoint(&c), "a:1");
    conn_next(&c);
    assert_string_equal(conn_endpoint(&c), "b");
    conn_deinit(&c);
}

static void test_bad_endpoints(void **state)
{
    (void)state;
    static const char *const bad[] = { "",      ",a:1", "a:1,",    ":1",         "a:0", "a:65536",
                                       "a:x",   "::1",  "http://a:1", "a:1,,b:2", "[]",  "a:" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct conn c;
        struct errmsg em = { "" };
        if (conn_init(&c, slice_of(bad[i]), &em) != ERR_SYNTAX) fail_msg("%s", bad[i]);
        assert_non_null(strstr(em.text, "is not host:port"));
    }
    struct buf many = { 0 };
    struct conn c;
    for (size_t i = 0; i <= CONN_ENDPOINTS_MAX; i++) buf_printf(&many, "%sa", i == 0 ? "" : ",");
    assert_int_equal(conn_init(&c, buf_slice(&many), NULL), ERR_SYNTAX);
    buf_deinit(&many);
}

/* Port 1 of this machine: nobody listens there. */
static void test_refused_by_all_is_told(void **state)
{
    (void)state;
    struct conn c;
    struct errmsg em = { "" };
    assert_int_equal(conn_init(&c, SLICE_LIT("127.0.0.1:1,127.0.0.1:2"), NULL), OK);
    assert_int_equal(conn_open(&c, &em), ERR_IO);
    assert_non_null(strstr(em.text, "none of 2 servers; 127.0.0.1:1: "));
    assert_null(c.redis);
    assert_int_equal(c.at, 0);
    conn_deinit(&c);
}

static void test_call_sends_binary_and_tells_a_lost_connection(void **state)
{
    (void)state;
    struct conn c;
    struct words w = { 0 };
    redisReply *reply = NULL;
    struct errmsg em = { "" };
    int fds[2];
    char sent[64];
    assert_int_equal(conn_init(&c, SLICE_LIT("a:1"), NULL), OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    conn_adopt(&c, fds[0]);
    words_add(&w, SLICE_LIT("G\0T"));
    words_add(&w, SLICE_NONE);
    assert_int_equal(send(fds[1], "$2\r\n\0\n\r\n", 8, 0), 8);
    assert_int_equal(conn_call(&c, &w, 0, &reply, &em), OK);
    assert_int_equal(reply->len, 2);
    freeReplyObject(reply);
    assert_int_equal(recv(fds[1], sent, sizeof sent, 0), 19);
    assert_memory_equal(sent, "*2\r\n$3\r\nG\0T\r\n$0\r\n\r\n", 19);

    shutdown(fds[1], SHUT_WR);
    assert_int_equal(conn_call(&c, &w, 0, &reply, &em), ERR_IO);
    assert_non_null(strstr(em.text, "a:1: "));
    assert_null(c.redis);
    close(fds[1]);
    words_deinit(&w);
    conn_deinit(&c);
}

static void test_no_answer_in_time(void **state)
{
    (void)state;
    struct conn c;
    struct words w = { 0 };
    redisReply *reply = NULL;
    int fds[2];
    assert_int_equal(conn_init(&c, SLICE_LIT("a:1"), NULL), OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    conn_adopt(&c, fds[0]);
    c.timeout_ms = 1;
    words_add_text(&w, "PING");
    assert_int_equal(conn_call(&c, &w, 1, &reply, NULL), ERR_TIMEOUT);
    assert_null(reply);
    close(fds[1]);
    words_deinit(&w);
    conn_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints_are_understood),
        cmocka_unit_test(test_bad_endpoints),
        cmocka_unit_test(test_refused_by_all_is_told),
        cmocka_unit_test(test_call_sends_binary_and_tells_a_lost_connection),
        cmocka_unit_test(test_no_answer_in_time),
    };
    return cmocka_run_group_tests_name("cli/conn", tests, NULL, NULL);
}
