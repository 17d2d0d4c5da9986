/* disk/store_db.c - see store_db.h. */
#include "disk/store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "disk/store_log.h"

/* There while a database is being made: what it holds then is nobody's state. */
#define MAKING_NAME "MAKING"

/* Takes LevelDB's text. */
static enum err db_error(struct errmsg *em, const char *dir, char *text)
{
    errmsg_set(em, "%s: %s", dir, text);
    enum err e = ERR_IO;
    if (strncmp(text, "Corruption", 10) == 0) e = ERR_CORRUPT;
    if (strstr(text, "No such file") != NULL) e = ERR_CORRUPT; /* one that must be there */
    if (strncmp(text, "IO error: lock", 14) == 0) e = ERR_LOCKED;
    if (strstr(text, strerror(ENOSPC)) != NULL) e = ERR_NOSPACE;
    if (strstr(text, strerror(EDQUOT)) != NULL) e = ERR_NOSPACE;
    leveldb_free(text);
    return e;
}

static void path_of(struct buf *out, const char *dir, const char *name)
{
    buf_clear(out);
    buf_printf(out, "%s/%s", dir, name);
    buf_append_u8(out, 0);
}

/* --- the directory --------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    size_t name_len = strlen(name);
    size_t end_len = strlen(end);
    return name_len > end_len && strcmp(name + name_len - end_len, end) == 0;
}

struct files {
    bool making;
    bool current;
    bool data; /* something of a database */
    uint64_t log_number; /* the newest; 0 none */
    uint64_t bytes;      /* only if asked */
    uint64_t log_bytes;  /* of all logs, only if asked */
};

/* What list_files collects. */
struct listing {
    const struct disk_io *io;
    const char *dir;
    bool with_bytes;
    struct files files;
    struct buf path;
};

static int list_one(void *ctx, const char *name)
{
    struct listing *l = ctx;
    struct files *files = &l->files;
    uint64_t number = 0;
    bool log = store_log_number(name, &number);
    if (log) files->log_number = MAX(files->log_number, number);
    files->making = files->making || strcmp(name, MAKING_NAME) == 0;
    files->current = files->current || strcmp(name, "CURRENT") == 0;
    files->data = files->data || log || ends_with(name, ".ldb") ||
                  strncmp(name, "MANIFEST-", 9) == 0;
    if (!l->with_bytes) return 0;
    uint64_t bytes = 0;
    path_of(&l->path, l->dir, name);
    int answer = l->io->path_size(l->io->ctx, (const char *)l->path.at, &bytes);
    if (answer < 0) return 0; /* it was just deleted */
    files->bytes += bytes;
    if (log) files->log_bytes += bytes;
    return 0;
}

static enum err list_files(const struct disk_io *io, const char *dir, bool with_bytes,
                           struct files *out, struct errmsg *em)
{
    struct listing l = { .io = io, .dir = dir, .with_bytes = with_bytes };
    int answer = io->list(io->ctx, dir, list_one, &l);
    buf_deinit(&l.path);
    if (answer < 0) return disk_error(em, "list", dir, answer);
    *out = l.files;
    return OK;
}

static enum err sync_dir(const struct disk_io *io, const char *dir, struct errmsg *em)
{
    int answer = io->dirsync(io->ctx, dir);
    return answer < 0 ? disk_error(em, "sync directory", dir, answer) : OK;
}

static enum err make_file(const struct disk_io *io, const char *path, struct errmsg *em)
{
    int fd = -1;
    int answer = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE, &fd);
    if (answer < 0) return disk_error(em, "make", path, answer);
    io->close(io->ctx, fd);
    return OK;
}

