// SPDX-License-Identifier: Apache-2.0
// The matrix product beside OpenBLAS and oneDNN on the shapes of a small model's training step and
// of decoding. Each figure is the best of several rounds, the libraries taking turns, with the FMA
// peak measured in each round.
//
//     bench_matmul [THREADS [ROUNDS [LEVEL [WORD]]]]      only the shapes whose names hold WORD
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/system.h"
#include "kernels/kernels.h"

#ifdef HONE_HAS_OPENBLAS
#include <cblas.h>
void openblas_set_num_threads(int threads);
#endif
#ifdef HONE_HAS_DNNL
#include <dnnl.h>
#endif

typedef struct Shape {
    int64_t M, N, K;
    bool a_transposed, b_transposed;
    const char *name;
} Shape;

static const Shape shapes[] = {
    {1024, 576, 576, false, true, "y = x W'   q, o"},
    {1024, 192, 576, false, true, "y = x W'   k, v"},
    {1024, 1536, 576, false, true, "y = x W'   gate, up"},
    {1024, 576, 1536, false, true, "y = x W'   down"},
    {1024, 576, 576, false, false, "dx = dy W  q, o"},
    {1024, 576, 192, false, false, "dx = dy W  k, v"},
    {1024, 576, 1536, false, false, "dx = dy W  gate, up"},
    {1024, 1536, 576, false, false, "dx = dy W  down"},
    {256, 49152, 576, false, true, "logits"},
    {256, 576, 49152, false, false, "dx = dy W  logits"},
};
static const Shape adapters[] = {
    {1024, 16, 576, false, true, "h = x A'   rank 16"},
    {1024, 576, 16, false, true, "y += h B'  rank 16"},
    {1024, 16, 576, false, false, "dh = dy B  rank 16"},
    {576, 16, 1024, true, false, "dB = dy' h rank 16"},
    {16, 576, 1024, true, false, "dA = dh' x rank 16"},
    {576, 576, 1024, true, false, "dW = dy' x q, o"},
};
static const Shape tokens[] = {
    {1, 576, 576, false, true, "1 token    q, o"},
    {1, 1536, 576, false, true, "1 token    gate, up"},
    {1, 576, 1536, false, true, "1 token    down"},
    {1, 49152, 576, false, true, "1 token    logits"},
    {4, 49152, 576, false, true, "4 tokens   logits"},
};

typedef struct Bench {
    KernelContext kc;
    MatmulArgs args;
    int threads, rounds;
    const char *word;
    Heap *heap; // as in training: large pages where the system has them
    float *A, *C;
    void *B, *scratch;
} Bench;

static void run_ours(Bench *bench) {
    hone_matmul(&bench->kc, &bench->args, bench->scratch);
}

#ifdef HONE_HAS_OPENBLAS
static void run_openblas(Bench *bench) {
    const MatmulArgs *args = &bench->args;
    cblas_sgemm(CblasRowMajor, args->a_transposed ? CblasTrans : CblasNoTrans,
                args->b_transposed ? CblasTrans : CblasNoTrans, (int)args->M, (int)args->N,
                (int)args->K, 1, bench->A, (int)args->lda, bench->B, (int)args->ldb, 0, bench->C,
                (int)args->ldc);
}
#endif

#ifdef HONE_HAS_DNNL
static void run_dnnl(Bench *bench) {
    const MatmulArgs *args = &bench->args;
    dnnl_sgemm(args->a_transposed ? 'T' : 'N', args->b_transposed ? 'T' : 'N', args->M, args->N,
               args->K, 1, bench->A, args->lda, bench->B, args->ldb, 0, bench->C, args->ldc);
}
#endif

// One thread's figures leave out the time that other programs took from it.
static double seconds(const Bench *bench) {
    if (bench->threads > 1) return hone_seconds();
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Runs a second, over about a millisecond or one run.
static double rate(void (*run)(Bench *bench), Bench *bench, double flops) {
    int count = (int)(5e7 / flops) + 1;
    double begin = seconds(bench);
    for (int i = 0; i < count; i++) run(bench);
    return count / (seconds(bench) - begin);
}

static void keep_best(double *best, double value) {
    if (value > *best) *best = value;
}

static void fill(float *x, int64_t count) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    for (int64_t i = 0; i < count; i++) x[i] = hone_random_uniform(&random) - 0.5f;
}

