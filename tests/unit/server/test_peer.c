/* Two members on one loop, over the loopback: what is sent arrives, once, in order, or is told. */
#include "peer_kit.h"

/* Ends 1 and 2 know each other. */
static void introduce(struct kit *k)
{
    struct raft_members m = { .count = 0 };
    for (size_t i = 0; i < k->end_count; i++) {
        const struct end *e = &k->ends[i];
        kit_member(&m, e->self.member_id, e->self.directory_id, peers_port(e->peers));
    }
    for (size_t i = 0; i < k->end_count; i++) peers_members(k->ends[i].peers, &m);
}

static void pair(struct kit *k, const struct peer_options *options)
{
    kit_begin(k);
    kit_end(k, options, true);
    kit_end(k, options, true);
    introduce(k);
    KIT_UNTIL(k, peers_connected(k->ends[0].peers, 2) && peers_connected(k->ends[1].peers, 1));
}

static struct slice filled(struct buf *b, size_t len, uint8_t seed)
{
    buf_clear(b);
    uint8_t *at = buf_reserve(b, len + 1);
    for (size_t i = 0; i < len; i++) at[i] = (uint8_t)(i * 31 + seed + (i >> 8));
    b->len = len;
    return buf_slice(b);
}

static void test_payloads_of_all_sizes_arrive_in_order(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 0, 100, 16384, 65536, 70000, 3 << 20, 5 };
    struct kit k;
    struct peer_options options = kit_options();
    options.output_bytes_max = 64 << 20;
    pair(&k, &options);
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    struct buf want CLEANUP(buf_deinit) = { 0 };
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct slice s = filled(&payload, sizes[i], (uint8_t)(i + round));
            buf_append_u32(&want, (uint32_t)s.len);
            buf_append_slice(&want, s);
            peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, s);
        }
    }
    KIT_UNTIL(&k, k.ends[1].got_count == 3 * ARRAY_LEN(sizes));
    assert_true(slice_eq(buf_slice(&k.ends[1].got), buf_slice(&want)));
    assert_int_equal(k.ends[1].got_from, 1);
    assert_int_equal(k.ends[0].got_count, 0);
    struct peers_stats sent, received;
    peers_stats_get(k.ends[0].peers, &sent);
    peers_stats_get(k.ends[1].peers, &received);
    assert_int_equal(sent.sent_frames, 3 * ARRAY_LEN(sizes));
    assert_int_equal(received.received_frames, sent.sent_frames);
    assert_int_equal(received.received_bytes, sent.sent_bytes);
    assert_int_equal(sent.dropped_frames, 0);
    assert_int_equal(sent.connected_count, 1);
    kit_finish(&k);
}

static void test_the_largest_frame_passes_even_where_it_is_over_the_output_limit(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    struct slice s = filled(&payload, PEER_FRAME_BYTES_MAX, 9);
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, s);
    KIT_UNTIL(&k, k.ends[1].got_count == 1);
    assert_int_equal(k.ends[1].got.len, 4 + PEER_FRAME_BYTES_MAX);
    assert_memory_equal(k.ends[1].got.at + 4, s.at, s.len);
    kit_finish(&k);
}

static void test_a_frame_over_the_bound_is_dropped_and_told(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    size_t before = k.ends[0].unreachable_count;
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, filled(&payload, PEER_FRAME_BYTES_MAX + 1, 0));
    KIT_UNTIL(&k, k.ends[0].unreachable_count == before + 1);
    assert_true(peers_connected(k.ends[0].peers, 2));
    kit_finish(&k);
}

static void test_a_full_queue_drops_and_tells_once_a_turn(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    size_t before = k.ends[0].unreachable_count;
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    struct slice s = filled(&payload, 400 << 10, 1);
    for (int i = 0; i < 10; i++) peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, s);
    struct peers_stats st;
    peers_stats_get(k.ends[0].peers, &st);
    assert_int_equal(st.sent_frames, 2); /* of 1 MiB */
    assert_int_equal(st.dropped_frames, 8);
    assert_int_equal(k.ends[0].unreachable_count, before); /* I3 */
    KIT_UNTIL(&k, k.ends[1].got_count == 2);
    assert_int_equal(k.ends[0].unreachable_count, before + 1);
    assert_true(peers_connected(k.ends[0].peers, 2));
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("again"));
    KIT_UNTIL(&k, k.ends[1].got_count == 3);
    kit_finish(&k);
}

