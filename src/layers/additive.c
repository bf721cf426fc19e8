// SPDX-License-Identifier: Apache-2.0
// Additive attention: options checked as attention's are, and the kernels of kernels/additive.c.
#include <inttypes.h>

#include <hone/layers.h>

#include "layers/arrays_apart.h"
#include "layers/attention_plan.h"

struct HoneAdditiveAttention {
    HoneContext *context;
    HoneAdditiveAttentionOptions options; // its arrays are not to be read
    AdditiveArgs args;                    // without the caller's addresses
    int32_t *intervals;                   // begin, end (keys) each, or NULL
    float *ones, *unused;                 // scale and its gradient where the caller has none
    float *lse;
    void *scratch;
    bool ran;
};

static hone_status check_sizes(const HoneAdditiveAttentionOptions *o, HoneError *err) {
    const struct {
        const char *name;
        int64_t size;
    } sizes[] = {{"units", o->units}, {"value_size", o->value_size}};
    for (int i = 0; i < 2; i++)
        if (sizes[i].size < 1 || sizes[i].size > INT32_MAX)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "additive attention: %s is %" PRId64 ", want 1…%d", sizes[i].name,
                             sizes[i].size, INT32_MAX);
    int64_t longest = o->queries > o->keys ? o->queries : o->keys, all;
    int64_t widest = o->units > o->value_size ? o->units : o->value_size;
    // Room for the partial sums of backward, and bytes.
    if (__builtin_mul_overflow(o->batch * longest, widest, &all) || all > INT64_MAX / 256)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "additive attention: batch %" PRId64 ", length %" PRId64 ", %" PRId64
                         " channels hold more values than can be counted",
                         o->batch, longest, widest);
    if (o->mask.head != 0 || o->mask.gradient)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "additive attention: mask.head is %" PRId64
                         ", mask.gradient is %d, want 0",
                         o->mask.head, o->mask.gradient);
    return HONE_OK;
}

static hone_status take(void **memory, int64_t count, const char *what, HoneError *err) {
    *memory = hone_calloc((size_t)count, sizeof(float));
    return *memory ? HONE_OK : hone_fail_memory(err, (size_t)count * sizeof(float), what);
}

static hone_status plan_intervals(HoneAdditiveAttention *layer, const HoneAttentionOptions *shape,
                                  HoneError *err) {
    if (shape->causal == HONE_CAUSAL_NONE && !shape->window && !shape->begin) return HONE_OK;
    void *memory;
    double pairs;
    RETURN_IF_ERROR(take(&memory, 2 * shape->keys, "the keys' intervals", err));
    layer->intervals = memory;
    hone_attention_visible(shape, layer->intervals, layer->intervals + shape->keys, &pairs);
    layer->args.begin = layer->intervals;
    layer->args.end = layer->intervals + shape->keys;
    return HONE_OK;
}

static hone_status build(HoneAdditiveAttention *layer, HoneError *err) {
    const HoneAdditiveAttentionOptions *o = &layer->options;
    // The same options in attention's words: one head, whose size does not matter.
    HoneAttentionOptions shape = {.batch = o->batch,
                                  .queries = o->queries,
                                  .keys = o->keys,
                                  .heads = 1,
                                  .head_size = 1,
                                  .causal = o->causal,
                                  .window = o->window,
                                  .begin = o->begin,
                                  .end = o->end,
                                  .mask = o->mask,
                                  .dropout = o->dropout,
                                  .weights = o->weights};
    RETURN_IF_ERROR(hone_attention_complete(&shape, err));
    RETURN_IF_ERROR(check_sizes(o, err));
    layer->args = (AdditiveArgs){.batch = o->batch,
                                 .queries = o->queries,
                                 .keys = o->keys,
                                 .units = o->units,
                                 .value_size = o->value_size,
                                 .dropout = o->dropout,
                                 .mask = {.boolean = o->mask.type == HONE_MASK_BOOLEAN,
                                          .batch = o->mask.batch,
                                          .query = o->mask.query,
                                          .key = o->mask.key}};
    RETURN_IF_ERROR(plan_intervals(layer, &shape, err));
    void *memory;
    RETURN_IF_ERROR(take(&memory, 2 * o->units, "the scale", err));
    layer->ones = memory;
    layer->unused = layer->ones + o->units;
    for (int64_t u = 0; u < o->units; u++) layer->ones[u] = 1;
    RETURN_IF_ERROR(take(&memory, o->batch * o->queries, "the log-sum-exp", err));
    layer->lse = memory;
    const KernelContext *kc = &layer->context->kernels;
    size_t forward = hone_additive_forward_scratch(kc, &layer->args);
    size_t backward = hone_additive_backward_scratch(kc, &layer->args);
    size_t bytes = forward > backward ? forward : backward;
    layer->scratch = hone_alloc(bytes);
    return layer->scratch ? HONE_OK : hone_fail_memory(err, bytes, "additive attention's scratch");
}

hone_status hone_additive_attention_create(HoneContext *context,
                                           const HoneAdditiveAttentionOptions *options,
                                           HoneAdditiveAttention **layer) {
    if (layer) *layer = NULL;
    if (!context || !context->kernels.table) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(context);
    if (!options || !layer)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "additive attention: %s is NULL",
                         options ? "the place for the layer" : "options");
    HoneAdditiveAttention *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "the layer");
    made->context = context;
    made->options = *options;
    hone_status status = build(made, err);
    if (status != HONE_OK) {
        hone_additive_attention_free(made);
        return status;
    }
    *layer = made;
    return HONE_OK;
}

