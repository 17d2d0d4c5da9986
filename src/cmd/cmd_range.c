/* cmd/cmd_range.c - KV RANGE: now, and as it was at a revision.
 *
 * Now: one walk of the tree in this turn, bounded by LIMIT and by the reply's bytes; the count comes
 * from the tree. At an old revision the tree (with deleted keys that are still in history) says
 * which keys there can have been; those that changed since are looked up in history by a worker,
 * a bounded number a turn, until the range's end. */
#include "cmd/cmd_int.h"

#include <stdlib.h>

#define OLD_STEP_COUNT 128 /* keys a turn: a worker holds that many values at once */
#define WALK_COUNT_MAX 100000 /* SORT and MIN/MAX look at everything: at most so many keys */

enum sort_by { SORT_KEY, SORT_VALUE, SORT_CREATE, SORT_MOD, SORT_VERSION };

struct range_options {
    uint64_t rev, limit;
    bool keys_only, count_only, sorted, descending;
    enum sort_by by;
    uint64_t min_mod, max_mod, min_create, max_create;
    struct slice delim;
};

/* --- arguments ------------------------------------------------------------------------------- */

static enum err sort_parse(struct cmd_ctx *cx, size_t *at, struct range_options *o)
{
    static const char *const words[] = { "KEY", "VALUE", "CREATE", "MOD", "VERSION" };
    if (*at + 1 >= cx->argc) return ERR_SYNTAX;
    struct slice by = cx->argv[++*at];
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!arg_is(by, words[i])) continue;
        o->sorted = true;
        o->by = (enum sort_by)i;
        if (*at + 1 < cx->argc && arg_is(cx->argv[*at + 1], "DESC")) {
            o->descending = true;
            ++*at;
        } else if (*at + 1 < cx->argc && arg_is(cx->argv[*at + 1], "ASC")) {
            ++*at;
        }
        return OK;
    }
    return ERR_SYNTAX;
}

static enum err number_parse(struct cmd_ctx *cx, size_t *at, struct range_options *o, bool *taken)
{
    const struct {
        const char *word;
        uint64_t *to;
    } numbers[] = {
        { "REV", &o->rev },        { "LIMIT", &o->limit },          { "MINMOD", &o->min_mod },
        { "MAXMOD", &o->max_mod }, { "MINCREATE", &o->min_create }, { "MAXCREATE", &o->max_create },
    };
    *taken = false;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (!arg_is(cx->argv[*at], numbers[i].word)) continue;
        *taken = true;
        if (*at + 1 >= cx->argc) return ERR_SYNTAX;
        return arg_u64(cx->argv[++*at], numbers[i].to);
    }
    return OK;
}

static enum err options_parse(struct cmd_ctx *cx, size_t at, struct range_options *o)
{
    *o = (struct range_options){ .limit = 0 };
    for (; at < cx->argc; at++) {
        bool taken = false;
        TRY(number_parse(cx, &at, o, &taken));
        if (taken) continue;
        if (arg_is(cx->argv[at], "KEYSONLY")) {
            o->keys_only = true;
        } else if (arg_is(cx->argv[at], "COUNTONLY")) {
            o->count_only = true;
        } else if (arg_is(cx->argv[at], "SORT")) {
            TRY(sort_parse(cx, &at, o));
        } else if (arg_is(cx->argv[at], "DELIM") && at + 1 < cx->argc && cx->argv[at + 1].len > 0) {
            o->delim = cx->argv[++at];
        } else if (!arg_is(cx->argv[at], "LOCAL")) {
            return ERR_SYNTAX;
        }
    }
    return o->keys_only && o->count_only ? ERR_SYNTAX : OK;
}

static bool is_filtered(const struct range_options *o)
{
    return o->min_mod != 0 || o->max_mod != 0 || o->min_create != 0 || o->max_create != 0;
}

static bool filter_hit(const struct range_options *o, const struct kv *kv)
{
    return (o->min_mod == 0 || kv->mod >= o->min_mod) && (o->max_mod == 0 || kv->mod <= o->max_mod) &&
           (o->min_create == 0 || kv->create >= o->min_create) &&
           (o->max_create == 0 || kv->create <= o->max_create);
}

/* --- the reply ----------------------------------------------------------------------------------- */

static void reply_head(struct reply *r, uint64_t rev, uint64_t count, bool more, size_t kv_count, bool dirs)
{
    reply_map(r, dirs ? 5 : 4);
    reply_bulk_cstr(r, "revision");
    reply_int(r, (int64_t)rev);
    reply_bulk_cstr(r, "count");
    reply_int(r, (int64_t)count);
    reply_bulk_cstr(r, "more");
    reply_int(r, more);
    reply_bulk_cstr(r, "kvs");
    reply_array(r, kv_count);
}