/* A member that knows nobody is spoken to by one that knows it, and answers: as long as that one speaks. */
static void test_who_is_not_known_is_answered(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct end *one = kit_end(&k, NULL, true);
    struct end *two = kit_end(&k, NULL, false);
    snprintf(two->self.address, sizeof two->self.address, "127.0.0.1:%u", peers_port(two->peers));
    kit_start(two);
    struct raft_members m = { .count = 0 };
    kit_member(&m, 1, 11, peers_port(one->peers));
    peers_members(two->peers, &m);
    KIT_UNTIL(&k, peers_connected(one->peers, 2));
    peers_send(one->peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("answer"));
    KIT_UNTIL(&k, two->got_count == 1);
    /* Other members become known: it stays. It becomes known itself, too, and then goes. */
    struct raft_members others = { .count = 0 };
    kit_member(&others, 3, 13, 1);
    peers_members(one->peers, &others);
    assert_true(peers_connected(one->peers, 2));
    kit_member(&others, 2, 12, peers_port(two->peers));
    peers_members(one->peers, &others);
    assert_true(peers_connected(one->peers, 2));
    others.count = 0;
    kit_member(&others, 3, 13, 1);
    peers_members(one->peers, &others);
    assert_null(peers_find(one->peers, 2));
    KIT_UNTIL(&k, peers_find(one->peers, 2) != NULL); /* it speaks again */
    peers_free(two->peers);
    two->peers = NULL;
    KIT_UNTIL(&k, peers_find(one->peers, 2) == NULL);
    kit_finish(&k);
}

/* It was let in while nobody could tell; now it is known that it is no member. */
static void test_who_turns_out_to_be_no_member_is_told(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct end *one = kit_end(&k, NULL, true);
    struct end *two = kit_end(&k, NULL, false);
    snprintf(two->self.address, sizeof two->self.address, "127.0.0.1:%u", peers_port(two->peers));
    kit_start(two);
    struct raft_members m = { .count = 0 };
    kit_member(&m, 1, 11, peers_port(one->peers));
    peers_members(two->peers, &m);
    KIT_UNTIL(&k, peers_connected(one->peers, 2) && peers_connected(two->peers, 1));
    one->admit_result = ERR_MEMBER;
    one->admit_text = "no member";
    KIT_UNTIL(&k, !peers_connected(two->peers, 1));
    assert_null(peers_find(one->peers, 2));
    struct peers_stats st;
    peers_stats_get(one->peers, &st);
    assert_true(st.refused >= 1);
    peers_send(two->peers, 1, NODE_CHANNEL_MAIN, SLICE_LIT("unheard"));
    for (int i = 0; i < 20; i++) loop_turn(k.loop, true);
    assert_int_equal(one->got_count, 0); /* I1 */
    kit_finish(&k);
}

/* Its address changed while this one was away: the log says the old one, its hello the new one. */
static void test_who_moved_is_answered(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct end *one = kit_end(&k, NULL, true);
    struct end *two = kit_end(&k, NULL, false);
    snprintf(two->self.address, sizeof two->self.address, "127.0.0.1:%u", peers_port(two->peers));
    kit_start(two);
    struct raft_members m = { .count = 0 };
    kit_member(&m, 2, 12, 1); /* nobody listens there */
    peers_members(one->peers, &m);
    m.count = 0;
    kit_member(&m, 1, 11, peers_port(one->peers));
    peers_members(two->peers, &m);
    KIT_UNTIL(&k, peers_connected(one->peers, 2));
    peers_send(one->peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("answer"));
    KIT_UNTIL(&k, two->got_count == 1);
    /* The log's word is tried first again once nobody speaks. */
    peers_free(two->peers);
    two->peers = NULL;
    struct peer_out *main = &peers_find(one->peers, 2)->outs[NODE_CHANNEL_MAIN];
    KIT_UNTIL(&k, !peers_connected(one->peers, 2) && strcmp(main->dial.address, "127.0.0.1:1") == 0);
    kit_finish(&k);
}

