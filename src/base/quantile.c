// SPDX-License-Identifier: Apache-2.0
#include "base/quantile.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double hone_quantile(double *values, int64_t count, double share) {
    qsort(values, (size_t)count, sizeof *values, by_size);
    double place = share * (double)(count - 1);
    int64_t below = (int64_t)place, above = below + 1 < count ? below + 1 : below;
    return values[below] + (place - (double)below) * (values[above] - values[below]);
}
