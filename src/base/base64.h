// SPDX-License-Identifier: Apache-2.0
#ifndef HONE_BASE_BASE64_H
#define HONE_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

// Base64 as RFC 4648 has it into bytes, which has room for `length`; *count is how many there are.
// false: it is not.
bool hone_base64_decode(const char *text, size_t length, char *bytes, size_t *count);

#endif
