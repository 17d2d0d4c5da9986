/* disk/store_files.c - see store_files.h. */
#include "disk/store_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_DIGITS 10
#define NAME_END ".packs"

/* --- names ------------------------------------------------------------------ */

struct path {
    char at[DISK_PATH_BYTES_MAX + NAME_DIGITS + sizeof NAME_END + 1];
};

static struct path path_of(const struct store_files *f, uint32_t number)
{
    struct path path;
    snprintf(path.at, sizeof path.at, "%s/%0*" PRIu32 NAME_END, f->dir, NAME_DIGITS, number);
    return path;
}

/* Ten digits hold every number, so a name with more is not ours. */
static int add_number(void *numbers, const char *name)
{
    if (strspn(name, "0123456789") != NAME_DIGITS || strcmp(name + NAME_DIGITS, NAME_END) != 0) {
        return 0;
    }
    uint64_t number = strtoull(name, NULL, 10);
    if (number != 0 && number < UINT32_MAX) buf_append_u32(numbers, (uint32_t)number);
    return 0;
}

static int number_order(const void *a, const void *b)
{
    uint32_t x = u32_le(a);
    uint32_t y = u32_le(b);
    return x < y ? -1 : x > y;
}

/* --- sets ------------------------------------------------------------------- */

static struct store_file_set *set_new(size_t room)
{
    return mem_zalloc(sizeof(struct store_file_set) + room * sizeof(struct store_file *));
}

static void set_add(struct store_file_set *set, struct store_file *file)
{
    file->sets++;
    set->files[set->count++] = file;
}

/* Under the lock. */
static void set_unref(struct store_files *f, struct store_file_set *set)
{
    ASSERT(set->users > 0);
    if (--set->users != 0) return;
    for (size_t i = 0; i < set->count; i++) {
        struct store_file *file = set->files[i];
        if (--file->sets != 0) continue;
        file->next = f->dropped;
        f->dropped = file;
    }
    mem_free(set);
}

/* Each of the two may be NULL. */
static void publish(struct store_files *f, struct store_file *added,
                    const struct store_file *dropped)
{
    pthread_mutex_lock(&f->lock);
    struct store_file_set *before = f->set;
    struct store_file_set *set = set_new(before->count + 1);
    for (size_t i = 0; i < before->count; i++) {
        if (before->files[i] != dropped) set_add(set, before->files[i]);
    }
    if (added != NULL) set_add(set, added);
    set->users = 1;
    f->set = set;
    set_unref(f, before);
    pthread_mutex_unlock(&f->lock);
}

void store_files_close_dropped(struct store_files *f)
{
    pthread_mutex_lock(&f->lock);
    struct store_file *file = f->dropped;
    f->dropped = NULL;
    pthread_mutex_unlock(&f->lock);
    while (file != NULL) {
        struct store_file *next = file->next;
        f->io->close(f->io->ctx, file->fd);
        mem_free(file);
        file = next;
    }
}

