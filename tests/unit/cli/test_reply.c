#include "cli_fake.h"

#include "cli/reply.h"

#define KV "[ key k value v type string create :2 mod :5 version :3 lease :17 ]"

static void test_range_is_taken_apart(void **state)
{
    (void)state;
    redisReply *r =
        fake_reply("[ revision :9 count :2 more :1 novelty x kvs [ " KV
                   " [ key h value nil type hash create 4 mod 4 version 1 lease 0 ] ] ]");
    struct range_result res;
    assert_int_equal(reply_range(r, &res), OK);
    assert_int_equal(res.revision, 9);
    assert_int_equal(res.count, 2);
    assert_true(res.more);
    assert_int_equal(res.kvs.count, 2);
    assert_true(slice_eq(res.kvs.at[0].key, SLICE_LIT("k")));
    assert_true(slice_eq(res.kvs.at[0].value, SLICE_LIT("v")));
    assert_int_equal(res.kvs.at[0].create_rev, 2);
    assert_int_equal(res.kvs.at[0].mod_rev, 5);
    assert_int_equal(res.kvs.at[0].version, 3);
    assert_int_equal(res.kvs.at[0].lease_id, 17);
    assert_false(res.kvs.at[1].has_value);
    assert_true(slice_eq(res.kvs.at[1].type, SLICE_LIT("hash")));
    assert_int_equal(res.kvs.at[1].mod_rev, 4); /* digits in a string are a number too */
    kv_list_deinit(&res.kvs);
    freeReplyObject(r);
}

static void test_put_and_del(void **state)
{
    (void)state;
    struct put_result put;
    redisReply *r = fake_reply("[ revision :9 applied :0 prev " KV " ]");
    assert_int_equal(reply_put(r, &put), OK);
    assert_false(put.applied);
    assert_true(put.has_prev);
    assert_int_equal(put.prev.mod_rev, 5);
    freeReplyObject(r);
    r = fake_reply("[ revision :9 applied :1 prev nil ]");
    assert_int_equal(reply_put(r, &put), OK);
    assert_true(put.applied);
    assert_false(put.has_prev);
    freeReplyObject(r);

    struct del_result del;
    r = fake_reply("[ revision :9 deleted :1 prevs [ " KV " ] ]");
    assert_int_equal(reply_del(r, &del), OK);
    assert_int_equal(del.deleted, 1);
    assert_int_equal(del.prevs.count, 1);
    kv_list_deinit(&del.prevs);
    freeReplyObject(r);
}

static void test_txn(void **state)
{
    (void)state;
    struct txn_result txn;
    redisReply *r = fake_reply("[ succeeded :0 revision :9 failed [ :1 " KV " ] responses [ ] ]");
    assert_int_equal(reply_txn(r, &txn), OK);
    assert_false(txn.succeeded);
    assert_true(txn.has_failed);
    assert_int_equal(txn.failed_index, 1);
    assert_true(txn.has_failed_kv);
    assert_int_equal(txn.failed_kv.version, 3);
    freeReplyObject(r);
    r = fake_reply("[ succeeded :0 revision :9 failed [ :0 nil ] responses [ ] ]");
    assert_int_equal(reply_txn(r, &txn), OK);
    assert_true(txn.has_failed);
    assert_false(txn.has_failed_kv);
    freeReplyObject(r);
    r = fake_reply("[ succeeded :1 revision :9 failed nil responses [ +OK ] ]");
    assert_int_equal(reply_txn(r, &txn), OK);
    assert_false(txn.has_failed);
    assert_int_equal(txn.responses->elements, 1);
    freeReplyObject(r);
}

