/* The end of a run: everything from every node. */
#include "load.h"

/* All keys, page by page at the revision of the first. */
static bool read_all(struct load_conn *c)
{
    CLEANUP(buf_deinit) struct buf begin = { .len = 0 };
    uint64_t rev = 0;
    for (bool more = true; more;) {
        load_begin(c, HISTORY_RANGE);
        struct history_item *span = history_item(c->h, HISTORY_ITEM_SPAN, buf_slice(&begin), SLICE_NONE);
        span->number = 500;
        c->h->ops[c->h->op_count - 1].at_rev = rev;
        redisReply *reply =
            rev == 0 ? load_call(c, "KV RANGE %b END %b LIMIT 500", "", (size_t)0, "", (size_t)0)
                     : load_call(c, "KV RANGE %b END %b LIMIT 500 REV %llu", begin.at, begin.len, "",
                                 (size_t)0, (unsigned long long)rev);
        if (reply == NULL) return false;
        const redisReply *kvs = load_field(reply, "kvs");
        if (rev == 0) rev = c->h->ops[c->h->op_count - 1].rev = load_u64(reply, "revision");
        for (size_t i = 0; kvs != NULL && i < kvs->elements; i++) {
            struct slice key = load_bytes(load_field(kvs->element[i], "key"));
            load_saw(c, key, kvs->element[i]);
            buf_clear(&begin);
            buf_append_slice(&begin, key);
            buf_append_u8(&begin, 0);
        }
        more = load_u64(reply, "more") == 1 && kvs != NULL && kvs->elements == 500;
        freeReplyObject(reply);
    }
    return true;
}

static bool read_key(struct load_conn *c, struct slice key)
{
    load_begin(c, HISTORY_GET);
    redisReply *reply = load_call(c, "KV GET %b", key.at, key.len);
    if (reply == NULL) return false;
    load_saw(c, key, reply);
    freeReplyObject(reply);
    return true;
}

/* Counters and lists one by one, as once_check wants them. */
static bool read_sums(struct load_conn *c)
{
    uint64_t lists = (uint64_t)(c->run->options->seconds / MAX(c->run->options->list_seconds, 1)) + 2;
    char key[32];
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "ct/%d", i);
        if (!read_key(c, slice_of(key))) return false;
    }
    for (uint64_t i = 0; i < MIN(load_list_number(c->run) + 1, lists); i++) {
        snprintf(key, sizeof key, "ap/%llu", (unsigned long long)i);
        if (!read_key(c, slice_of(key))) return false;
    }
    return true;
}

bool load_read_node(struct load_conn *c, size_t node, int64_t end_ns)
{
    do {
        if (load_connect(c, node) && read_all(c) && read_sums(c)) return true;
        load_sleep_ms(50);
    } while (load_now_ns() < end_ns);
    return false;
}

/* Last of all, so that nothing that was shown to anybody is missing in it. */
bool load_read_log_of(struct load_conn *c, size_t node, int64_t end_ns)
{
    do {
        size_t before = c->h->log_count;
        if (load_connect(c, node) && load_read_log(c, node > 0)) return true;
        if (node == 0) c->h->log_count = before; /* again from its begin */
        load_sleep_ms(50);
    } while (load_now_ns() < end_ns);
    return false;
}
