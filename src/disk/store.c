/* disk/store.c - see store.h. The store's thread, batches, opening and closing. */
#include "disk/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "disk/store_int.h"
#include "disk/store_process.h"

#define FILES_CHECK_MS 1000
#define FILES_CHECK_STEPS 16 /* in manual mode */
#define IDLE_CHECKS_MAX 3
#define CLOSE_POLL_NS 1000000

/* --- shared by the store's files ------------------------------------------- */

void store_fatal(const struct store *s, const char *format, ...)
{
    struct errmsg text;
    va_list args;
    va_start(args, format);
    vsnprintf(text.text, sizeof text.text, format, args);
    va_end(args);
    if (s->options.on_fatal != NULL) {
        s->options.on_fatal(s->options.on_fatal_ctx, text.text);
    } else {
        fprintf(stderr, "cordis: store: %s\n", text.text);
    }
    _exit(STORE_EXIT_CODE);
}

void store_write_failed(struct store *s, const char *what, const struct errmsg *why)
{
    if (!s->options.manual || s->options.on_fatal == NULL) store_fatal(s, "%s%s", what, why->text);
    struct errmsg text;
    errmsg_set(&text, "%s%.400s", what, why->text);
    s->options.on_fatal(s->options.on_fatal_ctx, text.text);
    s->dead = true;
}

/* Nothing is written once one write failed. */
static bool writes_are_over(const struct store *s)
{
    return s->dead || store_gave_up(s) || store_failed(s, NULL) != OK;
}

/* After a failure LevelDB must not be used: an expendable store takes batches and drops them. */
static void write_ended(struct store *s, enum err e, const struct errmsg *em)
{
    if (e == OK) return;
    if (s->options.expendable) {
        s->failure_em = *em;
        __atomic_store_n(&s->failure, (uint32_t)e, __ATOMIC_SEQ_CST);
        return;
    }
    if (e == ERR_NOSPACE && __atomic_load_n(&s->leaving, __ATOMIC_SEQ_CST)) {
        log_warning("checkpoint skipped, nothing is lost, the log has it reason=\"%s\"", em->text);
        __atomic_store_n(&s->gave_up, true, __ATOMIC_SEQ_CST);
        return;
    }
    store_write_failed(s, "write failed, nothing is lost, the log has it: ", em);
}

static void write_durable(struct store *s, struct store_db *db, leveldb_writebatch_t *batch)
{
    struct errmsg em;
    if (writes_are_over(s)) return;
    enum err e = store_db_write(db, batch, &em);
    if (e == OK) STORE_STAT_ADD(s, write_count, 1);
    write_ended(s, e, &em);
}

void store_drop_files(struct store *s)
{
    struct errmsg em;
    if (writes_are_over(s)) return;
    write_ended(s, store_files_drop_dead(&s->files, &em), &em);
}

enum err store_failed(const struct store *s, struct errmsg *em)
{
    enum err e = (enum err)__atomic_load_n(&s->failure, __ATOMIC_SEQ_CST);
    if (e != OK) errmsg_set(em, "%s", s->failure_em.text);
    return e;
}

void store_write_rows(struct store *s, leveldb_writebatch_t *batch)
{
    write_durable(s, &s->rows, batch);
}

void store_write_meta(struct store *s, leveldb_writebatch_t *batch,
                      const struct store_marker *next)
{
    store_marker_add(batch, next);
    write_durable(s, &s->meta, batch);
    if (!store_gave_up(s)) s->marker = *next;
}

void store_floor_add(leveldb_writebatch_t *batch, uint64_t floor_rev)
{
    uint8_t floor[8];
    u64_le_put(floor, floor_rev);
    leveldb_writebatch_put(batch, STORE_KEY_FLOOR, strlen(STORE_KEY_FLOOR), (const char *)floor,
                           sizeof floor);
}

enum err store_table_read_db(void *ctx, const struct store_slot *slot, struct buf *out)
{
    struct store *s = ctx;
    if (slot->file != 0) {
        struct store_ref ref = store_slot_ref(slot);
        return store_files_read(&s->files, s->files.set, &ref, out, &s->read_em);
    }
    struct store_pack_key key = store_pack_key(slot->first_rev, slot->first_n);
    bool found = false;
    TRY(store_db_get(&s->rows, (struct slice){ key.at, sizeof key.at }, out, &found, &s->read_em));
    if (found) return OK;
    errmsg_set(&s->read_em, "%s: it is not there", s->rows.dir);
    return ERR_CORRUPT;
}

