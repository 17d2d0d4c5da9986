#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "net/net_int.h"

#define CONN_COUNT 500

/* Sequential ids, removed in a random order while others come: every one that is there is
 * found, none that is gone. */
static void test_put_find_remove(void **state)
{
    (void)state;
    static struct conn conns[CONN_COUNT];
    struct conn_table table = { 0 };
    uint64_t last_id = 0;
    size_t count = 0;
    uint64_t seed = 1;
    assert_null(conn_table_find(&table, 1));
    for (int step = 0; step < 20000; step++) {
        seed = u64_mix(seed + 1);
        struct conn *conn = &conns[seed % CONN_COUNT];
        if (conn->id == 0) {
            /* Jumps make runs that collide. */
            last_id += (seed >> 32) % 50 == 0 ? 64 : 1;
            conn->id = last_id;
            conn_table_put(&table, conn, ++count);
        } else {
            assert_ptr_equal(conn_table_find(&table, conn->id), conn);
            conn_table_remove(&table, conn);
            assert_null(conn_table_find(&table, conn->id));
            conn->id = 0;
            count--;
        }
        if (step % 100 != 0) continue;
        for (size_t i = 0; i < CONN_COUNT; i++) {
            if (conns[i].id != 0) assert_ptr_equal(conn_table_find(&table, conns[i].id), &conns[i]);
        }
    }
    assert_null(conn_table_find(&table, last_id + 1));
    mem_free(table.slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_put_find_remove) };
    return cmocka_run_group_tests_name("net/conn_table", tests, NULL, NULL);
}
