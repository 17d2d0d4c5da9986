#include "cli_fake.h"

#define KV "[ key k value v type string create :2 mod :5 version :3 lease :17 ]"
#define EVENTS                                                                                     \
    "[ events [ [ op put key k value v rev :5 create :2 version :3 lease :0 prev w prevmod :4 ]"   \
    " [ op del key k value nil rev :6 create :0 version :0 lease :0 prev v prevmod :5 ]"           \
    " [ op expire key l value nil rev :7 create :0 version :0 lease :17 ] ] next :8 ]"

static void test_simple_output(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get k", "", "[ revision :9 count :1 more :0 kvs [ " KV " ] ]", "KV RANGE k\n", EXIT_OK,
          "k\nv\n", "" },
        { "get k --print-value-only", "", "[ revision :9 count :1 kvs [ " KV " ] ]", "KV RANGE k\n",
          EXIT_OK, "v\n", "" },
        { "get k --keys-only", "", "[ revision :9 count :1 kvs [ " KV " ] ]",
          "KV RANGE k KEYSONLY\n", EXIT_OK, "k\n", "" },
        { "get k --prefix --count-only", "", "[ revision :9 count :41 kvs [ ] ]",
          "KV RANGE k PREFIX COUNTONLY\n", EXIT_OK, "41\n", "" },
        { "get k --hex", "", "[ revision :9 count :1 kvs [ " KV " ] ]", "KV RANGE k\n", EXIT_OK,
          "\\x6b\n\\x76\n", "" },
        { "put k v --prev-kv", "", "[ revision :9 applied :1 prev " KV " ]", "KV PUT k v PREVKV\n",
          EXIT_OK, "OK\nk\nv\n", "" },
        { "del k --prev-kv", "", "[ revision :9 deleted :1 prevs [ " KV " ] ]", "KV DEL k PREVKV\n",
          EXIT_OK, "1\nk\nv\n", "" },
        { "watch k --rev 5 --prev-kv", "", ":9 " EVENTS " -ERR_enough",
          "KV REVISION\nKV READ k FROM 5 COUNT 1000 BLOCK 5000 PREVKV\n"
          "KV READ k FROM 8 COUNT 1000 BLOCK 5000 PREVKV\n",
          EXIT_NO, "PUT\nk\nw\nk\nv\nDELETE\nk\nv\nk\n\nEXPIRE\nl\n\n", "cordis: enough\n" },
        { "lease timetolive 17 --keys", "", "[ id :17 granted :10 ttl :7 keys [ a b ] total :2 ]",
          "LEASE TTL 17 KEYS\n", EXIT_OK,
          "lease 17 granted with TTL(10s), remaining(7s), attached keys([a b])\n", "" },
        { "status --local -w simple", "",
          "[ id :8 cluster :3 version 0.1 dbsize :4096 leader :8 term :2 index :9 applied :9 "
          "revision :7 errors [ ] learner :0 ]",
          "MEMBER STATUS\n", EXIT_OK, "127.0.0.1:7379, 8, 0.1, 4096, true, false, 2, 9, 9, 7, \n",
          "" },
        { "member list -w simple", "",
          "[ [ id :8 name n1 peer h:7380 client h:7379 role leader match :5 lag :0 started :1 "
          "version 0.1 ] [ id :9 name n2 peer i:7380 client '' role learner match :0 lag :5 "
          "started :0 version '' ] ]",
          "MEMBER LIST\n", EXIT_OK,
          "8, started, n1, h:7380, h:7379, false, leader, 0, 0.1\n"
          "9, unstarted, n2, i:7380, , true, learner, 5, \n",
          "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_values_are_printed_as_they_are(void **state)
{
    (void)state;
    struct kv kv = { .key = SLICE_LIT("k\0k"),
                     .value = SLICE_LIT("\x00\xff\n"),
                     .has_value = true };
    const struct range_result res = { .count = 1, .kvs = { &kv, 1 } };
    const struct render r = { .format = FORMAT_SIMPLE };
    struct buf out = { 0 };
    render_range(&out, &r, &res);
    assert_true(slice_eq(buf_slice(&out), SLICE_LIT("k\0k\n\x00\xff\n\n")));
    buf_deinit(&out);
}

static void test_txn_output_and_what_failed(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "txn", "mod(\"k\") > \"0\"\n\nput k v\nget k\ndel x\n\n",
          "[ succeeded :1 revision :9 failed nil responses [ [ revision :9 applied :1 ] "
          "[ revision :9 count :1 kvs [ " KV " ] ] [ revision :9 deleted :0 ] ] ]",
          "TXN IF 1 MOD k > 0 THEN 3 4 KV PUT k v 3 KV RANGE k 3 KV DEL x\n", EXIT_OK,
          "SUCCESS\n\nOK\n\nk\nv\n\n0\n", "" },
        { "txn", "create(\"k\") = \"0\"\nmod(\"k\") = \"4\"\n\nput k v\n\nget k\n",
          "[ succeeded :0 revision :9 failed [ :1 " KV " ] responses [ "
          "[ revision :9 count :1 kvs [ " KV " ] ] ] ]",
          "TXN IF 2 CREATE k = 0 MOD k = 4 THEN 1 4 KV PUT k v ELSE 1 3 KV RANGE k\n", EXIT_NO,
          "FAILURE\n\nk\nv\n",
          "compare 2 did not hold: mod(\"k\") = \"4\"; found mod 5, create 2, version 3, lease 17, "
          "value \"v\"\n" },
        { "txn", "exists(\"k\")\n", "[ succeeded :0 revision :9 failed [ :0 nil ] responses [ ] ]",
          "TXN IF 1 EXISTS k\n", EXIT_NO, "FAILURE\n",
          "compare 1 did not hold: exists(\"k\"); found no such key\n" },
        { "txn", "\nget k\n", "[ succeeded :1 revision :9 failed nil responses [ ] ]",
          "TXN IF 0 THEN 1 3 KV RANGE k\n", EXIT_NO, "", "is not understood" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple_output),
        cmocka_unit_test(test_values_are_printed_as_they_are),
        cmocka_unit_test(test_txn_output_and_what_failed),
    };
    return cmocka_run_group_tests_name("cli/render", tests, NULL, NULL);
}
