#include "kit.h"

/* Random operations and transactions against a model that knows nothing of overlays, entries or
 * lives: an array of keys that is copied before whatever may be undone. */

#define KEYS 10
#define LEASES 3
#define VALUE_MAX 40
#define CHILDREN_MAX 5
#define SEEDS 60
#define STEPS 300

static const char *const names[KEYS] = { "a", "ab", "b", "ba", "bb", "c", "d", "da", "x", "z" };

struct model_key {
    bool live, changed, recreated;
    bool base_live;
    uint64_t base_create, base_version;
    uint64_t create, mod, version;
    uint64_t lease, life_index;
    int64_t deadline_ms;
    uint64_t order; /* of the last put or delete in this operation */
    size_t len;
    char value[VALUE_MAX + 1];
};

struct model_space {
    struct model_key keys[KEYS];
    uint64_t rev, order;
};

struct model {
    struct model_space now;
    int64_t lease_deadline_ms[LEASES + 1]; /* 0: there is none */
    uint64_t index;
    int64_t stamp_ms;
};

/* --- what is done --------------------------------------------------------------------- */

struct deed {
    enum op_kind kind;
    int a, b;            /* keys */
    char value[24];
    int64_t number;
    enum op_cond cond;
    enum op_life life;
    int64_t life_number;
    bool flag;           /* NX, REPLACE, REDIS */
    int list[4];
    size_t list_count;
    struct deed *then_deeds, *else_deeds;
    size_t then_count, else_count;
    int compare_key, compare_to; /* -1: none; range [key, to) if to >= 0 */
    enum compare_target target;
    enum compare_op order;
    int64_t compare_number;
};

static uint64_t rng_state;

static uint64_t rng(uint64_t below)
{
    rng_state = u64_mix(rng_state + 0x9e3779b97f4a7c15ULL);
    return rng_state % below;
}

static void random_life(struct deed *d)
{
    static const enum op_life lives[] = { LIFE_DROP, LIFE_DROP, LIFE_DROP, LIFE_KEEP, LIFE_TTL,
                                          LIFE_LEASE };
    d->life = lives[rng(ARRAY_LEN(lives))];
    d->life_number = d->life == LIFE_LEASE ? (int64_t)(1 + rng(LEASES)) : (int64_t)(1 + rng(40));
}

static void random_txn(struct deed *d, size_t depth);

static void random_deed(struct deed *d, size_t depth)
{
    static const enum op_kind kinds[] = {
        OP_PUT, OP_PUT, OP_PUT, OP_DEL, OP_DEL_RANGE, OP_INCR, OP_APPEND, OP_APPEND, OP_SETRANGE,
        OP_LIFE, OP_RENAME, OP_RENAME, OP_COPY, OP_MPUT, OP_TXN, OP_TXN,
    };
    memset(d, 0, sizeof *d);
    d->kind = kinds[rng(ARRAY_LEN(kinds))];
    if (depth != 0 && rng(4) == 0) d->kind = OP_LOCAL;
    if (d->kind == OP_TXN && depth >= 3) d->kind = OP_PUT;
    d->a = (int)rng(KEYS);
    d->b = (int)rng(KEYS);
    if (rng(3) == 0) {
        snprintf(d->value, sizeof d->value, "%d", (int)rng(50));
    } else {
        snprintf(d->value, sizeof d->value, "%.*s", (int)rng(12), "abcdefghijkl");
    }
    d->number = (int64_t)rng(30) - 4;
    d->flag = rng(2) == 0;
    if (d->kind == OP_PUT || d->kind == OP_MPUT || d->kind == OP_LIFE) random_life(d);
    if (d->kind == OP_LIFE) d->number = (int64_t)rng(5);
    if (d->kind == OP_DEL_RANGE) d->number = (int64_t)rng(4);
    if (d->kind == OP_PUT && rng(2) == 0) d->cond = (enum op_cond)rng(COND_FENCE);
    if (d->kind == OP_MPUT && rng(2) == 0) d->cond = (enum op_cond)rng(COND_VALUE_EQ);
    d->list_count = 1 + rng(ARRAY_LEN(d->list));
    for (size_t i = 0; i < d->list_count; i++) d->list[i] = (int)rng(KEYS);
    if (d->kind == OP_TXN) random_txn(d, depth);
}

