// SPDX-License-Identifier: Apache-2.0
// Vectors of texts: packed batches without padding, pooled and normalised.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"
#include "train/session.h"

#include <hone/embed.h>

hone_status hone_need_decoder(HoneModel *model, const char *why) {
    if (!hone_model_is_encoder(model->model)) return HONE_OK;
    return hone_fail(
        &model->context->error, HONE_ERROR_UNSUPPORTED,
        "%s: a %s model is an encoder: %s; hone embed makes vectors of texts with it, hone "
        "finetune --task classify teaches it classes",
        model->name, model->config.architecture, why);
}

hone_status hone_need_encoder(HoneModel *model) {
    if (hone_model_is_encoder(model->model)) return HONE_OK;
    return hone_fail(&model->context->error, HONE_ERROR_UNSUPPORTED,
                     "%s: a %s model is no encoder; vectors are made by bert", model->name,
                     model->config.architecture);
}

// ---- what the model's file says ----------------------------------------------------------------

static HonePooling pooling_of(const GgufFile *file, const char *architecture) {
    static const char *const names[] = {"", "mean", "cls", "max"};
    char key[96];
    GgufString text;
    int64_t number = 0;
    if (hone_gguf_key(file, "hone.pooling") &&
        hone_gguf_string(file, "hone.pooling", &text, NULL) == HONE_OK)
        for (int i = 1; i < 4; i++)
            if (text.length == strlen(names[i]) && memcmp(text.data, names[i], text.length) == 0)
                return (HonePooling)i;
    snprintf(key, sizeof key, "%s.pooling_type", architecture);
    if (hone_gguf_key(file, key)) hone_gguf_int(file, key, &number, NULL);
    return number == 2 ? HONE_POOLING_CLS : HONE_POOLING_MEAN;
}

void hone_embed_options(const HoneModel *model, HoneEmbedOptions *options) {
    const GgufFile *file = &model->file;
    if (options->pooling == HONE_POOLING_AUTO)
        options->pooling = pooling_of(file, model->config.architecture);
    if (options->normalize == HONE_NORMALIZE_AUTO) {
        const GgufKey *key = hone_gguf_key(file, "hone.normalize");
        options->normalize =
            key && key->type == GGUF_BOOL && key->value.u ? HONE_NORMALIZE_ON : HONE_NORMALIZE_OFF;
    }
    if (options->max_length > 0) return;
    options->max_length = model->config.context;
    int64_t length;
    if (hone_gguf_key(file, "hone.max_length") &&
        hone_gguf_int(file, "hone.max_length", &length, NULL) == HONE_OK && length > 2 &&
        length < options->max_length)
        options->max_length = length;
}

// ---- batches -----------------------------------------------------------------------------------

enum { BATCH_TOKENS = 2048, BATCH_TEXTS = 512 };

typedef struct Embedding {
    HoneModel *model;
    const HoneEmbedOptions *options;
    const Example *const *examples; // by length
    float *vectors;                 // (count, C), in the data's order
    const Example *first;           // of the data
    Tape *tape;
    float *pooled; // (BATCH_TEXTS, C)
    Arena memory;
    HoneError *err;
} Embedding;

static int longer_first(const void *left, const void *right) {
    const Example *a = *(const Example *const *)left, *b = *(const Example *const *)right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a < b ? -1 : a > b;
}

ModelBatch hone_text_model_batch(const TextBatch *texts) {
    return (ModelBatch){.tokens = texts->tokens,
                        .token = texts->token,
                        .position = texts->position,
                        .begin = texts->begin,
                        .end = texts->end,
                        .path = texts->path,
                        .type = texts->type,
                        .rows = texts->tokens};
}

static hone_status finish_vector(const Embedding *embedding, const Example *example, float *x) {
    const int64_t C = embedding->model->config.channels;
    double squares = 0;
    for (int64_t c = 0; c < C; c++) squares += (double)x[c] * (double)x[c];
    if (!isfinite(squares))
        return hone_fail(embedding->err, HONE_ERROR_NUMERIC,
                         "the vector of line %d has numbers that are not finite", example->line);
    if (embedding->options->normalize != HONE_NORMALIZE_ON) return HONE_OK;
    const double length = fmax(sqrt(squares), 1e-12); // as torch.nn.functional.normalize
    for (int64_t c = 0; c < C; c++) x[c] = (float)((double)x[c] / length);
    return HONE_OK;
}

