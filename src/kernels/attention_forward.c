// SPDX-License-Identifier: Apache-2.0
// The forward pass: softmax over key blocks as they come, with a running maximum and sum a query
// (Milakov, Gimelshein 2018; Dao et al. 2022), so that no score outlives its block.
#include "kernels/attention_forward.h"
#include "kernels/attention_math.h"
#include "kernels/attention_modify.h"

#include <math.h>
#include <string.h>

enum {
    PACKED_PANELS = 2, // from this many panels on, each key is read often enough to be packed
    PART_KEYS = 1024,  // keys of one part where few queries meet many keys (decoding)
    MOST_PARTS = 32,
    WINDOW_KEYS = 512,   // keys and values of a window stay in L2 for all panels of a block
    PREPARED_KEYS = 128, // keys of one task of preparation
    CACHE_LINE = 64,     // bytes
};

// Floats of one step's scores; in bf16 of their pairs too, where what is packed is turned before.
static int64_t scores_floats(const AttentionArgs *args, bool bf16) {
    int64_t floats = PANELS * SCORES_APART;
    if (!bf16) return floats;
    int64_t turned =
        HONE_PANEL * (args->head_size > args->value_size ? args->head_size : args->value_size);
    floats += floats / 2;
    return floats > turned ? floats : turned;
}

// The length of rows of `columns` elements, whole panels, that stay out of each other's way: an odd
// number of cache lines, so that 64 rows' lines of one column lie in 64 sets.
static int64_t odd_lines(int64_t columns, int64_t element) {
    int64_t lines = attention_ceiling(columns * element, CACHE_LINE);
    return (lines + 1 - lines % 2) * (CACHE_LINE / element);
}

static size_t lay_out(Forward *f, const KernelContext *kc, const AttentionArgs *args,
                      char *scratch) {
    *f = (Forward){.shape = hone_attention_shape(args), .table = &kc->table->attention};
    const AttentionShape *shape = &f->shape;
    int64_t D = args->head_size, E = args->value_size, stacks = shape->stacks;
    f->blocks = attention_ceiling(shape->panels, BLOCK_PANELS);
    f->packed = f->blocks > 1;
    f->packs_windows = !f->packed && shape->panels >= PACKED_PANELS;
    f->parts = 1;
    if (f->blocks == 1) f->parts = attention_ceiling(args->keys, PART_KEYS);
    if (f->parts > MOST_PARTS) f->parts = MOST_PARTS;
    if (f->parts < 1) f->parts = 1;
    int64_t window = args->keys < WINDOW_KEYS ? args->keys : WINDOW_KEYS;
    int64_t columns = f->packs_windows ? window : args->keys;
    f->state = (2 + E) * HONE_PANEL;
    f->extra = hone_attention_modify_floats(args, STEP_KEYS);
    f->bf16 = hone_attention_in_bf16(f->table, shape);
    // Steps of an even number of keys: whole pairs in bf16.
    f->tile = f->table->product_rows + f->table->product_rows % 2;
    f->step = STEP_KEYS / f->tile * f->tile;
    f->element = f->bf16 ? sizeof(uint16_t) : sizeof(float);
    f->keys_ld = f->bf16 ? attention_even(D) : D;
    f->values_ld = f->bf16 ? odd_lines(columns + 1, f->element) : columns; // 1: see pack_keys
    f->V_size = (f->bf16 ? E : attention_ceiling(E, HONE_PANEL) * HONE_PANEL) * f->values_ld;
    f->scores = scores_floats(args, f->bf16);
    // One step's scores, what modifies them, and twice a bit a score of what dropout keeps.
    f->worker = BLOCK_PANELS * (D * HONE_PANEL + f->state) + f->scores + f->extra +
                (args->dropout > 0 ? STEP_KEYS : 0);
    if (f->packs_windows)
        f->worker +=
            attention_ceiling((window * f->keys_ld + f->V_size) * f->element, sizeof(float));
    f->worker = attention_ceiling(f->worker, HONE_PANEL) * HONE_PANEL;
    f->hides = args->begin || hone_attention_may_mask(args);
    f->threads = hone_pool_threads(kc->pool);
    f->whole_stacks = f->packed && f->parts == 1 && attention_whole_stacks(stacks, f->threads);
    f->slots = f->whole_stacks ? f->threads : stacks;

    ScratchCursor cursor = {scratch, 0};
    if (args->begin)
        f->bounds = hone_attention_take(&cursor, (size_t)shape->strips, sizeof *f->bounds);
    if (f->hides)
        f->infinite_values = hone_attention_take(&cursor, (size_t)(stacks * shape->strips), 1);
    if (f->packed) {
        size_t element = (size_t)f->element;
        f->K = hone_attention_take(&cursor, (size_t)(f->slots * args->keys * f->keys_ld), element);
        f->V = hone_attention_take(&cursor, (size_t)(f->slots * f->V_size), element);
    }
    if (f->parts > 1)
        f->partial = hone_attention_take(
            &cursor, (size_t)(stacks * f->parts * shape->panels * f->state), sizeof *f->partial);
    f->workers = hone_attention_take(&cursor, (size_t)(f->worker * f->threads), sizeof *f->workers);
    f->shape.bounds = f->bounds;
    return hone_attention_scratch_bytes(&cursor);
}

