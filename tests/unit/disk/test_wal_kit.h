/* tests/unit/disk/test_wal_kit.h - what the tests of the log share: entries that can be checked, a
 * log that is collected while it is replayed, a directory that is removed again.
 *
 * PURPOSE  Decide nothing; helpers. Header only.
 * OWNS     struct kit_log's entries.
 * USES     disk/wal.h, cmocka (included by the test before).
 * THREADS  One.
 * LIMITS   KIT_ENTRIES_MAX entries.
 * ERRORS   Fails the test.
 */
#ifndef TEST_WAL_KIT_H
#define TEST_WAL_KIT_H

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/wal.h"

#define KIT_ENTRIES_MAX 20000
#define KIT_CLUSTER     0x1234
#define KIT_MEMBER      0x5678

/* The body of an entry follows from its term and index. */
static inline struct wal_entry kit_entry(uint64_t term, uint64_t index, size_t bytes)
{
    struct wal_entry e = { .term = term, .index = index, .type = (uint8_t)(index % 5) };
    if (bytes > 0) {
        e.blob = blob_new(bytes);
        e.blob->len = bytes;
        for (size_t i = 0; i < bytes; i++) e.blob->at[i] = (uint8_t)(index * 31 + term * 7 + i);
        e.body = blob_slice(e.blob);
    }
    e.crc = crc32c(0, e.body.at, e.body.len);
    return e;
}

static inline bool kit_entry_is_right(const struct wal_entry *e)
{
    if (e->type != e->index % 5 || e->crc != crc32c(0, e->body.at, e->body.len)) return false;
    for (size_t i = 0; i < e->body.len; i++) {
        if (e->body.at[i] != (uint8_t)(e->index * 31 + e->term * 7 + i)) return false;
    }
    return true;
}

struct kit_log {
    uint64_t terms[KIT_ENTRIES_MAX]; /* by index */
    uint64_t first;                  /* 0: none */
    uint64_t last;
};

static inline enum err kit_collect(void *ctx, const struct wal_entry *e)
{
    struct kit_log *log = ctx;
    if (!kit_entry_is_right(e)) return ERR_CORRUPT;
    if (log->first == 0) log->first = e->index;
    if (log->last != 0 && e->index != log->last + 1) return ERR_PROTO;
    log->last = e->index;
    log->terms[e->index] = e->term;
    return OK;
}

/* Submits entries first..last of a term and drops our references. */
static inline uint64_t kit_submit(struct wal *wal, uint64_t term, uint64_t first, uint64_t last,
                                  size_t bytes)
{
    struct wal_entry entries[64];
    size_t count = (size_t)(last - first + 1);
    ASSERT(count <= ARRAY_LEN(entries));
    for (size_t i = 0; i < count; i++) entries[i] = kit_entry(term, first + i, bytes);
    uint64_t seq =
        wal_submit(wal, &(struct wal_submission){ .entries = entries, .entry_count = count });
    for (size_t i = 0; i < count; i++) blob_unref(entries[i].blob);
    return seq;
}

static inline void kit_run(struct wal *wal)
{
    while (wal_step(wal)) {
    }
    struct wal_done done;
    wal_poll(wal, &done);
}

/* Sleeps as a loop would until submission seq is durable; the outer limit is only for a hang. */
static inline struct wal_done kit_wait(struct wal *wal, uint64_t seq)
{
    struct wal_done done = { 0 };
    for (int i = 0; i < 100000; i++) {
        if (wal_poll(wal, &done) && done.seq >= seq) return done;
        if (wal_about_to_sleep(wal)) {
            struct pollfd p = { .fd = wal_fd(wal), .events = POLLIN };
            poll(&p, 1, 10000);
        }
        wal_woke(wal);
    }
    fail_msg("submission %llu never became durable", (unsigned long long)seq);
    return done;
}

static inline char *kit_dir_make(void)
{
    static char dir[64];
    memcpy(dir, "/tmp/cordis-wal-XXXXXX", sizeof "/tmp/cordis-wal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static inline void kit_dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[DISK_PATH_BYTES_MAX];
        int len = snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (len > 0 && e->d_name[0] != '.') unlink(path);
    }
    closedir(d);
    rmdir(dir);
}

#endif
