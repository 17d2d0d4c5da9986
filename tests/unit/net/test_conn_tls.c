#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include "net/net_int.h"
#include "tls_kit.h"

#define TURN_COUNT_MAX 200000
#define REFUSED_TURN_COUNT 100
#define BIG_BYTES (10u << 20)

/* The owner of one end. */
struct side {
    struct conn *conn; /* NULL once closed */
    struct buf got;
    size_t take_bytes; /* at most so many a call */
    size_t want_bytes; /* below so many: none, and ask for them */
    bool echo;
    bool pause;        /* in the next on_bytes */
    bool close_in_open;
    bool half_closes;  /* answers an EOF with "bye" */
    size_t open_count, close_count, eof_count, writable_count, call_count;
    enum conn_close_reason reason;
    int error;
    char why[200];
};

static size_t on_bytes(void *user, struct conn *conn, struct slice in)
{
    struct side *s = user;
    s->call_count++;
    assert_int_equal(s->close_count, 0);
    assert_true(conn_is_established(conn));
    assert_false(conn_is_closing(conn));
    if (s->want_bytes != 0 && in.len < s->want_bytes) {
        conn_want(conn, s->want_bytes);
        return 0;
    }
    size_t take = MIN(in.len, s->take_bytes);
    buf_append(&s->got, in.at, take);
    if (s->echo) {
        chain_append(conn_out(conn), in.at, take);
        conn_dirty(conn);
    }
    if (s->pause) conn_pause(conn);
    return take;
}

static void on_close(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct side *s = user;
    s->close_count++;
    s->reason = reason;
    s->error = conn_close_errno(conn);
    conn_tls_error(conn, s->why, sizeof s->why);
    s->conn = NULL;
}

static void on_writable(void *user, struct conn *conn)
{
    struct side *s = user;
    (void)conn;
    s->writable_count++;
}

static void on_eof(void *user, struct conn *conn)
{
    struct side *s = user;
    s->eof_count++;
    if (s->half_closes) {
        chain_append(conn_out(conn), "bye", 3);
        conn_dirty(conn);
    }
    conn_close_after_flush(conn);
}

static void on_open(void *user, struct conn *conn)
{
    struct side *s = user;
    s->open_count++;
    assert_true(conn_is_established(conn));
    if (s->close_in_open) conn_close(conn);
}

static const struct conn_callbacks callbacks = { on_bytes, on_close, on_writable, on_eof, on_open, NULL };

static struct loop *loop_make(void)
{
    struct loop_cfg cfg = { .spin_us = 0 };
    struct loop *loop;
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &loop, &em), OK);
    return loop;
}

/* Both ends in one loop. `wires` are in between if the test carries the bytes itself. */
struct pair {
    struct loop *loop;
    struct tls_context *server_ctx, *client_ctx;
    struct side server, client;
    int wires[2]; /* towards the server, towards the client; -1: none */
};

static void side_start(struct side *s, struct loop *loop, int fd, struct tls_context *ctx,
                       enum tls_side which)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    *s = (struct side){ .take_bytes = SIZE_MAX };
    s->conn = conn_make(loop, fd, 0);
    if (ctx != NULL) conn_start_tls(s->conn, ctx, which);
    conn_start(s->conn, &callbacks, s);
}

static void contexts_make(struct pair *p, const char *server, const char *server_ca,
                          const char *client, const char *client_ca)
{
    *p = (struct pair){ .loop = loop_make(), .wires = { -1, -1 } };
    p->server_ctx = certs_context(server, server_ca);
    p->client_ctx = certs_context(client, client_ca);
}

static void pair_connect(struct pair *p)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    side_start(&p->server, p->loop, ends[0], p->server_ctx, TLS_SERVER);
    side_start(&p->client, p->loop, ends[1], p->client_ctx, TLS_CLIENT);
}

static void pair_wire(struct pair *p)
{
    int server[2], client[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, server), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, client), 0);
    p->wires[0] = server[1];
    p->wires[1] = client[1];
    assert_int_equal(fcntl(server[1], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fcntl(client[1], F_SETFL, O_NONBLOCK), 0);
    side_start(&p->server, p->loop, server[0], p->server_ctx, TLS_SERVER);
    side_start(&p->client, p->loop, client[0], p->client_ctx, TLS_CLIENT);
}

static void wires_cut(struct pair *p)
{
    for (size_t i = 0; i < 2; i++) {
        if (p->wires[i] >= 0) close(p->wires[i]);
        p->wires[i] = -1;
    }
}

static void pair_drop(struct pair *p)
{
    wires_cut(p);
    loop_free(p->loop);
    assert_null(p->server.conn);
    assert_null(p->client.conn);
    buf_deinit(&p->server.got);
    buf_deinit(&p->client.got);
}

