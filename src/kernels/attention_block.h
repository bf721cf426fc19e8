// SPDX-License-Identifier: Apache-2.0
// The backward pass's block of keys: what a task packs of it, and the five products of a block with
// panels of queries, in f32 or in bf16. The rest of the pass need not know which.
#ifndef HONE_KERNELS_ATTENTION_BLOCK_H
#define HONE_KERNELS_ATTENTION_BLOCK_H

#include "kernels/attention_backward.h"

enum {
    BLOCK_KEYS = 128,                  // keys of a block: its scores and gradients stay in L2
    KEYS_LD = BLOCK_KEYS + HONE_PANEL, // rows of the keys' transpose, an odd number of cache lines
    SCORES_LD = BLOCK_ROWS + HONE_PANEL, // rows of a block of scores, an odd number of cache lines
};

// What is packed of a block of keys in bf16, and what is rounded there.
typedef struct Bf16Keys {
    uint16_t *K, *V;  // (keys, even D), (keys, even E)
    uint16_t *Kt;     // (D, KEYS_LD)
    uint16_t *P, *dS; // (keys, SCORES_LD): the left sides of dV and dK
    uint16_t
        *pairs_of_dS; // (HONE_MOST_PANELS, BLOCK_KEYS / 2, HONE_PANEL, 2): the right side of dQ
    float *turned;    // (D, HONE_PANEL): scratch of packing
} Bf16Keys;

// One block of keys at work: what a task packs and sums before it goes on to the next.
typedef struct KeyBlock {
    int64_t stack, slot, chunk;
    int64_t start, keys;
    float *K, *V;                     // (keys, D), (keys, E)
    float *K_columns;                 // (D_columns, block_keys, HONE_PANEL): the left side of dQ
    Bf16Keys narrow;                  // instead of these in bf16
    float *dK, *dV;                   // (keys, D_columns·16), (keys, E_columns·16)
    float *P, *dS;                    // (keys, SCORES_LD)
    float *capped;                    // (keys, HONE_PANEL): scores between soft-cap and the rest
    float *extra;                     // of hone_attention_modify
    uint16_t *visible, *kept, *draws; // (keys) each: a bit a lane
    bool infinite;                    // NaN or infinity in k or v
    bool rounded;                     // P and dS of this pair are in narrow, P nowhere else
    Ahead ahead;                      // what is fetched meanwhile
} KeyBlock;

// The keys [start, stop) of a block, which panels [from, to) of the block of queries that begins
// with panel `first` see.
typedef struct KeyRun {
    int64_t start, stop;
    int from, to;
    int64_t first;
} KeyRun;

// Room for what is packed of q and d_o.
void hone_attention_take_queries(Backward *b, ScratchCursor *cursor);
// Floats of a worker that hone_attention_begin_block fills, and in bf16 those for what is rounded.
int64_t hone_attention_block_packed(const Backward *b);
// A worker's, its start and keys still to be set.
KeyBlock hone_attention_block(const Backward *b, int worker);
// Packs the keys, clears their gradients.
void hone_attention_begin_block(const Backward *b, KeyBlock *block);

// Of the neighbouring panels whose packed rows begin at `row` and the keys [start, stop): P ← scale
// · Q · K, dS ← dO · V, rows SCORES_LD apart.
void hone_attention_score_products(const Backward *b, const KeyBlock *block, int64_t row,
                                   int panels, int64_t start, int64_t stop, float *P, float *dS);
// sparse, below: some operand is NaN or infinite where a coefficient is 0.
// dV += Pᵀ·dO and dK += dSᵀ·Q of a run.
void hone_attention_add_to_keys(const Backward *b, const KeyBlock *block, const KeyRun *run,
                                bool sparse);
// dQ of neighbouring panels, from column `column` of the block's scores on, += Kᵀ·dS over the keys
// [start, stop).
void hone_attention_add_to_queries(const Backward *b, const KeyBlock *block, int64_t panel,
                                   int panels, int column, int64_t start, int64_t stop,
                                   bool sparse);

#endif
