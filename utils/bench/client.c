/* Clock, CPU, latencies, connections and replies of the load commands. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VALUE_POOL_BYTES (1 << 20)
#define LEADER_WAIT_NS_MAX (10 * NS_PER_S)

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *must_alloc(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);
    if (p == NULL) fail("out of memory");
    return p;
}

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* xorshift64: any state but 0 */
uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* --- CPU --- */

static double server_cpu_s(pid_t pid)
{
    char path[64];
    char line[1024];
    unsigned long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) fail("no process %d", (int)pid);
    bool ok = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    /* the name in parentheses may hold anything: fields count from behind it */
    const char *tail = ok ? strrchr(line, ')') : NULL;
    if (tail == NULL || sscanf(tail + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &kernel) != 2) {
        fail("cannot read %s", path);
    }
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

struct cpu cpu_now(const struct settings *s)
{
    struct rusage self;
    getrusage(RUSAGE_SELF, &self);
    return (struct cpu){
        .client_s = seconds_of(self.ru_utime) + seconds_of(self.ru_stime),
        .server_s = s->server_pid == 0 ? 0 : server_cpu_s(s->server_pid),
    };
}

/* --- latencies --- */

static size_t bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS) return (size_t)ns;
    size_t shift = (size_t)(63 - __builtin_clzll(ns)) - 5; /* leaves 32..63 */
    return shift * HISTOGRAM_STEPS + (size_t)(ns >> shift);
}

static double bucket_ns(size_t bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS) return (double)bucket;
    size_t shift = bucket / HISTOGRAM_STEPS - 1;
    return ((double)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) + 0.5) * (double)(1ULL << shift);
}

void histogram_add(struct histogram *h, int64_t ns)
{
    h->count++;
    if (ns > h->max_ns) h->max_ns = ns;
    h->bucket[bucket_of(ns < 0 ? 0 : (uint64_t)ns)]++;
}

double histogram_quantile_us(const struct histogram *h, double quantile)
{
    uint64_t before = (uint64_t)((double)h->count * quantile);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > before) return bucket_ns(i) / 1e3;
    }
    return (double)h->max_ns / 1e3;
}

/* --- connections --- */

