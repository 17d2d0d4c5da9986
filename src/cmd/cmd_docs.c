/* cmd/cmd_docs.c - the arguments of a command as COMMAND DOCS gives them, from the row's own text.
 *
 *   text   = seq { " | " seq }                 one of them
 *   seq    = { group }
 *   group  = unit { "|" unit }                 one of them
 *   unit   = "[" text "]"                      optional
 *          | WORD group-of-a-WORD              WORD is the token of what it chooses from
 *          | WORD { plain }                    WORD is the token of its arguments, or stands alone
 *          | plain
 *   plain  = word [ "..." | "[" the same words "...]" ]      may come again
 */
#include "cmd/cmd_int.h"

#define DOC_NODES_MAX 96 /* of one command; the table's longest has half */

enum doc_kind { DOC_PLAIN, DOC_TOKEN, DOC_ONEOF, DOC_BLOCK };

struct doc_node {
    enum doc_kind kind;
    struct slice name;  /* NULL for ONEOF and BLOCK: that of the first one inside */
    struct slice token;
    bool optional, multiple;
    struct doc_node *inside, *next;
};

struct doc_parser {
    struct slice text;
    size_t at;
    struct doc_node nodes[DOC_NODES_MAX];
    size_t count;
};

/* A list that is being made. */
struct doc_list {
    struct doc_node *head, *tail;
    size_t count;
};

/* --- words ---------------------------------------------------------------------------------- */

static int peek(const struct doc_parser *p)
{
    return p->at < p->text.len ? p->text.at[p->at] : -1;
}

static bool at_text(const struct doc_parser *p, const char *text)
{
    struct slice rest = { p->text.at + p->at, p->text.len - p->at };
    return slice_starts(rest, slice_of(text));
}

static bool take(struct doc_parser *p, const char *text)
{
    if (!at_text(p, text)) return false;
    p->at += strlen(text);
    return true;
}

static void skip_blanks(struct doc_parser *p)
{
    while (peek(p) == ' ' && !at_text(p, " | ")) p->at++;
}

static bool is_word_end(int c) { return c < 0 || c == ' ' || c == '[' || c == ']' || c == '|'; }

static struct slice take_word(struct doc_parser *p)
{
    size_t from = p->at;
    while (!is_word_end(peek(p)) && !at_text(p, "...")) p->at++;
    ASSERT(p->at > from); /* the table's texts are ours */
    return (struct slice){ p->text.at + from, p->at - from };
}

static bool at_token(const struct doc_parser *p) { return peek(p) >= 'A' && peek(p) <= 'Z'; }
static bool at_plain(const struct doc_parser *p) { return !is_word_end(peek(p)) && !at_token(p); }

/* --- nodes ------------------------------------------------------------------------------------ */

static struct doc_node *node_new(struct doc_parser *p, enum doc_kind kind, struct slice name)
{
    ASSERT(p->count < DOC_NODES_MAX);
    struct doc_node *n = &p->nodes[p->count++];
    *n = (struct doc_node){ .kind = kind, .name = name };
    return n;
}

static void list_add(struct doc_list *l, struct doc_node *n)
{
    if (l->head == NULL) {
        l->head = n;
    } else {
        l->tail->next = n;
    }
    l->tail = n;
    l->count++;
}

/* One node for all of them: itself if there is one only. */
static struct doc_node *list_node(struct doc_parser *p, const struct doc_list *l, enum doc_kind kind)
{
    ASSERT(l->count > 0);
    if (l->count == 1) return l->head;
    struct doc_node *n = node_new(p, kind, SLICE_NONE);
    n->inside = l->head;
    return n;
}

/* --- the grammar ------------------------------------------------------------------------------ */

/* `[key value ...]` behind `key value`: *back = 2. */
static bool take_repeat(struct doc_parser *p, const struct doc_list *l, size_t *back)
{
    size_t from = p->at;
    if (!take(p, " [")) return false;
    for (size_t first = 0; first < l->count; first++) {
        const struct doc_node *n = l->head;
        for (size_t i = 0; i < first; i++) n = n->next;
        size_t begin = p->at;
        bool same = true;
        for (; n != NULL && same; n = n->next) {
            struct slice rest = { p->text.at + p->at, p->text.len - p->at };
            same = n->kind == DOC_PLAIN && slice_starts(rest, n->name);
            p->at += same ? n->name.len : 0;
            same = same && take(p, " ");
        }
        *back = l->count - first;
        if (same && take(p, "...]")) return true;
        p->at = begin;
    }
    p->at = from;
    return false;
}

