/* net/loop.c - see net.h. Turns, sleep, watches. */
#include "net/net_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define IDLE_US 500000 /* a sleep of this length means that nothing happens */
#define NO_DEADLINE INT64_MAX

static int64_t clock_us(void)
{
    struct timespec t;
    int failed = clock_gettime(CLOCK_MONOTONIC, &t);
    ASSERT(failed == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void conn_list_add(struct conn_list *list, struct conn *conn)
{
    if (list->count == list->cap) {
        list->cap = list->cap == 0 ? 64 : list->cap * 2;
        list->at = mem_realloc(list->at, list->cap * sizeof(struct conn *));
    }
    list->at[list->count++] = conn;
}

/* --- life ------------------------------------------------------------------------ */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop *loop = arg;
    loop->timer_due_us = 0;
    loop_wake(loop);
}

static struct event_base *base_new(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL) return NULL;
    struct event_base *base = NULL;
    /* One thread; and our own time, so libevent need not read the clock a turn. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0) {
        base = event_base_new_with_config(config);
    }
    event_config_free(config);
    return base;
}

enum err loop_new(const struct loop_cfg *cfg, struct loop **out, struct errmsg *em)
{
    struct event_base *base = base_new();
    if (base == NULL) {
        errmsg_set(em, "event loop: %s", strerror(errno));
        return ERR_IO;
    }
    struct loop *loop = mem_zalloc(sizeof *loop);
    loop->base = base;
    loop->cfg = *cfg;
    loop->short_waits_needed = NET_SHORT_WAIT_COUNT;
    if (loop->cfg.input_bytes_max == 0) loop->cfg.input_bytes_max = NET_INPUT_BYTES_MAX_DEFAULT;
    if (loop->cfg.output_low_bytes == 0) loop->cfg.output_low_bytes = NET_OUTPUT_LOW_BYTES_DEFAULT;
    loop->now_us = clock_us();
    loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    loop->read_buf = mem_alloc(NET_PREFIX_BYTES_MAX + NET_READ_BYTES_MAX);
    chain_pool_init(&loop->pool);
    int failed = event_assign(&loop->timer, base, -1, 0, on_timer, loop);
    ASSERT(failed == 0);
    *out = loop;
    return OK;
}

static void dead_free(struct loop *loop)
{
    if (!loop->dead_seen) return;
    loop->dead_seen = false;
    struct listener **l = &loop->listeners;
    while (*l != NULL) {
        struct listener *dead = *l;
        if (!dead->dead) {
            l = &dead->next;
            continue;
        }
        *l = dead->next;
        listener_free(dead);
    }
    struct loop_watch **w = &loop->watches;
    while (*w != NULL) {
        struct loop_watch *dead = *w;
        if (!dead->dead) {
            w = &dead->next;
            continue;
        }
        *w = dead->next;
        mem_free(dead);
    }
}

/* Calls on_close of everything that closed in this turn, also of what on_close closes, and
 * frees what is on no list any more (I1). */
static void closing_reap(struct loop *loop)
{
    struct conn_list *list = &loop->closing;
    for (size_t i = 0; i < list->count; i++) {
        struct conn *conn = list->at[i];
        if (conn->flags & CONN_CLOSE_TOLD) continue;
        conn->flags |= CONN_CLOSE_TOLD;
        if (conn->flags & CONN_STARTED) {
            conn->callbacks->on_close(conn->user, conn, (enum conn_close_reason)conn->reason);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct conn *conn = list->at[i];
        if (conn->flags & (CONN_DIRTY | CONN_MORE)) {
            list->at[kept++] = conn;
        } else {
            conn_free(conn);
        }
    }
    list->count = kept;
}

static void lists_drop(struct loop *loop)
{
    for (size_t i = 0; i < loop->dirty.count; i++) {
        loop->dirty.at[i]->flags &= (uint16_t)~CONN_DIRTY;
    }
    for (size_t i = 0; i < loop->more.count; i++) {
        loop->more.at[i]->flags &= (uint16_t)~CONN_MORE;
    }
    loop->dirty.count = 0;
    loop->more.count = 0;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL) return;
    for (struct listener *l = loop->listeners; l != NULL; l = l->next) listener_close(l);
    for (struct loop_watch *w = loop->watches; w != NULL; w = w->next) loop_unwatch(w);
    for (size_t i = 0; i < loop->table.slot_count; i++) {
        if (loop->table.slots[i] != NULL) conn_end(loop->table.slots[i], CONN_CLOSE_LOOP, 0);
    }
    /* on_close may mark others; nothing is written any more. */
    while (loop->closing.count != 0) {
        lists_drop(loop);
        closing_reap(loop);
    }
    ASSERT(loop->stats.conn_count == 0);
    dead_free(loop);
    event_del(&loop->timer);
    event_base_free(loop->base);
    if (loop->reserve_fd >= 0) close(loop->reserve_fd);
    chain_pool_deinit(&loop->pool);
    mem_free(loop->table.slots);
    mem_free(loop->dirty.at);
    mem_free(loop->more.at);
    mem_free(loop->closing.at);
    mem_free(loop->snapshot.at);
    mem_free(loop->read_buf);
    mem_free(loop->tls_buf);
    mem_free(loop);
}

int64_t loop_now_us(const struct loop *loop) { return loop->now_us; }
const struct loop_stats *loop_stats(const struct loop *loop) { return &loop->stats; }
struct chain_pool *loop_pool(struct loop *loop) { return &loop->pool; }
void loop_stop(struct loop *loop) { loop->stop = true; }
void loop_set_input_bytes_max(struct loop *loop, uint32_t bytes) { loop->cfg.input_bytes_max = bytes; }

void loop_set_spin_us(struct loop *loop, int64_t spin_us)
{
    loop->cfg.spin_us = spin_us;
}

/* --- watches ----------------------------------------------------------------------- */

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop_watch *w = arg;
    loop_wake(w->loop);
    if (!w->dead) w->ready(w->ctx);
}

