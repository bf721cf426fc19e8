// SPDX-License-Identifier: Apache-2.0
// An attention map, between what computes it and what writes it.
#ifndef HONE_TRAIN_ATTENTION_MAP_H
#define HONE_TRAIN_ATTENTION_MAP_H

#include <hone/attention_map.h>

#include "base/text.h"
#include "train/session.h"

// What sums up a head's map: <hone/attention_map.h>.
typedef enum MapMeasure { MAP_ENTROPY, MAP_DISTANCE, MAP_CHANGE, MAP_MEASURES } MapMeasure;

struct HoneAttentionMap {
    HoneModel *model;
    HoneAttentionMapInfo info;
    int32_t *token;
    int sides;                     // 2 with a base
    float *weights;                // (sides, layers, heads, tokens, tokens)
    double *measure[MAP_MEASURES]; // (sides, layers, heads); of the change (layers, heads)
};

// The map's own numbers, from 0 on. side: HONE_MAP_ADAPTED or HONE_MAP_BASE.
static inline const float *map_weights(const HoneAttentionMap *map, int side, int64_t layer,
                                       int64_t head) {
    const HoneAttentionMapInfo *info = &map->info;
    const int64_t square = info->tokens * info->tokens;
    return map->weights + ((side * info->layers + layer) * info->heads + head) * square;
}

static inline double map_measure(const HoneAttentionMap *map, MapMeasure measure, int side,
                                 int64_t layer, int64_t head) {
    const HoneAttentionMapInfo *info = &map->info;
    return map->measure[measure][(side * info->layers + layer) * info->heads + head];
}

// (tokens, tokens) ← what is shown of a head, or with head −1 the mean of the layer's heads.
void hone_map_shown(const HoneAttentionMap *map, HoneMapSide side, int64_t layer, int64_t head,
                    float *shown);

// attention_map_json.c: the map without what stands around it: {"text":…, …}, a line. packed:
// weights as the page reads them, 16 bits each in base64; else as numbers.
void hone_map_json(const HoneAttentionMap *map, bool packed, HoneMapSide side, TextBuffer *json);
// attention_map_picture.c
hone_status hone_map_picture(const HoneAttentionMap *map, HoneMapSide side, const char *path,
                             HoneError *err);

#endif
