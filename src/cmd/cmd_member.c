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
    if (m->role != RAFT_VOTER) return "learner";
    if (m->id == raft_leader(raft)) return "leader";
    if (m->id == self && (raft_role(raft) == RAFT_CANDIDATE || raft_role(raft) == RAFT_PRECANDIDATE)) {
        return "candidate";
    }
    return "follower";
}

static void reply_member(struct cmd_ctx *cx, const struct raft_member *m)
{
    const struct raft *raft = node_raft(cx->env->node);
    uint64_t self = node_member_id(cx->env->node);
    struct node_peer_info info;
    bool known = node_peer_info(cx->env->node, m->id, &info);
    ASSERT(known);
    uint64_t last = MAX(raft_last_index(raft), raft_commit_index(raft));
    bool is_self = m->id == self;
    reply_map(cx->reply, 9);
    reply_number(cx->reply, "id", m->id);
    reply_word(cx->reply, "name", is_self ? cx->env->info.node_name : m->name);
    reply_word(cx->reply, "peer", m->peer_address);
    reply_word(cx->reply, "client", is_self ? cx->env->info.client_address : m->client_address);
    reply_word(cx->reply, "role", role_of(raft, m, self));
    reply_number(cx->reply, "match", info.match);
    reply_number(cx->reply, "lag", last > info.match ? last - info.match : 0);
    reply_number(cx->reply, "started", is_self || info.age_ms >= 0);
    reply_word(cx->reply, "version", is_self ? cx->env->info.version : info.version);
}

static enum err cmd_member_list(struct cmd_ctx *cx)
{
    if (cx->argc > 3 || (cx->argc == 3 && !arg_is(cx->argv[2], "LOCAL"))) return ERR_SYNTAX;
    const struct raft_members *members = raft_members(node_raft(cx->env->node));
    reply_array(cx->reply, members->count);
    for (size_t i = 0; i < members->count; i++) reply_member(cx, &members->at[i]);
    return OK;
}

static bool list_is_local(size_t argc, const struct slice *argv)
{
    return argc == 3 && arg_is(argv[2], "LOCAL");
}

static void reply_errors(struct cmd_ctx *cx, uint32_t own_alarms)
{
    const struct state *s = node_state(cx->env->node);
    bool nospace = state_alarm(s, ALARM_NOSPACE) || (own_alarms & 1u << ALARM_NOSPACE) != 0;
    bool corrupt = state_alarm(s, ALARM_CORRUPT) || (own_alarms & 1u << ALARM_CORRUPT) != 0;
    reply_bulk_cstr(cx->reply, "errors");
    reply_array(cx->reply, (size_t)nospace + (size_t)corrupt);
    if (nospace) reply_bulk_cstr(cx->reply, "NOSPACE");
    if (corrupt) reply_bulk_cstr(cx->reply, "CORRUPT");
}

static enum err cmd_member_status(struct cmd_ctx *cx)
{
    struct node *n = cx->env->node;
    uint64_t self = node_member_id(n);
    uint64_t id = self;
    if (cx->argc > 3) return ERR_SYNTAX;
    if (cx->argc == 3) TRY(arg_u64(cx->argv[2], &id));
    struct node_peer_info info;
    if (!node_peer_info(n, id, &info)) return ERR_MEMBER;
    if (info.age_ms < 0) {
        reply_error(cx->reply, "ERR", "member %llu has not been heard of since this one started",
                    (unsigned long long)id);
        return OK;
    }
    const struct raft_member *m = raft_members_find(raft_members(node_raft(n)), id);
    reply_map(cx->reply, 14);
    reply_number(cx->reply, "id", id);
    reply_number(cx->reply, "cluster", node_cluster_id(n));
    reply_word(cx->reply, "version", id == self ? cx->env->info.version : info.version);
    reply_number(cx->reply, "dbsize", info.store_bytes);
    reply_number(cx->reply, "inuse", info.live_bytes);
    reply_number(cx->reply, "quota", state_settings(node_state(n))->quota_bytes);
    reply_number(cx->reply, "leader", info.leader);
    reply_number(cx->reply, "term", info.term);
    reply_number(cx->reply, "index", info.index);
    reply_number(cx->reply, "applied", info.applied);
    reply_number(cx->reply, "revision", info.revision);
    reply_number(cx->reply, "compacted", info.compacted);
    reply_errors(cx, info.alarms);
    reply_number(cx->reply, "learner", m->role == RAFT_VOTER ? 0 : 1);
    return OK;
}

