/* Shared by the tests of state: operations as text in, results and events as text out.
 *
 *  put KEY VALUE | incr KEY N | append KEY VALUE | setrange KEY OFFSET VALUE | seq PREFIX VALUE
 *  del KEY | dels KEY... | delrange START END|* | rename KEY KEY | copy KEY KEY | life KEY
 *  mput KEY=VALUE... | local [KEY] | noop | txn [redis] { COMPARE ; ... } { OP ; ... } { OP ; ... }
 *  grant MS [id N] | revoke N | keepalive N... | attach N KEY... | expire KEY... #LEASE...
 *  compact N | config NAME VALUE | clock | alarm KIND MEMBER raise|clear | incarnation MEMBER N
 *  behind each: nx xx eq V ne V mod N fence KEY N | ttl N at N lease N keep drop | prev kv replace
 *               keepvalue mustexist | max N | cond N (of life)
 *  COMPARE: version|create|mod|lease|value|exists|missing|fence|life KEY[..END] [=|!=|<|> X]
 *  '' is the empty word.
 */
#ifndef TESTS_STATE_KIT_H
#define TESTS_STATE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "state/state_int.h"

#define KIT __attribute__((unused)) static
#define KIT_DB 0
#define SAID_BYTES_MAX 44 /* of a value */

/* --- words --------------------------------------------------------------------------- */

struct words {
    const char *at;
};

KIT bool word_next(struct words *w, char *out, size_t cap)
{
    while (*w->at == ' ' || *w->at == '\n') w->at++;
    size_t len = 0;
    while (*w->at != '\0' && *w->at != ' ' && *w->at != '\n') {
        assert_true(len + 1 < cap);
        out[len++] = *w->at++;
    }
    out[len] = '\0';
    if (strcmp(out, "''") == 0) out[0] = '\0';
    return len != 0;
}

KIT bool word_peek_is(struct words w, const char *word)
{
    char text[256];
    return word_next(&w, text, sizeof text) && strcmp(text, word) == 0;
}

KIT void word_expect(struct words *w, const char *word)
{
    char text[256];
    if (!word_next(w, text, sizeof text) || strcmp(text, word) != 0) {
        fail_msg("expected %s, found %s before %s", word, text, w->at);
    }
}

KIT bool op_ends(struct words w)
{
    char text[256];
    return !word_next(&w, text, sizeof text) || strcmp(text, ";") == 0 || strcmp(text, "}") == 0;
}

KIT int64_t word_number(struct words *w)
{
    char text[256];
    assert_true(word_next(w, text, sizeof text));
    return strtoll(text, NULL, 10);
}

/* --- operations from words ------------------------------------------------------------ */

struct op_text {
    struct op op;
    char key[256], key2[256], value[256], bytes[256], name[256];
    struct buf list, list2, compares, cond;
    bool to_end;
};

KIT void op_text_deinit(struct op_text *t)
{
    buf_deinit(&t->list);
    buf_deinit(&t->list2);
    buf_deinit(&t->compares);
    buf_deinit(&t->cond);
}

KIT void take_key(struct op_text *t, struct words *w)
{
    assert_true(word_next(w, t->key, sizeof t->key) || true);
    t->op.key = slice_of(t->key);
    t->op.fields |= FIELD_KEY;
}

KIT void take_value(struct op_text *t, struct words *w)
{
    word_next(w, t->value, sizeof t->value);
    t->op.value = slice_of(t->value);
    t->op.fields |= FIELD_VALUE;
}

KIT void take_key2(struct op_text *t, struct words *w)
{
    word_next(w, t->key2, sizeof t->key2);
    t->to_end = strcmp(t->key2, "*") == 0;
    t->op.key2 = slice_of(t->key2);
    t->op.fields |= FIELD_KEY2;
}

KIT void take_number(struct op_text *t, struct words *w)
{
    t->op.number = word_number(w);
    t->op.fields |= FIELD_NUMBER;
}

KIT void take_id(struct op_text *t, struct words *w)
{
    t->op.id = (uint64_t)word_number(w);
    t->op.fields |= FIELD_ID;
}

KIT void op_from_words(struct words *w, struct buf *out);

KIT uint32_t ops_from_words(struct words *w, struct buf *out)
{
    uint32_t count = 0;
    word_expect(w, "{");
    while (!word_peek_is(*w, "}")) {
        op_from_words(w, out);
        count++;
        if (word_peek_is(*w, ";")) word_expect(w, ";");
    }
    word_expect(w, "}");
    return count;
}