bool conn_try(struct conn *c, int port)
{
    int on = 1;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *c = (struct conn){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    if (connect(c->fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        int why = errno;
        conn_close(c);
        errno = why;
        return false;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return true;
}

void conn_open(struct conn *c, int port)
{
    if (!conn_try(c, port)) fail("cannot connect to port %d: %s", port, strerror(errno));
}

void conn_close(struct conn *c)
{
    close(c->fd);
    free(c->rest);
    *c = (struct conn){ .fd = -1 };
}

int port_of(const struct settings *s, size_t client)
{
    return s->ports[client % s->port_count];
}

static bool is_leader(int port, char *scratch)
{
    static const char request[] = "*2\r\n$6\r\nMEMBER\r\n$6\r\nSTATUS\r\n";
    struct conn c;
    if (!conn_try(&c, port)) return false;
    size_t len = conn_call(&c, request, sizeof request - 1, scratch);
    conn_close(&c);
    int64_t leader = reply_integer(scratch, len, "leader");
    return leader != 0 && leader == reply_integer(scratch, len, "id");
}

void leader_find(struct settings *s)
{
    const struct timespec pause = { .tv_nsec = 50 * NS_PER_MS };
    int64_t give_up_ns = now_ns() + LEADER_WAIT_NS_MAX;
    char *scratch = must_alloc(1, SCRATCH_BYTES);
    do {
        for (size_t i = 0; i < s->port_count; i++) {
            if (!is_leader(s->ports[i], scratch)) continue;
            s->ports[0] = s->ports[i];
            s->port_count = 1;
            free(scratch);
            return;
        }
        nanosleep(&pause, NULL);
    } while (now_ns() < give_up_ns);
    fail("no node leads");
}

void conn_send(const struct conn *c, const char *at, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(c->fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) fail("send: %s", strerror(errno));
        at += sent;
        len -= (size_t)sent;
    }
}

size_t conn_read(struct conn *c, char *scratch)
{
    size_t kept = c->rest_len;
    if (kept > 0) memcpy(scratch, c->rest, kept);
    c->rest_len = 0;
    if (kept == SCRATCH_BYTES) fail("a reply of more than %d bytes", SCRATCH_BYTES);
    ssize_t got = recv(c->fd, scratch + kept, SCRATCH_BYTES - kept, 0);
    while (got < 0 && errno == EINTR) got = recv(c->fd, scratch + kept, SCRATCH_BYTES - kept, 0);
    if (got < 0) fail("recv: %s", strerror(errno));
    if (got == 0) fail("the server closed a connection");
    return kept + (size_t)got;
}

void conn_keep(struct conn *c, const char *at, size_t len)
{
    if (len > c->rest_max) {
        c->rest = realloc(c->rest, len);
        if (c->rest == NULL) fail("out of memory");
        c->rest_max = len;
    }
    if (len > 0) memcpy(c->rest, at, len);
    c->rest_len = len;
}

size_t conn_call(struct conn *c, const char *at, size_t len, char *scratch)
{
    conn_send(c, at, len);
    for (;;) {
        size_t got = conn_read(c, scratch);
        size_t used = reply_len(scratch, got);
        if (used == 0) {
            conn_keep(c, scratch, got);
            continue;
        }
        if (used != got) fail("more than one reply to one command");
        return used;
    }
}

/* --- replies --- */

/* Reads the number of a reply's first line; returns what follows the line, NULL if it is cut. */
static const char *line_number(const char *at, const char *end, int64_t *number)
{
    bool negative = at < end && *at == '-';
    int64_t n = 0;
    for (at += negative; at < end && *at >= '0' && *at <= '9'; at++) n = n * 10 + (*at - '0');
    if (end - at < 2) return NULL;
    if (at[0] != '\r' || at[1] != '\n') fail("malformed reply");
    *number = negative ? -n : n;
    return at + 2;
}

static const char *line_skip(const char *at, const char *end)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    return newline == NULL ? NULL : newline + 1;
}

/* One element without its children, whose number is added to *pending. */
static const char *element_skip(const char *at, const char *end, int64_t *pending)
{
    int64_t n = 0;
    char kind = *at++;
    switch (kind) {
    case '-': {
        const char *next = line_skip(at, end);
        if (next == NULL) return NULL;
        fail("the server answered -%.*s", (int)(next - at - 2), at);
    }
    case '+': case ':': case '_': case ',': case '#': case '(':
        return line_skip(at, end);
    case '$': case '=':
        at = line_number(at, end, &n);
        if (at == NULL || n < 0) return at;
        return end - at < n + 2 ? NULL : at + n + 2;
    case '*': case '~': case '>': case '%':
        at = line_number(at, end, &n);
        if (at != NULL && n > 0) *pending += kind == '%' ? 2 * n : n;
        return at;
    default:
        fail("a reply begins with byte %d", kind);
    }
}

size_t reply_len(const char *at, size_t len)
{
    const char *begin = at, *end = at + len;
    for (int64_t pending = 1; pending > 0; pending--) {
        if (at == end) return 0;
        at = element_skip(at, end, &pending);
        if (at == NULL) return 0;
    }
    return (size_t)(at - begin);
}

int64_t reply_integer(const char *at, size_t len, const char *name)
{
    char field[64];
    int64_t n = 0;
    int field_len = snprintf(field, sizeof field, "$%zu\r\n%s\r\n:", strlen(name), name);
    const char *found = memmem(at, len, field, (size_t)field_len);
    if (found == NULL) fail("no %s in the reply", name);
    if (line_number(found + field_len, at + len, &n) == NULL) fail("%s is cut", name);
    return n;
}

/* --- requests --- */

void request_bytes(struct request *r, const void *at, size_t len)
{
    memcpy(r->at + r->len, at, len);
    r->len += len;
}

static void request_head(struct request *r, char kind, uint64_t number)
{
    char text[24];
    size_t at = sizeof text;
    text[--at] = '\n';
    text[--at] = '\r';
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    text[--at] = kind;
    request_bytes(r, text + at, sizeof text - at);
}

void request_begin(struct request *r, size_t word_count)
{
    request_head(r, '*', word_count);
}

void request_word(struct request *r, const void *at, size_t len)
{
    request_head(r, '$', len);
    request_bytes(r, at, len);
    request_bytes(r, "\r\n", 2);
}

void request_text(struct request *r, const char *text)
{
    request_word(r, text, strlen(text));
}

void request_number(struct request *r, uint64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    request_word(r, text, (size_t)len);
}

void request_key(struct request *r, const char *prefix, uint64_t key)
{
    char digits[KEY_DIGITS];
    size_t prefix_len = strlen(prefix);
    for (size_t i = KEY_DIGITS; i > 0; i--) {
        digits[i - 1] = (char)('0' + key % 10);
        key /= 10;
    }
    request_head(r, '$', prefix_len + KEY_DIGITS);
    request_bytes(r, prefix, prefix_len);
    request_bytes(r, digits, KEY_DIGITS);
    request_bytes(r, "\r\n", 2);
}

void values_init(struct values *v, const struct settings *s)
{
    *v = (struct values){ .pool = must_alloc(1, VALUE_POOL_BYTES + s->value_bytes),
                          .seed = 88172645463325252ULL };
    for (size_t i = 0; i < VALUE_POOL_BYTES + s->value_bytes; i++) {
        v->pool[i] = (char)('!' + random_next(&v->seed) % 90);
    }
}

const char *values_next(struct values *v)
{
    return v->pool + random_next(&v->seed) % VALUE_POOL_BYTES;
}

/* --- the rest --- */

void epoll_watch(int epoll_fd, int fd, size_t index)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = index };
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll: %s", strerror(errno));
}

void hold_until_eof(void)
{
    char byte;
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) continue;
}

void report(const struct settings *s, uint64_t ops, int64_t elapsed_ns,
            const struct histogram *latency, struct cpu since)
{
    struct cpu now = cpu_now(s);
    double elapsed_s = (double)elapsed_ns / (double)NS_PER_S;
    double server_s = now.server_s - since.server_s;
    double client_s = now.client_s - since.client_s;
    printf("ops=%llu seconds=%.3f rate=%.0f p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f "
           "client_cpu=%.1f server_cpu=%.1f server_us=%.3f client_us=%.3f\n",
           (unsigned long long)ops, elapsed_s, (double)ops / elapsed_s,
           histogram_quantile_us(latency, 0.5), histogram_quantile_us(latency, 0.99),
           histogram_quantile_us(latency, 0.999), (double)latency->max_ns / 1e3,
           client_s / elapsed_s * 100, server_s / elapsed_s * 100,
           server_s / (double)ops * 1e6, client_s / (double)ops * 1e6);
}
