/* Histories of a store in memory that is right: random clients, delays, lost answers, leases,
 * watchers. They must pass whatever the seed. With one mistake in the store they must be found.
 *
 *     CORDIS_SEEDS=n   so many seeds (default 60) */
#include <stdio.h>

#include "check_kit.h"

#define CLIENTS     6
#define KEYS        8 /* 0..5 plain, 6 a counter, 7 a list */
#define COUNTER     6
#define LIST        7
#define OPS         400
#define STREAMS     3
#define PENDING_MAX 32

enum mistake {
    MISTAKE_NONE,
    STALE_READ,
    LOST_WRITE,
    DOUBLE_APPLY,
    REFUSED_APPLIED,
    CAS_UNCHECKED,
    EVENT_MISSING,
    EVENT_TWICE,
    PROGRESS_EARLY,
    PREV_WRONG,
    TTL_EARLY,
    TXN_SPLIT,
    MISTAKE_COUNT
};
static const char *const mistake_words[] = {
    "none",          "stale read",        "lost write",  "double apply",   "refused applied",
    "cas unchecked", "event missing",     "event twice", "progress early", "previous value wrong",
    "TTL early",     "transaction split",
};

struct cell {
    bool there;
    char value[OPS * 10];
    char before[OPS * 10]; /* what a stale reader sees */
    bool was_there;
    uint64_t mod, create, version;
    int64_t deadline_ms; /* 0: none */
};

/* An operation that was sent and reaches the store at apply_ms. */
struct pending {
    enum history_kind kind;
    int64_t invoke_ms, apply_ms, complete_ms;
    uint32_t client;
    int key;
    enum history_outcome outcome;
    bool reaches; /* of UNKNOWN: it is applied in the end */
    uint64_t mod; /* a compare's */
    int64_t ttl_ms;
};

struct model {
    struct history *h;
    uint64_t random;
    uint64_t rev, unique;
    int64_t now_ms;
    struct cell cells[KEYS];
    struct pending pending[PENDING_MAX];
    size_t pending_count;
    int64_t client_free_ms[CLIENTS];
    enum mistake mistake;
    uint64_t mistakes_made;
};

static uint64_t pick(struct model *m, uint64_t below)
{
    m->random += 0x9e3779b97f4a7c15ULL;
    return u64_mix(m->random) % below;
}

/* Now and then, if this is the mistake of the run. */
static bool errs(struct model *m, enum mistake mistake)
{
    if (m->mistake != mistake || pick(m, 5) != 0) return false;
    m->mistakes_made++;
    return true;
}

static struct slice key_name(int key)
{
    static const char names[KEYS][4] = { "k0", "k1", "k2", "k3", "k4", "k5", "n", "z" };
    return slice_of(names[key]);
}

/* --- the store ---------------------------------------------------------------------------------
 */

static void log_change(struct model *m, int key, uint32_t n, enum history_event_op op)
{
    const struct cell *cell = &m->cells[key];
    bool put = op == HISTORY_EVENT_PUT;
    struct history_event event = { .rev = m->rev,
                                   .n = n,
                                   .op = op,
                                   .key = key_name(key),
                                   .value = put ? slice_of(cell->value) : SLICE_NONE,
                                   .create = put ? cell->create : 0,
                                   .version = put ? cell->version : 0 };
    history_add_event(m->h, &event);
}

static void remember(struct cell *cell)
{
    memcpy(cell->before, cell->value, sizeof cell->before);
    cell->was_there = cell->there;
}

static void store_put(struct model *m, int key, uint32_t n, const char *value, int64_t ttl_ms)
{
    struct cell *cell = &m->cells[key];
    remember(cell);
    snprintf(cell->value, sizeof cell->value, "%s", value);
    cell->create = cell->there ? cell->create : m->rev;
    cell->version = cell->there ? cell->version + 1 : 1;
    cell->there = true;
    cell->mod = m->rev;
    cell->deadline_ms = ttl_ms == 0 ? 0 : m->now_ms + ttl_ms;
    if (ttl_ms != 0 && errs(m, TTL_EARLY)) cell->deadline_ms -= ttl_ms - 1;
    log_change(m, key, n, HISTORY_EVENT_PUT);
}

static void store_remove(struct model *m, int key, uint32_t n, enum history_event_op op)
{
    remember(&m->cells[key]);
    m->cells[key].there = false;
    m->cells[key].mod = 0;
    m->cells[key].deadline_ms = 0;
    log_change(m, key, n, op);
}

