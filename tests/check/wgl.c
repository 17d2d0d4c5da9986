/* Wing and Gong: try every operation that may come first, then the rest without it. Lowe: never
 * try again what was tried with the same operations placed and the same value.
 *
 * Those of unknown outcome have no answer that must wait for them; they are tried last, because
 * most of them are not needed. */
#include "wgl.h"

#include <stdlib.h>

#define ABSENT ((struct value){ false, 0 })

/* What a key holds: the FNV-1a of its bytes (an append goes on from it), or a counter's number. */
struct value {
    bool there;
    uint64_t is;
};

enum test { TEST_NONE, TEST_VALUE, TEST_ABSENT, TEST_THERE };
enum effect { EFFECT_NONE, EFFECT_PUT, EFFECT_DEL, EFFECT_INCR, EFFECT_APPEND };

/* One operation's part on one key. */
struct part {
    size_t op_at;
    struct slice key;
    int64_t invoke_ns;
    int64_t complete_ns; /* HISTORY_NEVER: may be left out */
    enum test condition;
    bool condition_fails; /* it was answered as not held */
    uint64_t condition_is;
    enum test saw;
    uint64_t saw_is;
    enum effect effect;
    uint64_t effect_is;
    const struct history_item *effect_item;
    bool has_result;
    uint64_t result_is;
    bool lifetime;
};

/* --- parts of operations --------------------------------------------------------------------- */

static uint64_t fnv(uint64_t from, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) from = (from ^ s.at[i]) * 0x100000001b3ULL;
    return from;
}

static uint64_t value_of(bool counter, struct slice s)
{
    int64_t number;
    if (counter && i64_parse(s, &number) == OK) return (uint64_t)number;
    return fnv(0xcbf29ce484222325ULL, s);
}

static void part_test(struct part *part, enum test test, uint64_t is, bool fails)
{
    part->condition = test;
    part->condition_is = is;
    part->condition_fails = fails;
}

static void part_learn(struct part *part, const struct history_op *op,
                       const struct history_item *item, bool counter, size_t condition_count)
{
    bool held = op->outcome == HISTORY_UNKNOWN || op->applied;
    bool tells = held || condition_count == 1;
    uint64_t is = value_of(counter, item->value);
    switch (item->role) {
    case HISTORY_ITEM_IF_VALUE:
        if (tells) part_test(part, TEST_VALUE, is, !held);
        break;
    case HISTORY_ITEM_IF_MOD:
        if (tells && item->mod == 0) part_test(part, TEST_ABSENT, 0, !held);
        break;
    case HISTORY_ITEM_IF_EXISTS:
        if (tells) part_test(part, TEST_THERE, 0, !held);
        break;
    case HISTORY_ITEM_SAW:
    case HISTORY_ITEM_NONE:
        part->saw = item->role == HISTORY_ITEM_SAW ? TEST_VALUE : TEST_ABSENT;
        part->saw_is = is;
        break;
    case HISTORY_ITEM_PUT:
    case HISTORY_ITEM_DEL:
    case HISTORY_ITEM_INCR:
    case HISTORY_ITEM_APPEND:
        if (!held) break;
        part->effect = EFFECT_PUT + (enum effect)(item->role - HISTORY_ITEM_PUT);
        part->effect_is = item->role == HISTORY_ITEM_INCR ? (uint64_t)item->number : is;
        part->effect_item = item;
        part->has_result = item->role == HISTORY_ITEM_INCR && item->value.len > 0;
        part->result_is = is;
        break;
    case HISTORY_ITEM_SPAN:
    case HISTORY_ROLE_COUNT: break;
    }
}

static bool op_tells(const struct history_op *op)
{
    if (op->outcome == HISTORY_REFUSED || op->at_rev != 0 || op->kind == HISTORY_RANGE) return false;
    return (op->flags & HISTORY_LOCAL) == 0;
}

/* --- the search ------------------------------------------------------------------------------ */

struct node {
    struct node *prev, *next;
    const struct part *part;
    size_t index; /* of the part */
    bool answer;  /* the part's answer, else its begin */
    struct node *match;
};

