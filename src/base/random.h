// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox 4×32-10 (Salmon, Moraes, Dror, Shaw: Parallel random
// numbers: as easy as 1, 2, 3; SC 2011). The same (key, counter) gives the same numbers on any
// thread, at any time, so a replay draws what the first pass drew.
#ifndef HONE_BASE_RANDOM_H
#define HONE_BASE_RANDOM_H

#include <stdint.h>

// What a stream is for: part of the key, so that no two uses share numbers.
typedef enum RandomPurpose {
    RANDOM_INITIAL = 1, // initial weights and adapters
    RANDOM_SHUFFLE,     // order of the examples
    RANDOM_SPLIT,       // which examples are held out
    RANDOM_SAMPLE,      // token sampling
    RANDOM_DROPOUT,
    RANDOM_TEST,
    RANDOM_STEPS, // order of the steps, where examples that begin alike were brought together
} RandomPurpose;

// The key of a use: the purpose is mixed into the seed by an odd constant, so keys differ for all
// seeds.
static inline uint64_t hone_philox_key(uint64_t seed, RandomPurpose purpose) {
    return seed ^ ((uint64_t)purpose * 0x9E3779B97F4A7C15u);
}

// Four 32-bit numbers for counter (a, b) under the key (seed, purpose).
void hone_philox(uint64_t seed, RandomPurpose purpose, uint64_t a, uint64_t b, uint32_t out[4]);

// A stream: consecutive counters under one key.
typedef struct RandomStream {
    uint64_t seed, stream, counter;
    RandomPurpose purpose;
    uint32_t buffer[4];
    int left;
} RandomStream;

RandomStream hone_random_stream(uint64_t seed, RandomPurpose purpose, uint64_t stream);
uint32_t hone_random_u32(RandomStream *stream);
float hone_random_uniform(RandomStream *stream);                  // [0, 1), 24 bits
float hone_random_normal(RandomStream *stream);                   // mean 0, variance 1
uint64_t hone_random_below(RandomStream *stream, uint64_t bound); // 0 … bound-1, unbiased
void hone_random_shuffle(RandomStream *stream, int64_t *items, int64_t count);

#endif
