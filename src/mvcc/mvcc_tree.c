/* mvcc/mvcc_tree.c - see mvcc_tree_int.h. */
#include "mvcc/mvcc_tree_int.h"

#define LINE_BYTES 64
#define LEAF_FEW (TREE_SLOTS / 4)
#define LEAF_JOIN_MAX (TREE_SLOTS * 3 / 4)
#define LEAF_BUILD_COUNT 60 /* a little room, so that the first inserts need not split */
#define INNER_BUILD_COUNT 56
/* After a split heads are computed anew only if this many bytes more can be skipped. */
#define SKIP_GAIN_MIN 4

/* The way down: the child taken in each inner node, the root first; and how many bytes the
 * separators around the leaf share: so do all keys between them (T2). */
struct path {
    size_t shared_bytes;
    struct tree_inner *inner[TREE_HEIGHT_MAX];
    unsigned at[TREE_HEIGHT_MAX];
};

/* --- keys ------------------------------------------------------------------------ */

size_t key_common_bytes(struct slice a, struct slice b)
{
    size_t len = MIN(a.len, b.len);
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t differ = u64_le(a.at + i) ^ u64_le(b.at + i);
        if (differ != 0) return i + (size_t)__builtin_ctzll(differ) / 8;
    }
    while (i < len && a.at[i] == b.at[i]) i++;
    return i;
}

uint64_t key_head(struct slice key, size_t skip)
{
    if (LIKELY(key.len >= skip + 8)) return u64_be(key.at + skip);
    if (key.len <= skip) return 0;
    size_t left = key.len - skip;
    if (key.len >= 8) return u64_be(key.at + key.len - 8) << (8 * (8 - left));
    uint64_t head = 0;
    for (size_t i = 0; i < left; i++) head |= (uint64_t)key.at[skip + i] << (56 - 8 * i);
    return head;
}

/* Where key is against all keys that begin with the first `skip` bytes of sample; 0: among them. */
static int prefix_order(struct slice key, struct slice sample, size_t skip)
{
    size_t len = MIN(skip, key.len);
    int order = len == 0 ? 0 : memcmp(key.at, sample.at, len);
    if (order != 0) return order;
    return key.len < skip ? -1 : 0;
}

/* How many heads are below `head`; they ascend. Without a branch that could be mispredicted. */
static unsigned heads_below(const uint64_t *heads, unsigned count, uint64_t head)
{
    unsigned at = 0;
    while (count > 0) {
        unsigned half = (count + 1) / 2;
        at += heads[at + half - 1] < head ? half : 0;
        count -= half;
    }
    return at;
}

/* The skip of a node whose first and last key these are; of one key keep its end for the head. */
static uint16_t skip_of(struct slice first, struct slice last)
{
    if (first.at == last.at) return (uint16_t)(first.len > 8 ? first.len - 8 : 0);
    return (uint16_t)key_common_bytes(first, last);
}

/* --- leaves ------------------------------------------------------------------------ */

static inline struct slice leaf_key(const struct tree_leaf *l, unsigned at)
{
    return entry_key(l->entries[at]);
}

static inline uint64_t bits_below(unsigned at) { return at >= 64 ? UINT64_MAX : (1ULL << at) - 1; }

static uint64_t leaf_live(const struct tree_leaf *l)
{
    return l->count - (uint64_t)__builtin_popcountll(l->ghosts);
}

static struct tree_leaf *leaf_new(void)
{
    struct tree_leaf *l = mem_align(LINE_BYTES, sizeof *l);
    memset(l, 0, offsetof(struct tree_leaf, heads));
    return l;
}

static void leaf_prefetch(const struct tree_leaf *l)
{
    const char *at = (const char *)l;
    for (size_t i = 0; i < offsetof(struct tree_leaf, entries); i += LINE_BYTES) {
        __builtin_prefetch(at + i);
    }
}

static void leaf_set_skip(struct tree_leaf *l, uint16_t skip)
{
    for (unsigned i = 0; i < l->count; i++) __builtin_prefetch(l->entries[i]);
    for (unsigned i = 0; i < l->count; i++) l->heads[i] = key_head(leaf_key(l, i), skip);
    l->skip = skip;
}

static void leaf_refresh(struct tree_leaf *l)
{
    if (l->count != 0) leaf_set_skip(l, skip_of(leaf_key(l, 0), leaf_key(l, l->count - 1u)));
}

