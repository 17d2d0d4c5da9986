/* tests/sim/sim_group.c - see sim_group.h: events, members and their clocks. */
#include "sim_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define QUIET_TURNS 4
#define TURN_US_MAX 100      /* from what wakes a member to its turn */
#define DISK_US_MIN 20
#define DISK_US_MAX 400
#define BETWEEN_WRITES_ONE_IN 4
#define WALL_MS 1700000000000LL

struct sim_node *sim_current;

/* --- randomness, trace ----------------------------------------------------------------- */

uint64_t sim_random(struct sim *s, uint64_t below)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    uint64_t value = s->random * 0x2545f4914f6cdd1dULL;
    return below == 0 ? 0 : (value >> 11) % below;
}

bool sim_chance(struct sim *s, uint32_t ppm) { return ppm != 0 && sim_random(s, 1000000) < ppm; }
void sim_note(struct sim *s, uint64_t value) { s->trace = u64_mix(s->trace ^ value) + 1; }
uint64_t sim_trace(const struct sim *s) { return s->trace; }
int64_t sim_now_us(const struct sim *s) { return s->now_us; }
const struct sim_stats *sim_stats(const struct sim *s) { return &s->stats; }

void sim_log(struct sim *s, const char *format, ...)
{
    if (!s->options.trace) return;
    printf("%12.6f ", (double)s->now_us / 1e6);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

void sim_fail(struct sim *s, const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "simulator: ");
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    for (size_t i = 0; i < s->node_count; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (n->node == NULL) {
            fprintf(stderr, "  %s is down\n", n->name);
            continue;
        }
        const struct raft *r = node_raft(n->node);
        fprintf(stderr, "  %s %s term %llu leader %llu log %llu..%llu durable %llu commit %llu applied %llu%s%s\n", n->name,
                raft_role_name(raft_role(r)), (unsigned long long)raft_term(r), (unsigned long long)raft_leader(r),
                (unsigned long long)raft_first_index(r), (unsigned long long)raft_last_index(r),
                (unsigned long long)raft_durable_index(r), (unsigned long long)raft_commit_index(r),
                (unsigned long long)raft_applied_index(r), raft_disk_is_slow(r) ? " slow disk" : "",
                n->paused_until_us > s->now_us ? " paused" : "");
        struct raft_peer_status p;
        for (size_t k = 0; raft_peer_status(r, k, &p); k++) {
            fprintf(stderr, "     peer %llu %s match %llu next %llu in flight %zu silent %lld ms\n", (unsigned long long)p.id,
                    raft_peer_state_name(p.state), (unsigned long long)p.match_index, (unsigned long long)p.next_index,
                    p.inflight_count, (long long)p.silent_ms);
        }
    }
    fprintf(stderr, "  seed %llu, at %.6f s of simulated time\n  again: %s\n",
            (unsigned long long)s->options.seed, (double)s->now_us / 1e6,
            s->options.repeat == NULL ? "" : s->options.repeat);
    abort();
}

/* --- events: a heap by time ------------------------------------------------------------------ */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->seq < b->seq);
}

