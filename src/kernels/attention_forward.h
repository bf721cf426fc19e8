// SPDX-License-Identifier: Apache-2.0
// The forward pass's plan, made by attention_forward.c, and the step of it in attention_step.c: one
// panel of queries or two meet some keys.
#ifndef HONE_KERNELS_ATTENTION_FORWARD_H
#define HONE_KERNELS_ATTENTION_FORWARD_H

#include "kernels/attention_ahead.h"
#include "kernels/attention_bf16.h"

enum {
    STEP_KEYS = 132, // at most: scores of a step stay in L1
    PANELS = HONE_MOST_PANELS,
    SCORES_APART = STEP_KEYS * HONE_PANEL,
};

// Where the left sides of both products lie from key `origin` on, packed or not: K (keys, D) and
// Vᵀ (E, keys). In bf16 those that are packed are pairs; in f32 a panel of E's columns is packed by
// itself, (keys, HONE_PANEL), V_apart floats after the one before.
typedef struct KeySource {
    PanelOperand K, Vt;
    int64_t V_apart; // 0: not packed
    Bf16Rows K_bf16, Vt_bf16;
    int64_t origin;
} KeySource;

// Running softmax of one panel: O (value_size, HONE_PANEL) is not yet divided by the sum. maximum
// is of the scores seen, or a little below (choose_shifts); sum and O are relative to it.
typedef struct PanelState {
    float *maximum, *sum, *O;
} PanelState;

// Neighbouring panels at work, side by side in a product.
typedef struct Panels {
    int64_t stack, panel; // the first
    int count;
    PanelRange range[PANELS];
    float *Q;       // (head_size, HONE_PANEL) each, or in bf16 pairs in the same room
    float *states;  // PanelState each, `state` floats apart
    float *S;       // the step's scores, SCORES_APART apart
    Ahead *ahead;   // what is fetched meanwhile
    float *scratch; // where those of the first of all panels lie, and what else a step needs
} Panels;

typedef struct Forward {
    AttentionShape shape;
    const AttentionTable *table;
    int64_t blocks; // of BLOCK_PANELS panels, for each key/value head
    int64_t parts;  // the keys are cut into; above 1 there is one block
    bool packed;    // all keys of a stack, for all its blocks
    // A task does all blocks of its stack, so that what it packs stays in its own cache.
    bool whole_stacks;
    int64_t slots;            // packed at once: each stack's, or each worker's when whole
    bool packs_windows;       // a task packs what it reads: there is one block
    StripBounds *bounds;      // (strips)
    uint8_t *infinite_values; // (stacks, strips): some value is NaN or infinite
    bool bf16;                // the products' operands, and so what is packed; else they are f32
    int64_t element;          // bytes of what is packed
    int64_t tile, step;       // keys of a register tile, and the most of a step, whole tiles
    char *K;                  // (slots, keys, keys_ld) when packed
    char *V;                  // (slots, V_size) when packed
    int64_t keys_ld;          // head_size, or the even number from there on in bf16
    int64_t values_ld;        // keys, of a window when packs_windows; the rows of Vᵀ in bf16
    int64_t V_size;           // elements of a stack's or a window's values
    float *partial;           // (stacks, parts, panels, state) when parts > 1
    int64_t state;            // floats of one PanelState
    float *workers;
    // Floats of one worker's scratch, of it those of a step's scores, and what modifies them.
    int64_t worker, scores, extra;
    bool hides;  // some key may be hidden from some query
    int threads; // workers with scratch; without a pool just one, whoever it is
} Forward;

static inline PanelState attention_state_at(float *floats) {
    return (PanelState){floats, floats + HONE_PANEL, floats + 2 * HONE_PANEL};
}

// All keys of a stack, where the caller has them.
KeySource hone_attention_given_keys(const Forward *f, int64_t stack);
PanelOperand hone_attention_keys_from(const KeySource *source, int64_t key);
// Panels meet the keys [start, end) that they see: together those that both see, else alone.
void hone_attention_meet(const Forward *f, const KeySource *source, const Panels *panels,
                         int64_t start, int64_t end);
// maximum ← max(maximum, visible scores of keys [start, stop)), -infinity written over the others.
// true: some score was tested.
bool hone_attention_mask_and_maximum(const Forward *f, int64_t panel, PanelRange range,
                                     int64_t start, int64_t stop, float *S,
                                     float maximum[HONE_PANEL]);
// factor = e^(old − new), 0 for a lane that had seen no key.
void hone_attention_correction(const Forward *f, const float old[HONE_PANEL],
                               const float new[HONE_PANEL], float factor[HONE_PANEL]);

#endif
