/* tests/sim/sim_group.h - whole groups of members in one process, in virtual time, from one seed.
 *
 * PURPOSE  Run the production code of node, cmd and everything below over a modelled network, clock
 *          and disk, and check after every step what must hold in every group. Does not decide what
 *          goes wrong, nor what clients do: see sim_faults.h and sim_client.h.
 * OWNS     struct sim, the members' processes and disks, all connections and events.
 * USES     cmd and below, sim_disk.h.
 * THREADS  One. One struct sim at a time.
 * LIMITS   SIM_NODES_MAX.
 * ERRORS   sim_fail() prints what was violated, the seed and the command that repeats it, and aborts.
 */
#ifndef TESTS_SIM_GROUP_H
#define TESTS_SIM_GROUP_H

#include "cmd/cmd.h"
#include "sim_disk.h"

#define SIM_NODES_MAX 7
#define SIM_CLUSTER_ID 4711
#define SIM_HEARTBEAT_MS 100
#define SIM_ELECTION_MS 1000
#define SIM_REQUEST_TIMEOUT_MS 5000

struct sim;

struct sim_options {
    uint64_t seed;
    size_t node_count;    /* the first members */
    uint64_t snapshot_count, segment_bytes; /* as in struct node_config; 0: 1000, 256 KiB */
    int64_t checkpoint_ms;                  /* 0: 1000 */
    int64_t heartbeat_ms;                   /* 0: SIM_HEARTBEAT_MS */
    int64_t election_ms;                    /* 0: SIM_ELECTION_MS */
    bool trace;           /* every event on stdout */
    const char *repeat;   /* the command that repeats this run, for sim_fail */
};

struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *s);

int64_t sim_now_us(const struct sim *s);
void sim_run_until(struct sim *s, int64_t until_us);
uint64_t sim_random(struct sim *s, uint64_t below); /* 0 for below 0 */
bool sim_chance(struct sim *s, uint32_t ppm);
/* Of everything that happened: equal runs have equal traces. */
uint64_t sim_trace(const struct sim *s);
void sim_note(struct sim *s, uint64_t value); /* mixes something into the trace */
_Noreturn void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_log(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Calls fn(ctx, arg) then; cannot be taken back. */
void sim_at(struct sim *s, int64_t at_us, void (*fn)(void *ctx, uint64_t arg), void *ctx, uint64_t arg);

/* --- members ------------------------------------------------------------------------- */

size_t sim_node_count(const struct sim *s);
struct node *sim_node(const struct sim *s, size_t at); /* NULL while it is down */
uint64_t sim_member_id(const struct sim *s, size_t at);
uint64_t sim_directory_id(const struct sim *s, size_t at);
bool sim_is_paused(const struct sim *s, size_t at);
struct sim_disk *sim_node_disk(const struct sim *s, size_t at);
bool sim_began_alone(const struct sim *s);
bool sim_is_up(const struct sim *s, size_t at);
size_t sim_leader(const struct sim *s); /* of the highest term; SIM_NODES_MAX: none */

void sim_kill(struct sim *s, size_t at);  /* the process ends; the kernel keeps what was written */
void sim_power(struct sim *s, size_t at); /* the machine loses power */
void sim_stop(struct sim *s, size_t at);  /* an orderly stop */
/* False: it refused to start (only a disk that was damaged on purpose may do that). */
bool sim_start(struct sim *s, size_t at);
void sim_pause(struct sim *s, size_t at, int64_t until_us); /* SIGSTOP, SIGCONT */
/* Its next start loses power in the n-th operation of its disk. */
void sim_crash_at_start(struct sim *s, size_t at, uint64_t nth);
/* A new member that waits to be added; returns its place. It is down. */
size_t sim_add_node(struct sim *s);
/* An empty directory and new ids in the place of one that is down. */
void sim_wipe_node(struct sim *s, size_t at);
void sim_clock_rate(struct sim *s, size_t at, int32_t ppm);
void sim_wall_jump(struct sim *s, size_t at, int64_t ms);
/* Each step of its disk takes between these from now on. */
void sim_disk_delay(struct sim *s, size_t at, int64_t min_us, int64_t max_us);

/* --- network --------------------------------------------------------------------------- */

struct sim_link {
    bool blocked;
    int64_t delay_us_min, delay_us_max;
    uint32_t loss_ppm, duplicate_ppm, reorder_ppm;
};
/* From one member to another; the other direction is another link. */
struct sim_link *sim_link(struct sim *s, size_t from, size_t to);
void sim_network_reset(struct sim *s); /* all links as at first */

/* --- clients' connections ----------------------------------------------------------------- */

struct sim_conn_hooks {
    void (*bytes)(void *ctx, uint64_t conn, struct slice in);
    void (*closed)(void *ctx, uint64_t conn);
};
/* 0: refused, the member is down. Bytes arrive in order, after a delay. */
uint64_t sim_connect(struct sim *s, size_t at, const struct sim_conn_hooks *hooks, void *ctx);
void sim_send(struct sim *s, uint64_t conn, struct slice bytes);
void sim_close(struct sim *s, uint64_t conn); /* no more hooks */

/* Every event of the group in order, taken where it was applied first. Borrowed until the next
 * event; history_event.n as told. */
struct history_event;
size_t sim_log_count(const struct sim *s);
void sim_log_at(const struct sim *s, size_t i, struct history_event *out);

struct sim_stats {
    uint64_t events, turns, payloads, payloads_lost, disk_steps, elections, crashes, starts;
    uint64_t snapshots; /* installed */
    uint64_t commit_max;
};
const struct sim_stats *sim_stats(const struct sim *s);

#endif
