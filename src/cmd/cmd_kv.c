/* cmd/cmd_kv.c - KV: single keys and changes of the versioned store. Ranges: cmd_range.c. */
#include "cmd/cmd_int.h"

#define PHYSICAL_POLL_MS 20
#define HISTORY_COUNT_DEFAULT 1000

/* --- revisions that a reader asks for -------------------------------------------------------- */

enum err cmd_check_rev(struct cmd_env *env, uint64_t rev, struct reply *r)
{
    const struct mvcc *m = state_mvcc(node_state(env->node));
    if (rev > mvcc_rev(m)) {
        reply_error(r, "FUTURE", "required revision %llu is a future revision, current is %llu",
                    (unsigned long long)rev, (unsigned long long)mvcc_rev(m));
        return ERR_FUTURE;
    }
    if (rev < mvcc_compacted(m)) {
        reply_error(r, "COMPACTED", "required revision %llu has been compacted, oldest is %llu",
                    (unsigned long long)rev, (unsigned long long)mvcc_compacted(m));
        return ERR_COMPACTED;
    }
    return OK;
}

void cmd_kv_of_row(const struct row *row, struct kv *out)
{
    *out = (struct kv){
        .key = row->key, .value = row->value, .type = row->type, .create = row->create,
        .mod = row->rev, .version = row->version, .lease_id = row->lease,
    };
}

void cmd_read_nothing(struct cmd_env *env, struct client *c)
{
    (void)env;
    (void)c; /* a history read ends by itself */
}

/* The entry of a key, also of one that was deleted and is still in history; NULL if there is none. */
const struct entry *cmd_entry_with_ghost(const struct cmd_env *env, struct slice key)
{
    const struct mvcc *m = state_mvcc(node_state(env->node));
    struct buf end CLEANUP(buf_deinit) = { 0 };
    buf_append_slice(&end, key);
    buf_append_u8(&end, 0);
    struct mvcc_iter it;
    mvcc_iter_init(&it, m, key, buf_slice(&end), false, true);
    return mvcc_iter_next(&it);
}

/* --- KV GET --------------------------------------------------------------------------------------- */

struct get_options {
    uint64_t rev; /* 0: the newest */
};

static enum err get_parse(size_t argc, const struct slice *argv, struct get_options *o)
{
    *o = (struct get_options){ 0 };
    for (size_t i = 3; i < argc; i++) {
        if (arg_is(argv[i], "REV") && i + 1 < argc) {
            TRY(arg_u64(argv[++i], &o->rev));
        } else if (!arg_is(argv[i], "LOCAL")) {
            return ERR_SYNTAX;
        }
    }
    return OK;
}

/* A word among the options, not the key nor the value of an option. */
static bool has_option(size_t argc, const struct slice *argv, const char *word)
{
    for (size_t i = 3; i < argc; i++) {
        if (arg_is(argv[i], "END") || arg_is(argv[i], "DELIM")) i++;
        else if (arg_is(argv[i], word)) return true;
    }
    return false;
}

static bool has_rev(size_t argc, const struct slice *argv) { return has_option(argc - 1, argv, "REV"); }
static bool asks_local(size_t argc, const struct slice *argv) { return has_option(argc, argv, "LOCAL"); }

static void get_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    (void)data;
    if (c == NULL || read == NULL) return;
    struct reply r = client_reply(env, c);
    struct store_item item;
    size_t pos = 0;
    if (cmd_check_rev(env, read->at_rev, &r) != OK) {
        client_unblock(env, c);
        return;
    }
    ASSERT(read->result == OK); /* the store forgets only what is compacted */
    if (store_read_next(read, &pos, &item) && item.found && item.row.op == ROW_PUT) {
        struct kv kv;
        cmd_kv_of_row(&item.row, &kv);
        if (kv.type == VALUE_STRING) {
            cmd_reply_kv(&r, &kv);
        } else {
            reply_err(&r, ERR_WRONGTYPE);
        }
    } else {
        reply_null(&r);
    }
    client_unblock(env, c);
}

