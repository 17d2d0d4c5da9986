#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/request.h"
#include "cli/run.h"
#include "cli/text.h"

/* Linux bounds one variable to 128 KiB, name included; this leaves room. */
#define VARIABLE_BYTES_MAX (96u << 10)

/* What a shell says for "cannot be executed" and "not found". */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND      127

#define BUSY_PAUSE_MS 500

/* --- the command per event ------------------------------------------------------ */

/* False if it cannot be a variable. */
static bool variable_set(const char *name, struct slice bytes)
{
    bool fits = bytes.len <= VARIABLE_BYTES_MAX &&
                (bytes.len == 0 || memchr(bytes.at, '\0', bytes.len) == NULL);
    if (!fits) {
        unsetenv(name);
        return false;
    }
    struct buf text CLEANUP(buf_deinit) = { 0 };
    buf_append_slice(&text, bytes);
    buf_append_u8(&text, '\0');
    return setenv(name, (const char *)text.at, 1) == 0;
}

static void environment_set(const struct event *e)
{
    char digits[22];
    digits[i64_format(e->kv.mod_rev, digits)] = '\0';
    setenv("CORDIS_WATCH_REVISION", digits, 1);
    setenv("CORDIS_WATCH_EVENT_TYPE", render_event_name(e), 1);
    bool has_key = variable_set("CORDIS_WATCH_KEY", e->kv.key);
    bool has_value = variable_set("CORDIS_WATCH_VALUE", e->kv.value);
    unsetenv("CORDIS_WATCH_OMITTED");
    if (!has_key || !has_value) {
        const char *omitted = has_key ? "VALUE" : has_value ? "KEY" : "KEY VALUE";
        setenv("CORDIS_WATCH_OMITTED", omitted, 1);
    }
}

static char *text_copy(struct slice s)
{
    char *copy = mem_alloc(s.len + 1);
    if (s.len > 0) memcpy(copy, s.at, s.len);
    copy[s.len] = '\0';
    return copy;
}

