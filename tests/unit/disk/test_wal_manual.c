/* Crash simulation: a log over the modelled disk, killed at any operation, must come back with
 * everything that it had reported as durable, and with nothing that was not submitted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "disk/wal.h"
#include "../../sim/sim_disk.h"

#define DIR_NAME          "/d"
#define ENTRIES_MAX       8192
#define PENDING_MAX       64
#define BATCH_ENTRIES_MAX 6
#ifdef __SANITIZE_ADDRESS__
#define CRASH_SEEDS 60
#else
#define CRASH_SEEDS 120
#endif
#define CRASH_ROUNDS      14
#define FAULT_SCRIPT_SEED 7

/* What the log must look like: an id an entry, in place of its bytes. */
struct shadow {
    uint64_t ids[ENTRIES_MAX]; /* by index */
    uint64_t terms[ENTRIES_MAX];
    uint64_t floor; /* the log begins behind it */
    uint64_t last;
    uint64_t floor_term;
    struct wal_hard_state hard;
};

struct pending {
    struct wal_submission what;
    struct wal_entry entries[BATCH_ENTRIES_MAX];
    struct wal_hard_state hard;
    uint64_t seq;
};

struct world {
    struct sim_disk *disk;
    struct wal *wal;
    struct shadow sure;   /* reported as durable, or recovered */
    struct shadow newest; /* with everything submitted */
    struct pending pending[PENDING_MAX];
    size_t pending_count;
    uint64_t id_next;
    int64_t now_ms;
    bool fatal;
    uint64_t seed;
    struct shadow found;
    uint64_t replay_next;
};

static uint64_t shadow_term(const struct shadow *s, uint64_t index)
{
    if (index == 0) return 0;
    return index == s->floor ? s->floor_term : s->terms[index];
}

static void shadow_begin(struct shadow *s, const struct pending *p)
{
    const struct wal_submission *what = &p->what;
    if (what->snapshot.index != 0) {
        s->floor = s->last = what->snapshot.index;
        s->floor_term = what->snapshot.term;
    }
    if (what->truncate_from != 0) s->last = what->truncate_from - 1;
    if (what->hard == NULL) return;
    s->hard.term = p->hard.term;
    s->hard.vote = p->hard.vote;
}

static void shadow_entry(struct shadow *s, const struct wal_entry *e)
{
    ASSERT(e->index == s->last + 1);
    ASSERT(e->index < ENTRIES_MAX);
    s->last = e->index;
    s->terms[e->index] = e->term;
    s->ids[e->index] = u64_le(e->body.at);
}

static void shadow_end(struct shadow *s, const struct pending *p)
{
    if (p->what.hard != NULL) s->hard.commit = p->hard.commit;
}

static void shadow_apply(struct shadow *s, const struct pending *p)
{
    shadow_begin(s, p);
    for (size_t i = 0; i < p->what.entry_count; i++) shadow_entry(s, &p->entries[i]);
    shadow_end(s, p);
}

/* found may begin later than want, if segments were dropped. */
static bool shadow_equal(const struct shadow *found, const struct shadow *want)
{
    if (found->last != want->last || found->floor < want->floor) return false;
    if (found->hard.term != want->hard.term || found->hard.vote != want->hard.vote) return false;
    if (found->hard.commit != MIN(want->hard.commit, want->last)) return false;
    for (uint64_t i = found->floor + 1; i <= found->last; i++) {
        if (found->ids[i] != want->ids[i] || found->terms[i] != want->terms[i]) return false;
    }
    return true;
}

/* --- a life ------------------------------------------------------------------------ */

static void world_fatal(void *ctx, const char *line)
{
    struct world *w = ctx;
    assert_non_null(strstr(line, DIR_NAME "/wal-"));
    w->fatal = true;
}

/* Only the operation that was told to fail may be complained about. */
static void world_warning(void *ctx, const char *line)
{
    const struct world *w = ctx;
    if (!sim_disk_fault_hit(w->disk)) fail_msg("%s", line);
}