/* In manual mode nothing follows a clock. */
static bool files_check_is_due(struct store *s, bool now)
{
    struct timespec clock;
    if (s->options.manual) return now || ++s->file_checks % FILES_CHECK_STEPS == 0;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    int64_t now_ms = (int64_t)clock.tv_sec * 1000 + clock.tv_nsec / 1000000;
    if (!now && now_ms - s->files_checked_ms < FILES_CHECK_MS) return false;
    s->files_checked_ms = now_ms;
    return true;
}

void store_check_files(struct store *s, bool now)
{
    if (s->dead || !files_check_is_due(s, now)) return;
    uint64_t meta_bytes = 0;
    uint64_t meta_log_bytes = 0;
    struct errmsg em;
    enum err e = store_db_files(&s->rows, &s->rows_bytes, &s->rows_log_bytes, &em);
    if (e == OK) e = store_db_files(&s->meta, &meta_bytes, &meta_log_bytes, &em);
    if (e != OK && s->options.expendable) return;
    if (e != OK) store_write_failed(s, "", &em);
    STORE_STAT_SET(s, disk_bytes, s->rows_bytes + meta_bytes + s->files.bytes);
    STORE_STAT_SET(s, file_count, (uint64_t)s->files.set->count);
    if (!s->options.manual) store_memory_limit(STORE_MAPPED_BYTES_MAX);
}

/* --- the thread ------------------------------------------------------------ */

static enum err open_db(struct store *s, struct store_info *info, struct errmsg *em)
{
    uint64_t trimmed = 0;
    TRY(store_open_both(s, &trimmed, em));
    store_check_files(s, true);
    *info = (struct store_info){
        .empty = s->marker.index == 0,
        .applied_index = s->marker.index,
        .applied_term = s->marker.term,
        .compacted_rev = s->marker.compacted_rev,
        .write_seq = s->marker.seq,
        .trimmed_bytes = trimmed,
    };
    return OK;
}

/* Moves the inbox behind what was taken before; exports see what is written. */
static void take_batches(struct store *s)
{
    struct work *newest = __atomic_exchange_n(&s->inbox, NULL, __ATOMIC_SEQ_CST);
    struct store_batch *oldest = NULL;
    while (newest != NULL) {
        struct store_batch *b = CONTAINER_OF(newest, struct store_batch, work);
        newest = newest->next;
        b->next = oldest;
        oldest = b;
    }
    struct store_batch **end = &s->batches;
    while (*end != NULL) end = &(*end)->next;
    *end = oldest;
    store_exports_take(s);
}

static void add_meta(leveldb_writebatch_t *out, const struct store_batch *b)
{
    CLEANUP(buf_deinit) struct buf key = { 0 };
    for (size_t at = 0; at < b->meta.len;) {
        const uint8_t *head = b->meta.at + at;
        size_t name_len = u32_le(head + 1);
        size_t value_len = (size_t)u64_le(head + 5);
        buf_clear(&key);
        buf_append_u8(&key, 'm');
        buf_append(&key, head + 13, name_len);
        if (head[0] == 1) {
            leveldb_writebatch_put(out, (const char *)key.at, key.len,
                                   (const char *)head + 13 + name_len, value_len);
        } else {
            leveldb_writebatch_delete(out, (const char *)key.at, key.len);
        }
        at += 13 + name_len + value_len;
    }
}

/* In what is handed to store_files_append; a reference without a file: the pack goes to rows/. */
static void collect_packs(const struct store_batch *b, struct buf *out, size_t *bytes)
{
    struct store_batch_pack from;
    for (size_t at = 0; at < b->packs.len; at += sizeof from) {
        memcpy(&from, b->packs.at + at, sizeof from);
        struct store_file_pack pack = { .pack = { from.blob->at, from.blob->len } };
        buf_append(out, &pack, sizeof pack);
        *bytes += from.blob->len;
    }
}

bool store_write_file(struct store *s, struct store_file_pack *packs, size_t count)
{
    struct errmsg em;
    if (writes_are_over(s)) return false;
    enum err e = store_files_append(&s->files, packs, count, &em);
    if (e == OK) return true;
    for (size_t i = 0; i < count; i++) packs[i].ref = (struct store_ref){ 0 };
    if (e != ERR_LIMIT) write_ended(s, e, &em);
    return false;
}

