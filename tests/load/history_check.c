/* history_check [--late-ms n] [--holes] [--wgl-steps n] FILE...   all checkers over one history.
 *
 * Several files are one history (several programs, one clock). Exit code 0: nothing is wrong,
 * 1: violations, each with the records that prove it, 2: not a history.
 *   --late-ms n    keys must be gone n ms behind their time; without it lateness is not looked at
 *   --holes        the log may lack revisions
 *   --wgl-steps n  bound of the search without revisions, per key; 0: leave it out */
#include <stdlib.h>

#include "check/check.h"

static int64_t number_of(const char *name, const char *text)
{
    int64_t v;
    if (text != NULL && i64_parse(slice_of(text), &v) == OK && v >= 0) return v;
    fprintf(stderr, "history_check: %s needs a number\n", name);
    exit(2);
}

static void read_file(struct history *h, const char *path)
{
    struct errmsg em = { "cannot be opened" };
    FILE *from = fopen(path, "r");
    enum err result = from == NULL ? ERR_IO : history_read(h, from, &em);
    if (from != NULL) fclose(from);
    if (result == OK) return;
    fprintf(stderr, "history_check: %s: %s\n", path, em.text);
    exit(2);
}

static int judge(const struct history *h, const struct check_params *params)
{
    struct verdict v = { .violation_count = 0 };
    bool right = check_history(h, params, &v);
    fwrite(v.text.at, 1, v.text.len, stdout);
    printf("%zu operations, %zu events in the log, %zu watch streams with %zu records: ",
           h->op_count, h->log_count, h->watch_count, h->mark_count);
    printf(right ? "nothing wrong" : "%zu violations", v.violation_count);
    if (v.undecided_count > 0) printf(" (%zu keys undecided by wgl)", v.undecided_count);
    printf("\n");
    verdict_deinit(&v);
    return right ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct check_params params = CHECK_PARAMS_DEFAULT;
    struct history *h = history_new();
    int files = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--late-ms") == 0) {
            params.lease.late_ms_max = number_of(argv[i], argv[i + 1]);
            i++;
        } else if (strcmp(argv[i], "--wgl-steps") == 0) {
            params.wgl_step_max = (uint64_t)number_of(argv[i], argv[i + 1]);
            i++;
        } else if (strcmp(argv[i], "--holes") == 0) {
            params.holes_allowed = true;
        } else {
            read_file(h, argv[i]);
            files++;
        }
    }
    if (files == 0 || h->op_count == 0) {
        fprintf(stderr, "history_check: no history\n");
        return 2;
    }
    int code = judge(h, &params);
    history_free(h);
    return code;
}