/* Finds out whether a database is there, and removes one that was never finished. */
static enum err prepare(const struct disk_io *io, const char *dir, bool *fresh, struct errmsg *em)
{
    struct files files;
    TRY(list_files(io, dir, false, &files, em));
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, dir, MAKING_NAME);
    if (!files.making) {
        *fresh = !files.current && !files.data;
        if (files.current == files.data) {
            if (!*fresh) return OK;
            TRY(make_file(io, (const char *)path.at, em));
            return sync_dir(io, dir, em);
        }
        errmsg_set(em, "%s: %s", dir, files.current ? "CURRENT exists, but nothing else does"
                                                    : "the file CURRENT is missing");
        return ERR_CORRUPT;
    }
    leveldb_options_t *options = leveldb_options_create();
    char *text = NULL;
    leveldb_destroy_db(options, dir, &text); /* leaves the directory: MAKING is in it */
    leveldb_options_destroy(options);
    if (text != NULL) return db_error(em, dir, text);
    *fresh = true;
    return sync_dir(io, dir, em);
}

/* --- open and close -------------------------------------------------------- */

static void set_options(struct store_db *db, size_t write_buffer_bytes, bool fresh)
{
    db->options = leveldb_options_create();
    db->cache = leveldb_cache_create_lru(STORE_CACHE_BYTES);
    leveldb_options_set_create_if_missing(db->options, fresh);
    leveldb_options_set_paranoid_checks(db->options, 1);
    leveldb_options_set_compression(db->options, leveldb_no_compression);
    leveldb_options_set_write_buffer_size(db->options, write_buffer_bytes);
    leveldb_options_set_max_file_size(db->options, STORE_TABLE_BYTES);
    leveldb_options_set_max_open_files(db->options, STORE_TABLES_OPEN_MAX);
    leveldb_options_set_block_size(db->options, STORE_BLOCK_BYTES);
    leveldb_options_set_cache(db->options, db->cache);
    db->write_synced = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(db->write_synced, 1);
    db->read_checked = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(db->read_checked, 1);
    leveldb_readoptions_set_fill_cache(db->read_checked, 0);
}

/* Takes LevelDB's own lock, in its way (it is the kernel's in any case), so that the logs of a running process are not touched.
 * Closing *fd gives it back: right before LevelDB takes it. */
static enum err lock_take(const char *dir, int *fd, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, dir, "LOCK");
    *fd = open((const char *)path.at, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) return disk_error(em, "open", (const char *)path.at, -errno);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(*fd, F_SETLK, &lock) == 0) return OK;
    errmsg_set(em, "%s: held by another process", (const char *)path.at);
    return ERR_LOCKED;
}

static void fd_close(int *fd)
{
    if (*fd >= 0) close(*fd);
}

static enum err prepare_locked(const struct disk_io *io, const char *dir, bool *fresh,
                               uint64_t *trimmed_bytes, struct errmsg *em)
{
    TRY(disk_make_dir(io, dir, em));
    CLEANUP(fd_close) int lock_fd = -1;
    if (io->real_fds) TRY(lock_take(dir, &lock_fd, em));
    TRY(prepare(io, dir, fresh, em));
    return store_log_trim(io, dir, trimmed_bytes, em);
}

static enum err open_files(struct store_db *db, struct errmsg *em)
{
    char *text = NULL;
    db->db = leveldb_open(db->options, db->dir, &text);
    db->log_number = 0;
    if (text == NULL) return OK;
    db->db = NULL;
    return db_error(em, db->dir, text);
}

enum err store_db_open(struct store_db *db, const struct disk_io *io, const char *dir,
                       size_t write_buffer_bytes, bool *fresh, uint64_t *trimmed_bytes,
                       struct errmsg *em)
{
    TRY(prepare_locked(io, dir, fresh, trimmed_bytes, em));
    *db = (struct store_db){ .io = io, .dir = mem_copy(dir, strlen(dir) + 1) };
    set_options(db, write_buffer_bytes, *fresh);
    enum err e = open_files(db, em);
    if (e != OK) {
        store_db_close(db);
        return e;
    }
    /* From now on LevelDB's thread exists, made by this one: it has this one's name, priority and
     * signal mask, not those of whoever reads first. */
    store_db_flush(db);
    return OK;
}

void store_db_flush(struct store_db *db)
{
    leveldb_compact_range(db->db, "", 0, "", 0); /* no key is in there: nothing more to compact */
}