static void pair_free(struct pair *p)
{
    pair_drop(p);
    assert_int_equal(tls_context_stats(p->server_ctx)->conn_count, 0);
    assert_int_equal(tls_context_stats(p->client_ctx)->conn_count, 0);
    tls_context_free(p->server_ctx);
    tls_context_free(p->client_ctx);
}

/* Mutual: the usual case. */
static void pair_make(struct pair *p)
{
    contexts_make(p, "good/n1", "good", "good/n2", "good");
    pair_connect(p);
}

static void turns(struct pair *p, size_t count)
{
    for (size_t i = 0; i < count; i++) loop_turn(p->loop, false);
}

#define UNTIL(p, condition) \
    do { \
        for (size_t turn_ = 0; !(condition); turn_++) { \
            if (turn_ == TURN_COUNT_MAX) fail_msg("never: %s", #condition); \
            loop_turn((p)->loop, false); \
        } \
    } while (0)

static void say(struct side *s, const void *at, size_t len)
{
    chain_append(conn_out(s->conn), at, len);
    conn_dirty(s->conn);
}

static bool both_established(const struct pair *p)
{
    return conn_is_established(p->server.conn) && conn_is_established(p->client.conn);
}

static bool both_closed(const struct pair *p)
{
    return p->server.conn == NULL && p->client.conn == NULL;
}

/* Bytes that differ wherever one looks. */
static uint8_t *pattern_new(size_t len)
{
    uint8_t *at = mem_alloc(len);
    for (size_t i = 0; i < len; i++) at[i] = (uint8_t)(u64_mix(i) >> 40);
    return at;
}

/* --- what works ------------------------------------------------------------------ */

static void expect_names(const struct conn *conn, const char *want)
{
    struct tls_names names;
    struct errmsg em;
    char text[200];
    assert_int_equal(conn_tls_names(conn, &names, &em), OK);
    assert_string_equal(tls_names_text(&names, text, sizeof text), want);
}

static void test_handshake_and_echo(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    assert_true(conn_is_tls(p.server.conn));
    assert_false(conn_is_established(p.client.conn));
    struct tls_names names;
    struct errmsg em;
    assert_int_equal(conn_tls_names(p.server.conn, &names, &em), ERR_NOT_FOUND);
    p.server.echo = true;
    say(&p.client, "hello", 5); /* before the handshake: waits for it */
    UNTIL(&p, p.client.got.len == 5);
    assert_memory_equal(p.client.got.at, "hello", 5);
    assert_int_equal(p.client.open_count, 1);
    assert_int_equal(p.server.open_count, 0);
    expect_names(p.server.conn, "n2 n2.example.com 10.0.0.2");
    expect_names(p.client.conn, "n1 localhost 127.0.0.1 ::1");
    assert_int_equal(tls_context_stats(p.server_ctx)->handshake_count, 1);
    assert_int_equal(tls_context_stats(p.server_ctx)->conn_count, 1);
    char why[8];
    assert_string_equal(conn_tls_error(p.client.conn, why, sizeof why), "");
    /* I2 of net.h */
    turns(&p, 3);
    assert_null(p.client.conn->input);
    assert_null(p.client.conn->out.head);
    assert_int_equal(loop_stats(p.loop)->input_bytes, 0);
    assert_true(conn_struct_bytes() <= 250);
    pair_free(&p);
    assert_int_equal(p.server.reason, CONN_CLOSE_LOOP);
}

/* A small request costs one read and one write, as without TLS, and then the loop may sleep. */
static void test_one_read_one_write(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    UNTIL(&p, both_established(&p));
    turns(&p, 5);
    struct loop_stats before = *loop_stats(p.loop);
    say(&p.client, "ping", 4);
    turns(&p, 5);
    assert_int_equal(p.server.got.len, 4);
    assert_int_equal(loop_stats(p.loop)->read_count - before.read_count, 1);
    assert_int_equal(loop_stats(p.loop)->write_count - before.write_count, 1);
    assert_int_equal(p.loop->more.count, 0);
    assert_int_equal(p.loop->dirty.count, 0);
    pair_free(&p);
}

static void test_versions(void **state)
{
    (void)state;
    for (int version = TLS1_1_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair p;
        pair_make(&p);
        SSL *ssl = p.client.conn->tls->ssl;
        SSL_set_min_proto_version(ssl, version);
        SSL_set_max_proto_version(ssl, version);
        SSL_set_security_level(ssl, 0);
        if (version == TLS1_1_VERSION) {
            UNTIL(&p, both_closed(&p));
            assert_int_equal(p.server.reason, CONN_CLOSE_TLS);
            assert_string_equal(p.server.why, "unsupported protocol");
        } else {
            p.server.echo = true;
            say(&p.client, "hello", 5);
            UNTIL(&p, p.client.got.len == 5);
            assert_int_equal(SSL_version(p.server.conn->tls->ssl), version);
            assert_false(SSL_session_reused(ssl));
        }
        pair_free(&p);
    }
}

/* Small pieces, pieces of many records and shared ones, mixed. */
static void pattern_say(struct side *s, const uint8_t *at, size_t len)
{
    struct chain *out = conn_out(s->conn);
    for (size_t done = 0, i = 0; done < len; i++) {
        size_t part = MIN(len - done, 1 + (size_t)(u64_mix(i) % (i % 8 == 0 ? 200000 : 700)));
        if (i % 8 == 0) {
            struct blob *blob = blob_copy((struct slice){ at + done, part });
            chain_append_blob(out, blob, 0, part);
            blob_unref(blob);
        } else {
            chain_append(out, at + done, part);
        }
        done += part;
    }
    conn_dirty(s->conn);
}

static void test_big_both_ways_through_small_sockets(void **state)
{
    (void)state;
    uint8_t *body = pattern_new(BIG_BYTES);
    struct pair p;
    pair_make(&p);
    int bytes = 4096;
    for (int i = 0; i < 2; i++) {
        int fd = conn_fd(i == 0 ? p.server.conn : p.client.conn);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    }
    pattern_say(&p.server, body, BIG_BYTES);
    pattern_say(&p.client, body, BIG_BYTES);
    UNTIL(&p, p.server.got.len == BIG_BYTES && p.client.got.len == BIG_BYTES);
    assert_memory_equal(p.server.got.at, body, BIG_BYTES);
    assert_memory_equal(p.client.got.at, body, BIG_BYTES);
    assert_int_equal(p.server.writable_count, 1);
    assert_true(loop_stats(p.loop)->write_count > 2 * BIG_BYTES / 16384);
    pair_free(&p);
    mem_free(body);
}

/* Moves up to `bytes` from one wire to the other; returns how many. */
static size_t carry(struct pair *p, int from, size_t bytes)
{
    uint8_t at[4096];
    ssize_t got = recv(p->wires[from], at, MIN(bytes, sizeof at), 0);
    if (got <= 0) return 0;
    assert_int_equal(send(p->wires[1 - from], at, (size_t)got, MSG_NOSIGNAL), got);
    return (size_t)got;
}

static void wired_handshake(struct pair *p)
{
    for (size_t i = 0; !both_established(p); i++) {
        assert_true(i < TURN_COUNT_MAX);
        loop_turn(p->loop, false);
        carry(p, 0, 4096);
        carry(p, 1, 4096);
    }
}

static void test_byte_at_a_time(void **state)
{
    (void)state;
    struct pair p;
    contexts_make(&p, "good/n1", "good", "good/n2", "good");
    pair_wire(&p);
    p.server.echo = true;
    uint8_t *body = pattern_new(20000);
    say(&p.client, body, 20000);
    for (size_t i = 0; p.client.got.len < 20000; i++) {
        if (i == TURN_COUNT_MAX) fail_msg("only %zu bytes came back", p.client.got.len);
        carry(&p, 0, 1);
        carry(&p, 1, 1);
        loop_turn(p.loop, false);
    }
    assert_memory_equal(p.client.got.at, body, 20000);
    mem_free(body);
    pair_free(&p);
}

static void test_wanted_body_comes_whole(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    size_t len = 3u << 20;
    uint8_t *body = pattern_new(len);
    p.server.want_bytes = len;
    say(&p.client, body, len);
    UNTIL(&p, p.server.got.len == len);
    assert_memory_equal(p.server.got.at, body, len);
    assert_int_equal(p.server.call_count, 2);
    mem_free(body);
    pair_free(&p);
}

/* What OpenSSL has already taken from the socket is not forgotten: no readiness tells of it. */
static void test_pause_and_resume(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    UNTIL(&p, both_established(&p));
    uint8_t *body = pattern_new(BIG_BYTES);
    p.server.pause = true;
    say(&p.client, body, BIG_BYTES);
    for (size_t rounds = 0; p.server.got.len < BIG_BYTES; rounds++) {
        assert_true(rounds < TURN_COUNT_MAX);
        turns(&p, 10);
        assert_true(conn_input_bytes(p.server.conn) <= NET_PAUSED_BYTES_MAX);
        assert_true(p.server.conn->input_cap <= 2 * NET_PAUSED_BYTES_MAX);
        assert_int_equal(p.loop->more.count, 0); /* the loop could sleep */
        p.server.take_bytes = 1 + (size_t)(u64_mix(rounds) % 150000);
        conn_resume(p.server.conn);
    }
    assert_memory_equal(p.server.got.at, body, BIG_BYTES);
    mem_free(body);
    pair_free(&p);
}

/* All of it has left the socket; the end of the last record waits inside OpenSSL. */
static void test_rest_of_a_record_comes_after_resume(void **state)
{
    (void)state;
    size_t len = NET_PAUSED_BYTES_MAX + 10; /* 10 bytes of their own, then four full records */
    uint8_t *body = pattern_new(len);
    for (int wanted = 0; wanted < 2; wanted++) {
        struct pair p;
        pair_make(&p);
        UNTIL(&p, both_established(&p));
        if (wanted) p.server.want_bytes = len;
        say(&p.client, body, 10);
        UNTIL(&p, p.server.call_count == 1);
        conn_pause(p.server.conn);
        say(&p.client, body + 10, len - 10);
        turns(&p, 50);
        assert_int_equal(conn_input_bytes(p.server.conn), NET_PAUSED_BYTES_MAX);
        conn_resume(p.server.conn);
        turns(&p, 10);
        assert_int_equal(p.server.got.len, len);
        assert_memory_equal(p.server.got.at, body, len);
        pair_free(&p);
    }
    mem_free(body);
}

static void test_slow_reader_is_bounded(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    UNTIL(&p, both_established(&p));
    conn_pause(p.server.conn);
    uint8_t *body = pattern_new(BIG_BYTES);
    say(&p.client, body, BIG_BYTES);
    turns(&p, 200);
    size_t left = chain_bytes(conn_out(p.client.conn));
    assert_true(left > BIG_BYTES / 2);
    turns(&p, 200);
    assert_int_equal(chain_bytes(conn_out(p.client.conn)), left); /* nothing moves, nothing spins */
    assert_int_equal(p.loop->dirty.count, 0);
    assert_int_equal(p.loop->more.count, 0);
    assert_true((p.client.conn->flags & CONN_WAIT_WRITE) != 0);
    assert_int_equal(conn_input_bytes(p.server.conn), NET_PAUSED_BYTES_MAX);
    assert_true(p.server.conn->input_cap <= 2 * NET_PAUSED_BYTES_MAX);
    conn_resume(p.server.conn);
    UNTIL(&p, p.server.got.len == BIG_BYTES);
    assert_memory_equal(p.server.got.at, body, BIG_BYTES);
    mem_free(body);
    pair_free(&p);
}

static void test_random_traffic(void **state)
{
    (void)state;
    size_t len = 4000000;
    uint8_t *body = pattern_new(len);
    struct pair p;
    pair_make(&p);
    p.server.echo = true;
    uint64_t seed = 7;
    for (size_t sent = 0; p.client.got.len < len;) {
        seed = u64_mix(seed + 1);
        if (seed % 4 == 0) conn_pause(p.server.conn);
        if (seed % 4 == 1 || sent == len) conn_resume(p.server.conn);
        if (seed % 7 == 0) conn_pause(p.client.conn);
        if (seed % 7 == 1 || sent == len) conn_resume(p.client.conn);
        p.server.take_bytes = 1 + (seed >> 8) % ((seed >> 40) % 2 == 0 ? 100000 : 5000);
        p.server.want_bytes =
            (seed >> 16) % 5 == 0 ? MIN((seed >> 20) % 200000, len - p.server.got.len) : 0;
        size_t part = MIN((seed >> 24) % 90000, len - sent);
        if (part != 0) say(&p.client, body + sent, part);
        sent += part;
        if (seed % 11 == 0) conn_flush_now(p.client.conn);
        if (seed % 13 == 0 && both_established(&p)) {
            SSL_key_update(p.client.conn->tls->ssl, SSL_KEY_UPDATE_REQUESTED);
        }
        loop_turn(p.loop, false);
    }
    assert_memory_equal(p.client.got.at, body, len);
    assert_memory_equal(p.server.got.at, body, len);
    pair_free(&p);
    mem_free(body);
}

/* --- closing ------------------------------------------------------------------------ */

static void test_orderly_close(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    uint8_t *body = pattern_new(BIG_BYTES);
    say(&p.server, body, BIG_BYTES);
    conn_close_after_flush(p.server.conn); /* even before the handshake */
    p.client.half_closes = true;
    UNTIL(&p, both_closed(&p));
    assert_int_equal(p.client.got.len, BIG_BYTES);
    assert_memory_equal(p.client.got.at, body, BIG_BYTES);
    assert_int_equal(p.client.eof_count, 1);
    assert_int_equal(p.server.reason, CONN_CLOSE_FLUSHED);
    mem_free(body);
    pair_free(&p);
}

/* Everything is sent but the last word, for which the socket has no room. */
static void test_close_notify_waits_for_room(void **state)
{
    (void)state;
    size_t waited_count = 0;
    uint8_t *body = pattern_new(16384);
    for (size_t len = 500; len < 8000; len += 250) {
        struct pair p;
        contexts_make(&p, "good/n1", "good", "good/n2", "good");
        pair_wire(&p);
        wired_handshake(&p);
        int bytes = 4096;
        assert_int_equal(setsockopt(conn_fd(p.server.conn), SOL_SOCKET, SO_SNDBUF, &bytes,
                                    sizeof bytes), 0);
        say(&p.server, body, len);
        conn_close_after_flush(p.server.conn);
        turns(&p, 5);
        bool waits = p.server.conn != NULL && chain_bytes(conn_out(p.server.conn)) == 0;
        waited_count += waits;
        for (size_t i = 0; p.client.conn != NULL; i++) {
            assert_true(i < TURN_COUNT_MAX);
            carry(&p, 0, 4096);
            loop_turn(p.loop, false);
        }
        assert_int_equal(p.client.got.len, len);
        assert_int_equal(p.client.eof_count, 1);
        assert_int_equal(p.server.reason, CONN_CLOSE_FLUSHED);
        pair_free(&p);
    }
    assert_true(waited_count != 0);
    mem_free(body);
}

/* One side says that it sends no more and still gets the answer. */
static void test_half_close(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    p.server.half_closes = true;
    say(&p.client, "last", 4);
    UNTIL(&p, p.server.got.len == 4);
    assert_int_equal(SSL_shutdown(p.client.conn->tls->ssl), 0);
    UNTIL(&p, both_closed(&p));
    assert_int_equal(p.server.eof_count, 1);
    assert_int_equal(p.server.reason, CONN_CLOSE_FLUSHED);
    assert_int_equal(p.client.got.len, 3);
    assert_memory_equal(p.client.got.at, "bye", 3);
    assert_int_equal(p.client.eof_count, 1);
    pair_free(&p);
}

/* conn_close with nothing unsent is no truncation. With something unsent it is one. */
static void test_close(void **state)
{
    (void)state;
    for (int unsent = 0; unsent < 2; unsent++) {
        struct pair p;
        pair_make(&p);
        UNTIL(&p, both_established(&p));
        if (unsent) say(&p.server, "lost", 4);
        conn_close(p.server.conn);
        UNTIL(&p, both_closed(&p));
        assert_int_equal(p.server.reason, CONN_CLOSE_LOCAL);
        assert_int_equal(p.client.eof_count, unsent ? 0 : 1);
        if (unsent) {
            assert_int_equal(p.client.reason, CONN_CLOSE_TLS);
            assert_string_equal(p.client.why, "unexpected eof while reading");
        }
        pair_free(&p);
    }
}

static void test_cut_and_changed_on_the_wire(void **state)
{
    (void)state;
    for (int changed = 0; changed < 2; changed++) {
        struct pair p;
        contexts_make(&p, "good/n1", "good", "good/n2", "good");
        pair_wire(&p);
        wired_handshake(&p);
        say(&p.client, "first", 5);
        turns(&p, 3);
        say(&p.client, "second", 6);
        turns(&p, 3);
        uint8_t record[200];
        ssize_t len = recv(p.wires[1], record, sizeof record, 0);
        assert_true(len > 10);
        record[len - 1] ^= (uint8_t)changed;
        assert_int_equal(send(p.wires[0], record, (size_t)(changed ? len : len - 1), 0),
                         changed ? len : len - 1);
        if (!changed) wires_cut(&p);
        UNTIL(&p, p.server.conn == NULL);
        assert_int_equal(p.server.got.len, 5); /* what was whole is delivered first */
        assert_int_equal(p.server.reason, CONN_CLOSE_TLS);
        assert_string_equal(p.server.why, changed ? "decryption failed or bad record mac"
                                                  : "unexpected eof while reading");
        pair_free(&p);
    }
}

/* The peer goes away after any number of bytes of the handshake. */
static void test_cut_in_the_handshake(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < 1600; bytes += 37) {
        struct pair p;
        contexts_make(&p, "good/n1", "good", "good/n2", "good");
        pair_wire(&p);
        for (size_t left = bytes, idle = 0; idle < 5 && left != 0; idle++) {
            loop_turn(p.loop, false);
            size_t moved = carry(&p, 0, left);
            moved += carry(&p, 1, left - moved);
            left -= moved;
            if (moved != 0) idle = 0;
        }
        assert_false(conn_is_established(p.server.conn));
        wires_cut(&p);
        UNTIL(&p, both_closed(&p));
        assert_true(p.server.reason == CONN_CLOSE_TLS || p.server.reason == CONN_CLOSE_RESET);
        assert_true(p.client.reason == CONN_CLOSE_TLS || p.client.reason == CONN_CLOSE_RESET ||
                    p.client.open_count == 1);
        assert_int_equal(p.server.got.len, 0);
        assert_int_equal(tls_context_stats(p.server_ctx)->refuse_count, 1);
        pair_free(&p);
    }
}

