// SPDX-License-Identifier: Apache-2.0
// The FMA peak of one thread, measured: what a share of the peak is a share of.
#ifndef HONE_BENCH_PEAK_H
#define HONE_BENCH_PEAK_H

#include "base/system.h"

#if defined(__x86_64__)
// Floating-point operations done: twelve independent sums, enough to hide the latency.
static inline double fma_work(int64_t steps, bool wide) {
    double lanes = wide ? 16 : 8;
    int64_t left = steps;
#define SUMS(v)                                                                                    \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "0\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v "1\n\t" \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "2\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v "3\n\t" \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "4\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v "5\n\t" \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "6\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v "7\n\t" \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "8\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v "9\n\t" \
    "vfmadd231ps %%" v "15, %%" v "15, %%" v "10\n\tvfmadd231ps %%" v "15, %%" v "15, %%" v        \
    "11\n\t"
#define LOOP(v)                                                                                    \
    __asm__ volatile("vzeroall\n1:\n\t" SUMS(v) "dec %0\n\tjnz 1b\n\tvzeroupper"                   \
                     : "+r"(left)                                                                  \
                     :                                                                             \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",       \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
    if (wide)
        LOOP("zmm");
    else
        LOOP("ymm");
#undef LOOP
#undef SUMS
    return (double)steps * 12 * lanes * 2;
}

// GF/s over about a millisecond.
static inline double fma_peak(void) {
    CpuFeatures cpu = hone_cpu_features();
    if (!cpu.avx2) return 0;
    double begin = hone_seconds(), work = fma_work(500000, cpu.avx512);
    return work / (hone_seconds() - begin) * 1e-9;
}
#else
static inline double fma_peak(void) {
    return 0;
}
#endif

#endif
