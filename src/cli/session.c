#include "cli/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/password.h"
#include "cli/text.h"

#define DB_MAX 15

/* An option, else its variable, else nothing (at NULL). */
static struct slice setting(const struct args *a, enum option_id id, const char *variable)
{
    if (args_has(a, id)) return a->value[id];
    const char *text = variable == NULL ? NULL : getenv(variable);
    return text == NULL ? SLICE_NONE : slice_of(text);
}

static enum err format_init(struct session *s, const struct args *a, struct errmsg *em)
{
    static const char *const names[] = {
        [FORMAT_SIMPLE] = "simple", [FORMAT_TABLE] = "table", [FORMAT_JSON] = "json"
    };
    enum command_id id = a->command->id;
    bool is_overview = id == COMMAND_STATUS || id == COMMAND_MEMBER_LIST;
    s->render.format = is_overview ? FORMAT_TABLE : FORMAT_SIMPLE;
    s->render.hex = args_has(a, OPT_HEX);
    s->render.given = a->given;
    if (!args_has(a, OPT_WRITE_OUT)) return OK;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!slice_is(a->value[OPT_WRITE_OUT], names[i])) continue;
        s->render.format = (enum format)i;
        return OK;
    }
    errmsg_set(em, "--write-out needs simple, table or json");
    return ERR_SYNTAX;
}

/* The prompt is seen also where stderr is a file. */
static bool password_type(struct session *s)
{
    char prompt[96];
    snprintf(prompt, sizeof prompt, "Password for %.*s: ", (int)MIN(s->conn.user.len, 64),
             (const char *)s->conn.user.at);
    FILE *terminal = fopen("/dev/tty", "we");
    FILE *shown = terminal == NULL ? s->err : terminal;
    bool is_typed = password_ask(STDIN_FILENO, shown, prompt, &s->password);
    if (terminal != NULL) fclose(terminal);
    if (is_typed) s->conn.password = buf_slice(&s->password);
    return is_typed;
}

/* --user name[:password]; a user without a password is asked for one on a terminal. */
static enum err login_init(struct session *s, const struct args *a, struct errmsg *em)
{
    struct conn *c = &s->conn;
    c->user = setting(a, OPT_USER, "CORDIS_USER");
    c->password = setting(a, OPT_PASSWORD, "CORDIS_PASSWORD");
    const uint8_t *colon = c->user.len == 0 ? NULL : memchr(c->user.at, ':', c->user.len);
    if (colon != NULL) {
        size_t name_len = (size_t)(colon - c->user.at);
        c->password = (struct slice){ colon + 1, c->user.len - name_len - 1 };
        c->user.len = name_len;
    }
    if (c->user.len == 0 || c->password.at != NULL) return OK;
    if (s->in_is_tty && password_type(s)) return OK;
    errmsg_set(em, "--user needs a password: set CORDIS_PASSWORD");
    return ERR_SYNTAX;
}

/* The option, all times it was given, else the variable, else the default. */
static void endpoints_join(const struct args *a, struct buf *out)
{
    for (size_t i = 0; i < a->endpoints_count; i++) {
        if (i > 0) buf_append_u8(out, ',');
        buf_append_slice(out, a->endpoints[i]);
    }
    if (a->endpoints_count > 0) return;
    struct slice other = setting(a, OPT_ENDPOINTS, "CORDIS_ENDPOINTS");
    buf_append_slice(out, other.at == NULL ? slice_of(CLI_ENDPOINTS_DEFAULT) : other);
}

enum err session_init(struct session *s, const struct args *a, struct errmsg *em)
{
    struct session made = { .in = stdin, .out = stdout, .err = stderr };
    made.in_is_tty = isatty(STDIN_FILENO) == 1;
    struct buf endpoints CLEANUP(buf_deinit) = { 0 };
    endpoints_join(a, &endpoints);
    int64_t timeout_ms = CLI_TIMEOUT_MS_DEFAULT;
    int64_t db = 0;
    TRY(format_init(&made, a, em));
    TRY(args_number(a, OPT_DB, 0, &db, em));
    if (db > DB_MAX) {
        errmsg_set(em, "--db needs a number from 0 to %d", DB_MAX);
        return ERR_SYNTAX;
    }
    if (args_has(a, OPT_COMMAND_TIMEOUT) &&
        text_duration(a->value[OPT_COMMAND_TIMEOUT], CLI_TIMEOUT_MS_MAX, &timeout_ms) != OK) {
        errmsg_set(em, "--command-timeout needs a time like 500ms, 8s or 1m");
        return ERR_SYNTAX;
    }
    TRY(conn_init(&made.conn, buf_slice(&endpoints), em));
    made.conn.timeout_ms = timeout_ms;
    made.conn.db = db;
    enum err err = login_init(&made, a, em);
    if (err != OK) {
        session_deinit(&made);
        return err;
    }
    *s = made;
    return OK;
}

void session_deinit(struct session *s)
{
    conn_deinit(&s->conn);
    buf_deinit(&s->password);
}

static void say(struct session *s, const char *format, va_list list)
    __attribute__((format(printf, 2, 0)));

static void say(struct session *s, const char *format, va_list list)
{
    fputs("cordis: ", s->err);
    vfprintf(s->err, format, list);
    fputc('\n', s->err);
    fflush(s->err);
}

void session_say(struct session *s, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(s, format, list);
    va_end(list);
}

enum exit_code session_fail(struct session *s, enum exit_code code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(s, format, list);
    va_end(list);
    return code;
}

