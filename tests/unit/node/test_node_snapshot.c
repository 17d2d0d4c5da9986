/* Snapshots between two members: whole, through loss and damage, and with a crash at every step. */
#include "snapshot_lab.h"

static bool there(const char *dir, const char *name)
{
    char *path = kit_join(dir, name);
    bool is = access(path, F_OK) == 0;
    mem_free(path);
    return is;
}

/* A state of `bytes`, every kind of operation in it; the follower has a little of its own history. */
static void fill(struct pair *p, size_t bytes)
{
    fake_grow(&p->a, 150);
    char key[32];
    for (size_t i = 0; i < bytes / 20000; i++) {
        snprintf(key, sizeof key, "big%zu", i);
        fake_put(&p->a, key, 20000);
        if (i % 50 == 49) fake_checkpoint(&p->a);
    }
    fake_grow(&p->a, 100);
    fake_checkpoint(&p->a);
    fake_forget_log(&p->a);
    fake_grow(&p->b, 20);
    fake_checkpoint(&p->b);
}

static void run_until_over(struct pair *p, unsigned answers)
{
    for (int i = 0; !pair_is_over(p, answers); i++) {
        if (i > 200000) fail_msg("no end: out %d, in %d", p->a.ns->out.phase, p->b.ns->in.phase);
        pair_step(p);
    }
}

/* b is as a; and after a restart too. */
static void check_same(struct pair *p)
{
    assert_int_equal(state_hash(p->b.state), state_hash(p->a.state));
    assert_int_equal(state_applied_index(p->b.state), state_applied_index(p->a.state));
    assert_int_equal(p->b.members.count, 2);
    uint64_t hash = state_hash(p->b.state);
    uint64_t index = state_applied_index(p->b.state);
    fake_put(&p->b, "later", 100); /* the log goes on behind it, and the new store takes batches */
    fake_checkpoint(&p->b);
    assert_true(state_hash(p->b.state) != hash);
    hash = state_hash(p->b.state);
    char *dir = p->b.dir;
    fake_close(&p->b);
    fake_open(&p->b, LAB_PEER_B, dir, &p->post);
    assert_int_equal(state_hash(p->b.state), hash);
    assert_int_equal(state_applied_index(p->b.state), index + 1);
    assert_int_equal(wal_first_index(p->b.wal), index + 1);
    assert_int_equal(wal_found(p->b.wal)->hard.vote, LAB_PEER_B);
    assert_int_equal(wal_found(p->b.wal)->hard.term, LAB_TERM);
}

static void transfer(size_t bytes)
{
    struct pair p;
    pair_begin(&p, 1);
    fill(&p, bytes);
    fake_serve(&p.a);
    fake_serve(&p.b);
    pair_wish(&p);
    size_t queued_max = 0;
    for (int i = 0; !pair_is_over(&p, 1); i++) {
        assert_true(i < 1000000);
        size_t queued = 0;
        for (size_t n = 0; n < p.b.ns->in.queue_count; n++) queued += p.b.ns->in.queue[n].len;
        for (size_t n = 0; n < p.post.count; n++) {
            queued += p.post.at[(p.post.head + n) % ARRAY_LEN(p.post.at)].payload.len;
        }
        queued_max = MAX(queued_max, queued);
        pair_step(&p);
    }
    assert_int_equal(p.a.sent_ok, 1);
    assert_int_equal(p.b.installed, 1);
    assert_int_equal(p.b.begun, 1);
    assert_int_equal(p.a.sending_index, state_applied_index(p.a.state));
    assert_true(queued_max <= (NODE_SNAPSHOT_WINDOW + 1) * (STORE_EXPORT_CHUNK_BYTES + 64));
    struct node_snapshot_stats st;
    node_snapshot_stats_get(p.a.ns, &st);
    assert_true(st.sent_bytes >= bytes && st.sent == 1 && st.sending_to == 0);
    assert_true(there(p.b.dir, "db.1") && !there(p.b.dir, "db"));
    /* The log is kept for the follower for a while. */
    assert_true(node_snapshot_keep_index(p.a.ns, p.now_ms) <= p.a.sending_index);
    assert_true(node_snapshot_keep_index(p.a.ns, p.now_ms + NODE_SNAPSHOT_HOLD_MS) == UINT64_MAX);
    check_same(&p);
    pair_end(&p);
}

