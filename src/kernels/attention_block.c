// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_block.h"

#include <string.h>

// ---- scratch -----------------------------------------------------------------------------------

void hone_attention_take_queries(Backward *b, ScratchCursor *cursor) {
    size_t rows = (size_t)(b->slots * b->padded), floats = sizeof(float), halves = floats / 2;
    size_t D = (size_t)b->D, E = (size_t)b->E;
    size_t D_wide = (size_t)b->D_columns * HONE_PANEL, E_wide = (size_t)b->E_columns * HONE_PANEL;
    if (b->bf16) {
        b->pairs.Q = hone_attention_take(cursor, rows * (D + D % 2), halves);
        b->pairs.dO = hone_attention_take(cursor, rows * (E + E % 2), halves);
        b->pairs.Q_columns = hone_attention_take(cursor, rows * D_wide, halves);
        b->pairs.dO_columns = hone_attention_take(cursor, rows * E_wide, halves);
    } else {
        b->Q = hone_attention_take(cursor, rows * D, floats);
        b->dO = hone_attention_take(cursor, rows * E, floats);
        b->Q_columns = hone_attention_take(cursor, rows * D_wide, floats);
        b->dO_columns = hone_attention_take(cursor, rows * E_wide, floats);
    }
}

int64_t hone_attention_block_packed(const Backward *b) {
    if (!b->bf16) return b->block_keys * (b->D + b->E + b->D_columns * HONE_PANEL);
    int64_t halves = b->D * KEYS_LD +
                     b->block_keys * (attention_even(b->D) + attention_even(b->E) + 2 * SCORES_LD) +
                     HONE_MOST_PANELS * BLOCK_KEYS * HONE_PANEL;
    return attention_ceiling(halves / 2, HONE_PANEL) * HONE_PANEL + b->D * HONE_PANEL;
}

KeyBlock hone_attention_block(const Backward *b, int worker) {
    KeyBlock block = {0};
    int64_t most = b->block_keys;
    float *packed = b->workers + worker % b->threads * b->worker;
    if (b->bf16) {
        Bf16Keys *n = &block.narrow;
        n->P = (uint16_t *)packed;
        n->dS = n->P + most * SCORES_LD;
        n->pairs_of_dS = n->dS + most * SCORES_LD;
        n->K = n->pairs_of_dS + HONE_MOST_PANELS * BLOCK_KEYS * HONE_PANEL;
        n->V = n->K + most * attention_even(b->D);
        n->Kt = n->V + most * attention_even(b->E);
        n->turned = packed + hone_attention_block_packed(b) - b->D * HONE_PANEL;
    } else {
        block.K = packed;
        block.V = block.K + most * b->D;
        block.K_columns = block.V + most * b->E;
    }
    block.dK = packed + hone_attention_block_packed(b);
    block.dV = block.dK + most * b->D_columns * HONE_PANEL;
    block.P = block.dV + most * b->E_columns * HONE_PANEL;
    block.dS = block.P + most * SCORES_LD;
    float *rest = block.dS + most * SCORES_LD;
    block.visible = (uint16_t *)rest;
    block.kept = block.visible + most;
    block.draws = block.kept + most;
    block.capped = rest + 2 * most;
    block.extra = block.capped + (b->modifies ? most * HONE_PANEL : 0);
    return block;
}

// ---- packing -----------------------------------------------------------------------------------

static void pack_keys_bf16(const Backward *b, const KeyBlock *block) {
    const AttentionArgs *args = b->shape.args;
    const Bf16Keys *to = &block->narrow;
    int64_t start = block->start, stop = start + block->keys;
    hone_attention_narrow_keys(b->table, &b->shape, args->k, block->stack, start, stop, b->D,
                               to->K);
    hone_attention_narrow_keys(b->table, &b->shape, args->v, block->stack, start, stop, b->E,
                               to->V);
    hone_attention_narrow_turned(b->table, &b->shape, args->k, block->stack, start, stop, b->D,
                                 to->Kt, KEYS_LD, to->turned);
    hone_attention_zero_column(b->D, to->Kt + block->keys, KEYS_LD);
}

static void pack_keys(const Backward *b, const KeyBlock *block) {
    const AttentionArgs *args = b->shape.args;
    for (int64_t j = 0; j < block->keys; j++) {
        int64_t key = block->start + j;
        const float *k = attention_key_row(&b->shape, args->k, block->stack, key);
        const float *v = attention_key_row(&b->shape, args->v, block->stack, key);
        memcpy(block->K + j * b->D, k, (size_t)b->D * sizeof *k);
        memcpy(block->V + j * b->E, v, (size_t)b->E * sizeof *v);
        attention_pack_columns(b->D, k, block->K_columns + j * HONE_PANEL,
                               b->block_keys * HONE_PANEL);
    }
}

