/* Runs the scenarios of tests/data/raft: blocks of commands, then "----", then what they print, up
 * to an empty line. RAFT_BLESS=1 rewrites the answers; the diff is the review.
 *
 *   cluster V [L]          V voters, L learners, not yet started: `up all`
 *   hard N TERM VOTE COMMIT   log N TERM...     what is on N's disk before it starts
 *   option NAME VALUE      append-bytes, inflight, uncommitted, apply-early
 *   up N|all   down N      start; crash: what is not on its disk is lost
 *   elect N                campaign, then deliver everything
 *   campaign N             only the event
 *   tick N|all MS          time passes in steps of 10 ms; nothing is delivered
 *   run MS                 the same with delivery
 *   work N                 take updates; the disk answers unless held
 *   deliver [A>B] [TYPE]   what is under way now, once; `stabilize` until nothing moves
 *   drop [A>B] [TYPE]      lose it
 *   cut A>B | cut A        heal
 *   disk N hold|go         persist N [COUNT]
 *   propose N TEXT [COUNT] read N   transfer N TO   snapshots N hold|go
 *   add|learner|promote|remove|demote N ID   proposed at N
 *   compact N KEEP         checkpoint what is applied, forget all but KEEP entries
 *   trim N KEEP            only memory forgets         jump N MS   N was stopped that long
 *   wipe N                 its disk loses everything but term and vote
 *   state | logs | peers N | net | disk-state N | reads N   print
 */
#include "raft_lab.h"

#include <dirent.h>

#define WORDS_MAX 16
#define DATA_DIR "tests/data/raft"

struct script {
    struct lab *lab;
    struct buf out;  /* of the present block */
    const char *file;
    size_t line;
    char *words[WORDS_MAX];
    size_t word_count;
};

static const char *word(const struct script *s, size_t at)
{
    if (at >= s->word_count) fail_msg("%s:%zu: a word is missing", s->file, s->line);
    return s->words[at];
}

static uint64_t number(const struct script *s, size_t at)
{
    uint64_t v = 0;
    if (u64_parse(slice_of(word(s, at)), &v) != OK) {
        fail_msg("%s:%zu: %s is no number", s->file, s->line, word(s, at));
    }
    return v;
}

static uint64_t number_or(const struct script *s, size_t at, uint64_t fallback)
{
    return at < s->word_count ? number(s, at) : fallback;
}

static struct lab_node *node(const struct script *s, size_t at)
{
    uint64_t id = number(s, at);
    if (id == 0 || id > LAB_NODES_MAX) fail_msg("%s:%zu: no such node", s->file, s->line);
    return &s->lab->node[id];
}

static bool is(const struct script *s, size_t at, const char *text)
{
    return at < s->word_count && strcmp(s->words[at], text) == 0;
}

static void say_error(struct script *s, enum err err)
{
    if (err != OK) buf_printf(&s->out, "%s %s: %s\n", s->words[0], s->words[1], err_name(err));
}

/* --- printing -------------------------------------------------------------------------------- */

static void print_members(struct buf *out, const struct raft_members *m)
{
    for (size_t i = 0; i < m->count; i++) {
        buf_printf(out, "%s%u%s", i == 0 ? "" : ",", (unsigned)m->at[i].id,
                   m->at[i].role == RAFT_VOTER ? "" : "L");
    }
    if (m->count == 0) buf_printf(out, "none");
}

static void print_state(struct script *s)
{
    for (uint64_t id = 1; id <= s->lab->node_count; id++) {
        const struct lab_node *n = &s->lab->node[id];
        if (n->r == NULL) {
            buf_printf(&s->out, "%u down t=%u\n", (unsigned)id, (unsigned)n->hard.term);
            continue;
        }
        buf_printf(&s->out, "%u %s t=%u leader=%u last=%u durable=%u commit=%u applied=%u in=",
                   (unsigned)id, raft_role_name(raft_role(n->r)), (unsigned)raft_term(n->r),
                   (unsigned)raft_leader(n->r), (unsigned)raft_last_index(n->r),
                   (unsigned)raft_durable_index(n->r), (unsigned)raft_commit_index(n->r),
                   (unsigned)raft_applied_index(n->r));
        print_members(&s->out, raft_members(n->r));
        buf_printf(&s->out, "\n");
    }
}

