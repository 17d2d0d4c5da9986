/* tests/sim/sim_leveldb_file.c - the files of sim_leveldb.h: logs, the manifest, tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_leveldb_int.h"

#define LOG_BLOCK_BYTES 32768u
#define LOG_HEAD_BYTES 7u
#define TABLE_BLOCK_BYTES 4096u
#define TABLE_MAGIC 0x7461626c65534d31ULL
#define TABLE_FOOT_BYTES 16u
#define EDIT_BYTES 32u

enum part { PART_ZERO, PART_WHOLE, PART_FIRST, PART_MIDDLE, PART_LAST };

static uint32_t crc_mask(uint32_t crc)
{
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* --- whole files ------------------------------------------------------------------------- */

struct file_path {
    char at[SIM_PATH_BYTES];
};

static struct file_path path_in(const char *dir, const char *name)
{
    struct file_path path;
    int len = snprintf(path.at, sizeof path.at, "%s/%s", dir, name);
    ASSERT(len > 0 && (size_t)len < sizeof path.at);
    return path;
}

static struct file_path path_numbered(const char *dir, uint64_t number, const char *end)
{
    char name[SIM_PATH_BYTES];
    bool manifest = end[0] == '\0';
    snprintf(name, sizeof name, "%s%06" PRIu64 "%s", manifest ? "MANIFEST-" : "", number, end);
    return path_in(dir, name);
}

/* Empty, whether it was there or not. */
static char *file_create(const struct disk_io *io, const char *path, int *fd)
{
    int answer = io->open(io->ctx, path, DISK_WRITE | DISK_CREATE, fd);
    if (answer == -EEXIST) {
        answer = io->open(io->ctx, path, DISK_WRITE, fd);
        if (answer == 0) answer = io->truncate(io->ctx, *fd, 0);
    }
    return answer == 0 ? NULL : error_io(path, answer);
}

/* As much as can be written stays written. */
static char *file_append(const struct disk_io *io, int fd, const char *path, struct slice bytes,
                         uint64_t offset)
{
    while (bytes.len != 0) {
        int64_t put = io->pwrite(io->ctx, fd, bytes.at, bytes.len, offset);
        if (put < 0) return error_io(path, put);
        bytes.at += put;
        bytes.len -= (size_t)put;
        offset += (uint64_t)put;
    }
    return NULL;
}

static char *file_sync(const struct disk_io *io, int fd, const char *path)
{
    int answer = io->sync(io->ctx, fd);
    return answer == 0 ? NULL : error_io(path, answer);
}

static char *dir_sync(const leveldb_t *db)
{
    int answer = db->io->dirsync(db->io->ctx, db->dir);
    return answer == 0 ? NULL : error_io(db->dir, answer);
}

static char *file_write(const struct disk_io *io, const char *path, struct slice bytes)
{
    int fd = -1;
    char *text = file_create(io, path, &fd);
    if (text == NULL) text = file_append(io, fd, path, bytes, 0);
    if (text == NULL) text = file_sync(io, fd, path);
    if (fd >= 0) io->close(io->ctx, fd);
    return text;
}

/* *answer is what open answered. */
static char *file_read(const struct disk_io *io, const char *path, struct buf *out, int *answer)
{
    int fd = -1;
    uint64_t bytes = 0;
    *answer = io->open(io->ctx, path, DISK_READ, &fd);
    if (*answer < 0) return error_io(path, *answer);
    io->size(io->ctx, fd, &bytes);
    buf_reserve(out, (size_t)bytes + 1);
    int64_t got = 1;
    while (got > 0 && out->len < bytes) {
        got = io->pread(io->ctx, fd, out->at + out->len, (size_t)bytes - out->len, out->len);
        if (got > 0) out->len += (size_t)got;
    }
    io->close(io->ctx, fd);
    return got < 0 ? error_io(path, got) : NULL;
}

/* --- records ------------------------------------------------------------------------------- */

static void add_part(struct buf *out, enum part part, struct slice bytes)
{
    uint8_t type = (uint8_t)part;
    buf_append_u32(out, crc_mask(crc32c(crc32c(0, &type, 1), bytes.at, bytes.len)));
    buf_append_u16(out, (uint16_t)bytes.len);
    buf_append_u8(out, type);
    buf_append_slice(out, bytes);
}

