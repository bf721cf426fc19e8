// SPDX-License-Identifier: Apache-2.0
// hone tokenize, hone template
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

// All of standard input. Caller frees; NULL after printing what failed.
static char *read_input(const char *command, size_t *length) {
    size_t capacity = 1 << 16, used = 0;
    char *text = malloc(capacity);
    while (text) {
        used += fread(text + used, 1, capacity - used - 1, stdin);
        if (feof(stdin) || ferror(stdin)) break;
        if (capacity - used > 1) continue;
        char *grown = realloc(text, capacity *= 2);
        if (!grown) free(text);
        text = grown;
    }
    if (!text || ferror(stdin)) {
        fprintf(stderr, "hone %s: cannot read standard input: %s\n", command, strerror(errno));
        free(text);
        return NULL;
    }
    text[used] = '\0';
    *length = used;
    return text;
}

// ---- tokenize ----------------------------------------------------------------------------------

typedef struct TokenizeOptions {
    Common common;
    const char *model;
    bool decode, special;
} TokenizeOptions;

// Token numbers with blanks, commas or brackets between them; a JSON object is read from its list
// on. Returns what cannot be read, NULL when all could.
static const char *read_tokens(const char *text, int32_t *tokens, int64_t *count) {
    *count = 0;
    const char *list = strchr(text, '[');
    if (list && text[strspn(text, " \t\r\n")] == '{') text = list;
    while (*text) {
        if (strchr(" \t\r\n,[]}", *text)) {
            text++;
            continue;
        }
        char *end;
        errno = 0;
        long long value = *text >= '0' && *text <= '9' ? strtoll(text, &end, 10) : -1;
        if (value < 0 || value > INT32_MAX || errno) return text;
        if (*end && !strchr(" \t\r\n,[]}", *end)) return text; // 1.5
        tokens[(*count)++] = (int32_t)value;
        text = end;
    }
    return NULL;
}

static int decode(HoneContext *context, HoneTokenizer *tokenizer, const TokenizeOptions *options,
                  const char *input, size_t length) {
    int32_t *tokens = malloc((length / 2 + 1) * sizeof *tokens);
    int64_t count;
    if (!tokens) {
        fputs("hone tokenize: out of memory\n", stderr);
        return EXIT_WORK;
    }
    const char *wrong = read_tokens(input, tokens, &count);
    if (wrong) {
        size_t shown = strcspn(wrong, " \t\r\n,]");
        fputs("hone tokenize: --decode wants token numbers, found \"", stderr);
        plain_text(stderr, wrong, shown < 20 ? shown : 20);
        fputs("\"\n", stderr);
        free(tokens);
        return EXIT_USAGE;
    }
    char *text;
    size_t bytes;
    hone_status result =
        hone_tokenizer_decode(tokenizer, tokens, count, options->special, &text, &bytes);
    free(tokens);
    if (result != HONE_OK) return report_failure("tokenize", context, result);
    if (options->common.json) {
        printf("{\"text\":");
        print_json_string(stdout, text, bytes);
        printf("}\n");
    } else {
        fwrite(text, 1, bytes, stdout);
    }
    hone_free(text);
    return EXIT_DONE;
}

static int encode(HoneContext *context, HoneTokenizer *tokenizer, const TokenizeOptions *options,
                  const char *input, size_t length) {
    int32_t *tokens;
    int64_t count;
    hone_status result =
        hone_tokenizer_encode(tokenizer, input, length, options->special, &tokens, &count);
    if (result != HONE_OK) return report_failure("tokenize", context, result);
    fputs(options->common.json ? "{\"tokens\":[" : "", stdout);
    for (int64_t i = 0; i < count; i++)
        printf("%s%d", i == 0 ? "" : options->common.json ? "," : " ", tokens[i]);
    fputs(options->common.json ? "]}\n" : "\n", stdout);
    hone_free(tokens);
    return EXIT_DONE;
}

