/* tests/sim/sim_leveldb_int.h - see sim_leveldb.h: the map in memory, and its files. */
#ifndef TESTS_SIM_LEVELDB_INT_H
#define TESTS_SIM_LEVELDB_INT_H

#include "base/buf.h"
#include "sim_leveldb.h"

#define BATCH_HEAD_BYTES 12u

struct entry {
    uint32_t refs; /* versions */
    uint32_t key_len;
    size_t value_len;
    uint8_t bytes[]; /* key, value */
};

/* Entries in order of key. Whoever holds one sees it unchanged. */
struct version {
    uint32_t refs;
    struct entry **at;
    size_t count;
    size_t cap;
};

struct log_file {
    int fd; /* -1: not open */
    uint64_t bytes;
};

struct leveldb_t {
    const struct disk_io *io;
    struct sim_disk *disk;
    char *dir;
    bool paranoid;
    size_t write_buffer_bytes;
    struct version *now;
    uint64_t live_bytes; /* of keys and values */
    uint64_t seq;        /* of the last operation */
    uint64_t next_file;
    uint64_t log_number;
    uint64_t old_log_number; /* full, and not in a table yet; 0: none */
    uint64_t old_log_bytes;
    uint64_t table_number;   /* 0: none */
    uint64_t manifest_number;
    struct log_file log;
    struct log_file manifest;
    uint64_t flush_in; /* writes until the old log goes */
    bool write_failed;
    char *background; /* text of what failed behind a write; the next write tells */
    char *damage;     /* text of what is wrong in the table; reads tell */
    struct sim_leveldb_stats stats;
    leveldb_t *next; /* all that are open */
};

static inline struct slice entry_key(const struct entry *e)
{
    return (struct slice){ e->bytes, e->key_len };
}

static inline struct slice entry_value(const struct entry *e)
{
    return (struct slice){ e->bytes + e->key_len, e->value_len };
}

struct entry *entry_new(struct slice key, struct slice value); /* without references */
struct version *version_new(size_t cap);
void version_unref(struct version *v);
void version_append(struct version *v, struct entry *e); /* above all others; takes a reference */
/* How many keys are below `key`. */
size_t version_below(const struct version *v, struct slice key);

/* The next operation of a batch behind *at. False at its end; *bad if it does not decode. */
struct batch_op {
    bool is_put;
    struct slice key;
    struct slice value;
};
bool batch_next(struct slice batch, size_t *at, struct batch_op *out, bool *bad);

/* Texts for *errptr. */
char *error_text(const char *kind, const char *path, const char *what);
char *error_io(const char *path, int64_t negative_errno);

/* sim_leveldb_file.c. NULL, or the text of an error; what is open then is closed by the caller. */
char *db_load(leveldb_t *db, bool create_if_missing);
char *db_log_batch(leveldb_t *db, struct slice batch, bool sync);
/* The present log is full: a new one. */
char *db_switch_log(leveldb_t *db);
char *db_flush(leveldb_t *db);
void db_files_close(leveldb_t *db);
void db_destroy(const struct disk_io *io, const char *dir);

#endif