void hone_attention_begin_block(const Backward *b, KeyBlock *block) {
    const AttentionArgs *args = b->shape.args;
    block->infinite = false;
    for (int64_t key = block->start; b->hides && key < block->start + block->keys; key++) {
        const float *k = attention_key_row(&b->shape, args->k, block->stack, key);
        const float *v = attention_key_row(&b->shape, args->v, block->stack, key);
        block->infinite =
            block->infinite || !b->table->finite(b->D, k) || !b->table->finite(b->E, v);
    }
    if (b->bf16)
        pack_keys_bf16(b, block);
    else
        pack_keys(b, block);
    size_t keys = (size_t)block->keys;
    memset(block->dK, 0, keys * (size_t)b->D_columns * HONE_PANEL * sizeof *block->dK);
    memset(block->dV, 0, keys * (size_t)b->E_columns * HONE_PANEL * sizeof *block->dV);
}

// ---- products ----------------------------------------------------------------------------------

void hone_attention_score_products(const Backward *b, const KeyBlock *block, int64_t row,
                                   int panels, int64_t start, int64_t stop, float *P, float *dS) {
    int64_t keys = stop - start, D = b->D, E = b->E;
    if (b->bf16) {
        int64_t even_D = attention_even(D), even_E = attention_even(E);
        PairProduct product = {.M = keys,
                               .pairs = even_D / 2,
                               .A = block->narrow.K + start * even_D,
                               .row = even_D,
                               .B = b->pairs.Q + row * even_D,
                               .C = P,
                               .ldc = SCORES_LD,
                               .panels = panels,
                               .B_apart = even_D * HONE_PANEL,
                               .C_apart = HONE_PANEL,
                               .factor = b->shape.args->scale};
        b->table->product_bf16(&product);
        product.pairs = even_E / 2;
        product.A = block->narrow.V + start * even_E;
        product.row = even_E;
        product.B = b->pairs.dO + row * even_E;
        product.C = dS;
        product.B_apart = even_E * HONE_PANEL;
        product.factor = 1.0f;
        b->table->product_bf16(&product);
    } else {
        PanelProduct product = {.M = keys,
                                .K = D,
                                .A = {block->K + start * D, D, 1},
                                .B = b->Q + row * D,
                                .ldb = HONE_PANEL,
                                .C = P,
                                .ldc = SCORES_LD,
                                .panels = panels,
                                .B_apart = D * HONE_PANEL,
                                .C_apart = HONE_PANEL};
        b->table->product(&product);
        product.K = E;
        product.A = (PanelOperand){block->V + start * E, E, 1};
        product.B = b->dO + row * E;
        product.C = dS;
        product.B_apart = E * HONE_PANEL;
        b->table->product(&product);
    }
}

// C (M, columns·16) += A (M,K) · B, whose panels of columns are b->padded rows apart.
static void add_product(const Backward *b, bool sparse, int64_t M, int64_t K, PanelOperand A,
                        const float *B, int64_t columns, float *C) {
    int64_t ldc = columns * HONE_PANEL, apart = b->padded * HONE_PANEL;
    int most = b->table->product_panels;
    for (int64_t c = 0; c < columns && sparse; c++)
        hone_attention_sparse_product(M, K, A, B + c * apart, HONE_PANEL, C + c * HONE_PANEL, ldc,
                                      true, true);
    for (int64_t c = 0; c < columns && !sparse; c += most)
        b->table->product(&(PanelProduct){.M = M,
                                          .K = K,
                                          .A = A,
                                          .B = B + c * apart,
                                          .ldb = HONE_PANEL,
                                          .C = C + c * HONE_PANEL,
                                          .ldc = ldc,
                                          .panels = attention_few(columns - c, most),
                                          .B_apart = apart,
                                          .C_apart = HONE_PANEL,
                                          .accumulate = true});
}

// The same in bf16: A is X (M,K) rounded, which goes to `rounded` unless it is there (X NULL); rows
// of both are SCORES_LD apart.
static void add_product_bf16(const Backward *b, bool sparse, int64_t M, int64_t K, const float *X,
                             uint16_t *rounded, const uint16_t *B, int64_t columns, float *C) {
    int64_t ldc = columns * HONE_PANEL, apart = b->padded * HONE_PANEL;
    int most = b->table->product_panels;
    for (int64_t c = 0; c < columns && sparse; c++)
        hone_attention_sparse_pairs(M, K, (PanelOperand){X, SCORES_LD, 1}, B + c * apart,
                                    C + c * HONE_PANEL, ldc);
    if (sparse) return;
    if (X) b->table->narrow(M, K, X, SCORES_LD, rounded, SCORES_LD);
    for (int64_t c = 0; c < columns; c += most)
        b->table->product_bf16(&(PairProduct){.M = M,
                                              .pairs = attention_even(K) / 2,
                                              .A = rounded,
                                              .row = SCORES_LD,
                                              .B = B + c * apart,
                                              .C = C + c * HONE_PANEL,
                                              .ldc = ldc,
                                              .panels = attention_few(columns - c, most),
                                              .B_apart = apart,
                                              .C_apart = HONE_PANEL,
                                              .factor = 1.0f,
                                              .accumulate = true});
}

