#include "cli_fake.h"

static void test_leases(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "lease grant 10", "", "[ id :17 ttl :10 ]", "LEASE GRANT 10\n", EXIT_OK,
          "lease 17 granted with TTL(10s)\n", "" },
        { "lease grant 1500ms --id 5", "", "[ id :5 ttl :1500 ]", "LEASE GRANT PX 1500 ID 5\n",
          EXIT_OK, "lease 5 granted with TTL(1500ms)\n", "" },
        { "lease grant 2m", "", "-ERR_too_large_lease_TTL", "LEASE GRANT 120\n", EXIT_NO, "",
          "too large lease TTL" },
        { "lease grant soon", "", "", "", EXIT_USAGE, "", "a ttl is a number of seconds" },
        { "lease revoke 0x11", "", ":2", "LEASE REVOKE 17\n", EXIT_OK, "lease 17 revoked\n", "" },
        { "lease revoke 17", "", "-NOLEASE_requested_lease_not_found", "LEASE REVOKE 17\n", EXIT_NO,
          "", "`cordis lease list` shows" },
        { "lease timetolive 17", "", "[ id :17 granted :10 ttl :7 ]", "LEASE TTL 17\n", EXIT_OK,
          "lease 17 granted with TTL(10s), remaining(7s)\n", "" },
        { "lease list", "", "[ :3 :17 ] [ :40 ] [ ]",
          "LEASE LIST\nLEASE LIST AFTER 17\nLEASE LIST AFTER 40\n", EXIT_OK,
          "found 3 leases\n3\n17\n40\n", "" },
        { "lease list", "", "[ :3 ] [ :3 ]", "LEASE LIST\nLEASE LIST AFTER 3\n", EXIT_NO, "",
          "is not understood" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_keep_alive(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "lease keep-alive 17 --once", "", "+PONG [ :9500 ]", "PING\nLEASE KEEPALIVE PX 17\n",
          EXIT_OK, "lease 17 keepalived with TTL(10)\n", "" },
        { "lease keep-alive 17", "", "+PONG [ :1 ] [ :-2 ]",
          "PING\nLEASE KEEPALIVE PX 17\nLEASE KEEPALIVE PX 17\n", EXIT_NO,
          "lease 17 keepalived with TTL(1)\n", "lease 17 expired or revoked" },
        { "lease keep-alive 17", "", "+PONG -NOPERM_no", "PING\nLEASE KEEPALIVE PX 17\n", EXIT_NO,
          "", "NOPERM no" },
        { "lease keep-alive 17", "", "+PONG [ ]", "PING\nLEASE KEEPALIVE PX 17\n", EXIT_NO, "",
          "is not understood" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_keep_alive),
    };
    return cmocka_run_group_tests_name("cli/run_lease", tests, NULL, NULL);
}
