/* A bare socket speaks to a member: who is admitted, who is refused and in which words. */
#include "peer_kit.h"

static const struct peer_hello good_hello = {
    .channel = NODE_CHANNEL_MAIN, .group = 1, .cluster_id = KIT_CLUSTER, .from_id = 2,
    .directory_id = 12, .to_id = 1,
};

static void say_hello(struct bare *b, const struct peer_hello *h)
{
    peer_hello_put(conn_out(b->conn), h);
    conn_dirty(b->conn);
}

static void say_payload(struct bare *b, struct slice payload)
{
    peer_frame_put(conn_out(b->conn), PEER_PAYLOAD, payload);
    conn_dirty(b->conn);
}

static void admitted(struct kit *k, struct bare *b, const struct peer_hello *h)
{
    bare_open(k, b, peers_port(k->ends[0].peers));
    say_hello(b, h);
    KIT_UNTIL(k, b->got.len > 0);
    assert_int_equal(bare_frame(b).kind, PEER_WELCOME);
}

/* Says the hello, and a payload behind it that must not arrive. */
static void refused(struct kit *k, const struct peer_hello *h, bool final, const char *words)
{
    struct bare b;
    size_t got_before = k->ends[0].got_count;
    bare_open(k, &b, peers_port(k->ends[0].peers));
    say_hello(&b, h);
    say_payload(&b, SLICE_LIT("sneaked in"));
    KIT_UNTIL(k, b.conn == NULL);
    struct peer_frame f = bare_frame(&b);
    assert_int_equal(f.kind, PEER_REFUSE);
    struct peer_refusal r;
    struct errmsg em;
    assert_int_equal(peer_refusal_decode(f.payload, &r, &em), OK);
    assert_int_equal(r.final, final);
    if (strstr(r.text, words) == NULL) fail_msg("'%s' does not say '%s'", r.text, words);
    assert_int_equal(k->ends[0].got_count, got_before);
    buf_deinit(&b.got);
}

static void test_the_right_hello_is_welcomed(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    struct bare b;
    admitted(&k, &b, &good_hello);
    struct peer_welcome w;
    struct errmsg em;
    assert_int_equal(peer_welcome_decode(bare_frame(&b).payload, &w, &em), OK);
    assert_int_equal(w.member_id, 1);
    assert_int_equal(w.directory_id, 11);
    say_payload(&b, SLICE_LIT("hello"));
    KIT_UNTIL(&k, k.ends[0].got_count == 1);
    assert_int_equal(k.ends[0].got_from, 2);
    kit_finish(&k);
    buf_deinit(&b.got);
}

static void test_wrong_hellos_are_refused_in_words(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct end *e = kit_end(&k, NULL, true);
    struct peer_hello h = good_hello;
    h.cluster_id = 78;
    refused(&k, &h, true, "belongs to cluster 78, this one to cluster 77");
    h = good_hello;
    h.group = 2;
    refused(&k, &h, true, "belongs to cluster");
    h = good_hello;
    h.to_id = 3;
    refused(&k, &h, true, "looks for member 3 here, but this is member 1");
    h = good_hello;
    h.from_id = 1;
    refused(&k, &h, true, "but this is member 1");
    h = good_hello;
    h.channel = NODE_CHANNEL_COUNT;
    refused(&k, &h, true, "channel 3");
    assert_int_equal(e->admit_count, 0);
    e->admit_result = ERR_MEMBER;
    e->admit_text = "its directory is not the recorded one: remove it and let it join again";
    refused(&k, &good_hello, true, "remove it and let it join again");
    assert_int_equal(e->admit_count, 1);
    e->admit_result = ERR_AGAIN;
    e->admit_text = "not now";
    refused(&k, &good_hello, false, "not now");
    struct peers_stats st;
    peers_stats_get(e->peers, &st);
    assert_int_equal(st.refused, 7);
    kit_finish(&k);
}

static void test_nobody_is_admitted_before_the_start(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct end *e = kit_end(&k, NULL, false);
    refused(&k, &good_hello, false, "not started yet");
    assert_int_equal(e->admit_count, 0);
    kit_finish(&k);
}

static void test_another_protocol_version_is_told(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    for (int round = 0; round < 2; round++) {
        struct bare b;
        bare_open(&k, &b, peers_port(k.ends[0].peers));
        if (round == 0) { /* inside the frame */
            uint8_t payload[40] = { PEER_PROTOCOL + 1 };
            peer_frame_put(conn_out(b.conn), PEER_HELLO, (struct slice){ payload, sizeof payload });
        } else { /* the frame itself */
            chain_append(conn_out(b.conn), "CRP\x07............", 16);
        }
        conn_dirty(b.conn);
        KIT_UNTIL(&k, b.conn == NULL);
        struct peer_refusal r;
        struct errmsg em;
        assert_int_equal(peer_refusal_decode(bare_frame(&b).payload, &r, &em), OK);
        assert_non_null(strstr(r.text, "version"));
        buf_deinit(&b.got);
    }
    kit_finish(&k);
}

/* Nothing of it is delivered; the connection ends. */
static void test_bad_bytes_end_the_connection(void **state)
{
    (void)state;
    static const struct slice bad[] = {
        { (const uint8_t *)"PING\r\n", 6 },
        { (const uint8_t *)"\x16\x03\x01\x02", 4 },
        { (const uint8_t *)"CRP\x01\xff\xff\xff\xff\x04\0\0\0\0\0\0\0", 16 },
    };
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    for (size_t i = 0; i < 2 * ARRAY_LEN(bad); i++) {
        struct bare b;
        if (i % 2 == 0) {
            bare_open(&k, &b, peers_port(k.ends[0].peers));
        } else {
            admitted(&k, &b, &good_hello);
        }
        bare_say(&b, bad[i / 2]);
        KIT_UNTIL(&k, b.conn == NULL);
        buf_deinit(&b.got);
    }
    assert_int_equal(k.ends[0].got_count, 0);
    kit_finish(&k);
}

