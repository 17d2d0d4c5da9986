/* cmd/cmd_pubsub.c - SUBSCRIBE and its kin, PUBLISH, PUBSUB. */
#include "cmd/cmd_hub_int.h"

#include "base/glob.h"

/* What each kind is called in frames. */
static const struct {
    const char *on, *off;
} words[TOPIC_KINDS] = {
    [TOPIC_CHANNEL] = { "subscribe", "unsubscribe" },
    [TOPIC_PATTERN] = { "psubscribe", "punsubscribe" },
    [TOPIC_SHARD] = { "ssubscribe", "sunsubscribe" },
};

/* Shard channels are counted apart from the two others. */
static size_t shown_count(const struct client *c, enum topic_kind kind)
{
    if (kind == TOPIC_SHARD) return hub_subscribed_count(c, kind);
    return hub_subscribed_count(c, TOPIC_CHANNEL) + hub_subscribed_count(c, TOPIC_PATTERN);
}

/* name.at NULL: there was nothing to unsubscribe from. */
static void reply_change(struct cmd_ctx *cx, const char *word, enum topic_kind kind, struct slice name)
{
    reply_push(cx->reply, 3);
    reply_bulk_cstr(cx->reply, word);
    if (name.at == NULL) reply_null(cx->reply);
    else reply_bulk(cx->reply, name);
    reply_int(cx->reply, (int64_t)shown_count(cx->client, kind));
}

static enum err subscribe_any(struct cmd_ctx *cx, enum topic_kind kind)
{
    struct cmd_hub *hub = cx->env->hub;
    TRY(node_read_check(cx->env->node));
    for (size_t i = 1; i < cx->argc; i++) {
        if (kind == TOPIC_PATTERN && cx->argv[i].len > GLOB_PATTERN_BYTES_MAX) {
            reply_error(cx->reply, "ERR", "pattern is too long");
        } else if (!hub_subscribe(hub, cx->client, kind, cx->argv[i])) {
            reply_error(cx->reply, "ERR", "too many subscriptions on this connection "
                        "(max-subscriptions-per-client %u, subscription-names-max-bytes %llu)",
                        cx->env->limits.subscriptions_per_client_max,
                        (unsigned long long)cx->env->limits.subscription_names_bytes_max);
        } else {
            reply_change(cx, words[kind].on, kind, cx->argv[i]);
            continue;
        }
        return OK; /* one error ends the command: what was confirmed before it holds */
    }
    return OK;
}

static enum err unsubscribe_any(struct cmd_ctx *cx, enum topic_kind kind)
{
    struct cmd_hub *hub = cx->env->hub;
    struct client *c = cx->client;
    for (size_t i = 1; i < cx->argc; i++) {
        hub_unsubscribe(hub, c, kind, cx->argv[i]);
        reply_change(cx, words[kind].off, kind, cx->argv[i]);
    }
    if (cx->argc > 1) return OK;
    if (hub_subscribed_count(c, kind) == 0) reply_change(cx, words[kind].off, kind, SLICE_NONE);
    struct buf name CLEANUP(buf_deinit) = { 0 };
    while (hub_subscribed_count(c, kind) > 0) {
        buf_clear(&name);
        buf_append_u8(&name, 0); /* so that an empty name is not NULL */
        buf_append_slice(&name, hub_subscribed_at(c, kind, 0));
        struct slice s = { name.at + 1, name.len - 1 };
        hub_unsubscribe(hub, c, kind, s);
        reply_change(cx, words[kind].off, kind, s);
    }
    return OK;
}

static enum err cmd_subscribe(struct cmd_ctx *cx) { return subscribe_any(cx, TOPIC_CHANNEL); }
static enum err cmd_psubscribe(struct cmd_ctx *cx) { return subscribe_any(cx, TOPIC_PATTERN); }
static enum err cmd_ssubscribe(struct cmd_ctx *cx) { return subscribe_any(cx, TOPIC_SHARD); }
static enum err cmd_unsubscribe(struct cmd_ctx *cx) { return unsubscribe_any(cx, TOPIC_CHANNEL); }
static enum err cmd_punsubscribe(struct cmd_ctx *cx) { return unsubscribe_any(cx, TOPIC_PATTERN); }
static enum err cmd_sunsubscribe(struct cmd_ctx *cx) { return unsubscribe_any(cx, TOPIC_SHARD); }

