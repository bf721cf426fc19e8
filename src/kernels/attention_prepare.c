// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_backward.h"
#include "kernels/attention_math.h"

#include <math.h>
#include <string.h>

// ---- rows whose lse says too little -----------------------------------------------------------

// The products of the queries of the panel at `row` and keys [start, start + keys) into S, to the
// bit as the main pass has them. keys_bf16: (keys, even D) scratch in bf16.
static void products_again(const Backward *b, int64_t stack, int64_t row, int64_t start,
                           int64_t keys, float *S, uint16_t *keys_bf16) {
    const AttentionArgs *args = b->shape.args;
    if (b->bf16) {
        int64_t even = attention_even(b->D);
        hone_attention_narrow_keys(b->table, &b->shape, args->k, stack, start, start + keys, b->D,
                                   keys_bf16);
        b->table->product_bf16(&(PairProduct){.M = keys,
                                              .pairs = even / 2,
                                              .A = keys_bf16,
                                              .row = even,
                                              .B = b->pairs.Q + row * even,
                                              .C = S,
                                              .ldc = HONE_PANEL,
                                              .panels = 1,
                                              .factor = args->scale});
    } else {
        PanelOperand K = {attention_key_row(&b->shape, args->k, stack, start), args->k.row, 1};
        b->table->product(&(PanelProduct){.M = keys,
                                          .K = b->D,
                                          .A = K,
                                          .B = b->Q + row * b->D,
                                          .ldb = HONE_PANEL,
                                          .C = S,
                                          .ldc = HONE_PANEL,
                                          .panels = 1});
    }
}

// A lane's scores for the keys [start, stop) of one panel, as the softmax takes them, into S.
static void scores_again(const Backward *b, int64_t stack, int64_t slot, int64_t panel,
                         int64_t start, int64_t stop, float *S, float *extra) {
    const AttentionArgs *args = b->shape.args;
    int64_t rows = slot * b->padded + panel * HONE_PANEL;
    PanelRange range = hone_attention_panel_range(&b->shape, panel);
    int32_t query[HONE_PANEL];
    hone_attention_lane_queries(&b->shape, panel, query);
    products_again(b, stack, rows, start, stop - start, S,
                   (uint16_t *)(S + b->block_keys * HONE_PANEL));
    ScoreTile tile = {&b->shape,    b->table,    stack, panel,     start,
                      stop - start, range.lanes, S,     HONE_PANEL};
    hone_attention_modify(&tile, NULL, NULL, extra);
    if (!args->begin) return;
    float unused[HONE_PANEL];
    for (int n = 0; n < HONE_PANEL; n++) unused[n] = -INFINITY;
    PanelScores scores = {.S = S,
                          .ld = HONE_PANEL,
                          .keys = stop - start,
                          .query = query,
                          .begin = args->begin + start,
                          .end = args->end + start};
    b->table->maximum(&scores, unused);
}

static void normalise_panel(const Backward *b, int64_t stack, int64_t slot, int64_t panel, float *S,
                            float *extra) {
    int64_t row = slot * b->padded + panel * HONE_PANEL, step = b->block_keys;
    const AttentionArgs *args = b->shape.args;
    bool large = false;
    for (int n = 0; n < HONE_PANEL; n++) {
        b->norm[row + n] = 1.0f;
        large = large ||
                (fabsf(b->lse[row + n]) >= HONE_LSE_EXACT && fabsf(b->lse[row + n]) < INFINITY);
    }
    b->normed[slot * b->shape.panels + panel] = large;
    if (!large) return;
    float sum[HONE_PANEL] = {0};
    for (int64_t start = 0; start < args->keys; start += step) {
        int64_t stop = start + step < args->keys ? start + step : args->keys;
        scores_again(b, stack, slot, panel, start, stop, S, extra);
        for (int64_t k = 0; k < stop - start; k++)
            for (int n = 0; n < HONE_PANEL; n++)
                sum[n] += exp_flushed(fminf(S[k * HONE_PANEL + n] - b->lse[row + n], 0.0f));
    }
    float sink[HONE_PANEL];
    hone_attention_lane_sinks(&b->shape, stack, panel, sink);
    for (int n = 0; n < HONE_PANEL; n++) {
        if (fabsf(b->lse[row + n]) < HONE_LSE_EXACT) continue;
        sum[n] += exp_flushed(fminf(sink[n] - b->lse[row + n], 0.0f));
        if (sum[n] > 0) b->norm[row + n] = 1.0f / sum[n];
    }
}

// The scores go where a task of the main pass would keep P.
static void normalise_with(const Backward *b, int64_t stack, int64_t slot, int64_t panel,
                           int worker) {
    float *S = b->workers + worker % b->threads * b->worker;
    normalise_panel(b, stack, slot, panel, S, S + b->worker - b->extra);
}

