// SPDX-License-Identifier: Apache-2.0
// The loop behind MatmulTable.peak_work on x86: fifteen independent sums of multiply-adds, enough
// to hide a latency of seven, by `instruction` on registers named `v` of `lanes` elements.
#ifndef HONE_KERNELS_PEAK_WORK_H
#define HONE_KERNELS_PEAK_WORK_H

#include <stdint.h>

// clang-format off
#define HONE_PEAK_SUM(instruction, v, n) instruction " %%" v "15, %%" v "15, %%" v n "\n\t"
#define HONE_PEAK_WORK(name, instruction, v, lanes)                                                \
    static double name(int64_t steps) {                                                            \
        int64_t left = steps;                                                                      \
        __asm__ volatile(                                                                          \
            "vzeroall\n1:\n\t"                                                                     \
            HONE_PEAK_SUM(instruction, v, "0") HONE_PEAK_SUM(instruction, v, "1")                  \
            HONE_PEAK_SUM(instruction, v, "2") HONE_PEAK_SUM(instruction, v, "3")                  \
            HONE_PEAK_SUM(instruction, v, "4") HONE_PEAK_SUM(instruction, v, "5")                  \
            HONE_PEAK_SUM(instruction, v, "6") HONE_PEAK_SUM(instruction, v, "7")                  \
            HONE_PEAK_SUM(instruction, v, "8") HONE_PEAK_SUM(instruction, v, "9")                  \
            HONE_PEAK_SUM(instruction, v, "10") HONE_PEAK_SUM(instruction, v, "11")                \
            HONE_PEAK_SUM(instruction, v, "12") HONE_PEAK_SUM(instruction, v, "13")                \
            HONE_PEAK_SUM(instruction, v, "14")                                                    \
            "dec %0\n\tjnz 1b\n\tvzeroupper"                                                       \
            : "+r"(left)                                                                           \
            :                                                                                      \
            : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
              "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                       \
        return (double)steps * 15 * (lanes) * 2;                                                   \
    }
// clang-format on

#endif