static void *take(Heap *heap, size_t bytes) {
    HeapBlock *block = heap ? hone_heap_take(heap, bytes) : NULL;
    if (block) memset(block->address, 0, bytes);
    return block ? block->address : NULL;
}

static bool make_bench(Bench *bench, const Shape *shape, int type) {
    int64_t M = shape->M, N = shape->N, K = shape->K;
    size_t b_bytes = hone_dtype_bytes(type, N * K);
    MatmulArgs *args = &bench->args;
    *args = (MatmulArgs){.M = M, .N = N, .K = K, .b_type = type, .ldc = N, .alpha = 1};
    args->a_transposed = shape->a_transposed;
    args->b_transposed = shape->b_transposed;
    args->lda = shape->a_transposed ? M : K;
    args->ldb = shape->b_transposed ? K : N;
    bench->heap = hone_heap_create(false);
    bench->A = take(bench->heap, (size_t)(M * K) * sizeof(float));
    bench->B = take(bench->heap, b_bytes);
    bench->C = take(bench->heap, (size_t)(M * N) * sizeof(float));
    bench->scratch = take(bench->heap, hone_matmul_scratch(&bench->kc, args) + 1);
    args->A = bench->A;
    args->B = bench->B;
    args->C = bench->C;
    if (!bench->A || !bench->B || !bench->C || !bench->scratch) return false;
    fill(bench->A, M * K);
    if (type == HONE_F32)
        fill(bench->B, N * K);
    else
        memset(bench->B, 0x21, b_bytes); // small scales, quants 1 and 2
    return true;
}

static void measure(Bench *bench, const Shape *shape, int type) {
    if (!strstr(shape->name, bench->word)) return;
    if (!make_bench(bench, shape, type)) {
        hone_heap_free(bench->heap);
        return;
    }
    double flops = 2.0 * (double)shape->M * (double)shape->N * (double)shape->K;
    double bytes = (double)hone_dtype_bytes(type, shape->N * shape->K);
    double peak = 0, ours = 0, openblas = 0, dnnl = 0;
    for (int round = 0; round < bench->rounds; round++) {
        keep_best(&peak, hone_kernel_peak(&bench->kc, false, 1) * 1e-9);
        keep_best(&ours, rate(run_ours, bench, flops));
        if (type != HONE_F32) continue;
#ifdef HONE_HAS_OPENBLAS
        openblas_set_num_threads(bench->threads);
        keep_best(&openblas, rate(run_openblas, bench, flops));
#endif
#ifdef HONE_HAS_DNNL
        keep_best(&dnnl, rate(run_dnnl, bench, flops));
#endif
    }
    double share = peak > 0 ? 100e-9 * flops / peak : 0;
    printf("%-20s %-5s %6.1f GF/s %5.1f %%", shape->name, hone_dtype_name(type),
           ours * flops * 1e-9, ours * share);
    if (shape->M <= 8) printf("  %5.1f GB/s of B", ours * bytes * 1e-9);
    if (openblas > 0) printf("  OpenBLAS %5.1f %%", openblas * share);
    if (dnnl > 0) printf("  oneDNN %5.1f %%", dnnl * share);
    printf("  (%.1f us, peak %.1f)\n", 1e6 / ours, peak);
    fflush(stdout);
    hone_heap_free(bench->heap);
}

int main(int count, char **arguments) {
    Bench bench = {.threads = count > 1 ? atoi(arguments[1]) : 1};
    bench.rounds = count > 2 ? atoi(arguments[2]) : 10;
    HoneError err = {0};
    if (hone_kernel_table(count > 3 ? arguments[3] : NULL, &bench.kc.table, &err) != HONE_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    bench.kc.pool = hone_pool_create(bench.threads);
    printf("%s, %d threads\n", hone_kernel_table_name(bench.kc.table), bench.threads);
    bench.word = count > 4 ? arguments[4] : "";
    static const int types[] = {HONE_F32, HONE_Q4_1, HONE_Q8_0, HONE_BF16};
    for (int type = 0; type < 3; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            measure(&bench, &shapes[i], types[type]);
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++)
        measure(&bench, &adapters[i], HONE_F32);
    for (int type = 0; type < 4; type++)
        for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
            measure(&bench, &tokens[i], types[type]);
    hone_pool_free(bench.kc.pool);
    return 0;
}
