// SPDX-License-Identifier: Apache-2.0
// What is in a file, in words or as JSON, and what Hone can do with it.
#include <inttypes.h>
#include <string.h>

#include "hub/cache.h"
#include "io/hf.h"
#include "io/safetensors.h"
#include "train/inspect.h"

// ---- GGUF --------------------------------------------------------------------------------------

static void put_number(TextBuffer *text, const GgufKey *key) {
    switch (key->type) {
    case GGUF_F32:
    case GGUF_F64:
        if (key->value.f - key->value.f == 0)
            hone_text_printf(text, "%.9g", key->value.f);
        else
            hone_text_puts(text, "null");
        return;
    case GGUF_BOOL:
        hone_text_puts(text, key->value.u ? "true" : "false");
        return;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        hone_text_printf(text, "%" PRId64, key->value.i);
        return;
    default:
        hone_text_printf(text, "%" PRIu64, key->value.u);
    }
}

static void put_value(TextBuffer *text, const GgufKey *key, bool json) {
    if (key->type == GGUF_STRING) {
        size_t length = key->value.string.length;
        size_t shown = !json && length > 100 ? 100 : length;
        hone_text_json(text, key->value.string.data, shown);
        if (shown < length) hone_text_printf(text, " … (%zu bytes)", length);
    } else if (key->type == GGUF_ARRAY) {
        if (json)
            hone_text_printf(text, "{\"array\":%" PRIu64 "}", key->count);
        else
            hone_text_printf(text, "array of %" PRIu64, key->count);
    } else {
        put_number(text, key);
    }
}

static void put_shape(TextBuffer *text, int rank, const int64_t *shape) {
    hone_text_puts(text, "[");
    for (int axis = 0; axis < rank; axis++)
        hone_text_printf(text, "%s%" PRId64, axis ? "," : "", shape[axis]);
    hone_text_puts(text, "]");
}

static const char *text_of(const GgufFile *file, const char *name, Arena *memory) {
    GgufString value;
    if (!hone_gguf_key(file, name) || hone_gguf_string(file, name, &value, NULL) != HONE_OK)
        return "";
    char *copy = hone_arena_strndup(memory, value.data, value.length);
    return copy ? copy : "";
}

// The model in a few words, or in JSON.
static void put_model(const HoneModel *model, bool json, TextBuffer *about) {
    HoneModelInfo info;
    HoneSampling sampling;
    hone_model_info(model, &info);
    hone_model_sampling(model, &sampling);
    hone_text_printf(
        about,
        json ? ",\"model\":{\"architecture\":\"%s\",\"layers\":%lld,\"channels\":%lld,"
               "\"heads\":%lld,\"kv_heads\":%lld,\"head_size\":%lld,\"feed_forward\":%lld,"
               "\"vocabulary\":%lld,\"context\":%lld,\"parameters\":%lld,"
             : "  %s: %lld layers of %lld channels, %lld heads (%lld of keys and values) of %lld, "
               "%lld inside, %lld tokens, context %lld, %lld parameters\n",
        info.architecture, (long long)info.layers, (long long)info.channels, (long long)info.heads,
        (long long)info.kv_heads, (long long)info.head_size, (long long)info.feed_forward,
        (long long)info.vocabulary, (long long)info.context, (long long)info.parameters);
    hone_text_printf(about,
                     json ? "\"types\":\"%s\",\"tokenizer\":\"%s\",\"pre_tokenizer\":\"%s\","
                            "\"template\":%s,"
                          : "  types %s; tokeniser %s %s; chat template: %s",
                     info.weight_types, info.tokenizer, info.pre_tokenizer,
                     json                ? info.has_template ? "true" : "false"
                     : info.has_template ? "yes"
                                         : "no");
    if (!json && sampling.temperature <= 0) {
        hone_text_puts(about, "\n");
        return;
    }
    hone_text_printf(about,
                     json ? "\"temperature\":%g,\"top_p\":%g,\"top_k\":%d}"
                          : "; drawn with temperature %g, top-p %g, top-k %d\n",
                     (double)sampling.temperature, (double)sampling.top_p, sampling.top_k);
}

// Try to load it: the only honest answer to what can be done with it. What it is then goes to
// `about`. adapter: the architecture of an adapter's base, NULL for a model.
static void can_do(HoneContext *context, const char *path, const char *adapter, bool json,
                   TextBuffer *able, TextBuffer *about, HoneError *fault) {
    if (adapter) {
        hone_inspect_adapter(path, adapter,
                             "an adapter: give it as --adapter to finetune, eval, chat, merge",
                             json, able, about, fault);
        return;
    }
    HoneModel *model = NULL;
    const hone_status status = hone_model_load(context, path, &model);
    if (status == HONE_OK && model->config.encoder_layers > 0)
        hone_text_puts(able, "an encoder-decoder: finetune --method full, eval, translate, merge");
    else if (status == HONE_OK && hone_model_is_encoder(model->model))
        hone_text_puts(able, model->label_count
                                 ? "an encoder: classify, embed, finetune --task, convert"
                                 : "an encoder: embed, finetune --task, convert");
    else if (status == HONE_OK)
        hone_text_printf(able, "a model: finetune (lora, full), eval, generate, merge%s",
                         model->chat_template ? ", chat" : "; it has no chat template");
    if (model)
        put_model(model, json, about);
    else
        hone_text_printf(able, "not usable: %s", context->error.message);
    *fault = context->error;
    hone_model_free(model);
    hone_error_clear(&context->error);
}

