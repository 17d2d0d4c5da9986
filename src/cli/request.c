#include "cli/request.h"

#include "base/buf.h"

#include <stdio.h>

/* Events an answer to a watch: enough to go fast, small enough to be shown at once. */
#define WATCH_EVENT_COUNT 1000

static enum err refuse(struct errmsg *em, const char *text)
{
    errmsg_set(em, "%s", text);
    return ERR_SYNTAX;
}

/* The first key that does not begin with prefix; empty (to the end) if there is none. */
static void prefix_end(struct slice prefix, struct buf *out)
{
    size_t len = prefix.len;
    while (len > 0 && prefix.at[len - 1] == 0xff) len--;
    buf_append(out, prefix.at, len);
    if (len > 0) out->at[len - 1]++;
}

/* A watched key that ends in / is the directory: nothing else would be useful there. */
static bool is_prefix(const struct args *a)
{
    if (args_has(a, OPT_PREFIX)) return true;
    if (a->command->id != COMMAND_WATCH || args_has(a, OPT_EXACT)) return false;
    if (a->positional_count > 1 || args_has(a, OPT_FROM_KEY)) return false;
    struct slice key = a->positional[0];
    return key.len > 0 && key.at[key.len - 1] == '/';
}

bool request_is_range(const struct args *a)
{
    return is_prefix(a) || args_has(a, OPT_FROM_KEY) || a->positional_count > 1;
}

static enum err range_check(const struct args *a, struct errmsg *em)
{
    int forms = args_has(a, OPT_PREFIX) + args_has(a, OPT_FROM_KEY) + args_has(a, OPT_EXACT);
    bool has_end = a->command->positional_max > 1 && a->positional_count > 1;
    if (forms + has_end <= 1) return OK;
    if (args_has(a, OPT_EXACT))
        return refuse(em, "--exact is for one key: without end or --prefix");
    return refuse(em, "choose one: an end key, --prefix or --from-key");
}

static enum err range_add(const struct args *a, struct words *out, struct errmsg *em)
{
    TRY(range_check(a, em));
    words_add(out, a->positional[0]);
    if (is_prefix(a)) {
        words_add_text(out, "PREFIX");
    } else if (request_is_range(a)) {
        words_add_text(out, "END");
        words_add(out, args_has(a, OPT_FROM_KEY) ? SLICE_NONE : a->positional[1]);
    }
    return OK;
}

/* The same range without what earlier pages had. */
static void range_add_rest(const struct args *a, struct slice last_key, struct words *out)
{
    struct buf end CLEANUP(buf_deinit) = { 0 };
    if (request_order(a) == RANGE_DESC) {
        words_add(out, a->positional[0]);
        buf_append_slice(&end, last_key);
    } else {
        struct buf start CLEANUP(buf_deinit) = { 0 };
        buf_append_slice(&start, last_key);
        buf_append_u8(&start, 0);
        words_add(out, buf_slice(&start));
        if (is_prefix(a)) {
            prefix_end(a->positional[0], &end);
        } else if (!args_has(a, OPT_FROM_KEY)) {
            buf_append_slice(&end, a->positional[1]);
        }
    }
    words_add_text(out, "END");
    words_add(out, buf_slice(&end));
}

static const char *sort_word(struct slice name)
{
    static const char *const word[][2] = {
        { "key", "KEY" }, { "value", "VALUE" }, { "create", "CREATE" },
        { "mod", "MOD" }, { "modify", "MOD" },  { "version", "VERSION" },
    };
    for (size_t i = 0; i < ARRAY_LEN(word); i++) {
        if (slice_is(name, word[i][0])) return word[i][1];
    }
    return NULL;
}

static bool is_descending(const struct args *a)
{
    struct slice order = a->value[OPT_ORDER];
    return args_has(a, OPT_ORDER) && (slice_is(order, "desc") || slice_is(order, "descend"));
}

enum range_order request_order(const struct args *a)
{
    if (args_has(a, OPT_SORT_BY) && !slice_is(a->value[OPT_SORT_BY], "key")) return RANGE_OTHER;
    return is_descending(a) ? RANGE_DESC : RANGE_ASC;
}

static enum err sort_add(const struct args *a, struct words *out, struct errmsg *em)
{
    if (!args_has(a, OPT_SORT_BY) && !args_has(a, OPT_ORDER)) return OK;
    const char *by = args_has(a, OPT_SORT_BY) ? sort_word(a->value[OPT_SORT_BY]) : "KEY";
    if (by == NULL) return refuse(em, "--sort-by needs key, value, create, mod or version");
    struct slice order = a->value[OPT_ORDER];
    bool is_ascending =
        !args_has(a, OPT_ORDER) || slice_is(order, "asc") || slice_is(order, "ascend");
    if (!is_ascending && !is_descending(a)) return refuse(em, "--order needs asc or desc");
    words_add_text(out, "SORT");
    words_add_text(out, by);
    words_add_text(out, is_ascending ? "ASC" : "DESC");
    return OK;
}

