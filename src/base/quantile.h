// SPDX-License-Identifier: Apache-2.0
// What is said of measured times: not their mean, which one disturbance moves.
#ifndef HONE_BASE_QUANTILE_H
#define HONE_BASE_QUANTILE_H

#include <stdint.h>

// The value below which `share` of them lie (0.5: the median), interpolated between neighbours.
// Sorts values; count is 1 or more.
double hone_quantile(double *values, int64_t count, double share);

#endif
