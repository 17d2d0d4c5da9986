#include "cli_fake.h"

#define PAIR(k, v) "[ key " k " value " v " type string create :1 mod :1 version :1 lease :0 ]"

static void test_get(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get k", "", "[ revision :9 count :0 more :0 kvs [ ] ]", "KV RANGE k\n", EXIT_NO, "",
          "" },
        { "get k --count-only", "", "[ revision :9 count :0 kvs [ ] ]", "KV RANGE k COUNTONLY\n",
          EXIT_OK, "0\n", "" },
        { "get k --prefix", "", "[ revision :9 count :0 more :0 kvs [ ] ]", "KV RANGE k PREFIX\n",
          EXIT_OK, "", "" },
        { "get k --limit x", "", "", "", EXIT_USAGE, "", "--limit needs a number" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

/* The server cuts an answer: the rest comes from the same revision, without a repeat. */
static void test_get_pages(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get a z --order desc", "",
          "[ revision :9 count :3 more :1 kvs [ " PAIR("c", "3") " " PAIR(
              "b", "2") " ] ]"
                        "[ revision :12 count :1 more :0 kvs [ " PAIR("a", "1") " ] ]",
          "KV RANGE a END z SORT KEY DESC\nKV RANGE a END b REV 9 SORT KEY DESC\n", EXIT_OK,
          "c\n3\nb\n2\na\n1\n", "" },
        { "get a z --order desc --limit 3 --rev 7", "",
          "[ revision :9 count :5 more :1 kvs [ " PAIR("c", "3") " " PAIR(
              "b", "2") " ] ]"
                        "[ revision :9 count :3 more :1 kvs [ " PAIR("a", "1") " ] ]",
          "KV RANGE a END z REV 7 LIMIT 3 SORT KEY DESC\n"
          "KV RANGE a END b REV 7 LIMIT 1 SORT KEY DESC\n",
          EXIT_OK, "c\n3\nb\n2\na\n1\n", "" },
        { "get a --prefix --limit 1", "",
          "[ revision :9 count :5 more :1 kvs [ " PAIR("a", "1") " ] ]",
          "KV RANGE a PREFIX LIMIT 1\n", EXIT_OK, "a\n1\n", "" },
        { "get a --prefix --sort-by mod", "",
          "[ revision :9 count :5 more :1 kvs [ " PAIR("a", "1") " ] ]",
          "KV RANGE a PREFIX SORT MOD ASC\n", EXIT_NO, "a\n1\n", "not all keys are shown" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_put(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "put k v", "", "[ revision :9 applied :1 ]", "KV PUT k v\n", EXIT_OK, "OK\n", "" },
        { "put k", "from\nstdin", "[ revision :9 applied :1 ]", "KV PUT k from\nstdin\n", EXIT_OK,
          "OK\n", "" },
        { "put k", "", "[ revision :9 applied :1 ]", "KV PUT k ''\n", EXIT_OK, "OK\n", "" },
        { "put k --ignore-value --lease 5", "unread", "[ revision :9 applied :1 ]",
          "KV PUT k '' LEASE 5 IGNOREVALUE\n", EXIT_OK, "OK\n", "" },
        { "put k v --xx", "", "[ revision :9 applied :0 prev nil ]", "KV PUT k v XX\n", EXIT_NO, "",
          "not stored: there is no key 'k'" },
        { "put k v --if-mod 5", "", "[ revision :9 applied :0 prev " PAIR("k", "w") " ]",
          "KV PUT k v IFMOD 5\n", EXIT_NO, "", "not stored: 'k' exists with mod revision 1" },
        { "put k v --nx --xx", "", "", "", EXIT_USAGE, "", "choose one" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_del_and_compact(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "del k", "", "[ revision :9 deleted :0 ]", "KV DEL k\n", EXIT_OK, "0\n", "" },
        { "del k --prefix --from-key", "", "", "", EXIT_USAGE, "", "choose one" },
        { "compact 5 --physical", "", "+OK", "KV COMPACT 5 PHYSICAL\n", EXIT_OK,
          "compacted revision 5\n", "" },
        { "compact five", "", "", "", EXIT_USAGE, "", "'five' is not a revision" },
        { "compact 5", "", "-COMPACTED_required_revision_5_has_been_compacted", "KV COMPACT 5\n",
          EXIT_NO, "", "has been compacted" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_get_pages),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_del_and_compact),
    };
    return cmocka_run_group_tests_name("cli/run", tests, NULL, NULL);
}
