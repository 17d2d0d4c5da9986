/* Files of packs: what was appended comes back, who reads keeps what he needs, what nothing names
 * goes and nothing else does; with one who writes and some who read, and with failing disks. */
#include "store_kit.h"

#include <pthread.h>
#include <sys/resource.h>

#include "../../sim/sim_disk.h"

#define FILE_BYTES_MAX 30000u
#define PACK_MAX 3000u

/* --- packs that can be told apart ----------------------------------------------- */

static void make_pack(struct buf *out, uint64_t number, size_t bytes)
{
    buf_clear(out);
    uint8_t *at = buf_reserve(out, bytes);
    for (size_t i = 0; i < bytes; i++) at[i] = (uint8_t)(u64_mix(number + i / 8) >> i % 8 * 8);
    at[0] = PACK_FORMAT;
    out->len = bytes;
}

static size_t pack_bytes(uint64_t number)
{
    return 1 + u64_mix(number) % PACK_MAX;
}

static bool is_pack(struct slice pack, uint64_t number)
{
    CLEANUP(buf_deinit) struct buf want = { 0 };
    make_pack(&want, number, pack_bytes(number));
    return slice_eq(pack, buf_slice(&want));
}

/* What was appended, in order. */
struct kept {
    struct store_ref refs[400];
    uint64_t numbers[400];
    size_t count;
};

/* Packs `number`, number + 1, ... in one call; kept if it is durable. */
static enum err append(struct store_files *f, uint64_t number, size_t count, struct kept *kept,
                       struct errmsg *em)
{
    struct buf bytes[5] = { { 0 } };
    struct store_file_pack packs[5];
    assert_true(count <= ARRAY_LEN(packs) && kept->count + count <= ARRAY_LEN(kept->refs));
    for (size_t i = 0; i < count; i++) {
        make_pack(&bytes[i], number + i, pack_bytes(number + i));
        packs[i] = (struct store_file_pack){ .pack = buf_slice(&bytes[i]) };
    }
    enum err e = store_files_append(f, packs, count, em);
    for (size_t i = 0; i < count; i++) {
        buf_deinit(&bytes[i]);
        if (e != OK) continue;
        kept->refs[kept->count] = packs[i].ref;
        kept->numbers[kept->count++] = number + i;
    }
    return e;
}

static enum err read_ref(const struct store_files *f, const struct store_file_set *set,
                         const struct store_ref *ref, struct buf *scratch, struct slice *pack,
                         struct errmsg *em)
{
    uint8_t value[STORE_REF_BYTES];
    store_ref_encode(ref, value);
    return store_files_pack(f, set, (struct slice){ value, sizeof value }, scratch, pack, em);
}

static void check_kept(const struct store_files *f, const struct kept *kept)
{
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    for (size_t i = 0; i < kept->count; i++) {
        struct slice pack;
        struct errmsg em = { "" };
        enum err e = read_ref(f, f->set, &kept->refs[i], &scratch, &pack, &em);
        if (e != OK) fail_msg("%s", em.text);
        assert_true(is_pack(pack, kept->numbers[i]));
    }
}

/* As the load does. */
static void find_kept(struct store_files *f, const struct kept *kept)
{
    for (size_t i = 0; i < kept->count; i++) {
        struct errmsg em = { "" };
        if (store_files_found(f, &kept->refs[i], &em) != OK) fail_msg("%s", em.text);
    }
}

static void open_files(struct store_files *f, const char *dir)
{
    struct errmsg em;
    char *packs = kit_join(dir, "packs");
    enum err e = store_files_open(f, disk_io_posix(), packs, FILE_BYTES_MAX, &em);
    if (e != OK) fail_msg("%s", em.text);
    mem_free(packs);
}

/* --- references ------------------------------------------------------------------- */

static bool same_ref(const struct store_ref *a, const struct store_ref *b)
{
    return a->file == b->file && a->offset == b->offset && a->bytes == b->bytes && a->crc == b->crc;
}

static void test_references_are_as_documented(void **state)
{
    (void)state;
    static const uint8_t pinned[STORE_REF_BYTES] = {
        0x46, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13,
        0x12, 0x11, 0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31,
    };
    const struct store_ref want = { .file = 0x01020304, .offset = 0x1112131415161718,
                                    .bytes = 0x21222324, .crc = 0x31323334 };
    uint8_t bytes[STORE_REF_BYTES];
    struct store_ref got;
    store_ref_encode(&want, bytes);
    assert_memory_equal(bytes, pinned, sizeof pinned);
    assert_int_equal(store_ref_decode((struct slice){ pinned, sizeof pinned }, &got), OK);
    assert_true(same_ref(&got, &want));
    uint64_t seed = 1;
    for (int i = 0; i < 1000; i++) {
        struct store_ref ref = { .file = (uint32_t)(1 + kit_random(&seed, UINT32_MAX)),
                                 .offset = kit_random(&seed, INT64_MAX - (uint64_t)UINT32_MAX),
                                 .bytes = (uint32_t)(1 + kit_random(&seed, UINT32_MAX)),
                                 .crc = (uint32_t)kit_random(&seed, 1ULL << 32) };
        store_ref_encode(&ref, bytes);
        assert_int_equal(store_ref_decode((struct slice){ bytes, sizeof bytes }, &got), OK);
        assert_true(same_ref(&got, &ref));
    }
}

