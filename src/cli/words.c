#include "cli/words.h"

static void *owned(struct slice word)
{
    /* The list owns what it points to; slices are const only towards readers. */
    union {
        const uint8_t *shown;
        uint8_t *mine;
    } at = { .shown = word.at };
    return at.mine;
}

void words_deinit(struct words *w)
{
    for (size_t i = 0; i < w->count; i++) mem_free(owned(w->at[i]));
    mem_free(w->at);
    *w = (struct words){ 0 };
}

void words_add(struct words *w, struct slice word)
{
    if (w->count == w->cap) {
        w->cap = w->cap == 0 ? 16 : w->cap * 2;
        w->at = mem_realloc(w->at, w->cap * sizeof *w->at);
    }
    w->at[w->count++] = (struct slice){ mem_copy(word.at, word.len), word.len };
}

void words_add_text(struct words *w, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        words_add(w, (struct slice){ (const uint8_t *)text, len });
        text += len + (text[len] == ' ');
    }
}

void words_add_i64(struct words *w, int64_t v)
{
    char digits[21];
    size_t len = i64_format(v, digits);
    words_add(w, (struct slice){ (const uint8_t *)digits, len });
}

void words_add_all(struct words *w, const struct words *more)
{
    for (size_t i = 0; i < more->count; i++) words_add(w, more->at[i]);
}