static void random_txn(struct deed *d, size_t depth)
{
    d->compare_key = rng(3) == 0 ? -1 : (int)rng(KEYS);
    d->compare_to = rng(2) == 0 ? -1 : (int)rng(KEYS);
    d->target = (enum compare_target)(1 + rng(COMPARE_FENCE - 1));
    d->order = (enum compare_op)(1 + rng(COMPARE_GT));
    d->compare_number = (int64_t)rng(6);
    d->then_count = rng(CHILDREN_MAX);
    d->else_count = rng(3);
    d->then_deeds = calloc(CHILDREN_MAX, sizeof *d);
    d->else_deeds = calloc(CHILDREN_MAX, sizeof *d);
    for (size_t i = 0; i < d->then_count; i++) random_deed(&d->then_deeds[i], depth + 1);
    for (size_t i = 0; i < d->else_count; i++) random_deed(&d->else_deeds[i], depth + 1);
}

static void deed_free(struct deed *d)
{
    for (size_t i = 0; i < d->then_count; i++) deed_free(&d->then_deeds[i]);
    for (size_t i = 0; i < d->else_count; i++) deed_free(&d->else_deeds[i]);
    free(d->then_deeds);
    free(d->else_deeds);
}

/* --- the same as an operation --------------------------------------------------------- */

static void deed_encode(const struct deed *d, struct buf *out);

static void encode_txn(const struct deed *d, struct op *o, struct buf *list, struct buf *list2,
                       struct buf *compares)
{
    o->fields = FIELD_LIST | FIELD_LIST2 | FIELD_COMPARES;
    o->flags = d->flag ? OPF_REDIS : 0;
    if (d->compare_key >= 0) {
        struct op_compare c = { .target = d->target, .op = d->order, .range = d->compare_to >= 0,
                                .number = d->compare_number,
                                .key = slice_of(names[d->compare_key]),
                                .bytes = slice_of(d->value) };
        if (c.range) c.end = slice_of(names[d->compare_to]);
        op_compare_add(compares, KIT_DB, &c, false);
        o->compares.count = 1;
    }
    for (size_t i = 0; i < d->then_count; i++) deed_encode(&d->then_deeds[i], list);
    for (size_t i = 0; i < d->else_count; i++) deed_encode(&d->else_deeds[i], list2);
    o->list.count = (uint32_t)d->then_count;
    o->list2.count = (uint32_t)d->else_count;
}

static uint32_t deed_fields(const struct deed *d)
{
    switch ((int)d->kind) {
    case OP_PUT:
        return FIELD_KEY | FIELD_VALUE | FIELD_LIFE;
    case OP_DEL:
    case OP_MPUT:
        return FIELD_LIST | (d->kind == OP_MPUT ? FIELD_LIFE : 0);
    case OP_DEL_RANGE:
        return FIELD_KEY | FIELD_KEY2 | FIELD_NUMBER;
    case OP_INCR:
        return FIELD_KEY | FIELD_NUMBER;
    case OP_APPEND:
        return FIELD_KEY | FIELD_VALUE;
    case OP_SETRANGE:
        return FIELD_KEY | FIELD_VALUE | FIELD_NUMBER;
    case OP_LIFE:
        return FIELD_KEY | FIELD_LIFE | FIELD_NUMBER;
    case OP_RENAME:
    case OP_COPY:
        return FIELD_KEY | FIELD_KEY2;
    default:
        return 0;
    }
}

