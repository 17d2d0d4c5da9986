/* Batches, completions, opening again, closing, ends by failing writes. */
#include "store_kit.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct store_options options_of(const char *dir)
{
    return (struct store_options){ .dir = dir, .write_buffer_bytes = 256 << 10 };
}

static void test_a_new_store_is_empty(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    for (int round = 0; round < 3; round++) {
        struct store *s;
        struct store_info info = { .applied_index = 9 };
        struct errmsg em;
        assert_int_equal(store_open(&options, &s, &info, &em), OK);
        assert_true(info.empty);
        assert_int_equal(info.applied_index, 0);
        store_close(s);
    }
    kit_remove(dir);
}

static void test_batches_are_there_after_reopen(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    struct kit_model m;
    kit_model_init(&m, 1);
    for (int round = 0; round < 8; round++) {
        struct store *s;
        struct kit_loaded loaded;
        struct errmsg em;
        if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_int_equal(loaded.row_count, m.row_count);
        assert_int_equal(loaded.index, m.index);
        kit_check_loaded(&m, &loaded);
        uint64_t number = 0;
        for (int batch = 0; batch < 20; batch++) {
            for (int i = 0; i < 30; i++) kit_change(&m, 1 + (uint32_t)(i % 7 == 0) * 40);
            number = kit_submit(&m, s);
        }
        assert_int_equal(number, 20);
        if (round % 2 == 0) kit_wait_batch(s, number);
        store_close(s); /* writes what was submitted */
    }
    kit_model_deinit(&m);
    kit_remove(dir);
}

static enum err count_meta(void *ctx, struct slice name, struct slice value)
{
    struct buf *all = ctx;
    buf_append_slice(all, name);
    buf_append_u8(all, '=');
    buf_append_slice(all, value);
    buf_append_u8(all, ';');
    return OK;
}

static enum err no_pack(void *ctx, uint64_t rev, uint32_t n, struct slice pack)
{
    (void)ctx;
    (void)rev;
    (void)n;
    (void)pack;
    fail();
    return OK;
}

static void test_meta_is_put_and_deleted_in_order(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    struct store *s;
    struct store_info info;
    struct errmsg em;
    CLEANUP(buf_deinit) struct buf all = { 0 };
    assert_int_equal(store_open(&options, &s, &info, &em), OK);
    assert_int_equal(store_scan(s, count_meta, no_pack, &all, &em), OK);
    store_start(s);
    struct store_batch *b = store_batch_new();
    store_batch_put(b, SLICE_LIT("b"), SLICE_LIT("1"));
    store_batch_put(b, SLICE_LIT("a"), SLICE_LIT(""));
    store_batch_put(b, SLICE_LIT(""), SLICE_LIT("x"));
    store_batch_put(b, SLICE_LIT("c"), SLICE_LIT("3"));
    store_batch_delete(b, SLICE_LIT("c"));
    store_batch_delete(b, SLICE_LIT("d"));
    store_batch_put(b, SLICE_LIT("d"), SLICE_LIT("4"));
    store_submit(s, b, &(struct store_cut){ 10, 2, 0 });
    b = store_batch_new();
    store_batch_put(b, SLICE_LIT("b"), SLICE_LIT("2"));
    store_submit(s, b, &(struct store_cut){ 10, 3, 5 }); /* the same index again is fine */
    store_batch_free(store_batch_new());
    store_close(s);

    assert_int_equal(store_open(&options, &s, &info, &em), OK);
    assert_false(info.empty);
    assert_int_equal(info.applied_index, 10);
    assert_int_equal(info.applied_term, 3);
    assert_int_equal(info.compacted_rev, 5);
    assert_int_equal(store_scan(s, count_meta, no_pack, &all, &em), OK);
    assert_true(slice_eq(buf_slice(&all), SLICE_LIT("=x;a=;b=2;d=4;")));
    store_close(s);
    kit_remove(dir);
}

