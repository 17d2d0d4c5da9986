/* cmd/cmd_server.c - commands about the server: INFO, TIME, ROLE, SLOWLOG, SHUTDOWN and the like. */
#include "cmd/cmd_int.h"

#include "base/glob.h"
#include "cmd/cmd_peers.h"
#include "node/node_snapshot.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOW_ARGS_MAX 32
#define SLOW_ARG_BYTES_MAX 128

/* --- INFO ------------------------------------------------------------------------------------ */

static uint64_t resident_bytes(void)
{
    uint64_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return 0;
    unsigned long long total = 0;
    unsigned long long resident = 0;
    if (fscanf(f, "%llu %llu", &total, &resident) == 2) pages = resident;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void human(uint64_t bytes, char out[32])
{
    static const char units[] = "BKMGT";
    double v = (double)bytes;
    size_t unit = 0;
    while (v >= 1024 && unit + 1 < sizeof units - 1) {
        v /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f%c" : "%.2f%c", v, units[unit]);
}

static void info_server(struct cmd_env *env, struct buf *b)
{
    const struct cmd_info *i = &env->info;
    int64_t up_s = MAX((node_wall_ms(env->node) - i->start_wall_ms) / 1000, 0);
    buf_printf(b, "redis_version:%s\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_mode:standalone\r\n"
               "cordis_version:%s\r\nos:Linux\r\narch_bits:64\r\nmultiplexing_api:epoll\r\nprocess_id:%ld\r\n"
               "run_id:%s\r\ntcp_port:%u\r\nserver_time_usec:%lld\r\nuptime_in_seconds:%lld\r\n"
               "uptime_in_days:%lld\r\nhz:10\r\nexecutable:%s\r\nconfig_file:%s\r\ncluster_id:%llu\r\nmember_id:%llu\r\n"
               "member_name:%s\r\nraft_term:%llu\r\nraft_index:%llu\r\n",
               i->redis_version, i->version, (long)getpid(), i->run_id, i->port,
               (long long)node_wall_ms(env->node) * 1000, (long long)up_s, (long long)(up_s / 86400), i->executable,
               i->config_file, (unsigned long long)node_cluster_id(env->node),
               (unsigned long long)node_member_id(env->node), i->node_name,
               (unsigned long long)raft_term(node_raft(env->node)),
               (unsigned long long)raft_commit_index(node_raft(env->node)));
}

struct client_counts {
    size_t blocked, pubsub, watching, paused;
};

static void count_client(void *ctx, struct client *c)
{
    struct client_counts *n = ctx;
    n->blocked += c->blocked && c->block->can_unblock;
    n->pubsub += c->sub_count > 0;
    n->watching += c->watches != NULL;
    n->paused += c->paused;
}

static void info_clients(struct cmd_env *env, struct buf *b)
{
    struct client_counts n = { .blocked = 0 };
    client_each(env, count_client, &n);
    buf_printf(b, "connected_clients:%zu\r\nblocked_clients:%zu\r\npubsub_clients:%zu\r\n"
               "subscription_name_bytes:%llu\r\nwatching_clients:%zu\r\ntracking_clients:0\r\npaused_clients:%zu\r\n"
               "monitors:%zu\r\n", client_count(env), n.blocked, n.pubsub,
               (unsigned long long)cmd_hub_name_bytes(env->hub), n.watching, n.paused, env->monitor_count);
}

static void info_memory(struct cmd_env *env, struct buf *b)
{
    const struct mvcc *m = state_mvcc(node_state(env->node));
    uint64_t rss = resident_bytes();
    char rss_text[32];
    human(rss, rss_text);
    buf_printf(b, "used_memory:%llu\r\nused_memory_human:%s\r\nused_memory_rss:%llu\r\nused_memory_rss_human:%s\r\n"
               "used_memory_dataset:%llu\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n"
               "mem_allocator:jemalloc\r\nquota_bytes:%llu\r\nhistory_memory_bytes:%zu\r\n",
               (unsigned long long)rss, rss_text, (unsigned long long)rss, rss_text,
               (unsigned long long)mvcc_live_bytes(m),
               (unsigned long long)state_settings(node_state(env->node))->quota_bytes, mvcc_packs_bytes(m));
}

static void info_persistence(struct cmd_env *env, struct buf *b)
{
    struct node_stats st;
    node_stats_get(env->node, &st);
    buf_printf(b, "loading:0\r\nasync_loading:0\r\nrdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:0\r\n"
               "aof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_last_write_status:ok\r\n"
               "wal_backend:%s\r\nwal_syncs:%llu\r\nwal_written_bytes:%llu\r\nwal_last_sync_us:%lld\r\n"
               "wal_max_sync_us:%lld\r\nwal_pending_bytes:%llu\r\nwal_segments:%llu\r\nwal_bytes:%llu\r\n"
               "checkpoints:%llu\r\ncheckpoint_file_batches:%llu\r\ncheckpoint_files:%llu\r\ncheckpoint_index:%llu\r\n"
               "store_bytes:%llu\r\nstore_backlog_bytes:%llu\r\n"
               "disk_free_bytes:%llu\r\ndisk_low:%d\r\n",
               st.wal.backend, (unsigned long long)st.wal.sync_count, (unsigned long long)st.wal.written_bytes,
               (long long)st.wal.sync_us_last, (long long)st.wal.sync_us_max,
               (unsigned long long)st.wal.pending_bytes, (unsigned long long)st.wal.segment_count,
               (unsigned long long)st.wal.segment_bytes, (unsigned long long)st.checkpoint_count,
               (unsigned long long)st.store_file_batch_count,
               (unsigned long long)st.store_file_count,
               (unsigned long long)st.checkpoint_index, (unsigned long long)st.store_bytes,
               (unsigned long long)st.store_backlog_bytes, (unsigned long long)st.disk_free_bytes,
               node_disk_low(env->node));
}

static void info_stats(struct cmd_env *env, struct buf *b)
{
    const struct cmd_stats *s = &env->stats;
    struct node_stats st;
    node_stats_get(env->node, &st);
    buf_printf(b, "total_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
               "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\nrejected_connections:%llu\r\n"
               "expired_keys:%llu\r\nevicted_keys:0\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n"
               "pubsub_messages:%llu\r\ntotal_error_replies:%llu\r\nprotocol_errors:%llu\r\n"
               "proposed_operations:%llu\r\nproposed_batches:%llu\r\napplied_operations:%llu\r\n"
               "pending_tickets:%llu\r\nwatch_events_sent:%llu\r\nwatches_canceled:%llu\r\n",
               (unsigned long long)s->connections, (unsigned long long)s->commands,
               (unsigned long long)s->net_input_bytes, (unsigned long long)s->net_output_bytes,
               (unsigned long long)s->rejected_connections, (unsigned long long)s->expired_keys,
               (unsigned long long)s->keyspace_hits, (unsigned long long)s->keyspace_misses,
               (unsigned long long)s->pubsub_messages, (unsigned long long)s->errors,
               (unsigned long long)s->protocol_errors, (unsigned long long)st.proposed_ops,
               (unsigned long long)st.proposed_batches, (unsigned long long)st.applied_ops,
               (unsigned long long)st.ticket_count, (unsigned long long)s->watch_events_sent,
               (unsigned long long)s->watch_canceled);
}

static void info_peers(struct cmd_env *env, struct buf *b)
{
    struct cmd_peers p = { .tls = false };
    if (env->io.peers != NULL) env->io.peers(env->io.ctx, &p);
    buf_printf(b, "peers_connected:%zu\r\npeers_accepted:%zu\r\npeers_refused:%llu\r\npeers_reconnects:%llu\r\n"
               "peers_dropped_messages:%llu\r\npeers_sent_messages:%llu\r\npeers_sent_bytes:%llu\r\n"
               "peers_received_messages:%llu\r\npeers_received_bytes:%llu\r\n",
               p.connected_count, p.accepted_count, (unsigned long long)p.refused, (unsigned long long)p.reconnects,
               (unsigned long long)p.dropped_messages, (unsigned long long)p.sent_messages,
               (unsigned long long)p.sent_bytes, (unsigned long long)p.received_messages,
               (unsigned long long)p.received_bytes);
    buf_printf(b, "peers_tls:%d\r\npeers_tls_generation:%llu\r\npeers_tls_handshakes:%llu\r\n"
               "peers_tls_refused:%llu\r\npeers_tls_reload_failures:%llu\r\npeers_tls_connections:%zu\r\n"
               "peers_tls_old_connections:%zu\r\npeers_tls_expires:%lld\r\n",
               p.tls, (unsigned long long)p.tls_generation, (unsigned long long)p.tls_handshakes,
               (unsigned long long)p.tls_refused, (unsigned long long)p.tls_reload_failures, p.tls_conn_count,
               p.tls_old_conn_count, (long long)p.tls_expires_s);
    struct node_snapshot_stats st;
    node_snapshot_stats_of(env->node, &st);
    buf_printf(b, "snapshots_sent:%llu\r\nsnapshots_send_failed:%llu\r\nsnapshots_sent_bytes:%llu\r\n"
               "snapshots_installed:%llu\r\nsnapshots_receive_failed:%llu\r\nsnapshots_received_bytes:%llu\r\n"
               "snapshots_log_entries_read:%llu\r\nsnapshot_sending_to:%llu\r\nsnapshot_receiving:%d\r\n",
               (unsigned long long)st.sent, (unsigned long long)st.send_failed, (unsigned long long)st.sent_bytes,
               (unsigned long long)st.installed, (unsigned long long)st.receive_failed,
               (unsigned long long)st.received_bytes, (unsigned long long)st.entries_read,
               (unsigned long long)st.sending_to, st.receiving);
}

static void info_cpu(struct cmd_env *env, struct buf *b)
{
    (void)env;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    buf_printf(b, "used_cpu_sys:%ld.%06ld\r\nused_cpu_user:%ld.%06ld\r\n", (long)use.ru_stime.tv_sec,
               (long)use.ru_stime.tv_usec, (long)use.ru_utime.tv_sec, (long)use.ru_utime.tv_usec);
}

static void info_store(struct cmd_env *env, struct buf *b)
{
    const struct state *s = node_state(env->node);
    const struct mvcc *m = state_mvcc(s);
    buf_printf(b, "revision:%llu\r\ncompacted:%llu\r\nkeys:%llu\r\nlive_bytes:%llu\r\ndeleted_keys_in_history:%llu\r\n"
               "leases:%llu\r\nstate_hash:%016llx\r\ncluster_clock_ms:%llu\r\n",
               (unsigned long long)mvcc_rev(m), (unsigned long long)mvcc_compacted(m),
               (unsigned long long)mvcc_live_count(m), (unsigned long long)mvcc_live_bytes(m),
               (unsigned long long)mvcc_ghost_count(m), (unsigned long long)lease_count(state_leases(s)),
               (unsigned long long)state_hash(s), (unsigned long long)node_clock_ms(env->node));
}

static void info_commandstats(struct cmd_env *env, struct buf *b)
{
    for (size_t i = 0; i < cmd_table_count(env->table); i++) {
        if (env->call_counts[i] == 0) continue;
        buf_printf(b, "cmdstat_%s:calls=%llu\r\n", cmd_table_at(env->table, i)->name,
                   (unsigned long long)env->call_counts[i]);
    }
}

static void info_keyspace(struct cmd_env *env, struct buf *b)
{
    struct view v = node_view(env->node);
    for (unsigned db = 0; db < CMD_DATABASES; db++) {
        uint8_t bounds[2] = { (uint8_t)db, (uint8_t)(db + 1) };
        uint64_t keys = view_count(&v, (struct slice){ &bounds[0], 1 }, (struct slice){ &bounds[1], 1 });
        if (keys == 0) continue;
        buf_printf(b, "db%u:keys=%llu,expires=%llu,avg_ttl=0\r\n", db, (unsigned long long)keys,
                   (unsigned long long)life_expiring_count(state_leases(v.state), (uint8_t)db));
    }
}

static const struct {
    const char *name, *title;
    void (*print)(struct cmd_env *env, struct buf *b);
    bool preset; /* part of INFO without arguments */
} sections[] = {
    { "server", "Server", info_server, true },
    { "clients", "Clients", info_clients, true },
    { "memory", "Memory", info_memory, true },
    { "persistence", "Persistence", info_persistence, true },
    { "stats", "Stats", info_stats, true },
    { "replication", "Replication", cmd_info_replication, true },
    { "peers", "Peers", info_peers, true },
    { "cpu", "CPU", info_cpu, true },
    { "store", "Store", info_store, true },
    { "commandstats", "Commandstats", info_commandstats, false },
    { "cluster", "Cluster", cmd_info_cluster, true },
    { "keyspace", "Keyspace", info_keyspace, true },
};

static bool section_wanted(const struct cmd_ctx *cx, size_t at)
{
    if (cx->argc == 1) return sections[at].preset;
    for (size_t i = 1; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], sections[at].name)) return true;
        if (arg_is(cx->argv[i], "all") || arg_is(cx->argv[i], "everything")) return true;
        if (arg_is(cx->argv[i], "default") && sections[at].preset) return true;
    }
    return false;
}

