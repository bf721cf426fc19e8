// SPDX-License-Identifier: Apache-2.0
// Files of records.
#include "data/data.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "data/record.h"

typedef struct Reader {
    const char *path;
    const DataOptions *options;
    Dataset *dataset;
    Workshop workshop;
    Arena scratch; // of one record
    int64_t records, bad;
    HoneError first_bad;
    HoneError *err;
} Reader;

// ---- one record --------------------------------------------------------------------------------

static hone_status add_example(Reader *reader, const Example *example) {
    Dataset *dataset = reader->dataset;
    int64_t count = dataset->count;
    if ((count & (count - 1)) == 0) { // capacity is the next power of two
        size_t bytes = (size_t)(count ? count * 2 : 1) * sizeof *example;
        Example *grown = hone_realloc(dataset->examples, (size_t)count * sizeof *example, bytes);
        if (!grown) return hone_fail_memory(reader->err, bytes, "examples");
        dataset->examples = grown;
    }
    dataset->examples[dataset->count++] = *example;
    dataset->tokens += example->count;
    dataset->targets += example->targets;
    dataset->cut += example->cut;
    if (example->count > dataset->longest) dataset->longest = example->count;
    return HONE_OK;
}

// What went wrong with this record is kept if it is the first; what concerns the whole file, or
// this machine, ends the reading.
static hone_status note_bad(Reader *reader, HoneError *problem, int line) {
    hone_fail_in(problem, "%s:%d", reader->path, line);
    if (problem->status != HONE_ERROR_INPUT && problem->status != HONE_ERROR_UNSUPPORTED)
        return hone_fail(reader->err, problem->status, "%s", problem->message);
    if (reader->bad++ == 0) reader->first_bad = *problem;
    return HONE_OK;
}

static hone_status read_record(Reader *reader, const json_t *value, int line) {
    HoneError problem = {0};
    Record record;
    Example example;
    reader->records++;
    hone_status status =
        hone_record_read(value, reader->options, &reader->scratch, &record, &problem);
    if (status == HONE_OK)
        status = hone_example_make(&reader->workshop, reader->options, &record,
                                   &reader->dataset->memory, &example, &problem);
    hone_record_done(&record);
    hone_arena_reset(&reader->scratch);
    if (status != HONE_OK) return note_bad(reader, &problem, line);
    example.line = line;
    return add_example(reader, &example);
}

// An integer beyond 64 bits is no error: all integers of that record are read as reals then.
static json_t *parse(const char *text, size_t length, size_t flags, json_error_t *problem) {
    flags |= JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *value = json_loadb(text, length, flags, problem);
    if (value || json_error_code(problem) != json_error_numeric_overflow) return value;
    return json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, problem);
}

// ---- files -------------------------------------------------------------------------------------

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_space(const char *text, size_t length, size_t at, int *line) {
    for (; at < length && is_space(text[at]); at++) *line += text[at] == '\n';
    return at;
}

static hone_status not_json(HoneError *err, const json_error_t *problem, int column) {
    char text[sizeof problem->text];
    switch (json_error_code(problem)) {
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return hone_fail(err, HONE_ERROR_INPUT,
                         "a text holds the character \\u0000, which no text may hold (column %d)",
                         column);
    case json_error_invalid_utf8:
        return hone_fail(err, HONE_ERROR_INPUT, "not UTF-8 (column %d)", column);
    default:
        break;
    }
    snprintf(text, sizeof text, "%s", problem->text);
    return hone_fail(err, HONE_ERROR_INPUT, "not JSON: %s (column %d)", text, column);
}

static hone_status read_lines(Reader *reader, const char *text, size_t length) {
    int line = 1;
    for (size_t begin = 0; begin < length; line++) {
        const char *newline = memchr(text + begin, '\n', length - begin);
        size_t end = newline ? (size_t)(newline - text) : length, from = begin, to = end;
        while (from < to && is_space(text[from])) from++;
        while (to > from && is_space(text[to - 1])) to--;
        json_error_t problem;
        json_t *value = from < to ? parse(text + from, to - from, 0, &problem) : NULL;
        if (value) {
            hone_status status = read_record(reader, value, line);
            json_decref(value);
            RETURN_IF_ERROR(status);
        } else if (from < to) {
            HoneError bad = {0};
            reader->records++;
            not_json(&bad, &problem, problem.column + (int)(from - begin));
            RETURN_IF_ERROR(note_bad(reader, &bad, line));
        }
        begin = end + 1;
    }
    return HONE_OK;
}

static int column_of(const char *text, size_t at) {
    size_t begin = at;
    while (begin > 0 && text[begin - 1] != '\n') begin--;
    return (int)(at - begin) + 1;
}