/* What is urgent does not stand behind a megabyte, and nothing is lost. */
static void test_urgent_overtakes_a_backed_up_main(void **state)
{
    (void)state;
    struct kit k;
    struct peer_options options = kit_options();
    options.output_bytes_max = 64 << 20;
    pair(&k, &options);
    struct peer *to = k.ends[0].peers->at[0];
    KIT_UNTIL(&k, to->outs[NODE_CHANNEL_URGENT].dial.phase == DIAL_UP);
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_URGENT, SLICE_LIT("first"));
    assert_int_equal(chain_bytes(conn_out(to->outs[NODE_CHANNEL_URGENT].dial.conn)), 0);
    for (int i = 0; i < 4; i++) {
        peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, filled(&payload, 4 << 20, 1));
    }
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_URGENT, SLICE_LIT("urgent"));
    assert_true(chain_bytes(conn_out(to->outs[NODE_CHANNEL_URGENT].dial.conn)) > 0);
    KIT_UNTIL(&k, k.ends[1].got_count == 6);
    struct slice all = buf_slice(&k.ends[1].got);
    size_t at = 0, place = 0, urgent_place = 6;
    for (; at < all.len; place++) {
        uint32_t len = u32_le(all.at + at);
        if (len == 6 && memcmp(all.at + at + 4, "urgent", 6) == 0) urgent_place = place;
        at += 4 + len;
    }
    assert_in_range(urgent_place, 0, 4); /* not last */
    kit_finish(&k);
}

static void test_bulk_opens_at_the_first_payload_and_closes_when_idle(void **state)
{
    (void)state;
    struct kit k;
    struct peer_options options = kit_options();
    options.bulk_idle_ms = 30;
    pair(&k, &options);
    struct peer_out *bulk = &k.ends[0].peers->at[0]->outs[NODE_CHANNEL_BULK];
    assert_int_equal(bulk->dial.phase, DIAL_STOPPED);
    for (int round = 1; round <= 2; round++) {
        peers_send(k.ends[0].peers, 2, NODE_CHANNEL_BULK, SLICE_LIT("one"));
        peers_send(k.ends[0].peers, 2, NODE_CHANNEL_BULK, SLICE_LIT("two"));
        KIT_UNTIL(&k, k.ends[1].got_count == 2 * (size_t)round);
        assert_memory_equal(k.ends[1].got.at + 4, "one", 3);
        KIT_UNTIL(&k, bulk->dial.phase == DIAL_STOPPED);
    }
    struct peers_stats st;
    peers_stats_get(k.ends[0].peers, &st);
    assert_int_equal(st.dropped_frames, 0);
    kit_finish(&k);
}

static void test_bulk_to_nobody_is_told(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    peers_free(k.ends[1].peers);
    k.ends[1].peers = NULL;
    KIT_UNTIL(&k, !peers_connected(k.ends[0].peers, 2));
    size_t before = k.ends[0].unreachable_count;
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_BULK, SLICE_LIT("lost"));
    struct peer_out *bulk = &k.ends[0].peers->at[0]->outs[NODE_CHANNEL_BULK];
    KIT_UNTIL(&k, bulk->dial.phase == DIAL_STOPPED && k.ends[0].unreachable_count > before);
    assert_int_equal(chain_bytes(&bulk->pending), 0);
    kit_finish(&k);
}

static void test_reconnects_after_the_other_side_came_back(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    uint16_t port = peers_port(k.ends[1].peers);
    size_t before = k.ends[0].unreachable_count;
    peers_free(k.ends[1].peers);
    k.ends[1].peers = NULL;
    KIT_UNTIL(&k, !peers_connected(k.ends[0].peers, 2) && k.ends[0].unreachable_count > before);
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("lost"));

    struct peer_options options = kit_options();
    options.port = port;
    struct errmsg em = { "" };
    struct end *back = &k.ends[1];
    assert_int_equal(peers_new(k.loop, &options, &back->peers, &em), OK);
    kit_start(back);
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("found"));
    KIT_UNTIL(&k, back->got_count == 1);
    assert_memory_equal(back->got.at + 4, "found", 5);
    struct peers_stats st;
    peers_stats_get(k.ends[0].peers, &st);
    assert_int_equal(st.reconnects, 1);
    assert_int_equal(st.dropped_frames, 1);
    kit_finish(&k);
}

/* Who came back and speaks is spoken to at once, however long the pause would be. */
static void test_who_connects_is_connected_to_at_once(void **state)
{
    (void)state;
    struct kit k;
    struct peer_options options = kit_options();
    options.reconnect_ms_min = options.reconnect_ms_max = 60000;
    pair(&k, &options);
    uint16_t port = peers_port(k.ends[1].peers);
    peers_free(k.ends[1].peers);
    k.ends[1].peers = NULL;
    KIT_UNTIL(&k, !peers_connected(k.ends[0].peers, 2));
    struct errmsg em = { "" };
    struct end *back = &k.ends[1];
    options.port = port;
    assert_int_equal(peers_new(k.loop, &options, &back->peers, &em), OK);
    kit_start(back);
    introduce(&k);
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    kit_finish(&k);
}

