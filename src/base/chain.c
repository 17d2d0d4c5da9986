/* base/chain.c - see chain.h. */
#include "base/chain.h"

/* --- pool ------------------------------------------------------------------ */

void chain_pool_init(struct chain_pool *pool)
{
    *pool = (struct chain_pool){ 0 };
}

static struct chain_block *list_pop(struct chain_block **list, size_t *count)
{
    struct chain_block *block = *list;
    if (block == NULL) return NULL;
    *list = block->next;
    --*count;
    return block;
}

static void list_trim(struct chain_block **list, size_t *count, size_t keep)
{
    while (*count > keep) mem_free(list_pop(list, count));
}

void chain_pool_deinit(struct chain_pool *pool)
{
    ASSERT(pool->block_used_count == 0);
    list_trim(&pool->blocks, &pool->block_count, 0);
    list_trim(&pool->smalls, &pool->small_count, 0);
    while (pool->segments != NULL) {
        struct chain_segment *segment = pool->segments;
        pool->segments = segment->next;
        mem_free(segment);
    }
    chain_pool_init(pool);
}

void chain_pool_trim(struct chain_pool *pool)
{
    list_trim(&pool->blocks, &pool->block_count, CHAIN_POOL_BLOCK_COUNT_IDLE);
    list_trim(&pool->smalls, &pool->small_count, CHAIN_POOL_SMALL_COUNT_IDLE);
}

static struct chain_block *block_get(struct chain_pool *pool, bool is_small)
{
    struct chain_block *block = is_small ? list_pop(&pool->smalls, &pool->small_count)
                                         : list_pop(&pool->blocks, &pool->block_count);
    if (block == NULL) block = mem_alloc(is_small ? CHAIN_SMALL_BYTES : CHAIN_BLOCK_BYTES);
    block->next = NULL;
    block->refs = 0;
    block->fill = 0;
    block->room = is_small ? CHAIN_SMALL_ROOM : CHAIN_BLOCK_ROOM;
    pool->block_used_count++;
    return block;
}

static bool block_is_small(const struct chain_block *block)
{
    return block->room == CHAIN_SMALL_ROOM;
}

static void block_put(struct chain_pool *pool, struct chain_block *block)
{
    ASSERT(block->refs == 0);
    ASSERT(pool->block_used_count > 0);
    pool->block_used_count--;
    bool is_small = block_is_small(block);
    struct chain_block **list = is_small ? &pool->smalls : &pool->blocks;
    size_t *count = is_small ? &pool->small_count : &pool->block_count;
    if (*count >= (is_small ? CHAIN_POOL_SMALL_COUNT_MAX : CHAIN_POOL_BLOCK_COUNT_MAX)) {
        mem_free(block);
        return;
    }
    block->next = *list;
    *list = block;
    ++*count;
}

static struct chain_segment *segment_get(struct chain_pool *pool)
{
    struct chain_segment *segment = pool->segments;
    if (segment == NULL) return mem_alloc(sizeof *segment);
    pool->segments = segment->next;
    pool->segment_count--;
    return segment;
}

static void segment_put(struct chain_pool *pool, struct chain_segment *segment)
{
    if (pool->segment_count >= CHAIN_POOL_SEGMENT_COUNT_MAX) {
        mem_free(segment);
        return;
    }
    segment->next = pool->segments;
    pool->segments = segment;
    pool->segment_count++;
}

/* --- chain ------------------------------------------------------------------ */

void chain_init(struct chain *c, struct chain_pool *pool)
{
    *c = (struct chain){ .pool = pool };
}

void chain_deinit(struct chain *c)
{
    chain_consume(c, c->bytes);
    ASSERT(c->head == NULL && c->block == NULL);
}

size_t chain_held_bytes(const struct chain *c)
{
    const struct chain_block *counted = NULL; /* blocks follow each other */
    size_t bytes = 0;
    for (const struct chain_segment *s = c->head; s != NULL; s = s->next) {
        bytes += sizeof *s;
        if (s->blob != NULL) bytes += s->len;
        if (s->block == NULL || s->block == counted) continue;
        bytes += sizeof *s->block + s->block->room;
        counted = s->block;
    }
    return bytes;
}

static struct chain_segment *tail_add(struct chain *c)
{
    struct chain_segment *segment = segment_get(c->pool);
    *segment = (struct chain_segment){ 0 };
    if (c->tail == NULL) {
        c->head = segment;
    } else {
        c->tail->next = segment;
    }
    c->tail = segment;
    return segment;
}

/* Frees the first segment and, with its last one, its block (I4). */
static void head_drop(struct chain *c)
{
    struct chain_segment *segment = c->head;
    c->head = segment->next;
    if (c->head == NULL) c->tail = NULL;
    if (segment->blob != NULL) {
        blob_unref(segment->blob);
    } else if (--segment->block->refs == 0) {
        if (c->block == segment->block) {
            c->was_long = c->was_long || c->block->fill > CHAIN_SMALL_ROOM;
            c->block = NULL;
        }
        block_put(c->pool, segment->block);
    }
    segment_put(c->pool, segment);
}

