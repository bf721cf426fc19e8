// SPDX-License-Identifier: Apache-2.0
// Row kernels: every level against the reference in double; the same bits on any number of threads.
#include "element_support.h"
#include "kernels/reference/element.h"

// ---- normalisation -----------------------------------------------------------------------------

static void norm_of(const KernelContext *kc, int64_t T, int64_t C) {
    Arrays a = arrays_begin((uint64_t)(T * 1000 + C));
    Array *x = array_new(&a, T * C, 1), *w = array_new(&a, C, 1), *dy = array_new(&a, T * C, 1);
    Array *y = array_new(&a, T * C, 0), *r = array_new(&a, T, 0);
    Array *dx = array_new(&a, T * C, 1), *dw = array_new(&a, C, 1);
    Array *dx_alone = array_copy(&a, dx), *dw_alone = array_copy(&a, dw);
    const float eps = 1e-5f;
    hone_rms_norm_forward(kc, T, C, x->data, w->data, eps, y->data, r->data);
    hone_reference_f64_rms_norm_forward(T, C, x->wide, w->wide, (double)eps, y->wide, r->wide);
    array_matches(y, 1e-6, 0, "y");
    array_matches(r, 1e-6, 0, "r");

    size_t bytes = hone_rms_norm_backward_scratch(kc, T, C);
    void *scratch = hone_alloc(bytes);
    memset(scratch, 0xff, bytes); // NaN: sums must not start from what the scratch held
    hone_rms_norm_backward(kc, T, C, x->data, w->data, r->data, dy->data, dx->data, dw->data,
                           scratch);
    hone_reference_f64_rms_norm_backward(T, C, x->wide, w->wide, r->wide, dy->wide, dx->wide,
                                         dw->wide);
    // A row of one element has r up to 1/√eps = 316 and cancels: the errors grow with r.
    double largest = 1;
    for (int64_t t = 0; t < T; t++)
        if (r->wide[t] > largest) largest = r->wide[t];
    array_matches(dx, 1e-6, 3e-6 * largest, "dx");
    array_matches(dw, 1e-6, 4e-7 * sqrt((double)T) + 2e-6, "dw");

    // Either gradient may be left out, and is what it was with the other.
    hone_rms_norm_backward(kc, T, C, x->data, w->data, r->data, dy->data, dx_alone->data, NULL,
                           NULL);
    hone_rms_norm_backward(kc, T, C, x->data, w->data, r->data, dy->data, NULL, dw_alone->data,
                           scratch);
    CHECK(array_equal(dx, dx_alone));
    CHECK(array_equal(dw, dw_alone));
    hone_free(scratch);
    arrays_end(&a);
}

static void check_norm(const KernelContext *kc) {
    for (int64_t C = 1; C <= 67; C++) norm_of(kc, 1 + C % 5, C);
    for (int64_t T = 1; T <= 67; T++) norm_of(kc, T, 33);
    norm_of(kc, 100, 576);
    norm_of(kc, 3, 20011);
    norm_of(kc, 5000, 9);
}

static void rms_norm(void) {
    at_every_level(check_norm);
}

