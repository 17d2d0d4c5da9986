#include "kit.h"

static const char lifetimes_of_puts[] =
    "put a 1 ttl 100\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a 2 keep prev\n"
    "|put a=2 @3.1 c2 v2 was2\n"
    "|@3 yes n=1 prev(a=1 c2 m2 v1 d1100 u500100 i1)\n"
    "put a 3 prev\n"
    "|put a=3 @4.1 c2 v3 was3\n"
    "|@4 yes n=1 prev(a=2 c2 m3 v2 d1100 u500100 i1)\n"
    "put a 4 prev\n"
    "|put a=4 @5.1 c2 v4 was4\n"
    "|@5 yes n=1 prev(a=3 c2 m4 v3)\n"
    "put a 5 ttl 7\n"
    "|put a=5 @6.1 c2 v5 was5\n"
    "|@6 yes n=1\n"
    "put a 6 at 500123\n"
    "|put a=6 @7.1 c2 v6 was6\n"
    "|@7 yes n=1\n"
    "grant 1000 id 2\n"
    "|@7 yes n=1 id=2 ttl=1000\n"
    "put a 7 lease 2 prev\n"
    "|put a=7 @8.1 c2 v7 L2 was7\n"
    "|@8 yes n=1 prev(a=6 c2 m7 v6 d1123 u500123 i6)\n"
    "put a 8 keep prev\n"
    "|put a=8 @9.1 c2 v8 L2 was8\n"
    "|@9 yes n=1 prev(a=7 c2 m8 v7 L2 d2000 u501000 i8)\n"
    "put a 9 lease 3 prev\n"
    "|@9 ERR_NOLEASE no\n"
    "put a 9 keep prev\n"
    "|put a=9 @10.1 c2 v9 L2 was9\n"
    "|@10 yes n=1 prev(a=8 c2 m9 v8 L2 d2000 u501000 i8)\n"
    "put a 10 prev\n"
    "|put a=10 @11.1 c2 v10 was10\n"
    "|@11 yes n=1 prev(a=9 c2 m10 v9 L2 d2000 u501000 i8)\n"
    "put b 1 ttl 0\n"
    "|@11 yes n=1\n"
    "put a 1 ttl -5\n"
    "|del a @12.1 was11\n"
    "|@12 yes n=1\n"
    "put a 1 keep\n"
    "|put a=1 @13.1 c13 v1\n"
    "|@13 yes n=1\n";

static const char lease_room[] =
    "config op-max-keys 3\n"
    "|@1 yes\n"
    "grant 1000 id 2\n"
    "|@1 yes n=1 id=2 ttl=1000\n"
    "mput a=1 b=1 lease 2\n"
    "|put a=1 @2.1 c2 v1 L2\n"
    "|put b=1 @2.2 c2 v1 L2\n"
    "|@2 yes n=1\n"
    "put c 1 lease 2\n"
    "|put c=1 @3.1 c3 v1 L2\n"
    "|@3 yes n=1\n"
    "put d 1 lease 2\n"
    "|@3 ERR_LEASE_KEYS no\n"
    "put a 2 lease 2\n"
    "|put a=2 @4.1 c2 v2 L2 was2\n"
    "|@4 yes n=1\n"
    "put d 1\n"
    "|put d=1 @5.1 c5 v1\n"
    "|@5 yes n=1\n"
    "life d lease 2\n"
    "|@5 ERR_LEASE_KEYS no\n"
    "attach 2 d\n"
    "|@5 ERR_LEASE_KEYS no\n"
    "attach 2 a\n"
    "|~expire a\n"
    "|@5 yes n=1\n"
    "txn { } { put d 3 lease 2 } { }\n"
    "|@5 ERR_LEASE_KEYS no\n"
    "txn redis { } { put d 3 lease 2 ; put d 4 } { }\n"
    "| [0] @5 ERR_LEASE_KEYS no\n"
    "| [1] @6 yes n=1\n"
    "|put d=4 @6.1 c5 v2 was5\n"
    "|@6 yes\n"
    "txn { } { put a 3 lease 2 ; put b 3 lease 2 } { }\n"
    "| [0] @7 yes n=1\n"
    "| [1] @7 yes n=1\n"
    "|put a=3 @7.1 c2 v3 L2 was4\n"
    "|put b=3 @7.2 c2 v2 L2 was2\n"
    "|@7 yes\n"
    "rename a e\n"
    "|del a @8.1 L2 was7\n"
    "|put e=3 @8.2 c8 v1 L2\n"
    "|@8 yes n=1\n"
    "copy e f\n"
    "|@8 ERR_LEASE_KEYS no\n"
    "copy e b replace\n"
    "|put b=3 @9.1 c2 v3 L2 was7\n"
    "|@9 yes n=1\n"
    "mput g=1 h=1 lease 2\n"
    "|@9 ERR_LEASE_KEYS no\n"
    "del c\n"
    "|del c @10.1 L2 was3\n"
    "|@10 yes n=1\n"
    "txn redis { } { mput g=1 h=1 lease 2 ; local } { }\n"
    "| [0] @10 ERR_LEASE_KEYS no\n"
    "| [1] @10 yes sees(b=3 c2 m9 v3 L2 d2000 u501000 i16) sees(d=4 c5 m6 v2) sees(e=3 c8 m8"
      " v1 L2 d2000 u501000 i14)\n"
    "|@10 yes\n"
    "config op-max-keys 1\n"
    "|@10 yes\n"
    "rename e x\n"
    "|@10 ERR_KEYS_LIMIT no\n";

