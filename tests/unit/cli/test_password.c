#include "cli_fake.h"

#include <fcntl.h>
#include <signal.h>
#include <termios.h>

#include "cli/password.h"

/* Both ends of a terminal; what is written to `keys` is typed at `tty`. */
struct terminal {
    int keys;
    int tty;
    struct termios before;
};

static void terminal_init(struct terminal *t)
{
    alarm(FAKE_SECONDS_MAX);
    t->keys = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(t->keys >= 0);
    assert_int_equal(grantpt(t->keys), 0);
    assert_int_equal(unlockpt(t->keys), 0);
    t->tty = open(ptsname(t->keys), O_RDWR | O_NOCTTY);
    assert_true(t->tty >= 0);
    assert_int_equal(tcgetattr(t->tty, &t->before), 0);
    assert_true((t->before.c_lflag & ECHO) != 0);
}

/* It is as it was. */
static void terminal_deinit(struct terminal *t)
{
    struct termios after;
    assert_int_equal(tcgetattr(t->tty, &after), 0);
    assert_int_equal(after.c_lflag, t->before.c_lflag);
    assert_memory_equal(after.c_cc, t->before.c_cc, sizeof after.c_cc);
    close(t->tty);
    close(t->keys);
    alarm(0);
}

/* Types once the prompt is there: a stream whose writing is the keyboard's cue. */
struct typist {
    struct terminal *terminal;
    const char *keys; /* NULL: interrupts instead */
    bool has_typed;
    bool is_shown;
};

static ssize_t typist_write(void *at, const char *text, size_t len)
{
    struct typist *t = at;
    struct termios now;
    (void)text;
    if (t->has_typed) return (ssize_t)len;
    t->has_typed = true;
    tcgetattr(t->terminal->tty, &now);
    t->is_shown = (now.c_lflag & ECHO) != 0;
    if (t->keys == NULL) raise(SIGINT);
    if (t->keys != NULL && write(t->terminal->keys, t->keys, strlen(t->keys)) < 0) return 0;
    return (ssize_t)len;
}

static bool ask(struct terminal *terminal, const char *keys, struct buf *out)
{
    struct typist typist = { .terminal = terminal, .keys = keys };
    FILE *shown = fopencookie(&typist, "w", (cookie_io_functions_t){ .write = typist_write });
    bool is_typed = password_ask(terminal->tty, shown, "Password: ", out);
    fclose(shown);
    assert_false(typist.is_shown);
    return is_typed;
}

static void test_a_line_is_read_and_not_shown(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        const char *password;
    } cases[] = { { "secret word\n", "secret word" }, { "\n", "" }, { "half\x04", "half" },
                  { "\x1a\n", "\x1a" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct terminal terminal;
        struct buf got = { 0 };
        terminal_init(&terminal);
        assert_true(ask(&terminal, cases[i].keys, &got));
        assert_true(slice_eq(buf_slice(&got), slice_of(cases[i].password)));
        terminal_deinit(&terminal);
        buf_deinit(&got);
    }
}

static void test_no_line(void **state)
{
    (void)state;
    struct terminal terminal;
    struct buf got = { 0 };
    int fds[2];
    terminal_init(&terminal);
    assert_false(ask(&terminal, "\x04", &got));
    terminal_deinit(&terminal);
    assert_int_equal(pipe(fds), 0);
    assert_false(password_ask(fds[0], stderr, "unseen", &got));
    close(fds[0]);
    close(fds[1]);
    buf_deinit(&got);
}

static volatile sig_atomic_t interrupt_count;

static void interrupted(int signal_number)
{
    (void)signal_number;
    interrupt_count++;
}

static void test_an_interrupt_ends_it_and_takes_effect(void **state)
{
    (void)state;
    struct terminal terminal;
    struct buf got = { 0 };
    struct sigaction counts = { .sa_handler = interrupted };
    struct sigaction before;
    sigaction(SIGINT, &counts, &before);
    terminal_init(&terminal);
    assert_false(ask(&terminal, NULL, &got));
    assert_int_equal(interrupt_count, 1);
    terminal_deinit(&terminal);
    sigaction(SIGINT, &before, NULL);
    buf_deinit(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_is_read_and_not_shown),
        cmocka_unit_test(test_no_line),
        cmocka_unit_test(test_an_interrupt_ends_it_and_takes_effect),
    };
    return cmocka_run_group_tests_name("cli/password", tests, NULL, NULL);
}
