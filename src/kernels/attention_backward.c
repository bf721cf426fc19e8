// SPDX-License-Identifier: Apache-2.0
// The backward pass. With D_i = Σ_c dO_ic · O_ic and p_ij computed again from lse:
//     dV_j += Σ_i p_ij · dO_i ;  dS_ij = p_ij · (dO_i · V_j − D_i)
//     dK_j += scale · Σ_i dS_ij · Q_i ;  dQ_i += scale · Σ_j dS_ij · K_j
// A task owns a chunk of the keys of one key/value head: dK and dV are its alone, dQ goes to a
// buffer of the chunk, and the chunks are added in order at the end. The number of chunks comes
// from the shape: the same bits on any number of threads.
#include "kernels/attention_block.h"
#include "kernels/attention_math.h"

#include <math.h>
#include <string.h>

enum {
    MOST_TASKS = 16,  // chunks of all key/value heads aimed at: memory grows with them
    CHUNK_KEYS = 256, // at least, so that dQ's buffers stay small beside the work
    MASK_CHUNKS = 8,  // where one task adds up a part of the mask's gradient over all stacks
};

// A panel of a block of queries, and the keys [start, stop) of the key block outside which it sees
// none, counted from the block's first.
typedef struct PanelPart {
    PanelRange range;
    int64_t start, stop;
} PanelPart;

// Do the stacks share elements of the mask's gradient?
static bool sums_over_stacks(const AttentionArgs *args) {
    return args->d_mask && ((args->batch > 1 && args->mask.batch == 0) ||
                            (args->kv_heads > 1 && args->mask.head == 0));
}

static size_t lay_out(Backward *b, const KernelContext *kc, const AttentionArgs *args,
                      char *scratch) {
    *b = (Backward){.shape = hone_attention_shape(args), .table = &kc->table->attention};
    const AttentionShape *shape = &b->shape;
    b->D = args->head_size;
    b->E = args->value_size;
    b->D_columns = attention_ceiling(b->D, HONE_PANEL);
    b->E_columns = attention_ceiling(b->E, HONE_PANEL);
    int64_t stacks = shape->stacks, larger = b->D > b->E ? b->D : b->E;
    b->block_keys = larger <= 64 ? BLOCK_KEYS : BLOCK_KEYS / 2;
    b->chunks = attention_ceiling(MOST_TASKS, stacks);
    if (sums_over_stacks(args)) b->chunks = MASK_CHUNKS;
    if (b->chunks > attention_ceiling(args->keys, CHUNK_KEYS))
        b->chunks = attention_ceiling(args->keys, CHUNK_KEYS);
    if (b->chunks < 1) b->chunks = 1;
    b->chunk_keys =
        attention_ceiling(attention_ceiling(args->keys, b->chunks), b->block_keys) * b->block_keys;
    b->padded = shape->panels * HONE_PANEL;
    b->bf16 = hone_attention_in_bf16(b->table, shape);
    b->hides = args->begin || hone_attention_may_mask(args);
    b->modifies = args->softcap > 0 || args->slopes || hone_attention_may_mask(args);
    b->extra = hone_attention_modify_floats(args, b->block_keys);
    b->tasks_of_stacks = sums_over_stacks(args) ? 1 : stacks;
    b->tasks = args->d_mask && args->mask.key == 0 ? 1 : b->chunks;
    b->threads = hone_pool_threads(kc->pool);
    // The sinks' gradients read what was packed of all stacks.
    b->whole_stacks = b->tasks_of_stacks == stacks && !args->d_sinks &&
                      (b->chunks == 1 || attention_whole_stacks(stacks, b->threads));
    b->slots = b->whole_stacks && b->threads < stacks ? b->threads : stacks;

    ScratchCursor cursor = {scratch, 0};
    if (args->begin)
        b->bounds = hone_attention_take(&cursor, (size_t)shape->strips, sizeof *b->bounds);
    if (b->hides)
        b->infinite_rows = hone_attention_take(&cursor, (size_t)(b->slots * shape->panels), 1);
    size_t rows = (size_t)(b->slots * b->padded), floats = sizeof(float);
    hone_attention_take_queries(b, &cursor);
    b->lse = hone_attention_take(&cursor, rows, floats);
    b->product_sum = hone_attention_take(&cursor, rows, floats);
    if (b->modifies) {
        b->norm = hone_attention_take(&cursor, rows, floats);
        b->normed = hone_attention_take(&cursor, (size_t)(b->slots * shape->panels), 1);
    }
    b->touched = hone_attention_take(&cursor, (size_t)(b->slots * b->chunks * shape->panels), 1);
    b->dQ = hone_attention_take(&cursor, rows * (size_t)(b->chunks * b->D), floats);
    b->worker = hone_attention_block_packed(b) +
                b->block_keys * (2 * SCORES_LD + (b->D_columns + b->E_columns) * HONE_PANEL);
    b->worker += b->extra + (b->modifies ? b->block_keys * HONE_PANEL : 0) + 2 * b->block_keys;
    b->workers = hone_attention_take(&cursor, (size_t)(b->worker * b->threads), floats);
    b->shape.bounds = b->bounds;
    return hone_attention_scratch_bytes(&cursor);
}