static hone_status run_batch(Embedding *embedding, int64_t begin, int64_t count) {
    const HonePooling pooling = embedding->options->pooling;
    const size_t C = (size_t)embedding->model->config.channels;
    Model *model = embedding->model->model;
    Tape *tape = embedding->tape;
    TextBatch texts;
    hone_tape_reset(tape, false);
    hone_arena_reset(&embedding->memory);
    RETURN_IF_ERROR(hone_texts_pack(embedding->examples + begin, count, &embedding->memory, &texts,
                                    embedding->err));
    ModelBatch batch = hone_text_model_batch(&texts);
    if (pooling == HONE_POOLING_CLS) {
        batch.row = texts.first;
        batch.rows = count;
    }
    Tensor *x = hone_model_forward(model, tape, &batch);
    if (pooling != HONE_POOLING_CLS)
        x = hone_pool_rows(tape, pooling == HONE_POOLING_MAX, x, texts.first, count);
    hone_tape_read(tape, x, embedding->pooled);
    RETURN_IF_ERROR(hone_tape_status(tape, embedding->err));
    for (int64_t i = 0; i < count; i++) {
        const Example *example = embedding->examples[begin + i];
        float *pooled = embedding->pooled + (size_t)i * C;
        RETURN_IF_ERROR(finish_vector(embedding, example, pooled));
        memcpy(embedding->vectors + (size_t)(example - embedding->first) * C, pooled,
               C * sizeof(float));
    }
    return HONE_OK;
}

// As many as fit into a batch, at least one.
static int64_t batch_count(const Embedding *embedding, int64_t begin, int64_t count) {
    int64_t texts = 0, tokens = 0;
    while (begin + texts < count && texts < BATCH_TEXTS) {
        tokens += embedding->examples[begin + texts]->count;
        if (texts > 0 && tokens > BATCH_TOKENS) break;
        texts++;
    }
    return texts;
}

static hone_status embed(Embedding *embedding, int64_t count, HoneEmbedSink sink, void *user) {
    const size_t C = (size_t)embedding->model->config.channels;
    HoneError *err = embedding->err;
    embedding->tape =
        hone_tape_create(&embedding->model->context->kernels, (TapeOptions){.gradients = false});
    embedding->pooled = hone_alloc(BATCH_TEXTS * C * sizeof(float));
    if (!embedding->tape || !embedding->pooled)
        return hone_fail_memory(err, BATCH_TEXTS * C * sizeof(float), "vectors");
    for (int64_t begin = 0; begin < count;) {
        const int64_t texts = batch_count(embedding, begin, count);
        RETURN_IF_ERROR(run_batch(embedding, begin, texts));
        begin += texts;
        if (sink && !sink(user, begin, count))
            return hone_fail(err, HONE_INTERRUPTED, "stopped after %lld of %lld texts",
                             (long long)begin, (long long)count);
    }
    return HONE_OK;
}

hone_status hone_embed(HoneModel *model, const HoneData *data, const HoneEmbedOptions *options,
                       HoneEmbedSink sink, void *user, float *vectors) {
    HoneError *err = hone_begin(model->context);
    HoneEmbedOptions resolved = options ? *options : (HoneEmbedOptions){0};
    RETURN_IF_ERROR(hone_need_encoder(model));
    hone_embed_options(model, &resolved);
    const int64_t count = data->set.count;
    const Example **order = hone_alloc((size_t)(count + 1) * sizeof *order);
    if (!order) return hone_fail_memory(err, (size_t)count * sizeof *order, "the texts");
    for (int64_t i = 0; i < count; i++) order[i] = &data->set.examples[i];
    qsort(order, (size_t)count, sizeof *order, longer_first);
    Embedding embedding = {.model = model,
                           .options = &resolved,
                           .examples = order,
                           .first = data->set.examples,
                           .vectors = vectors,
                           .err = err};
    hone_status status = embed(&embedding, count, sink, user);
    hone_tape_free(embedding.tape);
    hone_free(embedding.pooled);
    hone_free(order);
    hone_arena_free(&embedding.memory);
    return status;
}
