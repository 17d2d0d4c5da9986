/* tests/sim/sim_disk.c - see sim_disk.h. */
#include "sim_disk.h"

#include "base/buf.h"

#define BLOCK_BYTES 4096u
#define SECTORS_A_BLOCK (BLOCK_BYTES / SIM_SECTOR_BYTES)
#define SECTORS_A_WORD 64u
#define DISKS_MAX 64
#define NO_CUT SIZE_MAX

struct name {
    char path[SIM_PATH_BYTES];
    uint64_t hash;
    struct sim_file *file;
};

struct table {
    struct name *at;
    size_t count;
    size_t cap;
};

/* A creation (file) or removal (no file) of `to`, or a renaming (from). */
struct change {
    char from[SIM_PATH_BYTES];
    char to[SIM_PATH_BYTES];
    struct sim_file *file;
};

struct sim_disk {
    struct disk_io io;
    char root[SIM_PATH_BYTES];
    uint64_t random;
    uint64_t trace;
    struct table now;  /* what is seen */
    struct table disk; /* what is synced */
    struct change *changes; /* from disk to now, in their order */
    size_t change_count, change_cap;
    struct sim_file **fds; /* NULL: free */
    bool *direct;          /* likewise: opened past the page cache */
    size_t fd_count;
    struct sim_disk_stats stats;
    uint64_t fault_at; /* of stats.op_count; 0: none */
    enum sim_fault fault;
    int fault_errno;
    uint64_t read_fault_at; /* of stats.read_count */
    int read_fault_errno;
    bool crashed;
    bool fault_hit;
    uint64_t used_blocks;
    uint64_t blocks_max; /* UINT64_MAX: no limit */
};

/* Of this process, oldest first. */
static struct sim_disk *disks[DISKS_MAX];
static size_t disk_count;

uint64_t sim_disk_random(struct sim_disk *d, uint64_t below)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return u64_mix(d->random) % below;
}

void sim_disk_seed(struct sim_disk *d, uint64_t seed)
{
    d->random = u64_mix(d->random ^ u64_mix(seed + 0x9e3779b97f4a7c15ULL));
    if (d->random == 0) d->random = 1;
}

enum op {
    OP_OPEN = 1, OP_CLOSE, OP_READ, OP_WRITE, OP_SYNC, OP_SIZE, OP_RESIZE, OP_RENAME, OP_UNLINK,
    OP_MKDIR, OP_LIST, OP_DIRSYNC, OP_CRASH, OP_KILL,
};

static void trace(struct sim_disk *d, enum op op, uint64_t a, uint64_t b, uint64_t c)
{
    d->trace = u64_mix(d->trace ^ (uint64_t)op ^ u64_mix(a + 1) ^ u64_mix(b + 3) * 5 ^ c * 7);
}

static uint64_t path_hash(const char *path) { return bytes_hash(path, strlen(path), 1); }

/* --- files --------------------------------------------------------------------- */

