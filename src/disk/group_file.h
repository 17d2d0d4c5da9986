/* disk/group_file.h - how this data directory came into its group.
 *
 * PURPOSE  Keep what was agreed on before the log existed: who founded the group, or who let this
 *          member in. Decides nothing; the log and its configurations say who belongs to it today.
 * OWNS     The file <dir>/group. A loaded record owns its bytes: group_record_deinit().
 * USES     base/, disk_io.h.
 * THREADS  Any, one at a time; blocks on the disk.
 * LIMITS   GROUP_MEMBERS_BYTES_MAX.
 * ERRORS   ERR_NOT_FOUND there is no such file; ERR_CORRUPT with the file; ERR_IO.
 *
 * FORMAT   (little-endian, pinned) "CRGF" | u8 version 1 | u8 way | u16 0 | u64 cluster | u64 member |
 *          u64 directory | u32 length | members (raft_members_encode) | u32 CRC32C of all before
 */
#ifndef DISK_GROUP_FILE_H
#define DISK_GROUP_FILE_H

#include "base/buf.h"
#include "disk/disk_io.h"

#define GROUP_MEMBERS_BYTES_MAX 32768

/* Numbers are on disk. */
enum group_way {
    GROUP_FOUNDED = 1, /* members: those of the first log entry */
    GROUP_JOINED = 2,  /* members: those at that time, to begin with */
};

struct group_record {
    enum group_way way;
    uint64_t cluster_id, member_id, directory_id;
    struct buf members;
};
void group_record_deinit(struct group_record *r);

enum err group_file_load(const struct disk_io *io, const char *dir, struct group_record *out,
                         struct errmsg *em) MUST_USE;
enum err group_file_save(const struct disk_io *io, const char *dir, const struct group_record *r,
                         struct errmsg *em) MUST_USE;

#endif
