// SPDX-License-Identifier: Apache-2.0
// The tape as operators see it. An operator is one file in ops/: it takes a new tensor, runs its
// kernels, and leaves a record that says how backward goes and which tensors that will read.
//
// Operators never follow tensor->data: they ask hone_tape_data for an address and hand it to
// kernels, and only when hone_tape_runs says so. docs/add-an-op.md walks through one.
#ifndef HONE_TAPE_RECORD_H
#define HONE_TAPE_RECORD_H

#include "tape/tape.h"

enum { RECORD_READS = 2 };

typedef struct SavedTensor {
    Tensor *tensor;
    struct SavedTensor *next;
} SavedTensor;

// First member of each operator's own record, which holds its inputs and parameters after it.
typedef struct Record {
    struct Record *previous; // the operator call before this one
    Tensor *output;
    // Add to the gradients of the inputs what output's gradient gives. Called once, only if that
    // exists.
    void (*backward)(Tape *tape, struct Record *record);
    // Write output's data again, the same bits. NULL: output stays as long as somebody needs it.
    void (*recompute)(Tape *tape, struct Record *record);
    Tensor *reads[RECORD_READS]; // what recompute needs; NULL beyond
    SavedTensor *saved;          // what backward needs
    bool evicted;                // output was given back and is made again when asked for
} Record;

// ---- making an output --------------------------------------------------------------------------

// False (and an error is recorded, unless there is one already) when an input is missing.
bool hone_tape_given(Tape *tape, const Tensor *input);
// An f32 activation (rows, columns), uninitialised, of the innermost scope. NULL: the tape has an
// error.
Tensor *hone_tape_new_tensor(Tape *tape, int64_t rows, int64_t columns);
// A zeroed record of `bytes` ≥ sizeof(Record) for `output`. NULL when nothing is recorded (the tape
// keeps no gradients) or after an error.
void *hone_tape_record(Tape *tape, size_t bytes, Tensor *output,
                       void (*backward)(Tape *tape, Record *record));
// backward will read tensor's data.
void hone_tape_save(Tape *tape, Record *record, Tensor *tensor);

// ---- running -----------------------------------------------------------------------------------

// Whether kernels may run: not in a dry tape and not after an error. Ask after all addresses are
// there.
bool hone_tape_runs(const Tape *tape);
// Whether what runs now will run again in backward: what is added to a result would be added twice.
bool hone_tape_runs_again(const Tape *tape);
// The tensor's values; they are made again here when a scope gave them back.
float *hone_tape_data(Tape *tape, Tensor *tensor);
// Where to add the gradient: zeros at first. NULL when the tensor requires none.
float *hone_tape_gradient(Tape *tape, Tensor *tensor);
// The same for a kernel that makes `count` of them at once. True: all are new and hold nothing, the
// kernel writes them whole. False: it adds, and those that are new are zeros. A tensor that
// requires none gets scratch, given back through scratch[i] (which is NULL else) by the operator.
bool hone_tape_gradients_to_write(Tape *tape, int count, Tensor *const tensors[],
                                  float *gradients[], HeapBlock *scratch[]);
// to's gradient += from's, which is not needed any more: it is handed over when `to` has none yet.
void hone_tape_pass_gradient(Tape *tape, Tensor *from, Tensor *to);

// Scratch memory, given back by the operator that took it. NULL: out of memory (the tape's error).
HeapBlock *hone_tape_take(Tape *tape, size_t bytes);
HeapBlock *hone_tape_take_floats(Tape *tape, int64_t rows, int64_t columns);
void hone_tape_give(Tape *tape, HeapBlock *block);
// A stored weight was read: its pages may go, if the tape releases them.
void hone_tape_release_pages(Tape *tape, const Tensor *weight);
// Before a large block: move what was made last into holes further down, which the block would not
// fit into. Addresses of tensors from before are not valid any more.
void hone_tape_close_holes(Tape *tape);
// block's address, NULL for NULL.
void *hone_block_address(const HeapBlock *block);

// hone_matmul with its scratch.
void hone_tape_matmul(Tape *tape, const MatmulArgs *args);

#endif