/* index:term, and the text of a batch. */
static void print_entry(struct buf *out, const struct raft_entry *e)
{
    static const char *const kinds[] = { "?", "", "noop", "members" };
    buf_printf(out, " %u:%u%s%s", (unsigned)e->index, (unsigned)e->term,
               e->type == RAFT_ENTRY_BATCH ? "" : "=", kinds[e->type < 4 ? e->type : 0]);
    if (e->type == RAFT_ENTRY_BATCH && e->body != NULL) {
        buf_printf(out, "=%.*s", (int)MIN(e->body->len, 12), (const char *)e->body->at);
    }
}

static void print_logs(struct script *s)
{
    for (uint64_t id = 1; id <= s->lab->node_count; id++) {
        const struct lab_node *n = &s->lab->node[id];
        buf_printf(&s->out, "%u:", (unsigned)id);
        for (uint64_t i = n->r ? raft_first_index(n->r) : 1; n->r && i <= raft_last_index(n->r);
             i++) {
            print_entry(&s->out, raft_entry_at(n->r, i));
        }
        buf_printf(&s->out, "\n");
    }
}

static void print_disk(struct script *s)
{
    const struct lab_node *n = node(s, 1);
    buf_printf(&s->out, "%u disk: t=%u vote=%u:", (unsigned)n->id, (unsigned)n->hard.term,
               (unsigned)n->hard.vote);
    for (size_t i = 0; i < n->log.count; i++) print_entry(&s->out, &n->log.at[i]);
    buf_printf(&s->out, " (%zu writes wait)\n", n->write_count);
}

static void print_peers(struct script *s)
{
    const struct lab_node *n = node(s, 1);
    struct raft_peer_status p;
    for (size_t i = 0; raft_peer_status(n->r, i, &p); i++) {
        buf_printf(&s->out, "%u -> %u %s%s match=%u next=%u inflight=%zu\n", (unsigned)n->id,
                   (unsigned)p.id, raft_peer_state_name(p.state), p.voter ? "" : " learner",
                   (unsigned)p.match_index, (unsigned)p.next_index, p.inflight_count);
    }
}

static void print_net(struct script *s)
{
    for (size_t i = 0; i < s->lab->net_count; i++) {
        struct raft_msg m;
        assert_int_equal(raft_msg_decode(buf_slice(&s->lab->net[i].bytes), &m), OK);
        buf_printf(&s->out, "%u>%u %s t=%u index=%u/%u commit=%u round=%u%s", (unsigned)m.from,
                   (unsigned)m.to, raft_msg_name(m.type), (unsigned)m.term, (unsigned)m.index,
                   (unsigned)m.log_term, (unsigned)m.commit,
                   m.type == RAFT_MSG_READ || m.type == RAFT_MSG_READ_RESP ? 0
                                                                           : (unsigned)m.round,
                   m.reject ? " reject" : "");
        for (size_t k = 0; k < m.entry_count; k++) print_entry(&s->out, &m.entries[k]);
        buf_printf(&s->out, "\n");
        raft_msg_deinit(&m);
    }
}

static void print_reads(struct script *s)
{
    const struct lab_node *n = node(s, 1);
    buf_printf(&s->out, "%u reads: asked %u, ready %u at index %u\n", (unsigned)n->id,
               (unsigned)n->read_asked, (unsigned)n->read_id, (unsigned)n->read_index);
}

/* --- commands -------------------------------------------------------------------------------- */

static void do_cluster(struct script *s)
{
    assert_null(s->lab);
    s->lab = lab_new(number(s, 1), number_or(s, 2, 0), 1);
}

static void do_hard(struct script *s)
{
    node(s, 1)->hard = (struct raft_hard_state){ number(s, 2), number(s, 3), number(s, 4) };
}

