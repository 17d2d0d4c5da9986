#include "cli_fake.h"

#define KV "[ key k value v type string create :2 mod :5 version :3 lease :17 ]"
#define KV_JSON                                                                                    \
    "{\"key\":\"aw==\",\"create_revision\":2,\"mod_revision\":5,\"version\":3,\"value\":\"dg==\"," \
    "\"lease\":17}"
#define STATUS                                                                                     \
    " [ id :8 cluster :3 version 0.1 dbsize :4096 inuse :100 leader :8 term :2 index :9 "          \
    "applied :9 revision :7 compacted :0 errors [ ] learner :0 ]"
#define HEADER(rev) "{\"cluster_id\":3,\"member_id\":8,\"revision\":" #rev ",\"raft_term\":2}"
#define FIELDS      "\"cluster_id\":3,\"member_id\":8,\"revision\":7,\"raft_term\":2"
#define ASKED       "MEMBER STATUS\n"

static void test_keys_and_values(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get k -w json", "", "[ revision :9 count :1 more :0 kvs [ " KV " ] ]" STATUS,
          "KV RANGE k\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(9) ",\"kvs\":[" KV_JSON "],\"count\":1}\n", "" },
        { "get k -w json", "", "[ revision :9 count :0 kvs [ ] ]" STATUS, "KV RANGE k\n" ASKED,
          EXIT_NO, "{\"header\":" HEADER(9) "}\n", "" },
        { "get a --prefix --limit 1 -w json", "",
          "[ revision :9 count :4 more :1 kvs [ [ key a value '' type string create :1 mod :1 "
          "version :1 lease :0 ] ] ]" STATUS,
          "KV RANGE a PREFIX LIMIT 1\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(
              9) ",\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":1,"
                 "\"mod_revision\":1,\"version\":1}],\"more\":true,\"count\":4}\n",
          "" },
        { "get h -w json", "",
          "[ revision :9 count :1 kvs [ [ key h value nil type hash create :1 mod :1 version :1 "
          "lease :0 ] ] ] -NOPERM_no",
          "KV RANGE h\n" ASKED, EXIT_OK,
          "{\"header\":{\"revision\":9},\"kvs\":[{\"key\":\"aA==\",\"create_revision\":1,"
          "\"mod_revision\":1,\"version\":1,\"type\":\"hash\"}],\"count\":1}\n",
          "" },
        { "put k v -w json --prev-kv", "", "[ revision :9 applied :1 prev " KV " ]" STATUS,
          "KV PUT k v PREVKV\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(9) ",\"prev_kv\":" KV_JSON "}\n", "" },
        { "put k v -w json --nx", "", "[ revision :9 applied :0 prev " KV " ]" STATUS,
          "KV PUT k v NX\n" ASKED, EXIT_NO,
          "{\"header\":" HEADER(9) ",\"applied\":false,\"prev_kv\":" KV_JSON "}\n",
          "not stored: 'k' exists with mod revision 5" },
        { "del k -w json --prev-kv", "", "[ revision :9 deleted :1 prevs [ " KV " ] ]" STATUS,
          "KV DEL k PREVKV\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(9) ",\"deleted\":1,\"prev_kvs\":[" KV_JSON "]}\n", "" },
        { "compact 5 -w json", "", "+OK" STATUS, "KV COMPACT 5\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(7) "}\n", "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_txn(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "txn -w json", "\nput k v\nget k\ndel k\n\n",
          "[ succeeded :1 revision :9 failed nil responses [ [ revision :9 applied :1 ] "
          "[ revision :9 count :1 kvs [ " KV " ] ] [ revision :9 deleted :1 ] ] ]" STATUS,
          "TXN IF 0 THEN 3 4 KV PUT k v 3 KV RANGE k 3 KV DEL k\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(
              9) ",\"succeeded\":true,\"responses\":["
                 "{\"Response\":{\"response_put\":{\"header\":{\"revision\":9}}}},"
                 "{\"Response\":{\"response_range\":{\"header\":{\"revision\":9},\"kvs\":[" KV_JSON
                 "],\"count\":1}}},"
                 "{\"Response\":{\"response_delete_range\":{\"header\":{\"revision\":9},"
                 "\"deleted\":1}}}"
                 "]}\n",
          "" },
        { "txn -w json", "mod(\"k\") = 1\n",
          "[ succeeded :0 revision :9 failed [ :0 " KV " ] responses [ ] ]" STATUS,
          "TXN IF 1 MOD k = 1\n" ASKED, EXIT_NO,
          "{\"header\":" HEADER(9) ",\"failed\":{\"compare\":0,\"kv\":" KV_JSON "}}\n",
          "compare 1 did not hold" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_watch(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "watch k --rev 5 -w json", "",
          ":9" STATUS " [ events [ [ op put key k value v rev :5 create :2 version :3 lease :17 "
          "prev w prevmod :4 ] [ op expire key k value nil rev :6 create :0 version :0 lease :0 ] "
          "] next :7 ] [ events [ ] next :9 ] -ERR_x",
          "KV REVISION\n" ASKED "KV READ k FROM 5 COUNT 1000 BLOCK 5000\n"
          "KV READ k FROM 7 COUNT 1000 BLOCK 5000\nKV READ k FROM 9 COUNT 1000 BLOCK 5000\n",
          EXIT_NO,
          "{\"Header\":" HEADER(
              6) ",\"Events\":[{\"kv\":" KV_JSON ",\"prev_kv\":{\"key\":\"aw==\","
                 "\"mod_revision\":4,\"value\":\"dw==\"}},{\"type\":1,\"expired\":true,\"kv\":{"
                 "\"key\":"
                 "\"aw==\",\"mod_revision\":6}}],\"CompactRevision\":0,\"Canceled\":false,"
                 "\"Created\":false}\n",
          "x" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_leases_and_members(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "lease grant 10 -w json", "", "[ id :17 ttl :10 ]" STATUS, "LEASE GRANT 10\n" ASKED,
          EXIT_OK, "{" FIELDS ",\"ID\":17,\"TTL\":10}\n", "" },
        { "lease timetolive 17 -w json", "", "[ id :17 granted :10 ttl :7 ]" STATUS,
          "LEASE TTL 17\n" ASKED, EXIT_OK,
          "{" FIELDS ",\"id\":17,\"ttl\":7,\"granted-ttl\":10,\"keys\":null}\n", "" },
        { "lease timetolive 17 --keys -w json", "",
          "[ id :17 granted :10 ttl :7 keys [ k ] total :1 ]" STATUS, "LEASE TTL 17 KEYS\n" ASKED,
          EXIT_OK, "{" FIELDS ",\"id\":17,\"ttl\":7,\"granted-ttl\":10,\"keys\":[\"aw==\"]}\n",
          "" },
        { "lease list -w json", "", "[ :3 :17 ] [ ]" STATUS,
          "LEASE LIST\nLEASE LIST AFTER 17\n" ASKED, EXIT_OK,
          "{" FIELDS ",\"leases\":[{\"id\":3},{\"id\":17}]}\n", "" },
        { "lease list -w json", "", "[ ]" STATUS, "LEASE LIST\n" ASKED, EXIT_OK,
          "{" FIELDS ",\"leases\":[]}\n", "" },
        { "member list -w json", "",
          "[ [ id :8 name n\"1 peer h:7380 client h:7379 role learner match :5 lag :4 started :1 "
          "version 0.1 ] ]" STATUS,
          "MEMBER LIST\n" ASKED, EXIT_OK,
          "{\"header\":" HEADER(
              7) ",\"members\":[{\"ID\":8,\"name\":\"n\\\"1\",\"peerURLs\":"
                 "[\"h:7380\"],\"clientURLs\":[\"h:7379\"],\"isLearner\":true,\"role\":\"learner\","
                 "\"lag\":4,\"started\":true,\"version\":\"0.1\"}]}\n",
          "" },
        { "status --local -w json", "", STATUS, ASKED, EXIT_OK,
          "[{\"Endpoint\":\"127.0.0.1:7379\",\"role\":\"leader\",\"lag\":0,\"Status\":{\"header\":" HEADER(
              7) ",\"version\":\"0.1\",\"dbSize\":4096,\"leader\":8,\"raftIndex\":9,\"raftTerm\":2,"
                 "\"raftAppliedIndex\":9,\"dbSizeInUse\":100}}]\n",
          "" },
        { "status --local -w json", "", "-NOAUTH_Authentication_required.", ASKED, EXIT_CONNECT,
          "[{\"Endpoint\":\"127.0.0.1:7379\",\"role\":\"unreachable\",\"Error\":\"NOAUTH Authentication required.\"}]\n",
          "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_and_values),
        cmocka_unit_test(test_txn),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_leases_and_members),
    };
    return cmocka_run_group_tests_name("cli/render_json", tests, NULL, NULL);
}