static void file_account(struct sim_disk *d, struct sim_file *f)
{
    uint64_t blocks = f->live == 0 ? 0 : (f->now_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    d->used_blocks = d->used_blocks - f->blocks + blocks;
    f->blocks = blocks;
}

static struct sim_file *file_ref(struct sim_disk *d, struct sim_file *f, bool live)
{
    if (f == NULL) return NULL;
    f->refs++;
    f->live += live;
    file_account(d, f);
    return f;
}

static void file_unref(struct sim_disk *d, struct sim_file *f, bool live)
{
    if (f == NULL) return;
    f->live -= live;
    file_account(d, f);
    if (--f->refs != 0) return;
    mem_free(f->now);
    mem_free(f->disk);
    mem_free(f->dirty);
    mem_free(f);
}

/* With one reference. */
static struct sim_file *file_new(bool is_dir)
{
    struct sim_file *f = mem_zalloc(sizeof *f);
    f->refs = 1;
    f->is_dir = is_dir;
    f->cut_bytes = NO_CUT;
    f->dirty_from = SIZE_MAX;
    return f;
}

static size_t dirty_words(size_t cap)
{
    size_t unit = SIM_SECTOR_BYTES * SECTORS_A_WORD;
    return (cap + unit - 1) / unit;
}

static void file_reserve(struct sim_file *f, size_t bytes)
{
    if (bytes <= f->cap) return;
    size_t cap = (MAX(bytes, f->cap * 2) + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    size_t words_before = dirty_words(f->cap);
    size_t words = dirty_words(cap);
    f->now = mem_realloc(f->now, cap);
    f->disk = mem_realloc(f->disk, cap);
    memset(f->now + f->cap, 0, cap - f->cap);
    memset(f->disk + f->cap, 0, cap - f->cap);
    if (words != words_before) {
        f->dirty = mem_realloc(f->dirty, words * sizeof *f->dirty);
        memset(f->dirty + words_before, 0, (words - words_before) * sizeof *f->dirty);
    }
    f->cap = cap;
}

static bool is_dirty(const struct sim_file *f, size_t sector)
{
    return (f->dirty[sector / SECTORS_A_WORD] >> (sector % SECTORS_A_WORD) & 1) != 0;
}

static void mark_dirty(struct sim_file *f, size_t from, size_t to)
{
    for (size_t s = from; s < to;) {
        size_t count = MIN(to - s, SECTORS_A_WORD - s % SECTORS_A_WORD);
        uint64_t ones = count == SECTORS_A_WORD ? UINT64_MAX : (1ULL << count) - 1;
        f->dirty[s / SECTORS_A_WORD] |= ones << (s % SECTORS_A_WORD);
        s += count;
    }
    f->dirty_from = MIN(f->dirty_from, from);
    f->dirty_to = MAX(f->dirty_to, to);
}

static void all_clean(struct sim_file *f)
{
    if (f->dirty_from < f->dirty_to) {
        size_t first = f->dirty_from / SECTORS_A_WORD;
        size_t last = (f->dirty_to - 1) / SECTORS_A_WORD;
        memset(f->dirty + first, 0, (last - first + 1) * sizeof *f->dirty);
    }
    f->dirty_from = SIZE_MAX;
    f->dirty_to = 0;
}

void sim_disk_resize(struct sim_disk *d, struct sim_file *f, size_t bytes)
{
    file_reserve(f, bytes);
    if (bytes < f->now_bytes) {
        memset(f->now + bytes, 0, f->now_bytes - bytes);
        f->cut_bytes = MIN(f->cut_bytes, bytes);
    }
    f->now_bytes = bytes;
    file_account(d, f);
}

static void file_write(struct sim_disk *d, struct sim_file *f, const void *from, size_t bytes,
                       size_t offset)
{
    if (bytes == 0) return;
    file_reserve(f, offset + bytes);
    memcpy(f->now + offset, from, bytes);
    mark_dirty(f, offset / SIM_SECTOR_BYTES,
               (offset + bytes + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES);
    if (offset + bytes > f->now_bytes) f->now_bytes = offset + bytes;
    file_account(d, f);
    d->stats.written_bytes += bytes;
}

static void sector_to_disk(struct sim_file *f, size_t sector)
{
    size_t at = sector * SIM_SECTOR_BYTES;
    memcpy(f->disk + at, f->now + at, SIM_SECTOR_BYTES);
}

/* What was cut off is gone from the disk too. */
static void cut_to_disk(struct sim_file *f)
{
    if (f->cut_bytes < f->disk_bytes) {
        memset(f->disk + f->cut_bytes, 0, f->disk_bytes - f->cut_bytes);
    }
    f->cut_bytes = NO_CUT;
}

static void file_sync(struct sim_disk *d, struct sim_file *f)
{
    cut_to_disk(f);
    for (size_t s = f->dirty_from; s < f->dirty_to;) {
        size_t end = s;
        while (end < f->dirty_to && is_dirty(f, end)) end++;
        size_t bytes = (end - s) * SIM_SECTOR_BYTES;
        if (bytes != 0) memcpy(f->disk + s * SIM_SECTOR_BYTES, f->now + s * SIM_SECTOR_BYTES, bytes);
        d->stats.synced_bytes += bytes;
        s = end + (bytes == 0);
    }
    all_clean(f);
    f->disk_bytes = f->now_bytes;
}

/* After a failed sync the kernel takes the pages it could not write for clean: they are seen until
 * they are lost, and no later sync writes them. */
static void file_sync_failed(struct sim_disk *d, struct sim_file *f)
{
    for (size_t s = f->dirty_from; s < f->dirty_to; s++) {
        if (!is_dirty(f, s) || sim_disk_random(d, 2) == 0) continue;
        f->dirty[s / SECTORS_A_WORD] &= ~(1ULL << (s % SECTORS_A_WORD));
    }
}

/* --- names ----------------------------------------------------------------------- */

static struct name *table_find(const struct table *t, const char *path)
{
    uint64_t hash = path_hash(path);
    for (size_t i = 0; i < t->count; i++) {
        if (t->at[i].hash == hash && strcmp(t->at[i].path, path) == 0) return &t->at[i];
    }
    return NULL;
}

/* file NULL removes. */
static void table_set(struct sim_disk *d, struct table *t, const char *path, struct sim_file *file)
{
    bool live = t == &d->now;
    struct name *n = table_find(t, path);
    file_ref(d, file, live);
    if (n != NULL) file_unref(d, n->file, live);
    if (file == NULL) {
        if (n != NULL) *n = t->at[--t->count];
        return;
    }
    if (n == NULL) {
        if (t->count == t->cap) {
            t->cap = t->cap == 0 ? 32 : t->cap * 2;
            t->at = mem_realloc(t->at, t->cap * sizeof *t->at);
        }
        n = &t->at[t->count++];
        size_t len = strlen(path);
        ASSERT(len < SIM_PATH_BYTES);
        memcpy(n->path, path, len + 1);
        n->hash = path_hash(path);
    }
    n->file = file;
}

static void table_clear(struct sim_disk *d, struct table *t)
{
    for (size_t i = 0; i < t->count; i++) file_unref(d, t->at[i].file, t == &d->now);
    t->count = 0;
}

static void table_copy(struct sim_disk *d, struct table *to, const struct table *from)
{
    table_clear(d, to);
    for (size_t i = 0; i < from->count; i++) table_set(d, to, from->at[i].path, from->at[i].file);
}

static size_t dir_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static bool is_in(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return dir_len(path) == len && memcmp(path, dir, len) == 0;
}

/* The root is always there, and what is above it. */
static bool dir_exists(const struct sim_disk *d, const struct table *t, const char *path,
                       size_t len)
{
    char dir[SIM_PATH_BYTES];
    if (len <= strlen(d->root) && memcmp(path, d->root, len) == 0) return true;
    ASSERT(len < sizeof dir);
    memcpy(dir, path, len);
    dir[len] = '\0';
    const struct name *n = table_find(t, dir);
    return n != NULL && n->file->is_dir;
}

static void change_apply(struct sim_disk *d, struct table *t, const struct change *c)
{
    if (c->from[0] != '\0') table_set(d, t, c->from, NULL);
    table_set(d, t, c->to, c->file);
}

static void change_add(struct sim_disk *d, const char *from, const char *to, struct sim_file *file)
{
    if (d->change_count == d->change_cap) {
        d->change_cap = d->change_cap == 0 ? 32 : d->change_cap * 2;
        d->changes = mem_realloc(d->changes, d->change_cap * sizeof *d->changes);
    }
    struct change *c = &d->changes[d->change_count++];
    memset(c, 0, sizeof *c);
    ASSERT(strlen(from) < SIM_PATH_BYTES && strlen(to) < SIM_PATH_BYTES);
    memcpy(c->from, from, strlen(from) + 1);
    memcpy(c->to, to, strlen(to) + 1);
    c->file = file_ref(d, file, false);
    change_apply(d, &d->now, c);
}

static void changes_clear(struct sim_disk *d)
{
    for (size_t i = 0; i < d->change_count; i++) file_unref(d, d->changes[i].file, false);
    d->change_count = 0;
}

/* --- operations ------------------------------------------------------------------- */

/* 0: go on. Otherwise the negative errno to answer; *half says that it may happen all the same. */
static int begin_change(struct sim_disk *d, bool *half)
{
    *half = false;
    if (d->crashed) return -EIO;
    if (++d->stats.op_count != d->fault_at) return 0;
    d->fault_at = 0;
    d->fault_hit = true;
    d->crashed = d->fault == SIM_CRASH;
    *half = d->fault != SIM_FAIL && sim_disk_random(d, 2) == 0;
    return -d->fault_errno;
}

static int begin_read(struct sim_disk *d)
{
    if (d->crashed) return -EIO;
    if (++d->stats.read_count != d->read_fault_at) return 0;
    d->read_fault_at = 0;
    return -d->read_fault_errno;
}

static struct sim_file *file_of(const struct sim_disk *d, int fd)
{
    ASSERT(fd >= 0 && (size_t)fd < d->fd_count);
    ASSERT(d->fds[fd] != NULL);
    return d->fds[fd];
}

/* As the kernel insists. */
static void check_direct(const struct sim_disk *d, int fd, const void *at, size_t bytes, uint64_t offset)
{
    if (!d->direct[fd]) return;
    ASSERT((uintptr_t)at % BLOCK_BYTES == 0);
    ASSERT(bytes % BLOCK_BYTES == 0 && offset % BLOCK_BYTES == 0);
}

static int fd_new(struct sim_disk *d, struct sim_file *f, bool direct)
{
    size_t fd = 0;
    while (fd < d->fd_count && d->fds[fd] != NULL) fd++;
    if (fd == d->fd_count) {
        d->fds = mem_realloc(d->fds, ++d->fd_count * sizeof(struct sim_file *));
        d->direct = mem_realloc(d->direct, d->fd_count * sizeof *d->direct);
    }
    d->fds[fd] = file_ref(d, f, true);
    d->direct[fd] = direct;
    return (int)fd;
}

/* Bytes that a file may grow to, given the room there is. */
static uint64_t bytes_max(const struct sim_disk *d, const struct sim_file *f)
{
    if (d->blocks_max == UINT64_MAX) return UINT64_MAX;
    uint64_t left = d->blocks_max > d->used_blocks ? d->blocks_max - d->used_blocks : 0;
    return (f->blocks + left) * BLOCK_BYTES;
}

static int create(struct sim_disk *d, const char *path)
{
    bool half;
    int answer = begin_change(d, &half);
    if (answer < 0 && !half) return answer;
    if (table_find(&d->now, path) != NULL) return -EEXIST;
    if (!dir_exists(d, &d->now, path, dir_len(path))) return -ENOENT;
    if (d->blocks_max <= d->used_blocks) return -ENOSPC;
    struct sim_file *f = file_new(false);
    change_add(d, "", path, f);
    file_unref(d, f, false);
    return answer;
}

static int io_open(void *ctx, const char *path, unsigned flags, int *fd_out)
{
    struct sim_disk *d = ctx;
    int answer = flags & DISK_CREATE ? create(d, path) : begin_read(d);
    trace(d, OP_OPEN, path_hash(path), flags, (uint64_t)answer);
    if (answer < 0) return answer;
    const struct name *n = table_find(&d->now, path);
    if (n == NULL) return -ENOENT;
    if (n->file->is_dir) return -EISDIR;
    *fd_out = fd_new(d, n->file, (flags & DISK_DIRECT) != 0);
    return 0;
}

static int io_close(void *ctx, int fd)
{
    struct sim_disk *d = ctx;
    trace(d, OP_CLOSE, (uint64_t)fd, 0, 0);
    file_unref(d, file_of(d, fd), true);
    d->fds[fd] = NULL;
    return 0;
}

static void io_will_read(void *ctx, int fd, uint64_t offset, size_t bytes)
{
    (void)ctx, (void)fd, (void)offset, (void)bytes;
}

static int64_t io_pread(void *ctx, int fd, void *to, size_t bytes, uint64_t offset)
{
    struct sim_disk *d = ctx;
    const struct sim_file *f = file_of(d, fd);
    check_direct(d, fd, to, bytes, offset);
    /* A worker that is run to its end behind a crash belongs to nobody: it reads what there was, as
     * it does from the modelled LevelDB. (A store that cannot read ends its process.) */
    int answer = d->crashed ? 0 : begin_read(d);
    trace(d, OP_READ, (uint64_t)fd, offset, bytes);
    if (answer < 0) return answer;
    if (offset >= f->now_bytes) return 0;
    size_t got = MIN(bytes, f->now_bytes - (size_t)offset);
    memcpy(to, f->now + offset, got);
    return (int64_t)got;
}

static int64_t io_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    struct sim_disk *d = ctx;
    struct sim_file *f = file_of(d, fd);
    check_direct(d, fd, from, bytes, offset);
    bool half;
    int answer = begin_change(d, &half);
    /* The beginning tells enough: a write has sequence numbers and checksums there. */
    trace(d, OP_WRITE, (uint64_t)fd, offset, crc32c((uint32_t)bytes, from, MIN(bytes, (size_t)128)));
    if (half) {
        size_t part = bytes == 0 ? 0 : (size_t)sim_disk_random(d, bytes);
        if (d->direct[fd] && d->fault == SIM_SHORT) part -= part % BLOCK_BYTES;
        file_write(d, f, from, part, (size_t)offset);
        return d->fault == SIM_SHORT ? (int64_t)part : answer;
    }
    if (answer < 0) return answer;
    uint64_t room = MAX(bytes_max(d, f), f->now_bytes);
    if (offset + bytes > room) {
        if (offset >= room || sim_disk_random(d, 2) == 0) return -ENOSPC;
        bytes = (size_t)(room - offset);
    }
    file_write(d, f, from, bytes, (size_t)offset);
    return (int64_t)bytes;
}

static int io_sync(void *ctx, int fd)
{
    struct sim_disk *d = ctx;
    struct sim_file *f = file_of(d, fd);
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_SYNC, (uint64_t)fd, (uint64_t)answer, 0);
    if (answer < 0) {
        if (!d->crashed) file_sync_failed(d, f);
        return answer;
    }
    d->stats.sync_count++;
    file_sync(d, f);
    return 0;
}

static int io_size(void *ctx, int fd, uint64_t *bytes_out)
{
    struct sim_disk *d = ctx;
    *bytes_out = file_of(d, fd)->now_bytes;
    trace(d, OP_SIZE, (uint64_t)fd, *bytes_out, 0);
    return 0;
}

static int io_resize(void *ctx, int fd, uint64_t bytes)
{
    struct sim_disk *d = ctx;
    struct sim_file *f = file_of(d, fd);
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_RESIZE, (uint64_t)fd, bytes, (uint64_t)answer);
    if (answer < 0) return answer;
    if (bytes > f->now_bytes && bytes > bytes_max(d, f)) return -ENOSPC;
    sim_disk_resize(d, f, (size_t)bytes);
    return 0;
}

