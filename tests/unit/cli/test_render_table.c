#include "cli_fake.h"

#define KV "[ key k value v type string create :2 mod :5 version :3 lease :17 ]"
#define HASH "[ key h value nil type hash create :4 mod :4 version :1 lease :0 ]"

static void test_tables(void **state)
{
    (void)state;
    static const struct fake_case cases[] = {
        { "get k --prefix -w table", "", "[ revision :9 count :2 kvs [ " KV " " HASH " ] ]",
          "KV RANGE k PREFIX\n", EXIT_OK,
          "+-----+--------+------------+---------+---------+-------+\n"
          "| KEY | VALUE  | CREATE REV | MOD REV | VERSION | LEASE |\n"
          "+-----+--------+------------+---------+---------+-------+\n"
          "| k   | v      | 2          | 5       | 3       | 17    |\n"
          "| h   | (hash) | 4          | 4       | 1       | 0     |\n"
          "+-----+--------+------------+---------+---------+-------+\n", "" },
        { "get k --prefix --keys-only -w table", "", "[ revision :9 count :1 kvs [ " KV " ] ]",
          "KV RANGE k PREFIX KEYSONLY\n", EXIT_OK,
          "+-----+\n| KEY |\n+-----+\n| k   |\n+-----+\n", "" },
        { "watch k --rev 5 -w table", "",
          ":9 [ events [ [ op put key k value v rev :5 create :2 version :3 lease :0 ] "
          "[ op expire key k value nil rev :6 create :0 version :0 lease :3 ] ] next :7 ] -ERR_x",
          "KV REVISION\nKV READ k FROM 5 COUNT 1000 BLOCK 5000\n"
          "KV READ k FROM 7 COUNT 1000 BLOCK 5000\n",
          EXIT_NO,
          "         5  PUT     k                         v\n"
          "         6  EXPIRE  k                         \n", "x" },
        { "lease list -w table", "", "[ :3 :17 ] [ ]", "LEASE LIST\nLEASE LIST AFTER 17\n",
          EXIT_OK, "+----+\n| ID |\n+----+\n| 3  |\n| 17 |\n+----+\n", "" },
        { "lease timetolive 17 --keys -w table", "",
          "[ id :17 granted :10 ttl :7 keys [ a b ] total :2 ]", "LEASE TTL 17 KEYS\n", EXIT_OK,
          "+----+-------------+-----------+------+\n"
          "| ID | GRANTED TTL | REMAINING | KEYS |\n"
          "+----+-------------+-----------+------+\n"
          "| 17 | 10          | 7         | a b  |\n"
          "+----+-------------+-----------+------+\n", "" },
        { "member list", "",
          "[ [ id :8 name n1 peer h:7380 client h:7379 role leader match :5 lag :0 started :1 "
          "version 0.1 ] ]",
          "MEMBER LIST\n", EXIT_OK,
          "+----+---------+------+-----------+-------------+--------+-----+---------+\n"
          "| ID | STATUS  | NAME | PEER ADDR | CLIENT ADDR | ROLE   | LAG | VERSION |\n"
          "+----+---------+------+-----------+-------------+--------+-----+---------+\n"
          "| 8  | started | n1   | h:7380    | h:7379      | leader | 0   | 0.1     |\n"
          "+----+---------+------+-----------+-------------+--------+-----+---------+\n", "" },
    };
    fake_cases_run(cases, ARRAY_LEN(cases));
}

static void test_sizes_are_for_people_and_errors_fail(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } sizes[] = { { "0", "| 0 B " },         { "999", "| 999 B " },      { "1000", "| 1.0 kB " },
                  { "20480", "| 20 kB " },   { "999499", "| 999 kB " },  { "999500", "| 1.0 MB " },
                  { "9950000", "| 10 MB " }, { "1500000000", "| 1.5 GB " } };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf answer = { 0 };
        buf_printf(&answer, "[ id :8 version 0.1 dbsize :%s leader :9 errors [ NOSPACE ] ]",
                   sizes[i].bytes);
        buf_append_u8(&answer, '\0');
        struct fake_run r = fake_run("status --local", "", (const char *)answer.at);
        assert_int_equal(r.code, EXIT_NO);
        if (strstr(r.out, sizes[i].want) == NULL) fail_msg("%s:\n%s", sizes[i].bytes, r.out);
        assert_non_null(strstr(r.out, "| NOSPACE "));
        fake_run_deinit(&r);
        buf_deinit(&answer);
    }
}

static void test_cells_are_escaped(void **state)
{
    (void)state;
    struct kv kv = { .key = SLICE_LIT("k\n"), .value = SLICE_LIT("\x1b[2J"), .has_value = true };
    const struct range_result res = { .count = 1, .kvs = { &kv, 1 } };
    const struct render r = { .format = FORMAT_TABLE };
    struct buf out = { 0 };
    render_range(&out, &r, &res);
    buf_append_u8(&out, '\0');
    assert_non_null(strstr((const char *)out.at, "| k\\n | \\x1b[2J |"));
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_sizes_are_for_people_and_errors_fail),
        cmocka_unit_test(test_cells_are_escaped),
    };
    return cmocka_run_group_tests_name("cli/render_table", tests, NULL, NULL);
}
