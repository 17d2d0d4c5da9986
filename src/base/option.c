/* base/option.c - see option.h. */
#include "base/option.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct unit {
    const char *text;
    int64_t factor;
};

static const struct unit byte_units[] = {
    { "", 1 },          { "b", 1 },           { "k", 1024 },      { "kb", 1024 },
    { "m", 1024 * 1024 }, { "mb", 1024 * 1024 }, { "g", 1 << 30 },  { "gb", 1 << 30 },
};
static const struct unit ms_units[] = {
    { "", 1 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
};

static void *place(const struct option_set *set, const struct option *o)
{
    return (char *)set->base + o->offset;
}

const struct option *option_find(const struct option_set *set, struct slice name)
{
    for (size_t i = 0; i < set->count; i++) {
        if (slice_is(name, set->rows[i].name)) return &set->rows[i];
    }
    return NULL;
}

/* Digits, then one of the units. */
static enum err number_parse(struct slice s, const struct unit *units, size_t unit_count, int64_t *out)
{
    size_t digits = 0;
    while (digits < s.len && ((s.at[digits] >= '0' && s.at[digits] <= '9') ||
                              (digits == 0 && s.at[0] == '-'))) {
        digits++;
    }
    int64_t v = 0;
    TRY(i64_parse((struct slice){ s.at, digits }, &v));
    struct slice rest = { s.at + digits, s.len - digits };
    for (size_t i = 0; i < unit_count; i++) {
        if (!slice_is(rest, units[i].text)) continue;
        if (v > INT64_MAX / units[i].factor || v < INT64_MIN / units[i].factor) return ERR_NOT_INT;
        *out = v * units[i].factor;
        return OK;
    }
    return ERR_NOT_INT;
}

static enum err set_number(const struct option *o, struct slice value, int64_t *out, struct errmsg *em)
{
    int64_t v = 0;
    enum err e = OK;
    if (o->kind == OPTION_BYTES) {
        e = number_parse(value, byte_units, ARRAY_LEN(byte_units), &v);
    } else if (o->kind == OPTION_MS) {
        e = number_parse(value, ms_units, ARRAY_LEN(ms_units), &v);
    } else {
        e = i64_parse(value, &v);
    }
    if (e != OK) {
        errmsg_set(em, "argument of '%s' must be a number%s", o->name,
                   o->kind == OPTION_BYTES ? " of bytes, like 64mb"
                   : o->kind == OPTION_MS  ? " of milliseconds, or with a unit, like 10s"
                                           : "");
        return ERR_CONFIG;
    }
    if (v < o->min || v > o->max) {
        errmsg_set(em, "argument of '%s' must be between %lld and %lld", o->name, (long long)o->min,
                   (long long)o->max);
        return ERR_CONFIG;
    }
    *out = v;
    return OK;
}

static enum err set_enum(const struct option *o, struct slice value, int *out, struct errmsg *em)
{
    char all[200] = "";
    for (int i = 0; o->choices[i] != NULL; i++) {
        if (slice_is(value, o->choices[i])) {
            *out = i;
            return OK;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s", i == 0 ? "" : ", ", o->choices[i]);
    }
    errmsg_set(em, "argument of '%s' must be one of: %s", o->name, all);
    return ERR_CONFIG;
}

static void print_value(struct buf *out, struct slice value);

/* CONFIG REWRITE must be able to write it as a line that is read back. */
static bool fits_a_line(const struct option *o, struct slice value)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    print_value(&text, value);
    return strlen(o->name) + 1 + text.len <= OPTION_LINE_BYTES_MAX;
}

static enum err set_text(const struct option *o, struct slice value, char **out, struct errmsg *em)
{
    if (o->max != 0 && value.len > (size_t)o->max) {
        errmsg_set(em, "argument of '%s' must be at most %lld bytes long", o->name, (long long)o->max);
        return ERR_CONFIG;
    }
    if (!fits_a_line(o, value)) {
        errmsg_set(em, "argument of '%s' is too long", o->name);
        return ERR_CONFIG;
    }
    if (value.len > 0 && memchr(value.at, '\0', value.len) != NULL) {
        errmsg_set(em, "argument of '%s' must not contain a zero byte", o->name);
        return ERR_CONFIG;
    }
    char *text = mem_alloc(value.len + 1);
    if (value.len > 0) memcpy(text, value.at, value.len);
    text[value.len] = '\0';
    mem_free(*out);
    *out = text;
    return OK;
}

enum err option_set_value(const struct option_set *set, const struct option *o, struct slice value,
                          struct errmsg *em)
{
    void *at = place(set, o);
    switch (o->kind) {
    case OPTION_BOOL:
        if (slice_is(value, "yes")) {
            *(bool *)at = true;
        } else if (slice_is(value, "no")) {
            *(bool *)at = false;
        } else {
            errmsg_set(em, "argument of '%s' must be 'yes' or 'no'", o->name);
            return ERR_CONFIG;
        }
        return OK;
    case OPTION_INT:
    case OPTION_BYTES:
    case OPTION_MS: return set_number(o, value, at, em);
    case OPTION_TEXT: return set_text(o, value, at, em);
    case OPTION_ENUM: return set_enum(o, value, at, em);
    }
    ASSERT(false);
    return ERR_CONFIG;
}

void option_get_value(const struct option_set *set, const struct option *o, struct buf *out)
{
    const void *at = place(set, o);
    switch (o->kind) {
    case OPTION_BOOL: buf_printf(out, "%s", *(const bool *)at ? "yes" : "no"); return;
    case OPTION_INT:
    case OPTION_BYTES:
    case OPTION_MS: buf_printf(out, "%lld", (long long)*(const int64_t *)at); return;
    case OPTION_TEXT: buf_printf(out, "%s", *(char *const *)at); return;
    case OPTION_ENUM: buf_printf(out, "%s", o->choices[*(const int *)at]); return;
    }
    ASSERT(false);
}

void options_init(const struct option_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option *o = &set->rows[i];
        if (o->kind == OPTION_TEXT) *(char **)place(set, o) = NULL;
        enum err e = option_set_value(set, o, slice_of(o->preset), NULL);
        ASSERT(e == OK);
        ASSERT(option_find(set, slice_of(o->name)) == o);
    }
}

