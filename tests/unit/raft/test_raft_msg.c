#include "raft_lab.h"

struct sample {
    struct raft_msg msg;
    struct raft_entry entries[3];
};

static struct blob *text(const char *t)
{
    return blob_copy(slice_of(t));
}

/* An APPEND with a batch, a no-op and a configuration. */
static void sample_init(struct sample *s)
{
    struct raft_members m = { 0 };
    struct raft_member member = lab_member(1, RAFT_VOTER);
    assert_int_equal(raft_members_put(&m, &member), OK);
    struct buf bytes = { 0 };
    raft_members_encode(&bytes, &m);
    *s = (struct sample){
        .msg = { .type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 9, .index = 4, .log_term = 6,
                 .commit = 3, .entry_count = 3 },
        .entries = { { .term = 7, .index = 5, .type = RAFT_ENTRY_BATCH, .body = text("abc") },
                     { .term = 8, .index = 6, .type = RAFT_ENTRY_NOOP },
                     { .term = 8, .index = 7, .type = RAFT_ENTRY_MEMBERS,
                       .body = blob_copy(buf_slice(&bytes)) } },
    };
    buf_deinit(&bytes);
    for (size_t i = 0; i < 3; i++) {
        struct blob *b = s->entries[i].body;
        if (b != NULL) s->entries[i].crc = crc32c(0, b->at, b->len);
    }
    s->msg.entries = s->entries;
}

static void sample_deinit(struct sample *s)
{
    for (size_t i = 0; i < 3; i++) blob_unref(s->entries[i].body);
}

static void test_bytes_are_pinned(void **state)
{
    (void)state;
    static const uint8_t want[] = {
        1, 5, 3, 0, 1, 0, 0, 0,                                  /* version, type, flags, count */
        2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,          /* from, to */
        4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,          /* term, index */
        2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,          /* log_term, commit */
        7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,          /* round, hint */
        0x10, 2, 0, 0, 0, 0, 0, 0,                               /* clock */
        3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xb7, 0x3f, 0x4b, 0x36, /* term, type, crc */
        3, 0, 0, 0, 'a', 'b', 'c',                               /* body */
    };
    struct raft_entry e = { .term = 3, .index = 6, .type = RAFT_ENTRY_BATCH, .body = text("abc") };
    e.crc = crc32c(0, "abc", 3);
    struct raft_msg m = { .type = RAFT_MSG_APPEND, .reject = true, .force = true, .from = 2,
                          .to = 3, .term = 4, .index = 5, .log_term = 2, .commit = 6, .round = 7,
                          .hint = 8, .clock_ms = 0x210, .entries = &e, .entry_count = 1 };
    struct buf out = { 0 };
    raft_msg_encode(&out, &m);
    assert_int_equal(out.len, sizeof want);
    assert_int_equal(out.len, raft_msg_encoded_bytes(&m));
    assert_memory_equal(out.at, want, sizeof want);
    buf_deinit(&out);
    blob_unref(e.body);
}

static void test_decode_returns_what_was_encoded(void **state)
{
    (void)state;
    struct sample s;
    struct raft_msg got;
    struct buf out = { 0 };
    sample_init(&s);
    raft_msg_encode(&out, &s.msg);
    assert_int_equal(raft_msg_decode(buf_slice(&out), &got), OK);
    assert_true(got.type == RAFT_MSG_APPEND && got.from == 1 && got.to == 2 && got.term == 9);
    assert_true(got.index == 4 && got.log_term == 6 && got.commit == 3 && got.entry_count == 3);
    for (size_t i = 0; i < 3; i++) {
        const struct raft_entry *a = &s.entries[i];
        const struct raft_entry *b = &got.entries[i];
        assert_true(a->term == b->term && a->index == b->index && a->type == b->type);
        assert_true(a->crc == b->crc && (a->body == NULL) == (b->body == NULL));
        if (a->body != NULL) assert_true(slice_eq(blob_slice(a->body), blob_slice(b->body)));
    }
    raft_msg_deinit(&got);
    buf_deinit(&out);
    sample_deinit(&s);
}