/* Renames from one directory to another are not modelled. */
static int io_rename(void *ctx, const char *from, const char *to)
{
    struct sim_disk *d = ctx;
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_RENAME, path_hash(from), path_hash(to), (uint64_t)answer);
    if (answer < 0 && !half) return answer;
    const struct name *n = table_find(&d->now, from);
    if (n == NULL) return -ENOENT;
    ASSERT(dir_len(from) == dir_len(to) && memcmp(from, to, dir_len(from)) == 0);
    struct sim_file *f = file_ref(d, n->file, false);
    change_add(d, from, to, f);
    file_unref(d, f, false);
    return answer;
}

static int io_unlink(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_UNLINK, path_hash(path), (uint64_t)answer, 0);
    if (answer < 0) return answer;
    const struct name *n = table_find(&d->now, path);
    if (n == NULL) return -ENOENT;
    if (n->file->is_dir) return -EISDIR;
    change_add(d, "", path, NULL);
    return 0;
}

static int io_rmdir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_UNLINK, path_hash(path), (uint64_t)answer, 1);
    if (answer < 0) return answer;
    if (!dir_exists(d, &d->now, path, strlen(path))) return -ENOENT;
    for (size_t i = 0; i < d->now.count; i++) {
        if (is_in(d->now.at[i].path, path)) return -ENOTEMPTY;
    }
    change_add(d, "", path, NULL);
    return 0;
}

