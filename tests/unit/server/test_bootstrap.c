/* Three nodes in one process found a group; and all that must keep them from it. */
#include "peer_kit.h"

#include "../net/tls_kit.h"
#include "server/bootstrap.h"

#define NODES 3

struct node_of {
    struct bootstrap *bootstrap;
    struct tls_context *tls;
    struct bootstrap_list list;
    char name[8];
};

struct band {
    struct kit kit;
    struct node_of at[NODES];
    char text[256];
};

/* certs: of each, or NULL: without TLS. */
static void band_begin_with(struct band *b, const char *const certs[NODES])
{
    *b = (struct band){ .text = "" };
    kit_begin(&b->kit);
    size_t len = 0;
    for (size_t i = 0; i < NODES; i++) {
        struct peer_options options = kit_options();
        if (certs != NULL) options.tls = b->at[i].tls = certs_context(certs[i], "good");
        kit_end(&b->kit, &options, false);
        snprintf(b->at[i].name, sizeof b->at[i].name, "n%zu", i + 1);
        len += (size_t)snprintf(b->text + len, sizeof b->text - len, "%sn%zu=127.0.0.1:%u", i == 0 ? "" : ",",
                                i + 1, peers_port(b->kit.ends[i].peers));
    }
}

static void band_begin(struct band *b) { band_begin_with(b, NULL); }

static void launch_as(struct band *b, size_t i, uint64_t directory_id, const char *text,
                      const struct raft_members *known)
{
    struct node_of *n = &b->at[i];
    struct errmsg em = { "" };
    assert_int_equal(bootstrap_list_parse(text, n->name, &n->list, &em), OK);
    char client[32];
    snprintf(client, sizeof client, "host%zu:7379", i + 1);
    struct bootstrap_self self = { n->name, client, i + 1, directory_id, 1 };
    n->bootstrap = bootstrap_new(b->kit.ends[i].peers, &n->list, &self, known, kit_mono_ms());
}

static void launch(struct band *b, size_t i) { launch_as(b, i, 11 + i, b->text, NULL); }

static void halt(struct band *b, size_t i)
{
    bootstrap_free(b->at[i].bootstrap);
    b->at[i].bootstrap = NULL;
}

static void band_end(struct band *b)
{
    for (size_t i = 0; i < NODES; i++) halt(b, i);
    kit_finish(&b->kit);
    for (size_t i = 0; i < NODES; i++) tls_context_free(b->at[i].tls);
}

static bool complete(struct band *b, size_t i) { return bootstrap_members(b->at[i].bootstrap) != NULL; }

static bool all_turn(struct band *b)
{
    for (size_t i = 0; i < NODES; i++) {
        if (b->at[i].bootstrap != NULL) bootstrap_turn(b->at[i].bootstrap, loop_now_ms(b->kit.loop));
    }
    return true;
}

#define UNTIL(b, condition) KIT_UNTIL(&(b)->kit, all_turn(b) && (condition))

static void turns(struct band *b, int count)
{
    for (int i = 0; i < count; i++) {
        all_turn(b);
        loop_turn(b->kit.loop, true);
    }
}

static void test_three_agree_on_the_same_members(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    launch(&b, 0);
    launch(&b, 1);
    turns(&b, 20);
    assert_false(complete(&b, 0) || complete(&b, 1)); /* two of three are not all */
    char waits[64];
    assert_string_equal(bootstrap_waits_for(b.at[0].bootstrap, waits, sizeof waits), "n3");
    launch(&b, 2);
    UNTIL(&b, complete(&b, 0) && complete(&b, 1) && complete(&b, 2));
    const struct raft_members *m = bootstrap_members(b.at[0].bootstrap);
    assert_int_equal(m->count, NODES);
    for (size_t i = 0; i < NODES; i++) {
        assert_true(raft_members_eq(m, bootstrap_members(b.at[i].bootstrap)));
        const struct raft_member *one = &m->at[i];
        assert_int_equal(one->id, i + 1);
        assert_int_equal(one->directory_id, 11 + i);
        assert_int_equal(one->role, RAFT_VOTER);
        assert_string_equal(one->name, b.at[i].name);
        assert_non_null(strstr(b.text, one->peer_address));
        char client[32];
        snprintf(client, sizeof client, "host%zu:7379", i + 1);
        assert_string_equal(one->client_address, client);
    }
    uint64_t id = bootstrap_cluster_id(m);
    assert_in_range(id, 1, (1ULL << 53) - 1);
    struct raft_members other = *m;
    other.at[1].directory_id++;
    assert_true(bootstrap_cluster_id(&other) != id);
    band_end(&b);
}

