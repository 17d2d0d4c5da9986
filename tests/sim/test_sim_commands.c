/* Commands in a group: what they answer with a leader and without one, and behind a snapshot. */
#include "sim_int.h"

#include "base/log.h"
#include "node/node_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000
#define S 1000000

/* One client's connection. */
struct talk {
    struct sim *s;
    uint64_t conn;
    struct buf in;
    bool closed;
};

static void on_bytes(void *ctx, uint64_t conn, struct slice in)
{
    struct talk *t = ctx;
    (void)conn;
    buf_append_slice(&t->in, in);
    sim_log(t->s, "reply %.*s", (int)in.len, (const char *)in.at);
}

static void on_closed(void *ctx, uint64_t conn)
{
    struct talk *t = ctx;
    (void)conn;
    t->closed = true;
}

static const struct sim_conn_hooks hooks = { on_bytes, on_closed };

static void talk_open(struct talk *t, struct sim *s, size_t at)
{
    *t = (struct talk){ .s = s };
    t->conn = sim_connect(s, at, &hooks, t);
    assert_true(t->conn != 0);
}

static void talk_close(struct talk *t)
{
    sim_close(t->s, t->conn);
    buf_deinit(&t->in);
}

static void run_for(struct sim *s, int64_t us) { sim_run_until(s, sim_now_us(s) + us); }

static void say(struct talk *t, const char *text) { sim_send(t->s, t->conn, slice_of(text)); }

/* Exactly this has arrived since the last time, or does within us. */
static void hear(struct talk *t, int64_t us, const char *want)
{
    int64_t end_us = sim_now_us(t->s) + us;
    size_t len = strlen(want);
    while (t->in.len < len && sim_now_us(t->s) < end_us) run_for(t->s, MS);
    if (t->in.len != len || memcmp(t->in.at, want, len) != 0) {
        fail_msg("wanted:\n%s\ngot:\n%.*s", want, (int)t->in.len, (const char *)t->in.at);
    }
    buf_clear(&t->in);
}

static void ask(struct talk *t, const char *text, const char *want)
{
    say(t, text);
    hear(t, S, want);
}

static bool heard(const struct talk *t, const char *part)
{
    return memmem(t->in.at, t->in.len, part, strlen(part)) != NULL;
}

static struct sim *group_new(uint64_t seed, size_t nodes)
{
    log_level_set(LOG_OFF);
    struct sim *s = sim_new(&(struct sim_options){ .seed = seed, .node_count = nodes,
                                                   .trace = getenv("SIM_TRACE") != NULL });
    run_for(s, 5 * S);
    assert_true(sim_leader(s) < nodes);
    return s;
}

/* Leaves this one alone for so long that it knows that nobody leads. */
static void leave_alone(struct sim *s, size_t at)
{
    for (size_t i = 0; i < sim_node_count(s); i++) {
        if (i != at && sim_is_up(s, i)) sim_kill(s, i);
    }
    run_for(s, 4 * S);
}

static void cut(struct sim *s, size_t at, bool blocked)
{
    for (size_t i = 0; i < sim_node_count(s); i++) {
        if (i == at) continue;
        sim_link(s, at, i)->blocked = blocked;
        sim_link(s, i, at)->blocked = blocked;
    }
}

static uint64_t log_end(const struct sim *s) { return raft_last_index(node_raft(sim_node(s, sim_leader(s)))); }

/* --- PUBLISH ------------------------------------------------------------------------------- */