static int io_mkdir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    bool half;
    trace(d, OP_MKDIR, path_hash(path), 0, 0);
    if (d->crashed) return -EIO;
    if (dir_exists(d, &d->now, path, strlen(path))) return 0;
    int answer = begin_change(d, &half);
    if (answer < 0) return answer;
    if (!dir_exists(d, &d->now, path, dir_len(path))) return -ENOENT;
    struct sim_file *f = file_new(true);
    change_add(d, "", path, f);
    file_unref(d, f, false);
    return 0;
}

static int list_names(const struct buf *names, size_t from, size_t to,
                      int (*each)(void *arg, const char *name), void *arg)
{
    for (size_t at = from; at < to; at += strlen((const char *)names->at + at) + 1) {
        int answer = each(arg, (const char *)names->at + at);
        if (answer != 0) return answer;
    }
    return 0;
}

/* In no order: begins anywhere. The names are those before the first call of `each`. */
static int io_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg)
{
    struct sim_disk *d = ctx;
    int answer = begin_read(d);
    trace(d, OP_LIST, path_hash(dir), (uint64_t)answer, 0);
    if (answer < 0) return answer;
    if (!dir_exists(d, &d->now, dir, strlen(dir))) return -ENOENT;
    CLEANUP(buf_deinit) struct buf names = { 0 };
    size_t first = d->now.count == 0 ? 0 : (size_t)sim_disk_random(d, d->now.count);
    size_t first_at = 0;
    for (size_t i = 0; i < d->now.count; i++) {
        const char *path = d->now.at[i].path;
        if (i == first) first_at = names.len;
        if (!is_in(path, dir)) continue;
        buf_append(&names, path + dir_len(path) + 1, strlen(path) - dir_len(path));
    }
    answer = list_names(&names, first_at, names.len, each, arg);
    return answer != 0 ? answer : list_names(&names, 0, first_at, each, arg);
}

