/* Damage: whatever is done to the files, recovery finds exactly what was there, or at least all
 * that was proven durable, or refuses. It is never silently short. */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal_int.h"
#include "../../sim/sim_disk.h"
#include "test_wal_kit.h"

#define DIR_NAME      "/d"
#define FLIPS         3000
#define BATCHES_MAX   40
#define BATCHES       29 /* three segments and some */
#define BATCHES_SHORT 5  /* one segment */

static struct kit_log replayed;

/* The entry index behind which each batch ended, and where in which segment. */
struct batch_place {
    uint64_t last_index;
    uint64_t segment_seq;
    uint64_t begin;
    uint64_t end;
};

struct image {
    struct sim_disk *disk;
    struct batch_place places[BATCHES_MAX];
    size_t place_count;
    uint64_t last_index;
    uint64_t segments;
};

static struct wal_options options(struct sim_disk *m)
{
    memset(&replayed, 0, sizeof replayed);
    return (struct wal_options){
        .dir = DIR_NAME,
        .io = sim_disk_io(m),
        .create = true,
        .cluster_id = KIT_CLUSTER,
        .member_id = KIT_MEMBER,
        .salt = 5,
        .segment_bytes = WAL_SEGMENT_BYTES_MIN,
        .backend = WAL_BACKEND_MANUAL,
        .on_entry = kit_collect,
        .ctx = &replayed,
    };
}

/* A log, one entry or more a batch; `closed`: with the proof at its end. */
static struct image image_make(size_t batch_count, bool closed)
{
    struct image im = { .disk = sim_disk_new("/d", 1) };
    struct wal_options o = options(im.disk);
    struct wal *wal = NULL;
    struct errmsg em;
    if (wal_open(&o, &wal, &em) != OK) fail_msg("%s", em.text);
    kit_run(wal);
    for (size_t i = 0; i < batch_count; i++) {
        uint64_t count = 1 + i % 3;
        kit_submit(wal, 1 + i / 8, im.last_index + 1, im.last_index + count, 300 + i * 150);
        im.last_index += count;
        kit_run(wal);
        im.places[im.place_count++] = (struct batch_place){
            .last_index = im.last_index,
            .segment_seq = wal->writer.segment.seq,
            .begin = wal->writer.offset - wal->writer.batch.bytes,
            .end = wal->writer.offset,
        };
    }
    im.segments = wal->writer.segment.seq;
    assert_true(im.segments >= 3 || batch_count < BATCHES);
    if (closed) {
        wal_close(wal);
    } else {
        wal_abandon(wal);
    }
    sim_disk_settle(im.disk);
    return im;
}

static char *segment_name(uint64_t seq)
{
    static char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(DIR_NAME, seq, path);
    return path;
}

/* Opens a damaged log. OK: the index of its last entry in *last, which was replayed whole. */
static enum err reopen(struct sim_disk *m, uint64_t *last, struct errmsg *em)
{
    struct wal_options o = options(m);
    o.create = false;
    struct wal *wal = NULL;
    memset(em, 0, sizeof *em);
    enum err e = wal_open(&o, &wal, em);
    if (e != OK) return e;
    *last = wal_found(wal)->last.index;
    assert_int_equal(replayed.last, *last);
    if (*last > 0) assert_int_equal(replayed.first, 1);
    wal_check(wal);
    wal_abandon(wal);
    return OK;
}

/* Damaging and restoring touches one file; recovery may have written too, so all are restored. */
struct saved {
    uint8_t *bytes[8];
    size_t sizes[8];
    uint64_t count;
};

static struct saved image_save(const struct image *im)
{
    struct saved s = { .count = im->segments + 1 };
    ASSERT(s.count < ARRAY_LEN(s.bytes));
    for (uint64_t seq = 1; seq <= s.count; seq++) {
        const struct sim_file *f = sim_disk_get(im->disk, segment_name(seq));
        assert_non_null(f);
        s.bytes[seq] = mem_copy(f->now, f->now_bytes);
        s.sizes[seq] = f->now_bytes;
    }
    return s;
}

static void image_restore(struct image *im, const struct saved *s)
{
    for (uint64_t seq = 1; seq <= s->count; seq++) {
        if (sim_disk_get(im->disk, segment_name(seq)) == NULL) {
            int fd = -1;
            const struct disk_io *io = sim_disk_io(im->disk);
            assert_int_equal(
                io->open(io->ctx, segment_name(seq), DISK_WRITE | DISK_CREATE, &fd), 0);
            io->close(io->ctx, fd);
        }
        struct sim_file *f = sim_disk_get(im->disk, segment_name(seq));
        sim_disk_resize(im->disk, f, s->sizes[seq]);
        memcpy(f->now, s->bytes[seq], s->sizes[seq]);
    }
    if (sim_disk_get(im->disk, segment_name(s->count + 1)) != NULL) {
        sim_disk_io(im->disk)->unlink(im->disk, segment_name(s->count + 1));
    }
    sim_disk_settle(im->disk);
}

