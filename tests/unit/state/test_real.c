/* Numbers with a fraction: text in, text out, beside the processor's own long double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "state/real.h"

/* What Redis does. NULL: an argument is no number; "": not finite. */
static const char *expected(const char *a, const char *b, char out[REAL_TEXT_BYTES_MAX + 32])
{
    const char *texts[] = { a, b };
    long double sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char *end = NULL;
        errno = 0;
        long double v = strtold(texts[i], &end);
        if (*texts[i] == '\0' || *end != '\0' || isnan(v)) return NULL;
        if (errno == ERANGE && (v == 0 || isinf(v))) return NULL;
        sum += v;
    }
    if (isnan(sum) || isinf(sum)) return "";
    int len = snprintf(out, REAL_TEXT_BYTES_MAX + 32, "%.17Lf", sum);
    while (out[len - 1] == '0') len--;
    if (out[len - 1] == '.') len--;
    out[len] = '\0';
    return strcmp(out, "-0") == 0 ? "0" : out;
}

static const char *ours(const char *a, const char *b, char out[REAL_TEXT_BYTES_MAX + 32])
{
    struct real x, y, sum;
    if (real_parse(slice_of(a), &x) != OK || real_parse(slice_of(b), &y) != OK) return NULL;
    if (real_add(&x, &y, &sum) != OK) return "";
    out[real_print(&sum, out)] = '\0';
    return out;
}

static void check(const char *a, const char *b, const char *want)
{
    char got_text[REAL_TEXT_BYTES_MAX + 32];
    const char *got = ours(a, b, got_text);
    bool same = want == NULL || got == NULL ? want == got : strcmp(want, got) == 0;
    if (!same) {
        fail_msg("%s + %s: %s, not %s", a, b, got == NULL ? "refused" : got, want == NULL ? "refused" : want);
    }
}

static void test_table(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        { "10.5", "0.1", "10.6" },   { "0.1", "0.2", "0.3" },      { "5.0e3", "2.0e2", "5200" },
        { "3", "-3", "0" },          { "-0", "0", "0" },           { "1", "1e-25", "1" },
        { "1e19", "1", "10000000000000000001" }, { "0x10", "0x.8", "16.5" }, { "0x1p-1", "0", "0.5" },
        { "1e17", "0.1", "100000000000000000.1015625" }, { ".5", "5.", "5.5" }, { "+1", "-.25E1", "-1.5" },
        { "inf", "1", "" },          { "-INFINITY", "inf", "" },   { "nan", "1", NULL },
        { "", "1", NULL },           { " 1", "1", NULL },          { "1 ", "1", NULL },
        { "1e", "1", NULL },         { ".", "1", NULL },           { "0x", "1", NULL },
        { "1e5000", "1", NULL },     { "1e-5000", "1", NULL },     { "0e99999999", "1", "1" },
        { "1x", "1", NULL },         { "--1", "1", NULL },         { "0x1p", "1", NULL },
        { "1.1897e4932", "1.1897e4932", "" }, { "infin", "1", NULL }, { "1e99999999999999999999", "1", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) check(rows[i][0], rows[i][1], rows[i][2]);
}

#if LDBL_MANT_DIG == 64
static uint64_t next(uint64_t *seed)
{
    *seed = u64_mix(*seed + 1);
    return *seed;
}

static void number(uint64_t *seed, char out[64])
{
    uint64_t kind = next(seed) % 8;
    int64_t v = (int64_t)next(seed);
    const char *sign = v < 0 ? "-" : "";
    unsigned long long size = (unsigned long long)(v < 0 ? -(v + 1) : v);
    unsigned small = (unsigned)(next(seed) % 60);
    switch (kind) {
    case 0: snprintf(out, 64, "%s%llu", sign, size >> small); break;
    case 1: snprintf(out, 64, "%s%llu.%llu", sign, size >> small, size % 1000); break;
    case 2: snprintf(out, 64, "%s%llu.%llue%d", sign, size % 10, size, (int)small - 30); break;
    case 3: snprintf(out, 64, "%s%llue%d", sign, size, (int)(next(seed) % 9920) - 4960); break;
    case 4: snprintf(out, 64, "%s0.%0*llu", sign, (int)small / 3, size % 100000); break;
    case 5: snprintf(out, 64, "%s0x%llx.%llxp%d", sign, size >> small, size, (int)small - 30); break;
    case 6: snprintf(out, 64, "%s%llu.5", sign, size % 100); break;
    default: snprintf(out, 64, "%s0x1p%d", sign, (int)(next(seed) % 32900) - 16450); break;
    }
}

static void test_beside_the_processor(void **state)
{
    (void)state;
    uint64_t seed = 1;
    char a[64], b[64], want[REAL_TEXT_BYTES_MAX + 32];
    for (int i = 0; i < 30000; i++) {
        number(&seed, a);
        number(&seed, b);
        check(a, b, expected(a, b, want));
    }
}
#endif

static void test_long_text(void **state)
{
    (void)state;
    char text[REAL_TEXT_BYTES_MAX + 1];
    char want[REAL_TEXT_BYTES_MAX + 32];
    memset(text, '9', sizeof text);
    text[REAL_TEXT_BYTES_MAX] = '\0';
    check(text, "1", NULL); /* too long */
    text[REAL_TEXT_BYTES_MAX - 1] = '\0';
    check(text, "1", NULL); /* too large */
    text[1] = '.';
    check(text, "1", expected(text, "1", want));
    memset(text, '7', sizeof text);
    memcpy(text + REAL_TEXT_BYTES_MAX - 8, "e-99999", 8);
    check(text, "1", NULL); /* too small */
    memcpy(text + REAL_TEXT_BYTES_MAX - 8, "e-10050", 8);
    check(text, "1", "1");
    memcpy(text + REAL_TEXT_BYTES_MAX - 8, "e-05112", 8);
    check(text, "1", "1.77777777777777778");
    memset(text, '0', sizeof text);
    text[1] = '.';
    text[REAL_TEXT_BYTES_MAX - 2] = '1';
    text[REAL_TEXT_BYTES_MAX - 1] = '\0';
    check(text, "1", NULL); /* too small */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
#if LDBL_MANT_DIG == 64
        cmocka_unit_test(test_beside_the_processor),
#endif
        cmocka_unit_test(test_long_text),
    };
    return cmocka_run_group_tests_name("state/real", tests, NULL, NULL);
}
