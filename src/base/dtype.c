// SPDX-License-Identifier: Apache-2.0
#include "base/dtype.h"

#include <strings.h>

static const DtypeInfo infos[HONE_DTYPE_LIMIT] = {
    [HONE_F32] = {"F32", 1, 4, false},
    [HONE_F16] = {"F16", 1, 2, false},
    [HONE_Q4_0] = {"Q4_0", 32, 18, true},
    [HONE_Q4_1] = {"Q4_1", 32, 20, true},
    [HONE_Q5_0] = {"Q5_0", 32, 22, true},
    [HONE_Q5_1] = {"Q5_1", 32, 24, true},
    [HONE_Q8_0] = {"Q8_0", 32, 34, true},
    [9] = {"Q8_1", 32, 0, true},
    [HONE_Q2_K] = {"Q2_K", 256, 84, true},
    [HONE_Q3_K] = {"Q3_K", 256, 110, true},
    [HONE_Q4_K] = {"Q4_K", 256, 144, true},
    [HONE_Q5_K] = {"Q5_K", 256, 176, true},
    [HONE_Q6_K] = {"Q6_K", 256, 210, true},
    [15] = {"Q8_K", 256, 0, true},
    [16] = {"IQ2_XXS", 256, 0, true},
    [17] = {"IQ2_XS", 256, 0, true},
    [18] = {"IQ3_XXS", 256, 0, true},
    [19] = {"IQ1_S", 256, 0, true},
    [HONE_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [21] = {"IQ3_S", 256, 0, true},
    [22] = {"IQ2_S", 256, 0, true},
    [HONE_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [HONE_I8] = {"I8", 1, 1, false},
    [HONE_I16] = {"I16", 1, 2, false},
    [HONE_I32] = {"I32", 1, 4, false},
    [HONE_I64] = {"I64", 1, 8, false},
    [HONE_F64] = {"F64", 1, 8, false},
    [29] = {"IQ1_M", 256, 0, true},
    [HONE_BF16] = {"BF16", 1, 2, false},
    [34] = {"TQ1_0", 256, 0, true},
    [35] = {"TQ2_0", 256, 0, true},
    [HONE_MXFP4] = {"MXFP4", 32, 17, true},
    [40] = {"NVFP4", 64, 0, true},
    [41] = {"Q1_0", 128, 0, true},
    [42] = {"Q2_0", 64, 0, true},
};

static const DtypeInfo none = {0};

const DtypeInfo *hone_dtype_info(int dtype) {
    return dtype >= 0 && dtype < HONE_DTYPE_LIMIT ? &infos[dtype] : &none;
}

const char *hone_dtype_name(int dtype) {
    const char *name = hone_dtype_info(dtype)->name;
    return name ? name : "unknown";
}

int hone_dtype_from_name(const char *name) {
    for (int dtype = 0; dtype < HONE_DTYPE_LIMIT; dtype++)
        if (infos[dtype].name && strcasecmp(infos[dtype].name, name) == 0) return dtype;
    return -1;
}

bool hone_dtype_is_weight(int dtype) {
    const DtypeInfo *info = hone_dtype_info(dtype);
    return info->block_bytes &&
           (info->is_quantised || dtype == HONE_F32 || dtype == HONE_F16 || dtype == HONE_BF16);
}

size_t hone_dtype_bytes(int dtype, int64_t count) {
    const DtypeInfo *info = hone_dtype_info(dtype);
    return info->block ? (size_t)(count / info->block) * (size_t)info->block_bytes : 0;
}
