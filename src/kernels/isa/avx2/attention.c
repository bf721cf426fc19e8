// SPDX-License-Identifier: Apache-2.0
// A panel is two vectors of eight queries.
#include "kernels/table.h"

#include <immintrin.h>

#include "kernels/attention_math.h"
#include "kernels/attention_score.h"
#include "kernels/isa/avx2/tile.h"

enum { LANES = 8 };

// ---- product -----------------------------------------------------------------------------------

// C (rows, 16) = [C +] A (rows,K) · B (K, 16) for six rows, and four; from is what is added
// to the sums at the end (so that a long row of products rounds as its parts), C or NULL. highest ←
// max(highest, C) unless it is NULL; a sum that is NaN is no maximum, by the order of the operands.
// clang-format off
#define ADD_ROW(low, high)                                                                         \
    "vaddps (%[from]), %%ymm" low ", %%ymm" low "\n\t"                                             \
    "vaddps 32(%[from]), %%ymm" high ", %%ymm" high "\n\t"                                         \
    "add %[ldc], %[from]\n\t"

#define STORE_ROW(low, high)                                                                       \
    "vmovups %%ymm" low ", (%[out])\n\t"                                                           \
    "vmovups %%ymm" high ", 32(%[out])\n\t"                                                        \
    "add %[ldc], %[out]\n\t"

#define HIGHEST_ROW(low, high)                                                                     \
    "vmaxps %%ymm12, %%ymm" low ", %%ymm12\n\t"                                                    \
    "vmaxps %%ymm13, %%ymm" high ", %%ymm13\n\t"

