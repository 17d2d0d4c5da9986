#include "cli/args.h"

#include "cli/text.h"

#include <stdio.h>

/* For "%.*s": what a user typed, cut so that an error stays one line. */
#define SHOWN_BYTES_MAX 128
#define SHOWN(s)        (int)MIN((s).len, SHOWN_BYTES_MAX), (const char *)(s).at

struct cursor {
    const struct slice *words;
    size_t count;
    size_t at;
};

static void command_name(const struct args *a, char *out, size_t size)
{
    const struct command *c = a->command;
    if (c == NULL) {
        snprintf(out, size, "cordis");
    } else if (c->group == NULL) {
        snprintf(out, size, "cordis %s", c->name);
    } else {
        snprintf(out, size, "cordis %s %s", c->group, c->name);
    }
}

static uint64_t allowed_options(const struct args *a)
{
    return OPT_GLOBAL_MASK | (a->command == NULL ? 0 : a->command->options);
}

/* An option of some other command counts as unknown, unless the command is not known yet. */
static enum err option_unknown(const struct args *a, struct slice word, struct slice name,
                               struct errmsg *em)
{
    char command[64];
    command_name(a, command, sizeof command);
    const char *near = option_suggest(allowed_options(a), name);
    if (near != NULL) {
        errmsg_set(em, "unknown option '%.*s'; did you mean '--%s'?", SHOWN(word), near);
    } else if (a->command == NULL) {
        errmsg_set(em,
                   "unknown option '%.*s'; options of a command stand behind it: see `%s --help`",
                   SHOWN(word), command);
    } else {
        errmsg_set(em,
                   "'%s' has no option '%.*s': see `%s --help`; a value that begins with a "
                   "dash stands behind --",
                   command, SHOWN(word), command);
    }
    return ERR_SYNTAX;
}

static bool option_find(uint64_t allowed, struct slice name, bool is_long, enum option_id *out)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if ((allowed & OPT_BIT(i)) == 0) continue;
        const struct option *o = &option_table[i];
        bool same = is_long ? slice_eq(name, slice_of(o->name))
                            : name.len == 1 && name.at[0] == (uint8_t)o->letter;
        if (!same) continue;
        *out = (enum option_id)i;
        return true;
    }
    return false;
}

static enum err value_take(struct args *a, enum option_id id, struct slice value, struct errmsg *em)
{
    a->value[id] = value;
    if (id != OPT_ENDPOINTS) return OK;
    if (a->endpoints_count == ARGS_ENDPOINTS_MAX) {
        errmsg_set(em, "--endpoints is given more than %d times", ARGS_ENDPOINTS_MAX);
        return ERR_SYNTAX;
    }
    a->endpoints[a->endpoints_count++] = value;
    return OK;
}

/* words[at] begins with a dash: --name, --name=value, --name value, -w value. */
static enum err option_take(struct cursor *in, struct args *a, struct errmsg *em)
{
    struct slice word = in->words[in->at++];
    bool is_long = slice_starts(word, SLICE_LIT("--"));
    struct slice name = { word.at + 1 + is_long, word.len - 1 - is_long };
    const uint8_t *equals = is_long ? memchr(name.at, '=', name.len) : NULL;
    if (equals != NULL) name.len = (size_t)(equals - name.at);

    enum option_id id;
    if (!option_find(allowed_options(a), name, is_long, &id)) {
        return option_unknown(a, word, name, em);
    }
    const struct option *o = &option_table[id];
    a->given |= OPT_BIT(id);
    if (o->value == NULL) {
        if (equals == NULL) return OK;
        errmsg_set(em, "--%s takes no value", o->name);
        return ERR_SYNTAX;
    }
    if (equals != NULL) {
        struct slice value = { equals + 1, word.len - (size_t)(equals + 1 - word.at) };
        return value_take(a, id, value, em);
    }
    if (in->at == in->count) {
        errmsg_set(em, "--%s needs a value: --%s %s", o->name, o->name, o->value);
        return ERR_SYNTAX;
    }
    return value_take(a, id, in->words[in->at++], em);
}

static enum err command_unknown(struct slice group, struct slice name, struct errmsg *em)
{
    const char *near = command_suggest(group, name);
    int group_len = (int)group.len;
    const char *space = group.len == 0 ? "" : " ";
    if (near != NULL) {
        errmsg_set(em, "unknown command '%.*s%s%.*s'; did you mean '%.*s%s%s'?", group_len,
                   (const char *)group.at, space, SHOWN(name), group_len, (const char *)group.at,
                   space, near);
    } else {
        errmsg_set(em, "unknown command '%.*s%s%.*s'; `cordis%s%.*s --help` lists them", group_len,
                   (const char *)group.at, space, SHOWN(name), space, group_len,
                   (const char *)group.at);
    }
    return ERR_SYNTAX;
}