/* A record as it is appended to a file of `offset` bytes. */
static void add_record(struct buf *out, uint64_t offset, struct slice record)
{
    bool begin = true;
    do {
        size_t left = LOG_BLOCK_BYTES - (size_t)((offset + out->len) % LOG_BLOCK_BYTES);
        if (left < LOG_HEAD_BYTES) {
            static const uint8_t zeros[LOG_HEAD_BYTES];
            buf_append(out, zeros, left);
            left = LOG_BLOCK_BYTES;
        }
        size_t len = MIN(record.len, left - LOG_HEAD_BYTES);
        bool end = len == record.len;
        enum part part = begin ? end ? PART_WHOLE : PART_FIRST : end ? PART_LAST : PART_MIDDLE;
        add_part(out, part, (struct slice){ record.at, len });
        record = (struct slice){ record.at + len, record.len - len };
        begin = false;
    } while (record.len != 0);
}

/* Reads records as LevelDB's log::Reader does, which see for what it takes for the end. */
struct log_reader {
    struct slice file;
    size_t at;
    bool within; /* a fragmented record */
    struct buf record;
    const char *damage; /* what paranoid checks refuse; NULL: nothing so far */
};

/* One part. PART_ZERO: the end, or the rest of the block is nothing (*again). */
static enum part read_part(struct log_reader *r, struct slice *body, bool *again)
{
    size_t left = LOG_BLOCK_BYTES - r->at % LOG_BLOCK_BYTES;
    *again = false;
    if (left < LOG_HEAD_BYTES) r->at += left;
    if (r->at >= r->file.len || r->file.len - r->at < LOG_HEAD_BYTES) return PART_ZERO;
    size_t block_end = (r->at / LOG_BLOCK_BYTES + 1) * LOG_BLOCK_BYTES;
    size_t end = MIN(block_end, r->file.len);
    const uint8_t *head = r->file.at + r->at;
    size_t len = u16_le(head + 4);
    bool cut = r->at + LOG_HEAD_BYTES + len > end;
    if (cut && end < block_end) return PART_ZERO; /* the writer died within it */
    *again = true;
    size_t at = r->at + LOG_HEAD_BYTES;
    bool nothing = head[6] == PART_ZERO && len == 0;
    bool wrong = cut || (!nothing && crc_mask(crc32c(0, head + 6, 1 + len)) != u32_le(head));
    r->at = wrong || nothing ? block_end : at + len;
    if (wrong) r->damage = cut ? "bad record length" : "checksum mismatch";
    if (wrong || nothing) return PART_ZERO;
    *body = (struct slice){ r->file.at + at, len };
    return (enum part)head[6];
}

/* False at the end. */
static bool read_record(struct log_reader *r)
{
    for (;;) {
        struct slice body;
        bool again;
        enum part part = read_part(r, &body, &again);
        if (part == PART_ZERO && !again) return false;
        if (part == PART_ZERO) {
            if (r->within) r->damage = "error in middle of record";
            r->within = false;
            continue;
        }
        bool begins = part == PART_WHOLE || part == PART_FIRST;
        if (begins && r->within) r->damage = "partial record without end(1)";
        if (!begins && !r->within) r->damage = "missing start of fragmented record(1)";
        if (!begins && !r->within) continue;
        if (begins) buf_clear(&r->record);
        buf_append_slice(&r->record, body);
        r->within = part == PART_FIRST || part == PART_MIDDLE;
        if (!r->within) return true;
    }
}

static char *damage_text(const leveldb_t *db, const struct log_reader *r)
{
    if (r->damage == NULL || !db->paranoid) return NULL;
    return error_text("Corruption", r->damage, "");
}

/* --- writing --------------------------------------------------------------------------------- */

static char *append_record(const leveldb_t *db, struct log_file *file, const char *path,
                           struct slice record)
{
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    add_record(&bytes, file->bytes, record);
    char *text = file_append(db->io, file->fd, path, buf_slice(&bytes), file->bytes);
    if (text == NULL) file->bytes += bytes.len;
    return text;
}

char *db_log_batch(leveldb_t *db, struct slice batch, bool sync)
{
    struct file_path path = path_numbered(db->dir, db->log_number, ".log");
    char *text = append_record(db, &db->log, path.at, batch);
    if (text == NULL && sync) text = file_sync(db->io, db->log.fd, path.at);
    return text;
}

static char *log_begin(leveldb_t *db)
{
    db->log_number = db->next_file++;
    db->log = (struct log_file){ .fd = -1 };
    struct file_path path = path_numbered(db->dir, db->log_number, ".log");
    return file_create(db->io, path.at, &db->log.fd);
}

