// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/gguf_value.h"
#include "io/sniff.h"

enum { LARGEST_HEADER = 100000000, MOST_DIMENSIONS = 8 };

typedef struct StoredType {
    const char *name;
    int bits;
    int dtype; // -1: known, not read by Hone
} StoredType;

static const StoredType stored_types[] = {
    {"F32", 32, HONE_F32}, {"F16", 16, HONE_F16},  {"BF16", 16, HONE_BF16}, {"F64", 64, HONE_F64},
    {"I8", 8, HONE_I8},    {"I16", 16, HONE_I16},  {"I32", 32, HONE_I32},   {"I64", 64, HONE_I64},
    {"BOOL", 8, -1},       {"U8", 8, -1},          {"U16", 16, -1},         {"U32", 32, -1},
    {"U64", 64, -1},       {"C64", 64, -1},        {"F8_E5M2", 8, -1},      {"F8_E4M3", 8, -1},
    {"F8_E8M0", 8, -1},    {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1},  {"F6_E2M3", 6, -1},
    {"F6_E3M2", 6, -1},    {"F4", 4, -1},
};

static const StoredType *find_type(const char *name) {
    for (size_t i = 0; i < sizeof stored_types / sizeof stored_types[0]; i++)
        if (strcmp(stored_types[i].name, name) == 0) return &stored_types[i];
    return NULL;
}

// ---- reading -----------------------------------------------------------------------------------

static hone_status bad_entry(HoneError *err, const char *path, const char *name, const char *what) {
    return hone_fail(err, HONE_ERROR_INPUT, "%s: tensor %.200s: %s", path, name, what);
}

static hone_status read_type(const char *path, SafeTensor *tensor, const json_t *entry, int *bits,
                             HoneError *err) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name) return bad_entry(err, path, tensor->name, "it has no \"dtype\" string");
    const StoredType *type = find_type(name);
    if (!type)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s: the type %.40s is not known", path, tensor->name,
                         name);
    strncpy(tensor->type_name, name, sizeof tensor->type_name - 1);
    tensor->dtype = type->dtype;
    *bits = type->bits;
    return HONE_OK;
}

// The shape and, checked, the bytes that it asks for.
static hone_status read_shape(const char *path, SafeTensor *tensor, const json_t *entry, int bits,
                              size_t *bytes, HoneError *err) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return bad_entry(err, path, tensor->name, "it has no \"shape\" array");
    if (json_array_size(shape) > MOST_DIMENSIONS)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: tensor %.200s has %zu dimensions, at most %d can be read", path,
                         tensor->name, json_array_size(shape), MOST_DIMENSIONS);
    tensor->rank = (int)json_array_size(shape);
    size_t elements = 1, total = 0;
    bool fits = true;
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return bad_entry(err, path, tensor->name, "its shape is not of whole numbers");
        tensor->shape[i] = json_integer_value(size);
        fits = fits && hone_size_product(elements, (size_t)tensor->shape[i], &elements);
    }
    if (!fits || !hone_size_product(elements, (size_t)bits, &total))
        return bad_entry(err, path, tensor->name,
                         "its shape holds more values than can be counted");
    if (total % 8 != 0)
        return bad_entry(err, path, tensor->name, "its values do not fill whole bytes");
    *bytes = total / 8;
    return HONE_OK;
}

static hone_status read_entry(const SafeTensorsFile *file, const unsigned char *data,
                              size_t data_bytes, SafeTensor *tensor, const json_t *entry,
                              HoneError *err) {
    const char *path = file->map.path;
    if (!json_is_object(entry)) return bad_entry(err, path, tensor->name, "it is not an object");
    int bits = 0;
    size_t bytes = 0;
    RETURN_IF_ERROR(read_type(path, tensor, entry, &bits, err));
    RETURN_IF_ERROR(read_shape(path, tensor, entry, bits, &bytes, err));
    const json_t *range = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return bad_entry(err, path, tensor->name, "its \"data_offsets\" are not [begin, end]");
    size_t begin = (size_t)json_integer_value(first), end = (size_t)json_integer_value(last);
    if (end > data_bytes)
        return hone_fail(
            err, HONE_ERROR_INPUT,
            "%s: tensor %.200s: bytes %zu…%zu of the data lie past the end of the file "
            "(%zu bytes of data): the file is cut short, fetch it again",
            path, tensor->name, begin, end, data_bytes);
    if (end - begin != bytes)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: tensor %.200s: its range has %zu bytes, its shape and type %s ask "
                         "for %zu",
                         path, tensor->name, end - begin, tensor->type_name, bytes);
    tensor->data = data + begin;
    tensor->bytes = bytes;
    return HONE_OK;
}

static int by_place(const void *left, const void *right) {
    const SafeTensor *a = left, *b = right;
    const char *a_data = a->data, *b_data = b->data;
    if (a_data != b_data) return a_data < b_data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const SafeTensor *)left)->name, ((const SafeTensor *)right)->name);
}

