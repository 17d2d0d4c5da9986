/* tests/sim/sim_leveldb.h - LevelDB's C interface, as far as src/disk uses it, over struct sim_disk.
 *
 * PURPOSE  Linked instead of -lleveldb: the same functions, the same names of files, the same log
 *          format, so that what is in src/disk runs unchanged over a disk that loses and tears. All
 *          of the data is in memory too; what LevelDB's thread would do happens inside of writes.
 * OWNS     leveldb_t: its map and its open files. The disk of a database is found by its path.
 * USES     sim_disk.h.
 * THREADS  One.
 * LIMITS   None.
 * ERRORS   LevelDB's texts.
 *
 * FORMAT   NNNNNN.log   LevelDB's: batches in records (see src/disk/store_log.h)
 *          MANIFEST-N   records as in a log, the last one counts: u64 log number | u64 next file |
 *                       u64 sequence | u64 table number, 0 none
 *          CURRENT      LevelDB's
 *          NNNNNN.ldb   blocks: u32 masked CRC32C of the rest | u32 bytes | entries: varint key
 *                       bytes | varint value bytes | key | value; then u64 magic | u64 blocks.
 *                       One table has all entries: there are no levels.
 *
 * As LevelDB: a log that is full is left unsynced for a new one, whose name is not synced; a while
 * later all of it goes to a table, the manifest is synced, and old files go. A failed write says so,
 * and then (src/disk promises it) nothing more may be written. Opening reads every log from the
 * manifest's on; with paranoid checks damage is refused, but not a record that ends with the file,
 * nor zeros. Damage in a table is met by reads: iterators leave the block out and tell at the end.
 *
 * Unlike LevelDB, the directory is synced before a table is named in the manifest and after CURRENT
 * is renamed. LevelDB leaves both to the file system's journal; the modelled disk has none.
 */
#ifndef TESTS_SIM_LEVELDB_H
#define TESTS_SIM_LEVELDB_H

#include <leveldb/c.h>

#include "sim_disk.h"

struct sim_leveldb_stats {
    uint64_t flush_count;   /* tables written */
    uint64_t compact_count; /* calls of leveldb_compact_range */
    uint64_t entry_count;
};
void sim_leveldb_stats_get(const leveldb_t *db, struct sim_leveldb_stats *out);

#endif
