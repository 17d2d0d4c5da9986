/* tests/unit/cli/cli_fake.h - a server made of canned answers, for the tests of cli/.
 *
 * An answer is written in short: `[` ... `]` an array, `:5` an integer, `nil`, `+OK` a status,
 * `-ERR text_with_underscores` an error (underscores become spaces), else a bulk string
 * (`''` is the empty one). */
#ifndef CLI_FAKE_H
#define CLI_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "cli/run.h"

#define FAKE_SECONDS_MAX 30 /* a test that hangs is killed */
#define FAKE_WORDS_MAX   64

static inline void fake_skip(const char **text)
{
    while (**text == ' ' || **text == '\n') (*text)++;
}

/* One value of the short form as RESP2. */
static inline void fake_value(const char **text, struct buf *out)
{
    fake_skip(text);
    if (**text == '[') {
        struct buf inner = { 0 };
        size_t count = 0;
        for ((*text)++, fake_skip(text); **text != ']'; fake_skip(text), count++) {
            assert_true(**text != '\0');
            fake_value(text, &inner);
        }
        (*text)++;
        buf_printf(out, "*%zu\r\n", count);
        buf_append_slice(out, buf_slice(&inner));
        buf_deinit(&inner);
        return;
    }
    size_t len = strcspn(*text, " \n");
    const char *word = *text;
    *text += len;
    if (len == 3 && memcmp(word, "nil", 3) == 0) {
        buf_printf(out, "$-1\r\n");
    } else if (word[0] == ':' || word[0] == '+' || word[0] == '-') {
        for (size_t i = 0; i < len; i++) {
            bool is_space = word[0] == '-' && word[i] == '_';
            buf_append_u8(out, is_space ? ' ' : (uint8_t)word[i]);
        }
        buf_printf(out, "\r\n");
    } else if (len == 2 && memcmp(word, "''", 2) == 0) {
        buf_printf(out, "$0\r\n\r\n");
    } else {
        buf_printf(out, "$%zu\r\n%.*s\r\n", len, (int)len, word);
    }
}

static inline void fake_values(const char *text, struct buf *out)
{
    for (fake_skip(&text); *text != '\0'; fake_skip(&text)) fake_value(&text, out);
}

/* The reply hiredis makes of it; freeReplyObject. */
static inline redisReply *fake_reply(const char *text)
{
    struct buf bytes = { 0 };
    void *reply = NULL;
    redisReader *reader = redisReaderCreate();
    fake_values(text, &bytes);
    assert_int_equal(redisReaderFeed(reader, (const char *)bytes.at, bytes.len), REDIS_OK);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_non_null(reply);
    redisReaderFree(reader);
    buf_deinit(&bytes);
    return reply;
}

/* Words apart by a space; `''` is the empty one. Valid while text is. */
static inline struct args fake_args(const char *text)
{
    static struct slice words[FAKE_WORDS_MAX];
    struct args a;
    struct errmsg em = { "" };
    size_t count = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        bool is_empty = len == 2 && memcmp(text, "''", 2) == 0;
        assert_true(count < FAKE_WORDS_MAX);
        words[count++] = (struct slice){ (const uint8_t *)text, is_empty ? 0 : len };
        text += len + (text[len] == ' ');
    }
    if (args_parse(words, count, &a, &em) != OK) fail_msg("%s", em.text);
    return a;
}

/* What a command did: its exit code, both outputs, and the requests it sent as words with a
 * space between and a line each. */
struct fake_run {
    enum exit_code code;
    char *out;
    char *err;
    struct buf sent;
};

static inline void fake_run_deinit(struct fake_run *r)
{
    free(r->out);
    free(r->err);
    buf_deinit(&r->sent);
}

static inline void fake_sent_read(int fd, struct buf *out)
{
    char bytes[65536];
    redisReader *reader = redisReaderCreate();
    ssize_t len;
    while ((len = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        assert_int_equal(redisReaderFeed(reader, bytes, (size_t)len), REDIS_OK);
    }
    while (true) {
        void *got = NULL;
        assert_int_equal(redisReaderGetReply(reader, &got), REDIS_OK);
        if (got == NULL) break;
        redisReply *request = got;
        for (size_t i = 0; i < request->elements; i++) {
            if (i > 0) buf_append_u8(out, ' ');
            if (request->element[i]->len == 0) buf_append(out, "''", 2);
            buf_append(out, request->element[i]->str, request->element[i]->len);
        }
        buf_append_u8(out, '\n');
        freeReplyObject(request);
    }
    buf_append_u8(out, '\0');
    redisReaderFree(reader);
}

/* Runs a command line against canned answers; input is its stdin. */
static inline struct fake_run fake_run(const char *command_line, const char *input,
                                       const char *answers)
{
    struct fake_run r = { 0 };
    struct session s;
    struct errmsg em = { "" };
    struct buf bytes = { 0 };
    size_t out_len = 0;
    size_t err_len = 0;
    int fds[2];
    alarm(FAKE_SECONDS_MAX);
    unsetenv("CORDIS_ENDPOINTS");
    unsetenv("CORDIS_USER");
    unsetenv("CORDIS_PASSWORD");
    struct args a = fake_args(command_line);
    if (session_init(&s, &a, &em) != OK) fail_msg("%s", em.text);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fake_values(answers, &bytes);
    if (bytes.len > 0) {
        assert_int_equal(send(fds[1], bytes.at, bytes.len, MSG_NOSIGNAL), (ssize_t)bytes.len);
    }
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    conn_adopt(&s.conn, fds[0]);
    s.in = tmpfile();
    assert_non_null(s.in);
    fputs(input, s.in);
    rewind(s.in);
    s.in_is_tty = false;
    s.out = open_memstream(&r.out, &out_len);
    s.err = open_memstream(&r.err, &err_len);
    r.code = run_command(&s, &a);
    fclose(s.in);
    fclose(s.out);
    fclose(s.err);
    fake_sent_read(fds[1], &r.sent);
    close(fds[1]);
    session_deinit(&s);
    buf_deinit(&bytes);
    alarm(0);
    return r;
}

/* A whole command in one row: what it sends, prints and returns. err is a part of stderr. */
struct fake_case {
    const char *command_line;
    const char *input;
    const char *answers;
    const char *sent;
    enum exit_code code;
    const char *out;
    const char *err;
};

static inline void fake_cases_run(const struct fake_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct fake_case *c = &cases[i];
        struct fake_run r = fake_run(c->command_line, c->input, c->answers);
        bool has_err = c->err[0] == '\0' ? r.err[0] == '\0' : strstr(r.err, c->err) != NULL;
        bool is_right = r.code == c->code && strcmp(r.out, c->out) == 0 && has_err &&
                        strcmp((const char *)r.sent.at, c->sent) == 0;
        if (!is_right) {
            fail_msg("%s: exit %d\nsent:\n%s\nout:\n%s\nerr:\n%s", c->command_line, (int)r.code,
                     (const char *)r.sent.at, r.out, r.err);
        }
        fake_run_deinit(&r);
    }
}

#endif
