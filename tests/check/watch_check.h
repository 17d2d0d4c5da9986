/* check/watch_check.h - did watch streams deliver what the event log has?
 *
 * PURPOSE  The nine properties, each stream against the log: filter (only keys and kinds asked
 *          for), ordered, unique, atomic (a revision is whole before anything behind it, before a
 *          progress and before a cancel; only a broken connection may cut one), reliable (no gap),
 *          resumable (everything from `from` on, nothing below), bookmarkable (a progress or
 *          cancel at rev comes behind all it speaks of, and is kept to), previous values right,
 *          create revision and version right. What linear_check adds: an event is not seen before
 *          its write was sent, and what was seen is there for everyone who asks later.
 * OWNS     Nothing.
 * USES     history.h, keyspace.h.
 * THREADS  One.
 * LIMITS   Streams times events of the log behind their `from`.
 * ERRORS   None; violations go to the verdict: one a stream, the first.
 */
#ifndef CHECK_WATCH_CHECK_H
#define CHECK_WATCH_CHECK_H

#include "keyspace.h"

void watch_check(const struct history *h, const struct keyspace *ks, struct verdict *v);

#endif