static void do_log(struct script *s)
{
    for (size_t i = 2; i < s->word_count; i++) {
        struct raft_entry e = { .term = number(s, i), .index = i - 1, .type = RAFT_ENTRY_BATCH };
        uint64_t text = e.term * 1000 + e.index; /* the same entry is the same everywhere */
        e.body = blob_copy((struct slice){ (const uint8_t *)"abcdefgh", 1 });
        e.body->at[0] = (uint8_t)('a' + text % 26);
        e.crc = crc32c(0, e.body->at, e.body->len);
        lab_log_push(&node(s, 1)->log, &e);
        blob_unref(e.body);
    }
}

static void do_option(struct script *s)
{
    struct raft_config *cfg = &s->lab->cfg;
    uint64_t value = number(s, 2);
    if (is(s, 1, "append-bytes")) cfg->append_bytes_max = value;
    else if (is(s, 1, "inflight")) cfg->inflight_max = value;
    else if (is(s, 1, "uncommitted")) cfg->uncommitted_bytes_max = value;
    else if (is(s, 1, "apply-early")) cfg->apply_early = value != 0;
    else fail_msg("%s:%zu: which option?", s->file, s->line);
}

static void do_up(struct script *s)
{
    if (is(s, 1, "all")) {
        for (uint64_t id = 1; id <= s->lab->node_count; id++) {
            if (s->lab->node[id].r == NULL) lab_start(s->lab, id);
        }
        return;
    }
    struct lab_node *n = node(s, 1);
    s->lab->node_count = MAX(s->lab->node_count, n->id);
    lab_start(s->lab, n->id);
}

static void do_down(struct script *s) { lab_crash(s->lab, node(s, 1)->id); }

static void do_campaign(struct script *s)
{
    lab_must(s->lab, node(s, 1)->id, (struct raft_event){ .type = RAFT_EV_CAMPAIGN });
    lab_work(s->lab, node(s, 1)->id);
    if (strcmp(s->words[0], "elect") == 0) lab_stabilize(s->lab);
}

static void do_tick(struct script *s)
{
    for (uint64_t left = number(s, 2); left != 0; left -= 10) {
        s->lab->now_ms += 10;
        for (uint64_t id = 1; id <= s->lab->node_count; id++) {
            if (is(s, 1, "all") || number(s, 1) == id) lab_tick(s->lab, id);
        }
    }
}

static void do_run(struct script *s) { lab_run(s->lab, (int64_t)number(s, 1)); }
static void do_work(struct script *s) { lab_work(s->lab, node(s, 1)->id); }
static void do_stabilize(struct script *s) { lab_stabilize(s->lab); }

/* [A>B] [TYPE] in either order. */
static bool packet_matches(const struct script *s, const struct lab_packet *p)
{
    for (size_t i = 1; i < s->word_count; i++) {
        unsigned from = 0;
        unsigned to = 0;
        if (sscanf(s->words[i], "%u>%u", &from, &to) == 2) {
            if (p->from != from || p->to != to) return false;
        } else if (strcmp(s->words[i], raft_msg_name(p->type)) != 0) {
            return false;
        }
    }
    return true;
}

static void do_deliver(struct script *s)
{
    bool drop = strcmp(s->words[0], "drop") == 0;
    size_t at = 0;
    for (size_t left = s->lab->net_count; left != 0; left--) { /* not what is sent meanwhile */
        if (!packet_matches(s, &s->lab->net[at])) {
            at++;
            continue;
        }
        struct lab_packet p = lab_net_take(s->lab, at);
        if (drop) {
            buf_deinit(&p.bytes);
        } else {
            lab_deliver(s->lab, &p);
        }
    }
    lab_work_all(s->lab);
}

static void do_cut(struct script *s)
{
    unsigned from = 0;
    unsigned to = 0;
    if (sscanf(word(s, 1), "%u>%u", &from, &to) == 2) {
        s->lab->cut[from][to] = true;
        return;
    }
    uint64_t id = number(s, 1);
    for (uint64_t other = 1; other <= LAB_NODES_MAX; other++) {
        if (other != id) s->lab->cut[id][other] = s->lab->cut[other][id] = true;
    }
}

