// SPDX-License-Identifier: Apache-2.0
// A model's sizes from the keys of its file, and what GGUF says by the architecture alone.
#include "train/load_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Reading {
    HoneModel *model;
    const GgufFile *file;
    ModelConfig *config;
    const char *architecture;
    HoneError *err;
} Reading;

// What no key says. Layers in which (i + 1) is a multiple of `period` see everything, the others
// through the window; 0: there is no such layer. The same of rotary positions, 0: all have them.
static const struct Convention {
    const char *architecture;
    int period, turning;
    double attention_softcap, logit_softcap; // where the keys are absent
    double sliding_base;
    int root_layers;     // a model of that many layers scales its scores by 1/√(C/H)
    bool pairs;          // rows of q and k are in pairs
    bool root_embedding; // × √C
    bool bias;           // of q, k and v, always
    bool experts;        // may have them
    bool normalised;     // whose weights add up to 1
    bool layer_norm;     // and learned positions
} conventions[] = {
    {.architecture = "llama", .pairs = true},
    {.architecture = "granite", .pairs = true},
    {.architecture = "smollm3", .pairs = true, .turning = 4},
    {.architecture = "qwen2", .bias = true},
    {.architecture = "qwen3"},
    {.architecture = "qwen3moe", .experts = true, .normalised = true},
    {.architecture = "olmoe", .experts = true},
    {.architecture = "phi3"},
    {.architecture = "olmo2"},
    {.architecture = "gemma2",
     .period = 2,
     .attention_softcap = 50,
     .logit_softcap = 30,
     .root_layers = 46,
     .root_embedding = true},
    {.architecture = "gemma3",
     .period = 6,
     .sliding_base = 10000,
     .root_layers = 62,
     .root_embedding = true},
    {.architecture = "gpt2", .layer_norm = true},
    {.architecture = "transformer", .layer_norm = true},
    {.architecture = "bert", .layer_norm = true},
    {.architecture = "t5", .layer_norm = true},
};

static const struct Convention *convention_of(const char *architecture) {
    for (size_t i = 0; i < sizeof conventions / sizeof *conventions; i++)
        if (strcmp(conventions[i].architecture, architecture) == 0) return &conventions[i];
    return NULL;
}

// ---- keys --------------------------------------------------------------------------------------

static const char *key_name(const Reading *r, const char *suffix, char name[128]) {
    snprintf(name, 128, "%s.%s", r->architecture, suffix);
    return name;
}

static bool has(const Reading *r, const char *suffix) {
    char name[128];
    return hone_gguf_key(r->file, key_name(r, suffix, name)) != NULL;
}

static bool has_tensor(const Reading *r, const char *name) {
    return hone_gguf_tensor(r->file, name) != NULL;
}

// An integer in [low, high]; absent: the given default, or an error if it is < 0.
static hone_status read_size(const Reading *r, const char *suffix, int64_t missing, int64_t low,
                             int64_t high, int64_t *value) {
    char name[128];
    key_name(r, suffix, name);
    if (!has(r, suffix) && missing >= 0) {
        *value = missing;
        return HONE_OK;
    }
    RETURN_IF_ERROR(hone_gguf_int(r->file, name, value, r->err));
    if (*value < low || *value > high)
        return hone_fail(r->err, HONE_ERROR_INPUT, "%s: %s is %lld, want %lld…%lld",
                         r->file->map.path, name, (long long)*value, (long long)low,
                         (long long)high);
    return HONE_OK;
}

// A number above 0, or 0 where `missing` is: that says that there is none.
static hone_status read_real(const Reading *r, const char *suffix, double missing, double *value) {
    char name[128];
    key_name(r, suffix, name);
    *value = missing;
    if (!has(r, suffix) && missing >= 0) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_float(r->file, name, value, r->err));
    if (isfinite(*value) && (*value > 0 || (*value == 0 && missing == 0))) return HONE_OK;
    return hone_fail(r->err, HONE_ERROR_INPUT, "%s: %s is %g, want a number above 0",
                     r->file->map.path, name, *value);
}

