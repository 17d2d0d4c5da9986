#include "cli/conn.h"

#include <errno.h>
#include <sys/time.h>

#include "cli/cli.h"
#include "cli/text.h"

static char *text_copy(struct slice s)
{
    char *copy = mem_alloc(s.len + 1);
    if (s.len > 0) memcpy(copy, s.at, s.len);
    copy[s.len] = '\0';
    return copy;
}

static enum err endpoint_refuse(struct slice text, struct errmsg *em)
{
    errmsg_set(em, "endpoint '%.*s' is not host:port (like 10.0.0.1:7379; no http://)",
               (int)MIN(text.len, 128), (const char *)text.at);
    return ERR_SYNTAX;
}

static bool has_any(struct slice s, const char *bytes)
{
    for (; *bytes != '\0'; bytes++) {
        if (memchr(s.at, *bytes, s.len) != NULL) return true;
    }
    return false;
}

/* The last colon parts host and port, unless it stands inside the brackets of an IPv6
 * address. An IPv6 address without brackets cannot be told from a port: refused. */
static enum err endpoint_add(struct conn *c, struct slice text, struct errmsg *em)
{
    struct slice host = text;
    int64_t port = CLI_PORT_DEFAULT;
    const uint8_t *colon = memrchr(text.at, ':', text.len);
    const uint8_t *bracket = memrchr(text.at, ']', text.len);
    if (colon != NULL && (bracket == NULL || colon > bracket)) {
        host.len = (size_t)(colon - text.at);
        struct slice digits = { colon + 1, text.len - host.len - 1 };
        if (i64_parse(digits, &port) != OK) return endpoint_refuse(text, em);
    }
    if (port < 1 || port > 65535) return endpoint_refuse(text, em);
    if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']') {
        host = (struct slice){ host.at + 1, host.len - 2 };
    } else if (host.len == 0 || has_any(host, ":/[]")) {
        return endpoint_refuse(text, em);
    }
    if (c->endpoint_count == CONN_ENDPOINTS_MAX) {
        errmsg_set(em, "more than %d endpoints", CONN_ENDPOINTS_MAX);
        return ERR_SYNTAX;
    }
    c->endpoints[c->endpoint_count++] =
        (struct endpoint){ .text = text_copy(text), .host = text_copy(host), .port = (int)port };
    return OK;
}

enum err conn_init(struct conn *c, struct slice endpoints, struct errmsg *em)
{
    *c = (struct conn){ .timeout_ms = CLI_TIMEOUT_MS_DEFAULT };
    while (true) {
        const uint8_t *comma = endpoints.len == 0 ? NULL : memchr(endpoints.at, ',', endpoints.len);
        size_t len = comma == NULL ? endpoints.len : (size_t)(comma - endpoints.at);
        struct slice text = text_trim((struct slice){ endpoints.at, len });
        enum err err = text.len == 0 ? endpoint_refuse(text, em) : endpoint_add(c, text, em);
        if (err != OK) {
            conn_deinit(c);
            return err;
        }
        if (comma == NULL) return OK;
        endpoints = (struct slice){ comma + 1, endpoints.len - len - 1 };
    }
}

void conn_deinit(struct conn *c)
{
    conn_close(c);
    for (size_t i = 0; i < c->endpoint_count; i++) {
        mem_free(c->endpoints[i].text);
        mem_free(c->endpoints[i].host);
    }
    *c = (struct conn){ 0 };
}

const char *conn_endpoint(const struct conn *c)
{
    ASSERT(c->at < c->endpoint_count);
    return c->endpoints[c->at].text;
}

void conn_close(struct conn *c)
{
    if (c->redis != NULL) redisFree(c->redis);
    c->redis = NULL;
}

void conn_next(struct conn *c)
{
    conn_close(c);
    c->at = (c->at + 1) % c->endpoint_count;
}

void conn_adopt(struct conn *c, int fd_taken)
{
    conn_close(c);
    c->redis = redisConnectFd(fd_taken);
    ASSERT(c->redis != NULL);
}

static struct timeval timeval_of(int64_t ms)
{
    return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };
}

/* Another server would say the same of this user. What else is refused (LOADING, too many
 * clients) another one may allow. */
static bool is_final(const char *error)
{
    static const char *const words[] = { "NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strncmp(error, words[i], strlen(words[i])) == 0) return true;
    }
    return false;
}