// shift: rows far from 0, as they come out of trained models.
static void layer_norm_of(const KernelContext *kc, int64_t T, int64_t C, float shift) {
    Arrays a = arrays_begin((uint64_t)(T * 1000 + C));
    Array *x = array_new(&a, T * C, 1), *w = array_new(&a, C, 1), *b = array_new(&a, C, 1);
    Array *dy = array_new(&a, T * C, 1), *y = array_new(&a, T * C, 0);
    Array *statistics = array_new(&a, 2 * T, 0);
    Array *dx = array_new(&a, T * C, 1), *dw = array_new(&a, C, 1), *db = array_new(&a, C, 1);
    Array *dx_alone = array_copy(&a, dx), *dw_alone = array_copy(&a, dw);
    Array *db_alone = array_copy(&a, db);
    for (int64_t i = 0; i < T * C; i++) array_set(x, i, x->data[i] + shift);
    const float eps = 1e-5f;
    hone_layer_norm_forward(kc, T, C, x->data, w->data, b->data, eps, y->data, statistics->data);
    hone_reference_f64_layer_norm_forward(T, C, x->wide, w->wide, b->wide, (double)eps, y->wide,
                                          statistics->wide);
    // x − mean has an error of x's last places, times r, which is large where the row is flat.
    double largest = 1;
    for (int64_t t = 0; t < T; t++)
        if (statistics->wide[2 * t + 1] > largest) largest = statistics->wide[2 * t + 1];
    const double off = 1.2e-7 * (1 + fabs((double)shift)) * largest * 4;
    array_matches(y, 2e-6, off * 4, "y");
    array_matches(statistics, 4e-6 * (1 + fabs((double)shift)), 4e-7, "statistics");

    size_t bytes = hone_layer_norm_backward_scratch(T, C);
    void *scratch = hone_alloc(bytes);
    memset(scratch, 0xff, bytes); // NaN: sums must not start from what the scratch held
    hone_layer_norm_backward(kc, T, C, x->data, w->data, statistics->data, dy->data, dx->data,
                             dw->data, db->data, scratch);
    hone_reference_f64_layer_norm_backward(T, C, x->wide, w->wide, statistics->wide, dy->wide,
                                           dx->wide, dw->wide, db->wide);
    array_matches(dx, 2e-6, (off * 8 + 2e-6) * largest, "dx");
    const double rows = sqrt((double)T);
    array_matches(dw, 2e-6, (4e-7 + off) * rows * 2 + 2e-6, "dw");
    array_matches(db, 2e-6, 4e-7 * rows + 2e-6, "db");

    hone_layer_norm_backward(kc, T, C, x->data, w->data, statistics->data, dy->data, dx_alone->data,
                             NULL, NULL, NULL);
    hone_layer_norm_backward(kc, T, C, x->data, w->data, statistics->data, dy->data, NULL,
                             dw_alone->data, db_alone->data, scratch);
    CHECK(array_equal(dx, dx_alone));
    CHECK(array_equal(dw, dw_alone));
    CHECK(array_equal(db, db_alone));
    hone_free(scratch);
    arrays_end(&a);
}

static void check_layer_norm(const KernelContext *kc) {
    for (int64_t C = 2; C <= 67; C++) layer_norm_of(kc, 1 + C % 5, C, 0);
    for (int64_t T = 1; T <= 67; T++) layer_norm_of(kc, T, 33, 0);
    layer_norm_of(kc, 100, 768, 0);
    layer_norm_of(kc, 100, 768, 30);
    layer_norm_of(kc, 3, 20011, 0);
    layer_norm_of(kc, 5000, 9, 0);
}

static void layer_norm(void) {
    at_every_level(check_layer_norm);
}

// A row of equal values, and of one: the bias alone, and no gradient for x.
static void check_flat_rows(const KernelContext *kc) {
    for (int64_t C = 1; C <= 33; C += 16) {
        Arrays a = arrays_begin((uint64_t)C);
        Array *x = array_new(&a, C, 0), *w = array_new(&a, C, 1), *b = array_new(&a, C, 1);
        Array *y = array_new(&a, C, 0), *statistics = array_new(&a, 2, 0);
        for (int64_t c = 0; c < C; c++) {
            array_set(x, c, 2.5f);
            y->wide[c] = b->wide[c];
        }
        hone_layer_norm_forward(kc, 1, C, x->data, w->data, b->data, 1e-5f, y->data,
                                statistics->data);
        array_matches(y, 0, 0, "y of a flat row");
        arrays_end(&a);
    }
}

static void layer_norm_of_flat_rows(void) {
    at_every_level(check_flat_rows);
}

// ---- columns -----------------------------------------------------------------------------------