void options_deinit(const struct option_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->rows[i].kind != OPTION_TEXT) continue;
        char **text = place(set, &set->rows[i]);
        mem_free(*text);
        *text = NULL;
    }
}

/* Room for the value of one option of any kind. */
union option_value {
    bool b;
    int64_t i;
    char *text;
    int choice;
};

enum err option_check_value(const struct option *o, struct slice value, struct errmsg *em)
{
    union option_value room = { .text = NULL };
    struct option row = *o;
    row.offset = 0;
    struct option_set one = { &row, 1, &room };
    TRY(option_set_value(&one, &row, value, em));
    if (o->kind == OPTION_TEXT) mem_free(room.text);
    return OK;
}

/* The preset as option_get_value would print it. */
static void preset_text(const struct option *o, struct buf *out)
{
    union option_value value = { .text = NULL };
    struct option row = *o;
    row.offset = 0;
    struct option_set one = { &row, 1, &value };
    enum err e = option_set_value(&one, &row, slice_of(o->preset), NULL);
    ASSERT(e == OK);
    option_get_value(&one, &row, out);
    if (o->kind == OPTION_TEXT) mem_free(value.text);
}

bool option_is_preset(const struct option_set *set, const struct option *o)
{
    struct buf now = { 0 };
    struct buf preset = { 0 };
    option_get_value(set, o, &now);
    preset_text(o, &preset);
    bool same = slice_eq(buf_slice(&now), buf_slice(&preset));
    buf_deinit(&now);
    buf_deinit(&preset);
    return same;
}

/* --- the file ------------------------------------------------------------------ */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A quoted value at line.at[*at] == '"': decoded into out. */
static enum err quoted_parse(struct slice line, size_t *at, struct buf *out)
{
    size_t i = *at + 1;
    while (i < line.len && line.at[i] != '"') {
        uint8_t c = line.at[i++];
        if (c == '\\') {
            if (i >= line.len) return ERR_SYNTAX;
            c = line.at[i++];
            if (c == 'n') {
                c = '\n';
            } else if (c == 'x') {
                if (i + 2 > line.len || hex_digit(line.at[i]) < 0 || hex_digit(line.at[i + 1]) < 0) {
                    return ERR_SYNTAX;
                }
                c = (uint8_t)(hex_digit(line.at[i]) * 16 + hex_digit(line.at[i + 1]));
                i += 2;
            } else if (c != '"' && c != '\\') {
                return ERR_SYNTAX;
            }
        }
        buf_append_u8(out, c);
    }
    if (i >= line.len) return ERR_SYNTAX;
    *at = i + 1;
    return OK;
}