static void gguf_json(const GgufFile *file, const char *able, const char *about, TextBuffer *text) {
    hone_text_printf(text, ",\"format\":\"%s\",\"version\":%u,\"bytes\":%zu,\"can\":",
                     file->hugging_face ? "huggingface" : "gguf", file->version, file->map.bytes);
    hone_text_json(text, able, strlen(able));
    hone_text_puts(text, about);
    hone_text_puts(text, ",\"metadata\":{");
    for (int64_t i = 0; i < file->key_count; i++) {
        if (i) hone_text_puts(text, ",");
        hone_text_json(text, file->keys[i].name.data, file->keys[i].name.length);
        hone_text_puts(text, ":");
        put_value(text, &file->keys[i], true);
    }
    hone_text_puts(text, "},\"tensors\":[");
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const GgufTensor *tensor = &file->tensors[i];
        hone_text_puts(text, i ? ",{\"name\":" : "{\"name\":");
        hone_text_json(text, tensor->name, strlen(tensor->name));
        hone_text_printf(text, ",\"type\":\"%s\",\"shape\":", hone_dtype_name(tensor->dtype));
        put_shape(text, tensor->rank, tensor->shape);
        hone_text_printf(text, ",\"bytes\":%zu}", tensor->bytes);
    }
    hone_text_puts(text, "]}\n");
}

static void gguf_words(const GgufFile *file, const char *able, const char *about,
                       TextBuffer *text) {
    int64_t parameters = 0;
    for (int64_t i = 0; i < file->tensor_count; i++)
        parameters += hone_gguf_tensor_values(&file->tensors[i]);
    hone_text_printf(text,
                     "%s\n  %s %u, %.1f MB, %lld tensors, %lld values\n  %s\n%s\n"
                     "metadata\n",
                     file->map.path,
                     file->hugging_face ? "Hugging Face folder, shown as GGUF version"
                                        : "GGUF version",
                     file->version, (double)file->map.bytes / 1e6, (long long)file->tensor_count,
                     (long long)parameters, able, about);
    for (int64_t i = 0; i < file->key_count; i++) {
        const GgufKey *key = &file->keys[i];
        hone_text_printf(text, "  %.*s = ", (int)key->name.length, key->name.data);
        put_value(text, key, false);
        hone_text_puts(text, "\n");
    }
    hone_text_puts(text, "\ntensors\n");
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const GgufTensor *tensor = &file->tensors[i];
        hone_text_printf(text, "  %-36s %-6s ", tensor->name, hone_dtype_name(tensor->dtype));
        put_shape(text, tensor->rank, tensor->shape);
        hone_text_puts(text, "\n");
    }
}

static hone_status inspect_gguf(HoneContext *context, const char *path, bool json, TextBuffer *text,
                                HoneError *fault) {
    GgufFile file;
    RETURN_IF_ERROR(hone_model_file_open(path, &file, &context->error));
    Arena memory = {0};
    TextBuffer able = {0}, about = {0};
    const bool adapter = strcmp(text_of(&file, "general.type", &memory), "adapter") == 0;
    can_do(context, path, adapter ? text_of(&file, "general.architecture", &memory) : NULL, json,
           &able, &about, fault);
    const char *said = able.data ? able.data : "", *more = about.data ? about.data : "";
    if (json)
        gguf_json(&file, said, more, text);
    else
        gguf_words(&file, said, more, text);
    hone_text_free(&able);
    hone_text_free(&about);
    hone_arena_free(&memory);
    hone_gguf_close(&file);
    return HONE_OK;
}

// ---- safetensors and PEFT ----------------------------------------------------------------------

static hone_status inspect_safetensors(HoneContext *context, const char *path, const char *able,
                                       const char *settings, bool json, TextBuffer *text) {
    SafeTensorsFile file;
    RETURN_IF_ERROR(hone_safetensors_open(path, &file, &context->error));
    if (json) {
        hone_text_printf(text,
                         ",\"format\":\"safetensors\",\"bytes\":%zu,\"can\":", file.map.bytes);
        hone_text_json(text, able, strlen(able));
        hone_text_puts(text, settings);
        hone_text_puts(text, ",\"tensors\":[");
    } else {
        hone_text_printf(text, "%s\n  safetensors, %.1f MB, %lld tensors\n  %s\n%s\ntensors\n",
                         path, (double)file.map.bytes / 1e6, (long long)file.count, able, settings);
    }
    for (int64_t i = 0; i < file.count; i++) {
        const SafeTensor *tensor = &file.tensors[i];
        if (json) {
            hone_text_puts(text, i ? ",{\"name\":" : "{\"name\":");
            hone_text_json(text, tensor->name, strlen(tensor->name));
            hone_text_printf(text, ",\"type\":\"%s\",\"shape\":", tensor->type_name);
            put_shape(text, tensor->rank, tensor->shape);
            hone_text_puts(text, "}");
        } else {
            hone_text_printf(text, "  %-72s %-5s ", tensor->name, tensor->type_name);
            put_shape(text, tensor->rank, tensor->shape);
            hone_text_puts(text, "\n");
        }
    }
    if (json) hone_text_puts(text, "]}\n");
    hone_safetensors_close(&file);
    return HONE_OK;
}

