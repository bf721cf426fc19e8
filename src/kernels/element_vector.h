// SPDX-License-Identifier: Apache-2.0
// The element table in vectors, written once for all widths. A level's element.c defines the types
// and operations named here on its registers, then includes this file, which defines the loops.
//   Vector (LANES floats), Wide (LANES/2 doubles): both with + − · / of the compiler's own
//   load(x), store(y, v): unaligned
//   load_part(x, n), store_part(y, v, n): n < LANES elements and no other; lanes from n on load as
//   0 first_lanes(v, n): lanes from n on become 0 spread(f): f in all lanes; negative_size(v):
//   −|v|; root(v): √v larger(a, b): b where either is NaN by_sign(g, a, b): a where g's sign bit is
//   clear, b where it is set exponential(v): eˣ as hone_exp swap_neighbours(v): lanes 2j and 2j+1
//   change places; negative_even(v): the even lanes negated double_low(v), double_high(v): each
//   lane of the lower (upper) half of v twice wide_low(v), wide_high(v): the halves as doubles
//   sum_lanes(v), sum_wide(w), largest_lane(v): in a fixed order
#ifndef HONE_KERNELS_ELEMENT_VECTOR_H
#define HONE_KERNELS_ELEMENT_VECTOR_H

#include <math.h>

#include "kernels/element_math.h"
#include "kernels/element_codes.h"
#include "kernels/element_norm.h"
#include "kernels/table.h"

// Whole vectors as long as there are any: the branch is the same for all operands of a loop.
static inline Vector take(const float *x, int64_t left) {
    return left >= LANES ? load(x) : load_part(x, left);
}

static inline void put(float *y, Vector v, int64_t left) {
    if (left >= LANES)
        store(y, v);
    else
        store_part(y, v, left);
}

// Reductions keep four sums, so that an addition need not wait for the one before it.

static float row_squares(int64_t C, const float *x) {
    Vector a = spread(0), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * LANES <= C; i += 4 * LANES) {
        Vector xa = load(x + i), xb = load(x + i + LANES);
        Vector xc = load(x + i + 2 * LANES), xd = load(x + i + 3 * LANES);
        a = a + xa * xa;
        b = b + xb * xb;
        c = c + xc * xc;
        d = d + xd * xd;
    }
    for (; i < C; i += LANES) {
        Vector v = take(x + i, C - i);
        a = a + v * v;
    }
    return sum_lanes((a + b) + (c + d));
}

static void row_scale(int64_t C, const float *x, const float *w, float r, float *y) {
    Vector factor = spread(r);
    for (int64_t i = 0; i < C; i += LANES) {
        int64_t left = C - i;
        put(y + i, take(x + i, left) * factor * take(w + i, left), left);
    }
}

static float row_dot(int64_t C, const float *x, const float *w, const float *dy) {
    Vector a = spread(0), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * LANES <= C; i += 4 * LANES) {
        int64_t j = i + LANES, k = j + LANES, l = k + LANES;
        a = a + load(dy + i) * load(w + i) * load(x + i);
        b = b + load(dy + j) * load(w + j) * load(x + j);
        c = c + load(dy + k) * load(w + k) * load(x + k);
        d = d + load(dy + l) * load(w + l) * load(x + l);
    }
    for (; i < C; i += LANES) {
        int64_t left = C - i;
        a = a + take(dy + i, left) * take(w + i, left) * take(x + i, left);
    }
    return sum_lanes((a + b) + (c + d));
}

static void row_gradient(int64_t C, const float *x, const float *w, float r, float slope,
                         const float *dy, float *dx) {
    Vector factor = spread(r), slopes = spread(slope);
    for (int64_t i = 0; i < C; i += LANES) {
        int64_t left = C - i;
        Vector change = factor * (take(dy + i, left) * take(w + i, left));
        change = change - take(x + i, left) * slopes;
        put(dx + i, take(dx + i, left) + change, left);
    }
}

static void row_weight_gradient(int64_t C, const float *x, float r, const float *dy, float *dw) {
    Vector factor = spread(r);
    for (int64_t i = 0; i < C; i += LANES) {
        int64_t left = C - i;
        Vector change = take(dy + i, left) * (take(x + i, left) * factor);
        put(dw + i, take(dw + i, left) + change, left);
    }
}

