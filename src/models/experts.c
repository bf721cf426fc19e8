// SPDX-License-Identifier: Apache-2.0
// A feed-forward of many experts, of which each token uses a few (Shazeer et al. 2017):
//     y = Σ_e p_e·down_e(act(gate_e(h)) ⊙ up_e(h)) over the best e by p = softmax(router(h))
// with each p as it is, or over their sum. An expert's matrices are weights like all others.
#include <stdio.h>

#include "models/family.h"

enum { EXPERT_MATRICES = 3 };

struct Experts {
    Weight router;            // (E,C)
    Weight *gate, *up, *down; // E of each: (F,C), (F,C), (C,F)
};

static Weight weight(int64_t out, int64_t in) {
    return (Weight){.base = hone_model_tensor(out, in)};
}

hone_status hone_experts_make(Model *model, Experts **experts, HoneError *err) {
    const ModelConfig *config = &model->config;
    const int64_t C = config->channels, F = config->expert_feed_forward;
    const size_t E = (size_t)config->experts, bytes = E * EXPERT_MATRICES * sizeof(Weight);
    Experts *made = hone_arena_calloc(&model->arena, 1, sizeof *made);
    Weight *weights = hone_arena_calloc(&model->arena, E * EXPERT_MATRICES, sizeof *weights);
    if (!made || !weights) return hone_fail_memory(err, bytes, "a layer's experts");
    *made = (Experts){weight(config->experts, C), weights, weights + E, weights + 2 * E};
    for (size_t e = 0; e < E; e++) {
        made->gate[e] = weight(F, C);
        made->up[e] = weight(F, C);
        made->down[e] = weight(C, F);
    }
    *experts = made;
    return HONE_OK;
}

hone_status hone_experts_visit(Experts *experts, int count, ParameterVisitor visitor, void *user,
                               int layer, HoneError *err) {
    const struct {
        const char *name, *target;
        Weight *weights;
    } kinds[EXPERT_MATRICES] = {{"ffn_gate", "gate", experts->gate},
                                {"ffn_up", "up", experts->up},
                                {"ffn_down", "down", experts->down}};
    RETURN_IF_ERROR(hone_visit_weight(visitor, user, "ffn_gate_inp.weight", layer, "router",
                                      &experts->router, err));
    for (int kind = 0; kind < EXPERT_MATRICES; kind++)
        for (int e = 0; e < count; e++) {
            char name[48];
            snprintf(name, sizeof name, "%s.%d.weight", kinds[kind].name, e);
            RETURN_IF_ERROR(hone_visit_weight(visitor, user, name, layer, kinds[kind].target,
                                              &kinds[kind].weights[e], err));
        }
    return HONE_OK;
}

Tensor *hone_experts_run(Tape *tape, const Model *model, int layer, Experts *experts, Tensor *h,
                         const uint64_t *path) {
    const ModelConfig *config = &model->config;
    const RouterArgs args = {.used = config->experts_used,
                             .normalised = config->experts_normalised,
                             .path = path,
                             .balance = hone_tape_gradients(tape) ? model->balance : NULL,
                             .layer = layer};
    Tensor *logits = hone_linear(tape, &experts->router, h, path);
    const Routing *to = hone_route(tape, logits, args);
    if (!to) return NULL;
    h = hone_select_rows(tape, h, to->token, to->rows);
    Tensor *gate = hone_experts_linear(tape, experts->gate, to, h);
    Tensor *up = hone_experts_linear(tape, experts->up, to, h);
    Tensor *y = hone_swiglu(tape, gate, up);
    y = hone_weigh(tape, y, to->weight); // before the last product, which is narrower
    return hone_collect(tape, to, hone_experts_linear(tape, experts->down, to, y));
}

hone_status hone_model_balance_experts(Model *model, float coefficient, HoneError *err) {
    const ModelConfig *config = &model->config;
    const size_t layers = (size_t)config->layers, all = layers * (size_t)config->experts;
    if (model->balance) {
        model->balance->coefficient = coefficient;
        return HONE_OK;
    }
    RouterBalance *balance = hone_arena_calloc(&model->arena, 1, sizeof *balance);
    if (!balance) return hone_fail_memory(err, sizeof *balance, "the routers' use");
    *balance = (RouterBalance){
        .coefficient = coefficient,
        .layers = config->layers,
        .experts = config->experts,
        .rows = hone_arena_calloc(&model->arena, layers, sizeof *balance->rows),
        .chosen = hone_arena_calloc(&model->arena, all, sizeof *balance->chosen),
        .probability = hone_arena_calloc(&model->arena, all, sizeof *balance->probability)};
    if (!balance->rows || !balance->chosen || !balance->probability)
        return hone_fail_memory(err, all * sizeof *balance->chosen, "the routers' use");
    model->balance = balance;
    return HONE_OK;
}

double hone_model_router_loss(const Model *model) {
    return hone_router_loss(model->balance);
}
