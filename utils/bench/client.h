/* utils/bench/client.h - what all load commands share: flags, clock, latencies, connections.
 *
 * PURPOSE  Hold connections and find where a reply ends, at a cost far below the server's.
 *          It does not understand commands.
 * OWNS     struct conn (socket and the unread rest of a reply), struct histogram.
 * THREADS  One; a process is one load.
 * LIMITS   SCRATCH_BYTES a read; a reply must fit in it.
 * ERRORS   Any surprise (an error reply too) ends the process: half a measurement is none.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SCRATCH_BYTES (1 << 20)
#define PORTS_MAX 8
#define KEY_DIGITS 12
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

struct settings {
    int ports[PORTS_MAX]; /* of the nodes of a group; clients are spread over them */
    size_t port_count;
    size_t client_count;
    size_t pipeline;       /* commands a client sends at once */
    size_t id_count;       /* keepalive: leases a client and command */
    size_t watcher_count;  /* over all clients */
    size_t writer_count;
    size_t value_bytes;
    uint64_t key_count;
    uint64_t total;        /* commands; 0 = as many as fit in `seconds` */
    double seconds;
    const char *prefix;
    bool sequential;       /* keys 0, 1, 2 ... instead of random ones */
    pid_t server_pid;      /* 0 = do not account its CPU */
};

void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *must_alloc(size_t count, size_t bytes); /* zeroed */
int64_t now_ns(void);
uint64_t random_next(uint64_t *state);

/* CPU seconds, user and system, of this process and of the server. */
struct cpu {
    double client_s;
    double server_s;
};
struct cpu cpu_now(const struct settings *s);

/* Latencies in buckets of 1/32 of a power of two; the longest one exactly. */
#define HISTOGRAM_STEPS 32
#define HISTOGRAM_BUCKETS (60 * HISTOGRAM_STEPS)
struct histogram {
    uint64_t count;
    int64_t max_ns;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *h, int64_t ns);
double histogram_quantile_us(const struct histogram *h, double quantile);

struct conn {
    int fd;
    char *rest; /* the beginning of a reply that was not yet complete */
    size_t rest_len;
    size_t rest_max;
};
void conn_open(struct conn *c, int port);
bool conn_try(struct conn *c, int port); /* false if nobody listens there */
void conn_close(struct conn *c);
int port_of(const struct settings *s, size_t client);
/* Leaves only the port of the node that says it leads; waits for one for a bounded time. */
void leader_find(struct settings *s);
void conn_send(const struct conn *c, const char *at, size_t len);
/* Waits for bytes; puts the rest and the new bytes into scratch, returns how many there are. */
size_t conn_read(struct conn *c, char *scratch);
/* Keeps what was not consumed, for the next conn_read. */
void conn_keep(struct conn *c, const char *at, size_t len);
/* Sends one command and reads its one reply into scratch; returns the reply's length. */
size_t conn_call(struct conn *c, const char *at, size_t len, char *scratch);

/* Length of the reply that begins here, 0 if it is not complete. Fails on an error reply. */
size_t reply_len(const char *at, size_t len);
/* The integer behind the bulk string `name` in a (flattened) map. */
int64_t reply_integer(const char *at, size_t len, const char *name);

/* A request under construction; the writer knows that it fits. */
struct request {
    char *at;
    size_t len;
};
void request_begin(struct request *r, size_t word_count);
void request_bytes(struct request *r, const void *at, size_t len);
void request_word(struct request *r, const void *at, size_t len);
void request_text(struct request *r, const char *text);
void request_number(struct request *r, uint64_t number);
/* The word <prefix><12 digits>. */
void request_key(struct request *r, const char *prefix, uint64_t key);

/* Random printable bytes: values that a compressor cannot cheat with. */
struct values {
    char *pool;
    uint64_t seed;
};
void values_init(struct values *v, const struct settings *s);
const char *values_next(struct values *v);

void epoll_watch(int epoll_fd, int fd, size_t index);
/* Prints "ready" and returns when standard input ends: how the caller holds a load. */
void hold_until_eof(void);
/* One line key=value, read by utils/bench/run. */
void report(const struct settings *s, uint64_t ops, int64_t elapsed_ns,
            const struct histogram *latency, struct cpu since);

int command_closed_loop(const char *name, const struct settings *s);
int command_watch(const struct settings *s);
int command_hold(const struct settings *s);
int command_stall(const struct settings *s);
int command_connect(const struct settings *s);
int command_writers(const struct settings *s);

#endif