/* Where key is against the bytes that the leaf skips. When the way down has shown that it shares
 * them no entry is touched. */
static int leaf_prefix_order(const struct tree_leaf *l, struct slice key, size_t shared_bytes)
{
    if (LIKELY(l->skip <= shared_bytes && l->skip <= key.len)) return 0;
    return prefix_order(key, leaf_key(l, 0), l->skip);
}

/* How many keys of the leaf are before `key`. */
static unsigned leaf_below(const struct tree_leaf *l, struct slice key, size_t shared_bytes)
{
    if (l->count == 0) return 0;
    int order = leaf_prefix_order(l, key, shared_bytes);
    if (order != 0) return order < 0 ? 0 : l->count;
    uint64_t head = key_head(key, l->skip);
    unsigned at = heads_below(l->heads, l->count, head);

    unsigned ties = 0;
    while (at + ties < l->count && l->heads[at + ties] == head) ties++;
    while (ties > 0) {
        unsigned half = ties / 2;
        if (slice_cmp(leaf_key(l, at + half), key) < 0) {
            at += half + 1;
            ties -= half + 1;
        } else {
            ties = half;
        }
    }
    return at;
}

/* Where an entry that is in the leaf is: no other entry has to be touched. */
static unsigned leaf_at(const struct tree_leaf *l, struct slice key, const struct entry *e)
{
    unsigned at = heads_below(l->heads, l->count, key_head(key, l->skip));
    while (at < l->count && l->entries[at] != e) at++;
    ASSERT(at < l->count);
    return at;
}

static void leaf_put(struct tree_leaf *l, unsigned at, struct entry *e, size_t shared_bytes)
{
    ASSERT(l->count < TREE_SLOTS);
    ASSERT(at <= l->count);
    struct slice key = entry_key(e);
    if (l->count == 0) {
        l->skip = skip_of(key, key);
    } else if (leaf_prefix_order(l, key, shared_bytes) != 0) {
        leaf_set_skip(l, (uint16_t)key_common_bytes(key, leaf_key(l, 0)));
    }
    memmove(l->heads + at + 1, l->heads + at, (l->count - at) * sizeof *l->heads);
    memmove(l->entries + at + 1, l->entries + at, (l->count - at) * sizeof *l->entries);
    l->heads[at] = key_head(key, l->skip);
    l->entries[at] = e;
    uint64_t low = l->ghosts & bits_below(at);
    l->ghosts = low | (l->ghosts & ~bits_below(at)) << 1 | (uint64_t)entry_is_ghost(e) << at;
    l->run = l->count != 0 && at == l->last + 1u ? (uint16_t)(l->run + 1) : 0;
    l->last = (uint16_t)at;
    l->count++;
}

static void leaf_drop(struct tree_leaf *l, unsigned at)
{
    ASSERT(at < l->count);
    l->count--;
    memmove(l->heads + at, l->heads + at + 1, (l->count - at) * sizeof *l->heads);
    memmove(l->entries + at, l->entries + at + 1, (l->count - at) * sizeof *l->entries);
    l->ghosts = (l->ghosts & bits_below(at)) | (l->ghosts >> 1 & ~bits_below(at));
    l->run = 0;
}

/* Entries from `from` on to the end of another leaf; heads of `to` are wrong afterwards unless it
 * was empty: then it takes them and the skip over. */
static void leaf_move(struct tree_leaf *to, struct tree_leaf *l, unsigned from)
{
    unsigned count = l->count - from;
    ASSERT(to->count + count <= TREE_SLOTS);
    if (count == 0) return;
    if (to->count == 0) to->skip = l->skip;
    memcpy(to->heads + to->count, l->heads + from, count * sizeof *l->heads);
    memcpy(to->entries + to->count, l->entries + from, count * sizeof *l->entries);
    to->ghosts |= l->ghosts >> from << to->count;
    to->count = (uint16_t)(to->count + count);
    l->ghosts &= bits_below(from);
    l->count = (uint16_t)from;
}

static void leaf_tighten(struct tree_leaf *l)
{
    if (l->count < 2) return;
    uint16_t skip = skip_of(leaf_key(l, 0), leaf_key(l, l->count - 1u));
    if (skip >= l->skip + SKIP_GAIN_MIN) leaf_set_skip(l, skip);
}

