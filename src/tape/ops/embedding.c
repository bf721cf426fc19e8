// SPDX-License-Identifier: Apache-2.0
// Embedding: y_t = table[token_t] + Σ scale·B[token_t]·A;  dtable[token_t] += dy_t;
//   dB[token_t] += scale·dy_t·Aᵀ;  dA += scale·Σ_t B[token_t]ᵀ·dy_t.
// The table (V,C) has any weight type. Adapters A (rank,C), B (V,rank) drop nothing, as in PEFT.
#include <inttypes.h>

#include "tape/ops/weight.h"

typedef struct EmbeddingRecord {
    Record base;
    Weight *table;
    const int32_t *tokens;
} EmbeddingRecord;

// u (T,rank) = B[token_t]
static float *gather_ranks(Tape *tape, Adapter *adapter, const int32_t *tokens, int64_t T,
                           HeapBlock **block) {
    const int64_t rank = adapter->A.shape[0];
    *block = hone_tape_take_floats(tape, T, rank);
    float *u = hone_block_address(*block);
    const float *B = hone_tape_data(tape, &adapter->B);
    if (hone_tape_runs(tape))
        hone_gather_rows(hone_tape_kernels(tape), T, rank, HONE_F32, B, tokens, u);
    return u;
}

// y += scale·u·A
static void add_adapter(Tape *tape, Adapter *adapter, const int32_t *tokens, int64_t T, float *y) {
    HeapBlock *block;
    const int64_t rank = adapter->A.shape[0], C = adapter->A.shape[1];
    const MatmulArgs args = {.M = T,
                             .N = C,
                             .K = rank,
                             .A = gather_ranks(tape, adapter, tokens, T, &block),
                             .lda = rank,
                             .B = hone_tape_data(tape, &adapter->A),
                             .b_type = HONE_F32,
                             .ldb = C,
                             .C = y,
                             .ldc = C,
                             .alpha = adapter->scale,
                             .accumulate = true};
    hone_tape_matmul(tape, &args);
    hone_tape_give(tape, block);
}

static void train_B(Tape *tape, Adapter *adapter, const int32_t *tokens, int64_t T,
                    const float *dy) {
    if (!adapter->B.requires_grad) return;
    const int64_t rank = adapter->A.shape[0], C = adapter->A.shape[1];
    HeapBlock *block = hone_tape_take_floats(tape, T, rank);
    const MatmulArgs args = {.M = T,
                             .N = rank,
                             .K = C,
                             .A = dy,
                             .lda = C,
                             .B = hone_tape_data(tape, &adapter->A),
                             .b_type = HONE_F32,
                             .ldb = C,
                             .b_transposed = true,
                             .C = hone_block_address(block),
                             .ldc = rank,
                             .alpha = adapter->scale};
    hone_tape_matmul(tape, &args);
    float *dB = hone_tape_gradient(tape, &adapter->B);
    if (hone_tape_runs(tape))
        hone_scatter_rows(hone_tape_kernels(tape), T, rank, tokens, args.C, dB);
    hone_tape_give(tape, block);
}

static void train_A(Tape *tape, Adapter *adapter, const int32_t *tokens, int64_t T,
                    const float *dy) {
    if (!adapter->A.requires_grad) return;
    const int64_t rank = adapter->A.shape[0], C = adapter->A.shape[1];
    HeapBlock *block;
    const MatmulArgs args = {.M = rank,
                             .N = C,
                             .K = T,
                             .A = gather_ranks(tape, adapter, tokens, T, &block),
                             .lda = rank,
                             .a_transposed = true,
                             .B = dy,
                             .b_type = HONE_F32,
                             .ldb = C,
                             .C = hone_tape_gradient(tape, &adapter->A),
                             .ldc = C,
                             .alpha = adapter->scale,
                             .accumulate = true};
    hone_tape_matmul(tape, &args);
    hone_tape_give(tape, block);
}

static void backward(Tape *tape, Record *base) {
    const EmbeddingRecord *record = (const EmbeddingRecord *)base;
    Weight *table = record->table;
    const float *dy = hone_tape_gradient(tape, base->output);
    const int64_t T = base->output->shape[0], C = base->output->shape[1];
    float *dtable = hone_tape_gradient(tape, &table->base); // NULL where it is frozen
    if (hone_tape_runs(tape) && dtable)
        hone_scatter_rows(hone_tape_kernels(tape), T, C, record->tokens, dy, dtable);
    for (int a = 0; a < table->adapter_count; a++) {
        train_B(tape, &table->adapters[a], record->tokens, T, dy);
        train_A(tape, &table->adapters[a], record->tokens, T, dy);
    }
}

// A table's adapters fit it, and none is a DoRA, which would scale its columns.
static bool adapters_fit(Tape *tape, const Weight *table) {
    for (int a = 0; a < table->adapter_count; a++) {
        const Adapter *adapter = &table->adapters[a];
        const bool fits = adapter->A.shape[1] == table->base.shape[1] &&
                          adapter->B.shape[0] == table->base.shape[0] &&
                          adapter->A.shape[0] == adapter->B.shape[1];
        if (fits && adapter->magnitude.rank == 0) continue;
        char text[3][64];
        hone_tape_refuse(
            tape, HONE_ERROR_ARGUMENT,
            "an adapter A %s, B %s without magnitudes was expected to fit the table %s",
            hone_shape_text(&adapter->A, text[0]), hone_shape_text(&adapter->B, text[1]),
            hone_shape_text(&table->base, text[2]));
        return false;
    }
    return true;
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
    if (!tokens_exist(tape, tokens, count, V) || !adapters_fit(tape, table)) return NULL;
    Tensor *y = hone_tape_new_tensor(tape, count, C);
    if (!y) return NULL;
    if (hone_tape_runs(tape))
        hone_gather_rows(hone_tape_kernels(tape), count, C, (int)table->base.dtype,
                         hone_tape_data(tape, &table->base), tokens, y->data);
    hone_tape_release_pages(tape, &table->base);
    for (int a = 0; a < table->adapter_count; a++)
        add_adapter(tape, &table->adapters[a], tokens, count, y->data);
    y->requires_grad = hone_tape_gradients(tape) && hone_weight_is_trained(table);
    if (!y->requires_grad) return y;
    EmbeddingRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->table = table;
    record->tokens = tokens;
    return y;
}
