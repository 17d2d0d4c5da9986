/* tests/fuzz/fuzz_main.h - main() of a fuzzer without libFuzzer: replays files (FILE...), or puts inputs
 * together at random (-r SEED COUNT [FILE...]; files are ignored) from `words` of its own. */
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
static void fuzz_random(uint64_t seed, const char *const *words, size_t word_count)
{
    struct buf input = { 0 };
    uint64_t draw = u64_mix(seed);
    size_t count = 1 + draw % 24;
    for (size_t i = 0; i < count; i++) {
        draw = u64_mix(draw + seed + i);
        if (draw % 8 == 0) {
            buf_append_u8(&input, (uint8_t)(draw >> 8));
        } else {
            buf_append_slice(&input, slice_of(words[(draw >> 8) % word_count]));
        }
    }
    LLVMFuzzerTestOneInput(input.at, input.len);
    buf_deinit(&input);
}

static bool fuzz_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    struct buf input = { 0 };
    size_t got;
    do {
        got = fread(buf_reserve(&input, 4096), 1, 4096, file);
        input.len += got;
    } while (got != 0);
    fclose(file);
    LLVMFuzzerTestOneInput(input.at, input.len);
    buf_deinit(&input);
    return true;
}

static int fuzz_main(int argc, char **argv, const char *const *words, size_t word_count)
{
    if (argc >= 4 && strcmp(argv[1], "-r") == 0) {
        uint64_t first = strtoull(argv[2], NULL, 10);
        uint64_t count = strtoull(argv[3], NULL, 10);
        for (uint64_t i = 0; i < count; i++) fuzz_random(first + i, words, word_count);
        printf("%llu inputs from seed %llu\n", (unsigned long long)count, (unsigned long long)first);
        return 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE... | -r SEED COUNT\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        if (!fuzz_file(argv[i])) return 1;
    }
    return 0;
}
#endif

#endif
