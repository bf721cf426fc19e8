// SPDX-License-Identifier: Apache-2.0
// Vectors as a NumPy file or as JSON lines.
#include <hone/embed.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/session.h"

// NumPy's format 1.0: magic, version, the length of the header, and the header, padded with spaces
// so that the data begins at a multiple of 64.
static void put_npy(FileWriter *writer, const float *vectors, int64_t count, int64_t C) {
    char text[192];
    const int length = snprintf(text, sizeof text,
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                                (long long)count, (long long)C);
    const size_t whole = ((size_t)length + 1 + 10 + 63) / 64 * 64, header = whole - 10;
    const unsigned char start[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)header, (unsigned char)(header >> 8)};
    hone_writer_put(writer, start, sizeof start);
    hone_writer_put(writer, text, (size_t)length);
    for (size_t i = (size_t)length + 1; i < header; i++) hone_writer_put(writer, " ", 1);
    hone_writer_put(writer, "\n", 1);
    hone_writer_put(writer, vectors, (size_t)count * (size_t)C * sizeof *vectors);
}

static void put_lines(FileWriter *writer, const HoneData *data, const float *vectors, int64_t C) {
    char text[64];
    for (int64_t i = 0; i < data->set.count; i++) {
        int length =
            snprintf(text, sizeof text, "{\"line\":%d,\"embedding\":[", data->set.examples[i].line);
        hone_writer_put(writer, text, (size_t)length);
        for (int64_t c = 0; c < C; c++) {
            length =
                snprintf(text, sizeof text, "%s%.9g", c ? "," : "", (double)vectors[i * C + c]);
            hone_writer_put(writer, text, (size_t)length);
        }
        hone_writer_put(writer, "]}\n", 3);
    }
}

hone_status hone_embed_write(HoneModel *model, const HoneData *data, const float *vectors,
                             const char *path) {
    HoneError *err = hone_begin(model->context);
    const size_t length = strlen(path);
    const bool npy = length > 4 && strcmp(path + length - 4, ".npy") == 0;
    FileWriter writer;
    RETURN_IF_ERROR(hone_writer_open(&writer, path, err));
    if (npy)
        put_npy(&writer, vectors, data->set.count, model->config.channels);
    else
        put_lines(&writer, data, vectors, model->config.channels);
    return hone_writer_commit(&writer, err);
}
