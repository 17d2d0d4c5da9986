/* cmd/cmd_watch_int.h - private to KV WATCH: cmd_watch.c has live watches and commands,
 * cmd_watch_catchup.c those that read history or show a snapshot. See H1-H4 in cmd_hub_int.h. */
#ifndef CMD_WATCH_INT_H
#define CMD_WATCH_INT_H

#include "cmd/cmd_hub_int.h"

enum phase {
    PHASE_LIVE,     /* in a set: gets events as they are applied */
    PHASE_SNAPSHOT, /* shows what is there at snapshot_rev */
    PHASE_BEHIND,   /* reads from next_rev on */
};

struct kv_watch {
    struct listener listener; /* first */
    struct watch_conn *conn;
    uint64_t next_rev; /* LIVE: nothing before it is sent (FROM a future revision) */
    uint8_t head[HUB_HEAD_BYTES_MAX];
    uint8_t head_len;
    uint8_t variant; /* of the tail */
    bool no_put, no_del;
    bool sent; /* an event since the last progress */
    enum phase phase;
    uint64_t id;
    struct hub_range range;
    int64_t progress_ms; /* 0: none */
    struct watch_timer timer;
    struct hub_list *list; /* H1; NULL: live, or a read is under way */
    struct kv_watch *before, *after;
    struct history_read *read; /* under way */
    uint64_t snapshot_rev;
    struct buf cursor; /* the first key of the range that was not shown yet; empty: its start */
};

/* What a history read finds when it comes back: the watch, or NULL if that is gone. */
struct history_read {
    struct cmd_hub *hub;
    struct kv_watch *watch;
    struct hub_scan scan; /* not of SNAPSHOT */
};

struct watch_conn {
    struct hub_peer peer;
    struct kv_watch **watches; /* ascending by id */
    size_t count, cap;
    uint64_t last_id;      /* given by us */
    uint64_t admitted_rev; /* H3: decided for this revision */
    bool muted;            /* ... it does not get it */
    uint64_t full_turn;    /* since this turn the output is full; 0: it is not */
    struct watch_conn *next_demoted;
};

/* --- cmd_watch.c ---------------------------------------------------------------------------- */

void watch_list_remove(struct kv_watch *w);
/* At the end; out of the one it is in. */
void watch_list_move(struct hub_list *l, struct kv_watch *w);
void watch_push_event(struct cmd_hub *hub, struct kv_watch *w, const struct hub_event *e);
/* Frames about the watch itself: `kvwatch id rev word [reason]`. */
void watch_push_note(struct cmd_hub *hub, struct kv_watch *w, uint64_t rev, const char *word,
                     const char *reason);
void watch_cancel_compacted(struct cmd_hub *hub, struct kv_watch *w);
/* H2. Everything up to mvcc_rev was sent. */
void watch_promote(struct cmd_hub *hub, struct kv_watch *w);

#endif
