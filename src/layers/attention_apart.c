// SPDX-License-Identifier: Apache-2.0
// Do the arrays of a call share memory? What is written must be apart from all the others, but may
// lie between their rows, as dq, dk and dv do that are columns of one array.
#include "layers/attention_plan.h"

enum {
    AXES = 4,
    MOST_SPANS = 16,
    MOST_VISITS = 10000, // of places tried for one pair: arrays laid out as people do need a few
};

// Runs of bytes at first + Σ x_i · stride_i, 0 ≤ x_i < count_i.
typedef struct Span {
    const char *name;
    const char *first;
    int64_t count[AXES], stride[AXES], run;
    bool written;
} Span;

typedef struct Spans {
    const HoneAttentionOptions *options;
    Span spans[MOST_SPANS];
    int count;
} Spans;

// A step of `stride` bytes that may be taken from `least` to `most` times.
typedef struct Step {
    int64_t stride, least, most;
} Step;

// ---- of two arrays -----------------------------------------------------------------------------

static int64_t divide_down(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

// Can steps, in order of falling strides, lead from `at` into [low, high]?
static bool reaches(const Step *steps, int count, int64_t at, int64_t low, int64_t high,
                    int *visits) {
    if (count == 0) return low <= at && at <= high;
    int64_t back = 0, forth = 0, stride = steps[0].stride; // what the other steps can do
    for (int i = 1; i < count; i++) {
        back += steps[i].least * steps[i].stride;
        forth += steps[i].most * steps[i].stride;
    }
    int64_t least = -divide_down(at + forth - low, stride);
    int64_t most = divide_down(high - at - back, stride);
    if (least < steps[0].least) least = steps[0].least;
    if (most > steps[0].most) most = steps[0].most;
    for (int64_t n = least; n <= most; n++) {
        if (--*visits < 0) return false;
        if (reaches(steps + 1, count - 1, at + n * stride, low, high, visits)) return true;
    }
    return false;
}

static void add_step(Step *steps, int *count, Step step) {
    int place = 0;
    while (place < *count && steps[place].stride > step.stride) place++;
    if (place < *count && steps[place].stride == step.stride) {
        steps[place].least += step.least;
        steps[place].most += step.most;
        return;
    }
    for (int i = (*count)++; i > place; i--) steps[i] = steps[i - 1];
    steps[place] = step;
}

static bool share(const Span *a, const Span *b) {
    Step steps[2 * AXES];
    int count = 0, visits = MOST_VISITS;
    for (int i = 0; i < AXES; i++) { // from a place of a to a place of b
        if (a->count[i] > 1 && a->stride[i] > 0)
            add_step(steps, &count, (Step){a->stride[i], 1 - a->count[i], 0});
        if (b->count[i] > 1 && b->stride[i] > 0)
            add_step(steps, &count, (Step){b->stride[i], 0, b->count[i] - 1});
    }
    int64_t between = (int64_t)((uintptr_t)b->first - (uintptr_t)a->first);
    return reaches(steps, count, between, 1 - b->run, a->run - 1, &visits);
}

// ---- of a call ---------------------------------------------------------------------------------

static void add_span(Spans *s, Span span) {
    bool empty = !span.first || span.run == 0;
    for (int i = 0; i < AXES; i++) empty = empty || span.count[i] == 0;
    if (!empty) s->spans[s->count++] = span;
}

static void add_view(Spans *s, const char *name, HoneConstView view, bool of_queries, int size,
                     int64_t element, bool written) {
    const HoneAttentionOptions *o = s->options;
    int64_t rows = of_queries ? o->queries : o->keys, heads = of_queries ? o->heads : o->kv_heads;
    Span span = {name, view.data, {o->batch, rows, heads, 1}, {0}, size * element, written};
    const int64_t stride[AXES] = {view.batch, view.row, view.head, 0};
    for (int i = 0; i < AXES; i++) // a stride that is not used may be any number
        if (span.count[i] > 1) span.stride[i] = stride[i] * element;
    add_span(s, span);
}

static void add_mask(Spans *s, const char *name, const void *data, bool written) {
    const HoneAttentionOptions *o = s->options;
    const HoneMask *mask = &o->mask;
    int64_t element = mask->type == HONE_MASK_BOOLEAN ? 1 : sizeof(float);
    Span span = {name, data, {o->batch, o->heads, o->queries, o->keys}, {0}, element, written};
    const int64_t stride[AXES] = {mask->batch, mask->head, mask->query, mask->key};
    for (int i = 0; i < AXES; i++)
        if (span.count[i] > 1) span.stride[i] = stride[i] * element;
    add_span(s, span);
}

static void add_array(Spans *s, const char *name, const void *data, int64_t bytes, bool written) {
    add_span(s, (Span){name, data, {1, 1, 1, 1}, {0}, bytes, written});
}

static HoneConstView as_const(HoneView view) {
    return (HoneConstView){view.data, view.batch, view.row, view.head};
}

static void add_both(Spans *s, const HoneAttentionTensors *t, bool backward) {
    const HoneAttentionOptions *o = s->options;
    int64_t element = o->element == HONE_ELEMENT_BF16 ? 2 : 4, number = sizeof(float);
    int64_t rows = o->batch * o->heads * o->queries;
    add_view(s, "q", t->q, true, o->head_size, element, false);
    add_view(s, "k", t->k, false, o->head_size, element, false);
    add_view(s, "v", t->v, false, o->value_size, element, false);
    add_view(s, "o", as_const(t->o), true, o->value_size, element, !backward);
    add_array(s, "lse", t->lse, rows * number, !backward);
    add_mask(s, "mask", t->mask, false);
    add_array(s, "sinks", t->sinks, o->heads * number, false);
}

static void add_backward(Spans *s, const HoneAttentionTensors *t) {
    const HoneAttentionOptions *o = s->options;
    int64_t element = o->element == HONE_ELEMENT_BF16 ? 2 : 4, number = sizeof(float);
    add_view(s, "d_o", t->d_o, true, o->value_size, element, false);
    add_view(s, "dq", as_const(t->dq), true, o->head_size, number, true);
    add_view(s, "dk", as_const(t->dk), false, o->head_size, number, true);
    add_view(s, "dv", as_const(t->dv), false, o->value_size, number, true);
    add_mask(s, "d_mask", t->d_mask, true);
    add_array(s, "d_sinks", t->d_sinks, o->heads * number, true);
}

hone_status hone_attention_check_apart(const HoneAttentionOptions *options,
                                       const HoneAttentionTensors *t, bool backward,
                                       HoneError *err) {
    Spans s = {.options = options};
    add_both(&s, t, backward);
    if (backward)
        add_backward(&s, t);
    else if (t->weights)
        add_array(&s, "weights", t->weights,
                  options->batch * options->heads * options->queries * options->keys *
                      (int64_t)sizeof(float),
                  true);
    for (int i = 0; i < s.count; i++)
        for (int j = i + 1; j < s.count; j++)
            if ((s.spans[i].written || s.spans[j].written) && share(&s.spans[i], &s.spans[j]))
                return hone_fail(err, HONE_ERROR_ARGUMENT,
                                 "attention: %s and %s share memory, and %s is written",
                                 s.spans[i].name, s.spans[j].name,
                                 s.spans[j].written ? s.spans[j].name : s.spans[i].name);
    return HONE_OK;
}