/* A request of connecting that must be answered well. */
static enum err setup_call(struct conn *c, const struct words *request, struct errmsg *em)
{
    redisReply *reply = NULL;
    TRY(conn_call(c, request, 0, &reply, em));
    enum err err = OK;
    if (reply->type == REDIS_REPLY_ERROR) {
        errmsg_set(em, "%s: %s", conn_endpoint(c), reply->str);
        err = is_final(reply->str) ? ERR_NOPERM : ERR_IO;
    }
    freeReplyObject(reply);
    return err;
}

static enum err setup(struct conn *c, struct errmsg *em)
{
    if (c->password.at != NULL) {
        struct words request CLEANUP(words_deinit) = { 0 };
        words_add_text(&request, "AUTH");
        if (c->user.len > 0) words_add(&request, c->user);
        words_add(&request, c->password);
        TRY(setup_call(c, &request, em));
    }
    if (c->db != 0) {
        struct words request CLEANUP(words_deinit) = { 0 };
        words_add_text(&request, "SELECT");
        words_add_i64(&request, c->db);
        TRY(setup_call(c, &request, em));
    }
    return OK;
}

enum err conn_open_at(struct conn *c, size_t at, struct errmsg *em)
{
    ASSERT(at < c->endpoint_count);
    conn_close(c);
    c->at = at;
    const struct endpoint *e = &c->endpoints[at];
    int64_t connect_ms = MIN(c->timeout_ms, CLI_CONNECT_TIMEOUT_MS_MAX);
    c->redis = redisConnectWithTimeout(e->host, e->port, timeval_of(connect_ms));
    ASSERT(c->redis != NULL);
    if (c->redis->err != 0) {
        errmsg_set(em, "%s: %s", e->text, c->redis->errstr);
        conn_close(c);
        return ERR_IO;
    }
    enum err err = setup(c, em);
    if (err != OK) conn_close(c);
    return err == OK || err == ERR_NOPERM ? err : ERR_IO;
}

enum err conn_open(struct conn *c, struct errmsg *em)
{
    struct errmsg first = { "" };
    size_t start = c->at;
    for (size_t i = 0; i < c->endpoint_count; i++) {
        struct errmsg why = { "" };
        enum err err = conn_open_at(c, (start + i) % c->endpoint_count, &why);
        if (err == OK) return OK;
        if (err == ERR_NOPERM) {
            errmsg_set(em, "%s", why.text);
            return err;
        }
        if (i == 0) first = why;
    }
    c->at = start;
    if (c->endpoint_count == 1) {
        errmsg_set(em, "%s", first.text);
    } else {
        errmsg_set(em, "none of %zu servers; %s", c->endpoint_count, first.text);
    }
    return ERR_IO;
}

static enum err call_failed(struct conn *c, struct errmsg *em)
{
    bool is_late = c->redis->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (is_late) {
        errmsg_set(em, "%s: no answer in time", conn_endpoint(c));
    } else {
        errmsg_set(em, "%s: %s", conn_endpoint(c), c->redis->errstr);
    }
    conn_close(c);
    return is_late ? ERR_TIMEOUT : ERR_IO;
}

enum err conn_call(struct conn *c, const struct words *request, int64_t wait_ms, redisReply **out,
                   struct errmsg *em)
{
    ASSERT(c->redis != NULL);
    const char **argv = mem_alloc((request->count + 1) * sizeof *argv);
    size_t *argv_len = mem_alloc((request->count + 1) * sizeof *argv_len);
    for (size_t i = 0; i < request->count; i++) {
        argv[i] = (const char *)request->at[i].at;
        argv_len[i] = request->at[i].len;
    }
    void *reply = NULL;
    int rc = redisSetTimeout(c->redis, timeval_of(c->timeout_ms + wait_ms));
    if (rc == REDIS_OK) {
        rc = redisAppendCommandArgv(c->redis, (int)request->count, argv, argv_len);
    }
    mem_free(argv);
    mem_free(argv_len);
    int is_sent = 0;
    errno = 0;
    while (rc == REDIS_OK && !is_sent) rc = redisBufferWrite(c->redis, &is_sent);
    if (rc == REDIS_OK) rc = redisGetReply(c->redis, &reply);
    if (rc != REDIS_OK) return call_failed(c, em);
    ASSERT(reply != NULL);
    *out = reply;
    return OK;
}
