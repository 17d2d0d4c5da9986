/* cmd/cmd_barrier.c - reads of a member that has to ask first whether it is up to date.
 *
 * A read of a group joins the barrier of its turn and is executed when that is reached (node.h).
 * All reads wait in one queue, in the order in which they came, so the reads of one client keep
 * theirs. What else a client asks for meanwhile keeps its place: finished replies queue here behind
 * the reads; an operation of the same turn takes the client's reads with it into the log's order
 * (they become local items in front of it); any other has to wait until they are answered.
 */
#include "cmd/cmd_int.h"

#define BARRIER_RING_START 256

enum item_kind {
    ITEM_READ,  /* data: struct cmd_copy; executed where it stands, like a local item */
    ITEM_ALONE, /* likewise, but as if nothing else were pending: it may block its client */
    ITEM_RAW,   /* data: struct chain (allocated): bytes that wait for their turn */
};

struct barrier_item {
    uint64_t barrier;
    uint64_t handle;
    int64_t since_ms;
    void *data;
    enum item_kind kind;
};

struct cmd_barriers {
    struct barrier_item *at; /* ring */
    size_t cap;              /* a power of two */
    uint64_t head, tail;
};

void cmd_barriers_init(struct cmd_env *env)
{
    env->barriers = mem_zalloc(sizeof *env->barriers);
}

static void item_free(const struct barrier_item *item)
{
    if (item->kind == ITEM_RAW) chain_deinit(item->data);
    mem_free(item->data);
}

void cmd_barriers_deinit(struct cmd_env *env)
{
    struct cmd_barriers *b = env->barriers;
    for (; b->head != b->tail; b->head++) item_free(&b->at[b->head & (b->cap - 1)]);
    mem_free(b->at);
    mem_free(b);
}

static void push(struct cmd_env *env, struct client *c, enum item_kind kind, void *data_taken)
{
    struct cmd_barriers *b = env->barriers;
    if (b->tail - b->head == b->cap) {
        size_t count = b->tail - b->head;
        size_t cap = b->cap == 0 ? BARRIER_RING_START : b->cap * 2;
        struct barrier_item *at = mem_alloc(cap * sizeof *at);
        for (size_t i = 0; i < count; i++) at[i] = b->at[(b->head + i) & (b->cap - 1)];
        mem_free(b->at);
        *b = (struct cmd_barriers){ at, cap, 0, count };
    }
    b->at[b->tail++ & (b->cap - 1)] = (struct barrier_item){
        .barrier = node_barrier(env->node), .handle = c->handle, .since_ms = env->now_ms,
        .data = data_taken, .kind = kind,
    };
    c->pending++;
    c->barrier_pending++;
}

void cmd_barrier_read(struct cmd_env *env, struct client *c, const struct cmd_def *def, bool alone,
                      size_t argc, const struct slice *argv)
{
    ASSERT(!alone || c->pending == 0);
    push(env, c, alone ? ITEM_ALONE : ITEM_READ, cmd_copy_new(def, c->db, argc, argv));
    if (alone) c->draining = true;
}

void cmd_barrier_raw(struct cmd_env *env, struct client *c, struct chain *bytes_taken)
{
    push(env, c, ITEM_RAW, bytes_taken);
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
        if (item->handle != c->handle || item->barrier != open || item->kind == ITEM_ALONE) return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct barrier_item *item = &b->at[(b->tail - count + i) & (b->cap - 1)];
        cmd_queue_local(env, c, item->kind == ITEM_RAW ? TICKET_RAW : TICKET_LOCAL, item->data);
    }
    b->tail -= count;
    c->pending -= (uint32_t)count; /* cmd_queue_local has counted them again */
    c->barrier_pending = 0;
    return true;
}

/* --- when the barrier is reached --------------------------------------------------------------- */

static void run_read(struct cmd_env *env, struct client *c, const struct cmd_copy *copy, bool alone,
                     enum err e)
{
    bool quiet = c->reply_mode != 0;
    struct reply r = reply_to(quiet ? &env->trash : c->out, c->proto);
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
    env->stats.errors += r.error_count;
    if (chain_bytes(&env->trash) > 0) chain_consume(&env->trash, chain_bytes(&env->trash));
}

static void run_item(struct cmd_env *env, const struct barrier_item *item, enum err e)
{
    struct client *c = client_find(env, item->handle);
    if (c != NULL) {
        ASSERT(c->barrier_pending > 0);
        c->barrier_pending--;
        if (c->closing) {
            c->pending--;
        } else if (item->kind == ITEM_ALONE) {
            /* From here on as if it had just come, with nothing before it. */
            c->pending--;
            c->draining = false;
            run_read(env, c, item->data, true, e);
            c->pending++;
            cmd_ticket_finished(env, c);
            if (!c->closing && !c->blocked && !c->draining) env->io.resume(env->io.ctx, c->link);
        } else {
            if (item->kind == ITEM_RAW) chain_move(c->out, item->data);
            else run_read(env, c, item->data, false, e);
            cmd_ticket_finished(env, c);
        }
    }
    item_free(item);
}

void cmd_barrier_reached(struct cmd_env *env, uint64_t barrier)
{
    struct cmd_barriers *b = env->barriers;
    while (b->head != b->tail && b->at[b->head & (b->cap - 1)].barrier <= barrier) {
        struct barrier_item item = b->at[b->head++ & (b->cap - 1)];
        run_item(env, &item, OK);
    }
}

/* Nobody led for so long: a read has had no effect, so it may be refused. */
void cmd_barrier_turn(struct cmd_env *env)
{
    struct cmd_barriers *b = env->barriers;
    while (b->head != b->tail) {
        struct barrier_item item = b->at[b->head & (b->cap - 1)];
        if (env->now_ms - item.since_ms < env->limits.request_timeout_ms) return;
        b->head++;
        run_item(env, &item, ERR_CLUSTERDOWN);
    }
}