/* A full lease: the destination is attached before the source has left. With a copy back one key more
 * than the limit stays; the next one is refused. */
static const char full_lease_in_transactions[] =
    "config op-max-keys 3\n"
    "|@1 yes\n"
    "grant 1000 id 2\n"
    "|@1 yes n=1 id=2 ttl=1000\n"
    "mput a=1 b=1 c=1 lease 2\n"
    "|put a=1 @2.1 c2 v1 L2\n"
    "|put b=1 @2.2 c2 v1 L2\n"
    "|put c=1 @2.3 c2 v1 L2\n"
    "|@2 yes n=1\n"
    "txn redis { } { rename a e ; put a 2 } { }\n"
    "| [0] @3 yes n=1\n"
    "| [1] @3 yes n=1\n"
    "|put e=1 @3.1 c3 v1 L2\n"
    "|put a=2 @3.2 c3 v1 was2\n"
    "|@3 yes\n"
    "txn redis { } { rename b f ; copy f b } { }\n"
    "| [0] @4 yes n=1\n"
    "| [1] @4 yes n=1\n"
    "|put f=1 @4.1 c4 v1 L2\n"
    "|put b=1 @4.2 c4 v1 L2 was2\n"
    "|@4 yes\n"
    "txn redis { } { rename c g ; copy g c } { }\n"
    "| [0] @4 ERR_LEASE_KEYS no\n"
    "| [1] @4 no\n"
    "|@4 yes\n"
    "put d 1 lease 2\n"
    "|@4 ERR_LEASE_KEYS no\n"
    "revoke 2\n"
    "|del b @5.1 L2 was4\n"
    "|del c @5.2 L2 was2\n"
    "|del e @5.3 L2 was3\n"
    "|del f @5.4 L2 was4\n"
    "|@5 yes n=4\n";

static const char former_values_for_watchers[] =
    "prevs\n"
    "put a 1\n"
    "|put a=1 @2.1 c2 v1\n"
    "|@2 yes n=1\n"
    "put a 2\n"
    "|put a=2 @3.1 c2 v2 was2:1\n"
    "|@3 yes n=1\n"
    "put a 3 prev\n"
    "|put a=3 @4.1 c2 v3 was3:2\n"
    "|@4 yes n=1 prev(a=2 c2 m3 v2)\n"
    "append a 4\n"
    "|put a=34 @5.1 c2 v4 was4:3\n"
    "|@5 yes n=2\n"
    "incr a 1\n"
    "|put a=35 @6.1 c2 v5 was5:34\n"
    "|@6 yes n=35\n"
    "txn { } { put a 5 ; put a 6 ; put b 1 } { }\n"
    "| [0] @7 yes n=1\n"
    "| [1] @7 yes n=1\n"
    "| [2] @7 yes n=1\n"
    "|put a=6 @7.1 c2 v6 was6:35\n"
    "|put b=1 @7.2 c7 v1\n"
    "|@7 yes\n"
    "txn { } { del a ; put a 7 } { }\n"
    "| [0] @8 yes n=1\n"
    "| [1] @8 yes n=1\n"
    "|put a=7 @8.1 c8 v1 was7:6\n"
    "|@8 yes\n"
    "rename a b\n"
    "|del a @9.1 was8:7\n"
    "|put b=7 @9.2 c7 v2 was7:1\n"
    "|@9 yes n=1\n"
    "copy b c\n"
    "|put c=7 @10.1 c10 v1\n"
    "|@10 yes n=1\n"
    "del b\n"
    "|del b @11.1 was9:7\n"
    "|@11 yes n=1\n"
    "dels c b\n"
    "|del c @12.1 was10:7\n"
    "|@12 yes n=1\n"
    "put d 1 ttl 5\n"
    "|put d=1 @13.1 c13 v1\n"
    "|@13 yes n=1\n"
    "+5\n"
    "expire d\n"
    "|expire d @14.1 was13:1\n"
    "|@14 yes n=1\n"
    "put e 1\n"
    "|put e=1 @15.1 c15 v1\n"
    "|@15 yes n=1\n"
    "delrange a * prev\n"
    "|del e @16.1 was15:1\n"
    "|@16 yes n=1 prevs(e=1 c15 m15 v1)\n";

static void test_lifetimes_of_puts(void **unused)
{
    (void)unused;
    run_script("lifetimes_of_puts", lifetimes_of_puts);
}

static void test_lease_room(void **unused)
{
    (void)unused;
    run_script("lease_room", lease_room);
}

static void test_full_lease_in_transactions(void **unused)
{
    (void)unused;
    run_script("full_lease_in_transactions", full_lease_in_transactions);
}

static void test_former_values_for_watchers(void **unused)
{
    (void)unused;
    run_script("former_values_for_watchers", former_values_for_watchers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lifetimes_of_puts),
        cmocka_unit_test(test_lease_room),
        cmocka_unit_test(test_full_lease_in_transactions),
        cmocka_unit_test(test_former_values_for_watchers),
    };
    return cmocka_run_group_tests_name("state/state_apply_change", tests, NULL, NULL);
}
