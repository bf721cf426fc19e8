// SPDX-License-Identifier: Apache-2.0
// Generation on a key/value cache that survives from call to call.
#include "train/session.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "base/system.h"
#include "train/decode.h"

hone_status hone_generator_create(HoneModel *model, HoneGenerator **generator) {
    HoneError *err = hone_begin(model->context);
    *generator = NULL;
    if (model->config.encoder_layers > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s is an encoder-decoder, which goes on from no prompt: hone translate",
                         model->name);
    RETURN_IF_ERROR(hone_need_decoder(model, "it continues no text"));
    HoneGenerator *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a generator");
    made->model = model;
    size_t vocabulary = (size_t)model->config.vocabulary;
    made->tape = hone_tape_create(&model->context->kernels, (TapeOptions){.gradients = false});
    made->logits = hone_alloc(vocabulary * sizeof *made->logits);
    made->candidates = hone_alloc(vocabulary * sizeof *made->candidates);
    if (!made->tape || !made->logits || !made->candidates) {
        hone_generator_free(made);
        return hone_fail_memory(err, vocabulary * 8, "a generator");
    }
    *generator = made;
    return HONE_OK;
}

void hone_generator_free(HoneGenerator *generator) {
    if (!generator) return;
    hone_cache_free(generator->cache);
    hone_tape_free(generator->tape);
    hone_free(generator->seen);
    hone_free(generator->logits);
    hone_free(generator->candidates);
    hone_free(generator);
}

hone_status hone_generator_reserve(HoneGenerator *generator, int64_t length, HoneError *err) {
    if (length <= generator->capacity) return HONE_OK;
    int64_t capacity = 512;
    while (capacity < length) capacity *= 2;
    if (capacity > generator->model->config.context) capacity = generator->model->config.context;
    hone_cache_free(generator->cache);
    hone_free(generator->seen);
    generator->cache = NULL;
    generator->capacity = 0;
    generator->seen = hone_alloc((size_t)capacity * sizeof *generator->seen);
    if (!generator->seen) return hone_fail_memory(err, (size_t)capacity * 4, "a generator");
    RETURN_IF_ERROR(hone_cache_create(generator->model->model, capacity, &generator->cache, err));
    generator->capacity = capacity;
    return HONE_OK;
}

static bool sampling_key(const HoneModel *model, const char *name, double low, double high,
                         double *value) {
    const GgufFile *file = &model->file;
    int64_t whole;
    if (!hone_gguf_key(file, name)) return false;
    if (hone_gguf_float(file, name, value, NULL) != HONE_OK) {
        if (hone_gguf_int(file, name, &whole, NULL) != HONE_OK) return false;
        *value = (double)whole;
    }
    return *value >= low && *value <= high;
}

void hone_model_sampling(const HoneModel *model, HoneSampling *sampling) {
    double temperature = 1, share = 0, likeliest = 0;
    bool given = sampling_key(model, "general.sampling.temp", 0, 100, &temperature);
    if (sampling_key(model, "general.sampling.top_p", 0, 1, &share)) given = true;
    if (sampling_key(model, "general.sampling.top_k", 0, 1 << 30, &likeliest)) given = true;
    sampling->temperature = given ? (float)temperature : 0;
    sampling->top_p = given ? (float)share : 0;
    sampling->top_k = given ? (int)likeliest : 0;
}

// ---- sampling ----------------------------------------------------------------------------------

int32_t hone_argmax(const float *logits, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

// Move the `keep` largest logits to the front of candidates, largest first (a partial heap sort:
// the vocabulary is long and few are wanted).
static void sift(int32_t *heap, int64_t count, int64_t at, const float *logits) {
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && logits[heap[child + 1]] > logits[heap[child]]) child++;
        if (logits[heap[at]] >= logits[heap[child]]) return;
        int32_t item = heap[at];
        heap[at] = heap[child];
        heap[child] = item;
    }
}

static int32_t draw(HoneGenerator *generator, const HoneSampling *sampling, RandomStream *stream) {
    int64_t vocabulary = generator->model->config.vocabulary;
    const float *logits = generator->logits;
    if (sampling->temperature <= 0) return hone_argmax(logits, vocabulary);
    int32_t *heap = generator->candidates;
    for (int64_t i = 0; i < vocabulary; i++) heap[i] = (int32_t)i;
    for (int64_t i = vocabulary / 2 - 1; i >= 0; i--) sift(heap, vocabulary, i, logits);
    double inverse = 1.0 / (double)sampling->temperature, total = 0;
    double largest = (double)logits[heap[0]];
    for (int64_t i = 0; i < vocabulary; i++) total += exp(((double)logits[i] - largest) * inverse);
    // Taken from the largest down, until top_k or top_p is reached: what is kept lies at the end.
    int64_t limit =
        sampling->top_k > 0 && sampling->top_k < vocabulary ? sampling->top_k : vocabulary;
    double share = sampling->top_p > 0 && sampling->top_p < 1 ? (double)sampling->top_p : 2.0;
    double kept = 0;
    int64_t left = vocabulary, count = 0;
    while (count < limit && left > 0 && kept < share * total) {
        kept += exp(((double)logits[heap[0]] - largest) * inverse);
        int32_t top = heap[0];
        heap[0] = heap[--left];
        heap[left] = top;
        sift(heap, left, 0, logits);
        count++;
    }
    double target = (double)hone_random_uniform(stream) * kept, sum = 0;
    for (int64_t i = vocabulary - 1; i > left; i--) {
        sum += exp(((double)logits[heap[i]] - largest) * inverse);
        if (sum > target) return heap[i];
    }
    return heap[left < vocabulary ? left : vocabulary - 1];
}