void event_push(struct sim *s, const struct event *e)
{
    if (s->heap_count == s->heap_cap) {
        s->heap_cap = s->heap_cap == 0 ? 1024 : s->heap_cap * 2;
        s->heap = mem_realloc(s->heap, s->heap_cap * sizeof *s->heap);
    }
    struct event moved = *e;
    moved.seq = s->next_seq++;
    moved.at_us = MAX(moved.at_us, s->now_us);
    size_t at = s->heap_count++;
    while (at > 0 && is_before(&moved, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = moved;
}

static bool heap_pop(struct sim *s, int64_t until_us, struct event *out)
{
    if (s->heap_count == 0 || s->heap[0].at_us > until_us) return false;
    *out = s->heap[0];
    struct event moved = s->heap[--s->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && is_before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!is_before(&s->heap[child], &moved)) break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = moved;
    return true;
}

/* The turns are not in the heap: nearly each is called off for an earlier one. NULL: there is none. */
static const struct sim_node *next_turn(const struct sim *s)
{
    const struct sim_node *next = NULL;
    int64_t at_us = INT64_MAX;
    for (size_t i = 0; i < s->node_count; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (n->turn_at_us > at_us || n->turn_at_us == INT64_MAX || !n->up) continue;
        if (n->turn_at_us == at_us && n->turn_seq > next->turn_seq) continue;
        next = n;
        at_us = n->turn_at_us;
    }
    return next;
}

bool event_pop(struct sim *s, int64_t until_us, struct event *out)
{
    const struct sim_node *n = next_turn(s);
    if (n == NULL || n->turn_at_us > until_us) return heap_pop(s, until_us, out);
    const struct event *first = &s->heap[0];
    bool later = s->heap_count == 0 || first->at_us > n->turn_at_us ||
                 (first->at_us == n->turn_at_us && first->seq > n->turn_seq);
    if (!later) return heap_pop(s, until_us, out);
    *out = (struct event){ .at_us = n->turn_at_us, .seq = n->turn_seq, .kind = EVENT_TURN,
                           .node = (uint8_t)n->at };
    return true;
}

void sim_at(struct sim *s, int64_t at_us, void (*fn)(void *ctx, uint64_t arg), void *ctx, uint64_t arg)
{
    event_push(s, &(struct event){ .at_us = at_us, .kind = EVENT_CALL, .fn = fn, .ctx = ctx, .arg = arg });
}

void sim_wake(struct sim *s, struct sim_node *n, int64_t at_us)
{
    if (!n->up || n->turn_at_us <= at_us) return;
    n->turn_at_us = MAX(at_us, s->now_us);
    n->turn_seq = s->next_seq++;
}

/* --- clocks ------------------------------------------------------------------------------------ */

int64_t node_mono_us(const struct sim_node *n)
{
    int64_t passed_us = n->sim->now_us - n->clock_base_sim_us;
    return n->clock_base_us + passed_us + passed_us * n->clock_ppm / 1000000;
}

static int64_t current_mono_us(void) { return node_mono_us(sim_current); }

void sim_clock_rate(struct sim *s, size_t at, int32_t ppm)
{
    struct sim_node *n = &s->nodes[at];
    n->clock_base_us = node_mono_us(n);
    n->clock_base_sim_us = s->now_us;
    n->clock_ppm = ppm;
}

void sim_wall_jump(struct sim *s, size_t at, int64_t ms) { s->nodes[at].wall_offset_ms += ms; }

static int64_t node_wall(const struct sim_node *n)
{
    return WALL_MS + n->sim->now_us / 1000 + n->wall_offset_ms;
}

/* --- a member's process ----------------------------------------------------------------------------- */

size_t sim_node_count(const struct sim *s) { return s->node_count; }
struct node *sim_node(const struct sim *s, size_t at) { return s->nodes[at].node; }
uint64_t sim_member_id(const struct sim *s, size_t at) { return s->nodes[at].member_id; }
uint64_t sim_directory_id(const struct sim *s, size_t at) { return s->nodes[at].directory_id; }
bool sim_is_paused(const struct sim *s, size_t at) { return s->nodes[at].paused_until_us > s->now_us; }
struct sim_disk *sim_node_disk(const struct sim *s, size_t at) { return s->nodes[at].disk; }
bool sim_began_alone(const struct sim *s) { return s->options.node_count == 1; }
bool sim_is_up(const struct sim *s, size_t at) { return s->nodes[at].up; }

struct sim_node *node_by_member(struct sim *s, uint64_t member_id)
{
    for (size_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].member_id == member_id) return &s->nodes[i];
    }
    return NULL;
}

size_t sim_leader(const struct sim *s)
{
    size_t found = SIM_NODES_MAX;
    for (size_t i = 0; i < s->node_count; i++) {
        if (!s->nodes[i].up || raft_role(node_raft(s->nodes[i].node)) != RAFT_LEADER) continue;
        if (found == SIM_NODES_MAX ||
            raft_term(node_raft(s->nodes[i].node)) > raft_term(node_raft(s->nodes[found].node))) {
            found = i;
        }
    }
    return found;
}

