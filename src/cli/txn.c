#include "cli/txn.h"

#include "base/buf.h"
#include "cli/args.h"
#include "cli/request.h"
#include "cli/text.h"

#include <stdio.h>

#define SHOWN_BYTES_MAX 128
#define SHOWN(s)        (int)MIN((s).len, SHOWN_BYTES_MAX), (const char *)(s).at

enum operand { OPERAND_NUMBER, OPERAND_BYTES, OPERAND_NONE };

static const struct target {
    const char *name;
    const char *word;
    enum operand operand;
} targets[] = {
    { "mod", "MOD", OPERAND_NUMBER },         { "m", "MOD", OPERAND_NUMBER },
    { "create", "CREATE", OPERAND_NUMBER },   { "c", "CREATE", OPERAND_NUMBER },
    { "version", "VERSION", OPERAND_NUMBER }, { "ver", "VERSION", OPERAND_NUMBER },
    { "lease", "LEASE", OPERAND_NUMBER },     { "value", "VALUE", OPERAND_BYTES },
    { "val", "VALUE", OPERAND_BYTES },        { "exists", "EXISTS", OPERAND_NONE },
    { "missing", "MISSING", OPERAND_NONE },
};

void txn_deinit(struct txn *t)
{
    words_deinit(&t->compare_words);
    words_deinit(&t->compare_texts);
    for (size_t b = 0; b < TXN_BRANCH_COUNT; b++) {
        for (size_t i = 0; i < t->ops[b].count; i++) words_deinit(&t->ops[b].at[i].words);
        mem_free(t->ops[b].at);
    }
    *t = (struct txn){ 0 };
}

static void skip(struct slice *s, size_t bytes)
{
    ASSERT(bytes <= s->len);
    s->at += bytes;
    s->len -= bytes;
}

static const struct target *target_find(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (slice_is(name, targets[i].name)) return &targets[i];
    }
    return NULL;
}

/* "text", 'text' or a bare word up to one of the ends (or the end of the line). */
static enum err operand_take(struct slice *rest, const char *ends, struct buf *out)
{
    *rest = text_trim(*rest);
    if (rest->len > 0 && (rest->at[0] == '"' || rest->at[0] == '\'')) {
        TRY(text_quoted(rest, out));
        *rest = text_trim(*rest);
        return OK;
    }
    size_t len = 0;
    while (len < rest->len && strchr(ends, rest->at[len]) == NULL) len++;
    struct slice bare = text_trim((struct slice){ rest->at, len });
    if (bare.len == 0) return ERR_SYNTAX;
    buf_append_slice(out, bare);
    skip(rest, len);
    return OK;
}

static const char *operator_take(struct slice *rest)
{
    static const char *const operators[] = { "!=", "=", "<", ">" };
    *rest = text_trim(*rest);
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        struct slice op = slice_of(operators[i]);
        if (!slice_starts(*rest, op)) continue;
        skip(rest, op.len);
        return operators[i];
    }
    return NULL;
}

static enum err compare_refuse(struct slice line, const char *why, struct errmsg *em)
{
    errmsg_set(em,
               "compare '%.*s': %s. Write it like mod(\"key\") = \"105\" or value(\"key\") != "
               "\"text\"",
               SHOWN(line), why);
    return ERR_SYNTAX;
}

static enum err compare_key_take(struct slice line, struct slice *rest, struct buf *key,
                                 struct errmsg *em)
{
    enum err err = operand_take(rest, ")", key);
    if (err == ERR_AGAIN) return err;
    if (err != OK || rest->len == 0 || rest->at[0] != ')') {
        return compare_refuse(line, "the key in parentheses is not understood", em);
    }
    skip(rest, 1);
    return OK;
}

static enum err compare_operand_take(struct slice line, struct slice rest, enum operand kind,
                                     struct words *out, struct errmsg *em)
{
    if (kind == OPERAND_NONE) {
        if (text_trim(rest).len > 0) return compare_refuse(line, "nothing may follow it", em);
        return OK;
    }
    const char *op = operator_take(&rest);
    if (op == NULL) return compare_refuse(line, "needs one of = != < >", em);
    struct buf value CLEANUP(buf_deinit) = { 0 };
    enum err err = operand_take(&rest, "", &value);
    if (err == ERR_AGAIN) return err;
    if (err != OK) return compare_refuse(line, "the value to compare with is not understood", em);
    if (rest.len > 0) return compare_refuse(line, "something follows the value", em);
    words_add_text(out, op);
    int64_t number = 0;
    if (kind == OPERAND_BYTES) {
        words_add(out, buf_slice(&value));
    } else if (text_id(buf_slice(&value), &number) == OK) {
        words_add_i64(out, number);
    } else {
        return compare_refuse(line, "compares with a number", em);
    }
    return OK;
}

