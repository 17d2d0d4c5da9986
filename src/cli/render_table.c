#include <stdio.h>

#include "cli/render_int.h"
#include "cli/table.h"
#include "cli/text.h"

/* A live line has no last row to measure: these widths fit most and stretch for the rest. */
#define EVENT_KEY_COLUMNS 24

static void add_bytes(struct table *t, const struct render *r, struct slice bytes)
{
    struct buf cell CLEANUP(buf_deinit) = { 0 };
    render_bytes(&cell, r, bytes);
    table_add(t, buf_slice(&cell));
}

/* Texts that the server chose: names, versions. */
static void add_text(struct table *t, struct slice text)
{
    struct buf cell CLEANUP(buf_deinit) = { 0 };
    text_escape(&cell, text);
    table_add(t, buf_slice(&cell));
}

/* "20 kB", "1.5 GB": three digits are enough to compare by eye. */
static void add_size(struct table *t, int64_t bytes)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    struct buf cell CLEANUP(buf_deinit) = { 0 };
    double size = (double)bytes;
    size_t unit = 0;
    while (size >= 999.5 && unit + 1 < ARRAY_LEN(units)) {
        size /= 1000;
        unit++;
    }
    buf_printf(&cell, "%.*f %s", unit > 0 && size < 9.95 ? 1 : 0, size, units[unit]);
    table_add(t, buf_slice(&cell));
}

void table_kvs(struct buf *out, const struct render *r, const struct kv *at, size_t count)
{
    struct table t CLEANUP(table_deinit);
    table_init(&t, "KEY|VALUE|CREATE REV|MOD REV|VERSION|LEASE");
    for (size_t i = 0; i < count; i++) {
        add_bytes(&t, r, at[i].key);
        if (at[i].has_value || at[i].type.len == 0) {
            add_bytes(&t, r, at[i].value);
        } else {
            struct buf cell CLEANUP(buf_deinit) = { 0 };
            buf_printf(&cell, "(%.*s)", (int)at[i].type.len, (const char *)at[i].type.at);
            table_add(&t, buf_slice(&cell));
        }
        table_add_i64(&t, at[i].create_rev);
        table_add_i64(&t, at[i].mod_rev);
        table_add_i64(&t, at[i].version);
        table_add_i64(&t, at[i].lease_id);
    }
    table_render(&t, out);
}

/* One column, keys or values. */
static void table_single(struct buf *out, const struct render *r, const struct kv_list *kvs,
                         bool of_keys)
{
    struct table t CLEANUP(table_deinit);
    table_init(&t, of_keys ? "KEY" : "VALUE");
    for (size_t i = 0; i < kvs->count; i++) {
        add_bytes(&t, r, of_keys ? kvs->at[i].key : kvs->at[i].value);
    }
    table_render(&t, out);
}

void table_range(struct buf *out, const struct render *r, const struct range_result *res)
{
    if ((r->given & OPT_BIT(OPT_KEYS_ONLY)) != 0) {
        table_single(out, r, &res->kvs, true);
    } else if ((r->given & OPT_BIT(OPT_PRINT_VALUE_ONLY)) != 0) {
        table_single(out, r, &res->kvs, false);
    } else {
        table_kvs(out, r, res->kvs.at, res->kvs.count);
    }
}

void table_events(struct buf *out, const struct render *r, const struct event *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf key CLEANUP(buf_deinit) = { 0 };
        render_bytes(&key, r, at[i].kv.key);
        size_t width = text_width(buf_slice(&key));
        buf_printf(out, "%10lld  %-6s  ", (long long)at[i].kv.mod_rev, render_event_name(&at[i]));
        buf_append_slice(out, buf_slice(&key));
        int fill = width < EVENT_KEY_COLUMNS ? (int)(EVENT_KEY_COLUMNS - width) : 0;
        buf_printf(out, "%*s  ", fill, "");
        render_bytes(out, r, at[i].kv.value);
        if (at[i].has_prev) {
            buf_printf(out, "  (was ");
            render_bytes(out, r, at[i].prev.value);
            buf_append_u8(out, ')');
        }
        buf_append_u8(out, '\n');
    }
}

void table_lease_ttl(struct buf *out, const struct render *r, const struct lease_result *res,
                     bool with_keys)
{
    struct table t CLEANUP(table_deinit);
    struct buf keys CLEANUP(buf_deinit) = { 0 };
    table_init(&t, with_keys ? "ID|GRANTED TTL|REMAINING|KEYS" : "ID|GRANTED TTL|REMAINING");
    table_add_i64(&t, res->id);
    table_add_i64(&t, res->granted);
    table_add_i64(&t, res->ttl);
    for (size_t i = 0; res->keys != NULL && i < res->keys->elements; i++) {
        if (i > 0) buf_append_u8(&keys, ' ');
        render_bytes(&keys, r, reply_bytes(res->keys->element[i]));
    }
    if (with_keys) table_add(&t, buf_slice(&keys));
    table_render(&t, out);
}

void table_lease_list(struct buf *out, const int64_t *ids, size_t count)
{
    struct table t CLEANUP(table_deinit);
    table_init(&t, "ID");
    for (size_t i = 0; i < count; i++) table_add_i64(&t, ids[i]);
    table_render(&t, out);
}

void table_members(struct buf *out, const struct member *at, size_t count)
{
    struct table t CLEANUP(table_deinit);
    table_init(&t, "ID|STATUS|NAME|PEER ADDR|CLIENT ADDR|ROLE|LAG|VERSION");
    for (size_t i = 0; i < count; i++) {
        table_add_i64(&t, at[i].id);
        table_add(&t, slice_of(at[i].is_started ? "started" : "unstarted"));
        add_text(&t, at[i].name);
        add_text(&t, at[i].peer);
        add_text(&t, at[i].client);
        add_text(&t, at[i].role);
        table_add_i64(&t, at[i].lag);
        add_text(&t, at[i].version);
    }
    table_render(&t, out);
}

#define STATUS_COLUMNS_OF_NUMBERS 6 /* between ADDRESS and ERRORS */

static void add_status(struct table *t, const struct status_row *row)
{
    const struct status *s = &row->status;
    add_text(t, row->name);
    if (s->member_id != 0) {
        table_add_i64(t, s->member_id);
    } else {
        table_add(t, SLICE_NONE);
    }
    table_add(t, slice_of(render_status_role(row)));
    table_add(t, slice_of(row->endpoint));
    if (row->is_answered) {
        table_add_i64(t, s->term);
        table_add_i64(t, s->applied_index);
        table_add_i64(t, row->lag);
        table_add_i64(t, s->revision);
        add_size(t, s->db_bytes);
        add_text(t, s->version);
    } else {
        for (size_t i = 0; i < STATUS_COLUMNS_OF_NUMBERS; i++) table_add(t, SLICE_NONE);
    }
    struct buf errors CLEANUP(buf_deinit) = { 0 };
    render_status_errors(&errors, row);
    table_add(t, buf_slice(&errors));
}

void table_status(struct buf *out, const struct status_row *at, size_t count)
{
    struct table t CLEANUP(table_deinit);
    table_init(&t, "NAME|ID|ROLE|ADDRESS|TERM|APPLIED|LAG|REVISION|DB SIZE|VERSION|ERRORS");
    for (size_t i = 0; i < count; i++) add_status(&t, &at[i]);
    table_render(&t, out);
}