static void columns_of(const KernelContext *kc, int64_t T, int64_t C, int64_t ldx, int64_t ldy) {
    Arrays a = arrays_begin((uint64_t)(T * 1000 + C));
    Array *x = array_new(&a, T * ldx, 1), *y = array_new(&a, T * ldy, 1);
    const int64_t from = ldx - C, to = ldy - C; // the last columns
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) y->wide[t * ldy + to + c] = x->wide[t * ldx + from + c];
    hone_copy_columns(kc, T, C, x->data + from, ldx, y->data + to, ldy);
    array_matches(y, 0, 0, "copied");
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) y->wide[t * ldy + to + c] *= 2;
    hone_accumulate_columns(kc, T, C, x->data + from, ldx, y->data + to, ldy);
    array_matches(y, 0, 0, "summed");
    arrays_end(&a);
}

static void check_columns(const KernelContext *kc) {
    for (int64_t C = 1; C <= 40; C++) columns_of(kc, 1 + C % 6, C, C + C % 7, C + C % 3);
    columns_of(kc, 0, 5, 9, 7);
    columns_of(kc, 700, 96, 288, 96);
}

static void columns(void) {
    at_every_level(check_columns);
}

// ---- dropout -----------------------------------------------------------------------------------

// Sixteen channels to a draw of Philox, a byte to each: kept unless it is below the rate.
static void drop_plainly(const DropoutRows *rows, const double *x, double *y) {
    const uint32_t threshold = (uint32_t)lrintf(rows->rate * 256);
    const double factor = 256.0 / (256.0 - (double)threshold);
    for (int64_t t = 0; t < rows->T; t++)
        for (int64_t c = 0; c < rows->C; c++) {
            uint32_t words[4];
            const uint64_t a = (uint64_t)rows->place << 32 | (uint64_t)(c / 16);
            hone_philox(rows->key ^ hone_philox_key(0, RANDOM_DROPOUT), RANDOM_DROPOUT, a,
                        rows->path[t], words);
            const uint32_t byte = words[c % 16 / 4] >> (8 * (c % 4)) & 255;
            y[t * rows->C + c] += byte >= threshold ? x[t * rows->C + c] * factor : 0;
        }
}

static void dropout_of(const KernelContext *kc, int64_t T, int64_t C, float rate) {
    Arrays a = arrays_begin((uint64_t)(T * 1000 + C));
    Array *x = array_new(&a, T * C, 1), *y = array_new(&a, T * C, 1),
          *sum = array_new(&a, T * C, 1);
    uint64_t path[64];
    for (int64_t t = 0; t < T; t++) path[t] = 0x123456789abcdefu * (uint64_t)(t + 1);
    const DropoutRows rows = {T, C, rate, 0xfedcba9876543210u, 77, path};
    hone_dropout_rows(kc, &rows, x->data, y->data, false);
    memset(y->wide, 0, (size_t)(T * C) * sizeof *y->wide);
    drop_plainly(&rows, x->wide, y->wide);
    array_matches(y, 2e-7, 0, "what is left");
    hone_dropout_rows(kc, &rows, x->data, sum->data, true);
    drop_plainly(&rows, x->wide, sum->wide);
    array_matches(sum, 4e-7, 4e-7, "a sum with what is left");
    arrays_end(&a);
}

static void check_dropout(const KernelContext *kc) {
    for (int64_t C = 1; C <= 67; C++) dropout_of(kc, 1 + C % 5, C, 0.25f);
    dropout_of(kc, 3, 2048, 0.5f);
    dropout_of(kc, 40, 4103, 0.05f);
    dropout_of(kc, 2, 100, 0.999f);
    dropout_of(kc, 0, 100, 0.1f);
}

static void dropout(void) {
    at_every_level(check_dropout);
}

