// SPDX-License-Identifier: Apache-2.0
// hone classify
#include <stdlib.h>
#include <string.h>

#include "texts.h"

typedef struct ClassifyOptions {
    Common common;
    const char *model, *data, *out, *on_bad;
    TextList adapters;
    HoneDataOptions texts;
} ClassifyOptions;

static int64_t most_of(const float *probability, int64_t count) {
    int64_t most = 0;
    for (int64_t i = 1; i < count; i++)
        if (probability[i] > probability[most]) most = i;
    return most;
}

static void print_classes(FILE *out, const HoneDataOptions *classes, const float *probability,
                          int line) {
    const int64_t most = most_of(probability, classes->label_count);
    fprintf(out, "{\"line\":%d,\"label\":", line);
    print_json_text(out, classes->labels[most]);
    fprintf(out, ",\"probability\":{");
    for (int64_t i = 0; i < classes->label_count; i++) {
        if (i) fputc(',', out);
        print_json_text(out, classes->labels[i]);
        fprintf(out, ":%.6g", (double)probability[i]);
    }
    fprintf(out, "}}\n");
}

// For a person: the label, and how sure.
static void show_classes(const HoneDataOptions *classes, const float *probability) {
    const int64_t most = most_of(probability, classes->label_count);
    plain_text(stdout, classes->labels[most], strlen(classes->labels[most]));
    printf("  %.1f %%\n", 100 * (double)probability[most]);
}

static void tell_accuracy(const HoneData *data, const HoneDataOptions *classes,
                          const float *probability, int64_t count) {
    int64_t known = 0, right = 0;
    for (int64_t i = 0; i < count; i++) {
        HoneExample example;
        hone_data_example(data, i, &example);
        if (!example.answer) continue;
        const int64_t said = most_of(probability + i * classes->label_count, classes->label_count);
        known++;
        right += strcmp(classes->labels[said], example.answer) == 0;
    }
    if (known)
        fprintf(stderr, "%lld of %lld labels right, %.1f %%\n", (long long)right, (long long)known,
                100.0 * (double)right / (double)known);
}

static bool write_lines(FILE *out, const HoneData *data, const HoneDataOptions *classes,
                        const float *probability, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        HoneExample example;
        hone_data_example(data, i, &example);
        print_classes(out, classes, probability + i * classes->label_count, example.line);
    }
    return !ferror(out);
}

// The file is there whole or not at all.
static bool write_file(const char *path, const HoneData *data, const HoneDataOptions *classes,
                       const float *probability, int64_t count) {
    const size_t length = strlen(path) + sizeof ".tmp";
    char *scratch = malloc(length);
    if (!scratch) return false;
    snprintf(scratch, length, "%s.tmp", path);
    FILE *out = fopen(scratch, "wb");
    bool fine = out && write_lines(out, data, classes, probability, count);
    if (out) fine = fclose(out) == 0 && fine;
    fine = fine && rename(scratch, path) == 0;
    if (!fine) fprintf(stderr, "hone classify: %s: cannot be written\n", path);
    if (!fine && out) remove(scratch);
    free(scratch);
    return fine;
}

static hone_status classify_data(HoneModel *model, const ClassifyOptions *given,
                                 const HoneData *data, bool *written) {
    HoneDataInfo texts;
    hone_data_info(data, &texts);
    tell_texts(data, given->texts.max_length);
    const size_t numbers = (size_t)(texts.examples * given->texts.label_count);
    float *probability = calloc(numbers + 1, sizeof *probability);
    if (!probability) return HONE_ERROR_MEMORY;
    hone_status status = hone_classify(model, data, show_texts_done, NULL, probability);
    clear_texts_done();
    if (status == HONE_OK) {
        *written = given->out
                       ? write_file(given->out, data, &given->texts, probability, texts.examples)
                       : write_lines(stdout, data, &given->texts, probability, texts.examples);
        tell_accuracy(data, &given->texts, probability, texts.examples);
    }
    free(probability);
    return status;
}

