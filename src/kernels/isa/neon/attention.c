// SPDX-License-Identifier: Apache-2.0
// A panel is four vectors of four queries. NEON's own maximum and minimum return NaN where either
// operand is NaN: comparisons and selections take their place.
#include "kernels/table.h"

#include "kernels/attention_math.h"
#include "kernels/attention_score.h"
#include "kernels/isa/neon/tile.h"

enum { LANES = 4, VECTORS = HONE_PANEL / LANES };

typedef float32x4_t Panel[VECTORS];

static inline void load_panel(const float *x, Panel panel) {
    for (int n = 0; n < VECTORS; n++) panel[n] = vld1q_f32(x + n * LANES);
}

static inline void store_panel(float *x, const Panel panel) {
    for (int n = 0; n < VECTORS; n++) vst1q_f32(x + n * LANES, panel[n]);
}

// The larger of both; y where x is NaN.
static inline float32x4_t larger(float32x4_t x, float32x4_t y) {
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

// ---- product -----------------------------------------------------------------------------------

// C (rows, 16) = [C +] A · B; highest ← max(highest, C) unless it is NULL. rows is a constant at
// each call.
static inline __attribute__((always_inline)) void tile(int rows, int64_t K, const float *a,
                                                       PanelOperand A, const float *B, int64_t ldb,
                                                       float *C, int64_t ldc, bool accumulate,
                                                       float *highest) {
    TileSums sums;
    if (A.row == 1)
        tile_sums(rows, K, a, 1, A.column, B, ldb, sums);
    else
        tile_sums(rows, K, a, A.row, 1, B, ldb, sums);
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < VECTORS; n++) {
            float *c = C + r * ldc + n * LANES;
            if (accumulate) sums[r][n] = vaddq_f32(sums[r][n], vld1q_f32(c));
            vst1q_f32(c, sums[r][n]);
        }
    if (!highest) return;
    Panel most;
    load_panel(highest, most);
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < VECTORS; n++) most[n] = larger(sums[r][n], most[n]);
    store_panel(highest, most);
}

static void panel_product(int64_t M, int64_t K, PanelOperand A, const float *B, int64_t ldb,
                          float *C, int64_t ldc, bool accumulate, float *highest) {
    const float *a = A.data;
    for (; M >= TILE_ROWS; M -= TILE_ROWS, a += TILE_ROWS * A.row, C += TILE_ROWS * ldc)
        tile(TILE_ROWS, K, a, A, B, ldb, C, ldc, accumulate, highest);
    for (; M >= 2; M -= 2, a += 2 * A.row, C += 2 * ldc)
        tile(2, K, a, A, B, ldb, C, ldc, accumulate, highest);
    if (M) tile(1, K, a, A, B, ldb, C, ldc, accumulate, highest);
}

static void product(const PanelProduct *p) {
    for (int n = 0; n < p->panels; n++)
        panel_product(p->M, p->K, p->A, p->B + n * p->B_apart, p->ldb, p->C + n * p->C_apart,
                      p->ldc, p->accumulate, p->highest ? p->highest + n * HONE_PANEL : NULL);
}

// ---- softmax -----------------------------------------------------------------------------------

// exp_flushed of four.
static inline float32x4_t exponential(float32x4_t x) {
    const float32x4_t round = vdupq_n_f32(EXP_ROUND), log2_e = vdupq_n_f32(EXP_LOG2_E);
    const float32x4_t lowest = vdupq_n_f32(EXP_LOWEST);
    x = vbslq_f32(vcltq_f32(x, lowest), lowest, x);
    float32x4_t rounded = vfmaq_f32(round, x, log2_e);
    float32x4_t f = vfmaq_f32(vsubq_f32(round, rounded), x, log2_e);
    uint32x4_t power = vshlq_n_u32(vreinterpretq_u32_f32(rounded), 23);
    float32x4_t y = vdupq_n_f32(EXP_C5);
    y = vfmaq_f32(vdupq_n_f32(EXP_C4), y, f);
    y = vfmaq_f32(vdupq_n_f32(EXP_C3), y, f);
    y = vfmaq_f32(vdupq_n_f32(EXP_C2), y, f);
    y = vfmaq_f32(vdupq_n_f32(EXP_C1), y, f);
    y = vfmaq_f32(vdupq_n_f32(1.0f), y, f);
    return vmulq_f32(y, vreinterpretq_f32_u32(power));
}

// All ones in the lanes whose query sees the key.
static inline uint32x4_t seen(const int32_t *query, int32_t begin, int32_t end) {
    int32x4_t number = vld1q_s32(query);
    return vandq_u32(vcgeq_s32(number, vdupq_n_s32(begin)), vcltq_s32(number, vdupq_n_s32(end)));
}

