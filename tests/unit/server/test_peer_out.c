/* A member connects to a bare listener: what it says, and what it makes of strange answers. */
#include "peer_kit.h"

struct host {
    struct listener *listener;
    struct bare last;
    size_t accept_count;
};

static void host_accept(void *ctx, struct conn *conn)
{
    struct host *h = ctx;
    h->accept_count++;
    buf_clear(&h->last.got);
    bare_accept(&h->last, conn);
}

/* Member 1 looks for member 2 with directory 12 at the host. BULK is never opened; MAIN and URGENT
 * share the host, so the last one to come is looked at. */
static void meet(struct kit *k, struct host *h, const struct peer_options *options)
{
    kit_begin(k);
    kit_end(k, options, true);
    *h = (struct host){ 0 };
    struct errmsg em;
    enum err e = net_listen(k->loop, "127.0.0.1", 0, 16, host_accept, h, &h->listener, &em);
    assert_int_equal(e, OK);
    struct raft_members m = { .count = 0 };
    kit_member(&m, 2, 12, listener_port(h->listener));
    peers_members(k->ends[0].peers, &m);
    dial_stop(&k->ends[0].peers->at[0]->outs[NODE_CHANNEL_URGENT].dial);
    KIT_UNTIL(k, h->last.got.len >= PEER_FRAME_HEAD_BYTES + 44);
}

static void finish(struct kit *k, struct host *h)
{
    kit_finish(k);
    buf_deinit(&h->last.got);
}

static void welcome(struct host *h, uint64_t member_id, uint64_t directory_id)
{
    peer_welcome_put(conn_out(h->last.conn), &(struct peer_welcome){ member_id, directory_id });
    conn_dirty(h->last.conn);
}

static void test_says_who_it_is_and_nothing_before_the_welcome(void **state)
{
    (void)state;
    struct kit k;
    struct host h;
    meet(&k, &h, NULL);
    struct peer_hello hello;
    struct errmsg em;
    assert_int_equal(peer_hello_decode(bare_frame(&h.last).payload, &hello, &em), OK);
    assert_int_equal(hello.cluster_id, KIT_CLUSTER);
    assert_int_equal(hello.from_id, 1);
    assert_int_equal(hello.directory_id, 11);
    assert_int_equal(hello.to_id, 2);
    assert_int_equal(hello.channel, NODE_CHANNEL_MAIN);
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("too early"));
    for (int i = 0; i < 5; i++) loop_turn(k.loop, true);
    assert_int_equal(h.last.got.len, PEER_FRAME_HEAD_BYTES + 44);
    assert_true(k.ends[0].unreachable_count > 0);
    welcome(&h, 2, 12);
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("in time"));
    KIT_UNTIL(&k, h.last.got.len == PEER_FRAME_HEAD_BYTES + 44 + PEER_FRAME_HEAD_BYTES + 7);
    finish(&k, &h);
}

/* Each of these ends the connection, and it tries again. */
static void test_wrong_answers_are_not_spoken_to(void **state)
{
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        struct kit k;
        struct host h;
        meet(&k, &h, NULL);
        size_t before = h.accept_count;
        struct chain *out = conn_out(h.last.conn);
        switch (kind) {
        case 0: welcome(&h, 3, 12); break;
        case 1: welcome(&h, 2, 13); break;
        case 2: peer_refusal_put(out, true, "no"); break;
        case 3: peer_refusal_put(out, false, "later"); break;
        case 4: chain_append(out, "-ERR what is this\r\n", 19); break;
        default: peer_frame_put(out, PEER_PAYLOAD, SLICE_LIT("x")); break;
        }
        conn_dirty(h.last.conn);
        KIT_UNTIL(&k, h.accept_count > before);
        assert_false(peers_connected(k.ends[0].peers, 2));
        finish(&k, &h);
    }
}

static void test_answers_after_the_welcome_end_the_connection(void **state)
{
    (void)state;
    struct kit k;
    struct host h;
    meet(&k, &h, NULL);
    welcome(&h, 2, 12);
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    size_t before = k.ends[0].unreachable_count;
    welcome(&h, 2, 12);
    KIT_UNTIL(&k, !peers_connected(k.ends[0].peers, 2) && k.ends[0].unreachable_count > before);
    finish(&k, &h);
}

static void test_silence_has_a_deadline(void **state)
{
    (void)state;
    struct kit k;
    struct host h;
    struct peer_options options = kit_options();
    options.handshake_ms_max = 30;
    meet(&k, &h, &options);
    size_t before = h.accept_count;
    KIT_UNTIL(&k, h.accept_count >= before + 2);
    assert_true(k.ends[0].unreachable_count > 0);
    finish(&k, &h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_who_it_is_and_nothing_before_the_welcome),
        cmocka_unit_test(test_wrong_answers_are_not_spoken_to),
        cmocka_unit_test(test_answers_after_the_welcome_end_the_connection),
        cmocka_unit_test(test_silence_has_a_deadline),
    };
    return cmocka_run_group_tests_name("server/peer_out", tests, NULL, NULL);
}
