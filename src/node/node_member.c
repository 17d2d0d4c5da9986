/* node/node_member.c - changes of the membership: asked for on any node, decided by the leader, one
 * at a time, answered when they are committed.
 *
 * FORMAT  MEMBER_REQUEST  u8 kind | u8 change | 6 bytes 0 | u64 request | one member, as
 *                         raft_members_encode() of a configuration of one
 *         MEMBER_ANSWER   u8 kind | u8 0 | u16 enum err | u32 0 | u64 request | u64 member |
 *                         text, may be empty */
#include "node/node_int.h"

#include "base/log.h"

#define IN_SYNC_ENTRIES 1000 /* a joining member that is no farther behind ... */
#define IN_SYNC_MS 1000      /* ... for so long is promoted */
#define MEMBER_WAITS_MAX 64
#define REQUEST_HEAD_BYTES 16
#define ANSWER_HEAD_BYTES 24
#define TRANSFERRING UINT64_MAX /* as index of a wait */

/* --- finishing ------------------------------------------------------------------------------ */

static void answer_send(struct node *n, const struct member_wait *w, const struct op_result *res)
{
    node_payload_begin(n, PAYLOAD_MEMBER_ANSWER);
    buf_append_u8(&n->wire, 0);
    buf_append_u16(&n->wire, (uint16_t)res->err);
    buf_append_u32(&n->wire, 0);
    buf_append_u64(&n->wire, w->request);
    buf_append_u64(&n->wire, res->id);
    if (res->text != NULL) buf_append(&n->wire, res->text, strlen(res->text));
    node_payload_send(n, w->peer, NODE_CHANNEL_MAIN);
}

/* The wait is out of the list already. */
static void finish(struct node *n, struct member_wait *w, enum err e, const char *text)
{
    struct op_result res = { .err = e, .text = text, .id = w->member.id };
    if (w->peer != 0) {
        answer_send(n, w, &res);
    } else if (w->ticket.row != NULL) {
        struct view v = node_view(n);
        n->hooks.done(n->hooks.ctx, &w->ticket, NULL, &res, &v);
    }
    mem_free(w);
}

void node_members_fail(struct node *n)
{
    while (n->member_waits != NULL) {
        struct member_wait *w = n->member_waits;
        n->member_waits = w->next;
        finish(n, w, w->sent || w->index != 0 ? ERR_TIMEOUT : ERR_CLUSTERDOWN, NULL);
    }
}

/* An earlier request of the same wait was carried out: its answer went with the leader that it
 * removed. */
static bool was_removed_before(const struct member_wait *w, enum err e, unsigned earlier_count)
{
    return e == ERR_MEMBER && w->change == NODE_MEMBER_REMOVE && earlier_count > 0;
}

/* --- deciding ---------------------------------------------------------------------------------- */

static bool is_healthy(const struct node *n, uint64_t id)
{
    if (id == n->identity.member_id) return true;
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(n->raft, i, &peer); i++) {
        if (peer.id != id) continue;
        return peer.heard && peer.silent_ms < n->cfg.election_timeout_ms && peer.state != RAFT_PEER_LOST;
    }
    return false;
}

/* A new leader has not heard of all who are there: what it refuses it may allow in a moment. */
static bool is_new(const struct node *n)
{
    return n->mono_us / 1000 - n->lead_since_ms < n->cfg.election_timeout_ms;
}

/* Would a majority of these voters be there? */
static bool has_quorum(const struct node *n, const struct raft_members *m)
{
    size_t healthy = 0;
    for (size_t i = 0; i < m->count; i++) {
        healthy += m->at[i].role == RAFT_VOTER && is_healthy(n, m->at[i].id);
    }
    return healthy >= raft_members_voter_count(m) / 2 + 1;
}

static const struct raft_member *by_address(const struct raft_members *m, const char *address)
{
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(m->at[i].peer_address, address) == 0) return &m->at[i];
    }
    return NULL;
}

static enum err decide_add(struct raft_members *m, struct raft_member *member, struct errmsg *em)
{
    const struct raft_member *same = raft_members_find(m, member->id);
    if (same != NULL) return OK;
    same = by_address(m, member->peer_address);
    if (same != NULL) {
        errmsg_set(em, "member %llu has this peer address already", (unsigned long long)same->id);
        return ERR_EXISTS;
    }
    return raft_members_put(m, member);
}