void hone_additive_attention_free(HoneAdditiveAttention *layer) {
    if (!layer) return;
    hone_free(layer->intervals);
    hone_free(layer->ones);
    hone_free(layer->lse);
    hone_free(layer->scratch);
    hone_free(layer);
}

// ---- a call ------------------------------------------------------------------------------------

typedef struct ArrayCheck {
    const char *name;
    const void *array;
    bool wanted, empty; // an empty array may be NULL
} ArrayCheck;

static hone_status check_arrays(const ArrayCheck *checks, int count, HoneError *err) {
    for (int i = 0; i < count; i++) {
        const ArrayCheck *check = &checks[i];
        if (check->wanted ? check->array || check->empty : !check->array) continue;
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         check->wanted
                             ? "additive attention: %s is NULL"
                             : "additive attention: %s is given, and the options do not have it",
                         check->name);
    }
    return HONE_OK;
}

static hone_status check_common(const HoneAdditiveAttention *layer, const HoneAdditiveTensors *t,
                                HoneError *err) {
    const HoneAdditiveAttentionOptions *o = &layer->options;
    bool no_queries = o->batch * o->queries == 0, no_keys = o->batch * o->keys == 0;
    const ArrayCheck checks[] = {
        {"q", t->q, true, no_queries},
        {"k", t->k, true, no_keys},
        {"v", t->v, true, no_keys},
        {"o", t->o, true, no_queries},
        {"scale", t->scale, o->scaled, false},
        {"mask", t->mask, o->mask.type != HONE_MASK_NONE, no_queries || no_keys},
    };
    return check_arrays(checks, 6, err);
}

static hone_status check_apart(const HoneAdditiveAttention *layer, const HoneAdditiveTensors *t,
                               bool backward, HoneError *err) {
    const HoneAdditiveAttentionOptions *o = &layer->options;
    const int64_t queries = o->batch * o->queries, keys = o->batch * o->keys;
    const ArrayUse result = backward ? ARRAY_READ : ARRAY_WRITTEN;
    const PlainArray arrays[] = {
        {"q", t->q, queries * o->units, ARRAY_READ},
        {"k", t->k, keys * o->units, ARRAY_READ},
        {"v", t->v, keys * o->value_size, ARRAY_READ},
        {"scale", t->scale, o->units, ARRAY_READ},
        {"o", t->o, queries * o->value_size, result},
        {"weights", t->weights, queries * o->keys, result},
        {"d_o", t->d_o, queries * o->value_size, ARRAY_READ},
        {"dq", t->dq, queries * o->units, ARRAY_WRITTEN},
        {"dk", t->dk, keys * o->units, ARRAY_WRITTEN},
        {"dv", t->dv, keys * o->value_size, ARRAY_WRITTEN},
        {"d_scale", t->d_scale, o->units, ARRAY_WRITTEN},
    };
    enum { FORWARD = 6, ALL = sizeof arrays / sizeof *arrays };
    return hone_check_arrays_apart("additive attention", arrays, backward ? ALL : FORWARD, err);
}

static AdditiveArgs with_arrays(const HoneAdditiveAttention *layer, const HoneAdditiveTensors *t) {
    AdditiveArgs args = layer->args;
    args.q = t->q;
    args.k = t->k;
    args.v = t->v;
    args.scale = t->scale ? t->scale : layer->ones;
    args.mask.data = t->mask;
    args.seed = t->seed;
    args.o = t->o;
    args.lse = layer->lse;
    return args;
}

hone_status hone_additive_attention_forward(HoneAdditiveAttention *layer,
                                            const HoneAdditiveTensors *tensors) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    if (!tensors) return hone_fail(err, HONE_ERROR_ARGUMENT, "additive attention: tensors is NULL");
    RETURN_IF_ERROR(check_common(layer, tensors, err));
    const ArrayCheck weights = {"weights", tensors->weights, layer->options.weights, false};
    RETURN_IF_ERROR(check_arrays(&weights, 1, err));
    RETURN_IF_ERROR(check_apart(layer, tensors, false, err));
    AdditiveArgs args = with_arrays(layer, tensors);
    args.weights = tensors->weights;
    hone_additive_forward(&layer->context->kernels, &args, layer->scratch);
    layer->ran = true;
    return HONE_OK;
}

hone_status hone_additive_attention_backward(HoneAdditiveAttention *layer,
                                             const HoneAdditiveTensors *tensors) {
    if (!layer) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(layer->context);
    const HoneAdditiveTensors *t = tensors;
    if (!t) return hone_fail(err, HONE_ERROR_ARGUMENT, "additive attention: tensors is NULL");
    if (!layer->ran)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "additive attention: backward before any forward");
    RETURN_IF_ERROR(check_common(layer, t, err));
    const HoneAdditiveAttentionOptions *o = &layer->options;
    bool no_queries = o->batch * o->queries == 0, no_keys = o->batch * o->keys == 0;
    const ArrayCheck checks[] = {
        {"d_o", t->d_o, true, no_queries},
        {"dq", t->dq, true, no_queries},
        {"dk", t->dk, true, no_keys},
        {"dv", t->dv, true, no_keys},
        {"d_scale", t->d_scale, o->scaled, false},
    };
    RETURN_IF_ERROR(check_arrays(checks, 5, err));
    RETURN_IF_ERROR(check_apart(layer, t, true, err));
    AdditiveArgs args = with_arrays(layer, t);
    args.d_o = t->d_o;
    args.dq = t->dq;
    args.dk = t->dk;
    args.dv = t->dv;
    args.d_scale = t->d_scale ? t->d_scale : layer->unused;
    hone_additive_backward(&layer->context->kernels, &args, layer->scratch);
    return HONE_OK;
}