KIT void compare_from_words(struct words *w, struct buf *out)
{
    static const char *const targets[] = { "",      "version", "create",  "mod",   "lease",
                                           "value", "exists",  "missing", "fence", "life" };
    static const char *const orders[] = { "", "=", "!=", "<", ">" };
    char target[64], key[256], order[64] = "", operand[256] = "";
    struct op_compare c = { .op = COMPARE_EQ };
    assert_true(word_next(w, target, sizeof target));
    for (size_t i = 1; i < ARRAY_LEN(targets); i++) {
        if (strcmp(target, targets[i]) == 0) c.target = (enum compare_target)i;
    }
    word_next(w, key, sizeof key);
    char *dots = strstr(key, "..");
    c.range = dots != NULL;
    if (dots != NULL) *dots = '\0';
    c.key = slice_of(key);
    if (dots != NULL) c.end = slice_of(dots + 2);
    if (c.target == COMPARE_FENCE) {
        c.number = word_number(w);
    } else if (!op_ends(*w)) {
        word_next(w, order, sizeof order);
        for (size_t i = 1; i < ARRAY_LEN(orders); i++) {
            if (strcmp(order, orders[i]) == 0) c.op = (enum compare_op)i;
        }
        word_next(w, operand, sizeof operand);
        c.number = strtoll(operand, NULL, 10);
        if (c.target == COMPARE_VALUE) c.bytes = slice_of(operand);
    }
    op_compare_add(out, KIT_DB, &c, c.range && strcmp(dots + 2, "*") == 0);
}

KIT void take_txn(struct op_text *t, struct words *w)
{
    if (word_peek_is(*w, "redis")) {
        word_expect(w, "redis");
        t->op.flags |= OPF_REDIS;
    }
    word_expect(w, "{");
    while (!word_peek_is(*w, "}")) {
        compare_from_words(w, &t->compares);
        t->op.compares.count++;
        if (word_peek_is(*w, ";")) word_expect(w, ";");
    }
    word_expect(w, "}");
    t->op.list.count = ops_from_words(w, &t->list);
    t->op.list2.count = ops_from_words(w, &t->list2);
    t->op.fields |= FIELD_COMPARES | FIELD_LIST | FIELD_LIST2;
}

KIT bool is_modifier(struct words w)
{
    static const char *const all[] = { "nx",   "xx",  "eq",   "ne",   "mod", "fence",     "ttl",
                                       "at",   "lease", "keep", "drop", "prev", "kv",     "replace",
                                       "keepvalue", "mustexist", "max", "cond", "id" };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (word_peek_is(w, all[i])) return true;
    }
    return false;
}

KIT void take_list(struct op_text *t, struct words *w)
{
    while (!op_ends(*w) && !is_modifier(*w)) {
        char word[256];
        word_next(w, word, sizeof word);
        char *equals = strchr(word, '=');
        if (t->op.kind == OP_MPUT) {
            assert_non_null(equals);
            *equals = '\0';
            op_list_add_pair(&t->list, KIT_DB, slice_of(word), slice_of(equals + 1));
        } else if (t->op.kind == OP_EXPIRE && word[0] == '#') {
            op_list_add_id(&t->list2, strtoull(word + 1, NULL, 10));
            t->op.list2.count++;
            t->op.fields |= FIELD_LIST2;
            continue;
        } else if (t->op.kind == OP_LEASE_KEEPALIVE) {
            op_list_add_id(&t->list, strtoull(word, NULL, 10));
        } else {
            op_list_add_key(&t->list, KIT_DB, slice_of(word));
        }
        t->op.list.count++;
        t->op.fields |= FIELD_LIST;
    }
}

KIT void take_cond(struct op_text *t, struct words *w, enum op_cond cond)
{
    t->op.cond = cond;
    t->op.fields |= FIELD_COND;
    if (cond == COND_VALUE_EQ || cond == COND_VALUE_NE) {
        word_next(w, t->bytes, sizeof t->bytes);
        t->op.cond_bytes = slice_of(t->bytes);
    }
    if (cond == COND_FENCE) {
        word_next(w, t->bytes, sizeof t->bytes);
        buf_append_u8(&t->cond, KIT_DB);
        buf_append_slice(&t->cond, slice_of(t->bytes));
        t->op.cond_bytes = buf_slice(&t->cond);
    }
    if (cond == COND_FENCE || cond == COND_MOD_EQ) t->op.cond_number = (uint64_t)word_number(w);
}

