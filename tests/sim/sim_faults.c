/* tests/sim/sim_faults.c - see sim_faults.h. */
#include "sim_faults.h"

#include <stdio.h>

#define OPERATOR_US 300000
#define ASK_US 1000000
#define CRASH_START_OPS 120 /* of a disk while a node starts */

/* Of a member that is replaced: asked to be removed; removed, to be wiped; empty, to join. */
enum stage { STAGE_FINE, STAGE_LEAVING, STAGE_JOINING };

struct place {
    enum stage stage;
    bool held;          /* its disk is lost: not to be started before it was replaced */
    bool start_pending; /* somebody starts it later */
    bool disk_bad;
    int64_t asked_us;
    uint64_t disk_fault; /* the number of the newest one: older ones' ends do not heal it */
};

struct sim_faults {
    struct sim *s;
    struct sim_faults_options options;
    bool over;
    uint64_t counts[SIM_FAULT_COUNT];
    struct place places[SIM_NODES_MAX];
};

const char *sim_fault_name(enum sim_fault_kind kind)
{
#define NAME(symbol, word) word,
    static const char *const names[] = { SIM_FAULTS(NAME) };
#undef NAME
    return names[kind];
}

const uint64_t *sim_faults_counts(const struct sim_faults *f) { return f->counts; }

static int64_t between(struct sim *s, int64_t min_us, int64_t max_us)
{
    return min_us + (int64_t)sim_random(s, (uint64_t)(max_us - min_us));
}

/* --- healing ---------------------------------------------------------------------------------- */

static void heal_disk_of(struct sim_faults *f, size_t at)
{
    sim_disk_delay(f->s, at, 20, 400);
    sim_disk_set_free_bytes(sim_node_disk(f->s, at), UINT64_MAX);
    sim_disk_fail_nth(sim_node_disk(f->s, at), 0, SIM_FAIL, 0);
    f->places[at].disk_bad = false;
}

static void start_again(void *ctx, uint64_t at)
{
    struct sim_faults *f = ctx;
    struct place *p = &f->places[at];
    p->start_pending = false;
    if (sim_is_up(f->s, at) || p->held) return;
    heal_disk_of(f, at); /* a disk that fails at the start refuses it: the operator has changed it before */
    bool crashes = !f->over && (f->options.mask >> SIM_FAULT_CRASH_DISK & 1) != 0 && sim_random(f->s, 4) == 0;
    /* The only voter replays in one go: it has no turn in which this could end it. */
    if (crashes && !sim_began_alone(f->s)) sim_crash_at_start(f->s, at, 1 + sim_random(f->s, CRASH_START_OPS));
    sim_start(f->s, at);
}

static void restart_later(struct sim_faults *f, size_t at, int64_t max_us)
{
    f->places[at].start_pending = true;
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 1000, max_us), start_again, f, at);
}

static void heal_network(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    (void)arg;
    sim_log(f->s, "the network is whole again");
    sim_network_reset(f->s);
}

/* arg: the fault's number and the place */
static void heal_disk(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    size_t at = arg % SIM_NODES_MAX;
    if (f->places[at].disk_fault == arg / SIM_NODES_MAX) heal_disk_of(f, at);
}

/* --- faults ------------------------------------------------------------------------------------- */

static size_t some_node(struct sim_faults *f)
{
    size_t leader = sim_leader(f->s);
    if (leader < SIM_NODES_MAX && sim_random(f->s, 2) == 0) return leader;
    return sim_random(f->s, sim_node_count(f->s));
}

static void cut(struct sim *s, size_t from, size_t to) { sim_link(s, from, to)->blocked = true; }

static void split(struct sim_faults *f)
{
    size_t count = sim_node_count(f->s);
    uint64_t side = sim_random(f->s, 1u << count);
    sim_log(f->s, "the network splits: %llx", (unsigned long long)side);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < count; k++) {
            if ((side >> i & 1) != (side >> k & 1)) cut(f->s, i, k);
        }
    }
}