static void store_expire(struct model *m)
{
    for (int key = 0; key < KEYS; key++) {
        const struct cell *cell = &m->cells[key];
        if (!cell->there || cell->deadline_ms == 0 || cell->deadline_ms > m->now_ms) continue;
        m->rev++;
        store_remove(m, key, 1, HISTORY_EVENT_EXPIRE);
    }
}

/* --- operations ----------------------------------------------------------------------------------
 */

static struct history_op *record(struct model *m, const struct pending *p)
{
    struct history_op *op = history_op(m->h, p->kind, p->client, p->invoke_ms * KIT_MS);
    op->outcome = p->outcome;
    op->ttl_ms = p->ttl_ms;
    if (p->outcome != HISTORY_UNKNOWN) op->complete_ns = p->complete_ms * KIT_MS;
    return op;
}

static struct history_op *newest(struct model *m)
{
    return &m->h->ops[m->h->op_count - 1];
}

static void read_cell(struct model *m, const struct pending *p)
{
    const struct cell *cell = &m->cells[p->key];
    bool stale = errs(m, STALE_READ);
    record(m, p);
    if (stale ? cell->was_there : cell->there) {
        const char *value = stale ? cell->before : cell->value;
        struct history_item *item =
            history_item(m->h, HISTORY_ITEM_SAW, key_name(p->key), slice_of(value));
        item->mod = stale ? 0 : cell->mod;
    } else {
        history_item(m->h, HISTORY_ITEM_NONE, key_name(p->key), SLICE_NONE);
    }
}

static void range_cells(struct model *m, const struct pending *p)
{
    record(m, p)->rev = m->rev;
    history_item(m->h, HISTORY_ITEM_SPAN, SLICE_LIT("k1"), SLICE_LIT("k5"));
    for (int key = 1; key < 5; key++) {
        if (!m->cells[key].there) continue;
        history_item(m->h, HISTORY_ITEM_SAW, key_name(key), slice_of(m->cells[key].value));
    }
}

/* What the operation changes goes into the record; whether it happens is decided here. */
static void change_cell(struct model *m, const struct pending *p)
{
    struct cell *cell = &m->cells[p->key];
    char value[32];
    snprintf(value, sizeof value, "v%llu", (unsigned long long)++m->unique);
    record(m, p);
    bool reaches = p->outcome == HISTORY_DONE || (p->outcome == HISTORY_UNKNOWN && p->reaches) ||
                   (p->outcome == HISTORY_REFUSED && errs(m, REFUSED_APPLIED));
    if (p->kind == HISTORY_CAS) {
        history_item(m->h, HISTORY_ITEM_IF_MOD, key_name(p->key), SLICE_NONE)->mod = p->mod;
        bool holds = (cell->there ? cell->mod : 0) == p->mod;
        if (!holds) holds = errs(m, CAS_UNCHECKED);
        reaches = reaches && holds;
    }
    if (p->kind == HISTORY_DELETE) {
        history_item(m->h, HISTORY_ITEM_DEL, key_name(p->key), SLICE_NONE);
        reaches = reaches && cell->there;
    } else {
        history_item(m->h, HISTORY_ITEM_PUT, key_name(p->key), slice_of(value));
        if (p->kind == HISTORY_TXN) {
            history_item(m->h, HISTORY_ITEM_PUT, key_name((p->key + 1) % COUNTER), slice_of(value));
        }
    }
    newest(m)->applied = reaches;
    newest(m)->rev = m->rev;
    if (!reaches || errs(m, LOST_WRITE)) return;
    newest(m)->rev = ++m->rev;
    if (p->kind == HISTORY_DELETE) {
        store_remove(m, p->key, 1, HISTORY_EVENT_DEL);
        return;
    }
    store_put(m, p->key, 1, value, p->ttl_ms);
    if (p->kind == HISTORY_TXN) {
        bool split = errs(m, TXN_SPLIT);
        if (split) m->rev++;
        store_put(m, (p->key + 1) % COUNTER, split ? 1 : 2, value, 0);
    }
    if (errs(m, DOUBLE_APPLY)) {
        m->rev++;
        store_put(m, p->key, 1, value, p->ttl_ms);
    }
}

