// SPDX-License-Identifier: Apache-2.0
// What a file that is not what was expected looks like, for the message.
#ifndef HONE_IO_SNIFF_H
#define HONE_IO_SNIFF_H

#include <stddef.h>

// A phrase such as "it is an HTML page: …", by the first bytes; NULL when nothing known fits.
const char *hone_sniff(const unsigned char *data, size_t bytes);

#endif
