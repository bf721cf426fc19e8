// SPDX-License-Identifier: Apache-2.0
#include "train/preference.h"

#include <math.h>
#include <string.h>

// One batch of pairs: examples 2i and 2i+1 are the answers of pair i.
typedef struct Pairs {
    int64_t count;
    const Example **examples;
    PreparedBatch prepared;
    float *logprob, *reference; // of each entry; reference of DPO alone
} Pairs;

hone_status hone_pairs_list(const Example *const *pairs, int64_t count, Arena *memory,
                            const Example *const **examples, int64_t *examples_count,
                            HoneError *err) {
    *examples = pairs;
    *examples_count = count;
    if (count == 0 || !pairs[0]->rejected) return HONE_OK;
    const Example **list = hone_arena_calloc(memory, (size_t)(2 * count), sizeof *list);
    if (!list) return hone_fail_memory(err, (size_t)(2 * count) * sizeof *list, "pairs");
    for (int64_t i = 0; i < count; i++) {
        list[2 * i] = pairs[i];
        list[2 * i + 1] = pairs[i]->rejected;
    }
    *examples = list;
    *examples_count = 2 * count;
    return HONE_OK;
}

static float *entries_of(const LossCall *call, const Pairs *pairs) {
    return hone_arena_calloc(call->memory, (size_t)pairs->prepared.batch.entries + 1,
                             sizeof(float));
}

// Log-probabilities of all entries from hidden states; nothing is recorded.
static void measure(const LossCall *call, const Pairs *pairs, Tensor *hidden, float *logprob,
                    double *seconds) {
    HeadLoss head = hone_prepared_head(&pairs->prepared);
    head.measures = true;
    head.logprob = logprob;
    hone_head_cross_entropy(call->tape, hone_model_head(call->model), hidden, &head);
    *seconds += head.seconds;
}

static hone_status measure_reference(Run *run, const LossCall *call, Pairs *pairs,
                                     double *seconds) {
    pairs->reference = entries_of(call, pairs);
    if (!pairs->reference) return hone_fail_memory(call->err, 0, "a reference");
    hone_model_enable_adapters(run->model, false);
    hone_tape_reset(call->tape, false);
    Tensor *hidden = hone_model_forward(call->model, call->tape, &pairs->prepared.model);
    measure(call, pairs, hidden, pairs->reference, seconds);
    hone_model_enable_adapters(run->model, true);
    return hone_tape_status(call->tape, call->err);
}

// ---- formulas ----------------------------------------------------------------------------------

static double log_sigmoid(double x) {
    return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x));
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

// Sum over the targets of an example, whose first is number `first` of the batch.
static double sum_of(const Pairs *pairs, const float *logprob, int64_t first, int64_t targets) {
    double sum = 0;
    for (int64_t k = first; k < first + targets; k++)
        sum += (double)logprob[pairs->prepared.batch.result[k]];
    return sum;
}

static void add_weight(Pairs *pairs, int64_t first, int64_t targets, double weight) {
    for (int64_t k = first; k < first + targets; k++)
        pairs->prepared.weight[pairs->prepared.batch.result[k]] += (float)weight;
}

// What −log p of each target counts for: the loss's derivative by −π or −p̄.
typedef struct PairTerm {
    double loss, margin, chosen, rejected;
} PairTerm;

static PairTerm dpo_term(double beta, double pair, double margin) {
    const double m = beta * margin, slope = pair * beta * sigmoid(-m);
    return (PairTerm){-pair * log_sigmoid(m), m, slope, -slope};
}

// Means of log-probabilities; that of a certain answer has infinite odds and is held a little
// below 0.
static PairTerm orpo_term(double beta, double pair, double chosen, double rejected) {
    const double c = chosen < -1e-9 ? chosen : -1e-9, r = rejected < -1e-9 ? rejected : -1e-9;
    const double o = (c - r) - (log(-expm1(c)) - log(-expm1(r)));
    const double slope = pair * beta * sigmoid(-o);
    return (PairTerm){-pair * beta * log_sigmoid(o), o, slope / -expm1(c), slope / expm1(r)};
}

// The losses of all pairs, and the weights that their gradients have.
static void weigh(const Run *run, Pairs *pairs, PairWeights weights, PairsLoss *result) {
    const bool dpo = run->options.loss == HONE_LOSS_DPO;
    const double beta = run->options.beta;
    memset(pairs->prepared.weight, 0,
           (size_t)pairs->prepared.batch.entries * sizeof *pairs->prepared.weight);
    for (int64_t i = 0, first = 0; i < pairs->count; i++) {
        const int64_t a = pairs->examples[2 * i]->targets, b = pairs->examples[2 * i + 1]->targets;
        const double chosen = sum_of(pairs, pairs->logprob, first, a);
        const double rejected = sum_of(pairs, pairs->logprob, first + a, b);
        PairTerm term;
        if (dpo) {
            const double before = sum_of(pairs, pairs->reference, first, a) -
                                  sum_of(pairs, pairs->reference, first + a, b);
            term = dpo_term(beta, weights.pair, chosen - rejected - before);
        } else {
            term = orpo_term(beta, weights.pair, chosen / (double)a, rejected / (double)b);
            term.chosen = term.chosen / (double)a + weights.target;
            term.rejected /= (double)b;
            term.loss -= weights.target * chosen;
        }
        add_weight(pairs, first, a, term.chosen);
        add_weight(pairs, first + a, b, term.rejected);
        result->loss += term.loss;
        result->preferred += term.margin > 0;
        first += a + b;
    }
}

// ---- the whole ---------------------------------------------------------------------------------

hone_status hone_pairs_loss(Run *run, const LossCall *call, bool gradients,
                            const Example *const *list, int64_t count, PairWeights weights,
                            PairsLoss *result) {
    Pairs pairs = {.count = count};
    int64_t examples;
    const Example *const *both;
    *result = (PairsLoss){0};
    RETURN_IF_ERROR(hone_pairs_list(list, count, call->memory, &both, &examples, call->err));
    pairs.examples = (const Example **)(uintptr_t)both;
    RETURN_IF_ERROR(hone_batch_prepare(call, both, examples, 0, &pairs.prepared));
    pairs.logprob = entries_of(call, &pairs);
    if (!pairs.logprob) return hone_fail_memory(call->err, 0, "a batch of pairs");
    if (run->options.loss == HONE_LOSS_DPO)
        RETURN_IF_ERROR(measure_reference(run, call, &pairs, &result->head_seconds));
    hone_tape_reset(call->tape, gradients);
    Tensor *hidden = hone_model_forward(call->model, call->tape, &pairs.prepared.model);
    measure(call, &pairs, hidden, pairs.logprob, &result->head_seconds);
    weigh(run, &pairs, weights, result);
    if (gradients) {
        HeadLoss head = hone_prepared_head(&pairs.prepared);
        hone_head_cross_entropy(call->tape, hone_model_head(call->model), hidden, &head);
        result->head_seconds += head.seconds;
    }
    return hone_tape_status(call->tape, call->err);
}
