/* cli/request.h - from arguments to the words that are sent.
 *
 * PURPOSE  Build the request of a command, checking what the server could only refuse with
 *          less helpful words. Sends nothing.
 * OWNS     Nothing; adds copies to the caller's words.
 * USES     base/, args.h, words.h.
 * THREADS  Any.
 * LIMITS   None of its own.
 * ERRORS   ERR_SYNTAX with the text for the user; the words may then be partly built.
 */
#ifndef CLI_REQUEST_H
#define CLI_REQUEST_H

#include "base/base.h"
#include "cli/args.h"
#include "cli/words.h"

/* Where a further page of a range begins: behind `from` at revision `rev`, or (descending)
 * before `until`. */
struct page {
    struct slice last_key;
    int64_t rev;
    int64_t limit; /* keys still wanted; 0: all */
};

enum range_order { RANGE_ASC, RANGE_DESC, RANGE_OTHER }; /* by key, by key, by something else */

/* next is NULL for the first page; a further one only where request_order is not OTHER. */
enum err request_get(const struct args *a, const struct page *next, struct words *out,
                     struct errmsg *em) MUST_USE;
enum range_order request_order(const struct args *a);
bool request_is_range(const struct args *a); /* else exactly one key */

/* value is ignored with --ignore-value. */
enum err request_put(const struct args *a, struct slice value, struct words *out,
                     struct errmsg *em) MUST_USE;
enum err request_del(const struct args *a, struct words *out, struct errmsg *em) MUST_USE;
enum err request_watch(const struct args *a, int64_t from_rev, int64_t block_ms, struct words *out,
                       struct errmsg *em) MUST_USE;
void request_compact(const struct args *a, int64_t rev, struct words *out);

#endif
