// SPDX-License-Identifier: Apache-2.0
#include "tape/ops/weight.h"

#include <inttypes.h>

bool hone_weight_reads_input(const Weight *weight) {
    for (int a = 0; a < weight->adapter_count; a++)
        if (weight->adapters[a].A.requires_grad) return true;
    return weight->base.requires_grad;
}

bool hone_weight_reads_ranks(const Weight *weight) {
    for (int a = 0; a < weight->adapter_count; a++)
        if (weight->adapters[a].B.requires_grad) return true;
    return false;
}

bool hone_weight_is_trained(const Weight *weight) {
    return hone_weight_reads_input(weight) || hone_weight_reads_ranks(weight) ||
           weight->bias.requires_grad;
}

int64_t hone_weight_ranks(const Weight *weight) {
    int64_t ranks = 0;
    for (int a = 0; a < weight->adapter_count; a++) ranks += weight->adapters[a].A.shape[0];
    return ranks;
}

bool hone_weight_fits(Tape *tape, const Weight *weight, const Tensor *x) {
    char text[3][64];
    const Tensor *W = &weight->base;
    if (weight->bias.rank && hone_tensor_count(&weight->bias) != W->shape[0]) {
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a bias %s does not fit a weight %s",
                         hone_shape_text(&weight->bias, text[0]), hone_shape_text(W, text[1]));
        return false;
    }
    if (W->shape[1] != x->shape[1]) {
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a weight %s was given rows %s",
                         hone_shape_text(W, text[0]), hone_shape_text(x, text[1]));
        return false;
    }
    for (int a = 0; a < weight->adapter_count; a++) {
        const Tensor *A = &weight->adapters[a].A, *B = &weight->adapters[a].B;
        if (A->shape[1] == W->shape[1] && B->shape[0] == W->shape[0] &&
            A->shape[0] == B->shape[1] && A->dtype == HONE_F32 && B->dtype == HONE_F32)
            continue;
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                         "an adapter A %s, B %s of F32 was expected to fit the weight %s",
                         hone_shape_text(A, text[0]), hone_shape_text(B, text[1]),
                         hone_shape_text(W, text[2]));
        return false;
    }
    return true;
}

// y (T,out) = x (T,in) · Wᵀ [+ adapter.scale · u (T,rank) · Bᵀ]
static MatmulArgs product(Tape *tape, int64_t T, const float *x, Tensor *W, float *y) {
    return (MatmulArgs){.M = T,
                        .N = W->shape[0],
                        .K = W->shape[1],
                        .A = x,
                        .lda = W->shape[1],
                        .B = hone_tape_data(tape, W),
                        .b_type = (int)W->dtype,
                        .ldb = W->shape[1],
                        .b_transposed = true,
                        .C = y,
                        .ldc = W->shape[0],
                        .alpha = 1};
}

// dx (T,in) = [dx +] dy (T,out) · W
static MatmulArgs product_back(Tape *tape, int64_t T, const float *dy, Tensor *W, float *dx) {
    return (MatmulArgs){.M = T,
                        .N = W->shape[1],
                        .K = W->shape[0],
                        .A = dy,
                        .lda = W->shape[0],
                        .B = hone_tape_data(tape, W),
                        .b_type = (int)W->dtype,
                        .ldb = W->shape[1],
                        .C = dx,
                        .ldc = W->shape[1],
                        .alpha = 1};
}

// … + scale · x (T,rank) · V, V stored as the weight is: an adapter's share of one of the above.
static void add_product(Tape *tape, MatmulArgs *args, const float *x, Tensor *V, float scale) {
    args->K2 = args->b_transposed ? V->shape[1] : V->shape[0];
    args->A2 = x;
    args->lda2 = args->K2;
    args->B2 = hone_tape_data(tape, V);
    args->ldb2 = V->shape[1];
    args->alpha2 = scale;
}

// dW (out,in) += alpha · dyᵀ (out,T) · x (T,in), if W is trained
static void product_weight(Tape *tape, int64_t T, const float *dy, const float *x, float alpha,
                           Tensor *W) {
    if (!W->requires_grad) return;
    const MatmulArgs args = {.M = W->shape[0],
                             .N = W->shape[1],
                             .K = T,
                             .A = dy,
                             .lda = W->shape[0],
                             .a_transposed = true,
                             .B = x,
                             .b_type = HONE_F32,
                             .ldb = W->shape[1],
                             .C = hone_tape_gradient(tape, W),
                             .ldc = W->shape[1],
                             .alpha = alpha,
                             .accumulate = true};
    hone_tape_matmul(tape, &args);
}

// What is left of a product that has run: whatever is added to it now is added to its C.
static MatmulArgs empty_product(MatmulArgs args) {
    args.K = args.K2 = 0;
    args.accumulate = true;
    return args;
}

// ---- dropout -----------------------------------------------------------------------------------

static bool drops(const Adapter *adapter, const WeightRows *rows) {
    return rows->path && adapter->dropout > 0;
}

