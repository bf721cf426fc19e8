// SPDX-License-Identifier: Apache-2.0
// Two texts beside each other on a terminal, each as it comes: first the left one, then the right
// one from where that began.
#ifndef HONE_CLI_COLUMNS_H
#define HONE_CLI_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>

enum { COLUMN_WORD = 256 };

typedef struct Column {
    int left, width; // where it begins, and its columns
    int at, line;    // where the next character goes
    int there;       // lines that are on the terminal already
    char word[COLUMN_WORD];
    size_t length; // of the word that is not whole yet, in bytes
    bool space;    // stands before it
} Column;

// Width of the terminal behind stdout, and its height; false: there is none.
bool terminal_size(int *columns, int *rows);
// A column whose first line holds the cursor; `there` lines of it are on the terminal already.
void column_begin(Column *column, int left, int width, int there);
// What comes next of its text: whole words go to the terminal, wrapped.
void column_put(Column *column, const char *bytes, size_t length);
void column_end(Column *column); // the last word
// Go to the first line of a column that has ended.
void column_up(const Column *column);
// Go to the line below both.
void columns_below(const Column *last, const Column *other);

#endif