/* --- changes ------------------------------------------------------------------------------ */

static void ok_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    (void)res;
    reply_ok(dx->reply);
}

static void add_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    const struct raft_member *m = raft_members_find(raft_members(node_raft(dx->env->node)), res->id);
    reply_map(dx->reply, 4);
    reply_number(dx->reply, "id", res->id);
    reply_word(dx->reply, "peer", m == NULL ? "" : m->peer_address);
    reply_word(dx->reply, "name", m == NULL ? "" : m->name);
    reply_word(dx->reply, "role", m != NULL && m->role == RAFT_VOTER ? "voter" : "learner");
}

/* What a new member needs to know to begin. */
static void join_done(struct cmd_done *dx, const struct op *op, const struct op_result *res)
{
    (void)op;
    struct buf members CLEANUP(buf_deinit) = { 0 };
    raft_members_encode(&members, raft_members(node_raft(dx->env->node)));
    reply_array(dx->reply, 3);
    reply_int(dx->reply, (int64_t)node_cluster_id(dx->env->node));
    reply_int(dx->reply, (int64_t)res->id);
    reply_bulk(dx->reply, buf_slice(&members));
}

static const struct cmd_finish ok_finish = { .done = ok_done };
static const struct cmd_finish add_finish = { .done = add_done };
static const struct cmd_finish join_finish = { .done = join_done };

/* Nothing more is executed for the client until it is answered. */
static enum err change(struct cmd_ctx *cx, enum node_member_change what, const struct raft_member *m,
                       const struct cmd_finish *finish)
{
    ASSERT(cx->client->pending == 0);
    cx->client->pending++;
    cx->client->draining = true;
    struct ticket t = {
        .client_id = cx->client->handle, .kind = TICKET_WRITE, .row = finish,
        .flags = cx->client->reply_mode != 0,
    };
    node_member_change(cx->env->node, what, m, &t);
    return OK;
}

static enum err text_take(struct slice arg, char *out, size_t bytes_max)
{
    if (arg.len > bytes_max) return ERR_LIMIT;
    if (!raft_member_text_is_good(arg)) return ERR_SYNTAX;
    memcpy(out, arg.at, arg.len);
    out[arg.len] = '\0';
    return OK;
}

/* host:port */
static enum err address_take(struct slice arg, char *out)
{
    TRY(text_take(arg, out, RAFT_ADDRESS_BYTES_MAX));
    size_t colon = arg.len;
    while (colon > 0 && arg.at[colon - 1] != ':') colon--;
    uint64_t port = 0;
    if (colon < 2 || arg_u64((struct slice){ arg.at + colon, arg.len - colon }, &port) != OK ||
        port == 0 || port > 65535) {
        return ERR_ADDRESS;
    }
    return OK;
}

static enum err cmd_member_add(struct cmd_ctx *cx)
{
    struct raft_member m = { .role = RAFT_JOINING };
    TRY(address_take(cx->argv[2], m.peer_address));
    for (size_t i = 3; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "LEARNER")) {
            m.role = RAFT_LEARNER;
        } else if (arg_is(cx->argv[i], "NAME") && i + 1 < cx->argc) {
            TRY(text_take(cx->argv[++i], m.name, RAFT_NAME_BYTES_MAX));
        } else {
            return ERR_SYNTAX;
        }
    }
    return change(cx, NODE_MEMBER_ADD, &m, &add_finish);
}

