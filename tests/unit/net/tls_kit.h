/* Certificates for the tests of TLS: made once a test program, in a directory of its own. */
#ifndef TLS_KIT_H
#define TLS_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "net/tls.h"

struct kit {
    char cert_file[128];
    char key_file[128];
    char ca_file[128];
};

static char kit_root[] = "/tmp/cordis-tls-XXXXXX";

static void kit_run(const char *command)
{
    int status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("failed: %s", command);
}

/* Under kit_root: good/ with n1, n2 and, expired, old; other/ with a CA of its own and n1. */
static int kit_setup(void **state)
{
    (void)state;
    if (mkdtemp(kit_root) == NULL) return -1;
    char command[512];
    snprintf(command, sizeof command,
             "utils/gen-certs %s/good n1 n2=n2.example.com,10.0.0.2 && "
             "utils/gen-certs --days -1 %s/good old && utils/gen-certs %s/other n1",
             kit_root, kit_root, kit_root);
    kit_run(command);
    return 0;
}

static int kit_teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", kit_root);
    kit_run(command);
    return 0;
}

/* "good/n1" with the CA of `ca`, "good" or "other". name NULL: no certificate. */
static struct tls_config kit_config(struct kit *kit, const char *name, const char *ca)
{
    const char *own = name == NULL ? "" : name;
    snprintf(kit->cert_file, sizeof kit->cert_file, "%s/%s.pem", kit_root, own);
    snprintf(kit->key_file, sizeof kit->key_file, "%s/%s.key", kit_root, own);
    snprintf(kit->ca_file, sizeof kit->ca_file, "%s/%s/ca.pem", kit_root, ca == NULL ? "" : ca);
    return (struct tls_config){
        .cert_file = name == NULL ? NULL : kit->cert_file,
        .key_file = name == NULL ? NULL : kit->key_file,
        .ca_file = ca == NULL ? NULL : kit->ca_file,
        .verify_peer = ca != NULL,
    };
}

/* ca NULL: it verifies nobody. */
static struct tls_context *kit_context(const char *name, const char *ca)
{
    struct kit kit;
    struct tls_config cfg = kit_config(&kit, name, ca);
    struct tls_context *ctx = NULL;
    struct errmsg em = { "" };
    if (tls_context_new(&cfg, &ctx, &em) != OK) fail_msg("%s", em.text);
    return ctx;
}

#endif