#define TILE(ROWS, STEP, A_IN, WAYS, way)                                                          \
    __asm__ volatile(                                                                              \
        ROWS(TILE_CLEAR)                                                                           \
        TILE_LOOP(STEP, A_IN, A_IN##_ADVANCE)                                                      \
        "test %[from], %[from]\n\t"                                                                \
        "jz 7f\n\t"                                                                                \
        ROWS(ADD_ROW)                                                                              \
        "7:\n\t"                                                                                   \
        ROWS(STORE_ROW)                                                                            \
        "mov %[highest], %[out]\n\t"                                                               \
        "test %[out], %[out]\n\t"                                                                  \
        "jz 8f\n\t"                                                                                \
        "vmovups (%[out]), %%ymm12\n\t"                                                            \
        "vmovups 32(%[out]), %%ymm13\n\t"                                                          \
        ROWS(HIGHEST_ROW)                                                                          \
        "vmovups %%ymm12, (%[out])\n\t"                                                            \
        "vmovups %%ymm13, 32(%[out])\n"                                                            \
        "8:\n\t"                                                                                   \
        : [a] "+r"(a), [b] "+r"(b), [from] "+r"(from), [out] "+r"(C), [fours] "+r"(fours),         \
          [ones] "+r"(ones)                                                                        \
        : WAYS(way), TILE_B_WAYS(ldb * bytes), [ldc] "m"(ldc_bytes),                               \
          [highest] "m"(highest)                                                                   \
        : TILE_CLOBBERS)
// clang-format on

static inline __attribute__((always_inline)) void tile(int rows, int64_t K, const float *a,
                                                       PanelOperand A, const float *b, int64_t ldb,
                                                       float *C, int64_t ldc, bool accumulate,
                                                       float *highest) {
    const int64_t bytes = sizeof(float);
    int64_t fours = K / 4, ones = K % 4, ldc_bytes = ldc * bytes;
    float *from = accumulate ? C : NULL;
    if (A.row == 1 && rows == 6)
        TILE(TILE_ROWS_6, TILE_STEP_6, A_IN_STEPS, A_IN_STEPS_WAYS, A.column * bytes);
    else if (A.row == 1)
        TILE(TILE_ROWS_4, TILE_STEP_4, A_IN_STEPS, A_IN_STEPS_WAYS, A.column * bytes);
    else if (rows == 6)
        TILE(TILE_ROWS_6, TILE_STEP_6, A_IN_ROWS, A_IN_ROWS_WAYS, A.row * bytes);
    else
        TILE(TILE_ROWS_4, TILE_STEP_4, A_IN_ROWS, A_IN_ROWS_WAYS, A.row * bytes);
}

// The last one to three rows of A.
static inline __attribute__((always_inline)) void tile_rest(int rows, int64_t K, const float *a,
                                                            PanelOperand A, const float *b,
                                                            int64_t ldb, float *C, int64_t ldc,
                                                            bool accumulate, float *highest) {
    __m256 s[3][2];
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 2; n++) s[m][n] = _mm256_setzero_ps();
    for (int64_t k = 0; k < K; k++) {
        __m256 low = _mm256_loadu_ps(b + k * ldb), high = _mm256_loadu_ps(b + k * ldb + LANES);
        for (int m = 0; m < rows; m++) {
            __m256 x = _mm256_broadcast_ss(a + m * A.row + k * A.column);
            s[m][0] = _mm256_fmadd_ps(x, low, s[m][0]);
            s[m][1] = _mm256_fmadd_ps(x, high, s[m][1]);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < 2; n++) {
            float *c = C + m * ldc + n * LANES;
            if (accumulate) s[m][n] = _mm256_add_ps(s[m][n], _mm256_loadu_ps(c));
            _mm256_storeu_ps(c, s[m][n]);
            if (!highest) continue;
            __m256 most = _mm256_loadu_ps(highest + n * LANES);
            _mm256_storeu_ps(highest + n * LANES, _mm256_max_ps(s[m][n], most));
        }
}

static void panel_product(int64_t M, int64_t K, PanelOperand A, const float *B, int64_t ldb,
                          float *C, int64_t ldc, bool accumulate, float *highest) {
    const float *a = A.data;
    // Eight rows go as twice four: six and two would leave the units idle for two rows.
    for (; M >= 6 && M != 8; M -= 6, a += 6 * A.row, C += 6 * ldc)
        tile(6, K, a, A, B, ldb, C, ldc, accumulate, highest);
    for (; M >= 4; M -= 4, a += 4 * A.row, C += 4 * ldc)
        tile(4, K, a, A, B, ldb, C, ldc, accumulate, highest);
    switch (M) {
    case 1:
        tile_rest(1, K, a, A, B, ldb, C, ldc, accumulate, highest);
        break;
    case 2:
        tile_rest(2, K, a, A, B, ldb, C, ldc, accumulate, highest);
        break;
    case 3:
        tile_rest(3, K, a, A, B, ldb, C, ldc, accumulate, highest);
        break;
    default:
        break;
    }
}

static void product(const PanelProduct *p) {
    for (int n = 0; n < p->panels; n++)
        panel_product(p->M, p->K, p->A, p->B + n * p->B_apart, p->ldb, p->C + n * p->C_apart,
                      p->ldc, p->accumulate, p->highest ? p->highest + n * HONE_PANEL : NULL);
}

// ---- softmax -----------------------------------------------------------------------------------

// exp_flushed of eight. The operand order of maximum and minimum lets NaN through.
static inline __m256 exponential(__m256 x) {
    const __m256 round = _mm256_set1_ps(EXP_ROUND), log2_e = _mm256_set1_ps(EXP_LOG2_E);
    x = _mm256_max_ps(_mm256_set1_ps(EXP_LOWEST), x);
    __m256 rounded = _mm256_fmadd_ps(x, log2_e, round);
    __m256 f = _mm256_fmsub_ps(x, log2_e, _mm256_sub_ps(rounded, round));
    __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(rounded), 23));
    __m256 y = _mm256_set1_ps(EXP_C5);
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(EXP_C4));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(EXP_C3));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(EXP_C2));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(EXP_C1));
    y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1.0f));
    return _mm256_mul_ps(y, power);
}

