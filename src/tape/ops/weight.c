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

// The DoRA of the weight; NULL: none.
static Adapter *dora_of(const Weight *weight) {
    const bool found = weight->adapter_count > 0 && weight->adapters[0].magnitude.rank > 0;
    return found ? &weight->adapters[0] : NULL;
}

bool hone_weight_reads_product(const Weight *weight) {
    const Adapter *dora = dora_of(weight);
    return dora && dora->magnitude.requires_grad;
}

bool hone_weight_is_trained(const Weight *weight) {
    return hone_weight_reads_input(weight) || hone_weight_reads_ranks(weight) ||
           hone_weight_reads_product(weight) || weight->bias.requires_grad;
}

int64_t hone_weight_ranks(const Weight *weight) {
    int64_t ranks = 0;
    for (int a = 0; a < weight->adapter_count; a++) ranks += weight->adapters[a].A.shape[0];
    return ranks;
}

static bool gains_fit(Tape *tape, const Weight *weight) {
    const int64_t out = weight->base.shape[0];
    for (int a = 0; a < weight->adapter_count; a++) {
        const Tensor *magnitude = &weight->adapters[a].magnitude;
        if (magnitude->rank == 0) continue;
        if (weight->adapter_count == 1 && hone_tensor_count(magnitude) == out &&
            weight->adapters[a].gain && weight->adapters[a].inverse_norm &&
            !weight->base.requires_grad)
            continue;
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                         "a DoRA of %" PRId64 " magnitudes is to be the only adapter of a frozen "
                         "weight of %" PRId64 " rows, with its norms",
                         hone_tensor_count(magnitude), out);
        return false;
    }
    if (weight->gain.rank == 0) return true;
    if (!hone_tape_gradients(tape) && hone_tensor_count(&weight->gain) == out && !dora_of(weight))
        return true;
    hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                     "a weight with %" PRId64 " gains for %" PRId64
                     " rows is for use without gradients",
                     hone_tensor_count(&weight->gain), out);
    return false;
}