static int io_dirsync(void *ctx, const char *dir)
{
    struct sim_disk *d = ctx;
    bool half;
    int answer = begin_change(d, &half);
    trace(d, OP_DIRSYNC, path_hash(dir), (uint64_t)answer, 0);
    if (answer < 0) return answer;
    if (!dir_exists(d, &d->now, dir, strlen(dir))) return -ENOENT;
    d->stats.sync_count++;
    size_t left = 0;
    for (size_t i = 0; i < d->change_count; i++) {
        if (!is_in(d->changes[i].to, dir)) {
            d->changes[left++] = d->changes[i];
            continue;
        }
        change_apply(d, &d->disk, &d->changes[i]);
        file_unref(d, d->changes[i].file, false);
    }
    d->change_count = left;
    return 0;
}

static int io_block_bytes(void *ctx, const char *path, uint32_t *bytes_out)
{
    const struct sim_disk *d = ctx;
    (void)path;
    *bytes_out = BLOCK_BYTES;
    return d->crashed ? -EIO : 0;
}

static int io_path_size(void *ctx, const char *path, uint64_t *bytes_out)
{
    struct sim_disk *d = ctx;
    int answer = begin_read(d);
    trace(d, OP_SIZE, path_hash(path), (uint64_t)answer, 0);
    if (answer < 0) return answer;
    const struct name *n = table_find(&d->now, path);
    if (n == NULL && !dir_exists(d, &d->now, path, strlen(path))) return -ENOENT;
    *bytes_out = n == NULL || n->file->is_dir ? 0 : n->file->now_bytes;
    return 0;
}