static void test_a_snapshot_makes_the_follower_equal(void **state)
{
    (void)state;
    transfer(5 << 20);
}

static size_t resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &total, &resident), 2);
    fclose(f);
    return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void test_much_goes_through_little_memory(void **state)
{
    (void)state;
    if (getenv("CORDIS_SOAK") == NULL) return;
    size_t before = resident_bytes();
    transfer(100 << 20);
    printf("100 MB: resident %zu MB before, %zu MB after\n", before >> 20, resident_bytes() >> 20);
}

static void test_a_second_one_replaces_the_first(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 2);
    fill(&p, 600000);
    fake_serve(&p.a);
    fake_serve(&p.b);
    for (unsigned round = 1; round <= 3; round++) {
        pair_wish(&p);
        run_until_over(&p, round);
        assert_int_equal(p.b.installed, round);
        assert_int_equal(state_hash(p.b.state), state_hash(p.a.state));
        fake_put(&p.a, "more", 300000);
        fake_checkpoint(&p.a);
        fake_forget_log(&p.a);
    }
    assert_true(there(p.b.dir, "db.3") && !there(p.b.dir, "db.2") && !there(p.b.dir, "db.1"));
    /* What it has it does not want. */
    p.now_ms += NODE_SNAPSHOT_HOLD_MS;
    pair_wish(&p);
    run_until_over(&p, 4);
    assert_int_equal(p.b.installed, 4);
    pair_wish(&p);
    struct raft_wish again = { LAB_PEER_B, 5 };
    node_snapshot_wish(p.a.ns, &again, 1, 1);
    run_until_over(&p, 5);
    assert_int_equal(p.b.installed, 4);
    assert_int_equal(p.a.sent_failed, 1);
    assert_int_equal(p.b.begun, 4);
    check_same(&p);
    pair_end(&p);
}

static void noisy(uint64_t seed, uint32_t lose, uint32_t repeat, uint32_t damage)
{
    struct pair p;
    pair_begin(&p, seed);
    fill(&p, 1 << 20);
    fake_serve(&p.a);
    fake_serve(&p.b);
    p.post.lose_percent = lose;
    p.post.repeat_percent = repeat;
    p.post.damage_percent = damage;
    unsigned tries = 0;
    while (p.b.installed == 0) {
        if (tries == 40) p.post.lose_percent = p.post.damage_percent = 0; /* it heals at last */
        assert_true(tries < 50);
        pair_wish(&p);
        run_until_over(&p, ++tries);
        assert_int_equal(p.b.begun, p.b.installed + p.b.aborted);
    }
    /* The answer may have been lost: then it was told as failed. */
    assert_true(p.a.sent_ok + p.a.sent_failed == tries);
    p.post.lose_percent = p.post.damage_percent = p.post.repeat_percent = 0;
    while (p.post.count > 0) pair_step(&p);
    check_same(&p);
    pair_end(&p);
}

static void test_what_is_lost_repeated_or_damaged_is_noticed(void **state)
{
    (void)state;
    uint64_t seeds = getenv("CORDIS_SOAK") != NULL ? 50 : 3;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        noisy(seed, 10, 0, 0);
        noisy(seed, 0, 30, 0);
        noisy(seed, 0, 0, 10);
        noisy(seed, 5, 10, 5);
    }
}

/* --- crashes ------------------------------------------------------------------------------------------ */

/* db.current is replaced when the gate is open. */
static uint32_t gate_open;

static int gated_rename(void *ctx, const char *from, const char *to)
{
    while (__atomic_load_n(&gate_open, __ATOMIC_SEQ_CST) == 0) poll(NULL, 0, 1);
    return disk_io_posix()->rename(ctx, from, to);
}

static void gate_set(bool open)
{
    __atomic_store_n(&gate_open, open ? 1 : 0, __ATOMIC_SEQ_CST);
}

static struct disk_io gated_io(void)
{
    struct disk_io io = *disk_io_posix();
    io.rename = gated_rename;
    gate_set(false);
    return io;
}