static bool ends_with(const char *path, const char *suffix) {
    size_t length = strlen(path), tail = strlen(suffix);
    return length >= tail && strcmp(path + length - tail, suffix) == 0;
}

static hone_status inspect_adapter(HoneContext *context, const char *folder, const char *name,
                                   const char *kind, bool json, TextBuffer *text,
                                   HoneError *fault) {
    char *path = hone_path_join(folder, name);
    if (!path) return hone_fail_memory(&context->error, 0, "a path");
    TextBuffer able = {0}, can = {0}, settings = {0};
    hone_text_printf(&able,
                     "%s: give the folder as --adapter to finetune, eval, chat, merge, and to hone "
                     "convert with its base as --model",
                     kind);
    hone_inspect_adapter(folder, NULL, able.data ? able.data : "", json, &can, &settings, fault);
    hone_inspect_adapter_config(folder, json, &settings);
    hone_status status = inspect_safetensors(context, path, can.data ? can.data : "",
                                             settings.data ? settings.data : "", json, text);
    hone_text_free(&able);
    hone_text_free(&can);
    hone_text_free(&settings);
    hone_free(path);
    return status;
}

static bool holds(const char *folder, const char *name) {
    char *path = hone_path_join(folder, name);
    bool there = path && hone_is_file(path);
    hone_free(path);
    return there;
}

static hone_status inspect_folder(HoneContext *context, const char *path, bool json,
                                  TextBuffer *text, HoneError *fault) {
    if (hone_is_run(path))
        hone_inspect_run(path, json, text, fault);
    else if (holds(path, "adapter_model.safetensors"))
        return inspect_adapter(context, path, "adapter_model.safetensors", "a PEFT adapter", json,
                               text, fault);
    else if (holds(path, "adapters.safetensors"))
        return inspect_adapter(context, path, "adapters.safetensors", "an MLX-LM adapter", json,
                               text, fault);
    else if (hone_is_hf_folder(path))
        return inspect_gguf(context, path, json, text, fault);
    else if (hone_is_checkpoint(path))
        hone_inspect_checkpoint(path, json, text);
    else if (holds(path, "tokenizer.json"))
        return hone_inspect_tokenizer(path, json, text, &context->error);
    else
        return hone_fail(&context->error, HONE_ERROR_INPUT,
                         "%s: holds no config.json (a model), no adapter_model.safetensors or "
                         "adapters.safetensors (an adapter), no config.yaml with metrics.jsonl (a "
                         "run) and no tokenizer.json",
                         path);
    return HONE_OK;
}

static hone_status inspect_path(HoneContext *context, const char *path, bool json, TextBuffer *text,
                                HoneError *fault) {
    if (hone_is_directory(path)) return inspect_folder(context, path, json, text, fault);
    if (ends_with(path, ".safetensors"))
        return inspect_safetensors(context, path,
                                   "tensors only; a PEFT folder holds adapter_config.json beside "
                                   "them, a model's config.json",
                                   "", json, text);
    if (ends_with(path, ".json")) return hone_inspect_tokenizer(path, json, text, &context->error);
    return inspect_gguf(context, path, json, text, fault);
}

hone_status hone_inspect(HoneContext *context, const char *path, bool json, char **out) {
    HoneError *err = hone_begin(context);
    *out = NULL;
    TextBuffer text = {0};
    if (json) {
        hone_text_puts(&text, "{\"path\":");
        hone_text_json(&text, path, strlen(path));
    }
    char *found;
    HoneError fault = {0};
    hone_status status = hone_hub_resolve(path, &found, err);
    if (status == HONE_OK && ends_with(path, ".safetensors"))
        status = inspect_path(context, path, json, &text, &fault); // that file and no other
    else if (status == HONE_OK)
        status = inspect_path(context, found, json, &text, &fault);
    hone_free(found);
    if (status == HONE_OK && text.failed) status = hone_fail_memory(err, text.length, "text");
    if (status != HONE_OK) {
        hone_text_free(&text);
        return status;
    }
    *out = text.data;
    return fault.status == HONE_ERROR_INPUT ? hone_fail(err, fault.status, "%s", fault.message)
                                            : HONE_OK;
}
