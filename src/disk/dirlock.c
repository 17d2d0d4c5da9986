/* disk/dirlock.c - see dirlock.h. */
#include "disk/dirlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "disk/disk_io.h"

struct dirlock {
    int fd;
};

/* The text in the file is a hint for people: only the lock itself decides. */
static void locked_by(int fd, const char *path, struct errmsg *em)
{
    char text[32];
    ssize_t got = pread(fd, text, sizeof text, 0);
    while (got > 0 && text[got - 1] == '\n') got--;
    uint64_t pid = 0;
    if (got > 0 && u64_parse((struct slice){ (const uint8_t *)text, (size_t)got }, &pid) == OK) {
        errmsg_set(em, "%s is held by process %llu", path, (unsigned long long)pid);
    } else {
        errmsg_set(em, "%s is held by another process", path);
    }
}

enum err dirlock_take(const char *dir, struct dirlock **out, struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    int len = snprintf(path, sizeof path, "%s/LOCK", dir);
    if (len < 0 || (size_t)len >= sizeof path) {
        errmsg_set(em, "the directory's path is too long");
        return ERR_CONFIG;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return disk_error(em, "open", path, -errno);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err e = ERR_LOCKED;
        if (errno == EWOULDBLOCK) {
            locked_by(fd, path, em);
        } else {
            e = disk_error(em, "lock", path, -errno);
        }
        close(fd);
        return e;
    }
    char text[32];
    int text_len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    ASSERT(text_len > 0);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)text_len, 0) != text_len) {
        enum err e = disk_error(em, "write", path, errno == 0 ? -EIO : -errno);
        close(fd);
        return e;
    }
    *out = mem_alloc(sizeof **out);
    (*out)->fd = fd;
    return OK;
}

void dirlock_free(struct dirlock *lock)
{
    if (lock == NULL) return;
    close(lock->fd);
    mem_free(lock);
}
