/* server/member.c - the other members as the server sees them: who is admitted, what goes where. */
#include "server/server_int.h"

#include "base/log.h"
#include "cmd/cmd_peers.h"
#include "disk/identity.h"

#include <stdio.h>

/* --- addresses ------------------------------------------------------------------------------------- */

/* The first of a list of addresses to listen on, as others may use it. */
static void host_of(const char *bind, char *out, size_t out_bytes, bool *everywhere)
{
    bind += strspn(bind, " ");
    size_t len = strcspn(bind, " ");
    struct slice first = { (const uint8_t *)bind, len };
    *everywhere = slice_eq(first, SLICE_LIT("*")) || slice_eq(first, SLICE_LIT("0.0.0.0")) ||
                  slice_eq(first, SLICE_LIT("::")) || len == 0;
    if (*everywhere) {
        snprintf(out, out_bytes, "127.0.0.1");
    } else {
        bool brackets = memchr(bind, ':', len) != NULL;
        snprintf(out, out_bytes, "%s%.*s%s", brackets ? "[" : "", (int)len, bind, brackets ? "]" : "");
    }
}

static enum err address_make(const char *option, const char *value, const char *bind, uint16_t port,
                             char out[RAFT_ADDRESS_BYTES_MAX + 1], struct errmsg *em)
{
    char host[RAFT_ADDRESS_BYTES_MAX + 1];
    struct errmsg why;
    uint16_t given;
    if (value[0] != '\0') {
        if (strlen(value) <= RAFT_ADDRESS_BYTES_MAX && net_split(value, host, sizeof host, &given, &why) == OK) {
            memcpy(out, value, strlen(value) + 1);
            return OK;
        }
        errmsg_set(em, "'%s': %.300s is not host:port", option, value);
        return ERR_CONFIG;
    }
    bool everywhere = false;
    host_of(bind, host, sizeof host, &everywhere);
    int len = snprintf(out, RAFT_ADDRESS_BYTES_MAX + 1, "%s:%u", host, port);
    if (len < 0 || len > RAFT_ADDRESS_BYTES_MAX) {
        errmsg_set(em, "the first address to listen on is too long: give '%s'", option);
        return ERR_CONFIG;
    }
    return OK;
}

static const char *peer_bind(const struct config *c)
{
    return c->peer_bind[0] != '\0' ? c->peer_bind : c->bind;
}

static enum err addresses_make(struct server *s, struct errmsg *em)
{
    const struct config *c = s->cfg;
    char host[RAFT_ADDRESS_BYTES_MAX + 1];
    bool everywhere = false;
    host_of(peer_bind(c), host, sizeof host, &everywhere);
    if (everywhere && c->join[0] != '\0' && c->peer_address[0] == '\0') {
        log_warning("peer-address is not set: the others are told %s, where only this machine is", host);
    }
    TRY(address_make("peer-address", c->peer_address, peer_bind(c), peers_port(s->peers), s->peer_address, em));
    return address_make("client-address", c->client_address, c->bind, s->port, s->client_address, em);
}

/* --- who may speak ------------------------------------------------------------------------------------ */

/* Whom this node does not know may have been added by an entry it has not seen, and may be the one who
 * has that entry. A leader alone is sure; an outdated one steps down soon. */
static enum err admit(void *ctx, uint64_t member_id, uint64_t directory_id, struct errmsg *em)
{
    const struct server *s = ctx;
    unsigned long long id = member_id;
    const struct raft_member *m = raft_members_find(&s->members, member_id);
    if (m == NULL && s->node != NULL && node_leads(s->node)) {
        errmsg_set(em, "member %llu is not in this group: if it was removed, empty its data directory and start "
                   "it with 'join' to come back", id);
        return ERR_MEMBER;
    }
    if (m != NULL && m->directory_id != 0 && m->directory_id != directory_id) {
        errmsg_set(em, "member %llu comes with another data directory than the recorded one: it was wiped or "
                   "replaced. Remove the member (MEMBER REMOVE %llu) and start it with 'join'", id, id);
        return ERR_MEMBER;
    }
    return OK;
}

static enum err receive(void *ctx, uint64_t member_id, struct slice payload)
{
    struct server *s = ctx;
    return s->node == NULL ? OK : node_receive(s->node, member_id, payload); /* NULL: closing */
}

static void unreachable(void *ctx, uint64_t member_id)
{
    struct server *s = ctx;
    if (s->node != NULL) node_unreachable(s->node, member_id);
}

/* --- what the node calls ---------------------------------------------------------------------------- */

static struct server *server_of(void *ctx)
{
    return CONTAINER_OF(ctx, struct server, env);
}

static void hook_send(void *ctx, uint64_t peer, enum node_channel channel, struct slice payload)
{
    struct server *s = server_of(ctx);
    if (s->peers_started) peers_send(s->peers, peer, channel, payload); /* else still being opened */
}

static void hook_flush(void *ctx)
{
    struct server *s = server_of(ctx);
    if (s->peers_started) peers_flush(s->peers);
}

static void hook_members(void *ctx, const struct raft_members *members)
{
    struct server *s = server_of(ctx);
    s->members = *members;
    if (s->peers_started && members->count > 0) peers_members(s->peers, members);
}

