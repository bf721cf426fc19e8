// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { LARGEST_DOCUMENT = 16 << 20, RELEASE_BYTES = 32 << 20, DEEPEST_FOLDER = 16 };

typedef struct Corpus {
    DocumentVisitor *visit;
    void *user;
    int64_t documents;
    HoneError *err;
} Corpus;

static bool has_ending(const char *name, const char *ending) {
    const size_t length = strlen(name), tail = strlen(ending);
    return length >= tail && strcmp(name + length - tail, ending) == 0;
}

static hone_status visit_document(Corpus *corpus, const char *path, int line, const char *text,
                                  size_t length) {
    if (length == 0)
        return hone_fail(corpus->err, HONE_ERROR_INPUT, "%s:%d: the text is empty", path, line);
    corpus->documents++;
    return corpus->visit(corpus->user, path, line, text, length, corpus->err);
}

// ---- files -------------------------------------------------------------------------------------

static hone_status read_record(Corpus *corpus, const char *path, int line, const char *text,
                               size_t length) {
    json_error_t problem = {0};
    json_t *record = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    if (!record)
        return hone_fail(corpus->err, HONE_ERROR_INPUT, "%s:%d: not JSON: %s (column %d)", path,
                         line, problem.text, problem.column);
    const json_t *found = json_object_get(record, "text");
    hone_status status =
        json_is_string(found)
            ? visit_document(corpus, path, line, json_string_value(found),
                             json_string_length(found))
            : hone_fail(corpus->err, HONE_ERROR_INPUT,
                        "%s:%d: is no object with a text by the name of \"text\"", path, line);
    json_decref(record);
    return status;
}

static hone_status read_lines(Corpus *corpus, const FileMap *map, const char *text, size_t bytes) {
    int line = 1;
    size_t released = 0;
    for (size_t begin = 0; begin < bytes; line++) {
        const char *end = memchr(text + begin, '\n', bytes - begin);
        const size_t stop = end ? (size_t)(end - text) : bytes;
        size_t first = begin;
        while (first < stop && strchr(" \t\r", text[first])) first++;
        if (first < stop)
            RETURN_IF_ERROR(read_record(corpus, map->path, line, text + begin, stop - begin));
        begin = stop + 1;
        if (begin - released < RELEASE_BYTES) continue;
        hone_file_drop(map, text + released, begin - released - 1);
        released = begin;
    }
    return HONE_OK;
}

static hone_status read_text(Corpus *corpus, const FileMap *map, const char *text, size_t bytes) {
    int line = 1;
    for (size_t begin = 0; begin < bytes;) {
        size_t length = bytes - begin;
        if (length > LARGEST_DOCUMENT) {
            length = LARGEST_DOCUMENT;
            while (length > 0 && text[begin + length - 1] != '\n') length--;
            if (length == 0) length = LARGEST_DOCUMENT;
        }
        RETURN_IF_ERROR(visit_document(corpus, map->path, line, text + begin, length));
        for (size_t i = 0; i < length; i++) line += text[begin + i] == '\n';
        hone_file_drop(map, text + begin, length);
        begin += length;
    }
    return HONE_OK;
}

static hone_status read_file(Corpus *corpus, const char *path) {
    FileMap map;
    RETURN_IF_ERROR(hone_file_map(path, &map, corpus->err));
    const char *text = (const char *)map.data;
    size_t bytes = map.bytes;
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        text += 3;
        bytes -= 3;
    }
    hone_status status = has_ending(path, ".jsonl") ? read_lines(corpus, &map, text, bytes)
                                                    : read_text(corpus, &map, text, bytes);
    hone_file_unmap(&map);
    return status;
}

// ---- folders -----------------------------------------------------------------------------------

typedef struct Names {
    char **items;
    size_t count, capacity;
    bool failed;
} Names;

static void add_name(void *user, const char *name) {
    Names *names = user;
    if (names->count == names->capacity) {
        const size_t larger = names->capacity ? 2 * names->capacity : 64;
        char **grown =
            hone_realloc(names->items, names->count * sizeof *grown, larger * sizeof *grown);
        if (!grown) {
            names->failed = true;
            return;
        }
        names->items = grown;
        names->capacity = larger;
    }
    names->items[names->count] = hone_strdup(name);
    if (names->items[names->count])
        names->count++;
    else
        names->failed = true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static hone_status read_folder(Corpus *corpus, const char *path, int depth) {
    Names names = {0};
    hone_directory_each(path, add_name, &names);
    hone_status status =
        names.failed ? hone_fail_memory(corpus->err, names.count * 64, "names of files") : HONE_OK;
    if (names.count > 0) qsort(names.items, names.count, sizeof *names.items, by_name);
    for (size_t i = 0; i < names.count && status == HONE_OK; i++) {
        char *entry = hone_path_join(path, names.items[i]);
        if (!entry)
            status = hone_fail_memory(corpus->err, strlen(path), "a path");
        else if (hone_is_directory(entry) && depth < DEEPEST_FOLDER)
            status = read_folder(corpus, entry, depth + 1);
        else if (has_ending(entry, ".jsonl") || has_ending(entry, ".txt"))
            status = read_file(corpus, entry);
        hone_free(entry);
    }
    for (size_t i = 0; i < names.count; i++) hone_free(names.items[i]);
    hone_free(names.items);
    return status;
}

hone_status hone_corpus_each(const char *path, DocumentVisitor *visit, void *user, HoneError *err) {
    static const char *const others[] = {".json", ".csv", ".tsv", ".gz", ".zst", ".xz", ".parquet"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (has_ending(path, others[i]))
            return hone_fail(
                err, HONE_ERROR_UNSUPPORTED,
                "%s: %s files are no corpus: give .jsonl files with a \"text\" a line, "
                "files of plain text, or a folder of both",
                path, others[i]);
    Corpus corpus = {.visit = visit, .user = user, .err = err};
    RETURN_IF_ERROR(hone_is_directory(path) ? read_folder(&corpus, path, 0)
                                            : read_file(&corpus, path));
    if (corpus.documents > 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: holds no document%s", path,
                     hone_is_directory(path) ? " in files named .jsonl or .txt" : "");
}