static void deed_encode(const struct deed *d, struct buf *out)
{
    struct buf list = { 0 }, list2 = { 0 }, compares = { 0 };
    struct op o = { .kind = d->kind, .fields = deed_fields(d), .key = slice_of(names[d->a]),
                    .key2 = slice_of(names[d->b]), .value = slice_of(d->value),
                    .number = d->number, .life = d->life, .life_ms = d->life_number,
                    .lease_id = (uint64_t)d->life_number, .cond = d->cond };
    if (d->cond != COND_NONE) o.fields |= FIELD_COND;
    if (d->cond == COND_VALUE_EQ || d->cond == COND_VALUE_NE) o.cond_bytes = SLICE_LIT("7");
    if (d->kind == OP_RENAME && d->flag) o.flags = OPF_NX;
    if (d->kind == OP_COPY && d->flag) o.flags = OPF_REPLACE;
    if (d->kind == OP_TXN) encode_txn(d, &o, &list, &list2, &compares);
    for (size_t i = 0; i < d->list_count; i++) {
        struct slice key = slice_of(names[d->list[i]]);
        if (d->kind == OP_DEL) op_list_add_key(&list, KIT_DB, key);
        if (d->kind == OP_MPUT) {
            op_list_add_pair(&list, KIT_DB, key, (struct slice){ o.value.at, MIN(o.value.len, i) });
        }
        if (d->kind == OP_DEL || d->kind == OP_MPUT) o.list.count++;
    }
    o.list.bytes = buf_slice(&list);
    o.list2.bytes = buf_slice(&list2);
    o.compares.bytes = buf_slice(&compares);
    op_encode(out, &o, false);
    buf_deinit(&list);
    buf_deinit(&list2);
    buf_deinit(&compares);
}

/* --- the same in the model ------------------------------------------------------------ */

static struct model_space seen[4096]; /* what each OP_LOCAL must see, by ordinal */
static bool seen_here[4096];
static uint32_t ordinal_next;

static void model_put(struct model *m, int key, const char *value, size_t len)
{
    struct model_key *k = &m->now.keys[key];
    if (!k->live && k->base_live) k->recreated = true;
    if (!k->live) k->lease = k->life_index = 0;
    if (!k->live) k->deadline_ms = 0;
    bool fresh = !k->base_live || k->recreated;
    k->live = k->changed = true;
    k->order = ++m->now.order;
    k->create = fresh ? m->now.rev : k->base_create;
    k->version = fresh ? 1 : k->base_version + 1;
    k->mod = m->now.rev;
    memmove(k->value, value, len);
    k->value[len] = '\0';
    k->len = len;
}

static void model_delete(struct model *m, int key)
{
    struct model_key *k = &m->now.keys[key];
    k->live = false;
    k->changed = true;
    k->order = ++m->now.order;
    k->lease = k->life_index = 0;
    k->deadline_ms = 0;
}

static int64_t model_deadline(const struct model *m, const struct model_key *k)
{
    return k->lease != 0 ? m->lease_deadline_ms[k->lease] : k->deadline_ms;
}

static void model_set_life(struct model *m, int key, const struct deed *d)
{
    struct model_key *k = &m->now.keys[key];
    if (d->life == LIFE_KEEP) return;
    k->lease = d->life == LIFE_LEASE ? (uint64_t)d->life_number : 0;
    k->deadline_ms = d->life == LIFE_TTL ? m->stamp_ms + d->life_number : 0;
    k->life_index = d->life == LIFE_DROP ? 0 : m->index;
}

static bool model_no_lease(const struct model *m, const struct deed *d)
{
    return d->life == LIFE_LEASE && m->lease_deadline_ms[d->life_number] == 0;
}

static bool model_cond(const struct model_key *k, enum op_cond cond)
{
    bool is_7 = k->live && strcmp(k->value, "7") == 0;
    if (cond == COND_MISSING) return !k->live;
    if (cond == COND_EXISTS) return k->live;
    if (cond == COND_VALUE_EQ) return is_7;
    if (cond == COND_VALUE_NE) return !is_7;
    if (cond == COND_MOD_EQ) return !k->live;
    return true;
}

