// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/gguf_value.h"

enum {
    LONGEST_NAME = 63, // of a tensor: llama.cpp's limit
    DEFAULT_ALIGNMENT = 32,
};

typedef struct PlannedTensor {
    const char *name; // in the writer's arena
    int dtype, rank;
    int64_t shape[4];
    size_t bytes;
} PlannedTensor;

struct GgufWriter {
    HoneError error; // the first failure of a put call
    TextBuffer keys;
    uint64_t key_count;
    PlannedTensor *tensors;
    size_t tensor_count, tensor_capacity, written;
    size_t part; // bytes of the next tensor that are there
    uint32_t alignment;
    StringMap key_names, tensor_names; // against duplicates; names in the arena
    Arena arena;
    FileWriter file;
    bool is_open;
};

hone_status hone_gguf_writer_create(GgufWriter **writer, HoneError *err) {
    *writer = hone_calloc(1, sizeof **writer);
    if (!*writer) return hone_fail_memory(err, sizeof **writer, "a GGUF writer");
    (*writer)->alignment = DEFAULT_ALIGNMENT;
    return HONE_OK;
}

void hone_gguf_writer_free(GgufWriter *writer) {
    if (!writer) return;
    if (writer->is_open) hone_writer_abort(&writer->file);
    hone_map_free(&writer->key_names);
    hone_map_free(&writer->tensor_names);
    hone_text_free(&writer->keys);
    hone_free(writer->tensors);
    hone_arena_free(&writer->arena);
    hone_free(writer);
}

// ---- keys and tensor descriptions --------------------------------------------------------------

static void put_string(TextBuffer *text, const char *data, size_t length) {
    uint64_t count = length;
    hone_text_append(text, &count, sizeof count);
    hone_text_append(text, data, length);
}

// A copy of the name, entered into the map; NULL after a sticky failure.
static const char *register_name(GgufWriter *writer, StringMap *names, const char *name,
                                 size_t length, const char *what) {
    if (writer->error.status != HONE_OK) return NULL;
    if (length == 0 || hone_map_get(names, name, length, 0)) {
        hone_fail(&writer->error, HONE_ERROR_ARGUMENT, "GGUF %s \"%.*s\" is %s", what,
                  length < 100 ? (int)length : 100, name, length ? "written twice" : "unnamed");
        return NULL;
    }
    const char *copy = hone_arena_strndup(&writer->arena, name, length);
    if (!copy || !hone_map_put(names, copy, length, 1)) {
        hone_fail_memory(&writer->error, length, "a GGUF name");
        return NULL;
    }
    return copy;
}

static void put_key(GgufWriter *writer, const char *name, size_t length, GgufType type,
                    const void *value, size_t bytes) {
    if (!register_name(writer, &writer->key_names, name, length, "key")) return;
    int32_t number = (int32_t)type;
    put_string(&writer->keys, name, length);
    hone_text_append(&writer->keys, &number, sizeof number);
    if (type == GGUF_STRING)
        put_string(&writer->keys, value, bytes);
    else
        hone_text_append(&writer->keys, value, bytes);
    writer->key_count++;
}

static void set_alignment(GgufWriter *writer, const char *name, size_t length, uint32_t value) {
    if (length != strlen("general.alignment") || memcmp(name, "general.alignment", length) != 0)
        return;
    if (value < 8 || (value & (value - 1)) != 0)
        hone_fail(&writer->error, HONE_ERROR_ARGUMENT,
                  "general.alignment is %u: a power of two from 8 up is wanted", value);
    else
        writer->alignment = value;
}

void hone_gguf_put_u32(GgufWriter *writer, const char *name, uint32_t value) {
    set_alignment(writer, name, strlen(name), value);
    put_key(writer, name, strlen(name), GGUF_U32, &value, sizeof value);
}

void hone_gguf_put_f32(GgufWriter *writer, const char *name, float value) {
    put_key(writer, name, strlen(name), GGUF_F32, &value, sizeof value);
}

void hone_gguf_put_bool(GgufWriter *writer, const char *name, bool value) {
    unsigned char byte = value;
    put_key(writer, name, strlen(name), GGUF_BOOL, &byte, sizeof byte);
}

