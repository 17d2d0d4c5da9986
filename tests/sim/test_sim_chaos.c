/* Groups under load while everything goes wrong; every history is judged. Without arguments a short
 * run; with SEED [COUNT] those seeds, -t with every event, -s S for at most S seconds. */
#include "sim_client.h"
#include "sim_faults.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define RUN_US 30000000
#define SEEDS_SHORT 20

struct sums {
    uint64_t seeds, ops, unknown, events, elections, crashes;
    int64_t sim_us;
    uint64_t faults[SIM_FAULT_COUNT];
};

static int64_t real_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Which faults this seed has, and how often. */
static uint32_t fault_mask(struct sim *s)
{
    uint32_t all = (1u << SIM_FAULT_COUNT) - 1;
    switch (sim_random(s, 4)) {
    case 0: return all;
    case 1: return 0;
    default: return (uint32_t)sim_random(s, all + 1ULL);
    }
}

static uint64_t run_seed(uint64_t seed, bool trace, struct sums *sums)
{
    char repeat[128];
    snprintf(repeat, sizeof repeat, "make build/debug/tests/sim/test_sim_chaos && "
             "build/debug/tests/sim/test_sim_chaos -t %llu", (unsigned long long)seed);
    struct sim *s = sim_new(&(struct sim_options){
        .seed = seed, .node_count = seed % 3 == 0 ? 5 : 3, .trace = trace, .repeat = repeat,
    });
    struct sim_load *l = sim_load_new(s, 6, 3);
    struct sim_faults *f = sim_faults_new(s, fault_mask(s), 200000 + (int64_t)sim_random(s, 4000000));
    sim_run_until(s, sim_now_us(s) + RUN_US);
    sim_faults_end(f);
    sim_run_until(s, sim_now_us(s) + 10000000);
    if (!sim_load_end(l)) sim_fail(s, "the clients do not come to an end: nobody serves");
    struct check_params params = CHECK_PARAMS_DEFAULT;
    params.holes_allowed = true;
    struct verdict v = { .violation_count = 0 };
    if (!check_history(sim_load_history(l), &params, &v)) {
        sim_fail(s, "the history is not right:\n%.*s", (int)v.text.len, (const char *)v.text.at);
    }
    verdict_deinit(&v);
    sums->seeds++;
    sums->ops += sim_load_ops(l);
    sums->unknown += sim_load_unknown(l);
    sums->events += sim_stats(s)->events;
    sums->elections += sim_stats(s)->elections;
    sums->crashes += sim_stats(s)->crashes;
    sums->sim_us += sim_now_us(s);
    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) sums->faults[i] += sim_faults_counts(f)[i];
    uint64_t hash = sim_trace(s);
    sim_free(s);
    sim_load_free(l);
    sim_faults_free(f);
    return hash;
}

static void print_sums(const struct sums *t, int64_t took_us)
{
    printf("%llu seeds, %.1f simulated hours at %.0f x, %llu operations (%llu of unknown outcome), %llu events, "
           "%llu elections, %llu crashes\n", (unsigned long long)t->seeds, (double)t->sim_us / 3.6e9,
           (double)t->sim_us / (double)took_us, (unsigned long long)t->ops, (unsigned long long)t->unknown,
           (unsigned long long)t->events, (unsigned long long)t->elections, (unsigned long long)t->crashes);
    printf("faults:");
    for (size_t i = 0; i < SIM_FAULT_COUNT; i++) {
        printf("%s %s %llu", i == 0 ? "" : ",", sim_fault_name((enum sim_fault_kind)i), (unsigned long long)t->faults[i]);
    }
    printf("\n");
}

static void test_seeds(void **arg)
{
    (void)arg;
    struct sums sums = { .seeds = 0 };
    int64_t begin_us = real_us();
    for (uint64_t seed = 1; seed <= SEEDS_SHORT; seed++) run_seed(seed, false, &sums);
    print_sums(&sums, real_us() - begin_us);
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

int main(int argc, char **argv)
{
    log_level_set(LOG_OFF);
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
        int64_t begin_us = real_us();
        for (uint64_t i = 0; i < numbers[1] && real_us() - begin_us < seconds * 1000000; i++) {
            run_seed(numbers[0] + i, trace, &sums);
        }
        print_sums(&sums, real_us() - begin_us);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_equal_seeds_are_equal_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
