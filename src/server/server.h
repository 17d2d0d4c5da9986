/* server/server.h - the process: listeners and connections on one side, node and commands on the other.
 *
 * PURPOSE  Put the parts together and run them. Decides only who may connect and for how long.
 * OWNS     The loop, the node, the command environment, the configuration in force.
 * USES     everything.
 * THREADS  Loop thread only.
 * LIMITS   The options of config.h.
 * ERRORS   server_open: with one line for the operator in errmsg.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "cmd/cmd.h"
#include "net/net.h"
#include "server/config.h"

#define SERVER_VERSION "0.1.0"
#define SERVER_REDIS_VERSION "7.2.0" /* what clients expect to read */

struct server;

/* Without others to wait for the node is open on return; else server_run opens it when they were heard.
 * cfg is borrowed and changed by CONFIG SET; config_file NULL if there was none. */
enum err server_open(struct config *cfg, const char *config_file, const char *executable,
                     struct server **out, struct errmsg *em) MUST_USE;
/* Until SHUTDOWN or server_stop; or an error, in em: the group that this node was to belong to cannot
 * be founded or joined, or the node cannot be opened then. */
enum err server_run(struct server *s, struct errmsg *em) MUST_USE;
void server_stop(struct server *s); /* from the loop thread */
/* Reads the files with certificates again; what is wrong with them goes to the log, and the old ones
 * stay in force. From the loop thread. */
void server_reload(struct server *s);
void server_close(struct server *s);
struct loop *server_loop(struct server *s);
uint16_t server_port(const struct server *s);

#endif
