/* tests/unit/disk/test_wal_disk.h - a disk in memory that loses what was not synced.
 *
 * PURPOSE  A struct disk_io over memory. model_crash() leaves what a real crash could: of each file
 *          any subset of the 512-byte sectors written since its last sync, of each directory any
 *          part of the changes since its last sync that later changes do not need. Any operation
 *          can be told to fail, or to be the last one before a crash.
 * OWNS     struct model_disk and all bytes in it. Everything follows from the seed.
 * USES     base/, disk/disk_io.h. Header only: each test has its own.
 * THREADS  One.
 * LIMITS   MODEL_FILES_MAX, MODEL_FDS_MAX, MODEL_CHANGES_MAX: asserted.
 * ERRORS   Those that were asked for; ENOENT, EEXIST, EINVAL as the kernel.
 */
#ifndef TEST_WAL_DISK_H
#define TEST_WAL_DISK_H

#include <errno.h>

#include "disk/disk_io.h"

#define MODEL_SECTOR_BYTES 512
#define MODEL_FILES_MAX    256
#define MODEL_FDS_MAX      64
#define MODEL_CHANGES_MAX  256
#define MODEL_NAME_BYTES   96

struct model_file {
    uint8_t *now;   /* what reads see */
    uint8_t *disk;  /* what is synced */
    uint8_t *dirty; /* a byte a sector */
    size_t now_bytes;
    size_t disk_bytes;
    size_t cap;
    bool used;
};

struct model_name {
    char name[MODEL_NAME_BYTES];
    int file; /* -1: no such name */
};

/* from == "": a creation (file >= 0) or removal (file == -1) of `to`. */
struct model_change {
    char from[MODEL_NAME_BYTES];
    char to[MODEL_NAME_BYTES];
    int file;
};

enum model_fault { MODEL_FAIL, MODEL_SHORT, MODEL_CRASH };

struct model_disk {
    struct disk_io io;
    uint64_t random;
    struct model_file files[MODEL_FILES_MAX];
    struct model_name now[MODEL_FILES_MAX];
    struct model_name disk[MODEL_FILES_MAX];
    struct model_change changes[MODEL_CHANGES_MAX];
    size_t change_count;
    int fds[MODEL_FDS_MAX]; /* file + 1, 0: free */
    uint64_t op_count;      /* operations that write, so far */
    uint64_t fault_at;      /* op_count at which the fault happens, 0: never */
    enum model_fault fault;
    int fault_errno;
    bool fault_hit;
    bool crashed; /* nothing works until model_crash() */
};

static inline uint64_t model_random(struct model_disk *m, uint64_t below)
{
    m->random += 0x9e3779b97f4a7c15ULL;
    return u64_mix(m->random) % below;
}

/* --- names ------------------------------------------------------------------------- */

static inline struct model_name *model_find(struct model_name *names, const char *name)
{
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        if (names[i].name[0] != '\0' && strcmp(names[i].name, name) == 0) return &names[i];
    }
    return NULL;
}

static inline void model_set(struct model_name *names, const char *name, int file)
{
    struct model_name *n = model_find(names, name);
    for (size_t i = 0; n == NULL && i < MODEL_FILES_MAX; i++) {
        if (names[i].name[0] == '\0') n = &names[i];
    }
    ASSERT(n != NULL);
    ASSERT(strlen(name) < MODEL_NAME_BYTES);
    memset(n->name, 0, sizeof n->name);
    if (file < 0) return;
    memcpy(n->name, name, strlen(name) + 1);
    n->file = file;
}

static inline void model_apply(struct model_name *names, const struct model_change *c)
{
    if (c->from[0] != '\0') model_set(names, c->from, -1);
    model_set(names, c->to, c->file);
}

static inline void model_change_add(struct model_disk *m, const char *from, const char *to,
                                    int file)
{
    ASSERT(m->change_count < MODEL_CHANGES_MAX);
    struct model_change *c = &m->changes[m->change_count++];
    memset(c, 0, sizeof *c);
    memcpy(c->from, from, strlen(from) + 1);
    memcpy(c->to, to, strlen(to) + 1);
    c->file = file;
    model_apply(m->now, c);
}

