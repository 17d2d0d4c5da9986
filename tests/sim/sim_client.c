/* tests/sim/sim_client.c - see sim_client.h: fibers, and the transport of tests/load over sim_group. */
#include "sim_client.h"

#include "load/load.h"
#include "sim_worker.h"

#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK_BYTES (256u << 10)
#define RUN_SECONDS 100000 /* until sim_load_end */
#define KEYS 24
#define TTL_MS 3000
#define REPLY_MS 9000
#define END_MS 60000
#define CONNECT_US 500
#define CLOCK_US 250000     /* what waits longer than two of these has no timer of its own */
#define LIST_SECONDS 15
#define POLL_MS 400 /* less than the PROGRESS of a watch */

struct fiber {
    ucontext_t context; /* with the sanitizer all switches are by it, else the first one is */
    jmp_buf jump;
    bool begun;
    struct sim_load *load;
    uint8_t *stack;
    void *fake; /* asan's */
    void *(*body)(void *arg);
    void *arg;
    bool done, waiting, is_worker;
    uint64_t token; /* of the newest wait */
    int64_t wake_us; /* of a long wait: the clock's business, not a timer's */
    struct buf in;
    bool broken;
};

struct sim_load {
    struct sim *s;
    struct load_options options;
    struct load_run run;
    struct fiber *fibers[SIM_FIBERS_MAX];
    size_t fiber_count;
    struct load_conn workers[SIM_FIBERS_MAX];
    struct load_watcher watchers[SIM_FIBERS_MAX];
    struct sim_worker *more[SIM_FIBERS_MAX];
    size_t worker_count, watcher_count, more_count;
    struct load_conn last;
    bool whole;
    struct history *all;
};

/* One simulator runs at a time. */
static struct fiber *running;
#ifndef __SANITIZE_ADDRESS__
static jmp_buf outside;
#else
static ucontext_t outside;
static const void *outside_stack;
static size_t outside_bytes;
#endif

/* --- fibers ---------------------------------------------------------------------------------- */

static void enter(struct fiber *f)
{
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&outside, &f->context);
#else
    /* A jump leaves the mask of signals alone: two system calls less. */
    if (_setjmp(outside) != 0) return;
    if (f->begun) _longjmp(f->jump, 1);
    f->begun = true;
    setcontext(&f->context);
#endif
}

static void leave(struct fiber *f)
{
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&f->context, &outside);
#else
    if (_setjmp(f->jump) == 0) _longjmp(outside, 1);
#endif
}

static void fiber_main(void)
{
    struct fiber *f = running;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &outside_stack, &outside_bytes);
#endif
    f->body(f->arg);
    f->done = true;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(NULL, outside_stack, outside_bytes);
#endif
    leave(f);
    abort();
}

static void fiber_run(struct fiber *f)
{
    ASSERT(running == NULL && !f->done);
    running = f;
    f->waiting = false;
    f->wake_us = INT64_MAX;
    f->token++;
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK_BYTES);
#endif
    enter(f);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    running = NULL;
}

static void fiber_yield(struct fiber *f)
{
    f->waiting = true;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&f->fake, outside_stack, outside_bytes);
#endif
    leave(f);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(f->fake, &outside_stack, &outside_bytes);
#endif
}

static void fiber_timer(void *ctx, uint64_t token)
{
    struct fiber *f = ctx;
    if (f->waiting && f->token == token) fiber_run(f);
}

static void fiber_new(struct sim_load *l, void *(*body)(void *arg), void *arg, bool is_worker)
{
    ASSERT(l->fiber_count < SIM_FIBERS_MAX);
    struct fiber *f = mem_zalloc(sizeof *f);
    f->load = l;
    f->stack = mem_alloc(STACK_BYTES);
    f->body = body;
    f->arg = arg;
    f->is_worker = is_worker;
    f->wake_us = INT64_MAX;
    f->waiting = true;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, fiber_main, 0);
    l->fibers[l->fiber_count++] = f;
    sim_at(l->s, sim_now_us(l->s) + (int64_t)sim_random(l->s, 100000), fiber_timer, f, f->token);
}

/* --- the transport ------------------------------------------------------------------------------ */

int64_t load_now_ns(void)
{
    return running == NULL ? 0 : sim_now_us(running->load->s) * 1000;
}

static void wait_until(struct fiber *f, int64_t at_us)
{
    bool is_long = at_us - sim_now_us(f->load->s) > 2 * CLOCK_US;
    f->wake_us = is_long ? at_us : INT64_MAX;
    if (!is_long) sim_at(f->load->s, at_us, fiber_timer, f, f->token);
    fiber_yield(f);
}

