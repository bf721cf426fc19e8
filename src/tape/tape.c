// SPDX-License-Identifier: Apache-2.0
#include "tape/state.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

Tape *hone_tape_create(const KernelContext *kc, TapeOptions options) {
    Tape *tape = hone_calloc(1, sizeof *tape);
    if (!tape) return NULL;
    tape->kc = *kc;
    tape->options = options;
    tape->scope = &tape->root;
    tape->heap = hone_heap_create(options.dry);
    if (!tape->heap) {
        hone_free(tape);
        return NULL;
    }
    return tape;
}

void hone_tape_free(Tape *tape) {
    if (!tape) return;
    hone_heap_free(tape->heap);
    hone_arena_free(&tape->arena);
    hone_free(tape);
}

void hone_tape_reserve(Tape *tape, size_t bytes) {
    hone_heap_reserve(tape->heap, bytes);
}

void hone_tape_reset(Tape *tape, bool gradients) {
    hone_heap_reset(tape->heap);
    hone_arena_reset(&tape->arena);
    hone_error_clear(&tape->error);
    tape->options.gradients = gradients;
    tape->last = NULL;
    tape->root = (Scope){0};
    tape->scope = &tape->root;
    tape->segment = NULL;
    tape->made = 0;
}

hone_status hone_tape_status(const Tape *tape, HoneError *err) {
    if (tape->error.status == HONE_OK) return HONE_OK;
    return hone_fail(err, tape->error.status, "%s", tape->error.message);
}

size_t hone_tape_peak(const Tape *tape) {
    return hone_heap_peak(tape->heap);
}

size_t hone_tape_used(const Tape *tape) {
    return hone_heap_used(tape->heap);
}

void hone_tape_watch(Tape *tape, bool on) {
    tape->watched = on;
    tape->not_finite = -1;
}

void hone_tape_look(Tape *tape, int64_t number, Tensor *tensor) {
    if (!tape->watched || tape->not_finite >= 0 || !tensor) return;
    const float *values = hone_tape_data(tape, tensor);
    if (!hone_tape_runs(tape)) return;
    const int64_t count = hone_tensor_count(tensor);
    for (int64_t i = 0; i < count && tape->not_finite < 0; i++)
        if (!isfinite(values[i])) tape->not_finite = number;
}

void hone_tape_take_weights(Tape *tape, TapeWeights *take, void *user) {
    tape->take_weights = take;
    tape->take_user = user;
}

int64_t hone_tape_not_finite(const Tape *tape) {
    return tape->not_finite;
}

const KernelContext *hone_tape_kernels(const Tape *tape) {
    return &tape->kc;
}

bool hone_tape_gradients(const Tape *tape) {
    return tape->options.gradients;
}

bool hone_tape_dry(const Tape *tape) {
    return tape->options.dry;
}

bool hone_tape_runs(const Tape *tape) {
    return !tape->options.dry && tape->error.status == HONE_OK;
}

Tensor *hone_tape_refuse(Tape *tape, hone_status status, const char *format, ...) {
    char message[sizeof tape->error.message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    hone_fail(&tape->error, status, "%s", message);
    return NULL;
}

bool hone_tape_runs_again(const Tape *tape) {
    return tape->segment != NULL;
}

bool hone_tape_given(Tape *tape, const Tensor *input) {
    if (!input) hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "an operator was given no input");
    return input && tape->error.status == HONE_OK;
}

// ---- memory ------------------------------------------------------------------------------------

HeapBlock *hone_tape_take(Tape *tape, size_t bytes) {
    if (tape->error.status != HONE_OK) return NULL;
    HeapBlock *block = hone_heap_take(tape->heap, bytes);
    if (!block) hone_fail_memory(&tape->error, bytes, "activations");
    return block;
}

HeapBlock *hone_tape_take_floats(Tape *tape, int64_t rows, int64_t columns) {
    size_t bytes;
    if (!hone_size_product((size_t)rows, (size_t)columns, &bytes) ||
        !hone_size_product(bytes, sizeof(float), &bytes))
        bytes = SIZE_MAX;
    return hone_tape_take(tape, bytes);
}

