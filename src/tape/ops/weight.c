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
    return hone_weight_reads_input(weight) || hone_weight_reads_ranks(weight);
}

int64_t hone_weight_ranks(const Weight *weight) {
    int64_t ranks = 0;
    for (int a = 0; a < weight->adapter_count; a++) ranks += weight->adapters[a].A.shape[0];
    return ranks;
}

bool hone_weight_fits(Tape *tape, const Weight *weight, const Tensor *x) {
    char text[3][64];
    const Tensor *W = &weight->base;
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

// y (T,out) = [y +] alpha · x (T,in) · Wᵀ
static void product(Tape *tape, int64_t T, const float *x, Tensor *W, float alpha, bool accumulate,
                    float *y) {
    const MatmulArgs args = {.M = T,
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
                             .alpha = alpha,
                             .accumulate = accumulate};
    hone_tape_matmul(tape, &args);
}

// dx (T,in) = [dx +] alpha · dy (T,out) · W
static void product_back(Tape *tape, int64_t T, const float *dy, Tensor *W, float alpha,
                         bool accumulate, float *dx) {
    const MatmulArgs args = {.M = T,
                             .N = W->shape[1],
                             .K = W->shape[0],
                             .A = dy,
                             .lda = W->shape[0],
                             .B = hone_tape_data(tape, W),
                             .b_type = (int)W->dtype,
                             .ldb = W->shape[1],
                             .C = dx,
                             .ldc = W->shape[1],
                             .alpha = alpha,
                             .accumulate = accumulate};
    hone_tape_matmul(tape, &args);
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

void hone_weight_forward(Tape *tape, Weight *weight, const WeightRows *rows) {
    product(tape, rows->T, rows->x, &weight->base, 1.0f, false, rows->y);
    float *u = rows->u;
    for (int a = 0; a < weight->adapter_count && u; a++) {
        Adapter *adapter = &weight->adapters[a];
        product(tape, rows->T, rows->x, &adapter->A, 1.0f, false, u);
        product(tape, rows->T, u, &adapter->B, adapter->scale, true, rows->y);
        u += rows->T * adapter->A.shape[0];
    }
}

void hone_weight_backward(Tape *tape, Weight *weight, const WeightRows *rows) {
    if (rows->wants_dx)
        product_back(tape, rows->T, rows->dy, &weight->base, 1.0f, !rows->writes_dx, rows->dx);
    product_weight(tape, rows->T, rows->dy, rows->x, 1.0f, &weight->base);
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
        product_back(tape, rows->T, rows->dy, &adapter->B, 1.0f, false, t);
        product_weight(tape, rows->T, t, rows->x, adapter->scale, &adapter->A);
        if (rows->wants_dx)
            product_back(tape, rows->T, t, &adapter->A, adapter->scale, true, rows->dx);
        hone_tape_give(tape, block);
    }
}