static void log_close(leveldb_t *db, struct log_file *file)
{
    if (file->fd >= 0) db->io->close(db->io->ctx, file->fd);
    file->fd = -1;
}

char *db_switch_log(leveldb_t *db)
{
    ASSERT(db->old_log_number == 0);
    struct log_file old = db->log;
    uint64_t old_number = db->log_number;
    char *text = log_begin(db);
    if (text != NULL) { /* it goes on with the old one, and takes the number again */
        log_close(db, &db->log);
        db->log = old;
        db->log_number = old_number;
        db->next_file--;
        return text;
    }
    log_close(db, &old);
    db->old_log_number = old_number;
    db->old_log_bytes = old.bytes;
    return NULL;
}

/* The manifest's sync, and that of the directory, whose new files it is about to name. */
static char *manifest_write(leveldb_t *db)
{
    uint8_t edit[EDIT_BYTES];
    struct file_path path = path_numbered(db->dir, db->manifest_number, "");
    u64_le_put(edit, db->log_number);
    u64_le_put(edit + 8, db->next_file);
    u64_le_put(edit + 16, db->seq);
    u64_le_put(edit + 24, db->table_number);
    char *text = dir_sync(db);
    if (text == NULL) {
        text = append_record(db, &db->manifest, path.at, (struct slice){ edit, sizeof edit });
    }
    return text != NULL ? text : file_sync(db->io, db->manifest.fd, path.at);
}

static void block_end(struct buf *table, size_t block_at, uint64_t *blocks)
{
    uint8_t *head = table->at + block_at;
    size_t body = table->len - block_at - 8;
    u32_le_put(head + 4, (uint32_t)body);
    u32_le_put(head, crc_mask(crc32c(0, head + 4, body + 4)));
    ++*blocks;
}

static char *table_write(leveldb_t *db, uint64_t number)
{
    CLEANUP(buf_deinit) struct buf table = { 0 };
    uint64_t blocks = 0;
    size_t block_at = 0;
    buf_reserve(&table, (size_t)db->live_bytes + db->now->count * 8 + 64);
    for (size_t i = 0; i < db->now->count; i++) {
        const struct entry *e = db->now->at[i];
        if (table.len == block_at) buf_append_u64(&table, 0);
        buf_append_varint(&table, e->key_len);
        buf_append_varint(&table, e->value_len);
        buf_append(&table, e->bytes, e->key_len + e->value_len);
        if (table.len - block_at < TABLE_BLOCK_BYTES && i + 1 < db->now->count) continue;
        block_end(&table, block_at, &blocks);
        block_at = table.len;
    }
    buf_append_u64(&table, TABLE_MAGIC);
    buf_append_u64(&table, blocks);
    struct file_path path = path_numbered(db->dir, number, ".ldb");
    return file_write(db->io, path.at, buf_slice(&table));
}

static void remove_numbered(const leveldb_t *db, uint64_t number, const char *end)
{
    if (number == 0) return;
    struct file_path path = path_numbered(db->dir, number, end);
    db->io->unlink(db->io->ctx, path.at); /* if it stays, the next opening removes it */
}

/* Everything is in the map, so the table may hold what is in the new log too: it comes again from
 * there, to the same end. */
char *db_flush(leveldb_t *db)
{
    uint64_t old_log = db->old_log_number;
    uint64_t old_table = db->table_number;
    char *text = NULL;
    if (db->old_log_bytes != 0) {
        uint64_t number = db->next_file++;
        text = table_write(db, number);
        if (text != NULL) return text;
        db->table_number = number;
        db->stats.flush_count++;
    }
    text = manifest_write(db);
    if (text != NULL) return text;
    db->old_log_number = 0;
    remove_numbered(db, old_log, ".log");
    if (db->old_log_bytes != 0) remove_numbered(db, old_table, ".ldb");
    return NULL;
}

void db_files_close(leveldb_t *db)
{
    log_close(db, &db->log);
    log_close(db, &db->manifest);
}

/* --- the directory ------------------------------------------------------------------------------ */

enum kind { KIND_OTHER, KIND_LOG, KIND_TABLE, KIND_MANIFEST, KIND_TEMP, KIND_FIXED };

