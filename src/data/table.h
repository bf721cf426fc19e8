// SPDX-License-Identifier: Apache-2.0
// Tables of text (RFC 4180): rows of cells with a delimiter between them. A cell in quotes may hold
// the delimiter, line ends and, doubled, quotes.
#ifndef HONE_DATA_TABLE_H
#define HONE_DATA_TABLE_H

#include "base/text.h"

typedef struct Table {
    const char *text;
    size_t length, at;
    char delimiter;
    int line; // of what comes next, from 1
} Table;

// Zero-initialise to create; free with hone_row_free.
typedef struct TableRow {
    TextBuffer text; // the cells, one after the other
    TextBuffer ends; // where each ends in it, a size_t each
    int64_t count;
    int line; // on which it begins
} TableRow;

// The next row that is not blank. *more: there was one. HONE_ERROR_INPUT: this row is none (a text
// behind a closing quote; a quote that is never closed); the table goes on behind it.
hone_status hone_table_next(Table *table, TableRow *row, bool *more, HoneError *err);
const char *hone_row_cell(const TableRow *row, int64_t index, size_t *length);
void hone_row_free(TableRow *row);

// What stands most often between the words of the first line: a comma, a semicolon or a tab.
char hone_table_delimiter(const char *text, size_t length);
// The delimiter if the first line is a header with a column that Hone knows, else 0.
char hone_table_known(const char *text, size_t length);

#endif
