// SPDX-License-Identifier: Apache-2.0
// Scaled dot-product attention (Vaswani et al. 2017) on plain arrays, forward and backward: exact,
// fused, with memory linear in the length both ways (Milakov, Gimelshein 2018; Dao et al. 2022).
//
//     HoneAttentionOptions options = {.batch = 2, .queries = 512, .keys = 512, .heads = 8,
//                                     .head_size = 64, .causal = HONE_CAUSAL_TOP_LEFT};
//     HoneAttention *attention = NULL;
//     if (hone_attention_create(context, &options, &attention) != HONE_OK) …
//     HoneAttentionTensors tensors = {.q = hone_const_view(q, 512, 8, 64), …};
//     hone_attend(attention, &tensors);           // o, lse
//     hone_attend_backward(attention, &tensors);  // dq += …, dk += …, dv += …
//
// For each element of the batch, query i and head h, with g = h / (heads / kv_heads):
//     t_ij = scale · q_ih · k_jg,  or softcap · tanh(t_ij / softcap)
//     s_ij = t_ij − slopes_h · |i + offset − j| + mask_ij
//     p_ij = e^s_ij / (Σ_j e^s_ij + e^sinks_h) over the keys j that query i sees
//     o_ih = Σ_j drop_ij · p_ij · v_jg,  drop_ij = 0 with probability `dropout`, else 1/(1−dropout)
// and backward, for the gradient d_o of any scalar with respect to o:
//     dv_jg += Σ_ih drop_ij · p_ij · d_o_ih;  D_ih = d_o_ih · o_ih
//     ds_ij = p_ij · (drop_ij · d_o_ih · v_jg − D_ih);  d_mask_ij += ds_ij
//     dt_ij = ds_ij · (1 − (t_ij / softcap)²) with a soft-cap, else ds_ij
//     dq_ih += scale · Σ_j dt_ij · k_jg;  dk_jg += scale · Σ_ih dt_ij · q_ih
//     d_sinks_h −= Σ_i D_ih · e^(sinks_h − lse_ih)
// where sums for a g are over the heads that share it as well, and those of sinks over the batch.
// A query that sees no key gives o = 0 and gradients 0; its lse is that of its sink, else
// -infinity. What stands at a pair that does not see each other (NaN, infinity) reaches nothing.
// Results and gradients have the same bits for any number of threads.
//
// Sizes and strides count elements, scratch bytes. What can fail returns a status, and
// hone_context_error says what was wrong. A plan, like its context, belongs to one thread at a
// time.
//
// Query i stands at key i + offset: offset is 0, and keys − queries with HONE_CAUSAL_BOTTOM_RIGHT.
// Causality, the window and ALiBi count from there.
#ifndef HONE_ATTENTION_H
#define HONE_ATTENTION_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

// Element (b, t, h, c) lies at data[b·batch + t·row + h·head + c]: strides in elements, none
// negative. An input may repeat itself (stride 0), and inputs may share memory. What is written may
// share none, with itself or with any other array of the call: it may only lie between their rows.
// The memory is the caller's, and is not kept after a call.
typedef struct HoneView {
    void *data;
    int64_t batch, row, head;
} HoneView;
typedef struct HoneConstView {
    const void *data;
    int64_t batch, row, head;
} HoneConstView;

// The view of a contiguous (batch, rows, heads, size), borrowed as said above. Cannot fail.
HoneView hone_view(void *data, int64_t rows, int64_t heads, int64_t size);
HoneConstView hone_const_view(const void *data, int64_t rows, int64_t heads, int64_t size);

// Of q, k, v, o and d_o. lse, weights, masks, sinks, sums and gradients are f32 in any case.
typedef enum HoneElement {
    HONE_ELEMENT_F32,
    HONE_ELEMENT_BF16 // the upper half of an f32; o is rounded to the nearest, ties to even
} HoneElement;

// Which keys query i sees. Of two lengths one must say which ends stand side by side.
typedef enum HoneCausal {
    HONE_CAUSAL_NONE,        // all
    HONE_CAUSAL_TOP_LEFT,    // query i sees the keys 0 … i
    HONE_CAUSAL_BOTTOM_RIGHT // the last query sees all keys: 0 … i + keys − queries
} HoneCausal;

typedef enum HoneMaskType {
    HONE_MASK_NONE,    // tensors.mask is NULL
    HONE_MASK_BOOLEAN, // uint8_t: 0 hides the key, anything else shows it
    HONE_MASK_FLOAT    // float, added to the score; -infinity hides the key
} HoneMaskType;

// Element (b, h, i, j) lies at mask[b·batch + h·head + i·query + j·key]: strides in elements, 0
// along an axis where the mask is the same. This describes the array; each call brings it.
typedef struct HoneMask {
    HoneMaskType type;
    int64_t batch, head, query, key; // none negative
    int64_t elements; // that the array holds: HONE_ERROR_ARGUMENT if the strides lead beyond
    bool gradient;    // of a float mask, wanted from backward. No two elements may overlap then
} HoneMask;