// After the softmax: what a mask hides weighs nothing, whatever stands there; the mask's gradient;
// through the soft-cap to the product.
static void finish_scores(const Backward *b, const KeyBlock *block, const ScoreTile *tile, float *P,
                          float *dS) {
    const AttentionArgs *args = b->shape.args;
    bool hides = false;
    for (int64_t k = 0; hone_attention_masked(args) && k < tile->keys; k++)
        hides = hides || block->visible[k] != 0xffff;
    if (hides) {
        b->table->select(tile->keys, P, SCORES_LD, block->visible, 1.0f);
        b->table->select(tile->keys, dS, SCORES_LD, block->visible, 1.0f);
    }
    if (b->normed[block->slot * b->shape.panels + tile->panel]) {
        const float *norm = b->norm + block->slot * b->padded + tile->panel * HONE_PANEL;
        for (int64_t k = 0; k < tile->keys; k++)
            for (int n = 0; n < HONE_PANEL; n++) {
                P[k * SCORES_LD + n] *= norm[n];
                dS[k * SCORES_LD + n] *= norm[n];
            }
    }
    if (args->d_mask) {
        ScoreTile gradient = *tile;
        gradient.S = dS;
        hone_attention_mask_gradient(&gradient, block->extra);
    }
    if (args->softcap > 0)
        b->table->softcap_gradient(tile->keys, dS, SCORES_LD, block->capped, args->softcap);
}

// p and dS of one panel for the keys it sees, from their products.
static void panel_scores(const Backward *b, const KeyBlock *block, int64_t panel,
                         const PanelPart *part, int column) {
    const AttentionArgs *args = b->shape.args;
    int64_t rows = block->slot * b->padded + panel * HONE_PANEL, keys = part->stop - part->start;
    float *P = block->P + part->start * SCORES_LD + column * HONE_PANEL;
    float *dS = block->dS + part->start * SCORES_LD + column * HONE_PANEL;
    ScoreTile tile = {.shape = &b->shape,
                      .table = b->table,
                      .stack = block->stack,
                      .panel = panel,
                      .start = block->start + part->start,
                      .keys = keys,
                      .lanes = part->range.lanes,
                      .S = P,
                      .ld = SCORES_LD};
    hone_attention_modify(&tile, block->capped, block->visible, block->extra);
    if (args->dropout > 0) {
        hone_attention_keep(&tile, block->kept, block->draws);
        b->table->select(keys, dS, SCORES_LD, block->kept, hone_attention_keep_factor(args));
    }
    int32_t query[HONE_PANEL];
    if (b->bounds) hone_attention_lane_queries(&b->shape, panel, query);
    int64_t start = block->start + part->start, stop = block->start + part->stop;
    for (int64_t key = start, next; key < stop; key = next) {
        bool test;
        next = hone_attention_test_run(&b->shape, part->range, key, stop, &test);
        int64_t offset = (key - start) * SCORES_LD;
        PanelScores scores = {.S = P + offset,
                              .ld = SCORES_LD,
                              .keys = next - key,
                              .query = query,
                              .begin = test ? args->begin + key : NULL,
                              .end = test ? args->end + key : NULL};
        const float *lse = b->lse + rows, *D = b->product_sum + rows;
        if (block->rounded)
            b->table->gradient_bf16(&scores, dS + offset, lse, D,
                                    block->narrow.P + (scores.S - block->P),
                                    block->narrow.dS + (scores.S - block->P));
        else
            b->table->gradient(&scores, dS + offset, lse, D);
    }
    if (b->modifies) finish_scores(b, block, &tile, P, dS);
    if (args->dropout > 0)
        b->table->select(keys, P, SCORES_LD, block->kept, hone_attention_keep_factor(args));
}

