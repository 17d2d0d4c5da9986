/* cmd/cmd_dispatch.c - from bytes to commands, and from applied operations to replies.
 *
 * A burst of pipelined commands is decoded ahead so that the look-ups of its keys overlap their
 * cache misses. What cannot be answered yet is queued in the log's order: operations, reads behind
 * them, and finished replies that only wait for their turn. */
#include "cmd/cmd_int.h"

#include "base/log.h"

#include <stdio.h>

#define BURST_COUNT 16
#define FEED_BUDGET 128      /* commands a connection and turn */
#define HASH_KEY_BYTES_MAX 128

struct cmd_burst {
    struct resp_argv argv[BURST_COUNT];
    struct resp_request req[BURST_COUNT];
    const struct cmd_def *def[BURST_COUNT];
    uint64_t hash[BURST_COUNT];
};

enum outcome { EXECUTED, WAITS };

/* --- one command ------------------------------------------------------------------------- */

void cmd_run(struct cmd_ctx *cx)
{
    const struct cmd_limits *limits = &cx->env->limits;
    bool timed = (cx->def->flags & CMD_FAST) == 0 && (limits->slowlog_us >= 0 || limits->latency_ms > 0);
    int64_t begin_us = timed ? cx->env->io.clock_us(cx->env->io.ctx) : 0;
    enum err e = cx->def->run(cx);
    if (e == ERR_ARITY) {
        cmd_reply_arity(cx->reply, cx->def);
    } else if (e != OK) {
        reply_err(cx->reply, e);
    }
    if (!timed) return;
    int64_t took_us = cx->env->io.clock_us(cx->env->io.ctx) - begin_us;
    latency_command(cx->env, cx->def, took_us);
    if (limits->slowlog_us >= 0 && took_us >= limits->slowlog_us) {
        slow_log_note(cx->env, cx->client, cx->def, cx->argc, cx->argv, took_us);
    }
}

static void reply_unknown(struct reply *r, size_t argc, const struct slice *argv,
                          const struct cmd_def *container)
{
    char text[160];
    size_t len = 0;
    if (container != NULL) {
        char upper[CLIENT_NAME_BYTES_MAX];
        size_t i = 0;
        for (; container->name[i] != '\0'; i++) {
            char c = container->name[i];
            upper[i] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
        }
        upper[i] = '\0';
        reply_error(r, "ERR", "unknown subcommand '%.*s'. Try %s HELP.", (int)MIN(argv[1].len, 128),
                    (const char *)argv[1].at, upper);
        return;
    }
    text[0] = '\0';
    for (size_t i = 1; i < argc && len < 128; i++) {
        size_t part = MIN(argv[i].len, 128 - len);
        len += (size_t)snprintf(text + len, sizeof text - len, "'%.*s' ", (int)MIN(part, sizeof text - len - 4),
                                (const char *)argv[i].at);
    }
    reply_error(r, "ERR", "unknown command '%.*s', with args beginning with: %s",
                (int)MIN(argv[0].len, 128), (const char *)argv[0].at, text);
}

/* True if a check failed; the error is written then. */
static bool refused(struct cmd_env *env, struct client *c, const struct cmd_def *def,
                    const struct cmd_def *container, size_t argc, const struct slice *argv,
                    struct reply *r)
{
    if (def == NULL && container != NULL && argc < 2) {
        cmd_reply_arity(r, container);
        return true;
    }
    if (def == NULL) {
        reply_unknown(r, argc, argv, container);
        return true;
    }
    if ((def->arity > 0 && argc != (size_t)def->arity) ||
        (def->arity < 0 && argc < (size_t)-def->arity)) {
        cmd_reply_arity(r, def);
        return true;
    }
    if (UNLIKELY(!c->authenticated) && (def->flags & CMD_NOAUTH) == 0) {
        reply_err(r, ERR_NOAUTH);
        return true;
    }
    if (UNLIKELY(c->sub_count > 0) && c->proto == 2 && (def->flags & CMD_PUBSUB) == 0) {
        reply_error(r, "ERR",
                    "Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
                    "are allowed in this context", def->name);
        return true;
    }
    if ((def->flags & (CMD_READ | CMD_WRITE)) != 0) {
        enum err e = node_read_check(env->node);
        if (e != OK) reply_err(r, e);
        return e != OK;
    }
    return false;
}