static void test_events(void **state)
{
    (void)state;
    struct event_list list;
    redisReply *r = fake_reply(
        "[ events [ [ op put key k value v rev :5 create :2 version :3 lease :0 prev w prevmod :4 ]"
        " [ op expire key k value nil rev :6 create :0 version :0 lease :17 ] ] next :7 ]");
    assert_int_equal(reply_events(r, &list), OK);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.next_rev, 7);
    assert_int_equal(list.at[0].kv.mod_rev, 5);
    assert_true(list.at[0].has_prev);
    assert_true(slice_eq(list.at[0].prev.value, SLICE_LIT("w")));
    assert_int_equal(list.at[0].prev.mod_rev, 4);
    assert_true(slice_eq(list.at[1].op, SLICE_LIT("expire")));
    assert_false(list.at[1].has_prev);
    mem_free(list.at);
    freeReplyObject(r);
    r = fake_reply("[ events [ ] next :7 ]");
    assert_int_equal(reply_events(r, &list), OK);
    assert_int_equal(list.count, 0);
    mem_free(list.at);
    freeReplyObject(r);
}

/* What is not the expected shape is refused, with nothing left to free. */
static void test_wrong_shapes(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "nil",
        "+OK",
        ":1",
        "[ ]",
        "[ revision ]",
        "[ revision x count :1 ]",
        "[ revision :1 count :1 kvs :1 ]",
        "[ revision :1 count :1 kvs [ [ value v ] ] ]",
        "[ revision :1 count :1 kvs [ [ key k mod x ] ] ]",
        "[ events :1 next :1 ]",
        "[ events [ [ key k rev :1 ] ] next :1 ]",
        "[ events [ ] ]",
        "[ succeeded :1 revision :1 ]",
        "[ succeeded :1 revision :1 failed [ :0 ] responses [ ] ]",
        "[ succeeded :0 revision :1 failed [ :-1 nil ] responses [ ] ]",
        "[ id :1 keys x ttl :1 ]",
        "[ deleted [ ] revision :1 ]",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        redisReply *r = fake_reply(bad[i]);
        struct range_result range;
        struct put_result put;
        struct del_result del;
        struct txn_result txn;
        struct event_list events;
        struct lease_result lease;
        assert_int_equal(reply_range(r, &range), ERR_PROTO);
        assert_int_equal(reply_del(r, &del), ERR_PROTO);
        assert_int_equal(reply_txn(r, &txn), ERR_PROTO);
        assert_int_equal(reply_events(r, &events), ERR_PROTO);
        assert_int_equal(reply_lease(r, &lease), ERR_PROTO);
        if (reply_field(r, "revision") == NULL) {
            assert_int_equal(reply_put(r, &put), ERR_PROTO);
        }
        freeReplyObject(r);
    }
}

static void test_member_status_lease(void **state)
{
    (void)state;
    redisReply *r =
        fake_reply("[ id :8 name n1 peer h:7380 client h:7379 role leader match :5 lag :0 "
                   "started :0 version 0.1 ]");
    struct member m;
    assert_int_equal(reply_member(r, &m), OK);
    assert_int_equal(m.id, 8);
    assert_false(m.is_started);
    assert_true(slice_eq(m.role, SLICE_LIT("leader")));
    freeReplyObject(r);

    r = fake_reply(
        "[ id :8 cluster :3 version 0.1 dbsize :4096 inuse :100 quota :0 leader :8 term :2 "
        "index :9 applied :9 revision :7 compacted :1 errors [ NOSPACE ] learner :1 ]");
    struct status s;
    assert_int_equal(reply_status(r, &s), OK);
    assert_int_equal(s.member_id, 8);
    assert_int_equal(s.cluster_id, 3);
    assert_int_equal(s.compacted_rev, 1);
    assert_true(s.is_learner);
    assert_int_equal(s.errors->elements, 1);
    freeReplyObject(r);

    r = fake_reply("[ id :17 granted :10 ttl :7 keys [ a b ] total :5 ]");
    struct lease_result lease;
    assert_int_equal(reply_lease(r, &lease), OK);
    assert_int_equal(lease.granted, 10);
    assert_int_equal(lease.keys->elements, 2);
    assert_int_equal(lease.key_count, 5);
    freeReplyObject(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_is_taken_apart),
        cmocka_unit_test(test_put_and_del),
        cmocka_unit_test(test_txn),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_member_status_lease),
    };
    return cmocka_run_group_tests_name("cli/reply", tests, NULL, NULL);
}