static enum err get_old(struct cmd_ctx *cx, uint64_t rev)
{
    if (cmd_check_rev(cx->env, rev, cx->reply) != OK) return OK;
    struct slice key = cmd_internal_key(cx->env, cx->db, cx->argv[2]);
    const struct entry *e = cmd_entry_with_ghost(cx->env, key);
    if (e == NULL || (e->mod <= rev && entry_is_ghost(e))) {
        reply_null(cx->reply);
        return OK;
    }
    if (e->mod <= rev) {
        struct kv kv;
        bool found = view_get(&cx->view, key, &kv);
        ASSERT(found);
        cmd_reply_kv(cx->reply, &kv);
        return OK;
    }
    struct store_read *read = store_read_new(STORE_READ_VERSION, cmd_read_cookie(cx->env));
    read->at_rev = rev;
    store_read_query(read, key, e->mod, 0);
    client_block(cx->env, cx->client, INT64_MAX, cmd_read_nothing, NULL, NULL);
    cmd_read_start(cx->env, cx->client->handle, read, get_read, NULL);
    return OK;
}

static enum err cmd_kv_get(struct cmd_ctx *cx)
{
    struct get_options o;
    TRY(get_parse(cx->argc, cx->argv, &o));
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    if (o.rev != 0) return get_old(cx, o.rev);
    struct kv kv;
    if (!cmd_get(cx, cx->argv[2], &kv)) {
        reply_null(cx->reply);
        return OK;
    }
    if (kv.type != VALUE_STRING) return ERR_WRONGTYPE;
    cmd_reply_kv(cx->reply, &kv);
    return OK;
}

/* --- KV PUT ------------------------------------------------------------------------------------------- */

static void reply_kv_or_null(struct reply *r, bool there, const struct kv *kv)
{
    if (there) {
        cmd_reply_kv(r, kv);
    } else {
        reply_null(r);
    }
}

static void put_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    bool prev = !res->applied || (op->flags & OPF_PREV) != 0;
    reply_map(dx->reply, prev ? 3 : 2);
    reply_bulk_cstr(dx->reply, "revision");
    reply_int(dx->reply, (int64_t)res->rev);
    reply_bulk_cstr(dx->reply, "applied");
    reply_int(dx->reply, res->applied);
    if (!prev) return;
    reply_bulk_cstr(dx->reply, "prev");
    reply_kv_or_null(dx->reply, res->has_prev, &res->prev);
}
static const struct cmd_finish put_finish = { .done = put_done };

static enum err put_cond(struct cmd_ctx *cx, size_t *at, struct op *op, bool *taken)
{
    struct slice word = cx->argv[*at];
    enum op_cond cond = arg_is(word, "NX")       ? COND_MISSING
                        : arg_is(word, "XX")      ? COND_EXISTS
                        : arg_is(word, "IFEQ")    ? COND_VALUE_EQ
                        : arg_is(word, "IFMOD")   ? COND_MOD_EQ
                        : arg_is(word, "IFFENCE") ? COND_FENCE
                                                  : COND_NONE;
    *taken = cond != COND_NONE;
    if (!*taken) return OK;
    if (op->cond != COND_NONE) return ERR_SYNTAX;
    op->cond = cond;
    op->fields |= FIELD_COND;
    size_t more = cond == COND_FENCE ? 2 : cond == COND_VALUE_EQ || cond == COND_MOD_EQ ? 1 : 0;
    if (*at + more >= cx->argc) return ERR_SYNTAX;
    if (cond == COND_VALUE_EQ) op->cond_bytes = cx->argv[*at + 1];
    if (cond == COND_MOD_EQ) TRY(arg_u64(cx->argv[*at + 1], &op->cond_number));
    if (cond == COND_FENCE) {
        TRY(cmd_check_key(cx->env, cx->argv[*at + 1]));
        op->cond_bytes = cmd_internal_key(cx->env, cx->db, cx->argv[*at + 1]);
        TRY(arg_u64(cx->argv[*at + 2], &op->cond_number));
    }
    *at += more;
    return OK;
}