static void test_the_loop_ends_in_a_handshake(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    loop_turn(p.loop, false);
    tls_context_free(p.server_ctx); /* the connections still hold it */
    tls_context_free(p.client_ctx);
    pair_drop(&p);
    assert_int_equal(p.server.reason, CONN_CLOSE_LOOP);
}

/* --- who is refused ------------------------------------------------------------------- */

static const struct {
    const char *server, *server_ca, *client, *client_ca;
    const char *server_says, *client_says; /* NULL: it is content */
} peers[] = {
    { "good/n1", "good", "good/n2", "good", NULL, NULL },
    { "good/n1", NULL, NULL, "good", NULL, NULL },
    { "good/n1", NULL, NULL, NULL, NULL, NULL },
    { "good/n1", "good", "other/n1", "good", "certificate verify failed: ",
      "alert unknown ca" },
    { "good/n1", "good", "good/n2", "other", "alert unknown ca", "certificate verify failed: " },
    { "good/n1", "good", NULL, "good", "peer did not return a certificate",
      "alert certificate required" },
    { "good/n1", "good", "good/old", "good", "certificate verify failed: certificate has expired",
      "alert certificate expired" },
    { "good/old", "good", "good/n2", "good", "alert certificate expired",
      "certificate verify failed: certificate has expired" },
};

