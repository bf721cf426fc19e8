// SPDX-License-Identifier: Apache-2.0
// What hone generate and hone chat share.
#ifndef HONE_CLI_GENERATE_H
#define HONE_CLI_GENERATE_H

#include "loaded.h"

typedef struct GenerateOptions {
    Common common;
    const char *model, *prompt, *system, *template_path;
    TextList adapters;
    int64_t max_tokens, top_k;
    double temperature, top_p;
    bool raw, own_sampling; // none of these three is given: the model's own
    HoneSampling sampling;  // once the model is there
} GenerateOptions;

// Their options into `options`; how many.
int generate_options(GenerateOptions *given, Option *options);
bool is_sampling_given(int argc, char **argv);
// The model with its adapters, and given->sampling. As load_model.
hone_status load_generator(HoneContext *context, GenerateOptions *given, LoadedModel *loaded);

// Sinks: the answer as it comes, or nothing; both stop when interrupted.
bool print_piece(void *user, int32_t token, const char *bytes, size_t length);
bool silent_piece(void *user, int32_t token, const char *bytes, size_t length);

#endif
