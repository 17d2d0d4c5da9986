/* disk/wal.c - see wal.h: opening, the loop's side, closing. */
#include "disk/wal.h"

#include "disk/wal_int.h"

#include <stdio.h>

/* --- items ------------------------------------------------------------------------ */

struct wal_item *wal_item_new(size_t entry_cap)
{
    struct wal_item *item = mem_alloc(sizeof *item + entry_cap * sizeof item->entries[0]);
    memset(item, 0, sizeof *item);
    item->entry_cap = entry_cap;
    return item;
}

void wal_item_free(struct wal_item *item)
{
    mem_free(item->placed);
    mem_free(item);
}

static struct wal_item *item_get(struct wal *wal, size_t entry_count)
{
    struct wal_item *item = wal->items_spare;
    if (item == NULL || entry_count > item->entry_cap) {
        return wal_item_new(MAX(entry_count, (size_t)WAL_ITEM_ENTRIES_MIN));
    }
    wal->items_spare = (struct wal_item *)(void *)item->node.next;
    wal->items_spare_count--;
    return item;
}

static void item_put(struct wal *wal, struct wal_item *item)
{
    if (wal->items_spare_count == WAL_ITEMS_SPARE_MAX || item->entry_cap > WAL_ITEM_ENTRIES_MIN) {
        wal_item_free(item);
        return;
    }
    item->placed_count = 0;
    item->node.next = (struct wal_mail_node *)(void *)wal->items_spare;
    wal->items_spare = item;
    wal->items_spare_count++;
}

/* --- submitting --------------------------------------------------------------------- */

/* What breaks I8 here is a bug of the caller's; on disk it would be damage. */
static struct wal_mark position_after(const struct wal *wal, const struct wal_submission *s)
{
    struct wal_mark last = wal->last;
    if (s->snapshot.index != 0) last = s->snapshot;
    if (s->truncate_from != 0) {
        ASSERT(s->truncate_from <= last.index + 1);
        ASSERT(s->truncate_term <= last.term);
        ASSERT(s->snapshot.index < s->truncate_from);
        last = (struct wal_mark){ s->truncate_from - 1, s->truncate_term };
    }
    for (size_t i = 0; i < s->entry_count; i++) {
        const struct wal_entry *e = &s->entries[i];
        ASSERT(e->index == last.index + 1);
        ASSERT(e->term >= last.term);
        ASSERT(e->term > 0);
        ASSERT(e->body.len <= wal_entry_bytes_max(wal));
        ASSERT(e->blob != NULL || e->body.len == 0);
        ASSERT_SLOW(crc32c(0, e->body.at, e->body.len) == e->crc);
        last = (struct wal_mark){ e->index, e->term };
    }
    return last;
}

static void item_fill(struct wal_item *item, const struct wal_submission *s)
{
    item->what = *s;
    item->what.entries = item->entries;
    item->body_bytes = 0;
    for (size_t i = 0; i < s->entry_count; i++) {
        item->entries[i] = s->entries[i];
        if (s->entries[i].blob != NULL) blob_ref(s->entries[i].blob);
        item->body_bytes += s->entries[i].body.len;
    }
    if (s->hard == NULL) return;
    item->hard = *s->hard;
    item->what.hard = &item->hard;
}

static void item_submit(struct wal *wal, const struct wal_submission *s)
{
    struct wal_item *item = item_get(wal, s->entry_count);
    item_fill(item, s);
    item->seq = wal->seq_last;
    item->last = wal->last;
    wal->pending_bytes += item->body_bytes;
    wal->pending_count++;
    wal->submitted_since_tick = true;
    wal->backend->submit(wal, item);
}

uint64_t wal_submit(struct wal *wal, const struct wal_submission *s)
{
    struct wal_mark last = position_after(wal, s);
    if (s->hard != NULL) {
        ASSERT(s->hard->term >= wal->hard.term);
        ASSERT(s->hard->commit >= wal->hard.commit);
        bool same_term = s->hard->term == wal->hard.term;
        ASSERT(!same_term || wal->hard.vote == 0 || s->hard->vote == wal->hard.vote);
        wal->hard = *s->hard;
    }
    wal->last = last;
    wal->seq_last++;
    item_submit(wal, s);
    return wal->seq_last;
}

/* --- completions ----------------------------------------------------------------------- */

void wal_done_append(struct wal *wal, struct wal_item *items)
{
    if (items == NULL) return;
    if (wal->done_first == NULL) {
        wal->done_first = items;
    } else {
        wal->done_last->node.next = &items->node;
    }
    while (items->node.next != NULL) items = (struct wal_item *)(void *)items->node.next;
    wal->done_last = items;
}

