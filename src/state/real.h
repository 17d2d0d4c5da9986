/* state/real.h - numbers with a fraction, by integers alone: what INCRBYFLOAT adds.
 *
 * PURPOSE  Parse, add and print as an x86 `long double` does (64 bits of mantissa, nearest even),
 *          so that the text is Redis' own and the same on every replica, whatever its processor.
 * OWNS     Nothing.
 * USES     base.
 * THREADS  Any (pure).
 * LIMITS   REAL_TEXT_BYTES_MAX of text, in and out.
 * ERRORS   ERR_NOT_FLOAT: no number, or one that is too large or too small; ERR_NAN: the sum is
 *          not finite.
 */
#ifndef STATE_REAL_H
#define STATE_REAL_H

#include "base/base.h"

#define REAL_TEXT_BYTES_MAX 5120 /* the largest number has 4932 digits */

/* mantissa * 2^exponent. The mantissa's top bit is set, but for zero and next to it. */
struct real {
    uint64_t mantissa;
    int32_t exponent; /* of the mantissa's lowest bit */
    bool negative;
    bool infinite;
};

/* What strtold takes, whole: "1.5", "-2e3", "0x1p4", "inf"; no blanks, no "nan". */
enum err real_parse(struct slice text, struct real *out) MUST_USE;
enum err real_add(const struct real *a, const struct real *b, struct real *out) MUST_USE;
/* 17 digits behind the point, without trailing zeros. Returns the bytes written; r is finite. */
size_t real_print(const struct real *r, char out[REAL_TEXT_BYTES_MAX]);

#endif