static enum kind kind_of(const char *name, uint64_t *number)
{
    static const char *const fixed[] = { "CURRENT", "LOCK", "LOG", "LOG.old" };
    int end = 0;
    *number = 0;
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (strcmp(name, fixed[i]) == 0) return KIND_FIXED;
    }
    if (sscanf(name, "MANIFEST-%" SCNu64 "%n", number, &end) == 1 && name[end] == '\0') {
        return KIND_MANIFEST;
    }
    if (sscanf(name, "%" SCNu64 "%n", number, &end) != 1) return KIND_OTHER;
    if (strcmp(name + end, ".log") == 0) return KIND_LOG;
    if (strcmp(name + end, ".ldb") == 0) return KIND_TABLE;
    return strcmp(name + end, ".dbtmp") == 0 ? KIND_TEMP : KIND_OTHER;
}

struct dir_walk {
    const leveldb_t *db; /* NULL: all files go */
    const struct disk_io *io;
    const char *dir;
    struct buf logs; /* of u64: at or above the manifest's */
};

static int remove_old(void *ctx, const char *name)
{
    const struct dir_walk *w = ctx;
    const leveldb_t *db = w->db;
    uint64_t number = 0;
    enum kind kind = kind_of(name, &number);
    bool keep = kind == KIND_OTHER;
    if (db != NULL && kind == KIND_FIXED) keep = true;
    if (db != NULL && kind == KIND_LOG) keep = number >= db->log_number;
    if (db != NULL && kind == KIND_TABLE) keep = number == db->table_number;
    if (db != NULL && kind == KIND_MANIFEST) keep = number >= db->manifest_number;
    struct file_path path = path_in(w->dir, name);
    if (!keep) w->io->unlink(w->io->ctx, path.at);
    return 0;
}

void db_destroy(const struct disk_io *io, const char *dir)
{
    struct dir_walk w = { .io = io, .dir = dir };
    io->list(io->ctx, dir, remove_old, &w);
}

/* --- loading -------------------------------------------------------------------------------------- */

/* A temporary file, renamed. */
static char *current_set(leveldb_t *db)
{
    char line[32];
    int len = snprintf(line, sizeof line, "MANIFEST-%06" PRIu64 "\n", db->manifest_number);
    struct file_path temp = path_numbered(db->dir, db->manifest_number, ".dbtmp");
    struct file_path current = path_in(db->dir, "CURRENT");
    char *text = file_write(db->io, temp.at, (struct slice){ (uint8_t *)line, (size_t)len });
    if (text != NULL) return text;
    int answer = db->io->rename(db->io->ctx, temp.at, current.at);
    return answer < 0 ? error_io(temp.at, answer) : dir_sync(db);
}

static char *manifest_begin(leveldb_t *db)
{
    db->manifest = (struct log_file){ .fd = -1 };
    db->manifest_number = db->next_file++;
    struct file_path path = path_numbered(db->dir, db->manifest_number, "");
    char *text = file_create(db->io, path.at, &db->manifest.fd);
    if (text == NULL) text = manifest_write(db);
    return text == NULL ? current_set(db) : text;
}

static char *manifest_read(leveldb_t *db, const char *name)
{
    struct file_path path = path_in(db->dir, name);
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    int answer = 0;
    char *text = file_read(db->io, path.at, &bytes, &answer);
    if (answer == -ENOENT) {
        mem_free(text);
        return error_text("Corruption", "CURRENT points to a non-existent file", path.at);
    }
    if (text != NULL) return text;
    struct log_reader r = { .file = buf_slice(&bytes) };
    bool found = false;
    while (read_record(&r)) {
        if (r.record.len != EDIT_BYTES) continue;
        found = true;
        db->log_number = u64_le(r.record.at);
        db->next_file = u64_le(r.record.at + 8);
        db->seq = u64_le(r.record.at + 16);
        db->table_number = u64_le(r.record.at + 24);
    }
    buf_deinit(&r.record);
    text = damage_text(db, &r);
    if (text != NULL || found) return text;
    return error_text("Corruption", "no meta-nextfile entry in descriptor", "");
}

static bool block_read(leveldb_t *db, struct slice body)
{
    for (size_t at = 0; at < body.len;) {
        uint64_t len[2];
        for (int i = 0; i < 2; i++) {
            size_t used = varint_get(body.at + at, body.len - at, &len[i]);
            if (used == 0) return false;
            at += used;
        }
        if (len[0] > body.len - at || len[1] > body.len - at - len[0]) return false;
        struct slice key = { body.at + at, (size_t)len[0] };
        struct slice value = { key.at + key.len, (size_t)len[1] };
        version_append(db->now, entry_new(key, value));
        db->live_bytes += key.len + value.len;
        at += key.len + value.len;
    }
    return true;
}

