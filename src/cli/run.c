#include "cli/run.h"

#include <stdlib.h>

#include "cli/request.h"
#include "cli/text.h"

#define STDIN_PIECE_BYTES 65536
#define PAUSE_MS_FIRST    100

static const struct {
    enum exit_code (*run)(struct session *s, const struct args *a);
} runners[COMMAND_COUNT] = {
    [COMMAND_GET] = { run_get },
    [COMMAND_PUT] = { run_put },
    [COMMAND_DEL] = { run_del },
    [COMMAND_WATCH] = { run_watch },
    [COMMAND_TXN] = { run_txn },
    [COMMAND_LEASE_GRANT] = { run_lease_grant },
    [COMMAND_LEASE_REVOKE] = { run_lease_revoke },
    [COMMAND_LEASE_TIMETOLIVE] = { run_lease_timetolive },
    [COMMAND_LEASE_LIST] = { run_lease_list },
    [COMMAND_LEASE_KEEP_ALIVE] = { run_lease_keep_alive },
    [COMMAND_MEMBER_LIST] = { run_member_list },
    [COMMAND_MEMBER_ADD] = { run_member_add },
    [COMMAND_MEMBER_REMOVE] = { run_member_change },
    [COMMAND_MEMBER_PROMOTE] = { run_member_change },
    [COMMAND_MEMBER_UPDATE] = { run_member_change },
    [COMMAND_MEMBER_TRANSFER] = { run_member_change },
    [COMMAND_STATUS] = { run_status },
    [COMMAND_COMPACT] = { run_compact },
};

enum exit_code run_command(struct session *s, const struct args *a)
{
    ASSERT(a->command != NULL);
    return runners[a->command->id].run(s, a);
}

enum exit_code run_reconnect(struct session *s, const char *why, int64_t pause_ms_max)
{
    int64_t pause_ms = MIN(PAUSE_MS_FIRST, pause_ms_max);
    session_say(s, "%s; connecting again until it works (ctrl-C ends)", why);
    conn_next(&s->conn);
    while (true) {
        struct errmsg em = { "" };
        enum err err = conn_open(&s->conn, &em);
        if (err == OK) break;
        if (err == ERR_NOPERM) return session_fail(s, EXIT_NO, "%s", em.text);
        session_sleep_ms(pause_ms);
        pause_ms = MIN(pause_ms * 2, pause_ms_max);
    }
    session_say(s, "connected to %s", conn_endpoint(&s->conn));
    return EXIT_OK;
}

/* --- get -------------------------------------------------------------------- */

/* All pages of one range, and the replies their keys and values live in. */
struct pages {
    redisReply **replies;
    size_t reply_count;
    struct range_result all;
    bool is_cut; /* there is more than these, and no way to ask for it */
};

static void pages_deinit(struct pages *p)
{
    for (size_t i = 0; i < p->reply_count; i++) freeReplyObject(p->replies[i]);
    mem_free(p->replies);
    kv_list_deinit(&p->all.kvs);
}

static void pages_add(struct pages *p, redisReply *reply_taken, const struct range_result *res)
{
    p->replies = mem_realloc(p->replies, (p->reply_count + 1) * sizeof(redisReply *));
    p->replies[p->reply_count++] = reply_taken;
    struct kv_list *kvs = &p->all.kvs;
    kvs->at = mem_realloc(kvs->at, (kvs->count + res->kvs.count + 1) * sizeof *kvs->at);
    if (res->kvs.count > 0) {
        memcpy(kvs->at + kvs->count, res->kvs.at, res->kvs.count * sizeof *kvs->at);
    }
    kvs->count += res->kvs.count;
    if (p->reply_count == 1) {
        p->all.revision = res->revision;
        p->all.count = res->count;
    }
    p->all.more = res->more;
}

