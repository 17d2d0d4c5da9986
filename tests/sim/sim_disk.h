/* tests/sim/sim_disk.h - a disk in memory that loses what was not synced.
 *
 * PURPOSE  A struct disk_io over memory. A crash leaves what a real one could: of each file any of
 *          the sectors written since its last sync, of each directory any of the changes since its
 *          last sync that what is left does not contradict. Operations can be told to fail, to be
 *          the last before a crash, to find the disk full. Which of it happens follows from seeds.
 * OWNS     struct sim_disk and all bytes in it. Each disk is one directory, its root, and what is
 *          below; the roots of the disks of one process differ (sim_leveldb.c finds its files by
 *          them).
 * USES     base/, disk/disk_io.h.
 * THREADS  One.
 * LIMITS   SIM_PATH_BYTES a path (asserted); memory.
 * ERRORS   Those asked for; ENOENT, EEXIST, ENOSPC as the kernel; EIO for everything from a crash
 *          on until sim_disk_crash().
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include <errno.h>

#include "disk/disk_io.h"

#define SIM_PATH_BYTES 128
#define SIM_SECTOR_BYTES 512

struct sim_disk;
struct sim_file;

enum sim_fault {
    SIM_FAIL,  /* the operation answers the error and does nothing (a failed sync may lose pages) */
    SIM_SHORT, /* a write may write less; others may be carried out and answer the error */
    SIM_CRASH, /* likewise, and nothing works behind it until sim_disk_crash() or _kill() */
};

struct sim_disk *sim_disk_new(const char *root, uint64_t seed);
void sim_disk_free(struct sim_disk *d); /* NULL is allowed; no file is open */
/* The disk of a path: the newest one whose root it begins with; NULL if there is none. */
struct sim_disk *sim_disk_find(const char *path);
const struct disk_io *sim_disk_io(struct sim_disk *d); /* as long as the disk */

/* --- what goes wrong ---------------------------------------------------------- */

/* The n-th changing operation from now on (1: the next): creating, writing, syncing, resizing,
 * renaming, removing, making or syncing a directory. One at a time; replaces the former. n 0:
 * none. A crash's own error is EIO. */
void sim_disk_fail_nth(struct sim_disk *d, uint64_t n, enum sim_fault fault, int fault_errno);
/* The n-th reading operation: opening what is there, reading, listing. */
void sim_disk_fail_read_nth(struct sim_disk *d, uint64_t n, int fault_errno);
bool sim_disk_is_crashed(const struct sim_disk *d); /* by SIM_CRASH */
bool sim_disk_fault_hit(const struct sim_disk *d);  /* what fail_nth asked for has happened */

/* Room from now on, in blocks of 4096; UINT64_MAX (at first): no limit. */
void sim_disk_set_free_bytes(struct sim_disk *d, uint64_t bytes);

/* Power is lost and comes back: see PURPOSE. Whoever used the disk was abandoned before: no file is
 * open. The seed is mixed into the disk's own. Ends all faults. */
void sim_disk_crash(struct sim_disk *d, uint64_t seed);
/* The process is gone, the kernel and its cache are not. Files left open are closed. Ends all
 * faults. */
void sim_disk_kill(struct sim_disk *d);

/* Flips one bit, synced or not, of a file with `part` in its path, both chosen by the seed. False:
 * there is no such file with bytes. *path_out (may be NULL) is borrowed until the next change. */
bool sim_disk_flip(struct sim_disk *d, const char *part, uint64_t seed, const char **path_out);

/* --- looking --------------------------------------------------------------------- */

struct sim_disk_stats { /* since sim_disk_new; for a caller that gives operations a duration */
    uint64_t op_count;  /* changing operations */
    uint64_t read_count;
    uint64_t sync_count; /* of files and directories */
    uint64_t written_bytes;
    uint64_t synced_bytes; /* of sectors that a sync had to write */
};
void sim_disk_stats_get(const struct sim_disk *d, struct sim_disk_stats *out);
/* Of every operation so far, its arguments and what was written: equal runs have equal traces. */
uint64_t sim_disk_trace(const struct sim_disk *d);
size_t sim_disk_file_count(const struct sim_disk *d);

/* From the disk's own seed, into which sim_disk_seed mixes another one. */
uint64_t sim_disk_random(struct sim_disk *d, uint64_t below);
void sim_disk_seed(struct sim_disk *d, uint64_t seed);

/* --- damage by hand ----------------------------------------------------------------- */

/* What reads see. Written here it is as if never synced; sim_disk_settle makes it last. */
struct sim_file {
    uint8_t *now;
    size_t now_bytes;
    /* private */
    uint8_t *disk;   /* what is synced */
    uint64_t *dirty; /* a bit a sector */
    size_t disk_bytes;
    size_t cap;
    size_t cut_bytes; /* the shortest since the last sync: behind it disk[] may be void */
    size_t dirty_from, dirty_to; /* sectors, all dirty ones are in there */
    uint64_t blocks;             /* that count as used */
    uint32_t refs;               /* names in both tables, changes, descriptors */
    uint32_t live;               /* names now, descriptors */
    bool is_dir;
};

struct sim_file *sim_disk_get(struct sim_disk *d, const char *path); /* NULL: there is none */
void sim_disk_resize(struct sim_disk *d, struct sim_file *f, size_t bytes);
void sim_disk_settle(struct sim_disk *d); /* everything counts as synced from now on */

#endif