bool hone_weight_fits(Tape *tape, const Weight *weight, const Tensor *x) {
    char text[3][64];
    if (!gains_fit(tape, weight)) return false;
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

// ---- forward -----------------------------------------------------------------------------------

// y = [y +] g ⊙ x, rows of the weight's outputs
static void scale_columns(Tape *tape, const Weight *weight, int64_t T, const float *g,
                          const float *x, bool accumulate, float *y) {
    if (hone_tape_runs(tape))
        hone_scale_columns(hone_tape_kernels(tape), T, weight->base.shape[0], g, x, accumulate, y);
}

// y = bias; false without one.
static bool put_bias(Tape *tape, Weight *weight, const WeightRows *rows) {
    if (!weight->bias.rank) return false;
    const float *bias = hone_tape_data(tape, &weight->bias);
    if (hone_tape_runs(tape))
        hone_repeat_row(hone_tape_kernels(tape), rows->T, weight->base.shape[0], bias, rows->y);
    return true;
}

// y = [bias +] gain ⊙ (x·Wᵀ)
static void forward_gained(Tape *tape, Weight *weight, const WeightRows *rows) {
    HeapBlock *block = hone_tape_take_floats(tape, rows->T, weight->base.shape[0]);
    float *z = hone_block_address(block);
    const MatmulArgs args = product(tape, rows->T, rows->x, &weight->base, z);
    hone_tape_matmul(tape, &args);
    const float *gain = hone_tape_data(tape, &weight->gain);
    const bool biased = put_bias(tape, weight, rows);
    scale_columns(tape, weight, rows->T, gain, z, biased, rows->y);
    hone_tape_give(tape, block);
}

// y = [y +] (x − x_a)·Wᵀ of what DoRA dropped, x_a in block.
static void add_left_out(Tape *tape, Weight *weight, const WeightRows *rows, HeapBlock *block,
                         bool accumulate) {
    float *rest = hone_block_address(block);
    const int64_t count = rows->T * weight->base.shape[1];
    if (hone_tape_runs(tape)) {
        const KernelContext *kc = hone_tape_kernels(tape);
        hone_scaled(kc, count, -1, rest, false, rest);
        hone_accumulate(kc, count, rows->x, rest);
    }
    MatmulArgs args = product(tape, rows->T, rest, &weight->base, rows->y);
    args.accumulate = accumulate;
    hone_tape_matmul(tape, &args);
}

static void forward_dora(Tape *tape, Weight *weight, Adapter *dora, const WeightRows *rows) {
    HeapBlock *own = NULL, *block;
    float *z = rows->z;
    if (!z) {
        own = hone_tape_take_floats(tape, rows->T, weight->base.shape[0]);
        z = hone_block_address(own);
    }
    const float *x = adapter_input(tape, dora, rows, &block);
    const MatmulArgs ranks = product(tape, rows->T, x, &dora->A, rows->u);
    hone_tape_matmul(tape, &ranks);
    MatmulArgs args = product(tape, rows->T, x, &weight->base, z);
    add_product(tape, &args, rows->u, &dora->B, dora->scale);
    hone_tape_matmul(tape, &args);
    bool begun = put_bias(tape, weight, rows);
    if (block) {
        add_left_out(tape, weight, rows, block, begun);
        begun = true;
    }
    scale_columns(tape, weight, rows->T, dora->gain, z, begun, rows->y);
    hone_tape_give(tape, block);
    hone_tape_give(tape, own);
}

static void forward_plain(Tape *tape, Weight *weight, const WeightRows *rows) {
    MatmulArgs args = product(tape, rows->T, rows->x, &weight->base, rows->y);
    if (weight->gain.rank) {
        forward_gained(tape, weight, rows);
        args = empty_product(args);
    } else {
        args.accumulate = put_bias(tape, weight, rows); // the product is added to it
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
}

void hone_weight_forward(Tape *tape, Weight *weight, const WeightRows *rows) {
    Adapter *dora = dora_of(weight);
    if (dora && rows->u)
        forward_dora(tape, weight, dora, rows);
    else
        forward_plain(tape, weight, rows);
    hone_tape_release_pages(tape, &weight->base);
}

// ---- backward ----------------------------------------------------------------------------------

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

// dm += (Σ_T dy ⊙ z)/n
static void train_magnitude(Tape *tape, Adapter *dora, const WeightRows *rows) {
    const int64_t out = dora->B.shape[0];
    HeapBlock *block = hone_tape_take_floats(tape, 1, out);
    float *sums = hone_block_address(block), *dm = hone_tape_gradient(tape, &dora->magnitude);
    if (hone_tape_runs(tape)) {
        const KernelContext *kc = hone_tape_kernels(tape);
        hone_fill(kc, out, 0, sums);
        hone_sum_products(kc, rows->T, out, rows->dy, rows->z, sums);
        hone_multiply(kc, out, sums, dora->inverse_norm, true, dm);
    }
    hone_tape_give(tape, block);
}

// dx = [dx +] dy·W + drop((dz − dy)·W + scale·t·A); dz is used up.
static void pass_back_dropped(Tape *tape, Weight *weight, Adapter *dora, const WeightRows *rows,
                              float *dz, const float *t) {
    const int64_t T = rows->T;
    MatmulArgs args = product_back(tape, T, rows->dy, &weight->base, rows->dx);
    args.accumulate = !rows->writes_dx;
    hone_tape_matmul(tape, &args);
    if (hone_tape_runs(tape))
        hone_scaled(hone_tape_kernels(tape), T * weight->base.shape[0], -1, rows->dy, true, dz);
    HeapBlock *block = hone_tape_take_floats(tape, T, weight->base.shape[1]);
    float *whole = hone_block_address(block);
    args = product_back(tape, T, dz, &weight->base, whole);
    add_product(tape, &args, t, &dora->A, dora->scale);
    hone_tape_matmul(tape, &args);
    drop(tape, dora, rows, whole, rows->dx, true);
    hone_tape_give(tape, block);
}

static void backward_dora(Tape *tape, Weight *weight, Adapter *dora, const WeightRows *rows) {
    const int64_t T = rows->T;
    if (dora->magnitude.requires_grad) train_magnitude(tape, dora, rows);
    HeapBlock *scaled = hone_tape_take_floats(tape, T, weight->base.shape[0]);
    float *dz = hone_block_address(scaled);
    scale_columns(tape, weight, T, dora->gain, rows->dy, false, dz);
    product_weight(tape, T, dz, rows->u, dora->scale, &dora->B);
    HeapBlock *block = hone_tape_take_floats(tape, T, dora->A.shape[0]);
    float *t = hone_block_address(block);
    const MatmulArgs ranks = product_back(tape, T, dz, &dora->B, t);
    hone_tape_matmul(tape, &ranks);
    train_A(tape, dora, rows, t);
    if (rows->wants_dx && drops(dora, rows)) {
        pass_back_dropped(tape, weight, dora, rows, dz, t);
    } else if (rows->wants_dx) {
        MatmulArgs args = product_back(tape, T, dz, &weight->base, rows->dx);
        args.accumulate = !rows->writes_dx;
        add_product(tape, &args, t, &dora->A, dora->scale);
        hone_tape_matmul(tape, &args);
    }
    hone_tape_give(tape, block);
    hone_tape_give(tape, scaled);
}

void hone_weight_backward(Tape *tape, Weight *weight, const WeightRows *rows) {
    if (weight->bias.requires_grad) {
        float *bias = hone_tape_gradient(tape, &weight->bias);
        if (hone_tape_runs(tape))
            hone_sum_rows(hone_tape_kernels(tape), rows->T, weight->base.shape[0], rows->dy, bias);
    }
    Adapter *dora = dora_of(weight);
    if (dora) {
        backward_dora(tape, weight, dora, rows);
        if (rows->wants_dx) hone_tape_release_pages(tape, &weight->base);
        return;
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