static int io_free_bytes(void *ctx, const char *path, uint64_t *bytes_out)
{
    const struct sim_disk *d = ctx;
    (void)path;
    if (d->crashed) return -EIO;
    uint64_t left = d->blocks_max > d->used_blocks ? d->blocks_max - d->used_blocks : 0;
    *bytes_out = d->blocks_max == UINT64_MAX ? UINT64_MAX : left * BLOCK_BYTES;
    return 0;
}

/* --- making ------------------------------------------------------------------------- */

struct sim_disk *sim_disk_new(const char *root, uint64_t seed)
{
    struct sim_disk *d = mem_zalloc(sizeof *d);
    size_t len = strlen(root);
    ASSERT(len > 0 && len < SIM_PATH_BYTES && root[len - 1] != '/');
    ASSERT(disk_count < DISKS_MAX);
    memcpy(d->root, root, len + 1);
    d->blocks_max = UINT64_MAX;
    sim_disk_seed(d, seed);
    d->io = (struct disk_io){
        .ctx = d,
        .open = io_open,
        .close = io_close,
        .pread = io_pread,
        .will_read = io_will_read,
        .pwrite = io_pwrite,
        .sync = io_sync,
        .size = io_size,
        .allocate = io_resize,
        .truncate = io_resize,
        .rename = io_rename,
        .unlink = io_unlink,
        .rmdir = io_rmdir,
        .mkdir = io_mkdir,
        .list = io_list,
        .dirsync = io_dirsync,
        .block_bytes = io_block_bytes,
        .path_size = io_path_size,
        .free_bytes = io_free_bytes,
    };
    disks[disk_count++] = d;
    return d;
}

