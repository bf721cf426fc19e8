// SPDX-License-Identifier: Apache-2.0
// Beam search on a table of log-probabilities: with room for all hypotheses it finds the best there
// is; with little room it keeps to its rules.
#include "train/beam.h"

#include <math.h>

#include "base/random.h"
#include "check.h"

enum { V = 4, LONGEST = 4, MOST = 64 }; // token 0 ends

// log p of a token behind another at a step.
static double table[LONGEST][V][V];

static void draw_table(uint64_t seed) {
    RandomStream random = hone_random_stream(seed, RANDOM_TEST, 0);
    for (int step = 0; step < LONGEST; step++)
        for (int from = 0; from < V; from++) {
            double sum = 0;
            for (int to = 0; to < V; to++) {
                table[step][from][to] = (double)hone_random_normal(&random);
                sum += exp(table[step][from][to]);
            }
            for (int to = 0; to < V; to++) table[step][from][to] -= log(sum);
        }
}

static int by_logprob(const void *left, const void *right) {
    const BeamCandidate *a = left, *b = right;
    return (a->logprob < b->logprob) - (a->logprob > b->logprob);
}

static void run(Beam *beam, const HoneTranslateOptions *options) {
    HoneError err = {0};
    hone_beam_start(beam, options);
    while (beam->running_count > 0) {
        BeamCandidate all[HONE_MOST_BEAMS * V];
        int count = 0;
        for (int r = 0; r < beam->running_count; r++) {
            const int32_t node = beam->running[r].node;
            const int32_t from = node < 0 ? 0 : beam->nodes[node].token;
            for (int32_t to = 0; to < V; to++)
                all[count++] = (BeamCandidate){.logprob = beam->running[r].logprob +
                                                          (float)table[beam->length][from][to],
                                               .run = r,
                                               .token = to,
                                               .ends = to == 0};
        }
        qsort(all, (size_t)count, sizeof *all, by_logprob);
        const int width = hone_beam_width(options, 1);
        CHECK_INT(hone_beam_step(beam, all, count < width ? count : width, &err), HONE_OK);
        for (int r = 1; r < beam->running_count; r++) CHECK(beam->parent[r - 1] <= beam->parent[r]);
    }
}

// The best score of all sequences that go on from these.
static double best_of(const HoneTranslateOptions *options, int length, int last, double logprob) {
    double best = (double)-INFINITY;
    for (int to = 0; to < V; to++) {
        const double sum = logprob + table[length][last][to];
        const bool ends = to == 0 || length + 1 == LONGEST;
        const double score = ends ? sum / hone_beam_penalty(options, length + 1)
                                  : best_of(options, length + 1, to, sum);
        if (score > best) best = score;
    }
    return best;
}

static void with_room_for_all_it_finds_the_best(void) {
    static const double alphas[] = {0, 0.6, 1, 2};
    for (uint64_t seed = 0; seed < 20; seed++)
        for (int a = 0; a < 8; a++) {
            const HoneTranslateOptions options = {.beams = MOST,
                                                  .length_penalty = alphas[a % 4],
                                                  .gnmt = a >= 4,
                                                  .max_tokens = LONGEST};
            Beam beam;
            draw_table(seed);
            run(&beam, &options);
            CHECK_NEAR(beam.ends[0].score, best_of(&options, 0, 0, 0), 1e-5, 0);
            for (int i = 1; i < beam.end_count; i++)
                CHECK(beam.ends[i - 1].score >= beam.ends[i].score);
            hone_beam_free(&beam);
        }
}

static void one_beam_is_greedy(void) {
    for (uint64_t seed = 0; seed < 20; seed++) {
        const HoneTranslateOptions options = {
            .beams = 1, .length_penalty = 1, .max_tokens = LONGEST};
        Beam beam;
        int32_t tokens[LONGEST];
        draw_table(seed);
        run(&beam, &options);
        CHECK_INT(beam.end_count, 1);
        hone_beam_tokens(&beam, beam.ends[0].node, beam.ends[0].length, tokens);
        double sum = 0;
        for (int32_t i = 0, last = 0; i < beam.ends[0].length; last = tokens[i++]) {
            for (int v = 0; v < V; v++) CHECK(table[i][last][tokens[i]] >= table[i][last][v]);
            sum += table[i][last][tokens[i]];
            CHECK((tokens[i] == 0) == (i + 1 == beam.ends[0].length && beam.ends[0].ended));
        }
        CHECK_NEAR((double)beam.ends[0].logprob, sum, 1e-5, 0);
        hone_beam_free(&beam);
    }
}

// GNMT's penalty of a length, and log p / length.
static void penalties(void) {
    HoneTranslateOptions options = {.length_penalty = 0.5};
    CHECK_NEAR(hone_beam_penalty(&options, 9), 3, 1e-12, 0);
    options.gnmt = true;
    CHECK_NEAR(hone_beam_penalty(&options, 19), 2, 1e-12, 0);
    options.length_penalty = 0;
    CHECK_NEAR(hone_beam_penalty(&options, 19), 1, 1e-12, 0);
}

// Two ends are there after the first two steps: early stops then, and a long one wins otherwise.
static void early_or_until_nothing_gets_better(void) {
    for (int step = 0; step < LONGEST; step++)
        for (int from = 0; from < V; from++)
            for (int to = 0; to < V; to++)
                table[step][from][to] = log(to == 0 ? 0.3 : to == 1 ? 0.69 : 0.005);
    HoneTranslateOptions options = {
        .beams = 2, .length_penalty = 1, .max_tokens = LONGEST, .early = true};
    Beam beam;
    run(&beam, &options);
    CHECK_INT(beam.length, 2);
    CHECK_INT(beam.ends[0].length, 2);
    hone_beam_free(&beam);
    options.early = false;
    run(&beam, &options);
    CHECK_INT(beam.length, LONGEST);
    CHECK_INT(beam.ends[0].length, LONGEST);
    CHECK(!beam.ends[0].ended);
    hone_beam_free(&beam);
}

int main(void) {
    RUN(with_room_for_all_it_finds_the_best);
    RUN(one_beam_is_greedy);
    RUN(penalties);
    RUN(early_or_until_nothing_gets_better);
    return check_report();
}
