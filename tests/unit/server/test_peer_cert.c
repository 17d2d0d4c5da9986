/* Members with TLS: who shows the right certificate is heard, everybody else is refused in words. */
#include "peer_kit.h"

#include "../net/tls_kit.h"

/* certs_setup's, and good/m1..m3, which no address of this machine is in. */
static int setup(void **state)
{
    if (certs_setup(state) != 0) return -1;
    char command[8 * CERTS_PATH_BYTES_MAX];
    snprintf(command, sizeof command,
             "utils/gen-certs %s/good m1=m1.test m2=m2.test m3=m3.test && "
             "utils/gen-certs --days -1 %s/good m2old=m2 && utils/gen-certs %s/other m2=m2.test",
             certs_root, certs_root, certs_root);
    certs_run(command);
    return 0;
}

/* --- the log ------------------------------------------------------------------------------- */

static const char *log_path(char out[CERTS_PATH_BYTES_MAX])
{
    snprintf(out, CERTS_PATH_BYTES_MAX, "%s/log", certs_root);
    return out;
}

static void log_begin(void)
{
    char path[CERTS_PATH_BYTES_MAX];
    struct errmsg em;
    unlink(log_path(path));
    assert_int_equal(log_open(path, LOG_INFO, &em), OK);
}

static void log_text(struct buf *out)
{
    char path[CERTS_PATH_BYTES_MAX];
    FILE *f = fopen(log_path(path), "re");
    assert_non_null(f);
    buf_clear(out);
    out->len = fread(buf_reserve(out, 1 << 20), 1, (1 << 20) - 1, f);
    fclose(f);
    buf_append_u8(out, 0);
}

static bool logged(const char *words)
{
    struct buf text CLEANUP(buf_deinit) = { 0 };
    log_text(&text);
    return strstr((const char *)text.at, words) != NULL;
}

/* --- members ------------------------------------------------------------------------------- */

struct lab {
    struct kit k;
    struct tls_context *contexts[2];
};

/* "m1", "m2", "m3", all at 127.0.0.1. */
static void member_put(struct raft_members *m, uint64_t id, uint16_t port)
{
    struct raft_member one = { .id = id, .directory_id = 10 + id, .role = RAFT_VOTER };
    snprintf(one.peer_address, sizeof one.peer_address, "127.0.0.1:%u", port);
    snprintf(one.name, sizeof one.name, "m%llu", (unsigned long long)id);
    assert_int_equal(raft_members_put(m, &one), OK);
}

static struct peer_options options_with(struct tls_context *tls)
{
    struct peer_options options = kit_options();
    options.tls = tls;
    return options;
}

/* Member 1 with good/m1. */
static void lab_begin(struct lab *l)
{
    *l = (struct lab){ .contexts = { NULL, NULL } };
    kit_begin(&l->k);
    log_begin();
    l->contexts[0] = certs_context("good/m1", "good");
    struct peer_options options = options_with(l->contexts[0]);
    kit_end(&l->k, &options, true);
}

/* And member 2, who knows it and is known to it; cert NULL: without TLS. */
static void lab_second(struct lab *l, const char *cert, const char *ca)
{
    if (cert != NULL) l->contexts[1] = certs_context(cert, ca);
    struct peer_options options = options_with(l->contexts[1]);
    kit_end(&l->k, &options, true);
    struct raft_members m = { .count = 0 };
    for (size_t i = 0; i < 2; i++) member_put(&m, i + 1, peers_port(l->k.ends[i].peers));
    for (size_t i = 0; i < 2; i++) peers_members(l->k.ends[i].peers, &m);
}

static void lab_end(struct lab *l)
{
    kit_finish(&l->k);
    for (size_t i = 0; i < 2; i++) tls_context_free(l->contexts[i]);
}

static bool both_connected(const struct lab *l)
{
    return peers_connected(l->k.ends[0].peers, 2) && peers_connected(l->k.ends[1].peers, 1);
}

static void speaks(struct lab *l, const char *cert)
{
    lab_begin(l);
    lab_second(l, cert, "good");
    KIT_UNTIL(&l->k, both_connected(l));
    peers_send(l->k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("to two"));
    peers_send(l->k.ends[1].peers, 1, NODE_CHANNEL_MAIN, SLICE_LIT("to one"));
    peers_send(l->k.ends[0].peers, 2, NODE_CHANNEL_BULK, SLICE_LIT("bulk"));
    KIT_UNTIL(&l->k, l->k.ends[0].got_count == 1 && l->k.ends[1].got_count == 2);
    assert_true(tls_context_stats(l->contexts[0])->handshake_count >= 5);
}

