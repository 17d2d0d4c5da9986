/* tests/sim/sim_alive.h - whoever can serve must serve.
 *
 * PURPOSE  Watch a run: when a majority of the voters has been up, connected to each other, not
 *          paused and on working disks for a while, and nothing was answered to any client, that is
 *          a failure. Decides nothing else.
 * OWNS     struct sim_alive.
 * USES     sim_group.h, sim_faults.h, sim_client.h.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   sim_fail.
 */
#ifndef TESTS_SIM_ALIVE_H
#define TESTS_SIM_ALIVE_H

#include "sim_client.h"
#include "sim_faults.h"

struct sim_alive;

struct sim_alive *sim_alive_new(struct sim *s, const struct sim_faults *f, const struct sim_load *l);
/* Before the clients end. Not to be freed before the simulator's last event. */
void sim_alive_end(struct sim_alive *a);
void sim_alive_free(struct sim_alive *a);

#endif