static enum err world_entry(void *ctx, const struct wal_entry *e)
{
    struct world *w = ctx;
    assert_int_equal(crc32c(0, e->body.at, e->body.len), e->crc);
    if (w->replay_next != 0) assert_int_equal(e->index, w->replay_next);
    w->replay_next = e->index + 1;
    w->found.ids[e->index] = u64_le(e->body.at);
    w->found.terms[e->index] = e->term;
    return OK;
}

static enum err world_open(struct world *w, struct errmsg *em)
{
    struct wal_options o = {
        .dir = DIR_NAME,
        .io = sim_disk_io(w->disk),
        .create = true,
        .cluster_id = 11,
        .member_id = 22,
        .salt = 1 + sim_disk_random(w->disk, UINT32_MAX),
        .segment_bytes = WAL_SEGMENT_BYTES_MIN,
        .backend = WAL_BACKEND_MANUAL,
        .on_entry = world_entry,
        .on_fatal = world_fatal,
        .on_warning = world_warning,
        .ctx = w,
    };
    w->fatal = false;
    w->replay_next = 0;
    return wal_open(&o, &w->wal, em);
}

/* Which of the states that are allowed after a crash was found? It becomes the sure one. */
static void world_match(struct world *w)
{
    const struct wal_found *f = wal_found(w->wal);
    w->found.floor = f->before.index;
    w->found.last = f->last.index;
    w->found.hard = f->hard;
    static struct shadow s;
    s = w->sure;
    bool same = shadow_equal(&w->found, &s);
    for (size_t i = 0; i < w->pending_count && !same; i++) {
        const struct pending *p = &w->pending[i];
        shadow_begin(&s, p);
        same = shadow_equal(&w->found, &s);
        for (size_t k = 0; k < p->what.entry_count && !same; k++) {
            shadow_entry(&s, &p->entries[k]);
            same = shadow_equal(&w->found, &s);
        }
        if (same) break;
        shadow_end(&s, p);
        same = shadow_equal(&w->found, &s);
    }
    if (!same) {
        fail_msg("seed %llu: found %llu..%llu term %llu commit %llu; sure %llu..%llu term %llu "
                 "commit %llu; newest ..%llu",
                 (unsigned long long)w->seed, (unsigned long long)w->found.floor + 1,
                 (unsigned long long)w->found.last, (unsigned long long)w->found.hard.term,
                 (unsigned long long)w->found.hard.commit, (unsigned long long)w->sure.floor + 1,
                 (unsigned long long)w->sure.last, (unsigned long long)w->sure.hard.term,
                 (unsigned long long)w->sure.hard.commit, (unsigned long long)w->newest.last);
    }
    uint64_t floor = s.floor;
    uint64_t floor_term = s.floor_term;
    if (w->found.floor > floor) {
        floor = w->found.floor;
        floor_term = f->before.term;
    }
    assert_int_equal(f->before.term, shadow_term(&s, floor));
    s.floor = floor;
    s.floor_term = floor_term;
    s.hard.commit = MIN(s.hard.commit, s.last);
    w->sure = w->newest = s;
    w->pending_count = 0;
    wal_check(w->wal);
}

static struct wal_entry entry_make(struct world *w, uint64_t term, uint64_t index)
{
    struct wal_entry e = { .term = term,
                           .index = index,
                           .type = (uint8_t)sim_disk_random(w->disk, 4) };
    static const uint64_t sizes[] = { 8, 300, 5000, 20000 };
    size_t bytes = (size_t)(8 + sim_disk_random(w->disk, sizes[sim_disk_random(w->disk, 4)]));
    e.blob = blob_new(bytes);
    e.blob->len = bytes;
    u64_le_put(e.blob->at, w->id_next++);
    for (size_t i = 8; i < bytes; i++) e.blob->at[i] = (uint8_t)(i * 7 + w->id_next);
    e.body = blob_slice(e.blob);
    e.crc = crc32c(0, e.body.at, e.body.len);
    return e;
}

