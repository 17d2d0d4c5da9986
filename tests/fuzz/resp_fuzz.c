/* Feeds a stream to the request decoder whole, one byte at a time and cut at places that the
 * input chooses; all three must give the same requests and the same error, and every result
 * must lie in the memory that was given.
 *
 * Input: byte 0 bit 0 authenticated, bit 1 small limits; bytes 1-2 seed the cuts; the rest is
 * the stream. Build with clang -fsanitize=fuzzer,address,undefined; or with -DFUZZ_STANDALONE
 * for a program that replays files (fuzz FILE...) or runs seeded inputs (fuzz -r SEED COUNT).
 */
#include "fuzz_main.h"

#include "resp/resp.h"

#define HEAD_BYTES 3

static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "resp_fuzz: %s\n", what);
    abort();
}

static bool lies_in(struct slice part, const uint8_t *at, size_t len)
{
    return part.at >= at && part.at + part.len <= at + len;
}

static void log_request(struct buf *log, const struct resp_request *request,
                        const struct resp_argv *argv, struct slice in)
{
    must(request->argc >= 1, "empty request");
    buf_append_u32(log, (uint32_t)request->argc);
    for (size_t i = 0; i < request->argc; i++) {
        struct slice arg = request->argv[i];
        must(lies_in(arg, in.at, in.len) || lies_in(arg, argv->text.at, argv->text.len),
             "argument outside");
        buf_append_u32(log, (uint32_t)arg.len);
        buf_append_slice(log, arg);
    }
}

/* Decodes all that `held` gives; false after an error. */
static bool decode_all(struct resp_decoder *d, struct resp_argv *argv, struct buf *held,
                       struct buf *log)
{
    for (;;) {
        uint8_t *exact = mem_copy(held->at, held->len); /* moves at every call */
        struct slice in = { exact, held->len };
        struct resp_request request;
        struct errmsg em = { "" };
        enum err e = resp_decode(d, argv, in, &request, &em);
        if (e == OK) {
            must(request.used_bytes > 0 && request.used_bytes <= in.len, "used");
            log_request(log, &request, argv, in);
        } else if (e == ERR_AGAIN) {
            must(request.used_bytes <= in.len, "skipped");
            must(request.need_bytes > in.len - request.used_bytes, "need");
        } else {
            must(e == ERR_PROTO || e == ERR_FOREIGN, "unexpected error");
            must(em.text[0] != 0, "no text");
            buf_append_u8(log, (uint8_t)e);
            buf_append_slice(log, slice_of(em.text));
        }
        mem_free(exact);
        if (e == OK || e == ERR_AGAIN) buf_consume(held, request.used_bytes);
        if (e != OK) return e == ERR_AGAIN;
    }
}

/* cut_seed 0: in pieces of piece_bytes; else random pieces up to it. */
static struct buf transcript(struct slice stream, const struct resp_limits *limits,
                             bool authenticated, size_t piece_bytes, uint64_t cut_seed)
{
    struct resp_decoder d;
    struct resp_argv argv;
    struct buf held = { 0 };
    struct buf log = { 0 };
    resp_decoder_init(&d, limits);
    d.authenticated = authenticated;
    resp_argv_init(&argv);
    bool alive = true;
    for (size_t done = 0; alive && done < stream.len;) {
        size_t part = piece_bytes;
        if (cut_seed != 0) {
            cut_seed = u64_mix(cut_seed + 1) | 1;
            part = 1 + (cut_seed >> 16) % piece_bytes;
        }
        part = MIN(part, stream.len - done);
        buf_append(&held, stream.at + done, part);
        done += part;
        alive = decode_all(&d, &argv, &held, &log);
    }
    resp_decoder_deinit(&d);
    resp_argv_deinit(&argv);
    buf_deinit(&held);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    if (len <= HEAD_BYTES) return 0;
    struct resp_limits limits;
    resp_limits_init(&limits);
    if (at[0] & 2) {
        limits = (struct resp_limits){ .arg_count_max = 8, .bulk_bytes_max = 64,
                                       .request_bytes_max = 128, .inline_bytes_max = 32 };
    }
    bool authenticated = at[0] & 1;
    uint64_t seed = 1 + (uint64_t)u16_le(at + 1);
    struct slice stream = { at + HEAD_BYTES, len - HEAD_BYTES };
    struct buf whole = transcript(stream, &limits, authenticated, stream.len, 0);
    struct buf single = transcript(stream, &limits, authenticated, 1, 0);
    struct buf random = transcript(stream, &limits, authenticated, 1 + seed % 200, seed);
    must(slice_eq(buf_slice(&whole), buf_slice(&single)), "byte by byte differs");
    must(slice_eq(buf_slice(&whole), buf_slice(&random)), "cut at random differs");
    buf_deinit(&whole);
    buf_deinit(&single);
    buf_deinit(&random);
    return 0;
}

#ifdef FUZZ_STANDALONE
/* Pieces that requests and mistakes are made of. */
static const char *const words[] = {
    "*1\r\n", "*2\r\n", "*3\r\n", "*0\r\n", "*-1\r\n", "*9\r\n", "*11\r\n", "*4097\r\n", "*", "$",
    "$0\r\n\r\n", "$1\r\nk\r\n", "$4\r\nPING\r\n", "$3\r\nGET\r\n", "$5\r\nab\r\nc\r\n", "$65\r\n",
    "$16385\r\n", "$-1\r\n", "$3\r\nab", "\r\n", "\n", "\r", " ", "PING\r\n", "set \"a b\" 'c'\r\n",
    "\"\\x41\\n\"", "'\\''", "\"", "GET / HTTP/1.1\r\n", "POST x\r\n", "Host: y\r\n", "\x16\x03",
    "1", "99999999", "%1\r\n", "0", "abcdefghijklmnopqrstuvwxyz0123456789",
};

static void input_make(struct buf *out, uint64_t seed)
{
    uint64_t draw = u64_mix(~seed);
    buf_append_u8(out, (uint8_t)draw);
    buf_append_u16(out, (uint16_t)(draw >> 8));
    fuzz_words(out, seed, words, ARRAY_LEN(words));
}

int main(int argc, char **argv) { return fuzz_main(argc, argv, input_make); }
#endif
