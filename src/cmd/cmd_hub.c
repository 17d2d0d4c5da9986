/* cmd/cmd_hub.c - the hub: an event comes in once and goes to everybody who listens. */
#include "cmd/cmd_hub_int.h"

/* --- life ----------------------------------------------------------------------------------- */

struct cmd_hub *cmd_hub_new(struct cmd_env *env)
{
    struct cmd_hub *hub = mem_zalloc(sizeof *hub);
    hub->env = env;
    hub->seed = bytes_hash(env->info.run_id, sizeof env->info.run_id, 0);
    hub->live = watch_set_new(hub->seed);
    hub->live_prev = watch_set_new(hub->seed);
    return hub;
}

void cmd_hub_free(struct cmd_hub *hub)
{
    if (hub == NULL) return;
    ASSERT(hub->listener_count == 0);
    ASSERT(hub->behind.count == 0 && hub->parked.count == 0 && hub->queued.count == 0);
    hub_pubsub_free(hub);
    watch_set_free(hub->live);
    watch_set_free(hub->live_prev);
    watch_timers_deinit(&hub->timers);
    for (size_t i = 0; i < TAIL_VARIANTS; i++) {
        buf_deinit(&hub->tails[i].bytes);
        blob_unref(hub->tails[i].blob);
    }
    buf_deinit(&hub->json);
    buf_deinit(&hub->name);
    buf_deinit(&hub->frame);
    mem_free(hub);
}

void cmd_hub_client_gone(struct cmd_hub *hub, struct client *c)
{
    hub_watch_gone(hub, c);
    hub_pubsub_gone(hub, c);
}

/* --- peers -------------------------------------------------------------------------------------- */

void hub_touch(struct cmd_hub *hub, struct hub_peer *peer)
{
    if (peer->touched) return;
    peer->touched = true;
    peer->next_touched = hub->touched;
    hub->touched = peer;
}

void hub_flooded(struct cmd_hub *hub, const struct hub_peer *peer)
{
    if (!MUTANT(FLOODED_LIVES_ON)) client_close(hub->env, peer->client, false);
}

void hub_peer_drop(struct cmd_hub *hub, struct hub_peer *peer)
{
    if (!peer->touched) return;
    client_wrote(hub->env, peer->client); /* RESET, UNWATCH: what was pushed before still goes */
    struct hub_peer **at = &hub->touched;
    while (*at != peer) at = &(*at)->next_touched;
    *at = peer->next_touched;
    peer->touched = false;
}

static void touched_send(struct cmd_hub *hub)
{
    while (hub->touched != NULL) {
        struct hub_peer *peer = hub->touched;
        hub->touched = peer->next_touched;
        peer->touched = false;
        client_wrote(hub->env, peer->client);
    }
}

/* --- ranges, names, listeners ---------------------------------------------------------------------- */

void hub_range_copy(struct hub_range *out, const struct cmd_range *from)
{
    out->kind = from->single ? WATCH_KEY : from->prefix ? WATCH_PREFIX : WATCH_RANGE;
    out->bytes = mem_alloc(from->start.len + from->end.len);
    memcpy(out->bytes, from->start.at, from->start.len);
    memcpy(out->bytes + from->start.len, from->end.at, from->end.len);
    out->start = (struct slice){ out->bytes, from->start.len };
    out->end = (struct slice){ out->bytes + from->start.len, from->end.len };
}

void hub_range_deinit(struct hub_range *r)
{
    mem_free(r->bytes);
    *r = (struct hub_range){ .bytes = NULL };
}

/* `@<db>` at the front of *rest; true also if there is none. */
static bool name_db(struct slice *rest, struct hub_name *out)
{
    if (rest->len == 0 || rest->at[0] != '@') return true;
    size_t digits = 1;
    while (digits < rest->len && rest->at[digits] >= '0' && rest->at[digits] <= '9') digits++;
    uint64_t db = 0;
    if (u64_parse((struct slice){ rest->at + 1, digits - 1 }, &db) != OK || db >= CMD_DATABASES) return false;
    out->db = (uint8_t)db;
    out->has_db = true;
    rest->at += digits;
    rest->len -= digits;
    return true;
}

bool hub_name_parse(struct slice name, uint8_t default_db, struct hub_name *out)
{
    static const struct slice key_word = SLICE_LIT("__watchkey");
    static const struct slice word = SLICE_LIT("__watch");
    static const struct slice behind = SLICE_LIT("__:");
    *out = (struct hub_name){ .db = default_db, .is_key = slice_starts(name, key_word) };
    if (!out->is_key && !slice_starts(name, word)) return false;
    size_t skip = out->is_key ? key_word.len : word.len;
    struct slice rest = { name.at + skip, name.len - skip };
    if (!name_db(&rest, out) || !slice_starts(rest, behind)) return false;
    out->rest = (struct slice){ rest.at + behind.len, rest.len - behind.len };
    return out->rest.len < MVCC_KEY_BYTES_MAX - 1;
}

void hub_name_range(const struct hub_name *n, struct hub_range *out)
{
    struct cmd_range r = { .bytes = { 0 } };
    if (!n->is_key) {
        cmd_range_prefix(n->db, n->rest, &r);
    } else {
        buf_append_u8(&r.bytes, n->db);
        buf_append_slice(&r.bytes, n->rest);
        buf_append_u8(&r.bytes, n->db);
        buf_append_slice(&r.bytes, n->rest);
        buf_append_u8(&r.bytes, 0);
        r.single = true;
        r.start = (struct slice){ r.bytes.at, n->rest.len + 1 };
        r.end = (struct slice){ r.bytes.at + n->rest.len + 1, n->rest.len + 2 };
    }
    hub_range_copy(out, &r);
    cmd_range_deinit(&r);
}

