/* state/state_apply.c - entries: batches, runs, operations one after the other. */
#include "state/op_int.h"
#include "state/state_int.h"

/* --- operations on the state itself --------------------------------------------------- */

enum err apply_compact(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct mvcc *m = cx->s->mvcc;
    if (o->number <= 0 || (uint64_t)o->number <= mvcc_compacted(m)) return ERR_COMPACTED;
    if ((uint64_t)o->number > mvcc_rev(m)) return ERR_FUTURE;
    mvcc_compact(m, (uint64_t)o->number);
    retention_compacted(&cx->s->retention, (uint64_t)o->number);
    res->number = o->number;
    return OK;
}

enum err apply_config(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct errmsg *message = &cx->s->scratch.message;
    message->text[0] = '\0';
    enum err err = settings_set(&cx->s->settings, o->name, o->value, message);
    if (err != OK && message->text[0] != '\0') res->text = message->text;
    return err;
}

static enum err alarm_clear_all(struct state *s, uint32_t kind)
{
    for (size_t i = s->alarm_count; i > 0; i--) {
        if (s->alarms[i - 1].kind == kind) state_alarm_set(s, kind, s->alarms[i - 1].member, false);
    }
    return OK;
}

/* Member 0 clears for all. */
enum err apply_alarm(struct apply *cx, const struct op *o, struct op_result *res)
{
    bool raise = (o->flags & OPF_NX) != 0;
    size_t before = cx->s->alarm_count;
    if (o->number < ALARM_NOSPACE || o->number > ALARM_CORRUPT) return ERR_NOT_FOUND;
    if (o->id == 0) return raise ? ERR_MEMBER : alarm_clear_all(cx->s, (uint32_t)o->number);
    if (!state_alarm_set(cx->s, (uint32_t)o->number, o->id, raise)) return ERR_LIMIT;
    res->applied = cx->s->alarm_count != before;
    return OK;
}

static enum err apply_incarnation(struct apply *cx, const struct op *o, struct op_result *res)
{
    if (o->number <= 0 || o->number > UINT32_MAX) return ERR_MEMBER;
    res->applied = dedup_raise(&cx->s->dedup, o->id, (uint32_t)o->number);
    return OK;
}

/* --- one operation -------------------------------------------------------------------- */

static enum err dispatch(struct apply *cx, const struct op *o, struct op_result *res)
{
    cx->kind = o->kind;
    switch ((int)o->kind) {
    case OP_PUT:
        return apply_put(cx, o, res);
    case OP_TXN:
        return apply_txn(cx, o, res);
    case OP_LEASE_GRANT:
        return apply_lease_grant(cx, o, res);
    case OP_LEASE_REVOKE:
        return apply_lease_revoke(cx, o, res);
    case OP_LEASE_KEEPALIVE:
        return apply_lease_keepalive(cx, o, res);
    case OP_LEASE_ATTACH:
        return apply_lease_attach(cx, o, res);
    case OP_EXPIRE:
        return apply_expire(cx, o, res);
    case OP_COMPACT:
        return apply_compact(cx, o, res);
    case OP_CONFIG:
        return apply_config(cx, o, res);
    case OP_CLOCK:
        return OK;
    case OP_ALARM:
        return apply_alarm(cx, o, res);
    case OP_INCARNATION:
        return apply_incarnation(cx, o, res);
    default:
        return apply_element(cx, o, res);
    }
}

/* Limits that hold for every kind. OP_EXPIRE is the group's own and bounded by state_due. */
static enum err admit(const struct state *s, const struct op *o, size_t op_bytes)
{
    if (UNLIKELY(op_bytes > s->settings.request_bytes_max && o->kind != OP_EXPIRE)) {
        return ERR_REQUEST_LIMIT;
    }
    return UNLIKELY(state_refuses_growth(s, o)) ? ERR_NOSPACE : OK;
}

/* What the result showed goes. */
static void operation_end(struct state *s)
{
    if (UNLIKELY(s->txn->active)) txn_end(s->txn);
    struct buf *taken = &s->scratch.taken;
    for (size_t at = 0; at < taken->len; at += sizeof(struct entry *)) {
        struct entry *e = NULL;
        memcpy(&e, taken->at + at, sizeof e);
        mvcc_entry_free(e);
    }
    buf_clear(taken);
}

/* An operation that must not be applied (again). Its origin knows the outcome, or gave up. */
static bool refuse_repeated(struct state *s, const struct op_run *run, uint64_t seq,
                            struct op_result *res)
{
    enum dedup_verdict verdict =
        dedup_check(&s->dedup, run->member, run->incarnation, seq, run->floor_seq);
    if (MUTANT(DEDUP_OFF) && verdict == DEDUP_DUPLICATE) verdict = DEDUP_APPLY;
    bool late = run->give_up_stamp_ms != 0 && s->stamp_ms > run->give_up_stamp_ms;
    if (LIKELY(verdict == DEDUP_APPLY && !late)) return false;
    res->skipped = true;
    if (verdict == DEDUP_DUPLICATE) return true;
    res->err = verdict == DEDUP_TOO_FAR ? ERR_BUSY : ERR_TIMEOUT;
    return true;
}

/* One store after the other: `rep stos` would cost more than the rest of a put's bookkeeping. What
 * the flags guard stays as it is. */
