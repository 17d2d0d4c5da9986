/* net/conn_table.c - connections by id. */
#include "net/net_int.h"

#define SLOT_COUNT_MIN 64

static size_t home(const struct conn_table *table, uint64_t id)
{
    return (size_t)id & (table->slot_count - 1);
}

static void slot_fill(struct conn_table *table, struct conn *conn)
{
    size_t i = home(table, conn->id);
    while (table->slots[i] != NULL) i = (i + 1) & (table->slot_count - 1);
    table->slots[i] = conn;
}

static void table_grow(struct conn_table *table)
{
    struct conn_table old = *table;
    table->slot_count = old.slot_count == 0 ? SLOT_COUNT_MIN : old.slot_count * 2;
    table->slots = mem_zalloc(table->slot_count * sizeof *table->slots);
    for (size_t i = 0; i < old.slot_count; i++) {
        if (old.slots[i] != NULL) slot_fill(table, old.slots[i]);
    }
    mem_free(old.slots);
}

/* conn_count: with this one. */
void conn_table_put(struct conn_table *table, struct conn *conn, size_t conn_count)
{
    if (conn_count * 2 > table->slot_count) table_grow(table);
    slot_fill(table, conn);
}

struct conn *conn_table_find(const struct conn_table *table, uint64_t id)
{
    if (table->slot_count == 0) return NULL;
    for (size_t i = home(table, id); table->slots[i] != NULL;
         i = (i + 1) & (table->slot_count - 1)) {
        if (table->slots[i]->id == id) return table->slots[i];
    }
    return NULL;
}

/* Closes the gap: a later one of the same run moves up if its way from home passes it. */
void conn_table_remove(struct conn_table *table, const struct conn *conn)
{
    size_t mask = table->slot_count - 1;
    size_t gap = home(table, conn->id);
    while (table->slots[gap] != conn) {
        ASSERT(table->slots[gap] != NULL);
        gap = (gap + 1) & mask;
    }
    for (size_t i = (gap + 1) & mask; table->slots[i] != NULL; i = (i + 1) & mask) {
        size_t way = (i - home(table, table->slots[i]->id)) & mask;
        if (way < ((i - gap) & mask)) continue;
        table->slots[gap] = table->slots[i];
        gap = i;
    }
    table->slots[gap] = NULL;
}
