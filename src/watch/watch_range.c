/* watch/watch_range.c - ranges by (start, end) in a treap that knows the greatest end below each
 * node; see watch_int.h. Depth is logarithmic in expectation, whatever the order of arrival. */
#include "watch/watch_int.h"

static int bounds_cmp(const struct watch_group *g, struct slice start, struct slice end)
{
    int order = slice_cmp(start, group_start(g));
    return order != 0 ? order : slice_cmp(end, group_end(g));
}

static int group_cmp(const struct watch_group *g, const struct watch_group *at)
{
    return bounds_cmp(at, group_start(g), group_end(g));
}

static void max_end_update(struct watch_group *g)
{
    struct slice max = group_end(g);
    if (g->tree.left != NULL && slice_cmp(g->tree.left->tree.max_end, max) > 0) {
        max = g->tree.left->tree.max_end;
    }
    if (g->tree.right != NULL && slice_cmp(g->tree.right->tree.max_end, max) > 0) {
        max = g->tree.right->tree.max_end;
    }
    g->tree.max_end = max;
}

struct watch_group *watch_range_find(struct watch_group *root, struct slice start, struct slice end)
{
    while (root != NULL) {
        int order = bounds_cmp(root, start, end);
        if (order == 0) return root;
        root = order < 0 ? root->tree.left : root->tree.right;
    }
    return NULL;
}

/* Parts root into what is below g and what is above it. */
static void split(struct watch_group *root, const struct watch_group *g, struct watch_group **below,
                  struct watch_group **above)
{
    if (root == NULL) {
        *below = NULL;
        *above = NULL;
        return;
    }
    int order = group_cmp(g, root);
    ASSERT(order != 0);
    if (order < 0) {
        split(root->tree.left, g, below, &root->tree.left);
        *above = root;
    } else {
        split(root->tree.right, g, &root->tree.right, above);
        *below = root;
    }
    max_end_update(root);
}

/* Everything in a is below everything in b. */
static struct watch_group *join(struct watch_group *a, struct watch_group *b)
{
    if (a == NULL) return b;
    if (b == NULL) return a;
    if (a->tree.priority > b->tree.priority) {
        a->tree.right = join(a->tree.right, b);
        max_end_update(a);
        return a;
    }
    b->tree.left = join(a, b->tree.left);
    max_end_update(b);
    return b;
}

struct watch_group *watch_range_insert(struct watch_group *root, struct watch_group *g)
{
    if (root == NULL || root->tree.priority < g->tree.priority) {
        split(root, g, &g->tree.left, &g->tree.right);
        max_end_update(g);
        return g;
    }
    if (group_cmp(g, root) < 0) {
        root->tree.left = watch_range_insert(root->tree.left, g);
    } else {
        root->tree.right = watch_range_insert(root->tree.right, g);
    }
    max_end_update(root);
    return root;
}

struct watch_group *watch_range_remove(struct watch_group *root, struct watch_group *g)
{
    ASSERT(root != NULL);
    if (root == g) return join(g->tree.left, g->tree.right);
    if (group_cmp(g, root) < 0) {
        root->tree.left = watch_range_remove(root->tree.left, g);
    } else {
        root->tree.right = watch_range_remove(root->tree.right, g);
    }
    max_end_update(root);
    return root;
}

bool watch_range_stab(struct watch_group *root, struct slice key,
                      bool (*visit)(void *ctx, struct watch_group *g), void *ctx)
{
    while (root != NULL && slice_cmp(root->tree.max_end, key) > 0) {
        if (watch_range_stab(root->tree.left, key, visit, ctx)) return true;
        if (slice_cmp(group_start(root), key) > 0) return false; /* and all to the right */
        if (slice_cmp(group_end(root), key) > 0 && visit(ctx, root)) return true;
        root = root->tree.right;
    }
    return false;
}

size_t watch_range_check(const struct watch_group *root)
{
    if (root == NULL) return 0;
    const struct watch_group *left = root->tree.left;
    const struct watch_group *right = root->tree.right;
    struct slice max = group_end(root);
    if (left != NULL) {
        ASSERT(group_cmp(left, root) < 0 && left->tree.priority <= root->tree.priority);
        if (slice_cmp(left->tree.max_end, max) > 0) max = left->tree.max_end;
    }
    if (right != NULL) {
        ASSERT(group_cmp(right, root) > 0 && right->tree.priority <= root->tree.priority);
        if (slice_cmp(right->tree.max_end, max) > 0) max = right->tree.max_end;
    }
    ASSERT(slice_eq(max, root->tree.max_end));
    ASSERT(root->kind == WATCH_RANGE);
    return 1 + watch_range_check(left) + watch_range_check(right);
}
