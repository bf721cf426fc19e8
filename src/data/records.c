// SPDX-License-Identifier: Apache-2.0
// The records of a data file, one after the other: lines of JSON, a JSON list, rows of a table.
#include "data/records.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/table.h"

enum { RELEASE_BYTES = 32 << 20 };

typedef struct Reading {
    const char *path;
    const Content *content;
    const RecordSink *sink;
    size_t released; // bytes of the content that were given back
    HoneError *err;
} Reading;

static hone_status give(Reading *reading, const json_t *value, int line) {
    return reading->sink->record(reading->sink->user, value, line, reading->err);
}

static hone_status spoilt(Reading *reading, HoneError *problem, int line) {
    hone_fail_in(problem, "%s:%d", reading->path, line);
    return reading->sink->bad(reading->sink->user, problem, reading->err);
}

// What was read before `at` need not stay in memory.
static void release(Reading *reading, size_t at) {
    if (at < reading->released + RELEASE_BYTES) return;
    hone_file_drop(&reading->content->map, reading->content->text + reading->released,
                   at - reading->released);
    reading->released = at;
}

// An integer beyond 64 bits is no error: all integers of that record are read as reals then.
static json_t *parse(const char *text, size_t length, size_t flags, json_error_t *problem) {
    flags |= JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    hone_memory_watch();
    json_t *value = json_loadb(text, length, flags, problem);
    if (value && hone_memory_lacked()) { // a character may be missing
        json_decref(value);
        return NULL;
    }
    if (value || json_error_code(problem) != json_error_numeric_overflow) return value;
    return json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, problem);
}

// ---- JSON --------------------------------------------------------------------------------------

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_space(const char *text, size_t length, size_t at, int *line) {
    for (; at < length && is_space(text[at]); at++) *line += text[at] == '\n';
    return at;
}

