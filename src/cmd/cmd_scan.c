/* cmd/cmd_scan.c - walking the keys of a database: SCAN, KEYS, DBSIZE, RANDOMKEY.
 *
 * A cursor is (mod revision << 11 | position in the revision) of the last key that was looked at:
 * any node finds the place from the row of that version, and no cursor state is kept. */
#include "cmd/cmd_int.h"

#include "base/glob.h"

#define CURSOR_POSITION_BITS 11
#define CURSOR_POSITION_MAX ((1u << CURSOR_POSITION_BITS) - 1)
#define SCAN_COUNT_DEFAULT 10

/* What a pattern allows: everything with its literal prefix, then the pattern itself. */
struct scan_match {
    struct slice pattern;
    bool filter;      /* the pattern must be matched; else the range says it all */
    bool whole;       /* one key exactly */
    struct cmd_range range;
    uint8_t literal[GLOB_PATTERN_BYTES_MAX];
    size_t literal_len;
};

static enum err match_init(struct scan_match *m, uint8_t db, struct slice pattern)
{
    *m = (struct scan_match){ .pattern = pattern };
    if (pattern.len > GLOB_PATTERN_BYTES_MAX) return ERR_LIMIT;
    bool prefix_only = false;
    m->literal_len = glob_literal_prefix(pattern, m->literal, &m->whole, &prefix_only);
    m->filter = !prefix_only;
    cmd_range_prefix(db, (struct slice){ m->literal, m->literal_len }, &m->range);
    return OK;
}

static void match_deinit(struct scan_match *m)
{
    cmd_range_deinit(&m->range);
}

static bool match_hit(const struct scan_match *m, const struct kv *kv)
{
    return !m->filter || glob_match(m->pattern, cmd_client_key(kv->key));
}

/* --- KEYS, DBSIZE, RANDOMKEY ------------------------------------------------------------------ */

static enum err cmd_keys(struct cmd_ctx *cx)
{
    struct scan_match m CLEANUP(match_deinit);
    TRY(match_init(&m, cx->db, cx->argv[1]));
    if (cx->mode == CMD_MODE_WORDS) return OK;
    struct chain found;
    chain_init(&found, cx->env->io.pool);
    struct reply r = reply_to(&found, cx->reply->proto);
    size_t count = 0;
    struct view_iter it;
    struct kv kv;
    view_iter_init(&it, &cx->view, m.range.start, m.range.end, false);
    while (view_iter_next(&it, &kv)) {
        if (!match_hit(&m, &kv)) continue;
        reply_bulk(&r, cmd_client_key(kv.key));
        count++;
        if (chain_bytes(&found) > cx->env->limits.output_bytes_max / 2) {
            chain_deinit(&found);
            reply_error(cx->reply, "ERR", "too many keys for one reply; use SCAN");
            return OK;
        }
    }
    reply_array(cx->reply, count);
    chain_move(cx->reply->out, &found);
    chain_deinit(&found);
    return OK;
}

static void database_range(uint8_t db, uint8_t bounds[2], struct slice *start, struct slice *end)
{
    bounds[0] = db;
    bounds[1] = (uint8_t)(db + 1);
    *start = (struct slice){ &bounds[0], 1 };
    *end = (struct slice){ &bounds[1], 1 };
}

static enum err cmd_dbsize(struct cmd_ctx *cx)
{
    uint8_t bounds[2];
    struct slice start;
    struct slice end;
    database_range(cx->db, bounds, &start, &end);
    reply_int(cx->reply, (int64_t)view_count(&cx->view, start, end));
    return OK;
}

static enum err cmd_randomkey(struct cmd_ctx *cx)
{
    uint8_t bounds[2];
    struct slice start;
    struct slice end;
    database_range(cx->db, bounds, &start, &end);
    struct kv kv;
    uint64_t count = view_count(&cx->view, start, end);
    cx->env->random = u64_mix(cx->env->random + (uint64_t)cx->env->now_us + 1);
    if (count == 0) {
        reply_null(cx->reply);
        return OK;
    }
    bool found = view_nth(&cx->view, start, end, cx->env->random % count, &kv);
    ASSERT(found);
    reply_bulk(cx->reply, cmd_client_key(kv.key));
    return OK;
}

/* --- SCAN -------------------------------------------------------------------------------------------- */

struct scan {
    struct scan_match match;
    struct slice type; /* TYPE option; at NULL: none */
    uint64_t count;
    uint8_t db;
    uint32_t position; /* of the cursor's row in its revision */
};

static void scan_free(struct scan *s)
{
    match_deinit(&s->match);
    mem_free((void *)(uintptr_t)s->match.pattern.at);
    mem_free((void *)(uintptr_t)s->type.at);
    mem_free(s);
}

static void scan_cleanup(struct scan **s)
{
    if (*s != NULL) scan_free(*s);
}

static struct slice slice_copy(struct slice s)
{
    return (struct slice){ mem_copy(s.at, s.len), s.len };
}

static enum err scan_parse(struct cmd_ctx *cx, struct scan *s)
{
    struct slice pattern = SLICE_LIT("*");
    s->count = SCAN_COUNT_DEFAULT;
    s->db = cx->db;
    for (size_t i = 2; i < cx->argc; i++) {
        if (i + 1 >= cx->argc) return ERR_SYNTAX;
        if (arg_is(cx->argv[i], "MATCH")) {
            pattern = cx->argv[++i];
        } else if (arg_is(cx->argv[i], "COUNT")) {
            TRY(arg_u64(cx->argv[++i], &s->count));
            if (s->count == 0) return ERR_SYNTAX;
        } else if (arg_is(cx->argv[i], "TYPE")) {
            mem_free((void *)(uintptr_t)s->type.at);
            s->type = slice_copy(cx->argv[++i]);
        } else {
            return ERR_SYNTAX;
        }
    }
    s->count = MIN(s->count, CMD_SCAN_STEP_MAX);
    pattern = slice_copy(pattern);
    enum err e = match_init(&s->match, cx->db, pattern);
    s->match.pattern = pattern; /* freed with s also on error */
    return e;
}

