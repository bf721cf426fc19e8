// SPDX-License-Identifier: Apache-2.0
// The oracle for matrix products and stored types: one element at a time, in double.
#ifndef HONE_KERNELS_MATMUL_REFERENCE_H
#define HONE_KERNELS_MATMUL_REFERENCE_H

#include "kernels/kernels.h"

// Element `index` of a stored row. Rounded to f32 it is what every unpacker gives.
double hone_reference_element(int dtype, const void *stored, int64_t index);

// C (M,N) row-major without gaps ← what hone_matmul adds to or puts into C.
// magnitude (M,N) ← |alpha| · Σ_k |a|·|b|, the scale of its rounding error; NULL: not wanted.
void hone_reference_matmul(const MatmulArgs *args, double *C, double *magnitude);

#endif
