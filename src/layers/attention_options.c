// SPDX-License-Identifier: Apache-2.0
// What can be wrong with the options of attention and with the arrays of a call, in words.
#include <float.h>
#include <inttypes.h>
#include <math.h>

#include "layers/attention_plan.h"

enum { LARGEST_HEAD = 256, MOST_HEADS = 1 << 20 };

static hone_status check_size(const char *name, int64_t size, int64_t least, int64_t most,
                              HoneError *err) {
    if (size >= least && size <= most) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "attention: %s is %" PRId64 ", want %" PRId64 "…%" PRId64, name, size, least,
                     most);
}

static hone_status check_shape(const HoneAttentionOptions *o, HoneError *err) {
    RETURN_IF_ERROR(check_size("batch", o->batch, 0, INT32_MAX, err));
    RETURN_IF_ERROR(check_size("queries", o->queries, 0, INT32_MAX, err));
    RETURN_IF_ERROR(check_size("keys", o->keys, 0, INT32_MAX, err));
    RETURN_IF_ERROR(check_size("heads", o->heads, 1, MOST_HEADS, err));
    RETURN_IF_ERROR(check_size("kv_heads", o->kv_heads, 1, o->heads, err));
    if (o->heads % o->kv_heads != 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: heads is %d, kv_heads is %d: it does not divide them",
                         o->heads, o->kv_heads);
    RETURN_IF_ERROR(check_size("head_size", o->head_size, 1, LARGEST_HEAD, err));
    RETURN_IF_ERROR(check_size("value_size", o->value_size, 1, LARGEST_HEAD, err));
    // The kernels count bytes in 64 bits: the largest tensor, with room for scratch of many times
    // its size, and the weights must be countable.
    int64_t longest = o->queries > o->keys ? o->queries : o->keys, rows, all;
    int64_t row = o->weights ? longest : 0;
    if (row < LARGEST_HEAD) row = LARGEST_HEAD;
    if (__builtin_mul_overflow(o->batch, longest * o->heads, &rows) ||
        __builtin_mul_overflow(rows, row * 1024, &all))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: batch %" PRId64 ", %d heads, queries %" PRId64
                         ", keys %" PRId64 " hold more values than can be counted",
                         o->batch, o->heads, o->queries, o->keys);
    return HONE_OK;
}

static hone_status check_numbers(const HoneAttentionOptions *o, HoneError *err) {
    if (!isfinite(o->scale))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "attention: scale is %g, want a finite number",
                         (double)o->scale);
    if (o->softcap != 0 && !(isnormal(o->softcap) && o->softcap > 0)) // 1 / softcap is taken
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: softcap is %g, want a finite number of at least %g (0: none)",
                         (double)o->softcap, (double)FLT_MIN);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: dropout is %g, want 0 or more and less than 1",
                         (double)o->dropout);
    if (o->window < 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: window is %" PRId64 ", want 1 or more keys (0: none)",
                         o->window);
    if (o->element != HONE_ELEMENT_F32 && o->element != HONE_ELEMENT_BF16)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: element is %d, want HONE_ELEMENT_F32 or _BF16",
                         (int)o->element);
    if ((unsigned)o->causal > HONE_CAUSAL_BOTTOM_RIGHT)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: causal is %d, want HONE_CAUSAL_NONE, _TOP_LEFT or "
                         "_BOTTOM_RIGHT",
                         (int)o->causal);
    for (int h = 0; o->slopes && h < o->heads; h++)
        if (!isfinite(o->slopes[h]))
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "attention: slopes[%d] is %g, want a finite number", h,
                             (double)o->slopes[h]);
    return HONE_OK;
}

static hone_status check_intervals(const HoneAttentionOptions *o, HoneError *err) {
    if (!o->begin != !o->end)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: %s is NULL and %s is not: intervals need both",
                         o->begin ? "end" : "begin", o->begin ? "begin" : "end");
    for (int64_t key = 0; o->begin && key < o->keys; key++)
        if (o->begin[key] < 0 || o->end[key] > o->queries || o->end[key] < 0 ||
            o->begin[key] > o->queries)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "attention: key %" PRId64 " is seen by the queries %d to %d, want "
                             "numbers in 0…%" PRId64,
                             key, o->begin[key], o->end[key], o->queries);
    return HONE_OK;
}

// ---- strides -----------------------------------------------------------------------------------

typedef struct Axis {
    int64_t count, stride;
} Axis;

// The elements from the first to the last of an array that is not empty; false: too many to count.
static bool extent(const Axis axes[4], int64_t *elements) {
    *elements = 1;
    for (int i = 0; i < 4; i++) {
        int64_t length;
        if (__builtin_mul_overflow(axes[i].count - 1, axes[i].stride, &length) ||
            __builtin_add_overflow(*elements, length, elements))
            return false;
    }
    return *elements <= INT64_MAX / 16;
}

