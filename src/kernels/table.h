// SPDX-License-Identifier: Apache-2.0
// One ISA level's micro-kernels. A level starts as a copy of the one below and overrides what it
// has faster (isa/LEVEL/*.c); packing, blocking and threading are shared C in kernels/.
#ifndef HONE_KERNELS_TABLE_H
#define HONE_KERNELS_TABLE_H

#include "kernels/attention_table.h"
#include "kernels/element_table.h"
#include "kernels/matmul_table.h"

struct KernelTable {
    const char *name;
    MatmulTable matmul;
    AttentionTable attention;
    ElementTable element;
};

// Each level's parts, in isa/LEVEL/{matmul,attention,element}.c: override entries of the copy.
void hone_generic_matmul(MatmulTable *table);
void hone_generic_attention(AttentionTable *table);
void hone_generic_element(ElementTable *table);
void hone_avx2_matmul(MatmulTable *table);
void hone_avx2_attention(AttentionTable *table);
void hone_avx2_element(ElementTable *table);
void hone_avx512_matmul(MatmulTable *table);
void hone_avx512_attention(AttentionTable *table);
void hone_avx512_element(ElementTable *table);
void hone_avx512bf16_matmul(MatmulTable *table);
void hone_avx512bf16_attention(AttentionTable *table);
void hone_neon_matmul(MatmulTable *table);
void hone_neon_attention(AttentionTable *table);
void hone_neon_element(ElementTable *table);

#endif