// K (…, keys_ld) ← the keys [start, stop) as they lie, V their values: the left sides of both
// products. S: a step's scores, scratch.
static void pack_keys(const Forward *f, int64_t stack, int64_t start, int64_t stop, void *K,
                      void *V, float *S) {
    const AttentionArgs *args = f->shape.args;
    int64_t D = args->head_size, E = args->value_size;
    if (f->bf16) {
        hone_attention_narrow_keys(f->table, &f->shape, args->k, stack, start, stop, D, K);
        hone_attention_narrow_turned(f->table, &f->shape, args->v, stack, start, stop, E, V,
                                     f->values_ld, S);
        // Between two tasks' keys stands a key, not a gap.
        if (!f->packed || stop == args->keys)
            hone_attention_zero_column(E, (uint16_t *)V + (stop - start), f->values_ld);
        return;
    }
    float *k = K, *v = V;
    for (int64_t key = start; key < stop; key++, k += D, v += HONE_PANEL) {
        memcpy(k, attention_key_row(&f->shape, args->k, stack, key), (size_t)D * sizeof *k);
        attention_pack_columns(E, attention_key_row(&f->shape, args->v, stack, key), v,
                               f->values_ld * HONE_PANEL);
    }
}

// Where a worker keeps a step's scores.
static float *scores_of(const Forward *f, int worker) {
    int64_t before = BLOCK_PANELS * (f->shape.args->head_size * HONE_PANEL + f->state);
    return f->workers + worker % f->threads * f->worker + before;
}

// The keys [start, stop) of one key/value head, whole strips: packed copies, and whether their
// values are finite.
static void prepare_run(Forward *f, int64_t stack, int64_t slot, int64_t start, int64_t stop,
                        int worker) {
    const AttentionArgs *args = f->shape.args;
    if (f->packed)
        pack_keys(f, stack, start, stop,
                  f->K + (slot * args->keys + start) * f->keys_ld * f->element,
                  f->V + (slot * f->V_size + start * (f->bf16 ? 1 : HONE_PANEL)) * f->element,
                  scores_of(f, worker));
    if (!f->hides) return;
    for (int64_t strip = start / STRIP; strip * STRIP < stop; strip++) {
        int64_t end = (strip + 1) * STRIP < stop ? (strip + 1) * STRIP : stop;
        bool finite = true;
        for (int64_t key = strip * STRIP; key < end; key++)
            finite = finite && f->table->finite(args->value_size,
                                                attention_key_row(&f->shape, args->v, stack, key));
        f->infinite_values[stack * f->shape.strips + strip] = !finite;
    }
}

// Task t: PREPARED_KEYS keys of one key/value head.
static void prepare_keys(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    int64_t keys = f->shape.args->keys, tasks = attention_ceiling(keys, PREPARED_KEYS);
    int64_t start = task % tasks * PREPARED_KEYS, stop = start + PREPARED_KEYS;
    prepare_run(f, task / tasks, task / tasks, start, stop < keys ? stop : keys, worker);
}