static void leaf_link_behind(struct mvcc_tree *t, struct tree_leaf *l, struct tree_leaf *right)
{
    right->prev = l;
    right->next = l->next;
    if (l->next != NULL) l->next->prev = right;
    else t->last = right;
    l->next = right;
}

static void leaf_unlink_free(struct mvcc_tree *t, struct tree_leaf *l)
{
    if (l->prev != NULL) l->prev->next = l->next;
    else t->first = l->next;
    if (l->next != NULL) l->next->prev = l->prev;
    else t->last = l->prev;
    mem_free(l);
}

/* --- separators and inner nodes ------------------------------------------------------ */

static inline struct slice sep_slice(const struct tree_separator *s)
{
    return (struct slice){ s->at, s->len };
}

/* The shortest string that is above `left` and not above `right`. */
static struct tree_separator *sep_between(struct slice left, struct slice right)
{
    size_t len = key_common_bytes(left, right) + 1;
    ASSERT(len <= right.len);
    struct tree_separator *s = mem_alloc(sizeof *s + len);
    s->len = (uint16_t)len;
    memcpy(s->at, right.at, len);
    return s;
}

static struct tree_inner *inner_new(void)
{
    struct tree_inner *n = mem_align(LINE_BYTES, sizeof *n);
    memset(n, 0, offsetof(struct tree_inner, heads));
    n->heads[0] = 0;
    n->seps[0] = NULL;
    return n;
}

static uint64_t inner_live(const struct tree_inner *n)
{
    uint64_t live = 0;
    for (unsigned i = 0; i < n->count; i++) live += n->live[i];
    return live;
}

static struct slice inner_prefix(const struct tree_inner *n)
{
    if (n->skip <= TREE_PREFIX_BYTES) return (struct slice){ n->prefix, n->skip };
    return (struct slice){ n->seps[1]->at, n->skip };
}

static void inner_refresh(struct tree_inner *n)
{
    n->skip = 0;
    if (n->count < 2) return;
    struct slice first = sep_slice(n->seps[1]);
    n->skip = skip_of(first, sep_slice(n->seps[n->count - 1]));
    memcpy(n->prefix, first.at, MIN(n->skip, TREE_PREFIX_BYTES));
    for (unsigned i = 1; i < n->count; i++) n->heads[i] = key_head(sep_slice(n->seps[i]), n->skip);
}

/* The child that `key` belongs to. */
static unsigned inner_child(const struct tree_inner *n, struct slice key)
{
    ASSERT(n->count >= 1);
    if (n->count == 1) return 0;
    int order = prefix_order(key, inner_prefix(n), n->skip);
    if (order != 0) return order < 0 ? 0 : n->count - 1u;

    uint64_t head = key_head(key, n->skip);
    unsigned at = heads_below(n->heads + 1, n->count - 1u, head);
    unsigned ties = 0;
    while (at + 1 + ties < n->count && n->heads[at + 1 + ties] == head) ties++;
    while (ties > 0) {
        unsigned half = ties / 2;
        if (slice_cmp(sep_slice(n->seps[at + 1 + half]), key) <= 0) {
            at += half + 1;
            ties -= half + 1;
        } else {
            ties = half;
        }
    }
    return at;
}

static void inner_put(struct tree_inner *n, unsigned at, struct tree_separator *sep, void *child,
                      uint64_t live)
{
    ASSERT(n->count < TREE_SLOTS);
    ASSERT(at >= 1 && at <= n->count);
    unsigned behind = n->count - at;
    bool fits = n->count >= 2 && prefix_order(sep_slice(sep), inner_prefix(n), n->skip) == 0;
    memmove(n->heads + at + 1, n->heads + at, behind * sizeof *n->heads);
    memmove(n->seps + at + 1, n->seps + at, behind * sizeof *n->seps);
    memmove(n->children + at + 1, n->children + at, behind * sizeof *n->children);
    memmove(n->live + at + 1, n->live + at, behind * sizeof *n->live);
    n->seps[at] = sep;
    n->children[at] = child;
    n->live[at] = live;
    n->count++;
    if (fits) n->heads[at] = key_head(sep_slice(sep), n->skip);
    else inner_refresh(n);
}

