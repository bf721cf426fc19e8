// SPDX-License-Identifier: Apache-2.0
#include "data/content.h"

#include <string.h>
#include <strings.h>

#include "data/table.h"
#include "data/unpack.h"

bool hone_content_is_named(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    if (length > 3 && strcasecmp(path + length - 3, ".gz") == 0)
        length -= 3;
    else if (length > 4 && strcasecmp(path + length - 4, ".zst") == 0)
        length -= 4;
    return length >= tail && strncasecmp(path + length - tail, end, tail) == 0;
}

static bool begins(const char *text, size_t length, const char *with, size_t bytes) {
    return length >= bytes && memcmp(text, with, bytes) == 0;
}

static hone_status refuse(const Content *content, const char *path, HoneError *err) {
    const char *text = content->text;
    const size_t length = content->length;
    if (begins(text, length, "PAR1", 4) || hone_content_is_named(path, ".parquet"))
        return hone_fail(
            err, HONE_ERROR_UNSUPPORTED,
            "%s: is Parquet, which is not read; this writes it as JSON lines: "
            "python3 -c 'import pandas; pandas.read_parquet(\"%s\").to_json(\"%s.jsonl\", "
            "orient=\"records\", lines=True, force_ascii=False)'",
            path, path, path);
    if (begins(text, length, "PK\003\004", 4))
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: is a zip archive or a spreadsheet: unpack it, or save it as .csv",
                         path);
    const char *packing = begins(text, length,
                                 "\xfd"
                                 "7zXZ",
                                 5)
                              ? "xz"
                          : begins(text, length, "BZh", 3) ? "bzip2"
                                                           : NULL;
    if (packing)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: is packed with %s, which is not unpacked; gzip and zstd are", path,
                         packing);
    if (begins(text, length, "\xff\xfe", 2) || begins(text, length, "\xfe\xff", 2))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: is UTF-16; UTF-8 is wanted (iconv -f UTF-16 -t UTF-8)", path);
    return HONE_OK;
}

static void tell_kind(Content *content, const char *path) {
    const char *text = content->text;
    size_t at = 0;
    while (at < content->length && strchr(" \t\r\n", text[at]) && text[at]) at++;
    const char first = at < content->length ? text[at] : '\0';
    content->kind = first == '[' ? CONTENT_LIST : CONTENT_LINES;
    if (hone_content_is_named(path, ".txt")) {
        content->kind = CONTENT_TEXT;
    } else if (hone_content_is_named(path, ".csv") || hone_content_is_named(path, ".tsv")) {
        content->kind = CONTENT_TABLE;
        content->delimiter = hone_content_is_named(path, ".tsv")
                                 ? '\t'
                                 : hone_table_delimiter(text, content->length);
    } else if (first != '[' && first != '{') {
        char delimiter = hone_table_known(text, content->length);
        if (delimiter) content->kind = CONTENT_TABLE;
        content->delimiter = delimiter;
    }
}

hone_status hone_content_open(const char *path, Content *content, HoneError *err) {
    *content = (Content){0};
    RETURN_IF_ERROR(hone_file_map(path, &content->map, err));
    content->text = content->map.data ? (const char *)content->map.data : "";
    content->length = content->map.bytes;
    const Unpacker *unpacker = hone_unpacker(content->text, content->length);
    if (unpacker) {
        RETURN_IF_ERROR(
            hone_unpack(unpacker, path, content->text, content->length, &content->unpacked, err));
        content->text = content->unpacked.data ? content->unpacked.data : "";
        content->length = content->unpacked.length;
    }
    RETURN_IF_ERROR(refuse(content, path, err));
    if (begins(content->text, content->length, "\xef\xbb\xbf", 3)) { // a byte order mark
        content->text += 3;
        content->length -= 3;
    }
    tell_kind(content, path);
    return HONE_OK;
}

void hone_content_close(Content *content) {
    hone_file_unmap(&content->map);
    hone_text_free(&content->unpacked);
}
