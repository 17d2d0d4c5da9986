/* check/once_check.h - promise P6 from final reads alone, without the event log.
 *
 * PURPOSE  A counter's last value is what was acknowledged, plus at most what is unknown; no
 *          result was answered twice. An appended list has every acknowledged token once, every
 *          unknown one at most once, no refused one and nothing else, in the order of time.
 *          Only keys with an INCR or an APPEND, read by a GET sent behind all of those.
 * OWNS     Nothing.
 * USES     history.h.
 * THREADS  One.
 * LIMITS   Tokens end in ';', which none has inside. Deltas are positive.
 * ERRORS   None; violations go to the verdict.
 */
#ifndef CHECK_ONCE_CHECK_H
#define CHECK_ONCE_CHECK_H

#include "history.h"

void once_check(const struct history *h, struct verdict *v);

#endif
