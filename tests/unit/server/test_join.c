/* Joining: the bytes sent, every cut of the reply, and what is tried again or final. */
#include "peer_kit.h"

#include "server/join.h"

static struct buf reply_of(uint64_t cluster_id, uint64_t member_id, bool bulk)
{
    struct raft_members m = { .count = 0 };
    kit_member(&m, 5, 6, 7380);
    kit_member(&m, member_id, 8, 7381);
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    raft_members_encode(&bytes, &m);
    struct buf out = { 0 };
    if (bulk) {
        char digits[24];
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)cluster_id);
        buf_printf(&out, "*3\r\n$%zu\r\n%s\r\n:%llu\r\n", strlen(digits), digits, (unsigned long long)member_id);
    } else {
        buf_printf(&out, "*3\r\n:%llu\r\n:%llu\r\n", (unsigned long long)cluster_id, (unsigned long long)member_id);
    }
    buf_printf(&out, "$%zu\r\n", bytes.len);
    buf_append_slice(&out, buf_slice(&bytes));
    buf_printf(&out, "\r\n");
    return out;
}

static void test_reply_and_every_cut(void **state)
{
    (void)state;
    for (int bulk = 0; bulk < 2; bulk++) {
        struct buf b CLEANUP(buf_deinit) = reply_of(1234, 9, bulk == 1);
        struct join_reply r;
        for (size_t len = 0; len < b.len; len++) {
            assert_int_equal(join_reply_decode((struct slice){ b.at, len }, &r), ERR_AGAIN);
        }
        assert_int_equal(join_reply_decode(buf_slice(&b), &r), OK);
        assert_int_equal(r.kind, JOIN_REPLY_JOINED);
        assert_int_equal(r.answer.cluster_id, 1234);
        assert_int_equal(r.answer.member_id, 9);
        assert_int_equal(r.answer.members.count, 2);
        assert_int_equal(r.used_bytes, b.len);
    }
}

static void test_replies_that_cannot_be(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\n", "\r\n", "\n", "*2\r\n", "*3\r\n:0\r\n", "*3\r\n:x\r\n", "*3\r\n+1\r\n",
        "*3\r\n:9007199254740992\r\n", "*3\r\n:1\r\n:2\r\n$99999999\r\n", "*3\r\n:1\r\n:2\r\n$-1\r\n",
        "*3\r\n:1\r\n:2\r\n$3\r\nabc\r\n", "*3\r\n:1\r\n:2\r\n$1\r\nabc\r\n", ":5\r\n",
    };
    struct join_reply r;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (join_reply_decode(slice_of(bad[i]), &r) != ERR_PROTO) fail_msg("'%s' passes", bad[i]);
    }
    assert_int_equal(join_reply_decode(SLICE_LIT("-ERR no\r\n"), &r), OK);
    assert_int_equal(r.kind, JOIN_REPLY_ERROR);
    assert_true(slice_eq(r.text, SLICE_LIT("ERR no")));
}

/* --- against a listener ------------------------------------------------------------------------ */

struct door {
    struct kit kit;
    struct listener *listener;
    struct bare caller;
    size_t accepted;
    struct dial_options dial;
    struct join *join;
    struct join_answer answer;
    struct errmsg em;
};

static void door_accept(void *ctx, struct conn *conn)
{
    struct door *d = ctx;
    d->accepted++;
    buf_clear(&d->caller.got);
    bare_accept(&d->caller, conn);
}

/* The first address is nobody's. */
static void door_begin(struct door *d, const char *password)
{
    *d = (struct door){ 0 };
    kit_begin(&d->kit);
    d->dial = (struct dial_options){ d->kit.loop, -1, 1, 10, 10000, 5000, NULL };
    enum err e = net_listen(d->kit.loop, "127.0.0.1", 0, 8, door_accept, d, &d->listener, &d->em);
    assert_int_equal(e, OK);
    struct listener *nobody = NULL;
    assert_int_equal(net_listen(d->kit.loop, "127.0.0.1", 0, 8, door_accept, d, &nobody, &d->em), OK);
    char addresses[80];
    snprintf(addresses, sizeof addresses, "127.0.0.1:%u,127.0.0.1:%u", listener_port(nobody),
             listener_port(d->listener));
    listener_close(nobody);
    struct join_options options = { addresses, password, 9, 8, "me:7380", "me:7379", "n9" };
    assert_int_equal(join_new(&d->dial, &options, kit_mono_ms(), &d->join, &d->em), OK);
}

static void door_end(struct door *d)
{
    join_free(d->join);
    kit_finish(&d->kit);
    buf_deinit(&d->caller.got);
}