static void test_values_that_are_no_reference(void **state)
{
    (void)state;
    uint8_t bytes[STORE_REF_BYTES + 8] = { 0 };
    struct store_ref ref = { .file = 1, .bytes = 1 };
    struct store_ref got;
    store_ref_encode(&ref, bytes);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        enum err want = len == 0 || len == STORE_REF_BYTES ? OK : ERR_CORRUPT;
        got.file = 9;
        assert_int_equal(store_ref_decode((struct slice){ bytes, len }, &got), want);
        if (want == OK) assert_int_equal(got.file, len == 0 ? 0 : 1);
    }
    const struct store_ref wrong[] = {
        { .file = 0, .offset = 5, .bytes = 1 },
        { .file = 1, .offset = 5, .bytes = 0 },
        { .file = 1, .offset = INT64_MAX, .bytes = 1 },
        { .file = 1, .offset = UINT64_MAX, .bytes = 1 },
        { .file = 1, .offset = (uint64_t)INT64_MAX - UINT32_MAX + 1, .bytes = UINT32_MAX },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        store_ref_encode(&wrong[i], bytes);
        assert_int_equal(store_ref_decode((struct slice){ bytes, STORE_REF_BYTES }, &got),
                         ERR_CORRUPT);
    }
    /* A pack, whatever its length. */
    for (size_t len = 1; len <= sizeof bytes; len++) {
        bytes[0] = PACK_FORMAT;
        assert_int_equal(store_ref_decode((struct slice){ bytes, len }, &got), OK);
        assert_int_equal(got.file, 0);
    }
}

/* --- files ------------------------------------------------------------------------- */

/* Where each pack is: those of one call directly behind each other, from a block's beginning on. */
static void check_places(const struct store_files *f, const struct kept *kept,
                         const size_t *first_of_call, size_t calls)
{
    for (size_t call = 0; call < calls; call++) {
        size_t end = call + 1 < calls ? first_of_call[call + 1] : kept->count;
        assert_int_equal(kept->refs[first_of_call[call]].offset % f->block_bytes, 0);
        for (size_t i = first_of_call[call] + 1; i < end; i++) {
            const struct store_ref *before = &kept->refs[i - 1];
            assert_int_equal(kept->refs[i].file, before->file);
            assert_int_equal(kept->refs[i].offset, before->offset + before->bytes);
        }
    }
}

static void test_packs_come_back_from_several_files(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    size_t first_of_call[200];
    size_t calls = 0;
    uint64_t bytes = 0;
    uint64_t live_bytes = 0;
    open_files(&f, dir);
    for (uint64_t number = 1; number < 200; number += 1 + number % 5) {
        first_of_call[calls++] = kept.count;
        assert_int_equal(append(&f, number, 1 + number % 5, &kept, NULL), OK);
    }
    check_kept(&f, &kept);
    check_places(&f, &kept, first_of_call, calls);
    assert_true(f.set->count > 5);
    for (size_t i = 0; i < f.set->count; i++) {
        const struct store_file *file = f.set->files[i];
        assert_int_equal(file->number, i + 1);
        assert_int_equal(kit_pack_file_bytes(dir, file->number), file->bytes);
        assert_int_equal(file->bytes % f.block_bytes, 0);
        assert_true(file->bytes < FILE_BYTES_MAX + 5 * PACK_MAX + f.block_bytes);
        assert_true(file->bytes >= FILE_BYTES_MAX || file == f.current);
        bytes += file->bytes;
        live_bytes += file->live_bytes;
    }
    assert_int_equal(f.bytes, bytes);
    assert_int_equal(f.live_bytes, live_bytes);
    for (size_t i = 0; i < kept.count; i++) live_bytes -= kept.refs[i].bytes;
    assert_int_equal(live_bytes, 0);
    size_t count = f.set->count;
    live_bytes = f.live_bytes;
    assert_int_equal(kit_open_pack_files(dir), count);
    store_files_close(&f);
    assert_int_equal(kit_open_pack_files(dir), 0);
    store_files_close(&f); /* again is nothing */

    open_files(&f, dir);
    assert_int_equal(f.set->count, count);
    assert_int_equal(f.bytes, bytes);
    assert_int_equal(f.live_bytes, 0);
    check_kept(&f, &kept);
    find_kept(&f, &kept);
    assert_int_equal(f.live_bytes, live_bytes);
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    assert_int_equal(f.set->count, count);
    store_files_close(&f);
    kit_remove(dir);
}

/* --- reading in order --------------------------------------------------------------- */

/* What the disk was told. */
static struct hints {
    size_t count;
    uint64_t from;
    uint64_t to;
} hints;

static void note_hint(void *ctx, int fd, uint64_t offset, size_t bytes)
{
    (void)ctx, (void)fd;
    if (hints.count == 0) hints.from = offset;
    if (hints.count > 0) assert_int_equal(offset, hints.to); /* nothing twice, nothing left out */
    hints.to = offset + bytes;
    hints.count++;
}

static void read_at(const struct store_files *f, struct store_ahead *ahead, uint32_t file,
                    uint64_t offset, size_t bytes)
{
    struct store_ref ref = { .file = file, .offset = offset, .bytes = (uint32_t)bytes };
    store_files_ahead(f, f->set, &ref, ahead);
}

static void test_what_follows_is_asked_for(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct kept kept = { .count = 0 };
    struct store_files f;
    struct disk_io io = *disk_io_posix();
    io.will_read = note_hint;
    open_files(&f, dir);
    assert_int_equal(append(&f, 1, 1, &kept, NULL), OK);
    uint32_t file = kept.refs[0].file;
    f.io = &io;

    struct store_ahead ahead = { 0 };
    uint64_t offset = 4096;
    for (uint64_t i = 0; i < 1000; i++) {
        size_t bytes = pack_bytes(i) + (i % 100 == 0 ? STORE_AHEAD_BYTES / 4 : 0);
        hints.count = i == 0 ? 0 : hints.count;
        read_at(&f, &ahead, file, offset, bytes);
        offset += bytes;
        if (i == 0) assert_int_equal(hints.count, 0); /* one alone */
        if (i == 0) continue;
        assert_true(hints.to >= offset + STORE_AHEAD_BYTES / 2);
        assert_true(hints.to <= offset + 2 * STORE_AHEAD_BYTES);
        offset += i % 7 == 0 ? pack_bytes(i) : 0; /* what was there is gone */
    }
    assert_true(hints.from <= 4096 + 2 * PACK_MAX + STORE_AHEAD_BYTES / 4);

    hints.count = 0;
    read_at(&f, &ahead, file, 8192, 100); /* back */
    read_at(&f, &ahead, file, 8292 + STORE_AHEAD_BYTES + 1, 100); /* far ahead */
    read_at(&f, &ahead, 0, 0, 0);                                /* in no file */
    read_at(&f, &ahead, file + 1, 8492 + STORE_AHEAD_BYTES, 100); /* one that is not there */
    assert_int_equal(hints.count, 0);
    read_at(&f, &ahead, file, 8393 + STORE_AHEAD_BYTES, 100); /* the one behind that in the file */
    assert_int_equal(hints.count, 1);
    f.io = disk_io_posix();
    store_files_close(&f);
    kit_remove(dir);
}

