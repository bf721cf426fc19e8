// SPDX-License-Identifier: Apache-2.0
#include "layers/arrays_apart.h"

static bool share(const PlainArray *a, const PlainArray *b) {
    if (!a->data || !b->data || a->count == 0 || b->count == 0) return false;
    if (a->use == ARRAY_READ && b->use == ARRAY_READ) return false;
    if (a->use == ARRAY_SUMMED && b->use == ARRAY_SUMMED && a->data == b->data &&
        a->count == b->count)
        return false;
    uintptr_t first = (uintptr_t)a->data, second = (uintptr_t)b->data;
    return first < second + (uintptr_t)b->count * sizeof(float) &&
           second < first + (uintptr_t)a->count * sizeof(float);
}

hone_status hone_check_arrays_apart(const char *layer, const PlainArray *arrays, int count,
                                    HoneError *err) {
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            if (share(&arrays[i], &arrays[j]))
                return hone_fail(err, HONE_ERROR_ARGUMENT,
                                 "%s: %s and %s share memory, and %s is written", layer,
                                 arrays[i].name, arrays[j].name,
                                 arrays[j].use == ARRAY_READ ? arrays[i].name : arrays[j].name);
    return HONE_OK;
}
