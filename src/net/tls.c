/* net/tls.c - see tls.h. Contexts: certificates read, checked and replaced. */
#include "net/net_int.h"

#include <openssl/decodererr.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <stdio.h>
#include <time.h>

_Static_assert(TLS_NAMES_BYTES_MAX <= UINT16_MAX, "struct tls_names keeps places in 16 bits");

/* --- reading the files ---------------------------------------------------------- */

/* The first error of the queue is the cause; what follows says who passed it on. */
const char *tls_reason(unsigned long code, char *out, size_t out_bytes)
{
    if (ERR_SYSTEM_ERROR(code)) {
        snprintf(out, out_bytes, "%s", strerror(ERR_GET_REASON(code)));
        return out;
    }
    const char *text = ERR_reason_error_string(code);
    snprintf(out, out_bytes, "%s", text == NULL ? "unknown error" : text);
    return out;
}

static enum err file_refuse(struct errmsg *em, const char *what, const char *file)
{
    unsigned long code = ERR_peek_error();
    bool has_none = (ERR_GET_LIB(code) == ERR_LIB_PEM &&
                     ERR_GET_REASON(code) == PEM_R_NO_START_LINE) ||
                    (ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER &&
                     ERR_GET_REASON(code) == ERR_R_UNSUPPORTED) ||
                    (ERR_GET_LIB(code) == ERR_LIB_X509 &&
                     ERR_GET_REASON(code) == X509_R_NO_CERTIFICATE_OR_CRL_FOUND);
    if (has_none) {
        errmsg_set(em, "TLS %s file %s: there is no %s in it", what, file, what);
    } else {
        char why[TLS_REASON_BYTES_MAX];
        errmsg_set(em, "TLS %s file %s: %s", what, file, tls_reason(code, why, sizeof why));
    }
    ERR_clear_error();
    return ERR_CONFIG;
}

/* A server cannot ask anybody for it. */
static int passphrase_asked(char *out, int bytes, int is_writing, void *user)
{
    (void)out;
    (void)bytes;
    (void)is_writing;
    bool *asked = user;
    *asked = true;
    return -1;
}

static enum err key_load(SSL_CTX *ssl_ctx, const char *key_file, const bool *asked,
                         struct errmsg *em)
{
    if (SSL_CTX_use_PrivateKey_file(ssl_ctx, key_file, SSL_FILETYPE_PEM) == 1) return OK;
    /* That it is another certificate's is for the caller to say. */
    if (ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH) return OK;
    if (!*asked) return file_refuse(em, "key", key_file);
    ERR_clear_error();
    errmsg_set(em, "TLS key file %s: it is protected by a passphrase", key_file);
    return ERR_CONFIG;
}

static enum err own_load(SSL_CTX *ssl_ctx, const struct tls_context *ctx, struct errmsg *em)
{
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(ssl_ctx, passphrase_asked);
    SSL_CTX_set_default_passwd_cb_userdata(ssl_ctx, &asked);
    if (SSL_CTX_use_certificate_chain_file(ssl_ctx, ctx->cert_file) != 1) {
        return file_refuse(em, "certificate", ctx->cert_file);
    }
    TRY(key_load(ssl_ctx, ctx->key_file, &asked, em));
    SSL_CTX_set_default_passwd_cb_userdata(ssl_ctx, NULL); /* nothing is loaded after it */
    if (SSL_CTX_check_private_key(ssl_ctx) == 1) return OK;
    ERR_clear_error();
    errmsg_set(em, "TLS key file %s: it is not the key of the certificate in %s", ctx->key_file,
               ctx->cert_file);
    return ERR_CONFIG;
}

static enum err ca_load(SSL_CTX *ssl_ctx, const struct tls_context *ctx, struct errmsg *em)
{
    if (SSL_CTX_load_verify_file(ssl_ctx, ctx->ca_file) != 1) {
        return file_refuse(em, "CA", ctx->ca_file);
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ctx->ca_file);
    if (names == NULL) return file_refuse(em, "CA", ctx->ca_file);
    SSL_CTX_set_client_CA_list(ssl_ctx, names);
    return OK;
}