/* As long as a lifetime's record for the longest key. */
static void test_the_longest_meta_name(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    uint8_t *bytes = mem_alloc(STORE_META_NAME_BYTES_MAX);
    memset(bytes, 'T', STORE_META_NAME_BYTES_MAX);
    struct slice name = { bytes, STORE_META_NAME_BYTES_MAX };
    for (int round = 0; round < 3; round++) {
        struct store *s;
        struct store_info info;
        struct errmsg em;
        CLEANUP(buf_deinit) struct buf all = { 0 };
        assert_int_equal(store_open(&options, &s, &info, &em), OK);
        assert_int_equal(store_scan(s, count_meta, no_pack, &all, &em), OK);
        assert_int_equal(all.len, round == 1 ? name.len + 3 : 0); /* name=1; */
        if (round == 1) assert_memory_equal(all.at, bytes, name.len);
        store_start(s);
        struct store_batch *b = store_batch_new();
        if (round == 0) store_batch_put(b, name, SLICE_LIT("1"));
        if (round == 1) store_batch_delete(b, name);
        store_submit(s, b, &(struct store_cut){ 10 + (uint64_t)round, 1, 0 });
        store_close(s);
    }
    mem_free(bytes);
    kit_remove(dir);
}

static enum err refuse_meta(void *ctx, struct slice name, struct slice value)
{
    (void)ctx;
    (void)name;
    (void)value;
    return ERR_UNSUPPORTED;
}