static void expect_end(const struct side *s, const char *says, size_t i)
{
    bool fits = says == NULL ? s->conn != NULL && s->close_count == 0
                             : s->reason == CONN_CLOSE_TLS && s->close_count == 1 &&
                                   strstr(s->why, says) != NULL;
    if (!fits) {
        fail_msg("case %zu: closed %zu, %s, %s", i, s->close_count,
                 conn_close_reason_name(s->reason), s->why);
    }
}

static void test_who_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        struct pair p;
        contexts_make(&p, peers[i].server, peers[i].server_ca, peers[i].client,
                      peers[i].client_ca);
        pair_connect(&p);
        say(&p.client, "let me in", 9);
        turns(&p, REFUSED_TURN_COUNT);
        expect_end(&p.server, peers[i].server_says, i);
        expect_end(&p.client, peers[i].client_says, i);
        assert_int_equal(p.server.got.len, peers[i].server_says == NULL ? 9 : 0);
        if (peers[i].client == NULL && p.server.conn != NULL) {
            struct tls_names names;
            struct errmsg em;
            assert_int_equal(conn_tls_names(p.server.conn, &names, &em), ERR_NOT_FOUND);
        }
        pair_free(&p);
    }
}

static void raw_make(struct pair *p, int *peer)
{
    contexts_make(p, "good/n1", "good", "good/n2", "good");
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    side_start(&p->server, p->loop, ends[0], p->server_ctx, TLS_SERVER);
    *peer = ends[1];
}