static void item_done(struct wal *wal, struct wal_item *item)
{
    bool proof = true;
    for (size_t i = 0; i < item->placed_count; i++) {
        wal_index_apply(&wal->index, &item->placed[i]);
    }
    const struct wal_submission *what = &item->what;
    if (what->entry_count > 0 || what->truncate_from != 0 || what->hard != NULL) proof = false;
    if (what->snapshot.index != 0 || what->snapshot_begin.index != 0) proof = false;
    wal->unproven = !proof;
    for (size_t i = 0; i < what->entry_count; i++) blob_unref(item->entries[i].blob);
    ASSERT(wal->pending_count > 0);
    ASSERT(wal->pending_bytes >= item->body_bytes);
    wal->pending_bytes -= item->body_bytes;
    wal->pending_count--;
    wal->done = (struct wal_done){ .seq = item->seq, .last = item->last };
    item_put(wal, item);
}

/* Index positions that a batch of several items placed belong to its first item: the index may be
 * ahead of the items that are done by the rest of that batch, which is durable too. */
bool wal_poll(struct wal *wal, struct wal_done *out)
{
    wal->backend->reap(wal);
    if (LIKELY(wal->done_first == NULL)) return false;
    struct wal_item *item = wal->done_first;
    wal->done_first = wal->done_last = NULL;
    uint64_t seq_before = wal->done.seq;
    while (item != NULL) {
        struct wal_item *next = (struct wal_item *)(void *)item->node.next;
        item_done(wal, item);
        item = next;
    }
    if (wal->done.seq == seq_before) return false; /* an empty batch of our own */
    *out = wal->done;
    return true;
}

int wal_fd(const struct wal *wal)
{
    return wal->backend->fd(wal);
}

bool wal_about_to_sleep(struct wal *wal)
{
    return wal->done_first == NULL && wal->backend->about_to_sleep(wal);
}

void wal_woke(struct wal *wal)
{
    wal->backend->woke(wal);
}

/* An empty batch proves the one before it (I1). */
void wal_tick(struct wal *wal, int64_t now_ms)
{
    bool quiet = !wal->submitted_since_tick && wal->pending_count == 0;
    wal->submitted_since_tick = false;
    if (!quiet || !wal->unproven || wal->quiet_since_ms < 0) {
        wal->quiet_since_ms = now_ms;
        return;
    }
    if (now_ms - wal->quiet_since_ms < WAL_PROOF_DELAY_MS) return;
    item_submit(wal, &(struct wal_submission){ 0 });
    wal->quiet_since_ms = now_ms;
}

/* --- the end of history ------------------------------------------------------------------ */

static void drop_segments(struct wal *wal)
{
    size_t count =
        wal_index_droppable(&wal->index, wal->drop_below_index, wal->options.keep_bytes);
    for (size_t i = 0; i < count; i++) {
        wal_maker_post(&wal->maker, WAL_JOB_RETIRE, wal->index.segments[i].seq, -1);
    }
    wal_index_drop(&wal->index, count);
}

void wal_drop_below(struct wal *wal, uint64_t index)
{
    wal->drop_below_index = MAX(wal->drop_below_index, index);
    drop_segments(wal);
}

void wal_keep_set(struct wal *wal, uint64_t keep_bytes)
{
    wal->options.keep_bytes = keep_bytes;
    drop_segments(wal);
}

uint64_t wal_first_index(const struct wal *wal)
{
    return wal->index.segments[0].floor.index + 1;
}

struct wal_mark wal_last_durable(const struct wal *wal)
{
    return wal->done.last;
}

size_t wal_entry_bytes_max(const struct wal *wal)
{
    size_t room = wal->batch_room_bytes - WAL_BATCH_HEADS_MAX * WAL_RECORD_HEAD_BYTES;
    return MIN(room, (size_t)WAL_ENTRY_BYTES_MAX);
}

const struct wal_found *wal_found(const struct wal *wal)
{
    return &wal->found;
}

/* --- metrics -------------------------------------------------------------------------------- */

