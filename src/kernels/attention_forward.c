// SPDX-License-Identifier: Apache-2.0
// The forward pass: softmax over key blocks as they come, with a running maximum and sum a query
// (Milakov, Gimelshein 2018; Dao et al. 2022), so that no score outlives its block.
#include "kernels/attention_bf16.h"
#include "kernels/attention_math.h"
#include "kernels/attention_modify.h"

#include <math.h>
#include <string.h>

enum {
    PACKED_PANELS = 2, // from this many panels on, each key is read often enough to be packed
    PART_KEYS = 1024,  // keys of one part where few queries meet many keys (decoding)
    MOST_PARTS = 32,
    WINDOW_KEYS = 512,   // keys and values of a window stay in L2 for all panels of a block
    STEP_KEYS = 132,     // at most: scores of a step stay in L1
    PREPARED_KEYS = 128, // keys of one task of preparation
    CACHE_LINE = 64,     // bytes
};

// Where the left sides of both products lie from key `origin` on, packed or not: K (keys, D) and
// Vᵀ (E, keys). In bf16 those that are packed are pairs.
typedef struct KeySource {
    PanelOperand K, Vt;
    Bf16Rows K_bf16, Vt_bf16;
    int64_t origin;
} KeySource;

// Running softmax of one panel: O (value_size, HONE_PANEL) is not yet divided by the sum.
typedef struct PanelState {
    float *maximum, *sum, *O;
} PanelState;

typedef struct Forward {
    AttentionShape shape;
    const AttentionTable *table;
    int64_t blocks;           // of BLOCK_PANELS panels, for each key/value head
    int64_t parts;            // the keys are cut into; above 1 there is one block
    bool packed;              // all keys of a stack, for all its blocks
    bool packs_windows;       // a task packs what it reads: there is one block
    StripBounds *bounds;      // (strips)
    uint8_t *infinite_values; // (stacks, strips): some value is NaN or infinite
    bool bf16;                // the products' operands, and so what is packed; else they are f32
    int64_t element;          // bytes of what is packed
    int64_t tile, step;       // keys of a register tile, and the most of a step, whole tiles
    char *K;                  // (stacks, keys, keys_ld) when packed
    char *Vt;                 // (stacks, value_size, values_ld) when packed
    int64_t keys_ld;          // head_size, or the even number from there on in bf16
    int64_t values_ld;        // of a window when packs_windows
    float *partial;           // (stacks, parts, panels, state) when parts > 1
    int64_t state;            // floats of one PanelState
    float *workers;
    // Floats of one worker's scratch, of it those of a step's scores, and what modifies them.
    int64_t worker, scores, extra;
    bool hides;  // some key may be hidden from some query
    int threads; // workers with scratch; without a pool just one, whoever it is
} Forward;

// Floats of one step's scores; in bf16 of their pairs too, where what is packed is turned before.
static int64_t scores_floats(const AttentionArgs *args, bool bf16) {
    int64_t floats = STEP_KEYS * HONE_PANEL;
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
    f->values_ld = odd_lines(columns + f->bf16, f->element); // a column after the last key's
    f->scores = scores_floats(args, f->bf16);
    // One step's scores, what modifies them, and twice a bit a score of what dropout keeps.
    f->worker = BLOCK_PANELS * (D * HONE_PANEL + f->state) + f->scores + f->extra +
                (args->dropout > 0 ? STEP_KEYS : 0);
    if (f->packs_windows)
        f->worker +=
            attention_ceiling((window * f->keys_ld + E * f->values_ld) * f->element, sizeof(float));
    f->worker = attention_ceiling(f->worker, HONE_PANEL) * HONE_PANEL;
    f->hides = args->begin || hone_attention_may_mask(args);
    f->threads = hone_pool_threads(kc->pool);

    ScratchCursor cursor = {scratch, 0};
    if (args->begin)
        f->bounds = hone_attention_take(&cursor, (size_t)shape->strips, sizeof *f->bounds);
    if (f->hides)
        f->infinite_values = hone_attention_take(&cursor, (size_t)(stacks * shape->strips), 1);
    if (f->packed) {
        size_t element = (size_t)f->element;
        f->K = hone_attention_take(&cursor, (size_t)(stacks * args->keys * f->keys_ld), element);
        f->Vt = hone_attention_take(&cursor, (size_t)(stacks * E * f->values_ld), element);
    }
    if (f->parts > 1)
        f->partial = hone_attention_take(
            &cursor, (size_t)(stacks * f->parts * shape->panels * f->state), sizeof *f->partial);
    f->workers = hone_attention_take(&cursor, (size_t)(f->worker * f->threads), sizeof *f->workers);
    f->shape.bounds = f->bounds;
    return hone_attention_scratch_bytes(&cursor);
}