static void rules_set(SSL_CTX *ssl_ctx, bool verify_peer)
{
    static const unsigned char session_context[] = "cordis";
    long done = SSL_CTX_set_min_proto_version(ssl_ctx, TLS1_2_VERSION);
    ASSERT(done == 1);
    SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl_ctx, 0);
    SSL_CTX_set_session_id_context(ssl_ctx, session_context, sizeof session_context - 1);
    /* What SSL_write could not finish is offered again from the chain, perhaps at another address;
     * an idle connection gives its record buffers back (net.h, I2). */
    SSL_CTX_set_mode(ssl_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(ssl_ctx, 1); /* one read a record, not two */
    SSL_CTX_set_max_cert_list(ssl_ctx, TLS_CERT_LIST_BYTES_MAX);
    SSL_CTX_set_verify_depth(ssl_ctx, TLS_VERIFY_DEPTH_MAX);
    SSL_CTX_set_verify(ssl_ctx, verify_peer ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                            : SSL_VERIFY_NONE, NULL);
}

static enum err files_load(const struct tls_context *ctx, SSL_CTX **out, struct errmsg *em)
{
    ERR_clear_error();
    SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_method());
    ASSERT(ssl_ctx != NULL);
    rules_set(ssl_ctx, ctx->verify_peer);
    enum err e = ctx->cert_file == NULL ? OK : own_load(ssl_ctx, ctx, em);
    if (e == OK && ctx->verify_peer) e = ca_load(ssl_ctx, ctx, em);
    if (e != OK) {
        SSL_CTX_free(ssl_ctx);
        return e;
    }
    *out = ssl_ctx;
    return OK;
}

static int64_t expires_s(const SSL_CTX *ssl_ctx)
{
    const X509 *cert = SSL_CTX_get0_certificate(ssl_ctx);
    struct tm at;
    if (cert == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &at) != 1) return 0;
    return (int64_t)timegm(&at);
}

/* --- life -------------------------------------------------------------------------- */

static char *text_copy(const char *text)
{
    return text == NULL ? NULL : mem_copy(text, strlen(text) + 1);
}

static enum err config_check(const struct tls_config *cfg, struct errmsg *em)
{
    if ((cfg->cert_file == NULL) != (cfg->key_file == NULL)) {
        errmsg_set(em, "TLS needs a certificate file and a key file together");
        return ERR_CONFIG;
    }
    if (cfg->verify_peer && cfg->ca_file == NULL) {
        errmsg_set(em, "TLS needs a CA file to verify certificates with");
        return ERR_CONFIG;
    }
    return OK;
}

enum err tls_context_new(const struct tls_config *cfg, struct tls_context **out, struct errmsg *em)
{
    TRY(config_check(cfg, em));
    struct tls_context *ctx = mem_zalloc(sizeof *ctx);
    ctx->refs = 1;
    ctx->cert_file = text_copy(cfg->cert_file);
    ctx->key_file = text_copy(cfg->key_file);
    ctx->ca_file = text_copy(cfg->ca_file);
    ctx->verify_peer = cfg->verify_peer;
    enum err e = files_load(ctx, &ctx->ssl_ctx, em);
    if (e != OK) {
        tls_context_free(ctx);
        return e;
    }
    ctx->socket_method = conn_tls_method_new();
    ctx->stats.generation = 1;
    ctx->stats.expires_s = expires_s(ctx->ssl_ctx);
    *out = ctx;
    return OK;
}

void tls_context_free(struct tls_context *ctx)
{
    if (ctx == NULL || --ctx->refs != 0) return;
    SSL_CTX_free(ctx->ssl_ctx);
    BIO_meth_free(ctx->socket_method);
    mem_free(ctx->cert_file);
    mem_free(ctx->key_file);
    mem_free(ctx->ca_file);
    mem_free(ctx);
}

enum err tls_context_reload(struct tls_context *ctx, struct errmsg *em)
{
    SSL_CTX *fresh;
    enum err e = files_load(ctx, &fresh, em);
    if (e != OK) {
        ctx->stats.reload_fail_count++;
        return e;
    }
    SSL_CTX_free(ctx->ssl_ctx); /* counted: connections keep theirs */
    ctx->ssl_ctx = fresh;
    ctx->stats.generation++;
    ctx->stats.reload_count++;
    ctx->stats.old_conn_count = ctx->stats.conn_count;
    ctx->stats.expires_s = expires_s(fresh);
    return OK;
}

const struct tls_stats *tls_context_stats(const struct tls_context *ctx) { return &ctx->stats; }
