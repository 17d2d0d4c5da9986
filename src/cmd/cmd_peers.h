/* cmd/cmd_peers.h - the connections of members, in numbers.
 *
 * PURPOSE  What the server counts and INFO shows. Decides nothing.
 * OWNS     Nothing; struct cmd_peers is a plain value.
 * USES     Nothing.
 * THREADS  Any.
 * LIMITS   None.
 * ERRORS   None.
 */
#ifndef CMD_PEERS_H
#define CMD_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cmd_peers {
    size_t connected_count, accepted_count;
    uint64_t refused, reconnects, dropped_messages;
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
    bool tls; /* else all below is 0 */
    uint64_t tls_generation, tls_handshakes, tls_refused, tls_reload_failures;
    size_t tls_conn_count, tls_old_conn_count;
    int64_t tls_expires_s; /* seconds since 1970 */
};

#endif
