// SPDX-License-Identifier: Apache-2.0
// hone embed
#include <stdlib.h>
#include <string.h>

#include "texts.h"

typedef struct EmbedOptions {
    Common common;
    const char *model, *data, *out, *pooling, *normalize, *on_bad;
    TextList adapters;
    int64_t max_length;
    HoneEmbedOptions embed; // as parsed
    HoneDataOptions texts;
} EmbedOptions;

static void print_vector(const float *vector, int64_t channels, int line) {
    printf("{\"line\":%d,\"embedding\":[", line);
    for (int64_t c = 0; c < channels; c++) printf("%s%.9g", c ? "," : "", (double)vector[c]);
    printf("]}\n");
}

static hone_status embed_data(HoneModel *model, const EmbedOptions *given, const HoneData *data) {
    HoneModelInfo info;
    HoneDataInfo texts;
    hone_model_info(model, &info);
    hone_data_info(data, &texts);
    tell_texts(data, given->texts.max_length);
    float *vectors = calloc((size_t)(texts.examples * info.channels) + 1, sizeof *vectors);
    if (!vectors) return HONE_ERROR_MEMORY;
    hone_status status = hone_embed(model, data, &given->embed, show_texts_done, NULL, vectors);
    clear_texts_done();
    if (status == HONE_OK && given->out)
        status = hone_embed_write(model, data, vectors, given->out);
    for (int64_t i = 0; i < texts.examples && status == HONE_OK && !given->out; i++) {
        HoneExample example;
        hone_data_example(data, i, &example);
        print_vector(vectors + i * info.channels, info.channels, example.line);
    }
    free(vectors);
    return status;
}

// A line in, its vector out.
static hone_status embed_lines(HoneModel *model, const EmbedOptions *given) {
    const bool ask = stderr_is_terminal();
    HoneModelInfo info;
    hone_model_info(model, &info);
    float *vector = calloc((size_t)info.channels, sizeof *vector);
    Line line = {0};
    hone_status status = vector ? HONE_OK : HONE_ERROR_MEMORY;
    for (int number = 1; status == HONE_OK && !was_interrupted(); number++) {
        const ssize_t length = read_line(&line, ask ? "> " : NULL);
        if (length < 0) break;
        const char *text = line.text;
        HoneData *data = NULL;
        status = hone_data_texts(model, &text, 1, &given->texts, &data);
        if (status == HONE_OK) status = hone_embed(model, data, &given->embed, NULL, NULL, vector);
        if (status == HONE_OK) print_vector(vector, info.channels, number);
        fflush(stdout);
        hone_data_free(data);
    }
    free(line.text);
    free(vector);
    return status;
}

static int embed(HoneContext *context, EmbedOptions *given) {
    HoneModel *model = NULL;
    HoneData *data = NULL;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK) result = add_adapters(model, &given->adapters);
    if (result == HONE_OK) {
        hone_embed_options(model, &given->embed);
        given->texts.max_length = given->embed.max_length;
        if (given->data) {
            result = hone_data_read(model, given->data, &given->texts, &data);
            if (result == HONE_OK) result = embed_data(model, given, data);
        } else {
            result = embed_lines(model, given);
        }
    }
    int status = result == HONE_OK ? EXIT_DONE : report_failure("embed", context, result);
    if (status == EXIT_DONE && was_interrupted()) status = EXIT_INTERRUPTED;
    hone_data_free(data);
    hone_model_free(model);
    return status;
}

int command_embed(int argc, char **argv) {
    EmbedOptions given = {.pooling = "auto", .normalize = "auto", .on_bad = "stop"};
    Option options[32] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "the encoder, a GGUF file or a Hugging Face folder (sentence-transformers' too)"},
        {"adapter", OPTION_LIST, &given.adapters, "A[:WEIGHT]", "PEFT folder; may be repeated"},
        {"data", OPTION_TEXT, &given.data, "FILE",
         "texts, one a line, or records with \"text\" (.jsonl, .json, .csv, .tsv; also .gz, .zst); "
         "without it lines of standard input, one after the other"},
        {"out", OPTION_TEXT, &given.out, "FILE",
         "write here, NumPy's format if it ends in .npy, else JSON lines (standard output)"},
        {"pooling", OPTION_TEXT, &given.pooling, "auto|mean|cls|max",
         "from the tokens to one vector (auto: as the model's file says, else mean)"},
        {"normalize", OPTION_TEXT, &given.normalize, "auto|on|off",
         "vectors of length 1 (auto: as the model's file says, else off)"},
        {"max-length", OPTION_SIZE, &given.max_length, "N",
         "cut longer texts (the model's file says, else its context)"},
        {"on-bad-example", OPTION_TEXT, &given.on_bad, "stop|skip", "stop is the default"},
    };
    int count = 8;
    count += common_options(&given.common, options + count);
    Command command = {.name = "embed",
                       .summary = "Vectors of texts by an encoder.",
                       .usage = "hone embed --model M [--data F] [--out F.npy]",
                       .options = options,
                       .option_count = count};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || (given.out && !given.data)) {
        fprintf(stderr, "hone embed: --model is needed%s (usage: %s)\n",
                given.model ? ", and --data where there is an --out" : "", command.usage);
        return EXIT_USAGE;
    }
    static const char *const poolings[] = {"auto", "mean", "cls", "max"};
    static const char *const switches[] = {"auto", "on", "off"};
    const int pooling = choose("embed", "pooling", given.pooling, poolings, 4);
    const int normalize = choose("embed", "normalize", given.normalize, switches, 3);
    if (pooling < 0 || normalize < 0 || !parse_on_bad("embed", given.on_bad, &given.texts.skip_bad))
        return EXIT_USAGE;
    given.embed =
        (HoneEmbedOptions){(HonePooling)pooling, (HoneNormalize)normalize, given.max_length};
    given.texts.task = HONE_TASK_EMBED;
    HoneContext *context = open_context("embed", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = embed(context, &given);
    hone_context_free(context);
    return status;
}
