// SPDX-License-Identifier: Apache-2.0
// The reference's derivatives in double against central differences of the reference itself.
#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "kernels/reference/element.h"

enum { T = 3, C = 7, HEADS = 2, D = 6, ROWS = 4, V = 9, MOST = 64 };

static const double h = 1e-5;

static void draw(RandomStream *random, int64_t count, double *x) {
    for (int64_t i = 0; i < count; i++) x[i] = (double)hone_random_normal(random);
}

// A scalar function of an array: Σ dy ⊙ y of some kernel, or a loss.
typedef double (*Scalar)(const double *x, const void *rest);

static void check_derivative(Scalar f, double *x, int64_t count, const void *rest,
                             const double *gradient, const double *before) {
    for (int64_t i = 0; i < count; i++) {
        double kept = x[i];
        x[i] = kept + h;
        double above = f(x, rest);
        x[i] = kept - h;
        double below = f(x, rest);
        x[i] = kept;
        CHECK_NEAR(gradient[i] - (before ? before[i] : 0), (above - below) / (2 * h), 1e-6, 1e-6);
    }
}

static double dot(int64_t count, const double *a, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

typedef struct Norm {
    double x[T * C], w[C], dy[T * C];
} Norm;

static double norm_of_x(const double *x, const void *rest) {
    const Norm *norm = rest;
    double y[T * C], r[T];
    hone_reference_f64_rms_norm_forward(T, C, x, norm->w, 1e-5, y, r);
    return dot(T * C, y, norm->dy);
}

static double norm_of_w(const double *w, const void *rest) {
    const Norm *norm = rest;
    double y[T * C], r[T];
    hone_reference_f64_rms_norm_forward(T, C, norm->x, w, 1e-5, y, r);
    return dot(T * C, y, norm->dy);
}

static void rms_norm(void) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    Norm norm;
    double y[T * C], r[T], dx[T * C], dw[C], dx_before[T * C], dw_before[C];
    draw(&random, T * C, norm.x);
    draw(&random, C, norm.w);
    draw(&random, T * C, norm.dy);
    draw(&random, T * C, dx_before);
    draw(&random, C, dw_before);
    memcpy(dx, dx_before, sizeof dx);
    memcpy(dw, dw_before, sizeof dw);
    hone_reference_f64_rms_norm_forward(T, C, norm.x, norm.w, 1e-5, y, r);
    hone_reference_f64_rms_norm_backward(T, C, norm.x, norm.w, r, norm.dy, dx, dw);
    check_derivative(norm_of_x, norm.x, T * C, &norm, dx, dx_before);
    check_derivative(norm_of_w, norm.w, C, &norm, dw, dw_before);
}

typedef struct LayerNorm {
    double x[T * C], w[C], b[C], dy[T * C];
} LayerNorm;

static double layer_norm_with(const LayerNorm *norm, const double *x, const double *w,
                              const double *b) {
    double y[T * C], statistics[2 * T];
    hone_reference_f64_layer_norm_forward(T, C, x, w, b, 1e-5, y, statistics);
    return dot(T * C, y, norm->dy);
}

static double layer_norm_of_x(const double *x, const void *rest) {
    const LayerNorm *norm = rest;
    return layer_norm_with(norm, x, norm->w, norm->b);
}

static double layer_norm_of_w(const double *w, const void *rest) {
    const LayerNorm *norm = rest;
    return layer_norm_with(norm, norm->x, w, norm->b);
}

static double layer_norm_of_b(const double *b, const void *rest) {
    const LayerNorm *norm = rest;
    return layer_norm_with(norm, norm->x, norm->w, b);
}

static void layer_norm(void) {
    RandomStream random = hone_random_stream(5, RANDOM_TEST, 0);
    LayerNorm norm;
    double y[T * C], statistics[2 * T], dx[T * C], dw[C], db[C];
    double dx_before[T * C], dw_before[C], db_before[C];
    draw(&random, T * C, norm.x);
    draw(&random, C, norm.w);
    draw(&random, C, norm.b);
    draw(&random, T * C, norm.dy);
    draw(&random, T * C, dx_before);
    draw(&random, C, dw_before);
    draw(&random, C, db_before);
    memcpy(dx, dx_before, sizeof dx);
    memcpy(dw, dw_before, sizeof dw);
    memcpy(db, db_before, sizeof db);
    hone_reference_f64_layer_norm_forward(T, C, norm.x, norm.w, norm.b, 1e-5, y, statistics);
    hone_reference_f64_layer_norm_backward(T, C, norm.x, norm.w, statistics, norm.dy, dx, dw, db);
    check_derivative(layer_norm_of_x, norm.x, T * C, &norm, dx, dx_before);
    check_derivative(layer_norm_of_w, norm.w, C, &norm, dw, dw_before);
    check_derivative(layer_norm_of_b, norm.b, C, &norm, db, db_before);
}