void hone_attention_add_to_keys(const Backward *b, const KeyBlock *block, const KeyRun *run,
                                bool sparse) {
    int64_t D_ld = b->D_columns * HONE_PANEL, E_ld = b->E_columns * HONE_PANEL;
    int64_t keys = run->stop - run->start, rows = (run->to - run->from) * HONE_PANEL;
    int64_t scores = run->start * SCORES_LD + run->from * HONE_PANEL;
    const float *P = block->rounded ? NULL : block->P + scores;
    const float *dS = block->rounded ? NULL : block->dS + scores;
    float *dK = block->dK + run->start * D_ld, *dV = block->dV + run->start * E_ld;
    // Where the run's rows begin in the first panel of columns.
    int64_t slot = block->slot * b->padded;
    int64_t row = (run->first + run->from) * HONE_PANEL * HONE_PANEL;
    int64_t Q = slot * D_ld + row, dO = slot * E_ld + row;
    if (b->bf16) {
        add_product_bf16(b, sparse, keys, rows, P, block->narrow.P + scores,
                         b->pairs.dO_columns + dO, b->E_columns, dV);
        add_product_bf16(b, sparse, keys, rows, dS, block->narrow.dS + scores,
                         b->pairs.Q_columns + Q, b->D_columns, dK);
    } else {
        add_product(b, sparse, keys, rows, (PanelOperand){P, SCORES_LD, 1}, b->dO_columns + dO,
                    b->E_columns, dV);
        add_product(b, sparse, keys, rows, (PanelOperand){dS, SCORES_LD, 1}, b->Q_columns + Q,
                    b->D_columns, dK);
    }
}

void hone_attention_add_to_queries(const Backward *b, const KeyBlock *block, int64_t panel,
                                   int panels, int column, int64_t start, int64_t stop,
                                   bool sparse) {
    int64_t place = (block->slot * b->chunks + block->chunk) * b->shape.panels + panel;
    int64_t keys = stop - start, size = b->D * HONE_PANEL;
    const float *dS = block->dS + start * SCORES_LD + column * HONE_PANEL;
    float *dQ = b->dQ + place * size;
    for (int p = 0; p < panels; p++) {
        if (!b->touched[place + p]) memset(dQ + p * size, 0, (size_t)size * sizeof *dQ);
        b->touched[place + p] = 1;
    }
    if (sparse) {
        const AttentionView *k = &b->shape.args->k;
        PanelOperand Kt = {attention_key_row(&b->shape, *k, block->stack, block->start + start), 1,
                           k->row};
        for (int p = 0; p < panels; p++)
            hone_attention_sparse_product(b->D, keys, Kt, dS + p * HONE_PANEL, SCORES_LD,
                                          dQ + p * size, HONE_PANEL, true, false);
    } else if (b->bf16) {
        uint16_t *pairs = block->narrow.pairs_of_dS;
        for (int p = 0; p < panels; p++)
            b->table->pack_pairs(keys, dS + p * HONE_PANEL, SCORES_LD,
                                 pairs + p * BLOCK_KEYS * HONE_PANEL);
        b->table->product_bf16(&(PairProduct){.M = b->D,
                                              .pairs = attention_even(keys) / 2,
                                              .A = block->narrow.Kt + start,
                                              .row = KEYS_LD,
                                              .B = pairs,
                                              .C = dQ,
                                              .ldc = HONE_PANEL,
                                              .panels = panels,
                                              .B_apart = BLOCK_KEYS * HONE_PANEL,
                                              .C_apart = size,
                                              .factor = 1.0f,
                                              .accumulate = true});
    } else {
        PanelProduct product = {.K = keys,
                                .A = {block->K_columns + start * HONE_PANEL, 1, HONE_PANEL},
                                .B = dS,
                                .ldb = SCORES_LD,
                                .C = dQ,
                                .ldc = HONE_PANEL,
                                .panels = panels,
                                .B_apart = HONE_PANEL,
                                .C_apart = size,
                                .accumulate = true};
        for (int64_t c = 0; c < b->D; c += HONE_PANEL) {
            product.M = b->D - c < HONE_PANEL ? b->D - c : HONE_PANEL;
            b->table->product(&product);
            product.A.data += b->block_keys * HONE_PANEL;
            product.C += HONE_PANEL * HONE_PANEL;
        }
    }
}
