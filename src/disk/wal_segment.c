/* disk/wal_segment.c - makes segments ahead and retires old ones, on a thread of low priority. */
#include "disk/wal_int.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILL_BYTES (256u << 10)
#define MAKER_NICE 10

static void path_form(char out[DISK_PATH_BYTES_MAX], const char *dir, const char *name)
{
    int len = snprintf(out, DISK_PATH_BYTES_MAX, "%s/%s", dir, name);
    ASSERT(len > 0);
    ASSERT(len < DISK_PATH_BYTES_MAX);
}

void wal_segment_path(const char *dir, uint64_t seq, char out[DISK_PATH_BYTES_MAX])
{
    char name[32];
    snprintf(name, sizeof name, "wal-%016llx", (unsigned long long)seq);
    path_form(out, dir, name);
}

void wal_recycle_path(const char *dir, uint64_t seq, char out[DISK_PATH_BYTES_MAX])
{
    char name[32];
    snprintf(name, sizeof name, "recycle-%016llx", (unsigned long long)seq);
    path_form(out, dir, name);
}

/* --- making one ------------------------------------------------------------------ */

static enum err fill_zeros(const struct disk_io *io, int fd, const char *path, uint64_t bytes,
                           struct errmsg *em)
{
    uint8_t *zeros = mem_align(DISK_BLOCK_BYTES_MAX, FILL_BYTES);
    memset(zeros, 0, FILL_BYTES);
    enum err e = OK;
    for (uint64_t at = 0; at < bytes && e == OK; at += FILL_BYTES) {
        size_t piece_bytes = (size_t)MIN((uint64_t)FILL_BYTES, bytes - at);
        e = disk_write_all(io, fd, path, zeros, piece_bytes, at, em);
    }
    mem_free(zeros);
    return e;
}

static enum err header_write(const struct wal_maker *mk, int fd, const char *path, uint64_t seq,
                             struct errmsg *em)
{
    struct wal_segment_head head = mk->form;
    head.seq = seq;
    uint8_t *block = mem_align(DISK_BLOCK_BYTES_MAX, head.block_bytes);
    memset(block, 0, head.block_bytes);
    wal_segment_head_encode(&head, block);
    enum err e = disk_write_all(mk->io, fd, path, block, head.block_bytes, 0, em);
    mem_free(block);
    TRY(e);
    int answer = mk->io->sync(mk->io->ctx, fd);
    return answer < 0 ? disk_error(em, "sync", path, answer) : OK;
}

/* Past the page cache where that is possible: 64 MB of dirty pages would make the log's own syncs
 * wait behind them. */
static enum err create_filled(const struct wal_maker *mk, const char *path, int *fd_out,
                              struct errmsg *em)
{
    const struct disk_io *io = mk->io;
    int answer = io->unlink(io->ctx, path); /* of a try that failed */
    if (answer < 0 && answer != -ENOENT) return disk_error(em, "remove", path, answer);
    int fd = -1;
    answer = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE | DISK_DIRECT, &fd);
    if (answer == -EINVAL) {
        answer = io->unlink(io->ctx, path); /* Linux makes the file before it refuses O_DIRECT */
        if (answer < 0 && answer != -ENOENT) return disk_error(em, "remove", path, answer);
        answer = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE, &fd);
    }
    if (answer < 0) return disk_error(em, "create", path, answer);
    enum err e = OK;
    answer = io->allocate(io->ctx, fd, mk->form.segment_bytes);
    if (answer < 0) e = disk_error(em, "allocate", path, answer);
    if (e == OK) e = fill_zeros(io, fd, path, mk->form.segment_bytes, em);
    if (e != OK) {
        io->close(io->ctx, fd);
        io->unlink(io->ctx, path);
        return e;
    }
    *fd_out = fd;
    return OK;
}

static enum err name_it(const struct wal_maker *mk, const char *from, const char *to,
                        struct errmsg *em)
{
    int answer = mk->io->rename(mk->io->ctx, from, to);
    if (answer < 0) return disk_error(em, "rename", from, answer);
    answer = mk->io->dirsync(mk->io->ctx, mk->dir);
    return answer < 0 ? disk_error(em, "sync directory", mk->dir, answer) : OK;
}

