/* server/peer_in.c - see peer.h. The connections that other members opened: who may speak. */
#include "server/peer_int.h"

#include "base/log.h"

/* --- life ----------------------------------------------------------------------------------------- */

static void in_unlink(struct peer_in *in)
{
    struct peers *p = in->peers;
    if (p == NULL) return;
    if (!in->closed) p->in_count--;
    if (in->prev != NULL) in->prev->next = in->next;
    if (in->next != NULL) in->next->prev = in->prev;
    if (p->ins == in) p->ins = in->next;
}

static void in_close(struct peer_in *in)
{
    if (!in->closed) in->peers->in_count--;
    in->closed = true;
    in->admitted = false;
    conn_close(in->conn);
}

static void in_tls_failed(const struct peer_in *in);

static void in_closed(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct peer_in *in = user;
    if (in->admitted && in->peers != NULL) {
        log_debug("peer gone member=%llu channel=%d reason=%s", (unsigned long long)in->member_id,
                  in->channel, conn_close_reason_name(reason));
    }
    (void)conn;
    bool is_refused = reason == CONN_CLOSE_TLS && !in->admitted && !in->closed;
    if (is_refused && in->peers != NULL) in_tls_failed(in);
    in_unlink(in);
    mem_free(in);
}

void peer_in_free_all(struct peers *p)
{
    while (p->ins != NULL) {
        struct peer_in *in = p->ins;
        p->ins = in->next;
        in->peers = NULL;
        conn_close(in->conn);
    }
}

void peer_in_drop_member(struct peers *p, uint64_t member_id)
{
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (in->admitted && in->member_id == member_id) in_close(in);
    }
}

/* --- refusing --------------------------------------------------------------------------------------- */

/* The same words once a minute, whoever earns them. */
static void log_refusal(struct peers *p, const struct peer_in *in, enum log_level level, const char *why)
{
    int64_t now_ms = loop_now_ms(p->loop);
    size_t slot = u64_mix(bytes_hash(why, strlen(why), p->options.random)) % PEER_LOG_SLOTS;
    if (p->logged_ms[slot] != 0 && now_ms - p->logged_ms[slot] < PEER_LOG_PAUSE_MS) return;
    p->logged_ms[slot] = now_ms;
    log_write(level, "peer refused from=%s reason=\"%s\"", in->from, why);
}

static void in_refuse(struct peer_in *in, bool final, const char *why)
{
    struct peers *p = in->peers;
    p->stats.refused++;
    log_refusal(p, in, final ? LOG_WARNING : LOG_INFO, why);
    in->admitted = false;
    in->deadline_ms = loop_now_ms(p->loop) + p->options.handshake_ms_max;
    peer_refusal_put(conn_out(in->conn), final, why);
    conn_dirty(in->conn);
    conn_close_after_flush(in->conn);
}

void peer_in_refuse_member(struct peers *p, uint64_t member_id, const char *why)
{
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (in->admitted && in->member_id == member_id) in_refuse(in, true, why);
    }
}

/* Bytes that cannot be: nothing is answered to who speaks another protocol. */
static void in_broken(struct peer_in *in, enum err e, const char *why)
{
    if (e == ERR_UNSUPPORTED) {
        in_refuse(in, true, why);
        return;
    }
    in->peers->stats.refused++;
    log_refusal(in->peers, in, LOG_WARNING, why);
    in_close(in);
}

static void in_tls_failed(const struct peer_in *in)
{
    struct peers *p = in->peers;
    char error[128];
    struct errmsg em;
    conn_tls_error(in->conn, error, sizeof error);
    if (strcmp(error, DIAL_TLS_CUT) == 0) return;
    bool is_plain = strstr(error, "wrong version number") != NULL; /* as OpenSSL calls what is no TLS */
    errmsg_set(&em, "TLS: %s%s", error, is_plain ? ": it may be a member without TLS" : "");
    p->stats.refused++;
    log_refusal(p, in, LOG_WARNING, em.text);
}

/* --- handshakes --------------------------------------------------------------------------------------- */