static enum err model_string(struct model *m, const struct deed *d, int64_t *number)
{
    struct model_key *k = &m->now.keys[d->a];
    char value[256] = "";
    size_t len = k->live ? k->len : 0;
    size_t more = strlen(d->value);
    memcpy(value, k->value, len);
    if (d->kind == OP_INCR) {
        int64_t before = 0;
        if (k->live && i64_parse((struct slice){ (const uint8_t *)k->value, len }, &before) != OK) {
            return ERR_NOT_INT;
        }
        *number = before + d->number;
        len = (size_t)snprintf(value, sizeof value, "%lld", (long long)*number);
    } else {
        bool append = d->kind == OP_APPEND;
        if (!append && d->number < 0) return ERR_OFFSET;
        size_t offset = append ? len : (size_t)d->number;
        *number = (int64_t)len;
        if (!append && more == 0) return OK;
        if (offset + more > VALUE_MAX) return ERR_STRING_LIMIT;
        memcpy(value + offset, d->value, more);
        len = MAX(len, offset + more);
        *number = (int64_t)len;
    }
    model_put(m, d->a, value, len);
    return OK;
}

static enum err model_life(struct model *m, const struct deed *d, int64_t *number)
{
    struct model_key *k = &m->now.keys[d->a];
    if (!k->live || d->life == LIFE_KEEP) return OK;
    int64_t now = model_deadline(m, k);
    if (d->life == LIFE_DROP) {
        *number = now != 0;
        if (*number == 0) return OK;
        k->lease = 0;
        k->deadline_ms = 0;
        k->life_index = m->index;
        return OK;
    }
    if (model_no_lease(m, d)) return ERR_NOLEASE;
    int64_t next = d->life == LIFE_LEASE ? m->lease_deadline_ms[d->life_number]
                                         : m->stamp_ms + d->life_number;
    bool holds[] = { true, now == 0, now != 0, now != 0 && next > now, now == 0 || next < now };
    *number = holds[d->number];
    if (*number != 0) model_set_life(m, d->a, d);
    return OK;
}

/* rename, copy */
static enum err model_move(struct model *m, const struct deed *d, int64_t *number)
{
    struct model_key from = m->now.keys[d->a];
    bool rename_it = d->kind == OP_RENAME;
    if (!from.live) return rename_it ? ERR_NO_KEY : OK;
    bool taken = m->now.keys[d->b].live;
    if (rename_it && d->flag && taken) return OK;
    if (!rename_it && (d->a == d->b || (!d->flag && taken))) return OK;
    *number = 1;
    if (d->a == d->b) return OK;
    if (rename_it) model_delete(m, d->a);
    model_put(m, d->b, from.value, from.len);
    struct model_key *to = &m->now.keys[d->b];
    to->lease = from.lease;
    to->deadline_ms = from.deadline_ms;
    to->life_index = from.lease != 0 || from.deadline_ms != 0 ? m->index : 0;
    return OK;
}

static enum err model_mput(struct model *m, const struct deed *d, int64_t *number)
{
    *number = 1;
    for (size_t i = 0; i < d->list_count; i++) {
        if (!model_cond(&m->now.keys[d->list[i]], d->cond)) *number = 0;
    }
    if (*number == 0) return OK;
    if (model_no_lease(m, d)) return ERR_NOLEASE;
    for (size_t i = 0; i < d->list_count; i++) {
        model_put(m, d->list[i], d->value, MIN(strlen(d->value), i));
        model_set_life(m, d->list[i], d);
    }
    return OK;
}

static void model_delete_some(struct model *m, const struct deed *d, int64_t *number)
{
    if (d->kind == OP_DEL) {
        for (size_t i = 0; i < d->list_count; i++) {
            if (!m->now.keys[d->list[i]].live) continue;
            model_delete(m, d->list[i]);
            (*number)++;
        }
        return;
    }
    for (int key = d->a; key < d->b; key++) {
        if (!m->now.keys[key].live || (d->number > 0 && *number == d->number)) continue;
        model_delete(m, key);
        (*number)++;
    }
}