static void image_free(struct image *im, struct saved *s)
{
    for (uint64_t seq = 1; seq <= s->count; seq++) mem_free(s->bytes[seq]);
    sim_disk_free(im->disk);
}

/* What must be found at least: everything but the last batch, and that too if a proof follows. */
static uint64_t proven_index(const struct image *im, bool closed)
{
    return closed ? im->last_index : im->places[im->place_count - 2].last_index;
}

static void check_damaged(struct image *im, bool closed, const char *what, uint64_t seed)
{
    uint64_t last = 0;
    struct errmsg em;
    enum err e = reopen(im->disk, &last, &em);
    if (e == OK) {
        bool known = last == im->last_index || last == proven_index(im, closed);
        if (!known) {
            fail_msg("%s %llu: accepted with last index %llu of %llu", what,
                     (unsigned long long)seed, (unsigned long long)last,
                     (unsigned long long)im->last_index);
        }
        return;
    }
    bool says_where = strstr(em.text, "wal-0000") != NULL;
    if (!says_where) fail_msg("%s %llu: %s", what, (unsigned long long)seed, em.text);
    if (e != ERR_CORRUPT)
        fail_msg("%s %llu: %s: %s", what, (unsigned long long)seed, err_name(e), em.text);
}

static void flips(bool closed)
{
    struct image im = image_make(BATCHES, closed);
    struct saved s = image_save(&im);
    size_t refused = 0;
    for (uint64_t seed = 0; seed < FLIPS; seed++) {
        struct sim_file *f = sim_disk_get(im.disk, segment_name(1 + sim_disk_random(im.disk, s.count)));
        size_t at = (size_t)sim_disk_random(im.disk, f->now_bytes);
        uint64_t kind = sim_disk_random(im.disk, 3);
        if (kind == 0) f->now[at] ^= (uint8_t)(1u << sim_disk_random(im.disk, 8));
        if (kind == 1) memset(f->now + at / 512 * 512, 0, 512);
        if (kind == 2) { /* the first bytes of a block are where the headers are */
            f->now[at / 4096 * 4096 + sim_disk_random(im.disk, 200)] ^= 0x10;
        }
        check_damaged(&im, closed, "damage", seed);
        image_restore(&im, &s);
        refused++;
    }
    assert_int_equal(refused, FLIPS);
    image_free(&im, &s);
}

static void test_flipped_bits_and_zeroed_sectors(void **state)
{
    (void)state;
    flips(false);
    flips(true);
}

/* Every byte of every batch's header and heads, one bit each: synced ones refuse. */
static void test_each_header_byte_of_a_synced_batch_refuses(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES, true);
    struct saved s = image_save(&im);
    for (size_t i = 0; i + 1 < im.place_count; i++) {
        const struct batch_place *p = &im.places[i];
        if (im.places[i + 1].segment_seq != p->segment_seq) continue;
        for (size_t byte = 0; byte < WAL_BATCH_HEAD_BYTES + WAL_RECORD_HEAD_BYTES; byte++) {
            struct sim_file *f = sim_disk_get(im.disk, segment_name(p->segment_seq));
            f->now[p->end + byte] ^= 0x40;
            uint64_t last = 0;
            struct errmsg em;
            assert_int_equal(reopen(im.disk, &last, &em), ERR_CORRUPT);
            char offset[64];
            snprintf(offset, sizeof offset, "offset %llu", (unsigned long long)p->end);
            if (strstr(em.text, offset) == NULL) fail_msg("no %s in: %s", offset, em.text);
            f = sim_disk_get(im.disk, segment_name(p->segment_seq));
            f->now[p->end + byte] ^= 0x40;
        }
        if (i % 8 != 0) i += 3;
    }
    image_free(&im, &s);
}

/* A file cut at any length is refused: segments have one size, from before they have a name. */
static void test_every_shorter_file_is_refused(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES_SHORT, false);
    struct saved s = image_save(&im);
    for (uint64_t seq = 1; seq <= s.count; seq++) {
        struct sim_file *f = sim_disk_get(im.disk, segment_name(seq));
        for (size_t len = 0; len < s.sizes[seq]; len++) {
            f->now_bytes = len;
            uint64_t last = 0;
            struct errmsg em;
            enum err e = reopen(im.disk, &last, &em);
            if (e != ERR_CORRUPT || strstr(em.text, segment_name(seq)) == NULL) {
                fail_msg("%s cut to %zu: %s %s", segment_name(seq), len, err_name(e), em.text);
            }
        }
        f->now_bytes = s.sizes[seq];
    }
    image_free(&im, &s);
}