typedef struct Gated {
    double gate[MOST], up[MOST], dy[MOST];
} Gated;

static double swiglu_of_gate(const double *gate, const void *rest) {
    const Gated *gated = rest;
    double y[MOST];
    hone_reference_f64_swiglu_forward(MOST, gate, gated->up, y);
    return dot(MOST, y, gated->dy);
}

static double swiglu_of_up(const double *up, const void *rest) {
    const Gated *gated = rest;
    double y[MOST];
    hone_reference_f64_swiglu_forward(MOST, gated->gate, up, y);
    return dot(MOST, y, gated->dy);
}

static void swiglu(void) {
    RandomStream random = hone_random_stream(2, RANDOM_TEST, 0);
    Gated gated;
    double dgate[MOST] = {0}, dup[MOST] = {0};
    draw(&random, MOST, gated.gate);
    draw(&random, MOST, gated.up);
    draw(&random, MOST, gated.dy);
    gated.gate[0] = 20, gated.gate[1] = -20, gated.gate[2] = 0;
    hone_reference_f64_swiglu_backward(MOST, gated.gate, gated.up, gated.dy, dgate, dup);
    check_derivative(swiglu_of_gate, gated.gate, MOST, &gated, dgate, NULL);
    check_derivative(swiglu_of_up, gated.up, MOST, &gated, dup, NULL);
}

static double gelu_of_x(const double *x, const void *rest) {
    double y[MOST];
    hone_reference_f64_gelu_forward(MOST, x, y);
    return dot(MOST, y, rest);
}

static double relu_of_x(const double *x, const void *rest) {
    double y[MOST];
    hone_reference_f64_relu_forward(MOST, x, y);
    return dot(MOST, y, rest);
}

static void relu(void) {
    RandomStream random = hone_random_stream(7, RANDOM_TEST, 0);
    double x[MOST], dy[MOST], dx[MOST] = {0};
    draw(&random, MOST, x);
    draw(&random, MOST, dy);
    hone_reference_f64_relu_backward(MOST, x, dy, dx);
    check_derivative(relu_of_x, x, MOST, dy, dx, NULL);
}

// Against the formula with tanh, and the derivative against differences.
static void gelu(void) {
    RandomStream random = hone_random_stream(6, RANDOM_TEST, 0);
    double x[MOST], y[MOST], dy[MOST], dx[MOST] = {0};
    draw(&random, MOST, x);
    draw(&random, MOST, dy);
    x[0] = 12, x[1] = -12, x[2] = 0;
    hone_reference_f64_gelu_forward(MOST, x, y);
    for (int i = 0; i < MOST; i++) {
        const double u = 0.79788456080286535588 * (x[i] + 0.044715 * x[i] * x[i] * x[i]);
        CHECK_NEAR(y[i], 0.5 * x[i] * (1 + tanh(u)), 1e-12, 1e-14);
    }
    hone_reference_f64_gelu_backward(MOST, x, dy, dx);
    check_derivative(gelu_of_x, x, MOST, dy, dx, NULL);
}

static double gelu_erf_of_x(const double *x, const void *rest) {
    double y[MOST];
    hone_reference_f64_gelu_erf_forward(MOST, x, y);
    return dot(MOST, y, rest);
}

// Against the formula with erf, and the derivative against differences.
static void gelu_erf(void) {
    RandomStream random = hone_random_stream(7, RANDOM_TEST, 0);
    double x[MOST], y[MOST], dy[MOST], dx[MOST] = {0};
    draw(&random, MOST, x);
    draw(&random, MOST, dy);
    x[0] = 12, x[1] = -12, x[2] = 0;
    hone_reference_f64_gelu_erf_forward(MOST, x, y);
    for (int i = 0; i < MOST; i++)
        CHECK_NEAR(y[i], 0.5 * x[i] * (1 + erf(x[i] * 0.70710678118654752440)), 1e-12, 1e-14);
    hone_reference_f64_gelu_erf_backward(MOST, x, dy, dx);
    check_derivative(gelu_erf_of_x, x, MOST, dy, dx, NULL);
}