// The keys from origin on, as pack_keys has left them.
static KeySource packed_keys(const Forward *f, const void *K, const void *V, int64_t origin) {
    if (f->bf16)
        return (KeySource){
            .K_bf16 = {K, f->keys_ld}, .Vt_bf16 = {V, f->values_ld}, .origin = origin};
    return (KeySource){.K = {K, f->keys_ld, 1},
                       .Vt = {V, 1, HONE_PANEL},
                       .V_apart = f->values_ld * HONE_PANEL,
                       .origin = origin};
}

// All keys of a stack, packed beforehand or where the caller has them.
static KeySource keys_of(const Forward *f, int64_t stack, int64_t slot) {
    const AttentionArgs *args = f->shape.args;
    if (!f->packed) return hone_attention_given_keys(f, stack);
    return packed_keys(f, f->K + slot * args->keys * f->keys_ld * f->element,
                       f->V + slot * f->V_size * f->element, 0);
}

// The keys of a window, packed into a worker's scratch.
static KeySource packed_window(const Forward *f, int64_t stack, int64_t start, int64_t stop,
                               float *scratch, float *S) {
    void *V = (char *)scratch + (stop - start) * f->keys_ld * f->element;
    pack_keys(f, stack, start, stop, scratch, V, S);
    return packed_keys(f, scratch, V, start);
}

// o and lse of one panel.
static void finish_panel(const Forward *f, int64_t stack, int64_t panel, PanelState state) {
    const AttentionArgs *args = f->shape.args;
    PanelRange range = hone_attention_panel_range(&f->shape, panel);
    float lse[HONE_PANEL], factor[HONE_PANEL], *rows[HONE_PANEL];
    hone_attention_lane_rows(&f->shape, stack, panel, args->o, rows);
    for (int n = 0; n < HONE_PANEL; n++) {
        bool empty = state.sum[n] == 0.0f;
        factor[n] = empty ? 0.0f : 1.0f / state.sum[n];
        lse[n] = empty ? -INFINITY : state.maximum[n] + log_positive(state.sum[n]);
    }
    for (int n = 0; n < range.lanes; n++)
        args->lse[attention_lane_place(&f->shape, stack, panel, n).row] = lse[n];
    f->table->scatter(args->value_size, range.lanes, state.O, factor, rows, false);
}

// Q (head_size, HONE_PANEL) = scale · q of a panel.
static void scale_queries(const Forward *f, int64_t stack, int64_t panel, int lanes, float *Q) {
    const AttentionArgs *args = f->shape.args;
    float *rows[HONE_PANEL];
    const float *sources[HONE_PANEL];
    hone_attention_lane_rows(&f->shape, stack, panel, args->q, rows);
    for (int n = 0; n < HONE_PANEL; n++) sources[n] = rows[n];
    f->table->gather(args->head_size, lanes, sources, args->scale, Q, HONE_PANEL);
}

// The same, or in bf16 pairs of q, which the product scales. S: a step's scores, scratch.
static void gather_queries(const Forward *f, int64_t stack, int64_t panel, int lanes, float *Q,
                           float *S) {
    const AttentionArgs *args = f->shape.args;
    if (!f->bf16) {
        scale_queries(f, stack, panel, lanes, Q);
        return;
    }
    float *rows[HONE_PANEL];
    hone_attention_lane_rows(&f->shape, stack, panel, args->q, rows);
    hone_attention_gather_pairs(f->table, args->head_size, lanes, rows, (uint16_t *)Q, S);
}

