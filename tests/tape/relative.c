// SPDX-License-Identifier: Apache-2.0
// Attention with a bias by distance: its gradients, that of the bias too, in packed sequences, and
// the numbers of distances.
#include "gradients.h"

enum { TOKENS = 13, HEADS = 3, NUMBERS = 8 };

typedef struct RelativeCall {
    Tensor q, k, v, table;
    int32_t begin[TOKENS], end[TOKENS], position[TOKENS];
    bool both_ways;
    Visibility visible;
} RelativeCall;

static Tensor *run_relative(Bench *bench) {
    RelativeCall *call = bench->call;
    const RelativeBias bias = {.table = &call->table,
                               .farthest = 6,
                               .both_ways = call->both_ways,
                               .query_position = call->position,
                               .key_position = call->position};
    return hone_relative_attention(bench->tape, &call->q, &call->k, &call->v, HEADS, bias,
                                   call->visible);
}

// Sequences of 8 and 5 tokens. Causal, or each seen by all of its own. torn: the second one's first
// key lies before the first's last, so that the batch is one segment.
static RelativeCall relative_call(Bench *bench, bool both_ways, bool torn) {
    RelativeCall call = {.q = input(bench, TOKENS, 15),
                         .k = input(bench, TOKENS, 15),
                         .v = input(bench, TOKENS, 12),
                         .table = input(bench, NUMBERS, HEADS),
                         .both_ways = both_ways,
                         .visible = {.queries = TOKENS, .keys = TOKENS}};
    for (int32_t t = 0; t < TOKENS; t++) {
        call.position[t] = t < 8 ? t : t - 8;
        call.begin[t] = both_ways ? (t < 8 ? 0 : 8) : t;
        call.end[t] = t < 8 ? 8 : TOKENS;
    }
    if (torn) {
        call.begin[8] = 0;
        call.end[8] = 2;
        call.begin[2] = 8;
        call.end[2] = TOKENS;
    }
    return call;
}

static void check(bool both_ways, bool torn, int trained) {
    Bench bench;
    make_bench(&bench);
    RelativeCall call = relative_call(&bench, both_ways, torn);
    call.visible.begin = call.begin;
    call.visible.end = call.end;
    bench.run = run_relative;
    bench.call = &call;
    if (trained & 1) require(&bench, &call.q);
    if (trained & 2) require(&bench, &call.k);
    if (trained & 4) require(&bench, &call.v);
    if (trained & 8) require(&bench, &call.table);
    check_gradients(&bench, 0.02);
    free_bench(&bench);
}

static void it_has_its_gradients(void) {
    for (int both_ways = 0; both_ways < 2; both_ways++)
        for (int torn = 0; torn < 2; torn++) {
            check(both_ways, torn, 15);
            check(both_ways, torn, 8);
            check(both_ways, torn, 3);
        }
}

// With a table of zeros it is attention without a bias; with the same value everywhere too.
static void a_bias_that_is_the_same_everywhere_is_none(void) {
    Bench bench;
    float with[TOKENS * 12], without[TOKENS * 12];
    make_bench(&bench);
    RelativeCall call = relative_call(&bench, false, false);
    call.visible.begin = call.begin;
    call.visible.end = call.end;
    bench.call = &call;
    for (int i = 0; i < NUMBERS * HEADS; i++) ((float *)call.table.data)[i] = (float)(i % HEADS);
    hone_tape_read(bench.tape, run_relative(&bench), with);
    Tensor *o =
        hone_attention(bench.tape, &call.q, &call.k, &call.v, HEADS, HEADS, 1, 0, call.visible);
    hone_tape_read(bench.tape, o, without);
    CHECK_CLOSE(with, without, TOKENS * 12, 1e-5, 1e-6);
    free_bench(&bench);
}

static void what_does_not_fit_is_refused(void) {
    Bench bench;
    HoneError err = {0};
    make_bench(&bench);
    RelativeCall call = relative_call(&bench, false, false);
    call.table = input(&bench, NUMBERS, HEADS + 1);
    bench.call = &call;
    CHECK(run_relative(&bench) == NULL);
    CHECK_INT(hone_tape_status(bench.tape, &err), HONE_ERROR_ARGUMENT);
    free_bench(&bench);
}

int main(void) {
    RUN(it_has_its_gradients);
    RUN(a_bias_that_is_the_same_everywhere_is_none);
    RUN(what_does_not_fit_is_refused);
    return check_report();
}
