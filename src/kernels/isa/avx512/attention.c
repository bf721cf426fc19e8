// SPDX-License-Identifier: Apache-2.0
// A panel is one vector of sixteen queries. Moving rows to panels and back stays as on AVX2: it
// waits for memory.
#include "kernels/table.h"

#include <immintrin.h>

#include "kernels/attention_math.h"
#include "kernels/attention_score.h"
#include "kernels/isa/avx512/softmax.h"

enum { MOST_SUMS = 24, PRODUCT_ROWS = 6, PRODUCT_PANELS = 4 };

// Rows [m, m + rows) of C for `panels` panels: a sum for each row and panel. Two panels share an
// element of A; for one it is an operand of the multiply-add, and the loads are the bound where two
// are done a cycle. rows and panels are constants at each call.
static inline __attribute__((always_inline)) void tile(int rows, int panels, const PanelProduct *p,
                                                       int64_t m) {
    __m512 sums[MOST_SUMS];
    const float *fours[MOST_SUMS / 4]; // every fourth row: the three after it are a short way off
    const float *B = p->B;
    const int64_t K = p->K, row = p->A.row, step = p->A.column, ldb = p->ldb, apart = p->B_apart;
#pragma GCC unroll 24
    for (int i = 0; i < rows * panels; i++) sums[i] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int r = 0; r < rows; r += 4) fours[r / 4] = p->A.data + (m + r) * row;
    for (int64_t k = 0; k < K; k++, B += ldb) {
        __m512 b[PRODUCT_PANELS];
#pragma GCC unroll 4
        for (int n = 0; n < panels; n++) b[n] = _mm512_loadu_ps(B + n * apart);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512 a = _mm512_set1_ps(fours[r / 4][r % 4 * row]);
#pragma GCC unroll 4
            for (int n = 0; n < panels; n++)
                sums[r * panels + n] = _mm512_fmadd_ps(a, b[n], sums[r * panels + n]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r += 4) fours[r / 4] += step;
    }
    // Added at the end, a long row of products rounds as its parts.
    const int64_t ldc = p->ldc, C_apart = p->C_apart;
    float *C = p->C + m * ldc;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < panels; n++) {
            float *c = C + r * ldc + n * C_apart;
            __m512 *sum = &sums[r * panels + n];
            if (p->accumulate) *sum = _mm512_add_ps(*sum, _mm512_loadu_ps(c));
            _mm512_storeu_ps(c, *sum);
        }
    if (!p->highest) return;
#pragma GCC unroll 4
    for (int n = 0; n < panels; n++) {
        __m512 most = _mm512_loadu_ps(p->highest + n * HONE_PANEL);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) most = _mm512_max_ps(sums[r * panels + n], most);
        _mm512_storeu_ps(p->highest + n * HONE_PANEL, most);
    }
}

#define PRODUCT PanelProduct
#define PRODUCT_NAME product
#include "kernels/isa/avx512/panel_rows.h"

static void maximum(const PanelScores *scores, float highest[HONE_PANEL]) {
    __m512 most = _mm512_loadu_ps(highest);
    float *S = scores->S;
    if (scores->begin) {
        const __m512i query = _mm512_loadu_si512(scores->query);
        const __m512 lowest = _mm512_set1_ps(-INFINITY);
        for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
            __mmask16 mask = hone_avx512_seen(query, scores->begin[k], scores->end[k]);
            __m512 x = _mm512_mask_blend_ps(mask, lowest, _mm512_loadu_ps(S));
            _mm512_storeu_ps(S, x);
            most = _mm512_max_ps(x, most);
        }
    } else {
        for (int64_t k = 0; k < scores->keys; k++, S += scores->ld)
            most = _mm512_max_ps(_mm512_loadu_ps(S), most);
    }
    _mm512_storeu_ps(highest, most);
}

static void exponent(const PanelScores *scores, const float shift[HONE_PANEL],
                     float sum[HONE_PANEL]) {
    const __m512 from = _mm512_loadu_ps(shift);
    __m512 total = _mm512_loadu_ps(sum);
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
        __m512 p = hone_avx512_exponential(_mm512_sub_ps(_mm512_loadu_ps(S), from));
        _mm512_storeu_ps(S, p);
        total = _mm512_add_ps(total, p);
    }
    _mm512_storeu_ps(sum, total);
}

static void gradient(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                     const float D[HONE_PANEL]) {
    const __m512 shift = _mm512_loadu_ps(lse), sum = _mm512_loadu_ps(D);
    const bool test = scores->begin;
    const __m512i query = test ? _mm512_loadu_si512(scores->query) : _mm512_setzero_si512();
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld, dP += scores->ld) {
        __mmask16 mask = test ? hone_avx512_seen(query, scores->begin[k], scores->end[k]) : 0xffff;
        __m512 x = _mm512_sub_ps(_mm512_loadu_ps(S), shift);
        __m512 p = hone_avx512_exponential(_mm512_min_ps(_mm512_setzero_ps(), x));
        p = _mm512_maskz_mov_ps(mask, p);
        _mm512_storeu_ps(S, p);
        _mm512_storeu_ps(dP, _mm512_maskz_mul_ps(mask, p, _mm512_sub_ps(_mm512_loadu_ps(dP), sum)));
    }
}

static void rescale(int64_t rows, const float factor[HONE_PANEL], float *X) {
    const __m512 scale = _mm512_loadu_ps(factor);
    for (int64_t r = 0; r < rows; r++, X += HONE_PANEL)
        _mm512_storeu_ps(X, _mm512_mul_ps(_mm512_loadu_ps(X), scale));
}

static void select_kept(int64_t keys, float *X, int64_t ld, const uint16_t *bits, float factor) {
    const __m512 scale = _mm512_set1_ps(factor);
    for (int64_t k = 0; k < keys; k++, X += ld)
        _mm512_storeu_ps(X, _mm512_maskz_mul_ps(bits[k], _mm512_loadu_ps(X), scale));
}

void hone_avx512_attention(AttentionTable *table) {
    table->product_rows = PRODUCT_ROWS;
    table->product_panels = PRODUCT_PANELS;
    table->product = product;
    table->maximum = maximum;
    table->exponent = exponent;
    table->gradient = gradient;
    table->rescale = rescale;
    const AttentionTable below = *table; // AVX2 compares and counts bytes and floats well
    hone_score_functions(table);
    table->keep = below.keep;
    table->mask = below.mask;
    table->select = select_kept;
}
