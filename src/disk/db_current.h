/* disk/db_current.h - which directory holds the checkpoint: one small file, replaced at once.
 *
 * PURPOSE  Name the store's directory beside its replacements, so that a whole store is exchanged by
 *          the rename of one file. Decides nothing about when.
 * OWNS     The file <dir>/db.current, and the names "db", "db.<n>" in <dir>.
 * USES     base/, disk_io.h.
 * THREADS  Any, one at a time; blocks on the disk.
 * LIMITS   DB_NAME_BYTES_MAX; DB_CURRENT_BYTES_MAX.
 * ERRORS   ERR_CORRUPT with the file and what is wrong; ERR_IO, ERR_NOSPACE.
 *
 * FORMAT   Text, a line each: "cordis-db 1" | "name db" or "name db.<n>" | "index <u64>" |
 *          "term <u64>" (of the snapshot that it was installed from, 0 0 if none) |
 *          "crc <8 hex digits>" (CRC32C of all before). No file: "db", 0, 0.
 */
#ifndef DISK_DB_CURRENT_H
#define DISK_DB_CURRENT_H

#include "disk/disk_io.h"

#define DB_NAME_BYTES_MAX 32
#define DB_CURRENT_BYTES_MAX 256

struct db_current {
    uint64_t number; /* 0: "db"; n: "db.<n>" */
    uint64_t index;  /* of the snapshot that made it */
    uint64_t term;
};

enum err db_current_load(const struct disk_io *io, const char *dir, struct db_current *out,
                         struct errmsg *em) MUST_USE;

/* Written beside it and synced: nothing has changed yet. */
enum err db_current_prepare(const struct disk_io *io, const char *dir,
                            const struct db_current *current, struct errmsg *em) MUST_USE;
/* Renames what was prepared, syncs the directory. After an error nobody knows which of the two a
 * restart will find: the process must end. */
enum err db_current_replace(const struct disk_io *io, const char *dir, struct errmsg *em) MUST_USE;

/* "<dir>/db.<number>" */
void db_path(const char *dir, uint64_t number, char out[DISK_PATH_BYTES_MAX]);

/* Removes a store's directory and all below it; OK if there is none. */
enum err db_remove(const struct disk_io *io, const char *path, struct errmsg *em) MUST_USE;
/* ERR_CORRUPT: what `current` names is not there, but another one is: the file db.current was lost,
 * or is not of this directory. */
enum err db_check(const struct disk_io *io, const char *dir, const struct db_current *current, struct errmsg *em) MUST_USE;
/* Removes "db" and "db.<n>" that `current` does not name, and what prepare left. */
enum err db_remove_others(const struct disk_io *io, const char *dir, const struct db_current *current,
                          struct errmsg *em) MUST_USE;

#endif
