// SPDX-License-Identifier: Apache-2.0
// A mixture of experts on the tape: its gradients, and those of the loss for their even use.
#include "gradients.h"

enum { T = 7, EXPERTS = 4, USED = 2, IN = 6, OUT = 5, RANK = 2 };

typedef struct MixtureCall {
    Tensor logits, x;
    Weight weights[EXPERTS];
    Adapter adapters[EXPERTS];
    RouterArgs args;
    RouterBalance *balance;
} MixtureCall;

static Tensor *run_mixture(Bench *bench) {
    MixtureCall *call = bench->call;
    Tape *tape = bench->tape;
    const Routing *to = hone_route(tape, &call->logits, call->args);
    if (!to) return NULL;
    Tensor *x = hone_select_rows(tape, &call->x, to->token, to->rows);
    Tensor *y = hone_weigh(tape, hone_experts_linear(tape, call->weights, to, x), to->weight);
    return hone_collect(tape, to, y);
}

// The second and the third of a row's experts lie 2 apart: no step changes who is chosen.
static void mixture_call(Bench *bench, MixtureCall *call) {
    make_bench(bench);
    *call = (MixtureCall){
        .logits = input(bench, T, EXPERTS), .x = input(bench, T, IN), .args = {.used = USED}};
    float *z = call->logits.data;
    for (int t = 0; t < T; t++)
        for (int e = 0; e < EXPERTS; e++)
            z[t * EXPERTS + e] = 0.2f * z[t * EXPERTS + e] + (float)(3 - 2 * ((e + t) % EXPERTS));
    for (int e = 0; e < EXPERTS; e++) {
        call->weights[e].base = random_tensor(bench, OUT, IN);
        call->adapters[e] = (Adapter){.scale = 0.7f,
                                      .A = random_tensor(bench, RANK, IN),
                                      .B = random_tensor(bench, OUT, RANK)};
    }
    bench->run = run_mixture;
    bench->call = call;
}

static void a_mixture_is_the_sum_of_its_experts(void) {
    Bench bench;
    MixtureCall call;
    mixture_call(&bench, &call);
    const Tensor *y = run_mixture(&bench);
    for (int t = 0; t < T; t++) {
        const float *z = (const float *)call.logits.data + t * EXPERTS;
        double sum = 0, want[OUT] = {0};
        for (int e = 0; e < EXPERTS; e++) sum += exp((double)z[e]);
        for (int e = 0; e < EXPERTS; e++) {
            const float *W = call.weights[e].base.data, *x = (const float *)call.x.data + t * IN;
            for (int o = 0; z[e] > 0 && o < OUT; o++)
                for (int i = 0; i < IN; i++)
                    want[o] += exp((double)z[e]) / sum * (double)W[o * IN + i] * (double)x[i];
        }
        for (int o = 0; o < OUT; o++)
            CHECK_NEAR((double)((const float *)y->data)[t * OUT + o], want[o], 2e-6, 2e-6);
    }
    free_bench(&bench);
}

static void a_mixture_has_its_gradients(void) {
    for (int trained = 1; trained < 16; trained++) {
        Bench bench;
        MixtureCall call;
        mixture_call(&bench, &call);
        call.args.normalised = trained % 3 == 0;
        if (trained & 1) require(&bench, &call.x);
        if (trained & 2) require(&bench, &call.logits);
        if (trained & 4)
            for (int e = 0; e < 2; e++) require(&bench, &call.weights[e].base);
        for (int e = 1; e < 3 && trained & 8; e++) { // some adapted, some not
            call.weights[e].adapters = &call.adapters[e];
            call.weights[e].adapter_count = 1;
            require(&bench, e == 1 ? &call.adapters[e].A : &call.adapters[e].B);
        }
        check_gradients(&bench, 0.02);
        free_bench(&bench);
    }
}

// What adapters drop goes by the token, wherever its row is.
static void experts_drop_by_the_token(void) {
    uint64_t path[T];
    float kept[T * OUT];
    for (int reverse = 0; reverse < 2; reverse++) {
        Bench bench;
        MixtureCall call;
        mixture_call(&bench, &call);
        for (int e = 0; e < EXPERTS; e++) {
            call.adapters[e].dropout = 0.4f;
            call.adapters[e].dropout_place = (uint32_t)e;
            call.weights[e].adapters = &call.adapters[e];
            call.weights[e].adapter_count = 1;
        }
        for (int t = 0; t < T; t++) path[t] = (uint64_t)(reverse ? T - 1 - t : t) << 32;
        for (int t = 0; t < T / 2 && reverse; t++) { // the same tokens, the last first
            for (int i = 0; i < IN; i++) {
                float *x = call.x.data, other = x[t * IN + i];
                x[t * IN + i] = x[(T - 1 - t) * IN + i];
                x[(T - 1 - t) * IN + i] = other;
            }
            for (int e = 0; e < EXPERTS; e++) {
                float *z = call.logits.data, other = z[t * EXPERTS + e];
                z[t * EXPERTS + e] = z[(T - 1 - t) * EXPERTS + e];
                z[(T - 1 - t) * EXPERTS + e] = other;
            }
        }
        call.args.path = path;
        const float *y = run_mixture(&bench)->data;
        for (int t = 0; t < T; t++)
            for (int o = 0; o < OUT; o++) {
                if (reverse)
                    CHECK_NEAR((double)y[(T - 1 - t) * OUT + o], (double)kept[t * OUT + o], 1e-6,
                               1e-6);
                else
                    kept[t * OUT + o] = y[t * OUT + o];
            }
        free_bench(&bench);
    }
}