/* What the members tell each other; on the wire. */
enum { PUBLISH_CHANNEL = 0, PUBLISH_SHARD = 1 };

/* Needs no leader: at most once, in order for each subscriber, and no order against writes but those
 * of its own connection. In a transaction it goes out when that is applied, from this node alone. */
static enum err publish_any(struct cmd_ctx *cx, bool shard)
{
    struct slice channel = cx->argv[1];
    struct slice message = cx->argv[2];
    reply_int(cx->reply, (int64_t)hub_publish(cx->env->hub, shard, channel, message));
    node_publish(cx->env->node, shard ? PUBLISH_SHARD : PUBLISH_CHANNEL, channel, message);
    return OK;
}

/* A kind that this version does not know is nobody's here. */
void cmd_published(struct cmd_env *env, uint8_t kind, struct slice channel, struct slice message)
{
    if (kind == PUBLISH_CHANNEL || kind == PUBLISH_SHARD) {
        (void)hub_publish(env->hub, kind == PUBLISH_SHARD, channel, message);
    }
}

static enum err cmd_publish(struct cmd_ctx *cx) { return publish_any(cx, false); }
static enum err cmd_spublish(struct cmd_ctx *cx) { return publish_any(cx, true); }

/* --- PUBSUB --------------------------------------------------------------------------------- */

struct name_list {
    struct reply *r; /* NULL: only count */
    struct slice pattern; /* at == NULL: all */
    size_t count;
};

static void name_visit(void *ctx, struct slice name)
{
    struct name_list *list = ctx;
    if (list->pattern.at != NULL && !glob_match(list->pattern, name)) return;
    list->count++;
    if (list->r != NULL) reply_bulk(list->r, name);
}

static enum err channels_any(struct cmd_ctx *cx, enum topic_kind kind)
{
    struct name_list list = { .pattern = cx->argc > 2 ? cx->argv[2] : SLICE_NONE };
    if (cx->argc > 3) return ERR_ARITY;
    if (list.pattern.len > GLOB_PATTERN_BYTES_MAX) return ERR_LIMIT;
    hub_topic_each(cx->env->hub, kind, name_visit, &list);
    reply_array(cx->reply, list.count);
    list.r = cx->reply;
    hub_topic_each(cx->env->hub, kind, name_visit, &list);
    return OK;
}

/* A flat list in RESP3, too, as Redis gives it. */
static enum err numsub_any(struct cmd_ctx *cx, enum topic_kind kind)
{
    reply_array(cx->reply, 2 * (cx->argc - 2));
    for (size_t i = 2; i < cx->argc; i++) {
        reply_bulk(cx->reply, cx->argv[i]);
        reply_int(cx->reply, (int64_t)hub_topic_subscribers(cx->env->hub, kind, cx->argv[i]));
    }
    return OK;
}

static enum err cmd_pubsub_channels(struct cmd_ctx *cx) { return channels_any(cx, TOPIC_CHANNEL); }
static enum err cmd_pubsub_shardchannels(struct cmd_ctx *cx) { return channels_any(cx, TOPIC_SHARD); }
static enum err cmd_pubsub_numsub(struct cmd_ctx *cx) { return numsub_any(cx, TOPIC_CHANNEL); }
static enum err cmd_pubsub_shardnumsub(struct cmd_ctx *cx) { return numsub_any(cx, TOPIC_SHARD); }

static enum err cmd_pubsub_numpat(struct cmd_ctx *cx)
{
    reply_int(cx->reply, (int64_t)hub_topic_count(cx->env->hub, TOPIC_PATTERN));
    return OK;
}

static enum err cmd_pubsub_help(struct cmd_ctx *cx)
{
    cmd_reply_help(cx, "pubsub");
    return OK;
}

/* --- rows -------------------------------------------------------------------------------------- */