void store_pack_add(leveldb_writebatch_t *out, uint64_t first_rev, uint32_t first_n,
                    const struct store_file_pack *pack)
{
    struct store_pack_key key = store_pack_key(first_rev, first_n);
    uint8_t value[STORE_REF_BYTES];
    struct slice at = pack->pack;
    if (pack->ref.file != 0) {
        store_ref_encode(&pack->ref, value);
        at = (struct slice){ value, sizeof value };
    }
    leveldb_writebatch_put(out, (const char *)key.at, sizeof key.at, (const char *)at.at, at.len);
}

/* The packs of a batch, durable before the marker that names them. */
static void write_packs(struct store *s)
{
    const struct store_batch *b = s->batches;
    struct store_marker *next = &s->next;
    *next = store_marker_after(&s->marker);
    s->rows_written = true;
    if (b->packs.len == 0) return;
    CLEANUP(buf_deinit) struct buf collected = { 0 };
    size_t bytes = 0;
    collect_packs(b, &collected, &bytes);
    struct store_file_pack *packs = (struct store_file_pack *)(void *)collected.at;
    size_t count = collected.len / sizeof *packs;
    if (bytes >= s->options.file_batch_bytes && store_write_file(s, packs, count)) {
        STORE_STAT_ADD(s, file_batch_count, 1);
    }
    leveldb_writebatch_t *out = leveldb_writebatch_create();
    for (size_t i = 0; i < count; i++) {
        struct store_batch_pack from;
        memcpy(&from, b->packs.at + i * sizeof from, sizeof from);
        ASSERT(store_marker_is_behind(next, from.first_rev, from.first_n));
        store_pack_add(out, from.first_rev, from.first_n, &packs[i]);
        store_table_append(&s->table, from.first_rev, from.first_n, packs[i].pack.len,
                           &packs[i].ref);
        next->last_rev = from.first_rev;
        next->last_n = from.first_n;
    }
    store_write_rows(s, out);
    leveldb_writebatch_destroy(out);
}

static void write_meta(struct store *s)
{
    struct store_batch *b = s->batches;
    struct store_marker *next = &s->next;
    next->index = b->cut.applied_index;
    next->term = b->cut.applied_term;
    next->compacted_rev = b->cut.compacted_rev;
    next->pack_sum = s->table.sum;
    next->pack_sum_before = s->table.sum;
    leveldb_writebatch_t *out = leveldb_writebatch_create();
    add_meta(out, b);
    if (b->floor_rev > s->compactor.disk_floor_rev) {
        s->compactor.disk_floor_rev = b->floor_rev;
        store_floor_add(out, b->floor_rev);
    }
    store_write_meta(s, out, next);
    leveldb_writebatch_destroy(out);
    if (s->dead || store_gave_up(s)) return;
    s->rows_written = false;
    s->batches = b->next;
    store_check_files(s, false);
    __atomic_fetch_sub(&s->backlog_bytes, b->bytes, __ATOMIC_RELAXED);
    done_queue_push(&s->done, &b->work);
}

static void write_batch(struct store *s)
{
    write_packs(s);
    write_meta(s);
}

static void adjust_priority(struct store *s)
{
    bool low = store_backlog_bytes(s) <= STORE_BACKLOG_BYTES_NORMAL;
    if (low == s->low_priority) return;
    s->low_priority = low;
    store_priority_set(low);
}

static bool is_behind(const struct store *s)
{
    return __atomic_load_n(&s->stopping, __ATOMIC_SEQ_CST) ||
           store_backlog_bytes(s) > STORE_BACKLOG_BYTES_NORMAL;
}

/* Memory is given back, and the next start has less of a log to read. */
static void become_idle(struct store *s)
{
    if (s->rows_log_bytes > STORE_IDLE_LOG_BYTES_MAX && store_failed(s, NULL) == OK) {
        store_db_flush(&s->rows);
        store_check_files(s, true);
    }
    store_memory_limit(0);
    mem_thread_rest();
}

/* There was no room for a write. Exports that wait for their view still get it. */
static void wait_stopping(struct store *s)
{
    for (;;) {
        uint32_t seen = doorbell_seen(&s->bell);
        bool stopping = __atomic_load_n(&s->stopping, __ATOMIC_SEQ_CST);
        store_exports_take(s);
        if (stopping) return;
        doorbell_wait(&s->bell, seen);
    }
}