// What is needed when this block has met its keys: its rows of o, the next block's queries, and a
// part of the next stack's keys, all of them where this is the last block. The next stack that the
// worker will do is a guess.
static Ahead ahead_of(const Forward *f, int64_t stack, int64_t block) {
    const AttentionArgs *args = f->shape.args;
    Ahead ahead = {.shape = &f->shape};
    int D = args->head_size, E = args->value_size;
    bool alone = f->blocks == 1 && f->parts == 1;
    if (!f->whole_stacks && !alone) return ahead;
    int64_t next = stack + f->threads, keys = attention_ceiling(args->keys, f->blocks);
    int64_t first = block * BLOCK_ROWS, q = block + 1 < f->blocks ? first + BLOCK_ROWS : 0;
    int64_t of_q = q ? stack : next;
    AheadRows o = {args->o, stack, first, first + BLOCK_ROWS, E, true, true};
    AheadRows queries = {args->q, of_q, q, q + BLOCK_ROWS, D, true, false};
    AheadRows k = {args->k, next, block * keys, (block + 1) * keys, D, false, false};
    AheadRows v = {args->v, next, block * keys, (block + 1) * keys, E, false, false};
    hone_attention_ahead(&ahead, o);
    hone_attention_ahead(&ahead, queries);
    hone_attention_ahead(&ahead, k);
    hone_attention_ahead(&ahead, v);
    int64_t groups = attention_ceiling(BLOCK_PANELS, f->table->product_panels);
    if (f->shape.panels < BLOCK_PANELS)
        groups = attention_ceiling(f->shape.panels, f->table->product_panels);
    int64_t steps = attention_ceiling(args->keys, f->step) * groups;
    if (args->begin) steps = attention_ceiling(steps, 2); // a causal mask leaves half of them
    hone_attention_ahead_in(&ahead, steps * (1 + f->table->product_panels));
    return ahead;
}

// One block of panels meets its keys (those of one part).
static void block_of_stack(Forward *f, int64_t stack, int64_t slot, int64_t block, int64_t part,
                           int worker) {
    const AttentionArgs *args = f->shape.args;
    int64_t D = args->head_size;
    int64_t panel = block * BLOCK_PANELS, panels = f->shape.panels - panel;
    if (panels > BLOCK_PANELS) panels = BLOCK_PANELS;

    float *Q = f->workers + worker % f->threads * f->worker;
    float *states = Q + BLOCK_PANELS * D * HONE_PANEL, *S = scores_of(f, worker);
    float *window = S + f->scores + f->extra + (args->dropout > 0 ? STEP_KEYS : 0);
    KeySource source = keys_of(f, stack, slot);
    if (f->parts > 1) states = f->partial + (stack * f->parts + part) * f->shape.panels * f->state;
    PanelRange range[BLOCK_PANELS];
    for (int64_t p = 0; p < panels; p++) {
        range[p] = hone_attention_panel_range(&f->shape, panel + p);
        gather_queries(f, stack, panel + p, range[p].lanes, Q + p * D * HONE_PANEL, S);
        PanelState state = attention_state_at(states + p * f->state);
        memset(state.sum, 0, (size_t)(f->state - HONE_PANEL) * sizeof *state.sum);
        for (int n = 0; n < HONE_PANEL; n++) state.maximum[n] = -INFINITY;
        // A sink is a key whose value is zero.
        if (part == 0) hone_attention_lane_sinks(&f->shape, stack, panel + p, state.maximum);
        for (int n = 0; n < HONE_PANEL; n++) state.sum[n] = state.maximum[n] == -INFINITY ? 0 : 1;
    }

    int64_t per_part = attention_ceiling(args->keys, f->parts);
    if (f->bf16) per_part = attention_even(per_part); // whole pairs
    int64_t start = part * per_part, end = start + per_part;
    if (end > args->keys) end = args->keys;
    Ahead ahead = ahead_of(f, stack, block);
    PanelRange all = {range[0].first, range[panels - 1].last, 0};
    for (int64_t stop; hone_attention_next_keys(&f->shape, all, end, &start, &stop); start = stop) {
        if (stop > start + WINDOW_KEYS) stop = start + WINDOW_KEYS;
        if (f->packs_windows) source = packed_window(f, stack, start, stop, window, S);
        for (int64_t p = 0; p < panels; p += f->table->product_panels) {
            Panels some = {.stack = stack,
                           .panel = panel + p,
                           .count = attention_few(panels - p, f->table->product_panels),
                           .Q = Q + p * D * HONE_PANEL,
                           .states = states + p * f->state,
                           .S = S,
                           .ahead = &ahead,
                           .scratch = S};
            memcpy(some.range, range + p, (size_t)some.count * sizeof *range);
            hone_attention_meet(f, &source, &some, start, stop);
        }
    }
    for (int64_t p = 0; f->parts == 1 && p < panels; p++)
        finish_panel(f, stack, panel + p, attention_state_at(states + p * f->state));
}