// The panels [*from, *to) between the first and the last that see some of the keys [key, stop).
static void key_panels(const PanelPart *parts, int panels, int64_t key, int64_t stop, int *from,
                       int *to) {
    *from = *to = 0;
    for (int p = panels - 1; p >= 0; p--)
        if (parts[p].start < stop && key < parts[p].stop) {
            *from = p;
            if (*to == 0) *to = p + 1;
        }
}

// Zeros where panels [from, to) do not see keys [key, stop) and nothing was computed.
static void zero_unseen(const KeyBlock *block, const PanelPart *parts, int from, int to,
                        int64_t key, int64_t stop) {
    for (int p = from; p < to; p++) {
        if (parts[p].start <= key && stop <= parts[p].stop) continue;
        for (int64_t j = key; j < stop; j++) {
            if (parts[p].start <= j && j < parts[p].stop) continue;
            const int64_t place = j * SCORES_LD + p * HONE_PANEL;
            if (block->rounded) {
                memset(block->narrow.P + place, 0, HONE_PANEL * sizeof *block->narrow.P);
                memset(block->narrow.dS + place, 0, HONE_PANEL * sizeof *block->narrow.dS);
            } else {
                memset(block->P + place, 0, HONE_PANEL * sizeof *block->P);
                memset(block->dS + place, 0, HONE_PANEL * sizeof *block->dS);
            }
        }
    }
}

// dV += pᵀ·dO and dK += dSᵀ·Q of a block of queries, each run of four keys with just its own
// panels.
static void add_key_gradients(const Backward *b, KeyBlock *block, int64_t panel,
                              const PanelPart *parts, int panels, bool sparse) {
    for (int64_t key = 0, next; key < block->keys; key = next) {
        int from, to, next_from, next_to;
        key_panels(parts, panels, key, key + 4, &from, &to);
        for (next = key + 4; next < block->keys; next += 4) {
            key_panels(parts, panels, next, next + 4, &next_from, &next_to);
            if (next_from != from || next_to != to) break;
        }
        if (next > block->keys) next = block->keys;
        if (from == to) continue;
        zero_unseen(block, parts, from, to, key, next);
        KeyRun run = {key, next, from, to, panel};
        hone_attention_add_to_keys(b, block, &run, sparse);
    }
}

static void panel_keys(const Backward *b, const KeyBlock *block, PanelPart *part) {
    int64_t start = block->start, stop, end = block->start + block->keys;
    if (!hone_attention_next_keys(&b->shape, part->range, end, &start, &stop)) return;
    part->start = start - block->start;
    do {
        part->stop = stop - block->start;
        start = stop;
    } while (hone_attention_next_keys(&b->shape, part->range, end, &start, &stop));
}

typedef struct BlockPair {
    const Backward *b;
    KeyBlock *block;
    int64_t panel; // the first
    int panels;
    PanelPart parts[BLOCK_PANELS];
    bool sparse;
} BlockPair;

static void score_products(const BlockPair *pair, int p, int panels, int64_t start, int64_t stop) {
    const Backward *b = pair->b;
    int64_t row = pair->block->slot * b->padded + (pair->panel + p) * HONE_PANEL;
    int64_t offset = start * SCORES_LD + p * HONE_PANEL;
    hone_attention_fetch(&pair->block->ahead);
    hone_attention_score_products(b, pair->block, row, panels, start, stop, pair->block->P + offset,
                                  pair->block->dS + offset);
}

static void query_products(const BlockPair *pair, int p, int panels, int64_t start, int64_t stop) {
    hone_attention_fetch(&pair->block->ahead);
    hone_attention_add_to_queries(pair->b, pair->block, pair->panel + p, panels, p, start, stop,
                                  pair->sparse);
}

// Each panel with the keys it sees, neighbours together where they see the same.
static void each_part(const BlockPair *pair, void (*work)(const BlockPair *pair, int p, int panels,
                                                          int64_t start, int64_t stop)) {
    int most = pair->b->table->product_panels;
    for (int p = 0; p < pair->panels; p += most) {
        int64_t from[HONE_MOST_PANELS], to[HONE_MOST_PANELS];
        int count = attention_few(pair->panels - p, most);
        for (int n = 0; n < count; n++) {
            from[n] = pair->parts[p + n].start;
            to[n] = pair->parts[p + n].stop;
        }
        PanelGroup group;
        while (hone_attention_next_group(count, from, to, &group))
            work(pair, p + group.first, group.count, group.start, group.stop);
    }
}

