/* Leases: the table's rules, and thousands of random steps against a plain model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "state/lease.h"

#define COUNT_MAX 1000000
#define KEYS_MAX 10000

static const struct lease *granted(struct lease_table *t, uint64_t id, int64_t ttl_ms,
                                   uint64_t stamp_ms)
{
    struct lease_request request = { id, ttl_ms, stamp_ms, COUNT_MAX };
    const struct lease *l = NULL;
    assert_int_equal(lease_grant(t, &request, &l), OK);
    assert_non_null(l);
    return l;
}

static const struct {
    const char *label;
    uint64_t id;
    int64_t ttl_ms;
    enum err want;
    int64_t want_ttl_ms;
} grants[] = {
    { "plain", 0, 5000, OK, 5000 },
    { "raised to the floor", 0, 1, OK, LEASE_TTL_MS_MIN },
    { "the floor", 0, 100, OK, 100 },
    { "zero", 0, 0, ERR_LEASE_TTL_LOW, 0 },
    { "negative", 0, -1, ERR_LEASE_TTL_LOW, 0 },
    { "lowest", 0, INT64_MIN, ERR_LEASE_TTL_LOW, 0 },
    { "longest", 0, LEASE_TTL_MS_MAX, OK, LEASE_TTL_MS_MAX },
    { "too long", 0, LEASE_TTL_MS_MAX + 1, ERR_LEASE_TTL, 0 },
    { "far too long", 0, INT64_MAX, ERR_LEASE_TTL, 0 },
    { "own id", 77, 5000, OK, 5000 },
    { "id that exists", 7, 5000, ERR_LEASE_EXISTS, 0 },
    { "bad ttl before existing id", 7, 0, ERR_LEASE_TTL_LOW, 0 },
    { "largest id", UINT64_MAX, 5000, OK, 5000 },
};

static void test_grant_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(grants); i++) {
        struct lease_table *t = lease_table_new(1);
        granted(t, 7, 60000, 0);
        uint64_t hash = lease_table_hash(t);
        struct lease_request request = { grants[i].id, grants[i].ttl_ms, 1000, COUNT_MAX };
        const struct lease *l = NULL;
        enum err got = lease_grant(t, &request, &l);
        if (got != grants[i].want) fail_msg("%s: got %s", grants[i].label, err_name(got));
        if (got == OK) {
            assert_int_equal(l->ttl_ms, grants[i].want_ttl_ms);
            assert_int_equal(l->deadline_ms, 1000 + l->ttl_ms);
            assert_ptr_equal(lease_find(t, l->id), l);
            if (grants[i].id != 0) assert_int_equal(l->id, grants[i].id);
        } else {
            assert_null(l);
            assert_int_equal(lease_table_hash(t), hash);
            assert_int_equal(lease_count(t), 1);
        }
        lease_table_check(t);
        lease_table_free(t);
    }
}

static void test_grant_stops_at_the_limit(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_new(1);
    struct lease_request request = { 0, 1000, 0, 2 };
    const struct lease *l;
    assert_int_equal(lease_grant(t, &request, &l), OK);
    assert_int_equal(lease_grant(t, &request, &l), OK);
    assert_int_equal(lease_grant(t, &request, &l), ERR_LEASE_LIMIT);
    lease_remove(t, 1);
    assert_int_equal(lease_grant(t, &request, &l), OK);
    assert_int_equal(l->id, 3); /* an id is not given twice */
    lease_table_free(t);
}

static void test_counter_skips_ids_of_users_and_is_not_moved_by_them(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_new(1);
    assert_int_equal(granted(t, 0, 1000, 0)->id, 1);
    for (uint64_t id = 2; id <= 400; id++) granted(t, id, 1000, 0);
    granted(t, 402, 1000, 0);
    granted(t, 1000000, 1000, 0);
    assert_int_equal(lease_counter(t), 2);
    assert_int_equal(granted(t, 0, 1000, 0)->id, 401);
    assert_int_equal(granted(t, 0, 1000, 0)->id, 403);
    assert_int_equal(granted(t, 0, 1000, 0)->id, 404);
    lease_table_check(t);
    lease_table_free(t);
}

static void test_counter_starts_again_below_two_to_the_53(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_new(1);
    granted(t, 1, 1000, 0);
    lease_counter_load(t, LEASE_ID_COUNTER_MAX - 1);
    assert_int_equal(granted(t, 0, 1000, 0)->id, LEASE_ID_COUNTER_MAX - 1);
    assert_int_equal(granted(t, 0, 1000, 0)->id, 2);
    lease_table_free(t);
}

