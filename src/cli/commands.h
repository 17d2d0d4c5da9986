/* cli/commands.h - the table of commands and options: one row each, help texts included.
 *
 * PURPOSE  Name what can be typed, and find it. Does not parse a command line (args.h) and
 *          does not run anything (run.h).
 * OWNS     Nothing: the tables are constant.
 * USES     base/, text.h.
 * THREADS  Any.
 * LIMITS   OPT_COUNT options (a bit each), COMMAND_COUNT commands.
 * ERRORS   None: what is unknown is NULL.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "base/base.h"

enum option_id {
    OPT_ENDPOINTS,
    OPT_USER,
    OPT_PASSWORD,
    OPT_DB,
    OPT_WRITE_OUT,
    OPT_HEX,
    OPT_COMMAND_TIMEOUT,
    OPT_HELP,
    OPT_VERSION,
    OPT_PREFIX,
    OPT_FROM_KEY,
    OPT_REV,
    OPT_LIMIT,
    OPT_KEYS_ONLY,
    OPT_COUNT_ONLY,
    OPT_PRINT_VALUE_ONLY,
    OPT_SORT_BY,
    OPT_ORDER,
    OPT_LEASE,
    OPT_PREV_KV,
    OPT_IGNORE_VALUE,
    OPT_IGNORE_LEASE,
    OPT_NX,
    OPT_XX,
    OPT_IF_MOD,
    OPT_EXACT,
    OPT_INTERACTIVE,
    OPT_ID,
    OPT_KEYS,
    OPT_ONCE,
    OPT_NAME,
    OPT_LEARNER,
    OPT_LOCAL,
    OPT_PHYSICAL,
    OPT_COUNT
};
_Static_assert(OPT_COUNT <= 64, "args.given has a bit for each option");

#define OPT_BIT(id) (1ULL << (id))
#define OPT_GLOBAL_MASK (OPT_BIT(OPT_VERSION + 1) - 1)

struct option {
    const char *name;  /* without the dashes */
    char letter;       /* short form; '\0' without */
    const char *value; /* what it takes, for help; NULL: nothing */
    const char *help;
};

enum command_id {
    COMMAND_GET,
    COMMAND_PUT,
    COMMAND_DEL,
    COMMAND_WATCH,
    COMMAND_TXN,
    COMMAND_LEASE_GRANT,
    COMMAND_LEASE_REVOKE,
    COMMAND_LEASE_TIMETOLIVE,
    COMMAND_LEASE_LIST,
    COMMAND_LEASE_KEEP_ALIVE,
    COMMAND_MEMBER_LIST,
    COMMAND_MEMBER_ADD,
    COMMAND_MEMBER_REMOVE,
    COMMAND_MEMBER_PROMOTE,
    COMMAND_MEMBER_UPDATE,
    COMMAND_MEMBER_TRANSFER,
    COMMAND_STATUS,
    COMMAND_COMPACT,
    COMMAND_COUNT
};

struct command {
    enum command_id id;
    const char *group; /* "lease" of `lease grant`; NULL without */
    const char *name;
    const char *args;     /* positional arguments, for help */
    const char *summary;  /* one line */
    uint64_t options;     /* besides the global ones */
    size_t positional_min;
    size_t positional_max;
    bool has_tail;        /* words behind -- are a command to run */
    const char *notes;    /* further lines of help; NULL without */
    const char *examples; /* lines of help */
};

extern const struct option option_table[OPT_COUNT];
extern const struct command command_table[COMMAND_COUNT];

/* group is empty for commands without one. NULL if there is none. */
const struct command *command_find(struct slice group, struct slice name);
const char *command_group_find(struct slice name); /* static; NULL if there is none */

/* The name that was probably meant, static; NULL if nothing is near. */
const char *command_suggest(struct slice group, struct slice name);
const char *option_suggest(uint64_t allowed, struct slice name);

#endif