/* Until a worker has finished, without taking it. */
static void wait_news(struct node_snapshot *ns, bool expected)
{
    while (expected && __atomic_load_n(&ns->done.head, __ATOMIC_SEQ_CST) == NULL) {
        done_queue_wait(&ns->done, 100);
    }
}

/* Names and sizes of all files. */
static void add_sign(void *ctx, const char *dir, const char *name)
{
    uint64_t *sign = ctx;
    struct stat st;
    char *path = kit_join(dir, name);
    if (stat(path, &st) == 0) {
        *sign += bytes_hash(path, strlen(path), (uint64_t)st.st_size + 1);
        if (S_ISDIR(st.st_mode)) kit_each_file(path, add_sign, ctx);
    }
    mem_free(path);
}

/* As of one moment: LevelDB's thread may be at work on files. */
static void copy_as_of_now(const char *from, char *to)
{
    for (int tries = 0; tries < 1000; tries++) {
        char command[600];
        uint64_t before = 0, after = 0;
        kit_each_file(to, kit_remove_one, NULL);
        kit_each_file(from, add_sign, &before);
        snprintf(command, sizeof command, "cp -a %s/. %s/ 2>/dev/null", from, to);
        int failed = system(command);
        kit_each_file(from, add_sign, &after);
        if (failed == 0 && before == after) return;
    }
    fail_msg("the files do not come to rest");
}

/* What is on the disk now is opened as after a kill. */
static void crash(const struct pair *p, uint64_t old_hash, uint64_t new_hash, const char *when)
{
    struct post post = { .random = 1 };
    struct fake f;
    char *dir = kit_dir();
    copy_as_of_now(p->b.dir, dir);
    fake_open(&f, LAB_PEER_B, dir, &post);
    uint64_t hash = state_hash(f.state);
    if (hash != old_hash && hash != new_hash) fail_msg("%s: neither", when);
    if (p->b.installed != 0 && hash != new_hash) fail_msg("%s: it was in force", when);
    if (p->b.ns->in.phase >= IN_OPENING && p->b.ns->in.phase <= IN_REPLACING) {
        assert_int_equal(hash, old_hash);
    }
    if (p->b.ns->in.phase == IN_MARK || p->b.ns->in.phase == IN_QUIET) {
        assert_int_equal(hash, new_hash);
    }
    assert_int_equal(wal_found(f.wal)->hard.term, LAB_TERM);
    assert_int_equal(wal_found(f.wal)->hard.vote, LAB_PEER_B);
    /* Nothing is left over, and the member goes on, also over another restart. */
    uint64_t number = f.db.number;
    assert_false(there(dir, number == 0 ? "db.1" : "db") || there(dir, "db.current.tmp"));
    fake_put(&f, "after", 10);
    fake_checkpoint(&f);
    hash = state_hash(f.state);
    fake_close(&f);
    fake_open(&f, LAB_PEER_B, dir, &post);
    assert_int_equal(state_hash(f.state), hash);
    fake_close(&f);
    kit_remove(dir);
}

static void test_a_crash_at_any_step_leaves_one_or_the_other(void **state)
{
    (void)state;
    static const char *const names[] = { "idle", "opening", "receiving", "reading", "settling",
                                         "begin mark", "replacing", "mark", "quiet", "discarding" };
    struct pair p;
    unsigned seen[ARRAY_LEN(names)] = { 0 };
    struct disk_io io = gated_io();
    pair_begin(&p, 3);
    fill(&p, 600000);
    p.b.io = &io;
    fake_serve(&p.a);
    fake_serve(&p.b);
    uint64_t old_hash = state_hash(p.b.state), new_hash = state_hash(p.a.state);
    pair_wish(&p);
    p.b.quiet = false;
    enum in_phase last = IN_IDLE;
    uint64_t taken = 0;
    while (!pair_is_over(&p, 1)) {
        pair_step(&p);
        enum in_phase phase = p.b.ns->in.phase;
        if (phase == IN_QUIET) p.b.quiet = true;
        if (phase == last && taken == p.b.ns->in.taken) continue;
        last = phase;
        taken = p.b.ns->in.taken;
        seen[phase]++;
        /* Nobody writes while it is copied. */
        fake_settle_marks(&p.b);
        if (phase == IN_OPENING || phase == IN_RECEIVING || phase == IN_READING) {
            wait_news(p.b.ns, p.b.ns->in.busy);
        }
        wait_news(p.b.ns, p.b.ns->disposal.busy);
        crash(&p, old_hash, new_hash, names[phase]);
        if (phase == IN_REPLACING) gate_set(true);
    }
    assert_int_equal(p.b.installed, 1);
    for (size_t i = IN_OPENING; i <= IN_QUIET; i++) {
        if (i == IN_SETTLING) continue; /* passes within a turn: nothing was being sent */
        if (seen[i] == 0) fail_msg("%s was not seen", names[i]);
    }
    check_same(&p);
    pair_end(&p);
}