/* The last `back` ones come again: a block, if they are several. */
static void list_repeat(struct doc_parser *p, struct doc_list *l, size_t back)
{
    if (back == 1) {
        l->tail->multiple = true;
        return;
    }
    struct doc_list kept = { .head = NULL };
    struct doc_list again = { .head = NULL };
    struct doc_node *next = NULL;
    size_t first = l->count - back;
    size_t at = 0;
    for (struct doc_node *n = l->head; n != NULL; n = next, at++) {
        next = n->next;
        n->next = NULL;
        list_add(at < first ? &kept : &again, n);
    }
    struct doc_node *block = list_node(p, &again, DOC_BLOCK);
    block->multiple = true;
    list_add(&kept, block);
    *l = kept;
}

static void parse_plains(struct doc_parser *p, struct doc_list *l)
{
    while (at_plain(p)) {
        list_add(l, node_new(p, DOC_PLAIN, take_word(p)));
        size_t back = 0;
        if (take(p, "...") || take(p, " ...")) l->tail->multiple = true;
        if (take_repeat(p, l, &back)) list_repeat(p, l, back);
        size_t before = p->at;
        skip_blanks(p);
        if (!at_plain(p)) p->at = before;
    }
}

static struct doc_node *parse_text(struct doc_parser *p);
static void parse_group(struct doc_parser *p, struct doc_list *l);

static struct doc_node *parse_token(struct doc_parser *p)
{
    struct slice token = take_word(p);
    size_t before = p->at;
    struct doc_list l = { .head = NULL };
    if (take(p, " ") && at_token(p)) {
        parse_group(p, &l);
    } else if (at_plain(p)) {
        parse_plains(p, &l);
    } else {
        p->at = before;
        struct doc_node *n = node_new(p, DOC_TOKEN, token);
        n->token = token;
        return n;
    }
    struct doc_node *n = list_node(p, &l, DOC_BLOCK);
    if (n->token.len > 0) { /* `TYPE NORMAL`: the only word that may follow */
        struct doc_list one = { .head = NULL };
        list_add(&one, n);
        n = node_new(p, DOC_BLOCK, SLICE_NONE);
        n->inside = one.head;
    }
    n->token = token;
    return n;
}

static void parse_unit(struct doc_parser *p, struct doc_list *l)
{
    if (take(p, "[")) {
        struct doc_node *n = parse_text(p);
        bool closed = take(p, "]");
        ASSERT(closed);
        n->optional = true;
        list_add(l, n);
    } else if (at_token(p)) {
        list_add(l, parse_token(p));
    } else {
        parse_plains(p, l);
    }
}

static void parse_group(struct doc_parser *p, struct doc_list *l)
{
    struct doc_list first = { .head = NULL };
    parse_unit(p, &first);
    if (peek(p) != '|') {
        for (struct doc_node *n = first.head, *next = NULL; n != NULL; n = next) {
            next = n->next;
            n->next = NULL;
            list_add(l, n);
        }
        return;
    }
    struct doc_list choices = { .head = NULL };
    list_add(&choices, list_node(p, &first, DOC_BLOCK));
    while (take(p, "|")) {
        struct doc_list more = { .head = NULL };
        parse_unit(p, &more);
        list_add(&choices, list_node(p, &more, DOC_BLOCK));
    }
    list_add(l, list_node(p, &choices, DOC_ONEOF));
}

static void parse_seq(struct doc_parser *p, struct doc_list *l)
{
    skip_blanks(p);
    while (peek(p) >= 0 && peek(p) != ']' && !at_text(p, " | ")) {
        parse_group(p, l);
        skip_blanks(p);
    }
}

static struct doc_node *parse_text(struct doc_parser *p)
{
    struct doc_list choices = { .head = NULL };
    do {
        struct doc_list seq = { .head = NULL };
        parse_seq(p, &seq);
        list_add(&choices, list_node(p, &seq, DOC_BLOCK));
    } while (take(p, " | "));
    return list_node(p, &choices, DOC_ONEOF);
}

/* --- the reply ----------------------------------------------------------------------------------- */

static bool is_one_of(struct slice name, const char *const *words)
{
    while (*words != NULL && !slice_is(name, *words)) words++;
    return *words != NULL;
}