struct placed {
    struct node *node;
    struct value before;
};

struct search {
    const struct part *parts;
    size_t count;
    struct node *nodes;
    struct node known;   /* list: begins and answers of those answered */
    struct node unknown; /* list: begins of the others */
    struct value value;
    uint64_t hash[2]; /* of the set of those placed */
    size_t left;      /* answered and not placed */
    struct placed *stack;
    size_t depth;
    uint64_t (*memory)[2];
    size_t memory_cap, memory_count;
    uint64_t steps;
    size_t deepest; /* what is told when it fails */
    size_t deepest_op, deepest_last[3];
};

static bool test_holds(enum test test, uint64_t is, struct value value)
{
    switch (test) {
    case TEST_VALUE: return value.there && value.is == is;
    case TEST_ABSENT: return !value.there;
    case TEST_THERE: return value.there;
    case TEST_NONE: break;
    }
    return true;
}

/* Can the part come here? Then what is there behind it. */
static bool part_apply(const struct part *part, struct value value, struct value *out)
{
    if (part->condition != TEST_NONE &&
        test_holds(part->condition, part->condition_is, value) == part->condition_fails) {
        return false;
    }
    if (!test_holds(part->saw, part->saw_is, value)) return false;
    *out = value;
    switch (part->effect) {
    case EFFECT_PUT: *out = (struct value){ true, part->effect_is }; break;
    case EFFECT_DEL: *out = ABSENT; break;
    case EFFECT_INCR:
        *out = (struct value){ true, (value.there ? value.is : 0) + part->effect_is };
        return !part->has_result || out->is == part->result_is;
    case EFFECT_APPEND:
        *out = !value.there ? (struct value){ true, part->effect_is }
                            : (struct value){ true, fnv(value.is, part->effect_item->value) };
        break;
    case EFFECT_NONE: break;
    }
    return true;
}

/* False when it was there already. */
static bool memory_add(struct search *s, const uint64_t key[2])
{
    if (2 * (s->memory_count + 1) > s->memory_cap) {
        uint64_t (*old)[2] = s->memory;
        size_t old_cap = s->memory_cap;
        s->memory_cap = old_cap == 0 ? 1024 : old_cap * 2;
        s->memory = mem_zalloc(s->memory_cap * sizeof *s->memory);
        for (size_t i = 0; i < old_cap; i++) {
            if (old[i][0] == 0) continue;
            size_t at = old[i][0] & (s->memory_cap - 1);
            while (s->memory[at][0] != 0) at = (at + 1) & (s->memory_cap - 1);
            memcpy(s->memory[at], old[i], sizeof old[i]);
        }
        mem_free(old);
    }
    size_t at = key[0] & (s->memory_cap - 1);
    while (s->memory[at][0] != 0) {
        if (s->memory[at][0] == key[0] && s->memory[at][1] == key[1]) return false;
        at = (at + 1) & (s->memory_cap - 1);
    }
    s->memory[at][0] = key[0];
    s->memory[at][1] = key[1];
    s->memory_count++;
    return true;
}

static bool is_new(struct search *s, size_t index, struct value value)
{
    uint64_t set[2] = { s->hash[0] ^ u64_mix(2 * index + 1), s->hash[1] ^ u64_mix(~(2 * index)) };
    uint64_t is = u64_mix(value.is + (value.there ? 0x9e3779b97f4a7c15ULL : 0));
    uint64_t key[2] = { u64_mix(set[0] ^ is) | 1, u64_mix(set[1] + is) };
    return memory_add(s, key);
}

static void unlink_node(struct node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
}

static void relink_node(struct node *node)
{
    node->prev->next = node;
    node->next->prev = node;
}

static void place(struct search *s, struct node *node, struct value after)
{
    s->stack[s->depth++] = (struct placed){ node, s->value };
    s->value = after;
    s->hash[0] ^= u64_mix(2 * node->index + 1);
    s->hash[1] ^= u64_mix(~(2 * node->index));
    unlink_node(node);
    if (node->match != NULL) {
        unlink_node(node->match);
        s->left--;
    }
}

