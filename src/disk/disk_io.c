/* disk/disk_io.c - see disk_io.h. */
#include "disk/disk_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK_DIR_MODE 0700
#define DISK_FILE_MODE 0600

static int posix_open(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    (void)ctx;
    int how = O_CLOEXEC | (flags & DISK_WRITE ? O_RDWR : O_RDONLY);
    if (flags & DISK_CREATE) how |= O_CREAT | O_EXCL;
    if (flags & DISK_DIRECT) how |= O_DIRECT;
    int fd = open(path, how, DISK_FILE_MODE);
    if (fd < 0) return -errno;
    if (flags & DISK_NO_AHEAD) posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* a hint */
    *fd_out = fd;
    return 0;
}

static int posix_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) == 0 ? 0 : -errno;
}

static int64_t posix_pread(void *ctx, int fd, void *to, size_t bytes, uint64_t offset)
{
    (void)ctx;
    ssize_t got;
    do {
        got = pread(fd, to, bytes, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static void posix_will_read(void *ctx, int fd, uint64_t offset, size_t bytes)
{
    (void)ctx;
    posix_fadvise(fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
}

static int64_t posix_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    (void)ctx;
    ssize_t put;
    do {
        put = pwrite(fd, from, bytes, (off_t)offset);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static int posix_sync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd) == 0 ? 0 : -errno;
}

static int posix_size(void *ctx, int fd, uint64_t *bytes_out)
{
    (void)ctx;
    struct stat st;
    if (fstat(fd, &st) != 0) return -errno;
    *bytes_out = (uint64_t)st.st_size;
    return 0;
}

static int posix_allocate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    if (fallocate(fd, 0, 0, (off_t)bytes) == 0) return 0;
    if (errno != EOPNOTSUPP) return -errno;
    return ftruncate(fd, (off_t)bytes) == 0 ? 0 : -errno; /* then writing zeros reserves it */
}

static int posix_truncate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    return ftruncate(fd, (off_t)bytes) == 0 ? 0 : -errno;
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return rename(from, to) == 0 ? 0 : -errno;
}

static int posix_rmdir(void *ctx, const char *path)
{
    (void)ctx;
    return rmdir(path) == 0 ? 0 : -errno;
}

static int posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return unlink(path) == 0 ? 0 : -errno;
}

static int posix_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return mkdir(path, DISK_DIR_MODE) == 0 || errno == EEXIST ? 0 : -errno;
}

static int posix_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name),
                      void *arg)
{
    (void)ctx;
    DIR *d = opendir(dir);
    if (d == NULL) return -errno;
    int answer = 0;
    while (answer == 0) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (entry == NULL) {
            answer = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        answer = each(arg, entry->d_name);
    }
    closedir(d);
    return answer;
}

static int posix_dirsync(void *ctx, const char *dir)
{
    (void)ctx;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int answer = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return answer;
}

/* One number from a file of sysfs; 0 if there is none. */
static uint32_t sysfs_number(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[32];
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    uint64_t v = 0;
    while (got > 0 && text[got - 1] == '\n') got--;
    if (got <= 0 || u64_parse((struct slice){ (uint8_t *)text, (size_t)got }, &v) != OK) return 0;
    return v > UINT32_MAX ? 0 : (uint32_t)v;
}

static int posix_block_bytes(void *ctx, const char *at, uint32_t *bytes_out)
{
    (void)ctx;
    struct statx st;
    memset(&st, 0, sizeof st);
    if (syscall(SYS_statx, AT_FDCWD, at, 0, STATX_BASIC_STATS, &st) != 0) return -errno;
    char path[128];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/physical_block_size", st.stx_dev_major,
             st.stx_dev_minor);
    uint32_t bytes = sysfs_number(path);
    if (bytes == 0) { /* a partition's queue is its disk's, one level up */
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../queue/physical_block_size",
                 st.stx_dev_major, st.stx_dev_minor);
        bytes = sysfs_number(path);
    }
    bool power_of_two = bytes != 0 && (bytes & (bytes - 1)) == 0;
    if (!power_of_two || bytes < DISK_BLOCK_BYTES_MIN) bytes = DISK_BLOCK_BYTES_MIN;
    *bytes_out = MIN(bytes, (uint32_t)DISK_BLOCK_BYTES_MAX);
    return 0;
}

