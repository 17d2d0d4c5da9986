/* state/state_apply_string.c - operations on strings: put and what computes a new value. */
#include "state/real.h"
#include "state/state_int.h"

#define SEQ_REV_DIGITS 16
#define SEQ_POSITION_DIGITS 4
#define SEQ_POSITION_MAX 9999

/* --- limits and conditions ------------------------------------------------------------ */

static enum err check_key(const struct apply *cx, struct slice key)
{
    ASSERT(key.len > 0);
    return key.len - 1 <= cx->s->settings.key_bytes_max ? OK : ERR_KEY_LIMIT;
}

static enum err check_value(const struct apply *cx, struct slice value)
{
    return value.len <= cx->s->settings.value_bytes_max ? OK : ERR_VALUE_LIMIT;
}

/* FENCE: the lock must still be the one the client got. */
static enum err fence_check(const struct apply *cx, struct slice lock, uint64_t token)
{
    struct kv kv;
    struct view v = apply_view(cx);
    if (!view_get(&v, lock, &kv)) return ERR_FENCED;
    return kv.create == token ? OK : ERR_FENCED;
}

enum err apply_condition(const struct apply *cx, const struct op *o, const struct kv *kv, bool *met)
{
    bool by_value = o->cond == COND_VALUE_EQ || o->cond == COND_VALUE_NE;
    if (by_value && kv != NULL && kv->type != VALUE_STRING) {
        *met = false;
        return (o->flags & OPF_KV) != 0 ? OK : ERR_WRONGTYPE;
    }
    switch (o->cond) {
    case COND_NONE:
        *met = true;
        return OK;
    case COND_MISSING:
        *met = kv == NULL;
        return OK;
    case COND_EXISTS:
        *met = kv != NULL;
        return OK;
    case COND_VALUE_EQ:
        *met = kv != NULL && slice_eq(kv->value, o->cond_bytes);
        return OK;
    case COND_VALUE_NE:
        *met = kv == NULL || !slice_eq(kv->value, o->cond_bytes);
        return OK;
    case COND_MOD_EQ:
        *met = (kv == NULL ? 0 : kv->mod) == o->cond_number;
        return OK;
    case COND_FENCE:
        *met = true;
        return fence_check(cx, o->cond_bytes, o->cond_number);
    case COND_END:
        break;
    }
    ASSERT(false); /* op_decode refuses the rest */
    return ERR_UNSUPPORTED;
}

/* --- put ------------------------------------------------------------------------------ */

#define PUT_LOOKS (OPF_PREV | OPF_KEEP_VALUE | OPF_MUST_EXIST)

/* Does anything about this put depend on what is there? */
static bool put_looks(const struct op *o)
{
    return o->cond != COND_NONE || o->life != LIFE_DROP || (o->flags & PUT_LOOKS) != 0;
}

/* A time that has passed: the key is gone afterwards, as if it had been put and had expired. */
static enum err put_past(struct apply *cx, const struct op *o, const struct kv *former)
{
    if (former == NULL) return OK;
    TRY(change_allow_key(cx, o->key));
    change_delete(cx, o->key, ROW_DEL, (o->flags & OPF_PREV) != 0, false);
    return OK;
}

static enum err put_write(struct apply *cx, const struct op *o, const struct kv *former)
{
    bool past = false;
    struct change c = { .key = o->key, .value = o->value, .type = VALUE_STRING,
                        .known_missing = former == NULL,
                        .keep_former = (o->flags & OPF_PREV) != 0 };
    TRY(change_plan(cx, o, &c.plan, &past));
    if (past) return put_past(cx, o, former);
    if ((o->flags & OPF_KEEP_VALUE) != 0) {
        ASSERT(former != NULL);
        c.value = former->value;
        c.type = former->type;
        c.value_is_former = true;
    }
    return change_put(cx, &c);
}

static enum err put_looking(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    struct view v = apply_view(cx);
    const struct kv *former = view_get(&v, o->key, &kv) ? &kv : NULL;
    bool met = false;
    if (former == NULL && (o->flags & (OPF_KEEP_VALUE | OPF_MUST_EXIST)) != 0) {
        return ERR_KEY_NOT_FOUND;
    }
    bool other_type = former != NULL && former->type != VALUE_STRING;
    if (other_type && (o->flags & (OPF_PREV | OPF_KV)) == OPF_PREV) return ERR_WRONGTYPE;
    TRY(apply_condition(cx, o, former, &met));
    if (MUTANT(CONDITION_SOMETIMES_IGNORED) && cx->rev % 16 == 0) met = true;
    if (met) TRY(put_write(cx, o, former));
    res->applied = met;
    res->number = met;
    if (former != NULL && (!met || (o->flags & OPF_PREV) != 0)) change_show_former(res, former);
    return OK;
}