enum err txn_compare_add(struct txn *t, struct slice line, struct errmsg *em)
{
    struct words words CLEANUP(words_deinit) = { 0 };
    struct buf key CLEANUP(buf_deinit) = { 0 };
    line = text_trim(line);
    const uint8_t *open = line.len == 0 ? NULL : memchr(line.at, '(', line.len);
    if (open == NULL) return compare_refuse(line, "not understood", em);
    size_t name_len = (size_t)(open - line.at);
    const struct target *target = target_find(text_trim((struct slice){ line.at, name_len }));
    if (target == NULL) {
        return compare_refuse(line,
                              "begins with none of mod, create, version, lease, value, "
                              "exists, missing",
                              em);
    }
    struct slice rest = line;
    skip(&rest, name_len + 1);
    TRY(compare_key_take(line, &rest, &key, em));
    words_add_text(&words, target->word);
    words_add(&words, buf_slice(&key));
    TRY(compare_operand_take(line, rest, target->operand, &words, em));
    words_add_all(&t->compare_words, &words);
    words_add(&t->compare_texts, line);
    return OK;
}

static enum err line_split(struct slice line, struct words *out, struct errmsg *em)
{
    bool found = true;
    while (true) {
        struct buf word CLEANUP(buf_deinit) = { 0 };
        enum err err = text_word(&line, &word, &found);
        if (err == ERR_AGAIN) return err;
        if (err != OK) {
            errmsg_set(em, "unknown escape in double quotes; known are \\n \\r \\t \\0 \\\\ \\\" "
                           "\\' and \\x00");
            return ERR_SYNTAX;
        }
        if (!found) return OK;
        words_add(out, buf_slice(&word));
    }
}

static enum err op_request(const struct args *a, struct words *out, struct errmsg *em)
{
    if (a->command->id == COMMAND_GET) return request_get(a, NULL, out, em);
    if (a->command->id == COMMAND_DEL) return request_del(a, out, em);
    if (a->positional_count < 2 && !args_has(a, OPT_IGNORE_VALUE)) {
        errmsg_set(em, "put needs a value here: put key value (\"\" for an empty one)");
        return ERR_SYNTAX;
    }
    return request_put(a, a->positional[a->positional_count - 1], out, em);
}

static enum err op_check(const struct args *a, struct errmsg *em)
{
    bool is_known =
        a->command != NULL && (a->command->id == COMMAND_GET || a->command->id == COMMAND_PUT ||
                               a->command->id == COMMAND_DEL);
    if (!is_known) {
        errmsg_set(em, "only get, put and del can stand in a transaction");
        return ERR_SYNTAX;
    }
    if ((a->given & OPT_GLOBAL_MASK) != 0) {
        errmsg_set(em,
                   "options for all commands stand behind `cordis txn`, not in the transaction");
        return ERR_SYNTAX;
    }
    return OK;
}

static void op_push(struct txn_op_list *list, const struct txn_op *op)
{
    if (list->count == list->cap) {
        list->cap = list->cap == 0 ? 8 : list->cap * 2;
        list->at = mem_realloc(list->at, list->cap * sizeof *list->at);
    }
    list->at[list->count++] = *op;
}

enum err txn_op_add(struct txn *t, enum txn_branch branch, struct slice line, struct errmsg *em)
{
    struct words typed CLEANUP(words_deinit) = { 0 };
    struct words sent CLEANUP(words_deinit) = { 0 };
    struct args a;
    TRY(line_split(line, &typed, em));
    TRY(args_parse(typed.at, typed.count, &a, em));
    TRY(op_check(&a, em));
    TRY(op_request(&a, &sent, em));
    op_push(&t->ops[branch],
            &(struct txn_op){ .command = a.command->id, .given = a.given, .words = sent });
    sent = (struct words){ 0 };
    return OK;
}

bool txn_is_write(const struct txn *t)
{
    for (size_t b = 0; b < TXN_BRANCH_COUNT; b++) {
        for (size_t i = 0; i < t->ops[b].count; i++) {
            if (t->ops[b].at[i].command != COMMAND_GET) return true;
        }
    }
    return false;
}

/* TXN IF n compare... THEN m op... ELSE k op... */
void txn_request(const struct txn *t, struct words *out)
{
    static const char *const branch_words[TXN_BRANCH_COUNT] = { "THEN", "ELSE" };
    words_add_text(out, "TXN IF");
    words_add_i64(out, (int64_t)t->compare_texts.count);
    words_add_all(out, &t->compare_words);
    for (size_t b = 0; b < TXN_BRANCH_COUNT; b++) {
        if (t->ops[b].count == 0) continue;
        words_add_text(out, branch_words[b]);
        words_add_i64(out, (int64_t)t->ops[b].count);
        for (size_t i = 0; i < t->ops[b].count; i++) {
            words_add_i64(out, (int64_t)t->ops[b].at[i].words.count);
            words_add_all(out, &t->ops[b].at[i].words);
        }
    }
}
