// SPDX-License-Identifier: Apache-2.0
// What is done to the scores of one panel between the products, in the order of the formula in
// kernels.h, by the level's micro-kernels: soft-cap, ALiBi, mask; and dropout.
#ifndef HONE_KERNELS_ATTENTION_MODIFY_H
#define HONE_KERNELS_ATTENTION_MODIFY_H

#include "kernels/attention_parts.h"

// A panel and the keys [start, start + keys) that it meets.
typedef struct ScoreTile {
    const AttentionShape *shape;
    const AttentionTable *table;
    int64_t stack, panel, start, keys;
    int lanes;
    float *S; // (keys, HONE_PANEL), rows ld apart
    int64_t ld;
} ScoreTile;

// Floats of scratch that hone_attention_modify needs for tiles of up to `keys` keys.
int64_t hone_attention_modify_floats(const AttentionArgs *args, int64_t keys);
// S ← the scores as the softmax takes them. uncapped: where S is kept between soft-cap and the
// rest, (keys, HONE_PANEL), or NULL. visible: what the mask hides, or NULL. Intervals are not
// looked at.
void hone_attention_modify(const ScoreTile *tile, float *capped, uint16_t *visible, float *scratch);
// Does anything but the intervals hide a key?
bool hone_attention_masked(const AttentionArgs *args);
// Is there to be room for that?
bool hone_attention_may_mask(const AttentionArgs *args);
// bits[k]: which lanes keep key start + k. scratch: (keys) more.
void hone_attention_keep(const ScoreTile *tile, uint16_t *bits, uint16_t *scratch);
// 1 / (1 − dropout) with the dropout that its threshold gives.
float hone_attention_keep_factor(const AttentionArgs *args);
// Of any attention's dropout: the byte below which a pair is dropped, and what the others weigh.
uint32_t hone_dropout_threshold(float dropout);
float hone_dropout_factor(float dropout);
// sink[lane] of a panel, -infinity without sinks and past the last row.
void hone_attention_lane_sinks(const AttentionShape *shape, int64_t stack, int64_t panel,
                               float sink[HONE_PANEL]);
// The gradient of the mask += dS of the tile (in S). scratch as for hone_attention_modify.
void hone_attention_mask_gradient(const ScoreTile *tile, float *scratch);

#endif
