// SPDX-License-Identifier: Apache-2.0
// Text as it is, cut into windows of tokens.
#include <string.h>

#include "data/record.h"

typedef struct Windows {
    const DataOptions *options;
    const TokenList *list;
    const char *text;
    size_t length;
    int32_t bos, eos; // −1: none is added
    int64_t total;    // tokens, EOS counted
    size_t counted;   // bytes whose line ends …
    int line;         // … are counted in this
} Windows;

// A text that no tokeniser should see: another kind of file by a wrong name.
static hone_status check_text(const char *text, size_t length, HoneError *err) {
    int line = 1;
    for (size_t at = 0; at < length;) {
        int bytes = hone_utf8_decode(text + at, length - at, NULL);
        if (bytes == 0 || text[at] == '\0')
            return hone_fail(err, HONE_ERROR_INPUT,
                             "line %d: byte %zu of the file (0x%02x) is no text in UTF-8", line,
                             at + 1, (unsigned char)text[at]);
        line += text[at] == '\n';
        at += (size_t)bytes;
    }
    return HONE_OK;
}

static size_t byte_of(const Windows *windows, int64_t token) {
    return token < windows->list->count ? windows->list->begin[token] : windows->length;
}

// Tokens [begin, end), of which those from `fresh` on no window before had.
static hone_status add_window(Windows *windows, int64_t begin, int64_t end, int64_t fresh,
                              Dataset *dataset, HoneError *err) {
    const int64_t first = windows->bos >= 0, count = end - begin + first;
    Example example = {.count = count};
    size_t from = byte_of(windows, begin), to = byte_of(windows, end);
    example.token = hone_arena_alloc(&dataset->memory, (size_t)count * sizeof *example.token);
    example.target = hone_arena_calloc(&dataset->memory, (size_t)count, 1);
    if (windows->options->keep_text)
        example.text = hone_arena_strndup(&dataset->memory, windows->text + from, to - from);
    if (!example.token || !example.target || (windows->options->keep_text && !example.text))
        return hone_fail_memory(err, (size_t)count * 5, "an example");
    if (first) example.token[0] = windows->bos;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i - begin + first;
        example.token[at] = i < windows->list->count ? windows->list->tokens[i] : windows->eos;
        example.target[at] = at > 0 && i >= fresh;
        example.targets += example.target[at];
    }
    for (; windows->counted < from; windows->counted++)
        windows->line += windows->text[windows->counted] == '\n';
    example.line = windows->line;
    if (example.targets == 0) return HONE_OK; // one token is left, and nothing predicts it
    return hone_dataset_add(dataset, &example, err);
}

hone_status hone_windows_read(Workshop *workshop, const DataOptions *options, const char *text,
                              size_t length, Dataset *dataset, HoneError *err) {
    const Tokenizer *tokenizer = options->tokenizer;
    if (options->translates)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "an encoder-decoder learns from records of two texts, source and target, "
                         "which plain text does not hold");
    if (options->pairs)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "plain text holds no pairs: records of prompt, chosen and rejected are "
                         "wanted");
    if (options->loss_on == LOSS_ASSISTANT || options->loss_on == LOSS_COMPLETION)
        return hone_fail(err, HONE_ERROR_INPUT, "text has no %s to learn: use --loss-on all",
                         options->loss_on == LOSS_ASSISTANT ? "assistant message" : "completion");
    if (length > TEXT_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "a text of %zu bytes, at most %d are read: cut it into several files",
                         length, (int)TEXT_LIMIT);
    RETURN_IF_ERROR(check_text(text, length, err));
    TokenList *list = &workshop->tokens;
    list->count = 0;
    RETURN_IF_ERROR(hone_tokenize_append(options->tokenizer, text, length, true, list, err));
    Windows windows = {.options = options, .list = list, .text = text, .length = length, .line = 1};
    windows.bos = hone_tokenizer_adds_bos(tokenizer) ? hone_tokenizer_bos(tokenizer) : -1;
    windows.eos = options->no_eos ? -1 : hone_tokenizer_eos(tokenizer);
    if (windows.eos < 0 && !options->no_eos)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the tokenizer has no EOS token to end this text with: use --no-eos");
    windows.total = list->count + (windows.eos >= 0);
    const int64_t room = options->max_length - (windows.bos >= 0);
    const int64_t stride = options->stride > 0 && options->stride < room ? options->stride : room;
    int64_t fresh = 0, before = dataset->count;
    for (int64_t begin = 0; fresh < windows.total && list->count > 0; begin += stride) {
        int64_t end = begin + room < windows.total ? begin + room : windows.total;
        RETURN_IF_ERROR(add_window(&windows, begin, end, fresh, dataset, err));
        fresh = end;
    }
    if (dataset->count == before)
        return hone_fail(err, HONE_ERROR_INPUT, "there is nothing to predict in this text");
    return HONE_OK;
}
