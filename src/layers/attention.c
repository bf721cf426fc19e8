// SPDX-License-Identifier: Apache-2.0
// The public operator of attention: a plan, and the kernels run by it.
#include <inttypes.h>
#include <math.h>

#include "base/dtype.h"
#include "layers/attention_plan.h"

HoneView hone_view(void *data, int64_t rows, int64_t heads, int64_t size) {
    return (HoneView){data, rows * heads * size, heads * size, size};
}

HoneConstView hone_const_view(const void *data, int64_t rows, int64_t heads, int64_t size) {
    return (HoneConstView){data, rows * heads * size, heads * size, size};
}

void hone_alibi_slopes(int heads, float *slopes) {
    int power = 1;
    while (power <= heads / 2) power *= 2;
    for (int h = 0; h < heads; h++) {
        // Slopes of `power` heads, then those of 2·power that are not among them.
        double exponent = h < power ? (double)(h + 1) / power : (h - power + 0.5) / power;
        slopes[h] = (float)exp2(-8 * exponent);
    }
}

// ---- the plan ----------------------------------------------------------------------------------

static hone_status take(void **memory, size_t count, size_t size, const char *what,
                        HoneError *err) {
    size_t bytes = 0;
    *memory = hone_size_product(count, size, &bytes) ? hone_alloc(bytes) : NULL;
    return *memory ? HONE_OK : hone_fail_memory(err, bytes, what);
}

static hone_status plan_intervals(HoneAttention *plan, HoneError *err) {
    HoneAttentionOptions *options = &plan->options;
    size_t keys = (size_t)options->keys;
    double pairs = (double)options->queries * (double)options->keys;
    if (options->causal != HONE_CAUSAL_NONE || options->window || options->begin) {
        void *memory;
        RETURN_IF_ERROR(take(&memory, keys, 2 * sizeof(int32_t), "the keys' intervals", err));
        plan->intervals = memory;
        if (!hone_attention_visible(options, plan->intervals, plan->intervals + keys, &pairs)) {
            hone_free(plan->intervals); // every query sees every key: no tests are needed
            plan->intervals = NULL;
        }
    }
    plan->pairs = pairs * options->heads * (double)options->batch;
    options->begin = plan->intervals;
    options->end = plan->intervals ? plan->intervals + keys : NULL;
    return HONE_OK;
}

static hone_status plan_slopes(HoneAttention *plan, HoneError *err) {
    HoneAttentionOptions *options = &plan->options;
    if (!options->slopes) return HONE_OK;
    void *memory;
    RETURN_IF_ERROR(take(&memory, (size_t)options->heads, sizeof(float), "the slopes", err));
    plan->slopes = memory;
    for (int h = 0; h < options->heads; h++) plan->slopes[h] = options->slopes[h];
    options->slopes = plan->slopes;
    return HONE_OK;
}

static AttentionArgs plan_args(const HoneAttentionOptions *options) {
    const HoneMask *mask = &options->mask;
    return (AttentionArgs){
        .batch = options->batch,
        .queries = options->queries,
        .keys = options->keys,
        .heads = options->heads,
        .kv_heads = options->kv_heads,
        .head_size = options->head_size,
        .value_size = options->value_size,
        .dtype = options->element == HONE_ELEMENT_BF16 ? HONE_BF16 : HONE_F32,
        .scale = options->scale,
        .begin = options->begin,
        .end = options->end,
        .mask = {.boolean = mask->type == HONE_MASK_BOOLEAN,
                 .batch = mask->batch,
                 .head = mask->head,
                 .query = mask->query,
                 .key = mask->key},
        .slopes = options->slopes,
        .offset = hone_attention_offset(options),
        .softcap = options->softcap,
        .dropout = options->dropout,
    };
}

// No query: there is nothing to write, and no kernel is asked.
static bool is_empty(const HoneAttention *plan) {
    return plan->options.batch == 0 || plan->options.queries == 0;
}

// The kernels' scratch depends on which arrays there will be, not on where they lie.
static hone_status plan_scratch(HoneAttention *plan, HoneError *err) {
    const HoneAttentionOptions *options = &plan->options;
    const KernelContext *kc = &plan->context->kernels;
    AttentionArgs args = plan->args;
    float somewhere, *array = &somewhere;
    args.lse = array;
    if (options->mask.type != HONE_MASK_NONE) args.mask.data = array;
    if (options->sinks) args.sinks = array;
    if (options->weights) args.weights = array;
    if (!is_empty(plan)) plan->forward_bytes = hone_attention_forward_scratch(kc, &args);
    if (options->mask.gradient) args.d_mask = array;
    if (options->sinks) args.d_sinks = array;
    args.weights = NULL;
    if (!is_empty(plan) && !options->forward_only)
        plan->backward_bytes = hone_attention_backward_scratch(kc, &args);
    size_t bytes =
        plan->forward_bytes > plan->backward_bytes ? plan->forward_bytes : plan->backward_bytes;
    RETURN_IF_ERROR(take(&plan->scratch, bytes, 1, "attention's scratch", err));
    void *memory;
    size_t rows = (size_t)(options->batch * options->heads * options->queries);
    RETURN_IF_ERROR(take(&memory, rows, sizeof *plan->lse, "the log-sum-exp", err));
    plan->lse = memory;
    return HONE_OK;
}

