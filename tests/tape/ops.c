// SPDX-License-Identifier: Apache-2.0
// Each operator's gradients against finite differences of its own forward pass: the scalar
// L = Σ c ⊙ y for random c, along random directions of each input, extrapolated from two step
// widths.
#include "base/random.h"
#include "check.h"
#include "tape/record.h"

enum { INPUTS = 8 };

typedef struct Bench Bench;
struct Bench {
    Tape *tape;
    Arena memory;
    RandomStream random;
    Tensor *inputs[INPUTS]; // those that require a gradient
    int count;
    Tensor *(*run)(Bench *bench); // the operator under test
    void *call;                   // its arguments
};

static void make_bench(Bench *bench) {
    HoneError err = {0};
    KernelContext kc = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    *bench = (Bench){.random = hone_random_stream(11, RANDOM_TEST, 1)};
    bench->tape = hone_tape_create(&kc, (TapeOptions){.gradients = true});
}

static void free_bench(Bench *bench) {
    hone_tape_free(bench->tape);
    hone_arena_free(&bench->memory);
}

static float *normal(Bench *bench, int64_t count) {
    float *values = hone_arena_alloc(&bench->memory, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = hone_random_normal(&bench->random);
    return values;
}

static Tensor random_tensor(Bench *bench, int64_t rows, int64_t columns) {
    return (Tensor){.rank = columns ? 2 : 1,
                    .shape = {rows, columns},
                    .data = normal(bench, rows * (columns ? columns : 1))};
}

static void require(Bench *bench, Tensor *tensor) {
    tensor->requires_grad = true;
    tensor->grad =
        hone_arena_calloc(&bench->memory, (size_t)hone_tensor_count(tensor), sizeof(float));
    bench->inputs[bench->count++] = tensor;
}

static Tensor input(Bench *bench, int64_t rows, int64_t columns) {
    return random_tensor(bench, rows, columns);
}

static double weighted_sum(Bench *bench, const float *c) {
    hone_tape_reset(bench->tape, true);
    Tensor *y = bench->run(bench);
    double sum = 0;
    CHECK(y != NULL);
    for (int64_t i = 0; y && i < hone_tensor_count(y); i++)
        sum += (double)c[i] * (double)((const float *)y->data)[i];
    return sum;
}

static void move(Tensor *tensor, const float *from, const float *direction, double step) {
    for (int64_t i = 0; i < hone_tensor_count(tensor); i++)
        ((float *)tensor->data)[i] = (float)((double)from[i] + step * (double)direction[i]);
}

// dL along direction, by central differences with step and 2·step: the error is of fourth order.
static double slope(Bench *bench, Tensor *tensor, const float *direction, const float *c,
                    double step) {
    const int64_t count = hone_tensor_count(tensor);
    float *from = hone_arena_alloc(&bench->memory, (size_t)count * sizeof *from);
    memcpy(from, tensor->data, (size_t)count * sizeof *from);
    double value[4];
    const double at[] = {step, -step, 2 * step, -2 * step};
    for (int i = 0; i < 4; i++) {
        move(tensor, from, direction, at[i]);
        value[i] = weighted_sum(bench, c);
    }
    memcpy(tensor->data, from, (size_t)count * sizeof *from);
    const double near = (value[0] - value[1]) / (2 * step);
    const double far = (value[2] - value[3]) / (4 * step);
    return (4 * near - far) / 3;
}

// The tape's gradients of Σ c ⊙ y into the inputs' grad.
static void gradients(Bench *bench, float **c) {
    hone_tape_reset(bench->tape, true);
    for (int i = 0; i < bench->count; i++)
        memset(bench->inputs[i]->grad, 0, hone_tensor_bytes(bench->inputs[i]));
    Tensor *y = bench->run(bench);
    HoneError err = {0};
    if (!y) {
        hone_tape_status(bench->tape, &err);
        printf("%s\n", err.message);
        CHECK(y != NULL);
        return;
    }
    *c = normal(bench, hone_tensor_count(y));
    CHECK(y->requires_grad);
    memcpy(hone_tape_gradient(bench->tape, y), *c, hone_tensor_bytes(y));
    CHECK_INT(hone_tape_backward(bench->tape), HONE_OK);
    CHECK_INT(hone_tape_used(bench->tape), 0);
}

static void check_gradients(Bench *bench, double step) {
    float *c = NULL;
    gradients(bench, &c);
    for (int i = 0; i < bench->count && c; i++) {
        Tensor *tensor = bench->inputs[i];
        const int64_t count = hone_tensor_count(tensor);
        double size = 0;
        for (int64_t j = 0; j < count; j++)
            size += (double)tensor->grad[j] * (double)tensor->grad[j];
        CHECK(size > 0);
        for (int direction = 0; direction < 3; direction++) {
            float *d = normal(bench, count);
            double got = 0;
            for (int64_t j = 0; j < count; j++) got += (double)tensor->grad[j] * (double)d[j];
            const double want = slope(bench, tensor, d, c, step);
            if (!CHECK(fabs(got - want) <= 3e-4 * sqrt(size)))
                printf("input %d: slope %.6g, want %.6g; size of the gradient %.3g\n", i, got, want,
                       sqrt(size));
        }
    }
}

// ---- the operators -----------------------------------------------------------------------------

typedef struct LinearCall {
    Weight weight;
    Adapter adapters[2];
    Tensor x;
} LinearCall;

static Tensor *run_linear(Bench *bench) {
    LinearCall *call = bench->call;
    return hone_linear(bench->tape, &call->weight, &call->x);
}

static void linear_call(Bench *bench, LinearCall *call, int adapters) {
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

static void linear_has_the_gradients_of_x_and_w(void) {
    Bench bench;
    LinearCall call;
    make_bench(&bench);
    linear_call(&bench, &call, 0);
    require(&bench, &call.x);
    require(&bench, &call.weight.base);
    check_gradients(&bench, 0.1);
    free_bench(&bench);
}

static void linear_has_the_gradients_of_its_adapters(void) {
    Bench bench;
    LinearCall call;
    make_bench(&bench);
    linear_call(&bench, &call, 2);
    require(&bench, &call.x);
    for (int a = 0; a < 2; a++) {
        require(&bench, &call.adapters[a].A);
        require(&bench, &call.adapters[a].B);
    }
    check_gradients(&bench, 0.1);
    free_bench(&bench);
}

static void linear_trains_only_what_is_asked(void) {
    Bench bench;
    LinearCall call;
    make_bench(&bench);
    linear_call(&bench, &call, 2);
    require(&bench, &call.adapters[0].A); // B of the other adapter, and nothing else
    require(&bench, &call.adapters[1].B);
    check_gradients(&bench, 0.1);
    CHECK(call.x.grad == NULL && call.weight.base.grad == NULL);
    CHECK(call.adapters[0].B.grad == NULL && call.adapters[1].A.grad == NULL);
    free_bench(&bench);
}

// A weight of 8-bit blocks gives the dX of the same weight expanded.
static void linear_reads_a_quantised_weight(void) {
    enum { OUT = 5, IN = 64, T = 7 };
    struct {
        uint16_t scale;
        int8_t q[32];
    } blocks[OUT * IN / 32];
    Bench bench;
    make_bench(&bench);
    for (int i = 0; i < OUT * IN / 32; i++) {
        blocks[i].scale = 0x2400; // 2^-6
        for (int j = 0; j < 32; j++)
            blocks[i].q[j] = (int8_t)((int)hone_random_below(&bench.random, 255) - 127);
    }
    LinearCall call = {
        .weight.base = {.dtype = HONE_Q8_0, .rank = 2, .shape = {OUT, IN}, .data = blocks},
        .x = input(&bench, T, IN)};
    bench.run = run_linear;
    bench.call = &call;
    require(&bench, &call.x);
    check_gradients(&bench, 0.1);
    free_bench(&bench);
}

typedef struct NormCall {
    Tensor gain, x;
} NormCall;

static Tensor *run_norm(Bench *bench) {
    NormCall *call = bench->call;
    return hone_rms_norm(bench->tape, &call->gain, 1e-5f, &call->x);
}

static void rms_norm_has_its_gradients(void) {
    for (int trained = 1; trained < 4; trained++) {
        Bench bench;
        make_bench(&bench);
        NormCall call = {random_tensor(&bench, 21, 0), input(&bench, 11, 21)};
        bench.run = run_norm;
        bench.call = &call;
        if (trained & 1) require(&bench, &call.x);
        if (trained & 2) require(&bench, &call.gain);
        check_gradients(&bench, 0.02);
        free_bench(&bench);
    }
}

typedef struct RotaryCall {
    Tensor x;
    bool interleaved;
    int32_t position[9];
    float frequency[3];
} RotaryCall;

static Tensor *run_rotary(Bench *bench) {
    RotaryCall *call = bench->call;
    return hone_rotary(bench->tape, &call->x, 2, 6, call->interleaved, call->position,
                       call->frequency);
}

static void rotary_has_its_gradient(void) {
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        Bench bench;
        make_bench(&bench);
        RotaryCall call = {.x = input(&bench, 9, 16),
                           .interleaved = interleaved != 0,
                           .position = {0, 1, 2, 3, 0, 1, 7, 100, 5},
                           .frequency = {1.0f, 0.3f, 0.01f}};
        bench.run = run_rotary;
        bench.call = &call;
        require(&bench, &call.x);
        check_gradients(&bench, 0.1);
        free_bench(&bench);
    }
}

typedef struct AttentionCall {
    Tensor q, k, v;
    int32_t begin[14], end[14];
    Visibility visible;
} AttentionCall;

static Tensor *run_attention(Bench *bench) {
    AttentionCall *call = bench->call;
    return hone_attention(bench->tape, &call->q, &call->k, &call->v, 4, 2, 0.4f, call->visible);
}

// Two packed sequences of 8 and 6 tokens; every bit of `trained` is one of q, k, v.
static void check_attention(int trained, bool causal) {
    Bench bench;
    make_bench(&bench);
    AttentionCall call = {.q = input(&bench, 14, 20),
                          .k = input(&bench, 14, 10),
                          .v = input(&bench, 14, 10),
                          .visible = {.queries = 14, .keys = 14}};
    for (int32_t t = 0; t < 14; t++) {
        call.begin[t] = t;
        call.end[t] = t < 8 ? 8 : 14;
    }
    if (causal) {
        call.visible.begin = call.begin;
        call.visible.end = call.end;
    }
    bench.run = run_attention;
    bench.call = &call;
    if (trained & 1) require(&bench, &call.q);
    if (trained & 2) require(&bench, &call.k);
    if (trained & 4) require(&bench, &call.v);
    check_gradients(&bench, 0.02);
    free_bench(&bench);
}

static void attention_has_its_gradients(void) {
    check_attention(7, true);
    check_attention(7, false);
    check_attention(1, true);
    check_attention(4, true);
}

typedef struct PairCall {
    Tensor a, b;
    Tensor *(*op)(Tape *tape, Tensor *a, Tensor *b);
} PairCall;

static Tensor *run_pair(Bench *bench) {
    PairCall *call = bench->call;
    return call->op(bench->tape, &call->a, &call->b);
}

static void check_pair(Tensor *(*op)(Tape *tape, Tensor *a, Tensor *b)) {
    for (int trained = 1; trained < 4; trained++) {
        Bench bench;
        make_bench(&bench);
        PairCall call = {input(&bench, 7, 15), input(&bench, 7, 15), op};
        bench.run = run_pair;
        bench.call = &call;
        if (trained & 1) require(&bench, &call.a);
        if (trained & 2) require(&bench, &call.b);
        check_gradients(&bench, 0.02);
        free_bench(&bench);
    }
}

static void swiglu_has_its_gradients(void) {
    check_pair(hone_swiglu);
}

static void add_has_its_gradients(void) {
    check_pair(hone_add);
}

// x + x·Wᵀ + both again: gradients of one tensor from several readers, handed over and added.
static Tensor *run_sums(Bench *bench) {
    LinearCall *call = bench->call;
    Tensor *y = hone_linear(bench->tape, &call->weight, &call->x);
    Tensor *twice = hone_add(bench->tape, y, y);
    return hone_add(bench->tape, hone_add(bench->tape, twice, y),
                    hone_swiglu(bench->tape, y, twice));
}

static void gradients_of_several_readers_add_up(void) {
    Bench bench;
    LinearCall call;
    make_bench(&bench);
    linear_call(&bench, &call, 0);
    for (int i = 0; i < 13 * 9; i++) ((float *)call.weight.base.data)[i] *= 0.2f;
    bench.run = run_sums;
    require(&bench, &call.x);
    require(&bench, &call.weight.base);
    check_gradients(&bench, 0.02);
    free_bench(&bench);
}

typedef struct RowsCall {
    Tensor x;
    Weight table;
    const int32_t *rows;
    int64_t count;
} RowsCall;

static Tensor *run_select(Bench *bench) {
    RowsCall *call = bench->call;
    return hone_select_rows(bench->tape, &call->x, call->rows, call->count);
}

static Tensor *run_embedding(Bench *bench) {
    RowsCall *call = bench->call;
    return hone_embedding(bench->tape, &call->table, call->rows, call->count);
}

static void rows_have_their_gradients(void) {
    static const int32_t rows[] = {1, 4, 5, 0}, tokens[] = {3, 3, 0, 6, 3};
    Bench bench;
    make_bench(&bench);
    RowsCall call = {.x = input(&bench, 6, 11), .rows = rows, .count = 4};
    bench.run = run_select;
    bench.call = &call;
    require(&bench, &call.x);
    check_gradients(&bench, 0.1);
    for (int c = 0; c < 11; c++) CHECK(call.x.grad[2 * 11 + c] == 0);
    free_bench(&bench);

    make_bench(&bench);
    call = (RowsCall){.table.base = random_tensor(&bench, 7, 11), .rows = tokens, .count = 5};
    bench.run = run_embedding;
    bench.call = &call;
    require(&bench, &call.table.base);
    check_gradients(&bench, 0.1);
    for (int c = 0; c < 11; c++) CHECK(call.table.base.grad[4 * 11 + c] == 0);
    free_bench(&bench);
}

// ---- head and loss -----------------------------------------------------------------------------

enum { HEAD_ROWS = 150, HEAD_V = 29, HEAD_C = 10, HEAD_ENTRIES = 400 };

typedef struct HeadCall {
    Weight head;
    Adapter adapter;
    Tensor x;
    int32_t row[HEAD_ENTRIES], target[HEAD_ENTRIES];
    float weight[HEAD_ENTRIES], logprob[HEAD_ENTRIES];
} HeadCall;

static void head_call(Bench *bench, HeadCall *call) {
    *call = (HeadCall){.head.base = random_tensor(bench, HEAD_V, HEAD_C),
                       .adapter = {.A = random_tensor(bench, 2, HEAD_C),
                                   .B = random_tensor(bench, HEAD_V, 2),
                                   .scale = 0.5f},
                       .x = input(bench, HEAD_ROWS, HEAD_C)};
    for (int e = 0; e < HEAD_ENTRIES; e++) { // rows 0, 0, 0, 1, 1, 1, 3, 3, 3, …: some are left out
        call->row[e] = e / 3 + (e / 3) / 10;
        call->target[e] = (int32_t)hone_random_below(&bench->random, HEAD_V);
        call->weight[e] = 0.2f * hone_random_uniform(&bench->random);
    }
    call->head.adapters = &call->adapter;
    call->head.adapter_count = 1;
    bench->call = call;
}

static double head_loss(Bench *bench, int64_t entries) {
    HeadCall *call = bench->call;
    HeadLoss io = {.entries = entries,
                   .row = call->row,
                   .target = call->target,
                   .weight = call->weight,
                   .logprob = call->logprob};
    hone_tape_reset(bench->tape, true);
    hone_head_cross_entropy(bench->tape, &call->head, &call->x, &io);
    CHECK_INT(hone_tape_backward(bench->tape), HONE_OK);
    CHECK_INT(hone_tape_used(bench->tape), 0);
    return io.loss;
}

// The same in double, straight from the formula.
static double plain_head_loss(const HeadCall *call, int64_t entries) {
    double loss = 0;
    const float *W = call->head.base.data, *A = call->adapter.A.data, *B = call->adapter.B.data;
    for (int64_t e = 0; e < entries; e++) {
        const float *x = (const float *)call->x.data + call->row[e] * HEAD_C;
        double z[HEAD_V], u[2] = {0, 0}, sum = 0;
        for (int r = 0; r < 2; r++)
            for (int c = 0; c < HEAD_C; c++) u[r] += (double)A[r * HEAD_C + c] * (double)x[c];
        for (int v = 0; v < HEAD_V; v++) {
            z[v] = 0.5 * ((double)B[v * 2] * u[0] + (double)B[v * 2 + 1] * u[1]);
            for (int c = 0; c < HEAD_C; c++) z[v] += (double)W[v * HEAD_C + c] * (double)x[c];
            sum += exp(z[v]);
        }
        const double logprob = z[call->target[e]] - log(sum);
        CHECK_NEAR(call->logprob[e], logprob, 1e-5, 1e-5);
        loss -= (double)call->weight[e] * logprob;
    }
    return loss;
}

static void head_and_loss_have_their_gradients(void) {
    Bench bench;
    HeadCall call;
    make_bench(&bench);
    head_call(&bench, &call);
    Tensor *trained[] = {&call.x, &call.head.base, &call.adapter.A, &call.adapter.B};
    for (int i = 0; i < 4; i++) require(&bench, trained[i]);
    const double loss =
        head_loss(&bench, HEAD_ENTRIES); // before plain_head_loss, which reads logprob
    CHECK_NEAR(loss, plain_head_loss(&call, HEAD_ENTRIES), 1e-6, 0);
    for (int i = 0; i < 4; i++) {
        Tensor *tensor = trained[i];
        const int64_t count = hone_tensor_count(tensor);
        memset(tensor->grad, 0, hone_tensor_bytes(tensor));
        head_loss(&bench, HEAD_ENTRIES);
        float *gradient = normal(&bench, count), *d = normal(&bench, count);
        memcpy(gradient, tensor->grad, (size_t)count * sizeof *d);
        double got = 0, size = 0;
        for (int64_t j = 0; j < count; j++) {
            got += (double)gradient[j] * (double)d[j];
            size += (double)gradient[j] * (double)gradient[j];
        }
        float *from = normal(&bench, count);
        memcpy(from, tensor->data, (size_t)count * sizeof *from);
        const double step = 0.01;
        double value[4];
        const double at[] = {step, -step, 2 * step, -2 * step};
        for (int k = 0; k < 4; k++) {
            move(tensor, from, d, at[k]);
            value[k] = head_loss(&bench, HEAD_ENTRIES);
        }
        memcpy(tensor->data, from, (size_t)count * sizeof *from);
        const double want =
            (4 * (value[0] - value[1]) / (2 * step) - (value[2] - value[3]) / (4 * step)) / 3;
        if (!CHECK(fabs(got - want) <= 3e-4 * sqrt(size)))
            printf("input %d: slope %.6g, want %.6g\n", i, got, want);
    }
    free_bench(&bench);
}

// A vocabulary so large that 400 entries take several chunks: the same as entry by entry.
static void chunks_of_the_loss_add_up(void) {
    enum { V = 60000, C = 3, ENTRIES = 300 };
    Bench bench;
    make_bench(&bench);
    Weight head = {.base = random_tensor(&bench, V, C)};
    Tensor x = input(&bench, ENTRIES, C);
    require(&bench, &x);
    int32_t row[ENTRIES], target[ENTRIES];
    float weight[ENTRIES], logprob[2][ENTRIES], *gradient[2];
    for (int e = 0; e < ENTRIES; e++) {
        row[e] = e;
        target[e] = (int32_t)hone_random_below(&bench.random, V);
        weight[e] = 0.01f;
    }
    double loss[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        const int64_t piece = k ? 50 : ENTRIES;
        memset(x.grad, 0, hone_tensor_bytes(&x));
        for (int64_t e = 0; e < ENTRIES; e += piece) {
            HeadLoss io = {.entries = piece,
                           .row = row + e,
                           .target = target + e,
                           .weight = weight + e,
                           .logprob = logprob[k] + e};
            hone_head_cross_entropy(bench.tape, &head, &x, &io);
            loss[k] += io.loss;
        }
        gradient[k] = normal(&bench, ENTRIES * C);
        memcpy(gradient[k], x.grad, hone_tensor_bytes(&x));
    }
    CHECK_NEAR(loss[0], loss[1], 1e-6, 0);
    CHECK_CLOSE(logprob[0], logprob[1], ENTRIES, 1e-6, 1e-6);
    CHECK_CLOSE(gradient[0], gradient[1], ENTRIES * C, 1e-5, 1e-7);
    CHECK(hone_tape_peak(bench.tape) < (size_t)60 << 20);
    free_bench(&bench);
}

// However many targets it has, a row's logits are one row: the memory says so.
static void a_row_of_many_targets_has_one_row_of_logits(void) {
    enum { V = 60000, C = 3, ENTRIES = 300 };
    Bench bench;
    make_bench(&bench);
    Weight head = {.base = random_tensor(&bench, V, C)};
    Tensor x = input(&bench, 3, C);
    require(&bench, &x);
    int32_t row[ENTRIES], target[ENTRIES];
    float weight[ENTRIES], logprob[ENTRIES];
    for (int e = 0; e < ENTRIES; e++) {
        row[e] = e < ENTRIES / 2 ? 0 : 2;
        target[e] = e * 7;
        weight[e] = 1;
    }
    HeadLoss io = {
        .entries = ENTRIES, .row = row, .target = target, .weight = weight, .logprob = logprob};
    hone_head_cross_entropy(bench.tape, &head, &x, &io);
    CHECK(hone_tape_peak(bench.tape) < (size_t)3 * V * sizeof(float));
    double loss = 0;
    for (int e = 0; e < ENTRIES; e++) loss -= (double)logprob[e];
    CHECK_NEAR(io.loss, loss, 1e-6, 0);
    for (int c = 0; c < C; c++) CHECK(x.grad[0 * C + c] != 0 && x.grad[1 * C + c] == 0);
    free_bench(&bench);
}

int main(void) {
    RUN(linear_has_the_gradients_of_x_and_w);
    RUN(linear_has_the_gradients_of_its_adapters);
    RUN(linear_trains_only_what_is_asked);
    RUN(linear_reads_a_quantised_weight);
    RUN(rms_norm_has_its_gradients);
    RUN(rotary_has_its_gradient);
    RUN(attention_has_its_gradients);
    RUN(swiglu_has_its_gradients);
    RUN(add_has_its_gradients);
    RUN(gradients_of_several_readers_add_up);
    RUN(rows_have_their_gradients);
    RUN(head_and_loss_have_their_gradients);
    RUN(chunks_of_the_loss_add_up);
    RUN(a_row_of_many_targets_has_one_row_of_logits);
    return check_report();
}
