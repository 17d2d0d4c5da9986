/* Fuzzes recovery: the input is a list of changes to the files of a good log, or a segment itself.
 * Whatever the bytes: no crash, no read beyond a buffer; what is accepted passes every check, can
 * be read back, can be appended to, and is found again. With the damage described as changes,
 * synced entries may not vanish silently either.
 *
 * As a libFuzzer target, or with -DFUZZ_STANDALONE: `wal_fuzz FILE...` replays inputs,
 * `wal_fuzz -r SEED COUNT` makes its own. */
#include "fuzz_main.h"

#include "../sim/sim_disk.h"
#include "disk/wal_int.h"

#define DIR_NAME        "/d"
#define INPUT_BYTES_MAX (192u << 10)
#define BATCHES         12

static enum err on_entry(void *ctx, const struct wal_entry *e)
{
    uint64_t *last = ctx;
    ASSERT(*last == 0 || e->index == *last + 1);
    ASSERT(crc32c(0, e->body.at, e->body.len) == e->crc);
    *last = e->index;
    return OK;
}

static enum err reopen(struct sim_disk *m, uint64_t *last, struct wal **out)
{
    *last = 0;
    struct wal_options o = { .dir = DIR_NAME,
                             .io = sim_disk_io(m),
                             .create = true,
                             .cluster_id = 1,
                             .member_id = 2,
                             .salt = 3,
                             .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                             .backend = WAL_BACKEND_MANUAL,
                             .on_entry = on_entry,
                             .ctx = last };
    struct errmsg em = { "" };
    enum err e = wal_open(&o, out, &em);
    ASSERT(e == OK || em.text[0] != '\0');
    return e;
}

static void append(struct wal *wal)
{
    struct blob *b = blob_new(5000);
    b->len = 5000;
    memset(b->at, 0x5a, b->len);
    struct wal_mark last = wal_last_durable(wal);
    struct wal_entry e = { .term = MAX(last.term, (uint64_t)1),
                           .index = last.index + 1,
                           .blob = b,
                           .body = blob_slice(b),
                           .crc = crc32c(0, b->at, b->len) };
    if (e.index != 0 && e.index < UINT64_MAX / 2) {
        wal_submit(wal, &(struct wal_submission){ .entries = &e, .entry_count = 1 });
    }
    blob_unref(b);
    while (wal_step(wal)) {
    }
    struct wal_done done;
    wal_poll(wal, &done);
    wal_check(wal);
}

static struct sim_disk *good_log(uint64_t *last)
{
    struct sim_disk *m = sim_disk_new("/d", 1);
    struct wal *wal = NULL;
    enum err e = reopen(m, last, &wal);
    ASSERT(e == OK);
    for (int i = 0; i < BATCHES; i++) append(wal);
    *last = wal_last_durable(wal).index;
    wal_close(wal); /* so that the last batch is proven */
    sim_disk_settle(m);
    return m;
}

/* Eight bytes a change: which file, what, where. Returns whether a tail was zeroed, which looks as
 * if nothing had been written there. */
static bool changes_apply(struct sim_disk *m, const uint8_t *data, size_t size)
{
    bool tail_zeroed = false;
    for (; size >= 8; data += 8, size -= 8) {
        char path[DISK_PATH_BYTES_MAX];
        wal_segment_path(DIR_NAME, 1 + data[0] % 3, path);
        struct sim_file *f = sim_disk_get(m, path);
        if (f == NULL || f->now_bytes == 0) continue;
        size_t at = u32_le(data + 4) % f->now_bytes;
        uint8_t what = data[1] % 6;
        if (what == 0) f->now[at] ^= (uint8_t)(1u << data[2] % 8);
        if (what == 1) f->now[at] = data[2];
        if (what == 2) memset(f->now + at / 512 * 512, 0, 512);
        if (what == 3) sim_disk_resize(m, f, at);
        if (what == 4) memset(f->now + at, 0, f->now_bytes - at);
        if (what == 5) sim_disk_io(m)->unlink(m, path);
        tail_zeroed |= what >= 4;
    }
    sim_disk_settle(m);
    return tail_zeroed;
}

/* The input as the first segment, its header and first batch's checksums repaired, so that what is
 * behind the checksums is met too. */
