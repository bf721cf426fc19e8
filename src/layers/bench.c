// SPDX-License-Identifier: Apache-2.0
#include <hone/bench.h>

#include <string.h>

#include "base/memory.h"
#include "base/quantile.h"
#include "base/random.h"
#include "base/system.h"
#include "layers/attention_plan.h"

enum {
    LEAST_TURNS = 5,
    MOST_TURNS = 100000,
    LAYER_RUNS = 16, // of the layer in a turn: one alone would mostly measure waking threads
};

// Seconds of each turn's two runs, and the peak beside them.
typedef struct Turns {
    double *forward, *backward, *peak;
    int64_t count;
} Turns;

static hone_status make_turns(Turns *turns, HoneError *err) {
    size_t bytes = MOST_TURNS * sizeof(double);
    *turns = (Turns){hone_alloc(bytes), hone_alloc(bytes), hone_alloc(bytes), 0};
    if (turns->forward && turns->backward && turns->peak) return HONE_OK;
    return hone_fail_memory(err, 3 * bytes, "the turns of a benchmark");
}

static void free_turns(Turns *turns) {
    hone_free(turns->forward);
    hone_free(turns->backward);
    hone_free(turns->peak);
}

static void conclude(Turns *turns, double forward, double backward, double bytes,
                     HoneSpeed *speed) {
    speed->turns = turns->count;
    speed->forward_seconds = hone_quantile(turns->forward, turns->count, 0.5);
    speed->backward_seconds = hone_quantile(turns->backward, turns->count, 0.5);
    speed->peak_flops = hone_quantile(turns->peak, turns->count, 0.5);
    speed->forward_flops = forward / speed->forward_seconds;
    if (speed->backward_seconds > 0) speed->backward_flops = backward / speed->backward_seconds;
    speed->forward_bytes = bytes / speed->forward_seconds;
}

// ---- attention ---------------------------------------------------------------------------------

enum { ARRAYS = 13 };

typedef struct Inputs {
    void *arrays[ARRAYS];
    int count;
    HoneAttentionTensors tensors;
} Inputs;

static void *add_array(Inputs *inputs, int64_t count, HoneElement element, float spread) {
    float *x = hone_alloc((size_t)(count ? count : 1) * sizeof *x);
    if (!x) return NULL;
    inputs->arrays[inputs->count++] = x;
    RandomStream random = hone_random_stream(1, RANDOM_TEST, (uint64_t)inputs->count);
    for (int64_t i = 0; i < count; i++)
        x[i] = spread > 0 ? spread * hone_random_normal(&random) : 0;
    if (element == HONE_ELEMENT_BF16) hone_quantise(HONE_BF16, x, x, count, NULL); // front to back
    return x;
}

static hone_status make_inputs(const HoneAttentionOptions *o, Inputs *inputs, HoneError *err) {
    int64_t rows = o->batch * o->queries * o->heads, key_rows = o->batch * o->keys * o->kv_heads;
    int64_t D = o->head_size, E = o->value_size, H = o->heads, K = o->kv_heads;
    HoneElement type = o->element;
    HoneAttentionTensors *t = &inputs->tensors;
    t->q = hone_const_view(add_array(inputs, rows * D, type, 1), o->queries, H, D);
    t->k = hone_const_view(add_array(inputs, key_rows * D, type, 1), o->keys, K, D);
    t->v = hone_const_view(add_array(inputs, key_rows * E, type, 1), o->keys, K, E);
    t->o = hone_view(add_array(inputs, rows * E, type, 0), o->queries, H, E);
    t->d_o = hone_const_view(add_array(inputs, rows * E, type, 1), o->queries, H, E);
    t->dq = hone_view(add_array(inputs, rows * D, HONE_ELEMENT_F32, 0), o->queries, H, D);
    t->dk = hone_view(add_array(inputs, key_rows * D, HONE_ELEMENT_F32, 0), o->keys, K, D);
    t->dv = hone_view(add_array(inputs, key_rows * E, HONE_ELEMENT_F32, 0), o->keys, K, E);
    t->lse = add_array(inputs, rows, HONE_ELEMENT_F32, 0);
    int wanted = 9;
    if (o->mask.type != HONE_MASK_NONE) {
        float *mask = add_array(inputs, o->mask.elements, HONE_ELEMENT_F32, 0);
        if (mask && o->mask.type == HONE_MASK_BOOLEAN) memset(mask, 1, (size_t)o->mask.elements);
        t->mask = mask;
        wanted++;
    }
    if (o->mask.gradient) {
        t->d_mask = add_array(inputs, o->mask.elements, HONE_ELEMENT_F32, 0);
        wanted++;
    }
    if (o->sinks) {
        t->sinks = add_array(inputs, H, HONE_ELEMENT_F32, 1);
        t->d_sinks = add_array(inputs, H, HONE_ELEMENT_F32, 0);
        wanted += 2;
    }
    if (inputs->count == wanted) return HONE_OK;
    return hone_fail_memory(err, (size_t)(rows + key_rows) * (size_t)(D + E) * 8, "inputs");
}

