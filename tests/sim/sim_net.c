/* tests/sim/sim_net.c - payloads between members, and the connections of clients. */
#include "sim_int.h"

#include <stdio.h>

#define DELAY_US_MIN 50
#define DELAY_US_MAX 500
#define CLIENT_DELAY_US_MAX 300
#define BROKEN_TOLD_US_MAX 300000 /* until somebody learns that a peer is gone */

/* --- between members ------------------------------------------------------------------------ */

struct sim_link *sim_link(struct sim *s, size_t from, size_t to) { return &s->links[from][to]; }

void sim_network_reset(struct sim *s)
{
    for (size_t i = 0; i < SIM_NODES_MAX; i++) {
        for (size_t k = 0; k < SIM_NODES_MAX; k++) {
            s->links[i][k] = (struct sim_link){ .delay_us_min = DELAY_US_MIN, .delay_us_max = DELAY_US_MAX };
        }
    }
}

struct told {
    struct sim *s;
    size_t node;
    uint64_t life, member;
};

static void tell_unreachable(void *ctx, uint64_t arg)
{
    struct told *t = ctx;
    struct sim_node *n = &t->s->nodes[t->node];
    (void)arg;
    if (n->up && n->life == t->life && n->paused_until_us <= t->s->now_us) {
        sim_current = n;
        node_unreachable(n->node, t->member);
        sim_wake(t->s, n, t->s->now_us);
    }
    mem_free(t);
}

void net_call_drop(const struct event *e)
{
    if (e->fn == tell_unreachable) mem_free(e->ctx);
}

static void unreachable_later(struct sim_node *n, uint64_t member)
{
    struct told *t = mem_alloc(sizeof *t);
    *t = (struct told){ n->sim, n->at, n->life, member };
    sim_at(n->sim, n->sim->now_us + (int64_t)sim_random(n->sim, BROKEN_TOLD_US_MAX), tell_unreachable, t, 0);
}

void net_unreachable_all(struct sim *s, uint64_t member_id)
{
    for (size_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].up && s->nodes[i].member_id != member_id) unreachable_later(&s->nodes[i], member_id);
    }
}

static void deliver_at(struct sim *s, int64_t at_us, struct sim_node *from, struct sim_node *to, struct slice payload)
{
    event_push(s, &(struct event){
        .at_us = at_us, .kind = EVENT_PAYLOAD, .node = (uint8_t)to->at, .id = to->life, .from = from->member_id,
        .bytes = blob_copy(payload),
    });
}

void net_send(struct sim_node *n, uint64_t peer, enum node_channel channel, struct slice payload)
{
    struct sim *s = n->sim;
    struct sim_node *to = node_by_member(s, peer);
    s->stats.payloads++;
    sim_note(s, crc32c(0, payload.at, payload.len));
    if (to == NULL || !to->up) {
        s->stats.payloads_lost++;
        return;
    }
    struct sim_link *l = &s->links[n->at][to->at];
    if (l->blocked || sim_chance(s, l->loss_ppm)) {
        s->stats.payloads_lost++;
        /* A stream does not lose something in its middle: it breaks. Sometimes nobody notices. */
        if (!l->blocked && sim_chance(s, 500000)) unreachable_later(n, peer);
        return;
    }
    int64_t span_us = l->delay_us_max - l->delay_us_min;
    int64_t at_us = s->now_us + l->delay_us_min + (int64_t)sim_random(s, (uint64_t)span_us + 1);
    int64_t *last_us = &s->channel_us[n->at][to->at][channel];
    if (!sim_chance(s, l->reorder_ppm)) {
        at_us = MAX(at_us, *last_us + 1);
        *last_us = at_us;
    }
    deliver_at(s, at_us, n, to, payload);
    if (sim_chance(s, l->duplicate_ppm)) deliver_at(s, at_us + (int64_t)sim_random(s, 10000), n, to, payload);
}

/* --- clients: the server's end ------------------------------------------------------------------- */

struct sim_conn *conn_find_id(struct sim *s, uint64_t id)
{
    return id == 0 || id > s->next_conn ? NULL : s->conns[id - 1];
}

static void io_dirty(void *ctx, void *link)
{
    (void)ctx;
    struct sim_conn *c = link;
    c->dirty = true;
}

static void io_close(void *ctx, void *link, bool after_flush)
{
    (void)ctx;
    struct sim_conn *c = link;
    c->closing = true;
    c->after_flush = after_flush;
    c->dirty = true;
}

static void io_resume(void *ctx, void *link)
{
    struct sim_node *n = ctx;
    struct sim_conn *c = link;
    c->paused = false;
    c->want = 0;
    sim_wake(n->sim, n, n->sim->now_us + 1);
}

static const char *io_address(void *ctx, void *link, bool peer, char *out, size_t out_bytes)
{
    (void)ctx;
    (void)link;
    snprintf(out, out_bytes, "127.0.0.1:%d", peer ? 2 : 1);
    return out;
}

static void io_shutdown(void *ctx) { (void)ctx; }
static int64_t io_clock_us(void *ctx) { return node_mono_us(ctx); }

static void io_config_get(void *ctx, struct slice pattern, struct buf *pairs)
{
    (void)ctx;
    (void)pattern;
    (void)pairs;
}

static void io_config_set(void *ctx, struct slice name, struct slice value)
{
    (void)ctx;
    (void)name;
    (void)value;
}

static enum err io_config_rewrite(void *ctx, struct errmsg *em)
{
    (void)ctx;
    (void)em;
    return ERR_CONFIG;
}

