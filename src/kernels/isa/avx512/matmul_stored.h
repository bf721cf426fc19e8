// SPDX-License-Identifier: Apache-2.0
#ifndef HONE_KERNELS_ISA_AVX512_MATMUL_STORED_H
#define HONE_KERNELS_ISA_AVX512_MATMUL_STORED_H

#include "kernels/matmul_table.h"

void hone_avx512_matmul_stored(MatmulTable *table); // unpackers and dot products
void hone_avx512_matmul_plain(MatmulTable *table);  // dot products of F16 and BF16

#endif
