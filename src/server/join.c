/* server/join.c - see join.h. */
#include "server/join.h"

#include "base/log.h"

#include <stdio.h>

#define ID_MAX ((1ULL << 53) - 1)
#define FULL "ERR max number of clients reached" /* link.c says it */

struct join {
    struct dial dial;
    struct dial_options dial_options;
    char at[JOIN_ADDRESSES_MAX][DIAL_ADDRESS_BYTES_MAX + 1];
    size_t count;
    size_t current;
    struct buf request;
    bool auth_sent; /* its reply comes first */
    enum err result; /* ERR_AGAIN until it is known */
    struct join_answer answer;
    struct errmsg em;
    char last[ERRMSG_BYTES_MAX]; /* why the last attempt failed */
    int64_t log_ms;
};

/* --- the reply ------------------------------------------------------------------------------------ */

/* A line without its end; the rest behind it. */
static enum err line_take(struct slice *rest, struct slice *line)
{
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->at, '\n', rest->len);
    if (end == NULL) return rest->len > JOIN_REPLY_BYTES_MAX ? ERR_PROTO : ERR_AGAIN;
    size_t len = (size_t)(end - rest->at);
    if (len < 2 || rest->at[len - 1] != '\r') return ERR_PROTO;
    *line = (struct slice){ rest->at, len - 1 };
    *rest = (struct slice){ end + 1, rest->len - len - 1 };
    return OK;
}

static struct slice behind_type(struct slice line) { return (struct slice){ line.at + 1, line.len - 1 }; }

static enum err bulk_take(struct slice *rest, struct slice line, struct slice *out)
{
    uint64_t len = 0;
    if (line.at[0] != '$' || u64_parse(behind_type(line), &len) != OK || len > JOIN_REPLY_BYTES_MAX) {
        return ERR_PROTO;
    }
    if (rest->len < len + 2) return ERR_AGAIN;
    if (rest->at[len] != '\r' || rest->at[len + 1] != '\n') return ERR_PROTO;
    *out = (struct slice){ rest->at, len };
    *rest = (struct slice){ rest->at + len + 2, rest->len - len - 2 };
    return OK;
}

static enum err id_take(struct slice *rest, uint64_t *out)
{
    struct slice line;
    TRY(line_take(rest, &line));
    struct slice digits = behind_type(line);
    if (line.at[0] != ':') TRY(bulk_take(rest, line, &digits));
    uint64_t id = 0;
    if (u64_parse(digits, &id) != OK || id == 0 || id > ID_MAX) return ERR_PROTO;
    *out = id;
    return OK;
}

static enum err joined_take(struct slice *rest, struct join_answer *out)
{
    struct slice line;
    struct slice members;
    TRY(id_take(rest, &out->cluster_id));
    TRY(id_take(rest, &out->member_id));
    TRY(line_take(rest, &line));
    TRY(bulk_take(rest, line, &members));
    if (raft_members_decode(members, &out->members) != OK || out->members.count == 0) return ERR_PROTO;
    return OK;
}

enum err join_reply_decode(struct slice in, struct join_reply *out)
{
    struct slice rest = in;
    struct slice line;
    TRY(line_take(&rest, &line));
    struct join_reply r = { .kind = JOIN_REPLY_OTHER };
    switch (line.at[0]) {
    case '+': break;
    case '-':
        r.kind = JOIN_REPLY_ERROR;
        r.text = behind_type(line);
        break;
    case '*':
        if (!slice_eq(line, SLICE_LIT("*3"))) return ERR_PROTO;
        r.kind = JOIN_REPLY_JOINED;
        TRY(joined_take(&rest, &r.answer));
        break;
    default: return ERR_PROTO;
    }
    r.used_bytes = in.len - rest.len;
    *out = r;
    return OK;
}

/* --- the request -------------------------------------------------------------------------------------- */

static void word_put(struct buf *b, const char *word)
{
    buf_printf(b, "$%zu\r\n%s\r\n", strlen(word), word);
}

static void request_make(struct join *j, const struct join_options *o)
{
    struct buf *b = &j->request;
    j->auth_sent = o->password[0] != '\0';
    if (j->auth_sent) {
        buf_printf(b, "*2\r\n");
        word_put(b, "AUTH");
        word_put(b, o->password);
    }
    char member[24], directory[24];
    snprintf(member, sizeof member, "%llu", (unsigned long long)o->member_id);
    snprintf(directory, sizeof directory, "%llu", (unsigned long long)o->directory_id);
    const char *const words[] = { "MEMBER", "JOIN", member, directory, o->peer_address, o->client_address,
                                  o->name };
    buf_printf(b, "*%zu\r\n", ARRAY_LEN(words));
    for (size_t i = 0; i < ARRAY_LEN(words); i++) word_put(b, words[i]);
}

/* --- asking ---------------------------------------------------------------------------------------------- */

static void next_address(struct join *j)
{
    j->current = (j->current + 1) % j->count;
    dial_address(&j->dial, j->at[j->current]);
}

static void join_opened(void *user, struct conn *conn)
{
    struct join *j = user;
    conn_input_limit(conn, JOIN_REPLY_BYTES_MAX);
    chain_append_slice(conn_out(conn), buf_slice(&j->request));
    conn_dirty(conn);
}

static void join_closed(void *user, const char *why)
{
    struct join *j = user;
    snprintf(j->last, sizeof j->last, "%s", why);
    next_address(j);
}