// All ones in the lanes whose query sees the key.
static inline __m256 seen(__m256i query, int32_t begin, int32_t end) {
    __m256i early = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), query);
    __m256i before_end = _mm256_cmpgt_epi32(_mm256_set1_epi32(end), query);
    return _mm256_castsi256_ps(_mm256_andnot_si256(early, before_end));
}

static inline __m256i load_queries(const int32_t *query) {
    return _mm256_loadu_si256((const __m256i *)query);
}

static void maximum(const PanelScores *scores, float highest[HONE_PANEL]) {
    __m256 low = _mm256_loadu_ps(highest), high = _mm256_loadu_ps(highest + LANES);
    float *S = scores->S;
    if (scores->begin) {
        __m256i first = load_queries(scores->query), second = load_queries(scores->query + LANES);
        const __m256 lowest = _mm256_set1_ps(-INFINITY);
        for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
            int32_t begin = scores->begin[k], end = scores->end[k];
            __m256 x = _mm256_blendv_ps(lowest, _mm256_loadu_ps(S), seen(first, begin, end));
            __m256 y =
                _mm256_blendv_ps(lowest, _mm256_loadu_ps(S + LANES), seen(second, begin, end));
            _mm256_storeu_ps(S, x);
            _mm256_storeu_ps(S + LANES, y);
            low = _mm256_max_ps(x, low);
            high = _mm256_max_ps(y, high);
        }
    } else {
        for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
            low = _mm256_max_ps(_mm256_loadu_ps(S), low);
            high = _mm256_max_ps(_mm256_loadu_ps(S + LANES), high);
        }
    }
    _mm256_storeu_ps(highest, low);
    _mm256_storeu_ps(highest + LANES, high);
}

static void exponent(const PanelScores *scores, const float shift[HONE_PANEL],
                     float sum[HONE_PANEL]) {
    __m256 shift_low = _mm256_loadu_ps(shift), shift_high = _mm256_loadu_ps(shift + LANES);
    __m256 low = _mm256_loadu_ps(sum), high = _mm256_loadu_ps(sum + LANES);
    float *S = scores->S;
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld) {
        __m256 x = exponential(_mm256_sub_ps(_mm256_loadu_ps(S), shift_low));
        __m256 y = exponential(_mm256_sub_ps(_mm256_loadu_ps(S + LANES), shift_high));
        _mm256_storeu_ps(S, x);
        _mm256_storeu_ps(S + LANES, y);
        low = _mm256_add_ps(low, x);
        high = _mm256_add_ps(high, y);
    }
    _mm256_storeu_ps(sum, low);
    _mm256_storeu_ps(sum + LANES, high);
}

// One half of the lanes; test is a constant at each call.
static inline __attribute__((always_inline)) void gradient_half(const PanelScores *scores, float *S,
                                                                float *dP, const int32_t *query,
                                                                const float *lse, const float *D,
                                                                bool test) {
    const __m256 shift = _mm256_loadu_ps(lse), sum = _mm256_loadu_ps(D);
    const __m256i lanes = test ? load_queries(query) : _mm256_setzero_si256();
    for (int64_t k = 0; k < scores->keys; k++, S += scores->ld, dP += scores->ld) {
        __m256 x = _mm256_sub_ps(_mm256_loadu_ps(S), shift);
        __m256 p = exponential(_mm256_min_ps(_mm256_setzero_ps(), x));
        __m256 dS = _mm256_mul_ps(p, _mm256_sub_ps(_mm256_loadu_ps(dP), sum));
        if (test) {
            __m256 mask = seen(lanes, scores->begin[k], scores->end[k]);
            p = _mm256_and_ps(p, mask);
            dS = _mm256_and_ps(dS, mask);
        }
        _mm256_storeu_ps(S, p);
        _mm256_storeu_ps(dP, dS);
    }
}

