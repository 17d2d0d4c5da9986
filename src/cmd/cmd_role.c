/* cmd/cmd_role.c - who leads and who follows, in the words of Redis' replication: ROLE, WAIT, INFO
 * replication and INFO cluster. Offsets are log indexes. */
#include "cmd/cmd_int.h"

#define SILENT_MS_MAX 5000 /* a member that was not heard for so long is not shown as connected */

/* --- members ---------------------------------------------------------------------------- */

/* "host:port" -> both; brackets of IPv6 are left out, as Redis does. Unknown: "" and 0. */
static struct slice address_host(const char *address, uint64_t *port)
{
    struct slice host = slice_of(address);
    size_t colon = host.len;
    *port = 0;
    while (colon > 0 && address[colon - 1] != ':') colon--;
    if (colon == 0) return host;
    if (u64_parse((struct slice){ host.at + colon, host.len - colon }, port) != OK) *port = 0;
    host.len = colon - 1;
    if (host.len >= 2 && host.at[0] == '[' && host.at[host.len - 1] == ']') {
        host.at++;
        host.len -= 2;
    }
    return host;
}

struct follower {
    struct slice host; /* of the membership in force */
    uint64_t port, offset;
    int64_t lag_s;
    const char *state; /* as Redis has them */
};

static bool follower_of(const struct cmd_env *env, const struct raft_peer_status *peer, struct follower *f)
{
    const struct raft_member *m = raft_members_find(raft_members(node_raft(env->node)), peer->id);
    if (m == NULL || peer->silent_ms >= SILENT_MS_MAX || m->client_address[0] == '\0') return false;
    f->host = address_host(m->client_address, &f->port);
    f->offset = peer->match_index;
    f->lag_s = peer->silent_ms / 1000;
    f->state = peer->state == RAFT_PEER_SNAPSHOT ? "send_bulk" : peer->state == RAFT_PEER_LOST ? "wait_bgsave" : "online";
    return true;
}

/* The followers that a leader has; none on any other member. */
static size_t followers(const struct cmd_env *env, struct follower out[RAFT_MEMBERS_MAX])
{
    struct raft_peer_status peer;
    size_t count = 0;
    for (size_t i = 0; count < RAFT_MEMBERS_MAX && raft_peer_status(node_raft(env->node), i, &peer); i++) {
        count += follower_of(env, &peer, &out[count]);
    }
    return count;
}

/* The present leader, or the last one that was known. */
static struct slice leader_host(const struct cmd_env *env, uint64_t *port)
{
    const struct raft *raft = node_raft(env->node);
    uint64_t id = raft_leader(raft) != 0 ? raft_leader(raft) : env->leader_id;
    const struct raft_member *m = raft_members_find(raft_members(raft), id);
    return address_host(m == NULL ? "" : m->client_address, port);
}

static bool leads(const struct cmd_env *env) { return raft_role(node_raft(env->node)) == RAFT_LEADER; }

static uint64_t offset_of(const struct cmd_env *env)
{
    const struct raft *raft = node_raft(env->node);
    return leads(env) ? raft_last_index(raft) : raft_durable_index(raft);
}

/* --- ROLE ------------------------------------------------------------------------------------- */

static void role_leader(struct cmd_ctx *cx)
{
    struct follower list[RAFT_MEMBERS_MAX];
    size_t count = followers(cx->env, list);
    reply_array(cx->reply, 3);
    reply_bulk_cstr(cx->reply, "master");
    reply_int(cx->reply, (int64_t)offset_of(cx->env));
    reply_array(cx->reply, count);
    for (size_t i = 0; i < count; i++) {
        reply_array(cx->reply, 3);
        reply_bulk(cx->reply, list[i].host);
        reply_bulk_int(cx->reply, (int64_t)list[i].port);
        reply_bulk_int(cx->reply, (int64_t)list[i].offset);
    }
}

static void role_follower(struct cmd_ctx *cx)
{
    uint64_t port = 0;
    struct slice host = leader_host(cx->env, &port);
    reply_array(cx->reply, 5);
    reply_bulk_cstr(cx->reply, "slave");
    reply_bulk(cx->reply, host);
    reply_int(cx->reply, (int64_t)port);
    reply_bulk_cstr(cx->reply, raft_leader(node_raft(cx->env->node)) != 0 ? "connected" : "connect");
    reply_int(cx->reply, (int64_t)offset_of(cx->env));
}

enum err cmd_role(struct cmd_ctx *cx)
{
    if (leads(cx->env)) role_leader(cx);
    else role_follower(cx);
    return OK;
}

/* --- WAIT --------------------------------------------------------------------------------------- */

/* Nothing of the client is pending, so what it has written is applied, and on a majority. A leader
 * knows who else has acknowledged all that was applied; any other member only what a majority means. */
static int64_t acknowledged(const struct cmd_env *env)
{
    const struct raft *raft = node_raft(env->node);
    size_t sure = raft_members_voter_count(raft_members(raft)) / 2; /* a majority, but one */
    size_t found = 0;
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(raft, i, &peer); i++) {
        found += peer.voter && peer.state != RAFT_PEER_LOST && peer.match_index >= raft_applied_index(raft);
    }
    return (int64_t)MAX(sure, found);
}

/* False: refused, with the error written. */
static bool timeout_is_right(struct cmd_ctx *cx, struct slice arg)
{
    int64_t timeout_ms = 0;
    if (i64_parse(arg, &timeout_ms) != OK) {
        reply_error(cx->reply, "ERR", "timeout is not an integer or out of range");
        return false;
    }
    if (timeout_ms < 0) reply_error(cx->reply, "ERR", "timeout is negative");
    return timeout_ms >= 0;
}