/* A file system that knows no direct writes. */
static int refuse_direct(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    if ((flags & DISK_DIRECT) != 0) return -EINVAL;
    return disk_io_posix()->open(ctx, path, flags, fd_out);
}

/* One that takes the file, but not what is written. */
static int refused_fd = -1;

static int accept_direct(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    int answer = disk_io_posix()->open(ctx, path, flags & ~(unsigned)DISK_DIRECT, fd_out);
    if (answer == 0 && (flags & DISK_DIRECT) != 0) refused_fd = *fd_out;
    return answer;
}

static int64_t refuse_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    return fd == refused_fd ? -EINVAL : disk_io_posix()->pwrite(ctx, fd, from, bytes, offset);
}

static int close_refused(void *ctx, int fd)
{
    if (fd == refused_fd) refused_fd = -1;
    return disk_io_posix()->close(ctx, fd);
}

/* Around the ends of blocks and of what is written at once; behind a call's packs is zero. */
static void check_lengths(const struct disk_io *io, uint64_t file_bytes_max)
{
    char *dir = kit_dir();
    char *packs = kit_join(dir, "packs");
    char *path = kit_pack_path(dir, 1);
    struct store_files f;
    struct buf bytes[3] = { { 0 } };
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    assert_int_equal(store_files_open(&f, io, packs, file_bytes_max, NULL), OK);
    assert_true(f.step_bytes >= f.block_bytes && f.step_bytes % f.block_bytes == 0);
    uint64_t end = 0;
    const size_t ends[] = { f.block_bytes, f.step_bytes, 3 * f.step_bytes };
    for (size_t i = 0; i < ARRAY_LEN(ends) * 3; i++) {
        size_t len = ends[i / 3] + i % 3 - 1;
        struct store_file_pack call[3] = { { .ref = { 0 } } };
        size_t sum = 0;
        for (size_t k = 0; k < 3; k++) {
            make_pack(&bytes[k], i * 3 + k, k == 1 ? len : 1 + k * i);
            call[k].pack = buf_slice(&bytes[k]);
            sum += bytes[k].len;
        }
        assert_int_equal(store_files_append(&f, call, 3, NULL), OK);
        struct buf file = kit_read_file(path);
        assert_int_equal(call[0].ref.offset, end);
        end += sum + f.block_bytes - 1;
        end -= end % f.block_bytes;
        assert_int_equal(file.len, end);
        for (size_t at = call[0].ref.offset + sum; at < end; at++) assert_int_equal(file.at[at], 0);
        for (size_t k = 0; k < 3; k++) {
            struct slice pack;
            assert_int_equal(read_ref(&f, f.set, &call[k].ref, &scratch, &pack, NULL), OK);
            assert_true(slice_eq(pack, call[k].pack));
        }
        buf_deinit(&file);
    }
    for (size_t k = 0; k < 3; k++) buf_deinit(&bytes[k]);
    store_files_close(&f);
    mem_free(path);
    mem_free(packs);
    kit_remove(dir);
}

static void test_packs_of_any_length(void **state)
{
    (void)state;
    struct disk_io buffered = *disk_io_posix();
    buffered.open = refuse_direct;
    check_lengths(disk_io_posix(), 1 << 20);
    check_lengths(disk_io_posix(), 8 << 20); /* steps of several blocks */
    check_lengths(&buffered, 1 << 20);
    buffered.open = accept_direct;
    buffered.pwrite = refuse_pwrite;
    buffered.close = close_refused;
    check_lengths(&buffered, 1 << 20);
    assert_int_equal(refused_fd, -1);
}

static void test_a_pack_itself_is_not_copied(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    CLEANUP(buf_deinit) struct buf value = { 0 };
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    struct slice pack;
    open_files(&f, dir);
    make_pack(&value, 1, STORE_REF_BYTES);
    assert_int_equal(store_files_pack(&f, f.set, buf_slice(&value), &scratch, &pack, NULL), OK);
    assert_ptr_equal(pack.at, value.at);
    assert_int_equal(pack.len, value.len);
    store_files_close(&f);
    kit_remove(dir);
}

/* Whatever is behind the last reference: also when it is most of the file. */
static void test_the_next_process_begins_a_file_of_its_own(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    uint64_t bytes[5] = { 0 }; /* of each file when its process was gone */
    for (uint32_t process = 1; process <= 4; process++) {
        open_files(&f, dir);
        find_kept(&f, &kept);
        assert_int_equal(append(&f, process * 10, 2, &kept, NULL), OK);
        assert_int_equal(kept.refs[kept.count - 1].file, process);
        assert_int_equal(append(&f, process * 10 + 2, 2, &kept, NULL), OK);
        assert_int_equal(kept.refs[kept.count - 1].file, process);
        store_files_close(&f);
        for (uint32_t file = 1; file < process; file++) {
            assert_int_equal(kit_pack_file_bytes(dir, file), bytes[file]);
        }
        char *path = kit_pack_path(dir, process);
        struct buf content = kit_read_file(path);
        memset(buf_reserve(&content, 5000), (int)process, 5000);
        content.len += 5000;
        kit_write_file(path, buf_slice(&content));
        bytes[process] = content.len;
        buf_deinit(&content);
        mem_free(path);
    }
    open_files(&f, dir);
    find_kept(&f, &kept);
    check_kept(&f, &kept);
    assert_int_equal(f.bytes, bytes[1] + bytes[2] + bytes[3] + bytes[4]);
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    assert_int_equal(f.set->count, 4);
    store_files_close(&f);
    kit_remove(dir);
}

