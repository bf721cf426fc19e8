// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_bf16.h"

#include <string.h>

#include "base/half.h"

bool hone_attention_in_bf16(const AttentionTable *table, const AttentionShape *shape) {
    return shape->args->dtype == HONE_BF16 && table->product_bf16 && shape->panels > 1;
}

void hone_attention_narrow_keys(const AttentionTable *table, const AttentionShape *shape,
                                AttentionView view, int64_t stack, int64_t start, int64_t stop,
                                int64_t size, uint16_t *to) {
    int64_t even = attention_even(size);
    for (int64_t key = start; key < stop; key++, to += even) {
        table->narrow(1, size, attention_key_row(shape, view, stack, key), size, to, even);
        if (size < even) to[size] = 0;
    }
}

void hone_attention_narrow_turned(const AttentionTable *table, const AttentionShape *shape,
                                  AttentionView view, int64_t stack, int64_t start, int64_t stop,
                                  int64_t size, uint16_t *to, int64_t ld, float *turned) {
    for (int64_t key = start; key < stop; key += HONE_PANEL, to += HONE_PANEL) {
        int lanes = (int)(stop - key < HONE_PANEL ? stop - key : HONE_PANEL);
        const float *rows[HONE_PANEL];
        for (int n = 0; n < lanes; n++) rows[n] = attention_key_row(shape, view, stack, key + n);
        table->gather(size, lanes, rows, 1.0f, turned, HONE_PANEL);
        table->narrow(size, HONE_PANEL, turned, HONE_PANEL, to, ld);
    }
}

void hone_attention_zero_column(int64_t size, uint16_t *column, int64_t ld) {
    for (int64_t c = 0; c < size; c++) column[c * ld] = 0;
}

void hone_attention_gather_pairs(const AttentionTable *table, int64_t size, int lanes,
                                 float *const rows[HONE_PANEL], uint16_t *pairs, float *turned) {
    const float *sources[HONE_PANEL];
    for (int n = 0; n < HONE_PANEL; n++) sources[n] = rows[n];
    table->gather(size, lanes, sources, 1.0f, turned, HONE_PANEL);
    table->pack_pairs(size, turned, HONE_PANEL, pairs);
}

void hone_attention_pair_columns(const AttentionTable *table, int64_t size,
                                 float *const rows[HONE_PANEL], uint16_t *columns, int64_t apart,
                                 float *wide) {
    int64_t ld = attention_ceiling(size, HONE_PANEL) * HONE_PANEL;
    for (int n = 0; n < HONE_PANEL; n++) {
        int64_t width = rows[n] ? size : 0;
        if (rows[n]) memcpy(wide + n * ld, rows[n], (size_t)width * sizeof *wide);
        memset(wide + n * ld + width, 0, (size_t)(ld - width) * sizeof *wide);
    }
    for (int64_t c = 0; c < ld; c += HONE_PANEL, columns += apart)
        table->pack_pairs(HONE_PANEL, wide + c, ld, columns);
}

void hone_attention_sparse_pairs(int64_t M, int64_t K, PanelOperand A, const uint16_t *B, float *C,
                                 int64_t ldc) {
    for (int64_t m = 0; m < M; m++)
        for (int n = 0; n < HONE_PANEL; n++) {
            float sum = C[m * ldc + n];
            for (int64_t k = 0; k < K; k++) {
                float a = A.data[m * A.row + k * A.column];
                if (a != 0.0f) sum += a * hone_bf16_to_f32(B[(k / 2 * HONE_PANEL + n) * 2 + k % 2]);
            }
            C[m * ldc + n] = sum;
        }
}
