// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/element.h"

#include <math.h>

#define REAL float
#define NAME HONE_REFERENCE_F32
#define MATH(name) name##f
#include "kernels/reference/element_body.h"
#undef REAL
#undef NAME
#undef MATH

#define REAL double
#define NAME HONE_REFERENCE_F64
#define MATH(name) name
#include "kernels/reference/element_body.h"
