/* server/link.c - one client connection: bytes to commands, and the deadlines of clients. */
#include "server/server_int.h"

#include "base/log.h"

#include <stdio.h>

/* It may wait for ever; a wait for the disk or the log ends by itself. */
static bool waits_for_events(const struct client *c)
{
    return c->blocked && c->block->can_unblock;
}

/* A connection that is idle keeps no decoder. */
static void decoder_keep(struct link *l, struct resp_decoder *d)
{
    if (LIKELY(resp_decoder_is_idle(d))) {
        resp_decoder_deinit(d);
        mem_free(l->decoder);
        l->decoder = NULL;
        return;
    }
    if (l->decoder == NULL) l->decoder = mem_alloc(sizeof *l->decoder);
    *l->decoder = *d;
}

static void decoder_take(struct link *l, struct resp_decoder *out)
{
    if (UNLIKELY(l->decoder != NULL)) {
        *out = *l->decoder;
    } else {
        resp_decoder_init(out, &l->server->env.limits.resp);
    }
}

/* The node is not open: every request is answered, none is executed. */
static size_t link_loading(struct link *l, struct slice in)
{
    struct server *s = l->server;
    char names[256];
    group_waits_for(s->group, names, sizeof names);
    struct slice rest = in;
    struct resp_decoder decoder;
    decoder_take(l, &decoder);
    decoder.authenticated = l->client->authenticated;
    for (;;) {
        struct resp_request request = { .argc = 0 };
        struct errmsg em = { "" };
        enum err e = resp_decode(&decoder, &s->argv, rest, &request, &em);
        struct reply r = reply_to(conn_out(l->conn), 2);
        if (e == OK) {
            reply_error(&r, "LOADING", "Cordis is waiting for the group: %s", names);
        } else if (e == ERR_AGAIN) {
            conn_want(l->conn, request.need_bytes);
        } else if (e == ERR_PROTO) {
            reply_error(&r, "ERR", "%s", em.text);
        }
        client_wrote(&s->env, l->client); /* closes one that does not read */
        if ((e != OK && e != ERR_AGAIN) || l->client->closing) {
            client_close(&s->env, l->client, true);
            resp_decoder_deinit(&decoder);
            return in.len;
        }
        rest = (struct slice){ rest.at + request.used_bytes, rest.len - request.used_bytes };
        if (e == ERR_AGAIN) break;
    }
    decoder_keep(l, &decoder);
    l->partial_since_ms = rest.len == 0 ? 0 : l->partial_since_ms != 0 ? l->partial_since_ms : s->env.now_ms;
    if (l->eof) client_close(&s->env, l->client, true);
    return in.len - rest.len;
}

static size_t link_on_bytes(void *user, struct conn *conn, struct slice in)
{
    struct link *l = user;
    struct server *s = l->server;
    if (s->closing) return in.len; /* too late to be executed */
    if (s->node == NULL) return link_loading(l, in);
    if (UNLIKELY(s->stop_due_ms != 0)) {
        conn_pause(conn); /* what was accepted is finished, nothing new is */
        return 0;
    }
    size_t want = 0;
    bool waits = false;
    s->env.stats.net_input_bytes += in.len;
    struct resp_decoder decoder;
    decoder_take(l, &decoder);
    size_t used = cmd_feed(&s->env, l->client, in, &decoder, &want, &waits);
    decoder_keep(l, &decoder);
    if (conn_is_closing(conn)) return in.len;
    l->partial_since_ms = want == 0 ? 0 : l->partial_since_ms != 0 && used == 0 ? l->partial_since_ms : s->env.now_ms;
    if (in.len == used) l->partial_since_ms = 0;
    if (waits) {
        conn_pause(conn);
    } else if (want > 0) {
        conn_want(conn, want);
    }
    bool over = waits ? waits_for_events(l->client) : want > 0 || used == in.len;
    if (l->eof && over) client_close(&s->env, l->client, true);
    return used;
}

static void link_on_close(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct link *l = user;
    struct server *s = l->server;
    char peer[NET_ADDRESS_TEXT_BYTES_MAX];
    log_debug("client closed id=%llu peer=%s reason=%s", (unsigned long long)client_id(l->client),
              conn_peer_text(conn, peer, sizeof peer), conn_close_reason_name(reason));
    client_free(&s->env, l->client);
    if (l->decoder != NULL) resp_decoder_deinit(l->decoder);
    mem_free(l->decoder);
    if (l->prev != NULL) l->prev->next = l->next;
    if (l->next != NULL) l->next->prev = l->prev;
    if (s->links == l) s->links = l->next;
    mem_free(l);
}

static void link_on_eof(void *user, struct conn *conn)
{
    (void)conn;
    struct link *l = user;
    const struct client *c = l->client;
    l->eof = true;
    /* What was sent before the end is still executed and answered; link_resumed looks again. */
    bool goes_on = c->draining || c->congested || c->paused || c->blocked;
    if (!goes_on || waits_for_events(c)) client_close(&l->server->env, l->client, true);
}

/* What it waited for is there. Without input nothing would come back to say that it is over. */
void link_resumed(struct link *l)
{
    conn_resume(l->conn);
    if (l->eof && conn_input_bytes(l->conn) == 0) client_close(&l->server->env, l->client, true);
}

