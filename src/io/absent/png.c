// SPDX-License-Identifier: Apache-2.0
// Built in place of png/ where libpng was not found.
#include "io/png.h"

hone_status hone_png_write(const char *path, int64_t width, int64_t height,
                           const unsigned char *rgb, HoneError *err) {
    (void)width, (void)height, (void)rgb;
    return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                     "%s: this build has no libpng (libpng-dev) and writes no pictures", path);
}
