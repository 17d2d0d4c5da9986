/* History reads against the model: LevelDB alone, and joined with packs in memory that are not
 * durable, partly durable, or durable for long. */
#include "store_kit.h"

#include <signal.h>
#include <sys/wait.h>

/* Packs of the newest rows, kept in memory. */
struct memory {
    struct buf packs; /* of struct store_pack_ref; the bytes are in blobs */
    struct buf blobs; /* of struct blob * */
    uint64_t seed;    /* of the limits that make_read draws */
};

static void keep_pack(void *ctx, uint64_t rev, uint32_t n, struct blob *taken)
{
    struct memory *memory = ctx;
    struct store_pack_ref ref = { rev, n, blob_slice(taken) };
    buf_append(&memory->packs, &ref, sizeof ref);
    buf_append(&memory->blobs, &taken, sizeof taken);
}

static void memory_deinit(struct memory *memory)
{
    for (size_t at = 0; at < memory->blobs.len; at += sizeof(struct blob *)) {
        struct blob *blob;
        memcpy(&blob, memory->blobs.at + at, sizeof blob);
        blob_unref(blob);
    }
    buf_deinit(&memory->blobs);
    buf_deinit(&memory->packs);
}

static struct store_read *with_packs(struct memory *memory, enum store_read_kind kind)
{
    struct store_read *r = store_read_new(kind, 77);
    for (size_t at = 0; at < memory->packs.len; at += sizeof(struct store_pack_ref)) {
        struct store_pack_ref ref;
        memcpy(&ref, memory->packs.at + at, sizeof ref);
        store_read_pack(r, ref.first_rev, ref.first_n, ref.pack);
    }
    return r;
}

static struct store_read *make_events(void *ctx)
{
    struct memory *memory = ctx;
    struct store_read *r = with_packs(memory, STORE_READ_EVENTS);
    r->with_prev = kit_random(&memory->seed, 2) == 0;
    r->no_put = kit_random(&memory->seed, 4) == 0;
    r->no_del = kit_random(&memory->seed, 4) == 0;
    switch (kit_random(&memory->seed, 4)) {
    case 0: r->events_max = 1 + kit_random(&memory->seed, 100); break;
    case 1: r->bytes_max = 1 + kit_random(&memory->seed, 30000); break;
    case 2: r->scan_bytes_max = 1 + kit_random(&memory->seed, 50000); break;
    default: break;
    }
    return r;
}

static void check_reads(const struct kit_model *m, struct store *s, struct memory *memory)
{
    uint64_t low = m->compacted;
    uint64_t span = m->rev - low + 1;
    for (int i = 0; i < 8; i++) {
        uint64_t from = low + kit_random(&memory->seed, span);
        uint64_t to = MIN(m->rev + 1, from + kit_random(&memory->seed, span + 5));
        uint32_t start = (uint32_t)kit_random(&memory->seed, KIT_KEYS);
        uint32_t end = start + (uint32_t)kit_random(&memory->seed, KIT_KEYS - start + 1);
        if (i < 2) {
            start = 0;
            end = KIT_KEYS;
        }
        kit_check_events(m, s, from, to, start, end, make_events, memory);
        kit_check_versions(m, s, from, with_packs(memory, STORE_READ_VERSION));
        kit_check_history(m, s, start, from, to, kit_random(&memory->seed, 2) * 7,
                          with_packs(memory, STORE_READ_HISTORY));
    }
    kit_check_events(m, s, low, m->rev, 0, KIT_KEYS, make_events, memory);
}

static void change_some(struct kit_model *m, uint32_t changes)
{
    for (uint32_t i = 0; i < changes; i++) {
        kit_change(m, kit_random(&m->seed, 25) == 0 ? KIT_KEYS : 1);
    }
}

