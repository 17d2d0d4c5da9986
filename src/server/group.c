/* server/group.c - see group.h. */
#include "server/group.h"

#include "base/log.h"
#include "disk/dirlock.h"
#include "disk/group_file.h"
#include "disk/identity.h"
#include "server/bootstrap.h"
#include "server/join.h"

#include <stdio.h>

struct group {
    struct group_options options;
    struct peers *peers;
    struct dirlock *lock; /* while it waits */
    struct identity identity;
    struct group_record record; /* cluster_id 0: none */
    struct raft_members members; /* of the record */
    struct bootstrap_list list;
    struct bootstrap *bootstrap;
    struct join *join;
    bool waits;
};

static bool given(const char *option) { return option[0] != '\0'; }

/* --- what is on the disk ------------------------------------------------------------------------ */

static enum err record_load(struct group *g, struct errmsg *em)
{
    enum err e = group_file_load(disk_io_posix(), g->options.dir, &g->record, em);
    if (e == ERR_NOT_FOUND) return OK;
    if (e != OK) return e;
    if (g->record.directory_id != g->identity.directory_id) {
        errmsg_set(em, "%s: the files 'identity' and 'group' are of different directories; restore both "
                   "from one backup", g->options.dir);
        return ERR_CORRUPT;
    }
    if (raft_members_decode(buf_slice(&g->record.members), &g->members) != OK) {
        errmsg_set(em, "%s/group: damaged: its members cannot be read", g->options.dir);
        return ERR_CORRUPT;
    }
    return OK;
}

static enum err record_save(struct group *g, enum group_way way, uint64_t cluster_id, uint64_t member_id,
                            const struct raft_members *members, struct errmsg *em)
{
    g->record.way = way;
    g->record.cluster_id = cluster_id;
    g->record.member_id = member_id;
    g->record.directory_id = g->identity.directory_id;
    buf_clear(&g->record.members);
    raft_members_encode(&g->record.members, members);
    g->members = *members;
    g->waits = false;
    return group_file_save(disk_io_posix(), g->options.dir, &g->record, em);
}

/* --- a directory that belongs to a group ------------------------------------------------------------ */

static bool is_founded(const struct group *g)
{
    return g->record.cluster_id != 0 && g->record.way == GROUP_FOUNDED;
}

/* What the options ask for has happened, or will not. */
static void options_ignored(const struct group *g)
{
    const struct group_options *o = &g->options;
    struct bootstrap_list asked, recorded;
    struct errmsg em;
    unsigned long long cluster = g->record.cluster_id != 0 ? g->record.cluster_id : g->identity.cluster_id;
    if (given(o->initial_cluster)) {
        bool same = is_founded(g) && bootstrap_list_parse(o->initial_cluster, o->name, &asked, &em) == OK &&
                    bootstrap_list_of(&g->members, &recorded) && strcmp(asked.text, recorded.text) == 0;
        if (same) {
            log_info("initial-cluster ignored reason=\"the group was founded\" cluster=%llu", cluster);
        } else {
            log_warning("initial-cluster ignored reason=\"the directory belongs to a group that was founded "
                        "otherwise\" dir=%s cluster=%llu", o->dir, cluster);
        }
    }
    if (!given(o->join)) return;
    if (g->record.cluster_id != 0 && g->record.way == GROUP_JOINED) {
        log_info("join ignored reason=\"the directory has joined\" cluster=%llu", cluster);
    } else {
        log_warning("join ignored reason=\"the directory belongs to a group already\" dir=%s cluster=%llu",
                    o->dir, cluster);
    }
}

/* Who founded the group goes on answering those who founded it with him. */
static void answer_founders(struct group *g, int64_t now_ms)
{
    const struct raft_member *self = raft_members_find(&g->members, g->record.member_id);
    struct bootstrap_list list;
    if (!is_founded(g) || self == NULL || !bootstrap_list_of(&g->members, &list)) return;
    struct bootstrap_self who = { self->name, self->client_address, self->id, self->directory_id,
                                  g->options.group };
    g->bootstrap = bootstrap_new(g->peers, &list, &who, &g->members, now_ms);
}

/* --- a new one ------------------------------------------------------------------------------------------ */

static enum err begin_waiting(struct group *g, int64_t now_ms, struct errmsg *em)
{
    const struct group_options *o = &g->options;
    const struct identity *id = &g->identity;
    g->waits = true;
    if (given(o->join)) {
        struct join_options options = { o->join, o->password, id->member_id, id->directory_id,
                                        o->peer_address, o->client_address, o->name };
        return join_new(peers_dial_options(g->peers), &options, now_ms, &g->join, em);
    }
    struct bootstrap_self self = { o->name, o->client_address, id->member_id, id->directory_id, o->group };
    g->bootstrap = bootstrap_new(g->peers, &g->list, &self, NULL, now_ms);
    return OK;
}