/* Not ours, or not what we would have written: not opened, not removed, not in the way. */
static void test_unknown_names_are_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {
        "LOCK", ".packs", "1.packs", "000000001.packs", "0000000001.packs.tmp",
        "0000000001.PACKS", "0000000001packs", "0000000001", "x0000000001.packs",
        "000000000a.packs", " 000000001.packs", "+000000001.packs", "-000000001.packs",
        "0000000000.packs", "00000000001.packs", "0000000000000000001.packs",
        "00000000000000000001.packs", "99999999999999999999.packs", "10000000001.packs",
        "4294967295.packs", "4294967296.packs", "9999999999.packs",
    };
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    open_files(&f, dir);
    assert_int_equal(append(&f, 1, 3, &kept, NULL), OK);
    store_files_close(&f);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        kit_put_pack_file(dir, names[i], SLICE_LIT("not a pack"));
    }
    open_files(&f, dir);
    assert_int_equal(f.set->count, 1);
    find_kept(&f, &kept);
    assert_int_equal(append(&f, 10, 1, &kept, NULL), OK);
    assert_int_equal(kept.refs[kept.count - 1].file, 2);
    check_kept(&f, &kept);
    for (size_t i = 0; i < kept.count; i++) {
        store_files_release(&f, kept.refs[i].file, kept.refs[i].bytes);
    }
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    assert_int_equal(f.set->count, 0);
    store_files_close(&f);
    assert_int_equal(kit_pack_files(dir), ARRAY_LEN(names));
    kit_remove(dir);
}

/* Behind the largest number no file can be begun. */
static void test_numbers_end(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    open_files(&f, dir);
    store_files_close(&f);
    kit_put_pack_file(dir, "4294967293.packs", SLICE_LIT("x"));
    kit_put_pack_file(dir, "1000000000.packs", SLICE_LIT("x"));
    kit_put_pack_file(dir, "0000000009.packs", SLICE_LIT("x"));
    open_files(&f, dir);
    assert_int_equal(f.set->count, 3);
    assert_int_equal(f.set->files[0]->number, 9);
    assert_int_equal(f.set->files[1]->number, 1000000000);
    while (kept.count == 0 || f.current != NULL) {
        assert_int_equal(append(&f, kept.count, 5, &kept, NULL), OK);
        assert_int_equal(kept.refs[kept.count - 1].file, 4294967294);
    }
    assert_int_equal(append(&f, 1000, 1, &kept, NULL), ERR_LIMIT);
    check_kept(&f, &kept);
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    store_files_close(&f);
    assert_int_equal(kit_pack_files(dir), 1);
    kit_remove(dir);
}

