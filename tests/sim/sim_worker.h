/* tests/sim/sim_worker.h - more kinds of clients than tests/load has.
 *
 * PURPOSE  Pipelines that know what each of their commands must answer, WATCH/MULTI/EXEC, READONLY
 *          connections, XREAD BLOCK, KV COMPACT: each the body of a thread over load's transport.
 * OWNS     struct sim_worker: its connection and history.
 * USES     sim_group.h, tests/load, tests/check.
 * THREADS  One a worker.
 * LIMITS   SIM_PIPELINE_MAX.
 * ERRORS   An answer that breaks the order of its own connection is a sim_fail; all others are data.
 */
#ifndef TESTS_SIM_WORKER_H
#define TESTS_SIM_WORKER_H

#include "load/load.h"
#include "sim_group.h"

#define SIM_PIPELINE_MAX 16

enum sim_worker_kind {
    SIM_WORKER_PIPELINE,
    SIM_WORKER_MULTI,
    SIM_WORKER_LOCAL,
    SIM_WORKER_STREAM,
    SIM_WORKER_COMPACT,
};

struct sim_worker;

/* number: another one each, it names the keys that only this one writes. */
struct sim_worker *sim_worker_new(struct sim *s, enum sim_worker_kind kind, size_t number, struct load_run *run);
void *sim_worker_run(void *worker); /* until run->stop */
struct history *sim_worker_history(struct sim_worker *w); /* borrowed */
void sim_worker_free(struct sim_worker *w);

#endif