static enum err put_parse(struct cmd_ctx *cx, struct op *op)
{
    bool keep_lease = false;
    for (size_t i = 4; i < cx->argc; i++) {
        bool taken = false;
        TRY(put_cond(cx, &i, op, &taken));
        if (taken) continue;
        if (arg_is(cx->argv[i], "LEASE") && i + 1 < cx->argc) {
            TRY(arg_u64(cx->argv[++i], &op->lease_id));
            op->life = op->lease_id == 0 ? LIFE_DROP : LIFE_LEASE;
        } else if (arg_is(cx->argv[i], "PREVKV")) {
            op->flags |= OPF_PREV;
        } else if (arg_is(cx->argv[i], "IGNOREVALUE")) {
            op->flags |= OPF_KEEP_VALUE;
        } else if (arg_is(cx->argv[i], "IGNORELEASE")) {
            op->flags |= OPF_MUST_EXIST;
            keep_lease = true;
        } else {
            return ERR_SYNTAX;
        }
    }
    if ((op->flags & OPF_KEEP_VALUE) != 0 && op->value.len > 0) return ERR_VALUE_PROVIDED;
    if ((op->flags & OPF_KEEP_VALUE) != 0) op->fields &= ~(uint32_t)FIELD_VALUE;
    if (keep_lease && op->life == LIFE_LEASE) return ERR_LEASE_PROVIDED;
    if (keep_lease) op->life = LIFE_KEEP;
    if (op->life != LIFE_DROP) op->fields |= FIELD_LIFE;
    return OK;
}

static enum err cmd_kv_put(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    TRY(cmd_check_value(cx->env, cx->argv[3]));
    struct op op = cmd_op(cx, OP_PUT);
    op.key = cx->argv[2];
    op.value = cx->argv[3];
    op.flags = OPF_KV;
    op.fields = FIELD_KEY | FIELD_VALUE;
    TRY(put_parse(cx, &op));
    return cmd_propose(cx, &op, &put_finish, NULL, 0);
}

/* --- KV DEL --------------------------------------------------------------------------------------------- */

static void del_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    bool prevs = (op->flags & OPF_PREV) != 0;
    reply_map(dx->reply, prevs ? 3 : 2);
    reply_bulk_cstr(dx->reply, "revision");
    reply_int(dx->reply, (int64_t)res->rev);
    reply_bulk_cstr(dx->reply, "deleted");
    reply_int(dx->reply, res->number);
    if (!prevs) return;
    reply_bulk_cstr(dx->reply, "prevs");
    reply_array(dx->reply, res->prev_count);
    for (size_t i = 0; i < res->prev_count; i++) cmd_reply_kv(dx->reply, &res->prevs[i]);
}
static const struct cmd_finish del_finish = { .done = del_done };

static enum err del_one(struct cmd_ctx *cx, size_t at, struct op *op)
{
    op->key = cx->argv[2];
    if (at < cx->argc && arg_is(cx->argv[at], "PREVKV") && at + 1 == cx->argc) {
        op->flags = OPF_PREV;
        at++;
    }
    if (at == cx->argc) {
        struct buf *list = &cx->env->scratch;
        buf_clear(list);
        op_list_add_key(list, cx->db, op->key);
        op->list = (struct op_list){ 1, buf_slice(list) };
        op->fields = FIELD_LIST;
        return cmd_propose(cx, op, &del_finish, NULL, 0);
    }
    if (at + 2 != cx->argc) return ERR_SYNTAX;
    op->fields = FIELD_KEY | FIELD_COND;
    if (arg_is(cx->argv[at], "IFEQ")) {
        op->cond = COND_VALUE_EQ;
        op->cond_bytes = cx->argv[at + 1];
    } else if (arg_is(cx->argv[at], "IFMOD")) {
        op->cond = COND_MOD_EQ;
        TRY(arg_u64(cx->argv[at + 1], &op->cond_number));
    } else {
        return ERR_SYNTAX;
    }
    return cmd_propose(cx, op, &del_finish, NULL, 0);
}

static enum err cmd_kv_del(struct cmd_ctx *cx)
{
    struct cmd_range range CLEANUP(cmd_range_deinit) = { .single = false };
    size_t at = 2;
    TRY(cmd_range_parse(cx->env, cx->db, cx->argc, cx->argv, &at, &range));
    struct op op = cmd_op(cx, OP_DEL);
    if (range.single) return del_one(cx, at, &op);
    if (at < cx->argc && arg_is(cx->argv[at], "PREVKV")) {
        op.flags = OPF_PREV;
        at++;
    }
    if (at != cx->argc) return ERR_SYNTAX;
    op.kind = OP_DEL_RANGE;
    op.key = cmd_client_key(range.start);
    bool to_end = range.end.len == 1;
    if (!to_end) op.key2 = cmd_client_key(range.end);
    op.fields = FIELD_KEY | FIELD_KEY2;
    return cmd_propose_range(cx, &op, to_end, &del_finish, NULL, 0);
}

