/* server/server.c - see server.h. */
#include "server/server_int.h"

#include "base/glob.h"
#include "base/log.h"
#include "disk/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SECOND_MS 1000
#define QUIET_TURNS 200u /* a second with fewer is one without load: heartbeats alone cause 50 */
#define GROUP_WRITES_SPIN_US_MAX 40 /* a follower under writes would poll all the time */
#define FD_RESERVE 160 /* for files, the loop itself, and the connections to other members */

static int64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

static int64_t wall_ms(void)
{
    return clock_us(CLOCK_REALTIME) / 1000;
}

/* --- what commands may ask of the server ------------------------------------------------- */

static void io_dirty(void *ctx, void *link)
{
    (void)ctx;
    conn_dirty(((struct link *)link)->conn);
}

static void io_close(void *ctx, void *link, bool after_flush)
{
    (void)ctx;
    struct conn *conn = ((struct link *)link)->conn;
    if (after_flush) {
        conn_dirty(conn);
        conn_close_after_flush(conn);
    } else {
        conn_close(conn);
    }
}

static void io_resume(void *ctx, void *link)
{
    (void)ctx;
    link_resumed(link);
}

static const char *io_address(void *ctx, void *link, bool peer, char *out, size_t out_bytes)
{
    (void)ctx;
    const struct conn *conn = ((struct link *)link)->conn;
    return peer ? conn_peer_text(conn, out, out_bytes) : conn_local_text(conn, out, out_bytes);
}

static void io_shutdown(void *ctx)
{
    server_stop(ctx);
}

static int64_t io_clock_us(void *ctx)
{
    (void)ctx;
    return clock_us(CLOCK_MONOTONIC);
}

/* --- configuration at run time --------------------------------------------------------------- */

/* What a connection may hold of a request that is not complete. */
static uint32_t input_bytes_max(const struct config *c)
{
    return (uint32_t)MIN(c->proto_max_bulk_bytes + (1 << 20), RESP_BYTES_MAX);
}

static void limits_take(struct server *s)
{
    const struct config *c = s->cfg;
    struct cmd_limits *l = &s->env.limits;
    resp_limits_init(&l->resp);
    l->resp.arg_count_max = (uint32_t)c->proto_max_args;
    l->resp.bulk_bytes_max = (uint32_t)c->proto_max_bulk_bytes;
    l->resp.request_bytes_max = (uint32_t)MIN(c->proto_max_bulk_bytes + 65536, RESP_BYTES_MAX);
    l->resp.inline_bytes_max = (uint32_t)c->proto_inline_bytes;
    l->output_bytes_max = (uint64_t)c->client_output_bytes_max;
    l->reply_bytes_max = (uint64_t)c->reply_bytes_max;
    l->watch_bytes_max = (uint64_t)c->watch_buffer_bytes;
    l->watches_per_client_max = (uint32_t)c->watches_per_client;
    l->subscriptions_per_client_max = (uint32_t)c->subscriptions_per_client;
    l->subscription_names_bytes_max = (uint64_t)c->subscription_names_bytes;
    l->waiting_reads_max = (uint32_t)c->waiting_reads;
    l->waiting_reads_bytes_max = (uint64_t)c->waiting_reads_bytes;
    l->waiting_replies_bytes_max = (uint64_t)c->waiting_replies_bytes;
    l->slowlog_us = c->slowlog_slower_than_us;
    l->request_timeout_ms = c->request_timeout_ms;
    l->latency_ms = c->latency_ms;
    l->slowlog_count_max = (uint32_t)c->slowlog_max_len;
    loop_set_input_bytes_max(s->loop, input_bytes_max(c));
    s->env.password = c->requirepass;
    log_level_set((enum log_level)c->loglevel);
}

static void io_config_get(void *ctx, struct slice pattern, struct buf *pairs)
{
    struct server *s = ctx;
    struct option_set set = config_set(s->cfg);
    for (size_t i = 0; i < set.count; i++) {
        if ((set.rows[i].flags & OPTION_SEED) != 0) continue;
        if (!glob_match(pattern, slice_of(set.rows[i].name))) continue;
        buf_append(pairs, set.rows[i].name, strlen(set.rows[i].name) + 1);
        option_get_value(&set, &set.rows[i], pairs);
        buf_append_u8(pairs, 0);
    }
}