static void try_again(struct join *j, struct conn *conn, const char *why)
{
    snprintf(j->last, sizeof j->last, "%s: %s", j->at[j->current], why);
    next_address(j);
    dial_again(&j->dial, false, loop_now_ms(conn_loop(conn)));
}

static void finish(struct join *j, enum err result)
{
    j->result = result;
    dial_stop(&j->dial);
}

static bool starts_with_any(struct slice error, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_starts(error, slice_of(words[i]))) return true;
    }
    return false;
}

/* Errors that pass by themselves, on this node or another. */
static bool passes(struct slice error)
{
    static const char *const words[] = { "TRYAGAIN ", "CLUSTERDOWN ", "TIMEOUT ", "LOADING ", "MASTERDOWN ", FULL };
    return starts_with_any(error, words, ARRAY_LEN(words));
}

/* Said to a connection before it is read: no other reply comes. */
static bool is_said_at_the_door(const struct join_reply *r)
{
    static const char *const words[] = { "DENIED ", FULL };
    return r->kind == JOIN_REPLY_ERROR && starts_with_any(r->text, words, ARRAY_LEN(words));
}

static void answered(struct join *j, struct conn *conn, const struct join_reply *r)
{
    char text[300];
    size_t len = 0;
    for (; len < MIN(r->text.len, sizeof text - 1); len++) {
        uint8_t c = r->text.at[len];
        text[len] = c >= ' ' && c < 127 ? (char)c : '?';
    }
    text[len] = '\0';
    if (r->kind == JOIN_REPLY_JOINED) {
        j->answer = r->answer;
        finish(j, OK);
    } else if (r->kind == JOIN_REPLY_ERROR && passes(r->text)) {
        try_again(j, conn, text);
    } else {
        errmsg_set(&j->em, "joining at %s: %s", j->at[j->current],
                   r->kind == JOIN_REPLY_ERROR ? text : "it answers with what is no reply to MEMBER JOIN");
        finish(j, ERR_MEMBER);
    }
}

/* A group without a password answers AUTH with an error: then the next reply counts all the same. */
static size_t join_bytes(void *user, struct conn *conn, struct slice in)
{
    struct join *j = user;
    struct join_reply r = { .used_bytes = 0 };
    size_t used = 0;
    enum err e = join_reply_decode(in, &r);
    if (e == OK && j->auth_sent && !is_said_at_the_door(&r)) {
        used = r.used_bytes;
        e = join_reply_decode((struct slice){ in.at + used, in.len - used }, &r);
    }
    if (e == ERR_AGAIN) {
        conn_want(conn, in.len + 1);
        return 0;
    }
    if (e == OK) {
        answered(j, conn, &r);
    } else {
        try_again(j, conn, "it does not speak the Redis protocol");
    }
    return in.len;
}

static const struct dial_hooks join_hooks = {
    .opened = join_opened, .bytes = join_bytes, .closed = join_closed,
};

/* --- life ---------------------------------------------------------------------------------------------------- */

static enum err addresses_take(struct join *j, const char *text, struct errmsg *em)
{
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        if (j->count == JOIN_ADDRESSES_MAX || len > DIAL_ADDRESS_BYTES_MAX) {
            errmsg_set(em, "'join': too many addresses, or one is too long");
            return ERR_CONFIG;
        }
        char *address = j->at[j->count++];
        memcpy(address, at, len);
        address[len] = '\0';
        char host[DIAL_ADDRESS_BYTES_MAX + 1];
        uint16_t port;
        struct errmsg why;
        if (net_split(address, host, sizeof host, &port, &why) != OK) {
            errmsg_set(em, "'join': %.400s", why.text);
            return ERR_CONFIG;
        }
        at += len;
        if (*at == '\0') return OK;
    }
}

enum err join_new(const struct dial_options *dial, const struct join_options *options, int64_t now_ms,
                  struct join **out, struct errmsg *em)
{
    struct join *j = mem_zalloc(sizeof *j);
    enum err e = addresses_take(j, options->addresses, em);
    if (e != OK) {
        mem_free(j);
        return e;
    }
    j->dial_options = *dial;
    j->dial_options.tls = NULL; /* it goes to the ports for clients */
    j->result = ERR_AGAIN;
    j->log_ms = now_ms + JOIN_LOG_MS / 5;
    request_make(j, options);
    dial_init(&j->dial, &j->dial_options, &join_hooks, j, j->at[0], options->directory_id);
    dial_start(&j->dial, now_ms);
    *out = j;
    return OK;
}

void join_free(struct join *j)
{
    if (j == NULL) return;
    dial_stop(&j->dial);
    buf_deinit(&j->request);
    mem_free(j);
}

enum err join_turn(struct join *j, int64_t now_ms, struct join_answer *out, struct errmsg *em)
{
    if (j->result == ERR_AGAIN) dial_turn(&j->dial, now_ms);
    if (j->result == ERR_AGAIN && now_ms >= j->log_ms) {
        j->log_ms = now_ms + JOIN_LOG_MS;
        log_notice("join waiting_for=%s reason=\"%s\"", j->at[j->current],
                   j->last[0] == '\0' ? "no answer yet" : j->last);
    }
    if (j->result == OK) {
        *out = j->answer;
    } else if (j->result != ERR_AGAIN) {
        errmsg_set(em, "%s", j->em.text);
    }
    return j->result;
}

int64_t join_next_ms(const struct join *j)
{
    if (j->result != ERR_AGAIN) return 0;
    return MIN(dial_next_ms(&j->dial), j->log_ms);
}

const char *join_address(const struct join *j) { return j->at[j->current]; }
