// SPDX-License-Identifier: Apache-2.0
// Panels of queries meet keys: scores, their exponentials, and the weighted sum of the values.
#include <math.h>
#include <string.h>

#include "kernels/attention_forward.h"
#include "kernels/attention_modify.h"

KeySource hone_attention_given_keys(const Forward *f, int64_t stack) {
    const AttentionArgs *args = f->shape.args;
    return (KeySource){.K = {attention_key_row(&f->shape, args->k, stack, 0), args->k.row, 1},
                       .Vt = {attention_key_row(&f->shape, args->v, stack, 0), 1, args->v.row}};
}

PanelOperand hone_attention_keys_from(const KeySource *source, int64_t key) {
    const PanelOperand *K = &source->K;
    return (PanelOperand){K->data + (key - source->origin) * K->row, K->row, K->column};
}

static PanelOperand values_from(const KeySource *source, int64_t key) {
    const PanelOperand *Vt = &source->Vt;
    return (PanelOperand){Vt->data + (key - source->origin) * Vt->column, Vt->row, Vt->column};
}

// S = the products of panels' queries (gather_queries) and the keys [start, start + keys).
static void scores_product(const Forward *f, const KeySource *source, const Panels *panels,
                           int64_t start, int64_t keys, float *highest) {
    const AttentionArgs *args = f->shape.args;
    if (f->bf16) {
        const Bf16Rows *K = &source->K_bf16;
        f->table->product_bf16(
            &(PairProduct){.M = keys,
                           .pairs = attention_even(args->head_size) / 2,
                           .A = K->data + (start - source->origin) * K->row,
                           .row = K->row,
                           .B = (const uint16_t *)panels->Q,
                           .C = panels->S,
                           .ldc = HONE_PANEL,
                           .panels = panels->count,
                           .B_apart = 2 * args->head_size * HONE_PANEL, // a panel has room for f32
                           .C_apart = SCORES_APART,
                           .factor = args->scale,
                           .highest = highest});
    } else {
        f->table->product(&(PanelProduct){.M = keys,
                                          .K = args->head_size,
                                          .A = hone_attention_keys_from(source, start),
                                          .B = panels->Q,
                                          .ldb = HONE_PANEL,
                                          .C = panels->S,
                                          .ldc = HONE_PANEL,
                                          .panels = panels->count,
                                          .B_apart = args->head_size * HONE_PANEL,
                                          .C_apart = SCORES_APART,
                                          .highest = highest});
    }
}

// Where a panel's weights lie as pairs, for the product in bf16.
static uint16_t *weight_pairs(const Panels *panels, int n) {
    return (uint16_t *)(panels->scratch + PANELS * SCORES_APART) + n * SCORES_APART;
}

// O += Vᵀ · P, the weights P of the keys [start, start + keys) in S, or in bf16 as pairs already.
// There, with an odd number of keys, the value after them is met by a 0.
static void values_product(const Forward *f, const KeySource *source, const Panels *panels,
                           bool paired, int64_t start, int64_t keys) {
    int64_t E = f->shape.args->value_size;
    float *O = attention_state_at(panels->states).O;
    if (f->bf16) {
        uint16_t *P = weight_pairs(panels, 0);
        for (int n = 0; n < panels->count && !paired; n++)
            f->table->pack_pairs(keys, panels->S + n * SCORES_APART, HONE_PANEL,
                                 weight_pairs(panels, n));
        f->table->product_bf16(&(PairProduct){.M = E,
                                              .pairs = attention_even(keys) / 2,
                                              .A = source->Vt_bf16.data + start - source->origin,
                                              .row = source->Vt_bf16.row,
                                              .B = P,
                                              .C = O,
                                              .ldc = HONE_PANEL,
                                              .panels = panels->count,
                                              .B_apart = SCORES_APART,
                                              .C_apart = f->state,
                                              .factor = 1.0f,
                                              .accumulate = true});
    } else {
        int64_t together = source->V_apart ? HONE_PANEL : E;
        PanelProduct product = {.K = keys,
                                .A = values_from(source, start),
                                .B = panels->S,
                                .ldb = HONE_PANEL,
                                .C = O,
                                .ldc = HONE_PANEL,
                                .panels = panels->count,
                                .B_apart = SCORES_APART,
                                .C_apart = f->state,
                                .accumulate = true};
        for (int64_t c = 0; c < E; c += together) {
            product.M = E - c < together ? E - c : together;
            f->table->product(&product);
            product.A.data += source->V_apart;
            product.C += together * HONE_PANEL;
        }
    }
}