/* Asks for as many descriptors as so many clients need beside everything else. Returns how many
 * clients there can be: fewer if there is not enough. */
static int64_t raise_fd_limit(const struct server *s, int64_t clients)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return clients;
    rlim_t reserve = FD_RESERVE + STORE_FILES_MAX + (rlim_t)s->cfg->peer_connections_max;
    rlim_t want = (rlim_t)clients + reserve;
    if (limit.rlim_cur >= want) return clients;
    limit.rlim_cur = MIN(want, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == want) return clients;
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > reserve ? (int64_t)(limit.rlim_cur - reserve) : 1;
}

static enum err io_config_check(void *ctx, struct slice name, struct slice value, struct errmsg *em)
{
    struct server *s = ctx;
    struct option_set set = config_set(s->cfg);
    const struct option *o = option_find(&set, name);
    if (o == NULL || (o->flags & OPTION_SEED) != 0) return ERR_NOT_FOUND;
    if ((o->flags & OPTION_RUNTIME) == 0) {
        errmsg_set(em, "can't set immutable config");
        return ERR_CONFIG;
    }
    TRY(option_check_value(o, value, em));
    int64_t clients = 0;
    if (strcmp(o->name, "maxclients") != 0 || i64_parse(value, &clients) != OK) return OK;
    int64_t possible = raise_fd_limit(s, clients);
    if (possible >= clients) return OK;
    errmsg_set(em, "The operating system is not able to handle the specified number of clients, try with %lld",
               (long long)possible);
    return ERR_CONFIG;
}

static void authenticate(void *ctx, struct client *c)
{
    (void)ctx;
    c->authenticated = true;
}

static void io_config_set(void *ctx, struct slice name, struct slice value)
{
    struct server *s = ctx;
    struct errmsg em;
    struct option_set set = config_set(s->cfg);
    enum err e = option_set_value(&set, option_find(&set, name), value, &em);
    ASSERT(e == OK); /* it was checked */
    limits_take(s);
    if (s->env.password[0] == '\0') client_each(&s->env, authenticate, NULL); /* nothing is asked any more */
}

static enum err file_text(const char *path, struct buf *out, struct errmsg *em)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        errmsg_set(em, "cannot open '%s': %s", path, strerror(errno));
        return ERR_IO;
    }
    size_t got;
    do {
        got = fread(buf_reserve(out, 4096), 1, 4096, f);
        out->len += got;
    } while (got > 0);
    bool failed = ferror(f) != 0;
    fclose(f);
    return failed ? ERR_IO : OK;
}

/* The directory that the file is in. */
static bool dir_sync(const char *path)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) snprintf(dir, sizeof dir, ".");
    else slash[slash == dir] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return done;
}

/* Beside the old file, synced, then renamed over it: a crash leaves one of the two. */
static enum err file_replace(const char *path, struct slice text, struct errmsg *em)
{
    char fresh[4096];
    snprintf(fresh, sizeof fresh, "%s.tmp", path);
    FILE *f = fopen(fresh, "we");
    bool done = f != NULL && fwrite(text.at, 1, text.len, f) == text.len && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (f != NULL) done = fclose(f) == 0 && done;
    if (done && rename(fresh, path) == 0 && dir_sync(path)) return OK;
    errmsg_set(em, "cannot write '%s': %s", path, strerror(errno));
    return ERR_IO;
}

static enum err io_config_rewrite(void *ctx, struct errmsg *em)
{
    struct server *s = ctx;
    if (s->config_file == NULL) {
        errmsg_set(em, "The server is running without a config file");
        return ERR_CONFIG;
    }
    struct buf old CLEANUP(buf_deinit) = { 0 };
    struct buf fresh CLEANUP(buf_deinit) = { 0 };
    TRY(file_text(s->config_file, &old, em));
    struct option_set set = config_set(s->cfg);
    options_rewrite(&set, buf_slice(&old), &fresh);
    return file_replace(s->config_file, buf_slice(&fresh), em);
}

