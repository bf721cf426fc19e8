// SPDX-License-Identifier: Apache-2.0
#include "kernels/table.h"

#include <string.h>

#include "kernels/attention_math.h"
#include "kernels/attention_score.h"

// Four lanes by the compilers' vector types: SSE2 or NEON where there is one, plain floats
// elsewhere.
typedef float Lanes __attribute__((vector_size(16)));
enum { LANES = 4, HALF = HONE_PANEL / 2 };

static inline Lanes load(const float *x) {
    Lanes y;
    memcpy(&y, x, sizeof y);
    return y;
}

static inline void store(float *x, Lanes y) {
    memcpy(x, &y, sizeof y);
}

// C (rows, 8) = [C +] A (rows,K) · B (K, 8): eight accumulators, as many as SSE2 has room for.
static inline __attribute__((always_inline)) void tile(int rows, int64_t K, const float *a,
                                                       PanelOperand A, const float *B, int64_t ldb,
                                                       float *C, int64_t ldc, bool accumulate) {
    Lanes sum[4][2] = {{{0}}};
    for (int64_t k = 0; k < K; k++) {
        Lanes low = load(B + k * ldb), high = load(B + k * ldb + LANES);
        for (int m = 0; m < rows; m++) {
            float x = a[m * A.row + k * A.column];
            sum[m][0] += x * low;
            sum[m][1] += x * high;
        }
    }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 2; n++) {
            float *c = C + m * ldc + n * LANES;
            store(c, accumulate ? load(c) + sum[m][n] : sum[m][n]);
        }
}

static void maximum(const PanelScores *scores, float highest[HONE_PANEL]) {
    for (int64_t k = 0; k < scores->keys; k++) {
        float *S = scores->S + k * scores->ld;
        if (scores->begin) {
            int32_t begin = scores->begin[k], end = scores->end[k];
            for (int n = 0; n < HONE_PANEL; n++) {
                bool seen = scores->query[n] >= begin && scores->query[n] < end;
                S[n] = seen ? S[n] : -INFINITY;
            }
        }
        for (int n = 0; n < HONE_PANEL; n++) highest[n] = S[n] > highest[n] ? S[n] : highest[n];
    }
}

static void panel_product(int64_t M, int64_t K, PanelOperand A, const float *B, int64_t ldb,
                          float *C, int64_t ldc, bool accumulate, float *highest) {
    for (int64_t m = 0; m < M; m += 4) {
        const float *a = A.data + m * A.row;
        for (int n = 0; n < HONE_PANEL; n += HALF) {
            float *c = C + m * ldc + n;
            switch (M - m) {
            case 1:
                tile(1, K, a, A, B + n, ldb, c, ldc, accumulate);
                break;
            case 2:
                tile(2, K, a, A, B + n, ldb, c, ldc, accumulate);
                break;
            case 3:
                tile(3, K, a, A, B + n, ldb, c, ldc, accumulate);
                break;
            default:
                tile(4, K, a, A, B + n, ldb, c, ldc, accumulate);
                break;
            }
        }
    }
    if (!highest) return;
    PanelScores scores = {.S = C, .ld = ldc, .keys = M};
    maximum(&scores, highest);
}

static void product(const PanelProduct *p) {
    for (int n = 0; n < p->panels; n++)
        panel_product(p->M, p->K, p->A, p->B + n * p->B_apart, p->ldb, p->C + n * p->C_apart,
                      p->ldc, p->accumulate, p->highest ? p->highest + n * HONE_PANEL : NULL);
}

static void exponent(const PanelScores *scores, const float shift[HONE_PANEL],
                     float sum[HONE_PANEL]) {
    for (int64_t k = 0; k < scores->keys; k++) {
        float *S = scores->S + k * scores->ld;
        for (int n = 0; n < HONE_PANEL; n++) {
            S[n] = exp_flushed(S[n] - shift[n]);
            sum[n] += S[n];
        }
    }
}

static void gradient(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                     const float D[HONE_PANEL]) {
    for (int64_t k = 0; k < scores->keys; k++) {
        float *S = scores->S + k * scores->ld, *dS = dP + k * scores->ld;
        for (int n = 0; n < HONE_PANEL; n++) {
            float x = S[n] - lse[n];
            S[n] = exp_flushed(x > 0.0f ? 0.0f : x);
            dS[n] = S[n] * (dS[n] - D[n]);
        }
        if (!scores->begin) continue;
        int32_t begin = scores->begin[k], end = scores->end[k];
        for (int n = 0; n < HONE_PANEL; n++) {
            bool seen = scores->query[n] >= begin && scores->query[n] < end;
            S[n] = seen ? S[n] : 0.0f;
            dS[n] = seen ? dS[n] : 0.0f;
        }
    }
}

static void rescale(int64_t rows, const float factor[HONE_PANEL], float *X) {
    for (int64_t r = 0; r < rows; r++)
        for (int n = 0; n < HONE_PANEL; n++) X[r * HONE_PANEL + n] *= factor[n];
}

static void gather(int64_t size, int lanes, const float *const rows[HONE_PANEL], float factor,
                   float *panel, int64_t ld) {
    for (int n = 0; n < lanes; n++)
        for (int64_t c = 0; c < size; c++) panel[c * ld + n] = factor * rows[n][c];
    for (int n = lanes; n < HONE_PANEL; n++)
        for (int64_t c = 0; c < size; c++) panel[c * ld + n] = 0.0f;
}

static void scatter(int64_t size, int lanes, const float *panel, const float factor[HONE_PANEL],
                    float *const rows[HONE_PANEL], bool accumulate) {
    for (int n = 0; n < lanes; n++)
        for (int64_t c = 0; c < size; c++) {
            float x = factor[n] * panel[c * HONE_PANEL + n];
            rows[n][c] = accumulate ? rows[n][c] + x : x;
        }
}

void hone_generic_attention(AttentionTable *table) {
    *table = (AttentionTable){
        .product_rows = 4,
        .product_panels = 2,
        .product = product,
        .maximum = maximum,
        .exponent = exponent,
        .gradient = gradient,
        .rescale = rescale,
        .gather = gather,
        .scatter = scatter,
    };
    hone_score_functions(table);
}