static hone_status attention_turns(HoneAttention *attention, const HoneAttentionTensors *tensors,
                                   double seconds, Turns *turns) {
    const KernelContext *kc = &attention->context->kernels;
    bool bf16 = hone_attention_forward_keys(kc, &attention->args).bf16;
    double end = hone_seconds() + seconds;
    for (int64_t i = -1; i < MOST_TURNS; i++) { // the first warms up
        if (i >= LEAST_TURNS && hone_seconds() > end) break;
        double peak = hone_kernel_peak(kc, bf16, 1), start = hone_seconds();
        RETURN_IF_ERROR(hone_attend(attention, tensors));
        double middle = hone_seconds();
        if (!attention->options.forward_only)
            RETURN_IF_ERROR(hone_attend_backward(attention, tensors));
        double stop = hone_seconds();
        if (i < 0) continue;
        turns->forward[i] = middle - start;
        turns->backward[i] = attention->options.forward_only ? 0 : stop - middle;
        turns->peak[i] = peak;
        turns->count = i + 1;
    }
    return HONE_OK;
}

hone_status hone_bench_attention(HoneContext *context, const HoneAttentionOptions *options,
                                 double seconds, HoneSpeed *speed) {
    HoneAttention *attention = NULL;
    Inputs inputs = {0};
    Turns turns = {0};
    *speed = (HoneSpeed){0};
    if (options->weights)
        return hone_fail(hone_begin(context), HONE_ERROR_ARGUMENT,
                         "the benchmark does not write weights");
    hone_status status = hone_attention_create(context, options, &attention);
    HoneError *err = &context->error;
    if (status == HONE_OK) status = make_inputs(&attention->options, &inputs, err);
    if (status == HONE_OK) status = make_turns(&turns, err);
    if (status == HONE_OK) status = attention_turns(attention, &inputs.tensors, seconds, &turns);
    if (status == HONE_OK) {
        HoneAttentionInfo info;
        hone_attention_info(attention, &info);
        const HoneAttentionOptions *o = &attention->options;
        double bytes = (double)(o->batch * o->keys * o->kv_heads) * (o->head_size + o->value_size) *
                       (o->element == HONE_ELEMENT_BF16 ? 2 : 4);
        conclude(&turns, info.flops_forward, info.flops_backward, bytes, speed);
    }
    free_turns(&turns);
    for (int i = 0; i < inputs.count; i++) hone_free(inputs.arrays[i]);
    hone_attention_free(attention);
    return status;
}

// ---- the one-head layer ------------------------------------------------------------------------

static hone_status layer_turns(HoneContext *context, HoneSelfAttention *layer, float *const x[3],
                               double seconds, Turns *turns) {
    double end = hone_seconds() + seconds;
    for (int64_t i = -1; i < MOST_TURNS; i++) {
        if (i >= LEAST_TURNS && hone_seconds() > end) break;
        double peak = hone_kernel_peak(&context->kernels, false, 1), start = hone_seconds();
        for (int run = 0; run < LAYER_RUNS; run++)
            RETURN_IF_ERROR(hone_self_attention_forward(layer, x[0], x[1]));
        double middle = hone_seconds();
        for (int run = 0; run < LAYER_RUNS; run++)
            RETURN_IF_ERROR(hone_self_attention_backward(layer, x[0], x[1], x[2], NULL));
        double stop = hone_seconds();
        if (i < 0) continue;
        turns->forward[i] = (middle - start) / LAYER_RUNS;
        turns->backward[i] = (stop - middle) / LAYER_RUNS;
        turns->peak[i] = peak;
        turns->count = i + 1;
    }
    return HONE_OK;
}