static void test_a_changed_address_is_followed(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    kit_end(&k, NULL, true); /* another place for member 2 */
    k.ends[2].self.member_id = 2;
    k.ends[2].peers->self.member_id = 2;
    struct raft_members m = { .count = 0 };
    kit_member(&m, 2, 0, peers_port(k.ends[2].peers));
    peers_members(k.ends[0].peers, &m);
    assert_false(peers_connected(k.ends[0].peers, 2));
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("x"));
    KIT_UNTIL(&k, k.ends[2].got_count == 1);
    assert_int_equal(k.ends[1].got_count, 0);
    kit_finish(&k);
}

static void test_a_removed_member_is_neither_heard_nor_spoken_to(void **state)
{
    (void)state;
    struct kit k;
    pair(&k, NULL);
    struct raft_members only_self = { .count = 0 };
    kit_member(&only_self, 1, 11, 1);
    peers_send(k.ends[1].peers, 1, NODE_CHANNEL_MAIN, SLICE_LIT("too late"));
    peers_flush(k.ends[1].peers);
    k.ends[0].admit_result = ERR_MEMBER;
    k.ends[0].admit_text = "removed";
    peers_members(k.ends[0].peers, &only_self);
    KIT_UNTIL(&k, !peers_connected(k.ends[1].peers, 1));
    for (int i = 0; i < 20; i++) loop_turn(k.loop, true);
    assert_int_equal(k.ends[0].got_count, 0); /* I1 */
    peers_send(k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("nobody"));
    struct peers_stats st;
    peers_stats_get(k.ends[0].peers, &st);
    assert_int_equal(st.dropped_frames, 1);
    assert_int_equal(st.connected_count, 0);
    kit_finish(&k);
}

static void test_a_used_port_is_told_at_once(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, false);
    struct peer_options options = kit_options();
    options.port = peers_port(k.ends[0].peers);
    struct peers *second = NULL;
    struct errmsg em = { "" };
    assert_int_equal(peers_new(k.loop, &options, &second, &em), ERR_IO);
    assert_null(second);
    assert_non_null(strstr(em.text, "peer-port"));
    options.bind = "  ";
    assert_int_equal(peers_new(k.loop, &options, &second, &em), ERR_CONFIG);
    kit_finish(&k);
}

static void test_a_name_is_resolved_without_stopping_the_loop(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_end(&k, NULL, true);
    kit_end(&k, NULL, true);
    struct raft_members m = { .count = 0 };
    struct raft_member two = { .id = 2, .role = RAFT_VOTER };
    snprintf(two.peer_address, sizeof two.peer_address, "localhost:%u", peers_port(k.ends[1].peers));
    assert_int_equal(raft_members_put(&m, &two), OK);
    peers_members(k.ends[0].peers, &m);
    /* The answer may be there already; nobody waited for it. */
    assert_in_range(k.ends[0].peers->at[0]->outs[NODE_CHANNEL_MAIN].dial.phase, DIAL_RESOLVING, DIAL_CONNECTING);
    KIT_UNTIL(&k, peers_connected(k.ends[0].peers, 2));
    kit_finish(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_payloads_of_all_sizes_arrive_in_order),
        cmocka_unit_test(test_the_largest_frame_passes_even_where_it_is_over_the_output_limit),
        cmocka_unit_test(test_a_frame_over_the_bound_is_dropped_and_told),
        cmocka_unit_test(test_a_full_queue_drops_and_tells_once_a_turn),
        cmocka_unit_test(test_who_is_not_known_is_answered),
        cmocka_unit_test(test_who_turns_out_to_be_no_member_is_told),
        cmocka_unit_test(test_who_moved_is_answered),
        cmocka_unit_test(test_urgent_overtakes_a_backed_up_main),
        cmocka_unit_test(test_bulk_opens_at_the_first_payload_and_closes_when_idle),
        cmocka_unit_test(test_bulk_to_nobody_is_told),
        cmocka_unit_test(test_reconnects_after_the_other_side_came_back),
        cmocka_unit_test(test_who_connects_is_connected_to_at_once),
        cmocka_unit_test(test_a_changed_address_is_followed),
        cmocka_unit_test(test_a_removed_member_is_neither_heard_nor_spoken_to),
        cmocka_unit_test(test_a_used_port_is_told_at_once),
        cmocka_unit_test(test_a_name_is_resolved_without_stopping_the_loop),
    };
    return cmocka_run_group_tests_name("server/peer", tests, NULL, NULL);
}