static void test_reads_match_the_model(void **state)
{
    (void)state;
    static const size_t kinds[] = { KIT_ROWS, KIT_FILES, KIT_BOTH };
    struct workers *workers;
    assert_int_equal(workers_new(2, &workers, NULL), OK);
    for (uint64_t seed = 1; seed <= KIT_ROUNDS(8); seed++) {
        char *dir = kit_dir();
        struct store_options options = { .dir = dir, .workers = workers,
                                         .write_buffer_bytes = 128 << 10,
                                         .file_batch_bytes = kinds[seed % ARRAY_LEN(kinds)] };
        struct kit_model m;
        struct memory memory = { .seed = seed };
        struct store *s;
        struct kit_loaded loaded;
        kit_model_init(&m, seed);
        if (seed % 4 == 0) m.value_max = 0;
        assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
        uint64_t number = 0;
        for (int batch = 0; batch < 4; batch++) {
            change_some(&m, batch == 2 ? 5 : 150);
            number = kit_submit(&m, s);
        }
        if (seed % 2 == 0) {
            kit_compact(&m, m.rev / 2);
            number = kit_submit(&m, s);
            store_compact(s, m.compacted);
        }
        kit_wait_batch(s, number);
        check_reads(&m, s, &memory); /* while it compacts */

        size_t durable_to = m.next_row;
        change_some(&m, 80);
        size_t middle = m.row_count;
        change_some(&m, 80);
        size_t from = durable_to - (seed % 3) * 20; /* some that are durable too */
        kit_pack_rows(&m, from, middle, keep_pack, &memory);
        kit_pack_rows(&m, middle, m.row_count, keep_pack, &memory);
        check_reads(&m, s, &memory);
        number = kit_submit(&m, s); /* becomes durable under the reads */
        check_reads(&m, s, &memory);
        kit_wait_batch(s, number);
        check_reads(&m, s, &memory);
        memory_deinit(&memory);
        store_close(s);
        kit_model_deinit(&m);
        kit_remove(dir);
    }
    workers_free(workers);
}

static void check_long_chain(size_t file_batch_bytes)
{
    struct workers *workers;
    char *dir = kit_dir();
    assert_int_equal(workers_new(1, &workers, NULL), OK);
    struct store_options options = { .dir = dir, .workers = workers,
                                     .file_batch_bytes = file_batch_bytes };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 21);
    m.value_max = 50;
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    for (uint64_t i = 0; i < 5000; i++) {
        m.rev++;
        m.index++;
        kit_event(&m, 1, i % 3 == 0 ? 7 : 3, i % 701 == 700 ? ROW_DEL : ROW_PUT, false);
    }
    kit_wait_batch(s, kit_submit(&m, s));
    for (uint64_t rev = 1; rev <= m.rev; rev += 193) {
        kit_check_versions(&m, s, rev, store_read_new(STORE_READ_VERSION, 0));
        kit_check_history(&m, s, 3, rev, m.rev, 5, store_read_new(STORE_READ_HISTORY, 0));
        kit_check_history(&m, s, 7, rev, rev + 300, 0, store_read_new(STORE_READ_HISTORY, 0));
    }
    kit_check_history(&m, s, 3, 0, UINT64_MAX - 1, 0, store_read_new(STORE_READ_HISTORY, 0));
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* 5,000 versions of one key: the chain is walked by jumps. */
static void test_a_long_chain_is_jumped(void **state)
{
    (void)state;
    check_long_chain(KIT_ROWS);
    check_long_chain(KIT_FILES);
}

