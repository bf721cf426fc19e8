// SPDX-License-Identifier: Apache-2.0
// A fuzz target is one function on bytes. libFuzzer calls it (-DHONE_FUZZ=ON), or regression.c does
// with every file of the target's corpus. Parsers read files, so the bytes are written to one.
#ifndef HONE_FUZZ_FUZZ_H
#define HONE_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Make a folder of this process's own and return it; removed at exit.
const char *fuzz_folder(void);
// Write the file FOLDER/name; returns its path, valid until the next call.
const char *fuzz_file(const char *name, const uint8_t *data, size_t size);
// Use every byte, so that a sanitizer sees a range that reaches outside its memory.
void fuzz_touch(const void *data, size_t size);

#endif