void member_hooks(struct node_hooks *hooks)
{
    hooks->send = hook_send;
    hooks->flush = hook_flush;
    hooks->members = hook_members;
}

/* --- life ------------------------------------------------------------------------------------------------ */

static enum err tls_open(struct server *s, struct errmsg *em)
{
    const struct config *c = s->cfg;
    struct tls_config tls = { c->peer_tls_cert_file, c->peer_tls_key_file, c->peer_tls_ca_file, true };
    int given = (tls.cert_file[0] != '\0') + (tls.key_file[0] != '\0') + (tls.ca_file[0] != '\0');
    if (given == 0) return OK;
    if (given < 3) {
        errmsg_set(em, "'peer-tls-cert-file', 'peer-tls-key-file' and 'peer-tls-ca-file' belong together: give "
                   "all three for TLS between the members, or none");
        return ERR_CONFIG;
    }
    return tls_context_new(&tls, &s->peer_tls, em);
}

enum err member_open(struct server *s, const uint64_t random[4], struct errmsg *em)
{
    const struct config *c = s->cfg;
    struct peer_options peers = {
        .bind = peer_bind(c),
        .port = (uint16_t)c->peer_port,
        .reconnect_ms_min = c->peer_reconnect_ms_min,
        .reconnect_ms_max = c->peer_reconnect_ms_max,
        .handshake_ms_max = c->peer_handshake_ms,
        .silence_ms_max = c->peer_silence_ms,
        .bulk_idle_ms = c->peer_bulk_idle_ms,
        .output_bytes_max = (size_t)c->peer_output_bytes_max,
        .conn_count_max = (size_t)c->peer_connections_max,
        .random = random[3],
    };
    TRY(tls_open(s, em));
    peers.tls = s->peer_tls;
    TRY(peers_new(s->loop, &peers, &s->peers, em));
    TRY(addresses_make(s, em));
    struct group_options group = {
        .dir = c->dir, .name = c->name, .initial_cluster = c->initial_cluster, .join = c->join,
        .password = c->requirepass, .peer_address = s->peer_address, .client_address = s->client_address,
        .random = { random[0], random[1], random[2] }, .group = SERVER_GROUP,
    };
    return group_new(&group, s->peers, loop_now_ms(s->loop), &s->group, em);
}

enum err member_start(struct server *s, struct errmsg *em)
{
    struct identity id;
    TRY(identity_load(disk_io_posix(), s->cfg->dir, &id, em));
    struct peer_identity self = { node_cluster_id(s->node), node_member_id(s->node), id.directory_id,
                                  SERVER_GROUP, "", "" };
    snprintf(self.name, sizeof self.name, "%s", s->cfg->name);
    snprintf(self.address, sizeof self.address, "%s", s->peer_address);
    struct peer_hooks hooks = { s, admit, receive, unreachable };
    peers_start(s->peers, &self, &hooks);
    s->peers_started = true;
    peers_members(s->peers, s->members.count > 0 ? &s->members : group_first_members(s->group));
    return OK;
}

void member_turn(struct server *s, int64_t now_ms)
{
    peers_turn(s->peers, now_ms);
}

int64_t member_next_ms(const struct server *s)
{
    return peers_next_ms(s->peers);
}

/* On the loop thread, since an operator asked for it: three small files. */
void member_reload(struct server *s)
{
    struct errmsg em;
    if (s->peer_tls == NULL) {
        log_notice("reload nothing reason=\"no option names a certificate\"");
    } else if (tls_context_reload(s->peer_tls, &em) != OK) {
        log_error("peer certificate kept reason=\"%s\"", em.text);
    } else {
        const struct tls_stats *st = tls_context_stats(s->peer_tls);
        log_notice("peer certificate reloaded generation=%llu expires_s=%lld",
                   (unsigned long long)st->generation, (long long)st->expires_s);
    }
}

void member_stats(void *ctx, struct cmd_peers *out)
{
    const struct server *s = ctx;
    struct peers_stats p;
    peers_stats_get(s->peers, &p);
    *out = (struct cmd_peers){
        .connected_count = p.connected_count, .accepted_count = p.accepted_count,
        .refused = p.refused, .reconnects = p.reconnects, .dropped_messages = p.dropped_frames,
        .sent_messages = p.sent_frames, .sent_bytes = p.sent_bytes,
        .received_messages = p.received_frames, .received_bytes = p.received_bytes,
    };
    if (s->peer_tls == NULL) return;
    const struct tls_stats *t = tls_context_stats(s->peer_tls);
    out->tls = true;
    out->tls_generation = t->generation;
    out->tls_handshakes = t->handshake_count;
    out->tls_refused = t->refuse_count;
    out->tls_reload_failures = t->reload_fail_count;
    out->tls_conn_count = t->conn_count;
    out->tls_old_conn_count = t->old_conn_count;
    out->tls_expires_s = t->expires_s;
}

void member_close(struct server *s)
{
    group_free(s->group);
    peers_free(s->peers);
    tls_context_free(s->peer_tls);
    s->peer_tls = NULL;
    s->group = NULL;
    s->peers = NULL;
    s->peers_started = false;
}
