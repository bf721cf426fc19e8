// SPDX-License-Identifier: Apache-2.0
// A plan of attention: the options as checked and made whole, and what is known of them before
// anything runs.
#ifndef HONE_LAYERS_ATTENTION_PLAN_H
#define HONE_LAYERS_ATTENTION_PLAN_H

#include <hone/attention.h>

#include "base/memory.h"
#include "base/text.h"
#include "tensor/context.h"

struct HoneAttention {
    HoneContext *context;
    HoneAttentionOptions options; // whole; its arrays are not the caller's but those below, or NULL
    AttentionArgs args;           // without addresses
    int32_t *intervals;           // begin (keys), end (keys); NULL: every query sees every key
    float *slopes;
    float *lse;    // (batch, heads, queries): for a caller who does not want it
    void *scratch; // of whichever pass runs
    size_t forward_bytes, backward_bytes;
    double pairs;
    TextBuffer path;
};

// attention.c: the plan with the arrays of one call, which fit.
AttentionArgs hone_attention_args(const HoneAttention *plan, const HoneAttentionTensors *t,
                                  bool backward);

// attention_options.c
// Refuses what cannot be, and puts the defaults in place of zeros. *options is the caller's copy.
hone_status hone_attention_complete(HoneAttentionOptions *options, HoneError *err);
// The array (batch, rows, heads, size) of a call. written: no two of its elements may overlap.
hone_status hone_attention_check_view(const char *name, HoneConstView view, const int64_t shape[4],
                                      bool written, HoneError *err);

// attention_apart.c
// The arrays of a call, checked one by one before: what is written shares no memory with any other.
// *options is whole.
hone_status hone_attention_check_apart(const HoneAttentionOptions *options,
                                       const HoneAttentionTensors *t, bool backward,
                                       HoneError *err);

// attention_visible.c
// The key at which query 0 stands.
int64_t hone_attention_offset(const HoneAttentionOptions *options);
// Causality, the window and the caller's intervals as one interval a key: begin, end (keys) each,
// an empty one as {queries, 0}. true: some query does not see some key. *pairs: how many see each
// other, of one head and one element of the batch.
bool hone_attention_visible(const HoneAttentionOptions *options, int32_t *begin, int32_t *end,
                            double *pairs);

#endif