/* One batch, then one step of compaction, in turn; compaction waits while much is to be written. */
static void run(struct store *s)
{
    int idle_checks = 0;
    store_check_files(s, true); /* the load has read all tables */
    for (;;) {
        uint32_t seen = doorbell_seen(&s->bell);
        bool stopping = __atomic_load_n(&s->stopping, __ATOMIC_SEQ_CST);
        take_batches(s);
        store_files_close_dropped(&s->files);
        adjust_priority(s);
        bool busy = s->batches != NULL;
        s->compactor.idle = !busy && idle_checks != 0;
        if (busy) write_batch(s);
        if (!store_gave_up(s) && !is_behind(s)) busy = store_compact_step(s) || busy;
        if (store_gave_up(s)) break;
        if (busy) idle_checks = 0;
        if (busy) continue;
        if (stopping && s->batches == NULL && seen == doorbell_seen(&s->bell)) return;
        if (s->batches != NULL) continue;
        /* LevelDB's thread may still be at work on tables. */
        if (idle_checks >= IDLE_CHECKS_MAX) {
            become_idle(s);
            doorbell_wait(&s->bell, seen);
            continue;
        }
        idle_checks++;
        doorbell_wait_ms(&s->bell, seen, FILES_CHECK_MS);
        store_check_files(s, false);
    }
    wait_stopping(s);
}

bool store_step(struct store *s)
{
    ASSERT(s->options.manual);
    if (s->dead || !s->started) return false;
    take_batches(s);
    store_files_close_dropped(&s->files);
    if (store_gave_up(s)) return false;
    bool compact = !s->rows_written && (s->batches == NULL || s->compact_next) && !is_behind(s);
    s->compact_next = false;
    if (compact && store_compact_step(s)) return true;
    if (s->batches == NULL) return false;
    if (s->rows_written) {
        s->compact_next = true;
        write_meta(s);
    } else {
        write_packs(s);
    }
    return true;
}

static void *store_main(void *arg)
{
    struct store *s = arg;
    store_priority_name();
    s->open_result = open_db(s, s->open_info, s->open_em);
    s->low_priority = true;
    store_priority_set(true);
    bool opened = s->open_result == OK;
    __atomic_store_n(&s->open_done, true, __ATOMIC_SEQ_CST);
    doorbell_ring(&s->opened);
    if (!opened) return NULL;
    for (;;) {
        uint32_t seen = doorbell_seen(&s->bell);
        if (__atomic_load_n(&s->started, __ATOMIC_SEQ_CST)) break;
        if (__atomic_load_n(&s->stopping, __ATOMIC_SEQ_CST)) return NULL;
        doorbell_wait(&s->bell, seen);
    }
    run(s);
    return NULL;
}

/* --- open and close -------------------------------------------------------- */

/* Of hashes in memory. */
static uint64_t make_seed(const struct store *s)
{
    if (s->options.manual) return 1; /* the same run every time */
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    uint64_t seed = u64_mix((uint64_t)clock.tv_sec ^ ((uint64_t)clock.tv_nsec << 32));
    return u64_mix(seed ^ (uint64_t)(uintptr_t)s ^ ((uint64_t)getpid() << 40));
}

static void store_free(struct store *s)
{
    store_table_deinit(&s->table);
    buf_deinit(&s->compactor.pending);
    done_queue_deinit(&s->done);
    mem_free((void *)(uintptr_t)s->options.dir);
    mem_free(s);
}

static void wait_opened(struct store *s)
{
    for (;;) {
        uint32_t seen = doorbell_seen(&s->opened);
        if (__atomic_load_n(&s->open_done, __ATOMIC_SEQ_CST)) return;
        doorbell_wait(&s->opened, seen);
    }
}

static enum err start_thread(struct store *s, struct errmsg *em)
{
    TRY(thread_start(&s->thread, STORE_THREAD_NAME, store_main, s, em));
    wait_opened(s);
    if (s->open_result != OK) pthread_join(s->thread, NULL);
    return s->open_result;
}

