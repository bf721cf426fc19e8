// SPDX-License-Identifier: Apache-2.0
// Short sequences: a chunk of the batch goes through the projections and attention in one task,
// while its rows are in the cache, so that the threads meet once a pass and not at every product.
// How the batch is cut comes from the shape alone; the weights' gradients, which sum over all rows,
// are products of the whole batch.
#include "layers/attention_plan.h"
#include "layers/projected.h"

enum {
    MOST_CHUNKS = 16,
    LEAST_CHUNKS = 4, // fewer would leave threads without work
    CHUNK_ROWS = 64,  // at least: each chunk packs the weights anew
};
// Below so many operations, about 20 µs, one thread is done before another has begun.
static const double least_work = 2e6;
// Above so many operations what meetings cost no longer counts, and packing the weights once does.
static const double most_work = 1e8;

typedef struct Pass {
    const HoneMultiHeadAttention *layer;
    const HoneMultiHeadTensors *tensors;
    AttentionArgs args; // of the whole batch
    bool backward;
} Pass;

int64_t hone_chunks_of(const HoneMultiHeadAttention *layer) {
    const HoneAttentionOptions *o = &layer->options.attention;
    if (layer->input_count != 1 || o->mask.type != HONE_MASK_NONE || o->sinks || o->weights ||
        o->dropout > 0) // its pattern counts the elements of the whole batch
        return 0;
    const Projection *p = &layer->inputs[0], *out = &layer->output;
    double work =
        2.0 * (double)p->rows * (double)p->channels * (double)p->columns +
        2.0 * (double)out->rows * (double)out->channels * (double)out->columns +
        2.0 * (double)p->rows * (double)o->keys * o->heads * (o->head_size + o->value_size);
    if (p->rows == 0 || work > most_work) return 0;
    if (work < least_work) return 1;
    int64_t chunks = 1; // powers of two, which most numbers of threads share evenly
    while (chunks < MOST_CHUNKS && chunks * 2 * CHUNK_ROWS <= p->rows && chunks * 2 <= o->batch)
        chunks *= 2;
    return chunks < LEAST_CHUNKS ? 0 : chunks;
}

static int64_t chunk_batch(const HoneMultiHeadAttention *layer) {
    return (layer->options.attention.batch + layer->chunks - 1) / layer->chunks;
}

// The projection of `batch` elements.
static Projection part_of(const HoneMultiHeadAttention *layer, const Projection *whole,
                          int64_t batch) {
    Projection part = *whole;
    part.rows = batch * layer->options.attention.queries;
    return part;
}

static void move_view(AttentionView *view, int64_t batch) {
    view->data = (float *)view->data + batch * view->batch;
}

static AttentionArgs attention_part(const Pass *pass, int64_t first, int64_t batch) {
    AttentionArgs args = pass->args;
    args.batch = batch;
    args.lse += first * args.heads * args.queries;
    AttentionView *views[] = {&args.q, &args.k, &args.v, &args.o};
    for (int i = 0; i < 4; i++) move_view(views[i], first);
    AttentionView *gradients[] = {&args.d_o, &args.dq, &args.dk, &args.dv};
    for (int i = 0; i < 4 && pass->backward; i++) move_view(gradients[i], first);
    return args;
}

size_t hone_chunk_scratch(const HoneMultiHeadAttention *layer) {
    const KernelContext alone = {.table = layer->context->kernels.table};
    AttentionArgs args = layer->attention->args;
    args.batch = chunk_batch(layer);
    const Projection in = part_of(layer, &layer->inputs[0], args.batch);
    const Projection out = part_of(layer, &layer->output, args.batch);
    const size_t needs[] = {
        hone_projection_scratch(&alone, &in),
        layer->projects_output ? hone_projection_scratch(&alone, &out) : 0,
        hone_attention_forward_scratch(&alone, &args),
        layer->options.attention.forward_only ? 0 : hone_attention_backward_scratch(&alone, &args),
    };
    size_t most = 0;
    for (int i = 0; i < 4; i++)
        if (needs[i] > most) most = needs[i];
    return (most + 63) / 64 * 64;
}

static void forward_chunk(const Pass *pass, int64_t first, int64_t batch, void *scratch) {
    const HoneMultiHeadAttention *layer = pass->layer;
    const KernelContext alone = {.table = layer->context->kernels.table};
    int64_t row = first * layer->options.attention.queries;
    const Projection in = part_of(layer, &layer->inputs[0], batch);
    hone_project(&alone, &in, pass->tensors->query + row * in.channels, in.y + row * in.columns,
                 scratch);
    AttentionArgs args = attention_part(pass, first, batch);
    hone_attention_forward(&alone, &args, scratch);
    if (!layer->projects_output) return;
    const Projection out = part_of(layer, &layer->output, batch);
    hone_project(&alone, &out, args.o.data, pass->tensors->output + row * out.columns, scratch);
}

static void backward_chunk(const Pass *pass, int64_t first, int64_t batch, void *scratch) {
    const HoneMultiHeadAttention *layer = pass->layer;
    const KernelContext alone = {.table = layer->context->kernels.table};
    int64_t row = first * layer->options.attention.queries;
    const Projection in = part_of(layer, &layer->inputs[0], batch);
    if (layer->projects_output) {
        const Projection out = part_of(layer, &layer->output, batch);
        float *d_o = layer->d_o + row * out.channels;
        hone_project_to_input(&alone, &out, pass->tensors->d_output + row * out.columns, false, d_o,
                              scratch);
    }
    float *dy = in.dy + row * in.columns, *dx = pass->tensors->d_query;
    AttentionArgs args = attention_part(pass, first, batch);
    hone_attention_backward(&alone, &args, scratch);
    if (dx) hone_project_to_input(&alone, &in, dy, true, dx + row * in.channels, scratch);
}

static void run_chunk(void *argument, int64_t task, int worker) {
    const Pass *pass = argument;
    const HoneMultiHeadAttention *layer = pass->layer;
    int64_t most = chunk_batch(layer), first = task * most;
    int64_t batch = layer->options.attention.batch - first;
    if (batch > most) batch = most;
    char *scratch = (char *)layer->scratch + (size_t)worker * layer->chunk_bytes;
    if (batch > 0) (pass->backward ? backward_chunk : forward_chunk)(pass, first, batch, scratch);
}

void hone_run_chunks(HoneMultiHeadAttention *layer, const HoneMultiHeadTensors *tensors,
                     const HoneAttentionTensors *arrays, bool backward) {
    const KernelContext *kc = &layer->context->kernels;
    Pass pass = {.layer = layer, .tensors = tensors, .backward = backward};
    pass.args = hone_attention_args(layer->attention, arrays, backward);
    hone_pool_run(kc->pool, layer->chunks, run_chunk, &pass);
    if (!backward) return;
    const Projection *in = &layer->inputs[0];
    hone_project_to_weight(kc, in, tensors->query, in->dy, layer->scratch);
    if (layer->projects_output)
        hone_project_to_weight(kc, &layer->output, arrays->o.data, tensors->d_output,
                               layer->scratch);
}
