// SPDX-License-Identifier: Apache-2.0
// Adafactor, SGD and AdamW with moments of 8 bits, on every level, beside their formulas in double.
#include <stdlib.h>

#include "element_support.h"
#include "kernels/reference/element.h"

// ---- codes of 8 bits ---------------------------------------------------------------------------

// The published construction: the middles between evenly spaced borders of each decade.
static int published_map(bool is_signed, double value[256]) {
    int count = 0;
    for (int d = 0; d < 7; d++) {
        int borders = (is_signed ? 1 << d : 2 << d) + 1;
        for (int i = 0; i + 1 < borders; i++) {
            double low = 0.1 + 0.9 * i / (borders - 1), high = 0.1 + 0.9 * (i + 1) / (borders - 1);
            double middle = (low + high) / 2 * pow(10, d - 6);
            value[count++] = middle;
            if (is_signed) value[count++] = -middle;
        }
    }
    value[count++] = 0;
    value[count++] = 1;
    return count;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void the_map_is_the_published_one(void) {
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        double want[256];
        AdamW8Map map;
        hone_adamw8_map(is_signed, &map);
        CHECK_INT(published_map(is_signed, want), 256);
        qsort(want, 256, sizeof *want, ascending);
        for (int code = 0; code < 256; code++)
            CHECK_NEAR((double)map.value[code], want[code], 1e-7, 0);
        CHECK(map.value[map.zero] == 0);
    }
}

// How far x is from what the code says, beyond what another code would say.
static double excess(const AdamW8Map *map, double x, uint8_t code) {
    double least = (double)INFINITY;
    for (int k = 0; k < 256; k++) {
        const double distance = fabs((double)map->value[k] - x);
        if (distance < least) least = distance;
    }
    return fabs((double)map->value[code] - x) - least;
}

typedef struct Coded {
    Arrays a;
    Array *p, *g, *m, *v; // m and v: what the codes say, in double
    uint8_t *codes1, *codes2;
    float *scale1, *scale2;
    AdamW8Map m_map, v_map;
    AdamW8Args args;
} Coded;

static void coded_begin(Coded *c, int64_t n) {
    size_t blocks = (size_t)(n + ADAMW8_BLOCK - 1) / ADAMW8_BLOCK;
    c->a = arrays_begin((uint64_t)n);
    c->p = array_new(&c->a, n, 1);
    c->g = array_new(&c->a, n, 1);
    c->m = array_new(&c->a, n, 0);
    c->v = array_new(&c->a, n, 0);
    c->codes1 = calloc((size_t)n, 1);
    c->codes2 = calloc((size_t)n, 1);
    c->scale1 = calloc(blocks, sizeof *c->scale1);
    c->scale2 = calloc(blocks, sizeof *c->scale2);
    hone_adamw8_map(true, &c->m_map);
    hone_adamw8_map(false, &c->v_map);
    c->args = (AdamW8Args){.adamw = {.count = n,
                                     .lr = 0.01f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .eps = 1e-8f,
                                     .decay = 0.1f,
                                     .scale = 0.75f,
                                     .p = c->p->data,
                                     .g = c->g->data},
                           .m = c->codes1,
                           .v = c->codes2,
                           .m_scale = c->scale1,
                           .v_scale = c->scale2,
                           .m_map = &c->m_map,
                           .v_map = &c->v_map};
}

static void coded_end(Coded *c) {
    free(c->codes1), free(c->codes2), free(c->scale1), free(c->scale2);
    arrays_end(&c->a);
}

// Moments before the step as stored; those after it within a rounding of the nearest code.
static void check_codes(Coded *c, int64_t n, const double *m, const double *v) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        double scale1 = (double)c->scale1[i / ADAMW8_BLOCK];
        double scale2 = (double)c->scale2[i / ADAMW8_BLOCK];
        if (scale1 > 0) wrong += !(excess(&c->m_map, m[i] / scale1, c->codes1[i]) <= 2e-6);
        bool raised = v[i] > 0 && c->codes2[i] == 1; // above 0 is never stored as 0
        if (scale2 > 0)
            wrong += !(raised || excess(&c->v_map, v[i] / scale2, c->codes2[i]) <= 2e-6);
        wrong += v[i] > 0 && c->codes2[i] == 0;
    }
    CHECK_INT(wrong, 0);
}

