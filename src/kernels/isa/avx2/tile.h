// SPDX-License-Identifier: Apache-2.0
// The inner loop of a register tile, C (rows, 16) += A (rows, K) · B (K, 16): two sums a row in
// ymm0 … ymm11, a row of B in ymm12 and 13, broadcasts of A in ymm14 and 15. Twelve sums keep two
// multiply-add units busy, eight not quite. Registers and order are written out because compilers
// spill a sum or move operands about, at up to a third of the speed; four steps of K lie side by
// side because each instruction that is no multiply-add takes a place from one when another process
// runs on the same core (docs/speed.md).
//
// Operands, in bytes: a and b walk along K. A lies either in rows (its steps of K are neighbours:
// row, row3, row5 = 1, 3, 5 times the way between rows) or in steps (its rows are neighbours: step,
// step3 = 1 and 3 times the way between steps). ldb, ldb3: the way between rows of B. fours, ones:
// K / 4 and K % 4.
#ifndef HONE_KERNELS_ISA_AVX2_TILE_H
#define HONE_KERNELS_ISA_AVX2_TILE_H

// C90 promises 509 characters a string, compilers take more.
#pragma GCC diagnostic ignored "-Woverlength-strings"

// clang-format off
// Where element (row, step) of A lies, and half a row of B.
#define A_IN_ROWS_0 "(%[a])"
#define A_IN_ROWS_1 "(%[a],%[row])"
#define A_IN_ROWS_2 "(%[a],%[row],2)"
#define A_IN_ROWS_3 "(%[a],%[row3])"
#define A_IN_ROWS_4 "(%[a],%[row],4)"
#define A_IN_ROWS_5 "(%[a],%[row5])"
#define A_IN_ROWS(row, step) "4*" #step A_IN_ROWS_##row
#define A_IN_ROWS_ADVANCE(steps) "add $4*" #steps ", %[a]\n\t"

#define A_IN_STEPS_0 "(%[a])"
#define A_IN_STEPS_1 "(%[a],%[step])"
#define A_IN_STEPS_2 "(%[a],%[step],2)"
#define A_IN_STEPS_3 "(%[a],%[step3])"
#define A_IN_STEPS(row, step) "4*" #row A_IN_STEPS_##step
#define A_IN_STEPS_ADVANCE_1 "add %[step], %[a]\n\t"
#define A_IN_STEPS_ADVANCE_4 "lea (%[a],%[step],4), %[a]\n\t"
#define A_IN_STEPS_ADVANCE(steps) A_IN_STEPS_ADVANCE_##steps

#define B_STEP_0 "(%[b])"
#define B_STEP_1 "(%[b],%[ldb])"
#define B_STEP_2 "(%[b],%[ldb],2)"
#define B_STEP_3 "(%[b],%[ldb3])"

#define TILE_SUMS(broadcast, low, high)                                                            \
    "vfmadd231ps %%ymm12, %%ymm" broadcast ", %%ymm" low "\n\t"                                    \
    "vfmadd231ps %%ymm13, %%ymm" broadcast ", %%ymm" high "\n\t"

#define TILE_STEP_4(A, step)                                                                       \
    "vmovups " B_STEP_##step ", %%ymm12\n\t"                                                       \
    "vmovups 32" B_STEP_##step ", %%ymm13\n\t"                                                     \
    "vbroadcastss " A(0, step) ", %%ymm14\n\t"                                                     \
    "vbroadcastss " A(1, step) ", %%ymm15\n\t"                                                     \
    TILE_SUMS("14", "0", "1")                                                                      \
    "vbroadcastss " A(2, step) ", %%ymm14\n\t"                                                     \
    TILE_SUMS("15", "2", "3")                                                                      \
    "vbroadcastss " A(3, step) ", %%ymm15\n\t"                                                     \
    TILE_SUMS("14", "4", "5")                                                                      \
    TILE_SUMS("15", "6", "7")

#define TILE_STEP_6(A, step)                                                                       \
    TILE_STEP_4(A, step)                                                                           \
    "vbroadcastss " A(4, step) ", %%ymm14\n\t"                                                     \
    "vbroadcastss " A(5, step) ", %%ymm15\n\t"                                                     \
    TILE_SUMS("14", "8", "9")                                                                      \
    TILE_SUMS("15", "10", "11")

// The whole way along K; STEP one of the above, A and ADVANCE one of the two ways A lies.
#define TILE_LOOP(STEP, A, ADVANCE)                                                                \
    "test %[fours], %[fours]\n\t"                                                                  \
    "jz 4f\n"                                                                                      \
    ".p2align 5\n"                                                                                 \
    "3:\n\t"                                                                                       \
    STEP(A, 0) STEP(A, 1) STEP(A, 2) STEP(A, 3)                                                    \
    ADVANCE(4)                                                                                     \
    "lea (%[b],%[ldb],4), %[b]\n\t"                                                                \
    "dec %[fours]\n\t"                                                                             \
    "jnz 3b\n"                                                                                     \
    "4:\n\t"                                                                                       \
    "test %[ones], %[ones]\n\t"                                                                    \
    "jz 6f\n"                                                                                      \
    "5:\n\t"                                                                                       \
    STEP(A, 0)                                                                                     \
    ADVANCE(1)                                                                                     \
    "add %[ldb], %[b]\n\t"                                                                         \
    "dec %[ones]\n\t"                                                                              \
    "jnz 5b\n"                                                                                     \
    "6:\n\t"

#define TILE_CLEAR(low, high)                                                                      \
    "vxorps %%xmm" low ", %%xmm" low ", %%xmm" low "\n\t"                                          \
    "vxorps %%xmm" high ", %%xmm" high ", %%xmm" high "\n\t"

#define TILE_ROWS_4(DO) DO("0", "1") DO("2", "3") DO("4", "5") DO("6", "7")
#define TILE_ROWS_6(DO) TILE_ROWS_4(DO) DO("8", "9") DO("10", "11")

#define TILE_CLOBBERS                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory"

// The operands that TILE_LOOP reads beside its pointers and counts.
#define TILE_B_WAYS(bytes) [ldb] "r"((int64_t)(bytes)), [ldb3] "r"(3 * (int64_t)(bytes))
#define A_IN_ROWS_WAYS(bytes)                                                                      \
    [row] "r"((int64_t)(bytes)), [row3] "r"(3 * (int64_t)(bytes)), [row5] "r"(5 * (int64_t)(bytes))
#define A_IN_STEPS_WAYS(bytes) [step] "r"((int64_t)(bytes)), [step3] "r"(3 * (int64_t)(bytes))
// clang-format on

#endif