static void sum_cell(struct model *m, const struct pending *p)
{
    bool counts = p->kind == HISTORY_INCR;
    const struct cell *cell = &m->cells[counts ? COUNTER : LIST];
    bool reaches = p->outcome == HISTORY_DONE || (p->outcome == HISTORY_UNKNOWN && p->reaches) ||
                   (p->outcome == HISTORY_REFUSED && errs(m, REFUSED_APPLIED));
    char token[24], value[sizeof cell->value];
    snprintf(token, sizeof token, "t%llu;", (unsigned long long)++m->unique);
    record(m, p)->applied = reaches;
    struct history_item *item =
        history_item(m->h, counts ? HISTORY_ITEM_INCR : HISTORY_ITEM_APPEND,
                     key_name(counts ? COUNTER : LIST), counts ? SLICE_NONE : slice_of(token));
    if (counts) item->number = 1;
    if (!reaches || errs(m, LOST_WRITE)) return;
    for (int again = errs(m, DOUBLE_APPLY); again >= 0; again--) {
        if (counts) {
            snprintf(value, sizeof value, "%d", (cell->there ? atoi(cell->value) : 0) + 1);
        } else {
            snprintf(value, sizeof value, "%.*s%s", (int)(sizeof value - sizeof token),
                     cell->there ? cell->value : "", token);
        }
        m->rev++;
        store_put(m, counts ? COUNTER : LIST, 1, value, 0);
    }
    if (p->outcome != HISTORY_DONE) return;
    if (counts) {
        item->value = history_bytes(m->h, slice_of(value));
    } else {
        item->number = (int64_t)strlen(value);
    }
}

static void apply(struct model *m, const struct pending *p)
{
    bool reads = p->kind == HISTORY_GET || p->kind == HISTORY_RANGE;
    if (reads && p->outcome != HISTORY_DONE) {
        record(m, p);
    } else if (p->kind == HISTORY_GET) {
        read_cell(m, p);
    } else if (p->kind == HISTORY_RANGE) {
        range_cells(m, p);
    } else if (p->kind == HISTORY_INCR || p->kind == HISTORY_APPEND) {
        sum_cell(m, p);
    } else {
        change_cell(m, p);
    }
}

/* --- time
 * ------------------------------------------------------------------------------------------- */

static void send(struct model *m, uint32_t client)
{
    static const enum history_kind kinds[] = { HISTORY_PUT,  HISTORY_PUT,    HISTORY_GET,
                                               HISTORY_GET,  HISTORY_GET,    HISTORY_RANGE,
                                               HISTORY_CAS,  HISTORY_CAS,    HISTORY_TXN,
                                               HISTORY_INCR, HISTORY_APPEND, HISTORY_DELETE };
    struct pending p = { .kind = kinds[pick(m, ARRAY_LEN(kinds))], .client = client };
    p.key = (int)pick(m, p.kind == HISTORY_GET ? KEYS : COUNTER);
    p.invoke_ms = m->now_ms;
    p.apply_ms = p.invoke_ms + (int64_t)pick(m, 30);
    p.complete_ms = p.apply_ms + (int64_t)pick(m, 30);
    uint64_t fate = pick(m, 20);
    p.outcome = fate == 0 ? HISTORY_UNKNOWN : fate == 1 ? HISTORY_REFUSED : HISTORY_DONE;
    p.reaches = pick(m, 2) == 0;
    p.mod = m->cells[p.key].mod;
    if (p.kind == HISTORY_PUT && pick(m, 4) == 0) p.ttl_ms = 20 + (int64_t)pick(m, 200);
    m->client_free_ms[client] = p.complete_ms + 1 + (int64_t)pick(m, 10);
    if (p.outcome == HISTORY_UNKNOWN)
        p.apply_ms += (int64_t)pick(m, 300); /* long after the client left */
    m->pending[m->pending_count++] = p;
}

static void step(struct model *m, bool sends)
{
    m->now_ms++;
    store_expire(m);
    for (size_t i = 0; i < m->pending_count;) {
        if (m->pending[i].apply_ms > m->now_ms) {
            i++;
            continue;
        }
        struct pending p = m->pending[i];
        m->pending[i] = m->pending[--m->pending_count];
        apply(m, &p);
    }
    for (uint32_t client = 0; sends && client < CLIENTS; client++) {
        bool free = m->client_free_ms[client] <= m->now_ms && m->pending_count < PENDING_MAX;
        if (free && pick(m, 3) == 0) send(m, client);
    }
}

/* --- watchers: afterwards, from the log
 * ------------------------------------------------------------- */

static void deliver(struct model *m, uint64_t id, size_t at)
{
    const struct history_event *event = &m->h->log[at];
    struct history_mark mark = { .kind = HISTORY_MARK_EVENT,
                                 .watch = id,
                                 .rev = event->rev,
                                 .time_ns = (m->now_ms + 100) * KIT_MS,
                                 .event = *event };
    for (size_t i = 0; i < at; i++) {
        const struct history_event *prev = &m->h->log[i];
        if (prev->rev == event->rev || !slice_eq(prev->key, event->key)) continue;
        mark.prev_mod = prev->op == HISTORY_EVENT_PUT ? (int64_t)prev->rev : 0;
        mark.prev = prev->op == HISTORY_EVENT_PUT ? prev->value : SLICE_NONE;
    }
    if (errs(m, PREV_WRONG)) mark.prev_mod++;
    history_add_mark(m->h, &mark);
}