static enum err cmd_info(struct cmd_ctx *cx)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        if (!section_wanted(cx, i)) continue;
        buf_printf(&text, "%s# %s\r\n", text.len == 0 ? "" : "\r\n", sections[i].title);
        sections[i].print(cx->env, &text);
    }
    reply_verbatim(cx->reply, buf_slice(&text));
    return OK;
}

/* --- TIME, LASTSAVE -------------------------------------------------------------------------------- */

static enum err cmd_time(struct cmd_ctx *cx)
{
    int64_t wall_ms = node_wall_ms(cx->env->node);
    reply_array(cx->reply, 2);
    reply_bulk_int(cx->reply, wall_ms / 1000);
    reply_bulk_int(cx->reply, wall_ms % 1000 * 1000); /* the group's clocks count milliseconds */
    return OK;
}

static enum err cmd_lastsave(struct cmd_ctx *cx)
{
    reply_int(cx->reply, node_wall_ms(cx->env->node) / 1000);
    return OK;
}

/* --- SLOWLOG ------------------------------------------------------------------------------------------- */

struct slow_entry {
    struct slow_entry *next;
    uint64_t id;
    int64_t at_s, took_us;
    char *peer, *name;
    size_t argc;
    struct slice argv[SLOW_ARGS_MAX];
};

