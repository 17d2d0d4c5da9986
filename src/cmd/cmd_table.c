/* cmd/cmd_table.c - every command in one table: look-up, keys, and the checks of the rows. */
#include "cmd/cmd_int.h"

#include <stdlib.h>

#define NAME_BYTES_MAX 48
#define BUCKETS 1024 /* a power of two, several times the number of rows */

struct cmd_table {
    struct cmd_def *rows; /* sorted by name */
    size_t count;
    uint16_t buckets[BUCKETS]; /* 1 + row; linear probing */
};

static const struct cmd_def *const families[] = {
    cmd_string_defs, cmd_key_defs,    cmd_scan_defs,   cmd_multi_defs,  cmd_txn_defs,    cmd_kv_defs,
    cmd_lease_defs,  cmd_member_defs, cmd_watch_defs,  cmd_stream_defs, cmd_pubsub_defs,
    cmd_conn_defs,   cmd_client_defs, cmd_pause_defs,  cmd_latency_defs, cmd_command_defs, cmd_server_defs, cmd_config_defs,
};

static uint32_t name_hash(struct slice name)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < name.len; i++) h = (h ^ name.at[i]) * 16777619u;
    return h ^ h >> 15;
}

static const struct cmd_def *find_lower(const struct cmd_table *t, struct slice name)
{
    for (uint32_t at = name_hash(name);; at++) {
        uint16_t row = t->buckets[at & (BUCKETS - 1)];
        if (row == 0) return NULL;
        const struct cmd_def *def = &t->rows[row - 1];
        if (slice_eq(slice_of(def->name), name)) return def;
    }
}

/* Lower-cases into out; false if it is too long to be a name. */
static bool lower_into(struct slice word, char *out, size_t *len)
{
    if (word.len > NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.at[i];
        out[(*len)++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    return true;
}

const struct cmd_def *cmd_table_by_name(const struct cmd_table *t, struct slice name)
{
    char text[NAME_BYTES_MAX];
    size_t len = 0;
    if (!lower_into(name, text, &len)) return NULL;
    return find_lower(t, (struct slice){ (const uint8_t *)text, len });
}

const struct cmd_def *cmd_table_find(const struct cmd_table *t, size_t argc,
                                     const struct slice *argv, const struct cmd_def **container)
{
    char text[2 * NAME_BYTES_MAX + 1];
    size_t len = 0;
    *container = NULL;
    if (!lower_into(argv[0], text, &len)) return NULL;
    const struct cmd_def *def = find_lower(t, (struct slice){ (const uint8_t *)text, len });
    if (def == NULL || (def->flags & CMD_CONTAINER) == 0) return def;
    if (def->run != NULL && argc < 2) return def; /* COMMAND alone is one, too */
    *container = def;
    if (argc < 2) return NULL;
    text[len++] = '|';
    if (!lower_into(argv[1], text, &len)) return NULL;
    const struct cmd_def *sub = find_lower(t, (struct slice){ (const uint8_t *)text, len });
    if (sub == NULL && def->run != NULL && def->arity < -1) return def; /* TXN IF, XREAD-like */
    return sub;
}

size_t cmd_table_count(const struct cmd_table *t) { return t->count; }
const struct cmd_def *cmd_table_base(const struct cmd_table *t) { return t->rows; }

const struct cmd_def *cmd_table_at(const struct cmd_table *t, size_t at)
{
    ASSERT(at < t->count);
    return &t->rows[at];
}

/* --- keys ---------------------------------------------------------------------------- */

enum err cmd_keys_each(const struct cmd_table *t, const struct cmd_def *def, size_t argc,
                       const struct slice *argv, void (*each)(void *ctx, size_t place), void *ctx)
{
    if (def->find_op_keys != NULL) return def->find_op_keys(t, argc, argv, each, ctx);
    if (def->find_keys != NULL) return def->find_keys(argc, argv, each, ctx);
    if (def->keys.first == 0) return OK;
    int last = def->keys.last < 0 ? (int)argc + def->keys.last : def->keys.last;
    for (int i = def->keys.first; i <= last; i += def->keys.step) {
        if ((size_t)i >= argc) return ERR_SYNTAX;
        each(ctx, (size_t)i);
    }
    return OK;
}

/* --- making it -------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct cmd_def *x = a;
    const struct cmd_def *y = b;
    return strcmp(x->name, y->name);
}

static void row_check(const struct cmd_def *def)
{
    unsigned kind = def->flags & (CMD_READ | CMD_WRITE | CMD_CONN);
    ASSERT(kind == CMD_READ || kind == CMD_WRITE || kind == CMD_CONN);
    ASSERT(strlen(def->name) < NAME_BYTES_MAX);
    for (const char *c = def->name; *c != '\0'; c++) ASSERT(*c < 'A' || *c > 'Z');
    ASSERT(def->run != NULL || (def->flags & CMD_CONTAINER) != 0);
    ASSERT(def->arity != 0);
    ASSERT(def->args != NULL && def->since != NULL && def->summary != NULL);
    size_t len = strlen(def->summary);
    ASSERT(len > 1 && def->summary[len - 1] == '.');
    ASSERT((def->keys.first == 0) == (def->keys.step == 0));
    ASSERT(def->keys.first < abs(def->arity) || (def->flags & CMD_CONTAINER) != 0);
    bool finds = def->find_keys != NULL || def->find_op_keys != NULL;
    ASSERT(finds == ((def->flags & CMD_MOVABLE_KEYS) != 0));
}

static void bucket_add(struct cmd_table *t, size_t row)
{
    struct slice name = slice_of(t->rows[row].name);
    ASSERT(find_lower(t, name) == NULL);
    uint32_t at = name_hash(name);
    while (t->buckets[at & (BUCKETS - 1)] != 0) at++;
    t->buckets[at & (BUCKETS - 1)] = (uint16_t)(row + 1);
}

struct cmd_table *cmd_table_new(void)
{
    struct cmd_table *t = mem_zalloc(sizeof *t);
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (const struct cmd_def *def = families[f]; def->name != NULL; def++) t->count++;
    }
    ASSERT(t->count < BUCKETS / 2);
    t->rows = mem_alloc(t->count * sizeof *t->rows);
    size_t at = 0;
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (const struct cmd_def *def = families[f]; def->name != NULL; def++) t->rows[at++] = *def;
    }
    qsort(t->rows, t->count, sizeof *t->rows, by_name);
    for (size_t i = 0; i < t->count; i++) {
        row_check(&t->rows[i]);
        bucket_add(t, i);
    }
    return t;
}

void cmd_table_free(struct cmd_table *t)
{
    if (t == NULL) return;
    mem_free(t->rows);
    mem_free(t);
}