/* Whom this node does not know may have been added by an entry it has not seen (peer.h). */
static enum err cert_check(const struct peer_in *in, uint64_t member_id, struct errmsg *em)
{
    const struct peer *peer = peers_find(in->peers, member_id);
    if (peer != NULL) return peer_cert_require(in->conn, peer->address, peer->name, em);
    struct peer_cert cert;
    return peer_cert_take(in->conn, &cert, em);
}

/* OK, or a refusal in words. */
static enum err hello_check(const struct peer_in *in, const struct peer_hello *h, struct errmsg *em)
{
    const struct peers *p = in->peers;
    unsigned long long from = h->from_id, cluster = h->cluster_id;
    if (h->cluster_id != p->self.cluster_id || h->group != p->self.group) {
        errmsg_set(em, "member %llu belongs to cluster %llu, this one to cluster %llu: two groups "
                   "are configured with each other's addresses", from, cluster,
                   (unsigned long long)p->self.cluster_id);
        return ERR_MEMBER;
    }
    if (h->to_id != p->self.member_id || h->from_id == p->self.member_id) {
        errmsg_set(em, "member %llu looks for member %llu here, but this is member %llu: its address "
                   "changed hands", from, (unsigned long long)h->to_id,
                   (unsigned long long)p->self.member_id);
        return ERR_MEMBER;
    }
    if (h->channel >= NODE_CHANNEL_COUNT) {
        errmsg_set(em, "member %llu opens channel %u, which there is not", from, h->channel);
        return ERR_PROTO;
    }
    TRY(cert_check(in, h->from_id, em));
    return p->hooks.admit(p->hooks.ctx, h->from_id, h->directory_id, em);
}

static void replace_older(struct peers *p, const struct peer_in *newer)
{
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        bool same = in->admitted && in->member_id == newer->member_id && in->channel == newer->channel;
        if (in != newer && same) in_close(in);
    }
}

static void in_hello(struct peer_in *in, struct slice payload)
{
    struct peers *p = in->peers;
    struct peer_hello h;
    struct errmsg em = { "" };
    enum err e = peer_hello_decode(payload, &h, &em);
    if (e != OK) {
        in_broken(in, e, em.text);
        return;
    }
    if (!p->started) {
        in_refuse(in, false, "this node has not started yet");
        return;
    }
    e = hello_check(in, &h, &em);
    if (e != OK) {
        in_refuse(in, e != ERR_AGAIN, em.text);
        return;
    }
    in->member_id = h.from_id;
    in->channel = (enum node_channel)h.channel;
    in->admitted = true;
    replace_older(p, in);
    struct peer *peer = peers_find(p, h.from_id);
    if (peer == NULL) peers_stranger(p, h.from_id, h.directory_id, h.name, h.address);
    if (peer != NULL) peer_is_there(peer, h.address); /* who comes back is not left waiting for the next attempt */
    peer_welcome_put(conn_out(in->conn),
                     &(struct peer_welcome){ p->self.member_id, p->self.directory_id });
    conn_dirty(in->conn);
}

static void in_founder(struct peer_in *in, struct slice payload)
{
    struct peers *p = in->peers;
    struct peer_founder who;
    struct peer_founder answer;
    struct errmsg em = { "" };
    enum err e = peer_founder_decode(payload, &who, &em);
    if (e != OK) {
        in_broken(in, e, em.text);
        return;
    }
    if (p->meet == NULL) {
        in_refuse(in, false, "this node founds no group with others: start it with the same "
                  "'initial-cluster', or let the new node join with 'join'");
        return;
    }
    struct peer_cert cert;
    e = peer_cert_take(in->conn, &cert, &em);
    if (e == OK) e = p->meet(p->meet_ctx, &who, &cert, &answer, &em);
    if (e != OK) {
        in_refuse(in, e != ERR_AGAIN, em.text);
        return;
    }
    peer_founder_put(conn_out(in->conn), &answer);
    conn_dirty(in->conn);
    conn_close_after_flush(in->conn);
}

bool peer_in_speaks(const struct peers *p, uint64_t member_id)
{
    for (const struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (in->admitted && !in->closed && in->member_id == member_id) return true;
    }
    return false;
}

