// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels and the optimiser: every level against the reference in double.
#include "element_support.h"
#include "kernels/element_math.h"
#include "kernels/reference/element.h"

static const int64_t large = 50003; // several chunks and a tail

// Sizes 1…67, and a large one at the end.
static int64_t next_size(int64_t size) {
    return size < 67 ? size + 1 : size == 67 ? large : 0;
}

static void check_swiglu(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *gate = array_new(&a, n, 4), *up = array_new(&a, n, 1), *dy = array_new(&a, n, 1);
        Array *y = array_new(&a, n, 0), *dgate = array_new(&a, n, 1), *dup = array_new(&a, n, 1);
        hone_swiglu_forward(kc, n, gate->data, up->data, y->data);
        hone_reference_f64_swiglu_forward(n, gate->wide, up->wide, y->wide);
        array_matches(y, 5e-7, 1e-30, "y");
        hone_swiglu_backward(kc, n, gate->data, up->data, dy->data, true, dgate->data, dup->data);
        hone_reference_f64_swiglu_backward(n, gate->wide, up->wide, dy->wide, dgate->wide,
                                           dup->wide);
        // The sums with what the gradients held before cancel: an absolute error of some roundings.
        array_matches(dgate, 4e-7, 2e-6, "dgate");
        array_matches(dup, 4e-7, 2e-6, "dup");
        arrays_end(&a);
    }
}

static void swiglu(void) {
    at_every_level(check_swiglu);
}

static void check_swiglu_extremes(const KernelContext *kc) {
    static const float gates[] = {0.0f,   -0.0f,  1e-20f,   -1e-20f,   87.0f,
                                  -87.0f, 90.0f,  -90.0f,   100.0f,    -100.0f,
                                  1e30f,  -1e30f, INFINITY, -INFINITY, NAN};
    enum { N = sizeof gates / sizeof *gates };
    Arrays a = arrays_begin(1);
    Array *gate = array_new(&a, N, 1), *up = array_new(&a, N, 0), *dy = array_new(&a, N, 0);
    Array *y = array_new(&a, N, 0), *dgate = array_new(&a, N, 0), *dup = array_new(&a, N, 0);
    for (int i = 0; i < N; i++) {
        array_set(gate, i, gates[i]);
        array_set(up, i, 1.0f);
        array_set(dy, i, 1.0f);
    }
    hone_swiglu_forward(kc, N, gate->data, up->data, y->data);
    hone_reference_f64_swiglu_forward(N, gate->wide, up->wide, y->wide);
    array_matches(y, 5e-7, 1e-43, "y"); // even where silu is below the normal range
    hone_swiglu_backward(kc, N, gate->data, up->data, dy->data, true, dgate->data, dup->data);
    hone_reference_f64_swiglu_backward(N, gate->wide, up->wide, dy->wide, dgate->wide, dup->wide);
    // The slope at ±infinity has no value of its own: the formula's infinity·0.
    array_set(dgate, 12, 0), array_set(dgate, 13, 0);
    array_matches(dgate, 1e-6, 1e-42, "dgate");
    array_matches(dup, 1e-6, 1e-42, "dup");
    arrays_end(&a);
}

static void swiglu_extremes(void) {
    at_every_level(check_swiglu_extremes);
}

static void check_gelu(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 3), *dy = array_new(&a, n, 1);
        Array *y = array_new(&a, n, 0), *dx = array_new(&a, n, 1), *dx_set = array_new(&a, n, 1);
        hone_gelu_forward(kc, n, x->data, y->data);
        hone_reference_f64_gelu_forward(n, x->wide, y->wide);
        // exp(−2·u) magnifies the rounding of u: at −10, u is −43.
        array_matches(y, 2e-5, 1e-30, "y");
        for (int64_t i = 0; i < n; i++)
            if (x->data[i] > -3.0f) CHECK_NEAR((double)y->data[i], y->wide[i], 1.5e-6, 0);
        hone_gelu_backward(kc, n, x->data, dy->data, true, dx->data);
        hone_reference_f64_gelu_backward(n, x->wide, dy->wide, dx->wide);
        array_matches(dx, 4e-7, 3e-6, "dx");
        hone_gelu_backward(kc, n, x->data, dy->data, false, dx_set->data);
        for (int64_t i = 0; i < n; i++) dx_set->wide[i] = 0;
        hone_reference_f64_gelu_backward(n, x->wide, dy->wide, dx_set->wide);
        array_matches(dx_set, 1e-6, 2e-6, "dx without a sum");
        arrays_end(&a);
    }
}

