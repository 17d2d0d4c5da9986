/* disk/wal_uring.c - the back end on the loop: O_DIRECT writes that are synced when they complete.
 *
 * One write is under way at a time (I1); what is submitted meanwhile is the next group. A group
 * costs one io_uring_enter; completions are read from the ring in memory. The kernel may hold a
 * completion back until this thread enters it for something else (COOP_TASKRUN): a loop does. */
#include "disk/wal_int.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_ENTRIES 4 /* one write, one wait for a segment */

enum user_data { DATA_WRITE = 1, DATA_SEGMENT = 2 };

struct ring {
    int fd;
    void *map;
    size_t map_bytes;
    struct io_uring_sqe *sqes;
    size_t sqes_bytes;
    uint32_t *sq_tail;
    uint32_t *sq_array;
    uint32_t sq_mask;
    uint32_t *cq_head;
    uint32_t *cq_tail;
    uint32_t cq_mask;
    const struct io_uring_cqe *cqes;
};

struct state {
    struct ring ring;
    int event_fd;        /* the maker writes it when a segment is there */
    uint64_t event_count; /* read into by the ring */
    bool writing;
    bool waiting; /* a read of event_fd is under way */
};

/* --- the ring ------------------------------------------------------------------------ */

static int ring_setup(struct ring *r)
{
    struct io_uring_params p = { 0 };
    p.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER;
    int fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &p);
    if (fd < 0 && errno == EINVAL) { /* a kernel before 6.0 */
        p = (struct io_uring_params){ 0 };
        fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &p);
    }
    if (fd < 0) return -errno;
    if ((p.features & IORING_FEAT_SINGLE_MMAP) == 0 || (p.features & IORING_FEAT_NODROP) == 0) {
        close(fd);
        return -ENOSYS;
    }
    size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    r->map_bytes = MAX(sq_bytes, cq_bytes);
    r->sqes_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
    r->map = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                  IORING_OFF_SQ_RING);
    void *sqes = mmap(NULL, r->sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                      IORING_OFF_SQES);
    if (r->map == MAP_FAILED || sqes == MAP_FAILED) {
        if (r->map != MAP_FAILED) munmap(r->map, r->map_bytes);
        if (sqes != MAP_FAILED) munmap(sqes, r->sqes_bytes);
        close(fd);
        return -ENOMEM;
    }
    char *base = r->map;
    r->fd = fd;
    r->sqes = sqes;
    r->sq_tail = (uint32_t *)(void *)(base + p.sq_off.tail);
    r->sq_array = (uint32_t *)(void *)(base + p.sq_off.array);
    r->sq_mask = *(uint32_t *)(void *)(base + p.sq_off.ring_mask);
    r->cq_head = (uint32_t *)(void *)(base + p.cq_off.head);
    r->cq_tail = (uint32_t *)(void *)(base + p.cq_off.tail);
    r->cq_mask = *(uint32_t *)(void *)(base + p.cq_off.ring_mask);
    r->cqes = (const struct io_uring_cqe *)(void *)(base + p.cq_off.cqes);
    return 0;
}

static void ring_close(struct ring *r)
{
    munmap(r->sqes, r->sqes_bytes);
    munmap(r->map, r->map_bytes);
    close(r->fd);
}

static int ring_enter(const struct ring *r, unsigned submit_count, unsigned wait_count)
{
    unsigned flags = wait_count > 0 ? IORING_ENTER_GETEVENTS : 0;
    for (;;) {
        long got = syscall(SYS_io_uring_enter, r->fd, submit_count, wait_count, flags, NULL, 0);
        if (got >= 0) return (int)got;
        if (errno != EINTR && errno != EAGAIN && errno != EBUSY) return -errno;
    }
}

/* Hands one request to the kernel. 0 or a negative errno. */
static int ring_submit(struct ring *r, const struct io_uring_sqe *sqe)
{
    uint32_t tail = *r->sq_tail; /* written by us only */
    uint32_t slot = tail & r->sq_mask;
    r->sqes[slot] = *sqe;
    r->sq_array[slot] = slot;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
    int got = ring_enter(r, 1, 0);
    if (got < 0) return got;
    return got == 1 ? 0 : -EIO;
}

