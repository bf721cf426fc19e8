// SPDX-License-Identifier: Apache-2.0
// The peak that speeds are a share of, measured.
#include "base/system.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

enum { MOST_THREADS = 1024, STEPS = 500000 };

typedef struct Peak {
    double (*work)(int64_t steps);
    double rates[MOST_THREADS];
} Peak;

static void run(void *argument, int64_t task, int worker) {
    (void)worker;
    Peak *peak = argument;
    double start = hone_seconds(), work = peak->work(STEPS);
    peak->rates[task] = work / (hone_seconds() - start);
}

double hone_kernel_peak(const KernelContext *kc, bool bf16, int runs) {
    const MatmulTable *table = &kc->table->matmul;
    Peak peak = {.work = bf16 && table->peak_work_bf16 ? table->peak_work_bf16 : table->peak_work};
    int threads = hone_pool_threads(kc->pool);
    double best = 0;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    for (int i = 0; i < runs; i++) {
        double sum = 0;
        hone_pool_run(kc->pool, threads, run, &peak);
        for (int t = 0; t < threads; t++) sum += peak.rates[t];
        if (sum > best) best = sum;
    }
    return best;
}