static void hook_send(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload)
{
    struct sim_node *n = CONTAINER_OF(ctx, struct sim_node, env);
    /* A raft message: kind, version, type, flags, 0, count, from, to, term. What asks for votes in
     * advance speaks of a term that it is not in. */
    if (payload.at[0] == 1 && payload.at[2] > RAFT_MSG_PREVOTE_RESP) {
        uint64_t term = u64_le(payload.at + 25);
        n->term_sent = MAX(n->term_sent, term);
        bool granted = payload.at[2] == RAFT_MSG_VOTE_RESP && (payload.at[3] & 1) == 0;
        if (granted) check_vote(n, term, peer);
        if (payload.at[2] == RAFT_MSG_VOTE) check_vote(n, term, n->member_id);
    }
    net_send(n, peer, channel, payload);
}

static void hook_applied(void *ctx, uint64_t index)
{
    struct sim_node *n = CONTAINER_OF(ctx, struct sim_node, env);
    check_applied(n, index);
}

static void hook_event(void *ctx, const struct mvcc_event *ev)
{
    struct sim_node *n = CONTAINER_OF(ctx, struct sim_node, env);
    check_event(n, ev);
    n->cmd_event(ctx, ev);
}

static void hook_replaced(void *ctx, uint64_t old_rev, uint64_t new_rev)
{
    struct sim_node *n = CONTAINER_OF(ctx, struct sim_node, env);
    sim_log(n->sim, "%s has a snapshot: revision %llu to %llu", n->name, (unsigned long long)old_rev,
            (unsigned long long)new_rev);
    n->sim->stats.snapshots++;
    n->cmd_replaced(ctx, old_rev, new_rev);
}

/* As the server does: who was a member here and is none any more is not heard. */
static void hook_members(void *ctx, const struct raft_members *m)
{
    struct sim_node *n = CONTAINER_OF(ctx, struct sim_node, env);
    memset(n->told.now, 0, sizeof n->told.now);
    for (size_t i = 0; i < m->count; i++) {
        uint64_t number = m->at[i].id - SIM_ID;
        n->told.now[number / 64] |= 1ULL << number % 64;
        n->told.ever[number / 64] |= 1ULL << number % 64;
    }
}

static bool is_removed(const struct sim_node *n, uint64_t member_id)
{
    uint64_t number = member_id - SIM_ID;
    return ((n->told.ever[number / 64] & ~n->told.now[number / 64]) >> number % 64 & 1) != 0;
}

static void on_fatal(void *ctx, const char *line)
{
    struct sim_node *n = ctx;
    sim_log(n->sim, "%s fatal: %s", n->name, line);
    n->broken = true;
}

static void env_open(struct sim_node *n)
{
    memset(&n->env, 0, sizeof n->env);
    chain_pool_init(&n->pool);
    struct cmd_limits *l = &n->env.limits;
    resp_limits_init(&l->resp);
    l->output_bytes_max = 64u << 20;
    l->reply_bytes_max = 4u << 20;
    l->watch_bytes_max = 64u << 10;
    l->watches_per_client_max = 1000;
    l->subscriptions_per_client_max = 1000;
    l->subscription_names_bytes_max = 1u << 20;
    l->waiting_reads_max = 1000;
    l->waiting_reads_bytes_max = 1u << 20;
    l->waiting_replies_bytes_max = 1u << 20;
    l->slowlog_us = -1;
    l->request_timeout_ms = SIM_REQUEST_TIMEOUT_MS;
    n->env.password = "";
    n->env.info = (struct cmd_info){
        .version = "sim", .redis_version = "7.2.0", .executable = "", .config_file = "",
        .node_name = n->name, .client_address = "127.0.0.1:1",
    };
    conn_io(n);
    n->env.now_us = node_mono_us(n);
    n->env.now_ms = n->env.now_us / 1000;
    cmd_env_init(&n->env);
}

