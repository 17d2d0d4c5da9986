/* tests/sim/sim_leveldb.c - see sim_leveldb.h: the interface, and the map in memory. */
#include "sim_leveldb_int.h"

#define FLUSH_WRITES_MAX 4

struct leveldb_options_t {
    bool create_if_missing;
    bool paranoid;
    size_t write_buffer_bytes;
};
struct leveldb_readoptions_t {
    const leveldb_snapshot_t *snapshot;
};
struct leveldb_writeoptions_t {
    bool sync;
};
struct leveldb_cache_t {
    size_t capacity;
};
struct leveldb_snapshot_t {
    struct version *version;
};
struct leveldb_iterator_t {
    const leveldb_t *db;
    struct version *version;
    size_t at; /* >= count: not valid */
};
struct leveldb_writebatch_t {
    struct buf bytes; /* as in the log */
};

static leveldb_t *open_dbs;

static struct slice bytes_of(const char *at, size_t len)
{
    return (struct slice){ (const uint8_t *)at, len };
}

/* --- errors ------------------------------------------------------------------------ */

char *error_text(const char *kind, const char *path, const char *what)
{
    struct buf text = { 0 };
    buf_printf(&text, "%s: %s%s%s", kind, path, what[0] == '\0' ? "" : ": ", what);
    buf_append_u8(&text, 0);
    return (char *)text.at;
}

char *error_io(const char *path, int64_t negative_errno)
{
    ASSERT(negative_errno < 0);
    return error_text("IO error", path, strerror((int)-negative_errno));
}

static void error_set(char **errptr, const char *text)
{
    ASSERT(*errptr == NULL);
    *errptr = mem_copy(text, strlen(text) + 1);
}

/* --- entries, versions --------------------------------------------------------------- */

struct entry *entry_new(struct slice key, struct slice value)
{
    struct entry *e = mem_alloc(sizeof *e + key.len + value.len);
    ASSERT(key.len <= UINT32_MAX);
    *e = (struct entry){ .key_len = (uint32_t)key.len, .value_len = value.len };
    if (key.len != 0) memcpy(e->bytes, key.at, key.len);
    if (value.len != 0) memcpy(e->bytes + key.len, value.at, value.len);
    return e;
}

static void entry_unref(struct entry *e)
{
    if (--e->refs == 0) mem_free(e);
}

struct version *version_new(size_t cap)
{
    struct version *v = mem_alloc(sizeof *v);
    *v = (struct version){ .refs = 1, .cap = MAX(cap, (size_t)64) };
    v->at = mem_alloc(v->cap * sizeof *v->at);
    return v;
}

void version_unref(struct version *v)
{
    if (v == NULL || --v->refs != 0) return;
    for (size_t i = 0; i < v->count; i++) entry_unref(v->at[i]);
    mem_free(v->at);
    mem_free(v);
}

static void version_insert(struct version *v, size_t at, struct entry *e)
{
    if (v->count == v->cap) {
        v->cap *= 2;
        v->at = mem_realloc(v->at, v->cap * sizeof *v->at);
    }
    memmove(v->at + at + 1, v->at + at, (v->count - at) * sizeof *v->at);
    v->at[at] = e;
    v->count++;
    e->refs++;
}

void version_append(struct version *v, struct entry *e)
{
    version_insert(v, v->count, e);
}