static PanelState state_at(float *floats) {
    return (PanelState){floats, floats + HONE_PANEL, floats + 2 * HONE_PANEL};
}

// K (…, keys_ld) ← the keys [start, stop) as they lie; Vt (value_size, values_ld) ← their values
// transposed: the left side of both products runs along its rows. S: a step's scores, scratch.
static void pack_keys(const Forward *f, int64_t stack, int64_t start, int64_t stop, void *K,
                      void *Vt, float *S) {
    const AttentionArgs *args = f->shape.args;
    int64_t D = args->head_size, E = args->value_size;
    if (f->bf16) {
        hone_attention_narrow_keys(f->table, &f->shape, args->k, stack, start, stop, D, K);
        hone_attention_narrow_turned(f->table, &f->shape, args->v, stack, start, stop, E, Vt,
                                     f->values_ld, S);
        // Between two tasks' keys stands a key, not a gap.
        if (!f->packed || stop == args->keys)
            hone_attention_zero_column(E, (uint16_t *)Vt + (stop - start), f->values_ld);
        return;
    }
    float *k = K, *vt = Vt;
    for (int64_t key = start; key < stop; key++, k += D)
        memcpy(k, attention_key_row(&f->shape, args->k, stack, key), (size_t)D * sizeof *k);
    for (int64_t key = start; key < stop; key += HONE_PANEL, vt += HONE_PANEL) {
        int lanes = (int)(stop - key < HONE_PANEL ? stop - key : HONE_PANEL);
        const float *rows[HONE_PANEL];
        for (int n = 0; n < lanes; n++)
            rows[n] = attention_key_row(&f->shape, args->v, stack, key + n);
        f->table->gather(E, lanes, rows, 1.0f, vt, f->values_ld);
    }
}

// Where a worker keeps a step's scores.
static float *scores_of(const Forward *f, int worker) {
    int64_t before = BLOCK_PANELS * (f->shape.args->head_size * HONE_PANEL + f->state);
    return f->workers + worker % f->threads * f->worker + before;
}

// Task t: PREPARED_KEYS keys of one key/value head, their bounds and packed copies.
static void prepare_keys(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    const AttentionArgs *args = f->shape.args;
    int64_t tasks = attention_ceiling(args->keys, PREPARED_KEYS), stack = task / tasks;
    int64_t start = task % tasks * PREPARED_KEYS, stop = start + PREPARED_KEYS;
    if (stop > args->keys) stop = args->keys;
    if (f->packed)
        pack_keys(f, stack, start, stop,
                  f->K + (stack * args->keys + start) * f->keys_ld * f->element,
                  f->Vt + (stack * args->value_size * f->values_ld + start) * f->element,
                  scores_of(f, worker));
    if (!f->hides) return;
    for (int64_t strip = start / STRIP; strip * STRIP < stop; strip++) {
        if (f->bounds && stack == 0) hone_attention_bounds(&f->shape, strip, &f->bounds[strip]);
        int64_t end = (strip + 1) * STRIP < stop ? (strip + 1) * STRIP : stop;
        bool finite = true;
        for (int64_t key = strip * STRIP; key < end; key++)
            finite = finite &&
                     hone_attention_row_finite(attention_key_row(&f->shape, args->v, stack, key),
                                               args->value_size);
        f->infinite_values[stack * f->shape.strips + strip] = !finite;
    }
}

// All keys of a stack, where the caller has them.
static KeySource given_keys(const Forward *f, int64_t stack) {
    const AttentionArgs *args = f->shape.args;
    return (KeySource){.K = {attention_key_row(&f->shape, args->k, stack, 0), args->k.row, 1},
                       .Vt = {attention_key_row(&f->shape, args->v, stack, 0), 1, args->v.row}};
}

