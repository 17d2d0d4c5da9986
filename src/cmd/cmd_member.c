/* cmd/cmd_member.c - MEMBER: who belongs to the group, and how each one is. */
#include "cmd/cmd_int.h"

static void reply_word(struct reply *r, const char *name, const char *value)
{
    reply_bulk_cstr(r, name);
    reply_bulk_cstr(r, value);
}

static void reply_number(struct reply *r, const char *name, uint64_t value)
{
    reply_bulk_cstr(r, name);
    reply_int(r, (int64_t)value);
}

static const char *role_of(const struct raft *raft, const struct raft_member *m, uint64_t self)
{
    if (m->role == RAFT_LEARNER) return "learner";
    if (m->id == raft_leader(raft)) return "leader";
    if (m->id == self && (raft_role(raft) == RAFT_CANDIDATE || raft_role(raft) == RAFT_PRECANDIDATE)) {
        return "candidate";
    }
    return "follower";
}

static uint64_t match_of(const struct raft *raft, uint64_t id, uint64_t self)
{
    if (id == self) return raft_durable_index(raft);
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(raft, i, &peer); i++) {
        if (peer.id == id) return peer.match_index;
    }
    return 0;
}

static void reply_member(struct cmd_ctx *cx, const struct raft_member *m)
{
    const struct raft *raft = node_raft(cx->env->node);
    uint64_t self = node_member_id(cx->env->node);
    uint64_t match = match_of(raft, m->id, self);
    uint64_t last = raft_last_index(raft);
    reply_map(cx->reply, 9);
    reply_number(cx->reply, "id", m->id);
    reply_word(cx->reply, "name", m->id == self ? cx->env->info.node_name : m->name);
    reply_word(cx->reply, "peer", m->peer_address);
    reply_word(cx->reply, "client", m->id == self ? cx->env->info.client_address : m->client_address);
    reply_word(cx->reply, "role", role_of(raft, m, self));
    reply_number(cx->reply, "match", match);
    reply_number(cx->reply, "lag", last > match ? last - match : 0);
    reply_number(cx->reply, "started", 1);
    reply_word(cx->reply, "version", cx->env->info.version);
}

static enum err cmd_member_list(struct cmd_ctx *cx)
{
    if (cx->argc > 3 || (cx->argc == 3 && !arg_is(cx->argv[2], "LOCAL"))) return ERR_SYNTAX;
    const struct raft_members *members = raft_members(node_raft(cx->env->node));
    reply_array(cx->reply, members->count);
    for (size_t i = 0; i < members->count; i++) reply_member(cx, &members->at[i]);
    return OK;
}

static void reply_errors(struct cmd_ctx *cx)
{
    const struct state *s = node_state(cx->env->node);
    bool nospace = state_alarm(s, ALARM_NOSPACE) || node_disk_low(cx->env->node);
    bool corrupt = state_alarm(s, ALARM_CORRUPT);
    reply_bulk_cstr(cx->reply, "errors");
    reply_array(cx->reply, (size_t)nospace + (size_t)corrupt);
    if (nospace) reply_bulk_cstr(cx->reply, "NOSPACE");
    if (corrupt) reply_bulk_cstr(cx->reply, "CORRUPT");
}

static enum err cmd_member_status(struct cmd_ctx *cx)
{
    struct node *n = cx->env->node;
    uint64_t id = node_member_id(n);
    if (cx->argc == 3) TRY(arg_u64(cx->argv[2], &id));
    if (raft_members_find(raft_members(node_raft(n)), id) == NULL) return ERR_MEMBER;
    const struct state *s = node_state(n);
    const struct mvcc *m = state_mvcc(s);
    struct node_stats st;
    node_stats_get(n, &st);
    reply_map(cx->reply, 14);
    reply_number(cx->reply, "id", id);
    reply_number(cx->reply, "cluster", node_cluster_id(n));
    reply_word(cx->reply, "version", cx->env->info.version);
    reply_number(cx->reply, "dbsize", st.store_bytes);
    reply_number(cx->reply, "inuse", mvcc_live_bytes(m));
    reply_number(cx->reply, "quota", state_settings(s)->quota_bytes);
    reply_number(cx->reply, "leader", raft_leader(node_raft(n)));
    reply_number(cx->reply, "term", raft_term(node_raft(n)));
    reply_number(cx->reply, "index", raft_commit_index(node_raft(n)));
    reply_number(cx->reply, "applied", state_applied_index(s));
    reply_number(cx->reply, "revision", mvcc_rev(m));
    reply_number(cx->reply, "compacted", mvcc_compacted(m));
    reply_errors(cx);
    reply_number(cx->reply, "learner", raft_is_voter(node_raft(n)) ? 0 : 1);
    return OK;
}

static enum err cmd_member_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "member");
    return OK;
}

const struct cmd_def cmd_member_defs[] = {
    { .name = "member", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "", .summary = "A container for commands about the members of the group." },
    { .name = "member|list", .run = cmd_member_list, .arity = -2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "[LOCAL]",
      .summary = "Lists the members, their roles and how far each one is." },
    { .name = "member|status", .run = cmd_member_status, .arity = -2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "[id]",
      .summary = "Shows a member's term, index, revision, sizes and alarms." },
    { .name = "member|help", .run = cmd_member_help, .arity = 2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
