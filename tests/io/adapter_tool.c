// SPDX-License-Identifier: Apache-2.0
// For tests/interop: read an adapter in either form, write it in both.
//   adapter_tool ADAPTER BASE HEADS KV_HEADS HEAD_SIZE RANK ALPHA RSLORA(0|1) FOLDER FILE.gguf
#include <stdio.h>
#include <stdlib.h>

#include "io/peft.h"

static hone_status convert(char **arguments, HoneError *err) {
    AdapterBase base = {.architecture = "llama",
                        .path = arguments[2],
                        .heads = atoi(arguments[3]),
                        .kv_heads = atoi(arguments[4]),
                        .head_size = atoi(arguments[5]),
                        .rope_interleaved = true};
    AdapterSettings settings = {.rank = atoi(arguments[6]),
                                .alpha = strtof(arguments[7], NULL),
                                .rslora = atoi(arguments[8]) != 0};
    AdapterFile file;
    RETURN_IF_ERROR(hone_adapter_read(arguments[1], &base, &file, err));
    hone_status status =
        hone_peft_write(arguments[9], &base, &settings, file.pairs, file.count, err);
    if (status == HONE_OK)
        status =
            hone_adapter_gguf_write(arguments[10], &base, &settings, file.pairs, file.count, err);
    hone_adapter_close(&file);
    return status;
}

int main(int count, char **arguments) {
    HoneError err = {0};
    if (count != 11) {
        fprintf(stderr, "usage: adapter_tool ADAPTER BASE HEADS KV_HEADS HEAD_SIZE RANK ALPHA "
                        "RSLORA FOLDER FILE.gguf\n");
        return 2;
    }
    if (convert(arguments, &err) == HONE_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return 2;
}
