/* cli/table.h - columns with borders, as wide as their widest cell.
 *
 * PURPOSE  Lay out cells that are already text. Escapes nothing.
 * OWNS     Copies of the cells.
 * USES     base/, text.h, words.h.
 * THREADS  Any.
 * LIMITS   TABLE_COLUMNS_MAX.
 * ERRORS   None.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "base/buf.h"
#include "cli/words.h"

#define TABLE_COLUMNS_MAX 16

struct table {
    size_t column_count;
    struct words cells; /* the first row is the header */
};

/* titles: apart by '|', at most TABLE_COLUMNS_MAX. */
void table_init(struct table *t, const char *titles);
void table_deinit(struct table *t);
void table_add(struct table *t, struct slice cell); /* left to right, row by row */
void table_add_i64(struct table *t, int64_t v);
void table_render(const struct table *t, struct buf *out); /* all rows are complete */

#endif
