/* cli/words.h - a list of byte strings: a request under construction.
 *
 * PURPOSE  Collect the words of one request (or one typed line). Decides nothing.
 * OWNS     A copy of every word.
 * USES     base/.
 * THREADS  Any.
 * LIMITS   None: callers bound what they add.
 * ERRORS   None.
 */
#ifndef CLI_WORDS_H
#define CLI_WORDS_H

#include "base/base.h"

struct words {
    struct slice *at; /* each valid until words_deinit */
    size_t count;
    size_t cap;
};

void words_deinit(struct words *w); /* frees, leaves an empty list */
void words_add(struct words *w, struct slice word);
void words_add_text(struct words *w, const char *text); /* several words apart by a space */
void words_add_i64(struct words *w, int64_t v);
void words_add_all(struct words *w, const struct words *more);

#endif