// One block of keys meets the panels [panel, panel + panels).
static void block_pair(const Backward *b, KeyBlock *block, int64_t panel, int panels) {
    BlockPair pair = {b, block, panel, panels, .sparse = b->hides && block->infinite};
    for (int p = 0; p < panels; p++) {
        PanelRange range = hone_attention_panel_range(&b->shape, panel + p);
        pair.parts[p] = (PanelPart){.range = range};
        panel_keys(b, block, &pair.parts[p]);
        // Between two panels that see a key, zeros meet the rows of one that sees none.
        if (b->hides && b->infinite_rows[block->slot * b->shape.panels + panel + p])
            pair.sparse = true;
    }
    block->rounded = b->bf16 && b->table->gradient_bf16 && !pair.sparse && !b->modifies &&
                     !(b->shape.args->dropout > 0);
    each_part(&pair, score_products);
    for (int p = 0; p < panels; p++) {
        hone_attention_fetch(&block->ahead);
        if (pair.parts[p].start < pair.parts[p].stop)
            panel_scores(b, block, panel + p, &pair.parts[p], p);
    }
    add_key_gradients(b, block, panel, pair.parts, panels, pair.sparse);
    each_part(&pair, query_products);
}

// The panels that may see some key of the block: [*from, *to).
static void live_panels(const AttentionShape *shape, const KeyBlock *block, int64_t *from,
                        int64_t *to) {
    *from = 0;
    *to = shape->panels;
    if (!shape->bounds) return;
    int64_t first = shape->args->queries, end = 0;
    for (int64_t key = block->start; key < block->start + block->keys; key += STRIP) {
        const StripBounds *s = &shape->bounds[key / STRIP];
        if (s->begin_least < first) first = s->begin_least;
        if (s->end_most > end) end = s->end_most;
    }
    if (first < 0) first = 0;
    if (end > shape->args->queries) end = shape->args->queries;
    *from = first * shape->group / HONE_PANEL;
    *to = attention_ceiling(end * shape->group, HONE_PANEL);
}

static void add_to_gradients(const Backward *b, const KeyBlock *block) {
    const AttentionArgs *args = b->shape.args;
    for (int64_t j = 0; j < block->keys; j++) {
        int64_t key = block->start + j;
        float *dk = attention_key_row(&b->shape, args->dk, block->stack, key);
        float *dv = attention_key_row(&b->shape, args->dv, block->stack, key);
        const float *dK = block->dK + j * b->D_columns * HONE_PANEL;
        const float *dV = block->dV + j * b->E_columns * HONE_PANEL;
        if (args->overwrites) {
            for (int64_t c = 0; c < b->D; c++) dk[c] = args->scale * dK[c];
            memcpy(dv, dV, (size_t)b->E * sizeof *dv);
            continue;
        }
        for (int64_t c = 0; c < b->D; c++) dk[c] += args->scale * dK[c];
        for (int64_t c = 0; c < b->E; c++) dv[c] += dV[c];
    }
}

// dk and dv of keys that no query sees.
static void clear_keys(const Backward *b, int64_t stack, int64_t start, int64_t end) {
    const AttentionArgs *args = b->shape.args;
    for (int64_t key = start; key < end && args->overwrites; key++) {
        memset(attention_key_row(&b->shape, args->dk, stack, key), 0, (size_t)b->D * sizeof(float));
        memset(attention_key_row(&b->shape, args->dv, stack, key), 0, (size_t)b->E * sizeof(float));
    }
}