static inline void model_files_collect(struct model_disk *m)
{
    bool live[MODEL_FILES_MAX] = { false };
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        if (m->now[i].name[0] != '\0') live[m->now[i].file] = true;
        if (m->disk[i].name[0] != '\0') live[m->disk[i].file] = true;
    }
    for (size_t i = 0; i < MODEL_FDS_MAX; i++) {
        if (m->fds[i] != 0) live[m->fds[i] - 1] = true;
    }
    for (size_t i = 0; i < m->change_count; i++) {
        if (m->changes[i].file >= 0) live[m->changes[i].file] = true;
    }
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        if (live[i] || !m->files[i].used) continue;
        mem_free(m->files[i].now);
        mem_free(m->files[i].disk);
        mem_free(m->files[i].dirty);
        m->files[i] = (struct model_file){ 0 };
    }
}

/* --- bytes -------------------------------------------------------------------------- */

static inline void model_reserve(struct model_file *f, size_t bytes)
{
    if (bytes <= f->cap) return;
    size_t cap = (bytes + 65535) / 65536 * 65536;
    f->now = mem_realloc(f->now, cap);
    f->disk = mem_realloc(f->disk, cap);
    f->dirty = mem_realloc(f->dirty, cap / MODEL_SECTOR_BYTES);
    memset(f->now + f->cap, 0, cap - f->cap);
    memset(f->disk + f->cap, 0, cap - f->cap);
    memset(f->dirty + f->cap / MODEL_SECTOR_BYTES, 0, (cap - f->cap) / MODEL_SECTOR_BYTES);
    f->cap = cap;
}

static inline void model_resize(struct model_file *f, size_t bytes)
{
    model_reserve(f, bytes);
    if (bytes < f->now_bytes) memset(f->now + bytes, 0, f->now_bytes - bytes);
    f->now_bytes = bytes;
}

static inline void model_store(struct model_file *f, const void *from, size_t bytes, size_t offset)
{
    if (bytes == 0) return;
    model_reserve(f, offset + bytes);
    memcpy(f->now + offset, from, bytes);
    if (offset + bytes > f->now_bytes) f->now_bytes = offset + bytes;
    for (size_t s = offset / MODEL_SECTOR_BYTES; s * MODEL_SECTOR_BYTES < offset + bytes; s++) {
        f->dirty[s] = 1;
    }
}

/* Only what was written since: a page that a failed sync left clean stays lost. */
static inline void model_file_sync(struct model_file *f)
{
    for (size_t s = 0; s < f->cap / MODEL_SECTOR_BYTES; s++) {
        size_t at = s * MODEL_SECTOR_BYTES;
        if (f->dirty[s] || at >= f->now_bytes)
            memcpy(f->disk + at, f->now + at, MODEL_SECTOR_BYTES);
        f->dirty[s] = 0;
    }
    f->disk_bytes = f->now_bytes;
}

/* --- the table -------------------------------------------------------------------------- */

/* 0: go on. Otherwise the negative errno to answer; *out says if half of it should happen. */
static inline int model_op(struct model_disk *m, bool *half)
{
    *half = false;
    if (m->crashed) return -EIO;
    if (++m->op_count != m->fault_at) return 0;
    m->fault_hit = true;
    m->crashed = m->fault == MODEL_CRASH;
    *half = m->fault != MODEL_FAIL && model_random(m, 2) == 0;
    return -m->fault_errno;
}

static inline struct model_file *model_file_of(struct model_disk *m, int fd)
{
    ASSERT(fd >= 0);
    ASSERT(fd < MODEL_FDS_MAX);
    ASSERT(m->fds[fd] != 0);
    return &m->files[m->fds[fd] - 1];
}

static inline int model_io_open(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    struct model_disk *m = ctx;
    if (m->crashed) return -EIO;
    const struct model_name *n = model_find(m->now, path);
    if (flags & DISK_CREATE) {
        bool half;
        int answer = model_op(m, &half);
        if (answer < 0) return answer;
        if (n != NULL) return -EEXIST;
        model_files_collect(m);
        int file = 0;
        while (m->files[file].used) ASSERT(++file < MODEL_FILES_MAX);
        m->files[file].used = true;
        model_change_add(m, "", path, file);
        n = model_find(m->now, path);
    }
    if (n == NULL) return -ENOENT;
    int fd = 0;
    while (m->fds[fd] != 0) ASSERT(++fd < MODEL_FDS_MAX);
    m->fds[fd] = n->file + 1;
    *fd_out = fd;
    return 0;
}

