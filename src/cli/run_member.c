#include "cli/run.h"
#include "cli/text.h"

/* --- list -------------------------------------------------------------------------- */

struct members {
    redisReply *reply; /* what the members borrow from */
    struct member *at;
    size_t count;
};

static void members_deinit(struct members *m)
{
    session_reply_free(&m->reply);
    mem_free(m->at);
}

static enum exit_code members_fetch(struct session *s, struct members *out)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    words_add_text(&request, "MEMBER LIST");
    enum exit_code code = session_call(s, &request, CALL_READ, &out->reply);
    if (code != EXIT_OK) return code;
    if (out->reply->type != REDIS_REPLY_ARRAY) return session_not_understood(s);
    out->count = out->reply->elements;
    out->at = mem_zalloc((out->count + 1) * sizeof *out->at);
    for (size_t i = 0; i < out->count; i++) {
        if (reply_member(out->reply->element[i], &out->at[i]) != OK)
            return session_not_understood(s);
    }
    return EXIT_OK;
}

enum exit_code run_member_list(struct session *s, const struct args *a)
{
    (void)a;
    struct members members CLEANUP(members_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    enum exit_code code = members_fetch(s, &members);
    if (code != EXIT_OK) return code;
    session_header(s);
    render_members(&text, &s->render, members.at, members.count);
    return session_print(s, &text);
}

/* --- changes ------------------------------------------------------------------------ */

enum exit_code run_member_add(struct session *s, const struct args *a)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct buf done CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct member member;
    words_add_text(&request, "MEMBER ADD");
    words_add(&request, a->positional[0]);
    if (args_has(a, OPT_NAME)) {
        words_add_text(&request, "NAME");
        words_add(&request, a->value[OPT_NAME]);
    }
    if (args_has(a, OPT_LEARNER)) words_add_text(&request, "LEARNER");
    enum exit_code code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    if (reply_member(reply, &member) != OK) return session_not_understood(s);
    session_header(s);
    buf_printf(&done,
               "Member %lld added to cluster %lld\n\nNow start it on its host:\n  "
               "cordis-server --join %s",
               (long long)member.id, (long long)session_cluster_id(s), conn_endpoint(&s->conn));
    buf_append_u8(&done, '\0');
    if (s->render.format == FORMAT_JSON) {
        render_members(&text, &s->render, &member, 1);
    } else {
        render_done(&text, &s->render, (const char *)done.at);
    }
    return session_print(s, &text);
}

/* remove, promote, update, transfer: an id, an answer without content. */
enum exit_code run_member_change(struct session *s, const struct args *a)
{
    static const struct {
        enum command_id id;
        const char *word;
        const char *done; /* behind "Member <id>" */
    } changes[] = {
        { COMMAND_MEMBER_REMOVE, "MEMBER REMOVE", "removed from cluster" },
        { COMMAND_MEMBER_PROMOTE, "MEMBER PROMOTE", "promoted in cluster" },
        { COMMAND_MEMBER_UPDATE, "MEMBER UPDATE", "updated in cluster" },
        { COMMAND_MEMBER_TRANSFER, "MEMBER TRANSFER", "leads cluster" },
    };
    struct words request CLEANUP(words_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    int64_t id = 0;
    size_t at = 0;
    while (changes[at].id != a->command->id) at++;
    ASSERT(at < ARRAY_LEN(changes));
    if (args_positional_id(a, 0, "member id", &id, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s; `cordis member list` shows ids", em.text);
    }
    words_add_text(&request, changes[at].word);
    words_add_i64(&request, id);
    if (a->positional_count > 1) words_add(&request, a->positional[1]);
    enum exit_code code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    session_header(s);
    char done[128];
    snprintf(done, sizeof done, "Member %lld %s %lld", (long long)id, changes[at].done,
             (long long)session_cluster_id(s));
    render_done(&text, &s->render, done);
    return session_print(s, &text);
}

/* --- status ---------------------------------------------------------------------------- */

/* One row an endpoint; the replies the rows borrow from. */
struct statuses {
    struct status_row rows[CONN_ENDPOINTS_MAX];
    redisReply *replies[CONN_ENDPOINTS_MAX];
    struct errmsg problems[CONN_ENDPOINTS_MAX];
    size_t count;
};

static void statuses_free(struct statuses **st)
{
    for (size_t i = 0; i < (*st)->count; i++) session_reply_free(&(*st)->replies[i]);
    mem_free(*st);
}

static void status_fetch(struct session *s, size_t at, struct statuses *st)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct status_row *row = &st->rows[at];
    struct errmsg *problem = &st->problems[at];
    row->endpoint = s->conn.endpoints[at].text;
    row->problem = problem->text;
    words_add_text(&request, "MEMBER STATUS");
    bool is_open = s->conn.redis != NULL && s->conn.at == at;
    if (!is_open && conn_open_at(&s->conn, at, problem) != OK) return;
    if (conn_call(&s->conn, &request, 0, &st->replies[at], problem) != OK) return;
    const redisReply *reply = st->replies[at];
    if (reply->type == REDIS_REPLY_ERROR) {
        struct buf text CLEANUP(buf_deinit) = { 0 };
        text_escape(&text, (struct slice){ (const uint8_t *)reply->str, reply->len });
        errmsg_set(problem, "%.*s", (int)text.len, (const char *)text.at);
    } else if (reply_status(reply, &row->status) != OK) {
        errmsg_set(problem, "the answer is not understood");
    } else {
        row->is_answered = true;
    }
}

/* From the endpoints that were given to those of all members. */
static enum exit_code cluster_expand(struct session *s)
{
    struct members members CLEANUP(members_deinit) = { 0 };
    struct buf endpoints CLEANUP(buf_deinit) = { 0 };
    struct errmsg em = { "" };
    struct conn all;
    enum exit_code code = members_fetch(s, &members);
    if (code != EXIT_OK) return code;
    for (size_t i = 0; i < members.count; i++) {
        if (members.at[i].client.len == 0) continue;
        if (endpoints.len > 0) buf_append_u8(&endpoints, ',');
        buf_append_slice(&endpoints, members.at[i].client);
    }
    if (endpoints.len == 0) return EXIT_OK;
    if (conn_init(&all, buf_slice(&endpoints), &em) != OK) {
        return session_fail(s, EXIT_NO, "member list: %s", em.text);
    }
    all.user = s->conn.user;
    all.password = s->conn.password;
    all.db = s->conn.db;
    all.timeout_ms = s->conn.timeout_ms;
    conn_deinit(&s->conn);
    s->conn = all;
    return EXIT_OK;
}

enum exit_code run_status(struct session *s, const struct args *a)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct statuses *st CLEANUP(statuses_free) = mem_zalloc(sizeof *st);
    enum exit_code code = args_has(a, OPT_CLUSTER) ? cluster_expand(s) : EXIT_OK;
    if (code != EXIT_OK) return code;
    size_t answered_count = 0;
    bool is_healthy = true;
    for (st->count = 0; st->count < s->conn.endpoint_count; st->count++) {
        struct buf errors CLEANUP(buf_deinit) = { 0 };
        status_fetch(s, st->count, st);
        answered_count += st->rows[st->count].is_answered;
        render_status_errors(&errors, &st->rows[st->count]);
        is_healthy = is_healthy && errors.len == 0;
    }
    render_status(&text, &s->render, st->rows, st->count);
    code = session_print(s, &text);
    if (code != EXIT_OK || is_healthy) return code;
    return answered_count == 0 ? EXIT_CONNECT : EXIT_NO;
}
