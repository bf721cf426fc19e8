// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of `hone bench` share.
#ifndef HONE_CLI_BENCH_H
#define HONE_CLI_BENCH_H

#include "output.h"

typedef struct BenchOptions {
    Common common;
    const char *what, *shape, *dtype, *mask;
    bool causal;
    int64_t window;
    double dropout, seconds;
    const char *model, *type, *method, *optimizer, *precision; // train
    const char *text;                                          // tokenize
    int64_t batch, length, rank, accumulate;
} BenchOptions;

// "4,128,64" → numbers; how many there are, or -1 for what is none or more than `most`.
int read_sizes(const char *text, int64_t *sizes, int most);

int bench_tokenize(HoneContext *context, const BenchOptions *given);
int bench_train(HoneContext *context, const BenchOptions *given);

#endif