// y (T,in) = [y +] drop(x)
static void drop(Tape *tape, const Adapter *adapter, const WeightRows *rows, const float *x,
                 float *y, bool accumulate) {
    const DropoutRows dropped = {.T = rows->T,
                                 .C = adapter->A.shape[1],
                                 .rate = adapter->dropout,
                                 .key = adapter->dropout_key,
                                 .place = adapter->dropout_place,
                                 .path = rows->path};
    if (hone_tape_runs(tape))
        hone_dropout_rows(hone_tape_kernels(tape), &dropped, x, y, accumulate);
}

// What the adapter reads: x, or a block with what is left of it, which the caller gives back.
static const float *adapter_input(Tape *tape, const Adapter *adapter, const WeightRows *rows,
                                  HeapBlock **block) {
    *block = NULL;
    if (!drops(adapter, rows)) return rows->x;
    *block = hone_tape_take_floats(tape, rows->T, adapter->A.shape[1]);
    float *left = hone_block_address(*block);
    drop(tape, adapter, rows, rows->x, left, false);
    return left;
}

// ---- forward and backward ----------------------------------------------------------------------

void hone_weight_forward(Tape *tape, Weight *weight, const WeightRows *rows) {
    MatmulArgs args = product(tape, rows->T, rows->x, &weight->base, rows->y);
    if (weight->bias.rank) { // the product is added to it
        const float *bias = hone_tape_data(tape, &weight->bias);
        if (hone_tape_runs(tape))
            hone_repeat_row(hone_tape_kernels(tape), rows->T, weight->base.shape[0], bias, rows->y);
        args.accumulate = true;
    }
    float *u = rows->u;
    for (int a = 0; a < weight->adapter_count && u; a++) {
        Adapter *adapter = &weight->adapters[a];
        HeapBlock *block;
        const float *x = adapter_input(tape, adapter, rows, &block);
        const MatmulArgs ranks = product(tape, rows->T, x, &adapter->A, u);
        hone_tape_matmul(tape, &ranks);
        hone_tape_give(tape, block);
        if (a > 0) { // one product continues another; beyond that each goes alone
            hone_tape_matmul(tape, &args);
            args = empty_product(args);
        }
        add_product(tape, &args, u, &adapter->B, adapter->scale);
        u += rows->T * adapter->A.shape[0];
    }
    hone_tape_matmul(tape, &args);
    hone_tape_release_pages(tape, &weight->base);
}

// dx += drop(scale · t·A): what an adapter that dropped some of x gives back to it.
static void add_dropped(Tape *tape, Adapter *adapter, const WeightRows *rows, const float *t) {
    HeapBlock *block = hone_tape_take_floats(tape, rows->T, adapter->A.shape[1]);
    float *whole = hone_block_address(block);
    MatmulArgs args = product_back(tape, rows->T, t, &adapter->A, whole);
    args.alpha = adapter->scale;
    hone_tape_matmul(tape, &args);
    drop(tape, adapter, rows, whole, rows->dx, true);
    hone_tape_give(tape, block);
}

// dA += scale · tᵀ·drop(x)
static void train_A(Tape *tape, Adapter *adapter, const WeightRows *rows, const float *t) {
    if (!adapter->A.requires_grad) return;
    HeapBlock *block;
    const float *x = adapter_input(tape, adapter, rows, &block);
    product_weight(tape, rows->T, t, x, adapter->scale, &adapter->A);
    hone_tape_give(tape, block);
}

void hone_weight_backward(Tape *tape, Weight *weight, const WeightRows *rows) {
    if (weight->bias.requires_grad) {
        float *bias = hone_tape_gradient(tape, &weight->bias);
        if (hone_tape_runs(tape))
            hone_sum_rows(hone_tape_kernels(tape), rows->T, weight->base.shape[0], rows->dy, bias);
    }
    product_weight(tape, rows->T, rows->dy, rows->x, 1.0f, &weight->base);
    MatmulArgs args = {0};
    if (rows->wants_dx) {
        args = product_back(tape, rows->T, rows->dy, &weight->base, rows->dx);
        args.accumulate = !rows->writes_dx;
    }
    int64_t ranks_before = 0;
    for (int a = 0; a < weight->adapter_count; a++) {
        Adapter *adapter = &weight->adapters[a];
        int64_t rank = adapter->A.shape[0];
        const float *u = rows->u ? rows->u + rows->T * ranks_before : NULL;
        product_weight(tape, rows->T, rows->dy, u, adapter->scale, &adapter->B);
        ranks_before += rank;
        if (!rows->wants_dx && !adapter->A.requires_grad) continue;
        HeapBlock *block = hone_tape_take_floats(tape, rows->T, rank);
        float *t = hone_block_address(block);
        const MatmulArgs ranks = product_back(tape, rows->T, rows->dy, &adapter->B, t);
        hone_tape_matmul(tape, &ranks);
        train_A(tape, adapter, rows, t);
        if (rows->wants_dx) {
            if (!drops(adapter, rows)) add_product(tape, &args, t, &adapter->A, adapter->scale);
            hone_tape_matmul(tape, &args);
            args = empty_product(args);
            if (drops(adapter, rows)) add_dropped(tape, adapter, rows, t);
        }
        hone_tape_give(tape, block);
    }
    if (rows->wants_dx && weight->adapter_count == 0) hone_tape_matmul(tape, &args);
    if (rows->wants_dx) hone_tape_release_pages(tape, &weight->base);
}
