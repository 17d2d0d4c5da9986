/* server/main.c - cordis-server: options, signals, and from start to end. */
#include "server/server.h"

#include "base/fds.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define EXIT_START 1

/* One arena: what one thread frees serves all. With two, more stays resident after a burst, and the CPU
 * a SET takes is the same. No thread keeps blocks larger than 8 KB for itself, where it kept half a
 * megabyte of them. */
const char *malloc_conf = "narenas:1,background_thread:true,dirty_decay_ms:5000,muzzy_decay_ms:0,"
                          "metadata_thp:auto,lg_tcache_max:13";

static void print_help(void)
{
    struct config cfg;
    struct option_set set = config_set(&cfg);
    struct buf text CLEANUP(buf_deinit) = { 0 };
    options_help(&set, &text);
    printf("cordis-server %s: a coordination server that speaks the Redis protocol\n\n"
           "usage: cordis-server [config-file] [--name value ...]\n"
           "       cordis-server --print-config      every option with its default, as a config file\n"
           "       cordis-server --version | --help\n\n"
           "options (defaults in the second column):\n%.*s\n"
           "Then: redis-cli -p 7379, or: cordis --help\n",
           SERVER_VERSION, (int)text.len, (const char *)text.at);
}

static void print_config(void)
{
    struct config cfg;
    struct option_set set = config_set(&cfg);
    struct buf text CLEANUP(buf_deinit) = { 0 };
    options_print(&set, &text);
    printf("# Configuration of cordis-server. Every option is here with its default; each may also be\n"
           "# given as --name value. Sizes take kb, mb, gb (1024); times take ms, s, m, h, d.\n%.*s",
           (int)text.len, (const char *)text.at);
}

static enum err read_options(struct config *cfg, int argc, char **argv, const char **file,
                             struct errmsg *em)
{
    struct option_set set = config_set(cfg);
    options_init(&set);
    *file = NULL;
    if (argc > 1 && strncmp(argv[1], "--", 2) != 0) *file = argv[1];
    if (*file != NULL) TRY(options_load(&set, *file, em));
    const char *again = NULL;
    return options_args(&set, argc, argv, &again, em);
}

struct signals {
    int fd;
    struct server *server;
};

static void on_signal_fd(void *ctx)
{
    const struct signals *signals = ctx;
    struct signalfd_siginfo got;
    while (read(signals->fd, &got, sizeof got) == (ssize_t)sizeof got) {
        if (got.ssi_signo == SIGHUP) {
            server_reload(signals->server);
            continue;
        }
        log_notice("stopping reason=signal");
        server_stop(signals->server);
    }
}

/* Signals arrive as a readable descriptor; the threads of LevelDB and ours inherit the mask. */
static int signals_block(void)
{
    sigset_t heard;
    sigemptyset(&heard);
    sigaddset(&heard, SIGINT);
    sigaddset(&heard, SIGTERM);
    sigaddset(&heard, SIGHUP);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigaction(SIGPIPE, &ignore, NULL);
    return signalfd(-1, &heard, SFD_NONBLOCK | SFD_CLOEXEC);
}

static bool write_pidfile(const char *path, struct errmsg *em)
{
    if (path[0] == '\0') return true;
    FILE *f = fopen(path, "we");
    bool written = f != NULL && fprintf(f, "%ld\n", (long)getpid()) > 0;
    written = f != NULL && fclose(f) == 0 && written;
    if (!written) errmsg_set(em, "cannot write pidfile '%s': %s", path, strerror(errno));
    return written;
}

static int run(struct config *cfg, const char *file, const char *executable)
{
    struct errmsg em = { "" };
    if (log_open(cfg->logfile, (enum log_level)cfg->loglevel, &em) != OK) {
        fprintf(stderr, "cordis-server: %s\n", em.text);
        return EXIT_START;
    }
    struct signals signals = { .fd = signals_block() };
    umask(077);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct server *s = NULL;
    if (server_open(cfg, file, executable, &s, &em) != OK || !write_pidfile(cfg->pidfile, &em)) {
        fprintf(stderr, "cordis-server: %s\n", em.text);
        if (s != NULL) server_close(s);
        return EXIT_START;
    }
    signals.server = s;
    struct loop_watch *watch = loop_watch_fd(server_loop(s), signals.fd, on_signal_fd, &signals);
    enum err e = server_run(s, &em);
    loop_unwatch(watch);
    server_close(s);
    if (cfg->pidfile[0] != '\0') unlink(cfg->pidfile);
    if (e != OK) {
        fprintf(stderr, "cordis-server: %s\n", em.text);
        return EXIT_START;
    }
    log_notice("stopped");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (fds_standard_open() != OK) return EXIT_START;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return EXIT_SUCCESS;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("cordis-server %s\n", SERVER_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc == 2 && strcmp(argv[1], "--print-config") == 0) {
        print_config();
        return EXIT_SUCCESS;
    }
    struct config cfg = { .port = 0 };
    const char *file = NULL;
    struct errmsg em = { "" };
    int code = EXIT_USAGE;
    if (read_options(&cfg, argc, argv, &file, &em) == OK) {
        code = run(&cfg, file, argv[0]);
    } else {
        fprintf(stderr, "cordis-server: %s\n", em.text);
    }
    struct option_set set = config_set(&cfg);
    options_deinit(&set);
    return code;
}
