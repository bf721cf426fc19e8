// SPDX-License-Identifier: Apache-2.0
// Beam search over one source, apart from any model: which of the likeliest continuations go on,
// which end, and when nothing can get better. The rules are those of transformers' generate, so
// that the same log-probabilities give the same tokens.
#ifndef HONE_TRAIN_BEAM_H
#define HONE_TRAIN_BEAM_H

#include <hone/translate.h>

#include "base/memory.h"

enum { HONE_MOST_BEAMS = 64 };

// A token behind others: what hypotheses begin with alike is there once.
typedef struct BeamNode {
    int32_t token, before; // before: a node, −1: the first
} BeamNode;

typedef struct BeamRun {
    int32_t node;
    float logprob; // of all its tokens
} BeamRun;

typedef struct BeamEnd {
    int32_t node;
    int64_t length;
    float logprob;
    double score; // logprob / penalty(length)
    bool ended;   // by an end token, which is its last one
} BeamEnd;

// A continuation of a run.
typedef struct BeamCandidate {
    float logprob; // of all tokens
    int32_t run, token;
    bool ends;
} BeamCandidate;

typedef struct Beam {
    const HoneTranslateOptions *options;
    BeamNode *nodes;
    int64_t node_count, node_capacity;
    BeamRun running[HONE_MOST_BEAMS];
    int32_t
        parent[HONE_MOST_BEAMS];   // of each running one: its run before the last step, not falling
    int running_count;             // 0: it is done
    BeamEnd ends[HONE_MOST_BEAMS]; // best first
    int end_count;
    int64_t length; // tokens so far
} Beam;

// One hypothesis of no tokens. Free with hone_beam_free.
void hone_beam_start(Beam *beam, const HoneTranslateOptions *options);
void hone_beam_free(Beam *beam);
// How many candidates a step looks at: (1 + end_tokens)·beams, or one where there is one beam:
// greedy search, which ends at its first end.
int hone_beam_width(const HoneTranslateOptions *options, int end_tokens);
// All candidates' likeliest, the best first. The first `beams` of them end where their tokens say
// so or the last token is reached; the best `beams` others go on, ordered by their runs. Ends are
// kept by logprob / penalty. Done: no room is left, or `beams` have ended and the likeliest run,
// ended as it is, would not be among them (early: or `beams` have ended).
hone_status hone_beam_step(Beam *beam, const BeamCandidate *candidates, int count, HoneError *err);
// The tokens of a node and those before it, `length` of them.
void hone_beam_tokens(const Beam *beam, int32_t node, int64_t length, int32_t *tokens);
// length^α, or ((5 + length)/6)^α.
double hone_beam_penalty(const HoneTranslateOptions *options, int64_t length);

#endif
