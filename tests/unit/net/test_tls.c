#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <time.h>

#include "tls_kit.h"

static void file_write(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *in_root(char out[CERTS_PATH_BYTES_MAX], const char *name)
{
    snprintf(out, CERTS_PATH_BYTES_MAX, "%s/%s", certs_root, name);
    return out;
}

/* The files are named relative to certs_root; so is the file that the error must name. */
static const struct {
    const char *cert, *key, *ca;
    bool verify;
    const char *names; /* NULL: no file */
    const char *says;
} refused[] = {
    { "none", "good/n1.key", "good/ca.pem", true, "none", "No such file or directory" },
    { "good", "good/n1.key", "good/ca.pem", true, "good", "no certificate in it" },
    { "text", "good/n1.key", "good/ca.pem", true, "text", "no certificate in it" },
    { "empty", "good/n1.key", "good/ca.pem", true, "empty", "no certificate in it" },
    { "good/n1.key", "good/n1.key", "good/ca.pem", true, "good/n1.key", "no certificate in it" },
    { "cut", "good/n1.key", "good/ca.pem", true, "cut", "bad end line" },
    { "good/n1.pem", "none", "good/ca.pem", true, "none", "No such file or directory" },
    { "good/n1.pem", "text", "good/ca.pem", true, "text", "" },
    { "good/n1.pem", "good/n1.pem", "good/ca.pem", true, "good/n1.pem", "" },
    { "good/n1.pem", "good/n2.key", "good/ca.pem", true, "good/n2.key", "is not the key of" },
    { "good/n1.pem", "locked", "good/ca.pem", true, "locked", "protected by a passphrase" },
    { "good/n1.pem", "good/n1.key", "none", true, "none", "No such file or directory" },
    { "good/n1.pem", "good/n1.key", "text", true, "text", "" },
    { "good/n1.pem", "good/n1.key", "empty", true, "empty", "" },
    { "good/n1.pem", NULL, "good/ca.pem", true, NULL, "together" },
    { NULL, "good/n1.key", NULL, false, NULL, "together" },
    { "good/n1.pem", "good/n1.key", NULL, true, NULL, "needs a CA file" },
};

static void bad_files_make(void)
{
    char name[CERTS_PATH_BYTES_MAX], command[8 * CERTS_PATH_BYTES_MAX];
    file_write(in_root(name, "text"), "This is no certificate.\n");
    file_write(in_root(name, "empty"), "");
    snprintf(command, sizeof command,
             "head -n 5 %s/good/n1.pem > %s/cut && openssl pkcs8 -topk8 -in %s/good/n1.key "
             "-out %s/locked -passout pass:secret", certs_root, certs_root, certs_root, certs_root);
    certs_run(command);
}

static void test_refused_files(void **state)
{
    (void)state;
    bad_files_make();
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char cert[CERTS_PATH_BYTES_MAX], key[CERTS_PATH_BYTES_MAX], ca[CERTS_PATH_BYTES_MAX], named[CERTS_PATH_BYTES_MAX];
        struct tls_config cfg = {
            .cert_file = refused[i].cert == NULL ? NULL : in_root(cert, refused[i].cert),
            .key_file = refused[i].key == NULL ? NULL : in_root(key, refused[i].key),
            .ca_file = refused[i].ca == NULL ? NULL : in_root(ca, refused[i].ca),
            .verify_peer = refused[i].verify,
        };
        struct tls_context *ctx = NULL;
        struct errmsg em = { "" };
        enum err got = tls_context_new(&cfg, &ctx, &em);
        bool names_it = refused[i].names == NULL ||
                        strstr(em.text, in_root(named, refused[i].names)) != NULL;
        if (got != ERR_CONFIG || ctx != NULL || !names_it || strchr(em.text, '\n') != NULL ||
            strstr(em.text, refused[i].says) == NULL) {
            fail_msg("case %zu: %s: %s", i, err_name(got), em.text);
        }
    }
}

static void test_good_files(void **state)
{
    (void)state;
    struct tls_context *ctx = certs_context("good/n1", "good");
    const struct tls_stats *stats = tls_context_stats(ctx);
    assert_int_equal(stats->generation, 1);
    assert_int_equal(stats->conn_count, 0);
    int64_t days = (stats->expires_s - (int64_t)time(NULL)) / 86400;
    assert_true(days >= 3648 && days <= 3650);
    tls_context_free(ctx);

    ctx = certs_context("good/old", NULL); /* its peers will refuse it, and a metric tells */
    assert_true(tls_context_stats(ctx)->expires_s < (int64_t)time(NULL));
    tls_context_free(ctx);

    ctx = certs_context(NULL, "good");
    assert_int_equal(tls_context_stats(ctx)->expires_s, 0);
    tls_context_free(ctx);
    tls_context_free(NULL);
}

static void test_reload(void **state)
{
    (void)state;
    char cert[CERTS_PATH_BYTES_MAX], key[CERTS_PATH_BYTES_MAX], ca[CERTS_PATH_BYTES_MAX], command[8 * CERTS_PATH_BYTES_MAX];
    struct tls_config cfg = { in_root(cert, "now.pem"), in_root(key, "now.key"),
                              in_root(ca, "good/ca.pem"), true };
    snprintf(command, sizeof command, "cp %s/good/n1.pem %s && cp %s/good/n1.key %s", certs_root,
             cert, certs_root, key);
    certs_run(command);
    struct tls_context *ctx = NULL;
    struct errmsg em = { "" };
    assert_int_equal(tls_context_new(&cfg, &ctx, &em), OK);
    const struct tls_stats *stats = tls_context_stats(ctx);
    int64_t expires_s = stats->expires_s;

    /* Half of the new pair is there: everything stays. */
    snprintf(command, sizeof command, "cp %s/good/old.pem %s", certs_root, cert);
    certs_run(command);
    assert_int_equal(tls_context_reload(ctx, &em), ERR_CONFIG);
    assert_non_null(strstr(em.text, "is not the key of"));
    assert_int_equal(stats->generation, 1);
    assert_int_equal(stats->reload_fail_count, 1);
    assert_int_equal(stats->expires_s, expires_s);

    snprintf(command, sizeof command, "cp %s/good/old.key %s", certs_root, key);
    certs_run(command);
    assert_int_equal(tls_context_reload(ctx, &em), OK);
    assert_int_equal(stats->generation, 2);
    assert_int_equal(stats->reload_count, 1);
    assert_true(stats->expires_s < expires_s);
    tls_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_good_files),
        cmocka_unit_test(test_reload),
    };
    return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