/* The child itself is freed by the caller; the next one's range takes over what it had. */
static void inner_drop(struct tree_inner *n, unsigned at)
{
    ASSERT(at < n->count);
    n->count--;
    unsigned behind = n->count - at;
    mem_free(n->seps[at]);
    memmove(n->heads + at, n->heads + at + 1, behind * sizeof *n->heads);
    memmove(n->seps + at, n->seps + at + 1, behind * sizeof *n->seps);
    memmove(n->children + at, n->children + at + 1, behind * sizeof *n->children);
    memmove(n->live + at, n->live + at + 1, behind * sizeof *n->live);
    if (at != 0 || n->count == 0) return;
    mem_free(n->seps[0]); /* the new first child is open to the left */
    n->seps[0] = NULL;
    n->heads[0] = 0;
}

/* Puts a child into a full node: the upper part goes to a new node on the right, which is
 * returned; *up is the separator between both. */
static struct tree_inner *inner_split(struct tree_inner *n, unsigned at, struct tree_separator *sep,
                                      void *child, uint64_t live, struct tree_separator **up)
{
    ASSERT(n->count == TREE_SLOTS);
    struct tree_inner *right = inner_new();
    if (at == n->count) { /* keys ascend here, or it matters little */
        right->children[0] = child;
        right->live[0] = live;
        right->count = 1;
        *up = sep;
        return right;
    }
    unsigned cut = TREE_SLOTS / 2;
    unsigned count = n->count - cut;
    memcpy(right->seps, n->seps + cut, count * sizeof *n->seps);
    memcpy(right->children, n->children + cut, count * sizeof *n->children);
    memcpy(right->live, n->live + cut, count * sizeof *n->live);
    right->count = (uint16_t)count;
    n->count = (uint16_t)cut;
    *up = right->seps[0];
    right->seps[0] = NULL;
    inner_refresh(n);
    inner_refresh(right);
    if (at <= cut) inner_put(n, at, sep, child, live);
    else inner_put(right, at - cut, sep, child, live);
    return right;
}

/* --- the tree ------------------------------------------------------------------------- */

void mvcc_tree_init(struct mvcc_tree *t)
{
    struct tree_leaf *l = leaf_new();
    *t = (struct mvcc_tree){ .root = l, .first = l, .last = l };
}

static void node_free(void *node, uint32_t height)
{
    if (height > 0) {
        struct tree_inner *n = node;
        for (unsigned i = 0; i < n->count; i++) {
            mem_free(n->seps[i]);
            node_free(n->children[i], height - 1);
        }
    }
    mem_free(node);
}

void mvcc_tree_deinit(struct mvcc_tree *t)
{
    node_free(t->root, t->height);
    *t = (struct mvcc_tree){ 0 };
}

static size_t shared_around(const struct tree_inner *n, unsigned at)
{
    if (at == 0 || at + 1 == n->count) return 0;
    uint64_t differ = n->heads[at] ^ n->heads[at + 1];
    return n->skip + (differ == 0 ? 8 : (size_t)__builtin_clzll(differ) / 8);
}

static struct tree_leaf *descend(const struct mvcc_tree *t, struct slice key, struct path *path)
{
    void *node = t->root;
    path->shared_bytes = 0;
    for (uint32_t i = 0; i < t->height; i++) {
        struct tree_inner *n = node;
        unsigned at = inner_child(n, key);
        path->inner[i] = n;
        path->at[i] = at;
        node = n->children[at];
        leaf_prefetch(node);
        if (i + 1 == t->height) path->shared_bytes = shared_around(n, at);
    }
    return node;
}

static void path_count(const struct mvcc_tree *t, const struct path *path, uint64_t more)
{
    for (uint32_t i = 0; i < t->height; i++) path->inner[i]->live[path->at[i]] += more;
}

/* Puts e into a full leaf; returns the new leaf on the right and the separator in front of it. */
static struct tree_leaf *leaf_split(struct mvcc_tree *t, struct tree_leaf *l, unsigned at,
                                    struct entry *e, struct tree_separator **sep)
{
    bool ascending = (at == l->count && l->next == NULL) ||
                     (l->run >= TREE_RUN_MIN && at == l->last + 1u);
    unsigned cut = ascending ? at : TREE_SLOTS / 2;
    struct tree_leaf *right = leaf_new();
    leaf_move(right, l, cut);
    leaf_link_behind(t, l, right);
    if (at > cut || right->count == 0) leaf_put(right, at - cut, e, 0);
    else leaf_put(l, at, e, 0);
    leaf_tighten(l);
    leaf_tighten(right);
    *sep = sep_between(leaf_key(l, l->count - 1u), leaf_key(right, 0));
    return right;
}

