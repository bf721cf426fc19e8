// SPDX-License-Identifier: Apache-2.0
// Evaluation: loss, perplexity, accuracy, log-probabilities, ranked choices, greedy answers.
#ifndef HONE_EVALUATE_H
#define HONE_EVALUATE_H

#include <hone/data.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneEvaluateOptions {
    bool logprobs;              // give each target's log-probability in the example's report
    bool generate;              // decode greedily from each prompt and compare with the answer
    int64_t max_tokens;         // of a generated answer; 0: 64
    const char *const *choices; // rank these answers after each prompt; NULL: none
    int64_t choice_count;
    int64_t limit; // evaluate the first `limit` examples; 0: all
} HoneEvaluateOptions;

// What is known of one example; pointers are valid during the call only.
typedef struct HoneEvaluated {
    int64_t index; // in the data
    int line;
    double loss; // mean over its targets
    int64_t targets;
    const int32_t *tokens;       // the targets' tokens, in order (logprobs wanted)
    const float *logprobs;       // natural log
    const char *prompt;          // rendered text of the prompt; NULL without generate or choices
    const char *answer;          // the right one; NULL when the data has none
    const char *generated;       // NULL unless wanted
    bool exact;                  // generated equals answer, outer white space aside
    int64_t choice;              // index of the best choice, -1 unless wanted
    bool choice_right;           // choices[choice] equals answer
    const double *choice_scores; // (choice_count) log-probability of each, its end token included
} HoneEvaluated;
// false stops the evaluation (HONE_INTERRUPTED).
typedef bool (*HoneEvaluatedSink)(void *user, const HoneEvaluated *example);

typedef struct HoneEvaluation {
    double loss; // mean negative log-likelihood over all target tokens, natural log
    double perplexity;
    double accuracy; // share of target tokens that are the model's most likely token
    int64_t tokens, examples;
    double exact_match, choice_accuracy; // -1 unless wanted
    double seconds;
} HoneEvaluation;

// sink may be NULL.
hone_status hone_evaluate(HoneModel *model, const HoneData *data,
                          const HoneEvaluateOptions *options, HoneEvaluatedSink sink, void *user,
                          HoneEvaluation *result);

// ln p(tokens[i + 1] | tokens[0 … i]) into logprobs[i], for i = 0 … count − 2; logprobs (count − 1)
// is the caller's, as is tokens (count). HONE_ERROR_ARGUMENT: fewer than two tokens, more than the
// model's context, or one outside its vocabulary. Nothing is written then.
hone_status hone_log_probabilities(HoneModel *model, const int32_t *tokens, int64_t count,
                                   float *logprobs);

#ifdef __cplusplus
}
#endif
#endif
