// SPDX-License-Identifier: Apache-2.0
// The product with a Weight, adapters included, and its derivatives: what linear and the head
// share.
#ifndef HONE_TAPE_OPS_WEIGHT_H
#define HONE_TAPE_OPS_WEIGHT_H

#include "tape/record.h"

// What of a weight is trained, and so what its backward reads.
bool hone_weight_is_trained(const Weight *weight);
bool hone_weight_reads_input(const Weight *weight); // dW or a dA
bool hone_weight_reads_ranks(const Weight *weight); // a dB
// a dm: of DoRA's magnitudes, for which the product before they are applied is kept
bool hone_weight_reads_product(const Weight *weight);

int64_t hone_weight_ranks(const Weight *weight); // the adapters' ranks added up

// False, with an error on the tape, when x has other columns than W or an adapter does not fit W.
bool hone_weight_fits(Tape *tape, const Weight *weight, const Tensor *x);

// The addresses of one product: T rows of x (T,in) and y (T,out); u holds one block (T,rank) an
// adapter, one after the other.
typedef struct WeightRows {
    int64_t T;
    const uint64_t *path; // (T) the rows' token paths: adapters drop some of x; NULL: they do not
    const float *x;
    float *u;
    float *z;        // (T,out), where hone_weight_reads_product
    float *y;        // forward: written
    const float *dy; // backward
    float *dx;       // backward: added to, or written
    bool wants_dx, writes_dx;
} WeightRows;

// With x_a = drop_a(x):
// u_a = x_a·A_aᵀ;  y = [gain ⊙] x·Wᵀ + Σ_a scale_a·u_a·B_aᵀ
// and where the one adapter is a DoRA, of gain g:
// z = x_a·Wᵀ + scale·u·Bᵀ;  y = (x − x_a)·Wᵀ + g ⊙ z
void hone_weight_forward(Tape *tape, Weight *weight, const WeightRows *rows);
// With t_a = dy·B_a:  dx = [dx +] dy·W + Σ_a drop_a(scale_a·t_a·A_a);  dW += dyᵀ·x;
//                     dA_a += scale_a·t_aᵀ·x_a;  dB_a += scale_a·dyᵀ·u_a
// With DoRA: dm += (Σ_T dy ⊙ z)/n;  A and B as above from dz = g ⊙ dy instead of dy;
//            dx = [dx +] dy·W + drop((dz − dy)·W + scale·(dz·B)·A), or dz·W + scale·(dz·B)·A
// W + B·A is never formed; what is frozen gets nothing.
void hone_weight_backward(Tape *tape, Weight *weight, const WeightRows *rows);

#endif
