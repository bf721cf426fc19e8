// SPDX-License-Identifier: Apache-2.0
// Files of records.
#include "data/data.h"

#include <stdio.h>
#include <string.h>

#include "data/content.h"
#include "data/record.h"
#include "data/table.h"

typedef struct Reader {
    const char *path;
    const DataOptions *options;
    Dataset *dataset;
    Workshop workshop;
    Arena scratch; // of one record
    int64_t records, bad;
    HoneError first_bad;
    TranslationVisitor *visit; // instead of making examples
    void *user;
    HoneError *err;
} Reader;

// ---- one record --------------------------------------------------------------------------------

hone_status hone_dataset_add(Dataset *dataset, const Example *example, HoneError *err) {
    int64_t count = dataset->count;
    if ((count & (count - 1)) == 0) { // capacity is the next power of two
        size_t bytes = (size_t)(count ? count * 2 : 1) * sizeof *example;
        Example *grown = hone_realloc(dataset->examples, (size_t)count * sizeof *example, bytes);
        if (!grown) return hone_fail_memory(err, bytes, "examples");
        dataset->examples = grown;
    }
    dataset->examples[dataset->count++] = *example;
    dataset->tokens += hone_example_length(example);
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

// One answer of a pair, as a record of its own.
static hone_status make_answer(Reader *reader, const json_t *value, Example *example,
                               HoneError *problem) {
    Record record;
    hone_status status =
        hone_record_read(value, reader->options, &reader->scratch, &record, problem);
    if (status == HONE_OK)
        status = hone_example_make(&reader->workshop, reader->options, &record,
                                   &reader->dataset->memory, example, problem);
    hone_record_done(&record);
    hone_arena_reset(&reader->scratch);
    return status;
}

static hone_status make_pair(Reader *reader, const json_t *value, Example *chosen,
                             HoneError *problem) {
    static const char *const answers[] = {"chosen", "rejected"};
    Example *rejected = hone_arena_calloc(&reader->dataset->memory, 1, sizeof *rejected);
    if (!rejected) return hone_fail_memory(problem, sizeof *rejected, "a pair");
    for (int i = 0; i < 2; i++) {
        json_t *answer = hone_pair_answer(value, answers[i], problem);
        if (!answer) return problem->status;
        hone_status status = make_answer(reader, answer, i ? rejected : chosen, problem);
        json_decref(answer);
        if (status != HONE_OK) {
            hone_fail_in(problem, "'%s'", answers[i]);
            return status;
        }
    }
    const int64_t shorter = chosen->count < rejected->count ? chosen->count : rejected->count;
    if (chosen->count == rejected->count &&
        memcmp(chosen->token, rejected->token, (size_t)shorter * sizeof *chosen->token) == 0)
        return hone_fail(problem, HONE_ERROR_INPUT, "'chosen' and 'rejected' are the same");
    chosen->rejected = rejected;
    return HONE_OK;
}

static hone_status read_pair(Reader *reader, const json_t *value, int line) {
    HoneError problem = {0};
    Example chosen;
    reader->records++;
    if (make_pair(reader, value, &chosen, &problem) != HONE_OK)
        return note_bad(reader, &problem, line);
    chosen.line = line;
    return hone_dataset_add(reader->dataset, &chosen, reader->err);
}

static hone_status read_record(Reader *reader, const json_t *value, int line) {
    HoneError problem = {0};
    Record record;
    Example example;
    if (reader->options->pairs) return read_pair(reader, value, line);
    reader->records++;
    hone_status status =
        hone_record_read(value, reader->options, &reader->scratch, &record, &problem);
    if (status == HONE_OK && reader->visit)
        status = reader->visit(reader->user, reader->path, line, record.prompt, record.completion,
                               &problem);
    else if (status == HONE_OK)
        status = hone_example_make(&reader->workshop, reader->options, &record,
                                   &reader->dataset->memory, &example, &problem);
    hone_record_done(&record);
    hone_arena_reset(&reader->scratch);
    if (status != HONE_OK) return note_bad(reader, &problem, line);
    if (reader->visit) return HONE_OK;
    example.line = line;
    return hone_dataset_add(reader->dataset, &example, reader->err);
}

// An integer beyond 64 bits is no error: all integers of that record are read as reals then.
static json_t *parse(const char *text, size_t length, size_t flags, json_error_t *problem) {
    flags |= JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    hone_memory_watch();
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

static hone_status read_lines(Reader *reader, const char *text, size_t length) {
    int line = 1;
    for (size_t begin = 0; begin < length; line++) {
        const char *newline = memchr(text + begin, '\n', length - begin);
        size_t end = newline ? (size_t)(newline - text) : length, from = begin, to = end;
        while (from < to && is_space(text[from])) from++;
        while (to > from && is_space(text[to - 1])) to--;
        json_error_t problem = {0};
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
        json_error_t problem = {0};
        json_t *value = parse(text + at, length - at, JSON_DISABLE_EOF_CHECK, &problem);
        if (!value) {
            int before = problem.line == 1 ? column_of(text, at) - 1 : 0;
            not_json(reader->err, &problem, problem.column + before);
            return hone_fail_in(reader->err, "%s:%d", reader->path, line + problem.line - 1);
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

static hone_status read_header(Reader *reader, Table *table, TableRow *row, json_t *names) {
    bool more;
    size_t length;
    hone_status status = hone_table_next(table, row, &more, reader->err);
    for (int64_t i = 0; i < row->count && status == HONE_OK; i++) {
        const char *cell = hone_row_cell(row, i, &length);
        json_t *name = memchr(cell, '\0', length) ? NULL : json_stringn(cell, length);
        for (size_t k = 0; name && k < json_array_size(names); k++)
            if (length > 0 && json_equal(name, json_array_get(names, k)))
                status =
                    hone_fail(reader->err, HONE_ERROR_INPUT, "two columns have the name '%.*s'",
                              hone_excerpt(json_string_value(name)), json_string_value(name));
        if (json_array_append_new(names, name) != 0 && status == HONE_OK)
            status = hone_fail(reader->err, HONE_ERROR_INPUT,
                               "the name of column %lld is not UTF-8", (long long)i + 1);
    }
    if (status != HONE_OK) hone_fail_in(reader->err, "%s:%d", reader->path, row->line);
    return status;
}

static hone_status read_rows(Reader *reader, Table *table, TableRow *row, const json_t *names) {
    for (bool more = true; more;) {
        HoneError problem = {0};
        hone_status status = hone_table_next(table, row, &more, &problem);
        if (status == HONE_OK && !more) break;
        json_t *record = json_object();
        if (!record) return hone_fail_memory(reader->err, row->text.length, "a row");
        if (status == HONE_OK) status = row_record(names, row, record, &problem);
        if (status == HONE_OK) {
            status = read_record(reader, record, row->line);
        } else {
            reader->records++;
            status = note_bad(reader, &problem, row->line);
        }
        json_decref(record);
        RETURN_IF_ERROR(status);
    }
    return HONE_OK;
}

static hone_status read_table(Reader *reader, const Content *content) {
    Table table = {content->text, content->length, 0, content->delimiter, 1};
    TableRow row = {0};
    json_t *names = json_array();
    hone_status status = names ? read_header(reader, &table, &row, names)
                               : hone_fail_memory(reader->err, 0, "a row");
    if (status == HONE_OK) status = read_rows(reader, &table, &row, names);
    json_decref(names);
    hone_row_free(&row);
    return status;
}

// ---- the whole file ----------------------------------------------------------------------------

static hone_status read_windows(Reader *reader, const Content *content) {
    const int64_t before = reader->dataset->count;
    hone_status status = hone_windows_read(&reader->workshop, reader->options, content->text,
                                           content->length, reader->dataset, reader->err);
    reader->records = reader->dataset->count - before;
    if (status != HONE_OK) hone_fail_in(reader->err, "%s", reader->path);
    return status;
}

static hone_status read_content(Reader *reader, const Content *content) {
    int line = 1;
    switch (content->kind) {
    case CONTENT_TEXT:
        return read_windows(reader, content);
    case CONTENT_TABLE:
        return read_table(reader, content);
    case CONTENT_LIST: {
        size_t at = skip_space(content->text, content->length, 0, &line);
        return read_array(reader, content->text, content->length, at, line);
    }
    default:
        return read_lines(reader, content->text, content->length);
    }
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
    Content content;
    if (options->max_length < 2)
        return hone_fail(
            err, HONE_ERROR_ARGUMENT,
            "a length of at most %lld tokens (--max-length) leaves nothing to predict: "
            "at least 2",
            (long long)options->max_length);
    if (options->stride > options->max_length)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "--stride is %lld, more than the %lld tokens of a window (--max-length)",
                         (long long)options->stride, (long long)options->max_length);
    hone_status status = hone_content_open(path, &content, err);
    if (status == HONE_OK) status = hone_workshop_open(&reader.workshop, options, err);
    if (status == HONE_OK) status = read_content(&reader, &content);
    if (status == HONE_OK) status = conclude(&reader);
    hone_workshop_close(&reader.workshop);
    hone_arena_free(&reader.scratch);
    hone_content_close(&content);
    return status;
}

hone_status hone_translations_each(const char *path, TranslationVisitor *visit, void *user,
                                   HoneError *err) {
    const DataOptions options = {.translates = true};
    Reader reader = {.path = path, .options = &options, .visit = visit, .user = user, .err = err};
    Content content;
    hone_status status = hone_content_open(path, &content, err);
    if (status == HONE_OK && content.kind == CONTENT_TEXT)
        status = hone_fail(err, HONE_ERROR_INPUT,
                           "%s: plain text holds no records of two texts, source and target", path);
    if (status == HONE_OK) status = read_content(&reader, &content);
    if (status == HONE_OK && reader.bad > 0)
        status = hone_fail(err, reader.first_bad.status, "%s", reader.first_bad.message);
    hone_arena_free(&reader.scratch);
    hone_content_close(&content);
    return status;
}

int64_t hone_example_length(const Example *example) {
    return example->source_count + example->count;
}

void hone_dataset_free(Dataset *dataset) {
    hone_free(dataset->examples);
    hone_arena_free(&dataset->memory);
    *dataset = (Dataset){0};
}