static void check_relu(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 3), *dy = array_new(&a, n, 1);
        Array *y = array_new(&a, n, 0), *dx = array_new(&a, n, 1), *dx_set = array_new(&a, n, 1);
        array_set(x, 0, 0);
        hone_relu_forward(kc, n, x->data, y->data);
        hone_reference_f64_relu_forward(n, x->wide, y->wide);
        array_matches(y, 0, 0, "y");
        hone_relu_backward(kc, n, x->data, dy->data, true, dx->data);
        hone_reference_f64_relu_backward(n, x->wide, dy->wide, dx->wide);
        array_matches(dx, 1e-7, 1e-7, "dx");
        hone_relu_backward(kc, n, x->data, dy->data, false, dx_set->data);
        for (int64_t i = 0; i < n; i++) dx_set->wide[i] = 0;
        hone_reference_f64_relu_backward(n, x->wide, dy->wide, dx_set->wide);
        array_matches(dx_set, 0, 0, "dx without a sum");
        arrays_end(&a);
    }
}

static void relu(void) {
    at_every_level(check_relu);
}

static void gelu(void) {
    at_every_level(check_gelu);
}

// A GELU: its two passes, and the formula of each.
typedef struct Gelu {
    void (*forward)(const KernelContext *kc, int64_t count, const float *x, float *y);
    void (*backward)(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                     bool add, float *dx);
    void (*wide_forward)(int64_t count, const double *x, double *y);
    void (*wide_backward)(int64_t count, const double *x, const double *dy, double *dx);
} Gelu;

static void check_extremes(const KernelContext *kc, const Gelu *gelu) {
    static const float values[] = {0.0f,   -0.0f,  1e-20f,   -1e-20f,   6.0f,   -6.0f, 12.0f,
                                   -12.0f, 90.0f,  -90.0f,   1e12f,     -1e12f, 1e30f, -1e30f,
                                   3e38f,  -3e38f, INFINITY, -INFINITY, NAN};
    enum { N = sizeof values / sizeof *values };
    Arrays a = arrays_begin(1);
    Array *x = array_new(&a, N, 1), *dy = array_new(&a, N, 0);
    Array *y = array_new(&a, N, 0), *dx = array_new(&a, N, 0);
    for (int i = 0; i < N; i++) {
        array_set(x, i, values[i]);
        array_set(dy, i, 1.0f);
        const double v = (double)values[i];
        // Far out, the function is x or 0 and its slope 1 or 0.
        y->wide[i] = v > 0 ? v : 0;
        dx->wide[i] = v > 0 ? 1 : 0;
    }
    const int near = 8; // the first ones are within reach of the formula
    gelu->wide_forward(near, x->wide, y->wide);
    for (int i = 0; i < near; i++) dx->wide[i] = 0;
    gelu->wide_backward(near, x->wide, dy->wide, dx->wide);
    y->wide[N - 2] = y->wide[N - 1] = dx->wide[N - 1] = (double)NAN; // −∞·0, as the formula says
    gelu->forward(kc, N, x->data, y->data);
    array_matches(y, 2e-5, 1e-30, "y");
    gelu->backward(kc, N, x->data, dy->data, true, dx->data);
    array_matches(dx, 2e-5, 1e-25, "dx");
    arrays_end(&a);
}

static void check_gelu_extremes(const KernelContext *kc) {
    check_extremes(kc, &(Gelu){hone_gelu_forward, hone_gelu_backward,
                               hone_reference_f64_gelu_forward, hone_reference_f64_gelu_backward});
}

static void check_gelu_erf_extremes(const KernelContext *kc) {
    check_extremes(kc, &(Gelu){hone_gelu_erf_forward, hone_gelu_erf_backward,
                               hone_reference_f64_gelu_erf_forward,
                               hone_reference_f64_gelu_erf_backward});
}

static void gelu_extremes(void) {
    at_every_level(check_gelu_extremes);
}