// ---- rotary embedding --------------------------------------------------------------------------

// Plain C, which compilers vectorise at the level's width.
static void rotary_angles(int64_t pairs, double position, const float *frequency, float *cosine,
                          float *sine) {
    for (int64_t j = 0; j < pairs; j++)
        hone_rotary_angle(position, frequency[j], &cosine[j], &sine[j]);
}

static inline void put_rotated(float *y, Vector v, int64_t left, bool add) {
    if (add) v = take(y, left) + v;
    put(y, v, left);
}

static void rotate_neighbours(int64_t pairs, const float *cosine, const float *sine, const float *x,
                              float *y, bool add) {
    for (int64_t j = 0; j < pairs; j += LANES) {
        int64_t left = 2 * (pairs - j), i = 2 * j;
        Vector c = take(cosine + j, pairs - j), s = take(sine + j, pairs - j);
        Vector v = take(x + i, left);
        v = v * double_low(c) + negative_even(swap_neighbours(v) * double_low(s));
        if (left <= LANES) {
            put_rotated(y + i, v, left, add);
            return;
        }
        Vector u = take(x + i + LANES, left - LANES);
        u = u * double_high(c) + negative_even(swap_neighbours(u) * double_high(s));
        put_rotated(y + i, v, left, add);
        put_rotated(y + i + LANES, u, left - LANES, add);
    }
}

static void rotate_halves(int64_t pairs, const float *cosine, const float *sine, const float *a,
                          const float *b, float *ya, float *yb, bool add) {
    for (int64_t j = 0; j < pairs; j += LANES) {
        int64_t left = pairs - j;
        Vector c = take(cosine + j, left), s = take(sine + j, left);
        Vector va = take(a + j, left), vb = take(b + j, left);
        put_rotated(ya + j, va * c - vb * s, left, add);
        put_rotated(yb + j, va * s + vb * c, left, add);
    }
}

// ---- elements ----------------------------------------------------------------------------------

// σ(g) and 1 − σ(g): see hone_sigmoid.
static inline void sigmoid(Vector g, Vector *sigma, Vector *rest) {
    Vector z = exponential(negative_size(g)), one = spread(1);
    Vector large = one / (one + z), small = z * large;
    *sigma = by_sign(g, large, small);
    *rest = by_sign(g, small, large);
}

static void swiglu(int64_t count, const float *gate, const float *up, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector g = take(gate + i, left), sigma, rest;
        sigmoid(g, &sigma, &rest);
        put(y + i, g * sigma * take(up + i, left), left);
    }
}

static void swiglu_gradient(int64_t count, const float *gate, const float *up, const float *dy,
                            bool add, float *dgate, float *dup) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector g = take(gate + i, left), d = take(dy + i, left), sigma, rest;
        sigmoid(g, &sigma, &rest);
        Vector silu = g * sigma, slope = sigma + silu * rest;
        Vector change = d * take(up + i, left) * slope;
        if (add) change = change + take(dgate + i, left);
        put(dgate + i, change, left);
        change = d * silu;
        if (add) change = change + take(dup + i, left);
        put(dup + i, change, left);
    }
}

// gelu(x) = x·σ(2u), u = √(2/π)·(x + 0.044715·x³); its slope σ + x·σ·(1 − σ)·2u'.
static inline void gelu_sigma(Vector x, Vector *sigma, Vector *slope) {
    Vector low = larger(spread(-HONE_GELU_FAR), x), v = -larger(spread(-HONE_GELU_FAR), -low);
    Vector v2 = v * v, rest, c = spread(HONE_GELU_SCALE), one = spread(1);
    sigmoid(c * v * (one + spread(HONE_GELU_CUBE) * v2), sigma, &rest);
    *slope = *sigma * (one + v * rest * (c * (one + spread(3 * HONE_GELU_CUBE) * v2)));
}

static void gelu(int64_t count, const float *x, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector v = take(x + i, left), sigma, slope;
        gelu_sigma(v, &sigma, &slope);
        put(y + i, v * sigma, left);
    }
}

