#include "cli/table.h"

#include "cli/text.h"

void table_init(struct table *t, const char *titles)
{
    *t = (struct table){ 0 };
    while (true) {
        size_t len = strcspn(titles, "|");
        words_add(&t->cells, (struct slice){ (const uint8_t *)titles, len });
        t->column_count++;
        if (titles[len] == '\0') break;
        titles += len + 1;
    }
    ASSERT(t->column_count <= TABLE_COLUMNS_MAX);
}

void table_deinit(struct table *t)
{
    words_deinit(&t->cells);
    t->column_count = 0;
}

void table_add(struct table *t, struct slice cell)
{
    words_add(&t->cells, cell);
}
void table_add_i64(struct table *t, int64_t v)
{
    words_add_i64(&t->cells, v);
}

static void append_fill(struct buf *out, char c, size_t count)
{
    memset(buf_reserve(out, count), c, count);
    out->len += count;
}

static void append_rule(struct buf *out, const size_t *width, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_append_u8(out, '+');
        append_fill(out, '-', width[i] + 2);
    }
    buf_append(out, "+\n", 2);
}

static void append_row(struct buf *out, const struct slice *cells, const size_t *width,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_append(out, "| ", 2);
        buf_append_slice(out, cells[i]);
        append_fill(out, ' ', width[i] - text_width(cells[i]) + 1);
    }
    buf_append(out, "|\n", 2);
}

void table_render(const struct table *t, struct buf *out)
{
    size_t width[TABLE_COLUMNS_MAX] = { 0 };
    ASSERT(t->cells.count % t->column_count == 0);
    for (size_t i = 0; i < t->cells.count; i++) {
        size_t *w = &width[i % t->column_count];
        *w = MAX(*w, text_width(t->cells.at[i]));
    }
    append_rule(out, width, t->column_count);
    for (size_t i = 0; i < t->cells.count; i += t->column_count) {
        append_row(out, t->cells.at + i, width, t->column_count);
        if (i == 0) append_rule(out, width, t->column_count);
    }
    if (t->cells.count > t->column_count) append_rule(out, width, t->column_count);
}
