/* tests/sim/sim_faults.h - what goes wrong in a run, chosen by its seed.
 *
 * PURPOSE  Crash, pause, cut off and slow down members, and heal them again, at random times.
 * OWNS     struct sim_faults.
 * USES     sim_group.h.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   None.
 */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H

#include "sim_group.h"

#define SIM_FAULTS(X) \
    X(KILL, "kill") X(POWER, "power") X(POWER_ALL, "power of all") X(STOP, "stop") X(PAUSE, "pause") \
    X(SPLIT, "split") X(ISOLATE, "isolate") X(ONE_WAY, "one way") X(LOSSY, "lossy") X(SLOW_NET, "slow network") \
    X(SLOW_DISK, "slow disk") X(HANG_DISK, "hanging disk") X(FAIL_DISK, "failing disk") X(CLOCK, "clock") \
    X(TRANSFER, "transfer") X(FULL_DISK, "full disk") X(CRASH_DISK, "crash in a disk operation") \
    X(ADD, "add") X(REMOVE, "remove and join again") X(WIPE, "wipe and join again")
#define SIM_FAULT_ENUM(symbol, word) SIM_FAULT_##symbol,
enum sim_fault_kind { SIM_FAULTS(SIM_FAULT_ENUM) SIM_FAULT_COUNT };
#undef SIM_FAULT_ENUM

struct sim_faults;

struct sim_faults_options {
    uint32_t mask;       /* 1 << enum sim_fault_kind: those that may happen */
    int64_t interval_us; /* about, between two */
    size_t grow_to;      /* members join until there are so many; 0: none does */
    size_t nodes_max;    /* SIM_FAULT_ADD goes so far */
};

/* From now on, until sim_faults_end. An operator is at work too: starts what is down, replaces what
 * was wiped, lets join who waits, until sim_faults_free. */
struct sim_faults *sim_faults_new(struct sim *s, const struct sim_faults_options *options);
void sim_faults_end(struct sim_faults *f); /* heals everything: all members up and connected */
/* Everybody is up, a voter, and what the leader has committed is applied everywhere. */
bool sim_faults_all_whole(const struct sim_faults *f);
/* Its disk works as it should, and it is neither down nor paused. */
bool sim_faults_is_well(const struct sim_faults *f, size_t at);
const uint64_t *sim_faults_counts(const struct sim_faults *f); /* SIM_FAULT_COUNT */
const char *sim_fault_name(enum sim_fault_kind kind);
void sim_faults_free(struct sim_faults *f); /* not before the simulator's last event */

#endif
