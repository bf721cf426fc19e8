// SPDX-License-Identifier: Apache-2.0
// Files of records.
#include "data/data.h"

#include <stdio.h>
#include <string.h>

#include "data/content.h"
#include "data/record.h"
#include "data/records.h"

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
static hone_status note_bad(Reader *reader, const HoneError *problem) {
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
    if (make_pair(reader, value, &chosen, &problem) != HONE_OK) {
        hone_fail_in(&problem, "%s:%d", reader->path, line);
        return note_bad(reader, &problem);
    }
    chosen.line = line;
    return hone_dataset_add(reader->dataset, &chosen, reader->err);
}

static hone_status read_framed(Reader *reader, const json_t *value, int line) {
    HoneError problem = {0};
    Example example;
    reader->records++;
    if (hone_encoder_example(&reader->workshop, reader->options, value, &reader->dataset->memory,
                             &example, &problem) != HONE_OK) {
        hone_fail_in(&problem, "%s:%d", reader->path, line);
        return note_bad(reader, &problem);
    }
    example.line = line;
    return hone_dataset_add(reader->dataset, &example, reader->err);
}

static hone_status read_record(void *user, const json_t *value, int line, HoneError *err) {
    Reader *reader = user;
    (void)err; // the reader's
    HoneError problem = {0};
    Record record;
    Example example;
    if (reader->options->task != TASK_NONE) return read_framed(reader, value, line);
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
    if (status != HONE_OK) {
        hone_fail_in(&problem, "%s:%d", reader->path, line);
        return note_bad(reader, &problem);
    }
    if (reader->visit) return HONE_OK;
    example.line = line;
    return hone_dataset_add(reader->dataset, &example, reader->err);
}

static hone_status read_bad(void *user, const HoneError *problem, HoneError *err) {
    Reader *reader = user;
    (void)err; // the reader's
    reader->records++;
    return note_bad(reader, problem);
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

static hone_status read_text(Reader *reader, const char *text, size_t length, int line) {
    json_t *value = json_stringn(text, length);
    HoneError problem = {0};
    if (!value) {
        hone_fail(&problem, HONE_ERROR_INPUT, "%s:%d: not UTF-8", reader->path, line);
        return read_bad(reader, &problem, reader->err);
    }
    hone_status status = read_framed(reader, value, line);
    json_decref(value);
    return status;
}

// A text a line; an empty one is one too.
static hone_status read_plain(Reader *reader, const Content *content) {
    int line = 1;
    for (size_t begin = 0; begin < content->length; line++) {
        const char *text = content->text + begin;
        const char *newline = memchr(text, '\n', content->length - begin);
        const size_t length = newline ? (size_t)(newline - text) : content->length - begin;
        const bool carriage = length > 0 && text[length - 1] == '\r';
        RETURN_IF_ERROR(read_text(reader, text, length - carriage, line));
        begin += length + 1;
    }
    return HONE_OK;
}

// Lines of text that are no records.
static bool is_plain(const Reader *reader, const Content *content) {
    const DataOptions *options = reader->options;
    const bool asks = options->task == TASK_CLASSIFY && options->unlabelled;
    if (options->task != TASK_EMBED && !asks) return false;
    size_t at = 0;
    while (at < content->length && strchr(" \t\r\n", content->text[at]) && content->text[at]) at++;
    return content->kind == CONTENT_TEXT ||
           (content->kind == CONTENT_LINES && at < content->length && content->text[at] != '{');
}

static hone_status read_content(Reader *reader, const Content *content) {
    const RecordSink sink = {reader, read_record, read_bad};
    if (is_plain(reader, content)) return read_plain(reader, content);
    return content->kind == CONTENT_TEXT
               ? read_windows(reader, content)
               : hone_records_each(reader->path, content, &sink, reader->err);
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

// Each line of plain text is a source.
static hone_status visit_lines(Reader *reader, const Content *content) {
    int line = 1;
    for (size_t begin = 0; begin < content->length; line++) {
        const char *text = content->text + begin;
        const char *newline = memchr(text, '\n', content->length - begin);
        size_t length = newline ? (size_t)(newline - text) : content->length - begin;
        begin += length + 1;
        if (length > 0 && text[length - 1] == '\r') length--;
        HoneError problem = {0};
        char *copy = hone_arena_strndup(&reader->scratch, text, length);
        reader->records++;
        hone_status status =
            !copy ? hone_fail_memory(&problem, length, "a source")
            : memchr(text, '\0', length)
                ? hone_fail(&problem, HONE_ERROR_INPUT, "the text holds the character \\u0000")
                : reader->visit(reader->user, reader->path, line, copy, "", &problem);
        hone_arena_reset(&reader->scratch);
        if (status == HONE_OK) continue;
        hone_fail_in(&problem, "%s:%d", reader->path, line);
        RETURN_IF_ERROR(note_bad(reader, &problem));
    }
    return HONE_OK;
}

hone_status hone_translations_each(const char *path, bool sources_only, TranslationVisitor *visit,
                                   void *user, HoneError *err) {
    const DataOptions options = {.translates = true, .sources_only = sources_only};
    Reader reader = {.path = path, .options = &options, .visit = visit, .user = user, .err = err};
    Content content;
    hone_status status = hone_content_open(path, &content, err);
    const bool lines = status == HONE_OK && content.kind == CONTENT_TEXT;
    if (lines && !sources_only)
        status = hone_fail(err, HONE_ERROR_INPUT,
                           "%s: plain text holds no records of two texts, source and target", path);
    const RecordSink sink = {&reader, read_record, read_bad};
    if (status == HONE_OK)
        status =
            lines ? visit_lines(&reader, &content) : hone_records_each(path, &content, &sink, err);
    if (status == HONE_OK && reader.records == 0)
        status = hone_fail(err, HONE_ERROR_INPUT, "%s: there is no example in this file", path);
    if (status == HONE_OK && reader.bad > 0)
        status = hone_fail(err, reader.first_bad.status, "%s", reader.first_bad.message);
    hone_arena_free(&reader.scratch);
    hone_content_close(&content);
    return status;
}

int64_t hone_example_length(const Example *example) {
    return example->source_count + example->count;
}

hone_status hone_dataset_texts(const char *const *texts, int64_t count, const DataOptions *options,
                               Dataset *dataset, HoneError *err) {
    Reader reader = {.path = "text", .options = options, .dataset = dataset, .err = err};
    hone_status status = hone_workshop_open(&reader.workshop, options, err);
    for (int64_t i = 0; i < count && status == HONE_OK; i++)
        status = read_text(&reader, texts[i], strlen(texts[i]), (int)i + 1);
    if (status == HONE_OK) status = conclude(&reader);
    hone_workshop_close(&reader.workshop);
    return status;
}

void hone_dataset_free(Dataset *dataset) {
    hone_free(dataset->examples);
    hone_arena_free(&dataset->memory);
    *dataset = (Dataset){0};
}
