/* Feeds batches to the decoder and, where they are sound, to two states with different hash seeds:
 * whatever foreign bytes say, nothing crashes, both end in the same state, and its invariants hold.
 *
 * Input: byte 0 bit 0: the rest is the body of an entry as it stands; else it is operations, and
 * as many as are sound are put into a batch. Build with clang -fsanitize=fuzzer,address,undefined;
 * or with -DFUZZ_STANDALONE for a program that replays files (fuzz FILE...) or changes them at
 * random (fuzz -r SEED COUNT FILE...).
 */
#include "fuzz_main.h"

#include "state/state.h"

#define WALK_KEYS_MAX 1000

static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "op_fuzz: %s\n", what);
    abort();
}

/* --- looking at everything that is shown ---------------------------------------------- */

static uint64_t touched;

static void touch(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) touched += s.at[i];
}

static void on_event(void *ctx, const struct mvcc_event *ev)
{
    (void)ctx;
    touch(ev->key);
    touch(ev->value);
    touch(ev->prev_value);
}

static bool on_wants_prev(void *ctx, struct slice key)
{
    (void)ctx;
    return key.len % 2 == 0;
}

static void look_at_result(const struct op_result *res)
{
    if (res->has_prev) touch(res->prev.value);
    for (size_t i = 0; i < res->prev_count; i++) {
        touch(res->prevs[i].key);
        touch(res->prevs[i].value);
    }
    for (size_t i = 0; i < res->number_count; i++) touched += (uint64_t)res->numbers[i];
    touch(res->key);
    if (res->txn_failed_has_kv) touch(res->txn_failed_kv.value);
    must(res->err == OK || !res->applied, "a refusal was applied");
}

static void on_result(void *ctx, const struct apply_origin *o, const struct op *op,
                      const struct op_result *res)
{
    (void)ctx;
    (void)o;
    touch(op->key);
    look_at_result(res);
}

static void on_element(void *ctx, const struct apply_origin *o, uint32_t ordinal,
                       const struct op *op, const struct op_result *res, const struct view *v)
{
    (void)ctx;
    (void)o;
    (void)ordinal;
    look_at_result(res);
    if (op->kind != OP_LOCAL || res->skipped) return;
    struct view_iter it;
    struct kv kv;
    view_iter_init(&it, v, SLICE_LIT("\0"), SLICE_NONE, ordinal % 2 == 1);
    for (size_t i = 0; i < WALK_KEYS_MAX && view_iter_next(&it, &kv); i++) touch(kv.value);
}

/* --- one input ------------------------------------------------------------------------ */

/* The sound operations at the front of `in`, as a batch. */
static void batch_of(struct slice in, struct buf *batch)
{
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = 1000, .wall_ms = 1000000 };
    struct op_run run = { .member = 1, .incarnation = 1, .first_seq = 1, .floor_seq = 1 };
    struct op o;
    size_t offset = 0;
    while (op_decode(in, &offset, &o) == OK) run.op_count++;
    op_batch_begin(batch);
    buf_append(batch, in.at, offset);
    op_batch_seal(batch, &head, &run);
}

static void apply_twice(struct slice body)
{
    struct state *one = state_new(1), *two = state_new(2);
    struct apply_sink sink = { .wants_prev = on_wants_prev, .event = on_event,
                               .result = on_result, .element = on_element };
    struct op_batch_head head;
    struct errmsg em;
    enum err checked = op_batch_check(body, &head, &em);
    for (uint64_t index = 1; index <= 3; index++) {
        enum err err = state_apply(one, index, 1, body, &sink, &em);
        enum err twin = state_apply(two, index, 1, body, NULL, &em);
        must(err == twin, "replicas differ in their answer");
        must((err == OK) == (checked == OK), "check and apply differ");
        must(state_hash(one) == state_hash(two), "replicas differ in their state");
        mvcc_check(state_mvcc(one));
        lease_table_check(state_leases(one));
        if (err != OK) break;
    }
    state_free(one);
    state_free(two);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    if (len < 2) return 0;
    uint8_t *exact = mem_copy(at + 1, len - 1);
    struct slice in = { exact, len - 1 };
    if ((at[0] & 1) != 0) {
        apply_twice(in);
    } else {
        struct buf batch = { 0 };
        batch_of(in, &batch);
        apply_twice(buf_slice(&batch));
        buf_deinit(&batch);
    }
    mem_free(exact);
    return 0;
}

/* --- without libFuzzer ---------------------------------------------------------------- */

#ifdef FUZZ_STANDALONE

static void file_read(const char *path, struct buf *out)
{
    must(fuzz_read(path, out), path);
}

static uint64_t random_state;

static size_t random_below(size_t below)
{
    random_state = u64_mix(random_state + 0x9e3779b97f4a7c15ULL);
    return below == 0 ? 0 : (size_t)(random_state % below);
}

/* Flips, sets, repeats and drops bytes; joins with another file. */
static void change(struct buf *b, const struct buf *other)
{
    size_t at = random_below(b->len);
    switch (random_below(5)) {
    case 0:
        if (b->len != 0) b->at[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        if (b->len != 0) b->at[at] = (uint8_t)random_below(256);
        break;
    case 2:
        if (b->len != 0) b->len = at;
        break;
    case 3:
        if (other->len > 1) buf_append(b, other->at + 1, other->len - 1);
        break;
    default:
        if (b->len - at >= 4) u32_le_put(b->at + at, (uint32_t)random_below(64));
        break;
    }
}

static void run_random(uint64_t seed, size_t count, char **paths, size_t path_count)
{
    struct buf b = { 0 }, other = { 0 };
    random_state = seed;
    for (size_t i = 0; i < count; i++) {
        file_read(paths[random_below(path_count)], &b);
        for (size_t changes = random_below(8); changes > 0; changes--) {
            file_read(paths[random_below(path_count)], &other);
            change(&b, &other);
        }
        LLVMFuzzerTestOneInput(b.at, b.len);
    }
    buf_deinit(&b);
    buf_deinit(&other);
}

int main(int argc, char **argv)
{
    if (argc > 4 && slice_is(slice_of(argv[1]), "-r")) {
        run_random(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), argv + 4,
                   (size_t)argc - 4);
        return 0;
    }
    return fuzz_main(argc, argv, NULL);
}

#endif
