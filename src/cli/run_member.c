#include "cli/run.h"

#include <stdlib.h>

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

/* As people look for them; members without a name come first. */
static int members_compare(const void *a, const void *b)
{
    const struct member *x = a;
    const struct member *y = b;
    int order = slice_cmp(x->name, y->name);
    if (order != 0) return order;
    return x->id < y->id ? -1 : x->id > y->id;
}

static enum exit_code members_fetch(struct session *s, const char *command, struct members *out)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    words_add_text(&request, command);
    enum exit_code code = session_call(s, &request, CALL_READ, &out->reply);
    if (code != EXIT_OK) return code;
    if (out->reply->type != REDIS_REPLY_ARRAY) return session_not_understood(s);
    out->count = out->reply->elements;
    out->at = mem_zalloc((out->count + 1) * sizeof *out->at);
    for (size_t i = 0; i < out->count; i++) {
        if (reply_member(out->reply->element[i], &out->at[i]) != OK)
            return session_not_understood(s);
    }
    qsort(out->at, out->count, sizeof *out->at, members_compare);
    return EXIT_OK;
}

enum exit_code run_member_list(struct session *s, const struct args *a)
{
    (void)a;
    struct members members CLEANUP(members_deinit) = { 0 };
    struct buf text CLEANUP(buf_deinit) = { 0 };
    enum exit_code code = members_fetch(s, "MEMBER LIST", &members);
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
    (void)session_cluster_id(s); /* asked first: a member that removes itself tells it no more */
    enum exit_code code = session_call(s, &request, CALL_WRITE, &reply);
    if (code != EXIT_OK) return code;
    char done[128];
    snprintf(done, sizeof done, "Member %lld %s %lld", (long long)id, changes[at].done,
             (long long)session_cluster_id(s));
    render_done(&text, &s->render, done);
    return session_print(s, &text);
}

/* --- status ---------------------------------------------------------------------------- */

/* One row a member, and what the rows borrow from. */
struct statuses {
    struct members members; /* none with --local */
    struct status_row rows[CONN_ENDPOINTS_MAX];
    redisReply *replies[CONN_ENDPOINTS_MAX];
    struct errmsg problems[CONN_ENDPOINTS_MAX];
    size_t count;
};

static void statuses_free(struct statuses **st)
{
    for (size_t i = 0; i < (*st)->count; i++) session_reply_free(&(*st)->replies[i]);
    members_deinit(&(*st)->members);
    mem_free(*st);
}

/* Asks the endpoint, one of the session's, about itself. */
static void status_fetch(struct session *s, size_t endpoint, struct statuses *st, size_t at)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    struct status_row *row = &st->rows[at];
    struct errmsg *problem = &st->problems[at];
    row->endpoint = s->conn.endpoints[endpoint].text;
    words_add_text(&request, "MEMBER STATUS");
    bool is_open = s->conn.redis != NULL && s->conn.at == endpoint;
    if (!is_open && conn_open_at(&s->conn, endpoint, problem) != OK) return;
    if (conn_call(&s->conn, &request, 0, &st->replies[at], problem) != OK) return;
    const redisReply *reply = st->replies[at];
    struct status status;
    if (reply->type == REDIS_REPLY_ERROR) {
        struct buf text CLEANUP(buf_deinit) = { 0 };
        text_escape(&text, (struct slice){ (const uint8_t *)reply->str, reply->len });
        errmsg_set(problem, "%.*s", (int)text.len, (const char *)text.at);
    } else if (reply_status(reply, &status) != OK) {
        errmsg_set(problem, "the answer is not understood");
    } else if (row->status.member_id != 0 && row->status.member_id != status.member_id) {
        errmsg_set(problem, "member %lld answers there", (long long)status.member_id);
    } else {
        row->status = status;
        row->is_answered = true;
    }
}

/* From the endpoints that were given to those of all members; the connection is kept if it leads
 * to one of them. */