/* One of them stopped right after it was complete and came back; the third was slow. */
static void test_a_slow_third_is_told(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    for (size_t i = 0; i < NODES; i++) launch(&b, i);
    UNTIL(&b, complete(&b, 0) && complete(&b, 1) && complete(&b, 2));
    struct raft_members members = *bootstrap_members(b.at[0].bootstrap);
    for (size_t i = 0; i < NODES; i++) halt(&b, i);
    launch(&b, 2); /* it lost its memory, not its directory */
    turns(&b, 5);
    assert_false(complete(&b, 2));
    launch_as(&b, 0, 11, b.text, &members);
    assert_true(complete(&b, 0));
    UNTIL(&b, complete(&b, 2)); /* without the second */
    assert_true(raft_members_eq(bootstrap_members(b.at[2].bootstrap), &members));
    band_end(&b);
}

static void test_a_wiped_node_is_refused(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    for (size_t i = 0; i < NODES; i++) launch(&b, i);
    UNTIL(&b, complete(&b, 0) && complete(&b, 1) && complete(&b, 2));
    halt(&b, 2);
    launch_as(&b, 2, 999, b.text, NULL);
    struct peers_stats st0, st1;
    do {
        turns(&b, 1);
        peers_stats_get(b.kit.ends[0].peers, &st0);
        peers_stats_get(b.kit.ends[1].peers, &st1);
    } while (st0.refused < 2 || st1.refused < 2); /* bounded by the test's alarm */
    assert_false(complete(&b, 2));
    assert_int_equal(raft_members_find(bootstrap_members(b.at[0].bootstrap), 3)->directory_id, 13);
    band_end(&b);
}

static void test_unequal_lists_are_refused(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    char two[256];
    snprintf(two, sizeof two, "%s", b.text);
    *strrchr(two, ',') = '\0'; /* n1 and n2 only */
    launch(&b, 0);
    launch_as(&b, 1, 12, two, NULL);
    launch(&b, 2);
    struct peers_stats st;
    do {
        turns(&b, 1);
        peers_stats_get(b.kit.ends[0].peers, &st);
    } while (st.refused < 2);
    for (size_t i = 0; i < NODES; i++) assert_false(complete(&b, i));
    band_end(&b);
}

static enum err ask(struct band *b, size_t i, const struct peer_founder *who, struct errmsg *em)
{
    struct peer_founder answer;
    struct peers *p = b->kit.ends[i].peers;
    static const struct peer_cert none = { .shown = false };
    return p->meet(p->meet_ctx, who, &none, &answer, em);
}

/* What is said to whom, in words. */
static void test_refusals_name_what_is_wrong(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    launch(&b, 0);
    struct errmsg em;
    struct peer_founder good = { 1, 2, 12, SLICE_LIT("n2"), SLICE_LIT("h:1"), slice_of(b.at[0].list.text),
                                 SLICE_NONE };
    struct peer_founder who = good;
    who.list = SLICE_LIT("n1=x:1,n2=y:2");
    assert_int_equal(ask(&b, 0, &who, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "n2 has 'n1=x:1,n2=y:2', n1 has 'n1=127.0.0.1:"));
    who = good;
    who.name = SLICE_LIT("n1");
    assert_int_equal(ask(&b, 0, &who, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "two nodes call themselves n1"));
    who = good;
    who.directory_id = 11; /* a copy of this node's */
    assert_int_equal(ask(&b, 0, &who, &em), ERR_MEMBER);
    assert_non_null(strstr(em.text, "copy"));
    who = good;
    who.members = SLICE_LIT("nonsense");
    assert_int_equal(ask(&b, 0, &who, &em), ERR_PROTO);
    struct raft_members foreign = { .count = 0 };
    for (size_t i = 0; i < NODES; i++) {
        struct raft_member m = { .id = i + 1, .directory_id = 50 + i, .role = RAFT_VOTER };
        snprintf(m.name, sizeof m.name, "%s", b.at[0].list.at[i].name);
        snprintf(m.peer_address, sizeof m.peer_address, "%s", b.at[0].list.at[i].address);
        assert_int_equal(raft_members_put(&foreign, &m), OK);
    }
    struct buf bytes CLEANUP(buf_deinit) = { 0 };
    raft_members_encode(&bytes, &foreign);
    who.members = buf_slice(&bytes);
    assert_int_equal(ask(&b, 0, &who, &em), ERR_MEMBER);
    assert_non_null(strstr(em.text, "another data directory of this node"));
    assert_false(complete(&b, 0));
    assert_int_equal(ask(&b, 0, &good, &em), OK);
    band_end(&b);
}