void cmd_queue_local(struct cmd_env *env, struct client *c, enum ticket_kind kind, void *data_taken,
                     size_t bytes)
{
    static const char local_row = 0; /* only its address counts: not NULL */
    struct ticket t = {
        .client_id = c->handle, .kind = kind, .row = &local_row, .data = data_taken, .arg = bytes + sizeof t,
    };
    if (kind == TICKET_LOCAL) t.flags = ((const struct cmd_copy *)data_taken)->quiet;
    ASSERT(c->barrier_pending == 0); /* I5 */
    node_local(env->node, &t);
    c->pending++;
    env->waiting_replies++;
    env->waiting_replies_bytes += t.arg;
}

static void queue_left(struct cmd_env *env, const struct ticket *t)
{
    ASSERT(env->waiting_replies > 0 && env->waiting_replies_bytes >= t->arg);
    env->waiting_replies--;
    env->waiting_replies_bytes -= t->arg;
}

/* Nothing more of this client may be kept behind what it has pending. */
static bool queue_is_full(const struct cmd_env *env, const struct client *c)
{
    if (UNLIKELY(c->barrier_pending > 0)) return cmd_barrier_is_full(env);
    return UNLIKELY(env->waiting_replies_bytes >= env->limits.waiting_replies_bytes_max);
}

static void queue_local(struct cmd_env *env, struct client *c, const struct cmd_def *def,
                        size_t argc, const struct slice *argv)
{
    struct cmd_copy *copy = cmd_copy_new(def, c->db, argc, argv);
    copy->quiet = client_is_quiet(c);
    cmd_queue_local(env, c, TICKET_LOCAL, copy, cmd_copy_bytes(copy));
}

void cmd_queue_capture(struct cmd_env *env, struct client *c)
{
    if (chain_bytes(&env->capture) == 0) return;
    struct chain *bytes = mem_alloc(sizeof *bytes);
    chain_init(bytes, env->io.pool);
    chain_move(bytes, &env->capture);
    if (c->barrier_pending > 0) {
        cmd_barrier_raw(env, c, bytes);
    } else {
        cmd_queue_local(env, c, TICKET_RAW, bytes, sizeof *bytes + chain_held_bytes(bytes));
    }
}

/* CLIENT REPLY OFF and SKIP: the reply goes to nobody. */
static struct chain *reply_target(struct cmd_env *env, struct client *c)
{
    if (LIKELY(c->reply_mode == 0)) return c->out;
    return &env->trash;
}

/* SKIP is 3 when it is given, 2 while the next command runs, and then over. */
static void skip_once(struct client *c, uint8_t mode_before)
{
    if (UNLIKELY(mode_before == 2) && c->reply_mode == 2) c->reply_mode = 0;
}

enum gate { GATE_RUN, GATE_QUEUED, GATE_WAITS, GATE_REFUSED };

/* A group's reads wait for a barrier, its operations for the reads before them. So it goes on until
 * nothing waits, also if a barrier is not needed any more (I5). */
static enum gate group_gate(struct cmd_env *env, struct client *c, const struct cmd_def *def,
                            bool alone, size_t argc, const struct slice *argv)
{
    if ((def->flags & CMD_WRITE) != 0) {
        bool reads = (def->flags & CMD_MULTI_NOW) != 0 && cmd_exec_only_reads(c);
        if (reads && c->barrier_pending == c->pending) return GATE_RUN;
        return c->barrier_pending == 0 || cmd_barrier_convert(env, c) ? GATE_RUN : GATE_WAITS;
    }
    if ((def->flags & CMD_READ) == 0) return GATE_RUN;
    bool local = c->readonly || (def->is_local != NULL && def->is_local(argc, argv));
    if ((local || MUTANT(READ_WITHOUT_BARRIER)) && c->pending == 0) return GATE_RUN;
    if (c->pending == 0 && cmd_barrier_is_full(env)) return GATE_REFUSED;
    if (c->pending == 0 || c->barrier_pending > 0) {
        cmd_barrier_read(env, c, def, alone, argc, argv);
        return GATE_QUEUED;
    }
    if (c->write_batch != (uint32_t)node_batch_number(env->node)) return GATE_WAITS;
    queue_local(env, c, def, argc, argv);
    return GATE_QUEUED;
}

