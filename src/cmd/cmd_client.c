/* cmd/cmd_client.c - clients by handle, waiting with and without a deadline, history reads. */
#include "cmd/cmd_int.h"

#define SLOT_MASK ((1u << CLIENT_SLOT_BITS) - 1)

/* --- the table ------------------------------------------------------------------------- */

struct client *client_find(const struct cmd_env *env, uint64_t handle)
{
    const struct client_table *t = env->clients;
    size_t slot = handle & SLOT_MASK;
    struct client *c = slot < t->cap ? t->slots[slot] : NULL;
    return c != NULL && c->handle == handle ? c : NULL;
}

static void table_grow(struct client_table *t)
{
    size_t cap = t->cap == 0 ? 64 : t->cap * 2;
    ASSERT(cap <= SLOT_MASK + 1);
    t->slots = mem_realloc(t->slots, cap * sizeof *t->slots);
    t->free_slots = mem_realloc(t->free_slots, cap * sizeof *t->free_slots);
    for (size_t i = cap; i > t->cap; i--) {
        t->slots[i - 1] = NULL;
        t->free_slots[t->free_count++] = (uint32_t)(i - 1);
    }
    t->cap = cap;
}

struct client *client_new(struct cmd_env *env, void *link, struct chain *out)
{
    struct client_table *t = env->clients;
    if (t->free_count == 0) table_grow(t);
    uint32_t slot = t->free_slots[--t->free_count];
    struct client *c = mem_zalloc(sizeof *c);
    c->handle = ++t->next_id << CLIENT_SLOT_BITS | slot;
    c->link = link;
    c->out = out;
    c->proto = 2;
    c->authenticated = env->password[0] == '\0';
    c->created_ms = env->now_ms;
    c->active_ms = env->now_ms;
    t->slots[slot] = c;
    t->count++;
    env->stats.connections++;
    return c;
}

void client_free(struct cmd_env *env, struct client *c)
{
    struct client_table *t = env->clients;
    c->closing = true;
    c->flushing = false;
    if (c->blocked && c->block->cancel != NULL) c->block->cancel(env, c);
    cmd_hub_client_gone(env->hub, c);
    cmd_monitor_gone(env, c);
    cmd_multi_free(c);
    cmd_unwatch(c);
    size_t slot = c->handle & SLOT_MASK;
    ASSERT(t->slots[slot] == c);
    t->slots[slot] = NULL;
    t->free_slots[t->free_count++] = (uint32_t)slot;
    t->count--;
    mem_free(c->block);
    for (size_t i = 0; c->names != NULL && i < CLIENT_NAMES; i++) mem_free(c->names->at[i]);
    mem_free(c->names);
    mem_free(c);
}

const char *client_name(const struct client *c, enum client_name which)
{
    return c->names == NULL || c->names->at[which] == NULL ? "" : c->names->at[which];
}

void client_set_name(struct client *c, enum client_name which, struct slice name)
{
    if (c->names == NULL && name.len == 0) return;
    if (c->names == NULL) c->names = mem_zalloc(sizeof *c->names);
    char **at = &c->names->at[which];
    mem_free(*at);
    *at = NULL;
    if (name.len == 0) return;
    *at = mem_alloc(name.len + 1);
    memcpy(*at, name.at, name.len);
    (*at)[name.len] = '\0';
}

const char *client_address(const struct cmd_env *env, const struct client *c, bool peer,
                           char out[CLIENT_ADDRESS_BYTES_MAX])
{
    return env->io.address(env->io.ctx, c->link, peer, out, CLIENT_ADDRESS_BYTES_MAX);
}

size_t client_count(const struct cmd_env *env)
{
    return env->clients->count;
}

void client_each(struct cmd_env *env, void (*visit)(void *ctx, struct client *c), void *ctx)
{
    for (size_t i = 0; i < env->clients->cap; i++) {
        struct client *c = env->clients->slots[i];
        if (c != NULL) visit(ctx, c);
    }
}