// A row's draw is its own, wherever it stands; another path, place or key is another draw.
static void check_dropout_rows_apart(const KernelContext *kc) {
    enum { T = 7, C = 4096 };
    Arrays a = arrays_begin(3);
    Array *x = array_new(&a, T * C, 0), *y = array_new(&a, T * C, 0), *one = array_new(&a, C, 0);
    for (int64_t i = 0; i < (int64_t)T * C; i++) array_set(x, i, 1);
    const uint64_t path[T] = {1, 2, 3, 1, 1ull << 32, 1ull << 63, 0};
    DropoutRows rows = {T, C, 0.25f, 5, 6, path};
    hone_dropout_rows(kc, &rows, x->data, y->data, false);
    for (int t = 0; t < T; t++) {
        int64_t kept = 0;
        for (int c = 0; c < C; c++) kept += y->data[t * C + c] != 0.0f;
        CHECK_NEAR((double)kept / C, 0.75, 0, 0.03); // four standard deviations
        const DropoutRows alone = {1, C, 0.25f, 5, 6, &path[t]};
        hone_dropout_rows(kc, &alone, x->data, one->data, false);
        CHECK(memcmp(one->data, y->data + (int64_t)t * C, C * sizeof(float)) == 0);
        for (int s = 0; s < t; s++)
            CHECK((memcmp(y->data + (int64_t)s * C, y->data + (int64_t)t * C, C * sizeof(float)) ==
                   0) == (path[s] == path[t]));
    }
    rows.T = 1;
    for (int other = 0; other < 2; other++) {
        rows.key = other ? 5 : 4;
        rows.place = other ? 7 : 6;
        hone_dropout_rows(kc, &rows, x->data, one->data, false);
        CHECK(memcmp(one->data, y->data, C * sizeof(float)) != 0);
    }
    arrays_end(&a);
}

static void dropout_of_rows_apart(void) {
    at_every_level(check_dropout_rows_apart);
}

// ---- rotary embedding --------------------------------------------------------------------------

static void rope_of(const KernelContext *kc, RopeArgs args, int last_position) {
    Arrays a = arrays_begin((uint64_t)(args.rotary * 100 + args.head_size));
    int64_t count = args.T * args.heads * args.head_size;
    Array *x = array_new(&a, count, 1), *y = array_new(&a, count, 1);
    Array *frequency = array_new(&a, args.rotary / 2 + 1, 0);
    int32_t position[64];
    for (int64_t t = 0; t < args.T; t++)
        position[t] = (int32_t)(t == args.T - 1 ? last_position : 3 * t);
    for (int64_t j = 0; j < args.rotary / 2; j++)
        array_set(frequency, j, powf(10000.0f, -2.0f * (float)j / (float)args.rotary));
    args.position = position;
    args.frequency = frequency->data;
    args.x = x->data;
    args.y = y->data;
    ReferenceRope want = {args.T,           args.heads,   args.head_size, args.rotary,
                          args.interleaved, args.inverse, position,       (double)args.magnitude};
    hone_rope(kc, &args);
    hone_reference_f64_rope(&want, frequency->wide, x->wide, y->wide);
    array_matches(y, 2e-7, 1e-6, "y");
    if (!args.inverse) { // in place: the same bits
        args.y = x->data;
        hone_rope(kc, &args);
        CHECK(array_equal(x, y));
    }
    arrays_end(&a);
}

static void check_rope(const KernelContext *kc) {
    for (int form = 0; form < 4; form++) {
        RopeArgs args = {.T = 3, .heads = 2, .interleaved = form & 1, .inverse = form & 2};
        for (int D = 1; D <= 67; D++)
            for (int rotary = 0; rotary <= D; rotary += rotary < D - 3 ? D / 2 / 2 * 2 + 2 : 2) {
                args.head_size = D;
                args.rotary = rotary;
                args.magnitude = D % 3 == 0 ? 1.25f : 0;
                rope_of(kc, args, 100 * D);
            }
        args.T = 61, args.heads = 9, args.head_size = 64, args.rotary = 64;
        rope_of(kc, args, 8191);
        args.T = 2, args.heads = 1, args.head_size = 600,
        args.rotary = 518; // beyond one batch of angles
        rope_of(kc, args, 2000000000);
    }
}

static void rope(void) {
    at_every_level(check_rope);
}

