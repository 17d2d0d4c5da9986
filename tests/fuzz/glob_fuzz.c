/* Patterns against texts: the answer is that of a plain recursive matcher, and what is said of a
 * pattern's literal prefix is true. Input: the pattern up to the first zero byte, the text behind it.
 */
#include "fuzz_main.h"

#include "base/glob.h"

#define BYTES_MAX 24 /* the plain matcher is exponential */

static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "glob_fuzz: %s\n", what);
    abort();
}

/* The bytes of the class that begins at p[0] == '[', and whether c is one of them. */
static size_t class_bytes(struct slice p, uint8_t c, bool *hit)
{
    size_t i = 1;
    bool negate = i < p.len && p.at[i] == '^';
    *hit = false;
    for (i += negate; i < p.len && p.at[i] != ']'; i++) {
        if (p.at[i] == '\\' && i + 1 < p.len) {
            i++;
            *hit = *hit || p.at[i] == c;
        } else if (i + 2 < p.len && p.at[i + 1] == '-') {
            uint8_t low = MIN(p.at[i], p.at[i + 2]);
            uint8_t high = MAX(p.at[i], p.at[i + 2]);
            *hit = *hit || (c >= low && c <= high);
            i += 2;
        } else {
            *hit = *hit || p.at[i] == c;
        }
    }
    *hit = *hit != negate;
    return MIN(i + 1, p.len);
}

static struct slice behind(struct slice s, size_t bytes)
{
    return (struct slice){ s.at + bytes, s.len - bytes };
}

static bool plain_match(struct slice p, struct slice t)
{
    if (p.len == 0) return t.len == 0;
    if (p.at[0] == '*') return plain_match(behind(p, 1), t) || (t.len > 0 && plain_match(p, behind(t, 1)));
    if (t.len == 0) return false;
    if (p.at[0] == '?') return plain_match(behind(p, 1), behind(t, 1));
    if (p.at[0] == '[') {
        bool hit = false;
        size_t bytes = class_bytes(p, t.at[0], &hit);
        return hit && plain_match(behind(p, bytes), behind(t, 1));
    }
    size_t quoted = p.at[0] == '\\' && p.len > 1;
    return p.at[quoted] == t.at[0] && plain_match(behind(p, quoted + 1), behind(t, 1));
}

static void check_prefix(struct slice pattern, struct slice text, bool matches)
{
    uint8_t prefix[BYTES_MAX];
    bool whole = false, prefix_only = false;
    size_t len = glob_literal_prefix(pattern, prefix, &whole, &prefix_only);
    must(len <= pattern.len, "a prefix is longer than its pattern");
    bool begins = text.len >= len && memcmp(text.at, prefix, len) == 0;
    must(!matches || begins, "a text matches that does not begin with the prefix");
    if (whole) must(matches == (begins && text.len == len), "a literal pattern matches something else");
    else if (prefix_only) must(matches == begins, "a prefix pattern matches something else");
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    const uint8_t *zero = len == 0 ? NULL : memchr(at, 0, len);
    if (zero == NULL) return 0;
    size_t pattern_len = (size_t)(zero - at);
    struct slice pattern = { at, MIN(pattern_len, BYTES_MAX) };
    struct slice text = { zero + 1, MIN(len - pattern_len - 1, BYTES_MAX) };
    bool matches = glob_match(pattern, text);
    must(matches == plain_match(pattern, text), "another answer than the plain matcher's");
    check_prefix(pattern, text, matches);
    return 0;
}

#ifdef FUZZ_STANDALONE
static void input_make(struct buf *out, uint64_t seed)
{
    static const char *const words[] = { "*", "?", "[", "]", "^", "-", "\\", "a", "b", "ab", "[a-c]", "[^a]", "[b-a]",
                                         "cfg/", "**", "aaa", "z", "[\\]]" };
    fuzz_words(out, seed, words, ARRAY_LEN(words));
    buf_append_u8(out, 0);
    fuzz_words(out, ~seed, words, ARRAY_LEN(words));
}

int main(int argc, char **argv) { return fuzz_main(argc, argv, input_make); }
#endif