static void pending_submit(struct world *w, struct pending *p)
{
    p->what.entries = p->entries;
    if (p->what.hard != NULL) p->what.hard = &p->hard;
    p->seq = wal_submit(w->wal, &p->what);
    shadow_apply(&w->newest, p); /* the log's own reference keeps the bodies */
    for (size_t i = 0; i < p->what.entry_count; i++) {
        /* only the id is looked at later, so keep that */
        static uint8_t ids[PENDING_MAX][BATCH_ENTRIES_MAX][8];
        uint8_t *at = ids[p - w->pending][i];
        memcpy(at, p->entries[i].body.at, 8);
        blob_unref(p->entries[i].blob);
        p->entries[i].body.at = at;
    }
}

static void world_submit(struct world *w)
{
    if (w->pending_count == PENDING_MAX || w->newest.last + BATCH_ENTRIES_MAX + 200 > ENTRIES_MAX) {
        return;
    }
    struct sim_disk *m = w->disk;
    struct pending *p = &w->pending[w->pending_count++];
    memset(p, 0, sizeof *p);
    const struct shadow *s = &w->newest;
    p->hard = s->hard;
    uint64_t kind = sim_disk_random(m, 20);
    if (kind == 0) p->what.snapshot_begin = (struct wal_mark){ s->last + 100, s->hard.term };
    uint64_t last = s->last;
    if (kind == 1) {
        last = s->last + sim_disk_random(m, 30);
        if (last > 0 && last > s->hard.commit) {
            p->what.snapshot = (struct wal_mark){ last, MAX(s->hard.term, (uint64_t)1) };
        } else {
            last = s->last;
        }
    }
    if (kind >= 2 && kind < 5 && s->last > MAX(s->hard.commit, s->floor)) {
        uint64_t low = MAX(s->hard.commit, s->floor) + 1;
        p->what.truncate_from = low + sim_disk_random(m, s->last - low + 1);
        last = p->what.truncate_from - 1;
        p->what.truncate_term = shadow_term(s, last);
    }
    if (p->what.truncate_from != 0 || kind == 5 || p->hard.term == 0) {
        p->hard.term++;
        p->hard.vote = sim_disk_random(m, 4);
        p->what.hard = &p->hard;
    }
    uint64_t term = MAX(p->hard.term, p->what.snapshot.term);
    p->what.entry_count = (size_t)sim_disk_random(m, BATCH_ENTRIES_MAX + 1);
    for (size_t i = 0; i < p->what.entry_count; i++) {
        p->entries[i] = entry_make(w, term, ++last);
    }
    if (sim_disk_random(m, 3) == 0 && last > p->hard.commit) {
        p->hard.commit += sim_disk_random(m, last - p->hard.commit + 1);
        p->what.hard = &p->hard;
    }
    pending_submit(w, p);
}

static void world_poll(struct world *w)
{
    struct wal_done done;
    if (!wal_poll(w->wal, &done)) return;
    assert_false(w->fatal && !sim_disk_fault_hit(w->disk));
    size_t n = 0;
    while (n < w->pending_count && w->pending[n].seq <= done.seq) {
        shadow_apply(&w->sure, &w->pending[n++]);
    }
    assert_true(n > 0);
    assert_int_equal(done.last.index, w->sure.last);
    assert_int_equal(done.last.term, shadow_term(&w->sure, w->sure.last));
    struct pending left[PENDING_MAX];
    w->pending_count -= n;
    memcpy(left, w->pending + n, w->pending_count * sizeof left[0]);
    for (size_t i = 0; i < w->pending_count; i++) {
        static uint8_t ids[PENDING_MAX][BATCH_ENTRIES_MAX][8];
        for (size_t k = 0; k < left[i].what.entry_count; k++) {
            memcpy(ids[i][k], left[i].entries[k].body.at, 8);
            left[i].entries[k].body.at = ids[i][k];
        }
        w->pending[i] = left[i];
    }
    wal_check(w->wal);
}