// Task t: one block of one stack, or one part of its keys.
static void forward_block(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    int64_t stack = task / f->parts / f->blocks;
    // The last block first: in a causal mask it has most to do.
    int64_t block = f->blocks - 1 - task / f->parts % f->blocks;
    block_of_stack(f, stack, stack, block, task % f->parts, worker);
}

// Task t: all of one stack.
static void forward_stack(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    int64_t slot = worker % f->threads, keys = f->shape.args->keys;
    for (int64_t start = 0, stop; start < keys; start = stop) {
        stop = start + PREPARED_KEYS < keys ? start + PREPARED_KEYS : keys;
        prepare_run(f, task, slot, start, stop, worker);
    }
    for (int64_t block = 0; block < f->blocks; block++)
        block_of_stack(f, task, slot, block, 0, worker);
}

// The parts of one panel's softmax, joined in order into the first.
static void join_parts(void *argument, int64_t task, int worker) {
    (void)worker;
    Forward *f = argument;
    int64_t panels = f->shape.panels, stack = task / panels, panel = task % panels;
    int64_t size = f->shape.args->value_size * HONE_PANEL;
    float *first = f->partial + (stack * f->parts * panels + panel) * f->state;
    PanelState total = attention_state_at(first);
    for (int64_t part = 1; part < f->parts; part++) {
        PanelState other = attention_state_at(first + part * panels * f->state);
        float maximum[HONE_PANEL], kept[HONE_PANEL], added[HONE_PANEL];
        for (int n = 0; n < HONE_PANEL; n++) maximum[n] = fmaxf(total.maximum[n], other.maximum[n]);
        hone_attention_correction(f, total.maximum, maximum, kept);
        hone_attention_correction(f, other.maximum, maximum, added);
        for (int n = 0; n < HONE_PANEL; n++) {
            total.sum[n] = total.sum[n] * kept[n] + other.sum[n] * added[n];
            total.maximum[n] = maximum[n];
        }
        for (int64_t c = 0; c < size; c++)
            total.O[c] = total.O[c] * kept[c % HONE_PANEL] + other.O[c] * added[c % HONE_PANEL];
    }
    finish_panel(f, stack, panel, total);
}

// ---- weights -----------------------------------------------------------------------------------

// e^(s − lse) of one panel and the keys [start, start + keys) into the rows of `weights`; sum +=.
static void weights_step(const Forward *f, const ScoreTile *tile, const float *Q, const float *lse,
                         float *sum, float *extra) {
    const AttentionArgs *args = f->shape.args;
    PanelRange range = hone_attention_panel_range(&f->shape, tile->panel);
    float unused[HONE_PANEL], ones[HONE_PANEL], *rows[HONE_PANEL];
    int64_t stop = tile->start + tile->keys;
    KeySource source = hone_attention_given_keys(f, tile->stack);
    f->table->product(&(PanelProduct){.M = tile->keys,
                                      .K = args->head_size,
                                      .A = hone_attention_keys_from(&source, tile->start),
                                      .B = Q,
                                      .ldb = HONE_PANEL,
                                      .C = tile->S,
                                      .ldc = HONE_PANEL,
                                      .panels = 1});
    hone_attention_modify(tile, NULL, NULL, extra);
    for (int n = 0; n < HONE_PANEL; n++) unused[n] = -INFINITY, ones[n] = 1.0f;
    hone_attention_mask_and_maximum(f, tile->panel, range, tile->start, stop, tile->S, unused);
    PanelScores scores = {.S = tile->S, .ld = HONE_PANEL, .keys = tile->keys};
    f->table->exponent(&scores, lse, sum);
    for (int n = 0; n < range.lanes; n++) {
        int64_t row = attention_lane_place(&f->shape, tile->stack, tile->panel, n).row;
        rows[n] = args->weights + row * args->keys + tile->start;
    }
    f->table->scatter(tile->keys, range.lanes, tile->S, ones, rows, false);
}