/* db.current is exchanged, and then nothing more reaches the disk: with a log of another history. */
static void test_an_unfinished_exchange_is_finished_at_the_start(void **state)
{
    (void)state;
    for (int longer = 0; longer <= 1; longer++) {
        struct pair p;
        pair_begin(&p, 4);
        fill(&p, 300000);
        if (longer) { /* entries behind the snapshot's index, never committed */
            fake_grow(&p.b, 400);
            fake_settle(&p.b);
            assert_true(state_applied_index(p.b.state) > state_applied_index(p.a.state));
            char *dir = p.b.dir;
            fake_close(&p.b); /* the store ends before them */
            fake_open(&p.b, LAB_PEER_B, dir, &p.post);
        }
        fake_serve(&p.a);
        fake_serve(&p.b);
        uint64_t hash = state_hash(p.a.state), index = state_applied_index(p.a.state);
        pair_wish(&p);
        while (p.b.ns->in.phase != IN_MARK) pair_step(&p);
        /* The mark was submitted in the same turn: a log as before it, with the begin mark only. */
        struct db_current next = p.b.ns->in.next;
        char *dir = kit_dir();
        copy_as_of_now(p.b.dir, dir);
        char *wal_dir = kit_join(dir, "wal");
        kit_each_file(wal_dir, kit_remove_one, NULL);
        struct wal_options log = { .dir = wal_dir, .create = true, .cluster_id = 9,
                                   .member_id = LAB_PEER_B, .segment_bytes = LAB_SEGMENT_BYTES,
                                   .salt = 8, .backend = WAL_BACKEND_THREAD };
        struct wal *wal;
        assert_int_equal(wal_open(&log, &wal, NULL), OK);
        struct wal_hard_state hard = { .term = LAB_TERM, .vote = LAB_PEER_B };
        uint64_t entries = longer ? index + 50 : 7;
        for (uint64_t i = 1; i <= entries; i++) {
            struct wal_entry e = { .term = 1, .index = i, .type = RAFT_ENTRY_NOOP };
            wal_submit(wal, &(struct wal_submission){ .entries = &e, .entry_count = 1,
                                                      .hard = &hard });
        }
        struct fake f;
        struct errmsg em = { "" };
        /* Without the begin mark the two do not belong together, unless the log covers it. */
        if (!longer) {
            wal_close(wal);
            f = (struct fake){ .id = LAB_PEER_B, .dir = dir, .io = disk_io_posix() };
            assert_int_equal(workers_new(1, &f.workers, &em), OK);
            assert_int_equal(fake_load(&f, &em), ERR_CORRUPT);
            fake_close(&f);
            assert_int_equal(wal_open(&log, &wal, NULL), OK);
        }
        wal_submit(wal, &(struct wal_submission){ .snapshot_begin = { next.index, next.term } });
        wal_close(wal);
        fake_open(&f, LAB_PEER_B, dir, &p.post);
        assert_int_equal(state_hash(f.state), hash);
        fake_settle(&f);
        assert_int_equal(wal_first_index(f.wal), index + 1);
        fake_put(&f, "after", 10);
        fake_close(&f);
        fake_open(&f, LAB_PEER_B, dir, &p.post);
        assert_int_equal(wal_found(f.wal)->last.index, index + 1);
        assert_int_equal(wal_found(f.wal)->hard.vote, LAB_PEER_B);
        fake_close(&f);
        mem_free(wal_dir);
        kit_remove(dir);
        run_until_over(&p, 1);
        pair_end(&p);
    }
}