void wal_stats_get(struct wal *wal, struct wal_stats *out)
{
    const struct wal_writer *w = &wal->writer;
    int64_t began_us = __atomic_load_n(&w->write_began_us, __ATOMIC_RELAXED);
    *out = (struct wal_stats){
        .backend = wal->backend->name,
        .sync_count = __atomic_load_n(&w->sync_count, __ATOMIC_RELAXED),
        .written_bytes = __atomic_load_n(&w->written_bytes, __ATOMIC_RELAXED),
        .entry_count = __atomic_load_n(&w->entry_count, __ATOMIC_RELAXED),
        .sync_us_last = __atomic_load_n(&w->sync_us_last, __ATOMIC_RELAXED),
        .sync_us_max = __atomic_load_n(&w->sync_us_max, __ATOMIC_RELAXED),
        .in_flight_us = began_us == 0 ? 0 : wal_clock_us() - began_us,
        .pending_bytes = wal->pending_bytes,
        .pending_count = wal->pending_count,
        .segment_count = wal->index.segment_count,
        .recycled_count = __atomic_load_n(&wal->maker.recycled_count, __ATOMIC_RELAXED),
        .next_segment_ready = __atomic_load_n(&wal->maker.spare, __ATOMIC_RELAXED) != NULL,
        .next_segment_err = (enum err)__atomic_load_n(&wal->maker.make_err, __ATOMIC_RELAXED),
    };
    for (size_t i = 0; i < wal->index.segment_count; i++) {
        out->segment_bytes += wal->index.segments[i].bytes;
    }
}