static void log_ready(const struct server *s)
{
    log_notice("ready port=%u version=%s pid=%ld", s->port, SERVER_VERSION, (long)getpid());
}

/* --- the turn ----------------------------------------------------------------------------------- */

static enum err open_node(struct server *s, struct errmsg *em);

/* The node is opened as soon as it is known which group it belongs to. */
static void wait_for_group(struct server *s, int64_t now_ms)
{
    enum err e = group_turn(s->group, now_ms, &s->failed_em);
    if (e == ERR_AGAIN) return;
    if (e == OK) e = open_node(s, &s->failed_em);
    if (e == OK) {
        log_ready(s);
        return;
    }
    s->failed = e;
    loop_stop(s->loop);
}

static void stop_if_retired(struct server *s, int64_t now_ms);

static int64_t spin_us(const struct server *s)
{
    int64_t us = s->cfg->loop_spin_us;
    bool group_writes = !node_is_sole_voter(s->node) && node_is_logging(s->node);
    return group_writes ? MIN(us, GROUP_WRITES_SPIN_US_MAX) : us;
}

static void turn_end(void *ctx)
{
    struct server *s = ctx;
    if (s->closing || s->failed != OK) return;
    int64_t now_us = loop_now_us(s->loop);
    member_turn(s, now_us / 1000);
    if (s->node == NULL) {
        wait_for_group(s, now_us / 1000);
    } else {
        node_turn(s->node, now_us, wall_ms());
        peers_flush(s->peers); /* before clients: others wait for these */
        cmd_turn(&s->env, now_us);
        loop_set_spin_us(s->loop, spin_us(s));
        stop_if_retired(s, now_us / 1000);
    }
    s->turns++;
    if (s->env.now_ms - s->checked_ms >= SECOND_MS) {
        if (s->turns < QUIET_TURNS) mem_thread_rest();
        s->turns = 0;
        s->checked_ms = s->env.now_ms;
        links_check(s, s->env.now_ms);
    }
}

/* A reply costs a system call, and a turn may have hundreds. What the log has finished meanwhile lets
 * other members go on: it does not wait for the rest of the replies. */
static bool between_writes(void *ctx)
{
    struct server *s = ctx;
    if (s->closing || s->failed != OK || s->node == NULL || !node_log_poll(s->node)) return false;
    peers_flush(s->peers);
    cmd_applied_late(&s->env);
    return true;
}

static int64_t sleep_us(void *ctx)
{
    struct server *s = ctx;
    if (s->closing || s->failed != OK) return 0;
    int64_t now_us = clock_us(CLOCK_MONOTONIC);
    int64_t node_us = s->node == NULL ? SECOND_MS * 1000 : node_sleep_us(s->node, now_us);
    int64_t timer_ms = s->node == NULL ? group_next_ms(s->group) : cmd_next_timer_ms(&s->env);
    timer_ms = MIN(timer_ms, member_next_ms(s));
    if (timer_ms == INT64_MAX) return node_us;
    int64_t timer_us = MAX(timer_ms * 1000 - now_us, 0);
    return node_us < 0 ? timer_us : MIN(node_us, timer_us);
}

static bool may_spin(void *ctx)
{
    struct server *s = ctx;
    return s->node != NULL && node_may_spin(s->node);
}

static bool work_ready(void *ctx)
{
    struct server *s = ctx;
    return s->awake_anyway || (s->node != NULL && node_work_ready(s->node));
}

static void about_to_sleep(void *ctx)
{
    struct server *s = ctx;
    if (s->node == NULL) return;
    s->awake_anyway = !node_about_to_sleep(s->node);
}

static void woke(void *ctx)
{
    struct server *s = ctx;
    s->awake_anyway = false;
    if (s->node != NULL) node_woke(s->node);
    s->env.now_us = loop_now_us(s->loop);
    s->env.now_ms = s->env.now_us / 1000;
}