void hub_listen(struct cmd_hub *hub, struct watch_set *set, struct listener *l, const struct hub_range *r)
{
    watch_add(set, &l->watcher, r->kind, r->start, r->end);
    hub->listener_count++;
}

void hub_unlisten(struct cmd_hub *hub, struct watch_set *set, struct listener *l)
{
    watch_remove(set, &l->watcher);
    hub->listener_count--;
}

/* --- events ------------------------------------------------------------------------------------------ */

struct delivery {
    struct cmd_hub *hub;
    const struct mvcc_event *ev;
};

static bool deliver(void *ctx, struct watcher *w)
{
    struct delivery *d = ctx;
    struct listener *l = CONTAINER_OF(w, struct listener, watcher);
    switch (l->kind) {
    case LISTENER_WATCH: hub_watch_event(d->hub, l, d->ev); break;
    case LISTENER_READER: hub_reader_event(d->hub, l, d->ev); break;
    case LISTENER_TOPIC: hub_topic_event(d->hub, l, d->ev); break;
    }
    return false;
}

static bool found_one(void *ctx, struct watcher *w)
{
    (void)ctx;
    (void)w;
    return true;
}

bool cmd_hub_wants_prev(struct cmd_hub *hub, struct slice key)
{
    if (LIKELY(watch_count(hub->live_prev) == 0)) return false;
    return watch_match(hub->live_prev, key, found_one, NULL);
}

static void tails_reset(struct cmd_hub *hub)
{
    for (size_t i = 0; i < TAIL_VARIANTS; i++) {
        struct hub_tail *tail = &hub->tails[i];
        if (!tail->ready) continue;
        tail->ready = false;
        blob_unref(tail->blob);
        tail->blob = NULL;
    }
    hub->json_ready = false;
}

void cmd_hub_event(struct cmd_hub *hub, const struct mvcc_event *ev)
{
    if (LIKELY(hub->listener_count == 0)) return;
    struct delivery d = { hub, ev };
    watch_match(hub->live, ev->key, deliver, &d);
    watch_match(hub->live_prev, ev->key, deliver, &d);
    hub_watch_event_end(hub, ev);
    if (hub->subscription_count > 0) hub_notify_event(hub, ev);
    tails_reset(hub);
}

void cmd_hub_life(struct cmd_hub *hub, struct slice key, const char *what)
{
    if (LIKELY(hub->subscription_count == 0)) return;
    hub_notify_life(hub, key, what);
}

/* --- a gap in the events, or nobody to tell them ---------------------------------------------------------- */

bool hub_is_leaderless(const struct cmd_hub *hub)
{
    return UNLIKELY(hub->is_leaderless) && raft_leader(node_raft(hub->env->node)) == 0;
}

struct gap {
    struct cmd_hub *hub;
    uint64_t old_rev, new_rev;
};

static void replaced_for(void *ctx, struct client *c)
{
    const struct gap *gap = ctx;
    hub_watch_replaced(gap->hub, c, gap->old_rev, gap->new_rev);
    hub_reader_replaced(gap->hub, c, gap->old_rev);
}

/* Channels cannot be resumed: who subscribes to __watch@ or notifications misses the gap. */
void cmd_hub_replaced(struct cmd_hub *hub, uint64_t old_rev, uint64_t new_rev)
{
    ASSERT(old_rev <= new_rev && hub->demoted == NULL);
    if (old_rev == new_rev || hub->listener_count == 0) return;
    struct gap gap = { hub, old_rev, new_rev };
    client_each(hub->env, replaced_for, &gap);
}

static void leaderless_for(void *ctx, struct client *c)
{
    struct cmd_hub *hub = ctx;
    hub_watch_cancel_all(hub, c, ERR_CLUSTERDOWN);
    hub_reader_refuse(hub, c, ERR_CLUSTERDOWN);
}

void cmd_hub_leader_known(struct cmd_hub *hub, bool known)
{
    hub->is_leaderless = !known;
    if (!known) client_each(hub->env, leaderless_for, hub);
}

/* Whom it cannot be said (channels; watches of a connection that takes no pushes now) is closed. */
static void diverged_for(void *ctx, struct client *c)
{
    struct cmd_hub *hub = ctx;
    hub_watch_cancel_all(hub, c, ERR_DIVERGED);
    hub_reader_refuse(hub, c, ERR_DIVERGED);
    if (c->watches == NULL && c->sub_count == 0) return;
    cmd_hub_client_gone(hub, c);
    client_close(hub->env, c, true);
}

void cmd_hub_diverged(struct cmd_hub *hub)
{
    client_each(hub->env, diverged_for, hub);
}

/* --- the turn ------------------------------------------------------------------------------------------- */

void cmd_hub_turn(struct cmd_hub *hub)
{
    hub->turn++;
    hub_reader_turn(hub);
    hub_watch_turn(hub);
    touched_send(hub);
}

void cmd_hub_writable(struct cmd_hub *hub, struct client *c)
{
    hub_watch_writable(hub, c);
}

int64_t cmd_hub_next_ms(const struct cmd_hub *hub)
{
    if (hub->behind.count > 0 || hub->touched != NULL || hub->ready != NULL) return hub->env->now_ms;
    if (hub->queued.count > 0 && hub->reads < HUB_READS_MAX) return hub->env->now_ms;
    int64_t next_ms = watch_timer_next_ms(&hub->timers);
    if (hub->parked.count > 0) next_ms = MIN(next_ms, hub->sweep_ms + HUB_SWEEP_MS);
    return next_ms;
}