enum err store_open(const struct store_options *options, struct store **out,
                    struct store_info *info, struct errmsg *em)
{
    struct done_queue done;
    struct errmsg own_em;
    struct store_info found = { 0 };
    if (em == NULL) em = &own_em;
    if (options->manual) {
        done_queue_init_manual(&done);
    } else {
        TRY(done_queue_init(&done, em));
    }
    struct store *s = mem_zalloc(sizeof *s);
    s->options = *options;
    s->options.dir = mem_copy(options->dir, strlen(options->dir) + 1);
    if (options->io == NULL) s->options.io = disk_io_posix();
    size_t buffer_bytes = options->write_buffer_bytes;
    s->options.write_buffer_bytes = buffer_bytes != 0 ? buffer_bytes : STORE_WRITE_BUFFER_BYTES;
    if (options->file_batch_bytes == 0) {
        s->options.file_batch_bytes = s->options.write_buffer_bytes / STORE_FILE_BATCH_PART;
    }
    s->done = done;
    s->open_em = em;
    s->open_info = &found;
    s->table.hash_seed = make_seed(s);
    s->table.read = store_table_read_db;
    s->table.read_ctx = s;
    enum err e = options->manual ? open_db(s, &found, em) : start_thread(s, em);
    if (e != OK) {
        store_free(s);
        return e;
    }
    s->open_em = NULL;
    s->open_info = NULL;
    s->done_index = found.applied_index;
    s->last_index = found.applied_index;
    s->last_compacted_rev = found.compacted_rev;
    *info = found;
    *out = s;
    return OK;
}

void store_start(struct store *s)
{
    ASSERT(s->phase == STORE_SCANNED);
    s->phase = STORE_STARTED;
    /* The load named everything that is dead at or below compacted_rev. */
    s->compactor.floor_rev = s->marker.compacted_rev;
    s->compactor.target_rev = s->marker.compacted_rev;
    STORE_STAT_SET(s, compacting, true); /* until the thread has looked */
    __atomic_store_n(&s->started, true, __ATOMIC_SEQ_CST);
    doorbell_ring(&s->bell);
}

static void free_reads(struct store *s)
{
    struct store_done done;
    store_poll(s, &done);
    while (done.reads != NULL) {
        struct store_read *next = store_read_after(done.reads);
        store_read_free(done.reads);
        done.reads = next;
    }
}

static void finish_thread(struct store *s)
{
    if (s->options.manual) {
        while (store_step(s)) {
        }
        return;
    }
    doorbell_ring(&s->bell);
    pthread_join(s->thread, NULL);
}

/* Waits for a read; in manual mode it runs what comes next on the workers. */
static void wait_read(struct store *s)
{
    if (s->options.manual) {
        bool ran = workers_step(s->options.workers);
        ASSERT(ran);
        return;
    }
    nanosleep(&(struct timespec){ .tv_nsec = CLOSE_POLL_NS }, NULL);
}

void store_stop(struct store *s)
{
    __atomic_store_n(&s->leaving, true, __ATOMIC_SEQ_CST);
}

bool store_gave_up(const struct store *s)
{
    return __atomic_load_n(&s->gave_up, __ATOMIC_SEQ_CST);
}

/* What will not be written any more. */
static void drop_batches(struct store *s)
{
    take_batches(s);
    while (s->batches != NULL) {
        struct store_batch *b = s->batches;
        s->batches = b->next;
        store_batch_free(b);
    }
}

void store_close(struct store *s)
{
    if (s == NULL) return;
    __atomic_store_n(&s->stopping, true, __ATOMIC_SEQ_CST);
    finish_thread(s);
    for (;;) {
        free_reads(s);
        if (s->reads_out == 0) break;
        wait_read(s);
    }
    if (s->dead || store_gave_up(s)) drop_batches(s);
    ASSERT(s->batches == NULL && s->inbox == NULL && s->exports_out == 0);
    store_close_both(s);
    store_free(s);
}

void store_abandon(struct store *s)
{
    ASSERT(s->options.manual);
    s->dead = true;
    store_close(s);
}

/* --- batches --------------------------------------------------------------- */

struct store_batch *store_batch_new(void)
{
    return mem_zalloc(sizeof(struct store_batch));
}

void store_batch_free(struct store_batch *b)
{
    if (b == NULL) return;
    struct store_batch_pack pack;
    for (size_t at = 0; at < b->packs.len; at += sizeof pack) {
        memcpy(&pack, b->packs.at + at, sizeof pack);
        blob_unref(pack.blob);
    }
    buf_deinit(&b->packs);
    buf_deinit(&b->meta);
    mem_free(b);
}

void store_batch_pack(struct store_batch *b, uint64_t first_rev, uint32_t first_n,
                      struct blob *pack_taken)
{
    ASSERT(pack_taken->len > 1);
    struct store_batch_pack pack = { first_rev, first_n, pack_taken };
    buf_append(&b->packs, &pack, sizeof pack);
    b->bytes += pack_taken->len + STORE_PACK_KEY_BYTES;
}