static enum outcome execute(struct cmd_env *env, struct client *c, const struct cmd_def *def,
                            const struct cmd_def *container, size_t argc,
                            const struct slice *argv, uint64_t hash)
{
    bool captures = c->pending > 0;
    if (captures && queue_is_full(env, c)) return WAITS;
    if (UNLIKELY(c->reply_mode == 3)) c->reply_mode = 2;
    bool quiet = c->reply_mode != 0;
    uint8_t mode_before = c->reply_mode;
    struct reply r = reply_to(captures ? &env->capture : reply_target(env, c), c->proto);
    if (UNLIKELY(refused(env, c, def, container, argc, argv, &r))) {
        cmd_multi_spoil(c);
    } else if (UNLIKELY(env->pause_until_ms != 0) && cmd_pause_holds(env, c, def)) {
        c->paused = true;
        return WAITS;
    } else if (UNLIKELY(c->multi != NULL) && (def->flags & CMD_MULTI_NOW) == 0) {
        if (env->monitor_count > 0) cmd_monitor_show(env, c, def, argc, argv);
        cmd_multi_queue(env, c, def, argc, argv, &r);
    } else {
        bool leaves = def->leaves_turn != NULL && def->leaves_turn(argc, argv);
        bool alone = leaves || (def->flags & CMD_DRAIN) != 0;
        if (captures && alone) return WAITS;
        enum gate gate = GATE_RUN;
        if (UNLIKELY(captures && (def->flags & CMD_ORDERED) != 0)) {
            if (c->barrier_pending > 0) cmd_barrier_local(env, c, def, argc, argv);
            else queue_local(env, c, def, argc, argv);
            gate = GATE_QUEUED;
        } else if (LIKELY(node_read_at_once(env->node) && c->barrier_pending == 0)) {
            if (captures && (def->flags & CMD_READ) != 0 && !quiet) {
                queue_local(env, c, def, argc, argv);
                gate = GATE_QUEUED;
            }
        } else {
            gate = group_gate(env, c, def, alone, argc, argv);
            if (gate == GATE_WAITS) return WAITS;
        }
        if (UNLIKELY(env->monitor_count > 0)) cmd_monitor_show(env, c, def, argc, argv);
        if (gate == GATE_REFUSED) {
            cmd_barrier_refuse(env, &r); /* nothing has happened */
        } else if (gate == GATE_RUN) {
            struct cmd_ctx cx = {
                .env = env, .client = c, .def = def, .argc = argc, .argv = argv, .db = c->db,
                .reply = &r, .view = node_view(env->node), .key_hash = hash,
                .mode = CMD_MODE_NORMAL,
            };
            cmd_run(&cx);
        }
        c->last_def = def;
        env->call_counts[def - cmd_table_base(env->table)]++;
    }
    skip_once(c, mode_before);
    env->stats.errors += r.error_count;
    env->stats.commands++;
    if (captures && !quiet) {
        cmd_queue_capture(env, c);
    } else if (captures) {
        chain_consume(&env->capture, chain_bytes(&env->capture));
    } else if (quiet && chain_bytes(&env->trash) > 0) {
        chain_consume(&env->trash, chain_bytes(&env->trash));
    }
    return EXECUTED;
}

/* --- bytes --------------------------------------------------------------------------------- */

