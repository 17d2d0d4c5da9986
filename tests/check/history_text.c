/* The text form of a history: see FORMAT in history.h. */
#include "history.h"

#include <stdlib.h>

#define HISTORY_WORD(symbol, word) word,
static const char *const kind_words[] = { HISTORY_KINDS(HISTORY_WORD) };
static const char *const outcome_words[] = { HISTORY_OUTCOMES(HISTORY_WORD) };
static const char *const role_words[] = { HISTORY_ROLES(HISTORY_WORD) };
static const char *const event_words[] = { HISTORY_EVENT_OPS(HISTORY_WORD) };
#undef HISTORY_WORD

/* --- writing -------------------------------------------------------------------------------- */

static void put_bytes(struct buf *out, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    buf_append_u8(out, ' ');
    if (s.len == 0) buf_append_u8(out, '-');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.at[i];
        if (c > ' ' && c <= '~' && c != '%' && !(c == '-' && s.len == 1)) {
            buf_append_u8(out, c);
        } else {
            uint8_t three[] = { '%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15] };
            buf_append(out, three, sizeof three);
        }
    }
}

static void put_word(struct buf *out, const char *word)
{
    buf_append_u8(out, ' ');
    buf_append_slice(out, slice_of(word));
}

static void put_i64(struct buf *out, int64_t v)
{
    buf_append_u8(out, ' ');
    out->len += i64_format(v, (char *)buf_reserve(out, 21));
}

static void put_u64(struct buf *out, uint64_t v)
{
    buf_append_u8(out, ' ');
    out->len += u64_format(v, (char *)buf_reserve(out, 20));
}

void history_op_line(struct buf *out, const struct history *h, size_t at)
{
    const struct history_op *op = &h->ops[at];
    buf_append_u8(out, 'O');
    put_u64(out, op->client);
    put_u64(out, op->node);
    put_word(out, kind_words[op->kind]);
    put_i64(out, op->invoke_ns);
    if (op->complete_ns == HISTORY_NEVER) {
        put_word(out, "-");
    } else {
        put_i64(out, op->complete_ns);
    }
    put_word(out, outcome_words[op->outcome]);
    put_u64(out, op->applied);
    put_u64(out, op->rev);
    put_u64(out, op->at_rev);
    put_u64(out, op->lease);
    put_i64(out, op->ttl_ms);
    put_u64(out, op->flags);
    for (size_t i = 0; i < op->item_count; i++) {
        const struct history_item *item = &h->items[op->item_first + i];
        put_word(out, role_words[item->role]);
        put_bytes(out, item->key);
        put_bytes(out, item->value);
        put_u64(out, item->mod);
        put_u64(out, item->create);
        put_u64(out, item->version);
        put_i64(out, item->number);
    }
}

static void put_event(struct buf *out, const struct history_event *event)
{
    put_u64(out, event->rev);
    put_u64(out, event->n);
    put_word(out, event_words[event->op]);
    put_bytes(out, event->key);
    put_bytes(out, event->value);
    put_u64(out, event->create);
    put_u64(out, event->version);
    put_u64(out, event->lease);
}

void history_event_line(struct buf *out, const struct history_event *event)
{
    buf_append_u8(out, 'E');
    put_event(out, event);
}

static void watch_line(struct buf *out, const struct history_watch *watch)
{
    buf_append_u8(out, 'W');
    put_u64(out, watch->id);
    put_u64(out, watch->client);
    put_bytes(out, watch->begin);
    put_bytes(out, watch->end);
    put_u64(out, watch->from);
    put_u64(out, watch->flags);
}

void history_mark_line(struct buf *out, const struct history_mark *mark)
{
    static const char letters[] = { 'V', 'P', 'C', 'B' };
    buf_append_u8(out, (uint8_t)letters[mark->kind]);
    put_u64(out, mark->watch);
    put_i64(out, mark->time_ns);
    if (mark->kind == HISTORY_MARK_EVENT) {
        put_event(out, &mark->event);
        put_i64(out, mark->prev_mod);
        put_bytes(out, mark->prev);
    } else if (mark->kind != HISTORY_MARK_BROKEN) {
        put_u64(out, mark->rev);
    }
}

