// SPDX-License-Identifier: Apache-2.0
// The classes that an encoder tells apart: their names, and a classifier for them.
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "train/session.h"

enum { MOST_LABELS = 100000 };

static hone_status keep_labels(HoneModel *model, const char *const *labels, int64_t count,
                               HoneError *err) {
    const char **kept = hone_arena_calloc(&model->memory, (size_t)count + 1, sizeof *kept);
    if (!kept) return hone_fail_memory(err, (size_t)count * sizeof *kept, "labels");
    for (int64_t i = 0; i < count; i++) {
        kept[i] = hone_arena_strndup(&model->memory, labels[i], strlen(labels[i]));
        if (!kept[i]) return hone_fail_memory(err, strlen(labels[i]), "a label");
    }
    model->labels = kept;
    model->label_count = count;
    return HONE_OK;
}

// ---- what the model's file says ----------------------------------------------------------------

// Of tags and of spans there is a classifier too, which tells no texts apart.
static bool classifies(const HoneModel *model) {
    static const char classify[] = "classify";
    GgufString head;
    if (model->config.labels < 2) return false;
    if (!hone_gguf_key(&model->file, "hone.head")) return !model->file.hugging_face;
    return hone_gguf_string(&model->file, "hone.head", &head, NULL) == HONE_OK &&
           head.length == strlen(classify) && memcmp(head.data, classify, head.length) == 0;
}

hone_status hone_read_labels(HoneModel *model, HoneError *err) {
    char key[96];
    GgufString *names = NULL;
    int64_t named = 0;
    const int64_t count = model->config.labels;
    if (!classifies(model)) return HONE_OK;
    snprintf(key, sizeof key, "%s.classifier.output_labels", model->config.architecture);
    if (hone_gguf_key(&model->file, key))
        RETURN_IF_ERROR(hone_gguf_strings(&model->file, key, &names, &named, err));
    const char **labels = hone_arena_calloc(&model->memory, (size_t)count, sizeof *labels);
    for (int64_t i = 0; i < count && labels; i++) {
        char plain[32];
        snprintf(plain, sizeof plain, "LABEL_%lld", (long long)i);
        const bool has =
            named == count && names[i].length > 0 && !memchr(names[i].data, '\0', names[i].length);
        labels[i] = has ? hone_arena_strndup(&model->memory, names[i].data, names[i].length)
                        : hone_arena_strndup(&model->memory, plain, strlen(plain));
        if (!labels[i]) labels = NULL;
    }
    hone_free(names);
    if (!labels) return hone_fail_memory(err, (size_t)count * sizeof *labels, "labels");
    model->labels = labels;
    model->label_count = count;
    return HONE_OK;
}

// ---- a classifier ------------------------------------------------------------------------------

// A tensor of the file, new or in another's place: normal of deviation 0.02, a bias of zeros.
static hone_status put_tensor(HoneModel *model, const char *name, int64_t rows, int64_t columns,
                              RandomStream *stream, HoneError *err) {
    GgufFile *file = &model->file;
    const int64_t count = rows * (columns ? columns : 1);
    float *values = hone_arena_calloc(&model->memory, (size_t)count, sizeof *values);
    if (!values) return hone_fail_memory(err, (size_t)count * sizeof *values, name);
    for (int64_t i = 0; i < count && columns; i++) values[i] = 0.02f * hone_random_normal(stream);
    const GgufTensor *known = hone_gguf_tensor(file, name);
    GgufTensor *tensor = &file->tensors[known ? known - file->tensors : file->tensor_count];
    *tensor = (GgufTensor){.dtype = HONE_F32,
                           .rank = columns ? 2 : 1,
                           .shape = {rows, columns ? columns : 1, 1, 1},
                           .data = values,
                           .bytes = (size_t)count * sizeof *values};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return known ? HONE_OK : hone_gguf_enter_tensor(file, err);
}

static bool has_labels(const HoneModel *model, const char *const *labels, int64_t count) {
    if (model->label_count != count) return false;
    for (int64_t i = 0; i < count; i++)
        if (strcmp(model->labels[i], labels[i]) != 0) return false;
    return true;
}

