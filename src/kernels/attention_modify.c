// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_modify.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

int64_t hone_attention_modify_floats(const AttentionArgs *args, int64_t keys) {
    // The mask of a tile; and rows of it as floats, before they are turned.
    return args->mask.data || args->d_mask || args->window > 0 ? 2 * keys * HONE_PANEL : 0;
}

bool hone_attention_masked(const AttentionArgs *args) {
    return args->mask.data != NULL || args->query_depth != NULL;
}

bool hone_attention_may_mask(const AttentionArgs *args) {
    return args->mask.data != NULL || args->window > 0;
}

// Where a lane's part of the mask begins, in elements.
static int64_t mask_place(const ScoreTile *tile, int lane) {
    const AttentionArgs *args = tile->shape->args;
    const AttentionMask *mask = &args->mask;
    LanePlace place = attention_lane_place(tile->shape, tile->stack, tile->panel, lane);
    return place.head / args->heads * mask->batch + place.head % args->heads * mask->head +
           place.query * mask->query + tile->start * mask->key;
}

// What the mask adds to a lane's scores: `row`, or the mask itself where it lies so.
static const float *lane_mask(const ScoreTile *tile, int lane, float *row) {
    const AttentionArgs *args = tile->shape->args;
    const AttentionMask *mask = &args->mask;
    const int64_t place = mask_place(tile, lane);
    if (!mask->data) {
        memset(row, 0, (size_t)tile->keys * sizeof *row);
    } else if (mask->boolean) {
        const uint8_t *from = (const uint8_t *)mask->data + place;
        for (int64_t k = 0; k < tile->keys; k++) row[k] = from[k * mask->key] ? 0.0f : -INFINITY;
    } else if (mask->key == 1 && !args->query_depth) {
        return (const float *)mask->data + place;
    } else {
        const float *from = (const float *)mask->data + place;
        for (int64_t k = 0; k < tile->keys; k++) row[k] = from[k * mask->key];
    }
    if (!args->query_depth) return row;
    const int64_t query = attention_lane_place(tile->shape, tile->stack, tile->panel, lane).query;
    const int64_t least = (int64_t)args->query_depth[query] - args->window + 1;
    const int32_t *depth = args->key_depth + tile->start;
    for (int64_t k = 0; k < tile->keys; k++) row[k] = depth[k] < least ? -INFINITY : row[k];
    return row;
}

// M (keys, HONE_PANEL) = the mask of the tile as what is added to the scores.
static void gather_mask(const ScoreTile *tile, float *M, float *rows) {
    const float *sources[HONE_PANEL];
    for (int n = tile->lanes; n < HONE_PANEL; n++) { // no query: it sees nothing, not even NaN
        sources[n] = rows + n * tile->keys;
        for (int64_t k = 0; k < tile->keys; k++) rows[n * tile->keys + k] = -INFINITY;
    }
    for (int n = 0; n < tile->lanes; n++) sources[n] = lane_mask(tile, n, rows + n * tile->keys);
    tile->table->gather(tile->keys, HONE_PANEL, sources, 1.0f, M, HONE_PANEL);
}

static void add_distance(const ScoreTile *tile) {
    const AttentionArgs *args = tile->shape->args;
    float slope[HONE_PANEL] = {0}, position[HONE_PANEL] = {0};
    for (int n = 0; n < tile->lanes; n++) {
        LanePlace place = attention_lane_place(tile->shape, tile->stack, tile->panel, n);
        slope[n] = args->slopes[place.head % args->heads];
        position[n] = (float)(place.query + args->offset);
    }
    tile->table->distance(tile->keys, tile->S, tile->ld, slope, position, tile->start);
}

void hone_attention_modify(const ScoreTile *tile, float *capped, uint16_t *visible,
                           float *scratch) {
    const AttentionArgs *args = tile->shape->args;
    if (args->softcap > 0) {
        tile->table->softcap(tile->keys, tile->S, tile->ld, args->softcap);
        for (int64_t k = 0; capped && k < tile->keys; k++)
            memcpy(capped + k * HONE_PANEL, tile->S + k * tile->ld, HONE_PANEL * sizeof *capped);
    }
    if (args->slopes) add_distance(tile);
    if (hone_attention_masked(args)) {
        float *M = scratch, *rows = scratch + tile->keys * HONE_PANEL;
        gather_mask(tile, M, rows);
        tile->table->mask(tile->keys, tile->S, tile->ld, M, visible);
    }
}

