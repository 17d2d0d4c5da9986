#include "cli_fake.h"

#define STATUS " [ id :8 cluster :3 leader :8 term :2 revision :7 errors [ ] ]"

static void test_changes(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "member add h:7380 --name n3 --learner", "",
          "[ id :9 name n3 peer h:7380 client '' role learner started :0 ]" STATUS,
          "MEMBER ADD h:7380 NAME n3 LEARNER\nMEMBER STATUS\n", EXIT_OK,
          "Member 9 added to cluster 3\n\nNow start it on its host:\n"
          "  cordis-server --join 127.0.0.1:7379\n", "" },
        /* The one that removes itself says nothing afterwards. */
        { "member remove 9", "", STATUS "+OK", "MEMBER STATUS\nMEMBER REMOVE 9\n", EXIT_OK,
          "Member 9 removed from cluster 3\n", "" },
        { "member remove 9", "", STATUS "-ERR_the_change_would_lose_quorum",
          "MEMBER STATUS\nMEMBER REMOVE 9\n", EXIT_NO, "",
          "cordis: the change would lose quorum\n" },
        { "member remove n3", "", "", "", EXIT_USAGE, "", "`cordis member list` shows ids" },
        { "member promote 9", "", STATUS "+OK", "MEMBER STATUS\nMEMBER PROMOTE 9\n", EXIT_OK,
          "Member 9 promoted in cluster 3\n", "" },
        { "member update 9 i:7380", "", STATUS "+OK", "MEMBER STATUS\nMEMBER UPDATE 9 i:7380\n",
          EXIT_OK, "Member 9 updated in cluster 3\n", "" },
        { "member transfer 9", "", STATUS "+OK", "MEMBER STATUS\nMEMBER TRANSFER 9\n", EXIT_OK,
          "Member 9 leads cluster 3\n", "" },
        { "member transfer 9 -w json", "", STATUS "+OK", "MEMBER STATUS\nMEMBER TRANSFER 9\n",
          EXIT_OK,
          "{\"header\":{\"cluster_id\":3,\"member_id\":8,\"revision\":7,\"raft_term\":2}}\n", "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_status_of_endpoints(void **state)
{
    (void)state;
    struct fake_run r = fake_run("status --local -e a:1 -e 127.0.0.1:1 --command-timeout 100ms", "",
                                 STATUS);
    assert_int_equal(r.code, EXIT_NO); /* one of two answers */
    assert_non_null(strstr(r.out, "| a:1 "));
    assert_non_null(strstr(r.out, "| unreachable |"));
    assert_non_null(strstr(r.out, "127.0.0.1:1: Connection refused"));
    fake_run_deinit(&r);

    r = fake_run("status --local", "", STATUS);
    assert_int_equal(r.code, EXIT_OK);
    fake_run_deinit(&r);

    r = fake_run("status --local", "", "[ x y ]");
    assert_int_equal(r.code, EXIT_CONNECT);
    assert_non_null(strstr(r.out, "the answer is not understood"));
    fake_run_deinit(&r);
}

#define SELF "[ id :8 name n1 client 127.0.0.1:7379 ]"

static void test_status_of_a_group_of_one(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "status", "",
          "[ " SELF " ] [ id :8 cluster :3 version 0.2 dbsize :4096 leader :8 term :2 index :9 "
          "applied :7 revision :5 errors [ ] ]",
          "MEMBER LIST LOCAL\nMEMBER STATUS\n", EXIT_OK,
          "+------+----+--------+----------------+------+---------+----"
          "-+----------+---------+---------+--------+\n"
          "| NAME | ID | ROLE   | ADDRESS        | TERM | APPLIED | LAG"
          " | REVISION | DB SIZE | VERSION | ERRORS |\n"
          "+------+----+--------+----------------+------+---------+----"
          "-+----------+---------+---------+--------+\n"
          "| n1   | 8  | leader | 127.0.0.1:7379 | 2    | 7       | 2  "
          " | 5        | 4.1 kB  | 0.2     |        |\n"
          "+------+----+--------+----------------+------+---------+----"
          "-+----------+---------+---------+--------+\n",
          "" },
        { "status -w simple", "",
          "[ " SELF " ] [ id :8 cluster :3 version 0.2 leader :0 term :2 index :9 applied :9 "
          "revision :5 errors [ ] ]",
          "MEMBER LIST LOCAL\nMEMBER STATUS\n", EXIT_NO,
          "127.0.0.1:7379, 8, 0.2, 0, false, false, 2, 9, 9, 5, \n", "cordis: no leader: " },
        { "status -w simple", "", "[ " SELF " ] [ id :9 leader :9 errors [ ] ]",
          "MEMBER LIST LOCAL\nMEMBER STATUS\n", EXIT_CONNECT,
          "127.0.0.1:7379, , , , , , , , , , member 9 answers there\n", "" },
        { "status", "", "[ [ id :8 name n1 client '' ] ]", "MEMBER LIST LOCAL\n", EXIT_NO, "",
          "no member has told its address" },
        { "status", "", "[ [ id :8 client a:b:c ] ]", "MEMBER LIST LOCAL\n", EXIT_NO, "",
          "member list: endpoint 'a:b:c' is not host:port" },
        { "status", "", "", "MEMBER LIST LOCAL\n", EXIT_CONNECT, "", "no answer" },
        { "status", "", "-ERR_no", "MEMBER LIST LOCAL\n", EXIT_NO, "", "cordis: no\n" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

/* The members' own addresses are asked; at one nobody listens, another one is not known. */
static void test_status_asks_all_members(void **state)
{
    (void)state;
    static const char answers[] = "[ " SELF " [ id :7 name n2 client 127.0.0.1:1 ]"
                                  " [ id :9 name n3 client '' ] ]" STATUS;
    struct fake_run r = fake_run("status", "", answers);
    assert_int_equal(r.code, EXIT_NO);
    assert_non_null(strstr(r.out, "| n2   | 7  | unreachable | 127.0.0.1:1 "));
    assert_non_null(strstr(r.out, "127.0.0.1:1: Connection refused"));
    assert_non_null(strstr(r.out, "| n3   | 9  | unreachable | "));
    assert_non_null(strstr(r.out, "it has not told its address"));
    assert_string_equal((const char *)r.sent.at, "MEMBER LIST LOCAL\nMEMBER STATUS\n");
    fake_run_deinit(&r);

    r = fake_run("status -w json", "", "[ [ id :7 name n2 client 127.0.0.1:1 ] ]");
    assert_int_equal(r.code, EXIT_CONNECT);
    assert_string_equal(r.out, "[{\"Endpoint\":\"127.0.0.1:1\",\"name\":\"n2\",\"role\":"
                               "\"unreachable\",\"Error\":\"127.0.0.1:1: Connection refused\"}]\n");
    fake_run_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_status_of_endpoints),
        cmocka_unit_test(test_status_of_a_group_of_one),
        cmocka_unit_test(test_status_asks_all_members),
    };
    return cmocka_run_group_tests_name("cli/run_member", tests, NULL, NULL);
}
