// SPDX-License-Identifier: Apache-2.0
// A GGUF file: opened, and if it opens every key and tensor is walked and its metadata copied.
#include <string.h>

#include "base/memory.h"
#include "fuzz.h"
#include "io/gguf.h"

static void read_as_everything(const GgufFile *file, const char *name) {
    int64_t integer, count;
    double real;
    GgufString string, *strings;
    int32_t *integers;
    float *reals;
    hone_gguf_int(file, name, &integer, NULL);
    hone_gguf_float(file, name, &real, NULL);
    if (hone_gguf_string(file, name, &string, NULL) == HONE_OK)
        fuzz_touch(string.data, string.length);
    if (hone_gguf_strings(file, name, &strings, &count, NULL) == HONE_OK) {
        for (int64_t i = 0; i < count; i++) fuzz_touch(strings[i].data, strings[i].length);
        hone_free(strings);
    }
    if (hone_gguf_ints(file, name, &integers, &count, NULL) == HONE_OK) hone_free(integers);
    if (hone_gguf_floats(file, name, &reals, &count, NULL) == HONE_OK) hone_free(reals);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    GgufFile file;
    GgufWriter *writer = NULL;
    HoneError err = {0};
    if (hone_gguf_open(fuzz_file("fuzz.gguf", data, size), &file, &err) != HONE_OK) return 0;
    if (hone_gguf_writer_create(&writer, &err) != HONE_OK) return 0;
    for (int64_t i = 0; i < file.key_count; i++) {
        const GgufKey *key = &file.keys[i];
        char *name = hone_strndup(key->name.data, key->name.length);
        if (name) read_as_everything(&file, name);
        hone_free(name);
        fuzz_touch(key->raw, key->raw_bytes);
        hone_gguf_put_raw(writer, key);
    }
    for (int64_t i = 0; i < file.tensor_count; i++) {
        const GgufTensor *tensor = &file.tensors[i];
        fuzz_touch(tensor->data, tensor->bytes);
        hone_gguf_add_tensor(writer, tensor->name, tensor->dtype, tensor->rank, tensor->shape);
    }
    hone_gguf_writer_free(writer);
    hone_gguf_close(&file);
    return 0;
}
