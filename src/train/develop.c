// SPDX-License-Identifier: Apache-2.0
// A model from nothing: its sizes and its first weights as a GGUF file, which is then a model like
// any other, to be fine-tuned in full.
#include "train/develop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/tokenizer_file.h"

void hone_train_defaults(HoneTrainOptions *options) {
    *options = (HoneTrainOptions){.architecture = "llama",
                                  .layers = 6,
                                  .channels = 384,
                                  .heads = 6,
                                  .context = 512,
                                  .norm_eps = 1e-5,
                                  .rope_base = 10000,
                                  .tied_head = true,
                                  .tokenizer = "bpe",
                                  .vocabulary = 8192,
                                  .min_frequency = 2};
    hone_finetune_defaults(&options->run);
    options->run.method = HONE_METHOD_FULL;
    options->run.lr = 1e-3;
    options->run.beta2 = 0.95;
    options->run.weight_decay = 0.1;
}

// ---- sizes -------------------------------------------------------------------------------------

static bool is_gpt2(const HoneTrainOptions *options) {
    return strcmp(options->architecture, "gpt2") == 0;
}

bool hone_develop_translates(const HoneTrainOptions *options) {
    return strcmp(options->architecture, "transformer") == 0;
}

static hone_status in_range(HoneError *err, const char *name, int64_t value, int64_t low,
                            int64_t high) {
    if (value >= low && value <= high) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s is %lld, want %lld to %lld", name,
                     (long long)value, (long long)low, (long long)high);
}

// 0 is "as it comes".
static hone_status up_to(HoneError *err, const char *name, int64_t value, int64_t most) {
    return value == 0 ? HONE_OK : in_range(err, name, value, 1, most);
}

hone_status hone_develop_check(const HoneTrainOptions *options, HoneError *err) {
    const int64_t large = 1 << 20;
    const bool translates = hone_develop_translates(options);
    if (!translates && strcmp(options->architecture, "llama") != 0 && !is_gpt2(options))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "architecture \"%s\" is not trained from nothing; llama, gpt2 and "
                         "transformer are",
                         options->architecture);
    if (!translates && (options->encoder_layers > 0 || options->norm_first))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "encoder-layers and norm are of the architecture transformer, not of %s",
                         options->architecture);
    if (!translates && options->run.dropout > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "--dropout is %g, and the architecture %s drops nothing: transformer does",
                         options->run.dropout, options->architecture);
    if (translates && options->run.sample)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "--sample continues a text, which the architecture transformer does not");
    RETURN_IF_ERROR(up_to(err, "encoder-layers", options->encoder_layers, 4096));
    RETURN_IF_ERROR(in_range(err, "layers", options->layers, 1, 4096));
    RETURN_IF_ERROR(in_range(err, "channels", options->channels, 1, large));
    RETURN_IF_ERROR(in_range(err, "heads", options->heads, 1, 65536));
    RETURN_IF_ERROR(up_to(err, "kv-heads", options->kv_heads, options->heads));
    RETURN_IF_ERROR(up_to(err, "head-size", options->head_size, 256));
    RETURN_IF_ERROR(up_to(err, "feed-forward", options->feed_forward, large));
    RETURN_IF_ERROR(in_range(err, "context", options->context, 2, 1 << 30));
    RETURN_IF_ERROR(in_range(err, "vocabulary", options->vocabulary, 1, 1 << 30));
    RETURN_IF_ERROR(up_to(err, "min-frequency", options->min_frequency, 1 << 30));
    if (options->head_size == 0 && options->channels % options->heads)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "channels is %lld, which %lld heads do not divide; give head-size too",
                         (long long)options->channels, (long long)options->heads);
    if (!(options->norm_eps > 0) || !(options->norm_eps < 1) || !(options->rope_base > 1) ||
        !(options->rope_base < 1e12))
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "norm-eps is %g and rope-base %g; want above 0 and below 1, above 1 and "
                         "below 1e12",
                         options->norm_eps, options->rope_base);
    return HONE_OK;
}

