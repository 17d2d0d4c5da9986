/* server/dial.c - see dial.h. */
#include "server/dial.h"

#include "server/resolve.h"

#include <stdio.h>

/* What a connection points to: it may outlive the dial until the end of the turn. */
struct dial_link {
    struct dial *dial; /* NULL: nobody listens any more (I2) */
};

void dial_init(struct dial *d, const struct dial_options *options, const struct dial_hooks *hooks,
               void *user, const char *address, uint64_t random)
{
    ASSERT(options->retry_ms_min > 0);
    ASSERT(options->retry_ms_max >= options->retry_ms_min);
    *d = (struct dial){
        .options = options, .hooks = hooks, .user = user, .random = random,
        .retry_ms = options->retry_ms_min,
    };
    dial_address(d, address);
}

void dial_address(struct dial *d, const char *address)
{
    ASSERT(strlen(address) <= DIAL_ADDRESS_BYTES_MAX);
    memcpy(d->address, address, strlen(address) + 1);
}

/* --- ends --------------------------------------------------------------------------------- */

static void let_go(struct dial *d)
{
    resolve_free(d->resolve);
    d->resolve = NULL;
    if (d->link != NULL) d->link->dial = NULL;
    d->link = NULL;
    if (d->conn != NULL) conn_close(d->conn);
    d->conn = NULL;
}

void dial_stop(struct dial *d)
{
    let_go(d);
    d->phase = DIAL_STOPPED;
    d->retry_ms = d->options->retry_ms_min;
}

/* Between half and all of the pause, so that members do not try in step. Chance takes the next of the
 * addresses, too: in turn they could keep step with an owner who alternates names (dial_address). */
void dial_again(struct dial *d, bool late, int64_t now_ms)
{
    bool was_up = d->phase == DIAL_UP;
    bool held = was_up && now_ms - d->up_since_ms >= DIAL_STABLE_MS;
    let_go(d);
    if (held) d->retry_ms = d->options->retry_ms_min;
    int64_t pause_ms = late ? d->options->retry_ms_max : d->retry_ms;
    d->retry_ms = MIN(d->retry_ms * 2, d->options->retry_ms_max);
    d->random = u64_mix(d->random + 1);
    if (!was_up) d->which = d->random;
    pause_ms = pause_ms / 2 + (int64_t)(d->random % (uint64_t)(pause_ms / 2 + 1));
    d->phase = DIAL_WAITING;
    d->retry_at_ms = now_ms + MAX(pause_ms, 1);
}

void dial_soon(struct dial *d, int64_t now_ms)
{
    if (d->phase == DIAL_WAITING) d->retry_at_ms = MIN(d->retry_at_ms, now_ms);
}

static void dial_failed(struct dial *d, const char *why, int64_t now_ms)
{
    dial_again(d, false, now_ms);
    d->hooks->closed(d->user, why);
}

/* --- the connection ------------------------------------------------------------------------- */

static void link_opened(void *user, struct conn *conn)
{
    struct dial_link *link = user;
    if (link->dial == NULL) return;
    link->dial->hooks->opened(link->dial->user, conn);
}

static size_t link_bytes(void *user, struct conn *conn, struct slice in)
{
    struct dial_link *link = user;
    if (link->dial == NULL) return in.len;
    return link->dial->hooks->bytes(link->dial->user, conn, in);
}

static void link_closed(void *user, struct conn *conn, enum conn_close_reason reason)
{
    struct dial_link *link = user;
    struct dial *d = link->dial;
    if (d != NULL) {
        char tls[128];
        char why[DIAL_ADDRESS_BYTES_MAX + sizeof tls + 8];
        conn_tls_error(conn, tls, sizeof tls);
        /* Before it is established it may be a refusal: by a member without TLS. */
        bool is_cut = conn_is_established(conn) && strcmp(tls, DIAL_TLS_CUT) == 0;
        d->tls_failed = reason == CONN_CLOSE_TLS && !is_cut;
        const char *what = d->tls_failed ? tls : "the other side closed the connection";
        if (reason == CONN_CLOSE_RESET) what = strerror(conn_close_errno(conn));
        snprintf(why, sizeof why, "%s: %s%s", d->address, d->tls_failed ? "TLS: " : "", what);
        d->conn = NULL;
        dial_failed(d, why, loop_now_ms(conn_loop(conn)));
    }
    mem_free(link);
}

static const struct conn_callbacks link_callbacks = {
    .on_bytes = link_bytes,
    .on_close = link_closed,
    .on_open = link_opened,
};

/* Everything between members begins here and in peer_in_accept. */
static void connect_to(struct dial *d, const struct net_addr *addr, int64_t now_ms)
{
    struct errmsg em;
    struct dial_link *link = mem_zalloc(sizeof *link);
    link->dial = d;
    const struct dial_options *o = d->options;
    if (conn_open_tls(o->loop, addr, o->tls, &link_callbacks, link, &d->conn, &em) != OK) {
        mem_free(link);
        dial_failed(d, em.text, now_ms);
        return;
    }
    d->link = link;
    d->phase = DIAL_CONNECTING;
    conn_watch_peer(d->conn, d->options->silence_ms_max);
}

/* --- attempts ------------------------------------------------------------------------------- */

static void resolve_check(struct dial *d, int64_t now_ms)
{
    if (!resolve_is_done(d->resolve)) return;
    struct net_addr addr;
    struct errmsg em;
    enum err e = resolve_result(d->resolve, &addr, &em);
    resolve_free(d->resolve);
    d->resolve = NULL;
    if (e == OK) {
        connect_to(d, &addr, now_ms);
    } else {
        dial_failed(d, em.text, now_ms);
    }
}

static void dial_begin(struct dial *d, int64_t now_ms)
{
    char host[DIAL_ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    struct errmsg em;
    if (net_split(d->address, host, sizeof host, &port, &em) != OK) {
        dial_failed(d, em.text, now_ms);
        return;
    }
    d->deadline_ms = now_ms + d->options->handshake_ms_max;
    d->tls_failed = false;
    d->phase = DIAL_RESOLVING;
    d->resolve = resolve_start(host, port, d->which, d->options->wake_fd);
    resolve_check(d, now_ms);
}

void dial_start(struct dial *d, int64_t now_ms)
{
    if (d->phase == DIAL_STOPPED) dial_begin(d, now_ms);
}

void dial_established(struct dial *d, int64_t now_ms)
{
    ASSERT(d->phase == DIAL_CONNECTING);
    d->phase = DIAL_UP;
    d->up_since_ms = now_ms;
}

void dial_turn(struct dial *d, int64_t now_ms)
{
    if (d->phase == DIAL_WAITING && now_ms >= d->retry_at_ms) dial_begin(d, now_ms);
    if (d->phase == DIAL_RESOLVING) resolve_check(d, now_ms);
    bool unfinished = d->phase == DIAL_RESOLVING || d->phase == DIAL_CONNECTING;
    if (unfinished && now_ms >= d->deadline_ms) {
        char why[DIAL_ADDRESS_BYTES_MAX + 128];
        snprintf(why, sizeof why, "%s: %s", d->address,
                 d->phase == DIAL_RESOLVING ? "its address was not found in time" : "no answer in time");
        dial_failed(d, why, now_ms);
    }
}

int64_t dial_next_ms(const struct dial *d)
{
    switch (d->phase) {
    case DIAL_WAITING: return d->retry_at_ms;
    case DIAL_RESOLVING:
    case DIAL_CONNECTING: return d->deadline_ms;
    case DIAL_STOPPED:
    case DIAL_UP: break;
    }
    return INT64_MAX;
}