enum err request_get(const struct args *a, const struct page *next, struct words *out,
                     struct errmsg *em)
{
    int64_t rev = 0;
    int64_t limit = 0;
    TRY(args_number(a, OPT_REV, 0, &rev, em));
    TRY(args_number(a, OPT_LIMIT, 0, &limit, em));
    int shapes = args_has(a, OPT_KEYS_ONLY) + args_has(a, OPT_COUNT_ONLY) +
                 args_has(a, OPT_PRINT_VALUE_ONLY);
    if (shapes > 1)
        return refuse(em, "choose one: --keys-only, --count-only or --print-value-only");
    words_add_text(out, "KV RANGE");
    if (next == NULL) {
        TRY(range_add(a, out, em));
    } else {
        range_add_rest(a, next->last_key, out);
        rev = next->rev;
        limit = next->limit;
    }
    if (rev > 0) {
        words_add_text(out, "REV");
        words_add_i64(out, rev);
    }
    if (limit > 0) {
        words_add_text(out, "LIMIT");
        words_add_i64(out, limit);
    }
    if (args_has(a, OPT_KEYS_ONLY)) words_add_text(out, "KEYSONLY");
    if (args_has(a, OPT_COUNT_ONLY)) words_add_text(out, "COUNTONLY");
    return sort_add(a, out, em);
}

static enum err put_check(const struct args *a, struct errmsg *em)
{
    int conditions = args_has(a, OPT_NX) + args_has(a, OPT_XX) + args_has(a, OPT_IF_MOD);
    if (conditions > 1) return refuse(em, "choose one: --nx, --xx or --if-mod");
    if (args_has(a, OPT_IGNORE_VALUE) && a->positional_count > 1) {
        return refuse(em, "--ignore-value keeps the present value: leave the value out");
    }
    if (args_has(a, OPT_IGNORE_LEASE) && args_has(a, OPT_LEASE)) {
        return refuse(em, "--ignore-lease keeps the present lease: leave --lease out");
    }
    return OK;
}

enum err request_put(const struct args *a, struct slice value, struct words *out, struct errmsg *em)
{
    int64_t mod_rev = 0;
    int64_t lease_id = 0;
    TRY(put_check(a, em));
    TRY(args_number(a, OPT_IF_MOD, 0, &mod_rev, em));
    if (args_has(a, OPT_LEASE) && !slice_eq(a->value[OPT_LEASE], SLICE_LIT("0"))) {
        TRY(args_id(a, OPT_LEASE, &lease_id, em));
    }
    words_add_text(out, "KV PUT");
    words_add(out, a->positional[0]);
    words_add(out, args_has(a, OPT_IGNORE_VALUE) ? SLICE_NONE : value);
    if (args_has(a, OPT_NX)) words_add_text(out, "NX");
    if (args_has(a, OPT_XX)) words_add_text(out, "XX");
    if (args_has(a, OPT_IF_MOD)) {
        words_add_text(out, "IFMOD");
        words_add_i64(out, mod_rev);
    }
    if (lease_id > 0) {
        words_add_text(out, "LEASE");
        words_add_i64(out, lease_id);
    }
    if (args_has(a, OPT_PREV_KV)) words_add_text(out, "PREVKV");
    if (args_has(a, OPT_IGNORE_VALUE)) words_add_text(out, "IGNOREVALUE");
    if (args_has(a, OPT_IGNORE_LEASE)) words_add_text(out, "IGNORELEASE");
    return OK;
}

enum err request_del(const struct args *a, struct words *out, struct errmsg *em)
{
    words_add_text(out, "KV DEL");
    TRY(range_add(a, out, em));
    if (args_has(a, OPT_PREV_KV)) words_add_text(out, "PREVKV");
    return OK;
}

enum err request_watch(const struct args *a, int64_t from_rev, int64_t block_ms, struct words *out,
                       struct errmsg *em)
{
    words_add_text(out, "KV READ");
    TRY(range_add(a, out, em));
    words_add_text(out, "FROM");
    words_add_i64(out, from_rev);
    words_add_text(out, "COUNT");
    words_add_i64(out, WATCH_EVENT_COUNT);
    words_add_text(out, "BLOCK");
    words_add_i64(out, block_ms);
    if (args_has(a, OPT_PREV_KV)) words_add_text(out, "PREVKV");
    return OK;
}

void request_compact(const struct args *a, int64_t rev, struct words *out)
{
    words_add_text(out, "KV COMPACT");
    words_add_i64(out, rev);
    if (args_has(a, OPT_PHYSICAL)) words_add_text(out, "PHYSICAL");
}
