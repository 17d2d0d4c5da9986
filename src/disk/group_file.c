/* disk/group_file.c - see group_file.h. */
#include "disk/group_file.h"

#include <errno.h>
#include <stdio.h>

#define HEAD_BYTES 36
#define FILE_BYTES_MAX (HEAD_BYTES + GROUP_MEMBERS_BYTES_MAX + 4)

static const uint8_t magic[8] = { 'C', 'R', 'G', 'F', 1 };

void group_record_deinit(struct group_record *r) { buf_deinit(&r->members); }

static bool record_decode(struct slice in, struct group_record *out)
{
    if (in.len < HEAD_BYTES + 4) return false;
    size_t len = u32_le(in.at + 32);
    if (in.len != HEAD_BYTES + len + 4 || memcmp(in.at, magic, 5) != 0) return false;
    if (crc32c(0, in.at, in.len - 4) != u32_le(in.at + in.len - 4)) return false;
    uint8_t way = in.at[5];
    if ((way != GROUP_FOUNDED && way != GROUP_JOINED) || u16_le(in.at + 6) != 0) return false;
    struct group_record r = { (enum group_way)way, u64_le(in.at + 8), u64_le(in.at + 16),
                              u64_le(in.at + 24), { 0 } };
    if (r.cluster_id == 0 || r.member_id == 0 || r.directory_id == 0) return false;
    buf_append(&r.members, in.at + HEAD_BYTES, len);
    *out = r;
    return true;
}

enum err group_file_load(const struct disk_io *io, const char *dir, struct group_record *out,
                         struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    int len = snprintf(path, sizeof path, "%s/group", dir);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
    int fd = -1;
    int failed = io->open(io->ctx, path, DISK_READ, &fd);
    if (failed == -ENOENT) {
        errmsg_set(em, "%s: no such file", path);
        return ERR_NOT_FOUND;
    }
    if (failed < 0) return disk_error(em, "open", path, failed);
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    int64_t got = io->pread(io->ctx, fd, buf_reserve(&bytes, FILE_BYTES_MAX + 1), FILE_BYTES_MAX + 1, 0);
    io->close(io->ctx, fd);
    if (got < 0) return disk_error(em, "read", path, got);
    if (record_decode((struct slice){ bytes.at, (size_t)got }, out)) return OK;
    errmsg_set(em, "%s: damaged: not such a file or wrong checksum", path);
    return ERR_CORRUPT;
}

enum err group_file_save(const struct disk_io *io, const char *dir, const struct group_record *r,
                         struct errmsg *em)
{
    ASSERT(r->cluster_id != 0 && r->member_id != 0 && r->directory_id != 0);
    ASSERT(r->members.len <= GROUP_MEMBERS_BYTES_MAX);
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    buf_append(&bytes, magic, 5);
    buf_append_u8(&bytes, (uint8_t)r->way);
    buf_append_u16(&bytes, 0);
    buf_append_u64(&bytes, r->cluster_id);
    buf_append_u64(&bytes, r->member_id);
    buf_append_u64(&bytes, r->directory_id);
    buf_append_u32(&bytes, (uint32_t)r->members.len);
    buf_append_slice(&bytes, buf_slice(&r->members));
    buf_append_u32(&bytes, crc32c(0, bytes.at, bytes.len));
    return disk_replace_file(io, dir, "group", buf_slice(&bytes), em);
}