void hone_gguf_put_string(GgufWriter *writer, const char *name, const char *value) {
    put_key(writer, name, strlen(name), GGUF_STRING, value, strlen(value));
}

void hone_gguf_put_raw(GgufWriter *writer, const GgufKey *key) {
    if (key->type == GGUF_U32)
        set_alignment(writer, key->name.data, key->name.length, gguf_load_u32(key->raw));
    if (key->type == GGUF_STRING)
        put_key(writer, key->name.data, key->name.length, key->type, key->value.string.data,
                key->value.string.length);
    else
        put_key(writer, key->name.data, key->name.length, key->type, key->raw, key->raw_bytes);
}

static bool plan_bytes(PlannedTensor *tensor) {
    const DtypeInfo *info = hone_dtype_info(tensor->dtype);
    size_t elements = 1;
    if (!info->block_bytes) return false;
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 ||
            !hone_size_product(elements, (size_t)tensor->shape[i], &elements))
            return false;
    if (tensor->shape[tensor->rank - 1] % info->block != 0) return false;
    return hone_size_product(elements / (size_t)info->block, (size_t)info->block_bytes,
                             &tensor->bytes);
}

static PlannedTensor *new_tensor(GgufWriter *writer) {
    if (writer->tensor_count == writer->tensor_capacity) {
        size_t capacity = writer->tensor_capacity ? writer->tensor_capacity * 2 : 64;
        PlannedTensor *grown = hone_realloc(writer->tensors, writer->tensor_count * sizeof *grown,
                                            capacity * sizeof *grown);
        if (!grown) {
            hone_fail_memory(&writer->error, capacity * sizeof *grown, "a list of tensors");
            return NULL;
        }
        writer->tensors = grown;
        writer->tensor_capacity = capacity;
    }
    return &writer->tensors[writer->tensor_count];
}

void hone_gguf_add_tensor(GgufWriter *writer, const char *name, int dtype, int rank,
                          const int64_t *shape) {
    size_t length = strlen(name);
    const char *copy = register_name(writer, &writer->tensor_names, name, length, "tensor");
    if (!copy) return;
    if (length > LONGEST_NAME) {
        hone_fail(&writer->error, HONE_ERROR_ARGUMENT,
                  "GGUF tensor name %s has %zu bytes, llama.cpp reads at most %d", name, length,
                  LONGEST_NAME);
        return;
    }
    PlannedTensor tensor = {.name = copy, .dtype = dtype, .rank = rank};
    bool valid = rank >= 1 && rank <= 4;
    if (valid) memcpy(tensor.shape, shape, (size_t)rank * sizeof *shape);
    if (!valid || !plan_bytes(&tensor)) {
        hone_fail(&writer->error, HONE_ERROR_ARGUMENT,
                  "GGUF tensor %s: type %s, %d dimensions, rows of %lld cannot be written", name,
                  hone_dtype_name(dtype), rank, valid ? (long long)shape[rank - 1] : 0LL);
        return;
    }
    PlannedTensor *slot = new_tensor(writer);
    if (!slot) return;
    *slot = tensor;
    writer->tensor_count++;
}

// ---- the file ----------------------------------------------------------------------------------

static void put_u32(FileWriter *file, uint32_t value) {
    hone_writer_put(file, &value, sizeof value);
}

static void put_u64(FileWriter *file, uint64_t value) {
    hone_writer_put(file, &value, sizeof value);
}

// Offsets are the running sum of padded sizes in the order of the infos: llama.cpp wants exactly
// that.
static void put_infos(GgufWriter *writer) {
    FileWriter *file = &writer->file;
    uint64_t offset = 0, mask = writer->alignment - 1;
    for (size_t i = 0; i < writer->tensor_count; i++) {
        const PlannedTensor *tensor = &writer->tensors[i];
        put_u64(file, strlen(tensor->name));
        hone_writer_put(file, tensor->name, strlen(tensor->name));
        put_u32(file, (uint32_t)tensor->rank);
        for (int d = tensor->rank - 1; d >= 0; d--) put_u64(file, (uint64_t)tensor->shape[d]);
        put_u32(file, (uint32_t)tensor->dtype);
        put_u64(file, offset);
        offset += (tensor->bytes + mask) & ~mask;
    }
}

