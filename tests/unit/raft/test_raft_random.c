/* Groups under message loss, reordering, duplication, cuts, crashes, slow disks, snapshots and
 * membership changes, each from one seed. RAFT_SEEDS sets how many, RAFT_SEED the first. */
#include "raft_lab.h"

#define ROUNDS 400
#define SEEDS 120

struct rng {
    uint64_t state;
    uint64_t proposal_count; /* makes every body another */
};

static uint64_t draw(struct rng *g, uint64_t n)
{
    g->state = g->state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (g->state >> 33) % n;
}

static bool chance(struct rng *g, uint64_t percent)
{
    return draw(g, 100) < percent;
}

/* Two logs that hold an entry with the same index and term are equal up to there. */
static void check_log_matching(struct lab *lab)
{
    for (uint64_t a = 1; a <= lab->node_count; a++) {
        for (uint64_t b = a + 1; b <= lab->node_count; b++) {
            const struct raft *x = lab->node[a].r;
            const struct raft *y = lab->node[b].r;
            if (x == NULL || y == NULL) continue;
            bool equal = false;
            uint64_t from = MAX(raft_first_index(x), raft_first_index(y));
            for (uint64_t i = MIN(raft_last_index(x), raft_last_index(y)); i >= from && i != 0;
                 i--) {
                const struct raft_entry *e = raft_entry_at(x, i);
                const struct raft_entry *f = raft_entry_at(y, i);
                if (e->term == f->term) equal = true;
                if (equal && (e->term != f->term || e->crc != f->crc || e->type != f->type)) {
                    fail_msg("seed %llu: logs of %llu and %llu differ at %llu",
                             (unsigned long long)lab->seed, (unsigned long long)a,
                             (unsigned long long)b, (unsigned long long)i);
                }
            }
        }
    }
}

/* A leader holds everything that was ever applied in an earlier term. */
static void check_leader_completeness(struct lab *lab)
{
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        const struct raft *r = lab->node[id].r;
        if (r == NULL || raft_role(r) != RAFT_LEADER) continue;
        for (uint64_t i = raft_first_index(r); i <= lab->applied_max; i++) {
            if (lab->applied_term[i] >= raft_term(r)) continue;
            uint64_t term = 0;
            bool there = raft_term_at(r, i, &term) && term == lab->applied_term[i];
            if (!there) {
                fail_msg("seed %llu: leader %llu of term %llu lacks %llu",
                         (unsigned long long)lab->seed, (unsigned long long)id,
                         (unsigned long long)raft_term(r), (unsigned long long)i);
            }
        }
    }
}

/* What was applied anywhere is on the disks of a majority. Only for seeds without changes of the
 * members: a configuration counts from the moment it is appended, and may be lost again with its
 * leader; the entries it committed are safe then because every former majority overlaps with it,
 * not because they are on a majority of what is in force now. */
static void check_durable_on_quorum(struct lab *lab)
{
    size_t holders = 0;
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        const struct lab_node *n = &lab->node[id];
        const struct raft_entry *e = lab_log_find(&n->log, lab->applied_max);
        bool has = n->snap_index >= lab->applied_max ||
                   (e != NULL && e->term == lab->applied_term[lab->applied_max]);
        holders += has && raft_members_is_voter(&lab->first_members, id);
    }
    size_t quorum = raft_members_voter_count(&lab->first_members) / 2 + 1;
    if (lab->applied_max != 0 && holders < quorum) {
        fail_msg("seed %llu: %llu is applied but on %zu disks only",
                 (unsigned long long)lab->seed, (unsigned long long)lab->applied_max, holders);
    }
}

static bool has_fixed_members(const struct lab *lab)
{
    return lab->seed % 3 == 0;
}

static uint64_t any_leader(struct lab *lab)
{
    uint64_t leader = 0;
    uint64_t term = 0;
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        const struct raft *r = lab->node[id].r;
        if (r == NULL || raft_role(r) != RAFT_LEADER || raft_term(r) <= term) continue;
        leader = id;
        term = raft_term(r);
    }
    return leader;
}

