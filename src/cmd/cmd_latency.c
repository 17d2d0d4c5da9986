/* cmd/cmd_latency.c - LATENCY: what took long, and how long commands take.
 *
 * Events are kept as Redis does: the worst of each second, the newest LATENCY_SAMPLES_MAX seconds.
 * Histograms have the commands that are timed: all that are not CMD_FAST. */
#include "cmd/cmd_int.h"

#include <stdio.h>

#define LATENCY_SAMPLES_MAX 160
#define LATENCY_BUCKETS 33 /* up to 1, 2, 4 ... microseconds; the last one takes the rest */
#define GRAPH_ROWS 4

enum latency_event { EVENT_COMMAND, EVENT_LOOP, EVENT_SYNC, EVENT_KINDS };

static const char *const event_names[EVENT_KINDS] = { "command", "event-loop", "wal-sync" };

struct sample {
    int64_t at_s, took_ms;
};

struct event_log {
    struct sample ring[LATENCY_SAMPLES_MAX];
    size_t next, count;
    int64_t max_ms; /* since it was reset */
};

struct histogram {
    uint64_t calls;
    uint64_t buckets[LATENCY_BUCKETS];
};

struct latency {
    struct event_log events[EVENT_KINDS];
    struct histogram **rows; /* by row of the table; NULL: never timed */
    size_t row_count;
    uint64_t sync_count; /* of the log, when it was looked at last */
};

struct latency *latency_new(size_t row_count)
{
    struct latency *l = mem_zalloc(sizeof *l);
    l->rows = mem_zalloc(row_count * sizeof(struct histogram *));
    l->row_count = row_count;
    return l;
}

void latency_free(struct latency *l)
{
    for (size_t i = 0; i < l->row_count; i++) mem_free(l->rows[i]);
    mem_free(l->rows);
    mem_free(l);
}

/* --- noting ------------------------------------------------------------------------------- */

/* age 0: the newest. */
static struct sample *sample_at(struct event_log *log, size_t age)
{
    ASSERT(age < log->count);
    return &log->ring[(log->next + LATENCY_SAMPLES_MAX - 1 - age) % LATENCY_SAMPLES_MAX];
}

static void event_note(struct cmd_env *env, enum latency_event event, int64_t took_us)
{
    struct event_log *log = &env->latency->events[event];
    int64_t took_ms = took_us / 1000;
    if (env->limits.latency_ms == 0 || took_ms < env->limits.latency_ms) return;
    int64_t now_s = node_wall_ms(env->node) / 1000;
    log->max_ms = MAX(log->max_ms, took_ms);
    if (log->count > 0 && sample_at(log, 0)->at_s == now_s) {
        sample_at(log, 0)->took_ms = MAX(sample_at(log, 0)->took_ms, took_ms);
        return;
    }
    log->ring[log->next] = (struct sample){ now_s, took_ms };
    log->next = (log->next + 1) % LATENCY_SAMPLES_MAX;
    log->count = MIN(log->count + 1, LATENCY_SAMPLES_MAX);
}

void latency_command(struct cmd_env *env, const struct cmd_def *def, int64_t took_us)
{
    struct histogram **row = &env->latency->rows[def - cmd_table_base(env->table)];
    if (*row == NULL) *row = mem_zalloc(sizeof **row);
    size_t bucket = 0;
    while (bucket + 1 < LATENCY_BUCKETS && took_us > (int64_t)1 << bucket) bucket++;
    (*row)->calls++;
    (*row)->buckets[bucket]++;
    event_note(env, EVENT_COMMAND, took_us);
}

void latency_turn(struct cmd_env *env)
{
    struct node_stats st;
    node_stats_get(env->node, &st);
    event_note(env, EVENT_LOOP, env->io.clock_us(env->io.ctx) - env->now_us);
    if (st.wal.sync_count == env->latency->sync_count) return;
    env->latency->sync_count = st.wal.sync_count;
    event_note(env, EVENT_SYNC, st.wal.sync_us_last);
}

/* --- looking -------------------------------------------------------------------------------- */

/* EVENT_KINDS: no such event. */
static enum latency_event event_find(struct slice name)
{
    size_t at = 0;
    while (at < EVENT_KINDS && !arg_is(name, event_names[at])) at++;
    return (enum latency_event)at;
}