void hone_tape_give(Tape *tape, HeapBlock *block) {
    hone_heap_give(tape->heap, block);
}

void *hone_block_address(const HeapBlock *block) {
    return block ? block->address : NULL;
}

void *hone_tape_arena(Tape *tape, size_t count, size_t size) {
    if (tape->error.status != HONE_OK) return NULL;
    void *memory = hone_arena_calloc(&tape->arena, count, size);
    if (!memory) hone_fail_memory(&tape->error, size, "the tape's records");
    return memory;
}

void *hone_tape_host(Tape *tape, int64_t count, size_t size) {
    return hone_tape_arena(tape, (size_t)count, size);
}

Tensor *hone_tape_new_tensor(Tape *tape, int64_t rows, int64_t columns) {
    Activation *made = hone_tape_arena(tape, 1, sizeof *made);
    if (!made) return NULL;
    HeapBlock *block = hone_tape_take_floats(tape, rows, columns);
    if (!block) return NULL;
    made->tensor =
        (Tensor){.rank = 2, .shape = {rows, columns}, .data = block->address, .block = block};
    made->older = tape->scope->newest;
    made->number = tape->made++;
    tape->scope->newest = made;
    return &made->tensor;
}

// ---- records -----------------------------------------------------------------------------------

void *hone_tape_record(Tape *tape, size_t bytes, Tensor *output,
                       void (*backward)(Tape *tape, Record *record)) {
    if (!tape->options.gradients) return NULL;
    Record *record = hone_tape_arena(tape, 1, bytes);
    if (!record) return NULL;
    record->output = output;
    record->backward = backward;
    record->previous = tape->last;
    tape->last = record;
    output->producer = record;
    return record;
}

void hone_tape_save(Tape *tape, Record *record, Tensor *tensor) {
    SavedTensor *saved = hone_tape_arena(tape, 1, sizeof *saved);
    if (!saved) return;
    saved->tensor = tensor;
    saved->next = record->saved;
    record->saved = saved;
    tensor->saved++;
}

// ---- scopes ------------------------------------------------------------------------------------

void hone_tape_give_data(Tape *tape, Tensor *tensor) {
    if (!tensor->block) return; // a parameter or an input: not ours
    hone_heap_give(tape->heap, tensor->block);
    tensor->block = NULL;
    tensor->data = NULL;
}

// Whether giving `tensor` back saves memory: what makes it again may have to stay just for that,
// and may be gone with a scope that `tensor` has outlived.
static bool eviction_pays(const Tensor *tensor) {
    const Record *record = tensor->producer;
    if (!record || !record->recompute) return false;
    int64_t stay = 0;
    for (int i = 0; i < RECORD_READS; i++) {
        const Tensor *read = record->reads[i];
        if (read && !read->data && !(read->producer && read->producer->evicted)) return false;
        if (read && read->block && !read->saved) stay += hone_tensor_count(read);
    }
    return stay < hone_tensor_count(tensor);
}

// A tensor whose scope is left: give back what is not needed or can be made again.
static void settle(Tape *tape, Tensor *tensor) {
    if (tape->options.keep) return;
    if (tensor->saved == 0) {
        hone_tape_give_data(tape, tensor);
    } else if (eviction_pays(tensor)) {
        Record *record = tensor->producer;
        for (int i = 0; i < RECORD_READS; i++)
            if (record->reads[i]) record->reads[i]->saved++;
        record->evicted = true;
        hone_tape_give_data(tape, tensor);
    }
}

// Newest first, so that a tensor is settled after those that are made again from it.
static Activation *close_scope(Tape *tape, const Tensor *result) {
    Activation *kept = NULL;
    for (Activation *made = tape->scope->newest; made; made = made->older) {
        if (&made->tensor == result)
            kept = made;
        else
            settle(tape, &made->tensor);
    }
    tape->scope->newest = NULL;
    return kept;
}

static void keep_in_scope(Tape *tape, Activation *kept) {
    if (!kept) return; // no result, or one that was made further out
    kept->older = tape->scope->newest;
    tape->scope->newest = kept;
}

