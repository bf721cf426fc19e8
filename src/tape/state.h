// SPDX-License-Identifier: Apache-2.0
// The tape's own state, for tape.c and for the operator that records and walks a part of a tape.
#ifndef HONE_TAPE_STATE_H
#define HONE_TAPE_STATE_H

#include "tape/record.h"

// A tensor the tape made. The tensors of a scope are linked from the newest to the oldest.
typedef struct Activation {
    Tensor tensor;
    struct Activation *older;
    int64_t number; // rises in order of making
} Activation;

typedef struct Scope {
    struct Scope *outer;
    Activation *newest;
} Scope;

// A segment that is being recorded: which tensors from before it are read inside.
typedef struct Segment {
    struct Segment *outer;
    int64_t first;      // the number of the first tensor made inside
    SavedTensor *reads; // made before, each once
} Segment;

struct Tape {
    KernelContext kc;
    TapeOptions options;
    HoneError error;
    Heap *heap;       // activations, gradients, scratch
    Arena arena;      // records, tensors, scopes, index lists
    Record *last;     // the newest record
    Scope root;       // holds what is made outside of all scopes
    Scope *scope;     // the innermost
    Segment *segment; // the innermost that is being recorded
    int64_t made;     // tensors so far
    bool watched;
    int64_t not_finite;        // hone_tape_look's first number; -1: none
    TapeWeights *take_weights; // hone_tape_take_weights
    void *take_user;
};

// Zeroed memory that lives as long as the records. NULL: the tape has an error.
void *hone_tape_arena(Tape *tape, size_t count, size_t size);
// Give the data's memory back; nothing where the tape does not own it.
void hone_tape_give_data(Tape *tape, Tensor *tensor);
// Move the data to the lowest place that is free; false where it lies lower.
bool hone_tape_move_down(Tape *tape, Tensor *tensor);
// Run and drop the records from the newest on.
void hone_tape_walk(Tape *tape);

#endif
