/* Frames between members: pinned bytes, every cut, every flipped bit, every bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/peer_frame.h"

#include "base/buf.h"
#include "raft/raft_members.h"

static struct chain_pool pool;

/* Moves the chain's bytes to `out` and empties it. */
static void chain_take(struct chain *c, struct buf *out)
{
    struct iovec iov[8];
    while (chain_bytes(c) > 0) {
        size_t count = chain_iov(c, iov, ARRAY_LEN(iov));
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            buf_append(out, iov[i].iov_base, iov[i].iov_len);
            bytes += iov[i].iov_len;
        }
        chain_consume(c, bytes);
    }
}

static struct buf frame_bytes(enum peer_frame_kind kind, struct slice payload)
{
    struct chain c;
    chain_init(&c, &pool);
    peer_frame_put(&c, kind, payload);
    struct buf out = { 0 };
    chain_take(&c, &out);
    return out;
}

static struct peer_frame must_decode(struct slice in)
{
    struct peer_frame f;
    struct errmsg em;
    size_t need = 0;
    assert_int_equal(peer_frame_decode(in, false, &f, &need, &em), OK);
    return f;
}

static void test_bytes_are_pinned(void **state)
{
    (void)state;
    struct buf got CLEANUP(buf_deinit) = frame_bytes(PEER_PAYLOAD, SLICE_LIT("hello"));
    static const uint8_t want[] = { 'C', 'R', 'P', 1, 5, 0, 0, 0, 4, 0 };
    assert_int_equal(got.len, PEER_FRAME_HEAD_BYTES + 5);
    assert_memory_equal(got.at, want, sizeof want);
    assert_int_equal(u16_le(got.at + 10), crc32c(0, want, sizeof want) & 0xffff);
    uint32_t sum = crc32c(0, got.at, 12);
    assert_int_equal(u32_le(got.at + 12), crc32c(sum, "hello", 5));
    assert_memory_equal(got.at + 16, "hello", 5);
}

static void test_every_size_comes_back(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 511, 512, 16383, 16384, 16385, 1 << 20, 9 << 20,
                                    PEER_FRAME_BYTES_MAX };
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    uint8_t *at = buf_reserve(&payload, PEER_FRAME_BYTES_MAX);
    for (size_t i = 0; i < PEER_FRAME_BYTES_MAX; i++) at[i] = (uint8_t)(i * 7 + (i >> 9));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct slice part = { at, sizes[i] };
        struct buf bytes CLEANUP(buf_deinit) = frame_bytes(PEER_PAYLOAD, part);
        struct peer_frame f = must_decode(buf_slice(&bytes));
        assert_int_equal(f.kind, PEER_PAYLOAD);
        assert_int_equal(f.used_bytes, bytes.len);
        assert_true(slice_eq(f.payload, part));
    }
}

static void test_every_cut_asks_for_more(void **state)
{
    (void)state;
    struct buf bytes CLEANUP(buf_deinit) = frame_bytes(PEER_PAYLOAD, SLICE_LIT("some payload"));
    for (size_t len = 0; len < bytes.len; len++) {
        struct peer_frame f = { .used_bytes = 99 };
        struct errmsg em;
        size_t need = 0;
        enum err e = peer_frame_decode((struct slice){ bytes.at, len }, false, &f, &need, &em);
        assert_int_equal(e, ERR_AGAIN);
        assert_true(need > len);
        assert_true(need <= bytes.len);
        assert_int_equal(f.used_bytes, 99);
    }
}

/* Also in the length: nobody waits for bytes that never come. */
static void test_every_flipped_bit_is_noticed_at_once(void **state)
{
    (void)state;
    struct buf bytes CLEANUP(buf_deinit) = frame_bytes(PEER_PAYLOAD, SLICE_LIT("some payload"));
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        bytes.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct peer_frame f;
        struct errmsg em = { "" };
        size_t need = 0;
        enum err e = peer_frame_decode(buf_slice(&bytes), false, &f, &need, &em);
        assert_true(e == ERR_PROTO || e == ERR_CORRUPT || e == ERR_UNSUPPORTED);
        assert_true(em.text[0] != '\0');
        bytes.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    must_decode(buf_slice(&bytes));
}

static void resum(struct buf *b)
{
    u16_le_put(b->at + 10, (uint16_t)crc32c(0, b->at, 10));
    u32_le_put(b->at + 12, crc32c(crc32c(0, b->at, 12), b->at + 16, b->len - 16));
}