// Zero is the default of every field that says so; the others must be given.
typedef struct HoneAttentionOptions {
    int64_t batch, queries, keys; // 0 … 2^31 − 1
    int heads;
    int kv_heads;   // divides heads; 0: heads. Each key/value head serves heads/kv_heads queries'
                    // (Shazeer 2019; Ainslie et al. 2023)
    int head_size;  // of q and k, 1 … 256
    int value_size; // of v and o, 1 … 256; 0: head_size
    HoneElement element;
    float scale; // any finite number; 0: 1/√head_size. 1 leaves scores unscaled
    HoneCausal causal;
    int64_t window;             // 0: none. Query at key p sees p − window < j, and j < p + window
                                // (Beltagy et al. 2020)
    const int32_t *begin, *end; // (keys) each, or both NULL: key j is seen by begin[j] ≤ i <
                                // end[j] only (none: by no query), both in 0 … queries. Copied
    HoneMask mask;
    const float *slopes; // (heads) of ALiBi (Press et al. 2021), or NULL. Copied
    float softcap;       // 0: none (Gemma 2, 2024)
    bool sinks;          // tensors.sinks takes part (Xiao et al. 2023; gpt-oss)
    float dropout; // [0, 1), rounded to steps of 1/256, at most 255/256 (Srivastava et al. 2014)
    bool weights;  // tensors.weights is written: memory queries × keys
    bool forward_only; // no memory is set aside for backward, which is refused then
} HoneAttentionOptions;

// The arrays of a call, all the caller's and none kept. Those that the options do not have are
// NULL; the data of a view without elements may be.
typedef struct HoneAttentionTensors {
    HoneConstView q; // (batch, queries, heads, head_size)
    HoneConstView k; // (batch, keys, kv_heads, head_size)
    HoneConstView v; // (batch, keys, kv_heads, value_size)
    HoneView o;      // (batch, queries, heads, value_size), written by hone_attend
    // (batch, heads, queries), ln(Σ_j e^s_ij + e^sinks_h), written by hone_attend. NULL: not
    // wanted; backward needs it.
    float *lse;
    const void *mask;   // as options.mask describes it
    const float *sinks; // (heads)
    uint64_t seed;      // of dropout: which pairs are dropped depends on it and their place alone
    float *weights;     // (batch, heads, queries, keys), p before dropout, written by hone_attend
    // Backward only. It reads what forward read, o and lse as forward wrote them, and adds to the
    // gradients, f32.
    HoneConstView d_o;   // as o
    HoneView dq, dk, dv; // as q, k and v
    float *d_mask;       // with the mask's strides; summed along its axes of stride 0
    float *d_sinks;      // (heads)
} HoneAttentionTensors;

typedef struct HoneAttention HoneAttention; // a plan: one shape, one set of options, its memory

// Make a plan. HONE_ERROR_ARGUMENT: options that cannot be, with their values; HONE_ERROR_MEMORY:
// scratch could not be had; *attention is NULL then. The options are not needed afterwards, nor
// what they point to. Caller frees *attention with hone_attention_free, before the context.
hone_status hone_attention_create(HoneContext *context, const HoneAttentionOptions *options,
                                  HoneAttention **attention);
void hone_attention_free(HoneAttention *attention); // NULL is allowed

// What is known of a plan before it runs.
typedef struct HoneAttentionInfo {
    const char *path; // which kernels run on what, in words: whether keys are packed, into how many
                      // parts they are cut, what is done to scores. Borrowed from the plan
    double pairs;     // of a query and a key that see each other, over heads and batch; a mask is
                      // not counted, for what it hides is computed
    double flops_forward, flops_backward; // useful: 2 and 6 · pairs · head_size, 2 and 4 · pairs ·
                                          // value_size
    size_t scratch_forward, scratch_backward; // bytes; the plan holds the larger of the two
} HoneAttentionInfo;
// *info is written; neither may be NULL. Cannot fail.
void hone_attention_info(const HoneAttention *attention, HoneAttentionInfo *info);

// o, lse and weights from q, k and v, written over what is there. HONE_ERROR_ARGUMENT: an array
// that the plan's options ask for is NULL, or one is given that they do not; strides that overlap;
// written arrays that share memory with others. Nothing is written then.
hone_status hone_attend(HoneAttention *attention, const HoneAttentionTensors *tensors);
// dq, dk, dv, d_mask and d_sinks += their gradients. HONE_ERROR_ARGUMENT as above, and of a plan
// made with forward_only. It needs no forward of the same plan, only what one wrote.
hone_status hone_attend_backward(HoneAttention *attention, const HoneAttentionTensors *tensors);

// The slopes of ALiBi's paper (Press et al. 2021): 2^(−8/heads), 2^(−16/heads), …; when heads is no
// power of two, those of the power below it, then every other one of the power above. slopes
// (heads) is written; heads is 1 or more.
void hone_alibi_slopes(int heads, float *slopes);

#ifdef __cplusplus
}
#endif
#endif