static void test_a_certificate_of_the_name_or_of_the_host_is_right(void **state)
{
    (void)state;
    static const char *const certs[] = { "good/m2", "good/n1" }; /* n1 is for 127.0.0.1 */
    for (size_t i = 0; i < ARRAY_LEN(certs); i++) {
        struct lab l;
        speaks(&l, certs[i]);
        lab_end(&l);
    }
}

static void test_large_payloads_arrive_whole(void **state)
{
    (void)state;
    struct lab l;
    speaks(&l, "good/m2");
    struct buf payload CLEANUP(buf_deinit) = { 0 };
    size_t len = 20 << 20;
    uint8_t *at = buf_reserve(&payload, len);
    for (size_t i = 0; i < len; i++) at[i] = (uint8_t)(i * 31 + (i >> 8));
    payload.len = len;
    buf_clear(&l.k.ends[1].got);
    peers_send(l.k.ends[0].peers, 2, NODE_CHANNEL_MAIN, buf_slice(&payload));
    KIT_UNTIL(&l.k, l.k.ends[1].got_count == 3);
    assert_int_equal(l.k.ends[1].got.len, 4 + len);
    assert_memory_equal(l.k.ends[1].got.at + 4, payload.at, len);
    lab_end(&l);
}

/* --- the wrong ones -------------------------------------------------------------------------- */

static const struct {
    const char *cert; /* NULL: without TLS */
    const char *accepting, *opening; /* what member 1 logs of the connections in and out */
} wrong[] = {
    { "other/m2", "TLS: certificate verify failed: unable to get local issuer certificate",
      "TLS: certificate verify failed: unable to get local issuer certificate" },
    { "good/m2old", "TLS: certificate verify failed: certificate has expired",
      "TLS: certificate verify failed: certificate has expired" },
    { "good/m3", "the certificate is for (m3 m3.test), expected was one for host (127.0.0.1) or name (m2)",
      "the certificate is for (m3 m3.test), expected was one for host (127.0.0.1) or name (m2)" },
    { NULL, "TLS: wrong version number: it may be a member without TLS",
      "peer unreachable member=2" },
};

static void test_wrong_certificates_are_refused_on_both_sides(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct lab l;
        lab_begin(&l);
        lab_second(&l, wrong[i].cert, "good");
        char in[512], out[512];
        snprintf(in, sizeof in, "reason=\"%s", wrong[i].accepting);
        snprintf(out, sizeof out, "%s", wrong[i].opening);
        KIT_UNTIL(&l.k, logged(in) && logged(out) && logged("peer refused from=127.0.0.1:") &&
                            (logged("peer unreachable member=2") || logged("peer refused member=2")));
        struct peers_stats st;
        peers_stats_get(l.k.ends[0].peers, &st);
        assert_true(st.refused > 0);
        assert_int_equal(st.connected_count, 0);
        assert_false(peers_connected(l.k.ends[1].peers, 1));
        for (size_t e = 0; e < 2; e++) assert_int_equal(l.k.ends[e].admit_count, 0);
        /* Being let in by TLS 1.3 first and refused then is no success: the pauses grow. */
        const struct dial *d = &l.k.ends[1].peers->at[0]->outs[NODE_CHANNEL_MAIN].dial;
        KIT_UNTIL(&l.k, d->retry_ms == kit_options().reconnect_ms_max);
        lab_end(&l);
    }
}

/* The other side of it: told in words what TLS is missing here. */
static void test_a_member_without_tls_says_what_it_met(void **state)
{
    (void)state;
    struct lab l;
    lab_begin(&l);
    lab_second(&l, NULL, NULL);
    KIT_UNTIL(&l.k, logged("not the protocol of members: it is TLS, which this node was not told to speak"));
    lab_end(&l);
}

static void bare_open_tls(struct lab *l, struct bare *b, struct tls_context *tls)
{
    *b = (struct bare){ 0 };
    struct net_addr addr;
    struct errmsg em;
    assert_int_equal(net_resolve_digits("127.0.0.1", peers_port(l->k.ends[0].peers), &addr), OK);
    assert_int_equal(conn_open_tls(l->k.loop, &addr, tls, &bare_callbacks, b, &b->conn, &em), OK);
}

