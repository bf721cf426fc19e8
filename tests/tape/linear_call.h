// SPDX-License-Identifier: Apache-2.0
// A linear layer of 13 × 9 under test, with up to two adapters.
#ifndef HONE_TESTS_TAPE_LINEAR_CALL_H
#define HONE_TESTS_TAPE_LINEAR_CALL_H

#include "gradients.h"

typedef struct LinearCall {
    Weight weight;
    Adapter adapters[2];
    Tensor x;
    const uint64_t *path;
} LinearCall;

static inline Tensor *run_linear(Bench *bench) {
    LinearCall *call = bench->call;
    return hone_linear(bench->tape, &call->weight, &call->x, call->path);
}

static inline void linear_call(Bench *bench, LinearCall *call, int adapters) {
    *call = (LinearCall){.weight = {.base = random_tensor(bench, 13, 9)}, .x = input(bench, 17, 9)};
    for (int a = 0; a < adapters; a++)
        call->adapters[a] = (Adapter){.A = random_tensor(bench, 3 + a, 9),
                                      .B = random_tensor(bench, 13, 3 + a),
                                      .scale = 0.5f + (float)a};
    call->weight.adapters = call->adapters;
    call->weight.adapter_count = adapters;
    bench->run = run_linear;
    bench->call = call;
}

#endif