static const char *type_of(const struct doc_node *n, const struct cmd_def *def)
{
    static const char *const keys[] = { "key", "newkey", "source", "destination", NULL };
    static const char *const integers[] = {
        "seconds", "milliseconds", "count", "index", "increment", "decrement", "offset", "n", "m", "k", "r", "rev",
        "revision", "numkeys", "timeout", "ms", "numreplicas", "numlocal", "protover", "destination-db", "cursor",
        "token", "int", NULL,
    };
    static const char *const times[] = { "unix-time-seconds", "unix-time-milliseconds", NULL };
    switch (n->kind) {
    case DOC_TOKEN: return "pure-token";
    case DOC_ONEOF: return "oneof";
    case DOC_BLOCK: return "block";
    case DOC_PLAIN: break;
    }
    if (def->keys.first != 0 && is_one_of(n->name, keys)) return "key";
    if (def->find_keys != NULL && is_one_of(n->name, keys)) return "key";
    if (slice_is(n->name, "increment") && strcmp(def->name, "incrbyfloat") == 0) return "double";
    if (is_one_of(n->name, integers)) return "integer";
    if (is_one_of(n->name, times)) return "unix-time";
    if (slice_is(n->name, "pattern")) return "pattern";
    if (slice_is(n->name, "id") && def->group != GROUP_STREAM) return "integer";
    bool places = slice_is(n->name, "start") || slice_is(n->name, "end");
    return places && def->group == GROUP_STRING ? "integer" : "string";
}

/* Lower case; a group has its token's name, or the first one's inside. */
static void reply_name(struct reply *r, const struct doc_node *n)
{
    while (n->name.at == NULL && n->token.len == 0) n = n->inside;
    struct slice from = n->name.at != NULL ? n->name : n->token;
    char lower[64];
    ASSERT(from.len < sizeof lower);
    for (size_t i = 0; i < from.len; i++) {
        uint8_t c = from.at[i];
        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    reply_bulk(r, (struct slice){ (const uint8_t *)lower, from.len });
}

static size_t list_length(const struct doc_node *n)
{
    size_t count = 0;
    for (; n != NULL; n = n->next) count++;
    return count;
}

static void reply_nodes(struct reply *r, const struct cmd_def *def, const struct doc_node *first);

static void reply_node(struct reply *r, const struct cmd_def *def, const struct doc_node *n)
{
    const char *type = type_of(n, def);
    bool is_key = strcmp(type, "key") == 0;
    bool shown = n->kind == DOC_PLAIN || n->kind == DOC_TOKEN;
    size_t flags = (size_t)n->optional + n->multiple;
    reply_map(r, 2 + (size_t)is_key + shown + (n->token.len > 0) + (flags > 0) + (n->inside != NULL));
    reply_bulk_cstr(r, "name");
    reply_name(r, n);
    reply_bulk_cstr(r, "type");
    reply_bulk_cstr(r, type);
    if (shown) {
        reply_bulk_cstr(r, "display_text");
        reply_name(r, n);
    }
    if (is_key) {
        reply_bulk_cstr(r, "key_spec_index");
        reply_int(r, 0);
    }
    if (n->token.len > 0) {
        reply_bulk_cstr(r, "token");
        reply_bulk(r, n->token);
    }
    if (flags > 0) {
        reply_bulk_cstr(r, "flags");
        reply_set(r, flags);
        if (n->optional) reply_simple(r, SLICE_LIT("optional"));
        if (n->multiple) reply_simple(r, SLICE_LIT("multiple"));
    }
    if (n->inside == NULL) return;
    reply_bulk_cstr(r, "arguments");
    reply_nodes(r, def, n->inside);
}

static void reply_nodes(struct reply *r, const struct cmd_def *def, const struct doc_node *first)
{
    reply_array(r, list_length(first));
    for (const struct doc_node *n = first; n != NULL; n = n->next) reply_node(r, def, n);
}

void cmd_reply_arguments(struct reply *r, const struct cmd_def *def)
{
    struct doc_parser p = { .text = slice_of(def->args) };
    struct doc_node *n = parse_text(&p);
    ASSERT(p.at == p.text.len);
    bool is_list = n->kind == DOC_BLOCK && n->token.len == 0 && !n->multiple && !n->optional;
    reply_nodes(r, def, is_list ? n->inside : n);
}