static void bare_hello(struct bare *b, uint64_t from_id)
{
    peer_hello_put(conn_out(b->conn), &(struct peer_hello){
        .channel = NODE_CHANNEL_MAIN, .group = 1, .cluster_id = KIT_CLUSTER, .from_id = from_id,
        .directory_id = 10 + from_id, .to_id = 1,
    });
    conn_dirty(b->conn);
}

static void test_no_certificate_is_refused(void **state)
{
    (void)state;
    struct lab l;
    struct bare b;
    lab_begin(&l);
    l.contexts[1] = certs_context(NULL, "good");
    bare_open_tls(&l, &b, l.contexts[1]);
    bare_hello(&b, 2);
    KIT_UNTIL(&l.k, b.conn == NULL && logged("reason=\"TLS: peer did not return a certificate\""));
    assert_int_equal(b.got.len, 0);
    assert_int_equal(l.k.ends[0].admit_count, 0);
    lab_end(&l);
}

/* --- members that become known ------------------------------------------------------------------ */

static bool refused_for_names(const struct bare *b)
{
    struct slice rest = buf_slice(&b->got);
    struct peer_frame f = { .used_bytes = 0 };
    struct errmsg em;
    size_t need = 0;
    while (peer_frame_decode(rest, true, &f, &need, &em) == OK) {
        rest = (struct slice){ rest.at + f.used_bytes, rest.len - f.used_bytes };
    }
    struct peer_refusal r;
    return f.kind == PEER_REFUSE && peer_refusal_decode(f.payload, &r, &em) == OK && r.final &&
           strstr(r.text, "the certificate is for (m3 m3.test), expected was one for") != NULL;
}

/* Member 2 is added by an entry that member 1 has not seen. Then it is seen. */
static void becomes_known(const char *cert, bool right)
{
    struct lab l;
    struct bare b;
    lab_begin(&l);
    l.contexts[1] = certs_context(cert, "good");
    bare_open_tls(&l, &b, l.contexts[1]);
    bare_hello(&b, 2);
    KIT_UNTIL(&l.k, b.got.len > 0);
    assert_int_equal(bare_frame(&b).kind, PEER_WELCOME);
    struct raft_members m = { .count = 0 };
    member_put(&m, 2, 1); /* where nobody listens */
    peers_members(l.k.ends[0].peers, &m);
    if (right) {
        peer_frame_put(conn_out(b.conn), PEER_PAYLOAD, SLICE_LIT("x"));
        conn_dirty(b.conn);
        KIT_UNTIL(&l.k, l.k.ends[0].got_count == 1);
    } else {
        KIT_UNTIL(&l.k, b.conn == NULL);
        assert_true(refused_for_names(&b));
        assert_int_equal(l.k.ends[0].got_count, 0);
    }
    buf_deinit(&b.got);
    lab_end(&l);
}

static void test_names_are_compared_when_a_member_becomes_known(void **state)
{
    (void)state;
    becomes_known("good/m2", true);
    becomes_known("good/m3", false);
}

static void test_who_begins_no_handshake_is_closed_in_time(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    struct tls_context *tls = certs_context("good/m1", "good");
    struct peer_options options = options_with(tls);
    options.handshake_ms_max = 50;
    kit_end(&k, &options, true);
    struct bare b;
    bare_open(&k, &b, peers_port(k.ends[0].peers));
    struct peers_stats st;
    do {
        loop_turn(k.loop, true);
        peers_stats_get(k.ends[0].peers, &st);
    } while (st.accepted_count == 0);
    KIT_UNTIL(&k, b.conn == NULL);
    assert_int_equal(b.got.len, 0);
    kit_finish(&k);
    tls_context_free(tls);
}

static void now_is(const char *name)
{
    char command[8 * CERTS_PATH_BYTES_MAX];
    snprintf(command, sizeof command, "cd %s/good && cp %s.pem now.pem && cp %s.key now.key", certs_root,
             name, name);
    certs_run(command);
}