static size_t open_count(const struct sim_disk *d)
{
    size_t count = 0;
    for (size_t fd = 0; fd < d->fd_count; fd++) count += d->fds[fd] != NULL;
    return count;
}

static void close_all(struct sim_disk *d)
{
    for (size_t fd = 0; fd < d->fd_count; fd++) {
        file_unref(d, d->fds[fd], true);
        d->fds[fd] = NULL;
    }
}

void sim_disk_free(struct sim_disk *d)
{
    if (d == NULL) return;
    ASSERT(open_count(d) == 0);
    size_t at = 0;
    while (disks[at] != d) ASSERT(++at < disk_count);
    memmove(disks + at, disks + at + 1, (disk_count - at - 1) * sizeof disks[0]);
    disk_count--;
    changes_clear(d);
    table_clear(d, &d->now);
    table_clear(d, &d->disk);
    ASSERT(d->used_blocks == 0);
    mem_free(d->now.at);
    mem_free(d->disk.at);
    mem_free(d->changes);
    mem_free(d->fds);
    mem_free(d->direct);
    mem_free(d);
}

struct sim_disk *sim_disk_find(const char *path)
{
    for (size_t i = disk_count; i > 0; i--) {
        size_t len = strlen(disks[i - 1]->root);
        bool begins = strncmp(path, disks[i - 1]->root, len) == 0;
        if (begins && (path[len] == '/' || path[len] == '\0')) return disks[i - 1];
    }
    return NULL;
}

const struct disk_io *sim_disk_io(struct sim_disk *d) { return &d->io; }

/* --- what goes wrong -------------------------------------------------------------------- */

void sim_disk_fail_nth(struct sim_disk *d, uint64_t n, enum sim_fault fault, int fault_errno)
{
    d->fault_hit = d->fault_hit && n == 0;
    d->fault_at = n == 0 ? 0 : d->stats.op_count + n;
    d->fault = fault;
    d->fault_errno = fault == SIM_CRASH ? EIO : fault_errno;
}

void sim_disk_fail_read_nth(struct sim_disk *d, uint64_t n, int fault_errno)
{
    d->read_fault_at = n == 0 ? 0 : d->stats.read_count + n;
    d->read_fault_errno = fault_errno;
}

bool sim_disk_is_crashed(const struct sim_disk *d) { return d->crashed; }
bool sim_disk_fault_hit(const struct sim_disk *d) { return d->fault_hit; }

void sim_disk_set_free_bytes(struct sim_disk *d, uint64_t bytes)
{
    d->blocks_max = bytes == UINT64_MAX ? UINT64_MAX : d->used_blocks + bytes / BLOCK_BYTES;
}

static void faults_end(struct sim_disk *d)
{
    d->crashed = false;
    d->fault_hit = false;
    d->fault_at = 0;
    d->read_fault_at = 0;
}

static bool touches(const struct change *c, const char *path)
{
    return path[0] != '\0' && (strcmp(c->from, path) == 0 || strcmp(c->to, path) == 0);
}

/* Everything, nothing, or each by itself: how much of what was not synced is there afterwards. */
static bool is_kept(struct sim_disk *d, uint64_t mood)
{
    return mood == 0 || (mood > 1 && sim_disk_random(d, 2) == 0);
}

/* A change survives only if all earlier ones of its names and its file did. */
static void crash_names(struct sim_disk *d)
{
    bool *lost = mem_zalloc(d->change_count + 1);
    uint64_t mood = sim_disk_random(d, 4);
    for (size_t i = 0; i < d->change_count; i++) {
        const struct change *c = &d->changes[i];
        lost[i] = !is_kept(d, mood);
        for (size_t j = 0; j < i && !lost[i]; j++) {
            const struct change *before = &d->changes[j];
            bool needs = touches(before, c->from) || touches(before, c->to) ||
                         (c->file != NULL && before->file == c->file);
            if (lost[j] && needs) lost[i] = true;
        }
        if (!lost[i]) change_apply(d, &d->disk, c);
    }
    mem_free(lost);
    changes_clear(d);
}

/* Names in directories that are not there are not found any more. */
static void drop_orphans(struct sim_disk *d)
{
    for (size_t i = 0; i < d->disk.count;) {
        const char *path = d->disk.at[i].path;
        if (dir_exists(d, &d->disk, path, dir_len(path))) {
            i++;
            continue;
        }
        table_set(d, &d->disk, path, NULL);
        i = 0;
    }
}