static void check_gelu_erf(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 3), *dy = array_new(&a, n, 1);
        Array *y = array_new(&a, n, 0), *dx = array_new(&a, n, 1), *dx_set = array_new(&a, n, 1);
        hone_gelu_erf_forward(kc, n, x->data, y->data);
        hone_reference_f64_gelu_erf_forward(n, x->wide, y->wide);
        // exp(−x²/2) magnifies the rounding of x².
        array_matches(y, 2e-5, 1e-30, "y");
        for (int64_t i = 0; i < n; i++)
            if (x->data[i] > -3.0f) CHECK_NEAR((double)y->data[i], y->wide[i], 1.5e-6, 0);
        hone_gelu_erf_backward(kc, n, x->data, dy->data, true, dx->data);
        hone_reference_f64_gelu_erf_backward(n, x->wide, dy->wide, dx->wide);
        array_matches(dx, 4e-7, 3e-6, "dx");
        hone_gelu_erf_backward(kc, n, x->data, dy->data, false, dx_set->data);
        for (int64_t i = 0; i < n; i++) dx_set->wide[i] = 0;
        hone_reference_f64_gelu_erf_backward(n, x->wide, dy->wide, dx_set->wide);
        array_matches(dx_set, 1e-6, 2e-6, "dx without a sum");
        arrays_end(&a);
    }
}

static void gelu_erf(void) {
    at_every_level(check_gelu_erf);
}

static void gelu_erf_extremes(void) {
    at_every_level(check_gelu_erf_extremes);
}

static void check_scaled_multiply(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 1), *z = array_new(&a, n, 1), *y = array_new(&a, n, 0);
        for (int add = 0; add < 2; add++) {
            for (int64_t i = 0; i < n; i++)
                y->wide[i] = (add ? (double)y->data[i] : 0) + 0.7 * (double)x->data[i];
            hone_scaled(kc, n, 0.7f, x->data, add != 0, y->data);
            array_matches(y, 3e-7, 3e-7, "y + 0.7·x");
        }
        for (int add = 0; add < 2; add++) {
            for (int64_t i = 0; i < n; i++)
                y->wide[i] =
                    (add ? (double)y->data[i] : 0) + (double)x->data[i] * (double)z->data[i];
            hone_multiply(kc, n, x->data, z->data, add != 0, y->data);
            array_matches(y, 3e-7, 3e-7, "y + a ⊙ b");
        }
        arrays_end(&a);
    }
}

static void scaled_and_products(void) {
    at_every_level(check_scaled_multiply);
}

static void check_softcap(const KernelContext *kc) {
    const double cap = 1.5;
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 3), *dy = array_new(&a, n, 1);
        Array *y = array_new(&a, n, 0), *dx = array_new(&a, n, 1);
        if (n > 3) {
            array_set(x, 0, INFINITY);
            array_set(x, 1, -1e30f);
            array_set(x, 2, 0.0f);
        }
        for (int64_t i = 0; i < n; i++) y->wide[i] = cap * tanh((double)x->data[i] / cap);
        hone_softcap_forward(kc, n, (float)cap, x->data, y->data);
        array_matches(y, 6e-7, 1e-30, "cap·tanh(x/cap)");
        for (int add = 0; add < 2; add++) {
            for (int64_t i = 0; i < n; i++) {
                const double t = (double)y->data[i] / cap;
                dx->wide[i] = (add ? (double)dx->data[i] : 0) + (double)dy->data[i] * (1 - t * t);
            }
            hone_softcap_backward(kc, n, (float)cap, y->data, dy->data, add != 0, dx->data);
            array_matches(dx, 4e-7, 4e-7, "dx");
        }
        arrays_end(&a);
    }
}

static void softcap(void) {
    at_every_level(check_softcap);
}

static void check_add_fill(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 1), *z = array_new(&a, n, 1), *y = array_new(&a, n, 0);
        hone_add_forward(kc, n, x->data, z->data, y->data);
        for (int64_t i = 0; i < n; i++) y->wide[i] = (double)(x->data[i] + z->data[i]);
        array_matches(y, 0, 0, "a + b");
        hone_accumulate(kc, n, x->data, y->data);
        for (int64_t i = 0; i < n; i++) y->wide[i] = (double)((float)y->wide[i] + x->data[i]);
        array_matches(y, 0, 0, "y += x");
        hone_fill(kc, n, -3.5f, y->data);
        for (int64_t i = 0; i < n; i++) y->wide[i] = -3.5;
        array_matches(y, 0, 0, "fill");
        arrays_end(&a);
    }
}

static void add_accumulate_fill(void) {
    at_every_level(check_add_fill);
}

