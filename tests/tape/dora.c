// SPDX-License-Identifier: Apache-2.0
// DoRA: its gradients, its norms, and what is left of it where nothing is trained.
#include "tensor/dora.h"
#include "gradients.h"
#include "linear_call.h"

// DoRA's derivatives hold its norms constant, and so do differences of a pass that is given them.
static void dora(Bench *bench, Adapter *adapter) {
    adapter->magnitude = random_tensor(bench, 13, 0);
    float *norms = normal(bench, 13), *gain = normal(bench, 13);
    for (int i = 0; i < 13; i++) {
        norms[i] = 1 / (0.5f + fabsf(norms[i]));
        gain[i] = ((const float *)adapter->magnitude.data)[i] * norms[i];
    }
    adapter->inverse_norm = norms;
    adapter->gain = gain;
}

static Tensor *run_dora(Bench *bench) {
    LinearCall *call = bench->call;
    Adapter *adapter = &call->adapters[0];
    const float *magnitude = adapter->magnitude.data;
    for (int i = 0; i < 13; i++) adapter->gain[i] = magnitude[i] * adapter->inverse_norm[i];
    return run_linear(bench);
}

static void linear_has_the_gradients_of_dora(void) {
    enum { T = 17 };
    uint64_t path[T];
    for (int t = 0; t < T; t++) path[t] = (uint64_t)(t % 15) * 0x9E3779B97F4A7C15u;
    for (int which = 0; which < 16; which++) { // with dropout, a bias, x and magnitudes trained
        Bench bench;
        LinearCall call;
        make_bench(&bench);
        linear_call(&bench, &call, 1);
        Adapter *adapter = &call.adapters[0];
        dora(&bench, adapter);
        bench.run = run_dora;
        if (which & 1) {
            call.path = path;
            adapter->dropout = 0.3f;
            adapter->dropout_key = 5;
        }
        if (which & 2) {
            call.weight.bias = random_tensor(&bench, 13, 0);
            require(&bench, &call.weight.bias);
        }
        if (which & 4) require(&bench, &call.x);
        if (which & 8) require(&bench, &adapter->magnitude);
        require(&bench, &adapter->A);
        require(&bench, &adapter->B);
        check_gradients(&bench, 0.1);
        free_bench(&bench);
    }
}

// The norms of W + scale·B·A beside those of that matrix, and a pass with all frozen.
static void dora_divides_by_the_norms(void) {
    Bench bench;
    LinearCall call;
    make_bench(&bench);
    linear_call(&bench, &call, 1);
    const Adapter *adapter = &call.adapters[0];
    const float *W = call.weight.base.data, *A = adapter->A.data, *B = adapter->B.data;
    double squares[13], want;
    float norms[13];
    HoneError err = {0};
    const KernelContext *kc = hone_tape_kernels(bench.tape);
    hone_row_squares(kc, &call.weight.base, squares);
    CHECK_INT(hone_adapted_norms(kc, &call.weight.base, squares, &adapter->A, &adapter->B,
                                 adapter->scale, norms, &err),
              HONE_OK);
    for (int i = 0; i < 13; i++) {
        want = 0;
        for (int c = 0; c < 9; c++) {
            double value = 0;
            for (int k = 0; k < 3; k++) value += (double)B[i * 3 + k] * (double)A[k * 9 + c];
            value = (double)W[i * 9 + c] + (double)adapter->scale * value;
            want += value * value;
        }
        CHECK_NEAR(norms[i], sqrt(want), 2e-6, 0);
    }
    free_bench(&bench);
}

// y = gain ⊙ (x·Wᵀ) + … is the product with W's rows multiplied, the adapters' left out.
static void linear_applies_gains(void) {
    for (int biased = 0; biased < 2; biased++) {
        Bench bench;
        LinearCall call;
        make_bench(&bench);
        linear_call(&bench, &call, 2);
        if (biased) call.weight.bias = random_tensor(&bench, 13, 0);
        Weight gained = call.weight;
        gained.gain = random_tensor(&bench, 13, 0);
        float *W = call.weight.base.data, got[17 * 13], want[17 * 13];
        hone_tape_reset(bench.tape, false);
        hone_tape_read(bench.tape, hone_linear(bench.tape, &gained, &call.x, NULL), got);
        for (int i = 0; i < 13 * 9; i++) W[i] *= ((const float *)gained.gain.data)[i / 9];
        hone_tape_reset(bench.tape, false);
        hone_tape_read(bench.tape, hone_linear(bench.tape, &call.weight, &call.x, NULL), want);
        for (int i = 0; i < 17 * 13; i++) CHECK_NEAR(got[i], want[i], 1e-5, 1e-5);
        hone_tape_reset(bench.tape, true);
        CHECK(hone_linear(bench.tape, &gained, &call.x, NULL) == NULL); // not in training
        free_bench(&bench);
    }
}

int main(void) {
    RUN(linear_has_the_gradients_of_dora);
    RUN(dora_divides_by_the_norms);
    RUN(linear_applies_gains);
    return check_report();
}
