// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/gguf_value.h"
#include "io/sniff.h"

enum {
    SMALLEST_KEY = 8 + 1 + 4 + 1,        // name length, name, type, value
    SMALLEST_TENSOR = 8 + 1 + 4 + 4 + 8, // name length, name, rank, type, offset
    DEFAULT_ALIGNMENT = 32,
    LEAST_ALIGNMENT = 8, // what the widest plain type needs, as GGUF itself asks
};

// Reads forward through the metadata; `place` names what is being read, for messages.
typedef struct Cursor {
    const unsigned char *data;
    size_t bytes, offset;
    const char *path;
    char place[160];
    HoneError *err;
} Cursor;

#define FETCH_AGAIN "the file is cut short, fetch it again"

static hone_status take(Cursor *cursor, size_t bytes, const unsigned char **taken) {
    size_t left = cursor->bytes - cursor->offset;
    if (bytes > left)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: %zu bytes are wanted at byte %zu, past the end of the file (%zu "
                         "bytes): " FETCH_AGAIN,
                         cursor->path, cursor->place, bytes, cursor->offset, cursor->bytes);
    *taken = cursor->data + cursor->offset;
    cursor->offset += bytes;
    return HONE_OK;
}

static hone_status take_u32(Cursor *cursor, uint32_t *value) {
    const unsigned char *p = NULL;
    RETURN_IF_ERROR(take(cursor, sizeof *value, &p));
    *value = gguf_load_u32(p);
    return HONE_OK;
}

static hone_status take_u64(Cursor *cursor, uint64_t *value) {
    const unsigned char *p = NULL;
    RETURN_IF_ERROR(take(cursor, sizeof *value, &p));
    *value = gguf_load_u64(p);
    return HONE_OK;
}

static hone_status take_string(Cursor *cursor, GgufString *string) {
    uint64_t length = 0;
    const unsigned char *p = NULL;
    RETURN_IF_ERROR(take_u64(cursor, &length));
    RETURN_IF_ERROR(take(cursor, length, &p));
    *string = (GgufString){(const char *)p, length};
    return HONE_OK;
}

// A count stands for at least count·smallest bytes to come, so nothing larger need be believed.
static hone_status take_count(Cursor *cursor, const char *what, size_t smallest, int64_t *count) {
    uint64_t value = 0;
    snprintf(cursor->place, sizeof cursor->place, "number of %s", what);
    RETURN_IF_ERROR(take_u64(cursor, &value));
    if (value > cursor->bytes / smallest)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: it claims %llu %s, more than its %zu bytes can hold: the file is "
                         "damaged, fetch it again",
                         cursor->path, (unsigned long long)value, what, cursor->bytes);
    *count = (int64_t)value;
    return HONE_OK;
}

// ---- keys --------------------------------------------------------------------------------------

static hone_status read_array(Cursor *cursor, GgufKey *key) {
    uint32_t element = 0;
    RETURN_IF_ERROR(take_u32(cursor, &element));
    RETURN_IF_ERROR(take_u64(cursor, &key->count));
    if (element >= GGUF_TYPE_COUNT)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: its elements have type %u, and GGUF knows 0 to %d", cursor->path,
                         cursor->place, element, GGUF_TYPE_COUNT - 1);
    key->element = (GgufType)element;
    if (key->element == GGUF_ARRAY)
        return hone_fail(cursor->err, HONE_ERROR_UNSUPPORTED,
                         "%s: %s: an array of arrays, which llama.cpp does not read either",
                         cursor->path, cursor->place);
    size_t begin = cursor->offset, each = gguf_type_bytes(key->element), bytes = 0;
    key->elements = cursor->data + begin;
    if (key->element == GGUF_STRING) {
        GgufString string;
        for (uint64_t i = 0; i < key->count; i++) RETURN_IF_ERROR(take_string(cursor, &string));
    } else {
        const unsigned char *p = NULL;
        if (!hone_size_product(key->count, each, &bytes)) bytes = SIZE_MAX;
        RETURN_IF_ERROR(take(cursor, bytes, &p));
    }
    key->element_bytes = cursor->offset - begin;
    return HONE_OK;
}