/* A process that ends in the middle of it, in order. */
static void test_closing_at_any_step(void **state)
{
    (void)state;
    for (int phase = IN_OPENING; phase <= IN_QUIET; phase++) {
        if (phase == IN_SETTLING) continue;
        struct pair p;
        struct disk_io io = gated_io();
        pair_begin(&p, 5);
        fill(&p, 600000);
        p.b.io = &io;
        fake_serve(&p.a);
        fake_serve(&p.b);
        uint64_t old_hash = state_hash(p.b.state), new_hash = state_hash(p.a.state);
        pair_wish(&p);
        p.b.quiet = false;
        if (phase > IN_REPLACING) gate_set(true);
        while ((int)p.b.ns->in.phase != phase) {
            if (p.b.ns->in.phase == IN_IDLE && p.a.sent_failed > 0) fail_msg("phase %d", phase);
            if ((int)p.b.ns->in.phase > phase) fail_msg("phase %d was left out", phase);
            pair_step(&p);
        }
        gate_set(true);
        char *dir = p.b.dir;
        fake_close(&p.b);
        fake_open(&p.b, LAB_PEER_B, dir, &p.post);
        uint64_t hash = state_hash(p.b.state);
        assert_true(hash == (phase < IN_REPLACING ? old_hash : new_hash));
        pair_end(&p);
    }
}

/* --- failures -------------------------------------------------------------------------------------------- */

static int no_create(void *ctx, const char *path, unsigned flags, int *fd)
{
    (void)ctx;
    if ((flags & DISK_CREATE) != 0) return -ENOSPC;
    return disk_io_posix()->open(disk_io_posix()->ctx, path, flags, fd);
}

static void test_what_fails_here_fails_the_transfer_only(void **state)
{
    (void)state;
    struct disk_io full = *disk_io_posix();
    full.open = no_create;
    for (int what = 0; what < 2; what++) {
        struct pair p;
        pair_begin(&p, 6);
        fill(&p, 600000);
        if (what == 0) p.b.io = &full;              /* db.current cannot be written */
        if (what == 1) p.b.reserve_bytes = 1ull << 62; /* the disk is nearly full */
        fake_serve(&p.a);
        fake_serve(&p.b);
        uint64_t hash = state_hash(p.b.state);
        pair_wish(&p);
        run_until_over(&p, 1);
        assert_int_equal(p.a.sent_failed, 1);
        assert_int_equal(p.b.aborted, 1);
        assert_int_equal(state_hash(p.b.state), hash);
        assert_false(there(p.b.dir, "db.1"));
        fake_put(&p.b, "on", 10);
        fake_checkpoint(&p.b);
        /* And again, when it can be. */
        p.b.ns->options.io = disk_io_posix();
        p.b.ns->options.reserve_bytes = 0;
        pair_wish(&p);
        run_until_over(&p, 2);
        check_same(&p);
        pair_end(&p);
    }
}

/* Opening may take longer than a sign of life: that is no request for chunks. */
static void test_a_slow_start_is_waited_for(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 10);
    fill(&p, 600000);
    fake_serve(&p.a);
    fake_serve(&p.b);
    pair_wish(&p);
    while (p.b.ns->in.phase != IN_OPENING) pair_step(&p);
    wait_news(p.b.ns, true); /* it is open, and not taken yet */
    p.now_ms += NODE_SNAPSHOT_SIGN_MS;
    p.b.ns->now_ms = p.now_ms;
    in_turn(p.b.ns); /* says that it works */
    while (p.post.count > 0) {
        struct letter l = p.post.at[p.post.head++ % ARRAY_LEN(p.post.at)];
        p.post.count--;
        assert_int_equal(l.to, LAB_PEER_A);
        assert_int_equal(node_snapshot_receive(p.a.ns, l.from, buf_slice(&l.payload)), OK);
        buf_deinit(&l.payload);
        fake_turn(&p.a, p.now_ms);
    }
    assert_int_equal(p.a.ns->out.sent, 0);
    run_until_over(&p, 1);
    assert_int_equal(p.a.sent_ok, 1);
    pair_end(&p);
}

