// SPDX-License-Identifier: Apache-2.0
// Generation, greedy or sampled, on a key/value cache that is kept between calls.
#ifndef HONE_GENERATE_H
#define HONE_GENERATE_H

#include <hone/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct HoneMessage {
    const char *role, *content; // NUL-terminated UTF-8, borrowed
} HoneMessage;

typedef struct HoneSampling {
    int64_t max_tokens; // 0: 256
    float temperature;  // 0: greedy
    float top_p;        // 0 or 1: off
    int top_k;          // 0: off
    uint64_t seed;
    int64_t context; // tokens of prompt and answer together, at most; 0: the model's context
} HoneSampling;

// How the model's own file would have the next token drawn: generation_config.json's with
// do_sample, a GGUF file's general.sampling keys; greedy where it says nothing that can be. Of
// *sampling temperature, top_p and top_k are written.
void hone_model_sampling(const HoneModel *model, HoneSampling *sampling);

// Called for each new token with its bytes (which may cut a character in two). false stops.
typedef bool (*HoneTokenSink)(void *user, int32_t token, const char *bytes, size_t length);

typedef struct HoneGenerator HoneGenerator;

// A generator remembers the tokens it has computed; a prompt that begins with them is not computed
// again, so a conversation costs only its new words. Caller frees before the model.
hone_status hone_generator_create(HoneModel *model, HoneGenerator **generator);
void hone_generator_free(HoneGenerator *generator);

typedef struct HoneGenerated {
    char *text;      // without the end token; caller frees with hone_free
    int32_t *tokens; // caller frees with hone_free
    int64_t count;
    int64_t prompt_tokens;
    bool ended; // an end token was drawn (else max_tokens, a full context, or the sink stopped it)
    double prompt_seconds, seconds;
} HoneGenerated;

// Continue plain text (raw), in which spelled-out control tokens are those tokens; or answer a
// conversation through the chat template, where only the template makes them: what a message spells
// out is text. (A role is the template's to check: do not pass on one that a stranger wrote.) sink
// may be NULL.
// HONE_ERROR_ARGUMENT when the prompt does not fit the model's context.
hone_status hone_generate_text(HoneGenerator *generator, const char *prompt, size_t length,
                               const HoneSampling *sampling, HoneTokenSink sink, void *user,
                               HoneGenerated *result);
hone_status hone_generate_chat(HoneGenerator *generator, const HoneMessage *messages, int64_t count,
                               const HoneSampling *sampling, HoneTokenSink sink, void *user,
                               HoneGenerated *result);

#ifdef __cplusplus
}
#endif
#endif