/* Of a directory that is made now: one that was given its name before keeps it. */
static enum err check_name(const char *name, struct errmsg *em)
{
    if (strlen(name) <= RAFT_NAME_BYTES_MAX && raft_member_text_is_good(slice_of(name))) return OK;
    errmsg_set(em, "'name' takes up to %d printable ASCII characters, and no space, quote or backslash",
               RAFT_NAME_BYTES_MAX);
    return ERR_CONFIG;
}

static enum err check_options(struct group *g, struct errmsg *em)
{
    const struct group_options *o = &g->options;
    if (given(o->join) && given(o->initial_cluster)) {
        errmsg_set(em, "'initial-cluster' and 'join' exclude each other: found a group, or join one");
        return ERR_CONFIG;
    }
    if (!given(o->initial_cluster)) return OK;
    return bootstrap_list_parse(o->initial_cluster, o->name, &g->list, em);
}

static enum err group_look(struct group *g, int64_t now_ms, struct errmsg *em)
{
    const struct disk_io *io = disk_io_posix();
    const struct group_options *o = &g->options;
    bool wanted = given(o->join) || given(o->initial_cluster);
    TRY(disk_make_dir(io, o->dir, em));
    TRY(identity_refuse_strangers(io, o->dir, false, em));
    TRY(dirlock_take(o->dir, &g->lock, em));
    enum err e = identity_load(io, o->dir, &g->identity, em);
    if (e != OK && e != ERR_NOT_FOUND) return e;
    if (e == OK) TRY(record_load(g, em));
    if (g->identity.ready || g->record.cluster_id != 0) {
        options_ignored(g);
        answer_founders(g, now_ms);
        return OK;
    }
    TRY(check_name(o->name, em));
    if (!wanted) return OK; /* a group of one: node_open makes it */
    TRY(check_options(g, em));
    if (e == ERR_NOT_FOUND) TRY(identity_claim(io, o->dir, o->random, &g->identity, em));
    return begin_waiting(g, now_ms, em);
}

enum err group_new(const struct group_options *options, struct peers *peers, int64_t now_ms,
                   struct group **out, struct errmsg *em)
{
    struct group *g = mem_zalloc(sizeof *g);
    g->options = *options;
    g->peers = peers;
    enum err e = group_look(g, now_ms, em);
    if (e != OK) {
        group_free(g);
        return e;
    }
    *out = g;
    return OK;
}

void group_free(struct group *g)
{
    if (g == NULL) return;
    bootstrap_free(g->bootstrap);
    join_free(g->join);
    dirlock_free(g->lock);
    group_record_deinit(&g->record);
    mem_free(g);
}

/* --- waiting ---------------------------------------------------------------------------------------------- */

static enum err join_done(struct group *g, int64_t now_ms, struct errmsg *em)
{
    struct join_answer answer;
    TRY(join_turn(g->join, now_ms, &answer, em));
    log_notice("joined cluster=%llu member=%llu at=%s", (unsigned long long)answer.cluster_id,
               (unsigned long long)answer.member_id, join_address(g->join));
    return record_save(g, GROUP_JOINED, answer.cluster_id, answer.member_id, &answer.members, em);
}

enum err group_turn(struct group *g, int64_t now_ms, struct errmsg *em)
{
    if (!g->waits) return OK;
    if (g->join != NULL) return join_done(g, now_ms, em);
    bootstrap_turn(g->bootstrap, now_ms);
    const struct raft_members *members = bootstrap_members(g->bootstrap);
    if (members == NULL) return ERR_AGAIN;
    return record_save(g, GROUP_FOUNDED, bootstrap_cluster_id(members), g->identity.member_id, members, em);
}

int64_t group_next_ms(const struct group *g)
{
    if (!g->waits) return INT64_MAX;
    return g->join != NULL ? join_next_ms(g->join) : bootstrap_next_ms(g->bootstrap);
}

const char *group_waits_for(const struct group *g, char *out, size_t out_bytes)
{
    if (g->join != NULL) {
        snprintf(out, out_bytes, "%s", join_address(g->join));
        return out;
    }
    ASSERT(g->bootstrap != NULL);
    return bootstrap_waits_for(g->bootstrap, out, out_bytes);
}

/* --- the outcome --------------------------------------------------------------------------------------------- */

void group_take(struct group *g, struct node_group *out)
{
    ASSERT(!g->waits);
    dirlock_free(g->lock);
    g->lock = NULL;
    *out = (struct node_group){ .cluster_id = 0 };
    if (g->record.cluster_id == 0) return;
    *out = (struct node_group){
        .cluster_id = g->record.cluster_id,
        .member_id = g->record.member_id,
        .directory_id = g->record.directory_id,
        .members = g->record.way == GROUP_FOUNDED ? &g->members : NULL,
    };
}

const struct raft_members *group_first_members(const struct group *g) { return &g->members; }
