// SPDX-License-Identifier: Apache-2.0
// One block of a quantised type from its values, which are finite and no larger than an f16 holds.
#ifndef HONE_KERNELS_QUANTISE_H
#define HONE_KERNELS_QUANTISE_H

#include "kernels/kernels.h"

static inline void hone_put_u16(uint8_t *to, uint16_t bits) {
    to[0] = (uint8_t)bits;
    to[1] = (uint8_t)(bits >> 8);
}

void hone_block_q4_k(const float *x, uint8_t *to);
void hone_block_q5_k(const float *x, uint8_t *to);
void hone_block_q6_k(const float *x, uint8_t *to);

#endif