static void root_grow(struct mvcc_tree *t, uint64_t live, struct tree_separator *sep, void *right,
                      uint64_t right_live)
{
    ASSERT(t->height < TREE_HEIGHT_MAX);
    struct tree_inner *n = inner_new();
    n->children[0] = t->root;
    n->live[0] = live;
    n->count = 1;
    inner_put(n, 1, sep, right, right_live);
    t->root = n;
    t->height++;
}

/* After a leaf was split: the new node goes into the parents, as far up as these split too. */
static void split_up(struct mvcc_tree *t, const struct path *path, uint64_t live,
                     struct tree_separator *sep, void *right, uint64_t right_live)
{
    for (uint32_t i = t->height; i-- > 0;) {
        struct tree_inner *n = path->inner[i];
        n->live[path->at[i]] = live;
        if (right != NULL && n->count < TREE_SLOTS) {
            inner_put(n, path->at[i] + 1, sep, right, right_live);
            right = NULL;
        } else if (right != NULL) {
            struct tree_inner *split =
                inner_split(n, path->at[i] + 1, sep, right, right_live, &sep);
            right = split;
            right_live = inner_live(split);
        }
        live = inner_live(n);
    }
    if (right != NULL) root_grow(t, live, sep, right, right_live);
}

void mvcc_tree_insert(struct mvcc_tree *t, struct entry *e)
{
    struct path path;
    struct slice key = entry_key(e);
    struct tree_leaf *l = descend(t, key, &path);
    unsigned at = leaf_below(l, key, path.shared_bytes);
    ASSERT_SLOW(at == l->count || !slice_eq(leaf_key(l, at), key));
    uint64_t more = entry_is_ghost(e) ? 0 : 1;
    t->count++;
    t->live += more;
    if (LIKELY(l->count < TREE_SLOTS)) {
        leaf_put(l, at, e, path.shared_bytes);
        path_count(t, &path, more);
        return;
    }
    struct tree_separator *sep = NULL;
    struct tree_leaf *right = leaf_split(t, l, at, e, &sep);
    split_up(t, &path, leaf_live(l), sep, right, leaf_live(right));
}

static void root_shrink(struct mvcc_tree *t)
{
    while (t->height > 0) {
        struct tree_inner *n = t->root;
        if (n->count > 1) return;
        t->root = n->children[0];
        t->height--;
        mem_free(n);
    }
}

/* The child that the path takes at `level` is gone: so are parents that have no other. */
static void child_drop(struct mvcc_tree *t, const struct path *path, uint32_t level)
{
    for (;; level--) {
        struct tree_inner *n = path->inner[level];
        inner_drop(n, path->at[level]);
        if (n->count != 0) break;
        ASSERT(level > 0); /* the last leaf stays */
        mem_free(n);
    }
    root_shrink(t);
}

static bool leaves_fit(const struct tree_inner *n, unsigned at)
{
    const struct tree_leaf *l = n->children[at];
    const struct tree_leaf *right = n->children[at + 1];
    ASSERT(l->next == right);
    return l->count + right->count <= LEAF_JOIN_MAX;
}

/* Joins a leaf that became small with a neighbour below the same parent, if that leaves room. */
static void leaf_join(struct mvcc_tree *t, const struct path *path)
{
    struct tree_inner *n = path->inner[t->height - 1];
    unsigned at = path->at[t->height - 1];
    if (at > 0 && leaves_fit(n, at - 1)) at--;
    else if (at + 1 == n->count || !leaves_fit(n, at)) return;

    struct tree_leaf *l = n->children[at];
    struct tree_leaf *right = n->children[at + 1];
    leaf_move(l, right, 0);
    leaf_refresh(l);
    l->run = 0;
    n->live[at] += n->live[at + 1];
    leaf_unlink_free(t, right);
    inner_drop(n, at + 1);
    root_shrink(t);
}