/* Takes back the newest one; returns what to try next. */
static struct node *take_back(struct search *s)
{
    struct placed last = s->stack[--s->depth];
    if (last.node->match != NULL) {
        relink_node(last.node->match);
        s->left++;
    }
    relink_node(last.node);
    s->hash[0] ^= u64_mix(2 * last.node->index + 1);
    s->hash[1] ^= u64_mix(~(2 * last.node->index));
    s->value = last.before;
    return last.node->next;
}

/* The first answer that nothing unplaced may come behind. */
static const struct node *first_answer(const struct search *s)
{
    const struct node *node = s->known.next;
    while (node != &s->known && !node->answer) node = node->next;
    return node;
}

static void remember_deepest(struct search *s)
{
    if (s->depth < s->deepest) return;
    const struct node *stuck = first_answer(s);
    s->deepest = s->depth;
    s->deepest_op = stuck->part->op_at;
    for (size_t i = 0; i < ARRAY_LEN(s->deepest_last); i++) {
        s->deepest_last[i] =
            s->depth > i ? s->stack[s->depth - 1 - i].node->part->op_at : SIZE_MAX;
    }
}

enum found { FOUND_ORDER, FOUND_NONE, FOUND_TOO_MANY };

static enum found search(struct search *s, uint64_t step_max)
{
    struct node *at = s->known.next;
    while (s->left > 0) {
        if (++s->steps > step_max) return FOUND_TOO_MANY;
        bool end_known = at == &s->known || (at != &s->unknown && at->answer);
        if (end_known) {
            at = s->unknown.next;
            continue;
        }
        if (at == &s->unknown || (at->match == NULL &&
                                  at->part->invoke_ns > first_answer(s)->part->complete_ns)) {
            remember_deepest(s);
            if (s->depth == 0) return FOUND_NONE;
            at = take_back(s);
            continue;
        }
        struct value after;
        if (part_apply(at->part, s->value, &after) && is_new(s, at->index, after)) {
            place(s, at, after);
            at = s->known.next;
        } else {
            at = at->next;
        }
    }
    return FOUND_ORDER;
}

static int by_time(const void *a, const void *b)
{
    const struct node *x = a, *y = b;
    int64_t at_x = x->answer ? x->part->complete_ns : x->part->invoke_ns;
    int64_t at_y = y->answer ? y->part->complete_ns : y->part->invoke_ns;
    if (at_x != at_y) return at_x < at_y ? -1 : 1;
    if (x->answer != y->answer) return x->answer ? 1 : -1; /* at one moment: at the same time */
    return x->index < y->index ? -1 : x->index > y->index;
}

static void append_node(struct node *list, struct node *node)
{
    node->prev = list->prev;
    node->next = list;
    relink_node(node);
}

static void search_init(struct search *s, const struct part *parts, size_t count)
{
    *s = (struct search){ .parts = parts, .count = count };
    s->nodes = mem_zalloc((2 * count + 1) * sizeof *s->nodes);
    s->stack = mem_alloc((count + 1) * sizeof *s->stack);
    s->known.prev = s->known.next = &s->known;
    s->unknown.prev = s->unknown.next = &s->unknown;
    size_t node_count = 0;
    for (size_t i = 0; i < count; i++) {
        s->nodes[node_count++] = (struct node){ .part = &parts[i], .index = i };
        if (parts[i].complete_ns == HISTORY_NEVER) continue;
        s->nodes[node_count++] = (struct node){ .part = &parts[i], .index = i, .answer = true };
        s->left++;
    }
    qsort(s->nodes, node_count, sizeof *s->nodes, by_time);
    struct node **begins = mem_zalloc((count + 1) * sizeof(*begins));
    for (size_t i = 0; i < node_count; i++) {
        struct node *node = &s->nodes[i];
        bool unknown = node->part->complete_ns == HISTORY_NEVER;
        append_node(unknown ? &s->unknown : &s->known, node);
        if (node->answer) {
            begins[node->index]->match = node;
        } else {
            begins[node->index] = node;
        }
    }
    mem_free(begins);
}