static void env_close(struct sim_node *n)
{
    conns_close_all(n);
    cmd_env_deinit(&n->env);
    chain_pool_deinit(&n->pool);
}

static enum err open_node(struct sim_node *n, struct errmsg *em)
{
    struct sim *s = n->sim;
    const struct sim_options *o = &s->options;
    char address[32];
    snprintf(address, sizeof address, "sim:%llu", (unsigned long long)n->member_id);
    struct node_config cfg = {
        .dir = n->dir, .name = n->name, .peer_address = address, .client_address = address,
        .version = "sim",
        .random = { u64_mix(s->options.seed + n->at), u64_mix(n->member_id), u64_mix(n->member_id + 1),
                    u64_mix(n->life + n->at * 1000) },
        .heartbeat_ms = o->heartbeat_ms, .election_timeout_ms = o->election_ms,
        .snapshot_count = o->snapshot_count, .checkpoint_bytes = 64u << 10, .checkpoint_ms = o->checkpoint_ms,
        .wal_segment_bytes = o->segment_bytes, .wal_keep_bytes = 0, .store_buffer_bytes = 16u << 10,
        .store_backlog_bytes_max = 16u << 20, .uncommitted_bytes_max = 4u << 20,
        .disk_reserve_bytes = 64u << 10, .request_timeout_ms = SIM_REQUEST_TIMEOUT_MS,
        .group = { .cluster_id = SIM_CLUSTER_ID, .member_id = n->member_id, .directory_id = n->directory_id,
                   .members = n->waits ? NULL : &s->members },
        .mono_us = current_mono_us, .io = sim_disk_io(n->disk), .manual = true,
        .on_fatal = on_fatal, .on_fatal_ctx = n,
    };
    struct node_hooks hooks;
    cmd_env_hooks(&n->env, &hooks);
    n->cmd_event = hooks.event;
    n->cmd_replaced = hooks.state_replaced;
    hooks.send = hook_send;
    hooks.applied = hook_applied;
    hooks.event = hook_event;
    hooks.state_replaced = hook_replaced;
    hooks.members = hook_members;
    return node_open(&cfg, &hooks, node_mono_us(n) / 1000, node_wall(n), &n->node, em);
}

bool sim_start(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    ASSERT(!n->up);
    sim_current = n;
    n->life++;
    n->told = (struct sim_told){ .ever = { 0 } };
    env_open(n);
    if (n->crash_at_start != 0) sim_disk_fail_nth(n->disk, n->crash_at_start, SIM_CRASH, EIO);
    n->crash_at_start = 0;
    struct errmsg em = { "" };
    enum err e = open_node(n, &em);
    bool crashed = sim_disk_is_crashed(n->disk);
    sim_log(s, "%s starts: %s", n->name, e == OK ? "ok" : em.text);
    sim_note(s, (uint64_t)e);
    if (e != OK) {
        env_close(n);
        n->node = NULL;
        if (!n->broken && !crashed) sim_fail(s, "%s does not start: %s", n->name, em.text);
        if (crashed) sim_disk_crash(n->disk, sim_random(s, UINT64_MAX));
        s->stats.crashes += crashed;
        return false;
    }
    n->env.node = n->node;
    n->up = true;
    n->broken = false;
    n->commit_seen = 0;
    n->members_before.count = 0;
    n->turn_at_us = INT64_MAX;
    n->disk_scheduled = false;
    n->paused_until_us = 0;
    s->stats.starts++;
    check_started(n);
    sim_wake(s, n, s->now_us);
    return true;
}

static void node_down(struct sim_node *n, bool orderly)
{
    sim_current = n;
    n->durable_at_end = raft_durable_index(node_raft(n->node));
    n->up = false;
    if (orderly) {
        node_close(n->node);
    } else {
        sim_disk_fail_nth(n->disk, 1, SIM_CRASH, EIO); /* what it still does has no effect */
        node_abandon(n->node);
    }
    n->node = NULL;
    n->env.node = NULL;
    env_close(n);
    for (size_t i = 0; i < n->inbox_count; i++) blob_unref(n->inbox[i]);
    n->inbox_count = 0;
    net_unreachable_all(n->sim, n->member_id);
}