void conn_io(struct sim_node *n)
{
    n->env.io = (struct cmd_io){
        .ctx = n, .dirty = io_dirty, .close = io_close, .resume = io_resume, .address = io_address,
        .pool = &n->pool, .shutdown = io_shutdown, .clock_us = io_clock_us, .config_get = io_config_get,
        .config_set = io_config_set, .config_rewrite = io_config_rewrite,
    };
}

void conn_deliver(struct sim_conn *c)
{
    struct sim_node *n = &c->sim->nodes[c->node];
    if (c->client == NULL || c->paused || c->closing || c->in.len == 0 || c->in.len < c->want) return;
    bool waits = false;
    c->want = 0;
    sim_log(c->sim, "conn %llu > %.*s", (unsigned long long)c->id, (int)MIN(c->in.len, 500), (const char *)c->in.at);
    size_t used = cmd_feed(&n->env, c->client, buf_slice(&c->in), &c->decoder, &c->want, &waits);
    buf_consume(&c->in, MIN(used, c->in.len));
    if (c->want > 0) c->want += 0;
    if (waits) c->paused = true;
}

static void to_client(struct sim_conn *c, enum event_kind kind, struct blob *bytes)
{
    struct sim *s = c->sim;
    int64_t at_us = s->now_us + (int64_t)sim_random(s, CLIENT_DELAY_US_MAX);
    at_us = MAX(at_us, c->out_us + 1);
    c->out_us = at_us;
    event_push(s, &(struct event){ .at_us = at_us, .kind = (uint8_t)kind, .id = c->id, .bytes = bytes });
}

void conn_flush(struct sim_conn *c)
{
    if (!c->dirty || c->client == NULL) return;
    c->dirty = false;
    size_t bytes = chain_bytes(&c->out);
    if (bytes == 0) return;
    if (c->closing && !c->after_flush) return;
    struct blob *b = blob_new(bytes);
    struct iovec iov[16];
    while (chain_bytes(&c->out) > 0) {
        size_t count = chain_iov(&c->out, iov, ARRAY_LEN(iov));
        size_t taken = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(b->at + b->len, iov[i].iov_base, iov[i].iov_len);
            b->len += iov[i].iov_len;
            taken += iov[i].iov_len;
        }
        chain_consume(&c->out, taken);
    }
    sim_note(c->sim, crc32c(0, b->at, b->len));
    sim_log(c->sim, "conn %llu < %.*s", (unsigned long long)c->id, (int)MIN(b->len, 2000), (const char *)b->at);
    to_client(c, EVENT_CLIENT_OUT, b);
    cmd_client_writable(&c->sim->nodes[c->node].env, c->client);
}

static void server_end_close(struct sim_node *n, struct sim_conn *c)
{
    client_free(&n->env, c->client);
    c->client = NULL;
    resp_decoder_deinit(&c->decoder);
    chain_deinit(&c->out);
    to_client(c, EVENT_CLIENT_CLOSED, NULL);
}

void conns_reap(struct sim_node *n)
{
    struct sim_conn **at = &n->conns;
    while (*at != NULL) {
        struct sim_conn *c = *at;
        if (!c->closing && !c->client_gone) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        server_end_close(n, c);
    }
}

void conns_close_all(struct sim_node *n)
{
    while (n->conns != NULL) {
        struct sim_conn *c = n->conns;
        n->conns = c->next;
        server_end_close(n, c);
    }
}

void conn_release(struct sim *s, struct sim_conn *c)
{
    ASSERT(c->client == NULL);
    s->conns[c->id - 1] = NULL;
    buf_deinit(&c->in);
    mem_free(c);
}

void conns_free(struct sim *s)
{
    for (uint64_t i = 0; i < s->next_conn; i++) {
        if (s->conns[i] != NULL) conn_release(s, s->conns[i]);
    }
    mem_free(s->conns);
}

/* --- clients: their end --------------------------------------------------------------------------------- */

uint64_t sim_connect(struct sim *s, size_t at, const struct sim_conn_hooks *hooks, void *ctx)
{
    struct sim_node *n = &s->nodes[at];
    if (!n->up) return 0;
    if (s->next_conn == s->conn_cap) {
        s->conn_cap = s->conn_cap == 0 ? 256 : s->conn_cap * 2;
        s->conns = mem_realloc(s->conns, s->conn_cap * sizeof *s->conns);
    }
    struct sim_conn *c = mem_zalloc(sizeof *c);
    s->conns[s->next_conn++] = c;
    c->id = s->next_conn;
    c->sim = s;
    c->node = at;
    c->hooks = *hooks;
    c->ctx = ctx;
    c->next = n->conns;
    n->conns = c;
    chain_init(&c->out, &n->pool);
    resp_decoder_init(&c->decoder, &n->env.limits.resp);
    c->client = client_new(&n->env, c, &c->out);
    return c->id;
}

void sim_send(struct sim *s, uint64_t conn, struct slice bytes)
{
    struct sim_conn *c = conn_find_id(s, conn);
    if (c == NULL) return;
    int64_t at_us = s->now_us + (int64_t)sim_random(s, CLIENT_DELAY_US_MAX);
    c->in_us = MAX(at_us, c->in_us + 1);
    event_push(s, &(struct event){ .at_us = c->in_us, .kind = EVENT_CLIENT_IN, .id = conn, .bytes = blob_copy(bytes) });
}

void sim_close(struct sim *s, uint64_t conn)
{
    struct sim_conn *c = conn_find_id(s, conn);
    if (c == NULL) return;
    c->client_gone = true;
    sim_wake(s, &s->nodes[c->node], s->now_us);
}