static ModelConfig config_of(const HoneTrainOptions *options, const Tokenizer *tokenizer) {
    const int64_t channels = options->channels, heads = options->heads;
    const int64_t head_size = options->head_size ? options->head_size : channels / heads;
    const bool translates = hone_develop_translates(options), plain = is_gpt2(options);
    const int64_t wide = plain || translates ? 4 * channels : (channels * 8 / 3 + 63) / 64 * 64;
    const int64_t encoder = !translates               ? 0
                            : options->encoder_layers ? options->encoder_layers
                                                      : options->layers;
    const int32_t bos = hone_tokenizer_bos(tokenizer), eos = hone_tokenizer_eos(tokenizer);
    return (ModelConfig){.architecture = options->architecture,
                         .layers = (int)(options->layers + encoder),
                         .encoder_layers = (int)encoder,
                         .norm_first = options->norm_first,
                         .decoder_start = !translates ? 0
                                          : bos >= 0  ? bos
                                                      : eos,
                         .heads = (int)heads,
                         .kv_heads = (int)(options->kv_heads ? options->kv_heads : heads),
                         .head_size = (int)head_size,
                         .rotary = plain || translates ? 0 : (int)head_size,
                         .channels = channels,
                         .feed_forward = options->feed_forward ? options->feed_forward : wide,
                         .vocabulary = hone_tokenizer_size(tokenizer),
                         .context = options->context,
                         .norm_eps = (float)options->norm_eps,
                         .rope_base = (float)options->rope_base,
                         .rope_interleaved = !is_gpt2(options),
                         .tied_head = options->tied_head};
}

static void put_size(GgufWriter *writer, const ModelConfig *config, const char *key,
                     int64_t value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", config->architecture, key);
    hone_gguf_put_u32(writer, name, (uint32_t)value);
}

static void put_real(GgufWriter *writer, const ModelConfig *config, const char *key, float value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", config->architecture, key);
    hone_gguf_put_f32(writer, name, value);
}

static void put_keys(GgufWriter *writer, const ModelConfig *config, const GgufFile *vocabulary) {
    const int encoder = config->encoder_layers;
    const bool rms = config->rotary > 0;
    hone_gguf_put_string(writer, "general.architecture", config->architecture);
    hone_gguf_put_string(writer, "general.name", "a new model");
    hone_gguf_put_u32(writer, "general.file_type", 0);
    put_size(writer, config, "context_length", config->context);
    put_size(writer, config, "embedding_length", config->channels);
    put_size(writer, config, "block_count", encoder ? encoder : config->layers);
    if (encoder) put_size(writer, config, "decoder_block_count", config->layers - encoder);
    if (encoder) put_size(writer, config, "decoder_start_token_id", config->decoder_start);
    if (encoder) put_size(writer, config, "norm_first", config->norm_first);
    put_size(writer, config, "feed_forward_length", config->feed_forward);
    put_size(writer, config, "attention.head_count", config->heads);
    put_size(writer, config, "attention.head_count_kv", config->kv_heads);
    put_real(writer, config,
             rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
             config->norm_eps);
    if (rms) {
        put_size(writer, config, "attention.key_length", config->head_size);
        put_size(writer, config, "attention.value_length", config->head_size);
        put_size(writer, config, "rope.dimension_count", config->rotary);
        put_real(writer, config, "rope.freq_base", config->rope_base);
        put_size(writer, config, "vocab_size", config->vocabulary);
    }
    for (int64_t i = 0; i < vocabulary->key_count; i++) {
        const GgufKey *key = &vocabulary->keys[i];
        if (key->name.length > 10 && memcmp(key->name.data, "tokenizer.", 10) == 0)
            hone_gguf_put_raw(writer, key);
    }
}

// ---- first weights -----------------------------------------------------------------------------

typedef struct Drawing {
    GgufWriter *writer;
    uint64_t seed, number;
    float residual; // deviation of what writes to the residual stream
    bool glorot;    // as an encoder-decoder's
} Drawing;

static hone_status plan_tensor(void *user, const ParameterVisit *visit, HoneError *err) {
    (void)err; // of the put calls: hone_gguf_writer_begin's
    const Tensor *tensor = visit->tensor;
    hone_gguf_add_tensor(user, visit->name, HONE_F32, tensor->rank, tensor->shape);
    return HONE_OK;
}

static bool ends_with(const char *name, const char *ending) {
    const size_t length = strlen(name), tail = strlen(ending);
    return length >= tail && strcmp(name + length - tail, ending) == 0;
}

static float draw_weight(const Drawing *drawing, const ParameterVisit *visit,
                         RandomStream *stream) {
    const char *target = visit->target ? visit->target : "";
    const int64_t *shape = visit->tensor->shape;
    if (drawing->glorot && visit->layer >= 0) {
        const float bound = sqrtf(6.0f / (float)(shape[0] + shape[1]));
        return bound * (2.0f * hone_random_uniform(stream) - 1.0f);
    }
    const bool residual = strcmp(target, "o") == 0 || strcmp(target, "down") == 0;
    const float deviation = drawing->glorot ? 1.0f / sqrtf((float)shape[1])
                            : residual      ? drawing->residual
                                            : 0.02f;
    return deviation * hone_random_normal(stream);
}