/* --- KV SEQ ------------------------------------------------------------------------------------------------ */

static void seq_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    reply_map(dx->reply, 2);
    reply_bulk_cstr(dx->reply, "key");
    reply_bulk(dx->reply, cmd_client_key(res->key));
    reply_bulk_cstr(dx->reply, "revision");
    reply_int(dx->reply, (int64_t)res->rev);
}
static const struct cmd_finish seq_finish = { .done = seq_done };

static enum err cmd_kv_seq(struct cmd_ctx *cx)
{
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    TRY(cmd_check_value(cx->env, cx->argv[3]));
    struct op op = cmd_op(cx, OP_SEQ);
    op.key = cx->argv[2];
    op.value = cx->argv[3];
    op.fields = FIELD_KEY | FIELD_VALUE;
    if (cx->argc > 4) {
        if (cx->argc != 6 || !arg_is(cx->argv[4], "LEASE")) return ERR_SYNTAX;
        TRY(arg_u64(cx->argv[5], &op.lease_id));
        op.life = LIFE_LEASE;
        op.fields |= FIELD_LIFE;
    }
    return cmd_propose(cx, &op, &seq_finish, NULL, 0);
}

/* --- KV HISTORY ------------------------------------------------------------------------------------------------ */

static void reply_row_event(struct reply *r, const struct row *row)
{
    static const char *const names[] = { "", "put", "del", "expire" };
    reply_map(r, 7);
    reply_bulk_cstr(r, "op");
    reply_bulk_cstr(r, names[row->op]);
    reply_bulk_cstr(r, "key");
    reply_bulk(r, cmd_client_key(row->key));
    reply_bulk_cstr(r, "value");
    if (row->op == ROW_PUT && row->type == VALUE_STRING) {
        reply_bulk(r, row->value);
    } else {
        reply_null(r);
    }
    reply_bulk_cstr(r, "rev");
    reply_int(r, (int64_t)row->rev);
    reply_bulk_cstr(r, "create");
    reply_int(r, (int64_t)row->create);
    reply_bulk_cstr(r, "version");
    reply_int(r, (int64_t)row->version);
    reply_bulk_cstr(r, "lease");
    reply_int(r, (int64_t)row->lease);
}

static void history_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    (void)data;
    if (c == NULL || read == NULL) return;
    struct reply r = client_reply(env, c);
    if (read->result != OK) {
        reply_err(&r, read->result);
    } else {
        struct store_item item;
        size_t pos = 0;
        reply_array(&r, (size_t)read->item_count);
        while (store_read_next(read, &pos, &item)) reply_row_event(&r, &item.row);
    }
    client_unblock(env, c);
}

static enum err cmd_kv_history(struct cmd_ctx *cx)
{
    const struct mvcc *m = state_mvcc(cx->view.state);
    uint64_t from = mvcc_compacted(m);
    uint64_t to = mvcc_rev(m);
    uint64_t count = HISTORY_COUNT_DEFAULT;
    TRY(cmd_check_key(cx->env, cx->argv[2]));
    for (size_t i = 3; i < cx->argc; i += 2) {
        if (i + 1 >= cx->argc) return ERR_SYNTAX;
        if (arg_is(cx->argv[i], "FROM")) {
            TRY(arg_u64(cx->argv[i + 1], &from));
            if (cmd_check_rev(cx->env, from, cx->reply) != OK) return OK;
        } else if (arg_is(cx->argv[i], "TO")) {
            TRY(arg_u64(cx->argv[i + 1], &to));
        } else if (arg_is(cx->argv[i], "COUNT")) {
            TRY(arg_u64(cx->argv[i + 1], &count));
        } else {
            return ERR_SYNTAX;
        }
    }
    struct slice key = cmd_internal_key(cx->env, cx->db, cx->argv[2]);
    const struct entry *e = cmd_entry_with_ghost(cx->env, key);
    if (e == NULL || from > to || count == 0) {
        reply_array(cx->reply, 0);
        return OK;
    }
    struct store_read *read = store_read_new(STORE_READ_HISTORY, cmd_read_cookie(cx->env));
    read->from_rev = MAX(from, 1);
    read->to_rev = MIN(to, mvcc_rev(m));
    read->events_max = MIN(count, CMD_SCAN_STEP_MAX);
    read->bytes_max = cx->env->limits.reply_bytes_max;
    store_read_query(read, key, e->mod, 0);
    client_block(cx->env, cx->client, INT64_MAX, cmd_read_nothing, NULL, NULL);
    cmd_read_start(cx->env, cx->client->handle, read, history_read, NULL);
    return OK;
}