static hone_status read_float(const Reading *r, const char *suffix, double missing, float *value) {
    double read;
    RETURN_IF_ERROR(read_real(r, suffix, missing, &read));
    *value = (float)read;
    return HONE_OK;
}

// A flag a layer from an array of the file, if there is one: *flags stays NULL otherwise.
static hone_status read_flags(const Reading *r, const char *suffix, bool **flags) {
    char name[128];
    const GgufKey *key = hone_gguf_key(r->file, key_name(r, suffix, name));
    int32_t *items;
    int64_t count;
    *flags = NULL;
    if (!key || key->type != GGUF_ARRAY) return HONE_OK;
    RETURN_IF_ERROR(hone_gguf_ints(r->file, name, &items, &count, r->err));
    const size_t layers = (size_t)r->config->layers;
    hone_status status = HONE_OK;
    if (count != r->config->layers)
        status = hone_fail(r->err, HONE_ERROR_INPUT, "%s: %s has %lld entries for %d layers",
                           r->file->map.path, name, (long long)count, r->config->layers);
    else if (!(*flags = hone_arena_calloc(&r->model->memory, layers, sizeof **flags)))
        status = hone_fail_memory(r->err, layers, "layers");
    for (size_t i = 0; i < layers && status == HONE_OK; i++) (*flags)[i] = items[i] != 0;
    hone_free(items);
    return status;
}

// (i + 1) % period != 0 for each layer; all true with period 0.
static hone_status make_flags(const Reading *r, int64_t period, bool **flags) {
    const size_t layers = (size_t)r->config->layers;
    *flags = hone_arena_calloc(&r->model->memory, layers, sizeof **flags);
    if (!*flags) return hone_fail_memory(r->err, layers, "layers");
    for (size_t i = 0; i < layers; i++) (*flags)[i] = period == 0 || (int64_t)(i + 1) % period != 0;
    return HONE_OK;
}

// ---- positions ---------------------------------------------------------------------------------

static hone_status read_original(const Reading *r, int64_t missing, int64_t *original) {
    return read_size(r, "rope.scaling.original_context_length", missing, 1, (int64_t)1 << 31,
                     original);
}

static hone_status read_yarn(const Reading *r, RopeScaling *scaling) {
    double extrapolation, attention;
    int64_t original;
    scaling->yarn = true;
    RETURN_IF_ERROR(read_original(r, -1, &original));
    scaling->original = (float)original;
    RETURN_IF_ERROR(read_float(r, "rope.scaling.yarn_beta_fast", 32, &scaling->beta_fast));
    RETURN_IF_ERROR(read_float(r, "rope.scaling.yarn_beta_slow", 1, &scaling->beta_slow));
    RETURN_IF_ERROR(read_real(r, "rope.scaling.yarn_ext_factor", 1, &extrapolation));
    RETURN_IF_ERROR(read_real(r, "rope.scaling.yarn_attn_factor", 1, &attention));
    if (extrapolation != 1)
        return hone_fail(r->err, HONE_ERROR_UNSUPPORTED,
                         "%s: %s.rope.scaling.yarn_ext_factor is %g, only 1 is computed",
                         r->file->map.path, r->architecture, extrapolation);
    const double factor = (double)scaling->factor;
    r->config->rope_magnitude = (float)(attention * (factor > 1 ? 1 + 0.1 * log(factor) : 1));
    return HONE_OK;
}

// LongRoPE (Ding et al. 2024): the short factors hold up to the original context, and Hone goes no
// further.
static hone_status read_longrope(const Reading *r) {
    int64_t original;
    ModelConfig *config = r->config;
    RETURN_IF_ERROR(read_original(r, config->context, &original));
    if (original < config->context) config->context = original;
    return read_float(r, "rope.scaling.attn_factor", 1, &config->rope_magnitude);
}

