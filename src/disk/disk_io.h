/* disk/disk_io.h - the few file operations that the disk folder is written over.
 *
 * PURPOSE  Decide nothing: a table of operations, so that formats and recovery run the same over
 *          the kernel and over a modelled disk that loses what was not synced.
 * OWNS     Nothing; an open file belongs to the caller until close().
 * USES     base/.
 * THREADS  The kernel's table: any. A modelled one: as its maker says.
 * LIMITS   DISK_PATH_BYTES_MAX, DISK_BLOCK_BYTES_MAX.
 * ERRORS   The table answers 0 (or a count) or a negative errno, because messages name the errno.
 *          The helpers below answer enum err (ERR_IO, ERR_NOSPACE) with a text.
 */
#ifndef DISK_DISK_IO_H
#define DISK_DISK_IO_H

#include "base/base.h"

#define DISK_PATH_BYTES_MAX 1024
#define DISK_BLOCK_BYTES_MIN 4096
#define DISK_BLOCK_BYTES_MAX 65536

enum disk_open_flag {
    DISK_READ = 0,
    DISK_WRITE = 1,  /* read and write */
    DISK_CREATE = 2, /* make it; it must not exist yet */
    DISK_DIRECT = 4, /* past the page cache; buffers, lengths and offsets in whole blocks */
    DISK_NO_AHEAD = 8, /* the kernel reads what is asked for, no more: it does not guess */
};

struct disk_io {
    void *ctx;
    bool real_fds; /* the files are the kernel's descriptors: io_uring may be used on them */
    int (*open)(void *ctx, const char *path, unsigned flags, int *fd_out);
    int (*close)(void *ctx, int fd);
    int64_t (*pread)(void *ctx, int fd, void *to, size_t bytes, uint64_t offset);
    /* A hint: these bytes will be asked for soon. Does not wait for them. */
    void (*will_read)(void *ctx, int fd, uint64_t offset, size_t bytes);
    int64_t (*pwrite)(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset);
    int (*sync)(void *ctx, int fd); /* data, and the size: fdatasync */
    int (*size)(void *ctx, int fd, uint64_t *bytes_out);
    int (*allocate)(void *ctx, int fd, uint64_t bytes); /* reserves space; the size becomes bytes */
    int (*truncate)(void *ctx, int fd, uint64_t bytes);
    int (*rename)(void *ctx, const char *from, const char *to); /* replaces `to` */
    int (*unlink)(void *ctx, const char *path); /* a directory: -EISDIR or -EPERM */
    int (*rmdir)(void *ctx, const char *path); /* an empty one */
    int (*mkdir)(void *ctx, const char *path); /* mode 0700; 0 too if it is there */
    /* Calls each for every name but . and .., in no order, until it answers other than 0. */
    int (*list)(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg);
    int (*dirsync)(void *ctx, const char *dir); /* makes creations, renames, unlinks in it last */
    /* What the path's device writes whole, in [DISK_BLOCK_BYTES_MIN, DISK_BLOCK_BYTES_MAX]. */
    int (*block_bytes)(void *ctx, const char *path, uint32_t *bytes_out);
    int (*path_size)(void *ctx, const char *path, uint64_t *bytes_out); /* 0: not a file */
    /* What the path's device has left for ordinary users. */
    int (*free_bytes)(void *ctx, const char *path, uint64_t *bytes_out);
};

/* The kernel's files. */
const struct disk_io *disk_io_posix(void);

/* Reads exactly `bytes`; a shorter file is ERR_CORRUPT. `path` is for the message. */
enum err disk_read_all(const struct disk_io *io, int fd, const char *path, void *to, size_t bytes,
                       uint64_t offset, struct errmsg *em) MUST_USE;
/* Writes all, in as many pieces as it takes. Batches of the WAL do not: a short write is fatal. */
enum err disk_write_all(const struct disk_io *io, int fd, const char *path, const void *from,
                        size_t bytes, uint64_t offset, struct errmsg *em) MUST_USE;
/* Puts `bytes` into <dir>/<name>: written beside it as <name>.tmp, synced, renamed over it, the
 * directory synced. A crash leaves the old file or the new one. */
enum err disk_replace_file(const struct disk_io *io, const char *dir, const char *name,
                           struct slice bytes, struct errmsg *em) MUST_USE;
/* Makes the directory and its parent's entry for it last. Only one level is made. */
enum err disk_make_dir(const struct disk_io *io, const char *dir, struct errmsg *em) MUST_USE;
/* Turns a negative errno into an enum err and a text "what path: reason". */
enum err disk_error(struct errmsg *em, const char *what, const char *path, int64_t negative_errno);

#endif
