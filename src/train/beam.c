// SPDX-License-Identifier: Apache-2.0
#include "train/beam.h"

#include <math.h>

#include "base/error.h"

void hone_beam_start(Beam *beam, const HoneTranslateOptions *options) {
    *beam = (Beam){.options = options, .running_count = 1};
    beam->running[0].node = -1;
}

void hone_beam_free(Beam *beam) {
    hone_free(beam->nodes);
    beam->nodes = NULL;
}

int hone_beam_width(const HoneTranslateOptions *options, int end_tokens) {
    return options->beams == 1 ? 1 : (1 + end_tokens) * (int)options->beams;
}

double hone_beam_penalty(const HoneTranslateOptions *options, int64_t length) {
    const double base = options->gnmt ? (5.0 + (double)length) / 6.0 : (double)length;
    return pow(base, options->length_penalty);
}

static hone_status add_node(Beam *beam, const BeamCandidate *candidate, int32_t *node,
                            HoneError *err) {
    if (beam->node_count == beam->node_capacity) {
        const int64_t larger = beam->node_capacity ? 2 * beam->node_capacity : 256;
        BeamNode *grown = hone_realloc(beam->nodes, (size_t)beam->node_count * sizeof *grown,
                                       (size_t)larger * sizeof *grown);
        if (!grown) return hone_fail_memory(err, (size_t)larger * sizeof *grown, "hypotheses");
        beam->nodes = grown;
        beam->node_capacity = larger;
    }
    *node = (int32_t)beam->node_count++;
    beam->nodes[*node] = (BeamNode){candidate->token, beam->running[candidate->run].node};
    return HONE_OK;
}

// Into the ends, the best first and `beams` at most; equal ones as they came.
static void keep_end(Beam *beam, const BeamEnd *end) {
    const int most = (int)beam->options->beams;
    int at = beam->end_count;
    while (at > 0 && beam->ends[at - 1].score < end->score) at--;
    if (at == most) return;
    if (beam->end_count < most) beam->end_count++;
    for (int i = beam->end_count - 1; i > at; i--) beam->ends[i] = beam->ends[i - 1];
    beam->ends[at] = *end;
}

// By the run it comes from, so that those of one run, and of one node, stand together.
static void add_run(Beam *beam, BeamRun run, int32_t parent) {
    int at = beam->running_count++;
    for (; at > 0 && beam->parent[at - 1] > parent; at--) {
        beam->running[at] = beam->running[at - 1];
        beam->parent[at] = beam->parent[at - 1];
    }
    beam->running[at] = run;
    beam->parent[at] = parent;
}

// Whether the likeliest run could still become one of the best ends.
static bool can_improve(const Beam *beam, float likeliest) {
    const int most = (int)beam->options->beams;
    if (beam->running_count == 0) return false;
    if (beam->end_count < most) return true;
    if (beam->options->early) return false;
    const double best = (double)likeliest / hone_beam_penalty(beam->options, beam->length);
    return best > beam->ends[most - 1].score;
}

hone_status hone_beam_step(Beam *beam, const BeamCandidate *candidates, int count, HoneError *err) {
    const int most = (int)beam->options->beams;
    const bool last = beam->length + 1 == beam->options->max_tokens;
    const double penalty = hone_beam_penalty(beam->options, beam->length + 1);
    int32_t node[HONE_MOST_BEAMS];
    int going[HONE_MOST_BEAMS], goes = 0;
    for (int i = 0; i < count; i++) {
        const BeamCandidate *candidate = &candidates[i];
        const bool ends = candidate->ends || last;
        if (ends ? i >= most : goes == most) continue;
        int32_t made = -1;
        RETURN_IF_ERROR(add_node(beam, candidate, &made, err));
        if (ends) {
            keep_end(beam, &(BeamEnd){.node = made,
                                      .length = beam->length + 1,
                                      .logprob = candidate->logprob,
                                      .score = (double)candidate->logprob / penalty,
                                      .ended = candidate->ends});
        } else {
            node[goes] = made;
            going[goes++] = i;
        }
    }
    beam->length++;
    beam->running_count = 0;
    for (int i = 0; i < goes; i++) {
        const BeamCandidate *candidate = &candidates[going[i]];
        add_run(beam, (BeamRun){node[i], candidate->logprob}, candidate->run);
    }
    if (goes == 0 || !can_improve(beam, candidates[going[0]].logprob)) beam->running_count = 0;
    return HONE_OK;
}

void hone_beam_tokens(const Beam *beam, int32_t node, int64_t length, int32_t *tokens) {
    for (int64_t i = length - 1; i >= 0; i--) {
        tokens[i] = beam->nodes[node].token;
        node = beam->nodes[node].before;
    }
}
