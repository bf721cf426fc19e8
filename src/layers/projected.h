// SPDX-License-Identifier: Apache-2.0
// What multi-head attention and the simple layer are: attention between projections of its inputs,
// with or without a projection of its output.
#ifndef HONE_LAYERS_PROJECTED_H
#define HONE_LAYERS_PROJECTED_H

#include <hone/layers.h>

#include "base/memory.h"
#include "tensor/context.h"

// y (rows, columns) = x (rows, channels) · Wᵀ [+ b]. Several weights on one input lie behind one
// another and are one projection.
typedef struct Projection {
    int input; // the x of a call: 0 query, 1 key, 2 value
    int64_t rows, channels, columns;
    float *weight, *bias, *d_weight, *d_bias; // biases NULL: none
    float *y, *dy;                            // the layer's; NULL for the output's projection
} Projection;

struct HoneMultiHeadAttention {
    HoneContext *context;
    HoneMultiHeadAttentionOptions options; // whole; attention's arrays are not to be read
    HoneAttention *attention;
    Projection inputs[3];
    int input_count;
    bool projects_output; // else the caller's output is o
    Projection output;
    HoneParameter parameters[HONE_MOST_PARAMETERS];
    int parameter_count;
    float *weights, *gradients;   // of all parameters
    float *activations;           // y and dy of the inputs' projections, o, d_o, lse
    HoneAttentionTensors tensors; // with the layer's own arrays
    float *d_o;                   // tensors.d_o, to be written
    void *scratch;                // of any product
    bool ran;                     // there is a forward that backward can follow
};

// multi_head.c
hone_status hone_projected_create(HoneContext *context,
                                  const HoneMultiHeadAttentionOptions *options,
                                  bool projects_output, HoneMultiHeadAttention **layer);

// projection.c: the largest scratch of its three products, and the products themselves. x and dx
// are the caller's; dx is added to, NULL: not wanted.
size_t hone_projection_scratch(const KernelContext *kc, const Projection *p);
void hone_project(const KernelContext *kc, const Projection *p, const float *x, float *y,
                  void *scratch);
void hone_project_backward(const KernelContext *kc, const Projection *p, const float *x,
                           const float *dy, float *dx, void *scratch);

#endif
