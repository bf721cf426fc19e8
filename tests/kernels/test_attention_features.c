// SPDX-License-Identifier: Apache-2.0
// What may stand between the products of attention, alone and together, over a batch: masks of
// every broadcast shape with their gradient, ALiBi, soft-cap, sinks, dropout, weights, bf16. Every
// level against the f64 reference, the bits of one thread against those of three.
#include "attention_sample.h"

#include <float.h>

// ---- each by itself ----------------------------------------------------------------------------

static const Features plain = {.batch = 2,
                               .queries = 37,
                               .keys = 150,
                               .heads = 6,
                               .kv_heads = 3,
                               .head_size = 20,
                               .value_size = 12};

static void a_batch(void) {
    ThreadPool *pool = hone_pool_create(3);
    Features what = plain;
    check_features(what, 1, pool);
    what.causal = true;
    check_features(what, 2, pool);
    what.batch = 5;
    what.queries = 1;
    check_features(what, 3, pool);
    hone_pool_free(pool);
}

static void masks_of_every_shape(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int bits = 0; bits < 128; bits++) {
        Features what = plain;
        what.mask = bits & 1 ? MASK_BOOLEAN : MASK_FLOAT;
        what.along_batch = bits & 2;
        what.along_head = bits & 4;
        what.along_query = bits & 8;
        what.along_key = bits & 16;
        what.keys_apart = bits & 32;
        what.causal = bits & 64;
        what.mask_gradient = what.mask == MASK_FLOAT;
        check_features(what, 100 + (uint64_t)bits, pool);
    }
    hone_pool_free(pool);
}

static void the_others_alone(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 5; i++) {
        Features what = plain;
        what.slopes = i == 0;
        what.softcap = i == 1 ? 0.7f : 0;
        what.sinks = i == 2;
        what.dropout = i == 3 ? 0.3f : 0;
        what.weights = i == 4;
        check_features(what, 300 + (uint64_t)i, pool);
        what.heads = what.kv_heads = 2;
        what.queries = 300;
        check_features(what, 310 + (uint64_t)i, pool);
    }
    hone_pool_free(pool);
}

// Windows by depth: the interval of a key has holes. Without depths nothing may change but room.
static void windows_by_depth(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 12; i++) {
        Features what = plain;
        what.window = i % 3 == 0 ? 1 : i % 3 == 1 ? 7 : 30;
        what.depths = i < 9;
        what.causal = i != 4;
        what.queries = i == 5 ? 1 : i == 6 ? 300 : 37;
        what.bf16 = i == 7;
        what.mask = i == 1 ? MASK_BOOLEAN : i == 2 || i == 8 ? MASK_FLOAT : MASK_NONE;
        what.along_query = what.along_key = true;
        what.mask_gradient = what.mask == MASK_FLOAT;
        what.keys_apart = i == 8;
        what.softcap = i > 2 && i < 6 ? 0.7f : 0;
        what.sinks = what.slopes = i == 6;
        what.dropout = i == 3 ? 0.3f : 0;
        check_features(what, 450 + (uint64_t)i, pool);
        what.heads = what.kv_heads = 2;
        check_features(what, 470 + (uint64_t)i, pool);
    }
    hone_pool_free(pool);
}

// Each alone and some together, where bf16 is multiplied as it is too.
static void in_bf16(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 8; i++) {
        Features what = plain;
        what.bf16 = true;
        what.causal = i > 0;
        what.mask = i == 1 ? MASK_BOOLEAN : i == 2 || i == 7 ? MASK_FLOAT : MASK_NONE;
        what.along_query = what.along_key = true;
        what.along_head = i == 7;
        what.mask_gradient = what.mask == MASK_FLOAT;
        what.slopes = i == 3 || i == 7;
        what.softcap = i == 4 || i == 7 ? 0.7f : 0;
        what.sinks = i == 5 || i == 7;
        what.dropout = i == 6 || i == 7 ? 0.3f : 0;
        what.weights = i % 2;
        check_features(what, 400 + (uint64_t)i, pool);
        what.heads = what.kv_heads = 2;
        what.queries = 300;
        check_features(what, 410 + (uint64_t)i, pool);
    }
    hone_pool_free(pool);
}

// ---- masks that break kernels -----------------------------------------------------------------

static void check_sample(Sample *s, ThreadPool *pool, bool (*fits)(const Sample *)) {
    const KernelTable *tables[9];
    Bf16Tables found;
    int count = tables_of(&s->what, tables, &found);
    float *before[TENSORS] = {0};
    for (int t = DQ; t < TENSORS; t++) {
        before[t] = floats(s->count[t]);
        memcpy(before[t], s->data[t], (size_t)s->count[t] * sizeof(float));
    }
    run_reference(s);
    for (int i = 0; i < count; i++) {
        KernelContext kc = {.table = tables[i]};
        run_plain(s, hone_attention_forward_keys(&kc, &s->args).bf16);
        run_kernel(s, tables[i], pool, before);
        if (!CHECK(fits(s))) print_features(&s->what, hone_kernel_table_name(tables[i]));
    }
    for (int t = DQ; t < TENSORS; t++) hone_free(before[t]);
}

