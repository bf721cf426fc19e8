// SPDX-License-Identifier: Apache-2.0
// Plain C. Sums run in eight lanes, which compilers turn into whatever vectors the baseline has.
#include <math.h>

#include "kernels/element_math.h"
#include "kernels/element_codes.h"
#include "kernels/element_norm.h"
#include "kernels/table.h"

enum { LANES = 8 };

static float lane_sum(const float lane[LANES]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static float row_squares(int64_t C, const float *x) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= C; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += x[i + l] * x[i + l];
    for (; i < C; i++) lane[i % LANES] += x[i] * x[i];
    return lane_sum(lane);
}

static void row_scale(int64_t C, const float *x, const float *w, float r, float *y) {
    for (int64_t i = 0; i < C; i++) y[i] = x[i] * r * w[i];
}

static float row_dot(int64_t C, const float *x, const float *w, const float *dy) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= C; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += dy[i + l] * w[i + l] * x[i + l];
    for (; i < C; i++) lane[i % LANES] += dy[i] * w[i] * x[i];
    return lane_sum(lane);
}

static void row_gradient(int64_t C, const float *x, const float *w, float r, float slope,
                         const float *dy, float *dx) {
    for (int64_t i = 0; i < C; i++) dx[i] += r * (dy[i] * w[i]) - x[i] * slope;
}

static void row_weight_gradient(int64_t C, const float *x, float r, const float *dy, float *dw) {
    for (int64_t i = 0; i < C; i++) dw[i] += dy[i] * (x[i] * r);
}

static void rotary_angles(int64_t pairs, double position, const float *frequency, float *cosine,
                          float *sine) {
    for (int64_t j = 0; j < pairs; j++)
        hone_rotary_angle(position, frequency[j], &cosine[j], &sine[j]);
}

static void rotate_neighbours(int64_t pairs, const float *cosine, const float *sine, const float *x,
                              float *y, bool add) {
    for (int64_t j = 0; j < pairs; j++) {
        float a = x[2 * j], b = x[2 * j + 1];
        float ra = a * cosine[j] - b * sine[j], rb = a * sine[j] + b * cosine[j];
        y[2 * j] = add ? y[2 * j] + ra : ra;
        y[2 * j + 1] = add ? y[2 * j + 1] + rb : rb;
    }
}

static void rotate_halves(int64_t pairs, const float *cosine, const float *sine, const float *a,
                          const float *b, float *ya, float *yb, bool add) {
    for (int64_t j = 0; j < pairs; j++) {
        float ra = a[j] * cosine[j] - b[j] * sine[j], rb = a[j] * sine[j] + b[j] * cosine[j];
        ya[j] = add ? ya[j] + ra : ra;
        yb[j] = add ? yb[j] + rb : rb;
    }
}

static void swiglu(int64_t count, const float *gate, const float *up, float *y) {
    for (int64_t i = 0; i < count; i++) {
        float sigma, rest;
        hone_sigmoid(gate[i], &sigma, &rest);
        y[i] = gate[i] * sigma * up[i];
    }
}

static void swiglu_gradient(int64_t count, const float *gate, const float *up, const float *dy,
                            bool add, float *dgate, float *dup) {
    for (int64_t i = 0; i < count; i++) {
        float g = gate[i], sigma, rest;
        hone_sigmoid(g, &sigma, &rest);
        float change = dy[i] * up[i] * (sigma + g * sigma * rest);
        dgate[i] = add ? dgate[i] + change : change;
        change = dy[i] * (g * sigma);
        dup[i] = add ? dup[i] + change : change;
    }
}

static void gelu(int64_t count, const float *x, float *y) {
    for (int64_t i = 0; i < count; i++) {
        float slope;
        y[i] = x[i] * hone_gelu_sigma(x[i], &slope);
    }
}

static void gelu_gradient(int64_t count, const float *x, const float *dy, bool add, float *dx) {
    for (int64_t i = 0; i < count; i++) {
        float slope;
        hone_gelu_sigma(x[i], &slope);
        dx[i] = (add ? dx[i] : 0) + dy[i] * slope;
    }
}

static void gelu_erf(int64_t count, const float *x, float *y) {
    for (int64_t i = 0; i < count; i++) {
        float slope;
        y[i] = x[i] * hone_gelu_normal(x[i], &slope);
    }
}

static void gelu_erf_gradient(int64_t count, const float *x, const float *dy, bool add, float *dx) {
    for (int64_t i = 0; i < count; i++) {
        float slope;
        hone_gelu_normal(x[i], &slope);
        dx[i] = (add ? dx[i] : 0) + dy[i] * slope;
    }
}

static void scaled(int64_t count, float factor, const float *x, bool add, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = add ? y[i] + factor * x[i] : factor * x[i];
}

static void multiply(int64_t count, const float *a, const float *b, bool add, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = add ? y[i] + a[i] * b[i] : a[i] * b[i];
}