static hone_status describe(HoneAttention *plan, HoneError *err) {
    const HoneAttentionOptions *o = &plan->options;
    TextBuffer *text = &plan->path;
    hone_text_printf(text, "fused %s, %s kernels, %d:%d heads",
                     o->element == HONE_ELEMENT_BF16 ? "bf16" : "f32",
                     hone_kernel_table_name(plan->context->kernels.table), o->heads, o->kv_heads);
    if (plan->intervals) {
        double all = (double)o->queries * (double)o->keys * o->heads * (double)o->batch;
        hone_text_printf(text, ", intervals with %.3g%% of the pairs",
                         all > 0 ? 100 * plan->pairs / all : 0.0);
    } else {
        hone_text_puts(text, ", all pairs");
    }
    if (!is_empty(plan)) {
        AttentionKeys keys = hone_attention_forward_keys(&plan->context->kernels, &plan->args);
        if (keys.bf16) hone_text_puts(text, ", bf16 arithmetic");
        hone_text_puts(text, keys.packed ? ", keys packed" : ", keys where they lie");
        if (keys.parts > 1) hone_text_printf(text, " in %" PRId64 " parts", keys.parts);
    }
    if (o->mask.type != HONE_MASK_NONE)
        hone_text_printf(text, ", %s mask%s", o->mask.type == HONE_MASK_FLOAT ? "float" : "boolean",
                         o->mask.gradient ? " and its gradient" : "");
    if (o->slopes) hone_text_puts(text, ", ALiBi");
    if (o->softcap > 0) hone_text_printf(text, ", soft-cap %g", (double)o->softcap);
    if (o->sinks) hone_text_puts(text, ", sinks");
    if (o->dropout > 0) hone_text_printf(text, ", dropout %g", (double)o->dropout);
    if (o->weights) hone_text_puts(text, ", weights out");
    return text->failed ? hone_fail_memory(err, 0, "attention's description") : HONE_OK;
}

static hone_status make_plan(HoneAttention *plan, HoneError *err) {
    RETURN_IF_ERROR(hone_attention_complete(&plan->options, err));
    RETURN_IF_ERROR(plan_intervals(plan, err));
    RETURN_IF_ERROR(plan_slopes(plan, err));
    plan->args = plan_args(&plan->options);
    RETURN_IF_ERROR(plan_scratch(plan, err));
    return describe(plan, err);
}

hone_status hone_attention_create(HoneContext *context, const HoneAttentionOptions *options,
                                  HoneAttention **attention) {
    if (attention) *attention = NULL;
    if (!context || !context->kernels.table) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(context);
    if (!options || !attention)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "attention: %s is NULL",
                         options ? "the place for the plan" : "options");
    HoneAttention *plan = hone_calloc(1, sizeof *plan);
    if (!plan) return hone_fail_memory(err, sizeof *plan, "attention's plan");
    plan->context = context;
    plan->options = *options;
    hone_status status = make_plan(plan, err);
    if (status != HONE_OK) {
        hone_attention_free(plan);
        return status;
    }
    *attention = plan;
    return HONE_OK;
}

void hone_attention_free(HoneAttention *attention) {
    if (!attention) return;
    hone_free(attention->intervals);
    hone_free(attention->slopes);
    hone_free(attention->lse);
    hone_free(attention->scratch);
    hone_text_free(&attention->path);
    hone_free(attention);
}

void hone_attention_info(const HoneAttention *attention, HoneAttentionInfo *info) {
    double D = attention->options.head_size, E = attention->options.value_size;
    *info = (HoneAttentionInfo){
        .path = attention->path.data,
        .pairs = attention->pairs,
        .flops_forward = attention->pairs * (2 * D + 2 * E),
        .flops_backward = attention->pairs * (6 * D + 4 * E),
        .scratch_forward = attention->forward_bytes,
        .scratch_backward = attention->backward_bytes,
    };
}

// ---- a call ------------------------------------------------------------------------------------

// The kernels' contract says which views are read only; their type does not.
static AttentionView readable(HoneConstView view) {
    return (AttentionView){(void *)(uintptr_t)view.data, view.row, view.head, view.batch};
}

static AttentionView writable(HoneView view) {
    return (AttentionView){view.data, view.row, view.head, view.batch};
}

static HoneConstView as_const(HoneView view) {
    return (HoneConstView){view.data, view.batch, view.row, view.head};
}