void sim_crash_at_start(struct sim *s, size_t at, uint64_t nth) { s->nodes[at].crash_at_start = nth; }

void sim_kill(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    if (!n->up) return;
    sim_log(s, "%s is killed", n->name);
    s->stats.crashes++;
    node_down(n, false);
    sim_disk_kill(n->disk);
}

void sim_power(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    if (!n->up) return;
    sim_log(s, "%s loses power", n->name);
    s->stats.crashes++;
    node_down(n, false);
    sim_disk_crash(n->disk, sim_random(s, UINT64_MAX));
}

void sim_stop(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    if (!n->up) return;
    sim_log(s, "%s stops", n->name);
    sim_disk_fail_nth(n->disk, 0, SIM_FAIL, 0); /* an orderly stop waits for its disk */
    node_down(n, true);
    if (n->broken) sim_disk_kill(n->disk);
}

void sim_pause(struct sim *s, size_t at, int64_t until_us)
{
    sim_log(s, "%s pauses for %.3f s", s->nodes[at].name, (double)(until_us - s->now_us) / 1e6);
    s->nodes[at].paused_until_us = until_us;
}

void sim_disk_delay(struct sim *s, size_t at, int64_t min_us, int64_t max_us)
{
    s->nodes[at].disk_us_min = min_us;
    s->nodes[at].disk_us_max = max_us;
}

static void node_place(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    n->sim = s;
    n->at = at;
    n->member_id = SIM_ID + ++s->next_member;
    ASSERT(s->next_member < SIM_MEMBERS_MAX);
    n->directory_id = 1000 + s->next_member;
    snprintf(n->dir, sizeof n->dir, "/n%llu", (unsigned long long)s->next_member);
    snprintf(n->name, sizeof n->name, "n%zu", at + 1);
    n->disk = sim_disk_new(n->dir, u64_mix(s->options.seed ^ s->next_member));
    n->clock_base_us = (int64_t)sim_random(s, 1000000000);
    n->clock_base_sim_us = s->now_us;
    n->disk_us_min = DISK_US_MIN;
    n->disk_us_max = DISK_US_MAX;
    n->term_sent = 0;
    n->durable_at_end = 0;
}

size_t sim_add_node(struct sim *s)
{
    ASSERT(s->node_count < SIM_NODES_MAX);
    size_t at = s->node_count++;
    node_place(s, at);
    s->nodes[at].waits = true;
    return at;
}

void sim_wipe_node(struct sim *s, size_t at)
{
    struct sim_node *n = &s->nodes[at];
    ASSERT(!n->up);
    sim_disk_free(n->disk);
    node_place(s, at);
    n->waits = true;
}

/* --- what happens ------------------------------------------------------------------------------------ */

static void take_inbox(struct sim_node *n)
{
    size_t count = n->inbox_count;
    for (size_t i = 0; i < count && !n->broken; i++) {
        if (is_removed(n, n->inbox_from[i])) continue;
        enum err e = node_receive(n->node, n->inbox_from[i], blob_slice(n->inbox[i]));
        if (e != OK) sim_fail(n->sim, "%s refused a payload of member %llu: %s", n->name,
                              (unsigned long long)n->inbox_from[i], err_name(e));
    }
    for (size_t i = 0; i < count; i++) blob_unref(n->inbox[i]);
    ASSERT(n->inbox_count == count);
    n->inbox_count = 0;
}

static void disk_schedule(struct sim *s, struct sim_node *n)
{
    if (n->disk_scheduled) return;
    n->disk_scheduled = true;
    int64_t span_us = n->disk_us_max - n->disk_us_min;
    int64_t delay_us = n->disk_us_min + (int64_t)sim_random(s, (uint64_t)span_us + 1);
    event_push(s, &(struct event){ .at_us = s->now_us + delay_us, .kind = EVENT_DISK, .node = (uint8_t)n->at, .id = n->life });
}

