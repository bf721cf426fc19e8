// SPDX-License-Identifier: Apache-2.0
// A Hugging Face folder: five parts, each after its length as u16: config.json, tokenizer.json,
// tokenizer_config.json, model.safetensors.index.json (none when empty); the rest is
// model.safetensors.
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "io/hf.h"

static const char *const parts[] = {"hf/config.json", "hf/tokenizer.json",
                                    "hf/tokenizer_config.json", "hf/model.safetensors.index.json"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char folder[128], path[256];
    snprintf(folder, sizeof folder, "%s/hf", fuzz_folder());
    mkdir(folder, 0777);
    for (int i = 0; i < 4; i++) {
        size_t length = size >= 2 ? (size_t)(data[0] | data[1] << 8) : 0;
        const size_t head = size >= 2 ? 2 : size;
        if (length > size - head) length = size - head;
        snprintf(path, sizeof path, "%s/%s", fuzz_folder(), parts[i]);
        if (length > 0)
            fuzz_file(parts[i], data + head, length);
        else
            unlink(path);
        data += head + length;
        size -= head + length;
    }
    fuzz_file("hf/model.safetensors", data, size);
    GgufFile file;
    HoneError err = {0};
    if (hone_hf_open(folder, &file, &err) != HONE_OK) return 0;
    for (int64_t i = 0; i < file.key_count; i++)
        fuzz_touch(file.keys[i].raw, file.keys[i].raw_bytes);
    for (int64_t i = 0; i < file.tensor_count; i++)
        fuzz_touch(file.tensors[i].data, file.tensors[i].bytes);
    hone_gguf_close(&file);
    return 0;
}
