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
        { "member remove 9", "", "+OK" STATUS, "MEMBER REMOVE 9\nMEMBER STATUS\n", EXIT_OK,
          "Member 9 removed from cluster 3\n", "" },
        { "member remove 9", "", "-ERR_the_change_would_lose_quorum", "MEMBER REMOVE 9\n", EXIT_NO,
          "", "cordis: the change would lose quorum\n" },
        { "member remove n3", "", "", "", EXIT_USAGE, "", "`cordis member list` shows ids" },
        { "member promote 9", "", "+OK" STATUS, "MEMBER PROMOTE 9\nMEMBER STATUS\n", EXIT_OK,
          "Member 9 promoted in cluster 3\n", "" },
        { "member update 9 i:7380", "", "+OK" STATUS, "MEMBER UPDATE 9 i:7380\nMEMBER STATUS\n",
          EXIT_OK, "Member 9 updated in cluster 3\n", "" },
        { "member transfer 9", "", "+OK" STATUS, "MEMBER TRANSFER 9\nMEMBER STATUS\n", EXIT_OK,
          "Member 9 leads cluster 3\n", "" },
        { "member transfer 9 -w json", "", "+OK" STATUS, "MEMBER TRANSFER 9\nMEMBER STATUS\n",
          EXIT_OK,
          "{\"header\":{\"cluster_id\":3,\"member_id\":8,\"revision\":7,\"raft_term\":2}}\n", "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_status_codes(void **state)
{
    (void)state;
    struct fake_run r = fake_run("status --endpoints a:1,127.0.0.1:1 --command-timeout 100ms", "",
                                 STATUS);
    assert_int_equal(r.code, EXIT_NO); /* one of two answers */
    assert_non_null(strstr(r.out, "| a:1 "));
    assert_non_null(strstr(r.out, "127.0.0.1:1: Connection refused"));
    fake_run_deinit(&r);

    r = fake_run("status", "", STATUS);
    assert_int_equal(r.code, EXIT_OK);
    fake_run_deinit(&r);

    r = fake_run("status", "", "[ x y ]");
    assert_int_equal(r.code, EXIT_CONNECT);
    assert_non_null(strstr(r.out, "the answer is not understood"));
    fake_run_deinit(&r);
}

/* The members' own addresses are asked; here nobody listens there. */
static void test_status_of_the_cluster_asks_the_members(void **state)
{
    (void)state;
    struct fake_run r = fake_run("status --cluster", "",
                                 "[ [ id :8 client 127.0.0.1:1 ] [ id :9 client '' ] "
                                 "[ id :10 client 127.0.0.1:2 ] ]");
    assert_int_equal(r.code, EXIT_CONNECT);
    assert_non_null(strstr(r.out, "| 127.0.0.1:1 "));
    assert_non_null(strstr(r.out, "| 127.0.0.1:2 "));
    fake_run_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_status_codes),
        cmocka_unit_test(test_status_of_the_cluster_asks_the_members),
    };
    return cmocka_run_group_tests_name("cli/run_member", tests, NULL, NULL);
}