/* Long waits end here; most of them are for a reply and are over long before. */
static void on_clock(void *ctx, uint64_t arg)
{
    struct sim_load *l = ctx;
    int64_t now_us = sim_now_us(l->s);
    (void)arg;
    for (size_t i = 0; i < l->fiber_count; i++) {
        struct fiber *f = l->fibers[i];
        if (!f->done && f->waiting && f->wake_us <= now_us) fiber_run(f);
    }
    l->options.node_count = sim_node_count(l->s); /* members come */
    sim_at(l->s, now_us + CLOCK_US, on_clock, l, 0);
}

void load_sleep_ms(int64_t ms)
{
    wait_until(running, sim_now_us(running->load->s) + ms * 1000 + 1);
}

static void on_bytes(void *ctx, uint64_t conn, struct slice in)
{
    struct fiber *f = ctx;
    (void)conn;
    buf_append_slice(&f->in, in);
    if (f->waiting) fiber_run(f);
}

static void on_closed(void *ctx, uint64_t conn)
{
    struct fiber *f = ctx;
    (void)conn;
    f->broken = true;
    if (f->waiting) fiber_run(f);
}

bool load_open(struct load_conn *c)
{
    static const struct sim_conn_hooks hooks = { on_bytes, on_closed };
    struct fiber *f = running;
    wait_until(f, sim_now_us(f->load->s) + (int64_t)sim_random(f->load->s, CONNECT_US));
    buf_clear(&f->in);
    f->broken = false;
    c->link = sim_connect(f->load->s, c->node, &hooks, f);
    return c->link != 0;
}

void load_close(struct load_conn *c)
{
    sim_close(running->load->s, c->link);
    c->link = 0;
}

bool load_write(struct load_conn *c, struct slice bytes)
{
    if (running->broken) return false;
    sim_send(running->load->s, c->link, bytes);
    return true;
}

int load_read(struct load_conn *c, struct buf *to, int wait_ms)
{
    struct fiber *f = running;
    int64_t end_us = sim_now_us(f->load->s) + (int64_t)wait_ms * 1000;
    (void)c;
    while (f->in.len == 0 && !f->broken) {
        if (sim_now_us(f->load->s) >= end_us) return 0;
        wait_until(f, end_us);
    }
    if (f->in.len == 0) return -1;
    buf_append_slice(to, buf_slice(&f->in));
    buf_clear(&f->in);
    return 1;
}

/* --- the load -------------------------------------------------------------------------------------- */

static void more_new(struct sim_load *l, enum sim_worker_kind kind, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sim_worker *w = sim_worker_new(l->s, kind, l->more_count, &l->run);
        l->more[l->more_count++] = w;
        fiber_new(l, sim_worker_run, w, kind != SIM_WORKER_STREAM);
    }
}

struct sim_load *sim_load_new(struct sim *s, const struct sim_load_options *o)
{
    struct sim_load *l = mem_zalloc(sizeof *l);
    l->s = s;
    l->options = (struct load_options){
        .node_count = sim_node_count(s), .seconds = RUN_SECONDS, .connections = o->workers, .watchers = o->watchers,
        .keys = KEYS, .value_bytes = o->value_bytes, .ttl_ms = TTL_MS, .timeout_ms = REPLY_MS,
        .end_seconds = END_MS / 1000, .pause_ms = o->pause_ms, .list_seconds = LIST_SECONDS, .poll_ms = POLL_MS,
#define WEIGHT(symbol, word, weight) .weights[LOAD_##symbol] = weight,
        LOAD_KINDS(WEIGHT)
#undef WEIGHT
    };
    l->run.options = &l->options;
    l->run.next_watch = 1;
    l->run.begin_ns = sim_now_us(s) * 1000;
    pthread_mutex_init(&l->run.errors_lock, NULL);
    l->worker_count = o->workers;
    l->watcher_count = o->watchers;
    for (size_t i = 0; i < o->workers; i++) {
        load_conn_init(&l->workers[i], &l->run, sim_random(s, UINT64_MAX));
        l->workers[i].seq = i;
        fiber_new(l, load_worker, &l->workers[i], true);
    }
    for (size_t i = 0; i < o->watchers; i++) {
        load_conn_init(&l->watchers[i].conn, &l->run, sim_random(s, UINT64_MAX));
        l->watchers[i].number = i;
        fiber_new(l, load_watcher_run, &l->watchers[i], false);
    }
    more_new(l, SIM_WORKER_PIPELINE, o->pipelines);
    more_new(l, SIM_WORKER_MULTI, o->multis);
    more_new(l, SIM_WORKER_LOCAL, o->locals);
    more_new(l, SIM_WORKER_STREAM, o->streams);
    more_new(l, SIM_WORKER_COMPACT, o->compactors);
    sim_at(s, sim_now_us(s) + CLOCK_US, on_clock, l, 0);
    return l;
}