static void add_op(struct store_batch *b, uint8_t kind, struct slice name, struct slice value)
{
    ASSERT(name.len <= STORE_META_NAME_BYTES_MAX);
    buf_append_u8(&b->meta, kind);
    buf_append_u32(&b->meta, (uint32_t)name.len);
    buf_append_u64(&b->meta, value.len);
    buf_append_slice(&b->meta, name);
    buf_append_slice(&b->meta, value);
    b->bytes += name.len + value.len;
}

void store_batch_put(struct store_batch *b, struct slice name, struct slice value)
{
    add_op(b, 1, name, value);
}

void store_batch_delete(struct store_batch *b, struct slice name)
{
    add_op(b, 0, name, SLICE_NONE);
}

void store_batch_floor(struct store_batch *b, uint64_t floor_rev)
{
    b->floor_rev = floor_rev;
}

size_t store_batch_bytes(const struct store_batch *b)
{
    return b->bytes;
}

uint64_t store_submit(struct store *s, struct store_batch *b, const struct store_cut *cut)
{
    ASSERT(s->phase == STORE_STARTED);
    ASSERT(cut->applied_index >= s->last_index);
    ASSERT(cut->compacted_rev >= s->last_compacted_rev);
    ASSERT(b->floor_rev <= cut->compacted_rev);
    s->last_index = cut->applied_index;
    s->last_compacted_rev = cut->compacted_rev;
    b->cut = *cut;
    b->number = ++s->submit_count;
    __atomic_fetch_add(&s->backlog_bytes, b->bytes, __ATOMIC_RELAXED);
    uint64_t number = b->number;
    struct work *before = __atomic_load_n(&s->inbox, __ATOMIC_RELAXED);
    do {
        b->work.next = before;
    } while (!__atomic_compare_exchange_n(&s->inbox, &before, &b->work, true, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    doorbell_ring(&s->bell);
    return number;
}

size_t store_backlog_bytes(const struct store *s)
{
    return __atomic_load_n(&s->backlog_bytes, __ATOMIC_RELAXED);
}

void store_compact(struct store *s, uint64_t rev)
{
    ASSERT(s->phase == STORE_STARTED);
    if (rev <= __atomic_load_n(&s->allowed_rev, __ATOMIC_RELAXED)) return;
    __atomic_store_n(&s->allowed_rev, rev, __ATOMIC_SEQ_CST);
    doorbell_ring(&s->bell);
}

/* --- completions, figures --------------------------------------------------- */

void store_poll(struct store *s, struct store_done *out)
{
    struct store_read *first = NULL;
    struct work **end = NULL;
    struct work *next;
    for (struct work *w = done_queue_take(&s->done); w != NULL; w = next) {
        next = w->next;
        w->next = NULL;
        if (w->run == NULL) {
            struct store_batch *b = CONTAINER_OF(w, struct store_batch, work);
            ASSERT(b->number == s->done_count + 1);
            s->done_count = b->number;
            s->done_index = b->cut.applied_index;
            store_batch_free(b);
            continue;
        }
        s->reads_out--;
        if (first == NULL) {
            first = CONTAINER_OF(w, struct store_read, work);
        } else {
            *end = w;
        }
        end = &w->next;
    }
    *out = (struct store_done){ s->done_count, s->done_index, first };
}

struct store_read *store_read_after(const struct store_read *r)
{
    return r->work.next == NULL ? NULL : CONTAINER_OF(r->work.next, struct store_read, work);
}

int store_fd(const struct store *s)
{
    return done_queue_fd(&s->done);
}

bool store_about_to_sleep(struct store *s)
{
    return done_queue_about_to_sleep(&s->done);
}

void store_woke(struct store *s)
{
    done_queue_woke(&s->done);
}

#define STAT(field) .field = __atomic_load_n(&s->stats.field, __ATOMIC_RELAXED)

void store_stats_get(const struct store *s, struct store_stats *out)
{
    *out = (struct store_stats){
        STAT(disk_bytes),    STAT(pack_count),      STAT(pack_bytes),  STAT(dead_bytes),
        STAT(floor_rev),     STAT(packs_deleted),   STAT(packs_rewritten),
        STAT(write_count),   STAT(file_batch_count), STAT(file_count),
        STAT(compacting),
    };
}

uint64_t store_disk_bytes(const struct store *s)
{
    return __atomic_load_n(&s->stats.disk_bytes, __ATOMIC_RELAXED);
}
