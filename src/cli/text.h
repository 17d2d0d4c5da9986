/* cli/text.h - bytes to text and back: base64, hex, escapes, durations, quoted words.
 *
 * PURPOSE  Turn bytes into what a terminal or JSON can show, and typed text into bytes.
 *          Does not know what the bytes mean.
 * OWNS     Nothing; appends to the caller's buf.
 * USES     base/.
 * THREADS  Any.
 * LIMITS   None: bounded by the input.
 * ERRORS   ERR_SYNTAX, ERR_AGAIN (a quote is still open), ERR_LIMIT.
 */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include "base/buf.h"

void text_base64(struct buf *out, struct slice in);
void text_hex(struct buf *out, struct slice in); /* \x66\x6f, as etcdctl prints with --hex */

/* Printable text stays; control bytes, backslash and what is not UTF-8 become \n \t \\ \xNN. */
void text_escape(struct buf *out, struct slice in);

/* Columns of well-formed UTF-8 on a terminal: one a code point. */
size_t text_width(struct slice in);

/* Length of the well-formed UTF-8 sequence at s.at (1..4), 0 if there is none. */
size_t text_utf8_len(struct slice s);

/* "5" and "5s" are seconds; also "500ms", "2m", "1h". Greater than 0, at most max_ms.
 * ERR_SYNTAX, ERR_LIMIT. */
enum err text_duration(struct slice in, int64_t max_ms, int64_t *out_ms) MUST_USE;

/* Decimal, or hexadecimal behind 0x. ERR_NOT_INT. */
enum err text_id(struct slice in, int64_t *out) MUST_USE;

/* Takes the next word of *rest and appends its bytes to out; *found is false at the end.
 * 'single' quotes are literal, "double" ones know \n \r \t \0 \\ \" \' and \xNN.
 * ERR_AGAIN: a quote is not closed. ERR_SYNTAX: an unknown escape. */
enum err text_word(struct slice *rest, struct buf *out, bool *found) MUST_USE;

/* The "..." or '...' at the start of *rest, as in text_word. ERR_SYNTAX if there is none. */
enum err text_quoted(struct slice *rest, struct buf *out) MUST_USE;

struct slice text_trim(struct slice in); /* without white space at either end */

/* Single-letter edits between two names (insert, delete, replace, swap of neighbours);
 * names longer than 31 bytes are as far apart as can be. */
size_t text_distance(struct slice a, struct slice b);

#endif