void hone_tape_enter(Tape *tape) {
    Scope *scope = hone_tape_arena(tape, 1, sizeof *scope);
    if (!scope) return;
    scope->outer = tape->scope;
    tape->scope = scope;
}

Tensor *hone_tape_leave(Tape *tape, Tensor *result) {
    if (tape->error.status != HONE_OK) return NULL;
    if (!tape->scope->outer)
        return hone_tape_refuse(tape, HONE_ERROR_ARGUMENT, "a scope was left that was not entered");
    Activation *kept = close_scope(tape, result);
    tape->scope = tape->scope->outer;
    keep_in_scope(tape, kept);
    return result;
}

Tensor *hone_tape_renew(Tape *tape, Tensor *result) {
    if (tape->error.status != HONE_OK) return NULL;
    keep_in_scope(tape, close_scope(tape, result));
    return result;
}

// ---- moving -------------------------------------------------------------------------------------

bool hone_tape_move_down(Tape *tape, Tensor *tensor) {
    const char *before = tensor->data;
    tensor->block = hone_heap_move_down(tape->heap, tensor->block);
    tensor->data = hone_block_address(tensor->block);
    if (!tensor->block) hone_fail_memory(&tape->error, hone_tensor_bytes(tensor), "activations");
    return tensor->data != before;
}

static bool move_record_down(Tape *tape, Record *record) {
    bool moved = record->output->block && hone_tape_move_down(tape, record->output);
    for (SavedTensor *saved = record->saved; saved; saved = saved->next)
        if (saved->tensor->block && hone_tape_move_down(tape, saved->tensor)) moved = true;
    return moved;
}

// The newest lie highest, and a layer's holes are no more than it saved, so a few records suffice.
// What moves leaves room for others: again until nothing moves.
void hone_tape_close_holes(Tape *tape) {
    enum { RECORDS = 48, PASSES = 8 };
    bool moved = true;
    for (int pass = 0; pass < PASSES && moved; pass++) {
        Record *record = tape->last;
        moved = false;
        for (int i = 0; i < RECORDS && record; i++, record = record->previous)
            if (move_record_down(tape, record)) moved = true;
    }
}

// ---- what operators ask for --------------------------------------------------------------------

// An activation is read: the segments that it was made before will read it again.
static void note_read(Tape *tape, Tensor *tensor) {
    const int64_t number = ((const Activation *)tensor)->number;
    for (Segment *segment = tape->segment; segment; segment = segment->outer) {
        if (number >= segment->first) continue;
        const SavedTensor *known = segment->reads;
        while (known && known->tensor != tensor) known = known->next;
        SavedTensor *read = known ? NULL : hone_tape_arena(tape, 1, sizeof *read);
        if (!read) continue;
        *read = (SavedTensor){tensor, segment->reads};
        segment->reads = read;
    }
}

float *hone_tape_data(Tape *tape, Tensor *tensor) {
    Record *record = tensor->producer;
    if (!tensor->data && record) {
        if (!record->evicted) {
            hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                             "a tensor was read after its scope was left");
            return NULL;
        }
        tensor->block = hone_tape_take_floats(tape, tensor->shape[0], tensor->shape[1]);
        if (!tensor->block) return NULL;
        tensor->data = tensor->block->address;
        record->recompute(tape, record);
    }
    if (tape->segment && tensor->block) note_read(tape, tensor);
    return tensor->data;
}

// *is_new: the memory holds nothing yet.
static float *gradient_of(Tape *tape, Tensor *tensor, bool *is_new) {
    *is_new = false;
    if (tensor->grad) return tensor->grad;
    if (!tensor->producer) {
        char shape[64];
        if (!tape->options.dry)
            hone_tape_refuse(tape, HONE_ERROR_ARGUMENT,
                             "a parameter %s requires a gradient and has no memory for it",
                             hone_shape_text(tensor, shape));
        return NULL;
    }
    tensor->grad_block = hone_tape_take_floats(tape, tensor->shape[0], tensor->shape[1]);
    if (!tensor->grad_block) return NULL;
    tensor->grad = hone_block_address(tensor->grad_block);
    *is_new = true;
    return tensor->grad;
}