static hone_status begin(GgufWriter *writer, const char *path, bool unnamed, HoneError *err) {
    if (writer->keys.failed) hone_fail_memory(&writer->error, writer->keys.length, "GGUF keys");
    if (writer->error.status != HONE_OK)
        return hone_fail(err, writer->error.status, "%s: %s", path, writer->error.message);
    if (writer->is_open)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: this GGUF was begun before", path);
    RETURN_IF_ERROR(unnamed ? hone_writer_open_unnamed(&writer->file, path, err)
                            : hone_writer_open(&writer->file, path, err));
    writer->is_open = true;
    FileWriter *file = &writer->file;
    hone_writer_put(file, "GGUF", 4);
    put_u32(file, 3);
    put_u64(file, writer->tensor_count);
    put_u64(file, writer->key_count);
    hone_writer_put(file, writer->keys.data, writer->keys.length);
    put_infos(writer);
    hone_writer_pad(file, writer->alignment);
    return HONE_OK;
}

hone_status hone_gguf_writer_begin(GgufWriter *writer, const char *path, HoneError *err) {
    return begin(writer, path, false, err);
}

hone_status hone_gguf_writer_begin_unnamed(GgufWriter *writer, const char *path, HoneError *err) {
    return begin(writer, path, true, err);
}

static hone_status write_bytes(GgufWriter *writer, const void *data, size_t bytes, bool whole,
                               HoneError *err) {
    if (!writer->is_open || writer->written == writer->tensor_count)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "GGUF data for tensor %zu of %zu",
                         writer->written + 1, writer->is_open ? writer->tensor_count : 0);
    const PlannedTensor *tensor = &writer->tensors[writer->written];
    if (whole ? bytes != tensor->bytes : bytes > tensor->bytes - writer->part)
        return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: tensor %s: %zu bytes given, %zu planned",
                         writer->file.path, tensor->name, writer->part + bytes, tensor->bytes);
    hone_writer_put(&writer->file, data, bytes);
    writer->part += bytes;
    if (writer->part == tensor->bytes) {
        hone_writer_pad(&writer->file, writer->alignment); // the last one too: some readers want it
        writer->written++;
        writer->part = 0;
    }
    if (writer->file.error_number == 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_IO, "%s: cannot write: %s (after %lld bytes)",
                     writer->file.path, strerror(writer->file.error_number),
                     (long long)writer->file.written);
}

hone_status hone_gguf_write_tensor(GgufWriter *writer, const void *data, size_t bytes,
                                   HoneError *err) {
    return write_bytes(writer, data, bytes, true, err);
}

hone_status hone_gguf_write_part(GgufWriter *writer, const void *data, size_t bytes,
                                 HoneError *err) {
    return write_bytes(writer, data, bytes, false, err);
}

static hone_status check_whole(const GgufWriter *writer, HoneError *err) {
    if (writer->is_open && writer->written == writer->tensor_count) return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT, "%s: %zu of %zu tensors written",
                     writer->is_open ? writer->file.path : "GGUF", writer->written,
                     writer->tensor_count);
}

hone_status hone_gguf_writer_commit(GgufWriter *writer, HoneError *err) {
    RETURN_IF_ERROR(check_whole(writer, err));
    writer->is_open = false; // committed or not, the file writer is released
    return hone_writer_commit(&writer->file, err);
}

hone_status hone_gguf_writer_open(GgufWriter *writer, GgufFile *file, HoneError *err) {
    *file = (GgufFile){0};
    RETURN_IF_ERROR(check_whole(writer, err));
    writer->is_open = false;
    RETURN_IF_ERROR(hone_writer_map(&writer->file, &file->map, err));
    hone_status status = hone_gguf_parse(file, err);
    if (status != HONE_OK) hone_gguf_close(file);
    return status;
}