struct slow_log {
    struct slow_entry *head; /* newest first */
    size_t count;
    uint64_t next_id;
};

struct slow_log *slow_log_new(void) { return mem_zalloc(sizeof(struct slow_log)); }

static void slow_entry_free(struct slow_entry *e)
{
    for (size_t i = 0; i < e->argc; i++) mem_free((void *)(uintptr_t)e->argv[i].at);
    mem_free(e->peer);
    mem_free(e->name);
    mem_free(e);
}

static void slow_log_trim(struct slow_log *log, size_t keep)
{
    struct slow_entry **at = &log->head;
    for (size_t i = 0; i < keep && *at != NULL; i++) at = &(*at)->next;
    while (*at != NULL) {
        struct slow_entry *gone = *at;
        *at = gone->next;
        slow_entry_free(gone);
        log->count--;
    }
}

void slow_log_free(struct slow_log *log)
{
    slow_log_trim(log, 0);
    mem_free(log);
}

static struct slice slow_arg(struct slice arg, size_t left)
{
    char text[SLOW_ARG_BYTES_MAX + 64];
    if (left > 0) {
        int len = snprintf(text, sizeof text, "... (%zu more arguments)", left);
        return (struct slice){ mem_copy(text, (size_t)len), (size_t)len };
    }
    size_t keep = MIN(arg.len, SLOW_ARG_BYTES_MAX);
    if (keep == arg.len) return (struct slice){ mem_copy(arg.at, arg.len), arg.len };
    memcpy(text, arg.at, keep);
    int more = snprintf(text + keep, sizeof text - keep, "... (%zu more bytes)", arg.len - keep);
    return (struct slice){ mem_copy(text, keep + (size_t)more), keep + (size_t)more };
}