static void link_on_writable(void *user, struct conn *conn)
{
    struct link *l = user;
    (void)conn;
    l->over_soft_since_ms = 0;
    if (l->server->node == NULL) return; /* waiting or closing: nothing is owed */
    cmd_client_writable(&l->server->env, l->client);
}

static void link_on_written(void *user, size_t bytes)
{
    const struct link *l = user;
    l->server->env.stats.net_output_bytes += bytes;
}

static const struct conn_callbacks link_callbacks = {
    .on_bytes = link_on_bytes,
    .on_close = link_on_close,
    .on_writable = link_on_writable,
    .on_written = link_on_written,
    .on_eof = link_on_eof,
};

static bool is_local(const char *peer)
{
    return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "[::1]", 5) == 0 ||
           strncmp(peer, "unix:", 5) == 0 || strncmp(peer, "[::ffff:127.", 12) == 0;
}

static void refuse(struct conn *conn, const char *line)
{
    chain_append(conn_out(conn), line, strlen(line));
    conn_dirty(conn);
}

static size_t refused_on_bytes(void *user, struct conn *conn, struct slice in)
{
    (void)user;
    (void)conn;
    return in.len;
}

static void refused_on_close(void *user, struct conn *conn, enum conn_close_reason reason)
{
    (void)user;
    (void)conn;
    (void)reason;
}

/* Says why and closes; the connection never becomes a client. */
static void link_refuse(struct server *s, struct conn *conn, const char *line)
{
    static const struct conn_callbacks callbacks = {
        .on_bytes = refused_on_bytes,
        .on_close = refused_on_close,
    };
    s->env.stats.rejected_connections++;
    conn_start(conn, &callbacks, s);
    refuse(conn, line);
    conn_close_after_flush(conn);
}

void link_accept(void *ctx, struct conn *conn)
{
    struct server *s = ctx;
    char peer[NET_ADDRESS_TEXT_BYTES_MAX];
    conn_peer_text(conn, peer, sizeof peer);
    if (client_count(&s->env) >= (size_t)s->cfg->maxclients) {
        link_refuse(s, conn, "-ERR max number of clients reached\r\n");
        return;
    }
    if (s->cfg->protected_mode && s->cfg->requirepass[0] == '\0' && !is_local(peer)) {
        link_refuse(s, conn, "-DENIED Cordis is running in protected mode because protected mode is enabled "
                    "and no password is set. Set a password with 'requirepass', or, if you know what you are "
                    "doing, 'protected-mode no'.\r\n");
        return;
    }
    struct link *l = mem_zalloc(sizeof *l);
    l->server = s;
    l->conn = conn;
    l->client = client_new(&s->env, l, conn_out(conn));
    l->client->is_unix = strncmp(peer, "unix:", 5) == 0;
    l->next = s->links;
    if (s->links != NULL) s->links->prev = l;
    s->links = l;
    conn_start(conn, &link_callbacks, l);
}

/* --- deadlines, once a second ------------------------------------------------------------- */

static bool is_waiting(const struct client *c)
{
    return c->blocked || c->paused || c->is_monitor || c->pending > 0 || c->sub_count > 0 || c->watches != NULL;
}

/* By what it sends. */
static const char *input_overdue(const struct server *s, const struct link *l, int64_t now_ms)
{
    const struct config *cfg = s->cfg;
    const struct client *c = l->client;
    if (client_is_stranger(c) && now_ms - c->created_ms > cfg->handshake_timeout_ms) return "not authenticated in time";
    if (l->partial_since_ms != 0 && !is_waiting(c) && now_ms - l->partial_since_ms > cfg->request_deadline_ms) {
        return "request not complete in time";
    }
    if (cfg->timeout_s > 0 && !is_waiting(c) && now_ms - c->active_ms > cfg->timeout_s * 1000) return "idle";
    return NULL;
}

/* By what it reads. One that closes has as long as it goes on reading: nothing else ends it. */
static const char *output_overdue(const struct server *s, struct link *l, int64_t now_ms)
{
    const struct config *cfg = s->cfg;
    size_t unsent = chain_bytes(conn_out(l->conn));
    bool stuck = l->client->closing && unsent >= l->unsent_bytes;
    l->unsent_bytes = unsent;
    if (unsent <= (size_t)cfg->client_output_soft_bytes && !stuck) {
        l->over_soft_since_ms = 0;
    } else if (l->over_soft_since_ms == 0) {
        l->over_soft_since_ms = now_ms;
    } else if (now_ms - l->over_soft_since_ms > cfg->client_output_soft_ms) {
        return "does not read its output";
    }
    return NULL;
}

void links_check(struct server *s, int64_t now_ms)
{
    struct link *next = NULL;
    for (struct link *l = s->links; l != NULL; l = next) {
        next = l->next;
        if (client_is_gone(l->client)) continue;
        const char *why = l->client->closing ? NULL : input_overdue(s, l, now_ms);
        if (why == NULL) why = output_overdue(s, l, now_ms);
        if (why == NULL) continue;
        char peer[NET_ADDRESS_TEXT_BYTES_MAX];
        log_info("client disconnected id=%llu peer=%s reason=\"%s\"", (unsigned long long)client_id(l->client),
                 conn_peer_text(l->conn, peer, sizeof peer), why);
        client_close(&s->env, l->client, false);
    }
}
