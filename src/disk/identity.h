/* disk/identity.h - who this data directory is.
 *
 * PURPOSE  Keep the ids of a data directory and count its starts. Decides nothing about the group.
 * OWNS     The file <dir>/identity.
 * USES     base/, disk_io.h.
 * THREADS  Any, one at a time; blocks on the disk.
 * LIMITS   IDENTITY_BYTES_MAX.
 * ERRORS   ERR_NOT_FOUND there is no such file; ERR_CORRUPT with the file and what is wrong; ERR_IO.
 *
 * FORMAT   Text, so that a person can read it; a line each, in this order:
 *          "cordis-identity 1" | "cluster <u64>" | "member <u64>" | "directory <u64>" |
 *          "incarnation <u64>" | "ready <0|1>" | "crc <8 hex digits>" (CRC32C of all before)
 */
#ifndef DISK_IDENTITY_H
#define DISK_IDENTITY_H

#include "disk/disk_io.h"

#define IDENTITY_BYTES_MAX 512
#define IDENTITY_ID_MAX ((1ULL << 53) - 1) /* exact in a double: clients in JavaScript see ids */

struct identity {
    uint64_t cluster_id;
    uint64_t member_id;
    uint64_t directory_id;
    uint64_t incarnation; /* counts the starts; synced before the first proposal of a run */
    bool ready; /* false: the directory was still being made; nothing was ever answered from it */
};

enum err identity_load(const struct disk_io *io, const char *dir, struct identity *out,
                       struct errmsg *em) MUST_USE;
/* Replaces the file: written beside it, synced, renamed, the directory synced. */
enum err identity_save(const struct disk_io *io, const char *dir, const struct identity *id,
                       struct errmsg *em) MUST_USE;
/* ERR_CONFIG if there is no identity, but files of others: they are not ours to write over. To be
 * asked before the directory is locked, so that not even a lock is left in a foreign one, and again
 * when it is: without the lock another process may be making the identity, which is no error. */
enum err identity_refuse_strangers(const struct disk_io *io, const char *dir, bool locked,
                                   struct errmsg *em) MUST_USE;
/* Loads it; or, in an empty directory, makes one with ids of these random numbers that is not ready,
 * and saves it, so that the next start finds the same ids. ERR_CONFIG if there are files of others. */
enum err identity_claim(const struct disk_io *io, const char *dir, const uint64_t random[3],
                        struct identity *out, struct errmsg *em) MUST_USE;

/* This directory must not be used any more: `why` is what is answered at every start. A file of its
 * own, <dir>/revoked, synced. */
enum err identity_revoke(const struct disk_io *io, const char *dir, const char *why,
                         struct errmsg *em) MUST_USE;
/* ERR_CORRUPT with what was said, if it was revoked. */
enum err identity_check_revoked(const struct disk_io *io, const char *dir, struct errmsg *em) MUST_USE;

#endif