static hone_status read_value(Cursor *cursor, GgufKey *key) {
    if (key->type == GGUF_ARRAY) return read_array(cursor, key);
    if (key->type == GGUF_STRING) return take_string(cursor, &key->value.string);
    const unsigned char *p = NULL;
    RETURN_IF_ERROR(take(cursor, gguf_type_bytes(key->type), &p));
    if (gguf_is_float(key->type))
        key->value.f = gguf_load_float(key->type, p);
    else if (key->type == GGUF_U64)
        key->value.u = gguf_load_u64(p);
    else
        gguf_load_integer(key->type, p, &key->value.i);
    return HONE_OK;
}

static hone_status index_name(Cursor *cursor, StringMap *index, const GgufString *name,
                              int64_t number, const char *what) {
    if (name->length == 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT, "%s: %s %lld has an empty name",
                         cursor->path, what, (long long)number);
    if (hone_map_get(index, name->data, name->length, -1) >= 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: two %ss have the name %.*s: the file is damaged", cursor->path, what,
                         name->length < 100 ? (int)name->length : 100, name->data);
    if (!hone_map_put(index, name->data, name->length, number))
        return hone_fail_memory(cursor->err, name->length, "an index of names");
    return HONE_OK;
}

static hone_status read_key(Cursor *cursor, GgufFile *file, int64_t number) {
    GgufKey *key = &file->keys[number];
    uint32_t type = 0;
    snprintf(cursor->place, sizeof cursor->place, "key %lld", (long long)number);
    RETURN_IF_ERROR(take_string(cursor, &key->name));
    RETURN_IF_ERROR(index_name(cursor, file->key_index, &key->name, number, "key"));
    snprintf(cursor->place, sizeof cursor->place, "key %.*s",
             key->name.length < 100 ? (int)key->name.length : 100, key->name.data);
    RETURN_IF_ERROR(take_u32(cursor, &type));
    if (type >= GGUF_TYPE_COUNT)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: its value has type %u, and GGUF knows 0 to %d", cursor->path,
                         cursor->place, type, GGUF_TYPE_COUNT - 1);
    key->type = (GgufType)type;
    key->raw = cursor->data + cursor->offset;
    size_t begin = cursor->offset;
    RETURN_IF_ERROR(read_value(cursor, key));
    key->raw_bytes = cursor->offset - begin;
    return HONE_OK;
}

static hone_status read_alignment(Cursor *cursor, GgufFile *file) {
    const GgufKey *key = hone_gguf_key(file, "general.alignment");
    file->alignment = DEFAULT_ALIGNMENT;
    if (!key) return HONE_OK;
    if (key->type != GGUF_U32)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: key general.alignment is of type %s, u32 is wanted", cursor->path,
                         gguf_type_name(key->type));
    uint64_t alignment = key->value.u;
    if (alignment < LEAST_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: key general.alignment is %llu: a power of two from %d up is wanted",
                         cursor->path, (unsigned long long)alignment, LEAST_ALIGNMENT);
    file->alignment = alignment;
    return HONE_OK;
}

// ---- tensors -----------------------------------------------------------------------------------

// Where a tensor's data lies, from the start of the data.
typedef struct Extent {
    uint64_t begin, end;
    int64_t tensor;
} Extent;

// bytes = product of dimensions / block · block_bytes, every product checked.
static hone_status size_tensor(Cursor *cursor, GgufTensor *tensor) {
    const DtypeInfo *info = hone_dtype_info(tensor->dtype);
    size_t elements = 1;
    bool fits = true;
    for (int i = 0; i < tensor->rank; i++)
        fits = fits && hone_size_product(elements, (size_t)tensor->shape[i], &elements);
    if (fits && info->block_bytes)
        fits = hone_size_product(elements / (size_t)info->block, (size_t)info->block_bytes,
                                 &tensor->bytes);
    if (!fits || elements > INT64_MAX)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: its shape (%lld,%lld,%lld,%lld) holds more than 2^63 values",
                         cursor->path, cursor->place, (long long)tensor->shape[0],
                         (long long)tensor->shape[1], (long long)tensor->shape[2],
                         (long long)tensor->shape[3]);
    int64_t row = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    if (info->block > 1 && row % info->block != 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: its rows of %lld values are no multiple of %s's block of %d",
                         cursor->path, cursor->place, (long long)row, info->name, info->block);
    return HONE_OK;
}

