// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels and the optimiser: cut into chunks of a fixed size, one task each. Little
// work is a single chunk, which the pool runs in the caller.
#include <math.h>

#include "kernels/kernels.h"
#include "kernels/table.h"

enum {
    CHUNK = 16384,  // elements a task: 64 KiB of each operand, some microseconds of work
    PARTIALS = 1024 // most partial sums that a reduction keeps on the stack
};

typedef struct ElementTask {
    const ElementTable *table;
    int64_t count, chunk;
    const float *a, *b, *dy;
    bool add;
    float *y, *m, *v;
    float value;
    const AdamWStep *step;
    double *partial;
} ElementTask;

static int64_t chunks_of(int64_t count, int64_t chunk) {
    return count / chunk + (count % chunk != 0);
}

static int64_t chunk_length(const ElementTask *work, int64_t begin) {
    int64_t left = work->count - begin;
    return left < work->chunk ? left : work->chunk;
}

static void run_chunks(const KernelContext *kc, ElementTask *work, PoolTask run) {
    work->table = &kc->table->element;
    if (work->chunk == 0) work->chunk = CHUNK;
    hone_pool_run(kc->pool, chunks_of(work->count, work->chunk), run, work);
}

static void swiglu_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->swiglu(chunk_length(work, i), work->a + i, work->b + i, work->y + i);
}

void hone_swiglu_forward(const KernelContext *kc, int64_t count, const float *gate, const float *up,
                         float *y) {
    ElementTask work = {.count = count, .a = gate, .b = up, .y = y};
    run_chunks(kc, &work, swiglu_task);
}

static void swiglu_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->swiglu_gradient(chunk_length(work, i), work->a + i, work->b + i, work->dy + i,
                                 work->add, work->y + i, work->m + i);
}

void hone_swiglu_backward(const KernelContext *kc, int64_t count, const float *gate,
                          const float *up, const float *dy, bool accumulate, float *dgate,
                          float *dup) {
    ElementTask work = {
        .count = count, .a = gate, .b = up, .dy = dy, .add = accumulate, .y = dgate, .m = dup};
    run_chunks(kc, &work, swiglu_gradient_task);
}

static void add_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->add(chunk_length(work, i), work->a + i, work->b + i, work->y + i);
}

static void gelu_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->gelu(chunk_length(work, i), work->a + i, work->y + i);
}

void hone_gelu_forward(const KernelContext *kc, int64_t count, const float *x, float *y) {
    ElementTask work = {.count = count, .a = x, .y = y};
    run_chunks(kc, &work, gelu_task);
}

static void gelu_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->gelu_gradient(chunk_length(work, i), work->a + i, work->dy + i, work->add,
                               work->y + i);
}

void hone_gelu_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                        bool accumulate, float *dx) {
    ElementTask work = {.count = count, .a = x, .dy = dy, .add = accumulate, .y = dx};
    run_chunks(kc, &work, gelu_gradient_task);
}

static void relu_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    const int64_t first = task * work->chunk, end = first + chunk_length(work, first);
    for (int64_t i = first; i < end; i++) work->y[i] = work->a[i] < 0 ? 0 : work->a[i];
}

void hone_relu_forward(const KernelContext *kc, int64_t count, const float *x, float *y) {
    ElementTask work = {.count = count, .a = x, .y = y};
    run_chunks(kc, &work, relu_task);
}

static void relu_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    const int64_t first = task * work->chunk, end = first + chunk_length(work, first);
    for (int64_t i = first; i < end; i++) {
        const float slope = work->a[i] > 0 ? work->dy[i] : 0;
        work->y[i] = work->add ? work->y[i] + slope : slope;
    }
}

void hone_relu_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                        bool accumulate, float *dx) {
    ElementTask work = {.count = count, .a = x, .dy = dy, .add = accumulate, .y = dx};
    run_chunks(kc, &work, relu_gradient_task);
}

static void gelu_erf_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->gelu_erf(chunk_length(work, i), work->a + i, work->y + i);
}

void hone_gelu_erf_forward(const KernelContext *kc, int64_t count, const float *x, float *y) {
    ElementTask work = {.count = count, .a = x, .y = y};
    run_chunks(kc, &work, gelu_erf_task);
}

static void gelu_erf_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->gelu_erf_gradient(chunk_length(work, i), work->a + i, work->dy + i, work->add,
                                   work->y + i);
}

void hone_gelu_erf_backward(const KernelContext *kc, int64_t count, const float *x, const float *dy,
                            bool accumulate, float *dx) {
    ElementTask work = {.count = count, .a = x, .dy = dy, .add = accumulate, .y = dx};
    run_chunks(kc, &work, gelu_erf_gradient_task);
}

