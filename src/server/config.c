/* server/config.c - see config.h. */
#include "server/config.h"

#include "cmd/cmd.h"
#include "resp/resp.h"
#include "state/settings.h"

static const char *const backends[] = { "auto", "thread", "uring", NULL };
static const char *const levels[] = { "debug", "info", "notice", "warning", "error", NULL };

/* A row for the first value of a setting; state/settings.h has the ranges and checks the value. */
#define SEED(at, name, preset, section, help) \
    { name, OPTION_TEXT, OPTION_SEED, offsetof(struct config, seeds) + (at) * sizeof(char *), preset, 0, 0, NULL, section, help }
#define AT(field) offsetof(struct config, field)
#define GB (1LL << 30)

const struct option config_rows[] = {
    { "port", OPTION_INT, 0, AT(port), "7379", 0, 65535, NULL, "Network",
      "The TCP port for clients. 0 lets the system choose one." },
    { "bind", OPTION_TEXT, 0, AT(bind), "127.0.0.1", 0, 0, NULL, NULL,
      "Addresses to listen on, separated by spaces. \"*\" is all of IPv4, \"::\" all of IPv6." },
    { "unixsocket", OPTION_TEXT, 0, AT(unixsocket), "", 0, 0, NULL, NULL,
      "A Unix socket for clients. Empty: none." },
    { "unixsocketperm", OPTION_INT, 0, AT(unixsocketperm), "700", 0, 777, NULL, NULL,
      "The permissions of the Unix socket, as octal digits." },
    { "tcp-backlog", OPTION_INT, 0, AT(tcp_backlog), "511", 1, 65535, NULL, NULL,
      "How many connections may wait to be accepted." },
    { "protected-mode", OPTION_BOOL, OPTION_RUNTIME, AT(protected_mode), "yes", 0, 0, NULL, NULL,
      "Without a password, serve only clients of this machine." },
    { "maxclients", OPTION_INT, OPTION_RUNTIME, AT(maxclients), "10000", 1, 1000000, NULL, NULL,
      "How many clients may be connected at the same time." },
    { "timeout", OPTION_INT, OPTION_RUNTIME, AT(timeout_s), "0", 0, 1 << 30, NULL, NULL,
      "Close a client that has been idle for so many seconds. 0: never. Clients that wait or watch "
      "are not idle." },
    { "handshake-timeout", OPTION_MS, OPTION_RUNTIME, AT(handshake_timeout_ms), "10000", 100, 3600000,
      NULL, NULL, "With a password set: close a client that has not authenticated so long after it connected. One "
      "that did and then sent RESET may stay." },
    { "request-deadline", OPTION_MS, OPTION_RUNTIME, AT(request_deadline_ms), "30000", 100, 3600000, NULL,
      NULL, "Close a client whose request has begun and is not complete after so long." },
    { "loop-spin-us", OPTION_INT, 0, AT(loop_spin_us), "200", 0, 1000, NULL, NULL,
      "Poll so many microseconds for the next request of a busy client before sleeping. 0: never. In a "
      "group 40 at most while there are writes: a follower would do nothing else." },

    { "requirepass", OPTION_TEXT, OPTION_RUNTIME | OPTION_SECRET, AT(requirepass), "", 0, CMD_PASSWORD_BYTES_MAX, NULL, "Clients",
      "The password clients must give with AUTH or HELLO. Empty: none." },
    { "proto-max-bulk-len", OPTION_BYTES, OPTION_RUNTIME, AT(proto_max_bulk_bytes), "1536kb", 1024,
      SETTINGS_REQUEST_BYTES_MAX, NULL, NULL, "The longest argument of a request." },
    { "proto-max-args", OPTION_INT, OPTION_RUNTIME, AT(proto_max_args), "4096", 16, 1 << 20, NULL, NULL,
      "The largest number of arguments of a request." },
    { "proto-inline-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(proto_inline_bytes), "4kb", 64, 65536, NULL,
      NULL, "The longest inline request." },
    { "client-output-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(client_output_bytes_max), "64mb", 65536,
      64 * GB, NULL, NULL, "A client with more unread output than this is disconnected." },
    { "client-output-soft-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(client_output_soft_bytes), "16mb", 65536,
      64 * GB, NULL, NULL, "A client with more unread output than this for client-output-soft-time is disconnected." },
    { "client-output-soft-time", OPTION_MS, OPTION_RUNTIME, AT(client_output_soft_ms), "30s", 100, 86400000,
      NULL, NULL, "See client-output-soft-bytes. One that is closing and takes nothing of its output for so long is "
      "disconnected, too." },
    { "reply-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(reply_bytes_max), "4mb", 4096, GB, NULL, NULL,
      "KV RANGE, KV READ and XREAD (over all its streams) stop at about so many bytes; who asks again gets "
      "the rest." },
    { "watch-buffer-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(watch_buffer_bytes), "4mb", 4096, GB, NULL, NULL,
      "Unsent watch events of a connection; beyond it the watches go on from history when it reads again." },
    { "max-watches-per-client", OPTION_INT, OPTION_RUNTIME, AT(watches_per_client), "10000", 1, 1 << 24, NULL,
      NULL, "How many KV WATCH a connection may have." },
    { "max-subscriptions-per-client", OPTION_INT, OPTION_RUNTIME, AT(subscriptions_per_client), "10000", 1,
      1 << 24, NULL, NULL, "How many channels and patterns a connection may subscribe to." },
    { "subscription-names-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(subscription_names_bytes), "4mb", 4096, GB,
      NULL, NULL, "The names of the channels and patterns of a connection, together." },
    { "max-waiting-reads", OPTION_INT, OPTION_RUNTIME, AT(waiting_reads), "100000", 1, 1 << 24, NULL, NULL,
      "How many reads of a group may wait for the leader to confirm that they see everything; more are "
      "refused with TRYAGAIN." },
    { "waiting-reads-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(waiting_reads_bytes), "64mb", 65536, 64 * GB,
      NULL, NULL, "With more than this in waiting reads, further ones are refused with TRYAGAIN." },
    { "waiting-replies-max-bytes", OPTION_BYTES, OPTION_RUNTIME, AT(waiting_replies_bytes), "32mb", 65536, 64 * GB,
      NULL, NULL, "With more than this in replies and reads that wait behind writes of their own connections, "
      "such connections are not read from until their writes are answered." },
    { "slowlog-log-slower-than", OPTION_INT, OPTION_RUNTIME, AT(slowlog_slower_than_us), "10000", -1, INT64_MAX,
      NULL, NULL, "Commands that take longer than so many microseconds are kept in SLOWLOG. -1: none." },
    { "slowlog-max-len", OPTION_INT, OPTION_RUNTIME, AT(slowlog_max_len), "128", 0, 100000, NULL, NULL,
      "How many commands SLOWLOG keeps." },
    { "latency-monitor-threshold", OPTION_INT, OPTION_RUNTIME, AT(latency_ms), "100", 0, 1 << 30, NULL, NULL,
      "Commands, turns of the event loop and syncs of the log that take so many milliseconds are kept for "
      "LATENCY. 0: none." },

    { "dir", OPTION_TEXT, 0, AT(dir), "./data", 0, 0, NULL, "Member",
      "The data directory. It is made if it does not exist; two servers never share one." },
    { "name", OPTION_TEXT, 0, AT(name), "cordis", 0, 0, NULL, NULL,
      "A name for people, shown by MEMBER LIST. In 'initial-cluster' it says which node this is. Printable "
      "ASCII without spaces, quotes and backslashes, at most 63 characters." },
    { "initial-cluster", OPTION_TEXT, 0, AT(initial_cluster), "", 0, 0, NULL, NULL,
      "For a new data directory: found a group of all these, name=host:peer-port,... the same list on "
      "each. It is complete when all of them were heard. Ignored once the directory belongs to a group." },
    { "join", OPTION_TEXT, 0, AT(join), "", 0, 0, NULL, NULL,
      "For a new data directory: join the group of these nodes, host:port,... their ports for clients; "
      "requirepass is given to them. Ignored once the directory belongs to a group." },
    { "peer-port", OPTION_INT, 0, AT(peer_port), "7380", 0, 65535, NULL, NULL,
      "The TCP port for the other members of a group. 0 lets the system choose one." },
    { "peer-bind", OPTION_TEXT, 0, AT(peer_bind), "", 0, 0, NULL, NULL,
      "Addresses to listen on for the other members. Empty: as bind." },
    { "peer-address", OPTION_TEXT, 0, AT(peer_address), "", 0, 0, NULL, NULL,
      "host:port under which the other members reach this one. Empty: the first address of peer-bind "
      "(127.0.0.1 if that is all addresses) and peer-port." },
    { "client-address", OPTION_TEXT, 0, AT(client_address), "", 0, 0, NULL, NULL,
      "host:port under which clients reach this one, as the other members tell them. Empty: the first "
      "address of bind (127.0.0.1 if that is all addresses) and port." },
    { "peer-tls-cert-file", OPTION_TEXT, 0, AT(peer_tls_cert_file), "", 0, 0, NULL, NULL,
      "TLS between the members: this member's certificate (PEM), behind it those up to the CA. It must "
      "name the host of peer-address, or 'name'. SIGHUP reads the three files again. Empty: no TLS." },
    { "peer-tls-key-file", OPTION_TEXT, 0, AT(peer_tls_key_file), "", 0, 0, NULL, NULL,
      "The certificate's key (PEM), without a passphrase." },
    { "peer-tls-ca-file", OPTION_TEXT, 0, AT(peer_tls_ca_file), "", 0, 0, NULL, NULL,
      "The CAs (PEM) that the other members' certificates come from, which should sign nothing else." },
    { "peer-reconnect-min", OPTION_MS, 0, AT(peer_reconnect_ms_min), "50", 1, 3600000, NULL, NULL,
      "The first pause before a broken connection to a member is tried again; then twice as long..." },
    { "peer-reconnect-max", OPTION_MS, 0, AT(peer_reconnect_ms_max), "1s", 1, 3600000, NULL, NULL,
      "... up to this." },
    { "peer-handshake-timeout", OPTION_MS, 0, AT(peer_handshake_ms), "5s", 100, 3600000, NULL, NULL,
      "Close a connection of members that is not complete after so long." },
    { "peer-silence-timeout", OPTION_MS, 0, AT(peer_silence_ms), "5s", 1000, 3600000, NULL, NULL,
      "A member's machine that acknowledges nothing for so long is taken for gone and connected to again." },
    { "peer-bulk-idle-timeout", OPTION_MS, 0, AT(peer_bulk_idle_ms), "10s", 100, 3600000, NULL, NULL,
      "The connection for snapshots is closed when it was idle for so long." },
    { "peer-output-max-bytes", OPTION_BYTES, 0, AT(peer_output_bytes_max), "64mb", 1 << 20, 4 * GB, NULL,
      NULL, "With more than this unsent to a member, further messages to it are dropped and sent again later." },
    { "peer-max-connections", OPTION_INT, 0, AT(peer_connections_max), "128", 16, 65535, NULL, NULL,
      "How many connections the peer port accepts at the same time." },
    { "heartbeat-interval", OPTION_MS, 0, AT(heartbeat_ms), "100", 1, 60000, NULL, NULL,
      "How often a leader says that it is there." },
    { "election-timeout", OPTION_MS, 0, AT(election_ms), "1000", 10, 600000, NULL, NULL,
      "After so long without a leader another one is elected. At least 5 heartbeat-intervals." },
    { "request-timeout", OPTION_MS, 0, AT(request_timeout_ms), "5s", 100, 3600000, NULL, NULL,
      "A command that the group has not carried out after so long is answered with an error." },

    { "wal-backend", OPTION_ENUM, 0, AT(wal_backend), "auto", 0, 0, backends, "Disk",
      "How the log is written. auto: io_uring where a test at start works, else a thread." },
    { "wal-segment-bytes", OPTION_BYTES, 0, AT(wal_segment_bytes), "16mb", 64 << 10, GB, NULL, NULL,
      "The size of one file of the log. One is in use and one is ready. The same on all members: a small one takes "
      "no large entries." },
    { "wal-keep-bytes", OPTION_BYTES, 0, AT(wal_keep_bytes), "256mb", 0, 1LL << 40, NULL, NULL,
      "Log kept beyond what a restart needs, for followers that come back. A group of one keeps none." },
    { "snapshot-count", OPTION_INT, 0, AT(snapshot_count), "10000", 1, 1LL << 32, NULL, NULL,
      "A checkpoint is written at the latest after so many log entries." },
    { "checkpoint-bytes", OPTION_BYTES, 0, AT(checkpoint_bytes), "4mb", 4096, GB, NULL, NULL,
      "A checkpoint is written at the latest after so many bytes of changes." },
    { "checkpoint-interval", OPTION_MS, 0, AT(checkpoint_ms), "1s", 1, 3600000, NULL, NULL,
      "A checkpoint is written at the latest so long after a change." },
    { "store-write-buffer-bytes", OPTION_BYTES, 0, AT(store_buffer_bytes), "4mb", 65536, GB, NULL, NULL,
      "LevelDB's write buffer. From a thirty-second of it on a checkpoint's rows go to a file of their own." },
    { "store-backlog-max-bytes", OPTION_BYTES, 0, AT(store_backlog_bytes), "64mb", 1 << 20, 64 * GB, NULL,
      NULL, "With more than this waiting to be written to the checkpoint, writes of clients wait." },
    { "uncommitted-max-bytes", OPTION_BYTES, 0, AT(uncommitted_bytes), "32mb", 1 << 20, 4 * GB, NULL, NULL,
      "With more than this waiting to be synced, writes of clients wait." },
    { "disk-reserve-bytes", OPTION_BYTES, 0, AT(disk_reserve_bytes), "256mb", 0, 1LL << 50, NULL, NULL,
      "With less free disk space than this, writes that grow the data are refused with NOSPACE; "
      "deletes, keepalives, expiry and compaction go on." },
    { "io-threads", OPTION_INT, 0, AT(io_threads), "2", 1, 16, NULL, NULL,
      "Threads that read history from disk." },

    SEED(0, "key-max-bytes", "4096", "Settings of the group",
         "The longest key. Settings are the same on all members and part of the data: what stands here "
         "counts when a new data directory is made; afterwards CONFIG SET changes them."),
    SEED(1, "value-max-bytes", "1mb", NULL, "The longest value."),
    SEED(2, "request-max-bytes", "1536kb", NULL, "The largest operation."),
    SEED(3, "txn-max-ops", "128", NULL, "Conditions, and operations of a branch, in a one-shot TXN."),
    SEED(4, "multi-max-ops", "10000", NULL, "Commands in one MULTI, and twice the keys of its WATCH."),
    SEED(13, "txn-max-bytes", "16mb", NULL, "Values that one transaction, or one MSET, writes in all."),
    SEED(5, "op-max-keys", "10000", NULL, "Keys that one operation changes, and keys of one lease."),
    SEED(6, "lease-max-count", "1000000", NULL, "How many leases there may be."),
    SEED(7, "quota-bytes", "8gb", NULL,
         "Live data beyond this refuses writes that grow it, with NOSPACE. 0: no quota."),
    SEED(8, "retain-ms", "1h", NULL, "History is kept for so long. 0: without limit by time."),
    SEED(9, "retain-revs", "1000000", NULL, "So many revisions are kept. 0: without limit by count."),
    SEED(10, "retain-history-bytes", "512mb", NULL, "So many bytes of history are kept. 0: without limit."),
    SEED(11, "retain-min-revs", "10000", NULL, "So many revisions are kept whatever the other limits say."),
    SEED(12, "notify-keyspace-events", "", NULL, "Keyspace notifications, in Redis' letters. Empty: none."),

    { "loglevel", OPTION_ENUM, OPTION_RUNTIME, AT(loglevel), "notice", 0, 0, levels, "The process",
      "The least important message that is logged." },
    { "logfile", OPTION_TEXT, 0, AT(logfile), "", 0, 0, NULL, NULL,
      "Where to log. Empty: standard error." },
    { "pidfile", OPTION_TEXT, 0, AT(pidfile), "", 0, 0, NULL, NULL,
      "A file for the process id. Empty: none." },
};
const size_t config_row_count = ARRAY_LEN(config_rows);

struct option_set config_set(struct config *c)
{
    return (struct option_set){ config_rows, config_row_count, c };
}
