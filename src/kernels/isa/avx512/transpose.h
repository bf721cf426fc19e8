// SPDX-License-Identifier: Apache-2.0
// Four rows of sixteen elements of 32 bits, transposed: the inner step of packing.
#ifndef HONE_KERNELS_ISA_AVX512_TRANSPOSE_H
#define HONE_KERNELS_ISA_AVX512_TRANSPOSE_H

#include <immintrin.h>
#include <stdint.h>

// to (16,4), rows `ld` apart, ← x (4,16) transposed.
static inline void store_transposed(const __m512 x[4], int64_t ld, float *to) {
    __m512 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
    __m512 c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
    // Columns 4 apart, one in each quarter.
    const __m512 columns[4] = {_mm512_shuffle_ps(a, c, 0x44), _mm512_shuffle_ps(a, c, 0xee),
                               _mm512_shuffle_ps(b, d, 0x44), _mm512_shuffle_ps(b, d, 0xee)};
    for (int i = 0; i < 4; i++, to += ld) {
        _mm_storeu_ps(to, _mm512_castps512_ps128(columns[i]));
        _mm_storeu_ps(to + 4 * ld, _mm512_extractf32x4_ps(columns[i], 1));
        _mm_storeu_ps(to + 8 * ld, _mm512_extractf32x4_ps(columns[i], 2));
        _mm_storeu_ps(to + 12 * ld, _mm512_extractf32x4_ps(columns[i], 3));
    }
}

#endif
