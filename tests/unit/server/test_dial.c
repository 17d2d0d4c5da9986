/* A wanted connection: attempts, pauses, deadlines, and silence after it was stopped. */
#include "peer_kit.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sys/eventfd.h>

typedef int look_up_fn(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out);

/* The name "two" has an address where nobody listens, and then the listener's. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
    look_up_fn *libc = (look_up_fn *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (strcmp(host, "two") != 0 || (hints->ai_flags & AI_NUMERICHOST) != 0) return libc(host, port, hints, out);
    int code = libc("127.0.0.2", port, hints, out);
    return code != 0 ? code : libc("127.0.0.1", port, hints, &(*out)->ai_next);
}

struct caller {
    struct kit kit;
    struct dial_options options;
    struct dial dial;
    struct listener *listener;
    struct bare host;
    size_t accepted, opened, closed;
    char why[256];
};

static void opened(void *user, struct conn *conn)
{
    ((struct caller *)user)->opened++;
    chain_append(conn_out(conn), "hi", 2);
    conn_dirty(conn);
}

static size_t bytes(void *user, struct conn *conn, struct slice in)
{
    (void)conn;
    struct caller *c = user;
    dial_established(&c->dial, loop_now_ms(c->kit.loop));
    return in.len;
}

static void closed(void *user, const char *why)
{
    struct caller *c = user;
    c->closed++;
    snprintf(c->why, sizeof c->why, "%s", why);
}

static const struct dial_hooks hooks = { opened, bytes, closed };

static void accepted(void *ctx, struct conn *conn)
{
    struct caller *c = ctx;
    c->accepted++;
    bare_accept(&c->host, conn);
}

static void begin(struct caller *c, const char *host)
{
    *c = (struct caller){ 0 };
    kit_begin(&c->kit);
    c->options = (struct dial_options){ c->kit.loop, eventfd(0, EFD_NONBLOCK), 10, 40, 10000, 5000, NULL };
    struct errmsg em;
    enum err e = net_listen(c->kit.loop, "127.0.0.1", 0, 8, accepted, c, &c->listener, &em);
    assert_int_equal(e, OK);
    char address[64];
    snprintf(address, sizeof address, "%s:%u", host, listener_port(c->listener));
    dial_init(&c->dial, &c->options, &hooks, c, address, 3);
}

static void end(struct caller *c)
{
    dial_stop(&c->dial);
    kit_finish(&c->kit);
    close(c->options.wake_fd);
    buf_deinit(&c->host.got);
}

#define UNTIL(c, condition) \
    KIT_UNTIL(&(c)->kit, (dial_turn(&(c)->dial, loop_now_ms((c)->kit.loop)), (condition)))

static void test_up_and_again_when_it_breaks(void **state)
{
    (void)state;
    static const char *const hosts[] = { "127.0.0.1", "localhost" };
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct caller c;
        begin(&c, hosts[i]);
        dial_start(&c.dial, loop_now_ms(c.kit.loop));
        for (size_t round = 1; round <= 2; round++) {
            UNTIL(&c, c.host.got.len == 2 * round);
            assert_int_equal(c.dial.phase, DIAL_CONNECTING);
            bare_say(&c.host, SLICE_LIT("welcome"));
            UNTIL(&c, c.dial.phase == DIAL_UP);
            assert_int_equal(dial_next_ms(&c.dial), INT64_MAX);
            conn_close(c.host.conn);
            UNTIL(&c, c.closed == round);
            assert_non_null(strstr(c.why, "closed the connection"));
        }
        end(&c);
    }
}

/* One of them is found that answers, and comes first when the connection breaks. */
static void test_all_addresses_of_a_name_are_tried(void **state)
{
    (void)state;
    struct caller c;
    begin(&c, "two");
    dial_start(&c.dial, loop_now_ms(c.kit.loop));
    UNTIL(&c, c.host.got.len == 2);
    size_t failed = c.closed;
    assert_true(failed >= 1);
    assert_non_null(strstr(c.why, "refused"));
    bare_say(&c.host, SLICE_LIT("welcome"));
    UNTIL(&c, c.dial.phase == DIAL_UP);
    conn_close(c.host.conn);
    UNTIL(&c, c.host.got.len == 4);
    assert_int_equal(c.closed, failed + 1);
    end(&c);
}

/* Nobody listens: longer and longer, never longer than the longest, and with a reason. */
static void test_pauses_grow(void **state)
{
    (void)state;
    struct caller c;
    begin(&c, "127.0.0.1");
    listener_close(c.listener);
    loop_turn(c.kit.loop, false);
    int64_t now_ms = loop_now_ms(c.kit.loop);
    dial_start(&c.dial, now_ms);
    static const int64_t most[] = { 10, 20, 40, 40, 40 };
    for (size_t i = 0; i < ARRAY_LEN(most); i++) {
        KIT_UNTIL(&c.kit, c.closed == i + 1);
        assert_int_equal(c.dial.phase, DIAL_WAITING);
        int64_t pause_ms = c.dial.retry_at_ms - loop_now_ms(c.kit.loop);
        assert_true(pause_ms <= most[i]);
        assert_non_null(strstr(c.why, "refused"));
        dial_turn(&c.dial, c.dial.retry_at_ms);
    }
    end(&c);
}

static void test_after_stop_nothing_is_heard(void **state)
{
    (void)state;
    struct caller c;
    begin(&c, "127.0.0.1");
    dial_start(&c.dial, loop_now_ms(c.kit.loop));
    UNTIL(&c, c.accepted == 1);
    bare_say(&c.host, SLICE_LIT("welcome"));
    dial_stop(&c.dial);
    for (int i = 0; i < 10; i++) loop_turn(c.kit.loop, true);
    assert_int_equal(c.closed, 0);
    assert_int_equal(c.dial.phase, DIAL_STOPPED);
    assert_int_equal(dial_next_ms(&c.dial), INT64_MAX);
    end(&c);
}

static void test_silence_ends_an_attempt(void **state)
{
    (void)state;
    struct caller c;
    begin(&c, "127.0.0.1");
    c.options.handshake_ms_max = 20;
    dial_start(&c.dial, loop_now_ms(c.kit.loop));
    UNTIL(&c, c.closed == 1);
    assert_non_null(strstr(c.why, "no answer in time"));
    end(&c);
}

static void test_a_bad_address_is_told_and_may_be_mended(void **state)
{
    (void)state;
    struct caller c;
    begin(&c, "127.0.0.1");
    char good[DIAL_ADDRESS_BYTES_MAX + 1];
    memcpy(good, c.dial.address, sizeof good);
    dial_address(&c.dial, "nonsense");
    dial_start(&c.dial, loop_now_ms(c.kit.loop));
    assert_int_equal(c.closed, 1);
    assert_non_null(strstr(c.why, "nonsense"));
    dial_address(&c.dial, good);
    UNTIL(&c, c.accepted == 1);
    end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_up_and_again_when_it_breaks),
        cmocka_unit_test(test_all_addresses_of_a_name_are_tried),
        cmocka_unit_test(test_pauses_grow),
        cmocka_unit_test(test_after_stop_nothing_is_heard),
        cmocka_unit_test(test_silence_ends_an_attempt),
        cmocka_unit_test(test_a_bad_address_is_told_and_may_be_mended),
    };
    return cmocka_run_group_tests_name("server/dial", tests, NULL, NULL);
}
