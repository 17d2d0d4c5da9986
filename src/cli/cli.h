/* cli/cli.h - what every file of the `cordis` tool shares: exit codes, names, limits.
 *
 * PURPOSE  Fix the numbers that scripts see. Decides nothing else.
 * OWNS     Nothing.
 * USES     Nothing.
 * THREADS  One: the tool has no other.
 * LIMITS   CLI_VALUE_BYTES_MAX of a value read from stdin, CLI_LINE_BYTES_MAX of a line of txn.
 * ERRORS   None.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#define CLI_VERSION           "0.1.0"
#define CLI_ENDPOINTS_DEFAULT "127.0.0.1:7379"
#define CLI_PORT_DEFAULT      7379

/* The highest value limit a server may be configured for, and a line that can carry one. */
#define CLI_VALUE_BYTES_MAX (64u << 20)
#define CLI_LINE_BYTES_MAX  (CLI_VALUE_BYTES_MAX + (1u << 20))

/* Longer than the server's own request-timeout (5 s), so that its answer, which knows
 * more, comes first. */
#define CLI_TIMEOUT_MS_DEFAULT     8000
#define CLI_TIMEOUT_MS_MAX         86400000
#define CLI_CONNECT_TIMEOUT_MS_MAX 2000
/* status asks every member in turn: one that hangs must not hide the others for long. */
#define CLI_STATUS_TIMEOUT_MS      2000

enum exit_code {
    EXIT_OK = 0,
    EXIT_NO = 1,         /* the server said no; or the key, lease, condition is not there */
    EXIT_USAGE = 2,      /* the command line or the input of txn is wrong; nothing was sent */
    EXIT_CONNECT = 3,    /* no endpoint could be reached; nothing was sent */
    EXIT_UNKNOWN = 4,    /* sent, but no answer: it may have happened or not */
    EXIT_OUTPUT = 5,     /* done, but the output could not be written */
    EXIT_INTERRUPT = 130 /* ctrl-C */
};

#endif
