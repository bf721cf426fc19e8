// SPDX-License-Identifier: Apache-2.0
// Speeds beside the processor's own peak, measured in turns so that a busy machine slows both.
#ifndef HONE_BENCH_H
#define HONE_BENCH_H

#include <hone/attention.h>
#include <hone/finetune.h>
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

// ---- a training step ---------------------------------------------------------------------------

// Sizes of a Llama whose head is its embedding; a head has channels / heads.
typedef struct HoneLlamaShape {
    int64_t layers, channels, heads, kv_heads, feed_forward, vocabulary;
} HoneLlamaShape;

typedef struct HoneTrainingOptions {
    const char *model;    // a model file or folder; NULL: random weights …
    HoneLlamaShape shape; // … of this shape,
    const char *type;     // the matrices stored as this type ("Q4_1")
    HoneMethod method;
    HoneOptimizer optimizer;
    bool bf16;             // products of operands rounded to bf16, and the peak on such
    int64_t rank;          // of the adapters on all linear layers (LoRA)
    int64_t batch, length; // examples a step, tokens each: random ones; all but the first, which
                           // nothing predicts, count in the loss; the last is not computed
    int64_t accumulate;    // micro-batches a step is computed in: 1 … batch
    uint64_t seed;
} HoneTrainingOptions;

// Medians over the steps; the first, which takes the memory, does not count. Before each step come
// multiply-adds on registers, for a hundredth of its time. Useful operations, two a multiply-add:
// for a token that is computed 4 a frozen weight of the layers' matrices and 6 a trained one, for a
// target 4 (6) a weight of the head, for a pair of tokens that sees each other 14 a query channel
// of each layer. It is counted as if every token needed all of a layer, forward and backward; what
// is computed again does not count.
typedef struct HoneTrainingSpeed {
    double step_seconds, step_seconds_p10;                  // p10: a tenth of the steps took less
    double forward_seconds, head_seconds, backward_seconds; // the head's with its loss and gradient
    double update_seconds; // the rest of a step: sums over micro-batches, norm, clipping, AdamW
    double operations;     // useful ones of a step
    double peak_flops;     // multiply-adds on registers, two operations each, a second
    int64_t tokens, targets, steps;
    int64_t parameters, trainable;
    int64_t rss_bytes; // the process's highest resident set, mapped pages included
} HoneTrainingSpeed;

// Train for about `seconds` and throw the result away: three steps at least, or as many as begin
// within ten times as long. HONE_ERROR_MEMORY beforehand where the machine has not enough free.
hone_status hone_bench_training(HoneContext *context, const HoneTrainingOptions *options,
                                double seconds, HoneTrainingSpeed *speed);

#ifdef __cplusplus
}
#endif
#endif