void mvcc_tree_remove(struct mvcc_tree *t, const struct entry *e)
{
    struct path path;
    struct slice key = entry_key(e);
    struct tree_leaf *l = descend(t, key, &path);
    unsigned at = leaf_at(l, key, e);
    uint64_t less = (l->ghosts >> at & 1) != 0 ? 0 : 1;
    leaf_drop(l, at);
    path_count(t, &path, 0 - less);
    t->count--;
    t->live -= less;
    if (t->height == 0 || l->count > LEAF_FEW) return;
    if (l->count > 0 || (l->prev == NULL && l->next == NULL)) {
        leaf_join(t, &path);
        return;
    }
    leaf_unlink_free(t, l);
    child_drop(t, &path, t->height - 1);
}

void mvcc_tree_update(struct mvcc_tree *t, const struct entry *old, struct entry *e)
{
    struct path path;
    struct slice key = entry_key(e);
    struct tree_leaf *l = descend(t, key, &path);
    unsigned at = leaf_at(l, key, old);
    l->entries[at] = e;
    uint64_t was_live = (l->ghosts >> at & 1) != 0 ? 0 : 1;
    uint64_t is_live = entry_is_ghost(e) ? 0 : 1;
    if (was_live == is_live) return;
    l->ghosts ^= 1ULL << at;
    path_count(t, &path, is_live - was_live);
    t->live += is_live - was_live;
}

/* --- building in bulk -------------------------------------------------------------------- */

/* One level while it is being built: nodes, what is alive below them, and what is in front. */
struct level {
    void **nodes;
    uint64_t *live;
    struct tree_separator **seps;
    size_t count;
};

static struct level level_new(size_t count)
{
    return (struct level){ mem_alloc(count * sizeof(void *)), mem_alloc(count * sizeof(uint64_t)),
                           mem_alloc(count * sizeof(struct tree_separator *)), 0 };
}

static void level_free(struct level *v)
{
    mem_free(v->nodes);
    mem_free(v->live);
    mem_free(v->seps);
}

static struct level leaves_build(struct mvcc_tree *t, const struct tree_item *items, size_t count)
{
    struct level v = level_new(count / LEAF_BUILD_COUNT + 1);
    struct tree_leaf *l = t->first;
    for (size_t from = 0; from < count; from += LEAF_BUILD_COUNT) {
        struct tree_separator *sep = NULL;
        if (from != 0) {
            struct tree_leaf *next = leaf_new();
            leaf_link_behind(t, l, next);
            l = next;
            sep = sep_between(entry_key(items[from - 1].entry), entry_key(items[from].entry));
        }
        l->count = (uint16_t)MIN(count - from, LEAF_BUILD_COUNT);
        for (unsigned i = 0; i < l->count; i++) l->entries[i] = items[from + i].entry;
        leaf_refresh(l);
        for (unsigned i = 0; i < l->count; i++) {
            l->ghosts |= (uint64_t)entry_is_ghost(l->entries[i]) << i;
        }
        v.nodes[v.count] = l;
        v.seps[v.count] = sep;
        v.live[v.count++] = leaf_live(l);
        t->live += leaf_live(l);
    }
    return v;
}

static struct level parents_build(const struct level *below)
{
    struct level v = level_new(below->count / INNER_BUILD_COUNT + 1);
    for (size_t from = 0; from < below->count; from += INNER_BUILD_COUNT) {
        struct tree_inner *n = inner_new();
        n->count = (uint16_t)MIN(below->count - from, INNER_BUILD_COUNT);
        memcpy(n->children, below->nodes + from, n->count * sizeof *n->children);
        memcpy(n->live, below->live + from, n->count * sizeof *n->live);
        memcpy(n->seps, below->seps + from, n->count * sizeof *n->seps);
        v.seps[v.count] = n->seps[0];
        n->seps[0] = NULL;
        inner_refresh(n);
        v.nodes[v.count] = n;
        v.live[v.count++] = inner_live(n);
    }
    return v;
}

void mvcc_tree_build(struct mvcc_tree *t, const struct tree_item *items, size_t count)
{
    ASSERT(t->count == 0 && t->height == 0);
    if (count == 0) return;
    struct level v = leaves_build(t, items, count);
    while (v.count > 1) {
        struct level above = parents_build(&v);
        level_free(&v);
        v = above;
        t->height++;
    }
    ASSERT(t->height <= TREE_HEIGHT_MAX);
    t->root = v.nodes[0];
    t->count = count;
    level_free(&v);
}

/* --- reading ------------------------------------------------------------------------------- */