static void isolate(struct sim_faults *f, size_t at, bool out_only)
{
    sim_log(f->s, "n%zu is cut off%s", at + 1, out_only ? " one way" : "");
    bool incoming = out_only && sim_random(f->s, 2) == 0;
    for (size_t i = 0; i < sim_node_count(f->s); i++) {
        if (i == at) continue;
        if (!out_only || incoming) cut(f->s, i, at);
        if (!out_only || !incoming) cut(f->s, at, i);
    }
}

static void all_links(struct sim_faults *f, bool slow)
{
    size_t count = sim_node_count(f->s);
    sim_log(f->s, slow ? "the network is slow" : "the network loses, reorders and repeats");
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < count; k++) {
            struct sim_link *l = sim_link(f->s, i, k);
            if (slow) {
                l->delay_us_min = 1000;
                l->delay_us_max = 1000 + (int64_t)sim_random(f->s, 600000);
            } else {
                l->loss_ppm = (uint32_t)sim_random(f->s, 200000);
                l->duplicate_ppm = (uint32_t)sim_random(f->s, 50000);
                l->reorder_ppm = (uint32_t)sim_random(f->s, 100000);
            }
        }
    }
}

static void network_fault(struct sim_faults *f, enum sim_fault_kind kind)
{
    if (kind == SIM_FAULT_SPLIT) split(f);
    else if (kind == SIM_FAULT_ISOLATE) isolate(f, some_node(f), false);
    else if (kind == SIM_FAULT_ONE_WAY) isolate(f, some_node(f), true);
    else all_links(f, kind == SIM_FAULT_SLOW_NET);
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 50000, 8000000), heal_network, f, 0);
}

static void disk_fault(struct sim_faults *f, enum sim_fault_kind kind, size_t at)
{
    struct sim_disk *d = sim_node_disk(f->s, at);
    sim_log(f->s, "n%zu: %s", at + 1, sim_fault_name(kind));
    if (kind == SIM_FAULT_SLOW_DISK) sim_disk_delay(f->s, at, 5000, 100000);
    if (kind == SIM_FAULT_HANG_DISK) sim_disk_delay(f->s, at, 1000000, 4000000);
    if (kind == SIM_FAULT_FULL_DISK) sim_disk_set_free_bytes(d, sim_random(f->s, 2u << 20));
    if (kind == SIM_FAULT_FAIL_DISK) {
        sim_disk_fail_nth(d, 1 + sim_random(f->s, 20), SIM_FAIL, EIO);
    }
    if (kind == SIM_FAULT_CRASH_DISK) sim_disk_fail_nth(d, 1 + sim_random(f->s, 200), SIM_CRASH, EIO);
    f->places[at].disk_bad = true;
    uint64_t number = ++f->places[at].disk_fault;
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 100000, 5000000), heal_disk, f, number * SIM_NODES_MAX + at);
}

/* --- the membership --------------------------------------------------------------------------- */

static void ask(struct sim_faults *f, size_t whom, enum node_member_change change, const struct raft_member *m)
{
    struct ticket nobody = { .row = NULL };
    node_member_change(sim_node(f->s, whom), change, m, &nobody);
}

static void transfer(struct sim_faults *f)
{
    size_t leader = sim_leader(f->s);
    if (leader >= SIM_NODES_MAX) return;
    struct raft_member m = { .id = sim_member_id(f->s, sim_random(f->s, sim_node_count(f->s))) };
    ask(f, leader, NODE_MEMBER_TRANSFER, &m);
}

static bool all_fine(const struct sim_faults *f)
{
    for (size_t i = 0; i < sim_node_count(f->s); i++) {
        if (f->places[i].stage != STAGE_FINE) return false;
    }
    return true;
}

static void add(struct sim_faults *f)
{
    size_t at = sim_add_node(f->s);
    sim_log(f->s, "n%zu is new", at + 1);
    f->places[at] = (struct place){ .stage = STAGE_JOINING };
    sim_start(f->s, at);
}