static void scaled_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->scaled(chunk_length(work, i), work->value, work->a + i, work->add, work->y + i);
}

void hone_scaled(const KernelContext *kc, int64_t count, float factor, const float *x,
                 bool accumulate, float *y) {
    ElementTask work = {.count = count, .value = factor, .a = x, .add = accumulate, .y = y};
    run_chunks(kc, &work, scaled_task);
}

static void multiply_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->multiply(chunk_length(work, i), work->a + i, work->b + i, work->add, work->y + i);
}

void hone_multiply(const KernelContext *kc, int64_t count, const float *a, const float *b,
                   bool accumulate, float *y) {
    ElementTask work = {.count = count, .a = a, .b = b, .add = accumulate, .y = y};
    run_chunks(kc, &work, multiply_task);
}

static void softcap_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->softcap(chunk_length(work, i), work->value, work->a + i, work->y + i);
}

void hone_softcap_forward(const KernelContext *kc, int64_t count, float cap, const float *x,
                          float *y) {
    ElementTask work = {.count = count, .value = cap, .a = x, .y = y};
    run_chunks(kc, &work, softcap_task);
}

static void softcap_gradient_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->softcap_gradient(chunk_length(work, i), work->value, work->a + i, work->dy + i,
                                  work->add, work->y + i);
}

void hone_softcap_backward(const KernelContext *kc, int64_t count, float cap, const float *y,
                           const float *dy, bool accumulate, float *dx) {
    ElementTask work = {.count = count, .value = cap, .a = y, .dy = dy, .add = accumulate, .y = dx};
    run_chunks(kc, &work, softcap_gradient_task);
}

void hone_add_forward(const KernelContext *kc, int64_t count, const float *a, const float *b,
                      float *y) {
    ElementTask work = {.count = count, .a = a, .b = b, .y = y};
    run_chunks(kc, &work, add_task);
}

void hone_accumulate(const KernelContext *kc, int64_t count, const float *x, float *y) {
    ElementTask work = {.count = count, .a = y, .b = x, .y = y};
    run_chunks(kc, &work, add_task);
}

static void fill_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t begin = task * work->chunk, length = chunk_length(work, begin);
    for (int64_t i = 0; i < length; i++) work->y[begin + i] = work->value;
}

void hone_fill(const KernelContext *kc, int64_t count, float value, float *y) {
    ElementTask work = {.count = count, .y = y, .value = value};
    run_chunks(kc, &work, fill_task);
}

// ---- optimiser ---------------------------------------------------------------------------------

static void squares_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->partial[task] = work->table->sum_of_squares(chunk_length(work, i), work->a + i);
}

double hone_sum_of_squares(const KernelContext *kc, int64_t count, const float *x) {
    double partial[PARTIALS];
    // Longer chunks for very long tensors, so that their sums fit; a function of the count alone.
    int64_t chunk = CHUNK * (1 + count / ((int64_t)CHUNK * PARTIALS));
    ElementTask work = {.count = count, .chunk = chunk, .a = x, .partial = partial};
    run_chunks(kc, &work, squares_task);
    double sum = 0;
    for (int64_t task = 0; task < chunks_of(count, chunk); task++) sum += partial[task];
    return sum;
}

static void adamw_task(void *argument, int64_t task, int worker) {
    (void)worker;
    const ElementTask *work = argument;
    int64_t i = task * work->chunk;
    work->table->adamw(chunk_length(work, i), work->step, work->a + i, work->y + i, work->m + i,
                       work->v + i);
}

AdamWStep hone_adamw_step(const AdamWArgs *args) {
    double beta1 = (double)args->beta1, beta2 = (double)args->beta2;
    double correction1 = 1 - pow(beta1, (double)args->step);
    double correction2 = 1 - pow(beta2, (double)args->step);
    return (AdamWStep){.scale = args->scale,
                       .keep = (float)(1 - (double)args->lr * (double)args->decay),
                       .beta1 = args->beta1,
                       .new_mean = (float)(1 - beta1),
                       .beta2 = args->beta2,
                       .new_square = (float)(1 - beta2),
                       .rate = (float)((double)args->lr / correction1),
                       .root = (float)sqrt(correction2),
                       .eps = args->eps};
}

void hone_adamw(const KernelContext *kc, const AdamWArgs *args) {
    const AdamWStep step = hone_adamw_step(args);
    ElementTask work = {.count = args->count,
                        .a = args->g,
                        .y = args->p,
                        .m = args->m,
                        .v = args->v,
                        .step = &step};
    run_chunks(kc, &work, adamw_task);
}
