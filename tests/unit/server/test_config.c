/* The table of all options: what every row must keep, and that a printed file loads again. That
 * conf/cordis.conf is what the server prints is checked through the binary (tests/run config). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config.h"

static size_t value_bytes(enum option_kind kind)
{
    switch (kind) {
    case OPTION_BOOL: return sizeof(bool);
    case OPTION_ENUM: return sizeof(int);
    case OPTION_TEXT: return sizeof(char *);
    case OPTION_INT:
    case OPTION_BYTES:
    case OPTION_MS: return sizeof(int64_t);
    }
    return 0;
}

static void test_every_row_is_fit_to_print(void **state)
{
    (void)state;
    assert_true(config_row_count > 0);
    assert_non_null(config_rows[0].section);
    for (size_t i = 0; i < config_row_count; i++) {
        const struct option *o = &config_rows[i];
        if (strspn(o->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(o->name)) {
            fail_msg("%s: a name is small letters, digits and '-'", o->name);
        }
        size_t len = strlen(o->help);
        if (len < 10 || o->help[len - 1] != '.') fail_msg("%s: help is a sentence", o->name);
        if (strchr(o->help, '\n') != NULL) fail_msg("%s: help is wrapped when printed", o->name);
        bool number = o->kind == OPTION_INT || o->kind == OPTION_BYTES || o->kind == OPTION_MS;
        if (number && o->min >= o->max) fail_msg("%s: no range", o->name);
        if ((o->kind == OPTION_ENUM) != (o->choices != NULL)) fail_msg("%s: choices", o->name);
    }
}

/* Two rows that write to one place would be a copied line. */
static void test_every_row_has_a_name_and_a_place_of_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_row_count; i++) {
        const struct option *a = &config_rows[i];
        assert_true(a->offset + value_bytes(a->kind) <= sizeof(struct config));
        for (size_t j = i + 1; j < config_row_count; j++) {
            const struct option *b = &config_rows[j];
            if (slice_is(slice_of(a->name), b->name)) fail_msg("%s twice", a->name);
            bool apart = a->offset + value_bytes(a->kind) <= b->offset ||
                         b->offset + value_bytes(b->kind) <= a->offset;
            if (!apart) fail_msg("%s and %s share memory", a->name, b->name);
        }
    }
}

/* Names and defaults that people and other programs rely on. */
static const struct {
    const char *name, *value;
} promised[] = {
    { "port", "7379" },          { "bind", "127.0.0.1" },        { "dir", "./data" },
    { "peer-port", "7380" },     { "requirepass", "" },          { "heartbeat-interval", "100" },
    { "logfile", "" },           { "election-timeout", "1000" }, { "snapshot-count", "10000" },
    { "loglevel", "notice" },    { "protected-mode", "yes" },    { "maxclients", "10000" },
    { "timeout", "0" },
};

static void test_promised_names_have_their_defaults(void **state)
{
    (void)state;
    struct config c;
    struct option_set set = config_set(&c);
    options_init(&set);
    for (size_t i = 0; i < ARRAY_LEN(promised); i++) {
        const struct option *o = option_find(&set, slice_of(promised[i].name));
        if (o == NULL) fail_msg("no option %s", promised[i].name);
        struct buf value = { 0 };
        option_get_value(&set, o, &value);
        if (!slice_eq(buf_slice(&value), slice_of(promised[i].value))) {
            fail_msg("%s is %.*s", promised[i].name, (int)value.len, (const char *)value.at);
        }
        buf_deinit(&value);
    }
    options_deinit(&set);
}

static void test_passwords_are_marked_secret(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_row_count; i++) {
        const char *name = config_rows[i].name;
        bool secret = strstr(name, "pass") != NULL || strstr(name, "token") != NULL;
        if (secret && (config_rows[i].flags & OPTION_SECRET) == 0) fail_msg("%s is not secret", name);
    }
}

/* A value other than the preset, for whatever kind. */
static void change(const struct option_set *set, const struct option *o)
{
    struct buf value = { 0 };
    option_get_value(set, o, &value);
    bool is_first = o->kind == OPTION_ENUM && slice_is(buf_slice(&value), o->choices[0]);
    bool is_yes = slice_is(buf_slice(&value), "yes");
    buf_clear(&value);
    switch (o->kind) {
    case OPTION_BOOL: buf_printf(&value, "%s", is_yes ? "no" : "yes"); break;
    case OPTION_ENUM: buf_printf(&value, "%s", o->choices[is_first ? 1 : 0]); break;
    case OPTION_TEXT: buf_printf(&value, "changed \"%s\"", o->name); break;
    case OPTION_INT:
    case OPTION_BYTES:
    case OPTION_MS: buf_printf(&value, "%lld", (long long)o->max - 1); break;
    }
    struct errmsg em = { "" };
    if (option_set_value(set, o, buf_slice(&value), &em) != OK) fail_msg("%s", em.text);
    assert_false(option_is_preset(set, o));
    buf_deinit(&value);
}

static void load_text(const struct option_set *set, struct slice text)
{
    char path[] = "/tmp/cordis-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.at, text.len), text.len);
    close(fd);
    struct errmsg em = { "" };
    if (options_load(set, path, &em) != OK) fail_msg("%s", em.text);
    unlink(path);
}

static void test_a_printed_file_is_the_defaults(void **state)
{
    (void)state;
    struct config c;
    struct option_set set = config_set(&c);
    struct buf text = { 0 };
    options_print(&set, &text);
    options_init(&set);
    for (size_t i = 0; i < config_row_count; i++) {
        if (config_rows[i].kind != OPTION_TEXT) change(&set, &config_rows[i]);
    }
    load_text(&set, buf_slice(&text));
    for (size_t i = 0; i < config_row_count; i++) {
        bool printed = (config_rows[i].flags & OPTION_HIDDEN) == 0;
        if (printed && !option_is_preset(&set, &config_rows[i])) fail_msg("%s", config_rows[i].name);
    }
    buf_deinit(&text);
    options_deinit(&set);
}

static void test_a_rewritten_file_keeps_every_change(void **state)
{
    (void)state;
    struct config c;
    struct config again;
    struct option_set set = config_set(&c);
    struct option_set set_again = config_set(&again);
    options_init(&set);
    options_init(&set_again);
    struct buf printed = { 0 };
    struct buf text = { 0 };
    options_print(&set, &printed);
    for (size_t i = 0; i < config_row_count; i++) change(&set, &config_rows[i]);
    options_rewrite(&set, buf_slice(&printed), &text);
    load_text(&set_again, buf_slice(&text));
    for (size_t i = 0; i < config_row_count; i++) {
        struct buf want = { 0 };
        struct buf got = { 0 };
        option_get_value(&set, &config_rows[i], &want);
        option_get_value(&set_again, &config_rows[i], &got);
        if (!slice_eq(buf_slice(&want), buf_slice(&got))) fail_msg("%s", config_rows[i].name);
        buf_deinit(&want);
        buf_deinit(&got);
    }
    buf_deinit(&printed);
    buf_deinit(&text);
    options_deinit(&set);
    options_deinit(&set_again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_is_fit_to_print),
        cmocka_unit_test(test_every_row_has_a_name_and_a_place_of_its_own),
        cmocka_unit_test(test_promised_names_have_their_defaults),
        cmocka_unit_test(test_passwords_are_marked_secret),
        cmocka_unit_test(test_a_printed_file_is_the_defaults),
        cmocka_unit_test(test_a_rewritten_file_keeps_every_change),
    };
    return cmocka_run_group_tests_name("server/config", tests, NULL, NULL);
}