static void node_fd_ready(void *ctx)
{
    struct server *s = ctx;
    /* The turn's end looks for the work. Here what made it readable is read: it may have been written
     * after the sleep that it was for, and who spins since then does not sleep. */
    if (s->node != NULL) node_woke(s->node);
}

/* They change when a snapshot puts another store in the place of the present one, which is closed
 * behind the hook below. */
static void node_fds_watch(struct server *s)
{
    int fds[4] = { -1, -1, -1, -1 };
    size_t count = node_fds(s->node, fds);
    if (LIKELY(count == s->node_watch_count && memcmp(fds, s->node_watch_fds, sizeof fds) == 0)) return;
    for (size_t i = 0; i < s->node_watch_count; i++) loop_unwatch(s->node_watches[i]);
    s->node_watch_count = count;
    memcpy(s->node_watch_fds, fds, sizeof fds);
    for (size_t i = 0; i < count; i++) {
        s->node_watches[i] = loop_watch_fd(s->loop, fds[i], node_fd_ready, s);
    }
}

static void on_state_replaced(void *ctx, uint64_t old_rev, uint64_t new_rev)
{
    struct server *s = CONTAINER_OF(ctx, struct server, env);
    node_fds_watch(s);
    if (s->state_replaced != NULL) s->state_replaced(ctx, old_rev, new_rev);
}

/* --- opening ---------------------------------------------------------------------------------------- */

static enum err listen_all(struct server *s, struct errmsg *em)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", s->cfg->bind);
    char *rest = NULL;
    s->port = (uint16_t)s->cfg->port;
    for (char *addr = strtok_r(text, " ", &rest); addr != NULL; addr = strtok_r(NULL, " ", &rest)) {
        if (s->listener_count == SERVER_LISTENERS_MAX) {
            errmsg_set(em, "too many addresses in 'bind'");
            return ERR_CONFIG;
        }
        struct listener **l = &s->listeners[s->listener_count];
        TRY(net_listen(s->loop, addr, s->port, (int)s->cfg->tcp_backlog, link_accept, s, l, em));
        if (s->port == 0) s->port = listener_port(*l);
        s->listener_count++;
    }
    if (s->cfg->unixsocket[0] == '\0') return OK;
    if (s->listener_count == SERVER_LISTENERS_MAX) return ERR_CONFIG;
    char octal[16];
    snprintf(octal, sizeof octal, "%lld", (long long)s->cfg->unixsocketperm);
    char *end = NULL;
    uint32_t mode = (uint32_t)strtoul(octal, &end, 8);
    if (*end != '\0') {
        errmsg_set(em, "argument of 'unixsocketperm' must be octal digits, like 700");
        return ERR_CONFIG;
    }
    TRY(net_listen_unix(s->loop, s->cfg->unixsocket, mode, (int)s->cfg->tcp_backlog, link_accept, s,
                        &s->listeners[s->listener_count], em));
    s->listener_count++;
    return OK;
}

static void clients_limit(struct server *s)
{
    int64_t possible = raise_fd_limit(s, s->cfg->maxclients);
    if (possible >= s->cfg->maxclients) return;
    log_warning("fewer descriptors than 'maxclients' needs wanted=%lld maxclients=%lld",
                (long long)s->cfg->maxclients, (long long)possible);
    s->cfg->maxclients = possible;
}

/* The settings that the configuration gives, checked as an operation would check them. */
static enum err seeds_take(struct server *s, struct slice *pairs, size_t *count, struct errmsg *em)
{
    struct option_set set = config_set(s->cfg);
    struct settings probe;
    settings_init(&probe);
    *count = 0;
    for (size_t i = 0; i < set.count; i++) {
        const struct option *o = &set.rows[i];
        if ((o->flags & OPTION_SEED) == 0 || option_is_preset(&set, o)) continue;
        const char *value = *(char **)(void *)((char *)s->cfg + o->offset);
        TRY(settings_set(&probe, slice_of(o->name), slice_of(value), em));
        pairs[(*count)++] = slice_of(o->name);
        pairs[(*count)++] = slice_of(value);
    }
    return OK;
}