enum err store_db_reopen(struct store_db *db, struct errmsg *em)
{
    leveldb_close(db->db);
    return open_files(db, em);
}

enum err store_db_made(struct store_db *db, struct errmsg *em)
{
    TRY(sync_dir(db->io, db->dir, em));
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, db->dir, MAKING_NAME);
    int answer = db->io->unlink(db->io->ctx, (const char *)path.at);
    if (answer < 0) return disk_error(em, "remove", (const char *)path.at, answer);
    return sync_dir(db->io, db->dir, em);
}

void store_db_close(struct store_db *db)
{
    if (db->db != NULL) leveldb_close(db->db);
    leveldb_readoptions_destroy(db->read_checked);
    leveldb_writeoptions_destroy(db->write_synced);
    leveldb_options_destroy(db->options);
    leveldb_cache_destroy(db->cache);
    mem_free(db->dir);
    *db = (struct store_db){ 0 };
}

/* --- write, read ----------------------------------------------------------- */

enum err store_db_write(struct store_db *db, leveldb_writebatch_t *batch, struct errmsg *em)
{
    char *text = NULL;
    if (MUTANT(STORE_NOT_SYNCED)) db->write_synced = leveldb_writeoptions_create();
    leveldb_write(db->db, db->write_synced, batch, &text);
    if (text != NULL) return db_error(em, db->dir, text);
    struct files files;
    TRY(list_files(db->io, db->dir, false, &files, em));
    if (files.log_number == db->log_number || MUTANT(STORE_DIRECTORY_NOT_SYNCED)) return OK;
    TRY(sync_dir(db->io, db->dir, em));
    db->log_number = files.log_number;
    return OK;
}

enum err store_db_get(const struct store_db *db, struct slice key, struct buf *out, bool *found,
                      struct errmsg *em)
{
    char *text = NULL;
    size_t len = 0;
    char *value = leveldb_get(db->db, db->read_checked, (const char *)key.at, key.len, &len, &text);
    if (text != NULL) return db_error(em, db->dir, text);
    *found = value != NULL;
    buf_clear(out);
    if (value != NULL) buf_append(out, value, len);
    leveldb_free(value);
    return OK;
}

enum err store_db_iter_error(const leveldb_iterator_t *it, struct errmsg *em)
{
    char *text = NULL;
    leveldb_iter_get_error(it, &text);
    return text == NULL ? OK : db_error(em, "checkpoint", text);
}

struct slice store_db_iter_key(const leveldb_iterator_t *it)
{
    size_t len = 0;
    const char *at = leveldb_iter_key(it, &len);
    return (struct slice){ (const uint8_t *)at, len };
}

struct slice store_db_iter_value(const leveldb_iterator_t *it)
{
    size_t len = 0;
    const char *at = leveldb_iter_value(it, &len);
    return (struct slice){ (const uint8_t *)at, len };
}

/* LevelDB's log of what it does; LevelDB appends to it, whatever its length. */
static enum err empty_info_log(const struct disk_io *io, const char *path, struct errmsg *em)
{
    int fd = -1;
    int answer = io->open(io->ctx, path, DISK_WRITE, &fd);
    if (answer < 0) return disk_error(em, "open", path, answer);
    answer = io->truncate(io->ctx, fd, 0);
    io->close(io->ctx, fd);
    return answer < 0 ? disk_error(em, "truncate", path, answer) : OK;
}

enum err store_db_files(const struct store_db *db, uint64_t *bytes, uint64_t *log_bytes,
                        struct errmsg *em)
{
    struct files files;
    TRY(list_files(db->io, db->dir, true, &files, em));
    CLEANUP(buf_deinit) struct buf path = { 0 };
    path_of(&path, db->dir, "LOG");
    uint64_t info_bytes = 0;
    int answer = db->io->path_size(db->io->ctx, (const char *)path.at, &info_bytes);
    if (answer == 0 && info_bytes > STORE_INFO_LOG_BYTES_MAX) {
        TRY(empty_info_log(db->io, (const char *)path.at, em));
    }
    *bytes = files.bytes;
    *log_bytes = files.log_bytes;
    return OK;
}
