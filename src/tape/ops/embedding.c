// SPDX-License-Identifier: Apache-2.0
// Embedding: y_t = table[token_t];  dtable[token_t] += dy_t. The table (V,C) has any weight type.
#include <inttypes.h>

#include "tape/record.h"

typedef struct EmbeddingRecord {
    Record base;
    Tensor *table;
    const int32_t *tokens;
} EmbeddingRecord;

static void backward(Tape *tape, Record *base) {
    const EmbeddingRecord *record = (const EmbeddingRecord *)base;
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dtable = hone_tape_gradient(tape, record->table);
    if (hone_tape_runs(tape))
        hone_scatter_rows(hone_tape_kernels(tape), base->output->shape[0], base->output->shape[1],
                          record->tokens, dy, dtable);
}

static bool tokens_exist(Tape *tape, const int32_t *tokens, int64_t count, int64_t V) {
    if (hone_tape_dry(tape)) return true;
    for (int64_t t = 0; t < count; t++)
        if (tokens[t] < 0 || tokens[t] >= V) {
            hone_tape_refuse(tape, HONE_ERROR_INPUT,
                             "token %" PRId32 " at place %" PRId64
                             " is outside of the vocabulary of %" PRId64,
                             tokens[t], t, V);
            return false;
        }
    return true;
}

Tensor *hone_embedding(Tape *tape, Weight *table, const int32_t *tokens, int64_t count) {
    int64_t V = table->base.shape[0], C = table->base.shape[1];
    if (!tokens_exist(tape, tokens, count, V)) return NULL;
    Tensor *y = hone_tape_new_tensor(tape, count, C);
    if (!y) return NULL;
    if (hone_tape_runs(tape))
        hone_gather_rows(hone_tape_kernels(tape), count, C, (int)table->base.dtype,
                         hone_tape_data(tape, &table->base), tokens, y->data);
    hone_tape_release_pages(tape, &table->base);
    y->requires_grad = hone_tape_gradients(tape) && table->base.requires_grad;
    if (!y->requires_grad) return y;
    EmbeddingRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->table = &table->base;
    record->tokens = tokens;
    return y;
}
