/* state/op_batch.c - batches: what one entry of the log holds. */
#include "state/op.h"
#include "state/op_int.h"

/* --- writing ---------------------------------------------------------------------- */

enum { OFFSET_OP_COUNT = 24, OFFSET_RUN_COUNT = 28 }; /* in the batch's head */

void op_batch_begin(struct buf *b)
{
    ASSERT(b->len == 0);
    memset(buf_reserve(b, OP_BATCH_HEAD_BYTES + OP_RUN_HEAD_BYTES), 0,
           OP_BATCH_HEAD_BYTES + OP_RUN_HEAD_BYTES);
    b->len = OP_BATCH_HEAD_BYTES + OP_RUN_HEAD_BYTES;
}

static void run_head_put(uint8_t *to, const struct op_run *run, size_t ops_bytes)
{
    ASSERT(ops_bytes <= UINT32_MAX);
    u64_le_put(to, run->member);
    u64_le_put(to + 8, run->first_seq);
    u64_le_put(to + 16, run->floor_seq);
    u64_le_put(to + 24, run->give_up_stamp_ms);
    u32_le_put(to + 32, run->incarnation);
    u32_le_put(to + 36, run->op_count);
    u32_le_put(to + 40, (uint32_t)ops_bytes);
    u32_le_put(to + 44, 0);
}

void op_batch_seal(struct buf *b, const struct op_batch_head *head, const struct op_run *own)
{
    ASSERT(b->len >= OP_BATCH_HEAD_BYTES + OP_RUN_HEAD_BYTES);
    size_t ops_bytes = b->len - OP_BATCH_HEAD_BYTES - OP_RUN_HEAD_BYTES;
    ASSERT((own->op_count == 0) == (ops_bytes == 0));
    if (own->op_count == 0) {
        b->len = OP_BATCH_HEAD_BYTES; /* without operations of its own: no run for them */
    } else {
        run_head_put(b->at + OP_BATCH_HEAD_BYTES, own, ops_bytes);
    }
    u16_le_put(b->at, OP_BATCH_FORMAT);
    u16_le_put(b->at + 2, head->feature_level);
    u32_le_put(b->at + 4, head->group);
    u64_le_put(b->at + 8, head->stamp_ms);
    u64_le_put(b->at + 16, (uint64_t)head->wall_ms);
    u32_le_put(b->at + OFFSET_OP_COUNT, own->op_count);
    u32_le_put(b->at + OFFSET_RUN_COUNT, own->op_count != 0);
}

void op_batch_add_run(struct buf *b, const struct op_run *run)
{
    ASSERT(b->len >= OP_BATCH_HEAD_BYTES);
    ASSERT(run->op_count > 0);
    run_head_put(buf_reserve(b, OP_RUN_HEAD_BYTES), run, run->ops.len);
    b->len += OP_RUN_HEAD_BYTES;
    buf_append_slice(b, run->ops);
    u32_le_put(b->at + OFFSET_OP_COUNT, u32_le(b->at + OFFSET_OP_COUNT) + run->op_count);
    u32_le_put(b->at + OFFSET_RUN_COUNT, u32_le(b->at + OFFSET_RUN_COUNT) + 1);
}

void op_batch_add_runs(struct buf *b, struct slice runs, uint32_t run_count, uint32_t op_count)
{
    ASSERT(b->len >= OP_BATCH_HEAD_BYTES);
    buf_append_slice(b, runs);
    u32_le_put(b->at + OFFSET_OP_COUNT, u32_le(b->at + OFFSET_OP_COUNT) + op_count);
    u32_le_put(b->at + OFFSET_RUN_COUNT, u32_le(b->at + OFFSET_RUN_COUNT) + run_count);
}

/* --- reading ----------------------------------------------------------------------- */

