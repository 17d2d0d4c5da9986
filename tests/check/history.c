/* Appending records; verdicts. The text form is history_text.c. */
#include "history.h"

#include <stdlib.h>

#define CHUNK_BYTES ((size_t)1 << 20)

struct history *history_new(void) { return mem_zalloc(sizeof(struct history)); }

void history_free(struct history *h)
{
    if (h == NULL) return;
    for (size_t i = 0; i < h->chunk_count; i++) mem_free(h->chunks[i]);
    mem_free(h->chunks);
    mem_free(h->ops);
    mem_free(h->items);
    mem_free(h->log);
    mem_free(h->watches);
    mem_free(h->marks);
    mem_free(h);
}

/* Room for one more behind count. */
#define GROW(at, count, cap) \
    do { \
        if ((count) == (cap)) { \
            (cap) = (cap) == 0 ? 64 : (cap) * 2; \
            (at) = mem_realloc((at), (cap) * sizeof *(at)); \
        } \
    } while (0)

static uint8_t *chunk_add(struct history *h, size_t bytes)
{
    GROW(h->chunks, h->chunk_count, h->chunk_cap);
    return h->chunks[h->chunk_count++] = mem_alloc(bytes);
}

struct slice history_bytes(struct history *h, struct slice s)
{
    if (s.len == 0) return SLICE_NONE;
    if (s.len > CHUNK_BYTES / 8) {
        uint8_t *own = chunk_add(h, s.len);
        memcpy(own, s.at, s.len);
        return (struct slice){ own, s.len };
    }
    if (h->room_bytes < s.len) {
        h->room = chunk_add(h, CHUNK_BYTES);
        h->room_bytes = CHUNK_BYTES;
    }
    struct slice copy = { h->room, s.len };
    memcpy(h->room, s.at, s.len);
    h->room += s.len;
    h->room_bytes -= s.len;
    return copy;
}

struct history_op *history_op(struct history *h, enum history_kind kind, uint32_t client,
                              int64_t invoke_ns)
{
    GROW(h->ops, h->op_count, h->op_cap);
    struct history_op *op = &h->ops[h->op_count++];
    *op = (struct history_op){ .kind = kind, .client = client, .invoke_ns = invoke_ns,
                               .complete_ns = HISTORY_NEVER, .outcome = HISTORY_UNKNOWN,
                               .item_first = h->item_count };
    return op;
}

struct history_item *history_item(struct history *h, enum history_role role, struct slice key,
                                  struct slice value)
{
    ASSERT(h->op_count > 0);
    GROW(h->items, h->item_count, h->item_cap);
    struct history_op *op = &h->ops[h->op_count - 1];
    ASSERT(op->item_first + op->item_count == h->item_count);
    op->item_count++;
    struct history_item *item = &h->items[h->item_count++];
    *item = (struct history_item){ .role = role, .key = history_bytes(h, key),
                                   .value = history_bytes(h, value) };
    return item;
}

void history_add_op(struct history *h, const struct history_op *op,
                    const struct history_item *items)
{
    struct history_op *to = history_op(h, op->kind, op->client, op->invoke_ns);
    size_t first = to->item_first;
    *to = *op;
    to->item_first = first;
    to->item_count = 0;
    for (size_t i = 0; i < op->item_count; i++) {
        struct history_item *item = history_item(h, items[i].role, items[i].key, items[i].value);
        item->mod = items[i].mod;
        item->create = items[i].create;
        item->version = items[i].version;
        item->number = items[i].number;
    }
}

void history_add_event(struct history *h, const struct history_event *event)
{
    GROW(h->log, h->log_count, h->log_cap);
    struct history_event *to = &h->log[h->log_count++];
    *to = *event;
    to->key = history_bytes(h, event->key);
    to->value = history_bytes(h, event->value);
}

void history_add_watch(struct history *h, const struct history_watch *watch)
{
    GROW(h->watches, h->watch_count, h->watch_cap);
    struct history_watch *to = &h->watches[h->watch_count++];
    *to = *watch;
    to->begin = history_bytes(h, watch->begin);
    to->end = history_bytes(h, watch->end);
}

void history_add_mark(struct history *h, const struct history_mark *mark)
{
    GROW(h->marks, h->mark_count, h->mark_cap);
    struct history_mark *to = &h->marks[h->mark_count++];
    *to = *mark;
    to->event.key = history_bytes(h, mark->event.key);
    to->event.value = history_bytes(h, mark->event.value);
    to->prev = history_bytes(h, mark->prev);
}

/* --- verdicts ------------------------------------------------------------------------------- */

void verdict_deinit(struct verdict *v)
{
    buf_deinit(&v->text);
    *v = (struct verdict){ .violation_count = 0 };
}

bool verdict_add(struct verdict *v, const char *format, ...)
{
    if (v->violation_count++ >= VERDICT_VIOLATIONS_SHOWN_MAX) return false;
    char line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    buf_printf(&v->text, "VIOLATION %s\n", line);
    return true;
}

static bool shown(const struct verdict *v)
{
    return v->violation_count <= VERDICT_VIOLATIONS_SHOWN_MAX;
}

void verdict_op(struct verdict *v, const struct history *h, size_t op)
{
    if (!shown(v)) return;
    buf_append_slice(&v->text, SLICE_LIT("    "));
    history_op_line(&v->text, h, op);
    buf_append_u8(&v->text, '\n');
}

void verdict_event(struct verdict *v, const struct history_event *event)
{
    if (!shown(v)) return;
    buf_append_slice(&v->text, SLICE_LIT("    "));
    history_event_line(&v->text, event);
    buf_append_u8(&v->text, '\n');
}

void verdict_mark(struct verdict *v, const struct history_mark *mark)
{
    if (!shown(v)) return;
    buf_append_slice(&v->text, SLICE_LIT("    "));
    history_mark_line(&v->text, mark);
    buf_append_u8(&v->text, '\n');
}
