/* cmd/cmd_stream.c - XREAD and KV READ: events from a revision on, answered once. The streams are not
 * stored: `__watch__:<prefix>` is the history of a prefix, an id `<rev>-<n>` a place in it.
 *
 * A reader passes over its streams one after the other, up to the revision there was when the pass
 * began: from memory where the rows are there, else by a worker. If nothing was found it passes over
 * what came in the meantime, and then waits in the hub's set, in the same call: no gap. All streams
 * together fill one reply: those behind the one that filled it are left out, and their turn comes in a
 * later call. */
#include "cmd/cmd_hub_int.h"

#include <stdio.h>

struct stream_source {
    struct listener listener; /* first */
    struct stream_reader *reader;
    struct hub_range range;
    struct slice name;      /* in the reader's text */
    uint64_t given_rev;     /* where the reader asked to begin */
    uint64_t skip_n;        /* of given_rev: events up to this one were seen */
    uint64_t next_rev;
    struct buf entries;     /* encoded */
    uint64_t entry_count;
};

struct stream_reader {
    struct cmd_hub *hub;
    struct stream_reader *next_ready;
    bool is_ready;
    bool is_kv;      /* KV READ, else XREAD */
    bool with_prev;  /* KV READ PREVKV */
    bool blocks;     /* BLOCK was given */
    bool for_ever;   /* BLOCK 0 */
    bool timed_out;
    bool is_waiting; /* the sources are in the set */
    bool is_reading; /* a history read is under way */
    bool is_gone;    /* the client is; freed when the read is back */
    uint8_t proto;
    uint64_t count_max;
    uint64_t wake_rev; /* of the event that ended the wait */
    int64_t block_ms;
    uint64_t to_rev;   /* of this pass */
    size_t at;         /* source that is being read */
    size_t entry_bytes; /* of all sources: a reply is bounded, not a stream */
    uint64_t large_rev; /* more events than a reply may have; 0: none */
    struct hub_scan scan;
    uint64_t client_handle;
    uint8_t *text;     /* names */
    size_t source_count;
    struct stream_source sources[];
};

/* --- ids and names ------------------------------------------------------------------------ */

bool hub_id_parse(struct slice arg, uint64_t *rev, uint64_t *n, bool *has_n)
{
    size_t dash = 0;
    while (dash < arg.len && arg.at[dash] != '-') dash++;
    *has_n = dash < arg.len;
    *n = 0;
    if (arg_u64((struct slice){ arg.at, dash }, rev) != OK || *rev >= INT64_MAX) return false;
    return !*has_n || u64_parse((struct slice){ arg.at + dash + 1, arg.len - dash - 1 }, n) == OK;
}

void hub_reply_not_a_stream(struct reply *r, struct slice key)
{
    reply_error(r, "ERR", "'%.*s' is not a watch stream", (int)MIN(key.len, 128), (const char *)key.at);
}

/* --- a reader's life ------------------------------------------------------------------------ */

static struct stream_reader *reader_new(struct cmd_ctx *cx, size_t source_count)
{
    struct stream_reader *rd = mem_zalloc(sizeof *rd + source_count * sizeof rd->sources[0]);
    rd->hub = cx->env->hub;
    rd->proto = cx->client->proto;
    rd->source_count = source_count;
    rd->count_max = HUB_STREAM_ENTRIES;
    for (size_t i = 0; i < source_count; i++) {
        rd->sources[i].reader = rd;
        rd->sources[i].listener.kind = LISTENER_READER;
    }
    return rd;
}

static void wait_end(struct stream_reader *rd)
{
    struct cmd_hub *hub = rd->hub;
    if (rd->is_ready) {
        struct stream_reader **at = &hub->ready;
        while (*at != rd) at = &(*at)->next_ready;
        *at = rd->next_ready;
        rd->is_ready = false;
    }
    if (!rd->is_waiting) return;
    rd->is_waiting = false;
    for (size_t i = 0; i < rd->source_count; i++) hub_unlisten(hub, hub->live, &rd->sources[i].listener);
}