static inline int model_io_close(void *ctx, int fd)
{
    struct model_disk *m = ctx;
    model_file_of(m, fd);
    m->fds[fd] = 0;
    return 0;
}

static inline int64_t model_io_pread(void *ctx, int fd, void *to, size_t bytes, uint64_t offset)
{
    struct model_disk *m = ctx;
    if (m->crashed) return -EIO;
    const struct model_file *f = model_file_of(m, fd);
    if (offset >= f->now_bytes) return 0;
    size_t got = MIN(bytes, f->now_bytes - (size_t)offset);
    memcpy(to, f->now + offset, got);
    return (int64_t)got;
}

static inline int64_t model_io_pwrite(void *ctx, int fd, const void *from, size_t bytes,
                                      uint64_t offset)
{
    struct model_disk *m = ctx;
    struct model_file *f = model_file_of(m, fd);
    bool half;
    int answer = model_op(m, &half);
    if (half) {
        size_t part = (size_t)model_random(m, bytes);
        model_store(f, from, part, (size_t)offset);
        return m->fault == MODEL_SHORT ? (int64_t)part : answer;
    }
    if (answer < 0) return answer;
    model_store(f, from, bytes, (size_t)offset);
    return (int64_t)bytes;
}

static inline int model_io_sync(void *ctx, int fd)
{
    struct model_disk *m = ctx;
    struct model_file *f = model_file_of(m, fd);
    bool half;
    int answer = model_op(m, &half);
    if (answer < 0) return answer;
    model_file_sync(f);
    return 0;
}

static inline int model_io_size(void *ctx, int fd, uint64_t *bytes_out)
{
    *bytes_out = model_file_of(ctx, fd)->now_bytes;
    return 0;
}

static inline int model_io_resize(void *ctx, int fd, uint64_t bytes)
{
    struct model_disk *m = ctx;
    bool half;
    int answer = model_op(m, &half);
    if (answer < 0) return answer;
    model_resize(model_file_of(m, fd), (size_t)bytes);
    return 0;
}

static inline int model_io_rename(void *ctx, const char *from, const char *to)
{
    struct model_disk *m = ctx;
    bool half;
    int answer = model_op(m, &half);
    if (answer < 0 && !half) return answer;
    const struct model_name *n = model_find(m->now, from);
    if (n == NULL) return -ENOENT;
    model_change_add(m, from, to, n->file);
    return answer;
}

static inline int model_io_unlink(void *ctx, const char *path)
{
    struct model_disk *m = ctx;
    bool half;
    int answer = model_op(m, &half);
    if (answer < 0) return answer;
    if (model_find(m->now, path) == NULL) return -ENOENT;
    model_change_add(m, "", path, -1);
    return 0;
}

static inline int model_io_mkdir(void *ctx, const char *path)
{
    (void)path;
    const struct model_disk *m = ctx;
    return m->crashed ? -EIO : 0;
}

static inline int model_io_list(void *ctx, const char *dir,
                                int (*each)(void *arg, const char *name), void *arg)
{
    struct model_disk *m = ctx;
    if (m->crashed) return -EIO;
    size_t len = strlen(dir);
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        const char *name = m->now[i].name;
        if (strncmp(name, dir, len) != 0 || name[len] != '/') continue;
        int answer = each(arg, name + len + 1);
        if (answer != 0) return answer;
    }
    return 0;
}

static inline bool model_is_in(const char *path, const char *dir)
{
    size_t len = (size_t)(strrchr(path, '/') - path);
    return strlen(dir) == len && memcmp(path, dir, len) == 0;
}

/* Renames from one directory to another are not modelled. */
static inline int model_io_dirsync(void *ctx, const char *dir)
{
    struct model_disk *m = ctx;
    bool half;
    int answer = model_op(m, &half);
    if (answer < 0) return answer;
    size_t left = 0;
    for (size_t i = 0; i < m->change_count; i++) {
        if (model_is_in(m->changes[i].to, dir)) {
            model_apply(m->disk, &m->changes[i]);
        } else {
            m->changes[left++] = m->changes[i];
        }
    }
    m->change_count = left;
    return 0;
}

static inline int model_io_block_bytes(void *ctx, const char *path, uint32_t *bytes_out)
{
    (void)path;
    const struct model_disk *m = ctx;
    *bytes_out = 4096;
    return m->crashed ? -EIO : 0;
}