// ---- decoding ----------------------------------------------------------------------------------

hone_status hone_generator_feed(HoneGenerator *generator, const int32_t *tokens, int64_t count,
                                HoneError *err) {
    int64_t held = hone_cache_length(generator->cache), same = 0;
    while (same < held && same < count - 1 && generator->seen[same] == tokens[same]) same++;
    hone_cache_truncate(generator->cache, same);
    memcpy(generator->seen + same, tokens + same, (size_t)(count - same) * sizeof *tokens);
    return hone_model_decode(generator->model->model, generator->tape, generator->cache,
                             tokens + same, count - same, generator->logits, err);
}

static hone_status append_token(HoneGenerated *result, int64_t *capacity, int32_t token,
                                HoneError *err) {
    if (result->count == *capacity) {
        int64_t larger = *capacity ? *capacity * 2 : 64;
        int32_t *grown = hone_realloc(result->tokens, (size_t)result->count * sizeof *grown,
                                      (size_t)larger * sizeof *grown);
        if (!grown) return hone_fail_memory(err, (size_t)larger * sizeof *grown, "tokens");
        result->tokens = grown;
        *capacity = larger;
    }
    result->tokens[result->count++] = token;
    return HONE_OK;
}

static hone_status decode_loop(HoneGenerator *generator, const HoneSampling *sampling,
                               HoneTokenSink sink, void *user, TextBuffer *text,
                               HoneGenerated *result, HoneError *err) {
    HoneModel *model = generator->model;
    RandomStream stream = hone_random_stream(sampling->seed, RANDOM_SAMPLE, 0);
    int64_t limit = sampling->max_tokens > 0 ? sampling->max_tokens : 256, capacity = 0;
    while (result->count < limit) {
        int32_t token = draw(generator, sampling, &stream);
        if (!isfinite(generator->logits[token]))
            return hone_fail(err, HONE_ERROR_NUMERIC,
                             "the logits after %lld tokens are not finite: the model or an adapter "
                             "holds NaN or infinity, or makes it",
                             (long long)hone_cache_length(generator->cache));
        if (hone_token_ends(model->tokenizer, token)) {
            result->ended = true;
            return HONE_OK;
        }
        RETURN_IF_ERROR(append_token(result, &capacity, token, err));
        TokenizerText piece = hone_token_bytes(model->tokenizer, token, false);
        hone_text_append(text, piece.data, piece.length);
        if (sink && !sink(user, token, piece.data, piece.length)) return HONE_OK;
        int64_t length = hone_cache_length(generator->cache);
        if (length >= generator->capacity || result->count == limit) return HONE_OK;
        generator->seen[length] = token;
        RETURN_IF_ERROR(hone_model_decode(model->model, generator->tape, generator->cache, &token,
                                          1, generator->logits, err));
    }
    return HONE_OK;
}

hone_status hone_generator_loss(HoneGenerator *generator, const Example *const *examples,
                                int64_t count, Arena *memory, BatchLoss *result) {
    const LossCall call = {.model = generator->model->model,
                           .tape = generator->tape,
                           .cache = generator->cache,
                           .by_target = true,
                           .memory = memory,
                           .err = &generator->model->context->error};
    hone_tape_reset(generator->tape, false);
    return hone_batch_loss(&call, examples, count, 1.0, result);
}

