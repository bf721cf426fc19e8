// SPDX-License-Identifier: Apache-2.0
// hone translate: a file of sources, or what is typed, line by line.
#include <stdlib.h>
#include <string.h>

#include "texts.h"

enum { WINDOW = 512 }; // sources that are searched before the first of them is printed

typedef struct Translate {
    Common common;
    const char *model, *data, *penalty;
    HoneTranslateOptions options;
    const char *const *sources; // of the window
    bool cut;                   // of any source
} Translate;

// A text on one line.
static void print_line(const char *text) {
    for (const char *c = text; *c; c++) putchar(*c == '\n' || *c == '\r' ? ' ' : *c);
    putchar('\n');
}

static void print_candidate(const HoneTranslation *translation) {
    printf("\"target\":");
    print_json_text(stdout, translation->text);
    printf(",\"score\":%.9g,\"logprob\":%.9g,\"ended\":%s,\"tokens\":[", translation->score,
           translation->logprob, translation->ended ? "true" : "false");
    for (int64_t i = 0; i < translation->count; i++)
        printf("%s%d", i ? "," : "", translation->tokens[i]);
    printf("]");
}

static void print_alignment(const HoneTranslated *translated) {
    const int64_t rows = translated->alignment_rows, columns = translated->source_tokens;
    printf(",\"source_ids\":[");
    for (int64_t s = 0; s < columns; s++) printf("%s%d", s ? "," : "", translated->source_ids[s]);
    printf("],\"alignment\":[");
    for (int64_t t = 0; t < rows; t++) {
        printf("%s[", t ? "," : "");
        for (int64_t s = 0; s < columns; s++)
            printf("%s%.4g", s ? "," : "", (double)translated->alignment[t * columns + s]);
        printf("]");
    }
    printf("]");
}

static void print_json(const Translate *given, const HoneTranslated *translated) {
    printf("{\"source\":");
    print_json_text(stdout, given->sources[translated->index]);
    printf(",\"source_tokens\":%lld,\"cut\":%s,", (long long)translated->source_tokens,
           translated->cut ? "true" : "false");
    print_candidate(&translated->candidates[0]);
    if (given->options.candidates > 1) {
        printf(",\"candidates\":[");
        for (int64_t i = 0; i < translated->count; i++) {
            printf("%s{", i ? "," : "");
            print_candidate(&translated->candidates[i]);
            printf("}");
        }
        printf("]");
    }
    if (translated->alignment) print_alignment(translated);
    printf("}\n");
}

static bool print_translated(void *user, const HoneTranslated *translated) {
    Translate *given = user;
    given->cut = given->cut || translated->cut;
    if (given->common.json) {
        print_json(given, translated);
    } else if (given->options.candidates == 1) {
        print_line(translated->candidates[0].text);
    } else {
        for (int64_t i = 0; i < translated->count; i++) {
            printf("%.4f\t", translated->candidates[i].score);
            print_line(translated->candidates[i].text);
        }
    }
    fflush(stdout);
    return !was_interrupted();
}

static hone_status translate_file(HoneContext *context, HoneModel *model, Translate *given) {
    HoneSources *sources = NULL;
    hone_status status = hone_sources_read(context, given->data, &sources);
    const int64_t count = status == HONE_OK ? hone_sources_count(sources) : 0;
    for (int64_t first = 0; first < count && status == HONE_OK; first += WINDOW) {
        const int64_t left = count - first;
        given->sources = hone_sources_texts(sources) + first;
        status = hone_translate(model, given->sources, left < WINDOW ? left : WINDOW,
                                &given->options, print_translated, given);
    }
    hone_sources_free(sources);
    return status;
}

// Each line is answered before the next one is read; an empty one by an empty one.
static hone_status translate_lines(HoneModel *model, Translate *given) {
    const bool ask = stderr_is_terminal();
    hone_status status = HONE_OK;
    Line line = {0};
    while (status == HONE_OK && !was_interrupted()) {
        const ssize_t length = read_line(&line, ask ? "> " : NULL);
        if (length < 0) break;
        if (length == 0) {
            if (!ask && !given->common.json) putchar('\n');
            continue;
        }
        const char *const sources[] = {line.text};
        given->sources = sources;
        status = hone_translate(model, sources, 1, &given->options, print_translated, given);
    }
    free(line.text);
    return status;
}

static int translate(HoneContext *context, Translate *given) {
    HoneModel *model = NULL;
    hone_status result = hone_model_load(context, given->model, &model);
    if (result == HONE_OK)
        result =
            given->data ? translate_file(context, model, given) : translate_lines(model, given);
    int status = result == HONE_OK ? EXIT_DONE : report_failure("translate", context, result);
    if (given->cut)
        fprintf(stderr, "hone translate: sources longer than the model's context were cut\n");
    if (status == EXIT_DONE && was_interrupted()) status = EXIT_INTERRUPTED;
    hone_model_free(model);
    return status;
}

int command_translate(int argc, char **argv) {
    Translate given = {.penalty = "length"};
    HoneTranslateOptions *search = &given.options;
    hone_translate_defaults(search);
    Option options[32] = {
        {"model", OPTION_TEXT, &given.model, "FILE",
         "an encoder-decoder, as a GGUF file or folder"},
        {"data", OPTION_TEXT, &given.data, "FILE",
         "sources: records with a source (.jsonl, .tsv, …) or lines of a .txt file; without it "
         "what "
         "stands on standard input, line by line"},
        {"beams", OPTION_COUNT, &search->beams, "N", "hypotheses of a source (4); 1: greedy"},
        {"length-penalty", OPTION_REAL, &search->length_penalty, "A",
         "a hypothesis scores log p / length^A (1; 0: none)"},
        {"penalty", OPTION_TEXT, &given.penalty, "length|gnmt",
         "gnmt: log p / ((5+length)/6)^A instead"},
        {"early", OPTION_FLAG, &search->early, NULL,
         "stop once N hypotheses have ended, though others could become better"},
        {"candidates", OPTION_COUNT, &search->candidates, "N",
         "print the best N of a source, with their scores (1)"},
        {"max-tokens", OPTION_COUNT, &search->max_tokens, "N", "of a target (256)"},
        {"alignment", OPTION_FLAG, &search->alignment, NULL,
         "with --json: how much each token of the best attends to each of the source"},
        {"batch", OPTION_COUNT, &search->batch, "N", "sources of a file at a time (16)"},
    };
    const int own = 10;
    Command command = {.name = "translate",
                       .summary = "What an encoder-decoder makes of texts, by beam search.",
                       .usage = "hone translate --model M [--data F] [options]",
                       .options = options,
                       .option_count = own + common_options(&given.common, options + own)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    static const char *const penalties[] = {"length", "gnmt"};
    const int penalty = choose("translate", "penalty", given.penalty, penalties, 2);
    if (penalty < 0) return EXIT_USAGE;
    search->gnmt = penalty == 1;
    if (search->alignment && !given.common.json) {
        fprintf(stderr, "hone translate: --alignment is printed with --json alone\n");
        return EXIT_USAGE;
    }
    if (!given.model) {
        fprintf(stderr, "hone translate: --model is needed (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    HoneContext *context = open_context("translate", &given.common, &status);
    if (!context) return status;
    watch_signals();
    status = translate(context, &given);
    hone_context_free(context);
    return status;
}