static void check_nothing(const KernelContext *kc) {
    AdamWArgs args = {.count = 0, .step = 1, .lr = 1, .beta1 = 0.9f, .beta2 = 0.9f, .eps = 1};
    hone_adamw(kc, &args);
    hone_swiglu_forward(kc, 0, NULL, NULL, NULL);
    hone_swiglu_backward(kc, 0, NULL, NULL, NULL, true, NULL, NULL);
    hone_gelu_forward(kc, 0, NULL, NULL);
    hone_gelu_backward(kc, 0, NULL, NULL, false, NULL);
    hone_gelu_erf_forward(kc, 0, NULL, NULL);
    hone_gelu_erf_backward(kc, 0, NULL, NULL, false, NULL);
    hone_add_forward(kc, 0, NULL, NULL, NULL);
    hone_scaled(kc, 0, 2, NULL, true, NULL);
    hone_multiply(kc, 0, NULL, NULL, true, NULL);
    hone_softcap_forward(kc, 0, 1, NULL, NULL);
    hone_softcap_backward(kc, 0, 1, NULL, NULL, true, NULL);
    hone_accumulate(kc, 0, NULL, NULL);
    hone_fill(kc, 0, 1, NULL);
    CHECK(hone_sum_of_squares(kc, 0, NULL) == 0);
}

static void zero_elements_touch_nothing(void) {
    at_every_level(check_nothing);
}

// ---- exp ---------------------------------------------------------------------------------------

// Error of `got` in units of the last place of the true value; below the normal range, of 2^-149.
static double ulps(float got, double want) {
    int exponent;
    frexp(want, &exponent);
    double unit = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - want) / unit;
}

static void check_exp(const KernelContext *kc) {
    enum { BATCH = 1021 };
    float x[BATCH], e[BATCH];
    double worst = 0;
    for (int sign = 0; sign <= 1; sign++) {
        // Every 1009th float up to 120 in size.
        for (uint32_t bits = 0; bits < 0x42f00000u; bits += 1009 * BATCH) {
            for (uint32_t i = 0; i < BATCH; i++) {
                float size = hone_bits_to_f32(bits + 1009 * i);
                e[i] = x[i] = sign ? -size : size;
            }
            kc->table->element.exp_sum_store(BATCH, 0, e);
            for (uint32_t i = 0; i < BATCH; i++) {
                double want = exp((double)x[i]);
                if (want > 3.4028235677973366e38) { // what rounds to infinity
                    CHECK(isinf(e[i]));
                    continue;
                }
                double error = ulps(e[i], want);
                if (!(error <= worst)) worst = error;
            }
        }
    }
    printf("     exp: worst error %.3f ulp (%s)\n", worst, hone_kernel_table_name(kc->table));
    CHECK(worst <= 1.5);
}

static void exp_is_accurate(void) {
    at_every_level(check_exp);
}

static void check_exp_special(const KernelContext *kc) {
    float x[] = {0, -INFINITY, INFINITY, NAN, -1e30f, 1e30f, -200, 88.7f, 88.8f};
    enum { N = sizeof x / sizeof *x };
    double sum = kc->table->element.exp_sum_store(N, 0, x);
    CHECK(isnan(sum));
    CHECK(x[0] == 1.0f && x[1] == 0.0f && isinf(x[2]) && isnan(x[3]) && x[4] == 0.0f);
    CHECK(isinf(x[5]) && x[6] == 0.0f && isfinite(x[7]) && isinf(x[8]));
}

static void exp_of_special_values(void) {
    at_every_level(check_exp_special);
}

// ---- optimiser ---------------------------------------------------------------------------------

static void check_squares(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *x = array_new(&a, n, 3);
        double want = 0;
        for (int64_t i = 0; i < n; i++) want += x->wide[i] * x->wide[i];
        CHECK_NEAR(hone_sum_of_squares(kc, n, x->data), want, 1e-13, 0);
        x->data[n / 2] = NAN;
        CHECK(isnan(hone_sum_of_squares(kc, n, x->data)));
        x->data[n / 2] = -INFINITY;
        CHECK(isinf(hone_sum_of_squares(kc, n, x->data)));
        x->data[n / 2] = 1e30f; // its square is beyond float
        CHECK_NEAR(hone_sum_of_squares(kc, n, x->data), 1e60, 1e-6, 0);
        arrays_end(&a);
    }
}

static void sum_of_squares(void) {
    at_every_level(check_squares);
}

// Longer than the chunk times the number of partial sums: chunks must grow.
static void check_long_squares(const KernelContext *kc) {
    int64_t n = 16384 * 1024 + 12345;
    float *x = hone_alloc((size_t)n * sizeof *x);
    hone_fill(kc, n, 0.5f, x);
    CHECK(hone_sum_of_squares(kc, n, x) == 0.25 * (double)n);
    hone_free(x);
}

