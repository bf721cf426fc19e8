// SPDX-License-Identifier: Apache-2.0
// What a level brings for matrix products: unpackers of the stored types and the micro-kernels.
// A new type is one unpacker in kernels/dequantise.c; all the rest here is only faster.
#ifndef HONE_KERNELS_MATMUL_TABLE_H
#define HONE_KERNELS_MATMUL_TABLE_H

#include "base/dtype.h"

enum { MATMUL_ROWS = 12, MATMUL_COLUMNS = 32 }; // the largest register tile of any level

// x (count) = stored elements as f32; count is a multiple of the type's block.
typedef void (*UnpackRow)(const void *stored, float *x, int64_t count);

// y[j] = Σ_k row_j[k]·x[k] for `rows` stored rows, row_bytes apart, of K elements (a multiple of
// the block). The sum of one row does not depend on how many rows there are.
typedef void (*DotRows)(const void *stored, size_t row_bytes, int64_t rows, const float *x,
                        int64_t K, float *y);

// C (rows,columns) = [C +] alpha · A (rows,K) · B (K,columns), K ≥ 1.
// A's element (r,k) lies at A[r·a_row + k·a_step] with a_row or a_step 1, B's (k,c) at
// B[k·b_step + c].
typedef struct MatmulTile {
    int64_t K;
    const float *A;
    int64_t a_row, a_step;
    const float *B;
    int64_t b_step;
    float *C;
    int64_t ldc;
    float alpha;
    bool accumulate;
} MatmulTile;

typedef struct MatmulTable {
    int rows, columns; // of the register tile
    void (*tile)(const MatmulTile *tile);
    void (*half_tile)(const MatmulTile *tile); // of columns / 2; NULL: there is none
    // slab (K,rows) = A (rows,K), leading dimension lda, transposed.
    void (*pack_rows)(const float *A, int64_t lda, int64_t K, float *slab);
    // panel (K,columns) = x (columns,K), `stride` floats apart, transposed.
    void (*pack_columns)(const float *x, int64_t stride, int64_t K, float *panel);
    // On pairs of bf16 values, which take a float's place each: x (K,width) becomes ⌈K/2⌉ rows of
    // pairs, in place, rounded to the nearest, ties to even, the partner of an odd last row 0;
    // pairs (⌈K/2⌉,width) = x (width,K), `stride` floats apart, likewise, transposed, width as
    // pack_rows and pack_columns have it; and the tile of two such operands, whose K counts pairs.
    // NULL: the level has no such arithmetic.
    void (*pair_rows)(float *x, int64_t K, int64_t width);
    void (*pack_pairs)(const float *x, int64_t stride, int64_t K, int64_t width, float *pairs);
    void (*tile_bf16)(const MatmulTile *tile);
    UnpackRow unpack[HONE_DTYPE_LIMIT]; // NULL for types that are no weights
    DotRows dot[HONE_DTYPE_LIMIT];      // F32 always; NULL elsewhere: unpack, then F32's
    // Multiply-adds on registers alone, as fast as the level's instructions go: the yardstick of
    // every share of the peak. Returns the floating-point operations done.
    double (*peak_work)(int64_t steps);
    double (*peak_work_bf16)(
        int64_t steps); // the same on bf16 operands; NULL: no such instructions
} MatmulTable;

// The portable unpacker of a type; NULL when it is no weight type (kernels/dequantise.c).
UnpackRow hone_unpack_generic(int dtype);
// The eight 6-bit scales and minima of a Q4_K or Q5_K block, from its 12 packed bytes.
void hone_k_scales(const uint8_t *packed, uint8_t scale[8], uint8_t minimum[8]);
// The sixteen scales of a Q3_K block, −32 … 31, from its 12 packed bytes.
void hone_q3_scales(const uint8_t *packed, int8_t scale[16]);
int hone_iq4_xs_scale(const uint8_t *block, int part);        // −32 … 31, of 32 elements
float hone_mxfp4_scale(uint8_t exponent);                     // half of 2^(exponent − 127)
extern const int8_t hone_iq4_values[16], hone_fp4_values[16]; // what nibbles stand for; fp4 twice

#endif