static hone_status draw_tensor(void *user, const ParameterVisit *visit, HoneError *err) {
    Drawing *drawing = user;
    const int64_t count = hone_tensor_count(visit->tensor);
    const float constant = ends_with(visit->name, ".bias") ? 0.0f : 1.0f;
    float *values = hone_alloc((size_t)count * sizeof *values);
    if (!values) return hone_fail_memory(err, (size_t)count * sizeof *values, visit->name);
    RandomStream stream = hone_random_stream(drawing->seed, RANDOM_INITIAL, drawing->number++);
    for (int64_t i = 0; i < count; i++)
        values[i] = visit->weight ? draw_weight(drawing, visit, &stream) : constant;
    hone_status status =
        hone_gguf_write_tensor(drawing->writer, values, (size_t)count * sizeof *values, err);
    hone_free(values);
    return status;
}

static hone_status write_start(Run *run, Model *model, const char *path, GgufFile *file) {
    const ModelConfig *config = hone_model_config(model);
    Drawing drawing = {.seed = run->options.seed,
                       .residual = 0.02f / sqrtf(2.0f * (float)config->layers),
                       .glorot = config->encoder_layers > 0};
    RETURN_IF_ERROR(hone_gguf_writer_create(&drawing.writer, run->err));
    put_keys(drawing.writer, config, &run->vocabulary);
    hone_status status = hone_model_visit(model, plan_tensor, drawing.writer, run->err);
    if (status == HONE_OK) status = hone_gguf_writer_begin_unnamed(drawing.writer, path, run->err);
    if (status == HONE_OK) status = hone_model_visit(model, draw_tensor, &drawing, run->err);
    if (status == HONE_OK) status = hone_gguf_writer_open(drawing.writer, file, run->err);
    hone_gguf_writer_free(drawing.writer);
    return status;
}

static hone_status start_file(Run *run, const char *path, GgufFile *file) {
    Tokenizer *tokenizer;
    RETURN_IF_ERROR(hone_develop_vocabulary(run, &run->vocabulary));
    RETURN_IF_ERROR(hone_read_tokenizer(&run->vocabulary, &tokenizer, run->err));
    const ModelConfig config = config_of(run->develop, tokenizer);
    hone_tokenizer_free(tokenizer);
    Model *model;
    RETURN_IF_ERROR(hone_model_make(&config, &model, run->err));
    hone_status status = write_start(run, model, path, file);
    hone_model_destroy(model);
    return status;
}

hone_status hone_develop_model(Run *run) {
    char *path = hone_scratch_path(run->options.out, "start");
    if (!path) return hone_fail_memory(run->err, 0, "a path");
    GgufFile file;
    hone_status status = start_file(run, path, &file);
    hone_free(path);
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(hone_model_load_file(run->context, "the new model", &file, &run->model));
    int64_t *longest = &run->options.examples.max_length;
    if (*longest == 0) *longest = run->model->config.context;
    return HONE_OK;
}

// ---- config.yaml -------------------------------------------------------------------------------

static void put_line(TextBuffer *text, const char *name, int64_t value) {
    hone_text_printf(text, "%s: %lld\n", name, (long long)value);
}

static void put_name(TextBuffer *text, const char *name, const char *value) {
    hone_text_printf(text, "%s: ", name);
    hone_text_json(text, value, strlen(value));
    hone_text_puts(text, "\n");
}

void hone_develop_config(const Run *run, TextBuffer *text) {
    const HoneTrainOptions *options = run->develop;
    const ModelConfig *config = &run->model->config;
    put_name(text, "architecture", options->architecture);
    put_line(text, "layers", config->layers - config->encoder_layers);
    if (config->encoder_layers) {
        put_line(text, "encoder-layers", config->encoder_layers);
        put_name(text, "norm", config->norm_first ? "pre" : "post");
    }
    put_line(text, "channels", config->channels);
    put_line(text, "heads", config->heads);
    put_line(text, "kv-heads", config->kv_heads);
    put_line(text, "head-size", config->head_size);
    put_line(text, "feed-forward", config->feed_forward);
    put_line(text, "context", config->context);
    hone_text_printf(text, "norm-eps: %.17g\n", options->norm_eps);
    hone_text_printf(text, "rope-base: %.17g\n", options->rope_base);
    put_name(text, "tied-head", options->tied_head ? "on" : "off");
    put_name(text, "tokenizer", options->tokenizer);
    put_line(text, "vocabulary", options->vocabulary);
    put_line(text, "min-frequency", options->min_frequency);
}