static void gradient(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                     const float D[HONE_PANEL]) {
    for (int n = 0; n < HONE_PANEL; n += LANES) {
        float *S = scores->S + n;
        if (scores->begin)
            gradient_half(scores, S, dP + n, scores->query + n, lse + n, D + n, true);
        else
            gradient_half(scores, S, dP + n, NULL, lse + n, D + n, false);
    }
}

static void rescale(int64_t rows, const float factor[HONE_PANEL], float *X) {
    __m256 low = _mm256_loadu_ps(factor), high = _mm256_loadu_ps(factor + LANES);
    for (int64_t r = 0; r < rows; r++, X += HONE_PANEL) {
        _mm256_storeu_ps(X, _mm256_mul_ps(_mm256_loadu_ps(X), low));
        _mm256_storeu_ps(X + LANES, _mm256_mul_ps(_mm256_loadu_ps(X + LANES), high));
    }
}

// ---- masks
// ---------------------------------------------------------------------------------------

// Eight lanes of S + M; returns the bits of those that M hides.
static inline int add_mask(float *S, const float *M) {
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 x = _mm256_loadu_ps(M), hidden = _mm256_cmp_ps(x, lowest, _CMP_EQ_OQ);
    __m256 sum = _mm256_add_ps(_mm256_loadu_ps(S), x);
    _mm256_storeu_ps(S, _mm256_blendv_ps(sum, lowest, hidden));
    return _mm256_movemask_ps(hidden);
}

static void mask_scores(int64_t keys, float *S, int64_t ld, const float *M, uint16_t *visible) {
    for (int64_t k = 0; k < keys; k++, S += ld, M += HONE_PANEL) {
        int hidden = add_mask(S, M) | add_mask(S + LANES, M + LANES) << LANES;
        if (visible) visible[k] = (uint16_t)~hidden;
    }
}

// ---- dropout -----------------------------------------------------------------------------------

static void select_kept(int64_t keys, float *X, int64_t ld, const uint16_t *bits, float factor) {
    const __m256 scale = _mm256_set1_ps(factor);
    const __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i high = _mm256_slli_epi32(low, LANES);
    for (int64_t k = 0; k < keys; k++, X += ld) {
        const __m256i row = _mm256_set1_epi32(bits[k]);
        __m256i first = _mm256_cmpeq_epi32(_mm256_and_si256(row, low), low);
        __m256i second = _mm256_cmpeq_epi32(_mm256_and_si256(row, high), high);
        __m256 x = _mm256_mul_ps(_mm256_loadu_ps(X), scale);
        __m256 y = _mm256_mul_ps(_mm256_loadu_ps(X + LANES), scale);
        _mm256_storeu_ps(X, _mm256_and_ps(x, _mm256_castsi256_ps(first)));
        _mm256_storeu_ps(X + LANES, _mm256_and_ps(y, _mm256_castsi256_ps(second)));
    }
}