static void test_deadline_does_not_wrap(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_new(1);
    assert_int_equal(granted(t, 1, 1000, UINT64_MAX)->deadline_ms, INT64_MAX);
    assert_int_equal(granted(t, 2, 1000, INT64_MAX - 999)->deadline_ms, INT64_MAX);
    assert_int_equal(granted(t, 3, 1000, INT64_MAX - 1000)->deadline_ms, INT64_MAX);
    lease_table_free(t);
}

static void test_keepalive_renews_what_exists(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_new(1);
    for (uint64_t id = 1; id <= 50; id++) granted(t, 0, 1000 + (int64_t)id, 0);
    uint8_t ids[8 * 40];
    int64_t remaining_ms[40];
    for (uint64_t i = 0; i < 40; i++) u64_le_put(ids + 8 * i, i % 4 == 3 ? 1000 + i : i + 1);
    assert_int_equal(lease_keepalive(t, ids, 40, 500, remaining_ms), 30);
    for (uint64_t i = 0; i < 40; i++) {
        assert_int_equal(remaining_ms[i], i % 4 == 3 ? -2 : 1000 + (int64_t)i + 1);
        if (i % 4 != 3) assert_int_equal(lease_find(t, i + 1)->deadline_ms, 1500 + i + 1);
    }
    assert_int_equal(lease_find(t, 50)->deadline_ms, 1050);
    assert_int_equal(lease_keepalive(t, ids, 0, 500, NULL), 0);
    assert_int_equal(lease_keepalive(t, ids, 3, 600, NULL), 3);
    lease_table_check(t);
    lease_table_free(t);
}

/* --- what is due ---------------------------------------------------------------------- */

struct seen {
    uint64_t ids[8192];
    size_t count;
};

static void see(void *ctx, const struct lease *l, const struct life *life)
{
    struct seen *seen = ctx;
    assert_true((l == NULL) != (life == NULL));
    assert_true(seen->count < ARRAY_LEN(seen->ids));
    seen->ids[seen->count++] = l != NULL ? l->id : 1000000 + life->life_index;
}

static void test_due_twice_gives_the_same(void **state)
{
    (void)state;
    static struct seen first, second;
    struct lease_table *t = lease_table_new(1);
    for (uint64_t i = 0; i < 500; i++) granted(t, 0, 100 + (int64_t)(u64_mix(i) % 1000), 0);
    uint8_t id[8];
    for (uint64_t i = 1; i <= 500; i += 2) {
        u64_le_put(id, i);
        lease_keepalive(t, id, 1, 300 + i, NULL);
    }
    for (size_t limit = 1; limit <= 200; limit++) {
        first.count = second.count = 0;
        size_t keys = lease_due(t, 700, limit, see, &first);
        assert_int_equal(lease_due(t, 700, limit, see, &second), keys);
        assert_int_equal(first.count, keys);
        assert_true(first.count <= limit && first.count > 0);
        assert_int_equal(first.count, second.count);
        assert_memory_equal(first.ids, second.ids, first.count * sizeof first.ids[0]);
    }
    lease_table_check(t);
    lease_table_free(t);
}

static void test_due_exactly_at_the_deadline(void **state)
{
    (void)state;
    static struct seen seen;
    struct lease_table *t = lease_table_new(1);
    assert_int_equal(lease_next_due_ms(t), UINT64_MAX);
    assert_int_equal(lease_due(t, UINT64_MAX, 10, see, &seen), 0);
    granted(t, 9, 1000, 50);
    assert_int_equal(lease_next_due_ms(t), 1050);
    assert_int_equal(lease_due(t, 1049, 10, see, &seen), 0);
    assert_int_equal(lease_due(t, 1050, 10, see, &seen), 1);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.ids[0], 9);
    lease_table_free(t);
}

/* A thousand renewed leases in front of one that is due: found, and next time at once. */
static void test_due_moves_renewed_slots(void **state)
{
    (void)state;
    static struct seen seen;
    struct lease_table *t = lease_table_new(1);
    for (uint64_t i = 0; i < 1000; i++) granted(t, 0, 1000, 0);
    granted(t, 5000, 2000, 0);
    uint8_t id[8];
    for (uint64_t i = 1; i <= 1000; i++) {
        u64_le_put(id, i);
        lease_keepalive(t, id, 1, 1900 + i, NULL);
    }
    assert_int_equal(lease_next_due_ms(t), 1000); /* early is allowed */
    seen.count = 0;
    assert_int_equal(lease_due(t, 1500, 10, see, &seen), 0);
    assert_int_equal(lease_next_due_ms(t), 2000);
    assert_int_equal(lease_due(t, 2000, 10, see, &seen), 1);
    assert_int_equal(seen.ids[0], 5000);
    lease_table_check(t);
    lease_table_free(t);
}

