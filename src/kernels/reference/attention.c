// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/attention.h"

#include <math.h>

#include "base/half.h"
#include "base/random.h"

static int64_t mask_place(const ReferenceAttention *args, int64_t h, int64_t i, int64_t j) {
    const AttentionMask *m = &args->mask;
    return args->element * m->batch + h * m->head + i * m->query + j * m->key;
}

static bool sees(const ReferenceAttention *args, int64_t h, int64_t i, int64_t j) {
    if (args->begin && (i < args->begin[j] || i >= args->end[j])) return false;
    if (args->query_depth && args->query_depth[i] - args->key_depth[j] >= args->window)
        return false;
    if (!args->mask.data) return true;
    int64_t at = mask_place(args, h, i, j);
    if (args->mask.boolean) return ((const uint8_t *)args->mask.data)[at] != 0;
    return ((const float *)args->mask.data)[at] != -INFINITY;
}

static float added(const ReferenceAttention *args, int64_t h, int64_t i, int64_t j) {
    if (!args->mask.data || args->mask.boolean) return 0;
    return ((const float *)args->mask.data)[mask_place(args, h, i, j)];
}

// What a weight is multiplied with: a byte below dropout·256 of 16 that (key, query/16, head) draw
// drops it.
static double dropped(const ReferenceAttention *args, int64_t h, int64_t i, int64_t j) {
    if (args->dropout <= 0) return 1;
    long limit = lrint(args->dropout * 256);
    uint32_t words[4];
    hone_philox(args->seed, RANDOM_DROPOUT, (uint64_t)j | (uint64_t)(i / 16) << 32,
                (uint64_t)(args->element * args->heads + h), words);
    uint32_t byte = words[i % 16 / 4] >> (8 * (i % 4)) & 255;
    return byte < (uint32_t)limit ? 0 : 256.0 / (double)(256 - limit);
}

#define REAL float
#define NAME HONE_REFERENCE_ATTENTION_F32
#define MATH(function) function##f
#define OPERAND(x) (x)
#include "kernels/reference/attention_body.h"
#undef NAME
#undef OPERAND

#define NAME HONE_REFERENCE_ATTENTION_BF16
#define OPERAND(x) hone_bf16_to_f32(hone_f32_to_bf16(x))
#include "kernels/reference/attention_body.h"
#undef REAL
#undef NAME
#undef MATH
#undef OPERAND

#define REAL double
#define NAME HONE_REFERENCE_ATTENTION_F64
#define MATH(function) function
#define OPERAND(x) (x)
#include "kernels/reference/attention_body.h"