static void check_below_floor(size_t file_batch_bytes)
{
    struct workers *workers;
    char *dir = kit_dir();
    assert_int_equal(workers_new(1, &workers, NULL), OK);
    struct store_options options = { .dir = dir, .workers = workers,
                                     .file_batch_bytes = file_batch_bytes };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 22);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    change_some(&m, 400);
    kit_compact(&m, 300);
    kit_wait_batch(s, kit_submit(&m, s));
    /* Compacted, but a read is pinned: everything is still there. */
    m.compacted = 0;
    kit_check_events(&m, s, 0, m.rev, 0, KIT_KEYS, NULL, NULL);
    m.compacted = 300;
    store_compact(s, 300);
    kit_wait_floor(s, 300);
    static const struct {
        enum store_read_kind kind;
        uint64_t rev;
        enum err want;
    } cases[] = {
        { STORE_READ_EVENTS, 299, ERR_COMPACTED },  { STORE_READ_EVENTS, 300, OK },
        { STORE_READ_VERSION, 299, ERR_COMPACTED }, { STORE_READ_VERSION, 300, OK },
        { STORE_READ_HISTORY, 299, ERR_COMPACTED }, { STORE_READ_HISTORY, 300, OK },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_read *r = store_read_new(cases[i].kind, i);
        r->from_rev = r->at_rev = cases[i].rev;
        r->to_rev = m.rev;
        char name[16];
        if (cases[i].kind == STORE_READ_HISTORY) {
            store_read_query(r, kit_key_name(1, name), m.keys[1].mod, 0);
        }
        kit_read(s, r);
        assert_int_equal(r->result, cases[i].want);
        assert_int_equal(r->cookie, i);
        if (cases[i].want != OK) assert_int_equal(r->item_count, 0);
        store_read_free(r);
    }
    /* The rows that are visible at the compacted revision are older, and can be had one by one. */
    size_t older = 0;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        const struct kit_row *want = kit_at(&m, key, 300);
        if (want == NULL || want->op != ROW_PUT || want->rev >= 300) continue;
        struct store_read *r = store_read_new(STORE_READ_ROWS, 0);
        char start[16];
        char end[16];
        store_read_range(r, kit_key_name(key, start), kit_key_name(key + 1, end));
        r->from_rev = want->rev;
        kit_read(s, r);
        assert_int_equal(r->result, OK);
        struct store_item item;
        size_t pos = 0;
        assert_true(store_read_next(r, &pos, &item));
        kit_same_row(&m, &item.row, want);
        assert_false(store_read_next(r, &pos, &item));
        store_read_free(r);
        older++;
    }
    assert_true(older > 10);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

static void test_below_the_floor_is_compacted(void **state)
{
    (void)state;
    check_below_floor(KIT_ROWS);
    check_below_floor(KIT_FILES);
}

/* The first queries are answered, until the result is so large. */
static void check_versions_limit(const struct kit_model *m, struct store *s, uint64_t bytes_max)
{
    struct store_read *r = store_read_new(STORE_READ_VERSION, 0);
    r->at_rev = m->rev / 2;
    r->bytes_max = bytes_max;
    char name[16];
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        if (m->keys[key].exists) store_read_query(r, kit_key_name(key, name), m->keys[key].mod, 0);
    }
    kit_read(s, r);
    assert_int_equal(r->result, OK);
    size_t pos = 0;
    size_t last_pos = 0;
    uint64_t count = 0;
    struct store_item item;
    for (uint32_t key = 0; key < KIT_KEYS && count < r->item_count; key++) {
        if (!m->keys[key].exists) continue;
        const struct kit_row *want = kit_at(m, key, r->at_rev);
        last_pos = pos;
        assert_true(store_read_next(r, &pos, &item));
        assert_int_equal(item.found, want != NULL);
        if (want != NULL) kit_same_row(m, &item.row, want);
        count++;
    }
    assert_false(store_read_next(r, &pos, &item));
    assert_true(count > 0 && last_pos < bytes_max);
    assert_true(count == r->query_count || r->items.len >= bytes_max);
    store_read_free(r);
}

static void test_versions_stop_at_their_limit(void **state)
{
    (void)state;
    struct workers *workers;
    char *dir = kit_dir();
    assert_int_equal(workers_new(1, &workers, NULL), OK);
    struct store_options options = { .dir = dir, .workers = workers };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 23);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    change_some(&m, 400);
    kit_wait_batch(s, kit_submit(&m, s));
    check_versions_limit(&m, s, 1);
    check_versions_limit(&m, s, 2000);
    check_versions_limit(&m, s, 64u << 20);
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* Many at once come back, each with its own answer; those nobody takes are freed by the close. */
static void test_many_reads_at_once(void **state)
{
    (void)state;
    struct workers *workers;
    char *dir = kit_dir();
    assert_int_equal(workers_new(3, &workers, NULL), OK);
    struct store_options options = { .dir = dir, .workers = workers };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 23);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    change_some(&m, 300);
    kit_wait_batch(s, kit_submit(&m, s));
    for (uint64_t i = 0; i < 300; i++) {
        struct store_read *r = store_read_new(STORE_READ_VERSION, i);
        char name[16];
        r->at_rev = 2 + i;
        store_read_query(r, kit_key_name(9, name), m.keys[9].mod, m.keys[9].jump);
        store_read(s, r);
    }
    uint64_t back = 0;
    while (back < 200) {
        struct store_done done;
        kit_poll(s, &done);
        for (struct store_read *r = done.reads, *next; r != NULL; r = next) {
            next = store_read_after(r);
            const struct kit_row *want = kit_at(&m, 9, 2 + r->cookie);
            struct store_item item;
            size_t pos = 0;
            assert_true(store_read_next(r, &pos, &item));
            assert_int_equal(item.found, want != NULL);
            if (want != NULL) kit_same_row(&m, &item.row, want);
            store_read_free(r);
            back++;
        }
    }
    store_close(s);
    workers_free(workers);
    kit_model_deinit(&m);
    kit_remove(dir);
}