struct tree_spot mvcc_tree_seek(const struct mvcc_tree *t, struct slice key)
{
    if (key.len == 0) return (struct tree_spot){ t->first, 0 };
    struct path path;
    struct tree_leaf *l = descend(t, key, &path);
    return (struct tree_spot){ l, leaf_below(l, key, path.shared_bytes) };
}

uint64_t mvcc_tree_rank(const struct mvcc_tree *t, struct slice key)
{
    struct path path;
    const struct tree_leaf *l = descend(t, key, &path);
    uint64_t rank = 0;
    for (uint32_t i = 0; i < t->height; i++) {
        for (unsigned at = 0; at < path.at[i]; at++) rank += path.inner[i]->live[at];
    }
    unsigned below = leaf_below(l, key, path.shared_bytes);
    return rank + below - (uint64_t)__builtin_popcountll(l->ghosts & bits_below(below));
}

struct entry *mvcc_tree_at_rank(const struct mvcc_tree *t, uint64_t rank)
{
    if (rank >= t->live) return NULL;
    void *node = t->root;
    for (uint32_t i = 0; i < t->height; i++) {
        const struct tree_inner *n = node;
        unsigned at = 0;
        for (; rank >= n->live[at]; at++) rank -= n->live[at];
        ASSERT(at < n->count);
        node = n->children[at];
    }
    const struct tree_leaf *l = node;
    uint64_t alive = ~l->ghosts & bits_below(l->count);
    for (; rank > 0; rank--) alive &= alive - 1;
    ASSERT(alive != 0);
    return l->entries[__builtin_ctzll(alive)];
}

/* --- checking --------------------------------------------------------------------------- */

struct tree_checker {
    const struct tree_leaf *leaf; /* the next one in order */
    struct slice before;          /* the last key seen */
    uint64_t count;
};

static uint64_t leaf_check(struct tree_checker *c, const struct tree_leaf *l)
{
    ASSERT(l == c->leaf);
    for (unsigned i = 0; i < l->count; i++) {
        struct slice key = leaf_key(l, i);
        ASSERT(c->count == 0 || slice_cmp(c->before, key) < 0);
        ASSERT(prefix_order(key, leaf_key(l, 0), l->skip) == 0);
        ASSERT(l->heads[i] == key_head(key, l->skip));
        ASSERT((l->ghosts >> i & 1) == (entry_is_ghost(l->entries[i]) ? 1 : 0));
        c->before = key;
        c->count++;
    }
    ASSERT((l->ghosts & ~bits_below(l->count)) == 0);
    ASSERT(l->next == NULL || l->next->prev == l);
    c->leaf = l->next;
    return leaf_live(l);
}

/* Keys below are in [low, high); an empty high is "to infinity". */
static uint64_t node_check(struct tree_checker *c, const void *node, uint32_t height,
                           struct slice low, struct slice high)
{
    if (height == 0) {
        const struct tree_leaf *l = node;
        uint64_t live = leaf_check(c, l);
        ASSERT(l->count == 0 || slice_cmp(low, leaf_key(l, 0)) <= 0);
        ASSERT(l->count == 0 || high.len == 0 || slice_cmp(c->before, high) < 0);
        return live;
    }
    const struct tree_inner *n = node;
    ASSERT(n->count >= 1 && n->count <= TREE_SLOTS);
    ASSERT(n->seps[0] == NULL);
    uint64_t sum = 0;
    for (unsigned i = 0; i < n->count; i++) {
        struct slice from = i == 0 ? low : sep_slice(n->seps[i]);
        struct slice to = i + 1 == n->count ? high : sep_slice(n->seps[i + 1]);
        if (i != 0) ASSERT(prefix_order(from, inner_prefix(n), n->skip) == 0);
        if (i != 0) ASSERT(n->heads[i] == key_head(from, n->skip));
        uint64_t live = node_check(c, n->children[i], height - 1, from, to);
        ASSERT(live == n->live[i]);
        sum += live;
    }
    return sum;
}

void mvcc_tree_check(const struct mvcc_tree *t)
{
    struct tree_checker c = { .leaf = t->first };
    uint64_t live = node_check(&c, t->root, t->height, SLICE_NONE, SLICE_NONE);
    ASSERT(live == t->live);
    ASSERT(c.count == t->count);
    ASSERT(c.leaf == NULL);
    ASSERT(t->first->prev == NULL);
    ASSERT(t->last->next == NULL);
}
