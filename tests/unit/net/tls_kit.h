/* Certificates for the tests of TLS, also of members' connections: made once a test program, in a
 * directory of its own. */
#ifndef TLS_KIT_H
#define TLS_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "net/tls.h"

#define CERTS_PATH_BYTES_MAX 512

struct certs {
    char cert_file[CERTS_PATH_BYTES_MAX];
    char key_file[CERTS_PATH_BYTES_MAX];
    char ca_file[CERTS_PATH_BYTES_MAX];
};

static char certs_root[CERTS_PATH_BYTES_MAX - 32]; /* under TMPDIR */

static void certs_run(const char *command)
{
    int status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("failed: %s", command);
}

/* Under certs_root: good/ with n1, n2 (of hosts of its own) and, expired, old; other/ with a CA of
 * its own and n1. */
static int certs_setup(void **state)
{
    (void)state;
    const char *under = getenv("TMPDIR");
    int len = snprintf(certs_root, sizeof certs_root, "%s/cordis-tls-XXXXXX",
                       under == NULL || under[0] == '\0' ? "/tmp" : under);
    if (len < 0 || (size_t)len >= sizeof certs_root || mkdtemp(certs_root) == NULL) return -1;
    char command[8 * CERTS_PATH_BYTES_MAX];
    snprintf(command, sizeof command,
             "utils/gen-certs %s/good n1 n2=n2.example.com,10.0.0.2 && "
             "utils/gen-certs --days -1 %s/good old && utils/gen-certs %s/other n1",
             certs_root, certs_root, certs_root);
    certs_run(command);
    return 0;
}

static int certs_teardown(void **state)
{
    (void)state;
    char command[CERTS_PATH_BYTES_MAX];
    snprintf(command, sizeof command, "rm -r %s", certs_root);
    certs_run(command);
    return 0;
}

/* "good/n1" with the CA of `ca`, "good" or "other". name NULL: no certificate. */
static struct tls_config certs_config(struct certs *kit, const char *name, const char *ca)
{
    const char *own = name == NULL ? "" : name;
    snprintf(kit->cert_file, sizeof kit->cert_file, "%s/%s.pem", certs_root, own);
    snprintf(kit->key_file, sizeof kit->key_file, "%s/%s.key", certs_root, own);
    snprintf(kit->ca_file, sizeof kit->ca_file, "%s/%s/ca.pem", certs_root, ca == NULL ? "" : ca);
    return (struct tls_config){
        .cert_file = name == NULL ? NULL : kit->cert_file,
        .key_file = name == NULL ? NULL : kit->key_file,
        .ca_file = ca == NULL ? NULL : kit->ca_file,
        .verify_peer = ca != NULL,
    };
}

/* ca NULL: it verifies nobody. */
static struct tls_context *certs_context(const char *name, const char *ca)
{
    struct certs kit;
    struct tls_config cfg = certs_config(&kit, name, ca);
    struct tls_context *ctx = NULL;
    struct errmsg em = { "" };
    if (tls_context_new(&cfg, &ctx, &em) != OK) fail_msg("%s", em.text);
    return ctx;
}

#endif