/* The process ends when its disk fails; with a disk that lost power so does the machine. */
static bool ended_by_disk(struct sim *s, struct sim_node *n)
{
    if (sim_disk_is_crashed(n->disk)) {
        sim_power(s, n->at);
        return true;
    }
    if (!n->broken) return false;
    sim_kill(s, n->at);
    n->broken = true; /* it may refuse to start until the disk works again */
    return true;
}

/* The log may finish something while replies are written. */
static bool disk_between_writes(struct sim *s, struct sim_node *n)
{
    if (sim_random(s, BETWEEN_WRITES_ONE_IN) != 0 || n->broken || sim_disk_is_crashed(n->disk)) return false;
    node_disk_step(n->node);
    return !n->broken && !sim_disk_is_crashed(n->disk) && node_log_poll(n->node);
}

static void on_turn(struct sim *s, const struct event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    if (n->paused_until_us > s->now_us) {
        n->turn_at_us = INT64_MAX;
        sim_wake(s, n, n->paused_until_us);
        return;
    }
    n->turn_at_us = INT64_MAX;
    s->stats.turns++;
    sim_current = n;
    int64_t mono_us = node_mono_us(n);
    n->env.now_us = mono_us;
    n->env.now_ms = mono_us / 1000;
    bool quiet = n->inbox_count == 0;
    take_inbox(n);
    for (struct sim_conn *c = n->conns; c != NULL; c = c->next) {
        quiet = quiet && c->in.len == 0;
        conn_deliver(c);
    }
    node_turn(n->node, mono_us, node_wall(n));
    cmd_turn(&n->env, mono_us);
    bool more = false;
    for (struct sim_conn *c = n->conns; c != NULL; c = c->next) {
        conn_flush(c);
        more = disk_between_writes(s, n) || more;
        more = more || (!c->paused && !c->closing && c->in.len > 0 && c->in.len >= c->want);
    }
    conns_reap(n);
    check_turn(n);
    if (ended_by_disk(s, n)) return;
    /* What a timer asks of the disk may wait for a few turns: looking costs. */
    n->quiet_turns = quiet ? n->quiet_turns + 1 : 0;
    if (n->quiet_turns % QUIET_TURNS == 0) disk_schedule(s, n);
    int64_t sleep_us = more ? 10 : node_sleep_us(n->node, mono_us);
    int64_t timer_ms = cmd_next_timer_ms(&n->env);
    if (timer_ms != INT64_MAX) sleep_us = MIN(sleep_us, MAX(timer_ms * 1000 - mono_us, 0));
    sim_wake(s, n, s->now_us + MAX(sleep_us, 10));
}

static void on_disk(struct sim *s, const struct event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    if (!n->up || n->life != e->id) return;
    n->disk_scheduled = false;
    sim_current = n;
    s->stats.disk_steps++;
    bool moved = !n->broken && node_disk_step(n->node);
    if (ended_by_disk(s, n) || !moved) return;
    disk_schedule(s, n);
    sim_wake(s, n, s->now_us + (int64_t)sim_random(s, TURN_US_MAX));
}

static void on_payload(struct sim *s, const struct event *e)
{
    struct sim_node *n = &s->nodes[e->node];
    if (!n->up || n->life != e->id) {
        blob_unref(e->bytes);
        return;
    }
    if (n->inbox_count == n->inbox_cap) {
        n->inbox_cap = n->inbox_cap == 0 ? 64 : n->inbox_cap * 2;
        n->inbox = mem_realloc(n->inbox, n->inbox_cap * sizeof *n->inbox);
        n->inbox_from = mem_realloc(n->inbox_from, n->inbox_cap * sizeof *n->inbox_from);
    }
    n->inbox[n->inbox_count] = e->bytes;
    n->inbox_from[n->inbox_count++] = e->from;
    sim_wake(s, n, s->now_us + (int64_t)sim_random(s, TURN_US_MAX));
}

