/* Loading: every damage is refused, whatever a checksum says; nothing is guessed. */
#include "checkpoint_lab.h"

#include "state/checkpoint_int.h"

#define STORE_BATCHES 100

/* A store with leases, lifetimes of both kinds, history and a compaction, cut a few times. */
static struct lab_store some_store(void)
{
    struct lab l = { .random = 4711, .incarnation = 1 };
    struct lab_store store = { 0 };
    struct state *s = state_new(1);
    for (size_t i = 0; i < STORE_BATCHES; i++) {
        struct slice batch = lab_batch(&l, s);
        lab_apply(s, l.index, batch);
        if (i % 20 == 0) lab_cut(&store, s);
    }
    lab_cut(&store, s);
    assert_true(mvcc_compacted(s->mvcc) > 0);
    assert_true(lease_count(s->leases) > 0);
    assert_int_equal(store.metas[store.meta_count - 1].name->at[0], 'T');
    state_free(s);
    lab_deinit(&l);
    return store;
}

static enum err load_result(const struct lab_store *store)
{
    enum err err;
    struct errmsg em = { "" };
    struct state *s = lab_load(store, 5, NULL, &err, &em);
    assert_int_equal(s != NULL, err == OK);
    if (err != OK && err != ERR_CORRUPT) assert_int_equal(err, ERR_UNSUPPORTED);
    state_free(s);
    return err;
}

static size_t find_meta(const struct lab_store *store, char letter)
{
    size_t at = 0;
    while (at < store->meta_count && store->metas[at].name->at[0] != (uint8_t)letter) at++;
    assert_true(at < store->meta_count);
    return at;
}

/* Makes a damaged value look sound. */
static void sign(struct lab_meta *m)
{
    size_t body = m->value->len - META_CRC_BYTES;
    u32_le_put(m->value->at + body,
               meta_crc(blob_slice(m->name), (struct slice){ m->value->at, body }));
}

static void test_sound_store_loads(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    assert_int_equal(load_result(&store), OK);
    lab_store_deinit(&store);
}

static void test_any_flipped_bit_of_a_meta_is_refused(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    struct state *s = state_new(1);
    struct checkpoint_load *load = checkpoint_load_begin(s);
    for (size_t at = 0; at < store.meta_count; at++) {
        struct blob *value = store.metas[at].value, *name = store.metas[at].name;
        for (size_t bit = 0; bit < 8 * (value->len + name->len - 1); bit++) {
            uint8_t *byte = bit / 8 < value->len ? value->at + bit / 8
                                                 : name->at + 1 + (bit / 8 - value->len);
            *byte ^= (uint8_t)(1u << (bit % 8));
            enum err got = checkpoint_load_meta(load, blob_slice(name), blob_slice(value), NULL);
            assert_int_equal(got, ERR_CORRUPT);
            *byte ^= (uint8_t)(1u << (bit % 8));
        }
    }
    checkpoint_load_free(load);
    struct state *fresh = state_new(1);
    assert_int_equal(state_hash(s), state_hash(fresh)); /* refused before anything was done */
    state_free(fresh);
    state_free(s);
    assert_int_equal(load_result(&store), OK);
    lab_store_deinit(&store);
}

/* With a right checksum: what the hash covers is noticed, or refused before. */
static void test_signed_damage_of_leases_and_lives_is_refused(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    size_t tried = 0;
    for (size_t at = 0; at < store.meta_count; at++) {
        struct lab_meta *m = &store.metas[at];
        if (m->name->at[0] == 'S') continue;
        for (size_t i = 0; i < m->value->len - META_CRC_BYTES; i++, tried++) {
            m->value->at[i] ^= (uint8_t)(1u << (tried % 8));
            sign(m);
            assert_int_not_equal(load_result(&store), OK);
            m->value->at[i] ^= (uint8_t)(1u << (tried % 8));
            sign(m);
        }
    }
    assert_true(tried > 50);
    assert_int_equal(load_result(&store), OK);
    lab_store_deinit(&store);
}