hone_status hone_bench_self_attention(HoneContext *context, const HoneSelfAttentionOptions *options,
                                      double seconds, HoneSpeed *speed) {
    HoneSelfAttention *layer = NULL;
    Inputs inputs = {0};
    Turns turns = {0};
    *speed = (HoneSpeed){0};
    hone_status status = hone_self_attention_create(context, options, &layer);
    if (status != HONE_OK) return status;
    double rows = (double)options->batch * (double)options->length, units = options->units;
    double pairs = rows * (double)options->length;
    double projections = 6 * rows * (double)options->channels * units;
    int64_t wide = (int64_t)rows * options->units;
    float *x[3] = {add_array(&inputs, (int64_t)rows * options->channels, HONE_ELEMENT_F32, 1),
                   add_array(&inputs, wide, HONE_ELEMENT_F32, 0),
                   add_array(&inputs, wide, HONE_ELEMENT_F32, 1)};
    HoneError *err = &context->error;
    status = inputs.count == 3 ? make_turns(&turns, err)
                               : hone_fail_memory(err, (size_t)wide * 12, "inputs");
    if (status == HONE_OK) status = layer_turns(context, layer, x, seconds, &turns);
    if (status == HONE_OK)
        conclude(&turns, projections + 4 * pairs * units, projections + 10 * pairs * units,
                 8 * rows * units, speed);
    free_turns(&turns);
    for (int i = 0; i < inputs.count; i++) hone_free(inputs.arrays[i]);
    hone_self_attention_free(layer);
    return status;
}

// ---- matrix product ----------------------------------------------------------------------------

static hone_status check_product(int64_t M, int64_t N, int64_t K, const char *type, int dtype,
                                 HoneError *err) {
    if (dtype < 0 || !hone_dtype_is_weight(dtype))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "\"%s\" is no type of weights", type);
    const int64_t most = 1 << 20;
    if (M < 1 || N < 1 || K < 1 || M > most || N > most || K > most)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "sizes %lld, %lld, %lld: each of M, N, K is 1 to %lld", (long long)M,
                         (long long)N, (long long)K, (long long)most);
    int block = hone_dtype_info(dtype)->block;
    if (K % block)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "K is %lld: rows of %s come in blocks of %d",
                         (long long)K, type, block);
    return HONE_OK;
}

hone_status hone_bench_matmul(HoneContext *context, int64_t M, int64_t N, int64_t K,
                              const char *type, double seconds, HoneSpeed *speed) {
    HoneError *err = hone_begin(context);
    int dtype = hone_dtype_from_name(type);
    *speed = (HoneSpeed){0};
    RETURN_IF_ERROR(check_product(M, N, K, type, dtype, err));
    size_t bytes = hone_dtype_bytes(dtype, N * K);
    MatmulArgs args = {.M = M, .N = N, .K = K, .lda = K, .b_type = dtype, .ldb = K, .ldc = N};
    args.b_transposed = true;
    args.alpha = 1;
    const KernelContext *kc = &context->kernels;
    float *A = hone_alloc((size_t)(M * K) * sizeof *A),
          *C = hone_alloc((size_t)(M * N) * sizeof *C);
    void *B = hone_alloc(bytes), *scratch = hone_alloc(hone_matmul_scratch(kc, &args));
    Turns turns = {0};
    hone_status status = A && B && C && scratch
                             ? make_turns(&turns, err)
                             : hone_fail_memory(err, bytes + (size_t)(M * (N + K)) * 4, "matrices");
    if (status == HONE_OK) {
        args.A = A;
        args.B = B;
        args.C = C;
        for (int64_t i = 0; i < M * K; i++) A[i] = (float)(i % 17) - 8;
        memset(B, 0x21, bytes); // small scales and quants of any type
        double end = hone_seconds() + seconds;
        for (int64_t i = -1; i < MOST_TURNS; i++) {
            if (i >= LEAST_TURNS && hone_seconds() > end) break;
            double peak = hone_kernel_peak(kc, false, 1), start = hone_seconds();
            hone_matmul(kc, &args, scratch);
            double stop = hone_seconds();
            if (i < 0) continue;
            turns.forward[i] = stop - start;
            turns.backward[i] = 0;
            turns.peak[i] = peak;
            turns.count = i + 1;
        }
        conclude(&turns, 2.0 * (double)M * (double)N * (double)K, 0, (double)bytes, speed);
    }
    free_turns(&turns);
    hone_free(A);
    hone_free(B);
    hone_free(C);
    hone_free(scratch);
    return status;
}