void slow_log_note(struct cmd_env *env, struct client *c, const struct cmd_def *def, size_t argc,
                   const struct slice *argv, int64_t took_us)
{
    struct slow_log *log = env->slow_log;
    if (env->limits.slowlog_count_max == 0) return;
    struct slow_entry *e = mem_zalloc(sizeof *e);
    e->id = log->next_id++;
    e->at_s = node_wall_ms(env->node) / 1000;
    e->took_us = took_us;
    char peer[CLIENT_ADDRESS_BYTES_MAX];
    client_address(env, c, true, peer);
    e->peer = mem_copy(peer, strlen(peer) + 1);
    e->name = mem_copy(client_name(c, CLIENT_NAME), strlen(client_name(c, CLIENT_NAME)) + 1);
    bool secret = (def->flags & CMD_SECRET) != 0;
    e->argc = secret ? 1 : MIN(argc, SLOW_ARGS_MAX);
    for (size_t i = 0; i < e->argc; i++) {
        size_t left = i + 1 == SLOW_ARGS_MAX && argc > SLOW_ARGS_MAX ? argc - i : 0;
        e->argv[i] = slow_arg(argv[i], left);
    }
    e->next = log->head;
    log->head = e;
    log->count++;
    slow_log_trim(log, env->limits.slowlog_count_max);
}

static enum err cmd_slowlog_get(struct cmd_ctx *cx)
{
    int64_t want = 10;
    if (cx->argc > 3) return ERR_SYNTAX;
    if (cx->argc == 3) TRY(i64_parse(cx->argv[2], &want));
    if (want < -1) {
        reply_error(cx->reply, "ERR", "count should be greater than or equal to -1");
        return OK;
    }
    struct slow_log *log = cx->env->slow_log;
    size_t count = want < 0 ? log->count : MIN((size_t)want, log->count);
    reply_array(cx->reply, count);
    struct slow_entry *e = log->head;
    for (size_t i = 0; i < count; i++, e = e->next) {
        reply_array(cx->reply, 6);
        reply_int(cx->reply, (int64_t)e->id);
        reply_int(cx->reply, e->at_s);
        reply_int(cx->reply, e->took_us);
        reply_array(cx->reply, e->argc);
        for (size_t a = 0; a < e->argc; a++) reply_bulk(cx->reply, e->argv[a]);
        reply_bulk_cstr(cx->reply, e->peer);
        reply_bulk_cstr(cx->reply, e->name);
    }
    return OK;
}

