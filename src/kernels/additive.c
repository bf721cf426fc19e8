// SPDX-License-Identifier: Apache-2.0
// Additive attention (Bahdanau, Cho, Bengio: Neural machine translation by jointly learning to
// align and translate, 2015). A row of tanh(q_i + k_j) exists for one pair at a time: forward makes
// it for the score, backward makes it again from lse and uses it while it is there. With p from
// lse and D_i = Σ_c d_o·o:
//     dv_j += Σ_i drop_ij · p_ij · d_o_i;  ds_ij = p_ij · (drop_ij · d_o_i · v_j − D_i)
//     g_iju = ds_ij · scale_u · (1 − tanh²(q_iu + k_ju));  dq_i += Σ_j g_ij;  dk_j += Σ_i g_ij
//     dscale += Σ_ij ds_ij · tanh(q_i + k_j)
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "kernels/attention_modify.h"
#include "kernels/element_math.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

enum {
    TASK_PAIRS = 4096,  // of a forward task, about: each is a row of tanh
    CHUNK_QUERIES = 16, // of a chunk in backward, at least
    MOST_CHUNKS = 8,    // of one element of the batch: memory grows with them
    CHUNKS = 16,        // of all elements aimed at
    LANES = 8,
};

typedef struct Additive {
    const AdditiveArgs *args;
    const ElementTable *table;
    const AttentionTable *attention; // for what dropout keeps
    int64_t queries, tasks;          // of one task, and tasks of one element of the batch
    float *workers;
    int64_t worker;  // floats of one worker's scratch
    float *partials; // backward: (batch, tasks, partial) = dk (keys, units), dv, dscale
    int64_t partial;
    float factor; // of what dropout keeps
} Additive;

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Room for a bit a key and query of 16.
static int64_t keep_floats(const AdditiveArgs *args) {
    return args->dropout > 0 ? divide_up(args->keys, 2) : 0;
}

static Additive plan(const KernelContext *kc, const AdditiveArgs *args) {
    return (Additive){.args = args,
                      .table = &kc->table->element,
                      .attention = &kc->table->attention,
                      .factor = hone_dropout_factor(args->dropout)};
}

static Additive plan_forward(const KernelContext *kc, const AdditiveArgs *args) {
    Additive a = plan(kc, args);
    a.queries = TASK_PAIRS / (args->keys + 1) + 1;
    a.tasks = divide_up(args->queries, a.queries);
    a.worker = args->units + args->keys + keep_floats(args);
    return a;
}

static Additive plan_backward(const KernelContext *kc, const AdditiveArgs *args) {
    Additive a = plan(kc, args);
    int64_t chunks = divide_up(CHUNKS, args->batch > 0 ? args->batch : 1);
    int64_t most = divide_up(args->queries, CHUNK_QUERIES);
    if (chunks > MOST_CHUNKS) chunks = MOST_CHUNKS;
    if (chunks > most) chunks = most;
    a.queries = chunks > 0 ? divide_up(args->queries, chunks) : 1;
    a.tasks = divide_up(args->queries, a.queries);
    a.worker = args->units + keep_floats(args);
    a.partial = args->keys * (args->units + args->value_size) + args->units;
    return a;
}

static bool visible(const AdditiveArgs *args, int64_t b, int64_t i, int64_t j, float *added) {
    *added = 0;
    if (args->begin && (i < args->begin[j] || i >= args->end[j])) return false;
    const AttentionMask *mask = &args->mask;
    if (!mask->data) return true;
    int64_t at = b * mask->batch + i * mask->query + j * mask->key;
    if (mask->boolean) return ((const uint8_t *)mask->data)[at] != 0;
    *added = ((const float *)mask->data)[at];
    return *added != -INFINITY;
}

// ---- dropout -----------------------------------------------------------------------------------

// bits (keys) for query i, drawn with those of the 15 others that share its numbers: again only
// where a task begins and where the next 16 do.
static void draw(const Additive *a, int64_t b, int64_t i, bool first, uint16_t *bits) {
    const AdditiveArgs *args = a->args;
    if (args->dropout <= 0 || !(first || i % HONE_PANEL == 0)) return;
    DropoutCounter counter = {.key = hone_philox_key(args->seed, RANDOM_DROPOUT),
                              .head = (uint64_t)b,
                              .block = (uint32_t)(i / HONE_PANEL),
                              .threshold = hone_dropout_threshold(args->dropout)};
    a->attention->keep(&counter, 0, args->keys, bits);
}

static float kept(const Additive *a, int64_t i, int64_t j, const uint16_t *bits) {
    if (a->args->dropout <= 0) return 1;
    return bits[j] >> (i % HONE_PANEL) & 1 ? a->factor : 0;
}

// ---- forward -----------------------------------------------------------------------------------

// p (keys) from the scores s (keys) of one query, -infinity where it does not see; returns lse.
static float softmax_row(const Additive *a, float *s) {
    int64_t keys = a->args->keys;
    float most = -INFINITY;
    for (int64_t j = 0; j < keys; j++) most = s[j] > most || isnan(s[j]) ? s[j] : most;
    if (most == -INFINITY) {
        memset(s, 0, (size_t)keys * sizeof *s);
        return -INFINITY;
    }
    double sum = a->table->exp_sum_store(keys, most, s);
    a->table->scale(keys, (float)(1 / sum), s);
    return most + (float)log(sum);
}

