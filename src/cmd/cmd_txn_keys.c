/* cmd/cmd_txn_keys.c - a branch of a one-shot TXN puts a key at most once, and not both puts and
 * deletes it: etcd's rule, so that what one revision does to a key can be read off the request.
 * (MULTI keeps Redis' rule: anything goes, the net effect counts.) */
#include "cmd/cmd_int.h"

#include <stdlib.h>

struct txn_key {
    struct slice key; /* borrowed from the request */
    bool put;
};

struct txn_range {
    struct slice start, end; /* [start, end) of clients' keys; end.at NULL: prefix start */
};

static bool is_delete(const struct cmd_def *def)
{
    static const char *const names[] = { "del", "unlink", "delex", "delifeq", "getdel", "kv|del" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(def->name, names[i]) == 0) return true;
    }
    return false;
}

/* Changes of a lifetime alone are no puts. */
static bool is_neutral(const struct cmd_def *def)
{
    static const char *const names[] = { "expire", "pexpire", "expireat", "pexpireat", "persist", "getex",
                                         "kv|seq", "txn" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(def->name, names[i]) == 0) return true;
    }
    return false;
}

struct add_ctx {
    struct txn_keys *keys;
    const struct slice *argv;
    bool put;
};

static void add_key(void *ctx, size_t place)
{
    struct add_ctx *a = ctx;
    struct txn_key key = { a->argv[place], a->put };
    buf_append(&a->keys->keys, &key, sizeof key);
}

void txn_keys_add(struct txn_keys *keys, const struct cmd_table *t, const struct cmd_def *def,
                  size_t argc, const struct slice *argv)
{
    if ((def->flags & CMD_WRITE) == 0 || is_neutral(def)) return;
    bool range = strcmp(def->name, "kv|del") == 0 && argc > 3 &&
                 (arg_is(argv[3], "PREFIX") || (arg_is(argv[3], "END") && argc > 4));
    if (range) {
        struct txn_range r = { argv[2], arg_is(argv[3], "END") ? argv[4] : SLICE_NONE };
        if (arg_is(argv[3], "END") && r.end.len == 0) r.end = (struct slice){ NULL, SIZE_MAX };
        buf_append(&keys->ranges, &r, sizeof r);
        return;
    }
    struct add_ctx a = { keys, argv, !is_delete(def) };
    if (strcmp(def->name, "copy") == 0) {
        add_key(&a, 2); /* its source is only read */
        return;
    }
    enum err e = cmd_keys_each(t, def, argc, argv, add_key, &a);
    (void)e; /* arguments that are no keys were refused by the command itself */
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp(((const struct txn_key *)a)->key, ((const struct txn_key *)b)->key);
}

static bool in_range(const struct txn_range *r, struct slice key)
{
    if (slice_cmp(key, r->start) < 0) return false;
    if (r->end.at != NULL) return slice_cmp(key, r->end) < 0;
    return r->end.len == SIZE_MAX || slice_starts(key, r->start);
}

bool txn_keys_repeat(struct txn_keys *keys)
{
    struct txn_key *at = (struct txn_key *)(void *)keys->keys.at;
    size_t count = keys->keys.len / sizeof *at;
    if (count > 1) qsort(at, count, sizeof *at, by_key);
    for (size_t i = 1; i < count; i++) {
        if ((at[i].put || at[i - 1].put) && slice_eq(at[i].key, at[i - 1].key)) return true;
    }
    const struct txn_range *ranges = (const struct txn_range *)(const void *)keys->ranges.at;
    for (size_t r = 0; r < keys->ranges.len / sizeof *ranges; r++) {
        for (size_t i = 0; i < count; i++) {
            if (at[i].put && in_range(&ranges[r], at[i].key)) return true;
        }
    }
    return false;
}

void txn_keys_deinit(struct txn_keys *keys)
{
    buf_deinit(&keys->keys);
    buf_deinit(&keys->ranges);
}