/* A block that does not match is left out. False: something was. */
static bool table_parse(leveldb_t *db, struct slice table)
{
    if (table.len < TABLE_FOOT_BYTES) return false;
    size_t end = table.len - TABLE_FOOT_BYTES;
    uint64_t blocks = 0;
    bool good = u64_le(table.at + end) == TABLE_MAGIC;
    for (size_t at = 0; end - at >= 8;) {
        const uint8_t *head = table.at + at;
        size_t len = u32_le(head + 4);
        if (len > end - at - 8) return false;
        bool same = crc_mask(crc32c(0, head + 4, len + 4)) == u32_le(head);
        good = same && block_read(db, (struct slice){ head + 8, len }) && good;
        at += 8 + len;
        blocks++;
    }
    return good && blocks == u64_le(table.at + end + 8);
}

static char *table_read(leveldb_t *db)
{
    if (db->table_number == 0) return NULL;
    struct file_path path = path_numbered(db->dir, db->table_number, ".ldb");
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    int answer = 0;
    char *text = file_read(db->io, path.at, &bytes, &answer);
    if (answer == -ENOENT) {
        mem_free(text);
        return error_text("Corruption", "1 missing files; e.g.", path.at);
    }
    if (text != NULL) return text;
    if (!table_parse(db, buf_slice(&bytes))) {
        db->damage = error_text("Corruption", "block checksum mismatch", path.at);
    }
    return NULL;
}

/* An operation from a log; e is NULL if it deletes. */
struct replay_op {
    struct entry *e; /* key, and value; for a deletion the key only */
    uint64_t prefix; /* first bytes of the key, big-endian */
    uint32_t order;
    bool is_put;
};

static int replay_order(const void *a, const void *b)
{
    const struct replay_op *x = a;
    const struct replay_op *y = b;
    if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
    int order = slice_cmp(entry_key(x->e), entry_key(y->e));
    return order != 0 ? order : x->order < y->order ? -1 : 1;
}

/* Adds the operations of a batch. NULL, or what is wrong. */
static const char *replay_batch(leveldb_t *db, struct slice batch, struct buf *ops)
{
    struct batch_op op;
    bool bad = false;
    size_t at = BATCH_HEAD_BYTES;
    if (batch.len < BATCH_HEAD_BYTES) return "log record too small";
    while (batch_next(batch, &at, &op, &bad)) {
        uint8_t prefix[8] = { 0 };
        if (op.key.len != 0) memcpy(prefix, op.key.at, MIN(op.key.len, sizeof prefix));
        struct replay_op *to = (struct replay_op *)(void *)buf_reserve(ops, sizeof *to);
        *to = (struct replay_op){
            .e = entry_new(op.key, op.value),
            .prefix = u64_be(prefix),
            .order = (uint32_t)(ops->len / sizeof *to),
            .is_put = op.is_put,
        };
        ops->len += sizeof *to;
    }
    if (bad) return "bad WriteBatch";
    db->seq = MAX(db->seq, u64_le(batch.at) + u32_le(batch.at + 8) - 1);
    return NULL;
}

static char *replay_log(leveldb_t *db, uint64_t number, struct buf *ops)
{
    struct file_path path = path_numbered(db->dir, number, ".log");
    CLEANUP(buf_deinit) struct buf bytes = { 0 };
    int answer = 0;
    char *text = file_read(db->io, path.at, &bytes, &answer);
    if (text != NULL) return text;
    struct log_reader r = { .file = buf_slice(&bytes) };
    while (text == NULL && read_record(&r)) {
        const char *wrong = replay_batch(db, buf_slice(&r.record), ops);
        if (wrong != NULL) text = error_text("Corruption", wrong, "");
    }
    buf_deinit(&r.record);
    return text != NULL ? text : damage_text(db, &r);
}

static void entry_take(struct version *to, struct entry *e, uint64_t *bytes)
{
    version_append(to, e);
    *bytes += e->key_len + e->value_len;
}

/* The table's entries, and over them the last operation on each key. */
static void replay_merge(leveldb_t *db, const struct replay_op *ops, size_t count)
{
    struct version *old = db->now;
    db->now = version_new(old->count + count);
    db->live_bytes = 0;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        struct slice key = entry_key(ops[i].e);
        bool last = i + 1 == count || !slice_eq(entry_key(ops[i + 1].e), key);
        for (; at < old->count; at++) {
            int order = slice_cmp(entry_key(old->at[at]), key);
            if (order > 0) break;
            if (order < 0) entry_take(db->now, old->at[at], &db->live_bytes);
        }
        if (last && ops[i].is_put) {
            entry_take(db->now, ops[i].e, &db->live_bytes);
        } else {
            mem_free(ops[i].e);
        }
    }
    for (; at < old->count; at++) entry_take(db->now, old->at[at], &db->live_bytes);
    version_unref(old);
}

