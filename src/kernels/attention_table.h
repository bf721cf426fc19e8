// SPDX-License-Identifier: Apache-2.0
// The micro-kernels of attention. All of them work on a *panel*: HONE_PANEL query rows side by
// side, so that a vector runs along queries and no sum ever runs across a vector's lanes. Scores
// are kept transposed, S (keys, HONE_PANEL), rows ld floats apart.
#ifndef HONE_KERNELS_ATTENTION_TABLE_H
#define HONE_KERNELS_ATTENTION_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { HONE_PANEL = 16, HONE_MOST_PANELS = 4 };

// The left side A (M,K) of a product; element (m,k) = data[m · row + k · column], where row or
// column is 1.
typedef struct PanelOperand {
    const float *data;
    int64_t row, column;
} PanelOperand;

// C (M, HONE_PANEL) = [C +] A (M,K) · B (K, HONE_PANEL), for up to HONE_MOST_PANELS panels that
// meet the same A: an element of A that is loaded once then serves all.
typedef struct PanelProduct {
    int64_t M, K;
    PanelOperand A;
    const float *B; // rows ldb apart
    int64_t ldb;
    float *C; // rows ldc apart
    int64_t ldc;
    int panels;               // 1 to HONE_MOST_PANELS
    int64_t B_apart, C_apart; // floats from one panel to the next
    bool accumulate;
    float *
        highest; // (panels, HONE_PANEL) or NULL: highest ← max(highest, C), where NaN is no maximum
} PanelProduct;

// C (M, HONE_PANEL) = [C +] factor · A (M, 2·pairs) · B (2·pairs, HONE_PANEL) with A and B in bf16
// and sums in f32, for up to HONE_MOST_PANELS panels. Two neighbours along the summed axis are a
// *pair*, multiplied in one go.
typedef struct PairProduct {
    int64_t M, pairs;
    const uint16_t *A; // (M, 2·pairs), rows `row` elements apart
    int64_t row;
    const uint16_t *B; // (pairs, HONE_PANEL, 2), as pack_pairs makes it
    float *C;          // rows ldc apart
    int64_t ldc;
    int panels;               // 1 to HONE_MOST_PANELS
    int64_t B_apart, C_apart; // elements from one panel to the next
    float factor;
    bool accumulate;
    float *
        highest; // (panels, HONE_PANEL) or NULL: highest ← max(highest, C), where NaN is no maximum
} PairProduct;

// Scores of consecutive keys and one panel, with what decides who sees whom.
typedef struct PanelScores {
    float *S; // (keys, HONE_PANEL)
    int64_t ld, keys;
    const int32_t *query;       // (HONE_PANEL) number of the query in each lane
    const int32_t *begin, *end; // (keys) or NULL: every lane sees every key
} PanelScores;

// Which random numbers decide what dropout keeps: those of 16 queries of one head.
typedef struct DropoutCounter {
    uint64_t key;       // of Philox
    uint64_t head;      // over the whole batch
    uint32_t block;     // query / 16
    uint32_t threshold; // a byte below it is dropped
} DropoutCounter;

typedef struct AttentionTable {
    int64_t product_rows; // of one register tile of `product`: other numbers of rows cost more each
    int product_panels;   // as many side by side as pay, at most HONE_MOST_PANELS
    void (*product)(const PanelProduct *product);
    // S ← -infinity where unseen; maximum ← max(maximum, S). A NaN in S stays and is no maximum.
    void (*maximum)(const PanelScores *scores, float maximum[HONE_PANEL]);
    // S ← e^(S − shift), a true zero for -infinity; sum += Σ_keys S. S ≤ shift or NaN.
    void (*exponent)(const PanelScores *scores, const float shift[HONE_PANEL],
                     float sum[HONE_PANEL]);
    // S ← p = e^min(S − lse, 0); dP ← p · (dP − D); both 0 where unseen. dP (keys, HONE_PANEL), ld.
    void (*gradient)(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                     const float D[HONE_PANEL]);
    // Is no element of x (size) NaN or infinite?
    bool (*finite)(int64_t size, const float *x);
    // Σ_c x·y in eight sums, the same on every level but for the rounding of each product.
    float (*dot)(int64_t size, const float *x, const float *y);
    // X (rows, HONE_PANEL) contiguous: X ← X · factor, lane by lane.
    void (*rescale)(int64_t rows, const float factor[HONE_PANEL], float *X);
    // panel (size, HONE_PANEL), rows ld apart = factor · rowsᵀ: row r is (size) at rows[r], and 0
    // from lanes on.
    void (*gather)(int64_t size, int lanes, const float *const rows[HONE_PANEL], float factor,
                   float *panel, int64_t ld);
    // rows[r] (size) = [rows[r] +] factor[r] · column r of panel (size, HONE_PANEL), r < lanes.
    void (*scatter)(int64_t size, int lanes, const float *panel, const float factor[HONE_PANEL],
                    float *const rows[HONE_PANEL], bool accumulate);

    // Below, S, X and dS are (keys, HONE_PANEL) with rows ld apart, T and M contiguous.
    // S ← cap · tanh(S / cap).
    void (*softcap)(int64_t keys, float *S, int64_t ld, float cap);
    // dS ← dS · (1 − (T/cap)²), T the capped scores; 0 stays 0 whatever T is.
    void (*softcap_gradient)(int64_t keys, float *dS, int64_t ld, const float *T, float cap);
    // S ← S − slope · |position − key|, keys from first on.
    void (*distance)(int64_t keys, float *S, int64_t ld, const float slope[HONE_PANEL],
                     const float position[HONE_PANEL], int64_t first);
    // S ← S + M, but -infinity where M is, whatever S holds; bit n of visible[key] (unless NULL):
    // M is not.
    void (*mask)(int64_t keys, float *S, int64_t ld, const float *M, uint16_t *visible);
    // X ← X · factor where the bit is set, 0 elsewhere, whatever X holds.
    void (*select)(int64_t keys, float *X, int64_t ld, const uint16_t *bits, float factor);
    // Bit n of bits[k]: query 16·block + n keeps key first + k.
    void (*keep)(const DropoutCounter *counter, int64_t first, int64_t keys, uint16_t *bits);

    // Arithmetic on bf16 operands: all three, or NULL where a level has none. What is rounded goes
    // to the nearest, ties to even; NaN stays NaN; subnormal numbers may become 0.
    void (*product_bf16)(const PairProduct *product);
    // pairs (⌈rows/2⌉, HONE_PANEL, 2) ← X (rows, HONE_PANEL), rows ld apart, rounded; the partner
    // of an odd last row is 0.
    void (*pack_pairs)(int64_t rows, const float *X, int64_t ld, uint16_t *pairs);
    // Y (rows, columns) ← X rounded; rows of X are ld, those of Y to_ld elements apart.
    void (*narrow)(int64_t rows, int64_t columns, const float *X, int64_t ld, uint16_t *Y,
                   int64_t to_ld);
    // Both or NULL: what the products read is rounded where it is made.
    // pairs ← as pack_pairs packs what exponent makes of S; S is left undefined.
    void (*exponent_bf16)(const PanelScores *scores, const float shift[HONE_PANEL],
                          float sum[HONE_PANEL], uint16_t *pairs);
    // dP as gradient; P and dS (keys, HONE_PANEL), rows ld apart, ← what gradient makes of S and
    // dP, rounded; S is left undefined.
    void (*gradient_bf16)(const PanelScores *scores, float *dP, const float lse[HONE_PANEL],
                          const float D[HONE_PANEL], uint16_t *P, uint16_t *dS);
} AttentionTable;

#endif