enum err apply_put(struct apply *cx, const struct op *o, struct op_result *res)
{
    TRY(check_key(cx, o->key));
    TRY(check_value(cx, o->value));
    if (put_looks(o)) return put_looking(cx, o, res);
    res->number = 1;
    return change_put(cx, &(struct change){ .key = o->key, .value = o->value,
                                            .type = VALUE_STRING,
                                            .plan = { .form = LIFE_FORM_NONE } });
}

/* --- several puts --------------------------------------------------------------------- */

static enum err mput_check(const struct apply *cx, const struct op *o, bool *met)
{
    struct view v = apply_view(cx);
    struct slice key, value;
    struct kv kv;
    *met = true;
    for (size_t offset = 0; op_list_next_pair(&o->list, &offset, &key, &value);) {
        TRY(check_key(cx, key));
        TRY(check_value(cx, value));
        if (o->cond == COND_NONE) continue;
        if (view_get(&v, key, &kv) != (o->cond == COND_EXISTS)) *met = false;
    }
    return OK;
}

static enum err mput_write(struct apply *cx, const struct op *o)
{
    struct view v = apply_view(cx);
    struct change c = { .type = VALUE_STRING };
    struct kv kv;
    bool past = false;
    TRY(change_plan(cx, o, &c.plan, &past));
    for (size_t offset = 0; op_list_next_pair(&o->list, &offset, &c.key, &c.value);) {
        if (!past) {
            TRY(change_put(cx, &c));
        } else if (view_get(&v, c.key, &kv)) {
            change_delete(cx, c.key, ROW_DEL, false, false);
        }
    }
    return OK;
}

/* Keys may repeat: the last value counts, and it is one change. So outside of a transaction this
 * is one of its own. */
enum err apply_mput(struct apply *cx, const struct op *o, struct op_result *res)
{
    bool met = false;
    TRY(change_allow(cx, o->list.count));
    TRY(mput_check(cx, o, &met));
    res->applied = met;
    res->number = met;
    if (!met) return OK;
    if (cx->txn != NULL) return apply_undoable(cx, o, mput_write);

    cx->txn = cx->s->txn;
    txn_begin(cx->txn, cx->s->mvcc);
    TRY(mput_write(cx, o));
    change_commit(cx);
    return OK;
}

/* --- computed values ------------------------------------------------------------------ */

/* The present string; *missing if there is none. ERR_WRONGTYPE, ERR_KEY_LIMIT, ERR_KEYS_LIMIT */
static enum err string_get(const struct apply *cx, struct slice key, struct kv *kv, bool *missing)
{
    struct view v = apply_view(cx);
    *kv = (struct kv){ .value = SLICE_NONE };
    *missing = !view_get(&v, key, kv);
    if (!*missing && kv->type != VALUE_STRING) return ERR_WRONGTYPE;
    TRY(check_key(cx, key));
    return change_allow_key(cx, key);
}

enum err apply_incr(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    bool missing = false;
    int64_t number = 0;
    char text[24];
    TRY(string_get(cx, o->key, &kv, &missing));
    if (!missing) TRY(i64_parse(kv.value, &number));
    if (__builtin_add_overflow(number, o->number, &number)) return ERR_OVERFLOW;
    struct change c = {
        .key = o->key, .type = VALUE_STRING, .plan = { .form = LIFE_FORM_KEEP },
        .value = { (const uint8_t *)text, i64_format(number, text) },
        .known_missing = missing, .value_is_short_lived = true,
    };
    TRY(change_put(cx, &c));
    res->number = number;
    return OK;
}

/* The sum's text is the answer: the origin reads it where it stands. */
enum err apply_incr_float(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    bool missing = false;
    struct real number = { .mantissa = 0 }, more, sum;
    char text[REAL_TEXT_BYTES_MAX];
    TRY(string_get(cx, o->key, &kv, &missing));
    if (!missing) TRY(real_parse(kv.value, &number));
    TRY(real_parse(o->value, &more));
    TRY(real_add(&number, &more, &sum));
    struct change c = {
        .key = o->key, .type = VALUE_STRING, .plan = { .form = LIFE_FORM_KEEP },
        .value = { (const uint8_t *)text, real_print(&sum, text) },
        .known_missing = missing, .value_is_short_lived = true,
    };
    if (c.value.len > cx->s->settings.value_bytes_max) return ERR_STRING_LIMIT;
    res->number = (int64_t)c.value.len;
    return change_put(cx, &c);
}

