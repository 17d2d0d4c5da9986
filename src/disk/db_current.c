/* disk/db_current.c - see db_current.h. */
#include "disk/db_current.h"

#include "base/buf.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CURRENT_NAME "db.current"
#define PREPARED_NAME "db.current.tmp"
#define TREE_DEPTH_MAX 4 /* db.<n> / rows / lost / file */

static void path_join(const char *dir, const char *name, char out[DISK_PATH_BYTES_MAX])
{
    int len = snprintf(out, DISK_PATH_BYTES_MAX, "%s/%s", dir, name);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
}

static void db_name(uint64_t number, char out[DB_NAME_BYTES_MAX])
{
    int len = number == 0 ? snprintf(out, DB_NAME_BYTES_MAX, "db")
                          : snprintf(out, DB_NAME_BYTES_MAX, "db.%llu", (unsigned long long)number);
    ASSERT(len > 0 && len < DB_NAME_BYTES_MAX);
}

void db_path(const char *dir, uint64_t number, char out[DISK_PATH_BYTES_MAX])
{
    char name[DB_NAME_BYTES_MAX];
    db_name(number, name);
    path_join(dir, name, out);
}

/* --- the file ------------------------------------------------------------------ */

static void encode(struct buf *out, const struct db_current *c)
{
    char name[DB_NAME_BYTES_MAX];
    db_name(c->number, name);
    buf_printf(out, "cordis-db 1\nname %s\nindex %llu\nterm %llu\n", name,
               (unsigned long long)c->index, (unsigned long long)c->term);
    buf_printf(out, "crc %08x\n", crc32c(0, out->at, out->len));
    ASSERT(out->len <= DB_CURRENT_BYTES_MAX);
}

/* The number behind `label`, up to the end of the line. */
static bool take_number(struct slice *text, const char *label, uint64_t *out)
{
    struct slice l = slice_of(label);
    if (!slice_starts(*text, l)) return false;
    const uint8_t *end = memchr(text->at, '\n', text->len);
    if (end == NULL) return false;
    struct slice digits = { text->at + l.len, (size_t)(end - text->at) - l.len };
    *text = (struct slice){ end + 1, text->len - (size_t)(end + 1 - text->at) };
    return u64_parse(digits, out) == OK;
}

/* What it says, if it is to the byte what encode() makes of that. */
static bool decode(struct slice text, struct db_current *out)
{
    struct db_current c = { 0 };
    struct slice rest = text;
    struct slice plain = SLICE_LIT("cordis-db 1\nname db\n");
    struct slice head = SLICE_LIT("cordis-db 1\n");
    if (slice_starts(rest, plain)) {
        rest = (struct slice){ rest.at + plain.len, rest.len - plain.len };
    } else {
        if (!slice_starts(rest, head)) return false;
        rest = (struct slice){ rest.at + head.len, rest.len - head.len };
        if (!take_number(&rest, "name db.", &c.number) || c.number == 0) return false;
    }
    if (!take_number(&rest, "index ", &c.index) || !take_number(&rest, "term ", &c.term)) {
        return false;
    }
    struct buf want CLEANUP(buf_deinit) = { 0 };
    encode(&want, &c);
    if (!slice_eq(buf_slice(&want), text)) return false;
    *out = c;
    return true;
}

enum err db_current_load(const struct disk_io *io, const char *dir, struct db_current *out,
                         struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    path_join(dir, CURRENT_NAME, path);
    int fd = -1;
    int failed = io->open(io->ctx, path, DISK_READ, &fd);
    if (failed == -ENOENT) {
        *out = (struct db_current){ 0 };
        return OK;
    }
    if (failed < 0) return disk_error(em, "open", path, failed);
    uint8_t bytes[DB_CURRENT_BYTES_MAX + 1];
    int64_t got = io->pread(io->ctx, fd, bytes, sizeof bytes, 0);
    io->close(io->ctx, fd);
    if (got < 0) return disk_error(em, "read", path, got);
    if (!decode((struct slice){ bytes, (size_t)got }, out)) {
        errmsg_set(em, "%s: damaged at offset 0: it should name the checkpoint's directory", path);
        return ERR_CORRUPT;
    }
    return OK;
}