static void maximum(const PanelScores *scores, float highest[HONE_PANEL]) {
    const float32x4_t lowest = vdupq_n_f32(-INFINITY);
    Panel most, x;
    load_panel(highest, most);
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
        load_panel(S, x);
        for (int n = 0; n < VECTORS; n++) {
            if (scores->begin)
                x[n] = vbslq_f32(seen(scores->query + n * LANES, scores->begin[k], scores->end[k]),
                                 x[n], lowest);
            most[n] = larger(x[n], most[n]);
        }
        if (scores->begin) store_panel(S, x);
    }
    store_panel(highest, most);
}

static void exponent(const PanelScores *scores, const float shift[HONE_PANEL],
                     float sum[HONE_PANEL]) {
    Panel from, total, x;
    load_panel(shift, from);
    load_panel(sum, total);
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
        load_panel(S, x);
        for (int n = 0; n < VECTORS; n++) {
            x[n] = exponential(vsubq_f32(x[n], from[n]));
            total[n] = vaddq_f32(total[n], x[n]);
        }
        store_panel(S, x);
    }
    store_panel(sum, total);
}

static inline float32x4_t where(uint32x4_t mask, float32x4_t x) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), mask));
}

static void gradient(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                     const float D[HONE_PANEL]) {
    const float32x4_t zero = vdupq_n_f32(0);
    Panel shift, sum, p, dS;
    load_panel(lse, shift);
    load_panel(D, sum);
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld, dP += scores->ld) {
        load_panel(S, p);
        load_panel(dP, dS);
        for (int n = 0; n < VECTORS; n++) {
            float32x4_t x = vsubq_f32(p[n], shift[n]);
            p[n] = exponential(vbslq_f32(vcgtq_f32(x, zero), zero, x));
            dS[n] = vmulq_f32(p[n], vsubq_f32(dS[n], sum[n]));
            if (!scores->begin) continue;
            uint32x4_t mask = seen(scores->query + n * LANES, scores->begin[k], scores->end[k]);
            p[n] = where(mask, p[n]);
            dS[n] = where(mask, dS[n]);
        }
        store_panel(S, p);
        store_panel(dP, dS);
    }
}

static void rescale(int64_t rows, const float factor[HONE_PANEL], float *X) {
    Panel scale, x;
    load_panel(factor, scale);
    for (int64_t r = 0; r < rows; r++, X += HONE_PANEL) {
        load_panel(X, x);
        for (int n = 0; n < VECTORS; n++) x[n] = vmulq_f32(x[n], scale[n]);
        store_panel(X, x);
    }
}

// ---- rows to panels and back -------------------------------------------------------------------

static void gather(int64_t size, int lanes, const float *const rows[HONE_PANEL], float factor,
                   float *panel, int64_t ld) {
    int64_t c = 0;
    for (; c + LANES <= size; c += LANES)
        for (int n = 0; n < HONE_PANEL; n += LANES) {
            float32x4_t x[LANES], y[LANES];
            for (int r = 0; r < LANES; r++)
                x[r] = n + r < lanes ? vld1q_f32(rows[n + r] + c) : vdupq_n_f32(0);
            transpose_4x4(x, y);
            for (int r = 0; r < LANES; r++)
                vst1q_f32(panel + (c + r) * ld + n, vmulq_n_f32(y[r], factor));
        }
    for (; c < size; c++)
        for (int n = 0; n < HONE_PANEL; n++)
            panel[c * ld + n] = n < lanes ? factor * rows[n][c] : 0.0f;
}

static void scatter(int64_t size, int lanes, const float *panel, const float factor[HONE_PANEL],
                    float *const rows[HONE_PANEL], bool accumulate) {
    int64_t c = 0;
    for (; c + LANES <= size; c += LANES)
        for (int n = 0; n < lanes; n += LANES) {
            const float32x4_t scale = vld1q_f32(factor + n);
            float32x4_t x[LANES], y[LANES];
            for (int r = 0; r < LANES; r++)
                x[r] = vmulq_f32(vld1q_f32(panel + (c + r) * HONE_PANEL + n), scale);
            transpose_4x4(x, y);
            for (int r = 0; r < LANES && n + r < lanes; r++) {
                float *row = rows[n + r] + c;
                vst1q_f32(row, accumulate ? vaddq_f32(vld1q_f32(row), y[r]) : y[r]);
            }
        }
    for (; c < size; c++)
        for (int n = 0; n < lanes; n++) {
            float x = factor[n] * panel[c * HONE_PANEL + n];
            rows[n][c] = accumulate ? rows[n][c] + x : x;
        }
}

void hone_neon_attention(AttentionTable *table) {
    *table = (AttentionTable){
        .product_rows = TILE_ROWS,
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
