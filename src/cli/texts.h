// SPDX-License-Identifier: Apache-2.0
// Texts for a command: the lines that are typed or piped, and what is told of those of a file.
#ifndef HONE_CLI_TEXTS_H
#define HONE_CLI_TEXTS_H

#include "output.h"

// A line of standard input, without its end. Free `text` with free.
typedef struct Line {
    char *text;
    size_t capacity;
} Line;
// The next line's length, −1 at the end of input; prompt: shown before, NULL: none.
ssize_t read_line(Line *line, const char *prompt);

// A sink of hone_embed and hone_classify: how far they are, on a terminal; stops when interrupted.
bool show_texts_done(void *user, int64_t done, int64_t count);
void clear_texts_done(void);
// On stderr, how many of the texts were skipped or cut.
void tell_texts(const HoneData *data, int64_t max_length);

#endif