static void reply_one(struct reply *r, const struct kv *kv, bool keys_only)
{
    struct kv copy = *kv;
    if (keys_only) copy.value = SLICE_NONE;
    cmd_reply_kv(r, &copy);
}

/* --- now: a plain walk ------------------------------------------------------------------------------ */

static void walk_plain(struct cmd_ctx *cx, const struct cmd_range *range, const struct range_options *o)
{
    struct chain kvs;
    chain_init(&kvs, cx->env->io.pool);
    struct reply r = reply_to(&kvs, cx->reply->proto);
    uint64_t count = view_count(&cx->view, range->start, range->end);
    size_t sent = 0;
    bool more = false;
    struct view_iter it;
    struct kv kv;
    view_iter_init(&it, &cx->view, range->start, range->end, o->sorted && o->descending);
    while (!o->count_only && view_iter_next(&it, &kv)) {
        if ((o->limit != 0 && sent >= o->limit) || chain_bytes(&kvs) > cx->env->limits.reply_bytes_max) {
            more = true;
            break;
        }
        reply_one(&r, &kv, o->keys_only);
        sent++;
    }
    reply_head(cx->reply, view_rev(&cx->view), count, more, sent, false);
    chain_move(cx->reply->out, &kvs);
    chain_deinit(&kvs);
}

/* --- now: one level of directories -------------------------------------------------------------------- */

/* Where the delimiter begins in the key behind the range's prefix, or SIZE_MAX. */
static size_t delim_at(struct slice key, size_t from, struct slice delim)
{
    if (key.len < from + delim.len) return SIZE_MAX;
    const uint8_t *hit = memmem(key.at + from, key.len - from, delim.at, delim.len);
    return hit == NULL ? SIZE_MAX : (size_t)(hit - key.at);
}

/* Keys without the delimiter are listed; the others give their part up to it, once: the walk goes
 * on behind everything that begins with it. */
static void walk_dirs(struct cmd_ctx *cx, const struct cmd_range *range, const struct range_options *o)
{
    struct chain kvs, dirs;
    chain_init(&kvs, cx->env->io.pool);
    chain_init(&dirs, cx->env->io.pool);
    struct reply r = reply_to(&kvs, cx->reply->proto);
    struct reply d = reply_to(&dirs, cx->reply->proto);
    size_t kv_count = 0;
    size_t dir_count = 0;
    bool more = false;
    struct buf from CLEANUP(buf_deinit) = { 0 };
    struct cmd_range skip CLEANUP(cmd_range_deinit) = { .single = false };
    buf_append_slice(&from, range->start);
    size_t base = range->prefix ? range->start.len : 1;
    struct view_iter it;
    struct kv kv;
    view_iter_init(&it, &cx->view, buf_slice(&from), range->end, false);
    while (view_iter_next(&it, &kv)) {
        if ((o->limit != 0 && kv_count + dir_count >= o->limit) ||
            chain_bytes(&kvs) + chain_bytes(&dirs) > cx->env->limits.reply_bytes_max) {
            more = true;
            break;
        }
        size_t at = delim_at(kv.key, base, o->delim);
        if (at == SIZE_MAX) {
            reply_one(&r, &kv, o->keys_only);
            kv_count++;
            continue;
        }
        struct slice dir = { kv.key.at + 1, at + o->delim.len - 1 };
        reply_bulk(&d, dir);
        dir_count++;
        cmd_range_deinit(&skip);
        cmd_range_prefix(kv.key.at[0], dir, &skip);
        buf_clear(&from);
        buf_append_slice(&from, skip.end);
        if (range->end.len > 0 && slice_cmp(buf_slice(&from), range->end) >= 0) break;
        view_iter_init(&it, &cx->view, buf_slice(&from), range->end, false);
    }
    reply_head(cx->reply, view_rev(&cx->view), view_count(&cx->view, range->start, range->end), more, kv_count, true);
    chain_move(cx->reply->out, &kvs);
    reply_bulk_cstr(cx->reply, "dirs");
    reply_array(cx->reply, dir_count);
    chain_move(cx->reply->out, &dirs);
    chain_deinit(&kvs);
    chain_deinit(&dirs);
}

/* --- sorted and filtered: everything first, then cut ------------------------------------------------------ */

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_by(const struct kv *a, const struct kv *b, enum sort_by by)
{
    switch (by) {
    case SORT_KEY: return slice_cmp(a->key, b->key);
    case SORT_VALUE: return slice_cmp(a->value, b->value);
    case SORT_CREATE: return compare_u64(a->create, b->create);
    case SORT_MOD: return compare_u64(a->mod, b->mod);
    case SORT_VERSION: return compare_u64(a->version, b->version);
    }
    ASSERT(false);
    return 0;
}

