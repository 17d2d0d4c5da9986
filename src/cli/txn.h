/* cli/txn.h - the language of `cordis txn`: compares and requests, as etcdctl reads them.
 *
 * PURPOSE  Understand lines and build the TXN request. Reads no file and sends nothing.
 * OWNS     struct txn and copies of everything in it.
 * USES     base/, args.h, request.h, words.h.
 * THREADS  Any.
 * LIMITS   None: the server bounds the number of operations.
 * ERRORS   ERR_SYNTAX with the text for the user; ERR_AGAIN: a quote is open, the caller
 *          appends the next line and tries again. On errors the txn is unchanged.
 */
#ifndef CLI_TXN_H
#define CLI_TXN_H

#include "base/base.h"
#include "cli/commands.h"
#include "cli/words.h"

enum txn_branch { TXN_THEN, TXN_ELSE, TXN_BRANCH_COUNT };

struct txn_op {
    enum command_id command; /* GET, PUT or DEL */
    uint64_t given;          /* its options: they shape the output */
    struct words words;      /* what is sent */
};

struct txn_op_list {
    struct txn_op *at;
    size_t count;
    size_t cap;
};

struct txn {
    struct words compare_words; /* all compares, as sent */
    struct words compare_texts; /* one each, as typed */
    struct txn_op_list ops[TXN_BRANCH_COUNT];
};

void txn_deinit(struct txn *t); /* frees, leaves an empty txn */
enum err txn_compare_add(struct txn *t, struct slice line, struct errmsg *em) MUST_USE;
enum err txn_op_add(struct txn *t, enum txn_branch branch, struct slice line,
                    struct errmsg *em) MUST_USE;
bool txn_is_write(const struct txn *t);
void txn_request(const struct txn *t, struct words *out);

#endif