static void test_plain_clients(void **state)
{
    (void)state;
    static const struct {
        const char *says, *why;
    } plain[] = {
        { "PI", NULL },
        { "PING\r\n", "wrong version number" },
        { "*1\r\n$4\r\nPING\r\n", "wrong version number" },
        { "GET / HTTP/1.1\r\n\r\n", "http request" },
        { "CONNECT a:1 HTTP/1.1\r\n\r\n", "https proxy request" },
    };
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        struct pair p;
        int peer;
        raw_make(&p, &peer);
        assert_int_equal(send(peer, plain[i].says, strlen(plain[i].says), 0),
                         strlen(plain[i].says));
        turns(&p, 10);
        if (plain[i].why == NULL) { /* too short to tell: a handshake that its owner ends */
            assert_non_null(p.server.conn);
            conn_close(p.server.conn);
            turns(&p, 1);
        } else {
            assert_null(p.server.conn);
            assert_int_equal(p.server.reason, CONN_CLOSE_TLS);
            assert_non_null(strstr(p.server.why, plain[i].why));
        }
        assert_int_equal(p.server.call_count, 0);
        close(peer);
        pair_free(&p);
    }
}

static void test_tls_client_of_a_plain_server(void **state)
{
    (void)state;
    struct pair p;
    contexts_make(&p, "good/n1", "good", "good/n2", "good");
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    side_start(&p.server, p.loop, ends[0], NULL, TLS_SERVER);
    side_start(&p.client, p.loop, ends[1], p.client_ctx, TLS_CLIENT);
    assert_false(conn_is_tls(p.server.conn));
    assert_true(conn_is_established(p.server.conn));
    struct tls_names names;
    struct errmsg em;
    assert_int_equal(conn_tls_names(p.server.conn, &names, &em), ERR_NOT_FOUND);
    say(&p.server, "-ERR no TLS here\r\n", 18);
    UNTIL(&p, both_closed(&p));
    assert_int_equal(p.client.reason, CONN_CLOSE_TLS);
    assert_string_equal(p.client.why, "wrong version number");
    pair_free(&p);
}