static hone_status not_json(HoneError *err, const json_error_t *problem, int column) {
    char text[sizeof problem->text];
    if (hone_memory_lacked()) return hone_fail_memory(err, sizeof(json_t), "a record");
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

static hone_status read_lines(Reading *reading, const char *text, size_t length) {
    int line = 1;
    for (size_t begin = 0; begin < length; line++) {
        const char *newline = memchr(text + begin, '\n', length - begin);
        size_t end = newline ? (size_t)(newline - text) : length, from = begin, to = end;
        while (from < to && is_space(text[from])) from++;
        while (to > from && is_space(text[to - 1])) to--;
        json_error_t problem = {0};
        json_t *value = from < to ? parse(text + from, to - from, 0, &problem) : NULL;
        if (value) {
            hone_status status = give(reading, value, line);
            json_decref(value);
            RETURN_IF_ERROR(status);
        } else if (from < to) {
            HoneError bad = {0};
            not_json(&bad, &problem, problem.column + (int)(from - begin));
            RETURN_IF_ERROR(spoilt(reading, &bad, line));
        }
        begin = end + 1;
        release(reading, end);
    }
    return HONE_OK;
}

static int column_of(const char *text, size_t at) {
    size_t begin = at;
    while (begin > 0 && text[begin - 1] != '\n') begin--;
    return (int)(at - begin) + 1;
}

// A list of records. Each is parsed by itself, so that its line is known and only one is in memory.
static hone_status read_array(Reading *reading, const char *text, size_t length, size_t at,
                              int line) {
    at = skip_space(text, length, at + 1, &line);
    for (bool first = true; at < length && text[at] != ']'; first = false) {
        if (!first && text[at] != ',') break;
        if (!first) at = skip_space(text, length, at + 1, &line);
        json_error_t problem = {0};
        json_t *value = parse(text + at, length - at, JSON_DISABLE_EOF_CHECK, &problem);
        if (!value) {
            int before = problem.line == 1 ? column_of(text, at) - 1 : 0;
            not_json(reading->err, &problem, problem.column + before);
            return hone_fail_in(reading->err, "%s:%d", reading->path, line + problem.line - 1);
        }
        hone_status status = give(reading, value, line);
        json_decref(value);
        RETURN_IF_ERROR(status);
        for (int i = 0; i < problem.position; i++) line += text[at + (size_t)i] == '\n';
        at = skip_space(text, length, at + (size_t)problem.position, &line);
    }
    if (at < length && text[at] == ']') {
        at = skip_space(text, length, at + 1, &line);
        if (at == length) return HONE_OK;
    }
    return hone_fail(reading->err, HONE_ERROR_INPUT,
                     "%s:%d: not JSON: expected %s in the list of records (column %d)",
                     reading->path, line, at < length ? "',' or the end" : "']'",
                     column_of(text, at));
}

// ---- tables ------------------------------------------------------------------------------------

// Columns whose cells hold JSON.
static bool is_json_column(const char *name) {
    static const char *const names[] = {"messages", "conversations", "tools",
                                        "chat_template_kwargs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static hone_status put_cell(json_t *record, const char *name, const char *cell, size_t length,
                            HoneError *err) {
    json_error_t problem = {0};
    json_t *value;
    if (length == 0 && is_json_column(name)) return HONE_OK; // a row without it
    if (memchr(cell, '\0', length))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "column '%.*s' holds the character \\u0000, which no text may hold",
                         hone_excerpt(name), name);
    if (is_json_column(name)) {
        value = parse(cell, length, 0, &problem);
        if (!value) {
            not_json(err, &problem, problem.column);
            return hone_fail_in(err, "column '%s'", name);
        }
    } else if (!(value = json_stringn(cell, length))) {
        return hone_fail(err, HONE_ERROR_INPUT, "column '%.*s' is not UTF-8", hone_excerpt(name),
                         name);
    }
    return json_object_set_new(record, name, value) == 0 ? HONE_OK
                                                         : hone_fail_memory(err, length, "a row");
}

static hone_status row_record(const json_t *names, const TableRow *row, json_t *record,
                              HoneError *err) {
    size_t length, columns = json_array_size(names);
    if ((size_t)row->count != columns)
        return hone_fail(err, HONE_ERROR_INPUT, "this row has %lld cells, the header has %zu",
                         (long long)row->count, columns);
    for (size_t i = 0; i < columns; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const char *cell = hone_row_cell(row, (int64_t)i, &length);
        RETURN_IF_ERROR(put_cell(record, name, cell, length, err));
    }
    return HONE_OK;
}

static hone_status read_header(Reading *reading, Table *table, TableRow *row, json_t *names) {
    bool more;
    size_t length;
    hone_status status = hone_table_next(table, row, &more, reading->err);
    for (int64_t i = 0; i < row->count && status == HONE_OK; i++) {
        const char *cell = hone_row_cell(row, i, &length);
        json_t *name = memchr(cell, '\0', length) ? NULL : json_stringn(cell, length);
        for (size_t k = 0; name && k < json_array_size(names); k++)
            if (length > 0 && json_equal(name, json_array_get(names, k)))
                status =
                    hone_fail(reading->err, HONE_ERROR_INPUT, "two columns have the name '%.*s'",
                              hone_excerpt(json_string_value(name)), json_string_value(name));
        if (json_array_append_new(names, name) != 0 && status == HONE_OK)
            status = hone_fail(reading->err, HONE_ERROR_INPUT,
                               "the name of column %lld is not UTF-8", (long long)i + 1);
    }
    if (status != HONE_OK) hone_fail_in(reading->err, "%s:%d", reading->path, row->line);
    return status;
}

static hone_status read_rows(Reading *reading, Table *table, TableRow *row, const json_t *names) {
    for (bool more = true; more;) {
        HoneError problem = {0};
        hone_status status = hone_table_next(table, row, &more, &problem);
        if (status == HONE_OK && !more) break;
        json_t *record = json_object();
        if (!record) return hone_fail_memory(reading->err, row->text.length, "a row");
        if (status == HONE_OK) status = row_record(names, row, record, &problem);
        if (status == HONE_OK) {
            status = give(reading, record, row->line);
        } else {
            status = spoilt(reading, &problem, row->line);
        }
        json_decref(record);
        RETURN_IF_ERROR(status);
        release(reading, table->at);
    }
    return HONE_OK;
}

static hone_status read_table(Reading *reading) {
    const Content *content = reading->content;
    Table table = {content->text, content->length, 0, content->delimiter, 1};
    TableRow row = {0};
    json_t *names = json_array();
    hone_status status = names ? read_header(reading, &table, &row, names)
                               : hone_fail_memory(reading->err, 0, "a row");
    if (status == HONE_OK) status = read_rows(reading, &table, &row, names);
    json_decref(names);
    hone_row_free(&row);
    return status;
}

hone_status hone_records_each(const char *path, const Content *content, const RecordSink *sink,
                              HoneError *err) {
    Reading reading = {.path = path, .content = content, .sink = sink, .err = err};
    int line = 1;
    if (content->kind == CONTENT_TABLE) return read_table(&reading);
    if (content->kind == CONTENT_LINES) return read_lines(&reading, content->text, content->length);
    const size_t at = skip_space(content->text, content->length, 0, &line);
    return read_array(&reading, content->text, content->length, at, line);
}
