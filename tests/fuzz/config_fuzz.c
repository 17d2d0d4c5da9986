/* Configuration files: whatever they say, they are read or refused with a line and a reason, values
 * keep to their ranges, and what is printed of them is read again as the same.
 */
#include "fuzz_main.h"

#include "base/option.h"

#include <sys/mman.h>
#include <unistd.h>

struct values {
    int64_t port, bytes, ms;
    bool flag;
    int choice;
    char *text, *secret;
};

static const char *const choices[] = { "auto", "thread", "uring", NULL };
#define AT(field) offsetof(struct values, field)
static const struct option rows[] = {
    { "port", OPTION_INT, OPTION_RUNTIME, AT(port), "7379", 0, 65535, NULL, "Network", "A port." },
    { "bytes", OPTION_BYTES, 0, AT(bytes), "16mb", 1024, 1 << 30, NULL, NULL, "A size." },
    { "ms", OPTION_MS, 0, AT(ms), "10s", 1, 86400000, NULL, NULL, "A time." },
    { "flag", OPTION_BOOL, 0, AT(flag), "yes", 0, 0, NULL, NULL, "Yes or no." },
    { "choice", OPTION_ENUM, 0, AT(choice), "auto", 0, 0, choices, NULL, "One of these." },
    { "text", OPTION_TEXT, 0, AT(text), "", 0, 0, NULL, NULL, "Any text." },
    { "secret", OPTION_TEXT, OPTION_SECRET, AT(secret), "", 0, 0, NULL, NULL, "A secret." },
};

static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "config_fuzz: %s\n", what);
    abort();
}

/* True if the text was taken. */
static bool load(const struct option_set *set, struct slice text)
{
    char path[64];
    struct errmsg em = { "" };
    int fd = memfd_create("config", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, text.at, text.len) == (ssize_t)text.len, "no memory file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum err e = options_load(set, path, &em);
    close(fd);
    must(e == OK || em.text[0] != '\0', "refused without a reason");
    return e == OK;
}

static void check_ranges(const struct values *v)
{
    must(v->port >= 0 && v->port <= 65535, "a port out of range");
    must(v->bytes >= 1024 && v->bytes <= 1 << 30, "a size out of range");
    must(v->ms >= 1 && v->ms <= 86400000, "a time out of range");
    must(v->choice >= 0 && v->choice < 3, "no such choice");
    must(v->text != NULL && v->secret != NULL, "a text is missing");
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct values v = { .port = 0 }, again = { .port = 0 };
    struct option_set set = { rows, ARRAY_LEN(rows), &v };
    struct option_set second = { rows, ARRAY_LEN(rows), &again };
    options_init(&set);
    options_init(&second);
    if (load(&set, (struct slice){ at, len })) {
        check_ranges(&v);
        struct buf text = { 0 };
        options_rewrite(&set, (struct slice){ at, len }, &text);
        must(load(&second, buf_slice(&text)), "what was written is refused");
        check_ranges(&again);
        must(v.port == again.port && v.bytes == again.bytes && v.ms == again.ms && v.flag == again.flag &&
             v.choice == again.choice && strcmp(v.text, again.text) == 0 && strcmp(v.secret, again.secret) == 0,
             "what was written reads differently");
        buf_deinit(&text);
    }
    options_deinit(&set);
    options_deinit(&second);
    return 0;
}

#ifdef FUZZ_STANDALONE
static void input_make(struct buf *out, uint64_t seed)
{
    static const char *const words[] = {
        "port ", "bytes ", "ms ", "flag ", "choice ", "text ", "secret ", "\n", "\n", "\n", "\r\n", "# ", " ", "\t", "\"", "'",
        "\\", "7379", "0", "-1", "99999999999999999999", "1mb", "2gb", "10s", "5m", "yes", "no", "auto", "uring",
        "port 1\n", "text \"a b\"\n", "flag no\n", "bytes 64kb\n", "unknown 1\n", "\\x41", "abc", "text ''\n",
    };
    fuzz_words(out, seed, words, ARRAY_LEN(words));
}

int main(int argc, char **argv) { return fuzz_main(argc, argv, input_make); }
#endif
