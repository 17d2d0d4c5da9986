/* What one quiet client notices, and connections that only exist. */
#include "client.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROBE_INTERVAL_NS NS_PER_MS
#define ACCEPTS_AT_ONCE 500 /* below the listen queue of every server we measure */

static const char ping[] = "*1\r\n$4\r\nPING\r\n";

static bool stdin_ended(void)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    char byte;
    return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static void sleep_until(int64_t when_ns)
{
    struct timespec t = { .tv_sec = when_ns / NS_PER_S, .tv_nsec = when_ns % NS_PER_S };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* The probe must not wait for a processor itself. Without the right to ask for that it measures
 * the scheduler too, and says so. */
static void priority_raise(void)
{
    struct sched_param param = { .sched_priority = 1 };
    if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) {
        fputs("load: no real-time priority, stalls include scheduling\n", stderr);
    }
}

int command_stall(const struct settings *s)
{
    static struct histogram latency;
    char *scratch = must_alloc(1, SCRATCH_BYTES);
    char bytes[256];
    struct request get = { .at = bytes };
    struct conn c;
    conn_open(&c, port_of(s, 0));
    request_begin(&get, 2);
    request_text(&get, "GET");
    request_key(&get, s->prefix, 1);
    conn_call(&c, get.at, get.len, scratch);
    priority_raise();
    puts("ready");
    fflush(stdout);
    struct cpu since = cpu_now(s);
    int64_t begin_ns = now_ns(), due_ns = begin_ns;
    for (uint64_t i = 0; !stdin_ended(); i++) {
        int64_t sent_ns = now_ns();
        if (i % 2 == 0) conn_call(&c, ping, sizeof ping - 1, scratch);
        else conn_call(&c, get.at, get.len, scratch);
        histogram_add(&latency, now_ns() - sent_ns);
        due_ns += PROBE_INTERVAL_NS;
        sleep_until(due_ns);
    }
    report(s, latency.count, now_ns() - begin_ns, &latency, since);
    return 0;
}

int command_connect(const struct settings *s)
{
    char *scratch = must_alloc(1, SCRATCH_BYTES);
    struct conn *conns = must_alloc(s->client_count, sizeof *conns);
    for (size_t first = 0; first < s->client_count; first += ACCEPTS_AT_ONCE) {
        size_t end = first + ACCEPTS_AT_ONCE;
        if (end > s->client_count) end = s->client_count;
        for (size_t i = first; i < end; i++) conn_open(&conns[i], port_of(s, i));
        for (size_t i = first; i < end; i++) conn_call(&conns[i], ping, sizeof ping - 1, scratch);
    }
    hold_until_eof();
    return 0;
}
