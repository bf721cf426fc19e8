// SPDX-License-Identifier: Apache-2.0
#include "base/half.h"
#include "kernels/kernels.h"

hone_status hone_quantise(int dtype, const float *x, void *stored, int64_t count, HoneError *err) {
    uint8_t *bytes = stored;
    switch (dtype) {
    case HONE_F32:
        memcpy(stored, x, (size_t)count * sizeof *x);
        return HONE_OK;
    case HONE_F16:
    case HONE_BF16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t bits = dtype == HONE_F16 ? hone_f32_to_f16(x[i]) : hone_f32_to_bf16(x[i]);
            bytes[2 * i] = (uint8_t)bits;
            bytes[2 * i + 1] = (uint8_t)(bits >> 8);
        }
        return HONE_OK;
    default:
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "cannot write type %s: F32, F16 and BF16 can be written",
                         hone_dtype_name(dtype));
    }
}
