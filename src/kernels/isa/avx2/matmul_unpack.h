// SPDX-License-Identifier: Apache-2.0
#ifndef HONE_KERNELS_ISA_AVX2_MATMUL_UNPACK_H
#define HONE_KERNELS_ISA_AVX2_MATMUL_UNPACK_H

#include "kernels/matmul_table.h"

void hone_avx2_matmul_unpack(MatmulTable *table); // the unpackers
void hone_avx2_matmul_dot(MatmulTable *table);    // the dot products

#endif