static void reader_free(struct stream_reader *rd)
{
    wait_end(rd);
    for (size_t i = 0; i < rd->source_count; i++) {
        hub_range_deinit(&rd->sources[i].range);
        buf_deinit(&rd->sources[i].entries);
    }
    mem_free(rd->text);
    mem_free(rd);
}

static void reader_cleanup(struct stream_reader **rd)
{
    if (*rd != NULL) reader_free(*rd);
}

/* --- replies ------------------------------------------------------------------------------------ */

static uint64_t now_rev(const struct stream_reader *rd)
{
    return mvcc_rev(state_mvcc(node_state(rd->hub->env->node)));
}

static void reply_kv_read(struct stream_reader *rd, struct reply *r)
{
    const struct stream_source *s = &rd->sources[0];
    reply_map(r, 2);
    reply_bulk_cstr(r, "next");
    reply_int(r, (int64_t)s->next_rev);
    reply_bulk_cstr(r, "events");
    reply_array(r, s->entry_count);
    reply_raw(r, buf_slice(&s->entries));
}

static void reply_xread(struct stream_reader *rd, struct reply *r)
{
    size_t count = 0;
    for (size_t i = 0; i < rd->source_count; i++) count += rd->sources[i].entry_count > 0;
    if (count == 0) {
        reply_null_array(r);
        return;
    }
    if (r->proto >= 3) reply_map(r, count);
    else reply_array(r, count);
    for (size_t i = 0; i < rd->source_count; i++) {
        const struct stream_source *s = &rd->sources[i];
        if (s->entry_count == 0) continue;
        if (r->proto < 3) reply_array(r, 2);
        reply_bulk(r, s->name);
        reply_array(r, s->entry_count);
        reply_raw(r, buf_slice(&s->entries));
    }
}

static void reader_reply(struct stream_reader *rd, struct reply *r)
{
    if (rd->large_rev != 0) {
        reply_error(r, "ERR", "the events of revision %llu are too many for one reply; use XRANGE with COUNT",
                    (unsigned long long)rd->large_rev);
    } else if (rd->is_kv) {
        reply_kv_read(rd, r);
    } else {
        reply_xread(rd, r);
    }
}

/* The wait was in vain. An XREAD that began far behind, or has waited for long, is told how far it
 * may go on from: its id must not be compacted away while nothing happens in its keys. */
static void timeout_entries(struct stream_reader *rd)
{
    uint64_t rev = now_rev(rd);
    for (size_t i = 0; i < rd->source_count && !rd->is_kv && rd->blocks; i++) {
        struct stream_source *s = &rd->sources[i];
        bool far = s->given_rev + HUB_IDLE_REVS < rev;
        if (s->given_rev > rev + 1 || (!far && !rd->for_ever)) continue;
        hub_encode_progress_entry(&s->entries, rev + 1);
        s->entry_count++;
    }
}

static uint64_t entry_count(const struct stream_reader *rd)
{
    uint64_t count = 0;
    for (size_t i = 0; i < rd->source_count; i++) count += rd->sources[i].entry_count;
    return count;
}

/* --- passes ----------------------------------------------------------------------------------------- */

/* Ends well below what is too much, so that many revisions never are: it takes a single one. */
static bool source_is_full(const struct stream_source *s)
{
    const struct stream_reader *rd = s->reader;
    const struct cmd_limits *limits = &rd->hub->env->limits;
    size_t bytes_max = MIN(limits->reply_bytes_max, limits->output_bytes_max / 4);
    return s->entry_count >= rd->count_max || rd->entry_bytes >= bytes_max;
}

static bool take_entry(void *ctx, const struct store_item *item)
{
    struct stream_source *s = ctx;
    struct stream_reader *rd = s->reader;
    if (item->row.rev == s->given_rev && item->row.n <= s->skip_n) return true;
    if (rd->large_rev != 0) return false;
    struct hub_event e;
    hub_event_of_item(item, &e);
    size_t bytes_before = s->entries.len;
    if (rd->is_kv) hub_encode_map(&s->entries, &e, rd->with_prev, rd->proto);
    else hub_encode_entry(&s->entries, &e);
    rd->entry_bytes += s->entries.len - bytes_before;
    s->entry_count++;
    if (rd->entry_bytes > rd->hub->env->limits.output_bytes_max / 2) rd->large_rev = item->row.rev;
    return !source_is_full(s);
}