static enum err model_put_deed(struct model *m, const struct deed *d, int64_t *number)
{
    *number = model_cond(&m->now.keys[d->a], d->cond);
    if (*number == 0) return OK;
    if (model_no_lease(m, d)) return ERR_NOLEASE;
    model_put(m, d->a, d->value, strlen(d->value));
    model_set_life(m, d->a, d);
    return OK;
}

static bool model_compare_one(const struct deed *d, const struct model_key *k)
{
    uint64_t found = 0;
    if (d->target == COMPARE_EXISTS) return k->live;
    if (d->target == COMPARE_MISSING) return !k->live;
    int order = 0;
    if (d->target == COMPARE_VALUE) {
        if (!k->live) return false;
        order = slice_cmp((struct slice){ (const uint8_t *)k->value, k->len }, slice_of(d->value));
    } else {
        if (k->live && d->target == COMPARE_VERSION) found = k->version;
        if (k->live && d->target == COMPARE_CREATE) found = k->create;
        if (k->live && d->target == COMPARE_MOD) found = k->mod;
        if (k->live && d->target == COMPARE_LEASE) found = k->lease;
        order = (int64_t)found < d->compare_number ? -1 : (int64_t)found > d->compare_number;
    }
    if (d->order == COMPARE_EQ) return order == 0;
    if (d->order == COMPARE_NE) return order != 0;
    return d->order == COMPARE_LT ? order < 0 : order > 0;
}

static bool model_compare(const struct model *m, const struct deed *d)
{
    static const struct model_key missing = { .live = false };
    if (d->compare_key < 0) return true;
    if (d->compare_to < 0) return model_compare_one(d, &m->now.keys[d->compare_key]);
    bool any = false;
    for (int key = d->compare_key; key < d->compare_to; key++) {
        if (!m->now.keys[key].live) continue;
        any = true;
        if (!model_compare_one(d, &m->now.keys[key])) return false;
    }
    return any || model_compare_one(d, &missing);
}

static void model_skip(const struct deed *deeds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ordinal_next++;
        model_skip(deeds[i].then_deeds, deeds[i].then_count);
        model_skip(deeds[i].else_deeds, deeds[i].else_count);
    }
}

static enum err model_run(struct model *m, const struct deed *d, bool strict, int64_t *number);

static enum err model_list(struct model *m, const struct deed *deeds, size_t count, bool strict)
{
    for (size_t i = 0; i < count; i++) {
        struct model_space before = m->now;
        uint32_t place = ordinal_next++;
        int64_t number = 0;
        if (deeds[i].kind == OP_LOCAL) {
            seen[place] = m->now;
            seen_here[place] = true;
            continue;
        }
        enum err err = model_run(m, &deeds[i], strict, &number);
        if (err == OK) continue;
        if (strict) return err;
        m->now = before;
        ordinal_next = place + 1;
        model_skip(deeds[i].then_deeds, deeds[i].then_count);
        model_skip(deeds[i].else_deeds, deeds[i].else_count);
    }
    return OK;
}

static enum err model_txn(struct model *m, const struct deed *d, bool strict)
{
    bool holds = model_compare(m, d);
    strict = strict || !d->flag;
    if (holds) {
        enum err err = model_list(m, d->then_deeds, d->then_count, strict);
        model_skip(d->else_deeds, d->else_count);
        return err;
    }
    model_skip(d->then_deeds, d->then_count);
    return model_list(m, d->else_deeds, d->else_count, strict);
}

static enum err model_run(struct model *m, const struct deed *d, bool strict, int64_t *number)
{
    switch ((int)d->kind) {
    case OP_PUT:
        return model_put_deed(m, d, number);
    case OP_INCR:
    case OP_APPEND:
    case OP_SETRANGE:
        return model_string(m, d, number);
    case OP_LIFE:
        return model_life(m, d, number);
    case OP_RENAME:
    case OP_COPY:
        return model_move(m, d, number);
    case OP_MPUT:
        return model_mput(m, d, number);
    case OP_TXN:
        return model_txn(m, d, strict);
    default:
        model_delete_some(m, d, number);
        return OK;
    }
}