void wal_check(const struct wal *wal)
{
    wal_index_check(&wal->index);
    ASSERT(wal->done.seq <= wal->seq_last);
    ASSERT((wal->pending_count == 0) <= (wal->pending_bytes == 0));
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum err options_check(const struct wal_options *o, struct errmsg *em)
{
    uint64_t bytes = o->segment_bytes == 0 ? WAL_SEGMENT_BYTES : o->segment_bytes;
    if (bytes < WAL_SEGMENT_BYTES_MIN || bytes > WAL_SEGMENT_BYTES_MAX ||
        bytes % WAL_SEGMENT_BYTES_MIN != 0) {
        errmsg_set(em, "log segment size %llu: must be a multiple of %u, at most %u",
                   (unsigned long long)bytes, WAL_SEGMENT_BYTES_MIN, WAL_SEGMENT_BYTES_MAX);
        return ERR_CONFIG;
    }
    if (strlen(o->dir) + 64 > DISK_PATH_BYTES_MAX) {
        errmsg_set(em, "the log's path is too long");
        return ERR_CONFIG;
    }
    return OK;
}

static void backend_choose(struct wal *wal)
{
    struct errmsg em;
    enum wal_backend want = wal->options.backend;
    wal->backend = &wal_backend_thread;
    if (want == WAL_BACKEND_MANUAL) wal->backend = &wal_backend_manual;
    if (want == WAL_BACKEND_URING) wal->backend = &wal_backend_uring;
    bool probe = want == WAL_BACKEND_AUTO && wal->io->real_fds;
    if (probe && wal_uring_probe(wal->dir, wal->maker.form.block_bytes, &em) == OK) {
        wal->backend = &wal_backend_uring;
    }
}

static void make_failed(void *ctx, const char *why)
{
    const struct wal *wal = ctx;
    char line[ERRMSG_BYTES_MAX + 64];
    snprintf(line, sizeof line, "cordis: the next log segment cannot be made: %s", why);
    if (wal->options.on_warning != NULL) {
        wal->options.on_warning(wal->options.ctx, line);
    } else {
        fprintf(stderr, "%s\n", line);
    }
}

static void maker_init(struct wal *wal, uint32_t block_bytes)
{
    const struct wal_options *o = &wal->options;
    struct wal_maker *mk = &wal->maker;
    mk->io = wal->io;
    memcpy(mk->dir, wal->dir, strlen(wal->dir) + 1);
    mk->form = (struct wal_segment_head){
        .version = WAL_VERSION,
        .block_bytes = block_bytes,
        .cluster_id = wal->found.cluster_id,
        .member_id = wal->found.member_id,
        .segment_bytes = o->segment_bytes,
        .salt = o->salt,
        .group = o->group,
    };
    mk->open_flags = DISK_WRITE;
    uint64_t room_bytes = o->segment_bytes - 2ull * block_bytes; /* header, seal */
    wal->batch_room_bytes = (size_t)MIN(room_bytes, (uint64_t)WAL_BATCH_BYTES_MAX) -
                            WAL_BATCH_HEAD_BYTES - block_bytes;
}

/* Opens the segments that recovery found for writing. */
static enum err found_open(struct wal *wal, const struct wal_recovery *rv, struct errmsg *em)
{
    const struct disk_io *io = wal->io;
    struct wal_writer *w = &wal->writer;
    char path[DISK_PATH_BYTES_MAX];
    const struct wal_segment_head *h = &rv->segment;
    wal_segment_path(wal->dir, h->seq, path);
    int fd = -1;
    int answer = io->open(io->ctx, path, wal->maker.open_flags, &fd);
    if (answer < 0) return disk_error(em, "open", path, answer);
    w->segment = (struct wal_segment_file){ .seq = h->seq, .fd = fd, .bytes = h->segment_bytes,
                                            .salt = h->salt, .block_bytes = h->block_bytes,
                                            .seed = wal_seed(h->salt, h->seq) };
    w->phase = rv->phase;
    w->offset = rv->offset;
    w->seq_next = rv->seq_last + 1;
    w->seq_durable = rv->seq_last;
    w->prev_crc = rv->prev_crc;
    return OK;
}

/* A segment made ahead before the last stop is used if it is as new ones are now. */
static enum err next_open(struct wal *wal, const struct wal_recovery *rv, struct errmsg *em)
{
    const struct disk_io *io = wal->io;
    const struct wal_segment_head *h = &rv->next;
    const struct wal_segment_head *form = &wal->maker.form;
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(wal->dir, h->seq, path);
    bool same_form = h->segment_bytes == form->segment_bytes && h->block_bytes == form->block_bytes;
    int answer = 0;
    if (!same_form) {
        answer = io->unlink(io->ctx, path);
        if (answer == 0) answer = io->dirsync(io->ctx, wal->dir);
        if (answer < 0) return disk_error(em, "remove", path, answer);
        wal_maker_post(&wal->maker, WAL_JOB_MAKE, h->seq, -1);
        return OK;
    }
    int fd = -1;
    answer = io->open(io->ctx, path, wal->maker.open_flags, &fd);
    if (answer < 0) return disk_error(em, "open", path, answer);
    struct wal_segment_file file = { .seq = h->seq, .fd = fd, .bytes = h->segment_bytes,
                                     .salt = h->salt, .block_bytes = h->block_bytes,
                                     .seed = wal_seed(h->salt, h->seq) };
    wal->maker.spare = mem_copy(&file, sizeof file);
    return OK;
}

static enum err segment_first_make(struct wal *wal, struct errmsg *em)
{
    struct wal_writer *w = &wal->writer;
    TRY(wal_segment_make(&wal->maker, 1, &w->segment, em));
    w->phase = WAL_PHASE_OPEN;
    w->offset = w->segment.block_bytes;
    w->seq_next = 1;
    return OK;
}

/* The first segment's first batch, written here through disk_io: from then on the log exists. */
static enum err first_batch_write(struct wal *wal, struct errmsg *em)
{
    struct wal_writer *w = &wal->writer;
    wal_writer_add(w, wal_item_new(0));
    wal->pending_count++;
    enum wal_want want = wal_writer_compose(w);
    ASSERT(want == WAL_WANT_WRITE);
    char path[DISK_PATH_BYTES_MAX];
    wal_segment_path(wal->dir, w->segment.seq, path);
    TRY(disk_write_all(wal->io, w->segment.fd, path, w->buf, w->batch.bytes, w->offset, em));
    int answer = wal->io->sync(wal->io->ctx, w->segment.fd);
    if (answer < 0) return disk_error(em, "sync", path, answer);
    wal_done_append(wal, wal_writer_written(w));
    item_done(wal, wal->done_first);
    wal->done_first = wal->done_last = NULL;
    return OK;
}

static enum err replay(struct wal *wal, struct errmsg *em)
{
    const struct wal_options *o = &wal->options;
    if (o->on_entry == NULL) return OK;
    uint64_t first = MAX(o->replay_from, wal->found.before.index + 1);
    if (first > wal->found.last.index) return OK;
    return wal_index_read(&wal->index, wal->io, wal->dir, first, wal->found.last.index, o->on_entry,
                          o->ctx, em);
}

static void positions_take(struct wal *wal, const struct wal_recovery *rv)
{
    wal->last = rv->found.last;
    wal->hard = rv->found.hard;
    wal->done.last = rv->found.last;
    wal->unproven = !rv->empty && !rv->last_is_proof;
    wal->quiet_since_ms = -1;
    wal->writer.last = rv->found.last;
    wal->writer.hard = rv->found.hard;
    wal->writer.snapshot_begin = rv->found.snapshot_begin;
    wal->writer.snapshot = rv->found.snapshot;
}

static enum err writer_place(struct wal *wal, const struct wal_recovery *rv, struct errmsg *em)
{
    if (rv->empty) {
        wal->found.created = true;
        TRY(segment_first_make(wal, em));
    } else {
        TRY(found_open(wal, rv, em));
    }
    if (rv->has_next) {
        TRY(next_open(wal, rv, em));
    } else if (wal->writer.phase == WAL_PHASE_FILL) {
        wal_maker_post(&wal->maker, WAL_JOB_MAKE, wal->writer.segment.seq + 1, -1);
    }
    if (wal->index.segment_count == 0) {
        wal->found.created = true;
        TRY(first_batch_write(wal, em));
    }
    return OK;
}

static enum err ids_settle(struct wal *wal, const struct wal_recovery *rv, struct errmsg *em)
{
    wal->found = rv->found;
    if (!rv->empty) return OK;
    const struct wal_options *o = &wal->options;
    if (!o->create) {
        errmsg_set(em, "there is no log in %s", wal->dir);
        return ERR_NOT_FOUND;
    }
    if (o->cluster_id == 0 || o->member_id == 0) {
        errmsg_set(em, "a new log in %s needs a cluster id and a member id", wal->dir);
        return ERR_CONFIG;
    }
    wal->found.cluster_id = o->cluster_id;
    wal->found.member_id = o->member_id;
    wal->found.group = o->group;
    return OK;
}

static enum err open_into(struct wal *wal, struct errmsg *em)
{
    if (wal->options.create) TRY(disk_make_dir(wal->io, wal->dir, em));
    struct wal_recovery rv = { .io = wal->io, .dir = wal->dir, .options = &wal->options };
    TRY(wal_recover(&rv, em));
    wal->index = rv.index; /* owned by wal from here on */
    TRY(ids_settle(wal, &rv, em));
    uint32_t block_bytes = 0;
    int answer = wal->io->block_bytes(wal->io->ctx, wal->dir, &block_bytes);
    if (answer < 0) return disk_error(em, "block size of", wal->dir, answer);
    maker_init(wal, block_bytes);
    wal_writer_init(&wal->writer, wal, block_bytes);
    backend_choose(wal);
    wal->maker.made = wal->backend->segment_made;
    wal->maker.failed = make_failed;
    wal->maker.made_ctx = wal;
    if (wal->backend == &wal_backend_uring) wal->maker.open_flags = DISK_WRITE | DISK_DIRECT;
    positions_take(wal, &rv);
    TRY(writer_place(wal, &rv, em));
    TRY(replay(wal, em));
    enum err e = wal->backend->start(wal, em);
    if (e == OK || wal->options.backend != WAL_BACKEND_AUTO) return e;
    if (wal->backend == &wal_backend_thread) return e;
    wal->backend = &wal_backend_thread;
    wal->maker.made = wal->backend->segment_made;
    return wal->backend->start(wal, em);
}

static void wal_free(struct wal *wal)
{
    while (wal->done_first != NULL) {
        struct wal_item *item = wal->done_first;
        wal->done_first = (struct wal_item *)(void *)item->node.next;
        item_done(wal, item);
    }
    wal_writer_deinit(&wal->writer);
    wal_index_deinit(&wal->index);
    while (wal->items_spare != NULL) {
        struct wal_item *item = wal->items_spare;
        wal->items_spare = (struct wal_item *)(void *)item->node.next;
        wal_item_free(item);
    }
    mem_free(wal);
}

enum err wal_open(const struct wal_options *options, struct wal **out, struct errmsg *em)
{
    TRY(options_check(options, em));
    struct wal *wal = mem_zalloc(sizeof *wal);
    wal->options = *options;
    if (wal->options.segment_bytes == 0) wal->options.segment_bytes = WAL_SEGMENT_BYTES;
    memcpy(wal->dir, options->dir, strlen(options->dir) + 1);
    wal->options.dir = wal->dir;
    wal->io = options->io != NULL ? options->io : disk_io_posix();
    wal->maker.io = wal->io;
    wal->writer.segment.fd = -1;
    enum err e = open_into(wal, em);
    if (e != OK) {
        wal_maker_stop(&wal->maker);
        wal_free(wal);
        return e;
    }
    *out = wal;
    return OK;
}

void wal_close(struct wal *wal)
{
    if (wal == NULL) return;
    struct wal_done done;
    wal_poll(wal, &done);
    bool proof_due = wal->unproven || wal->pending_count > 0;
    if (proof_due) item_submit(wal, &(struct wal_submission){ 0 });
    wal->backend->drain(wal);
    wal->backend->reap(wal);
    wal_maker_stop(&wal->maker);
    wal->backend->stop(wal);
    wal_free(wal);
}

void wal_abandon(struct wal *wal)
{
    ASSERT(wal->backend == &wal_backend_manual);
    wal_maker_stop(&wal->maker);
    wal->backend->stop(wal);
    wal_free(wal);
}
