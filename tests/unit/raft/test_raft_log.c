#include "raft_lab.h"

#include "raft/raft_int.h"

static struct raft_entry entry(uint64_t index, uint64_t term, size_t bytes)
{
    struct raft_entry e = { .index = index, .term = term, .type = RAFT_ENTRY_BATCH };
    if (bytes != 0) {
        e.body = blob_new(bytes);
        e.body->len = bytes;
        memset(e.body->at, 'x', bytes);
    }
    return e;
}

static void fill(struct raft_log *l, const uint64_t *terms, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct raft_entry e = entry(log_last(l) + 1, terms[i], 10);
        log_append(l, &e);
    }
}

static const uint64_t terms_112[] = { 1, 1, 2 };

static void test_empty_log_knows_its_base(void **state)
{
    (void)state;
    struct raft_log l;
    uint64_t term = 9;
    log_init(&l, 5, 3);
    assert_int_equal(log_last(&l), 5);
    assert_int_equal(log_last_term(&l), 3);
    assert_true(log_term_at(&l, 5, &term));
    assert_int_equal(term, 3);
    assert_false(log_term_at(&l, 4, &term));
    assert_false(log_term_at(&l, 6, &term));
    log_deinit(&l);
}

static void test_append_truncate_trim(void **state)
{
    (void)state;
    struct raft_log l;
    uint64_t term = 0;
    log_init(&l, 0, 0);
    fill(&l, terms_112, 3);
    assert_int_equal(l.body_bytes, 30);
    log_trim(&l, 2);
    assert_int_equal(l.base_term, 1);
    assert_false(log_term_at(&l, 1, &term));
    assert_int_equal(log_at(&l, 3)->term, 2);
    log_truncate(&l, 3);
    assert_int_equal(log_last(&l), 2);
    assert_int_equal(log_last_term(&l), 1);
    assert_int_equal(l.body_bytes, 0);
    fill(&l, (const uint64_t[]){ 4 }, 1);
    assert_int_equal(log_at(&l, 3)->term, 4);
    log_deinit(&l);
}

/* The ring turns around many times and grows while it is turned. */
static void test_ring_wraps_and_grows(void **state)
{
    (void)state;
    struct raft_log l;
    log_init(&l, 0, 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct raft_entry e = entry(i, i, i % 3);
        log_append(&l, &e);
        if (i > 50 && i < 500) log_trim(&l, i - 50);
    }
    for (uint64_t i = l.base_index + 1; i <= 1000; i++) assert_int_equal(log_at(&l, i)->term, i);
    assert_int_equal(l.cap, 1024);
    log_deinit(&l);
}

static void test_steady_log_does_not_grow(void **state)
{
    (void)state;
    struct raft_log l;
    log_init(&l, 0, 0);
    for (uint64_t i = 1; i <= 10000; i++) {
        struct raft_entry e = entry(i, 1, 0);
        log_append(&l, &e);
        log_trim(&l, i - 1);
    }
    assert_int_equal(l.cap, 64);
    log_deinit(&l);
}

static void test_reset_forgets_everything(void **state)
{
    (void)state;
    struct raft_log l;
    log_init(&l, 0, 0);
    fill(&l, terms_112, 3);
    log_reset(&l, 100, 7);
    assert_int_equal(log_last(&l), 100);
    assert_int_equal(log_last_term(&l), 7);
    assert_int_equal(l.body_bytes, 0);
    log_deinit(&l);
}

static void test_find_agreement(void **state)
{
    (void)state;
    static const uint64_t terms[] = { 1, 1, 4, 4, 5, 5, 6 };
    static const struct {
        uint64_t index, term, floor, want;
    } cases[] = {
        { 7, 6, 0, 7 }, { 7, 5, 0, 6 }, { 7, 4, 0, 4 }, { 7, 3, 0, 2 },
        { 4, 9, 0, 4 }, { 7, 0, 0, 0 }, { 7, 1, 5, 5 }, { 9, 1, 0, 9 },
    };
    struct raft_log l;
    log_init(&l, 0, 0);
    fill(&l, terms, ARRAY_LEN(terms));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(log_find_agreement(&l, cases[i].index, cases[i].term, cases[i].floor),
                         cases[i].want);
    }
    log_deinit(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_log_knows_its_base),
        cmocka_unit_test(test_append_truncate_trim),
        cmocka_unit_test(test_ring_wraps_and_grows),
        cmocka_unit_test(test_steady_log_does_not_grow),
        cmocka_unit_test(test_reset_forgets_everything),
        cmocka_unit_test(test_find_agreement),
    };
    return cmocka_run_group_tests_name("raft/raft_log", tests, NULL, NULL);
}