static enum exit_code endpoints_replace(struct session *s, const struct members *members)
{
    struct buf endpoints CLEANUP(buf_deinit) = { 0 };
    struct errmsg em = { "" };
    struct conn all;
    for (size_t i = 0; i < members->count; i++) {
        if (members->at[i].client.len == 0) continue;
        if (endpoints.len > 0) buf_append_u8(&endpoints, ',');
        buf_append_slice(&endpoints, members->at[i].client);
    }
    if (endpoints.len == 0) return session_fail(s, EXIT_NO, "no member has told its address");
    if (conn_init(&all, buf_slice(&endpoints), &em) != OK) {
        return session_fail(s, EXIT_NO, "member list: %s", em.text);
    }
    all.user = s->conn.user;
    all.password = s->conn.password;
    all.db = s->conn.db;
    all.timeout_ms = s->conn.timeout_ms;
    for (size_t i = 0; i < all.endpoint_count && s->conn.redis != NULL; i++) {
        if (strcmp(all.endpoints[i].text, conn_endpoint(&s->conn)) != 0) continue;
        all.at = i;
        all.redis = s->conn.redis;
        s->conn.redis = NULL;
    }
    conn_deinit(&s->conn);
    s->conn = all;
    return EXIT_OK;
}

/* What one member knows is enough to find the others, also while nobody leads. */
static enum exit_code members_ask(struct session *s, struct statuses *st)
{
    enum exit_code code = members_fetch(s, "MEMBER LIST LOCAL", &st->members);
    if (code == EXIT_UNKNOWN) return EXIT_CONNECT; /* nothing was to happen: none answers */
    if (code != EXIT_OK) return code;
    if (st->members.count > CONN_ENDPOINTS_MAX) return session_not_understood(s);
    code = endpoints_replace(s, &st->members);
    if (code != EXIT_OK) return code;
    size_t endpoint = 0;
    for (size_t i = 0; i < st->members.count; i++) {
        const struct member *m = &st->members.at[i];
        st->count++;
        st->rows[i] = (struct status_row){ .endpoint = "",
                                           .name = m->name,
                                           .status.member_id = m->id,
                                           .problem = st->problems[i].text };
        if (m->client.len > 0) {
            status_fetch(s, endpoint++, st, i);
        } else {
            errmsg_set(&st->problems[i], "it has not told its address: is it started?");
        }
    }
    return EXIT_OK;
}

static void endpoints_ask(struct session *s, struct statuses *st)
{
    for (; st->count < s->conn.endpoint_count; st->count++) {
        st->rows[st->count].problem = st->problems[st->count].text;
        status_fetch(s, st->count, st, st->count);
    }
}

static void lags_compute(struct statuses *st)
{
    int64_t index = 0;
    for (size_t i = 0; i < st->count; i++) {
        if (st->rows[i].is_answered) index = MAX(index, st->rows[i].status.index);
    }
    for (size_t i = 0; i < st->count; i++) {
        if (st->rows[i].is_answered) st->rows[i].lag = index - st->rows[i].status.applied_index;
    }
}

/* The exit code; says what no row does. */
static enum exit_code status_judge(struct session *s, const struct statuses *st)
{
    size_t answered_count = 0;
    bool is_healthy = true;
    bool has_leader = false;
    for (size_t i = 0; i < st->count; i++) {
        struct buf errors CLEANUP(buf_deinit) = { 0 };
        bool is_led = st->rows[i].is_answered && st->rows[i].status.leader_id != 0;
        answered_count += st->rows[i].is_answered;
        has_leader = has_leader || is_led;
        render_status_errors(&errors, &st->rows[i]);
        is_healthy = is_healthy && is_led && errors.len == 0;
    }
    if (answered_count == 0) return EXIT_CONNECT;
    if (!has_leader) {
        return session_fail(s, EXIT_NO, "no leader: nothing can be written until a majority of the "
                                        "members works together");
    }
    return is_healthy ? EXIT_OK : EXIT_NO;
}

enum exit_code run_status(struct session *s, const struct args *a)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    struct statuses *st CLEANUP(statuses_free) = mem_zalloc(sizeof *st);
    if (!args_has(a, OPT_COMMAND_TIMEOUT)) s->conn.timeout_ms = CLI_STATUS_TIMEOUT_MS;
    if (args_has(a, OPT_LOCAL)) {
        endpoints_ask(s, st);
    } else {
        enum exit_code code = members_ask(s, st);
        if (code != EXIT_OK) return code;
    }
    lags_compute(st);
    render_status(&text, &s->render, st->rows, st->count);
    enum exit_code code = session_print(s, &text);
    return code == EXIT_OK ? status_judge(s, st) : code;
}
