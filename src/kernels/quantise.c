// SPDX-License-Identifier: Apache-2.0
// f32 to what a file stores. Blocks of the legacy types as ggml's reference makes them: the scale
// is computed in f32, the values are divided by it, and only then is it rounded to f16.
#include <math.h>

#include "base/half.h"
#include "kernels/quantise.h"

enum { BLOCK = 32 };

// The value of largest size, with its sign.
static float extreme(const float *x) {
    float found = 0;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > fabsf(found)) found = x[i];
    return found;
}

static void range(const float *x, float *low, float *high) {
    *low = *high = x[0];
    for (int i = 1; i < BLOCK; i++) {
        if (x[i] < *low) *low = x[i];
        if (x[i] > *high) *high = x[i];
    }
}

// Two to a byte: i with i + 16; of the fifth bits one word, at high (NULL: there are none).
static void put_quants(const int q[BLOCK], uint8_t *high, uint8_t *low) {
    uint32_t fifth = 0;
    for (int i = 0; i < BLOCK / 2; i++) low[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
    for (int i = 0; i < BLOCK; i++) fifth |= (uint32_t)(q[i] >> 4 & 1) << i;
    for (int i = 0; i < 4 && high; i++) high[i] = (uint8_t)(fifth >> 8 * i);
}

// Steps of 1/half of the extreme value, which is the lowest: d·(q − half).
static int *quants_around(const float *x, int half, float *scale, int q[BLOCK]) {
    *scale = extreme(x) / (float)-half;
    const float inverse = *scale != 0.0f ? 1.0f / *scale : 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        q[i] = (int)(x[i] * inverse + ((float)half + 0.5f));
        if (q[i] > 2 * half - 1) q[i] = 2 * half - 1;
    }
    return q;
}

// `most` steps from the lowest value to the highest: d·q + low.
static int *quants_between(const float *x, int most, float *scale, float *low, int q[BLOCK]) {
    float high;
    range(x, low, &high);
    *scale = (high - *low) / (float)most;
    const float inverse = *scale != 0.0f ? 1.0f / *scale : 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        q[i] = (int)((x[i] - *low) * inverse + 0.5f);
        if (q[i] > most) q[i] = most;
    }
    return q;
}

static void block_q4_0(const float *x, uint8_t *to) {
    float scale;
    int q[BLOCK];
    put_quants(quants_around(x, 8, &scale, q), NULL, to + 2);
    hone_put_u16(to, hone_f32_to_f16(scale));
}

static void block_q5_0(const float *x, uint8_t *to) {
    float scale;
    int q[BLOCK];
    put_quants(quants_around(x, 16, &scale, q), to + 2, to + 6);
    hone_put_u16(to, hone_f32_to_f16(scale));
}

static void block_q4_1(const float *x, uint8_t *to) {
    float scale, low;
    int q[BLOCK];
    put_quants(quants_between(x, 15, &scale, &low, q), NULL, to + 4);
    hone_put_u16(to, hone_f32_to_f16(scale));
    hone_put_u16(to + 2, hone_f32_to_f16(low));
}

static void block_q5_1(const float *x, uint8_t *to) {
    float scale, low;
    int q[BLOCK];
    put_quants(quants_between(x, 31, &scale, &low, q), to + 4, to + 8);
    hone_put_u16(to, hone_f32_to_f16(scale));
    hone_put_u16(to + 2, hone_f32_to_f16(low));
}

static void block_q8_0(const float *x, uint8_t *to) {
    const float scale = fabsf(extreme(x)) / 127.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (int i = 0; i < BLOCK; i++) to[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
    hone_put_u16(to, hone_f32_to_f16(scale));
}

typedef struct BlockType {
    HoneDtype dtype;
    void (*put)(const float *x, uint8_t *to);
} BlockType;

static const BlockType block_types[] = {{HONE_Q4_0, block_q4_0},      {HONE_Q4_1, block_q4_1},
                                        {HONE_Q5_0, block_q5_0},      {HONE_Q5_1, block_q5_1},
                                        {HONE_Q8_0, block_q8_0},      {HONE_Q4_K, hone_block_q4_k},
                                        {HONE_Q5_K, hone_block_q5_k}, {HONE_Q6_K, hone_block_q6_k}};

static const BlockType *block_type(int dtype) {
    for (size_t i = 0; i < sizeof block_types / sizeof *block_types; i++)
        if ((int)block_types[i].dtype == dtype) return &block_types[i];
    return NULL;
}

bool hone_can_quantise(int dtype) {
    return dtype == HONE_F32 || dtype == HONE_F16 || dtype == HONE_BF16 || block_type(dtype);
}

hone_status hone_quantise(int dtype, const float *x, void *stored, int64_t count, HoneError *err) {
    uint8_t *bytes = stored;
    const BlockType *blocks = block_type(dtype);
    if (blocks) {
        const DtypeInfo *info = hone_dtype_info(dtype);
        for (int64_t i = 0; i + info->block <= count; i += info->block, bytes += info->block_bytes)
            blocks->put(x + i, bytes);
        return HONE_OK;
    }
    switch (dtype) {
    case HONE_F32:
        memcpy(stored, x, (size_t)count * sizeof *x);
        return HONE_OK;
    case HONE_F16:
    case HONE_BF16:
        for (int64_t i = 0; i < count; i++)
            hone_put_u16(bytes + 2 * i,
                         dtype == HONE_F16 ? hone_f32_to_f16(x[i]) : hone_f32_to_bf16(x[i]));
        return HONE_OK;
    default:
        return hone_fail(
            err, HONE_ERROR_UNSUPPORTED,
            "cannot write type %s: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, "
            "Q5_K and Q6_K can be written",
            hone_dtype_name(dtype));
    }
}
