// SPDX-License-Identifier: Apache-2.0
// Each operator's gradients; those of the head and its loss are in head.c.
#include "gradients.h"
#include "linear_call.h"

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

static void linear_has_the_gradient_of_its_bias(void) {
    for (int trained = 1; trained < 8; trained++) {
        Bench bench;
        LinearCall call;
        make_bench(&bench);
        linear_call(&bench, &call, 1);
        call.weight.bias = random_tensor(&bench, 13, 0);
        if (trained & 1) require(&bench, &call.weight.bias);
        if (trained & 2) require(&bench, &call.x);
        if (trained & 4) require(&bench, &call.adapters[0].B);
        check_gradients(&bench, 0.1);
        free_bench(&bench);
    }
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

// Adapters that drop, one of them or both, beside such as do not.
static void linear_has_the_gradients_of_adapters_that_drop(void) {
    enum { T = 17 };
    uint64_t path[T];
    for (int t = 0; t < T; t++) path[t] = (uint64_t)(t % 15) * 0x9E3779B97F4A7C15u;
    for (int which = 1; which < 4; which++) {
        Bench bench;
        LinearCall call;
        make_bench(&bench);
        linear_call(&bench, &call, 2);
        call.path = path;
        for (int a = 0; a < 2; a++) {
            if (which >> a & 1) call.adapters[a].dropout = 0.3f;
            call.adapters[a].dropout_key = 5;
            call.adapters[a].dropout_place = (uint32_t)a;
            require(&bench, &call.adapters[a].A);
            require(&bench, &call.adapters[a].B);
        }
        require(&bench, &call.x);
        check_gradients(&bench, 0.1);
        free_bench(&bench);
    }
}

static double linear_sum(const LinearCall *call, const Bench *bench, bool gradients,
                         const uint64_t *path) {
    LinearCall plain = *call;
    hone_tape_reset(bench->tape, gradients);
    const Tensor *y = hone_linear(bench->tape, &plain.weight, &plain.x, path);
    double sum = 0;
    for (int64_t i = 0; i < hone_tensor_count(y); i++) sum += (double)((const float *)y->data)[i];
    return sum;
}

// Without token paths, and where no gradients are recorded, nothing is dropped.
static void linear_drops_in_training_only(void) {
    Bench bench;
    LinearCall call;
    const uint64_t path[17] = {1, 2, 3};
    make_bench(&bench);
    linear_call(&bench, &call, 1);
    const double whole = linear_sum(&call, &bench, true, path);
    call.adapters[0].dropout = 0.5f;
    CHECK(linear_sum(&call, &bench, true, NULL) == whole);
    CHECK(linear_sum(&call, &bench, false, path) == whole);
    CHECK(linear_sum(&call, &bench, true, path) != whole);
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

// A gain of a head: three heads of 7 a row.
static void rms_norm_of_heads_has_its_gradients(void) {
    for (int trained = 1; trained < 4; trained++) {
        Bench bench;
        make_bench(&bench);
        NormCall call = {random_tensor(&bench, 7, 0), input(&bench, 11, 21)};
        bench.run = run_norm;
        bench.call = &call;
        const Tensor *y = run_norm(&bench);
        for (int64_t i = 0; i < 11 * 3; i++) {
            const float *x = (const float *)call.x.data + i * 7, *gain = call.gain.data;
            double squares = 0;
            for (int c = 0; c < 7; c++) squares += (double)x[c] * (double)x[c];
            for (int c = 0; c < 7; c++)
                CHECK_NEAR((double)((const float *)y->data)[i * 7 + c],
                           (double)x[c] / sqrt(squares / 7 + 1e-5) * (double)gain[c], 1e-6, 1e-6);
        }
        if (trained & 1) require(&bench, &call.x);
        if (trained & 2) require(&bench, &call.gain);
        check_gradients(&bench, 0.02);
        free_bench(&bench);
    }
}

typedef struct LayerNormCall {
    Tensor gain, bias, x;
} LayerNormCall;

static Tensor *run_layer_norm(Bench *bench) {
    LayerNormCall *call = bench->call;
    return hone_layer_norm(bench->tape, &call->gain, &call->bias, 1e-5f, &call->x);
}

static void layer_norm_has_its_gradients(void) {
    for (int trained = 1; trained < 8; trained++) {
        Bench bench;
        make_bench(&bench);
        LayerNormCall call = {random_tensor(&bench, 21, 0), random_tensor(&bench, 21, 0),
                              input(&bench, 11, 21)};
        bench.run = run_layer_norm;
        bench.call = &call;
        if (trained & 1) require(&bench, &call.x);
        if (trained & 2) require(&bench, &call.gain);
        if (trained & 4) require(&bench, &call.bias);
        check_gradients(&bench, 0.02);
        free_bench(&bench);
    }
}

typedef struct OneCall {
    Tensor x;
} OneCall;

static Tensor *run_gelu(Bench *bench) {
    return hone_gelu(bench->tape, &((OneCall *)bench->call)->x);
}

static Tensor *run_relu(Bench *bench) {
    return hone_relu(bench->tape, &((OneCall *)bench->call)->x);
}

static Tensor *run_dropout(Bench *bench) {
    static const uint64_t path[11] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
    const Dropout dropout = {0.25f, 77};
    return hone_dropout(bench->tape, dropout, 2, path, &((OneCall *)bench->call)->x);
}

// Columns 4 … 9, and 7 … 12 of the same: gradients of both add up.
static Tensor *run_columns(Bench *bench) {
    OneCall *call = bench->call;
    Tensor *left = hone_select_columns(bench->tape, &call->x, 4, 6);
    return hone_add(bench->tape, left, hone_select_columns(bench->tape, &call->x, 7, 6));
}

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

static void gelu_has_its_gradient(void) {
    check_one(run_gelu, 0.05);
}

static void relu_has_its_gradient(void) {
    Bench bench;
    make_bench(&bench);
    OneCall call = {input(&bench, 11, 13)};
    float *x = call.x.data;
    for (int i = 0; i < 11 * 13; i++) x[i] += x[i] > 0 ? 1 : -1; // a step does not meet the corner
    bench.run = run_relu;
    bench.call = &call;
    require(&bench, &call.x);
    check_gradients(&bench, 0.02);
    free_bench(&bench);
}

static void dropout_has_its_gradient(void) {
    check_one(run_dropout, 0.05);
}

static Tensor *run_scale(Bench *bench) {
    OneCall *call = bench->call;
    Tensor *y = hone_scale(bench->tape, -0.3f, &call->x);
    return hone_add(bench->tape, y, hone_scale(bench->tape, 2.5f, &call->x));
}

static void scale_has_its_gradient(void) {
    check_one(run_scale, 0.1);
    Bench bench;
    make_bench(&bench);
    Tensor x = input(&bench, 2, 3);
    CHECK(hone_scale(bench.tape, 1, &x) == &x);
    CHECK(hone_softcap(bench.tape, 0, &x) == &x);
    CHECK(hone_softcap(bench.tape, -2, &x) == NULL);
    HoneError err = {0};
    CHECK_INT(hone_tape_status(bench.tape, &err), HONE_ERROR_ARGUMENT);
    CHECK_CONTAINS(err.message, "a soft-cap of -2 is not above 0");
    free_bench(&bench);
}

static Tensor *run_softcap(Bench *bench) {
    return hone_softcap(bench->tape, 1.5f, &((OneCall *)bench->call)->x);
}

static void softcap_has_its_gradient(void) {
    check_one(run_softcap, 0.05);
}

static void columns_have_their_gradient(void) {
    check_one(run_columns, 0.1);
}

typedef struct RotaryCall {
    Tensor x;
    bool interleaved;
    int32_t position[9];
    float frequency[3], magnitude;
} RotaryCall;

static Tensor *run_rotary(Bench *bench) {
    RotaryCall *call = bench->call;
    const Rotation rotation = {6, call->interleaved, call->frequency, call->magnitude};
    return hone_rotary(bench->tape, &call->x, 2, rotation, call->position);
}

static void rotary_has_its_gradient(void) {
    for (int form = 0; form < 4; form++) {
        Bench bench;
        make_bench(&bench);
        RotaryCall call = {.x = input(&bench, 9, 16),
                           .interleaved = form & 1,
                           .magnitude = form & 2 ? 1.3f : 0,
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
    int32_t depth[14];
    float softcap;
    Visibility visible;
} AttentionCall;

static Tensor *run_attention(Bench *bench) {
    AttentionCall *call = bench->call;
    return hone_attention(bench->tape, &call->q, &call->k, &call->v, 4, 2, 0.4f, call->softcap,
                          call->visible);
}

// Two packed sequences of 8 and 6 tokens; every bit of `trained` is one of q, k, v. window above 0:
// the first sequence branches after its fourth token.
static void check_attention(int trained, bool causal, float softcap, int32_t window) {
    Bench bench;
    make_bench(&bench);
    AttentionCall call = {.q = input(&bench, 14, 20),
                          .k = input(&bench, 14, 10),
                          .v = input(&bench, 14, 10),
                          .softcap = softcap,
                          .visible = {.queries = 14, .keys = 14, .window = window}};
    for (int32_t t = 0; t < 14; t++) {
        call.begin[t] = t;
        call.end[t] = t < 8 ? 8 : 14;
        call.depth[t] = t < 6 ? t : t < 8 ? t - 2 : t - 8;
        if (window > 0 && t > 3 && t < 6) call.end[t] = 6;
    }
    if (window > 0) call.visible.query_depth = call.visible.key_depth = call.depth;
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

typedef struct Seen {
    float p[4 * 14 * 14];
    int calls;
} Seen;

static void see(void *user, int heads, int64_t queries, int64_t keys, const float *p) {
    Seen *seen = user;
    CHECK_INT(heads * queries * keys, 4 * 14 * 14);
    memcpy(seen->p, p, sizeof seen->p);
    seen->calls++;
}

// The weights that a call shows are those that its result is made with, and 0 where nothing is
// seen; the result has the same bits as without. `window` in a line of tokens.
static void check_shown_weights(float softcap, int32_t window) {
    Bench bench;
    Seen seen = {.calls = 0};
    float plain[14 * 20];
    make_bench(&bench);
    AttentionCall call = {.q = input(&bench, 14, 20),
                          .k = input(&bench, 14, 10),
                          .v = input(&bench, 14, 10),
                          .softcap = softcap,
                          .visible = {.queries = 14, .keys = 14, .window = window}};
    for (int32_t t = 0; t < 14; t++) {
        call.begin[t] = t;
        call.end[t] = window > 0 && t + window < 14 ? t + window : 14;
    }
    call.visible.begin = call.begin;
    call.visible.end = call.end;
    bench.call = &call;
    Tensor *o = run_attention(&bench);
    memcpy(plain, o->data, sizeof plain);
    hone_tape_reset(bench.tape, false);
    hone_tape_take_weights(bench.tape, see, &seen);
    o = run_attention(&bench);
    CHECK_INT(seen.calls, 1);
    CHECK_INT(memcmp(plain, o->data, sizeof plain), 0);
    const float *v = call.v.data;
    for (int i = 0; i < 14; i++)
        for (int c = 0; c < 20; c++) {
            double sum = 0;
            for (int j = 0; j < 14; j++) {
                const double p = (double)seen.p[(c / 5 * 14 + i) * 14 + j];
                if (i < call.begin[j] || i >= call.end[j]) CHECK(p == 0);
                sum += p * (double)v[j * 10 + c / 10 * 5 + c % 5];
            }
            CHECK(fabs(sum - (double)plain[i * 20 + c]) < 1e-5);
        }
    hone_tape_take_weights(bench.tape, NULL, NULL);
    hone_tape_reset(bench.tape, false);
    run_attention(&bench);
    CHECK_INT(seen.calls, 1);
    free_bench(&bench);
}

static void attention_shows_its_weights_on_request(void) {
    check_shown_weights(0, 0);
    check_shown_weights(0.8f, 0);
    check_shown_weights(0, 4);
    check_shown_weights(0.8f, 1);
}

static void attention_has_its_gradients(void) {
    check_attention(7, true, 0, 0);
    check_attention(7, false, 0, 0);
    check_attention(1, true, 0, 0);
    check_attention(4, true, 0, 0);
}

static void attention_has_its_gradients_with_windows_and_a_softcap(void) {
    check_attention(7, true, 0.8f, 0);
    check_attention(7, true, 0, 3);
    check_attention(7, true, 0.8f, 2);
    check_attention(2, true, 0.8f, 2);
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

static void geglu_has_its_gradients(void) {
    check_pair(hone_geglu);
}

static void add_has_its_gradients(void) {
    check_pair(hone_add);
}

// x + x·Wᵀ + both again: gradients of one tensor from several readers, handed over and added.
static Tensor *run_sums(Bench *bench) {
    LinearCall *call = bench->call;
    Tensor *y = hone_linear(bench->tape, &call->weight, &call->x, NULL);
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

// Of a frozen table, or of one that is trained with them.
static void embedding_has_the_gradients_of_its_adapters(void) {
    static const int32_t tokens[] = {3, 3, 0, 6, 3};
    for (int whole = 0; whole < 2; whole++) {
        Bench bench;
        Adapter adapters[2];
        make_bench(&bench);
        RowsCall call = {.table.base = random_tensor(&bench, 7, 11), .rows = tokens, .count = 5};
        for (int a = 0; a < 2; a++)
            adapters[a] = (Adapter){.A = random_tensor(&bench, 2 + a, 11),
                                    .B = random_tensor(&bench, 7, 2 + a),
                                    .scale = 0.5f + (float)a};
        call.table.adapters = adapters;
        call.table.adapter_count = 2;
        bench.run = run_embedding;
        bench.call = &call;
        require(&bench, &adapters[0].A);
        require(&bench, &adapters[0].B);
        require(&bench, &adapters[1].B);
        if (whole) require(&bench, &call.table.base);
        check_gradients(&bench, 0.1);
        for (int k = 0; k < 2; k++) CHECK(adapters[0].B.grad[4 * 2 + k] == 0); // not looked up
        free_bench(&bench);
    }
}

int main(void) {
    RUN(linear_has_the_gradients_of_x_and_w);
    RUN(linear_has_the_gradient_of_its_bias);
    RUN(linear_has_the_gradients_of_its_adapters);
    RUN(linear_has_the_gradients_of_adapters_that_drop);
    RUN(linear_drops_in_training_only);
    RUN(linear_trains_only_what_is_asked);
    RUN(linear_reads_a_quantised_weight);
    RUN(rms_norm_has_its_gradients);
    RUN(rms_norm_of_heads_has_its_gradients);
    RUN(layer_norm_has_its_gradients);
    RUN(gelu_has_its_gradient);
    RUN(relu_has_its_gradient);
    RUN(dropout_has_its_gradient);
    RUN(scale_has_its_gradient);
    RUN(softcap_has_its_gradient);
    RUN(columns_have_their_gradient);
    RUN(rotary_has_its_gradient);
    RUN(attention_shows_its_weights_on_request);
    RUN(attention_has_its_gradients);
    RUN(attention_has_its_gradients_with_windows_and_a_softcap);
    RUN(swiglu_has_its_gradients);
    RUN(geglu_has_its_gradients);
    RUN(add_has_its_gradients);
    RUN(gradients_of_several_readers_add_up);
    RUN(rows_have_their_gradients);
    RUN(embedding_has_the_gradients_of_its_adapters);
    return check_report();
}
