#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "net/net_int.h"

#define ALL SIZE_MAX

/* The owner of one connection and the other end of its socket. */
struct owner {
    struct loop *loop;
    struct conn *conn; /* NULL once closed */
    int peer;
    struct buf got;       /* everything consumed, in order */
    size_t take_bytes;    /* consume at most so many a call */
    size_t want_bytes;    /* below so many: consume nothing and ask for them */
    bool echo;
    bool pause;           /* in the next on_bytes */
    bool close;
    bool close_after_flush;
    struct conn *close_other;
    struct conn *write_to_on_close;
    size_t call_count;
    size_t close_count;
    size_t eof_count;
    size_t writable_count;
    enum conn_close_reason reason;
    int error;
};

static size_t on_bytes(void *user, struct conn *conn, struct slice in)
{
    struct owner *o = user;
    o->call_count++;
    assert_true(in.len != 0);
    assert_ptr_equal(conn_user(conn), o);
    if (o->want_bytes != 0 && in.len < o->want_bytes) {
        conn_want(conn, o->want_bytes);
        return 0;
    }
    size_t take = MIN(in.len, o->take_bytes);
    buf_append(&o->got, in.at, take);
    if (o->echo) {
        chain_append(conn_out(conn), in.at, take);
        conn_dirty(conn);
    }
    if (o->pause) conn_pause(conn);
    if (o->close) conn_close(conn);
    if (o->close_after_flush) conn_close_after_flush(conn);
    if (o->close_other != NULL) conn_close(o->close_other);
    return take;
}

static void on_close(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct owner *o = user;
    o->close_count++;
    o->reason = reason;
    o->error = conn_close_errno(conn);
    o->conn = NULL;
    if (o->write_to_on_close != NULL) {
        chain_append(conn_out(o->write_to_on_close), "bye", 3);
        conn_dirty(o->write_to_on_close);
    }
}

static void on_writable(void *user, struct conn *conn)
{
    struct owner *o = user;
    assert_true(chain_bytes(conn_out(conn)) < NET_OUTPUT_LOW_BYTES_DEFAULT);
    o->writable_count++;
}

static void on_eof(void *user, struct conn *conn)
{
    struct owner *o = user;
    assert_ptr_equal(conn, o->conn);
    o->eof_count++;
}

static const struct conn_callbacks plain = { on_bytes, on_close, on_writable, NULL, NULL, NULL };
static const struct conn_callbacks with_eof = { on_bytes, on_close, on_writable, on_eof, NULL, NULL };

static struct loop *loop_make(void)
{
    struct loop_cfg cfg = { .spin_us = 0 };
    struct loop *loop;
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &loop, &em), OK);
    return loop;
}

static void owner_init(struct owner *o, struct loop *loop, const struct conn_callbacks *callbacks)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    *o = (struct owner){ .loop = loop, .peer = ends[1], .take_bytes = ALL };
    o->conn = conn_new(loop, ends[0], callbacks, o);
}

static void owner_deinit(struct owner *o)
{
    if (o->peer >= 0) close(o->peer);
    buf_deinit(&o->got);
}

static void peer_send(const struct owner *o, const void *at, size_t len)
{
    assert_int_equal(send(o->peer, at, len, MSG_NOSIGNAL), len);
}

static void peer_send_text(const struct owner *o, const char *text)
{
    peer_send(o, text, strlen(text));
}

static void peer_expect(const struct owner *o, const char *want)
{
    char got[256];
    ssize_t len = recv(o->peer, got, sizeof got, 0);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, strlen(want));
}

static void peer_close(struct owner *o)
{
    close(o->peer);
    o->peer = -1;
}

static void expect_got(const struct owner *o, const char *want)
{
    assert_int_equal(o->got.len, strlen(want));
    if (o->got.len != 0) assert_memory_equal(o->got.at, want, o->got.len);
}