static hone_status read_shape(Cursor *cursor, GgufTensor *tensor) {
    uint32_t rank = 0;
    RETURN_IF_ERROR(take_u32(cursor, &rank));
    if (rank > 4)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: it has %u dimensions, and GGUF allows 4", cursor->path,
                         cursor->place, rank);
    tensor->rank = (int)rank;
    for (int i = 0; i < 4; i++) tensor->shape[i] = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) { // stored fastest first
        uint64_t size = 0;
        RETURN_IF_ERROR(take_u64(cursor, &size));
        if (size > INT64_MAX)
            return hone_fail(cursor->err, HONE_ERROR_INPUT, "%s: %s: dimension %d is %lld",
                             cursor->path, cursor->place, i, (long long)size);
        tensor->shape[i] = (int64_t)size;
    }
    return HONE_OK;
}

static hone_status read_tensor(Cursor *cursor, GgufFile *file, int64_t number, Extent *extent) {
    GgufTensor *tensor = &file->tensors[number];
    GgufString name = {0};
    uint32_t type = 0;
    snprintf(cursor->place, sizeof cursor->place, "tensor %lld", (long long)number);
    RETURN_IF_ERROR(take_string(cursor, &name));
    if (name.length >= sizeof tensor->name || memchr(name.data, 0, name.length))
        return hone_fail(
            cursor->err, HONE_ERROR_INPUT,
            "%s: %s: its name is of %zu bytes; at most %zu, none of them 0, are wanted",
            cursor->path, cursor->place, name.length, sizeof tensor->name - 1);
    RETURN_IF_ERROR(index_name(cursor, file->tensor_index, &name, number, "tensor"));
    memcpy(tensor->name, name.data, name.length);
    snprintf(cursor->place, sizeof cursor->place, "tensor %s", tensor->name);
    RETURN_IF_ERROR(read_shape(cursor, tensor));
    RETURN_IF_ERROR(take_u32(cursor, &type));
    RETURN_IF_ERROR(take_u64(cursor, &extent->begin));
    tensor->dtype = type <= INT32_MAX ? (int)type : -1;
    extent->tensor = number;
    return size_tensor(cursor, tensor);
}

// Set the data pointer, now that the start of the data is known.
static hone_status place_tensor(Cursor *cursor, GgufFile *file, size_t start, Extent *extent) {
    GgufTensor *tensor = &file->tensors[extent->tensor];
    snprintf(cursor->place, sizeof cursor->place, "tensor %s", tensor->name);
    if (extent->begin % file->alignment != 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT,
                         "%s: %s: its offset %llu is no multiple of the alignment %llu",
                         cursor->path, cursor->place, (unsigned long long)extent->begin,
                         (unsigned long long)file->alignment);
    uint64_t room = file->map.bytes > start ? file->map.bytes - start : 0;
    extent->end = extent->begin + tensor->bytes; // wraps only if it is past the end anyway
    if (extent->begin > room || tensor->bytes > room - extent->begin) {
        unsigned long long begin = start + extent->begin;
        return hone_fail(
            cursor->err, HONE_ERROR_INPUT,
            "%s: %s: bytes %llu…%llu lie past the end of the file (%zu bytes): " FETCH_AGAIN,
            cursor->path, cursor->place, begin, begin + tensor->bytes, file->map.bytes);
    }
    if (hone_dtype_info(tensor->dtype)->block_bytes)
        tensor->data = file->map.data + (tensor->bytes ? start + extent->begin : 0);
    return HONE_OK;
}