static void change_members(struct lab *lab, struct rng *g)
{
    uint64_t leader = any_leader(lab);
    if (leader == 0) return;
    uint64_t id = 1 + draw(g, lab->node_count);
    struct raft_members m = *raft_members(lab->node[leader].r);
    const struct raft_member *old = raft_members_find(&m, id);
    enum err err = OK;
    if (old == NULL) {
        struct raft_member fresh = lab_member(id, RAFT_LEARNER);
        err = raft_members_put(&m, &fresh);
    } else if (old->role == RAFT_LEARNER) {
        struct raft_member voter = lab_member(id, RAFT_VOTER);
        err = raft_members_put(&m, &voter);
    } else if (raft_members_voter_count(&m) > 2 || chance(g, 10)) {
        err = raft_members_remove(&m, id);
    }
    assert_int_equal(err, OK);
    struct raft_event ev = { .type = RAFT_EV_PROPOSE_MEMBERS, .members = &m };
    (void)lab_event(lab, leader, ev); /* any refusal will do */
}

static void client(struct lab *lab, struct rng *g)
{
    uint64_t id = 1 + draw(g, lab->node_count);
    if (lab->node[id].r == NULL) return;
    if (chance(g, 70) && lab->applied_max < LAB_INDEX_MAX - 512) {
        char text[64];
        int len = snprintf(text, sizeof text, "%llu", (unsigned long long)++g->proposal_count);
        struct slice body = { (const uint8_t *)text, (size_t)len + draw(g, 20) };
        memset(text + len, '.', sizeof text - (size_t)len);
        (void)lab_propose(lab, id, body); /* most are not the leader */
    }
    if (chance(g, 30)) lab_read(lab, id);
    if (lab->cfg.commit_rides && chance(g, 50)) {
        (void)lab_event(lab, id, (struct raft_event){ .type = RAFT_EV_COMMIT_TELL });
    }
    if (chance(g, 2)) {
        struct raft_event ev = { .type = RAFT_EV_TRANSFER, .peer = draw(g, lab->node_count + 1) };
        (void)lab_event(lab, id, ev);
    }
}

static void fault(struct lab *lab, struct rng *g)
{
    uint64_t id = 1 + draw(g, lab->node_count);
    uint64_t other = 1 + draw(g, lab->node_count);
    struct lab_node *n = &lab->node[id];
    switch (draw(g, 8)) {
    case 0:
        if (n->r != NULL) lab_crash(lab, id);
        break;
    case 1:
    case 2:
        if (n->r == NULL) lab_start(lab, id);
        break;
    case 3: lab->cut[id][other] = true; break;
    case 4: memset(lab->cut, 0, sizeof lab->cut); break;
    case 5: n->disk_held = !n->disk_held; break;
    case 6:
        if (n->r != NULL) lab_compact(lab, id, draw(g, 6));
        break;
    case 7:
        if (!has_fixed_members(lab)) change_members(lab, g);
        break;
    default: break;
    }
}

static void network(struct lab *lab, struct rng *g)
{
    for (uint64_t left = draw(g, 40); left != 0 && lab->net_count != 0; left--) {
        size_t at = chance(g, 80) ? 0 : (size_t)draw(g, MIN(lab->net_count, 16));
        if (chance(g, 3) && lab->net_count < LAB_NET_MAX) { /* a duplicate, later */
            struct lab_packet copy = lab->net[at];
            copy.bytes = (struct buf){ 0 };
            buf_append_slice(&copy.bytes, buf_slice(&lab->net[at].bytes));
            lab->net[lab->net_count++] = copy;
        }
        struct lab_packet p = lab_net_take(lab, at);
        if (chance(g, 3)) {
            buf_deinit(&p.bytes);
            continue;
        }
        lab_deliver(lab, &p);
        if (chance(g, 70)) lab_work(lab, p.to);
    }
}

static void disks(struct lab *lab, struct rng *g)
{
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        struct lab_node *n = &lab->node[id];
        if (n->r != NULL && n->write_count != 0 && chance(g, 30)) lab_persist_one(lab, id);
        if (n->write_count > LAB_WRITES_MAX / 2) n->disk_held = false;
    }
}

