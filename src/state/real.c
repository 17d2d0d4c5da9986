/* state/real.c - see real.h. */
#include "state/real.h"

#define EXPONENT_MIN (-16445) /* of the lowest bit: denormal numbers have fewer bits, not this less */
#define EXPONENT_MAX 16320    /* with 64 bits above it: 2^16384 is infinite */
#define DIGITS_MAX 4940       /* before the point: beyond is infinite for certain */
#define DIGITS_MIN (-4970)    /* zeros behind the point: beyond is zero for certain */
#define POWER_MAX 1000000     /* a larger exponent in the text changes nothing any more */
#define FRACTION_DIGITS 17
#define BIG_LIMBS 1200

typedef unsigned __int128 u128;

/* --- large integers ---------------------------------------------------------------------- */

/* Ascending limbs; the highest is not zero. No limbs: zero. */
struct big {
    size_t count;
    uint32_t limb[BIG_LIMBS];
};

static void big_mul_add(struct big *b, uint32_t factor, uint32_t more)
{
    uint64_t carry = more;
    for (size_t i = 0; i < b->count; i++) {
        carry += (uint64_t)b->limb[i] * factor;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry == 0) return;
    ASSERT(b->count < BIG_LIMBS);
    b->limb[b->count++] = (uint32_t)carry;
}

static void big_mul_power_of_ten(struct big *b, size_t power)
{
    for (; power >= 9; power -= 9) big_mul_add(b, 1000000000, 0);
    for (; power > 0; power--) big_mul_add(b, 10, 0);
}

static size_t big_bits(const struct big *b)
{
    if (b->count == 0) return 0;
    return b->count * 32 - (size_t)__builtin_clz(b->limb[b->count - 1]);
}

static void big_shift_left(struct big *b, size_t bits)
{
    if (b->count == 0) return;
    size_t limbs = bits / 32;
    unsigned rest = bits % 32;
    ASSERT(b->count + limbs + 1 <= BIG_LIMBS);
    uint32_t high = 0;
    for (size_t i = b->count; i > 0; i--) {
        uint64_t wide = (uint64_t)b->limb[i - 1] << rest;
        if (i == b->count) high = (uint32_t)(wide >> 32);
        uint32_t low = i > 1 && rest > 0 ? b->limb[i - 2] >> (32 - rest) : 0;
        b->limb[i - 1 + limbs] = (uint32_t)wide | low;
    }
    memset(b->limb, 0, limbs * sizeof b->limb[0]);
    b->count += limbs;
    if (high != 0) b->limb[b->count++] = high;
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->count != b->count) return a->count < b->count ? -1 : 1;
    for (size_t i = a->count; i > 0; i--) {
        if (a->limb[i - 1] != b->limb[i - 1]) return a->limb[i - 1] < b->limb[i - 1] ? -1 : 1;
    }
    return 0;
}

/* a -= b, which is not larger. */
static void big_subtract(struct big *a, const struct big *b)
{
    int64_t borrow = 0;
    for (size_t i = 0; i < a->count; i++) {
        int64_t left = (int64_t)a->limb[i] - (i < b->count ? b->limb[i] : 0) + borrow;
        a->limb[i] = (uint32_t)left;
        borrow = left < 0 ? -1 : 0;
    }
    ASSERT(borrow == 0);
    while (a->count > 0 && a->limb[a->count - 1] == 0) a->count--;
}

/* Divides by 10^9 in place; returns the remainder. */
static uint32_t big_divide_billion(struct big *b)
{
    uint64_t rest = 0;
    for (size_t i = b->count; i > 0; i--) {
        rest = rest << 32 | b->limb[i - 1];
        b->limb[i - 1] = (uint32_t)(rest / 1000000000);
        rest %= 1000000000;
    }
    while (b->count > 0 && b->limb[b->count - 1] == 0) b->count--;
    return (uint32_t)rest;
}

/* --- rounding ---------------------------------------------------------------------------- */

static unsigned bits_of(u128 v)
{
    uint64_t high = (uint64_t)(v >> 64);
    uint64_t low = (uint64_t)v;
    if (high != 0) return 128 - (unsigned)__builtin_clzll(high);
    return low == 0 ? 0 : 64 - (unsigned)__builtin_clzll(low);
}

/* v / 2^drop, to the nearest, halves to even; more: v is a little more than it says. */
static u128 shift_rounded(u128 v, unsigned drop, bool more)
{
    if (drop == 0) return v;
    if (drop > 127) return 0; /* below a half */
    u128 half = (u128)1 << (drop - 1);
    u128 rest = v & ((half << 1) - 1);
    u128 kept = v >> drop;
    bool up = rest > half || (rest == half && (more || (kept & 1) != 0));
    return kept + up;
}