hone_status hone_generate_tokens(HoneGenerator *generator, const int32_t *tokens, int64_t count,
                                 const HoneSampling *sampling, HoneTokenSink sink, void *user,
                                 HoneGenerated *result) {
    HoneError *err = &generator->model->context->error;
    int64_t context = generator->model->config.context;
    const bool shorter = sampling->context > 0 && sampling->context < context;
    if (shorter) context = sampling->context;
    *result = (HoneGenerated){.prompt_tokens = count};
    if (count == 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "the prompt is empty: there is nothing to go on "
                         "from");
    if (count >= context)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "the prompt has %lld tokens, %s is %lld",
                         (long long)count, shorter ? "the limit" : "the model's context",
                         (long long)context);
    int64_t want = sampling->max_tokens > 0 ? sampling->max_tokens : 256, room = context - count;
    RETURN_IF_ERROR(hone_generator_reserve(generator, count + (want < room ? want : room), err));
    HoneSampling bounded = *sampling;
    // Where nobody counts them, the last one needs no place: it is never computed.
    if (want > room) bounded.max_tokens = sampling->context > 0 ? room : room + 1;
    TextBuffer text = {0};
    hone_text_append(&text, "", 0);
    double start = hone_seconds();
    hone_status status = hone_generator_feed(generator, tokens, count, err);
    result->prompt_seconds = hone_seconds() - start;
    start = hone_seconds();
    if (status == HONE_OK)
        status = decode_loop(generator, &bounded, sink, user, &text, result, err);
    result->seconds = hone_seconds() - start;
    if (status == HONE_OK && text.failed) status = hone_fail_memory(err, text.length, "text");
    if (status != HONE_OK) {
        hone_text_free(&text);
        hone_free(result->tokens);
        *result = (HoneGenerated){0};
        return status;
    }
    result->text = text.data;
    return HONE_OK;
}

static hone_status check_sampling(const HoneSampling *sampling, HoneError *err) {
    if (!(sampling->temperature >= 0 && sampling->temperature <= 100))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "temperature is %g, want 0…100",
                         (double)sampling->temperature);
    if (!(sampling->top_p >= 0 && sampling->top_p <= 1))
        return hone_fail(err, HONE_ERROR_ARGUMENT, "top-p is %g, want 0…1",
                         (double)sampling->top_p);
    if (sampling->top_k < 0 || sampling->max_tokens < 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "top-k is %d and max-tokens %lld, want 0 or more", sampling->top_k,
                         (long long)sampling->max_tokens);
    return HONE_OK;
}

hone_status hone_prompt_tokens(HoneModel *model, const char *prompt, size_t length,
                               int32_t **tokens, int64_t *count, HoneError *err) {
    TokenList list = {0};
    RETURN_IF_ERROR(hone_tokenize_append(model->tokenizer, prompt, length, true, &list, err));
    const int32_t bos = hone_tokenizer_bos(model->tokenizer);
    const bool add = bos >= 0 && hone_tokenizer_adds_bos(model->tokenizer) &&
                     !(list.count > 0 && list.tokens[0] == bos);
    hone_status status = HONE_OK;
    *count = list.count + add;
    *tokens = hone_alloc((size_t)(*count + 1) * sizeof **tokens);
    if (!*tokens) status = hone_fail_memory(err, (size_t)*count * sizeof **tokens, "tokens");
    if (*tokens && add) (*tokens)[0] = bos;
    if (*tokens && list.count)
        memcpy(*tokens + add, list.tokens, (size_t)list.count * sizeof **tokens);
    hone_token_list_free(&list);
    return status;
}

hone_status hone_generate_text(HoneGenerator *generator, const char *prompt, size_t length,
                               const HoneSampling *sampling, HoneTokenSink sink, void *user,
                               HoneGenerated *result) {
    HoneModel *model = generator->model;
    HoneError *err = hone_begin(model->context);
    *result = (HoneGenerated){0};
    RETURN_IF_ERROR(check_sampling(sampling, err));
    int32_t *tokens;
    int64_t count;
    RETURN_IF_ERROR(hone_prompt_tokens(model, prompt, length, &tokens, &count, err));
    hone_status status =
        hone_generate_tokens(generator, tokens, count, sampling, sink, user, result);
    hone_free(tokens);
    return status;
}

hone_status hone_generate_chat(HoneGenerator *generator, const HoneMessage *messages, int64_t count,
                               const HoneSampling *sampling, HoneTokenSink sink, void *user,
                               HoneGenerated *result) {
    HoneModel *model = generator->model;
    HoneError *err = hone_begin(model->context);
    *result = (HoneGenerated){0};
    RETURN_IF_ERROR(check_sampling(sampling, err));
    ChatMessage *chat = hone_calloc((size_t)(count ? count : 1), sizeof *chat);
    if (!chat) return hone_fail_memory(err, (size_t)count * sizeof *chat, "messages");
    for (int64_t i = 0; i < count; i++)
        chat[i] = (ChatMessage){messages[i].role, messages[i].content, true, NULL};
    DataOptions options = hone_model_data_options(model, NULL);
    TokenList list = {0};
    hone_status status = hone_chat_prompt(&options, chat, count, &list, err);
    if (status == HONE_OK)
        status =
            hone_generate_tokens(generator, list.tokens, list.count, sampling, sink, user, result);
    hone_token_list_free(&list);
    hone_free(chat);
    return status;
}