static enum exit_code page_fetch(struct session *s, const struct words *request, struct pages *p)
{
    redisReply *reply = NULL;
    struct range_result res = { 0 };
    enum exit_code code = session_call(s, request, CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    if (reply_range(reply, &res) != OK) {
        freeReplyObject(reply);
        return session_not_understood(s);
    }
    pages_add(p, reply, &res);
    kv_list_deinit(&res.kvs);
    return EXIT_OK;
}

/* A server bounds the size of one answer; the rest is asked for at the same revision. */
static enum exit_code pages_fetch(struct session *s, const struct args *a, struct pages *p)
{
    struct errmsg em = { "" };
    struct page next = { 0 };
    int64_t limit = 0;
    while (true) {
        struct words request CLEANUP(words_deinit) = { 0 };
        if (request_get(a, p->reply_count == 0 ? NULL : &next, &request, &em) != OK ||
            args_number(a, OPT_LIMIT, 0, &limit, &em) != OK) {
            return session_fail(s, EXIT_USAGE, "%s", em.text);
        }
        size_t count_before = p->all.kvs.count;
        enum exit_code code = page_fetch(s, &request, p);
        if (code != EXIT_OK || !p->all.more) return code;
        size_t count = p->all.kvs.count;
        if (limit > 0 && count >= (size_t)limit) return EXIT_OK;
        if (count == count_before) return EXIT_OK;
        if (request_order(a) == RANGE_OTHER) {
            session_say(s, "not all keys are shown: the server bounds an answer; narrow the range, "
                           "or sort by key");
            p->is_cut = true;
            return EXIT_OK;
        }
        next = (struct page){ .last_key = p->all.kvs.at[count - 1].key, .rev = p->all.revision };
        if (limit > 0) next.limit = limit - (int64_t)count;
        if (args_has(a, OPT_REV) && args_number(a, OPT_REV, 0, &next.rev, NULL) != OK) {
            return EXIT_USAGE;
        }
        if (next.rev == 0) next.rev = p->all.revision; /* --rev 0 is the present */
    }
}

enum exit_code run_get(struct session *s, const struct args *a)
{
    struct pages pages CLEANUP(pages_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    enum exit_code code = pages_fetch(s, a, &pages);
    if (code != EXIT_OK) return code;
    session_header(s);
    render_range(&text, &s->render, &pages.all);
    code = session_print(s, &text);
    bool is_missing = !request_is_range(a) && pages.all.count == 0 && !args_has(a, OPT_COUNT_ONLY);
    return is_missing || pages.is_cut ? EXIT_NO : code;
}

/* --- put, del, compact ------------------------------------------------------- */

static enum exit_code stdin_read(struct session *s, struct buf *out)
{
    if (s->in_is_tty) session_say(s, "type the value, then ctrl-D (or: cordis put key value)");
    while (true) {
        uint8_t *to = buf_reserve(out, STDIN_PIECE_BYTES);
        size_t bytes = fread(to, 1, STDIN_PIECE_BYTES, s->in);
        out->len += bytes;
        if (out->len > CLI_VALUE_BYTES_MAX) {
            return session_fail(s, EXIT_USAGE, "the value on stdin is larger than %u MiB",
                                CLI_VALUE_BYTES_MAX >> 20);
        }
        if (ferror(s->in)) return session_fail(s, EXIT_USAGE, "cannot read the value from stdin");
        if (feof(s->in)) return EXIT_OK; /* on a terminal a further read would ask again */
    }
}

static enum exit_code put_not_applied(struct session *s, const struct args *a,
                                      const struct put_result *res)
{
    struct buf key CLEANUP(buf_deinit) = { 0 };
    text_escape(&key, a->positional[0]);
    const char *shown = (const char *)key.at;
    int len = (int)MIN(key.len, 128);
    if (!res->has_prev) {
        return session_fail(s, EXIT_NO, "not stored: there is no key '%.*s'", len, shown);
    }
    return session_fail(s, EXIT_NO, "not stored: '%.*s' exists with mod revision %lld", len, shown,
                        (long long)res->prev.mod_rev);
}

enum exit_code run_put(struct session *s, const struct args *a)
{
    struct buf value CLEANUP(buf_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    struct words trial CLEANUP(words_deinit) = { 0 };
    if (request_put(a, SLICE_NONE, &trial, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    enum exit_code code = EXIT_OK;
    if (a->positional_count > 1) {
        buf_append_slice(&value, a->positional[1]);
    } else if (!args_has(a, OPT_IGNORE_VALUE)) {
        code = stdin_read(s, &value);
    }
    if (code != EXIT_OK) return code;
    if (request_put(a, buf_slice(&value), &request, &em) != OK) return EXIT_USAGE;
    code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    struct put_result res;
    if (reply_put(reply, &res) != OK) return session_not_understood(s);
    session_header(s);
    render_put(&text, &s->render, &res);
    code = session_print(s, &text);
    return res.applied ? code : put_not_applied(s, a, &res);
}

enum exit_code run_del(struct session *s, const struct args *a)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    if (request_del(a, &request, &em) != OK) return session_fail(s, EXIT_USAGE, "%s", em.text);
    enum exit_code code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    struct del_result res;
    if (reply_del(reply, &res) != OK) return session_not_understood(s);
    session_header(s);
    render_del(&text, &s->render, &res);
    kv_list_deinit(&res.prevs);
    return session_print(s, &text);
}

enum exit_code run_compact(struct session *s, const struct args *a)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    int64_t rev = 0;
    if (args_positional_id(a, 0, "revision", &rev, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    request_compact(a, rev, &request);
    enum exit_code code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    char done[64];
    snprintf(done, sizeof done, "compacted revision %lld", (long long)rev);
    session_header(s);
    render_done(&text, &s->render, done);
    return session_print(s, &text);
}