/* One at a time, and never below what makes a majority without it. */
static void replace(struct sim_faults *f, size_t at, bool wiped)
{
    if (!all_fine(f) || sim_node_count(f->s) < 3) return;
    sim_log(f->s, "n%zu is to be replaced%s", at + 1, wiped ? ": its disk is lost" : "");
    f->places[at].stage = STAGE_LEAVING;
    f->places[at].asked_us = 0;
    f->places[at].held = wiped;
    if (wiped) sim_power(f->s, at);
}

static void leave_step(struct sim_faults *f, size_t at, size_t leader)
{
    const struct raft *r = node_raft(sim_node(f->s, leader));
    struct raft_member m = { .id = sim_member_id(f->s, at) };
    struct place *p = &f->places[at];
    if (raft_members_find(raft_members(r), m.id) != NULL) {
        if (sim_now_us(f->s) - p->asked_us > ASK_US) ask(f, leader, NODE_MEMBER_REMOVE, &m);
        if (sim_now_us(f->s) - p->asked_us > ASK_US) p->asked_us = sim_now_us(f->s);
        return;
    }
    if (raft_members_index(r) > raft_commit_index(r)) return;
    if (sim_is_up(f->s, at)) {
        if (sim_random(f->s, 2) == 0) sim_kill(f->s, at);
        else sim_stop(f->s, at);
    }
    sim_log(f->s, "n%zu is wiped", at + 1);
    sim_wipe_node(f->s, at);
    f->places[at] = (struct place){ .stage = STAGE_JOINING };
    sim_start(f->s, at);
}

static void join_step(struct sim_faults *f, size_t at, size_t leader)
{
    struct raft_member m = {
        .id = sim_member_id(f->s, at), .directory_id = sim_directory_id(f->s, at), .role = RAFT_JOINING,
    };
    snprintf(m.peer_address, sizeof m.peer_address, "sim:%llu", (unsigned long long)m.id);
    const struct raft *r = node_raft(sim_node(f->s, leader));
    const struct raft_member *now = raft_members_find(raft_members(r), m.id);
    struct place *p = &f->places[at];
    if (now != NULL && now->role == RAFT_VOTER && raft_members_index(r) <= raft_commit_index(r)) {
        sim_log(f->s, "n%zu has joined", at + 1);
        p->stage = STAGE_FINE;
        return;
    }
    if (now != NULL || sim_now_us(f->s) - p->asked_us < ASK_US) return;
    p->asked_us = sim_now_us(f->s);
    size_t whom = sim_random(f->s, sim_node_count(f->s));
    bool can = sim_is_up(f->s, whom) && raft_members(node_raft(sim_node(f->s, whom)))->count > 0;
    ask(f, can ? whom : leader, NODE_MEMBER_JOIN, &m);
}

static void operator_step(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    (void)arg;
    for (size_t i = 0; i < sim_node_count(f->s); i++) {
        bool dead = !sim_is_up(f->s, i) && !f->places[i].held && !f->places[i].start_pending;
        if (dead) restart_later(f, i, 3000000);
    }
    size_t leader = sim_leader(f->s);
    for (size_t i = 0; i < sim_node_count(f->s) && leader < SIM_NODES_MAX; i++) {
        if (f->places[i].stage == STAGE_LEAVING) leave_step(f, i, leader);
        else if (f->places[i].stage == STAGE_JOINING) join_step(f, i, leader);
        leader = sim_leader(f->s);
    }
    bool grows = sim_node_count(f->s) < f->options.grow_to && all_fine(f) && sim_random(f->s, 5) == 0;
    if (grows) add(f);
    sim_at(f->s, sim_now_us(f->s) + OPERATOR_US, operator_step, f, 0);
}

bool sim_faults_is_well(const struct sim_faults *f, size_t at)
{
    return sim_is_up(f->s, at) && !sim_is_paused(f->s, at) && !f->places[at].disk_bad;
}