static int posix_path_size(void *ctx, const char *path, uint64_t *bytes_out)
{
    (void)ctx;
    struct stat st;
    if (stat(path, &st) != 0) return -errno;
    *bytes_out = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

static int posix_free_bytes(void *ctx, const char *path, uint64_t *bytes_out)
{
    (void)ctx;
    struct statvfs st;
    if (statvfs(path, &st) != 0) return -errno;
    *bytes_out = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

const struct disk_io *disk_io_posix(void)
{
    static const struct disk_io io = {
        .real_fds = true,
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .will_read = posix_will_read,
        .pwrite = posix_pwrite,
        .sync = posix_sync,
        .size = posix_size,
        .allocate = posix_allocate,
        .truncate = posix_truncate,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .rmdir = posix_rmdir,
        .mkdir = posix_mkdir,
        .list = posix_list,
        .dirsync = posix_dirsync,
        .block_bytes = posix_block_bytes,
        .path_size = posix_path_size,
        .free_bytes = posix_free_bytes,
    };
    return &io;
}

enum err disk_error(struct errmsg *em, const char *what, const char *path, int64_t negative_errno)
{
    ASSERT(negative_errno < 0);
    int reason = (int)-negative_errno;
    errmsg_set(em, "%s %s: %s", what, path, strerror(reason));
    return reason == ENOSPC || reason == EDQUOT ? ERR_NOSPACE : ERR_IO;
}

enum err disk_read_all(const struct disk_io *io, int fd, const char *path, void *to, size_t bytes,
                       uint64_t offset, struct errmsg *em)
{
    size_t have = 0;
    while (have < bytes) {
        int64_t got = io->pread(io->ctx, fd, (uint8_t *)to + have, bytes - have, offset + have);
        if (got < 0) return disk_error(em, "read", path, got);
        if (got == 0) {
            errmsg_set(em, "%s ends at offset %llu, %zu bytes short", path,
                       (unsigned long long)(offset + have), bytes - have);
            return ERR_CORRUPT;
        }
        have += (size_t)got;
    }
    return OK;
}

enum err disk_write_all(const struct disk_io *io, int fd, const char *path, const void *from,
                        size_t bytes, uint64_t offset, struct errmsg *em)
{
    size_t have = 0;
    while (have < bytes) {
        int64_t put =
            io->pwrite(io->ctx, fd, (const uint8_t *)from + have, bytes - have, offset + have);
        if (put == 0) put = -EIO;
        if (put < 0) return disk_error(em, "write", path, put);
        have += (size_t)put;
    }
    return OK;
}

static enum err write_synced(const struct disk_io *io, const char *path, struct slice bytes,
                             struct errmsg *em)
{
    io->unlink(io->ctx, path); /* the remains of a crash, if any */
    int fd = -1;
    int failed = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE, &fd);
    if (failed < 0) return disk_error(em, "create", path, failed);
    enum err e = disk_write_all(io, fd, path, bytes.at, bytes.len, 0, em);
    if (e == OK) {
        failed = io->sync(io->ctx, fd);
        if (failed < 0) e = disk_error(em, "sync", path, failed);
    }
    io->close(io->ctx, fd);
    return e;
}

enum err disk_replace_file(const struct disk_io *io, const char *dir, const char *name,
                           struct slice bytes, struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    char fresh[DISK_PATH_BYTES_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
    len = snprintf(fresh, sizeof fresh, "%s/%s.tmp", dir, name);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
    TRY(write_synced(io, fresh, bytes, em));
    int failed = io->rename(io->ctx, fresh, path);
    if (failed < 0) return disk_error(em, "rename", fresh, failed);
    failed = io->dirsync(io->ctx, dir);
    return failed < 0 ? disk_error(em, "sync directory", dir, failed) : OK;
}

enum err disk_make_dir(const struct disk_io *io, const char *dir, struct errmsg *em)
{
    char parent[DISK_PATH_BYTES_MAX];
    size_t len = strlen(dir);
    if (len == 0 || len >= sizeof parent) {
        errmsg_set(em, "the directory's path has %zu bytes", len);
        return ERR_CONFIG;
    }
    int answer = io->mkdir(io->ctx, dir);
    if (answer < 0) return disk_error(em, "make directory", dir, answer);
    memcpy(parent, dir, len + 1);
    while (len > 0 && parent[len - 1] == '/') parent[--len] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        memcpy(parent, ".", 2);
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    answer = io->dirsync(io->ctx, parent);
    return answer < 0 ? disk_error(em, "sync directory", parent, answer) : OK;
}