static void test_publish_reaches_all_members(void **arg)
{
    (void)arg;
    struct sim *s = group_new(1, 3);
    struct talk to[3], from;
    for (size_t i = 0; i < 3; i++) {
        talk_open(&to[i], s, i);
        ask(&to[i], "SUBSCRIBE news\r\n", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
        ask(&to[i], "SSUBSCRIBE news\r\n", "*3\r\n$10\r\nssubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    talk_open(&from, s, (sim_leader(s) + 1) % 3);
    ask(&from, "PUBLISH news one\r\n", ":1\r\n");
    ask(&from, "SPUBLISH news two\r\n", ":1\r\n");
    ask(&from, "MULTI\r\nSET k v\r\nPUBLISH news three\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n");
    for (size_t i = 0; i < 3; i++) {
        hear(&to[i], S, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n"
             "*3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$3\r\ntwo\r\n"
             "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nthree\r\n");
        talk_close(&to[i]);
    }
    talk_close(&from);
    sim_free(s);
}

static void test_publish_needs_no_leader(void **arg)
{
    (void)arg;
    struct sim *s = group_new(2, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk to, from;
    talk_open(&to, s, at);
    talk_open(&from, s, at);
    ask(&to, "SUBSCRIBE news\r\n", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    leave_alone(s, at);
    ask(&from, "PUBLISH news one\r\n", ":1\r\n");
    ask(&from, "MULTI\r\nPUBLISH news two\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    hear(&to, S, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\ntwo\r\n");
    /* Behind a read that nobody answers it keeps its place, and goes out in spite of that. */
    say(&from, "GET k\r\nPUBLISH news three\r\nPING\r\n");
    run_for(s, S);
    assert_int_equal(to.in.len, 0);
    hear(&from, 6 * S, "-CLUSTERDOWN no leader\r\n:1\r\n+PONG\r\n");
    hear(&to, S, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nthree\r\n");
    talk_close(&to);
    talk_close(&from);
    sim_free(s);
}

/* Who gets the message sees on this member what its sender wrote before it. */
static void test_publish_comes_behind_the_writes_of_its_connection(void **arg)
{
    (void)arg;
    struct sim *s = group_new(3, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk to, from, reader;
    talk_open(&to, s, at);
    talk_open(&from, s, at);
    talk_open(&reader, s, at);
    ask(&reader, "READONLY\r\n", "+OK\r\n");
    ask(&to, "SUBSCRIBE news\r\n", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    for (int i = 0; i < 50; i++) {
        char text[128], want[64];
        snprintf(text, sizeof text, "GET x\r\nSET k %03d\r\nPUBLISH news %03d\r\nGET k\r\n", i, i);
        say(&from, text);
        while (to.in.len == 0) run_for(s, 10);
        snprintf(want, sizeof want, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\n%03d\r\n", i);
        hear(&to, 0, want);
        snprintf(want, sizeof want, "$3\r\n%03d\r\n", i);
        ask(&reader, "GET k\r\n", want);
        snprintf(want, sizeof want, "$-1\r\n+OK\r\n:1\r\n$3\r\n%03d\r\n", i);
        hear(&from, S, want);
    }
    talk_close(&to);
    talk_close(&from);
    talk_close(&reader);
    sim_free(s);
}

/* --- nobody leads --------------------------------------------------------------------------- */

static void test_watches_and_readers_end_without_a_leader(void **arg)
{
    (void)arg;
    struct sim *s = group_new(4, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk watch, read, kv_read, sub, late;
    talk_open(&watch, s, at);
    talk_open(&read, s, at);
    talk_open(&kv_read, s, at);
    talk_open(&sub, s, at);
    talk_open(&late, s, at);
    ask(&late, "SET a 1\r\nSET b 2\r\n", "+OK\r\n+OK\r\n");
    say(&watch, "HELLO 3\r\nKV WATCH a PREFIX ID 7\r\nKV WATCH b FROM 50 ID 8\r\n");
    say(&read, "XREAD BLOCK 0 STREAMS __watch__: $\r\n");
    say(&kv_read, "KV READ a FROM 4 BLOCK 0\r\n");
    say(&sub, "SUBSCRIBE __watch@0__:a\r\n");
    run_for(s, S);
    assert_true(heard(&watch, "$2\r\nid\r\n:7\r\n") && heard(&watch, "$2\r\nid\r\n:8\r\n"));
    buf_clear(&watch.in);
    buf_clear(&sub.in);
    leave_alone(s, at);
    hear(&watch, 0, ">5\r\n$7\r\nkvwatch\r\n:7\r\n:4\r\n$8\r\ncanceled\r\n$21\r\nCLUSTERDOWN no leader\r\n"
         ">5\r\n$7\r\nkvwatch\r\n:8\r\n:50\r\n$8\r\ncanceled\r\n$21\r\nCLUSTERDOWN no leader\r\n");
    hear(&read, 0, "-CLUSTERDOWN no leader\r\n");
    hear(&kv_read, 0, "-CLUSTERDOWN no leader\r\n");
    hear(&sub, 0, "");
    /* New ones wait for a leader as any read does. */
    say(&read, "XREAD BLOCK 0 STREAMS __watch__: $\r\n");
    run_for(s, 4 * S);
    hear(&read, 0, "");
    hear(&read, 2 * S, "-CLUSTERDOWN no leader\r\n");
    /* Local ones need not, but what is to wait for events does not begin. */
    ask(&late, "READONLY\r\nGET a\r\nMULTI\r\nGET b\r\nEXEC\r\n", "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n");
    ask(&late, "XREAD STREAMS __watch__: 4\r\n", "*-1\r\n");
    ask(&late, "XREAD BLOCK 0 STREAMS __watch__: 4\r\n", "-CLUSTERDOWN no leader\r\n");
    ask(&late, "READWRITE\r\n", "+OK\r\n");
    for (size_t i = 0; i < 3; i++) {
        if (!sim_is_up(s, i)) assert_true(sim_start(s, i));
    }
    run_for(s, 5 * S);
    ask(&late, "SET a 3\r\n", "+OK\r\n");
    run_for(s, S);
    assert_true(heard(&sub, "__watch@0__:a"));
    ask(&watch, "KV WATCH a FROM 4 ID 7\r\n", "%2\r\n$2\r\nid\r\n:7\r\n$8\r\nrevision\r\n:4\r\n"
        ">9\r\n$7\r\nkvwatch\r\n:7\r\n:4\r\n$3\r\nput\r\n$1\r\na\r\n$1\r\n3\r\n:2\r\n:2\r\n:0\r\n");
    talk_close(&watch);
    talk_close(&read);
    talk_close(&kv_read);
    talk_close(&sub);
    talk_close(&late);
    sim_free(s);
}

/* --- a member whose state differs ----------------------------------------------------------------- */

#define DIFFERS "CLUSTERDOWN this member's state differs from the majority's; remove it and join it again"

/* At the next words of the others this one finds that it is alone with its state. */
static void diverge(struct sim *s, size_t at)
{
    for (size_t i = 0; i < sim_node_count(s); i++) node_hash_note(sim_node(s, i));
    struct node *n = sim_node(s, at);
    for (size_t i = 0; i < NODE_HASHES_KEPT; i++) n->hashes[i].hash ^= 1;
    run_for(s, 3 * S);
    assert_int_equal(node_read_check(n), ERR_DIVERGED);
}

static void test_who_differs_shows_nothing_more(void **arg)
{
    (void)arg;
    struct sim *s = group_new(10, 3);
    size_t leader = sim_leader(s);
    size_t at = (leader + 1) % 3;
    struct talk watch, muted, read, sub, late, behind;
    talk_open(&watch, s, at);
    talk_open(&muted, s, at);
    talk_open(&read, s, at);
    talk_open(&sub, s, at);
    talk_open(&late, s, at);
    talk_open(&behind, s, at);
    ask(&late, "SET a 1\r\nSET b 2\r\n", "+OK\r\n+OK\r\n");
    say(&watch, "HELLO 3\r\nKV WATCH a PREFIX ID 7 PROGRESS 100\r\nKV WATCH b FROM 50 ID 8\r\n");
    say(&muted, "HELLO 3\r\nKV WATCH a\r\nHELLO 2\r\n");
    say(&read, "XREAD BLOCK 0 STREAMS __watch__: $\r\n");
    say(&sub, "SUBSCRIBE __watch@0__:a\r\n");
    run_for(s, 2 * S);
    assert_true(heard(&watch, "progress") && heard(&sub, "subscribe"));
    buf_clear(&sub.in);
    /* It hears the others, but they do not hear it: these wait for the leader. */
    for (size_t i = 0; i < 3; i++) sim_link(s, at, i)->blocked = i != at;
    say(&late, "GET a\r\n");
    say(&behind, "SET c 1\r\nGET c\r\n");
    diverge(s, at);
    static const char canceled[] =
        ">5\r\n$7\r\nkvwatch\r\n:7\r\n:4\r\n$8\r\ncanceled\r\n$88\r\n" DIFFERS "\r\n"
        ">5\r\n$7\r\nkvwatch\r\n:8\r\n:50\r\n$8\r\ncanceled\r\n$88\r\n" DIFFERS "\r\n";
    size_t len = strlen(canceled);
    assert_true(watch.in.len > len && memcmp(watch.in.at + watch.in.len - len, canceled, len) == 0);
    buf_clear(&watch.in);
    hear(&read, 0, "-" DIFFERS "\r\n");
    assert_true(muted.closed && sub.closed);
    for (size_t i = 0; i < 3; i++) sim_link(s, at, i)->blocked = false;
    hear(&late, 2 * S, "-" DIFFERS "\r\n");
    hear(&behind, 2 * S, "+OK\r\n-" DIFFERS "\r\n");
    ask(&late, "SUBSCRIBE __watch@0__:a\r\n", "-" DIFFERS "\r\n");
    ask(&late, "XREAD BLOCK 0 STREAMS __watch__: $\r\n", "-" DIFFERS "\r\n");
    run_for(s, S);
    assert_true(watch.in.len == 0 && read.in.len == 0 && sub.in.len == 0);
    talk_close(&watch);
    talk_close(&muted);
    talk_close(&read);
    talk_close(&sub);
    talk_close(&late);
    talk_close(&behind);
    sim_free(s);
}

static void test_waiting_reads_are_bounded(void **arg)
{
    (void)arg;
    struct sim *s = group_new(5, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk t[12], late;
    leave_alone(s, at);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        talk_open(&t[i], s, at);
        for (size_t k = 0; k < 100; k++) say(&t[i], "GET a\r\nPING\r\n");
    }
    run_for(s, S);
    /* Those wait with the rest of what they ask for; who has nothing there is told. */
    talk_open(&late, s, at);
    ask(&late, "GET a\r\nPING\r\nMULTI\r\nGET a\r\nEXEC\r\n",
        "-TRYAGAIN too many reads wait for the leader (max-waiting-reads 1000, waiting-reads-max-bytes 1048576)\r\n"
        "+PONG\r\n+OK\r\n+QUEUED\r\n"
        "-TRYAGAIN too many reads wait for the leader (max-waiting-reads 1000, waiting-reads-max-bytes 1048576)\r\n");
    say(&late, "INFO cluster\r\n");
    run_for(s, S);
    assert_true(heard(&late, "\r\nrejected_reads:2\r\n"));
    talk_close(&late);
    run_for(s, 30 * S); /* request timeouts, one behind the other */
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        size_t lines = 0;
        for (size_t k = 0; k < t[i].in.len; k++) lines += t[i].in.at[k] == '\n';
        assert_int_equal(lines, 200);
        talk_close(&t[i]);
    }
    sim_free(s);
}

static uint64_t info_number(struct talk *t, const char *field)
{
    buf_clear(&t->in);
    say(t, "INFO cluster\r\n");
    run_for(t->s, 10 * MS);
    const uint8_t *at = memmem(t->in.at, t->in.len, field, strlen(field));
    if (at == NULL) fail_msg("INFO has no '%s'", field);
    return strtoull((const char *)at + strlen(field), NULL, 10);
}

/* What is answered already, but not before what came first, is held up to the limit, by `field`. */
static void replies_are_bounded(const char *first, const char *answer, const char *field)
{
    struct sim *s = group_new(9, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk t, other;
    struct buf want = { 0 };
    talk_open(&t, s, at);
    talk_open(&other, s, at);
    cut(s, at, true);
    say(&t, first);
    buf_append_slice(&want, slice_of(answer));
    for (int i = 0; i < 3000; i++) {
        char text[32];
        snprintf(text, sizeof text, i % 1000 < 990 ? "NONE %d\r\n" : "ECHO %d\r\n", 1000 + i);
        say(&t, text);
        buf_printf(&want, i % 1000 < 990 ? "-ERR unknown command 'NONE', with args beginning with: '%d' \r\n"
                                         : "$4\r\n%d\r\n", 1000 + i);
    }
    run_for(s, S);
    uint64_t bytes = info_number(&other, field);
    if (bytes < 1 << 20 || bytes > (1 << 20) + CHAIN_BLOCK_BYTES) fail_msg("%s%llu", field, (unsigned long long)bytes);
    assert_int_equal(t.in.len, 0);
    cut(s, at, false);
    buf_append_u8(&want, 0);
    hear(&t, 3 * S, (const char *)want.at);
    assert_int_equal(info_number(&other, field), 0);
    buf_deinit(&want);
    talk_close(&t);
    talk_close(&other);
    sim_free(s);
}

static void test_replies_that_wait_are_bounded(void **arg)
{
    (void)arg;
    replies_are_bounded("SET a b\r\n", "+OK\r\n", "waiting_replies_bytes:");
    replies_are_bounded("GET a\r\n", "$-1\r\n", "waiting_reads_bytes:");
}

/* --- order ------------------------------------------------------------------------------------ */

/* A group of two becomes one of one while a read of a connection waits for the other: what the
 * connection asks for then, and could have at once, stays behind it. */
static void order_stays(const char *text, const char *want)
{
    struct sim *s = group_new(8, 2);
    size_t at = sim_leader(s);
    char remove[64];
    snprintf(remove, sizeof remove, "MEMBER REMOVE %llu\r\n", (unsigned long long)sim_member_id(s, 1 - at));
    struct talk t, operator;
    talk_open(&t, s, at);
    talk_open(&operator, s, at);
    ask(&t, "SET k 1\r\nGET k\r\n", "+OK\r\n$1\r\n1\r\n");
    cut(s, 1 - at, true);
    say(&t, "GET k\r\n");
    run_for(s, 10 * MS);
    ask(&operator, remove, "+OK\r\n");
    assert_int_equal(t.in.len, 0);
    ask(&t, text, want);
    talk_close(&t);
    talk_close(&operator);
    sim_free(s);
}

static void test_what_follows_a_waiting_read_stays_behind_it(void **arg)
{
    (void)arg;
    order_stays("SET k 2\r\nGET k\r\nPING\r\n", "$1\r\n1\r\n+OK\r\n$1\r\n2\r\n+PONG\r\n");
    order_stays("MULTI\r\nGET k\r\nEXEC\r\nGET k\r\n", "$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n$1\r\n1\r\n");
    order_stays("MULTI\r\nINCR k\r\nEXEC\r\nGET k\r\n", "$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n");
    order_stays("TXN THEN 1 2 GET k\r\nPING\r\n", "$1\r\n1\r\n*8\r\n$9\r\nsucceeded\r\n:1\r\n$8\r\nrevision\r\n"
                ":2\r\n$6\r\nfailed\r\n$-1\r\n$9\r\nresponses\r\n*1\r\n$1\r\n1\r\n+PONG\r\n");
}

/* --- transactions that only read ------------------------------------------------------------------ */

/* On each member: the answers, and that the log does not grow. */
static void reads_at(struct sim *s, size_t at)
{
    struct talk t, other;
    talk_open(&t, s, at);
    talk_open(&other, s, (at + 1) % 3);
    ask(&t, "SET a 1\r\nSET b 2\r\n", "+OK\r\n+OK\r\n");
    ask(&other, "GET b\r\n", "$1\r\n2\r\n");
    uint64_t before = log_end(s);
    ask(&t, "MULTI\r\nGET a\r\nGET b\r\nINCR\r\nGET c\r\nDISCARD\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR wrong number of arguments for 'incr' command\r\n+QUEUED\r\n+OK\r\n");
    ask(&t, "MULTI\r\nGET a\r\nGET b\r\nGET c\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n");
    ask(&t, "GET a\r\nMULTI\r\nGET b\r\nEXEC\r\nMULTI\r\nSELECT 1\r\nGET b\r\nEXEC\r\nGET a\r\nSELECT 0\r\nGET a\r\n",
        "$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n2\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$-1\r\n$-1\r\n+OK\r\n"
        "$1\r\n1\r\n");
    ask(&t, "WATCH a\r\nMULTI\r\nGET a\r\nEXEC\r\n", "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n");
    say(&t, "TXN IF 1 VALUE a = 1 THEN 2 2 GET a 2 GET b ELSE 1 2 GET c\r\n");
    run_for(s, S);
    assert_true(heard(&t, "$9\r\nsucceeded\r\n:1\r\n") && heard(&t, "$9\r\nresponses\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n"));
    buf_clear(&t.in);
    say(&t, "TXN IF 2 EXISTS b VALUE a > 1 THEN 1 2 GET a ELSE 1 2 GET b\r\n");
    run_for(s, S);
    assert_true(heard(&t, "$9\r\nsucceeded\r\n:0\r\n") && heard(&t, "$6\r\nfailed\r\n*2\r\n:1\r\n"));
    assert_true(heard(&t, "$9\r\nresponses\r\n*1\r\n$1\r\n2\r\n"));
    buf_clear(&t.in);
    ask(&t, "MULTI\r\nTXN IF 1 EXISTS none\r\nGET a\r\nTXN ELSE\r\nGET b\r\nEXEC\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n:0\r\n$-1\r\n:1\r\n$1\r\n2\r\n");
    assert_int_equal(log_end(s), before);
    ask(&t, "WATCH a\r\n", "+OK\r\n");
    ask(&other, "SET a 9\r\n", "+OK\r\n");
    ask(&t, "MULTI\r\nGET a\r\nPUBLISH news never\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n");
    ask(&t, "SET a 3\r\nMULTI\r\nGET a\r\nEXEC\r\nSET a 4\r\nMULTI\r\nGET a\r\nEXEC\r\n",
        "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n3\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n4\r\n");
    ask(&t, "CLIENT REPLY SKIP\r\nGET a\r\nGET b\r\n", "$1\r\n2\r\n");
    ask(&t, "CLIENT REPLY OFF\r\nGET a\r\nMULTI\r\nGET a\r\nEXEC\r\nCLIENT REPLY ON\r\nGET b\r\n", "+OK\r\n$1\r\n2\r\n");
    talk_close(&t);
    talk_close(&other);
}

static void test_transactions_that_read_take_no_log_entry(void **arg)
{
    (void)arg;
    struct sim *s = group_new(6, 3);
    for (size_t i = 0; i < 3; i++) reads_at(s, i);
    sim_free(s);
}

/* --- time ------------------------------------------------------------------------------------- */

static uint64_t turns_in(struct sim *s, int64_t us)
{
    uint64_t before = sim_stats(s)->turns;
    run_for(s, us);
    return sim_stats(s)->turns - before;
}

/* Times whose microseconds do not fit into 64 bits. */
static void test_the_loop_sleeps_until_a_time_that_never_comes(void **arg)
{
    (void)arg;
    struct sim *s = group_new(8, 1);
    struct talk read, kv_read, pause;
    talk_open(&read, s, 0);
    talk_open(&kv_read, s, 0);
    talk_open(&pause, s, 0);
    uint64_t idle = turns_in(s, S);
    say(&read, "XREAD BLOCK 10000000000000000 STREAMS __watch__: $\r\n");
    say(&kv_read, "KV READ a FROM 4 BLOCK 9223372036854775807\r\n");
    run_for(s, S);
    assert_in_range(turns_in(s, S), 0, 2 * idle + 10);
    talk_close(&read); /* its timer stays behind */
    talk_close(&kv_read);
    run_for(s, S);
    assert_in_range(turns_in(s, S), 0, 2 * idle + 10);
    ask(&pause, "CLIENT PAUSE 2000000000000000000 WRITE\r\n", "+OK\r\n");
    run_for(s, S);
    assert_in_range(turns_in(s, S), 0, 2 * idle + 10);
    ask(&pause, "CLIENT UNPAUSE\r\n", "+OK\r\n");
    talk_close(&pause);
    sim_free(s);
}

/* --- SNAPSHOT ----------------------------------------------------------------------------------- */

#define SHOWN_KEYS 600
#define SHOWN_VALUE_BYTES 20000

static void set_keys(struct talk *t, size_t step, char value, size_t value_bytes)
{
    struct buf text = { 0 };
    for (size_t i = 0; i < SHOWN_KEYS; i += step) {
        buf_clear(&text);
        buf_printf(&text, "*3\r\n$3\r\nSET\r\n$4\r\nk%03zu\r\n$%zu\r\n", i, value_bytes);
        memset(buf_reserve(&text, value_bytes), value, value_bytes);
        text.len += value_bytes;
        buf_append_slice(&text, SLICE_LIT("\r\n"));
        sim_send(t->s, t->conn, buf_slice(&text));
    }
    buf_deinit(&text);
    run_for(t->s, S);
    assert_int_equal(t->in.len, 5 * (SHOWN_KEYS / step));
    buf_clear(&t->in);
}

/* Each key once, in order, with its former value; then that this is all. */
static void shown_in_order(const struct talk *t)
{
    size_t at = 0;
    for (int i = 0; i < SHOWN_KEYS; i++) {
        char head[64];
        int len = snprintf(head, sizeof head, "$5\r\nstate\r\n$4\r\nk%03d\r\n$%d\r\no", i, SHOWN_VALUE_BYTES);
        const uint8_t *next = memmem(t->in.at + at, t->in.len - at, "$5\r\nstate\r\n", 11);
        if (next == NULL || memcmp(next, head, (size_t)len) != 0) fail_msg("k%03d is not the next one", i);
        at = (size_t)(next - t->in.at) + (size_t)len;
    }
    assert_null(memmem(t->in.at + at, t->in.len - at, "state", 5));
    assert_non_null(memmem(t->in.at + at, t->in.len - at, "synced", 6));
}

/* What was there is larger than the output may be, and history has to tell it: every `step`th key has
 * changed since. */
static void show_changed(size_t step)
{
    struct sim *s = group_new(9, 1);
    s->nodes[0].env.limits.output_bytes_max = 2u << 20;
    struct talk watch, writer;
    talk_open(&watch, s, 0);
    talk_open(&writer, s, 0);
    set_keys(&writer, 1, 'o', SHOWN_VALUE_BYTES);
    say(&watch, "HELLO 3\r\nKV WATCH k PREFIX SNAPSHOT\r\nHELLO 2\r\n"); /* waits for HELLO 3 */
    run_for(s, S);
    set_keys(&writer, step, 'n', 1);
    say(&watch, "HELLO 3\r\n");
    run_for(s, 60 * S);
    assert_false(watch.closed);
    shown_in_order(&watch);
    talk_close(&watch);
    talk_close(&writer);
    sim_free(s);
}

static void test_a_snapshot_of_keys_that_have_changed(void **arg)
{
    (void)arg;
    show_changed(1);
    show_changed(3);
}

#define SHOWN_AT_ONCE 20 /* more than read history at the same time */
#define APPENDED_KEYS 2000

/* What is put behind the keys shown while they are read was not there, and is not waited for. */
static void test_a_snapshot_ends_while_keys_are_appended(void **arg)
{
    (void)arg;
    struct sim *s = group_new(10, 1);
    struct talk watches[SHOWN_AT_ONCE], writer;
    talk_open(&writer, s, 0);
    ask(&writer, "SET k v\r\n", "+OK\r\n");
    for (int i = 0; i < SHOWN_AT_ONCE; i++) {
        talk_open(&watches[i], s, 0);
        say(&watches[i], "HELLO 3\r\nKV WATCH k PREFIX SNAPSHOT KEYSONLY\r\nHELLO 2\r\n"); /* waits for HELLO 3 */
    }
    run_for(s, S);
    sim_disk_delay(s, 0, 2 * MS, 2 * MS); /* something is appended during each read */
    for (int i = 0; i < APPENDED_KEYS; i++) {
        char line[64];
        for (int w = 0; i == APPENDED_KEYS / 10 && w < SHOWN_AT_ONCE; w++) say(&watches[w], "HELLO 3\r\n");
        snprintf(line, sizeof line, "SET k%06d v\r\n", i);
        say(&writer, line);
        run_for(s, MS);
    }
    for (int i = 0; i < SHOWN_AT_ONCE; i++) {
        assert_true(heard(&watches[i], "synced"));
        talk_close(&watches[i]);
    }
    talk_close(&writer);
    sim_free(s);
}

/* --- a snapshot ------------------------------------------------------------------------------------- */

#define GAP_KEYS 300        /* more than a leader keeps in memory for a follower */
#define GAP_VALUE_BYTES 60000

/* The revisions of the events, one after the other. */
static uint64_t revs_follow(const struct buf *in, uint64_t next)
{
    char head[64];
    for (size_t at = 0; at < in->len; next++) {
        size_t len = (size_t)snprintf(head, sizeof head, "$7\r\nkvwatch\r\n:1\r\n:%llu\r\n", (unsigned long long)next);
        const uint8_t *found = memmem(in->at + at, in->len - at, "$7\r\nkvwatch\r\n:1\r\n", 17);
        if (found == NULL) break;
        if (memcmp(found, head, len) != 0) fail_msg("a gap before revision %llu", (unsigned long long)next);
        at = (size_t)(found - in->at) + len;
    }
    return next;
}

/* Whose watch and reader are at a member that gets a snapshot. compact: NULL, or what is said before. */
static void snapshot_gap(const char *compact, struct talk *watch, struct talk *read)
{
    struct sim *s = group_new(7, 3);
    size_t at = (sim_leader(s) + 1) % 3;
    struct talk writer;
    talk_open(watch, s, at);
    talk_open(read, s, at);
    talk_open(&writer, s, sim_leader(s));
    ask(&writer, "SET first 1\r\n", "+OK\r\n");
    say(watch, "HELLO 3\r\nKV WATCH k PREFIX ID 1 PREVKV\r\n");
    say(read, "XREAD BLOCK 0 COUNT 2 STREAMS __watch__:k $\r\n");
    run_for(s, 500 * MS);
    cut(s, at, true);
    struct buf text = { 0 };
    for (int i = 0; i < GAP_KEYS; i++) {
        buf_clear(&text);
        buf_printf(&text, "*3\r\n$3\r\nSET\r\n$3\r\nk%02d\r\n$%d\r\n", i % 100, GAP_VALUE_BYTES);
        memset(buf_reserve(&text, GAP_VALUE_BYTES), 'v', GAP_VALUE_BYTES);
        text.len += GAP_VALUE_BYTES;
        buf_append_slice(&text, SLICE_LIT("\r\n"));
        sim_send(s, writer.conn, buf_slice(&text));
    }
    buf_deinit(&text);
    run_for(s, S);
    assert_int_equal(writer.in.len, 5 * GAP_KEYS);
    buf_clear(&writer.in);
    if (compact != NULL) ask(&writer, compact, "+OK\r\n");
    /* A checkpoint more: the log goes below the last but one. */
    ask(&writer, "SET k00 last\r\n", "+OK\r\n");
    run_for(s, 1200 * MS);
    struct node_stats st;
    cut(s, at, false);
    run_for(s, 10 * S);
    node_stats_get(sim_node(s, at), &st);
    assert_int_equal(st.snapshots_installed, 1);
    talk_close(&writer);
    sim_close(s, watch->conn);
    sim_close(s, read->conn);
    sim_free(s);
}

static void test_a_snapshot_leaves_no_gap_in_watches(void **arg)
{
    (void)arg;
    struct talk watch, read;
    snapshot_gap(NULL, &watch, &read);
    assert_int_equal(revs_follow(&watch.in, 3), 3 + GAP_KEYS + 1);
    assert_true(heard(&read, "*1\r\n*2\r\n$11\r\n__watch__:k\r\n*2\r\n"));
    assert_true(heard(&read, "3-1\r\n") && heard(&read, "4-1\r\n"));
    buf_deinit(&watch.in);
    buf_deinit(&read.in);
}

static void test_a_snapshot_beyond_the_compaction_ends_watches(void **arg)
{
    (void)arg;
    struct talk watch, read;
    snapshot_gap("KV COMPACT 200\r\n", &watch, &read);
    assert_true(heard(&watch, ">5\r\n$7\r\nkvwatch\r\n:1\r\n:3\r\n$8\r\ncanceled\r\n"));
    assert_true(heard(&watch, "COMPACTED required revision 3 has been compacted, oldest is 200\r\n"));
    assert_true(heard(&read, "-COMPACTED required revision 3 has been compacted, oldest is 200\r\n"));
    buf_deinit(&watch.in);
    buf_deinit(&read.in);
}

/* --- HELLO 2 ---------------------------------------------------------------------------------------- */

/* It goes back to RESP2 while history is read for its watch, and gets everything when it is back. */
static void hello_2_in_between(struct talk *watch)
{
    static const char answer[] = "*14\r\n$6\r\nserver\r\n"; /* a map, in RESP2 */
    run_for(watch->s, 2 * MS);
    size_t before = watch->in.len;
    say(watch, "HELLO 2\r\n");
    run_for(watch->s, 5 * S);
    const uint8_t *at = memmem(watch->in.at + before, watch->in.len - before, answer, strlen(answer));
    assert_non_null(at);
    assert_null(memmem(at, watch->in.len - (size_t)(at - watch->in.at), "kvwatch", 7));
    say(watch, "HELLO 3\r\n");
    run_for(watch->s, 60 * S);
}

static void test_nothing_is_pushed_behind_hello_2(void **arg)
{
    (void)arg;
    struct sim *s = group_new(11, 1);
    struct talk watch, shown, writer;
    talk_open(&writer, s, 0);
    set_keys(&writer, 1, 'o', SHOWN_VALUE_BYTES);
    talk_close(&writer);
    sim_stop(s, 0); /* what was is on disk only */
    assert_true(sim_start(s, 0));
    run_for(s, 5 * S);
    talk_open(&watch, s, 0);
    say(&watch, "HELLO 3\r\nKV WATCH k PREFIX FROM 2\r\n");
    hello_2_in_between(&watch);
    assert_int_equal(revs_follow(&watch.in, 2), 2 + SHOWN_KEYS);
    talk_close(&watch);
    talk_open(&shown, s, 0);
    say(&shown, "HELLO 3\r\nKV WATCH k PREFIX SNAPSHOT\r\nHELLO 2\r\n"); /* waits for HELLO 3 */
    run_for(s, S);
    talk_open(&writer, s, 0);
    set_keys(&writer, 1, 'n', 1);
    talk_close(&writer);
    say(&shown, "HELLO 3\r\n");
    hello_2_in_between(&shown);
    shown_in_order(&shown);
    talk_close(&shown);
    sim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_reaches_all_members),
        cmocka_unit_test(test_publish_needs_no_leader),
        cmocka_unit_test(test_publish_comes_behind_the_writes_of_its_connection),
        cmocka_unit_test(test_watches_and_readers_end_without_a_leader),
        cmocka_unit_test(test_who_differs_shows_nothing_more),
        cmocka_unit_test(test_waiting_reads_are_bounded),
        cmocka_unit_test(test_replies_that_wait_are_bounded),
        cmocka_unit_test(test_what_follows_a_waiting_read_stays_behind_it),
        cmocka_unit_test(test_transactions_that_read_take_no_log_entry),
        cmocka_unit_test(test_the_loop_sleeps_until_a_time_that_never_comes),
        cmocka_unit_test(test_a_snapshot_of_keys_that_have_changed),
        cmocka_unit_test(test_a_snapshot_ends_while_keys_are_appended),
        cmocka_unit_test(test_a_snapshot_leaves_no_gap_in_watches),
        cmocka_unit_test(test_a_snapshot_beyond_the_compaction_ends_watches),
        cmocka_unit_test(test_nothing_is_pushed_behind_hello_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
