// SPDX-License-Identifier: Apache-2.0
// Attention for any element type. Inputs that are not f32 are widened into scratch, which takes
// time and memory linear in length; the sums, and so the gradients, are always f32. The passes are
// told the type, for the products of some levels are faster on it.
#include "kernels/attention_parts.h"

// f32 copies of the views, each (batch, rows, heads, size).
typedef struct Widened {
    AttentionArgs args;
    char *scratch; // of the f32 pass
} Widened;

typedef struct Copy {
    const AttentionArgs *args;
    AttentionView from, to;
    int64_t rows;
    int heads, size;
    bool narrow; // f32 to the type, else the type to f32
} Copy;

static int64_t elements(const Copy *copy) {
    return copy->args->batch * copy->rows * copy->heads * copy->size;
}

// Task t: one row of one element of the batch.
static void copy_row(void *argument, int64_t task, int worker) {
    (void)worker;
    const Copy *copy = argument;
    int64_t b = task / copy->rows, row = task % copy->rows;
    for (int64_t h = 0; h < copy->heads; h++) {
        int64_t from = b * copy->from.batch + row * copy->from.row + h * copy->from.head;
        int64_t to = b * copy->to.batch + row * copy->to.row + h * copy->to.head;
        if (copy->narrow)
            hone_quantise(copy->args->dtype, (const float *)copy->from.data + from,
                          (uint16_t *)copy->to.data + to, copy->size, NULL);
        else
            hone_dequantise(copy->args->dtype, (const uint16_t *)copy->from.data + from,
                            (float *)copy->to.data + to, copy->size);
    }
}

static void run_copy(const KernelContext *kc, Copy *copy) {
    ThreadPool *pool = elements(copy) < 1 << 16 ? NULL : kc->pool;
    hone_pool_run(pool, copy->args->batch * copy->rows, copy_row, copy);
}

static Copy copy_of(const AttentionArgs *args, AttentionView view, bool of_queries, int size) {
    Copy copy = {.args = args,
                 .from = view,
                 .rows = of_queries ? args->queries : args->keys,
                 .heads = of_queries ? args->heads : args->kv_heads,
                 .size = size};
    copy.to = (AttentionView){
        .row = copy.heads * size, .head = size, .batch = copy.rows * copy.heads * size};
    return copy;
}

enum { COPY_Q, COPY_K, COPY_V, COPY_O, COPY_D_O, COPIES };

// The f32 pass's arguments over copies in scratch; base NULL: only the bytes.
static size_t widen(const AttentionArgs *args, bool backward, char *base, Widened *widened,
                    Copy copies[COPIES]) {
    ScratchCursor cursor = {base, 0};
    copies[COPY_Q] = copy_of(args, args->q, true, args->head_size);
    copies[COPY_K] = copy_of(args, args->k, false, args->head_size);
    copies[COPY_V] = copy_of(args, args->v, false, args->value_size);
    copies[COPY_O] = copy_of(args, args->o, true, args->value_size);
    copies[COPY_D_O] = copy_of(args, args->d_o, true, args->value_size);
    for (int i = 0; i < (backward ? COPIES : COPY_D_O); i++)
        copies[i].to.data =
            hone_attention_take(&cursor, (size_t)elements(&copies[i]), sizeof(float));
    widened->args = *args;
    widened->args.q = copies[COPY_Q].to;
    widened->args.k = copies[COPY_K].to;
    widened->args.v = copies[COPY_V].to;
    widened->args.o = copies[COPY_O].to;
    widened->args.d_o = copies[COPY_D_O].to;
    widened->scratch = base ? base + cursor.used : NULL;
    return hone_attention_scratch_bytes(&cursor);
}

size_t hone_attention_forward_scratch(const KernelContext *kc, const AttentionArgs *args) {
    if (args->dtype == HONE_F32) return hone_attention_f32_forward_scratch(kc, args);
    Widened widened;
    Copy copies[COPIES];
    size_t bytes = widen(args, false, NULL, &widened, copies);
    return bytes + hone_attention_f32_forward_scratch(kc, &widened.args);
}

void hone_attention_forward(const KernelContext *kc, const AttentionArgs *args, void *scratch) {
    if (args->dtype == HONE_F32) {
        hone_attention_f32_forward(kc, args, scratch);
        return;
    }
    Widened widened;
    Copy copies[COPIES];
    widen(args, false, hone_attention_scratch_base(scratch), &widened, copies);
    for (int i = COPY_Q; i <= COPY_V; i++) run_copy(kc, &copies[i]);
    hone_attention_f32_forward(kc, &widened.args, widened.scratch);
    Copy back = copies[COPY_O];
    back.from = copies[COPY_O].to;
    back.to = copies[COPY_O].from;
    back.narrow = true;
    run_copy(kc, &back);
}

size_t hone_attention_backward_scratch(const KernelContext *kc, const AttentionArgs *args) {
    if (args->dtype == HONE_F32) return hone_attention_f32_backward_scratch(kc, args);
    Widened widened;
    Copy copies[COPIES];
    size_t bytes = widen(args, true, NULL, &widened, copies);
    return bytes + hone_attention_f32_backward_scratch(kc, &widened.args);
}

void hone_attention_backward(const KernelContext *kc, const AttentionArgs *args, void *scratch) {
    if (args->dtype == HONE_F32) {
        hone_attention_f32_backward(kc, args, scratch);
        return;
    }
    Widened widened;
    Copy copies[COPIES];
    widen(args, true, hone_attention_scratch_base(scratch), &widened, copies);
    for (int i = 0; i < COPIES; i++) run_copy(kc, &copies[i]);
    hone_attention_f32_backward(kc, &widened.args, widened.scratch);
}