/* good/n1 is for 127.0.0.1, the host of all three. */
static void test_three_with_right_certificates_agree(void **state)
{
    (void)state;
    struct band b;
    band_begin_with(&b, (const char *const[NODES]){ "good/n1", "good/n2", "good/n1" });
    for (size_t i = 0; i < NODES; i++) launch(&b, i);
    UNTIL(&b, complete(&b, 0) && complete(&b, 1) && complete(&b, 2));
    band_end(&b);
}

/* One whose name is listed, with the certificate of another name and host; it hears nobody either. */
static void test_the_certificate_of_another_is_refused(void **state)
{
    (void)state;
    struct band b;
    band_begin_with(&b, (const char *const[NODES]){ "good/n1", "good/n2", "good/n2" });
    for (size_t i = 0; i < NODES; i++) launch(&b, i);
    struct peers_stats st;
    do {
        turns(&b, 1);
        peers_stats_get(b.kit.ends[0].peers, &st);
    } while (st.refused < 2);
    for (size_t i = 0; i < NODES; i++) assert_false(complete(&b, i));
    char waits[64];
    assert_string_equal(bootstrap_waits_for(b.at[0].bootstrap, waits, sizeof waits), "n3");
    band_end(&b);
}

static void test_founders_names_are_compared(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    launch(&b, 0);
    struct errmsg em;
    struct peer_founder answer;
    struct peers *p = b.kit.ends[0].peers;
    struct peer_founder who = { 1, 2, 12, SLICE_LIT("n2"), SLICE_LIT("h:1"), slice_of(b.at[0].list.text),
                                SLICE_NONE };
    struct peer_cert cert = { .shown = true };
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_DNS, SLICE_LIT("n3")), OK);
    assert_int_equal(p->meet(p->meet_ctx, &who, &cert, &answer, &em), ERR_MEMBER);
    assert_string_equal(em.text, "the certificate is for (n3), expected was one for host (127.0.0.1) or name (n2)");
    who.name = SLICE_LIT("n3");
    assert_int_equal(p->meet(p->meet_ctx, &who, &cert, &answer, &em), OK);
    band_end(&b);
}

static void test_a_list_of_one_is_complete_at_once(void **state)
{
    (void)state;
    struct band b;
    band_begin(&b);
    launch_as(&b, 0, 11, "n1=host:7380", NULL);
    assert_true(complete(&b, 0));
    band_end(&b);
}

static void test_lists(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "n1", "=h:1", "n1=", "n1=h", "n1=h:1,", ",n1=h:1", "n1=h:1,n1=h:2", "n1=h:1,n2=h:1", "n2=h:1",
        "n1=h:1 n2=h:2", "n 1=h:1",
        "n1=h:1,n2=h:2,n3=h:3,n4=h:4,n5=h:5,n6=h:6,n7=h:7,n8=h:8",
    };
    struct bootstrap_list l;
    struct errmsg em = { "" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (bootstrap_list_parse(bad[i], "n1", &l, &em) != ERR_CONFIG) fail_msg("'%s' passes", bad[i]);
    }
    assert_int_equal(bootstrap_list_parse("n2=b:2,n10=[::1]:3,n1=a:1", "n1", &l, &em), OK);
    assert_string_equal(l.text, "n1=a:1,n10=[::1]:3,n2=b:2");
    struct bootstrap_list again;
    assert_int_equal(bootstrap_list_parse(l.text, "n2", &again, &em), OK);
    assert_string_equal(again.text, l.text);
}

int main(void)
{
    alarm(120);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_agree_on_the_same_members),
        cmocka_unit_test(test_a_slow_third_is_told),
        cmocka_unit_test(test_a_wiped_node_is_refused),
        cmocka_unit_test(test_unequal_lists_are_refused),
        cmocka_unit_test(test_refusals_name_what_is_wrong),
        cmocka_unit_test(test_three_with_right_certificates_agree),
        cmocka_unit_test(test_the_certificate_of_another_is_refused),
        cmocka_unit_test(test_founders_names_are_compared),
        cmocka_unit_test(test_a_list_of_one_is_complete_at_once),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests_name("server/bootstrap", tests, certs_setup, certs_teardown);
}