KIT void take_life(struct op_text *t, struct words *w, enum op_life life)
{
    t->op.life = life;
    t->op.fields |= FIELD_LIFE;
    if (life == LIFE_TTL || life == LIFE_AT) t->op.life_ms = word_number(w);
    if (life == LIFE_LEASE) t->op.lease_id = (uint64_t)word_number(w);
}

KIT void take_modifier(struct op_text *t, struct words *w)
{
    char word[64];
    static const struct {
        const char *word;
        uint16_t flag;
    } flags[] = { { "prev", OPF_PREV }, { "kv", OPF_KV }, { "replace", OPF_REPLACE },
                  { "keepvalue", OPF_KEEP_VALUE }, { "mustexist", OPF_MUST_EXIST } };
    assert_true(word_next(w, word, sizeof word));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (strcmp(word, flags[i].word) == 0) t->op.flags |= flags[i].flag;
    }
    bool plain_nx = t->op.kind == OP_RENAME;
    if (strcmp(word, "nx") == 0 && plain_nx) t->op.flags |= OPF_NX;
    if (strcmp(word, "nx") == 0 && !plain_nx) take_cond(t, w, COND_MISSING);
    if (strcmp(word, "xx") == 0) take_cond(t, w, COND_EXISTS);
    if (strcmp(word, "eq") == 0) take_cond(t, w, COND_VALUE_EQ);
    if (strcmp(word, "ne") == 0) take_cond(t, w, COND_VALUE_NE);
    if (strcmp(word, "mod") == 0) take_cond(t, w, COND_MOD_EQ);
    if (strcmp(word, "fence") == 0) take_cond(t, w, COND_FENCE);
    if (strcmp(word, "ttl") == 0) take_life(t, w, LIFE_TTL);
    if (strcmp(word, "at") == 0) take_life(t, w, LIFE_AT);
    if (strcmp(word, "lease") == 0) take_life(t, w, LIFE_LEASE);
    if (strcmp(word, "keep") == 0) take_life(t, w, LIFE_KEEP);
    if (strcmp(word, "drop") == 0) take_life(t, w, LIFE_DROP);
    if (strcmp(word, "max") == 0 || strcmp(word, "cond") == 0) take_number(t, w);
    if (strcmp(word, "id") == 0) take_id(t, w);
}

KIT void take_fields(struct op_text *t, struct words *w)
{
    char word[64];
    switch ((int)t->op.kind) {
    case OP_PUT:
        take_key(t, w);
        if (!word_peek_is(*w, "keepvalue")) take_value(t, w);
        break;
    case OP_APPEND:
    case OP_INCR_FLOAT:
    case OP_SEQ:
        take_key(t, w);
        take_value(t, w);
        break;
    case OP_SETRANGE:
        take_key(t, w);
        take_number(t, w);
        take_value(t, w);
        break;
    case OP_INCR:
        take_key(t, w);
        take_number(t, w);
        break;
    case OP_LIFE:
        take_key(t, w);
        break;
    case OP_DEL_RANGE:
    case OP_RENAME:
    case OP_COPY:
        take_key(t, w);
        take_key2(t, w);
        break;
    case OP_MPUT:
    case OP_EXPIRE:
    case OP_LEASE_KEEPALIVE:
        take_list(t, w);
        break;
    case OP_LEASE_ATTACH:
        take_id(t, w);
        take_list(t, w);
        break;
    case OP_TXN:
        take_txn(t, w);
        break;
    case OP_LEASE_GRANT:
    case OP_COMPACT:
        take_number(t, w);
        break;
    case OP_LEASE_REVOKE:
        take_id(t, w);
        break;
    case OP_CONFIG:
        word_next(w, t->name, sizeof t->name);
        t->op.name = slice_of(t->name);
        t->op.fields |= FIELD_NAME;
        take_value(t, w);
        break;
    case OP_ALARM:
        take_number(t, w);
        take_id(t, w);
        word_next(w, word, sizeof word);
        if (strcmp(word, "raise") == 0) t->op.flags |= OPF_NX;
        break;
    case OP_INCARNATION:
        take_id(t, w);
        take_number(t, w);
        break;
    case OP_LOCAL:
        if (!op_ends(*w)) take_key(t, w);
        break;
    default:
        break;
    }
}