static enum err cmd_latency_latest(struct cmd_ctx *cx)
{
    struct latency *l = cx->env->latency;
    size_t count = 0;
    for (size_t i = 0; i < EVENT_KINDS; i++) count += l->events[i].count > 0;
    reply_array(cx->reply, count);
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        struct event_log *log = &l->events[i];
        if (log->count == 0) continue;
        reply_array(cx->reply, 4);
        reply_bulk_cstr(cx->reply, event_names[i]);
        reply_int(cx->reply, sample_at(log, 0)->at_s);
        reply_int(cx->reply, sample_at(log, 0)->took_ms);
        reply_int(cx->reply, log->max_ms);
    }
    return OK;
}

static enum err cmd_latency_history(struct cmd_ctx *cx)
{
    enum latency_event event = event_find(cx->argv[2]);
    if (event == EVENT_KINDS) {
        reply_array(cx->reply, 0);
        return OK;
    }
    struct event_log *log = &cx->env->latency->events[event];
    reply_array(cx->reply, log->count);
    for (size_t age = log->count; age > 0; age--) {
        reply_array(cx->reply, 2);
        reply_int(cx->reply, sample_at(log, age - 1)->at_s);
        reply_int(cx->reply, sample_at(log, age - 1)->took_ms);
    }
    return OK;
}

static enum err cmd_latency_reset(struct cmd_ctx *cx)
{
    struct latency *l = cx->env->latency;
    int64_t count = 0;
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        bool named = cx->argc == 2;
        for (size_t a = 2; a < cx->argc; a++) named = named || event_find(cx->argv[a]) == i;
        if (!named || l->events[i].count == 0) continue;
        l->events[i] = (struct event_log){ .count = 0 };
        count++;
    }
    reply_int(cx->reply, count);
    return OK;
}

/* One column a sample, GRAPH_ROWS high, oldest first; behind it how old the ends are. */
static enum err cmd_latency_graph(struct cmd_ctx *cx)
{
    enum latency_event event = event_find(cx->argv[2]);
    struct event_log *log = event == EVENT_KINDS ? NULL : &cx->env->latency->events[event];
    if (log == NULL || log->count == 0) {
        reply_error(cx->reply, "ERR", "No samples available for event '%.*s'", (int)MIN(cx->argv[2].len, 128),
                    (const char *)cx->argv[2].at);
        return OK;
    }
    int64_t low_ms = INT64_MAX;
    int64_t high_ms = 0;
    for (size_t age = 0; age < log->count; age++) {
        low_ms = MIN(low_ms, sample_at(log, age)->took_ms);
        high_ms = MAX(high_ms, sample_at(log, age)->took_ms);
    }
    struct buf b CLEANUP(buf_deinit) = { 0 };
    buf_printf(&b, "%s - high %lld ms, low %lld ms (all time high %lld ms)\n", event_names[event],
               (long long)high_ms, (long long)low_ms, (long long)log->max_ms);
    for (int row = GRAPH_ROWS; row > 0; row--) {
        for (size_t age = log->count; age > 0; age--) {
            int64_t height = sample_at(log, age - 1)->took_ms * GRAPH_ROWS / MAX(high_ms, 1);
            buf_append_u8(&b, MAX(height, 1) >= row ? '#' : ' ');
        }
        buf_append_u8(&b, '\n');
    }
    int64_t now_s = node_wall_ms(cx->env->node) / 1000;
    buf_printf(&b, "%lld s ago ... %lld s ago\n", (long long)(now_s - sample_at(log, log->count - 1)->at_s),
               (long long)(now_s - sample_at(log, 0)->at_s));
    reply_verbatim(cx->reply, buf_slice(&b));
    return OK;
}

