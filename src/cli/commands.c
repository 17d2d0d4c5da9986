#include "cli/commands.h"

#include "cli/text.h"

/* A suggestion further away than this would puzzle more than it helps. */
#define SUGGEST_DISTANCE_MAX 2

const struct option option_table[OPT_COUNT] = {
    [OPT_ENDPOINTS] = { "endpoints", 'e', "host:port[,...]",
                        "tried in turn (127.0.0.1:7379) [CORDIS_ENDPOINTS]" },
    [OPT_USER] = { "user", '\0', "name", "user name; asks for the password [CORDIS_USER]" },
    [OPT_PASSWORD] = { "password", '\0', "text", "password; better in [CORDIS_PASSWORD]" },
    [OPT_DB] = { "db", '\0', "n", "database number (0)" },
    [OPT_WRITE_OUT] = { "write-out", 'w', "simple|table|json", "form of the output (simple)" },
    [OPT_HEX] = { "hex", '\0', NULL, "print keys and values as \\x66\\x6f\\x6f" },
    [OPT_COMMAND_TIMEOUT] = { "command-timeout", '\0', "time",
                              "how long to wait for an answer: 500ms, 8s, 1m (8s)" },
    [OPT_HELP] = { "help", 'h', NULL, "this text; `cordis <command> --help` for a command" },
    [OPT_VERSION] = { "version", '\0', NULL, "print the version of this tool" },
    [OPT_PREFIX] = { "prefix", '\0', NULL, "all keys that begin with key (\"\": all keys)" },
    [OPT_FROM_KEY] = { "from-key", '\0', NULL, "all keys from key on, to the end" },
    [OPT_REV] = { "rev", '\0', "n", "as of this revision; watch: from this revision on" },
    [OPT_LIMIT] = { "limit", '\0', "n", "at most n keys" },
    [OPT_KEYS_ONLY] = { "keys-only", '\0', NULL, "print only the keys, one a line" },
    [OPT_COUNT_ONLY] = { "count-only", '\0', NULL, "print only how many keys there are" },
    [OPT_PRINT_VALUE_ONLY] = { "print-value-only", '\0', NULL, "print only the values" },
    [OPT_SORT_BY] = { "sort-by", '\0', "field", "key, value, create, mod or version" },
    [OPT_ORDER] = { "order", '\0', "asc|desc", "order of the output (asc)" },
    [OPT_LEASE] = { "lease", '\0', "id", "attach the key to this lease" },
    [OPT_PREV_KV] = { "prev-kv", '\0', NULL, "also print what was there before" },
    [OPT_IGNORE_VALUE] = { "ignore-value", '\0', NULL, "keep the present value" },
    [OPT_IGNORE_LEASE] = { "ignore-lease", '\0', NULL, "keep the present lease" },
    [OPT_NX] = { "nx", '\0', NULL, "only if the key does not exist" },
    [OPT_XX] = { "xx", '\0', NULL, "only if the key exists" },
    [OPT_IF_MOD] = { "if-mod", '\0', "rev", "only if its mod revision is rev (0: no such key)" },
    [OPT_EXACT] = { "exact", '\0', NULL, "just this key, even if it ends in /" },
    [OPT_INTERACTIVE] = { "interactive", 'i', NULL, "prompt, also when stdin is no terminal" },
    [OPT_ID] = { "id", '\0', "id", "choose the id (else the server does)" },
    [OPT_KEYS] = { "keys", '\0', NULL, "also print the attached keys" },
    [OPT_ONCE] = { "once", '\0', NULL, "renew once, then end" },
    [OPT_NAME] = { "name", '\0', "name", "name of the new member" },
    [OPT_LEARNER] = { "learner", '\0', NULL, "add it without a vote until it is promoted" },
    [OPT_LOCAL] = { "local", '\0', NULL, "only --endpoints, not all members" },
    [OPT_PHYSICAL] = { "physical", '\0', NULL, "wait until the space is freed on disk" },
};

#define RANGE_OPTIONS (OPT_BIT(OPT_PREFIX) | OPT_BIT(OPT_FROM_KEY))