// The factors of tensors (rope_freqs, rope_factors_short) are load.c's.
static hone_status read_positions(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    RopeScaling *scaling = &config->rope_scaling;
    GgufString type = {"none", 4};
    char name[128];
    RETURN_IF_ERROR(read_float(r, "rope.freq_base", 10000, &config->rope_base));
    RETURN_IF_ERROR(
        read_float(r, "rope.freq_base_swa", convention->sliding_base, &config->rope_base_sliding));
    if (has_tensor(r, "rope_factors_short.weight")) return read_longrope(r);
    if (has(r, "rope.scaling.type"))
        RETURN_IF_ERROR(
            hone_gguf_string(r->file, key_name(r, "rope.scaling.type", name), &type, r->err));
    snprintf(name, sizeof name, "%.*s", (int)(type.length < 32 ? type.length : 32), type.data);
    if (strcmp(name, "none") == 0) return HONE_OK;
    if (strcmp(name, "linear") != 0 && strcmp(name, "yarn") != 0)
        return hone_fail(r->err, HONE_ERROR_UNSUPPORTED,
                         "%s: %s.rope.scaling.type is \"%s\"; supported: none, linear, yarn, "
                         "longrope with its factors, and rope_freqs.weight",
                         r->file->map.path, r->architecture, name);
    RETURN_IF_ERROR(read_float(r, "rope.scaling.factor", -1, &scaling->factor));
    return strcmp(name, "yarn") == 0 ? read_yarn(r, scaling) : HONE_OK;
}

// ---- layers ------------------------------------------------------------------------------------

static hone_status read_windows(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    int64_t window, period = convention->period;
    bool *slides;
    RETURN_IF_ERROR(read_size(r, "attention.sliding_window", 0, 0, INT32_MAX, &window));
    RETURN_IF_ERROR(read_flags(r, "attention.sliding_window_pattern", &slides));
    if (!slides && has(r, "attention.sliding_window_pattern"))
        RETURN_IF_ERROR(read_size(r, "attention.sliding_window_pattern", -1, 1, 65536, &period));
    if (!slides) RETURN_IF_ERROR(make_flags(r, period, &slides));
    // A window that nothing reaches past is none, but where sliding layers turn otherwise.
    if (window == 0 || (window >= config->context && config->rope_base_sliding == 0))
        return HONE_OK;
    config->window = (int32_t)window;
    config->slides = slides;
    return HONE_OK;
}

static hone_status read_turning(const Reading *r, const struct Convention *convention) {
    bool *turns;
    RETURN_IF_ERROR(read_flags(r, "rope.layers", &turns));
    if (!turns && convention->turning > 0)
        RETURN_IF_ERROR(make_flags(r, convention->turning, &turns));
    r->config->turns = turns;
    return HONE_OK;
}

static hone_status read_numbers(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    const double root = convention->root_embedding ? sqrt((double)config->channels) : 0;
    const bool by_width = convention->root_layers && config->layers == convention->root_layers;
    const double scale = by_width ? 1 / sqrt((double)config->channels / (double)config->heads) : 0;
    double divisor;
    RETURN_IF_ERROR(read_float(r, "embedding_scale", root, &config->embedding_scale));
    RETURN_IF_ERROR(read_float(r, "residual_scale", 0, &config->residual_scale));
    RETURN_IF_ERROR(read_float(r, "attention.scale", scale, &config->attention_scale));
    RETURN_IF_ERROR(read_real(r, "logit_scale", 0, &divisor));
    if (divisor > 0) config->logit_scale = (float)(1 / divisor);
    // 0 says that there is none, whatever the architecture has else.
    double caps[2] = {0, 0};
    const bool given[2] = {has(r, "attn_logit_softcapping"), has(r, "final_logit_softcapping")};
    RETURN_IF_ERROR(read_real(r, "attn_logit_softcapping", 0, &caps[0]));
    RETURN_IF_ERROR(read_real(r, "final_logit_softcapping", 0, &caps[1]));
    config->attention_softcap = (float)(given[0] ? caps[0] : convention->attention_softcap);
    config->logit_softcap = (float)(given[1] ? caps[1] : convention->logit_softcap);
    return HONE_OK;
}

// ---- experts -----------------------------------------------------------------------------------