enum pass { PASS_DONE, PASS_HISTORY, PASS_COMPACTED };
enum finish { FINISH_REPLY, FINISH_COMPACTED, FINISH_LEADERLESS, FINISH_DIVERGED };

/* Goes on with the pass as far as memory reaches. PASS_HISTORY: rd->scan is to be read. */
static enum pass reader_pass(struct stream_reader *rd)
{
    int64_t budget = HUB_TURN_ROWS;
    for (; rd->at < rd->source_count; rd->at++) {
        struct stream_source *s = &rd->sources[rd->at];
        if (source_is_full(s)) continue;
        rd->scan = (struct hub_scan){ .start = s->range.start, .end = s->range.end,
                                      .with_prev = rd->with_prev, .next_rev = s->next_rev,
                                      .to_rev = rd->to_rev };
        enum hub_scan_end end = hub_scan_memory(rd->hub, &rd->scan, &budget, take_entry, s);
        s->next_rev = rd->scan.next_rev;
        if (end == SCAN_COMPACTED) return PASS_COMPACTED;
        if (end == SCAN_HISTORY || (end == SCAN_FULL && !source_is_full(s))) return PASS_HISTORY;
    }
    return PASS_DONE;
}

static void pass_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data);

/* Writes the reply, the client goes on, the reader is gone. */
static void reader_finish(struct stream_reader *rd, struct client *c, enum finish finish)
{
    struct reply r = client_reply(rd->hub->env, c);
    switch (finish) {
    case FINISH_REPLY: reader_reply(rd, &r); break;
    case FINISH_COMPACTED: hub_reply_compacted(rd->hub, &r, rd->sources[rd->at].next_rev); break;
    case FINISH_LEADERLESS: reply_err(&r, ERR_CLUSTERDOWN); break;
    case FINISH_DIVERGED: reply_err(&r, ERR_DIVERGED); break;
    }
    struct cmd_env *env = rd->hub->env;
    env->stats.errors += r.error_count;
    reader_free(rd);
    client_unblock(env, c);
}

static void reader_wait(struct stream_reader *rd, struct client *c)
{
    ASSERT(!rd->is_waiting && rd->to_rev == now_rev(rd));
    rd->is_waiting = true;
    for (size_t i = 0; i < rd->source_count; i++) {
        struct stream_source *s = &rd->sources[i];
        hub_listen(rd->hub, rd->hub->live, &s->listener, &s->range);
    }
    client_wait_events(rd->hub->env, c);
}

/* The client is blocked. Goes on until there is something to say, to read, or to wait for. */
static void reader_go_on(struct stream_reader *rd, struct client *c)
{
    for (;;) {
        enum pass pass = reader_pass(rd);
        if (pass == PASS_HISTORY) {
            const struct stream_source *s = &rd->sources[rd->at];
            rd->is_reading = true;
            hub_read_start(rd->hub, c->handle, &rd->scan,
                           MIN(rd->count_max - s->entry_count, HUB_CHUNK_EVENTS), pass_read, rd);
            return;
        }
        if (pass == PASS_COMPACTED || entry_count(rd) > 0) {
            reader_finish(rd, c, pass == PASS_COMPACTED ? FINISH_COMPACTED : FINISH_REPLY);
            return;
        }
        if (rd->to_rev == now_rev(rd)) break;
        rd->at = 0;
        rd->to_rev = now_rev(rd);
    }
    if (rd->blocks && !rd->timed_out && hub_is_leaderless(rd->hub)) {
        reader_finish(rd, c, FINISH_LEADERLESS);
    } else if (rd->blocks && !rd->timed_out) {
        reader_wait(rd, c);
    } else {
        timeout_entries(rd);
        reader_finish(rd, c, FINISH_REPLY);
    }
}