// Turned by the angle and back again: the gradient of a rotation is its inverse.
static void check_rope_inverse(const KernelContext *kc) {
    Arrays a = arrays_begin(5);
    Array *x = array_new(&a, 64 * 64, 1), *y = array_new(&a, 64 * 64, 0);
    Array *back = array_new(&a, 64 * 64, 0);
    int32_t position[64];
    float frequency[32];
    for (int t = 0; t < 64; t++) position[t] = 1000 * t;
    for (int j = 0; j < 32; j++) frequency[j] = powf(10000.0f, (float)j / -32.0f);
    RopeArgs args = {.T = 64,
                     .heads = 1,
                     .head_size = 64,
                     .rotary = 64,
                     .position = position,
                     .frequency = frequency,
                     .x = x->data,
                     .y = y->data};
    hone_rope(kc, &args);
    args.inverse = true, args.x = y->data, args.y = back->data;
    hone_rope(kc, &args);
    memcpy(back->wide, x->wide, 64 * 64 * sizeof *x->wide);
    array_matches(back, 0, 1e-6, "x");
    arrays_end(&a);
}

static void rope_inverse_undoes_rope(void) {
    at_every_level(check_rope_inverse);
}

// ---- rows of a table ---------------------------------------------------------------------------

static void rows_of(const KernelContext *kc, int64_t T, int64_t C, int64_t V) {
    Arrays a = arrays_begin((uint64_t)(T + 100 * C));
    Array *table = array_new(&a, V * C, 1), *y = array_new(&a, T * C, 0);
    Array *dy = array_new(&a, T * C, 1);
    int32_t index[512];
    for (int64_t t = 0; t < T; t++) index[t] = (int32_t)hone_random_below(&a.random, (uint64_t)V);
    hone_gather_rows(kc, T, C, HONE_F32, table->data, index, y->data);
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) y->wide[t * C + c] = table->wide[index[t] * C + c];
    array_matches(y, 0, 0, "gathered");

    // In the order of t, so that the float reference must have the same bits.
    Array *want = array_copy(&a, table);
    hone_scatter_rows(kc, T, C, index, dy->data, table->data);
    hone_reference_f32_scatter_rows(T, C, index, dy->data, want->data);
    CHECK(array_equal(table, want));
    arrays_end(&a);
}

static void check_rows(const KernelContext *kc) {
    for (int64_t C = 1; C <= 67; C++) rows_of(kc, 1 + C % 9, C, 7);
    rows_of(kc, 512, 130, 3);
    rows_of(kc, 300, 576, 1000);
    rows_of(kc, 0, 5, 2);
}

static void gather_and_scatter(void) {
    at_every_level(check_rows);
}

static void check_gather_stored(const KernelContext *kc) {
    enum { C = 512, V = 5, T = 9 };
    static const int types[] = {HONE_F16, HONE_BF16, HONE_Q8_0, HONE_Q4_1, HONE_Q6_K};
    static const int32_t index[T] = {4, 0, 3, 3, 1, 2, 0, 4, 1};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t row = hone_dtype_bytes(types[i], C);
        unsigned char *stored = hone_alloc(V * row);
        RandomStream random = hone_random_stream(i, RANDOM_TEST, 0);
        // Bytes below 0x7c everywhere: no half among them is infinite or NaN.
        for (size_t b = 0; b < V * row; b++)
            stored[b] = (unsigned char)hone_random_below(&random, 0x7c);
        float y[T * C], want[C];
        hone_gather_rows(kc, T, C, types[i], stored, index, y);
        for (int t = 0; t < T; t++) {
            hone_dequantise(types[i], stored + (size_t)index[t] * row, want, C);
            CHECK(memcmp(y + t * C, want, sizeof want) == 0);
        }
        hone_free(stored);
    }
}

static void gather_of_stored_types(void) {
    at_every_level(check_gather_stored);
}

// ---- cross-entropy -----------------------------------------------------------------------------

