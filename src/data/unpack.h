// SPDX-License-Identifier: Apache-2.0
// gzip and zstd, with zlib and libzstd where Hone was built with them.
#ifndef HONE_DATA_UNPACK_H
#define HONE_DATA_UNPACK_H

#include "base/text.h"

typedef struct Unpacker Unpacker;

// By the first bytes; NULL: neither.
const Unpacker *hone_unpacker(const char *packed, size_t bytes);
// All of it, appended. HONE_ERROR_INPUT: cut off, damaged, or more than the bounds that
// data/content.h gives; HONE_ERROR_UNSUPPORTED: built without.
hone_status hone_unpack(const Unpacker *unpacker, const char *path, const char *packed,
                        size_t bytes, TextBuffer *text, HoneError *err);

#endif