static void test_due_moves_a_bounded_number_of_slots(void **state)
{
    (void)state;
    static struct seen seen;
    struct lease_table *t = lease_table_new(1);
    uint64_t count = 2 * LEASE_REARM_COUNT_MAX + 100;
    uint8_t id[8];
    for (uint64_t i = 1; i <= count; i++) granted(t, 0, 1000, 0);
    granted(t, count + 1, 1500, 0);
    for (uint64_t i = 1; i <= count; i++) {
        u64_le_put(id, i);
        lease_keepalive(t, id, 1, 5000, NULL);
    }
    seen.count = 0;
    size_t calls = 1;
    while (lease_due(t, 1500, 10, see, &seen) == 0) {
        assert_true(lease_next_due_ms(t) <= 1500); /* come again at once */
        calls++;
    }
    assert_int_equal(calls, 3);
    assert_int_equal(seen.ids[0], count + 1);
    lease_table_free(t);
}

static void test_due_counts_keys_of_leases(void **state)
{
    (void)state;
    static struct seen seen;
    struct lease_table *t = lease_table_new(1);
    struct slice key = SLICE_LIT("k");
    granted(t, 1, 1000, 0);
    granted(t, 2, 1001, 0);
    granted(t, 3, 1002, 0);
    for (size_t i = 0; i < 10; i++) {
        struct life *life = life_new(t, key);
        assert_int_equal(lease_attach(t, 1 + i % 2, life, 1, KEYS_MAX), OK);
    }
    seen.count = 0;
    assert_int_equal(lease_due(t, 2000, 3, see, &seen), 5); /* never less than one lease */
    assert_int_equal(lease_due(t, 2000, 9, see, &seen), 5);
    assert_int_equal(lease_due(t, 2000, 10, see, &seen), 10);
    assert_int_equal(lease_due(t, 2000, 11, see, &seen), 11);
    lease_table_free(t);
}

/* --- the model ------------------------------------------------------------------------ */

#define MODEL_LEASES 300
#define MODEL_KEYS 400

struct model_lease {
    bool exists;
    int64_t ttl_ms, deadline_ms;
    uint32_t key_count;
};
struct model_key {
    struct life *life;
    uint64_t lease;
    int64_t deadline_ms;
    uint64_t life_index;
    char name[8];
};
struct model {
    struct lease_table *t;
    struct model_lease leases[MODEL_LEASES + 1];
    struct model_key keys[MODEL_KEYS];
    uint64_t now_ms, index, random;
};

static uint64_t below(struct model *m, uint64_t limit) { return u64_mix(m->random++) % limit; }

static struct slice key_of(const struct model_key *k) { return slice_of(k->name); }

static void leave_lease(struct model *m, struct model_key *k)
{
    if (k->lease != 0) m->leases[k->lease].key_count--;
    k->lease = 0;
    k->deadline_ms = 0;
}

static void step_grant(struct model *m)
{
    uint64_t id = 1 + below(m, MODEL_LEASES);
    struct lease_request request = { id, (int64_t)below(m, 5000), m->now_ms, COUNT_MAX };
    const struct lease *l;
    struct model_lease *want = &m->leases[id];
    enum err expect = want->exists ? ERR_LEASE_EXISTS : OK;
    if (request.ttl_ms == 0) expect = ERR_LEASE_TTL_LOW;
    assert_int_equal(lease_grant(m->t, &request, &l), expect);
    if (expect != OK) return;
    int64_t ttl_ms = MAX(request.ttl_ms, 100);
    *want = (struct model_lease){ true, ttl_ms, (int64_t)m->now_ms + ttl_ms, 0 };
}