// A list of records. Each is parsed by itself, so that its line is known and only one is in memory.
static hone_status read_array(Reader *reader, const char *text, size_t length, size_t at,
                              int line) {
    at = skip_space(text, length, at + 1, &line);
    for (bool first = true; at < length && text[at] != ']'; first = false) {
        if (!first && text[at] != ',') break;
        if (!first) at = skip_space(text, length, at + 1, &line);
        json_error_t problem;
        json_t *value = parse(text + at, length - at, JSON_DISABLE_EOF_CHECK, &problem);
        if (!value) {
            int before = problem.line == 1 ? column_of(text, at) - 1 : 0;
            not_json(reader->err, &problem, problem.column + before);
            hone_fail_in(reader->err, "%s:%d", reader->path, line + problem.line - 1);
            return HONE_ERROR_INPUT;
        }
        hone_status status = read_record(reader, value, line);
        json_decref(value);
        RETURN_IF_ERROR(status);
        for (int i = 0; i < problem.position; i++) line += text[at + (size_t)i] == '\n';
        at = skip_space(text, length, at + (size_t)problem.position, &line);
    }
    if (at < length && text[at] == ']') {
        at = skip_space(text, length, at + 1, &line);
        if (at == length) return HONE_OK;
    }
    return hone_fail(reader->err, HONE_ERROR_INPUT,
                     "%s:%d: not JSON: expected %s in the list of records (column %d)",
                     reader->path, line, at < length ? "',' or the end" : "']'",
                     column_of(text, at));
}

// Kinds of files that are known but not read here.
static hone_status check_name(const char *path, HoneError *err) {
    static const char *const others[] = {".txt", ".csv", ".tsv", ".gz", ".zst", ".parquet"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t end = strlen(others[i]);
        if (length < end || strcasecmp(path + length - end, others[i]) != 0) continue;
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: %s files are not supported yet: give a .jsonl file, one record a "
                         "line, or a .json list",
                         path, others[i]);
    }
    return HONE_OK;
}

// What the whole file comes to, once it is read.
static hone_status conclude(Reader *reader) {
    Dataset *dataset = reader->dataset;
    const char *message = reader->first_bad.message;
    long long bad = reader->bad, records = reader->records;
    if (records == 0)
        return hone_fail(reader->err, HONE_ERROR_INPUT, "%s: there is no example in this file",
                         reader->path);
    if (bad == 0) return HONE_OK;
    if (bad == records && bad > 1)
        return hone_fail(reader->err, reader->first_bad.status, "%s (all %lld examples are bad)",
                         message, records);
    if (bad == records || reader->options->on_bad == BAD_STOP)
        return hone_fail(reader->err, reader->first_bad.status,
                         bad > 1 ? "%s (and %lld more of %lld examples are bad; "
                                   "--on-bad-example skip leaves them out)"
                                 : "%s",
                         message, bad - 1, records);
    dataset->skipped += bad;
    if (!dataset->first_bad[0])
        snprintf(dataset->first_bad, sizeof dataset->first_bad, "%.*s",
                 (int)sizeof dataset->first_bad - 1, message);
    return HONE_OK;
}

hone_status hone_dataset_read(const char *path, const DataOptions *options, Dataset *dataset,
                              HoneError *err) {
    Reader reader = {.path = path, .options = options, .dataset = dataset, .err = err};
    FileMap map;
    if (options->max_length < 2)
        return hone_fail(
            err, HONE_ERROR_ARGUMENT,
            "a length of at most %lld tokens (--max-length) leaves nothing to predict: "
            "at least 2",
            (long long)options->max_length);
    RETURN_IF_ERROR(check_name(path, err));
    RETURN_IF_ERROR(hone_file_map(path, &map, err));
    hone_status status = hone_workshop_open(&reader.workshop, options, err);
    const char *text = (const char *)map.data;
    size_t length = map.bytes;
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        text += 3;
        length -= 3;
    }
    if (status == HONE_OK && length >= 2 &&
        (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        status = hone_fail(err, HONE_ERROR_INPUT,
                           "%s: is UTF-16; UTF-8 is wanted (iconv -f UTF-16 -t UTF-8)", path);
    if (status == HONE_OK) {
        int line = 1;
        size_t at = skip_space(text, length, 0, &line);
        bool is_list = at < length && text[at] == '[';
        status = is_list ? read_array(&reader, text, length, at, line)
                         : read_lines(&reader, text, length);
    }
    if (status == HONE_OK) status = conclude(&reader);
    hone_workshop_close(&reader.workshop);
    hone_arena_free(&reader.scratch);
    hone_file_unmap(&map);
    return status;
}

void hone_dataset_free(Dataset *dataset) {
    hone_free(dataset->examples);
    hone_arena_free(&dataset->memory);
    *dataset = (Dataset){0};
}