/* --- comparing ------------------------------------------------------------------------ */

struct expected_event {
    int key;
    uint64_t order;
};

struct audience {
    const struct model *m;
    const struct model_space *before;
    enum err err;
    int64_t number;
    bool is_txn;
    struct expected_event events[KEYS]; /* in the order in which they must come */
    size_t event_count, event_at;
    bool result_told;
};

static uint8_t key_bytes[8];

static struct slice internal_key(const char *name)
{
    size_t len = strlen(name);
    key_bytes[0] = KIT_DB;
    memcpy(key_bytes + 1, name, len);
    return (struct slice){ key_bytes, len + 1 };
}

static void check_kv(const struct model *m, const struct model_key *k, const struct kv *kv)
{
    assert_true(slice_eq(kv->value, (struct slice){ (const uint8_t *)k->value, k->len }));
    assert_int_equal(kv->create, k->create);
    assert_int_equal(kv->mod, k->mod);
    assert_int_equal(kv->version, k->version);
    assert_int_equal(kv->lease_id, k->lease);
    assert_int_equal(kv->deadline_ms, model_deadline(m, k));
    assert_int_equal(kv->life_index, k->life_index);
}

static void check_range(const struct view *v, const struct model *m,
                        const struct model_space *space, int from, int to, bool reverse)
{
    uint8_t end_bytes[8];
    struct slice end = internal_key(names[to]);
    memcpy(end_bytes, end.at, end.len);
    end.at = end_bytes;
    struct slice start = internal_key(names[from]);
    struct view_iter it;
    struct kv kv;
    uint64_t count = 0;
    view_iter_init(&it, v, start, end, reverse);
    for (int i = from; i < to; i++) {
        int key = reverse ? to - 1 - (i - from) : i;
        if (!space->keys[key].live) continue;
        assert_true(view_iter_next(&it, &kv));
        assert_true(slice_eq(outer_key(kv.key), slice_of(names[key])));
        check_kv(m, &space->keys[key], &kv);
        count++;
    }
    assert_false(view_iter_next(&it, &kv));
    assert_false(view_iter_next(&it, &kv));
    assert_int_equal(view_count(v, start, end), count);
}

static void check_view(const struct view *v, const struct model *m, const struct model_space *space)
{
    struct kv kv;
    for (int key = 0; key < KEYS; key++) {
        bool live = view_get(v, internal_key(names[key]), &kv);
        assert_int_equal(live, space->keys[key].live);
        if (live) check_kv(m, &space->keys[key], &kv);
    }
    int from = (int)rng(KEYS);
    int to = from + (int)rng((uint64_t)(KEYS - from));
    check_range(v, m, space, 0, KEYS - 1, false);
    check_range(v, m, space, 0, KEYS - 1, true);
    check_range(v, m, space, from, to, false);
    check_range(v, m, space, from, to, true);
}

static void on_event(void *ctx, const struct mvcc_event *ev)
{
    struct audience *a = ctx;
    assert_true(a->event_at < a->event_count);
    int key = a->events[a->event_at++].key;
    const struct model_key *k = &a->m->now.keys[key];
    const struct model_key *was = &a->before->keys[key];
    assert_true(slice_eq(outer_key(ev->key), slice_of(names[key])));
    assert_int_equal(ev->op, k->live ? ROW_PUT : ROW_DEL);
    assert_int_equal(ev->rev, a->m->now.rev);
    assert_int_equal(ev->n, a->event_at);
    assert_int_equal(ev->prev_mod, was->live ? was->mod : 0);
    assert_int_equal(ev->lease, k->live ? k->lease : was->lease);
    if (!k->live) return;
    assert_int_equal(ev->create, k->create);
    assert_int_equal(ev->version, k->version);
    assert_true(slice_eq(ev->value, (struct slice){ (const uint8_t *)k->value, k->len }));
}