static inline void result_clear(struct op_result *res)
{
    res->err = OK;
    res->text = NULL;
    res->applied = false;
    res->skipped = false;
    res->rev = 0;
    res->number = 0;
    res->id = 0;
    res->ttl_ms = 0;
    res->has_prev = false;
    res->prevs = NULL;
    res->prev_count = 0;
    res->key = SLICE_NONE;
    res->numbers = NULL;
    res->number_count = 0;
    res->txn_succeeded = false;
    res->txn_failed_has_kv = false;
    res->txn_failed_index = 0;
}

static void apply_one(struct state *s, const struct apply_sink *sink, const struct op_run *run,
                      const struct apply_origin *origin, const struct op *o, size_t op_bytes)
{
    struct op_result *res = &s->result;
    uint64_t rev = mvcc_rev(s->mvcc);
    result_clear(res);
    if (sink->before != NULL) sink->before(sink->ctx, origin);
    if (LIKELY(!refuse_repeated(s, run, origin->seq, res))) {
        struct apply cx = { .s = s, .sink = sink, .origin = origin, .rev = rev + 1 };
        res->applied = true;
        res->err = admit(s, o, op_bytes);
        if (LIKELY(res->err == OK)) res->err = dispatch(&cx, o, res);
        if (UNLIKELY(res->err != OK)) {
            *res = (struct op_result){ .err = res->err, .text = res->text };
        }
        ASSERT(cx.n == 0 || res->err == OK);              /* a refusal has changed nothing */
        ASSERT(mvcc_rev(s->mvcc) == rev + (cx.n != 0)); /* I2 */
    }
    res->rev = mvcc_rev(s->mvcc);
    if (sink->result != NULL) sink->result(sink->ctx, origin, o, res);
    operation_end(s);
}

/* --- runs and batches ----------------------------------------------------------------- */

static enum err group_decode(const struct mvcc *m, struct apply_group *g, const struct op_run *run,
                             size_t *offset, struct errmsg *em)
{
    for (size_t i = 0; i < g->count; i++) {
        size_t start = *offset;
        enum err err = op_decode_into(run->ops, offset, &g->ops[i]);
        if (UNLIKELY(err != OK)) {
            errmsg_set(em, "operation at byte %zu of a run of member %llu: %s", start,
                       (unsigned long long)run->member,
                       err == ERR_UNSUPPORTED ? "a newer version is needed" : err_text(err));
            return err;
        }
        g->bytes[i] = *offset - start;
        if ((g->ops[i].fields & FIELD_KEY) == 0) continue;
        g->hash[i] = mvcc_key_hash(m, g->ops[i].key);
        mvcc_prefetch_slot(m, g->hash[i]);
    }
    if (g->count == 1) return OK;
    for (size_t i = 0; i < g->count; i++) {
        if ((g->ops[i].fields & FIELD_KEY) != 0) mvcc_prefetch_entry(m, g->hash[i]);
    }
    return OK;
}

static enum err apply_run(struct state *s, const struct apply_sink *sink, const struct op_run *run,
                          struct apply_origin origin, struct errmsg *em)
{
    struct apply_group *g = &s->group;
    size_t offset = 0;
    origin.member = run->member;
    origin.incarnation = run->incarnation;
    for (uint32_t done = 0; done < run->op_count; done += (uint32_t)g->count) {
        g->count = MIN(run->op_count - done, APPLY_GROUP_MAX);
        TRY(group_decode(s->mvcc, g, run, &offset, em));
        for (size_t i = 0; i < g->count; i++) {
            origin.seq = run->first_seq + done + i;
            apply_one(s, sink, run, &origin, &g->ops[i], g->bytes[i]);
        }
    }
    if (offset == run->ops.len) return OK;
    errmsg_set(em, "%zu bytes behind the last operation of a run", run->ops.len - offset);
    return ERR_CORRUPT;
}

static enum err apply_batch(struct state *s, const struct apply_sink *sink, struct slice body,
                            struct apply_origin origin, struct errmsg *em)
{
    struct op_batch_head head;
    size_t offset = 0;
    uint64_t op_count = 0;
    TRY(op_batch_decode_head(body, &offset, &head, em));
    if (head.stamp_ms < s->stamp_ms) {
        errmsg_set(em, "entry %llu: its stamp is before that of the one before",
                   (unsigned long long)origin.index);
        return ERR_CORRUPT;
    }
    s->stamp_ms = head.stamp_ms;
    s->wall_ms = head.wall_ms;
    for (uint32_t i = 0; i < head.run_count; i++) {
        struct op_run run;
        TRY(op_batch_decode_run(body, &offset, &run, em));
        TRY(apply_run(s, sink, &run, origin, em));
        op_count += run.op_count;
    }
    if (offset == body.len && op_count == head.op_count) return OK;
    errmsg_set(em, "entry %llu: batch does not end where it says",
               (unsigned long long)origin.index);
    return ERR_CORRUPT;
}

enum err state_apply(struct state *s, uint64_t index, uint64_t term, struct slice body,
                     const struct apply_sink *sink, struct errmsg *em)
{
    static const struct apply_sink nobody = { .ctx = NULL };
    ASSERT(index == s->applied_index + 1);
    ASSERT(term >= s->applied_term);
    if (sink == NULL) sink = &nobody;
    if (body.len != 0) {
        TRY(apply_batch(s, sink, body, (struct apply_origin){ .index = index, .term = term }, em));
        retention_note(&s->retention, &s->settings, s->stamp_ms, mvcc_rev(s->mvcc));
    }
    s->applied_index = index;
    s->applied_term = term;
    if (sink->batch_end != NULL) sink->batch_end(sink->ctx, index);
    return OK;
}