/* Joining again is no change; a member that was added by hand gets its directory here. */
static enum err decide_join(struct raft_members *m, struct raft_member *member, struct errmsg *em)
{
    const struct raft_member *same = by_address(m, member->peer_address);
    if (same == NULL) same = raft_members_find(m, member->id);
    if (same == NULL) return raft_members_put(m, member);
    if (same->directory_id != 0 && same->directory_id != member->directory_id) {
        errmsg_set(em, "member %llu has this peer address and another data directory; if that is gone, "
                   "MEMBER REMOVE %llu first", (unsigned long long)same->id, (unsigned long long)same->id);
        return ERR_EXISTS;
    }
    member->id = same->id;
    member->role = same->role;
    return raft_members_put(m, member);
}

static enum err decide_remove(struct node *n, struct raft_members *m, const struct raft_member *member,
                              struct errmsg *em)
{
    bool voter = raft_members_is_voter(m, member->id);
    TRY(raft_members_remove(m, member->id));
    if (!voter) return OK;
    if (raft_members_voter_count(m) == 0) {
        errmsg_set(em, "the only voter cannot be removed");
        return ERR_QUORUM;
    }
    if (has_quorum(n, m)) return OK;
    if (is_new(n)) return ERR_BUSY;
    errmsg_set(em, "without this member too few of the other voters can be reached: the group would stop");
    return ERR_QUORUM;
}

static enum err decide_promote(struct node *n, struct raft_members *m, const struct raft_member *member,
                               struct errmsg *em)
{
    const struct raft_member *now = raft_members_find(m, member->id);
    if (now == NULL) return ERR_MEMBER;
    if (now->role == RAFT_VOTER) {
        errmsg_set(em, "the member is a voter already");
        return ERR_EXISTS;
    }
    struct raft_member voter = *now;
    voter.role = RAFT_VOTER;
    TRY(raft_members_put(m, &voter));
    if (has_quorum(n, m)) return OK;
    if (is_new(n)) return ERR_BUSY;
    errmsg_set(em, "too few of the voters can be reached: with one more the group would stop");
    return ERR_QUORUM;
}

static enum err decide_update(struct raft_members *m, const struct raft_member *member, struct errmsg *em)
{
    const struct raft_member *now = raft_members_find(m, member->id);
    if (now == NULL) return ERR_MEMBER;
    const struct raft_member *same = by_address(m, member->peer_address);
    if (same != NULL && same->id != member->id) {
        errmsg_set(em, "member %llu has this peer address already", (unsigned long long)same->id);
        return ERR_EXISTS;
    }
    struct raft_member fresh = *now;
    memcpy(fresh.peer_address, member->peer_address, sizeof fresh.peer_address);
    if (member->client_address[0] != '\0') {
        memcpy(fresh.client_address, member->client_address, sizeof fresh.client_address);
    }
    if (member->name[0] != '\0') memcpy(fresh.name, member->name, sizeof fresh.name);
    return raft_members_put(m, &fresh);
}

static enum err decide(struct node *n, struct member_wait *w, struct raft_members *m, struct errmsg *em)
{
    switch (w->change) {
    case NODE_MEMBER_ADD: return decide_add(m, &w->member, em);
    case NODE_MEMBER_JOIN: return decide_join(m, &w->member, em);
    case NODE_MEMBER_REMOVE: return decide_remove(n, m, &w->member, em);
    case NODE_MEMBER_PROMOTE: return decide_promote(n, m, &w->member, em);
    case NODE_MEMBER_UPDATE: return decide_update(m, &w->member, em);
    case NODE_MEMBER_TRANSFER: break;
    }
    return ERR_SYNTAX;
}

/* True if the wait is over: *e, *em say how. */
static bool transfer_step(struct node *n, struct member_wait *w, enum err *e, struct errmsg *em)
{
    if (w->index == 0) {
        if (w->member.id == n->identity.member_id) return true;
        struct raft_event ev = { .type = RAFT_EV_TRANSFER, .peer = w->member.id };
        *e = raft_step(n->raft, &ev);
        if (*e == ERR_BUSY) return false;
        w->index = TRANSFERRING;
        if (*e == ERR_MEMBER) errmsg_set(em, "no such other voter");
        return *e != OK;
    }
    if (raft_role(n->raft) != RAFT_LEADER) {
        uint64_t leader = raft_leader(n->raft);
        if (leader == w->member.id) return true;
        if (leader != 0) w->index = 0; /* another one won: it is asked */
        return false;
    }
    if (raft_transfer_target(n->raft) != 0) return false;
    *e = ERR_AGAIN;
    errmsg_set(em, "the member did not take over in time; this one still leads");
    return true;
}

