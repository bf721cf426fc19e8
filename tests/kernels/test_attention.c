// SPDX-License-Identifier: Apache-2.0
// Attention: the f64 reference against finite differences, every level this processor has against
// the reference, over sizes around the tiles, head sizes 1 … 256, groups and visibilities.
#include "attention_case.h"

// ---- the reference itself ----------------------------------------------------------------------

static double weighted_output(Problem *p, double *o, double *lse, double *row) {
    hone_reference_f64_attention_forward(&p->reference, p->q.dense, p->k.dense, p->v.dense, o, lse,
                                         row);
    double sum = 0;
    for (int64_t i = 0; i < dense_count(&p->o); i++) sum += o[i] * p->d_o.dense[i];
    return sum;
}

static void check_slope(Problem *p, CaseTensor *x, const CaseTensor *dx, double *o) {
    const double h = 1e-5;
    double *lse = doubles(p->what.queries * p->what.heads), *row = doubles(p->what.keys);
    for (int64_t i = 0; i < dense_count(x); i++) {
        double kept = x->dense[i];
        x->dense[i] = kept + h;
        double above = weighted_output(p, o, lse, row);
        x->dense[i] = kept - h;
        double below = weighted_output(p, o, lse, row);
        x->dense[i] = kept;
        CHECK_NEAR(dx->dense[i], (above - below) / (2 * h), 1e-6, 1e-6);
    }
    hone_free(lse);
    hone_free(row);
}

static void reference_gradients_are_the_slopes(void) {
    for (int visibility = 0; visibility < VISIBILITIES; visibility++) {
        Problem p = make_problem((Case){.queries = 7,
                                        .keys = 7,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_size = 3,
                                        .value_size = 5,
                                        .visibility = (Visibility)visibility,
                                        .spread = 1.0f},
                                 (uint64_t)visibility);
        CaseTensor *gradients[] = {&p.dq, &p.dk, &p.dv};
        for (int i = 0; i < 3; i++)
            memset(gradients[i]->dense, 0, (size_t)dense_count(gradients[i]) * sizeof(double));
        run_reference(&p);
        double *o = doubles(dense_count(&p.o));
        check_slope(&p, &p.q, &p.dq, o);
        check_slope(&p, &p.k, &p.dk, o);
        check_slope(&p, &p.v, &p.dv, o);
        hone_free(o);
        free_problem(&p);
    }
}

static void float_reference_agrees_with_double(void) {
    ReferenceAttention args = {.queries = 3,
                               .keys = 4,
                               .heads = 2,
                               .kv_heads = 1,
                               .head_size = 2,
                               .value_size = 1,
                               .scale = 0.5};
    float q[12], k[8], v[4], o[6], lse[6], row[4];
    double q2[12], k2[8], v2[4], o2[6], lse2[6], row2[4];
    for (int i = 0; i < 12; i++) q2[i] = (double)(q[i] = 0.25f * (float)(i % 5));
    for (int i = 0; i < 8; i++) k2[i] = (double)(k[i] = 0.5f * (float)(i % 3));
    for (int i = 0; i < 4; i++) v2[i] = (double)(v[i] = (float)i);
    hone_reference_f32_attention_forward(&args, q, k, v, o, lse, row);
    hone_reference_f64_attention_forward(&args, q2, k2, v2, o2, lse2, row2);
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(o[i], o2[i], 1e-6, 0);
        CHECK_NEAR(lse[i], lse2[i], 1e-6, 0);
    }
}

// ---- the kernels -------------------------------------------------------------------------------

// Every level, one thread; then every level's bits on three threads.
static void check_case(Case what, uint64_t seed, ThreadPool *pool) {
    if (!check_runs(3)) return;
    const char *names[8];
    int levels = hone_kernel_levels(names);
    Problem p = make_problem(what, seed);
    double *gradients[3] = {0};
    CaseTensor *tensors[] = {&p.dq, &p.dk, &p.dv, &p.o};
    for (int i = 0; i < 3; i++) {
        gradients[i] = doubles(dense_count(tensors[i]));
        memcpy(gradients[i], tensors[i]->dense, (size_t)dense_count(tensors[i]) * sizeof(double));
    }
    run_reference(&p);
    for (int level = 0; level < levels; level++) {
        const KernelTable *table;
        float *kept[4];
        HoneError err = {0};
        if (!CHECK(hone_kernel_table(names[level], &table, &err) == HONE_OK)) continue;
        for (int threads = 1; threads <= 3; threads += 2) {
            for (int i = 0; i < 3; i++) { // what the gradients are added to
                double *result = tensors[i]->dense;
                tensors[i]->dense = gradients[i];
                fill_view(tensors[i]);
                tensors[i]->dense = result;
            }
            run_kernel(&p, table, threads == 1 ? NULL : pool);
            if (!check_true(results_close(&p), "results are close", __FILE__, __LINE__))
                print_case(&what, names[level]);
            for (int i = 0; i < 4; i++) {
                size_t bytes = (size_t)tensors[i]->floats * sizeof(float);
                if (threads == 1) {
                    kept[i] = hone_alloc(bytes + 1);
                    memcpy(kept[i], tensors[i]->view.data, bytes);
                } else {
                    if (!CHECK(memcmp(kept[i], tensors[i]->view.data, bytes) == 0))
                        print_case(&what, names[level]);
                    hone_free(kept[i]);
                }
            }
        }
    }
    for (int i = 0; i < 3; i++) hone_free(gradients[i]);
    free_problem(&p);
}

