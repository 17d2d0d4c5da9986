/* Groups under load while everything goes wrong; every history is judged. Without arguments a short
 * run; with SEED [COUNT] those seeds, -t with every event, -s S for at most S seconds. */
#include "sim_alive.h"

#include "base/log.h"

#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN_US 30000000
#define WHOLE_US 60000000 /* in which a healed group must be whole again */
#define SEEDS_SHORT 20

struct sums {
    uint64_t seeds, ops, unknown, events, elections, crashes, snapshots, log_events;
    int64_t sim_us;
    uint64_t faults[SIM_FAULT_COUNT];
};

/* Of the run that goes on: also printed when an assertion of the product ends it. */
static char repeat[512];

static void on_signal(int number)
{
    static const char text[] = "simulator: the process ends by a signal\n  again: ";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    if (written > 0) written = write(STDERR_FILENO, repeat, strlen(repeat));
    if (written > 0) written = write(STDERR_FILENO, "\n", 1);
    signal(number, SIG_DFL);
    raise(number);
}

static const char *program = "build/debug/tests/sim/test_sim_chaos";

static int64_t real_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* What the seed makes of the run. Drawn from numbers of its own: the simulator has others. */
struct shape {
    uint64_t random;
    struct sim_options group;
    struct sim_load_options load;
    struct sim_faults_options faults;
};

static uint64_t draw(struct shape *p, uint64_t below)
{
    p->random = u64_mix(p->random + 0x9e3779b97f4a7c15ULL);
    return p->random % below;
}

/* Which faults this seed has. */
static uint32_t fault_mask(struct shape *p)
{
    uint32_t all = (1U << SIM_FAULT_COUNT) - 1;
    switch (draw(p, 8)) {
    case 0: return 0;
    case 1:
    case 2: return all;
    default: return (uint32_t)draw(p, all + 1ULL);
    }
}

static void shape_make(struct shape *p, uint64_t seed)
{
    static const size_t counts[] = { 1, 1, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5 };
    static const uint64_t snapshot_counts[] = { 20, 100, 1000 };
    static const int64_t checkpoint_ms[] = { 50, 300, 1000 };
    *p = (struct shape){ .random = u64_mix(seed ^ 0x73686170) };
    p->group.seed = seed;
    p->group.node_count = counts[draw(p, ARRAY_LEN(counts))];
    p->group.snapshot_count = snapshot_counts[draw(p, ARRAY_LEN(snapshot_counts))];
    p->group.checkpoint_ms = checkpoint_ms[draw(p, ARRAY_LEN(checkpoint_ms))];
    p->group.heartbeat_ms = draw(p, 3) == 0 ? 100 : 250;
    p->group.segment_bytes = draw(p, 2) == 0 ? 64u << 10 : 128u << 10;
    p->load = (struct sim_load_options){
        .workers = 4, .watchers = 1 + draw(p, 2), .pipelines = draw(p, 2), .multis = draw(p, 2), .locals = draw(p, 2),
        .streams = draw(p, 2), .compactors = draw(p, 2), .pause_ms = 250 << draw(p, 3),
        .value_bytes = draw(p, 8) == 0 ? 4000 : 24,
    };
    if (p->group.node_count == 1) p->load.compactors = 0; /* its log must be there in the end */
    p->faults = (struct sim_faults_options){
        .mask = fault_mask(p), .interval_us = 300000 + (int64_t)draw(p, 5000000),
        .grow_to = p->group.node_count == 1 && draw(p, 4) != 0 ? 3 : 0,
        .nodes_max = p->group.node_count < 5 ? 5 : SIM_NODES_MAX,
    };
}

static void run_whole(struct sim *s, const struct sim_faults *f)
{
    int64_t end_us = sim_now_us(s) + WHOLE_US;
    while (!sim_faults_all_whole(f)) {
        if (sim_now_us(s) > end_us) sim_fail(s, "all is healed and the group does not become whole");
        sim_run_until(s, sim_now_us(s) + 100000);
    }
    sim_log(s, "all members are there");
}

static void judge(struct sim *s, const struct sim_load *l)
{
    struct check_params params = CHECK_PARAMS_DEFAULT;
    params.holes_allowed = true;
    struct verdict v = { .violation_count = 0 };
    if (!check_history(sim_load_history(l), &params, &v)) {
        sim_fail(s, "the history is not right:\n%.*s", (int)v.text.len, (const char *)v.text.at);
    }
    verdict_deinit(&v);
}

