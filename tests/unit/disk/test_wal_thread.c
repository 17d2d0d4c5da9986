/* The back end with a thread, on real files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/wal_int.h"
#include "test_wal_kit.h"

#define BACKEND WAL_BACKEND_THREAD
#define NAME    "thread"

static struct kit_log replayed;

static void ignore_warning(void *ctx, const char *line)
{
    (void)ctx;
    assert_non_null(strstr(line, "make.tmp"));
}

static struct wal *open_log(const char *dir)
{
    memset(&replayed, 0, sizeof replayed);
    struct wal_options o = { .dir = dir,
                             .create = true,
                             .cluster_id = 1,
                             .member_id = 2,
                             .salt = 3,
                             .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                             .backend = BACKEND,
                             .on_entry = kit_collect,
                             .on_warning = ignore_warning,
                             .ctx = &replayed };
    struct errmsg em;
    struct wal *wal = NULL;
    if (wal_open(&o, &wal, &em) != OK) fail_msg("%s", em.text);
    return wal;
}

/* Submits while earlier ones are under way, polls now and then, sleeps now and then. */
static void test_many_overlapping_submissions(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct wal *wal = open_log(dir);
    uint64_t seen = 0;
    uint64_t seq = 0;
    for (uint64_t n = 1; n <= 3000; n++) {
        seq = kit_submit(wal, 1, n, n, 20 + n % 700);
        struct wal_done done;
        if (n % 3 == 0 && wal_poll(wal, &done)) {
            assert_true(done.seq > seen);
            assert_true(done.seq <= seq);
            assert_int_equal(done.last.index, done.seq);
            seen = done.seq;
        }
        if (n % 500 == 0) seen = kit_wait(wal, seq).seq;
        if (n % 100 == 0 && seen > 50) wal_drop_below(wal, seen - 50);
    }
    struct wal_stats stats;
    wal_stats_get(wal, &stats);
    assert_string_equal(stats.backend, NAME);
    assert_true(stats.sync_count < 3000); /* groups */
    wal_close(wal);
    wal = open_log(dir);
    assert_int_equal(replayed.last, 3000);
    wal_close(wal);
    kit_dir_remove(dir);
}

/* The descriptor is readable only for a reason, and not again after it was served. */
static void test_fd_wakes_a_sleeper_and_rests_otherwise(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct wal *wal = open_log(dir);
    struct pollfd p = { .fd = wal_fd(wal), .events = POLLIN };
    for (uint64_t n = 1; n <= 50; n++) {
        uint64_t seq = kit_submit(wal, 1, n, n, 100);
        struct wal_done done = { 0 };
        while (!wal_poll(wal, &done)) {
            if (wal_about_to_sleep(wal)) assert_int_equal(poll(&p, 1, 10000), 1);
            wal_woke(wal);
        }
        assert_int_equal(done.seq, seq);
        wal_woke(wal); /* a wake-up that came late is taken here */
        assert_int_equal(poll(&p, 1, 0), 0);
    }
    wal_close(wal);
    kit_dir_remove(dir);
}

/* In a child: the descriptor that is written through cannot be written. */
static void fail_in_child(const char *dir)
{
    struct wal *wal = open_log(dir);
    struct wal_done done;
    kit_wait(wal, kit_submit(wal, 1, 1, 1, 100));
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || quiet < 0 || dup2(quiet, STDERR_FILENO) < 0) _exit(1);
    if (dup2(fd, wal->writer.segment.fd) < 0) _exit(2);
    uint64_t seq = kit_submit(wal, 1, 2, 2, 100);
    for (int i = 0; i < 1000; i++) {
        struct pollfd p = { .fd = wal_fd(wal), .events = POLLIN };
        if (wal_poll(wal, &done) && done.seq == seq) _exit(3);
        if (wal_about_to_sleep(wal)) poll(&p, 1, 10);
        wal_woke(wal);
    }
    _exit(4);
}

static void test_failed_write_ends_the_process(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    pid_t child = fork();
    if (child == 0) fail_in_child(dir);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), WAL_EXIT_CODE);
    struct wal *wal = open_log(dir);
    assert_int_equal(replayed.last, 1);
    wal_close(wal);
    kit_dir_remove(dir);
}

/* Killed at any time: what was reported is there. */
static void test_killed_process_keeps_what_it_reported(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    uint64_t last = 0;
    for (int life = 0; life < 10; life++) {
        int pipe_fds[2];
        assert_int_equal(pipe(pipe_fds), 0);
        pid_t child = fork();
        if (child == 0) {
            struct wal *wal = open_log(dir);
            for (uint64_t n = wal_last_durable(wal).index + 1;; n++) {
                kit_wait(wal, kit_submit(wal, 1, n, n, 3000));
                if (write(pipe_fds[1], &n, sizeof n) != (ssize_t)sizeof n) _exit(1);
            }
        }
        uint64_t reported = last;
        for (int i = 0; i <= life * 5; i++) {
            assert_int_equal(read(pipe_fds[0], &reported, sizeof reported), sizeof reported);
        }
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        close(pipe_fds[1]);
        while (read(pipe_fds[0], &reported, sizeof reported) == (ssize_t)sizeof reported) {
        }
        close(pipe_fds[0]);
        struct wal *wal = open_log(dir);
        assert_true(replayed.last >= reported);
        last = replayed.last;
        wal_close(wal);
    }
    kit_dir_remove(dir);
}

/* The thread is asked to stop while submissions wait for a segment that cannot be made. */
static void test_close_does_not_hang_without_room(void **state)
{
    (void)state;
    char *dir = kit_dir_make();
    struct wal *wal = open_log(dir);
    kit_wait(wal, kit_submit(wal, 1, 1, 1, 100));
    wal_close(wal);
    wal = open_log(dir);
    char path[DISK_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/make.tmp", dir);
    /* a directory in its place makes every try fail */
    assert_int_equal(mkdir(path, 0700), 0);
    for (uint64_t n = 2; n < 40; n++) kit_submit(wal, 1, n, n, 9000);
    wal_close(wal);
    rmdir(path);
    wal = open_log(dir);
    assert_true(replayed.last >= 1);
    wal_close(wal);
    kit_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_overlapping_submissions),
        cmocka_unit_test(test_fd_wakes_a_sleeper_and_rests_otherwise),
        cmocka_unit_test(test_failed_write_ends_the_process),
        cmocka_unit_test(test_killed_process_keeps_what_it_reported),
        cmocka_unit_test(test_close_does_not_hang_without_room),
    };
    return cmocka_run_group_tests_name("disk/wal_thread", tests, NULL, NULL);
}
