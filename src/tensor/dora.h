// SPDX-License-Identifier: Apache-2.0
// The norms that DoRA (Liu et al. 2024) divides by: of the rows of W + scale·B·A, which is not
// formed:
//     ‖w_i + s·b_i·A‖² = ‖w_i‖² + 2s·b_i·(A·w_iᵀ) + s²·b_i·(A·Aᵀ)·b_iᵀ
#ifndef HONE_TENSOR_DORA_H
#define HONE_TENSOR_DORA_H

#include "kernels/kernels.h"
#include "tensor/tensor.h"

// squares (out) = ‖w_i‖² of a stored W (out,in).
void hone_row_squares(const KernelContext *kc, const Tensor *W, double *squares);
// norms (out) = ‖w_i + scale·b_i·A‖, squares as above. HONE_ERROR_MEMORY.
hone_status hone_adapted_norms(const KernelContext *kc, const Tensor *W, const double *squares,
                               const Tensor *A, const Tensor *B, float scale, float *norms,
                               HoneError *err);

#endif
