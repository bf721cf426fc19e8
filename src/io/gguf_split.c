// SPDX-License-Identifier: Apache-2.0
// A model in several files, NAME-00001-of-00003.gguf and so on: metadata in the first, tensors in
// all, each with split.no, split.count and split.tensors.count. They become one file in one map.
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/gguf_value.h"

enum { MOST_PARTS = 4096, SUFFIX = sizeof "-00001-of-00003.gguf" - 1 };

static const char *const split_keys[] = {"split.no", "split.count", "split.tensors.count"};

static void spell_suffix(char suffix[SUFFIX + 8], int64_t number, int64_t parts) {
    snprintf(suffix, SUFFIX + 8, "-%05d-of-%05d.gguf", (int)number, (int)parts);
}

// What a key of a part says; -1 without it.
static hone_status read_split(const GgufFile *file, const char *name, int64_t *value,
                              HoneError *err) {
    *value = -1;
    return hone_gguf_key(file, name) ? hone_gguf_int(file, name, value, err) : HONE_OK;
}

hone_status hone_gguf_parts(const GgufFile *file, int64_t *parts, HoneError *err) {
    const char *path = file->map.path;
    const size_t length = strlen(path);
    char suffix[SUFFIX + 8];
    int64_t number, count;
    RETURN_IF_ERROR(read_split(file, "split.count", &count, err));
    *parts = count;
    if (count <= 1) return HONE_OK;
    if (count > MOST_PARTS)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: split.count is %lld, want at most %d", path,
                         (long long)count, MOST_PARTS);
    RETURN_IF_ERROR(read_split(file, "split.no", &number, err));
    spell_suffix(suffix, 1, count);
    if (number != 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: is part %lld of %lld of a model: give the first, whose name ends in "
                         "%s",
                         path, (long long)number + 1, (long long)count, suffix);
    if (length > SUFFIX && strcmp(path + length - SUFFIX, suffix) == 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: is the first of %lld files, and without a name that ends in %s the "
                     "others are not found",
                     path, (long long)count, suffix);
}

char *hone_gguf_part_path(const GgufFile *file, int64_t part) {
    char *path = hone_strdup(file->map.path);
    char suffix[SUFFIX + 8];
    if (!path || file->parts <= 1) return path;
    spell_suffix(suffix, part + 1, file->parts);
    memcpy(path + strlen(path) - SUFFIX, suffix, SUFFIX);
    return path;
}

// ---- the files ---------------------------------------------------------------------------------

typedef struct Parts {
    int64_t count;
    Arena memory;
    const char **paths;
    size_t *begin, *bytes;
    GgufFile *files; // views of the map
} Parts;

static hone_status name_files(Parts *parts, const char *path, HoneError *err) {
    const size_t stem = strlen(path) - SUFFIX, room = stem + SUFFIX + 8;
    const size_t count = (size_t)parts->count;
    parts->paths = hone_arena_calloc(&parts->memory, count, sizeof *parts->paths);
    parts->begin = hone_arena_calloc(&parts->memory, count, sizeof *parts->begin);
    parts->bytes = hone_arena_calloc(&parts->memory, count, sizeof *parts->bytes);
    parts->files = hone_arena_calloc(&parts->memory, count, sizeof *parts->files);
    if (!parts->paths || !parts->begin || !parts->bytes || !parts->files)
        return hone_fail_memory(err, count * sizeof *parts->files, "files");
    for (int64_t i = 0; i < parts->count; i++) {
        char *name = hone_arena_alloc(&parts->memory, room);
        if (!name) return hone_fail_memory(err, room, "a path");
        memcpy(name, path, stem);
        spell_suffix(name + stem, i + 1, parts->count);
        parts->paths[i] = name;
        if (!hone_is_file(name))
            return hone_fail(err, HONE_ERROR_INPUT, "%s: is missing: the model is in %lld files",
                             name, (long long)parts->count);
    }
    return HONE_OK;
}

