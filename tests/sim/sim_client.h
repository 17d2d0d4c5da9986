/* tests/sim/sim_client.h - the workload of tests/load in virtual time.
 *
 * PURPOSE  Run load_worker and load_watcher_run unchanged: each is a fiber that gives way wherever
 *          it would wait. Everything they record goes to one history in the end.
 * OWNS     struct sim_load: fibers, their histories.
 * USES     sim_group.h, tests/load, tests/check.
 * THREADS  One.
 * LIMITS   SIM_FIBERS_MAX.
 * ERRORS   What the checkers find goes to the verdict.
 */
#ifndef TESTS_SIM_CLIENT_H
#define TESTS_SIM_CLIENT_H

#include "check/check.h"
#include "sim_group.h"

#define SIM_FIBERS_MAX 64

struct sim_load;

struct sim_load_options {
    size_t workers, watchers; /* tests/load's */
    size_t pipelines, multis, locals, streams, compactors; /* sim_worker.h's */
    int pause_ms; /* between two operations of a connection, at most */
    size_t value_bytes;
};

/* Begins them at once. */
struct sim_load *sim_load_new(struct sim *s, const struct sim_load_options *options);
/* Tells them to end, waits for it (running the simulator), then asks every node for the whole event
 * log. All nodes must be up and connected. False: somebody did not come to an end in time. */
bool sim_load_end(struct sim_load *l);
/* Everything recorded. Borrowed. After sim_load_end. */
const struct history *sim_load_history(const struct sim_load *l);
int64_t sim_load_success_us(const struct sim_load *l); /* when one was answered last; 0: never */
uint64_t sim_load_ops(const struct sim_load *l);     /* answered */
uint64_t sim_load_unknown(const struct sim_load *l); /* TIMEOUT, or a broken connection */
void sim_load_free(struct sim_load *l);

#endif