static bool type_hit(const struct scan *s, const struct kv *kv)
{
    return s->type.at == NULL || slice_is(s->type, cmd_type_name(kv->type));
}

/* A page ends where a cursor can say so: behind a key with a small place in its revision, and not
 * behind one that the transaction around the SCAN has changed. */
static bool has_cursor(const struct kv *kv)
{
    return kv->n > 0 && kv->n <= CURSOR_POSITION_MAX;
}

static uint64_t cursor_of(const struct kv *kv)
{
    return kv->mod << CURSOR_POSITION_BITS | kv->n;
}

/* Looks at `count` keys behind `from` (empty: from the range's start) and answers. */
static void scan_page(struct cmd_env *env, const struct view *v, struct scan *s, struct slice from,
                      struct reply *r)
{
    struct slice start = s->match.range.start;
    if (from.len > 0 && slice_cmp(from, start) >= 0) start = from;
    struct chain found;
    chain_init(&found, env->io.pool);
    struct reply keys = reply_to(&found, r->proto);
    struct view_iter it;
    struct kv kv;
    struct kv last = { .mod = 0 };
    size_t hits = 0;
    uint64_t looked = 0;
    bool more = false;
    view_iter_init(&it, v, start, s->match.range.end, false);
    while (view_iter_next(&it, &kv)) {
        if (from.len > 0 && slice_eq(kv.key, from)) continue;
        if (looked >= s->count && has_cursor(&last)) {
            more = true;
            break;
        }
        looked++;
        last = kv;
        if (!match_hit(&s->match, &kv) || !type_hit(s, &kv)) continue;
        reply_bulk(&keys, cmd_client_key(kv.key));
        hits++;
    }
    reply_array(r, 2);
    reply_bulk_int(r, more ? (int64_t)cursor_of(&last) : 0);
    reply_array(r, hits);
    chain_move(r->out, &found);
    chain_deinit(&found);
}

/* The row that a cursor names was found, or not: goes on behind its key. */
static void scan_resumed(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct scan *s = data;
    if (c != NULL && read != NULL) {
        struct reply r = client_reply(env, c);
        struct view v = node_view(env->node);
        struct store_item item;
        size_t pos = 0;
        bool found = false;
        while (!found && store_read_next(read, &pos, &item)) found = item.row.n == s->position;
        if (found && item.row.key.at[0] == s->db) {
            scan_page(env, &v, s, item.row.key, &r);
        } else {
            reply_err(&r, ERR_CURSOR);
        }
        client_unblock(env, c);
    }
    scan_free(s);
}

static bool scan_leaves(size_t argc, const struct slice *argv)
{
    return argc > 1 && !slice_eq(argv[1], SLICE_LIT("0"));
}

static void scan_timeout(struct cmd_env *env, struct client *c)
{
    (void)env;
    (void)c; /* the read always ends; nothing to shorten */
}

static enum err cmd_scan(struct cmd_ctx *cx)
{
    uint64_t cursor = 0;
    if (arg_u64(cx->argv[1], &cursor) != OK) return ERR_CURSOR;
    struct scan *s CLEANUP(scan_cleanup) = mem_zalloc(sizeof *s);
    TRY(scan_parse(cx, s));
    if (cursor == 0) {
        scan_page(cx->env, &cx->view, s, SLICE_NONE, cx->reply);
        return OK;
    }
    struct store_read *read = store_read_new(STORE_READ_ROWS, cmd_read_cookie(cx->env));
    read->from_rev = cursor >> CURSOR_POSITION_BITS;
    store_read_range(read, SLICE_NONE, SLICE_NONE);
    s->position = (uint32_t)(cursor & CURSOR_POSITION_MAX);
    client_block(cx->env, cx->client, INT64_MAX, scan_timeout, NULL, NULL);
    cmd_read_start(cx->env, cx->client->handle, read, scan_resumed, s);
    s = NULL; /* the read's now */
    return OK;
}

#define READS (CMD_READ | CMD_TXN)

const struct cmd_def cmd_scan_defs[] = {
    { .name = "scan", .run = cmd_scan, .arity = -2, .flags = CMD_READ, .group = GROUP_GENERIC, .since = "2.8.0",
      .leaves_turn = scan_leaves, .args = "cursor [MATCH pattern] [COUNT count] [TYPE type]",
      .summary = "Walks the keys in order, without repeats; a literal prefix in MATCH is a range." },
    { .name = "keys", .run = cmd_keys, .arity = 2, .flags = READS, .group = GROUP_GENERIC, .since = "1.0.0",
      .args = "pattern", .summary = "Returns all keys that match a pattern." },
    { .name = "dbsize", .run = cmd_dbsize, .arity = 1, .flags = READS | CMD_FAST, .group = GROUP_SERVER,
      .since = "1.0.0", .args = "", .summary = "Returns the number of keys in the database." },
    { .name = "randomkey", .run = cmd_randomkey, .arity = 1, .flags = CMD_READ | CMD_FAST,
      .group = GROUP_GENERIC, .since = "1.0.0", .args = "", .summary = "Returns a random key." },
    CMD_DEF_END,
};
