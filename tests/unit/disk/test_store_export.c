/* Exports: all of one batch and nothing else, in bounded pieces, while the store goes on. */
#include "store_kit.h"

#include <signal.h>
#include <sys/resource.h>

#include "disk/store_export.h"

#define SMALL_BUFFER (128u << 10)

struct bench {
    char *dir;
    struct workers *workers;
    struct done_queue done;
    struct store *s;
    struct kit_loaded loaded;
    struct kit_model m;
};

static void bench_open(struct bench *b)
{
    struct store_options options = { .dir = b->dir, .workers = b->workers,
                                     .write_buffer_bytes = SMALL_BUFFER };
    assert_int_equal(kit_open(&options, &b->s, &b->loaded, NULL), OK);
}

static void bench_begin(struct bench *b, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    b->dir = kit_dir();
    assert_int_equal(workers_new(1, &b->workers, NULL), OK);
    assert_int_equal(done_queue_init(&b->done, NULL), OK);
    kit_model_init(&b->m, seed);
    bench_open(b);
}

static void bench_end(struct bench *b)
{
    store_close(b->s);
    workers_free(b->workers);
    done_queue_deinit(&b->done);
    kit_model_deinit(&b->m);
    kit_remove(b->dir);
}

static void grow(struct bench *b, size_t changes)
{
    for (size_t i = 0; i < changes; i++) kit_change(&b->m, i % 10 == 0 ? KIT_KEYS : 1);
    kit_wait_batch(b->s, kit_submit(&b->m, b->s));
}

/* Until the export has answered. */
static enum err answer(struct bench *b, const struct store_export *e, struct errmsg *em)
{
    struct pollfd ready = { .fd = done_queue_fd(&b->done), .events = POLLIN };
    struct work *w;
    while ((w = done_queue_take(&b->done)) == NULL) {
        if (!done_queue_about_to_sleep(&b->done)) continue;
        assert_int_equal(poll(&ready, 1, -1), 1);
        done_queue_woke(&b->done);
    }
    assert_ptr_equal(w, store_export_work(e));
    assert_null(w->next);
    return store_export_result(e, em);
}

/* A new store of what an export gives; looks at each record on the way. */
struct copy {
    char *dir;
    struct store *s;
    uint64_t count, metas;
    uint32_t crc;
    size_t chunk_max;
    struct buf last; /* kind, name or place: they ascend */
};

static void copy_record(struct copy *c, struct store_batch *to, const struct store_record *r)
{
    CLEANUP(buf_deinit) struct buf place = { 0 };
    buf_append_u8(&place, (uint8_t)r->kind);
    if (r->kind == STORE_RECORD_META) {
        buf_append_slice(&place, r->name);
        store_batch_put(to, r->name, r->value);
        c->metas++;
    } else {
        uint8_t at[12];
        u64_be_put(at, r->first_rev);
        u32_be_put(at + 8, r->first_n);
        buf_append(&place, at, sizeof at);
        store_batch_pack(to, r->first_rev, r->first_n, blob_copy(r->value));
    }
    assert_true(slice_cmp(buf_slice(&c->last), buf_slice(&place)) < 0);
    buf_clear(&c->last);
    buf_append_slice(&c->last, buf_slice(&place));
    c->count++;
}

static void copy_chunk(struct copy *c, struct slice chunk)
{
    struct store_batch *to = store_batch_new();
    size_t records = 0;
    c->crc = crc32c(c->crc, chunk.at, chunk.len);
    size_t bytes = chunk.len;
    while (chunk.len != 0) {
        struct store_record r;
        assert_int_equal(store_record_decode(&chunk, &r), OK);
        copy_record(c, to, &r);
        records++;
    }
    assert_true(bytes <= STORE_EXPORT_CHUNK_BYTES || records == 1);
    c->chunk_max = MAX(c->chunk_max, bytes);
    store_submit(c->s, to, &(struct store_cut){ .applied_index = 0 });
}

static void copy_begin(struct copy *c)
{
    struct kit_loaded empty;
    memset(c, 0, sizeof *c);
    c->dir = kit_dir();
    struct store_options options = { .dir = c->dir, .write_buffer_bytes = SMALL_BUFFER };
    assert_int_equal(kit_open(&options, &c->s, &empty, NULL), OK);
}

static void copy_end(struct copy *c, struct bench *b, struct store_export *e)
{
    struct store_view v = store_export_view(e);
    assert_int_equal(c->count, store_export_count(e));
    assert_int_equal(c->crc, store_export_crc(e));
    struct store_batch *last = store_batch_new();
    store_batch_floor(last, v.floor_rev);
    store_submit(c->s, last, &(struct store_cut){ v.applied_index, v.applied_term,
                                                  v.compacted_rev });
    store_close(c->s);
    struct store_options options = { .dir = c->dir, .write_buffer_bytes = SMALL_BUFFER };
    struct kit_loaded loaded;
    struct errmsg em;
    assert_int_equal(kit_open(&options, &c->s, &loaded, &em), OK);
    assert_int_equal(loaded.index, v.applied_index);
    kit_check_loaded(&b->m, &loaded);
    store_close(c->s);
    kit_remove(c->dir);
    buf_deinit(&c->last);
}