typedef struct Loss {
    int64_t rows, V, entries;
    Arrays a;
    Array *logits, *weight, *logprob;
    const int32_t *first; // NULL: one entry a row
    int32_t target[64];
    double z_loss, smoothing;
    double loss[64], want[64];
} Loss;

static Loss loss_begin(int64_t rows, int64_t V, int64_t entries, float scale) {
    Loss loss = {
        .rows = rows, .V = V, .entries = entries, .a = arrays_begin((uint64_t)(rows + 10 * V))};
    loss.logits = array_new(&loss.a, rows * V, scale);
    loss.weight = array_new(&loss.a, entries, 1);
    loss.logprob = array_new(&loss.a, entries, 0);
    for (int64_t e = 0; e < entries; e++)
        loss.target[e] = (int32_t)hone_random_below(&loss.a.random, (uint64_t)V);
    return loss;
}

static void correct_check(const Loss *loss, const KernelContext *kc, const float *logits) {
    uint8_t correct[64];
    hone_target_is_largest(kc, loss->rows, loss->V, logits, loss->first, loss->target, correct);
    for (int64_t r = 0; r < loss->rows; r++) {
        const int64_t begin = loss->first ? loss->first[r] : r;
        const int64_t end = loss->first ? loss->first[r + 1] : r + 1;
        const float *z = logits + r * loss->V;
        bool known = true;
        float largest = z[0];
        for (int64_t v = 0; v < loss->V; v++) {
            known = known && !isnan(z[v]);
            largest = fmaxf(largest, z[v]);
        }
        for (int64_t e = begin; known && e < end; e++)
            CHECK_INT(correct[e], z[loss->target[e]] >= largest);
    }
}

static void loss_check(Loss *loss, const KernelContext *kc) {
    // loss_begin's pointers lead into a copy of the struct: lead them back.
    Array *logits = loss->logits = &loss->a.array[0], *weight = loss->weight = &loss->a.array[1];
    Array *logprob = loss->logprob = &loss->a.array[2], *kept = array_copy(&loss->a, logits);
    hone_cross_entropy(kc, loss->rows, loss->V, logits->data, loss->first, loss->target,
                       weight->data, loss->z_loss, loss->smoothing, false, loss->loss,
                       logprob->data);
    CHECK(array_equal(logits, kept));
    correct_check(loss, kc, logits->data);
    hone_reference_f64_cross_entropy(loss->rows, loss->V, logits->wide, loss->first, loss->target,
                                     weight->wide, loss->z_loss, loss->smoothing, true, loss->want,
                                     logprob->wide);
    double again[64];
    for (int64_t e = 0; e < loss->entries; e++) {
        // Where the target has nearly all probability, the loss is the small sum of the others.
        if (isfinite(loss->want[e]))
            CHECK_NEAR(loss->loss[e], loss->want[e], 1e-6, 1e-6 * fabs(weight->wide[e]));
        else
            CHECK(isnan(loss->want[e]) ? isnan(loss->loss[e]) : loss->loss[e] == loss->want[e]);
    }
    array_matches(logprob, 1e-6, 1e-6, "logprob");
    hone_cross_entropy(kc, loss->rows, loss->V, logits->data, loss->first, loss->target,
                       weight->data, loss->z_loss, loss->smoothing, true, again, NULL);
    CHECK(memcmp(again, loss->loss, (size_t)loss->entries * sizeof *again) == 0);
    array_matches(logits, 1e-6, 4e-7, "gradient");
    arrays_end(&loss->a);
}

static void check_cross_entropy(const KernelContext *kc) {
    for (int64_t V = 1; V <= 67; V++) {
        Loss loss = loss_begin(1 + V % 4, V, 1 + V % 4, 3);
        loss_check(&loss, kc);
    }
    Loss loss = loss_begin(7, 49152, 7, 2);
    loss_check(&loss, kc);
    loss = loss_begin(3, 50257, 3, 0); // every logit equal: the worst case for the sum
    loss_check(&loss, kc);
}