static void check_adamw8(const KernelContext *kc) {
    static const int64_t sizes[] = {1, 2, 7, 255, 256, 257, 4095, 4097, 50003, 0};
    for (const int64_t *n = sizes; *n; n++) {
        Coded c;
        coded_begin(&c, *n);
        ReferenceAdamW want = {.count = *n,
                               .lr = (double)c.args.adamw.lr,
                               .beta1 = (double)c.args.adamw.beta1,
                               .beta2 = (double)c.args.adamw.beta2,
                               .eps = (double)c.args.adamw.eps,
                               .decay = (double)c.args.adamw.decay,
                               .scale = (double)c.args.adamw.scale};
        for (int step = 1; step <= 6; step++) {
            want.step = c.args.adamw.step = step;
            for (int64_t i = 0; i < *n; i++) { // small and large, and rows without a gradient
                double size = pow(10, -6 * (double)hone_random_uniform(&c.a.random));
                bool none = step > 3 && i / 100 % 3 == 0;
                array_set(c.g, i,
                          none ? 0 : (float)(size * (double)hone_random_normal(&c.a.random)));
                double scale1 = (double)c.scale1[i / ADAMW8_BLOCK];
                double scale2 = (double)c.scale2[i / ADAMW8_BLOCK];
                c.m->wide[i] = scale1 > 0 ? (double)c.m_map.value[c.codes1[i]] * scale1 : 0;
                c.v->wide[i] = scale2 > 0 ? (double)c.v_map.value[c.codes2[i]] * scale2 : 0;
                c.p->wide[i] = (double)c.p->data[i];
            }
            hone_adamw8(kc, &c.args);
            hone_reference_f64_adamw(&want, c.g->wide, c.p->wide, c.m->wide, c.v->wide);
            array_matches(c.p, 1e-6, 1e-6, "p");
            check_codes(&c, *n, c.m->wide, c.v->wide);
        }
        coded_end(&c);
    }
}

static void adamw_in_8_bits(void) {
    at_every_level(check_adamw8);
}

// ---- Adafactor ---------------------------------------------------------------------------------

static void adafactor_f64(const AdafactorArgs *args, const double *g, double *p, double *row,
                          double *column) {
    int64_t R = args->R, C = args->C;
    double beta = 1 - pow((double)args->step, -0.8), scale = (double)args->scale, mean = 0, sum = 0;
    double *u = calloc((size_t)(R * C), sizeof *u);
    for (int64_t i = 0; i < R; i++) {
        double squares = 0;
        for (int64_t j = 0; j < C; j++) squares += pow(g[i * C + j] * scale, 2) + 1e-30;
        row[i] = beta * row[i] + (1 - beta) * squares / (double)C;
        mean += row[i] / (double)R;
    }
    for (int64_t j = 0; j < C; j++) {
        double squares = 0;
        for (int64_t i = 0; i < R; i++) squares += pow(g[i * C + j] * scale, 2) + 1e-30;
        column[j] = beta * column[j] + (1 - beta) * squares / (double)R;
    }
    for (int64_t i = 0; i < R * C; i++) {
        u[i] = g[i] * scale * sqrt(mean / (row[i / C] * column[i % C]));
        sum += u[i] * u[i];
    }
    double size = fmax(1, sqrt(sum / (double)(R * C)));
    for (int64_t i = 0; i < R * C; i++)
        p[i] = p[i] * (1 - (double)args->lr * (double)args->decay) - (double)args->lr * u[i] / size;
    free(u);
}

static void check_adafactor(const KernelContext *kc) {
    static const int64_t shapes[][2] = {{1, 1},   {1, 7},    {1, 576},  {16, 33}, {576, 16},
                                        {100, 1}, {257, 65}, {1100, 9}, {0, 0}};
    for (int s = 0; shapes[s][0]; s++) {
        int64_t R = shapes[s][0], C = shapes[s][1];
        Arrays a = arrays_begin((uint64_t)(R * C));
        Array *p = array_new(&a, R * C, 1), *g = array_new(&a, R * C, 1);
        Array *row = array_new(&a, R, 0), *column = array_new(&a, C, 0);
        AdafactorArgs args = {.R = R,
                              .C = C,
                              .lr = 0.01f,
                              .decay = 0.1f,
                              .scale = 0.5f,
                              .p = p->data,
                              .row = row->data,
                              .column = column->data,
                              .g = g->data};
        void *scratch = malloc(hone_adafactor_scratch(R, C));
        for (int64_t step = 1; step <= 10; step++) {
            args.step = step;
            for (int64_t i = 0; i < R * C; i++) {
                float size = 1e-3f + (float)(i % C) + (float)(i / C % 5) * 10;
                array_set(g, i, step == 4 && i / C == 2 ? 0 : size * hone_random_normal(&a.random));
            }
            hone_adafactor(kc, &args, scratch);
            adafactor_f64(&args, g->wide, p->wide, row->wide, column->wide);
        }
        array_matches(p, 2e-6, 2e-6, "p");
        if (R > 1) array_matches(row, 4e-6, 0, "row");
        array_matches(column, 8e-6, 0, "column");
        free(scratch);
        arrays_end(&a);
    }
}

static void adafactor(void) {
    at_every_level(check_adafactor);
}