void client_wrote(struct cmd_env *env, struct client *c)
{
    if (c->closing) return;
    size_t max = client_is_stranger(c) ? CLIENT_UNAUTH_OUTPUT_BYTES_MAX : (size_t)env->limits.output_bytes_max;
    if (UNLIKELY(chain_bytes(c->out) > max)) {
        client_close(env, c, false);
        return;
    }
    env->io.dirty(env->io.ctx, c->link);
}

void client_close(struct cmd_env *env, struct client *c, bool after_flush)
{
    if (client_is_gone(c) || (c->closing && after_flush)) return;
    if (after_flush && c->pending > 0) {
        c->close_asked = true;
        return;
    }
    c->closing = true;
    c->flushing = after_flush;
    env->io.close(env->io.ctx, c->link, after_flush);
}

/* --- timers ------------------------------------------------------------------------------ */

/* A heap by time; a timer whose token no longer matches its client's is stale and ignored. */
struct timer {
    int64_t at_ms;
    uint64_t handle, token;
};
struct cmd_timers {
    struct timer *at;
    size_t count, cap;
    uint64_t next_token;
};

static void timer_sift_up(struct cmd_timers *t, size_t at)
{
    struct timer moved = t->at[at];
    while (at > 0 && t->at[(at - 1) / 2].at_ms > moved.at_ms) {
        t->at[at] = t->at[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->at[at] = moved;
}

static void timer_pop(struct cmd_timers *t)
{
    struct timer moved = t->at[--t->count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= t->count) break;
        if (child + 1 < t->count && t->at[child + 1].at_ms < t->at[child].at_ms) child++;
        if (t->at[child].at_ms >= moved.at_ms) break;
        t->at[at] = t->at[child];
        at = child;
    }
    if (t->count > 0) t->at[at] = moved;
}

/* NULL: nobody waits for this timer any more. */
static struct client *timer_waiter(const struct cmd_env *env, const struct timer *due)
{
    struct client *c = client_find(env, due->handle);
    return c != NULL && c->blocked && c->block->token == due->token ? c : NULL;
}

/* Waits that ended early leave their timers behind: they must not pile up until their time. */
static void timers_sweep(const struct cmd_env *env, struct cmd_timers *t)
{
    size_t count = t->count;
    t->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (timer_waiter(env, &t->at[i]) == NULL) continue;
        t->at[t->count] = t->at[i];
        timer_sift_up(t, t->count++);
    }
}

static uint64_t timer_add(const struct cmd_env *env, int64_t at_ms, uint64_t handle)
{
    struct cmd_timers *t = env->timers;
    if (t->count == t->cap) {
        timers_sweep(env, t);
        if (t->count >= t->cap / 2) {
            t->cap = t->cap == 0 ? 64 : t->cap * 2;
            t->at = mem_realloc(t->at, t->cap * sizeof *t->at);
        }
    }
    t->at[t->count] = (struct timer){ at_ms, handle, ++t->next_token };
    timer_sift_up(t, t->count++);
    return t->next_token;
}

void cmd_timers_run(struct cmd_env *env)
{
    struct cmd_timers *t = env->timers;
    while (t->count > 0 && t->at[0].at_ms <= env->now_ms) {
        struct timer due = t->at[0];
        timer_pop(t);
        struct client *c = timer_waiter(env, &due);
        if (c == NULL || c->closing) continue;
        c->block->timeout(env, c);
    }
}

/* Clients choose times, and the loop counts in microseconds: what overflows there is never. */
int64_t cmd_next_timer_ms(const struct cmd_env *env)
{
    int64_t next_ms = cmd_hub_next_ms(env->hub);
    next_ms = MIN(next_ms, cmd_barrier_next_ms(env));
    if (env->pause_until_ms != 0) next_ms = MIN(next_ms, env->pause_until_ms);
    if (env->timers->count > 0) next_ms = MIN(next_ms, env->timers->at[0].at_ms);
    return next_ms > CMD_TIMER_MS_MAX ? INT64_MAX : next_ms;
}

struct reply client_reply(struct cmd_env *env, const struct client *c)
{
    ASSERT(c->blocked);
    return reply_to(c->block->quiet ? &env->trash : c->out, c->proto);
}