static enum err decode_changed(size_t at, uint8_t value, bool handshake, struct errmsg *em)
{
    struct buf bytes CLEANUP(buf_deinit) = frame_bytes(PEER_PAYLOAD, SLICE_LIT("x"));
    bytes.at[at] = value;
    resum(&bytes);
    struct peer_frame f;
    size_t need = 0;
    return peer_frame_decode(buf_slice(&bytes), handshake, &f, &need, em);
}

static void test_what_the_checksums_allow_is_still_checked(void **state)
{
    (void)state;
    struct errmsg em;
    assert_int_equal(decode_changed(3, 2, false, &em), ERR_UNSUPPORTED);
    assert_non_null(strstr(em.text, "version 2"));
    assert_int_equal(decode_changed(8, 0, false, &em), ERR_PROTO);
    assert_int_equal(decode_changed(8, 6, false, &em), ERR_PROTO);
    assert_int_equal(decode_changed(9, 1, false, &em), ERR_PROTO);
    assert_int_equal(decode_changed(7, 5, false, &em), ERR_PROTO);    /* 80 MiB */
    assert_int_equal(decode_changed(6, 1, false, &em), ERR_AGAIN);    /* 64 KiB */
    assert_int_equal(decode_changed(6, 1, true, &em), ERR_PROTO);     /* before the handshake */
}

static void test_foreign_protocols_are_told_early(void **state)
{
    (void)state;
    struct errmsg em;
    struct peer_frame f;
    size_t need = 0;
    assert_int_equal(peer_frame_decode(SLICE_LIT("P"), true, &f, &need, &em), ERR_PROTO);
    assert_int_equal(peer_frame_decode(SLICE_LIT("\x16\x03\x01"), true, &f, &need, &em), ERR_PROTO);
    assert_int_equal(peer_frame_decode(SLICE_LIT("CR"), true, &f, &need, &em), ERR_AGAIN);
}

/* --- handshakes ---------------------------------------------------------------------------- */

static struct buf payload_of(struct chain *c)
{
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    chain_take(c, &bytes);
    struct buf out = { 0 };
    buf_append_slice(&out, must_decode(buf_slice(&bytes)).payload);
    return out;
}

static const struct peer_hello a_hello = { .channel = 2, .group = 1, .cluster_id = 3, .from_id = 4,
                                           .directory_id = 5, .to_id = 6, .name = { (const uint8_t *)"n4", 2 },
                                           .address = { (const uint8_t *)"10.0.0.4:7380", 13 } };

static void test_hello(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    peer_hello_put(&c, &a_hello);
    struct buf b CLEANUP(buf_deinit) = payload_of(&c);
    struct peer_hello got;
    struct errmsg em;
    assert_int_equal(peer_hello_decode(buf_slice(&b), &got, &em), OK);
    assert_int_equal(got.channel, a_hello.channel);
    assert_int_equal(got.group, a_hello.group);
    assert_int_equal(got.cluster_id, a_hello.cluster_id);
    assert_int_equal(got.from_id, a_hello.from_id);
    assert_int_equal(got.directory_id, a_hello.directory_id);
    assert_int_equal(got.to_id, a_hello.to_id);
    assert_true(slice_eq(got.name, a_hello.name));
    assert_true(slice_eq(got.address, a_hello.address));
    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(peer_hello_decode((struct slice){ b.at, len }, &got, &em), ERR_PROTO);
    }
    for (size_t at = 8; at < 40; at += 8) { /* no id is 0 */
        uint8_t was = b.at[at];
        b.at[at] = 0;
        assert_int_equal(peer_hello_decode(buf_slice(&b), &got, &em), ERR_PROTO);
        b.at[at] = was;
    }
    buf_append_u8(&b, 0);
    assert_int_equal(peer_hello_decode(buf_slice(&b), &got, &em), ERR_PROTO);
    b.at[0] = 9;
    assert_int_equal(peer_hello_decode(buf_slice(&b), &got, &em), ERR_UNSUPPORTED);
    assert_non_null(strstr(em.text, "version 9"));
}