KIT void op_from_words(struct words *w, struct buf *out)
{
    static const char *const kinds[OP_KIND_END] = {
        [OP_NOOP] = "noop", [OP_PUT] = "put", [OP_DEL] = "del", [OP_DEL_RANGE] = "delrange",
        [OP_INCR] = "incr", [OP_APPEND] = "append", [OP_SETRANGE] = "setrange",
        [OP_LIFE] = "life", [OP_RENAME] = "rename", [OP_COPY] = "copy", [OP_MPUT] = "mput",
        [OP_TXN] = "txn", [OP_LEASE_GRANT] = "grant", [OP_LEASE_REVOKE] = "revoke",
        [OP_LEASE_KEEPALIVE] = "keepalive", [OP_LEASE_ATTACH] = "attach", [OP_EXPIRE] = "expire",
        [OP_COMPACT] = "compact", [OP_CONFIG] = "config", [OP_CLOCK] = "clock",
        [OP_ALARM] = "alarm", [OP_SEQ] = "seq", [OP_LOCAL] = "local",
        [OP_INCARNATION] = "incarnation", [OP_INCR_FLOAT] = "incrfloat",
    };
    struct op_text t;
    char kind[64];
    memset(&t, 0, sizeof t);
    assert_true(word_next(w, kind, sizeof kind));
    for (size_t i = 1; i < OP_KIND_END; i++) {
        if (strcmp(kinds[i], kind) == 0) t.op.kind = (enum op_kind)i;
    }
    t.op.db = KIT_DB;
    if (strcmp(kind, "dels") == 0) {
        t.op.kind = OP_DEL;
        take_list(&t, w);
    } else if (t.op.kind == OP_DEL) {
        take_key(&t, w);
    } else if (t.op.kind != 0) {
        take_fields(&t, w);
    } else {
        fail_msg("no operation %s", kind);
    }
    while (!op_ends(*w)) {
        if (!is_modifier(*w)) fail_msg("%s: what is %s", kind, w->at);
        take_modifier(&t, w);
    }
    t.op.list.bytes = buf_slice(&t.list);
    t.op.list2.bytes = buf_slice(&t.list2);
    t.op.compares.bytes = buf_slice(&t.compares);
    op_encode(out, &t.op, t.to_end);
    op_text_deinit(&t);
}

/* --- a state with an audience --------------------------------------------------------- */

struct kit {
    struct state *s;
    struct buf out; /* what was said since the last kit_run */
    uint64_t stamp_ms;
    int64_t wall_ms;
    uint64_t seq;
    bool silent, wants_prev;
};

KIT void say_slice(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (i == SAID_BYTES_MAX) {
            buf_printf(out, "..%zu", s.len);
            return;
        }
        if (s.at[i] > ' ' && s.at[i] < 127) {
            buf_append_u8(out, s.at[i]);
        } else {
            buf_printf(out, "\\%02x", s.at[i]);
        }
    }
}

KIT struct slice outer_key(struct slice internal)
{
    assert_true(internal.len >= 1);
    return (struct slice){ internal.at + 1, internal.len - 1 };
}

KIT void say_kv(struct buf *out, const char *what, const struct kv *kv)
{
    buf_printf(out, " %s(", what);
    say_slice(out, outer_key(kv->key));
    buf_printf(out, "=");
    say_slice(out, kv->value);
    buf_printf(out, " c%llu m%llu v%llu", (unsigned long long)kv->create,
               (unsigned long long)kv->mod, (unsigned long long)kv->version);
    if (kv->lease_id != 0) buf_printf(out, " L%llu", (unsigned long long)kv->lease_id);
    if (kv->deadline_ms != 0) {
        buf_printf(out, " d%lld u%lld", (long long)kv->deadline_ms, (long long)kv->unix_ms);
    }
    if (kv->life_index != 0) buf_printf(out, " i%llu", (unsigned long long)kv->life_index);
    buf_printf(out, ")");
}

