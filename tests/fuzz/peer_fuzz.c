/* Feeds a stream to the decoder of members' frames, and what comes out to the decoders of
 * handshakes. However the stream is cut, the same frames and the same error come out, nothing lies
 * outside of the input, and what was decoded encodes to the bytes it came from.
 *
 * Input: byte 0 bit 0: before the handshake; bit 1: checksums are put right first, so that what is
 * behind them is reached; the rest is the stream. Build with clang -fsanitize=fuzzer,address,undefined;
 * or with -DFUZZ_STANDALONE for a program that replays files (fuzz FILE...) or runs seeded inputs
 * (fuzz -r SEED COUNT).
 */
#include "fuzz_main.h"

#include "server/peer_frame.h"

#define INPUT_BYTES_MAX 40000

static void must(bool condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "peer_fuzz: %s\n", what);
    abort();
}

static bool lies_in(struct slice part, struct slice in)
{
    return part.len == 0 || (part.at >= in.at && part.at + part.len <= in.at + in.len);
}

/* Every whole frame gets right checksums. */
static void mend(uint8_t *at, size_t len)
{
    for (size_t i = 0; i + PEER_FRAME_HEAD_BYTES <= len;) {
        uint8_t *head = at + i;
        size_t body = u32_le(head + 4);
        memcpy(head, "CRP\x01", 4);
        u16_le_put(head + 10, (uint16_t)crc32c(0, head, 10));
        if (body > len - i - PEER_FRAME_HEAD_BYTES) return;
        u32_le_put(head + 12, crc32c(crc32c(0, head, 12), head + PEER_FRAME_HEAD_BYTES, body));
        i += PEER_FRAME_HEAD_BYTES + body;
    }
}

static void same_bytes(struct chain *c, struct slice want, const char *what)
{
    struct iovec iov[64];
    size_t done = 0;
    while (chain_bytes(c) > 0) {
        size_t bytes = 0;
        size_t count = chain_iov(c, iov, ARRAY_LEN(iov));
        for (size_t i = 0; i < count; i++) {
            must(iov[i].iov_len <= want.len - done, what);
            must(memcmp(iov[i].iov_base, want.at + done, iov[i].iov_len) == 0, what);
            done += iov[i].iov_len;
            bytes += iov[i].iov_len;
        }
        chain_consume(c, bytes);
    }
    must(done == want.len, what);
}

static void look_inside(const struct peer_frame *f, struct slice bytes, struct chain *c)
{
    struct errmsg em;
    struct peer_hello hello;
    struct peer_welcome welcome;
    struct peer_refusal refusal;
    struct peer_founder founder;
    peer_frame_put(c, f->kind, f->payload);
    same_bytes(c, bytes, "a frame encodes to other bytes");
    if (peer_hello_decode(f->payload, &hello, &em) == OK && f->kind == PEER_HELLO) {
        peer_hello_put(c, &hello);
        same_bytes(c, bytes, "a hello encodes to other bytes");
    }
    if (peer_welcome_decode(f->payload, &welcome, &em) == OK && f->kind == PEER_WELCOME) {
        peer_welcome_put(c, &welcome);
        same_bytes(c, bytes, "a welcome encodes to other bytes");
    }
    if (peer_refusal_decode(f->payload, &refusal, &em) == OK) {
        must(strlen(refusal.text) <= PEER_REFUSAL_BYTES_MAX, "a refusal without an end");
    }
    if (peer_founder_decode(f->payload, &founder, &em) != OK) return;
    must(lies_in(founder.list, f->payload) && lies_in(founder.members, f->payload), "outside of the payload");
    if (f->kind != PEER_FOUNDER) return;
    peer_founder_put(c, &founder);
    same_bytes(c, bytes, "a founder encodes to other bytes");
}

/* Decodes the frame at the front with one byte more each time: it asks for more, until it does not. */
static void grow(struct slice in, bool handshake, enum err want, size_t want_used)
{
    size_t need = 1;
    struct peer_frame f = { .used_bytes = 0 };
    struct errmsg em;
    for (size_t len = 0; len <= in.len; len++) {
        enum err e = peer_frame_decode((struct slice){ in.at, len }, handshake, &f, &need, &em);
        if (e == ERR_AGAIN) {
            must(need > len, "needs no more than it has");
            continue;
        }
        must(e == want, "cut differently it is another error");
        must(e != OK || f.used_bytes == want_used, "cut differently it is another frame");
        return;
    }
    must(want == ERR_AGAIN, "cut differently it is not complete");
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    if (len < 1 || len > INPUT_BYTES_MAX) return 0;
    bool handshake = (at[0] & 1) != 0;
    uint8_t *copy = mem_copy(at + 1, len - 1);
    if ((at[0] & 2) != 0) mend(copy, len - 1);
    struct chain_pool pool;
    struct chain c;
    chain_pool_init(&pool);
    chain_init(&c, &pool);
    struct slice rest = { copy, len - 1 };
    for (;;) {
        struct peer_frame f;
        struct errmsg em = { "" };
        size_t need = 0;
        enum err e = peer_frame_decode(rest, handshake, &f, &need, &em);
        if (rest.len < 2000) grow(rest, handshake, e, e == OK ? f.used_bytes : 0);
        if (e != OK) {
            must(e == ERR_AGAIN || em.text[0] != '\0', "an error without words");
            break;
        }
        must(f.used_bytes <= rest.len && lies_in(f.payload, rest), "outside of the input");
        look_inside(&f, (struct slice){ rest.at, f.used_bytes }, &c);
        rest = (struct slice){ rest.at + f.used_bytes, rest.len - f.used_bytes };
    }
    chain_deinit(&c);
    chain_pool_deinit(&pool);
    mem_free(copy);
    return 0;
}

#ifdef FUZZ_STANDALONE
/* Frames with plausible heads and payloads made of small numbers. */
static void input_make(struct buf *out, uint64_t seed)
{
    uint8_t *bytes = buf_reserve(out, INPUT_BYTES_MAX);
    uint64_t random = seed;
    uint64_t word = random = u64_mix(random + 1);
    bytes[0] = (uint8_t)(word | (word >> 8 & 2));
    size_t len = 1;
    size_t frames = 1 + (word >> 16) % 4;
    for (size_t i = 0; i < frames; i++) {
        word = random = u64_mix(random + i);
        static const size_t bodies[] = { 40, 24, 3, 0, 34, 100, 5 };
        size_t body = bodies[word % ARRAY_LEN(bodies)] + ((word >> 8) % 8 == 0 ? (word >> 16) % 60 : 0);
        memcpy(bytes + len, "CRP\x01", 4);
        u32_le_put(bytes + len + 4, (uint32_t)body);
        bytes[len + 8] = (uint8_t)(1 + (word >> 24) % 5);
        memset(bytes + len + 9, 0, 7);
        len += PEER_FRAME_HEAD_BYTES;
        for (size_t k = 0; k < body; k++) {
            word = random = u64_mix(random + k);
            bytes[len + k] = (uint8_t)(word % 4 == 0 ? word >> 8 : word % 4 == 1 ? (word >> 8) % 3 : 0);
        }
        if (body >= 2) u16_le_put(bytes + len, PEER_PROTOCOL);
        len += body;
    }
    out->len = len - (word >> 32) % 3 * ((word >> 40) % 8);
}

int main(int argc, char **argv) { return fuzz_main(argc, argv, input_make); }
#endif