static bool ring_is_empty(const struct ring *r)
{
    return __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == *r->cq_head;
}

static bool ring_reap(struct ring *r, uint64_t *data, int32_t *res)
{
    if (ring_is_empty(r)) return false;
    uint32_t head = *r->cq_head; /* written by us only */
    const struct io_uring_cqe *cqe = &r->cqes[head & r->cq_mask];
    *data = cqe->user_data;
    *res = cqe->res;
    __atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
    return true;
}

static struct io_uring_sqe write_request(int fd, const void *from, uint32_t bytes, uint64_t offset)
{
    return (struct io_uring_sqe){
        .opcode = IORING_OP_WRITE,
        .fd = fd,
        .off = offset,
        .addr = (uint64_t)(uintptr_t)from,
        .len = bytes,
        .rw_flags = RWF_DSYNC,
        .user_data = DATA_WRITE,
    };
}

/* --- the probe -------------------------------------------------------------------------- */

static enum err probe_write(int fd, const char *path, uint32_t block_bytes, struct errmsg *em)
{
    struct ring r;
    int answer = ring_setup(&r);
    if (answer < 0) return disk_error(em, "io_uring for", path, answer);
    uint8_t *block = mem_align(DISK_BLOCK_BYTES_MAX, block_bytes);
    memset(block, 0xa5, block_bytes);
    struct io_uring_sqe sqe = write_request(fd, block, block_bytes, 0);
    answer = ring_submit(&r, &sqe);
    if (answer == 0) answer = ring_enter(&r, 0, 1);
    uint64_t data = 0;
    int32_t res = -EIO;
    if (answer >= 0 && !ring_reap(&r, &data, &res)) res = -EIO;
    ring_close(&r);
    memset(block, 0, block_bytes);
    bool wrote = answer >= 0 && data == DATA_WRITE && res == (int32_t)block_bytes;
    bool reads = wrote && pread(fd, block, block_bytes, 0) == (ssize_t)block_bytes &&
                 block[0] == 0xa5 && block[block_bytes - 1] == 0xa5;
    mem_free(block);
    if (reads) return OK;
    return disk_error(em, "io_uring write to", path, answer < 0 ? answer : res < 0 ? res : -EIO);
}

enum err wal_uring_probe(const char *dir, uint32_t block_bytes, struct errmsg *em)
{
    const struct disk_io *io = disk_io_posix();
    char path[DISK_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/probe.tmp", dir);
    int answer = io->unlink(io->ctx, path);
    if (answer < 0 && answer != -ENOENT) return disk_error(em, "remove", path, answer);
    int fd = -1;
    answer = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE | DISK_DIRECT, &fd);
    if (answer < 0) {
        io->unlink(io->ctx, path);
        return disk_error(em, "create", path, answer);
    }
    enum err e = probe_write(fd, path, block_bytes, em);
    io->close(io->ctx, fd);
    io->unlink(io->ctx, path);
    return e;
}

/* --- the back end --------------------------------------------------------------------------- */

static enum err uring_start(struct wal *wal, struct errmsg *em)
{
    if (!wal->io->real_fds) {
        errmsg_set(em, "io_uring needs the kernel's files");
        return ERR_UNSUPPORTED;
    }
    struct state *st = mem_zalloc(sizeof *st);
    int answer = ring_setup(&st->ring);
    if (answer < 0) {
        mem_free(st);
        return disk_error(em, "io_uring for", wal->dir, answer);
    }
    st->event_fd = eventfd(0, EFD_CLOEXEC);
    enum err e = OK;
    if (st->event_fd < 0) e = disk_error(em, "eventfd for", wal->dir, -errno);
    wal->backend_state = st;
    if (e == OK) e = wal_maker_start(&wal->maker, em);
    if (e == OK) return OK;
    if (st->event_fd >= 0) close(st->event_fd);
    ring_close(&st->ring);
    mem_free(st);
    wal->backend_state = NULL;
    return e;
}

/* The ring completes this read once the maker has written. Only while a batch waits for a segment:
 * that is when the disk cannot follow or is full. */