static void do_heal(struct script *s) { memset(s->lab->cut, 0, sizeof s->lab->cut); }

static void do_disk(struct script *s)
{
    node(s, 1)->disk_held = is(s, 2, "hold");
    lab_work(s->lab, node(s, 1)->id);
}

static void do_persist(struct script *s)
{
    for (uint64_t i = 0; i < number_or(s, 2, 1); i++) lab_persist_one(s->lab, node(s, 1)->id);
    lab_work(s->lab, node(s, 1)->id);
}

static void do_propose(struct script *s)
{
    for (uint64_t i = 0; i < number_or(s, 3, 1); i++) {
        say_error(s, lab_propose(s->lab, node(s, 1)->id, slice_of(word(s, 2))));
        lab_work(s->lab, node(s, 1)->id);
    }
}

static void do_read(struct script *s)
{
    lab_read(s->lab, node(s, 1)->id);
    lab_work(s->lab, node(s, 1)->id);
}

static void do_transfer(struct script *s)
{
    struct raft_event ev = { .type = RAFT_EV_TRANSFER, .peer = number(s, 2) };
    say_error(s, lab_event(s->lab, node(s, 1)->id, ev));
    lab_work(s->lab, node(s, 1)->id);
}

static void do_snapshots(struct script *s)
{
    struct lab_node *n = node(s, 1);
    n->snapshots_held = is(s, 2, "hold");
    if (!n->snapshots_held && n->wish.peer != 0) lab_wish(s->lab, n, &n->wish);
    lab_work(s->lab, n->id);
}

static void do_member(struct script *s)
{
    struct lab_node *n = node(s, 1);
    uint64_t id = number(s, 2);
    struct raft_members m = *raft_members(n->r);
    bool voter = is(s, 0, "add") || is(s, 0, "promote");
    struct raft_member member = lab_member(id, voter ? RAFT_VOTER : RAFT_LEARNER);
    enum err err = is(s, 0, "remove") ? raft_members_remove(&m, id)
                                      : raft_members_put(&m, &member);
    assert_int_equal(err, OK);
    struct raft_event ev = { .type = RAFT_EV_PROPOSE_MEMBERS, .members = &m };
    say_error(s, lab_event(s->lab, n->id, ev));
    lab_work(s->lab, n->id);
}

static void do_compact(struct script *s)
{
    lab_compact(s->lab, node(s, 1)->id, number(s, 2));
}

static void do_trim(struct script *s)
{
    const struct lab_node *n = node(s, 1);
    raft_log_trim(n->r, n->applied - MIN(n->applied, number(s, 2)));
}

static void do_jump(struct script *s)
{
    s->lab->now_ms += (int64_t)number(s, 2);
    lab_tick(s->lab, node(s, 1)->id);
}

static void do_wipe(struct script *s)
{
    lab_log_cut(&node(s, 1)->log, 0);
    node(s, 1)->hard.commit = 0;
}

static const struct {
    const char *name;
    void (*run)(struct script *s);
} commands[] = {
    { "cluster", do_cluster }, { "hard", do_hard },       { "log", do_log },
    { "option", do_option },   { "up", do_up },           { "down", do_down },
    { "elect", do_campaign },  { "campaign", do_campaign }, { "tick", do_tick },
    { "run", do_run },         { "work", do_work },       { "stabilize", do_stabilize },
    { "deliver", do_deliver }, { "drop", do_deliver },    { "cut", do_cut },
    { "heal", do_heal },       { "disk", do_disk },       { "persist", do_persist },
    { "propose", do_propose }, { "read", do_read },       { "transfer", do_transfer },
    { "snapshots", do_snapshots }, { "add", do_member },  { "learner", do_member },
    { "promote", do_member },  { "demote", do_member },   { "remove", do_member },
    { "trim", do_trim },       { "jump", do_jump },
    { "compact", do_compact }, { "wipe", do_wipe },       { "state", print_state },
    { "logs", print_logs },    { "peers", print_peers },  { "net", print_net },
    { "disk-state", print_disk }, { "reads", print_reads },
};