/* The log torn at any byte of its last segment, with nothing behind: all batches before remain. */
static void test_every_torn_end_keeps_the_batches_before(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES, false);
    struct saved s = image_save(&im);
    size_t first = 0;
    while (im.places[first].segment_seq < im.segments) first++;
    uint64_t from = im.places[first].end; /* of the last segment's first data batch */
    uint64_t to = im.places[im.place_count - 1].end;
    assert_true(to - from > 8192);
    for (uint64_t cut = from; cut < to; cut += cut % 4096 < 200 ? 1 : 37) {
        struct sim_file *f = sim_disk_get(im.disk, segment_name(im.segments));
        memset(f->now + cut, 0, f->now_bytes - cut);
        uint64_t want = im.places[first].last_index;
        uint64_t end = im.places[first].end;
        for (size_t i = first; i < im.place_count; i++) {
            /* Padding that is cut off was zero before. */
            if (memcmp(f->now, s.bytes[im.segments], im.places[i].end) == 0) {
                want = im.places[i].last_index;
                end = im.places[i].end;
            }
        }
        uint64_t last = 0;
        struct errmsg em;
        enum err e = reopen(im.disk, &last, &em);
        if (e != OK || last != want) {
            fail_msg("cut at %llu: %s %s, last %llu, expected %llu", (unsigned long long)cut,
                     err_name(e), em.text, (unsigned long long)last, (unsigned long long)want);
        }
        /* What was dropped is gone from the disk, too: nothing of it comes back. */
        f = sim_disk_get(im.disk, segment_name(im.segments));
        for (size_t i = (size_t)end; i < f->now_bytes; i++) assert_int_equal(f->now[i], 0);
        image_restore(&im, &s);
    }
    image_free(&im, &s);
}

static void expect_refusal(struct image *im, const char *text)
{
    uint64_t last = 0;
    struct errmsg em;
    enum err e = reopen(im->disk, &last, &em);
    if (e != ERR_CORRUPT || strstr(em.text, text) == NULL) {
        fail_msg("expected a refusal with \"%s\", got %s: %s", text, err_name(e), em.text);
    }
}

static void test_files_missing_swapped_or_too_many(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES, true);
    struct saved s = image_save(&im);
    const struct disk_io *io = sim_disk_io(im.disk);

    io->unlink(io->ctx, segment_name(2));
    expect_refusal(&im, "wal-0000000000000002 is missing");
    image_restore(&im, &s);

    io->unlink(io->ctx, segment_name(s.count)); /* the one made ahead: only not made yet */
    uint64_t last = 0;
    struct errmsg em;
    assert_int_equal(reopen(im.disk, &last, &em), OK);
    assert_int_equal(last, im.last_index);
    image_restore(&im, &s);

    io->unlink(io->ctx, segment_name(s.count));
    io->unlink(io->ctx, segment_name(s.count - 1));
    expect_refusal(&im, "the one before is sealed");
    image_restore(&im, &s);

    struct sim_file *f = sim_disk_get(im.disk, segment_name(2));
    f->now_bytes = 0;
    expect_refusal(&im, "it has 0 bytes");
    image_restore(&im, &s);

    f = sim_disk_get(im.disk, segment_name(2));
    memcpy(f->now, s.bytes[1], s.sizes[1]);
    expect_refusal(&im, "the sequence is 1, expected 2");
    image_restore(&im, &s);

    /* two segments ahead: from the future */
    int fd = -1;
    assert_int_equal(io->open(io->ctx, segment_name(s.count + 1), DISK_WRITE | DISK_CREATE, &fd),
                     0);
    assert_int_equal(io->pwrite(io->ctx, fd, s.bytes[s.count], s.sizes[s.count], 0),
                     (int64_t)s.sizes[s.count]);
    struct wal_segment_head head;
    uint8_t raw[WAL_SEGMENT_HEAD_BYTES];
    assert_int_equal(wal_segment_head_decode(s.bytes[s.count], &head, &em), OK);
    head.seq++;
    wal_segment_head_encode(&head, raw);
    io->pwrite(io->ctx, fd, raw, sizeof raw, 0);
    io->close(io->ctx, fd);
    expect_refusal(&im, "is from the future");
    image_restore(&im, &s);

    /* a newer format */
    assert_int_equal(wal_segment_head_decode(s.bytes[1], &head, &em), OK);
    head.version = WAL_VERSION + 1;
    wal_segment_head_encode(&head, raw);
    f = sim_disk_get(im.disk, segment_name(1));
    memcpy(f->now, raw, sizeof raw);
    assert_int_equal(reopen(im.disk, &last, &em), ERR_UNSUPPORTED);
    image_free(&im, &s);
}

