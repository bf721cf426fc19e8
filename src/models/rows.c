// SPDX-License-Identifier: Apache-2.0
// What a layer runs over: which tokens are keys, which are queries, and who sees whom.
#include "models/family.h"

static int64_t keys_of(const ModelBatch *batch, const KeyValueCache *cache) {
    return batch->tokens + (cache ? cache->length : 0);
}

LayerRows hone_all_rows(const ModelBatch *batch, const KeyValueCache *cache) {
    return (LayerRows){.rows = batch->tokens,
                       .position = batch->position,
                       .query_position = batch->position,
                       .key_position = batch->key_position ? batch->key_position : batch->position,
                       .path = batch->path,
                       .query_path = batch->path,
                       .visible = {.queries = batch->tokens,
                                   .keys = keys_of(batch, cache),
                                   .begin = batch->begin,
                                   .end = batch->end}};
}

// How many of the rising rows lie before `token`.
static int32_t rows_before(const int32_t *row, int64_t rows, int32_t token) {
    int64_t low = 0, high = rows;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (row[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return (int32_t)low;
}

LayerRows hone_chosen_rows(Tape *tape, const ModelBatch *batch, const KeyValueCache *cache) {
    LayerRows all = hone_all_rows(batch, cache);
    if (batch->rows == batch->tokens) return all; // they rise, so they are all
    int64_t keys = all.visible.keys;
    int32_t *position = hone_tape_host(tape, batch->rows, sizeof *position);
    int32_t *begin = hone_tape_host(tape, keys, sizeof *begin);
    int32_t *end = hone_tape_host(tape, keys, sizeof *end);
    uint64_t *path = batch->path ? hone_tape_host(tape, batch->rows, sizeof *path) : NULL;
    if (position && begin && end && (path || !batch->path)) {
        for (int64_t i = 0; i < batch->rows; i++) position[i] = batch->position[batch->row[i]];
        for (int64_t i = 0; i < batch->rows && path; i++) path[i] = batch->path[batch->row[i]];
        for (int64_t j = 0; j < keys && batch->begin; j++) {
            begin[j] = rows_before(batch->row, batch->rows, batch->begin[j]);
            end[j] = rows_before(batch->row, batch->rows, batch->end[j]);
        }
    }
    LayerRows chosen = all;
    chosen.row = batch->row;
    chosen.rows = batch->rows;
    chosen.query_position = position;
    chosen.query_path = path;
    chosen.visible.queries = batch->rows;
    chosen.visible.begin = batch->begin ? begin : NULL;
    chosen.visible.end = batch->begin ? end : NULL;
    return chosen;
}

// Where a key's queries end by the window: behind the last of [begin, end) that is less than
// `window` below it. *torn: there is one before that is not, in a branch that goes further.
static int32_t windowed_end(const LayerRows *rows, int32_t begin, int32_t end, int64_t limit,
                            bool *torn) {
    while (end > begin && rows->query_position[end - 1] >= limit) end--;
    for (int32_t i = begin; i < end && !*torn; i++) *torn = rows->query_position[i] >= limit;
    return end;
}

LayerRows hone_windowed_rows(Tape *tape, const LayerRows *rows, const KeyValueCache *cache,
                             int32_t window) {
    const int64_t keys = rows->visible.keys, before = cache ? cache->length : 0;
    LayerRows windowed = *rows;
    Visibility *visible = &windowed.visible;
    int32_t *begin = hone_tape_host(tape, keys, sizeof *begin);
    int32_t *end = hone_tape_host(tape, keys, sizeof *end);
    int32_t *depth = hone_tape_host(tape, keys, sizeof *depth);
    visible->window = window;
    if (!begin || !end || !depth || hone_tape_dry(tape)) return windowed;
    bool torn = false;
    for (int64_t j = 0; j < keys; j++) {
        depth[j] = j < before ? (int32_t)j : rows->position[j - before];
        begin[j] = visible->begin ? visible->begin[j] : 0;
        end[j] = visible->begin ? visible->end[j] : (int32_t)visible->queries;
        end[j] = windowed_end(rows, begin[j], end[j], (int64_t)depth[j] + window, &torn);
    }
    visible->begin = begin;
    visible->end = end;
    if (torn) {
        visible->query_depth = rows->query_position;
        visible->key_depth = depth;
    }
    return windowed;
}

LayerRows hone_source_rows(const SourceBatch *source) {
    const ModelBatch batch = {.tokens = source->tokens,
                              .position = source->position,
                              .begin = source->begin,
                              .end = source->end,
                              .path = source->path};
    return hone_all_rows(&batch, NULL);
}

Visibility hone_source_visibility(Tape *tape, const LayerRows *rows, const SourceBatch *source) {
    Visibility visible = {.queries = rows->rows,
                          .keys = source->tokens,
                          .begin = source->seen_begin,
                          .end = source->seen_end};
    if (!rows->row) return visible;
    int32_t *begin = hone_tape_host(tape, source->tokens, sizeof *begin);
    int32_t *end = hone_tape_host(tape, source->tokens, sizeof *end);
    for (int64_t j = 0; begin && end && j < source->tokens; j++) {
        begin[j] = rows_before(rows->row, rows->rows, source->seen_begin[j]);
        end[j] = rows_before(rows->row, rows->rows, source->seen_end[j]);
    }
    visible.begin = begin;
    visible.end = end;
    return visible;
}

Tensor *hone_layer_rows(Tape *tape, const LayerRows *rows, Tensor *x) {
    if (!x || rows->rows == x->shape[0]) return x;
    return hone_select_rows(tape, x, rows->row, rows->rows);
}