static void pass_read(struct cmd_env *env, struct client *c, const struct store_read *read, void *data)
{
    struct stream_reader *rd = data;
    rd->is_reading = false;
    if (rd->is_gone) {
        reader_free(rd);
        return;
    }
    if (c == NULL || read == NULL) return; /* it is closing: reader_cancel comes */
    if (node_read_check(env->node) != OK) {
        reader_finish(rd, c, FINISH_DIVERGED);
        return;
    }
    struct stream_source *s = &rd->sources[rd->at];
    enum hub_scan_end end = hub_read_take(rd->hub, read, &rd->scan, take_entry, s);
    s->next_rev = rd->scan.next_rev;
    if (end == SCAN_COMPACTED) {
        reader_finish(rd, c, FINISH_COMPACTED);
    } else {
        reader_go_on(rd, c);
    }
}

static void reader_timeout(struct cmd_env *env, struct client *c)
{
    struct stream_reader *rd = c->block->data;
    (void)env;
    rd->timed_out = true;
    if (rd->is_reading || rd->is_ready) return; /* answers when the read is back, or in this turn */
    if (!rd->is_waiting) return; /* it is closing */
    wait_end(rd);
    rd->sources[0].next_rev = MAX(rd->sources[0].next_rev, now_rev(rd) + 1); /* nothing came */
    timeout_entries(rd);
    reader_finish(rd, c, FINISH_REPLY);
}

static void reader_cancel(struct cmd_env *env, struct client *c)
{
    struct stream_reader *rd = c->block->data;
    (void)env;
    if (rd->is_reading) {
        rd->is_gone = true;
    } else {
        reader_free(rd);
    }
}

/* --- waking ----------------------------------------------------------------------------------------- */

static void reader_wake(struct stream_reader *rd, uint64_t rev)
{
    if (rd->is_ready) return;
    rd->is_ready = true;
    rd->wake_rev = rev;
    rd->next_ready = rd->hub->ready;
    rd->hub->ready = rd;
}

void hub_reader_event(struct cmd_hub *hub, struct listener *l, const struct mvcc_event *ev)
{
    struct stream_source *s = CONTAINER_OF(l, struct stream_source, listener);
    (void)hub;
    if (ev->rev >= s->next_rev) reader_wake(s->reader, ev->rev);
}

/* NULL: the client waits for nothing of the kind. */
static struct stream_reader *reader_of(const struct client *c)
{
    if (!c->blocked || c->block->timeout != reader_timeout || c->closing) return NULL;
    struct stream_reader *rd = c->block->data;
    return rd->is_waiting ? rd : NULL;
}

/* What there is behind old_rev came without events: it has to look. */
void hub_reader_replaced(struct cmd_hub *hub, struct client *c, uint64_t old_rev)
{
    struct stream_reader *rd = reader_of(c);
    (void)hub;
    if (rd != NULL) reader_wake(rd, old_rev + 1);
}

/* One that is to be told of an event in this turn gets that, if the event is the group's. */
void hub_reader_refuse(struct cmd_hub *hub, struct client *c, enum err why)
{
    struct stream_reader *rd = reader_of(c);
    bool diverged = why == ERR_DIVERGED;
    (void)hub;
    if (rd == NULL || (rd->is_ready && !diverged)) return;
    reader_finish(rd, c, diverged ? FINISH_DIVERGED : FINISH_LEADERLESS);
}

/* All sources were waiting, so none has missed anything before wake_rev. */
void hub_reader_turn(struct cmd_hub *hub)
{
    while (hub->ready != NULL) {
        struct stream_reader *rd = hub->ready;
        struct client *c = client_find(hub->env, rd->client_handle);
        ASSERT(c != NULL && c->blocked && c->block->data == rd); /* reader_cancel ends the wait */
        wait_end(rd);
        if (c->closing) continue;
        client_wait_events_end(c);
        for (size_t i = 0; i < rd->source_count; i++) {
            struct stream_source *s = &rd->sources[i];
            s->next_rev = MAX(s->next_rev, rd->wake_rev);
        }
        rd->at = 0;
        rd->to_rev = now_rev(rd);
        reader_go_on(rd, c);
    }
}

/* --- starting ------------------------------------------------------------------------------------------ */