static enum err cmd_latency_doctor(struct cmd_ctx *cx)
{
    struct node_stats st;
    node_stats_get(cx->env->node, &st);
    struct buf b CLEANUP(buf_deinit) = { 0 };
    buf_printf(&b, "Longest write and sync of the log: %lld us, the last: %lld us. Slow commands: SLOWLOG GET.\n",
               (long long)st.wal.sync_us_max, (long long)st.wal.sync_us_last);
    if (cx->env->limits.latency_ms == 0) {
        buf_printf(&b, "No events are kept: latency-monitor-threshold is 0.\n");
    }
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        struct event_log *log = &cx->env->latency->events[i];
        if (log->count == 0) continue;
        buf_printf(&b, "%s: %zu seconds with %lld ms or more, the worst %lld ms.\n", event_names[i], log->count,
                   (long long)cx->env->limits.latency_ms, (long long)log->max_ms);
    }
    reply_verbatim(cx->reply, buf_slice(&b));
    return OK;
}

/* --- HISTOGRAM ------------------------------------------------------------------------------ */

static bool histogram_wanted(const struct cmd_ctx *cx, const struct cmd_def *def)
{
    if (cx->argc == 2) return true;
    for (size_t i = 2; i < cx->argc; i++) {
        size_t len = cx->argv[i].len;
        if (arg_is(cx->argv[i], def->name)) return true;
        /* A container stands for its subcommands. */
        if (def->name[MIN(len, strlen(def->name))] != '|') continue;
        if (strncasecmp(def->name, (const char *)cx->argv[i].at, len) == 0) return true;
    }
    return false;
}

/* As Redis: how many took at most so long, for each bucket that has any. */
static void reply_histogram(struct reply *r, const struct histogram *h)
{
    size_t used = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) used += h->buckets[i] > 0;
    reply_map(r, 2);
    reply_bulk_cstr(r, "calls");
    reply_int(r, (int64_t)h->calls);
    reply_bulk_cstr(r, "histogram_usec");
    reply_map(r, used);
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        sum += h->buckets[i];
        if (h->buckets[i] == 0) continue;
        reply_int(r, (int64_t)1 << i);
        reply_int(r, (int64_t)sum);
    }
}

static enum err cmd_latency_histogram(struct cmd_ctx *cx)
{
    const struct latency *l = cx->env->latency;
    const struct cmd_table *t = cx->env->table;
    size_t count = 0;
    for (size_t i = 0; i < l->row_count; i++) {
        count += l->rows[i] != NULL && histogram_wanted(cx, cmd_table_at(t, i));
    }
    reply_map(cx->reply, count);
    for (size_t i = 0; i < l->row_count; i++) {
        if (l->rows[i] == NULL || !histogram_wanted(cx, cmd_table_at(t, i))) continue;
        reply_bulk_cstr(cx->reply, cmd_table_at(t, i)->name);
        reply_histogram(cx->reply, l->rows[i]);
    }
    return OK;
}

static enum err cmd_latency_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "latency");
    return OK;
}

#define ROW .group = GROUP_SERVER, .flags = CMD_CONN | CMD_FAST | CMD_ADMIN

const struct cmd_def cmd_latency_defs[] = {
    { .name = "latency", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_SERVER, .since = "2.8.13",
      .args = "", .summary = "A container for commands about latency." },
    { .name = "latency|latest", .run = cmd_latency_latest, .arity = 2, ROW, .since = "2.8.13", .args = "",
      .summary = "Returns the newest sample of each event: command, event-loop, wal-sync." },
    { .name = "latency|history", .run = cmd_latency_history, .arity = 3, ROW, .since = "2.8.13", .args = "event",
      .summary = "Returns the samples of an event, the worst of each second." },
    { .name = "latency|reset", .run = cmd_latency_reset, .arity = -2, ROW, .since = "2.8.13",
      .args = "[event [event ...]]", .summary = "Forgets the samples of events, or of all." },
    { .name = "latency|graph", .run = cmd_latency_graph, .arity = 3, ROW, .since = "2.8.13", .args = "event",
      .summary = "Draws the samples of an event." },
    { .name = "latency|doctor", .run = cmd_latency_doctor, .arity = 2, ROW, .since = "2.8.13", .args = "",
      .summary = "Says how long the disk takes, and what took long." },
    { .name = "latency|histogram", .run = cmd_latency_histogram, .arity = -2, ROW, .since = "7.0.0",
      .args = "[command [command ...]]", .summary = "Returns how long commands took; fast ones are not timed." },
    { .name = "latency|help", .run = cmd_latency_help, .arity = 2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_SERVER, .since = "2.8.13", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
