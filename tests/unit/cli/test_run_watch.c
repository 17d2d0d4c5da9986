#include "cli_fake.h"

#define PUT(key, value, rev)                                                                       \
    "[ op put key " key " value " value " rev :" #rev " create :1 version :1 lease :0 ]"
#define READ(from) "KV READ k FROM " #from " COUNT 1000 BLOCK 5000\n"

static void test_starts_behind_the_present_and_goes_on(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "watch k", "",
          ":41 [ events [ ] next :42 ] [ events [ " PUT("k", "v", 45) " ] next :46 ] -ERR_end",
          "KV REVISION\n" READ(42) READ(42) READ(46), EXIT_NO, "PUT\nk\nv\n", "end" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_compacted_says_where_history_begins(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "watch k --rev 90", "",
          ":200 -COMPACTED_required_revision_90_has_been_compacted,_oldest_is_100",
          "KV REVISION\n" READ(90), EXIT_NO, "",
          "revision 90 has been compacted: the history begins at revision 100." },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

/* An answer that would repeat or stand still must not be printed for ever. */
static void test_answers_that_do_not_go_on_are_refused(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "watch k --rev 5", "", ":9 [ events [ ] next :4 ]", "KV REVISION\n" READ(5), EXIT_NO, "",
          "is not understood" },
        { "watch k --rev 5", "", ":9 [ events [ " PUT("k", "v", 5) " ] next :5 ]",
          "KV REVISION\n" READ(5), EXIT_NO, "", "is not understood" },
        { "watch k --rev 0", "", "", "", EXIT_USAGE, "", "--rev needs a number from 1 on" },
        { "watch k l --prefix", "", "", "", EXIT_USAGE, "", "choose one" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

/* The words of a command hold no spaces here, so scripts are files. */
static char *script_make(const char *body)
{
    static char path[] = "/tmp/cordis-cli-XXXXXX";
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, body, strlen(body)), (ssize_t)strlen(body));
    close(fd);
    return path;
}

static struct fake_run watch_with(const char *script, const char *answers)
{
    struct buf line = { 0 };
    buf_printf(&line, "watch k --rev 5 -- /bin/sh %s", script);
    buf_append_u8(&line, '\0');
    struct fake_run r = fake_run((const char *)line.at, "", answers);
    buf_deinit(&line);
    return r;
}

static void test_command_sees_the_event(void **state)
{
    (void)state;
    char log[] = "/tmp/cordis-cli-XXXXXX";
    int fd = mkstemp(log);
    assert_true(fd >= 0);
    setenv("CORDIS_TEST_LOG", log, 1);
    char *script =
        script_make("echo \"$CORDIS_WATCH_REVISION $CORDIS_WATCH_EVENT_TYPE $CORDIS_WATCH_KEY "
                    "<$CORDIS_WATCH_VALUE> $(cat)\" >> $CORDIS_TEST_LOG\nexit 3\n");
    struct fake_run r = watch_with(
        script, ":9 [ events [ " PUT("k", "v", 5) " [ op del key k value nil rev :6 create :0 "
                                                  "version :0 lease :0 ] ] next :7 ] -ERR_end");
    assert_int_equal(r.code, EXIT_NO);
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "the command exited with 3 (revision 5)"));
    assert_non_null(strstr(r.err, "the command exited with 3 (revision 6)"));
    char text[256] = "";
    ssize_t len = read(fd, text, sizeof text - 1);
    assert_true(len > 0);
    assert_string_equal(text, "5 PUT k <v> \n6 DELETE k <> \n");
    fake_run_deinit(&r);
    unlink(script);
    unlink(log);
    close(fd);
}

static void test_command_that_cannot_run_stops_the_watch(void **state)
{
    (void)state;
    char *script = script_make("exit 127\n");
    struct fake_run r =
        watch_with(script, ":9 [ events [ " PUT("k", "v", 5) " " PUT("k", "w", 6) " ] next :7 ]");
    assert_int_equal(r.code, EXIT_NO);
    assert_non_null(strstr(r.err, "stopped at revision 5, go on with --rev 5"));
    fake_run_deinit(&r);
    unlink(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_behind_the_present_and_goes_on),
        cmocka_unit_test(test_compacted_says_where_history_begins),
        cmocka_unit_test(test_answers_that_do_not_go_on_are_refused),
        cmocka_unit_test(test_command_sees_the_event),
        cmocka_unit_test(test_command_that_cannot_run_stops_the_watch),
    };
    return cmocka_run_group_tests_name("cli/run_watch", tests, NULL, NULL);
}