/* Answers at once if memory has something or nothing is to be waited for, else blocks the client. */
static void reader_start(struct cmd_ctx *cx, struct stream_reader *rd)
{
    rd->to_rev = now_rev(rd);
    enum pass pass = reader_pass(rd);
    if (pass == PASS_COMPACTED) {
        hub_reply_compacted(rd->hub, cx->reply, rd->sources[rd->at].next_rev);
        reader_free(rd);
        return;
    }
    bool waits = pass == PASS_HISTORY || (entry_count(rd) == 0 && rd->blocks);
    if (!waits || cx->mode != CMD_MODE_NORMAL) {
        reader_reply(rd, cx->reply);
        reader_free(rd);
        return;
    }
    int64_t until_ms = INT64_MAX;
    if (rd->blocks) {
        rd->for_ever = rd->block_ms == 0;
        int64_t block_ms = rd->for_ever ? HUB_BLOCK_MS_MAX : rd->block_ms;
        until_ms = block_ms > INT64_MAX - cx->env->now_ms ? INT64_MAX : cx->env->now_ms + block_ms;
    }
    rd->client_handle = cx->client->handle;
    client_block(cx->env, cx->client, until_ms, reader_timeout, reader_cancel, rd);
    reader_go_on(rd, cx->client);
}

/* --- XREAD ------------------------------------------------------------------------------------------------ */

static enum err xread_find_keys(size_t argc, const struct slice *argv,
                                void (*each)(void *ctx, size_t place), void *ctx)
{
    for (size_t i = 1; i < argc; i++) {
        if (arg_is(argv[i], "COUNT") || arg_is(argv[i], "BLOCK")) {
            i++;
        } else if (arg_is(argv[i], "STREAMS")) {
            for (size_t key = i + 1; key < i + 1 + (argc - i - 1) / 2; key++) each(ctx, key);
            return OK;
        } else {
            return ERR_SYNTAX;
        }
    }
    return ERR_SYNTAX;
}

/* Only what begins at $ never needs history. */
static bool xread_leaves(size_t argc, const struct slice *argv)
{
    size_t streams = 1;
    while (streams < argc && !arg_is(argv[streams], "STREAMS")) streams++;
    for (size_t i = streams + 1 + (argc - MIN(argc, streams + 1)) / 2; i < argc; i++) {
        if (!slice_eq(argv[i], SLICE_LIT("$"))) return true;
    }
    return false;
}

struct xread_args {
    size_t streams; /* place of the first key */
    bool blocks;
    int64_t block_ms;
    uint64_t count;
};

/* False: refused, with the error written. */
static bool xread_block(struct cmd_ctx *cx, struct slice arg, struct xread_args *a)
{
    a->blocks = true;
    if (arg_i64(arg, &a->block_ms) != OK) {
        reply_error(cx->reply, "ERR", "timeout is not an integer or out of range");
        return false;
    }
    if (a->block_ms < 0) {
        reply_error(cx->reply, "ERR", "timeout is negative");
        return false;
    }
    return true;
}

static enum err xread_parse(struct cmd_ctx *cx, struct xread_args *a, bool *refused)
{
    for (size_t i = 1; i < cx->argc; i++) {
        if (arg_is(cx->argv[i], "STREAMS")) {
            a->streams = i + 1;
            break;
        }
        if (i + 1 >= cx->argc) return ERR_SYNTAX;
        if (arg_is(cx->argv[i], "COUNT")) {
            int64_t count = 0;
            TRY(arg_i64(cx->argv[++i], &count));
            a->count = count > 0 ? (uint64_t)count : 0;
        } else if (arg_is(cx->argv[i], "BLOCK")) {
            *refused = !xread_block(cx, cx->argv[++i], a);
            if (*refused) return OK;
        } else {
            return ERR_SYNTAX;
        }
    }
    if (a->streams == 0 || a->streams >= cx->argc) return ERR_SYNTAX;
    *refused = (cx->argc - a->streams) % 2 != 0;
    if (*refused) {
        reply_error(cx->reply, "ERR", "Unbalanced 'xread' list of streams: for each stream key an ID or "
                    "'$' must be specified.");
    }
    return OK;
}

/* `r-n` from us means that r was delivered whole: if r itself is compacted, what follows is not.
 * False: refused, with the error written. */
