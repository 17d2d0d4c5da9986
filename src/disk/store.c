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

static void write_synced(struct store *s, struct store_db *db, leveldb_writebatch_t *batch)
{
    struct errmsg em;
    if (store_gave_up(s)) return;
    enum err e = store_db_write(db, batch, &em);
    if (e == ERR_NOSPACE && __atomic_load_n(&s->leaving, __ATOMIC_SEQ_CST)) {
        log_warning("checkpoint skipped, nothing is lost, the log has it reason=\"%s\"", em.text);
        __atomic_store_n(&s->gave_up, true, __ATOMIC_SEQ_CST);
        return;
    }
    if (e != OK) {
        store_fatal(s, "write failed, nothing is lost, the log has it: %s", em.text);
    }
    STORE_STAT_ADD(s, write_count, 1);
}

void store_write_rows(struct store *s, leveldb_writebatch_t *batch)
{
    write_synced(s, &s->rows, batch);
}

void store_write_meta(struct store *s, leveldb_writebatch_t *batch,
                      const struct store_marker *next)
{
    store_marker_add(batch, next);
    write_synced(s, &s->meta, batch);
    s->marker = *next;
}

enum err store_table_read_db(void *ctx, uint64_t first_rev, uint32_t first_n, struct buf *out)
{
    struct store *s = ctx;
    struct store_pack_key key = store_pack_key(first_rev, first_n);
    bool found = false;
    TRY(store_db_get(&s->rows, (struct slice){ key.at, sizeof key.at }, out, &found, NULL));
    return found ? OK : ERR_CORRUPT;
}

