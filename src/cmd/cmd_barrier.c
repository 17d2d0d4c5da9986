/* cmd/cmd_barrier.c - reads of a member that has to ask first whether it is up to date.
 *
 * A read of a group joins the barrier of its turn and is executed when that is reached (node.h).
 * All reads wait in one queue, in the order in which they came, so the reads of one client keep
 * theirs. What else a client asks for meanwhile keeps its place: finished replies queue here behind
 * the reads; an operation of the same turn takes the client's reads with it into the log's order
 * (they become local items in front of it); any other has to wait until they are answered.
 * The queue is bounded by max-waiting-reads and waiting-reads-max-bytes.
 */
#include "cmd/cmd_int.h"

#define BARRIER_RING_START 256

enum item_kind {
    ITEM_READ,  /* data: struct cmd_copy; executed where it stands, like a local item */
    ITEM_ALONE, /* likewise, but as if nothing else were pending: it may block its client */
    ITEM_LOCAL, /* likewise, but needs no leader: it only keeps its place */
    ITEM_TXN,   /* data: struct collect: EXEC or TXN that only reads */
    ITEM_RAW,   /* data: struct chain (allocated): bytes that wait for their turn */
};

struct barrier_item {
    uint64_t barrier; /* never falls along the queue, nor does since_ms */
    uint64_t handle;
    int64_t since_ms;
    void *data;
    size_t bytes;
    enum item_kind kind;
};

struct cmd_barriers {
    struct barrier_item *at; /* ring */
    size_t cap;              /* a power of two */
    uint64_t head, tail;
    uint64_t bytes; /* of all items */
    uint64_t refused_count, timeout_count;
};

void cmd_barriers_init(struct cmd_env *env)
{
    env->barriers = mem_zalloc(sizeof *env->barriers);
}

static void item_free(struct cmd_env *env, const struct barrier_item *item)
{
    if (item->kind == ITEM_TXN) {
        cmd_txn_read(env, NULL, item->data, OK);
        return;
    }
    if (item->kind == ITEM_RAW) chain_deinit(item->data);
    mem_free(item->data);
}

void cmd_barriers_deinit(struct cmd_env *env)
{
    struct cmd_barriers *b = env->barriers;
    for (; b->head != b->tail; b->head++) item_free(env, &b->at[b->head & (b->cap - 1)]);
    mem_free(b->at);
    mem_free(b);
}

/* --- limits -------------------------------------------------------------------------------- */

bool cmd_barrier_is_full(const struct cmd_env *env)
{
    const struct cmd_barriers *b = env->barriers;
    return UNLIKELY(b->tail - b->head >= env->limits.waiting_reads_max ||
                    b->bytes >= env->limits.waiting_reads_bytes_max);
}

void cmd_barrier_refuse(struct cmd_env *env, struct reply *r)
{
    env->barriers->refused_count++;
    reply_error(r, err_prefix(ERR_BUSY), "too many reads wait for the leader (max-waiting-reads %u, "
                "waiting-reads-max-bytes %llu)", env->limits.waiting_reads_max,
                (unsigned long long)env->limits.waiting_reads_bytes_max);
}

void cmd_barrier_stats_get(const struct cmd_env *env, struct cmd_barrier_stats *out)
{
    const struct cmd_barriers *b = env->barriers;
    *out = (struct cmd_barrier_stats){ b->tail - b->head, b->bytes, b->refused_count, b->timeout_count };
}

int64_t cmd_barrier_next_ms(const struct cmd_env *env)
{
    const struct cmd_barriers *b = env->barriers;
    if (b->head == b->tail) return INT64_MAX;
    return b->at[b->head & (b->cap - 1)].since_ms + env->limits.request_timeout_ms;
}

/* --- queueing ------------------------------------------------------------------------------- */