static enum err read_entry(void *ctx, const struct wal_entry *e)
{
    struct world *w = ctx;
    assert_int_equal(u64_le(e->body.at), w->sure.ids[e->index]);
    assert_int_equal(e->term, w->sure.terms[e->index]);
    return OK;
}

/* What is durable and not in doubt can be read, across segments. */
static void world_read(struct world *w)
{
    uint64_t first = MAX(wal_first_index(w->wal), w->sure.floor + 1);
    if (w->pending_count > 0 || first > w->sure.last) return;
    uint64_t from = first + sim_disk_random(w->disk, w->sure.last - first + 1);
    struct errmsg em;
    enum err e = wal_read(w->wal, from, w->sure.last, read_entry, w, &em);
    if (e != OK) fail_msg("seed %llu: read: %s", (unsigned long long)w->seed, em.text);
}

static void world_turn(struct world *w)
{
    uint64_t what = sim_disk_random(w->disk, 12);
    if (what < 4) world_submit(w);
    if (what >= 4 && what < 9) wal_step(w->wal);
    if (what == 9) wal_tick(w->wal, w->now_ms += 400);
    if (what == 10 && sim_disk_random(w->disk, 4) == 0 && w->sure.last > w->sure.floor) {
        wal_drop_below(w->wal,
                       w->sure.floor + 1 + sim_disk_random(w->disk, w->sure.last - w->sure.floor));
    }
    if (what == 11 && !sim_disk_is_crashed(w->disk)) world_read(w);
    world_poll(w);
}

/* The reads of a crashed disk fail, and then nothing may be compared. */
static void world_live(struct world *w, uint64_t turns)
{
    for (uint64_t i = 0; i < turns && !sim_disk_is_crashed(w->disk) && !w->fatal; i++) world_turn(w);
}

static void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->id_next = 1;
    w->disk = sim_disk_new("/d", seed);
}

/* Often only the process dies, and what is in the cache is found again: it must not be trusted
 * more than it deserves when the power goes later. */
static void world_power_or_kill(struct world *w)
{
    if (sim_disk_random(w->disk, 2) == 0) {
        sim_disk_crash(w->disk, 0);
    } else {
        sim_disk_kill(w->disk);
    }
}

static void world_restart(struct world *w, bool may_fail)
{
    struct errmsg em;
    for (;;) {
        enum err e = world_open(w, &em);
        if (e == OK) break;
        /* The only excuse is the fault that was asked for. */
        if (!sim_disk_fault_hit(w->disk) || !may_fail) {
            fail_msg("seed %llu: open: %s", (unsigned long long)w->seed, em.text);
        }
        assert_true(e == ERR_IO || e == ERR_NOSPACE);
        world_power_or_kill(w);
    }
    world_match(w);
}

static void test_crash_anywhere_keeps_what_was_reported(void **state)
{
    (void)state;
    static struct world w;
    for (uint64_t seed = 1; seed <= CRASH_SEEDS; seed++) {
        world_begin(&w, seed);
        for (int round = 0; round < CRASH_ROUNDS; round++) {
            /* sometimes within recovery */
            uint64_t n = 1 + sim_disk_random(w.disk, 4 + 40u * (unsigned)round);
            sim_disk_fail_nth(w.disk, n, SIM_CRASH, EIO);
            world_restart(&w, true);
            world_live(&w, 400);
            if (!sim_disk_is_crashed(w.disk) && sim_disk_random(w.disk, 3) == 0) {
                sim_disk_fail_nth(w.disk, 0, SIM_FAIL, 0);
                wal_close(w.wal);
                w.sure = w.newest;
                w.pending_count = 0;
            } else {
                wal_abandon(w.wal);
            }
            world_power_or_kill(&w);
        }
        sim_disk_free(w.disk);
    }
}

