// SPDX-License-Identifier: Apache-2.0
// Linear layers of a mixture of experts: y_r = x_r·W_eᵀ [+ adapters] with the expert e that row r
// is for. The rows of one expert lie together: each has one product, forward and backward as
// linear.c's (weight.h). Kept: x, x·Aᵀ and z as there, for those experts that need them.
#include "tape/ops/weight.h"

typedef struct ExpertsRecord {
    Record base;
    Weight *weights;
    const Routing *routing;
    Tensor *x, *u, *z;
    int64_t ranks; // columns of u
} ExpertsRecord;

// The part of a (rows,columns) array that is expert e's.
static float *part_of(const Routing *routing, int e, float *rows, int64_t columns) {
    return rows ? rows + routing->begin[e] * columns : NULL;
}

static void backward(Tape *tape, Record *base) {
    const ExpertsRecord *record = (const ExpertsRecord *)base;
    const Routing *routing = record->routing;
    Tensor *x = record->x;
    const int64_t in = x->shape[1], out = base->output->shape[1];
    bool reads = false, writes = false;
    for (int e = 0; e < routing->experts; e++)
        reads = reads || hone_weight_reads_input(&record->weights[e]);
    float *from = reads ? hone_tape_data(tape, x) : NULL, *dx = NULL;
    float *u = record->u ? hone_tape_data(tape, record->u) : NULL;
    float *z = record->z ? hone_tape_data(tape, record->z) : NULL;
    float *dy = hone_tape_gradient(tape, base->output);
    HeapBlock *unused = NULL; // x's gradient is asked for only where it is wanted
    if (x->requires_grad) writes = hone_tape_gradients_to_write(tape, 1, &x, &dx, &unused);
    for (int e = 0; e < routing->experts; e++) {
        const int64_t T = routing->begin[e + 1] - routing->begin[e];
        const uint64_t *path = routing->path ? routing->path + routing->begin[e] : NULL;
        const WeightRows rows = {.T = T,
                                 .path = path,
                                 .x = part_of(routing, e, from, in),
                                 .u = part_of(routing, e, u, record->ranks),
                                 .z = part_of(routing, e, z, out),
                                 .dy = part_of(routing, e, dy, out),
                                 .dx = part_of(routing, e, dx, in),
                                 .wants_dx = x->requires_grad,
                                 .writes_dx = writes};
        if (T > 0) hone_weight_backward(tape, &record->weights[e], &rows);
    }
}

// What the experts have in common.
typedef struct Needs {
    bool trained, reads_input, reads_ranks, reads_product;
    int64_t ranks; // the most of one
} Needs;

static Needs needs_of(const Weight *weights, int experts) {
    Needs needs = {0};
    for (int e = 0; e < experts; e++) {
        const int64_t ranks = hone_weight_ranks(&weights[e]);
        needs.trained |= hone_weight_is_trained(&weights[e]);
        needs.reads_input |= hone_weight_reads_input(&weights[e]);
        needs.reads_ranks |= hone_weight_reads_ranks(&weights[e]);
        needs.reads_product |= hone_weight_reads_product(&weights[e]);
        if (ranks > needs.ranks) needs.ranks = ranks;
    }
    return needs;
}

static bool fits(Tape *tape, const Weight *weights, const Routing *routing, const Tensor *x) {
    char text[2][64];
    for (int e = 0; e < routing->experts; e++) {
        if (!hone_weight_fits(tape, &weights[e], x)) return false;
        if (weights[e].base.shape[0] == weights[0].base.shape[0]) continue;
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "experts have weights %s and %s",
                         hone_shape_text(&weights[0].base, text[0]),
                         hone_shape_text(&weights[e].base, text[1]));
        return false;
    }
    if (x->shape[0] == routing->rows) return true;
    hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "experts of %lld rows were given %s",
                     (long long)routing->rows, hone_shape_text(x, text[0]));
    return false;
}

static void forward(Tape *tape, const ExpertsRecord *call, bool drops, float *u, Tensor *y) {
    const Routing *routing = call->routing;
    float *x = hone_tape_data(tape, call->x), *z = call->z ? call->z->data : NULL;
    const int64_t in = call->x->shape[1], out = y->shape[1];
    for (int e = 0; e < routing->experts; e++) {
        const int64_t T = routing->begin[e + 1] - routing->begin[e];
        const uint64_t *path = drops && routing->path ? routing->path + routing->begin[e] : NULL;
        const WeightRows rows = {.T = T,
                                 .path = path,
                                 .x = part_of(routing, e, x, in),
                                 .u = part_of(routing, e, u, call->ranks),
                                 .z = part_of(routing, e, z, out),
                                 .y = part_of(routing, e, y->data, out)};
        if (T > 0) hone_weight_forward(tape, &call->weights[e], &rows);
    }
}

Tensor *hone_experts_linear(Tape *tape, Weight *weights, const Routing *routing, Tensor *x) {
    if (!routing || !hone_tape_given(tape, x) || !fits(tape, weights, routing, x)) return NULL;
    const Needs needs = needs_of(weights, routing->experts);
    const bool gradients = hone_tape_gradients(tape), trained = gradients && needs.trained;
    const int64_t rows = routing->rows, out = weights[0].base.shape[0];
    ExpertsRecord call = {.weights = weights, .routing = routing, .x = x, .ranks = needs.ranks};
    Tensor *y = hone_tape_new_tensor(tape, rows, out);
    HeapBlock *scratch = NULL;
    if (trained && needs.reads_ranks)
        call.u = hone_tape_new_tensor(tape, rows, needs.ranks);
    else if (needs.ranks > 0)
        scratch = hone_tape_take_floats(tape, rows, needs.ranks);
    if (trained && needs.reads_product) call.z = hone_tape_new_tensor(tape, rows, out);
    if (!y) return NULL;
    forward(tape, &call, gradients, call.u ? call.u->data : hone_block_address(scratch), y);
    hone_tape_give(tape, scratch);

    y->requires_grad = trained || (gradients && x->requires_grad);
    if (!y->requires_grad) return y;
    ExpertsRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->weights = call.weights;
    record->routing = call.routing;
    record->x = call.x;
    record->u = call.u;
    record->z = call.z;
    record->ranks = call.ranks;
    if (needs.reads_input) hone_tape_save(tape, &record->base, x);
    if (call.u) hone_tape_save(tape, &record->base, call.u);
    if (call.z) hone_tape_save(tape, &record->base, call.z);
    return y;
}