// The same for one panel, where some value is NaN or infinite and some weight has to leave it out.
static void sparse_values_product(const Forward *f, const Panels *panel, int64_t start,
                                  int64_t keys) {
    KeySource given = hone_attention_given_keys(f, panel->stack);
    hone_attention_sparse_product(f->shape.args->value_size, keys, values_from(&given, start),
                                  panel->S, HONE_PANEL, attention_state_at(panel->states).O,
                                  HONE_PANEL, true, false);
}

// Some of the panels. Their scores stay where they are.
static Panels some_panels(const Forward *f, const Panels *panels, int first, int count) {
    Panels some = {.stack = panels->stack,
                   .panel = panels->panel + first,
                   .count = count,
                   .Q = panels->Q + first * f->shape.args->head_size * HONE_PANEL,
                   .states = panels->states + first * f->state,
                   .S = panels->S + first * SCORES_APART,
                   .ahead = panels->ahead,
                   .scratch = panels->scratch};
    memcpy(some.range, panels->range + first, (size_t)count * sizeof *some.range);
    return some;
}

// What a lane's scores are shifted by: any finite number where it has seen no key yet keeps
// -infinity - shift from being NaN.
static void shift_of(const float maximum[HONE_PANEL], float shift[HONE_PANEL]) {
    for (int n = 0; n < HONE_PANEL; n++) shift[n] = maximum[n] == -INFINITY ? 0.0f : maximum[n];
}

void hone_attention_correction(const Forward *f, const float old[HONE_PANEL],
                               const float new[HONE_PANEL], float factor[HONE_PANEL]) {
    float shift[HONE_PANEL], unused[HONE_PANEL] = {0};
    PanelScores scores = {.S = factor, .ld = HONE_PANEL, .keys = 1};
    memcpy(factor, old, HONE_PANEL * sizeof *factor);
    shift_of(new, shift);
    f->table->exponent(&scores, shift, unused);
}

// What a lane's scores are shifted by need not be their maximum, only near enough to it for weights
// and their sum to stay in range. A maximum that is no more than a little above the old one leaves
// the old one in place, so that few steps multiply O. Returns whether some lane that has seen a key
// gets another.
static bool choose_shifts(const float old[HONE_PANEL], float new[HONE_PANEL]) {
    const float near = 4.0f; // e^4 = 55
    bool some = false;
    for (int n = 0; n < HONE_PANEL; n++) {
        bool seen = old[n] != -INFINITY, far = new[n] > old[n] + near;
        new[n] = (seen & !far) ? old[n] : new[n];
        some |= seen & far;
    }
    return some;
}

bool hone_attention_mask_and_maximum(const Forward *f, int64_t panel, PanelRange range,
                                     int64_t start, int64_t stop, float *S,
                                     float maximum[HONE_PANEL]) {
    const AttentionArgs *args = f->shape.args;
    int32_t query[HONE_PANEL];
    bool tested = false, test;
    for (int64_t key = start, next; key < stop; key = next) {
        next = hone_attention_test_run(&f->shape, range, key, stop, &test);
        if (test && !tested) hone_attention_lane_queries(&f->shape, panel, query);
        tested = tested || test;
        PanelScores scores = {.S = S + (key - start) * HONE_PANEL,
                              .ld = HONE_PANEL,
                              .keys = next - key,
                              .query = query,
                              .begin = test ? args->begin + key : NULL,
                              .end = test ? args->end + key : NULL};
        f->table->maximum(&scores, maximum);
    }
    return tested;
}

// Are the scores of a panel and the keys [start, stop) what the softmax takes, all of them?
static bool plain_scores(const Forward *f, PanelRange range, int64_t start, int64_t stop) {
    const AttentionArgs *args = f->shape.args;
    if (args->softcap > 0 || args->slopes || hone_attention_masked(args)) return false;
    bool test;
    return hone_attention_test_run(&f->shape, range, start, stop, &test) == stop && !test;
}

static bool values_finite(const Forward *f, int64_t stack, int64_t start, int64_t stop) {
    const uint8_t *infinite = f->infinite_values + stack * f->shape.strips;
    for (int64_t strip = start / STRIP; strip * STRIP < stop; strip++)
        if (infinite[strip]) return false;
    return true;
}

