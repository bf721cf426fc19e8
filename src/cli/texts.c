// SPDX-License-Identifier: Apache-2.0
#include "texts.h"

ssize_t read_line(Line *line, const char *prompt) {
    if (prompt) fputs(prompt, stderr);
    ssize_t length = getline(&line->text, &line->capacity, stdin);
    while (length > 0 && (line->text[length - 1] == '\n' || line->text[length - 1] == '\r'))
        line->text[--length] = '\0';
    return length;
}

bool show_texts_done(void *user, int64_t done, int64_t count) {
    (void)user;
    if (stderr_is_terminal())
        fprintf(stderr, "\r\033[K%lld/%lld texts", (long long)done, (long long)count);
    return !was_interrupted();
}

void clear_texts_done(void) {
    if (stderr_is_terminal()) fputs("\r\033[K", stderr);
}

void tell_texts(const HoneData *data, int64_t max_length) {
    HoneDataInfo texts;
    hone_data_info(data, &texts);
    if (texts.skipped)
        fprintf(stderr, "%lld bad texts skipped, the first: %s\n", (long long)texts.skipped,
                texts.first_skipped);
    if (texts.cut)
        fprintf(stderr, "%lld of %lld texts are longer than %lld tokens and were cut\n",
                (long long)texts.cut, (long long)texts.examples, (long long)max_length);
}
