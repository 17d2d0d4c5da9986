/* tests/sim/sim_faults.c - see sim_faults.h. */
#include "sim_faults.h"

struct sim_faults {
    struct sim *s;
    uint32_t mask;
    int64_t interval_us;
    bool over;
    uint64_t counts[SIM_FAULT_COUNT];
    bool disk_broken[SIM_NODES_MAX];
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

static void start_again(void *ctx, uint64_t at)
{
    struct sim_faults *f = ctx;
    /* A disk that fails at the start refuses the start: the operator has changed it before. */
    sim_disk_fail_nth(sim_node_disk(f->s, at), 0, SIM_FAIL, 0);
    sim_disk_set_free_bytes(sim_node_disk(f->s, at), UINT64_MAX);
    if (!sim_is_up(f->s, at)) sim_start(f->s, at);
}

static void heal_network(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    (void)arg;
    sim_log(f->s, "the network is whole again");
    sim_network_reset(f->s);
}

static void heal_disk(void *ctx, uint64_t at)
{
    struct sim_faults *f = ctx;
    sim_disk_delay(f->s, at, 20, 400);
    sim_disk_set_free_bytes(sim_node_disk(f->s, at), UINT64_MAX);
    sim_disk_fail_nth(sim_node_disk(f->s, at), 0, SIM_FAIL, 0);
}

/* --- faults ------------------------------------------------------------------------------------- */

static size_t some_node(struct sim_faults *f)
{
    size_t leader = sim_leader(f->s);
    if (leader < SIM_NODES_MAX && sim_random(f->s, 2) == 0) return leader;
    return sim_random(f->s, sim_node_count(f->s));
}

static void restart_later(struct sim_faults *f, size_t at, int64_t max_us)
{
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 1000, max_us), start_again, f, at);
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
        restart_later(f, at, 5000000);
    }
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 100000, 5000000), heal_disk, f, at);
}

static void transfer(struct sim_faults *f)
{
    size_t leader = sim_leader(f->s);
    if (leader >= SIM_NODES_MAX) return;
    static const char row = 0;
    struct ticket t = { .row = &row, .client_id = 0, .kind = 1 };
    struct raft_member m = { .id = sim_member_id(f->s, sim_random(f->s, sim_node_count(f->s))) };
    t.row = NULL; /* nobody waits */
    node_member_change(sim_node(f->s, leader), NODE_MEMBER_TRANSFER, &m, &t);
}

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
    case SIM_FAULT_FULL_DISK: disk_fault(f, kind, at); break;
    case SIM_FAULT_COUNT: break;
    }
}

static void next_fault(void *ctx, uint64_t arg)
{
    struct sim_faults *f = ctx;
    (void)arg;
    if (f->over) return;
    enum sim_fault_kind kind = (enum sim_fault_kind)sim_random(f->s, SIM_FAULT_COUNT);
    if ((f->mask >> kind & 1) != 0) one_fault(f, kind);
    sim_at(f->s, sim_now_us(f->s) + between(f->s, 1000, 2 * f->interval_us), next_fault, f, 0);
}

struct sim_faults *sim_faults_new(struct sim *s, uint32_t mask, int64_t interval_us)
{
    struct sim_faults *f = mem_zalloc(sizeof *f);
    f->s = s;
    f->mask = mask;
    f->interval_us = interval_us;
    sim_at(s, sim_now_us(s) + interval_us, next_fault, f, 0);
    return f;
}

void sim_faults_end(struct sim_faults *f)
{
    f->over = true;
    sim_network_reset(f->s);
    for (size_t i = 0; i < sim_node_count(f->s); i++) {
        heal_disk(f, i);
        sim_pause(f->s, i, 0);
        if (!sim_is_up(f->s, i)) sim_start(f->s, i);
    }
    sim_log(f->s, "everything is whole again");
}

void sim_faults_free(struct sim_faults *f) { mem_free(f); }