void hone_attention_normalise_panels(void *argument, int64_t task, int worker) {
    const Backward *b = argument;
    int64_t stack = task / b->shape.panels;
    normalise_with(b, stack, stack, task % b->shape.panels, worker);
}

// ---- preparation -------------------------------------------------------------------------------

// q or d_o (size) of the panel at `row` of a slot's rows, packed twice. scratch: rows or columns of
// a panel.
static void pack_pairs(const Backward *b, int64_t slot, int64_t row, int64_t size, int lanes,
                       float *const x[HONE_PANEL], uint16_t *pairs, uint16_t *columns,
                       float *scratch) {
    int64_t rows = slot * b->padded, wide = attention_ceiling(size, HONE_PANEL) * HONE_PANEL;
    hone_attention_gather_pairs(b->table, size, lanes, x,
                                pairs + (rows + row) * attention_even(size), scratch);
    hone_attention_pair_columns(b->table, size, x, columns + rows * wide + row * HONE_PANEL,
                                b->padded * HONE_PANEL, scratch);
}

// q, d_o, lse and D of one panel, packed for all the products. worker: whose scratch is free.
static void prepare_panel(Backward *b, int64_t stack, int64_t slot, int64_t panel, int worker) {
    const AttentionArgs *args = b->shape.args;
    PanelRange range = hone_attention_panel_range(&b->shape, panel);
    int64_t rows = slot * b->padded, row = panel * HONE_PANEL;
    float *q[HONE_PANEL], *o[HONE_PANEL], *d_o[HONE_PANEL];
    hone_attention_lane_rows(&b->shape, stack, panel, args->q, q);
    hone_attention_lane_rows(&b->shape, stack, panel, args->o, o);
    hone_attention_lane_rows(&b->shape, stack, panel, args->d_o, d_o);
    if (b->bf16) {
        float *scratch = b->workers + worker % b->threads * b->worker;
        const Bf16Queries *to = &b->pairs;
        pack_pairs(b, slot, row, b->D, range.lanes, q, to->Q, to->Q_columns, scratch);
        pack_pairs(b, slot, row, b->E, range.lanes, d_o, to->dO, to->dO_columns, scratch);
    } else {
        const float *sources[HONE_PANEL];
        for (int n = 0; n < HONE_PANEL; n++) sources[n] = q[n];
        b->table->gather(b->D, range.lanes, sources, args->scale, b->Q + (rows + row) * b->D,
                         HONE_PANEL);
        for (int n = 0; n < HONE_PANEL; n++) sources[n] = d_o[n];
        b->table->gather(b->E, range.lanes, sources, 1.0f, b->dO + (rows + row) * b->E, HONE_PANEL);
        for (int n = 0; n < HONE_PANEL; n++) {
            int64_t line = (row + n) * HONE_PANEL, apart = b->padded * HONE_PANEL;
            attention_pack_columns(b->D, q[n],
                                   b->Q_columns + rows * b->D_columns * HONE_PANEL + line, apart);
            attention_pack_columns(b->E, d_o[n],
                                   b->dO_columns + rows * b->E_columns * HONE_PANEL + line, apart);
        }
    }
    bool finite = true;
    for (int n = 0; n < HONE_PANEL; n++) {
        int64_t line = attention_lane_place(&b->shape, stack, panel, n).row;
        float lse = n < range.lanes ? args->lse[line] : 0.0f;
        // A query that sees no key: any finite lse keeps its masked probabilities from being NaN.
        b->lse[rows + row + n] = lse == -INFINITY ? 0.0f : lse;
        b->product_sum[rows + row + n] = n < range.lanes ? b->table->dot(b->E, d_o[n], o[n]) : 0.0f;
        if (b->infinite_rows && n < range.lanes)
            finite = finite && b->table->finite(b->D, q[n]) && b->table->finite(b->E, d_o[n]);
    }
    if (b->infinite_rows) b->infinite_rows[slot * b->shape.panels + panel] = !finite;
}

void hone_attention_prepare_queries(void *argument, int64_t task, int worker) {
    Backward *b = argument;
    int64_t blocks = attention_ceiling(b->shape.panels, BLOCK_PANELS);
    int64_t panel = task % blocks * BLOCK_PANELS;
    for (int p = 0; p < BLOCK_PANELS && panel < b->shape.panels; p++, panel++)
        prepare_panel(b, task / blocks, task / blocks, panel, worker);
}

void hone_attention_prepare_stack(Backward *b, int64_t stack, int64_t slot, int worker) {
    for (int64_t panel = 0; panel < b->shape.panels; panel++)
        prepare_panel(b, stack, slot, panel, worker);
    for (int64_t panel = 0; b->modifies && panel < b->shape.panels; panel++)
        normalise_with(b, stack, slot, panel, worker);
}