void store_check_files(struct store *s, bool now)
{
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    int64_t now_ms = (int64_t)clock.tv_sec * 1000 + clock.tv_nsec / 1000000;
    if (!now && now_ms - s->files_checked_ms < FILES_CHECK_MS) return;
    s->files_checked_ms = now_ms;
    uint64_t meta_bytes = 0;
    uint64_t meta_log_bytes = 0;
    struct errmsg em;
    enum err e = store_db_files(&s->rows, &s->rows_bytes, &s->rows_log_bytes, &em);
    if (e == OK) e = store_db_files(&s->meta, &meta_bytes, &meta_log_bytes, &em);
    if (e != OK) store_fatal(s, "%s", em.text);
    STORE_STAT_SET(s, disk_bytes, s->rows_bytes + meta_bytes);
    store_memory_limit(STORE_MAPPED_BYTES_MAX);
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

/* Moves the inbox behind what was taken before. */
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

/* The packs of a batch, durable before the marker that names them. */
static void write_packs(struct store *s, const struct store_batch *b, struct store_marker *next)
{
    struct store_batch_pack pack;
    if (b->packs.len == 0) return;
    leveldb_writebatch_t *out = leveldb_writebatch_create();
    for (size_t at = 0; at < b->packs.len; at += sizeof pack) {
        memcpy(&pack, b->packs.at + at, sizeof pack);
        ASSERT(store_marker_is_behind(next, pack.first_rev, pack.first_n));
        struct store_pack_key key = store_pack_key(pack.first_rev, pack.first_n);
        leveldb_writebatch_put(out, (const char *)key.at, sizeof key.at,
                               (const char *)pack.blob->at, pack.blob->len);
        store_table_append(&s->table, pack.first_rev, pack.first_n, pack.blob->len);
        next->last_rev = pack.first_rev;
        next->last_n = pack.first_n;
    }
    store_write_rows(s, out);
    leveldb_writebatch_destroy(out);
}

static void write_batch(struct store *s)
{
    struct store_batch *b = s->batches;
    s->batches = b->next;
    struct store_marker next = store_marker_after(&s->marker);
    write_packs(s, b, &next);
    next.index = b->cut.applied_index;
    next.term = b->cut.applied_term;
    next.compacted_rev = b->cut.compacted_rev;
    next.pack_sum = s->table.sum;
    next.pack_sum_before = s->table.sum;
    leveldb_writebatch_t *out = leveldb_writebatch_create();
    add_meta(out, b);
    store_write_meta(s, out, &next);
    leveldb_writebatch_destroy(out);
    if (store_gave_up(s)) {
        b->next = s->batches;
        s->batches = b;
        return;
    }
    store_check_files(s, false);
    __atomic_fetch_sub(&s->backlog_bytes, b->bytes, __ATOMIC_RELAXED);
    done_queue_push(&s->done, &b->work);
}

static void adjust_priority(struct store *s)
{
    bool low = store_backlog_bytes(s) <= STORE_BACKLOG_BYTES_NORMAL;
    if (low == s->low_priority) return;
    s->low_priority = low;
    store_priority_set(low);
}

/* Memory is given back, and the next start has less of a log to read. */
static void become_idle(struct store *s)
{
    if (s->rows_log_bytes > STORE_IDLE_LOG_BYTES_MAX) {
        store_db_flush(&s->rows);
        store_check_files(s, true);
    }
    store_memory_limit(0);
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
        adjust_priority(s);
        bool busy = s->batches != NULL;
        if (busy) write_batch(s);
        if (store_gave_up(s)) return;
        bool behind = stopping || store_backlog_bytes(s) > STORE_BACKLOG_BYTES_NORMAL;
        if (!behind) busy = store_compact_step(s) || busy;
        if (store_gave_up(s)) return;
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

static uint64_t make_seed(const void *salt)
{
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    uint64_t seed = u64_mix((uint64_t)clock.tv_sec ^ ((uint64_t)clock.tv_nsec << 32));
    return u64_mix(seed ^ (uint64_t)(uintptr_t)salt ^ ((uint64_t)getpid() << 40));
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

enum err store_open(const struct store_options *options, struct store **out,
                    struct store_info *info, struct errmsg *em)
{
    struct done_queue done;
    struct errmsg own_em;
    struct store_info found = { 0 };
    if (em == NULL) em = &own_em;
    TRY(done_queue_init(&done, em));
    struct store *s = mem_zalloc(sizeof *s);
    s->options = *options;
    s->options.dir = mem_copy(options->dir, strlen(options->dir) + 1);
    size_t buffer_bytes = options->write_buffer_bytes;
    s->options.write_buffer_bytes = buffer_bytes != 0 ? buffer_bytes : STORE_WRITE_BUFFER_BYTES;
    s->done = done;
    s->open_em = em;
    s->open_info = &found;
    s->table.hash_seed = make_seed(s);
    s->table.read = store_table_read_db;
    s->table.read_ctx = s;
    enum err e = thread_start(&s->thread, STORE_THREAD_NAME, store_main, s, em);
    if (e == OK) {
        wait_opened(s);
        e = s->open_result;
        if (e != OK) pthread_join(s->thread, NULL);
    }
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

void store_stop(struct store *s)
{
    __atomic_store_n(&s->leaving, true, __ATOMIC_SEQ_CST);
}

bool store_gave_up(const struct store *s)
{
    return __atomic_load_n(&s->gave_up, __ATOMIC_SEQ_CST);
}

/* What there was no room for. */
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
    doorbell_ring(&s->bell);
    pthread_join(s->thread, NULL);
    for (;;) {
        free_reads(s);
        if (s->reads_out == 0) break;
        nanosleep(&(struct timespec){ .tv_nsec = CLOSE_POLL_NS }, NULL);
    }
    ASSERT(store_gave_up(s) || (s->batches == NULL && s->inbox == NULL));
    drop_batches(s);
    store_close_both(s);
    store_free(s);
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

size_t store_batch_bytes(const struct store_batch *b)
{
    return b->bytes;
}

uint64_t store_submit(struct store *s, struct store_batch *b, const struct store_cut *cut)
{
    ASSERT(s->phase == STORE_STARTED);
    ASSERT(cut->applied_index >= s->last_index);
    ASSERT(cut->compacted_rev >= s->last_compacted_rev);
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
        STAT(write_count),   STAT(compacting),
    };
}

uint64_t store_disk_bytes(const struct store *s)
{
    return __atomic_load_n(&s->stats.disk_bytes, __ATOMIC_RELAXED);
}