static enum err cmd_slowlog_len(struct cmd_ctx *cx)
{
    reply_int(cx->reply, (int64_t)cx->env->slow_log->count);
    return OK;
}

static enum err cmd_slowlog_reset(struct cmd_ctx *cx)
{
    slow_log_trim(cx->env->slow_log, 0);
    reply_ok(cx->reply);
    return OK;
}

/* --- SHUTDOWN, help --------------------------------------------------------------------------------------- */

static enum err cmd_shutdown(struct cmd_ctx *cx)
{
    for (size_t i = 1; i < cx->argc; i++) {
        if (!arg_is(cx->argv[i], "NOSAVE") && !arg_is(cx->argv[i], "SAVE") && !arg_is(cx->argv[i], "NOW") &&
            !arg_is(cx->argv[i], "FORCE")) {
            return ERR_SYNTAX;
        }
    }
    cx->env->io.shutdown(cx->env->io.ctx);
    client_close(cx->env, cx->client, true);
    return OK;
}

static enum err cmd_slowlog_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "slowlog");
    return OK;
}

#define CONN (CMD_CONN | CMD_FAST)
#define SERVER .group = GROUP_SERVER

const struct cmd_def cmd_server_defs[] = {
    { .name = "info", .run = cmd_info, .arity = -1, .flags = CMD_CONN, SERVER, .since = "1.0.0",
      .args = "[section [section ...]]", .summary = "Returns figures about the server." },
    { .name = "time", .run = cmd_time, .arity = 1, .flags = CONN, SERVER, .since = "2.6.0", .args = "",
      .summary = "Returns the server's time." },
    { .name = "role", .run = cmd_role, .arity = 1, .flags = CONN, SERVER, .since = "2.8.12", .args = "",
      .summary = "Returns the role of the node." },
    { .name = "wait", .run = cmd_wait, .arity = 3, .flags = CONN | CMD_BLOCKING | CMD_DRAIN, .group = GROUP_GENERIC,
      .since = "3.0.0", .args = "numreplicas timeout",
      .summary = "Returns at once how many other voters surely have the connection's writes: a majority, but one, "
                 "or more." },
    { .name = "waitaof", .run = cmd_waitaof, .arity = 4, .flags = CONN | CMD_BLOCKING | CMD_DRAIN,
      .group = GROUP_GENERIC, .since = "7.2.0", .args = "numlocal numreplicas timeout",
      .summary = "Returns at once: 1, and as WAIT: an answered write is already synced." },
    { .name = "lastsave", .run = cmd_lastsave, .arity = 1, .flags = CONN, SERVER, .since = "1.0.0", .args = "",
      .summary = "Returns the present time: every answered write is saved." },
    { .name = "slowlog", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, SERVER, .since = "2.2.12", .args = "",
      .summary = "A container for commands about slow commands." },
    { .name = "slowlog|get", .run = cmd_slowlog_get, .arity = -2, .flags = CMD_CONN | CMD_ADMIN, SERVER,
      .since = "2.2.12", .args = "[count]", .summary = "Returns the newest slow commands." },
    { .name = "slowlog|len", .run = cmd_slowlog_len, .arity = 2, .flags = CONN | CMD_ADMIN, SERVER,
      .since = "2.2.12", .args = "", .summary = "Counts the slow commands that are kept." },
    { .name = "slowlog|reset", .run = cmd_slowlog_reset, .arity = 2, .flags = CONN | CMD_ADMIN, SERVER,
      .since = "2.2.12", .args = "", .summary = "Forgets the slow commands." },
    { .name = "slowlog|help", .run = cmd_slowlog_help, .arity = 2, .flags = CONN, SERVER, .since = "6.2.0",
      .args = "", .summary = "Shows the subcommands." },
    { .name = "shutdown", .run = cmd_shutdown, .arity = -1, .flags = CMD_CONN | CMD_ADMIN | CMD_NO_MULTI | CMD_DRAIN,
      SERVER, .since = "1.0.0", .args = "[NOSAVE|SAVE] [NOW] [FORCE]", .summary = "Stops the server cleanly." },
    CMD_DEF_END,
};