/* Noise, and a true beginning that turns into noise: refused, and never delivered. */
static void test_garbage(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct pair p;
        contexts_make(&p, "good/n1", "good", "good/n2", "good");
        pair_wire(&p);
        uint8_t noise[3000];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)(u64_mix(seed << 20 | i));
        size_t true_bytes = seed % 3 == 0 ? 0 : (size_t)(u64_mix(seed) % 600);
        for (int i = 0; i < 5; i++) {
            loop_turn(p.loop, false);
            true_bytes -= carry(&p, 1, true_bytes);
            carry(&p, 0, 4096);
        }
        if (seed % 5 == 0) memcpy(noise, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
        send(p.wires[0], noise, sizeof noise, MSG_NOSIGNAL);
        turns(&p, 10);
        wires_cut(&p);
        UNTIL(&p, both_closed(&p));
        assert_int_equal(p.server.call_count, 0);
        assert_int_equal(p.server.reason, CONN_CLOSE_TLS);
        pair_free(&p);
    }
}

/* Whoever wants new keys all the time, or sends records that carry nothing, gets a turn's share. */
static void test_records_without_content(void **state)
{
    (void)state;
    struct pair p;
    contexts_make(&p, "good/n1", "good", "good/n2", "good");
    pair_wire(&p);
    wired_handshake(&p);
    SSL *ssl = p.client.conn->tls->ssl;
    static uint8_t updates[150000];
    size_t len = 0;
    while (len < sizeof updates - 100) {
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ssl), 1);
        ssize_t got = recv(p.wires[1], updates + len, sizeof updates - len, 0);
        assert_true(got > 0);
        len += (size_t)got;
    }
    assert_int_equal(send(p.wires[0], updates, len, MSG_NOSIGNAL), len);
    uint64_t read_max = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t before = loop_stats(p.loop)->read_bytes;
        loop_turn(p.loop, false);
        read_max = MAX(read_max, loop_stats(p.loop)->read_bytes - before);
    }
    assert_int_equal(read_max, NET_READ_BYTES_MAX);
    say(&p.client, "content", 7);
    turns(&p, 2);
    carry(&p, 1, 4096);
    UNTIL(&p, p.server.got.len == 7);
    pair_free(&p);
}

