/* cli/help.h - the help texts, made from the command table.
 *
 * PURPOSE  Lay out one screen: of the tool, of a group, of a command.
 * OWNS     Nothing; appends to the caller's buf.
 * USES     base/, commands.h.
 * THREADS  Any.
 * LIMITS   HELP_LINES_MAX lines, HELP_COLUMNS_MAX columns; a test holds them.
 * ERRORS   None.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "base/buf.h"
#include "cli/commands.h"

#define HELP_LINES_MAX   45
#define HELP_COLUMNS_MAX 90

void help_tool(struct buf *out);
void help_group(struct buf *out, const char *group);
void help_command(struct buf *out, const struct command *c);

#endif