static enum err random_take(uint64_t random[4], struct errmsg *em)
{
    if (getrandom(random, 4 * sizeof *random, 0) == (ssize_t)(4 * sizeof *random)) return OK;
    errmsg_set(em, "no random numbers from the kernel: %s", strerror(errno));
    return ERR_IO;
}

static enum err open_node(struct server *s, struct errmsg *em)
{
    const struct config *c = s->cfg;
    struct node_config cfg = {
        .dir = c->dir,
        .name = c->name,
        .peer_address = s->peer_address,
        .client_address = s->client_address,
        .heartbeat_ms = c->heartbeat_ms,
        .election_timeout_ms = c->election_ms,
        .request_timeout_ms = c->request_timeout_ms,
        .version = SERVER_VERSION,
        .snapshot_count = (uint64_t)c->snapshot_count,
        .checkpoint_bytes = (uint64_t)c->checkpoint_bytes,
        .checkpoint_ms = c->checkpoint_ms,
        .wal_backend = (enum wal_backend)c->wal_backend,
        .wal_segment_bytes = (uint64_t)c->wal_segment_bytes,
        .wal_keep_bytes = (uint64_t)c->wal_keep_bytes,
        .store_buffer_bytes = (uint64_t)c->store_buffer_bytes,
        .store_backlog_bytes_max = (uint64_t)c->store_backlog_bytes,
        .uncommitted_bytes_max = (uint64_t)c->uncommitted_bytes,
        .disk_reserve_bytes = (uint64_t)c->disk_reserve_bytes,
        .worker_count = (uint32_t)c->io_threads,
        .mono_us = mono_us,
    };
    TRY(random_take(cfg.random, em));
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 40; i++) {
        s->env.info.run_id[i] = digits[u64_mix(cfg.random[3] + i) & 15];
    }
    struct slice seeds[2 * CONFIG_SEEDS_MAX];
    TRY(seeds_take(s, seeds, &cfg.seed_setting_count, em));
    cfg.seed_settings = seeds;
    struct node_hooks hooks;
    cmd_env_hooks(&s->env, &hooks);
    member_hooks(&hooks);
    s->state_replaced = hooks.state_replaced;
    hooks.state_replaced = on_state_replaced;
    group_take(s->group, &cfg.group);
    int64_t begin_us = clock_us(CLOCK_MONOTONIC);
    TRY(node_open(&cfg, &hooks, begin_us / 1000, wall_ms(), &s->node, em));
    s->env.node = s->node;
    log_notice("data dir=%s revision=%llu keys=%llu took_ms=%lld", c->dir,
               (unsigned long long)mvcc_rev(state_mvcc(node_state(s->node))),
               (unsigned long long)mvcc_live_count(state_mvcc(node_state(s->node))),
               (long long)((clock_us(CLOCK_MONOTONIC) - begin_us) / 1000));
    node_fds_watch(s);
    return member_start(s, em);
}

static enum err open_loop(struct server *s, struct errmsg *em)
{
    struct loop_cfg cfg = {
        .hooks = {
            .ctx = s, .turn_end = turn_end, .between_writes = between_writes,
            .sleep_us = sleep_us, .may_spin = may_spin,
            .work_ready = work_ready, .about_to_sleep = about_to_sleep, .woke = woke,
        },
        .spin_us = s->cfg->loop_spin_us,
        .input_bytes_max = input_bytes_max(s->cfg),
    };
    return loop_new(&cfg, &s->loop, em);
}

static void env_fill(struct server *s)
{
    s->env.io = (struct cmd_io){
        .ctx = s, .dirty = io_dirty, .close = io_close, .resume = io_resume,
        .address = io_address,
        .pool = loop_pool(s->loop), .shutdown = io_shutdown, .clock_us = io_clock_us,
        .config_get = io_config_get, .config_check = io_config_check, .config_set = io_config_set,
        .config_rewrite = io_config_rewrite, .peers = member_stats,
    };
    s->env.info = (struct cmd_info){
        .version = SERVER_VERSION, .redis_version = SERVER_REDIS_VERSION, .port = s->port,
        .start_wall_ms = wall_ms(), .executable = s->executable,
        .config_file = s->config_file == NULL ? "" : s->config_file, .node_name = s->cfg->name,
        .client_address = s->client_address,
    };
    limits_take(s);
}

