#include "cli/run.h"
#include "cli/text.h"

/* A hundred years: more is a typing error. The server has its own, lower limit. */
#define TTL_MS_MAX        (3155760000000LL)
#define BUSY_PAUSE_MS     200

/* Renewed each third of the ttl. A member that hangs is given a sixth, so three of them may hang
 * before the lease is lost; but never less than a far one needs to answer. */
#define KEEP_ALIVE_MS_MIN      50
#define KEEP_ALIVE_CALL_MS_MIN 300

/* LEASE <words>: what all of these commands do, but keep-alive. */
static enum exit_code lease_call(struct session *s, const struct words *request,
                                 enum call_kind kind, redisReply **out)
{
    enum exit_code code = session_call(s, request, kind, out);
    if (code == EXIT_OK) session_header(s);
    return code;
}

enum exit_code run_lease_grant(struct session *s, const struct args *a)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    struct lease_result res;
    int64_t ttl_ms = 0;
    int64_t id = 0;
    if (text_duration(a->positional[0], TTL_MS_MAX, &ttl_ms) != OK) {
        return session_fail(s, EXIT_USAGE, "a ttl is a number of seconds, or like 500ms, 2m, 1h");
    }
    if (args_id(a, OPT_ID, &id, &em) != OK) return session_fail(s, EXIT_USAGE, "%s", em.text);
    bool is_seconds = ttl_ms % 1000 == 0;
    words_add_text(&request, is_seconds ? "LEASE GRANT" : "LEASE GRANT PX");
    words_add_i64(&request, is_seconds ? ttl_ms / 1000 : ttl_ms);
    if (id != 0) {
        words_add_text(&request, "ID");
        words_add_i64(&request, id);
    }
    enum exit_code code = lease_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    if (reply_lease(reply, &res) != OK) return session_not_understood(s);
    bool in_ms = !is_seconds && s->render.format != FORMAT_JSON;
    int64_t ttl = is_seconds || in_ms ? res.ttl : (res.ttl + 999) / 1000;
    render_lease_grant(&text, &s->render, res.id, ttl, in_ms ? "ms" : "s");
    return session_print(s, &text);
}