/* Bytes that differ wherever one looks. */
static uint8_t *pattern_new(size_t len)
{
    uint8_t *at = mem_alloc(len);
    for (size_t i = 0; i < len; i++) at[i] = (uint8_t)(u64_mix(i) >> 40);
    return at;
}

static void test_echo_and_idle(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.echo = true;
    peer_send_text(&o, "hello");
    loop_turn(loop, true);
    peer_expect(&o, "hello");
    expect_got(&o, "hello");
    assert_null(o.conn->input); /* I2 */
    assert_null(o.conn->out.head);
    assert_int_equal(loop_stats(loop)->read_count, 1);
    assert_int_equal(loop_stats(loop)->write_count, 1);
    assert_int_equal(loop_stats(loop)->input_bytes, 0);
    assert_true(conn_struct_bytes() <= 250);
    loop_free(loop);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_LOOP);
    owner_deinit(&o);
}

static void test_want_waits_for_enough(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.want_bytes = 10;
    peer_send_text(&o, "012");
    loop_turn(loop, true);
    assert_int_equal(o.call_count, 1);
    assert_int_equal(conn_input_bytes(o.conn), 3);
    for (int i = 3; i < 9; i++) {
        peer_send_text(&o, (char[]){ (char)('0' + i), 0 });
        loop_turn(loop, true);
        assert_int_equal(o.call_count, 1);
    }
    peer_send_text(&o, "9ab");
    loop_turn(loop, true);
    assert_int_equal(o.call_count, 2);
    expect_got(&o, "0123456789ab");
    assert_null(o.conn->input);
    loop_free(loop);
    owner_deinit(&o);
}

/* A big body is offered when it is whole, not again with each piece. */
static void test_big_body_is_offered_once(void **state)
{
    (void)state;
    size_t len = 3000000;
    uint8_t *body = pattern_new(len);
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.want_bytes = len;
    for (size_t done = 0; done < len;) {
        ssize_t sent = send(o.peer, body + done, len - done, MSG_NOSIGNAL);
        if (sent > 0) done += (size_t)sent;
        loop_turn(loop, false);
    }
    while (o.got.len < len) loop_turn(loop, true);
    assert_int_equal(o.call_count, 2);
    assert_int_equal(o.got.len, len);
    assert_memory_equal(o.got.at, body, len);
    assert_int_equal(loop_stats(loop)->input_bytes, 0);
    loop_free(loop);
    owner_deinit(&o);
    mem_free(body);
}

static void test_a_promise_costs_no_memory(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.want_bytes = 1000000;
    peer_send_text(&o, "$1000000");
    loop_turn(loop, true);
    peer_send_text(&o, "x");
    loop_turn(loop, true);
    assert_int_equal(conn_input_bytes(o.conn), 9);
    assert_true(loop_stats(loop)->input_bytes <= 2 * NET_READ_BYTES_MAX);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_want_beyond_the_limit_closes(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.want_bytes = NET_INPUT_BYTES_MAX_DEFAULT + 1;
    peer_send_text(&o, "x");
    loop_turn(loop, true);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_INPUT_LIMIT);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_a_connection_may_have_a_limit_of_its_own(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    conn_input_limit(o.conn, NET_INPUT_BYTES_MAX_DEFAULT + 1);
    o.want_bytes = NET_INPUT_BYTES_MAX_DEFAULT + 1;
    peer_send_text(&o, "x");
    loop_turn(loop, true);
    assert_int_equal(o.close_count, 0);
    conn_input_limit(o.conn, 4096);
    o.want_bytes = 4097;
    conn_want(o.conn, 0);
    peer_send_text(&o, "y");
    loop_turn(loop, true);
    assert_int_equal(o.reason, CONN_CLOSE_INPUT_LIMIT);
    loop_free(loop);
    owner_deinit(&o);
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* The kernel does the watching; here is only seen that it was asked to. */
static void test_a_silent_peer_is_watched_for(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct owner o = { .loop = loop, .peer = -1 };
    o.conn = conn_new(loop, fd, &plain, &o);
    conn_watch_peer(o.conn, 5000);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 5000);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 2);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 1);
    loop_free(loop);
}

