// SPDX-License-Identifier: Apache-2.0
#include "columns.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"

bool terminal_size(int *columns, int *rows) {
    struct winsize window;
    if (!stdout_is_terminal() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return false;
    *columns = window.ws_col;
    *rows = window.ws_row;
    return window.ws_col > 0 && window.ws_row > 0;
}

void column_begin(Column *column, int left, int width, int there) {
    *column = (Column){.left = left, .width = width, .there = there > 1 ? there : 1};
    if (left) printf("\r\033[%dC", left);
}

// Columns that the character with this first byte takes: two in the scripts of East Asia and for
// most pictures. Of bytes that go on with a character: none.
static int columns_of(const char *bytes) {
    const unsigned char first = (unsigned char)bytes[0];
    if ((first & 0xc0) == 0x80) return 0;
    return (first >= 0xe3 && first <= 0xed) || first == 0xf0 ? 2 : 1;
}

static void next_line(Column *column) {
    column->line++;
    column->at = 0;
    if (column->line < column->there) {
        printf("\r\033[1B");
    } else {
        printf("\n\r");
        column->there = column->line + 1;
    }
    if (column->left) printf("\033[%dC", column->left);
}

static void put_word(Column *column) {
    int wide = 0;
    for (size_t i = 0; i < column->length; i++) wide += columns_of(column->word + i);
    if (column->length && column->at > 0 && column->at + column->space + wide > column->width)
        next_line(column);
    else if (column->space && column->at > 0 && column->at < column->width)
        putchar(' '), column->at++;
    for (size_t i = 0; i < column->length; i++) {
        const int own = columns_of(column->word + i);
        if (own && column->at > 0 && column->at + own > column->width) next_line(column);
        putchar(column->word[i]);
        column->at += own;
    }
    column->length = 0;
    column->space = false;
}

void column_put(Column *column, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)bytes[i];
        if (c == '\n') {
            put_word(column);
            next_line(column);
        } else if (c == ' ' || c == '\t') {
            put_word(column);
            column->space = true;
        } else if (c >= 0x20 && c != 0x7f) {
            if (column->length == COLUMN_WORD) put_word(column);
            column->word[column->length++] = bytes[i];
        }
    }
    fflush(stdout);
}

void column_end(Column *column) {
    put_word(column);
    fflush(stdout);
}

void column_up(const Column *column) {
    if (column->line) printf("\033[%dA", column->line);
    printf("\r");
}

void columns_below(const Column *last, const Column *other) {
    if (other->line > last->line) printf("\033[%dB", other->line - last->line);
    printf("\n\r");
}