/* --- KV COMPACT, REVISION, HASH ---------------------------------------------------------------------------------- */

static void physical_poll(struct cmd_env *env, struct client *c)
{
    uint64_t rev = (uint64_t)(uintptr_t)c->block->data;
    if (!node_compacted_physically(env->node, rev)) {
        client_block_more(env, c, env->now_ms + PHYSICAL_POLL_MS, physical_poll, NULL, c->block->data);
        return;
    }
    struct reply r = client_reply(env, c);
    reply_ok(&r);
    client_unblock(env, c);
}

static void compact_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    const struct mvcc *m = state_mvcc(dx->view.state);
    if (res->err == ERR_COMPACTED) {
        reply_error(dx->reply, "COMPACTED", "required revision %lld has been compacted, oldest is %llu",
                    (long long)op->number, (unsigned long long)mvcc_compacted(m));
    } else if (res->err == ERR_FUTURE) {
        reply_error(dx->reply, "FUTURE", "required revision %lld is a future revision, current is %llu",
                    (long long)op->number, (unsigned long long)mvcc_rev(m));
    } else if (res->err != OK) {
        reply_err(dx->reply, res->err);
    } else if (dx->arg == 0 || node_compacted_physically(dx->env->node, (uint64_t)op->number)) {
        reply_ok(dx->reply);
    } else {
        client_block_more(dx->env, dx->client, dx->env->now_ms + PHYSICAL_POLL_MS, physical_poll, NULL,
                          (void *)(uintptr_t)op->number);
        return;
    }
    if (dx->arg != 0) client_unblock(dx->env, dx->client);
}
static const struct cmd_finish compact_finish = { .done = compact_done, .on_error = true };

static enum err cmd_kv_compact(struct cmd_ctx *cx)
{
    struct op op = cmd_op(cx, OP_COMPACT);
    bool physical = cx->argc == 4 && arg_is(cx->argv[3], "PHYSICAL");
    if (cx->argc > 3 && !physical) return ERR_SYNTAX;
    uint64_t rev = 0;
    TRY(arg_u64(cx->argv[2], &rev));
    op.number = (int64_t)rev;
    op.fields = FIELD_NUMBER;
    TRY(cmd_propose(cx, &op, &compact_finish, NULL, physical));
    /* Its reply may come after those of operations behind it: nothing follows before it is there. */
    if (physical) client_block(cx->env, cx->client, INT64_MAX, NULL, NULL, NULL);
    return OK;
}

static bool compact_leaves(size_t argc, const struct slice *argv)
{
    return argc == 4 && arg_is(argv[3], "PHYSICAL");
}

static enum err cmd_kv_revision(struct cmd_ctx *cx)
{
    reply_int(cx->reply, (int64_t)view_rev(&cx->view));
    return OK;
}

static enum err cmd_kv_hash(struct cmd_ctx *cx)
{
    const struct mvcc *m = state_mvcc(cx->view.state);
    uint64_t rev = mvcc_rev(m);
    if (cx->argc > 3) return ERR_SYNTAX;
    if (cx->argc == 3) TRY(arg_u64(cx->argv[2], &rev));
    if (rev != mvcc_rev(m)) {
        if (cmd_check_rev(cx->env, rev, cx->reply) == OK) {
            reply_error(cx->reply, "ERR", "the hash is known for the present revision only, %llu",
                        (unsigned long long)mvcc_rev(m));
        }
        return OK;
    }
    reply_map(cx->reply, 3);
    reply_bulk_cstr(cx->reply, "revision");
    reply_int(cx->reply, (int64_t)rev);
    reply_bulk_cstr(cx->reply, "compacted");
    reply_int(cx->reply, (int64_t)mvcc_compacted(m));
    reply_bulk_cstr(cx->reply, "hash");
    reply_int(cx->reply, (int64_t)(mvcc_hash(m) & ((1ULL << 53) - 1)));
    return OK;
}

