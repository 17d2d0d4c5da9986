#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fds.h"
#include "cli/help.h"
#include "cli/run.h"

/* Every line has been flushed and the tool holds nothing that needs tidying up, so ctrl-C can
 * end it on the spot, wherever it waits. */
static void interrupted(int signal_number)
{
    (void)signal_number;
    _exit(EXIT_INTERRUPT);
}

static void signals_init(void)
{
    struct sigaction ends = { .sa_handler = interrupted };
    struct sigaction ignores = { .sa_handler = SIG_IGN };
    sigaction(SIGINT, &ends, NULL);
    sigaction(SIGPIPE, &ignores, NULL); /* a lost connection or reader is an error to handle */
}

/* Others can read a process' arguments: what is secret in them is blanked at once. */
static void secret_blank(char *word)
{
    size_t len = strlen(word);
    memset(word, 0, len);
}

static void secrets_blank(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) return;
        char *colon = strchr(argv[i], ':');
        if (strncmp(argv[i], "--password=", 11) == 0) secret_blank(argv[i] + 11);
        if (strncmp(argv[i], "--user=", 7) == 0 && colon != NULL) secret_blank(colon + 1);
        if (i + 1 == argc) return;
        char *value = argv[i + 1];
        if (strcmp(argv[i], "--password") == 0) secret_blank(value);
        colon = strchr(value, ':');
        if (strcmp(argv[i], "--user") == 0 && colon != NULL) secret_blank(colon + 1);
    }
}

static enum exit_code usage(const struct errmsg *em)
{
    fprintf(stderr, "cordis: %s\n", em->text);
    return EXIT_USAGE;
}

static enum exit_code print(const struct buf *text)
{
    bool is_written = fwrite(text->at, 1, text->len, stdout) == text->len && fflush(stdout) == 0;
    return is_written ? EXIT_OK : EXIT_OUTPUT;
}

/* --help and --version; false if neither was asked for. */
static bool explain(const struct args *a, enum exit_code *code)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    if (args_has(a, OPT_HELP)) {
        if (a->command != NULL) {
            help_command(&text, a->command);
        } else if (a->group != NULL) {
            help_group(&text, a->group);
        } else {
            help_tool(&text);
        }
    } else if (args_has(a, OPT_VERSION)) {
        buf_printf(&text, "cordis %s\n", CLI_VERSION);
    } else {
        return false;
    }
    *code = print(&text);
    return true;
}

static enum exit_code run(const struct words *words)
{
    struct errmsg em = { "" };
    struct args a;
    struct session s;
    enum exit_code code = EXIT_OK;
    if (words->count == 0) {
        struct buf text CLEANUP(buf_deinit) = { 0 };
        help_tool(&text);
        fwrite(text.at, 1, text.len, stderr);
        return EXIT_USAGE;
    }
    if (args_parse(words->at, words->count, &a, &em) != OK) return usage(&em);
    if (explain(&a, &code)) return code;
    if (session_init(&s, &a, &em) != OK) return usage(&em);
    code = run_command(&s, &a);
    session_deinit(&s);
    return code;
}

int main(int argc, char **argv)
{
    struct words words CLEANUP(words_deinit) = { 0 };
    if (fds_standard_open() != OK) return EXIT_USAGE;
    for (int i = 1; i < argc; i++) words_add(&words, slice_of(argv[i]));
    secrets_blank(argc, argv);
    signals_init();
    return (int)run(&words);
}