/* The last batch may be only in the page cache: recovery makes it durable before it reports it. */
static void test_end_is_durable_before_it_is_reported(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES, false);
    struct saved s = image_save(&im);
    const struct batch_place *p = &im.places[im.place_count - 1];
    struct sim_file *f = sim_disk_get(im.disk, segment_name(p->segment_seq));
    uint64_t begin = p->begin;
    /* As after a failed sync: the cache has it and believes it to be clean, the disk does not. */
    memset(f->disk + begin, 0, (size_t)(p->end - begin));
    uint64_t last = 0;
    struct errmsg em;
    assert_int_equal(reopen(im.disk, &last, &em), OK);
    assert_int_equal(last, im.last_index);
    sim_disk_crash(im.disk, 0);
    assert_int_equal(reopen(im.disk, &last, &em), OK);
    assert_int_equal(last, im.last_index);
    image_free(&im, &s);
}

/* --- a file system that knows no direct reads ------------------------------------------ */

static const struct disk_io *under;
static unsigned direct_refused;

static int refuse_direct(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    direct_refused += (flags & DISK_DIRECT) != 0;
    return flags & DISK_DIRECT ? -EINVAL : under->open(ctx, path, flags, fd_out);
}

static void test_without_direct_reads_the_cache_serves(void **state)
{
    (void)state;
    struct image im = image_make(BATCHES, false);
    struct saved s = image_save(&im);
    under = sim_disk_io(im.disk);
    struct disk_io io = *under;
    io.open = refuse_direct;
    direct_refused = 0;
    struct wal_options o = options(im.disk);
    o.io = &io;
    o.on_entry = NULL; /* only the walk reads */
    struct wal *wal = NULL;
    struct errmsg em;
    assert_int_equal(wal_open(&o, &wal, &em), OK);
    assert_true(direct_refused > 0);
    assert_int_equal(wal_found(wal)->last.index, im.last_index);
    wal_abandon(wal);
    image_free(&im, &s);
}

/* A client cannot write a value that looks like a batch behind a torn one. */
static void test_a_batch_inside_a_value_proves_nothing(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new("/d", 9);
    struct wal_options o = options(m);
    o.on_entry = NULL;
    struct wal *wal = NULL;
    struct errmsg em;
    assert_int_equal(wal_open(&o, &wal, &em), OK);
    kit_run(wal);
    uint64_t begin = wal->writer.offset;
    /* A faithful copy of a batch, but with another salt: the value is chosen without knowing it. */
    static uint8_t value[12288];
    struct wal_batch fake = { .bytes = 4096, .seq = 90, .durable_seq = 89, .segment_seq = 1 };
    for (size_t at = 0; at + 4096 <= sizeof value; at += 128) {
        wal_batch_encode(&fake, NULL, wal_seed(6, 1), value + at);
    }
    struct blob *b = blob_copy((struct slice){ value, sizeof value });
    struct wal_entry e = { .term = 1,
                           .index = 1,
                           .body = blob_slice(b),
                           .blob = b,
                           .crc = crc32c(0, value, sizeof value) };
    wal_submit(wal, &(struct wal_submission){ .entries = &e, .entry_count = 1 });
    blob_unref(b);
    kit_run(wal);
    wal_abandon(wal);
    memset(sim_disk_get(m, segment_name(1))->now + begin, 0, 512); /* torn: the header did not land */
    o = options(m);
    assert_int_equal(wal_open(&o, &wal, &em), OK);
    assert_int_equal(wal_found(wal)->last.index, 0);
    wal_abandon(wal);
    sim_disk_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end_is_durable_before_it_is_reported),
        cmocka_unit_test(test_without_direct_reads_the_cache_serves),
        cmocka_unit_test(test_a_batch_inside_a_value_proves_nothing),
        cmocka_unit_test(test_files_missing_swapped_or_too_many),
        cmocka_unit_test(test_every_torn_end_keeps_the_batches_before),
        cmocka_unit_test(test_each_header_byte_of_a_synced_batch_refuses),
        cmocka_unit_test(test_flipped_bits_and_zeroed_sectors),
        cmocka_unit_test(test_every_shorter_file_is_refused),
    };
    return cmocka_run_group_tests_name("disk/wal_recover", tests, NULL, NULL);
}
