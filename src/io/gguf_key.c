// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/gguf_value.h"

const GgufKey *hone_gguf_key(const GgufFile *file, const char *name) {
    if (!file->key_index) return NULL; // a model that came from no file
    int64_t found = hone_map_get(file->key_index, name, strlen(name), -1);
    return found < 0 ? NULL : &file->keys[found];
}

const GgufTensor *hone_gguf_tensor(const GgufFile *file, const char *name) {
    int64_t found = hone_map_get(file->tensor_index, name, strlen(name), -1);
    return found < 0 ? NULL : &file->tensors[found];
}

int64_t hone_gguf_tensor_values(const GgufTensor *tensor) {
    int64_t count = 1;
    for (int axis = 0; axis < tensor->rank; axis++) count *= tensor->shape[axis];
    return count;
}

static hone_status need_key(const GgufFile *file, const char *name, const GgufKey **key,
                            HoneError *err) {
    *key = hone_gguf_key(file, name);
    if (*key) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: key %s is missing", file->map.path, name);
}

static hone_status wrong_kind(const GgufFile *file, const GgufKey *key, const char *wanted,
                              HoneError *err) {
    bool array = key->type == GGUF_ARRAY;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: key %.*s is of type %s%s%s, %s is wanted",
                     file->map.path, key->name.length < 100 ? (int)key->name.length : 100,
                     key->name.data, gguf_type_name(key->type), array ? " of " : "",
                     array ? gguf_type_name(key->element) : "", wanted);
}

static hone_status too_large(const GgufFile *file, const char *name, const char *limit,
                             HoneError *err) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s: key %s holds an integer outside of %s",
                     file->map.path, name, limit);
}

hone_status hone_gguf_int(const GgufFile *file, const char *name, int64_t *value, HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (!gguf_is_integer(key->type)) return wrong_kind(file, key, "an integer", err);
    if (!gguf_load_integer(key->type, key->raw, value)) return too_large(file, name, "int64", err);
    return HONE_OK;
}

hone_status hone_gguf_float(const GgufFile *file, const char *name, double *value, HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (!gguf_is_float(key->type)) return wrong_kind(file, key, "f32", err);
    *value = key->value.f;
    return HONE_OK;
}

hone_status hone_gguf_string(const GgufFile *file, const char *name, GgufString *value,
                             HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (key->type != GGUF_STRING) return wrong_kind(file, key, "string", err);
    *value = key->value.string;
    return HONE_OK;
}

hone_status hone_gguf_strings(const GgufFile *file, const char *name, GgufString **items,
                              int64_t *count, HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (key->type != GGUF_ARRAY || key->element != GGUF_STRING)
        return wrong_kind(file, key, "array of string", err);
    GgufString *strings = hone_calloc(key->count, sizeof *strings);
    if (!strings) return hone_fail_memory(err, key->element_bytes, name);
    const unsigned char *p = key->elements; // lengths were checked when the file was opened
    for (uint64_t i = 0; i < key->count; i++) {
        size_t length = gguf_load_u64(p);
        strings[i] = (GgufString){(const char *)p + 8, length};
        p += 8 + length;
    }
    *items = strings;
    *count = (int64_t)key->count;
    return HONE_OK;
}

hone_status hone_gguf_ints(const GgufFile *file, const char *name, int32_t **items, int64_t *count,
                           HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (key->type != GGUF_ARRAY || !gguf_is_integer(key->element))
        return wrong_kind(file, key, "array of i32", err);
    int32_t *numbers = hone_calloc(key->count, sizeof *numbers);
    if (!numbers) return hone_fail_memory(err, key->element_bytes, name);
    size_t each = gguf_type_bytes(key->element);
    for (uint64_t i = 0; i < key->count; i++) {
        int64_t value;
        bool fits = gguf_load_integer(key->element, key->elements + i * each, &value);
        if (!fits || value < INT32_MIN || value > INT32_MAX) {
            hone_free(numbers);
            return too_large(file, name, "int32", err);
        }
        numbers[i] = (int32_t)value;
    }
    *items = numbers;
    *count = (int64_t)key->count;
    return HONE_OK;
}

hone_status hone_gguf_floats(const GgufFile *file, const char *name, float **items, int64_t *count,
                             HoneError *err) {
    const GgufKey *key;
    RETURN_IF_ERROR(need_key(file, name, &key, err));
    if (key->type != GGUF_ARRAY || !gguf_is_float(key->element))
        return wrong_kind(file, key, "array of f32", err);
    float *numbers = hone_calloc(key->count, sizeof *numbers);
    if (!numbers) return hone_fail_memory(err, key->element_bytes, name);
    size_t each = gguf_type_bytes(key->element);
    for (uint64_t i = 0; i < key->count; i++)
        numbers[i] = (float)gguf_load_float(key->element, key->elements + i * each);
    *items = numbers;
    *count = (int64_t)key->count;
    return HONE_OK;
}