/* Makes the last segment one that lies in the open block, which has room for `len`, if it can be of
 * the `want` that come. */
static void open_for(struct chain *c, size_t len, size_t want)
{
    ASSERT(len >= 1 && len <= CHAIN_SMALL_ROOM);
    if (c->block == NULL) {
        c->block = block_get(c->pool, !c->was_long && want <= CHAIN_SMALL_ROOM);
        c->was_long = false;
    } else if (c->block->room - c->block->fill < len) {
        c->was_long = true;
        c->block = block_get(c->pool, false);
    }
    if (c->tail != NULL && c->tail->block == c->block) return;
    struct chain_segment *segment = tail_add(c);
    segment->block = c->block;
    segment->at = c->block->bytes + c->block->fill;
    c->block->refs++;
}

void chain_append_slow(struct chain *c, const uint8_t *at, size_t len)
{
    while (len != 0) {
        open_for(c, 1, len);
        size_t part = MIN(len, c->block->room - c->block->fill);
        memcpy(c->block->bytes + c->block->fill, at, part);
        chain_extend(c, part);
        at += part;
        len -= part;
    }
}

/* Leaves an empty last segment, against I2, until chain_commit fills it. */
uint8_t *chain_reserve_slow(struct chain *c)
{
    open_for(c, CHAIN_RESERVE_BYTES_MAX, CHAIN_RESERVE_BYTES_MAX);
    return c->block->bytes + c->block->fill;
}

void chain_append_blob(struct chain *c, struct blob *blob, size_t offset, size_t len)
{
    ASSERT(offset <= blob->len);
    ASSERT(len <= blob->len - offset);
    if (len == 0) return;
    struct chain_segment *segment = tail_add(c);
    segment->blob = blob_ref(blob);
    segment->at = blob->at + offset;
    segment->len = len;
    c->bytes += len;
}

size_t chain_iov(const struct chain *c, struct iovec *iov, size_t max)
{
    size_t count = 0;
    for (struct chain_segment *s = c->head; s != NULL && count < max; s = s->next) {
        /* writev takes a pointer to mutable bytes and does not change them. */
        memcpy(&iov[count].iov_base, &s->at, sizeof s->at);
        iov[count].iov_len = s->len;
        count++;
    }
    return count;
}

void chain_consume(struct chain *c, size_t n)
{
    ASSERT(n <= c->bytes);
    c->bytes -= n;
    while (n != 0) {
        struct chain_segment *segment = c->head;
        if (n < segment->len) {
            segment->at += n;
            segment->len -= n;
            return;
        }
        n -= segment->len;
        head_drop(c);
    }
}

static void move_copied(struct chain *to, struct chain *from)
{
    for (struct chain_segment *s = from->head; s != NULL; s = s->next) {
        chain_append(to, s->at, s->len);
    }
    chain_consume(from, from->bytes);
}

void chain_move(struct chain *to, struct chain *from)
{
    ASSERT(to != from);
    ASSERT(to->pool == from->pool);
    if (from->bytes == 0) return;
    if (from->bytes <= CHAIN_MOVE_COPY_BYTES_MAX && to->bytes != 0) {
        move_copied(to, from);
        return;
    }
    if (to->tail == NULL) {
        to->head = from->head;
    } else {
        to->tail->next = from->head;
    }
    to->tail = from->tail;
    to->bytes += from->bytes;
    /* The block that was open in `to` is still held by its segments; when `from` has
     * an open one, that is where its last bytes are (I3). */
    if (from->block != NULL) to->block = from->block;
    *from = (struct chain){ .pool = from->pool, .was_long = from->was_long };
}

void chain_check(const struct chain *c)
{
    size_t bytes = 0;
    const struct chain_segment *last = NULL;
    bool open_seen = c->block == NULL;
    for (const struct chain_segment *s = c->head; s != NULL; s = s->next) {
        ASSERT(s->len != 0);                              /* I2 */
        ASSERT((s->block != NULL) != (s->blob != NULL));
        if (s->block != NULL) ASSERT(s->block->refs > 0); /* I4 */
        if (s->block != NULL && s->block == c->block) open_seen = true;
        bytes += s->len;
        last = s;
    }
    ASSERT(bytes == c->bytes);                            /* I2 */
    ASSERT(last == c->tail);
    ASSERT(open_seen);                                    /* I1: an open block is held */
    if (last != NULL && last->block != NULL && last->block == c->block) {
        ASSERT(last->at + last->len == c->block->bytes + c->block->fill); /* I3 */
    }
}