static enum err door_turn(struct door *d)
{
    return join_turn(d->join, loop_now_ms(d->kit.loop), &d->answer, &d->em);
}

static void test_joins_at_the_second_address(void **state)
{
    (void)state;
    struct door d;
    door_begin(&d, "secret");
    static const char want[] =
        "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
        "*7\r\n$6\r\nMEMBER\r\n$4\r\nJOIN\r\n$1\r\n9\r\n$1\r\n8\r\n$7\r\nme:7380\r\n$7\r\nme:7379\r\n$2\r\nn9\r\n";
    KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.caller.got.len == sizeof want - 1);
    assert_memory_equal(d.caller.got.at, want, sizeof want - 1);
    struct buf reply CLEANUP(buf_deinit) = reply_of(77, 9, false);
    bare_say(&d.caller, SLICE_LIT("-ERR Client sent AUTH, but no password is set\r\n"));
    bare_say(&d.caller, buf_slice(&reply));
    enum err e = ERR_AGAIN;
    KIT_UNTIL(&d.kit, (e = door_turn(&d)) != ERR_AGAIN);
    assert_int_equal(e, OK);
    assert_int_equal(d.answer.cluster_id, 77);
    assert_int_equal(d.answer.member_id, 9);
    assert_int_equal(d.answer.members.count, 2);
    door_end(&d);
}

static void test_what_passes_is_tried_again(void **state)
{
    (void)state;
    static const char *const replies[] = { "-CLUSTERDOWN no leader\r\n", "-TRYAGAIN later\r\n",
                                           "-LOADING not yet\r\n", "-TIMEOUT outcome unknown\r\n",
                                           "-ERR max number of clients reached\r\n",
                                           "SSH-2.0-OpenSSH\r\n" };
    struct door d;
    door_begin(&d, "");
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.accepted == i + 1 && d.caller.got.len > 0);
        bare_say(&d.caller, slice_of(replies[i]));
        KIT_UNTIL(&d.kit, d.caller.conn == NULL);
    }
    KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.accepted > ARRAY_LEN(replies));
    door_end(&d);
}

static void test_a_refusal_is_final(void **state)
{
    (void)state;
    static const char *const replies[] = { "-ERR member is known with another directory\r\n",
                                           "-NOAUTH Authentication required.\r\n", "+OK\r\n" };
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct door d;
        door_begin(&d, "");
        KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.caller.got.len > 0);
        bare_say(&d.caller, slice_of(replies[i]));
        enum err e = ERR_AGAIN;
        KIT_UNTIL(&d.kit, (e = door_turn(&d)) != ERR_AGAIN);
        assert_int_equal(e, ERR_MEMBER);
        assert_non_null(strstr(d.em.text, "joining at 127.0.0.1:"));
        door_end(&d);
    }
}

/* Who is not even let in gets one line for AUTH and MEMBER JOIN. */
static void test_a_refusal_at_the_door_is_the_only_reply(void **state)
{
    (void)state;
    struct door d;
    door_begin(&d, "secret");
    KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.caller.got.len > 0);
    bare_say(&d.caller, SLICE_LIT("-ERR max number of clients reached\r\n"));
    KIT_UNTIL(&d.kit, door_turn(&d) == ERR_AGAIN && d.accepted == 2 && d.caller.got.len > 0);
    bare_say(&d.caller, SLICE_LIT("-DENIED Cordis is running in protected mode\r\n"));
    enum err e = ERR_AGAIN;
    KIT_UNTIL(&d.kit, (e = door_turn(&d)) != ERR_AGAIN);
    assert_int_equal(e, ERR_MEMBER);
    assert_non_null(strstr(d.em.text, "DENIED Cordis is running in protected mode"));
    door_end(&d);
}

static void test_bad_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "host", "host:1,", ",host:1", "host:1,x" };
    struct dial_options dial = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct join_options options = { bad[i], "", 1, 2, "a:1", "b:1", "n" };
        struct join *j = NULL;
        struct errmsg em = { "" };
        assert_int_equal(join_new(&dial, &options, 0, &j, &em), ERR_CONFIG);
        assert_non_null(strstr(em.text, "'join'"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_and_every_cut),
        cmocka_unit_test(test_replies_that_cannot_be),
        cmocka_unit_test(test_joins_at_the_second_address),
        cmocka_unit_test(test_what_passes_is_tried_again),
        cmocka_unit_test(test_a_refusal_is_final),
        cmocka_unit_test(test_a_refusal_at_the_door_is_the_only_reply),
        cmocka_unit_test(test_bad_addresses),
    };
    return cmocka_run_group_tests_name("server/join", tests, NULL, NULL);
}