static enum err positional_take(struct slice word, struct args *a, struct errmsg *em)
{
    if (a->command == NULL) {
        struct slice group = a->group == NULL ? SLICE_NONE : slice_of(a->group);
        a->command = command_find(group, word);
        if (a->command != NULL) {
            a->group = NULL;
            return OK;
        }
        if (a->group == NULL) a->group = command_group_find(word);
        return a->group == NULL || group.len > 0 ? command_unknown(group, word, em) : OK;
    }
    if (a->positional_count == a->command->positional_max) {
        char command[64];
        command_name(a, command, sizeof command);
        errmsg_set(em, "one argument too many: '%.*s'. Usage: %s %s", SHOWN(word), command,
                   a->command->args);
        return ERR_SYNTAX;
    }
    a->positional[a->positional_count++] = word;
    return OK;
}

/* `cordis help get` is `cordis get --help`, `cordis version` is `cordis --version`. */
static bool name_of_option_take(struct slice word, struct args *a)
{
    if (a->command != NULL || a->group != NULL) return false;
    bool is_help = slice_eq(word, SLICE_LIT("help"));
    if (!is_help && !slice_eq(word, SLICE_LIT("version"))) return false;
    a->given |= is_help ? OPT_BIT(OPT_HELP) : OPT_BIT(OPT_VERSION);
    return true;
}

static enum err words_take(struct cursor *in, struct args *a, struct errmsg *em)
{
    bool options_ended = false;
    while (in->at < in->count) {
        struct slice word = in->words[in->at];
        bool is_option = !options_ended && word.len > 1 && word.at[0] == '-';
        if (is_option && slice_eq(word, SLICE_LIT("--"))) {
            in->at++;
            if (a->command != NULL && a->command->has_tail) {
                a->tail = in->words + in->at;
                a->tail_count = in->count - in->at;
                return OK;
            }
            options_ended = true;
        } else if (is_option) {
            TRY(option_take(in, a, em));
        } else {
            in->at++;
            if (!name_of_option_take(word, a)) TRY(positional_take(word, a, em));
        }
    }
    return OK;
}

/* Everything is understood; is everything there? */
static enum err completeness_check(const struct args *a, const struct cursor *in, struct errmsg *em)
{
    char command[64];
    command_name(a, command, sizeof command);
    if (a->command == NULL) {
        if (a->group == NULL) {
            errmsg_set(em, "which command? `cordis --help` lists them");
        } else {
            errmsg_set(em, "which command of '%s'? `cordis %s --help` lists them", a->group,
                       a->group);
        }
        return ERR_SYNTAX;
    }
    if (a->positional_count < a->command->positional_min) {
        errmsg_set(em, "an argument is missing. Usage: %s %s", command, a->command->args);
        return ERR_SYNTAX;
    }
    bool dashes_last = a->command->has_tail && a->tail != NULL && a->tail_count == 0;
    if (dashes_last && in->at == in->count) {
        errmsg_set(em, "a command to run is missing behind --");
        return ERR_SYNTAX;
    }
    return OK;
}

enum err args_parse(const struct slice *words, size_t count, struct args *out, struct errmsg *em)
{
    struct args a = { 0 };
    struct cursor in = { .words = words, .count = count };
    enum err err = words_take(&in, &a, em);
    bool wants_text = args_has(&a, OPT_HELP) || args_has(&a, OPT_VERSION);
    if (err == OK && !wants_text) err = completeness_check(&a, &in, em);
    if (err != OK && !wants_text) return err;
    *out = a;
    return OK;
}

enum err args_number(const struct args *a, enum option_id id, int64_t min, int64_t *out,
                     struct errmsg *em)
{
    if (!args_has(a, id)) return OK;
    struct slice text = a->value[id];
    int64_t v;
    if (i64_parse(text, &v) != OK || v < min) {
        errmsg_set(em, "--%s needs a number from %lld on, not '%.*s'", option_table[id].name,
                   (long long)min, SHOWN(text));
        return ERR_SYNTAX;
    }
    *out = v;
    return OK;
}

enum err args_id(const struct args *a, enum option_id id, int64_t *out, struct errmsg *em)
{
    if (!args_has(a, id)) return OK;
    int64_t v;
    if (text_id(a->value[id], &v) != OK || v < 1) {
        errmsg_set(em, "--%s needs an id (a number), not '%.*s'", option_table[id].name,
                   SHOWN(a->value[id]));
        return ERR_SYNTAX;
    }
    *out = v;
    return OK;
}

enum err args_positional_id(const struct args *a, size_t at, const char *what, int64_t *out,
                            struct errmsg *em)
{
    ASSERT(at < a->positional_count);
    int64_t v;
    if (text_id(a->positional[at], &v) != OK || v < 1) {
        errmsg_set(em, "'%.*s' is not a %s (a number)", SHOWN(a->positional[at]), what);
        return ERR_SYNTAX;
    }
    *out = v;
    return OK;
}