/* --- damage ------------------------------------------------------------------------------ */

static void tell_parent(void *ctx, const char *text)
{
    if (write(*(int *)ctx, text, strlen(text) + 1) < 0) _exit(5);
}

/* Reads all events of a store of which what the name says is damaged. */
static int child_read_damaged(const char *dir, const char *fd)
{
    struct workers *workers;
    int text_fd = atoi(fd);
    struct store_options options = { .dir = dir, .on_fatal = tell_parent,
                                     .on_fatal_ctx = &text_fd };
    struct store_info info;
    struct store *s;
    if (workers_new(1, &workers, NULL) != OK) return 1;
    options.workers = workers;
    if (store_open(&options, &s, &info, NULL) != OK) return 2;
    /* The scan sees it too; what is tested is the read. */
    struct kit_loaded loaded = { .s = s };
    enum err e = store_scan(s, kit_load_meta, kit_load_pack, &loaded, NULL);
    if (e != ERR_CORRUPT) return 3;
    store_start(s);
    struct store_read *r = store_read_new(STORE_READ_EVENTS, 0);
    struct store_done done = { 0 };
    r->to_rev = UINT64_MAX - 1;
    store_read(s, r);
    while (done.reads == NULL) kit_poll(s, &done);
    return 4;
}

static void flip_table(void *ctx, const char *dir, const char *name)
{
    size_t len = strlen(name);
    if (len < 4 || strcmp(name + len - 4, ".ldb") != 0) return;
    char *path = kit_join(dir, name);
    struct buf bytes = kit_read_file(path);
    if (bytes.len > 400000) {
        bytes.at[bytes.len / 2] ^= 4;
        kit_write_file(path, buf_slice(&bytes));
        ++*(int *)ctx;
    }
    buf_deinit(&bytes);
    mem_free(path);
}

static void make_closed(const char *dir, size_t file_batch_bytes)
{
    struct store_options options = { .dir = dir, .file_batch_bytes = file_batch_bytes };
    struct kit_model m;
    struct store *s;
    struct kit_loaded loaded;
    kit_model_init(&m, 24);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK);
    change_some(&m, 1500);
    kit_submit(&m, s);
    store_close(s);
    assert_int_equal(kit_open(&options, &s, &loaded, NULL), OK); /* flushes the log to a table */
    store_close(s);
    kit_model_deinit(&m);
}

/* Runs the role; what it ended with is `text`. */
static void check_ends(const char *role, const char *dir, const char *text)
{
    int fds[2];
    int status;
    char fd[16];
    char line[512] = "";
    assert_int_equal(pipe(fds), 0);
    snprintf(fd, sizeof fd, "%d", fds[1]);
    pid_t child = kit_spawn(role, dir, fd);
    close(fds[1]);
    assert_true(read(fds[0], line, sizeof line - 1) > 0);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), STORE_EXIT_CODE);
    if (strstr(line, text) == NULL) fail_msg("not '%s': %s", text, line);
}