enum exit_code run_lease_revoke(struct session *s, const struct args *a)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    int64_t id = 0;
    if (args_positional_id(a, 0, "lease id", &id, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    words_add_text(&request, "LEASE REVOKE");
    words_add_i64(&request, id);
    enum exit_code code = lease_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    render_lease_revoke(&text, &s->render, id);
    return session_print(s, &text);
}

enum exit_code run_lease_timetolive(struct session *s, const struct args *a)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    struct lease_result res;
    int64_t id = 0;
    if (args_positional_id(a, 0, "lease id", &id, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    words_add_text(&request, "LEASE TTL");
    words_add_i64(&request, id);
    if (args_has(a, OPT_KEYS)) words_add_text(&request, "KEYS");
    enum exit_code code = lease_call(s, &request, CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    if (reply_lease(reply, &res) != OK) return session_not_understood(s);
    render_lease_ttl(&text, &s->render, &res, args_has(a, OPT_KEYS));
    return session_print(s, &text);
}

/* --- list ------------------------------------------------------------------------ */

struct ids {
    int64_t *at;
    size_t count;
};

static void ids_deinit(struct ids *ids)
{
    mem_free(ids->at);
}

/* The ids behind the last one seen; each page must go on upwards, or it would never end. */
static enum exit_code ids_fetch(struct session *s, struct ids *ids, bool *is_more)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    int64_t last = ids->count == 0 ? 0 : ids->at[ids->count - 1];
    words_add_text(&request, "LEASE LIST");
    if (ids->count > 0) {
        words_add_text(&request, "AFTER");
        words_add_i64(&request, last);
    }
    enum exit_code code = session_call(s, &request, CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    if (reply->type != REDIS_REPLY_ARRAY) return session_not_understood(s);
    ids->at = mem_realloc(ids->at, (ids->count + reply->elements + 1) * sizeof *ids->at);
    for (size_t i = 0; i < reply->elements; i++) {
        int64_t id = 0;
        if (reply_i64(reply->element[i], &id) != OK || id <= last) return session_not_understood(s);
        ids->at[ids->count++] = last = id;
    }
    *is_more = reply->elements > 0;
    return EXIT_OK;
}

enum exit_code run_lease_list(struct session *s, const struct args *a)
{
    (void)a;
    struct ids ids CLEANUP(ids_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    bool is_more = true;
    while (is_more) {
        enum exit_code code = ids_fetch(s, &ids, &is_more);
        if (code != EXIT_OK) return code;
    }
    session_header(s);
    render_lease_list(&text, &s->render, ids.at, ids.count);
    return session_print(s, &text);
}

/* --- keep-alive ------------------------------------------------------------------- */

struct keeper {
    struct session *s;
    int64_t id;
    int64_t call_ms_max;  /* what the user lets an answer take */
    int64_t pause_ms_max; /* between two attempts to connect */
};

/* From the first renewal on the ttl is known. */
static void keeper_hurry(struct keeper *k, int64_t ttl_ms)
{
    k->s->conn.timeout_ms = MIN(k->call_ms_max, MAX(ttl_ms / 6, KEEP_ALIVE_CALL_MS_MIN));
    k->pause_ms_max = MIN(RUN_PAUSE_MS_MAX, MAX(ttl_ms / 10, KEEP_ALIVE_MS_MIN));
}

/* One renewal; *ttl_ms is 0 if it did not happen but may later. */
static enum exit_code renew(struct keeper *k, int64_t *ttl_ms)
{
    struct session *s = k->s;
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    *ttl_ms = 0;
    words_add_text(&request, "LEASE KEEPALIVE PX");
    words_add_i64(&request, k->id);
    if (conn_call(&s->conn, &request, 0, &reply, &em) != OK) {
        return run_reconnect(s, em.text, k->pause_ms_max);
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        bool is_passing = session_is_transient(reply) || strncmp(reply->str, "TIMEOUT", 7) == 0;
        if (!is_passing) return session_refused(s, reply);
        session_sleep_ms(MIN(BUSY_PAUSE_MS, k->pause_ms_max));
        return run_reconnect(s, reply->str, k->pause_ms_max);
    }
    bool is_one = reply->type == REDIS_REPLY_ARRAY && reply->elements == 1;
    if (!is_one || reply_i64(reply->element[0], ttl_ms) != OK) return session_not_understood(s);
    if (*ttl_ms <= 0) {
        return session_fail(s, EXIT_NO, "lease %lld expired or revoked", (long long)k->id);
    }
    keeper_hurry(k, *ttl_ms);
    return EXIT_OK;
}

static enum exit_code keep_alive_start(struct session *s)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    words_add_text(&request, "PING");
    enum exit_code code = session_call(s, &request, CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    session_header(s);
    return s->conn.redis == NULL ? run_reconnect(s, "connection lost", RUN_PAUSE_MS_MAX)
                                  : EXIT_OK;
}

enum exit_code run_lease_keep_alive(struct session *s, const struct args *a)
{
    struct errmsg em = { "" };
    int64_t id = 0;
    if (args_positional_id(a, 0, "lease id", &id, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    struct keeper k = { .s = s,
                        .id = id,
                        .call_ms_max = s->conn.timeout_ms,
                        .pause_ms_max = RUN_PAUSE_MS_MAX };
    enum exit_code code = keep_alive_start(s);
    while (code == EXIT_OK) {
        struct buf text CLEANUP(buf_deinit) = { 0 };
        int64_t ttl_ms = 0;
        code = renew(&k, &ttl_ms);
        if (code != EXIT_OK || ttl_ms == 0) continue;
        render_lease_alive(&text, &s->render, id, (ttl_ms + 999) / 1000);
        code = session_print(s, &text);
        if (args_has(a, OPT_ONCE)) return code;
        if (code == EXIT_OK) session_sleep_ms(MAX(ttl_ms / 3, KEEP_ALIVE_MS_MIN));
    }
    return code;
}