/* One script, and its n-th operation fails, for all n: the process would stop, or the operation is
 * one that is tried again; nothing that was reported is lost, nothing is reported afterwards. */
static bool script_with_fault(uint64_t fault_at, enum sim_fault fault, int fault_errno)
{
    static struct world w;
    world_begin(&w, FAULT_SCRIPT_SEED);
    sim_disk_fail_nth(w.disk, fault_at, fault, fault_errno);
    world_restart(&w, true);
    /* Sizes are drawn from the disk's generator, which faults move on: so not the same script to
     * the byte, but the same for the same n. */
    world_live(&w, 250);
    struct sim_disk_stats stats;
    sim_disk_stats_get(w.disk, &stats);
    bool hit = sim_disk_fault_hit(w.disk) || stats.op_count > fault_at;
    wal_abandon(w.wal);
    sim_disk_crash(w.disk, 0);
    world_restart(&w, false);
    wal_close(w.wal);
    sim_disk_free(w.disk);
    return hit;
}

static void test_each_operation_fails_once(void **state)
{
    (void)state;
    static const struct {
        enum sim_fault fault;
        int fault_errno;
    } faults[] = {
        { SIM_FAIL, EIO }, { SIM_FAIL, ENOSPC }, { SIM_SHORT, EIO }, { SIM_CRASH, EIO }
    };
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        uint64_t n = 1;
        while (script_with_fault(n, faults[i].fault, faults[i].fault_errno)) n++;
        assert_true(n > 100);
    }
}

static void test_step_reports_only_after_the_sync(void **state)
{
    (void)state;
    static struct world w;
    world_begin(&w, 3);
    world_restart(&w, false);
    while (wal_step(w.wal)) { /* the segment ahead */
    }
    struct wal_entry e = entry_make(&w, 1, 1);
    wal_submit(w.wal, &(struct wal_submission){ .entries = &e, .entry_count = 1 });
    blob_unref(e.blob);
    struct wal_done done = { 0 };
    assert_false(wal_poll(w.wal, &done));
    sim_disk_fail_nth(w.disk, 2, SIM_FAIL, EIO); /* the write passes, the sync fails */
    wal_step(w.wal);
    assert_true(w.fatal);
    assert_false(wal_poll(w.wal, &done));
    assert_false(wal_step(w.wal));
    wal_abandon(w.wal);
    sim_disk_free(w.disk);
}

static void test_tick_writes_one_empty_batch(void **state)
{
    (void)state;
    static struct world w;
    world_begin(&w, 4);
    world_restart(&w, false);
    while (wal_step(w.wal)) {
    }
    world_submit(&w);
    while (wal_step(w.wal)) {
    }
    world_poll(&w);
    struct wal_stats before;
    wal_stats_get(w.wal, &before);
    for (int64_t now_ms = 0; now_ms < 10 * WAL_PROOF_DELAY_MS; now_ms += 100) {
        wal_tick(w.wal, now_ms);
        while (wal_step(w.wal)) {
        }
        struct wal_done done;
        assert_false(wal_poll(w.wal, &done)); /* not the caller's business */
    }
    struct wal_stats after;
    wal_stats_get(w.wal, &after);
    assert_int_equal(after.sync_count, before.sync_count + 1);
    assert_string_equal(after.backend, "manual");
    wal_close(w.wal);
    sim_disk_free(w.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_reports_only_after_the_sync),
        cmocka_unit_test(test_tick_writes_one_empty_batch),
        cmocka_unit_test(test_crash_anywhere_keeps_what_was_reported),
        cmocka_unit_test(test_each_operation_fails_once),
    };
    return cmocka_run_group_tests_name("disk/wal_manual", tests, NULL, NULL);
}