static void crash_bytes(struct sim_disk *d, struct sim_file *f)
{
    uint64_t mood = sim_disk_random(d, 4);
    bool whole_blocks = sim_disk_random(d, 2) == 0;
    bool was_cut = f->cut_bytes < f->disk_bytes && is_kept(d, mood);
    size_t end = f->cut_bytes < f->disk_bytes && !was_cut ? f->cut_bytes : SIZE_MAX;
    size_t low = was_cut ? f->cut_bytes : f->disk_bytes;
    bool kept = false;
    if (was_cut) cut_to_disk(f);
    for (size_t s = f->dirty_from; s < f->dirty_to; s++) {
        bool same = whole_blocks && s % SECTORS_A_BLOCK != 0 && s != f->dirty_from;
        if (!same) kept = is_kept(d, mood);
        if (is_dirty(f, s) && kept && (s + 1) * SIM_SECTOR_BYTES <= end) sector_to_disk(f, s);
    }
    if (end != SIZE_MAX) {
        f->now_bytes = f->disk_bytes;
    } else if (f->now_bytes > low) {
        uint64_t size = sim_disk_random(d, 3);
        if (mood == 1 || size == 0) f->now_bytes = low;
        if (mood > 1 && size == 1) f->now_bytes = low + (size_t)sim_disk_random(d, f->now_bytes - low);
    }
    f->disk_bytes = f->now_bytes;
    if (f->cap != 0) memset(f->disk + f->disk_bytes, 0, f->cap - f->disk_bytes);
    if (f->cap != 0) memcpy(f->now, f->disk, f->cap);
    all_clean(f);
    f->cut_bytes = NO_CUT;
    file_account(d, f);
}

void sim_disk_crash(struct sim_disk *d, uint64_t seed)
{
    ASSERT(open_count(d) == 0);
    sim_disk_seed(d, seed);
    trace(d, OP_CRASH, seed, 0, 0);
    crash_names(d);
    drop_orphans(d);
    table_copy(d, &d->now, &d->disk);
    for (size_t i = 0; i < d->now.count; i++) crash_bytes(d, d->now.at[i].file);
    faults_end(d);
}

void sim_disk_kill(struct sim_disk *d)
{
    trace(d, OP_KILL, 0, 0, 0);
    close_all(d);
    faults_end(d);
}

bool sim_disk_flip(struct sim_disk *d, const char *part, uint64_t seed, const char **path_out)
{
    uint64_t random = u64_mix(seed + 1);
    size_t found = 0;
    const struct name *chosen = NULL;
    for (size_t i = 0; i < d->now.count; i++) {
        const struct name *n = &d->now.at[i];
        if (n->file->now_bytes == 0 || strstr(n->path, part) == NULL) continue;
        found++;
        if (u64_mix(random + found) % found == 0) chosen = n;
    }
    if (chosen == NULL) return false;
    size_t at = (size_t)(u64_mix(random ^ 77) % chosen->file->now_bytes);
    uint8_t bit = (uint8_t)(1u << (u64_mix(random ^ 99) % 8));
    chosen->file->now[at] ^= bit;
    chosen->file->disk[at] ^= bit;
    if (path_out != NULL) *path_out = chosen->path;
    return true;
}

/* --- looking -------------------------------------------------------------------------------- */

void sim_disk_stats_get(const struct sim_disk *d, struct sim_disk_stats *out) { *out = d->stats; }

uint64_t sim_disk_trace(const struct sim_disk *d) { return d->trace; }

size_t sim_disk_file_count(const struct sim_disk *d)
{
    size_t count = 0;
    for (size_t i = 0; i < d->now.count; i++) count += !d->now.at[i].file->is_dir;
    return count;
}

struct sim_file *sim_disk_get(struct sim_disk *d, const char *path)
{
    const struct name *n = table_find(&d->now, path);
    return n == NULL ? NULL : n->file;
}

void sim_disk_settle(struct sim_disk *d)
{
    table_copy(d, &d->disk, &d->now);
    changes_clear(d);
    for (size_t i = 0; i < d->now.count; i++) {
        struct sim_file *f = d->now.at[i].file;
        mark_dirty(f, 0, f->cap / SIM_SECTOR_BYTES);
        file_sync(d, f);
    }
}