// An array that is there when the options ask for it, and only then.
static hone_status check_array(const char *name, const void *array, bool wanted, HoneError *err) {
    if (!array == !wanted) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     wanted ? "attention: %s is NULL, and the plan's options ask for it"
                            : "attention: %s is given, and the plan's options do not have it",
                     name);
}

typedef struct ViewCheck {
    const char *name;
    HoneConstView view;
    int64_t rows, heads, size;
    bool written;
} ViewCheck;

static hone_status check_views(const HoneAttention *plan, const ViewCheck *checks, int count,
                               HoneError *err) {
    for (int i = 0; i < count; i++) {
        const ViewCheck *check = &checks[i];
        const int64_t shape[4] = {plan->options.batch, check->rows, check->heads, check->size};
        RETURN_IF_ERROR(
            hone_attention_check_view(check->name, check->view, shape, check->written, err));
    }
    return HONE_OK;
}

// What both passes are given. o is written by forward.
static hone_status check_common(const HoneAttention *plan, const HoneAttentionTensors *t,
                                bool forward, HoneError *err) {
    const HoneAttentionOptions *o = &plan->options;
    const ViewCheck views[] = {
        {"q", t->q, o->queries, o->heads, o->head_size, false},
        {"k", t->k, o->keys, o->kv_heads, o->head_size, false},
        {"v", t->v, o->keys, o->kv_heads, o->value_size, false},
        {"o", as_const(t->o), o->queries, o->heads, o->value_size, forward},
    };
    RETURN_IF_ERROR(check_views(plan, views, 4, err));
    RETURN_IF_ERROR(check_array("mask", t->mask, o->mask.type != HONE_MASK_NONE, err));
    return check_array("sinks", t->sinks, o->sinks, err);
}

AttentionArgs hone_attention_args(const HoneAttention *plan, const HoneAttentionTensors *t,
                                  bool backward) {
    AttentionArgs args = plan->args;
    args.q = readable(t->q);
    args.k = readable(t->k);
    args.v = readable(t->v);
    args.o = writable(t->o);
    args.lse = t->lse ? t->lse : plan->lse;
    args.mask.data = t->mask;
    args.sinks = t->sinks;
    args.seed = t->seed;
    args.weights = backward ? NULL : t->weights;
    if (!backward) return args;
    args.d_o = readable(t->d_o);
    args.dq = writable(t->dq);
    args.dk = writable(t->dk);
    args.dv = writable(t->dv);
    args.d_mask = t->d_mask;
    args.d_sinks = t->d_sinks;
    return args;
}

hone_status hone_attend(HoneAttention *attention, const HoneAttentionTensors *tensors) {
    if (!attention) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(attention->context);
    if (!tensors) return hone_fail(err, HONE_ERROR_ARGUMENT, "attention: tensors is NULL");
    RETURN_IF_ERROR(check_common(attention, tensors, true, err));
    RETURN_IF_ERROR(check_array("weights", tensors->weights, attention->options.weights, err));
    RETURN_IF_ERROR(hone_attention_check_apart(&attention->options, tensors, false, err));
    AttentionArgs args = hone_attention_args(attention, tensors, false);
    if (!is_empty(attention))
        hone_attention_forward(&attention->context->kernels, &args, attention->scratch);
    return HONE_OK;
}

hone_status hone_attend_backward(HoneAttention *attention, const HoneAttentionTensors *tensors) {
    if (!attention) return HONE_ERROR_ARGUMENT;
    HoneError *err = hone_begin(attention->context);
    const HoneAttentionTensors *t = tensors;
    const HoneAttentionOptions *o = &attention->options;
    if (!t) return hone_fail(err, HONE_ERROR_ARGUMENT, "attention: tensors is NULL");
    if (o->forward_only)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: the plan was made with forward_only: it has no backward");
    RETURN_IF_ERROR(check_common(attention, t, false, err));
    const ViewCheck views[] = {
        {"d_o", t->d_o, o->queries, o->heads, o->value_size, false},
        {"dq", as_const(t->dq), o->queries, o->heads, o->head_size, true},
        {"dk", as_const(t->dk), o->keys, o->kv_heads, o->head_size, true},
        {"dv", as_const(t->dv), o->keys, o->kv_heads, o->value_size, true},
    };
    RETURN_IF_ERROR(check_views(attention, views, 4, err));
    RETURN_IF_ERROR(check_array("lse", t->lse, true, err));
    RETURN_IF_ERROR(check_array("d_mask", t->d_mask, o->mask.gradient, err));
    RETURN_IF_ERROR(check_array("d_sinks", t->d_sinks, o->sinks, err));
    RETURN_IF_ERROR(hone_attention_check_apart(o, t, true, err));
    AttentionArgs args = hone_attention_args(attention, t, true);
    if (!is_empty(attention) || (args.overwrites && o->batch > 0))
        hone_attention_backward(&attention->context->kernels, &args, attention->scratch);
    return HONE_OK;
}
