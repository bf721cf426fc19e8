// SPDX-License-Identifier: Apache-2.0
// The backward pass's packed inputs: made by attention_prepare.c, used by attention_backward.c.
#ifndef HONE_KERNELS_ATTENTION_BACKWARD_H
#define HONE_KERNELS_ATTENTION_BACKWARD_H

#include "kernels/attention_ahead.h"
#include "kernels/attention_bf16.h"
#include "kernels/attention_modify.h"

// The right sides in bf16, rows in pairs.
typedef struct Bf16Queries {
    uint16_t *Q, *dO;                 // (slots, panels, even D or E / 2, HONE_PANEL, 2); not scaled
    uint16_t *Q_columns, *dO_columns; // (slots, D_columns or E_columns, padded / 2, HONE_PANEL, 2)
} Bf16Queries;

typedef struct Backward {
    AttentionShape shape;
    const AttentionTable *table;
    int64_t D, E;                 // head_size, value_size
    int64_t D_columns, E_columns; // panels of columns: D/16, E/16 rounded up
    int64_t chunks, chunk_keys;   // chunks of the keys, and keys of one
    int64_t block_keys;           // keys of a block
    int64_t padded;               // rows of all panels
    // A task does all of its stack, so that what it packs stays in its own cache.
    bool whole_stacks;
    int64_t slots;                 // packed at once: each stack's, or each worker's when whole
    StripBounds *bounds;           // (strips)
    uint8_t *infinite_rows;        // (slots, panels): NaN or infinity in q or d_o
    bool bf16;                     // the products' operands, and so what is packed; else f32
    float *Q, *dO;                 // (slots, panels, D or E, HONE_PANEL); Q · scale
    float *Q_columns, *dO_columns; // (slots, D_columns or E_columns, padded, HONE_PANEL)
    Bf16Queries pairs;             // instead of these in bf16
    float *lse, *product_sum;      // (slots, padded): lse, and Σ_c dO · O
    float *norm;                   // (slots, padded): 1 but where lse is too large to be exact
    uint8_t *normed;               // (slots, panels): some norm is not 1
    uint8_t *touched;              // (slots, chunks, panels): the chunk's dQ panel was written
    float *dQ;                     // (slots, chunks, panels, D, HONE_PANEL)
    float *workers;
    int64_t worker; // floats of one worker's scratch
    int64_t extra;  // what of it modifies scores
    int threads;    // workers with scratch; without a pool just one, whoever it is
    bool hides;     // some key may be hidden from some query
    bool modifies;  // the scores are more than a product
    // A task owns these: a gradient of the mask that is summed over one of them allows no second.
    int64_t tasks, tasks_of_stacks;
} Backward;

// Task t of a pool, argument a Backward *: BLOCK_PANELS panels of one stack, q, d_o, lse and D
// packed for all the products.
void hone_attention_prepare_queries(void *argument, int64_t task, int worker);
// The same for all panels of a stack, into a slot, normalised as below where b->modifies.
void hone_attention_prepare_stack(Backward *b, int64_t stack, int64_t slot, int worker);
// Task t: one panel of one stack, after all have been prepared. Where a mask of finfo.min leaves
// lse so large that the logarithm of the sum is lost in it, p = e^(s − lse) does not sum to 1: norm
// is 1 over what it sums to.
void hone_attention_normalise_panels(void *argument, int64_t task, int worker);

#endif
