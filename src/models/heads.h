// SPDX-License-Identifier: Apache-2.0
// What stands on an encoder's last hidden states x (T,C), alike for all of them:
//     classes:      classifier(act(pooler(x of the first token)))
//     tags, spans:  classifier(x)
//     masked words: embedding(norm(gelu(dense(x)))) + bias
#ifndef HONE_MODELS_HEADS_H
#define HONE_MODELS_HEADS_H

#include "models/model.h"

typedef struct EncoderHeads {
    Weight pooler;                    // (C,C)
    Weight classifier;                // (labels,C)
    Weight mask_dense;                // (C,C)
    Tensor mask_gain, mask_norm_bias; // (C)
    Tensor mask_bias;                 // (V)
} EncoderHeads;

#endif