/* Splits `name value`; an empty name: nothing on this line. value is appended to out. */
static enum err line_parse(struct slice line, struct slice *name, struct buf *value)
{
    size_t at = 0;
    while (at < line.len && is_blank(line.at[at])) at++;
    size_t from = at;
    *name = SLICE_NONE;
    if (at == line.len || line.at[at] == '#') return OK;
    while (at < line.len && !is_blank(line.at[at])) at++;
    *name = (struct slice){ line.at + from, at - from };
    while (at < line.len && is_blank(line.at[at])) at++;
    if (at < line.len && line.at[at] == '"') {
        TRY(quoted_parse(line, &at, value));
        while (at < line.len && is_blank(line.at[at])) at++;
        return at == line.len || line.at[at] == '#' ? OK : ERR_SYNTAX;
    }
    size_t end = line.len;
    while (end > at && is_blank(line.at[end - 1])) end--;
    bool begins = at < end && line.at[at] == '#' && (at + 1 == end || is_blank(line.at[at + 1]));
    if (begins) return ERR_SYNTAX; /* meant as a comment? */
    for (size_t i = at + 1; i < end; i++) {
        if (line.at[i] == '#' && is_blank(line.at[i - 1])) return ERR_SYNTAX;
    }
    buf_append(value, line.at + at, end - at);
    return OK;
}

static enum err set_named(const struct option_set *set, struct slice name, struct slice value,
                          struct errmsg *em)
{
    const struct option *o = option_find(set, name);
    if (o == NULL) {
        errmsg_set(em, "unknown option '%.*s' (--help lists them)", (int)MIN(name.len, 64),
                   (const char *)name.at);
        return ERR_CONFIG;
    }
    return option_set_value(set, o, value, em);
}

static enum err line_apply(const struct option_set *set, struct slice line, struct errmsg *em)
{
    struct buf value CLEANUP(buf_deinit) = { 0 };
    struct slice name;
    if (line_parse(line, &name, &value) != OK) {
        errmsg_set(em, "unbalanced quotes, text behind a quoted value, or a comment behind a value: it needs a "
                   "line of its own, and a value with ' #' quotes");
        return ERR_CONFIG;
    }
    if (name.len == 0) return OK;
    return set_named(set, name, buf_slice(&value), em);
}

static enum err file_read(const char *path, struct buf *out, struct errmsg *em)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        errmsg_set(em, "cannot open '%s': %s", path, strerror(errno));
        return ERR_IO;
    }
    size_t got = 0;
    do {
        uint8_t *to = buf_reserve(out, 4096);
        got = fread(to, 1, 4096, f);
        out->len += got;
    } while (got > 0 && out->len <= OPTION_FILE_BYTES_MAX);
    bool failed = ferror(f) != 0;
    fclose(f);
    if (failed || out->len > OPTION_FILE_BYTES_MAX) {
        errmsg_set(em, "cannot read '%s': %s", path, failed ? "read error" : "file too large");
        return ERR_IO;
    }
    return OK;
}

enum err options_load(const struct option_set *set, const char *path, struct errmsg *em)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    TRY(file_read(path, &text, em));
    size_t at = 0;
    for (unsigned line_number = 1; at < text.len; line_number++) {
        const uint8_t *end = memchr(text.at + at, '\n', text.len - at);
        size_t len = end != NULL ? (size_t)(end - (text.at + at)) : text.len - at;
        struct errmsg why = { "" };
        enum err e = ERR_CONFIG;
        if (len > OPTION_LINE_BYTES_MAX) {
            errmsg_set(&why, "line too long (%d bytes at most)", OPTION_LINE_BYTES_MAX);
        } else {
            e = line_apply(set, (struct slice){ text.at + at, len }, &why);
        }
        if (e != OK) {
            errmsg_set(em, "%s:%u: %.400s", path, line_number, why.text);
            return e;
        }
        at += len + 1;
    }
    return OK;
}