KIT void say_result(struct buf *out, const struct op_result *r)
{
    if (r->err != OK) buf_printf(out, " %s", err_name(r->err));
    buf_printf(out, r->skipped ? " skipped" : r->applied ? " yes" : " no");
    if (r->number != 0) buf_printf(out, " n=%lld", (long long)r->number);
    if (r->id != 0) buf_printf(out, " id=%llu", (unsigned long long)r->id);
    if (r->id != 0) buf_printf(out, " ttl=%lld", (long long)r->ttl_ms);
    if (r->has_prev) say_kv(out, "prev", &r->prev);
    for (size_t i = 0; i < r->prev_count; i++) say_kv(out, "prevs", &r->prevs[i]);
    if (r->key.len != 0) buf_printf(out, " key=");
    if (r->key.len != 0) say_slice(out, outer_key(r->key));
    for (size_t i = 0; i < r->number_count; i++) {
        buf_printf(out, " [%lld]", (long long)r->numbers[i]);
    }
}

KIT bool kit_wants_prev(void *ctx, struct slice key)
{
    (void)key;
    return ((struct kit *)ctx)->wants_prev;
}

KIT void kit_event(void *ctx, const struct mvcc_event *ev)
{
    struct kit *k = ctx;
    static const char *const names[] = { "", "put", "del", "expire" };
    buf_printf(&k->out, "%s ", names[ev->op]);
    say_slice(&k->out, outer_key(ev->key));
    if (ev->op == ROW_PUT) buf_printf(&k->out, "=");
    if (ev->op == ROW_PUT) say_slice(&k->out, ev->value);
    buf_printf(&k->out, " @%llu.%u", (unsigned long long)ev->rev, ev->n);
    if (ev->op == ROW_PUT) {
        buf_printf(&k->out, " c%llu v%llu", (unsigned long long)ev->create,
                   (unsigned long long)ev->version);
    }
    if (ev->lease != 0) buf_printf(&k->out, " L%llu", (unsigned long long)ev->lease);
    if (ev->prev_mod != 0) buf_printf(&k->out, " was%llu", (unsigned long long)ev->prev_mod);
    if (k->wants_prev && ev->prev_mod != 0) buf_printf(&k->out, ":");
    if (k->wants_prev && ev->prev_mod != 0) say_slice(&k->out, ev->prev_value);
    buf_printf(&k->out, "\n");
}

KIT void kit_life(void *ctx, struct slice key, const char *what)
{
    struct kit *k = ctx;
    buf_printf(&k->out, "~%s ", what);
    say_slice(&k->out, outer_key(key));
    buf_printf(&k->out, "\n");
}

KIT void kit_result(void *ctx, const struct apply_origin *o, const struct op *op,
                    const struct op_result *r)
{
    struct kit *k = ctx;
    (void)o;
    buf_printf(&k->out, "@%llu", (unsigned long long)r->rev);
    say_result(&k->out, r);
    if (op->kind == OP_TXN && r->err == OK && !r->skipped && !r->txn_succeeded) {
        buf_printf(&k->out, " failed[%zu]", r->txn_failed_index);
        if (r->txn_failed_has_kv) say_kv(&k->out, "found", &r->txn_failed_kv);
    }
    if (r->text != NULL) buf_printf(&k->out, " '%s'", r->text);
    buf_printf(&k->out, "\n");
}

/* OP_LOCAL shows what a reader sees: its key, or everything. */
KIT void say_view(struct buf *out, const struct op *op, const struct view *v)
{
    struct kv kv;
    struct view_iter it;
    if ((op->fields & FIELD_KEY) != 0) {
        if (view_get(v, op->key, &kv)) say_kv(out, "sees", &kv);
        return;
    }
    static const uint8_t start = KIT_DB;
    static const uint8_t end = KIT_DB + 1;
    view_iter_init(&it, v, (struct slice){ &start, 1 }, (struct slice){ &end, 1 }, false);
    while (view_iter_next(&it, &kv)) say_kv(out, "sees", &kv);
}

KIT void kit_element(void *ctx, const struct apply_origin *o, uint32_t ordinal, const struct op *op,
                     const struct op_result *r, const struct view *v)
{
    struct kit *k = ctx;
    (void)o;
    buf_printf(&k->out, " [%u] @%llu", ordinal, (unsigned long long)r->rev);
    say_result(&k->out, r);
    if (op->kind == OP_LOCAL && r->err == OK && !r->skipped) say_view(&k->out, op, v);
    buf_printf(&k->out, "\n");
}

KIT void kit_init(struct kit *k, uint64_t seed)
{
    *k = (struct kit){ .s = state_new(seed), .stamp_ms = 1000, .wall_ms = 500000, .seq = 1 };
}