size_t version_below(const struct version *v, struct slice key)
{
    size_t low = 0;
    size_t high = v->count;
    if (high > 0 && slice_cmp(entry_key(v->at[high - 1]), key) < 0) return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_cmp(entry_key(v->at[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct entry *version_find(const struct version *v, struct slice key)
{
    size_t at = version_below(v, key);
    bool found = at < v->count && slice_eq(entry_key(v->at[at]), key);
    return found ? v->at[at] : NULL;
}

/* A version that nobody else sees. */
static struct version *version_own(leveldb_t *db)
{
    struct version *old = db->now;
    if (old->refs == 1) return old;
    db->now = version_new(old->count + 1);
    for (size_t i = 0; i < old->count; i++) version_append(db->now, old->at[i]);
    version_unref(old);
    return db->now;
}

static void apply(leveldb_t *db, const struct batch_op *op)
{
    struct version *v = version_own(db);
    size_t at = version_below(v, op->key);
    bool found = at < v->count && slice_eq(entry_key(v->at[at]), op->key);
    if (found) {
        struct entry *old = v->at[at];
        db->live_bytes -= old->key_len + old->value_len;
        memmove(v->at + at, v->at + at + 1, (v->count - at - 1) * sizeof *v->at);
        v->count--;
        entry_unref(old);
    }
    if (!op->is_put) return;
    db->live_bytes += op->key.len + op->value.len;
    version_insert(v, at, entry_new(op->key, op->value));
}

/* --- batches ------------------------------------------------------------------------ */

static void batch_begin(struct buf *b)
{
    buf_clear(b);
    buf_append_u64(b, 0);
    buf_append_u32(b, 0);
}

leveldb_writebatch_t *leveldb_writebatch_create(void)
{
    leveldb_writebatch_t *b = mem_zalloc(sizeof *b);
    batch_begin(&b->bytes);
    return b;
}

void leveldb_writebatch_destroy(leveldb_writebatch_t *b)
{
    buf_deinit(&b->bytes);
    mem_free(b);
}

static void batch_add(leveldb_writebatch_t *b, bool is_put, struct slice key, struct slice value)
{
    u32_le_put(b->bytes.at + 8, u32_le(b->bytes.at + 8) + 1);
    buf_append_u8(&b->bytes, is_put);
    buf_append_varint(&b->bytes, key.len);
    buf_append_slice(&b->bytes, key);
    if (!is_put) return;
    buf_append_varint(&b->bytes, value.len);
    buf_append_slice(&b->bytes, value);
}

void leveldb_writebatch_put(leveldb_writebatch_t *b, const char *key, size_t klen, const char *val,
                            size_t vlen)
{
    batch_add(b, true, bytes_of(key, klen), bytes_of(val, vlen));
}

void leveldb_writebatch_delete(leveldb_writebatch_t *b, const char *key, size_t klen)
{
    batch_add(b, false, bytes_of(key, klen), SLICE_NONE);
}

static bool take_bytes(struct slice batch, size_t *at, struct slice *out)
{
    uint64_t len = 0;
    size_t used = varint_get(batch.at + *at, batch.len - *at, &len);
    if (used == 0 || len > batch.len - *at - used) return false;
    *out = (struct slice){ batch.at + *at + used, (size_t)len };
    *at += used + (size_t)len;
    return true;
}

bool batch_next(struct slice batch, size_t *at, struct batch_op *out, bool *bad)
{
    if (*at == batch.len) return false;
    uint8_t tag = batch.at[(*at)++];
    *out = (struct batch_op){ .is_put = tag == 1 };
    *bad = tag > 1 || !take_bytes(batch, at, &out->key) ||
           (out->is_put && !take_bytes(batch, at, &out->value));
    return !*bad;
}

/* --- writing --------------------------------------------------------------------------- */

/* What LevelDB's thread has got done by now. */
static void background(leveldb_t *db)
{
    if (db->old_log_number == 0 || db->background != NULL || --db->flush_in != 0) return;
    db->background = db_flush(db);
}

static char *make_room(leveldb_t *db)
{
    uint64_t bytes_max = MAX(db->write_buffer_bytes, db->live_bytes);
    if (db->background == NULL && db->log.bytes >= bytes_max) {
        if (db->old_log_number != 0) db->background = db_flush(db);
        if (db->background == NULL) {
            char *text = db_switch_log(db);
            db->flush_in = 1 + sim_disk_random(db->disk, FLUSH_WRITES_MAX);
            return text;
        }
    }
    return db->background == NULL ? NULL : mem_copy(db->background, strlen(db->background) + 1);
}

void leveldb_write(leveldb_t *db, const leveldb_writeoptions_t *options,
                   leveldb_writebatch_t *batch, char **errptr)
{
    ASSERT(!db->write_failed && db->damage == NULL);
    background(db);
    char *text = make_room(db);
    u64_le_put(batch->bytes.at, db->seq + 1);
    if (text == NULL) text = db_log_batch(db, buf_slice(&batch->bytes), options->sync);
    if (text != NULL) {
        db->write_failed = true;
        error_set(errptr, text);
        mem_free(text);
        return;
    }
    struct batch_op op;
    bool bad = false;
    size_t at = BATCH_HEAD_BYTES;
    while (batch_next(buf_slice(&batch->bytes), &at, &op, &bad)) apply(db, &op);
    ASSERT(!bad);
    db->seq += u32_le(batch->bytes.at + 8);
}

/* Moves nothing from level to level, there are none; but the log goes to a table, as LevelDB's. */
void leveldb_compact_range(leveldb_t *db, const char *start_key, size_t start_key_len,
                           const char *limit_key, size_t limit_key_len)
{
    (void)start_key;
    (void)start_key_len;
    (void)limit_key;
    (void)limit_key_len;
    db->stats.compact_count++;
    if (db->damage != NULL || db->write_failed || db->background != NULL) return;
    if (db->old_log_number != 0) db->background = db_flush(db);
    if (db->background != NULL) return;
    char *text = db_switch_log(db);
    if (text == NULL) db->background = db_flush(db);
    mem_free(text); /* nobody is told, and nothing is done */
}

/* Nothing waits to be merged; memory has what is in logs. */
char *leveldb_property_value(leveldb_t *db, const char *propname)
{
    bool memory = strcmp(propname, "leveldb.approximate-memory-usage") == 0;
    uint64_t old_bytes = db->old_log_number != 0 ? db->old_log_bytes : 0;
    struct buf text = { 0 };
    if (memory) buf_printf(&text, "%llu", (unsigned long long)(db->log.bytes + old_bytes));
    buf_append_u8(&text, 0);
    return (char *)text.at;
}

/* --- reading ------------------------------------------------------------------------------ */

static struct version *version_of(leveldb_t *db, const leveldb_readoptions_t *options)
{
    return options->snapshot != NULL ? options->snapshot->version : db->now;
}

char *leveldb_get(leveldb_t *db, const leveldb_readoptions_t *options, const char *key,
                  size_t keylen, size_t *vallen, char **errptr)
{
    *vallen = 0;
    if (db->damage != NULL) {
        error_set(errptr, db->damage);
        return NULL;
    }
    const struct entry *e = version_find(version_of(db, options), bytes_of(key, keylen));
    if (e == NULL) return NULL;
    *vallen = e->value_len;
    struct slice value = entry_value(e);
    return mem_copy(value.at, value.len);
}

leveldb_iterator_t *leveldb_create_iterator(leveldb_t *db, const leveldb_readoptions_t *options)
{
    leveldb_iterator_t *it = mem_alloc(sizeof *it);
    *it = (leveldb_iterator_t){ .db = db, .version = version_of(db, options), .at = SIZE_MAX };
    it->version->refs++;
    return it;
}

void leveldb_iter_destroy(leveldb_iterator_t *it)
{
    version_unref(it->version);
    mem_free(it);
}

uint8_t leveldb_iter_valid(const leveldb_iterator_t *it) { return it->at < it->version->count; }
void leveldb_iter_seek_to_first(leveldb_iterator_t *it) { it->at = 0; }

void leveldb_iter_seek_to_last(leveldb_iterator_t *it)
{
    it->at = it->version->count == 0 ? SIZE_MAX : it->version->count - 1;
}

void leveldb_iter_seek(leveldb_iterator_t *it, const char *k, size_t klen)
{
    it->at = version_below(it->version, bytes_of(k, klen));
}

void leveldb_iter_next(leveldb_iterator_t *it)
{
    ASSERT(leveldb_iter_valid(it));
    it->at++;
}

void leveldb_iter_prev(leveldb_iterator_t *it)
{
    ASSERT(leveldb_iter_valid(it));
    it->at = it->at == 0 ? SIZE_MAX : it->at - 1;
}

const char *leveldb_iter_key(const leveldb_iterator_t *it, size_t *klen)
{
    ASSERT(leveldb_iter_valid(it));
    struct slice key = entry_key(it->version->at[it->at]);
    *klen = key.len;
    return (const char *)key.at;
}

const char *leveldb_iter_value(const leveldb_iterator_t *it, size_t *vlen)
{
    ASSERT(leveldb_iter_valid(it));
    struct slice value = entry_value(it->version->at[it->at]);
    *vlen = value.len;
    return (const char *)value.at;
}

void leveldb_iter_get_error(const leveldb_iterator_t *it, char **errptr)
{
    if (it->db->damage != NULL) error_set(errptr, it->db->damage);
}

const leveldb_snapshot_t *leveldb_create_snapshot(leveldb_t *db)
{
    leveldb_snapshot_t *s = mem_alloc(sizeof *s);
    s->version = db->now;
    s->version->refs++;
    return s;
}

void leveldb_release_snapshot(leveldb_t *db, const leveldb_snapshot_t *snapshot)
{
    (void)db;
    version_unref(snapshot->version);
    mem_free((void *)(uintptr_t)snapshot);
}

void leveldb_approximate_sizes(leveldb_t *db, int num_ranges, const char *const *range_start_key,
                               const size_t *range_start_key_len,
                               const char *const *range_limit_key,
                               const size_t *range_limit_key_len, uint64_t *sizes)
{
    for (int i = 0; i < num_ranges; i++) {
        const struct version *v = db->now;
        size_t at = version_below(v, bytes_of(range_start_key[i], range_start_key_len[i]));
        size_t end = version_below(v, bytes_of(range_limit_key[i], range_limit_key_len[i]));
        sizes[i] = 0;
        for (; at < end; at++) sizes[i] += v->at[at]->key_len + v->at[at]->value_len;
    }
}

/* --- opening and closing ------------------------------------------------------------------- */

static void db_free(leveldb_t *db)
{
    db_files_close(db);
    version_unref(db->now);
    mem_free(db->background);
    mem_free(db->damage);
    mem_free(db->dir);
    mem_free(db);
}

static bool is_open(const char *dir)
{
    for (const leveldb_t *db = open_dbs; db != NULL; db = db->next) {
        if (strcmp(db->dir, dir) == 0) return true;
    }
    return false;
}

leveldb_t *leveldb_open(const leveldb_options_t *options, const char *name, char **errptr)
{
    struct sim_disk *disk = sim_disk_find(name);
    ASSERT(disk != NULL);
    if (is_open(name)) {
        char *text = error_text("IO error: lock", name, "already held by process");
        error_set(errptr, text);
        mem_free(text);
        return NULL;
    }
    leveldb_t *db = mem_zalloc(sizeof *db);
    db->disk = disk;
    db->io = sim_disk_io(disk);
    db->dir = mem_copy(name, strlen(name) + 1);
    db->paranoid = options->paranoid;
    db->write_buffer_bytes = options->write_buffer_bytes;
    db->now = version_new(0);
    db->log.fd = db->manifest.fd = -1;
    char *text = db_load(db, options->create_if_missing);
    if (text != NULL) {
        error_set(errptr, text);
        mem_free(text);
        db_free(db);
        return NULL;
    }
    db->next = open_dbs;
    open_dbs = db;
    return db;
}

void leveldb_close(leveldb_t *db)
{
    leveldb_t **at = &open_dbs;
    while (*at != db) at = &(*at)->next;
    *at = db->next;
    ASSERT(db->now->refs == 1); /* no iterator, no snapshot: as LevelDB asserts */
    db_free(db);
}

void leveldb_destroy_db(const leveldb_options_t *options, const char *name, char **errptr)
{
    (void)options;
    (void)errptr; /* what cannot be removed is found by the next who looks */
    struct sim_disk *disk = sim_disk_find(name);
    ASSERT(disk != NULL && !is_open(name));
    db_destroy(sim_disk_io(disk), name);
}

void sim_leveldb_stats_get(const leveldb_t *db, struct sim_leveldb_stats *out)
{
    *out = db->stats;
    out->entry_count = db->now->count;
}

/* --- options --------------------------------------------------------------------------------- */

leveldb_options_t *leveldb_options_create(void)
{
    leveldb_options_t *o = mem_zalloc(sizeof *o);
    o->write_buffer_bytes = 4u << 20;
    return o;
}

void leveldb_options_destroy(leveldb_options_t *o) { mem_free(o); }

void leveldb_options_set_create_if_missing(leveldb_options_t *o, uint8_t v)
{
    o->create_if_missing = v != 0;
}

void leveldb_options_set_paranoid_checks(leveldb_options_t *o, uint8_t v) { o->paranoid = v != 0; }

void leveldb_options_set_write_buffer_size(leveldb_options_t *o, size_t v)
{
    o->write_buffer_bytes = v;
}

/* What follows has no meaning here. */
void leveldb_options_set_compression(leveldb_options_t *o, int v) { (void)o, (void)v; }
void leveldb_options_set_max_file_size(leveldb_options_t *o, size_t v) { (void)o, (void)v; }
void leveldb_options_set_max_open_files(leveldb_options_t *o, int v) { (void)o, (void)v; }
void leveldb_options_set_block_size(leveldb_options_t *o, size_t v) { (void)o, (void)v; }
void leveldb_options_set_cache(leveldb_options_t *o, leveldb_cache_t *v) { (void)o, (void)v; }

leveldb_cache_t *leveldb_cache_create_lru(size_t capacity)
{
    leveldb_cache_t *c = mem_alloc(sizeof *c);
    c->capacity = capacity;
    return c;
}

void leveldb_cache_destroy(leveldb_cache_t *c) { mem_free(c); }

leveldb_writeoptions_t *leveldb_writeoptions_create(void)
{
    return mem_zalloc(sizeof(leveldb_writeoptions_t));
}

void leveldb_writeoptions_destroy(leveldb_writeoptions_t *o) { mem_free(o); }
void leveldb_writeoptions_set_sync(leveldb_writeoptions_t *o, uint8_t v) { o->sync = v != 0; }

leveldb_readoptions_t *leveldb_readoptions_create(void)
{
    return mem_zalloc(sizeof(leveldb_readoptions_t));
}

void leveldb_readoptions_destroy(leveldb_readoptions_t *o) { mem_free(o); }
void leveldb_readoptions_set_verify_checksums(leveldb_readoptions_t *o, uint8_t v)
{
    (void)o, (void)v; /* always */
}
void leveldb_readoptions_set_fill_cache(leveldb_readoptions_t *o, uint8_t v) { (void)o, (void)v; }
void leveldb_readoptions_set_snapshot(leveldb_readoptions_t *o, const leveldb_snapshot_t *s)
{
    o->snapshot = s;
}

void leveldb_free(void *at) { mem_free(at); }
