/* A preloaded library that makes one file operation of a server fail, or all of them slow.
 *
 *   SHIM_UNDER   only files below this directory
 *   SHIM_CALLS   which calls count: words out of pwrite write fdatasync fsync rename ftruncate
 *                fallocate unlink, with a space before and behind each
 *   SHIM_AT      the how many-th of them fails, once
 *   SHIM_KIND    EIO, ENOSPC, SHORT (writes half of it), DELAY (none fails, all wait), NOTE (neither)
 *   SHIM_US      how long DELAY waits
 *   SHIM_WHILE   all this only while this file exists; not given: always
 *   SHIM_NOTE    a file that gets a line `call path` for each that failed; with NOTE, for each
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long call_count;

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

/* By system call, so that it does not count itself. */
static void note(const char *call, const char *path)
{
    char line[4200];
    int len = snprintf(line, sizeof line, "%s %s\n", call, path);
    long fd = syscall(SYS_openat, AT_FDCWD, setting("SHIM_NOTE"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, len);
    syscall(SYS_close, fd);
}

/* 0: go on. Else the call fails with this errno; -1: it writes half. */
static int verdict(const char *call, const char *path)
{
    const char *under = setting("SHIM_UNDER");
    const char *kind = setting("SHIM_KIND");
    char word[32];
    snprintf(word, sizeof word, " %s ", call);
    size_t under_len = strlen(under);
    if (under_len == 0 || strncmp(path, under, under_len) != 0) return 0;
    if (path[under_len] != '/' && path[under_len] != '\0') return 0;
    if (strstr(setting("SHIM_CALLS"), word) == NULL) return 0;
    const char *gate = setting("SHIM_WHILE");
    if (gate[0] != '\0' && access(gate, F_OK) != 0) return 0;
    if (strcmp(kind, "DELAY") == 0) {
        usleep((useconds_t)atol(setting("SHIM_US")));
        return 0;
    }
    long count = atomic_fetch_add(&call_count, 1) + 1;
    if (strcmp(kind, "NOTE") == 0) note(call, path);
    if (count != atol(setting("SHIM_AT"))) return 0;
    note(call, path);
    if (strcmp(kind, "SHORT") == 0) return -1;
    return strcmp(kind, "ENOSPC") == 0 ? ENOSPC : EIO;
}

static int verdict_fd(const char *call, int fd)
{
    char link[64];
    char path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = '\0';
    return verdict(call, path);
}

static ssize_t fail(int error)
{
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *at, size_t len)
{
    int error = verdict_fd("write", fd);
    if (error > 0) return fail(error);
    if (error < 0) len /= 2;
    return syscall(SYS_write, fd, at, len);
}

/* What follows a short write, if the caller goes on, finds the disk full. */
ssize_t pwrite(int fd, const void *at, size_t len, off_t offset)
{
    static atomic_int full_fd = -1;
    if (atomic_load(&full_fd) == fd && fd >= 0) {
        atomic_store(&full_fd, -1);
        return fail(ENOSPC);
    }
    int error = verdict_fd("pwrite", fd);
    if (error > 0) return fail(error);
    if (error < 0) {
        atomic_store(&full_fd, fd);
        len /= 2;
    }
    return syscall(SYS_pwrite64, fd, at, len, offset);
}

ssize_t pwrite64(int fd, const void *at, size_t len, off64_t offset)
{
    return pwrite(fd, at, len, offset);
}

int fdatasync(int fd)
{
    int error = verdict_fd("fdatasync", fd);
    return error == 0 ? (int)syscall(SYS_fdatasync, fd) : (int)fail(error > 0 ? error : EIO);
}

int fsync(int fd)
{
    int error = verdict_fd("fsync", fd);
    return error == 0 ? (int)syscall(SYS_fsync, fd) : (int)fail(error > 0 ? error : EIO);
}

int rename(const char *from, const char *to)
{
    int error = verdict("rename", to);
    return error == 0 ? (int)syscall(SYS_rename, from, to) : (int)fail(error > 0 ? error : EIO);
}

int unlink(const char *path)
{
    int error = verdict("unlink", path);
    return error == 0 ? (int)syscall(SYS_unlink, path) : (int)fail(error > 0 ? error : EIO);
}

int ftruncate(int fd, off_t bytes)
{
    int error = verdict_fd("ftruncate", fd);
    return error == 0 ? (int)syscall(SYS_ftruncate, fd, bytes) : (int)fail(error > 0 ? error : EIO);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    int error = verdict_fd("fallocate", fd);
    return error == 0 ? (int)syscall(SYS_fallocate, fd, mode, offset, bytes)
                      : (int)fail(error > 0 ? error : EIO);
}