static int add_log(void *ctx, const char *name)
{
    struct dir_walk *w = ctx;
    uint64_t number = 0;
    if (kind_of(name, &number) != KIND_LOG || number < w->db->log_number) return 0;
    buf_append_u64(&w->logs, number);
    return 0;
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = u64_le(a);
    uint64_t y = u64_le(b);
    return x < y ? -1 : x > y;
}

static char *replay_logs(leveldb_t *db, struct buf *ops)
{
    struct dir_walk w = { .db = db, .dir = db->dir };
    int answer = db->io->list(db->io->ctx, db->dir, add_log, &w);
    char *text = answer < 0 ? error_io(db->dir, answer) : NULL;
    if (w.logs.len != 0) qsort(w.logs.at, w.logs.len / 8, 8, number_order);
    for (size_t at = 0; text == NULL && at < w.logs.len; at += 8) {
        uint64_t number = u64_le(w.logs.at + at);
        text = replay_log(db, number, ops);
        db->next_file = MAX(db->next_file, number + 1);
    }
    buf_deinit(&w.logs);
    size_t count = ops->len / sizeof(struct replay_op);
    if (count != 0) qsort(ops->at, count, sizeof(struct replay_op), replay_order);
    replay_merge(db, (const struct replay_op *)(const void *)ops->at, count);
    return text;
}

/* From CURRENT to the map. *replayed: something came from a log. */
static char *recover(leveldb_t *db, bool *replayed)
{
    struct file_path current = path_in(db->dir, "CURRENT");
    CLEANUP(buf_deinit) struct buf name = { 0 };
    CLEANUP(buf_deinit) struct buf ops = { 0 };
    int answer = 0;
    char *text = file_read(db->io, current.at, &name, &answer);
    if (text != NULL) return text;
    if (name.len < 2 || name.at[name.len - 1] != '\n') {
        return error_text("Corruption", "CURRENT file does not end with newline", "");
    }
    name.at[name.len - 1] = '\0';
    text = manifest_read(db, (const char *)name.at);
    if (text == NULL) text = table_read(db);
    if (text == NULL) text = replay_logs(db, &ops);
    *replayed = ops.len != 0;
    return text;
}

static char *lock_make(leveldb_t *db)
{
    struct file_path path = path_in(db->dir, "LOCK");
    int fd = -1;
    int answer = db->io->open(db->io->ctx, path.at, DISK_WRITE | DISK_CREATE, &fd);
    if (answer == 0) db->io->close(db->io->ctx, fd);
    return answer == 0 || answer == -EEXIST ? NULL : error_io(path.at, answer);
}

/* A new one: an empty manifest and CURRENT. */
static char *make_new(leveldb_t *db, bool create_if_missing)
{
    if (!create_if_missing) {
        return error_text("Invalid argument", db->dir,
                          "does not exist (create_if_missing is false)");
    }
    db->next_file = 1;
    char *text = manifest_begin(db);
    log_close(db, &db->manifest);
    return text;
}

/* Everything that was in logs goes to a table, a new log and a new manifest begin, the rest goes. */
static char *begin_anew(leveldb_t *db, bool replayed)
{
    uint64_t number = replayed ? db->next_file++ : db->table_number;
    char *text = replayed ? table_write(db, number) : NULL;
    db->table_number = number;
    if (text == NULL) text = log_begin(db);
    if (text == NULL) text = manifest_begin(db);
    if (text != NULL) return text;
    struct dir_walk w = { .db = db, .io = db->io, .dir = db->dir };
    db->io->list(db->io->ctx, db->dir, remove_old, &w);
    return NULL;
}

char *db_load(leveldb_t *db, bool create_if_missing)
{
    struct file_path current = path_in(db->dir, "CURRENT");
    uint64_t bytes = 0;
    bool replayed = false;
    char *text = lock_make(db);
    if (text != NULL) return text;
    int answer = db->io->path_size(db->io->ctx, current.at, &bytes);
    if (answer == -ENOENT) {
        text = make_new(db, create_if_missing);
    } else if (answer < 0) {
        text = error_io(current.at, answer);
    }
    if (text == NULL) text = recover(db, &replayed);
    /* With a damaged table nothing is written any more: what is left of it would pass for all. */
    return text == NULL && db->damage == NULL ? begin_anew(db, replayed) : text;
}