static void watch(struct model *m, uint64_t id)
{
    struct history_watch watch = { .id = id,
                                   .from = 1 + pick(m, m->rev / 2 + 1),
                                   .flags = HISTORY_WATCH_PREV,
                                   .begin = SLICE_LIT("k2"),
                                   .end = pick(m, 2) == 0 ? SLICE_NONE : SLICE_LIT("k4") };
    history_add_watch(m->h, &watch);
    struct history_mark told = { .kind = HISTORY_MARK_PROGRESS,
                                 .watch = id,
                                 .time_ns = (m->now_ms + 100) * KIT_MS };
    for (size_t i = 0; i < m->h->log_count; i++) {
        const struct history_event *event = &m->h->log[i];
        bool wanted = event->rev >= watch.from && keyspace_in(event->key, watch.begin, watch.end);
        bool first = i == 0 || m->h->log[i - 1].rev != event->rev;
        if (wanted && first && pick(m, 10) == 0) {
            told.rev = event->rev - (errs(m, PROGRESS_EARLY) ? 0 : 1);
            history_add_mark(m->h, &told);
        }
        if (!wanted || errs(m, EVENT_MISSING)) continue;
        deliver(m, id, i);
        if (errs(m, EVENT_TWICE)) deliver(m, id, i);
    }
    told.rev = m->rev;
    history_add_mark(m->h, &told);
}

static void final_reads(struct model *m)
{
    for (int key = 0; key < KEYS; key++) {
        struct pending p = { .kind = HISTORY_GET,
                             .client = CLIENTS,
                             .key = key,
                             .invoke_ms = m->now_ms,
                             .complete_ms = m->now_ms + 1,
                             .outcome = HISTORY_DONE };
        read_cell(m, &p);
    }
}

static struct history *play(uint64_t seed, enum mistake mistake, uint64_t *mistakes_made)
{
    struct model *m = mem_zalloc(sizeof *m);
    m->h = history_new();
    m->random = u64_mix(seed);
    m->mistake = mistake;
    while (m->h->op_count < OPS) step(m, true);
    while (m->pending_count > 0) step(m, false);
    final_reads(m);
    for (uint64_t id = 1; id <= STREAMS; id++) watch(m, id);
    *mistakes_made = m->mistakes_made;
    struct history *h = m->h;
    mem_free(m);
    return h;
}

static uint64_t seed_count(void)
{
    const char *text = getenv("CORDIS_SEEDS");
    uint64_t count = 60;
    if (text != NULL) assert_int_equal(u64_parse(slice_of(text), &count), OK);
    return count;
}

static struct check_params params(void)
{
    struct check_params p = CHECK_PARAMS_DEFAULT;
    p.lease.late_ms_max = 50; /* of the model: an expiry is applied in the ms it is due */
    p.lease.unknown_ms_max = 400;
    p.wgl_step_max = 200000;
    return p;
}

static void test_right_stores_pass(void **state)
{
    (void)state;
    struct check_params p = params();
    for (uint64_t seed = 1; seed <= seed_count(); seed++) {
        struct verdict v = { .violation_count = 0 };
        uint64_t made;
        struct history *h = play(seed, MISTAKE_NONE, &made);
        if (!check_history(h, &p, &v)) {
            buf_append_u8(&v.text, 0);
            fail_msg("seed %llu: %s", (unsigned long long)seed, (const char *)v.text.at);
        }
        verdict_deinit(&v);
        history_free(h);
    }
}

static void test_mistakes_are_found(void **state)
{
    (void)state;
    struct check_params p = params();
    for (enum mistake mistake = STALE_READ; mistake < MISTAKE_COUNT; mistake++) {
        int made_in = 0;
        for (uint64_t seed = 1; seed <= 10; seed++) {
            struct verdict v = { .violation_count = 0 };
            uint64_t made;
            struct history *h = play(seed, mistake, &made);
            made_in += made > 0;
            if (check_history(h, &p, &v) && made > 0) {
                fail_msg("%s made %llu times with seed %llu, and nothing found",
                         mistake_words[mistake], (unsigned long long)made,
                         (unsigned long long)seed);
            }
            verdict_deinit(&v);
            history_free(h);
        }
        assert_true(made_in >= 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_stores_pass),
        cmocka_unit_test(test_mistakes_are_found),
    };
    return cmocka_run_group_tests_name("check, random histories", tests, NULL, NULL);
}