void peer_in_check(struct peers *p)
{
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        struct errmsg em;
        if (in->admitted && cert_check(in, in->member_id, &em) != OK) in_refuse(in, true, em.text);
    }
}

/* --- input ----------------------------------------------------------------------------------------------- */

static void in_payload(struct peer_in *in, struct slice payload)
{
    struct peers *p = in->peers;
    p->stats.received_frames++;
    p->stats.received_bytes += PEER_FRAME_HEAD_BYTES + payload.len;
    enum err e = p->hooks.receive(p->hooks.ctx, in->member_id, payload);
    if (e == OK) return;
    struct errmsg em;
    errmsg_set(&em, "member %llu sent a message that cannot be: %s", (unsigned long long)in->member_id,
               err_text(e));
    in_broken(in, ERR_PROTO, em.text);
}

static void in_frame(struct peer_in *in, const struct peer_frame *f)
{
    if (in->admitted && f->kind == PEER_PAYLOAD) {
        in_payload(in, f->payload);
    } else if (!in->admitted && f->kind == PEER_HELLO) {
        in_hello(in, f->payload);
    } else if (!in->admitted && f->kind == PEER_FOUNDER) {
        in_founder(in, f->payload);
    } else {
        in_broken(in, ERR_PROTO, "a frame that is not for this moment");
    }
}

static size_t in_bytes(void *user, struct conn *conn, struct slice all)
{
    struct peer_in *in = user;
    struct slice rest = all;
    while (!conn_is_closing(conn)) {
        struct peer_frame f;
        struct errmsg em;
        size_t need = 0;
        enum err e = peer_frame_decode(rest, !in->admitted, &f, &need, &em);
        if (e == ERR_AGAIN) {
            conn_want(conn, need);
            return all.len - rest.len;
        }
        if (e != OK) {
            in_broken(in, e, em.text);
            break;
        }
        in_frame(in, &f);
        rest = (struct slice){ rest.at + f.used_bytes, rest.len - f.used_bytes };
    }
    return all.len;
}

/* --- accepting --------------------------------------------------------------------------------------------- */

static const struct conn_callbacks in_callbacks = { .on_bytes = in_bytes, .on_close = in_closed };

/* The oldest one that has not shaken hands; NULL: all have. */
static struct peer_in *stranger(struct peers *p)
{
    struct peer_in *found = NULL;
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (!in->admitted && !in->closed) found = in;
    }
    return found;
}

void peer_in_accept(void *ctx, struct conn *conn)
{
    struct peers *p = ctx;
    struct peer_in *gives_way = p->in_count >= p->options.conn_count_max ? stranger(p) : NULL;
    if (gives_way != NULL) in_close(gives_way);
    struct peer_in *in = mem_zalloc(sizeof *in);
    in->peers = p;
    in->conn = conn;
    conn_peer_text(conn, in->from, sizeof in->from);
    in->deadline_ms = loop_now_ms(p->loop) + p->options.handshake_ms_max;
    in->next = p->ins;
    if (p->ins != NULL) p->ins->prev = in;
    p->ins = in;
    conn_input_limit(conn, PEER_FRAME_HEAD_BYTES + PEER_FRAME_BYTES_MAX);
    conn_watch_peer(conn, p->options.silence_ms_max);
    if (p->options.tls != NULL) conn_start_tls(conn, p->options.tls, TLS_SERVER);
    conn_start(conn, &in_callbacks, in);
    if (p->in_count++ >= p->options.conn_count_max) {
        in_refuse(in, false, "too many connections of members ('peer-max-connections')");
    }
}

/* --- the turn ------------------------------------------------------------------------------------------------ */

void peer_in_turn(struct peers *p, int64_t now_ms)
{
    for (struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (!in->admitted && !in->closed && now_ms >= in->deadline_ms) in_close(in);
    }
}

int64_t peer_in_next_ms(const struct peers *p)
{
    int64_t next_ms = INT64_MAX;
    for (const struct peer_in *in = p->ins; in != NULL; in = in->next) {
        if (!in->admitted && !in->closed) next_ms = MIN(next_ms, in->deadline_ms);
    }
    return next_ms;
}