static void test_damage_met_by_a_read_ends_the_process(void **state)
{
    (void)state;
    char *dir = kit_dir();
    int flipped = 0;
    make_closed(dir, KIT_ROWS);
    char *rows = kit_join(dir, "rows");
    kit_each_file(rows, flip_table, &flipped);
    mem_free(rows);
    assert_int_equal(flipped, 1);
    check_ends("read-damaged", dir, "read of history failed");
    kit_remove(dir);
}

/* How a file of packs is spoiled under a running store. */
enum spoil { SPOIL_FLIP, SPOIL_ZERO, SPOIL_CUT };

static void spoil(const char *dir, const struct store_ref *ref, enum spoil how)
{
    char *path = kit_pack_path(dir, ref->file);
    int fd = open(path, O_RDWR);
    uint8_t bytes[16] = { 0 };
    off_t at = (off_t)(ref->offset + ref->bytes / 2);
    assert_true(fd >= 0);
    if (how == SPOIL_FLIP) {
        assert_int_equal(pread(fd, bytes, sizeof bytes, at), sizeof bytes);
        bytes[7] ^= 0x10;
    }
    if (how == SPOIL_CUT) {
        assert_int_equal(ftruncate(fd, at), 0);
    } else {
        assert_int_equal(pwrite(fd, bytes, sizeof bytes, at), sizeof bytes);
    }
    close(fd);
    mem_free(path);
}

/* Loads, then the file is spoiled: nobody but the read sees it. */
static int child_read_spoiled(const char *dir, const char *fd, enum spoil how)
{
    struct workers *workers;
    int text_fd = atoi(fd);
    struct store_options options = { .dir = dir, .on_fatal = tell_parent,
                                     .on_fatal_ctx = &text_fd };
    struct store *s;
    struct kit_loaded loaded;
    struct buf refs = { 0 };
    kit_refs(dir, &refs);
    struct store_ref ref = kit_ref(&refs, kit_ref_count(&refs) / 2);
    if (workers_new(1, &workers, NULL) != OK) return 1;
    options.workers = workers;
    if (kit_open(&options, &s, &loaded, NULL) != OK) return 2;
    spoil(dir, &ref, how);
    struct store_read *r = store_read_new(STORE_READ_EVENTS, 0);
    r->to_rev = UINT64_MAX - 1;
    kit_read(s, r);
    return 4;
}

static void test_damage_of_a_pack_file_met_by_a_read_ends_the_process(void **state)
{
    (void)state;
    static const char *const roles[] = { "read-flipped", "read-zeroed", "read-cut" };
    char *dir = kit_dir();
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        CLEANUP(buf_deinit) struct buf refs = { 0 };
        char where[128];
        kit_each_file(dir, kit_remove_one, NULL);
        make_closed(dir, KIT_FILES);
        kit_refs(dir, &refs);
        struct store_ref ref = kit_ref(&refs, kit_ref_count(&refs) / 2);
        snprintf(where, sizeof where, "packs/%010" PRIu32 ".packs offset %" PRIu64 ": damaged",
                 ref.file, ref.offset);
        check_ends(roles[i], dir, where);
    }
    kit_remove(dir);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "read-damaged") == 0) {
        return child_read_damaged(argv[2], argv[3]);
    }
    if (argc == 4 && strcmp(argv[1], "read-flipped") == 0) {
        return child_read_spoiled(argv[2], argv[3], SPOIL_FLIP);
    }
    if (argc == 4 && strcmp(argv[1], "read-zeroed") == 0) {
        return child_read_spoiled(argv[2], argv[3], SPOIL_ZERO);
    }
    if (argc == 4 && strcmp(argv[1], "read-cut") == 0) {
        return child_read_spoiled(argv[2], argv[3], SPOIL_CUT);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_match_the_model),
        cmocka_unit_test(test_a_long_chain_is_jumped),
        cmocka_unit_test(test_below_the_floor_is_compacted),
        cmocka_unit_test(test_versions_stop_at_their_limit),
        cmocka_unit_test(test_many_reads_at_once),
        cmocka_unit_test(test_damage_met_by_a_read_ends_the_process),
        cmocka_unit_test(test_damage_of_a_pack_file_met_by_a_read_ends_the_process),
    };
    return cmocka_run_group_tests_name("disk/store_read", tests, NULL, NULL);
}