const struct command command_table[COMMAND_COUNT] = {
    { .id = COMMAND_GET, .name = "get", .args = "key [end]",
      .summary = "Print a key, or the keys from key up to (without) end.",
      .options = RANGE_OPTIONS | OPT_BIT(OPT_REV) | OPT_BIT(OPT_LIMIT) | OPT_BIT(OPT_KEYS_ONLY) |
                 OPT_BIT(OPT_COUNT_ONLY) | OPT_BIT(OPT_PRINT_VALUE_ONLY) | OPT_BIT(OPT_SORT_BY) |
                 OPT_BIT(OPT_ORDER),
      .positional_min = 1, .positional_max = 2,
      .notes = "Prints key and value on a line each. Exits 1 if a single key does not exist, or\n"
               "if what is sorted by other than the key is more than a server puts into an answer.\n",
      .examples = "  cordis get cfg/url --print-value-only\n"
                  "  cordis get cfg/ --prefix --keys-only\n"
                  "  cordis get cfg/url --rev 105          # as it was\n"
                  "  cordis get \"\" --prefix --sort-by mod --order desc --limit 5\n" },
    { .id = COMMAND_PUT, .name = "put", .args = "key [value]",
      .summary = "Store a value under a key; without value, all of stdin.",
      .options = OPT_BIT(OPT_LEASE) | OPT_BIT(OPT_PREV_KV) | OPT_BIT(OPT_IGNORE_VALUE) |
                 OPT_BIT(OPT_IGNORE_LEASE) | OPT_BIT(OPT_NX) | OPT_BIT(OPT_XX) |
                 OPT_BIT(OPT_IF_MOD),
      .positional_min = 1, .positional_max = 2,
      .notes = "Prints OK. Exits 1 if the condition (--nx, --xx, --if-mod) does not hold.\n"
               "A value that begins with a dash: put key -- -5\n",
      .examples = "  cordis put cfg/url http://10.0.0.1:80\n"
                  "  cordis put cfg/cert < cert.pem\n"
                  "  cordis put leader me --nx --lease 17\n"
                  "  cordis put cfg/url new --if-mod 105   # only if nobody changed it since\n" },
    { .id = COMMAND_DEL, .name = "del", .args = "key [end]",
      .summary = "Delete a key, or the keys from key up to (without) end.",
      .options = RANGE_OPTIONS | OPT_BIT(OPT_PREV_KV),
      .positional_min = 1, .positional_max = 2,
      .notes = "Prints how many keys were deleted; 0 is no error.\n",
      .examples = "  cordis del cfg/url\n"
                  "  cordis del cfg/ --prefix --prev-kv\n" },
    { .id = COMMAND_WATCH, .name = "watch", .args = "key [end] [-- command [arg...]]",
      .summary = "Print every change as it happens, or run a command for each.",
      .options = RANGE_OPTIONS | OPT_BIT(OPT_REV) | OPT_BIT(OPT_PREV_KV) | OPT_BIT(OPT_EXACT),
      .positional_min = 1, .positional_max = 2, .has_tail = true,
      .notes =
          "A key that ends in / means all keys below it (--exact: just that key).\n"
          "Prints PUT, DELETE or EXPIRE, then key and value, on a line each. Follows the\n"
          "cluster through lost connections without losing a change; ends with ctrl-C, or\n"
          "with exit 1 if --rev is older than the kept history.\n"
          "A command finds CORDIS_WATCH_REVISION, _EVENT_TYPE, _KEY and _VALUE in its\n"
          "environment, and its output replaces the printing. What cannot be a variable\n"
          "(a NUL byte, over 96 KiB) is named in CORDIS_WATCH_OMITTED. If it fails, that is\n"
          "said on stderr and the watch goes on; if it cannot be run, the watch exits 1.\n",
      .examples = "  cordis watch cfg/\n"
                  "  cordis watch cfg/url --rev 105 --prev-kv\n"
                  "  cordis watch jobs/ -- sh -c 'echo \"$CORDIS_WATCH_KEY\"'\n" },
    { .id = COMMAND_TXN, .name = "txn", .args = "",
      .summary = "Run a transaction read from stdin: if all compares hold, then, else.",
      .options = OPT_BIT(OPT_INTERACTIVE), .positional_min = 0, .positional_max = 0,
      .notes =
          "Three parts, an empty line behind each: compares, what to do if all hold, what\n"
          "to do if one does not. Prints SUCCESS or FAILURE (exit 1) and the results;\n"
          "on stderr, which compare did not hold and what was found.\n"
          "Compares: mod, create, version, lease (\"key\") < = > != \"number\"\n"
          "          value(\"key\") < = > != \"text\"     exists(\"key\")     missing(\"key\")\n"
          "Requests: get, put and del, with the options of those commands.\n"
          "Quotes:   \"...\" knows \\n \\t \\\" \\\\ \\x00; '...' is taken as it is.\n",
      .examples = "cordis txn <<'END'\n"
                  "mod(\"cfg/url\") = \"105\"\n"
                  "\n"
                  "put cfg/url \"http://10.0.0.2\"\n"
                  "\n"
                  "get cfg/url\n"
                  "END\n" },
    { .id = COMMAND_LEASE_GRANT, .group = "lease", .name = "grant", .args = "ttl",
      .summary = "Make a lease that lives for ttl seconds unless it is kept alive.",
      .options = OPT_BIT(OPT_ID), .positional_min = 1, .positional_max = 1,
      .notes = "The ttl is in seconds, or with a unit: 500ms, 2m, 1h. Lease ids are decimal\n"
               "numbers (0x... is understood too).\n",
      .examples = "  cordis lease grant 10\n"
                  "  cordis put leader me --lease 17\n"
                  "  cordis lease keep-alive 17\n" },
    { .id = COMMAND_LEASE_REVOKE, .group = "lease", .name = "revoke", .args = "id",
      .summary = "End a lease and delete the keys attached to it.",
      .positional_min = 1, .positional_max = 1,
      .examples = "  cordis lease revoke 17\n" },
    { .id = COMMAND_LEASE_TIMETOLIVE, .group = "lease", .name = "timetolive", .args = "id",
      .summary = "Print how long a lease was granted for and how long it has left.",
      .options = OPT_BIT(OPT_KEYS), .positional_min = 1, .positional_max = 1,
      .notes = "Exits 1 if there is no such lease.\n",
      .examples = "  cordis lease timetolive 17 --keys\n" },
    { .id = COMMAND_LEASE_LIST, .group = "lease", .name = "list", .args = "",
      .summary = "Print the ids of all leases.", .positional_min = 0, .positional_max = 0,
      .examples = "  cordis lease list\n" },
    { .id = COMMAND_LEASE_KEEP_ALIVE, .group = "lease", .name = "keep-alive", .args = "id",
      .summary = "Renew a lease until ctrl-C.", .options = OPT_BIT(OPT_ONCE),
      .positional_min = 1, .positional_max = 1,
      .notes = "Renews three times a ttl and prints a line each time; follows the cluster\n"
               "through lost connections. Exits 1 when the lease is gone.\n",
      .examples = "  cordis lease keep-alive 17\n"
                  "  cordis lease keep-alive 17 --once\n" },
    { .id = COMMAND_MEMBER_LIST, .group = "member", .name = "list", .args = "",
      .summary = "Print the members of the cluster (as a table).",
      .positional_min = 0, .positional_max = 0,
      .notes = "With -w simple: a line each, the columns apart by a comma.\n",
      .examples = "  cordis member list\n" },
    { .id = COMMAND_MEMBER_ADD, .group = "member", .name = "add", .args = "host:peer-port",
      .summary = "Announce a new member, which votes once it is in sync.",
      .options = OPT_BIT(OPT_NAME) | OPT_BIT(OPT_LEARNER), .positional_min = 1,
      .positional_max = 1,
      .notes = "Then start cordis-server on that host with --join. With --learner it gets no\n"
               "vote until `cordis member promote`.\n",
      .examples = "  cordis member add 10.0.0.3:7380 --name n3\n" },
    { .id = COMMAND_MEMBER_REMOVE, .group = "member", .name = "remove", .args = "id",
      .summary = "Remove a member from the cluster, for good.",
      .positional_min = 1, .positional_max = 1,
      .notes = "Refused if the rest could not form a majority. `cordis member list` shows ids.\n",
      .examples = "  cordis member remove 8211\n" },
    { .id = COMMAND_MEMBER_PROMOTE, .group = "member", .name = "promote", .args = "id",
      .summary = "Give a learner its vote.", .positional_min = 1, .positional_max = 1,
      .notes = "Refused until the learner is in sync with the leader.\n",
      .examples = "  cordis member promote 8211\n" },
    { .id = COMMAND_MEMBER_UPDATE, .group = "member", .name = "update",
      .args = "id host:peer-port", .summary = "Change the peer address of a member.",
      .positional_min = 2, .positional_max = 2,
      .examples = "  cordis member update 8211 10.0.0.4:7380\n" },
    { .id = COMMAND_MEMBER_TRANSFER, .group = "member", .name = "transfer", .args = "id",
      .summary = "Make another member the leader.", .positional_min = 1, .positional_max = 1,
      .examples = "  cordis member transfer 8211\n" },
    { .id = COMMAND_STATUS, .name = "status", .args = "",
      .summary = "Print the state of every member (as a table).",
      .options = OPT_BIT(OPT_LOCAL), .positional_min = 0, .positional_max = 0,
      .notes = "Asks one of the endpoints who belongs to the cluster, then each member about itself.\n"
               "LAG is how many log entries it has still to apply. Exits 1 if a member does not\n"
               "answer, knows no leader or reports an error; 3 if none answers. With -w simple:\n"
               "a line each, with commas.\n",
      .examples = "  cordis status\n"
                  "  cordis status -e n1:7379 -e n2:7379 -w json\n"
                  "  cordis status --local -e n2:7379      # only what n2 says of itself\n" },
    { .id = COMMAND_COMPACT, .name = "compact", .args = "rev",
      .summary = "Forget the history before a revision.", .options = OPT_BIT(OPT_PHYSICAL),
      .positional_min = 1, .positional_max = 1,
      .notes = "Present keys stay; older versions can no longer be read or watched. The server\n"
               "also compacts by itself.\n",
      .examples = "  cordis compact 105\n"
                  "  cordis compact 105 --physical\n" },
};

