// SPDX-License-Identifier: Apache-2.0
// Element types as GGUF numbers them. Quantised types come in blocks of consecutive elements of a
// row.
#ifndef HONE_BASE_DTYPE_H
#define HONE_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum HoneDtype {
    HONE_F32 = 0,
    HONE_F16 = 1,
    HONE_Q4_0 = 2,
    HONE_Q4_1 = 3,
    HONE_Q5_0 = 6,
    HONE_Q5_1 = 7,
    HONE_Q8_0 = 8,
    HONE_Q2_K = 10,
    HONE_Q3_K = 11,
    HONE_Q4_K = 12,
    HONE_Q5_K = 13,
    HONE_Q6_K = 14,
    HONE_IQ4_NL = 20,
    HONE_IQ4_XS = 23,
    HONE_I8 = 24,
    HONE_I16 = 25,
    HONE_I32 = 26,
    HONE_I64 = 27,
    HONE_F64 = 28,
    HONE_BF16 = 30,
    HONE_MXFP4 = 39,
    HONE_DTYPE_LIMIT = 48, // larger than any type number of ggml
} HoneDtype;

typedef struct DtypeInfo {
    const char *name;  // "Q4_1"; NULL for a number ggml does not define
    int block;         // elements a block; 1 for plain types
    int block_bytes;   // 0: known by name only, not readable here
    bool is_quantised; // blocks with a scale
} DtypeInfo;

// Never NULL; an unknown number gives an entry whose name is NULL.
const DtypeInfo *hone_dtype_info(int dtype);
const char *hone_dtype_name(int dtype);     // "unknown" when there is none
int hone_dtype_from_name(const char *name); // any letter case; -1: no such type
bool hone_dtype_is_weight(int dtype);       // a floating or quantised type that kernels can unpack

// Bytes of `count` consecutive elements; count must be a multiple of the block.
size_t hone_dtype_bytes(int dtype, int64_t count);

#endif