static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    struct pair p;
    pair_make(&p);
    SSL *ssl = p.client.conn->tls->ssl;
    SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    UNTIL(&p, both_established(&p));
    SSL_clear_options(ssl, SSL_OP_NO_RENEGOTIATION);
    assert_int_equal(SSL_renegotiate(ssl), 1);
    say(&p.client, "again", 5); /* sends the hello of a new handshake first */
    turns(&p, 50);
    assert_int_equal(p.server.got.len, 0);
    assert_int_equal(p.client.reason, CONN_CLOSE_TLS);
    assert_string_equal(p.client.why, "no renegotiation");
    pair_free(&p);
}

/* --- certificates that change ------------------------------------------------------------ */

static void test_reload(void **state)
{
    (void)state;
    char command[8 * CERTS_PATH_BYTES_MAX];
    snprintf(command, sizeof command,
             "cd %s && cp good/n1.pem now.pem && cp good/n1.key now.key", certs_root);
    certs_run(command);
    struct pair p = { .loop = loop_make(), .wires = { -1, -1 } };
    struct certs kit;
    struct tls_config cfg = certs_config(&kit, "now", "good");
    struct errmsg em;
    assert_int_equal(tls_context_new(&cfg, &p.server_ctx, &em), OK);
    p.client_ctx = certs_context("good/n2", "good");
    pair_connect(&p);
    UNTIL(&p, both_established(&p));
    struct side old_server = p.server, old_client = p.client;
    old_server.conn->user = &old_server;
    old_client.conn->user = &old_client;

    snprintf(command, sizeof command,
             "cd %s && cp good/n2.pem now.pem && cp good/n2.key now.key", certs_root);
    certs_run(command);
    assert_int_equal(tls_context_reload(p.server_ctx, &em), OK);
    const struct tls_stats *stats = tls_context_stats(p.server_ctx);
    assert_int_equal(stats->conn_count, 1);
    assert_int_equal(stats->old_conn_count, 1);
    pair_connect(&p);
    UNTIL(&p, both_established(&p));
    expect_names(p.client.conn, "n2 n2.example.com 10.0.0.2");
    expect_names(old_client.conn, "n1 localhost 127.0.0.1 ::1");
    assert_int_equal(stats->conn_count, 2);
    assert_int_equal(stats->old_conn_count, 1);

    say(&old_client, "still here", 10);
    UNTIL(&p, old_server.got.len == 10);
    conn_close(old_server.conn);
    UNTIL(&p, old_server.conn == NULL && old_client.conn == NULL);
    assert_int_equal(stats->conn_count, 1);
    assert_int_equal(stats->old_conn_count, 0);
    buf_deinit(&old_server.got);
    pair_free(&p);
}

