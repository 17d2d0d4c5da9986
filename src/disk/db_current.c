/* disk/db_current.c - see db_current.h. */
#include "disk/db_current.h"

#include "base/buf.h"

#include <errno.h>
#include <stdio.h>

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
    failed = MUTANT(CURRENT_NOT_SYNCED) ? 0 : io->dirsync(io->ctx, dir);
    if (failed < 0) return disk_error(em, "sync directory", dir, failed);
    return OK;
}

/* --- removing -------------------------------------------------------------------- */

static int name_add(void *arg, const char *name)
{
    struct buf *names = arg;
    buf_append(names, name, strlen(name) + 1);
    return 0;
}

static bool is_directory(const struct disk_io *io, const char *path)
{
    struct buf names CLEANUP(buf_deinit) = { 0 };
    return io->list(io->ctx, path, name_add, &names) >= 0;
}

static enum err remove_tree(const struct disk_io *io, const char *path, int depth, struct errmsg *em)
{
    int failed = io->unlink(io->ctx, path);
    if (failed == 0 || failed == -ENOENT) return OK;
    if (failed != -EISDIR && failed != -EPERM) return disk_error(em, "remove", path, failed);
    if (depth > TREE_DEPTH_MAX) return disk_error(em, "remove", path, -ELOOP);
    struct buf names CLEANUP(buf_deinit) = { 0 };
    failed = io->list(io->ctx, path, name_add, &names);
    if (failed < 0) return disk_error(em, "list", path, failed);
    for (size_t at = 0; at < names.len; at += strlen((const char *)names.at + at) + 1) {
        char below[DISK_PATH_BYTES_MAX];
        path_join(path, (const char *)names.at + at, below);
        TRY(remove_tree(io, below, depth + 1, em));
    }
    failed = io->rmdir(io->ctx, path);
    return failed == 0 ? OK : disk_error(em, "remove", path, failed);
}

enum err db_remove(const struct disk_io *io, const char *path, struct errmsg *em)
{
    return remove_tree(io, path, 0, em);
}

/* Is it a name of ours, but not what `keep` says? A person's copy has another name. */
static bool is_other(const char *name, const char *keep)
{
    uint64_t number;
    if (strcmp(name, keep) == 0) return false;
    if (strcmp(name, "db") == 0 || strcmp(name, PREPARED_NAME) == 0) return true;
    return strncmp(name, "db.", 3) == 0 && u64_parse(slice_of(name + 3), &number) == OK;
}

typedef enum err other_fn(const struct disk_io *io, const char *path, struct errmsg *em);

static enum err each_other(const struct disk_io *io, const char *dir, const char *keep, other_fn *fn,
                           struct errmsg *em)
{
    struct buf names CLEANUP(buf_deinit) = { 0 };
    int failed = io->list(io->ctx, dir, name_add, &names);
    if (failed < 0) return disk_error(em, "list", dir, failed);
    for (size_t at = 0; at < names.len; at += strlen((const char *)names.at + at) + 1) {
        const char *name = (const char *)names.at + at;
        if (!is_other(name, keep)) continue;
        char path[DISK_PATH_BYTES_MAX];
        path_join(dir, name, path);
        TRY(fn(io, path, em));
    }
    return OK;
}

enum err db_remove_others(const struct disk_io *io, const char *dir, const struct db_current *current,
                          struct errmsg *em)
{
    char keep[DB_NAME_BYTES_MAX];
    db_name(current->number, keep);
    return each_other(io, dir, keep, db_remove, em);
}

static enum err refuse_directory(const struct disk_io *io, const char *path, struct errmsg *em)
{
    if (!is_directory(io, path)) return OK;
    errmsg_set(em, "%s is there, but not the checkpoint's directory that %s should name", path,
               CURRENT_NAME);
    return ERR_CORRUPT;
}

enum err db_check(const struct disk_io *io, const char *dir, const struct db_current *current,
                  struct errmsg *em)
{
    char keep[DB_NAME_BYTES_MAX];
    char path[DISK_PATH_BYTES_MAX];
    db_name(current->number, keep);
    path_join(dir, keep, path);
    if (is_directory(io, path)) return OK;
    return each_other(io, dir, keep, refuse_directory, em);
}
