/* group_load [--option value ...]   a recorded workload against one or several Cordis nodes.
 *
 *   --nodes host:port,...   where (127.0.0.1:7379)      --seconds n      how long (20)
 *   --connections n         workers (16)                --ops n          at most so many, 0: any (0)
 *   --watchers n            KV WATCH streams (4)        --seed n         of all choices (1)
 *   --keys n                plain keys (50)             --value-bytes n  length of values (32)
 *   --ttl-ms n              lifetimes, about (800)      --timeout-ms n   of an answer (5000)
 *   --end-seconds n         how long the end may take (30)
 *   --pause-ms n            between two operations of a connection, at most (0)
 *   --weights kind=n,...    shares: see LOAD_KINDS in load.h
 *   --out FILE              the history, for history_check (history.txt)
 *
 * The group must be empty and nobody else may write. Nodes may go and come back meanwhile. At the
 * end everything is read from every node, and the event log. Exit code 1: the end was not reached. */
#include "load.h"

#include <stdlib.h>

#define CONNECTIONS_MAX 1024

#define LOAD_WORD(symbol, word, weight) word,
static const char *const load_words[] = { LOAD_KINDS(LOAD_WORD) };
#undef LOAD_WORD
#define LOAD_WEIGHT(symbol, word, weight) weight,
static const unsigned load_weights[] = { LOAD_KINDS(LOAD_WEIGHT) };
#undef LOAD_WEIGHT
#define KIND_WORD(symbol, word) word,
static const char *const kind_words[] = { HISTORY_KINDS(KIND_WORD) };
#undef KIND_WORD

static _Noreturn void die(const char *what, const char *which)
{
    fprintf(stderr, "group_load: %s%s%s\n", what, which == NULL ? "" : ": ", which == NULL ? "" : which);
    exit(2);
}

/* --- options ----------------------------------------------------------------------------------- */

static int64_t number_of(const char *text, int64_t min, int64_t max)
{
    int64_t v;
    if (i64_parse(slice_of(text), &v) != OK || v < min || v > max) die("a number is out of range", text);
    return v;
}

static void parse_nodes(struct load_options *o, char *text)
{
    o->node_count = 0;
    char *rest = NULL;
    for (char *at = strtok_r(text, ",", &rest); at != NULL; at = strtok_r(NULL, ",", &rest)) {
        char *colon = strrchr(at, ':');
        if (colon == NULL || o->node_count == LOAD_NODES_MAX) die("not host:port,...", at);
        *colon = 0;
        struct load_node *node = &o->nodes[o->node_count++];
        snprintf(node->host, sizeof node->host, "%s", at);
        node->port = (int)number_of(colon + 1, 1, 65535);
    }
    if (o->node_count == 0) die("no nodes", NULL);
}

static void parse_weights(struct load_options *o, char *text)
{
    char *rest = NULL;
    for (char *at = strtok_r(text, ",", &rest); at != NULL; at = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(at, '=');
        if (equals == NULL) die("not kind=n,...", at);
        *equals = 0;
        size_t kind = 0;
        while (kind < LOAD_KIND_COUNT && strcmp(load_words[kind], at) != 0) kind++;
        if (kind == LOAD_KIND_COUNT) die("no such kind", at);
        o->weights[kind] = (unsigned)number_of(equals + 1, 0, 1000000);
    }
}

static void parse_option(struct load_options *o, const char *name, char *value)
{
    if (strcmp(name, "--nodes") == 0) {
        parse_nodes(o, value);
    } else if (strcmp(name, "--seconds") == 0) {
        o->seconds = (int)number_of(value, 1, 1000000);
    } else if (strcmp(name, "--connections") == 0) {
        o->connections = (size_t)number_of(value, 1, CONNECTIONS_MAX);
    } else if (strcmp(name, "--ops") == 0) {
        o->op_max = (uint64_t)number_of(value, 0, INT64_MAX);
    } else if (strcmp(name, "--watchers") == 0) {
        o->watchers = (size_t)number_of(value, 0, CONNECTIONS_MAX);
    } else if (strcmp(name, "--seed") == 0) {
        o->seed = (uint64_t)number_of(value, 0, INT64_MAX);
    } else if (strcmp(name, "--keys") == 0) {
        o->keys = number_of(value, 1, 99999);
    } else if (strcmp(name, "--value-bytes") == 0) {
        o->value_bytes = (size_t)number_of(value, 0, LOAD_VALUE_BYTES_MAX);
    } else if (strcmp(name, "--ttl-ms") == 0) {
        o->ttl_ms = number_of(value, 200, 1000000);
    } else if (strcmp(name, "--timeout-ms") == 0) {
        o->timeout_ms = (int)number_of(value, 1, 1000000);
    } else if (strcmp(name, "--end-seconds") == 0) {
        o->end_seconds = (int)number_of(value, 0, 100000);
    } else if (strcmp(name, "--pause-ms") == 0) {
        o->pause_ms = (int)number_of(value, 0, 100000);
    } else if (strcmp(name, "--weights") == 0) {
        parse_weights(o, value);
    } else if (strcmp(name, "--out") == 0) {
        o->out = value;
    } else {
        die("no such option", name);
    }
}

static struct load_options parse(int argc, char **argv)
{
    struct load_options o = {
        .nodes = { { "127.0.0.1", 7379 } }, .node_count = 1, .seconds = 20, .connections = 16,
        .watchers = 4, .seed = 1, .keys = 50, .value_bytes = 32, .ttl_ms = 800,
        .timeout_ms = 5000, .end_seconds = 30, .out = "history.txt",
    };
    memcpy(o.weights, load_weights, sizeof o.weights);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) die("an option without its value", argv[i]);
        parse_option(&o, argv[i], argv[i + 1]);
    }
    unsigned sum = 0;
    for (size_t i = 0; i < LOAD_KIND_COUNT; i++) sum += o.weights[i];
    if (sum == 0) die("all weights are 0", NULL);
    return o;
}

