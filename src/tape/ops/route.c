// SPDX-License-Identifier: Apache-2.0
// Routing of a mixture of experts: softmax, then the best `used` of each row (kernels.h).
//   w_rj = p_rc of the chosen c, or p_rc/Σ_j p_rc
//   dlogits: through the weights, and where the experts' use is balanced through P_e too:
//            dp_re += coefficient·experts·F_e/rows of all layers; how often one is chosen (F) has
//            no gradient
// Kept: the logits. Rows for experts are listed by counting, in the order of tokens.
#include <inttypes.h>

#include "tape/record.h"

typedef struct RouteRecord {
    Record base;
    Tensor *logits;
    RouterArgs args;
    const Routing *routing;
    int32_t *chosen; // (T,used)
    float *weight;   // (T,used)
    int32_t *place;  // (T,used): the row that is for it
} RouteRecord;

static RouteArgs kernel_args(const RouteRecord *record, const float *logits) {
    return (RouteArgs){.T = record->logits->shape[0],
                       .experts = record->routing->experts,
                       .used = record->args.used,
                       .normalised = record->args.normalised,
                       .logits = logits,
                       .chosen = record->chosen,
                       .weight = record->weight};
}

static int64_t all_rows(const RouterBalance *balance) {
    int64_t rows = 0;
    for (int layer = 0; layer < balance->layers; layer++) rows += balance->rows[layer];
    return rows;
}

static int64_t times_chosen(const RouterBalance *balance, int expert) {
    int64_t chosen = 0;
    for (int layer = 0; layer < balance->layers; layer++)
        chosen += balance->chosen[(int64_t)layer * balance->experts + expert];
    return chosen;
}

double hone_router_loss(const RouterBalance *balance) {
    if (!balance) return 0;
    const double rows = (double)all_rows(balance);
    double loss = 0;
    for (int e = 0; e < balance->experts && rows > 0; e++) {
        double probability = 0;
        for (int layer = 0; layer < balance->layers; layer++)
            probability += balance->probability[(int64_t)layer * balance->experts + e];
        loss += (double)times_chosen(balance, e) / rows * (probability / rows);
    }
    return (double)balance->coefficient * balance->experts * loss;
}

static void backward(Tape *tape, Record *base) {
    const RouteRecord *record = (const RouteRecord *)base;
    const RouterBalance *balance = record->args.balance;
    const int64_t rows = record->routing->rows, E = record->routing->experts;
    const float *logits = hone_tape_data(tape, record->logits);
    const float *dy = hone_tape_gradient(tape, base->output);
    float *dlogits = hone_tape_gradient(tape, record->logits);
    HeapBlock *ordered = hone_tape_take_floats(tape, rows, 1);
    HeapBlock *uses = hone_tape_take(tape, (size_t)E * sizeof(double));
    float *dweight = hone_block_address(ordered);
    double *dprobability = hone_block_address(uses);
    if (hone_tape_runs(tape)) {
        const RouteArgs args = kernel_args(record, logits);
        for (int64_t i = 0; i < rows; i++) dweight[i] = dy[record->place[i]];
        const double all = balance ? (double)all_rows(balance) : 0;
        for (int e = 0; e < E && balance; e++)
            dprobability[e] = (double)balance->coefficient * (double)E / all *
                              ((double)times_chosen(balance, e) / all);
        hone_route_backward(hone_tape_kernels(tape), &args, dweight, balance ? dprobability : NULL,
                            dlogits);
    }
    hone_tape_give(tape, uses);
    hone_tape_give(tape, ordered);
}

// How the layer's rows went, for the loss over all layers.
static void note_balance(const RouteRecord *record, const RouteArgs *args) {
    const RouterBalance *balance = record->args.balance;
    const int64_t E = args->experts, at = record->args.layer * E;
    balance->rows[record->args.layer] = args->T;
    for (int64_t e = 0; e < E; e++)
        balance->chosen[at + e] = record->routing->begin[e + 1] - record->routing->begin[e];
    hone_route_probabilities(args, balance->probability + at);
}