enum err options_args(const struct option_set *set, int argc, char **argv, const char **path,
                      struct errmsg *em)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            if (i == 1 && path != NULL) {
                *path = argv[1];
                continue;
            }
            errmsg_set(em, "unexpected argument '%.64s': options are --name value", argv[i]);
            return ERR_CONFIG;
        }
        struct slice name = slice_of(argv[i] + 2);
        if (i + 1 >= argc && option_find(set, name) != NULL) {
            errmsg_set(em, "option '%.64s' needs a value", argv[i]);
            return ERR_CONFIG;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : ""; /* of an unknown one */
        TRY(set_named(set, name, slice_of(value), em));
        i++;
    }
    return OK;
}

/* Comment lines of at most 96 columns. */
static void print_wrapped(struct buf *out, const char *text, const char *lead)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > 96) {
            buf_printf(out, "\n");
            column = 0;
        }
        column += (size_t)(column == 0 ? strlen(lead) : 1) + word;
        buf_printf(out, "%s%.*s", column == strlen(lead) + word ? lead : " ", (int)word, text);
        text += word;
        while (*text == ' ') text++;
    }
    buf_printf(out, "\n");
}

static void print_value(struct buf *out, struct slice value)
{
    bool plain = value.len > 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] <= ' ' || value.at[i] == '"' || value.at[i] == '#' || value.at[i] > 126) plain = false;
    }
    if (plain) {
        buf_append_slice(out, value);
        return;
    }
    buf_printf(out, "\"");
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];
        if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", c);
        } else if (c < ' ' || c > 126) {
            buf_printf(out, "\\x%02x", c);
        } else {
            buf_append_u8(out, c);
        }
    }
    buf_printf(out, "\"");
}

void options_print(const struct option_set *set, struct buf *out)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option *o = &set->rows[i];
        if ((o->flags & OPTION_HIDDEN) != 0) continue;
        if (o->section != NULL) buf_printf(out, "\n## %s\n", o->section);
        buf_printf(out, "\n");
        print_wrapped(out, o->help, "# ");
        buf_printf(out, "%s%s ", o->preset[0] == '\0' ? "# " : "", o->name);
        print_value(out, slice_of(o->preset));
        buf_printf(out, "\n");
    }
}

void options_help(const struct option_set *set, struct buf *out)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option *o = &set->rows[i];
        if ((o->flags & OPTION_HIDDEN) != 0) continue;
        if (o->section != NULL) buf_printf(out, "\n%s\n", o->section);
        const char *dot = strstr(o->help, ". ");
        size_t len = dot != NULL ? (size_t)(dot - o->help) + 1 : strlen(o->help);
        buf_printf(out, "  --%-26s %-14s %.*s\n", o->name, o->preset[0] == '\0' ? "\"\"" : o->preset,
                   (int)len, o->help);
    }
}

static void rewrite_line(const struct option_set *set, const struct option *o, struct buf *out)
{
    struct buf value CLEANUP(buf_deinit) = { 0 };
    option_get_value(set, o, &value);
    buf_printf(out, "%s ", o->name);
    print_value(out, buf_slice(&value));
    buf_printf(out, "\n");
}

void options_rewrite(const struct option_set *set, struct slice old_text, struct buf *out)
{
    bool *seen = mem_zalloc(set->count);
    size_t at = 0;
    while (at < old_text.len) {
        const uint8_t *end = memchr(old_text.at + at, '\n', old_text.len - at);
        size_t len = end != NULL ? (size_t)(end - (old_text.at + at)) : old_text.len - at;
        struct slice line = { old_text.at + at, len };
        struct buf value = { 0 };
        struct slice name = SLICE_NONE;
        const struct option *o = NULL;
        if (line_parse(line, &name, &value) == OK && name.len > 0) o = option_find(set, name);
        if (o == NULL) {
            buf_append_slice(out, line);
            buf_printf(out, "\n");
        } else if (!seen[o - set->rows]) {
            seen[o - set->rows] = true;
            rewrite_line(set, o, out);
        }
        buf_deinit(&value);
        at += len + 1;
    }
    for (size_t i = 0; i < set->count; i++) {
        if (!seen[i] && !option_is_preset(set, &set->rows[i])) rewrite_line(set, &set->rows[i], out);
    }
    mem_free(seen);
}