/* --- figures ---------------------------------------------------------------------------------------- */

static void sum_outcomes(struct load_run *run, const struct history *h)
{
    for (size_t i = 0; i < h->op_count; i++) run->outcomes[h->ops[i].kind][h->ops[i].outcome]++;
}

static void print_figures(const struct load_run *run, int64_t ran_ns)
{
    unsigned long long ops = atomic_load(&run->ops);
    printf("%llu operations in %.1f s, %.0f a second; longest time without a success %.0f ms\n", ops,
           (double)ran_ns / 1e9, (double)ops * 1e9 / (double)ran_ns,
           (double)atomic_load(&run->silence_ns) / 1e6);
    printf("%-10s %10s %10s %10s\n", "kind", "done", "unknown", "refused");
    for (size_t i = 0; i < HISTORY_KIND_COUNT; i++) {
        const uint64_t *of = run->outcomes[i];
        if (of[0] + of[1] + of[2] == 0) continue;
        printf("%-10s %10llu %10llu %10llu\n", kind_words[i], (unsigned long long)of[HISTORY_DONE],
               (unsigned long long)of[HISTORY_UNKNOWN], (unsigned long long)of[HISTORY_REFUSED]);
    }
    for (size_t i = 0; i < run->error_count; i++) {
        printf("%10llu times %s\n", (unsigned long long)run->errors[i].count, run->errors[i].text);
    }
}

/* --- the run ------------------------------------------------------------------------------------------ */

static void check_empty(struct load_run *run)
{
    struct load_conn c;
    load_conn_init(&c, run, 0);
    if (!load_connect(&c, 0)) die("the first node does not answer", run->options->nodes[0].host);
    redisReply *reply = load_ask(&c, "KV REVISION");
    if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) die("no answer to KV REVISION", NULL);
    if (reply->integer != 1) die("the group is not empty", NULL);
    freeReplyObject(reply);
    load_conn_deinit(&c);
    history_free(c.h);
}

static void wait_for_end(struct load_run *run)
{
    const struct load_options *o = run->options;
    int64_t end_ns = run->begin_ns + (int64_t)o->seconds * 1000000000;
    while (load_now_ns() < end_ns && (o->op_max == 0 || atomic_load(&run->ops) < o->op_max)) {
        load_sleep_ms(20);
    }
    atomic_store(&run->stop, true);
}

static void write_history(struct load_run *run, const struct history *h, FILE *to)
{
    struct errmsg em = { "" };
    sum_outcomes(run, h);
    if (history_write(h, to, &em) != OK) die(em.text, run->options->out);
}

static bool run_all(struct load_run *run, FILE *to)
{
    const struct load_options *o = run->options;
    struct load_conn *workers = mem_zalloc(o->connections * sizeof *workers);
    struct load_watcher *watchers = mem_zalloc((o->watchers + 1) * sizeof *watchers);
    pthread_t *threads = mem_alloc((o->connections + o->watchers) * sizeof *threads);
    run->begin_ns = load_now_ns();
    atomic_store(&run->success_ns, run->begin_ns);
    for (size_t i = 0; i < o->connections + o->watchers; i++) {
        bool watches = i >= o->connections;
        struct load_watcher *watcher = &watchers[watches ? i - o->connections : 0];
        struct load_conn *c = watches ? &watcher->conn : &workers[i];
        load_conn_init(c, run, o->seed * 10007 + i);
        c->seq = i;
        if (watches) watcher->number = i - o->connections;
        int failed = watches ? pthread_create(&threads[i], NULL, load_watcher_run, watcher)
                             : pthread_create(&threads[i], NULL, load_worker, c);
        if (failed != 0) die("no thread", NULL);
    }
    wait_for_end(run);
    for (size_t i = 0; i < o->connections; i++) pthread_join(threads[i], NULL);
    int64_t ran_ns = load_now_ns() - run->begin_ns;
    struct load_conn last;
    load_conn_init(&last, run, o->seed);
    bool whole = true;
    int64_t end_ns = load_now_ns() + (int64_t)o->end_seconds * 1000000000;
    for (size_t i = 0; i < o->node_count; i++) whole = load_read_node(&last, i, end_ns) && whole;
    for (size_t i = 0; i < o->watchers; i++) pthread_join(threads[o->connections + i], NULL);
    write_history(run, last.h, to);
    for (size_t i = 0; i < o->connections; i++) write_history(run, workers[i].h, to);
    for (size_t i = 0; i < o->watchers; i++) write_history(run, watchers[i].conn.h, to);
    print_figures(run, ran_ns);
    for (size_t i = 0; i < o->connections; i++) history_free(workers[i].h);
    for (size_t i = 0; i < o->watchers; i++) history_free(watchers[i].conn.h);
    history_free(last.h);
    mem_free(workers);
    mem_free(watchers);
    mem_free(threads);
    return whole;
}

int main(int argc, char **argv)
{
    struct load_options options = parse(argc, argv);
    struct load_run run = { .options = &options, .next_client = 1, .next_watch = 1 };
    pthread_mutex_init(&run.errors_lock, NULL);
    FILE *to = fopen(options.out, "w");
    if (to == NULL) die("cannot be written", options.out);
    check_empty(&run);
    bool whole = run_all(&run, to);
    if (fclose(to) != 0) die("cannot be written", options.out);
    pthread_mutex_destroy(&run.errors_lock);
    if (!whole) fprintf(stderr, "group_load: not every node could be read at the end\n");
    return whole ? 0 : 1;
}