static void run_line(struct script *s, char *text)
{
    char *comment = strchr(text, '#');
    if (comment != NULL) *comment = 0;
    char *rest = text;
    s->word_count = 0;
    for (char *w = strtok_r(rest, " ", &rest); w != NULL; w = strtok_r(rest, " ", &rest)) {
        assert_true(s->word_count < WORDS_MAX);
        s->words[s->word_count++] = w;
    }
    if (s->word_count == 0) return;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, s->words[0]) != 0) continue;
        commands[i].run(s);
        return;
    }
    fail_msg("%s:%zu: unknown command %s", s->file, s->line, s->words[0]);
}

/* --- files ----------------------------------------------------------------------------------- */

static void file_read(const char *path, struct buf *out)
{
    char chunk[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, f)) != 0;) buf_append(out, chunk, got);
    fclose(f);
    buf_append_u8(out, 0);
}

static void block_check(struct script *s, const struct buf *want)
{
    if (slice_eq(buf_slice(&s->out), buf_slice(want))) return;
    print_error("%s:%zu: expected\n%.*sgot\n%.*s", s->file, s->line, (int)want->len,
                (const char *)want->at, (int)s->out.len, (const char *)s->out.at);
    fail();
}

/* Runs the file; *blessed becomes the same file with the answers that were given. */
static void script_run(struct script *s, char *text, struct buf *blessed, bool bless)
{
    struct buf want = { 0 };
    bool answers = false;
    for (char *line = text; line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL) *end = 0;
        s->line++;
        bool blank = line[0] == 0;
        if (!answers || blank) {
            if (answers) {
                buf_append(blessed, s->out.at, s->out.len);
                if (!bless) block_check(s, &want);
                buf_clear(&want);
                buf_clear(&s->out);
            }
            if (!blank || end != NULL) buf_printf(blessed, "%s\n", line);
            answers = !blank && strcmp(line, "----") == 0;
            if (!answers && !blank) run_line(s, line);
        } else {
            buf_printf(&want, "%s\n", line);
        }
        line = end == NULL ? NULL : end + 1;
    }
    assert_false(answers); /* a file ends with a line break */
    buf_deinit(&want);
}

static void test_file(void **state)
{
    const char *path = *state;
    bool bless = getenv("RAFT_BLESS") != NULL;
    struct buf text = { 0 };
    struct buf blessed = { 0 };
    struct script s = { .file = path };
    file_read(path, &text);
    script_run(&s, (char *)text.at, &blessed, bless);
    if (bless) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(blessed.at, 1, blessed.len, f), blessed.len);
        fclose(f);
    }
    if (s.lab != NULL) lab_free(s.lab);
    buf_deinit(&s.out);
    buf_deinit(&text);
    buf_deinit(&blessed);
}

static int is_script(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 4 && strcmp(entry->d_name + len - 4, ".txt") == 0;
}

int main(void)
{
    struct dirent **names = NULL;
    int count = scandir(DATA_DIR, &names, is_script, alphasort);
    if (count <= 0) {
        fprintf(stderr, "no scenarios in %s; run from the top folder\n", DATA_DIR);
        return 1;
    }
    struct CMUnitTest *tests = mem_zalloc((size_t)count * sizeof *tests);
    char(*paths)[512] = mem_zalloc((size_t)count * sizeof *paths);
    for (int i = 0; i < count; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", DATA_DIR, names[i]->d_name);
        tests[i] = (struct CMUnitTest){ .name = paths[i], .test_func = test_file,
                                        .initial_state = paths[i] };
        free(names[i]);
    }
    free(names);
    int failed = _cmocka_run_group_tests("raft/text", tests, (size_t)count, NULL, NULL);
    mem_free(tests);
    mem_free(paths);
    return failed;
}