static void check_key(const struct history *h, const struct part *parts, size_t count,
                      uint64_t step_max, struct verdict *v)
{
    struct search s;
    search_init(&s, parts, count);
    enum found found = search(&s, step_max);
    if (found == FOUND_TOO_MANY) v->undecided_count++;
    if (found == FOUND_NONE) {
        struct slice key = parts[0].key;
        verdict_add(v, "key %.*s: no order of its operations explains the answers; it gets stuck at",
                    (int)MIN(key.len, 200), (const char *)key.at);
        verdict_op(v, h, s.deepest_op);
        for (size_t i = 0; i < ARRAY_LEN(s.deepest_last); i++) {
            if (s.deepest_last[i] != SIZE_MAX) verdict_op(v, h, s.deepest_last[i]);
        }
    }
    mem_free(s.nodes);
    mem_free(s.stack);
    mem_free(s.memory);
}

/* --- keys ------------------------------------------------------------------------------------- */

struct place {
    size_t op_at;
    const struct history_item *item;
};

static int by_key(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = slice_cmp(x->item->key, y->item->key);
    if (order != 0) return order;
    if (x->op_at != y->op_at) return x->op_at < y->op_at ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static size_t condition_count(const struct history *h, const struct history_op *op)
{
    size_t count = 0;
    for (size_t i = 0; i < op->item_count; i++) {
        enum history_role role = h->items[op->item_first + i].role;
        count += role >= HISTORY_ITEM_IF_VALUE && role <= HISTORY_ITEM_IF_EXISTS;
    }
    return count;
}

static void finish_part(const struct history_op *op, struct part *part)
{
    part->lifetime = op->lease != 0 || op->ttl_ms != 0;
    if (op->outcome == HISTORY_UNKNOWN) return;
    part->complete_ns = op->complete_ns;
    bool one = op->item_count == 1 && part->effect_item == NULL;
    bool deletes = op->kind == HISTORY_DELETE && one;
    if (deletes && !op->applied && part->condition == TEST_NONE) part->saw = TEST_ABSENT;
}

static size_t make_parts(const struct history *h, const struct place *places, size_t count,
                         struct part *parts)
{
    bool counter = false;
    size_t made = 0;
    for (size_t i = 0; i < count; i++) {
        counter = counter || places[i].item->role == HISTORY_ITEM_INCR;
    }
    for (size_t i = 0; i < count;) {
        size_t op_at = places[i].op_at;
        const struct history_op *op = &h->ops[op_at];
        struct part part = { .op_at = op_at, .key = places[i].item->key,
                             .invoke_ns = op->invoke_ns, .complete_ns = HISTORY_NEVER };
        size_t conditions = condition_count(h, op);
        for (; i < count && places[i].op_at == op_at; i++) {
            part_learn(&part, op, places[i].item, counter, conditions);
        }
        finish_part(op, &part);
        bool idle = part.complete_ns == HISTORY_NEVER && part.effect == EFFECT_NONE;
        bool tells = part.effect != EFFECT_NONE || part.condition != TEST_NONE ||
                     part.saw != TEST_NONE;
        if (tells && !idle) parts[made++] = part;
    }
    return made;
}

void wgl_check(const struct history *h, uint64_t step_max, struct verdict *v)
{
    struct place *places = mem_alloc((h->item_count + 1) * sizeof *places);
    size_t count = 0;
    for (size_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        for (size_t k = 0; op_tells(op) && k < op->item_count; k++) {
            places[count++] = (struct place){ i, &h->items[op->item_first + k] };
        }
    }
    if (count > 0) qsort(places, count, sizeof *places, by_key);
    for (size_t first = 0; first < count;) {
        size_t end = first + 1;
        while (end < count && slice_eq(places[end].item->key, places[first].item->key)) end++;
        struct part *parts = mem_alloc((end - first) * sizeof *parts);
        size_t made = make_parts(h, places + first, end - first, parts);
        bool lives = true;
        for (size_t i = 0; i < made; i++) lives = lives && !parts[i].lifetime;
        if (made > 0 && lives) check_key(h, parts, made, step_max, v);
        mem_free(parts);
        first = end;
    }
    mem_free(places);
}
