// SPDX-License-Identifier: Apache-2.0
#include "data/table.h"

#include <string.h>

static bool is_end(char c) {
    return c == '\n' || c == '\r';
}

static void end_line(Table *table) {
    if (table->at < table->length && table->text[table->at] == '\r') table->at++;
    if (table->at < table->length && table->text[table->at] == '\n') table->at++;
    table->line++;
}

static void end_cell(TableRow *row) {
    size_t end = row->text.length;
    hone_text_append(&row->ends, &end, sizeof end);
    row->count++;
}

// From behind the opening quote to behind the closing one. false: there is none.
static bool read_quoted(Table *table, TableRow *row) {
    for (;;) {
        const char *from = table->text + table->at;
        const char *quote = memchr(from, '"', table->length - table->at);
        size_t bytes = quote ? (size_t)(quote - from) : table->length - table->at;
        for (size_t i = 0; i < bytes; i++) table->line += from[i] == '\n';
        hone_text_append(&row->text, from, bytes);
        table->at += bytes;
        if (!quote) return false;
        table->at++;
        if (table->at == table->length || table->text[table->at] != '"') return true;
        hone_text_append(&row->text, "\"", 1);
        table->at++;
    }
}

static void read_plain(Table *table, TableRow *row) {
    size_t begin = table->at;
    while (table->at < table->length && table->text[table->at] != table->delimiter &&
           !is_end(table->text[table->at]))
        table->at++;
    hone_text_append(&row->text, table->text + begin, table->at - begin);
}

static void skip_line(Table *table) {
    while (table->at < table->length && !is_end(table->text[table->at])) table->at++;
    end_line(table);
}

static hone_status read_row(Table *table, TableRow *row, HoneError *err) {
    for (;;) {
        if (table->at < table->length && table->text[table->at] == '"') {
            table->at++;
            if (!read_quoted(table, row))
                return hone_fail(err, HONE_ERROR_INPUT,
                                 "a quote is opened in cell %lld of this row and never closed",
                                 (long long)row->count + 1);
            if (table->at < table->length && table->text[table->at] != table->delimiter &&
                !is_end(table->text[table->at])) {
                skip_line(table);
                return hone_fail(err, HONE_ERROR_INPUT,
                                 "text follows the closing quote of cell %lld; a quote inside a "
                                 "cell is written twice",
                                 (long long)row->count + 1);
            }
        } else {
            read_plain(table, row);
        }
        end_cell(row);
        if (table->at == table->length) return HONE_OK;
        if (table->text[table->at] != table->delimiter) {
            end_line(table);
            return HONE_OK;
        }
        table->at++;
    }
}

hone_status hone_table_next(Table *table, TableRow *row, bool *more, HoneError *err) {
    hone_text_clear(&row->text);
    hone_text_clear(&row->ends);
    row->count = 0;
    while (table->at < table->length && is_end(table->text[table->at])) end_line(table);
    *more = table->at < table->length;
    row->line = table->line;
    if (!*more) return HONE_OK;
    RETURN_IF_ERROR(read_row(table, row, err));
    if (row->text.failed || row->ends.failed)
        return hone_fail_memory(err, row->text.length, "a row");
    return HONE_OK;
}

const char *hone_row_cell(const TableRow *row, int64_t index, size_t *length) {
    size_t begin = 0, end;
    const char *ends = row->ends.data;
    if (index > 0) memcpy(&begin, ends + (size_t)(index - 1) * sizeof begin, sizeof begin);
    memcpy(&end, ends + (size_t)index * sizeof end, sizeof end);
    *length = end - begin;
    return row->text.data ? row->text.data + begin : "";
}

void hone_row_free(TableRow *row) {
    hone_text_free(&row->text);
    hone_text_free(&row->ends);
}

// ---- telling a table ---------------------------------------------------------------------------

char hone_table_delimiter(const char *text, size_t length) {
    static const char marks[] = ",;\t";
    size_t counts[3] = {0}, best = 0;
    bool quoted = false;
    for (size_t i = 0; i < length && (quoted || !is_end(text[i])); i++) {
        if (text[i] == '"') quoted = !quoted;
        const char *mark = !quoted && text[i] ? strchr(marks, text[i]) : NULL;
        if (mark) counts[mark - marks]++;
    }
    for (size_t i = 1; i < 3; i++)
        if (counts[i] > counts[best]) best = i;
    return marks[best];
}

char hone_table_known(const char *text, size_t length) {
    static const char *const known[] = {
        "text",   "prompt", "completion", "instruction", "output",   "messages", "conversations",
        "text_a", "label",  "chosen",     "rejected",    "question", "source"};
    Table table = {text, length, 0, hone_table_delimiter(text, length), 1};
    TableRow row = {0};
    bool more, found = false;
    if (hone_table_next(&table, &row, &more, NULL) == HONE_OK && more)
        for (int64_t i = 0; i < row.count && !found; i++) {
            size_t bytes;
            const char *cell = hone_row_cell(&row, i, &bytes);
            for (size_t k = 0; k < sizeof known / sizeof *known; k++)
                found = found || (strlen(known[k]) == bytes && memcmp(cell, known[k], bytes) == 0);
        }
    hone_row_free(&row);
    return found ? table.delimiter : '\0';
}