// Every byte of the data belongs to exactly one tensor.
static hone_status check_cover(SafeTensorsFile *file, const unsigned char *data, size_t data_bytes,
                               HoneError *err) {
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
    size_t reached = 0;
    for (int64_t i = 0; i < file->count; i++) {
        const SafeTensor *tensor = &file->tensors[i];
        size_t begin = (size_t)((const unsigned char *)tensor->data - data);
        if (begin != reached)
            return hone_fail(err, HONE_ERROR_INPUT,
                             "%s: tensor %.200s begins at byte %zu of the data, %s byte %zu, where "
                             "the one before ends",
                             file->map.path, tensor->name, begin,
                             begin < reached ? "before" : "after", reached);
        reached += tensor->bytes;
    }
    if (reached != data_bytes)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: %zu bytes of data follow the last tensor: the file is damaged",
                         file->map.path, data_bytes - reached);
    return HONE_OK;
}

static hone_status check_metadata(const SafeTensorsFile *file, json_t *metadata, HoneError *err) {
    const char *key;
    json_t *value;
    bool strings = json_is_object(metadata) || json_is_null(metadata); // null: as MLX writes it
    json_object_foreach(metadata, key, value) strings =
        strings && (json_is_string(value) || json_is_null(value));
    if (strings) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: __metadata__ is not an object of strings",
                     file->map.path);
}

static hone_status read_header(SafeTensorsFile *file, json_t *root, const unsigned char *data,
                               size_t data_bytes, HoneError *err) {
    file->tensors = hone_calloc(json_object_size(root), sizeof *file->tensors);
    if (!file->tensors)
        return hone_fail_memory(err, json_object_size(root) * sizeof *file->tensors, "tensors");
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            RETURN_IF_ERROR(check_metadata(file, entry, err));
            continue;
        }
        SafeTensor *tensor = &file->tensors[file->count];
        tensor->name = hone_strdup(name);
        if (!tensor->name) return hone_fail_memory(err, strlen(name) + 1, "a tensor's name");
        file->count++;
        RETURN_IF_ERROR(read_entry(file, data, data_bytes, tensor, entry, err));
    }
    RETURN_IF_ERROR(check_cover(file, data, data_bytes, err));
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_name);
    return HONE_OK;
}

static hone_status parse(SafeTensorsFile *file, HoneError *err) {
    const FileMap *map = &file->map;
    if (map->bytes == 0)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: the file is empty", map->path);
    const char *phrase = hone_sniff(map->data, map->bytes);
    bool shaped = map->bytes >= 10 && map->data[8] == '{';
    if (!shaped && phrase)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: not a safetensors file: %s", map->path,
                         phrase);
    uint64_t header = map->bytes >= 8 ? gguf_load_u64(map->data) : UINT64_MAX;
    if (map->bytes < 8 || header > map->bytes - 8)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the header's length of %llu bytes does not fit into the file (%zu "
                         "bytes): not a safetensors file, or cut short",
                         map->path, (unsigned long long)header, map->bytes);
    if (header > LARGEST_HEADER)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the header has %llu bytes, the format allows %d", map->path,
                         (unsigned long long)header, LARGEST_HEADER);
    json_error_t fault = {0};
    hone_memory_watch();
    json_t *root =
        json_loadb((const char *)map->data + 8, (size_t)header, JSON_REJECT_DUPLICATES, &fault);
    if (!root && hone_memory_lacked()) return hone_fail_memory(err, (size_t)header, map->path);
    if (!root)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: the header is not JSON: %s (at its byte %d)",
                         map->path, fault.text, fault.position);
    hone_status status = HONE_OK;
    if (json_is_object(root))
        status = read_header(file, root, map->data + 8 + header, map->bytes - 8 - header, err);
    else
        status = hone_fail(err, HONE_ERROR_INPUT, "%s: the header is no JSON object", map->path);
    json_decref(root);
    return status;
}

hone_status hone_safetensors_open(const char *path, SafeTensorsFile *file, HoneError *err) {
    *file = (SafeTensorsFile){0};
    RETURN_IF_ERROR(hone_file_map(path, &file->map, err));
    hone_status status = parse(file, err);
    if (status != HONE_OK) hone_safetensors_close(file);
    return status;
}

hone_status hone_safetensors_parse(const char *path, const unsigned char *data, size_t bytes,
                                   SafeTensorsFile *file, HoneError *err) {
    *file = (SafeTensorsFile){.map = {data, bytes, hone_strdup(path)}, .borrowed = true};
    if (!file->map.path) return hone_fail_memory(err, strlen(path) + 1, "a path");
    hone_status status = parse(file, err);
    if (status != HONE_OK) hone_safetensors_close(file);
    return status;
}

void hone_safetensors_close(SafeTensorsFile *file) {
    for (int64_t i = 0; i < file->count; i++) hone_free(file->tensors[i].name);
    hone_free(file->tensors);
    if (file->borrowed) file->map.data = NULL;
    hone_file_unmap(&file->map);
    *file = (SafeTensorsFile){0};
}

const SafeTensor *hone_safetensors_find(const SafeTensorsFile *file, const char *name) {
    int64_t low = 0, high = file->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(file->tensors[middle].name, name);
        if (order == 0) return &file->tensors[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