static void ring_grow(struct cmd_barriers *b)
{
    size_t count = b->tail - b->head;
    size_t cap = b->cap == 0 ? BARRIER_RING_START : b->cap * 2;
    struct barrier_item *at = mem_alloc(cap * sizeof *at);
    for (size_t i = 0; i < count; i++) at[i] = b->at[(b->head + i) & (b->cap - 1)];
    mem_free(b->at);
    b->at = at;
    b->cap = cap;
    b->head = 0;
    b->tail = count;
}

static void push(struct cmd_env *env, struct client *c, const struct barrier_item *item)
{
    struct cmd_barriers *b = env->barriers;
    ASSERT(c->barrier_pending == c->pending); /* I5 */
    if (b->tail - b->head == b->cap) ring_grow(b);
    b->bytes += item->bytes;
    b->at[b->tail++ & (b->cap - 1)] = *item;
    c->pending++;
    c->barrier_pending++;
}

static void push_read(struct cmd_env *env, struct client *c, enum item_kind kind, void *data_taken, size_t bytes)
{
    push(env, c, &(struct barrier_item){
        .barrier = node_barrier(env->node), .handle = c->handle, .since_ms = env->now_ms,
        .data = data_taken, .bytes = bytes, .kind = kind,
    });
}

/* Behind something of its client, so that there is a last one: done with it at the earliest. */
static void push_behind(struct cmd_env *env, struct client *c, enum item_kind kind, void *data_taken, size_t bytes)
{
    const struct cmd_barriers *b = env->barriers;
    ASSERT(c->barrier_pending > 0);
    const struct barrier_item *last = &b->at[(b->tail - 1) & (b->cap - 1)];
    push(env, c, &(struct barrier_item){
        .barrier = last->barrier, .handle = c->handle, .since_ms = last->since_ms,
        .data = data_taken, .bytes = bytes, .kind = kind,
    });
}

static struct cmd_copy *copy_new(const struct client *c, const struct cmd_def *def, size_t argc,
                                 const struct slice *argv)
{
    struct cmd_copy *copy = cmd_copy_new(def, c->db, argc, argv);
    copy->quiet = client_is_quiet(c);
    return copy;
}

void cmd_barrier_read(struct cmd_env *env, struct client *c, const struct cmd_def *def, bool alone,
                      size_t argc, const struct slice *argv)
{
    ASSERT(!alone || c->pending == 0);
    struct cmd_copy *copy = copy_new(c, def, argc, argv);
    push_read(env, c, alone ? ITEM_ALONE : ITEM_READ, copy, cmd_copy_bytes(copy));
    if (alone) c->draining = true;
}

void cmd_barrier_local(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                       const struct slice *argv)
{
    struct cmd_copy *copy = copy_new(c, def, argc, argv);
    push_behind(env, c, ITEM_LOCAL, copy, cmd_copy_bytes(copy));
}

void cmd_barrier_raw(struct cmd_env *env, struct client *c, struct chain *bytes_taken)
{
    push_behind(env, c, ITEM_RAW, bytes_taken, sizeof *bytes_taken + chain_held_bytes(bytes_taken));
}

void cmd_barrier_txn(struct cmd_env *env, struct client *c, struct collect *k_taken, size_t bytes)
{
    push_read(env, c, ITEM_TXN, k_taken, bytes);
}

/* --- in front of an operation -------------------------------------------------------------- */

/* The client's reads are the newest of the queue, and their barrier was not asked for yet: nothing
 * has happened since that they would have to see, so the place in front of its next operation is
 * as good. */
bool cmd_barrier_convert(struct cmd_env *env, struct client *c)
{
    struct cmd_barriers *b = env->barriers;
    uint64_t open = node_barrier(env->node);
    size_t count = c->barrier_pending;
    if (b->tail - b->head < count) return false;
    for (size_t i = 1; i <= count; i++) {
        const struct barrier_item *item = &b->at[(b->tail - i) & (b->cap - 1)];
        if (item->handle != c->handle || item->barrier != open) return false;
        if (item->kind == ITEM_ALONE || item->kind == ITEM_TXN) return false;
    }
    c->pending -= (uint32_t)count; /* cmd_queue_local counts them again */
    c->barrier_pending = 0;
    for (size_t i = 0; i < count; i++) {
        const struct barrier_item *item = &b->at[(b->tail - count + i) & (b->cap - 1)];
        cmd_queue_local(env, c, item->kind == ITEM_RAW ? TICKET_RAW : TICKET_LOCAL, item->data, item->bytes);
        b->bytes -= item->bytes;
    }
    b->tail -= count;
    return true;
}