// A line in, what it is out.
static hone_status classify_lines(HoneModel *model, const ClassifyOptions *given) {
    const bool ask = stderr_is_terminal();
    float *probability = calloc((size_t)given->texts.label_count, sizeof *probability);
    Line line = {0};
    hone_status status = probability ? HONE_OK : HONE_ERROR_MEMORY;
    for (int number = 1; status == HONE_OK && !was_interrupted(); number++) {
        const ssize_t length = read_line(&line, ask ? "> " : NULL);
        if (length < 0) break;
        if (length == 0 && ask) continue;
        const char *text = line.text;
        HoneData *data = NULL;
        status = hone_data_texts(model, &text, 1, &given->texts, &data);
        if (status == HONE_OK) status = hone_classify(model, data, NULL, NULL, probability);
        if (status == HONE_OK && stdout_is_terminal() && !given->common.json)
            show_classes(&given->texts, probability);
        else if (status == HONE_OK)
            print_classes(stdout, &given->texts, probability, number);
        fflush(stdout);
        hone_data_free(data);
    }
    free(line.text);
    free(probability);
    return status;
}

static hone_status classify_by(HoneModel *model, ClassifyOptions *given, bool *written) {
    HoneModelInfo info;
    HoneData *data = NULL;
    hone_model_info(model, &info);
    if (given->texts.max_length == 0) given->texts.max_length = info.context;
    given->texts.label_count = hone_model_labels(model, &given->texts.labels);
    if (given->texts.label_count == 0) return hone_classify(model, NULL, NULL, NULL, NULL);
    if (!given->data) return classify_lines(model, given);
    hone_status status = hone_data_read(model, given->data, &given->texts, &data);
    if (status == HONE_OK) status = classify_data(model, given, data, written);
    hone_data_free(data);
    return status;
}

static int classify(HoneContext *context, ClassifyOptions *given) {
    HoneModel *model = NULL;
    bool written = true;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK) result = add_adapters(model, &given->adapters);
    if (result == HONE_OK) result = classify_by(model, given, &written);
    int status = result == HONE_OK ? EXIT_DONE : report_failure("classify", context, result);
    if (status == EXIT_DONE && !written) status = EXIT_WORK;
    if (status == EXIT_DONE && was_interrupted()) status = EXIT_INTERRUPTED;
    hone_model_free(model);
    return status;
}

int command_classify(int argc, char **argv) {
    ClassifyOptions given = {.on_bad = "stop"};
    Option options[32] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "the encoder, a Hugging Face folder or a GGUF file"},
        {"adapter", OPTION_LIST, &given.adapters, "A[:WEIGHT]",
         "PEFT folder with a classifier; may be repeated"},
        {"data", OPTION_TEXT, &given.data, "FILE",
         "texts, one a line, or records with \"text\" and perhaps \"text_pair\" (.jsonl, .json, "
         ".csv, .tsv; also .gz, .zst); where they have a \"label\" it is told how many are right; "
         "without it lines of standard input, one after the other"},
        {"out", OPTION_TEXT, &given.out, "FILE", "write JSON lines here (standard output)"},
        {"max-length", OPTION_SIZE, &given.texts.max_length, "N",
         "cut longer texts (the model's context)"},
        {"on-bad-example", OPTION_TEXT, &given.on_bad, "stop|skip", "stop is the default"},
    };
    int count = 6;
    count += common_options(&given.common, options + count);
    Command command = {.name = "classify",
                       .summary = "Classes of texts by an encoder, with their probabilities.",
                       .usage = "hone classify --model M [--adapter A] [--data F] [--out F.jsonl]",
                       .options = options,
                       .option_count = count};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || (given.out && !given.data)) {
        fprintf(stderr, "hone classify: --model is needed%s (usage: %s)\n",
                given.model ? ", and --data where there is an --out" : "", command.usage);
        return EXIT_USAGE;
    }
    if (!parse_on_bad("classify", given.on_bad, &given.texts.skip_bad)) return EXIT_USAGE;
    given.texts.task = HONE_TASK_CLASSIFY;
    given.texts.unlabelled = true;
    HoneContext *context = open_context("classify", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = classify(context, &given);
    hone_context_free(context);
    return status;
}