static void on_client_in(struct sim *s, const struct event *e)
{
    struct sim_conn *c = conn_find_id(s, e->id);
    if (c != NULL && c->client != NULL) {
        buf_append_slice(&c->in, blob_slice(e->bytes));
        sim_wake(s, &s->nodes[c->node], s->now_us + (int64_t)sim_random(s, TURN_US_MAX));
    }
    blob_unref(e->bytes);
}

static void on_client_out(struct sim *s, const struct event *e)
{
    struct sim_conn *c = conn_find_id(s, e->id);
    if (c != NULL && !c->client_gone) c->hooks.bytes(c->ctx, c->id, blob_slice(e->bytes));
    blob_unref(e->bytes);
}

static void on_client_closed(struct sim *s, const struct event *e)
{
    struct sim_conn *c = conn_find_id(s, e->id);
    if (c == NULL) return;
    bool told = c->client_gone;
    c->client_gone = true;
    if (!told) c->hooks.closed(c->ctx, c->id);
    conn_release(s, c);
}

static void execute(struct sim *s, const struct event *e)
{
    s->stats.events++;
    sim_note(s, (uint64_t)e->at_us ^ (uint64_t)e->kind << 60 ^ (uint64_t)e->node << 50);
    switch ((enum event_kind)e->kind) {
    case EVENT_TURN: on_turn(s, e); break;
    case EVENT_DISK: on_disk(s, e); break;
    case EVENT_PAYLOAD: on_payload(s, e); break;
    case EVENT_CLIENT_IN: on_client_in(s, e); break;
    case EVENT_CLIENT_OUT: on_client_out(s, e); break;
    case EVENT_CLIENT_CLOSED: on_client_closed(s, e); break;
    case EVENT_CALL: e->fn(e->ctx, e->arg); break;
    }
}

void sim_run_until(struct sim *s, int64_t until_us)
{
    struct event e;
    while (event_pop(s, until_us, &e)) {
        s->now_us = e.at_us;
        execute(s, &e);
    }
    s->now_us = MAX(s->now_us, until_us);
}

struct sim *sim_new(const struct sim_options *options)
{
    struct sim *s = mem_zalloc(sizeof *s);
    s->options = *options;
    if (s->options.snapshot_count == 0) s->options.snapshot_count = 1000;
    if (s->options.heartbeat_ms == 0) s->options.heartbeat_ms = SIM_HEARTBEAT_MS;
    if (s->options.election_ms == 0) s->options.election_ms = SIM_ELECTION_MS;
    if (s->options.checkpoint_ms == 0) s->options.checkpoint_ms = 1000;
    if (s->options.segment_bytes == 0) s->options.segment_bytes = 256u << 10;
    s->random = u64_mix(options->seed) | 1;
    s->now_us = 1000000;
    sim_network_reset(s);
    for (size_t i = 0; i < options->node_count; i++) {
        node_place(s, i);
        struct raft_member m = {
            .id = s->nodes[i].member_id, .directory_id = s->nodes[i].directory_id, .role = RAFT_VOTER,
        };
        snprintf(m.peer_address, sizeof m.peer_address, "sim:%llu", (unsigned long long)m.id);
        snprintf(m.name, sizeof m.name, "%s", s->nodes[i].name);
        enum err e = raft_members_put(&s->members, &m);
        ASSERT(e == OK);
        s->node_count++;
    }
    for (size_t i = 0; i < s->node_count; i++) sim_start(s, i);
    return s;
}

void sim_free(struct sim *s)
{
    for (size_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].up) node_down(&s->nodes[i], false);
        sim_disk_kill(s->nodes[i].disk);
        sim_disk_free(s->nodes[i].disk);
        mem_free(s->nodes[i].inbox);
        mem_free(s->nodes[i].inbox_from);
    }
    for (size_t i = 0; i < s->heap_count; i++) {
        if (s->heap[i].kind == EVENT_CALL) net_call_drop(&s->heap[i]);
        else blob_unref(s->heap[i].bytes);
    }
    mem_free(s->heap);
    conns_free(s);
    check_free(s);
    mem_free(s);
}