enum err db_current_prepare(const struct disk_io *io, const char *dir,
                            const struct db_current *current, struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    path_join(dir, PREPARED_NAME, path);
    struct buf text CLEANUP(buf_deinit) = { 0 };
    encode(&text, current);
    int failed = io->unlink(io->ctx, path);
    if (failed < 0 && failed != -ENOENT) return disk_error(em, "remove", path, failed);
    int fd = -1;
    failed = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE, &fd);
    if (failed < 0) return disk_error(em, "create", path, failed);
    enum err e = disk_write_all(io, fd, path, text.at, text.len, 0, em);
    if (e == OK) {
        failed = io->sync(io->ctx, fd);
        if (failed < 0) e = disk_error(em, "sync", path, failed);
    }
    io->close(io->ctx, fd);
    return e;
}

enum err db_current_replace(const struct disk_io *io, const char *dir, struct errmsg *em)
{
    char from[DISK_PATH_BYTES_MAX];
    char to[DISK_PATH_BYTES_MAX];
    path_join(dir, PREPARED_NAME, from);
    path_join(dir, CURRENT_NAME, to);
    int failed = io->rename(io->ctx, from, to);
    if (failed < 0) return disk_error(em, "rename", from, failed);
    failed = io->dirsync(io->ctx, dir);
    if (failed < 0) return disk_error(em, "sync directory", dir, failed);
    return OK;
}

/* --- removing -------------------------------------------------------------------- */

static enum err remove_tree(const char *path, int depth, struct errmsg *em);

static enum err remove_below(const char *path, DIR *at, int depth, struct errmsg *em)
{
    for (const struct dirent *entry; (entry = readdir(at)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char below[DISK_PATH_BYTES_MAX];
        path_join(path, entry->d_name, below);
        TRY(remove_tree(below, depth + 1, em));
    }
    return OK;
}

static enum err remove_tree(const char *path, int depth, struct errmsg *em)
{
    struct stat st;
    if (lstat(path, &st) != 0) return errno == ENOENT ? OK : disk_error(em, "look at", path, -errno);
    if (!S_ISDIR(st.st_mode)) {
        return unlink(path) == 0 ? OK : disk_error(em, "remove", path, -errno);
    }
    if (depth > TREE_DEPTH_MAX) return disk_error(em, "remove", path, -ELOOP);
    DIR *at = opendir(path);
    if (at == NULL) return disk_error(em, "open", path, -errno);
    enum err e = remove_below(path, at, depth, em);
    closedir(at);
    TRY(e);
    return rmdir(path) == 0 ? OK : disk_error(em, "remove", path, -errno);
}

enum err db_remove(const char *path, struct errmsg *em)
{
    return remove_tree(path, 0, em);
}

/* Is it a name of ours, but not what `keep` says? A person's copy has another name. */
static bool is_other(const char *name, const char *keep)
{
    uint64_t number;
    if (strcmp(name, keep) == 0) return false;
    if (strcmp(name, "db") == 0 || strcmp(name, PREPARED_NAME) == 0) return true;
    return strncmp(name, "db.", 3) == 0 && u64_parse(slice_of(name + 3), &number) == OK;
}

typedef enum err other_fn(const char *path, struct errmsg *em);

static enum err each_other(const char *dir, const char *keep, other_fn *fn, struct errmsg *em)
{
    DIR *at = opendir(dir);
    if (at == NULL) return disk_error(em, "open", dir, -errno);
    enum err e = OK;
    for (const struct dirent *entry; e == OK && (entry = readdir(at)) != NULL;) {
        if (!is_other(entry->d_name, keep)) continue;
        char path[DISK_PATH_BYTES_MAX];
        path_join(dir, entry->d_name, path);
        e = fn(path, em);
    }
    closedir(at);
    return e;
}

enum err db_remove_others(const char *dir, const struct db_current *current, struct errmsg *em)
{
    char keep[DB_NAME_BYTES_MAX];
    db_name(current->number, keep);
    return each_other(dir, keep, db_remove, em);
}

static enum err refuse_directory(const char *path, struct errmsg *em)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return OK;
    errmsg_set(em, "%s is there, but not the checkpoint's directory that %s should name", path,
               CURRENT_NAME);
    return ERR_CORRUPT;
}

enum err db_check(const char *dir, const struct db_current *current, struct errmsg *em)
{
    char keep[DB_NAME_BYTES_MAX];
    char path[DISK_PATH_BYTES_MAX];
    db_name(current->number, keep);
    path_join(dir, keep, path);
    if (access(path, F_OK) == 0) return OK;
    return each_other(dir, keep, refuse_directory, em);
}