// Rows of the most negative number average over what they hold alike; rows of -infinity are empty,
// also when a whole block of keys before the first visible one is hidden.
static void check_hidden_rows(bool bf16) {
    Features what = plain;
    what.bf16 = bf16;
    what.mask = MASK_FLOAT;
    what.along_query = what.along_key = what.weights = what.mask_gradient = true;
    what.keys = 600;
    Sample s = make_sample(what, 500);
    for (int64_t i = 0; i < what.queries; i++)
        for (int64_t j = 0; j < what.keys; j++) {
            float *m = (float *)s.mask + i * what.keys + j;
            switch (i % 5) {
            case 0:
                *m = -FLT_MAX;
                break;
            case 1:
                *m = j % 2 ? -FLT_MAX : 0;
                break;
            case 2:
                *m = -INFINITY;
                break;
            case 3:
                *m = j < 550 ? -INFINITY : 0;
                break;
            default:
                *m = j < 550 ? -FLT_MAX : -INFINITY;
                break;
            }
        }
    ThreadPool *pool = hone_pool_create(2);
    check_sample(&s, pool, results_close);
    free_sample(&s);
    hone_pool_free(pool);
}

static void hidden_and_nearly_hidden_rows(void) {
    check_hidden_rows(false);
    check_hidden_rows(true);
}

// A key that is NaN and a value that is infinite, hidden from the even queries: those do not know,
// the others do.
static bool only_odd_queries_know(const Sample *s) {
    bool fine = true;
    int64_t width = s->what.heads * s->what.value_size, wide = s->what.heads * s->what.head_size;
    for (int64_t row = 0; row < s->what.batch * s->what.queries; row++) {
        bool odd = row % s->what.queries % 2;
        for (int64_t c = 0; c < width; c++) {
            float got = s->data[O][row * width + c];
            double want = s->dense[O][row * width + c];
            fine = fine && (odd ? !isfinite(got) : fabs((double)got - want) < 1e-5);
        }
        for (int64_t c = 0; c < wide; c++) {
            float got = s->data[DQ][row * wide + c];
            double want = s->dense[DQ][row * wide + c];
            fine = fine && (odd ? isnan(got) : fabs((double)got - want) < 1e-5);
        }
    }
    return fine;
}

static void what_is_hidden_is_not_there(void) {
    ThreadPool *pool = hone_pool_create(2);
    for (int boolean = 0; boolean < 2; boolean++) {
        Features what = plain;
        what.mask = boolean ? MASK_BOOLEAN : MASK_FLOAT;
        what.along_query = what.along_key = true;
        Sample s = make_sample(what, 501);
        for (int64_t i = 0; i < what.queries; i++)
            for (int64_t j = 0; j < what.keys; j++) {
                bool hidden = i % 2 == 0 && (j == 3 || j == 140);
                if (boolean)
                    ((uint8_t *)s.mask)[i * what.keys + j] = !hidden;
                else
                    ((float *)s.mask)[i * what.keys + j] = hidden ? -INFINITY : 0;
            }
        for (int64_t b = 0; b < what.batch; b++) {
            int64_t k = what.kv_heads * what.head_size, v = what.kv_heads * what.value_size;
            for (int64_t c = 0; c < k; c++) {
                s.data[K][(b * what.keys + 3) * k + c] = NAN;
                s.dense[K][(b * what.keys + 3) * k + c] = (double)NAN;
            }
            for (int64_t c = 0; c < v; c++) {
                s.data[V][(b * what.keys + 140) * v + c] = INFINITY;
                s.dense[V][(b * what.keys + 140) * v + c] = (double)INFINITY;
            }
        }
        check_sample(&s, pool, only_odd_queries_know);
        free_sample(&s);
    }
    hone_pool_free(pool);
}

// ---- any of them together ----------------------------------------------------------------------

static void together(void) {
    ThreadPool *pool = hone_pool_create(3);
    RandomStream random = hone_random_stream(5, RANDOM_TEST, 12);
    for (uint64_t i = 0; i < 150; i++) {
        Features what = {.batch = 1 + (int64_t)hone_random_below(&random, 3),
                         .queries = 1 + (int64_t)hone_random_below(&random, 80),
                         .keys = 1 + (int64_t)hone_random_below(&random, 300),
                         .head_size = 1 + (int)hone_random_below(&random, 40),
                         .value_size = 1 + (int)hone_random_below(&random, 40),
                         .kv_heads = 1 + (int)hone_random_below(&random, 3)};
        what.heads = what.kv_heads * (1 + (int)hone_random_below(&random, 4));
        what.causal = hone_random_below(&random, 2);
        what.slopes = hone_random_below(&random, 2);
        what.sinks = hone_random_below(&random, 2);
        what.weights = hone_random_below(&random, 2);
        what.bf16 = hone_random_below(&random, 4) == 0;
        what.mask = (MaskKind)hone_random_below(&random, 3);
        what.mask_gradient = what.mask == MASK_FLOAT && hone_random_below(&random, 2);
        what.along_batch = hone_random_below(&random, 2);
        what.along_head = hone_random_below(&random, 2);
        what.along_query = hone_random_below(&random, 2);
        what.along_key = hone_random_below(&random, 2);
        if (hone_random_below(&random, 2)) what.softcap = 0.5f + hone_random_uniform(&random) * 20;
        if (hone_random_below(&random, 3) == 0) what.dropout = hone_random_uniform(&random) * 0.9f;
        check_features(what, 1000 + i, pool);
    }
    hone_pool_free(pool);
}

int main(void) {
    RUN(a_batch);
    RUN(masks_of_every_shape);
    RUN(the_others_alone);
    RUN(windows_by_depth);
    RUN(in_bf16);
    RUN(hidden_and_nearly_hidden_rows);
    RUN(what_is_hidden_is_not_there);
    RUN(together);
    return check_report();
}
