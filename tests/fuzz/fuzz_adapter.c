// SPDX-License-Identifier: Apache-2.0
// An adapter. Bytes that begin with "GGUF" are a GGUF adapter; others are a PEFT folder: u16 length
// of adapter_config.json, that text, then adapter_model.safetensors; after "MLX" an MLX-LM folder
// in the same way. What reads is written again as PEFT's and as GGUF.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "io/peft.h"

static const AdapterBase base = {.architecture = "llama",
                                 .path = "base",
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_size = 8,
                                 .rope_interleaved = true};

static const char *make_input(const uint8_t *data, size_t size, char folder[128]) {
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) return fuzz_file("fuzz.gguf", data, size);
    const bool mlx = size >= 3 && memcmp(data, "MLX", 3) == 0;
    if (mlx) data += 3, size -= 3;
    snprintf(folder, 128, "%s/%s", fuzz_folder(), mlx ? "mlx" : "peft");
    mkdir(folder, 0777);
    size_t length = size >= 2 ? (size_t)(data[0] | data[1] << 8) : 0, rest = size < 2 ? size : 2;
    if (length > size - rest) length = size - rest;
    fuzz_file(mlx ? "mlx/adapter_config.json" : "peft/adapter_config.json", data + rest, length);
    rest += length;
    fuzz_file(mlx ? "mlx/adapters.safetensors" : "peft/adapter_model.safetensors", data + rest,
              size - rest);
    return folder;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    AdapterFile file;
    HoneError err = {0};
    char folder[128], path[128];
    if (hone_adapter_read(make_input(data, size, folder), &base, &file, &err) != HONE_OK) return 0;
    AdapterSettings settings = {.rank = file.pairs[0].rank, .alpha = 1};
    snprintf(folder, sizeof folder, "%s/out", fuzz_folder());
    snprintf(path, sizeof path, "%s/out.gguf", fuzz_folder());
    hone_peft_write(folder, &base, &settings, file.pairs, file.count, &err);
    hone_error_clear(&err);
    hone_adapter_gguf_write(path, &base, &settings, file.pairs, file.count, &err);
    hone_adapter_close(&file);
    return 0;
}