static int compare_extents(const void *left, const void *right) {
    const Extent *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

// Two tensors over the same bytes: some offset is wrong, and weights would be silently so.
static hone_status check_overlaps(Cursor *cursor, const GgufFile *file, Extent *extents) {
    bool ascending = true;
    for (int64_t i = 1; i < file->tensor_count; i++)
        ascending = ascending && extents[i - 1].end <= extents[i].begin;
    if (ascending) return HONE_OK;
    qsort(extents, (size_t)file->tensor_count, sizeof *extents, compare_extents);
    for (int64_t i = 1; i < file->tensor_count; i++)
        if (extents[i - 1].end > extents[i].begin)
            return hone_fail(cursor->err, HONE_ERROR_INPUT,
                             "%s: tensors %s and %s lie over each other: the file is damaged",
                             cursor->path, file->tensors[extents[i - 1].tensor].name,
                             file->tensors[extents[i].tensor].name);
    return HONE_OK;
}

static hone_status read_tensors(Cursor *cursor, GgufFile *file, Extent *extents) {
    for (int64_t i = 0; i < file->tensor_count; i++)
        RETURN_IF_ERROR(read_tensor(cursor, file, i, &extents[i]));
    if (file->tensor_count == 0) return HONE_OK;
    // offset < 2^63 and alignment < 2^32, so this does not wrap
    size_t start = (cursor->offset + file->alignment - 1) / file->alignment * file->alignment;
    for (int64_t i = 0; i < file->tensor_count; i++)
        RETURN_IF_ERROR(place_tensor(cursor, file, start, &extents[i]));
    return check_overlaps(cursor, file, extents);
}

// ---- the file ----------------------------------------------------------------------------------

static hone_status read_start(Cursor *cursor, GgufFile *file) {
    const unsigned char *magic = NULL;
    if (cursor->bytes == 0)
        return hone_fail(cursor->err, HONE_ERROR_INPUT, "%s: the file is empty", cursor->path);
    if (cursor->bytes < 4 || memcmp(cursor->data, "GGUF", 4) != 0) {
        const char *phrase = hone_sniff(cursor->data, cursor->bytes);
        unsigned char first[4] = {0};
        memcpy(first, cursor->data, cursor->bytes < 4 ? cursor->bytes : 4);
        if (phrase)
            return hone_fail(cursor->err, HONE_ERROR_INPUT, "%s: not a GGUF file: %s", cursor->path,
                             phrase);
        return hone_fail(
            cursor->err, HONE_ERROR_INPUT,
            "%s: not a GGUF file: its first bytes are %02x %02x %02x %02x, not \"GGUF\"",
            cursor->path, first[0], first[1], first[2], first[3]);
    }
    RETURN_IF_ERROR(take(cursor, 4, &magic));
    snprintf(cursor->place, sizeof cursor->place, "version");
    RETURN_IF_ERROR(take_u32(cursor, &file->version));
    if (file->version != 2 && file->version != 3) {
        bool swapped = file->version != 0 && (file->version & 0xffff) == 0;
        return hone_fail(cursor->err, HONE_ERROR_UNSUPPORTED,
                         "%s: GGUF version %u%s; versions 2 and 3 can be read%s", cursor->path,
                         file->version, swapped ? " (big-endian?)" : "",
                         file->version == 1 ? ": convert it with a newer llama.cpp" : "");
    }
    RETURN_IF_ERROR(take_count(cursor, "tensors", SMALLEST_TENSOR, &file->tensor_count));
    return take_count(cursor, "keys", SMALLEST_KEY, &file->key_count);
}

static hone_status read_keys(Cursor *cursor, GgufFile *file) {
    file->keys = hone_calloc((size_t)file->key_count, sizeof *file->keys);
    file->tensors = hone_calloc((size_t)file->tensor_count, sizeof *file->tensors);
    file->key_index = hone_calloc(1, sizeof *file->key_index);
    file->tensor_index = hone_calloc(1, sizeof *file->tensor_index);
    if (!file->keys || !file->tensors || !file->key_index || !file->tensor_index)
        return hone_fail_memory(cursor->err, file->map.bytes, "the index of a GGUF file");
    for (int64_t i = 0; i < file->key_count; i++) RETURN_IF_ERROR(read_key(cursor, file, i));
    return HONE_OK;
}

static hone_status parse(Cursor *cursor, GgufFile *file) {
    RETURN_IF_ERROR(read_start(cursor, file));
    RETURN_IF_ERROR(read_keys(cursor, file));
    RETURN_IF_ERROR(read_alignment(cursor, file));
    Extent *extents = hone_calloc((size_t)file->tensor_count, sizeof *extents);
    if (!extents) return hone_fail_memory(cursor->err, file->map.bytes, "tensor offsets");
    hone_status status = read_tensors(cursor, file, extents);
    hone_free(extents);
    return status;
}

hone_status hone_gguf_parse(GgufFile *file, HoneError *err) {
    Cursor cursor = {
        .data = file->map.data, .bytes = file->map.bytes, .path = file->map.path, .err = err};
    return parse(&cursor, file);
}

hone_status hone_gguf_open(const char *path, GgufFile *file, HoneError *err) {
    *file = (GgufFile){0};
    int64_t parts = 0;
    RETURN_IF_ERROR(hone_file_map(path, &file->map, err));
    hone_status status = hone_gguf_parse(file, err);
    if (status == HONE_OK) status = hone_gguf_parts(file, &parts, err);
    if (status != HONE_OK || parts > 1) hone_gguf_close(file);
    return parts > 1 && status == HONE_OK ? hone_gguf_open_parts(path, parts, file, err) : status;
}

hone_status hone_gguf_from_keys(const unsigned char *data, size_t bytes, int64_t keys,
                                int64_t tensors, GgufFile *file, HoneError *err) {
    Cursor cursor = {.data = data, .bytes = bytes, .path = file->map.path, .err = err};
    file->version = 3;
    file->alignment = DEFAULT_ALIGNMENT;
    file->key_count = keys;
    file->tensor_count = tensors; // so much room
    RETURN_IF_ERROR(read_keys(&cursor, file));
    file->tensor_count = 0;
    return HONE_OK;
}

hone_status hone_gguf_make_room(GgufFile *file, int64_t more, HoneError *err) {
    const size_t used = (size_t)file->tensor_count, room = used + (size_t)more;
    GgufTensor *tensors = hone_alloc(room * sizeof *tensors);
    if (!tensors) return hone_fail_memory(err, room * sizeof *tensors, "a list of tensors");
    memcpy(tensors, file->tensors, used * sizeof *tensors);
    for (size_t i = 0; i < used; i++) { // the index knows the names by their addresses
        const size_t length = strlen(tensors[i].name);
        if (hone_map_put(file->tensor_index, tensors[i].name, length, (int64_t)i)) continue;
        hone_free(tensors); // only the first one can need memory: no name has moved yet
        return hone_fail_memory(err, length, "an index of names");
    }
    hone_free(file->tensors);
    file->tensors = tensors;
    return HONE_OK;
}

hone_status hone_gguf_enter_tensor(GgufFile *file, HoneError *err) {
    const char *name = file->tensors[file->tensor_count].name;
    const GgufString string = {name, strlen(name)};
    Cursor cursor = {.path = file->map.path, .err = err};
    RETURN_IF_ERROR(index_name(&cursor, file->tensor_index, &string, file->tensor_count, "tensor"));
    file->tensor_count++;
    return HONE_OK;
}

void hone_gguf_close(GgufFile *file) {
    if (file->key_index) hone_map_free(file->key_index);
    if (file->tensor_index) hone_map_free(file->tensor_index);
    hone_free(file->key_index);
    hone_free(file->tensor_index);
    hone_free(file->keys);
    hone_free(file->tensors);
    hone_free(file->metadata);
    if (file->made) hone_arena_free(file->made);
    hone_free(file->made);
    hone_file_unmap(&file->map);
    *file = (GgufFile){0};
}
