/* base/glob.c - see glob.h. One place to go back to (the last '*') is enough: an earlier star can
 * never match where a later one cannot. */
#include "base/glob.h"

/* Matches one class at pattern.at[*at] == '[' against c; moves *at behind it. */
static bool class_match(struct slice pattern, size_t *at, uint8_t c)
{
    size_t i = *at + 1;
    bool negate = i < pattern.len && pattern.at[i] == '^';
    if (negate) i++;
    bool hit = false;
    while (i < pattern.len && pattern.at[i] != ']') {
        uint8_t low = pattern.at[i];
        if (low == '\\' && i + 1 < pattern.len) {
            low = pattern.at[++i];
            if (low == c) hit = true;
        } else if (i + 2 < pattern.len && pattern.at[i + 1] == '-') {
            uint8_t high = pattern.at[i + 2];
            if (low > high) {
                uint8_t swap = low;
                low = high;
                high = swap;
            }
            if (c >= low && c <= high) hit = true;
            i += 2;
        } else if (low == c) {
            hit = true;
        }
        i++;
    }
    *at = i < pattern.len ? i + 1 : i;
    return hit != negate;
}

/* Matches one element of the pattern (not a star) against c; moves *at behind it on success. */
static bool one_match(struct slice pattern, size_t *at, uint8_t c)
{
    uint8_t p = pattern.at[*at];
    if (p == '[') {
        size_t next = *at;
        if (!class_match(pattern, &next, c)) return false;
        *at = next;
        return true;
    }
    if (p == '?') {
        *at += 1;
        return true;
    }
    size_t quoted = p == '\\' && *at + 1 < pattern.len ? 1 : 0;
    if (pattern.at[*at + quoted] != c) return false;
    *at += quoted + 1;
    return true;
}

bool glob_match(struct slice pattern, struct slice text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star_p = SIZE_MAX;
    size_t star_t = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.at[p] == '*') {
            star_p = ++p;
            star_t = t;
        } else if (p < pattern.len && one_match(pattern, &p, text.at[t])) {
            t++;
        } else if (star_p != SIZE_MAX) {
            p = star_p;
            t = ++star_t;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*') p++;
    return p == pattern.len;
}

size_t glob_literal_prefix(struct slice pattern, uint8_t *out, bool *whole, bool *prefix_only)
{
    size_t len = 0;
    size_t p = 0;
    while (p < pattern.len) {
        uint8_t c = pattern.at[p];
        if (c == '*' || c == '?' || c == '[') break;
        if (c == '\\' && p + 1 < pattern.len) c = pattern.at[++p];
        out[len++] = c;
        p++;
    }
    *whole = p == pattern.len;
    size_t stars = p;
    while (stars < pattern.len && pattern.at[stars] == '*') stars++;
    *prefix_only = p < pattern.len && stars == pattern.len;
    return len;
}