static hone_status parse_part(Parts *parts, int64_t i, const FileMap *map, HoneError *err) {
    GgufFile *file = &parts->files[i];
    int64_t number, count;
    file->map = (FileMap){parts->bytes[i] ? map->data + parts->begin[i] : NULL, parts->bytes[i],
                          (char *)(uintptr_t)parts->paths[i]};
    RETURN_IF_ERROR(hone_gguf_parse(file, err));
    RETURN_IF_ERROR(read_split(file, "split.no", &number, err));
    RETURN_IF_ERROR(read_split(file, "split.count", &count, err));
    if (number == i && count == parts->count) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: says that it is part %lld of %lld: it belongs to another model",
                     parts->paths[i], (long long)number + 1, (long long)count);
}

// ---- as one ------------------------------------------------------------------------------------

// The first part's keys, but for those that say what it is a part of.
static hone_status take_keys(GgufFile *file, GgufFile *first, HoneError *err) {
    file->version = first->version;
    file->alignment = first->alignment;
    file->keys = first->keys;
    first->keys = NULL;
    file->key_index = hone_calloc(1, sizeof *file->key_index);
    if (!file->key_index) return hone_fail_memory(err, sizeof *file->key_index, "keys");
    for (int64_t i = 0; i < first->key_count; i++) {
        const GgufKey key = file->keys[i];
        bool splits = false;
        for (size_t k = 0; k < sizeof split_keys / sizeof *split_keys; k++)
            splits |= key.name.length == strlen(split_keys[k]) &&
                      memcmp(key.name.data, split_keys[k], key.name.length) == 0;
        if (splits) continue;
        if (!hone_map_put(file->key_index, key.name.data, key.name.length, file->key_count))
            return hone_fail_memory(err, key.name.length, "an index of names");
        file->keys[file->key_count++] = key;
    }
    return HONE_OK;
}

static hone_status take_tensors(GgufFile *file, const Parts *parts, HoneError *err) {
    int64_t total = 0, told;
    for (int64_t i = 0; i < parts->count; i++) total += parts->files[i].tensor_count;
    RETURN_IF_ERROR(read_split(&parts->files[0], "split.tensors.count", &told, err));
    if (told >= 0 && told != total)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: split.tensors.count is %lld, its %lld files have %lld tensors",
                         parts->paths[0], (long long)told, (long long)parts->count,
                         (long long)total);
    file->tensors = hone_calloc((size_t)total, sizeof *file->tensors);
    file->tensor_index = hone_calloc(1, sizeof *file->tensor_index);
    if (!file->tensors || !file->tensor_index)
        return hone_fail_memory(err, (size_t)total * sizeof *file->tensors, "tensors");
    for (int64_t i = 0; i < parts->count; i++)
        for (int64_t t = 0; t < parts->files[i].tensor_count; t++) {
            file->tensors[file->tensor_count] = parts->files[i].tensors[t];
            RETURN_IF_ERROR(hone_gguf_enter_tensor(file, err));
        }
    return HONE_OK;
}

static hone_status open_all(Parts *parts, const char *path, GgufFile *file, HoneError *err) {
    RETURN_IF_ERROR(name_files(parts, path, err));
    RETURN_IF_ERROR(hone_files_map(path, parts->paths, (int)parts->count, &file->map, parts->begin,
                                   parts->bytes, err));
    for (int64_t i = 0; i < parts->count; i++)
        RETURN_IF_ERROR(parse_part(parts, i, &file->map, err));
    file->parts = parts->count;
    RETURN_IF_ERROR(take_tensors(file, parts, err));
    return take_keys(file, &parts->files[0], err);
}

hone_status hone_gguf_open_parts(const char *path, int64_t count, GgufFile *file, HoneError *err) {
    Parts parts = {.count = count};
    *file = (GgufFile){0};
    hone_status status = open_all(&parts, path, file, err);
    for (int64_t i = 0; parts.files && i < count; i++) {
        parts.files[i].map = (FileMap){0}; // a view of file->map
        hone_gguf_close(&parts.files[i]);
    }
    hone_arena_free(&parts.memory);
    if (status != HONE_OK) hone_gguf_close(file);
    return status;
}