static void step_keepalive(struct model *m)
{
    uint8_t ids[8 * 64];
    int64_t remaining_ms[64];
    uint64_t count = 1 + below(m, 64);
    size_t want = 0;
    uint64_t asked[64];
    for (uint64_t i = 0; i < count; i++) {
        asked[i] = 1 + below(m, MODEL_LEASES);
        u64_le_put(ids + 8 * i, asked[i]);
        struct model_lease *l = &m->leases[asked[i]];
        if (!l->exists) continue;
        want++;
        l->deadline_ms = (int64_t)m->now_ms + l->ttl_ms;
    }
    assert_int_equal(lease_keepalive(m->t, ids, count, m->now_ms, remaining_ms), want);
    for (uint64_t i = 0; i < count; i++) {
        const struct model_lease *l = &m->leases[asked[i]];
        assert_int_equal(remaining_ms[i], l->exists ? l->ttl_ms : -2);
    }
}

static void step_key(struct model *m)
{
    struct model_key *k = &m->keys[below(m, MODEL_KEYS)];
    if (k->life == NULL) k->life = life_new(m->t, key_of(k));
    uint64_t id = 1 + below(m, MODEL_LEASES);
    switch (below(m, 5)) {
    case 0:
    case 1: {
        enum err expect = m->leases[id].exists ? OK : ERR_NOLEASE;
        assert_int_equal(lease_attach(m->t, id, k->life, m->index, KEYS_MAX), expect);
        if (expect != OK) return;
        leave_lease(m, k);
        k->lease = id;
        m->leases[id].key_count++;
        break;
    }
    case 2:
    case 3: {
        int64_t deadline_ms = (int64_t)(m->now_ms + 1 + below(m, 6000));
        life_set_private(m->t, k->life, deadline_ms, deadline_ms + 1000000, m->index);
        leave_lease(m, k);
        k->deadline_ms = deadline_ms;
        break;
    }
    default:
        life_clear(m->t, k->life, m->index);
        leave_lease(m, k);
        break;
    }
    k->life_index = m->index;
}

static void step_free(struct model *m)
{
    struct model_key *k = &m->keys[below(m, MODEL_KEYS)];
    life_free(m->t, k->life, key_of(k));
    leave_lease(m, k);
    *k = (struct model_key){ .life_index = 0 };
    snprintf(k->name, sizeof k->name, "k%d", (int)(k - m->keys));
}

static void remove_lease(struct model *m, uint64_t id)
{
    for (struct life *life; (life = lease_keys(lease_find(m->t, id))) != NULL;) {
        struct model_key *k = NULL;
        for (size_t i = 0; i < MODEL_KEYS; i++) {
            if (m->keys[i].life == life) k = &m->keys[i];
        }
        assert_non_null(k);
        assert_int_equal(k->lease, id);
        life_free(m->t, life, key_of(k));
        leave_lease(m, k);
        k->life = NULL;
        k->life_index = 0;
    }
    assert_int_equal(m->leases[id].key_count, 0);
    lease_remove(m->t, id);
    m->leases[id].exists = false;
}

/* All that is due, by both; then it goes. */
static void step_expire(struct model *m)
{
    static struct seen seen;
    seen.count = 0;
    lease_due(m->t, m->now_ms, SIZE_MAX, see, &seen);
    size_t want = 0;
    for (uint64_t id = 1; id <= MODEL_LEASES; id++) {
        want += m->leases[id].exists && m->leases[id].deadline_ms <= (int64_t)m->now_ms;
    }
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        want += m->keys[i].deadline_ms != 0 && m->keys[i].deadline_ms <= (int64_t)m->now_ms;
    }
    assert_int_equal(seen.count, want);
    for (uint64_t id = 1; id <= MODEL_LEASES; id++) {
        if (!m->leases[id].exists || m->leases[id].deadline_ms > (int64_t)m->now_ms) continue;
        bool found = false;
        for (size_t i = 0; i < seen.count; i++) found = found || seen.ids[i] == id;
        assert_true(found);
        remove_lease(m, id);
    }
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        struct model_key *k = &m->keys[i];
        if (k->deadline_ms == 0 || k->deadline_ms > (int64_t)m->now_ms) continue;
        life_free(m->t, k->life, key_of(k));
        leave_lease(m, k);
        k->life = NULL;
        k->life_index = 0;
    }
}

