// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/attention.h"

#include <math.h>
#include <stdbool.h>

static bool sees(const ReferenceAttention *args, int64_t query, int64_t key) {
    return !args->begin || (args->begin[key] <= query && query < args->end[key]);
}

#define REAL float
#define NAME HONE_REFERENCE_ATTENTION_F32
#define MATH(name) name##f
#include "kernels/reference/attention_body.h"
#undef REAL
#undef NAME
#undef MATH

#define REAL double
#define NAME HONE_REFERENCE_ATTENTION_F64
#define MATH(name) name
#include "kernels/reference/attention_body.h"
