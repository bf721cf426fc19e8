// SPDX-License-Identifier: Apache-2.0
// The bytes of a data file, unpacked where they are packed, and what is in them.
#ifndef HONE_DATA_CONTENT_H
#define HONE_DATA_CONTENT_H

#include "base/file.h"
#include "base/text.h"

typedef enum ContentKind {
    CONTENT_LINES, // a JSON record a line
    CONTENT_LIST,  // one JSON list of records
    CONTENT_TABLE, // a header, and a record a row
    CONTENT_TEXT,  // text as it is
} ContentKind;

typedef struct Content {
    const char *text; // behind a byte order mark
    size_t length;
    ContentKind kind;
    char delimiter; // of a table
    FileMap map;
    TextBuffer unpacked;
} Content;

// gzip and zstd are known by their first bytes; what they unpack to is bounded: 4 GiB, and a
// thousandfold beyond 64 MiB. ".txt" is text and ".csv", ".tsv" are tables by their names (before
// ".gz" or ".zst"); the rest the first character says, or a header of known columns.
// HONE_ERROR_INPUT: cut off, damaged, too large, UTF-16; HONE_ERROR_UNSUPPORTED: Parquet, with the
// line that converts it; xz, bzip2, zip; a packing that Hone was built without. Close in any case.
hone_status hone_content_open(const char *path, Content *content, HoneError *err);
void hone_content_close(Content *content);

// The file's name ends so, perhaps before ".gz" or ".zst".
bool hone_content_is_named(const char *path, const char *end);

#endif
