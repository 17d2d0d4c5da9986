#include "cli/help.h"

#include "cli/cli.h"

static void print_summary(struct buf *out, const struct command *c)
{
    char name[32];
    size_t group_len = c->group == NULL ? 0 : strlen(c->group) + 1;
    ASSERT(group_len + strlen(c->name) < sizeof name);
    if (c->group != NULL) {
        memcpy(name, c->group, group_len - 1);
        name[group_len - 1] = ' ';
    }
    memcpy(name + group_len, c->name, strlen(c->name) + 1);
    buf_printf(out, "  %-17s %s\n", name, c->summary);
}

static void print_option(struct buf *out, const struct option *o)
{
    char letter[] = { '-', o->letter, ',', ' ', '\0' };
    const char *value = o->value == NULL ? "" : o->value;
    int spare = (int)(27 - strlen(o->name) - strlen(value));
    buf_printf(out, "  %s--%s %s%*s %s\n", o->letter == '\0' ? "    " : letter, o->name, value,
               MAX(spare, 0), "", o->help);
}

static void print_options(struct buf *out, uint64_t mask)
{
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if ((mask & OPT_BIT(i)) != 0) print_option(out, &option_table[i]);
    }
}

void help_tool(struct buf *out)
{
    buf_printf(out,
               "cordis %s: read, change and watch the keys of a Cordis cluster.\n\n"
               "Usage: cordis <command> [options] [arguments]\n\nCommands:\n",
               CLI_VERSION);
    for (size_t i = 0; i < COMMAND_COUNT; i++) print_summary(out, &command_table[i]);
    buf_printf(out, "\nOptions for all commands:\n");
    print_options(out, OPT_GLOBAL_MASK);
    buf_printf(out,
               "\nExamples:\n"
               "  cordis put cfg/url http://10.0.0.1        cordis get cfg/ --prefix\n"
               "  cordis watch cfg/                         cordis status -e n1:7379 -e n2:7379\n\n"
               "Exit codes: 0 done; 1 refused, or not there; 2 wrong usage; 3 cannot connect;\n"
               "4 sent, but no answer came: it may have happened; 5 done, but the output could\n"
               "not be written; 130 ctrl-C.\n");
}

void help_group(struct buf *out, const char *group)
{
    buf_printf(out, "Usage: cordis %s <command> [options] [arguments]\n\nCommands:\n", group);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *its_group = command_table[i].group;
        if (its_group != NULL && strcmp(its_group, group) == 0) {
            print_summary(out, &command_table[i]);
        }
    }
    buf_printf(out, "\n`cordis %s <command> --help` explains one of them.\n", group);
}

void help_command(struct buf *out, const struct command *c)
{
    buf_printf(out, "%s\n\nUsage: cordis %s%s%s [options]%s%s\n", c->summary,
               c->group == NULL ? "" : c->group, c->group == NULL ? "" : " ", c->name,
               c->args[0] == '\0' ? "" : " ", c->args);
    if (c->notes != NULL) buf_printf(out, "\n%s", c->notes);
    if (c->options != 0) {
        buf_printf(out, "\nOptions:\n");
        print_options(out, c->options);
    }
    buf_printf(out, "\nExamples:\n%s", c->examples);
    buf_printf(out, "\nAlso --endpoints --user --db -w simple|table|json --hex --command-timeout:\n"
                    "see `cordis --help`.\n");
}