static inline struct model_disk *model_new(uint64_t seed)
{
    struct model_disk *m = mem_zalloc(sizeof *m);
    m->random = u64_mix(seed + 1);
    m->fault_errno = EIO;
    m->io = (struct disk_io){
        .ctx = m,
        .open = model_io_open,
        .close = model_io_close,
        .pread = model_io_pread,
        .pwrite = model_io_pwrite,
        .sync = model_io_sync,
        .size = model_io_size,
        .allocate = model_io_resize,
        .truncate = model_io_resize,
        .rename = model_io_rename,
        .unlink = model_io_unlink,
        .mkdir = model_io_mkdir,
        .list = model_io_list,
        .dirsync = model_io_dirsync,
        .block_bytes = model_io_block_bytes,
    };
    return m;
}

static inline void model_free(struct model_disk *m)
{
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        mem_free(m->files[i].now);
        mem_free(m->files[i].disk);
        mem_free(m->files[i].dirty);
    }
    mem_free(m);
}

/* --- crashing -------------------------------------------------------------------------- */

static inline bool model_touches(const struct model_change *c, const char *name)
{
    return name[0] != '\0' && (strcmp(c->from, name) == 0 || strcmp(c->to, name) == 0);
}

/* A change survives only if all earlier ones of its names and its file did. */
static inline void model_crash_names(struct model_disk *m)
{
    bool lost[MODEL_CHANGES_MAX] = { false };
    for (size_t i = 0; i < m->change_count; i++) {
        const struct model_change *c = &m->changes[i];
        lost[i] = model_random(m, 2) == 0;
        for (size_t j = 0; j < i; j++) {
            const struct model_change *before = &m->changes[j];
            bool needs = model_touches(before, c->from) || model_touches(before, c->to) ||
                         (c->file >= 0 && before->file == c->file);
            if (lost[j] && needs) lost[i] = true;
        }
        if (!lost[i]) model_apply(m->disk, c);
    }
    m->change_count = 0;
    memcpy(m->now, m->disk, sizeof m->now);
}

static inline void model_crash_file(struct model_disk *m, struct model_file *f)
{
    for (size_t s = 0; s < f->cap / MODEL_SECTOR_BYTES; s++) {
        if (!f->dirty[s] || model_random(m, 2) == 0) continue;
        memcpy(f->disk + s * MODEL_SECTOR_BYTES, f->now + s * MODEL_SECTOR_BYTES,
               MODEL_SECTOR_BYTES);
    }
    if (model_random(m, 2) == 0) f->disk_bytes = f->now_bytes;
    if (f->disk != NULL) memset(f->disk + f->disk_bytes, 0, f->cap - f->disk_bytes);
    if (f->now != NULL) memcpy(f->now, f->disk, f->cap);
    f->now_bytes = f->disk_bytes;
    if (f->dirty != NULL) memset(f->dirty, 0, f->cap / MODEL_SECTOR_BYTES);
}

/* Power is lost and comes back. The process that used the disk must have closed its files. */
static inline void model_crash(struct model_disk *m)
{
    model_crash_names(m);
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        if (m->files[i].used) model_crash_file(m, &m->files[i]);
    }
    memset(m->fds, 0, sizeof m->fds);
    model_files_collect(m);
    m->crashed = false;
    m->fault_at = 0;
    m->fault_hit = false;
}

/* The process is gone, the kernel and its cache are not. */
static inline void model_kill(struct model_disk *m)
{
    memset(m->fds, 0, sizeof m->fds);
    m->crashed = false;
    m->fault_at = 0;
    m->fault_hit = false;
}

/* The bytes of a file, to damage them. NULL if there is none. */
static inline struct model_file *model_get(struct model_disk *m, const char *path)
{
    const struct model_name *n = model_find(m->now, path);
    return n == NULL ? NULL : &m->files[n->file];
}

/* Everything counts as synced from now on. */
static inline void model_settle(struct model_disk *m)
{
    memcpy(m->disk, m->now, sizeof m->disk);
    m->change_count = 0;
    for (size_t i = 0; i < MODEL_FILES_MAX; i++) {
        struct model_file *f = &m->files[i];
        if (!f->used || f->cap == 0) continue;
        memset(f->dirty, 1, f->cap / MODEL_SECTOR_BYTES);
        model_file_sync(f);
    }
}

#endif