/* v * 2^exponent. */
static void round_to(u128 v, bool more, int32_t exponent, struct real *out)
{
    int32_t bits = (int32_t)bits_of(v);
    int32_t drop = MAX(bits - 64, EXPONENT_MIN - exponent);
    if (drop < 0) { /* up, as far as it goes: to 64 bits */
        v <<= -drop;
        exponent += drop;
    } else {
        v = shift_rounded(v, (unsigned)drop, more);
        exponent += drop;
    }
    if (bits_of(v) > 64) {
        v >>= 1;
        exponent++;
    }
    out->mantissa = (uint64_t)v;
    out->exponent = exponent;
    out->infinite = v != 0 && exponent > EXPONENT_MAX;
}

/* above / below * 2^exponent; above is not zero. Both are spoilt. */
static void divide_to(struct big *above, struct big *below, int32_t exponent, struct real *out)
{
    enum { STEPS = 67 };
    size_t above_bits = big_bits(above);
    size_t below_bits = big_bits(below);
    if (above_bits < below_bits) big_shift_left(above, below_bits - above_bits);
    if (below_bits < above_bits) big_shift_left(below, above_bits - below_bits);
    u128 quotient = 0;
    for (int i = 0; i < STEPS; i++) {
        bool takes = big_compare(above, below) >= 0;
        if (takes) big_subtract(above, below);
        quotient = quotient << 1 | takes;
        big_shift_left(above, 1);
    }
    exponent += (int32_t)above_bits - (int32_t)below_bits - (STEPS - 1);
    round_to(quotient, above->count != 0, exponent, out);
}

/* --- parsing ------------------------------------------------------------------------------- */

struct text {
    struct slice s;
    size_t at;
};

static int peek(const struct text *t) { return t->at < t->s.len ? t->s.at[t->at] : -1; }

static bool take_any_case(struct text *t, char c)
{
    if (peek(t) < 0 || (peek(t) | 0x20) != c) return false;
    t->at++;
    return true;
}

static bool take_sign(struct text *t)
{
    bool negative = peek(t) == '-';
    if (negative || peek(t) == '+') t->at++;
    return negative;
}

