// SPDX-License-Identifier: Apache-2.0
// Attention as include/hone/attention.h says it, in plain f64 loops over dense arrays, and a random
// problem for it and for the library. Who sees whom is asked pair by pair, from the options.
#ifndef HONE_TESTS_LAYERS_ATTENTION_ORACLE_H
#define HONE_TESTS_LAYERS_ATTENTION_ORACLE_H

#include <hone/attention.h>

#include "base/half.h"
#include "base/memory.h"
#include "base/random.h"
#include "check.h"

// Dense: q (batch, queries, heads, head_size), …, and pairs (batch, heads, queries, keys).
typedef struct Oracle {
    HoneAttentionOptions options; // as the caller gave them
    double *q, *k, *v, *d_o, *sinks;
    double *mask, *drop; // pairs; NULL: zeros, ones
    double *o, *lse, *p; // p: pairs
    double *dq, *dk, *dv, *d_mask, *d_sinks;
} Oracle;

static inline int64_t size_of(const HoneAttentionOptions *o, bool of_values) {
    return of_values && o->value_size ? o->value_size : o->head_size;
}

static inline int64_t kv_heads_of(const HoneAttentionOptions *o) {
    return o->kv_heads ? o->kv_heads : o->heads;
}

static inline int64_t pairs_of(const HoneAttentionOptions *o) {
    return o->batch * o->heads * o->queries * o->keys;
}

static inline double *doubles(int64_t count) {
    return hone_calloc((size_t)(count > 0 ? count : 1), sizeof(double));
}

static inline int64_t offset_of(const HoneAttentionOptions *o) {
    return o->causal == HONE_CAUSAL_BOTTOM_RIGHT ? o->keys - o->queries : 0;
}

// Without the mask.
static inline bool sees(const HoneAttentionOptions *o, int64_t i, int64_t j) {
    int64_t at = i + offset_of(o);
    if (o->causal != HONE_CAUSAL_NONE && j > at) return false;
    if (o->window && (j <= at - o->window || j >= at + o->window)) return false;
    return !o->begin || (o->begin[j] <= i && i < o->end[j]);
}

// s of one pair; -infinity when it is not seen. *slope: ds / d(scale·q·k).
static inline double score(const Oracle *x, int64_t b, int64_t h, int64_t i, int64_t j,
                           double *slope) {
    const HoneAttentionOptions *o = &x->options;
    int64_t D = o->head_size, K = kv_heads_of(o), g = h / (o->heads / K);
    int64_t pair = ((b * o->heads + h) * o->queries + i) * o->keys + j;
    *slope = 0;
    if (!sees(o, i, j) || (x->mask && x->mask[pair] == (double)-INFINITY)) return (double)-INFINITY;
    const double *q = x->q + ((b * o->queries + i) * o->heads + h) * D;
    const double *k = x->k + ((b * o->keys + j) * K + g) * D;
    double t = 0, scale = o->scale != 0 ? (double)o->scale : 1 / sqrt((double)D);
    for (int64_t c = 0; c < D; c++) t += q[c] * k[c];
    t *= scale;
    *slope = 1;
    if (o->softcap > 0) {
        double bent = tanh(t / (double)o->softcap);
        t = (double)o->softcap * bent;
        *slope = 1 - bent * bent;
    }
    if (o->slopes) t -= (double)o->slopes[h] * fabs((double)(i + offset_of(o) - j));
    return t + (x->mask ? x->mask[pair] : 0);
}

static inline void oracle_row(const Oracle *x, int64_t b, int64_t h, int64_t i) {
    const HoneAttentionOptions *o = &x->options;
    int64_t E = size_of(o, true), K = kv_heads_of(o), g = h / (o->heads / K);
    int64_t row = (b * o->heads + h) * o->queries + i;
    double *p = x->p + row * o->keys, *out = x->o + ((b * o->queries + i) * o->heads + h) * E;
    double most = (double)-INFINITY, sum = 0, slope;
    for (int64_t j = 0; j < o->keys; j++) {
        p[j] = score(x, b, h, i, j, &slope);
        if (p[j] > most) most = p[j];
    }
    for (int64_t c = 0; c < E; c++) out[c] = 0;
    x->lse[row] = (double)-INFINITY;
    if (x->sinks && x->sinks[h] > most) most = x->sinks[h];
    bool blind = most == (double)-INFINITY;
    for (int64_t j = 0; j < o->keys; j++) sum += p[j] = blind ? 0 : exp(p[j] - most);
    if (blind) return;
    if (x->sinks) sum += exp(x->sinks[h] - most);
    x->lse[row] = most + log(sum);
    for (int64_t j = 0; j < o->keys; j++) {
        p[j] /= sum;
        double weight = p[j] * (x->drop ? x->drop[row * o->keys + j] : 1);
        const double *v = x->v + ((b * o->keys + j) * K + g) * E;
        for (int64_t c = 0; c < E && p[j] != 0; c++) out[c] += weight * v[c];
    }
}

