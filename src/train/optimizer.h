// SPDX-License-Identifier: Apache-2.0
// What changes the trained values, and what it remembers between steps. A new optimiser is a
// kernel, a pair of functions in optimizer.c and a line in its table.
#ifndef HONE_TRAIN_OPTIMIZER_H
#define HONE_TRAIN_OPTIMIZER_H

#include "base/error.h"
#include "kernels/kernels.h"

// A block of state, under the name it has in checkpoints.
typedef struct StateBlock {
    const char *name;
    int dtype; // HONE_F32 or HONE_I8
    int64_t count;
    void *data;
} StateBlock;

enum { MOST_STATE_BLOCKS = 4 };
typedef struct OptimizerState {
    StateBlock block[MOST_STATE_BLOCKS];
    int count;
    AdamW8Map *maps; // signed, unsigned; NULL for other optimisers
    void *scratch;
} OptimizerState;

typedef struct Run Run;

// Name and sizes of the state's blocks, for the trained tensors and nothing else; no memory yet.
void hone_optimizer_describe(Run *run);
size_t hone_optimizer_scratch_bytes(const Run *run);
hone_status hone_optimizer_allocate(Run *run); // zeroed
void hone_optimizer_free(OptimizerState *state);
// One step of all trained tensors, step from 0, gradients times scale.
void hone_optimizer_update(Run *run, int64_t step, float scale);

#endif