// Rows of two, three, none, one, and two entries that are the same.
static void check_several_targets(const KernelContext *kc) {
    static const int32_t first[] = {0, 2, 5, 5, 6, 8};
    for (int64_t V = 1; V <= 67; V++) {
        Loss loss = loss_begin(5, V, 8, 3);
        loss.first = first;
        loss.target[7] = loss.target[6];
        loss_check(&loss, kc);
    }
}

static void check_z_loss(const KernelContext *kc) {
    static const int32_t first[] = {0, 2, 5, 5, 6, 8};
    for (int64_t V = 1; V <= 67; V++) {
        Loss loss = loss_begin(5, V, 8, 3);
        loss.first = first;
        loss.z_loss = 0.125;
        loss_check(&loss, kc);
    }
}

static void check_smoothing(const KernelContext *kc) {
    static const int32_t first[] = {0, 2, 5, 5, 6, 8};
    for (int64_t V = 1; V <= 67; V++) {
        Loss loss = loss_begin(5, V, 8, 3);
        loss.first = first;
        loss.z_loss = V % 3 ? 0 : 0.125;
        loss.smoothing = 0.1;
        loss_check(&loss, kc);
    }
    Loss loss = loss_begin(7, 49152, 7, 2);
    loss.smoothing = 0.3;
    loss_check(&loss, kc);
}

static void labels_are_smoothed(void) {
    at_every_level(check_smoothing);
}

static void large_logits_cost(void) {
    at_every_level(check_z_loss);
}

static void several_targets_share_their_row(void) {
    at_every_level(check_several_targets);
}

static void cross_entropy(void) {
    at_every_level(check_cross_entropy);
}

static void check_cross_entropy_extremes(const KernelContext *kc) {
    Loss loss = loss_begin(12, 203, 12, 1);
    float *z = loss.a.array[0].data;
    const int64_t V = loss.V;
    for (int64_t v = 0; v < V; v++) {
        z[0 * V + v] *= 1e4f;  // huge
        z[1 * V + v] += 3e38f; // equal for all that float can tell
        z[2 * V + v] = -3e38f; //
        z[3 * V + v] *= 0;     // uniform
        if (v % 3) z[4 * V + v] = -INFINITY;
        if (v != loss.target[5]) z[5 * V + v] = -INFINITY; // certain
        z[10 * V + v] *= 1e30f;
    }
    loss.target[4] = 3;
    z[6 * V + loss.target[6]] = -INFINITY; // impossible target: infinite loss
    z[7 * V + loss.target[7]] = 200;       // nearly certain
    z[8 * V + 100] = NAN;
    z[9 * V + 50] = INFINITY;
    z[11 * V + 202] = NAN; // in the tail, weight 0
    for (int64_t i = 0; i < 12 * V; i++) loss.a.array[0].wide[i] = (double)z[i];
    for (int r = 0; r < 12; r++) array_set(&loss.a.array[1], r, r == 10 || r == 11 ? 0 : 0.5f);
    loss_check(&loss, kc);
    CHECK(loss.loss[5] == 0);
    CHECK(isinf(loss.loss[6]) && loss.loss[6] > 0);
    CHECK(isnan(loss.loss[8]) && isnan(loss.loss[9]));
    CHECK(loss.loss[10] == 0 && loss.loss[11] == 0);
}

static void cross_entropy_extremes(void) {
    at_every_level(check_cross_entropy_extremes);
}

int main(void) {
    say_levels();
    RUN(rms_norm);
    RUN(layer_norm);
    RUN(layer_norm_of_flat_rows);
    RUN(columns);
    RUN(dropout);
    RUN(dropout_of_rows_apart);
    RUN(rope);
    RUN(rope_inverse_undoes_rope);
    RUN(gather_and_scatter);
    RUN(gather_of_stored_types);
    RUN(cross_entropy);
    RUN(several_targets_share_their_row);
    RUN(large_logits_cost);
    RUN(cross_entropy_extremes);
    RUN(labels_are_smoothed);
    return check_report();
}