struct loop_watch *loop_watch_fd(struct loop *loop, int fd, void (*ready)(void *ctx), void *ctx)
{
    struct loop_watch *w = mem_zalloc(sizeof *w);
    w->loop = loop;
    w->ready = ready;
    w->ctx = ctx;
    w->next = loop->watches;
    loop->watches = w;
    int failed = event_assign(&w->event, loop->base, fd, EV_READ | EV_PERSIST, on_watch, w);
    ASSERT(failed == 0);
    failed = event_add(&w->event, NULL);
    ASSERT(failed == 0);
    return w;
}

void loop_unwatch(struct loop_watch *w)
{
    if (w == NULL || w->dead) return;
    event_del(&w->event);
    w->dead = true;
    w->loop->dead_seen = true;
}

/* --- waiting --------------------------------------------------------------------------- */

void loop_wake_slow(struct loop *loop)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    loop->awake = true;
    loop->now_us = clock_us();
    if (loop->slept) {
        loop->slept = false;
        if (hooks->woke != NULL) hooks->woke(hooks->ctx);
    }
    if (hooks->turn_begin != NULL) hooks->turn_begin(hooks->ctx);
    loop->more_due_count = loop->more.count;
}

/* One look and what it finds. EVLOOP_NONBLOCK without EVLOOP_ONCE would look again for as
 * long as something is ready. */
static void events_run(struct loop *loop, int flags)
{
    int failed = event_base_loop(loop->base, flags | EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    ASSERT(failed >= 0);
}

static bool work_ready(const struct loop *loop)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    return hooks->work_ready != NULL && hooks->work_ready(hooks->ctx);
}

/* When the wait must end: 0 is now (I3), NO_DEADLINE never. */
static int64_t wait_due_us(struct loop *loop)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    if (loop->stop || loop->again || loop->dirty.count != 0 || loop->more.count != 0 ||
        loop->closing.count != 0 || loop->dead_seen) {
        return 0;
    }
    int64_t due_us = NO_DEADLINE;
    if (hooks->sleep_us != NULL) {
        int64_t sleep_us = hooks->sleep_us(hooks->ctx);
        if (sleep_us == 0) return 0;
        if (sleep_us > 0) due_us = loop->now_us + sleep_us;
    }
    if (loop->accept_resume_us != 0) due_us = MIN(due_us, loop->accept_resume_us);
    return due_us;
}

/* Leaves a timer that fires earlier alone: it costs one empty turn, re-arming costs each. */
static void timer_arm(struct loop *loop, int64_t due_us, int64_t clock_now_us)
{
    if (due_us == NO_DEADLINE) return;
    if (loop->timer_due_us != 0 && loop->timer_due_us <= due_us) return;
    int64_t left_us = MAX(due_us - clock_now_us, 1);
    struct timeval left = { .tv_sec = left_us / 1000000, .tv_usec = left_us % 1000000 };
    int failed = event_add(&loop->timer, &left);
    ASSERT(failed == 0);
    loop->timer_due_us = due_us;
}

/* Polls for up to spin_us; true if something came. */
static bool spin(struct loop *loop, int64_t due_us, int64_t start_us)
{
    loop->stats.spin_count++;
    int64_t end_us = MIN(start_us + loop->cfg.spin_us, due_us);
    for (;;) {
        events_run(loop, EVLOOP_NONBLOCK);
        if (loop->awake || work_ready(loop)) return true;
        if (clock_us() >= end_us) return false;
        sched_yield();
    }
}