/* In the child: never returns. The password and the connection are not its business. */
static _Noreturn void child_run(const struct session *s, const struct args *a,
                                const struct event *e)
{
    char **argv = mem_zalloc((a->tail_count + 1) * sizeof *argv);
    for (size_t i = 0; i < a->tail_count; i++) argv[i] = text_copy(a->tail[i]);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    environment_set(e);
    unsetenv("CORDIS_PASSWORD");
    unsetenv("CORDIS_USER"); /* may hold it, too */
    if (s->conn.redis != NULL) close(s->conn.redis->fd);
    if (freopen("/dev/null", "r", stdin) == NULL) _exit(EXIT_NOT_EXECUTABLE);
    execvp(argv[0], argv);
    int why = errno;
    fprintf(stderr, "cordis: cannot run '%s': %s\n", argv[0], strerror(why));
    _exit(why == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

static enum exit_code command_run(struct session *s, const struct args *a, const struct event *e)
{
    fflush(s->out);
    fflush(s->err);
    pid_t child = fork();
    if (child < 0) return session_fail(s, EXIT_NO, "cannot start a process: %s", strerror(errno));
    if (child == 0) child_run(s, a, e);
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return session_fail(s, EXIT_NO, "waitpid: %s", strerror(errno));
    }
    long long revision = e->kv.mod_rev;
    if (WIFSIGNALED(status)) {
        session_say(s, "the command died of signal %d (revision %lld)", WTERMSIG(status), revision);
        return EXIT_OK;
    }
    int code = WEXITSTATUS(status);
    if (code == EXIT_NOT_FOUND || code == EXIT_NOT_EXECUTABLE) {
        return session_fail(s, EXIT_NO,
                            "the command cannot be run (exit %d); stopped at revision "
                            "%lld, go on with --rev %lld",
                            code, revision, revision);
    }
    if (code != 0) session_say(s, "the command exited with %d (revision %lld)", code, revision);
    return EXIT_OK;
}

/* --- the watch ------------------------------------------------------------------- */

static enum exit_code events_show(struct session *s, const struct args *a,
                                  const struct event_list *list)
{
    if (a->tail_count == 0) {
        struct buf text CLEANUP(buf_deinit) = { 0 };
        render_events(&text, &s->render, list->at, list->count);
        return session_print(s, &text);
    }
    for (size_t i = 0; i < list->count; i++) {
        enum exit_code code = command_run(s, a, &list->at[i]);
        if (code != EXIT_OK) return code;
    }
    return EXIT_OK;
}

/* "COMPACTED required revision 90 has been compacted, oldest is 100" */
static enum exit_code compacted(struct session *s, const redisReply *error, int64_t from_rev)
{
    static const char mark[] = "oldest is ";
    const char *at = strstr(error->str, mark);
    long long oldest = at == NULL ? 0 : strtoll(at + sizeof mark - 1, NULL, 10);
    if (oldest <= 0) return session_refused(s, error);
    return session_fail(s, EXIT_NO,
                        "revision %lld has been compacted: the history begins at "
                        "revision %lld. Read the keys with `cordis get`, then watch on "
                        "with --rev %lld or later.",
                        (long long)from_rev, oldest, oldest);
}

/* EXIT_OK: worth another try. */
static enum exit_code error_handle(struct session *s, const redisReply *error, int64_t from_rev)
{
    if (strncmp(error->str, "COMPACTED", 9) == 0) return compacted(s, error, from_rev);
    bool is_passing = session_is_transient(error) || strncmp(error->str, "TIMEOUT", 7) == 0;
    if (!is_passing) return session_refused(s, error);
    struct buf why CLEANUP(buf_deinit) = { 0 };
    buf_printf(&why, "%s: ", conn_endpoint(&s->conn));
    text_escape(&why, (struct slice){ (const uint8_t *)error->str, error->len });
    buf_append_u8(&why, '\0');
    session_sleep_ms(BUSY_PAUSE_MS);
    return run_reconnect(s, (const char *)why.at, RUN_PAUSE_MS_MAX);
}

/* One request; moves *from_rev behind what was shown. */
static enum exit_code watch_step(struct session *s, const struct args *a, int64_t *from_rev)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    struct errmsg em = { "" };
    struct event_list list;
    if (request_watch(a, *from_rev, RUN_WATCH_BLOCK_MS, &request, &em) != OK) return EXIT_USAGE;
    if (conn_call(&s->conn, &request, RUN_WATCH_BLOCK_MS, &reply, &em) != OK) {
        return run_reconnect(s, em.text, RUN_PAUSE_MS_MAX);
    }
    if (reply->type == REDIS_REPLY_ERROR) return error_handle(s, reply, *from_rev);
    if (reply_events(reply, &list) != OK) return session_not_understood(s);
    bool is_forward = list.count == 0 ? list.next_rev >= *from_rev : list.next_rev > *from_rev;
    enum exit_code code = is_forward ? events_show(s, a, &list) : session_not_understood(s);
    mem_free(list.at);
    *from_rev = list.next_rev;
    return code;
}

static enum exit_code start_find(struct session *s, int64_t *from_rev)
{
    struct words request CLEANUP(words_deinit) = { 0 };
    redisReply *reply CLEANUP(session_reply_free) = NULL;
    int64_t rev = 0;
    words_add_text(&request, "KV REVISION");
    enum exit_code code = session_call(s, &request, CALL_READ, &reply);
    if (code != EXIT_OK) return code;
    if (reply_i64(reply, &rev) != OK) return session_not_understood(s);
    if (*from_rev == 0) *from_rev = rev + 1;
    return EXIT_OK;
}

enum exit_code run_watch(struct session *s, const struct args *a)
{
    struct words trial CLEANUP(words_deinit) = { 0 };
    struct errmsg em = { "" };
    int64_t from_rev = 0;
    if (args_number(a, OPT_REV, 1, &from_rev, &em) != OK ||
        request_watch(a, 1, RUN_WATCH_BLOCK_MS, &trial, &em) != OK) {
        return session_fail(s, EXIT_USAGE, "%s", em.text);
    }
    enum exit_code code = start_find(s, &from_rev);
    if (code == EXIT_OK) session_header(s);
    if (code == EXIT_OK && s->conn.redis == NULL) {
        code = run_reconnect(s, "connection lost", RUN_PAUSE_MS_MAX);
    }
    while (code == EXIT_OK) code = watch_step(s, a, &from_rev);
    return code;
}