// Task t: one panel of one stack.
static void write_weights(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    const AttentionArgs *args = f->shape.args;
    int64_t stack = task / f->shape.panels, panel = task % f->shape.panels;
    int lanes = hone_attention_panel_range(&f->shape, panel).lanes;
    float *Q = f->workers + worker % f->threads * f->worker, *S = Q + args->head_size * HONE_PANEL;
    float *extra = f->workers + (worker % f->threads + 1) * f->worker - f->extra;
    float lse[HONE_PANEL] = {0}, sink[HONE_PANEL];
    double sum[HONE_PANEL] = {0};
    scale_queries(f, stack, panel, lanes, Q);
    for (int n = 0; n < lanes; n++) {
        int64_t row = attention_lane_place(&f->shape, stack, panel, n).row;
        lse[n] = args->lse[row];
        if (lse[n] == -INFINITY) lse[n] = 0.0f; // sees no key: every score is -infinity
    }
    for (int64_t start = 0; start < args->keys; start += STEP_KEYS) {
        int64_t keys = args->keys - start < STEP_KEYS ? args->keys - start : STEP_KEYS;
        ScoreTile tile = {&f->shape, f->table, stack, panel, start, keys, lanes, S, HONE_PANEL};
        float step[HONE_PANEL] = {0};
        weights_step(f, &tile, Q, lse, step, extra);
        for (int n = 0; n < HONE_PANEL; n++) sum[n] += (double)step[n];
    }
    // A large lse rounds the logarithm of the sum: the sum itself makes the weights exact.
    hone_attention_lane_sinks(&f->shape, stack, panel, sink);
    for (int n = 0; n < lanes; n++) {
        if (sum[n] == 0) continue;
        int64_t row = attention_lane_place(&f->shape, stack, panel, n).row;
        float *weights = args->weights + row * args->keys;
        float taken = exp_flushed(fminf(sink[n] - lse[n], 0.0f));
        float factor = (float)(1 / (sum[n] + (double)taken));
        for (int64_t k = 0; k < args->keys; k++) weights[k] *= factor;
    }
}

size_t hone_attention_f32_forward_scratch(const KernelContext *kc, const AttentionArgs *args) {
    Forward f;
    return lay_out(&f, kc, args, NULL);
}

void hone_attention_f32_forward(const KernelContext *kc, const AttentionArgs *args, void *scratch) {
    Forward f;
    lay_out(&f, kc, args, hone_attention_scratch_base(scratch));
    if (f.shape.panels == 0) return;
    ThreadPool *pool = hone_attention_pool(kc, &f.shape);
    for (int64_t strip = 0; f.bounds && strip < f.shape.strips; strip++)
        hone_attention_bounds(&f.shape, strip, &f.bounds[strip]);
    if (f.whole_stacks) {
        hone_pool_run(pool, f.shape.stacks, forward_stack, &f);
    } else {
        if (f.hides || f.packed)
            hone_pool_run(pool, f.shape.stacks * attention_ceiling(args->keys, PREPARED_KEYS),
                          prepare_keys, &f);
        hone_pool_run(pool, f.shape.stacks * f.blocks * f.parts, forward_block, &f);
    }
    if (f.parts > 1) hone_pool_run(pool, f.shape.stacks * f.shape.panels, join_parts, &f);
    if (args->weights) hone_pool_run(pool, f.shape.stacks * f.shape.panels, write_weights, &f);
}

AttentionKeys hone_attention_forward_keys(const KernelContext *kc, const AttentionArgs *args) {
    Forward f;
    lay_out(&f, kc, args, NULL);
    return (AttentionKeys){f.packed || f.packs_windows, f.bf16, f.parts};
}