/* A consumer that stops early is asked again next turn, without new bytes and without sleep. */
static void test_budget(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.take_bytes = 3;
    peer_send_text(&o, "aaabbbcccd");
    loop_turn(loop, true);
    assert_int_equal(o.got.len, 3);
    peer_send_text(&o, "dd"); /* behind what is held */
    uint64_t sleep_count = loop_stats(loop)->sleep_count;
    for (size_t turn = 2; turn <= 4; turn++) {
        loop_turn(loop, true);
        assert_int_equal(o.got.len, MIN(3 * turn, 10));
    }
    assert_int_equal(loop_stats(loop)->sleep_count, sleep_count);
    loop_turn(loop, true);
    expect_got(&o, "aaabbbcccddd");
    assert_null(o.conn->input);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_pause_holds_and_resume_delivers(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.pause = true;
    peer_send_text(&o, "first");
    loop_turn(loop, true);
    assert_true(conn_is_paused(o.conn));
    assert_int_equal(o.call_count, 1);

    uint8_t *body = pattern_new(100000);
    peer_send(&o, body, 100000);
    for (int i = 0; i < 10; i++) loop_turn(loop, false);
    assert_int_equal(o.call_count, 1);
    assert_int_equal(conn_input_bytes(o.conn), NET_PAUSED_BYTES_MAX);
    assert_int_equal(o.conn->interest, 0); /* or a full loop would spin */

    o.pause = false;
    conn_resume(o.conn);
    assert_int_equal(o.call_count, 1); /* never inside the call */
    while (o.got.len < 100005) loop_turn(loop, true);
    assert_memory_equal(o.got.at + 5, body, 100000);
    assert_null(o.conn->input);
    loop_free(loop);
    owner_deinit(&o);
    mem_free(body);
}

static void test_resume_keeps_waiting_for_what_was_wanted(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.want_bytes = 5;
    peer_send_text(&o, "12");
    loop_turn(loop, true);
    conn_pause(o.conn);
    peer_send_text(&o, "34");
    loop_turn(loop, true);
    conn_resume(o.conn);
    loop_turn(loop, false);
    assert_int_equal(o.call_count, 1);
    peer_send_text(&o, "5");
    loop_turn(loop, true);
    expect_got(&o, "12345");
    loop_free(loop);
    owner_deinit(&o);
}

static void test_eof_closes_after_the_last_bytes(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.take_bytes = 2;
    peer_send_text(&o, "abcdef");
    peer_close(&o);
    while (o.close_count == 0) loop_turn(loop, true);
    expect_got(&o, "abcdef");
    assert_int_equal(o.reason, CONN_CLOSE_EOF);
    assert_int_equal(o.close_count, 1);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_half_close_still_gets_its_answer(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &with_eof);
    peer_send_text(&o, "question");
    assert_int_equal(shutdown(o.peer, SHUT_WR), 0);
    while (o.eof_count == 0) loop_turn(loop, true);
    expect_got(&o, "question");
    for (int i = 0; i < 3; i++) loop_turn(loop, false);
    assert_int_equal(o.eof_count, 1);
    assert_int_equal(o.close_count, 0);
    chain_append(conn_out(o.conn), "answer", 6);
    conn_close_after_flush(o.conn);
    assert_true(conn_is_closing(o.conn));
    loop_turn(loop, true);
    assert_int_equal(o.reason, CONN_CLOSE_FLUSHED);
    peer_expect(&o, "answer");
    peer_expect(&o, "");
    loop_free(loop);
    owner_deinit(&o);
}

static void test_eof_of_a_paused_connection_is_told_at_once(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &with_eof);
    conn_pause(o.conn);
    peer_send_text(&o, "held");
    loop_turn(loop, true);
    assert_int_equal(shutdown(o.peer, SHUT_WR), 0);
    loop_turn(loop, true);
    assert_int_equal(o.eof_count, 1);
    assert_int_equal(o.call_count, 0);
    conn_resume(o.conn);
    loop_turn(loop, true);
    expect_got(&o, "held");
    assert_int_equal(o.eof_count, 1);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_close_is_two_steps(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    uint64_t id = conn_id(o.conn);
    assert_ptr_equal(conn_find(loop, id), o.conn);
    o.close = true;
    o.echo = true; /* dropped */
    o.take_bytes = 1;
    peer_send_text(&o, "abc");
    loop_turn(loop, true);
    assert_int_equal(o.call_count, 1);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_LOCAL);
    assert_null(conn_find(loop, id));
    assert_int_equal(loop_stats(loop)->conn_count, 0);

    struct owner next;
    owner_init(&next, loop, &plain);
    assert_true(conn_id(next.conn) > id);
    conn_close(next.conn);
    conn_close(next.conn);
    assert_null(conn_find(loop, conn_id(next.conn)));
    assert_true(conn_is_closing(next.conn));
    chain_append(conn_out(next.conn), "x", 1);
    conn_dirty(next.conn);
    conn_resume(next.conn);
    assert_int_equal(next.close_count, 0);
    loop_turn(loop, true);
    assert_int_equal(next.close_count, 1);
    loop_free(loop);
    owner_deinit(&o);
    owner_deinit(&next);
}