static enum err line_out(struct buf *line, FILE *to, struct errmsg *em)
{
    buf_append_u8(line, '\n');
    bool whole = fwrite(line->at, 1, line->len, to) == line->len;
    buf_clear(line);
    if (whole) return OK;
    errmsg_set(em, "the history could not be written");
    return ERR_IO;
}

enum err history_write(const struct history *h, FILE *to, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf line = { .len = 0 };
    for (size_t i = 0; i < h->op_count; i++) {
        history_op_line(&line, h, i);
        TRY(line_out(&line, to, em));
    }
    for (size_t i = 0; i < h->watch_count; i++) {
        watch_line(&line, &h->watches[i]);
        TRY(line_out(&line, to, em));
    }
    for (size_t i = 0; i < h->mark_count; i++) {
        history_mark_line(&line, &h->marks[i]);
        TRY(line_out(&line, to, em));
    }
    for (size_t i = 0; i < h->log_count; i++) {
        history_event_line(&line, &h->log[i]);
        TRY(line_out(&line, to, em));
    }
    return OK;
}

/* --- reading -------------------------------------------------------------------------------- */

/* The words of one line. After the first bad one every take gives zeros; bad is looked at once. */
struct words {
    const uint8_t *at;
    const uint8_t *end;
    struct buf *scratch; /* decoded bytes: the slices of one line point into it */
    bool bad;
};

static struct slice take(struct words *w)
{
    if (w->at == w->end) {
        w->bad = true;
        return SLICE_NONE;
    }
    const uint8_t *begin = w->at;
    while (w->at < w->end && *w->at != ' ') w->at++;
    struct slice word = { begin, (size_t)(w->at - begin) };
    if (w->at < w->end) w->at++;
    if (word.len == 0) w->bad = true;
    return word;
}

static uint64_t take_u64(struct words *w)
{
    uint64_t v = 0;
    if (u64_parse(take(w), &v) != OK) w->bad = true;
    return v;
}

static uint32_t take_u32(struct words *w)
{
    uint64_t v = take_u64(w);
    if (v > UINT32_MAX) w->bad = true;
    return (uint32_t)v;
}

static int64_t take_i64(struct words *w)
{
    int64_t v = 0;
    if (i64_parse(take(w), &v) != OK) w->bad = true;
    return v;
}