static void forward_query(const Additive *a, int64_t b, int64_t i, float *t, float *s,
                          const uint16_t *bits) {
    const AdditiveArgs *args = a->args;
    int64_t U = args->units, E = args->value_size, row = b * args->queries + i;
    const float *q = args->q + row * U, *k = args->k + b * args->keys * U;
    const float *v = args->v + b * args->keys * E;
    for (int64_t j = 0; j < args->keys; j++) {
        float added;
        s[j] = -INFINITY;
        if (visible(args, b, i, j, &added))
            s[j] = a->table->tanh_dot(U, q, k + j * U, args->scale, t) + added;
    }
    args->lse[row] = softmax_row(a, s);
    if (args->weights) memcpy(args->weights + row * args->keys, s, (size_t)args->keys * sizeof *s);
    float *o = args->o + row * E;
    memset(o, 0, (size_t)E * sizeof *o);
    for (int64_t j = 0; j < args->keys; j++) {
        float p = s[j] * kept(a, i, j, bits);
        for (int64_t c = 0; c < E && p != 0; c++) // 0 · NaN of a hidden key must not arise
            o[c] += p * v[j * E + c];
    }
}

static void forward_task(void *argument, int64_t task, int worker) {
    const Additive *a = argument;
    float *t = a->workers + worker * a->worker, *s = t + a->args->units;
    uint16_t *bits = (uint16_t *)(s + a->args->keys);
    int64_t b = task / a->tasks, first = task % a->tasks * a->queries, end = first + a->queries;
    if (end > a->args->queries) end = a->args->queries;
    for (int64_t i = first; i < end; i++) {
        draw(a, b, i, i == first, bits);
        forward_query(a, b, i, t, s, bits);
    }
}

size_t hone_additive_forward_scratch(const KernelContext *kc, const AdditiveArgs *args) {
    Additive a = plan_forward(kc, args);
    return (size_t)(hone_pool_threads(kc->pool) * a.worker) * sizeof(float);
}

void hone_additive_forward(const KernelContext *kc, const AdditiveArgs *args, void *scratch) {
    Additive a = plan_forward(kc, args);
    a.workers = scratch;
    hone_pool_run(kc->pool, args->batch * a.tasks, forward_task, &a);
}

// ---- backward ----------------------------------------------------------------------------------

// In a fixed order, in lanes that a compiler can turn into vectors.
static float dot(int64_t count, const float *x, const float *y) {
    float lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += x[i + l] * y[i + l];
    for (; i < count; i++) lane[i % LANES] += x[i] * y[i];
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

static void backward_query(const Additive *a, int64_t b, int64_t i, float *t, float *partial,
                           const uint16_t *bits) {
    const AdditiveArgs *args = a->args;
    int64_t U = args->units, E = args->value_size, row = b * args->queries + i;
    const float *q = args->q + row * U, *d_o = args->d_o + row * E;
    const float *k = args->k + b * args->keys * U, *v = args->v + b * args->keys * E;
    float *dk = partial, *dv = dk + args->keys * U, *d_scale = dv + args->keys * E;
    float lse = args->lse[row], mean = dot(E, d_o, args->o + row * E);
    if (lse == -INFINITY) return;
    for (int64_t j = 0; j < args->keys; j++) {
        float added;
        if (!visible(args, b, i, j, &added)) continue;
        float s = a->table->tanh_dot(U, q, k + j * U, args->scale, t) + added;
        float p = hone_exp(s - lse), keep = kept(a, i, j, bits);
        float dp = keep != 0 ? keep * dot(E, d_o, v + j * E) : 0, ds = p * (dp - mean);
        for (int64_t c = 0; c < E && keep != 0; c++) dv[j * E + c] += p * keep * d_o[c];
        a->table->tanh_dot_gradient(U, t, args->scale, ds, args->dq + row * U, dk + j * U, d_scale);
    }
}

// A chunk of the queries of one element of the batch; dk, dv and dscale go to its own partial sums.
static void backward_task(void *argument, int64_t task, int worker) {
    const Additive *a = argument;
    float *t = a->workers + worker * a->worker, *partial = a->partials + task * a->partial;
    uint16_t *bits = (uint16_t *)(t + a->args->units);
    memset(partial, 0, (size_t)a->partial * sizeof *partial);
    int64_t b = task / a->tasks, first = task % a->tasks * a->queries, end = first + a->queries;
    if (end > a->args->queries) end = a->args->queries;
    for (int64_t i = first; i < end; i++) {
        draw(a, b, i, i == first, bits);
        backward_query(a, b, i, t, partial, bits);
    }
}

// The chunks' sums, in order, of one element of the batch.
static void join_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const Additive *a = argument;
    const AdditiveArgs *args = a->args;
    int64_t of_k = args->keys * args->units, of_v = args->keys * args->value_size;
    float *dk = args->dk + task * of_k, *dv = args->dv + task * of_v;
    for (int64_t chunk = 0; chunk < a->tasks; chunk++) {
        const float *partial = a->partials + (task * a->tasks + chunk) * a->partial;
        a->table->add(of_k, dk, partial, dk);
        a->table->add(of_v, dv, partial + of_k, dv);
    }
}

size_t hone_additive_backward_scratch(const KernelContext *kc, const AdditiveArgs *args) {
    Additive a = plan_backward(kc, args);
    int64_t floats = hone_pool_threads(kc->pool) * a.worker + args->batch * a.tasks * a.partial;
    return (size_t)floats * sizeof(float);
}

void hone_additive_backward(const KernelContext *kc, const AdditiveArgs *args, void *scratch) {
    Additive a = plan_backward(kc, args);
    a.workers = scratch;
    a.partials = a.workers + hone_pool_threads(kc->pool) * a.worker;
    int64_t chunks = args->batch * a.tasks, of_scale = a.partial - args->units;
    hone_pool_run(kc->pool, chunks, backward_task, &a);
    hone_pool_run(kc->pool, args->batch, join_task, &a);
    for (int64_t chunk = 0; chunk < chunks; chunk++) // few and short
        a.table->add(args->units, args->d_scale, a.partials + chunk * a.partial + of_scale,
                     args->d_scale);
}