static void gelu_gradient(int64_t count, const float *x, const float *dy, bool add, float *dx) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector sigma, slope;
        gelu_sigma(take(x + i, left), &sigma, &slope);
        Vector change = take(dy + i, left) * slope;
        if (add) change = change + take(dx + i, left);
        put(dx + i, change, left);
    }
}

// See hone_gelu_normal.
static inline Vector gelu_normal(Vector x, Vector *slope) {
    Vector low = larger(spread(-HONE_GELU_FAR), x), v = -larger(spread(-HONE_GELU_FAR), -low);
    Vector one = spread(1), bell = exponential(spread(-0.5f) * v * v);
    Vector t = one / (one - spread(HONE_ERF_STEP) * negative_size(v));
    Vector p = spread(HONE_ERF_C8) * t + spread(HONE_ERF_C7);
    p = p * t + spread(HONE_ERF_C6);
    p = p * t + spread(HONE_ERF_C5);
    p = p * t + spread(HONE_ERF_C4);
    p = p * t + spread(HONE_ERF_C3);
    p = p * t + spread(HONE_ERF_C2);
    p = p * t + spread(HONE_ERF_C1);
    Vector tail = bell * (p * t), normal = by_sign(v, one - tail, tail);
    *slope = normal + spread(HONE_NORMAL_DENSITY) * v * bell;
    return normal;
}

static void gelu_erf(int64_t count, const float *x, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector v = take(x + i, left), slope;
        put(y + i, v * gelu_normal(v, &slope), left);
    }
}

static void gelu_erf_gradient(int64_t count, const float *x, const float *dy, bool add, float *dx) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector slope;
        gelu_normal(take(x + i, left), &slope);
        Vector change = take(dy + i, left) * slope;
        if (add) change = change + take(dx + i, left);
        put(dx + i, change, left);
    }
}

// See hone_tanh.
static inline Vector hyperbolic_tangent(Vector x) {
    Vector z = exponential(spread(2) * negative_size(x)), one = spread(1);
    Vector far = (one - z) / (one + z), x2 = x * x;
    Vector y = spread(HONE_TANH_C4) * x2 + spread(HONE_TANH_C3);
    y = y * x2 + spread(HONE_TANH_C2);
    y = y * x2 + spread(HONE_TANH_C1);
    y = y * x2 + spread(HONE_TANH_C0);
    Vector near = x + x * x2 * y, minus = spread(0) - far;
    return by_sign(negative_size(x) + spread(HONE_TANH_NEAR), near, by_sign(x, far, minus));
}

static void scaled(int64_t count, float factor, const float *x, bool add, float *y) {
    Vector factors = spread(factor);
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector v = factors * take(x + i, left);
        if (add) v = v + take(y + i, left);
        put(y + i, v, left);
    }
}

static void multiply(int64_t count, const float *a, const float *b, bool add, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector v = take(a + i, left) * take(b + i, left);
        if (add) v = v + take(y + i, left);
        put(y + i, v, left);
    }
}

static void softcap(int64_t count, float cap, const float *x, float *y) {
    Vector caps = spread(cap), inverse = spread(1 / cap);
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        put(y + i, caps * hyperbolic_tangent(inverse * take(x + i, left)), left);
    }
}

static void softcap_gradient(int64_t count, float cap, const float *y, const float *dy, bool add,
                             float *dx) {
    Vector inverse = spread(1 / cap), one = spread(1);
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector t = inverse * take(y + i, left), change = take(dy + i, left) * (one - t * t);
        if (add) change = change + take(dx + i, left);
        put(dx + i, change, left);
    }
}

static float tanh_dot(int64_t count, const float *a, const float *b, const float *w, float *t) {
    Vector sum = spread(0), other = sum;
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        Vector u = hyperbolic_tangent(load(a + i) + load(b + i));
        Vector v = hyperbolic_tangent(load(a + i + LANES) + load(b + i + LANES));
        store(t + i, u);
        store(t + i + LANES, v);
        sum = sum + load(w + i) * u;
        other = other + load(w + i + LANES) * v;
    }
    for (; i < count; i += LANES) {
        int64_t left = count - i;
        Vector u = hyperbolic_tangent(take(a + i, left) + take(b + i, left));
        put(t + i, u, left);
        sum = sum + take(w + i, left) * u;
    }
    return sum_lanes(sum + other);
}