/* Decodes up to BURST_COUNT requests; returns how many, and why it stopped in *e. */
static size_t decode_burst(struct cmd_env *env, struct client *c, struct slice in,
                           struct resp_decoder *d, enum err *e, struct errmsg *em)
{
    struct cmd_burst *b = env->burst;
    size_t count = 0;
    size_t at = 0;
    *e = OK;
    /* Before authentication each command may change what the next is allowed to be. */
    size_t max = c->authenticated ? BURST_COUNT : 1;
    while (count < max) {
        struct slice rest = { in.at + at, in.len - at };
        if (rest.len == 0) {
            b->req[count] = (struct resp_request){ .need_bytes = 1 };
            *e = ERR_AGAIN;
            break;
        }
        *e = resp_decode(d, &b->argv[count], rest, &b->req[count], em);
        if (*e != OK) break;
        at += b->req[count].used_bytes;
        count++;
    }
    return count;
}

/* Hashes the first key of each request and touches what a look-up will touch. */
static void prefetch_burst(struct cmd_env *env, struct client *c, size_t count)
{
    struct cmd_burst *b = env->burst;
    const struct mvcc *m = state_mvcc(node_state(env->node));
    uint8_t key[HASH_KEY_BYTES_MAX];
    key[0] = c->db;
    for (size_t i = 0; i < count; i++) {
        const struct cmd_def *container = NULL;
        b->def[i] = cmd_table_find(env->table, b->req[i].argc, b->req[i].argv, &container);
        b->hash[i] = 0;
        if (b->def[i] == NULL || b->def[i]->keys.first != 1 || b->req[i].argc < 2) continue;
        struct slice arg = b->req[i].argv[1];
        if (arg.len >= HASH_KEY_BYTES_MAX) continue;
        memcpy(key + 1, arg.at, arg.len);
        b->hash[i] = mvcc_key_hash(m, (struct slice){ key, arg.len + 1 });
        if (count > 1) mvcc_prefetch_slot(m, b->hash[i]);
    }
    for (size_t i = 0; i < count && count > 1; i++) {
        if (b->hash[i] != 0) mvcc_prefetch_entry(m, b->hash[i]);
    }
}

bool cmd_output_full(struct cmd_env *env, struct client *c, size_t bytes)
{
    if (LIKELY(bytes <= env->limits.output_bytes_max)) return false;
    client_close(env, c, false);
    return true;
}

/* Executes the decoded burst; *used grows by what was executed. WAITS: the rest must come again. */
static enum outcome run_burst(struct cmd_env *env, struct client *c, size_t count, size_t *used)
{
    struct cmd_burst *b = env->burst;
    uint8_t db = c->db;
    for (size_t i = 0; i < count; i++) {
        if (c->closing || c->close_asked || c->blocked || c->draining) return WAITS;
        if (UNLIKELY(cmd_output_full(env, c, chain_bytes(c->out)))) return WAITS;
        const struct cmd_def *container = NULL;
        const struct cmd_def *def = b->def[i];
        if (def == NULL) def = cmd_table_find(env->table, b->req[i].argc, b->req[i].argv, &container);
        uint64_t hash = c->db == db ? b->hash[i] : 0;
        if (execute(env, c, def, container, b->req[i].argc, b->req[i].argv, hash) == WAITS) {
            c->draining = !c->paused;
            return WAITS;
        }
        *used += b->req[i].used_bytes;
    }
    return c->blocked || c->draining ? WAITS : EXECUTED;
}

static void protocol_failed(struct cmd_env *env, struct client *c, enum err e, const struct errmsg *em)
{
    env->stats.protocol_errors++;
    if (e == ERR_FOREIGN) {
        char peer[CLIENT_ADDRESS_BYTES_MAX];
        log_warning("connection refused peer=%s reason=\"%s\"", client_address(env, c, true, peer), em->text);
        client_close(env, c, false);
        return;
    }
    struct reply r = reply_to(c->pending > 0 ? &env->capture : c->out, c->proto);
    reply_error(&r, "ERR", "%s", em->text);
    if (c->pending > 0) cmd_queue_capture(env, c);
    client_wrote(env, c);
    client_close(env, c, true);
}

