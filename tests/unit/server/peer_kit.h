/* What the tests of peers share: one loop, members on it, and a bare socket to speak to them. */
#ifndef TEST_PEER_KIT_H
#define TEST_PEER_KIT_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "server/peer_int.h"

#define KIT_WAIT_MS 20000
#define KIT_CLUSTER 77

/* One member, and what it heard. */
struct end {
    struct peers *peers;
    struct peer_identity self;
    struct buf got;         /* all payloads, each with u32 length before it */
    size_t got_count;
    size_t admit_count;
    size_t unreachable_count;
    uint64_t got_from;
    enum err admit_result;
    const char *admit_text;
    enum err receive_result;
    bool peers_gone_in_send;
};

struct kit {
    struct loop *loop;
    struct end ends[3];
    size_t end_count;
};

static int64_t kit_mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void kit_turn_end(void *ctx)
{
    struct kit *k = ctx;
    for (size_t i = 0; i < k->end_count; i++) {
        struct peers *p = k->ends[i].peers;
        if (p == NULL) continue;
        peers_turn(p, loop_now_ms(k->loop));
        peers_flush(p);
    }
}

/* Short sleeps, so that conditions outside the loop are looked at too. */
static int64_t kit_sleep_us(void *ctx)
{
    struct kit *k = ctx;
    int64_t next_ms = kit_mono_ms() + 5;
    for (size_t i = 0; i < k->end_count; i++) {
        if (k->ends[i].peers != NULL) next_ms = MIN(next_ms, peers_next_ms(k->ends[i].peers));
    }
    return MAX(next_ms - kit_mono_ms(), 0) * 1000;
}

static enum err kit_admit(void *ctx, uint64_t member_id, uint64_t directory_id, struct errmsg *em)
{
    struct end *e = ctx;
    e->admit_count++;
    assert_true(member_id != 0 && directory_id != 0);
    if (e->admit_result != OK) errmsg_set(em, "%s", e->admit_text);
    return e->admit_result;
}

static enum err kit_receive(void *ctx, uint64_t member_id, struct slice payload)
{
    struct end *e = ctx;
    buf_append_u32(&e->got, (uint32_t)payload.len);
    buf_append_slice(&e->got, payload);
    e->got_count++;
    e->got_from = member_id;
    return e->receive_result;
}

static void kit_unreachable(void *ctx, uint64_t member_id)
{
    struct end *e = ctx;
    assert_true(member_id != 0);
    e->unreachable_count++;
}

static inline struct peer_options kit_options(void)
{
    return (struct peer_options){
        .bind = "127.0.0.1", .reconnect_ms_min = 1, .reconnect_ms_max = 20,
        .handshake_ms_max = 10000, .silence_ms_max = 5000, .bulk_idle_ms = 10000,
        .output_bytes_max = 1 << 20, .conn_count_max = 16, .random = 5,
    };
}

static void kit_begin(struct kit *k)
{
    signal(SIGPIPE, SIG_IGN);
    log_level_set(LOG_OFF);
    *k = (struct kit){ 0 };
    struct loop_cfg cfg = { .hooks = { .ctx = k, .turn_end = kit_turn_end, .sleep_us = kit_sleep_us } };
    struct errmsg em;
    assert_int_equal(loop_new(&cfg, &k->loop, &em), OK);
}

static inline void kit_start(struct end *e)
{
    struct peer_hooks hooks = { e, kit_admit, kit_receive, kit_unreachable };
    peers_start(e->peers, &e->self, &hooks);
}

/* Member ids 1, 2, 3; directories 11, 12, 13. */
static inline struct end *kit_end(struct kit *k, const struct peer_options *options, bool start)
{
    struct end *e = &k->ends[k->end_count++];
    uint64_t id = k->end_count;
    *e = (struct end){ .self = { KIT_CLUSTER, id, 10 + id, 1 } };
    struct errmsg em = { "" };
    struct peer_options preset = kit_options();
    assert_int_equal(peers_new(k->loop, options != NULL ? options : &preset, &e->peers, &em), OK);
    if (start) kit_start(e);
    return e;
}

static void kit_finish(struct kit *k)
{
    for (size_t i = 0; i < k->end_count; i++) {
        peers_free(k->ends[i].peers);
        k->ends[i].peers = NULL;
        buf_deinit(&k->ends[i].got);
    }
    loop_turn(k->loop, false);
    loop_free(k->loop);
}

static inline void kit_member(struct raft_members *m, uint64_t id, uint64_t directory_id, uint16_t port)
{
    struct raft_member one = { .id = id, .directory_id = directory_id, .role = RAFT_VOTER };
    snprintf(one.peer_address, sizeof one.peer_address, "127.0.0.1:%u", port);
    assert_int_equal(raft_members_put(m, &one), OK);
}

/* Turns until the condition holds. */
#define KIT_UNTIL(k, condition) \
    do { \
        int64_t end_ms_ = kit_mono_ms() + KIT_WAIT_MS; \
        while (!(condition)) { \
            if (kit_mono_ms() > end_ms_) fail_msg("never: %s", #condition); \
            loop_turn((k)->loop, true); \
        } \
    } while (0)

/* --- a bare socket ------------------------------------------------------------------------- */

struct bare {
    struct conn *conn; /* NULL once closed */
    struct buf got;
};

static size_t bare_bytes(void *user, struct conn *conn, struct slice in)
{
    (void)conn;
    buf_append_slice(&((struct bare *)user)->got, in);
    return in.len;
}

static void bare_closed(void *user, struct conn *conn, enum conn_close_reason reason)
{
    (void)reason;
    struct bare *b = user;
    if (b->conn == conn) b->conn = NULL;
}

static const struct conn_callbacks bare_callbacks = { .on_bytes = bare_bytes, .on_close = bare_closed };

static inline void bare_open(struct kit *k, struct bare *b, uint16_t port)
{
    *b = (struct bare){ 0 };
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(net_resolve_digits("127.0.0.1", port, &addr), OK);
    assert_int_equal(conn_open(k->loop, &addr, &bare_callbacks, b, &b->conn, &em), OK);
}

static inline void bare_accept(void *ctx, struct conn *conn)
{
    struct bare *b = ctx;
    b->conn = conn;
    conn_start(conn, &bare_callbacks, b);
}

static inline void bare_say(struct bare *b, struct slice bytes)
{
    assert_non_null(b->conn);
    chain_append_slice(conn_out(b->conn), bytes);
    conn_dirty(b->conn);
}

/* The only frame that has come. */
static inline struct peer_frame bare_frame(const struct bare *b)
{
    struct peer_frame f = { .used_bytes = 0 };
    struct errmsg em = { "" };
    size_t need = 0;
    assert_int_equal(peer_frame_decode(buf_slice(&b->got), true, &f, &need, &em), OK);
    return f;
}

#endif
