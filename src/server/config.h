/* server/config.h - every option of cordis-server, in one table.
 *
 * PURPOSE  Names, defaults, ranges and help of the options; and where their values are.
 * OWNS     The strings of struct config (freed by config_deinit).
 * USES     base/option.h.
 * THREADS  Loop thread only.
 * LIMITS   Each row's min and max.
 * ERRORS   ERR_CONFIG with a text for the operator.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "base/option.h"

#define CONFIG_SEEDS_MAX 16

struct config {
    /* network */
    int64_t port;
    char *bind;
    char *unixsocket;
    int64_t unixsocketperm;
    int64_t tcp_backlog;
    bool protected_mode;
    int64_t maxclients;
    int64_t timeout_s;
    int64_t handshake_timeout_ms;
    int64_t request_deadline_ms;
    int64_t loop_spin_us;
    /* clients */
    char *requirepass;
    int64_t proto_max_bulk_bytes;
    int64_t proto_max_args;
    int64_t proto_inline_bytes;
    int64_t client_output_bytes_max;
    int64_t client_output_soft_bytes;
    int64_t client_output_soft_ms;
    int64_t reply_bytes_max;
    int64_t watch_buffer_bytes;
    int64_t watches_per_client;
    int64_t subscriptions_per_client;
    int64_t subscription_names_bytes;
    int64_t waiting_reads;
    int64_t waiting_reads_bytes;
    int64_t waiting_replies_bytes;
    int64_t slowlog_slower_than_us;
    int64_t slowlog_max_len;
    int64_t latency_ms;
    /* member */
    char *dir;
    char *name;
    char *initial_cluster;
    char *join;
    int64_t peer_port;
    char *peer_tls_cert_file;
    char *peer_tls_key_file;
    char *peer_tls_ca_file;
    char *peer_bind;
    char *peer_address;
    char *client_address;
    int64_t peer_reconnect_ms_min;
    int64_t peer_reconnect_ms_max;
    int64_t peer_handshake_ms;
    int64_t peer_silence_ms;
    int64_t peer_bulk_idle_ms;
    int64_t peer_output_bytes_max;
    int64_t peer_connections_max;
    int64_t heartbeat_ms;
    int64_t election_ms;
    int64_t request_timeout_ms;
    /* disk */
    int wal_backend;
    int64_t wal_segment_bytes;
    int64_t wal_keep_bytes;
    int64_t snapshot_count;
    int64_t checkpoint_bytes;
    int64_t checkpoint_ms;
    int64_t store_buffer_bytes;
    int64_t store_backlog_bytes;
    int64_t uncommitted_bytes;
    int64_t disk_reserve_bytes;
    int64_t io_threads;
    /* settings of the group: their first values */
    char *seeds[CONFIG_SEEDS_MAX];
    /* the process */
    int loglevel;
    char *logfile;
    char *pidfile;
};

extern const struct option config_rows[];
extern const size_t config_row_count;

struct option_set config_set(struct config *c);

#endif
