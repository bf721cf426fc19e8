// SPDX-License-Identifier: Apache-2.0
// Distillation against its formula in double, on every level; the same bits on any number of
// threads.
#include "element_support.h"

static void softmax(int64_t V, const float *z, double temperature, double *p) {
    double sum = 0, largest = (double)-INFINITY;
    for (int64_t v = 0; v < V; v++) // no fmax: gcc 12 for Arm fails on that loop
        if ((double)z[v] / temperature > largest) largest = (double)z[v] / temperature;
    for (int64_t v = 0; v < V; v++) sum += p[v] = exp((double)z[v] / temperature - largest);
    for (int64_t v = 0; v < V; v++) p[v] /= sum;
}

static void distill_of(const KernelContext *kc, int64_t rows, int64_t V, float temperature) {
    Arrays a = arrays_begin((uint64_t)(rows * 1000 + V));
    Array *z = array_new(&a, rows * V, 3), *t = array_new(&a, rows * V, 3);
    Array *before = array_copy(&a, t), *again = array_copy(&a, t), *scratch = array_copy(&a, t);
    Array *weight = array_new(&a, rows, 1);
    array_set(weight, rows / 2, 0);
    double *loss = hone_calloc((size_t)rows, sizeof *loss), *only = hone_calloc((size_t)rows, 8);
    double *p = hone_calloc((size_t)V, sizeof *p), *q = hone_calloc((size_t)V, sizeof *q);
    DistillArgs args = {rows,          V,           z->data, weight->data, t->data,
                        scratch->data, temperature, true,    loss};
    hone_distill(kc, &args);
    const double tau = (double)temperature;
    for (int64_t r = 0; r < rows; r++) {
        const double w = (double)weight->data[r];
        double divergence = 0;
        softmax(V, before->data + r * V, tau, p);
        softmax(V, z->data + r * V, tau, q);
        for (int64_t v = 0; v < V; v++) divergence += p[v] * (log(p[v]) - log(q[v]));
        CHECK_NEAR(loss[r], w * tau * tau * divergence, 1e-5, 3e-6 * tau * tau);
        for (int64_t v = 0; v < V; v++)
            CHECK_NEAR((double)t->data[r * V + v], w * tau * (q[v] - p[v]), 2e-6, 2e-7 * tau);
    }
    args.gradient = false; // the loss is the same
    args.loss = only;
    args.teacher = again->data;
    hone_distill(&(KernelContext){.table = kc->table}, &args);
    CHECK(memcmp(loss, only, (size_t)rows * sizeof *loss) == 0);
    hone_free(q);
    hone_free(p);
    hone_free(only);
    hone_free(loss);
    arrays_end(&a);
}

static void check_distill(const KernelContext *kc) {
    for (int64_t V = 1; V <= 40; V++) distill_of(kc, 1 + V % 4, V, 1);
    distill_of(kc, 5, 1003, 2);
    distill_of(kc, 3, 20011, 0.7f);
}

static void distillation(void) {
    at_every_level(check_distill);
}

// Equal distributions: no loss and no gradient to speak of; a row that counts nothing has none
// whatever its logits are.
static void what_is_known_teaches_nothing(void) {
    KernelContext kc = {0};
    HoneError err = {0};
    CHECK_INT(hone_kernel_table(NULL, &kc.table, &err), HONE_OK);
    float z[2][5] = {{1, -2, 3, 0, 7}, {NAN, 1, 2, 3, 4}}, t[2][5], scratch[2][5];
    const float weight[2] = {1, 0};
    double loss[2];
    for (int v = 0; v < 5; v++) t[0][v] = z[0][v] + 3; // a constant more is the same distribution
    for (int v = 0; v < 5; v++) t[1][v] = NAN;
    const DistillArgs args = {2, 5, z[0], weight, t[0], scratch[0], 1.5f, true, loss};
    hone_distill(&kc, &args);
    CHECK_NEAR(loss[0], 0, 0, 1e-6);
    CHECK(loss[1] == 0);
    for (int v = 0; v < 5; v++) CHECK(fabsf(t[0][v]) < 1e-6f && t[1][v] == 0);
}

int main(void) {
    RUN(distillation);
    RUN(what_is_known_teaches_nothing);
    return check_report();
}
