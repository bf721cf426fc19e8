// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>

int64_t hone_tensor_count(const Tensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

size_t hone_tensor_bytes(const Tensor *tensor) {
    return hone_dtype_bytes(tensor->dtype, hone_tensor_count(tensor));
}

const char *hone_shape_text(const Tensor *tensor, char text[64]) {
    size_t used = 0;
    const size_t size = 64;
    for (int i = 0; i < tensor->rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? ", " : "(",
                                 tensor->shape[i]);
    if (tensor->rank == 0) used = (size_t)snprintf(text, size, "(");
    if (used < size) snprintf(text + used, size - used, ")");
    return text;
}