hone_status hone_model_add_classes(HoneModel *model, const char *const *labels, int64_t count,
                                   uint64_t seed, HoneError *err) {
    RETURN_IF_ERROR(hone_need_encoder(model));
    if (count < 2 || count > MOST_LABELS)
        return hone_fail(err, HONE_ERROR_INPUT, "%lld labels; classes are 2 to %d",
                         (long long)count, MOST_LABELS);
    if (has_labels(model, labels, count)) return HONE_OK;
    for (int64_t i = 0; i < model->slot_count; i++)
        if (model->slots[i].adapters > 0 || model->slots[i].whole.rank > 0)
            return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                             "%s: an adapter is there already: one with classes comes first",
                             model->name);
    const int64_t C = model->config.channels;
    RandomStream stream = hone_random_stream(seed, RANDOM_INITIAL, UINT64_MAX);
    RETURN_IF_ERROR(hone_gguf_make_room(&model->file, 4, err));
    RETURN_IF_ERROR(put_tensor(model, "cls.output.weight", count, C, &stream, err));
    RETURN_IF_ERROR(put_tensor(model, "cls.output.bias", count, 0, &stream, err));
    model->fresh_pooler = !model->config.pooler;
    if (!model->config.pooler) {
        RETURN_IF_ERROR(put_tensor(model, "cls.weight", C, C, &stream, err));
        RETURN_IF_ERROR(put_tensor(model, "cls.bias", C, 0, &stream, err));
    }
    RETURN_IF_ERROR(keep_labels(model, labels, count, err));
    return hone_model_build(model, err);
}

// ---- beside an adapter -------------------------------------------------------------------------

static hone_status labels_of(HoneModel *model, const char *path, const json_t *root,
                             const char ***labels, int64_t *count, HoneError *err) {
    const json_t *names = json_object_get(root, "id2label");
    const size_t size = json_object_size(names);
    const char **list = hone_arena_calloc(&model->memory, size + 1, sizeof *list);
    if (!list) return hone_fail_memory(err, size * sizeof *list, "labels");
    for (size_t i = 0; i < size; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        const char *name = json_string_value(json_object_get(names, key));
        if (!name)
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: \"id2label\" has %zu entries and no text for \"%s\"", path, size,
                             key);
        list[i] = hone_arena_strndup(&model->memory, name, strlen(name));
        if (!list[i]) return hone_fail_memory(err, strlen(name), "a label");
    }
    *labels = list;
    *count = (int64_t)size;
    return HONE_OK;
}

hone_status hone_labels_load(HoneModel *model, const char *folder, const char ***labels,
                             int64_t *count, HoneError *err) {
    *count = 0;
    char *path = hone_path_join(folder, "labels.json"), *text = NULL;
    size_t length;
    json_error_t fault;
    if (!path) return hone_fail_memory(err, 0, "a path");
    hone_status status = HONE_OK;
    if (hone_is_file(path)) status = hone_file_read(path, &text, &length, err);
    if (text) {
        json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
        status = json_is_object(root)
                     ? labels_of(model, path, root, labels, count, err)
                     : hone_fail(err, HONE_ERROR_INPUT, "%s: is no JSON object", path);
        json_decref(root);
    }
    hone_free(text);
    hone_free(path);
    return status;
}

hone_status hone_labels_save(const HoneModel *model, const char *path, HoneError *err) {
    TextBuffer text = {0};
    hone_text_puts(&text, "{\n  \"id2label\": {");
    for (int64_t i = 0; i < model->label_count; i++) {
        hone_text_printf(&text, "%s\n    \"%lld\": ", i ? "," : "", (long long)i);
        hone_text_json(&text, model->labels[i], strlen(model->labels[i]));
    }
    hone_text_puts(&text, "\n  }\n}\n");
    hone_status status = text.failed ? hone_fail_memory(err, text.length, "labels.json")
                                     : hone_file_write(path, text.data, text.length, err);
    hone_text_free(&text);
    return status;
}
