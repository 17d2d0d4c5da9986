/* server/bootstrap.c - see bootstrap.h. */
#include "server/bootstrap.h"

#include "base/log.h"

#include <stdio.h>

#define CLUSTER_ID_MAX ((1ULL << 53) - 1)

/* One of the list. */
struct founder {
    struct bootstrap *bootstrap;
    size_t place;
    bool heard;
    uint64_t member_id, directory_id;
    char client_address[RAFT_ADDRESS_BYTES_MAX + 1];
    struct dial dial;
    char said[PEER_REFUSAL_BYTES_MAX + 1]; /* its last refusal, or ours of it; logged once */
    char last[PEER_REFUSAL_BYTES_MAX + 1]; /* why the last attempt failed */
};

struct bootstrap {
    struct peers *peers;
    struct bootstrap_list list;
    uint32_t group;
    size_t self;
    struct founder at[RAFT_VOTERS_MAX];
    bool complete;
    struct raft_members members;
    struct buf members_bytes;
    int64_t log_ms; /* the next line about whom it waits for */
};

/* --- the list ----------------------------------------------------------------------------------- */

static enum err entry_take(struct slice entry, struct bootstrap_list *out, struct errmsg *em)
{
    const uint8_t *equals = entry.len == 0 ? NULL : memchr(entry.at, '=', entry.len);
    size_t name_len = equals == NULL ? 0 : (size_t)(equals - entry.at);
    size_t address_len = equals == NULL ? 0 : entry.len - name_len - 1;
    bool good = name_len > 0 && name_len <= RAFT_NAME_BYTES_MAX && address_len <= RAFT_ADDRESS_BYTES_MAX;
    if (!good || !raft_member_text_is_good((struct slice){ entry.at, name_len })) {
        errmsg_set(em, "'initial-cluster': '%.*s' is not name=host:port", (int)MIN(entry.len, 100),
                   (const char *)entry.at);
        return ERR_CONFIG;
    }
    if (out->count == RAFT_VOTERS_MAX) {
        errmsg_set(em, "'initial-cluster' names more than %d nodes", RAFT_VOTERS_MAX);
        return ERR_CONFIG;
    }
    char *name = out->at[out->count].name;
    char *address = out->at[out->count].address;
    memcpy(name, entry.at, name_len);
    memcpy(address, equals + 1, address_len);
    name[name_len] = '\0';
    address[address_len] = '\0';
    char host[RAFT_ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    TRY(net_split(address, host, sizeof host, &port, em));
    for (size_t i = 0; i < out->count; i++) {
        bool twice = strcmp(out->at[i].name, name) == 0 || strcmp(out->at[i].address, address) == 0;
        if (!twice) continue;
        errmsg_set(em, "'initial-cluster' has a name or an address twice: %s=%s", name, address);
        return ERR_CONFIG;
    }
    out->count++;
    return OK;
}

static void list_finish(struct bootstrap_list *l)
{
    for (size_t i = 1; i < l->count; i++) {
        for (size_t k = i; k > 0 && strcmp(l->at[k - 1].name, l->at[k].name) > 0; k--) {
            __typeof__(l->at[0]) moved = l->at[k];
            l->at[k] = l->at[k - 1];
            l->at[k - 1] = moved;
        }
    }
    size_t len = 0;
    for (size_t i = 0; i < l->count; i++) {
        int put = snprintf(l->text + len, sizeof l->text - len, "%s%s=%s", i == 0 ? "" : ",",
                           l->at[i].name, l->at[i].address);
        ASSERT(put > 0 && (size_t)put < sizeof l->text - len);
        len += (size_t)put;
    }
}

static size_t list_find(const struct bootstrap_list *l, struct slice name)
{
    size_t at = 0;
    while (at < l->count && !slice_eq(slice_of(l->at[at].name), name)) at++;
    return at;
}

enum err bootstrap_list_parse(const char *text, const char *self_name, struct bootstrap_list *out,
                              struct errmsg *em)
{
    struct bootstrap_list l = { .count = 0 };
    const char *at = text;
    for (;;) {
        size_t len = strcspn(at, ",");
        TRY(entry_take((struct slice){ (const uint8_t *)at, len }, &l, em));
        if (at[len] == '\0') break;
        at += len + 1;
    }
    if (list_find(&l, slice_of(self_name)) == l.count) {
        errmsg_set(em, "'initial-cluster' does not name this node: 'name' is %s", self_name);
        return ERR_CONFIG;
    }
    list_finish(&l);
    *out = l;
    return OK;
}

bool bootstrap_list_of(const struct raft_members *members, struct bootstrap_list *out)
{
    struct bootstrap_list l = { .count = 0 };
    for (size_t i = 0; i < members->count; i++) {
        char entry[RAFT_NAME_BYTES_MAX + RAFT_ADDRESS_BYTES_MAX + 2];
        snprintf(entry, sizeof entry, "%s=%s", members->at[i].name, members->at[i].peer_address);
        if (entry_take(slice_of(entry), &l, NULL) != OK) return false;
    }
    list_finish(&l);
    *out = l;
    return l.count > 0;
}

uint64_t bootstrap_cluster_id(const struct raft_members *members)
{
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    raft_members_encode(&bytes, members);
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a, then mixed: the same in every version */
    for (size_t i = 0; i < bytes.len; i++) hash = (hash ^ bytes.at[i]) * 0x100000001b3ULL;
    uint64_t id = u64_mix(hash) & CLUSTER_ID_MAX;
    return id == 0 ? 1 : id;
}

/* --- completion ------------------------------------------------------------------------------------ */

static void complete(struct bootstrap *b, const struct raft_members *members)
{
    ASSERT(!b->complete);
    b->complete = true;
    b->members = *members;
    raft_members_encode(&b->members_bytes, members);
    for (size_t i = 0; i < b->list.count; i++) dial_stop(&b->at[i].dial);
}

static void complete_if_all_heard(struct bootstrap *b)
{
    struct raft_members members = { .count = 0 };
    for (size_t i = 0; i < b->list.count; i++) {
        const struct founder *f = &b->at[i];
        if (!f->heard) return;
        struct raft_member m = { .id = f->member_id, .directory_id = f->directory_id, .role = RAFT_VOTER };
        memcpy(m.peer_address, b->list.at[i].address, sizeof m.peer_address);
        memcpy(m.client_address, f->client_address, sizeof m.client_address);
        memcpy(m.name, b->list.at[i].name, sizeof m.name);
        enum err e = raft_members_put(&members, &m);
        ASSERT(e == OK);
    }
    log_notice("bootstrap complete members=%zu", members.count);
    complete(b, &members);
}

/* What one that is complete says (I1). */
static enum err adopt(struct bootstrap *b, struct slice bytes, struct errmsg *em)
{
    struct raft_members members;
    struct bootstrap_list list;
    const struct founder *self = &b->at[b->self];
    bool good = raft_members_decode(bytes, &members) == OK && bootstrap_list_of(&members, &list) &&
                strcmp(list.text, b->list.text) == 0 &&
                raft_members_voter_count(&members) == members.count;
    if (!good) {
        errmsg_set(em, "it tells of a group that is not the one of 'initial-cluster'");
        return ERR_PROTO;
    }
    const struct raft_member *m = raft_members_find(&members, self->member_id);
    if (m == NULL || m->directory_id != self->directory_id ||
        strcmp(m->name, b->list.at[b->self].name) != 0) {
        errmsg_set(em, "its group was founded with another data directory of this node");
        return ERR_MEMBER;
    }
    log_notice("bootstrap complete members=%zu told_by=another", members.count);
    complete(b, &members);
    return OK;
}

/* --- meeting ----------------------------------------------------------------------------------------- */

/* Who was wiped, or came too late with another directory. */
static enum err check_recorded(const struct bootstrap *b, const struct peer_founder *who, struct errmsg *em)
{
    const struct raft_member *m = raft_members_find(&b->members, who->member_id);
    if (m != NULL && m->directory_id == who->directory_id && slice_eq(slice_of(m->name), who->name)) return OK;
    errmsg_set(em, "node %.*s is a member with another data directory than the one it has now: it was "
               "wiped or replaced. Remove that member (MEMBER REMOVE) and start the node with 'join' instead "
               "of 'initial-cluster'", (int)who->name.len, (const char *)who->name.at);
    return ERR_MEMBER;
}

/* A copied directory would make two members of one id. */
static enum err check_unique(const struct bootstrap *b, size_t place, const struct peer_founder *who,
                             struct errmsg *em)
{
    for (size_t i = 0; i < b->list.count; i++) {
        const struct founder *f = &b->at[i];
        if (i == place || !f->heard) continue;
        if (f->member_id != who->member_id && f->directory_id != who->directory_id) continue;
        errmsg_set(em, "nodes %s and %s have the same id: one data directory is a copy of the other's; "
                   "empty one of them", b->list.at[i].name, b->list.at[place].name);
        return ERR_MEMBER;
    }
    return OK;
}

/* OK: it is one of us, and what it said is kept. */
static enum err hear(struct bootstrap *b, const struct peer_founder *who, const struct peer_cert *cert,
                     struct errmsg *em)
{
    if (!slice_eq(who->list, slice_of(b->list.text)) || who->group != b->group) {
        errmsg_set(em, "unequal 'initial-cluster': %.*s has '%.*s', %s has '%.190s'", (int)who->name.len,
                   (const char *)who->name.at, (int)MIN(who->list.len, 190), (const char *)who->list.at,
                   b->list.at[b->self].name, b->list.text);
        return ERR_CONFIG;
    }
    size_t place = list_find(&b->list, who->name);
    if (place == b->list.count || place == b->self) {
        errmsg_set(em, "two nodes call themselves %.*s: their 'name' must differ", (int)who->name.len,
                   (const char *)who->name.at);
        return ERR_CONFIG;
    }
    TRY(peer_cert_check(cert, b->list.at[place].address, b->list.at[place].name, em));
    if (b->complete) return check_recorded(b, who, em);
    TRY(check_unique(b, place, who, em));
    struct founder *f = &b->at[place];
    if (f->heard && f->directory_id != who->directory_id) {
        log_warning("bootstrap node=%s has another data directory now", b->list.at[place].name);
    }
    if (!f->heard) log_notice("bootstrap heard=%s", b->list.at[place].name);
    f->heard = true;
    f->member_id = who->member_id;
    f->directory_id = who->directory_id;
    memcpy(f->client_address, who->client_address.at, who->client_address.len);
    f->client_address[who->client_address.len] = '\0';
    if (who->members.len > 0) return adopt(b, who->members, em);
    complete_if_all_heard(b);
    return OK;
}

static struct peer_founder self_founder(const struct bootstrap *b)
{
    const struct founder *self = &b->at[b->self];
    return (struct peer_founder){
        .group = b->group, .member_id = self->member_id, .directory_id = self->directory_id,
        .name = slice_of(b->list.at[b->self].name),
        .client_address = slice_of(self->client_address),
        .list = slice_of(b->list.text),
        .members = b->complete ? buf_slice(&b->members_bytes) : SLICE_NONE,
    };
}

static enum err meet(void *ctx, const struct peer_founder *who, const struct peer_cert *cert,
                     struct peer_founder *answer, struct errmsg *em)
{
    struct bootstrap *b = ctx;
    TRY(hear(b, who, cert, em));
    *answer = self_founder(b);
    return OK;
}

/* --- asking -------------------------------------------------------------------------------------------- */

/* The same words once. */
static void ask_failed(struct founder *f, const char *whose, const char *why)
{
    snprintf(f->last, sizeof f->last, "%s", why);
    if (strncmp(f->said, why, sizeof f->said - 1) == 0) return;
    snprintf(f->said, sizeof f->said, "%s", why);
    log_warning("bootstrap refused node=%s by=%s reason=\"%s\"", f->bootstrap->list.at[f->place].name, whose, why);
}

static void ask_closed(void *user, const char *why)
{
    struct founder *f = user;
    if (f->dial.tls_failed) ask_failed(f, "TLS", why);
    snprintf(f->last, sizeof f->last, "%s", why);
}

static void ask_opened(void *user, struct conn *conn)
{
    struct founder *f = user;
    struct bootstrap *b = f->bootstrap;
    struct errmsg em;
    const char *address = b->list.at[f->place].address;
    if (peer_cert_require(conn, address, b->list.at[f->place].name, &em) != OK) {
        ask_failed(f, "this node", em.text);
        dial_again(&f->dial, true, loop_now_ms(conn_loop(conn)));
        return;
    }
    struct peer_founder self = self_founder(b);
    peer_founder_put(conn_out(conn), &self);
    conn_dirty(conn);
}

static void ask_answered(struct founder *f, const struct conn *conn, const struct peer_frame *frame)
{
    struct errmsg em = { "" };
    struct peer_founder who;
    struct peer_refusal refusal;
    if (frame->kind == PEER_REFUSE && peer_refusal_decode(frame->payload, &refusal, &em) == OK) {
        if (refusal.final) ask_failed(f, "it", refusal.text);
        snprintf(f->last, sizeof f->last, "%s", refusal.text);
        return;
    }
    enum err e = ERR_PROTO;
    if (frame->kind == PEER_FOUNDER) {
        e = peer_founder_decode(frame->payload, &who, &em);
        struct peer_cert cert;
        if (e == OK) e = peer_cert_take(conn, &cert, &em);
        if (e == OK) e = hear(f->bootstrap, &who, &cert, &em);
    } else {
        errmsg_set(&em, "it answers with what is no hello of a founder");
    }
    if (e != OK) ask_failed(f, "this node", em.text);
}

static size_t ask_bytes(void *user, struct conn *conn, struct slice in)
{
    struct founder *f = user;
    struct peer_frame frame;
    struct errmsg em = { "" };
    size_t need = 0;
    enum err e = peer_frame_decode(in, true, &frame, &need, &em);
    if (e == ERR_AGAIN) {
        conn_want(conn, need);
        return 0;
    }
    if (e == OK) {
        ask_answered(f, conn, &frame);
    } else {
        ask_failed(f, "this node", em.text);
    }
    /* Until all is complete it is asked again: it may be complete before this node is. */
    if (f->dial.phase != DIAL_STOPPED) dial_again(&f->dial, true, loop_now_ms(conn_loop(conn)));
    return in.len;
}

static const struct dial_hooks ask_hooks = { .opened = ask_opened, .bytes = ask_bytes, .closed = ask_closed };

/* --- life ----------------------------------------------------------------------------------------------- */

struct bootstrap *bootstrap_new(struct peers *peers, const struct bootstrap_list *list,
                                const struct bootstrap_self *self, const struct raft_members *known,
                                int64_t now_ms)
{
    ASSERT(strlen(self->client_address) <= RAFT_ADDRESS_BYTES_MAX);
    struct bootstrap *b = mem_zalloc(sizeof *b);
    b->peers = peers;
    b->list = *list;
    b->group = self->group;
    b->self = list_find(list, slice_of(self->name));
    ASSERT(b->self < list->count);
    b->log_ms = now_ms + BOOTSTRAP_LOG_MS / 5;
    for (size_t i = 0; i < list->count; i++) {
        struct founder *f = &b->at[i];
        f->bootstrap = b;
        f->place = i;
        uint64_t random = u64_mix(self->directory_id + i);
        dial_init(&f->dial, peers_dial_options(peers), &ask_hooks, f, list->at[i].address, random);
        if (i != b->self) continue;
        f->heard = true;
        f->member_id = self->member_id;
        f->directory_id = self->directory_id;
        memcpy(f->client_address, self->client_address, strlen(self->client_address) + 1);
    }
    peers_meet(peers, meet, b);
    if (known != NULL) {
        complete(b, known);
    } else {
        complete_if_all_heard(b); /* a list of one */
    }
    for (size_t i = 0; !b->complete && i < list->count; i++) {
        if (i != b->self) dial_start(&b->at[i].dial, now_ms);
    }
    return b;
}

void bootstrap_free(struct bootstrap *b)
{
    if (b == NULL) return;
    peers_meet(b->peers, NULL, NULL);
    for (size_t i = 0; i < b->list.count; i++) dial_stop(&b->at[i].dial);
    buf_deinit(&b->members_bytes);
    mem_free(b);
}

const struct raft_members *bootstrap_members(const struct bootstrap *b)
{
    return b->complete ? &b->members : NULL;
}

const char *bootstrap_waits_for(const struct bootstrap *b, char *out, size_t out_bytes)
{
    ASSERT(out_bytes > 0);
    out[0] = '\0';
    size_t len = 0;
    for (size_t i = 0; i < b->list.count && len < out_bytes; i++) {
        if (b->at[i].heard) continue;
        len += (size_t)snprintf(out + len, out_bytes - len, "%s%s", len == 0 ? "" : ", ", b->list.at[i].name);
    }
    return out;
}

/* Of the first one that was not heard and is known to have failed. */
static const char *waits_why(const struct bootstrap *b)
{
    for (size_t i = 0; i < b->list.count; i++) {
        if (!b->at[i].heard && b->at[i].last[0] != '\0') return b->at[i].last;
    }
    return "no answer yet";
}

void bootstrap_turn(struct bootstrap *b, int64_t now_ms)
{
    for (size_t i = 0; !b->complete && i < b->list.count; i++) dial_turn(&b->at[i].dial, now_ms);
    if (b->complete || now_ms < b->log_ms) return;
    b->log_ms = now_ms + BOOTSTRAP_LOG_MS;
    char names[512];
    log_notice("bootstrap waiting_for=\"%s\" list=%s reason=\"%s\"", bootstrap_waits_for(b, names, sizeof names),
               b->list.text, waits_why(b));
}

int64_t bootstrap_next_ms(const struct bootstrap *b)
{
    if (b->complete) return INT64_MAX;
    int64_t next_ms = b->log_ms;
    for (size_t i = 0; i < b->list.count; i++) next_ms = MIN(next_ms, dial_next_ms(&b->at[i].dial));
    return next_ms;
}