static bool source_begin(struct cmd_ctx *cx, struct stream_source *s, struct slice id)
{
    const struct mvcc *m = state_mvcc(cx->view.state);
    uint64_t oldest_rev = MAX(mvcc_compacted(m), 1);
    bool has_n = false;
    if (slice_eq(id, SLICE_LIT("$"))) {
        s->given_rev = mvcc_rev(m) + 1;
    } else if (!hub_id_parse(id, &s->given_rev, &s->skip_n, &has_n)) {
        reply_error(cx->reply, "ERR", "Invalid stream ID specified as stream command argument");
        return false;
    } else if (s->given_rev == 0) {
        s->given_rev = oldest_rev;
        s->skip_n = 0;
    } else if (s->skip_n > 0 && s->given_rev + 1 == oldest_rev) {
        s->given_rev = oldest_rev;
        s->skip_n = 0;
    }
    s->next_rev = s->given_rev;
    if (s->given_rev >= oldest_rev) return true;
    hub_reply_compacted(cx->env->hub, cx->reply, s->given_rev);
    return false;
}

/* False: refused, with the error written. */
static bool sources_begin(struct cmd_ctx *cx, struct stream_reader *rd, size_t first)
{
    size_t text_bytes = 0;
    for (size_t i = 0; i < rd->source_count; i++) text_bytes += cx->argv[first + i].len;
    rd->text = mem_alloc(text_bytes + 1);
    uint8_t *text = rd->text;
    for (size_t i = 0; i < rd->source_count; i++) {
        struct slice key = cx->argv[first + i];
        struct stream_source *s = &rd->sources[i];
        struct hub_name name;
        if (!hub_name_parse(key, cx->db, &name)) {
            hub_reply_not_a_stream(cx->reply, key);
            return false;
        }
        hub_name_range(&name, &s->range);
        memcpy(text, key.at, key.len);
        s->name = (struct slice){ text, key.len };
        text += key.len;
        if (!source_begin(cx, s, cx->argv[first + rd->source_count + i])) return false;
    }
    return true;
}

static enum err cmd_xread(struct cmd_ctx *cx)
{
    struct xread_args a = { .streams = 0 };
    bool refused = false;
    TRY(xread_parse(cx, &a, &refused));
    if (refused) return OK;
    struct stream_reader *rd CLEANUP(reader_cleanup) = reader_new(cx, (cx->argc - a.streams) / 2);
    rd->blocks = a.blocks;
    rd->block_ms = a.block_ms;
    if (a.count > 0) rd->count_max = a.count;
    if (!sources_begin(cx, rd, a.streams)) return OK;
    struct stream_reader *started = rd;
    rd = NULL; /* its own now */
    reader_start(cx, started);
    return OK;
}

/* --- KV READ ------------------------------------------------------------------------------------------------ */

static enum err kv_read_option(struct cmd_ctx *cx, size_t *at, struct stream_reader *rd, bool *has_from)
{
    struct slice word = cx->argv[*at];
    if (arg_is(word, "PREVKV")) {
        rd->with_prev = true;
        return OK;
    }
    if (++*at >= cx->argc) return ERR_SYNTAX;
    struct slice value = cx->argv[*at];
    if (arg_is(word, "FROM")) {
        *has_from = true;
        TRY(arg_u64(value, &rd->sources[0].given_rev));
        return rd->sources[0].given_rev <= HUB_WATCH_ID_MAX ? OK : ERR_NOT_INT;
    }
    if (arg_is(word, "COUNT")) {
        TRY(arg_u64(value, &rd->count_max));
        return rd->count_max > 0 ? OK : ERR_NOT_INT;
    }
    if (!arg_is(word, "BLOCK")) return ERR_SYNTAX;
    rd->blocks = true;
    return arg_ms(value, &rd->block_ms);
}

enum err cmd_kv_read(struct cmd_ctx *cx)
{
    struct stream_reader *rd CLEANUP(reader_cleanup) = reader_new(cx, 1);
    struct cmd_range range CLEANUP(cmd_range_deinit) = { .bytes = { 0 } };
    bool has_from = false;
    size_t at = 2;
    rd->is_kv = true;
    TRY(cmd_range_parse(cx->env, cx->db, cx->argc, cx->argv, &at, &range));
    for (; at < cx->argc; at++) TRY(kv_read_option(cx, &at, rd, &has_from));
    if (!has_from) return ERR_SYNTAX;
    struct stream_source *s = &rd->sources[0];
    hub_range_copy(&s->range, &range);
    if (s->given_rev < mvcc_compacted(state_mvcc(cx->view.state))) {
        hub_reply_compacted(cx->env->hub, cx->reply, s->given_rev);
        return OK;
    }
    s->given_rev = MAX(s->given_rev, 1);
    s->next_rev = s->given_rev;
    struct stream_reader *started = rd;
    rd = NULL; /* its own now */
    reader_start(cx, started);
    return OK;
}