static void on_result(void *ctx, const struct apply_origin *o, const struct op *op,
                      const struct op_result *res)
{
    struct audience *a = ctx;
    (void)o;
    (void)op;
    assert_int_equal(a->event_at, a->event_count); /* after all its events */
    assert_int_equal(res->err, a->err);
    if (res->err == OK && !a->is_txn) assert_int_equal(res->number, a->number);
    a->result_told = true;
}

static void on_element(void *ctx, const struct apply_origin *o, uint32_t ordinal,
                       const struct op *op, const struct op_result *res, const struct view *v)
{
    struct audience *a = ctx;
    (void)o;
    assert_int_equal(a->event_at, 0); /* before anything is seen outside */
    if (op->kind != OP_LOCAL || res->skipped) return;
    assert_true(seen_here[ordinal]);
    check_view(v, a->m, &seen[ordinal]);
}

static bool on_wants_prev(void *ctx, struct slice key)
{
    (void)ctx;
    return key.len % 2 == 0;
}

/* --- a step --------------------------------------------------------------------------- */

static void model_begin(struct model *m)
{
    m->index++;
    m->now.rev++;
    m->now.order = 0;
    for (int key = 0; key < KEYS; key++) {
        struct model_key *k = &m->now.keys[key];
        k->changed = k->recreated = false;
        k->order = 0;
        k->base_live = k->live;
        k->base_create = k->create;
        k->base_version = k->version;
    }
    ordinal_next = 0;
    memset(seen_here, 0, sizeof seen_here);
}

/* Which events there must be; the revision stands only if there is one. */
static void model_end(struct audience *a, struct model *m)
{
    for (int key = 0; key < KEYS; key++) {
        const struct model_key *k = &m->now.keys[key];
        if (!k->changed || (!k->live && !k->base_live)) continue;
        size_t at = a->event_count++;
        for (; at > 0 && a->events[at - 1].order > k->order; at--) {
            a->events[at] = a->events[at - 1];
        }
        a->events[at] = (struct expected_event){ key, k->order };
    }
    if (a->event_count == 0) m->now.rev--;
}

struct lab {
    struct model m;
    struct state *s, *twin; /* twin: another hash seed, and nobody listens */
    uint64_t seq;
};

static void lab_apply(struct lab *lab, struct slice op, struct audience *a)
{
    struct buf batch = { 0 };
    struct op_batch_head head = { .feature_level = 1, .stamp_ms = (uint64_t)lab->m.stamp_ms,
                                  .wall_ms = lab->m.stamp_ms + 1000000 };
    struct op_run run = { .member = 1, .incarnation = 1, .first_seq = lab->seq,
                          .floor_seq = lab->seq, .op_count = 1 };
    struct apply_sink sink = { .ctx = a, .event = on_event, .result = on_result,
                               .element = on_element, .wants_prev = on_wants_prev };
    lab->seq++;
    op_batch_begin(&batch);
    buf_append_slice(&batch, op);
    op_batch_seal(&batch, &head, &run);
    uint64_t index = state_applied_index(lab->s) + 1;
    assert_int_equal(state_apply(lab->s, index, 1, buf_slice(&batch), a != NULL ? &sink : NULL,
                                 NULL), OK);
    assert_int_equal(state_apply(lab->twin, index, 1, buf_slice(&batch), NULL, NULL), OK);
    assert_true(state_hash(lab->s) == state_hash(lab->twin));
    buf_deinit(&batch);
}

