// SPDX-License-Identifier: Apache-2.0
// Attention's speed in useful GF/s and as a share of the FMA peak measured beside it: 4·N²·d
// forward and 10·N²·d backward, counting only pairs that see each other. Decoding in GB/s of keys
// and values.
//
//     bench_attention [THREADS [LEVEL [PART-OF-NAME]]]
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "base/system.h"
#include "kernels/kernels.h"

enum { LEAST_RUNS = 5 };

typedef struct Shape {
    const char *name;
    int64_t queries, keys;
    int heads, kv_heads, size;
    int64_t piece; // causal within pieces of this many queries; 0: everything is seen
} Shape;

// ---- attention ---------------------------------------------------------------------------------

static float *random_floats(int64_t count, uint64_t stream) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, stream);
    float *x = hone_alloc((size_t)count * sizeof *x);
    for (int64_t i = 0; x && i < count; i++) x[i] = hone_random_normal(&random);
    return x;
}

static AttentionView view(int64_t rows, int heads, int size, uint64_t stream) {
    return (AttentionView){random_floats(rows * heads * size, stream), heads * size, size};
}

// Pairs that see each other; fills the intervals.
static double pairs(const Shape *s, int32_t *begin, int32_t *end) {
    double count = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        begin[j] = (int32_t)j;
        int64_t stop = s->piece ? (j / s->piece + 1) * s->piece : s->queries;
        end[j] = (int32_t)(stop < s->queries ? stop : s->queries);
        count += s->piece ? end[j] - begin[j] : (double)s->queries;
    }
    return count;
}

typedef void (*Pass)(const KernelContext *kc, const AttentionArgs *args, void *scratch);

static double best_seconds(Pass pass, const KernelContext *kc, const AttentionArgs *args,
                           void *scratch) {
    double best = HUGE_VAL, begin = hone_seconds();
    for (int run = 0; run < LEAST_RUNS || hone_seconds() - begin < 0.4; run++) {
        double start = hone_seconds();
        pass(kc, args, scratch);
        double seconds = hone_seconds() - start;
        if (seconds < best) best = seconds;
    }
    return best;
}

static void measure(const KernelContext *kc, const Shape *s) {
    int32_t *begin = hone_alloc((size_t)s->keys * sizeof *begin);
    int32_t *end = hone_alloc((size_t)s->keys * sizeof *end);
    double work = pairs(s, begin, end) * s->heads * s->size;
    AttentionArgs args = {.batch = 1,
                          .queries = s->queries,
                          .keys = s->keys,
                          .heads = s->heads,
                          .kv_heads = s->kv_heads,
                          .head_size = s->size,
                          .value_size = s->size,
                          .scale = 1.0f / sqrtf((float)s->size),
                          .begin = s->piece ? begin : NULL,
                          .end = s->piece ? end : NULL,
                          .q = view(s->queries, s->heads, s->size, 1),
                          .k = view(s->keys, s->kv_heads, s->size, 2),
                          .v = view(s->keys, s->kv_heads, s->size, 3),
                          .o = view(s->queries, s->heads, s->size, 4),
                          .d_o = view(s->queries, s->heads, s->size, 5),
                          .dq = view(s->queries, s->heads, s->size, 6),
                          .dk = view(s->keys, s->kv_heads, s->size, 7),
                          .dv = view(s->keys, s->kv_heads, s->size, 8),
                          .lse = random_floats(s->queries * s->heads, 9)};
    size_t forward_bytes = hone_attention_forward_scratch(kc, &args);
    size_t backward_bytes = hone_attention_backward_scratch(kc, &args);
    void *scratch = hone_alloc(forward_bytes > backward_bytes ? forward_bytes : backward_bytes);
    double before = hone_kernel_peak(kc, false, 10) * 1e-9;
    double forward = best_seconds(hone_attention_forward, kc, &args, scratch);
    double backward = best_seconds(hone_attention_backward, kc, &args, scratch);
    double after = hone_kernel_peak(kc, false, 10) * 1e-9, peak = before > after ? before : after;
    double cache = 2.0 * (double)(s->keys * s->kv_heads * s->size) * sizeof(float);
    printf("%-24s %6.1f  %6.1f GF/s %5.1f %%  %6.1f GF/s %5.1f %%  %7.1f GB/s %9.1f us"
           " %9.1f us  %5.1f MB\n",
           s->name, peak, 4e-9 * work / forward, 400e-9 * work / forward / peak,
           10e-9 * work / backward, 1000e-9 * work / backward / peak, cache / forward * 1e-9,
           forward * 1e6, backward * 1e6, (double)backward_bytes * 1e-6);
    float *tensors[] = {args.q.data,  args.k.data,  args.v.data,  args.o.data, args.d_o.data,
                        args.dq.data, args.dk.data, args.dv.data, args.lse};
    for (int i = 0; i < 9; i++) hone_free(tensors[i]);
    hone_free(begin);
    hone_free(end);
    hone_free(scratch);
}

int main(int count, char **words) {
    static const Shape shapes[] = {
        {"d64 full 512", 512, 512, 2, 2, 64, 0},
        {"d64 full 1024", 1024, 1024, 1, 1, 64, 0},
        {"d64 full 2048", 2048, 2048, 1, 1, 64, 0},
        {"d64 causal 512", 512, 512, 2, 2, 64, 512},
        {"d64 causal 1024", 1024, 1024, 1, 1, 64, 1024},
        {"d64 causal 2048", 2048, 2048, 1, 1, 64, 2048},
        {"d128 full 512", 512, 512, 2, 2, 128, 0},
        {"d128 full 2048", 2048, 2048, 1, 1, 128, 0},
        {"d128 causal 512", 512, 512, 2, 2, 128, 512},
        {"d128 causal 2048", 2048, 2048, 1, 1, 128, 2048},
        {"d64 9:3 causal 1024", 1024, 1024, 9, 3, 64, 1024},
        {"d64 9:3 packed 10x100", 1000, 1000, 9, 3, 64, 100},
        {"d64 9:3 packed 20x50", 1000, 1000, 9, 3, 64, 50},
        {"d80 causal 1000", 1000, 1000, 1, 1, 80, 1000},
        {"d64 9:3 decode 512", 1, 512, 9, 3, 64, 0},
        {"d64 9:3 decode 8192", 1, 8192, 9, 3, 64, 0},
        {"d128 32:8 decode 4096", 1, 4096, 32, 8, 128, 0},
    };
    int threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > 256) threads = 1;
    KernelContext kc = {.pool = hone_pool_create(threads)};
    HoneError err = {0};
    if (hone_kernel_table(count > 2 ? words[2] : NULL, &kc.table, &err) != HONE_OK) {
        fprintf(stderr, "bench_attention: %s\n", err.message);
        return 2;
    }
    printf("level %s, %d threads\n", hone_kernel_table_name(kc.table), hone_pool_threads(kc.pool));
    printf("%-24s %6s  %19s  %19s\n", "", "peak", "forward", "backward");
    const char *only = count > 3 ? words[3] : "";
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strstr(shapes[i].name, only)) measure(&kc, &shapes[i]);
    hone_pool_free(kc.pool);
    return 0;
}
