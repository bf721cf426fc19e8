// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/records.h"

enum { LARGEST_DOCUMENT = 16 << 20, DEEPEST_FOLDER = 16 };

typedef struct Corpus {
    DocumentVisitor *visit;
    void *user;
    int64_t documents;
    CorpusOthers *others; // NULL: documents are read; else names are looked at, and nothing is read
    HoneError *err;
} Corpus;

static hone_status visit_document(Corpus *corpus, const char *path, int line, const char *text,
                                  size_t length) {
    if (length == 0)
        return hone_fail(corpus->err, HONE_ERROR_INPUT, "%s:%d: the text is empty", path, line);
    corpus->documents++;
    return corpus->visit(corpus->user, path, line, text, length, corpus->err);
}

// ---- files -------------------------------------------------------------------------------------

typedef struct RecordFile {
    Corpus *corpus;
    const char *path;
} RecordFile;

static hone_status read_record(void *user, const json_t *value, int line, HoneError *err) {
    const RecordFile *file = user;
    const json_t *found = json_object_get(value, "text");
    if (json_is_string(found))
        return visit_document(file->corpus, file->path, line, json_string_value(found),
                              json_string_length(found));
    return hone_fail(err, HONE_ERROR_INPUT, "%s:%d: has no \"text\" that is a string", file->path,
                     line);
}

static hone_status read_bad(void *user, const HoneError *problem, HoneError *err) {
    (void)user;
    return hone_fail(err, problem->status, "%s", problem->message);
}

static hone_status read_text(Corpus *corpus, const char *path, const Content *content) {
    const char *text = content->text;
    const size_t bytes = content->length;
    int line = 1;
    for (size_t begin = 0; begin < bytes;) {
        size_t length = bytes - begin;
        if (length > LARGEST_DOCUMENT) {
            length = LARGEST_DOCUMENT;
            while (length > 0 && text[begin + length - 1] != '\n') length--;
            if (length == 0) length = LARGEST_DOCUMENT;
        }
        const char *zero = memchr(text + begin, '\0', length);
        if (zero)
            return hone_fail(corpus->err, HONE_ERROR_INPUT,
                             "%s: byte %zu is zero: this is no file of text", path,
                             (size_t)(zero - text));
        RETURN_IF_ERROR(visit_document(corpus, path, line, text + begin, length));
        for (size_t i = 0; i < length; i++) line += text[begin + i] == '\n';
        hone_file_drop(&content->map, text + begin, length);
        begin += length;
    }
    return HONE_OK;
}

// Does the name say that records are in it?
static bool has_records(const char *path) {
    return hone_content_is_named(path, ".jsonl") || hone_content_is_named(path, ".json") ||
           hone_content_is_named(path, ".csv") || hone_content_is_named(path, ".tsv");
}

static hone_status read_file(Corpus *corpus, const char *path) {
    RecordFile file = {corpus, path};
    const RecordSink sink = {&file, read_record, read_bad};
    Content content;
    hone_status status = hone_content_open(path, &content, corpus->err);
    if (status == HONE_OK)
        status = has_records(path) ? hone_records_each(path, &content, &sink, corpus->err)
                                   : read_text(corpus, path, &content);
    hone_content_close(&content);
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
    if (name[0] == '.') return; // .git, .DS_Store
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

// Of a folder's files, those that are surely texts for a corpus: a .json there may be settings.
static bool is_of_corpus(const char *path) {
    return hone_content_is_named(path, ".txt") || hone_content_is_named(path, ".md") ||
           (has_records(path) && !hone_content_is_named(path, ".json"));
}

static hone_status note_other(CorpusOthers *others, const char *path, HoneError *err) {
    if (others->count++ > 0) return HONE_OK;
    others->first = hone_strdup(path);
    return others->first ? HONE_OK : hone_fail_memory(err, strlen(path), "a path");
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
        else if (hone_is_directory(entry) || !is_of_corpus(entry))
            status = corpus->others ? note_other(corpus->others, entry, corpus->err) : HONE_OK;
        else if (!corpus->others)
            status = read_file(corpus, entry);
        hone_free(entry);
    }
    for (size_t i = 0; i < names.count; i++) hone_free(names.items[i]);
    hone_free(names.items);
    return status;
}

hone_status hone_corpus_each(const char *path, DocumentVisitor *visit, void *user, HoneError *err) {
    Corpus corpus = {.visit = visit, .user = user, .err = err};
    RETURN_IF_ERROR(hone_is_directory(path) ? read_folder(&corpus, path, 0)
                                            : read_file(&corpus, path));
    if (corpus.documents > 0) return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT, "%s: holds no document%s", path,
                     hone_is_directory(path) ? " in files named .jsonl, .csv, .tsv, .txt or .md"
                                             : "");
}

hone_status hone_corpus_others(const char *path, CorpusOthers *others, HoneError *err) {
    *others = (CorpusOthers){0};
    Corpus corpus = {.others = others, .err = err};
    return hone_is_directory(path) ? read_folder(&corpus, path, 0) : HONE_OK;
}
