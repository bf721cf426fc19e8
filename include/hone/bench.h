// SPDX-License-Identifier: Apache-2.0
// Speeds beside the processor's own peak, measured in turns so that a busy machine slows both.
#ifndef HONE_BENCH_H
#define HONE_BENCH_H

#include <hone/attention.h>
#include <hone/layers.h>

#ifdef __cplusplus
extern "C" {
#endif

// Medians over the turns. A turn is a millisecond of multiply-adds on registers, on all of the
// context's threads, then one run forward, then one backward (of the layer: sixteen of each).
typedef struct HoneSpeed {
    double forward_seconds, backward_seconds; // of one run
    double forward_flops, backward_flops;     // useful operations a second
    double peak_flops;                        // multiply-adds on registers, two operations each
    double forward_bytes;                     // of keys and values (or B) read, a second
    int64_t turns;
} HoneSpeed;

// Attention of these options on random inputs. What the options ask for beside q, k and v (a mask,
// sinks) is made too: masks of zeros that hide nothing. Takes about `seconds`.
hone_status hone_bench_attention(HoneContext *context, const HoneAttentionOptions *options,
                                 double seconds, HoneSpeed *speed);

// The one-head layer (three projections, no output projection) on random inputs; backward computes
// the gradients of the weights and not that of x, as in a model's first layer. Work: 2 operations a
// multiply-add of the projections and of attention.
hone_status hone_bench_self_attention(HoneContext *context, const HoneSelfAttentionOptions *options,
                                      double seconds, HoneSpeed *speed);

// C (M,N) = A (M,K) · Bᵀ, B (N,K) of a weight type by its name ("F32", "Q4_1"); forward only.
hone_status hone_bench_matmul(HoneContext *context, int64_t M, int64_t N, int64_t K,
                              const char *type, double seconds, HoneSpeed *speed);

#ifdef __cplusplus
}
#endif
#endif