static void test_a_copy_has_one_batch_whatever_comes_meanwhile(void **state)
{
    (void)state;
    struct bench b;
    struct copy c;
    bench_begin(&b, 11);
    b.m.value_max = KIT_VALUE_MAX;
    grow(&b, 4000);
    copy_begin(&c);
    struct store_export *e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, NULL), OK);
    struct store_view v = store_export_view(e);
    assert_int_equal(v.applied_index, b.m.index);
    assert_int_equal(v.applied_term, 7);
    uint64_t view_packs_from = b.m.rev;
    size_t chunks = 0;
    while (!store_export_at_end(e)) {
        store_export_next(e);
        /* New rows, then compaction of what the export still has to read. */
        if (chunks < 3) grow(&b, 50);
        if (chunks == 3) {
            kit_compact(&b.m, view_packs_from);
            grow(&b, 1);
            store_compact(b.s, view_packs_from);
            kit_wait_floor(b.s, view_packs_from);
        }
        assert_int_equal(answer(&b, e, NULL), OK);
        copy_chunk(&c, store_export_chunk(e));
        chunks++;
    }
    assert_true(chunks > 5);
    assert_int_equal(c.metas, 1);
    copy_end(&c, &b, e);
    store_export_free(e);
    bench_end(&b);
}

/* After a compaction, and with the floor of the first: a second copy, of a copy's kind of store. */
static void test_a_compacted_store_is_copied_with_its_floor(void **state)
{
    (void)state;
    struct bench b;
    struct copy c;
    bench_begin(&b, 12);
    grow(&b, 1000);
    kit_compact(&b.m, b.m.rev - 5);
    grow(&b, 10);
    store_compact(b.s, b.m.compacted);
    kit_wait_floor(b.s, b.m.compacted);
    copy_begin(&c);
    struct store_export *e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, NULL), OK);
    assert_int_equal(store_export_view(e).floor_rev, b.m.compacted);
    assert_int_equal(store_export_view(e).compacted_rev, b.m.compacted);
    while (!store_export_at_end(e)) {
        store_export_next(e);
        assert_int_equal(answer(&b, e, NULL), OK);
        copy_chunk(&c, store_export_chunk(e));
    }
    copy_end(&c, &b, e);
    store_export_free(e);
    bench_end(&b);
}

static void test_records_larger_than_a_chunk_come_alone(void **state)
{
    (void)state;
    struct bench b;
    bench_begin(&b, 13);
    struct store_batch *batch = store_batch_new();
    struct buf value = { 0 };
    char name[16];
    for (int i = 0; i < 40; i++) {
        size_t bytes = i % 10 == 5 ? STORE_EXPORT_CHUNK_BYTES * 3 : (size_t)i * 3000;
        buf_clear(&value);
        memset(buf_reserve(&value, bytes + 1), i, bytes);
        value.len = bytes;
        snprintf(name, sizeof name, "n%04d", i);
        store_batch_put(batch, slice_of(name), buf_slice(&value));
    }
    kit_wait_batch(b.s, store_submit(b.s, batch, &(struct store_cut){ 1, 1, 0 }));
    struct store_export *e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, NULL), OK);
    int seen = 0;
    while (!store_export_at_end(e)) {
        store_export_next(e);
        assert_int_equal(answer(&b, e, NULL), OK);
        struct slice chunk = store_export_chunk(e);
        size_t bytes = chunk.len, records = 0;
        for (; chunk.len != 0; records++, seen++) {
            struct store_record r;
            assert_int_equal(store_record_decode(&chunk, &r), OK);
            snprintf(name, sizeof name, "n%04d", seen);
            assert_true(slice_eq(r.name, slice_of(name)));
            assert_true(r.value.len == 0 || r.value.at[r.value.len - 1] == (uint8_t)seen);
        }
        assert_true(bytes <= STORE_EXPORT_CHUNK_BYTES || records == 1);
    }
    assert_int_equal(seen, 40);
    assert_int_equal(store_export_count(e), 40);
    store_export_free(e);

    batch = store_batch_new();
    buf_clear(&value);
    memset(buf_reserve(&value, STORE_RECORD_BYTES_MAX), 1, STORE_RECORD_BYTES_MAX);
    value.len = STORE_RECORD_BYTES_MAX;
    store_batch_put(batch, SLICE_LIT("huge"), buf_slice(&value));
    kit_wait_batch(b.s, store_submit(b.s, batch, &(struct store_cut){ 2, 1, 0 }));
    e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, NULL), OK);
    store_export_next(e);
    assert_int_equal(answer(&b, e, NULL), ERR_LIMIT);
    store_export_free(e);
    buf_deinit(&value);
    bench_end(&b);
}

