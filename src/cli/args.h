/* cli/args.h - a command line, understood.
 *
 * PURPOSE  Turn words into a command, its options and its arguments, or say what is wrong
 *          with them in words that help. Does not know what a command does.
 * OWNS     Nothing: struct args borrows the words for as long as it is used.
 * USES     base/, commands.h, text.h.
 * THREADS  Any.
 * LIMITS   ARGS_POSITIONAL_MAX, ARGS_ENDPOINTS_MAX.
 * ERRORS   ERR_SYNTAX with the text for the user.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "base/base.h"
#include "cli/commands.h"

#define ARGS_POSITIONAL_MAX 2
#define ARGS_ENDPOINTS_MAX   16 /* --endpoints given again adds to them */

struct args {
    const struct command *command; /* NULL: only global options were given */
    const char *group;             /* a group without a command (for its help); else NULL */
    uint64_t given;                /* OPT_BITs */
    struct slice value[OPT_COUNT]; /* of an option given twice: the last one */
    struct slice endpoints[ARGS_ENDPOINTS_MAX];
    size_t endpoints_count;
    struct slice positional[ARGS_POSITIONAL_MAX];
    size_t positional_count;
    const struct slice *tail; /* behind -- of watch */
    size_t tail_count;
};

/* The words behind the tool's name. With --help or --version nothing else needs to be right. */
enum err args_parse(const struct slice *words, size_t count, struct args *out,
                    struct errmsg *em) MUST_USE;

static inline bool args_has(const struct args *a, enum option_id id)
{
    return (a->given & OPT_BIT(id)) != 0;
}

/* *out unchanged without the option. */
enum err args_number(const struct args *a, enum option_id id, int64_t min, int64_t *out,
                     struct errmsg *em) MUST_USE;
enum err args_id(const struct args *a, enum option_id id, int64_t *out, struct errmsg *em) MUST_USE;
enum err args_positional_id(const struct args *a, size_t at, const char *what, int64_t *out,
                            struct errmsg *em) MUST_USE;

#endif
