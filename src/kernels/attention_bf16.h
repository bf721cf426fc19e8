// SPDX-License-Identifier: Apache-2.0
// Attention's products on bf16 operands, where the inputs are bf16 and the level has the
// arithmetic. The passes read f32 arrays whose values bf16 holds, so packing them loses nothing.
// What is rounded is what the passes make: the weights before they meet values or d_o, and the
// gradients of the scores before they meet keys or queries. Sums, the softmax and all gradients
// stay f32.
//
// A left side is rows of bf16 whose length is even, a zero added where it is not; a right side is
// pairs of rows. A pair's second half beyond the summed axis is 0 on one side and must be finite on
// the other.
#ifndef HONE_KERNELS_ATTENTION_BF16_H
#define HONE_KERNELS_ATTENTION_BF16_H

#include "kernels/attention_parts.h"

// A left side; rows are `row` elements apart.
typedef struct Bf16Rows {
    const uint16_t *data;
    int64_t row;
} Bf16Rows;

// Do the passes multiply in bf16? Not for a single panel, which is read too seldom to be packed.
bool hone_attention_in_bf16(const AttentionTable *table, const AttentionShape *shape);

static inline int64_t attention_even(int64_t size) {
    return size + size % 2;
}

// to (keys, even size) ← the rows [start, stop) of a stack in a view of key/value heads.
void hone_attention_narrow_keys(const AttentionTable *table, const AttentionShape *shape,
                                AttentionView view, int64_t stack, int64_t start, int64_t stop,
                                int64_t size, uint16_t *to);
// to (size, stop - start), rows ld apart ← the same rows, transposed; 0 up to the next panel's end.
// turned: (size, HONE_PANEL) scratch.
void hone_attention_narrow_turned(const AttentionTable *table, const AttentionShape *shape,
                                  AttentionView view, int64_t stack, int64_t start, int64_t stop,
                                  int64_t size, uint16_t *to, int64_t ld, float *turned);
// column (size), elements ld apart, ← 0: what stands after the last key, which an odd number of
// them reaches.
void hone_attention_zero_column(int64_t size, uint16_t *column, int64_t ld);
// pairs (even size / 2, HONE_PANEL, 2) ← rows, as AttentionTable.gather. turned: (size, HONE_PANEL)
// scratch.
void hone_attention_gather_pairs(const AttentionTable *table, int64_t size, int lanes,
                                 float *const rows[HONE_PANEL], uint16_t *pairs, float *turned);
// The rows as the summed axis: panel c of `size` columns ← columns + c · apart, (HONE_PANEL / 2,
// HONE_PANEL, 2), zeros beyond the columns and where a row is NULL. wide: (HONE_PANEL, size rounded
// up to panels) scratch.
void hone_attention_pair_columns(const AttentionTable *table, int64_t size,
                                 float *const rows[HONE_PANEL], uint16_t *columns, int64_t apart,
                                 float *wide);

// C += A · B without the terms whose coefficient in A is exactly 0; A in f32, B (K/2, HONE_PANEL,
// 2).
void hone_attention_sparse_pairs(int64_t M, int64_t K, PanelOperand A, const uint16_t *B, float *C,
                                 int64_t ldc);

#endif
