/* base/glob.h - Redis' glob patterns: * ? [a-z] [^a] and \ to quote.
 *
 * PURPOSE  Match a pattern against bytes. Decides nothing else.
 * OWNS     Nothing.
 * USES     base.h.
 * THREADS  Any (pure).
 * LIMITS   GLOB_PATTERN_BYTES_MAX, checked by callers. Iterative: time is at most pattern x text,
 *          no recursion (CVE-2022-36021, CVE-2024-31228 are about exactly that).
 * ERRORS   None.
 */
#ifndef BASE_GLOB_H
#define BASE_GLOB_H

#include "base/base.h"

#define GLOB_PATTERN_BYTES_MAX 1024

bool glob_match(struct slice pattern, struct slice text);

/* The part of the pattern before its first special byte, quoting resolved, written to out (room
 * for pattern.len). *whole: the pattern has nothing special at all; *prefix_only: the rest is
 * one or more '*' alone. Returns the length. */
size_t glob_literal_prefix(struct slice pattern, uint8_t *out, bool *whole, bool *prefix_only);

#endif
