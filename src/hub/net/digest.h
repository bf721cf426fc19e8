// SPDX-License-Identifier: Apache-2.0
// Checksums by which the hub names contents.
#ifndef HONE_HUB_NET_DIGEST_H
#define HONE_HUB_NET_DIGEST_H

#include "base/error.h"

typedef struct Digest Digest;

// By the name of a content of `bytes` bytes: 64 hexadecimal digits are its SHA-256, 40 are git's
// for a blob (SHA-1 of "blob BYTES\0" and the content). HONE_ERROR_INPUT: it is neither. Caller
// frees.
hone_status hone_digest_start(const char *name, int64_t bytes, Digest **digest, HoneError *err);
hone_status hone_digest_add(Digest *digest, const void *bytes, size_t length, HoneError *err);
hone_status hone_digest_end(Digest *digest, char text[65], HoneError *err); // in lower case
void hone_digest_free(Digest *digest);                                      // NULL is allowed

#endif
