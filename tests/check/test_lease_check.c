#include "check_kit.h"

static size_t put_lease(struct history *h, int64_t from_ms, int64_t to_ms, const char *key,
                        uint64_t rev, uint64_t lease)
{
    size_t at = kit_put(h, from_ms, to_ms, key, key, rev);
    h->ops[at].lease = lease;
    kit_log_at(h, kit_log_put(h, rev, key, key))->lease = lease;
    return at;
}

/* Two keys on lease 7 of 1000 ms, granted at 0, kept alive at 500; both expire at revision 3. */
static void leased(struct history *h, int64_t gone_ms)
{
    kit_lease(h, HISTORY_GRANT, 0, 10, 7, 1000);
    put_lease(h, 20, 30, "a", 1, 7);
    put_lease(h, 40, 50, "b", 2, 7);
    kit_lease(h, HISTORY_KEEPALIVE, 500, 510, 7, 1000);
    kit_log(h, 3, 1, HISTORY_EVENT_EXPIRE, "a", "");
    kit_log(h, 3, 2, HISTORY_EVENT_EXPIRE, "b", "");
    kit_get(h, gone_ms - 5, gone_ms, "b", NULL, 0);
}

static void in_time(struct history *h)
{
    leased(h, 1505);
}
static void too_early(struct history *h)
{
    leased(h, 1490);
}

static void keepalive_that_failed(struct history *h)
{
    leased(h, 1505);
    kit_at(h, kit_lease(h, HISTORY_KEEPALIVE, 1503, 1506, 7, 1000))->applied = false;
}

static void keepalive_that_failed_early(struct history *h)
{
    kit_lease(h, HISTORY_GRANT, 0, 10, 7, 1000);
    kit_at(h, kit_lease(h, HISTORY_KEEPALIVE, 500, 510, 7, 1000))->applied = false;
}

static void expiry_a_watcher_saw_early(struct history *h)
{
    leased(h, 1505);
    kit_watch(h, 1, "a", "", 3, 0);
    kit_seen(h, 1, 1400, 2);
    kit_seen(h, 1, 1400, 3);
}

static void half_a_lease(struct history *h)
{
    kit_lease(h, HISTORY_GRANT, 0, 10, 7, 1000);
    put_lease(h, 20, 30, "a", 1, 7);
    put_lease(h, 40, 50, "b", 2, 7);
    kit_log_expire(h, 3, "a");
    kit_log_expire(h, 4, "b");
}

static void put_on_a_gone_lease(struct history *h)
{
    leased(h, 1505);
    put_lease(h, 1600, 1610, "c", 4, 7);
}

static void revoked(struct history *h)
{
    kit_lease(h, HISTORY_GRANT, 0, 10, 7, 1000);
    put_lease(h, 20, 30, "a", 1, 7);
    kit_lease(h, HISTORY_REVOKE, 40, 50, 7, 0);
    kit_log_del(h, 2, "a");
    kit_at(h, kit_lease(h, HISTORY_KEEPALIVE, 60, 70, 7, 1000))->applied = false;
}

static void alive_behind_revoke(struct history *h)
{
    revoked(h);
    kit_lease(h, HISTORY_KEEPALIVE, 60, 70, 7, 1000);
}

static void ttl(struct history *h, int64_t gone_ms)
{
    kit_at(h, kit_put(h, 0, 10, "t", "v", 1))->ttl_ms = 300;
    kit_log_put(h, 1, "t", "v");
    kit_log_expire(h, 2, "t");
    kit_get(h, gone_ms - 5, gone_ms, "t", NULL, 0);
}

static void ttl_in_time(struct history *h)
{
    ttl(h, 305);
}
static void ttl_too_early(struct history *h)
{
    ttl(h, 250);
}

static void ttl_within_the_rate(struct history *h)
{
    kit_at(h, kit_put(h, 0, 10, "t", "v", 1))->ttl_ms = 100000;
    kit_log_put(h, 1, "t", "v");
    kit_log_expire(h, 2, "t");
    kit_get(h, 99940, 99951, "t", NULL, 0);
}

