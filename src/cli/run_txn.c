#include <stdlib.h>

#include "cli/run.h"
#include "cli/text.h"
#include "cli/txn.h"

enum part { PART_COMPARES, PART_THEN, PART_ELSE, PART_COUNT };

struct reader {
    struct session *s;
    bool is_prompting;
    bool is_ended; /* of input */
    size_t line_number;
};

static void prompt(const struct reader *in, const char *text)
{
    if (!in->is_prompting) return;
    fputs(text, in->s->err);
    fflush(in->s->err);
}

/* Appends one line without its end; is_ended when there is none. getline also returns what it
 * has when reading fails in mid-line: that is neither a line nor the end of the input. */
static enum exit_code line_read(struct reader *in, struct buf *out)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len = getline(&line, &cap, in->s->in);
    bool is_broken = ferror(in->s->in) || (len < 0 && !feof(in->s->in));
    in->is_ended = len < 0;
    if (len > 0 && line[len - 1] == '\n') len--;
    if (len > 0) buf_append(out, line, (size_t)len);
    free(line);
    if (is_broken) {
        return session_fail(in->s, EXIT_USAGE, "cannot read the transaction from stdin");
    }
    in->line_number++;
    if (out->len <= CLI_LINE_BYTES_MAX) return EXIT_OK;
    return session_fail(in->s, EXIT_USAGE, "line %zu is too long", in->line_number);
}

static enum err line_add(struct txn *txn, enum part part, struct slice line, struct errmsg *em)
{
    if (part == PART_COMPARES) return txn_compare_add(txn, line, em);
    return txn_op_add(txn, part == PART_THEN ? TXN_THEN : TXN_ELSE, line, em);
}

/* Whether an open quote may end here, or be wrong: else there is no need to parse all again. */
static bool has_quote_or_escape(struct slice s)
{
    return memchr(s.at, '"', s.len) != NULL || memchr(s.at, '\'', s.len) != NULL ||
           memchr(s.at, '\\', s.len) != NULL;
}

/* One statement: a line, and further ones while a quote is open. *is_blank ends the part.
 * A person is told what is wrong and may type it again; a script is refused. */
static enum exit_code statement_read(struct reader *in, struct txn *txn, enum part part,
                                     bool *is_blank)
{
    struct buf line CLEANUP(buf_deinit) = { 0 };
    struct errmsg em = { "" };
    prompt(in, "> ");
    enum exit_code code = line_read(in, &line);
    if (code != EXIT_OK) return code;
    *is_blank = text_trim(buf_slice(&line)).len == 0;
    if (*is_blank) return EXIT_OK;
    enum err err = line_add(txn, part, buf_slice(&line), &em);
    while (err == ERR_AGAIN && !in->is_ended) {
        size_t from = line.len - 1; /* a backslash there escapes the line's end */
        buf_append_u8(&line, '\n');
        code = line_read(in, &line);
        if (code != EXIT_OK) return code;
        if (!has_quote_or_escape((struct slice){ line.at + from, line.len - from })) continue;
        err = line_add(txn, part, buf_slice(&line), &em);
    }
    if (err == OK) return EXIT_OK;
    if (err == ERR_AGAIN) errmsg_set(&em, "a quote is not closed");
    if (in->is_prompting && !in->is_ended) {
        session_say(in->s, "%s; not taken, type it again", em.text);
        return EXIT_OK;
    }
    return session_fail(in->s, EXIT_USAGE, "line %zu: %s", in->line_number, em.text);
}

static enum exit_code txn_read(struct reader *in, struct txn *txn)
{
    static const char *const titles[PART_COUNT] = {
        "compares, like mod(\"key\") = \"105\"; an empty line ends them:\n",
        "if all hold (get, put, del; an empty line ends them):\n",
        "if one does not hold (get, put, del; an empty line ends them):\n",
    };
    for (size_t part = 0; part < PART_COUNT; part++) {
        bool is_blank = false;
        if (!in->is_ended) prompt(in, titles[part]);
        while (!is_blank && !in->is_ended) {
            enum exit_code code = statement_read(in, txn, (enum part)part, &is_blank);
            if (code != EXIT_OK) return code;
        }
    }
    return EXIT_OK;
}

/* Behind the last part nothing may follow: a fourth part would be silently lost. */
static enum exit_code rest_check(struct reader *in)
{
    while (!in->is_prompting && !in->is_ended) {
        struct buf line CLEANUP(buf_deinit) = { 0 };
        enum exit_code code = line_read(in, &line);
        if (code != EXIT_OK) return code;
        if (text_trim(buf_slice(&line)).len == 0) continue;
        return session_fail(in->s, EXIT_USAGE,
                            "line %zu stands behind the third part; parts end "
                            "with an empty line: compares, then, else",
                            in->line_number);
    }
    return EXIT_OK;
}

static enum exit_code txn_send(struct session *s, const struct txn *txn)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct txn_result res;
    txn_request(txn, &request);
    enum exit_code code =
        session_call(s, &request, txn_is_write(txn) ? CALL_WRITE : CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    session_header(s);
    if (reply_txn(reply, &res) != OK || render_txn(&text, &s->render, txn, &res) != OK) {
        return session_not_understood(s);
    }
    code = session_print(s, &text);
    if (res.has_failed) {
        struct buf why CLEANUP(buf_deinit) = { 0 };
        render_txn_failed(&why, txn, &res);
        session_say(s, "%.*s", (int)why.len, (const char *)why.at);
    }
    return res.succeeded ? code : EXIT_NO;
}

enum exit_code run_txn(struct session *s, const struct args *a)
{
    struct txn txn CLEANUP(txn_deinit) = { 0 };
    struct reader in = { .s = s, .is_prompting = s->in_is_tty || args_has(a, OPT_INTERACTIVE) };
    enum exit_code code = txn_read(&in, &txn);
    if (code == EXIT_OK) code = rest_check(&in);
    if (code != EXIT_OK) return code;
    bool is_empty =
        txn.compare_texts.count + txn.ops[TXN_THEN].count + txn.ops[TXN_ELSE].count == 0;
    if (is_empty) {
        return session_fail(s, EXIT_USAGE, "stdin holds no transaction: see `cordis txn --help`");
    }
    return txn_send(s, &txn);
}