static void add_up(struct sums *sums, const struct sim *s, const struct sim_load *l, const struct sim_faults *f)
{
    const struct sim_stats *st = sim_stats(s);
    sums->seeds++;
    sums->ops += sim_load_ops(l);
    sums->unknown += sim_load_unknown(l);
    sums->events += st->events;
    sums->elections += st->elections;
    sums->crashes += st->crashes;
    sums->snapshots += st->snapshots;
    sums->log_events += sim_log_count(s);
    sums->sim_us += sim_now_us(s);
    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) sums->faults[i] += sim_faults_counts(f)[i];
}

static uint64_t run_seed(uint64_t seed, bool trace, struct sums *sums)
{
    const char *variant = strstr(program, "build/");
    int variant_len = variant == NULL ? 0 : (int)strcspn(variant + 6, "/");
    snprintf(repeat, sizeof repeat, "make BUILD=%.*s %s && %s -t %llu", variant_len, variant == NULL ? "" : variant + 6,
             program, program, (unsigned long long)seed);
    struct shape shape;
    shape_make(&shape, seed);
    shape.group.trace = trace;
    shape.group.repeat = repeat;
    struct sim *s = sim_new(&shape.group);
    struct sim_load *l = sim_load_new(s, &shape.load);
    struct sim_faults *f = sim_faults_new(s, &shape.faults);
    struct sim_alive *a = sim_alive_new(s, f, l);
    sim_run_until(s, sim_now_us(s) + RUN_US);
    sim_faults_end(f);
    run_whole(s, f);
    sim_run_until(s, sim_now_us(s) + 3000000);
    sim_alive_end(a);
    if (!sim_load_end(l)) sim_fail(s, "the clients do not come to an end: nobody serves");
    judge(s, l);
    add_up(sums, s, l, f);
    uint64_t hash = sim_trace(s);
    sim_free(s);
    sim_load_free(l);
    sim_faults_free(f);
    sim_alive_free(a);
    return hash;
}

/* One line of name=number: whoever runs many of these adds them up. */
static void print_sums(const struct sums *t, int64_t cpu_us)
{
    printf("sums: seeds=%llu simulated_s=%lld cpu_ms=%lld operations=%llu unknown=%llu revisions=%llu steps=%llu "
           "elections=%llu crashes=%llu snapshots=%llu", (unsigned long long)t->seeds, (long long)(t->sim_us / 1000000),
           (long long)(cpu_us / 1000), (unsigned long long)t->ops, (unsigned long long)t->unknown,
           (unsigned long long)t->log_events, (unsigned long long)t->events, (unsigned long long)t->elections,
           (unsigned long long)t->crashes, (unsigned long long)t->snapshots);
    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) {
        const char *name = sim_fault_name((enum sim_fault_kind)i);
        printf(" fault:");
        for (; *name != '\0'; name++) putchar(*name == ' ' ? '_' : *name);
        printf("=%llu", (unsigned long long)t->faults[i]);
    }
    printf("\n");
}

static void test_seeds(void **arg)
{
    (void)arg;
    struct sums sums = { .seeds = 0 };
    int64_t begin_us = real_us(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t seed = 1; seed <= SEEDS_SHORT; seed++) run_seed(seed, false, &sums);
    print_sums(&sums, real_us(CLOCK_PROCESS_CPUTIME_ID) - begin_us);
}

static void test_equal_seeds_are_equal_runs(void **arg)
{
    (void)arg;
    struct sums sums = { .seeds = 0 };
    for (uint64_t seed = 100; seed < 104; seed++) {
        uint64_t first = run_seed(seed, false, &sums);
        assert_int_equal(first, run_seed(seed, false, &sums));
    }
}

/* Each seed needs as much as the one before: giving it back costs a tenth of the time. */
static void memory_is_kept(void)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that it takes */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
}

int main(int argc, char **argv)
{
    log_level_set(getenv("SIM_LOG") != NULL ? LOG_DEBUG : LOG_OFF);
    memory_is_kept();
    program = argv[0];
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    bool trace = false;
    int64_t seconds = INT64_MAX / 2000000;
    uint64_t numbers[2] = { 0, 1 };
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-t") == 0) trace = true;
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) seconds = atoll(argv[++i]);
        else if (count < 2) numbers[count++] = strtoull(argv[i], NULL, 10);
    }
    if (count > 0) {
        struct sums sums = { .seeds = 0 };
        int64_t begin_us = real_us(CLOCK_PROCESS_CPUTIME_ID), end_us = real_us(CLOCK_MONOTONIC) + seconds * 1000000;
        for (uint64_t i = 0; i < numbers[1] && real_us(CLOCK_MONOTONIC) < end_us; i++) {
            run_seed(numbers[0] + i, trace, &sums);
        }
        print_sums(&sums, real_us(CLOCK_PROCESS_CPUTIME_ID) - begin_us);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_equal_seeds_are_equal_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