/* Its disk hangs, but it lives and says that it works: the log is not kept for it for ever. */
static void test_who_works_for_ever_is_given_up(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 11);
    fill(&p, 600000);
    fake_serve(&p.a);
    fake_serve(&p.b);
    pair_wish(&p);
    while (p.b.ns->in.phase != IN_OPENING) pair_step(&p);
    wait_news(p.b.ns, true); /* it is open, and not taken yet */
    int64_t begin_ms = p.now_ms;
    while (p.a.sent_failed == 0) {
        assert_true(p.now_ms < begin_ms + 2 * NODE_SNAPSHOT_STALL_MS);
        p.now_ms += NODE_SNAPSHOT_SIGN_MS;
        p.b.ns->now_ms = p.now_ms;
        in_turn(p.b.ns);
        while (p.post.count > 0) {
            struct letter l = p.post.at[p.post.head++ % ARRAY_LEN(p.post.at)];
            p.post.count--;
            if (l.to == LAB_PEER_A) {
                assert_int_equal(node_snapshot_receive(p.a.ns, l.from, buf_slice(&l.payload)), OK);
            }
            buf_deinit(&l.payload);
        }
        fake_turn(&p.a, p.now_ms);
    }
    assert_in_range(p.now_ms - begin_ms, NODE_SNAPSHOT_STALL_MS - NODE_SNAPSHOT_SIGN_MS,
                    NODE_SNAPSHOT_STALL_MS + NODE_SNAPSHOT_SIGN_MS);
    while (p.b.aborted == 0) pair_step(&p); /* it hears nothing more */
    assert_true(node_snapshot_keep_index(p.a.ns, p.now_ms) == UINT64_MAX);
    pair_end(&p);
}

/* Nothing arrives any more. For how long had the receiver not heard or taken anything when it gave up?
 * Chunks it has are taken first, in real time, which does not count. */
static int64_t silence_until_given_up_ms(struct pair *p)
{
    p->post.lose_percent = 100;
    for (int i = 0; p->b.aborted == 0; i++) {
        if (i > 200000) fail_msg("never: in %d", p->b.ns->in.phase);
        pair_step(p);
    }
    return p->now_ms - p->b.ns->in.heard_ms;
}

static void test_a_peer_that_falls_silent_is_given_up(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 7);
    fill(&p, 3 << 20);
    fake_serve(&p.a);
    fake_serve(&p.b);
    pair_wish(&p);
    while (p.b.ns->in.taken < 2) pair_step(&p);
    assert_true(node_snapshot_keep_index(p.a.ns, p.now_ms) <= p.a.sending_index);
    assert_int_equal(silence_until_given_up_ms(&p), NODE_SNAPSHOT_SILENCE_MS);
    run_until_over(&p, 1);
    assert_int_equal(p.a.sent_failed, 1);
    assert_int_equal(p.b.aborted, 1);
    assert_true(node_snapshot_keep_index(p.a.ns, p.now_ms) == UINT64_MAX);
    p.post.lose_percent = 0;
    pair_wish(&p);
    run_until_over(&p, 2);
    check_same(&p);
    pair_end(&p);
}

/* The sender died, and another leads: the receiver, without which that one may have no quorum, does
 * not wait as long as for a leader that is slow. */
static void test_the_snapshot_of_a_former_leader_is_given_up_soon(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 9);
    fill(&p, 3 << 20);
    fake_serve(&p.a);
    fake_serve(&p.b);
    pair_wish(&p);
    while (p.b.ns->in.taken < 2) pair_step(&p);
    p.b.term++;
    while (p.b.ns->in.taken < 4) pair_step(&p); /* as long as it sends it may go on: */
    assert_int_equal(p.b.aborted, 0);           /* all of it is 13 chunks, 4 on their way at a time */
    assert_int_equal(p.b.ns->in.phase, IN_RECEIVING);
    assert_int_equal(silence_until_given_up_ms(&p), NODE_SNAPSHOT_ORPHAN_MS);
    run_until_over(&p, 1);
    assert_int_equal(p.b.aborted, 1);
    p.post.lose_percent = 0;
    pair_wish(&p);
    run_until_over(&p, 2);
    check_same(&p);
    pair_end(&p);
}