// Two layers with the same logits but for their order: loss and gradient by the formula.
static void routers_are_balanced_over_all_layers(void) {
    Bench bench;
    MixtureCall call;
    mixture_call(&bench, &call);
    int64_t rows[2] = {0}, chosen[2 * EXPERTS] = {0};
    double probability[2 * EXPERTS] = {0};
    RouterBalance balance = {.coefficient = 0.3f,
                             .layers = 2,
                             .experts = EXPERTS,
                             .rows = rows,
                             .chosen = chosen,
                             .probability = probability};
    require(&bench, &call.logits);
    call.args.balance = &balance;
    Tensor *first = run_mixture(&bench);
    call.args.layer = 1;
    Tensor *second = run_mixture(&bench);
    double p[EXPERTS] = {0}, often[EXPERTS] = {0}, want = 0;
    for (int t = 0; t < T; t++) {
        const float *z = (const float *)call.logits.data + t * EXPERTS;
        double sum = 0;
        for (int e = 0; e < EXPERTS; e++) sum += exp((double)z[e]);
        for (int e = 0; e < EXPERTS; e++) p[e] += exp((double)z[e]) / sum / T;
        for (int e = 0; e < EXPERTS; e++) often[e] += (z[e] > 0) / (double)T;
    }
    for (int e = 0; e < EXPERTS; e++) want += 0.3 * EXPERTS * often[e] * p[e];
    CHECK_NEAR(hone_router_loss(&balance), want, 1e-6, 0);
    CHECK(hone_router_loss(NULL) == 0);

    memset(hone_tape_gradient(bench.tape, first), 0, hone_tensor_bytes(first));
    memset(hone_tape_gradient(bench.tape, second), 0, hone_tensor_bytes(second));
    CHECK_INT(hone_tape_backward(bench.tape), HONE_OK);
    for (int t = 0; t < T; t++) {
        const float *z = (const float *)call.logits.data + t * EXPERTS;
        double sum = 0, mean = 0;
        for (int e = 0; e < EXPERTS; e++) sum += exp((double)z[e]);
        for (int e = 0; e < EXPERTS; e++) mean += exp((double)z[e]) / sum * often[e];
        for (int e = 0; e < EXPERTS; e++)
            CHECK_NEAR((double)call.logits.grad[t * EXPERTS + e],
                       0.3 * EXPERTS / T * exp((double)z[e]) / sum * (often[e] - mean), 1e-5, 1e-7);
    }
    free_bench(&bench);
}

static void check_refused(Bench *bench, MixtureCall *call, const char *part) {
    HoneError err = {0};
    hone_tape_reset(bench->tape, true);
    CHECK(run_mixture(bench) == NULL);
    hone_tape_status(bench->tape, &err);
    CHECK_CONTAINS(err.message, part);
    (void)call;
}

static void what_does_not_fit_is_refused(void) {
    Bench bench;
    MixtureCall call;
    mixture_call(&bench, &call);
    call.args.used = EXPERTS + 1;
    check_refused(&bench, &call, "7 rows cannot go to 5 of 4 experts each");
    call.args.used = USED;
    call.weights[2].base.shape[0] = OUT - 1;
    check_refused(&bench, &call, "experts have weights (5, 6) and (4, 6)");
    call.weights[2].base.shape[0] = OUT;
    RouterBalance balance = {.layers = 1, .experts = EXPERTS};
    call.args.balance = &balance;
    call.args.layer = 1;
    check_refused(&bench, &call, "layer 1 with 4 experts is none of 1 layers");
    free_bench(&bench);
}

int main(void) {
    RUN(a_mixture_is_the_sum_of_its_experts);
    RUN(a_mixture_has_its_gradients);
    RUN(experts_drop_by_the_token);
    RUN(routers_are_balanced_over_all_layers);
    RUN(what_does_not_fit_is_refused);
    return check_report();
}