/* What was decoded ahead and not executed will be decoded again. */
static void decoder_rewind(struct resp_decoder *d)
{
    const struct resp_limits *limits = d->limits;
    resp_decoder_deinit(d);
    resp_decoder_init(d, limits);
}

size_t cmd_feed(struct cmd_env *env, struct client *c, struct slice in, struct resp_decoder *d,
                size_t *want, bool *waits)
{
    size_t used = 0;
    size_t done = 0;
    *want = 0;
    *waits = false;
    c->active_ms = env->now_ms;
    while (done < FEED_BUDGET) {
        if (c->closing || c->close_asked) return in.len;
        if (c->blocked || c->draining || c->paused) break;
        if (node_is_congested(env->node)) {
            c->congested = true;
            break;
        }
        d->authenticated = c->authenticated;
        struct errmsg em = { "" };
        enum err e = OK;
        struct slice rest = { in.at + used, in.len - used };
        size_t count = decode_burst(env, c, rest, d, &e, &em);
        prefetch_burst(env, c, count);
        struct resp_request *last = &env->burst->req[count < BURST_COUNT ? count : 0];
        enum outcome outcome = run_burst(env, c, count, &used);
        done += count;
        if (outcome == WAITS) {
            decoder_rewind(d);
            break;
        }
        if (e == ERR_AGAIN) {
            used += last->used_bytes;
            *want = last->need_bytes;
            break;
        }
        if (e != OK) {
            protocol_failed(env, c, e, &em);
            return in.len;
        }
    }
    if (chain_bytes(c->out) > 0) client_wrote(env, c);
    *waits = !c->closing && !c->close_asked && (c->blocked || c->draining || c->congested || c->paused);
    return c->closing || c->close_asked ? in.len : used;
}

/* --- what comes back from the log ------------------------------------------------------------- */

void cmd_ticket_finished(struct cmd_env *env, struct client *c)
{
    ASSERT(c->pending > 0);
    c->pending--;
    client_wrote(env, c);
    if (c->pending > 0) return;
    if (c->close_asked && !c->closing) {
        c->close_asked = false;
        client_close(env, c, true);
        return;
    }
    if (c->draining) {
        c->draining = false;
        if (!c->blocked) env->io.resume(env->io.ctx, c->link);
    }
}

static void local_done(struct cmd_env *env, struct client *c, struct cmd_copy *copy,
                       struct reply *r, const struct op_result *res, const struct view *v)
{
    enum err e = res != NULL ? res->err : (copy->def->flags & CMD_READ) != 0 ? node_read_check(env->node) : OK;
    if (c != NULL && e != OK) {
        reply_err(r, e);
    } else if (c != NULL) {
        struct cmd_ctx cx = {
            .env = env, .client = c, .def = copy->def, .argc = copy->argc, .argv = copy->argv,
            .db = copy->db, .reply = r, .view = *v, .mode = CMD_MODE_LOCAL,
        };
        cmd_run(&cx);
    }
    mem_free(copy);
}

static void raw_done(struct client *c, struct chain *bytes, struct reply *r)
{
    if (c != NULL) chain_move(r->out, bytes);
    chain_deinit(bytes);
    mem_free(bytes);
}

static void write_done(struct cmd_env *env, struct client *c, const struct ticket *t, struct reply *r,
                       const struct op *op, const struct op_result *res, const struct view *v)
{
    const struct cmd_finish *finish = t->row;
    struct cmd_done dx = {
        .env = env, .client = c, .reply = r, .view = *v, .data = t->data, .arg = t->arg,
    };
    if (c != NULL || finish->without_client) cmd_finish_reply(&dx, finish, op, res);
    if (finish->release != NULL) finish->release(t->data);
}

