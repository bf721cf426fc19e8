// SPDX-License-Identifier: Apache-2.0
// Losses of pairs of answers to one prompt, of which one is preferred.
#ifndef HONE_TRAIN_PREFERENCE_H
#define HONE_TRAIN_PREFERENCE_H

#include "train/run.h"

// What a pair and what a target of a chosen answer count in a mean.
typedef struct PairWeights {
    double pair, target;
} PairWeights;

typedef struct PairsLoss {
    double loss;
    int64_t preferred; // pairs whose chosen answer is the likelier one, as the loss measures it
    double head_seconds;
} PairsLoss;

// Direct preference optimisation (Rafailov et al. 2023): with π the sum of an answer's
// log-probabilities and ρ the same by the reference, which is the model without its adapters,
//     m = β·((π_chosen − ρ_chosen) − (π_rejected − ρ_rejected)),  loss = Σ pair·(−log σ(m)).
// ORPO (Hong, Lee, Thorne 2024): with p̄ the mean of an answer's log-probabilities,
//     o = log odds(p̄_chosen) − log odds(p̄_rejected),  odds(p̄) = e^p̄/(1 − e^p̄),
//     loss = Σ pair·β·(−log σ(o)) + Σ target·(−log p) over the chosen answers' targets.
// Both answers of all pairs lie in one batch, so that a prompt is computed once. Resets the tape,
// which is call's; with gradients the loss is recorded on it. Which of the two run->options says.
hone_status hone_pairs_loss(Run *run, const LossCall *call, bool gradients,
                            const Example *const *pairs, int64_t count, PairWeights weights,
                            PairsLoss *result);

#endif
