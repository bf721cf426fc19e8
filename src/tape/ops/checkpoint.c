// SPDX-License-Identifier: Apache-2.0
// Checkpoint (Chen et al. 2016, "Training deep nets with sublinear memory cost"): a segment of the
// tape whose activations are dropped once its result is there, and made again when backward comes
// to it.
//   y = segment(x, …);  backward: the segment is recorded a second time, the same calls with the
//   same bits, y's gradient is handed to the new y, and the new records are walked.
// Kept: what was made before the segment and is read inside it. The new records add straight to
// the gradients of those tensors, in the order of a plain run.
#include <string.h>

#include "tape/state.h"

typedef struct CheckpointRecord {
    Record base;
    TapeSegment *run;
    Tensor *x;
    void *arguments;
} CheckpointRecord;

// The segment in a scope of its own, which stays open.
static Tensor *record_segment(Tape *tape, TapeSegment *run, const void *arguments, Tensor *x) {
    hone_tape_enter(tape);
    const Scope *own = tape->scope;
    Tensor *result = run(tape, arguments, x);
    if (result && tape->error.status == HONE_OK && tape->scope != own)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                                "a checkpointed segment left a scope open");
    return result;
}

static void backward(Tape *tape, Record *base) {
    const CheckpointRecord *record = (const CheckpointRecord *)base;
    Tensor *output = base->output;
    hone_tape_give_data(tape, output); // whoever read it has been walked
    Record *const rest = tape->last;
    Scope *const scope = tape->scope;
    const ArenaMark mark = hone_arena_mark(&tape->arena);
    tape->last = NULL;
    Tensor *again = record_segment(tape, record->run, record->arguments, record->x);
    hone_tape_leave(tape, again);
    if (tape->error.status == HONE_OK) {
        scope->newest = ((Activation *)again)->older; // it goes with its record, not with a scope
        hone_tape_pass_gradient(tape, output, again);
        hone_tape_walk(tape);
    }
    tape->last = rest;
    tape->scope = scope;
    hone_arena_release(&tape->arena, mark);
}

// Forget the records after `before`, as if they had not been made.
static void forget_records(Tape *tape, Record *before, const Tensor *result, int64_t first) {
    for (Record *record = tape->last; record != before; record = record->previous) {
        for (SavedTensor *saved = record->saved; saved; saved = saved->next) {
            Tensor *tensor = saved->tensor;
            tensor->saved--;
            if (tensor != result && tensor->block && ((Activation *)tensor)->number >= first)
                hone_tape_give_data(tape, tensor);
        }
        for (int i = 0; i < RECORD_READS && record->evicted; i++)
            if (record->reads[i]) record->reads[i]->saved--;
        if (record->output != result) hone_tape_give_data(tape, record->output);
    }
    tape->last = before;
}

Tensor *hone_checkpoint(Tape *tape, TapeSegment *run, const void *arguments, size_t bytes,
                        Tensor *x) {
    if (!hone_tape_given(tape, x)) return NULL;
    if (!tape->options.gradients || tape->options.keep) return run(tape, arguments, x);
    Segment *segment = hone_tape_arena(tape, 1, sizeof *segment);
    void *copy = hone_tape_arena(tape, 1, bytes);
    if (!segment || !copy) return NULL;
    memcpy(copy, arguments, bytes);
    *segment = (Segment){.outer = tape->segment, .first = tape->made};
    Record *const before = tape->last;
    tape->segment = segment;
    Tensor *y = record_segment(tape, run, copy, x);
    tape->segment = segment->outer;
    if (!y || tape->error.status != HONE_OK) return NULL;
    const bool is_new = y->block && ((Activation *)y)->number >= segment->first;
    if (!is_new || !y->requires_grad) return hone_tape_leave(tape, y); // nothing to walk inside

    forget_records(tape, before, y, segment->first);
    y->saved = 0;
    y->producer = NULL;
    hone_tape_leave(tape, y);
    hone_tape_move_down(tape, y); // what stays lies lowest, the room above is in one piece
    CheckpointRecord *record = hone_tape_record(tape, sizeof *record, y, backward);
    if (!record) return NULL;
    record->run = run;
    record->x = x;
    record->arguments = copy;
    for (SavedTensor *read = segment->reads; read; read = read->next)
        hone_tape_save(tape, &record->base, read->tensor);
    return y;
}