bool sim_faults_all_whole(const struct sim_faults *f)
{
    size_t leader = sim_leader(f->s), count = sim_node_count(f->s);
    if (leader >= SIM_NODES_MAX || !all_fine(f) || count < f->options.grow_to) return false;
    uint64_t commit = raft_commit_index(node_raft(sim_node(f->s, leader)));
    for (size_t i = 0; i < count; i++) {
        if (!sim_is_up(f->s, i) || raft_applied_index(node_raft(sim_node(f->s, i))) + 100 < commit) return false;
    }
    return true;
}

/* --- choosing ------------------------------------------------------------------------------------- */

static void one_fault(struct sim_faults *f, enum sim_fault_kind kind)
{
    size_t at = some_node(f);
    f->counts[kind]++;
    switch (kind) {
    case SIM_FAULT_KILL:
        sim_kill(f->s, at);
        restart_later(f, at, 6000000);
        break;
    case SIM_FAULT_POWER:
        sim_power(f->s, at);
        restart_later(f, at, 6000000);
        break;
    case SIM_FAULT_POWER_ALL:
        for (size_t i = 0; i < sim_node_count(f->s); i++) {
            sim_power(f->s, i);
            restart_later(f, i, 3000000);
        }
        break;
    case SIM_FAULT_STOP:
        sim_stop(f->s, at);
        restart_later(f, at, 3000000);
        break;
    case SIM_FAULT_PAUSE: sim_pause(f->s, at, sim_now_us(f->s) + between(f->s, 10000, 8000000)); break;
    case SIM_FAULT_CLOCK:
        sim_clock_rate(f->s, at, (int32_t)sim_random(f->s, 1001) - 500);
        sim_wall_jump(f->s, at, (int64_t)sim_random(f->s, 7200000) - 3600000);
        break;
    case SIM_FAULT_TRANSFER: transfer(f); break;
    case SIM_FAULT_SPLIT:
    case SIM_FAULT_ISOLATE:
    case SIM_FAULT_ONE_WAY:
    case SIM_FAULT_LOSSY:
    case SIM_FAULT_SLOW_NET: network_fault(f, kind); break;
    case SIM_FAULT_SLOW_DISK:
    case SIM_FAULT_HANG_DISK:
    case SIM_FAULT_FAIL_DISK:
    case SIM_FAULT_CRASH_DISK:
    case SIM_FAULT_FULL_DISK: disk_fault(f, kind, at); break;
    case SIM_FAULT_ADD:
        if (sim_node_count(f->s) < f->options.nodes_max && all_fine(f)) add(f);
        break;
    case SIM_FAULT_REMOVE: replace(f, at, false); break;
    case SIM_FAULT_WIPE: replace(f, at, true); break;
    case SIM_FAULT_COUNT: break;
    }
}

static void next_fault(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    (void)arg;
    if (f->over) return;
    enum sim_fault_kind kind = (enum sim_fault_kind)sim_random(f->s, SIM_FAULT_COUNT);
    if ((f->options.mask >> kind & 1) != 0) one_fault(f, kind);
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 1000, 2 * f->options.interval_us), next_fault, f, 0);
}

struct sim_faults *sim_faults_new(struct sim *s, const struct sim_faults_options *options)
{
    struct sim_faults *f = mem_zalloc(sizeof *f);
    f->s = s;
    f->options = *options;
    sim_at(s, sim_now_us(s) + options->interval_us, next_fault, f, 0);
    sim_at(s, sim_now_us(s) + OPERATOR_US, operator_step, f, 0);
    return f;
}

void sim_faults_end(struct sim_faults *f)
{
    f->over = true;
    sim_network_reset(f->s);
    for (size_t i = 0; i < sim_node_count(f->s); i++) {
        heal_disk_of(f, i);
        sim_pause(f->s, i, 0);
        if (!sim_is_up(f->s, i) && !f->places[i].held) start_again(f, i);
    }
    sim_log(f->s, "everything is whole again");
}

void sim_faults_free(struct sim_faults *f) { mem_free(f); }