static void tanh_dot_gradient(int64_t count, const float *t, const float *w, float slope, float *da,
                              float *db, float *dw) {
    Vector slopes = spread(slope), one = spread(1);
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector v = take(t + i, left), g = slopes * take(w + i, left) * (one - v * v);
        put(da + i, take(da + i, left) + g, left);
        put(db + i, take(db + i, left) + g, left);
        put(dw + i, take(dw + i, left) + slopes * v, left);
    }
}

static void add(int64_t count, const float *a, const float *b, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        put(y + i, take(a + i, left) + take(b + i, left), left);
    }
}

static void scale(int64_t count, float factor, float *x) {
    Vector factors = spread(factor);
    for (int64_t i = 0; i < count; i += LANES)
        put(x + i, take(x + i, count - i) * factors, count - i);
}

// ---- cross-entropy -----------------------------------------------------------------------------

static float maximum(int64_t count, const float *x) {
    Vector a = spread(-INFINITY), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        a = larger(load(x + i), a);
        b = larger(load(x + i + LANES), b);
        c = larger(load(x + i + 2 * LANES), c);
        d = larger(load(x + i + 3 * LANES), d);
    }
    for (; i + LANES <= count; i += LANES) a = larger(load(x + i), a);
    float result = largest_lane(larger(larger(a, b), larger(c, d)));
    for (; i < count; i++) result = x[i] > result ? x[i] : result;
    return result;
}

// Each vector is added in double: a vocabulary's worth of floats would lose digits.

static double exp_sum(int64_t count, const float *x, float shift) {
    Vector shifts = spread(shift);
    Wide low = wide_low(spread(0)), high = low;
    for (int64_t i = 0; i < count; i += LANES) {
        Vector e = exponential(take(x + i, count - i) - shifts);
        if (count - i < LANES) e = first_lanes(e, count - i);
        low = low + wide_low(e);
        high = high + wide_high(e);
    }
    return sum_wide(low + high);
}

static double exp_sum_store(int64_t count, float shift, float *x) {
    Vector shifts = spread(shift);
    Wide low = wide_low(spread(0)), high = low;
    for (int64_t i = 0; i < count; i += LANES) {
        Vector e = exponential(take(x + i, count - i) - shifts);
        put(x + i, e, count - i);
        if (count - i < LANES) e = first_lanes(e, count - i);
        low = low + wide_low(e);
        high = high + wide_high(e);
    }
    return sum_wide(low + high);
}

// ---- optimiser ---------------------------------------------------------------------------------

static double sum_of_squares(int64_t count, const float *x) {
    Wide a = wide_low(spread(0)), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        Vector v = load(x + i), u = load(x + i + LANES);
        a = a + wide_low(v) * wide_low(v);
        b = b + wide_high(v) * wide_high(v);
        c = c + wide_low(u) * wide_low(u);
        d = d + wide_high(u) * wide_high(u);
    }
    for (; i < count; i += LANES) {
        Vector v = take(x + i, count - i);
        a = a + wide_low(v) * wide_low(v);
        b = b + wide_high(v) * wide_high(v);
    }
    return sum_wide((a + b) + (c + d));
}

static void adamw(int64_t count, const AdamWStep *step, const float *g, float *p, float *m,
                  float *v) {
    Vector scales = spread(step->scale), keep = spread(step->keep), eps = spread(step->eps);
    Vector beta1 = spread(step->beta1), new_mean = spread(step->new_mean);
    Vector beta2 = spread(step->beta2), new_square = spread(step->new_square);
    Vector rate = spread(step->rate), divisor = spread(step->root);
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = count - i;
        Vector gradient = take(g + i, left) * scales;
        Vector mean = beta1 * take(m + i, left) + new_mean * gradient;
        Vector square = beta2 * take(v + i, left) + new_square * gradient * gradient;
        Vector change = mean / (root(square) / divisor + eps);
        put(m + i, mean, left);
        put(v + i, square, left);
        put(p + i, take(p + i, left) * keep - rate * change, left);
    }
}

static void fill_element_table(ElementTable *table) {
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

#endif
