// SPDX-License-Identifier: Apache-2.0
// Pictures, by libpng; a build without it refuses.
#ifndef HONE_IO_PNG_H
#define HONE_IO_PNG_H

#include "base/error.h"

// Write rgb (height, width, 3) as file `path`. HONE_ERROR_UNSUPPORTED: without libpng.
hone_status hone_png_write(const char *path, int64_t width, int64_t height,
                           const unsigned char *rgb, HoneError *err);

#endif
