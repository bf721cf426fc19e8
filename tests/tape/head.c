// SPDX-License-Identifier: Apache-2.0
// The head and its loss: gradients of the loss, chunks of it, rows with several targets.
#include "gradients.h"

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
            if (call->head.softcap > 0)
                z[v] = (double)call->head.softcap * tanh(z[v] / (double)call->head.softcap);
            sum += exp(z[v]);
        }
        const double logprob = z[call->target[e]] - log(sum);
        CHECK_NEAR(call->logprob[e], logprob, 1e-5, 1e-5);
        loss -= (double)call->weight[e] * logprob;
    }
    return loss;
}

static void check_head(float softcap) {
    Bench bench;
    HeadCall call;
    make_bench(&bench);
    head_call(&bench, &call);
    call.head.softcap = softcap;
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

static void head_and_loss_have_their_gradients(void) {
    check_head(0);
}

static void a_soft_cap_has_its_gradient(void) {
    check_head(2);
}

// A vocabulary so large that 400 entries take several chunks: the same as entry by entry.
static void check_chunks(float softcap) {
    enum { V = 60000, C = 3, ENTRIES = 300 };
    Bench bench;
    make_bench(&bench);
    Weight head = {.base = random_tensor(&bench, V, C), .softcap = softcap};
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

static void chunks_of_the_loss_add_up(void) {
    check_chunks(0);
    check_chunks(3);
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
    RUN(head_and_loss_have_their_gradients);
    RUN(a_soft_cap_has_its_gradient);
    RUN(chunks_of_the_loss_add_up);
    RUN(a_row_of_many_targets_has_one_row_of_logits);
    return check_report();
}
