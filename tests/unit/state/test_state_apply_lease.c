#include "kit.h"

static const char leases[] =
    "grant 1000\n"
    "|@1 yes n=1 id=1 ttl=1000\n"
    "grant 50\n"
    "|@1 yes n=1 id=2 ttl=100\n"
    "grant 0\n"
    "|@1 ERR_LEASE_TTL_LOW no\n"
    "grant -5\n"
    "|@1 ERR_LEASE_TTL_LOW no\n"
    "grant 99 id 7\n"
    "|@1 yes n=1 id=7 ttl=100\n"
    "grant 100 id 7\n"
    "|@1 ERR_LEASE_EXISTS no\n"
    "put a 1 lease 7\n"
    "|put a=1 @2.1 c2 v1 L7\n"
    "|@2 yes n=1\n"
    "put b 1 lease 7\n"
    "|put b=1 @3.1 c3 v1 L7\n"
    "|@3 yes n=1\n"
    "put c 1\n"
    "|put c=1 @4.1 c4 v1\n"
    "|@4 yes n=1\n"
    "attach 7 c x a c\n"
    "|~expire c\n"
    "|~expire a\n"
    "|~expire c\n"
    "|@4 yes n=3\n"
    "attach 8 c\n"
    "|@4 ERR_NOLEASE no\n"
    "keepalive 7 8 1\n"
    "|@4 yes n=2 [100] [-2] [1000]\n"
    "keepalive 8\n"
    "|@4 no [-2]\n"
    "+50\n"
    "keepalive 7\n"
    "|@4 yes n=1 [100]\n"
    "revoke 7\n"
    "|del a @5.1 L7 was2\n"
    "|del b @5.2 L7 was3\n"
    "|del c @5.3 L7 was4\n"
    "|@5 yes n=3\n"
    "revoke 7\n"
    "|@5 ERR_NOLEASE no\n"
    "revoke 1\n"
    "|@5 yes\n"
    "txn { } { local } { }\n"
    "| [0] @5 yes\n"
    "|@5 yes\n";

static const char expiry[] =
    "put a 1 ttl 100\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put b 1 ttl 200\n"
    "|put b=1 @3.1 c3 v1\n"
    "|@3 yes n=1\n"
    "put c 1\n"
    "|put c=1 @4.1 c4 v1\n"
    "|@4 yes n=1\n"
    "grant 150 id 5\n"
    "|@4 yes n=1 id=5 ttl=150\n"
    "put d 1 lease 5\n"
    "|put d=1 @5.1 c5 v1 L5\n"
    "|@5 yes n=1\n"
    "put e 1 lease 5\n"
    "|put e=1 @6.1 c6 v1 L5\n"
    "|@6 yes n=1\n"
    "expire a b c d x #5 #6\n"
    "|@6 no\n"
    "+99\n"
    "expire a\n"
    "|@6 no\n"
    "+1\n"
    "expire a b a\n"
    "|expire a @7.1 was2\n"
    "|@7 yes n=1\n"
    "+49\n"
    "expire #5\n"
    "|@7 no\n"
    "+1\n"
    "expire #5 #5\n"
    "|expire d @8.1 L5 was5\n"
    "|expire e @8.2 L5 was6\n"
    "|@8 yes n=2\n"
    "put f 1 ttl 100\n"
    "|put f=1 @9.1 c9 v1\n"
    "|@9 yes n=1\n"
    "life f ttl 1000\n"
    "|~expire f\n"
    "|@9 yes n=1\n"
    "+100\n"
    "expire f\n"
    "|@9 no\n"
    "life f drop\n"
    "|~persist f\n"
    "|@9 yes n=1\n"
    "+1000\n"
    "expire f b\n"
    "|expire b @10.1 was3\n"
    "|@10 yes n=1\n";

static void test_leases(void **unused)
{
    (void)unused;
    run_script("leases", leases);
}

static void test_expiry(void **unused)
{
    (void)unused;
    run_script("expiry", expiry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests_name("state/state_apply_lease", tests, NULL, NULL);
}
