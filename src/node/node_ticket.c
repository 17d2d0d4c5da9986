/* node/node_ticket.c - tickets: who waits for which operation, in the order of the log. */
#include "node/node_int.h"

#define TICKET_RING_START 1024
#define TICKET_RING_KEPT 8192 /* a larger ring is freed when it is empty */

void ticket_ring_init(struct ticket_ring *r)
{
    *r = (struct ticket_ring){ .cap = TICKET_RING_START };
    r->at = mem_alloc(r->cap * sizeof *r->at);
}

void ticket_ring_deinit(struct ticket_ring *r)
{
    mem_free(r->at);
    *r = (struct ticket_ring){ 0 };
}

static void ring_grow(struct ticket_ring *r)
{
    size_t count = r->tail - r->head;
    struct node_ticket *at = mem_alloc(r->cap * 2 * sizeof *at);
    for (size_t i = 0; i < count; i++) at[i] = r->at[(r->head + i) & (r->cap - 1)];
    mem_free(r->at);
    r->at = at;
    r->cap *= 2;
    r->head = 0;
    r->tail = count;
}

void ticket_ring_push(struct ticket_ring *r, const struct ticket *t, uint64_t seq, uint64_t after)
{
    if (r->tail - r->head == r->cap) ring_grow(r);
    r->at[r->tail++ & (r->cap - 1)] = (struct node_ticket){ *t, seq, after };
}

const struct node_ticket *ticket_ring_head(const struct ticket_ring *r)
{
    return r->head == r->tail ? NULL : &r->at[r->head & (r->cap - 1)];
}

struct node_ticket ticket_ring_pop(struct ticket_ring *r)
{
    ASSERT(r->head != r->tail);
    struct node_ticket t = r->at[r->head++ & (r->cap - 1)];
    if (UNLIKELY(r->head == r->tail) && r->cap > TICKET_RING_KEPT) {
        ticket_ring_deinit(r); /* a burst is over: give its memory back */
        ticket_ring_init(r);
    }
    return t;
}

void node_run_locals(struct node *n, uint64_t seq)
{
    const struct node_ticket *head = ticket_ring_head(&n->tickets);
    while (head != NULL && head->seq == 0 && head->after <= seq) {
        struct node_ticket t = ticket_ring_pop(&n->tickets);
        struct view v = node_view(n);
        n->hooks.done(n->hooks.ctx, &t.ticket, NULL, NULL, &v);
        head = ticket_ring_head(&n->tickets);
    }
}

void node_fail_tickets(struct node *n, enum err e)
{
    struct op_result res = { .err = e };
    struct view v = node_view(n);
    while (ticket_ring_count(&n->tickets) > 0) {
        struct node_ticket t = ticket_ring_pop(&n->tickets);
        if (t.ticket.row == NULL) continue;
        n->hooks.done(n->hooks.ctx, &t.ticket, NULL, &res, &v);
    }
}

static bool is_ours(const struct node *n, const struct apply_origin *o)
{
    return n->open && o->member == n->identity.member_id &&
           o->incarnation == (uint32_t)n->identity.incarnation;
}

/* An operation of ours that no client waits for. */
static void internal_done(struct node *n, const struct op *op, const struct op_result *res)
{
    if (op->kind == OP_EXPIRE) {
        n->expiring = false;
        n->stats.expired_count += (uint64_t)res->number;
    } else if (op->kind == OP_COMPACT) {
        n->compacting = false;
    }
}

/* What was asked for in front of it is done in front of it. */
static void sink_before(void *ctx, const struct apply_origin *o)
{
    struct node *n = ctx;
    if (is_ours(n, o) && o->seq > n->done_seq) node_run_locals(n, UINT64_MAX);
}

static void sink_result(void *ctx, const struct apply_origin *o, const struct op *op,
                        const struct op_result *res)
{
    struct node *n = ctx;
    n->stats.applied_ops++;
    if (!is_ours(n, o) || o->seq <= n->done_seq) return; /* given twice, or answered without */
    struct node_ticket t = ticket_ring_pop(&n->tickets);
    ASSERT(t.seq == o->seq);
    n->done_seq = o->seq;
    if (t.ticket.row == NULL) {
        internal_done(n, op, res);
    } else {
        struct view v = node_view(n);
        n->hooks.done(n->hooks.ctx, &t.ticket, op, res, &v);
    }
    node_run_locals(n, n->done_seq);
}

static void sink_element(void *ctx, const struct apply_origin *o, uint32_t ordinal,
                         const struct op *op, const struct op_result *res, const struct view *v)
{
    struct node *n = ctx;
    if (!is_ours(n, o) || o->seq <= n->done_seq) return;
    const struct node_ticket *t = ticket_ring_head(&n->tickets);
    ASSERT(t != NULL && t->seq == o->seq);
    struct ticket copy = t->ticket;
    if (copy.row != NULL) n->hooks.element(n->hooks.ctx, &copy, ordinal, op, res, v);
}

static bool sink_wants_prev(void *ctx, struct slice key)
{
    struct node *n = ctx;
    return n->hooks.wants_prev(n->hooks.ctx, key);
}

static void sink_event(void *ctx, const struct mvcc_event *ev)
{
    struct node *n = ctx;
    n->dirty_bytes += ev->key.len + ev->value.len + 64;
    if (n->open) n->hooks.event(n->hooks.ctx, ev);
}

static void sink_life(void *ctx, struct slice key, const char *what)
{
    struct node *n = ctx;
    if (n->open) n->hooks.life(n->hooks.ctx, key, what);
}

void node_sink(struct node *n, struct apply_sink *out)
{
    *out = (struct apply_sink){
        .ctx = n,
        .wants_prev = n->open ? sink_wants_prev : NULL,
        .event = sink_event,
        .life = sink_life,
        .before = sink_before,
        .result = sink_result,
        .element = sink_element,
    };
}