static const char *refusal_text(enum err e)
{
    switch ((int)e) {
    case ERR_QUORUM: return "no voter would be left";
    case ERR_LIMIT: return "too many members, or voters";
    case ERR_AGAIN: return "the learner is not in sync with the leader yet; try again later";
    default: return NULL;
    }
}

/* Leader: true if the wait is over. */
static bool lead_step(struct node *n, struct member_wait *w, enum err *e, struct errmsg *em)
{
    if (w->change == NODE_MEMBER_TRANSFER) return transfer_step(n, w, e, em);
    if (w->index != 0) return false;
    struct raft_members m = *raft_members(n->raft);
    *e = decide(n, w, &m, em);
    if (*e == ERR_BUSY) return false; /* decided later */
    if (was_removed_before(w, *e, w->request_count)) *e = OK;
    if (*e != OK) return true;
    struct raft_event ev = { .type = RAFT_EV_PROPOSE_MEMBERS, .members = &m };
    *e = raft_members_eq(&m, raft_members(n->raft)) ? ERR_EXISTS : raft_step(n->raft, &ev);
    if (*e == ERR_EXISTS) {
        *e = OK; /* it is so already; but is that committed? */
        return raft_members_index(n->raft) <= state_applied_index(n->state);
    }
    if (*e == ERR_BUSY) return false;
    if (*e != OK) {
        const char *text = refusal_text(*e);
        if (text != NULL) errmsg_set(em, "%s", text);
        return true;
    }
    w->index = raft_last_index(n->raft);
    w->term = raft_term(n->raft);
    return false;
}

static void request_send(struct node *n, struct member_wait *w)
{
    struct raft_members one = { .count = 1 };
    one.at[0] = w->member;
    node_payload_begin(n, PAYLOAD_MEMBER_REQUEST);
    buf_append_u8(&n->wire, (uint8_t)w->change);
    buf_append(&n->wire, "\0\0\0\0\0", 6);
    buf_append_u64(&n->wire, w->request);
    raft_members_encode(&n->wire, &one);
    node_payload_send(n, raft_leader(n->raft), NODE_CHANNEL_MAIN);
    w->sent = true;
    w->request_count++;
    w->term = raft_term(n->raft);
}

/* True if the wait is over. */
static bool wait_step(struct node *n, struct member_wait *w, enum err *e, struct errmsg *em)
{
    if (node_leads(n) || w->index == TRANSFERRING) {
        if (lead_step(n, w, e, em)) return true;
    } else if (w->peer != 0) {
        *e = ERR_NOT_LEADER; /* the asker asks again, somebody else */
        if (w->index == 0) return true;
    } else if (w->index == 0 && raft_leader(n->raft) != 0 && raft_leader(n->raft) != n->identity.member_id &&
               (!w->sent || w->term != raft_term(n->raft))) {
        request_send(n, w);
    }
    if (n->mono_us / 1000 - w->since_ms < 2 * n->cfg.request_timeout_ms) return false;
    *e = w->sent || w->index != 0 ? ERR_TIMEOUT : ERR_CLUSTERDOWN;
    return true;
}