enum err cmd_wait(struct cmd_ctx *cx)
{
    int64_t replicas = 0;
    TRY(i64_parse(cx->argv[1], &replicas));
    if (timeout_is_right(cx, cx->argv[2])) reply_int(cx->reply, acknowledged(cx->env));
    return OK;
}

enum err cmd_waitaof(struct cmd_ctx *cx)
{
    int64_t local = 0;
    int64_t replicas = 0;
    TRY(i64_parse(cx->argv[1], &local));
    TRY(i64_parse(cx->argv[2], &replicas));
    if (!timeout_is_right(cx, cx->argv[3])) return OK;
    reply_array(cx->reply, 2);
    reply_int(cx->reply, 1);
    reply_int(cx->reply, acknowledged(cx->env));
    return OK;
}

/* --- INFO ----------------------------------------------------------------------------------------- */

static void info_leader(const struct cmd_env *env, struct buf *b)
{
    struct follower list[RAFT_MEMBERS_MAX];
    size_t count = followers(env, list);
    buf_printf(b, "role:master\r\nconnected_slaves:%zu\r\n", count);
    for (size_t i = 0; i < count; i++) {
        buf_printf(b, "slave%zu:ip=%.*s,port=%llu,state=%s,offset=%llu,lag=%lld\r\n", i, (int)list[i].host.len,
                   (const char *)list[i].host.at, (unsigned long long)list[i].port, list[i].state,
                   (unsigned long long)list[i].offset, (long long)list[i].lag_s);
    }
}

static void info_follower(const struct cmd_env *env, struct buf *b)
{
    uint64_t port = 0;
    struct slice host = leader_host(env, &port);
    struct node_peer_info leader = { .age_ms = -1 };
    uint64_t id = raft_leader(node_raft(env->node));
    if (id != 0 && !node_peer_info(env->node, id, &leader)) leader.age_ms = -1;
    struct node_stats st;
    node_stats_get(env->node, &st);
    buf_printf(b, "role:slave\r\nmaster_host:%.*s\r\nmaster_port:%llu\r\nmaster_link_status:%s\r\n"
               "master_last_io_seconds_ago:%lld\r\nmaster_sync_in_progress:%d\r\nslave_read_repl_offset:%llu\r\n"
               "slave_repl_offset:%llu\r\nslave_priority:100\r\nslave_read_only:0\r\nreplica_announced:1\r\n"
               "connected_slaves:0\r\n", (int)host.len, (const char *)host.at, (unsigned long long)port,
               id != 0 ? "up" : "down", (long long)(leader.age_ms < 0 ? -1 : leader.age_ms / 1000),
               st.snapshot_receiving, (unsigned long long)raft_applied_index(node_raft(env->node)),
               (unsigned long long)offset_of(env));
}

void cmd_info_replication(struct cmd_env *env, struct buf *b)
{
    const struct raft *raft = node_raft(env->node);
    if (leads(env)) info_leader(env, b);
    else info_follower(env, b);
    /* One history for the whole group, whoever leads. */
    buf_printf(b, "master_failover_state:%s\r\nmaster_replid:%040llx\r\nmaster_repl_offset:%llu\r\n"
               "second_repl_offset:-1\r\nrepl_backlog_active:1\r\n"
               "raft_role:%s\r\nraft_term:%llu\r\nraft_commit:%llu\r\nraft_applied:%llu\r\n",
               raft_transfer_target(raft) != 0 ? "failover-in-progress" : "no-failover",
               (unsigned long long)node_cluster_id(env->node), (unsigned long long)offset_of(env),
               raft_role_name(raft_role(raft)), (unsigned long long)raft_term(raft),
               (unsigned long long)raft_commit_index(raft), (unsigned long long)raft_applied_index(raft));
}

void cmd_info_cluster(struct cmd_env *env, struct buf *b)
{
    const struct raft *raft = node_raft(env->node);
    const struct raft_members *m = raft_members(raft);
    struct cmd_barrier_stats reads;
    struct node_stats st;
    cmd_barrier_stats_get(env, &reads);
    node_stats_get(env->node, &st);
    buf_printf(b, "cluster_enabled:0\r\ncluster_id:%llu\r\nmember_id:%llu\r\nleader_id:%llu\r\nmembers:%zu\r\n"
               "voters:%zu\r\nleader_changes:%llu\r\n",
               (unsigned long long)node_cluster_id(env->node), (unsigned long long)node_member_id(env->node),
               (unsigned long long)raft_leader(raft), m->count, raft_members_voter_count(m),
               (unsigned long long)env->leader_changes);
    buf_printf(b, "forwarded_operations:%llu\r\nforwarded_operations_taken:%llu\r\ntimed_out_operations:%llu\r\n"
               "waiting_reads:%llu\r\nwaiting_reads_bytes:%llu\r\nrejected_reads:%llu\r\ntimed_out_reads:%llu\r\n"
               "waiting_replies:%llu\r\nwaiting_replies_bytes:%llu\r\n"
               "snapshots_sent:%llu\r\nsnapshots_installed:%llu\r\nsnapshots_failed:%llu\r\n"
               "snapshot_sent_bytes:%llu\r\nsnapshot_received_bytes:%llu\r\n",
               (unsigned long long)st.forwarded_ops, (unsigned long long)st.forwarded_taken_ops,
               (unsigned long long)st.timeout_count, (unsigned long long)reads.count,
               (unsigned long long)reads.bytes, (unsigned long long)reads.refused,
               (unsigned long long)reads.timed_out, (unsigned long long)env->waiting_replies,
               (unsigned long long)env->waiting_replies_bytes, (unsigned long long)st.snapshots_sent,
               (unsigned long long)st.snapshots_installed, (unsigned long long)st.snapshots_failed,
               (unsigned long long)st.snapshot_sent_bytes, (unsigned long long)st.snapshot_received_bytes);
}