/* Two are ready in one turn and each would close the other: one of them is never called. */
static void test_close_another_that_is_ready(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner a, b;
    owner_init(&a, loop, &plain);
    owner_init(&b, loop, &plain);
    a.close_other = b.conn;
    b.close_other = a.conn;
    peer_send_text(&a, "a");
    peer_send_text(&b, "b");
    loop_turn(loop, true);
    assert_int_equal(a.call_count + b.call_count, 1);
    assert_int_equal(a.close_count + b.close_count, 1);
    assert_int_equal(a.close_count, b.call_count);
    a.close_other = b.close_other = NULL;
    loop_free(loop);
    owner_deinit(&a);
    owner_deinit(&b);
}

static void test_close_while_more_is_due(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.take_bytes = 1;
    peer_send_text(&o, "abcdef");
    loop_turn(loop, true);
    assert_true((o.conn->flags & CONN_MORE) != 0);
    conn_close(o.conn);
    loop_turn(loop, true);
    loop_turn(loop, false);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.got.len, 1);
    assert_int_equal(loop_stats(loop)->conn_count, 0);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_close_after_flush_delivers_no_more(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.echo = true;
    o.take_bytes = 3;
    o.close_after_flush = true;
    peer_send_text(&o, "errgarbage");
    loop_turn(loop, true);
    assert_int_equal(o.call_count, 1);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_FLUSHED);
    peer_expect(&o, "err");
    peer_expect(&o, "");
    loop_free(loop);
    owner_deinit(&o);
}

/* on_close may write to another connection: that goes out without a sleep in between. */
static void test_output_of_on_close_is_sent(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner a, b;
    owner_init(&a, loop, &plain);
    owner_init(&b, loop, &plain);
    a.write_to_on_close = b.conn;
    conn_close(a.conn);
    loop_turn(loop, true);
    loop_turn(loop, true); /* would block for ever if nothing were due (I3) */
    peer_expect(&b, "bye");
    loop_free(loop);
    owner_deinit(&a);
    owner_deinit(&b);
}

/* Reads what there is; returns how much. */
static size_t peer_read(const struct owner *o, struct buf *to)
{
    size_t before = to->len;
    for (;;) {
        uint8_t piece[16384];
        ssize_t got = recv(o->peer, piece, sizeof piece, 0);
        if (got <= 0) return to->len - before;
        buf_append(to, piece, (size_t)got);
    }
}