int command_tokenize(int argc, char **argv) {
    TokenizeOptions given = {0};
    Option options[16] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "whose tokeniser is used: GGUF, or a tokenizer.json or its folder"},
        {"decode", OPTION_FLAG, &given.decode, NULL, "standard input holds token numbers"},
        {"special", OPTION_FLAG, &given.special, NULL,
         "spelled-out control tokens are those tokens"},
    };
    Command command = {.name = "tokenize",
                       .summary = "Tokens of standard input, read whole; no BOS or EOS is added.",
                       .usage = "hone tokenize --model M [--decode] [--special] [--json] < TEXT",
                       .options = options,
                       .option_count = 3 + common_options(&given.common, options + 3)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model) {
        fprintf(stderr, "hone tokenize: --model is needed (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("tokenize", &given.common, &status);
    if (!context) return status;
    HoneTokenizer *tokenizer = NULL;
    hone_status result = hone_tokenizer_open(context, given.model, &tokenizer);
    size_t length = 0;
    char *input = result == HONE_OK ? read_input("tokenize", &length) : NULL;
    if (result != HONE_OK)
        status = report_failure("tokenize", context, result);
    else if (!input)
        status = EXIT_WORK;
    else
        status = given.decode ? decode(context, tokenizer, &given, input, length)
                              : encode(context, tokenizer, &given, input, length);
    free(input);
    hone_tokenizer_close(tokenizer);
    hone_context_free(context);
    return status;
}

// ---- template ----------------------------------------------------------------------------------

typedef struct TemplateOptions {
    Common common;
    const char *model, *data, *template_path, *loss_on, *on_bad, *date;
    int64_t max_length, stride, limit;
    bool no_eos;
} TemplateOptions;

static void print_json(const HoneExample *example) {
    printf("{\"text\":");
    print_json_text(stdout, example->text);
    printf(",\"tokens\":[");
    for (int64_t i = 0; i < example->count; i++) printf("%s%d", i ? "," : "", example->tokens[i]);
    printf("],\"mask\":[");
    for (int64_t i = 0; i < example->count; i++) printf("%s%d", i ? "," : "", example->mask[i]);
    printf("],\"line\":%d,\"cut\":%s}\n", example->line, example->cut ? "true" : "false");
}

// Token by token; what is learnt is green, or in ‹ › where there is no colour.
static void print_words(HoneModel *model, const HoneExample *example) {
    bool colour = use_colour(stdout), inside = false;
    printf("line %d: %lld tokens, %lld in the loss%s\n", example->line, (long long)example->count,
           (long long)example->targets, example->cut ? ", cut" : "");
    for (int64_t i = 0; i < example->count; i++) {
        char *piece;
        size_t length;
        if (hone_model_detokenize(model, example->tokens + i, 1, true, &piece, &length) != HONE_OK)
            continue;
        if (example->mask[i] && !inside) fputs(colour ? "\033[32m" : "‹", stdout);
        if (!example->mask[i] && inside) fputs(colour ? "\033[0m" : "›", stdout);
        inside = example->mask[i];
        for (size_t j = 0; j < length; j++) {
            unsigned char c = (unsigned char)piece[j];
            fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? ' ' : c, stdout);
        }
        hone_free(piece);
    }
    if (inside) fputs(colour ? "\033[0m" : "›", stdout);
    printf("\n\n");
}

static int show_examples(HoneContext *context, const TemplateOptions *given,
                         const HoneDataOptions *options) {
    HoneModel *model = NULL;
    HoneData *data = NULL;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK && given->template_path)
        result = hone_model_set_template(model, given->template_path);
    if (result == HONE_OK) result = hone_data_read(model, given->data, options, &data);
    int status = EXIT_DONE;
    if (result == HONE_OK) {
        HoneDataInfo info;
        hone_data_info(data, &info);
        int64_t count =
            given->limit > 0 && given->limit < info.examples ? given->limit : info.examples;
        for (int64_t i = 0; i < count; i++) {
            HoneExample example;
            hone_data_example(data, i, &example);
            if (given->common.json)
                print_json(&example);
            else
                print_words(model, &example);
        }
        if (info.skipped)
            fprintf(stderr, "%lld example%s skipped, the first: %s\n", (long long)info.skipped,
                    plural(info.skipped), info.first_skipped);
    } else {
        status = report_failure("template", context, result);
    }
    hone_data_free(data);
    hone_model_free(model);
    return status;
}

int command_template(int argc, char **argv) {
    TemplateOptions given = {.loss_on = "auto", .on_bad = "stop"};
    Option options[16] = {
        {"model", OPTION_TEXT, &given.model, "FILE", "whose tokeniser and template are used"},
        {"data", OPTION_TEXT, &given.data, "FILE",
         "examples (.jsonl, .json, .csv, .tsv, .txt; also .gz, .zst)"},
        {"template", OPTION_TEXT, &given.template_path, "FILE", "another chat template"},
        {"loss-on", OPTION_TEXT, &given.loss_on, "auto|assistant|completion|all",
         "which tokens count (auto: the assistant's or the completion's where the data has them)"},
        {"on-bad-example", OPTION_TEXT, &given.on_bad, "stop|skip", "stop is the default"},
        {"max-length", OPTION_SIZE, &given.max_length, "N", "cut longer examples"},
        {"stride", OPTION_COUNT, &given.stride, "N",
         "tokens from window to window of a .txt file (no overlap)"},
        {"limit", OPTION_COUNT, &given.limit, "N", "show the first N only"},
        {"date", OPTION_TEXT, &given.date, "DAY",
         "that a chat template tells, as 2026-11-24 (today)"},
        {"no-eos", OPTION_FLAG, &given.no_eos, NULL,
         "do not end texts with EOS; take answers that nothing ends"},
    };
    Command command = {.name = "template",
                       .summary = "Each example as the model will see it, with the loss mask.",
                       .usage = "hone template --model M --data D [--template F] [--json]",
                       .options = options,
                       .option_count = 10 + common_options(&given.common, options + 10)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model || !given.data) {
        fprintf(stderr, "hone template: --model and --data are needed (usage: %s)\n",
                command.usage);
        return EXIT_USAGE;
    }
    HoneDataOptions data = {
        .max_length = given.max_length, .stride = given.stride, .no_eos = given.no_eos};
    if (!parse_loss_on("template", given.loss_on, &data.loss_on) ||
        !parse_on_bad("template", given.on_bad, &data.skip_bad) ||
        !parse_date("template", given.date, &data.now))
        return EXIT_USAGE;
    HoneContext *context = open_context("template", &given.common, &status);
    if (!context) return status;
    status = show_examples(context, &given, &data);
    hone_context_free(context);
    return status;
}
