#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/net_int.h"

#define TURN_COUNT_MAX 1000

enum accept_mode { ACCEPT_START, ACCEPT_IGNORE, ACCEPT_REFUSE };

struct server {
    struct loop *loop;
    struct listener *listener;
    enum accept_mode mode;
    struct conn *last;
    size_t accept_count;
    size_t close_count;
    size_t open_count;
    enum conn_close_reason reason;
    int error;
    struct buf got;
};

static size_t on_bytes(void *user, struct conn *conn, struct slice in)
{
    struct server *s = user;
    (void)conn;
    buf_append_slice(&s->got, in);
    return in.len;
}

static void on_close(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct server *s = user;
    s->close_count++;
    s->reason = reason;
    s->error = conn_close_errno(conn);
}

static void on_open(void *user, struct conn *conn)
{
    struct server *s = user;
    (void)conn;
    s->open_count++;
}

static const struct conn_callbacks callbacks = { .on_bytes = on_bytes, .on_close = on_close,
                                                 .on_open = on_open };

static void on_accept(void *ctx, struct conn *conn)
{
    struct server *s = ctx;
    s->accept_count++;
    s->last = conn;
    if (s->mode == ACCEPT_START) conn_start(conn, &callbacks, s);
    if (s->mode == ACCEPT_REFUSE) {
        chain_append_slice(conn_out(conn), SLICE_LIT("-ERR full\r\n"));
        conn_close_after_flush(conn);
    }
}

/* So that a failing test ends: no wait is longer. */
static int64_t sleep_us(void *ctx)
{
    (void)ctx;
    return 10000;
}

static void server_init(struct server *s, const char *addr)
{
    *s = (struct server){ .mode = ACCEPT_START };
    struct loop_cfg cfg = { .hooks = { .sleep_us = sleep_us } };
    struct errmsg em = { "" };
    assert_int_equal(loop_new(&cfg, &s->loop, &em), OK);
    if (addr == NULL) return;
    enum err e = net_listen(s->loop, addr, 0, 128, on_accept, s, &s->listener, &em);
    assert_string_equal(em.text, "");
    assert_int_equal(e, OK);
    assert_true(listener_port(s->listener) != 0);
}

static void server_deinit(struct server *s)
{
    loop_free(s->loop);
    buf_deinit(&s->got);
}

static void turns_until(struct server *s, const size_t *count, size_t want)
{
    for (int i = 0; i < TURN_COUNT_MAX && *count < want; i++) loop_turn(s->loop, true);
    assert_int_equal(*count, want);
}

static int client_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (const void *)&to, sizeof to), 0);
    return fd;
}