static void test_a_full_socket_is_waited_for(void **state)
{
    (void)state;
    size_t len = 4000000;
    uint8_t *body = pattern_new(len);
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    struct blob *blob = blob_copy((struct slice){ body, len / 2 });
    chain_append_blob(conn_out(o.conn), blob, 0, len / 2);
    chain_append(conn_out(o.conn), body + len / 2, len - len / 2);
    conn_dirty(o.conn);
    loop_turn(loop, true);
    assert_true(o.conn->flags & CONN_WAIT_WRITE);
    assert_int_equal(o.conn->interest, EV_READ | EV_WRITE);
    uint64_t write_count = loop_stats(loop)->write_count;
    conn_dirty(o.conn);
    loop_turn(loop, false);
    assert_int_equal(loop_stats(loop)->write_count, write_count); /* no vain write */

    struct buf got = { 0 };
    while (got.len < len) {
        peer_read(&o, &got);
        loop_turn(loop, false);
    }
    assert_int_equal(got.len, len);
    assert_memory_equal(got.at, body, len);
    assert_int_equal(o.writable_count, 1);
    assert_int_equal(o.conn->interest, EV_READ);
    assert_int_equal(blob->refs, 1);
    assert_int_equal(loop_pool(loop)->block_used_count, 0);
    blob_unref(blob);
    loop_free(loop);
    owner_deinit(&o);
    buf_deinit(&got);
    mem_free(body);
}

/* More pieces than one write takes go out over several turns, without a sleep. */
static void test_many_pieces(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    struct blob *blob = blob_copy(SLICE_LIT("piece"));
    for (int i = 0; i < 3 * NET_IOV_COUNT_MAX; i++) chain_append_blob(conn_out(o.conn), blob, 0, 5);
    conn_dirty(o.conn);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(chain_bytes(conn_out(o.conn)), (size_t)(3 - i) * NET_IOV_COUNT_MAX * 5);
        loop_turn(loop, true);
    }
    struct buf got = { 0 };
    assert_int_equal(peer_read(&o, &got), 3 * NET_IOV_COUNT_MAX * 5);
    assert_memory_equal(got.at + got.len - 10, "piecepiece", 10);
    assert_int_equal(loop_stats(loop)->write_count, 3);
    buf_deinit(&got);
    blob_unref(blob);
    loop_free(loop);
    owner_deinit(&o);
}

/* A peer's message does not wait behind the replies to clients. */
static void test_flush_now(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    chain_append(conn_out(o.conn), "now", 3);
    conn_dirty(o.conn);
    conn_flush_now(o.conn);
    peer_expect(&o, "now");
    loop_turn(loop, false);
    assert_int_equal(loop_stats(loop)->write_count, 1);
    peer_close(&o);
    chain_append(conn_out(o.conn), "x", 1);
    conn_flush_now(o.conn);
    assert_int_equal(o.close_count, 0); /* never inside a call */
    conn_flush_now(o.conn);
    loop_turn(loop, false);
    assert_int_equal(o.close_count, 1);
    loop_free(loop);
    owner_deinit(&o);
}

struct between {
    struct owner owners[3];
    size_t call_count;
    bool answer;
};

/* Writes to all, those whose turn in the flush is over and those whose is not. */
static bool write_to_all(void *ctx)
{
    struct between *b = ctx;
    b->call_count++;
    if (!b->answer) return false;
    b->answer = false;
    for (size_t i = 0; i < 3; i++) {
        chain_append(conn_out(b->owners[i].conn), "!", 1);
        conn_dirty(b->owners[i].conn);
    }
    return true;
}

static bool answer_true(void *ctx)
{
    (void)ctx;
    return true;
}

static int64_t sleep_long(void *ctx)
{
    (void)ctx;
    return 60000000;
}