// The low and the high halves of factor · x, lane by lane.
static inline void multiply_wide(__m256i factor, __m256i x, __m256i *low, __m256i *high) {
    __m256i even = _mm256_mul_epu32(x, factor);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

// Philox 4×32-10 (base/random.h) of eight keys at once; a key's sixteen bytes are then compared as
// one vector.
static void keep(const DropoutCounter *counter, int64_t first, int64_t keys, uint16_t *bits) {
    const __m256i m0 = _mm256_set1_epi32((int32_t)0xD2511F53u);
    const __m256i m1 = _mm256_set1_epi32((int32_t)0xCD9E8D57u);
    const __m256i threshold = _mm256_set1_epi8((char)counter->threshold);
    for (int64_t k = 0; k < keys; k += LANES) {
        uint32_t k0 = (uint32_t)counter->key, k1 = (uint32_t)(counter->key >> 32);
        __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int32_t)(uint32_t)(first + k)),
                                      _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        __m256i c1 = _mm256_set1_epi32((int32_t)counter->block);
        __m256i c2 = _mm256_set1_epi32((int32_t)(uint32_t)counter->head);
        __m256i c3 = _mm256_set1_epi32((int32_t)(uint32_t)(counter->head >> 32));
        for (int round = 0; round < 10; round++) {
            __m256i low0, high0, low1, high1;
            multiply_wide(m0, c0, &low0, &high0);
            multiply_wide(m1, c2, &low1, &high1);
            c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int32_t)k0));
            c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int32_t)k1));
            c1 = low1;
            c3 = low0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        // Four words of eight keys to sixteen bytes a key: keys n and n + 4 in the halves of one.
        __m256i low01 = _mm256_unpacklo_epi32(c0, c1), high01 = _mm256_unpackhi_epi32(c0, c1);
        __m256i low23 = _mm256_unpacklo_epi32(c2, c3), high23 = _mm256_unpackhi_epi32(c2, c3);
        const __m256i pairs[4] = {
            _mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
            _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};
        uint16_t rows[LANES];
        for (int n = 0; n < 4; n++) {
            __m256i kept = _mm256_cmpeq_epi8(_mm256_max_epu8(pairs[n], threshold), pairs[n]);
            uint32_t mask = (uint32_t)_mm256_movemask_epi8(kept);
            rows[n] = (uint16_t)mask;
            rows[n + 4] = (uint16_t)(mask >> 16);
        }
        for (int n = 0; n < LANES && k + n < keys; n++) bits[k + n] = rows[n];
    }
}

// ---- rows to panels and back -------------------------------------------------------------------

// y[c][r] = x[r][c]
static inline void transpose(const __m256 x[LANES], __m256 y[LANES]) {
    __m256 pairs[LANES], fours[LANES];
    for (int r = 0; r < LANES; r += 2) {
        pairs[r] = _mm256_unpacklo_ps(x[r], x[r + 1]);
        pairs[r + 1] = _mm256_unpackhi_ps(x[r], x[r + 1]);
    }
    for (int r = 0; r < LANES; r += 4) {
        fours[r] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0x44);
        fours[r + 1] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0xee);
        fours[r + 2] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], 0x44);
        fours[r + 3] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) {
        y[c] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x20);
        y[c + 4] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x31);
    }
}

static void gather(int64_t size, int lanes, const float *const rows[HONE_PANEL], float factor,
                   float *panel, int64_t ld) {
    const __m256 scale = _mm256_set1_ps(factor);
    int64_t c = 0;
    for (; c + LANES <= size; c += LANES)
        for (int n = 0; n < HONE_PANEL; n += LANES) {
            __m256 x[LANES], y[LANES];
            for (int r = 0; r < LANES; r++)
                x[r] = n + r < lanes ? _mm256_loadu_ps(rows[n + r] + c) : _mm256_setzero_ps();
            transpose(x, y);
            for (int r = 0; r < LANES; r++)
                _mm256_storeu_ps(panel + (c + r) * ld + n, _mm256_mul_ps(y[r], scale));
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
            const __m256 scale = _mm256_loadu_ps(factor + n);
            __m256 x[LANES], y[LANES];
            for (int r = 0; r < LANES; r++)
                x[r] = _mm256_mul_ps(_mm256_loadu_ps(panel + (c + r) * HONE_PANEL + n), scale);
            transpose(x, y);
            for (int r = 0; r < LANES && n + r < lanes; r++) {
                float *row = rows[n + r] + c;
                _mm256_storeu_ps(row,
                                 accumulate ? _mm256_add_ps(_mm256_loadu_ps(row), y[r]) : y[r]);
            }
        }
    for (; c < size; c++)
        for (int n = 0; n < lanes; n++) {
            float x = factor[n] * panel[c * HONE_PANEL + n];
            rows[n][c] = accumulate ? rows[n][c] + x : x;
        }
}

void hone_avx2_attention(AttentionTable *table) {
    *table = (AttentionTable){
        .product_rows = 6,
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
    table->mask = mask_scores;
    table->select = select_kept;
    table->keep = keep;
}