static unsigned take_choice(struct words *w, const char *const *choices, size_t count)
{
    struct slice word = take(w);
    for (unsigned i = 0; i < count; i++) {
        if (slice_eq(word, slice_of(choices[i]))) return i;
    }
    w->bad = true;
    return 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct slice take_bytes(struct words *w)
{
    struct slice word = take(w);
    if (word.len == 1 && word.at[0] == '-') return SLICE_NONE;
    uint8_t *to = w->scratch->at + w->scratch->len; /* roomy: as long as the line */
    size_t len = 0;
    for (size_t i = 0; i < word.len; i++) {
        if (word.at[i] != '%') {
            to[len++] = word.at[i];
            continue;
        }
        int high = i + 2 < word.len ? hex_digit(word.at[i + 1]) : -1;
        int low = i + 2 < word.len ? hex_digit(word.at[i + 2]) : -1;
        if (high < 0 || low < 0) {
            w->bad = true;
            break;
        }
        to[len++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    w->scratch->len += len;
    return (struct slice){ to, len };
}

/* The line ends here and nothing in it was wrong. */
static bool is_whole(const struct words *w) { return !w->bad && w->at == w->end; }

static void read_op(struct history *h, struct words *w)
{
    struct history_op op = { .client = take_u32(w) };
    op.node = take_u32(w);
    op.kind = take_choice(w, kind_words, ARRAY_LEN(kind_words));
    op.invoke_ns = take_i64(w);
    struct slice complete = take(w);
    op.complete_ns = HISTORY_NEVER;
    if (!slice_eq(complete, SLICE_LIT("-")) && i64_parse(complete, &op.complete_ns) != OK) {
        w->bad = true;
    }
    op.outcome = take_choice(w, outcome_words, ARRAY_LEN(outcome_words));
    op.applied = take_u64(w) != 0;
    op.rev = take_u64(w);
    op.at_rev = take_u64(w);
    op.lease = take_u64(w);
    op.ttl_ms = take_i64(w);
    op.flags = take_u32(w);
    struct history_item *items = NULL;
    size_t cap = 0;
    while (w->at < w->end && !w->bad) {
        if (op.item_count == cap) {
            cap = cap == 0 ? 8 : cap * 2;
            items = mem_realloc(items, cap * sizeof *items);
        }
        struct history_item *item = &items[op.item_count++];
        item->role = take_choice(w, role_words, ARRAY_LEN(role_words));
        item->key = take_bytes(w);
        item->value = take_bytes(w);
        item->mod = take_u64(w);
        item->create = take_u64(w);
        item->version = take_u64(w);
        item->number = take_i64(w);
    }
    if (op.outcome == HISTORY_DONE && op.complete_ns == HISTORY_NEVER) w->bad = true;
    if (op.complete_ns < op.invoke_ns) w->bad = true;
    if (is_whole(w)) history_add_op(h, &op, items);
    mem_free(items);
}

static struct history_event read_event(struct words *w)
{
    struct history_event event = { .rev = take_u64(w) };
    event.n = take_u32(w);
    event.op = take_choice(w, event_words, ARRAY_LEN(event_words));
    event.key = take_bytes(w);
    event.value = take_bytes(w);
    event.create = take_u64(w);
    event.version = take_u64(w);
    event.lease = take_u64(w);
    return event;
}

static void read_watch(struct history *h, struct words *w)
{
    struct history_watch watch = { .id = take_u64(w) };
    watch.client = take_u32(w);
    watch.begin = take_bytes(w);
    watch.end = take_bytes(w);
    watch.from = take_u64(w);
    watch.flags = take_u32(w);
    if (is_whole(w)) history_add_watch(h, &watch);
}

static void read_mark(struct history *h, struct words *w, enum history_mark_kind kind)
{
    struct history_mark mark = { .kind = kind, .watch = take_u64(w) };
    mark.time_ns = take_i64(w);
    if (kind == HISTORY_MARK_EVENT) {
        mark.event = read_event(w);
        mark.rev = mark.event.rev;
        mark.prev_mod = take_i64(w);
        mark.prev = take_bytes(w);
    } else if (kind != HISTORY_MARK_BROKEN) {
        mark.rev = take_u64(w);
    }
    if (is_whole(w)) history_add_mark(h, &mark);
}

static bool read_line(struct history *h, struct words *w)
{
    struct slice head = take(w);
    switch (head.len == 1 ? head.at[0] : 0) {
    case 'O': read_op(h, w); break;
    case 'E': {
        struct history_event event = read_event(w);
        if (is_whole(w)) history_add_event(h, &event);
        break;
    }
    case 'W': read_watch(h, w); break;
    case 'V': read_mark(h, w, HISTORY_MARK_EVENT); break;
    case 'P': read_mark(h, w, HISTORY_MARK_PROGRESS); break;
    case 'C': read_mark(h, w, HISTORY_MARK_CANCELED); break;
    case 'B': read_mark(h, w, HISTORY_MARK_BROKEN); break;
    default: return false;
    }
    return is_whole(w);
}

enum err history_read(struct history *h, FILE *from, struct errmsg *em)
{
    CLEANUP(buf_deinit) struct buf scratch = { .len = 0 };
    char *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t len;
    enum err result = OK;
    while (result == OK && (len = getline(&line, &cap, from)) >= 0) {
        number++;
        if ((size_t)len > HISTORY_LINE_BYTES_MAX || line[len - 1] != '\n') {
            errmsg_set(em, "line %zu is too long or cut off", number);
            result = ERR_SYNTAX;
            break;
        }
        buf_clear(&scratch);
        buf_reserve(&scratch, (size_t)len);
        struct words w = { (const uint8_t *)line, (const uint8_t *)line + len - 1, &scratch, false };
        if (w.at == w.end || *w.at == '#') continue;
        if (read_line(h, &w)) continue;
        errmsg_set(em, "line %zu is no record", number);
        result = ERR_SYNTAX;
    }
    if (result == OK && ferror(from)) {
        errmsg_set(em, "reading failed behind line %zu", number);
        result = ERR_IO;
    }
    free(line);
    return result;
}