static void heal(struct lab *lab)
{
    memset(lab->cut, 0, sizeof lab->cut);
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        lab->node[id].disk_held = false;
        if (lab->node[id].r == NULL) lab_start(lab, id);
    }
}

static void check_all(struct lab *lab)
{
    check_log_matching(lab);
    check_leader_completeness(lab);
    if (has_fixed_members(lab)) check_durable_on_quorum(lab);
}

/* Everybody in the group has applied all that the leader has. */
static void check_level(struct lab *lab, uint64_t leader)
{
    const struct lab_node *n = &lab->node[leader];
    assert_true(n->applied == raft_last_index(n->r));
    for (uint64_t id = 1; id <= lab->node_count; id++) {
        if (raft_members_find(raft_members(n->r), id) == NULL) continue;
        if (lab->node[id].applied != n->applied) {
            fail_msg("seed %llu: %llu is behind", (unsigned long long)lab->seed,
                     (unsigned long long)id);
        }
    }
}

/* Without faults a leader appears, takes an entry, and everybody in the group applies it. */
static void check_progress(struct lab *lab)
{
    heal(lab);
    lab_run(lab, 12000);
    uint64_t leader = any_leader(lab);
    if (leader == 0) fail_msg("seed %llu: no leader", (unsigned long long)lab->seed);
    check_level(lab, leader);
    lab_put(lab, leader, "last");
    lab_read(lab, leader);
    lab_run(lab, 1000);
    check_level(lab, leader);
    assert_true(lab->node[leader].read_id == lab->node[leader].read_asked);
    check_all(lab);
}

static void run_seed(uint64_t seed, size_t *snapshots, uint64_t *applied)
{
    struct rng g = { .state = seed * 2654435761u + 1 };
    size_t voters = 1 + 2 * (size_t)draw(&g, 3);
    struct lab *lab = lab_new(voters, (size_t)draw(&g, 2), seed);
    lab->cfg.apply_early = chance(&g, 30);
    lab->cfg.commit_rides = seed % 2 == 0;
    if (lab->node_count < 7) lab->node_count += 1; /* one that waits to be added */
    for (uint64_t id = 1; id <= lab->node_count; id++) lab_start(lab, id);

    for (int round = 0; round < ROUNDS; round++) {
        lab->now_ms += (int64_t)draw(&g, 60);
        for (uint64_t id = 1; id <= lab->node_count; id++) {
            if (chance(&g, 80)) lab_tick(lab, id);
        }
        if (chance(&g, 15)) fault(lab, &g);
        for (uint64_t k = draw(&g, 4); k != 0; k--) client(lab, &g);
        network(lab, &g);
        disks(lab, &g);
        for (uint64_t id = 1; id <= lab->node_count; id++) {
            if (chance(&g, 50)) lab_work(lab, id);
        }
        if (round % 10 == 0) check_all(lab);
    }
    check_progress(lab);
    *snapshots += lab->snapshots;
    *applied += lab->applied_max;
    lab_free(lab);
}

static uint64_t env_or(const char *name, uint64_t fallback)
{
    uint64_t v = fallback;
    const char *text = getenv(name);
    if (text != NULL) assert_int_equal(u64_parse(slice_of(text), &v), OK);
    return v;
}

static void test_random(void **state)
{
    (void)state;
    uint64_t first = env_or("RAFT_SEED", 1);
    uint64_t count = env_or("RAFT_SEEDS", SEEDS);
    size_t snapshots = 0;
    uint64_t applied = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        run_seed(seed, &snapshots, &applied);
    }
    print_message("%llu seeds: %llu entries applied, %zu snapshots\n", (unsigned long long)count,
                  (unsigned long long)applied, snapshots);
    if (count >= SEEDS) { /* the faults do happen */
        assert_true(applied > count * 20);
        assert_true(snapshots > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };
    return cmocka_run_group_tests_name("raft/random", tests, NULL, NULL);
}
