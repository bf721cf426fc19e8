// SPDX-License-Identifier: Apache-2.0
// Muon (Jordan et al. 2024): matrices are changed by the nearest matrix with all singular values
// about 1 of their momentum, found by Newton and Schulz's iteration.
#ifndef HONE_TRAIN_MUON_H
#define HONE_TRAIN_MUON_H

#include "kernels/kernels.h"

// m ← β·m + (1−β)·g;  u = (1−β)·g + β·m, g scaled first;
// X = u/(‖u‖ + 1e-7), then five times
//   A = X·Xᵀ; X ← 3.4445·X + (−4.7750·A + 2.0315·A·A)·X    (from the other side where R > C);
// p ← p·(1 − lr·decay) − lr·0.2·√max(R, C)·X.
// The last factor gives the step the size of AdamW's (Liu et al. 2025), so that both have one rate.
typedef struct MuonArgs {
    int64_t R, C;
    float lr, beta, decay, scale;
    float *p, *m; // (R,C)
    const float *g;
} MuonArgs;

size_t hone_muon_scratch(const KernelContext *kc, int64_t R, int64_t C); // bytes
void hone_muon(const KernelContext *kc, const MuonArgs *args, void *scratch);

#endif