// One panel's part of a step between the products: its scores become weights of the keys [start,
// stop), in S or as pairs. plain: maximum is that of the scores already. Returns whether some score
// was tested.
static bool step_softmax(const Forward *f, const Panels *panels, int n, int64_t start, int64_t stop,
                         bool plain, bool paired, float maximum[HONE_PANEL]) {
    const AttentionArgs *args = f->shape.args;
    int64_t keys = stop - start, panel = panels->panel + n;
    PanelRange range = panels->range[n];
    PanelState state = attention_state_at(panels->states + n * f->state);
    float *S = panels->S + n * SCORES_APART, *bits_and_extra = panels->scratch + f->scores;
    ScoreTile tile = {&f->shape,   f->table, panels->stack, panel, start, keys,
                      range.lanes, S,        HONE_PANEL};
    bool tested = hone_attention_masked(args);
    if (!plain) {
        hone_attention_modify(&tile, NULL, NULL,
                              bits_and_extra + (args->dropout > 0 ? STEP_KEYS : 0));
        if (hone_attention_mask_and_maximum(f, panel, range, start, stop, S, maximum))
            tested = true;
    }
    float factor[HONE_PANEL], shift[HONE_PANEL];
    if (choose_shifts(state.maximum, maximum)) {
        hone_attention_correction(f, state.maximum, maximum, factor);
        f->table->rescale(args->value_size, factor, state.O);
        f->table->rescale(1, factor, state.sum);
    }
    memcpy(state.maximum, maximum, HONE_PANEL * sizeof *maximum);
    shift_of(maximum, shift);
    PanelScores scores = {.S = S, .ld = HONE_PANEL, .keys = keys};
    float sum[HONE_PANEL] = {0}; // of one step: what is small would be lost in the sum of all
    if (paired)
        f->table->exponent_bf16(&scores, shift, sum, weight_pairs(panels, n));
    else
        f->table->exponent(&scores, shift, sum);
    for (int l = 0; l < HONE_PANEL; l++) state.sum[l] += sum[l];
    if (args->dropout > 0) {
        uint16_t *bits = (uint16_t *)bits_and_extra;
        hone_attention_keep(&tile, bits, bits + STEP_KEYS);
        f->table->select(keys, S, HONE_PANEL, bits, hone_attention_keep_factor(args));
    }
    return tested;
}

// Panels meet the keys [start, stop), at most STEP_KEYS.
static void panels_step(const Forward *f, const KeySource *source, const Panels *panels,
                        int64_t start, int64_t stop) {
    int64_t keys = stop - start;
    float maximum[PANELS][HONE_PANEL];
    bool plain = true, sparse[PANELS], some = false;
    for (int n = 0; n < panels->count; n++) {
        memcpy(maximum[n], attention_state_at(panels->states + n * f->state).maximum,
               sizeof maximum[n]);
        plain = plain && plain_scores(f, panels->range[n], start, stop);
    }
    hone_attention_fetch(panels->ahead);
    scores_product(f, source, panels, start, keys, plain ? maximum[0] : NULL);
    // The value that an odd number of pairs reaches beyond the step.
    int64_t beyond = f->bf16 && f->hides && stop < f->shape.args->keys ? keys % 2 : 0;
    bool finite = !f->hides || values_finite(f, panels->stack, start, stop + beyond);
    bool paired = f->bf16 && f->table->exponent_bf16 && finite && !(f->shape.args->dropout > 0);
    for (int n = 0; n < panels->count; n++) {
        hone_attention_fetch(panels->ahead);
        bool tested = step_softmax(f, panels, n, start, stop, plain, paired, maximum[n]);
        sparse[n] = (tested || beyond) && !finite;
        some = some || sparse[n];
    }
    if (!some) {
        values_product(f, source, panels, paired, start, keys);
        return;
    }
    for (int n = 0; n < panels->count; n++) {
        Panels one = some_panels(f, panels, n, 1);
        if (sparse[n])
            sparse_values_product(f, &one, start, keys);
        else
            values_product(f, source, &one, false, start, keys);
    }
}

// Panels meet a run of keys, in steps of about the same length.
static void panels_run(const Forward *f, const KeySource *source, const Panels *panels,
                       int64_t start, int64_t stop) {
    int64_t steps = attention_ceiling(stop - start, f->step);
    int64_t step = attention_ceiling(stop - start, steps);
    step = attention_ceiling(step, f->tile) * f->tile;
    for (int64_t next; start < stop; start = next) {
        next = start + step < stop ? start + step : stop;
        panels_step(f, source, panels, start, next);
    }
}

void hone_attention_meet(const Forward *f, const KeySource *source, const Panels *panels,
                         int64_t start, int64_t end) {
    int64_t from[PANELS], to[PANELS];
    for (int n = 0; n < panels->count; n++) {
        from[n] = start;
        if (!hone_attention_next_keys(&f->shape, panels->range[n], end, &from[n], &to[n]))
            from[n] = to[n] = end;
    }
    PanelGroup group;
    while (hone_attention_next_group(panels->count, from, to, &group)) {
        Panels some = some_panels(f, panels, group.first, group.count);
        panels_run(f, source, &some, group.start, group.stop);
        for (int n = group.first; n < group.first + group.count; n++)
            if (from[n] == to[n] &&
                !hone_attention_next_keys(&f->shape, panels->range[n], end, &from[n], &to[n]))
                from[n] = to[n] = end;
    }
}