static void sleep_until(struct loop *loop, int64_t due_us, int64_t clock_now_us)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    loop->slept = true;
    if (hooks->about_to_sleep != NULL) hooks->about_to_sleep(hooks->ctx);
    if (work_ready(loop)) { /* it came before the other side could see that we sleep */
        events_run(loop, EVLOOP_NONBLOCK);
        return;
    }
    loop->stats.sleep_count++;
    timer_arm(loop, due_us, clock_now_us);
    events_run(loop, 0);
    if (clock_us() - clock_now_us >= IDLE_US) chain_pool_trim(&loop->pool);
}

static bool spin_allowed(const struct loop *loop)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    return loop->cfg.spin_us > 0 && loop->short_wait_count >= loop->short_waits_needed &&
           (hooks->may_spin == NULL || hooks->may_spin(hooks->ctx));
}

static void spins_need_more(struct loop *loop)
{
    loop->short_waits_needed = MIN(2 * loop->short_waits_needed, NET_SHORT_WAIT_COUNT_MAX);
}

/* After a pause what comes may be of another kind. */
static void spins_need_less(struct loop *loop)
{
    loop->short_waits_needed = MAX(loop->short_waits_needed / 2, NET_SHORT_WAIT_COUNT);
}

static void wait_for_events(struct loop *loop, int64_t due_us)
{
    if (due_us == 0) {
        events_run(loop, EVLOOP_NONBLOCK);
        return;
    }
    int64_t start_us = clock_us();
    if (spin_allowed(loop)) {
        if (spin(loop, due_us, start_us)) {
            loop->short_waits_needed = NET_SHORT_WAIT_COUNT;
            return;
        }
        bool whole = due_us - start_us >= loop->cfg.spin_us;
        if (whole) spins_need_more(loop);
        loop->short_wait_count = 0;
    }
    sleep_until(loop, due_us, start_us);
    loop_wake(loop);
    bool is_short = loop->now_us - start_us <= NET_SHORT_WAIT_SPINS * loop->cfg.spin_us;
    loop->short_wait_count = is_short ? loop->short_wait_count + 1 : 0;
    if (!is_short) spins_need_less(loop);
}

/* --- a turn ------------------------------------------------------------------------------ */

/* Works on a copy, so that what is marked meanwhile is for the next turn. */
static void snapshot_take(struct loop *loop, struct conn_list *list)
{
    struct conn_list empty = loop->snapshot;
    empty.count = 0;
    loop->snapshot = *list;
    *list = empty;
}

/* What earlier turns left and what turn_begin resumed. What this turn's reads left stands
 * behind it and has had its share. */
static void more_deliver(struct loop *loop)
{
    if (loop->more_due_count == 0) return;
    snapshot_take(loop, &loop->more);
    for (size_t i = 0; i < loop->more_due_count; i++) {
        struct conn *conn = loop->snapshot.at[i];
        conn->flags &= (uint16_t)~CONN_MORE;
        conn_deliver_held(conn);
    }
    for (size_t i = loop->more_due_count; i < loop->snapshot.count; i++) {
        conn_list_add(&loop->more, loop->snapshot.at[i]);
    }
}

static void dirty_flush(struct loop *loop)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    if (loop->dirty.count == 0) return;
    snapshot_take(loop, &loop->dirty);
    for (size_t i = 0; i < loop->snapshot.count; i++) {
        struct conn *conn = loop->snapshot.at[i];
        if (i > 0 && hooks->between_writes != NULL && hooks->between_writes(hooks->ctx)) {
            loop->again = true;
        }
        conn->flags &= (uint16_t)~CONN_DIRTY;
        if ((conn->flags & (CONN_CLOSING | CONN_WAIT_WRITE)) == 0) conn_flush(conn);
    }
}

void loop_turn(struct loop *loop, bool may_block)
{
    const struct loop_hooks *hooks = &loop->cfg.hooks;
    loop->stats.turn_count++;
    loop->awake = false;
    wait_for_events(loop, may_block ? wait_due_us(loop) : 0);
    loop_wake(loop);
    loop->again = false;
    if (loop->accept_resume_us != 0 && loop->now_us >= loop->accept_resume_us) {
        listeners_resume(loop);
    }
    more_deliver(loop);
    if (hooks->turn_end != NULL) hooks->turn_end(hooks->ctx);
    dirty_flush(loop);
    if (loop->closing.count != 0) closing_reap(loop);
    dead_free(loop);
}

void loop_run(struct loop *loop)
{
    while (!loop->stop) loop_turn(loop, true);
    loop->stop = false;
}