static struct store_file *find(const struct store_file_set *set, uint32_t number)
{
    size_t low = 0;
    size_t high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct store_file *file = set->files[middle];
        if (file->number == number) return file;
        if (file->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* --- open and close ----------------------------------------------------------- */

static void add_file(struct store_files *f, uint32_t number, int fd, uint64_t bytes)
{
    struct store_file *file = mem_zalloc(sizeof *file);
    *file = (struct store_file){ .number = number, .fd = fd, .bytes = bytes };
    publish(f, file, NULL);
    f->bytes += bytes;
    f->next_number = number + 1;
}

static enum err open_file(struct store_files *f, uint32_t number, struct errmsg *em)
{
    struct path path = path_of(f, number);
    int fd = -1;
    uint64_t bytes = 0;
    int answer = f->io->open(f->io->ctx, path.at, DISK_READ | DISK_NO_AHEAD, &fd);
    if (answer < 0) return disk_error(em, "open", path.at, answer);
    answer = f->io->size(f->io->ctx, fd, &bytes);
    if (answer < 0) {
        f->io->close(f->io->ctx, fd);
        return disk_error(em, "look at", path.at, answer);
    }
    add_file(f, number, fd, bytes);
    return OK;
}

static enum err open_all(struct store_files *f, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf numbers = { 0 };
    TRY(disk_make_dir(f->io, f->dir, em));
    int answer = f->io->block_bytes(f->io->ctx, f->dir, &f->block_bytes);
    if (answer < 0) return disk_error(em, "look at", f->dir, answer);
    f->step_bytes = (size_t)MAX(f->file_bytes_max / STORE_FILE_STEPS, f->block_bytes);
    f->step_bytes -= f->step_bytes % f->block_bytes;
    answer = f->io->list(f->io->ctx, f->dir, add_number, &numbers);
    if (answer < 0) return disk_error(em, "list", f->dir, answer);
    size_t count = numbers.len / sizeof(uint32_t);
    if (count > 1) qsort(numbers.at, count, sizeof(uint32_t), number_order);
    for (size_t i = 0; i < count; i++) {
        TRY(open_file(f, u32_le(numbers.at + i * sizeof(uint32_t)), em));
    }
    return OK;
}

enum err store_files_open(struct store_files *f, const struct disk_io *io, const char *dir,
                          uint64_t file_bytes_max, struct errmsg *em)
{
    *f = (struct store_files){
        .io = io,
        .dir = mem_copy(dir, strlen(dir) + 1),
        .file_bytes_max = file_bytes_max,
        .set = set_new(0),
        .next_number = 1,
        .direct_fd = -1,
    };
    f->set->users = 1;
    pthread_mutex_init(&f->lock, NULL);
    enum err e = open_all(f, em);
    if (e != OK) store_files_close(f);
    return e;
}

static void end_direct(struct store_files *f)
{
    if (f->direct_fd >= 0) f->io->close(f->io->ctx, f->direct_fd);
    f->direct_fd = -1;
}

/* Nothing is appended to the current file any more. */
static void end_current(struct store_files *f)
{
    end_direct(f);
    f->current = NULL;
}

void store_files_close(struct store_files *f)
{
    if (f->set == NULL) return;
    ASSERT(f->set->users == 1);
    end_current(f);
    set_unref(f, f->set);
    store_files_close_dropped(f);
    pthread_mutex_destroy(&f->lock);
    mem_free(f->dir);
    *f = (struct store_files){ 0 };
}

/* --- reading ------------------------------------------------------------------ */

void store_files_view(struct store_files *f, leveldb_t *rows, struct store_rows_view *out)
{
    pthread_mutex_lock(&f->lock);
    f->set->users++;
    *out = (struct store_rows_view){ leveldb_create_snapshot(rows), f->set };
    pthread_mutex_unlock(&f->lock);
}

void store_files_view_free(struct store_files *f, leveldb_t *rows, struct store_rows_view *view)
{
    leveldb_release_snapshot(rows, view->snapshot);
    pthread_mutex_lock(&f->lock);
    set_unref(f, view->set);
    pthread_mutex_unlock(&f->lock);
    *view = (struct store_rows_view){ 0 };
}

enum err store_ref_decode(struct slice value, struct store_ref *ref)
{
    *ref = (struct store_ref){ 0 };
    if (value.len == 0 || value.at[0] != STORE_REF_TAG) return OK;
    if (value.len != STORE_REF_BYTES) return ERR_CORRUPT;
    struct store_ref got = {
        .file = u32_le(value.at + 1),
        .offset = u64_le(value.at + 5),
        .bytes = u32_le(value.at + 13),
        .crc = u32_le(value.at + 17),
    };
    if (got.file == 0 || got.bytes == 0) return ERR_CORRUPT;
    if (got.offset > (uint64_t)INT64_MAX - got.bytes) return ERR_CORRUPT;
    *ref = got;
    return OK;
}

void store_ref_encode(const struct store_ref *ref, uint8_t out[STORE_REF_BYTES])
{
    out[0] = STORE_REF_TAG;
    u32_le_put(out + 1, ref->file);
    u64_le_put(out + 5, ref->offset);
    u32_le_put(out + 13, ref->bytes);
    u32_le_put(out + 17, ref->crc);
}

static enum err missing(const struct store_files *f, uint32_t number, struct errmsg *em)
{
    errmsg_set(em, "%s: missing, but it has packs of the checkpoint", path_of(f, number).at);
    return ERR_CORRUPT;
}

void store_files_ahead(const struct store_files *f, const struct store_file_set *set,
                       const struct store_ref *ref, struct store_ahead *ahead)
{
    const struct store_file *file = find(set, ref->file);
    if (file == NULL) return; /* no file, or reading it says so */
    uint64_t end = ref->offset + ref->bytes;
    bool follows = ahead->file == ref->file && ref->offset >= ahead->end &&
                   ref->offset - ahead->end <= STORE_AHEAD_BYTES;
    uint64_t asked = follows ? MAX(ahead->asked, end) : end;
    if (follows && asked < end + STORE_AHEAD_BYTES / 2) {
        f->io->will_read(f->io->ctx, file->fd, asked, STORE_AHEAD_BYTES);
        asked += STORE_AHEAD_BYTES;
    }
    *ahead = (struct store_ahead){ ref->file, end, asked };
}

static enum err read_pack(const struct store_files *f, const struct store_file *file,
                          const struct store_ref *ref, struct buf *out, struct errmsg *em)
{
    buf_clear(out);
    uint8_t *to = buf_reserve(out, ref->bytes);
    int64_t got = f->io->pread(f->io->ctx, file->fd, to, ref->bytes, ref->offset);
    if (got < 0) return disk_error(em, "read", path_of(f, ref->file).at, got);
    bool whole = got == (int64_t)ref->bytes;
    if (whole && (crc32c(0, to, ref->bytes) == ref->crc || MUTANT(PACK_CRC_NOT_COMPARED))) {
        out->len = ref->bytes;
        return OK;
    }
    errmsg_set(em, "%s offset %" PRIu64 ": damaged, a pack of %" PRIu32 " bytes %s",
               path_of(f, ref->file).at, ref->offset, ref->bytes,
               whole ? "does not have its CRC" : "is cut short");
    return ERR_CORRUPT;
}

enum err store_files_read(const struct store_files *f, const struct store_file_set *set,
                          const struct store_ref *ref, struct buf *out, struct errmsg *em)
{
    const struct store_file *file = find(set, ref->file);
    return file == NULL ? missing(f, ref->file, em) : read_pack(f, file, ref, out, em);
}

enum err store_files_pack(const struct store_files *f, const struct store_file_set *set,
                          struct slice value, struct buf *scratch, struct slice *pack,
                          struct errmsg *em)
{
    struct store_ref ref;
    if (store_ref_decode(value, &ref) != OK) {
        errmsg_set(em, "%s: a damaged reference to a pack", f->dir);
        return ERR_CORRUPT;
    }
    if (ref.file == 0) {
        *pack = value;
        return OK;
    }
    TRY(store_files_read(f, set, &ref, scratch, em));
    *pack = buf_slice(scratch);
    return OK;
}

/* --- appending ------------------------------------------------------------------ */

static enum err begin_file(struct store_files *f, struct errmsg *em)
{
    if (f->set->count >= STORE_FILES_MAX || f->next_number == UINT32_MAX) return ERR_LIMIT;
    uint32_t number = f->next_number;
    struct path path = path_of(f, number);
    int fd = -1;
    unsigned flags = DISK_WRITE | DISK_CREATE | DISK_NO_AHEAD;
    int answer = f->io->open(f->io->ctx, path.at, flags, &fd);
    if (answer == -EMFILE || answer == -ENFILE) return ERR_LIMIT;
    if (answer < 0) return disk_error(em, "make", path.at, answer);
    add_file(f, number, fd, 0);
    f->current = find(f->set, number);
    answer = f->io->open(f->io->ctx, path.at, DISK_WRITE | DISK_DIRECT, &f->direct_fd);
    if (answer < 0) f->direct_fd = -1;
    answer = MUTANT(PACKS_DIRECTORY_NOT_SYNCED) ? 0 : f->io->dirsync(f->io->ctx, f->dir);
    return answer < 0 ? disk_error(em, "sync directory", f->dir, answer) : OK;
}

/* Collects whole steps of what is appended to the current file. */
struct appender {
    struct store_files *f;
    struct path path;
    uint8_t *step;
    size_t step_fill;
    uint64_t offset; /* of the step */
};

/* Past the page cache: a copy less, no burst of what was put off. Some file systems cannot, and say so
 * only now. *done false: nothing of it counts. */
static enum err write_direct(struct appender *a, size_t bytes, bool *done, struct errmsg *em)
{
    struct store_files *f = a->f;
    *done = false;
    if (f->direct_fd < 0) return OK;
    int64_t put = f->io->pwrite(f->io->ctx, f->direct_fd, a->step, bytes, a->offset);
    if (put < 0 && put != -EINVAL) return disk_error(em, "write", a->path.at, put);
    if (put < 0) end_direct(f);
    *done = put == (int64_t)bytes;
    return OK;
}

static enum err write_step(struct appender *a, struct errmsg *em)
{
    struct store_files *f = a->f;
    size_t bytes = a->step_fill + f->block_bytes - 1;
    bytes -= bytes % f->block_bytes;
    memset(a->step + a->step_fill, 0, bytes - a->step_fill);
    bool done = false;
    TRY(write_direct(a, bytes, &done, em));
    if (!done) TRY(disk_write_all(f->io, f->current->fd, a->path.at, a->step, bytes, a->offset, em));
    a->offset += bytes;
    a->step_fill = 0;
    return OK;
}

static enum err append_pack(struct appender *a, struct store_file_pack *p, struct errmsg *em)
{
    struct slice rest = p->pack;
    ASSERT(rest.len != 0 && rest.len <= UINT32_MAX);
    p->ref = (struct store_ref){
        .file = a->f->current->number,
        .offset = a->offset + a->step_fill,
        .bytes = (uint32_t)rest.len,
        .crc = crc32c(0, rest.at, rest.len),
    };
    while (rest.len != 0) {
        size_t bytes = MIN(rest.len, a->f->step_bytes - a->step_fill);
        memcpy(a->step + a->step_fill, rest.at, bytes);
        a->step_fill += bytes;
        rest = (struct slice){ rest.at + bytes, rest.len - bytes };
        if (a->step_fill == a->f->step_bytes) TRY(write_step(a, em));
    }
    return OK;
}

static enum err append_all(struct appender *a, struct store_file_pack *packs, size_t count,
                           struct errmsg *em)
{
    const struct store_files *f = a->f;
    for (size_t i = 0; i < count; i++) TRY(append_pack(a, &packs[i], em));
    if (a->step_fill != 0) TRY(write_step(a, em));
    int answer = MUTANT(PACKS_NOT_SYNCED) ? 0 : f->io->sync(f->io->ctx, f->current->fd);
    return answer < 0 ? disk_error(em, "sync", a->path.at, answer) : OK;
}

enum err store_files_append(struct store_files *f, struct store_file_pack *packs, size_t count,
                            struct errmsg *em)
{
    if (f->current == NULL) TRY(begin_file(f, em));
    struct store_file *file = f->current;
    struct appender a = {
        .f = f,
        .path = path_of(f, file->number),
        .step = mem_align(DISK_BLOCK_BYTES_MAX, f->step_bytes),
        .offset = file->bytes,
    };
    enum err e = append_all(&a, packs, count, em);
    mem_free(a.step);
    TRY(e);
    for (size_t i = 0; i < count; i++) {
        file->live_bytes += packs[i].ref.bytes;
        f->live_bytes += packs[i].ref.bytes;
    }
    f->bytes += a.offset - file->bytes;
    file->bytes = a.offset;
    if (file->bytes >= f->file_bytes_max) end_current(f);
    return OK;
}

/* --- what is live ------------------------------------------------------------------ */

enum err store_files_found(struct store_files *f, const struct store_ref *ref, struct errmsg *em)
{
    struct store_file *file = find(f->set, ref->file);
    if (file == NULL) return missing(f, ref->file, em);
    if (ref->offset > file->bytes || file->bytes - ref->offset < ref->bytes) {
        errmsg_set(em, "%s offset %" PRIu64 ": damaged, it ends before the pack that begins here",
                   path_of(f, ref->file).at, ref->offset);
        return ERR_CORRUPT;
    }
    file->live_bytes += ref->bytes;
    f->live_bytes += ref->bytes;
    return OK;
}

void store_files_release(struct store_files *f, uint32_t number, uint32_t bytes)
{
    struct store_file *file = find(f->set, number);
    ASSERT(file != NULL && file->live_bytes >= bytes);
    file->live_bytes -= bytes;
    f->live_bytes -= bytes;
}

static enum err drop(struct store_files *f, struct store_file *file, struct errmsg *em)
{
    struct path path = path_of(f, file->number);
    int answer = f->io->unlink(f->io->ctx, path.at);
    if (answer < 0 && answer != -ENOENT) return disk_error(em, "remove", path.at, answer);
    if (f->current == file) end_current(f);
    f->bytes -= file->bytes;
    publish(f, NULL, file);
    return OK;
}

enum err store_files_drop_dead(struct store_files *f, struct errmsg *em)
{
    enum err e = OK;
    for (size_t i = f->set->count; e == OK && i > 0; i--) {
        struct store_file *file = f->set->files[i - 1];
        if (file->live_bytes == 0) e = drop(f, file, em);
    }
    store_files_close_dropped(f);
    return e;
}

uint32_t store_files_sparse(struct store_files *f, bool can_wait)
{
    bool many = f->set->count > STORE_FILES_MAX / 2;
    uint64_t dead_bytes = f->bytes - f->live_bytes;
    if (can_wait && !many && dead_bytes <= f->live_bytes / 2 + f->file_bytes_max) return 0;
    const struct store_file *smallest = NULL;
    for (size_t i = 0; i < f->set->count; i++) {
        const struct store_file *file = f->set->files[i];
        if (file->live_bytes != 0 && file->live_bytes < file->bytes / 2) {
            if (f->current == file) end_current(f);
            return file->number;
        }
        if (!many || f->current == file || file->live_bytes >= f->file_bytes_max / 4) continue;
        if (smallest == NULL || file->live_bytes < smallest->live_bytes) smallest = file;
    }
    return smallest == NULL ? 0 : smallest->number;
}
