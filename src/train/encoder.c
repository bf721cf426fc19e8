// SPDX-License-Identifier: Apache-2.0
// Vectors of texts: packed batches without padding, pooled and normalised.
#include <math.h>
#include <string.h>

#include "train/texts.h"

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

// ---- vectors -----------------------------------------------------------------------------------

typedef struct Embedding {
    const HoneEmbedOptions *options;
    const Example *first; // of the data
    int64_t C;
    float *vectors; // (count, C), in the data's order
    float *pooled;  // (HONE_BATCH_TEXTS, C)
} Embedding;

static hone_status finish_vector(const Embedding *embedding, const Example *example, float *x,
                                 HoneError *err) {
    const int64_t C = embedding->C;
    double squares = 0;
    for (int64_t c = 0; c < C; c++) squares += (double)x[c] * (double)x[c];
    if (!isfinite(squares))
        return hone_fail(err, HONE_ERROR_NUMERIC,
                         "the vector of line %d has numbers that are not finite", example->line);
    if (embedding->options->normalize != HONE_NORMALIZE_ON) return HONE_OK;
    const double length = fmax(sqrt(squares), 1e-12); // as torch.nn.functional.normalize
    for (int64_t c = 0; c < C; c++) x[c] = (float)((double)x[c] / length);
    return HONE_OK;
}

static hone_status run_batch(void *user, const LossCall *call, const Example *const *texts,
                             int64_t count) {
    Embedding *embedding = user;
    const int64_t C = embedding->C;
    Tensor *x;
    RETURN_IF_ERROR(hone_pooled_texts(call, texts, count, embedding->options->pooling, &x));
    hone_tape_read(call->tape, x, embedding->pooled);
    RETURN_IF_ERROR(hone_tape_status(call->tape, call->err));
    for (int64_t i = 0; i < count; i++) {
        float *pooled = embedding->pooled + i * C;
        RETURN_IF_ERROR(finish_vector(embedding, texts[i], pooled, call->err));
        memcpy(embedding->vectors + (texts[i] - embedding->first) * C, pooled,
               (size_t)C * sizeof *pooled);
    }
    return HONE_OK;
}

hone_status hone_embed(HoneModel *model, const HoneData *data, const HoneEmbedOptions *options,
                       HoneEmbedSink sink, void *user, float *vectors) {
    HoneError *err = hone_begin(model->context);
    HoneEmbedOptions resolved = options ? *options : (HoneEmbedOptions){0};
    RETURN_IF_ERROR(hone_need_encoder(model));
    hone_embed_options(model, &resolved);
    const size_t bytes = HONE_BATCH_TEXTS * (size_t)model->config.channels * sizeof(float);
    Embedding embedding = {.options = &resolved,
                           .first = data->set.examples,
                           .C = model->config.channels,
                           .vectors = vectors,
                           .pooled = hone_alloc(bytes)};
    hone_status status = embedding.pooled
                             ? hone_run_texts(model, data, run_batch, &embedding, sink, user)
                             : hone_fail_memory(err, bytes, "vectors");
    hone_free(embedding.pooled);
    return status;
}
