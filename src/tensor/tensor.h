// SPDX-License-Identifier: Apache-2.0
// Tensors, weights and the parameter visitor.
#ifndef HONE_TENSOR_TENSOR_H
#define HONE_TENSOR_TENSOR_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

// A dense row-major tensor, rank 1…4, outermost dimension first. Who made it owns it: the tape owns
// activations, a parameter set owns parameters. Operators hand `data` on to kernels and never read
// it.
typedef struct Tensor {
    HoneDtype dtype;
    int rank;
    int64_t shape[4];
    void *data;
    float *grad;        // f32, same shape; NULL until something needs it
    bool requires_grad; // somebody wants `grad`
    // The tape's bookkeeping; zero for parameters and inputs.
    struct Record *producer; // the operator call that made it
    HeapBlock *block, *grad_block;
    int saved; // how many records, or tensors to be made again, still need the data
} Tensor;

int64_t hone_tensor_count(const Tensor *tensor);
size_t hone_tensor_bytes(const Tensor *tensor);
// "(1024, 576)" into text; returns text.
const char *hone_shape_text(const Tensor *tensor, char text[64]);

// A low-rank adapter of one linear weight W (out,in): y = x·Wᵀ + scale·(drop(x)·Aᵀ)·Bᵀ (Hu et al.
// 2021). scale = alpha/rank, or alpha/√rank for rank-stabilised LoRA. drop is x itself unless the
// rate is above 0 and the operator is told the token paths of x's rows (tape.h).
typedef struct Adapter {
    Tensor A; // (rank, in)
    Tensor B; // (out, rank)
    float scale;
    float dropout;          // rate, [0, 1)
    uint32_t dropout_place; // the adapter's number in the model
    uint64_t dropout_key;   // another one for every step
    // DoRA (Liu et al. 2024), alone on its weight: row i of W + scale·B·A is multiplied by gain_i =
    // magnitude_i / n_i, n_i its own norm, which is a constant to every gradient.
    Tensor magnitude;           // (out); rank 0: none
    float *gain, *inverse_norm; // (out), 1/n_i; whoever changes A or B sets them (tensor/dora.h)
} Adapter;

// A linear or embedding weight as stored: W (out,in), row-major, any weight type. `base` requires
// grad only in full fine-tuning, and is f32 then. Operators on it: linear, embedding, head.
typedef struct Weight {
    Tensor base;
    Adapter
        *adapters; // adapter_count of them; all are applied, those that require grad are trained
    int adapter_count;
    Tensor gain; // (out), of the product with W alone: y = gain ⊙ (x·Wᵀ) + …; rank 0: none. For use
                 // without gradients: a DoRA that is not trained is this and a plain adapter
    Tensor bias;   // (out), added to every row of a linear layer; rank 0: none
    float softcap; // of the logits, where it is a model's head: c·tanh(z/c); 0: none
} Weight;

// A walk over a model's parameters, each said once. `weight` is set for matrices that may be stored
// quantised and adapted, `tensor` always (== &weight->base then). Names are GGUF's
// ("blk.0.attn_q.weight"). Returning anything but HONE_OK stops the walk.
typedef struct ParameterVisit {
    const char *name;
    Tensor *tensor;     // its dtype, rank and shape say what is wanted
    Weight *weight;     // NULL for norms and biases
    const char *target; // "q","k","v","o","gate","up","down","embed","head"; NULL if never adapted
    int layer;          // -1 outside the layers
    bool optional;      // may be absent from a file (a tied head, rope factors)
} ParameterVisit;
typedef hone_status (*ParameterVisitor)(void *user, const ParameterVisit *visit, HoneError *err);

#endif