/* --- XINFO ---------------------------------------------------------------------------------------------------- */

/* A virtual stream has no length. last-generated-id is what `$` is: behind everything there is. */
static enum err cmd_xinfo_stream(struct cmd_ctx *cx)
{
    struct hub_name name;
    if (cx->argc > 3) return ERR_SYNTAX;
    if (!hub_name_parse(cx->argv[2], cx->db, &name)) {
        hub_reply_not_a_stream(cx->reply, cx->argv[2]);
        return OK;
    }
    const struct mvcc *m = state_mvcc(cx->view.state);
    char id[32];
    struct reply *r = cx->reply;
    reply_map(r, 7);
    reply_bulk_cstr(r, "revision");
    reply_int(r, (int64_t)mvcc_rev(m));
    reply_bulk_cstr(r, "compacted");
    reply_int(r, (int64_t)mvcc_compacted(m));
    reply_bulk_cstr(r, "last-generated-id");
    snprintf(id, sizeof id, "%llu-0", (unsigned long long)mvcc_rev(m) + 1);
    reply_bulk_cstr(r, id);
    reply_bulk_cstr(r, "recorded-first-entry-id");
    snprintf(id, sizeof id, "%llu-0", (unsigned long long)MAX(mvcc_compacted(m), 1));
    reply_bulk_cstr(r, id);
    reply_bulk_cstr(r, "groups");
    reply_int(r, 0);
    reply_bulk_cstr(r, "first-entry");
    reply_null(r);
    reply_bulk_cstr(r, "last-entry");
    reply_null(r);
    return OK;
}

static enum err cmd_xinfo_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "xinfo");
    return OK;
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

bool hub_always_leaves(size_t argc, const struct slice *argv)
{
    (void)argc;
    (void)argv;
    return true;
}

const struct cmd_def cmd_stream_defs[] = {
    { .name = "xread", .run = cmd_xread, .arity = -4,
      .flags = CMD_READ | CMD_DRAIN | CMD_BLOCKING | CMD_MOVABLE_KEYS, .find_keys = xread_find_keys,
      .leaves_turn = xread_leaves, .group = GROUP_STREAM, .since = "5.0.0",
      .args = "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
      .summary = "Reads watch streams from an id on, waiting for the first event if asked to." },
    { .name = "xrange", .run = cmd_xrange, .arity = -4, .flags = CMD_READ | CMD_DRAIN, .keys = { 1, 1, 1 },
      .leaves_turn = hub_always_leaves, .group = GROUP_STREAM, .since = "5.0.0",
      .args = "key start end [COUNT count]", .summary = "Returns the events of a watch stream between two ids." },
    { .name = "xrevrange", .run = cmd_xrevrange, .arity = -4, .flags = CMD_READ | CMD_DRAIN, .keys = { 1, 1, 1 },
      .leaves_turn = hub_always_leaves, .group = GROUP_STREAM, .since = "5.0.0",
      .args = "key end start [COUNT count]",
      .summary = "Returns the events of a watch stream between two ids, newest first." },
    { .name = "xinfo", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_STREAM, .since = "5.0.0",
      .args = "", .summary = "A container for commands about streams." },
    { .name = "xinfo|stream", .run = cmd_xinfo_stream, .arity = -3, .flags = CMD_READ | CMD_FAST,
      .keys = { 2, 2, 1 }, .group = GROUP_STREAM, .since = "5.0.0", .args = "key",
      .summary = "Shows from which id on a watch stream can be read." },
    { .name = "xinfo|help", .run = cmd_xinfo_help, .arity = 2, .flags = CMD_CONN | CMD_FAST,
      .group = GROUP_STREAM, .since = "5.0.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
