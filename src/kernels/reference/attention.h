// SPDX-License-Identifier: Apache-2.0
// Attention as its formula says it (kernels/kernels.h), in float and in double: the oracle of the
// tests; and in float with the weights and the gradients of the scores rounded to bf16 before they
// are multiplied, which says what that costs anybody. Three plain loops, one row of scores at a
// time, one element of a batch, dense tensors:
//     q, d_o's rows (queries, heads, ·), k, v (keys, kv_heads, ·), lse (heads, queries).
#ifndef HONE_KERNELS_REFERENCE_ATTENTION_H
#define HONE_KERNELS_REFERENCE_ATTENTION_H

#include "kernels/kernels.h"

typedef struct ReferenceAttention {
    int64_t queries, keys;
    int heads, kv_heads, head_size, value_size;
    double scale;
    const int32_t *begin, *end; // (keys) or NULL
    AttentionMask mask;
    int32_t window;
    const int32_t *query_depth, *key_depth; // or NULL
    const float *slopes, *sinks;            // (heads) or NULL
    int64_t offset;
    double softcap, dropout;
    uint64_t seed;
    int64_t element; // which one of the batch: where in the mask, and which dropout
    double *d_mask;  // NULL, or with the mask's strides: added to
    double *d_sinks; // NULL or (heads): added to
} ReferenceAttention;

// row: (keys) scratch. The gradients are added to. A pair that does not see each other is never
// read.
#define HONE_REFERENCE_ATTENTION(NAME, REAL)                                                       \
    void NAME(attention_forward)(const ReferenceAttention *args, const REAL *q, const REAL *k,     \
                                 const REAL *v, REAL *o, REAL *lse, REAL *row);                    \
    void NAME(attention_backward)(const ReferenceAttention *args, const REAL *q, const REAL *k,    \
                                  const REAL *v, const REAL *o, const REAL *lse, const REAL *d_o,  \
                                  REAL *dq, REAL *dk, REAL *dv);

#define HONE_REFERENCE_ATTENTION_F32(name) hone_reference_f32_##name
#define HONE_REFERENCE_ATTENTION_BF16(name) hone_reference_bf16_##name
#define HONE_REFERENCE_ATTENTION_F64(name) hone_reference_f64_##name
HONE_REFERENCE_ATTENTION(HONE_REFERENCE_ATTENTION_F32, float)
HONE_REFERENCE_ATTENTION(HONE_REFERENCE_ATTENTION_BF16, float)
HONE_REFERENCE_ATTENTION(HONE_REFERENCE_ATTENTION_F64, double)

#endif