static void test_an_empty_store_has_nothing_to_export(void **state)
{
    (void)state;
    struct bench b;
    struct errmsg em;
    bench_begin(&b, 14);
    struct store_export *e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, &em), ERR_NOT_FOUND);
    store_export_free(e);
    bench_end(&b);
}

/* The largest table: its first block is flipped. */
struct largest {
    char *path;
    off_t bytes;
};

static void find_largest(void *ctx, const char *dir, const char *name)
{
    struct largest *l = ctx;
    struct stat st;
    char *path = kit_join(dir, name);
    size_t len = strlen(name);
    bool table = len > 4 && strcmp(name + len - 4, ".ldb") == 0;
    if (table && stat(path, &st) == 0 && st.st_size > l->bytes) {
        mem_free(l->path);
        l->path = path;
        l->bytes = st.st_size;
        return;
    }
    mem_free(path);
}

static void test_damage_ends_the_export_and_not_the_store(void **state)
{
    (void)state;
    struct bench b;
    struct errmsg em;
    bench_begin(&b, 15);
    grow(&b, 3000);
    store_close(b.s);
    bench_open(&b);
    struct largest table = { NULL, 0 };
    char *rows = kit_join(b.dir, "rows");
    kit_each_file(rows, find_largest, &table);
    mem_free(rows);
    assert_non_null(table.path);
    int fd = open(table.path, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, table.bytes / 2), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, table.bytes / 2), 1);
    close(fd);
    mem_free(table.path);

    struct store_export *e = store_export_new(b.s, &b.done);
    enum err result = answer(&b, e, NULL);
    assert_int_equal(result, OK);
    while (result == OK) {
        assert_false(store_export_at_end(e));
        store_export_next(e);
        result = answer(&b, e, &em);
    }
    assert_int_equal(result, ERR_CORRUPT);
    assert_true(em.text[0] != '\0');
    store_export_free(e);
    grow(&b, 10); /* still takes batches */
    bench_end(&b);
}

static void test_records_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct bench b;
    bench_begin(&b, 16);
    grow(&b, 20);
    struct store_export *e = store_export_new(b.s, &b.done);
    assert_int_equal(answer(&b, e, NULL), OK);
    store_export_next(e);
    assert_int_equal(answer(&b, e, NULL), OK);
    struct slice whole = store_export_chunk(e);
    /* Every prefix: all records before its end, then a refusal. */
    for (size_t len = 0; len < whole.len; len++) {
        struct slice rest = { whole.at, len };
        struct store_record r;
        while (store_record_decode(&rest, &r) == OK) assert_true(rest.at <= whole.at + len);
        struct slice same = rest;
        assert_int_equal(store_record_decode(&rest, &r), ERR_CORRUPT);
        assert_ptr_equal(rest.at, same.at);
        assert_int_equal(rest.len, same.len);
    }
    static const uint8_t kinds[] = { 0, 3, 0xff };
    for (size_t i = 0; i < sizeof kinds; i++) {
        uint8_t bytes[64] = { kinds[i] };
        struct slice rest = { bytes, sizeof bytes };
        struct store_record r;
        assert_int_equal(store_record_decode(&rest, &r), ERR_CORRUPT);
    }
    store_export_free(e);
    bench_end(&b);
}

/* A store in the making on a disk that takes no more. */
static void test_an_expendable_store_fails_alone(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_options options = { .dir = dir, .expendable = true,
                                     .write_buffer_bytes = 4u << 20 };
    struct store *s;
    struct kit_loaded empty;
    struct errmsg em = { "" };
    struct rlimit old, small;
    assert_int_equal(kit_open(&options, &s, &empty, NULL), OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){ .rlim_cur = 256 << 10, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    CLEANUP(buf_deinit) struct buf value = { 0 };
    memset(buf_reserve(&value, 1 << 20), 7, 1 << 20);
    value.len = 1 << 20;
    uint64_t number = 0;
    assert_int_equal(store_failed(s, &em), OK);
    for (int i = 0; i < 3; i++) {
        struct store_batch *b = store_batch_new();
        store_batch_put(b, SLICE_LIT("large"), buf_slice(&value));
        number = store_submit(s, b, &(struct store_cut){ .applied_index = 0 });
    }
    kit_wait_batch(s, number); /* all come back */
    assert_int_equal(store_backlog_bytes(s), 0);
    assert_true(store_failed(s, &em) != OK);
    assert_true(em.text[0] != '\0');
    store_close(s);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_has_one_batch_whatever_comes_meanwhile),
        cmocka_unit_test(test_a_compacted_store_is_copied_with_its_floor),
        cmocka_unit_test(test_records_larger_than_a_chunk_come_alone),
        cmocka_unit_test(test_an_empty_store_has_nothing_to_export),
        cmocka_unit_test(test_damage_ends_the_export_and_not_the_store),
        cmocka_unit_test(test_records_that_cannot_be_are_refused),
        cmocka_unit_test(test_an_expendable_store_fails_alone),
    };
    return cmocka_run_group_tests_name("disk/store_export", tests, NULL, NULL);
}