/* A peer that says what it likes. */
static void test_what_a_peer_makes_up_is_refused(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 8);
    fill(&p, 100000);
    fake_serve(&p.a);
    fake_serve(&p.b);
    struct buf payload = { 0 }, records = { 0 };
    uint64_t index = state_applied_index(p.b.state) + 100;
    struct snapshot_msg begin = { .kind = SNAPSHOT_BEGIN, .format = SNAPSHOT_MSG_FORMAT,
                                  .store_format = STORE_EXPORT_FORMAT,
                                  .checkpoint_format = CHECKPOINT_FORMAT,
                                  .view = { index, LAB_TERM, 1, 1 } };
    for (unsigned i = 0; i < 8; i++) {
        buf_clear(&records);
        uint64_t count = 1;
        switch (i) {
        case 0: buf_append(&records, "\1\2\3", 3); break;                    /* cut */
        case 1: buf_append(&records, "\1\1\0\0\0\1\0\0\0nv", 11); break;      /* foreign name */
        case 2: buf_append(&records, "\2\0\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0ab", 19); break; /* rev 0 */
        case 3: buf_append(&records, "\2\1\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0ab", 19); break; /* no pack */
        case 4: /* names that do not ascend */
            buf_append(&records, "\1\1\0\0\0\1\0\0\0nv\1\1\0\0\0\1\0\0\0nv", 22);
            count = 2;
            break;
        case 5: break;                                                       /* nothing */
        case 6: count = 7; break;                                            /* a wrong count */
        default: begin.store_format = STORE_EXPORT_FORMAT + 1;
        }
        begin.id = 1000 + i;
        snapshot_msg_encode(&payload, &begin);
        assert_int_equal(node_snapshot_receive(p.b.ns, LAB_PEER_A, buf_slice(&payload)), OK);
        while (p.b.ns->in.phase == IN_OPENING) pair_step(&p);
        if (i == 7) break;
        assert_int_equal(p.b.ns->in.phase, IN_RECEIVING);
        if (records.len != 0) {
            struct snapshot_msg chunk = { .kind = SNAPSHOT_CHUNK, .id = begin.id, .seq = 1,
                                          .bytes = buf_slice(&records) };
            snapshot_msg_encode(&payload, &chunk);
            assert_int_equal(node_snapshot_receive(p.b.ns, LAB_PEER_A, buf_slice(&payload)), OK);
        }
        struct snapshot_msg end = { .kind = SNAPSHOT_END, .id = begin.id, .seq = records.len != 0,
                                    .count = records.len != 0 ? count : i == 6 ? 7 : 0,
                                    .crc = crc32c(0, records.at, records.len) };
        snapshot_msg_encode(&payload, &end);
        assert_int_equal(node_snapshot_receive(p.b.ns, LAB_PEER_A, buf_slice(&payload)), OK);
        while (p.b.ns->in.phase != IN_IDLE) pair_step(&p);
        if (p.b.aborted != i + 1) fail_msg("case %u", i);
    }
    assert_int_equal(p.b.begun, 7);
    assert_int_equal(p.b.installed, 0);
    buf_deinit(&payload);
    buf_deinit(&records);
    pair_end(&p);
}

/* --- entries ------------------------------------------------------------------------------------------------ */

static void wish_entries(struct pair *p, uint64_t next_index)
{
    struct raft_wish wish = { LAB_PEER_B, next_index };
    node_snapshot_wish(p->a.ns, &wish, 1, state_applied_index(p->a.state));
}

static bool is_wishing(const struct node_snapshot *ns)
{
    for (size_t i = 0; i < ARRAY_LEN(ns->wishes); i++) {
        if (ns->wishes[i].phase != WISH_NONE) return true;
    }
    return false;
}