static void segment_await(struct wal *wal)
{
    struct state *st = wal->backend_state;
    if (st->waiting) return;
    struct io_uring_sqe sqe = {
        .opcode = IORING_OP_READ,
        .fd = st->event_fd,
        .addr = (uint64_t)(uintptr_t)&st->event_count,
        .len = sizeof st->event_count,
        .user_data = DATA_SEGMENT,
    };
    st->waiting = ring_submit(&st->ring, &sqe) == 0;
}

static void group_write(struct wal *wal)
{
    struct state *st = wal->backend_state;
    struct wal_writer *w = &wal->writer;
    if (st->writing) return;
    enum wal_want want = wal_writer_compose(w);
    if (want == WAL_WANT_SEGMENT) segment_await(wal);
    if (want != WAL_WANT_WRITE) return;
    wal_writer_began(w);
    struct io_uring_sqe sqe = write_request(w->segment.fd, w->buf, w->batch.bytes, w->offset);
    int answer = ring_submit(&st->ring, &sqe);
    if (answer < 0) {
        wal_writer_failed(w, "write", answer);
        return;
    }
    st->writing = true;
}

static void uring_submit(struct wal *wal, struct wal_item *item)
{
    wal_writer_add(&wal->writer, item);
    group_write(wal);
}

static void completion_take(struct wal *wal, uint64_t data, int32_t res)
{
    struct state *st = wal->backend_state;
    struct wal_writer *w = &wal->writer;
    if (data == DATA_SEGMENT) {
        st->waiting = false;
        return;
    }
    ASSERT(data == DATA_WRITE);
    ASSERT(st->writing);
    st->writing = false;
    if (res != (int32_t)w->batch.bytes) {
        wal_writer_failed(w, "write or sync", res);
        return;
    }
    wal_done_append(wal, wal_writer_written(w));
}

static void uring_reap(struct wal *wal)
{
    struct state *st = wal->backend_state;
    if (LIKELY(ring_is_empty(&st->ring))) return;
    uint64_t data = 0;
    int32_t res = 0;
    while (ring_reap(&st->ring, &data, &res)) completion_take(wal, data, res);
    group_write(wal);
}

static int uring_fd(const struct wal *wal)
{
    const struct state *st = wal->backend_state;
    return st->ring.fd;
}

static bool uring_about_to_sleep(struct wal *wal)
{
    const struct state *st = wal->backend_state;
    return ring_is_empty(&st->ring);
}

static void uring_woke(struct wal *wal)
{
    (void)wal;
}

static void uring_segment_made(void *arg)
{
    struct wal *wal = arg;
    const struct state *st = wal->backend_state;
    uint64_t one = 1;
    ssize_t put = write(st->event_fd, &one, sizeof one);
    ASSERT(put == (ssize_t)sizeof one);
}

static void uring_drain(struct wal *wal)
{
    struct state *st = wal->backend_state;
    for (;;) {
        uring_reap(wal);
        group_write(wal);
        bool gives_up =
            __atomic_load_n(&wal->maker.make_err, __ATOMIC_SEQ_CST) != OK && !st->writing;
        if ((!st->writing && !st->waiting) || gives_up) return;
        int answer = ring_enter(&st->ring, 0, 1);
        if (answer < 0) return;
    }
}

/* Closing the ring cancels a read of the eventfd that is still under way; it reads into *st. */
static void uring_stop(struct wal *wal)
{
    struct state *st = wal->backend_state;
    if (st->waiting) {
        uring_segment_made(wal);
        while (st->waiting && ring_enter(&st->ring, 0, 1) >= 0) {
            uint64_t data = 0;
            int32_t res = 0;
            while (ring_reap(&st->ring, &data, &res)) st->waiting &= data != DATA_SEGMENT;
        }
    }
    ring_close(&st->ring);
    close(st->event_fd);
    mem_free(st);
    wal->backend_state = NULL;
}

const struct wal_backend_ops wal_backend_uring = {
    .name = "uring",
    .start = uring_start,
    .submit = uring_submit,
    .reap = uring_reap,
    .fd = uring_fd,
    .about_to_sleep = uring_about_to_sleep,
    .woke = uring_woke,
    .segment_made = uring_segment_made,
    .drain = uring_drain,
    .stop = uring_stop,
};
