/* load - a lean load client: one thread, one epoll, so that the server is what is measured.
 * Tools that cost as much as the server do (redis-benchmark) show their own limit for every server.
 * Each command prints one line key=value, or fails: an error reply is never counted as an answer.
 */
#include "client.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "load COMMAND --port N[,N...] [--option value ...]\n"
    "  set get       closed loop over --keys keys\n"
    "  cas           compare-and-set, each client on its own key\n"
    "  keepalive     LEASE KEEPALIVE of --ids leases a command\n"
    "  watch         --watchers of one key on --clients connections, --writers writing to it\n"
    "  hold          --watchers of other prefixes, until standard input ends\n"
    "  connect       --clients connections, one PING each, until standard input ends\n"
    "  stall         a PING or GET every millisecond, until standard input ends\n"
    "  writers       SET by --clients that survive errors, until standard input ends\n"
    "--port N,N,...  clients are spread over these nodes; with --leader all go to the one that leads\n"
    "options: --clients 1 --pipeline 1 --seconds 3 --total 0 --keys 100000 --value-bytes 256\n"
    "         --prefix key: --ids 1 --watchers 1000 --writers 1 --pid SERVER --sequential\n";

static uint64_t number_of(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n < min || n > max) {
        fail("--%s %s: a number from %llu to %llu is wanted", name, text,
             (unsigned long long)min, (unsigned long long)max);
    }
    return n;
}

static double seconds_from(const char *text)
{
    char *end = NULL;
    double n = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(n) || n <= 0) fail("--seconds %s", text);
    return n;
}

static void ports_parse(struct settings *s, char *text)
{
    char *left = NULL;
    for (char *word = strtok_r(text, ",", &left); word != NULL; word = strtok_r(NULL, ",", &left)) {
        if (s->port_count == PORTS_MAX) fail("--port: more than %d", PORTS_MAX);
        s->ports[s->port_count++] = (int)number_of("port", word, 1, 65535);
    }
}

static void settings_parse(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        { "port", required_argument, NULL, 'p' },     { "clients", required_argument, NULL, 'c' },
        { "pipeline", required_argument, NULL, 'P' }, { "seconds", required_argument, NULL, 's' },
        { "total", required_argument, NULL, 't' },    { "keys", required_argument, NULL, 'k' },
        { "ids", required_argument, NULL, 'i' },      { "prefix", required_argument, NULL, 'x' },
        { "watchers", required_argument, NULL, 'w' }, { "writers", required_argument, NULL, 'W' },
        { "value-bytes", required_argument, NULL, 'v' },
        { "pid", required_argument, NULL, 'd' },      { "sequential", no_argument, NULL, 'q' },
        { "leader", no_argument, NULL, 'l' },         { NULL, 0, NULL, 0 },
    };
    int option, at = 0;
    bool leader_only = false;
    while ((option = getopt_long(argc, argv, "", options, &at)) != -1) {
        const char *name = option == '?' ? "" : options[at].name;
        switch (option) {
        case 'p': ports_parse(s, optarg); break;
        case 'l': leader_only = true; break;
        case 'c': s->client_count = number_of(name, optarg, 1, 100000); break;
        case 'P': s->pipeline = number_of(name, optarg, 1, 1024); break;
        case 's': s->seconds = seconds_from(optarg); break;
        case 't': s->total = number_of(name, optarg, 0, UINT64_MAX); break;
        case 'k': s->key_count = number_of(name, optarg, 1, 999999999999); break;
        case 'i': s->id_count = number_of(name, optarg, 1, 1024); break;
        case 'v': s->value_bytes = number_of(name, optarg, 1, 65536); break;
        case 'x': s->prefix = optarg; break;
        case 'w': s->watcher_count = number_of(name, optarg, 1, 1000000); break;
        case 'W': s->writer_count = number_of(name, optarg, 1, 10000); break;
        case 'd': s->server_pid = (pid_t)number_of(name, optarg, 1, INT32_MAX); break;
        case 'q': s->sequential = true; break;
        default: fputs(usage_text, stderr); exit(2);
        }
    }
    if (s->port_count == 0 || optind != argc || strlen(s->prefix) > 64) {
        fputs(usage_text, stderr);
        exit(2);
    }
    if (leader_only) leader_find(s);
}

int main(int argc, char **argv)
{
    struct settings s = { .client_count = 1, .pipeline = 1, .id_count = 1, .watcher_count = 1000,
                          .writer_count = 1, .value_bytes = 256, .key_count = 100000,
                          .seconds = 3, .prefix = "key:" };
    if (argc < 2) {
        fputs(usage_text, stderr);
        return 2;
    }
    const char *name = argv[1];
    settings_parse(&s, argc - 1, argv + 1);
    if (strcmp(name, "watch") == 0) return command_watch(&s);
    if (strcmp(name, "hold") == 0) return command_hold(&s);
    if (strcmp(name, "stall") == 0) return command_stall(&s);
    if (strcmp(name, "connect") == 0) return command_connect(&s);
    if (strcmp(name, "writers") == 0) return command_writers(&s);
    return command_closed_loop(name, &s);
}