static enum err cmd_kv_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "kv");
    return OK;
}

#define KEY2 { 2, 2, 1 }
#define READS (CMD_READ | CMD_TXN)
#define WRITES (CMD_WRITE | CMD_TXN | CMD_FAST)
#define COORD GROUP_COORDINATION

const struct cmd_def cmd_kv_defs[] = {
    { .name = "kv", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = COORD, .since = "0.1.0", .args = "",
      .summary = "A container for the versioned store: revisions, history, ranges, watches." },
    { .name = "kv|get", .run = cmd_kv_get, .arity = -3, .flags = READS | CMD_FAST, .group = COORD, .keys = KEY2,
      .leaves_turn = has_rev, .is_local = asks_local, .since = "0.1.0", .args = "key [REV revision] [LOCAL]",
      .summary = "Returns a key with its revisions, version and lease, also as it was at a revision." },
    { .name = "kv|range", .run = cmd_kv_range, .arity = -3, .flags = READS, .group = COORD, .keys = KEY2,
      .is_local = asks_local,
      .leaves_turn = has_rev, .since = "0.1.0",
      .args = "key [PREFIX|END end] [REV revision] [LIMIT n] [KEYSONLY|COUNTONLY] [SORT "
              "KEY|VALUE|CREATE|MOD|VERSION [ASC|DESC]] [MINMOD r] [MAXMOD r] [MINCREATE r] [MAXCREATE r] "
              "[DELIM d] [LOCAL]",
      .summary = "Returns the keys of a range in order." },
    { .name = "kv|put", .run = cmd_kv_put, .arity = -4, .flags = WRITES | CMD_DENYOOM, .group = COORD, .keys = KEY2,
      .since = "0.1.0",
      .args = "key value [NX|XX|IFEQ value|IFMOD revision|IFFENCE lock token] [LEASE id] [PREVKV] [IGNOREVALUE] "
              "[IGNORELEASE]",
      .summary = "Puts a value if a condition holds, and says at which revision." },
    { .name = "kv|del", .run = cmd_kv_del, .arity = -3, .flags = WRITES, .group = COORD, .keys = KEY2,
      .since = "0.1.0", .args = "key [PREFIX|END end] [PREVKV] | key IFEQ value|IFMOD revision",
      .summary = "Deletes a key or a range in one revision." },
    { .name = "kv|seq", .run = cmd_kv_seq, .arity = -4, .flags = WRITES | CMD_DENYOOM, .group = COORD, .keys = KEY2,
      .since = "0.1.0", .args = "prefix value [LEASE id]",
      .summary = "Puts a value under a new key that sorts above all that were made so before." },
    { .name = "kv|history", .run = cmd_kv_history, .arity = -3, .flags = CMD_READ | CMD_DRAIN | CMD_NO_MULTI,
      .group = COORD, .keys = KEY2, .since = "0.1.0", .args = "key [FROM revision] [TO revision] [COUNT n]",
      .summary = "Returns the versions of a key that are kept, oldest first." },
    { .name = "kv|compact", .run = cmd_kv_compact, .arity = -3, .flags = CMD_WRITE | CMD_ADMIN | CMD_NO_MULTI, .group = COORD,
      .leaves_turn = compact_leaves, .since = "0.1.0", .args = "revision [PHYSICAL]",
      .summary = "Forgets history before a revision." },
    { .name = "kv|revision", .run = cmd_kv_revision, .arity = 2, .flags = READS | CMD_FAST, .group = COORD,
      .since = "0.1.0", .args = "", .summary = "Returns the present revision." },
    { .name = "kv|hash", .run = cmd_kv_hash, .arity = -2, .flags = CMD_READ | CMD_FAST, .group = COORD,
      .since = "0.1.0", .args = "[revision]", .summary = "Returns a hash of this node's key space." },
    { .name = "kv|help", .run = cmd_kv_help, .arity = 2, .flags = CMD_CONN | CMD_FAST, .group = COORD,
      .since = "0.1.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