// Nothing to learn from: nothing but decay happens, and no NaN.
static void check_no_gradient(const KernelContext *kc) {
    float p[6] = {1, 2, 3, 4, 5, 6}, g[6] = {0}, row[2] = {0}, column[3] = {0};
    float scratch[64];
    CHECK(hone_adafactor_scratch(2, 3) <= sizeof scratch);
    for (int step = 1; step <= 3; step++)
        hone_adafactor(kc,
                       &(AdafactorArgs){.R = 2,
                                        .C = 3,
                                        .step = step,
                                        .lr = 1,
                                        .scale = 1,
                                        .p = p,
                                        .row = row,
                                        .column = column,
                                        .g = g},
                       scratch);
    for (int i = 0; i < 6; i++) CHECK(p[i] == (float)(i + 1));
}

static void no_gradient(void) {
    at_every_level(check_no_gradient);
}

// ---- SGD ---------------------------------------------------------------------------------------

static void check_sgd(const KernelContext *kc) {
    for (int64_t n = 1; n; n = n < 67 ? n + 1 : n == 67 ? 50003 : 0)
        for (int keeps = 0; keeps < 2; keeps++) {
            Arrays a = arrays_begin((uint64_t)n);
            Array *p = array_new(&a, n, 1), *g = array_new(&a, n, 1), *m = array_new(&a, n, 0);
            SgdArgs args = {.count = n,
                            .lr = 0.01f,
                            .beta = keeps ? 0.9f : 0,
                            .decay = 0.1f,
                            .scale = 0.5f,
                            .p = p->data,
                            .m = keeps ? m->data : NULL,
                            .g = g->data};
            for (int step = 0; step < 5; step++) {
                for (int64_t i = 0; i < n; i++) array_set(g, i, hone_random_normal(&a.random));
                hone_sgd(kc, &args);
                for (int64_t i = 0; i < n; i++) {
                    double gradient = g->wide[i] * 0.5 + (double)0.1f * p->wide[i];
                    m->wide[i] = (keeps ? (double)0.9f : 0) * m->wide[i] + gradient;
                    p->wide[i] -= (double)0.01f * m->wide[i];
                }
            }
            array_matches(p, 1e-6, 1e-6, "p");
            if (keeps) array_matches(m, 2e-6, 2e-6, "m");
            arrays_end(&a);
        }
}

static void sgd(void) {
    at_every_level(check_sgd);
}

// ---- threads -----------------------------------------------------------------------------------

enum { ROWS = 700, COLUMNS = 130, COUNT = ROWS * COLUMNS };

static void run_all(const KernelContext *kc, float p[3][COUNT], uint8_t *codes) {
    Coded c;
    coded_begin(&c, COUNT);
    float *row = calloc(ROWS, sizeof *row), *column = calloc(COLUMNS, sizeof *column);
    float *m = calloc(COUNT, sizeof *m);
    void *scratch = malloc(hone_adafactor_scratch(ROWS, COLUMNS));
    for (int i = 0; i < 3; i++) memcpy(p[i], c.p->data, sizeof p[i]);
    c.args.adamw.p = p[0];
    for (int step = 1; step <= 3; step++) {
        for (int64_t i = 0; i < COUNT; i++) array_set(c.g, i, hone_random_normal(&c.a.random));
        c.args.adamw.step = step;
        hone_adamw8(kc, &c.args);
        hone_adafactor(kc,
                       &(AdafactorArgs){.R = ROWS,
                                        .C = COLUMNS,
                                        .step = step,
                                        .lr = 0.1f,
                                        .scale = 1,
                                        .p = p[1],
                                        .row = row,
                                        .column = column,
                                        .g = c.g->data},
                       scratch);
        hone_sgd(kc, &(SgdArgs){.count = COUNT,
                                .lr = 0.1f,
                                .beta = 0.9f,
                                .scale = 1,
                                .p = p[2],
                                .m = m,
                                .g = c.g->data});
    }
    memcpy(codes, c.codes1, COUNT);
    memcpy(codes + COUNT, c.codes2, COUNT);
    free(row), free(column), free(m), free(scratch);
    coded_end(&c);
}

static void check_threads(const KernelContext *kc) {
    static const int threads[] = {2, 3, 5};
    static float want[3][COUNT], got[3][COUNT];
    static uint8_t want_codes[2 * COUNT], got_codes[2 * COUNT];
    run_all(kc, want, want_codes);
    for (int i = 0; i < 3; i++) {
        ThreadPool *pool = hone_pool_create(threads[i]);
        KernelContext pooled = {.table = kc->table, .pool = pool};
        run_all(&pooled, got, got_codes);
        CHECK(memcmp(want, got, sizeof want) == 0);
        CHECK(memcmp(want_codes, got_codes, sizeof want_codes) == 0);
        hone_pool_free(pool);
    }
}

static void any_number_of_threads_gives_the_same_bits(void) {
    at_every_level(check_threads);
}

int main(void) {
    say_levels();
    RUN(the_map_is_the_published_one);
    RUN(adamw_in_8_bits);
    RUN(adafactor);
    RUN(no_gradient);
    RUN(sgd);
    RUN(any_number_of_threads_gives_the_same_bits);
    return check_report();
}