// The keys from origin on, as pack_keys has left them.
static KeySource packed_keys(const Forward *f, const void *K, const void *Vt, int64_t origin) {
    if (f->bf16)
        return (KeySource){
            .K_bf16 = {K, f->keys_ld}, .Vt_bf16 = {Vt, f->values_ld}, .origin = origin};
    return (KeySource){.K = {K, f->keys_ld, 1}, .Vt = {Vt, f->values_ld, 1}, .origin = origin};
}

// All keys of a stack, packed beforehand or where the caller has them.
static KeySource keys_of(const Forward *f, int64_t stack) {
    const AttentionArgs *args = f->shape.args;
    if (!f->packed) return given_keys(f, stack);
    return packed_keys(f, f->K + stack * args->keys * f->keys_ld * f->element,
                       f->Vt + stack * args->value_size * f->values_ld * f->element, 0);
}

// The keys of a window, packed into a worker's scratch.
static KeySource packed_window(const Forward *f, int64_t stack, int64_t start, int64_t stop,
                               float *scratch, float *S) {
    void *Vt = (char *)scratch + (stop - start) * f->keys_ld * f->element;
    pack_keys(f, stack, start, stop, scratch, Vt, S);
    return packed_keys(f, scratch, Vt, start);
}

static PanelOperand keys_from(const KeySource *source, int64_t key) {
    const PanelOperand *K = &source->K;
    return (PanelOperand){K->data + (key - source->origin) * K->row, K->row, K->column};
}

static PanelOperand values_from(const KeySource *source, int64_t key) {
    const PanelOperand *Vt = &source->Vt;
    return (PanelOperand){Vt->data + (key - source->origin) * Vt->column, Vt->row, Vt->column};
}

// S = the products of a panel's queries (gather_queries) and the keys [start, start + keys).
static void scores_product(const Forward *f, const KeySource *source, int64_t start, int64_t keys,
                           const void *Q, float *S, float *highest) {
    const AttentionArgs *args = f->shape.args;
    if (f->bf16) {
        Bf16Rows K = source->K_bf16;
        K.data += (start - source->origin) * K.row;
        attention_product_bf16(f->table, keys, args->head_size, K, Q, S, HONE_PANEL, args->scale,
                               false, highest);
    } else {
        f->table->product(keys, args->head_size, keys_from(source, start), Q, HONE_PANEL, S,
                          HONE_PANEL, false, highest);
    }
}

// O += Vᵀ · P, the weights P of the keys [start, start + keys) in S. In bf16 with an odd number of
// keys, the value after them is met by a 0.
static void values_product(const Forward *f, const KeySource *source, int64_t start, int64_t keys,
                           float *S, float *O) {
    int64_t E = f->shape.args->value_size;
    if (f->bf16) {
        uint16_t *P = (uint16_t *)(S + STEP_KEYS * HONE_PANEL);
        Bf16Rows Vt = source->Vt_bf16;
        Vt.data += start - source->origin;
        f->table->pack_pairs(keys, S, HONE_PANEL, P);
        attention_product_bf16(f->table, E, keys, Vt, P, O, HONE_PANEL, 1.0f, true, NULL);
    } else {
        f->table->product(E, keys, values_from(source, start), S, HONE_PANEL, O, HONE_PANEL, true,
                          NULL);
    }
}

// What a lane's scores are shifted by: any finite number where it has seen no key yet keeps
// -infinity - shift from being NaN.
static void shift_of(const float maximum[HONE_PANEL], float shift[HONE_PANEL]) {
    for (int n = 0; n < HONE_PANEL; n++) shift[n] = maximum[n] == -INFINITY ? 0.0f : maximum[n];
}

// factor = e^(old − new), 0 for a lane that had seen no key.
static void correction(const Forward *f, const float old[HONE_PANEL], const float new[HONE_PANEL],
                       float factor[HONE_PANEL]) {
    float shift[HONE_PANEL], unused[HONE_PANEL] = {0};
    PanelScores scores = {.S = factor, .ld = HONE_PANEL, .keys = 1};
    memcpy(factor, old, HONE_PANEL * sizeof *factor);
    shift_of(new, shift);
    f->table->exponent(&scores, shift, unused);
}