static void sizes_around_the_tiles(void) {
    const int64_t sizes[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129, 145, 260};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            Visibility visibility = (Visibility)((i * COUNT + j) % VISIBILITIES);
            check_case((Case){.queries = sizes[i],
                              .keys = sizes[j],
                              .heads = 2,
                              .kv_heads = 2,
                              .head_size = 8,
                              .value_size = 12,
                              .visibility = visibility,
                              .gap = 1,
                              .spread = 1.0f},
                       (uint64_t)(i * COUNT + j), pool);
        }
    hone_pool_free(pool);
}

// Where keys begin to be packed, a block of queries is full, a step, a window or a part of the keys
// ends, or a chunk of the keys that backward works on.
static void sizes_around_the_larger_tiles(void) {
    const int64_t queries[] = {16, 17, 32, 33, 128, 129, 176, 177, 193};
    const int64_t keys[] = {131, 132, 133, 255, 256,  257,  264,
                            265, 511, 512, 513, 1023, 1024, 1025};
    enum { QUERIES = sizeof queries / sizeof *queries, KEYS = sizeof keys / sizeof *keys };
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < QUERIES; i++)
        for (int j = 0; j < KEYS; j++)
            check_case((Case){.queries = queries[i],
                              .keys = keys[j],
                              .heads = 1,
                              .kv_heads = 1,
                              .head_size = 4,
                              .value_size = 5,
                              .visibility = (Visibility)((i * KEYS + j) % VISIBILITIES),
                              .gap = 1,
                              .spread = 1.0f},
                       (uint64_t)(500 + i * KEYS + j), pool);
    hone_pool_free(pool);
}

static void every_tail(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int64_t n = 40; n < 40 + 64; n++)
        check_case((Case){.queries = n,
                          .keys = 143 - n,
                          .heads = 3,
                          .kv_heads = 1,
                          .head_size = 4,
                          .value_size = 4,
                          .visibility = (Visibility)(n % VISIBILITIES),
                          .spread = 1.0f},
                   (uint64_t)n, pool);
    hone_pool_free(pool);
}

static void every_kind_of_head_size(void) {
    const int sizes[] = {1,  2,  3,  4,  5,  7,  8,   9,   15,  16,  17,  24,  31, 33,
                         48, 63, 64, 65, 80, 96, 100, 127, 128, 129, 192, 255, 256};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < COUNT; i++)
        for (int other = 0; other < 3; other++) {
            int E = other == 0 ? sizes[i] : sizes[(i * 7 + other * 5) % COUNT];
            check_case((Case){.queries = 83,
                              .keys = 83,
                              .heads = 2,
                              .kv_heads = 1,
                              .head_size = sizes[i],
                              .value_size = E,
                              .visibility = other == 0 ? SEE_CAUSAL : SEE_PACKED,
                              .gap = 3,
                              .spread = 1.0f},
                       (uint64_t)(i * 3 + other), pool);
        }
    hone_pool_free(pool);
}

static void groups_and_every_visibility(void) {
    const int heads[][2] = {{1, 1}, {9, 3}, {4, 1}, {8, 2}, {16, 1}, {5, 5}, {20, 1}};
    const int64_t lengths[][2] = {{100, 100}, {37, 190}, {190, 37}, {1, 100}};
    ThreadPool *pool = hone_pool_create(3);
    for (int i = 0; i < 7; i++)
        for (int visibility = 0; visibility < VISIBILITIES; visibility++)
            for (int n = 0; n < 4; n++)
                check_case((Case){.queries = lengths[n][0],
                                  .keys = lengths[n][1],
                                  .heads = heads[i][0],
                                  .kv_heads = heads[i][1],
                                  .head_size = 16,
                                  .value_size = 16,
                                  .visibility = (Visibility)visibility,
                                  .gap = 5,
                                  .spread = 1.0f},
                           (uint64_t)(i * 100 + visibility * 10 + n), pool);
    hone_pool_free(pool);
}

// Several key chunks, and keys in parts where one query meets thousands.
static void many_keys(void) {
    ThreadPool *pool = hone_pool_create(3);
    for (int visibility = 0; visibility < VISIBILITIES; visibility++) {
        Case what = {.queries = 700,
                     .keys = 700,
                     .heads = 2,
                     .kv_heads = 1,
                     .head_size = 16,
                     .value_size = 8,
                     .visibility = (Visibility)visibility,
                     .spread = 1.0f};
        check_case(what, 1, pool);
        what.queries = 1 + visibility % 3;
        what.keys = 4000 + visibility;
        check_case(what, 2, pool);
    }
    hone_pool_free(pool);
}

int main(void) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    for (int i = 0; i < levels; i++) printf("level %s\n", names[i]);
    RUN(reference_gradients_are_the_slopes);
    RUN(float_reference_agrees_with_double);
    RUN(sizes_around_the_tiles);
    RUN(sizes_around_the_larger_tiles);
    RUN(every_tail);
    RUN(every_kind_of_head_size);
    RUN(groups_and_every_visibility);
    RUN(many_keys);
    return check_report();
}