/* --- when the barrier is reached --------------------------------------------------------------- */

static void run_read(struct cmd_env *env, struct client *c, const struct cmd_copy *copy, bool alone,
                     enum err e)
{
    struct reply r = reply_to(copy->quiet ? &env->trash : c->out, c->proto);
    uint8_t reply_mode = c->reply_mode;
    c->reply_mode = copy->quiet; /* as it was when the command came: it may block its client */
    if (e != OK) {
        reply_err(&r, e);
    } else {
        struct cmd_ctx cx = {
            .env = env, .client = c, .def = copy->def, .argc = copy->argc, .argv = copy->argv,
            .db = copy->db, .reply = &r, .view = node_view(env->node),
            .mode = alone ? CMD_MODE_NORMAL : CMD_MODE_LOCAL,
        };
        cmd_run(&cx);
    }
    c->reply_mode = reply_mode;
    env->stats.errors += r.error_count;
    if (chain_bytes(&env->trash) > 0) chain_consume(&env->trash, chain_bytes(&env->trash));
}

/* From here on as if it had just come, with nothing before it. */
static void run_alone(struct cmd_env *env, struct client *c, const struct cmd_copy *copy, enum err e)
{
    c->pending--;
    c->draining = false;
    run_read(env, c, copy, true, e);
    c->pending++;
    cmd_ticket_finished(env, c);
    if (!c->closing && !c->blocked && !c->draining) env->io.resume(env->io.ctx, c->link);
}

static void run_item(struct cmd_env *env, struct barrier_item item, enum err e)
{
    struct client *c = client_find(env, item.handle);
    if (c == NULL) {
        item_free(env, &item);
        return;
    }
    ASSERT(c->barrier_pending > 0);
    c->barrier_pending--;
    if (c->closing) {
        c->pending--;
        item_free(env, &item);
        return;
    }
    switch (item.kind) {
    case ITEM_READ: run_read(env, c, item.data, false, e); break;
    case ITEM_LOCAL: run_read(env, c, item.data, false, OK); break;
    case ITEM_RAW: chain_move(c->out, item.data); break;
    case ITEM_TXN: cmd_txn_read(env, c, item.data, e); break;
    case ITEM_ALONE: run_alone(env, c, item.data, e); break;
    }
    if (item.kind != ITEM_ALONE) cmd_ticket_finished(env, c);
    if (item.kind != ITEM_TXN) item_free(env, &item);
}

static struct barrier_item take_first(struct cmd_barriers *b)
{
    struct barrier_item item = b->at[b->head++ & (b->cap - 1)];
    b->bytes -= item.bytes;
    return item;
}

void cmd_barrier_reached(struct cmd_env *env, uint64_t barrier)
{
    struct cmd_barriers *b = env->barriers;
    while (b->head != b->tail && b->at[b->head & (b->cap - 1)].barrier <= barrier) {
        run_item(env, take_first(b), node_read_check(env->node));
    }
}

/* Nobody led for so long: a read has had no effect, so it may be refused. */
void cmd_barrier_turn(struct cmd_env *env)
{
    struct cmd_barriers *b = env->barriers;
    while (b->head != b->tail) {
        const struct barrier_item *item = &b->at[b->head & (b->cap - 1)];
        if (env->now_ms - item->since_ms < env->limits.request_timeout_ms) return;
        b->timeout_count += item->kind == ITEM_READ || item->kind == ITEM_ALONE || item->kind == ITEM_TXN;
        run_item(env, take_first(b), ERR_CLUSTERDOWN);
    }
}