/* The connections that are there stay; the next ones show the new certificate, and are judged by it. */
static void test_reload_counts_for_new_connections(void **state)
{
    (void)state;
    struct lab l;
    now_is("m2");
    speaks(&l, "good/now");
    now_is("m3");
    struct errmsg em;
    assert_int_equal(tls_context_reload(l.contexts[1], &em), OK);
    peers_send(l.k.ends[0].peers, 2, NODE_CHANNEL_MAIN, SLICE_LIT("still"));
    KIT_UNTIL(&l.k, l.k.ends[1].got_count == 3);
    assert_true(both_connected(&l));
    conn_close(l.k.ends[0].peers->at[0]->outs[NODE_CHANNEL_MAIN].dial.conn);
    KIT_UNTIL(&l.k, logged("the certificate is for (m3 m3.test)"));
    assert_false(peers_connected(l.k.ends[0].peers, 2));
    now_is("m2");
    assert_int_equal(tls_context_reload(l.contexts[1], &em), OK);
    KIT_UNTIL(&l.k, both_connected(&l));
    lab_end(&l);
}

/* --- the comparison ------------------------------------------------------------------------------ */

static void test_comparison(void **state)
{
    (void)state;
    static const struct {
        const char *address, *name;
        bool right;
    } rows[] = {
        { "a.test:1", "x", true },      { "A.Test:1", "", true },  { "[::1]:1", "x", true },
        { "10.0.0.1:1", "x", true },    { "b.test:1", "n", true }, { "", "n", true },
        { "b.test:1", "x", false },     { "", "", false },         { "10.0.0.11:1", "x", false },
        { "a.test.evil:1", "x", false }, { "a.test", "x", false },  { "*.test:1", "*", false },
        { "n.test:1", "10.0.0.1x", false },
    };
    static const uint8_t v4[] = { 10, 0, 0, 1 }, v6[16] = { [15] = 1 };
    struct peer_cert cert = { .shown = true };
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_DNS, SLICE_LIT("a.test")), OK);
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_DNS, SLICE_LIT("n")), OK);
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_IP, (struct slice){ v4, sizeof v4 }), OK);
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_IP, (struct slice){ v6, sizeof v6 }), OK);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct errmsg em = { "" };
        enum err e = peer_cert_check(&cert, rows[i].address, rows[i].name, &em);
        if ((e == OK) != rows[i].right) fail_msg("%s %s: %d", rows[i].address, rows[i].name, e);
        if (!rows[i].right) assert_non_null(strstr(em.text, "the certificate is for (a.test n 10.0.0.1 ::1)"));
    }
    struct peer_cert none = { .shown = false };
    assert_int_equal(peer_cert_check(&none, "", "", NULL), OK); /* without TLS nothing is compared */
}

/* A CA may have signed anything; the longest texts fit. */
static void test_what_is_shown_is_printable_and_short(void **state)
{
    (void)state;
    struct peer_cert cert = { .shown = true };
    assert_int_equal(tls_names_add(&cert.names, TLS_NAME_DNS, SLICE_LIT("a\"\n\\b")), OK);
    struct errmsg em = { "" };
    assert_int_equal(peer_cert_check(&cert, "h:1", "n", &em), ERR_MEMBER);
    assert_string_equal(em.text, "the certificate is for (a???b), expected was one for host (h) or name (n)");
    char name[254];
    memset(name, 'x', sizeof name);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(tls_names_add(&cert.names, TLS_NAME_DNS, (struct slice){ (uint8_t *)name, 250 }), OK);
    }
    name[253] = '\0';
    char address[264];
    snprintf(address, sizeof address, "%s:65535", name);
    assert_int_equal(peer_cert_check(&cert, address, "the name", &em), ERR_MEMBER);
    assert_true(strlen(em.text) <= PEER_REFUSAL_BYTES_MAX);
    assert_non_null(strstr(em.text, "name (the name)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_certificate_of_the_name_or_of_the_host_is_right),
        cmocka_unit_test(test_large_payloads_arrive_whole),
        cmocka_unit_test(test_wrong_certificates_are_refused_on_both_sides),
        cmocka_unit_test(test_a_member_without_tls_says_what_it_met),
        cmocka_unit_test(test_no_certificate_is_refused),
        cmocka_unit_test(test_names_are_compared_when_a_member_becomes_known),
        cmocka_unit_test(test_who_begins_no_handshake_is_closed_in_time),
        cmocka_unit_test(test_reload_counts_for_new_connections),
        cmocka_unit_test(test_comparison),
        cmocka_unit_test(test_what_is_shown_is_printable_and_short),
    };
    return cmocka_run_group_tests_name("server/peer_cert", tests, setup, certs_teardown);
}
