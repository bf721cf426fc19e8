// SPDX-License-Identifier: Apache-2.0
// Vectors that are near for what belongs together: each anchor's positive is told from those of all
// other pairs of the step (van den Oord et al. 2018; sentence-transformers calls it
// MultipleNegativesRanking). With a, p the vectors as hone embed pools them, divided by their
// lengths, over the N pairs of a step:
//     s_ij = 20·a_i·p_j,  loss = (1/N) Σ_i −log softmax_j(s_ij)[i]
#ifndef HONE_TRAIN_CONTRAST_H
#define HONE_TRAIN_CONTRAST_H

#include "train/run.h"

// Of N pairs: vectors (2N,C), a_0, p_0, a_1, …. Returns the loss and writes its derivative by them
// to `gradient` (2N,C; NULL: none), each pair's own loss to `own` (N; NULL) and how many anchors
// are nearest to their own positive to *right. NaN where memory was not there.
double hone_contrast_loss(const float *vectors, int64_t pairs, int64_t C, float *gradient,
                          double *own, int64_t *right);

// The step's gradient in run->parameters.gradient, and its loss. Cut into several micro-batches the
// vectors of all are computed first, then each part once more with gradients (Gao et al. 2021): the
// loss is the whole step's, whatever the cut.
hone_status hone_contrast_step(Run *run, const StepRange *step, double *loss);

// One micro-batch on a tape that touches no data.
hone_status hone_contrast_rehearse(Run *run, const LossCall *call, bool gradients,
                                   const Example *const *pairs, int64_t count);

// The held-out pairs in groups of up to 64, as they come: mean loss, each pair's own, the share of
// anchors that are nearest to their own positive.
hone_status hone_contrast_held_out(Run *run, double *losses, double *loss, double *accuracy);

#endif