/* Puts the present value, grown to `bytes` with zeros, with `part` written at `offset`. */
static enum err put_patched(struct apply *cx, const struct op *o, const struct kv *kv, bool missing,
                            size_t offset, size_t bytes)
{
    TRY(change_allow_value(cx, o->key, bytes));
    if (cx->txn != NULL) {
        struct pending *p = txn_touch(cx->txn, o->key, false);
        uint8_t *at = txn_put_grown(cx->txn, p, bytes);
        if (o->value.len != 0) memcpy(at + offset, o->value.at, o->value.len);
        return OK;
    }
    struct buf *value = &cx->s->scratch.value;
    buf_clear(value);
    uint8_t *at = buf_reserve(value, bytes + 1); /* + 1: never NULL */
    if (kv->value.len != 0) memcpy(at, kv->value.at, kv->value.len);
    memset(at + kv->value.len, 0, bytes - kv->value.len);
    if (o->value.len != 0) memcpy(at + offset, o->value.at, o->value.len);
    struct change c = { .key = o->key, .value = { at, bytes }, .type = VALUE_STRING,
                        .plan = { .form = LIFE_FORM_KEEP }, .known_missing = missing };
    return change_put(cx, &c);
}

enum err apply_append(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    bool missing = false;
    TRY(string_get(cx, o->key, &kv, &missing));
    size_t bytes = kv.value.len + o->value.len;
    if (bytes > cx->s->settings.value_bytes_max) return ERR_STRING_LIMIT;
    TRY(put_patched(cx, o, &kv, missing, kv.value.len, bytes));
    res->number = (int64_t)bytes;
    return OK;
}

enum err apply_setrange(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    bool missing = false;
    if (o->number < 0) return ERR_OFFSET;
    TRY(string_get(cx, o->key, &kv, &missing));
    res->number = (int64_t)kv.value.len;
    res->applied = o->value.len != 0;
    if (o->value.len == 0) return OK;
    uint64_t end = (uint64_t)o->number + o->value.len;
    if (end > cx->s->settings.value_bytes_max) return ERR_STRING_LIMIT;
    size_t bytes = MAX((size_t)end, kv.value.len);
    TRY(put_patched(cx, o, &kv, missing, (size_t)o->number, bytes));
    res->number = (int64_t)bytes;
    return OK;
}

/* --- keys in sequence ----------------------------------------------------------------- */

static void digits_put(uint8_t *to, size_t count, uint64_t number)
{
    for (size_t i = count; i > 0; i--) {
        to[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

/* prefix, 16 digits of the revision, 4 of the position: above all made before it. A key that
 * somebody has put there by hand is passed over. */
enum err apply_seq(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    bool past = false;
    size_t key_bytes = o->key.len + SEQ_REV_DIGITS + SEQ_POSITION_DIGITS;
    struct buf *room = &cx->s->scratch.keys;
    struct view v = apply_view(cx);
    buf_clear(room);
    uint8_t *at = buf_reserve(room, key_bytes);
    memcpy(at, o->key.at, o->key.len);
    digits_put(at + o->key.len, SEQ_REV_DIGITS, cx->rev);
    struct change c = { .key = { at, key_bytes }, .value = o->value, .type = VALUE_STRING };
    TRY(check_key(cx, c.key));
    TRY(check_value(cx, c.value));
    TRY(change_plan(cx, o, &c.plan, &past));
    if (past) return ERR_EXPIRE;
    do {
        if (cx->seq_count > SEQ_POSITION_MAX) return ERR_KEYS_LIMIT;
        digits_put(at + o->key.len + SEQ_REV_DIGITS, SEQ_POSITION_DIGITS, cx->seq_count++);
    } while (view_get(&v, c.key, &kv));
    c.known_missing = true;
    c.key_is_short_lived = true;
    TRY(change_put(cx, &c));
    res->key = c.key;
    return OK;
}

enum err apply_local(struct apply *cx, const struct op *o, struct op_result *res)
{
    struct kv kv;
    struct view v = apply_view(cx);
    (void)res;
    if ((o->fields & FIELD_KEY) == 0 || !view_get(&v, o->key, &kv)) return OK;
    return kv.type == VALUE_STRING || (o->flags & OPF_KV) != 0 ? OK : ERR_WRONGTYPE;
}