static void softcap(int64_t count, float cap, const float *x, float *y) {
    const float inverse = 1 / cap;
    for (int64_t i = 0; i < count; i++) y[i] = cap * hone_tanh(inverse * x[i]);
}

static void softcap_gradient(int64_t count, float cap, const float *y, const float *dy, bool add,
                             float *dx) {
    const float inverse = 1 / cap;
    for (int64_t i = 0; i < count; i++) {
        const float t = inverse * y[i], change = dy[i] * (1 - t * t);
        dx[i] = add ? dx[i] + change : change;
    }
}

static float tanh_dot(int64_t count, const float *a, const float *b, const float *w, float *t) {
    float lane[LANES] = {0};
    for (int64_t i = 0; i < count; i++) t[i] = hone_tanh(a[i] + b[i]);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += w[i + l] * t[i + l];
    for (; i < count; i++) lane[i % LANES] += w[i] * t[i];
    return lane_sum(lane);
}

static void tanh_dot_gradient(int64_t count, const float *t, const float *w, float slope, float *da,
                              float *db, float *dw) {
    for (int64_t i = 0; i < count; i++) {
        float g = slope * w[i] * (1 - t[i] * t[i]);
        da[i] += g;
        db[i] += g;
        dw[i] += slope * t[i];
    }
}

static void add(int64_t count, const float *a, const float *b, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

static float maximum(int64_t count, const float *x) {
    float lane[LANES];
    for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (; i < count; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    float largest = lane[0];
    for (int l = 1; l < LANES; l++) largest = lane[l] > largest ? lane[l] : largest;
    return largest;
}

// exp of one group of lanes of x, into e; the tail's missing lanes are 0.
static void exp_group(int64_t left, const float *x, float shift, float e[LANES]) {
    if (left >= LANES) {
        for (int l = 0; l < LANES; l++) e[l] = hone_exp(x[l] - shift);
    } else {
        for (int l = 0; l < LANES; l++) e[l] = l < left ? hone_exp(x[l] - shift) : 0.0f;
    }
}

static double exp_sum(int64_t count, const float *x, float shift) {
    double lane[LANES] = {0};
    for (int64_t i = 0; i < count; i += LANES) {
        float e[LANES];
        exp_group(count - i, x + i, shift, e);
        for (int l = 0; l < LANES; l++) lane[l] += (double)e[l];
    }
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

static double exp_sum_store(int64_t count, float shift, float *x) {
    double lane[LANES] = {0};
    for (int64_t i = 0; i < count; i += LANES) {
        float e[LANES];
        exp_group(count - i, x + i, shift, e);
        for (int l = 0; l < LANES; l++) lane[l] += (double)e[l];
        for (int l = 0; l < LANES && i + l < count; l++) x[i + l] = e[l];
    }
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

static void scale(int64_t count, float factor, float *x) {
    for (int64_t i = 0; i < count; i++) x[i] *= factor;
}

static double sum_of_squares(int64_t count, const float *x) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < count; i++) lane[0] += (double)x[i] * (double)x[i];
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

static void adamw(int64_t count, const AdamWStep *step, const float *g, float *p, float *m,
                  float *v) {
    const AdamWStep s = *step;
    for (int64_t i = 0; i < count; i++) {
        float gradient = g[i] * s.scale, kept = p[i] * s.keep;
        float mean = s.beta1 * m[i] + s.new_mean * gradient;
        float square = s.beta2 * v[i] + s.new_square * gradient * gradient;
        m[i] = mean;
        v[i] = square;
        p[i] = kept - s.rate * (mean / (sqrtf(square) / s.root + s.eps));
    }
}

void hone_generic_element(ElementTable *table) {
    *table = (ElementTable){
        .row_squares = row_squares,
        .row_scale = row_scale,
        .row_dot = row_dot,
        .row_gradient = row_gradient,
        .row_weight_gradient = row_weight_gradient,
        HONE_NORM_LOOPS,
        HONE_CODE_LOOPS,
        .rotary_angles = rotary_angles,
        .rotate_neighbours = rotate_neighbours,
        .rotate_halves = rotate_halves,
        .swiglu = swiglu,
        .swiglu_gradient = swiglu_gradient,
        .gelu = gelu,
        .gelu_gradient = gelu_gradient,
        .gelu_erf = gelu_erf,
        .gelu_erf_gradient = gelu_erf_gradient,
        .scaled = scaled,
        .multiply = multiply,
        .softcap = softcap,
        .softcap_gradient = softcap_gradient,
        .tanh_dot = tanh_dot,
        .tanh_dot_gradient = tanh_dot_gradient,
        .add = add,
        .maximum = maximum,
        .exp_sum = exp_sum,
        .exp_sum_store = exp_sum_store,
        .scale = scale,
        .sum_of_squares = sum_of_squares,
        .adamw = adamw,
    };
}
