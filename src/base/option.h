/* base/option.h - configuration: tables of options, a file in redis.conf's form, --name value.
 *
 * PURPOSE  Read, check, set, print and rewrite options. Decides nothing about what they mean.
 * OWNS     Strings it stores in the caller's structure (freed with options_deinit).
 * USES     base.h, buf.h.
 * THREADS  Loop thread only.
 * LIMITS   OPTION_LINE_BYTES_MAX a line, OPTION_FILE_BYTES_MAX a file.
 * ERRORS   ERR_CONFIG with the option, the value and what would be right in errmsg; ERR_IO.
 *
 * FORMAT   A file has lines `name value`; '#' begins a comment, on a line of its own or behind a
 *          quoted value; a value may be in double quotes with \" \\ \n \xHH. Bytes take k, kb, m,
 *          mb, g, gb (kb = 1024); durations ms, s, m, h, d.
 */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include "base/buf.h"

#define OPTION_LINE_BYTES_MAX 8192
#define OPTION_FILE_BYTES_MAX (1u << 20)

enum option_kind { OPTION_BOOL, OPTION_INT, OPTION_BYTES, OPTION_MS, OPTION_TEXT, OPTION_ENUM };

enum {
    OPTION_RUNTIME = 1, /* CONFIG SET may change it */
    OPTION_SECRET = 2,  /* never printed */
    OPTION_HIDDEN = 4,  /* for tests: not in the generated file */
    OPTION_SEED = 8,    /* only the first value of a setting of the group: not CONFIG's */
};

/* One row. The value lives at base + offset: BOOL bool, ENUM int (place in choices), TEXT char *,
 * others int64_t. */
struct option {
    const char *name;
    enum option_kind kind;
    unsigned flags;
    size_t offset;
    const char *preset;      /* default, as it would be typed */
    int64_t min, max;        /* for numbers; TEXT: max is of its length, 0 none but a line's */
    const char *const *choices; /* ENUM: NULL-terminated */
    const char *section;     /* a heading before the first option of a section, else NULL */
    const char *help;        /* one or more sentences; wrapped in the generated file */
};

struct option_set {
    const struct option *rows;
    size_t count;
    void *base; /* the structure the offsets are into */
};

void options_init(const struct option_set *set);   /* all presets; asserts that they are valid */
void options_deinit(const struct option_set *set);
const struct option *option_find(const struct option_set *set, struct slice name); /* or NULL */

enum err option_set_value(const struct option_set *set, const struct option *o, struct slice value,
                          struct errmsg *em) MUST_USE;
/* Would option_set_value take it? Changes nothing. */
enum err option_check_value(const struct option *o, struct slice value, struct errmsg *em) MUST_USE;
void option_get_value(const struct option_set *set, const struct option *o, struct buf *out);
bool option_is_preset(const struct option_set *set, const struct option *o);

/* All of a file; em names file and line. */
enum err options_load(const struct option_set *set, const char *path, struct errmsg *em) MUST_USE;
/* argv[1..]: `--name value` pairs, and at most one leading file name (in *path if not NULL). */
enum err options_args(const struct option_set *set, int argc, char **argv, const char **path,
                      struct errmsg *em) MUST_USE;
/* The commented file with every option at its default. */
void options_print(const struct option_set *set, struct buf *out);
/* `--name value` help, one line each. */
void options_help(const struct option_set *set, struct buf *out);
/* For CONFIG REWRITE: the old text with changed values replaced in place and new ones appended. */
void options_rewrite(const struct option_set *set, struct slice old_text, struct buf *out);

#endif
