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
    void *scratch;                // of any product, and of the chunks of all threads
    int64_t chunks;               // 0: none
    size_t chunk_bytes;
    bool ran; // there is a forward that backward can follow
};

// multi_head.c
// The parameter of that name; NULL: the layer has none.
const HoneParameter *hone_layer_parameter(const HoneMultiHeadAttention *layer, const char *name);
hone_status hone_projected_create(HoneContext *context,
                                  const HoneMultiHeadAttentionOptions *options,
                                  bool projects_output, HoneMultiHeadAttention **layer);

// projection.c: the largest scratch of its three products, and the products themselves.
size_t hone_projection_scratch(const KernelContext *kc, const Projection *p);
void hone_project(const KernelContext *kc, const Projection *p, const float *x, float *y,
                  void *scratch);
// dW += dyᵀ·x, db += Σ dy
void hone_project_to_weight(const KernelContext *kc, const Projection *p, const float *x,
                            const float *dy, void *scratch);
// dx = [dx +] dy·W
void hone_project_to_input(const KernelContext *kc, const Projection *p, const float *dy,
                           bool accumulate, float *dx, void *scratch);

// chunked.c
// The chunks of the batch that a pass is cut into; 0: its steps are done for the whole batch.
int64_t hone_chunks_of(const HoneMultiHeadAttention *layer);
size_t hone_chunk_scratch(const HoneMultiHeadAttention *layer); // bytes, for each thread
// A pass. arrays: attention's, as hone_attend would take them.
void hone_run_chunks(HoneMultiHeadAttention *layer, const HoneMultiHeadTensors *tensors,
                     const HoneAttentionTensors *arrays, bool backward);

#endif
