// SPDX-License-Identifier: Apache-2.0
#include "io/png.h"

#include <png.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

hone_status hone_png_write(const char *path, int64_t width, int64_t height,
                           const unsigned char *rgb, HoneError *err) {
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = (png_uint_32)width;
    image.height = (png_uint_32)height;
    image.format = PNG_FORMAT_RGB;
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image); // of zlib's worst
    unsigned char *file = hone_alloc(bytes);
    if (!file) return hone_fail_memory(err, bytes, "a picture");
    hone_status status = HONE_OK;
    if (png_image_write_to_memory(&image, file, &bytes, 0, rgb, 0, NULL) == 0)
        status =
            hone_fail(err, HONE_ERROR_IO, "%s: libpng cannot write it: %s", path, image.message);
    if (status == HONE_OK) status = hone_file_write(path, file, bytes, err);
    png_image_free(&image);
    hone_free(file);
    return status;
}