/* --- over TCP, through listeners ------------------------------------------------------------ */

static void on_accept(void *ctx, struct conn *conn)
{
    struct pair *p = ctx;
    conn_start_tls(conn, p->server_ctx, TLS_SERVER);
    p->server = (struct side){ .take_bytes = SIZE_MAX, .conn = conn, .echo = true };
    conn_start(conn, &callbacks, &p->server);
}

static void on_accept_refuse(void *ctx, struct conn *conn)
{
    struct pair *p = ctx;
    conn_start_tls(conn, p->server_ctx, TLS_SERVER);
    chain_append_slice(conn_out(conn), SLICE_LIT("-ERR full\r\n"));
    conn_close_after_flush(conn);
}

static void tcp_open(struct pair *p, net_accept_fn *accept_fn, bool close_in_open)
{
    contexts_make(p, "good/n1", "good", "good/n2", "good");
    struct listener *listener;
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(net_listen(p->loop, "127.0.0.1", 0, 8, accept_fn, p, &listener, &em), OK);
    assert_int_equal(net_resolve("127.0.0.1", listener_port(listener), 0, &addr, &em), OK);
    p->client = (struct side){ .take_bytes = SIZE_MAX, .close_in_open = close_in_open };
    assert_int_equal(conn_open_tls(p->loop, &addr, p->client_ctx, &callbacks, &p->client,
                                   &p->client.conn, &em), OK);
}

static void test_tcp(void **state)
{
    (void)state;
    struct pair p;
    tcp_open(&p, on_accept, false);
    assert_false(conn_is_established(p.client.conn));
    say(&p.client, "over TCP", 8);
    UNTIL(&p, p.client.got.len == 8);
    assert_int_equal(p.client.open_count, 1);
    pair_free(&p);
}

static void test_tcp_refused_with_words(void **state)
{
    (void)state;
    struct pair p;
    tcp_open(&p, on_accept_refuse, false);
    UNTIL(&p, p.client.conn == NULL);
    assert_int_equal(p.client.got.len, 11);
    assert_memory_equal(p.client.got.at, "-ERR full\r\n", 11);
    assert_int_equal(p.client.eof_count, 1);
    pair_free(&p);
}

static void test_tcp_closed_in_on_open(void **state)
{
    (void)state;
    struct pair p;
    tcp_open(&p, on_accept, true);
    UNTIL(&p, p.client.close_count == 1 && p.server.close_count == 1);
    assert_int_equal(p.client.reason, CONN_CLOSE_LOCAL);
    assert_int_equal(p.server.eof_count, 1);
    pair_free(&p);
}

static void test_tcp_nobody_listens(void **state)
{
    (void)state;
    struct pair p;
    contexts_make(&p, "good/n1", "good", "good/n2", "good");
    struct listener *listener;
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(net_listen(p.loop, "127.0.0.1", 0, 8, on_accept, &p, &listener, &em), OK);
    assert_int_equal(net_resolve("127.0.0.1", listener_port(listener), 0, &addr, &em), OK);
    listener_close(listener);
    turns(&p, 1);
    p.client = (struct side){ .take_bytes = SIZE_MAX };
    assert_int_equal(conn_open_tls(p.loop, &addr, p.client_ctx, &callbacks, &p.client,
                                   &p.client.conn, &em), OK);
    UNTIL(&p, p.client.conn == NULL);
    assert_int_equal(p.client.reason, CONN_CLOSE_RESET);
    assert_int_equal(p.client.error, ECONNREFUSED);
    assert_string_equal(p.client.why, "");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_echo),
        cmocka_unit_test(test_one_read_one_write),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_big_both_ways_through_small_sockets),
        cmocka_unit_test(test_byte_at_a_time),
        cmocka_unit_test(test_wanted_body_comes_whole),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_rest_of_a_record_comes_after_resume),
        cmocka_unit_test(test_slow_reader_is_bounded),
        cmocka_unit_test(test_random_traffic),
        cmocka_unit_test(test_orderly_close),
        cmocka_unit_test(test_close_notify_waits_for_room),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_cut_and_changed_on_the_wire),
        cmocka_unit_test(test_cut_in_the_handshake),
        cmocka_unit_test(test_the_loop_ends_in_a_handshake),
        cmocka_unit_test(test_who_is_refused),
        cmocka_unit_test(test_plain_clients),
        cmocka_unit_test(test_tls_client_of_a_plain_server),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_records_without_content),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_refused_with_words),
        cmocka_unit_test(test_tcp_closed_in_on_open),
        cmocka_unit_test(test_tcp_nobody_listens),
    };
    return cmocka_run_group_tests_name("net/conn_tls", tests, certs_setup, certs_teardown);
}
