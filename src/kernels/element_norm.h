// SPDX-License-Identifier: Apache-2.0
// Layer norm's loops over a row, in plain C that compilers vectorise at each level's width: sums
// run in lanes that are added in a fixed order.
#ifndef HONE_KERNELS_ELEMENT_NORM_H
#define HONE_KERNELS_ELEMENT_NORM_H

#include <stdint.h>

enum { NORM_LANES = 16 };

static inline float norm_lanes_sum(float lane[NORM_LANES]) {
    for (int half = NORM_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

static float row_sum(int64_t C, const float *x) {
    float lane[NORM_LANES] = {0};
    int64_t i = 0;
    for (; i + NORM_LANES <= C; i += NORM_LANES)
        for (int l = 0; l < NORM_LANES; l++) lane[l] += x[i + l];
    for (int l = 0; i < C; i++, l++) lane[l] += x[i];
    return norm_lanes_sum(lane);
}

static float row_variance(int64_t C, const float *x, float mean) {
    float lane[NORM_LANES] = {0};
    int64_t i = 0;
    for (; i + NORM_LANES <= C; i += NORM_LANES)
        for (int l = 0; l < NORM_LANES; l++) lane[l] += (x[i + l] - mean) * (x[i + l] - mean);
    for (int l = 0; i < C; i++, l++) lane[l] += (x[i] - mean) * (x[i] - mean);
    return norm_lanes_sum(lane) / (float)C;
}

static void row_normalise(int64_t C, const float *x, const float *w, const float *b, float mean,
                          float r, float *y) {
    for (int64_t i = 0; i < C; i++) y[i] = (x[i] - mean) * r * w[i] + b[i];
}

static void row_normalise_sums(int64_t C, const float *x, const float *w, const float *dy,
                               float mean, float r, float sum[2]) {
    float plain[NORM_LANES] = {0}, along[NORM_LANES] = {0};
    int64_t i = 0;
    for (; i + NORM_LANES <= C; i += NORM_LANES)
        for (int l = 0; l < NORM_LANES; l++) {
            const float g = dy[i + l] * w[i + l];
            plain[l] += g;
            along[l] += g * ((x[i + l] - mean) * r);
        }
    for (int l = 0; i < C; i++, l++) {
        plain[l] += dy[i] * w[i];
        along[l] += dy[i] * w[i] * ((x[i] - mean) * r);
    }
    sum[0] = norm_lanes_sum(plain);
    sum[1] = norm_lanes_sum(along);
}

static void row_normalise_gradient(int64_t C, const float *x, const float *w, const float *dy,
                                   float mean, float r, const float average[2], float *dx) {
    for (int64_t i = 0; i < C; i++)
        dx[i] += r * (dy[i] * w[i] - average[0] - (x[i] - mean) * r * average[1]);
}

static void row_normalise_weight_gradient(int64_t C, const float *x, const float *dy, float mean,
                                          float r, float *dw, float *db) {
    for (int64_t i = 0; i < C; i++) {
        dw[i] += dy[i] * ((x[i] - mean) * r);
        db[i] += dy[i];
    }
}

#define HONE_NORM_LOOPS                                                                            \
    .row_sum = row_sum, .row_variance = row_variance, .row_normalise = row_normalise,              \
    .row_normalise_sums = row_normalise_sums, .row_normalise_gradient = row_normalise_gradient,    \
    .row_normalise_weight_gradient = row_normalise_weight_gradient

#endif