static void sum_of_squares_of_a_long_array(void) {
    at_every_level(check_long_squares);
}

static void check_adamw(const KernelContext *kc) {
    for (int64_t n = 1; n; n = next_size(n)) {
        Arrays a = arrays_begin((uint64_t)n);
        Array *p = array_new(&a, n, 1), *m = array_new(&a, n, 0), *v = array_new(&a, n, 0);
        Array *g = array_new(&a, n, 1);
        AdamWArgs args = {.count = n,
                          .lr = 0.01f,
                          .beta1 = 0.9f,
                          .beta2 = 0.999f,
                          .eps = 1e-8f,
                          .decay = 0.1f,
                          .scale = 0.75f,
                          .p = p->data,
                          .m = m->data,
                          .v = v->data,
                          .g = g->data};
        ReferenceAdamW want = {.count = n,
                               .lr = (double)args.lr,
                               .beta1 = (double)args.beta1,
                               .beta2 = (double)args.beta2,
                               .eps = (double)args.eps,
                               .decay = (double)args.decay,
                               .scale = (double)args.scale};
        for (int64_t step = 1; step <= 20; step++) {
            args.step = want.step = step;
            for (int64_t i = 0; i < n; i++) array_set(g, i, hone_random_normal(&a.random));
            hone_adamw(kc, &args);
            hone_reference_f64_adamw(&want, g->wide, p->wide, m->wide, v->wide);
        }
        array_matches(p, 1e-6, 1e-6, "p"); // 20 steps of lr 0.01, roundings of p in [0, 4]
        array_matches(m, 1e-6, 2e-7, "m");
        array_matches(v, 2e-6, 0, "v");
        arrays_end(&a);
    }
}

static void adamw(void) {
    at_every_level(check_adamw);
}

// What torch.optim.AdamW (2.13, float64, one tensor at a time) gives for the same numbers.
static void check_adamw_torch(const KernelContext *kc) {
    static const float steps[][4] = {
        {0.9890000006309679f, -0.5094999996202079f, 0.2597499995116786f, 2.997000000022352f},
        {0.9885373165264505f, -0.5170209089538f, 0.257555145377277f, 3.00144436802092f},
        {0.9456322662069401f, -0.5241935009982631f, 0.26354122642183325f, 2.963612541334387f}};
    static const float mean[] = {0.028902613399540155f, -0.05003496005171197f,
                                 -0.05138670907301029f, 0.02515116258720287f};
    static const float square[] = {0.0030034203336682876f, 0.0032811849167759173f,
                                   0.0030017479790468028f, 0.0030188581078453326f};
    float p[] = {1.0f, -0.5f, 0.25f, 3.0f}, m[4] = {0}, v[4] = {0}, g[4];
    AdamWArgs args = {.count = 4,
                      .lr = 0.01f,
                      .beta1 = 0.9f,
                      .beta2 = 0.999f,
                      .eps = 1e-8f,
                      .decay = 0.1f,
                      .scale = 1,
                      .p = p,
                      .m = m,
                      .v = v,
                      .g = g};
    for (int step = 1; step <= 20; step++) {
        args.step = step;
        for (int i = 0; i < 4; i++) g[i] = (float)((7 * step + 3 * i) % 11 - 5) / 8.0f;
        hone_adamw(kc, &args);
        if (step <= 2) CHECK_CLOSE(p, steps[step - 1], 4, 5e-7, 0);
    }
    CHECK_CLOSE(p, steps[2], 4, 1e-6, 0);
    CHECK_CLOSE(m, mean, 4, 1e-6, 1e-8);
    CHECK_CLOSE(v, square, 4, 1e-6, 0);
}

static void adamw_is_torch_s(void) {
    at_every_level(check_adamw_torch);
}

int main(void) {
    say_levels();
    RUN(swiglu);
    RUN(swiglu_extremes);
    RUN(gelu);
    RUN(relu);
    RUN(gelu_extremes);
    RUN(gelu_erf);
    RUN(gelu_erf_extremes);
    RUN(scaled_and_products);
    RUN(softcap);
    RUN(add_accumulate_fill);
    RUN(zero_elements_touch_nothing);
    RUN(exp_is_accurate);
    RUN(exp_of_special_values);
    RUN(sum_of_squares);
    RUN(sum_of_squares_of_a_long_array);
    RUN(adamw);
    RUN(adamw_is_torch_s);
    return check_report();
}
