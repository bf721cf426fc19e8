// SPDX-License-Identifier: Apache-2.0
// Do the contiguous arrays of a layer's call share memory?
#ifndef HONE_LAYERS_ARRAYS_APART_H
#define HONE_LAYERS_ARRAYS_APART_H

#include "base/error.h"

typedef enum ArrayUse { ARRAY_READ, ARRAY_WRITTEN, ARRAY_SUMMED } ArrayUse;

typedef struct PlainArray {
    const char *name;
    const float *data; // NULL: not there
    int64_t count;     // of floats
    ArrayUse use;
} PlainArray;

// HONE_ERROR_ARGUMENT, with both names: an array that is written shares memory with another. Two of
// ARRAY_SUMMED may be one array from end to end, where one is added to after the other.
hone_status hone_check_arrays_apart(const char *layer, const PlainArray *arrays, int count,
                                    HoneError *err);

#endif