static void segment_put(struct sim_disk *m, const uint8_t *data, size_t size)
{
    int fd = -1;
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(DIR_NAME, 1, path);
    int answer = sim_disk_io(m)->open(m, path, DISK_WRITE | DISK_CREATE, &fd);
    ASSERT(answer == 0);
    struct wal_segment_head head = { .version = WAL_VERSION,
                                     .block_bytes = 4096,
                                     .cluster_id = 1,
                                     .member_id = 2,
                                     .seq = 1,
                                     .segment_bytes = WAL_SEGMENT_BYTES_MIN,
                                     .salt = 3 };
    uint8_t raw[WAL_SEGMENT_HEAD_BYTES];
    wal_segment_head_encode(&head, raw);
    sim_disk_io(m)->allocate(m, fd, WAL_SEGMENT_BYTES_MIN);
    sim_disk_io(m)->pwrite(m, fd, raw, sizeof raw, 0);
    sim_disk_io(m)->pwrite(m, fd, data, MIN(size, (size_t)WAL_SEGMENT_BYTES_MIN - 4096), 4096);
    struct sim_file *f = sim_disk_get(m, path);
    uint32_t seed = wal_seed(3, 1);
    uint32_t prev_crc = 0;
    for (size_t at = 4096; at + WAL_BATCH_HEAD_BYTES < WAL_SEGMENT_BYTES_MIN; at += 4096) {
        uint8_t *batch = f->now + at;
        memcpy(batch, "CWB1", 4);
        size_t heads = (size_t)u32_le(batch + 12) * WAL_RECORD_HEAD_BYTES;
        if (heads > WAL_SEGMENT_BYTES_MIN - at - WAL_BATCH_HEAD_BYTES) continue;
        u32_le_put(batch + 32, prev_crc);
        u32_le_put(batch + 4, crc32c(seed, batch + 8, WAL_BATCH_HEAD_BYTES - 8 + heads));
        prev_crc = u32_le(batch + 4);
    }
    sim_disk_io(m)->close(m, fd);
    sim_disk_settle(m);
}

static void check(struct sim_disk *m, uint64_t proven_last)
{
    uint64_t last = 0;
    struct wal *wal = NULL;
    if (reopen(m, &last, &wal) != OK) return;
    ASSERT(wal_found(wal)->last.index >= proven_last);
    wal_check(wal);
    append(wal);
    uint64_t now_last = wal_last_durable(wal).index;
    wal_close(wal);
    enum err e = reopen(m, &last, &wal);
    ASSERT(e == OK);
    ASSERT(wal_found(wal)->last.index == now_last);
    wal_close(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > INPUT_BYTES_MAX) return 0;
    uint64_t proven_last = 0;
    struct sim_disk *m;
    if (data[0] % 2 == 0) {
        m = good_log(&proven_last);
        if (changes_apply(m, data + 1, size - 1)) proven_last = 0;
    } else {
        m = sim_disk_new("/d", 1);
        segment_put(m, data + 1, size - 1);
    }
    check(m, proven_last);
    sim_disk_free(m);
    return 0;
}

#ifdef FUZZ_STANDALONE
/* Headers made of small numbers reach further than noise. */
static void input_make(struct buf *out, uint64_t seed)
{
    uint8_t *bytes = buf_reserve(out, INPUT_BYTES_MAX);
    uint64_t random = seed;
    uint64_t word = random = u64_mix(random + 1);
    size_t size = 1 + 8 * (1 + word % 3);
    bytes[0] = (uint8_t)(word >> 8);
    if (bytes[0] % 2 == 1) size = 1 + 4096 * (1 + word % 8);
    for (size_t i = 1; i < size; i++) {
        word = random = u64_mix(random + i);
        bool noise = bytes[0] % 2 == 0 || word % 16 == 0;
        bytes[i] =
            noise ? (uint8_t)(word >> 16) : (uint8_t)((word >> 24) % 3 == 0 ? word >> 40 & 7 : 0);
    }
    out->len = size;
    if (bytes[0] % 2 == 0) return;
    for (size_t at = 1; at + 96 < size; at += 4096) { /* plausible lengths */
        u32_le_put(bytes + at + 8, 4096);
        u32_le_put(bytes + at + 12, (uint32_t)(word % 4));
        u64_le_put(bytes + at + 16, 1 + at / 4096);
        u64_le_put(bytes + at + 24, at / 4096);
        u32_le_put(bytes + at + 36, at == 1);
        u64_le_put(bytes + at + 40, 1);
    }
}

int main(int argc, char **argv) { return fuzz_main(argc, argv, input_make); }
#endif