KIT void kit_deinit(struct kit *k)
{
    state_free(k->s);
    buf_deinit(&k->out);
}

KIT struct apply_sink kit_sink(struct kit *k)
{
    return (struct apply_sink){ .ctx = k, .wants_prev = kit_wants_prev, .event = kit_event,
                                .life = kit_life, .result = kit_result, .element = kit_element };
}

/* Applies encoded operations as one entry. */
KIT enum err kit_apply_ops(struct kit *k, struct slice ops, uint32_t count)
{
    struct buf batch = { 0 };
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = k->stamp_ms,
                                  .wall_ms = k->wall_ms };
    struct op_run run = { .member = 1, .first_seq = k->seq, .floor_seq = k->seq, .incarnation = 1,
                          .op_count = count };
    struct apply_sink sink = kit_sink(k);
    struct errmsg em;
    op_batch_begin(&batch);
    buf_append_slice(&batch, ops);
    op_batch_seal(&batch, &head, &run);
    k->seq += count;
    enum err err = state_apply(k->s, state_applied_index(k->s) + 1, 1, buf_slice(&batch),
                               k->silent ? NULL : &sink, &em);
    buf_deinit(&batch);
    return err;
}

/* Applies one operation as an entry of its own; what was said is in k->out, terminated. */
KIT const char *kit_run(struct kit *k, const char *text)
{
    struct buf ops = { 0 };
    struct words w = { text };
    buf_clear(&k->out);
    op_from_words(&w, &ops);
    assert_int_equal(kit_apply_ops(k, buf_slice(&ops), 1), OK);
    buf_deinit(&ops);
    buf_append_u8(&k->out, 0);
    lease_table_check(k->s->leases);
    mvcc_check(k->s->mvcc);
    return (const char *)k->out.at;
}

/* A key of a type that no operation makes yet. */
KIT void kit_add_hash(struct kit *k, const char *key)
{
    uint8_t internal[64] = { KIT_DB };
    struct slice outer = slice_of(key);
    struct mvcc_event ev;
    assert_true(outer.len < sizeof internal);
    memcpy(internal + 1, outer.at, outer.len);
    struct mvcc_write w = { .key = { internal, outer.len + 1 }, .value = SLICE_LIT("fields"),
                            .type = VALUE_HASH, .rev = mvcc_rev(k->s->mvcc) + 1, .n = 1 };
    mvcc_put(k->s->mvcc, &w, NULL, &ev);
}

/* Lines that are no operations: "+N" moves the clocks, "hash KEY" adds a key of that type, "prevs":
 * events show former values. */
KIT bool kit_directive(struct kit *k, const char *line)
{
    if (line[0] == '+') {
        k->stamp_ms += strtoull(line + 1, NULL, 10);
        k->wall_ms += strtoll(line + 1, NULL, 10);
        return true;
    }
    if (strncmp(line, "hash ", 5) == 0) {
        kit_add_hash(k, line + 5);
        return true;
    }
    if (strcmp(line, "prevs") != 0) return false;
    k->wants_prev = true;
    return true;
}

/* A script: operations, one a line, each followed by what is said, in lines that begin with '|'.
 * On a difference everything is printed as it is said now. */
KIT void kit_script(struct kit *k, const char *label, const char *script)
{
    struct buf all = { 0 };
    const char *at = script;
    while (*at != '\0') {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        char line[1024];
        assert_true((size_t)(end - at) < sizeof line);
        memcpy(line, at, (size_t)(end - at));
        line[end - at] = '\0';
        at = end + 1;
        if (line[0] == '|') continue;
        buf_printf(&all, "%s\n", line);
        if (kit_directive(k, line)) continue;
        for (const char *said = kit_run(k, line); *said != '\0';) {
            const char *stop = strchr(said, '\n');
            buf_printf(&all, "|%.*s\n", (int)(stop - said), said);
            said = stop + 1;
        }
    }
    buf_append_u8(&all, 0);
    if (strcmp((const char *)all.at, script) != 0) {
        fprintf(stderr, "--- %s: said now\n%s---\n", label, (const char *)all.at);
        buf_deinit(&all);
        fail_msg("%s differs", label);
    }
    buf_deinit(&all);
}

/* A script against a state of its own. */
KIT void run_script(const char *label, const char *script)
{
    struct kit k;
    kit_init(&k, 7);
    kit_script(&k, label, script);
    kit_deinit(&k);
}

#endif