static void test_copy_outlives_its_origin(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s);
    struct raft_msg copy = raft_msg_copy(&s.msg);
    sample_deinit(&s);
    memset(&s, 0, sizeof s);
    assert_true(slice_eq(blob_slice(copy.entries[0].body), SLICE_LIT("abc")));
    raft_msg_deinit(&copy);
    assert_null(copy.entries);
}

/* Every cut and every flipped bit: an error, or a message that is valid. */
static void test_decode_distrusts(void **state)
{
    (void)state;
    struct sample s;
    struct raft_msg got;
    struct buf out = { 0 };
    sample_init(&s);
    raft_msg_encode(&out, &s.msg);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *exact = mem_copy(out.at, len);
        assert_int_not_equal(raft_msg_decode((struct slice){ exact, len }, &got), OK);
        mem_free(exact);
    }
    for (size_t i = 0; i < out.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            out.at[i] ^= (uint8_t)(1 << bit);
            if (raft_msg_decode(buf_slice(&out), &got) == OK) {
                assert_true(raft_msg_is_valid(&got));
                raft_msg_deinit(&got);
            }
            out.at[i] ^= (uint8_t)(1 << bit);
        }
    }
    buf_append_u8(&out, 0);
    assert_int_equal(raft_msg_decode(buf_slice(&out), &got), ERR_PROTO);
    buf_deinit(&out);
    sample_deinit(&s);
}

static void test_body_is_checked(void **state)
{
    (void)state;
    struct sample s;
    struct raft_msg got;
    struct buf out = { 0 };
    sample_init(&s);
    raft_msg_encode(&out, &s.msg);
    out.at[RAFT_MSG_HEAD_BYTES + RAFT_MSG_ENTRY_HEAD_BYTES] ^= 1;
    assert_int_equal(raft_msg_decode(buf_slice(&out), &got), ERR_CORRUPT);
    out.at[0] = 2;
    assert_int_equal(raft_msg_decode(buf_slice(&out), &got), ERR_UNSUPPORTED);
    buf_deinit(&out);
    sample_deinit(&s);
}

static void test_validity(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s);
    assert_true(raft_msg_is_valid(&s.msg));
    static const char *const labels[] = { "type", "from", "self", "no term", "term descends",
                                          "term above", "gap", "index", "count", "prev term" };
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct sample bad = s;
        bad.msg.entries = bad.entries;
        switch (i) {
        case 0: bad.msg.type = RAFT_MSG_HEARTBEAT; break; /* no entries there */
        case 1: bad.msg.from = 0; break;
        case 2: bad.msg.from = bad.msg.to; break;
        case 3: bad.msg.term = 0; break;
        case 4: bad.entries[1].term = 6; break;
        case 5: bad.entries[2].term = 10; break;
        case 6: bad.entries[1].index = 7; break;
        case 7: bad.msg.index = RAFT_INDEX_MAX; break;
        case 8: bad.msg.entry_count = RAFT_MSG_ENTRIES_MAX + 1; break;
        case 9: bad.msg.log_term = 10; break;
        default: break;
        }
        if (raft_msg_is_valid(&bad.msg)) fail_msg("%s", labels[i]);
    }
    sample_deinit(&s);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(raft_msg_name(RAFT_MSG_TIMEOUT_NOW), "timeout-now");
    assert_string_equal(raft_msg_name((enum raft_msg_type)99), "unknown");
    const struct raft_msg bulk = { .type = RAFT_MSG_APPEND };
    const struct raft_msg timely = { .type = RAFT_MSG_HEARTBEAT };
    assert_false(raft_msg_is_urgent(&bulk));
    assert_true(raft_msg_is_urgent(&timely));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_decode_returns_what_was_encoded),
        cmocka_unit_test(test_copy_outlives_its_origin),
        cmocka_unit_test(test_decode_distrusts),
        cmocka_unit_test(test_body_is_checked),
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("raft/raft_msg", tests, NULL, NULL);
}