static void test_accept_over_tcp(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    int fd = client_connect(listener_port(s.listener));
    turns_until(&s, &s.accept_count, 1);
    int on = 0;
    socklen_t len = sizeof on;
    int conn_fd = event_get_fd(&s.last->event);
    assert_int_equal(getsockopt(conn_fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    assert_true(on != 0);
    assert_int_equal(getsockopt(conn_fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
    assert_true(on != 0);

    char want[64];
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    snprintf(want, sizeof want, "127.0.0.1:%u", listener_port(s.listener));
    assert_string_equal(conn_local_text(s.last, text, sizeof text), want);
    assert_non_null(strstr(conn_peer_text(s.last, text, sizeof text), "127.0.0.1:"));
    assert_string_not_equal(text, want);

    assert_int_equal(send(fd, "hi", 2, 0), 2);
    turns_until(&s, &s.got.len, 2);
    /* A reset, not a close. */
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(fd);
    turns_until(&s, &s.close_count, 1);
    assert_int_equal(s.reason, CONN_CLOSE_RESET);
    assert_int_equal(s.error, ECONNRESET);
    server_deinit(&s);
}

static void test_accepts_are_bounded_a_turn(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    int fds[NET_ACCEPT_COUNT_MAX + 10];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) fds[i] = client_connect(listener_port(s.listener));
    loop_turn(s.loop, true);
    assert_int_equal(s.accept_count, NET_ACCEPT_COUNT_MAX);
    turns_until(&s, &s.accept_count, ARRAY_LEN(fds));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) close(fds[i]);
    turns_until(&s, &s.close_count, ARRAY_LEN(fds));
    server_deinit(&s);
}

static void test_a_connection_that_is_not_started_is_closed(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    s.mode = ACCEPT_IGNORE;
    int fd = client_connect(listener_port(s.listener));
    turns_until(&s, &s.accept_count, 1);
    char c;
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    assert_int_equal(s.close_count, 0);
    assert_int_equal(loop_stats(s.loop)->conn_count, 0);
    close(fd);
    server_deinit(&s);
}

static void test_refuse_with_a_text(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    s.mode = ACCEPT_REFUSE;
    int fd = client_connect(listener_port(s.listener));
    turns_until(&s, &s.accept_count, 1);
    char text[64];
    assert_int_equal(recv(fd, text, sizeof text, MSG_WAITALL), 11);
    assert_memory_equal(text, "-ERR full\r\n", 11);
    close(fd);
    server_deinit(&s);
}

static void test_v6(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, NULL);
    struct errmsg em;
    enum err e = net_listen(s.loop, "::1", 0, 16, on_accept, &s, &s.listener, &em);
    if (e == ERR_IO) { /* a machine without IPv6 */
        server_deinit(&s);
        skip();
    }
    assert_int_equal(e, OK);
    struct net_addr addr;
    assert_int_equal(net_resolve("::1", listener_port(s.listener), 0, &addr, &em), OK);
    struct conn *out;
    assert_int_equal(conn_open(s.loop, &addr, &callbacks, &s, &out, &em), OK);
    turns_until(&s, &s.accept_count, 1);
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    assert_memory_equal(conn_peer_text(s.last, text, sizeof text), "[::1]:", 6);
    server_deinit(&s);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "*");
    struct listener *l = NULL;
    struct errmsg em = { "" };
    uint16_t port = listener_port(s.listener);
    assert_int_equal(net_listen(s.loop, "1.2.3.4.5:x", 0, 16, on_accept, &s, &l, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "1.2.3.4.5:x"));
    assert_int_equal(net_listen(s.loop, "127.0.0.1", port, 16, on_accept, &s, &l, &em), ERR_IO);
    assert_non_null(strstr(em.text, strerror(EADDRINUSE)));
    assert_null(l);
    listener_close(s.listener);
    loop_turn(s.loop, false);
    assert_int_equal(net_listen(s.loop, "127.0.0.1", port, 16, on_accept, &s, &l, &em), OK);
    server_deinit(&s);
}

static void test_open(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    struct net_addr addr;
    struct errmsg em;
    struct conn *out;
    uint16_t port = listener_port(s.listener);
    assert_int_equal(net_resolve("127.0.0.1", port, 0, &addr, &em), OK);
    assert_int_equal(conn_open(s.loop, &addr, &callbacks, &s, &out, &em), OK);
    chain_append(conn_out(out), "early", 5); /* before it is established */
    conn_dirty(out);
    turns_until(&s, &s.got.len, 5);
    assert_int_equal(s.open_count, 1);
    assert_memory_equal(s.got.at, "early", 5);

    listener_close(s.listener);
    loop_turn(s.loop, false);
    assert_int_equal(conn_open(s.loop, &addr, &callbacks, &s, &out, &em), OK);
    turns_until(&s, &s.close_count, 1);
    assert_int_equal(s.reason, CONN_CLOSE_RESET);
    assert_int_equal(s.error, ECONNREFUSED);
    assert_int_equal(s.open_count, 1);
    server_deinit(&s);
}

/* Out of descriptors: who waits is dropped, the loop goes on, and later ones are served. */
static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    uint16_t port = listener_port(s.listener);
    int fds[3];
    for (int i = 0; i < 3; i++) fds[i] = client_connect(port);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit low = { .rlim_cur = 3, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 3; i++) loop_turn(s.loop, false);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(s.accept_count, 0);
    /* Nothing may be opened below 3, so the reserve was no help: the listener paused. */
    assert_true(s.loop->accept_resume_us != 0);
    turns_until(&s, &s.accept_count, 3);
    assert_int_equal(s.loop->accept_resume_us, 0);
    assert_true(s.loop->reserve_fd >= 0);
    for (int i = 0; i < 3; i++) close(fds[i]);
    server_deinit(&s);
}

