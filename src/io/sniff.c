// SPDX-License-Identifier: Apache-2.0
#include "io/sniff.h"

#include <string.h>
#include <strings.h>

typedef struct Signature {
    size_t offset;
    const char *bytes;
    const char *phrase;
} Signature;

static const Signature signatures[] = {
    {0, "GGUF", "it is a GGUF file"},
    {0, "FUGG", "it is a big-endian GGUF file, and only little-endian ones can be read"},
    {0, "ggml", "it is a GGML file, older than GGUF: convert it with llama.cpp"},
    {0, "tjgg", "it is a GGJT file, older than GGUF: convert it with llama.cpp"},
    {0, "fmgg", "it is a GGMF file, older than GGUF: convert it with llama.cpp"},
    {0, "lmgg", "it is a GGML file, older than GGUF: convert it with llama.cpp"},
    {0, "alGG", "it is a GGLA adapter, older than GGUF: convert it with llama.cpp"},
    {0, "<!doctype", "it is an HTML page: the download went wrong, fetch the file itself"},
    {0, "<html", "it is an HTML page: the download went wrong, fetch the file itself"},
    {0, "version https://git-lfs",
     "it is a Git LFS pointer: run git lfs pull to get the file itself"},
    {0, "PK\003\004", "it is a zip archive, perhaps a PyTorch checkpoint: save it as safetensors"},
    {0, "\200\002", "it is a Python pickle: save it as safetensors"},
    {0, "\200\003", "it is a Python pickle: save it as safetensors"},
    {0, "\200\004", "it is a Python pickle: save it as safetensors"},
    {0, "\200\005", "it is a Python pickle: save it as safetensors"},
    {0, "\x1f\x8b", "it is gzip-compressed: unpack it first"},
    {0, "{", "it is JSON text"},
    {8, "{\"", "it is a safetensors file"},
    {8, "{}", "it is a safetensors file"},
};

const char *hone_sniff(const unsigned char *data, size_t bytes) {
    size_t skipped = 0; // white space before an HTML page's first tag
    while (skipped < bytes && skipped < 8 && (data[skipped] == '\n' || data[skipped] == ' '))
        skipped++;
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const Signature *known = &signatures[i];
        size_t length = strlen(known->bytes);
        size_t offset = known->offset + (known->bytes[0] == '<' ? skipped : 0);
        if (bytes < offset || bytes - offset < length) continue;
        const char *found = (const char *)data + offset;
        if (known->bytes[0] == '<' ? strncasecmp(found, known->bytes, length) == 0
                                   : memcmp(found, known->bytes, length) == 0)
            return known->phrase;
    }
    return NULL;
}