static bool is_empty(const Axis axes[4]) {
    for (int i = 0; i < 4; i++)
        if (axes[i].count == 0) return true;
    return false;
}

// Each step along an axis passes all that the axes of smaller strides reach. Strides of 0 count as
// overlap, unless `repeats`.
static bool overlaps(const Axis axes[4], bool repeats) {
    Axis sorted[4];
    for (int i = 0; i < 4; i++) {
        int place = i;
        for (; place > 0 && sorted[place - 1].stride > axes[i].stride; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = axes[i];
    }
    int64_t reached = 0; // beyond the first element
    for (int i = 0; i < 4; i++) {
        if (sorted[i].count == 1 || (sorted[i].stride == 0 && repeats)) continue;
        if (sorted[i].stride <= reached) return true;
        reached += (sorted[i].count - 1) * sorted[i].stride;
    }
    return false;
}

static hone_status check_mask(const HoneAttentionOptions *o, HoneError *err) {
    const HoneMask *mask = &o->mask;
    if ((unsigned)mask->type > HONE_MASK_FLOAT)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: mask.type is %d, want HONE_MASK_NONE, _BOOLEAN or _FLOAT",
                         (int)mask->type);
    if (mask->gradient && mask->type != HONE_MASK_FLOAT)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: mask.gradient is wanted of %s: only a float mask has one",
                         mask->type == HONE_MASK_BOOLEAN ? "a boolean mask" : "no mask");
    if (mask->type == HONE_MASK_NONE) return HONE_OK;
    const Axis axes[4] = {{o->batch, mask->batch},
                          {o->heads, mask->head},
                          {o->queries, mask->query},
                          {o->keys, mask->key}};
    for (int i = 0; i < 4; i++)
        if (axes[i].stride < 0)
            return hone_fail(err, HONE_ERROR_ARGUMENT,
                             "attention: the mask's strides are %" PRId64 ", %" PRId64 ", %" PRId64
                             ", %" PRId64 ": none may be negative",
                             mask->batch, mask->head, mask->query, mask->key);
    if (is_empty(axes)) return HONE_OK;
    int64_t needed;
    if (!extent(axes, &needed) || needed > mask->elements)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: a mask of %" PRId64 " elements with strides %" PRId64
                         ", %" PRId64 ", %" PRId64 ", %" PRId64 " does not hold (%" PRId64
                         ", %d, %" PRId64 ", %" PRId64 ")",
                         mask->elements, mask->batch, mask->head, mask->query, mask->key, o->batch,
                         o->heads, o->queries, o->keys);
    if (mask->gradient && overlaps(axes, true))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: a mask with strides %" PRId64 ", %" PRId64 ", %" PRId64
                         ", %" PRId64 " overlaps itself: no gradient can be given",
                         mask->batch, mask->head, mask->query, mask->key);
    return HONE_OK;
}

hone_status hone_attention_complete(HoneAttentionOptions *options, HoneError *err) {
    if (options->kv_heads == 0) options->kv_heads = options->heads;
    if (options->value_size == 0) options->value_size = options->head_size;
    RETURN_IF_ERROR(check_shape(options, err));
    if (options->scale == 0) options->scale = (float)(1 / sqrt((double)options->head_size));
    RETURN_IF_ERROR(check_numbers(options, err));
    RETURN_IF_ERROR(check_intervals(options, err));
    return check_mask(options, err);
}

hone_status hone_attention_check_view(const char *name, HoneConstView view, const int64_t shape[4],
                                      bool written, HoneError *err) {
    const Axis axes[4] = {
        {shape[0], view.batch}, {shape[1], view.row}, {shape[2], view.head}, {shape[3], 1}};
    if (is_empty(axes)) return HONE_OK;
    if (!view.data)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "attention: %s is NULL, want (%" PRId64 ", %" PRId64 ", %" PRId64
                         ", %" PRId64 ")",
                         name, shape[0], shape[1], shape[2], shape[3]);
    const char *fault = NULL;
    int64_t elements;
    if (view.batch < 0 || view.row < 0 || view.head < 0)
        fault = "none may be negative";
    else if (!extent(axes, &elements))
        fault = "they reach further than can be counted";
    else if (written && overlaps(axes, false))
        fault = "its elements overlap";
    if (!fault) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "attention: %s (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
                     ") has the strides %" PRId64 ", %" PRId64 ", %" PRId64 ": %s",
                     name, shape[0], shape[1], shape[2], shape[3], view.batch, view.row, view.head,
                     fault);
}