static void test_frames_out_of_place_end_the_connection(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    struct bare b;
    bare_open(&k, &b, peers_port(k.ends[0].peers));
    say_payload(&b, SLICE_LIT("before the hello")); /* too short to be refused for its length */
    KIT_UNTIL(&k, b.conn == NULL);
    buf_deinit(&b.got);
    admitted(&k, &b, &good_hello);
    say_hello(&b, &good_hello); /* twice */
    KIT_UNTIL(&k, b.conn == NULL);
    buf_deinit(&b.got);
    admitted(&k, &b, &good_hello);
    peer_welcome_put(conn_out(b.conn), &(struct peer_welcome){ 2, 12 });
    conn_dirty(b.conn);
    KIT_UNTIL(&k, b.conn == NULL);
    buf_deinit(&b.got);
    assert_int_equal(k.ends[0].got_count, 0);
    kit_finish(&k);
}

static void test_a_payload_that_cannot_be_ends_the_connection(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    k.ends[0].receive_result = ERR_PROTO;
    struct bare b;
    admitted(&k, &b, &good_hello);
    say_payload(&b, SLICE_LIT("one"));
    say_payload(&b, SLICE_LIT("two"));
    KIT_UNTIL(&k, b.conn == NULL);
    assert_int_equal(k.ends[0].got_count, 1); /* I1 */
    buf_deinit(&b.got);
    kit_finish(&k);
}

static void test_the_newest_of_one_channel_replaces_the_older(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    struct bare older, newer, other_channel, other_member;
    struct peer_hello h = good_hello;
    admitted(&k, &older, &h);
    h.channel = NODE_CHANNEL_URGENT;
    admitted(&k, &other_channel, &h);
    h = good_hello;
    h.from_id = 3;
    admitted(&k, &other_member, &h);
    assert_non_null(older.conn);
    say_payload(&older, SLICE_LIT("overtaken"));
    admitted(&k, &newer, &good_hello);
    KIT_UNTIL(&k, older.conn == NULL);
    size_t before = k.ends[0].got_count;
    say_payload(&newer, SLICE_LIT("x"));
    KIT_UNTIL(&k, k.ends[0].got_count == before + 1);
    assert_non_null(other_channel.conn);
    assert_non_null(other_member.conn);
    kit_finish(&k);
    buf_deinit(&older.got);
    buf_deinit(&newer.got);
    buf_deinit(&other_channel.got);
    buf_deinit(&other_member.got);
}

static void test_a_handshake_has_a_deadline(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct peer_options options = kit_options();
    options.handshake_ms_max = 30;
    kit_end(&k, &options, true);
    struct bare silent, slow, good;
    admitted(&k, &good, &good_hello);
    bare_open(&k, &silent, peers_port(k.ends[0].peers));
    bare_open(&k, &slow, peers_port(k.ends[0].peers));
    bare_say(&slow, SLICE_LIT("CRP\x01"));
    KIT_UNTIL(&k, silent.conn == NULL && slow.conn == NULL);
    assert_non_null(good.conn); /* it may be silent as long as it likes */
    kit_finish(&k);
    buf_deinit(&good.got);
}

/* Strangers give way to whoever comes; members do not. */
static void test_accepted_connections_are_bounded(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct peer_options options = kit_options();
    options.conn_count_max = 2;
    struct end *e = kit_end(&k, &options, true);
    struct bare stranger, main, urgent, over;
    bare_open(&k, &stranger, peers_port(e->peers));
    KIT_UNTIL(&k, e->peers->in_count == 1);
    admitted(&k, &main, &good_hello);
    struct peer_hello h = good_hello;
    h.channel = NODE_CHANNEL_URGENT;
    admitted(&k, &urgent, &h);
    KIT_UNTIL(&k, stranger.conn == NULL);
    bare_open(&k, &over, peers_port(e->peers));
    KIT_UNTIL(&k, over.conn == NULL);
    struct peer_refusal r;
    struct errmsg em;
    assert_int_equal(peer_refusal_decode(bare_frame(&over).payload, &r, &em), OK);
    assert_non_null(strstr(r.text, "peer-max-connections"));
    assert_false(r.final);
    assert_int_equal(e->peers->in_count, 2);
    kit_finish(&k);
    buf_deinit(&main.got);
    buf_deinit(&urgent.got);
    buf_deinit(&over.got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_hello_is_welcomed),
        cmocka_unit_test(test_wrong_hellos_are_refused_in_words),
        cmocka_unit_test(test_nobody_is_admitted_before_the_start),
        cmocka_unit_test(test_another_protocol_version_is_told),
        cmocka_unit_test(test_bad_bytes_end_the_connection),
        cmocka_unit_test(test_frames_out_of_place_end_the_connection),
        cmocka_unit_test(test_a_payload_that_cannot_be_ends_the_connection),
        cmocka_unit_test(test_the_newest_of_one_channel_replaces_the_older),
        cmocka_unit_test(test_a_handshake_has_a_deadline),
        cmocka_unit_test(test_accepted_connections_are_bounded),
    };
    return cmocka_run_group_tests_name("server/peer_in", tests, NULL, NULL);
}
