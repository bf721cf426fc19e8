// SPDX-License-Identifier: Apache-2.0
// Who sees whom, as one interval of queries a key. Causality, windows and intervals are intervals,
// and so is what they have in common.
#include "layers/attention_plan.h"

typedef struct Interval {
    int64_t from, to; // queries, `to` excluded
} Interval;

static Interval common(Interval a, Interval b) {
    return (Interval){a.from > b.from ? a.from : b.from, a.to < b.to ? a.to : b.to};
}

int64_t hone_attention_offset(const HoneAttentionOptions *options) {
    return options->causal == HONE_CAUSAL_BOTTOM_RIGHT ? options->keys - options->queries : 0;
}

// The queries that see the key that stands at query `place`, which may be before 0 or past the end.
static Interval seen_by(const HoneAttentionOptions *options, int64_t place) {
    Interval seen = {0, options->queries};
    bool causal = options->causal != HONE_CAUSAL_NONE;
    if (causal) seen = common(seen, (Interval){place, options->queries});
    if (!options->window) return seen;
    const int64_t farthest = (int64_t)1 << 32; // from any query to any key
    int64_t window = options->window < farthest ? options->window : farthest;
    return common(seen, (Interval){causal ? place : place - window + 1, place + window});
}

bool hone_attention_visible(const HoneAttentionOptions *options, int32_t *begin, int32_t *end,
                            double *pairs) {
    int64_t offset = hone_attention_offset(options), queries = options->queries;
    bool hidden = false;
    *pairs = 0;
    for (int64_t key = 0; key < options->keys; key++) {
        Interval seen = seen_by(options, key - offset);
        if (options->begin) seen = common(seen, (Interval){options->begin[key], options->end[key]});
        hidden = hidden || seen.from > 0 || seen.to < queries;
        if (seen.from >= seen.to) seen = (Interval){queries, 0};
        begin[key] = (int32_t)seen.from;
        end[key] = (int32_t)seen.to;
        if (seen.from < seen.to) *pairs += (double)(seen.to - seen.from);
    }
    return hidden;
}