// What is needed when a block of keys has met its queries: its gradients, the next block's keys,
// and a part of the next stack's queries; dq behind the last block. The next stack that the worker
// will do is a guess.
static void look_ahead(const Backward *b, KeyBlock *block, int64_t panels) {
    const AttentionArgs *args = b->shape.args;
    Ahead *ahead = &block->ahead;
    *ahead = (Ahead){.shape = &b->shape};
    if (!b->whole_stacks) return;
    int D = args->head_size, E = args->value_size;
    int64_t stack = block->stack, start = block->start, end = start + block->keys;
    int64_t next = stack + b->threads, of_keys = end < args->keys ? stack : next;
    int64_t from = end < args->keys ? end : 0, to = from + b->block_keys;
    int64_t blocks = attention_ceiling(args->keys, b->block_keys);
    int64_t part = attention_ceiling(b->shape.rows, blocks), row = start / b->block_keys * part;
    AheadRows dk = {args->dk, stack, start, end, D, false, true};
    AheadRows dv = {args->dv, stack, start, end, E, false, true};
    AheadRows k = {args->k, of_keys, from, to, D, false, false};
    AheadRows v = {args->v, of_keys, from, to, E, false, false};
    AheadRows dq = {args->dq, stack, 0, end < args->keys ? 0 : b->shape.rows, D, true, true};
    AheadRows q = {args->q, next, row, row + part, D, true, false};
    AheadRows o = {args->o, next, row, row + part, E, true, false};
    AheadRows d_o = {args->d_o, next, row, row + part, E, true, false};
    const AheadRows rows[] = {dk, dv, k, v, dq, q, o, d_o};
    for (int i = 0; i < 8; i++) hone_attention_ahead(ahead, rows[i]);
    hone_attention_ahead_in(ahead, attention_ceiling(panels, BLOCK_PANELS) * (BLOCK_PANELS + 4));
}

static void chunk_of_stack(const Backward *b, KeyBlock *block, int64_t stack, int64_t slot,
                           int64_t chunk) {
    block->stack = stack;
    block->slot = slot;
    block->chunk = chunk;
    memset(b->touched + (slot * b->chunks + chunk) * b->shape.panels, 0, (size_t)b->shape.panels);
    int64_t end = (chunk + 1) * b->chunk_keys, most = b->block_keys;
    if (end > b->shape.args->keys) end = b->shape.args->keys;
    for (block->start = chunk * b->chunk_keys; block->start < end; block->start += most) {
        block->keys = end - block->start < most ? end - block->start : most;
        int64_t panel, stop;
        live_panels(&b->shape, block, &panel, &stop);
        if (panel >= stop) {
            clear_keys(b, stack, block->start, block->start + block->keys);
            continue;
        }
        hone_attention_begin_block(b, block);
        look_ahead(b, block, stop - panel);
        for (; panel < stop; panel += BLOCK_PANELS)
            block_pair(b, block, panel,
                       (int)(stop - panel < BLOCK_PANELS ? stop - panel : BLOCK_PANELS));
        add_to_gradients(b, block);
    }
}

// Task t: one chunk of one stack's keys; chunk 0 first, in a causal mask it has most to do. Or what
// tasks may not share: then the stacks, or the chunks, in order.
static void backward_chunk(void *argument, int64_t task, int worker) {
    Backward *b = argument;
    KeyBlock block = hone_attention_block(b, worker);
    int64_t stack = task % b->tasks_of_stacks, chunk = task / b->tasks_of_stacks;
    int64_t stacks_end = b->tasks_of_stacks == 1 ? b->shape.stacks : stack + 1;
    int64_t chunks_end = b->tasks == 1 ? b->chunks : chunk + 1;
    for (int64_t s = stack; s < stacks_end; s++)
        for (int64_t c = chunk; c < chunks_end; c++) chunk_of_stack(b, &block, s, s, c);
}

// dq of a panel that sees no key.
static void clear_queries(const Backward *b, int64_t stack, int64_t panel) {
    const AttentionArgs *args = b->shape.args;
    float *rows[HONE_PANEL];
    int lanes = hone_attention_panel_range(&b->shape, panel).lanes;
    hone_attention_lane_rows(&b->shape, stack, panel, args->dq, rows);
    for (int n = 0; n < lanes && args->overwrites; n++)
        memset(rows[n], 0, (size_t)b->D * sizeof(float));
}