// Does a lane that has seen a key have a new maximum?
static bool grew(const float old[HONE_PANEL], const float new[HONE_PANEL]) {
    bool some = false;
    for (int n = 0; n < HONE_PANEL; n++) some |= (old[n] != new[n]) & (old[n] != -INFINITY);
    return some;
}

// maximum ← max(maximum, visible scores of keys [start, stop)), -infinity written over the others.
// true: some score was tested.
static bool mask_and_maximum(const Forward *f, int64_t panel, PanelRange range, int64_t start,
                             int64_t stop, float *S, float maximum[HONE_PANEL]) {
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

// One panel meets the keys [start, stop), at most STEP_KEYS. S is scratch.
static void panel_step(const Forward *f, const KeySource *source, int64_t stack, int64_t panel,
                       PanelRange range, int64_t start, int64_t stop, const void *Q,
                       PanelState state, float *S) {
    const AttentionArgs *args = f->shape.args;
    int64_t E = args->value_size, keys = stop - start;
    float maximum[HONE_PANEL], factor[HONE_PANEL], shift[HONE_PANEL];
    memcpy(maximum, state.maximum, sizeof maximum);
    ScoreTile tile = {&f->shape, f->table, stack, panel, start, keys, range.lanes, S, HONE_PANEL};
    float *bits_and_extra = S + f->scores;
    bool tested = hone_attention_masked(args);
    if (plain_scores(f, range, start, stop)) {
        scores_product(f, source, start, keys, Q, S, maximum);
    } else {
        scores_product(f, source, start, keys, Q, S, NULL);
        hone_attention_modify(&tile, NULL, NULL,
                              bits_and_extra + (args->dropout > 0 ? STEP_KEYS : 0));
        if (mask_and_maximum(f, panel, range, start, stop, S, maximum)) tested = true;
    }
    if (grew(state.maximum, maximum)) {
        correction(f, state.maximum, maximum, factor);
        f->table->rescale(E, factor, state.O);
        f->table->rescale(1, factor, state.sum);
    }
    memcpy(state.maximum, maximum, sizeof maximum);
    shift_of(maximum, shift);
    PanelScores scores = {.S = S, .ld = HONE_PANEL, .keys = keys};
    float sum[HONE_PANEL] = {0}; // of one step: what is small would be lost in the sum of all
    f->table->exponent(&scores, shift, sum);
    for (int n = 0; n < HONE_PANEL; n++) state.sum[n] += sum[n];
    if (args->dropout > 0) {
        uint16_t *bits = (uint16_t *)bits_and_extra;
        hone_attention_keep(&tile, bits, bits + STEP_KEYS);
        f->table->select(keys, S, HONE_PANEL, bits, hone_attention_keep_factor(args));
    }
    // The value that an odd number of pairs reaches beyond the step.
    int64_t beyond = f->bf16 && f->hides && stop < args->keys ? keys % 2 : 0;
    if ((tested || beyond) && !values_finite(f, stack, start, stop + beyond)) {
        KeySource given = f->bf16 ? given_keys(f, stack) : *source;
        hone_attention_sparse_product(E, keys, values_from(&given, start), S, HONE_PANEL, state.O,
                                      HONE_PANEL, true, false);
    } else {
        values_product(f, source, start, keys, S, state.O);
    }
}

// One panel meets the keys of a window, in steps of about the same length.
static void panel_window(const Forward *f, const KeySource *source, int64_t stack, int64_t panel,
                         PanelRange range, int64_t start, int64_t end, const void *Q,
                         PanelState state, float *S) {
    for (int64_t stop; hone_attention_next_keys(&f->shape, range, end, &start, &stop);
         start = stop) {
        int64_t steps = attention_ceiling(stop - start, f->step);
        int64_t step = attention_ceiling(stop - start, steps);
        step = attention_ceiling(step, f->tile) * f->tile;
        for (int64_t next; start < stop; start = next) {
            next = start + step < stop ? start + step : stop;
            panel_step(f, source, stack, panel, range, start, next, Q, state, S);
        }
    }
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

// One block of panels meets its keys (those of one part).
static void forward_block(void *argument, int64_t task, int worker) {
    Forward *f = argument;
    const AttentionArgs *args = f->shape.args;
    int64_t D = args->head_size, part = task % f->parts;
    int64_t stack = task / f->parts / f->blocks;
    // The last block first: in a causal mask it has most to do.
    int64_t block = f->blocks - 1 - task / f->parts % f->blocks;
    int64_t panel = block * BLOCK_PANELS, panels = f->shape.panels - panel;
    if (panels > BLOCK_PANELS) panels = BLOCK_PANELS;

    float *Q = f->workers + worker % f->threads * f->worker;
    float *states = Q + BLOCK_PANELS * D * HONE_PANEL, *S = scores_of(f, worker);
    float *window = S + f->scores + f->extra + (args->dropout > 0 ? STEP_KEYS : 0);
    KeySource source = keys_of(f, stack);
    if (f->parts > 1) states = f->partial + (stack * f->parts + part) * f->shape.panels * f->state;
    PanelRange range[BLOCK_PANELS];
    for (int64_t p = 0; p < panels; p++) {
        range[p] = hone_attention_panel_range(&f->shape, panel + p);
        gather_queries(f, stack, panel + p, range[p].lanes, Q + p * D * HONE_PANEL, S);
        PanelState state = state_at(states + p * f->state);
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
    PanelRange all = {range[0].first, range[panels - 1].last, 0};
    for (int64_t stop; hone_attention_next_keys(&f->shape, all, end, &start, &stop); start = stop) {
        if (stop > start + WINDOW_KEYS) stop = start + WINDOW_KEYS;
        if (f->packs_windows) source = packed_window(f, stack, start, stop, window, S);
        for (int64_t p = 0; p < panels; p++)
            panel_window(f, &source, stack, panel + p, range[p], start, stop,
                         Q + p * D * HONE_PANEL, state_at(states + p * f->state), S);
    }
    for (int64_t p = 0; f->parts == 1 && p < panels; p++)
        finish_panel(f, stack, panel + p, state_at(states + p * f->state));
}

// The parts of one panel's softmax, joined in order into the first.
static void join_parts(void *argument, int64_t task, int worker) {
    (void)worker;
    Forward *f = argument;
    int64_t panels = f->shape.panels, stack = task / panels, panel = task % panels;
    int64_t size = f->shape.args->value_size * HONE_PANEL;
    float *first = f->partial + (stack * f->parts * panels + panel) * f->state;
    PanelState total = state_at(first);
    for (int64_t part = 1; part < f->parts; part++) {
        PanelState other = state_at(first + part * panels * f->state);
        float maximum[HONE_PANEL], kept[HONE_PANEL], added[HONE_PANEL];
        for (int n = 0; n < HONE_PANEL; n++) maximum[n] = fmaxf(total.maximum[n], other.maximum[n]);
        correction(f, total.maximum, maximum, kept);
        correction(f, other.maximum, maximum, added);
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
    KeySource source = f->bf16 ? given_keys(f, tile->stack) : keys_of(f, tile->stack);
    f->table->product(tile->keys, args->head_size, keys_from(&source, tile->start), Q, HONE_PANEL,
                      tile->S, HONE_PANEL, false, NULL);
    hone_attention_modify(tile, NULL, NULL, extra);
    for (int n = 0; n < HONE_PANEL; n++) unused[n] = -INFINITY, ones[n] = 1.0f;
    mask_and_maximum(f, tile->panel, range, tile->start, stop, tile->S, unused);
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
    if (f.hides || f.packed)
        hone_pool_run(pool, f.shape.stacks * attention_ceiling(args->keys, PREPARED_KEYS),
                      prepare_keys, &f);
    hone_pool_run(pool, f.shape.stacks * f.blocks * f.parts, forward_block, &f);
    if (f.parts > 1) hone_pool_run(pool, f.shape.stacks * f.shape.panels, join_parts, &f);
    if (args->weights) hone_pool_run(pool, f.shape.stacks * f.shape.panels, write_weights, &f);
}

AttentionKeys hone_attention_forward_keys(const KernelContext *kc, const AttentionArgs *args) {
    Forward f;
    lay_out(&f, kc, args, NULL);
    return (AttentionKeys){f.packed || f.packs_windows, f.bf16, f.parts};
}