static int kv_order(const void *a, const void *b, void *arg)
{
    const struct range_options *o = arg;
    int order = compare_by(a, b, o->by);
    if (order == 0) order = slice_cmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
    return o->descending ? -order : order;
}

static void reply_sorted(struct cmd_env *env, struct reply *to, struct kv *kvs, size_t kv_count,
                         uint64_t rev, uint64_t count, const struct range_options *o)
{
    if (o->sorted && kv_count > 1) qsort_r(kvs, kv_count, sizeof *kvs, kv_order, (void *)(uintptr_t)o);
    struct chain out;
    chain_init(&out, env->io.pool);
    struct reply r = reply_to(&out, to->proto);
    size_t sent = 0;
    for (; !o->count_only && sent < kv_count; sent++) {
        if ((o->limit != 0 && sent >= o->limit) || chain_bytes(&out) > env->limits.reply_bytes_max) break;
        reply_one(&r, &kvs[sent], o->keys_only);
    }
    reply_head(to, rev, count, !o->count_only && sent < kv_count, sent, false);
    chain_move(to->out, &out);
    chain_deinit(&out);
}

static enum err walk_all(struct cmd_ctx *cx, const struct cmd_range *range, const struct range_options *o)
{
    uint64_t count = view_count(&cx->view, range->start, range->end);
    if (count > WALK_COUNT_MAX) {
        reply_error(cx->reply, "ERR", "SORT and MIN/MAX look at the whole range: at most %d keys, this one has %llu",
                    WALK_COUNT_MAX, (unsigned long long)count);
        return OK;
    }
    struct kv *kvs = mem_alloc((size_t)count * sizeof *kvs);
    size_t kept = 0;
    struct view_iter it;
    struct kv kv;
    view_iter_init(&it, &cx->view, range->start, range->end, false);
    while (view_iter_next(&it, &kv)) {
        if (filter_hit(o, &kv)) kvs[kept++] = kv;
    }
    reply_sorted(cx->env, cx->reply, kvs, kept, view_rev(&cx->view), count, o);
    mem_free(kvs);
    return OK;
}

/* --- at a revision -------------------------------------------------------------------------------------------- */

struct old_item {
    size_t at;       /* of the key in bytes; the value follows */
    size_t key_len, value_len;
    struct kv kv;    /* slices are set at the end */
};

/* A range at an old revision, over several turns. */
struct old_range {
    struct cmd_range range;
    struct range_options o;
    struct buf next;      /* internal key to go on from */
    struct buf bytes;     /* keys and values of the items */
    struct old_item *items;
    size_t count, cap;
    uint64_t total;
    bool at_end;
    bool full; /* the steps before have found enough: only count */
};

static void old_free(struct old_range *x)
{
    cmd_range_deinit(&x->range);
    buf_deinit(&x->next);
    buf_deinit(&x->bytes);
    mem_free(x->items);
    mem_free((void *)(uintptr_t)x->o.delim.at);
    mem_free(x);
}

static bool old_needs_more(const struct cmd_env *env, const struct old_range *x)
{
    if (x->o.sorted || is_filtered(&x->o)) return true;
    return (x->o.limit == 0 || x->count <= x->o.limit) && x->bytes.len <= env->limits.reply_bytes_max;
}

/* Inside a step the order is not by key yet, so that all of it is taken. */
static void old_add(struct old_range *x, const struct kv *kv)
{
    x->total++;
    if (x->o.count_only || x->full || !filter_hit(&x->o, kv)) return;
    if (x->count == x->cap) {
        x->cap = x->cap == 0 ? 64 : x->cap * 2;
        x->items = mem_realloc(x->items, x->cap * sizeof *x->items);
    }
    bool value = !x->o.keys_only || x->o.by == SORT_VALUE;
    x->items[x->count++] = (struct old_item){
        .at = x->bytes.len, .key_len = kv->key.len, .value_len = value ? kv->value.len : 0, .kv = *kv,
    };
    buf_append_slice(&x->bytes, kv->key);
    if (value) buf_append_slice(&x->bytes, kv->value);
}

static void old_step(struct cmd_env *env, struct client *c, struct old_range *x);

static void old_read_done(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct old_range *x = data;
    if (c == NULL || read == NULL) {
        old_free(x);
        return;
    }
    struct reply r = client_reply(env, c);
    if (cmd_check_rev(env, x->o.rev, &r) != OK) {
        client_unblock(env, c);
        old_free(x);
        return;
    }
    ASSERT(read->result == OK);
    struct store_item item;
    size_t pos = 0;
    while (store_read_next(read, &pos, &item)) {
        if (!item.found || item.row.op != ROW_PUT) continue;
        struct kv kv;
        cmd_kv_of_row(&item.row, &kv);
        old_add(x, &kv);
    }
    old_step(env, c, x);
}

