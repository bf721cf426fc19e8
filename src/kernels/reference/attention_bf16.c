// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/attention_bf16.h"

#include "base/half.h"

static void product_bf16(const PairProduct *p) {
    for (int64_t m = 0; m < p->M; m++)
        for (int n = 0; n < p->panels * HONE_PANEL; n++) {
            int panel = n / HONE_PANEL, lane = n % HONE_PANEL;
            const uint16_t *b = p->B + panel * p->B_apart + 2 * lane;
            float sum = 0, *c = p->C + m * p->ldc + panel * p->C_apart + lane;
            for (int64_t k = 0; k < 2 * p->pairs; k++)
                sum += hone_bf16_to_f32(p->A[m * p->row + k]) *
                       hone_bf16_to_f32(b[k / 2 * HONE_PANEL * 2 + k % 2]);
            *c = p->accumulate ? *c + p->factor * sum : p->factor * sum;
            if (p->highest && *c > p->highest[n]) p->highest[n] = *c;
        }
}

static void pack_pairs(int64_t rows, const float *X, int64_t ld, uint16_t *pairs) {
    for (int64_t r = 0; r < rows + rows % 2; r++)
        for (int n = 0; n < HONE_PANEL; n++)
            pairs[(r / 2 * HONE_PANEL + n) * 2 + r % 2] =
                r < rows ? hone_f32_to_bf16(X[r * ld + n]) : 0;
}

static void narrow(int64_t rows, int64_t columns, const float *X, int64_t ld, uint16_t *Y,
                   int64_t to_ld) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) Y[r * to_ld + c] = hone_f32_to_bf16(X[r * ld + c]);
}

void hone_reference_bf16_kernels(AttentionTable *table) {
    table->product_bf16 = product_bf16;
    table->pack_pairs = pack_pairs;
    table->narrow = narrow;
}