void cmd_finish_reply(struct cmd_done *dx, const struct cmd_finish *finish, const struct op *op,
                      const struct op_result *res)
{
    if (res->err == OK || finish->on_error) {
        finish->done(dx, op, res);
    } else if (res->text != NULL) {
        reply_error(dx->reply, err_prefix(res->err), "%s", res->text);
    } else {
        reply_err(dx->reply, res->err);
    }
}

static void hook_done(void *ctx, const struct ticket *t, const struct op *op,
                      const struct op_result *res, const struct view *v)
{
    struct cmd_env *env = ctx;
    struct client *c = client_find(env, t->client_id);
    struct client *alive = c != NULL && !c->closing ? c : NULL;
    bool quiet = alive == NULL || t->flags != 0;
    struct reply r = reply_to(quiet ? &env->trash : alive->out, alive != NULL ? alive->proto : 2);
    switch ((enum ticket_kind)t->kind) {
    case TICKET_WRITE: write_done(env, alive, t, &r, op, res, v); break;
    case TICKET_LOCAL:
        queue_left(env, t);
        local_done(env, alive, t->data, &r, res, v);
        break;
    case TICKET_RAW:
        queue_left(env, t);
        raw_done(alive, t->data, &r);
        break;
    case TICKET_TXN: cmd_txn_done(env, t, alive, &r, op, res, v); break;
    }
    env->stats.errors += r.error_count;
    if (chain_bytes(&env->trash) > 0) chain_consume(&env->trash, chain_bytes(&env->trash));
    if (c != NULL) cmd_ticket_finished(env, c);
}

static void hook_element(void *ctx, const struct ticket *t, uint32_t ordinal, const struct op *op,
                         const struct op_result *res, const struct view *v)
{
    ASSERT(t->kind == TICKET_TXN);
    cmd_txn_element(ctx, t, ordinal, op, res, v);
}

static bool hook_wants_prev(void *ctx, struct slice key)
{
    struct cmd_env *env = ctx;
    return cmd_hub_wants_prev(env->hub, key);
}

static void hook_event(void *ctx, const struct mvcc_event *ev)
{
    struct cmd_env *env = ctx;
    if (ev->op == ROW_EXPIRE) env->stats.expired_keys++;
    cmd_hub_event(env->hub, ev);
}

static void hook_life(void *ctx, struct slice key, const char *what)
{
    struct cmd_env *env = ctx;
    cmd_hub_life(env->hub, key, what);
}

static void hook_read_done(void *ctx, const struct store_read *read)
{
    cmd_read_done(ctx, read);
}

static void resume_congested(void *ctx, struct client *c)
{
    struct cmd_env *env = ctx;
    if (!c->congested) return;
    c->congested = false;
    if (!c->blocked && !c->draining) env->io.resume(env->io.ctx, c->link);
}

static void hook_uncongested(void *ctx)
{
    client_each(ctx, resume_congested, ctx);
}

static void hook_barrier(void *ctx, uint64_t barrier)
{
    cmd_barrier_reached(ctx, barrier);
}

static void hook_state_replaced(void *ctx, uint64_t old_rev, uint64_t new_rev)
{
    struct cmd_env *env = ctx;
    cmd_hub_replaced(env->hub, old_rev, new_rev);
}

static void hook_leader_known(void *ctx, bool known)
{
    struct cmd_env *env = ctx;
    cmd_hub_leader_known(env->hub, known);
}

static void hook_diverged(void *ctx)
{
    struct cmd_env *env = ctx;
    cmd_hub_diverged(env->hub);
}

static void hook_published(void *ctx, uint8_t kind, struct slice channel, struct slice message)
{
    cmd_published(ctx, kind, channel, message);
}

void cmd_env_hooks(struct cmd_env *env, struct node_hooks *out)
{
    *out = (struct node_hooks){
        .ctx = env,
        .done = hook_done,
        .element = hook_element,
        .wants_prev = hook_wants_prev,
        .event = hook_event,
        .life = hook_life,
        .read_done = hook_read_done,
        .uncongested = hook_uncongested,
        .barrier = hook_barrier,
        .state_replaced = hook_state_replaced,
        .leader_known = hook_leader_known,
        .diverged = hook_diverged,
        .published = hook_published,
    };
}