void client_block_more(struct cmd_env *env, struct client *c, int64_t until_ms,
                       void (*timeout)(struct cmd_env *, struct client *),
                       void (*cancel)(struct cmd_env *, struct client *), void *data)
{
    ASSERT(c->blocked);
    c->block->timeout = timeout;
    c->block->cancel = cancel;
    c->block->data = data;
    c->block->can_unblock = false;
    c->block->token = 0;
    if (until_ms != INT64_MAX) c->block->token = timer_add(env, until_ms, c->handle);
}

void client_block(struct cmd_env *env, struct client *c, int64_t until_ms,
                  void (*timeout)(struct cmd_env *, struct client *),
                  void (*cancel)(struct cmd_env *, struct client *), void *data)
{
    ASSERT(!c->blocked);
    bool quiet = client_is_quiet(c);
    c->block = mem_zalloc(sizeof *c->block);
    c->block->quiet = quiet;
    c->blocked = true;
    client_block_more(env, c, until_ms, timeout, cancel, data);
}

void client_wait_events(struct cmd_env *env, struct client *c)
{
    ASSERT(c->blocked && c->block->cancel != NULL);
    c->block->can_unblock = true;
    env->io.resume(env->io.ctx, c->link); /* looks whether its input has ended; nothing is executed */
}

void client_wait_events_end(struct client *c)
{
    ASSERT(c->blocked);
    c->block->can_unblock = false;
}

void client_unblock(struct cmd_env *env, struct client *c)
{
    ASSERT(c->blocked);
    if (c->block->quiet) chain_consume(&env->trash, chain_bytes(&env->trash));
    c->blocked = false;
    mem_free(c->block);
    c->block = NULL;
    if (c->closing) return;
    client_wrote(env, c);
    env->io.resume(env->io.ctx, c->link);
}

/* --- history reads ------------------------------------------------------------------------------ */

struct pending_read {
    struct pending_read *next;
    uint64_t cookie, handle;
    cmd_read_fn *done;
    void *data;
};
struct cmd_reads {
    struct pending_read *head;
    uint64_t next_cookie;
};

uint64_t cmd_read_cookie(struct cmd_env *env)
{
    return ++env->reads->next_cookie;
}

void cmd_read_start(struct cmd_env *env, uint64_t client_handle, struct store_read *read_taken,
                    cmd_read_fn *done, void *data)
{
    struct pending_read *p = mem_alloc(sizeof *p);
    *p = (struct pending_read){ env->reads->head, read_taken->cookie, client_handle, done, data };
    env->reads->head = p;
    node_read(env->node, read_taken);
}

void cmd_read_done(struct cmd_env *env, const struct store_read *read)
{
    struct pending_read **at = &env->reads->head;
    while (*at != NULL && (*at)->cookie != read->cookie) at = &(*at)->next;
    ASSERT(*at != NULL);
    struct pending_read p = **at;
    mem_free(*at);
    *at = p.next;
    struct client *c = client_find(env, p.handle);
    if (c != NULL && c->closing) c = NULL;
    p.done(env, c, read, p.data);
}

/* --- life of the tables ---------------------------------------------------------------------------- */

void cmd_clients_init(struct cmd_env *env)
{
    env->clients = mem_zalloc(sizeof *env->clients);
    env->timers = mem_zalloc(sizeof *env->timers);
    env->reads = mem_zalloc(sizeof *env->reads);
}

void cmd_clients_deinit(struct cmd_env *env)
{
    ASSERT(env->clients->count == 0);
    mem_free(env->clients->slots);
    mem_free(env->clients->free_slots);
    mem_free(env->clients);
    mem_free(env->timers->at);
    mem_free(env->timers);
    while (env->reads->head != NULL) { /* the process ends with reads under way */
        struct pending_read *p = env->reads->head;
        env->reads->head = p->next;
        p->done(env, NULL, NULL, p->data);
        mem_free(p);
    }
    mem_free(env->reads);
}
