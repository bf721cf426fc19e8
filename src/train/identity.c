// SPDX-License-Identifier: Apache-2.0
// What makes a run the run it is: the model, the data as tokenised, what is trained and every
// option that changes a bit of the result. A checkpoint holds it, one "name: value" a line, so that
// a run that is resumed as another can be told in what it differs.
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Options whose value changes no bit of what is computed; files are known by what is in them.
static const char *const without_effect[] = {
    "model",   "tokenizer",        "data",           "eval-data", "adapter",
    "teacher", "template",         "memory",         "type",      "checkpoint-layers",
    "date",    "checkpoint-every", "on-bad-example", "log-norms", "sample"};

static void put_hash(TextBuffer *text, const char *what, uint64_t hash) {
    hone_text_printf(text, "%s: #%016llx\n", what, (unsigned long long)hash);
}

static uint64_t with(uint64_t hash, const void *bytes, size_t length) {
    return hash * 31 + hone_hash_bytes(bytes, length);
}

// The file's first bytes and length, and pieces of every tensor, evenly spread.
static uint64_t hash_model(const Run *run, const HoneModel *model) {
    enum { HEAD = 1 << 16, PIECE = 4096, PIECES = 16 };
    const GgufFile *file = &model->file;
    const size_t head = file->map.bytes < HEAD ? file->map.bytes : HEAD;
    uint64_t hash = with(file->map.bytes, file->map.data, head);
    for (int64_t i = 0; i < file->tensor_count; i++) {
        const GgufTensor *tensor = &file->tensors[i];
        const unsigned char *data = tensor->data;
        if (tensor->bytes <= (size_t)PIECE * PIECES) {
            hash = with(hash, data, tensor->bytes);
            continue;
        }
        const size_t apart = (tensor->bytes - PIECE) / (PIECES - 1);
        for (size_t piece = 0; piece < PIECES; piece++)
            hash = with(hash, data + piece * apart, PIECE);
    }
    // Around a piece the kernel maps sixteen times as much: stored weights that nobody reads again.
    const bool replaced = model == run->model && run->options.method == HONE_METHOD_FULL;
    if (run->memory.releases || replaced)
        hone_file_drop(&file->map, file->map.data, file->map.bytes);
    return hash;
}

// Names, shapes and scales.
static uint64_t hash_trained(const Run *run) {
    uint64_t hash = (uint64_t)run->parameters.count;
    for (int64_t i = 0; i < run->parameters.item_count; i++) {
        const Trainable *item = &run->parameters.items[i];
        hash = with(hash, item->name, strlen(item->name));
        hash = with(hash, item->tensor->shape, sizeof item->tensor->shape);
        if (item->part != PART_WHOLE)
            hash = with(hash, &hone_trained_adapter(item)->scale, sizeof(float));
    }
    return hash;
}

static uint64_t hash_examples(uint64_t hash, const Example *const *examples, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const Example *example = examples[i];
        const int64_t source = example->source_count;
        const size_t tokens = (size_t)hone_example_length(example);
        hash = with(hash, example->token - source, tokens * sizeof *example->token);
        hash = with(hash, example->target - source, tokens);
        if (examples[i]->rejected) hash = hash_examples(hash, &examples[i]->rejected, 1);
    }
    return hash;
}

hone_status hone_identity_make(Run *run) {
    const HoneFinetuneOptions *options = &run->options;
    TextBuffer *text = &run->identity;
    uint64_t data = (uint64_t)options->data_count;
    for (int64_t s = 0; s < options->data_count; s++)
        data = with(data, &options->data[s].weight, sizeof(double));
    put_hash(text, "the model", hash_model(run, run->model));
    if (run->teacher) put_hash(text, "the teacher", hash_model(run, run->teacher));
    put_hash(text, "the training data", hash_examples(data, run->train, run->train_count));
    put_hash(text, "the held-out data", hash_examples(0, run->held_out, run->held_out_count));
    put_hash(text, "what is trained", hash_trained(run));
    hone_config_text(run, text);
    return text->failed ? hone_fail_memory(run->err, text->length, "a run's options") : HONE_OK;
}

// ---- comparing ---------------------------------------------------------------------------------

typedef struct Line {
    const char *name, *value;
    int name_length, value_length;
} Line;

// The line that begins at *at, which is moved behind it; false at the end. Lines of another form
// (comments, the data's list) are passed over.
static bool next_line(const char **at, const char *end, Line *line) {
    while (*at < end) {
        const char *begin = *at, *stop = memchr(begin, '\n', (size_t)(end - begin));
        if (!stop) stop = end;
        *at = stop < end ? stop + 1 : end;
        const char *colon = memchr(begin, ':', (size_t)(stop - begin));
        if (!colon || stop - colon < 3 || *begin == '#' || *begin == ' ') continue;
        *line = (Line){begin, colon + 2, (int)(colon - begin), (int)(stop - colon - 2)};
        return true;
    }
    return false;
}

static bool same_text(const char *a, int a_length, const char *b, int b_length) {
    return a_length == b_length && memcmp(a, b, (size_t)a_length) == 0;
}

static bool counts(const Line *line) {
    for (size_t i = 0; i < sizeof without_effect / sizeof *without_effect; i++) {
        const int length = (int)strlen(without_effect[i]);
        if (same_text(line->name, line->name_length, without_effect[i], length)) return false;
    }
    return true;
}

static bool find_line(const char *text, size_t length, const Line *like, Line *found) {
    const char *at = text, *end = text + length;
    while (next_line(&at, end, found))
        if (same_text(found->name, found->name_length, like->name, like->name_length)) return true;
    return false;
}

// Numbers as a person writes them.
static void put_value(TextBuffer *told, const Line *line) {
    char digits[40], *end;
    snprintf(digits, sizeof digits, "%.*s", line->value_length, line->value);
    const double value = strtod(digits, &end);
    if (line->value_length < (int)sizeof digits && end != digits && !*end)
        hone_text_printf(told, "%.10g", value);
    else
        hone_text_append(told, line->value, (size_t)line->value_length);
}

static void tell(TextBuffer *told, const Line *then, const Line *now) {
    const Line *line = then ? then : now;
    const bool hashed = line->value[0] == '#';
    if (told->length) hone_text_puts(told, ", ");
    hone_text_printf(told, "%s%.*s", hashed ? "" : "--", line->name_length, line->name);
    if (hashed) {
        hone_text_puts(told, " is another");
        return;
    }
    hone_text_puts(told, then ? " was " : " was not given");
    if (then) put_value(told, then);
    hone_text_puts(told, now ? " and is " : " and is not given");
    if (now) put_value(told, now);
}

void hone_identity_compare(const Run *run, const char *stored, size_t length, TextBuffer *told) {
    enum { MOST = 4 }; // differences that are told in full
    const char *at = stored;
    int differences = 0;
    for (Line then, now; next_line(&at, stored + length, &then);) {
        if (!counts(&then)) continue;
        const bool here = find_line(run->identity.data, run->identity.length, &then, &now);
        if (here && same_text(then.value, then.value_length, now.value, now.value_length)) continue;
        if (differences++ < MOST) tell(told, &then, here ? &now : NULL);
    }
    at = run->identity.data;
    for (Line now, then; next_line(&at, run->identity.data + run->identity.length, &now);)
        if (counts(&now) && !find_line(stored, length, &now, &then) && differences++ < MOST)
            tell(told, NULL, &now);
    if (differences > MOST) hone_text_printf(told, " and %d more", differences - MOST);
}