void hone_attention_lane_sinks(const AttentionShape *shape, int64_t stack, int64_t panel,
                               float sink[HONE_PANEL]) {
    const AttentionArgs *args = shape->args;
    int lanes = hone_attention_panel_range(shape, panel).lanes;
    for (int n = 0; n < HONE_PANEL; n++)
        sink[n] = args->sinks && n < lanes
                      ? args->sinks[attention_lane_place(shape, stack, panel, n).head % args->heads]
                      : -INFINITY;
}

// ---- dropout -----------------------------------------------------------------------------------

uint32_t hone_dropout_threshold(float dropout) {
    long value = lrintf(dropout * 256.0f);
    return (uint32_t)(value > 255 ? 255 : value);
}

float hone_dropout_factor(float dropout) {
    return 256.0f / (float)(256 - hone_dropout_threshold(dropout));
}

float hone_attention_keep_factor(const AttentionArgs *args) {
    return hone_dropout_factor(args->dropout);
}

// The lanes that a draw of 16 queries of one head decides are taken from it: without groups all of
// the panel's.
void hone_attention_keep(const ScoreTile *tile, uint16_t *bits, uint16_t *scratch) {
    const AttentionArgs *args = tile->shape->args;
    LanePlace places[HONE_PANEL];
    for (int n = 0; n < tile->lanes; n++)
        places[n] = attention_lane_place(tile->shape, tile->stack, tile->panel, n);
    bool taken[HONE_PANEL] = {false};
    memset(bits, 0, (size_t)tile->keys * sizeof *bits);
    for (int first = 0; first < tile->lanes; first++) {
        if (taken[first]) continue;
        int64_t block = places[first].query / HONE_PANEL;
        DropoutCounter counter = {.key = hone_philox_key(args->seed, RANDOM_DROPOUT),
                                  .head = (uint64_t)places[first].head,
                                  .block = (uint32_t)block,
                                  .threshold = hone_dropout_threshold(args->dropout)};
        tile->table->keep(&counter, tile->start, tile->keys, scratch);
        for (int n = first; n < tile->lanes; n++) {
            if (places[n].head != places[first].head || places[n].query / HONE_PANEL != block)
                continue;
            taken[n] = true;
            int from = (int)(places[n].query % HONE_PANEL);
            for (int64_t k = 0; k < tile->keys; k++)
                bits[k] = (uint16_t)(bits[k] | (scratch[k] >> from & 1) << n);
        }
    }
}

// ---- gradient of the mask ----------------------------------------------------------------------

// Where lanes or keys share elements their sums are added, in double: fewer roundings than terms.
static void add_few_sums(const ScoreTile *tile, int lanes_together) {
    const AttentionArgs *args = tile->shape->args;
    int64_t stride = args->mask.key, keys_together = stride == 0 ? tile->keys : 1;
    for (int first = 0; first < tile->lanes; first += lanes_together) {
        float *row = args->d_mask + mask_place(tile, first);
        for (int64_t start = 0; start < tile->keys; start += keys_together) {
            double sum = 0;
            for (int64_t k = start; k < start + keys_together; k++)
                for (int n = first; n < first + lanes_together; n++)
                    sum += (double)tile->S[k * tile->ld + n];
            row[start * stride] += (float)sum;
        }
    }
}

void hone_attention_mask_gradient(const ScoreTile *tile, float *scratch) {
    const AttentionArgs *args = tile->shape->args;
    const AttentionMask *mask = &args->mask;
    bool one_row = mask->query == 0 && (mask->head == 0 || tile->shape->group == 1);
    if (one_row || mask->key != 1) {
        add_few_sums(tile, one_row ? tile->lanes : 1);
        return;
    }
    float *rows[HONE_PANEL], ones[HONE_PANEL];
    for (int n = 0; n < HONE_PANEL; n++) {
        ones[n] = 1.0f;
        rows[n] = n < tile->lanes ? args->d_mask + mask_place(tile, n) : NULL;
    }
    for (int64_t k = 0; k < tile->keys; k++)
        memcpy(scratch + k * HONE_PANEL, tile->S + k * tile->ld, HONE_PANEL * sizeof *scratch);
    tile->table->scatter(tile->keys, tile->lanes, scratch, ones, rows, true);
}
