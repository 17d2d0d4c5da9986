/* disk/store_db.h - LevelDB as used here: opened with care, written synced, read checked.
 *
 * PURPOSE  Keep LevelDB's hazards behind a few calls. Does not know what the keys mean, except
 *          how a pack's key is built.
 * OWNS     The open database and its options.
 * USES     base/, store_log.h, disk_io.h, LevelDB, the files of one directory.
 * THREADS  open, write, compact, files, close: one thread at a time. get and iterators: any.
 * LIMITS   STORE_TABLE_BYTES a table, STORE_INFO_LOG_BYTES_MAX for LevelDB's own log file.
 * ERRORS   ERR_CORRUPT, ERR_LOCKED (another process has it), ERR_NOSPACE, ERR_IO, with a text.
 */
#ifndef DISK_STORE_DB_H
#define DISK_STORE_DB_H

#include <leveldb/c.h>

#include "base/buf.h"
#include "disk/disk_io.h"

#define STORE_TABLE_BYTES (16u << 20)
#define STORE_TABLES_OPEN_MAX 2000
#define STORE_CACHE_BYTES (1u << 20) /* of index and other blocks; no read fills it with packs */
#define STORE_BLOCK_BYTES 16384u
#define STORE_INFO_LOG_BYTES_MAX (1u << 20)

struct store_db {
    const struct disk_io *io; /* the files that LevelDB has too */
    char *dir;
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_writeoptions_t *write_synced;
    leveldb_readoptions_t *read_checked;
    uint64_t log_number; /* the newest log whose directory entry is synced */
};

/* Trims, opens; with a new or half-made directory *fresh is true: the database is empty, and
 * store_db_made must follow the first write. On error *db needs no close. */
enum err store_db_open(struct store_db *db, const struct disk_io *io, const char *dir,
                       size_t write_buffer_bytes, bool *fresh, uint64_t *trimmed_bytes,
                       struct errmsg *em) MUST_USE;
enum err store_db_made(struct store_db *db, struct errmsg *em) MUST_USE;
/* Closes and opens again, which lets go of all tables. All iterators and snapshots must be gone.
 * After an error db must not be used but for store_db_close. */
enum err store_db_reopen(struct store_db *db, struct errmsg *em) MUST_USE;
/* Likewise. */
void store_db_close(struct store_db *db);

/* Synced; also the directory, when LevelDB has begun a new log. After an error the database must
 * not be used any more. */
enum err store_db_write(struct store_db *db, leveldb_writebatch_t *batch,
                        struct errmsg *em) MUST_USE;

/* Replaces *out. *found false: there is no such key. */
enum err store_db_get(const struct store_db *db, struct slice key, struct buf *out, bool *found,
                      struct errmsg *em) MUST_USE;

/* What an iterator met; OK if nothing. An iterator skips what it cannot read, so every loop ends
 * with this. */
enum err store_db_iter_error(const leveldb_iterator_t *it, struct errmsg *em) MUST_USE;
struct slice store_db_iter_key(const leveldb_iterator_t *it);
struct slice store_db_iter_value(const leveldb_iterator_t *it);

/* Size of all files, and of the logs among them, which is about what is in memory and not yet in a
 * table; also keeps LevelDB's own log file small. */
enum err store_db_files(const struct store_db *db, uint64_t *bytes, uint64_t *log_bytes,
                        struct errmsg *em) MUST_USE;
/* Writes what is in memory to a table and begins a new log. An error shows at the next write. */
void store_db_flush(struct store_db *db);

/* --- keys ------------------------------------------------------------------- */

#define STORE_PACK_KEY_BYTES 13u

struct store_pack_key {
    uint8_t at[STORE_PACK_KEY_BYTES];
};

static inline struct store_pack_key store_pack_key(uint64_t first_rev, uint32_t first_n)
{
    struct store_pack_key key;
    key.at[0] = 'r';
    u64_be_put(key.at + 1, first_rev);
    u32_be_put(key.at + 9, first_n);
    return key;
}

/* False if it is not the key of a pack. */
static inline bool store_pack_key_read(struct slice key, uint64_t *first_rev, uint32_t *first_n)
{
    if (key.len != STORE_PACK_KEY_BYTES || key.at[0] != 'r') return false;
    *first_rev = u64_be(key.at + 1);
    *first_n = u32_be(key.at + 9);
    return true;
}

#endif