static int digit_of(int c, unsigned base)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (base == 16 && (c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
    return -1;
}

/* Digits with a point; *behind: how many stood behind it. False: there are none. */
static bool take_digits(struct text *t, unsigned base, struct big *out, size_t *behind)
{
    bool any = false;
    bool point = false;
    out->count = 0;
    *behind = 0;
    for (;; t->at++) {
        int c = peek(t);
        int digit = digit_of(c, base);
        if (digit >= 0) {
            big_mul_add(out, base, (uint32_t)digit);
            *behind += point;
            any = true;
        } else if (c == '.' && !point) {
            point = true;
        } else {
            return any;
        }
    }
}

/* `e-12` behind the digits. False: there is a mark and no number. */
static bool take_power(struct text *t, char mark, int32_t *out)
{
    *out = 0;
    if (!take_any_case(t, mark)) return true;
    bool negative = take_sign(t);
    bool any = false;
    for (; digit_of(peek(t), 10) >= 0; t->at++) {
        if (*out < POWER_MAX) *out = *out * 10 + digit_of(peek(t), 10);
        any = true;
    }
    if (negative) *out = -*out;
    return any;
}

static bool parse_hex(struct text *t, struct real *out)
{
    struct big digits;
    size_t behind = 0;
    int32_t power = 0;
    if (!take_digits(t, 16, &digits, &behind) || !take_power(t, 'p', &power)) return false;
    if (digits.count == 0) return true;
    struct big one = { .count = 1, .limb = { 1 } };
    int32_t exponent = power - (int32_t)behind * 4;
    divide_to(&digits, &one, exponent, out);
    return out->mantissa != 0 && !out->infinite;
}

static bool parse_decimal(struct text *t, struct real *out)
{
    struct big digits;
    size_t behind = 0;
    int32_t power = 0;
    if (!take_digits(t, 10, &digits, &behind) || !take_power(t, 'e', &power)) return false;
    if (digits.count == 0) return true;
    power -= (int32_t)behind;
    /* A bit is more than 0.3 and less than 0.31 of a digit. */
    int32_t bits = (int32_t)big_bits(&digits);
    if (bits * 30 / 100 + power > DIGITS_MAX) return false;
    if (bits * 31 / 100 + 1 + power < DIGITS_MIN) return false;
    struct big below = { .count = 1, .limb = { 1 } };
    big_mul_power_of_ten(power < 0 ? &below : &digits, (size_t)(power < 0 ? -power : power));
    divide_to(&digits, &below, 0, out);
    return out->mantissa != 0 && !out->infinite;
}

static bool parse_infinite(struct text *t)
{
    static const char word[] = "infinity";
    size_t at = 0;
    while (word[at] != '\0' && take_any_case(t, word[at])) at++;
    return at == 3 || word[at] == '\0';
}

enum err real_parse(struct slice text, struct real *out)
{
    if (text.len == 0 || text.len >= REAL_TEXT_BYTES_MAX) return ERR_NOT_FLOAT;
    struct text t = { .s = text };
    *out = (struct real){ .negative = take_sign(&t) };
    bool good;
    if (peek(&t) == 'i' || peek(&t) == 'I') {
        good = parse_infinite(&t);
        out->infinite = true;
    } else if (text.len - t.at > 2 && peek(&t) == '0' && (text.at[t.at + 1] | 0x20) == 'x') {
        t.at += 2;
        good = parse_hex(&t, out);
    } else {
        good = parse_decimal(&t, out);
    }
    return good && t.at == text.len ? OK : ERR_NOT_FLOAT;
}

/* --- adding ---------------------------------------------------------------------------------- */

enum err real_add(const struct real *a, const struct real *b, struct real *out)
{
    enum { ROOM = 62 }; /* bits below the mantissa of the larger one */
    if (a->infinite || b->infinite) return ERR_NAN;
    if (a->mantissa == 0 || (b->mantissa != 0 && a->exponent < b->exponent)) {
        const struct real *swap = a;
        a = b;
        b = swap;
    }
    *out = *a;
    if (b->mantissa == 0) return OK;
    int32_t apart = a->exponent - b->exponent;
    u128 x = (u128)a->mantissa << ROOM;
    u128 y = (u128)b->mantissa << ROOM;
    bool more = apart > 127 || (y & (((u128)1 << apart) - 1)) != 0; /* bits of y that fall off */
    y = apart > 127 ? 0 : y >> apart;
    if (a->negative == b->negative) {
        x += y;
    } else if (x >= y) {
        x -= y + more;
    } else {
        ASSERT(!more); /* only of equal exponents */
        x = y - x;
        out->negative = b->negative;
    }
    round_to(x, more, a->exponent - ROOM, out);
    return out->infinite ? ERR_NAN : OK;
}

/* --- printing --------------------------------------------------------------------------------- */

/* Writes digits in front of `end`; returns where they begin. v is spoilt. */
static char *print_whole(struct big *v, char *end)
{
    while (v->count > 0) {
        uint32_t nine = big_divide_billion(v);
        for (int i = 0; i < 9 && (v->count > 0 || nine > 0); i++) {
            *--end = (char)('0' + nine % 10);
            nine /= 10;
        }
    }
    return end;
}

size_t real_print(const struct real *r, char out[REAL_TEXT_BYTES_MAX])
{
    ASSERT(!r->infinite);
    char text[REAL_TEXT_BYTES_MAX];
    char *end = text + sizeof text;
    struct big v = { .count = 0 };
    bool whole = r->exponent >= 0;
    u128 scaled = r->mantissa;
    if (!whole) {
        for (int i = 0; i < FRACTION_DIGITS; i++) scaled *= 10;
        scaled = shift_rounded(scaled, (unsigned)-r->exponent, false);
    }
    for (; scaled != 0; scaled >>= 32) v.limb[v.count++] = (uint32_t)scaled;
    if (whole) big_shift_left(&v, (size_t)r->exponent);
    char *at = print_whole(&v, end);
    size_t fraction = whole ? 0 : FRACTION_DIGITS;
    while ((size_t)(end - at) < fraction + 1) *--at = '0';
    for (; fraction > 0 && end[-1] == '0'; fraction--) end--;

    size_t len = 0;
    size_t whole_len = (size_t)(end - at) - fraction;
    bool is_zero = fraction == 0 && whole_len == 1 && *at == '0';
    if (r->negative && !is_zero) out[len++] = '-';
    memcpy(out + len, at, whole_len);
    len += whole_len;
    if (fraction == 0) return len;
    out[len++] = '.';
    memcpy(out + len, at + whole_len, fraction);
    return len + fraction;
}