/* MEMBER JOIN member directory peer-address client-address name: what --join sends. */
static enum err cmd_member_join(struct cmd_ctx *cx)
{
    struct raft_member m = { .role = RAFT_JOINING };
    TRY(arg_u64(cx->argv[2], &m.id));
    TRY(arg_u64(cx->argv[3], &m.directory_id));
    if (m.id == 0 || m.directory_id == 0) return ERR_SYNTAX;
    TRY(address_take(cx->argv[4], m.peer_address));
    TRY(address_take(cx->argv[5], m.client_address));
    TRY(text_take(cx->argv[6], m.name, RAFT_NAME_BYTES_MAX));
    return change(cx, NODE_MEMBER_JOIN, &m, &join_finish);
}

static enum err cmd_member_by_id(struct cmd_ctx *cx, enum node_member_change what)
{
    struct raft_member m = { .role = RAFT_LEARNER };
    TRY(arg_u64(cx->argv[2], &m.id));
    if (raft_members_find(raft_members(node_raft(cx->env->node)), m.id) == NULL) return ERR_MEMBER;
    if (what == NODE_MEMBER_UPDATE) TRY(address_take(cx->argv[3], m.peer_address));
    return change(cx, what, &m, &ok_finish);
}

static enum err cmd_member_remove(struct cmd_ctx *cx) { return cmd_member_by_id(cx, NODE_MEMBER_REMOVE); }
static enum err cmd_member_promote(struct cmd_ctx *cx) { return cmd_member_by_id(cx, NODE_MEMBER_PROMOTE); }
static enum err cmd_member_update(struct cmd_ctx *cx) { return cmd_member_by_id(cx, NODE_MEMBER_UPDATE); }
static enum err cmd_member_transfer(struct cmd_ctx *cx) { return cmd_member_by_id(cx, NODE_MEMBER_TRANSFER); }

static enum err cmd_member_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "member");
    return OK;
}

#define CHANGES (CMD_CONN | CMD_ADMIN | CMD_NO_MULTI | CMD_DRAIN)

const struct cmd_def cmd_member_defs[] = {
    { .name = "member", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_COORDINATION,
      .since = "0.1.0", .args = "", .summary = "A container for commands about the members of the group." },
    { .name = "member|list", .run = cmd_member_list, .arity = -2, .flags = CMD_READ | CMD_FAST,
      .is_local = list_is_local,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "[LOCAL]",
      .summary = "Lists the members, their roles and how far each one is." },
    { .name = "member|status", .run = cmd_member_status, .arity = -2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "[id]",
      .summary = "Shows a member's term, index, revision, sizes and alarms." },
    { .name = "member|add", .run = cmd_member_add, .arity = -3, .flags = CHANGES, .group = GROUP_COORDINATION,
      .since = "0.2.0", .args = "address [NAME name] [LEARNER]",
      .summary = "Adds a member; it is promoted to a voter when it is in sync, unless it is to stay a learner." },
    { .name = "member|join", .run = cmd_member_join, .arity = 7, .flags = CHANGES, .group = GROUP_COORDINATION,
      .since = "0.2.0", .args = "id directory peer-address client-address name",
      .summary = "Asked by a server that was started with --join." },
    { .name = "member|remove", .run = cmd_member_remove, .arity = 3, .flags = CHANGES, .group = GROUP_COORDINATION,
      .since = "0.2.0", .args = "id", .summary = "Removes a member for ever." },
    { .name = "member|promote", .run = cmd_member_promote, .arity = 3, .flags = CHANGES, .group = GROUP_COORDINATION,
      .since = "0.2.0", .args = "id", .summary = "Makes a learner that is in sync a voter." },
    { .name = "member|update", .run = cmd_member_update, .arity = 4, .flags = CHANGES, .group = GROUP_COORDINATION,
      .since = "0.2.0", .args = "id address", .summary = "Changes the peer address of a member." },
    { .name = "member|transfer", .run = cmd_member_transfer, .arity = 3, .flags = CHANGES,
      .group = GROUP_COORDINATION, .since = "0.2.0", .args = "id", .summary = "Makes another voter the leader." },
    { .name = "member|help", .run = cmd_member_help, .arity = 2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_COORDINATION, .since = "0.1.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