static enum err make_from(struct wal_maker *mk, uint64_t seq, const char *from, int fd,
                          struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(mk->dir, seq, path);
    enum err e = header_write(mk, fd, from, seq, em);
    mk->io->close(mk->io->ctx, fd);
    if (e != OK) {
        mk->io->unlink(mk->io->ctx, from);
        return e;
    }
    return name_it(mk, from, path, em);
}

static enum err make_file(struct wal_maker *mk, uint64_t seq, struct errmsg *em)
{
    char from[DISK_PATH_BYTES_MAX];
    int fd = -1;
    if (mk->recycled_have > 0) {
        wal_recycle_path(mk->dir, mk->recycled[--mk->recycled_have], from);
        int answer = mk->io->open(mk->io->ctx, from, DISK_WRITE, &fd);
        if (answer < 0) return disk_error(em, "open", from, answer);
        TRY(make_from(mk, seq, from, fd, em));
        __atomic_add_fetch(&mk->recycled_count, 1, __ATOMIC_RELAXED);
        return OK;
    }
    path_form(from, mk->dir, "make.tmp");
    TRY(create_filled(mk, from, &fd, em));
    return make_from(mk, seq, from, fd, em);
}

enum err wal_segment_make(struct wal_maker *mk, uint64_t seq, struct wal_segment_file *out,
                          struct errmsg *em)
{
    TRY(make_file(mk, seq, em));
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(mk->dir, seq, path);
    int fd = -1;
    int answer = mk->io->open(mk->io->ctx, path, mk->open_flags, &fd);
    if (answer < 0) return disk_error(em, "open", path, answer);
    *out = (struct wal_segment_file){
        .seq = seq,
        .fd = fd,
        .bytes = mk->form.segment_bytes,
        .salt = mk->form.salt,
        .block_bytes = mk->form.block_bytes,
        .seed = wal_seed(mk->form.salt, seq),
    };
    return OK;
}

/* --- jobs --------------------------------------------------------------------------- */

/* Old segments: the file is gone from the sequence before the next older one may go (I7). A failure
 * leaves the file where it is, which is no harm: the next start finds and keeps it. No later one
 * may go then, so the job stays and is tried again. */
static bool retire(struct wal_maker *mk, uint64_t seq)
{
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(mk->dir, seq, path);
    uint64_t bytes = 0;
    int fd = -1;
    bool same_form = false;
    if (mk->io->open(mk->io->ctx, path, DISK_READ, &fd) == 0) {
        same_form = mk->io->size(mk->io->ctx, fd, &bytes) == 0 && bytes == mk->form.segment_bytes;
        mk->io->close(mk->io->ctx, fd);
    }
    bool recycle = same_form && mk->recycled_have < WAL_RECYCLE_MAX;
    int answer;
    if (recycle) {
        char to[DISK_PATH_BYTES_MAX];
        wal_recycle_path(mk->dir, seq, to);
        answer = mk->io->rename(mk->io->ctx, path, to);
    } else {
        answer = mk->io->unlink(mk->io->ctx, path);
        if (answer == -ENOENT) answer = 0; /* by the last try, whose dirsync failed */
    }
    if (answer != 0 || mk->io->dirsync(mk->io->ctx, mk->dir) != 0) return false;
    /* Only now may its bytes change: the old name cannot come back. */
    if (recycle) mk->recycled[mk->recycled_have++] = seq;
    return true;
}

static bool make_ahead(struct wal_maker *mk, uint64_t seq)
{
    struct wal_segment_file file;
    struct errmsg em;
    enum err e = wal_segment_make(mk, seq, &file, &em);
    uint32_t before = __atomic_exchange_n(&mk->make_err, (uint32_t)e, __ATOMIC_SEQ_CST);
    if (e != OK) {
        if (before == OK) mk->failed(mk->made_ctx, em.text);
        return false;
    }
    struct wal_segment_file *spare = mem_copy(&file, sizeof file);
    ASSERT(__atomic_load_n(&mk->spare, __ATOMIC_SEQ_CST) == NULL);
    __atomic_store_n(&mk->spare, spare, __ATOMIC_SEQ_CST);
    return true;
}