static hone_status read_experts(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    const int64_t large = (int64_t)1 << 24;
    int64_t experts, used;
    bool *sparse;
    char name[128];
    const GgufKey *norm = hone_gguf_key(r->file, key_name(r, "expert_weights_norm", name));
    RETURN_IF_ERROR(read_size(r, "expert_count", 0, 0, GGUF_EXPERTS, &experts));
    if (experts == 0 && !convention->experts) return HONE_OK;
    if (!convention->experts)
        return hone_fail(r->err, HONE_ERROR_UNSUPPORTED,
                         "%s: a mixture of %lld experts is not supported in %s, only in qwen3moe "
                         "and olmoe",
                         r->file->map.path, (long long)experts, r->architecture);
    RETURN_IF_ERROR(read_size(r, "expert_count", -1, 1, GGUF_EXPERTS, &experts));
    RETURN_IF_ERROR(read_size(r, "expert_used_count", -1, 1, experts, &used));
    RETURN_IF_ERROR(read_size(r, "expert_feed_forward_length", config->feed_forward, 1, large,
                              &config->expert_feed_forward));
    RETURN_IF_ERROR(read_flags(r, "expert_layers", &sparse));
    config->experts = (int)experts;
    config->experts_used = (int)used;
    config->experts_normalised =
        norm && norm->type == GGUF_BOOL ? norm->value.u != 0 : convention->normalised;
    config->sparse = sparse;
    return HONE_OK;
}

// ---- the whole ---------------------------------------------------------------------------------

static bool is(const Reading *r, const char *architecture) {
    return strcmp(r->architecture, architecture) == 0;
}

// block_count is the encoder's.
static hone_status read_encoder_decoder(const Reading *r) {
    ModelConfig *config = r->config;
    const bool t5 = is(r, "t5");
    const int64_t missing = t5 ? 0 : -1;
    int64_t decoder, start, norm_first, numbers = 0;
    RETURN_IF_ERROR(
        read_size(r, "decoder_block_count", t5 ? config->layers : -1, 1, 4096, &decoder));
    RETURN_IF_ERROR(
        read_size(r, "decoder_start_token_id", missing, 0, config->vocabulary - 1, &start));
    RETURN_IF_ERROR(read_size(r, "norm_first", 0, 0, 1, &norm_first));
    if (t5)
        RETURN_IF_ERROR(read_size(r, "attention.relative_buckets_count", -1, 4, 4096, &numbers));
    config->relative_numbers = (int)numbers;
    config->relative_farthest = 128; // no key says it: all that were published have this
    config->gated = has_tensor(r, "enc.blk.0.ffn_gate.weight");
    config->encoder_layers = config->layers;
    config->layers += (int)decoder;
    config->decoder_start = (int32_t)start;
    config->norm_first = norm_first != 0;
    return HONE_OK;
}

static hone_status read_sizes(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    const bool plain = convention->layer_norm; // and without rotary positions
    const int64_t large = (int64_t)1 << 24;
    int64_t layers, heads, kv_heads, key, value, rotary = 0;
    RETURN_IF_ERROR(read_size(r, "block_count", -1, 1, 4096, &layers));
    RETURN_IF_ERROR(read_size(r, "embedding_length", -1, 1, large, &config->channels));
    RETURN_IF_ERROR(read_size(r, "feed_forward_length", -1, 1, large, &config->feed_forward));
    RETURN_IF_ERROR(read_size(r, "context_length", -1, 1, (int64_t)1 << 31, &config->context));
    RETURN_IF_ERROR(read_size(r, "attention.head_count", -1, 1, 65536, &heads));
    RETURN_IF_ERROR(read_size(r, "attention.head_count_kv", heads, 1, heads, &kv_heads));
    const int64_t head_size = config->channels / heads;
    RETURN_IF_ERROR(read_size(r, "attention.key_length", head_size, 1, 256, &key));
    RETURN_IF_ERROR(read_size(r, "attention.value_length", head_size, 1, 256, &value));
    if (!plain) RETURN_IF_ERROR(read_size(r, "rope.dimension_count", key, 1, key, &rotary));
    if (key != value)
        return hone_fail(r->err, HONE_ERROR_UNSUPPORTED,
                         "%s: keys of size %lld and values of size %lld: they must be equal",
                         r->file->map.path, (long long)key, (long long)value);
    config->layers = (int)layers;
    config->heads = (int)heads;
    config->kv_heads = (int)kv_heads;
    config->head_size = (int)key;
    config->rotary = (int)rotary;
    return read_float(r,
                      plain && !is(r, "t5") ? "attention.layer_norm_epsilon"
                                            : "attention.layer_norm_rms_epsilon",
                      -1, &config->norm_eps);
}