static enum err open_all(struct server *s, struct errmsg *em)
{
    if (s->cfg->election_ms < 5 * s->cfg->heartbeat_ms) {
        errmsg_set(em, "'election-timeout' must be at least 5 times 'heartbeat-interval'");
        return ERR_CONFIG;
    }
    clients_limit(s);
    TRY(open_loop(s, em));
    env_fill(s);
    cmd_env_init(&s->env);
    s->env_ready = true;
    /* Listening first says at once that a port is taken; nobody is accepted before the loop runs. */
    TRY(listen_all(s, em));
    s->env.info.port = s->port;
    uint64_t random[4];
    TRY(random_take(random, em));
    TRY(member_open(s, random, em));
    enum err e = group_turn(s->group, clock_us(CLOCK_MONOTONIC) / 1000, em);
    return e == ERR_AGAIN ? OK : e == OK ? open_node(s, em) : e;
}

enum err server_open(struct config *cfg, const char *config_file, const char *executable,
                     struct server **out, struct errmsg *em)
{
    struct server *s = mem_zalloc(sizeof *s);
    s->cfg = cfg;
    s->config_file = config_file;
    s->executable = mem_copy(executable, strlen(executable) + 1);
    resp_argv_init(&s->argv);
    enum err e = open_all(s, em);
    if (e != OK) {
        server_close(s);
        return e;
    }
    *out = s;
    return OK;
}

enum err server_run(struct server *s, struct errmsg *em)
{
    if (s->node != NULL) {
        log_ready(s);
    } else {
        log_notice("waiting port=%u peer_port=%u pid=%ld", s->port, peers_port(s->peers), (long)getpid());
    }
    loop_run(s->loop);
    if (s->failed != OK) errmsg_set(em, "%s", s->failed_em.text);
    return s->failed;
}

/* A leader hands over first, so that nobody has to find out that it is gone. A second call does not
 * wait for that. */
void server_stop(struct server *s)
{
    if (s->node == NULL || s->stop_due_ms != 0) {
        loop_stop(s->loop);
        return;
    }
    s->stop_due_ms = loop_now_ms(s->loop) + s->cfg->election_ms;
}

static void stop_if_retired(struct server *s, int64_t now_ms)
{
    if (LIKELY(s->stop_due_ms == 0)) return;
    if (now_ms >= s->stop_due_ms || !node_retire(s->node)) loop_stop(s->loop);
}

void server_reload(struct server *s)
{
    member_reload(s);
}

static void close_conn(void *ctx, struct conn *conn)
{
    (void)ctx;
    conn_close(conn);
}

/* What was accepted is finished and answered first; then the connections go, then the rest. */
void server_close(struct server *s)
{
    s->closing = true;
    for (size_t i = 0; i < s->listener_count; i++) listener_close(s->listeners[i]);
    for (size_t i = 0; i < s->node_watch_count; i++) loop_unwatch(s->node_watches[i]);
    if (s->node != NULL) node_close(s->node);
    s->node = NULL;
    s->env.node = NULL;
    if (s->peers_started) peers_flush(s->peers); /* the last words of a leader */
    member_close(s);
    if (s->loop != NULL) {
        loop_turn(s->loop, false); /* sends the last answers */
        conn_each(s->loop, close_conn, NULL);
        loop_turn(s->loop, false);
    }
    if (s->env_ready) cmd_env_deinit(&s->env);
    loop_free(s->loop);
    resp_argv_deinit(&s->argv);
    mem_free(s->executable);
    mem_free(s);
}

struct loop *server_loop(struct server *s) { return s->loop; }
uint16_t server_port(const struct server *s) { return s->port; }