#define SUBS (CMD_CONN | CMD_DRAIN | CMD_NO_MULTI | CMD_PUBSUB)
#define PUBLISHES (CMD_CONN | CMD_ORDERED | CMD_TXN | CMD_FAST)
#define LOOKS (CMD_CONN | CMD_FAST)

const struct cmd_def cmd_pubsub_defs[] = {
    { .name = "subscribe", .run = cmd_subscribe, .arity = -2, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "2.0.0", .args = "channel [channel ...]",
      .summary = "Listens to messages of channels; __watch@0__:prefix shows the events of a prefix." },
    { .name = "unsubscribe", .run = cmd_unsubscribe, .arity = -1, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "2.0.0", .args = "[channel [channel ...]]", .summary = "Stops listening to channels, or to all." },
    { .name = "psubscribe", .run = cmd_psubscribe, .arity = -2, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "2.0.0", .args = "pattern [pattern ...]",
      .summary = "Listens to messages of all channels that match patterns." },
    { .name = "punsubscribe", .run = cmd_punsubscribe, .arity = -1, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "2.0.0", .args = "[pattern [pattern ...]]", .summary = "Stops listening to patterns, or to all." },
    { .name = "ssubscribe", .run = cmd_ssubscribe, .arity = -2, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "7.0.0", .args = "shardchannel [shardchannel ...]",
      .summary = "Listens to messages of shard channels." },
    { .name = "sunsubscribe", .run = cmd_sunsubscribe, .arity = -1, .flags = SUBS, .group = GROUP_PUBSUB,
      .since = "7.0.0", .args = "[shardchannel [shardchannel ...]]",
      .summary = "Stops listening to shard channels, or to all." },
    { .name = "publish", .run = cmd_publish, .arity = 3, .flags = PUBLISHES, .group = GROUP_PUBSUB,
      .since = "2.0.0", .args = "channel message",
      .summary = "Sends a message to a channel; answers how many on this node receive it." },
    { .name = "spublish", .run = cmd_spublish, .arity = 3, .flags = PUBLISHES, .group = GROUP_PUBSUB,
      .since = "7.0.0", .args = "shardchannel message",
      .summary = "Sends a message to a shard channel; answers how many on this node receive it." },
    { .name = "pubsub", .arity = -2, .flags = CMD_CONN | CMD_CONTAINER, .group = GROUP_PUBSUB, .since = "2.8.0",
      .args = "", .summary = "A container for commands about subscriptions." },
    { .name = "pubsub|channels", .run = cmd_pubsub_channels, .arity = -2, .flags = LOOKS, .group = GROUP_PUBSUB,
      .since = "2.8.0", .args = "[pattern]", .summary = "Lists the channels that somebody listens to." },
    { .name = "pubsub|numsub", .run = cmd_pubsub_numsub, .arity = -2, .flags = LOOKS, .group = GROUP_PUBSUB,
      .since = "2.8.0", .args = "[channel [channel ...]]", .summary = "Counts the subscribers of channels." },
    { .name = "pubsub|numpat", .run = cmd_pubsub_numpat, .arity = 2, .flags = LOOKS, .group = GROUP_PUBSUB,
      .since = "2.8.0", .args = "", .summary = "Counts the patterns that somebody listens to." },
    { .name = "pubsub|shardchannels", .run = cmd_pubsub_shardchannels, .arity = -2, .flags = LOOKS,
      .group = GROUP_PUBSUB, .since = "7.0.0", .args = "[pattern]",
      .summary = "Lists the shard channels that somebody listens to." },
    { .name = "pubsub|shardnumsub", .run = cmd_pubsub_shardnumsub, .arity = -2, .flags = LOOKS,
      .group = GROUP_PUBSUB, .since = "7.0.0", .args = "[shardchannel [shardchannel ...]]",
      .summary = "Counts the subscribers of shard channels." },
    { .name = "pubsub|help", .run = cmd_pubsub_help, .arity = 2, .flags = LOOKS, .group = GROUP_PUBSUB,
      .since = "6.2.0", .args = "", .summary = "Shows the subcommands." },
    CMD_DEF_END,
};
