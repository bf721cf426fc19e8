// SPDX-License-Identifier: Apache-2.0
// The operators of encoders: GELU with erf, pooling.
#include "gradients.h"

typedef struct OneCall {
    Tensor x;
} OneCall;

static void check_one(Tensor *(*run)(Bench *bench), double step) {
    Bench bench;
    make_bench(&bench);
    OneCall call = {input(&bench, 11, 13)};
    bench.run = run;
    bench.call = &call;
    require(&bench, &call.x);
    check_gradients(&bench, step);
    free_bench(&bench);
}

static Tensor *run_gelu_erf(Bench *bench) {
    return hone_gelu_erf(bench->tape, &((OneCall *)bench->call)->x);
}

static void gelu_with_erf_has_its_gradient(void) {
    check_one(run_gelu_erf, 0.05);
}

// Sequences of 3, 1, 5 and 1 rows; the first row is in none.
static const int32_t sequences[] = {1, 4, 5, 10, 11};

static Tensor *run_mean(Bench *bench) {
    return hone_pool_rows(bench->tape, false, &((OneCall *)bench->call)->x, sequences, 4);
}

static Tensor *run_largest(Bench *bench) {
    return hone_pool_rows(bench->tape, true, &((OneCall *)bench->call)->x, sequences, 4);
}

static void pooling_has_its_gradient(void) {
    check_one(run_mean, 0.1);
    check_one(run_largest, 0.001);
}

static void pooling_gives_means_and_largest(void) {
    Bench bench;
    make_bench(&bench);
    OneCall call = {input(&bench, 11, 13)};
    bench.call = &call;
    const float *x = call.x.data, *mean = run_mean(&bench)->data, *most = run_largest(&bench)->data;
    for (int s = 0; s < 4; s++)
        for (int c = 0; c < 13; c++) {
            double sum = 0, largest = (double)-INFINITY;
            for (int t = sequences[s]; t < sequences[s + 1]; t++) {
                sum += (double)x[t * 13 + c];
                largest = fmax(largest, (double)x[t * 13 + c]);
            }
            CHECK_NEAR((double)mean[s * 13 + c], sum / (sequences[s + 1] - sequences[s]), 1e-6,
                       1e-6);
            CHECK((double)most[s * 13 + c] == largest);
        }
    const int32_t empty[] = {0, 3, 3};
    CHECK(hone_pool_rows(bench.tape, false, &call.x, empty, 2) == NULL);
    HoneError err = {0};
    CHECK_INT(hone_tape_status(bench.tape, &err), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "sequence 1 is rows 3 to 3 of 11");
    free_bench(&bench);
}

int main(void) {
    RUN(gelu_with_erf_has_its_gradient);
    RUN(pooling_has_its_gradient);
    RUN(pooling_gives_means_and_largest);
    return check_report();
}