const struct command *command_find(struct slice group, struct slice name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &command_table[i];
        struct slice its_group = c->group == NULL ? SLICE_NONE : slice_of(c->group);
        if (slice_eq(its_group, group) && slice_eq(slice_of(c->name), name)) return c;
    }
    return NULL;
}

const char *command_group_find(struct slice name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *group = command_table[i].group;
        if (group != NULL && slice_eq(slice_of(group), name)) return group;
    }
    return NULL;
}

/* Names from other tools that are not near ours by letters. */
static const char *alias_of(struct slice name)
{
    static const char *const alias[][2] = {
        { "set", "put" },           { "delete", "del" },     { "rm", "del" },
        { "compaction", "compact" }, { "endpoint", "status" }, { "health", "status" },
        { "ls", "get" },            { "members", "member" }, { "leases", "lease" },
        { "ttl", "timetolive" },    { "move-leader", "member transfer" },
        { "keepalive", "keep-alive" }, { "create", "grant" },
    };
    for (size_t i = 0; i < ARRAY_LEN(alias); i++) {
        if (slice_eq(name, slice_of(alias[i][0]))) return alias[i][1];
    }
    return NULL;
}

static void consider(const char *candidate, struct slice name, const char **best, size_t *distance)
{
    size_t d = text_distance(slice_of(candidate), name);
    if (d > SUGGEST_DISTANCE_MAX || d >= name.len || d >= *distance) return;
    *distance = d;
    *best = candidate;
}

const char *command_suggest(struct slice group, struct slice name)
{
    const char *best = alias_of(name);
    if (best != NULL) return best;
    size_t distance = SIZE_MAX;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &command_table[i];
        struct slice its_group = c->group == NULL ? SLICE_NONE : slice_of(c->group);
        if (slice_eq(its_group, group)) consider(c->name, name, &best, &distance);
        if (group.len == 0 && c->group != NULL) consider(c->group, name, &best, &distance);
    }
    return best;
}

const char *option_suggest(uint64_t allowed, struct slice name)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        if ((allowed & OPT_BIT(i)) != 0) consider(option_table[i].name, name, &best, &distance);
    }
    return best;
}