static void compare(const struct model *m)
{
    uint64_t want[MODEL_LEASES], got[MODEL_LEASES + 1];
    size_t count = 0, lives = 0;
    uint64_t soonest_ms = UINT64_MAX;
    lease_table_check(m->t);
    for (uint64_t id = 1; id <= MODEL_LEASES; id++) {
        const struct model_lease *l = &m->leases[id];
        const struct lease *real = lease_find(m->t, id);
        assert_int_equal(real != NULL, l->exists);
        if (!l->exists) continue;
        assert_int_equal(real->ttl_ms, l->ttl_ms);
        assert_int_equal(real->deadline_ms, l->deadline_ms);
        assert_int_equal(real->key_count, l->key_count);
        soonest_ms = MIN(soonest_ms, (uint64_t)l->deadline_ms);
        want[count++] = id;
    }
    assert_int_equal(lease_count(m->t), count);
    assert_int_equal(lease_list_after(m->t, 0, got, ARRAY_LEN(got)), count);
    assert_memory_equal(got, want, count * sizeof want[0]);
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *k = &m->keys[i];
        if (k->life == NULL) continue;
        lives++;
        int64_t deadline_ms = k->lease != 0 ? m->leases[k->lease].deadline_ms : k->deadline_ms;
        assert_int_equal(life_deadline_ms(m->t, k->life), deadline_ms);
        assert_int_equal(k->life->lease_id, k->lease);
        assert_int_equal(k->life->life_index, k->life_index);
        if (k->deadline_ms != 0) soonest_ms = MIN(soonest_ms, (uint64_t)k->deadline_ms);
    }
    assert_int_equal(life_count(m->t), lives);
    assert_true(lease_next_due_ms(m->t) <= soonest_ms);
}

/* The same content in a fresh table, put there in another order with another seed. */
static void compare_hash(const struct model *m)
{
    struct lease_table *other = lease_table_new(m->random);
    for (uint64_t id = MODEL_LEASES; id >= 1; id--) {
        const struct model_lease *l = &m->leases[id];
        if (l->exists) assert_int_equal(lease_load(other, id, l->ttl_ms, l->deadline_ms), OK);
    }
    for (size_t i = MODEL_KEYS; i-- > 0;) {
        const struct model_key *k = &m->keys[i];
        if (k->life == NULL || k->life_index == 0) continue;
        struct life_record record = { k->lease, k->deadline_ms, k->life->unix_ms, k->life_index,
                                      false };
        struct life *life;
        assert_int_equal(life_load(other, key_of(k), &record, &life), OK);
    }
    lease_counter_load(other, lease_counter(m->t));
    assert_int_equal(lease_table_hash(other), lease_table_hash(m->t));
    lease_table_free(other);
}

static void run_model(uint64_t seed, size_t steps)
{
    static struct model m;
    m = (struct model){ .t = lease_table_new(seed), .random = seed << 32 };
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        snprintf(m.keys[i].name, sizeof m.keys[i].name, "k%d", (int)i);
    }
    for (size_t step = 0; step < steps; step++) {
        m.index++;
        m.now_ms += below(&m, 20);
        uint64_t dice = below(&m, 100);
        if (dice < 30) {
            step_grant(&m);
        } else if (dice < 50) {
            step_keepalive(&m);
        } else if (dice < 85) {
            step_key(&m);
        } else if (dice < 92) {
            step_free(&m);
        } else if (dice < 94) {
            uint64_t id = 1 + below(&m, MODEL_LEASES);
            if (m.leases[id].exists) remove_lease(&m, id);
        } else if (dice < 97) {
            step_expire(&m);
        } else if (dice < 98) {
            m.now_ms += below(&m, 3000);
            lease_changes_clear(m.t);
        } else {
            compare(&m);
            compare_hash(&m);
        }
    }
    compare(&m);
    lease_table_free(m.t);
}

static void test_random_steps_against_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) run_model(seed, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grant_table),
        cmocka_unit_test(test_grant_stops_at_the_limit),
        cmocka_unit_test(test_counter_skips_ids_of_users_and_is_not_moved_by_them),
        cmocka_unit_test(test_counter_starts_again_below_two_to_the_53),
        cmocka_unit_test(test_deadline_does_not_wrap),
        cmocka_unit_test(test_keepalive_renews_what_exists),
        cmocka_unit_test(test_due_twice_gives_the_same),
        cmocka_unit_test(test_due_exactly_at_the_deadline),
        cmocka_unit_test(test_due_moves_renewed_slots),
        cmocka_unit_test(test_due_moves_a_bounded_number_of_slots),
        cmocka_unit_test(test_due_counts_keys_of_leases),
        cmocka_unit_test(test_random_steps_against_a_model),
    };
    return cmocka_run_group_tests_name("state/lease", tests, NULL, NULL);
}
