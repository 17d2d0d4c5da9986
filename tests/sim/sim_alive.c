/* tests/sim/sim_alive.c - see sim_alive.h. */
#include "sim_alive.h"

#define LOOK_US 200000
#define GOOD_US 10000000   /* so long has a majority been well ... */
#define SILENT_US 15000000 /* ... and nobody was answered: clients try dead members too */
#define DELAY_US_MAX 5000  /* of a link that counts as good */

struct sim_alive {
    struct sim *s;
    const struct sim_faults *f;
    const struct sim_load *l;
    bool over;
    int64_t begin_us;
    int64_t bad_us[SIM_NODES_MAX][SIM_NODES_MAX]; /* last seen so: both directions; [i][i]: the member */
    uint64_t ids[SIM_NODES_MAX];
};

static bool link_is_good(struct sim *s, size_t from, size_t to)
{
    const struct sim_link *l = sim_link(s, from, to);
    return !l->blocked && l->loss_ppm == 0 && l->reorder_ppm == 0 && l->duplicate_ppm == 0 &&
           l->delay_us_max <= DELAY_US_MAX;
}

static void look_at_all(struct sim_alive *a)
{
    int64_t now_us = sim_now_us(a->s);
    for (size_t i = 0; i < sim_node_count(a->s); i++) {
        bool well = sim_faults_is_well(a->f, i) && a->ids[i] == sim_member_id(a->s, i);
        a->ids[i] = sim_member_id(a->s, i);
        if (!well) a->bad_us[i][i] = now_us;
        for (size_t k = 0; k < i; k++) {
            if (!link_is_good(a->s, i, k) || !link_is_good(a->s, k, i)) a->bad_us[i][k] = now_us;
        }
    }
}

/* Is this set, all of it well for long enough, a majority for each of its members? */
static bool is_able(const struct sim_alive *a, uint64_t set)
{
    int64_t limit_us = sim_now_us(a->s) - GOOD_US;
    for (size_t i = 0; i < sim_node_count(a->s); i++) {
        if ((set >> i & 1) == 0) continue;
        for (size_t k = 0; k <= i; k++) {
            if ((set >> k & 1) != 0 && a->bad_us[i][k] > limit_us) return false;
        }
        const struct raft_members *m = raft_members(node_raft(sim_node(a->s, i)));
        size_t voters = 0;
        for (size_t k = 0; k < sim_node_count(a->s); k++) {
            voters += (set >> k & 1) != 0 && raft_members_is_voter(m, sim_member_id(a->s, k));
        }
        if (voters < raft_members_voter_count(m) / 2 + 1) return false;
    }
    return set != 0;
}

static void look(void *ctx, uint64_t arg)
{
    struct sim_alive *a = ctx;
    (void)arg;
    if (a->over) return;
    look_at_all(a);
    int64_t success_us = MAX(sim_load_success_us(a->l), a->begin_us);
    bool silent = sim_now_us(a->s) - success_us > SILENT_US;
    for (uint64_t set = 1; silent && set < 1ULL << sim_node_count(a->s); set++) {
        if (is_able(a, set)) {
            sim_fail(a->s, "members %llx (bits) are well and a majority, and nobody was answered for %.1f s",
                     (unsigned long long)set, (double)(sim_now_us(a->s) - success_us) / 1e6);
        }
    }
    sim_at(a->s, sim_now_us(a->s) + LOOK_US, look, a, 0);
}

struct sim_alive *sim_alive_new(struct sim *s, const struct sim_faults *f, const struct sim_load *l)
{
    struct sim_alive *a = mem_zalloc(sizeof *a);
    a->s = s;
    a->f = f;
    a->l = l;
    a->begin_us = sim_now_us(s);
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        for (size_t k = 0; k < SIM_NODES_MAX; k++) a->bad_us[i][k] = a->begin_us;
    }
    sim_at(s, sim_now_us(s) + LOOK_US, look, a, 0);
    return a;
}

void sim_alive_end(struct sim_alive *a) { a->over = true; }
void sim_alive_free(struct sim_alive *a) { mem_free(a); }