static void test_a_callback_ends_the_scan(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    struct store *s;
    struct kit_loaded loaded;
    struct kit_model m;
    struct errmsg em;
    struct store_info info;
    kit_model_init(&m, 3);
    assert_int_equal(kit_open(&options, &s, &loaded, &em), OK);
    kit_change(&m, 3);
    kit_submit(&m, s);
    store_close(s);
    assert_int_equal(store_open(&options, &s, &info, &em), OK);
    assert_int_equal(store_scan(s, refuse_meta, no_pack, NULL, &em), ERR_UNSUPPORTED);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_sleep_protocol_tells_of_every_batch(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    struct store *s;
    struct kit_loaded loaded;
    struct kit_model m;
    struct errmsg em;
    kit_model_init(&m, 4);
    assert_int_equal(kit_open(&options, &s, &loaded, &em), OK);
    for (uint64_t i = 1; i <= 200; i++) {
        kit_change(&m, 1);
        assert_int_equal(kit_submit(&m, s), i);
        struct store_done done;
        store_poll(s, &done);
        while (done.batch_count < i) kit_poll(s, &done); /* hangs if a wake-up is missed */
        assert_int_equal(done.applied_index, m.index);
    }
    assert_int_equal(store_backlog_bytes(s), 0);
    store_close(s);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* Holds the store until it reads a byte. */
static int child_hold(const char *dir, const char *fds)
{
    struct store_options options = options_of(dir);
    struct store *s;
    struct store_info info;
    int ready_fd = 0;
    int stop_fd = 0;
    char byte = 0;
    if (sscanf(fds, "%d,%d", &ready_fd, &stop_fd) != 2) return 1;
    if (store_open(&options, &s, &info, NULL) != OK) return 1;
    if (write(ready_fd, "x", 1) != 1 || read(stop_fd, &byte, 1) != 1) return 2;
    store_close(s);
    return 0;
}

static void test_a_second_process_is_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = options_of(dir);
    struct store *s;
    struct store_info info;
    struct errmsg em;
    int ready[2];
    int stop[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(stop), 0);
    char fds[32];
    snprintf(fds, sizeof fds, "%d,%d", ready[1], stop[0]);
    pid_t child = kit_spawn("hold", dir, fds);
    char byte;
    int status;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(store_open(&options, &s, &info, &em), ERR_LOCKED);
    assert_int_equal(write(stop[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(store_open(&options, &s, &info, &em), OK);
    store_close(s);
    close(ready[0]);
    close(ready[1]);
    close(stop[0]);
    close(stop[1]);
    kit_remove(dir);
}

/* --- failing writes ------------------------------------------------------------------ */

static void fatal_to_pipe(void *ctx, const char *text)
{
    if (write(*(int *)ctx, text, strlen(text)) < 0) _exit(3);
}

/* Writes batches until the file size limit stops it; tells each durable batch through the pipe. */
static int child_until_full(const char *dir, const char *args)
{
    unsigned limit_bytes = 0;
    int in_files = 0;
    int durable_fd = 0;
    int text_fd = 0;
    int got = sscanf(args, "%u,%d,%d,%d", &limit_bytes, &in_files, &durable_fd, &text_fd);
    if (got != 4) return 8;
    struct store_options options = options_of(dir);
    options.file_batch_bytes = in_files ? KIT_FILES : KIT_ROWS;
    options.on_fatal = fatal_to_pipe;
    options.on_fatal_ctx = &text_fd;
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    struct store_done done = { 0 };
    struct rlimit limit = { limit_bytes, limit_bytes };
    signal(SIGXFSZ, SIG_IGN);
    kit_model_init(&m, 5);
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 4;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 5;
    for (uint64_t number = 1; number < 100000; number++) {
        for (int i = 0; i < 20; i++) kit_change(&m, 1);
        kit_submit(&m, s);
        while (done.batch_count < number) kit_poll(s, &done);
        if (write(durable_fd, &m.index, sizeof m.index) != sizeof m.index) return 6;
    }
    return 7;
}

static void check_failed_writes(size_t step_bytes, bool in_files)
{
    for (size_t limit_bytes = 65536; limit_bytes < 320 << 10; limit_bytes += step_bytes) {
        char *dir = kit_dir();
        int durable[2];
        int text[2];
        assert_int_equal(pipe(durable), 0);
        assert_int_equal(pipe(text), 0);
        char args[64];
        snprintf(args, sizeof args, "%zu,%d,%d,%d", limit_bytes, in_files, durable[1], text[1]);
        pid_t child = kit_spawn("until-full", dir, args);
        close(durable[1]);
        close(text[1]);
        uint64_t index = 0;
        for (uint64_t next; read(durable[0], &next, sizeof next) == sizeof next;) index = next;
        char line[512] = "";
        assert_true(read(text[0], line, sizeof line - 1) > 0);
        assert_non_null(strstr(line, "File too large"));
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), STORE_EXIT_CODE);

        struct store_options options = options_of(dir);
        struct store *s;
        struct kit_loaded loaded;
        struct kit_model m;
        struct errmsg em;
        if (kit_open(&options, &s, &loaded, &em) != OK) fail_msg("%s", em.text);
        assert_true(loaded.index == index || loaded.index == index + 20);
        kit_model_init(&m, 5);
        while (m.index < loaded.index) kit_change(&m, 1);
        assert_int_equal(loaded.row_count, m.row_count);
        kit_check_loaded(&m, &loaded);
        store_close(s);
        kit_model_deinit(&m);
        close(durable[0]);
        close(text[0]);
        kit_remove(dir);
    }
}

/* Whatever write fails, of the log or of a table or of the manifest, or of a file of packs: the
 * process ends with the documented code and a line, and what was durable is there. */
static void test_a_failed_write_ends_the_process_and_loses_nothing(void **state)
{
    (void)state;
    check_failed_writes(14029 * 19 / KIT_ROUNDS(19), false);
    check_failed_writes(14029 * 19 / KIT_ROUNDS(6), true);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "hold") == 0) return child_hold(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "until-full") == 0) return child_until_full(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_store_is_empty),
        cmocka_unit_test(test_batches_are_there_after_reopen),
        cmocka_unit_test(test_meta_is_put_and_deleted_in_order),
        cmocka_unit_test(test_the_longest_meta_name),
        cmocka_unit_test(test_a_callback_ends_the_scan),
        cmocka_unit_test(test_sleep_protocol_tells_of_every_batch),
        cmocka_unit_test(test_a_second_process_is_refused),
        cmocka_unit_test(test_a_failed_write_ends_the_process_and_loses_nothing),
    };
    return cmocka_run_group_tests_name("disk/store", tests, NULL, NULL);
}
