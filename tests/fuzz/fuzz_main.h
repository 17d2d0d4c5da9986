/* tests/fuzz/fuzz_main.h - main() of a fuzzer without libFuzzer: replays files (FILE...), or runs
 * inputs that the fuzzer makes from a seed (-r SEED COUNT [FILE...]; files are ignored). */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

#ifdef FUZZ_STANDALONE
/* Puts up to 24 words together, with a byte of noise here and there. */
static inline void fuzz_words(struct buf *out, uint64_t seed, const char *const *words, size_t word_count)
{
    uint64_t draw = u64_mix(seed);
    size_t count = 1 + draw % 24;
    for (size_t i = 0; i < count; i++) {
        draw = u64_mix(draw + seed + i);
        if (draw % 16 == 0) {
            buf_append_u8(out, (uint8_t)(draw >> 8));
        } else {
            buf_append_slice(out, slice_of(words[(draw >> 8) % word_count]));
        }
    }
}

static inline bool fuzz_read(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    buf_clear(out);
    for (size_t got = 1; got != 0;) {
        got = fread(buf_reserve(out, 4096), 1, 4096, file);
        out->len += got;
    }
    fclose(file);
    return true;
}

/* `make` appends an input to an empty buffer; NULL: there are only files. */
static inline int fuzz_main(int argc, char **argv, void (*make)(struct buf *out, uint64_t seed))
{
    struct buf input = { 0 };
    bool read = true;
    if (make != NULL && argc >= 4 && strcmp(argv[1], "-r") == 0) {
        uint64_t first = strtoull(argv[2], NULL, 10);
        uint64_t count = strtoull(argv[3], NULL, 10);
        for (uint64_t i = 0; i < count; i++) {
            buf_clear(&input);
            make(&input, first + i);
            LLVMFuzzerTestOneInput(input.at, input.len);
        }
        printf("%llu inputs from seed %llu\n", (unsigned long long)count, (unsigned long long)first);
    } else {
        for (int i = 1; i < argc && read; i++) {
            read = fuzz_read(argv[i], &input);
            if (read) LLVMFuzzerTestOneInput(input.at, input.len);
        }
    }
    buf_deinit(&input);
    if (argc < 2) fprintf(stderr, "usage: %s FILE... | -r SEED COUNT\n", argv[0]);
    return argc < 2 ? 2 : read ? 0 : 1;
}
#endif

#endif