static void test_between_writes(void **state)
{
    (void)state;
    static struct between b;
    struct loop_cfg cfg = { .hooks = { .ctx = &b, .between_writes = write_to_all, .sleep_us = sleep_long } };
    struct loop *loop;
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &loop, &em), OK);
    for (size_t i = 0; i < 3; i++) owner_init(&b.owners[i], loop, &plain);
    loop_turn(loop, false);
    assert_int_equal(b.call_count, 0); /* nothing to write */
    for (size_t i = 0; i < 3; i++) {
        chain_append(conn_out(b.owners[i].conn), "a", 1);
        conn_dirty(b.owners[i].conn);
    }
    b.answer = true; /* to the first call, after the first was written */
    loop_turn(loop, false);
    assert_int_equal(b.call_count, 2);
    peer_expect(&b.owners[0], "a");
    peer_expect(&b.owners[1], "a!");
    peer_expect(&b.owners[2], "a!");
    loop_turn(loop, true);
    peer_expect(&b.owners[0], "!");

    /* Nothing was written by it, but there may be something for the hooks of a turn: no sleep. */
    for (size_t i = 0; i < 2; i++) {
        chain_append(conn_out(b.owners[i].conn), "b", 1);
        conn_dirty(b.owners[i].conn);
    }
    loop->cfg.hooks.between_writes = answer_true;
    loop_turn(loop, true);
    uint64_t sleep_count = loop_stats(loop)->sleep_count;
    assert_int_equal(loop->dirty.count, 0);
    loop_turn(loop, true); /* would block for a minute */
    assert_int_equal(loop_stats(loop)->sleep_count, sleep_count);
    assert_false(loop->again); /* once */
    loop_free(loop);
    for (size_t i = 0; i < 3; i++) owner_deinit(&b.owners[i]);
}

static void resume_it(void *ctx)
{
    struct owner *o = ctx;
    if (o->conn != NULL) conn_resume(o->conn);
}

/* What turn_begin resumes (its answer is there) goes on in the same turn. */
static void test_resumed_in_turn_begin(void **state)
{
    (void)state;
    struct owner o;
    struct loop_cfg cfg = { .hooks = { .ctx = &o, .turn_begin = resume_it } };
    struct loop *loop;
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &loop, &em), OK);
    owner_init(&o, loop, &plain);
    o.pause = true;
    o.take_bytes = 1;
    peer_send_text(&o, "abc");
    for (size_t turn = 1; turn <= 3; turn++) {
        loop_turn(loop, false);
        assert_int_equal(o.got.len, turn);
    }
    loop_free(loop);
    owner_deinit(&o);
}

static void test_broken_pipe(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &with_eof);
    peer_close(&o);
    loop_turn(loop, true);
    assert_int_equal(o.eof_count, 1);
    chain_append(conn_out(o.conn), "x", 1);
    conn_dirty(o.conn);
    loop_turn(loop, true);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_RESET);
    assert_int_equal(o.error, EPIPE);
    loop_free(loop);
    owner_deinit(&o);
}

static void test_broken_pipe_while_the_socket_is_full(void **state)
{
    (void)state;
    uint8_t *body = pattern_new(2000000);
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    chain_append(conn_out(o.conn), body, 2000000);
    conn_close_after_flush(o.conn);
    loop_turn(loop, true);
    assert_int_equal(o.close_count, 0);
    peer_close(&o);
    loop_turn(loop, true);
    assert_int_equal(o.close_count, 1);
    assert_int_equal(o.reason, CONN_CLOSE_RESET);
    loop_free(loop);
    owner_deinit(&o);
    mem_free(body);
}

static void count_and_close(void *ctx, struct conn *conn)
{
    size_t *count = ctx;
    if (++*count % 2 == 0) conn_close(conn);
}