static void jobs_take(struct wal_maker *mk)
{
    struct wal_mail_node **end = &mk->jobs;
    while (*end != NULL) end = &(*end)->next;
    *end = wal_mail_take(&mk->mail);
}

/* The first MAKE, or the first that is none; NULL: there is none of these. */
static struct wal_mail_node **job_pick(struct wal_maker *mk, bool make)
{
    for (struct wal_mail_node **at = &mk->jobs; *at != NULL; at = &(*at)->next) {
        if ((((struct wal_job *)(void *)*at)->kind == WAL_JOB_MAKE) == make) return at;
    }
    return NULL;
}

static bool job_do(struct wal_maker *mk, struct wal_mail_node **at)
{
    if (at == NULL) return false;
    struct wal_job *job = (struct wal_job *)(void *)*at;
    bool done = true;
    if (job->kind == WAL_JOB_MAKE) {
        done = make_ahead(mk, job->seq);
        mk->made(mk->made_ctx);
    } else if (job->kind == WAL_JOB_RETIRE) {
        done = retire(mk, job->seq);
    } else {
        mk->io->close(mk->io->ctx, job->fd);
    }
    if (!done) return false;
    *at = job->node.next;
    mem_free(job);
    return true;
}

/* A MAKE goes before all others, which keep their order. On a full disk it may be them that give it a
 * file to use again. */
bool wal_maker_step(struct wal_maker *mk)
{
    jobs_take(mk);
    return job_do(mk, job_pick(mk, true)) || job_do(mk, job_pick(mk, false));
}

void wal_maker_post(struct wal_maker *mk, enum wal_job_kind kind, uint64_t seq, int fd)
{
    struct wal_job *job = mem_zalloc(sizeof *job);
    job->kind = kind;
    job->seq = seq;
    job->fd = fd;
    wal_mail_push(&mk->mail, &job->node);
}

/* --- its thread ------------------------------------------------------------------------ */

static void *maker_main(void *arg)
{
    struct wal_maker *mk = arg;
    pid_t self = (pid_t)syscall(SYS_gettid);
    setpriority(PRIO_PROCESS, (id_t)self, MAKER_NICE);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, self, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
    for (;;) {
        while (wal_maker_step(mk)) {
        }
        if (__atomic_load_n(&mk->stopping, __ATOMIC_SEQ_CST)) return NULL;
        wal_mail_wait(&mk->mail, mk->jobs == NULL ? -1 : WAL_MAKE_RETRY_MS);
    }
}

enum err wal_maker_start(struct wal_maker *mk, struct errmsg *em)
{
    ASSERT(mk->thread == NULL);
    pthread_t *thread = mem_alloc(sizeof *thread);
    int answer = pthread_create(thread, NULL, maker_main, mk);
    if (answer != 0) {
        mem_free(thread);
        return disk_error(em, "start thread for", mk->dir, -answer);
    }
    mk->thread = thread;
    return OK;
}

void wal_maker_stop(struct wal_maker *mk)
{
    if (mk->thread != NULL) {
        __atomic_store_n(&mk->stopping, 1, __ATOMIC_SEQ_CST);
        wal_mail_kick(&mk->mail);
        pthread_join(*(pthread_t *)mk->thread, NULL);
        mem_free(mk->thread);
        mk->thread = NULL;
    }
    jobs_take(mk);
    while (mk->jobs != NULL) {
        struct wal_job *job = (struct wal_job *)(void *)mk->jobs;
        mk->jobs = job->node.next;
        if (job->kind == WAL_JOB_CLOSE) mk->io->close(mk->io->ctx, job->fd);
        mem_free(job);
    }
    struct wal_segment_file *spare = __atomic_exchange_n(&mk->spare, NULL, __ATOMIC_SEQ_CST);
    if (spare != NULL) mk->io->close(mk->io->ctx, spare->fd);
    mem_free(spare);
}