static void expired_without_lifetime(struct history *h)
{
    kit_put(h, 0, 10, "t", "v", 1);
    kit_log_put(h, 1, "t", "v");
    kit_log_expire(h, 2, "t");
}

static void too_late(struct history *h)
{
    kit_at(h, kit_put(h, 0, 10, "t", "v", 1))->ttl_ms = 300;
    kit_log_put(h, 1, "t", "v");
    kit_get(h, 1400, 1410, "t", "v", 1);
}

static void late_but_bounded(struct history *h)
{
    kit_at(h, kit_put(h, 0, 10, "t", "v", 1))->ttl_ms = 300;
    kit_log_put(h, 1, "t", "v");
    kit_get(h, 1300, 1310, "t", "v", 1);
}

static void locks(struct history *h, int64_t second_ms)
{
    kit_lock(h, 0, 10, "l", "one", 1000);
    kit_log_put(h, 1, "l", "one");
    kit_unlock(h, 100, 110, "l", "one");
    kit_log_del(h, 2, "l");
    kit_lock(h, second_ms, second_ms + 5, "l", "two", 1000);
    kit_log_put(h, 3, "l", "two");
}

static void one_holder(struct history *h)
{
    locks(h, 102);
}
static void two_holders(struct history *h)
{
    locks(h, 50);
}

static void lock_lost(struct history *h)
{
    kit_lock(h, 0, 10, "l", "one", 1000);
    kit_log_put(h, 1, "l", "one");
    kit_log_expire(h, 2, "l");
    kit_lock(h, 500, 510, "l", "two", 1000);
    kit_log_put(h, 3, "l", "two");
}

/* Which of two deletes was which nobody can say, so neither proves when the expiry between them was. */
static void between_two_deletes(struct history *h)
{
    kit_put(h, 0, 10, "k", "a", 1);
    kit_log_put(h, 1, "k", "a");
    kit_at(h, kit_put(h, 12, 14, "t", "v", 2))->ttl_ms = 300;
    kit_log_put(h, 2, "t", "v");
    kit_del(h, 20, 30, "k", 0);
    kit_log_del(h, 3, "k");
    kit_put(h, 25, 500, "k", "b", 4);
    kit_log_put(h, 4, "k", "b");
    kit_log_expire(h, 5, "t");
    kit_del(h, 35, 600, "k", 0);
    kit_log_del(h, 6, "k");
}

static const struct kit_case cases[] = {
    { "in time", in_time, NULL },
    { "keepalive that failed", keepalive_that_failed, NULL },
    { "revoked", revoked, NULL },
    { "TTL in time", ttl_in_time, NULL },
    { "TTL within the rate", ttl_within_the_rate, NULL },
    { "late but bounded", late_but_bounded, NULL },
    { "one holder", one_holder, NULL },
    { "between two deletes", between_two_deletes, NULL },
    { "too early", too_early, "early expiry: gone at" },
    { "keepalive that failed early", keepalive_that_failed_early, "early expiry: a keepalive" },
    { "expiry a watcher saw early", expiry_a_watcher_saw_early, "early expiry: gone at" },
    { "half a lease", half_a_lease, "split lease" },
    { "put on a gone lease", put_on_a_gone_lease, "put with a lease that had gone" },
    { "alive behind revoke", alive_behind_revoke, "kept alive after it was revoked" },
    { "TTL too early", ttl_too_early, "early expiry: gone at" },
    { "expired without lifetime", expired_without_lifetime, "without a lifetime" },
    { "too late", too_late, "late expiry" },
    { "two holders", two_holders, "lock: two holders" },
    { "lock lost", lock_lost, "lock: two holders" },
};

static void test_lifetimes_are_judged(void **state)
{
    (void)state;
    KIT_JUDGE(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lifetimes_are_judged),
    };
    return cmocka_run_group_tests_name("check/lease_check", tests, NULL, NULL);
}
