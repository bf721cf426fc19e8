// SPDX-License-Identifier: Apache-2.0
// A panel is one vector of sixteen queries. Moving rows to panels and back stays as on AVX2: it
// waits for memory.
#include "kernels/table.h"

#include <immintrin.h>

#include "kernels/attention_math.h"
#include "kernels/attention_score.h"
#include "kernels/isa/avx512/softmax.h"

enum { PRODUCT_ROWS = 6 };

typedef struct PanelSteps {
    const float *A;
    int64_t row, A_step, B_step, count;
} PanelSteps;

static inline PanelSteps steps_of(const PanelProduct *p) {
    return (PanelSteps){p->A.data, p->A.row, p->A.column, p->ldb, p->K};
}

static inline __m512 spread(const float *a) {
    return _mm512_set1_ps(*a);
}

static inline __m512 add_product(__m512 sum, __m512 a, __m512 b) {
    return _mm512_fmadd_ps(a, b, sum);
}

static inline __m512 add_spread(__m512 sum, const float *a, __m512 b) {
    return _mm512_fmadd_ps(spread(a), b, sum);
}

static inline __m512 result(const PanelProduct *p, __m512 sum) {
    (void)p;
    return sum;
}

static inline __m512 result_added(const PanelProduct *p, __m512 sum, __m512 c) {
    (void)p;
    return _mm512_add_ps(sum, c);
}

#define PRODUCT PanelProduct
#define ELEMENT float
#define PRODUCT_NAME product
#include "kernels/isa/avx512/product.h"

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