static void clear(Tape *tape, const Tensor *tensor, float *gradient) {
    if (hone_tape_runs(tape)) hone_fill(&tape->kc, hone_tensor_count(tensor), 0.0f, gradient);
}

float *hone_tape_gradient(Tape *tape, Tensor *tensor) {
    if (!tensor->requires_grad) return NULL;
    bool is_new;
    float *gradient = gradient_of(tape, tensor, &is_new);
    if (is_new) clear(tape, tensor, gradient);
    return gradient;
}

bool hone_tape_gradients_to_write(Tape *tape, int count, Tensor *const tensors[],
                                  float *gradients[], HeapBlock *scratch[]) {
    enum { MOST = 3 };
    bool is_new[MOST], all_new = true;
    for (int i = 0; i < count; i++) {
        scratch[i] = NULL;
        is_new[i] = true;
        if (tensors[i]->requires_grad) {
            gradients[i] = gradient_of(tape, tensors[i], &is_new[i]);
        } else {
            scratch[i] = hone_tape_take_floats(tape, tensors[i]->shape[0], tensors[i]->shape[1]);
            gradients[i] = hone_block_address(scratch[i]);
        }
        all_new = all_new && is_new[i];
    }
    for (int i = 0; i < count && !all_new; i++)
        if (is_new[i]) clear(tape, tensors[i], gradients[i]);
    return all_new;
}

void hone_tape_pass_gradient(Tape *tape, Tensor *from, Tensor *to) {
    if (!to->requires_grad) return;
    if (to->producer && !to->grad && from->grad_block) {
        to->grad = from->grad;
        to->grad_block = from->grad_block;
        from->grad = NULL;
        from->grad_block = NULL;
        return;
    }
    float *gradient = hone_tape_gradient(tape, to);
    if (hone_tape_runs(tape))
        hone_accumulate(&tape->kc, hone_tensor_count(to), from->grad, gradient);
}

void hone_tape_matmul(Tape *tape, const MatmulArgs *args) {
    HeapBlock *scratch = hone_tape_take(tape, hone_matmul_scratch(&tape->kc, args));
    if (hone_tape_runs(tape)) hone_matmul(&tape->kc, args, hone_block_address(scratch));
    hone_tape_give(tape, scratch);
}

void hone_tape_release_pages(Tape *tape, const Tensor *weight) {
    const FileMap *map = tape->options.release;
    if (map && hone_tape_runs(tape)) hone_file_drop(map, weight->data, hone_tensor_bytes(weight));
}

void hone_tape_read(Tape *tape, Tensor *tensor, float *values) {
    const float *data = hone_tape_data(tape, tensor);
    if (hone_tape_runs(tape)) memcpy(values, data, hone_tensor_bytes(tensor));
}

// ---- backward ----------------------------------------------------------------------------------

// One need less for tensor's data; with the last one go the data and what it would be made from.
static void release(Tape *tape, Tensor *tensor) {
    if (--tensor->saved > 0) return;
    hone_tape_give_data(tape, tensor);
    Record *record = tensor->producer;
    if (!record || !record->evicted) return;
    record->evicted = false;
    for (int i = 0; i < RECORD_READS; i++)
        if (record->reads[i]) release(tape, record->reads[i]);
}

void hone_tape_walk(Tape *tape) {
    for (Record *record = tape->last; record; record = record->previous) {
        if (record->output->grad) record->backward(tape, record);
        if (tape->error.status != HONE_OK) return;
        for (SavedTensor *saved = record->saved; saved; saved = saved->next)
            release(tape, saved->tensor);
        // Whoever read the output comes later on the tape and has been walked.
        Tensor *output = record->output;
        hone_heap_give(tape->heap, output->grad_block);
        output->grad_block = NULL;
        output->grad = NULL;
        hone_tape_give_data(tape, output);
    }
    tape->last = NULL;
}

hone_status hone_tape_backward(Tape *tape) {
    hone_tape_walk(tape);
    return tape->error.status;
}
