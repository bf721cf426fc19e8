// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <math.h>

void hone_philox(uint64_t seed, RandomPurpose purpose, uint64_t a, uint64_t b, uint32_t out[4]) {
    const uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    const uint64_t key = hone_philox_key(seed, purpose);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)a, c1 = (uint32_t)(a >> 32), c2 = (uint32_t)b, c3 = (uint32_t)(b >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)m0 * c0, p1 = (uint64_t)m1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1, c3 = (uint32_t)p0;
        c0 = n0, c2 = n2;
        k0 += w0, k1 += w1;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

RandomStream hone_random_stream(uint64_t seed, RandomPurpose purpose, uint64_t stream) {
    return (RandomStream){.seed = seed, .purpose = purpose, .stream = stream};
}

uint32_t hone_random_u32(RandomStream *stream) {
    if (stream->left == 0) {
        hone_philox(stream->seed, stream->purpose, stream->counter++, stream->stream,
                    stream->buffer);
        stream->left = 4;
    }
    return stream->buffer[--stream->left];
}

float hone_random_uniform(RandomStream *stream) {
    return (float)(hone_random_u32(stream) >> 8) * 0x1p-24f;
}

float hone_random_normal(RandomStream *stream) {
    // Box–Muller, one of the pair: 1 - u keeps the logarithm finite.
    float radius = sqrtf(-2.0f * logf(1.0f - hone_random_uniform(stream)));
    return radius * cosf(6.28318530718f * hone_random_uniform(stream));
}

uint64_t hone_random_below(RandomStream *stream, uint64_t bound) {
    if (bound <= 1) return 0;
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound; // reject the uneven tail
    for (;;) {
        uint64_t value = (uint64_t)hone_random_u32(stream) << 32 | hone_random_u32(stream);
        if (value < limit) return value % bound;
    }
}

void hone_random_shuffle(RandomStream *stream, int64_t *items, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)hone_random_below(stream, (uint64_t)i + 1);
        int64_t item = items[i];
        items[i] = items[j];
        items[j] = item;
    }
}