static void test_the_reserve_drops_who_waits(void **state)
{
    (void)state;
    struct server s;
    server_init(&s, "127.0.0.1");
    int fd = client_connect(listener_port(s.listener));
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    /* Fill every descriptor below the limit, so that only the reserve can be given up. */
    struct rlimit low = { .rlim_cur = (rlim_t)fd + 1, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int fill[64];
    size_t count = 0;
    while (count < ARRAY_LEN(fill) && (fill[count] = dup(fd)) >= 0) count++;
    assert_true(count < ARRAY_LEN(fill));
    loop_turn(s.loop, false);
    assert_int_equal(s.accept_count, 0);
    assert_int_equal(loop_stats(s.loop)->accept_refuse_count, 1);
    assert_int_equal(s.loop->accept_resume_us, 0);
    while (count > 0) close(fill[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    char c;
    assert_true(recv(fd, &c, 1, 0) <= 0);
    close(fd);
    fd = client_connect(listener_port(s.listener));
    turns_until(&s, &s.accept_count, 1);
    close(fd);
    server_deinit(&s);
}

static void test_unix_socket(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_listen_XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    snprintf(to.sun_path, sizeof to.sun_path, "%s/s", folder);
    struct server s;
    server_init(&s, NULL);
    struct errmsg em = { "" };
    enum err e = net_listen_unix(s.loop, to.sun_path, 0600, 16, on_accept, &s, &s.listener, &em);
    assert_int_equal(e, OK);
    assert_int_equal(listener_port(s.listener), 0);
    struct stat info;
    assert_int_equal(stat(to.sun_path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);

    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const void *)&to, sizeof to), 0);
    turns_until(&s, &s.accept_count, 1);
    char want[200];
    char text[NET_ADDRESS_TEXT_BYTES_MAX];
    snprintf(want, sizeof want, "unix:%s", to.sun_path);
    assert_string_equal(conn_peer_text(s.last, text, sizeof text), want);

    /* A second one must not take it away. */
    struct listener *l = NULL;
    e = net_listen_unix(s.loop, to.sun_path, 0600, 16, on_accept, &s, &l, &em);
    assert_int_equal(e, ERR_IO);
    assert_non_null(strstr(em.text, "in use"));
    close(fd);
    server_deinit(&s);
    assert_int_equal(stat(to.sun_path, &info), -1); /* removed with the listener */
    assert_int_equal(rmdir(folder), 0);
}

static void test_unix_socket_paths(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_listen_XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(at.sun_path, sizeof at.sun_path, "%s/s", folder);
    struct server s;
    server_init(&s, NULL);
    struct errmsg em = { "" };
    struct listener *l = NULL;

    /* What a process that died leaves. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const void *)&at, sizeof at), 0);
    close(fd);
    assert_int_equal(net_listen_unix(s.loop, at.sun_path, 0660, 16, on_accept, &s, &l, &em), OK);
    listener_close(l);
    loop_turn(s.loop, false);

    fd = open(at.sun_path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    l = NULL;
    enum err e = net_listen_unix(s.loop, at.sun_path, 0660, 16, on_accept, &s, &l, &em);
    assert_int_equal(e, ERR_IO);
    assert_non_null(strstr(em.text, "no socket"));
    assert_int_equal(unlink(at.sun_path), 0); /* it was left alone */

    char long_path[200];
    memset(long_path, 'p', sizeof long_path);
    long_path[sizeof long_path - 1] = 0;
    assert_int_equal(net_listen_unix(s.loop, long_path, 0660, 16, on_accept, &s, &l, &em),
                     ERR_CONFIG);
    assert_int_equal(net_listen_unix(s.loop, "/no/such/folder/s", 0660, 16, on_accept, &s, &l, &em),
                     ERR_IO);
    assert_null(l);
    server_deinit(&s);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_over_tcp),
        cmocka_unit_test(test_accepts_are_bounded_a_turn),
        cmocka_unit_test(test_a_connection_that_is_not_started_is_closed),
        cmocka_unit_test(test_refuse_with_a_text),
        cmocka_unit_test(test_v6),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(test_the_reserve_drops_who_waits),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_unix_socket_paths),
    };
    return cmocka_run_group_tests_name("net/listen", tests, NULL, NULL);
}