static int item_order(const void *a, const void *b)
{
    return slice_cmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

static void old_finish(struct cmd_env *env, struct client *c, struct old_range *x)
{
    struct kv *kvs = mem_alloc(x->count * sizeof *kvs);
    for (size_t i = 0; i < x->count; i++) {
        const struct old_item *it = &x->items[i];
        kvs[i] = it->kv;
        kvs[i].key = (struct slice){ x->bytes.at + it->at, it->key_len };
        kvs[i].value = (struct slice){ x->bytes.at + it->at + it->key_len, it->value_len };
    }
    /* What was still live and what came from history were found apart. */
    if (x->count > 1) qsort(kvs, x->count, sizeof *kvs, item_order);
    struct reply r = client_reply(env, c);
    reply_sorted(env, &r, kvs, x->count, mvcc_rev(state_mvcc(node_state(env->node))), x->total, &x->o);
    mem_free(kvs);
    client_unblock(env, c);
    old_free(x);
}

/* Looks at the next keys of the range: what has not changed since is taken, the rest is asked for. */
static void old_step(struct cmd_env *env, struct client *c, struct old_range *x)
{
    if (x->at_end) {
        old_finish(env, c, x);
        return;
    }
    if (x->bytes.len > env->limits.output_bytes_max) {
        struct reply r = client_reply(env, c);
        reply_error(&r, "ERR", "SORT and MIN/MAX look at the whole range: this one is too large, ask for parts of it");
        client_unblock(env, c);
        old_free(x);
        return;
    }
    struct store_read *read = store_read_new(STORE_READ_VERSION, cmd_read_cookie(env));
    read->at_rev = x->o.rev;
    x->full = !old_needs_more(env, x);
    struct view v = node_view(env->node);
    struct mvcc_iter it;
    const struct entry *e;
    size_t looked = 0;
    mvcc_iter_init(&it, state_mvcc(v.state), buf_slice(&x->next), x->range.end, false, true);
    while ((e = mvcc_iter_next(&it)) != NULL && looked < OLD_STEP_COUNT) {
        looked++;
        struct kv kv;
        if (e->mod > x->o.rev) {
            store_read_query(read, entry_key(e), e->mod, 0);
        } else if (view_get(&v, entry_key(e), &kv)) {
            old_add(x, &kv);
        }
    }
    x->at_end = e == NULL;
    if (e != NULL) {
        buf_clear(&x->next);
        buf_append_slice(&x->next, entry_key(e));
    }
    cmd_read_start(env, c->handle, read, old_read_done, x);
}

static enum err range_old(struct cmd_ctx *cx, struct cmd_range *range, const struct range_options *o)
{
    if (cmd_check_rev(cx->env, o->rev, cx->reply) != OK) return OK;
    if (o->delim.len > 0) {
        reply_error(cx->reply, "ERR", "DELIM lists the present revision only");
        return OK;
    }
    const struct mvcc *m = state_mvcc(cx->view.state);
    if (mvcc_count(m, range->start, range->end) + mvcc_ghost_count(m) > WALK_COUNT_MAX &&
        mvcc_count(m, range->start, range->end) > WALK_COUNT_MAX) {
        reply_error(cx->reply, "ERR", "a range at an old revision has at most %d keys: ask for parts of it",
                    WALK_COUNT_MAX);
        return OK;
    }
    struct old_range *x = mem_zalloc(sizeof *x);
    x->range = *range;
    *range = (struct cmd_range){ .single = false };
    x->o = *o;
    buf_append_slice(&x->next, x->range.start);
    client_block(cx->env, cx->client, INT64_MAX, cmd_read_nothing, NULL, NULL);
    old_step(cx->env, cx->client, x);
    return OK;
}

enum err cmd_kv_range(struct cmd_ctx *cx)
{
    struct cmd_range range CLEANUP(cmd_range_deinit) = { .single = false };
    struct range_options o;
    size_t at = 2;
    TRY(cmd_range_parse(cx->env, cx->db, cx->argc, cx->argv, &at, &range));
    TRY(options_parse(cx, at, &o));
    if (cx->mode == CMD_MODE_WORDS) return OK;
    if (o.rev != 0 && o.rev != mvcc_rev(state_mvcc(cx->view.state))) return range_old(cx, &range, &o);
    if (o.delim.len > 0) {
        walk_dirs(cx, &range, &o);
        return OK;
    }
    if ((o.sorted && o.by != SORT_KEY) || is_filtered(&o)) return walk_all(cx, &range, &o);
    walk_plain(cx, &range, &o);
    return OK;
}