enum err op_batch_decode_head(struct slice body, size_t *offset, struct op_batch_head *out,
                              struct errmsg *em)
{
    if (body.len < OP_BATCH_HEAD_BYTES) {
        errmsg_set(em, "batch of %zu bytes has no head", body.len);
        return ERR_CORRUPT;
    }
    struct op_batch_head head = {
        .format = u16_le(body.at), .feature_level = u16_le(body.at + 2),
        .group = u32_le(body.at + 4), .stamp_ms = u64_le(body.at + 8),
        .wall_ms = (int64_t)u64_le(body.at + 16),
        .op_count = u32_le(body.at + OFFSET_OP_COUNT),
        .run_count = u32_le(body.at + OFFSET_RUN_COUNT),
    };
    if (head.format != OP_BATCH_FORMAT) {
        errmsg_set(em, "batch has format %u, this version knows %u", head.format, OP_BATCH_FORMAT);
        return ERR_UNSUPPORTED;
    }
    if (head.feature_level > OP_FEATURE_LEVEL) {
        errmsg_set(em, "batch needs feature level %u, this version has %u", head.feature_level,
                   OP_FEATURE_LEVEL);
        return ERR_UNSUPPORTED;
    }
    if (head.stamp_ms > OP_CLOCK_MS_MAX || head.wall_ms > OP_CLOCK_MS_MAX ||
        head.wall_ms < -OP_CLOCK_MS_MAX) {
        errmsg_set(em, "batch has a clock out of range");
        return ERR_CORRUPT;
    }
    *out = head;
    *offset = OP_BATCH_HEAD_BYTES;
    return OK;
}

static bool run_head_is_sound(const struct op_run *run, const uint8_t *head, size_t left)
{
    return run->op_count > 0 && run->ops.len <= left &&
           run->ops.len >= (uint64_t)run->op_count * OP_HEAD_BYTES && u32_le(head + 44) == 0 &&
           run->first_seq <= UINT64_MAX - run->op_count;
}

enum err op_batch_decode_run(struct slice body, size_t *offset, struct op_run *out,
                             struct errmsg *em)
{
    ASSERT(*offset <= body.len);
    if (body.len - *offset < OP_RUN_HEAD_BYTES) {
        errmsg_set(em, "batch ends inside the head of a run at byte %zu", *offset);
        return ERR_CORRUPT;
    }
    const uint8_t *head = body.at + *offset;
    struct op_run run = {
        .member = u64_le(head), .first_seq = u64_le(head + 8), .floor_seq = u64_le(head + 16),
        .give_up_stamp_ms = u64_le(head + 24), .incarnation = u32_le(head + 32),
        .op_count = u32_le(head + 36),
        .ops = { head + OP_RUN_HEAD_BYTES, u32_le(head + 40) },
    };
    if (!run_head_is_sound(&run, head, body.len - *offset - OP_RUN_HEAD_BYTES)) {
        errmsg_set(em, "bad head of a run at byte %zu of a batch", *offset);
        return ERR_CORRUPT;
    }
    *out = run;
    *offset += OP_RUN_HEAD_BYTES + run.ops.len;
    return OK;
}

static enum err run_check(const struct op_run *run, struct errmsg *em)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < run->op_count; i++) {
        struct op o;
        enum err err = op_decode_into(run->ops, &offset, &o);
        if (err != OK) {
            errmsg_set(em, "operation %u of a run, at byte %zu: %s", i, offset, err_text(err));
            return err;
        }
    }
    if (offset == run->ops.len) return OK;
    errmsg_set(em, "%zu bytes behind the last operation of a run", run->ops.len - offset);
    return ERR_CORRUPT;
}

enum err op_run_check(struct slice bytes, struct op_run *out, struct errmsg *em)
{
    struct op_run run;
    size_t offset = 0;
    TRY(op_batch_decode_run(bytes, &offset, &run, em));
    TRY(run_check(&run, em));
    if (offset != bytes.len) {
        errmsg_set(em, "%zu bytes behind a run", bytes.len - offset);
        return ERR_CORRUPT;
    }
    *out = run;
    return OK;
}

enum err op_batch_check(struct slice body, struct op_batch_head *head, struct errmsg *em)
{
    struct op_batch_head found;
    size_t offset = 0;
    uint64_t op_count = 0;
    TRY(op_batch_decode_head(body, &offset, &found, em));
    for (uint32_t i = 0; i < found.run_count; i++) {
        struct op_run run;
        TRY(op_batch_decode_run(body, &offset, &run, em));
        TRY(run_check(&run, em));
        op_count += run.op_count;
    }
    if (offset != body.len || op_count != found.op_count) {
        errmsg_set(em, "batch says %u operations, has %llu, and %zu bytes behind them",
                   found.op_count, (unsigned long long)op_count, body.len - offset);
        return ERR_CORRUPT;
    }
    *head = found;
    return OK;
}

bool op_batch_next_run(struct slice body, size_t *offset, struct op_run *out)
{
    ASSERT(body.len >= OP_BATCH_HEAD_BYTES);
    if (*offset == 0) *offset = OP_BATCH_HEAD_BYTES;
    if (*offset == body.len) return false;
    enum err err = op_batch_decode_run(body, offset, out, NULL);
    ASSERT(err == OK); /* the batch was checked */
    return true;
}