/* --- proposing ---------------------------------------------------------------------------------- */

enum err cmd_propose_range(struct cmd_ctx *cx, const struct op *op, bool key2_to_end,
                           const struct cmd_finish *finish, void *data, uint64_t arg)
{
    ASSERT(finish != NULL && finish->done != NULL);
    if (cx->mode == CMD_MODE_COLLECT) return cmd_collect_op(cx, op, key2_to_end, finish, data, arg);
    ASSERT(cx->mode == CMD_MODE_NORMAL);
    ASSERT((cx->def->flags & CMD_WRITE) != 0);
    struct ticket t = {
        .kind = TICKET_WRITE, .row = finish, .data = data, .arg = arg,
    };
    if (LIKELY(cx->client != NULL)) {
        ASSERT(cx->client->barrier_pending == 0); /* I5 */
        t.client_id = cx->client->handle;
        t.flags = client_is_quiet(cx->client);
        cx->client->write_batch = (uint32_t)node_batch_number(cx->env->node);
    }
    TRY(node_propose(cx->env->node, op, key2_to_end, &t));
    if (LIKELY(cx->client != NULL)) cx->client->pending++;
    return OK;
}

enum err cmd_propose(struct cmd_ctx *cx, const struct op *op, const struct cmd_finish *finish,
                     void *data, uint64_t arg)
{
    return cmd_propose_range(cx, op, false, finish, data, arg);
}

/* --- the environment ------------------------------------------------------------------------------ */

void cmd_env_init(struct cmd_env *env)
{
    env->table = cmd_table_new();
    env->call_counts = mem_zalloc(cmd_table_count(env->table) * sizeof *env->call_counts);
    env->burst = mem_zalloc(sizeof *env->burst);
    for (size_t i = 0; i < BURST_COUNT; i++) resp_argv_init(&env->burst->argv[i]);
    chain_init(&env->capture, env->io.pool);
    chain_init(&env->trash, env->io.pool);
    cmd_clients_init(env);
    cmd_barriers_init(env);
    env->hub = cmd_hub_new(env);
    env->slow_log = slow_log_new();
    env->latency = latency_new(cmd_table_count(env->table));
}

void cmd_env_deinit(struct cmd_env *env)
{
    cmd_barriers_deinit(env);
    cmd_clients_deinit(env);
    cmd_hub_free(env->hub);
    slow_log_free(env->slow_log);
    latency_free(env->latency);
    mem_free(env->monitors);
    chain_deinit(&env->capture);
    chain_deinit(&env->trash);
    for (size_t i = 0; i < BURST_COUNT; i++) resp_argv_deinit(&env->burst->argv[i]);
    mem_free(env->burst);
    mem_free(env->call_counts);
    buf_deinit(&env->scratch);
    buf_deinit(&env->scratch2);
    buf_deinit(&env->scratch3);
    buf_deinit(&env->key_bytes);
    cmd_table_free(env->table);
}

static void leader_note(struct cmd_env *env)
{
    uint64_t id = raft_leader(node_raft(env->node));
    if (LIKELY(id == env->leader_id || id == 0)) return;
    env->leader_id = id;
    env->leader_changes++;
}

void cmd_turn(struct cmd_env *env, int64_t now_us)
{
    leader_note(env);
    env->now_us = now_us;
    env->now_ms = now_us / 1000;
    if (env->pause_until_ms != 0 && env->now_ms >= env->pause_until_ms) cmd_pause_end(env);
    cmd_timers_run(env);
    cmd_barrier_turn(env);
    cmd_hub_turn(env->hub);
    if (env->limits.latency_ms > 0) latency_turn(env);
}

void cmd_applied_late(struct cmd_env *env)
{
    if (env->limits.latency_ms > 0) latency_turn(env);
}

void cmd_client_writable(struct cmd_env *env, struct client *c)
{
    if (!c->closing) cmd_hub_writable(env->hub, c);
}