/* The record of the state: cutting or changing it never crashes; what the hash covers is refused.
 * Bytes 33.. 80: revision, compacted, live keys, hash, next lease id, leases. */
static void test_signed_damage_of_the_state_record(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    struct lab_meta *m = &store.metas[find_meta(&store, 'S')];
    for (size_t i = 0; i < m->value->len - META_CRC_BYTES; i++) {
        m->value->at[i] ^= (uint8_t)(1u << (i * 3 % 8));
        sign(m);
        enum err err = load_result(&store);
        if (i == 0 || (i >= 33 && i < 81)) assert_int_not_equal(err, OK);
        m->value->at[i] ^= (uint8_t)(1u << (i * 3 % 8));
    }
    struct blob *whole = m->value;
    for (size_t len = 0; len < whole->len; len += 1 + len / 16) {
        m->value = blob_copy((struct slice){ whole->at, len });
        if (len >= 1 + META_CRC_BYTES) sign(m);
        assert_int_not_equal(load_result(&store), OK);
        blob_unref(m->value);
    }
    m->value = whole;
    sign(m);
    assert_int_equal(load_result(&store), OK);
    lab_store_deinit(&store);
}

static void test_a_missing_name_is_refused(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    for (size_t at = 0; at < store.meta_count; at++) {
        struct lab_store less = { .packs = store.packs, .pack_count = store.pack_count };
        less.metas = mem_alloc(store.meta_count * sizeof *less.metas);
        for (size_t i = 0; i < store.meta_count; i++) {
            if (i != at) less.metas[less.meta_count++] = store.metas[i];
        }
        assert_int_equal(load_result(&less), ERR_CORRUPT);
        mem_free(less.metas);
    }
    lab_store_deinit(&store);
}

static void test_missing_swapped_and_cut_packs_are_refused(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    assert_true(store.pack_count >= 2);
    struct lab_store less = store;
    less.pack_count--; /* the last one is gone */
    assert_int_equal(load_result(&less), ERR_CORRUPT);
    size_t refused = 0;
    for (size_t at = 0; at < store.pack_count; at++) { /* fine only where all of it was dead */
        less = (struct lab_store){ .metas = store.metas, .meta_count = store.meta_count };
        less.packs = mem_alloc(store.pack_count * sizeof *less.packs);
        for (size_t i = 0; i < store.pack_count; i++) {
            if (i != at) less.packs[less.pack_count++] = store.packs[i];
        }
        refused += load_result(&less) != OK;
        mem_free(less.packs);
    }
    assert_true(refused * 2 > store.pack_count);

    struct lab_pack first = store.packs[0];
    store.packs[0] = store.packs[1];
    store.packs[1] = first;
    assert_int_equal(load_result(&store), ERR_CORRUPT);
    store.packs[1] = store.packs[0];
    store.packs[0] = first;

    struct blob *whole = store.packs[1].body;
    for (size_t len = 0; len < whole->len; len += 1 + len / 16) {
        store.packs[1].body = blob_copy((struct slice){ whole->at, len });
        assert_int_equal(load_result(&store), ERR_CORRUPT);
        blob_unref(store.packs[1].body);
    }
    store.packs[1].body = whole;
    assert_int_equal(load_result(&store), OK);
    lab_store_deinit(&store);
}

/* A record of a lifetime that belongs to no row any more means nothing and is cleaned up. */
static void test_left_over_lifetime_is_forgotten(void **state)
{
    (void)state;
    struct lab_store store = some_store();
    struct lab_meta last = store.metas[store.meta_count - 1];
    struct lab_meta extra = { blob_copy(SLICE_LIT("T\0zzz")), blob_copy(blob_slice(last.value)) };
    sign(&extra);
    lab_put(&store, blob_slice(extra.name), blob_slice(extra.value));
    enum err err;
    struct errmsg em = { "" };
    struct state *s = lab_load(&store, 5, NULL, &err, &em);
    assert_non_null(s);
    lab_cut(&store, s); /* deletes it */
    bool found;
    (void)lab_place(&store, blob_slice(extra.name), &found);
    assert_false(found);
    assert_int_equal(load_result(&store), OK);
    state_free(s);
    blob_unref(extra.name);
    blob_unref(extra.value);
    lab_store_deinit(&store);
}