void node_members_step(struct node *n)
{
    struct member_wait **at = &n->member_waits;
    while (*at != NULL) {
        struct member_wait *w = *at;
        enum err e = OK;
        struct errmsg em = { "" };
        if (!wait_step(n, w, &e, &em)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        finish(n, w, e, em.text[0] == '\0' ? NULL : em.text);
    }
}

/* The entry of a change was applied; another one at its place means that it was lost. */
void node_members_applied(struct node *n, uint64_t index, uint64_t term)
{
    struct member_wait **at = &n->member_waits;
    while (*at != NULL) {
        struct member_wait *w = *at;
        bool done = w->index == index && w->term == term;
        if (!done) {
            if (w->index != TRANSFERRING && w->index != 0 && w->index <= index) w->index = 0;
            at = &w->next;
            continue;
        }
        *at = w->next;
        finish(n, w, OK, NULL);
    }
}

/* --- asking --------------------------------------------------------------------------------------- */

static void wait_add(struct node *n, struct member_wait *w)
{
    struct member_wait **at = &n->member_waits;
    size_t count = 0;
    for (; *at != NULL; at = &(*at)->next) count++;
    if (count >= MEMBER_WAITS_MAX) {
        finish(n, w, ERR_BUSY, NULL);
        return;
    }
    *at = w;
}

void node_member_change(struct node *n, enum node_member_change change,
                        const struct raft_member *member, const struct ticket *t)
{
    struct member_wait *w = mem_zalloc(sizeof *w);
    *w = (struct member_wait){
        .ticket = *t, .change = change, .member = *member, .request = ++n->member_request,
        .since_ms = n->mono_us / 1000,
    };
    if (w->member.id == 0) w->member.id = node_random_id(n, n->member_request);
    wait_add(n, w);
}

enum err node_on_member_request(struct node *n, uint64_t peer, struct slice in)
{
    if (in.len < REQUEST_HEAD_BYTES) return ERR_PROTO;
    struct raft_members one;
    TRY(raft_members_decode((struct slice){ in.at + REQUEST_HEAD_BYTES, in.len - REQUEST_HEAD_BYTES }, &one));
    if (one.count != 1 || in.at[1] < NODE_MEMBER_ADD || in.at[1] > NODE_MEMBER_TRANSFER) return ERR_PROTO;
    struct member_wait *w = mem_zalloc(sizeof *w);
    *w = (struct member_wait){
        .peer = peer, .request = u64_le(in.at + 8), .change = (enum node_member_change)in.at[1],
        .member = one.at[0], .since_ms = n->mono_us / 1000,
    };
    wait_add(n, w);
    return OK;
}

enum err node_on_member_answer(struct node *n, uint64_t peer, struct slice in)
{
    if (in.len < ANSWER_HEAD_BYTES) return ERR_PROTO;
    enum err e = (enum err)u16_le(in.at + 2);
    if (e >= ERR_SENTINEL) return ERR_PROTO;
    uint64_t request = u64_le(in.at + 8);
    struct errmsg em;
    errmsg_set(&em, "%.*s", (int)MIN(in.len - ANSWER_HEAD_BYTES, sizeof em.text - 1),
               (const char *)in.at + ANSWER_HEAD_BYTES);
    for (struct member_wait **at = &n->member_waits; *at != NULL; at = &(*at)->next) {
        struct member_wait *w = *at;
        if (w->peer != 0 || w->request != request || !w->sent) continue;
        if (e == ERR_NOT_LEADER || peer != raft_leader(n->raft)) {
            w->sent = false; /* it goes to the next leader */
            return OK;
        }
        *at = w->next;
        if (was_removed_before(w, e, w->request_count - 1)) e = OK;
        w->member.id = u64_le(in.at + 16);
        finish(n, w, e, em.text[0] == '\0' ? NULL : em.text);
        return OK;
    }
    return OK;
}

/* --- promotion by itself ----------------------------------------------------------------------------- */

static bool in_sync(const struct node *n, uint64_t id)
{
    struct raft_peer_status peer;
    for (size_t i = 0; raft_peer_status(n->raft, i, &peer); i++) {
        if (peer.id != id) continue;
        return peer.state == RAFT_PEER_REPLICATE && peer.silent_ms < n->cfg.election_timeout_ms &&
               peer.match_index + IN_SYNC_ENTRIES >= raft_last_index(n->raft);
    }
    return false;
}

static bool voters_are_healthy(const struct node *n, const struct raft_members *m)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].role == RAFT_VOTER && !is_healthy(n, m->at[i].id)) return false;
    }
    return true;
}

void node_members_promote(struct node *n)
{
    const struct raft_members *m = raft_members(n->raft);
    if (!node_leads(n) || raft_members_voter_count(m) >= RAFT_VOTERS_MAX) return;
    int64_t now_ms = n->mono_us / 1000;
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].role != RAFT_JOINING || !in_sync(n, m->at[i].id) || !voters_are_healthy(n, m)) {
            n->in_sync_ms[i] = 0;
            continue;
        }
        if (n->in_sync_ms[i] == 0) n->in_sync_ms[i] = now_ms;
        if (now_ms - n->in_sync_ms[i] < IN_SYNC_MS) continue;
        struct raft_members next = *m;
        next.at[i].role = RAFT_VOTER;
        struct raft_event ev = { .type = RAFT_EV_PROPOSE_MEMBERS, .members = &next };
        enum err e = raft_step(n->raft, &ev);
        log_notice("member %s id=%llu", e == OK ? "is promoted" : "waits to be promoted",
                   (unsigned long long)next.at[i].id);
        return;
    }
}