static int64_t rows_of(const Reading *r, const char *name) {
    const GgufTensor *tensor = hone_gguf_tensor(r->file, name);
    return tensor && tensor->rank == 2 ? tensor->shape[0] : 0;
}

// What an encoder has, by its tensors.
static void read_heads(const Reading *r) {
    ModelConfig *config = r->config;
    if (strcmp(r->architecture, "bert") != 0) return;
    config->token_types = rows_of(r, "token_types.weight");
    config->labels = rows_of(r, "cls.output.weight");
    config->pooler = has_tensor(r, "cls.weight");
    config->mask_head = has_tensor(r, "mask.dense.weight");
}

static hone_status read_all(const Reading *r, const struct Convention *convention) {
    ModelConfig *config = r->config;
    *config = (ModelConfig){.architecture = r->architecture,
                            .rope_interleaved = convention->pairs && !r->file->hugging_face,
                            .tied_head = !has_tensor(r, "output.weight")};
    RETURN_IF_ERROR(read_sizes(r, convention));
    RETURN_IF_ERROR(read_experts(r, convention));
    const GgufTensor *embedding = hone_gguf_tensor(r->file, "token_embd.weight");
    if (!embedding || embedding->rank != 2)
        return hone_fail(r->err, HONE_ERROR_INPUT, "%s: has no matrix token_embd.weight",
                         r->file->map.path);
    config->vocabulary = embedding->shape[0];
    if (is(r, "transformer") || is(r, "t5")) return read_encoder_decoder(r);
    read_heads(r);
    if (convention->layer_norm) return HONE_OK;
    config->qkv_bias = convention->bias || has_tensor(r, "blk.0.attn_q.bias") ||
                       has_tensor(r, "blk.0.attn_qkv.bias");
    config->output_bias = has_tensor(r, "blk.0.attn_output.bias");
    config->feed_forward_bias = has_tensor(r, "blk.0.ffn_up.bias");
    RETURN_IF_ERROR(read_positions(r, convention));
    RETURN_IF_ERROR(read_windows(r, convention));
    RETURN_IF_ERROR(read_turning(r, convention));
    return read_numbers(r, convention);
}

hone_status hone_load_config(HoneModel *model, HoneError *err) {
    const GgufFile *file = &model->file;
    GgufString name, kind;
    if (!hone_gguf_key(file, "general.architecture"))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: has no general.architecture: it is not a model file", file->map.path);
    RETURN_IF_ERROR(hone_gguf_string(file, "general.architecture", &name, err));
    char *architecture = hone_arena_strndup(&model->memory, name.data, name.length);
    if (!architecture) return hone_fail_memory(err, name.length, "a name");
    if (hone_gguf_key(file, "general.type") &&
        hone_gguf_string(file, "general.type", &kind, NULL) == HONE_OK && kind.length == 7 &&
        memcmp(kind.data, "adapter", 7) == 0)
        return hone_fail(
            err, HONE_ERROR_INPUT,
            "%s: is an adapter, not a model: give it as --adapter, and to hone convert "
            "its base as --model",
            file->map.path);
    const struct Convention *convention = convention_of(architecture);
    hone_status status = hone_model_supported(architecture, err);
    if (status != HONE_OK || !convention) return hone_fail_in(err, "%s", file->map.path);
    const Reading reading = {model, file, &model->config, convention->architecture, err};
    return read_all(&reading, convention);
}