static const struct {
    const char *label;
    struct slice name, versioned_body;
    enum err want;
} metas[] = {
    { "lease", SLICE_LIT("L\0\0\0\0\0\0\0\1"), SLICE_LIT("\1\x64\x64"), OK },
    { "later version", SLICE_LIT("L\0\0\0\0\0\0\0\1"), SLICE_LIT("\2\x64\x64"), ERR_UNSUPPORTED },
    { "lease 0", SLICE_LIT("L\0\0\0\0\0\0\0\0"), SLICE_LIT("\1\x64\x64"), ERR_CORRUPT },
    { "short id", SLICE_LIT("L\0\0\0\0\0\0\1"), SLICE_LIT("\1\x64\x64"), ERR_CORRUPT },
    { "cut", SLICE_LIT("L\0\0\0\0\0\0\0\1"), SLICE_LIT("\1\x64"), ERR_CORRUPT },
    { "too long", SLICE_LIT("L\0\0\0\0\0\0\0\1"), SLICE_LIT("\1\x64\x64\1"), ERR_CORRUPT },
    { "ttl below the floor", SLICE_LIT("L\0\0\0\0\0\0\0\1"), SLICE_LIT("\1\x63\x64"), ERR_CORRUPT },
    { "lifetime", SLICE_LIT("T\0k"), SLICE_LIT("\1\2\0\5\6\7"), OK },
    { "lifetime without key", SLICE_LIT("T"), SLICE_LIT("\1\2\0\5\6\7"), ERR_CORRUPT },
    { "cut lifetime", SLICE_LIT("T\0k"), SLICE_LIT("\1\2\0\5\6"), ERR_CORRUPT },
    { "long lifetime", SLICE_LIT("T\0k"), SLICE_LIT("\1\2\0\5\6\7\7"), ERR_CORRUPT },
    { "negative deadline", SLICE_LIT("T\0k"),
      SLICE_LIT("\1\2\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\6\7"), ERR_CORRUPT },
    { "unknown name", SLICE_LIT("Sx"), SLICE_LIT("\1"), ERR_CORRUPT },
    { "empty state", SLICE_LIT("S"), SLICE_LIT("\1"), ERR_CORRUPT },
    { "no version", SLICE_LIT("S"), SLICE_LIT(""), ERR_CORRUPT },
};

static void test_meta_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(metas); i++) {
        struct state *s = state_new(1);
        struct checkpoint_load *load = checkpoint_load_begin(s);
        struct buf value = { 0 };
        struct errmsg em = { "" };
        buf_append_slice(&value, metas[i].versioned_body);
        buf_append_u32(&value, meta_crc(metas[i].name, metas[i].versioned_body));
        enum err got = checkpoint_load_meta(load, metas[i].name, buf_slice(&value), &em);
        if (got != metas[i].want) fail_msg("%s: got %s", metas[i].label, err_name(got));
        assert_int_equal(got != OK, em.text[0] != '\0');
        /* Never whole without the record of the state. */
        struct slice pack = { (const uint8_t *)"\1", 1 };
        assert_int_equal(checkpoint_load_pack(load, 1, pack, NULL, &em), ERR_CORRUPT);
        assert_int_equal(checkpoint_load_end(load, &em), ERR_CORRUPT);
        buf_deinit(&value);
        state_free(s);
    }
    checkpoint_load_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_store_loads),
        cmocka_unit_test(test_any_flipped_bit_of_a_meta_is_refused),
        cmocka_unit_test(test_signed_damage_of_leases_and_lives_is_refused),
        cmocka_unit_test(test_signed_damage_of_the_state_record),
        cmocka_unit_test(test_a_missing_name_is_refused),
        cmocka_unit_test(test_missing_swapped_and_cut_packs_are_refused),
        cmocka_unit_test(test_left_over_lifetime_is_forgotten),
        cmocka_unit_test(test_meta_table),
    };
    return cmocka_run_group_tests_name("state/checkpoint_load", tests, NULL, NULL);
}