// dq of one panel [+]= scale · Σ_chunks dQ, chunks in order.
static void add_panel_chunks(const Backward *b, int64_t stack, int64_t slot, int64_t panel) {
    int64_t size = b->D * HONE_PANEL;
    float *total = NULL;
    for (int64_t chunk = 0; chunk < b->chunks; chunk++) {
        int64_t place = (slot * b->chunks + chunk) * b->shape.panels + panel;
        if (!b->touched[place]) continue;
        float *dQ = b->dQ + place * size;
        if (total)
            for (int64_t c = 0; c < size; c++) total[c] += dQ[c];
        else
            total = dQ;
    }
    if (!total) {
        clear_queries(b, stack, panel);
        return;
    }
    const AttentionArgs *args = b->shape.args;
    float factor[HONE_PANEL], *rows[HONE_PANEL];
    for (int n = 0; n < HONE_PANEL; n++) factor[n] = args->scale;
    hone_attention_lane_rows(&b->shape, stack, panel, args->dq, rows);
    int lanes = hone_attention_panel_range(&b->shape, panel).lanes;
    b->table->scatter(b->D, lanes, total, factor, rows, !args->overwrites);
}

// Task t: one panel of one key/value head.
static void add_query_chunks(void *argument, int64_t task, int worker) {
    (void)worker;
    const Backward *b = argument;
    int64_t stack = task / b->shape.panels;
    add_panel_chunks(b, stack, stack, task % b->shape.panels);
}

// Task t: all of one stack.
static void backward_stack(void *argument, int64_t task, int worker) {
    Backward *b = argument;
    KeyBlock block = hone_attention_block(b, worker);
    int64_t slot = b->slots < b->shape.stacks ? worker % b->threads : task;
    hone_attention_prepare_stack(b, task, slot, worker);
    for (int64_t chunk = 0; chunk < b->chunks; chunk++)
        chunk_of_stack(b, &block, task, slot, chunk);
    for (int64_t panel = 0; panel < b->shape.panels; panel++)
        add_panel_chunks(b, task, slot, panel);
}

// d_sinks_h −= Σ_i D_i · e^(sink_h − lse_i), over the batch and the queries in order. Task t: head
// t.
static void add_sink_gradients(void *argument, int64_t task, int worker) {
    (void)worker;
    Backward *b = argument;
    const AttentionArgs *args = b->shape.args;
    double sum = 0;
    for (int64_t batch = 0; batch < args->batch; batch++) {
        int64_t head = batch * args->heads + task, stack = head / b->shape.group;
        const float *lse = args->lse + head * args->queries;
        const float *D = b->product_sum + stack * b->padded + head % b->shape.group;
        for (int64_t i = 0; i < args->queries; i++)
            sum +=
                (double)(D[i * b->shape.group] * exp_flushed(fminf(args->sinks[task] - lse[i], 0)));
    }
    args->d_sinks[task] -= (float)sum;
}

// Where nobody sees anybody.
static void clear_gradients(const AttentionArgs *args) {
    const Backward b = {
        .shape = hone_attention_shape(args), .D = args->head_size, .E = args->value_size};
    for (int64_t stack = 0; stack < b.shape.stacks; stack++) {
        clear_keys(&b, stack, 0, args->keys);
        for (int64_t panel = 0; panel < b.shape.panels; panel++) clear_queries(&b, stack, panel);
    }
}

size_t hone_attention_f32_backward_scratch(const KernelContext *kc, const AttentionArgs *args) {
    Backward b;
    return lay_out(&b, kc, args, NULL);
}

void hone_attention_f32_backward(const KernelContext *kc, const AttentionArgs *args,
                                 void *scratch) {
    if (args->queries == 0 || args->keys == 0) {
        clear_gradients(args);
        return;
    }
    Backward b;
    lay_out(&b, kc, args, hone_attention_scratch_base(scratch));
    ThreadPool *pool = hone_attention_pool(kc, &b.shape);
    for (int64_t strip = 0; b.bounds && strip < b.shape.strips; strip++)
        hone_attention_bounds(&b.shape, strip, &b.bounds[strip]);
    if (b.whole_stacks) {
        hone_pool_run(pool, b.shape.stacks, backward_stack, &b);
        return;
    }
    hone_pool_run(pool, b.shape.stacks * attention_ceiling(b.shape.panels, BLOCK_PANELS),
                  hone_attention_prepare_queries, &b);
    if (b.modifies)
        hone_pool_run(pool, b.shape.stacks * b.shape.panels, hone_attention_normalise_panels, &b);
    hone_pool_run(pool, b.tasks_of_stacks * b.tasks, backward_chunk, &b);
    hone_pool_run(pool, b.shape.stacks * b.shape.panels, add_query_chunks, &b);
    if (args->sinks && args->d_sinks) hone_pool_run(pool, args->heads, add_sink_gradients, &b);
}