typedef struct Rotation {
    ReferenceRope args;
    double frequency[D / 2], dy[T * HEADS * D];
} Rotation;

static double rope_of_x(const double *x, const void *rest) {
    const Rotation *rotation = rest;
    double y[T * HEADS * D];
    hone_reference_f64_rope(&rotation->args, rotation->frequency, x, y);
    return dot(T * HEADS * D, y, rotation->dy);
}

static void rope(void) {
    RandomStream random = hone_random_stream(3, RANDOM_TEST, 0);
    static const int32_t position[T] = {0, 5, 1000};
    for (int rotary = 2; rotary <= D; rotary += 2)
        for (int interleaved = 0; interleaved <= 1; interleaved++) {
            Rotation rotation = {.args = {.T = T,
                                          .heads = HEADS,
                                          .head_size = D,
                                          .rotary = rotary,
                                          .interleaved = interleaved,
                                          .position = position},
                                 .frequency = {1, 0.1, 0.01}};
            double x[T * HEADS * D], dx[T * HEADS * D] = {0};
            draw(&random, T * HEADS * D, x);
            draw(&random, T * HEADS * D, rotation.dy);
            ReferenceRope back = rotation.args;
            back.inverse = true;
            hone_reference_f64_rope(&back, rotation.frequency, rotation.dy, dx);
            check_derivative(rope_of_x, x, T * HEADS * D, &rotation, dx, NULL);
        }
}

enum { ENTRIES = 6 };

typedef struct Loss {
    double weight[ENTRIES], z_loss, smoothing;
    int32_t first[ROWS + 1], target[ENTRIES];
} Loss;

static double loss_of_logits(const double *logits, const void *rest) {
    const Loss *loss = rest;
    double z[ROWS * V], each[ENTRIES], sum = 0;
    memcpy(z, logits, sizeof z);
    hone_reference_f64_cross_entropy(ROWS, V, z, loss->first, loss->target, loss->weight,
                                     loss->z_loss, loss->smoothing, false, each, NULL);
    for (int e = 0; e < loss->first[ROWS]; e++) sum += each[e];
    return sum;
}

static void check_cross_entropy(const Loss *loss) {
    RandomStream random = hone_random_stream(4, RANDOM_TEST, 0);
    double logits[ROWS * V], gradient[ROWS * V], each[ENTRIES], logprob[ENTRIES];
    draw(&random, ROWS * V, logits);
    memcpy(gradient, logits, sizeof gradient);
    hone_reference_f64_cross_entropy(ROWS, V, gradient, loss->first, loss->target, loss->weight,
                                     loss->z_loss, loss->smoothing, true, each, logprob);
    check_derivative(loss_of_logits, logits, ROWS * V, loss, gradient, NULL);
    for (int e = 0; e < loss->first[ROWS] && loss->z_loss == 0; e++)
        CHECK_NEAR(each[e], -loss->weight[e] * logprob[e], 1e-12, 0);
}

static void cross_entropy(void) {
    Loss loss = {.first = {0, 1, 2, 3, 4}, .weight = {1, 0.25, 0, -2}, .target = {0, 8, 3, 4}};
    check_cross_entropy(&loss);
    loss.z_loss = 0.25;
    check_cross_entropy(&loss);
    loss.smoothing = 0.1;
    check_cross_entropy(&loss);
}

// Three targets, the same twice, none, weights that cancel.
static void cross_entropy_of_several_targets(void) {
    Loss loss = {.first = {0, 2, 4, 4, 6},
                 .weight = {1, 0.25, 0.5, 0.125, 3, -3},
                 .target = {0, 8, 3, 3, 4, 5}};
    check_cross_entropy(&loss);
    loss.z_loss = 0.25;
    check_cross_entropy(&loss);
    loss.smoothing = 0.1;
    check_cross_entropy(&loss);
}

int main(void) {
    RUN(rms_norm);
    RUN(layer_norm);
    RUN(swiglu);
    RUN(gelu);
    RUN(relu);
    RUN(gelu_erf);
    RUN(rope);
    RUN(cross_entropy);
    RUN(cross_entropy_of_several_targets);
    return check_report();
}
