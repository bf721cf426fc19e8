// SPDX-License-Identifier: Apache-2.0
// Every row and element kernel gives the same bits without a pool and on pools of 1, 2, 3 and 5
// threads.
#include "element_support.h"

enum { T = 317, C = 189, HEADS = 3, D = 63, V = 5003, ROWS = 37 };
static const int64_t count = (int64_t)T * C;

// The result of all kernels on `kc`, one after the other in memory.
typedef struct Results {
    Arrays a;
    int first; // array number from which on arrays are results
    double numbers[ROWS + 1];
} Results;

static void run_norm(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *x = array_new(a, count, 1), *w = array_new(a, C, 1), *dy = array_new(a, count, 1);
    results->first = a->used;
    Array *y = array_new(a, count, 0), *r = array_new(a, T, 0);
    Array *dx = array_new(a, count, 1), *dw = array_new(a, C, 1);
    void *scratch = hone_alloc(hone_rms_norm_backward_scratch(kc, T, C));
    hone_rms_norm_forward(kc, T, C, x->data, w->data, 1e-5f, y->data, r->data);
    hone_rms_norm_backward(kc, T, C, x->data, w->data, r->data, dy->data, dx->data, dw->data,
                           scratch);
    hone_free(scratch);
}

static void run_layer_norm(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *x = array_new(a, count, 1), *w = array_new(a, C, 1), *b = array_new(a, C, 1);
    Array *dy = array_new(a, count, 1);
    results->first = a->used;
    Array *y = array_new(a, count, 0), *statistics = array_new(a, 2 * T, 0);
    Array *dx = array_new(a, count, 1), *dw = array_new(a, C, 1), *db = array_new(a, C, 1);
    Array *part = array_new(a, T * D, 0);
    void *scratch = hone_alloc(hone_layer_norm_backward_scratch(T, C));
    hone_layer_norm_forward(kc, T, C, x->data, w->data, b->data, 1e-5f, y->data, statistics->data);
    hone_layer_norm_backward(kc, T, C, x->data, w->data, statistics->data, dy->data, dx->data,
                             dw->data, db->data, scratch);
    hone_copy_columns(kc, T, D, y->data + D, C, part->data, D);
    hone_accumulate_columns(kc, T, D, y->data, C, part->data, D);
    uint64_t path[T];
    for (int t = 0; t < T; t++) path[t] = (uint64_t)t * t;
    const DropoutRows rows = {T, C, 0.1f, 1, 2, path};
    hone_dropout_rows(kc, &rows, y->data, dx->data, true);
    hone_free(scratch);
}

static void run_elements(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *gate = array_new(a, count, 2), *up = array_new(a, count, 1);
    Array *dy = array_new(a, count, 1);
    results->first = a->used;
    Array *y = array_new(a, count, 0), *dgate = array_new(a, count, 1);
    Array *dup = array_new(a, count, 1), *sum = array_new(a, count, 0);
    Array *filled = array_new(a, count, 0), *gelu = array_new(a, count, 0);
    Array *dgelu = array_new(a, count, 1);
    hone_swiglu_forward(kc, count, gate->data, up->data, y->data);
    hone_swiglu_backward(kc, count, gate->data, up->data, dy->data, true, dgate->data, dup->data);
    hone_gelu_forward(kc, count, gate->data, gelu->data);
    hone_gelu_backward(kc, count, gate->data, dy->data, true, dgelu->data);
    hone_add_forward(kc, count, gate->data, up->data, sum->data);
    hone_accumulate(kc, count, dy->data, sum->data);
    hone_fill(kc, count, 1.25f, filled->data);
    results->numbers[0] = hone_sum_of_squares(kc, count, gate->data);
}

static void run_rope(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *x = array_new(a, count, 1), *frequency = array_new(a, D / 2, 1);
    int32_t position[T];
    for (int t = 0; t < T; t++) position[t] = (t * 37) % 1000;
    results->first = a->used;
    for (int form = 0; form < 4; form++) {
        Array *y = array_new(a, count, 1);
        RopeArgs args = {.T = T,
                         .heads = HEADS,
                         .head_size = D,
                         .rotary = D - 1,
                         .interleaved = form & 1,
                         .inverse = form & 2,
                         .position = position,
                         .frequency = frequency->data,
                         .x = x->data,
                         .y = y->data};
        hone_rope(kc, &args);
    }
}

static void run_rows(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *dy = array_new(a, count, 1);
    int32_t index[T];
    for (int t = 0; t < T; t++) index[t] = (t * t) % 11;
    results->first = a->used;
    Array *table = array_new(a, 11 * C, 1), *y = array_new(a, count, 0);
    hone_gather_rows(kc, T, C, HONE_F32, table->data, index, y->data);
    hone_scatter_rows(kc, T, C, index, dy->data, table->data);
}

static void run_loss(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *weight = array_new(a, ROWS, 1);
    int32_t target[ROWS];
    for (int r = 0; r < ROWS; r++) target[r] = (r * 613) % V;
    results->first = a->used;
    Array *logits = array_new(a, ROWS * V, 2), *logprob = array_new(a, ROWS, 0);
    hone_cross_entropy(kc, ROWS, V, logits->data, NULL, target, weight->data, 0, 0, true,
                       results->numbers, logprob->data);
}

static void run_adamw(const KernelContext *kc, Results *results) {
    Arrays *a = &results->a;
    Array *g = array_new(a, count, 1);
    results->first = a->used;
    Array *p = array_new(a, count, 1), *m = array_new(a, count, 0), *v = array_new(a, count, 0);
    AdamWArgs args = {count, 3,    1e-2f,   0.9f,    0.999f,  1e-8f,
                      0.1f,  0.5f, p->data, m->data, v->data, g->data};
    hone_adamw(kc, &args);
}

static void same_on_all(const KernelContext *kc, void (*run)(const KernelContext *, Results *)) {
    static const int threads[] = {1, 2, 3, 5};
    Results want = {.a = arrays_begin(9)};
    run(kc, &want);
    for (int i = 0; i < 4; i++) {
        ThreadPool *pool = hone_pool_create(threads[i]);
        CHECK_INT(hone_pool_threads(pool), threads[i]);
        KernelContext pooled = {.table = kc->table, .pool = pool};
        for (int again = 0; again < 3; again++) {
            Results got = {.a = arrays_begin(9)};
            run(&pooled, &got);
            for (int n = want.first; n < want.a.used; n++)
                CHECK(array_equal(&want.a.array[n], &got.a.array[n]));
            CHECK(memcmp(want.numbers, got.numbers, sizeof want.numbers) == 0);
            arrays_end(&got.a);
        }
        hone_pool_free(pool);
    }
    arrays_end(&want.a);
}

static void check_threads(const KernelContext *kc) {
    same_on_all(kc, run_norm);
    same_on_all(kc, run_layer_norm);
    same_on_all(kc, run_elements);
    same_on_all(kc, run_rope);
    same_on_all(kc, run_rows);
    same_on_all(kc, run_loss);
    same_on_all(kc, run_adamw);
}

static void any_number_of_threads_gives_the_same_bits(void) {
    at_every_level(check_threads);
}

int main(void) {
    say_levels();
    RUN(any_number_of_threads_gives_the_same_bits);
    return check_report();
}
