// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/safetensors.h"

static const char *stored_name(int dtype) {
    switch (dtype) {
    case HONE_F32:
    case HONE_F16:
    case HONE_BF16:
    case HONE_F64:
    case HONE_I8:
    case HONE_I16:
    case HONE_I32:
    case HONE_I64:
        return hone_dtype_name(dtype); // spelled alike
    default:
        return NULL;
    }
}

// Widest type first, then by name: the order of the safetensors library, so that all is aligned.
static int compare_entries(const void *left, const void *right) {
    const SafeTensorEntry *a = *(const SafeTensorEntry *const *)left;
    const SafeTensorEntry *b = *(const SafeTensorEntry *const *)right;
    int a_bytes = hone_dtype_info(a->dtype)->block_bytes;
    int b_bytes = hone_dtype_info(b->dtype)->block_bytes;
    return a_bytes != b_bytes ? b_bytes - a_bytes : strcmp(a->name, b->name);
}

static hone_status entry_bytes(const char *path, const SafeTensorEntry *entry, size_t *bytes,
                               HoneError *err) {
    size_t elements = 1;
    bool valid = stored_name(entry->dtype) && entry->rank >= 0 && entry->rank <= 4;
    for (int i = 0; valid && i < entry->rank; i++)
        valid =
            entry->shape[i] >= 0 && hone_size_product(elements, (size_t)entry->shape[i], &elements);
    if (valid &&
        hone_size_product(elements, (size_t)hone_dtype_info(entry->dtype)->block_bytes, bytes))
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_ARGUMENT,
                     "%s: tensor %.200s: type %s with %d dimensions cannot be written", path,
                     entry->name, hone_dtype_name(entry->dtype), entry->rank);
}

static hone_status make_header(const char *path, SafeTensorEntry *const *order, int64_t count,
                               TextBuffer *header, HoneError *err) {
    size_t offset = 0, bytes = 0;
    hone_text_puts(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < count; i++) {
        const SafeTensorEntry *entry = order[i];
        RETURN_IF_ERROR(entry_bytes(path, entry, &bytes, err));
        hone_text_puts(header, ",");
        hone_text_json(header, entry->name, strlen(entry->name));
        hone_text_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", stored_name(entry->dtype));
        for (int d = 0; d < entry->rank; d++)
            hone_text_printf(header, "%s%lld", d ? "," : "", (long long)entry->shape[d]);
        hone_text_printf(header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    hone_text_puts(header, "}");
    while (header->length % 8 != 0 && !header->failed) hone_text_puts(header, " ");
    if (header->failed) return hone_fail_memory(err, header->length, "a safetensors header");
    return HONE_OK;
}

static hone_status write_data(FileWriter *writer, SafeTensorEntry *const *order, int64_t count,
                              SafeTensorSource source, void *user, HoneError *err) {
    for (int64_t i = 0; i < count; i++) {
        size_t bytes = 0;
        entry_bytes(writer->path, order[i], &bytes, err);
        if (source) RETURN_IF_ERROR(source(user, order[i], err));
        hone_writer_put(writer, order[i]->data, bytes);
    }
    return HONE_OK;
}

static hone_status write_sorted(const char *path, SafeTensorEntry *const *order, int64_t count,
                                SafeTensorSource source, void *user, HoneError *err) {
    TextBuffer header = {0};
    FileWriter writer;
    hone_status status = make_header(path, order, count, &header, err);
    if (status == HONE_OK) status = hone_writer_open(&writer, path, err);
    if (status == HONE_OK) {
        uint64_t length = header.length;
        hone_writer_put(&writer, &length, sizeof length);
        hone_writer_put(&writer, header.data, header.length);
        status = write_data(&writer, order, count, source, user, err);
        if (status == HONE_OK)
            status = hone_writer_commit(&writer, err);
        else
            hone_writer_abort(&writer);
    }
    hone_text_free(&header);
    return status;
}

static hone_status check_names(const char *path, const SafeTensorEntry *entries, int64_t count,
                               HoneError *err) {
    StringMap names = {0};
    hone_status status = HONE_OK;
    for (int64_t i = 0; i < count && status == HONE_OK; i++) {
        size_t length = strlen(entries[i].name);
        if (hone_map_get(&names, entries[i].name, length, 0))
            status = hone_fail(err, HONE_ERROR_ARGUMENT, "%s: tensor %.200s is written twice", path,
                               entries[i].name);
        else if (!hone_map_put(&names, entries[i].name, length, 1))
            status = hone_fail_memory(err, length, "a tensor's name");
    }
    hone_map_free(&names);
    return status;
}

hone_status hone_safetensors_stream(const char *path, SafeTensorEntry *entries, int64_t count,
                                    SafeTensorSource source, void *user, HoneError *err) {
    SafeTensorEntry **order = hone_calloc((size_t)count, sizeof *order);
    if (!order) return hone_fail_memory(err, (size_t)count * sizeof *order, "a list of tensors");
    for (int64_t i = 0; i < count; i++) order[i] = &entries[i];
    hone_status status = check_names(path, entries, count, err);
    if (count > 0) qsort(order, (size_t)count, sizeof *order, compare_entries);
    if (status == HONE_OK) status = write_sorted(path, order, count, source, user, err);
    hone_free(order);
    return status;
}

hone_status hone_safetensors_write(const char *path, const SafeTensorEntry *entries, int64_t count,
                                   HoneError *err) {
    SafeTensorEntry *copy = hone_calloc((size_t)count, sizeof *copy);
    if (!copy) return hone_fail_memory(err, (size_t)count * sizeof *copy, "a list of tensors");
    if (count > 0) memcpy(copy, entries, (size_t)count * sizeof *copy);
    hone_status status = hone_safetensors_stream(path, copy, count, NULL, NULL, err);
    hone_free(copy);
    return status;
}