static void test_entries_come_from_the_log_while_it_has_them(void **state)
{
    (void)state;
    struct pair p;
    pair_begin(&p, 9);
    fake_grow(&p.a, 1500);
    fake_put(&p.a, "large", 700000);
    fake_put(&p.a, "large", 700000);
    fake_settle(&p.a);
    fake_serve(&p.a);
    fake_serve(&p.b);
    static const struct { uint64_t next, last, term; } cases[] = {
        { 1, 1024, 0 },    { 2, 1025, LAB_TERM },   { 1000, 1500, LAB_TERM },
        { 1501, 1501, LAB_TERM }, { 1502, 1502, LAB_TERM },
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        wish_entries(&p, cases[i].next);
        while (p.a.entries_answers == i) pair_step(&p);
        assert_int_equal(p.a.entries_first, cases[i].next);
        assert_true(p.a.entries_last == cases[i].last ||
                    (cases[i].next == 1000 && p.a.entries_last >= 1500));
        assert_int_equal(p.a.entries_before_term, cases[i].term);
    }
    /* Another one while the first is read: only the newest is answered. */
    wish_entries(&p, 10);
    pair_step(&p);
    wish_entries(&p, 20);
    while (is_wishing(p.a.ns)) pair_step(&p);
    assert_int_equal(p.a.entries_first, 20);
    /* Asked in a term that is over: no answer. */
    unsigned answers = p.a.entries_answers;
    wish_entries(&p, 30);
    pair_step(&p);
    p.a.term++;
    while (is_wishing(p.a.ns)) pair_step(&p);
    assert_true(p.a.entries_answers == answers || p.a.entries_first == 30);
    assert_int_equal(p.a.sent_ok + p.a.sent_failed, 0);
    pair_end(&p);
}

static void test_messages_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct buf payload = { 0 };
    struct snapshot_msg all[] = {
        { .kind = SNAPSHOT_BEGIN, .id = 5, .format = 1, .store_format = 2, .checkpoint_format = 1,
          .view = { 10, 2, 7, 3 } },
        { .kind = SNAPSHOT_CHUNK, .id = 5, .seq = 1, .bytes = SLICE_LIT("some records") },
        { .kind = SNAPSHOT_END, .id = 5, .seq = 1, .count = 2, .crc = 3 },
        { .kind = SNAPSHOT_ACK, .id = 5, .seq = 1, .stage = SNAPSHOT_WORKS },
        { .kind = SNAPSHOT_REFUSE, .id = 5, .reason = SNAPSHOT_GAP },
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct snapshot_msg got;
        snapshot_msg_encode(&payload, &all[i]);
        assert_int_equal(snapshot_msg_decode(buf_slice(&payload), &got), OK);
        assert_int_equal(got.kind, all[i].kind);
        assert_int_equal(got.id, 5);
        assert_int_equal(got.seq, all[i].seq);
        assert_true(slice_eq(got.bytes, all[i].bytes));
        assert_memory_equal(&got.view, &all[i].view, sizeof got.view);
        for (size_t bit = 0; bit < payload.len * 8; bit++) {
            payload.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(snapshot_msg_decode(buf_slice(&payload), &got) != OK);
            payload.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t len = 0; len < payload.len; len++) {
            struct slice cut = { payload.at, len };
            assert_true(snapshot_msg_decode(cut, &got) != OK);
        }
    }
    buf_deinit(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_that_cannot_be_are_refused),
        cmocka_unit_test(test_a_snapshot_makes_the_follower_equal),
        cmocka_unit_test(test_much_goes_through_little_memory),
        cmocka_unit_test(test_a_second_one_replaces_the_first),
        cmocka_unit_test(test_what_is_lost_repeated_or_damaged_is_noticed),
        cmocka_unit_test(test_a_crash_at_any_step_leaves_one_or_the_other),
        cmocka_unit_test(test_an_unfinished_exchange_is_finished_at_the_start),
        cmocka_unit_test(test_closing_at_any_step),
        cmocka_unit_test(test_what_fails_here_fails_the_transfer_only),
        cmocka_unit_test(test_who_works_for_ever_is_given_up),
        cmocka_unit_test(test_a_slow_start_is_waited_for),
        cmocka_unit_test(test_a_peer_that_falls_silent_is_given_up),
        cmocka_unit_test(test_the_snapshot_of_a_former_leader_is_given_up_soon),
        cmocka_unit_test(test_what_a_peer_makes_up_is_refused),
        cmocka_unit_test(test_entries_come_from_the_log_while_it_has_them),
    };
    return cmocka_run_group_tests_name("node/node_snapshot", tests, NULL, NULL);
}