/* What to do about an error, by its first word (or words). */
static const char *hint_for(struct slice error)
{
    static const struct {
        const char *start;
        const char *hint;
    } hints[] = {
        { "NOAUTH", "give --user and CORDIS_PASSWORD" },
        { "WRONGPASS", "check --user and CORDIS_PASSWORD" },
        { "NOPERM", "ask for the permission, or use another --user" },
        { "NOSPACE", "delete keys; `cordis status` shows how much is in use" },
        { "COMPACTED", "older revisions are gone; without --rev you get the present" },
        { "FUTURE", "`cordis status` shows the present revision" },
        { "NOLEASE", "`cordis lease list` shows the leases there are" },
        { "CLUSTERDOWN", "no majority of members works together: see `cordis status`" },
        { "LOADING", "the server has just started; try again in a moment" },
        { "TRYAGAIN", "nothing was changed; try again in a moment" },
        { "TIMEOUT", "it may have happened or not: look before you try again" },
        { "WRONGTYPE", "the key holds a hash or a list; redis-cli can read it" },
        { "ERR unknown command", "is this a Cordis server?" },
        { "ERR member not found", "`cordis member list` shows the members and their ids" },
    };
    for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
        if (slice_starts(error, slice_of(hints[i].start))) return hints[i].hint;
    }
    return NULL;
}

enum exit_code session_refused(struct session *s, const redisReply *error)
{
    struct slice text = { (const uint8_t *)error->str, error->len };
    const char *hint = hint_for(text);
    bool is_unknown = slice_starts(text, SLICE_LIT("TIMEOUT"));
    if (slice_starts(text, SLICE_LIT("ERR "))) text = (struct slice){ text.at + 4, text.len - 4 };
    struct buf shown CLEANUP(buf_deinit) = { 0 };
    text_escape(&shown, text);
    session_say(s, "%.*s%s%s%s", (int)shown.len, (const char *)shown.at, hint == NULL ? "" : " (",
                hint == NULL ? "" : hint, hint == NULL ? "" : ")");
    return is_unknown ? EXIT_UNKNOWN : EXIT_NO;
}

enum exit_code session_not_understood(struct session *s)
{
    return session_fail(s, EXIT_NO,
                        "the answer of %s is not understood: is it a Cordis server, of "
                        "a version that fits this tool (%s)?",
                        conn_endpoint(&s->conn), CLI_VERSION);
}

bool session_is_transient(const redisReply *error)
{
    static const char *const words[] = { "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN",
                                         "ERR max number of clients reached" };
    struct slice text = { (const uint8_t *)error->str, error->len };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (slice_starts(text, slice_of(words[i]))) return true;
    }
    return false;
}

static enum exit_code connect_failed(struct session *s, enum err err, const struct errmsg *em)
{
    if (err == ERR_NOPERM) return session_fail(s, EXIT_NO, "%s", em->text);
    return session_fail(s, EXIT_CONNECT,
                        "cannot connect: %s. Is cordis-server running there? "
                        "--endpoints or CORDIS_ENDPOINTS choose others.",
                        em->text);
}

enum exit_code session_call(struct session *s, const struct words *request, enum call_kind kind,
                            redisReply **out)
{
    for (size_t tries_left = s->conn.endpoint_count; true; tries_left--) {
        struct errmsg em = { "" };
        redisReply *reply CLEANUP(session_reply_free) = NULL;
        if (s->conn.redis == NULL) {
            enum err err = conn_open(&s->conn, &em);
            if (err != OK) return connect_failed(s, err, &em);
        }
        if (conn_call(&s->conn, request, 0, &reply, &em) != OK) {
            if (kind == CALL_READ && tries_left > 1) {
                conn_next(&s->conn);
                continue;
            }
            if (kind == CALL_READ) return session_fail(s, EXIT_UNKNOWN, "no answer: %s", em.text);
            return session_fail(s, EXIT_UNKNOWN,
                                "outcome unknown: %s. It may have happened or "
                                "not: look before you try again.",
                                em.text);
        }
        if (reply->type == REDIS_REPLY_ERROR) {
            if (tries_left > 1 && session_is_transient(reply)) {
                conn_next(&s->conn);
                continue;
            }
            return session_refused(s, reply);
        }
        *out = reply;
        reply = NULL;
        return EXIT_OK;
    }
}

/* Who answers, for headers. A user without permission for it gets headers without it. */
static void header_fetch(struct session *s)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct status status = { 0 };
    words_add_text(&request, "MEMBER STATUS");
    if (s->conn.redis == NULL && conn_open(&s->conn, NULL) != OK) return;
    if (conn_call(&s->conn, &request, 0, &reply, NULL) != OK) return;
    if (reply_status(reply, &status) != OK) return;
    s->render.header = (struct header){ .cluster_id = status.cluster_id,
                                        .member_id = status.member_id,
                                        .revision = status.revision,
                                        .raft_term = status.term };
}

void session_header(struct session *s)
{
    if (s->render.format == FORMAT_JSON) header_fetch(s);
}

int64_t session_cluster_id(struct session *s)
{
    if (s->render.header.cluster_id == 0) header_fetch(s);
    return s->render.header.cluster_id;
}

enum exit_code session_print(struct session *s, const struct buf *text)
{
    size_t written = text->len == 0 ? 0 : fwrite(text->at, 1, text->len, s->out);
    if (written == text->len && fflush(s->out) == 0) return EXIT_OK;
    if (errno != EPIPE) session_say(s, "cannot write the output: %s", strerror(errno));
    return EXIT_OUTPUT;
}

void session_sleep_ms(int64_t ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}
