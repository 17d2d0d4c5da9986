/* disk/identity.c - see identity.h. */
#include "disk/identity.h"

#include "base/buf.h"

#include <errno.h>
#include <stdio.h>

static const char *const labels[] = { "cluster", "member", "directory", "incarnation", "ready" };

static void identity_path(const char *dir, const char *name, char out[DISK_PATH_BYTES_MAX])
{
    int len = snprintf(out, DISK_PATH_BYTES_MAX, "%s/%s", dir, name);
    ASSERT(len > 0 && len < DISK_PATH_BYTES_MAX);
}

/* Takes one line from *text; false if there is no end of line. */
static bool line_next(struct slice *text, struct slice *line)
{
    const uint8_t *end = text->len == 0 ? NULL : memchr(text->at, '\n', text->len);
    if (end == NULL) return false;
    *line = (struct slice){ text->at, (size_t)(end - text->at) };
    *text = (struct slice){ end + 1, text->len - line->len - 1 };
    return true;
}

static bool crc_is_right(struct slice all, struct slice rest, struct slice line)
{
    char want[16];
    size_t covered = all.len - rest.len - line.len - 1;
    snprintf(want, sizeof want, "crc %08x", crc32c(0, all.at, covered));
    return rest.len == 0 && slice_eq(line, slice_of(want));
}

static bool identity_parse(struct slice all, struct identity *out)
{
    struct slice rest = all;
    struct slice line;
    if (!line_next(&rest, &line) || !slice_eq(line, SLICE_LIT("cordis-identity 1"))) return false;
    uint64_t values[ARRAY_LEN(labels)];
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct slice label = slice_of(labels[i]);
        if (!line_next(&rest, &line) || !slice_starts(line, label)) return false;
        if (line.len < label.len + 2 || line.at[label.len] != ' ') return false;
        struct slice digits = { line.at + label.len + 1, line.len - label.len - 1 };
        if (u64_parse(digits, &values[i]) != OK) return false;
    }
    if (!line_next(&rest, &line) || !crc_is_right(all, rest, line)) return false;
    if (values[0] == 0 || values[1] == 0 || values[2] == 0 || values[4] > 1) return false;
    *out = (struct identity){ values[0], values[1], values[2], values[3], values[4] == 1 };
    return true;
}

enum err identity_load(const struct disk_io *io, const char *dir, struct identity *out,
                       struct errmsg *em)
{
    char path[DISK_PATH_BYTES_MAX];
    identity_path(dir, "identity", path);
    int fd = -1;
    int failed = io->open(io->ctx, path, DISK_READ, &fd);
    if (failed == -ENOENT) {
        errmsg_set(em, "%s: no such file", path);
        return ERR_NOT_FOUND;
    }
    if (failed < 0) return disk_error(em, "open", path, failed);
    uint8_t bytes[IDENTITY_BYTES_MAX];
    int64_t got = io->pread(io->ctx, fd, bytes, sizeof bytes, 0);
    io->close(io->ctx, fd);
    if (got < 0) return disk_error(em, "read", path, got);
    if (!identity_parse((struct slice){ bytes, (size_t)got }, out)) {
        errmsg_set(em, "%s: damaged at offset 0: not an identity file or wrong checksum", path);
        return ERR_CORRUPT;
    }
    return OK;
}

enum err identity_save(const struct disk_io *io, const char *dir, const struct identity *id,
                       struct errmsg *em)
{
    ASSERT(id->cluster_id != 0 && id->member_id != 0 && id->directory_id != 0);
    struct buf text CLEANUP(buf_deinit) = { 0 };
    const uint64_t values[] = { id->cluster_id, id->member_id, id->directory_id, id->incarnation,
                                id->ready ? 1 : 0 };
    _Static_assert(ARRAY_LEN(values) == ARRAY_LEN(labels), "a value for each label");
    buf_printf(&text, "cordis-identity 1\n");
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        buf_printf(&text, "%s %llu\n", labels[i], (unsigned long long)values[i]);
    }
    buf_printf(&text, "crc %08x\n", crc32c(0, text.at, text.len));
    ASSERT(text.len <= IDENTITY_BYTES_MAX);

    if (MUTANT(INCARNATION_NOT_STORED) && id->incarnation > 1) return OK;
    return disk_replace_file(io, dir, "identity", buf_slice(&text), em);
}

/* --- claiming a directory ------------------------------------------------------------------- */

struct names {
    size_t strangers;
    bool lock; /* another process is, or was, about to use the directory */
};

/* "lost+found" is what a file system of its own begins with. */
static int count_name(void *arg, const char *name)
{
    struct names *names = arg;
    bool lock = strcmp(name, "LOCK") == 0;
    names->lock = names->lock || lock;
    bool known = lock || strcmp(name, "identity.tmp") == 0 || strcmp(name, "lost+found") == 0;
    if (!known) names->strangers++;
    return 0;
}

enum err identity_refuse_strangers(const struct disk_io *io, const char *dir, bool locked,
                                   struct errmsg *em)
{
    struct identity id;
    if (identity_load(io, dir, &id, em) != ERR_NOT_FOUND) return OK;
    struct names names = { 0 };
    int failed = io->list(io->ctx, dir, count_name, &names);
    if (failed < 0) return disk_error(em, "list", dir, failed);
    if (names.strangers == 0 || (!locked && names.lock)) return OK;
    errmsg_set(em, "%s is not empty and has no file 'identity': refusing to use it. "
               "Give --dir an empty directory, or put the identity file back", dir);
    return ERR_CONFIG;
}

static uint64_t id_of(uint64_t random)
{
    uint64_t id = u64_mix(random) & IDENTITY_ID_MAX;
    return id == 0 ? 1 : id;
}

enum err identity_claim(const struct disk_io *io, const char *dir, const uint64_t random[3],
                        struct identity *out, struct errmsg *em)
{
    enum err e = identity_load(io, dir, out, em);
    if (e != ERR_NOT_FOUND) return e;
    TRY(identity_refuse_strangers(io, dir, true, em));
    const struct identity fresh = { id_of(random[0]), id_of(random[1]), id_of(random[2]), 0, false };
    TRY(identity_save(io, dir, &fresh, em));
    *out = fresh;
    return OK;
}