static void test_what_cannot_be_is_refused(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    open_files(&f, dir);
    assert_int_equal(append(&f, 1, 3, &kept, NULL), OK);
    struct store_ref right = kept.refs[1];
    struct store_ref away = right, behind = right, over = right, far = right, all = right;
    struct store_ref wrong = right, moved = right, longer = right;
    uint64_t end = f.bytes;
    uint64_t live_bytes = f.live_bytes;
    away.file = 2;
    behind.offset = end;
    over.offset = end - right.bytes + 1;
    far.offset = (uint64_t)INT64_MAX - right.bytes;
    all.offset = 0;
    all.bytes = (uint32_t)end + 1;
    wrong.crc = ~right.crc;
    moved.offset++;
    longer.bytes++;
    const struct {
        struct store_ref ref;
        bool found; /* is it refused by store_files_found too? */
        const char *want;
    } cases[] = {
        { away, true, "packs/0000000002.packs: missing" },
        { behind, true, "cut short" },
        { over, true, "cut short" },
        { far, true, "cut short" },
        { all, true, "0000000001.packs offset 0: damaged" },
        { wrong, false, "0000000001.packs offset" },
        { moved, false, "does not have its CRC" },
        { longer, false, "does not have its CRC" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct errmsg em = { "" };
        struct slice pack;
        enum err e = read_ref(&f, f.set, &cases[i].ref, &scratch, &pack, &em);
        bool as_wanted = e == ERR_CORRUPT && strstr(em.text, cases[i].want) != NULL;
        if (!as_wanted) fail_msg("case %zu: %s: %s", i, err_name(e), em.text);
        if (!cases[i].found) continue;
        em.text[0] = '\0';
        assert_int_equal(store_files_found(&f, &cases[i].ref, &em), ERR_CORRUPT);
        assert_non_null(strstr(em.text, i == 0 ? cases[i].want : "it ends before the pack"));
    }
    assert_int_equal(f.live_bytes, live_bytes);
    check_kept(&f, &kept);
    store_files_close(&f);
    kit_remove(dir);
}

static void release(struct store_files *f, const struct kept *kept, size_t i)
{
    store_files_release(f, kept->refs[i].file, kept->refs[i].bytes);
}

static void test_dead_files_go_and_sparse_ones_are_told(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    open_files(&f, dir);
    while (f.set->count < 4) assert_int_equal(append(&f, 1 + kept.count, 5, &kept, NULL), OK);
    assert_int_equal(store_files_sparse(&f, false), 0);
    assert_ptr_equal(f.current, f.set->files[3]);

    /* The third, pack by pack: at less than a half, and no longer when it is dead. */
    for (size_t i = 0; i < kept.count; i++) {
        if (kept.refs[i].file != 3) continue;
        const struct store_file *file = f.set->files[2];
        release(&f, &kept, i);
        bool sparse = file->live_bytes != 0 && file->live_bytes < file->bytes / 2;
        bool much_dead = f.bytes - f.live_bytes > f.live_bytes / 2 + f.file_bytes_max;
        assert_int_equal(store_files_sparse(&f, true), sparse && much_dead ? 3 : 0);
        assert_int_equal(store_files_sparse(&f, false), sparse ? 3 : 0);
        if (file->live_bytes == 0) continue;
        assert_int_equal(store_files_drop_dead(&f, NULL), OK);
        assert_true(kit_pack_is_there(dir, 3));
    }
    assert_true(kit_pack_is_there(dir, 3));
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    assert_false(kit_pack_is_there(dir, 3));
    assert_int_equal(f.set->count, 3);

    /* The one that is appended to: dead, then a new one begins. */
    for (size_t i = 0; i < kept.count; i++) {
        if (kept.refs[i].file == 4) release(&f, &kept, i);
    }
    assert_int_equal(store_files_sparse(&f, false), 0);
    assert_int_equal(store_files_drop_dead(&f, NULL), OK);
    assert_false(kit_pack_is_there(dir, 4));
    assert_int_equal(append(&f, 1000, 5, &kept, NULL), OK);
    assert_int_equal(kept.refs[kept.count - 1].file, 5);
    /* Or sparse, and is left as it is. */
    for (size_t i = kept.count - 5; i < kept.count - 1; i++) release(&f, &kept, i);
    const struct store_file *last = f.set->files[f.set->count - 1];
    assert_true(last->live_bytes < last->bytes / 2);
    assert_ptr_equal(f.current, last);
    assert_int_equal(store_files_sparse(&f, true), 0); /* little beside what lives */
    assert_int_equal(store_files_sparse(&f, false), 5);
    assert_int_equal(append(&f, 1005, 1, &kept, NULL), OK);
    assert_int_equal(kept.refs[kept.count - 1].file, 6);
    assert_int_equal(store_files_sparse(&f, false), 5);
    assert_int_equal(kit_open_pack_files(dir), 4);
    uint64_t bytes = 0;
    for (size_t i = 0; i < f.set->count; i++) {
        bytes += kit_pack_file_bytes(dir, f.set->files[i]->number);
    }
    assert_int_equal(f.bytes, bytes);
    store_files_close(&f);
    kit_remove(dir);
}

/* While it can wait, a sparse file is told only when much is dead in all of them. */
static void test_sparse_files_wait_until_they_are_many(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct kept kept = { .count = 0 };
    bool told = false;
    open_files(&f, dir);
    while (f.set->count < 7) assert_int_equal(append(&f, 1 + kept.count, 5, &kept, NULL), OK);
    for (size_t i = 0; i < kept.count; i++) {
        if (kept.refs[i].file == 7 || i % 8 < 2) continue;
        release(&f, &kept, i);
        uint32_t sparse = store_files_sparse(&f, false);
        bool much_dead = f.bytes - f.live_bytes > f.live_bytes / 2 + f.file_bytes_max;
        assert_int_equal(store_files_sparse(&f, true), much_dead ? sparse : 0);
        told = told || (much_dead && sparse != 0);
    }
    assert_true(told);
    store_files_close(&f);
    kit_remove(dir);
}

/* Each process begins one. When they are many the smallest is told, but for one of a good size and
 * the one that is appended to. */
static void test_many_small_files_are_told(void **state)
{
    (void)state;
    enum { MANY = STORE_FILES_MAX / 2 };
    char *dir = kit_dir();
    char *packs = kit_join(dir, "packs");
    struct store_files f;
    struct kept kept = { .count = 0 };
    struct store_file_pack all = { .ref = { 0 } }; /* as long as a block */
    CLEANUP(buf_deinit) struct buf pack = { 0 };
    for (uint32_t process = 1; process <= MANY + 1; process++) {
        assert_int_equal(store_files_open(&f, disk_io_posix(), packs, 1 << 20, NULL), OK);
        find_kept(&f, &kept);
        uint32_t less = process == 77 ? 1 : process == MANY + 1 ? 2 : 0;
        make_pack(&pack, process, f.block_bytes - less);
        all.pack = buf_slice(&pack);
        assert_int_equal(store_files_append(&f, &all, 1, NULL), OK);
        kept.refs[kept.count++] = all.ref;
        assert_int_equal(store_files_sparse(&f, process % 2 == 0), process <= MANY ? 0 : 77);
        store_files_close(&f);
    }
    assert_int_equal(store_files_open(&f, disk_io_posix(), packs, 1 << 20, NULL), OK);
    find_kept(&f, &kept);
    assert_int_equal(store_files_sparse(&f, false), MANY + 1);
    store_files_close(&f);
    assert_int_equal(store_files_open(&f, disk_io_posix(), packs, 4 * f.block_bytes, NULL), OK);
    find_kept(&f, &kept);
    assert_int_equal(store_files_sparse(&f, false), 0);
    store_files_close(&f);
    mem_free(packs);
    kit_remove(dir);
}

/* No more of them than the limit; nothing is done then, and what has room is still appended to. */
static void test_no_file_beyond_the_limits(void **state)
{
    (void)state;
    char *dir = kit_dir();
    struct store_files f;
    struct rlimit old, small;
    static struct kept kept;
    kept.count = 0;
    open_files(&f, dir);
    store_files_close(&f);
    for (int i = 1; i < (int)STORE_FILES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "%010d.packs", i);
        kit_put_pack_file(dir, name, SLICE_LIT("x"));
    }
    open_files(&f, dir);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    small = (struct rlimit){ .rlim_cur = STORE_FILES_MAX / 2, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    enum err e = append(&f, 1, 1, &kept, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(e, ERR_LIMIT);
    assert_null(f.current);
    assert_false(kit_pack_is_there(dir, STORE_FILES_MAX));
    while (kept.count == 0 || f.current != NULL) {
        assert_int_equal(append(&f, kept.count, 5, &kept, NULL), OK);
        assert_int_equal(kept.refs[kept.count - 1].file, STORE_FILES_MAX);
    }
    assert_int_equal(append(&f, 1000, 1, &kept, NULL), ERR_LIMIT);
    assert_int_equal(f.set->count, STORE_FILES_MAX);
    assert_int_equal(kit_pack_files(dir), STORE_FILES_MAX);
    check_kept(&f, &kept);
    assert_int_equal(store_files_drop_dead(&f, NULL), OK); /* all but one */
    assert_int_equal(append(&f, 1000, 1, &kept, NULL), OK);
    assert_int_equal(kept.refs[kept.count - 1].file, STORE_FILES_MAX + 1);
    check_kept(&f, &kept);
    store_files_close(&f);
    kit_remove(dir);
}

/* --- views -------------------------------------------------------------------------- */

/* rows/ and packs/, without the rest of a store. */
struct pair {
    char *dir;
    struct store_db rows;
    struct store_files f;
};

static void pair_open(struct pair *p, uint64_t file_bytes_max)
{
    p->dir = kit_dir();
    p->rows = kit_open_db(p->dir, "rows");
    char *packs = kit_join(p->dir, "packs");
    enum err e = store_files_open(&p->f, disk_io_posix(), packs, file_bytes_max, NULL);
    assert_int_equal(e, OK);
    mem_free(packs);
}

static void pair_close(struct pair *p)
{
    store_files_close(&p->f);
    store_db_close(&p->rows);
    kit_remove(p->dir);
}

/* Puts references [from, to) of kept to rows/, durably; or removes them there and here. */
static void write_refs(struct pair *p, const struct kept *kept, size_t from, size_t to, bool put)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    for (size_t i = from; i < to; i++) {
        struct store_pack_key key = store_pack_key(kept->numbers[i], 1);
        uint8_t value[STORE_REF_BYTES];
        store_ref_encode(&kept->refs[i], value);
        if (put) {
            leveldb_writebatch_put(batch, (const char *)key.at, sizeof key.at, (const char *)value,
                                   sizeof value);
        } else {
            leveldb_writebatch_delete(batch, (const char *)key.at, sizeof key.at);
            release(&p->f, kept, i);
        }
    }
    assert_int_equal(store_db_write(&p->rows, batch, NULL), OK);
    leveldb_writebatch_destroy(batch);
}

/* What a view showed. */
struct seen {
    size_t packs;
    uint64_t first, last; /* numbers */
    size_t unnamed;       /* files of the set that none of them is in */
    struct errmsg em;     /* what is wrong, if anything */
};

static void look_at_pack(struct pair *p, const struct store_rows_view *view, struct slice key,
                         struct slice value, struct buf *scratch, struct seen *seen, bool *named)
{
    uint64_t number = 0;
    uint32_t n = 0;
    struct slice pack;
    struct store_ref ref;
    if (!store_pack_key_read(key, &number, &n) || store_ref_decode(value, &ref) != OK) {
        errmsg_set(&seen->em, "what is in rows/ is damaged");
        return;
    }
    if (store_files_pack(&p->f, view->set, value, scratch, &pack, &seen->em) != OK) return;
    if (!is_pack(pack, number)) errmsg_set(&seen->em, "pack %" PRIu64 " is another", number);
    if (seen->packs++ == 0) seen->first = number;
    seen->last = number;
    for (size_t i = 0; i < view->set->count; i++) {
        if (view->set->files[i]->number == ref.file) named[i] = true;
    }
}

/* Reads all packs of a view, or the first and the last. */
static void look(struct pair *p, const struct store_rows_view *view, bool all, struct seen *seen)
{
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    bool named[1024] = { false };
    *seen = (struct seen){ .em = { "" } };
    leveldb_readoptions_t *options = leveldb_readoptions_create();
    leveldb_readoptions_set_snapshot(options, view->snapshot);
    leveldb_iterator_t *it = leveldb_create_iterator(p->rows.db, options);
    if (view->set->count > ARRAY_LEN(named)) errmsg_set(&seen->em, "too many files");
    leveldb_iter_seek_to_first(it);
    while (leveldb_iter_valid(it) && seen->em.text[0] == '\0') {
        struct slice value = store_db_iter_value(it);
        look_at_pack(p, view, store_db_iter_key(it), value, &scratch, seen, named);
        if (all || seen->packs != 1) {
            leveldb_iter_next(it);
        } else {
            leveldb_iter_seek_to_last(it);
        }
    }
    leveldb_iter_destroy(it);
    leveldb_readoptions_destroy(options);
    for (size_t i = 0; i < view->set->count; i++) seen->unnamed += !named[i];
}

static void check_view(struct pair *p, const struct store_rows_view *view, size_t packs)
{
    struct seen seen;
    look(p, view, true, &seen);
    if (seen.em.text[0] != '\0') fail_msg("%s", seen.em.text);
    assert_int_equal(seen.packs, packs);
}

static void test_a_view_holds_files_whose_names_are_gone(void **state)
{
    (void)state;
    struct pair p;
    struct kept kept = { .count = 0 };
    struct store_rows_view empty, all, same, some;
    pair_open(&p, FILE_BYTES_MAX);
    store_files_view(&p.f, p.rows.db, &empty);
    while (p.f.set->count < 4) assert_int_equal(append(&p.f, 1 + kept.count, 5, &kept, NULL), OK);
    write_refs(&p, &kept, 0, kept.count, true);
    store_files_view(&p.f, p.rows.db, &all);
    store_files_view(&p.f, p.rows.db, &same);
    assert_ptr_equal(all.set, same.set);

    size_t first_of_3 = 0;
    while (kept.refs[first_of_3].file != 3) first_of_3++;
    write_refs(&p, &kept, 0, first_of_3, false);
    assert_int_equal(store_files_drop_dead(&p.f, NULL), OK);
    store_files_view(&p.f, p.rows.db, &some);
    assert_false(kit_pack_is_there(p.dir, 1) || kit_pack_is_there(p.dir, 2));
    assert_true(kit_pack_is_there(p.dir, 3) && kit_pack_is_there(p.dir, 4));
    assert_int_equal(p.f.set->count, 2);
    assert_int_equal(kit_open_pack_files(p.dir), 4);
    check_view(&p, &empty, 0);
    check_view(&p, &all, kept.count);
    check_view(&p, &some, kept.count - first_of_3);

    write_refs(&p, &kept, first_of_3, kept.count, false);
    assert_int_equal(store_files_drop_dead(&p.f, NULL), OK);
    assert_int_equal(kit_pack_files(p.dir), 0);
    assert_int_equal(kit_open_pack_files(p.dir), 4);
    check_view(&p, &same, kept.count);
    check_view(&p, &some, kept.count - first_of_3);
    store_files_view_free(&p.f, p.rows.db, &all);
    store_files_close_dropped(&p.f);
    assert_int_equal(kit_open_pack_files(p.dir), 4); /* one more has them */
    check_view(&p, &same, kept.count);
    store_files_view_free(&p.f, p.rows.db, &same);
    assert_null(same.set);
    assert_int_equal(kit_open_pack_files(p.dir), 4); /* not on the loop */
    store_files_close_dropped(&p.f);
    assert_int_equal(kit_open_pack_files(p.dir), 2);
    check_view(&p, &some, kept.count - first_of_3);
    store_files_view_free(&p.f, p.rows.db, &some);
    store_files_close_dropped(&p.f);
    store_files_close_dropped(&p.f);
    assert_int_equal(kit_open_pack_files(p.dir), 0);
    store_files_view_free(&p.f, p.rows.db, &empty);
    pair_close(&p);
}

/* --- one who writes, some who read ---------------------------------------------------- */

#define WRITER_ROUNDS KIT_ROUNDS(6000)
#define LIVE_MAX 30u
#define GONE_MAX 5u
#define LOOK_ALL_EACH 16u /* of the views; most are quick, so that they are many */

struct threads {
    struct pair p;
    bool ended; /* atomic */
};

struct looker {
    pthread_t thread;
    struct threads *all;
    size_t views, packs;
    struct errmsg em;
};

/* A view's packs are numbered without a gap, and each is there; its set has no more files than
 * these need, but for one just begun and those just emptied. */
static void *looker_main(void *arg)
{
    struct looker *l = arg;
    struct pair *p = &l->all->p;
    uint64_t last = 0;
    while (l->em.text[0] == '\0' && !__atomic_load_n(&l->all->ended, __ATOMIC_SEQ_CST)) {
        struct store_rows_view view;
        struct seen seen;
        bool all = l->views % LOOK_ALL_EACH == 0;
        store_files_view(&p->f, p->rows.db, &view);
        look(p, &view, all, &seen);
        store_files_view_free(&p->f, p->rows.db, &view);
        if (l->views % 2 == 0) store_files_close_dropped(&p->f); /* the others leave it to these */
        l->em = seen.em;
        l->views++;
        l->packs += seen.packs;
        if (l->em.text[0] != '\0' || seen.packs == 0) continue;
        if (seen.last < last) errmsg_set(&l->em, "an older view");
        last = seen.last;
        if (!all) continue;
        if (seen.last - seen.first + 1 != seen.packs) errmsg_set(&l->em, "a gap");
        if (seen.unnamed > 1 + GONE_MAX) errmsg_set(&l->em, "%zu files too many", seen.unnamed);
    }
    return NULL;
}

/* The store's thread. */
static void write_rounds(struct threads *t)
{
    struct store_files *f = &t->p.f;
    static struct kept kept; /* too large for a small stack */
    uint64_t number = 1;
    kept.count = 0;
    for (size_t round = 0; round < WRITER_ROUNDS; round++) {
        size_t from = kept.count;
        assert_int_equal(append(f, number, 1 + round % 4, &kept, NULL), OK);
        number += 1 + round % 4;
        write_refs(&t->p, &kept, from, kept.count, true);
        if (kept.count <= LIVE_MAX) continue;
        size_t gone = 1 + round % GONE_MAX;
        write_refs(&t->p, &kept, 0, gone, false);
        assert_int_equal(store_files_drop_dead(f, NULL), OK);
        kept.count -= gone;
        memmove(kept.refs, kept.refs + gone, kept.count * sizeof *kept.refs);
        memmove(kept.numbers, kept.numbers + gone, kept.count * sizeof *kept.numbers);
        if (round % 16 == 0) check_kept(f, &kept);
    }
}

static void test_a_view_has_what_its_snapshot_names(void **state)
{
    (void)state;
    struct threads t = { .ended = false };
    struct looker lookers[4] = { { .views = 0 } };
    pair_open(&t.p, 1); /* a file for each call: they come and go all the time */
    for (size_t i = 0; i < ARRAY_LEN(lookers); i++) {
        lookers[i] = (struct looker){ .all = &t, .em = { "" } };
        assert_int_equal(pthread_create(&lookers[i].thread, NULL, looker_main, &lookers[i]), 0);
    }
    write_rounds(&t);
    __atomic_store_n(&t.ended, true, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < ARRAY_LEN(lookers); i++) {
        assert_int_equal(pthread_join(lookers[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(lookers); i++) {
        if (lookers[i].em.text[0] != '\0') fail_msg("%s", lookers[i].em.text);
        assert_true(lookers[i].views > 0);
    }
    assert_int_equal(t.p.f.next_number, WRITER_ROUNDS + 1);
    store_files_close_dropped(&t.p.f);
    assert_int_equal(kit_open_pack_files(t.p.dir), t.p.f.set->count);
    pair_close(&t.p);
}

/* --- failing disks --------------------------------------------------------------------- */

#define SIM_DIR "/files"

static enum err open_on(struct sim_disk *m, struct store_files *f, struct errmsg *em)
{
    return store_files_open(f, sim_disk_io(m), SIM_DIR "/packs", 12000, em);
}

/* Some batches, and the packs of the first file go on the way. Until something fails. */
static enum err use_files(struct store_files *f, struct kept *kept, struct errmsg *em)
{
    for (uint64_t i = 0; i < 8; i++) {
        TRY(append(f, i * 10, 1 + i % 3, kept, em));
        if (i != 5) continue;
        size_t gone = 0;
        while (kept->refs[gone].file == kept->refs[0].file) release(f, kept, gone++);
        kept->count -= gone;
        memmove(kept->refs, kept->refs + gone, kept->count * sizeof *kept->refs);
        memmove(kept->numbers, kept->numbers + gone, kept->count * sizeof *kept->numbers);
        TRY(store_files_drop_dead(f, em));
    }
    return OK;
}

/* What was durable is there after power was lost, and what nothing names can go. */
static void check_after_crash(struct sim_disk *m, const struct kept *kept)
{
    struct store_files f;
    struct errmsg em;
    size_t named = 0;
    if (open_on(m, &f, &em) != OK) fail_msg("%s", em.text);
    for (size_t i = 0; i < kept->count; i++) {
        named += i == 0 || kept->refs[i].file != kept->refs[i - 1].file;
    }
    find_kept(&f, kept);
    check_kept(&f, kept);
    assert_int_equal(store_files_drop_dead(&f, &em), OK);
    assert_int_equal(f.set->count, named);
    check_kept(&f, kept);
    struct kept more = *kept;
    assert_int_equal(append(&f, 500, 2, &more, &em), OK);
    uint64_t newest = kept->count == 0 ? 0 : kept->refs[kept->count - 1].file;
    assert_true(more.refs[kept->count].file > newest);
    check_kept(&f, &more);
    store_files_close(&f);
}

/* False: so many operations there are not. */
static bool fail_at(uint64_t n, enum sim_fault fault, uint64_t seed)
{
    struct sim_disk *m = sim_disk_new(SIM_DIR, seed);
    struct store_files f;
    struct kept kept = { .count = 0 };
    struct errmsg em = { "" };
    sim_disk_fail_nth(m, n, fault, EIO);
    enum err e = open_on(m, &f, &em);
    if (e == OK) {
        e = use_files(&f, &kept, &em);
        store_files_close(&f);
    }
    bool hit = sim_disk_fault_hit(m);
    if (e != OK) assert_true(hit && em.text[0] != '\0');
    if (fault == SIM_FAIL) assert_int_equal(e != OK, hit);
    sim_disk_crash(m, seed);
    check_after_crash(m, &kept);
    sim_disk_free(m);
    return hit;
}

static void test_every_failing_operation(void **state)
{
    (void)state;
    static const enum sim_fault faults[] = { SIM_FAIL, SIM_SHORT, SIM_CRASH };
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (uint64_t seed = 1; seed <= KIT_ROUNDS(10); seed++) {
            uint64_t n = 1;
            while (fail_at(n, faults[i], seed)) n++;
            assert_true(n > 30);
        }
    }
}

static void test_every_failing_read_of_an_open(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new(SIM_DIR, 1);
    struct store_files f;
    struct kept kept = { .count = 0 };
    struct errmsg em;
    assert_int_equal(open_on(m, &f, &em), OK);
    assert_int_equal(use_files(&f, &kept, &em), OK);
    store_files_close(&f);
    uint64_t n = 1;
    for (;; n++) {
        sim_disk_fail_read_nth(m, n, EIO);
        enum err e = open_on(m, &f, &em);
        if (e == OK) break;
        assert_int_equal(e, ERR_IO);
        assert_non_null(strstr(em.text, SIM_DIR "/packs"));
        sim_disk_kill(m); /* no file is open */
    }
    assert_true(n > 2);
    sim_disk_fail_read_nth(m, 0, 0);
    find_kept(&f, &kept);
    check_kept(&f, &kept);
    sim_disk_fail_read_nth(m, 1, EIO);
    CLEANUP(buf_deinit) struct buf scratch = { 0 };
    struct slice pack;
    assert_int_equal(read_ref(&f, f.set, &kept.refs[0], &scratch, &pack, &em), ERR_IO);
    assert_non_null(strstr(em.text, ".packs"));
    store_files_close(&f);
    sim_disk_free(m);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    struct sim_disk *m = sim_disk_new(SIM_DIR, 1);
    struct store_files f;
    struct kept kept = { .count = 0 };
    struct errmsg em = { "" };
    enum err e = OK;
    assert_int_equal(open_on(m, &f, &em), OK);
    sim_disk_set_free_bytes(m, 10 * 4096);
    for (uint64_t i = 0; e == OK; i++) e = append(&f, i * 10, 3, &kept, &em);
    assert_int_equal(e, ERR_NOSPACE);
    assert_non_null(strstr(em.text, ".packs"));
    assert_true(kept.count > 3);
    check_kept(&f, &kept);
    store_files_close(&f);
    sim_disk_set_free_bytes(m, UINT64_MAX);
    sim_disk_crash(m, 3);
    check_after_crash(m, &kept);
    sim_disk_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_are_as_documented),
        cmocka_unit_test(test_values_that_are_no_reference),
        cmocka_unit_test(test_packs_come_back_from_several_files),
        cmocka_unit_test(test_packs_of_any_length),
        cmocka_unit_test(test_a_pack_itself_is_not_copied),
        cmocka_unit_test(test_the_next_process_begins_a_file_of_its_own),
        cmocka_unit_test(test_unknown_names_are_left_alone),
        cmocka_unit_test(test_numbers_end),
        cmocka_unit_test(test_what_cannot_be_is_refused),
        cmocka_unit_test(test_dead_files_go_and_sparse_ones_are_told),
        cmocka_unit_test(test_sparse_files_wait_until_they_are_many),
        cmocka_unit_test(test_many_small_files_are_told),
        cmocka_unit_test(test_no_file_beyond_the_limits),
        cmocka_unit_test(test_what_follows_is_asked_for),
        cmocka_unit_test(test_a_view_holds_files_whose_names_are_gone),
        cmocka_unit_test(test_a_view_has_what_its_snapshot_names),
        cmocka_unit_test(test_every_failing_operation),
        cmocka_unit_test(test_every_failing_read_of_an_open),
        cmocka_unit_test(test_a_full_disk),
    };
    return cmocka_run_group_tests_name("disk/store_files", tests, NULL, NULL);
}