/* Names that a directory got before they were checked have other bytes: who shows one is heard. */
static void test_a_hello_with_any_name_is_heard(void **state)
{
    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        const uint8_t name[] = { 'n', (uint8_t)c };
        struct peer_hello hello = a_hello;
        hello.name = (struct slice){ name, sizeof name };
        struct chain chain;
        chain_init(&chain, &pool);
        peer_hello_put(&chain, &hello);
        struct buf b CLEANUP(buf_deinit) = payload_of(&chain);
        struct peer_hello got;
        struct errmsg em;
        assert_int_equal(peer_hello_decode(buf_slice(&b), &got, &em), OK);
        bool as_it_is = c >= ' ' && c < 127 && c != '"' && c != '\\';
        assert_true(slice_eq(got.name, as_it_is ? hello.name : SLICE_LIT("n?")));
        assert_true(as_it_is || !raft_member_text_is_good(hello.name));
    }
}

static void test_welcome(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    peer_welcome_put(&c, &(struct peer_welcome){ 7, 8 });
    struct buf b CLEANUP(buf_deinit) = payload_of(&c);
    struct peer_welcome got;
    struct errmsg em;
    assert_int_equal(peer_welcome_decode(buf_slice(&b), &got, &em), OK);
    assert_int_equal(got.member_id, 7);
    assert_int_equal(got.directory_id, 8);
    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(peer_welcome_decode((struct slice){ b.at, len }, &got, &em), ERR_PROTO);
    }
}

static void test_refusal_is_safe_to_log(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    peer_refusal_put(&c, true, "no\n \"way\" \x7f\xff");
    struct buf b CLEANUP(buf_deinit) = payload_of(&c);
    struct peer_refusal got;
    struct errmsg em;
    assert_int_equal(peer_refusal_decode(buf_slice(&b), &got, &em), OK);
    assert_true(got.final);
    assert_string_equal(got.text, "no? ?way? ??");
    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(peer_refusal_decode((struct slice){ b.at, len }, &got, &em), ERR_PROTO);
    }
    char longer[PEER_REFUSAL_BYTES_MAX * 2];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    peer_refusal_put(&c, false, longer);
    struct buf cut CLEANUP(buf_deinit) = payload_of(&c);
    assert_int_equal(peer_refusal_decode(buf_slice(&cut), &got, &em), OK);
    assert_int_equal(strlen(got.text), PEER_REFUSAL_BYTES_MAX);
    assert_false(got.final);
}

static void test_founder(void **state)
{
    (void)state;
    struct chain c;
    chain_init(&c, &pool);
    struct peer_founder f = {
        .group = 1, .member_id = 10, .directory_id = 11, .name = SLICE_LIT("n1"),
        .client_address = SLICE_LIT("h:1"), .list = SLICE_LIT("n1=h:2,n2=h:3"),
        .members = SLICE_LIT("\x01\x00"),
    };
    peer_founder_put(&c, &f);
    struct buf b CLEANUP(buf_deinit) = payload_of(&c);
    struct peer_founder got;
    struct errmsg em;
    assert_int_equal(peer_founder_decode(buf_slice(&b), &got, &em), OK);
    assert_int_equal(got.member_id, 10);
    assert_int_equal(got.directory_id, 11);
    assert_true(slice_eq(got.name, f.name));
    assert_true(slice_eq(got.client_address, f.client_address));
    assert_true(slice_eq(got.list, f.list));
    assert_true(slice_eq(got.members, f.members));
    for (size_t len = 0; len < b.len; len++) {
        assert_int_equal(peer_founder_decode((struct slice){ b.at, len }, &got, &em), ERR_PROTO);
    }
    b.at[24 + 2] = '\n'; /* the name's first letter */
    assert_int_equal(peer_founder_decode(buf_slice(&b), &got, &em), ERR_PROTO);
}

static int pool_begin(void **state)
{
    (void)state;
    chain_pool_init(&pool);
    return 0;
}

static int pool_end(void **state)
{
    (void)state;
    chain_pool_deinit(&pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_pinned),
        cmocka_unit_test(test_every_size_comes_back),
        cmocka_unit_test(test_every_cut_asks_for_more),
        cmocka_unit_test(test_every_flipped_bit_is_noticed_at_once),
        cmocka_unit_test(test_what_the_checksums_allow_is_still_checked),
        cmocka_unit_test(test_foreign_protocols_are_told_early),
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_a_hello_with_any_name_is_heard),
        cmocka_unit_test(test_welcome),
        cmocka_unit_test(test_refusal_is_safe_to_log),
        cmocka_unit_test(test_founder),
    };
    return cmocka_run_group_tests_name("server/peer_frame", tests, pool_begin, pool_end);
}