/* Operations on leases, and time: the model follows by hand. */
static void lab_lease_step(struct lab *lab)
{
    struct buf ops = { 0 };
    char text[64];
    struct words w = { text };
    uint64_t id = 1 + rng(LEASES);
    bool revoke = lab->m.lease_deadline_ms[id] != 0;
    model_begin(&lab->m);
    snprintf(text, sizeof text, revoke ? "revoke %d" : "grant 100000 id %d", (int)id);
    op_from_words(&w, &ops);
    uint64_t rev = lab->m.now.rev - 1;
    for (int key = 0; key < KEYS && revoke; key++) {
        if (!lab->m.now.keys[key].live || lab->m.now.keys[key].lease != id) continue;
        model_delete(&lab->m, key);
        rev = lab->m.now.rev;
    }
    lab->m.now.rev = rev;
    lab->m.lease_deadline_ms[id] = revoke ? 0 : lab->m.stamp_ms + 100000;
    lab_apply(lab, buf_slice(&ops), NULL);
    buf_deinit(&ops);
}

/* What the state calls due, and only that, goes. */
static void lab_expire_step(struct lab *lab)
{
    struct buf keys = { 0 }, ids = { 0 }, ops = { 0 };
    struct op op;
    lab->m.stamp_ms += (int64_t)rng(30);
    bool due = false;
    for (int key = 0; key < KEYS; key++) {
        const struct model_key *k = &lab->m.now.keys[key];
        due = due || (k->live && k->deadline_ms != 0 && k->deadline_ms <= lab->m.stamp_ms);
    }
    assert_int_equal(state_due(lab->s, (uint64_t)lab->m.stamp_ms, 1000, &keys, &ids, &op), due);
    if (due) {
        model_begin(&lab->m);
        for (int key = 0; key < KEYS; key++) {
            const struct model_key *k = &lab->m.now.keys[key];
            if (k->live && k->deadline_ms != 0 && k->deadline_ms <= lab->m.stamp_ms) {
                model_delete(&lab->m, key);
            }
        }
        op_encode(&ops, &op, false);
        lab_apply(lab, buf_slice(&ops), NULL);
    }
    buf_deinit(&keys);
    buf_deinit(&ids);
    buf_deinit(&ops);
}

static void lab_step(struct lab *lab)
{
    static struct model_space before;
    struct deed d;
    struct buf ops = { 0 };
    struct audience a = { .m = &lab->m, .before = &before };
    random_deed(&d, 0);
    deed_encode(&d, &ops);
    model_begin(&lab->m);
    before = lab->m.now;
    a.is_txn = d.kind == OP_TXN;
    a.err = model_run(&lab->m, &d, true, &a.number);
    if (d.kind == OP_TXN && d.flag) { /* the outermost may be in Redis' mode */
        lab->m.now = before;
        ordinal_next = 0;
        a.err = model_txn(&lab->m, &d, false);
    }
    if (a.err != OK) lab->m.now = before;
    model_end(&a, &lab->m);
    lab_apply(lab, buf_slice(&ops), &a);
    assert_true(a.result_told);
    deed_free(&d);
    buf_deinit(&ops);
}

static void run_seed(uint64_t seed)
{
    static struct lab lab;
    rng_state = seed;
    memset(&lab, 0, sizeof lab);
    lab.s = state_new(seed);
    lab.twin = state_new(seed + 1000);
    lab.seq = 1;
    lab.m.now.rev = 1;
    lab.m.stamp_ms = 1000;
    lab.s->settings.value_bytes_max = VALUE_MAX;
    lab.twin->settings.value_bytes_max = VALUE_MAX;
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = rng(20);
        if (what == 0) {
            lab_lease_step(&lab);
        } else if (what < 3) {
            lab_expire_step(&lab);
        } else {
            lab_step(&lab);
        }
        struct view v = { lab.s, NULL };
        check_view(&v, &lab.m, &lab.m.now);
        assert_int_equal(mvcc_rev(lab.s->mvcc), lab.m.now.rev);
        assert_int_equal(view_rev(&v), lab.m.now.rev);
    }
    mvcc_check(lab.s->mvcc);
    lease_table_check(lab.s->leases);
    state_free(lab.s);
    state_free(lab.twin);
}

static void test_random_operations_match_the_model(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_operations_match_the_model) };
    return cmocka_run_group_tests_name("state/state_apply_model", tests, NULL, NULL);
}
