// SPDX-License-Identifier: Apache-2.0
// f32 to blocks of Q4_K, Q5_K and Q6_K, with the least squared error that a search finds: of many
// starting steps the quants' own least squares keep the best, the scales of the eight or sixteen
// parts are rounded to integers of a common f16 scale and tried one higher and lower, and the
// common scale is fitted once more to what was chosen.
#include "kernels/quantise.h"

#include <math.h>

#include "base/half.h"

enum { LARGE = 256, PART = 32, PARTS = 8, SMALL_PART = 16, SMALL_PARTS = 16, LANES = 8 };

static const float least_range = 1e-30f; // below it a part counts as constant

// To nearest even, for |x| < 2^22.
static inline float nearest(float x) {
    return (x + 12582912.0f) - 12582912.0f;
}

static inline float clamped(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

static inline float sum_of(const float lanes[LANES]) {
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

// ---- Q4_K and Q5_K: x = scale·q − offset, q from 0 to `steps`, neither below 0 ------------------

typedef struct Line {
    float scale, offset;
} Line;

// The line of least squares through quants, Σq, Σq², Σx, Σxq of a part being known, and how far
// its error lies below Σx².
static Line line_through(float q, float qq, float x, float xq, float *gain) {
    Line line = {0, -x / PART};
    const float spread = PART * qq - q * q;
    if (spread > 0) {
        line.scale = (PART * xq - x * q) / spread;
        line.offset = (line.scale * q - x) / PART;
    }
    if (line.offset < 0) line = (Line){qq > 0 ? xq / qq : 0, 0};
    const float s = line.scale, o = line.offset;
    *gain = 2 * (s * xq - o * x) - (s * s * qq - 2 * s * o * q + o * o * PART);
    return line;
}

static Line fit_line(const float *restrict x, float steps) {
    float low = 0, high = x[0], total = 0, best_gain = -INFINITY;
    for (int i = 0; i < PART; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        total += x[i];
    }
    if (!(high - low > least_range)) return (Line){0, -low};
    Line best = {(high - low) / steps, -low};
    for (int candidate = -12; candidate <= 12; candidate++) {
        const float inverse = (steps + 0.1f * (float)candidate) / (high - low);
        float q_sum[LANES] = {0}, qq_sum[LANES] = {0}, xq_sum[LANES] = {0}, gain;
        for (int i = 0; i < PART; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const float value = x[i + lane];
                const float q = clamped(nearest((value - low) * inverse), 0, steps);
                q_sum[lane] += q;
                qq_sum[lane] += q * q;
                xq_sum[lane] += value * q;
            }
        const Line line = line_through(sum_of(q_sum), sum_of(qq_sum), total, sum_of(xq_sum), &gain);
        if (gain > best_gain && line.scale > 0) {
            best_gain = gain;
            best = line;
        }
    }
    return best;
}

// The nearest quants on a line, and Σ(x − what they stand for)².
static float put_on_line(const float *restrict x, Line line, float steps, float *restrict q) {
    const float inverse = line.scale > least_range ? 1 / line.scale : 0;
    float error[LANES] = {0};
    for (int i = 0; i < PART; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            const float value = x[i + lane] + line.offset;
            const float quant = clamped(nearest(clamped(value * inverse, -1, 64)), 0, steps);
            const float off = value - line.scale * quant;
            q[i + lane] = quant;
            error[lane] += off * off;
        }
    return sum_of(error);
}

typedef struct LineBlock {
    float scale, offset; // f16 values: a part's line is these times its integers
    int scales[PARTS], offsets[PARTS];
    float q[LARGE];
} LineBlock;

static Line line_of(const LineBlock *block, int scale, int offset) {
    return (Line){block->scale * (float)scale, block->offset * (float)offset};
}

static float as_f16(float x) {
    return hone_f16_to_f32(hone_f32_to_f16(x));
}

// A common scale: the least that f16 has where x would round to 0.
static float common_scale(float x) {
    const float scale = as_f16(x);
    return scale == 0 && x != 0 ? copysignf(0x1p-24f, x) : scale;
}

static int integer_of(float x, float scale) {
    return scale > least_range ? (int)clamped(nearest(clamped(x / scale, 0, 63)), 0, 63) : 0;
}

// A part's integers: those around the given ones with the smallest error.
static float choose_integers(LineBlock *block, int part, const float *x, float steps) {
    float q[PART], best = INFINITY;
    const int scale = block->scales[part], offset = block->offsets[part];
    for (int s = scale > 0 ? scale - 1 : 0; s <= scale + 1 && s <= 63; s++)
        for (int o = offset > 0 ? offset - 1 : 0; o <= offset + 1 && o <= 63; o++) {
            const float error = put_on_line(x, line_of(block, s, o), steps, q);
            if (!(error < best)) continue;
            best = error;
            block->scales[part] = s;
            block->offsets[part] = o;
            memcpy(block->q + PART * part, q, sizeof q);
        }
    return best;
}

// The common scale and offset by least squares, integers and quants staying what they are.
static bool refit(LineBlock *block, const float *x) {
    double ss = 0, so = 0, oo = 0, xs = 0, xo = 0;
    for (int i = 0; i < LARGE; i++) {
        const double s = (double)block->q[i] * block->scales[i / PART];
        const double o = -block->offsets[i / PART], value = (double)x[i];
        ss += s * s;
        so += s * o;
        oo += o * o;
        xs += value * s;
        xo += value * o;
    }
    const double determinant = ss * oo - so * so;
    if (!(determinant > 1e-9 * ss * oo)) return false;
    block->scale = as_f16((float)((xs * oo - xo * so) / determinant));
    block->offset = as_f16((float)((xo * ss - xs * so) / determinant));
    return block->scale > 0 && block->offset >= 0;
}

static float choose_all(LineBlock *block, const float *x, float steps) {
    float error = 0;
    for (int part = 0; part < PARTS; part++)
        error += choose_integers(block, part, x + PART * part, steps);
    return error;
}

static void fit_lines(const float *x, float steps, LineBlock *block) {
    Line lines[PARTS], most = {0, 0};
    for (int part = 0; part < PARTS; part++) {
        lines[part] = fit_line(x + PART * part, steps);
        if (lines[part].scale > most.scale) most.scale = lines[part].scale;
        if (lines[part].offset > most.offset) most.offset = lines[part].offset;
    }
    block->scale = common_scale(most.scale / 63);
    block->offset = common_scale(most.offset / 63);
    for (int part = 0; part < PARTS; part++) {
        block->scales[part] = integer_of(lines[part].scale, block->scale);
        block->offsets[part] = integer_of(lines[part].offset, block->offset);
    }
    float error = choose_all(block, x, steps);
    for (int round = 0; round < 2; round++) {
        LineBlock other = *block;
        if (!refit(&other, x)) return;
        const float other_error = choose_all(&other, x, steps);
        if (!(other_error < error)) return;
        error = other_error;
        *block = other;
    }
}

// The inverse of hone_k_scales: 6 bits each in 12 bytes.
static void put_integers(const LineBlock *block, uint8_t *to) {
    for (int j = 0; j < 4; j++) {
        const int scale = block->scales[j + 4], offset = block->offsets[j + 4];
        to[j] = (uint8_t)(block->scales[j] | scale >> 4 << 6);
        to[j + 4] = (uint8_t)(block->offsets[j] | offset >> 4 << 6);
        to[j + 8] = (uint8_t)((scale & 15) | (offset & 15) << 4);
    }
}

// 4 bits of two parts to each 32 bytes; of the fifth bits one byte of `fifth` an index (NULL:
// none).
static void put_line_quants(const LineBlock *block, uint8_t *fifth, uint8_t *low) {
    memset(low, 0, LARGE / 2);
    for (int i = 0; i < LARGE; i++) {
        const int part = i / PART, j = i % PART, q = (int)block->q[i];
        low[PART * (part / 2) + j] |= (uint8_t)((q & 15) << 4 * (part & 1));
        if (fifth) fifth[j] |= (uint8_t)(q >> 4 << part);
    }
}

static void put_lines(const float *x, float steps, uint8_t *fifth, uint8_t *low, uint8_t *to) {
    LineBlock block;
    fit_lines(x, steps, &block);
    hone_put_u16(to, hone_f32_to_f16(block.scale));
    hone_put_u16(to + 2, hone_f32_to_f16(block.offset));
    put_integers(&block, to + 4);
    put_line_quants(&block, fifth, low);
}

void hone_block_q4_k(const float *x, uint8_t *to) {
    put_lines(x, 15, NULL, to + 16, to);
}

void hone_block_q5_k(const float *x, uint8_t *to) {
    memset(to + 16, 0, PART);
    put_lines(x, 31, to + 16, to + 48, to);
}

// ---- Q6_K: x = scale·q, q from −32 to 31 --------------------------------------------------------

static float fit_scale(const float *restrict x) {
    float extreme = 0, best_gain = 0, best = 0;
    for (int i = 0; i < SMALL_PART; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    if (!(fabsf(extreme) > least_range)) return 0;
    for (int candidate = -12; candidate <= 12; candidate++) {
        const float inverse = -(32 + 0.1f * (float)candidate) / extreme;
        float qq_sum[LANES] = {0}, xq_sum[LANES] = {0};
        for (int i = 0; i < SMALL_PART; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const float q = clamped(nearest(x[i + lane] * inverse), -32, 31);
                qq_sum[lane] += q * q;
                xq_sum[lane] += x[i + lane] * q;
            }
        const float qq = sum_of(qq_sum), xq = sum_of(xq_sum);
        if (qq > 0 && xq * xq > best_gain * qq) {
            best_gain = xq * xq / qq;
            best = xq / qq;
        }
    }
    return best;
}

static float put_on_scale(const float *restrict x, float scale, float *restrict q) {
    const float inverse = fabsf(scale) > least_range ? 1 / scale : 0;
    float error[LANES] = {0};
    for (int i = 0; i < SMALL_PART; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            const float value = x[i + lane];
            const float quant = clamped(nearest(clamped(value * inverse, -64, 64)), -32, 31);
            const float off = value - scale * quant;
            q[i + lane] = quant;
            error[lane] += off * off;
        }
    return sum_of(error);
}

typedef struct ScaleBlock {
    float scale; // an f16 value
    int scales[SMALL_PARTS];
    float q[LARGE];
} ScaleBlock;

static float choose_scales(ScaleBlock *block, const float *x) {
    float total = 0, q[SMALL_PART];
    for (int part = 0; part < SMALL_PARTS; part++) {
        const int given = block->scales[part];
        float best = INFINITY;
        for (int s = given - 1; s <= given + 1; s++) {
            if (s < -128 || s > 127) continue;
            const float *values = x + SMALL_PART * part;
            const float error = put_on_scale(values, block->scale * (float)s, q);
            if (!(error < best)) continue;
            best = error;
            block->scales[part] = s;
            memcpy(block->q + SMALL_PART * part, q, sizeof q);
        }
        total += best;
    }
    return total;
}

static bool refit_scale(ScaleBlock *block, const float *x) {
    double ss = 0, xs = 0;
    for (int i = 0; i < LARGE; i++) {
        const double s = (double)block->q[i] * block->scales[i / SMALL_PART];
        ss += s * s;
        xs += (double)x[i] * s;
    }
    if (!(ss > 0)) return false;
    block->scale = as_f16((float)(xs / ss));
    return block->scale != 0;
}

static void fit_scales(const float *x, ScaleBlock *block) {
    float scales[SMALL_PARTS], extreme = 0;
    for (int part = 0; part < SMALL_PARTS; part++) {
        scales[part] = fit_scale(x + SMALL_PART * part);
        if (fabsf(scales[part]) > fabsf(extreme)) extreme = scales[part];
    }
    block->scale = common_scale(extreme / -128);
    const float inverse = fabsf(block->scale) > least_range ? 1 / block->scale : 0;
    for (int part = 0; part < SMALL_PARTS; part++)
        block->scales[part] =
            (int)clamped(nearest(clamped(scales[part] * inverse, -129, 128)), -128, 127);
    float error = choose_scales(block, x);
    for (int round = 0; round < 2; round++) {
        ScaleBlock other = *block;
        if (!refit_scale(&other, x)) return;
        const float other_error = choose_scales(&other, x);
        if (!(other_error < error)) return;
        error = other_error;
        *block = other;
    }
}

void hone_block_q6_k(const float *x, uint8_t *to) {
    ScaleBlock block;
    fit_scales(x, &block);
    memset(to, 0, 192);
    for (int i = 0; i < LARGE; i++) {
        const int half = i / 128, group = i % 128 / 32, l = i % 32, q = (int)block.q[i] + 32;
        to[64 * half + 32 * (group & 1) + l] |= (uint8_t)((q & 15) << 4 * (group >> 1));
        to[128 + 32 * half + l] |= (uint8_t)(q >> 4 << 2 * group);
    }
    for (int part = 0; part < SMALL_PARTS; part++)
        to[192 + part] = (uint8_t)(int8_t)block.scales[part];
    hone_put_u16(to + 208, hone_f32_to_f16(block.scale));
}