// The rows of each expert, one after the other; on a dry tape the first experts' are all there.
static void list_rows(Routing *routing, const RouteRecord *record, int used, bool dry,
                      const uint64_t *path, uint64_t *row_path) {
    const int64_t E = routing->experts;
    for (int64_t i = 0; i < routing->rows; i++)
        routing->begin[(dry ? i % used : record->chosen[i]) + 1]++;
    for (int64_t e = 0; e < E; e++) routing->begin[e + 1] += routing->begin[e];
    for (int64_t i = 0; i < routing->rows && !dry; i++) {
        const int64_t to = routing->begin[record->chosen[i]]++;
        routing->token[to] = (int32_t)(i / used);
        record->place[i] = (int32_t)to;
        if (path) row_path[to] = path[i / used];
    }
    for (int64_t e = E; e > 0 && !dry; e--) routing->begin[e] = routing->begin[e - 1];
    if (!dry) routing->begin[0] = 0;
}

static bool fits(Tape *tape, const Tensor *logits, const RouterArgs *args) {
    const int64_t E = logits->shape[1], T = logits->shape[0];
    const RouterBalance *balance = args->balance;
    if (args->used < 1 || args->used > E || T > INT32_MAX / args->used)
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                         "%" PRId64 " rows cannot go to %d of %" PRId64 " experts each", T,
                         args->used, E);
    else if (balance &&
             (balance->experts != E || args->layer < 0 || args->layer >= balance->layers))
        hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                         "layer %d with %" PRId64 " experts is none of %d layers with %d",
                         args->layer, E, balance->layers, balance->experts);
    else
        return true;
    return false;
}

const Routing *hone_route(Tape *tape, Tensor *logits, RouterArgs args) {
    if (!hone_tape_given(tape, logits) || !fits(tape, logits, &args)) return NULL;
    const int64_t T = logits->shape[0], E = logits->shape[1], rows = T * args.used;
    Routing *routing = hone_tape_host(tape, 1, sizeof *routing);
    RouteRecord call = {.logits = logits, .args = args, .routing = routing};
    uint64_t *path = args.path ? hone_tape_host(tape, rows, sizeof *path) : NULL;
    call.chosen = hone_tape_host(tape, rows, sizeof *call.chosen);
    call.place = hone_tape_host(tape, rows, sizeof *call.place);
    call.weight = hone_tape_host(tape, rows, sizeof *call.weight);
    const float *z = hone_tape_data(tape, logits);
    Tensor *weight = hone_tape_new_tensor(tape, rows, 1);
    if (!weight) return NULL;
    *routing = (Routing){.experts = (int)E,
                         .tokens = T,
                         .rows = rows,
                         .begin = hone_tape_host(tape, E + 1, sizeof(int64_t)),
                         .token = hone_tape_host(tape, rows, sizeof(int32_t)),
                         .path = path,
                         .weight = weight};
    if (!routing->begin || !routing->token) return NULL;
    const RouteArgs kernel = kernel_args(&call, z);
    if (hone_tape_runs(tape)) hone_route_forward(hone_tape_kernels(tape), &kernel);
    list_rows(routing, &call, args.used, hone_tape_dry(tape), args.path, path);
    if (hone_tape_runs(tape)) {
        float *to = weight->data;
        for (int64_t i = 0; i < rows; i++) to[call.place[i]] = call.weight[i];
        if (args.balance) note_balance(&call, &kernel);
    }

    weight->requires_grad = hone_tape_gradients(tape) && logits->requires_grad;
    if (!weight->requires_grad) return routing;
    RouteRecord *record = hone_tape_record(tape, sizeof *record, weight, backward);
    if (!record) return NULL;
    record->logits = logits;
    record->args = args;
    record->routing = routing;
    record->chosen = call.chosen;
    record->weight = call.weight;
    record->place = call.place;
    hone_tape_save(tape, &record->base, logits);
    return routing;
}