static void test_each(void **state)
{
    (void)state;
    struct loop *loop = loop_make();
    struct owner owners[10];
    for (size_t i = 0; i < 10; i++) owner_init(&owners[i], loop, &plain);
    size_t count = 0;
    conn_each(loop, count_and_close, &count);
    assert_int_equal(count, 10);
    loop_turn(loop, false);
    assert_int_equal(loop_stats(loop)->conn_count, 5);
    count = 0;
    conn_each(loop, count_and_close, &count);
    assert_int_equal(count, 5);
    loop_free(loop);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(owners[i].close_count, 1);
        owner_deinit(&owners[i]);
    }
}

/* Random sends, budgets, wants, pauses: all bytes arrive once and in order, and come back. */
static void test_random_traffic(void **state)
{
    (void)state;
    size_t len = 2000000;
    uint8_t *body = pattern_new(len);
    struct loop *loop = loop_make();
    struct owner o;
    owner_init(&o, loop, &plain);
    o.echo = true;
    struct buf back = { 0 };
    uint64_t seed = 99;
    for (size_t sent = 0; back.len < len;) {
        seed = u64_mix(seed + 1);
        if (seed % 4 == 0) conn_pause(o.conn);
        if (seed % 4 == 1 || sent == len) conn_resume(o.conn);
        o.take_bytes = 1 + (seed >> 8) % ((seed >> 40) % 2 == 0 ? 100000 : 5000);
        o.want_bytes = (seed >> 16) % 5 == 0 ? MIN((seed >> 20) % 200000, len - o.got.len) : 0;
        size_t part = MIN((seed >> 24) % 90000, len - sent);
        ssize_t done = part == 0 ? 0 : send(o.peer, body + sent, part, MSG_NOSIGNAL);
        if (done > 0) sent += (size_t)done;
        loop_turn(loop, false);
        if (seed % 3 != 0) peer_read(&o, &back);
    }
    assert_int_equal(back.len, len);
    assert_memory_equal(back.at, body, len);
    assert_memory_equal(o.got.at, body, len);
    assert_int_equal(loop_stats(loop)->input_bytes, 0);
    loop_free(loop);
    owner_deinit(&o);
    buf_deinit(&back);
    mem_free(body);
}

static void test_reason_names(void **state)
{
    (void)state;
    for (int i = CONN_CLOSE_LOCAL; i <= CONN_CLOSE_TLS; i++) {
        assert_string_not_equal(conn_close_reason_name((enum conn_close_reason)i), "?");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_and_idle),
        cmocka_unit_test(test_want_waits_for_enough),
        cmocka_unit_test(test_big_body_is_offered_once),
        cmocka_unit_test(test_a_promise_costs_no_memory),
        cmocka_unit_test(test_want_beyond_the_limit_closes),
        cmocka_unit_test(test_a_connection_may_have_a_limit_of_its_own),
        cmocka_unit_test(test_a_silent_peer_is_watched_for),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_pause_holds_and_resume_delivers),
        cmocka_unit_test(test_resume_keeps_waiting_for_what_was_wanted),
        cmocka_unit_test(test_eof_closes_after_the_last_bytes),
        cmocka_unit_test(test_half_close_still_gets_its_answer),
        cmocka_unit_test(test_eof_of_a_paused_connection_is_told_at_once),
        cmocka_unit_test(test_close_is_two_steps),
        cmocka_unit_test(test_close_another_that_is_ready),
        cmocka_unit_test(test_close_while_more_is_due),
        cmocka_unit_test(test_close_after_flush_delivers_no_more),
        cmocka_unit_test(test_output_of_on_close_is_sent),
        cmocka_unit_test(test_a_full_socket_is_waited_for),
        cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_flush_now),
        cmocka_unit_test(test_between_writes),
        cmocka_unit_test(test_resumed_in_turn_begin),
        cmocka_unit_test(test_broken_pipe),
        cmocka_unit_test(test_broken_pipe_while_the_socket_is_full),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_random_traffic),
        cmocka_unit_test(test_reason_names),
    };
    return cmocka_run_group_tests_name("net/conn", tests, NULL, NULL);
}