/* What the simulator knows is what everybody's log is compared with. A group of one tells nobody
 * what it repeats when it starts: there it has gaps. */
static bool take_log(struct sim_load *l, int64_t end_ns)
{
    if (sim_began_alone(l->s)) return load_read_log_of(&l->last, 0, end_ns);
    for (size_t i = 0; i < sim_log_count(l->s); i++) {
        struct history_event event;
        sim_log_at(l->s, i, &event);
        history_add_event(l->last.h, &event);
    }
    return true;
}

static bool read_log(struct sim_load *l, size_t node, int64_t end_ns)
{
    while (!load_connect(&l->last, node) || !load_read_log(&l->last, true)) {
        if (load_now_ns() > end_ns) return false;
        load_sleep_ms(50);
    }
    return true;
}

static void *last_run(void *arg)
{
    struct sim_load *l = arg;
    int64_t end_ns = load_now_ns() + (int64_t)END_MS * 1000000;
    l->whole = true;
    size_t count = l->options.node_count;
    for (size_t i = 0; i < count; i++) l->whole = load_read_node(&l->last, i, end_ns) && l->whole;
    l->whole = take_log(l, end_ns) && l->whole;
    for (size_t i = 0; i < count; i++) l->whole = read_log(l, i, end_ns) && l->whole;
    load_disconnect(&l->last);
    return NULL;
}

static bool all_done(const struct sim_load *l, bool workers_only)
{
    for (size_t i = 0; i < l->fiber_count; i++) {
        if (!l->fibers[i]->done && (!workers_only || l->fibers[i]->is_worker)) return false;
    }
    return true;
}

static bool run_until_done(struct sim_load *l, bool workers_only)
{
    int64_t end_us = sim_now_us(l->s) + 2 * (int64_t)END_MS * 1000;
    while (!all_done(l, workers_only) && sim_now_us(l->s) < end_us) {
        sim_run_until(l->s, sim_now_us(l->s) + 50000);
    }
    return all_done(l, workers_only);
}

static void take_all(struct sim_load *l, struct history *h)
{
    for (size_t i = 0; i < h->op_count; i++) {
        history_add_op(l->all, &h->ops[i], h->items + h->ops[i].item_first);
    }
    for (size_t i = 0; i < h->log_count; i++) history_add_event(l->all, &h->log[i]);
    for (size_t i = 0; i < h->watch_count; i++) history_add_watch(l->all, &h->watches[i]);
    for (size_t i = 0; i < h->mark_count; i++) history_add_mark(l->all, &h->marks[i]);
}

bool sim_load_end(struct sim_load *l)
{
    l->run.stop = true;
    if (!run_until_done(l, false)) return false;
    sim_run_until(l->s, sim_now_us(l->s) + 4 * TTL_MS * 1000); /* nothing expires any more */
    load_conn_init(&l->last, &l->run, 1);
    l->options.node_count = sim_node_count(l->s);
    l->options.seconds = (int)((sim_now_us(l->s) * 1000 - l->run.begin_ns) / 1000000000);
    fiber_new(l, last_run, l, true);
    if (!run_until_done(l, false) || !l->whole) return false;
    l->all = history_new();
    for (size_t i = 0; i < l->worker_count; i++) take_all(l, l->workers[i].h);
    for (size_t i = 0; i < l->watcher_count; i++) take_all(l, l->watchers[i].conn.h);
    for (size_t i = 0; i < l->more_count; i++) take_all(l, sim_worker_history(l->more[i]));
    take_all(l, l->last.h);
    return true;
}

const struct history *sim_load_history(const struct sim_load *l) { return l->all; }
int64_t sim_load_success_us(const struct sim_load *l) { return l->run.success_ns / 1000; }
uint64_t sim_load_ops(const struct sim_load *l) { return l->run.ops; }

uint64_t sim_load_unknown(const struct sim_load *l)
{
    uint64_t count = 0;
    for (size_t i = 0; l->all != NULL && i < l->all->op_count; i++) {
        count += l->all->ops[i].outcome == HISTORY_UNKNOWN;
    }
    return count;
}

void sim_load_free(struct sim_load *l)
{
    for (size_t i = 0; i < l->fiber_count; i++) {
        buf_deinit(&l->fibers[i]->in);
        mem_free(l->fibers[i]->stack);
        mem_free(l->fibers[i]);
    }
    for (size_t i = 0; i < l->worker_count; i++) history_free(l->workers[i].h);
    for (size_t i = 0; i < l->watcher_count; i++) history_free(l->watchers[i].conn.h);
    for (size_t i = 0; i < l->more_count; i++) sim_worker_free(l->more[i]);
    history_free(l->last.h);
    history_free(l->all);
    pthread_mutex_destroy(&l->run.errors_lock);
    mem_free(l);
}
