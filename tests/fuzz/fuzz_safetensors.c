// SPDX-License-Identifier: Apache-2.0
// A safetensors file: opened, and if it opens every tensor is found by name and walked.
#include "fuzz.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    SafeTensorsFile file;
    HoneError err = {0};
    if (hone_safetensors_open(fuzz_file("fuzz.safetensors", data, size), &file, &err) != HONE_OK)
        return 0;
    for (int64_t i = 0; i < file.count; i++) {
        const SafeTensor *tensor = hone_safetensors_find(&file, file.tensors[i].name);
        if (tensor != &file.tensors[i]) __builtin_trap();
        fuzz_touch(tensor->data, tensor->bytes);
    }
    hone_safetensors_close(&file);
    return 0;
}