static inline void oracle_row_backward(const Oracle *x, int64_t b, int64_t h, int64_t i) {
    const HoneAttentionOptions *o = &x->options;
    int64_t D = o->head_size, E = size_of(o, true), K = kv_heads_of(o), g = h / (o->heads / K);
    int64_t row = (b * o->heads + h) * o->queries + i, place = (b * o->queries + i) * o->heads + h;
    const double *p = x->p + row * o->keys, *d_o = x->d_o + place * E, *out = x->o + place * E;
    double scale = o->scale != 0 ? (double)o->scale : 1 / sqrt((double)D), mean = 0, slope;
    for (int64_t c = 0; c < E; c++) mean += d_o[c] * out[c];
    if (x->sinks && x->lse[row] != (double)-INFINITY)
        x->d_sinks[h] -= mean * exp(x->sinks[h] - x->lse[row]);
    for (int64_t j = 0; j < o->keys; j++) {
        if (p[j] == 0) continue;
        int64_t other = (b * o->keys + j) * K + g;
        double drop = x->drop ? x->drop[row * o->keys + j] : 1, dp = 0;
        for (int64_t c = 0; c < E; c++) {
            dp += drop * d_o[c] * x->v[other * E + c];
            x->dv[other * E + c] += drop * p[j] * d_o[c];
        }
        double ds = p[j] * (dp - mean);
        if (x->d_mask) x->d_mask[row * o->keys + j] += ds;
        score(x, b, h, i, j, &slope);
        for (int64_t c = 0; c < D; c++) {
            x->dq[place * D + c] += ds * slope * scale * x->k[other * D + c];
            x->dk[other * D + c] += ds * slope * scale * x->q[place * D + c];
        }
    }
}

static inline void oracle_run(const Oracle *x, bool backward) {
    const HoneAttentionOptions *o = &x->options;
    for (int64_t b = 0; b < o->batch; b++)
        for (int64_t h = 0; h < o->heads; h++)
            for (int64_t i = 0; i < o->queries; i++)
                backward ? oracle_row_backward(x, b, h, i) : oracle_row(x, b, h, i);
}

// The dense arrays and how many elements each has.
typedef struct OracleArray {
    double **values;
    int64_t count;
} OracleArray;

static inline void oracle_arrays(Oracle *x, OracleArray arrays[13]) {
    const HoneAttentionOptions *o = &x->options;
    int64_t D = o->head_size, E = size_of(o, true), H = o->heads, K = kv_heads_of(o);
    int64_t Q = o->batch * o->queries, N = o->batch * o->keys, pairs = pairs_of(o);
    const OracleArray all[13] = {
        {&x->q, Q * H * D},  {&x->k, N * K * D},  {&x->v, N * K * E},  {&x->d_o, Q * H * E},
        {&x->sinks, H},      {&x->o, Q * H * E},  {&x->lse, Q * H},    {&x->p, pairs},
        {&x->dq, Q * H * D}, {&x->dk, N * K * D}, {&x->dv, N * K * E}, {&x->d_mask, pairs},
        {&x->d_sinks, H},
    };
    memcpy(arrays, all, sizeof all);
}

// Random q, k, v, d_o and sinks, as f32 (or bf16) holds them; zero gradients.
static inline Oracle oracle_create(const HoneAttentionOptions *options, uint64_t seed) {
    Oracle x = {.options = *options};
    OracleArray arrays[13];
    oracle_arrays(&x, arrays);
    RandomStream random = hone_random_stream(seed, RANDOM_TEST, 11);
    for (int a = 0; a < 13; a++) {
        *arrays[a].values = doubles(arrays[a].count);
        for (int64_t i = 0; a < 5 && i < arrays[a].count; i++) {
            float value = hone_random_normal(&random);
            if (options->element == HONE_ELEMENT_BF16 && a < 4)
                value = hone_bf16_to_f32(hone_f32_to_bf16(value));
            (*arrays[a].values)[i] = (double)value;
        }
    }
    if (!options->sinks) hone_free(x.sinks), x.sinks = NULL;
    return x;
}

static inline void oracle_free(Oracle *x) {
    OracleArray arrays[13];
    oracle_arrays(x, arrays);
    for (int a = 0; a < 13; a++) hone_free(*arrays[a].values);
    hone_free(x->mask);
    hone_free(x->drop);
}

#endif
